"""`SentimentAnalyzer`: tone of a passage, judged by a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from analysis_kit.analyzers.llm import LLMAnalyzer
from analysis_kit.ollama.questions import SENTIMENT
from analysis_kit.results import Examined

#: The side on which a label lies.
SIGN = {"positive": 1, "negative": -1}


class SentimentAnalyzer(LLMAnalyzer):
    """Tone by a language model: ``label`` positive, neutral or negative, ``score`` in [-1, 1], a confidence.

    The same question as ``OllamaClient.analyze_sentiment`` asks. A model of a few hundred million parameters is no judge of tone;
    for tone without a server see `LexiconSentimentAnalyzer`.

    Parameters
    ----------
    model : str, optional
        Default: ``OLLAMA_MODEL``, else the server's only completion model.
    options : mapping, optional
        Ollama options over the kit's own.

    Examples
    --------
    >>> SentimentAnalyzer(model="llama3.2")
    <SentimentAnalyzer 'sentiment' version 1>
    """

    def __init__(self, *, model: str | None = None, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(
            SENTIMENT.name,
            SENTIMENT.prompt,
            SENTIMENT.schema,
            model=model,
            options=options,
            num_predict=SENTIMENT.num_predict,
            version=SENTIMENT.version,
        )

    def inquire(self, text: str, sample: int) -> Examined:
        """Ask the model once; an answer whose label and score point in opposite directions is flagged."""
        examined = super().inquire(text, sample)
        finding = examined.finding
        if (finding.score or 0.0) * SIGN.get(finding.label or "", 0) < 0:
            flags = (*finding.flags, "label and score disagree")
            return replace(examined, finding=replace(finding, flags=flags))
        return examined

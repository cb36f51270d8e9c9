"""`LLMAnalyzer`: a prompt and an answer schema become an analyzer."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel

from analysis_kit.analyzers.base import BaseAnalyzer, as_finding
from analysis_kit.analyzers.identity import code_of, state_of
from analysis_kit.cache import cache_key
from analysis_kit.errors import OllamaUnreachableError
from analysis_kit.ollama.arguments import options_of
from analysis_kit.ollama.embedded import is_demo_model
from analysis_kit.ollama.questions import Question
from analysis_kit.results import Examined, TimeSplit

#: English prose has four to five characters a token; three is on the safe side, so that a prompt is not clipped.
CHARACTERS_PER_TOKEN = 3
#: num_ctx is taken in these steps, so that a change of a few words does not make the server reload the model.
CONTEXT_STEP = 1024


def context_tokens(prompt_characters: int, num_predict: int) -> int:
    """Return a ``num_ctx`` (tokens) that holds a prompt of so many characters and its answer.

    Parameters
    ----------
    prompt_characters : int
        Length of the whole prompt, instructions included.
    num_predict : int
        The most tokens the answer may take.

    Examples
    --------
    >>> context_tokens(3000, 64)
    2048
    """
    needed = math.ceil(prompt_characters / CHARACTERS_PER_TOKEN) + num_predict
    return max(2, math.ceil(needed / CONTEXT_STEP)) * CONTEXT_STEP


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model answers: its name and digest, and whether the server said so just now."""

    name: str
    digest: str
    seen_now: bool = True


class LLMAnalyzer(BaseAnalyzer):
    r"""Ask a model one question about each text, and get an answer in the form of a schema.

    Parameters
    ----------
    name : str
        Names the analyzer in tables, caches and timings.
    prompt : str
        Instructions with ``{text}`` where the text goes.
    schema : type[pydantic.BaseModel]
        The form of the answer. A field ``score`` in [-1, 1] and a field ``label`` become the finding's own; the rest
        are its values.
    model : str, optional
        Default: ``OLLAMA_MODEL``, else the server's only completion model.
    options : mapping, optional
        Ollama options (``temperature``, ``seed``, ``num_ctx`` ...) over the kit's: temperature 0, a fixed seed.
    num_predict : int, default 256
        The most tokens an answer may take.
    version : str, default "1"
        Raise it when the meaning of an answer changes and the prompt does not.

    Examples
    --------
    >>> from pydantic import BaseModel
    >>> class Guidance(BaseModel):
    ...     label: str
    ...     reason: str
    >>> guidance = LLMAnalyzer("guidance", "Was guidance raised, cut, kept or not given?\n{text}", Guidance)
    >>> guidance
    <LLMAnalyzer 'guidance' version 1>
    """

    kind: ClassVar[Literal["custom", "rules", "llm"]] = "llm"

    def __init__(
        self,
        name: str,
        prompt: str,
        schema: type[BaseModel],
        *,
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
        num_predict: int = 256,
        version: str = "1",
    ) -> None:
        super().__init__()
        self.question = Question(
            name=name, prompt=prompt, schema=schema, version=version, num_predict=num_predict
        )
        self.name = name
        self.version = version
        self.model = model
        self.options = options_of(options)
        self._identity: Identity | None = None
        self._num_ctx: int | None = None

    def for_model(self, model: str | None, *, options: Mapping[str, Any], num_ctx: int) -> Self:
        """Return a copy that asks ``model`` (None: as before), with ``options`` and ``num_ctx`` where it has none of its own."""
        twin = copy.copy(self)
        twin.model = model if model is not None else self.model
        twin.options = {**options, **self.options}
        twin._identity, twin._num_ctx = None, num_ctx  # noqa: SLF001 - the twin is one of us
        return twin

    def context_for(self, text: str) -> int:
        """Return a ``num_ctx`` in tokens that holds the prompt with ``text`` and the answer."""
        return context_tokens(len(self.question.render(text)), self.question.num_predict)

    def options_for(self, text: str) -> dict[str, Any]:
        """Return the request's options: as given, with a ``num_ctx`` that holds ``text`` where none is set.

        The size chosen here is no part of the cache key: it is always enough, so it does not change the answer.
        """
        return {"num_ctx": self._num_ctx or self.context_for(text), **self.options}

    def identity(self) -> Identity:
        """Return which model answers, by name and digest; asked of the server once.

        With the server down it is the model that was seen last, so that what was answered before can still be had.
        """
        if self._identity is None:
            key = cache_key(last_seen_model=self.model or "", hosts=list(self.pool.hosts))
            try:
                with self.pool.get_connection(model=self.model) as client:
                    name = self.model or client.default_model()
                    self._identity = Identity(name, client.digest(name))
                self.cache.set_key(key, "model identity", [self._identity.name, self._identity.digest])
                self.cache.note_model(self.model or "", self._identity.digest)
            except OllamaUnreachableError:
                last = self.cache.get_key(key)
                if last is None:
                    raise
                name, digest = last
                self._identity = Identity(name, digest, seen_now=False)
        return self._identity

    def cache_parts(self) -> dict[str, Any] | None:
        """Return what tells answers apart: question, schema and its own validators, model digest, options, a subclass's code."""
        identity = self.identity()
        code, of_the_kit = code_of(type(self)), type(self).__module__.startswith(__package__)
        checks = code_of(self.question.schema)
        return {
            "analyzer": self.name,
            "version": self.version,
            "prompt": self.question.prompt,
            "schema": self.question.schema.model_json_schema(),
            "num_predict": self.question.num_predict,
            "options": self.options,
            "model": identity.digest or identity.name,
            **({} if of_the_kit else {"code": code, "given": self._given, "state": state_of(self)}),
            **({"checks": checks} if checks else {}),
        }

    def ask(self, text: str) -> Any:
        """Return the finding of one exchange with the model."""
        return self.inquire(text, 0).finding

    def inquire(self, text: str, sample: int) -> Examined:
        """Ask the model once, and split the time by its own counters."""
        options = self.options_for(text)
        if sample:
            # a repeat is to vary, so it takes another seed; the first is the one without repeats
            options = {**options, "seed": int(options.get("seed", 0)) + sample}
        lease = self.pool.get_connection(model=self.model)
        with lease as client:
            moves = client.calls.moves
            answer = client.ask(self.question, text, model=self.model, options=options)
            moves = client.calls.moves - moves
        reply = answer.reply
        flags = [*answer.flags, *(["demo model"] if is_demo_model(reply.model) else [])]
        finding = as_finding(answer.value, analyzer=self.name)
        values = dict(finding.values)
        if answer.probabilities:
            values["probabilities"] = answer.probabilities
        return Examined(
            replace(finding, values=values, method=reply.model, flags=tuple(flags)),
            split=TimeSplit(
                wait_s=lease.wait_s,
                queue_s=reply.queue_s,
                load_s=reply.load_s,
                prompt_s=reply.prompt_s,
                generate_s=reply.generate_s,
                other_s=max(0.0, reply.elapsed_s - reply.total_s),
            ),
            attempts=1 + moves,
            host=reply.host,
            model=reply.model,
            digest=self.identity().digest,
            prompt_tokens=reply.prompt_tokens,
            generated_tokens=reply.generated_tokens,
            exchange=answer.exchange,
        )

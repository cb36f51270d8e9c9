"""`ComplexityAnalyzer`: how hard a text is to read, by the field's formulas."""

from __future__ import annotations

import re

from analysis_kit.analyzers.base import BaseAnalyzer
from analysis_kit.analyzers.text import cut
from analysis_kit.results import Finding

#: Words the syllable rule gets wrong and that calls are full of.
SYLLABLES = {
    "business": 2, "every": 2, "revenue": 3, "area": 3, "areas": 3, "being": 2, "idea": 3, "real": 1, "create": 2,
    "created": 3, "science": 2, "quiet": 2, "used": 1, "people": 2, "interest": 2, "evening": 2, "different": 2,
    "company": 3, "people's": 2, "sometimes": 2, "someone": 2, "therefore": 2, "whole": 1,
}  # fmt: skip

_VOWELS = re.compile(r"[aeiouy]+")
_SILENT_ED = re.compile(r"[^aeiouytd]ed$")
_SILENT_ES = re.compile(r"[^aeiouyscxz](?<!sh)(?<!ch)(?<!g)es$")


def syllables(word: str) -> int:
    """Return the syllables of an English word: groups of vowels, less silent endings; at least 1.

    Examples
    --------
    >>> [syllables(word) for word in ("grew", "margin", "raised", "guidance", "revenue")]
    [1, 2, 1, 2, 3]
    """
    word = word.lower().strip("'\u2019-")
    if word in SYLLABLES:
        return SYLLABLES[word]
    if "-" in word:
        return sum(syllables(part) for part in word.split("-") if part)
    count = len(_VOWELS.findall(word))
    if (
        _SILENT_ED.search(word)
        or _SILENT_ES.search(word)
        or (word.endswith("e") and not re.search(r"[^aeiou]le$|ee$|ie$", word))
    ):
        count -= 1
    return max(1, count)


class ComplexityAnalyzer(BaseAnalyzer):
    """Readability: Flesch reading ease, Flesch-Kincaid grade, Gunning fog.

    ``flesch`` = 206.835 - 1.015 (words / sentences) - 84.6 (syllables / words), higher is easier (Flesch 1948);
    ``grade`` = 0.39 (words / sentences) + 11.8 (syllables / words) - 15.59, in school years (Kincaid et al. 1975);
    ``fog`` = 0.4 ((words / sentences) + 100 (long words / words)), in school years, long words having three syllables or
    more, endings -es, -ed and -ing not counted (Gunning 1952). There is no score and no label.

    Examples
    --------
    >>> ComplexityAnalyzer().analyze("We grew. We won.").values["words_per_sentence"]
    2.0
    """

    name = "complexity"
    kind = "rules"

    def ask(self, text: str) -> Finding:
        """Return the readability of ``text``; a text without words has none."""
        parts = cut(text)
        words = [word.text for word in parts.words]
        if not words:
            return Finding(
                values={"words": 0, "sentences": len(parts.sentences)}, method="rules", flags=("no words",)
            )
        counts = [syllables(word) for word in words]
        sentences = max(1, len(parts.sentences))
        length, weight = len(words) / sentences, sum(counts) / len(words)
        long_words = sum(
            count - word.endswith(("es", "ed", "ing")) >= 3  # noqa: PLR2004 - Gunning's own number
            for word, count in zip(words, counts, strict=True)
        )
        values = {
            "flesch": round(206.835 - 1.015 * length - 84.6 * weight, 2),
            "grade": round(0.39 * length + 11.8 * weight - 15.59, 2),
            "fog": round(0.4 * (length + 100 * long_words / len(words)), 2),
            "words_per_sentence": round(length, 2),
            "syllables_per_word": round(weight, 3),
            "words": len(words),
            "sentences": len(parts.sentences),
        }
        return Finding(values=values, method="rules")

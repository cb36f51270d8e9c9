"""`DeceptionAnalyzer`: markers of evasion as rates. Markers, not a lie detector."""

from __future__ import annotations

import re

from analysis_kit.analyzers.base import BaseAnalyzer
from analysis_kit.analyzers.text import cut
from analysis_kit.results import Finding, Span

#: Kind of marker -> its words and phrases. Larcker and Zakolyukina (2012) found general references, extreme positive
#: emotion and few self-references more often in calls that were restated later; the rest are usual signs of evasion.
MARKERS: dict[str, tuple[str, ...]] = {
    "hedges": (
        "sort of", "kind of", "more or less", "somewhat", "roughly", "approximately", "perhaps", "maybe", "possibly",
        "in a sense", "to some extent", "relatively", "fairly",
    ),
    "uncertainty": (
        "may", "might", "could", "would", "uncertain", "uncertainty", "depends", "depending", "hard to say", "too early",
        "difficult to predict", "we'll see", "remains to be seen", "visibility is limited",
    ),
    "hesitations": ("um", "uh", "er", "you know", "i mean", "well"),
    "general_references": (
        "everybody", "everyone", "anybody", "anyone", "people", "others", "the industry", "the market", "the team",
        "they know", "you all know", "as everybody knows", "as you know", "folks",
    ),
    "extreme_positive": (
        "fantastic", "tremendous", "tremendously", "incredible", "incredibly", "amazing", "phenomenal", "spectacular",
        "terrific", "extraordinary", "superb", "awesome", "unbelievable", "thrilled",
    ),
    "non_answers": (
        "we don't break that out", "don't break out", "not going to comment", "won't comment", "can't comment", "no comment",
        "not going to get into", "not in a position to", "not going to speculate", "as i said", "as we said",
        "let me come back to", "take that offline", "we don't disclose", "not prepared to", "not going to give",
        "i would rather not", "i'd rather not", "we don't guide",
    ),
}  # fmt: skip

SELF_REFERENCES = frozenset({"i", "me", "my", "mine", "myself", "i'm", "i've", "i'd", "i'll"})
#: How many places are kept as evidence.
MOST_EVIDENCE = 12


def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    forms = sorted(
        (re.escape(phrase).replace(r"\ ", r"\s").replace("'", "['\u2019]") for phrase in phrases),
        key=len,
        reverse=True,
    )
    return re.compile(r"\b(?:" + "|".join(forms) + r")\b", re.IGNORECASE)


_PATTERNS = {kind: _pattern(phrases) for kind, phrases in MARKERS.items()}


class DeceptionAnalyzer(BaseAnalyzer):
    """Rates of words that evasive speech is rich in, per 100 words, after Larcker and Zakolyukina (2012).

    These are markers, not a lie detector: honest speech has them too, and their accuracy on single passages has not been
    measured here. So there is no score and no label. ``values`` has ``<kind>_per_100_words`` for each kind of `MARKERS`,
    their sum ``markers_per_100_words``, ``self_references_per_100_words`` (few of them are the marker, so they are not
    in the sum) and ``counts``.

    Examples
    --------
    >>> DeceptionAnalyzer().analyze("We don't break that out.").values["counts"]["non_answers"]
    1
    """

    name = "deception"
    kind = "rules"

    def ask(self, text: str) -> Finding:
        """Return the markers in ``text``."""
        words = cut(text).words
        total = max(1, len(words))
        counts: dict[str, int] = {}
        spans: list[Span] = []
        for kind, pattern in _PATTERNS.items():
            places = [match.span() for match in pattern.finditer(text)]
            counts[kind] = len(places)
            spans += [Span(start, end, text[start:end], kind.replace("_", " ")) for start, end in places]
        own = sum(word.text.replace("\u2019", "'") in SELF_REFERENCES for word in words)
        values: dict[str, object] = {
            f"{kind}_per_100_words": round(100 * count / total, 3) for kind, count in counts.items()
        }
        values["markers_per_100_words"] = round(100 * sum(counts.values()) / total, 3)
        values["self_references_per_100_words"] = round(100 * own / total, 3)
        values["counts"] = {**counts, "self_references": own}
        telling = sorted(spans, key=lambda span: (span.note != "non answers", span.start))[:MOST_EVIDENCE]
        return Finding(
            values=values, evidence=tuple(sorted(telling, key=lambda span: span.start)), method="rules"
        )

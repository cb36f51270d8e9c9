"""`LexiconSentimentAnalyzer`: tone by rules, without a model: direction x metric, negation, from-to amounts, clear words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from analysis_kit.analyzers import lexicon_tables as tables
from analysis_kit.analyzers.base import BaseAnalyzer
from analysis_kit.analyzers.text import cut
from analysis_kit.results import Finding, Span

#: A sentence beyond it counts as good or bad news.
SENTENCE_CLEAR = 0.2
#: A text beyond it is called positive or negative.
TEXT_CLEAR = 0.12
#: What a direction near a metric, and a from-to amount, weigh; a clear word weighs 1.
RULE_WEIGHT = 2.0
#: Added to the weights, so that one faint hint does not make a sentence as certain as three.
DOUBT = 0.5
#: How many sentences are kept as evidence.
MOST_EVIDENCE = 6


def _words(table: Iterable[str]) -> re.Pattern[str]:
    forms = sorted((re.escape(word).replace(r"\*", r"\w*") for word in table), key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(forms) + r")\b")


_UP, _DOWN, _GOOD, _BAD = map(_words, (tables.UP, tables.DOWN, tables.GOOD, tables.BAD))
_NEGATION = _words(tables.NEGATIONS)
_CLAUSE = re.compile(r"[;:]|,?\s(?:" + "|".join(tables.CONTRASTS) + r")\s|,\s(?:and|as)\s")
_PLAIN = re.compile(r"[a-z]+(?:-[a-z]+)?")
_PLEASANTRY = _words(tables.PLEASANTRIES)
_POSITIVE, _NEGATIVE = frozenset(tables.POSITIVE), frozenset(tables.NEGATIVE)
_AMOUNT = r"(?:eur|usd|us\$|[$€£])?\s?(-?\d[\d,]*(?:\.\d+)?)\s?(?:mn|bn|m|b|million|billion|%|percent)?"
_TO_FROM = re.compile(
    r"\b(?:to|of|at|was|totall?ed|were|came to|amounted to)\s(?:an?\s)?(?:\w+\s){0,2}?"
    + _AMOUNT
    + r"\b.{0,40}?\b(?:from|compared (?:to|with)|against|versus|vs\.?)\s(?:an?\s)?(?:\w+\s){0,3}?"
    + _AMOUNT
)
_FROM_TO = re.compile(r"\bfrom\s" + _AMOUNT + r"\b.{0,30}?\bto\s" + _AMOUNT)


@dataclass(frozen=True, slots=True)
class Hit:
    """One rule that fired: its weight with sign, and why, in words."""

    weight: float
    why: str


def score_sentence(text: str) -> float:
    """Return the tone of one sentence in [-1, 1]; 0 where no rule fires.

    Examples
    --------
    >>> score_sentence("Our net loss narrowed to $2 million.") > 0
    True
    >>> score_sentence("Revenue did not grow.") < 0
    True
    """
    return _score(hits(text))


def _score(found: list[Hit]) -> float:
    size = sum(abs(hit.weight) for hit in found)
    return sum(hit.weight for hit in found) / (size + DOUBT) if size else 0.0


def hits(text: str) -> list[Hit]:
    """Return every rule that fires in one sentence."""
    lowered = _PLEASANTRY.sub(" ", re.sub(r"\s+", " ", text.lower().replace("\u2019", "'")))
    found: list[Hit] = []
    for clause in _CLAUSE.split(lowered):
        metrics = [(match.start(), 1, match.group()) for match in _GOOD.finditer(clause)]
        metrics += [(match.start(), -1, match.group()) for match in _BAD.finditer(clause)]
        if metrics:
            found += _directions(clause, metrics)
            found += _amounts(clause, metrics)
        for match in _PLAIN.finditer(clause):
            word = match.group()
            sign = 1 if word in _POSITIVE else -1 if word in _NEGATIVE else 0
            if sign:
                turned = _negated(clause, match.start())
                found.append(Hit(float(-sign if turned else sign), f"{'not ' if turned else ''}{word}"))
    return found


def _directions(clause: str, metrics: list[tuple[int, int, str]]) -> Iterable[Hit]:
    for sign, pattern in ((1, _UP), (-1, _DOWN)):
        for match in pattern.finditer(clause):
            _, good, metric = min(metrics, key=lambda each: abs(each[0] - match.start()))
            if metric == match.group():
                continue
            turned = _negated(clause, match.start())
            weight = sign * good * (-1 if turned else 1) * RULE_WEIGHT
            yield Hit(weight, f"{metric} {'not ' if turned else ''}{match.group()}")


def _negated(clause: str, at: int) -> bool:
    return _NEGATION.search(clause, max(0, at - tables.NEGATION_REACH), at) is not None


def _amounts(clause: str, metrics: list[tuple[int, int, str]]) -> Iterable[Hit]:
    match = _TO_FROM.search(clause)
    backwards = match is None
    if match is None:
        match = _FROM_TO.search(clause)
    if match is None:
        return
    now, before = (float(group.replace(",", "")) for group in match.groups())
    if backwards:
        now, before = before, now
    if now != before:
        _, good, metric = min(metrics, key=lambda each: abs(each[0] - match.start()))
        yield Hit((1 if now > before else -1) * good * RULE_WEIGHT, f"{metric} {before:g} to {now:g}")


class LexiconSentimentAnalyzer(BaseAnalyzer):
    """Tone by rules: no server, no download, a fraction of a millisecond a sentence.

    A direction word (rose, fell ...) counts with the metric nearest to it, so that rising costs are bad and a loss that
    narrows is good; a negation shortly before turns it; an amount that moves from one value to another counts like a
    direction; a short list of clear words counts by itself. A sentence's score is the sum of its weights over their size
    plus one half; the text's is the mean over its sentences.

    The finding has ``score`` in [-1, 1], ``label`` (positive beyond 0.12, negative below -0.12, else neutral), the
    counts of sentences, and the sentences that weigh most as evidence: a note begins with ``+`` or ``-``.

    Examples
    --------
    >>> LexiconSentimentAnalyzer().analyze("Revenue grew 12% and margins expanded.").label
    'positive'
    """

    name = "tone"
    kind = "rules"

    def ask(self, text: str) -> Finding:
        """Return the tone of ``text``."""
        sentences = cut(text).sentences
        scored = []
        for sentence in sentences:
            found = hits(sentence.text)
            scored.append((_score(found), sentence, found))
        score = sum(each for each, _, _ in scored) / len(scored) if scored else 0.0
        clear = [each for each in scored if abs(each[0]) > SENTENCE_CLEAR]
        strongest = sorted(clear, key=lambda each: -abs(sum(hit.weight for hit in each[2])))[:MOST_EVIDENCE]
        evidence = tuple(
            Span(sentence.start, sentence.end, text[sentence.start : sentence.end], _note(value, found))
            for value, sentence, found in sorted(strongest, key=lambda each: each[1].start)
        )
        label = "positive" if score > TEXT_CLEAR else "negative" if score < -TEXT_CLEAR else "neutral"
        values = {
            "sentences": len(sentences),
            "positive_sentences": sum(value > 0 for value, _, _ in clear),
            "negative_sentences": sum(value < 0 for value, _, _ in clear),
        }
        return Finding(score=round(score, 4), label=label, values=values, evidence=evidence, method="rules")


def _note(score: float, found: list[Hit]) -> str:
    sign = 1 if score > 0 else -1
    reasons = dict.fromkeys(hit.why for hit in found if hit.weight * sign > 0)
    return f"{'+' if sign > 0 else '-'} {', '.join(list(reasons)[:4])}"

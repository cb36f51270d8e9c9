"""Tone by rules: direction words with the metric they belong to, from-to amounts, negation, clear words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import Final, NamedTuple

from analysis_kit.analyzers import lexicon_tables as tables
from analysis_kit.analyzers.base import BaseAnalyzer
from analysis_kit.analyzers.quantities import Quantity, as_written, quantities
from analysis_kit.analyzers.text import Phrases, Sentence, Token, cut
from analysis_kit.results import Finding, Span

#: A sentence beyond it counts as good or bad news.
SENTENCE_THRESHOLD: Final = 0.2
#: A text beyond it is labelled positive or negative.
TEXT_THRESHOLD: Final = 0.12
#: What a direction with its metric and a from-to comparison weigh; a clear word weighs 1.
RULE_WEIGHT: Final = 2.0
#: What the weights in an "if" or "until" clause are multiplied by.
POSSIBLE_WEIGHT: Final = 0.25
#: Added to the sum of weights, so that one word makes a sentence less certain than three rules do.
DOUBT: Final = 0.5
#: How many sentences are kept as evidence, and how many reasons each note gives.
MOST_EVIDENCE, MOST_REASONS = 6, 4

_TABLE: Final = Phrases(
    {
        **tables.DIRECTIONS,
        **tables.METRICS,
        **tables.WORDS,
        **tables.OUTCOMES,
        **tables.LINKS,
        "plain": tables.PLAIN,
        "notice": tables.NOTICES,
    }
)
_SIGNS: Final = {"up": 1, "more": 1, "better": 1, "over": 1, "down": -1, "less": -1, "worse": -1, "under": -1}
_METRIC: Final = frozenset({"good", "bad"})
_EVALUATIVE: Final = frozenset({"better", "worse"})
_PLACES: Final = frozenset({"over", "under"})
_ADJECTIVES: Final = frozenset({"more", "less"})
_OUTCOME: Final = frozenset({"profit", "loss"})
_BEGINNERS: Final = frozenset({"contrast", "possible"})
_BREAKS: Final = frozenset({";", ":", "--", "\u2014", "\u2013"})


class Hit(NamedTuple):
    """A rule that fired: its weight with sign, and the reason in words."""

    weight: float
    reason: str


class _Mark(NamedTuple):
    """A table entry in a sentence: its tokens ``[first:last]``, its tags and its words."""

    first: int
    last: int
    tags: frozenset[str]
    words: str


_Fired = tuple[Hit, _Mark, _Mark]  # with the two entries that it used up


def score_sentence(text: str) -> float:
    """Return the tone of one sentence in [-1, 1]; 0 where no rule fires. Several sentences are read as one.

    The sum of the weights of `hits`, over the sum of their sizes plus `DOUBT`.

    Examples
    --------
    >>> score_sentence("Our net loss narrowed to $2 million.") > SENTENCE_THRESHOLD
    True
    >>> score_sentence("Gross margin fell to 12% from 14%.") < -SENTENCE_THRESHOLD
    True
    """
    whole = cut(text)
    return _score([hit for sentence in whole.sentences for hit in hits(whole.tokens_of(sentence))])


def _score(found: Sequence[Hit]) -> float:
    size = sum(abs(hit.weight) for hit in found)
    return sum(hit.weight for hit in found) / (size + DOUBT) if size else 0.0


def hits(tokens: Sequence[Token]) -> list[Hit]:
    """Return the rules that fire in one sentence.

    Examples
    --------
    >>> hits(cut("Costs fell.").tokens)
    [Hit(weight=2.0, reason='costs fell')]
    """
    marks = [
        _Mark(first, last, tags, " ".join(token.text for token in tokens[first:last]))
        for first, last, tags in _TABLE.find(tokens)
        if "plain" not in tags
    ]
    if not marks or any("notice" in mark.tags for mark in marks):
        return []
    numbers = any(token.kind == "number" for token in tokens)
    amounts = quantities(tokens, bare=True) if numbers else []
    found: list[Hit] = []
    for first, last in _clauses(tokens, marks):
        inside = [mark for mark in marks if first <= mark.first < last]
        if inside:
            said = _judge(inside, [each for each in amounts if first <= each.first < last])
            possible = inside[0].first == first and "possible" in inside[0].tags
            found += [Hit(hit.weight * POSSIBLE_WEIGHT, hit.reason) for hit in said] if possible else said
    return found


def _clauses(tokens: Sequence[Token], marks: Sequence[_Mark]) -> Iterator[tuple[int, int]]:
    """Yield where each clause begins and ends: at contrasts, conditions, strong marks, ", and" and ", as"."""
    starts = {mark.first for mark in marks if mark.tags & _BEGINNERS}
    for index, token in enumerate(tokens):
        if token.kind == "mark":
            joined = token.text == "," and index + 1 < len(tokens) and tokens[index + 1].text in {"and", "as"}
            if joined or token.text in _BREAKS:
                starts.add(index)
    begin = 0
    for start in sorted(starts):
        yield begin, start
        begin = start
    yield begin, len(tokens)


def _judge(marks: Sequence[_Mark], amounts: Sequence[Quantity]) -> list[Hit]:
    """Return what outcomes, comparisons and directions of one clause say, then what the words left over say."""
    commas = [mark.first for mark in marks if "comma" in mark.tags]
    negated = {
        place
        for mark in marks
        if "negator" in mark.tags
        for place in range(
            mark.last, min([mark.last + tables.NEGATION_REACH, *(c for c in commas if c > mark.first)])
        )
    }
    asides = {mark.last for mark in marks if "aside" in mark.tags}
    metrics = [mark for mark in marks if mark.tags & _METRIC and not asides & {mark.first, mark.first - 1}]
    inserted = _insertions(marks, metrics, commas)
    fired = list(_outcomes(marks))
    reached = {mark for _, *used in fired for mark in used}  # "slipped to a loss": it is no loss that slipped
    fired += _compared(marks, [mark for mark in metrics if mark.first not in inserted], amounts)
    left = [mark for mark in metrics if mark not in reached]
    fired += _directed(marks, left, negated, amounts, inserted)
    used = {mark for _, *both in fired for mark in both}
    found = [hit for hit, _, _ in fired]
    for mark in marks:
        sign = ("positive" in mark.tags) - ("negative" in mark.tags)
        if sign and mark not in used:
            found.append(_hit(sign, None, mark, negated, weight=1.0))
    return found


def _insertions(marks: Sequence[_Mark], metrics: Sequence[_Mark], commas: Sequence[int]) -> AbstractSet[int]:
    """Return the tokens between a subject and its verb: "churn, measured on contract value, fell"."""
    verbs = {mark.first for mark in marks if mark.tags & _SIGNS.keys()}
    return {
        place
        for opening, closing in pairwise(commas)
        if closing + 1 in verbs and any(mark.last <= opening for mark in metrics)
        for place in range(opening, closing)
    }


def _hit(sign: int, metric: _Mark | None, mark: _Mark, negated: AbstractSet[int], *, weight: float) -> Hit:
    turned = mark.first in negated
    words = [metric.words] if metric is not None and metric is not mark else []
    return Hit(
        weight * (-sign if turned else sign), " ".join([*words, *(["not"] if turned else []), mark.words])
    )


def _outcomes(marks: Sequence[_Mark]) -> Iterator[_Fired]:
    """Yield "slipped to a loss", and "a profit, compared with a loss" and the like."""
    ends = [mark for mark in marks if mark.tags & _OUTCOME]
    for mark in marks if ends else ():
        if "to a" in mark.tags:
            end = next((each for each in ends if 0 <= each.first - mark.last < tables.OUTCOME_REACH), None)
            if end is not None:
                yield Hit(RULE_WEIGHT if "profit" in end.tags else -RULE_WEIGHT, f"to {end.words}"), end, end
        elif "comparison" in mark.tags:
            now = next((each for each in reversed(ends) if each.last <= mark.first), None)
            then = next((each for each in ends if each.first >= mark.last), None)
            if now and then and now.tags & _OUTCOME != then.tags & _OUTCOME:
                sign = RULE_WEIGHT if "profit" in now.tags else -RULE_WEIGHT
                yield Hit(sign, f"{now.words} after {then.words}"), now, then


def _compared(
    marks: Sequence[_Mark], metrics: Sequence[_Mark], amounts: Sequence[Quantity]
) -> Iterator[_Fired]:
    """Yield what a number says that is set against an earlier one of the same unit: "12% from 14%"."""
    moved = any(mark.tags & _SIGNS.keys() for mark in marks)
    goals = [mark for mark in marks if mark.words == "to"]
    for link in marks if len(amounts) > 1 else ():
        then = next((each for each in amounts if link.last <= each.first), None)
        if "comparison" not in link.tags or then is None:
            continue
        now = next(
            (each for each in reversed(amounts) if each.last <= link.first and _alike(each, then)), None
        )
        if (
            now is not None
            and link.words == "from"
            and not moved
            and all(now.first != to.last for to in goals)
        ):
            continue  # "24% of the shares from one owner and 3% from another"
        before = [each for each in metrics if each.first < link.first]
        theirs = [each for each in metrics if link.last <= each.first <= then.last + 1]
        if now is None and link.words == "from":  # "from 10% to 12%"
            goals_after = [to.last for to in goals if to.first >= then.last][:1]
            now = next((each for each in amounts if each.first in goals_after and _alike(each, then)), None)
            before, theirs = before or theirs, []
        if now is None or not (before or theirs):
            continue
        led = [each for each in before if each.first < now.first] or before[::-1]
        metric = led[-1] if led else theirs[0]
        own = theirs[0] if theirs else metric
        change = now.value * _good(metric) - then.value * _good(own)
        if change:
            weight = RULE_WEIGHT if change > 0 else -RULE_WEIGHT
            said = " after ".join(as_written(each.value) + "%" * (each.unit == "%") for each in (now, then))
            yield Hit(weight, f"{metric.words} {said}"), metric, own


def _alike(one: Quantity, two: Quantity) -> bool:
    """Return whether two numbers can be compared: one unit, or a plain number beside a plain one with a unit."""
    if one.scale != 1 or two.scale != 1:
        return one.unit == two.unit
    units = {(each.unit or "").removesuffix("/share") for each in (one, two)}
    return len(units - {""}) < 2  # noqa: PLR2004 - "$0.61 per share, against $0.74"


def _good(metric: _Mark) -> int:
    return 1 if "good" in metric.tags else -1


def _directed(
    marks: Sequence[_Mark],
    metrics: Sequence[_Mark],
    negated: AbstractSet[int],
    amounts: Sequence[Quantity],
    inserted: AbstractSet[int],
) -> Iterator[_Fired]:
    """Yield what each direction says of its metric."""
    for mark in marks:
        sign = next((_SIGNS[tag] for tag in _SIGNS if tag in mark.tags), 0)
        if not sign:
            continue
        hidden: AbstractSet[int] = inserted if mark.first not in inserted else frozenset()
        metric = _metric_of(mark, [each for each in metrics if each.first not in hidden])
        placed = bool(mark.tags & _PLACES)
        reach = range(mark.last, mark.last + tables.REFERENCE_REACH)
        if placed and not any("reference" in each.tags and each.first in reach for each in marks):
            continue
        if mark.tags & _EVALUATIVE:
            weight = RULE_WEIGHT if metric else 1.0
            yield _hit(sign, metric, mark, negated, weight=weight), mark, mark
        elif metric is not None and metric is not mark:
            yield _hit(sign * _good(metric), metric, mark, negated, weight=RULE_WEIGHT), mark, metric
        elif metric is mark or placed or any(_beside(mark, each) for each in amounts):
            # "growth"; "passengers were down 4%": of what has no polarity of its own, more is good
            yield _hit(sign, None, mark, negated, weight=1.0), mark, mark


def _metric_of(mark: _Mark, metrics: Sequence[_Mark]) -> _Mark | None:
    """Return what a direction is about: for "above" the metric before, for "higher" the one after, else the nearest."""
    others = [each for each in metrics if each is not mark]
    if mark.tags & _PLACES:
        return next((each for each in reversed(others) if each.first < mark.first), None)
    if mark.tags & _ADJECTIVES:
        following = next(
            (each for each in others if 0 <= each.first - mark.last < tables.ADJECTIVE_REACH), None
        )
        if following is not None:
            return following
        if not mark.words.endswith(("ed", "ing")):  # "smaller competitors"; but "increased" is a verb too
            others = [each for each in others if each.first < mark.first]
    nearest = min(others, key=lambda each: max(mark.first - each.last, each.first - mark.last), default=None)
    return mark if nearest is None and mark in metrics else nearest


def _beside(mark: _Mark, amount: Quantity) -> bool:
    return -1 <= amount.first - mark.last <= 2 or 0 <= mark.first - amount.last <= 1  # noqa: PLR2004 - "fell by about 4%"


class LexiconSentimentAnalyzer(BaseAnalyzer):
    """Tone by rules: no server, no download, a fraction of a millisecond a sentence.

    A direction word ("rose", "lower") counts with the metric it belongs to, so that rising costs are bad news and a loss
    that narrows is good. A number set against an earlier one counts like a direction ("12% from 14%"), and so does a
    move from profit to loss. A few words count by themselves, at half the weight. A negation shortly before turns a
    word; "if" and "until" clauses weigh little; courtesy and legal notices count for nothing. The tables are in
    `analysis_kit.analyzers.lexicon_tables`.

    A sentence scores the sum of its weights over their sizes plus one half; the text scores the mean of its sentences.
    ``label`` is "positive" beyond `TEXT_THRESHOLD`, "negative" beyond its negative, else "neutral". ``values`` has
    ``positive_hits`` and ``negative_hits`` (rules that fired), ``sentences``, ``positive_sentences`` and
    ``negative_sentences`` (those beyond `SENTENCE_THRESHOLD`). ``evidence`` is the sentences that weigh most, in the
    order of the text; a note begins with "+" or "-" and names the rules that fired.

    Examples
    --------
    >>> finding = LexiconSentimentAnalyzer().analyze("Revenue grew 12%, and costs fell. Thank you all.")
    >>> finding.label, finding.evidence[0].note
    ('positive', '+ revenue grew, costs fell')
    """

    name = "tone"
    kind = "rules"

    def ask(self, text: str) -> Finding:
        """Return the tone of ``text``."""
        whole = cut(text)
        judged = [(sentence, hits(whole.tokens_of(sentence))) for sentence in whole.sentences]
        scores = [_score(found) for _, found in judged]
        score = sum(scores) / len(scores) if scores else 0.0
        weights = [hit.weight for _, found in judged for hit in found]
        values = {
            "positive_hits": sum(weight > 0 for weight in weights),
            "negative_hits": sum(weight < 0 for weight in weights),
            "sentences": len(scores),
            "positive_sentences": sum(each > SENTENCE_THRESHOLD for each in scores),
            "negative_sentences": sum(each < -SENTENCE_THRESHOLD for each in scores),
        }
        label = "positive" if score > TEXT_THRESHOLD else "negative" if score < -TEXT_THRESHOLD else "neutral"
        return Finding(round(score, 4), label, values, _evidence(judged), method="rules")


def _evidence(judged: Sequence[tuple[Sentence, list[Hit]]]) -> tuple[Span, ...]:
    clear = [
        (abs(sum(hit.weight for hit in found)), sentence, found)
        for sentence, found in judged
        if abs(_score(found)) > SENTENCE_THRESHOLD
    ]
    strongest = sorted(clear, key=lambda each: -each[0])[:MOST_EVIDENCE]
    return tuple(
        Span(sentence.start, sentence.end, sentence.text, _note(found))
        for _, sentence, found in sorted(strongest, key=lambda each: each[1].start)
    )


def _note(found: Sequence[Hit]) -> str:
    sign = 1 if sum(hit.weight for hit in found) > 0 else -1
    reasons = dict.fromkeys(hit.reason for hit in found if hit.weight * sign > 0)
    return f"{'+' if sign > 0 else '-'} {', '.join(list(reasons)[:MOST_REASONS])}"

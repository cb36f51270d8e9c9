"""`NumericalAnalyzer`: the numbers of a text as normalised values with units, metrics, periods and directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from analysis_kit.analyzers import numerical_tables as tables
from analysis_kit.analyzers.base import BaseAnalyzer
from analysis_kit.analyzers.lexicon_tables import DIRECTIONS
from analysis_kit.analyzers.periods import Period, find_periods
from analysis_kit.analyzers.quantities import Quantity, quantities
from analysis_kit.analyzers.text import CutText, Phrases, Sentence, Token, cut
from analysis_kit.results import Finding, Span

#: How many numbers are kept as evidence: guidance first, then growth.
MOST_EVIDENCE: Final = 12
_RANKS: Final = {"guidance": 0, "growth": 1}

_TABLE: Final = Phrases(
    {
        **DIRECTIONS,
        "ahead": tables.AHEAD,
        "back": tables.NOT_AHEAD,
        "compared": tables.COMPARED,
        "contrast": tables.CONTRASTS,
        "flat": tables.FLAT,
    }
)
_METRICS: Final = Phrases({f"= {name}": said for name, said in tables.METRICS.items()})
_MOVING: Final = frozenset({"up", "more", "better", "down", "less", "worse", "flat"})
_UP, _DOWN = frozenset({"up", "more", "better", "over"}), frozenset({"down", "less", "worse", "under"})
_PER_SHARE_METRICS: Final = frozenset({"EPS", "loss per share"})
_FAR, _BEHIND = 8, 4  # tokens: within the number's clause, right behind it


class _Mark(NamedTuple):
    first: int
    last: int
    tags: frozenset[str]
    text: str


class _Read(NamedTuple):
    """What a number measures, the direction said of it, and whether it is the size of the change."""

    metric: str | None
    direction: str | None
    changed: bool


class _Context(NamedTuple):
    """One sentence with what its numbers are judged by."""

    tokens: Sequence[Token]
    marks: list[_Mark]
    metrics: list[tuple[int, int, str]]
    periods: list[Period]
    amounts: list[Quantity]
    offset: int
    starts: list[int]
    compared: set[int]


class NumericalAnalyzer(BaseAnalyzer):
    """Amounts, percentages, basis points, per-share figures, multiples and counts, as values with units.

    ``values["numbers"]`` lists them in the order of the text, each a dict of

    - ``text``, ``start``, ``end``: as said, and where;
    - ``kind``: "guidance" (the sentence looks ahead), "growth" (the size of a change), else "amount", "percent",
      "basis points", "per share", "multiple" or "count";
    - ``value``: the scale word applied; of a range the middle; ``low`` and ``high``: the ends of a range, else None;
    - ``unit``: a currency code ("$" is read as USD), "USD/share" and the like, "%", "pp" (percentage points), "bps", "x",
      "count", or None where nothing but a scale word is said; ``scale``: the factor applied;
    - ``metric``: what is measured, as named in `numerical_tables.METRICS`; ``period``: "Q3 2025", "FY2026", "prior year"
      and the like; ``direction``: "up", "down" or "flat"; each None where it is not said.

    A minus sign, "negative", brackets in the accounting way ("(1.2) million") and a change downwards make a value
    negative; a loss keeps its sign and is named by its metric. Years, dates, times, telephone numbers and numbers without
    a unit are none. ``values`` also has ``count`` and ``guidance_count``. There is no score and no label.

    Examples
    --------
    >>> number, = NumericalAnalyzer().analyze("We expect revenue of $2.0 to $2.2 billion.").values["numbers"]
    >>> number["kind"], number["low"], number["high"], number["unit"], number["metric"]
    ('guidance', 2000000000.0, 2200000000.0, 'USD', 'revenue')
    """

    name = "numerical"
    kind = "rules"

    def ask(self, text: str) -> Finding:
        """Return the numbers of ``text``."""
        whole = cut(text)
        numbers = [number for sentence in whole.sentences for number in _numbers(whole, sentence)]
        guidance = sum(number["kind"] == "guidance" for number in numbers)
        values = {"numbers": numbers, "count": len(numbers), "guidance_count": guidance}
        telling = sorted(numbers, key=lambda number: _RANKS.get(number["kind"], len(_RANKS)))
        evidence = tuple(
            Span(
                number["start"],
                number["end"],
                number["text"],
                " ".join(filter(None, (number["kind"], number["metric"]))),
            )
            for number in sorted(telling[:MOST_EVIDENCE], key=lambda number: number["start"])
        )
        return Finding(values=values, evidence=evidence, method="rules")


def _numbers(whole: CutText, sentence: Sentence) -> list[dict[str, Any]]:
    tokens = whole.tokens_of(sentence)
    amounts = quantities(tokens)
    if not amounts:
        return []
    context = _context(tokens, amounts, sentence)
    read: list[_Read] = []
    for place in range(len(amounts)):
        read.append(_Read(_metric(context, place, read), *_direction(context, place, read)))
    ahead = _looks_ahead(context)
    return [
        _number(whole.text, context, place, read[place], guided=place in ahead)
        for place in range(len(amounts))
    ]


def _context(tokens: Sequence[Token], amounts: list[Quantity], sentence: Sentence) -> _Context:
    marks = [
        _Mark(first, last, tags, " ".join(token.text for token in tokens[first:last]))
        for first, last, tags in _TABLE.find(tokens)
    ]
    metrics = [(first, last, next(iter(tags))[2:]) for first, last, tags in _METRICS.find(tokens)]
    compared = {mark.first for mark in marks if "compared" in mark.tags}
    for amount in amounts:  # "from" compares only where an amount follows, and makes no range
        before = [token.text for token in tokens[max(0, amount.first - 2) : amount.first]]
        if "from" in before and amount.low is None:
            compared.add(amount.first - len(before) + before.index("from"))
    starts = {0, *compared, *(mark.first for mark in marks if "contrast" in mark.tags)}
    starts |= {index for index, token in enumerate(tokens) if token.text == ";"}
    periods = find_periods(
        sentence.text.lower() if len(sentence.text.lower()) == len(sentence.text) else sentence.text
    )
    return _Context(tokens, marks, metrics, periods, amounts, sentence.start, sorted(starts), compared)


def _looks_ahead(context: _Context) -> set[int]:
    """Return the places of the amounts that are guidance."""
    found: set[int] = set()
    tokens, place = context.tokens, 0
    ahead = suspended = False
    by_first = {mark.first: mark for mark in context.marks}
    measured = {first for first, _, _ in context.metrics}
    for index, token in enumerate(tokens):
        mark = by_first.get(index)
        tags = mark.tags if mark is not None else frozenset()
        if "ahead" in tags:
            ahead, suspended = True, False
        elif tags & {"back", "contrast"}:
            ahead = False
        elif index in context.compared:
            suspended = True  # what guidance is compared with is past
        elif token.text == "to" or (
            token.text in {",", "and", ";"} and measured & {index + 1, index + 2, index + 3}
        ):
            suspended = False
        if place < len(context.amounts) and context.amounts[place].first == index:
            after = context.amounts[place].last
            goal = _word(tokens, after) in {"is", "was", "as", "remains"} and any(
                token.text in tables.GOALS for token in tokens[after : after + _BEHIND]
            )
            if (ahead and not suspended) or goal:
                found.add(place)
            place += 1
    return found


def _number(text: str, context: _Context, place: int, read: _Read, *, guided: bool) -> dict[str, Any]:
    amount = context.amounts[place]
    tokens = context.tokens
    start, end = tokens[amount.first].start, tokens[amount.last - 1].end
    unit: str | None = amount.unit
    form: str = amount.form
    if (
        form == "amount"
        and read.metric in _PER_SHARE_METRICS
        and amount.scale == 1
        and unit
        and "/" not in unit
    ):
        unit, form = f"{unit}/share", "per share"
    ends = [amount.value, amount.low, amount.high]
    if read.changed and read.direction == "down" and all(each is None or each >= 0 for each in ends):
        ends = [None if each is None else -each for each in (amount.value, amount.high, amount.low)]
    value, low, high = (None if each is None else float(f"{each:.12g}") for each in ends)
    return {
        "text": text[start:end],
        "kind": "guidance" if guided else "growth" if read.changed else form,
        "metric": read.metric,
        "value": value,
        "low": low,
        "high": high,
        "unit": unit,
        "scale": amount.scale,
        "period": _period(context, amount),
        "direction": read.direction,
        "start": start,
        "end": end,
    }


def _segment(context: _Context, amount: Quantity) -> tuple[int, int]:
    """Return the tokens of the amount's clause: from the last comparison, contrast or ";" to the next."""
    first = max(start for start in context.starts if start <= amount.first)
    return first, min(
        (start for start in context.starts if start > amount.first), default=len(context.tokens)
    )


def _metric(context: _Context, place: int, read: Sequence[_Read]) -> str | None:
    """Return what the number measures: what it counts, what stands right behind it, else before it, else further behind."""
    amount, tokens = context.amounts[place], context.tokens
    if amount.form == "count" and amount.unit:
        inside = [name for first, last, name in context.metrics if first < amount.last <= last]
        return inside[0] if inside else tokens[amount.last - 1].text
    share = (
        amount.unit == "%" and _word(tokens, amount.last) == "of"
    )  # "12% of sales" measures something else
    for first, _, name in context.metrics if not share else ():
        between = [token.text for token in tokens[amount.last : first]]
        if first >= amount.last and len(between) <= _BEHIND and tables.BEHIND.issuperset(between):
            return name
    verb = amount.first - 1
    while _word(tokens, verb) in tables.ABOUT:
        verb -= 1
    if _word(tokens, verb) == "lost" and amount.form == "amount":
        return "loss"  # whatever the sentence spoke of before
    first, end = _segment(context, amount)
    before = [(last, name) for _, last, name in context.metrics if last <= amount.first]
    if before and first in context.compared and before[-1][0] <= first:
        return _metric_of_pair(context, place, first, read) or before[-1][1]
    if before:
        return before[-1][1]
    end = min(end, amount.last + _FAR)
    behind = next(((at, name) for at, _, name in context.metrics if amount.last <= at < end), None)
    return None if behind is None or _of_next_clause(context, amount, first, behind[0]) else behind[1]


def _of_next_clause(context: _Context, amount: Quantity, first: int, at: int) -> bool:
    """Return whether the metric at ``at`` begins a clause of its own, as in "improved to 94%, and inventory was".

    In "at 4%, and 5%, of sales" it does not, nor in "Up 4%, and sales reached", where no other thing has risen.
    """
    tokens = context.tokens
    commas = [n for n in range(amount.last, at - 1) if tokens[n].text == "," and tokens[n + 1].text == "and"]
    if not commas or any(commas[-1] < each.first < at for each in context.amounts):
        return False
    things = {*tables.FAR_NOUNS, "record"}
    moves = {mark.first for mark in context.marks if mark.tags & _MOVING and mark.text not in things}
    rest = [n for n in range(first, amount.first) if tokens[n].text not in tables.FILLERS]
    return not rest or not moves.issuperset(rest)


def _metric_of_pair(context: _Context, place: int, first: int, read: Sequence[_Read]) -> str | None:
    """Return the metric of the amount that this one is compared with: in "$5 and $6, against $4 and $3" by place."""
    unit = context.amounts[place].unit
    alike = [n for n, each in enumerate(context.amounts[:place]) if each.unit == unit]
    earlier = [n for n in alike if context.amounts[n].last <= first]
    rank = len(alike) - len(earlier)
    return read[earlier[min(rank, len(earlier) - 1)]].metric if earlier else None


def _direction(context: _Context, place: int, read: Sequence[_Read]) -> tuple[str | None, bool]:
    """Return the direction said of a number, and whether the number is the size of the change."""
    amount, tokens = context.amounts[place], context.tokens
    previous = _word(tokens, amount.first - 1)
    follows = place > 0 and context.amounts[place - 1].last == amount.first - 1
    if follows and previous == "or":  # "an increase of $15 million or 7.3%"
        return read[-1].direction, read[-1].changed
    if follows and previous == "to":
        return _goal_direction(context, place, read), False
    start, end = _segment(context, amount)
    start = max(start, context.amounts[place - 1].last if place else 0)
    end = min(end, context.amounts[place + 1].first if place + 1 < len(context.amounts) else end)
    sized = previous not in tables.LEVEL and amount.form != "multiple"
    mark = _direction_before(context, start, amount.first)
    if mark is not None:
        kin = mark.text in tables.NOUNS and not (
            mark.tags & {"more", "less"} and tokens[mark.last].text != "of"
        )
        return _way(mark), sized and "flat" not in mark.tags and (previous != "of" or kin)
    for mark in context.marks:
        inside = amount.last <= mark.first < min(end, amount.last + _BEHIND)
        if inside and tokens[mark.first].text in tables.NOUNS and not _leads_on(context, place, mark):
            between = {token.text for token in tokens[amount.last : mark.first]}
            if not between & {",", "to", "of", "and", "was"}:
                return _way(mark), sized
    return None, False


def _leads_on(context: _Context, place: int, mark: _Mark) -> bool:
    """Return whether a direction behind an amount belongs to the next one: "58.6% down 150 basis points"."""
    if place + 1 == len(context.amounts):
        return False
    return all(
        token.text in tables.FILLERS for token in context.tokens[mark.last : context.amounts[place + 1].first]
    )


def _goal_direction(context: _Context, place: int, read: Sequence[_Read]) -> str | None:
    """Return the direction of "to B" in "grew A to B" and in "grew from A to B"."""
    other = context.amounts[place - 1]
    if _word(context.tokens, other.first - 1) != "from":
        return read[-1].direction
    start = context.amounts[place - 2].last if place > 1 else 0
    mark = _direction_before(context, start, other.first - 1)
    return None if mark is None else _way(mark)


def _direction_before(context: _Context, start: int, end: int) -> _Mark | None:
    """Return the direction that leads to the number at ``end``: "rose by about", "growth in the quarter was"."""
    tokens = context.tokens
    measured = {n for first, last, _ in context.metrics for n in range(first, last)}
    previous = _word(tokens, end - 1)
    for mark in reversed(context.marks):
        if mark.first < start or mark.last > end or not mark.tags & _MOVING or mark.text == "record":
            continue
        between = range(mark.last, end)
        if all(n in measured or tokens[n].text in tables.FILLERS for n in between):
            return mark
        near = len(between) <= _FAR and all(tokens[n].text != "," for n in between)
        far = mark.text in tables.FAR_NOUNS and previous in {"of", "was", "were", "is"}
        if near and (previous == "by" or far):
            return mark
    return None


def _word(tokens: Sequence[Token], index: int) -> str:
    return tokens[index].text if 0 <= index < len(tokens) else ""


def _way(mark: _Mark) -> str:
    return "up" if mark.tags & _UP else "down" if mark.tags & _DOWN else "flat"


def _period(context: _Context, amount: Quantity) -> str | None:
    """Return the nearest period of the number's clause, else the last one before; what is compared with has only its own."""
    first, end = _segment(context, amount)
    tokens, offset = context.tokens, context.offset
    low = tokens[first].start - offset
    high = (tokens[end].start if end < len(tokens) else tokens[-1].end) - offset
    at, until = tokens[amount.first].start - offset, tokens[amount.last - 1].end - offset
    own = [period for period in context.periods if low <= period.start < high]
    if own:
        return min(own, key=lambda period: max(at - period.end, period.start - until)).name
    earlier = [period for period in context.periods if period.end <= at and first not in context.compared]
    return earlier[-1].name if earlier else None

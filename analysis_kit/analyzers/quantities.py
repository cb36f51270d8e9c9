"""Quantities in a sentence: amounts of money, percentages, basis points, multiples and counts, with their ranges.

A quantity needs a unit that is said: a currency, "%", "basis points", "x", a scale word or a counted thing. So years,
dates, times, telephone numbers, quarter names and paragraph numbers are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from analysis_kit.analyzers import quantity_tables as tables
from analysis_kit.analyzers.lexicon_tables import DIRECTIONS
from analysis_kit.analyzers.number_parts import DASHES, Part, is_date, may_begin, read_part, word
from analysis_kit.analyzers.text import Token, word_set

Form = Literal["amount", "percent", "basis points", "per share", "multiple", "count"]

_FORMS: Final[dict[str, Form]] = {
    "%": "percent",
    "pp": "percent",
    "bps": "basis points",
    "x": "multiple",
    "count": "count",
}
_MOVES: Final = tables.MOVES | word_set(" ".join(DIRECTIONS.values()))
_REACH = 8  # tokens before "from A to B" in which a verb makes it a move


@dataclass(frozen=True, slots=True)
class Quantity:
    """A quantity as said, normalised.

    Attributes
    ----------
    value : float
        In `unit`, with the scale word applied; of a range its middle.
    low, high : float or None
        The ends of a range or a tolerance.
    unit : str or None
        A currency code, "USD/share" and the like, "%", "pp", "bps", "x", "count"; None where nothing but a scale word is
        said.
    scale : float
        The factor of the scale word, 1 without one.
    form : str
        "amount", "percent", "basis points", "per share", "multiple" or "count".
    first, last : int
        Its tokens are ``tokens[first:last]``.
    """

    value: float
    low: float | None
    high: float | None
    unit: str | None
    scale: float
    form: Form
    first: int
    last: int


def quantities(tokens: Sequence[Token], *, bare: bool = False) -> list[Quantity]:
    """Return the quantities of one sentence, from the left.

    Parameters
    ----------
    tokens : sequence of Token
        One sentence, or a whole text.
    bare : bool, default False
        Return numbers without any unit too, with ``unit`` None; years and days of a month are still none.

    Examples
    --------
    >>> from analysis_kit.analyzers.text import cut
    >>> [(q.low, q.high, q.unit) for q in quantities(cut("We expect $2.0 to $2.2 billion.").tokens)]
    [(2000000000.0, 2200000000.0, 'USD')]
    """
    found: list[Quantity] = []
    index = 0
    while index < len(tokens):
        part = read_part(tokens, index) if may_begin(tokens[index]) else None
        if part is None or (not part.known and is_date(tokens, part)):
            index += 1
            continue
        quantity = _range(tokens, part) or _single(part)
        if quantity is None and bare and tokens[index].kind == "number":
            quantity = Quantity(part.number, None, None, None, 1.0, "count", part.first, part.last)
        if quantity is not None:
            found.append(quantity)
        index = max(index + 1, part.last if quantity is None else quantity.last)
    return found


def _single(part: Part) -> Quantity | None:
    if not part.known:
        return None
    form, unit = _form(part)
    return Quantity(part.value, None, None, unit, part.scale, form, part.first, part.last)


def _form(part: Part) -> tuple[Form, str | None]:
    if part.unit:
        return _FORMS[part.unit], part.unit
    if part.per:
        return "per share" if part.per == "share" else "amount", f"{part.currency}/{part.per}"
    return "amount", part.currency or None


def _range(tokens: Sequence[Token], one: Part) -> Quantity | None:
    """Return the range, tolerance or move that begins with ``one``; None where no fitting second number follows."""
    after = one.last + (word(tokens, one.last) == ",")
    if [word(tokens, after + n) for n in range(3)] == ["plus", "or", "minus"]:
        return _tolerance(one, _part_from(tokens, after + 3))
    link = word(tokens, one.last)
    if link == "\u00b1":
        return _tolerance(one, _part_from(tokens, one.last + 1))
    between = link == "and" and any(word(tokens, one.first - n) == "between" for n in (1, 2, 3))
    if not (between or link in {"to", "--"} or link in DASHES):
        return None
    two = _part_from(tokens, one.last + 1)
    joined = None if two is None else _join(one, two)
    if two is None or joined is None:
        return None
    if link == "to" and _is_move(tokens, *joined):
        return _single(joined[0])
    low, high = sorted(part.value for part in joined)
    form, unit = _form(joined[1])
    return Quantity((low + high) / 2, low, high, unit, joined[1].scale, form, one.first, two.last)


def _part_from(tokens: Sequence[Token], first: int) -> Part | None:
    """Return the number whose first token, sign and currency included, is ``first``."""
    for index in range(first, min(first + 4, len(tokens))):
        if may_begin(tokens[index]):
            part = read_part(tokens, index)
            return part if part is not None and part.first <= first else None
    return None


def _join(one: Part, two: Part) -> tuple[Part, Part] | None:
    """Return both ends with the unit that either has; None where they differ or neither has one."""
    if one.currency and not two.currency and not two.unit:
        two = replace(two, currency=one.currency)
    if not one.currency and not one.unit:
        one = replace(one, currency=two.currency, unit=two.unit)
    one, two = replace(one, per=one.per or two.per), replace(two, per=two.per or one.per)
    if one.scale == 1 and abs(one.number) <= abs(
        two.number
    ):  # "$2.0 to $2.2 billion", but "$900,000 to $1.1 million"
        one = replace(one, scale=two.scale)
    same = (one.currency, one.unit, one.per) == (two.currency, two.unit, two.per)
    return (one, two) if same and two.known else None


def _is_move(tokens: Sequence[Token], one: Part, two: Part) -> bool:
    """Return whether "A to B" says where a value went: "rose from 10% to 12%", "grew $20 million to $220 million"."""
    before = [token.text for token in tokens[max(0, one.first - _REACH) : one.first]]
    if any(text in tables.RANGES for text in before):
        return False
    if before[-1:] == ["from"]:
        return any(text in _MOVES for text in before)
    return (
        bool(one.currency)
        and abs(two.value) > 2 * abs(one.value)
        and any(text in _MOVES for text in before[-3:])
    )


def _tolerance(one: Part, two: Part | None) -> Quantity | None:
    """Return ``one`` plus or minus ``two``, which may be a share of it."""
    middle = _single(one)
    if two is None or middle is None:
        return None
    width = abs(two.value)
    if two.unit == "%" and one.unit != "%":
        width *= abs(middle.value) / 100
    elif two.unit == "bps" and one.unit == "%":
        width /= 100
    elif (two.unit, two.currency) != (one.unit, one.currency):
        return None
    return replace(middle, low=middle.value - width, high=middle.value + width, last=two.last)


def as_written(value: float) -> str:
    """Return a number as people write it.

    Examples
    --------
    >>> as_written(412.8e6), as_written(1234.5)
    ('412.8 million', '1,234.5')
    """
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if abs(value) >= size:
            return f"{value / size:,.6g} {name}"
    return f"{value:,.6g}"

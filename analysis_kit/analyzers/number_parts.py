"""One number of a sentence with what stands around it: sign, currency, scale word, unit. Years, dates and names are none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from analysis_kit.analyzers import quantity_tables as tables
from analysis_kit.analyzers.text import Token

DASHES: Final = frozenset("-\u2013\u2212")  # hyphen, en dash, minus
_LONGEST = 24  # characters; what is longer identifies something
_YEARS = range(1900, 2101)
_YEAR_DIGITS = 4  # "2,000" is no year
_CHAIN = 3  # so many numbers joined by dashes are a date or a telephone number; two may be a range
_GROUP = 3  # digits between thousands separators
_THOUSANDS = re.compile(r"\d{3}(?:[.,]\d{1,2})?")
_BETWEEN_ENDS: Final = DASHES | {"to", "and"}
_MODIFIERS = 2  # words between a number and what it counts: "1,200 new enterprise customers"


@dataclass(frozen=True, slots=True)
class Part:
    """A number as said; in a range its unit may still come from the other end.

    ``number`` is without ``scale``; ``unit`` is "%", "pp", "bps", "x" or "count"; ``per`` is what a price is per; the
    tokens are ``[first:last]``.
    """

    number: float
    first: int
    last: int
    scale: float = 1.0
    currency: str = ""
    unit: str = ""
    per: str = ""

    @property
    def known(self) -> bool:
        """Whether a currency, a unit or a scale word is said."""
        return bool(self.currency or self.unit) or self.scale > 1

    @property
    def value(self) -> float:
        """The number with its scale."""
        return self.number * self.scale


def word(tokens: Sequence[Token], index: int) -> str:
    """Return the token at ``index``, or "" beyond the ends."""
    return tokens[index].text if 0 <= index < len(tokens) else ""


def may_begin(token: Token) -> bool:
    """Return whether a number may begin with this token, in digits or in words."""
    text = token.text
    return token.kind == "number" or text in tables.SMALL_NUMBERS or text in tables.TENS or text == "a"


def _glued(tokens: Sequence[Token], index: int) -> bool:
    """Return whether no blank stands before the token at ``index``."""
    return 0 < index < len(tokens) and tokens[index - 1].end == tokens[index].start


def _digits(tokens: Sequence[Token], index: int) -> bool:
    return 0 <= index < len(tokens) and tokens[index].kind == "number"


def read_part(tokens: Sequence[Token], index: int) -> Part | None:
    """Return the number whose digits or words begin at ``index``; None where there is none."""
    if not _digits(tokens, index):
        number, after = _spoken(tokens, index)
    elif _is_name(tokens, index):
        return None
    else:
        number, after = _written(tokens, index)
    if number is None:
        return None
    before = index - 1
    if _leading_point(tokens, before):
        number, before = number / 10 ** len(tokens[index].text), before - 1
    if [word(tokens, after + n) for n in range(3)] == ["and", "a", "half"]:
        number, after = number + 0.5, after + 3
    if word(tokens, before) == "half" and word(tokens, index) == "a":
        before -= 1
    currency, before = _currency_before(tokens, before)
    bracket = word(tokens, before) == "(" and word(tokens, after) == ")"
    if bracket:  # accounting: "(1.2) million"; "($1.2 million)" is a remark
        number, before, after = -number, before - 1, after + 1
    elif _is_minus(tokens, before):
        number, before = -number, before - 1
    if not currency:  # "$(1.2) million", "-$5", "$-5"
        currency, before = _currency_before(tokens, before)
    scale, after = _scale(tokens, after, known=bool(currency))
    return _with_unit(tokens, Part(number, before + 1, after, scale, currency))


def _leading_point(tokens: Sequence[Token], index: int) -> bool:
    """Return whether the token at ``index`` is the point of ".5" or "$.5"."""
    if word(tokens, index) != "." or not _glued(tokens, index + 1):
        return False
    return not _glued(tokens, index) or tokens[index - 1].kind == "mark"


def _is_name(tokens: Sequence[Token], index: int) -> bool:
    """Return whether the digits are part of a name, a date, a time, a fraction or a telephone number."""
    before, after = word(tokens, index - 1), word(tokens, index + 1)
    chained = (before in DASHES or after in DASHES) and _chain(tokens, index)
    if _glued(tokens, index):
        named = tokens[index - 1].kind == "word" and before not in tables.CURRENCY_WORDS  # Q3, FY25
        if named or chained or before in {"/", ":", "'", "#", "@", "_", "&", "+"}:
            return True
    if _glued(tokens, index + 1):
        if chained or (
            after in {"/", ":", "_", "@"} and _glued(tokens, index + 2) and _digits(tokens, index + 2)
        ):
            return True
        if tokens[index + 1].kind == "word":  # 5G, 3rd; "10-K" has lost its hyphen and is not glued
            units = (
                tables.SCALES,
                tables.BASIS_POINTS,
                tables.TIMES,
                tables.PERCENT,
                tables.CURRENCY_WORDS,
                tables.GLUED,
            )
            return not any(after in table for table in units)
    return False


def _chain(tokens: Sequence[Token], index: int) -> bool:
    """Return whether three or more numbers are glued together by dashes around ``index``."""
    count = 1
    for step in (-1, 1):
        place = index
        while count < _CHAIN and _digits(tokens, place + 2 * step):
            low = min(place, place + 2 * step)
            if word(tokens, low + 1) not in DASHES or not (
                _glued(tokens, low + 1) and _glued(tokens, low + 2)
            ):
                break
            count, place = count + 1, place + 2 * step
    return count >= _CHAIN


def _written(tokens: Sequence[Token], index: int) -> tuple[float | None, int]:
    text, after = tokens[index].text, index + 1
    more = word(tokens, after)
    if (
        more in {".", ","}
        and not _glued(tokens, after)
        and _glued(tokens, after + 1)
        and _digits(tokens, after + 1)
    ):
        text, after = (
            text + more + tokens[after + 1].text,
            after + 2,
        )  # "EUR 18 .9", as tokenised texts have it
    elif _goes_on(tokens, index):
        text, after = text + more, after + 1
    return _value("".join(text.split())), after


def _goes_on(tokens: Sequence[Token], index: int) -> bool:
    """Return whether a blank parts thousands as in the other end, before it: "EUR 1 000 to 1 200 million"."""
    if not _digits(tokens, index + 1) or tokens[index + 1].start != tokens[index].end + 1:
        return False
    if len(tokens[index].text) > _GROUP or not _THOUSANDS.fullmatch(tokens[index + 1].text):
        return False
    before = _currency_before(tokens, index - 1)[1]
    if word(tokens, before) not in _BETWEEN_ENDS:
        return False
    before -= 1 + (word(tokens, before - 1) in tables.SCALES)
    return " " in word(tokens, before)


def _value(text: str) -> float | None:
    """Return the number that ``text`` writes: 1,200.5 or 3,5; None for what is no number (1.2.3)."""
    whole, _, decimals = text.partition(".")
    head, *groups = whole.split(",")
    if len(text) > _LONGEST or "." in decimals or "," in decimals:
        return None
    if not groups:
        return float(text)
    if (
        len(groups[-1]) == _GROUP
        and all(len(group) in {2, _GROUP} for group in groups)
        and len(head) <= _GROUP
    ):
        return float(text.replace(",", ""))
    comma = len(groups) == 1 and not decimals and len(groups[0]) < _GROUP  # a decimal comma
    return float(f"{head}.{groups[0]}") if comma else None


def _spoken(tokens: Sequence[Token], index: int) -> tuple[float | None, int]:
    """Return the number that words write at ``index``, and the token after it."""
    if tokens[index].text == "a":  # "a billion dollars", "half a million customers"
        scaled = (
            word(tokens, index + 1) in tables.SCALES and word(tokens, index + 1) not in tables.SHORT_SCALES
        )
        half = word(tokens, index - 1) == "half"
        return (0.5 if half else 1.0) if scaled else None, index + 1
    value, after = _below_hundred(tokens, index)
    if word(tokens, after) == "hundred":
        value, after = value * 100, after + 1
        rest = after + (word(tokens, after) == "and")
        if word(tokens, rest) in tables.SMALL_NUMBERS or word(tokens, rest) in tables.TENS:
            more, after = _below_hundred(tokens, rest)
            value += more
    if word(tokens, after) == "point" and word(tokens, after + 1) in tables.SMALL_NUMBERS:
        digits, after = "", after + 1
        while len(digits) < len("123456") and tables.SMALL_NUMBERS.get(word(tokens, after), 10) < len(
            "0123456789"
        ):
            digits, after = f"{digits}{tables.SMALL_NUMBERS[tokens[after].text]}", after + 1
        value = float(f"{value:.0f}.{digits or 0}")
    return value, after


def _below_hundred(tokens: Sequence[Token], index: int) -> tuple[float, int]:
    text = tokens[index].text
    if text in tables.SMALL_NUMBERS:
        return tables.SMALL_NUMBERS[text], index + 1
    unit = tables.SMALL_NUMBERS.get(word(tokens, index + 1), 0)
    return (tables.TENS[text] + unit, index + 2) if unit in range(1, 10) else (tables.TENS[text], index + 1)


def _currency_before(tokens: Sequence[Token], index: int) -> tuple[str, int]:
    """Return the currency that ends at ``index``, "" for none, and the token before it."""
    text = word(tokens, index)
    if text in tables.CURRENCY_SIGNS:
        prefix = word(tokens, index - 1).replace(".", "") if _glued(tokens, index) else ""
        if text == "$" and prefix in tables.DOLLARS:
            return tables.DOLLARS[prefix], index - 2
        return tables.CURRENCY_SIGNS[text], index - 1
    if text == "." and word(tokens, index - 1) == "rs":
        return "INR", index - 2
    code = text in tables.CURRENCY_WORDS and (len(text) <= len("eur") or text == "euro")
    return (tables.CURRENCY_WORDS[text], index - 1) if code else ("", index)


def _is_minus(tokens: Sequence[Token], index: int) -> bool:
    text = word(tokens, index)
    if text in DASHES and _glued(tokens, index + 1):
        return not _glued(tokens, index) or tokens[index - 1].kind == "mark"
    return text in {"minus", "negative"}


def _scale(tokens: Sequence[Token], index: int, *, known: bool) -> tuple[float, int]:
    """Return the factor of the scale words at ``index`` ("hundred million"), and the token after them."""
    factor = 1.0
    for _ in range(2):
        text = word(tokens, index)
        if text not in tables.SCALES or (
            text in tables.SHORT_SCALES and not (known or _glued(tokens, index))
        ):
            break
        factor, index = factor * tables.SCALES[text], index + 1
    return factor, index


def _with_unit(tokens: Sequence[Token], part: Part) -> Part | None:
    unit, after = _unit(tokens, part.last)
    if unit and not part.currency:
        return replace(part, unit=unit, last=after)
    if word(tokens, part.last) in tables.CENTS and not part.currency:
        part = replace(part, number=part.number / 100, currency="USD", last=part.last + 1)
    elif not part.currency:
        part = _currency_after(tokens, part)
    priced = _with_per(tokens, part)
    return priced if part.currency or priced.per == "share" else _counted(tokens, part)


def _unit(tokens: Sequence[Token], index: int) -> tuple[str, int]:
    """Return the unit at ``index``, "" for none, and the token after it."""
    text, following = word(tokens, index), word(tokens, index + 1)
    if text == "pp" or (text == "percentage" and following in tables.POINTS):
        return "pp", index + 1 + (text != "pp")
    if text in tables.BASIS_POINTS or (text == "basis" and following in tables.POINTS):
        return "bps", index + 1 + (text == "basis")
    if text in tables.PERCENT or (text == "per" and following == "cent"):
        after = index + 1 + (text == "per")
        return ("pp", after + 1) if word(tokens, after) in tables.POINTS else ("%", after)
    if text in tables.TIMES and following not in {"a", "per", "in"}:
        return "x", index + 1
    return "", index


def _currency_after(tokens: Sequence[Token], part: Part) -> Part:
    text = word(tokens, part.last)
    if text in tables.NATIONS:
        currency = tables.CURRENCY_WORDS.get(word(tokens, part.last + 1), "")
        currency = tables.NATIONAL_DOLLARS.get(text, currency) if currency == "USD" else currency
        return replace(part, currency=currency, last=part.last + 2) if currency else part
    if text in tables.CURRENCY_WORDS and (text != "rs" or _digits(tokens, part.first)):
        return replace(part, currency=tables.CURRENCY_WORDS[text], last=part.last + 1)
    next_ones = _glued(tokens, part.last + 1) and _digits(
        tokens, part.last + 1
    )  # in "2025 €5" the sign is the 5's
    if text in tables.CURRENCY_SIGNS and not next_ones:
        return replace(part, currency=tables.CURRENCY_SIGNS[text], last=part.last + 1)
    return part


def _with_per(tokens: Sequence[Token], part: Part) -> Part:
    link = word(tokens, part.last)
    if link not in {"per", "a", "/", "each"}:
        return part
    index = part.last + 1
    while word(tokens, index) in tables.PER_MODIFIERS:
        index += 1
    per = tables.PER.get(word(tokens, index), "")
    if not per or (link == "a" and word(tokens, index + 1) in tables.COMPARED):  # "$7 million a year ago"
        return part
    return replace(part, per=per, last=index + 1)


def _counted(tokens: Sequence[Token], part: Part) -> Part:
    """Return the part with what it counts; without that, a scale of one letter is none ("3M" is a name)."""
    for index in range(part.last, min(part.last + 1 + _MODIFIERS, len(tokens))):
        token = tokens[index]
        if token.text in tables.COUNTED and not is_date(tokens, part) and part.value > 1:
            return replace(part, unit="count", last=index + 1)
        if token.kind != "word" or token.text in tables.NO_MODIFIERS:
            break
    return replace(part, scale=1.0) if tokens[part.last - 1].text in tables.SHORT_SCALES else part


def is_date(tokens: Sequence[Token], part: Part) -> bool:
    """Return whether a number without a scale is a year or the day of a month."""
    if part.scale > 1:
        return False
    year = part.number in _YEARS and len(tokens[part.last - 1].text) == _YEAR_DIGITS
    return (
        year
        or word(tokens, part.first - 1) in tables.MONTHS
        or word(tokens, part.last) in tables.MONTHS - {"may", "march"}
    )

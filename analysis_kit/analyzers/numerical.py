"""`NumericalAnalyzer`: the numbers of a text as normalised values with units."""

from __future__ import annotations

import re
from typing import Any

from analysis_kit.analyzers.base import BaseAnalyzer
from analysis_kit.analyzers.text import Sentence, cut
from analysis_kit.results import Finding, Span

CURRENCIES = {
    "$": "USD", "us$": "USD", "usd": "USD", "c$": "CAD", "cad": "CAD", "a$": "AUD", "aud": "AUD", "€": "EUR", "eur": "EUR",
    "£": "GBP", "gbp": "GBP", "¥": "JPY", "jpy": "JPY", "chf": "CHF", "dollars": "USD", "euros": "EUR", "pounds": "GBP",
    "cents": "USD",
}  # fmt: skip
SCALES = {
    "trillion": 1e12, "tn": 1e12, "billion": 1e9, "bn": 1e9, "b": 1e9, "million": 1e6, "mn": 1e6, "m": 1e6,
    "thousand": 1e3, "k": 1e3,
}  # fmt: skip
UNITS = {
    "%": "%", "percent": "%", "per cent": "%", "percentage point": "pp", "percentage points": "pp", "basis point": "bps",
    "basis points": "bps", "bps": "bps", "bp": "bps", "x": "x", "times": "x",
}  # fmt: skip
#: Things that a call counts.
COUNTED = [
    "customers",
    "employees",
    "stores",
    "units",
    "orders",
    "contracts",
    "projects",
    "sites",
    "plants",
    "meters",
    "households",
    "subscribers",
    "users",
    "patients",
    "locations",
    "vehicles",
    "systems",
    "countries",
    "people",
    "jobs",
    "basins",
    "wells",
    "megawatts",
    "gigawatts",
    "tons",
    "tonnes",
    "barrels",
    "shares",
    "days",
    "weeks",
    "months",
    "years",
]
METRICS = [
    "revenue",
    "revenues",
    "sales",
    "income",
    "earnings",
    "profit",
    "margin",
    "margins",
    "ebitda",
    "ebit",
    "eps",
    "cash",
    "flow",
    "backlog",
    "bookings",
    "orders",
    "dividend",
    "capex",
    "expenditures",
    "expenses",
    "costs",
    "debt",
    "leverage",
    "guidance",
    "inventory",
    "churn",
    "retention",
    "growth",
    "volume",
    "volumes",
    "prices",
    "pricing",
    "tax",
    "rate",
    "depreciation",
    "r&d",
    "headcount",
    "utilization",
    "charge",
    "impairment",
    "loss",
    "buyback",
    "repurchases",
    "working",
    "capital",
]
UP = re.compile(
    r"\b(?:up|rose|grew|grow|increas\w*|improv\w*|higher|expand\w*|gain\w*|climb\w*|growth|above|rais\w+)\b",
    re.IGNORECASE,
)
DOWN = re.compile(
    r"\b(?:down|fell|declin\w*|decreas\w*|lower\w*|drop\w*|contract(?:ed|ion)|reduc\w*|below|shrank|cut)\b",
    re.IGNORECASE,
)
GUIDANCE = re.compile(
    r"\b(?:expect\w*|guid\w+|outlook|anticipat\w*|forecast\w*|project(?:ed|ing|s)?\s|target\w*|we see|we plan|should be|"
    r"will be (?:between|about|around|in the range)|for the full year)\b",
    re.IGNORECASE,
)
PERIOD = re.compile(
    r"\b(?:(?:first|second|third|fourth)[ -]quarter|q[1-4](?: (?:fy)?\d{2,4})?|(?:first|second) half|full[ -]year|fiscal \d{4}|"
    r"fy ?\d{2,4}|year[ -]over[ -]year|quarter[ -]over[ -]quarter|sequentially|next (?:year|quarter)|this (?:year|quarter)|20\d\d)\b",
    re.IGNORECASE,
)
_METRIC = re.compile(r"\b(?:free cash flow|operating margin|gross margin|net income|net loss|working capital|cash flow|tax rate|"
                     + "|".join(sorted(map(re.escape, METRICS), key=len, reverse=True)) + r")\b", re.IGNORECASE)  # fmt: skip
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,15}(?:\.\d+)?"
_CURRENCY = r"US\$|C\$|A\$|[$€£¥]|(?:USD|EUR|GBP|CAD|AUD|JPY|CHF)\b"
_SCALE = r"trillion|billion|million|thousand|(?:tn|bn|mn|[MmBbKk])\b"
_UNIT = r"%|per ?cent\b|percentage points?\b|basis points?\b|bps?\b|x\b|times\b|dollars\b|euros\b|pounds\b|cents\b"
_FIND = re.compile(
    rf"(?<![\w.,])(?P<open>\()?(?P<sign>[-\u2212+])?(?P<cur>{_CURRENCY})?\s?(?P<num>{_NUMBER})(?![\d])(?P<close>\))?"
    rf"(?:\s?(?P<scale>{_SCALE}))?(?:\s?(?P<unit1>{_UNIT}))?"
    rf"(?:\s?(?P<join>to|and|-|\u2013)\s?(?P<cur2>{_CURRENCY})?\s?(?P<num2>{_NUMBER})(?![\d])(?:\s?(?P<scale2>{_SCALE}))?(?:\s?(?P<unit2>{_UNIT}))?)?"
    rf"(?P<share>\s(?:per|a)\s(?:diluted\s)?share\b)?(?:\s(?P<counted>{'|'.join(COUNTED)})\b)?"
)
#: How far a direction or a metric may stand from its number, in characters.
REACH = 60


def numbers_in(text: str, sentence: Sentence) -> list[dict[str, Any]]:
    """Return the numbers of one sentence: see `NumericalAnalyzer`."""
    found = []
    guided = GUIDANCE.search(sentence.text) is not None
    for match in _FIND.finditer(text, sentence.start, sentence.end):
        found += [_normalised(text, sentence, part, guided=guided) for part in _parts(match)]
    return [number for number in found if number is not None]


def _parts(match: re.Match[str]) -> list[dict[str, Any]]:
    """Return one number, a range as one, or two that only stand beside each other."""
    g = match.groupdict()
    one = {"start": match.start(), "end": match.end(), **g, "high": None}
    if g["num2"] is None:
        return [one]
    before = match.string[max(0, match.start() - 9) : match.start()].lower()
    is_range = (g["join"] in {"to", "-", "\u2013"} and " from" not in before) or "between" in before
    is_range = is_range and (
        g["unit1"] is None or g["unit2"] is None or g["unit1"].lower() == g["unit2"].lower()
    )
    if is_range:
        return [{**one, "high": g["num2"]}]
    split = match.start("join")
    first = {**one, "end": split, "share": None, "counted": None}
    start = match.start("cur2") if g["cur2"] else match.start("num2")
    second = {
        **one,
        "start": start,
        "sign": None,
        "open": None,
        "close": None,
        "cur": g["cur2"],
        "num": g["num2"],
        "scale": g["scale2"],
        "unit1": g["unit2"],
    }
    first_alone = {**first, "scale2": None, "unit2": None}
    return [first_alone, {**second, "scale2": None, "unit2": None}]


def _normalised(
    text: str, sentence: Sentence, part: dict[str, Any], *, guided: bool
) -> dict[str, Any] | None:
    unit_word = (part["unit1"] or part["unit2"] or "").lower()
    scale_word = (part["scale"] or part["scale2"] or "").lower()
    currency = (part["cur"] or part["cur2"] or "").lower() or (unit_word if unit_word in CURRENCIES else "")
    counted = part["counted"]
    if currency:
        unit = CURRENCIES[currency] + ("/share" if part["share"] else "")
    elif unit_word:
        unit = UNITS.get(re.sub(r"\s+", " ", unit_word).replace("percent", "percent"), unit_word)
    elif counted or scale_word:
        unit = counted or "count"
    else:
        return None
    if (
        not currency
        and counted in {"days", "weeks", "months", "years"}
        and part["high"] is None
        and "," not in part["num"]
    ):
        return None
    factor = SCALES.get(scale_word, 1.0) * (0.01 if unit_word == "cents" else 1.0)
    low = float(part["num"].replace(",", "")) * factor
    high = low if part["high"] is None else float(part["high"].replace(",", "")) * factor
    if part["high"] is not None and part["scale"] and part["scale2"] and part["scale"] != part["scale2"]:
        low = float(part["num"].replace(",", "")) * SCALES[part["scale"].lower()]
    low, high = min(low, high), max(low, high)
    direction = _direction(text, sentence, part["start"], part["end"])
    negative = part["sign"] in {"-", "\u2212"} or (part["open"] and part["close"])
    if negative or (
        direction == "down" and unit in {"%", "bps", "pp"} and _moves(text, sentence, part["start"])
    ):
        low, high = -high, -low
    start, end = part["start"], part["end"]
    while end > start and text[end - 1].isspace():
        end -= 1
    kind = "guidance" if guided else "growth" if unit in {"%", "bps", "pp"} and direction else _kind(unit)
    period = PERIOD.search(sentence.text)
    return {
        "text": text[start:end],
        "kind": kind,
        "metric": _metric(text, sentence, start, end),
        "value": round((low + high) / 2, 10),
        "low": round(low, 10),
        "high": round(high, 10),
        "unit": unit,
        "period": period.group().lower() if period else None,
        "direction": direction,
        "start": start,
        "end": end,
    }


def _kind(unit: str) -> str:
    if unit in {"%", "pp", "bps"}:
        return "percent"
    if unit == "x":
        return "multiple"
    return "per share" if unit.endswith("/share") else "amount" if unit.isupper() else "count"


def _moves(text: str, sentence: Sentence, start: int) -> bool:
    """Say whether the number is the size of a move ("down 3%", "fell by 40 bps") and no level ("fell to 12%")."""
    before = text[max(sentence.start, start - 25) : start].lower()
    return not re.search(r"\b(?:to|at|of|was|were|from)\s(?:about\s|around\s|roughly\s)?$", before)


def _direction(text: str, sentence: Sentence, start: int, end: int) -> str | None:
    before, after = text[max(sentence.start, start - REACH) : start], text[end : min(sentence.end, end + 25)]
    places = [
        (len(before) - m.end(), word)
        for word, rx in (("up", UP), ("down", DOWN))
        for m in rx.finditer(before)
    ]
    places += [(m.start() + 5, word) for word, rx in (("up", UP), ("down", DOWN)) for m in rx.finditer(after)]
    return min(places)[1] if places else None


def _metric(text: str, sentence: Sentence, start: int, end: int) -> str | None:
    before, after = (
        text[max(sentence.start, start - REACH) : start],
        text[end : min(sentence.end, end + REACH)],
    )
    places = [(len(before) - m.end(), m.group().lower()) for m in _METRIC.finditer(before)]
    places += [(m.start() + 10, m.group().lower()) for m in _METRIC.finditer(after)]
    return min(places)[1] if places else None


class NumericalAnalyzer(BaseAnalyzer):
    """Amounts, percentages, basis points, per-share figures, multiples and counts, as values with units.

    ``values["numbers"]`` is a list in text order of: ``text`` as said; ``kind`` (guidance, growth, percent, amount, per
    share, multiple, count); ``metric`` nearby; ``value``, ``low``, ``high`` with the scale applied (the middle and the
    ends of a range); ``unit`` (an ISO currency, ``USD/share``, ``%``, ``bps``, ``pp``, ``x``, or what is counted);
    ``period``; ``direction``; ``start`` and ``end`` in the text. Parentheses and a minus make a value negative, and so
    does a downward word on the size of a move. Years, dates and bare numbers are no findings. A number is guidance if its
    sentence looks ahead ("we expect ..."). ``values`` also has ``count`` and ``guidance_count``.

    Examples
    --------
    >>> number, = NumericalAnalyzer().analyze("We expect revenue of $2.0 to $2.2 billion.").values["numbers"]
    >>> number["kind"], number["low"], number["high"], number["unit"]
    ('guidance', 2000000000.0, 2200000000.0, 'USD')
    """

    name = "numerical"
    kind = "rules"

    def ask(self, text: str) -> Finding:
        """Return the numbers of ``text``."""
        numbers = [number for sentence in cut(text).sentences for number in numbers_in(text, sentence)]
        guided = [number for number in numbers if number["kind"] == "guidance"]
        evidence = tuple(
            Span(number["start"], number["end"], number["text"], number["kind"]) for number in numbers
        )
        values = {"numbers": numbers, "count": len(numbers), "guidance_count": len(guided)}
        return Finding(values=values, evidence=evidence, method="rules")

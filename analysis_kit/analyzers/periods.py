"""Periods that a sentence names: quarters, halves, fiscal and calendar years, "last year"."""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Period(NamedTuple):
    """A named period: "Q3 2025", "H1", "FY2026", "2025", "prior year", and where it stands in the sentence."""

    name: str
    start: int
    end: int


_ORDINALS: Final = {"first": 1, "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4, "4th": 4}
_YEAR = r"(?:[ \t\n]{0,2}(?:of[ ])?(?:the[ ])?(?:fiscal[ ](?:year[ ])?|fy[ ]?)?(20\d\d)\b|[ ]?(?:fy[ ]?|['\u2019])(\d\d)\b)?"
_PERIOD = re.compile(
    rf"\b(?:q([1-4])|([1-4])q)(?:(\d\d)\b|{_YEAR})"  # 1-5: Q3, 3Q25, Q3 2025
    rf"|\b(first|second|third|fourth|1st|2nd|3rd|4th)[\s-]{{1,2}}(?:fiscal )?(quarter|half){_YEAR}"  # 6-9
    rf"|\b(?:h([12])|([12])h)(?:(\d\d)\b|{_YEAR})"  # 10-14: H1, 1H25
    r"|\b(?:full[\s-]{1,2}year|fiscal(?: year)?|fy)[ -]?(?:(20\d\d)|['\u2019]?(\d\d))\b(?![.,]?\d|%| percent)"  # 15, 16
    r"|\b(full[\s-]{1,2}year|fiscal year)\b"  # 17
    r"|\b((?:last|next|this|prior|previous|current)[\s-]{1,2}(?:year|quarter|month|half)"
    r"(?:[\s-]{1,2}(?:(?:first|second|third|fourth) )?(?:quarter|period))?"
    r"|year[\s-]ago(?: quarter| period)?|(?:a|one) year (?:ago|earlier)|year[\s-]to[\s-]date|(?:six|nine)[ -]months?)\b"  # 18
    r"|(?<![\w$\u20ac\u00a3.,])(20[0-4]\d|19[89]\d)\b(?![.,]?\d|[ ]?(?:%|percent|basis|million|billion))"  # 19
)


#: A period right after one of these is what is compared with: "up 5% over the prior year", "since 2019".
_BASIS = re.compile(
    r"\b(?:from|over|versus|vs\.?|than|against|since|(?:compared|relative) (?:to|with))\s(?:the\s|a\s)?(?:same\s)?$"
)
_BASIS_REACH = 30


def find_periods(text: str) -> list[Period]:
    """Return the periods of one sentence in lower case, from the left.

    Examples
    --------
    >>> [period.name for period in find_periods("in the third quarter of 2025 and fy26, up 5% over last year")]
    ['Q3 2025', 'FY2026']
    """
    return [
        Period(_name(match), *match.span())
        for match in _PERIOD.finditer(text)
        if not _BASIS.search(text, max(0, match.start() - _BASIS_REACH), match.start())
    ]


def _name(match: re.Match[str]) -> str:
    group = match.group
    for numbers, years, letter in (((1, 2), (3, 4, 5), "Q"), ((10, 11), (12, 13, 14), "H")):
        number = next((group(n) for n in numbers if group(n)), None)
        if number:
            return _with_year(f"{letter}{number}", [group(n) for n in years])
    if group(6):
        letter = "Q" if group(7) == "quarter" else "H"
        return _with_year(f"{letter}{_ORDINALS[group(6)]}", [group(8), group(9)])
    if group(15) or group(16):
        return f"FY{group(15) or '20' + group(16)}"
    if group(17):
        return "FY"
    return group(19) or re.sub(r"[\s-]+", " ", group(18))


def _with_year(name: str, years: list[str | None]) -> str:
    year = next((year for year in years if year), "")
    return f"{name} {year if len(year) != len('25') else '20' + year}".strip()

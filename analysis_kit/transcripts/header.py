"""What the lines before the first speech say about the call: company, ticker, quarter, date."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from analysis_kit.transcripts.names import ends_sentence

_LONGEST_LINE, _MOST_WORDS, _MONTHS_A_YEAR = 160, 8, 12
_EXCHANGES = (
    r"NYSE(?: American| Arca)?|NASDAQ(?:GS|GM|CM)?|AMEX|OTC\w{0,3}|LSE|LON|TSXV?|TSX-V|ASX|FRA|ETR|XETRA|EPA|BIT|BME"
    r"|HKEX|SEHK|HKG|TSE|TYO|NSE|BSE|SGX|SIX|SWX|VTX|STO|CPH|OSL|HEL|AMS|EURONEXT"
)
_TICKER = re.compile(
    rf"\(\s*(?:[A-Za-z][A-Za-z .]{{1,20}}:\s*)(?P<a>[A-Z0-9]{{1,6}}(?:[.\-][A-Z]{{1,3}})?)\s*\)"
    rf"|\b(?:{_EXCHANGES})\s*:\s*(?P<b>[A-Z0-9]{{1,6}}(?:[.\-][A-Z]{{1,3}})?)\b"
    r"|\((?P<c>[A-Z]{1,5}(?:[.\-][A-Z]{1,2})?)(?:\s+[-+\u2212]?\d+(?:\.\d+)?%)?\)"
)
_NO_TICKER = {
    *("CEO", "CFO", "COO", "CTO", "IR", "VP", "FY", "GAAP", "EUR", "GBP", "USD", "UK", "US", "USA"),
    *("CET", "EDT", "EST", "GMT", "PDT", "PST", "UTC"),
}
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "1st": 1, "2nd": 2, "3rd": 3, "4th": 4}
_YEAR = (
    r"(?:(?:of\s+)?(?:the\s+)?(?:fiscal\s*|financial\s*|full\s*|FY\s*)?(?:year\s*)?(?P<y{0}>20\d\d)"
    r"|(?:FY\s*['\u2019]?|['\u2019])(?P<z{0}>\d\d)(?!\d))"
)
_AND_FULL_YEAR = r"(?:\s*(?:and|&)\s*(?:(?:full|fiscal)[\s-]*)?(?:year)?)?"
_QUARTER = re.compile(
    rf"\bQ(?P<q1>[1-4])(?:(?!\w){_AND_FULL_YEAR}[\s,/-]*{_YEAR.format(1)}|\b)"
    rf"|\b(?P<q2>first|second|third|fourth|[1-4](?:st|nd|rd|th))[\s-]+quarter(?:(?!\w){_AND_FULL_YEAR}"
    rf"[\s,]*{_YEAR.format(2)}|\b)"
    r"|\b(?P<q3>[1-4])Q\s*['\u2019]?(?P<y3>20\d\d|\d\d)\b"
    r"|\b(?:FY\s?['\u2019]?|fiscal\s+(?:year\s+)?)(?P<y4>20\d\d|\d\d)[\s,-]*Q(?P<q4>[1-4])\b"
    r"|\b(?P<y6>20\d\d)[\s-]*Q(?P<q6>[1-4])\b"
    r"|\b(?P<half>H[12]|FY|full[\s-]year)[\s-]*(?P<y5>20\d\d)\b",
    re.IGNORECASE,
)
# Not `calendar.month_name`, which speaks the process's language.
_MONTH_NAMES = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_MONTHS = {
    **{name[:3]: number for number, name in enumerate(_MONTH_NAMES, start=1)},
    **{name: number for number, name in enumerate(_MONTH_NAMES, start=1)},
    "sept": 9,
}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DATE = re.compile(
    rf"\b(?P<m1>{_MONTH})\.?\s+(?P<d1>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y1>\d{{4}})\b"
    rf"|\b(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?[\s-]+(?P<m2>{_MONTH})\.?,?[\s-]+(?P<y2>\d{{4}})\b"
    r"|\b(?P<y3>\d{4})[-/.](?P<m3>\d{1,2})[-/.](?P<d3>\d{1,2})(?!\d)"
    r"|\b(?P<p>\d{1,2})[/.](?P<q>\d{1,2})[/.](?P<y4>\d{4})\b",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"(company(?: name)?|ticker(?: symbol)?|symbol|(?:fiscal )?(?:quarter|period)|(?:call |event )?(?:date(?:/time)?|time)"
    r"|event|title|duration|source|exchange|currency|copyright|language|location)\s*:\s*(.*)",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"\b(?:earnings|conference|results|investor)\b.*\bcall\b|\bresults\b.*\b20\d\d\b|\btranscript\b|\bwebcast\b|\bcontents\b"
    r"|\bstreetevents\b|\d\s*[ap]\.?m\b",
    re.IGNORECASE,
)
_SPEECH = re.compile(r"\b(?:I|we|our|us|you|your|my|is|are|was|were|will|thank|welcome)\b", re.IGNORECASE)
_LEAD = re.compile(
    r"^(?:(?:full |edited |final )?(?:call )?transcript(?: of)?|title|event)\b[\s:]*(?:the )?", re.IGNORECASE
)
_COMPANY_FORM = re.compile(
    r"\b(?:Inc|Corp|Corporation|Company|Co|Ltd|Limited|PLC|LLC|Group|Holdings?|AG|SE|SA|S\.A|N\.V|NV|AB|ASA|Oyj)\.?$",
    re.IGNORECASE,
)
_NO_COMPANY = re.compile(
    r"\b(?:reports|announces|earnings|call|transcript|results|quarter|fiscal|annual|conference|webcast|event|contents|half|full)\b",
    re.IGNORECASE,
)
# What follows a quarter and is no company: "Q1 2026 Preliminary Results".
_RESULTS = re.compile(
    r"\W*(?:(?:financial|preliminary|interim|unaudited|consolidated|trading|sales|business|operating|production|investors?"
    r"|analysts?|management|corporate|group|company|and|the)\b|\Z)",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Facts:
    """What is known about a call; None where nothing says so."""

    company: str | None = None
    ticker: str | None = None
    quarter: str | None = None
    date: dt.date | None = None

    def add(self, other: Facts) -> None:
        """Take over what is not known yet: the first mention wins."""
        self.company = self.company or other.company
        self.ticker = self.ticker or other.ticker
        self.quarter = self.quarter or other.quarter
        self.date = self.date or other.date

    def __bool__(self) -> bool:
        return any((self.company, self.ticker, self.quarter, self.date))


def find_quarter(text: str) -> str | None:
    """Return the first quarter, half or full year named, as ``"Q3 2025"``, ``"H1 2025"``, ``"FY 2025"``.

    Examples
    --------
    >>> find_quarter("Third Quarter Fiscal 2025 Results"), find_quarter("3Q25"), find_quarter("Q3")
    ('Q3 2025', 'Q3 2025', 'Q3')
    """
    found = _QUARTER.search(text)
    if not found:
        return None
    got = {name[0]: value for name, value in found.groupdict().items() if value}
    year = got.get("y") or got.get("z", "")
    year = f"20{year}" if len(year) == len("25") else year
    if "h" in got:
        return f"{got['h'].upper() if got['h'][0] in 'hH' else 'FY'} {year}"
    number = _ORDINALS.get(got["q"].casefold()) or got["q"]
    return f"Q{number} {year}".strip()


def find_date(text: str) -> dt.date | None:
    """Return the first day named; None for ``05/06/2025``, which is a day in May here and in June there.

    Examples
    --------
    >>> find_date("Held on Tuesday, October 28th, 2025")
    datetime.date(2025, 10, 28)
    """
    found = _DATE.search(text)
    if not found:
        return None
    got = {name[0]: value for name, value in found.groupdict().items() if value}
    if "p" in got:
        first, second = int(got["p"]), int(got["q"])
        if (first > _MONTHS_A_YEAR) == (second > _MONTHS_A_YEAR) and first != second:
            return None
        month, day = (second, first) if first > _MONTHS_A_YEAR else (first, second)
    else:
        month = _MONTHS.get(got["m"].casefold()) or int(got["m"])
        day = int(got["d"])
    try:
        return dt.date(int(got["y"]), month, day)
    except ValueError:
        return None


def _ticker(text: str) -> re.Match[str] | None:
    for found in _TICKER.finditer(text):
        if found["c"] not in _NO_TICKER:
            return found
    return None


def read_line(line: str) -> Facts | None:
    """Return what one line before the first speech says about the call; None if the line is no such line.

    Examples
    --------
    >>> read_line("Fernhill Foods (NYSE: FNH)").ticker
    'FNH'
    >>> read_line("We had a strong third quarter.") is None
    True
    """
    keyed = _KEY.fullmatch(line)
    if not line or len(line) > _LONGEST_LINE or (not keyed and (ends_sentence(line) or _SPEECH.search(line))):
        return None
    ticker = _ticker(line)
    facts = Facts(
        ticker=next(filter(None, ticker.groups())) if ticker else None,
        quarter=find_quarter(line),
        date=find_date(line),
    )
    if keyed:
        key, value = keyed[1].casefold(), keyed[2].strip()
        if key.startswith("company"):
            facts.company = company_in(value)
        elif key.startswith(("ticker", "symbol")) and re.fullmatch(r"[A-Z0-9.\-]{1,10}", value):
            facts.ticker = value
        return facts
    if not facts:
        return facts if _ABOUT.search(line) else None
    facts.company = company_in(line)
    return facts


def company_in(line: str) -> str | None:
    """Return the company that a title line opens with, perhaps behind the quarter; None if it opens with something else.

    Examples
    --------
    >>> company_in("Fernhill Foods, Inc. (NYSE: FNH) Q1 2026 Earnings Call")
    'Fernhill Foods, Inc.'
    >>> company_in("Q1 2026 Fernhill Foods Inc Earnings Call")
    'Fernhill Foods Inc'
    """
    line = _LEAD.sub("", line)
    quarter = _QUARTER.match(line)
    behind = quarter is not None and bool(_ABOUT.search(line)) and not _RESULTS.match(line, quarter.end())
    if quarter and behind:
        line = line[quarter.end() :]
    ticker = _ticker(line)
    stops = [
        found.start()
        for found in (ticker, _QUARTER.search(line), _DATE.search(line), _NO_COMPANY.search(line))
        if found
    ]
    name = line[: min(stops, default=len(line))].strip(" \t-\u2013\u2014:,|(/")
    name = re.sub(r"['\u2019]s$", "", name)
    words = name.split()
    if not 0 < len(words) <= _MOST_WORDS or words[0][0].islower() or words[-1] in ("and", "on", "of", "Held"):
        return None
    if behind:  # "Q1 2026 Media Conference Call": only what is surely a company is one
        listed = ticker is not None and not ticker["c"] and ticker.start() == min(stops)
        if not listed and (len(words) == 1 or not is_company(name)):
            return None
    return (
        None
        if re.fullmatch(r"[\W\d]*|(?:mon|tues|wednes|thurs|fri|satur|sun)day", name, re.IGNORECASE)
        else name
    )


def is_company(line: str) -> bool:
    """Tell whether a line ends in a form of company ("Inc.", "PLC")."""
    return len(line) <= _LONGEST_LINE // 2 and bool(_COMPANY_FORM.search(line))

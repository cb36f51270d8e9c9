"""What one line says for being a speaker's label; whether it is one, `labels` judges in the light of all lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Literal, NamedTuple

from analysis_kit.transcripts.header import read_line
from analysis_kit.transcripts.model import Role
from analysis_kit.transcripts.names import (
    PARTICLES,
    is_full_name,
    is_likely_name,
    is_name,
    is_research_house,
    is_title,
    nameless_role,
    role_of,
    speaks,
    split_dashes,
    split_person,
    title_and_house,
)
from analysis_kit.transcripts.reading import bare

Style = Literal["colon", "line"]

_LONGEST_HEAD = 120
_MOST_WORDS = 14
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d{1,3})?"
_LEAD = re.compile(rf"(?:[*_#>]+\s*|[\[(]?{_CLOCK}[\])]?\s+)+")
_TAIL = re.compile(rf"\s*(?:\[\d{{1,3}}\]|[\[(]{_CLOCK}[\])]|(?<=\s){_CLOCK}|[*_]+)$")
_MARKED = re.compile(r"<?\s*(?P<mark>[QA]|Question|Answer)\s*(?:--?|[\u2013\u2014])\s*(?P<rest>[^>]+?)\s*>?")
_BRACKETED = re.compile(r"\[([^\[\]]+)\]|<([^<>]+)>")
_COLONS = re.compile("[:\uff1a()\\[\\]]")
#: What no title line is without; looked for first, since all of them are looked for slowly.
_FACTS = re.compile(
    r"[\d(]|quarter|year|call|results|transcript|webcast|contents|(?-i:: *[A-Z]{1,6}\b)", re.IGNORECASE
)
#: A word and a lower-case word: speech, unless the second stands in names or in "Unidentified analyst".
_PROSE = re.compile(
    rf"[^\W\d_]+ (?!(?:{'|'.join(sorted(PARTICLES))}|\w*(?:tor|er|ive|ant)|analyst|company|corporate)\b)[a-z]+(?: |$)"
)


class Certainty(IntEnum):
    """How much a line itself says for being a label."""

    KNOWN_ONLY = 0  #: a bare word or name: a label if the name is known
    RECURRING = 1  #: a label if it recurs
    LIKELY = 2  #: a label unless the call is in another layout
    SURE = 3  #: names a title, a house or a role


class Claim(NamedTuple):
    """A line's claim to name a speaker: who, how sure, the speech behind it, the number of lines that it takes.

    ``opens`` tells whether the line opens a paragraph below the first.
    """

    name: str
    style: Style
    certainty: Certainty
    title: str | None = None
    affiliation: str | None = None
    role: Role = "unknown"
    speech: str = ""
    taken: int = 1
    opens: bool = False

    @property
    def is_bare(self) -> bool:
        """Whether the line is a name and nothing else."""
        return self.style == "line" and not self.title and not self.affiliation


def read_claims(lines: Sequence[str]) -> dict[int, Claim]:
    """Return the claims of stripped lines by line number, counted from 0."""
    return {index: claim for index in range(len(lines)) if (claim := _read(lines, index))}


def title_after(lines: Sequence[str], index: int) -> tuple[int, tuple[str | None, str | None] | None]:
    """Return the line where the title of the bare name in line ``index`` may stand, and title and affiliation."""
    at = index + 1 if index + 1 < len(lines) and lines[index + 1] else index + 2
    line = lines[at] if at < len(lines) and len(lines[at]) <= _LONGEST_HEAD else ""
    parts = split_dashes(bare(line)) if line and not _PROSE.match(line) else []
    # "CFO" and "Analyst" are labels of their own too, but not right under a name
    nameless = nameless_role(line)
    is_label = nameless is not None and (at > index + 1 or nameless not in ("analyst", "executive"))
    found = title_and_house(parts) if parts and not is_label else None
    if not found:
        return at, None
    # "Ada Byrne -- Chief Executive Officer" is the next label and not a title; "Harbor Lane -- Analyst" is one.
    opens = is_title(parts[0]) or is_research_house(parts[0])
    return at, found if opens or (at == index + 1 and role_of(found[0]) == "analyst") else None


def _read(lines: Sequence[str], index: int) -> Claim | None:
    line = lines[index]
    if not line or not (line[0].isalpha() or line[0] in "[(<*_#>0123456789\u200e\u200f\u202a\u202b\u2067"):
        return None
    opens = index > 0 and not lines[index - 1]
    colon = _colon(line)
    if colon:
        speech = line[colon + 1 :].lstrip("*_ ")
        claim = None if speech.startswith("/") else _read_head(line[:colon], "colon")
        if claim and not _is_about_the_call(line, claim):
            return claim._replace(speech=speech, opens=opens)
    if len(line) > _LONGEST_HEAD:
        return None
    claim = _read_head(line, "line")
    if claim is None or claim.certainty == Certainty.SURE:
        return claim
    if _is_about_the_call(line, claim):
        # "Tom Ek (UBS):" may be a company with its ticker, unless somebody is called so
        return claim if line.rstrip(":").endswith(f"({claim.affiliation})") else None
    if claim.is_bare and is_full_name(claim.name) and is_likely_name(claim.name):
        at, found = title_after(lines, index)
        if found:
            role, taken = role_of(*found), at - index + 1
            return Claim(claim.name, "line", Certainty.SURE, *found, role, taken=taken)
    return claim


def _is_about_the_call(line: str, claim: Claim) -> bool:
    """Tell whether a line is a title line of the call ("Fernhill Foods: Q3 2025 Earnings Call", "Contents:")."""
    if claim.certainty == Certainty.SURE or not _FACTS.search(line):
        return False
    facts = read_line(bare(line))
    return bool(facts) or (facts is not None and claim.certainty == Certainty.KNOWN_ONLY)


def _colon(line: str) -> int:
    """Return where the first colon stands that is not a clock's nor inside brackets; 0 if none is near the start."""
    depth = 0
    for found in _COLONS.finditer(line, 0, _LONGEST_HEAD):
        at, char = found.start(), found.group()
        if char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif depth <= 0 and not (line[at - 1 : at].isdigit() and line[at + 1 : at + 2].isdigit()):
            return at
    return 0


# Labels come again and again: what a head says is worked out once.
@lru_cache(maxsize=2048)
def _read_head(text: str, style: Style) -> Claim | None:
    """Return what a line, or its part before the colon, says by itself."""
    if _PROSE.match(text):
        return None
    head, stamped = _without_frame(bare(text))
    if style == "line":
        head = head.rstrip(":")
    marked = _MARKED.fullmatch(head)
    bracketed = None if marked else _BRACKETED.fullmatch(head)
    if marked:
        head = marked["rest"]
    elif bracketed:
        head = bracketed[1] or bracketed[2]
    name, separator, parts = split_person(head)
    known_as = title_and_house(parts) if parts else (None, None)
    role = nameless_role(name)
    if role and known_as:
        named = name.title() if name.isupper() and len(name) > len("CEO") else name
        return Claim(named, style, Certainty.SURE, *known_as, role)
    if (bracketed and style == "line") or not is_name(name) or speaks(name):
        return None
    if known_as is None:
        # A title in words that are not known may recur ("Ada Byrne -- Directrice générale"); speech does not.
        if style == "colon" or separator != "-" or len(head.split()) > _MOST_WORDS:
            return None
        known_as = (" - ".join(parts), None)
    said: Role | None = ("analyst" if marked["mark"][0] == "Q" else "executive") if marked else None
    sure = said is not None or (stamped and is_full_name(name))
    certainty = Certainty.SURE if sure else _certainty(name, style, separator, *known_as)
    return None if certainty is None else Claim(name, style, certainty, *known_as, said or role_of(*known_as))


def _certainty(
    name: str, style: Style, separator: str, title: str | None, house: str | None
) -> Certainty | None:
    likely = is_full_name(name) and is_likely_name(name)
    if (title and is_title(title)) or is_research_house(house):
        return Certainty.SURE
    if separator and style == "line" and separator != "-":
        return Certainty.KNOWN_ONLY if likely and house else None
    if separator or style == "colon":
        likely = likely and title is None
        recurs = separator or is_full_name(name)
        return Certainty.LIKELY if likely else Certainty.RECURRING if recurs else Certainty.KNOWN_ONLY
    return Certainty.RECURRING if likely else Certainty.KNOWN_ONLY


def _without_frame(head: str) -> tuple[str, bool]:
    """Return a head without Markdown, time stamps and numbers in brackets, and whether it had a stamp or number."""
    lead = _LEAD.match(head)
    head = (head[lead.end() :] if lead else head).replace("**", "")  # "**Ada Byrne** (CEO)"
    stamped = False
    while tail := _TAIL.search(head):
        stamped = stamped or tail.group().strip(" *_") != ""
        head = head[: tail.start()]
    return head.strip(), stamped

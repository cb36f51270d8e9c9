"""Lists of participants: who is on the call, with titles, houses and roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis_kit.transcripts.claims import Claim, title_after
from analysis_kit.transcripts.header import read_line
from analysis_kit.transcripts.headings import is_rule, own_heading, part_of, people_heading
from analysis_kit.transcripts.model import Role, Speaker
from analysis_kit.transcripts.names import (
    ends_sentence,
    is_name,
    nameless_role,
    role_of,
    speaks,
    split_person,
    title_and_house,
)
from analysis_kit.transcripts.reading import bare

_BULLETS = "*-\u2022\u00b7\u2023\u25e6\u2013\u2014 "
_LONGEST_ENTRY = 160


def read_participants(
    lines: Sequence[str], claims: Mapping[int, Claim]
) -> tuple[list[Speaker], frozenset[int]]:
    """Return the people listed under headings of participants, and the lines that the lists take.

    A list ends with the first line that names nobody. Where lists and labels look alike, an entry that comes a second
    time is a label, and so is one with speech right under it.
    """
    people: list[Speaker] = []
    taken: set[int] = set()
    heard: set[str] = set()
    index = 0
    while index < len(lines):
        line = lines[index]
        heading = people_heading(line) if line else None
        if heading:
            role, rest = heading
            inline = [person for entry in rest.split(";") if (person := _entry(entry, role))]
            listed, end = ([], index + 1) if inline else _listed(lines, claims, index + 1, role, heard)
            if inline or listed:
                people += [*inline, *listed]
                taken.update(range(index, end))
                index = end
                continue
        if index in claims:
            heard.add(claims[index].name.casefold())
        index += 1
    return people, frozenset(taken)


def _listed(
    lines: Sequence[str], claims: Mapping[int, Claim], start: int, role: Role, heard: set[str]
) -> tuple[list[Speaker], int]:
    """Return the people of one list and the line after it."""
    people: list[Speaker] = []
    names: set[str] = set()
    index = end = start
    while (index := _next(lines, index)) < len(lines):
        line = lines[index]
        person = None if part_of(line) or people_heading(line) else _entry(line, role)
        if person is None or person.name.casefold() in names:
            break
        following = index + 1
        if not (person.title or person.affiliation):
            at, known_as = title_after(lines, index)
            if known_as:
                person = Speaker(person.name, *known_as, role=_role(role, *known_as))
                following = at + 1
        if person.name.casefold() not in heard and _is_speech(lines, claims, _next(lines, following)):
            break
        people.append(person)
        names.add(person.name.casefold())
        index = end = following
    return people, end


def _next(lines: Sequence[str], index: int) -> int:
    while index < len(lines) and (not lines[index] or is_rule(lines[index])):
        index += 1
    return index


def _is_speech(lines: Sequence[str], claims: Mapping[int, Claim], index: int) -> bool:
    """Tell whether a line is what somebody says, and not the next entry, a label, a heading or a title line."""
    if index >= len(lines):
        return False
    line = lines[index]
    return not (
        index in claims
        or _entry(line, "unknown")
        or part_of(line)
        or people_heading(line)
        or read_line(line)
        or own_heading(lines, index, label_follows=True, in_front=False)
    )


def _role(listed_as: Role, title: str | None, house: str | None) -> Role:
    return listed_as if listed_as != "unknown" else role_of(title, house)


def _entry(line: str, role: Role) -> Speaker | None:
    text = bare(line).strip(_BULLETS)
    if len(text) > _LONGEST_ENTRY or ":" in text or nameless_role(text):
        return None
    name, _, parts = split_person(text)
    if not is_name(name) or speaks(name) or (not parts and " " not in name):
        return None
    known_as = title_and_house(parts) if parts else (None, None)
    if known_as is None:
        # A title in words that are not known is still a title in a list, but a sentence is none.
        if ends_sentence(text) or speaks(text):
            return None
        known_as = (" - ".join(parts), None)
    return Speaker(name, *known_as, role=_role(role, *known_as))

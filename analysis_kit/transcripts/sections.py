"""From speeches in a row to a call with sections: who asks, who answers, where an exchange begins.

The first section is ``Prepared remarks``; headings of the text's own part it further and keep their words. From the
first analyst on there is one section an exchange, ``Q&A 1: Priya Nair``:

- an exchange begins where an analyst speaks who is not the one being answered; follow-ups of that analyst stay in it;
- the operator's words that lead to an analyst open that analyst's exchange; after the last one they close it;
- under a heading of questions and answers, all that comes before the first analyst belongs to the first exchange; if
  no analyst is known there, the section is ``Q&A``;
- a heading of the text's own among the questions ("Closing remarks") ends the exchange before it.

Roles come from lists, titles and marks. Where these are silent, whoever the operator announces for a question is an
analyst, so is whoever first speaks among the questions and asks one, and whoever speaks before the questions is an
executive, provided that the call has an operator or an analyst at all; else the role stays "unknown".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from analysis_kit.transcripts.header import Facts
from analysis_kit.transcripts.headings import Part
from analysis_kit.transcripts.model import UNKNOWN, Role, Speaker, Transcript, Turn
from analysis_kit.transcripts.names import is_anonymous, nameless_role

PREPARED = "Prepared remarks"
QUESTIONS = "Q&A"

_ANNOUNCES = re.compile(
    r"\b(?:first|second|third|next|last|final|another|follow[- ]?up)\s+(?:\w+\s+)?questions?\b(?!\s*(?:-|and|&))"
    r"|\bquestions?\s+(?:\w+\s+){0,2}?(?:from|by)\b|\bthe line of\b"
    r"|\bnow\b[^.?!]{0,40}\bquestions?\b",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Speech:
    """What one speaker says at one go, with the headings in force; ``section`` where the source names it itself."""

    speaker: str
    text: str
    part: Part = ""
    heading: str = ""
    section: str = ""


@dataclass(slots=True)
class Draft:
    """What a layout's reader finds in a source; `finish` makes the transcript of it."""

    facts: Facts = field(default_factory=Facts)
    people: dict[str, Speaker] = field(default_factory=dict)
    speeches: list[Speech] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    #: Names whose roles the source states: nothing is inferred about them.
    settled: set[str] = field(default_factory=set)

    def meet(self, person: Speaker) -> None:
        """Add what is new about a person; what came first stays."""
        known = self.people.setdefault(person.name, person)
        if known != person:
            self.people[person.name] = Speaker(
                known.name,
                known.title or person.title,
                known.affiliation or person.affiliation,
                known.role if known.role != "unknown" else person.role,
            )

    def finish(self, source: str | None) -> Transcript:
        """Return the transcript, with roles and sections settled."""
        roles = self._roles()
        names = _sections(self.speeches, roles)
        turns = [
            Turn(index, name, speech.speaker, roles.get(speech.speaker, "unknown"), speech.text)
            for index, (speech, name) in enumerate(zip(self.speeches, names, strict=True))
        ]
        for name in roles:
            self.people.setdefault(name, Speaker(name))
        people = [
            replace(person, role=roles.get(name, person.role))
            for name, person in self.people.items()
            if name != UNKNOWN
        ]
        facts = self.facts
        return Transcript(
            facts.company,
            facts.ticker,
            facts.quarter,
            facts.date,
            tuple(turns),
            source=source,
            participants=tuple(people),
            header="\n".join(self.header),
        )

    def _roles(self) -> dict[str, Role]:
        roles: dict[str, Role] = {name: self._listed_role(person) for name, person in self.people.items()}
        for speech in self.speeches:
            roles.setdefault(speech.speaker, nameless_role(speech.speaker) or "unknown")
        prepared: set[str] = set()
        asking = announced = False
        before: Role = "unknown"
        for speech in self.speeches:
            name, role = speech.speaker, roles[speech.speaker]
            asking = asking or speech.part == "qa"
            if (
                role == "unknown"
                and name not in prepared
                and not (nameless_role(name) or name in self.settled)
            ):
                answers = before == "analyst" or (before != "operator" and "?" not in speech.text)
                if announced or (asking and not answers):
                    role = roles[name] = "analyst"
                elif not asking:
                    prepared.add(name)
            asking = asking or role == "analyst"
            announced = role == "operator" and bool(_ANNOUNCES.search(speech.text))
            before = role
        if not {"operator", "analyst"}.isdisjoint(roles.values()):
            roles.update(dict.fromkeys(prepared, "executive"))
        return roles

    def _listed_role(self, person: Speaker) -> Role:
        company, house = (self.facts.company or "").casefold(), (person.affiliation or "").casefold()
        if house and company and not person.title and (house in company or company in house):
            return "executive"
        return person.role


def _sections(speeches: Sequence[Speech], roles: dict[str, Role]) -> list[str]:
    """Return the name of each speech's section."""
    names = [""] * len(speeches)
    waiting: list[int] = []  # speeches whose section the next speaker decides
    current, analyst, heading, part, number = PREPARED, "", "", "", 0
    for index, speech in enumerate(speeches):
        opens_questions = speech.part == "qa" and part != "qa"
        if speech.section or speech.heading != heading or speech.part != part:
            _settle(names, waiting, current)
            if speech.section or speech.heading:
                current, analyst = speech.section or speech.heading, ""
            elif opens_questions:
                current, analyst = QUESTIONS, ""
            elif speech.part == "prepared":
                current, analyst = PREPARED, ""
            heading, part = speech.heading, speech.part
        waiting.append(index)
        role = roles[speech.speaker]
        # A heading of the text's own wins among the questions; before them, the first analyst ends its reach.
        free = not speech.section and (
            not heading or current.startswith(QUESTIONS) or not (number or part == "qa")
        )
        if free and role == "analyst":
            again = is_anonymous(speech.speaker) and len(waiting) > 1
            if speech.speaker != analyst or again:
                number, analyst = number + 1, speech.speaker
                current = f"{QUESTIONS} {number}: {analyst}"
            _settle(names, waiting, current)
        elif role != "operator" and not (current == QUESTIONS and free):
            _settle(names, waiting, current)
    _settle(names, waiting, current)
    return names


def _settle(names: list[str], waiting: list[int], section: str) -> None:
    for index in waiting:
        names[index] = section
    waiting.clear()

"""JSON: our own form, plain lists of turns, and the common ways to wrap such a list."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from analysis_kit.errors import TranscriptError
from analysis_kit.transcripts.header import Facts, find_date, find_quarter
from analysis_kit.transcripts.headings import part_of
from analysis_kit.transcripts.model import UNKNOWN, Role, Speaker
from analysis_kit.transcripts.names import nameless_role, role_of
from analysis_kit.transcripts.plain import read_plain
from analysis_kit.transcripts.reading import bare, clean, tidy
from analysis_kit.transcripts.sections import Draft, Speech

_TURNS = (
    "turns",
    "transcript",
    "utterances",
    "segments",
    "dialogue",
    "speeches",
    "paragraphs",
    "entries",
    "content",
    "text",
)
_SPEAKER = ("speaker", "name", "speaker_name", "speakerName")
_TEXT = ("text", "content", "speech", "transcript", "paragraph", "sentence")
_TITLE = ("title", "position", "speaker_title", "speakerTitle", "job_title")
_AFFILIATION = ("affiliation", "firm", "company", "organization")
_SECTION = ("section", "session", "component")
_PEOPLE = ("participants", "participant", "people", "speakers")
_COMPANY = ("company", "company_name", "companyName")
_TICKER = ("ticker", "symbol")
_DATE = ("date", "call_date", "event_date", "datetime", "time")
_YEAR = ("year", "fiscal_year", "fiscalYear")
_ROLES: dict[str, Role] = {role: role for role in get_args(Role)}


def read_json(text: str, where: str) -> Draft:
    """Return the draft of a JSON text.

    Parameters
    ----------
    text : str
        The JSON document.
    where : str
        The source's name, for the errors.

    Raises
    ------
    TranscriptError
        If it is no JSON (with the line), or has none of the forms that are known (with the keys that it has).
    """
    try:
        data = json.loads(text.lstrip("\ufeff"))
    except json.JSONDecodeError as exc:
        raise TranscriptError(
            f"{where}, line {exc.lineno}, column {exc.colno}: not valid JSON ({exc.msg}); expected an object with "
            "company, ticker, quarter, date and turns, or a list of turns",
            path=where,
            line=exc.lineno,
        ) from exc
    except (ValueError, RecursionError) as exc:
        raise TranscriptError(
            f"{where}: JSON that cannot be read ({exc}); expected an object with turns, or a list of turns",
            path=where,
        ) from exc
    return _Reader(where).read(data)


class _Reader:
    """One pass over one JSON value."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.draft = Draft()

    def read(self, data: Any) -> Draft:
        if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict) and not _is_turn(data[0]):
            data = data[0]
        if isinstance(data, list):
            return self._turns(data, "the list")
        if not isinstance(data, dict):
            raise self._unknown("an object or a list", type(data).__name__)
        self.draft.facts.add(_facts(data))
        for people in (data.get(key) for key in _PEOPLE):
            for person in people if isinstance(people, list) else ():
                if isinstance(person, dict) and _text(person, _SPEAKER):
                    self._meet(_text(person, _SPEAKER), person)
        return self._wrapped(data)

    def _wrapped(self, data: Mapping[str, Any]) -> Draft:
        for key in _TURNS:
            value = data.get(key)
            if isinstance(value, str) and value.strip():
                return self._plain(value, key)
            if isinstance(value, list):
                return self._turns(value, f'"{key}"')
            if isinstance(value, dict) and any(inner in value for inner in _TURNS):
                return self.read(value)
        raise self._unknown(f"a list of turns under one of {', '.join(_TURNS)}", _keys(data))

    def _unknown(self, expected: str, found: str) -> TranscriptError:
        return TranscriptError(
            f"{self.where}: JSON of an unknown form; expected {expected}, where a turn has a speaker "
            f"({', '.join(_SPEAKER)}) and a text ({', '.join(_TEXT)}); found {found}",
            path=self.where,
        )

    def _plain(self, text: str, key: str) -> Draft:
        draft = read_plain(clean(text))
        if draft is None:
            raise self._unknown(
                f'"{key}" to be a list of turns or a text with speaker labels',
                f"{len(text):,} characters without a label",
            )
        facts = self.draft.facts
        facts.add(draft.facts)
        draft.facts = facts
        for person in self.draft.people.values():
            draft.meet(person)
        return draft

    def _turns(self, turns: list[Any], place: str) -> Draft:
        if turns and all(isinstance(turn, str) for turn in turns):
            return self._plain("\n\n".join(turns), place.strip('"'))
        section = ""
        named = any(isinstance(turn, dict) and _is_turn(turn) for turn in turns)
        for number, turn in enumerate(turns, start=1):
            # where a recording's speakers were told apart, some passages may have none
            if not isinstance(turn, dict) or not (_is_turn(turn) or (named and _has_text(turn))):
                found = _keys(turn) if isinstance(turn, dict) else type(turn).__name__
                raise self._unknown(f"item {number} of {place} to be a turn", found)
            name = turn.get(next((key for key in _SPEAKER if key in turn), ""))
            speaker = self._speaker(name, turn, number)
            section = bare(clean(_text(turn, _SECTION))) or section
            text = self._speech(turn, number)
            if text:
                part = part_of(section.replace("_", " "))
                self.draft.speeches.append(Speech(speaker, text, part, section="" if part else section))
        if not self.draft.speeches:
            raise TranscriptError(
                f"{self.where}: no speech in the {len(turns):,} turns of {place}; expected at least one turn with "
                f"a text ({', '.join(_TEXT)})",
                path=self.where,
            )
        return self.draft

    def _speaker(self, name: Any, turn: Mapping[str, Any], number: int) -> str:
        if isinstance(name, dict):
            return self._speaker(_text(name, _SPEAKER), {**turn, **name}, number)
        if name is not None and not isinstance(name, (str, int)):
            raise self._unknown(f"the speaker of turn {number} to be a text", type(name).__name__)
        label = bare(clean(str(name))) if name is not None else ""
        return self._meet(label, turn) if label else UNKNOWN

    def _meet(self, label: str, facts: Mapping[str, Any]) -> str:
        name = bare(clean(label))
        title = bare(clean(_text(facts, _TITLE))) or None
        house = bare(clean(_text(facts, _AFFILIATION))) or None
        said = bare(clean(_text(facts, ("role",))))
        role = _ROLES.get(said.casefold())
        if role:
            self.draft.settled.add(name)
        else:
            title = title or said or None
            role = nameless_role(name) or role_of(title, house)
        self.draft.meet(Speaker(name, title, house, role))
        return name

    def _speech(self, turn: Mapping[str, Any], number: int) -> str:
        value = turn[next(key for key in _TEXT if key in turn)]
        parts = value if isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, str) for part in parts):
            raise self._unknown(f"the text of turn {number} to be a text", type(value).__name__)
        return tidy(clean("\n\n".join(part for part in parts if part)))


def _is_turn(data: Mapping[str, Any]) -> bool:
    return any(key in data for key in _SPEAKER) and _has_text(data)


def _has_text(data: Mapping[str, Any]) -> bool:
    return any(key in data for key in _TEXT)


def _keys(data: Mapping[str, Any]) -> str:
    return "the keys " + (", ".join(map(repr, list(data)[:12])) or "of an empty object")


def _text(data: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """Return the first of ``keys`` that holds a text or a number, as text; "" if none does."""
    for key in keys:
        value = data.get(key)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    return ""


def _facts(data: Mapping[str, Any]) -> Facts:
    quarter, year = _text(data, ("quarter", "period")), _text(data, _YEAR)
    named = f"Q{quarter}" if quarter.isdigit() else quarter
    found = find_quarter(f"{named} {year}".strip()) if named else None
    return Facts(
        company=bare(clean(_text(data, _COMPANY))) or None,
        ticker=bare(clean(_text(data, _TICKER))) or None,
        quarter=found or bare(clean(named)) or None,
        date=find_date(_text(data, _DATE)),
    )

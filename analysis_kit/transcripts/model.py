"""What a call is to the kit: `Transcript`, its `Turn` s and its `Speaker` s. All frozen, all hashable."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from analysis_kit import _html

if TYPE_CHECKING:
    import pandas as pd

Role = Literal["executive", "analyst", "operator", "unknown"]

#: The speaker of text that no label claims.
UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Speaker:
    """A person on the call.

    Parameters
    ----------
    name : str
        As the transcript spells it.
    title : str, optional
        The position ("Chief Financial Officer", "Analyst").
    affiliation : str, optional
        The house an analyst speaks for, where it is given apart from the title.
    role : {"executive", "analyst", "operator", "unknown"}
        What the person does on this call.
    """

    name: str
    title: str | None = None
    affiliation: str | None = None
    role: Role = "unknown"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker says at one go.

    Parameters
    ----------
    index : int
        Position in the call, from 0.
    section : str
        Name of the section that the turn belongs to.
    speaker : str
        Name of the speaker; ``"Unknown"`` where no label claims the text.
    role : {"executive", "analyst", "operator", "unknown"}
        The speaker's role.
    text : str
        The speech; paragraphs are parted by one blank line.
    """

    index: int
    section: str
    speaker: str
    role: Role
    text: str

    @property
    def words(self) -> int:
        """Number of words, counted between white space."""
        return len(self.text.split())


@dataclass(frozen=True, slots=True, repr=False)
class Transcript:
    """An earnings call as its turns, with what is known about the call.

    Two transcripts are equal when call, people and turns are; file and front matter do not count.

    Parameters
    ----------
    company, ticker, quarter : str or None
        None where the transcript does not say. A quarter reads ``"Q3 2025"``.
    date : datetime.date or None
        Day of the call.
    turns : sequence of Turn
        Everything that is said, in order; kept as a tuple.
    source : str, optional
        File that it was read from.
    participants : sequence of Speaker
        The people known by a list, a label or their role; kept as a tuple.
    header : str
        The lines that are about the call and not speech, as they stood: title lines, lists of participants,
        headings.

    Examples
    --------
    >>> turn = Turn(0, "Prepared remarks", "Ada Byrne", "executive", "Good morning. Sales rose.")
    >>> call = Transcript("Fernhill", "FNH", "Q1 2026", None, [turn])
    >>> call
    <Transcript FNH Q1 2026: 1 section, 1 speaker, 1 turn, 4 words>
    >>> dict(call.sections)
    {'Prepared remarks': 'Good morning. Sales rose.'}
    """

    company: str | None
    ticker: str | None
    quarter: str | None
    date: dt.date | None
    turns: tuple[Turn, ...]
    source: str | None = field(default=None, compare=False)
    participants: tuple[Speaker, ...] = ()
    header: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        # Lists are welcome; tuples keep the transcript frozen and hashable.
        object.__setattr__(self, "turns", tuple(self.turns))
        object.__setattr__(self, "participants", tuple(self.participants))

    @property
    def sections(self) -> Mapping[str, str]:
        """Section name -> its text (turns joined by a blank line), in the order of the call; read-only."""
        return _joined((turn.section, turn.text) for turn in self.turns)

    @property
    def speakers(self) -> Mapping[str, str]:
        """Speaker name -> all that the speaker says, in the order of first words; read-only."""
        return _joined((turn.speaker, turn.text) for turn in self.turns)

    @property
    def people(self) -> Mapping[str, Speaker]:
        """Name -> `Speaker`: the listed participants, then whoever else speaks; read-only."""
        people = {person.name: person for person in self.participants}
        for turn in self.turns:
            people.setdefault(turn.speaker, Speaker(turn.speaker, role=turn.role))
        return MappingProxyType(people)

    @property
    def id(self) -> str:
        """A short stable name for tables: ticker and quarter, else the file's stem, else the company."""
        if self.ticker:
            return f"{self.ticker} {self.quarter}" if self.quarter else self.ticker
        if self.source:
            return PurePath(self.source).stem
        return " ".join(part for part in (self.company, self.quarter) if part) or "transcript"

    def to_frame(self) -> pd.DataFrame:
        """Return one row a turn.

        Returns
        -------
        pandas.DataFrame
            Columns ``document index section speaker role title words text``; ``index`` counts turns from 0,
            ``words`` is the number of words, ``title`` is missing where unknown.
        """
        from analysis_kit.frames import TURN_COLUMNS, frame

        people = self.people
        document = self.id
        records = [
            {
                **asdict(turn),
                "document": document,
                "title": people[turn.speaker].title,
                "words": turn.words,
            }
            for turn in self.turns
        ]
        return frame(records, TURN_COLUMNS)

    def to_dict(self) -> dict[str, Any]:
        """Return the transcript as JSON values, in the form that `parse_transcript` reads back as it was."""
        return {
            "company": self.company,
            "ticker": self.ticker,
            "quarter": self.quarter,
            "date": self.date.isoformat() if self.date else None,
            "participants": [asdict(person) for person in self.participants],
            "turns": [
                {"speaker": turn.speaker, "role": turn.role, "section": turn.section, "text": turn.text}
                for turn in self.turns
            ],
        }

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{count:,} {noun}{'' if count == 1 else 's'}"
            for count, noun in (
                (len(self.sections), "section"),
                (len(self.speakers), "speaker"),
                (len(self.turns), "turn"),
                (sum(turn.words for turn in self.turns), "word"),
            )
        )
        return f"<Transcript {self.id}: {counts}>"

    def _repr_html_(self) -> str:
        people = self.people
        known = (self.company, self.ticker, self.quarter, self.date)
        return _html.block(
            f"<p><b>{_html.escape(self.id)}</b> <span class='dim'>",
            _html.escape(" · ".join(str(fact) for fact in known if fact)),
            "</span></p>",
            _html.table(
                ("section", "words"),
                [(name, len(text.split())) for name, text in self.sections.items()],
                caption="Sections",
            ),
            _html.table(
                ("speaker", "role", "title", "words"),
                [
                    (name, people[name].role, people[name].title or "", len(text.split()))
                    for name, text in self.speakers.items()
                ],
                caption="Speakers",
            ),
        )


def _joined(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    texts: dict[str, list[str]] = {}
    for name, text in pairs:
        texts.setdefault(name, []).append(text)
    return MappingProxyType({name: "\n\n".join(parts) for name, parts in texts.items()})

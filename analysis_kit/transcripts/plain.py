"""Plain text: lines in a row to speeches, by labels, headings and what stands before the first speech."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from analysis_kit.transcripts.claims import Claim, read_claims
from analysis_kit.transcripts.header import Facts, company_in, is_company, read_line
from analysis_kit.transcripts.headings import Part, is_rule, own_heading, part_of, people_heading
from analysis_kit.transcripts.labels import LabelBook
from analysis_kit.transcripts.model import UNKNOWN, Role, Speaker
from analysis_kit.transcripts.names import ends_sentence
from analysis_kit.transcripts.participants import read_participants
from analysis_kit.transcripts.reading import bare, tidy
from analysis_kit.transcripts.sections import Draft, Speech

_TITLE_LINES = 6
#: FactSet's marks, alone under a label.
_MARKS: dict[str, Role] = {"Q": "analyst", "A": "executive"}
_LONGEST_NAME = 8


def read_plain(text: str) -> Draft | None:
    """Return the draft of a plain text that is clean; None if no line of it is a speaker's label.

    Every line ends up in a speech, in a label or in the header: what is neither label, heading, list of participants
    nor title line is speech, of the speaker before it or, before any label, of ``"Unknown"``.
    """
    lines = [line.strip() for line in text.split("\n")]
    claims = read_claims(lines)
    listed, skip = read_participants(lines, claims)
    book = LabelBook({index: claim for index, claim in claims.items() if index not in skip}, listed)
    return _Reader(lines, book, listed, skip).read() if book else None


class _Reader:
    """One pass over the lines of one text."""

    def __init__(
        self, lines: Sequence[str], book: LabelBook, listed: Sequence[Speaker], skip: frozenset[int]
    ) -> None:
        self.lines = lines
        self.book = book
        self.skip = skip
        self.draft = Draft()
        for person in listed:
            self.draft.meet(person)
        self.speaker: str | None = None
        self.part: Part = ""
        self.heading = ""
        self.headings: Counter[str] = Counter()
        self.speech: list[str] = []
        self.front = True
        # One without the other may be the first word of a speech.
        labels = [(index, label) for index in range(len(lines)) if (label := book.at(index))]
        self.marked = _MARKS.keys() <= {self._mark_under(index, label) for index, label in labels}

    def read(self) -> Draft:
        index = 0
        while index < len(self.lines):
            index += self._take(index)
        self._end_speech()
        return self.draft

    def _take(self, index: int) -> int:
        """Put one line where it belongs; return how many lines that took."""
        line = self.lines[index]
        if not line or is_rule(line):
            self.speech.append("")
            return 1
        if index in self.skip:
            self._end_speech()
            self.speaker = None
            self.draft.header.append(line)
            return 1
        label = self.book.at(index)
        if label:
            self._end_speech()
            self.front = False
            self.speaker = label.name
            self.speech.append(label.speech)
            mark = self._mark_under(index, label) if self.marked else ""
            role = _MARKS.get(mark, label.role)
            self.draft.meet(Speaker(label.name, label.title, label.affiliation, role))
            return label.taken + bool(mark)
        part = part_of(line)
        if part:
            self._open(line, part, "")
        elif self.front and self._is_title_line(index):
            self.draft.header.append(line)
        elif title := self._own_heading(index):
            key = title.casefold()
            self.headings[key] += 1
            again = self.headings[key]
            self._open(line, self.part, title if again == 1 else f"{title} ({again})")
        else:
            self.speech.append(line)
        return 1

    def _mark_under(self, index: int, label: Claim) -> str:
        """Return the mark under a label that may have it, "" for none."""
        after = index + label.taken
        mark = self.lines[after] if label.style == "line" and after < len(self.lines) else ""
        return mark if mark in _MARKS and label.role in ("unknown", _MARKS[mark]) else ""

    def _open(self, line: str, part: Part, heading: str) -> None:
        self._end_speech()
        self.part, self.heading = part, heading
        self.draft.header.append(line)

    def _end_speech(self) -> None:
        text = tidy("\n".join(self.speech))
        self.speech.clear()
        if text:
            self.draft.speeches.append(Speech(self.speaker or UNKNOWN, text, self.part, self.heading))

    def _own_heading(self, index: int) -> str | None:
        following = next((i for i in range(index + 1, len(self.lines)) if self.lines[i]), None)
        # What stands right under a label is that speaker's, and what stands last has nothing to head.
        if following is None or (
            self.speaker and not any(self.speech) and not self.lines[index].startswith("#")
        ):
            return None
        while is_rule(self.lines[following]) and following + 1 < len(self.lines):
            following += 1
        return own_heading(
            self.lines, index, label_follows=self.book.at(following) is not None, in_front=self.front
        )

    def _is_title_line(self, index: int) -> bool:
        """Tell whether a line before the first label is about the call, and take what it says."""
        line = bare(self.lines[index]).strip("*#_ ")
        facts = read_line(line)
        if (
            facts is None
            and not any(self.speech)
            and not self.draft.header
            and self._names_company(line, index)
        ):
            facts = Facts(company=company_in(line))
        if facts is not None:
            self.draft.facts.add(facts)
        return facts is not None or people_heading(line) is not None

    def _names_company(self, line: str, index: int) -> bool:
        """Tell whether the text's first line is the company, to which the lines under it add quarter or date."""
        words = line.split()
        if (
            not 0 < len(words) <= _LONGEST_NAME
            or words[0][0].islower()
            or (ends_sentence(line) and not is_company(line))
        ):
            return False
        return is_company(line) or any(
            read_line(bare(later)) for later in self.lines[index + 1 : index + 1 + _TITLE_LINES]
        )

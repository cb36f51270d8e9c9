"""WebVTT and SubRip captions: cues to speeches, by voice tags or by labels at the start of a cue's line.

Timings, identifiers, styles and notes are dropped (a note before the first cue may name call and participants); the
lines and cues of one speaker are joined by a space into one speech. A line that rolling captions show as it is spoken,
and then again, is taken once.
"""

from __future__ import annotations

import html
import re
from typing import NamedTuple

from analysis_kit.errors import TranscriptError
from analysis_kit.transcripts.claims import read_claims
from analysis_kit.transcripts.header import Facts, read_line
from analysis_kit.transcripts.headings import people_heading
from analysis_kit.transcripts.labels import LabelBook
from analysis_kit.transcripts.model import UNKNOWN, Speaker
from analysis_kit.transcripts.names import nameless_role, role_of, split_person, title_and_house
from analysis_kit.transcripts.participants import read_participants
from analysis_kit.transcripts.reading import bare
from analysis_kit.transcripts.sections import Draft, Speech

_TIMING = re.compile(r"(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}\s*-->")
#: SubRip is WebVTT's forerunner: the same cues, without a head; known by its number, or by the comma in its clock.
SUBRIP = re.compile(
    r"\s*(?:\d+[ \t]*\n(?:\d+:)?\d{1,2}:\d{2}[.,]|(?:\d+:)?\d{1,2}:\d{2},)\d{1,3}[ \t]*-->[ \t]*\d"
)
_VOICE = re.compile(r"<v(?:\.[^\s<>]{0,99})?(?:\s+([^<>]{0,199}))?>")
#: Only the format's own tags: other angle brackets are what somebody typed.
_TAGS = re.compile(r"</?(?:v|c|i|b|u|ruby|rt|lang|font)(?:[.\s][^<>]{0,199})?>")
_CLOCK = re.compile(r"<\d{1,3}:[\d:.]{1,12}>")
_NO_CUE = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")


class _Said(NamedTuple):
    """The words of a line; ``voice`` is None where no tag names one, ``timed`` tells of clocks between the words."""

    voice: str | None
    words: str
    timed: bool


def read_webvtt(text: str, where: str) -> Draft:
    """Return the draft of a WebVTT or SubRip text that is clean.

    Parameters
    ----------
    text : str
        The whole file.
    where : str
        The source's name, for the errors.

    Raises
    ------
    TranscriptError
        If it opens neither with ``WEBVTT`` nor with a cue of SubRip, or has no cue with words.
    """
    if SUBRIP.match(text):
        text = f"WEBVTT\n\n{text}"
    blocks = re.split(r"\n[ \t]*(?:\n[ \t]*)+", text.strip("\n \t"))
    head, *rest = blocks[0].split("\n")
    if not re.match(r"WEBVTT(?:\s|$)", head):
        raise TranscriptError(
            f"{where}, line 1: neither WebVTT nor SubRip; expected the word WEBVTT or a cue's number, found {head[:40]!r}",
            path=where,
            line=1,
        )
    notes: list[str] = [head.removeprefix("WEBVTT").strip(" \t-\u2013\u2014:"), *rest]
    said: list[list[_Said]] = []
    cues = 0
    for block in blocks[1:]:
        first, *others = block.split("\n")
        if _NO_CUE.match(first):
            if first.startswith("NOTE") and not cues:
                notes += [first.removeprefix("NOTE").strip(), *others, ""]
            continue
        payload = [first, *others]
        timed = next((i for i, line in enumerate(payload[:2]) if _TIMING.match(line)), None)
        if timed is not None:
            cues += 1
            payload = payload[timed + 1 :]
        # A block without a timing is the rest of a cue that has a blank line in it: words all the same.
        said.append(_voices(payload))
    draft = _speeches(_once(said))
    if not draft.speeches:
        raise TranscriptError(
            f"{where}: captions without a cue that has words ({cues:,} cues found); expected a timing line "
            "(00:00:01.000 --> 00:00:04.000) with speech under it",
            path=where,
        )
    _read_notes(draft, notes)
    return draft


def _voices(payload: list[str]) -> list[_Said]:
    """Cut a cue at its voice tags; a voice holds to the end of its cue."""
    found: list[_Said] = []
    voice: str | None = None
    for line in payload:
        pieces = _VOICE.split(line)
        for at, piece in enumerate(pieces):
            if at % 2:
                voice = bare(html.unescape(piece or "")) or None
            else:
                parts = _CLOCK.split(_TAGS.sub("", piece))
                if words := " ".join(html.unescape("".join(parts)).split()):
                    found.append(_Said(voice, words, sum(map(bool, map(str.strip, parts))) > 1))
    return found


def _once(blocks: list[list[_Said]]) -> list[_Said]:
    """Return the lines without those that rolling captions show again: clocks part the words of a line only at first."""
    every: list[_Said] = []
    once: list[_Said] = []
    for said in blocks:
        every += said
        again = said and once and once[-1].timed and said[0] == once[-1]._replace(timed=False)
        once += said[1:] if again else said
    # Where other lines have no clocks either, somebody may have said the same again.
    return once if all(line.timed or " " not in line.words for line in once) else every


def _speeches(lines: list[_Said]) -> Draft:
    draft = Draft()
    book = LabelBook(read_claims(["" if voice else words for voice, words, _ in lines]))
    spoken: list[tuple[str, list[str]]] = []
    speaker, skip = UNKNOWN, 0
    for index, (voice, words, _) in enumerate(lines):
        if index < skip:
            continue
        label = None if voice else book.at(index)
        if voice:
            speaker = _meet(draft, voice)
        elif label:
            speaker, words, skip = label.name, label.speech, index + label.taken  # noqa: PLW2901 - the label is cut off
            draft.meet(Speaker(label.name, label.title, label.affiliation, label.role))
        if not spoken or spoken[-1][0] != speaker:
            spoken.append((speaker, []))
        spoken[-1][1].append(words)
    draft.speeches = [
        Speech(name, text) for name, parts in spoken if (text := " ".join(part for part in parts if part))
    ]
    return draft


def _meet(draft: Draft, voice: str) -> str:
    """Return the name in a voice tag, which may hold a title too ("Ada Byrne, Chief Executive Officer")."""
    name, _, parts = split_person(voice)
    known_as = title_and_house(parts) if parts else (None, None)
    if known_as is None or not name:
        name, known_as = voice, (None, None)
    draft.meet(Speaker(name, *known_as, role=nameless_role(name) or role_of(*known_as)))
    return name


def _read_notes(draft: Draft, notes: list[str]) -> None:
    """Take call and participants from the head and the notes before the first cue."""
    lines = [bare(line) for line in notes]
    listed, _ = read_participants(lines, read_claims(lines))
    for person in listed:
        draft.meet(person)
    for line in lines:
        if line and not people_heading(line):
            draft.facts.add(read_line(line) or Facts())
    draft.header = [line for line in lines if line]

"""Sentences and words of a text, cut once and shared by all rule analyzers."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

#: Ends in a full stop without ending a sentence.
ABBREVIATIONS = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "inc",
        "corp",
        "co",
        "ltd",
        "llc",
        "plc",
        "vs",
        "etc",
        "no",
        "approx",
        "est",
        "dept",
        "jr",
        "sr",
        "st",
        "u.s",
        "u.k",
        "e.g",
        "i.e",
        "a.m",
        "p.m",
        "fig",
        "ca",
    ]
)

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_END = re.compile(r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s|$)|\n\s*\n")
_LAST_WORD = re.compile(r"[^\W\d_][\w.]{0,15}$")


@dataclass(frozen=True, slots=True)
class Sentence:
    """``text[start:end]`` of the whole text, without the blanks around it."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Word:
    """One word in lower case, and where it stands."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class CutText:
    """A text in its sentences and words."""

    sentences: tuple[Sentence, ...]
    words: tuple[Word, ...]


@functools.lru_cache(maxsize=256)
def cut(text: str) -> CutText:
    """Return the sentences and words of ``text``; the last 256 texts are remembered, so that analyzers share the work.

    A sentence ends at ``.``, ``!``, ``?`` before a blank, or at an empty line; not after an abbreviation, an initial, or
    inside a number. Words are runs of letters, with apostrophes and hyphens inside.

    Examples
    --------
    >>> [sentence.text for sentence in cut("Revenue was $3.5 million. Mr. Ode agreed.").sentences]
    ['Revenue was $3.5 million.', 'Mr. Ode agreed.']
    """
    words = tuple(Word(match.group().lower(), *match.span()) for match in _WORD.finditer(text))
    return CutText(tuple(_sentences(text)), words)


def _sentences(text: str) -> list[Sentence]:
    found: list[Sentence] = []
    begin = 0
    for match in _END.finditer(text):
        if match.group().startswith(".") and _goes_on(text, match.start(), match.end()):
            continue
        _add(found, text, begin, match.end())
        begin = match.end()
    _add(found, text, begin, len(text))
    return found


def _goes_on(text: str, dot: int, end: int) -> bool:
    """Say whether a full stop belongs to an abbreviation or an initial, or what follows is no beginning."""
    before = _LAST_WORD.search(text, max(0, dot - 16), dot)
    word = before.group().lower() if before is not None else ""
    if word in ABBREVIATIONS or len(word) == 1:
        return True
    after = text[end : end + 3].lstrip()
    return bool(after) and after[0].islower()


def _add(found: list[Sentence], text: str, start: int, end: int) -> None:
    body = text[start:end]
    stripped = body.strip()
    if stripped:
        first = start + len(body) - len(body.lstrip())
        found.append(Sentence(first, first + len(stripped), stripped))

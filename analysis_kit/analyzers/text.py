"""Sentences and words of a text, cut once and shared by all rule analyzers.

Every step is one pass: each pattern either matches what it starts on or moves on, so that a megabyte of blanks, dots
or digits costs no more than a megabyte of speech.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Kind = Literal["word", "number", "mark"]


class Token(NamedTuple):
    """A word, a number or a mark in lower case; ``text[start:end]`` of the whole is how it was written."""

    text: str
    start: int
    end: int
    kind: Kind


class Sentence(NamedTuple):
    """A sentence without the blanks around it: ``whole[start:end] == text``; ``tokens[first:last]`` of its `CutText`."""

    text: str
    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class CutText:
    """A text with its tokens and sentences.

    Attributes
    ----------
    text : str
        The text as given; all offsets count its characters.
    tokens : tuple of Token
        Words, numbers and marks in order. The parts of a hyphenated compound are tokens of their own and the hyphen
        between them is none, so that "year-over-year" and "year over year" are the same.
    words : tuple of Token
        The tokens that are words.
    sentences : tuple of Sentence
        Together they hold everything but the blanks between them.
    """

    text: str
    tokens: tuple[Token, ...]
    words: tuple[Token, ...]
    sentences: tuple[Sentence, ...]

    def tokens_of(self, sentence: Sentence) -> tuple[Token, ...]:
        """Return the tokens of one of the sentences."""
        return self.tokens[sentence.first : sentence.last]


def word_set(words: str) -> frozenset[str]:
    """Return the blank-separated ``words`` as a set; a table reads best as plain lines of words."""
    return frozenset(words.split())


#: Thousands parted by blanks, where they cannot be two numbers: a thin space parts no others, and no number begins with 0.
_THOUSANDS = (
    r"(?<![.,])(?:(?<!\d[ \u00a0])[1-9]\d\d|[1-9]\d?)(?:[ \u00a0]0\d\d|[\u2009\u202f]\d{3})+"
    r"(?:[.,]\d{1,2})?(?![.,]?\d|[ \u00a0]\d{3}(?!\d))"
)
_TOKEN = re.compile(
    rf"({_THOUSANDS}|\d+(?:[.,]\d+)*)"  # 1: 3  3.5  1,200.75  1 000 000
    r"|((?:[^\W\d_]\.){2,}|[^\W\d_]+(?:['\u2019][^\W\d_]+)*)"  # 2: U.S.  growth  don't
    r"|(?<=[^\W_])-(?=[^\W\d_])"  # the hyphen inside a compound: no token
    r"|([.,*=~#_!?-]{2,}|[^\w\s]|_)"  # 3: a mark; a run of stops, commas or dashes is one
)
_KINDS: Final[tuple[Kind, ...]] = ("number", "word", "mark")

_WIDE_STOPS = "\u3002\uff01\uff1f"  # the stops of Chinese and Japanese; no blank follows them
_CLOSERS = "\"'\u201d\u2019)]\u00bb"
#: Where a sentence may end: marks with the quotes and brackets that close after them, or a line's end.
_STOP = re.compile(r"[.!?\u2026\u3002\uff01\uff1f]+[\"'\u201d\u2019)\]\u00bb]*|\n\s*")
_AFTER_STOP = re.compile(r"\s++[\"'\u201c\u2018(\[\u00ab]*+(\w{0,20}(?:['\u2019]\w{1,3})?)")
_BEFORE_STOP = re.compile(r"[\w.&'\u2019]+$")
_BULLETS = ("\u2022 ", "\u25aa ", "* ", "- ", "\u2013 ")

#: After these a full stop never ends a sentence.
_TITLES = word_set("""
    mr mrs ms dr prof messrs mme gen sen rep gov hon st mt vs v e.g i.e eg ie approx incl excl avg mgmt dept fig
    figs cf pp vol viz resp
""")
#: After these, after initials and after dotted forms it does only where the next word is one that opens sentences.
_SHORT_FORMS = word_set("""
    inc corp ltd co cos llc llp plc bros jr sr etc intl assn al est ave blvd rs
    jan feb mar apr jun jul aug sep sept oct nov dec
""")
_OPENERS = word_set("""
    the a an this that these those there it its our we i you he she they my your
    we're we've we'll we'd i'm i've i'll i'd it's that's they're let let's what's
    in on at as by for from with to of over under during before after since until through within
    and but or so yet if when while although though because despite given
    however also additionally furthermore moreover meanwhile overall finally now then today next first second third
    excluding including compared looking turning what which who how why where
    is are was were do does did can could would will yes no not
    thank thanks good hello hi okay well please operator
    all both each one two some many most more net total operating gross adjusted
    revenue revenues sales earnings cash demand costs margins results management
""")


def _ends(text: str, begin: int, stop: re.Match[str]) -> bool:
    """Return whether the marks ``stop`` end the sentence that began at ``begin``."""
    at, end = stop.span()
    marks = stop.group().rstrip(_CLOSERS)
    if marks[-1] in _WIDE_STOPS or end == len(text):
        return True
    after = _AFTER_STOP.match(text, end)
    if after is None:
        # "growth.We": a blank that a transcription lost; "amazon.com" and "3.5" go on
        tail = text[max(begin, at - 3) : at]
        lost = len(tail) == 3 and tail.isalpha() and tail.islower()  # noqa: PLR2004 - a word, not an initial
        return lost and end == at + 1 and text[end].isupper() and text[end + 1 : end + 2].islower()
    follower = after.group(1)
    if marks != ".":
        return not follower[:1].islower()
    before = _BEFORE_STOP.search(text, max(begin, at - 20), at)
    word = before.group().lower() if before else ""
    if word in _TITLES:
        return False
    if word in ("no", "nos"):
        return not follower[:1].isdigit()
    if word in _SHORT_FORMS or (word[:1].isalpha() and (len(word) == 1 or "." in word)):
        opens = follower[:1].isupper() and follower.lower().replace("\u2019", "'") in _OPENERS
        return opens or not follower
    if word.isdigit() and len(word) < 4:  # noqa: PLR2004 - "12." numbers a list, "2025." ends a sentence
        return bool(text[begin : at - len(word)].strip())
    return True


def _spans(text: str) -> Iterator[tuple[int, int]]:
    begin = 0
    for stop in _STOP.finditer(text):
        gap = stop.group()
        if gap[0] == "\n":
            if gap.count("\n") > 1 or text.startswith(_BULLETS, stop.end()):
                yield begin, stop.start()
                begin = stop.end()
        elif _ends(text, begin, stop):
            yield begin, stop.end()
            begin = stop.end()
    yield begin, len(text)


def _lowered(text: str) -> str:
    """Return ``text`` in lower case and with plain apostrophes, every character in its place."""
    low = text.lower()
    if len(low) != len(text):  # a few capitals become two characters
        low = "".join(small if len(small := char.lower()) == 1 else char for char in text)
    return low.replace("\u2019", "'")


def _tokens(text: str) -> list[Token]:
    low = _lowered(text)
    return [
        Token(low[match.start() : match.end()], match.start(), match.end(), _KINDS[which - 1])
        for match in _TOKEN.finditer(text)
        if (which := match.lastindex) is not None
    ]


#: A longer run of tokens without a stop is no sentence, and is cut here, so that no rule meets one without end.
LONGEST_SENTENCE: Final = 250


def _cut(text: str) -> CutText:
    tokens = _tokens(text)
    sentences: list[Sentence] = []
    last = 0
    for begin, stop in _spans(text):
        said = text[begin:stop].strip()
        if not said:
            continue
        start = text.index(said[0], begin)
        end = start + len(said)
        first = last
        while last < len(tokens) and tokens[last].start < end:
            last += 1
            if last - first == LONGEST_SENTENCE and last < len(tokens) and tokens[last].start < end:
                until = tokens[last - 1].end
                sentences.append(Sentence(text[start:until], start, until, first, last))
                start, first = tokens[last].start, last
        sentences.append(Sentence(text[start:end], start, end, first, last))
    words = tuple(token for token in tokens if token.kind == "word")
    return CutText(text, tuple(tokens), words, tuple(sentences))


class _Slot:
    """One text's place in the cache; its lock lets the first analyzer cut while the others wait for it."""

    __slots__ = ("done", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.done: CutText | None = None


#: What is kept: enough for the units that analyzers work on at the same time, and no more.
_MOST_TEXTS, _MOST_CHARACTERS = 64, 1_000_000
_slots: OrderedDict[str, _Slot] = OrderedDict()
_slots_lock = threading.Lock()  # guards _slots


def cut(text: str) -> CutText:
    """Return the sentences and words of ``text``; a text seen lately is not cut again.

    Full stops after titles, initials and short forms ("Inc.", "U.S."), inside numbers and after the number of a list's
    item end no sentence; a blank line and a bullet do, and so does the 250th token without a stop. Safe to call from many threads: a text is cut by the first that
    asks, and the others wait for it.

    Parameters
    ----------
    text : str
        Any text, the empty one included.

    Returns
    -------
    CutText

    Examples
    --------
    >>> [s.text for s in cut("Norvale Inc. grew 3.5% in the U.S. in Q1. Costs fell.").sentences]
    ['Norvale Inc. grew 3.5% in the U.S. in Q1.', 'Costs fell.']
    """
    if len(text) > _MOST_CHARACTERS:
        return _cut(text)
    with _slots_lock:
        slot = _slots.get(text)
        if slot is None:
            slot = _slots[text] = _Slot()
            held = sum(map(len, _slots))
            while len(_slots) > _MOST_TEXTS or held > _MOST_CHARACTERS:
                held -= len(_slots.popitem(last=False)[0])
        else:
            _slots.move_to_end(text)
    with slot.lock:
        if slot.done is None:
            slot.done = _cut(text)
        return slot.done


class Phrases:
    """A table of words and phrases that finds the longest entry that starts at a token.

    Parameters
    ----------
    table : mapping of str to str
        Tag -> its entries, separated by blanks and line ends; the words of a phrase are joined by "_". An entry may
        stand under several tags.

    Examples
    --------
    >>> table = Phrases({"money": "cash cash_flow", "up": "rose grew"})
    >>> [(first, last, *tags) for first, last, tags in table.find(cut("Free cash flow rose").tokens)]
    [(1, 3, 'money'), (3, 4, 'up')]
    """

    __slots__ = ("_longer", "_single")

    def __init__(self, table: Mapping[str, str]) -> None:
        tags: dict[tuple[str, ...], frozenset[str]] = {}
        for tag, entries in table.items():
            for entry in entries.split():
                parts = tuple(token.text for token in _tokens(entry.replace("_", " ")))
                tags[parts] = tags.get(parts, frozenset()) | {tag}
        self._single = {parts[0]: found for parts, found in tags.items() if len(parts) == 1}
        self._longer: dict[str, list[tuple[tuple[str, ...], frozenset[str]]]] = {}
        for parts in sorted(tags, key=len, reverse=True):
            if len(parts) > 1:
                self._longer.setdefault(parts[0], []).append((parts, tags[parts]))

    def find(self, tokens: Sequence[Token]) -> Iterator[tuple[int, int, frozenset[str]]]:
        """Yield (first token, one past the last, tags) of every entry, from the left, without overlaps."""
        single, longer = self._single, self._longer
        index = 0
        while index < len(tokens):
            word = tokens[index].text
            after, tags = index + 1, single.get(word)
            for parts, tags_of_phrase in longer.get(word, ()):
                if tuple(token.text for token in tokens[index : index + len(parts)]) == parts:
                    after, tags = index + len(parts), tags_of_phrase
                    break
            if tags is not None:
                yield index, after, tags
            index = after

"""Which lines are headings: the parts that every call has, the lists of participants, and a text's own headings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from analysis_kit.transcripts.model import Role
from analysis_kit.transcripts.names import ends_sentence, is_likely_name, speaks
from analysis_kit.transcripts.reading import bare

Part = Literal["", "prepared", "qa"]

_LONGEST, _LONGEST_LIST, _MOST_WORDS = 100, 400, 10

_PREPARED = re.compile(
    r"(?:(?:prepared|opening|management'?s?|formal|introductory) (?:remarks|statements?|presentation)"
    r"|(?:management )?(?:presentation|discussion)(?: section| session)?|prepared)",
    re.IGNORECASE,
)
_QA = re.compile(
    r"(?:analyst )?(?:q ?(?:&|and) ?a|q/a|qa|questions?(?: |-)?(?:(?:&|and)(?: |-)?)?answers?)"
    r"(?: ?(?:section|session|period|portion))?",
    re.IGNORECASE,
)
_PEOPLE = re.compile(
    r"(?:(?P<executive>(?:company|corporate|management|executive) participants|executives|company representatives|"
    r"management team)|(?P<analyst>(?:conference call|analyst|other|external) participants|(?:conference call )?analysts)"
    r"|(?:call |conference )?(?:participants|presenters|speakers|panelists|attendees))(?: list| present)?\s*(?::\s*(?P<rest>.*))?",
    re.IGNORECASE,
)
_PEOPLE_WORD = re.compile(
    "participants|executives|representatives|team|analysts|presenters|speakers|panelists|attendees",
    re.IGNORECASE,
)
_RULE = re.compile(r"[-=_*~#\u2013\u2014](?:\s*[-=_*~#\u2013\u2014]){2,}")
#: Three dots are an ellipsis; a line of many parts speeches, and underlines nothing.
_DOTTED = re.compile(r"\.(?:\s*\.){9,}")
_FRAME = re.compile(r"^[\[(#*_=\-\u2013\u2014\s]+|[\])#*_=\-\u2013\u2014\s:]+$")
_MARKDOWN = re.compile(r"#{1,6}\s+(\S.*?)\s*#*")
_SMALL = {
    "a",
    "an",
    "and",
    "as",
    "at",
    "by",
    "for",
    "from",
    "in",
    "into",
    "of",
    "on",
    "or",
    "the",
    "to",
    "with",
}
_ABOUT_SPEECH = re.compile(
    r"\b(?:remarks?|statements?|review|overview|opening|introduction|welcome|outlook|guidance|update|discussion|"
    r"results|strategy|operations|highlights|closing|conclusion|safe harbor)\b",
    re.IGNORECASE,
)
_COURTESY = re.compile(
    r"\b(?:thank\w*|good (?:morning|afternoon|evening|day|night|luck|question)|hello|hi|bye|goodbye|great|nice|"
    r"congratulations|okay|ok|right|sure|yes|no|absolutely|exactly|perfect)\b",
    re.IGNORECASE,
)
_INNER_END = re.compile(r"[.!?;]\s")


def is_rule(line: str) -> bool:
    """Tell whether a line is drawn and not written (``-----``, ``..........``)."""
    return bool(_RULE.fullmatch(line) or _DOTTED.fullmatch(line))


def part_of(text: str) -> Part:
    """Return the part of a call that ``text`` is the usual heading of, "" for any other text.

    Examples
    --------
    >>> part_of("QUESTIONS & ANSWERS:"), part_of("Prepared Remarks"), part_of("Outlook")
    ('qa', 'prepared', '')
    """
    if len(text) > _LONGEST:
        return ""
    title = _FRAME.sub("", bare(text))
    return "prepared" if _PREPARED.fullmatch(title) else "qa" if _QA.fullmatch(title) else ""


def people_heading(line: str) -> tuple[Role, str] | None:
    """Return the role of the people listed under a heading, and what stands behind its colon; None for other lines.

    Examples
    --------
    >>> people_heading("Conference Call Participants"), people_heading("Participants: Ada Byrne, CEO")
    (('analyst', ''), ('unknown', 'Ada Byrne, CEO'))
    """
    if len(line) > _LONGEST_LIST or not _PEOPLE_WORD.search(line):
        return None
    found = _PEOPLE.fullmatch(_FRAME.sub("", bare(line)))
    if not found:
        return None
    role: Role = "executive" if found["executive"] else "analyst" if found["analyst"] else "unknown"
    return role, found["rest"] or ""


def own_heading(lines: Sequence[str], index: int, *, label_follows: bool, in_front: bool) -> str | None:
    """Return the title in a line that is a heading of the text's own, None if it is none.

    Parameters
    ----------
    lines : sequence of str
        The text's lines, stripped.
    index : int
        Which line.
    label_follows : bool
        Whether the next line with text is a speaker's label. Only then is a line in title case a heading,
        and only if its words are of business or of speech ("Financial Review") and not a courtesy ("Good Morning");
        underlined lines, Markdown headings and lines in capitals are headings in the middle of a speech too.
    in_front : bool
        Whether nobody has spoken yet: there a line is a heading only if it speaks of speech ("Opening statement"),
        for most are titles of the call.
    """
    line = lines[index]
    if len(line) > _LONGEST:
        return None
    markdown = _MARKDOWN.fullmatch(line)
    title = bare(markdown[1] if markdown else line).strip("*_").rstrip(":").strip()
    words = title.split()
    if not 0 < len(words) <= _MOST_WORDS or ends_sentence(title) or _INNER_END.search(title):
        return None
    if ":" in title or not any(map(str.isalpha, title)):
        return None
    if in_front and not (label_follows and _ABOUT_SPEECH.search(title)):
        return None
    before = index == 0 or not lines[index - 1] or is_rule(lines[index - 1])
    after = index + 1 == len(lines) or not lines[index + 1]
    # A rule right above a label belongs to the label.
    underlined = (
        index + 1 < len(lines)
        and _RULE.fullmatch(lines[index + 1])
        and not (label_follows and index + 2 < len(lines) and lines[index + 2])
    )
    if markdown or (before and underlined):
        return title
    if (
        not before
        or speaks(title)
        or title[0] in "[("
        or (len(words) == 1 and not _ABOUT_SPEECH.search(title))
    ):
        return None
    if title.isupper():
        return title
    in_title_case = all(word in _SMALL or not word[0].islower() for word in words)
    heads = _ABOUT_SPEECH.search(title) or not (is_likely_name(title) or _COURTESY.search(title))
    return title if in_title_case and heads and label_follows and (after or line.endswith(":")) else None

"""What a run works on: any of the accepted kinds of data becomes a list of `Unit`."""

from __future__ import annotations

import errno
import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis_kit import frames
from analysis_kit.errors import ConfigurationError, TranscriptError
from analysis_kit.transcripts.model import UNKNOWN, Transcript
from analysis_kit.transcripts.parse import read_transcript

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)
WAYS = ("section", "speaker", "turn")
SUFFIXES = {".txt", ".json", ".vtt", ".srt"}
_NAME_WORDS = 4  # a text has more, or it may as well be a name
#: What a path has and a sentence seldom: a folder, a pattern.
_OF_A_PATH = re.compile(r"^(?:~|\S*/)|[\\*]|\?(?![\s\"')]|$)|/[^\s/]*$")
_END_OF_SENTENCE = re.compile(r"[.!…]\W*$")
_MOST_REFUSED = 10  # files that are named one by one
_ARTICLES = {"the", "a", "an"}
#: What ends a company's full name and is left out when people talk of it.
_LEGAL_FORM = re.compile(
    r"[,\s]+(?:inc|incorporated|corp|corporation|co|company|plc|ltd|limited|llc|lp|ag|se|sa|nv|ab|asa|oyj|gmbh|spa)\b\.?\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Unit:
    """One text to analyse: where it is from, what it is called there, and what of the source row comes along."""

    document: str
    by: str
    name: str
    position: int
    text: str
    keep: Mapping[str, Any] = field(default_factory=dict)


def units_of(
    data: Any,
    *,
    by: str | Sequence[str] = "section",
    text: str | None = None,
    id: str | None = None,  # noqa: A002 - the design's own name
    keep: Sequence[str] = (),
    mask_entities: bool = False,
) -> list[Unit]:
    """Return the units of ``data``, in the data's order.

    Parameters
    ----------
    data : Transcript, path, folder, glob, mapping, Series, DataFrame, or an iterable of transcripts or paths
        A mapping, or a Series, is name -> text.
    by : {"section", "speaker", "turn"} or several, default "section"
        How transcripts are cut.
    text, id, keep
        Columns of a DataFrame: the text, the document's name (default: the index), and what comes along.
    mask_entities : bool, default False
        Replace the company's and the people's names by placeholders (transcripts only), so that a model judges what is
        said and not who says it.

    Raises
    ------
    ConfigurationError
        If the data is of no known kind, is empty, or lacks a named column.
    TranscriptError
        If a file is no transcript.
    """
    ways = [by] if isinstance(by, str) or not isinstance(by, Iterable) else list(by)
    if not ways or any(way not in WAYS for way in ways):
        raise ConfigurationError(f"by={by!r}: use {', '.join(map(repr, WAYS))}, or several of them")
    if hasattr(data, "columns") and hasattr(data, "itertuples"):
        found = _from_frame(data, text=text, id=id, keep=keep)
        source = "the DataFrame has no rows"
    elif text is not None or id is not None or keep:
        raise ConfigurationError(
            f"text=, id= and keep= name columns of a DataFrame; the data is {type(data).__name__}"
        )
    elif isinstance(data, Mapping) or _is_series(data):
        found = [
            Unit(str(name), "text", str(name), i, _text_of(name, value))
            for i, (name, value) in enumerate(data.items())
        ]
        source = f"the {'mapping' if isinstance(data, Mapping) else 'Series'} is empty"
    else:
        found, names = [], Counter[str]()
        for one in transcripts_of(data):
            names[one.id] += 1
            # two calls of one name are two documents, or the tables would mix them up
            document = one.id if names[one.id] == 1 else f"{one.id} ({names[one.id]})"
            found += _of_transcript(one, ways, document=document, mask_entities=mask_entities)
        for name in (name for name, count in names.items() if count > 1):
            _log.warning(
                "%d documents have the id %r: the tables number them, as in '%s (2)'",
                *(names[name], name, name),
                extra={"document": name, "documents": names[name]},
            )
        source = "the transcripts hold no text"
        mask_entities = False
    if mask_entities:
        raise ConfigurationError(
            "mask_entities=True needs transcripts: only they say who speaks and for which company"
        )
    shared = [name for name, count in Counter((unit.by, unit.name) for unit in found).items() if count > 1]
    if shared and shared[0][0] in {"text", "row"}:  # the sections of two transcripts may well have one name
        _log.warning(
            "id %r stands for several texts%s: each is a row of its own, told apart by its position",
            *(shared[0][1], f", as do {len(shared) - 1} more ids" if len(shared) > 1 else ""),
            extra={"ids": shared},
        )
    if not found:
        raise ConfigurationError(f"there is nothing to analyse: {source}")
    return found


def _from_frame(data: pd.DataFrame, *, text: str | None, id: str | None, keep: Sequence[str]) -> list[Unit]:  # noqa: A002
    columns = ", ".join(str(column) for column in data.columns)
    if text is None:
        raise ConfigurationError(f"a DataFrame needs text=, the column that holds the text; it has {columns}")
    if isinstance(keep, str) or not isinstance(keep, Iterable):
        keep = [] if keep is None else [keep]
    for argument, name in [("text", text), ("id", id), *(("keep", name) for name in keep)]:
        if name is not None and not _has_column(data, name):
            raise ConfigurationError(f"the DataFrame has no column {name!r} ({argument}=); it has {columns}")
        if name is not None and data[name].ndim > 1:
            raise ConfigurationError(
                f"the DataFrame has several columns {name!r} ({argument}=); it has {columns}"
            )
    fixed = {column.name for column in frames.ROW_COLUMNS}
    taken = [name for name in keep if name in fixed]
    if taken:  # said now, not after the hours that the run may take
        raise ConfigurationError(
            f"keep= has {', '.join(map(repr, taken))}, which the kit's own table has too; rename yours, as in "
            f"df.rename(columns={{{taken[0]!r}: 'my_{taken[0]}'}})"
        )
    keep = list(dict.fromkeys(keep))
    names = data.index if id is None else data[id]
    kept = [data[name].tolist() for name in keep]
    units = []
    for position, (name, value) in enumerate(zip(names, data[text], strict=True)):
        body = _text_of(name, value, give=f"text=, a column of texts, where {text!r} is none")
        along = {str(column): values[position] for column, values in zip(keep, kept, strict=True)}
        units.append(Unit(str(name), "row", str(name), position, body, along))
    return units


def _has_column(data: pd.DataFrame, name: object) -> bool:
    try:
        return name in data.columns
    except TypeError:  # a list is the name of nothing
        return False


def _is_series(data: Any) -> bool:
    return hasattr(data, "items") and hasattr(data, "index") and hasattr(data, "to_frame")


def _text_of(name: object, value: object, *, give: str = "name -> text") -> str:
    if isinstance(value, str):
        return value
    if _is_missing(value):
        return ""
    raise ConfigurationError(f"the text of {name!r} is of type {type(value).__name__}; give {give}")


def _is_missing(value: Any) -> bool:
    """Return whether ``value`` stands for no text: it stays a unit, which ends as a failed row that says so."""
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124 - NaN and NaT alone
    except (TypeError, ValueError):  # pandas' NA says neither; an array is no text, and not a missing one
        return type(value).__name__ == "NAType"


def transcripts_of(data: Any) -> list[Transcript]:
    """Return the transcripts that ``data`` (transcripts, paths, folders, globs, or several of them) stands for.

    Raises
    ------
    ConfigurationError, TranscriptError
        As `units_of`.
    """
    refused: list[TranscriptError] = []
    found = list(_transcripts(data, refused))
    if len(refused) > 1:  # all of them at once, so that a folder is mended in one go
        said = "".join(f"\n- {error}" for error in refused[:_MOST_REFUSED])
        more = f"\n- and {len(refused) - _MOST_REFUSED} more" if len(refused) > _MOST_REFUSED else ""
        raise TranscriptError(
            f"{len(refused)} files are no transcripts:{said}{more}", path=refused[0].path
        ) from refused[0]
    if refused:
        raise refused[0]
    return found


def _transcripts(data: Any, refused: list[TranscriptError]) -> Iterator[Transcript]:
    if isinstance(data, Transcript):
        yield data
    elif isinstance(data, (str, Path)):
        for path in _paths(data):
            try:
                yield read_transcript(path)
            except TranscriptError as error:
                refused.append(error)
    elif isinstance(data, Iterable) and not isinstance(data, bytes):
        for item in data:
            yield from _transcripts(item, refused)
    else:
        raise ConfigurationError(
            f"cannot analyse {type(data).__name__}; give a Transcript (or several), a path, folder or glob, "
            "a mapping name -> text, or a DataFrame with text="
        )


def _is_prose(value: str) -> bool:
    """Return whether ``value`` is a text itself: some lines, or a sentence, of which no file has the name."""
    if "\n" in value:
        return True
    try:
        os.stat(value)  # noqa: PTH116 - as it was given
    except OSError as exc:
        if exc.errno == errno.ENAMETOOLONG:
            return True
    except ValueError:  # what no path can hold
        pass
    else:
        return False
    said = len(value.split()) > _NAME_WORDS and _END_OF_SENTENCE.search(value) is not None
    return said and _OF_A_PATH.search(value) is None


def _paths(value: str | Path) -> list[Path]:
    if isinstance(value, str) and not value.strip():
        raise ConfigurationError("the path is blank; give a file, a folder or a glob")
    if isinstance(value, str) and _is_prose(value):
        raise ConfigurationError(
            "this is text, not a path: give parse_transcript(text), or a mapping such as {'my text': text}"
        )
    path = Path(value).expanduser()
    if path.is_dir():
        inside = sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES)
        if not inside:
            raise ConfigurationError(
                f"folder {str(path)!r} holds no transcript ({', '.join(sorted(SUFFIXES))})"
            )
        return inside
    if not path.exists() and glob.has_magic(str(value)):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207 - may be absolute
        if not matches:
            raise ConfigurationError(f"no file matches {str(value)!r}")
        return matches
    return [path]


def _of_transcript(
    transcript: Transcript, ways: Sequence[str], *, document: str, mask_entities: bool
) -> Iterator[Unit]:
    mask = _mask(transcript) if mask_entities else None
    for way in ways:
        if way == "turn":
            pairs = [(f"{turn.index + 1}: {turn.speaker}", turn.text) for turn in transcript.turns]
        else:
            pairs = list((transcript.sections if way == "section" else transcript.speakers).items())
        for position, (name, text) in enumerate(pairs):
            unit = Unit(document, way, name, position, text)
            yield unit if mask is None else replace(unit, text=mask(text))


def _named(transcript: Transcript) -> list[str]:
    """Return the people's names; what stands for nobody in particular ("Operator", "Unknown") is a common word."""
    return [
        name
        for name, person in transcript.people.items()
        if name != UNKNOWN and not (person.role == "operator" and " " not in name)
    ]


def _mask(transcript: Transcript) -> Any:
    """Return a function that replaces the call's own names by placeholders."""
    places: dict[str, str] = {}
    for number, person in enumerate(_named(transcript), start=1):
        places[person] = f"[PERSON {number}]"
        for part in person.split():
            if len(part) > 2:  # noqa: PLR2004 - an initial stands in too many words
                places.setdefault(part, f"[PERSON {number}]")
    company = transcript.company or ""
    plain = _LEGAL_FORM.sub("", company)
    words = _LEGAL_FORM.sub("", plain).split()
    first = next((word for word in words if word.lower() not in _ARTICLES), "")
    for name in filter(None, (company, plain, first, transcript.ticker)):
        places.setdefault(name, "[COMPANY]")
    if not places:
        return lambda text: text
    longest_first = sorted(places, key=len, reverse=True)
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b")
    return lambda text: pattern.sub(lambda match: places[match.group()], text)

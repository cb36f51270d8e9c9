"""Where transcripts come in: `read_transcript`, `parse_transcript`, `example_transcript`."""

from __future__ import annotations

import os
import re
from pathlib import PurePath
from typing import Literal, get_args

from analysis_kit.errors import ConfigurationError, TranscriptError
from analysis_kit.transcripts.model import Transcript
from analysis_kit.transcripts.plain import read_plain
from analysis_kit.transcripts.reading import clean, decode
from analysis_kit.transcripts.structured import read_json
from analysis_kit.transcripts.webvtt import SUBRIP, read_webvtt

Format = Literal["text", "json", "vtt"]

_BY_SUFFIX: dict[str, Format] = {".json": "json", ".vtt": "vtt", ".webvtt": "vtt"}
_EXAMPLE = "example.txt"
_LABELS = "'Ada Byrne -- Chief Executive Officer' or 'Operator' on its own line, or 'Ada Byrne: ...'"


def read_transcript(path: str | os.PathLike[str], *, format: Format | None = None) -> Transcript:  # noqa: A002 - the field's word
    """Read a transcript from a file.

    Parameters
    ----------
    path : str or path-like
        A text, JSON, WebVTT or SubRip file in UTF-8, UTF-16 (with byte order mark) or Windows-1252.
    format : {"text", "json", "vtt"}, optional
        The layout; by default the file's suffix and content tell.

    Returns
    -------
    Transcript
        With ``source`` set to ``path``.

    Raises
    ------
    TranscriptError
        If the file cannot be read, is empty, is no text or is no transcript; the message says which, where and what
        was expected.
    ConfigurationError
        If ``format`` is none of the three.

    Examples
    --------
    >>> read_transcript("no-such-call.txt")
    Traceback (most recent call last):
    analysis_kit.errors.TranscriptError: no-such-call.txt does not exist; give the path of a transcript file
    """
    where = os.fsdecode(path)
    full = os.path.expanduser(where)  # noqa: PTH111 - Path.expanduser raises for unknown users
    try:
        with open(full, "rb") as file:  # noqa: PTH123 - the path is a string here
            data = file.read()
    except FileNotFoundError as exc:
        raise TranscriptError(
            f"{where if where.strip() else repr(where)} does not exist; give the path of a transcript file",
            path=where,
        ) from exc
    except IsADirectoryError as exc:
        raise TranscriptError(
            f"{where} is a folder; give the path of one transcript file in it", path=where
        ) from exc
    except (OSError, ValueError) as exc:
        raise TranscriptError(f"{where!r} cannot be read ({exc}); give a readable file", path=where) from exc
    return parse_transcript(decode(data, where), format=format, source=where)


def parse_transcript(
    text: str,
    *,
    format: Format | None = None,  # noqa: A002 - the field's word
    source: str | None = None,
) -> Transcript:
    r"""Make a transcript of a text.

    Nothing that is said is dropped: text that no label claims becomes a turn of ``"Unknown"``.

    Parameters
    ----------
    text : str
        The whole transcript: plain text with speaker labels, JSON, WebVTT or SubRip.
    format : {"text", "json", "vtt"}, optional
        The layout ("vtt" is SubRip too); by default the suffix of ``source`` and the text's beginning tell.
    source : str, optional
        Name of the file, for errors and for `Transcript.id`.

    Raises
    ------
    TranscriptError
        If the text is blank or is no transcript.
    ConfigurationError
        If ``format`` is none of the three.

    Examples
    --------
    >>> call = parse_transcript("Ada Byrne -- Chief Executive Officer\n\nSales rose 8%.")
    >>> call.turns[0].speaker, call.turns[0].role, call.turns[0].text
    ('Ada Byrne', 'executive', 'Sales rose 8%.')
    """
    where = source or "the text"
    if not isinstance(text, str):
        raise TypeError(f"a transcript is parsed from its text (str), and was given {type(text).__name__}")
    if format is not None and format not in get_args(Format):
        raise ConfigurationError(
            f"format={format!r} is unknown; give one of {', '.join(get_args(Format))}, or none"
        )
    cleaned = clean(text)
    if not cleaned.strip(" \t\n\ufffd"):
        raise TranscriptError(
            f"{where} is blank ({len(text):,} characters, no word); a transcript with speaker labels was expected",
            path=source,
        )
    layout = format or _layout(text, cleaned, source)
    if layout == "json":
        draft = read_json(text, where)
    elif layout == "vtt":
        draft = read_webvtt(cleaned, where)
    else:
        plain = read_plain(cleaned)
        if plain is None:
            raise _no_labels(cleaned, where)
        draft = plain
    if not draft.speeches:
        raise TranscriptError(
            f"{where} names {len(draft.people)} speakers but holds no speech; expected text under their labels",
            path=source,
        )
    return draft.finish(source)


def example_transcript() -> Transcript:
    """Return the call of an invented company that comes with the package: prepared remarks and four exchanges.

    Examples
    --------
    >>> example_transcript().ticker
    'FNH'
    """
    from importlib.resources import files

    data = files("analysis_kit.transcripts").joinpath(_EXAMPLE).read_bytes()
    return parse_transcript(decode(data, _EXAMPLE), format="text", source=_EXAMPLE)


def _layout(text: str, cleaned: str, source: str | None) -> Format:
    suffix = PurePath(source).suffix.casefold() if source else ""
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    if (
        suffix == ".srt" and "-->" in text
    ):  # captions, be they odd ones: never prose, whose speakers say the clock
        return "vtt"
    start = text[:400].lstrip("\ufeff \t\r\n")
    if re.match(r"WEBVTT(?:\s|$)", start) or SUBRIP.match(cleaned):
        return "vtt"
    return "json" if re.match(r"\{\s*[\"}]|\[\s*[\[{\"\]]", start) else "text"


def _no_labels(text: str, where: str) -> TranscriptError:
    lines = text.split("\n")
    first = next(number for number, line in enumerate(lines, start=1) if line.strip())
    found = " ".join(lines[first - 1].split())
    return TranscriptError(
        f"{where} is no transcript: no speaker label in its {len(text.split()):,} words (lines {first} to "
        f"{len(lines):,}, beginning {found[:40]!r}); expected labels such as {_LABELS}",
        path=where,
        line=first,
    )

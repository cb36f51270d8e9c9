"""One policy for text on its way to and from a model."""

from __future__ import annotations

import re

from analysis_kit.errors import AnalysisError

_UNSENDABLE = re.compile(r"[\x00\ud800-\udfff]")
_VISIBLE = re.compile(r"[^\s\ufeff\u200b-\u200f\u2060\x00]")


def clean(text: str) -> str:
    r"""Return ``text`` with U+FFFD for what cannot travel: lone surrogates (no encoding has them), NUL (ends C strings).

    Examples
    --------
    >>> clean("a\ud83d") == "a\ufffd"
    True
    """
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSENDABLE.sub("\ufffd", text)


def usable(text: str) -> str:
    """Return ``text`` fit to be sent.

    Raises
    ------
    AnalysisError
        If it is not ``str``, or holds nothing but blanks and invisible marks: a server would take that as a wish to
        load the model.
    """
    if not isinstance(text, str):
        raise AnalysisError(f"a model needs text (str), and was given {type(text).__name__}")
    if _VISIBLE.search(text) is None:
        raise AnalysisError(
            f"the text is empty ({len(text)} characters, all blank); there is nothing to ask about"
        )
    return clean(text)

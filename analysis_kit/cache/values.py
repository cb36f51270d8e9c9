"""What a cache takes, and what it is found under: plain JSON values, and stable keys."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json as _from_json

from analysis_kit.errors import ConfigurationError

_SCALARS = frozenset({str, int, bool, type(None)})


def plain(value: Any, *, where: str = "the value") -> Any:
    """Return a copy of ``value`` made of plain dicts, lists, texts, numbers, booleans and None only.

    Parameters
    ----------
    value : JSON value
        It comes back from JSON equal, or it is refused: that is what this is for.
    where : str
        Names the value in the message.

    Raises
    ------
    ConfigurationError
        Naming the part that JSON would change or cannot hold: tuples, sets, NaN and infinities, keys that are no
        text, subclasses of text and numbers, bytes, objects, and what contains itself.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    try:
        if kind is float:
            if math.isfinite(value):
                return value
            raise ConfigurationError(
                f"{where} is {value!r}, which JSON cannot hold; give None, or leave it out"
            )
        if kind is list:
            return [
                each if type(each) in _SCALARS else plain(each, where=f"{where}[{i}]")
                for i, each in enumerate(value)
            ]
        if isinstance(value, dict):
            copy = {}
            for key, each in value.items():
                if type(key) is not str:
                    raise ConfigurationError(
                        f"{where} has the key {key!r} ({type(key).__name__}); JSON keys are text"
                    )
                copy[key] = each if type(each) in _SCALARS else plain(each, where=f"{where}[{key!r}]")
            return copy
    except RecursionError as exc:
        raise ConfigurationError("the value contains itself, or is too deep to be kept as JSON") from exc
    raise ConfigurationError(
        f"{where} is a {kind.__name__}, which would not come back equal from JSON; give lists for tuples and sets, "
        "plain numbers and texts, and dicts for objects"
    )


def to_json(value: Any) -> str:
    """Return a plain value as JSON in ASCII, so that lone surrogates and NUL are only ever escapes."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError as exc:  # an integer beyond what Python turns into digits
        raise ConfigurationError(f"the value cannot be kept as JSON: {exc}") from exc


def from_json(text: str) -> Any:
    """Return the value of JSON ``text``.

    Raises
    ------
    ValueError
        If it is no JSON.
    """
    try:
        return _from_json(text)  # reads numbers exactly as json does, and long answers in a tenth of the time
    except ValueError:
        return json.loads(text)  # which alone takes the escape of a lone surrogate


def cache_key(**parts: Any) -> str:
    """Return a key for ``parts`` that is the same in every process: SHA-256 over canonical JSON, in hexadecimal.

    The order of the parts, and of keys within them, makes no difference; any other difference does, also between 1,
    1.0, True and "1".

    Parameters
    ----------
    **parts
        JSON values; tuples count as lists.

    Raises
    ------
    ConfigurationError
        If a part is no JSON value: its text could differ between processes.

    Examples
    --------
    >>> cache_key(a=1, b={"y": 2, "x": 1}) == cache_key(b={"x": 1, "y": 2}, a=1)
    True
    >>> cache_key(a=1) == cache_key(a="1")
    False
    """
    text = json.dumps(_canonical(parts, "the key"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _canonical(part: Any, where: str) -> Any:
    if part is None or isinstance(part, (str, int, float)):
        return part
    if isinstance(part, Mapping) and all(isinstance(key, str) for key in part):
        return {key: _canonical(value, f"{where}[{key!r}]") for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [_canonical(each, where) for each in part]
    raise ConfigurationError(
        f"{where} holds a {type(part).__name__}, whose text may differ between processes; give JSON values"
    )

"""What engine and runs are told: checked at once, and refused in one sentence with the name and the value."""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable
from typing import Any, Literal, cast

from analysis_kit.errors import ConfigurationError

OnError = Literal["raise", "collect"]
Workers = int | Literal["auto"]


def checked_count(name: str, value: object, *, otherwise: str = "") -> int:
    """Return ``value`` if it is a whole number of at least 1, also one of numpy's; ``otherwise`` says what else could be."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or cast("int", value) < 1:
        raise ConfigurationError(f"{name}={value!r} must be a whole number, 1 or more{otherwise}.")
    return int(cast("int", value))


def checked_workers(value: object, *, otherwise: str = ", or 'auto'") -> Workers:
    """Return ``value`` if it can be a ``max_workers``."""
    if isinstance(value, str) and value == "auto":
        return "auto"
    return checked_count("max_workers", value, otherwise=otherwise)


def checked_policy(value: object) -> OnError:
    """Return ``value`` if it can be an ``on_error``."""
    if value not in ("raise", "collect"):
        raise ConfigurationError(f"on_error={value!r} must be 'raise' or 'collect'.")
    return value


def checked_seconds(name: str, value: object) -> float | None:
    """Return ``value`` if it can be a limit in seconds, or None for none."""
    if value is None:
        return None
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not cast("float", value) > 0:
        raise ConfigurationError(
            f"{name}={value!r} must be a number above 0, in seconds, or None for no limit."
        )
    return float(cast("float", value))


def checked_callable(analyze: object, *, what: str = "analyze") -> Callable[..., Any]:
    """Return ``analyze`` if it can be called and does its work then.

    Raises
    ------
    ConfigurationError
        Saying what was given instead; a coroutine is closed first, so that it leaves no warning behind.
    """
    if inspect.iscoroutine(analyze):
        analyze.close()
        raise ConfigurationError(
            f"{what} is a coroutine, the result of calling {analyze.__qualname__}(): pass the function itself."
        )
    if not callable(analyze):
        hint = " Pass its method: .analyze." if callable(getattr(analyze, "analyze", None)) else ""
        raise ConfigurationError(
            f"{what} must be a function or another callable, got {type(analyze).__name__}.{hint}"
        )
    inner: Any = analyze
    while isinstance(inner, functools.partial):
        inner = inner.func
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise ConfigurationError(
            f"{what} is a generator function, {inner.__qualname__}(): its work would only be done by whoever reads it, "
            "after the run. Have it return a list."
        )
    return analyze

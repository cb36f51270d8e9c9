"""What an engine is given and what it gives back: `Task`, `Outcome`, and the words of a failure.

Named tuples: a run of 10,000 cheap units makes 10,000 of each, and these are the cheapest frozen records there are.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from analysis_kit.errors import AnalysisError, RemoteCause
from analysis_kit.results import Status


class Task(NamedTuple):
    """One unit for one analyzer.

    Parameters
    ----------
    key : hashable
        The caller's own name for it; the engine hands it back.
    analyzer, unit : str
        How errors, events and logs name it.
    size : int
        Larger ones are taken up first; characters of text, as a rule.
    call : callable
        Does the work; takes nothing. It may be async, or return an awaitable.
    """

    key: Hashable
    analyzer: str
    unit: str
    size: int
    call: Callable[[], Any]


class Outcome(NamedTuple):
    """How a task ended.

    Parameters
    ----------
    task : Task
    value : object
        What ``task.call`` returned; None unless ``status`` is "done".
    error : AnalysisError or None
        Names unit, analyzer, attempts and duration; the original failure is its ``__cause__``.
    status : {"done", "failed", "cancelled", "not started"}
    attempts : int
        How often the work was tried, as `analysis_kit.retry` counted.
    duration_s : float
        Seconds on a monotonic clock; 0.0 if not started.
    started : float or None
        Seconds since 1970, UTC.
    """

    task: Task
    value: Any
    error: AnalysisError | None
    status: Status
    attempts: int = 1
    duration_s: float = 0.0
    started: float | None = None

    @property
    def started_at(self) -> datetime | None:
        """When the work was taken up, UTC; None if it never was."""
        return None if self.started is None else datetime.fromtimestamp(self.started, UTC)


def failed(
    task: Task,
    cause: BaseException,
    *,
    status: Status = "failed",
    attempts: int = 1,
    duration_s: float = 0.0,
    started: float | None = None,
) -> Outcome:
    """Return the outcome of a task that ended with ``cause``; the error speaks for itself and carries the facts."""
    words = (
        str(cause)
        if isinstance(cause, RemoteCause)
        else ": ".join(filter(None, (type(cause).__name__, str(cause))))
    )
    tried = f"{attempts} attempt{'s' if attempts != 1 else ''}"
    if status == "not started":
        message = f"{task.analyzer} on {task.unit!r} was not started: {words}"
    else:
        verb = "failed" if status == "failed" else "was cancelled"
        message = f"{task.analyzer} on {task.unit!r} {verb} after {tried} in {duration_s:.2f} s: {words}"
    error = AnalysisError(
        message, unit=task.unit, analyzer=task.analyzer, attempts=attempts, duration_s=duration_s
    )
    error.__cause__ = cause
    return Outcome(task, None, error, status, attempts, duration_s, started)


def joined_failure(failures: list[Outcome], partial: Mapping[Any, Any]) -> AnalysisError:
    """Return the one error that a stopped run raises: the first failure, which also names every other."""
    first, *others = failures
    told = first.error
    assert told is not None
    message = str(told)
    if others:
        also = "; ".join(str(other.error) for other in others)
        message += f" (and {len(others)} more: {also})"
    error = AnalysisError(
        message,
        unit=told.unit,
        analyzer=told.analyzer,
        attempts=told.attempts,
        duration_s=told.duration_s,
        partial=partial,
    )
    error.__cause__ = told.__cause__
    return error


_PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict})


def awaits(value: object) -> bool:
    """Return whether ``value`` still has to be awaited; asking a type for what it lacks is slow, so not the usual ones."""
    kind = type(value)
    return kind not in _PLAIN and hasattr(kind, "__await__")


def name_of(analyze: Callable[..., Any]) -> str:
    """Return how errors and timings name ``analyze``: its owner's ``name``, else its own."""
    while isinstance(analyze, functools.partial):
        analyze = analyze.func
    owner = getattr(analyze, "__self__", analyze)
    name = getattr(owner, "name", None)
    if isinstance(name, str) and name:
        return name
    return str(getattr(analyze, "__name__", type(analyze).__name__))


def is_async(call: Callable[..., Any]) -> bool:
    """Return whether ``call`` is an async function, in whatever wrapping."""
    while isinstance(call, functools.partial):
        call = call.func
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004 - asks about an async __call__


def all_async(items: Sequence[tuple[int, Task]]) -> bool:
    """Return whether every call is an async function; the first plain one answers."""
    seen: dict[int, bool] = {}
    for _, task in items:
        call = task.call.func if isinstance(task.call, functools.partial) else task.call
        if id(call) not in seen:
            seen[id(call)] = is_async(call)
        if not seen[id(call)]:
            return False
    return True

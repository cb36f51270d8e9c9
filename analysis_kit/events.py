"""What happened, as frozen facts. Engine, pool, client, cache and retry emit; the monitor and others subscribe.

With no listener `emit` is one truth test; the emitter should ask `listening()` before it builds a costly event.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UnitStarted:
    """A worker took up one unit."""

    analyzer: str
    unit: str


@dataclass(frozen=True, slots=True)
class UnitFinished:
    """One unit is over: ``status`` is "done", "cached", "failed", "cancelled" or "not started"."""

    analyzer: str
    unit: str
    status: str
    duration_s: float
    attempts: int = 1
    error_type: str | None = None


@dataclass(frozen=True, slots=True)
class RequestFinished:
    """A client's request to a server is over; times in seconds, NaN where the server did not say."""

    host: str
    model: str
    endpoint: str
    duration_s: float
    ok: bool
    error_type: str | None = None
    queue_s: float = float("nan")
    load_s: float = float("nan")
    prompt_s: float = float("nan")
    generate_s: float = float("nan")
    first_token_s: float = float("nan")
    prompt_tokens: int = 0
    generated_tokens: int = 0


@dataclass(frozen=True, slots=True)
class SlotWaited:
    """A pool handed out a slot (or, with ``ok`` False, did not in time) after ``wait_s`` seconds."""

    pool: str
    host: str
    wait_s: float
    ok: bool = True


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """A failed attempt will be repeated after ``wait_s`` seconds."""

    name: str
    attempt: int
    wait_s: float
    error_type: str


@dataclass(frozen=True, slots=True)
class CacheLooked:
    """A cache was asked for an answer of ``kind``."""

    kind: str
    hit: bool


@dataclass(frozen=True, slots=True)
class OperationTimed:
    """An operation was timed somewhere a monitor cannot reach, for example in a worker process."""

    name: str
    duration_s: float
    ok: bool
    error_type: str | None = None


Event = (
    UnitStarted | UnitFinished | RequestFinished | SlotWaited | RetryScheduled | CacheLooked | OperationTimed
)
Listener = Callable[[Event], None]

_listeners: tuple[Listener, ...] = ()
_lock = threading.Lock()  # guards the exchange of _listeners; readers take the tuple as it is


def listening() -> bool:
    """Return whether anyone listens."""
    return bool(_listeners)


def emit(event: Event) -> None:
    """Hand ``event`` to every listener, on this thread; a listener that fails is logged and never stops the work."""
    for listener in _listeners:
        try:
            listener(event)
        except Exception:  # noqa: BLE001 - a listener is a stranger
            kind = type(event).__name__
            _log.exception("an event listener failed on %s", kind, extra={"event": kind})


def subscribe(listener: Listener) -> Callable[[], None]:
    """Have ``listener`` called with every event from now on, on the emitting thread.

    Returns
    -------
    callable
        Call it to stop listening; calling it again does nothing.
    """
    global _listeners  # noqa: PLW0603 - the tuple is exchanged whole, so that emit needs no lock
    with _lock:
        _listeners = (*_listeners, listener)

    def unsubscribe() -> None:
        global _listeners  # noqa: PLW0603
        with _lock:
            _listeners = tuple(each for each in _listeners if each is not listener)

    return unsubscribe

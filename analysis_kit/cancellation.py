# ruff: noqa: SLF001 - parent and child are of one class
"""Work on other threads, and one way to stop it: a token it looks at, waits on, and registers its abort with.

A run makes one token; each unit works under a child of it. Whoever blocks (a socket read, a wait for a slot, a
backoff, a rate limit) registers with the current token, so that one ``cancel()`` reaches all of them at once.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, copy_context

_log = logging.getLogger(__name__)


class CancelToken:
    """Says whether work is still wanted, and wakes whoever waits when it no longer is.

    Parameters
    ----------
    deadline_s : float, optional
        Seconds from now after which ``remaining_s()`` is 0. The token does not cancel itself: whoever watches the
        clock calls `cancel`.
    parent : CancelToken, optional
        Cancelling the parent cancels this token too.

    Examples
    --------
    >>> token = CancelToken()
    >>> token.cancelled
    False
    >>> token.cancel(TimeoutError("took longer than 2 s"))
    >>> token.cancelled
    True
    """

    __slots__ = ("__weakref__", "_callbacks", "_deadline", "_error", "_event", "_lock", "_parent")

    def __init__(self, *, deadline_s: float | None = None, parent: CancelToken | None = None) -> None:
        self._lock = threading.Lock()  # guards _error and _callbacks
        self._event: threading.Event | None = None
        self._error: BaseException | None = None
        self._callbacks: dict[object, Callable[[], object]] = {}
        own = None if deadline_s is None else time.monotonic() + deadline_s
        limits = [limit for limit in (own, parent._deadline if parent else None) if limit is not None]
        self._deadline: float | None = min(limits) if limits else None
        self._parent = parent
        if parent is not None:
            parent._add(self, lambda: self.cancel(parent._error))

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called, here or on a parent."""
        return self._error is not None

    @property
    def error(self) -> BaseException | None:
        """What `raise_if_cancelled` raises, once cancelled."""
        return self._error

    def remaining_s(self) -> float | None:
        """Return the seconds left until the deadline (never below 0), or None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def cancel(self, error: BaseException | None = None) -> None:
        """Cancel once; later calls change nothing. Callbacks run on the calling thread."""
        if error is None:
            import asyncio

            error = asyncio.CancelledError("cancelled")
        with self._lock:
            if self._error is not None:
                return
            self._error = error
            callbacks = list(self._callbacks.values())
            self._callbacks.clear()
            if self._event is not None:
                self._event.set()
        for callback in callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001
                # one broken abort must not keep the others from being reached
                _log.exception("an abort callback failed", extra={"callback": repr(callback)})

    def raise_if_cancelled(self) -> None:
        """Raise the cancelling error if there is one."""
        if self._error is not None:
            raise self._error

    def wait(self, seconds: float) -> bool:
        """Sleep at most ``seconds``; return True as soon as the token is cancelled, else False."""
        with self._lock:
            if self._error is not None:
                return True
            if self._event is None:
                self._event = threading.Event()
        return self._event.wait(seconds)

    @contextlib.contextmanager
    def on_cancel(self, callback: Callable[[], object]) -> Iterator[None]:
        """While the block runs, have ``callback`` called on cancel (at once, if it already is cancelled)."""
        key = object()
        self._add(key, callback)
        try:
            yield
        finally:
            self._remove(key)

    def close(self) -> None:
        """Let go of the parent, once the work is over."""
        if self._parent is not None:
            self._parent._remove(self)

    def _add(self, key: object, callback: Callable[[], object]) -> None:
        with self._lock:
            if self._error is None:
                self._callbacks[key] = callback
                return
        callback()

    def _remove(self, key: object) -> None:
        with self._lock:
            self._callbacks.pop(key, None)

    def __repr__(self) -> str:
        state = f"cancelled: {self._error!r}" if self.cancelled else "live"
        return f"<CancelToken {state}>"


current_token: ContextVar[CancelToken | None] = ContextVar("analysis_kit_cancel_token", default=None)
"""The token of the unit that the current thread or task works on; None outside a run."""


def sleep(seconds: float) -> None:
    """Sleep ``seconds``, but leave at once, with the token's error, when the current unit is cancelled."""
    token = current_token.get()
    if token is None:
        time.sleep(seconds)
    elif token.wait(seconds):
        token.raise_if_cancelled()


def call_side_by_side(
    calls: Iterable[Callable[[], object]], name: str, *, within_s: float = math.inf
) -> None:
    """Make each call on a thread of its own, in the caller's context; return when all are over, or ``within_s`` is.

    A call that never returns does not keep the interpreter from ending. What a call raises is its own affair.
    """
    threads = [
        threading.Thread(target=copy_context().run, args=(call,), name=f"analysis-kit-{name}", daemon=True)
        for call in calls
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + within_s
    for thread in threads:
        thread.join(None if end == math.inf else max(0.0, end - time.monotonic()))

"""How a unit takes off and lands, whatever its worker is: the side of a run that workers see.

Whoever removes a unit's `Flight` from the table speaks for it: the worker that finished it, or the watch that gave it
up. What comes after that is dropped. Everything here may be called on any thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from analysis_kit import events
from analysis_kit.cancellation import CancelToken
from analysis_kit.engine.limits import RateLimit, Slots
from analysis_kit.engine.tasks import Outcome, Task, failed
from analysis_kit.results import Status

Item = tuple[int, Task]


class Lane(Protocol):
    """A kind of worker."""

    def hire(self) -> None:
        """Start one more worker; called on any thread."""

    def fed(self) -> None:
        """Note that the queue has new units."""

    def stop(self) -> None:
        """End what is under way as far as it can be ended; called once, on any thread."""

    def gone(self) -> bool:
        """Return whether no worker is left."""

    def close(self) -> None:
        """Wait for what is just ending; called on the loop's thread when the run is over."""


class Flight:
    """A unit that is being worked on."""

    __slots__ = ("abandon", "began", "due", "item", "token")

    def __init__(
        self,
        item: Item,
        token: CancelToken,
        abandon: Callable[[], None],
        timeout_s: float | None,
    ) -> None:
        self.item = item
        self.token = token
        self.abandon = abandon
        self.began = time.monotonic()
        self.due = None if timeout_s is None else self.began + timeout_s


@dataclass(frozen=True, slots=True)
class Terms:
    """What a run is run under."""

    on_error: Literal["raise", "collect"] = "raise"
    timeout_s: float | None = None
    deadline_s: float | None = None


class Board:
    """A run's queue, what is under way, and what came of it; made on the loop of the caller.

    Parameters
    ----------
    terms : Terms
    token : CancelToken or None
        Cancelling it stops the run.
    slots : Slots
        Where workers are had from.
    limiter : RateLimit or None
    context : contextvars.Context
        Each unit runs in a copy of it.
    nested : bool
        Whether a unit of a run that holds slots of ``slots`` waits for this one.
    """

    def __init__(
        self,
        terms: Terms,
        *,
        token: CancelToken | None,
        slots: Slots,
        limiter: RateLimit | None,
        context: contextvars.Context,
        nested: bool,
    ) -> None:
        self.terms = terms
        self.loop = asyncio.get_running_loop()
        self.token = CancelToken(deadline_s=terms.deadline_s, parent=token)
        self.slots = slots
        self.limiter = limiter
        self.context = context
        self.nested = nested
        self.queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self.flights: set[Flight] = set()
        self.failures: list[Outcome] = []
        self.kept: list[Outcome | None] = []  # by position; a stream keeps nothing
        self.stopping: BaseException | None = None
        self._stopped_at = 0.0
        self._lock = threading.Lock()  # guards the one change of `stopping`
        self._lane: Lane | None = None
        self._ready: deque[Outcome] = deque()  # finished, not yet handed over
        self._hands_over = False
        self._wake_at: float = 1  # outcomes ready that are worth a wake-up
        self._signalled = False
        self._waiter: asyncio.Future[None] | None = None
        self._epoch = (
            time.time() - time.monotonic()
        )  # the wall clock is read once: a step of it must not be in our times
        self._emits = events.listening()

    def hire(self) -> None:
        """Put one more worker to work, as the slots ask for it."""
        assert self._lane is not None
        try:
            self._lane.hire()
        except RuntimeError as exc:  # the loop was closed over a run in progress
            self.slots.leave(self)
            self.stop(exc)

    def take_off(self, item: Item, abandon: Callable[[], None], token: CancelToken | None = None) -> Flight:
        """Enter a unit in the table of what is under way."""
        if token is None:
            token = CancelToken(deadline_s=self.terms.timeout_s, parent=self.token)
        flight = Flight(item, token, abandon, self.terms.timeout_s)
        self.flights.add(flight)
        if self._emits:
            events.emit(events.UnitStarted(item[1].analyzer, item[1].unit))
        return flight

    def land(
        self,
        flight: Flight,
        value: Any = None,
        error: BaseException | None = None,
        attempts: int = 1,
        *,
        duration_s: float | None = None,
        started: float | None = None,
    ) -> bool:
        """Report how a unit ended; False if it was given up on before, and what it came to is dropped."""
        try:
            self.flights.remove(flight)
        except KeyError:
            return False
        position, task = flight.item
        if duration_s is None:
            duration_s = time.monotonic() - flight.began
        if started is None:
            started = self._epoch + flight.began
        if error is None:
            outcome = Outcome(task, value, None, "done", attempts, duration_s, started)
        else:
            verdict = flight.token.error
            status: Status = "failed"
            if isinstance(verdict, Exception) and verdict is not self.stopping:
                error = verdict  # the time limit; what the abort made of it says less
            elif verdict is not None and (error is verdict or isinstance(error, asyncio.CancelledError)):
                status = "cancelled"
            outcome = failed(
                task, error, status=status, attempts=attempts, duration_s=duration_s, started=started
            )
        self._record(position, outcome)
        return True

    def _record(self, position: int, outcome: Outcome) -> None:
        if self.kept:
            self.kept[position] = outcome
        if self._emits:
            error = outcome.error
            kind = None if error is None else type(error.__cause__ or error).__name__
            task = outcome.task
            events.emit(
                events.UnitFinished(
                    task.analyzer, task.unit, outcome.status, outcome.duration_s, outcome.attempts, kind
                )
            )
        if outcome.status == "failed":
            self.failures.append(outcome)
            if self.terms.on_error == "raise":
                self.stop(asyncio.CancelledError("another unit failed"))
        if self._hands_over:
            self._ready.append(outcome)
            if len(self._ready) >= self._wake_at and not self._signalled:
                self._signalled = True
                self.wake()

    def wake(self) -> None:
        """Have the watching coroutine look now."""
        try:
            self.loop.call_soon_threadsafe(self._on_wake)
        except RuntimeError:  # the loop was closed over a run in progress: nobody is left to hand anything to
            self.stop(asyncio.CancelledError("the event loop was closed"))

    def _on_wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def stop(self, reason: BaseException) -> None:
        """Start nothing more, and abort what is under way."""
        with self._lock:
            if self.stopping is not None:
                return
            self._stopped_at = time.monotonic()
            self.stopping = reason
        self.queue.put(None)
        self.token.cancel(reason)
        if self._lane is not None:
            self._lane.stop()
        if not self.loop.is_closed():
            self.wake()

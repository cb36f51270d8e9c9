"""One run: workers drain one queue, what they finish is handed over in batches, and one coroutine watches over it all.

Nothing crosses to the loop for each unit. A worker takes the next unit, does it, and puts its outcome where the caller
will look; the loop is woken for the first outcome after a pause, and then looks by itself every few milliseconds for as
long as outcomes keep coming. So 10,000 cheap units cost some dozens of wake-ups, and one slow unit is seen at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

from analysis_kit.cancellation import CancelToken
from analysis_kit.engine.flights import Board, Flight, Item, Lane, Terms
from analysis_kit.engine.limits import RateLimit, Slots
from analysis_kit.engine.tasks import Outcome, Task, failed

_log = logging.getLogger(__name__)

#: Seconds that a stopped unit has to end by itself before it is left behind; half of the second promised to the user.
GRACE_S = 0.5
#: An idle loop notices an interrupt of an ``await`` cell only at its next event, so there is always one soon.
HEARTBEAT_S = 0.2
#: Seconds between two looks while outcomes keep coming.
LOOK_S = 0.005
#: Units that a stream draws ahead, for each worker.
AHEAD = 16


class Run(Board):
    """A `Board` with the coroutines that drive it, on the loop of the caller."""

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
        super().__init__(terms, token=token, slots=slots, limiter=limiter, context=context, nested=nested)
        self._hook = contextlib.ExitStack()
        self._enough: float = 1  # outcomes that are worth a wake-up while they keep coming
        self.reader: asyncio.Task[Any] | None = None  # who reads the stream

    async def drain(
        self, lane: Lane, tasks: Sequence[Item], workers: int, give: Callable[[Outcome], object] | None
    ) -> list[Outcome]:
        """Work through ``tasks``, given in the order of work; return their outcomes by position."""
        self.kept = [None] * len(tasks)
        self._hands_over = give is not None
        self._enough = math.inf
        try:
            # fed before anyone is hired: cheap units are done by the first worker before the second has started
            for item in tasks:
                self.queue.put(item)
            self.end()
            self._open(lane, min(workers, len(tasks)))
            while not lane.gone():
                await self._turn(busy=self._hand_over(give))
        except GeneratorExit:
            self._break_off()
            raise
        except BaseException as exc:
            if isinstance(exc, Exception):  # the receiver failed: it is not called again
                give = None
            await self._settle(exc)
            self._account_for(tasks, give)
            raise
        finally:
            self._close()
        self._account_for(tasks, give)
        return [outcome for outcome in self.kept if outcome is not None]

    async def stream(self, lane: Lane, tasks: Iterator[Task], workers: int) -> AsyncGenerator[Outcome, None]:
        """Draw ``tasks`` a little ahead of the reader, and yield outcomes as they come."""
        self._hands_over = True
        most = AHEAD * workers
        self._enough = max(1, most // 2)
        numbers, ahead, more = itertools.count(), 0, True
        self.reader = asyncio.current_task()
        try:
            self._open(lane, workers)
            while (more or ahead) and not (self.stopping is not None and lane.gone() and not self._ready):
                given = 0
                while given < most:
                    while more and ahead < most and self.stopping is None:
                        task = next(tasks, None)
                        if task is None:
                            more = False
                            self.end()
                        else:
                            ahead += 1
                            self.queue.put((next(numbers), task))
                    lane.fed()
                    if not self._ready:
                        break
                    outcome = self._ready.popleft()
                    ahead -= 1
                    given += 1
                    if outcome.status == "done" or self.terms.on_error == "collect":
                        yield outcome
                await self._turn(busy=given > 0)
        except BaseException as exc:
            await self._settle(exc)
            raise
        finally:
            self._close()

    def end(self) -> None:
        """Note that nothing more will be fed."""
        self.queue.put(None)

    def _open(self, lane: Lane, workers: int) -> None:
        self._lane = lane
        self._hook.enter_context(self.token.on_cancel(self._on_token))
        self.slots.enter(self, workers)

    def _on_token(self) -> None:
        self.stop(self.token.error or asyncio.CancelledError("cancelled"))

    def _close(self) -> None:
        if self._lane is not None:
            self._lane.close()
        self.slots.leave(self)
        self._hook.close()
        self.token.close()

    def _hand_over(self, give: Callable[[Outcome], object] | None) -> bool:
        """Give away what is ready; an interrupt in the receiver leaves that outcome here, to be given once more."""
        count = len(self._ready)
        for _ in range(count):
            if give is not None:
                give(self._ready[0])
            self._ready.popleft()
        return count > 0

    def _account_for(self, tasks: Sequence[Item], give: Callable[[Outcome], object] | None) -> None:
        """Report what was never started, and hand over all that is left."""
        for position, task in tasks:
            if self.kept[position] is None:
                reason = self.stopping or asyncio.CancelledError("cancelled")
                self._record(position, failed(task, reason, status="not started", attempts=0))
        while self._hand_over(give):
            pass

    async def _turn(self, *, busy: bool) -> None:
        """Look at the clock, then wait until there is something to do; ``busy``: outcomes are coming right now."""
        assert self._lane is not None
        wait_s = self._look()
        self._wake_at = self._enough if busy else 1
        if busy:
            wait_s = min(wait_s, LOOK_S)
        if len(self._ready) >= self._wake_at:  # came in since the last look
            await asyncio.sleep(0)
            return
        if self._lane.gone():
            return
        self._waiter = self.loop.create_future()
        alarm = self.loop.call_later(wait_s, self._on_wake)
        try:
            await self._waiter
        finally:
            alarm.cancel()
            self._waiter = None
            self._signalled = False

    def _look(self) -> float:
        """Act on what is due; return the seconds until something else may be."""
        now, wait_s = time.monotonic(), HEARTBEAT_S
        left_s = self.token.remaining_s()
        if left_s is not None and self.stopping is None:
            if left_s <= 0:
                own = self.terms.deadline_s
                limit = "of what it is part of" if own is None else f"deadline_s={own}"
                self.stop(TimeoutError(f"its time ({limit}) was over"))
            wait_s = min(wait_s, left_s)
        if self.stopping is not None:
            left_s = self._stopped_at + GRACE_S - now
            if left_s <= 0:
                self._leave_behind(tuple(self.flights))
                left_s = HEARTBEAT_S
            return min(wait_s, left_s) if wait_s > 0 else left_s
        if self.terms.timeout_s is not None:
            wait_s = min(wait_s, self.terms.timeout_s, self._look_at_flights(now))
        if self.slots.contended:
            self.slots.deal()
        return wait_s

    def _look_at_flights(self, now: float) -> float:
        """Cancel units that took too long, and leave behind those that do not heed it."""
        next_s, deaf = HEARTBEAT_S, []
        for flight in tuple(self.flights):
            left_s = flight.due - now if flight.due is not None else HEARTBEAT_S
            if left_s <= -GRACE_S:
                deaf.append(flight)
            elif left_s > 0:
                next_s = min(next_s, left_s)
            else:
                next_s = min(next_s, left_s + GRACE_S)
                flight.token.cancel(TimeoutError(f"took longer than timeout_s={self.terms.timeout_s}"))
        if deaf:
            self._leave_behind(deaf)
        return next_s

    def _leave_behind(self, flights: Sequence[Flight]) -> None:
        """Give units up that cannot be stopped: their results will be dropped."""
        left = []
        for flight in flights:
            task = flight.item[1]
            if self.land(flight, error=flight.token.error or self.stopping):
                flight.abandon()
                left.append((task.analyzer, task.unit))
        if left:
            names = ", ".join(f"{analyzer} on {unit!r}" for analyzer, unit in left)
            _log.warning(
                "%d unit(s) were stopped and have not ended after %.1f s; they are left behind and their results dropped: %s",
                *(len(left), GRACE_S, names),
                extra={
                    "waited_s": GRACE_S,
                    "analyzers": [analyzer for analyzer, _ in left],
                    "units": [unit for _, unit in left],
                },
            )

    async def _settle(self, exc: BaseException) -> None:
        """Stop, and wait until all that was under way has ended or is left behind; a second interrupt waits no longer."""
        assert self._lane is not None
        words = (
            exc.args
            if isinstance(exc, asyncio.CancelledError)
            else (f"the run ended with {type(exc).__name__}",)
        )
        self.stop(asyncio.CancelledError(*words))
        try:
            while not self._lane.gone():
                await self._turn(busy=False)
        except BaseException:
            self._break_off()
            raise

    def _break_off(self) -> None:
        self.stop(asyncio.CancelledError("the run was broken off"))
        self._leave_behind(tuple(self.flights))

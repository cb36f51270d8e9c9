"""Workers that are coroutines: async functions run on the caller's own loop, never in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import queue
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any

from analysis_kit import retry
from analysis_kit.cancellation import CancelToken, current_token
from analysis_kit.engine.flights import Board, Item
from analysis_kit.engine.tasks import awaits


def await_on_loop(
    awaitable: Awaitable[Any],
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
    token: CancelToken,
) -> Any:
    """From a worker's thread, have ``awaitable`` awaited on ``loop`` in ``context``, and wait for what comes of it.

    So a run that mixes plain and async functions keeps one count of workers. A cancel reaches the task as a task's
    cancel, and this waits until the task has ended.
    """
    ended: queue.SimpleQueue[asyncio.Task[tuple[Any, SystemExit | None]]] = queue.SimpleQueue()
    tasks: list[asyncio.Task[Any]] = []

    async def work() -> tuple[Any, SystemExit | None]:
        try:
            return await awaitable, None
        except SystemExit as exc:  # from a task it would end the loop, and it is the failure of one unit
            return None, exc

    def start() -> None:
        task = loop.create_task(work(), context=context)
        tasks.append(task)
        task.add_done_callback(ended.put)

    def cancel() -> None:
        tasks[0].cancel()

    def abort() -> None:
        loop.call_soon_threadsafe(cancel)

    try:
        loop.call_soon_threadsafe(start)
        with token.on_cancel(abort):
            value, failure = ended.get().result()
    finally:
        if inspect.iscoroutine(awaitable):  # one that was never started must not count as never awaited
            awaitable.close()
    if failure is not None:
        raise failure
    return value


def _cancel_soon(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, and its tasks with it
        loop.call_soon_threadsafe(task.cancel)


class LoopLane(ABC):
    """A lane whose slots are held on the loop's thread: only for what is under way, so that an idle stream keeps none.

    Parameters
    ----------
    run : Board
    """

    def __init__(self, run: Board) -> None:
        self._run = run
        self._held = 0
        self._drained = False
        self._parked = False

    def hire(self) -> None:
        """Take up one more unit at a time; called on any thread."""
        self._run.loop.call_soon_threadsafe(self._hired)

    def fed(self) -> None:
        """Start what there is room for, ask for room where there is none, and give back what is not needed."""
        run = self._run
        if self._parked and self._open():
            self._parked = False
            run.slots.want(run, self._busy() + self._open())
        self._start()
        while self._held > self._busy() and (not self._open() or self._over()):
            self._held -= 1
            self._parked = True
            run.slots.give_back(run)

    def _hired(self) -> None:
        self._held += 1
        self.fed()

    def _next(self) -> None:
        """Go on after something has ended."""
        slots = self._run.slots
        if slots.contended and slots.must_yield(self._run):
            self._held -= 1
        self.fed()
        if self.gone():
            self._run.wake()

    def _over(self) -> bool:
        return self._drained or self._run.stopping is not None

    def _open(self) -> int:
        """Return how many units wait to be started; the mark of the end counts as one."""
        return self._run.queue.qsize()

    @abstractmethod
    def _busy(self) -> int:
        """Return how many slots are in use."""

    @abstractmethod
    def _start(self) -> None:
        """Start what there is room for."""

    @abstractmethod
    def gone(self) -> bool:
        """Return whether nothing is under way and nothing will be."""


class CoroutineLane(LoopLane):
    """As many tasks on the run's loop as it holds slots."""

    def __init__(self, run: Board) -> None:
        super().__init__(run)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[None]] = set()  # for the rate limit

    def _busy(self) -> int:
        return len(self._tasks)

    def _start(self) -> None:
        while len(self._tasks) < self._held and self._run.stopping is None:
            try:
                item = self._run.queue.get_nowait()
            except queue.Empty:
                return
            if item is None:
                self._run.queue.put(None)
                self._drained = True
                return
            context = self._run.context.copy()
            task = self._run.loop.create_task(self._fly(item), context=context)
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def stop(self) -> None:
        """Cancel what waits for its start; what is under way hears of it by its token."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and its tasks with it
            self._run.loop.call_soon_threadsafe(self._cancel_waiting)

    def gone(self) -> bool:
        """Return whether no task is left."""
        return not self._tasks and self._over()

    def close(self) -> None:
        """Do nothing: a task that is over is over."""

    def _cancel_waiting(self) -> None:
        for task in self._waiting:
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # an interrupt, which the loop has raised already
        if task not in self._tasks:
            return
        self._tasks.discard(task)
        self._next()

    async def _fly(self, item: Item) -> None:
        run = self._run
        task = asyncio.current_task()
        assert task is not None
        if run.limiter is not None:
            self._waiting.add(task)
            try:
                await run.limiter.pause()
            finally:
                self._waiting.discard(task)
        if run.stopping is not None:
            return
        flight = run.take_off(item, lambda: self._ended_for_us(task))
        current_token.set(flight.token)
        value: Any = None
        failure: BaseException | None = None
        with flight.token.on_cancel(functools.partial(_cancel_soon, run.loop, task)):
            try:
                value = item[1].call()
                if awaits(value):
                    value = await value
            except KeyboardInterrupt as exc:  # the user's, whichever unit it has hit
                run.land(flight, None, exc)
                run.stop(asyncio.CancelledError("interrupted by KeyboardInterrupt"))
                raise
            except BaseException as exc:  # noqa: BLE001 - whatever a unit raises is its result
                failure = exc
        run.land(flight, value, failure, attempts=retry.attempts())
        flight.token.close()

    def _ended_for_us(self, task: asyncio.Task[None]) -> None:
        """Forget a task that does not heed its cancel."""
        self._tasks.discard(task)
        self.fed()

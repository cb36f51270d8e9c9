"""Workers behind a ``concurrent.futures.Executor``: loky's processes, dask's, or the user's own.

Cheap units go out in chunks: the first chunk of each worker is one unit, and its time says how many make a tenth of a
second. A thread pool shares our memory, so there units run as on threads of our own. Anything else gets bytes.

When a worker dies, nobody knows which of the units under way has killed it. They are tried once more, each with nothing
else under way: whoever ends a worker then is the one, and fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import os
import pickle
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from typing import Any

from analysis_kit import events
from analysis_kit._optional import require
from analysis_kit.cancellation import CancelToken
from analysis_kit.engine.chunks import end_with, run_chunk, unpack_error, warm
from analysis_kit.engine.coroutines import LoopLane
from analysis_kit.engine.flights import Board, Flight, Item
from analysis_kit.engine.threads import fly
from analysis_kit.errors import AnalysisError, ConfigurationError

#: Seconds of work that make a chunk, and the most units in one.
CHUNK_S, CHUNK_MOST = 0.1, 1024
#: Towards the end chunks shrink, so that workers end together, but not below this part: a message costs as well.
CHUNK_LEAST = 16
#: A chunk may be so many times as large as the one before.
CHUNK_GROWTH = 8
#: Seconds beyond its time limit that a unit has while its worker process may still be starting.
START_S = 2.0


class Processes:
    """Worker processes of our own, by loky: started on use, and started anew after `kill` and after a fork.

    Parameters
    ----------
    workers : int
    """

    def __init__(self, workers: int) -> None:
        self._loky = require("loky", extra="processes", purpose="use_processes=True")
        self._workers = workers
        self._executor: Any = None
        self._pid = 0
        self._lock = threading.Lock()  # guards _executor

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Have ``function`` called in one of the processes."""
        with self._lock:
            if self._executor is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._executor = self._loky.ProcessPoolExecutor(
                    self._workers, initializer=end_with, initargs=(self._pid,)
                )
            future: Future[Any] = self._executor.submit(function, *args)
        return future

    def kill(self) -> None:
        """End the processes, whatever they are at; the next `submit` starts others."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None and self._pid == os.getpid():
            executor.shutdown(wait=True, kill_workers=True)


class _Chunk:
    """Units that were sent out together."""

    def __init__(self, items: Sequence[Item], *, alone: bool) -> None:
        self.items = items
        self.alone = alone
        self.excused = False  # its worker was killed by us, and not for its sake
        self.flights: list[Flight] = []
        self.token: CancelToken | None = None  # one for all: no cancel reaches into another process
        self.future: Future[Any] | None = None
        self.alarm: asyncio.TimerHandle | None = None  # while it waits for the rate limit


class ExecutorLane(LoopLane):
    """As many chunks under way as the run holds slots; all on the loop's thread, unless it says otherwise.

    Parameters
    ----------
    run : Board
    executor : Executor or Processes
    """

    def __init__(self, run: Board, executor: Executor | Processes) -> None:
        super().__init__(run)
        self._executor = executor
        self._ours = executor if isinstance(executor, Processes) else None
        # InterpreterPoolExecutor is a ThreadPoolExecutor by name only: its workers share no memory with us
        self._here = isinstance(executor, ThreadPoolExecutor) and "Interpreter" not in type(executor).__name__
        self._pickler = (
            None if self._here else require("cloudpickle", extra="processes", purpose="an executor")
        )
        self._functions: dict[int, tuple[Any, bytes]] = {}
        self._chunks: set[_Chunk] = set()
        self._again: deque[Item] = deque()
        self._suspects: deque[Item] = deque()
        self._warm = self._ours is None
        self._single = self._here or run.limiter is not None or run.terms.timeout_s is not None
        self._size = 1

    # -- the lane's side ----------------------------------------------------------------------------------------------

    def _busy(self) -> int:
        return len(self._chunks)

    def _open(self) -> int:
        return super()._open() + len(self._again) + len(self._suspects)

    def _start(self) -> None:
        # one cheap chunk more than our processes can run, so that none of them waits for us between two
        spare = self._ours is not None and self._size > 1 and self._held > 0
        while len(self._chunks) < self._held + spare and self._run.stopping is None:
            if self._suspects and self._chunks:
                return
            alone = bool(self._suspects)
            items = [self._suspects.popleft()] if alone else self._take()
            if not items:
                return
            self._send(_Chunk(items, alone=alone))

    def stop(self) -> None:
        """Kill processes of ours, and take back what other executors have not begun; called on any thread."""
        for chunk in tuple(self._chunks):
            if chunk.future is not None:
                chunk.future.cancel()
        if self._ours is not None:
            self._ours.kill()

    def gone(self) -> bool:
        """Return whether nothing is under way."""
        return self._over() and not any(chunk.future is not None for chunk in self._chunks)

    def close(self) -> None:
        """Give back what waits for its start; the engine owns the processes, and the user the executor."""
        for chunk in self._chunks:
            if chunk.alarm is not None and self._run.limiter is not None:
                chunk.alarm.cancel()
                self._run.limiter.give_back()

    def _over(self) -> bool:
        return self._run.stopping is not None or (self._drained and not self._again and not self._suspects)

    def _take(self) -> list[Item]:
        items: list[Item] = []
        share = math.ceil(self._run.queue.qsize() / (2 * self._held))
        size = 1 if self._single else min(self._size, max(share, self._size // CHUNK_LEAST, 1))
        while len(items) < size and self._again:
            items.append(self._again.popleft())
        while len(items) < size:
            try:
                item = self._run.queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                self._run.queue.put(None)
                self._drained = True
                break
            items.append(item)
        return items

    # -- there --------------------------------------------------------------------------------------------------------

    def _send(self, chunk: _Chunk) -> None:
        self._chunks.add(chunk)
        wait_s = self._run.limiter.reserve() if self._run.limiter is not None else 0.0
        if wait_s > 0:
            chunk.alarm = self._run.loop.call_later(wait_s, self._submit, chunk)
        else:
            self._submit(chunk)

    def _submit(self, chunk: _Chunk) -> None:
        run = self._run
        if run.stopping is not None:
            return
        chunk.alarm = None
        abandon = functools.partial(self._abandon, chunk)
        try:
            if self._here:
                chunk.future = self._executor.submit(fly, run, chunk.items[0], abandon)
            else:
                function, arguments = self._pack(chunk)
                if not self._warm:  # so that the time of a start is not taken for the time of a unit
                    self._executor.submit(warm)
                token = chunk.token = CancelToken(parent=run.token)
                chunk.flights = [run.take_off(item, abandon, token) for item in chunk.items]
                for flight in chunk.flights:
                    if flight.due is not None and not self._warm:
                        flight.due += START_S
                listener = os.getpid() if events.listening() else 0
                limit_s = run.terms.timeout_s
                chunk.future = self._executor.submit(run_chunk, function, arguments, limit_s, listener)
        except ConfigurationError as exc:
            self._chunks.discard(chunk)
            run.stop(exc)
        except Exception as exc:  # noqa: BLE001 - the executor refuses, and says why
            self._chunks.discard(chunk)
            self._lost(chunk, exc)
            run.loop.call_soon(self._next)
        else:
            chunk.future.add_done_callback(functools.partial(self._call_home, chunk))

    def _pack(self, chunk: _Chunk) -> tuple[bytes, bytes]:
        """Return the function that all calls share, and their arguments; as bytes, so that pickling fails here."""
        calls = [item[1].call for item in chunk.items]
        first = calls[0]
        plain = isinstance(first, functools.partial) and all(
            isinstance(call, functools.partial) and call.func is first.func and not call.keywords
            for call in calls
        )
        function = first.func if isinstance(first, functools.partial) and plain else None
        known = self._functions.get(id(function))
        if known is None:
            known = self._functions[id(function)] = (function, self._dumps(function, chunk))
        return known[1], self._dumps([call.args for call in calls] if plain else calls, chunk)  # type: ignore[attr-defined]

    def _dumps(self, value: object, chunk: _Chunk) -> bytes:
        assert self._pickler is not None
        try:
            return bytes(self._pickler.dumps(value))
        except Exception as exc:
            raise ConfigurationError(
                f"{chunk.items[0][1].analyzer} on {chunk.items[0][1].unit!r} cannot be sent to a worker process: {exc}. "
                "Use threads, or leave what it holds (locks, sockets, open files) to be made where it is used."
            ) from exc

    # -- and back -----------------------------------------------------------------------------------------------------

    def _call_home(self, chunk: _Chunk, future: Future[Any]) -> None:
        """Have the loop's thread take it from here; called on the executor's."""
        with contextlib.suppress(RuntimeError):  # the loop was closed over a run in progress: nobody waits
            self._run.loop.call_soon_threadsafe(self._landed, chunk, future)

    def _landed(self, chunk: _Chunk, future: Future[Any]) -> None:
        if chunk.token is not None:
            chunk.token.close()
        if chunk not in self._chunks:
            return
        self._chunks.discard(chunk)
        try:
            answer = None if self._here else pickle.loads(future.result())  # noqa: S301 - from our own worker
            if self._here and not future.cancelled():
                future.result()
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 - the chunk as a whole is lost
            self._lost(chunk, exc)
        else:
            if answer is not None:
                self._warm = True
                self._report(chunk, answer)
        self._next()

    def _report(self, chunk: _Chunk, answer: Any) -> None:
        for event in answer.events:
            events.emit(event)
        columns = zip(answer.values, answer.attempts, answer.started, answer.durations_s, strict=True)
        for number, (value, tries, started, duration_s) in enumerate(columns):
            flight = chunk.flights[number]
            error = unpack_error(answer.failures[number]) if number in answer.failures else None
            self._run.land(flight, value, error, tries, duration_s=duration_s, started=started)
        mean_s = sum(answer.durations_s) / len(answer.durations_s)
        fitting = int(CHUNK_S / max(mean_s, CHUNK_S / CHUNK_MOST))
        self._size = max(1, min(fitting, CHUNK_GROWTH * self._size))

    def _lost(self, chunk: _Chunk, exc: BaseException) -> None:
        """Decide about units whose worker did not answer."""
        run = self._run
        if (
            run.stopping is None
            and self._ours is not None
            and isinstance(exc, BrokenExecutor)
            and not chunk.excused
        ):
            self._ours.kill()
            self._warm = False
        doubtful = len(chunk.items) > 1 or (isinstance(exc, BrokenExecutor) and not chunk.alone)
        if run.stopping is None and (chunk.excused or doubtful):
            run.flights.difference_update(chunk.flights)
            (self._again if chunk.excused else self._suspects).extend(chunk.items)
            return
        cause = run.stopping
        if cause is None:
            first_line = str(exc).partition("\n")[0]
            cause = AnalysisError(f"its worker ended without an answer ({type(exc).__name__}: {first_line})")
            cause.__cause__ = exc
        for flight in chunk.flights or [run.take_off(item, _nothing) for item in chunk.items]:
            run.land(flight, None, cause)

    def _abandon(self, chunk: _Chunk) -> None:
        """Forget a chunk that was given up; a process of ours that is stuck in it is killed."""
        self._chunks.discard(chunk)
        if self._ours is not None and self._run.stopping is None:
            for other in self._chunks:
                other.excused = True
            self._ours.kill()
            self._warm = False
        self._run.loop.call_soon(self._next)


def _nothing() -> None:
    """Abandon what is nowhere."""

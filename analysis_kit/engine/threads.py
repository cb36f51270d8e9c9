"""Workers that are threads: daemons of our own, so that one that is blocked for ever never holds up the exit."""

from __future__ import annotations

import contextvars
import functools
import queue
import threading
from collections.abc import Callable
from typing import Any

from analysis_kit import retry
from analysis_kit.cancellation import CancelToken, current_token
from analysis_kit.engine.coroutines import await_on_loop
from analysis_kit.engine.flights import Board, Item
from analysis_kit.engine.tasks import awaits

#: Seconds that a thread waits for a stream to be fed before it gives its slot back.
IDLE_S = 0.05
#: A worker that has reported its last unit ends within microseconds; this only bounds a machine that stands still.
JOIN_S = 1.0


def fly(
    run: Board,
    item: Item,
    abandon: Callable[[], None],
    token: CancelToken | None = None,
    base: contextvars.Context | None = None,
) -> bool:
    """Do one unit on this thread; False if it was given up on meanwhile.

    Without ``token`` the unit gets one of its own, as it must where it has a time limit of its own; with it, ``base``
    is a context in which that token is the current one.
    """
    flight = run.take_off(item, abandon, token)
    context = (base or run.context).copy()
    if base is None:
        context.run(current_token.set, flight.token)
    value: Any = None
    failure: BaseException | None = None
    try:
        value = context.run(item[1].call)
        if awaits(value):
            value = await_on_loop(value, run.loop, context, flight.token)
    except BaseException as exc:  # noqa: BLE001 - whatever a unit raises is its result, also SystemExit
        failure = exc
    landed = run.land(flight, value, failure, context.run(retry.attempts))
    if token is None:
        flight.token.close()
    return landed


class Job:
    """Something for one thread to do."""

    __slots__ = ("_over", "call", "thread")

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.thread: threading.Thread | None = None
        self._over = threading.Lock()
        self._over.acquire()

    def over(self) -> None:
        """Note that its thread is free again, or ends."""
        self._over.release()

    def wait(self, *, ends: bool) -> None:
        """Wait until its thread is free, or (``ends``) has ended."""
        if self._over.acquire(timeout=JOIN_S) and ends and self.thread is not None:
            self.thread.join(JOIN_S)


class Crew:
    """The threads of an engine. While ``keep`` is set they wait for the next run, else each ends with its own.

    A new thread may be milliseconds in coming on a busy machine, and its starter waits for that; one that waits already
    costs neither.
    """

    def __init__(self) -> None:
        self.keep = False
        self._idle: list[tuple[threading.Thread, queue.SimpleQueue[Job | None]]] = []
        self._lock = threading.Lock()  # guards both

    def run(self, job: Job) -> None:
        """Have a thread do ``job``."""
        with self._lock:
            waiting = self._idle.pop() if self._idle else None
        if waiting is not None:
            job.thread = waiting[0]
            waiting[1].put(job)
            return
        job.thread = threading.Thread(
            target=self._serve, args=(job,), name="analysis-kit-worker", daemon=True
        )
        job.thread.start()

    def dismiss(self) -> None:
        """End the threads that wait; those at work end with their run."""
        with self._lock:
            self.keep = False
            idle, self._idle = self._idle, []
        for _, inbox in idle:
            inbox.put(None)
        for thread, _ in idle:
            thread.join(JOIN_S)

    def _serve(self, job: Job | None) -> None:
        inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        while job is not None:
            job.call()
            with self._lock:
                keep = self.keep
                if keep:
                    self._idle.append((threading.current_thread(), inbox))
            job.over()
            job = None  # it holds a whole run
            if keep:
                job = inbox.get()


class _Seat:
    """A worker's place in the lane."""

    __slots__ = ("lane", "taken")

    def __init__(self, lane: ThreadLane) -> None:
        self.lane = lane
        self.taken = True

    def abandon(self) -> None:
        """Give the place to another thread; this one is stuck."""
        self.taken = False
        self.lane.replace(self)


class ThreadLane:
    """Threads that drain a run's queue until it ends, or until their slot is due to another run.

    Parameters
    ----------
    run : Board
    crew : Crew
    fed : bool
        Whether units are fed while it works, so that a worker may find the queue empty before its end.
    """

    def __init__(self, run: Board, crew: Crew, *, fed: bool) -> None:
        self._run = run
        self._crew = crew
        self._patience_s = IDLE_S if fed else None
        self._parked = False  # whether a thread has left for want of units
        self._lock = threading.Lock()  # guards the two below and changes of _drained
        self._seats: set[_Seat] = set()
        self._jobs: dict[_Seat, Job] = {}
        self._drained = False

    def hire(self) -> None:
        """Put one more thread to work."""
        seat = _Seat(self)
        job = Job(functools.partial(self._work, seat))
        with self._lock:
            wanted = not self._drained and self._run.stopping is None
            if wanted:
                self._jobs = {each: job for each, job in self._jobs.items() if each in self._seats}
                self._seats.add(seat)
                self._jobs[seat] = job
        if not wanted:
            self._run.slots.give_back(self._run)
            return
        try:
            self._crew.run(job)
        except RuntimeError as exc:  # the system gives no more threads
            job.over()
            self._leave(seat)
            self._run.stop(exc)

    def fed(self) -> None:
        """Have threads come back that have left for want of units."""
        waiting = self._run.queue.qsize()
        if self._parked and waiting:
            self._parked = False
            self._run.slots.want(self._run, len(self._seats) + waiting)

    def stop(self) -> None:
        """Do nothing: the queue's end and the units' tokens reach every thread."""

    def gone(self) -> bool:
        """Return whether no thread is left."""
        with self._lock:
            return not self._seats and (self._drained or self._run.stopping is not None)

    def close(self) -> None:
        """Wait for threads that are just ending; abandoned ones are not among them."""
        for seat, job in self._jobs.items():
            if seat.taken:
                job.wait(ends=not self._crew.keep)

    def replace(self, seat: _Seat) -> None:
        """Have another thread in the place of an abandoned one."""
        with self._lock:
            self._seats.discard(seat)
        self.hire()

    def _work(self, seat: _Seat) -> None:
        run, slots, abandon = self._run, self._run.slots, seat.abandon
        get = (
            functools.partial(run.queue.get, timeout=self._patience_s) if self._patience_s else run.queue.get
        )
        # one token serves unit after unit, for it is the run that cancels them; a time limit needs one for each
        token, base = (None, None) if run.terms.timeout_s is not None else self._token()
        yielded = False
        try:
            while not yielded:
                try:
                    item = get()
                except queue.Empty:
                    self._parked = True
                    break
                if item is None:
                    run.queue.put(None)  # for the others
                    self._drained = True
                    break
                if run.stopping is not None or (run.limiter is not None and not run.limiter.wait(run.token)):
                    continue
                if not fly(run, item, abandon, token, base):
                    return
                if token is not None and token.cancelled and run.stopping is None:  # by the unit itself
                    token, base = self._token()
                yielded = slots.contended and slots.must_yield(run)
        except BaseException as exc:  # noqa: BLE001 - a fault of ours must end the run with its reason, not hang it
            run.stop(exc)
        finally:
            if token is not None:
                token.close()
            self._leave(seat, yielded=yielded)

    def _token(self) -> tuple[CancelToken, contextvars.Context]:
        token, base = CancelToken(parent=self._run.token), self._run.context.copy()
        base.run(current_token.set, token)
        return token, base

    def _leave(self, seat: _Seat, *, yielded: bool = False) -> None:
        with self._lock:
            if not seat.taken:
                return
            self._seats.discard(seat)
            last = not self._seats
        if not yielded:
            self._run.slots.give_back(self._run)
        if last:
            self._run.wake()

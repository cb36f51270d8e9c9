"""What an engine has at hand: its options, the slots of its workers, its processes, and the runs that use them."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from types import TracebackType
from typing import Self

from analysis_kit import retry
from analysis_kit.cancellation import CancelToken, current_token
from analysis_kit.engine.arguments import OnError, Workers, checked_policy, checked_seconds, checked_workers
from analysis_kit.engine.coroutines import CoroutineLane
from analysis_kit.engine.drain import Run
from analysis_kit.engine.executors import ExecutorLane, Processes
from analysis_kit.engine.flights import Item, Lane, Terms
from analysis_kit.engine.limits import Cap, RateLimit, Slots
from analysis_kit.engine.tasks import Outcome, all_async
from analysis_kit.engine.threads import Crew, ThreadLane
from analysis_kit.errors import ConfigurationError

#: The most workers of ``max_workers="auto"``; the cap decides how many of them there are.
AUTO_MOST = 64

#: The engines that the current context works for, outermost first.
_inside: contextvars.ContextVar[tuple[Slots, ...]] = contextvars.ContextVar(
    "analysis_kit_engines", default=()
)


class Staff:
    """The lasting part of `AsyncAnalysisEngine`, whose arguments it takes."""

    def __init__(
        self,
        max_workers: Workers = 4,
        use_processes: bool = False,  # noqa: FBT001, FBT002 - the design's own signature
        *,
        executor: Executor | None = None,
        on_error: OnError = "raise",
        timeout_s: float | None = None,
        rate_limit: str | None = None,
        cap: Cap | None = None,
    ) -> None:
        if executor is not None and use_processes:
            raise ConfigurationError("executor= and use_processes=True exclude each other: give one of them.")
        if executor is not None and not isinstance(executor, Executor):
            raise ConfigurationError(f"executor={executor!r} is no concurrent.futures.Executor.")
        self.max_workers = checked_workers(max_workers)
        self.use_processes = use_processes
        self.on_error = checked_policy(on_error)
        self.timeout_s = checked_seconds("timeout_s", timeout_s)
        self.rate_limit = rate_limit
        self._executor = executor
        self._cap = cap
        self._pools_cap: Cap | None = None  # where none was given: that of the pool at the time of the run
        self._limiter = None if rate_limit is None else RateLimit(rate_limit)
        self._slots = Slots(self._limit, moving=self.max_workers == "auto")
        self._lock = threading.Lock()  # guards the four below
        self._runs: set[Run] = set()
        self._spare: list[Processes] = []
        self._entered = 0
        self._crew = Crew()
        self._pid = os.getpid()

    def cancel(self) -> None:
        """Stop every run of this engine, from any thread: queued units never start, running ones are aborted."""
        self._forget_parent()
        with self._lock:
            runs = tuple(self._runs)
        for run in runs:
            run.stop(asyncio.CancelledError("the engine was told to cancel"))

    def close(self) -> None:
        """Cancel what runs and end idle workers; the engine can be used again, which starts new ones."""
        self.cancel()
        with self._lock:
            spare, self._spare = self._spare, []
        for processes in spare:
            processes.kill()
        self._crew.dismiss()

    def __enter__(self) -> Self:
        with self._lock:
            self._entered += 1
            self._crew.keep = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._entered -= 1
            last = self._entered <= 0
        if last:
            self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __repr__(self) -> str:
        kind = (
            "processes"
            if self.use_processes
            else "threads"
            if self._executor is None
            else repr(self._executor)
        )
        runs = len(self._runs)
        state = f"{runs} run{'s' if runs != 1 else ''} under way" if runs else "idle"
        return f"<AsyncAnalysisEngine {self.max_workers} {kind}, {state}>"

    # -- runs ---------------------------------------------------------------------------------------------------------

    def _terms(self, on_error: OnError | None, timeout_s: float | None, deadline_s: float | None) -> Terms:
        return Terms(
            self.on_error if on_error is None else checked_policy(on_error),
            self.timeout_s if timeout_s is None else checked_seconds("timeout_s", timeout_s),
            checked_seconds("deadline_s", deadline_s),
        )

    def _begin(self, terms: Terms, token: CancelToken | None) -> Run:
        self._forget_parent()
        self._pools_cap = None
        context = contextvars.copy_context()
        context.run(_inside.set, (*_inside.get(), self._slots))
        context.run(retry.new_scope)
        caller = asyncio.current_task()
        with self._lock:
            reads = caller is not None and any(run.reader is caller for run in self._runs)
        run = Run(
            terms,
            token=token if token is not None else current_token.get(),
            slots=self._slots,
            limiter=self._limiter,
            context=context,
            nested=reads or self._slots in _inside.get(),
        )
        with self._lock:
            self._runs.add(run)
        return run

    def _lane(self, run: Run, *, fed: bool, coroutines: bool) -> tuple[Lane, Processes | None]:
        """Return workers for ``run``, and the processes that it has for itself until it is done."""
        if self._executor is not None:
            return ExecutorLane(run, self._executor), None
        if self.use_processes:
            with self._lock:
                processes = self._spare.pop() if self._spare else None
            processes = processes or Processes(self._most())
            return ExecutorLane(run, processes), processes
        return (CoroutineLane(run) if coroutines else ThreadLane(run, self._crew, fed=fed)), None

    def _done(self, run: Run, processes: Processes | None) -> None:
        with self._lock:
            self._runs.discard(run)
            keep = self._entered > 0
            if keep and processes is not None:
                self._spare.append(processes)
        if not keep and processes is not None:
            processes.kill()

    async def _drain(
        self,
        items: Sequence[Item],
        terms: Terms,
        *,
        token: CancelToken | None = None,
        give: Callable[[Outcome], object] | None = None,
    ) -> tuple[Run | None, list[Outcome]]:
        """Run ``items``, given in the order of work; return outcomes by position, and the run, which knows how it ended."""
        if not items:
            return None, []
        run = self._begin(terms, token)
        processes = None
        try:
            lane, processes = self._lane(run, fed=False, coroutines=all_async(items))
            return run, await run.drain(lane, items, self._most(), give)
        finally:
            self._done(run, processes)

    def _most(self) -> int:
        return AUTO_MOST if self.max_workers == "auto" else self.max_workers

    def _limit(self) -> int:
        if self.max_workers != "auto":
            return self.max_workers
        cap = self._cap or self._pools_cap
        if cap is None:
            from analysis_kit.ollama.pool import get_pool

            cap = self._pools_cap = get_pool().limit_for()
        return cap.limit

    def _forget_parent(self) -> None:
        """Start clean in a forked child: the parent's threads, runs and processes are not here."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._slots = Slots(self._limit, moving=self.max_workers == "auto")
        self._runs, self._spare, self._crew = set(), [], Crew()
        self._crew.keep = self._entered > 0

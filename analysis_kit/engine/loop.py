"""`run_async`: the result of an awaitable, from a script and from inside a running loop such as a notebook's.

nest-asyncio2 is applied here and nowhere else, and only under a running loop that it can patch. Library code never calls
`run_async`: nested runs end last in, first out, so two of them inside async code can wait for each other for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from analysis_kit.errors import ConfigurationError

T = TypeVar("T")

_log = logging.getLogger(__name__)
#: How often a wait inside a running task asks whether that task was cancelled; also wakes an idle loop for a signal.
LOOK_S = 0.1
#: Seconds that cancelled tasks have to end before they are named in a warning and left.
END_S = 2.0

#: Marks every task that was started inside a nested run, however deep, by the runs it belongs to.
_inside: contextvars.ContextVar[tuple[object, ...]] = contextvars.ContextVar(
    "analysis_kit_nested", default=()
)


class NotAwaitableError(ConfigurationError, TypeError):
    """Raised when `run_async` is given something that cannot be awaited."""


def run_async(awaitable: Awaitable[T]) -> T:
    """Return the result of ``awaitable``, whether or not a loop is running.

    - No loop runs in this thread (a script): as `asyncio.run` does it.
    - A loop runs (a notebook cell): nested on that loop, which nest-asyncio2 makes possible.
    - A loop runs that cannot be nested (uvloop; any loop once nest_asyncio 1 has patched asyncio): on a loop in a thread.

    In all three an exception, an interrupt, or a cancel of the surrounding task cancels what was started inside and
    waits for it to end; tasks left over at the end are cancelled, as `asyncio.run` does it; and context variables of the
    caller are seen inside, while what is set inside stays inside.

    Parameters
    ----------
    awaitable : awaitable
        A coroutine, a future, or any object with ``__await__``, such as an `AnalysisRun`.

    Raises
    ------
    NotAwaitableError
        (a `ConfigurationError` and `TypeError`) if it is not awaitable.
    ConfigurationError
        If it is a future of a running loop that cannot be nested: only ``await`` can wait for that.
    KeyboardInterrupt
        When interrupted, after the work has ended.

    Examples
    --------
    >>> async def answer():
    ...     return 42
    >>> run_async(answer())
    42
    """
    given: object = awaitable
    if not inspect.isawaitable(given):
        hint = " Call it: run_async(f(...))." if callable(given) else ""
        raise NotAwaitableError(f"run_async needs an awaitable, got {type(given).__name__}.{hint}")
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # isfuture, because a patch has put other classes under the names of asyncio's
        return _in_its_own_loop(awaitable) if asyncio.isfuture(awaitable) else _alone(awaitable)
    old_patch = hasattr(asyncio, "_nest_patched") and not hasattr(asyncio, "_nest_asyncio2")
    if isinstance(loop, asyncio.BaseEventLoop) and not old_patch:  # the old one loses queued cells
        return _nested(loop, awaitable)
    if asyncio.isfuture(awaitable) and awaitable.get_loop() is loop:
        raise ConfigurationError(
            f"this future belongs to the running {type(loop).__module__}.{type(loop).__name__}, which cannot be nested: await it."
        )
    return _in_thread(awaitable)


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _coroutine(awaitable: Awaitable[T]) -> Coroutine[Any, Any, T]:
    return awaitable if inspect.iscoroutine(awaitable) else _awaited(awaitable)


def _close_unused(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Spare the user a "never awaited" warning for a coroutine that could not be started."""
    if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        coroutine.close()


def _alone(awaitable: Awaitable[T], started: Callable[[asyncio.Task[Any]], None] | None = None) -> T:
    """Run on a new loop in this thread; a Runner, because asyncio.run may have been patched to keep an old one."""
    coroutine = _coroutine(awaitable)

    async def main() -> T:
        task = asyncio.current_task()
        if started is not None and task is not None:
            started(task)
        return await coroutine

    try:
        # with a factory the Runner leaves the thread's current loop as it was
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(main() if started is not None else coroutine)
    finally:
        _close_unused(coroutine)


def _in_its_own_loop(future: asyncio.Future[T]) -> T:
    """Wait for a future from outside of its loop, which may be idle, or run in another thread."""
    loop = future.get_loop()
    if loop.is_running():
        return asyncio.run_coroutine_threadsafe(_awaited(future), loop).result()
    return loop.run_until_complete(future)


def _nested(loop: asyncio.BaseEventLoop, awaitable: Awaitable[T]) -> T:
    coroutine = _coroutine(awaitable)
    try:
        import nest_asyncio2

        before = asyncio.run
        nest_asyncio2.apply(loop)
        if asyncio.run is not before:
            asyncio.run = _nested_only(asyncio.run, otherwise=before)
    except BaseException:
        _close_unused(coroutine)
        raise
    run = object()
    context = contextvars.copy_context()
    context.run(_inside.set, (*_inside.get(), run))
    task = loop.create_task(coroutine, context=context)
    watch = _Watch(loop, task)
    try:
        return loop.run_until_complete(task)
    finally:
        watch.alarm.cancel()
        _end(loop, run, task)


def _nested_only(nested: Callable[..., Any], *, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """Return an `asyncio.run` that is the patch's under a running loop alone: it neither cancels nor closes what is left."""

    @functools.wraps(otherwise)
    def run(main: Coroutine[Any, Any, T], **how: Any) -> T:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return cast("T", otherwise(main, **how))
        return cast("T", nested(main, **how))

    return run


class _Watch:
    """Passes a cancel of the calling task on to the nested one; its alarm also keeps the loop from idling for long."""

    def __init__(self, loop: asyncio.BaseEventLoop, task: asyncio.Task[Any]) -> None:
        self._loop = loop
        self._task = task
        self._caller = _Caller()
        self.alarm = loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        if self._caller.was_cancelled():
            self._task.cancel()
        else:
            self.alarm = self._loop.call_later(LOOK_S, self._look)


def _end(loop: asyncio.BaseEventLoop, run: object, task: asyncio.Task[Any]) -> None:
    """Cancel every task that a nested run has started and that still goes on, and run the loop until they have ended."""
    ours = {each for each in asyncio.all_tasks(loop) if run in _marks(each)}
    # the loop closes a generator that was left half read in a task: cancelled, what it has open would stay open
    closing = {each for each in ours if type(each.get_coro()).__name__ == "async_generator_athrow"}
    if closing:
        loop.run_until_complete(asyncio.wait(closing, timeout=END_S))
    for each in ours:
        each.cancel()
    if ours:
        _, left = loop.run_until_complete(asyncio.wait(ours, timeout=LOOK_S))
        for each in left:
            _wake_stranded(loop, each)
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=END_S))
    for each in {task, *ours}:
        if not each.done():
            facts = {"waited_s": END_S, "task": repr(each)}
            _log.warning(
                "a task did not end within %(waited_s).0f s of its cancel and is left: %(task)s",
                facts,
                extra=facts,
            )
        elif not each.cancelled():
            each.exception()  # seen: an interrupted task keeps the interrupt that the loop has raised already


def _wake_stranded(loop: asyncio.BaseEventLoop, task: asyncio.Task[Any]) -> None:
    """Let a task go on whose wake-up an interrupt has swallowed.

    A task written in Python, as nest-asyncio2 makes them, can be hit between what it waited for and its next step: that
    step is then in no queue any more, and a cancel, which only marks the task, waits for it for ever. Seen in 1 of 45
    interrupts on busy processors. The step's name is private, so where it is not there nothing is done.
    """
    waited_for, step = getattr(task, "_fut_waiter", None), getattr(task, "_Task__step", None)
    if step is not None and waited_for is not None and waited_for.done():
        loop.call_soon(step, context=getattr(task, "_context", None))


def _marks(task: asyncio.Task[Any]) -> tuple[object, ...]:
    get_context = getattr(
        task, "get_context", None
    )  # from 3.12 on; before, nest-asyncio2 makes all tasks Python ones
    context = get_context() if get_context is not None else getattr(task, "_context", None)
    return context.get(_inside, ()) if context is not None else ()


class _Caller:
    """The task that called `run_async`, if one did: a cancel of it cannot reach its frame, which is ours just now."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._before = self._task.cancelling() if self._task is not None else 0

    def was_cancelled(self) -> bool:
        """Return whether somebody asked to cancel it since."""
        return self._task is not None and self._task.cancelling() > self._before


def _in_thread(awaitable: Awaitable[T]) -> T:
    """Run on a new loop in a thread, and wait for it here without a loop of our own."""
    results: list[T] = []
    failures: list[BaseException] = []
    running: list[asyncio.Task[Any]] = []
    stopped = threading.Event()
    caller = _Caller()

    def started(task: asyncio.Task[Any]) -> None:
        running.append(task)
        if stopped.is_set():
            task.cancel()

    def work() -> None:
        try:
            results.append(_alone(awaitable, started))
        except BaseException as exc:  # noqa: BLE001 - it is raised in the thread that waits
            failures.append(exc)

    target = functools.partial(contextvars.copy_context().run, work)
    thread = threading.Thread(target=target, name="analysis-kit-loop", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(LOOK_S)
            if caller.was_cancelled():
                raise asyncio.CancelledError("the surrounding task was cancelled")
    except BaseException:
        stopped.set()
        with contextlib.suppress(RuntimeError):  # its loop is closed: it has just ended
            for task in running:
                task.get_loop().call_soon_threadsafe(task.cancel)
        thread.join(END_S)
        raise
    if failures:
        raise failures[0]
    return results[0]

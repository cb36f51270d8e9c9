# ruff: noqa: SLF001 - a timing is the monitor's own hand
"""What ``measure`` returns: a context manager and a decorator that times one operation and hands over one tuple."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from time import perf_counter, time
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

from analysis_kit.errors import ConfigurationError
from analysis_kit.events import OperationTimed, emit

if TYPE_CHECKING:
    from analysis_kit.monitor.recorder import Recorder
    from analysis_kit.monitor.records import Operation

P = ParamSpec("P")
R = TypeVar("R")


class _Here(threading.local):
    def __init__(self) -> None:
        self.thread_name = threading.current_thread().name
        self.alerting = False
        self.forwarding = False


here = _Here()
"""Of the current thread: its name, and whether an alert, or an event of its own, is being handed out just now."""


class Timing:
    """Times the block it is the context of, or each call of the function it decorates.

    `measure` makes it and fills it in: without an ``__init__`` of its own, as a call less counts here.
    """

    __slots__ = ("metadata", "operation", "start")

    operation: Operation
    metadata: dict[str, Any] | None
    start: float  # 0.0 while nothing runs

    def __enter__(self) -> Self:
        if self.start:
            raise ConfigurationError(
                f"this measurement of {self.operation.name!r} is running already; call measure() anew for each block"
            )
        self.start = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = perf_counter() - self.start
        self.start = 0.0
        operation = self.operation
        error_type = None if kind is None else operation.fail(kind)
        raw = operation.raw
        raw += (seconds, time(), error_type, here.thread_name, self.metadata)
        if seconds > operation.owner.alert_threshold:
            operation.owner._alert(operation.name, seconds, self.metadata)
        operation.left = left = operation.left - 1  # only a reminder: two threads may count the same step
        if left <= 0:
            operation.owner._settle(operation)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return ``function``, measured at each call."""
        return timed(function, self.operation.owner, self.operation.name, self.metadata)


class ForwardedTiming(Timing):
    """In a worker process: also tells it as an event, which the engine can carry to the parent's monitor."""

    __slots__ = ()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = perf_counter() - self.start
        super().__exit__(kind, error, trace)
        error_type = None if kind is None else self.operation.fail(kind)
        here.forwarding = True
        try:
            emit(OperationTimed(self.operation.name, seconds, error_type is None, error_type))
        finally:
            here.forwarding = False


class Off(tuple[Any, ...]):
    """What a monitor that is switched off returns: times nothing; a function it decorates looks again at each call."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return ``function``, measured at each call that finds the monitor on."""
        monitor, name, metadata = self
        return timed(function, monitor, name, metadata)


def timed(
    function: Callable[P, R], monitor: Recorder, name: str, metadata: Mapping[str, Any] | None
) -> Callable[P, R]:
    """Return ``function`` measured at each call: a coroutine until it ends, a generator from first to last item."""
    call: Any = function
    make = _plain
    if inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__):
        make = _coroutine
    elif inspect.isasyncgenfunction(call):
        make = _async_generator
    elif inspect.isgeneratorfunction(call):
        make = _generator
    wrapper = make(call, lambda: monitor.measure(name, metadata))
    return cast("Callable[P, R]", functools.wraps(call)(wrapper))


def _plain(call: Any, measure: Callable[[], Timing | Off]) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with measure():
            return call(*args, **kwargs)

    return wrapper


def _coroutine(call: Any, measure: Callable[[], Timing | Off]) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with measure():
            return await call(*args, **kwargs)

    return wrapper


def _generator(call: Any, measure: Callable[[], Timing | Off]) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with measure():
            return (yield from call(*args, **kwargs))

    return wrapper


def _async_generator(call: Any, measure: Callable[[], Timing | Off]) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with measure(), contextlib.suppress(StopAsyncIteration):
            async with contextlib.aclosing(call(*args, **kwargs)) as items:
                item = await anext(items)
                while True:
                    try:
                        sent = yield item
                    except GeneratorExit:
                        raise
                    except BaseException as exc:  # noqa: BLE001 - thrown in by the consumer: the generator's to handle
                        item = await items.athrow(exc)
                    else:
                        item = await items.asend(sent)

    return wrapper

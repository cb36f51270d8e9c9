"""What happens in a worker process: a chunk of calls comes in as bytes, their results go back as bytes.

Both ways it is cloudpickle, so that functions and classes of a notebook's cells travel, and so that a call that cannot
be read or a result that cannot be written becomes the failure of one unit and never the end of a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, ContextVar, copy_context
from typing import Any, NamedTuple

from analysis_kit import events, retry
from analysis_kit._optional import require
from analysis_kit.cancellation import CancelToken, current_token
from analysis_kit.engine.tasks import awaits
from analysis_kit.errors import RemoteCause

#: How often a worker process looks whether its parent is still there.
LOOK_S = 0.5

#: An exception as bytes (None if it cannot travel) and in words.
Packed = tuple[bytes | None, str]


class Answer(NamedTuple):
    """What comes back for a chunk: columns, because a list of numbers is pickled far faster than one of records."""

    values: list[Any]
    failures: dict[int, Packed]
    attempts: list[int]
    started: list[float]
    durations_s: list[float]
    events: list[events.Event]


#: What the calls of a chunk emit, for a worker may have several threads, each with a chunk.
_heard: ContextVar[list[events.Event] | None] = ContextVar("analysis_kit_heard", default=None)


def run_chunk(function: bytes, arguments: bytes, timeout_s: float | None, listener: int) -> bytes:
    """Make the calls of a chunk, one after the other.

    Parameters
    ----------
    function : bytes
        The pickled function that all of them call, or None if each is a call of its own.
    arguments : bytes
        The pickled list: arguments for the function, or calls.
    timeout_s : float or None
        Cancels each call's token after so many seconds.
    listener : int
        The process that wants to have the events which the calls emit; 0 for none.
    """
    heard: list[events.Event] = []
    _heard.set(heard)
    with contextlib.ExitStack() as stack:
        if listener not in {0, os.getpid()}:  # in its own process the listener hears for itself
            stack.callback(events.subscribe(_hear))
        answer = Answer([], {}, [], [], [], heard)
        scope = _scope(timeout_s)
        for call in _read(function, arguments):
            _do(call, answer, scope, timeout_s)
            if timeout_s is not None or scope[0].cancelled:
                scope = _scope(timeout_s)
    return _write(answer)


def _hear(event: events.Event) -> None:
    heard = _heard.get()
    if heard is not None:
        heard.append(event)


def end_with(parent: int) -> None:
    """Have this worker process end once its parent has gone, however that died: loky's go on, busy ones for ever.

    On POSIX only: on Windows a process keeps the id of its dead parent.
    """

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_S)
        os._exit(1)

    threading.Thread(target=look, name="analysis-kit-parent", daemon=True).start()


def warm() -> None:
    """Do nothing; whoever runs it has a worker that has started and imported this."""


@functools.lru_cache(maxsize=8)
def _function(data: bytes) -> Any:
    return pickle.loads(data)  # noqa: S301 - comes from the parent process, never from disk or network


def _read(function: bytes, arguments: bytes) -> list[Callable[[], Any]]:
    given = pickle.loads(arguments)  # noqa: S301
    common = _function(function)
    return given if common is None else [functools.partial(common, *each) for each in given]


def _scope(timeout_s: float | None) -> tuple[CancelToken, Context]:
    """Return a token, and a context to copy in which it is the current one; calls without a time limit share it."""
    token, context = CancelToken(deadline_s=timeout_s), copy_context()
    context.run(retry.new_scope)
    context.run(current_token.set, token)
    return token, context


def _do(
    call: Callable[[], Any], answer: Answer, scope: tuple[CancelToken, Context], timeout_s: float | None
) -> None:
    token, context = scope[0], scope[1].copy()
    alarm = None
    if timeout_s is not None:
        alarm = threading.Timer(
            timeout_s, token.cancel, (TimeoutError(f"took longer than timeout_s={timeout_s}"),)
        )
        alarm.daemon = True
        alarm.start()
    value: Any = None
    answer.started.append(time.time())
    began = time.monotonic()
    try:
        value = context.run(_call, call)
    except BaseException as exc:  # noqa: BLE001 - whatever a unit raises is its result
        cause = token.error if isinstance(token.error, Exception) else exc
        answer.failures[len(answer.values)] = _pack_error(cause)
    answer.durations_s.append(time.monotonic() - began)
    if alarm is not None:
        alarm.cancel()
    answer.values.append(value)
    answer.attempts.append(context.run(retry.attempts))


def _call(call: Callable[[], Any]) -> Any:
    value = call()
    if awaits(value):

        async def awaited() -> Any:
            return await value

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(awaited())
        with ThreadPoolExecutor(1) as aside:  # an executor that works on the caller's own thread
            return aside.submit(copy_context().run, asyncio.run, awaited()).result()
    return value


def _dumps(value: object) -> bytes:
    return bytes(require("cloudpickle", extra="processes", purpose="a worker process").dumps(value))


def _pack_error(exc: BaseException) -> Packed:
    """Return an exception as bytes that were seen to come back to life, and as words in any case."""
    words = f"{type(exc).__name__}: {exc}"
    try:
        data = _dumps(exc)
        pickle.loads(data)  # noqa: S301 - just written here
    except Exception:  # noqa: BLE001 - many exceptions cannot be unpickled; their words go instead
        return None, words
    return data, words


def unpack_error(packed: Packed) -> BaseException:
    """Return the exception that a worker packed, or one that says its words."""
    data, words = packed
    if data is not None:
        try:
            found = pickle.loads(data)  # noqa: S301 - comes from our own worker process
        except Exception:  # noqa: BLE001 - lives in the worker only
            return RemoteCause(words)
        if isinstance(found, BaseException):
            return found
    return RemoteCause(words)


def _write(answer: Answer) -> bytes:
    try:
        return _dumps(answer)
    except Exception:  # noqa: BLE001 - one of the values cannot travel: find out which
        for number, value in enumerate(answer.values):
            try:
                _dumps(value)
            except Exception as exc:  # noqa: BLE001
                words = (
                    f"the result, a {type(value).__name__}, cannot be sent back from a worker process ({exc})"
                )
                answer.failures[number] = (None, words)
                answer.values[number] = None
        return _dumps(answer)

"""The parts of a pool: a slot with its one client, a caller that waits for one, and the lease between them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import threading
import time
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from analysis_kit import events
from analysis_kit.cancellation import CancelToken
from analysis_kit.errors import (
    AnswerError,
    OllamaError,
    OllamaTimeoutError,
    PoolError,
    ServerBusyError,
)
from analysis_kit.ollama.adaptive import Mark
from analysis_kit.ollama.balance import Host
from analysis_kit.ollama.client import OllamaClient
from analysis_kit.ollama.reply import Reply

if TYPE_CHECKING:
    from analysis_kit.ollama.connection_pool import OllamaConnectionPool


#: The marks of the blocks that this task is in, or the one that began it was; not the slots, which must not be kept.
entered: ContextVar[tuple[object, ...]] = ContextVar("analysis_kit_pool_entered", default=())


class Mover(Protocol):
    """Finds a slot another host."""

    def __call__(self, slot: Slot, error: OllamaError, model: str, *, last: bool) -> str | None:
        """Return the base URL of the host that the slot is on now, or None if there is no other or this was the ``last``."""


class Slot:
    """A place in the pool, with the client that whoever holds it may use. It is the client's watcher.

    Figures of a slot are changed by its holder alone, so that they need no lock.
    """

    __slots__ = (
        "client",
        "entry",
        "expires",
        "holder",
        "host",
        "leaked",
        "longest_s",
        "longest_wait_s",
        "move_to",
        "operation",
        "since",
        "use_s",
        "uses",
        "wait_s",
        "worn_at",
    )

    def __init__(self, client: OllamaClient, host: Host, mover: Mover) -> None:
        self.client = client
        self.host = host
        self.move_to = mover
        self.expires = math.inf
        self.worn_at = 0
        self.uses = 0
        self.use_s = 0.0
        self.longest_s = 0.0
        self.wait_s = 0.0  # that callers waited for it
        self.longest_wait_s = 0.0
        self.since = math.nan  # monotonic time of the checkout; NaN while nobody holds it
        self.holder = 0  # the thread
        self.entry: object = None  # and its mark among the `entered`, where a task took it
        self.operation: tuple[str, str] | str = ""
        self.leaked = False

    def asks(self, path: str, model: str) -> None:
        """Note what the holder does; refuse whoever is none."""
        if math.isnan(self.since):
            raise given_back(self.host.name)
        self.operation = (path, model)

    def started(self, path: str, model: str) -> tuple[Host, Mark]:
        """Note that the holder has a model answer."""
        self.asks(path, model)
        return self.host, self.host.limit.started()

    def finished(self, mark: tuple[Host, Mark], reply: Reply | None, error: BaseException | None) -> None:
        """Tell the host how a request went."""
        host, begun = mark
        if reply is not None:
            host.limit.finished(begun, queue_s=reply.queue_s)
            host.answered(reply)
        elif isinstance(error, (ServerBusyError, OllamaTimeoutError)):
            host.limit.finished(begun, ok=False)
        else:
            host.limit.dropped()
            if isinstance(error, AnswerError):
                host.served += 1

    def move(self, error: OllamaError, model: str, *, last: bool = False) -> str | None:
        """Ask the pool for another host."""
        return self.move_to(self, error, model, last=last)

    def waited(self, seconds: float) -> None:
        """Note how long its new holder waited for it."""
        self.wait_s += seconds
        if seconds > self.longest_wait_s:  # noqa: PLR1730 - max() costs four times as much
            self.longest_wait_s = seconds

    def describe(self) -> str:
        """Return who holds it, for how long, doing what."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        what = self.operation if isinstance(self.operation, str) else " ".join(self.operation)
        who = names.get(self.holder, "a thread that has ended")
        return f"{who} for {time.monotonic() - self.since:.1f} s{f' ({what})' if what else ''}"


class GivenBack:
    """Watches a client that may ask nothing more: its slot has gone on with another, or its pool was shut down."""

    def __init__(self, host: str, error: PoolError | None = None) -> None:
        self._host = host
        self._error = error

    def asks(self, path: str, model: str) -> None:
        """Refuse the request."""
        del path, model
        raise self._error or given_back(self._host)

    def started(self, path: str, model: str) -> object:
        """Refuse the request."""
        del path, model
        raise self._error or given_back(self._host)

    def finished(self, mark: object, reply: Reply | None, error: BaseException | None) -> None:
        """Note nothing: the slot's own figures were kept by the slot."""

    def move(self, error: OllamaError, model: str, *, last: bool = False) -> None:
        """Offer no other host."""


def given_back(host: str) -> PoolError:
    """Return the error for a client that is used beyond its block."""
    return PoolError(f"the slot of the client for {host} was given back; use a client within its block")


class Waiter:
    """A caller in the queue. What it gets is put there by whoever gives, under the pool's lock.

    Attributes
    ----------
    ready : bool
        Whether it has been served.
    got : Slot or None
        The slot it has; None with `ready` is leave to make a new one.
    error : BaseException or None
        Why it is sent away.
    lock : threading.Lock
        Held until then; the caller waits by acquiring it.
    """

    ready = False
    got: Slot | None = None
    error: BaseException | None = None

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()

    def give(self, slot: Slot | None) -> bool:
        """Hand over a slot, or the leave to make one; return as `wake`."""
        self.got = slot
        self.ready = True
        return self.wake()

    def fail(self, error: BaseException) -> None:
        """Send it away."""
        self.error = error
        self.wake()

    def wake(self) -> bool:
        """Let it go on; return True if it never will, so that what it has got must go to another."""
        try:  # noqa: SIM105 - suppress() would cost as much as the rest of handing over
            self.lock.release()
        except RuntimeError:  # it has been woken already
            pass
        return False


class AsyncWaiter(Waiter):
    """A caller in the queue that runs on an event loop, which must not block."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> bool:
        """Let it go on, from any thread; True if its loop is gone."""
        try:
            self._loop.call_soon_threadsafe(self._wake_here)
        except RuntimeError:
            return True
        return False

    def _wake_here(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait_async(self, limit_s: float, token: CancelToken | None) -> bool:
        """Wait on the loop, until it is served or the token cancelled; False if ``limit_s`` was over before."""
        if self.ready:
            return True
        with token.on_cancel(self.wake) if token is not None else contextlib.nullcontext():
            done, _ = await asyncio.wait([self._future], timeout=limit_s)
        return bool(done)


class Lease:
    """The time that a caller has a slot: ``with pool.get_connection() as client:``, or ``async with pool.acquire()``.

    Attributes
    ----------
    wait_s : float
        Seconds that the checkout waited for a slot.
    """

    __slots__ = ("_model", "_operation", "_pool", "_slot", "_timeout_s", "wait_s")

    def __init__(
        self, pool: OllamaConnectionPool, timeout_s: float | None, model: str | None, operation: str
    ) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._model = model
        self._operation = operation
        self._slot: Slot | None = None
        self.wait_s = 0.0

    def __enter__(self) -> OllamaClient:
        pool = self._pool
        if self._slot is not None:
            raise PoolError("this lease holds a slot already; ask the pool for another one")
        queue = pool.queue
        slot = None if queue.waiters else queue.pop()
        if slot is None:
            slot, self.wait_s = queue.wait(self._timeout_s)
        if not pool.plain:
            slot = pool.prepare(slot, self._model)
        return self._take(slot)

    def _take(self, slot: Slot) -> OllamaClient:
        self._slot = slot
        pool = self._pool
        slot.since = now = time.monotonic()
        try:
            slot.holder = threading.get_ident()
            slot.operation = self._operation
            if pool.queue.closed:
                raise pool.queue.shut_down()
            if now >= slot.expires:
                pool.renew(slot, "recycled")
            if self._model is not None:
                slot.client.model = self._model
            if now >= pool.look_at:
                pool.report_leaks(now)
            if events.listening():
                pool.told(self.wait_s, slot.host.name)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return slot.client

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            used_s = time.monotonic() - slot.since
            slot.since = math.nan
            if self._model is not None:
                slot.client.model = self._pool.model
            slot.leaked = False
            slot.entry = None
            slot.uses += 1
            slot.use_s += used_s
            if used_s > slot.longest_s:  # noqa: PLR1730 - max() costs four times as much
                slot.longest_s = used_s
            if kind is GeneratorExit:
                self._pool.queue.apart(functools.partial(self._pool.put, slot))
            else:
                self._pool.put(slot)

    async def __aenter__(self) -> OllamaClient:
        pool = self._pool
        if self._slot is not None:
            raise PoolError("this lease holds a slot already; ask the pool for another one")
        slot = pool.queue.pop()
        if slot is None:
            slot, self.wait_s = await pool.queue.wait_async(self._timeout_s)
        if not pool.plain:
            slot = await pool.prepare_async(slot, self._model)
        client = self._take(slot)
        slot.entry = entry = object()
        entered.set((*entered.get(), entry))
        return client

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        entry = self._slot.entry if self._slot is not None else None
        self.__exit__(kind, exc, trace)
        entered.set(tuple(each for each in entered.get() if each is not entry))

"""One model's life: loaded when asked for, at most ``parallel`` requests in it, the rest in line, unloaded when idle.

Everything here runs on the server's event loop, so plain attributes are safe; llama.cpp's blocking calls run on threads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from analysis_kit.ollama.durations import FOR_EVER
from analysis_kit.ollama.embedded import lifeline
from analysis_kit.ollama.embedded.catalog import Model
from analysis_kit.ollama.embedded.environment import DEFAULT_KEEP_ALIVE_S, DEFAULT_MAX_QUEUE
from analysis_kit.ollama.embedded.inner import Inner
from analysis_kit.ollama.embedded.llama import Llama, LlamaError, Shape

BUSY = "server busy, please try again.  maximum pending requests exceeded"
_BUSY_STATUS = 503
_LONGEST_S = 292 * 365.25 * 86400  # how Ollama writes "for ever" as a date

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Seat:
    """A request's place in a loaded model: what it may use until it leaves.

    Attributes
    ----------
    llama : Llama
        The loaded model.
    inner : Inner
        Its tokens and templates.
    load_ns : int
        Nanoseconds that this request waited for the model to load; at least 1.
    """

    def __init__(self, runner: Runner, llama: Llama, inner: Inner, load_ns: int) -> None:
        self.llama = llama
        self.inner = inner
        self.load_ns = load_ns
        self._runner = runner
        self._calls = 0
        self._left = False

    async def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Run a blocking call on a thread of the model; the seat stays taken until it returns."""
        self._calls += 1
        future = asyncio.get_running_loop().run_in_executor(self._runner.threads, function, *args)
        future.add_done_callback(self._returned)
        return await asyncio.shield(future)

    async def stream(self, body: dict[str, Any], *, chat: bool) -> AsyncGenerator[dict[str, Any], None]:
        """Yield llama.cpp's chunks as they come; closing the generator stops the request at its next chunk."""
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        stopped = False

        def take(chunk: dict[str, Any]) -> bool:
            if "prompt_progress" not in chunk:  # those come to be asked whether to go on, and say nothing
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            return stopped

        def run() -> None:
            try:
                self.llama.complete(body, take, chat=chat)
            finally:
                loop.call_soon_threadsafe(chunks.put_nowait, None)

        work = asyncio.ensure_future(self.call(run))
        try:
            while (chunk := await chunks.get()) is not None:
                yield chunk
            await work
        finally:
            stopped = True  # the thread sees it at its next chunk; the seat is free after that
            work.cancel()

    def leave(self) -> None:
        """Give the seat back: now, or when the last call has returned."""
        self._left = True
        self._settle()

    def _returned(self, future: asyncio.Future[Any]) -> None:
        self._calls -= 1
        if not future.cancelled():
            future.exception()  # looked at, so that the failure of an abandoned call is not reported at collection
        self._settle()

    def _settle(self) -> None:
        if self._left and self._calls == 0:
            self._left = False
            self._runner.release()


class LoadQueue:
    """The requests that wait for a model to be loaded, of all models together.

    Parameters
    ----------
    most : int
        How many may, besides the one whose model is being loaded.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for the block, or be turned away with 503."""
        if self._waiting > self._most:
            raise LlamaError(BUSY, status=_BUSY_STATUS)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1


class Runner:
    """Holds one model, loaded or not.

    Parameters
    ----------
    model : Model
        Which one.
    shape : Shape
        What to load it with unless a request asks for more.
    keep_alive_s : float, default 300
        Seconds it stays after its last request where no request says otherwise.
    queue : LoadQueue, optional
        Where requests wait for the load; None: one of its own.
    """

    def __init__(
        self,
        model: Model,
        shape: Shape,
        *,
        keep_alive_s: float = DEFAULT_KEEP_ALIVE_S,
        queue: LoadQueue | None = None,
    ) -> None:
        self.model = model
        self.shape = shape
        self._first_shape = shape
        self.threads = ThreadPoolExecutor(shape.parallel, thread_name_prefix=f"llama-{model.name}")
        self._first_keep_alive_s = self._keep_alive_s = keep_alive_s
        self._queue = queue or LoadQueue(DEFAULT_MAX_QUEUE)
        self._llama: Llama | None = None
        self._inner: Inner | None = None
        self._gate = asyncio.Lock()  # a fair line: whoever holds it is next
        self._released = asyncio.Event()
        self._active = 0
        self._load_span = (0, 0)
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since: datetime | None = None
        self._unloading: asyncio.Task[None] | None = None

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._llama is not None

    @property
    def expires_at(self) -> datetime:
        """When the model will be unloaded if nobody asks again."""
        since = self._idle_since or datetime.now(UTC)
        return (since + timedelta(seconds=min(self._keep_alive_s, _LONGEST_S))).astimezone()

    @property
    def memory(self) -> int:
        """Bytes that the loaded model takes: its weights and the attention memory of all slots."""
        return (
            self.model.size + self.model.kv_bytes(self.shape.ctx * self.shape.parallel) if self.loaded else 0
        )

    @asynccontextmanager
    async def seat(self, wanted: Callable[[Shape], Shape], keep_alive_s: float | None) -> AsyncIterator[Seat]:
        """Wait in line for a place in the model, loading it first where needed.

        Parameters
        ----------
        wanted : callable
            Takes the present shape, returns the one this request needs.
        keep_alive_s : float or None
            Seconds the model stays after its last request; None leaves that as it is.

        Raises
        ------
        LlamaError
            If the model cannot be loaded, or too many wait for a load already.
        """
        arrived = time.monotonic_ns()

        def shape_now() -> Shape:
            # a model that is not loaded has no shape to keep: it starts from what the server was started with
            return wanted(self.shape if self.loaded else self._first_shape)

        fits = self.loaded and shape_now() == self.shape
        async with AsyncExitStack() as line:
            if not fits:
                line.enter_context(self._queue.place())
            await line.enter_async_context(self._gate)
            shape = shape_now()
            if self._llama is None or shape != self.shape:
                await self._until_active(0)
                await _to_the_end(self._load(shape))
            else:
                await self._until_active(self.shape.parallel - 1)
            assert self._llama is not None
            assert self._inner is not None
            llama, inner = self._llama, self._inner
            self._active += 1
        self._stop_timer()
        if keep_alive_s is not None:
            self._keep_alive_s = keep_alive_s
        began, ended = self._load_span
        seat = Seat(self, llama, inner, max(1, min(ended, time.monotonic_ns()) - max(began, arrived)))
        try:
            yield seat
        finally:
            seat.leave()

    async def expire(self) -> None:
        """Free the model's memory: now if it is idle, else when the last request in it has ended."""
        self._keep_alive_s = 0.0
        async with self._gate:
            if self._active == 0:
                await _to_the_end(self._free())

    async def unload(self) -> None:
        """Free the model's memory, once the requests in it have ended; those that come now wait until then."""
        async with self._gate:
            await self._until_active(0)
            await _to_the_end(self._free())

    def release(self) -> None:
        """Note that a request has ended; the last one starts the clock of the model's life."""
        self._active -= 1
        self._released.set()
        if self._active == 0:
            self._start_timer()

    async def _until_active(self, most: int) -> None:
        while self._active > most:
            self._released.clear()
            await self._released.wait()

    async def _load(self, shape: Shape) -> None:
        await self._free()
        started = time.monotonic_ns()
        loop = asyncio.get_running_loop()
        with lifeline.guarded():
            self._llama = await loop.run_in_executor(self.threads, Llama, self.model, shape)
        self._inner = Inner(self._llama)
        self.shape = shape
        self._keep_alive_s = self._first_keep_alive_s
        self._load_span = (started, time.monotonic_ns())
        self._start_timer()  # whoever asked for the model may be gone by now
        facts = {
            "model": self.model.name,
            "load_s": (self._load_span[1] - started) / 1e9,
            "shape": str(shape),
        }
        _log.info("loaded %(model)s in %(load_s).2f s: %(shape)s", facts, extra=facts)

    async def _free(self) -> None:
        self._stop_timer()
        llama, self._llama = self._llama, None
        if self._inner is not None:
            self._inner.close()
        if llama is not None:
            await asyncio.get_running_loop().run_in_executor(self.threads, llama.close)
            _log.info("unloaded %s", self.model.name, extra={"model": self.model.name})

    def _start_timer(self) -> None:
        self._idle_since = datetime.now(UTC)
        if self._keep_alive_s != FOR_EVER:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(self._keep_alive_s, _LONGEST_S), self._expire, self._idle_since)

    def _expire(self, idle_since: datetime) -> None:
        self._unloading = asyncio.ensure_future(self._unload_if_idle(idle_since))

    async def _unload_if_idle(self, since: datetime) -> None:
        async with self._gate:
            if self._idle_since is since:  # else someone came in the meantime
                await self._free()

    def _stop_timer(self) -> None:
        self._idle_since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await ``work`` to its end even when cancelled meanwhile: half a load cannot be taken back."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise

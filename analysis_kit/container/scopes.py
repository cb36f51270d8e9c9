# ruff: noqa: SLF001 - a scope and the container that it belongs to are of one piece
"""Building and disposing: one construction however many ask, no waiting in a circle, disposal in reverse order."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import threading
import traceback
import warnings
from collections.abc import Callable, Coroutine, Hashable, Iterator
from contextvars import ContextVar
from typing import Any, Self, TypeVar, overload

from analysis_kit.container.wiring import NOTHING, Plan, circular, name_of, python_of
from analysis_kit.errors import CaptiveDependencyError, ContainerError

T = TypeVar("T")
_log = logging.getLogger(__name__)
_GENERATORS = (contextlib.ContextDecorator, contextlib.AsyncContextDecorator)  # contextlib's generators
_CLOSED = "this scope is closed; open another: container.create_scope()"
PATIENCE_S = 300.0  # for what another thread builds, which may wait for this one unseen


class _Construction:
    """A service being made, within another or on its own, and then made; tasks that its factory starts are within it."""

    __slots__ = ("awaits", "done", "in_task", "leave", "outer", "over", "plan", "slot", "value", "waiters")
    leave: Callable[..., Any]  # how it is disposed, and whether that must be awaited
    awaits: bool

    def __init__(self, plan: Plan, *, in_task: bool) -> None:
        self.plan, self.in_task, self.over, self.value = plan, in_task, False, NOTHING
        self.done: Any = None  # a future, made by the first who waits, since it costs an import
        self.waiters: list[_Construction] = []
        self.slot: Hashable = plan.slot if plan.once else self
        self.outer = _innermost.get()
        if self.outer is not None:
            self.refuse_circle()

    def end(self, made: dict[Hashable, _Construction]) -> None:
        """Stay in ``made`` if there is something to hand out again, and let go who waits."""
        self.over, self.outer = True, None
        if self.value is NOTHING or not self.plan.once:
            made.pop(self.slot, None)
        if self.done is not None:
            self.done.set_result(None)

    def ways_here(self) -> Iterator[tuple[_Construction, ...]]:
        """Yield the ways to here from what this holds up: what it is within, and what of others waits for it."""
        yield (self,)
        for each in (self, *self.waiters):
            outer = each.outer  # read once, since another thread may end it now
            if outer is not None and not (each.over or outer.over):
                yield from ((*way, self) for way in outer.ways_here())

    def refuse_circle(self) -> None:
        """Raise if what this holds up is the making of the same service."""
        for first, *rest in self.ways_here():
            if first.plan.service is self.plan.service and rest:
                raise circular([each.plan.service.key for each in (first, *rest)])

    async def wait_for(self, other: _Construction) -> None:
        """Wait until ``other`` is over; refuse to in a circle, in the way of a loop, and for ever."""
        import asyncio
        from concurrent.futures import Future

        if other.in_task and not self.in_task and asyncio._get_running_loop() is not None:
            raise needs_await(self.plan.service.key, "is being built by a task, and waiting would stop it")
        with _lock:
            self.refuse_circle()
            other.waiters.append(self)
            if other.done is None:
                other.done = Future()
                other.done.set_running_or_notify_cancel()  # so that a waiter's cancel does not make it done
        try:
            if not other.over and self.in_task:
                await asyncio.wait_for(asyncio.wrap_future(other.done), PATIENCE_S)
            elif not other.over:
                other.done.result(PATIENCE_S)
        except TimeoutError:
            why = f"is still being built after {PATIENCE_S:g} s; a thread that its factory waits for must not ask for it"
            raise ContainerError(f"{name_of(other.plan.service.key)} {why}") from None
        finally:
            other.waiters.remove(self)


_innermost: ContextVar[_Construction | None] = ContextVar("_innermost", default=None)
_lock = threading.Lock()  # guards who waits for whom


class _Tails(list[_Construction]):
    """What is to be disposed, the oldest first; dropped with something left, it warns."""

    def __del__(self) -> None:
        if self:
            what = ", ".join(name_of(tail.plan.service.key) for tail in self)
            warnings.warn(f"a scope or container was dropped, but never closed: {what}", ResourceWarning, 2)


_NONE: list[_Construction] = []  # shared, and never changed


class Scope:
    """Services of one piece of work, a document or a task; leaving ``with`` or ``async with`` disposes them.

    Open one with `create_scope`; the container itself is the outermost.
    """

    __slots__ = ("__weakref__", "_calls", "_made", "_open", "_root", "_tails")

    def __init__(self, root: Any) -> None:
        self._made: dict[Hashable, _Construction] = {}  # what is built here, and what is being built
        self._tails = _NONE
        self._root = root
        self._calls: dict[Hashable, Callable[[Any], Any]] = root._scope_calls
        self._open = True

    @overload
    def resolve(self, key: type[T]) -> T: ...
    @overload
    def resolve(self, key: Hashable) -> Any: ...
    def resolve(self, key: Any) -> Any:
        """Return the service registered for ``key``, built with all it needs; ``list[Base]`` gives all of a kind.

        Raises
        ------
        ServiceNotFoundError
            If nothing is registered for it or for what it needs; the message has the line to add.
        CircularDependencyError, CaptiveDependencyError
            If services need each other, or a longer-lived one would hold a scoped one.
        ContainerError
            If it must be awaited to be built (see `aresolve`), or the scope is closed.
        """
        try:
            call = self._calls[key]
        except (KeyError, TypeError):  # not asked for yet, or not hashable
            call = functools.partial(Scope._resolve_first, key=key)
        try:
            return call(self)
        except RecursionError as exc:
            # what a constructor asks for itself is in no hint, and to track plain transients would cost each of them
            frames = [frame for frame, _ in traceback.walk_tb(exc.__traceback__)]
            asked = [each.f_locals["key"] for each in frames if each.f_code is frames[0].f_code]
            if key not in asked[1:]:
                raise
            raise circular(asked[: asked.index(key, 1) + 1]) from None

    async def aresolve(self, key: Hashable) -> Any:
        """Do as `resolve` does, awaiting asynchronous factories and context managers."""
        return await self._plan(key).acall(self)

    def find(self, key: Hashable) -> Any:
        """Return the service if anything is registered for ``key``, else None."""
        return self.resolve(key) if key in self._calls or key in self._root else None

    def create_scope(self) -> Scope:
        """Return a new scope; scopes are independent, so that no task closes the services of another."""
        return Scope(self._root)

    def close(self) -> None:
        """Dispose what was built here, the youngest first; all disposals are tried before a failure is raised."""
        self.__exit__(None, None, None)

    async def aclose(self) -> None:
        """Do as `close` does, awaiting what must be awaited."""
        await self.__aexit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *body: object) -> None:
        self._shut()
        if self._tails:
            drive(self.leave(self._tails[:], body, wait=False))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *body: object) -> None:
        self._shut()
        await self.leave(self._tails[:], body, wait=True)

    def _shut(self) -> None:
        self._open, self._calls = False, {}
        self._made.clear()  # forgotten before it is disposed, so that nobody is handed a closed service

    def _resolve_first(self, key: Hashable) -> Any:
        plan = self._plan(key)
        value = plan.call(self)
        with self._root._lock, contextlib.suppress(TypeError):  # not hashable
            if plan.slot in self._root._made and self._calls.get(key) is plan.call:
                self._calls[key] = lambda _: value  # a singleton, until something is registered anew
        return value

    def _plan(self, key: Hashable) -> Plan:
        with self._root._lock:
            if not self._open:
                raise ContainerError(_CLOSED)
            wiring = self._root._wired()
            plan: Plan | None = wiring.supply(key)
            if plan is None:
                raise wiring.missing(key)
            if self is self._root and plan.scoped:
                use = f"with container.create_scope() as scope: scope.resolve({python_of(key)})"
                why = f"{name_of(key)} is or needs the scoped {plan.scoped}, and the container is no scope"
                raise CaptiveDependencyError(f"{why}; use: {use}")
            with contextlib.suppress(TypeError):  # not hashable
                self._calls[key] = plan.call
        return plan

    def build(self, plan: Plan) -> Any:
        """Return the one service of ``plan``, or a new transient; whoever comes first builds it, with no lock held."""
        mine = _Construction(plan, in_task=False)
        while (other := self._made.setdefault(mine.slot, mine)) is not mine:
            if other.value is not NOTHING:
                return other.value
            drive(mine.wait_for(other))
        token = _innermost.set(mine)
        try:
            value = plan.fresh(self)
            mine.value = value if plan.plain else drive(self._keep(mine, value))
            return mine.value
        finally:
            _innermost.reset(token)
            mine.end(self._made)

    async def abuild(self, plan: Plan) -> Any:
        """Do as `build` does, awaiting what must be awaited."""
        mine = _Construction(plan, in_task=True)
        while (other := self._made.setdefault(mine.slot, mine)) is not mine:
            if other.value is not NOTHING:
                return other.value
            await mine.wait_for(other)
        token = _innermost.set(mine)
        try:
            mine.value = await self._keep(mine, await plan.afresh(self))
            return mine.value
        finally:
            _innermost.reset(token)
            mine.end(self._made)

    async def _keep(self, mine: _Construction, value: Any) -> Any:
        """Enter ``value`` if it is a context manager, note how it is disposed, and return the service."""
        service, given = mine.plan.service, value
        if inspect.iscoroutine(value) and not mine.in_task:
            value.close()
            raise needs_await(service.key, "is made by an asynchronous factory")
        if inspect.iscoroutine(value):
            value = await value
        kind, close = type(value), getattr(value, "close", None) or getattr(value, "aclose", None)
        mine.awaits = hasattr(kind, "__aenter__") and not hasattr(kind, "__enter__")
        if hasattr(kind, "acquire") and hasattr(kind, "release"):
            return value  # a lock or semaphore: to enter it would be to take it for good
        if hasattr(kind, "__enter__"):
            given, mine.leave = value.__enter__(), value.__exit__
        elif mine.awaits and not mine.in_task:
            raise needs_await(service.key, "is an asynchronous context manager")
        elif mine.awaits:
            given, mine.leave = await value.__aenter__(), value.__aexit__
        elif not callable(close) or isinstance(value, type) or (self is self._root and not mine.plan.once):
            return value  # what is merely closable and made anew is its caller's, where no scope is
        else:
            mine.leave, mine.awaits = lambda *_: close(), inspect.iscoroutinefunction(close)
        with self._root._lock:
            self._tails = self._tails or _Tails()
            self._tails.append(mine)
        if not self._open:  # it was closed while this was being built
            await self.leave([mine], (None, None, None), wait=mine.in_task)
            raise ContainerError(_CLOSED)
        # a generator's service is what it yields; any other context manager is the service itself
        generated = isinstance(value, _GENERATORS) and not isinstance(service.implementation, type)
        return given if generated else value

    async def leave(self, tails: list[_Construction], body: tuple[Any, ...], *, wait: bool) -> None:
        """Dispose services in reverse order, all of them whatever one does; then raise what went wrong."""
        failed: list[tuple[str, BaseException]] = []
        for tail in reversed(tails):
            late, key = tail.awaits and not wait, tail.plan.service.key
            try:
                self._tails.index(tail) if late else self._tails.remove(tail)
            except ValueError:
                continue  # someone else is at it
            try:
                if late:
                    raise needs_await(key, "is disposed asynchronously", "async with, or aclose()")
                result = tail.leave(*body)
                if wait and inspect.isawaitable(result):
                    await result
            except BaseException as exc:  # noqa: BLE001 - the others come first; it is raised below
                if exc is not body[1]:
                    failed.append((name_of(key), exc))
        if not failed:
            return
        what = "; ".join(f"{name}: {type(exc).__name__}: {exc}" for name, exc in failed)
        message = f"{len(failed)} of {len(tails)} services could not be disposed ({what}); the others were"
        # an interrupt or a cancel that came while disposing goes before the body's own error
        raised = next((exc for _, exc in failed if not isinstance(exc, Exception)), body[1])
        if raised is None:
            raise ContainerError(message) from failed[0][1]
        raised.add_note(message)
        if raised is not body[1]:
            raise raised


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run to its end a coroutine that was told not to wait, so that one text serves both kinds of caller."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise ContainerError("a service waited where it was told not to")


def needs_await(key: Hashable, why: str, use: str = "") -> ContainerError:
    """Return the error that says what to await."""
    use = use or f"await container.aresolve({python_of(key)})"
    return ContainerError(f"{name_of(key)} {why}; use: {use}")

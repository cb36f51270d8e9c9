# ruff: noqa: SLF001 - a scope and the container that it belongs to are of one piece
"""Building and disposing: one construction however many ask, no waiting in a circle, disposal in reverse order."""

from __future__ import annotations

import contextlib
import inspect
import logging
import threading
import traceback
import warnings
from collections.abc import Callable, Coroutine, Hashable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple, Self, TypeVar, overload

from analysis_kit.container.wiring import NOTHING, Lifetime, Plan, Recipe, circular, name_of
from analysis_kit.errors import CaptiveDependencyError, ContainerError

T = TypeVar("T")
_log = logging.getLogger(__name__)
_TRANSIENT = Lifetime.TRANSIENT  # an enum's member costs a search each time it is named
_GENERATORS = (
    contextlib.ContextDecorator,
    contextlib.AsyncContextDecorator,
)  # contextlib's form of generators


class _Construction:
    """A service being made, within another or on its own; tasks that its factory starts count as within it."""

    over = False
    in_task = False
    done: Any = None  # a future, made by the first who waits, since it costs an import
    waits_for: _Construction

    def __init__(self, recipe: Recipe, outer: _Construction | None) -> None:
        self.recipe = recipe
        self.outer = outer
        if outer is not None and recipe in (path := [each.recipe for each in self.line()])[:-1]:
            raise circular([each.key for each in path])

    def line(self) -> list[_Construction]:
        """Return the constructions that this one is within, from the outermost to itself."""
        line, each = [self], self.outer
        while each is not None and not each.over:
            line.insert(0, each)
            each = each.outer
        return line

    def way_to(self, end: _Construction) -> list[Recipe]:
        """Return what holds up what from here to ``end``; nothing if there is no such way."""
        for each in (end, *_waiting):
            if self in (line := each.line()):
                rest = [] if each is end else each.waits_for.way_to(end)
                if rest or each is end:
                    return [part.recipe for part in line[line.index(self) : -1]] + rest
        return []

    @contextlib.contextmanager
    def waiting_for(self, other: _Construction) -> Iterator[Any]:
        """Give a future that is done once ``other`` is over; refuse to wait in a circle, or in the way of a loop."""
        import asyncio
        from concurrent.futures import Future

        if other.in_task and not self.in_task and asyncio._get_running_loop() is not None:
            raise needs_await(self.recipe, "is being built by a task, and a wait would stop its loop")
        with _lock:
            if way := other.way_to(self):
                raise circular([each.key for each in (*way, other.recipe)])
            if other.done is None:
                done: Future[None] = Future()
                done.set_running_or_notify_cancel()  # so that a waiter's cancel does not make it done
                other.done = done
            self.waits_for = other
            _waiting.add(self)
        try:
            yield other.done
        finally:
            _waiting.discard(self)


_innermost: ContextVar[_Construction | None] = ContextVar("_innermost", default=None)
_waiting: set[_Construction] = set()
_lock = threading.Lock()  # guards who waits for whom


class _Tail(NamedTuple):
    """How one service is disposed."""

    recipe: Recipe
    parts: frozenset[Recipe]
    leave: Callable[..., Any]
    awaits: bool


class _Tails(list[_Tail]):
    """What is to be disposed, the oldest first; dropped with something left, it warns."""

    def __del__(self) -> None:
        if self:
            what = ", ".join(name_of(tail.recipe.key) for tail in self)
            warnings.warn(f"a scope or container was dropped, but never closed: {what}", ResourceWarning, 2)


_NONE: list[_Tail] = []  # shared, and never changed


class Scope:
    """Services of one piece of work, a document or a task; leaving ``with`` or ``async with`` disposes them.

    Open one with `create_scope`; the container itself is the outermost.
    """

    __slots__ = ("__weakref__", "_building", "_calls", "_made", "_open", "_root", "_tails")

    def __init__(self, root: Any) -> None:
        self._made: dict[frozenset[Recipe], Any] = {}
        self._building: dict[frozenset[Recipe], _Construction] = {}
        self._tails: list[_Tail] = _NONE
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
        call = self._calls.get(key)
        try:
            return call(self) if call is not None else self._resolve_first(key)
        except RecursionError as exc:
            # what a constructor asks for itself is in no hint, and to track plain transients would cost each of them
            here = inspect.currentframe()
            frames = [frame for frame, _ in traceback.walk_tb(exc.__traceback__)]
            asked = [each.f_locals["key"] for each in frames if here and each.f_code is here.f_code]
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
        with self._root._lock:
            if self._root._made.get(plan.parts, NOTHING) is value and self._calls.get(key) is plan.call:
                self._calls[key] = lambda _: value  # a singleton, until something is registered anew
        return value

    def _plan(self, key: Hashable) -> Plan:
        with self._root._lock:
            if not self._open:
                raise ContainerError("this scope is closed; open another: container.create_scope()")
            wiring = self._root._wired()
            plan: Plan | None = wiring.supply(key)
            if plan is None:
                raise wiring.missing(key)
            if self is self._root and (scoped := plan.scoped()) is not None:
                raise CaptiveDependencyError(
                    f"{name_of(key)} is or needs the scoped {scoped}, and the container itself is no scope; "
                    f"use: with container.create_scope() as scope: scope.resolve({name_of(key)})"
                )
            self._calls[key] = plan.call
        return plan

    def build(self, recipe: Recipe, parts: frozenset[Recipe], needs: Plan, plain: bool) -> Any:  # noqa: FBT001
        """Return the one object of ``recipe``, or a new transient; whoever comes first builds it, with no lock held."""
        mine = _Construction(recipe, _innermost.get())
        once = recipe.lifetime is not _TRANSIENT
        while once and (other := self._building.setdefault(parts, mine)) is not mine:
            with mine.waiting_for(other) as done:
                other.over or done.result()
        token = _innermost.set(mine)
        try:
            value = self._made.get(parts, NOTHING)
            if value is NOTHING:
                value = needs.call(self)
                value = value if plain else drive(self._keep(recipe, parts, value, wait=False))
                if once:
                    self._made[parts] = value
            return value
        finally:
            if once:
                del self._building[parts]
            _innermost.reset(token)
            mine.over = True
            if mine.done is not None:
                mine.done.set_result(None)

    async def abuild(self, recipe: Recipe, parts: frozenset[Recipe], needs: Plan) -> Any:
        """Do as `build` does, awaiting what must be awaited."""
        import asyncio

        mine = _Construction(recipe, _innermost.get())
        mine.in_task, once = True, recipe.lifetime is not _TRANSIENT
        while once and (other := self._building.setdefault(parts, mine)) is not mine:
            with mine.waiting_for(other) as done:
                other.over or await asyncio.wrap_future(done)
        token = _innermost.set(mine)
        try:
            value = self._made.get(parts, NOTHING)
            if value is NOTHING:
                value = await self._keep(recipe, parts, await needs.acall(self), wait=True)
                if once:
                    self._made[parts] = value
            return value
        finally:
            if once:
                del self._building[parts]
            _innermost.reset(token)
            mine.over = True
            if mine.done is not None:
                mine.done.set_result(None)

    async def _keep(self, recipe: Recipe, parts: frozenset[Recipe], value: Any, *, wait: bool) -> Any:
        """Enter ``value`` if it is a context manager, note how it is disposed, and return the service."""
        if inspect.iscoroutine(value):
            if wait:
                return await self._keep(recipe, parts, await value, wait=True)
            value.close()
            raise needs_await(recipe, "is made by an asynchronous factory")
        kind, given, awaits = type(value), value, False
        if hasattr(kind, "acquire") and hasattr(kind, "release"):
            return value  # a lock or semaphore: to enter it would be to take it for good
        if hasattr(kind, "__enter__"):
            given, leave = value.__enter__(), value.__exit__
        elif hasattr(kind, "__aenter__"):
            if not wait:
                raise needs_await(recipe, "is an asynchronous context manager")
            given, leave, awaits = await value.__aenter__(), value.__aexit__, True
        else:
            close = getattr(value, "close", None) or getattr(value, "aclose", None)
            if not callable(close) or isinstance(value, type) or self._is_callers(recipe):
                return value
            leave, awaits = lambda *_: close(), inspect.iscoroutinefunction(close)
        with self._root._lock:
            self._tails = self._tails or _Tails()
            self._tails.append(_Tail(recipe, parts, leave, awaits))
        # a generator's service is what it yields; any other context manager is the service itself
        return given if isinstance(value, _GENERATORS) and not isinstance(recipe.make, type) else value

    def _is_callers(self, recipe: Recipe) -> bool:
        # a transient that is merely closable goes with its scope; outside any scope it is its caller's
        return self is self._root and recipe.lifetime is _TRANSIENT

    async def leave(self, tails: list[_Tail], body: tuple[Any, ...], *, wait: bool) -> None:
        """Dispose services in reverse order, all of them whatever one does; then raise what went wrong."""
        failed: list[tuple[str, BaseException]] = []
        for tail in reversed(tails):
            late = tail.awaits and not wait
            try:
                self._tails.index(tail) if late else self._tails.remove(tail)
            except ValueError:
                continue  # someone else is at it
            try:
                if late:
                    raise needs_await(tail.recipe, "is disposed asynchronously", "async with, or aclose()")
                result = tail.leave(*body)
                if wait and inspect.isawaitable(result):
                    await result
            except BaseException as exc:  # noqa: BLE001 - the others come first; it is raised below
                failed.append((name_of(tail.recipe.key), exc))
        failed = [(name, exc) for name, exc in failed if exc is not body[1]]
        if not failed:
            return
        what = "; ".join(f"{name}: {type(exc).__name__}: {exc}" for name, exc in failed)
        message = f"{len(failed)} of {len(tails)} services could not be disposed ({what}); the others were"
        fatal = next((exc for _, exc in failed if not isinstance(exc, Exception)), None)
        if fatal is None and body[1] is None:
            raise ContainerError(message) from failed[0][1]
        _log.warning(message, extra={"services": [name for name, _ in failed]})
        if fatal is not None:
            raise fatal  # an interrupt or a cancel that came while disposing
        body[1].add_note(message)


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run to its end a coroutine that was told not to wait, so that one text serves both kinds of caller."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise ContainerError("a service waited where it was told not to")


def needs_await(recipe: Recipe, why: str, use: str = "") -> ContainerError:
    """Return the error that says what to await."""
    name = name_of(recipe.key)
    return ContainerError(f"{name} {why}; use: {use or f'await container.aresolve({name})'}")

# ruff: noqa: SLF001 - a scope and the container that it belongs to are of one piece
"""Building and disposing: one construction however many ask, no waiting in a circle, disposal in reverse order."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Coroutine, Hashable, Sequence
from contextvars import ContextVar
from typing import Any, Self, TypeVar, overload

from analysis_kit.container.wiring import LOCK, NOTHING, Plan, Registration, circular
from analysis_kit.errors import CaptiveDependencyError, ContainerError
from analysis_kit.hints import name_of, python_of

T = TypeVar("T")
PATIENCE_S = 300.0  # for what another thread builds, which may wait for this one unseen
_CLOSED = "this scope is closed; open another: container.create_scope()"


class Construction:
    """A service being made, within another or on its own, and then made; tasks that its factory starts are within it."""

    value: Any = NOTHING
    # whether it is made, or failed; is disposed by awaiting; can be waited for by awaiting
    over = awaits = in_task = False
    done: Any = None  # a future, made by the first who waits, since it costs an import

    def __init__(self, plan: Plan, made: dict[Hashable, Construction]) -> None:
        self.plan, self.made, self.outer = plan, made, _innermost.get()
        if self.outer is not None:
            self.refuse_circle()

    def __enter__(self) -> None:
        self.token = _innermost.set(self)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.over, self.outer = True, None
        if self.value is NOTHING and self.made.get(self.plan.slot) is self:  # it failed, and is tried again
            self.made.pop(self.plan.slot, None)
        if self.done is not None:
            self.done.set_result(None)
        del self.made  # which holds this, and is to be freed with its scope
        # last, since it fails where a lost loop's task is closed by the collector
        _innermost.reset(self.token)

    def refuse_circle(self, way: tuple[Construction, ...] = ()) -> None:
        """Raise if what this holds up, which is what it is within and what waits for that, makes the same service."""
        way = (self, *way)
        if way[1:] and self.plan.service is way[-1].plan.service:
            raise circular([each.plan.service.key for each in way])
        for each in (self, *(waiter for waiter, other in list(_waiting.items()) if other is self)):
            outer = each.outer  # read once, since another thread may end it now
            if outer is not None and not outer.over:
                outer.refuse_circle(way)

    async def wait_for(self, other: Construction) -> None:
        """Wait until ``other`` is over; refuse to in a circle, in the way of a loop, and for ever."""
        import asyncio
        from concurrent.futures import Future

        if other.in_task and not self.in_task and asyncio._get_running_loop() is not None:
            raise needs_await(self.plan.service, "is being built by a task, and waiting would stop it")
        with LOCK:
            self.refuse_circle()
            _waiting[self] = other
            other.done = other.done or Future()
        try:
            if not other.over and self.in_task:
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(other.done)), PATIENCE_S)
            elif not other.over:
                other.done.result(PATIENCE_S)
        except TimeoutError:
            raise ContainerError(f"{other.plan.service.name} is not built after {PATIENCE_S:g} s") from None
        finally:
            del _waiting[self]


_innermost: ContextVar[Construction | None] = ContextVar("_innermost", default=None)
_waiting: dict[Construction, Construction] = {}  # who waits for whom


class Scope:
    """Services of one piece of work, a document or a task; leaving ``with`` or ``async with`` disposes them.

    Open one with `create_scope`; the container itself is the outermost.
    """

    def __init__(self, root: Any, calls: Any) -> None:
        self._root, self._calls = root, calls  # no calls once it is closed
        self._made: dict[Hashable, Construction] = {}  # what is built here, and what is being built
        self._tails: dict[Construction, Callable[..., Any]] = {}  # how that is disposed, the oldest first

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
            call = self._plan(key).call
        try:
            return call(self)
        except RecursionError as exc:
            # what a constructor asks for itself is in no hint, and to track plain transients would cost each of them
            asked = vars(exc).setdefault("asked", [])  # from inside out
            asked.append(key)
            if key not in asked[:-1]:
                raise
            raise circular(asked[asked.index(key) :][::-1]) from None

    async def aresolve(self, key: Hashable) -> Any:
        """Do as `resolve` does, awaiting asynchronous factories and context managers."""
        return await self._plan(key).acall(self)

    def find(self, key: Hashable) -> Any:
        """Return the service if anything is registered for ``key``, else None."""
        return self.resolve(key) if key in self._root else None

    def create_scope(self) -> Scope:
        """Return a new scope; scopes are independent, so that no task closes the services of another."""
        return Scope(self._root, self._root._scope_calls)

    def close(self, *error: Any) -> None:
        """Dispose what was built here, the youngest first; all disposals are tried before a failure is raised."""
        self._shut()
        if self._tails:
            drive(self.leave(list(self._tails), error))

    async def aclose(self, *error: Any) -> None:
        """Do as `close` does, awaiting what must be awaited."""
        self._shut()
        await self.leave(list(self._tails), error, in_task=True)

    __exit__, __aexit__ = close, aclose

    def __enter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    def _shut(self) -> None:
        self._calls = None
        self._made.clear()  # forgotten before it is disposed, so that nobody is handed a closed service

    def _plan(self, key: Hashable) -> Plan:
        with LOCK:
            if self._calls is None:
                raise ContainerError(_CLOSED)
            plan: Plan = self._root.supply(key) or self._root.missing(key)
            plan.refuse()
            if self is self._root and plan.scoped:
                use = f"with container.create_scope() as scope: scope.resolve({python_of(key)})"
                raise CaptiveDependencyError(f"{name_of(key)} is or has the scoped {plan.scoped}; use: {use}")
            value = self._root._made.get(plan.slot, plan).value
            if value is not NOTHING or not plan.shared:
                with contextlib.suppress(TypeError):  # not hashable
                    self._calls[key] = plan.call if value is NOTHING else (lambda _: value)
        return plan

    def build(self, plan: Plan) -> Any:
        """Return the one service of ``plan``; what is plain, and waits for no other, takes a short way."""
        mine = Construction(plan, self._made)
        if not plan.plain or self._made.setdefault(plan.slot, mine) is not mine:
            return drive(self.abuild(plan))
        with mine:
            mine.value = plan.fresh(self)
        return mine.value

    async def abuild(self, plan: Plan, *, in_task: bool = False) -> Any:
        """Do as `build` does, awaiting what must be awaited; whoever comes first builds it, with no lock held."""
        mine = Construction(plan, self._made)
        mine.in_task = in_task
        while plan.once and (other := self._made.setdefault(plan.slot, mine)) is not mine:
            if other.value is not NOTHING:
                return other.value
            await mine.wait_for(other)
        with mine:
            mine.value = await self._keep(mine, await plan.afresh(self) if in_task else plan.fresh(self))
        return mine.value

    async def _keep(self, mine: Construction, value: Any) -> Any:
        """Enter ``value`` if it is a context manager, note how it is disposed, and return the service."""
        if inspect.iscoroutine(value):
            if not mine.in_task:
                value.close()
                raise needs_await(mine.plan.service, "is made by an asynchronous factory")
            value = await value
        kind, given = type(value), value
        close = getattr(value, "close", None) or getattr(value, "aclose", None)
        # a lock or semaphore is not entered, for that would be to take it for good
        lock = hasattr(kind, "acquire") and hasattr(kind, "release")
        mine.awaits = hasattr(kind, "__aenter__") and not (lock or hasattr(kind, "__enter__"))
        if mine.awaits and not mine.in_task:
            raise needs_await(mine.plan.service, "is an asynchronous context manager")
        if hasattr(kind, "__enter__") and not lock:
            given, leave = value.__enter__(), value.__exit__
        elif mine.awaits:
            given, leave = await value.__aenter__(), value.__aexit__
        elif callable(close) and not isinstance(value, type) and (mine.plan.once or self is not self._root):
            leave, mine.awaits = lambda *_: close(), inspect.iscoroutinefunction(close)
        else:
            return value  # also what is merely closable and made anew outside a scope: it is its caller's
        self._tails[mine] = leave
        if self._calls is None:  # it was closed while this was being built
            await self.leave([mine], in_task=mine.in_task)
            raise ContainerError(_CLOSED)
        # what contextlib makes stands for what it gives, as a generator does; any other manager is the service itself
        return given if kind.__module__ == "contextlib" and kind is not contextlib.suppress else value

    async def leave(self, tails: Sequence[Construction], error: Any = (), *, in_task: bool = False) -> None:
        """Dispose services in reverse order, all of them whatever one does; then raise what went wrong."""
        failed: list[tuple[BaseException, str]] = []
        body = error or (None, None, None)
        for tail in reversed(tails):
            try:
                if tail.awaits and not in_task:
                    raise ContainerError("it is disposed by awaiting; use: async with, or await aclose()")
                # none is left where someone else is at it
                result = leave(*body) if (leave := self._tails.pop(tail, None)) else None
                if in_task and inspect.isawaitable(result):
                    await result
            except BaseException as exc:  # noqa: BLE001 - the others come first; it is raised below
                if exc is not body[1]:
                    failed.append((exc, f"{tail.plan.service.name}: {type(exc).__name__}: {exc}"))
        if failed:
            message = f"{len(failed)} of {len(tails)} services could not be disposed: {'; '.join(dict(failed).values())}"
            # an interrupt or a cancel that came while disposing goes before the body's own error
            raised = next((exc for exc, _ in failed if not isinstance(exc, Exception)), body[1])
            if raised is None:
                raise ContainerError(message) from failed[0][0]
            raised.add_note(message)
            raise raised


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that was told not to wait, so that one text serves both kinds of caller."""
    try:
        return coroutine.send(None)
    except StopIteration as done:
        return done.value


def needs_await(service: Registration, why: str) -> ContainerError:
    """Return the error that says what to await."""
    return ContainerError(f"{service.name} {why}; use: await container.aresolve({python_of(service.key)})")

# ruff: noqa: SLF001 - a construction and what holds it are of one piece
"""Building services: one construction however many ask, disposal in reverse order, and the closures of a plan."""

from __future__ import annotations

import contextlib
import inspect
import logging
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterator
from typing import Any, NamedTuple, Self, TypeVar, overload

from analysis_kit.container.recipes import (
    NOTHING,
    Lifetime,
    Recipe,
    circular,
    name_of,
    needs_await,
    not_found,
)
from analysis_kit.errors import CaptiveDependencyError, ContainerError

T = TypeVar("T")

_log = logging.getLogger(__name__)
# what contextlib makes of generators
_GENERATORS = (contextlib.ContextDecorator, contextlib.AsyncContextDecorator)
_BUILDERS = ("once", "aonce", "build", "abuild")  # functions of this file that build their local `recipe`
_DISPOSABLE = ("__enter__", "__aenter__", "close", "aclose")


class Plan(NamedTuple):
    """A compiled graph: ``call(holder)`` builds it, ``acall(holder)`` does so awaiting what must be awaited."""

    call: Callable[[Any], Any]
    acall: Callable[[Any], Awaitable[Any]]
    scoped: Recipe | None = None  # the scoped service in it, if there is one
    uses: tuple[Recipe, ...] = ()
    leaf: Callable[[], Any] | None = None  # what to call, where nothing else is needed


# A construction under way is a list: whose it is (a thread's number, or a task), then a future for each who waits.
_held_up: dict[Any, list[Any]] = {}  # who waits -> for which construction
_inside: set[tuple[Recipe, Any]] = set()  # transient factories under way, and whose they are
_lock = threading.Lock()  # guards _held_up


@contextlib.contextmanager
def _waiting(found: list[Any], recipe: Recipe, me: Any) -> Iterator[Any]:
    """Within the block, count as waiting for ``found``, unless it waits for us; gives a future that is set at its end."""
    from concurrent.futures import Future  # costs more to import than the whole container

    with _lock:
        holder: list[Any] | None = found
        while holder is not None:
            if holder[0] == me:
                raise circular([*_path(), recipe])
            holder = _held_up.get(holder[0])
        _held_up[me] = found
    done: Future[None] = Future()
    done.set_running_or_notify_cancel()  # so that a waiter's cancel does not make it done
    found.append(done)
    try:
        yield done
    finally:
        del _held_up[me]


def _path() -> list[Recipe]:
    """Return what is being built around the caller, outermost first, as its stack of calls shows."""
    path: list[Recipe] = []
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_filename == __file__ and frame.f_code.co_name in _BUILDERS:
            recipe = frame.f_locals["recipe"]
            path[:0] = [recipe] if path[:1] != [recipe] else []
        frame = frame.f_back
    return path


class _Guard:
    """Goes with its holder, and warns if that had something left to dispose."""

    def __init__(self, tails: list[Any]) -> None:
        self._tails = tails

    def __del__(self) -> None:
        if self._tails:
            names = ", ".join(name_of(recipe.key) for recipe, *_ in self._tails)
            warnings.warn(
                f"a scope or container was dropped, but never closed: {names}", ResourceWarning, stacklevel=2
            )


class Scope:
    """Services of one piece of work, a document or a task; leaving ``with`` or ``async with`` disposes them.

    Open one with `create_scope`; the container itself is the outermost.
    """

    __slots__ = ("__weakref__", "_building", "_calls", "_guard", "_made", "_open", "_root", "_tails")

    def __init__(self, root: Any) -> None:
        self._made: dict[Recipe, Any] = {}
        self._building: dict[Recipe, list[Any]] = {}
        # of each service that must be disposed: its recipe, how to leave it, whether that must be awaited
        self._tails: list[tuple[Recipe, Callable[..., Any], bool]] = []
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
        return call(self) if call is not None else self._resolve_first(key)

    async def aresolve(self, key: Hashable) -> Any:
        """Do as `resolve` does, awaiting asynchronous factories and context managers."""
        return await self._demand(key).acall(self)

    def find(self, key: Hashable) -> Any:
        """Return the service if anything is registered for ``key``, else None."""
        call = self._calls.get(key)
        if call is not None:
            return call(self)
        return self._resolve_first(key) if key in self._root else None

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
        root, plan = self._root, self._demand(key)
        value = plan.call(self)
        with root._lock:
            recipe = root._find(key)
            if (
                recipe is not None
                and recipe.lifetime is Lifetime.SINGLETON
                and root._made.get(recipe) is value
            ):
                self._calls[key] = lambda _: value  # until something is registered anew
        return value

    def _demand(self, key: Hashable) -> Plan:
        plan = self._plan_for(key)
        if plan is None:
            raise not_found(key, self._root._now().values())
        return plan

    def _plan_for(self, key: Hashable) -> Plan | None:
        root = self._root
        with root._lock:
            if not self._open:
                raise ContainerError("this scope is closed; open another: container.create_scope()")
            plan: Plan | None = root._supply(key, (), [])
            if plan is None:
                return None
            if plan.scoped is not None and self is root:
                raise CaptiveDependencyError(
                    f"{name_of(key)} is or needs the scoped {name_of(plan.scoped.key)}, and the container itself is no "
                    f"scope; use: with container.create_scope() as scope: scope.resolve({name_of(key)})"
                )
            self._calls[key] = plan.call
        return plan

    def once(self, recipe: Recipe, build: Callable[[Any], Any]) -> Any:
        """Return the one object of ``recipe``; whoever comes first builds it, with no lock held."""
        mine: list[Any] = [threading.get_ident()]
        while (found := self._building.setdefault(recipe, mine)) is not mine:
            if not isinstance(found[0], int):
                import asyncio  # loaded already, since a task builds it

                if asyncio._get_running_loop() is not None:
                    raise needs_await(recipe, "is being built by a task, and a wait would stop its loop")
            with _waiting(found, recipe, mine[0]) as done:
                if self._building.get(recipe) is found:
                    done.result()
        try:
            value = self._made.get(recipe, NOTHING)
            if value is NOTHING:
                value = self._made[recipe] = build(self)
            return value
        finally:
            del self._building[recipe]
            for done in mine[1:]:
                done.set_result(None)

    async def aonce(self, recipe: Recipe, build: Callable[[Any], Awaitable[Any]]) -> Any:
        """Do as `once` does, awaiting what must be awaited."""
        import asyncio

        mine: list[Any] = [asyncio.current_task()]
        while (found := self._building.setdefault(recipe, mine)) is not mine:
            with _waiting(found, recipe, mine[0]) as done:
                if self._building.get(recipe) is found:
                    await asyncio.wrap_future(done)
        try:
            value = self._made.get(recipe, NOTHING)
            if value is NOTHING:
                value = self._made[recipe] = await build(self)
            return value
        finally:
            del self._building[recipe]
            for done in mine[1:]:
                done.set_result(None)

    async def keep(self, recipe: Recipe, value: Any, *, wait: bool) -> Any:
        """Enter ``value`` if it is a context manager, note how it is disposed, and return the service."""
        if inspect.iscoroutine(value):
            if wait:
                return await self.keep(recipe, await value, wait=True)
            value.close()
            raise needs_await(recipe, "is made by an asynchronous factory")
        kind = type(value)
        if hasattr(kind, "acquire") and hasattr(kind, "release"):
            return value  # a lock or semaphore: to enter it would be to take it for good
        enter, aenter = getattr(kind, "__enter__", None), getattr(kind, "__aenter__", None)
        if enter is None and aenter is not None and not wait:
            raise needs_await(recipe, "is an asynchronous context manager")
        if enter is not None or aenter is not None:
            entered = enter(value) if enter is not None else await aenter(value)  # type: ignore[misc]
            self._note(recipe, value.__aexit__ if enter is None else value.__exit__, awaits=enter is None)
            # a generator's service is what it yields; any other context manager is the service itself
            return entered if isinstance(value, _GENERATORS) and not isinstance(recipe.make, type) else value
        close = getattr(value, "close", None) or getattr(value, "aclose", None)
        if callable(close) and not isinstance(value, type) and self._closes(recipe):
            self._note(recipe, lambda *_: close(), awaits=inspect.iscoroutinefunction(close))
        return value

    def _note(self, recipe: Recipe, leave: Callable[..., Any], *, awaits: bool) -> None:
        if not self._tails:
            self._guard = _Guard(self._tails)
        self._tails.append((recipe, leave, awaits))

    def _closes(self, recipe: Recipe) -> bool:
        # a transient that is merely closable goes with its scope; outside any scope it is its caller's
        return self is not self._root or recipe.lifetime is Lifetime.SINGLETON

    async def leave(self, tails: list[Any], body: tuple[Any, ...], *, wait: bool) -> None:
        """Dispose services in reverse order, all of them whatever one does; then raise what went wrong."""
        errors: list[tuple[str, BaseException]] = []
        for tail in reversed(tails):
            recipe, leave, awaits = tail
            if tail not in self._tails:
                continue  # someone else is at it
            try:
                if awaits and not wait:
                    raise needs_await(recipe, "is disposed asynchronously", "async with, or aclose()")
                self._tails.remove(tail)
                result = leave(*body)
                if wait and inspect.isawaitable(result):
                    await result
            except BaseException as exc:  # noqa: BLE001 - the others come first; it is raised below
                if exc is not body[1]:
                    errors.append((name_of(recipe.key), exc))
        if errors:
            what = "; ".join(f"{name}: {type(exc).__name__}: {exc}" for name, exc in errors)
            message = (
                f"{len(errors)} of {len(tails)} services could not be disposed ({what}); the others were"
            )
            fatal = next((exc for _, exc in errors if not isinstance(exc, Exception)), None)
            if fatal is None and body[1] is None:
                raise ContainerError(message) from errors[0][1]
            _log.warning(message)
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


def compose(make: Callable[..., Any], args: list[Plan], kwargs: dict[str, Plan]) -> Plan:
    """Return the plan that builds each argument and calls ``make``; common argument lists have their own closure."""

    async def acall(holder: Any) -> Any:
        values = [await plan.acall(holder) for plan in args]
        return make(*values, **{name: await plan.acall(holder) for name, plan in kwargs.items()})

    scoped = next((each.scoped for each in (*args, *kwargs.values()) if each.scoped), None)
    if not (args or kwargs):
        return Plan(lambda _: make(), acall, leaf=make)
    if kwargs or len(args) > 2:  # noqa: PLR2004
        calls, named = [plan.call for plan in args], [(name, plan.call) for name, plan in kwargs.items()]
        return Plan(
            lambda s: make(*[a(s) for a in calls], **{name: a(s) for name, a in named}), acall, scoped
        )
    a, b, leaf = args[0].call, args[-1].call, args[-1].leaf
    if len(args) == 1:
        return Plan((lambda _: make(leaf())) if leaf else (lambda s: make(a(s))), acall, scoped)
    return Plan((lambda s: make(a(s), leaf())) if leaf else (lambda s: make(a(s), b(s))), acall, scoped)


def constant(value: Any) -> Plan:
    """Return the plan that gives ``value``."""
    return compose(lambda: value, [], {})


def lasting(recipe: Recipe, parts: Plan, root: Scope) -> Plan:
    """Return the plan that builds from ``parts`` and keeps to the recipe's lifetime and disposal."""
    plain = isinstance(recipe.make, type) and not any(hasattr(recipe.make, name) for name in _DISPOSABLE)
    build, abuild = (parts.call, parts.acall) if plain else _kept(recipe, parts)

    def single(_: Scope) -> Any:
        value = made.get(recipe, NOTHING)
        return value if value is not NOTHING else root.once(recipe, build)

    def scoped(holder: Scope) -> Any:
        value = holder._made.get(recipe, NOTHING)
        return value if value is not NOTHING else holder.once(recipe, build)

    made = root._made
    if recipe.lifetime is Lifetime.SINGLETON:
        return Plan(single, lambda _: root.aonce(recipe, abuild), None, parts.uses)
    if recipe.lifetime is Lifetime.SCOPED:
        return Plan(scoped, lambda holder: holder.aonce(recipe, abuild), recipe, parts.uses)
    return parts if plain else parts._replace(leaf=None, call=build, acall=abuild)


def _kept(recipe: Recipe, parts: Plan) -> tuple[Callable[[Any], Any], Callable[[Any], Awaitable[Any]]]:
    """Return how to build what must be disposed; a transient's factory may not run within itself."""
    transient = recipe.lifetime is Lifetime.TRANSIENT

    def build(holder: Scope) -> Any:
        with _entering(recipe, threading.get_ident()) if transient else contextlib.nullcontext():
            return drive(holder.keep(recipe, parts.call(holder), wait=False))

    async def abuild(holder: Scope) -> Any:
        import asyncio

        with _entering(recipe, asyncio.current_task()) if transient else contextlib.nullcontext():
            return await holder.keep(recipe, await parts.acall(holder), wait=True)

    return build, abuild


@contextlib.contextmanager
def _entering(recipe: Recipe, me: Any) -> Iterator[None]:
    if (recipe, me) in _inside:
        raise circular([*_path(), recipe])
    _inside.add((recipe, me))
    try:
        yield
    finally:
        _inside.discard((recipe, me))

"""Dependency injection that suits a notebook: services by key, wired from type hints, checked before use.

A graph is compiled once into closures (`recipes` reads the hints, `building` has the closures and the disposal); a
cell that runs twice replaces what its first run registered.
"""

from __future__ import annotations

import atexit
import contextlib
import inspect
import logging
import threading
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from analysis_kit.container.building import Plan, Scope, compose, constant, drive, lasting
from analysis_kit.container.recipes import (
    NOTHING,
    Lifetime,
    Recipe,
    Registration,
    auto_registration,
    circular,
    containers_alive,
    ident_of,
    injectable,
    injectables,
    name_of,
    needs_of,
    not_found,
    recipe_for,
)
from analysis_kit.errors import CaptiveDependencyError, ContainerError

__all__ = ["DIContainer", "Lifetime", "Registration", "get_container", "injectable", "reset_container"]

_Make = Callable[..., Any] | None
_log = logging.getLogger(__name__)
_COLLECTIONS: dict[Any, Any] = {list: list, tuple: tuple, Sequence: list, Iterable: list}


class DIContainer(Scope):
    """Makes services, and hands each what its constructor's type hints ask for.

    Registering a key again, or a class of the same module and name (a cell run twice), replaces it: the latest wins,
    the old singleton is disposed, and singletons that use it are built anew. Disposal is a generator factory's tail,
    a context manager's exit, else ``close()``; an ``instance=`` stays its giver's. A transient made outside a scope
    belongs to its caller, save for a tail or an exit, which `close` runs.

    Examples
    --------
    >>> class Clock: ...
    >>> class Report:
    ...     def __init__(self, clock: Clock) -> None:
    ...         self.clock = clock
    >>> container = DIContainer()
    >>> container.register_singleton(Clock)
    >>> container.register_transient(Report)
    >>> container.resolve(Report).clock is container.resolve(Clock)
    True
    """

    __slots__ = ("_current", "_entries", "_health", "_lock", "_overrides", "_plans", "_scope_calls")

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards what follows; never held while a service is built or disposed
        self._scope_calls: dict[Hashable, Callable[[Any], Any]] = {}
        self._plans: dict[Recipe, Plan] = {}
        self._entries: dict[Hashable, Recipe] = {}
        self._overrides: list[dict[Hashable, Recipe]] = []
        self._current: dict[Hashable, Recipe] | None = None  # entries and overrides as one, until one changes
        self._health: dict[str, bool] = {}
        super().__init__(self)
        self._calls = {}
        containers_alive.add(self)

    def register_singleton(
        self, key: Hashable, implementation: _Make = None, *, factory: _Make = None, instance: Any = NOTHING
    ) -> None:
        """Register one object for the container's life.

        Parameters
        ----------
        key : hashable
            What it is resolved by, mostly a class or protocol.
        implementation : class, optional
            What is built, its constructor's parameters resolved by their hints; by default the key itself.
        factory : callable, optional
            Makes it instead; may have hinted parameters, be asynchronous, or yield it and clean up afterwards.
        instance : object, optional
            It, made already.

        Raises
        ------
        ConfigurationError
            If more than one way is given, or what is given cannot be built.
        """
        self._register(Lifetime.SINGLETON, key, implementation, factory, instance)

    def register_transient(
        self, key: Hashable, implementation: _Make = None, *, factory: _Make = None, instance: Any = NOTHING
    ) -> None:
        """Register a service made anew each time; parameters as in `register_singleton`, without ``instance``."""
        self._register(Lifetime.TRANSIENT, key, implementation, factory, instance)

    def register_scoped(
        self, key: Hashable, implementation: _Make = None, *, factory: _Make = None, instance: Any = NOTHING
    ) -> None:
        """Register a service made once a scope; parameters as in `register_singleton`, without ``instance``."""
        self._register(Lifetime.SCOPED, key, implementation, factory, instance)

    @contextlib.contextmanager
    def override(
        self, key: Hashable, implementation: _Make = None, *, factory: _Make = None, instance: Any = NOTHING
    ) -> Iterator[None]:
        """Within the block, on every thread, ``key`` gives this; singletons that use it are made anew for the block."""
        layer: dict[Hashable, Recipe] = {}
        with self._lock:
            old = self._find(key)
            lifetime = old.lifetime if old is not None and instance is NOTHING else Lifetime.SINGLETON
            recipe = recipe_for(lifetime, key, implementation, factory, instance)
            self._overrides.append(layer)
            self._admit(layer, recipe)
        try:
            yield
        finally:
            with self._lock:
                self._overrides[:] = [each for each in self._overrides if each is not layer]
                self._forget_plans()
            self._drop(list(layer.values()))

    def registrations(self) -> dict[Hashable, Registration]:
        """Return what is registered, by key, in the order of registration."""
        with self._lock:
            return {
                each.key: Registration(
                    each.key, each.lifetime, each.make, each.generation, each.is_instance or each in self._made,
                    tuple(name_of(used.key) for used in self._used_by(each)),
                )
                for each in self._now().values()
            }  # fmt: skip

    def validate(self) -> None:
        """Check every registration without building anything.

        Raises
        ------
        ContainerError
            Of the first problem's kind, naming all: circles with their path, captive scoped services, parameters
            that nothing fills.
        """
        problems: dict[frozenset[str], ContainerError] = {}
        with self._lock:
            for recipe in self._now().values():
                try:
                    self._plan(recipe, ())
                except ContainerError as exc:
                    problems.setdefault(frozenset(str(exc).split()), exc)  # one circle has many beginnings
        if problems:
            first = next(iter(problems.values()))
            raise type(first)("\n".join(map(str, problems.values()))) from first

    def health(self) -> dict[str, bool]:
        """Ask each live service that has ``health_check()``; one that raises counts as False, and is logged."""
        with self._lock:
            live = [
                (name_of(each.key), each.make if each.is_instance else self._made.get(each))
                for each in self._now().values()
            ]
        answers = {}
        for name, service in live:
            check = getattr(service, "health_check", None)
            if callable(check) and not inspect.iscoroutinefunction(check):
                try:
                    answers[name] = bool(check())
                except Exception:  # noqa: BLE001 - a service is a stranger
                    _log.warning("the health check of %s failed", name, exc_info=True)
                    answers[name] = False
        self._health = answers
        return dict(answers)

    def graph(self) -> str:
        """Return the services and what they need as Mermaid text."""
        with self._lock:
            number = {each: f"s{i}" for i, each in enumerate(self._now().values())}
            names = {each: name_of(each.key).replace('"', "#quot;").replace("<", "#lt;") for each in number}
            nodes = [f'    {number[each]}["{names[each]} ({each.lifetime.value})"]' for each in number]
            edges = [
                f"    {number[each]} --> {number[use]}" for each in number for use in self._used_by(each)
            ]
        return "\n".join(["graph TD", *nodes, *edges])

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return self._find(key) is not None

    def __repr__(self) -> str:
        services = [
            f"{name_of(each.key)} ({each.lifetime.value}, generation {each.generation}{', live' * each.live})"
            for each in self.registrations().values()
        ]
        return f"<DIContainer, {len(services)} services: {', '.join(services)}>"

    def _repr_html_(self) -> str:
        from analysis_kit._html import block, table

        health = {name: "healthy" if well else "not healthy" for name, well in self._health.items()}
        rows = [
            (
                name_of(each.key), each.lifetime.value, name_of(each.implementation), each.generation,
                "live" if each.live else "", ", ".join(each.dependencies), health.get(name_of(each.key), "not asked"),
            )
            for each in self.registrations().values()
        ]  # fmt: skip
        head = ("service", "lifetime", "made by", "generation", "instances", "needs", "health()")
        return block(table(head, rows, caption=f"{len(rows)} services"))

    def look_again(self, recipe: Recipe | None) -> None:
        """Heed a changed setting, or a class that was decorated again."""
        with self._lock:
            self._forget_plans()
            old = self._entries.get(recipe.ident) if recipe is not None else None
            gone = self._admit(self._entries, recipe) if recipe is not None and old and old.auto else []
        self._drop(gone)

    def _shut(self) -> None:
        with self._lock:
            self._made.clear()
            self._forget_plans()  # a container can be used again

    def _register(
        self, lifetime: Lifetime, key: Hashable, implementation: Any, factory: Any, instance: Any
    ) -> None:
        recipe = recipe_for(lifetime, key, implementation, factory, instance)
        with self._lock:
            gone = self._admit(self._entries, recipe)
        self._drop(gone)

    def _admit(self, home: dict[Hashable, Recipe], recipe: Recipe) -> list[Recipe]:
        """Put ``recipe`` in its place and renew whatever uses it; return what went, for `_drop`.

        An override's layer takes copies, so that what is built within it does not outlive it.
        """
        layers = self._overrides[-1:]
        old = self._find(recipe.key)
        ident = recipe.ident if old is None else old.ident
        generation = 1 if old is None else old.generation + (home is self._entries)
        gone = [table[ident] for table in (home, *layers) if ident in table]
        for table in (home, *layers):
            table[ident] = replace(recipe, ident=ident, generation=generation)
        touched = {ident}
        if generation > 1:
            _log.info("%s is registered again, generation %d", name_of(recipe.key), generation)
        self._forget_plans()
        while self._made:
            now = self._now()
            users = [i for i, each in now.items() if touched & {used.ident for used in self._used_by(each)}]
            users = [i for i in users if i not in touched]
            if not users:
                break
            touched.update(users)
            for ident in users:
                for table in (home, *layers):
                    if ident in table:
                        gone.append(table[ident])
                    if ident in table or table in layers:
                        table[ident] = replace(now[ident])
            self._forget_plans()
        return gone

    def _drop(self, gone: list[Recipe]) -> None:
        """Forget and dispose the singletons built from ``gone``; what must be awaited is left to `aclose`."""
        for recipe in gone:
            self._made.pop(recipe, None)
        tails = [t for t in self._tails if t[0] in gone and t[0].lifetime is Lifetime.SINGLETON and not t[2]]
        try:
            drive(self.leave(tails, (None, None, None), wait=False))
        except ContainerError:
            _log.warning("what was replaced could not be disposed", exc_info=True)

    def _forget_plans(self) -> None:
        self._current = None
        for cached in (self._calls, self._scope_calls, self._plans):
            cached.clear()

    def _now(self) -> dict[Hashable, Recipe]:
        """Return the recipes that count at present; own ones before injectables."""
        if self._current is None:
            on = bool(injectables) and auto_registration()
            for ident, recipe in list(injectables.items()) if on else ():
                self._entries.setdefault(ident, replace(recipe))
            shown = [each for each in self._entries.values() if on or not each.auto]
            now = {each.ident: each for each in sorted(shown, key=lambda each: each.auto)}
            for layer in self._overrides:
                now.update(layer)
            self._current = now
        return self._current

    def _find(self, key: Hashable) -> Recipe | None:
        now = self._now()
        return now.get(ident_of(key)) or now.get(ident_of(key, by_name=True))

    def _used_by(self, recipe: Recipe) -> tuple[Recipe, ...]:
        with contextlib.suppress(ContainerError):  # `validate` and the first use say what is wrong
            return self._plan(recipe, ()).uses
        return ()

    def _supply(self, hint: Any, path: tuple[Recipe, ...], uses: list[Recipe]) -> Plan | None:
        """Return the plan that gives what ``hint`` asks for, or None; ``uses`` gets the recipes in it."""
        recipe = self._find(hint)
        if recipe is not None:
            uses.append(recipe)
            return self._plan(recipe, path)
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            ways = (self._supply(each, path, uses) for each in args if each is not types.NoneType)
            return next((way for way in ways if way is not None), None)
        if origin in _COLLECTIONS and (origin is not tuple or args[1:] == (...,)):
            known = [each for each in self._now().values() if each not in path[-1:]]
            members = [each for each in known if each.provides(args[0])]
            uses.extend(members)
            kind = _COLLECTIONS[origin]
            plans = [self._plan(each, path) for each in members]
            return compose(lambda *services: kind(services), plans, {}) if plans else None
        return Plan(lambda holder: holder, _itself) if hint is DIContainer else None

    def _plan(self, recipe: Recipe, path: tuple[Recipe, ...]) -> Plan:
        if recipe in path:
            raise circular([*path, recipe])
        plan = self._plans.get(recipe)
        if plan is None:
            plan = self._plans[recipe] = self._compile(recipe, (*path, recipe))
        return plan

    def _compile(self, recipe: Recipe, path: tuple[Recipe, ...]) -> Plan:
        if recipe.is_instance:
            return constant(recipe.make)
        uses: list[Recipe] = []
        args: list[Plan] = []
        kwargs: dict[str, Plan] = {}
        known = self._now().values()
        for need in needs_of(recipe, known):
            plan = None if need.hint is NOTHING else self._supply(need.hint, path, uses)
            if plan is None and need.default is NOTHING and types.NoneType not in typing.get_args(need.hint):
                raise not_found(recipe.key, known, need)
            plan = plan or constant(None if need.default is NOTHING else need.default)
            if need.by_keyword:
                kwargs[need.parameter] = plan
            else:
                args.append(plan)
        parts = compose(recipe.make, args, kwargs)._replace(uses=tuple(uses))
        if recipe.lifetime is Lifetime.SINGLETON and parts.scoped is not None:
            raise CaptiveDependencyError(
                f"the singleton {name_of(recipe.key)} would hold the scoped {name_of(parts.scoped.key)} for good; make "
                f"{name_of(recipe.key)} scoped, or {name_of(parts.scoped.key)} a singleton"
            )
        return lasting(recipe, parts, self)


async def _itself(holder: Scope) -> Scope:
    return holder


_global: DIContainer | None = None
_lock = threading.Lock()  # guards _global


def get_container() -> DIContainer:
    """Return the process-wide container, which `analyze` and the ``get_*`` functions ask first."""
    global _global  # noqa: PLW0603 - the one process-wide container
    with _lock:
        if _global is None:
            _global = DIContainer()
            atexit.unregister(_close_at_exit)
            atexit.register(_close_at_exit)
        return _global


def reset_container() -> None:
    """Dispose the services of the process-wide container and forget it; ``@injectable`` classes stay known."""
    global _global
    with _lock:
        container, _global = _global, None
    if container is not None:
        container.close()


def _close_at_exit() -> None:
    try:
        reset_container()
    except ContainerError:
        _log.warning("at exit, services of the process-wide container were left", exc_info=True)

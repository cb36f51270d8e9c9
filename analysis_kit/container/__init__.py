"""Dependency injection that suits a notebook: services by key, wired from type hints, checked before use.

A graph is compiled once into closures (`wiring`), which build and dispose what `scopes` holds; a cell that runs twice
replaces what its first run registered.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import logging
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from analysis_kit.container.scopes import Scope, drive
from analysis_kit.container.wiring import NOTHING, Lifetime, Recipe, Wiring, ident_of, name_of, recipe_for
from analysis_kit.errors import ConfigurationError, ContainerError

__all__ = ["DIContainer", "Lifetime", "Registration", "get_container", "injectable", "reset_container"]

T = TypeVar("T")
_Make = Callable[..., Any] | None
_log = logging.getLogger(__name__)


class Registration(NamedTuple):
    """What a container knows about one service; ``generation`` counts how often its key was registered."""

    key: Hashable
    lifetime: Lifetime
    implementation: object
    generation: int
    live: bool
    dependencies: tuple[str, ...]


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

    __slots__ = ("_entries", "_health", "_layers", "_lock", "_scope_calls", "_wiring")

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards what follows; never held while a service is built or disposed
        self._scope_calls: dict[Hashable, Callable[[Any], Any]] = {}
        self._entries: dict[Hashable, Recipe] = {}
        self._layers: list[dict[Hashable, Recipe]] = []  # the overrides in force
        self._wiring: Wiring | None = None  # of entries and overrides as one, until one changes
        self._health: dict[str, bool] = {}
        super().__init__(self)
        self._calls = {}
        _alive.add(self)

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
        self._register(recipe_for(Lifetime.SINGLETON, key, implementation, factory, instance))

    def register_transient(
        self, key: Hashable, implementation: _Make = None, *, factory: _Make = None, instance: Any = NOTHING
    ) -> None:
        """Register a service made anew each time; parameters as in `register_singleton`, without ``instance``."""
        self._register(recipe_for(Lifetime.TRANSIENT, key, implementation, factory, instance))

    def register_scoped(
        self, key: Hashable, implementation: _Make = None, *, factory: _Make = None, instance: Any = NOTHING
    ) -> None:
        """Register a service made once a scope; parameters as in `register_singleton`, without ``instance``."""
        self._register(recipe_for(Lifetime.SCOPED, key, implementation, factory, instance))

    @contextlib.contextmanager
    def override(
        self, key: Hashable, implementation: _Make = None, *, factory: _Make = None, instance: Any = NOTHING
    ) -> Iterator[None]:
        """Within the block, on every thread, ``key`` gives this; singletons that use it are made anew for the block."""
        with self._changing():
            old = self._wired().find(key)
            lifetime = old.lifetime if old is not None and instance is NOTHING else Lifetime.SINGLETON
            recipe = recipe_for(lifetime, key, implementation, factory, instance)
            if old is not None:
                recipe = replace(recipe, ident=old.ident, generation=old.generation)
            layer = {recipe.ident: recipe}
            self._layers.append(layer)
        try:
            yield
        finally:
            with self._changing():
                self._layers[:] = [each for each in self._layers if each is not layer]

    def registrations(self) -> dict[Hashable, Registration]:
        """Return what is registered, by key, in the order of registration."""
        with self._lock:
            return {
                each.key: Registration(
                    each.key, each.lifetime, each.make, each.generation, each.is_instance or plan.parts in self._made,
                    tuple(name_of(used.key) for used in plan.needs),
                )
                for each, plan, _ in self._wired().plans()
            }  # fmt: skip

    def validate(self) -> None:
        """Check every registration without building anything.

        Raises
        ------
        ContainerError
            Of the first problem's kind, naming all: circles with their path, captive scoped services, parameters
            that nothing fills.
        """
        with self._lock:
            wrong = [problem for *_, problem in self._wired().plans() if problem is not None]
        if wrong:
            each_once = {
                frozenset(str(problem).split()): str(problem) for problem in wrong[::-1]
            }  # a circle has many starts
            raise type(wrong[0])("\n".join(reversed(each_once.values()))) from wrong[0]

    def health(self, *, timeout_s: float = 10.0) -> dict[str, bool]:
        """Ask each live service that has ``health_check()``; one that raises, or is not done in time, counts as False.

        Each is asked on a thread of its own, or none could be given up: what is bound to the thread or the loop that
        made it has to allow for that.
        """
        with self._lock:
            plans = list(self._wired().plans())
        live = {
            each: each.make if each.is_instance else self._made.get(plan.parts) for each, plan, _ in plans
        }
        checks: dict[str, Any] = {
            name_of(each.key): check
            for each, service in live.items()
            if callable(check := getattr(service, "health_check", None))
        }
        answers = dict.fromkeys(checks, False)

        def ask(name: str) -> None:
            try:
                import asyncio  # only here, since it costs more to load than the container

                answer = checks[name]()
                answers[name] = bool(asyncio.run(answer) if inspect.iscoroutine(answer) else answer)
            except Exception:  # noqa: BLE001 - a service is a stranger
                _log.warning("the health check of %s failed", name, exc_info=True, extra={"service": name})

        threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in answers]
        for thread in threads:
            thread.start()
        end = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._health = dict(answers)
        return dict(answers)

    def graph(self) -> str:
        """Return the services and what they need as Mermaid text."""
        safe = str.maketrans({"#": "#35;", '"': "#quot;", "<": "#lt;", "\n": " "})
        with self._lock:
            plans = list(self._wired().plans())
        number = {each: f"s{i}" for i, (each, *_) in enumerate(plans)}
        nodes = [
            f'    {number[each]}["{name_of(each.key).translate(safe)} ({each.lifetime.value})"]'
            for each in number
        ]
        edges = [f"    {number[each]} --> {number[use]}" for each, plan, _ in plans for use in plan.needs]
        return "\n".join(["graph TD", *nodes, *edges])

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return self._wired().find(key) is not None

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

    def look_again(self, recipe: Recipe | None = None) -> None:
        """Heed a changed setting, or a class that was decorated again."""
        if recipe is None:
            self._forget()
        elif recipe.ident not in self._entries or self._entries[recipe.ident].auto:
            with self._changing():
                self._put(recipe)

    def _shut(self) -> None:
        with self._changing():  # a container can be used again
            self._made.clear()

    def _register(self, recipe: Recipe) -> None:
        with self._changing():
            known = self._wired().find(recipe.key)
            self._put(recipe if known is None else replace(recipe, ident=known.ident))

    def _put(self, recipe: Recipe) -> None:
        old = self._entries.get(recipe.ident)
        if old is not None:
            recipe = replace(recipe, generation=old.generation + 1)
            facts = {"service": name_of(recipe.key), "generation": recipe.generation}
            _log.info("%(service)s is registered again, generation %(generation)d", facts, extra=facts)
        self._entries[recipe.ident] = recipe

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Change what is registered; then dispose the singletons that nothing gives any more, save what must be awaited."""
        with self._lock:
            yield
            self._forget()
            tails = []
            if self._made:
                views = self._views()
                given = {plan.parts for view in views for _, plan, _ in view.plans()}
                gone = set(self._made) - given  # in one step: others build meanwhile
                tails = [tail for tail in self._tails if tail.parts in gone and not tail.awaits]
                for parts in gone:
                    del self._made[parts]
        try:
            drive(self.leave(tails, (None, None, None), wait=False))
        except ContainerError:
            services = [name_of(tail.recipe.key) for tail in tails]
            _log.warning(
                "what was replaced could not be disposed", exc_info=True, extra={"services": services}
            )

    def _forget(self) -> None:
        with self._lock:
            self._calls.clear()
            self._scope_calls.clear()
            self._wiring = None

    def _wired(self) -> Wiring:
        if self._wiring is None:
            self._wiring = self._views()[-1]
        return self._wiring

    def _views(self) -> list[Wiring]:
        """Return what may come to be given: with none of the overrides, and with each more of them; the last counts now."""
        on = bool(_injectables) and _settings().get_settings().ENABLE_AUTO_REGISTRATION
        for ident, recipe in list(_injectables.items()) if on else ():
            self._entries.setdefault(ident, replace(recipe))
        own = {ident: recipe for ident, recipe in self._entries.items() if not recipe.auto}
        views: list[dict[Hashable, Recipe]] = []
        for start in [{**own, **self._entries}] if on else [self._entries, own]:
            views.append(start)
            for layer in self._layers:
                views.append({**views[-1], **layer})
        return [Wiring(view, self) for view in views]


_alive: weakref.WeakSet[DIContainer] = weakref.WeakSet()
_injectables: dict[Hashable, Recipe] = {}
_global: DIContainer | None = None
_lock = threading.Lock()  # guards the three above


def injectable(lifetime: Lifetime) -> Callable[[type[T]], type[T]]:
    """Make a class resolvable from every container while ``ENABLE_AUTO_REGISTRATION`` is on.

    A container's own registration of the class comes first. Decorating a class of the same module and name again
    replaces it, and disposes the singletons of the former one.

    Examples
    --------
    >>> from analysis_kit.container import get_container
    >>> @injectable(Lifetime.SINGLETON)
    ... class Tone:
    ...     def analyze(self, text: str) -> float:
    ...         return 0.0
    >>> get_container().resolve(Tone).analyze("up")
    0.0
    """
    if not isinstance(lifetime, Lifetime):
        raise ConfigurationError(
            f"@injectable takes a lifetime, not {lifetime!r}; write @injectable(Lifetime.SINGLETON)"
        )

    def mark(cls: Any) -> Any:
        recipe = Recipe(cls, ident_of(cls, by_name=True), lifetime, cls, auto=True)
        with _lock:
            _injectables[recipe.ident] = recipe
        _look_again(recipe)
        return cls

    return mark


def _look_again(recipe: Recipe | None = None) -> None:
    with _lock:
        containers = list(_alive)
    for container in containers:
        container.look_again(recipe)


@functools.cache
def _settings() -> Any:
    from analysis_kit import settings  # loads pydantic, so only where a class is injectable

    settings.on_change(_look_again)
    return settings


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
    except ContainerError as exc:
        _log.warning("at exit: %s", exc, extra={"error": str(exc)})

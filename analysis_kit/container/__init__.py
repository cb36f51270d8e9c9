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
import weakref
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from analysis_kit.cancellation import call_side_by_side
from analysis_kit.container import wiring
from analysis_kit.container.scopes import Scope, drive
from analysis_kit.container.wiring import LOCK, NOTHING, Lifetime, Registration, checked, name_of
from analysis_kit.errors import ConfigurationError, ContainerError

__all__ = ["DIContainer", "Lifetime", "Registration", "get_container", "injectable", "reset_container"]

T = TypeVar("T")
_Make = Callable[..., Any] | None
_Layer = dict[Hashable, Registration]
_log = logging.getLogger(__name__)


class DIContainer(Scope):
    """Makes services, and hands each what its constructor's type hints ask for.

    Registering a key again, or a class of the same module and name (a cell run twice), replaces it: the latest wins,
    the old singleton is disposed, and singletons that use it are built anew. What a factory asks a container that it
    is given for is followed by overrides, but not by later registrations. Disposal is a generator factory's tail,
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

    def __init__(self) -> None:
        self._wiring: wiring.Wiring | None = None  # of what is registered, until that changes
        self._scope_calls: dict[Hashable, Callable[[Any], Any]] = {}
        self._health: dict[str, bool] = {}
        super().__init__(self, {})
        with LOCK:
            # what is decorated, what was registered here, and the overrides in force
            self._layers: dict[object, _Layer] = {"injectable": dict(_injectables), "own": {}}
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
        self.heed(checked(Lifetime.SINGLETON, key, implementation, factory, instance))

    def register_transient(
        self, key: Hashable, implementation: _Make = None, *, factory: _Make = None, instance: Any = NOTHING
    ) -> None:
        """Register a service made anew each time; parameters as in `register_singleton`, without ``instance``."""
        self.heed(checked(Lifetime.TRANSIENT, key, implementation, factory, instance))

    def register_scoped(
        self, key: Hashable, implementation: _Make = None, *, factory: _Make = None, instance: Any = NOTHING
    ) -> None:
        """Register a service made once a scope; parameters as in `register_singleton`, without ``instance``."""
        self.heed(checked(Lifetime.SCOPED, key, implementation, factory, instance))

    @contextlib.contextmanager
    def override(
        self, key: Hashable, implementation: _Make = None, *, factory: _Make = None, instance: Any = NOTHING
    ) -> Iterator[None]:
        """Within the block, on every thread, ``key`` gives this; singletons that use it are made anew for the block."""
        old = self._wired().find(key)
        lifetime = old.lifetime if old is not None and instance is NOTHING else Lifetime.SINGLETON
        layer = object()
        self.heed(checked(lifetime, key, implementation, factory, instance), layer)
        try:
            yield
        finally:
            with self._changing():
                del self._layers[layer]

    def registrations(self) -> dict[Hashable, Registration]:
        """Return what is registered, by key, in the order of registration."""
        with LOCK:
            return {
                each.key: replace(each, value=self._made.get(plan.slot, each).value, dependencies=plan.needs)
                for each, plan in self._wired().all_plans()
            }

    def validate(self) -> None:
        """Check every registration without building anything.

        Raises
        ------
        ContainerError
            Of the first problem's kind, naming all: circles with their path, captive scoped services, parameters
            that nothing fills.
        """
        with LOCK:
            wrong = [plan.wrong for _, plan in self._wired().all_plans() if plan.wrong]
        if wrong:
            raise type(wrong[0])("\n".join(dict.fromkeys(map(str, wrong))))

    def health(self, *, timeout_s: float = 10.0) -> dict[str, bool]:
        """Ask each live service that has ``health_check()``; one that raises, or is not done in time, counts as False.

        Each is asked on a thread of its own, or none could be given up: what is bound to the thread or the loop that
        made it has to allow for that.
        """
        live = {each.name: each.value for each in self.registrations().values() if each.live}
        # replaced once something is registered, so that the answer of a former object is not shown
        self._health = answers = dict.fromkeys(live, False)

        def ask(name: str) -> None:
            try:
                check = getattr(live[name], "health_check", None)
                if not callable(check):
                    del answers[name]
                    return
                answer = check()
                if inspect.isawaitable(answer):
                    import asyncio  # only here, since it costs more to load than the container

                    answer = asyncio.run(asyncio.wait_for(answer, timeout_s))
                answers[name] = bool(answer)
            except BaseException:  # noqa: BLE001 - a service is a stranger
                _log.warning("the health check of %s failed", name, exc_info=True, extra={"service": name})

        call_side_by_side((functools.partial(ask, name) for name in live), "health", within_s=timeout_s)
        return dict(answers)

    def graph(self) -> str:
        """Return the services and what they need as Mermaid text."""
        safe = str.maketrans({"#": "#35;", '"': "#quot;", "<": "#lt;"})
        known = list(self.registrations().values())
        at = {each.key: f"s{i}" for i, each in enumerate(known)}
        names = [" ".join(each.name.translate(safe).splitlines()) for each in known]
        named = zip(known, names, strict=True)
        nodes = [f'{at[each.key]}["{name} ({each.lifetime.value})"]' for each, name in named]
        edges = [f"{at[each.key]} --> {at[use]}" for each in known for use in each.dependencies]
        return "\n    ".join(["graph TD", *nodes, *edges])

    def __contains__(self, key: Hashable) -> bool:
        return self._wired().find(key) is not None

    def __repr__(self) -> str:
        known = self.registrations().values()
        return f"<DIContainer, {len(known)} services: {', '.join(map(str, known))}>"

    def _repr_html_(self) -> str:
        from analysis_kit._html import block, table

        known, answers = self.registrations(), {True: "healthy", False: "not healthy", None: "not asked"}
        rows = [
            (each.name, each.lifetime.value, name_of(each.implementation), each.generation, "live" * each.live,
             ", ".join(known[key].name for key in each.dependencies), answers[self._health.get(each.name)])
            for each in known.values()
        ]  # fmt: skip
        head = ("service", "lifetime", "made by", "generation", "instances", "needs", "health()")
        return block(table(head, rows, caption=f"{len(rows)} services"))

    def heed(self, service: Registration | None, at: object = "own") -> None:
        """Put ``service`` among those registered ``at`` the same; without one, look again at the settings."""
        with self._changing():
            if service is None:
                return
            if (known := self._wired().find(service.key)) is not None:
                count = known.generation + 1
                service = replace(service, name=known.name, ident=known.ident, generation=count)
                facts = {"service": service.name, "generation": count}
                _log.info("%(service)s is registered again, generation %(generation)d", facts, extra=facts)
            elif any(each.name == service.name for each in self._wired().known.values()):
                service = replace(service, name=f"{getattr(service.key, '__module__', 'the')}.{service.name}")
            self._layers.setdefault(at, {})[service.ident] = service

    def _shut(self) -> None:
        with self._changing():  # a container can be used again
            self._made.clear()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Change what is registered; then dispose the singletons made from what is no more, save what must be awaited."""
        with LOCK:
            yield
            self._calls.clear()
            self._scope_calls.clear()
            self._wiring, self._health = None, {}
            known = {each for layer in self._layers.values() for each in layer.values()}
            gone = [each for each in list(self._made.values()) if not each.plan.parts <= known]
            tails = [tail for tail in list(self._tails) if tail in gone and not tail.awaits]
            for each in gone:
                self._made.pop(each.plan.slot, None)
        try:
            drive(self.leave(tails))
        except ContainerError:
            names = [tail.plan.service.name for tail in tails]
            _log.warning("what was replaced could not be disposed", exc_info=True, extra={"services": names})

    def _wired(self) -> wiring.Wiring:
        with LOCK:
            if self._wiring is None:
                auto, own, *doubles = self._layers.values()
                on = bool(auto) and _settings().get_settings().ENABLE_AUTO_REGISTRATION
                known = own | auto | own if on else own  # one's own come first, and count
                over = {ident: each for layer in doubles for ident, each in layer.items()}
                self._wiring = wiring.Wiring(known, over, self)
            return self._wiring


_alive: weakref.WeakSet[DIContainer] = weakref.WeakSet()
_injectables: _Layer = {}
_global = DIContainer()


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
        raise ConfigurationError(f"@injectable is given {lifetime!r}; write @injectable(Lifetime.SINGLETON)")

    def mark(cls: Any) -> Any:
        service = checked(lifetime, cls, None, None, NOTHING)
        service = replace(service, ident=wiring.ident_of(cls, by_name=True))
        _injectables[service.ident] = service
        _look_again(service)
        return cls

    return mark


def _look_again(service: Registration | None = None) -> None:
    with LOCK:
        containers = list(_alive)
    for container in containers:
        container.heed(service, "injectable")


@functools.cache
def _settings() -> Any:
    from analysis_kit import settings  # loads pydantic, so only where a class is injectable

    settings.on_change(_look_again)
    return settings


def get_container() -> DIContainer:
    """Return the process-wide container, which `analyze` and the ``get_*`` functions ask first."""
    _dispose_at_exit()
    return _global


@functools.cache
def _dispose_at_exit() -> None:
    # registered at the first use, so that it runs before what the services use is shut down
    atexit.register(reset_container)


def reset_container() -> None:
    """Dispose the services of the process-wide container and forget it; ``@injectable`` classes stay known."""
    global _global
    container, _global = _global, DIContainer()
    container.close()

"""Dependency injection that suits a notebook: services by key, wired from type hints, checked before use.

A graph is compiled once into closures (`wiring`), which build and dispose what `scopes` holds; a cell that runs twice
replaces what its first run registered.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import weakref
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import Any

from analysis_kit._html import block, mermaid, table
from analysis_kit.cancellation import call_side_by_side
from analysis_kit.container.scopes import Scope, T, drive
from analysis_kit.container.wiring import LOCK, NOTHING, Lifetime, Registration, Wiring, look_up
from analysis_kit.errors import ConfigurationError, ContainerError
from analysis_kit.hints import ident_of, name_of, names_of

__all__ = ["DIContainer", "Lifetime", "Registration", "get_container", "injectable", "reset_container"]

_Make = Callable[..., Any] | None
_log = logging.getLogger(__name__)


class DIContainer(Scope, Wiring):
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
        super().__init__(self, {})
        self._plans, self._scope_calls, self._health = {}, dict[Hashable, Any](), dict[str, bool]()
        self._layers = {"injectable": _injectables, "own": {}}
        _alive[id(self)] = self

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
        self._put("own", Lifetime.SINGLETON, key, implementation, factory, instance)

    def register_transient(
        self, key: Hashable, implementation: _Make = None, *, factory: _Make = None, instance: Any = NOTHING
    ) -> None:
        """Register a service made anew each time; parameters as in `register_singleton`, without ``instance``."""
        self._put("own", Lifetime.TRANSIENT, key, implementation, factory, instance)

    def register_scoped(
        self, key: Hashable, implementation: _Make = None, *, factory: _Make = None, instance: Any = NOTHING
    ) -> None:
        """Register a service made once a scope; parameters as in `register_singleton`, without ``instance``."""
        self._put("own", Lifetime.SCOPED, key, implementation, factory, instance)

    @contextlib.contextmanager
    def override(
        self, key: Hashable, implementation: _Make = None, *, factory: _Make = None, instance: Any = NOTHING
    ) -> Iterator[None]:
        """Within the block, on every thread, ``key`` gives this; singletons that use it are made anew for the block."""
        old, layer = look_up(self._in_force(), key), object()
        lifetime = old.lifetime if old is not None and instance is NOTHING else Lifetime.SINGLETON
        self._put(layer, lifetime, key, implementation, factory, instance)
        try:
            yield
        finally:
            self._layers.pop(layer)
            self.heed_change()

    def registrations(self) -> dict[Hashable, Registration]:
        """Return what is registered, by key, in the order of registration."""
        with LOCK:
            plans = [self.plan(each) for each in self._in_force().values()]
            values = [self._made.get(plan.slot, plan.service).value for plan in plans]
        facts = zip(plans, names_of(plan.service.key for plan in plans), values, strict=True)
        return {
            plan.service.key: replace(plan.service, name=name, value=value, dependencies=plan.needs)
            for plan, name, value in facts
        }

    def health(self, *, timeout_s: float = 10.0) -> dict[str, bool]:
        """Ask each live service that has ``health_check()``; one that raises, or is not done in time, counts as False.

        Each is asked on a thread of its own, or none could be given up: what is bound to the thread or the loop that
        made it has to allow for that.
        """
        # replaced once something is registered, so that the answer of a former object is not shown
        self._health = shown = dict[str, bool]()
        live = {each.name: each.value for each in self.registrations().values() if each.live}
        answers = dict.fromkeys(live, False)

        def ask(name: str) -> None:
            try:
                check = getattr(live[name], "health_check", None)
                answer = check() if callable(check) else answers.pop(name)
                if hasattr(answer, "__await__"):
                    import asyncio  # only here, since it costs more to load than the container

                    answer = asyncio.run(asyncio.wait_for(answer, timeout_s))
                answers.update({name: bool(answer)} if callable(check) else {})
            except BaseException:  # noqa: BLE001 - a service is a stranger
                _log.warning("the health check of %s failed", name, exc_info=True, extra={"service": name})

        call_side_by_side((functools.partial(ask, name) for name in live), "health", within_s=timeout_s)
        shown.update(answers)
        return dict(shown)

    def graph(self) -> str:
        """Return the services and what they need as Mermaid text."""
        known = self.registrations()
        nodes = {key: f"{each.name} ({each.lifetime.value})" for key, each in known.items()}
        return mermaid(nodes, [(key, use) for key, each in known.items() for use in each.dependencies])

    def __repr__(self) -> str:
        known = self.registrations().values()
        return f"<DIContainer, {len(known)} services: {', '.join(map(str, known))}>"

    def _repr_html_(self) -> str:
        known, said = self.registrations(), {True: "healthy", False: "not healthy", None: "not asked"}
        rows = [
            (each.name, each.lifetime.value, name_of(each.implementation), each.generation, "live" * each.live,
             ", ".join(known[key].name for key in each.dependencies), said[self._health.get(each.name)])
            for each in known.values()
        ]  # fmt: skip
        head = ("service", "lifetime", "made by", "generation", "instances", "needs", "health()")
        return block(table(head, rows, caption=f"{len(rows)} services"))

    def heed_change(self) -> None:
        """Plan anew; dispose the singletons that are made from what is no more, save what must be awaited."""
        with LOCK:
            for each in (self._plans, self._calls, self._scope_calls):
                each.clear()
            self._health, made = {}, self._made
            known = {None}.union(self._layers, *(layer.values() for layer in self._layers.values()))
            gone = [made.pop(slot, None) for slot, each in list(made.items()) if not each.plan.parts <= known]
            tails = [tail for tail in list(self._tails) if tail in gone and not tail.awaits]
        try:
            drive(self.leave(tails))
        except ContainerError:
            _log.warning("what was replaced is not disposed", exc_info=True, extra={"services": len(tails)})

    def _put(self, layer: object, *given: Any) -> None:
        with LOCK:
            service = _beside(self._in_force(), Registration.of(*given))
            self._layers.setdefault(layer, {})[service.ident] = service
        self.heed_change()

    def _shut(self) -> None:
        self._made.clear()
        self.heed_change()  # a container can be used again

    def _in_force(self) -> dict[Hashable, Registration]:
        """Return what counts now, by ident; one's own come first, and count more than what is decorated."""
        auto, own, *doubles = self._layers.values()
        if auto:
            from analysis_kit import settings  # loads pydantic, so only where a class is injectable

            _once(settings.on_change, _heed_change)
            auto = auto if settings.get_settings().ENABLE_AUTO_REGISTRATION else {}
        return functools.reduce(dict.__or__, [own, auto, own, *doubles])


_alive: weakref.WeakValueDictionary[int, DIContainer] = weakref.WeakValueDictionary()
_injectables: dict[Hashable, Registration] = {}
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
        with LOCK:
            service = _beside(_injectables, Registration.of(lifetime, cls, None, None, NOTHING))
            _injectables[service.ident] = service
        _heed_change()
        return cls

    return mark


def _beside(known: dict[Hashable, Registration], service: Registration) -> Registration:
    """Return ``service`` as it is registered beside what is known: as its next generation, if it is."""
    if (former := look_up(known, service.key)) is not None:
        facts = {"service": service.name, "generation": former.generation + 1}
        _log.info("%(service)s is registered again, generation %(generation)d", facts, extra=facts)
        return replace(service, ident=former.ident, generation=former.generation + 1)
    # what is decorated goes by its name also where it was made in a function
    return replace(service, ident=ident_of(service.key, by_name=known is _injectables))


def _heed_change() -> None:
    for container in filter(None, (reference() for reference in _alive.valuerefs())):
        container.heed_change()


_once = functools.cache(lambda register, callback: register(callback))


def get_container() -> DIContainer:
    """Return the process-wide container, which `analyze` and the ``get_*`` functions ask first."""
    # not sooner, so that it runs before what the services use is shut down
    _once(atexit.register, reset_container)
    return _global


def reset_container() -> None:
    """Dispose the services of the process-wide container and forget it; ``@injectable`` classes stay known."""
    global _global
    container, _global = _global, DIContainer()
    container.close()

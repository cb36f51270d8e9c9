# ruff: noqa: SLF001 - a plan and the scope or container that builds it are of one piece
"""From registrations to plans: what is registered, what fills its parameters, and the closures that build a graph."""

from __future__ import annotations

import enum
import threading
import types
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from inspect import Parameter, isabstract, isasyncgenfunction, isgeneratorfunction
from typing import Any, Self, get_args

from analysis_kit import errors
from analysis_kit.hints import alternatives, collection, ident_of, name_of, parameters_of, python_of

NOTHING: Any = Parameter.empty  # "no value here", so that None stays a value
LOCK = threading.RLock()  # guards what every container knows; never held while a service is built or disposed
_MANAGED = {"__enter__", "__aenter__", "close", "aclose"}


class Lifetime(enum.Enum):
    """How long a service lives: as long as the container, as one scope, or as its caller keeps it."""

    SINGLETON = "singleton"
    SCOPED = "scoped"
    TRANSIENT = "transient"


@dataclass(frozen=True, eq=False)
class Registration:
    """What a container knows about one service.

    Attributes
    ----------
    key : hashable
        What it is resolved by.
    name : str
        How it is shown: the key's name, with its module where another service has that name.
    lifetime : Lifetime
        How long it lives.
    implementation : class or callable
        What makes it, or the class of the instance that was given.
    ident : hashable
        What a registration of the same service would replace.
    value : object
        Its singleton where that is ``live``, else `NOTHING`.
    generation : int
        How often its key was registered.
    dependencies : tuple of hashable
        The keys of what it needs.
    """

    key: Hashable
    name: str
    lifetime: Lifetime
    implementation: Any
    ident: Hashable = None
    value: Any = NOTHING
    generation: int = 1
    dependencies: tuple[Hashable, ...] = ()

    @classmethod
    def of(cls, lifetime: Lifetime, key: Any, implementation: Any, factory: Any, instance: Any) -> Self:
        """Return the registration of a service that is made in one of three ways, or by its key."""
        given = instance is not NOTHING
        makers = [each for each in (implementation, factory) if each is not None]
        make = type(instance) if given else [*makers, key][0]
        abstract = isabstract(make) or getattr(make, "_is_protocol", False)
        for wrong, why in (
            (not isinstance(key, Hashable), "it is not hashable, and so no key"),
            (len(makers) + given > 1, "give one of implementation=, factory= and instance="),
            (given and lifetime is not Lifetime.SINGLETON, "an instance is one; use register_singleton"),
            (not callable(make) or abstract, "it is abstract or builds nothing; give a class or instance="),
        ):
            if wrong:
                raise errors.ConfigurationError(f"{name_of(key)}: {why}")
        # a generator's first value is the service and the rest its tail, as contextlib reads generators
        wraps = (isgeneratorfunction, contextmanager), (isasyncgenfunction, asynccontextmanager)
        for yields, manager in () if isinstance(make, type) else wraps:
            make = manager(make) if yields(make) or yields(make.__call__) else make
        return cls(key, name_of(key), lifetime, make, value=instance)

    def __str__(self) -> str:
        return f"{self.name} ({self.lifetime.value}, generation {self.generation}{', live' * self.live})"

    @property
    def live(self) -> bool:
        """Whether its singleton is there."""
        return self.value is not NOTHING

    def classes(self) -> list[type]:
        """Return the classes that the service is known to be of, bases included."""
        known = [each for each in (self.key, self.implementation) if isinstance(each, type)]
        return [base for each in known for base in each.__mro__[:-1]]

    def provides(self, wanted: Any) -> bool:
        """Return whether the service is a ``wanted``; by name too, as a base class's cell may have run again."""
        own = [] if getattr(wanted, "__module__", "builtins") == "builtins" else self.classes()
        with suppress(TypeError):  # no class, or a protocol that cannot be checked at run time
            return any(ident_of(each) == ident_of(wanted) or issubclass(each, wanted) for each in own)
        return False


def look_up(known: dict[Hashable, Registration], key: Any) -> Registration | None:
    """Return the registration of ``key`` among those known by ident."""
    with suppress(TypeError):  # not hashable, and so no key
        return known.get(ident_of(key)) or known.get(ident_of(key, by_name=True))
    return None


def circular(path: Sequence[Hashable]) -> errors.CircularDependencyError:
    """Return the error that names the way round; ``path``, of keys, ends where it comes back to."""
    way = " -> ".join(name_of(key) for key in path[path.index(path[-1]) :])
    return errors.CircularDependencyError(f"{way} is a circle; let one of these be set after it is built")


class Plan:
    """A compiled graph: ``call(holder)`` gives its service, ``acall(holder)`` does so awaiting what must be awaited.

    Where a holder keeps or disposes the service, ``fresh`` and ``afresh`` build it, and the former two have the holder
    do so. Without ``make`` it is the holder itself.
    """

    shared = False  # whether there is one for all scopes
    value: Any = NOTHING  # as of a construction, for who finds none

    def __init__(self, make: Any, plans: Sequence[Plan] = (), service: Any = None, wrong: Any = ()) -> None:
        self.make, self.plans, self.service = make, plans, service
        self.needs: tuple[Hashable, ...] = tuple(key for plan in plans for key in plan.keys)
        # what is needed where this is
        self.keys: tuple[Hashable, ...] = (service.key,) if service else self.needs
        # all that is in it, and what else must be in force as long as it is
        self.parts: frozenset[Any] = frozenset([service]).union(*(plan.parts for plan in plans))
        # why it cannot be built, each reason once
        self.wrong: Any = dict.fromkeys([*wrong, *(each for plan in plans for each in plan.wrong)])
        scoped = (each.name for each in self.parts if getattr(each, "lifetime", None) is Lifetime.SCOPED)
        self.scoped = min(scoped, default="")  # a scoped service in it
        self.slot: Hashable = self.parts | {(service,)}  # what its service is kept under
        self.leaf = None if plans else make  # what makes it of nothing else
        self.call = self.fresh = self._closure()
        self.acall: Callable[[Any], Awaitable[Any]] = self.afresh
        if service is not None:
            self._heed_lifetime(service)

    def refuse(self) -> None:
        """Raise why it cannot be built, if anything, anew, or the error would collect the ways of all who ask."""
        if kinds := {str(each): type(each) for each in self.wrong}:
            raise next(iter(kinds.values()))("\n".join(kinds))

    async def afresh(self, holder: Any) -> Any:
        """Do as ``fresh`` does, awaiting what must be awaited."""
        values = [await plan.acall(holder) for plan in self.plans]
        return self.make(*values) if values else self.fresh(holder)

    def _closure(self) -> Callable[[Any], Any]:
        """Return what builds the parts in a holder and calls ``make`` with them; common numbers are spelt out."""
        make, calls = self.make, [plan.call for plan in self.plans]
        leaf = self.plans[-1].leaf if calls else None
        match calls:
            case []:
                return (lambda _: make()) if make else (lambda holder: holder)
            case [one]:
                return (lambda _: make(leaf())) if leaf else (lambda at: make(one(at)))
            case [one, two]:
                return (lambda at: make(one(at), leaf())) if leaf else (lambda at: make(one(at), two(at)))
        return lambda holder: make(*[call(holder) for call in calls])

    def _heed_lifetime(self, service: Registration) -> None:
        """Have the service looked for, built and kept in the container or scope that it belongs to."""
        self.shared = shared = service.lifetime is Lifetime.SINGLETON
        self.once = service.lifetime is not Lifetime.TRANSIENT
        if shared and self.scoped:
            why = f"the singleton {service.name} would keep the scoped {self.scoped}; make both the same"
            self.wrong[errors.CaptiveDependencyError(why)] = None
        # whether it is nothing to dispose
        self.plain = isinstance(make := service.implementation, type) and _MANAGED.isdisjoint(dir(make))
        if service.live or (self.plain and not self.once):
            return

        def call(holder: Any) -> Any:
            keeper = holder._root if shared else holder
            value = keeper._made.get(self.slot, self).value
            return keeper.build(self) if value is NOTHING else value

        self.call, self.leaf = call, None
        self.acall = lambda holder: (holder._root if shared else holder).abuild(self, in_task=True)


class Wiring:
    """What is registered, and the plans of it, each made when it is first asked for."""

    # of what is decorated, one's own, and each override in force, by ident
    _layers: dict[object, dict[Hashable, Registration]]
    _in_force: Callable[[], dict[Hashable, Registration]]
    _plans: dict[Registration, Plan]

    def validate(self) -> None:
        """Check every registration without building anything.

        Raises
        ------
        ContainerError
            Of the first problem's kind, naming all: circles with their path, captive scoped services, parameters
            that nothing fills.
        """
        with LOCK:
            Plan(list, [self.plan(each) for each in self._in_force().values()]).refuse()

    def __contains__(self, key: Hashable) -> bool:
        return look_up(self._in_force(), key) is not None

    def plan(self, service: Registration, path: tuple[Registration, ...] = ()) -> Plan:
        """Return the plan of ``service``, needed along ``path``."""
        if service in path:
            return Plan(None, wrong=[circular([each.key for each in (*path, service)])])
        if service not in self._plans:
            self._plans[service] = self._compile(service, (*path, service))
        return self._plans[service]

    def supply(self, hint: Any, path: tuple[Registration, ...] = ()) -> Plan | None:
        """Return the plan that gives what ``hint`` asks for, or None."""
        if (service := look_up(self._in_force(), hint)) is not None:
            return self.plan(service, path)
        if kinds := alternatives(hint):
            return next(filter(None, (self.supply(each, path) for each in kinds)), None)
        if (collect := collection(hint)) is not None:
            others = [each for each in self._in_force().values() if each not in path[-1:]]
            plans = [self.plan(each, path) for each in others if each.provides(get_args(hint)[0])]
            return Plan(lambda *made: collect(made), plans) if plans else None
        # who takes the container may ask it for any double, and so must not outlive them
        whole = Plan(None)
        whole.parts = frozenset([*self._layers][2:])
        return whole if hint in type(self).__mro__[:-1] else None

    def missing(self, key: Any, parameter: Any = None, hint: Any = NOTHING) -> Plan:
        """Return the plan of what nothing registered gives: ``key``, or its parameter."""
        name, asked = name_of(key), key if parameter is None else hint
        module = f"{asked.__module__}." if isinstance(asked, type) else ""
        why, add = f"nothing is registered for {module}{name}", f"{python_of(asked)}, <a class>"
        if parameter is not None:
            why = f"{name} cannot be built: nothing fills its parameter {parameter.name!r} ({parameter})"
            if hint is NOTHING or getattr(hint, "__module__", "") == "builtins":
                add = f"{python_of(key)}, factory=lambda: {name}({parameter.name}=...)"
        known = ", ".join(each.name for each in self._in_force().values()) or "nothing yet"
        how = f"Registered: {known}. To add: container.register_singleton({add})"
        return Plan(None, wrong=[errors.ServiceNotFoundError(f"{why}. {how}")])

    def _compile(self, service: Registration, path: tuple[Registration, ...]) -> Plan:
        make = (lambda: service.value) if service.live else service.implementation
        classes = (base for each in self._in_force().values() for base in each.classes())
        plans, named = list[Plan](), list[str]()
        for each, hint in parameters_of(make, classes):
            plan, default, by_name = self.supply(hint, path), each.default, each.kind is each.KEYWORD_ONLY
            if plan is None and default is NOTHING and types.NoneType not in get_args(hint):
                plan = self.missing(service.key, each, hint)
            if plan or default is NOTHING or not by_name:  # else its own default holds
                plans.append(plan or Plan(lambda value=default: None if value is NOTHING else value))
                named += [each.name] * by_name

        def call_by_name(*values: Any) -> Any:
            first = len(plans) - len(named)
            return make(*values[:first], **dict(zip(named, values[first:], strict=True)))

        return Plan(call_by_name if named else make, plans, service)

# ruff: noqa: SLF001 - a plan and the scope or container that builds it are of one piece
"""From registrations to plans: what is registered, what fills its parameters, and the closures that build a graph."""

from __future__ import annotations

import contextlib
import enum
import inspect
import threading
import types
import typing
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from analysis_kit import errors
from analysis_kit.hints import parameters_of

NOTHING: Any = inspect.Parameter.empty  # "no value here", so that None stays a value
LOCK = threading.RLock()  # guards what every container knows; never held while a service is built or disposed
_UNIONS = typing.Union, types.UnionType
_MANAGED = ("__enter__", "__aenter__", "close", "aclose")


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
    ident: Hashable
    value: Any = NOTHING
    generation: int = 1
    dependencies: tuple[Hashable, ...] = ()

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
        with contextlib.suppress(TypeError):  # no class, or a protocol that cannot be checked at run time
            return any(ident_of(each) == ident_of(wanted) or issubclass(each, wanted) for each in own)
        return False


def checked(lifetime: Lifetime, key: Any, implementation: Any, factory: Any, instance: Any) -> Registration:
    """Return the registration of a service that is made in one of three ways, or by its key."""
    given = instance is not NOTHING
    makers = [each for each in (implementation, factory) if each is not None]
    make = type(instance) if given else [*makers, key][0]
    abstract = inspect.isabstract(make) or getattr(make, "_is_protocol", False)
    for wrong, why in (
        (not isinstance(key, Hashable), "it is not hashable, and so no key"),
        (len(makers) + given > 1, "give one of implementation=, factory= and instance="),
        (given and lifetime is not Lifetime.SINGLETON, "an instance is one; use register_singleton"),
        (not callable(make) or abstract, "it is abstract or builds nothing; give a class or instance="),
    ):
        if wrong:
            raise errors.ConfigurationError(f"{name_of(key)}: {why}")
    # a generator's first value is the service and the rest its tail, as contextlib reads generators
    calls = [] if isinstance(make, type) else [make, make.__call__]
    if any(map(inspect.isgeneratorfunction, calls)):
        make = contextlib.contextmanager(make)
    elif any(map(inspect.isasyncgenfunction, calls)):
        make = contextlib.asynccontextmanager(make)
    return Registration(key, name_of(key), lifetime, make, ident_of(key), instance)


def ident_of(key: Any, *, by_name: bool = False) -> Hashable:
    """Return what a service is found under: what has a name by that and its module, so that a cell run twice replaces it.

    What was made in a function stands for itself, since one function can make several, unless ``by_name``.
    """
    if isinstance(key, enum.Enum):
        return ident_of(type(key)), key.name
    if args := key if isinstance(key, list) else typing.get_args(key):  # a list: the parameters of a Callable
        order = frozenset if typing.get_origin(key) in _UNIONS else tuple
        return ident_of(typing.get_origin(key)), order(map(ident_of, args))
    kinds: Any = (type, types.FunctionType, typing.NewType)
    named = isinstance(key, kinds) and (by_name or "<" not in key.__qualname__)
    return (type, key.__module__, key.__qualname__) if named else key


def name_of(key: Any) -> str:
    """Return the name of a class, or the text of any other key."""
    return key.__qualname__.rpartition("<locals>.")[2] if isinstance(key, type) else str(key)


def python_of(key: Any) -> str:
    """Return how a key is written in a line to paste."""
    return repr(key) if isinstance(key, str) else name_of(key)


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

    def __init__(self, make: Any, plans: Sequence[Plan] = (), service: Any = None, wrong: Any = None) -> None:
        self.make, self.plans, self.service = make, plans, service
        self.needs: tuple[Hashable, ...] = tuple(key for plan in plans for key in plan.keys)
        # what is needed where this is
        self.keys: tuple[Hashable, ...] = (service.key,) if service else self.needs
        own = frozenset([service] if service else [])
        self.parts: frozenset[Registration] = own.union(*(plan.parts for plan in plans))
        # why it cannot be built
        self.wrong: Any = next((plan.wrong for plan in plans if plan.wrong), wrong)
        self.slot: Hashable = self.parts | {(service,)}  # what its service is kept under
        self.scoped: str = next((plan.scoped for plan in plans if plan.scoped), "")  # a scoped service in it
        self.leaf = None if plans else make  # what makes it of nothing else
        self.call = self.fresh = self._closure()
        self.acall: Callable[[Any], Awaitable[Any]] = self.afresh
        if service is not None:
            self._heed_lifetime(service)

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
        make, slot, name = service.implementation, self.slot, service.name
        self.shared = shared = service.lifetime is Lifetime.SINGLETON
        if shared and self.scoped:
            why = f"the singleton {name} would hold the scoped {self.scoped} for good; make both the same"
            self.wrong = self.wrong or errors.CaptiveDependencyError(why)
        self.once = service.lifetime is not Lifetime.TRANSIENT
        if self.once and not shared:
            self.scoped = name
        self.plain = isinstance(make, type) and not any(hasattr(make, each) for each in _MANAGED)
        if service.live or (self.plain and not self.once):
            return

        def call(holder: Any) -> Any:
            keeper = holder._root if shared else holder
            made = keeper._made.get(slot)
            return keeper.build(self) if made is None or made.value is NOTHING else made.value

        def acall(holder: Any) -> Awaitable[Any]:
            return (holder._root if shared else holder).abuild(self, in_task=True)  # type: ignore[no-any-return]

        self.call, self.acall, self.leaf = call, acall, None


class Wiring:
    """The plans of one set of registrations, each made when it is first asked for."""

    def __init__(self, known: dict[Any, Registration], doubles: dict[Any, Registration], root: Any) -> None:
        self.known, self._root, self._plans = known | doubles, root, dict[Registration, Plan]()
        # it may be asked for any of the doubles, so that what takes it must not outlive them
        self._whole = Plan(None)
        self._whole.parts = frozenset(doubles.values())

    def find(self, key: Any) -> Registration | None:
        """Return the registration of ``key``."""
        with contextlib.suppress(TypeError):  # not hashable, and so no key
            return self.known.get(ident_of(key)) or self.known.get(ident_of(key, by_name=True))
        return None

    def plan(self, service: Registration, path: tuple[Registration, ...] = ()) -> Plan:
        """Return the plan of ``service``, needed along ``path``."""
        if service in path:
            return Plan(None, wrong=circular([each.key for each in (*path, service)]))
        if service not in self._plans:
            self._plans[service] = self._compile(service, (*path, service))
        return self._plans[service]

    def all_plans(self) -> list[tuple[Registration, Plan]]:
        """Return every registration with its plan."""
        return [(each, self.plan(each)) for each in self.known.values()]

    def supply(self, hint: Any, path: tuple[Registration, ...] = ()) -> Plan | None:
        """Return the plan that gives what ``hint`` asks for, or None."""
        if (service := self.find(hint)) is not None:
            return self.plan(service, path)
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin in (*_UNIONS, typing.Annotated):
            ways = (self.supply(each, path) for each in (args[:1] if origin is typing.Annotated else args))
            return next((way for way in ways if way is not None), None)
        if args and (origin in (list, Sequence, Iterable) or (origin is tuple and args[1:] == (...,))):
            others = [each for each in self.known.values() if each not in path[-1:]]
            plans = [self.plan(each, path) for each in others if each.provides(args[0])]
            kind = tuple if origin is tuple else list
            return Plan(lambda *services: kind(services), plans) if plans else None
        return self._whole if hint in type(self._root).__mro__[:-1] else None

    def missing(self, key: Any, parameter: Any = None, hint: Any = NOTHING) -> errors.ServiceNotFoundError:
        """Return the error for ``key``, or for its parameter, that nothing registered can fill."""
        name, asked = name_of(key), key if parameter is None else hint
        module = f"{asked.__module__}." if isinstance(asked, type) else ""
        why, add = f"nothing is registered for {module}{name}", f"{python_of(asked)}, <a class>"
        if parameter is not None:
            why = f"{name} cannot be built: nothing fills its parameter {parameter.name!r} ({parameter})"
            if hint is NOTHING or getattr(hint, "__module__", "") == "builtins":
                add = f"{python_of(key)}, factory=lambda: {name}({parameter.name}=...)"
        known = ", ".join(each.name for each in self.known.values()) or "nothing yet"
        how = f"Registered: {known}. To add: container.register_singleton({add})"
        return errors.ServiceNotFoundError(f"{why}. {how}")

    def _compile(self, service: Registration, path: tuple[Registration, ...]) -> Plan:
        make = service.implementation
        if service.live:
            return Plan(lambda: service.value, (), service)
        classes = (base for each in self.known.values() for base in each.classes())
        plans, named, unfilled = list[Plan](), list[str](), list[str]()
        for each, hint in parameters_of(make, classes):
            plan = self.supply(hint, path)
            if plan is None and each.default is NOTHING and types.NoneType in typing.get_args(hint):
                plan = Plan(lambda: None)
            if plan is None and each.default is NOTHING:
                unfilled.append(str(self.missing(service.key, each, hint)))
            elif plan is not None or each.kind is not each.KEYWORD_ONLY:  # else its own default holds
                plans.append(plan or Plan(lambda value=each.default: value))
                named += [each.name] if each.kind is each.KEYWORD_ONLY else []

        def call_by_name(*values: Any) -> Any:
            first = len(plans) - len(named)
            return make(*values[:first], **dict(zip(named, values[first:], strict=True)))

        wrong = errors.ServiceNotFoundError("\n".join(unfilled)) if unfilled else None
        return Plan(call_by_name if named else make, plans, service, wrong)

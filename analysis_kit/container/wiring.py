"""From registrations to plans: what is registered, what its type hints ask for, and the closures that build a graph."""

from __future__ import annotations

import builtins
import collections
import contextlib
import enum
import functools
import inspect
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import InitVar, dataclass
from typing import Any, Self

from analysis_kit import errors

NOTHING: Any = inspect.Parameter.empty  # "no value here", so that None stays a value
_COLLECTIONS: dict[Any, Any] = {list: list, tuple: tuple, Sequence: list, Iterable: list}
_DISPOSABLE = ("__enter__", "__aenter__", "close", "aclose")


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
    lifetime : Lifetime
        How long it lives.
    implementation : object
        What makes it; or it itself, where ``is_instance``.
    ident : hashable
        What a registration of the same service would replace.
    generation : int
        How often its key was registered.
    service : object
        Its singleton where that lives, else `NOTHING`.
    dependencies : tuple of hashable
        The keys of what it needs.
    """

    key: Hashable
    lifetime: Lifetime
    implementation: Any
    ident: Hashable
    is_instance: bool = False
    generation: int = 1
    service: Any = NOTHING
    dependencies: tuple[Hashable, ...] = ()

    @classmethod
    def checked(cls, lifetime: Lifetime, key: Any, implementation: Any, factory: Any, instance: Any) -> Self:
        """Return the checked registration of a service that is made in one of three ways, or by its key."""
        given = instance is not NOTHING
        makers = [each for each in (implementation, factory) if each is not None]
        make: Any = instance if given else makers[0] if makers else key
        builds = given or (callable(make) if makers else isinstance(make, type) or inspect.isroutine(make))
        abstract = not given and (inspect.isabstract(make) or getattr(make, "_is_protocol", False))
        for wrong, why in (
            (not _is_hashable(key), "it cannot be the key of a service, because it is not hashable"),
            (len(makers) + given > 1, "give one of implementation=, factory= and instance="),
            (given and lifetime is not Lifetime.SINGLETON, "an instance is one; use register_singleton"),
            (not builds, f"a {type(make).__name__} builds nothing; give a class, factory= or instance="),
            (abstract, "an abstract class cannot be built; name one that can"),
        ):
            if wrong:
                raise errors.ConfigurationError(f"{name_of(key)}: {why}")
        # a generator's first value is the service and the rest its tail, as contextlib reads generators
        calls = [] if given or isinstance(make, type) else [make, make.__call__]
        if any(map(inspect.isgeneratorfunction, calls)):
            make = contextlib.contextmanager(make)
        elif any(map(inspect.isasyncgenfunction, calls)):
            make = contextlib.asynccontextmanager(make)
        return cls(key, lifetime, make, ident_of(key), given)

    @property
    def live(self) -> bool:
        """Whether its singleton is there."""
        return self.service is not NOTHING

    def classes(self) -> list[type]:
        """Return the classes that the service is known to be of, bases included."""
        known = (self.key, type(self.implementation) if self.is_instance else self.implementation)
        return [base for each in known if isinstance(each, type) for base in each.__mro__[:-1]]

    def provides(self, wanted: Any) -> bool:
        """Return whether the service is a ``wanted``; by name too, as a base class's cell may have run again."""
        own = [] if getattr(wanted, "__module__", "builtins") == "builtins" else self.classes()
        with contextlib.suppress(TypeError):  # no class, or a protocol that cannot be checked at run time
            return ident_of(wanted) in map(ident_of, own) or any(issubclass(each, wanted) for each in own)
        return False


def name_of(key: Any) -> str:
    """Return the name of a class, or the text of any other key."""
    if isinstance(key, type):
        return key.__qualname__.rpartition("<locals>.")[2]
    return str(key).replace("typing.", "")


def python_of(key: Any) -> str:
    """Return how a key is written in a line to paste."""
    return repr(key) if isinstance(key, str) else name_of(key)


def names_of(keys: Collection[Any]) -> list[str]:
    """Return the names of ``keys``, those of classes that share one with their modules."""
    shared = collections.Counter(map(name_of, keys))
    parts = [(f"{key.__module__}." if isinstance(key, type) else "", name_of(key)) for key in keys]
    return [module * (shared[name] > 1) + name for module, name in parts]


def ident_of(key: Any, *, by_name: bool = False) -> Hashable:
    """Return what a service is found under: a class by module and name, so that a cell run twice replaces it.

    A class made in a function stands for itself, since one function can make several, unless ``by_name``.
    """
    named = isinstance(key, type) and (by_name or "<locals>" not in key.__qualname__)
    return (type, key.__module__, key.__qualname__) if named else key


def _is_hashable(key: object) -> bool:
    with contextlib.suppress(TypeError):
        return isinstance(hash(key), int)
    return False


def circular(path: Sequence[Hashable]) -> errors.CircularDependencyError:
    """Return the error that names the way round; ``path``, of keys, ends where it comes back to."""
    way = " -> ".join(name_of(key) for key in path[path.index(path[-1]) :])
    why = "is a circle of services that need each other to be built; let one be set after it is built"
    return errors.CircularDependencyError(f"{way} {why}")


def needs_of(make: Any, known: Iterable[Registration]) -> Iterator[tuple[inspect.Parameter, Any]]:
    """Yield what must be passed to ``make``, each with its hint; a hint in text may name a registered class."""
    inner: Any = inspect.unwrap(make, stop=lambda each: isinstance(each, functools.partial))
    function, bound = (inner.func, inner.keywords) if isinstance(inner, functools.partial) else (inner, ())
    if isinstance(function, type):
        function = function.__new__ if function.__init__ is object.__init__ else function.__init__  # type: ignore[misc]
    # a metaclass or a __new__ that takes anything hides what the constructor takes
    hidden = isinstance(make, type) and not (hasattr(make, "__signature__") or make.__text_signature__)
    try:
        parameters = list(inspect.signature(function if hidden else make).parameters.values())[hidden:]
    except ValueError:
        return  # a built-in that publishes no signature is called without arguments
    own, local = _names(make, function, known) if parameters else ({}, {})
    for each in parameters:
        holder: Any = types.SimpleNamespace(__annotations__={"hint": each.annotation})
        # stays so if a name is unknown: the default may do, else the error names the parameter
        hint = NOTHING
        with contextlib.suppress(Exception):
            hint = typing.get_type_hints(holder, own, local, include_extras=True)["hint"]
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD) and each.name not in bound:
            yield each, hint.type if isinstance(hint, InitVar) else hint


def _names(make: Any, function: Any, known: Iterable[Registration]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the globals of ``make``, and registered classes by bare name: those of the scopes around it first.

    A class of another scope serves where no global explains its name, and no second one bears it.
    """
    path, module = getattr(make, "__qualname__", ""), getattr(make, "__module__", "builtins")
    own = getattr(inspect.unwrap(function), "__globals__", None) or vars(sys.modules.get(module, builtins))

    def nearness(cls: type) -> int:
        scope = cls.__qualname__.rpartition(".")[0]
        return len(scope) if cls.__module__ == module and path.startswith(f"{scope}.") else 0

    classes = {ident_of(base, by_name=True): base for each in known for base in each.classes()}
    far = collections.Counter(base.__name__ for base in classes.values() if not nearness(base))
    unclear = {*own, *vars(builtins), *(name for name, count in far.items() if count > 1)}
    clear = [base for base in classes.values() if nearness(base) or base.__name__ not in unclear]
    return dict(own), {base.__name__: base for base in sorted(clear, key=nearness)}  # the nearest one last


class Plan:
    """A compiled graph: ``call(holder)`` gives its service, ``acall(holder)`` does so awaiting what must be awaited.

    Where the service lasts, ``fresh`` and ``afresh`` build it and the former two look first. Without ``make`` it is the
    holder itself.
    """

    once = False  # whether the holder keeps what is built
    plain = False  # whether what is built needs no disposal

    def __init__(self, make: Any, plans: Sequence[Plan] = (), service: Any = None) -> None:
        self.make, self.plans, self.service = make, plans, service
        self.needs: list[Registration] = []  # what it asks for itself
        self.parts: frozenset[Registration] = frozenset([service] if service else [])  # with all below
        self.scoped = name_of(service.key) if service and service.lifetime is Lifetime.SCOPED else ""
        for plan in plans:
            self.needs += [plan.service] if plan.service else plan.needs
            self.parts |= plan.parts
            self.scoped = self.scoped or plan.scoped  # the name of a scoped service in it
        self.slot: Hashable = self.parts | {(service,)}  # what its service is kept under
        self.leaf = None if plans else make  # what to call, where nothing else is needed
        self.call = self.fresh = self._closure()
        self.acall: Callable[[Any], Awaitable[Any]] = self.afresh

    async def afresh(self, holder: Any) -> Any:
        """Do as ``fresh`` does, awaiting what must be awaited."""
        values = [await plan.acall(holder) for plan in self.plans]
        return self.make(*values) if values else self.fresh(holder)

    def last(self, home: Any) -> None:
        """Have the service looked for, built and kept in ``home``, or else in the holder that is asked."""
        slot = self.slot

        def call(holder: Any) -> Any:
            keeper = home or holder
            made = keeper._made.get(slot)  # noqa: SLF001 - a plan and its holder are of one piece
            return keeper.build(self) if made is None or made.value is NOTHING else made.value

        def acall(holder: Any) -> Awaitable[Any]:
            return (home or holder).abuild(self)  # type: ignore[no-any-return]

        self.call, self.acall, self.leaf = call, acall, None

    def _closure(self) -> Callable[[Any], Any]:
        """Return what builds the parts in a holder and calls ``make`` with them; common numbers are spelt out."""
        make, calls = self.make, [plan.call for plan in self.plans]
        if not calls:
            return (lambda _: make()) if make else (lambda holder: holder)
        a, b, leaf = calls[0], calls[-1], self.plans[-1].leaf
        if len(calls) == 1:
            return (lambda _: make(leaf())) if leaf else (lambda holder: make(a(holder)))
        if len(calls) == 2:  # noqa: PLR2004
            return (lambda at: make(a(at), leaf())) if leaf else (lambda at: make(a(at), b(at)))
        return lambda holder: make(*[call(holder) for call in calls])


class Wiring:
    """The plans of one set of registrations, each made when it is first asked for."""

    def __init__(self, known: dict[Any, Registration], doubles: dict[Any, Registration], root: Any) -> None:
        self._known, self._root = {**known, **doubles}, root
        self._whole = Plan(None)
        # it may be asked for any of them, so that what takes it must not outlive them
        self._whole.parts = frozenset(doubles.values())
        self._plans: dict[Registration, Plan] = {}

    def find(self, key: Any) -> Registration | None:
        """Return the registration of ``key``."""
        with contextlib.suppress(TypeError):  # not hashable, and so no key
            return self._known.get(ident_of(key)) or self._known.get(ident_of(key, by_name=True))
        return None

    def plan(self, service: Registration, path: tuple[Registration, ...] = ()) -> Plan:
        """Return the plan of ``service``, needed along ``path``; raise what is wrong with it."""
        if service in path:
            raise circular([each.key for each in (*path, service)])
        if service not in self._plans:
            plan, name = self._compile(service, (*path, service)), name_of(service.key)
            home = self._root if service.lifetime is Lifetime.SINGLETON else None
            if home is not None and plan.scoped:
                why = f"the singleton {name} would hold the scoped {plan.scoped} for good"
                raise errors.CaptiveDependencyError(
                    f"{why}; make {name} scoped, or {plan.scoped} a singleton"
                )
            plan.once = service.lifetime is not Lifetime.TRANSIENT
            if not service.is_instance and (plan.once or not plan.plain):
                plan.last(home)
            self._plans[service] = plan
        return self._plans[service]

    def plans(self) -> Iterator[tuple[Registration, Plan, errors.ContainerError | None]]:
        """Yield every registration with its plan; with an empty one, and the error, if it cannot be built."""
        for service in self._known.values():
            try:
                yield service, self.plan(service), None
            except errors.ContainerError as exc:
                yield service, Plan(None), exc

    def supply(self, hint: Any, path: tuple[Registration, ...] = ()) -> Plan | None:
        """Return the plan that gives what ``hint`` asks for, or None."""
        if (service := self.find(hint)) is not None:
            return self.plan(service, path)
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType, typing.Annotated):
            ways = (self.supply(each, path) for each in (args[:1] if origin is typing.Annotated else args))
            return next((way for way in ways if way is not None), None)
        if origin in _COLLECTIONS and args and (origin is not tuple or args[1:] == (...,)):
            others = [each for each in self._known.values() if each not in path[-1:]]
            plans = [self.plan(each, path) for each in others if each.provides(args[0])]
            kind = _COLLECTIONS[origin]
            return Plan(lambda *services: kind(services), plans) if plans else None
        return self._whole if hint in type(self._root).__mro__[:-1] else None

    def missing(self, key: Any, parameter: Any = None, hint: Any = NOTHING) -> errors.ServiceNotFoundError:
        """Return the error for ``key``, or for its parameter, that nothing registered can fill."""
        asked = key if parameter is None else parameter.annotation
        wanted, *names = names_of([asked, *(each.key for each in self._known.values())])
        owner, python = name_of(key), python_of(key)
        why, line = f"nothing is registered for {wanted}", f"{python if asked is key else wanted}, <a class>"
        if parameter is not None:
            reason = f"asks for {wanted}, and {why}"
            if hint is NOTHING:
                reason = "has no type hint" if asked is NOTHING else f"has the unknown hint {wanted}"
            why = f"{owner} cannot be built: its parameter {parameter.name!r} {reason}"
            if hint is NOTHING or getattr(hint, "__module__", "") == "builtins":
                line = f"{python}, factory=lambda: {owner}({parameter.name}=...)"
        add = f"To add: container.register_singleton({line})"
        return errors.ServiceNotFoundError(f"{why}. Registered: {', '.join(names) or 'nothing yet'}. {add}")

    def _compile(self, service: Registration, path: tuple[Registration, ...]) -> Plan:
        make = service.implementation
        if service.is_instance:
            return Plan(lambda: make, (), service)
        args: list[Plan] = []
        named: dict[str, Plan] = {}
        wrong: list[str] = []
        for each, hint in needs_of(make, self._known.values()):
            plan = None if hint is NOTHING else self.supply(hint, path)
            if plan is None and each.default is NOTHING and types.NoneType not in typing.get_args(hint):
                wrong.append(str(self.missing(service.key, each, hint)))
            if each.kind is not each.KEYWORD_ONLY:
                args.append(plan or _constant(None if each.default is NOTHING else each.default))
            elif plan is not None or each.default is NOTHING:  # else its own default holds
                named[each.name] = plan or _constant(None)
        if wrong:
            raise errors.ServiceNotFoundError("\n".join(wrong))
        call = functools.partial(_call_by_name, make, list(named)) if named else make
        plan = Plan(call, [*args, *named.values()], service)
        plan.plain = isinstance(make, type) and not any(hasattr(make, name) for name in _DISPOSABLE)
        return plan


def _constant(value: Any) -> Plan:
    return Plan(lambda: value)


def _call_by_name(make: Callable[..., Any], names: Sequence[str], *values: Any) -> Any:
    """Call ``make`` with the last of ``values`` by their names."""
    first = len(values) - len(names)
    return make(*values[:first], **dict(zip(names, values[first:], strict=True)))

"""From registrations to plans: recipes, what their type hints ask for, and the closures that build a graph."""

from __future__ import annotations

import builtins
import contextlib
import enum
import functools
import inspect
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
class Recipe:
    """How one service is made; ``auto`` if a decorator registered it."""

    key: Hashable
    ident: Hashable
    lifetime: Lifetime
    make: Any
    is_instance: bool = False
    generation: int = 1
    auto: bool = False

    def classes(self) -> list[type]:
        """Return the classes that the service is known to be of, bases included."""
        known = (self.key, type(self.make) if self.is_instance else self.make)
        return [base for each in known if isinstance(each, type) for base in each.__mro__[:-1]]

    def provides(self, wanted: Any) -> bool:
        """Return whether the service is a ``wanted``; by name too, as a base class's cell may have run again."""
        if getattr(wanted, "__module__", "builtins") == "builtins":
            return False  # a list of texts is no list of services
        own = self.classes()
        with contextlib.suppress(TypeError):  # no class, or a protocol that cannot be checked at run time
            return ident_of(wanted) in map(ident_of, own) or any(issubclass(each, wanted) for each in own)
        return False


def name_of(key: Any) -> str:
    """Return the name of a class, or the text of any other key."""
    if isinstance(key, type):
        return key.__qualname__.rpartition("<locals>.")[2]
    return str(key).replace("typing.", "")


def ident_of(key: Any, *, by_name: bool = False) -> Hashable:
    """Return what a service is found under: a class by module and name, so that a cell run twice replaces it.

    A class made in a function stands for itself, since one function can make several, unless ``by_name``.
    """
    local = isinstance(key, type) and "<locals>" in key.__qualname__
    named = isinstance(key, type) and (by_name or not local)
    return (key.__module__, key.__qualname__) if named else key


def hashable(key: object) -> bool:
    """Return whether ``key`` can be a key."""
    with contextlib.suppress(TypeError):
        return isinstance(hash(key), int)
    return False


def recipe_for(lifetime: Lifetime, key: Hashable, implementation: Any, factory: Any, instance: Any) -> Recipe:
    """Return the checked recipe of a registration."""
    given = [each for each in (implementation, factory) if each is not None]
    make: Any = given[0] if given else key
    if not hashable(key):
        wrong = "it cannot be the key of a service, because it is not hashable"
    elif len(given) + (instance is not NOTHING) > 1:
        wrong = "give one of implementation=, factory= and instance="
    elif instance is not NOTHING and lifetime is not Lifetime.SINGLETON:
        wrong = "an instance is one object; use register_singleton, or give a factory="
    elif instance is not NOTHING:
        return Recipe(key, ident_of(key), lifetime, instance, is_instance=True)
    elif not (callable(make) if given else isinstance(make, type) or inspect.isroutine(make)):
        wrong = f"nothing can be built from {make!r}; give a class, factory= or instance="
    elif inspect.isabstract(make) or getattr(make, "_is_protocol", False):
        wrong = f"{name_of(make)} is abstract and cannot be built; name a class that can"
    else:
        # a generator's first value is the service and the rest its tail, as contextlib reads generators
        if inspect.isgeneratorfunction(make):
            make = contextlib.contextmanager(make)
        elif inspect.isasyncgenfunction(make):
            make = contextlib.asynccontextmanager(make)
        return Recipe(key, ident_of(key), lifetime, make)
    raise errors.ConfigurationError(f"{name_of(key)}: {wrong}")


def circular(path: Sequence[Hashable]) -> errors.CircularDependencyError:
    """Return the error that names the way round; ``path``, of keys, ends where it comes back to."""
    way = " -> ".join(name_of(key) for key in path[path.index(path[-1]) :])
    return errors.CircularDependencyError(
        f"{way} is a circle of services that need each other to be built; let one be set after it is built"
    )


def needs_of(make: Any, recipes: Iterable[Recipe]) -> Iterator[tuple[inspect.Parameter, Any]]:
    """Yield what must be passed to ``make``, each with its hint; a hint in text may name a registered class."""
    function: Any = make.func if isinstance(make, functools.partial) else make
    if isinstance(function, type):
        has_init = function.__init__ is not object.__init__  # type: ignore[misc]
        function = function.__init__ if has_init else function.__new__  # type: ignore[misc]
    # a metaclass that takes anything hides what the constructor takes
    hidden = isinstance(make, type) and type(make).__call__ is not type.__call__
    hidden = hidden and not hasattr(make, "__signature__")
    with contextlib.suppress(
        ValueError
    ):  # a built-in that publishes no signature is called without arguments
        parameters = list(inspect.signature(function if hidden else make).parameters.values())[hidden:]
        known, local = _names(make, function, recipes) if parameters else ({}, {})
        for each in parameters:
            holder: Any = types.SimpleNamespace(__annotations__={"hint": each.annotation})
            hint = NOTHING  # stays so if a name is unknown: the default may do, else the error names the parameter
            with contextlib.suppress(NameError, AttributeError, SyntaxError, TypeError):
                hint = typing.get_type_hints(holder, known, local, include_extras=True)["hint"]
            if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
                yield each, hint


def _names(make: Any, function: Any, recipes: Iterable[Recipe]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the globals of ``make``, and registered classes by bare name: those of the scopes around it first.

    Classes of other scopes serve where no global explains a name. Of two equally near, neither does.
    """
    path, module = getattr(make, "__qualname__", ""), getattr(make, "__module__", "builtins")
    known = getattr(inspect.unwrap(function), "__globals__", None) or vars(sys.modules.get(module, builtins))
    classes = {ident_of(base, by_name=True): base for recipe in recipes for base in recipe.classes()}
    found: dict[str, dict[int, list[type]]] = {}
    for base in classes.values():
        scope, name = base.__qualname__.rpartition(".")[0], base.__name__
        near = len(scope) if scope and base.__module__ == module and path.startswith(f"{scope}.") else 0
        if near or not (name in known or hasattr(builtins, name)):
            found.setdefault(name, {}).setdefault(near, []).append(base)
    nearest = {name: by_scope[max(by_scope)] for name, by_scope in found.items()}
    return dict(known), {name: bases[0] for name, bases in nearest.items() if len(bases) == 1}


class Plan(NamedTuple):
    """A compiled graph: ``call(holder)`` builds it, ``acall(holder)`` does so awaiting what must be awaited."""

    call: Callable[[Any], Any]
    acall: Callable[[Any], Awaitable[Any]]
    gives: tuple[Recipe, ...] = ()
    needs: tuple[Recipe, ...] = ()
    parts: frozenset[Recipe] = frozenset()  # all recipes in it: what was built from others is another thing
    leaf: Callable[[], Any] | None = None  # what to call, where nothing else is needed

    def scoped(self) -> str | None:
        """Return the name of the scoped service in it, if there is one."""
        return min(
            (name_of(each.key) for each in self.parts if each.lifetime is Lifetime.SCOPED), default=None
        )


def compose(make: Callable[..., Any], args: Sequence[Plan], kwargs: Mapping[str, Plan]) -> Plan:
    """Return the plan that builds each argument and calls ``make``; common argument lists have their own closure."""

    async def acall(holder: Any) -> Any:
        values = [await plan.acall(holder) for plan in args]
        return make(*values, **{name: await plan.acall(holder) for name, plan in kwargs.items()})

    def call(s: Any) -> Any:
        return make(*[each(s) for each in calls], **{name: each(s) for name, each in named})

    plans = [*args, *kwargs.values()]
    if not plans:
        return Plan(lambda _: make(), acall, leaf=make)
    calls, named = [plan.call for plan in args], [(name, plan.call) for name, plan in kwargs.items()]
    if not kwargs and len(args) <= 2:  # noqa: PLR2004
        a, b, leaf = calls[0], calls[-1], args[-1].leaf
        if len(args) == 1:
            call = (lambda s: make(leaf())) if leaf else (lambda s: make(a(s)))  # noqa: ARG005
        else:
            call = (lambda s: make(a(s), leaf())) if leaf else (lambda s: make(a(s), b(s)))
    gives = tuple(recipe for plan in plans for recipe in plan.gives)
    return Plan(call, acall, gives, parts=frozenset[Recipe]().union(*(plan.parts for plan in plans)))


def constant(value: Any) -> Plan:
    """Return the plan that gives ``value``."""
    return compose(lambda: value, (), {})


def lasting(recipe: Recipe, needs: Plan, root: Any) -> Plan:
    """Return the plan that builds from ``needs`` and keeps to the recipe's lifetime and disposal."""
    parts, home = needs.parts | {recipe}, root if recipe.lifetime is Lifetime.SINGLETON else None
    plain = isinstance(recipe.make, type) and not any(hasattr(recipe.make, name) for name in _DISPOSABLE)
    if recipe.is_instance or (plain and recipe.lifetime is Lifetime.TRANSIENT):
        return needs._replace(gives=(recipe,), needs=needs.gives, parts=parts)

    def call(holder: Any) -> Any:
        keeper = home or holder
        value = keeper._made.get(parts, NOTHING)  # noqa: SLF001 - a plan and its holder are of one piece
        return value if value is not NOTHING else keeper.build(recipe, parts, needs, plain)

    def acall(holder: Any) -> Any:
        return (home or holder).abuild(recipe, parts, needs)

    return Plan(call, acall, (recipe,), needs.gives, parts)


class Wiring:
    """The plans of one set of recipes, each made when it is first asked for."""

    def __init__(self, recipes: Mapping[Hashable, Recipe], root: Any) -> None:
        self._recipes, self._root = recipes, root
        self._plans: dict[Recipe, Plan] = {}

    def find(self, key: Any) -> Recipe | None:
        """Return the recipe of ``key``."""
        with contextlib.suppress(TypeError):  # not hashable, and so no key
            return self._recipes.get(ident_of(key)) or self._recipes.get(ident_of(key, by_name=True))
        return None

    def plan(self, recipe: Recipe, path: tuple[Recipe, ...] = ()) -> Plan:
        """Return the plan of ``recipe``, needed along ``path``; raise what is wrong with it."""
        if recipe in path:
            raise circular([each.key for each in (*path, recipe)])
        if recipe not in self._plans:
            needs, name = self._needs(recipe, (*path, recipe)), name_of(recipe.key)
            if recipe.lifetime is Lifetime.SINGLETON and (scoped := needs.scoped()) is not None:
                raise errors.CaptiveDependencyError(
                    f"the singleton {name} would hold the scoped {scoped} for good; make {name} scoped, or {scoped} a singleton"
                )
            self._plans[recipe] = lasting(recipe, needs, self._root)
        return self._plans[recipe]

    def plans(self) -> Iterator[tuple[Recipe, Plan, errors.ContainerError | None]]:
        """Yield every recipe with its plan; with an empty one, and the error, if it cannot be built."""
        for recipe in self._recipes.values():
            try:
                yield recipe, self.plan(recipe), None
            except errors.ContainerError as exc:
                yield recipe, constant(None), exc

    def supply(self, hint: Any, path: tuple[Recipe, ...] = ()) -> Plan | None:
        """Return the plan that gives what ``hint`` asks for, or None."""
        if (recipe := self.find(hint)) is not None:
            return self.plan(recipe, path)
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType, typing.Annotated):
            ways = (self.supply(each, path) for each in (args[:1] if origin is typing.Annotated else args))
            return next((way for way in ways if way is not None), None)
        if origin in _COLLECTIONS and args and (origin is not tuple or args[1:] == (...,)):
            members = [
                each for each in self._recipes.values() if each.provides(args[0]) and each not in path[-1:]
            ]
            plans, kind = [self.plan(each, path) for each in members], _COLLECTIONS[origin]
            return compose(lambda *services: kind(services), plans, {}) if plans else None
        return Plan(_itself, _aitself) if hint in type(self._root).__mro__[:-1] else None

    def missing(
        self, key: Any, parameter: inspect.Parameter | None = None, hint: Any = None
    ) -> errors.ServiceNotFoundError:
        """Return the error for ``key``, or for its parameter, that nothing registered can fill."""
        owner = name_of(key)
        why, line = f"nothing is registered for {owner}", f"{owner}, <a class>"
        if parameter is not None:
            written = (
                parameter.annotation
                if isinstance(parameter.annotation, str)
                else name_of(parameter.annotation)
            )
            unknown = (
                "it has no type hint"
                if parameter.annotation is NOTHING
                else "the hint's name is not known there"
            )
            reason = unknown if hint is NOTHING else f"nothing is registered for {written}"
            why = (
                f"{owner} cannot be built: {reason}, needed for its parameter {parameter.name!r} ({written})"
            )
            plain = hint is NOTHING or getattr(hint, "__module__", "") == "builtins"
            line = (
                f"{owner}, factory=lambda: {owner}({parameter.name}=...)"
                if plain
                else f"{written}, <a class>"
            )
        names = ", ".join(name_of(recipe.key) for recipe in self._recipes.values()) or "nothing yet"
        return errors.ServiceNotFoundError(
            f"{why}. Registered: {names}. To add: container.register_singleton({line})"
        )

    def _needs(self, recipe: Recipe, path: tuple[Recipe, ...]) -> Plan:
        args: list[Plan] = []
        kwargs: dict[str, Plan] = {}
        for each, hint in () if recipe.is_instance else needs_of(recipe.make, self._recipes.values()):
            plan = None if hint is NOTHING else self.supply(hint, path)
            if plan is None and each.default is NOTHING:
                if types.NoneType not in typing.get_args(hint):
                    raise self.missing(recipe.key, each, hint)
                plan = constant(None)
            if each.kind is not each.KEYWORD_ONLY:
                args.append(plan or constant(each.default))
            elif plan is not None:  # else its own default holds
                kwargs[each.name] = plan
        return constant(recipe.make) if recipe.is_instance else compose(recipe.make, args, kwargs)


def _itself(holder: Any) -> Any:
    return holder


async def _aitself(holder: Any) -> Any:
    return holder

"""How a service is made: lifetimes, recipes, and what a constructor's type hints ask for."""

from __future__ import annotations

import builtins
import enum
import functools
import inspect
import sys
import threading
import types
import typing
import weakref
from collections.abc import Callable, Hashable, Iterable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from analysis_kit.errors import (
    CircularDependencyError,
    ConfigurationError,
    ContainerError,
    ServiceNotFoundError,
)

T = TypeVar("T")
NOTHING: Any = object()  # "no value here", so that None stays a value
_BUILDABLE = (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)


class Lifetime(enum.Enum):
    """How long a service lives: as long as the container, as one scope, or as its caller keeps it."""

    SINGLETON = "singleton"
    SCOPED = "scoped"
    TRANSIENT = "transient"


@dataclass(frozen=True, eq=False)
class Recipe:
    """How one service is made; what was built from it is kept under its identity, so a copy has nothing built."""

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
        classes = self.classes()
        try:
            return ident_of(wanted) in map(ident_of, classes) or any(
                issubclass(each, wanted) for each in classes
            )
        except TypeError:  # no class, or a protocol that cannot be checked at run time
            return False


class Registration(NamedTuple):
    """What a container knows about one service; ``generation`` counts how often its key was registered."""

    key: Hashable
    lifetime: Lifetime
    implementation: object
    generation: int
    live: bool
    dependencies: tuple[str, ...]


class Need(NamedTuple):
    """One parameter; ``hint`` and ``default`` are NOTHING where there is none."""

    parameter: str
    hint: Any
    written: str
    default: Any
    by_keyword: bool


def name_of(key: Any) -> str:
    """Return the name of a class, or the text of any other key."""
    return (
        key.__qualname__.rpartition("<locals>.")[2]
        if inspect.isclass(key)
        else str(key).replace("typing.", "")
    )


def ident_of(key: Any, *, by_name: bool = False) -> Hashable:
    """Return what a service is found under: a class by module and name, so that a cell run twice replaces it.

    A class made in a function stands for itself, since one function can make several, unless ``by_name``.
    """
    if inspect.isclass(key) and (by_name or "<locals>" not in key.__qualname__):
        return key.__module__, key.__qualname__
    if not isinstance(key, Hashable):
        raise ConfigurationError(f"{key!r} cannot be the key of a service, because it is not hashable.")
    return key


def recipe_for(lifetime: Lifetime, key: Hashable, implementation: Any, factory: Any, instance: Any) -> Recipe:
    """Return the checked recipe of a registration."""
    name, ident, given = name_of(key), ident_of(key), (implementation is not None) + (factory is not None)
    if given + (instance is not NOTHING) > 1:
        raise ConfigurationError(f"{name}: give one of implementation=, factory= and instance=")
    if instance is not NOTHING:
        if lifetime is not Lifetime.SINGLETON:
            raise ConfigurationError(
                f"{name}: an instance is one object; use register_singleton, or give a factory="
            )
        return Recipe(key, ident, lifetime, instance, is_instance=True)
    make = factory or implementation or key
    if not callable(make) or not (make is factory or isinstance(make, _BUILDABLE)):
        raise ConfigurationError(
            f"{name}: nothing can be built from {make!r}; give a class, factory= or instance="
        )
    if inspect.isabstract(make) or getattr(make, "_is_protocol", False):
        raise ConfigurationError(
            f"{name}: {name_of(make)} is abstract and cannot be built; name a class that can"
        )
    # a generator's first value is the service and the rest its tail, as contextlib reads generators
    if inspect.isgeneratorfunction(make):
        make = contextmanager(make)
    elif inspect.isasyncgenfunction(make):
        make = asynccontextmanager(make)
    return Recipe(key, ident, lifetime, make)


def needs_of(recipe: Recipe, recipes: Iterable[Recipe]) -> list[Need]:
    """Return what must be passed to build ``recipe``; hints written as text may name registered classes."""
    try:
        parameters = list(inspect.signature(recipe.make).parameters.values())
    except ValueError:  # a built-in that publishes no signature is called without arguments
        parameters = []
    names = _names(recipe.make, recipes) if parameters else ()
    needs = []
    for each in parameters:
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            holder: Any = types.SimpleNamespace(__annotations__={"hint": each.annotation})
            try:
                hint = (
                    NOTHING
                    if each.annotation is each.empty
                    else typing.get_type_hints(holder, *names)["hint"]
                )
            except (NameError, AttributeError, SyntaxError, TypeError):
                hint = NOTHING  # the default may do; if there is none, the error names the parameter and the hint
            written = each.annotation if isinstance(each.annotation, str) else name_of(each.annotation)
            default = NOTHING if each.default is each.empty else each.default
            needs.append(Need(each.name, hint, written, default, each.kind is each.KEYWORD_ONLY))
    return needs


def _names(make: Any, recipes: Iterable[Recipe]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the globals of ``make``, and registered classes by bare name: those of the scopes around it first.

    Classes of other scopes serve where no global explains a name. Of two equally near, neither does.
    """
    path, module, function = getattr(make, "__qualname__", ""), getattr(make, "__module__", "builtins"), make
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(make, type):
        function = make.__init__ if make.__init__ is not object.__init__ else make.__new__  # type: ignore[misc]
    known = getattr(inspect.unwrap(function), "__globals__", None) or vars(sys.modules.get(module, builtins))
    near: dict[str, tuple[int, dict[Hashable, type]]] = {}
    for base in (base for recipe in recipes for base in recipe.classes()):
        scope, name = base.__qualname__.rpartition(".")[0], base.__name__
        rank = len(scope) if scope and base.__module__ == module and path.startswith(f"{scope}.") else 0
        if rank or not (name in known or hasattr(builtins, name)):
            best, same = near.get(name, (rank, {}))
            if rank >= best:
                near[name] = (rank, {**(same if rank == best else {}), ident_of(base, by_name=True): base})
    return dict(known), {
        name: next(iter(same.values())) for name, (_, same) in near.items() if len(same) == 1
    }


def not_found(key: Any, recipes: Iterable[Recipe], need: Need | None = None) -> ServiceNotFoundError:
    """Return the error for ``key``, or for its parameter ``need``, that nothing registered can fill."""
    owner, line = name_of(key), f"{name_of(key)}, <a class>"
    why = f"nothing is registered for {owner}"
    if need is not None:
        reason = f"nothing is registered for {need.written}"
        if need.hint is NOTHING:
            reason = (
                "it has no type hint" if need.written == "_empty" else "the hint's name is not known there"
            )
        why = (
            f"{owner} cannot be built: {reason}, needed for its parameter {need.parameter!r} ({need.written})"
        )
        plain = need.hint is NOTHING or getattr(need.hint, "__module__", "") == "builtins"
        line = (
            f"{owner}, factory=lambda: {owner}({need.parameter}=...)"
            if plain
            else f"{need.written}, <a class>"
        )
    names = ", ".join(name_of(recipe.key) for recipe in recipes) or "nothing yet"
    return ServiceNotFoundError(f"{why}. Registered: {names}. To add: container.register_singleton({line})")


def circular(path: list[Recipe]) -> CircularDependencyError:
    """Return the error that names the way round; ``path`` ends where it comes back to."""
    names = [name_of(recipe.key) for recipe in path]
    way = " -> ".join(names[names.index(names[-1]) :] if names[-1] in names[:-1] else names)
    return CircularDependencyError(
        f"{way} is a circle of services that need each other to be built; let one be set after it is built"
    )


def needs_await(recipe: Recipe, why: str, use: str = "") -> ContainerError:
    """Return the error that says what to await."""
    name = name_of(recipe.key)
    return ContainerError(f"{name} {why}; use: {use or f'await container.aresolve({name})'}")


containers_alive: weakref.WeakSet[Any] = weakref.WeakSet()
injectables: dict[Hashable, Recipe] = {}
_heeding = False
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
            injectables[recipe.ident] = recipe
        _look_again(recipe)
        return cls

    return mark


def _look_again(recipe: Recipe | None = None) -> None:
    with _lock:
        containers = list(containers_alive)
    for container in containers:
        container.look_again(recipe)


def auto_registration() -> bool:
    """Return whether injectables count at present; from now on a change of the setting reaches every container."""
    global _heeding  # noqa: PLW0603
    from analysis_kit import settings  # loads pydantic, so only where a class is injectable

    with _lock:
        if not _heeding:
            settings.on_change(_look_again)
            _heeding = True
    return settings.get_settings().ENABLE_AUTO_REGISTRATION

"""What a callable asks for: its parameters with their hints, whatever it is; and how what a hint names is known by name."""

from __future__ import annotations

import builtins
import contextlib
import enum
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import InitVar
from typing import Any

_UNKNOWN: Any = inspect.Parameter.empty
_UNIONS = typing.Union, types.UnionType


def parameters_of(make: Any, classes: Iterable[type]) -> Iterator[tuple[inspect.Parameter, Any]]:
    """Yield what must be passed to ``make``, each parameter with its hint.

    Parameters
    ----------
    make : callable
        A class of any make, function, method, partial or object that can be called.
    classes : iterable of type
        What a hint in text may name beside the globals of ``make``: the one of a scope around ``make`` first, and any
        other where no global explains its name and no second one bears it.

    Yields
    ------
    tuple
        The parameter, and its hint; `inspect.Parameter.empty` where it has none, or one that cannot be read.
    """
    inner: Any = inspect.unwrap(make, stop=lambda each: isinstance(each, functools.partial))
    function, bound = (inner.func, inner.keywords) if isinstance(inner, functools.partial) else (inner, ())
    if isinstance(function, type):
        function = function.__new__ if function.__init__ is object.__init__ else function.__init__  # type: ignore[misc]
    # a metaclass or a __new__ that takes anything hides what the constructor takes
    hidden = isinstance(make, type) and not hasattr(make, "__signature__")
    parameters: list[inspect.Parameter] = []
    with contextlib.suppress(ValueError):  # a built-in without a signature is called without arguments
        parameters = list(inspect.signature(function if hidden else make).parameters.values())[hidden:]
    own, local = _names(make, function, classes) if parameters else ({}, {})
    for each in parameters:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) or each.name in bound:
            continue
        holder: Any = types.SimpleNamespace(__annotations__={"hint": each.annotation})
        hint = _UNKNOWN
        with contextlib.suppress(Exception):
            hint = typing.get_type_hints(holder, own, local, include_extras=True)["hint"]
        yield each, hint.type if isinstance(hint, InitVar) else hint


def _names(make: Any, function: Any, classes: Iterable[type]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the global and what the local names mean to a hint in text."""
    path, module = getattr(make, "__qualname__", ""), getattr(make, "__module__", "builtins")
    own = getattr(inspect.unwrap(function), "__globals__", None) or vars(sys.modules.get(module, builtins))
    near, far = dict[str, Any](), dict[str, list[type]]()
    once = {ident_of(cls, by_name=True): cls for cls in classes}  # the newest, if a cell ran twice
    for cls in sorted(once.values(), key=lambda cls: len(cls.__qualname__)):  # the nearest one last
        name, scope = cls.__name__, cls.__qualname__.rpartition(".")[0]
        if cls.__module__ == module and path.startswith(f"{scope}."):
            near[name] = cls
        else:
            far.setdefault(name, []).append(cls)
    clear = {name: found[0] for name, found in far.items() if len(found) == 1}
    return {**clear, **vars(builtins), **own}, near


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the hints of which one will do: the members of a union, or what is annotated; none for any other hint."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    return args[:1] if origin is typing.Annotated else args if origin in _UNIONS else ()


def collection(hint: Any) -> Callable[[Iterable[Any]], Any] | None:
    """Return what makes the collection that ``hint`` asks for (``list[Tone]``, ``tuple[Tone, ...]``), if it is one."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and args[1:] == (...,):
        return tuple
    return list if args and origin in (list, Sequence, Iterable) else None


def ident_of(key: Any, *, by_name: bool = False) -> Hashable:
    """Return what ``key`` is known under: what has a name by that and its module, so that a cell run twice replaces it.

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
    """Return the name of a class, or the text of anything else."""
    return key.__qualname__.rpartition("<locals>.")[2] if isinstance(key, type) else str(key)


def python_of(key: Any) -> str:
    """Return how ``key`` is written in a line to paste."""
    return repr(key) if isinstance(key, str) else name_of(key)


def names_of(keys: Iterable[Any]) -> list[str]:
    """Return a name for each of ``keys``: as short as may be, and each another one."""
    keys = list(keys)
    short = [name_of(key) for key in keys]
    modules = [
        f"{getattr(key, '__module__', 'the')}." * (short.count(name) > 1)
        for key, name in zip(keys, short, strict=True)
    ]
    full = [module + name for module, name in zip(modules, short, strict=True)]
    return [name + f" ({full[:i].count(name) + 1})" * (full.count(name) > 1) for i, name in enumerate(full)]

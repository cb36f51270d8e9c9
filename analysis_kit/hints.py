"""What a callable asks for: its parameters with their type hints, whatever kind of callable it is."""

from __future__ import annotations

import builtins
import contextlib
import functools
import inspect
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import InitVar
from typing import Any

_UNKNOWN: Any = inspect.Parameter.empty


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
    near, far = dict[str, Any](), dict[str, Any]()
    once = {(cls.__module__, cls.__qualname__): cls for cls in classes}  # the newest, if a cell ran twice
    for cls in sorted(once.values(), key=lambda cls: len(cls.__qualname__)):  # the nearest one last
        name, scope = cls.__name__, cls.__qualname__.rpartition(".")[0]
        if cls.__module__ == module and path.startswith(f"{scope}."):
            near[name] = cls
        else:
            far[name] = _UNKNOWN if name in far else cls
    return {**far, **vars(builtins), **own}, near

"""What tells one analyzer's answers from another's: its code, and what it was made with, alike in every process.

Code is told by what it does, with the constants and helpers of other cells that it reads; values by their content, since
a ``repr`` leaves out the middle of an array, and holds addresses, which come again, and sets in an order of their own.
What the code surely keeps notes in (a count of calls, a list of what was seen) is left out. What can be neither written
nor named, such as a connection, is known by being the same object, and so in this process alone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import math
import os
import pickle
import sys
import sysconfig
import threading
import uuid
import weakref
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from analysis_kit.analyzers.touched import attributes_noted, variables

_PLAIN = {type(None), bool, int, float, str}
_CONTAINERS = (list, tuple, set, frozenset, dict)
#: A larger global is data, too much to be told for each text; an attribute is told as a whole.
_MOST_ITEMS = 1000
_MOST_BYTES = 1 << 24  # a larger object, such as a model, is known by being the same one
_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_INSTALLED = {"site-packages", "dist-packages"}
_KIT = __name__.partition(".")[0]
_WRAPPERS: dict[type, Callable[[Any], Any]] = {
    staticmethod: lambda value: value.__func__,
    classmethod: lambda value: value.__func__,
    property: lambda value: [value.fget, value.fset],
    functools.cached_property: lambda value: value.func,
    functools.partial: lambda value: [value.func, value.args, value.keywords],
    MethodType: lambda value: [value.__func__, value.__self__],
    CodeType: lambda value: [
        *(value.co_code.hex(), value.co_names, value.co_consts, value.co_flags, value.co_varnames),
        *(value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount),
    ],
}

#: Parts of the kit that change all the time, and no answer with them.
_PARTS = tuple(
    f"{_KIT}.{name}" for name in ("ollama.connection_pool", "cache.", "monitor.", "engine.", "container")
)


class _Met(dict[int, tuple[str, Any]]):
    """id -> how it is told when it comes again, and what it is: held, so that no other thing has its id meanwhile."""

    count = 0

    def note(self, value: object) -> None:
        """Note a thing that is told in full now."""
        self.count += 1
        self[id(value)] = f"again {self.count}", value

    def copied(self) -> _Met:
        """Return a copy, for what is told in no order."""
        copy = _Met(self)
        copy.count = self.count
        return copy


_process = uuid.uuid4().hex  # keys with it are of this process alone
_numbers = itertools.count()
_selves: dict[int, tuple[weakref.ref[Any], str]] = {}
_lock = threading.Lock()  # guards _selves


def told(value: object) -> Any:
    """Return ``value`` as JSON that differs where what an analyzer does with it may differ; what comes again is told once."""
    try:
        return _told(value, _Met())
    except RecursionError:  # a chain, or what answers to any name
        return _as_itself(value)


def _told(value: object, met: _Met) -> Any:
    if type(value) in _PLAIN:
        return value
    if id(value) in met:
        return met[id(value)][0]
    if isinstance(value, _CONTAINERS):
        met[id(value)] = "itself", value
        try:
            return [*_contents(value, met), *([_code_of(type(value), met)] if _is_own(type(value)) else [])]
        finally:
            del met[id(value)]
    for kind, parts in _WRAPPERS.items():
        if isinstance(value, kind):
            return [kind.__name__, _told(parts(value), met)]
    if not isinstance(value, FunctionType) and "__wrapped__" in getattr(
        value, "__dict__", ()
    ):  # by functools.cache
        return _told(getattr(value, "__wrapped__"), met)  # noqa: B009 - it is in no type
    met.note(value)
    if isinstance(value, FunctionType):
        return _function(value, met)
    if isinstance(value, (type, ModuleType)):
        name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
        return [name, _code_of(value, met)] if isinstance(value, type) and _is_own(value) else name
    return _object(value, met)


def code_of(thing: type) -> list[Any]:
    """Return what a class and its bases say that are the user's own: methods, helpers, attributes."""
    return _code_of(thing, _Met())


def _code_of(thing: type, met: _Met) -> list[Any]:
    noted = attributes_noted(thing)
    return [
        [
            [name, _without_process(_told(value, met))]
            for name, value in sorted(vars(cls).items())
            if (not name.startswith("__") and name not in noted) or isinstance(value, FunctionType)
        ]
        for cls in thing.__mro__
        if _is_own(cls)
    ]


def code_of_call(call: Callable[..., Any]) -> Any:
    """Return what a function does, of a method or an object that can be called its code alone; of a partial its values too."""
    if isinstance(call, functools.partial):
        values = [*call.args, *sorted(call.keywords.items())]
        return [code_of_call(call.func), [_without_process(told(each)) for each in values]]
    if isinstance(call, MethodType):
        return told(call.__func__)
    return told(call) if hasattr(call, "__code__") or hasattr(call, "__wrapped__") else code_of(type(call))


def state_of(analyzer: object) -> Any:
    """Return the attributes of an analyzer, without the private ones and those in which it keeps notes as it answers."""
    noted = attributes_noted(type(analyzer))
    held = list(vars(analyzer).items())  # at once, since other threads may add to it
    return told({key: value for key, value in held if not key.startswith("_") and key not in noted})


def _is_own(thing: type | FunctionType) -> bool:
    """Tell whether a class or function is of the user's own cells and modules, and not of a library or the kit."""
    module = str(thing.__module__)
    if module == "__main__":
        return True
    if module.partition(".")[0] in {_KIT, "builtins"} or module in sys.builtin_module_names:
        return False
    code = thing.__code__ if isinstance(thing, FunctionType) else None
    place = (code.co_filename if code else getattr(sys.modules.get(module), "__file__", None)) or ""
    return not (place.startswith(_STANDARD) or _INSTALLED.intersection(Path(place).parts))


def _without_process(found: Any) -> Any:
    """Return what stands for a part of the code, where that is an object that can only be known by being the same one.

    A lock or a connection in a cell is made anew with the cell, in each process, and is no other one for that.
    """
    here = isinstance(found, list) and str(found[-1]).startswith(_process)
    return found[0] if here else found


def _contents(value: Any, met: _Met) -> list[Any]:
    if len(value) > _MOST_ITEMS:
        with contextlib.suppress(Exception):  # many in one go, where all of them can be pickled
            return [type(value).__name__, _digest(value, most=math.inf)]
    # copied at once, since other threads may add to it
    if isinstance(value, dict):
        return ["dict", *([_told(key, met), _told(each, met)] for key, each in list(value.items()))]
    if isinstance(value, (set, frozenset)):
        return ["set", *sorted((_told(each, met.copied()) for each in list(value)), key=json.dumps)]
    return [type(value).__name__, *(_told(each, met) for each in list(value))]


def _function(value: FunctionType, met: _Met) -> list[Any]:
    own = _told([value.__code__, value.__defaults__, value.__kwdefaults__], met)
    beside = [_without_process(_told(each, met)) for each in _beside(value)]
    return ["function", own, beside, _told(getattr(value, "__wrapped__", None), met)]


def _beside(function: FunctionType) -> list[Any]:
    """Return what a function reads of the function around it and, if it is the user's own, of its cells or its module."""
    free, names = variables(function.__code__)
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    found = [_cell(cells[name]) for name in free if name in cells]
    if _is_own(function):
        found += [function.__globals__.get(name) for name in names]
    return [each for each in found if not _is_passed_over(each)]


def _is_passed_over(value: object) -> bool:
    """Tell whether what a function reads says nothing on its answers: modules, other libraries' code, large data."""
    large = isinstance(value, _CONTAINERS) and len(value) > _MOST_ITEMS
    foreign = isinstance(value, (type, FunctionType)) and not _is_own(value)
    return large or foreign or isinstance(value, ModuleType)


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _object(value: object, met: _Met) -> list[Any]:
    """Return an object by its content, or, where that cannot be written or is too much, as this one of this process."""
    kind = type(value)
    name = kind.__qualname__
    if kind.__module__.startswith(_PARTS):
        return [name]
    held = list(getattr(value, "__dict__", {}).items())
    if hasattr(kind, "cache_parts"):  # an analyzer within: what it was made with, and what was set since
        held = [(key, each) for key, each in held if key == "_given" or not key.startswith("_")]
        return [name, _code_of(kind, met), _told(dict(held), met)]
    if kind.__module__.partition(".")[0] == _KIT and not is_dataclass(value):
        return [name, str(getattr(value, "model", ""))]  # a client
    if not _is_own(kind):
        return [name, _written(value)]
    slots = [slot for cls in kind.__mro__ for slot in getattr(cls, "__slots__", ()) if hasattr(value, slot)]
    held += [(slot, getattr(value, slot)) for slot in slots if not slot.startswith("__")]
    # what it is beside its attributes: a number, a text, a model of pydantic's
    foreign = not all(base is object or _is_own(base) for base in kind.__mro__)
    return [name, _code_of(kind, met), _told(dict(held), met), _written(value) if foreign else ""]


def _written(value: object) -> str:
    try:
        if getattr(value, "nbytes", 0) <= _MOST_BYTES:
            return _digest(value)
    except Exception:  # noqa: BLE001 - many things cannot be pickled, each in its own way
        return _as_itself(value)
    return _as_itself(value)


def _as_itself(value: object) -> str:
    """Return what stands for this one object of this process; a forked child has objects of its own."""
    with _lock:
        known = _selves.get(id(value))
        if known is not None and known[0]() is value:
            return known[1]
        text = f"{_process} {os.getpid()} {next(_numbers)}"
        # what is built in cannot be watched: it is another one each time
        with contextlib.suppress(TypeError):
            _selves[id(value)] = weakref.ref(value, functools.partial(_forget, id(value))), text
        return text


def _forget(number: int, _: object) -> None:
    _selves.pop(number, None)


class _Hash:
    """A file that keeps the hash of what is written, and takes no more than an object of some size."""

    def __init__(self, most: float) -> None:
        self.sum = hashlib.sha256()
        self.left = most

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.left -= size
        if self.left < 0:
            raise OverflowError("too large to be told by its content")
        self.sum.update(data)
        return size


def _digest(value: object, *, most: float = _MOST_BYTES) -> str:
    hashed = _Hash(most)
    pickle.Pickler(hashed).dump(value)
    return hashed.sum.hexdigest()

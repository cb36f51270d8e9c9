"""What tells one analyzer's answers from another's: its code, and what it was made with, alike in every process.

Code is told by what it does, with the constants and helpers of other cells that it reads; values by their content, since
a ``repr`` leaves out the middle of an array, and holds addresses, which come again, and sets in an order of their own.
What the code itself changes while it answers (a count of calls, a list of what was seen) tells nothing and is left out.
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
import sysconfig
import uuid
import weakref
from collections.abc import Callable
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from analysis_kit.analyzers.touched import attributes_touched, variables

_PLAIN = {type(None), bool, int, float, str}
_CONTAINERS = (list, tuple, set, frozenset, dict)
_MOST_ITEMS = (
    1000  # a larger global is data, too much to be told for each text; an attribute is told as a whole
)
_MOST_BYTES = 1 << 24  # as are larger objects: a model is known by being the same one
_DATA = {"numpy", "pandas"}  # told anew each time, since their content may be changed in place
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_WRAPPERS: dict[type, Callable[[Any], Any]] = {
    staticmethod: lambda value: value.__func__,
    classmethod: lambda value: value.__func__,
    property: lambda value: [value.fget, value.fset],
    functools.cached_property: lambda value: value.func,
    functools.partial: lambda value: [value.func, value.args, value.keywords],
    MethodType: lambda value: [value.__func__, value.__self__],
    CodeType: lambda value: [value.co_code.hex(), value.co_names, value.co_consts],
}

_process = uuid.uuid4().hex  # keys with it are of this process alone
_numbers = itertools.count()
_met: dict[int, tuple[weakref.ref[Any], list[str]]] = {}


def told(value: object, _within: frozenset[int] = frozenset()) -> Any:
    """Return ``value`` as JSON that differs where what an analyzer does with it may differ."""
    if type(value) in _PLAIN:
        return value
    if id(value) in _within:
        return "itself"
    within = _within | {id(value)}
    if isinstance(value, _CONTAINERS):
        return _contents(value, within)
    for kind, parts in _WRAPPERS.items():
        if isinstance(value, kind):
            return [kind.__name__, told(parts(value), within)]
    if isinstance(value, FunctionType):
        return _function(value, within)
    if isinstance(value, (type, ModuleType)):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
    return _object(value)


def code_of(thing: type) -> list[Any]:
    """Return what a class and its bases say that are neither the kit's own nor pydantic's: methods, helpers, attributes."""
    changed = attributes_touched(thing)
    return [
        [
            [name, _without_process(told(value))]
            for name, value in sorted(vars(cls).items())
            if (not name.startswith("__") and name not in changed) or isinstance(value, FunctionType)
        ]
        for cls in thing.__mro__
        if cls is not object and not cls.__module__.startswith(("analysis_kit.", "pydantic."))
    ]


def state_of(analyzer: object) -> Any:
    """Return the attributes of an analyzer, without the private ones and those that change while it answers."""
    changed = attributes_touched(type(analyzer))
    public = {key: value for key, value in vars(analyzer).items() if not key.startswith("_")}
    return told({key: value for key, value in public.items() if key not in changed})


def _without_process(found: Any) -> Any:
    """Return what stands for an attribute of a class: a lock in it is made anew with each class, and is no other one."""
    here = isinstance(found, list) and str(found[-1]).startswith(_process)
    return found[0] if here else found


def _contents(value: Any, within: frozenset[int]) -> list[Any]:
    if len(value) > _MOST_ITEMS:
        with contextlib.suppress(Exception):  # many in one go, where all of them can be pickled
            return [type(value).__name__, _digest(value, most=math.inf)]
    if isinstance(value, dict):
        pairs = ([told(key, within), told(each, within)] for key, each in value.items())
        return ["dict", *sorted(pairs, key=json.dumps)]
    parts = [told(each, within) for each in value]
    if isinstance(value, (set, frozenset)):
        return ["set", *sorted(parts, key=json.dumps)]
    return [type(value).__name__, *parts]


def _function(value: FunctionType, within: frozenset[int]) -> list[Any]:
    own = told([value.__code__, value.__defaults__, value.__kwdefaults__], within)
    beside = [each for each in _beside(value) if _is_constant(each) or isinstance(each, FunctionType)]
    return ["function", own, told(beside, within), told(getattr(value, "__wrapped__", None), within)]


def _beside(function: FunctionType) -> list[Any]:
    """Return what a function reads of the function around it and, if it is the user's own, of its cells or its module."""
    free, names = variables(function.__code__)
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    found = [_cell(cells[name]) for name in free if name in cells]
    module = str(function.__module__)
    if function.__code__.co_filename.startswith(_LIBRARIES) or module.startswith("analysis_kit."):
        return found
    for name in names:
        value = function.__globals__.get(name)
        if not isinstance(value, FunctionType) or str(value.__module__) == module:
            found.append(value)
    return found


def _is_constant(value: object) -> bool:
    return type(value) in _PLAIN or (isinstance(value, _CONTAINERS) and len(value) <= _MOST_ITEMS)


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _object(value: object) -> list[str]:
    """Return an object by its content, or, where that cannot be written or is too much, as this one of this process."""
    known = _met.get(id(value))
    if known is not None and known[0]() is value:
        return known[1]
    name = type(value).__qualname__
    try:
        found = [name, _digest(value)]
    except Exception:  # noqa: BLE001 - many things cannot be pickled, each in its own way
        found = [name, f"{_process} {os.getpid()} {next(_numbers)}"]  # a forked child has objects of its own
    else:
        if type(value).__module__.partition(".")[0] in _DATA:
            return found
    with contextlib.suppress(TypeError):  # what is built in cannot be watched: it is told anew each time
        _met[id(value)] = weakref.ref(value, functools.partial(_forget, id(value))), found
    return found


def _forget(number: int, _: object) -> None:
    _met.pop(number, None)


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

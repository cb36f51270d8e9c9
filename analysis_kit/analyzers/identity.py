"""What tells one analyzer's answers from another's: its code, and what it was made with, alike in every process."""

from __future__ import annotations

import dis
import functools
import hashlib
import json
import pickle
import sysconfig
from collections.abc import Callable
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

_WRAPPERS: dict[type, Callable[[Any], Any]] = {
    staticmethod: lambda value: value.__func__,
    classmethod: lambda value: value.__func__,
    property: lambda value: [value.fget, value.fset],
    functools.cached_property: lambda value: value.func,
    functools.partial: lambda value: [value.func, value.args, value.keywords],
    MethodType: lambda value: [value.__func__, value.__self__],
    CodeType: lambda value: [value.co_code.hex(), value.co_names, value.co_consts],
}
_PLAIN = {type(None), bool, int, float, str}
_CONTAINERS = {list, tuple, set, frozenset, dict}
_MOST_ITEMS = 1000  # a larger global is data, too much to be told for each text
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class UntoldError(Exception):
    """Raised for a value of which nothing says how it differs from others, such as a lock."""


def told(value: object, _within: frozenset[int] = frozenset()) -> Any:
    """Return ``value`` as JSON that differs where what an analyzer does with it may differ.

    Functions are told by their code, defaults and closures, so that an edited cell is another one; a ``repr`` would leave
    out the middle of an array, and would hold addresses, which come again, and sets in an order of their own.

    Raises
    ------
    UntoldError
        If it can be neither written down nor named.
    """
    if type(value) in _PLAIN:
        return value
    if id(value) in _within:
        return "itself"
    within = _within | {id(value)}
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return _contents(value, within)
    for kind, parts in _WRAPPERS.items():
        if isinstance(value, kind):
            return [kind.__name__, told(parts(value), within)]
    if isinstance(value, FunctionType):
        return _function(value, within)
    if isinstance(value, (type, ModuleType)):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
    return _written(value)


def _contents(value: Any, within: frozenset[int]) -> list[Any]:
    if isinstance(value, dict):
        pairs = ([told(key, within), told(each, within)] for key, each in value.items())
        return ["dict", *sorted(pairs, key=json.dumps)]
    parts = [told(each, within) for each in value]
    if isinstance(value, (set, frozenset)):
        return ["set", *sorted(parts, key=json.dumps)]
    return [type(value).__name__, *parts]


def _function(value: FunctionType, within: frozenset[int]) -> list[Any]:
    own = told([value.__code__, value.__defaults__, value.__kwdefaults__], within)
    around = [*(_cell(cell) for cell in value.__closure__ or ()), getattr(value, "__wrapped__", None)]
    around += _beside(value)
    return ["function", own, [_if_told(each, within) for each in around]]


def _beside(function: FunctionType) -> list[Any]:
    """Return the helpers and constants that a function of the user's own finds in its cells or its module."""
    code, module = function.__code__, str(function.__module__)
    if code.co_filename.startswith(_LIBRARIES) or module.startswith("analysis_kit."):
        return []
    found = [function.__globals__.get(name) for name in _names(code)]
    return [each for each in found if _is_constant(each) or _is_helper(each, module)]


def _is_constant(value: object) -> bool:
    return type(value) in _PLAIN or (type(value) in _CONTAINERS and len(value) <= _MOST_ITEMS)  # type: ignore[arg-type]


def _is_helper(value: object, module: str) -> bool:
    return isinstance(value, FunctionType) and str(value.__module__) == module


@functools.lru_cache(maxsize=1024)
def _names(code: CodeType) -> tuple[str, ...]:
    """Return the global names that ``code`` reads and does not set itself, as it does with a count."""
    named: dict[str, set[str]] = {"LOAD_GLOBAL": set(), "STORE_GLOBAL": set()}
    parts = [code]
    for part in parts:  # which grows
        parts += [inner for inner in part.co_consts if isinstance(inner, CodeType)]
        for step in dis.get_instructions(part):
            if step.opname in named:
                named[step.opname].add(step.argval)
    return tuple(sorted(named["LOAD_GLOBAL"] - named["STORE_GLOBAL"]))


def _written(value: object) -> list[Any]:
    try:
        return [type(value).__qualname__, hashlib.sha256(pickle.dumps(value)).hexdigest()]
    except Exception as exc:  # many things cannot be pickled, each in its own words
        text = repr(value)
        if " at 0x" in text:
            raise UntoldError(f"a {type(value).__name__} cannot be told from another") from exc
        return [type(value).__qualname__, text]


def code_of(thing: type) -> list[Any]:
    """Return what a class and its bases say that are neither the kit's own nor pydantic's: methods, helpers, attributes."""
    return [
        [
            [name, _if_told(value)]
            for name, value in sorted(vars(cls).items())
            if not name.startswith("__") or isinstance(value, FunctionType)
        ]
        for cls in thing.__mro__
        if cls is not object and not cls.__module__.startswith(("analysis_kit.", "pydantic."))
    ]


def _if_told(value: object, within: frozenset[int] = frozenset()) -> Any:
    try:
        return told(value, within)
    except UntoldError:
        return type(value).__qualname__


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None

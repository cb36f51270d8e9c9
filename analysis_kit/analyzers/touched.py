"""Which names code reads, and which it changes while it works: a count, a list of what it has seen.

Only what surely is the analyzer's own, or a variable, counts as changed. Where that cannot be seen, the name stays in
the key: to ask once more is no harm, and to hand out what was answered under another setting is.
"""

from __future__ import annotations

import dis
import functools
from types import CodeType, FunctionType

_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD"}
_VARIABLES = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"}
_SETS = {"STORE_GLOBAL", "STORE_DEREF", "STORE_ATTR", "DELETE_ATTR"}
_INDEXED = {"STORE_SUBSCR", "DELETE_SUBSCR"}
#: Methods that change what they belong to.
_CHANGES = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft"),
    *("remove", "setdefault", "sort", "update"),
}
#: Where an answer begins.
_BEGIN = ("ask", "analyze", "inquire")


def variables(code: CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the variables of the function around, and the globals, that ``code`` reads and does not change."""
    seen = _seen(code)
    return (
        tuple(name for name in code.co_freevars if name not in seen.changed),
        tuple(sorted(seen.globals - seen.changed)),
    )


def attributes_touched(thing: type) -> frozenset[str]:
    """Return the attributes that a class's methods change on the way to an answer."""
    changed: set[str] = set()
    names = list(_BEGIN)
    met: set[str] = set()
    for name in names:  # which grows
        if name in met:
            continue
        met.add(name)
        for code in _codes(thing, name):
            seen = _seen(code)
            changed |= seen.changed
            names += seen.attributes
    return frozenset(changed)


def _codes(thing: type, name: str) -> list[CodeType]:
    """Return the code of ``name`` in each class that is not the kit's own."""
    found = []
    for cls in thing.__mro__:
        value = vars(cls).get(name)
        value = getattr(value, "fget", None) or getattr(value, "__func__", value)
        while isinstance(value, FunctionType):
            if not cls.__module__.startswith("analysis_kit."):
                found.append(value.__code__)
            value = getattr(value, "__wrapped__", None)
    return found


class _Seen:
    """The names in some code, parts of it included."""

    def __init__(self) -> None:
        self.globals: set[str] = set()
        self.attributes: set[str] = set()
        self.changed: set[str] = set()


@functools.lru_cache(maxsize=1024)
def _seen(code: CodeType) -> _Seen:
    seen = _Seen()
    parts = [code]
    for part in parts:  # which grows
        parts += [inner for inner in part.co_consts if isinstance(inner, CodeType)]
        line: list[dis.Instruction] = []
        for step in dis.get_instructions(part):
            if step.starts_line:
                line.clear()
            if step.opname in _SETS:
                seen.changed |= (
                    {step.argval} if "ATTR" not in step.opname or _is_own(_owner(line), part) else set()
                )
            elif step.opname in _ATTRIBUTES and step.argval in _CHANGES:
                seen.changed |= _named(line[-1:], line[-2:-1], part)
            elif step.opname in _INDEXED:
                seen.changed |= _indexed(line, part)
            if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
                seen.globals.add(step.argval)
            elif step.opname in _ATTRIBUTES:
                seen.attributes.add(step.argval)
            line.append(step)
    return seen


def _owner(line: list[dis.Instruction]) -> list[dis.Instruction]:
    """Return what loaded that of which an attribute is set: the step before, or the first where it is added to."""
    loads = _loads(line)
    return loads[-1:] if line[-1:] == loads[-1:] else loads[:1]


def _loads(line: list[dis.Instruction]) -> list[dis.Instruction]:
    return [step for step in line if step.opname.startswith("LOAD_")]


def _is_own(owner: list[dis.Instruction], code: CodeType) -> bool:
    """Tell whether a variable around is loaded, such as a class, or the first argument, which is the analyzer."""
    for step in owner:
        # from Python 3.13 on one step may load two locals
        name = step.argval[-1] if isinstance(step.argval, tuple) else step.argval
        if step.opname in _VARIABLES or (
            step.opname.startswith("LOAD_FAST") and name in code.co_varnames[:1]
        ):
            return True
    return False


def _named(steps: list[dis.Instruction], owner: list[dis.Instruction], code: CodeType) -> set[str]:
    """Return the variable, or the attribute of the analyzer, that ``steps`` load."""
    return {
        step.argval
        for step in steps
        if step.opname in _VARIABLES or (step.opname in _ATTRIBUTES and _is_own(owner, code))
    }


def _indexed(line: list[dis.Instruction], code: CodeType) -> set[str]:
    """Return what an item was set in: it is loaded right before a plain key, or first in the line if the item is added to."""
    loads = _loads(line)
    if {"COPY", "BINARY_SUBSCR"} <= {step.opname for step in line}:
        return _named(loads[:1], [], code) or _named(loads[1:2], loads[:1], code)
    if (
        line[-2:] != loads[-2:] or "LOAD_FAST_LOAD_FAST" in line[-1].opname
    ):  # no plain key; or both were local
        return set()
    return _named(line[-2:-1], line[-3:-2], code)

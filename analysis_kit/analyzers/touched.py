"""Which names code reads, and which of them it keeps notes in while it works: a count, a list of what it has seen.

Only what surely is a note counts as one: a name that is added to, or has items put in. Where that cannot be seen, the name
stays in the key: to ask once more is no harm, and to hand out what was answered under another setting is.
"""

from __future__ import annotations

import dis
import functools
import itertools
import re
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

#: What is done, and with what: ("load", name) of a local, ("around", name) of a variable further out, ("attr", name), else
#: the name of the interpreter's step.
_Step = tuple[str, Any]

_AROUND = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}
#: Methods that change what they belong to.
_CHANGES = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft"),
    *("remove", "update"),
}
#: Where an answer begins.
_BEGIN = ("ask", "analyze", "inquire")


def variables(code: CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the variables of the function around, and the globals, that ``code`` reads and keeps no notes in."""
    seen = _seen(code)
    return (
        tuple(name for name in code.co_freevars if name not in seen.noted),
        tuple(sorted(seen.globals - seen.noted)),
    )


def attributes_noted(thing: type) -> frozenset[str]:
    """Return the attributes that a class's methods keep notes in on the way to an answer."""
    noted: set[str] = set()
    names = list(_BEGIN)
    met: set[str] = set()
    for name in names:  # which grows
        if name not in met:
            met.add(name)
            for code in _codes(thing, name):
                noted |= _seen(code).noted_attributes
                names += _seen(code).attributes
    return frozenset(noted)


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
        self.noted: set[str] = set()  # variables
        self.noted_attributes: set[str] = set()

    def note(self, place: list[_Step], own: tuple[str, ...]) -> None:
        """Note the place that the steps load: a variable, or an attribute of the first argument or the class, ``own``."""
        match place:
            case [*_, ("around", name)]:
                self.noted.add(name)
            case [*_, ("load" | "around", owner), ("attr", name)] if owner in own:
                self.noted_attributes.add(name)


@functools.lru_cache(maxsize=1024)
def _seen(code: CodeType) -> _Seen:
    seen = _Seen()
    parts = [code]
    for part in parts:  # which grows
        parts += [inner for inner in part.co_consts if isinstance(inner, CodeType)]
        for line in _lines(part):
            _look_at(line, seen, (*part.co_varnames[:1], *part.co_qualname.split(".")[-2:-1]))
    return seen


def _lines(code: CodeType) -> Iterator[list[_Step]]:
    """Yield the steps of each line; two that one step of the interpreter does are two."""
    line: list[_Step] = []
    for each in dis.get_instructions(code):
        if each.starts_line:
            yield line
            line = []
        # from Python 3.13 on one step may load two locals, or store one and load another
        fused = isinstance(each.argval, tuple) and "_FAST" in each.opname
        ops, names = (
            (re.findall("[A-Z]+_FAST", each.opname), each.argval) if fused else ([each.opname], [each.argval])
        )
        for op, name in zip(ops, names, strict=False):
            if op.startswith("LOAD_FAST"):
                line.append(("load", name))
            elif op in _AROUND:
                line.append(("around", name))
            elif op in {"LOAD_ATTR", "LOAD_METHOD"}:
                line.append(("attr", name))
            else:
                line.append((op, name))
    yield line


def _look_at(line: list[_Step], seen: _Seen, own: tuple[str, ...]) -> None:
    seen.globals |= {name for op, name in line if op == "around"}
    seen.attributes |= {name for op, name in line if op == "attr"}
    adds = any(op == "BINARY_OP" for op, _ in line)
    for index, (op, name) in enumerate(line):
        before = line[:index]
        if op in {"STORE_GLOBAL", "STORE_DEREF"}:
            seen.noted.add(name)
        elif op == "attr" and name in _CHANGES and any(later == "POP_TOP" for later, _ in line[index:]):
            seen.note(before, own)
        elif op == "STORE_ATTR" and adds:
            # of `owner.name += value` the owner is copied, and of `self.name = self.name + value` loaded twice
            for end, (one, two) in enumerate(itertools.pairwise(before), start=1):
                if two == ("attr", name) and (one[0] == "COPY" or (one == before[-1] and one[0] == "load")):
                    seen.note([*before[: end - (one[0] == "COPY")], two], own)
        elif op in {"STORE_SUBSCR", "DELETE_SUBSCR"}:
            _look_at_item(before, seen, own)


def _look_at_item(before: list[_Step], seen: _Seen, own: tuple[str, ...]) -> None:
    """Note what an item is put in: it is loaded right before a plain key."""
    if ("COPY", 2) in before:  # both are copied for `place[key] += value`
        before = before[: before.index(("COPY", 2))]
    if before and before[-1][0] in {"load", "around", "LOAD_CONST"}:
        seen.note(before[:-1], own)

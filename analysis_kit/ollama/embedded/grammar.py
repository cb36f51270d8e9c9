"""JSON Schemas as grammars that leave no room for blanks, where that is known to be right.

llama.cpp's own translation of a schema lets the model indent its JSON, which costs a third of an answer's tokens, and
does not hold numbers to their bounds. Its second grammar engine, llguidance, does both better, but answers a schema
that it cannot read by constraining nothing, silently. So it is given only schemas made of what is listed here, each
checked to be satisfiable; every other schema goes llama.cpp's own way, which reports what it cannot do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

_ANNOTATIONS = {
    "title",
    "description",
    "default",
    "examples",
    "$schema",
    "$id",
    "deprecated",
    "readOnly",
    "writeOnly",
}
_COMMON = {"type", "enum", "const", "anyOf", "$ref", "$defs", "definitions"}
_OF_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "boolean": set(),
    "null": set(),
}  # fmt: skip
_KNOWN = _COMMON.union(*_OF_TYPE.values()) | {
    "oneOf",
    "allOf",
    "pattern",
    "format",
    "patternProperties",
    "prefixItems",
}
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
_MOST_REPEATS = 1000  # longer bounds make grammars that take long to build
_MOST_NUMBER = 10**15  # larger bounds, or a deeper schema, llguidance answers by constraining nothing
_MOST_DEPTH = 40


class _Unknown(Exception):  # noqa: N818 - control flow inside this module
    """Raised on a part of a schema that is not known to be right here."""


def compact_grammar(schema: Mapping[str, Any]) -> str | None:
    """Return the grammar of the JSON texts without blanks that satisfy ``schema``; None where it is not known to be right.

    Objects are closed where the schema does not say otherwise, as Ollama has it.

    Examples
    --------
    >>> compact_grammar({"type": "string", "pattern": "a+"}) is None
    True
    """
    try:
        closed = _close(schema, schema, ())
    except (_Unknown, RecursionError):
        return None
    return _grammar(closed) if _depth(closed) <= _MOST_DEPTH else None


def checked_grammar(schema: Mapping[str, Any]) -> str:
    """Return llguidance's grammar of any ``schema`` that llama.cpp was seen to accept, where that cannot translate it.

    Keywords that llguidance does not know are left out, as llama.cpp leaves them out.
    """
    return _grammar(_known(schema))


def _known(schema: Any) -> Any:
    """Return what llguidance knows of ``schema``, with every object closed that does not say otherwise."""
    if isinstance(schema, list):
        return [_known(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    out = {{"oneOf": "anyOf"}.get(key, key): value for key, value in schema.items() if key in _KNOWN}
    for key in ("properties", "$defs", "definitions", "patternProperties"):
        if isinstance(out.get(key), Mapping):
            out[key] = {name: _known(each) for name, each in out[key].items()}
    for key in ("items", "prefixItems", "anyOf", "additionalProperties"):
        if key in out:
            out[key] = _known(out[key])
    if (
        "properties" in out and "allOf" not in out
    ):  # in an allOf, closing one part would contradict the others
        out.setdefault("additionalProperties", False)
    if out.get("format") not in _FORMATS:
        out.pop("format", None)
    return out


def any_object_grammar() -> str:
    """Return the grammar of any JSON object without blanks."""
    return _grammar({"type": "object"})


def _grammar(schema: Mapping[str, Any]) -> str:
    strict = {**schema, "x-guidance": {"whitespace_flexible": False}}
    return f"%llguidance {{}}\nstart: %json {json.dumps(strict)}"


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def _close(schema: Any, root: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return ``schema`` with every object closed, or raise `_Unknown`; ``path`` holds the references being followed."""
    if not isinstance(schema, Mapping):
        raise _Unknown
    out = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
    kind = out.get("type")
    allowed = _COMMON | (_OF_TYPE[kind] if isinstance(kind, str) and kind in _OF_TYPE else set())
    if not out.keys() <= allowed or (
        kind is not None and (not isinstance(kind, str) or kind not in _OF_TYPE)
    ):
        raise _Unknown
    leading = [key for key in ("$ref", "anyOf", "enum", "const") if key in out]
    if (
        len(leading) > 1
        or (not leading and kind is None)
        or (leading and out.keys() - {*leading, "type", "$defs", "definitions"})
    ):
        raise _Unknown
    for name in ("$defs", "definitions"):
        if name in out and schema is not root:
            raise _Unknown
        out.pop(name, None)
    if leading:
        return _LEADING[leading[0]](out, root, path)
    return _CHECKS.get(kind or "", _plain)(out, root, path)


def _reference(schema: dict[str, Any], root: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    target = schema["$ref"]
    if not isinstance(target, str) or target in path or len(schema) > 1:  # a circle may have no end
        raise _Unknown
    step, _, name = target.removeprefix("#/").partition("/")
    found = root.get(step, {}) if step in {"$defs", "definitions"} else {}
    if not target.startswith("#/") or name not in found:
        raise _Unknown
    return _close(found[name], root, (*path, target))


def _either(schema: dict[str, Any], root: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(schema["anyOf"], list) or not schema["anyOf"] or len(schema) > 1:
        raise _Unknown
    return {"anyOf": [_close(each, root, path) for each in schema["anyOf"]]}


def _values(schema: dict[str, Any], _root: Mapping[str, Any], _path: tuple[str, ...]) -> dict[str, Any]:
    values = schema["enum"] if "enum" in schema else [schema["const"]]
    if (
        not isinstance(values, list)
        or not values
        or not all(_is_a(value, schema.get("type")) for value in values)
    ):
        raise _Unknown
    return {"enum": values}


def _is_a(value: Any, kind: Any) -> bool:
    if value is None or isinstance(value, bool | str):
        return kind in {None, {type(None): "null", bool: "boolean", str: "string"}[type(value)]}
    if isinstance(value, int):
        return kind in {None, "integer", "number"}
    return False


def _object(schema: dict[str, Any], root: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    extra = schema.get("additionalProperties", "properties" not in schema)
    if (
        not isinstance(properties, Mapping)
        or not isinstance(required, list)
        or not set(map(str, required)) <= properties.keys()
    ):
        raise _Unknown
    closed = {str(name): _close(each, root, path) for name, each in properties.items()}
    if not isinstance(extra, bool):
        extra = _close(extra, root, path)
    return {"type": "object", "properties": closed, "required": required, "additionalProperties": extra}


def _array(schema: dict[str, Any], root: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    _check_sizes(schema, "minItems", "maxItems")
    return {**schema, "items": _close(schema["items"], root, path)} if "items" in schema else schema


def _string(schema: dict[str, Any], _root: Mapping[str, Any], _path: tuple[str, ...]) -> dict[str, Any]:
    _check_sizes(schema, "minLength", "maxLength")
    return schema


def _number(schema: dict[str, Any], _root: Mapping[str, Any], _path: tuple[str, ...]) -> dict[str, Any]:
    bounds = {key: value for key, value in schema.items() if key != "type"}
    whole = schema["type"] == "integer"
    for value in bounds.values():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not abs(value) <= _MOST_NUMBER
            or (whole and value != int(value))
        ):
            raise _Unknown
    gap = 1 if whole else 0
    low = max(bounds.get("minimum", -math.inf), bounds.get("exclusiveMinimum", -math.inf) + gap)
    high = min(bounds.get("maximum", math.inf), bounds.get("exclusiveMaximum", math.inf) - gap)
    open_end = not whole and ("exclusiveMinimum" in bounds or "exclusiveMaximum" in bounds)
    if low > high or (open_end and low == high):
        raise _Unknown
    return schema


def _plain(schema: dict[str, Any], _root: Mapping[str, Any], _path: tuple[str, ...]) -> dict[str, Any]:
    return schema


def _check_sizes(schema: Mapping[str, Any], least: str, most: str) -> None:
    low, high = schema.get(least, 0), schema.get(most, _MOST_REPEATS)
    if (
        any(isinstance(size, bool) or not isinstance(size, int) for size in (low, high))
        or not 0 <= low <= high <= _MOST_REPEATS
    ):
        raise _Unknown


_Rule = Callable[[dict[str, Any], Mapping[str, Any], tuple[str, ...]], dict[str, Any]]
_LEADING: dict[str, _Rule] = {"$ref": _reference, "anyOf": _either, "enum": _values, "const": _values}
_CHECKS: dict[str, _Rule] = {
    "object": _object, "array": _array, "string": _string, "number": _number, "integer": _number,
}  # fmt: skip

"""What a client asks: the request's JSON, checked as Ollama checks it, in its words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from analysis_kit.ollama.embedded.llama import Shape
from analysis_kit.ollama.embedded.runner import FOR_EVER


class ApiError(Exception):
    """Raised to answer a request with an error.

    Parameters
    ----------
    status : int
        HTTP status.
    text : str
        The ``error`` text.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


_GO_TYPES = {
    "text": "string",
    "bool": "bool",
    "int": "int",
    "list": "[]interface {}",
    "object": "map[string]interface {}",
}
_FIELDS: dict[str, dict[str, str]] = {
    "GenerateRequest": {
        "model": "text", "prompt": "text", "suffix": "text", "system": "text", "template": "text", "context": "list",
        "stream": "bool", "raw": "bool", "images": "list", "options": "object", "truncate": "bool", "shift": "bool",
        "_debug_render_only": "bool", "logprobs": "bool", "top_logprobs": "int",
    },
    "ChatRequest": {
        "model": "text", "messages": "list", "stream": "bool", "tools": "list", "options": "object",
        "truncate": "bool", "shift": "bool", "_debug_render_only": "bool", "logprobs": "bool", "top_logprobs": "int",
    },
    "EmbedRequest": {"model": "text", "truncate": "bool", "dimensions": "int", "options": "object"},
    "EmbeddingRequest": {"model": "text", "prompt": "text", "options": "object"},
    "ShowRequest": {"model": "text", "name": "text", "system": "text", "verbose": "bool", "options": "object"},
    "ChatCompletionRequest": {
        "model": "text", "messages": "list", "stream": "bool", "stream_options": "object", "response_format": "object",
    },
    "Message": {
        "role": "text", "content": "text", "thinking": "text", "images": "list", "tool_calls": "list",
        "tool_name": "text", "tool_call_id": "text",
    },
}  # fmt: skip
_INTEGERS = {
    "num_ctx", "num_predict", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "seed", "top_k",
    "repeat_last_n", "draft_num_predict",
}  # fmt: skip
_NUMBERS = {
    "temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty",
}  # fmt: skip
_DEFAULTS: dict[str, Any] = {
    "num_predict": -1, "num_keep": 4, "seed": -1, "temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.0,
    "typical_p": 1.0, "repeat_last_n": 64, "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    "stop": [],
}  # fmt: skip
#: Ollama's name -> llama.cpp's, where they differ.
_RENAMED = {"num_keep": "n_keep", "num_predict": "max_tokens"}
_LEAST_CTX = 4
_MOST_TOP_LOGPROBS = 20
_MOST_CTXS = 10  # an answer without a limit of its own ends at this many times the context
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


def parse_body(body: bytes, kind: str) -> dict[str, Any]:
    """Return the first JSON value of ``body`` as a request of ``kind``, its field types checked.

    Raises
    ------
    ApiError
        400, in the words of Go's decoder.
    """
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise ApiError(400, "missing request body")
    try:
        value, _ = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text)
    except json.JSONDecodeError as exc:
        raise ApiError(400, _go_syntax_error(text, exc)) from exc
    except RecursionError as exc:
        raise ApiError(400, "exceeded max depth") from exc
    if "\\u" in text:
        value = _without_lone_surrogates(value)
    if not isinstance(value, dict):
        raise ApiError(400, f"json: cannot unmarshal {_go_kind(value)} into Go value of type api.{kind}")
    return check(value, kind)


def check(value: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a request of ``kind`` without its nulls, its field types checked.

    Raises
    ------
    ApiError
        400, in the words of Go's decoder.
    """
    request = {key: item for key, item in value.items() if item is not None}
    _check_types(request, kind, kind, "")
    for message in request.get("messages", ()) if kind == "ChatRequest" else ():
        if not isinstance(message, dict):
            raise ApiError(400, _mismatch(message, kind, "messages", "api.Message"))
        _check_types(message, "Message", kind, "messages.")
    if not 0 <= request.get("top_logprobs", 0) <= _MOST_TOP_LOGPROBS:
        raise ApiError(400, "top_logprobs must be between 0 and 20")
    return request


def keep_alive_s(request: Mapping[str, Any]) -> float | None:
    """Return the request's ``keep_alive`` in seconds: infinite for ever, None where it says nothing."""
    value = request.get("keep_alive")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        kind = {bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}[type(value)]
        raise ApiError(400, f"Unsupported type: '{kind}'")
    seconds = _go_duration_s(value) if isinstance(value, str) else float(value)
    return FOR_EVER if seconds < 0 else seconds


def think_of(request: Mapping[str, Any]) -> bool | str | None:
    """Return the request's ``think``: a bool, a level, or None where it says nothing."""
    think = request.get("think")
    if think is None or isinstance(think, bool) or think in {"low", "medium", "high", "max"}:
        return think
    if isinstance(think, str):
        raise ApiError(
            400,
            f'invalid think value: {json.dumps(think)} (must be "high", "medium", "low", "max", true, or false)',
        )
    raise ApiError(400, f"think must be a boolean or string (got {_go_kind(think)})")


def options_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request's options over Ollama's defaults; unknown keys and nulls are ignored.

    Raises
    ------
    ApiError
        500, naming the option of a wrong type.
    """
    given = {key: value for key, value in request.get("options", {}).items() if value is not None}
    return _DEFAULTS | {key: _OPTIONS[key](key, value) for key, value in given.items() if key in _OPTIONS}


def _integer(key: str, value: Any) -> int:
    if not _is_number(value):
        raise ApiError(500, f'option "{key}" must be of type integer')
    return max(-(2**31), min(int(value), 2**31 - 1))


def _real(key: str, value: Any) -> float:
    if not _is_number(value):
        raise ApiError(500, f'option "{key}" must be of type float32')
    return float(value)


def _texts(key: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ApiError(500, f'option "{key}" must be of type array')
    if not all(isinstance(item, str) for item in value):
        raise ApiError(500, f'option "{key}" must be of an array of strings')
    return [item for item in value if item]


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ApiError(500, f'option "{key}" must be of type boolean')
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_OPTIONS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(_INTEGERS, _integer), **dict.fromkeys(_NUMBERS, _real), "stop": _texts, "use_mmap": _flag,
}  # fmt: skip


def shape_for(options: Mapping[str, Any], shape: Shape, *, trained_ctx: int, shift: bool) -> Shape:
    """Return what the model must be loaded with for these options, the present ``shape`` wherever it will do.

    A larger ``num_ctx`` loads the model anew; a smaller one is served by the larger context that is there (see
    `ctx_of`), so that two clients with different wishes do not make the server load at every request.
    """
    return replace(
        shape,
        ctx=max(shape.ctx, ctx_of(options, shape, trained_ctx=trained_ctx)),
        threads=options["num_thread"] if options.get("num_thread", 0) > 0 else shape.threads,
        gpu_layers=options["num_gpu"] if options.get("num_gpu", -1) >= 0 else shape.gpu_layers,
        batch=max(1, options["num_batch"]) if "num_batch" in options else shape.batch,
        shift=shift,
    )


def ctx_of(options: Mapping[str, Any], shape: Shape, *, trained_ctx: int) -> int:
    """Return the tokens of context this request may use: its ``num_ctx``, at least 4, at most the trained length."""
    if "num_ctx" not in options:
        return shape.ctx
    asked = max(int(options["num_ctx"]), _LEAST_CTX)
    return min(asked, trained_ctx) if trained_ctx else asked


def sampling_of(options: Mapping[str, Any], ctx: int) -> dict[str, Any]:
    """Return the part of llama.cpp's request that says how to choose tokens."""
    most = _MOST_CTXS * ctx
    sampling = {_RENAMED.get(key, key): options[key] for key in _DEFAULTS}
    sampling["max_tokens"] = options["num_predict"] if 0 <= options["num_predict"] < most else most
    sampling["repeat_last_n"] = ctx if options["repeat_last_n"] < 0 else options["repeat_last_n"]
    sampling["seed"] = options["seed"] & 0xFFFFFFFF  # -1, all bits set, is "random" there too
    return sampling


def _check_types(value: Mapping[str, Any], kind: str, root: str, path: str) -> None:
    fields = _FIELDS[kind]
    for key, item in value.items():
        want = fields.get(key)
        if want is None or item is None:
            continue
        number = isinstance(item, int) and not isinstance(item, bool)
        right = {
            "text": isinstance(item, str), "bool": isinstance(item, bool), "int": number,
            "list": isinstance(item, list), "object": isinstance(item, dict),
        }[want]  # fmt: skip
        if not right:
            raise ApiError(400, _mismatch(item, root, path + key, _GO_TYPES[want]))


def _mismatch(value: Any, root: str, field: str, go_type: str) -> str:
    return f"json: cannot unmarshal {_go_kind(value)} into Go struct field {root}.{field} of type {go_type}"


def _go_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, float):
        return f"number {value}"
    return {str: "string", int: "number", list: "array", dict: "object"}.get(type(value), "null")


def _no_constant(name: str) -> Any:
    raise ApiError(400, f"invalid character '{name.lstrip('-')[0]}' looking for beginning of value")


def _go_syntax_error(text: str, exc: json.JSONDecodeError) -> str:
    rest = text[exc.pos :].lstrip()
    if not rest or "Unterminated" in exc.msg:
        return "unexpected EOF"
    return f"invalid character {rest[0]!r} looking for beginning of value"


def _without_lone_surrogates(value: Any) -> Any:
    """Replace halves of surrogate pairs by U+FFFD, as Go's decoder does: they cannot be sent on as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_lone_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_lone_surrogates(key): _without_lone_surrogates(item) for key, item in value.items()}
    return value


def _go_duration_s(text: str) -> float:
    sign = -1.0 if text.startswith("-") else 1.0
    digits = text.removeprefix("-").removeprefix("+")
    if digits == "0":
        return 0.0
    parts = _DURATION.findall(digits)
    if not parts or "".join(number + unit for number, unit in parts) != digits:
        problem = "missing unit in duration" if re.fullmatch(r"[\d.]+", digits) else "invalid duration"
        raise ApiError(400, f"time: {problem} {json.dumps(text)}")
    return sign * sum(float(number) * _UNITS_S[unit] for number, unit in parts)

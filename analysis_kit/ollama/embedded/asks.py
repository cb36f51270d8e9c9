"""What a client asks: the request's JSON, checked as Ollama checks it, in its words."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from analysis_kit.ollama.durations import duration_s, life_s
from analysis_kit.ollama.embedded.environment import LEAST_CTX
from analysis_kit.ollama.embedded.llama import Shape


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
    "number": "float64",
    "list": "[]interface {}",
    "object": "map[string]interface {}",
}
#: The lists that have a type of their own.
_GO_LISTS = {"context": "[]int", "images": "[]api.ImageData", "messages": "[]api.Message", "tools": "api.Tools",
             "tool_calls": "[]api.ToolCall"}  # fmt: skip
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
        "max_tokens": "int", "seed": "int", "temperature": "number", "top_p": "number", "presence_penalty": "number",
        "frequency_penalty": "number", "tools": "list", "logprobs": "bool", "top_logprobs": "int",
    },
    "Message": {
        "role": "text", "content": "text", "thinking": "text", "images": "list", "tool_calls": "list",
        "tool_name": "text", "tool_call_id": "text",
    },
    "Tool": {"type": "text", "function": "object"},
    "ToolCall": {"id": "text", "function": "object"},
    "ToolCallFunction": {"index": "int", "name": "text", "arguments": "object"},
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
_MOST_TOP_LOGPROBS = 20
_MOST_NUMBER = 1e300  # a float holds it
_MOST_CTXS = 10  # an answer without a limit of its own ends at this many times the context


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
    except ValueError as exc:  # the limit on an integer's digits
        raise ApiError(400, f"json: {exc}") from exc
    if "\\u" in text:
        value = _without_lone_surrogates(value)
    value = {} if value is None else value  # Go leaves the request as it was
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
    request = _without_nulls(value)
    _check_types(request, kind, kind, "")
    messages = request.get("messages", ()) if kind == "ChatRequest" else ()
    for message in messages:
        _check_object(message, "Message", kind, "messages.")
        for call in message.get("tool_calls") or ():
            _check_object(call, "ToolCall", kind, "messages.tool_calls.")
            function = call.get("function") or {}
            _check_types(function, "ToolCallFunction", kind, "messages.tool_calls.function.")
    if messages:
        request["messages"] = [_without_nulls(message) for message in messages]
    for tool in request.get("tools", ()):
        _check_object(tool, "Tool", kind, "tools.")
    for token in request.get("context", ()):
        if not isinstance(token, int) or isinstance(token, bool):
            raise ApiError(400, _mismatch(token, kind, "context", "int"))
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
    try:
        return life_s(duration_s(value) if isinstance(value, str) else float(value))
    except (ValueError, OverflowError) as exc:
        raise ApiError(400, str(exc)) from exc


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
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST_NUMBER


_OPTIONS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(_INTEGERS, _integer), **dict.fromkeys(_NUMBERS, _real), "stop": _texts, "use_mmap": _flag,
}  # fmt: skip


def shape_for(options: Mapping[str, Any], shape: Shape, *, trained_ctx: int, shift: bool) -> Shape:
    """Return what the model must be loaded with for these options, the present ``shape`` wherever it will do.

    A larger ``num_ctx`` loads the model anew; a smaller one is served by the larger context that is there (see
    `ctx_of`), so that two clients with different wishes do not make the server load at every request.
    """
    ctx = max(shape.ctx, ctx_of(options, shape, trained_ctx=trained_ctx))
    most_threads = max(shape.threads, os.cpu_count() or 1)
    return replace(
        shape,
        ctx=ctx,
        threads=min(options["num_thread"], most_threads)
        if options.get("num_thread", 0) > 0
        else shape.threads,
        gpu_layers=options["num_gpu"] if options.get("num_gpu", -1) >= 0 else shape.gpu_layers,
        # with fewer than one token for each place, llama.cpp ends the process
        batch=max(shape.parallel, min(options["num_batch"], ctx)) if "num_batch" in options else shape.batch,
        shift=shift,
    )


def ctx_of(options: Mapping[str, Any], shape: Shape, *, trained_ctx: int) -> int:
    """Return the tokens of context this request may use: its ``num_ctx``, at least 4, at most the trained length."""
    if "num_ctx" not in options:
        return shape.ctx
    asked = max(int(options["num_ctx"]), LEAST_CTX)
    return min(asked, trained_ctx) if trained_ctx else asked


def sampling_of(options: Mapping[str, Any], ctx: int) -> dict[str, Any]:
    """Return the part of llama.cpp's request that says how to choose tokens."""
    most = _MOST_CTXS * ctx
    sampling = {_RENAMED.get(key, key): options[key] for key in _DEFAULTS if key != "stop"}
    # stop texts are looked for here, see `stops`: then any piece may be the last, and has to have the times
    sampling["timings_per_token"] = bool(options["stop"])
    sampling["max_tokens"] = options["num_predict"] if 0 <= options["num_predict"] < most else most
    sampling["repeat_last_n"] = options["repeat_last_n"] if 0 <= options["repeat_last_n"] < ctx else ctx
    sampling["seed"] = options["seed"] & 0xFFFFFFFF  # -1, all bits set, is "random" there too
    return sampling


def _without_nulls(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item is not None}


def _check_types(value: Mapping[str, Any], kind: str, root: str, path: str) -> None:
    fields = _FIELDS[kind]
    for key, item in value.items():
        want = fields.get(key)
        if want is None or item is None:
            continue
        number = isinstance(item, int) and not isinstance(item, bool)
        right = {
            "text": isinstance(item, str), "bool": isinstance(item, bool), "int": number,
            "list": isinstance(item, list), "object": isinstance(item, dict), "number": number or isinstance(item, float),
        }[want]  # fmt: skip
        if not right:
            go_type = _GO_LISTS.get(key, _GO_TYPES[want]) if want == "list" else _GO_TYPES[want]
            raise ApiError(400, _mismatch(item, root, path + key, go_type))


def _check_object(value: Any, kind: str, root: str, path: str) -> None:
    if not isinstance(value, dict):
        raise ApiError(400, _mismatch(value, root, path.rstrip("."), f"api.{kind}"))
    _check_types(value, kind, root, path)


def _mismatch(value: Any, root: str, field: str, go_type: str) -> str:
    kind = f"number {value}" if go_type == "int" and isinstance(value, float) else _go_kind(value)
    return f"json: cannot unmarshal {kind} into Go struct field {root}.{field} of type {go_type}"


def _go_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    kinds = {str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def _no_constant(name: str) -> Any:
    raise ApiError(400, f"invalid character '{name.lstrip('-')[0]}' looking for beginning of value")


#: What Python's decoder says first -> what Go's says after the character; all else is no beginning of a value.
_GO_SYNTAX = {
    "Expecting property": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",  # from Python 3.13 on
    "Expecting ':'": "after object key",
    "Invalid control": "in string literal",
    "Invalid \\escape": "in string escape code",
}


def _go_syntax_error(text: str, exc: json.JSONDecodeError) -> str:
    place = exc.pos + exc.msg.startswith(("Invalid \\escape", "Illegal trailing comma"))
    rest = text[place:].lstrip(" \t\r" if exc.msg.startswith("Invalid control") else None)
    if not rest or "Unterminated" in exc.msg:
        return "unexpected EOF"
    where = next(
        (go for said, go in _GO_SYNTAX.items() if exc.msg.startswith(said)), "looking for beginning of value"
    )
    if exc.msg.startswith("Expecting ','"):
        outside = re.sub(r'"(?:[^"\\]|\\.)*"', "", text[: exc.pos])  # brackets in texts do not count
        while (less := re.sub(r"\{[^][{}]*\}|\[[^][{}]*\]", "", outside)) != outside:
            outside = less
        in_list = outside.rfind("[") > outside.rfind("{")
        where = "after array element" if in_list else "after object key:value pair"
    shown = {"'": "\\'", '"': '"'}.get(rest[0]) or json.dumps(rest[0], ensure_ascii=False)[1:-1]
    return f"invalid character '{shown}' {where}"


def _without_lone_surrogates(value: Any) -> Any:
    """Replace halves of surrogate pairs by U+FFFD, as Go's decoder does: they cannot be sent on as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_lone_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_lone_surrogates(key): _without_lone_surrogates(item) for key, item in value.items()}
    return value

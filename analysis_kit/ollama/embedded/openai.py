"""The OpenAI layer: its forms of request, reply, stream and error over the native chat."""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from analysis_kit.ollama.embedded.asks import ApiError
from analysis_kit.ollama.embedded.replies import to_json

_ERROR_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
_RENAMED = {"max_tokens": "num_predict", "seed": "seed", "presence_penalty": "presence_penalty",
            "frequency_penalty": "frequency_penalty", "temperature": "temperature", "top_p": "top_p"}  # fmt: skip


def error_body(error: ApiError) -> dict[str, Any]:
    """Return the body of an error of ``/v1``."""
    kind = _ERROR_TYPES.get(error.status, "api_error")
    return {"error": {"message": error.text, "type": kind, "param": None, "code": None}}


def to_native(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chat completion request as one of ``/api/chat``.

    Raises
    ------
    ApiError
        400, if it has no messages or parts that cannot be understood.
    """
    if not body.get("messages"):
        raise ApiError(400, "[] is too short - 'messages'")
    options: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0}
    options |= {name: body[key] for key, name in _RENAMED.items() if body.get(key) is not None}
    if stop := body.get("stop"):
        texts = stop if isinstance(stop, list) else [stop]
        options["stop"] = [text for text in texts if isinstance(text, str)]
    native: dict[str, Any] = {
        "model": body.get("model", ""),
        "messages": [_message(message) for message in body["messages"]],
        "options": options,
        "stream": bool(body.get("stream")),
    }
    native |= {key: body[key] for key in ("tools", "logprobs", "top_logprobs") if body.get(key) is not None}
    if effort := body.get("reasoning_effort"):
        native["think"] = False if effort == "none" else effort
    form = body.get("response_format") or {}
    if form.get("type") == "json_object":
        native["format"] = "json"
    elif form.get("type") == "json_schema":
        described = form.get("json_schema") or {}
        if not isinstance(described, Mapping):
            raise ApiError(400, "invalid response_format: json_schema is to be an object with a schema in it")
        native["format"] = described.get("schema")
    return native


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise ApiError(400, f"invalid message: {json.dumps(message)}")
    out = {key: value for key, value in message.items() if value is not None and key != "content"}
    content = message.get("content")
    if isinstance(content, list):
        texts = []
        for part in content:
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind == "image_url":
                url = part.get("image_url")
                url = url.get("url", "") if isinstance(url, Mapping) else url
                if not isinstance(url, str) or not url.startswith("data:"):
                    raise ApiError(400, "invalid image input")
                out.setdefault("images", []).append(url.partition(",")[2])
            elif kind != "text":
                raise ApiError(400, "invalid message format")
            else:
                texts.append(str(part.get("text", "")))
        content = "".join(texts)
    out["content"] = content or ""
    calls = out.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            try:
                function["arguments"] = json.loads(function["arguments"] or "{}")
            except json.JSONDecodeError as exc:
                raise ApiError(400, "invalid tool call arguments") from exc
    return out


class Converter:
    """Turns native pieces into chunks or into one completion, under one id.

    Parameters
    ----------
    model : str
        As asked for.
    include_usage : bool
        Whether the stream ends with a chunk of token counts.
    """

    def __init__(self, model: str, *, include_usage: bool) -> None:
        self.include_usage = include_usage
        self._head = {
            "id": f"chatcmpl-{random.randrange(999)}",  # noqa: S311 - Ollama's form, not unique there either
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": "fp_ollama",
        }

    async def chunks(self, pieces: AsyncIterator[dict[str, Any]]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the chunks of a stream: role in the first, reason and usage in their own, an empty one where all is done."""
        role = {"role": "assistant"}
        async for piece in pieces:
            delta, logprobs = _delta(piece["message"]), piece.get("logprobs")
            if delta.keys() != {"content"} or delta["content"] or logprobs or not piece["done"]:
                extra = {"logprobs": {"content": logprobs}} if logprobs else {}
                yield self._chunk([{"index": 0, "delta": role | delta, "finish_reason": None, **extra}])
                role = {}
            if piece["done"]:
                reason = _reason(piece)
                yield self._chunk([{"index": 0, "delta": role | {"content": ""}, "finish_reason": reason}])
                if self.include_usage:
                    yield self._chunk([]) | {"usage": _usage(piece)}
                yield {}

    def completion(self, whole: Mapping[str, Any]) -> dict[str, Any]:
        """Return the completion that a whole native answer is."""
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", **_delta(whole["message"])},
            "finish_reason": _reason(whole),
        }
        if logprobs := whole.get("logprobs"):
            choice["logprobs"] = {"content": logprobs}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": _usage(whole)}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk", "choices": choices}


def line(chunk: dict[str, Any]) -> bytes:
    """Return a chunk as a server-sent event; an empty one says that the stream is complete."""
    return b"data: " + (to_json(chunk) if chunk else b"[DONE]") + b"\n\n"


def _delta(message: Mapping[str, Any]) -> dict[str, Any]:
    delta: dict[str, Any] = {"content": message["content"]}
    if thinking := message.get("thinking"):
        delta["reasoning"] = thinking
    if calls := message.get("tool_calls"):
        delta["tool_calls"] = [
            {
                "id": call["id"],
                "index": call["function"]["index"],
                "type": "function",
                "function": {
                    "name": call["function"]["name"],
                    "arguments": json.dumps(call["function"]["arguments"]),
                },
            }
            for call in calls
        ]
    return delta


def _reason(piece: Mapping[str, Any]) -> str | None:
    return "tool_calls" if piece["message"].get("tool_calls") else piece.get("done_reason")


def _usage(piece: Mapping[str, Any]) -> dict[str, int]:
    prompt, answer = piece.get("prompt_eval_count", 0), piece.get("eval_count", 0)
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}

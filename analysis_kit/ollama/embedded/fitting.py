"""Prompts that must fit a context: what Ollama drops when they do not."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from analysis_kit.ollama.embedded.asks import ApiError
from analysis_kit.ollama.embedded.inner import Inner

_TEMPLATE_BYTES, _MESSAGE_BYTES = 512, 64  # generous: only texts that surely fit are spared the count

_log = logging.getLogger(__name__)

TOO_LONG_WITHOUT_SHIFT = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)


def _too_long(tokens: int, ctx: int) -> ApiError:
    """Return llama.cpp's own refusal; a larger context than asked for may be loaded, so it cannot be left to say so."""
    text = f"request ({tokens} tokens) exceeds the available context size ({ctx} tokens), try increasing it"
    return ApiError(400, text)


def surely_fits(body: Mapping[str, Any], ctx: int) -> bool:
    """Return whether a chat request fits ``ctx`` tokens for certain: no token is shorter than a byte."""
    messages = body["messages"]
    size = _TEMPLATE_BYTES + len(
        json.dumps(body.get("tools", ()), ensure_ascii=False).encode("utf-8", "replace")
    )
    size += sum(
        len(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")) for message in messages
    )
    return size + _MESSAGE_BYTES * len(messages) < ctx


async def fit_chat(inner: Inner, body: dict[str, Any], ctx: int, *, truncate: bool) -> dict[str, Any]:
    """Return the chat request with its oldest messages dropped until the prompt fits; system and last message stay.

    Raises
    ------
    ApiError
        400, if what stays is still too long, or ``truncate`` is off.
    """
    if surely_fits(body, ctx):
        return body
    tokens = len(await inner.prompt_tokens(body))
    if tokens < ctx:
        return body
    messages = body["messages"]
    old = [at for at, message in enumerate(messages[:-1]) if message["role"] != "system"]
    if not truncate or not old:
        raise _too_long(tokens, ctx)

    def without(dropped: int) -> dict[str, Any]:
        gone = set(old[:dropped])
        return {**body, "messages": [message for at, message in enumerate(messages) if at not in gone]}

    low, high = 1, len(old)  # the fewest that must go lies here, or everything is too little
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if len(await inner.prompt_tokens(without(middle))) < ctx else (middle + 1, high)
        )
    kept = without(low)
    if (left := len(await inner.prompt_tokens(kept))) >= ctx:
        raise _too_long(left, ctx)
    facts = {"dropped": low, "messages": len(messages), "kept_tokens": left, "prompt_tokens": tokens}
    _log.warning(
        "dropped the %(dropped)d oldest messages of %(messages)d: %(kept_tokens)d of %(prompt_tokens)d tokens stay",
        facts,
        extra=facts,
    )
    return kept


async def fit_prompt(
    inner: Inner, prompt: str, ctx: int, *, keep: int, truncate: bool, shift: bool
) -> str | Sequence[int]:
    """Return the prompt, or where it is too long its first ``keep`` tokens and its last ones, half of the rest's room.

    Raises
    ------
    ApiError
        400, if it is too long and ``truncate`` or ``shift`` is off.
    """
    if len(prompt.encode("utf-8", "replace")) + _MESSAGE_BYTES < ctx:
        return prompt
    tokens = await inner.tokenize(prompt)
    if len(tokens) < ctx:
        return prompt
    if not truncate:
        raise _too_long(len(tokens), ctx)
    if not shift:
        raise ApiError(400, TOO_LONG_WITHOUT_SHIFT)
    keep = ctx - 1 if keep < 0 else min(keep, ctx - 1)
    room = min(ctx - 1, keep + max(1, (ctx - keep) // 2))
    last = room - keep
    facts = {"prompt_tokens": len(tokens), "kept_tokens": room, "first": keep, "last": last}
    _log.warning(
        "cut a prompt of %(prompt_tokens)d tokens to %(kept_tokens)d: its first %(first)d and its last %(last)d",
        facts,
        extra=facts,
    )
    return [*tokens[:keep], *(tokens[-last:] if last else ())]

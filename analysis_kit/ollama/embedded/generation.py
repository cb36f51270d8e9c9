"""From a checked request to Ollama's answer objects, through a seat in the model."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from analysis_kit.ollama.embedded import asks
from analysis_kit.ollama.embedded.asks import ApiError
from analysis_kit.ollama.embedded.fitting import fit_chat, fit_prompt, surely_fits
from analysis_kit.ollama.embedded.grammar import any_object_grammar, checked_grammar, compact_grammar
from analysis_kit.ollama.embedded.llama import LlamaError
from analysis_kit.ollama.embedded.runner import Runner, Seat
from analysis_kit.ollama.embedded.stops import Repeats, Stops

Piece = dict[str, Any]


def created_at() -> str:
    """Return the present moment as Ollama writes it: UTC, no trailing zeros in the fraction."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".") + "Z"


class Generation:
    """One request to ``/api/chat`` or ``/api/generate`` on its way.

    Parameters
    ----------
    request : mapping
        The checked request.
    runner : Runner
        The model's.
    chat : bool
        Whether it is a chat.

    Raises
    ------
    ApiError
        If the request asks for what the model cannot do.
    """

    def __init__(self, request: Mapping[str, Any], runner: Runner, *, chat: bool) -> None:
        self.arrived = time.monotonic_ns()
        self.request = request
        self.runner = runner
        self.chat = chat
        self.keep_alive_s = asks.keep_alive_s(request)
        self.think = asks.think_of(request)
        self._tool_calls: dict[int, dict[str, Any]] = {}
        self._pieces: list[str] = []
        self._learn: Callable[[str], object] | None = None
        self._repeats = Repeats()
        if self.wants_unload:
            return
        _check_capabilities(request, runner, think=self.think, chat=chat)
        self.options = asks.options_of(request)
        self._stops = Stops(self.options["stop"])

    @property
    def empty(self) -> bool:
        """Whether there is nothing to answer: the request only loads or unloads the model."""
        return not self.request.get("messages" if self.chat else "prompt")

    @property
    def wants_unload(self) -> bool:
        """Whether the request only unloads the model."""
        return self.empty and self.keep_alive_s == 0

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Yield the objects of the answer; the last has ``done`` true, unless the model repeats one token for ever.

        Raises
        ------
        ApiError
            If llama.cpp refuses or fails.
        """
        trained = self.runner.model.header.number("context_length")
        shift = self.request.get("shift", True)
        try:
            async with self.runner.seat(
                lambda shape: asks.shape_for(self.options, shape, trained_ctx=trained, shift=shift),
                self.keep_alive_s,
            ) as seat:
                if self.empty:
                    yield self.alone("load")
                    return
                ctx = asks.ctx_of(self.options, self.runner.shape, trained_ctx=trained)
                body, as_chat = await self._body(seat, ctx, shift=shift)
                if self.request.get("_debug_render_only"):
                    rendered = await seat.inner.render(body) if as_chat else body["prompt"]
                    yield self._piece("") | {"_debug_info": {"rendered_template": rendered}}
                    return
                before = self._context_before(seat, body)
                self._learn = seat.inner.piece_tokens if before is not None and self._by_pieces else None
                async with aclosing(seat.stream(body, chat=as_chat)) as chunks:
                    async for chunk in chunks:
                        for choice in chunk.get("choices", ()):
                            said = _said(choice)
                            if any(said) and self._repeats.too_many("".join(said)):
                                return  # as Ollama ends it: without a last object
                            reason = choice.get("finish_reason")
                            if piece := self._part(choice, *said, last=bool(reason)):
                                yield piece
                            if reason or self._stops.found:
                                last = self._last(reason or "stop", chunk.get("timings", {}), seat)
                                yield last | await self._context(seat, before)
                            if self._stops.found:
                                return
        except LlamaError as exc:
            raise ApiError(exc.status, str(exc)) from exc

    def alone(self, reason: str) -> Piece:
        """Return the only object of a reply that holds no answer."""
        return self._piece("") | {"done": True, "done_reason": reason}

    async def _body(self, seat: Seat, ctx: int, *, shift: bool) -> tuple[dict[str, Any], bool]:
        """Return llama.cpp's request, and whether it is one for its chat endpoint."""
        request = self.request
        truncate = request.get("truncate", True)
        body = asks.sampling_of(self.options, ctx) | self._format()
        if request.get("logprobs"):
            count = max(1, request.get("top_logprobs", 0))
            body |= {"logprobs": True, "top_logprobs": count, "n_probs": count}
        if self.chat:
            body |= self._template_options() | {"messages": self._messages()}
            if request.get("tools"):
                body["tools"] = request["tools"]
            body = await fit_chat(seat.inner, body, ctx, truncate=truncate)
        else:
            await self._put_prompt(seat, body, ctx, truncate=truncate, shift=shift)
        if not shift:
            # the loaded context may be larger than the one asked for, with which the answer has to end
            used = len(await seat.inner.prompt_tokens(body))
            body["max_tokens"] = max(1, min(body["max_tokens"], ctx - used))
        return body, "messages" in body

    async def _put_prompt(
        self, seat: Seat, body: dict[str, Any], ctx: int, *, truncate: bool, shift: bool
    ) -> None:
        """Put what ``generate`` asks into llama.cpp's request: as a prompt, or as a chat where only that will do.

        Its chat endpoint translates any schema and tells thinking from answer; a prompt is not rendered a second time
        for the reply's ``context``.
        """
        request, prompt = self.request, self.request["prompt"]
        as_chat = body | self._template_options() | {"messages": self._messages()}
        to_chat = "json_schema" in body or "thinking" in self.runner.model.capabilities
        to_chat = to_chat and not request.get("raw") and not request.get("context")
        if to_chat and surely_fits(as_chat, ctx):
            body |= as_chat
            return
        if not request.get("raw") or "json_schema" in body:
            rendered = await seat.inner.render(as_chat)  # which refuses a schema that is none
            prompt = prompt if request.get("raw") else rendered
        if request.get("context"):
            prompt = await seat.inner.detokenize(request["context"]) + prompt
        keep = self.options["num_keep"]
        if keep >= 0 and self.runner.model.header.metadata.get("tokenizer.ggml.add_bos_token"):
            keep += 1
        fitted = await fit_prompt(seat.inner, prompt, ctx, keep=keep, truncate=truncate, shift=shift)
        if to_chat and fitted is prompt:
            body |= as_chat
            return
        if "json_schema" in body:
            body["grammar"] = checked_grammar(body.pop("json_schema"))
        body["prompt"] = fitted

    def _messages(self) -> list[dict[str, Any]]:
        if self.chat:
            return [_to_openai(message) for message in self.request["messages"]]
        system = [{"role": "system", "content": self.request["system"]}] if self.request.get("system") else []
        return [*system, {"role": "user", "content": self.request["prompt"]}]

    def _template_options(self) -> dict[str, Any]:
        if "thinking" not in self.runner.model.capabilities:
            return {}
        level = {"reasoning_effort": self.think} if isinstance(self.think, str) else {}
        return {"chat_template_kwargs": {"enable_thinking": self.think is not False, **level}}

    def _format(self) -> dict[str, Any]:
        form = self.request.get("format")
        if form in (None, ""):
            return {}
        if form != "json" and not isinstance(form, dict):
            text = json.dumps(json.dumps(form))
            raise ApiError(500, f'invalid format: {text}; expected "json" or a valid JSON Schema object')
        thinks = "thinking" in self.runner.model.capabilities and self.think is not False
        own = (
            None
            if thinks or self.request.get("tools")
            else any_object_grammar()
            if form == "json"
            else compact_grammar(form)
        )
        return {"grammar": own} if own else {"json_schema": {"type": "object"} if form == "json" else form}

    def _piece(self, text: str, thinking: str = "") -> Piece:
        piece: Piece = {"model": self.request["model"], "created_at": created_at()}
        if self.chat:
            piece["message"] = {"role": "assistant", "content": text}
        else:
            piece["response"] = text
        if thinking:
            (piece["message"] if self.chat else piece)["thinking"] = thinking
        piece["done"] = False
        return piece

    def _part(self, choice: Mapping[str, Any], thinking: str, text: str, *, last: bool) -> Piece | None:
        """Return the piece for one of llama.cpp's, if there is something in it."""
        text = self._stops.let_through(text)
        if last and not self._stops.found:
            text += self._stops.rest()
        for call in (choice.get("delta") or {}).get("tool_calls") or ():
            kept = self._tool_calls.setdefault(call.get("index", 0), {"name": "", "arguments": ""})
            for key in kept:
                kept[key] += call.get("function", {}).get(key) or ""
        logprobs = [self._logprob(item) for item in (choice.get("logprobs") or {}).get("content") or ()]
        if not (text or thinking or logprobs):
            return None
        self._pieces.append(text)
        if self._learn is not None:
            self._learn(text)
        piece = self._piece(text, thinking)
        return piece | {"logprobs": logprobs} if logprobs else piece

    def _last(self, reason: str, timings: Mapping[str, Any], seat: Seat) -> Piece:
        piece = self._piece("") | {"done": True, "done_reason": "length" if reason == "length" else "stop"}
        if self._tool_calls:
            piece["message"]["tool_calls"] = [
                {
                    "id": f"call_{secrets.token_hex(4)}",
                    "function": {
                        "index": index,
                        "name": call["name"],
                        "arguments": _arguments(call["arguments"]),
                    },
                }
                for index, call in sorted(self._tool_calls.items())
            ]
        metrics = {
            "total_duration": time.monotonic_ns() - self.arrived,
            "load_duration": seat.load_ns,
            "prompt_eval_count": timings.get("cache_n", 0) + timings.get("prompt_n", 0),
            "prompt_eval_duration": round(timings.get("prompt_ms", 0) * 1e6),
            "eval_count": timings.get("predicted_n", 0),
            "eval_duration": round(timings.get("predicted_ms", 0) * 1e6),
        }
        return piece | {key: value for key, value in metrics.items() if value}

    def _context_before(self, seat: Seat, body: dict[str, Any]) -> asyncio.Future[list[int]] | None:
        """Begin to count out the prompt's tokens, beside the model's work; ``generate`` needs them, but not in raw mode."""
        if self.chat or self.request.get("raw"):
            return None
        tokens = asyncio.ensure_future(seat.inner.prompt_tokens(body))
        tokens.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # an answer may end without it
        return tokens

    async def _context(self, seat: Seat, before: asyncio.Future[list[int]] | None) -> dict[str, Any]:
        """Return the tokens of prompt and answer, which a later request may send back."""
        if before is None:
            return {}
        if self._by_pieces:
            # each is a token's text, most were met before, and the others were asked about while the answer went on
            parts = [await asyncio.shield(seat.inner.piece_tokens(piece)) for piece in self._pieces]
        else:
            parts = [await seat.inner.tokenize("".join(self._pieces), special=False)]
        return {"context": [*await before, *(token for part in parts for token in part)]}

    @property
    def _by_pieces(self) -> bool:
        """Whether a piece of text has the same tokens alone: with byte-level BPE; others put a blank before a text."""
        return self.runner.model.header.metadata.get("tokenizer.ggml.model") == "gpt2"

    def _logprob(self, item: Mapping[str, Any]) -> dict[str, Any]:
        out = {key: item[key] for key in ("token", "logprob", "bytes") if key in item}
        if most := self.request.get("top_logprobs"):
            tops = item.get("top_logprobs", ())[:most]
            out["top_logprobs"] = [{key: top[key] for key in ("token", "logprob", "bytes")} for top in tops]
        return out


def _check_capabilities(
    request: Mapping[str, Any], runner: Runner, *, think: bool | str | None, chat: bool
) -> None:
    name, model = request["model"], runner.model
    quoted = json.dumps(name, ensure_ascii=False)
    if not chat and request.get("raw") and any(request.get(key) for key in ("template", "system", "context")):
        raise ApiError(400, "raw mode does not support template, system, or context")
    if "completion" not in model.capabilities:
        raise ApiError(400, f"{quoted} does not support {'chat' if chat else 'generate'}")
    if think not in (None, False) and "thinking" not in model.capabilities:
        raise ApiError(400, f"{quoted} does not support thinking")
    full = f"registry.ollama.ai/library/{model.name}"
    images = request.get("images") or any(message.get("images") for message in request.get("messages", ()))
    for wanted, capability in (
        (request.get("tools"), "tools"),
        (request.get("suffix"), "insert"),
        (images, "vision"),
    ):
        if wanted and capability not in model.capabilities:
            raise ApiError(400, f"{full} does not support {capability}")
    if request.get("template"):
        raise ApiError(
            400, "the embedded server takes no template; put the whole prompt in 'prompt' with 'raw': true"
        )


def _said(choice: Mapping[str, Any]) -> tuple[str, str]:
    """Return thinking and text of one of llama.cpp's pieces."""
    delta = choice.get("delta") or {}
    return delta.get("reasoning_content") or "", delta.get("content") or choice.get("text") or ""


def _to_openai(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return an Ollama message as llama.cpp reads them."""
    out: dict[str, Any] = {"role": message.get("role", "").lower(), "content": message.get("content", "")}
    if message.get("thinking"):
        out["reasoning_content"] = message["thinking"]
    if message.get("tool_name"):
        out["name"] = message["tool_name"]
    if message.get("tool_call_id"):
        out["tool_call_id"] = message["tool_call_id"]
    if message.get("tool_calls"):
        out["tool_calls"] = [
            {
                "id": call.get("id") or f"call_{index}",
                "type": "function",
                "function": {
                    "name": function.get("name") or "",
                    "arguments": json.dumps(function.get("arguments") or {}),
                },
            }
            for index, call in enumerate(message["tool_calls"])
            for function in [call.get("function") or {}]
        ]
    return out


def _arguments(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except json.JSONDecodeError:  # cut short by the token limit
        return {"": text}

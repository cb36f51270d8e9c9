"""How replies leave: JSON as Go writes it, and answers that are streamed or joined and end when the client goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from analysis_kit.ollama.embedded.asks import ApiError

_T = TypeVar("_T")
_GO_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def to_json(value: Any) -> bytes:
    """Return ``value`` as UTF-8 without blanks, the characters that matter in HTML escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_GO_ESCAPES).encode("utf-8", "replace")


class Json(Response):
    """A JSON reply."""

    media_type = "application/json; charset=utf-8"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return to_json(content)


def native_error(error: ApiError) -> dict[str, Any]:
    """Return the body of an error of ``/api``."""
    return {"error": error.text}


def native_line(piece: dict[str, Any]) -> bytes:
    """Return a piece as a line of an NDJSON stream."""
    return to_json(piece) + b"\n"


class Answer(Response):
    """An answer in pieces: streamed, each sent at once, or joined to one object.

    A client that goes away ends it; a failure before the first piece is a reply with its status, one after it ends the
    stream with its text.

    Parameters
    ----------
    pieces : async generator
        The objects of the answer; closed at the end, however it comes.
    stream : bool
        Whether to send each as it comes.
    join : callable
        Makes the one object of all pieces.
    line, error : callable
        How a streamed piece and an error are written.
    media_type : str
        Of the stream.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[dict[str, Any], None],
        *,
        stream: bool,
        join: Callable[[Sequence[dict[str, Any]]], dict[str, Any]],
        line: Callable[[dict[str, Any]], bytes] = native_line,
        error: Callable[[ApiError], dict[str, Any]] = native_error,
        media_type: str = "application/x-ndjson",
    ) -> None:
        self.pieces = pieces
        self.stream = stream
        self.join = join
        self.line = line
        self.error = error
        self.head = [(b"content-type", media_type.encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, watching for the client to leave."""
        await unless_gone(self._send(scope, receive, send), receive)

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def write(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async with aclosing(self.pieces) as pieces:
            try:
                whole: list[dict[str, Any]] = []
                async for piece in pieces:
                    if not self.stream:
                        whole.append(piece)
                    else:
                        if not started:
                            started = True
                            await send({"type": "http.response.start", "status": 200, "headers": self.head})
                        await write(self.line(piece))
                    if piece.get("done"):
                        break  # what its making leaves to be tidied up, the client need not wait for
                if not self.stream:
                    await Json(self.join(whole))(scope, receive, send)
                    return
                if not started:  # the answer was broken off before anything of it could be shown
                    await send({"type": "http.response.start", "status": 200, "headers": self.head})
            except ApiError as exc:
                if not started:
                    await Json(self.error(exc), status_code=exc.status)(scope, receive, send)
                    return
                await write(self.line(self.error(exc)))
        await send({"type": "http.response.body", "body": b""})


async def unless_gone(work: Coroutine[Any, Any, _T], receive: Receive) -> _T | None:
    """Return the result of ``work``, or None if the client went away first; the work is cancelled then."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.wait({task, gone})
    return None if task.cancelled() else task.result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def join_native(pieces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the one object of a native answer: all text joined, the last piece's metrics."""
    whole = dict(pieces[-1]) if pieces else {}
    if "message" in whole:
        whole["message"] = _joined(whole["message"], [piece["message"] for piece in pieces], "content")
    else:
        whole = _joined(whole, pieces, "response")
    if logprobs := [item for piece in pieces for item in piece.get("logprobs", ())]:
        whole["logprobs"] = logprobs
    return whole


def _joined(whole: dict[str, Any], parts: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    whole = whole | {key: "".join(part[key] for part in parts)}
    if thinking := "".join(part.get("thinking", "") for part in parts):
        whole["thinking"] = thinking
    return whole

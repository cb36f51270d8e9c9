"""The HTTP face: Ollama's endpoints as an ASGI application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from analysis_kit.ollama.embedded import asks
from analysis_kit.ollama.embedded.asks import ApiError
from analysis_kit.ollama.embedded.catalog import short_name
from analysis_kit.ollama.embedded.generation import answer
from analysis_kit.ollama.embedded.runner import Runner

VERSION = "0.33.0"
_GO_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def to_json(value: Any) -> bytes:
    """Return ``value`` as Go writes it: UTF-8, no blanks, and the characters that matter in HTML escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_GO_ESCAPES).encode("utf-8", "replace")


class Json(Response):
    """A JSON reply."""

    media_type = "application/json; charset=utf-8"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return to_json(content)


class Streamed(Response):
    """An answer sent as it comes, or joined to one object; a client that goes away ends it."""

    def __init__(self, pieces: AsyncIterator[dict[str, Any]], *, stream: bool) -> None:
        self.pieces = pieces
        self.stream = stream
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, watching for the client to leave."""
        work = asyncio.ensure_future(self._send(scope, receive, send))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        if not work.cancelled() and (error := work.exception()):
            raise error

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        async with aclosing(self.pieces) as pieces:  # type: ignore[type-var]
            try:
                if not self.stream:
                    await Json(_join([piece async for piece in pieces]))(scope, receive, send)
                    return
                async for piece in pieces:
                    if not started:
                        started = True
                        headers = [(b"content-type", b"application/x-ndjson")]
                        await send({"type": "http.response.start", "status": 200, "headers": headers})
                    await send({"type": "http.response.body", "body": to_json(piece) + b"\n", "more_body": True})
            except ApiError as exc:
                if not started:
                    await Json({"error": exc.text}, status_code=exc.status)(scope, receive, send)
                    return
                await send({"type": "http.response.body", "body": to_json({"error": exc.text}) + b"\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _join(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    whole = dict(pieces[-1])
    if "message" in whole:
        whole["message"] = dict(whole["message"], content="".join(piece["message"]["content"] for piece in pieces))
    else:
        whole["response"] = "".join(piece["response"] for piece in pieces)
    logprobs = [item for piece in pieces for item in piece.get("logprobs", ())]
    if logprobs:
        whole["logprobs"] = logprobs
    return whole


class Api:
    """The endpoints over a set of runners.

    Parameters
    ----------
    runners : mapping
        Lower-case short name -> runner.
    """

    def __init__(self, runners: Mapping[str, Runner]) -> None:
        self.runners = runners

    def find(self, name: str, text: str) -> Runner:
        """Return the runner of a model name, or answer 404 with ``text``."""
        runner = self.runners.get((short_name(name) or "").lower())
        if runner is None:
            raise ApiError(404, text)
        return runner

    async def tags(self, request: Request) -> Response:
        """GET /api/tags."""
        models = [runner.model for runner in self.runners.values()]
        return Json({"models": [await asyncio.to_thread(model.tags_item) for model in models]})

    async def ps(self, request: Request) -> Response:
        """GET /api/ps."""
        loaded = sorted((r for r in self.runners.values() if r.loaded), key=lambda r: r.expires_at, reverse=True)
        return Json({"models": [runner.ps_item() for runner in loaded]})

    async def show(self, request: Request) -> Response:
        """POST /api/show."""
        body = asks.parse_body(await request.body(), "ShowRequest")
        name = body.get("model") or body.get("name") or ""
        if not name:
            raise ApiError(400, "model is required")
        runner = self.find(name, f"model '{name}' not found")
        return Json(runner.model.show(verbose=bool(body.get("verbose"))))

    async def chat(self, request: Request) -> Response:
        """POST /api/chat."""
        body = asks.parse_body(await request.body(), "ChatRequest")
        if not body.get("model"):
            raise ApiError(400, "model is required")
        runner = self.find(body["model"], f"model '{body['model']}' not found")
        return Streamed(answer(body, runner, chat=True), stream=body.get("stream", True))

    async def generate(self, request: Request) -> Response:
        """POST /api/generate."""
        body = asks.parse_body(await request.body(), "GenerateRequest")
        name = body.setdefault("model", "")
        runner = self.find(name, f"model '{name}' not found")
        return Streamed(answer(body, runner, chat=False), stream=body.get("stream", True))


async def _root(request: Request) -> Response:
    return PlainTextResponse("Ollama is running")


async def _version(request: Request) -> Response:
    return Json({"version": VERSION})


async def _api_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, ApiError)
    return Json({"error": exc.text}, status_code=exc.status)


async def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    texts = {404: "404 page not found", 405: "405 method not allowed"}
    return PlainTextResponse(texts.get(exc.status_code, exc.detail), status_code=exc.status_code)


def build_app(runners: Mapping[str, Runner]) -> Starlette:
    """Return the ASGI application that serves ``runners``."""
    api = Api(runners)
    routes = [
        Route("/", _root, methods=["GET"]),
        Route("/api/version", _version, methods=["GET"]),
        Route("/api/tags", api.tags, methods=["GET"]),
        Route("/api/ps", api.ps, methods=["GET"]),
        Route("/api/show", api.show, methods=["POST"]),
        Route("/api/generate", api.generate, methods=["POST"]),
        Route("/api/chat", api.chat, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={ApiError: _api_error, HTTPException: _http_error})

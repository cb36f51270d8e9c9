"""The HTTP face: Ollama's endpoints as an ASGI application."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from analysis_kit.ollama.embedded import asks, openai
from analysis_kit.ollama.embedded.asks import ApiError
from analysis_kit.ollama.embedded.generation import Generation
from analysis_kit.ollama.embedded.guard import Guard
from analysis_kit.ollama.embedded.llama import LlamaError
from analysis_kit.ollama.embedded.replies import Answer, Json, join_native, native_error, unless_gone
from analysis_kit.ollama.embedded.served import Embedded, Served
from analysis_kit.ollama.names import short_name

VERSION = "0.33.0"  #: the Ollama whose protocol this is
_UNSERVED = (
    "pull", "push", "create", "copy", "delete", "status", "me", "signout", "blobs/{rest:path}", "experimental/{rest:path}",
)  # fmt: skip
_UNSERVED_V1 = ("completions", "embeddings", "responses", "audio/transcriptions", "messages")


class Api:
    """The endpoints over the models that are served.

    Parameters
    ----------
    models : mapping
        Lower-case short name -> model.
    """

    def __init__(self, models: Mapping[str, Served]) -> None:
        self.models = models

    def routes(self) -> list[Route]:
        """Return every endpoint."""
        routes = [
            _route("/", _root, "GET", "HEAD"),
            _route("/api/version", _version, "GET", "HEAD"),
            _route("/api/tags", self.tags, "GET", "HEAD"),
            _route("/api/ps", self.ps, "GET"),
            _route("/api/show", self.show, "POST"),
            _route("/api/generate", self.generate, "POST"),
            _route("/api/chat", self.chat, "POST"),
            _route("/api/embed", self.embed, "POST"),
            _route("/api/embeddings", self.embeddings, "POST"),
            _route("/v1/chat/completions", _openai(self.chat_completions), "POST"),
            _route("/v1/models", _openai(self.list_models), "GET"),
            _route("/v1/models/{name:path}", _openai(self.one_model), "GET"),
        ]
        routes += [_route(f"/v1/{path}", _openai(_unserved), "POST") for path in _UNSERVED_V1]
        return routes + [
            _route(f"/api/{path}", _unserved, "GET", "HEAD", "POST", "DELETE") for path in _UNSERVED
        ]

    def find(self, name: str, text: str, *, unnamed: ApiError) -> Served:
        """Return the model of a name, or answer 404 with ``text``."""
        if not name.strip():
            raise unnamed
        short = short_name(name)
        if short is None:
            raise ApiError(400, "invalid model name")
        if (model := self.models.get(short.lower())) is None:
            raise ApiError(404, text)
        return model

    async def tags(self, _request: Request) -> Response:
        """GET /api/tags: the newest file first."""
        models = sorted(
            (each.model for each in self.models.values()), key=lambda model: model.modified_at, reverse=True
        )
        return Json({"models": [await asyncio.to_thread(model.tags_item) for model in models]})

    async def ps(self, _request: Request) -> Response:
        """GET /api/ps: the longest remaining life first."""
        loaded = sorted(
            (each for each in self.models.values() if each.loaded), key=lambda each: each.expires_at
        )
        return Json({"models": [await asyncio.to_thread(each.ps_item) for each in reversed(loaded)]})

    async def show(self, request: Request) -> Response:
        """POST /api/show."""
        body = asks.parse_body(await request.body(), "ShowRequest")
        name = body.get("model") or body.get("name") or ""
        text = f"model '{short_name(name) or name}' not found"
        served = self.find(name, text, unnamed=ApiError(400, "model is required"))
        return Json(served.model.show(system=body.get("system", ""), verbose=body.get("verbose", False)))

    async def generate(self, request: Request) -> Response:
        """POST /api/generate."""
        body = asks.parse_body(await request.body(), "GenerateRequest")
        name = body.setdefault("model", "")
        text = f"model '{name}' not found"
        return await self._answer(body, self.find(name, text, unnamed=ApiError(404, text)), chat=False)

    async def chat(self, request: Request) -> Response:
        """POST /api/chat."""
        body = asks.parse_body(await request.body(), "ChatRequest")
        return await self._answer(body, self._find_chat(body), chat=True)

    async def chat_completions(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        body = asks.parse_body(await request.body(), "ChatCompletionRequest")
        native = asks.check(openai.to_native(body), "ChatRequest")
        generation = Generation(native, self._find_chat(native).answers, chat=True)
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        converter = openai.Converter(native["model"], include_usage=usage)
        pieces = generation.pieces()
        return Answer(
            converter.chunks(pieces) if native["stream"] else pieces,
            stream=native["stream"],
            join=lambda all_pieces: converter.completion(join_native(all_pieces)),
            line=openai.line,
            error=openai.error_body,
            media_type="text/event-stream",
        )

    async def embed(self, request: Request) -> Response:
        """POST /api/embed."""
        arrived = time.monotonic_ns()
        body = asks.parse_body(await request.body(), "EmbedRequest")
        name = body.get("model", "")
        given = body.get("input", [])
        texts = [given] if isinstance(given, str) and given else [] if given == "" else given
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ApiError(400, "invalid input type")
        missing = f'model "{name}" not found, try pulling it first'
        served = self.find(name, missing, unnamed=ApiError(404, "model '' not found"))
        vectors, tokens, load_ns = await _embedded(request, served.embed(body, texts))
        if size := body.get("dimensions", 0):
            vectors = [_unit(vector[:size]) if 0 < size < len(vector) else vector for vector in vectors]
        reply: dict[str, Any] = {"model": name, "embeddings": vectors}
        if texts:
            reply |= {
                "total_duration": time.monotonic_ns() - arrived,
                "load_duration": load_ns,
                "prompt_eval_count": tokens,
            }
        return Json(reply)

    async def embeddings(self, request: Request) -> Response:
        """POST /api/embeddings, the older form."""
        body = asks.parse_body(await request.body(), "EmbeddingRequest")
        name = body.get("model", "")
        missing = f'model "{name}" not found, try pulling it first'
        served = self.find(name, missing, unnamed=ApiError(400, "model is required"))
        texts = [body["prompt"]] if body.get("prompt") else []
        vectors, _, _ = await _embedded(request, served.embed(body, texts))
        return Json({"embedding": vectors[0] if vectors else []})

    async def list_models(self, _request: Request) -> Response:
        """GET /v1/models."""
        return Json(
            {"object": "list", "data": [_openai_model(each) for each in self.models.values()] or None}
        )

    async def one_model(self, request: Request) -> Response:
        """GET /v1/models/:model."""
        name = request.path_params["name"]
        text = f"model '{name}' not found"
        return Json(_openai_model(self.find(name, text, unnamed=ApiError(404, text)), name))

    def _find_chat(self, body: Mapping[str, Any]) -> Served:
        name = body.get("model", "")
        return self.find(name, f"model '{name}' not found", unnamed=ApiError(400, "model is required"))

    async def _answer(self, body: dict[str, Any], served: Served, *, chat: bool) -> Response:
        generation = Generation(body, served.answers, chat=chat)
        if generation.wants_unload:
            await served.expire()
            return Json(generation.alone("unload"))
        # a reply that only loads is one plain object, even where a stream was asked for
        stream = body.get("stream", True) and not generation.empty and not body.get("_debug_render_only")
        return Answer(generation.pieces(), stream=stream, join=join_native)


Endpoint = Callable[[Request], Awaitable[Response]]


def _route(path: str, endpoint: Endpoint, *methods: str) -> Route:
    route = Route(path, endpoint, methods=list(methods))
    route.methods = set(methods)  # Starlette adds HEAD to every GET
    return route


def _openai(endpoint: Endpoint) -> Endpoint:
    """Have an endpoint's errors written as OpenAI does."""

    async def wrapped(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ApiError as exc:
            return Json(openai.error_body(exc), status_code=exc.status)

    return wrapped


def _openai_model(served: Served, name: str | None = None) -> dict[str, Any]:
    created = int(datetime.fromisoformat(served.model.modified_at).timestamp())
    return {"id": name or served.model.name, "object": "model", "created": created, "owned_by": "library"}


async def _embedded(request: Request, work: Coroutine[Any, Any, Embedded]) -> Embedded:
    done = await unless_gone(work, request.receive)
    if done is None:
        raise ApiError(499, "request canceled")
    return done


def _unit(vector: list[float]) -> list[float]:
    norm = max(math.sqrt(sum(value * value for value in vector)), 1e-12)
    return [value / norm for value in vector]


async def _root(_request: Request) -> Response:
    return PlainTextResponse("Ollama is running")


async def _version(_request: Request) -> Response:
    return Json({"version": VERSION})


async def _unserved(request: Request) -> Response:
    raise ApiError(404, f"{request.url.path} is not served here: this is the embedded server of analysis_kit, which answers "
                        "version, tags, show, ps, generate, chat, embed and the OpenAI chat completions")  # fmt: skip


async def _api_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, ApiError)
    return Json(native_error(exc), status_code=exc.status)


async def _llama_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, LlamaError)
    return Json({"error": str(exc)}, status_code=exc.status)


async def _http_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    texts = {404: "404 page not found", 405: "405 method not allowed"}
    text = texts.get(exc.status_code, exc.detail)
    return PlainTextResponse(text, status_code=exc.status_code, headers=exc.headers)


async def _defect(_request: Request, exc: Exception) -> Response:
    return Json({"error": f"{type(exc).__name__}: {exc}"}, status_code=500)  # its traceback goes to the log


def build_app(models: Mapping[str, Served], *, loopback: bool, origins: Sequence[str]) -> Starlette:
    """Return the ASGI application that serves ``models``, on loopback only or to the network, to ``origins`` as well."""
    return Starlette(
        routes=Api(models).routes(),
        middleware=[Middleware(Guard, loopback=loopback, origins=origins)],
        exception_handlers={
            ApiError: _api_error,
            LlamaError: _llama_error,
            HTTPException: _http_error,
            Exception: _defect,
        },
    )

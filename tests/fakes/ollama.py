"""A real HTTP server that plays an Ollama: slots, queue, model loading, streams, errors, and whatever a test scripts.

    with FakeOllama(slots=4, delay_s=0.02, answer=lambda request: request["prompt"].upper()) as fake:
        fake.script("/api/generate", Play(status=503, body={"error": "busy"}), Play(text="second"))
        ...                                   # talk to fake.url
        fake.until(lambda: fake.waiting == 3)  # instead of sleeping
        fake.requests[0].json                  # every request, with arrived / started / ended (perf_counter seconds)

A path without a script answers by the protocol sheet. Times that the fake reports are those that it really spent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import selectors
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

BUSY = "server busy, please try again.  maximum pending requests exceeded"
REASONS = {200: "OK", 302: "Found", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 503: "Busy"}


@dataclass(frozen=True)
class Play:
    """One scripted reply. ``text`` goes the model's way (slot, delay, metrics); ``body`` and ``lines`` are sent as given."""

    text: str | None = None  # the model's answer, streamed or whole as the request asks
    thinking: str = ""  # sent before the text
    fields: Mapping[str, Any] = field(
        default_factory=dict
    )  # put over the last object's fields; None removes one
    status: int = 200
    body: Any = None  # dict or list: JSON; str or bytes: as it is
    lines: Sequence[Any] | None = None  # an NDJSON stream: dicts, or bytes sent as they are
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float | None = None  # before the first byte; None: the server's delay_s
    gate: threading.Event | None = None  # waited for before the first byte
    mid_gate: threading.Event | None = None  # waited for after the first streamed line
    cut_at: int | None = None  # the connection ends after so many bytes of the response
    drop: bool = False  # the connection ends without a byte
    reset: bool = False  # a cut or drop is a RST, not a FIN
    close: bool = False  # the connection is closed after a complete reply, without having said so
    hang: bool = False  # never answered
    chunk_bytes: int | None = None  # written in pieces of this size
    drip_s: float = 0.0  # pause between such pieces


@dataclass
class Logged:
    """One request as it came, and what became of it; times are ``time.perf_counter()`` seconds, 0 until reached."""

    number: int
    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    arrived: float
    json: Any = None
    started: float = 0.0  # got its slot
    ended: float = 0.0
    status: int = 0
    aborted: bool = False  # the client went away first

    @property
    def model(self) -> str:
        return str((self.json or {}).get("model", "")) if isinstance(self.json, dict) else ""


class _GoneError(Exception):
    """The client, or the server's life, ended."""


class _Ticket:
    """What one request waits with: set when its slot is granted, or when its client has gone."""

    __slots__ = ("event", "gone", "granted")

    def __init__(self) -> None:
        self.event = threading.Event()
        self.gone = False
        self.granted = False


class _Watch:
    """One thread that notices clients going away while their requests wait."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._loop, name="fake-ollama-watch", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def over(self, conn: socket.socket, ticket: _Ticket):
        with self._lock:
            self._selector.register(conn, selectors.EVENT_READ, ticket)
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(conn)

    def _loop(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                if not _has_ended(key.fileobj):
                    continue
                with self._lock, contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(key.fileobj)
                key.data.gone = True
                key.data.event.set()

    def close(self) -> None:
        self._wake.send(b"x")
        self._thread.join(5)
        self._selector.close()
        self._wake.close()
        self._woken.close()


class _Out:
    """The response's way out: counts, cuts, drips."""

    def __init__(self, conn: socket.socket, play: Play, closing: threading.Event) -> None:
        self.conn, self.play, self.closing, self.sent = conn, play, closing, 0

    def send(self, data: bytes) -> None:
        play = self.play
        if play.cut_at is not None:
            data = data[: max(0, play.cut_at - self.sent)]
        self.sent += len(data)
        step = play.chunk_bytes or len(data) or 1
        try:
            for start in range(0, len(data), step):
                if start and play.drip_s and self.closing.wait(play.drip_s):
                    raise _GoneError
                self.conn.sendall(data[start : start + step])
        except OSError as exc:
            raise _GoneError from exc
        if play.cut_at is not None and self.sent >= play.cut_at:
            raise _GoneError

    def head(self, status: int, content_type: str, *, length: int | None) -> None:
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        extra = "".join(f"{name}: {value}\r\n" for name, value in self.play.headers.items())
        reason = REASONS.get(status, "Status")
        self.send(
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\n{extra}{framing}\r\n\r\n".encode()
        )

    def whole(self, status: int, body: bytes, content_type: str, *, head_only: bool = False) -> None:
        self.head(status, content_type, length=len(body))
        if not head_only:
            self.send(body)

    def chunk(self, data: bytes) -> None:
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")


class FakeOllama:
    """A threaded HTTP server on loopback that behaves like an Ollama; see the module's head.

    ``slots``: requests a model runs at once, the rest queues silently. ``models``: names, or name -> fields put over its
    tags item. ``answer``: text, or called with the request JSON and returning text or a `Play`; None: a value that fits
    the request's ``format``, else "ok". ``delay_s``: seconds (or called with the request JSON) before the first token,
    ``token_s`` between tokens, ``load_s`` for loading; ``loaded`` False starts cold; ``abort_load``: a client that goes
    away while its model loads ends the load. ``num_ctx`` clips longer prompts as Ollama does; one that is asked for is
    cut to ``trained_ctx``. ``max_queue``: more
    waiting requests than this get 503. ``api_key``: required as bearer token.
    """

    def __init__(
        self,
        *,
        slots: int = 1,
        models: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("fake:latest",),
        answer: str | Callable[[dict[str, Any]], Any] | None = None,
        delay_s: float | Callable[[dict[str, Any]], float] = 0.0,
        token_s: float = 0.0,
        load_s: float = 0.0,
        loaded: bool = True,
        abort_load: bool = False,
        num_ctx: int = 4096,
        trained_ctx: int = 131072,
        version: str = "0.13.5",
        max_queue: int | None = None,
        api_key: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        port: int = 0,
        backlog: int = 2048,
    ) -> None:
        self.slots = slots
        self.models: dict[str, dict[str, Any]] = {
            name: dict(models[name]) if isinstance(models, Mapping) else {} for name in models
        }
        self.answer, self.delay_s, self.token_s, self.load_s = answer, delay_s, token_s, load_s
        self.abort_load, self.version = abort_load, version
        self.num_ctx, self.trained_ctx = num_ctx, trained_ctx
        self.max_queue, self.api_key, self.ssl_context = max_queue, api_key, ssl_context
        self.port, self._backlog = port, backlog
        self.requests: list[Logged] = []
        self.connections = 0  # ever accepted
        self.running = 0
        self.max_running = 0
        self.loads = 0
        self._state = threading.Condition()  # guards all of the above and below; notified on every change
        self._scripts: dict[str, deque[Play | Callable[[Any], Play]]] = defaultdict(deque)
        self._loaded: dict[str, int] = dict.fromkeys(self.models, num_ctx) if loaded else {}
        self._free: dict[str, int] = defaultdict(lambda: self.slots)
        self._queues: dict[str, deque[_Ticket]] = defaultdict(deque)
        self._load_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._open: dict[int, socket.socket] = {}
        self._threads: set[threading.Thread] = set()
        self._closing = threading.Event()

    # life
    def start(self) -> Self:
        """Listen (after `stop`: again, on the same port)."""
        self._closing = threading.Event()
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(self._backlog)
        self.port = self._listener.getsockname()[1]
        self._watch = _Watch()
        self._acceptor = threading.Thread(target=self._accept, name="fake-ollama-accept", daemon=True)
        self._acceptor.start()
        return self

    def stop(self, *, reset: bool = False) -> None:
        """End like a killed server: every connection dies (``reset``: with RST), nothing listens, no thread is left."""
        if self._closing.is_set():
            return
        self._closing.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._acceptor.join(5)
        self._listener.close()
        with self._state:
            tickets = [ticket for queue in self._queues.values() for ticket in queue]
            for conn in self._open.values():
                _end(conn, reset=reset)
            threads = list(self._threads)
        for ticket in tickets:
            ticket.gone = True
            ticket.event.set()
        for thread in threads:
            thread.join(5)
        self._watch.close()
        self._queues.clear()
        self._free.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"{'https' if self.ssl_context else 'http'}://127.0.0.1:{self.port}"

    # what a test says and asks
    def script(self, path: str, *plays: Play | Callable[[Any], Play]) -> None:
        """Queue replies for ``path``, one a request; when they are used up, the path behaves normally again."""
        with self._state:
            self._scripts[path].extend(plays)

    def until(self, true: Callable[[], bool], *, timeout: float = 10.0) -> None:
        """Wait until ``true()``, asked at every change of the server's state."""
        with self._state:
            if not self._state.wait_for(true, timeout):
                raise AssertionError(f"the fake never got there: {self!r}")

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot now."""
        return sum(len(queue) for queue in self._queues.values())

    @property
    def open_connections(self) -> int:
        return len(self._open)

    def asked(self, path: str) -> list[Logged]:
        """Return the requests to ``path`` so far, in order of arrival."""
        return [each for each in self.requests if each.path == path]

    def __repr__(self) -> str:
        return (
            f"<FakeOllama {self.url} requests={len(self.requests)} running={self.running} waiting={self.waiting} "
            f"connections={self.connections} open={self.open_connections}>"
        )

    # the wire
    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            if self._closing.is_set():
                conn.close()
                return
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._state:
                self.connections += 1
                number = self.connections
                self._open[number] = conn
                thread = threading.Thread(
                    target=self._serve, args=(conn, number), name=f"fake-ollama-{number}", daemon=True
                )
                self._threads.add(thread)
                self._state.notify_all()
            thread.start()

    def _serve(self, raw: socket.socket, number: int) -> None:
        conn, reset = raw, False
        try:
            if self.ssl_context is not None:
                conn = self.ssl_context.wrap_socket(raw, server_side=True)
                with self._state:
                    self._open[number] = conn
            buffer = bytearray()
            while not self._closing.is_set():
                logged = self._read(conn, number, buffer)
                if logged is None:
                    break
                keep, reset = self._handle(conn, logged)
                if not keep:
                    break
        except (OSError, _GoneError):
            pass
        finally:
            with self._state:
                self._open.pop(number, None)
                self._threads.discard(threading.current_thread())
                self._state.notify_all()
            _end(conn, reset=reset)
            conn.close()

    def _read(self, conn: socket.socket, number: int, buffer: bytearray) -> Logged | None:
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            data = conn.recv(65536)
            if not data:
                return None
            buffer += data
        first, *rest = bytes(buffer[:end]).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        length = int(headers.get("content-length", 0))
        while len(buffer) < end + 4 + length:
            data = conn.recv(65536)
            if not data:
                return None
            buffer += data
        body = bytes(buffer[end + 4 : end + 4 + length])
        del buffer[: end + 4 + length]
        method, path, _ = first.split(" ", 2)
        with self._state:
            logged = Logged(len(self.requests), number, method, path, headers, body, time.perf_counter())
            with contextlib.suppress(ValueError):
                logged.json = json.loads(body) if body else None
            self.requests.append(logged)
            self._state.notify_all()
        return logged

    def _handle(self, conn: socket.socket, logged: Logged) -> tuple[bool, bool]:
        """Answer one request; return whether the connection goes on, and whether it ends with a RST."""
        with self._state:
            queue = self._scripts.get(logged.path)
            play = queue.popleft() if queue else None
        if play is not None and not isinstance(play, Play):
            play = play(logged.json)
        out = _Out(conn, play or Play(), self._closing)
        try:
            self._play(out, logged, play)
        except _GoneError:
            logged.aborted = not (out.play.cut_at is not None or out.play.drop)
            return False, out.play.reset
        finally:
            with self._state:
                logged.ended = time.perf_counter()
                self._state.notify_all()
        return not out.play.close and logged.headers.get("connection", "").lower() != "close", False

    def _play(self, out: _Out, logged: Logged, play: Play | None) -> None:
        if play is not None and (play.drop or play.hang or play.body is not None or play.lines is not None):
            with self._attending(out.conn) as ticket:
                self._pause(ticket, play.delay_s or 0.0, play.gate)
                if play.hang:
                    self._pause(ticket, None, threading.Event())
                if play.drop:
                    raise _GoneError
                logged.status = play.status
                if play.lines is not None:
                    self._stream(out, list(play.lines), ticket)
                else:
                    body, kind = _body(play.body)
                    out.whole(play.status, body, play.content_type or kind, head_only=logged.method == "HEAD")
            return
        if self.api_key and logged.headers.get("authorization") != f"Bearer {self.api_key}":
            self._reply(out, logged, 401, {"error": "unauthorized"})
            return
        route = _ROUTES.get(logged.path)
        if route is None:
            logged.status = 404
            out.whole(404, b"404 page not found", "text/plain")
        elif logged.method not in route[0]:
            logged.status = 405
            out.whole(405, b"405 method not allowed", "text/plain")
        else:
            route[1](self, out, logged)

    def _reply(self, out: _Out, logged: Logged, status: int, body: Any) -> None:
        logged.status = status
        data, kind = _body(body)
        out.whole(status, data, kind, head_only=logged.method == "HEAD")

    def _stream(self, out: _Out, lines: list[Any], ticket: _Ticket) -> None:
        out.head(out.play.status, out.play.content_type or "application/x-ndjson", length=None)
        waits = self.token_s or out.play.mid_gate
        pending = b""
        for number, line in enumerate(lines):
            data = line if isinstance(line, bytes) else _json(line) + b"\n"
            if waits:
                out.chunk(data)
                if number + 1 < len(lines):
                    self._pause(ticket, self.token_s, out.play.mid_gate if number == 0 else None)
            else:
                pending += f"{len(data):x}\r\n".encode() + data + b"\r\n"
        out.send(pending + b"0\r\n\r\n")

    # waiting
    @contextlib.contextmanager
    def _attending(self, conn: socket.socket):
        ticket = _Ticket()
        with self._watch.over(conn, ticket):
            yield ticket

    def _pause(self, ticket: _Ticket, seconds: float | None, gate: threading.Event | None = None) -> None:
        if gate is not None:
            while not gate.wait(0.005):
                if ticket.gone or self._closing.is_set():
                    raise _GoneError
        if seconds:
            ticket.event.wait(seconds)
        if ticket.gone or self._closing.is_set():
            raise _GoneError

    @contextlib.contextmanager
    def _slot(self, model: str, ticket: _Ticket):
        with self._state:
            if self._closing.is_set():
                raise _GoneError
            granted = self._free[model] > 0
            if granted:
                self._free[model] -= 1
            else:
                self._queues[model].append(ticket)
                self._state.notify_all()
        if not granted:
            ticket.event.wait()
            with self._state:
                granted = ticket.granted
                if not granted:
                    with contextlib.suppress(ValueError):
                        self._queues[model].remove(ticket)
            if not granted:
                raise _GoneError
            if not ticket.gone:
                ticket.event.clear()
        with self._state:
            self.running += 1
            self.max_running = max(self.max_running, self.running)
            self._state.notify_all()
        try:
            yield
        finally:
            with self._state:
                self.running -= 1
                queue = self._queues[model]
                if queue:
                    heir = queue.popleft()
                    heir.granted = True
                    heir.event.set()
                else:
                    self._free[model] += 1
                self._state.notify_all()

    def _load(self, model: str, num_ctx: int, ticket: _Ticket) -> float:
        began = time.perf_counter()
        with self._load_locks[model]:
            if self._loaded.get(model) != num_ctx:
                self.loads += 1
                if self.abort_load:
                    self._pause(ticket, self.load_s)
                elif self.load_s:
                    self._closing.wait(self.load_s)
                self._loaded[model] = num_ctx
        return time.perf_counter() - began

    # the routes
    def _known(self, name: Any) -> str | None:
        wanted = str(name or "").strip()
        for model in self.models:
            if wanted.lower() in (model.lower(), model.lower().removesuffix(":latest")):
                return model
        return None

    def _asked_model(self, out: _Out, logged: Logged) -> str | None:
        """Return the model asked for, or answer with the server's error."""
        request = logged.json
        if not logged.body:
            self._reply(out, logged, 400, {"error": "missing request body"})
        elif not isinstance(request, dict):
            self._reply(out, logged, 400, {"error": "invalid character in request"})
        elif not request.get("model") and logged.path in ("/api/chat", "/api/show"):
            self._reply(out, logged, 400, {"error": "model is required"})
        elif not 0 <= (request.get("top_logprobs") or 0) <= 20:
            self._reply(out, logged, 400, {"error": "top_logprobs must be between 0 and 20"})
        elif (model := self._known(request.get("model"))) is not None:
            return model
        elif logged.path == "/api/embed" and (name := request.get("model")):
            self._reply(out, logged, 404, {"error": f'model "{name}" not found, try pulling it first'})
        else:
            self._reply(out, logged, 404, {"error": f"model '{request.get('model', '')}' not found"})
        return None

    def _complete(self, out: _Out, logged: Logged) -> None:
        model = self._asked_model(out, logged)
        if model is None:
            return
        request, chat = logged.json, logged.path == "/api/chat"
        base = {"model": request["model"], "created_at": "2026-11-25T06:00:00.123Z"}
        prompt = (
            " ".join(str(message.get("content", "")) for message in request.get("messages") or ())
            if chat
            else str(request.get("prompt") or "")
        )
        if not (request.get("messages") if chat else prompt):
            reason = "unload" if request.get("keep_alive") in (0, "0", "0s") else "load"
            self._loaded.pop(model, None) if reason == "unload" else self._loaded.setdefault(
                model, self.num_ctx
            )
            self._reply(
                out, logged, 200, {**base, **_text("", chat=chat), "done": True, "done_reason": reason}
            )
            return
        with self._state:
            full = self.max_queue is not None and self.waiting >= self.max_queue
        if full:
            self._reply(out, logged, 503, {"error": BUSY})
            return
        options = request.get("options") or {}
        num_ctx = min(int(options.get("num_ctx") or self.num_ctx), self.trained_ctx)
        play = out.play
        with self._attending(out.conn) as ticket, self._slot(model, ticket):
            logged.started = time.perf_counter()
            load = self._load(model, num_ctx, ticket)
            loaded_at = time.perf_counter()
            delay = play.delay_s
            if delay is None:
                delay = self.delay_s(request) if callable(self.delay_s) else self.delay_s
            self._pause(ticket, delay, play.gate)
            prompted_at = time.perf_counter()
            text = play.text
            if text is None:
                text = self.answer(request) if callable(self.answer) else self.answer
                if isinstance(text, Play):
                    play = out.play = text
                    self._pause(ticket, play.delay_s or 0.0, play.gate)
                    text = play.text
                    if play.body is not None:
                        self._reply(out, logged, play.status, play.body)
                        return
                if text is None:
                    text = json.dumps(example(request["format"])) if request.get("format") else "ok"
            pieces = _pieces(text)
            limit = int(options.get("num_predict") or -1)
            reason = "stop"
            if 0 <= limit < len(pieces):
                pieces, reason = pieces[:limit], "length"
            logprobs = [_logprob(piece, request) for piece in pieces] if request.get("logprobs") else None
            if self.token_s and not request.get("stream", True):
                self._pause(ticket, self.token_s * max(0, len(pieces) - 1))

            def last() -> dict[str, Any]:
                now = time.perf_counter()
                final = {
                    "done": True,
                    "done_reason": reason,
                    "total_duration": int((now - logged.arrived) * 1e9),
                    "load_duration": int(load * 1e9),
                    "prompt_eval_count": clipped(tokens(prompt), num_ctx),
                    "prompt_eval_duration": int((prompted_at - loaded_at) * 1e9),
                    "eval_count": len(pieces),
                    "eval_duration": int((now - prompted_at) * 1e9),
                    **play.fields,
                }
                return {key: value for key, value in final.items() if value not in (None, 0)}

            logged.status = play.status
            if not request.get("stream", True):
                whole = {**base, **_text("".join(pieces), chat=chat, thinking=play.thinking), **last()}
                if logprobs and "logprobs" not in play.fields:
                    whole["logprobs"] = logprobs
                self._reply(out, logged, play.status, whole)
                return
            thoughts = [_text("", chat=chat, thinking=piece) for piece in _pieces(play.thinking)]
            parts = [_text(piece, chat=chat) for piece in pieces]
            for part, logprob in zip(parts, logprobs or (), strict=False):
                part["logprobs"] = [logprob]
            lines: list[Any] = [{**base, **part, "done": False} for part in thoughts + parts]
            self._stream(out, [*lines, _Late(lambda: {**base, **_text("", chat=chat), **last()})], ticket)

    def _embed(self, out: _Out, logged: Logged) -> None:
        model = self._asked_model(out, logged)
        if model is None:
            return
        given = logged.json.get("input")
        texts = [given] if isinstance(given, str) and given else list(given or [])
        with self._attending(out.conn) as ticket, self._slot(model, ticket):
            logged.started = time.perf_counter()
            self._pause(ticket, self.delay_s(logged.json) if callable(self.delay_s) else self.delay_s)
            body = {
                "model": logged.json["model"],
                "embeddings": [_vector(text, logged.json.get("dimensions") or 8) for text in texts],
                "total_duration": int((time.perf_counter() - logged.arrived) * 1e9),
                "prompt_eval_count": sum(tokens(text) for text in texts),
            }
            self._reply(out, logged, 200, body)

    def _version(self, out: _Out, logged: Logged) -> None:
        self._reply(out, logged, 200, {"version": self.version})

    def _root(self, out: _Out, logged: Logged) -> None:
        self._reply(out, logged, 200, "Ollama is running")

    def item(self, name: str) -> dict[str, Any]:
        """Return the tags item of a model."""
        return {
            "name": name,
            "model": name,
            "modified_at": "2026-11-01T10:00:00.5+01:00",
            "size": 1_000_000,
            "digest": hashlib.sha256(name.encode()).hexdigest(),
            "details": {
                "format": "gguf",
                "family": "llama",
                "parameter_size": "1B",
                "quantization_level": "Q4_0",
            },
            "capabilities": ["completion"],
            **self.models[name],
        }

    def _tags(self, out: _Out, logged: Logged) -> None:
        self._reply(out, logged, 200, {"models": [self.item(name) for name in self.models]})

    def _ps(self, out: _Out, logged: Logged) -> None:
        self._reply(
            out,
            logged,
            200,
            {
                "models": [
                    {
                        **self.item(name),
                        "expires_at": "2026-12-01T00:00:00Z",
                        "size_vram": 0,
                        "context_length": ctx,
                    }
                    for name, ctx in list(self._loaded.items())
                    if name in self.models
                ]
            },
        )

    def _show(self, out: _Out, logged: Logged) -> None:
        model = self._asked_model(out, logged)
        if model is not None:
            item = self.item(model)
            card = {
                "template": "{{ .Prompt }}",
                "details": item["details"],
                "model_info": {"general.architecture": "llama", "llama.context_length": self.num_ctx},
                "capabilities": item["capabilities"],
                "modified_at": item["modified_at"],
            }
            self._reply(out, logged, 200, card)

    def _pull(self, out: _Out, logged: Logged) -> None:
        name = str((logged.json or {}).get("model", ""))
        digest = "sha256:" + hashlib.sha256(name.encode()).hexdigest()
        steps: list[dict[str, Any]] = [
            {"status": "pulling manifest"},
            {"status": f"pulling {digest[7:19]}", "digest": digest, "total": 100, "completed": 40},
            {"status": f"pulling {digest[7:19]}", "digest": digest, "total": 100, "completed": 100},
            {"status": "verifying sha256 digest"},
            {"status": "writing manifest"},
            {"status": "success"},
        ]
        if name.startswith("missing"):
            steps = [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}]
        else:
            self.models.setdefault(name if ":" in name else f"{name}:latest", {})
        logged.status = 200
        if logged.json.get("stream", True):
            with self._attending(out.conn) as ticket:
                self._stream(out, steps, ticket)
        else:
            self._reply(out, logged, 500 if "error" in steps[-1] else 200, steps[-1])


_ROUTES: dict[str, tuple[tuple[str, ...], Callable[[FakeOllama, _Out, Logged], None]]] = {
    "/": (("GET", "HEAD"), FakeOllama._root),
    "/api/version": (("GET", "HEAD"), FakeOllama._version),
    "/api/tags": (("GET", "HEAD"), FakeOllama._tags),
    "/api/ps": (("GET",), FakeOllama._ps),
    "/api/show": (("POST",), FakeOllama._show),
    "/api/generate": (("POST",), FakeOllama._complete),
    "/api/chat": (("POST",), FakeOllama._complete),
    "/api/embed": (("POST",), FakeOllama._embed),
    "/api/pull": (("POST",), FakeOllama._pull),
}


class _Late:
    """A stream's line whose figures are taken when it is sent."""

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self.make = make


def tokens(text: str) -> int:
    """Return the fake's count of a prompt's tokens: 1.3 a word, and one to begin with."""
    return 1 + int(len(text.split()) * 1.3)


def clipped(count: int, num_ctx: int) -> int:
    """Return what is left of ``count`` prompt tokens in a context of ``num_ctx``: blocks of half of it are cut out."""
    if count < num_ctx:
        return count
    keep = 5
    block = (num_ctx - keep) // 2
    return count - (count - keep - block) // block * block


def example(schema: Any, root: Any = None) -> Any:
    """Return a value that fits a JSON Schema."""
    if not isinstance(schema, dict):
        return {}
    root = root or schema
    if "$ref" in schema:
        return example(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return example(schema["anyOf"][0], root)
    kind = schema.get("type")
    if kind == "object":
        return {name: example(each, root) for name, each in schema.get("properties", {}).items()}
    if kind == "array":
        return [example(schema.get("items", {}), root)] * schema.get("minItems", 0)
    if kind in ("number", "integer"):
        low, high = schema.get("minimum", 0), schema.get("maximum", 1)
        return int(low) if kind == "integer" else (low + high) / 2
    return {"boolean": False, "null": None}.get(kind, "text")


def _pieces(text: str) -> list[str]:
    """Cut ``text`` into tokens: a word with the blank before it, so that the pieces joined are the text."""
    words = text.split(" ")
    return [words[0]] * bool(words[0]) + [" " + word for word in words[1:]]


def _text(text: str, *, chat: bool, thinking: str = "") -> dict[str, Any]:
    thought = {"thinking": thinking} if thinking else {}
    return (
        {"message": {"role": "assistant", "content": text, **thought}}
        if chat
        else {"response": text, **thought}
    )


def _logprob(piece: str, request: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"token": piece, "logprob": -0.1, "bytes": list(piece.encode())}
    if request.get("top_logprobs"):
        entry["top_logprobs"] = [{"token": piece, "logprob": -0.1}, {"token": "?", "logprob": -2.4}]
    return entry


def _vector(text: str, size: int) -> list[float]:
    raw = [byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()[:size]]
    norm = sum(value * value for value in raw) ** 0.5
    return [value / norm for value in raw]


def _json(value: Any) -> bytes:
    if isinstance(value, _Late):
        value = value.make()
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode("utf-8", "replace")


def _body(value: Any) -> tuple[bytes, str]:
    if isinstance(value, bytes):
        return value, "application/octet-stream"
    if isinstance(value, str):
        return value.encode(), "text/plain; charset=utf-8"
    return _json(value), "application/json; charset=utf-8"


def _has_ended(conn: socket.socket) -> bool:
    """Return whether the client has closed; a descriptor may have found a new owner since its event was reported."""
    try:
        seen = socket.socket.recv(conn, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return seen in (b"", b"\x15")  # 0x15: a TLS alert


def _end(conn: socket.socket, *, reset: bool) -> None:
    with contextlib.suppress(OSError):
        if reset:  # the closing that follows, on the thread that reads, then sends a RST
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            conn.shutdown(socket.SHUT_RD)
        else:
            conn.shutdown(socket.SHUT_RDWR)

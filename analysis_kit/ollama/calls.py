"""How a client talks: one connection a call at a time, told to whoever watches, moved to another host where there is one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Protocol, Self, TypeVar

from analysis_kit import events
from analysis_kit.errors import (
    AnswerError,
    OllamaError,
    OllamaTimeoutError,
    OllamaUnreachableError,
    StreamBrokenError,
)
from analysis_kit.ollama.durations import duration_s, life_s
from analysis_kit.ollama.faults import OK
from analysis_kit.ollama.names import same_model
from analysis_kit.ollama.reply import NAN, Collector, ModelInfo, Piece, Reply
from analysis_kit.ollama.transport import Transport

T = TypeVar("T")

#: A model that answered this many seconds ago is taken to be in memory still (Ollama keeps it for 300 by default).
_WARM_S = 240.0
#: A prompt of this many tokens may have met a limit that was not asked for: the server's default, or the model's own
#: length, to which a longer ``num_ctx`` is cut without a word. Then the server is asked, for at most so many seconds.
_LONG_PROMPT, _CONTEXT_S = 1024, 3.0
#: Options with which a model is loaded; where one of them changes, a server loads the model anew.
_SHAPE = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict")
#: Connections that one client keeps when many threads have used it at once; a slot of a pool keeps one.
_MOST_KEPT = 16

#: (base URL, model) -> until when (monotonic time) it is in memory, and the shape that it was loaded with.
_warm: dict[tuple[str, str], tuple[float, list[object]]] = {}


class Watcher(Protocol):
    """Whoever hands out a client, and wants to know how its host does."""

    def asks(self, path: str, model: str) -> None:
        """Note what the server is asked beside completions; raise if it may not be."""

    def started(self, path: str, model: str) -> object:
        """Do as `asks` for a completion; what is returned comes back in `finished`."""

    def finished(self, mark: Any, reply: Reply | None, error: BaseException | None) -> None:
        """Note that it is over."""

    def move(self, error: OllamaError, model: str, *, last: bool = False) -> str | None:
        """Return another host's base URL after ``error``, or None if it is to be raised, as the ``last`` one is."""


class Calls:
    """A client's calls to one host at a time.

    Parameters
    ----------
    base_url : callable
        Gives the base URL, on first use.
    connect_timeout_s, read_timeout_s, load_timeout_s : float
        Limits in seconds; ``load_timeout_s`` is added for the first line where the model may have to be loaded.
    api_key : callable
        Base URL -> the key to send there, or None.
    """

    def __init__(
        self,
        base_url: Callable[[], str],
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        load_timeout_s: float,
        api_key: Callable[[str], str | None],
    ) -> None:
        self._resolve = base_url
        self._base: str | None = None
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._load_timeout_s = load_timeout_s
        self.key_for = api_key
        self._spare: list[Transport] = []
        self.most_kept = _MOST_KEPT
        self.flying: set[Transport] = set()  # those with a call under way
        self.watcher: Watcher | None = None
        self.fit = True  # False once a connection failed: a pool then replaces the client
        self.moves = 0  # requests that went on to another host

    @property
    def base_url(self) -> str:
        """The host that is asked."""
        if self._base is None:
            self._base = self._resolve()
        return self._base

    @property
    def known_host(self) -> str | None:
        """The host that is asked, if that is known without starting anything."""
        return self._base

    def abort(self, error: BaseException | None = None) -> None:
        """End every call under way, from any thread; ``error`` is what they raise, by default a cancellation."""
        for transport in tuple(self.flying):
            transport.abort(error)

    def close(self) -> None:
        """Close what is connected; a later call connects anew."""
        self.abort()
        while self._spare:
            self._spare.pop().close()

    def plain(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        model: str = "",
        within_s: float | None = None,
        loads: bool = False,
    ) -> Any:
        """Return the JSON answer of an endpoint that does not stream.

        It has ``within_s`` seconds instead of the read limit, or longer than that where it ``loads`` a model.
        """

        def once() -> Any:
            limit_s = self._first_s(self.base_url, body) if loads and body else within_s
            if self.watcher is not None:
                self.watcher.asks(path, model)
            with self._flight() as transport:
                answer = transport.call(method, path, body, model=model, within_s=limit_s)
            if loads and body:
                _note_warm(transport.base_url, body)
            return answer

        return self._moving(once, model)

    def progress(self, path: str, body: Mapping[str, Any], *, model: str) -> Iterator[dict[str, Any]]:
        """Yield the objects of a progress stream."""
        if self.watcher is not None:
            self.watcher.asks(path, model)
        with self._flight() as transport:
            yield from transport.stream(path, body, model=model)

    def whole(self, path: str, body: dict[str, Any], *, prompt: str) -> Reply:
        """Return a model's whole answer. It is streamed all the same, so that a cancel ends the server's work on it.

        An Ollama ends it at the next token; a prompt that it reads it reads to the end first (measured on v0.24.0).
        """

        def once() -> Reply:
            pieces = self._pieces(path, body, prompt)
            while True:
                try:
                    next(pieces)
                except StopIteration as stop:
                    reply: Reply = stop.value
                    return reply

        return self._moving(once, body["model"])

    def pieces(self, path: str, body: dict[str, Any], *, prompt: str) -> Generator[Piece, None, Reply]:
        """Yield a model's answer piece by piece; the generator's value is the whole reply."""
        moved = False
        while True:
            pieces = self._pieces(path, body, prompt)
            try:
                first = next(pieces)
            except StopIteration as stop:
                reply: Reply = stop.value
                return reply
            except OllamaError as exc:
                if not self._moved(exc, body["model"], last=moved):
                    raise
                moved = True
            else:
                yield first
                return (yield from pieces)

    def _pieces(self, path: str, body: dict[str, Any], prompt: str) -> Generator[Piece, None, Reply]:
        model, host = body["model"], self.base_url
        asked = body.get("options", {}).get("num_ctx")
        collector = Collector(
            host=host,
            model=model,
            prompt=prompt,
            num_ctx=asked if isinstance(asked, int) else None,  # anything else is the server's to refuse
            chat=path == "/api/chat",
        )
        reply: Reply | None = None
        error: BaseException | None = None
        first_s, watcher = NAN, self.watcher
        mark = None if watcher is None else watcher.started(path, model)
        began = time.perf_counter()
        try:
            with self._flight() as transport:
                for item in transport.stream(path, body, model=model, first_s=self._first_s(host, body)):
                    piece = collector.add(item)
                    if piece is not None:
                        if first_s != first_s:  # noqa: PLR0124 - NaN until the first piece
                            first_s = time.perf_counter() - began
                        yield piece
            elapsed_s = time.perf_counter() - began
            _note_warm(host, body)
            if collector.prompt_tokens >= _LONG_PROMPT:
                collector.num_ctx = self._context(model, collector.num_ctx)
            reply = collector.reply(elapsed_s=elapsed_s, first_token_s=first_s)
        except BaseException as exc:
            if isinstance(exc, (OllamaError, AnswerError)) and not exc.text:
                exc.text = collector.text
            error = exc
            raise
        else:
            return reply
        finally:
            elapsed_s = time.perf_counter() - began
            if watcher is not None:
                watcher.finished(mark, reply, error)
            if events.listening():
                events.emit(_event(host, model, path, elapsed_s, reply=reply, error=error))

    def _context(self, model: str, asked: int | None) -> int | None:
        """Return the context that the server gave ``model``: its own choice, or less than ``asked``; that if it does not say."""
        # what fails here, or has another form, tells nothing; the answer itself is whole
        with contextlib.suppress(OllamaError, AnswerError, AttributeError, TypeError, ValueError):
            with self._flight() as transport:
                listed = transport.call("GET", "/api/ps", within_s=_CONTEXT_S).get("models")
            for info in map(ModelInfo.read, listed or ()):
                given = info.context_length
                if isinstance(given, int) and given > 0 and same_model(info.name, model):
                    return min(given, asked or given)
        return asked

    def _first_s(self, host: str, body: Mapping[str, Any]) -> float:
        until, shape = _warm.get((host, body["model"]), (0.0, None))
        warm = time.monotonic() < until and shape == _shape(body)
        return self._read_timeout_s if warm else self._read_timeout_s + self._load_timeout_s

    @contextlib.contextmanager
    def _flight(self) -> Iterator[Transport]:
        try:
            transport = self._spare.pop()
        except IndexError:
            transport = Transport(
                self.base_url,
                connect_timeout_s=self._connect_timeout_s,
                read_timeout_s=self._read_timeout_s,
                api_key=self.key_for(self.base_url),
            )
        self.flying.add(transport)
        try:
            yield transport
        except BaseException as exc:
            if not (isinstance(exc, OllamaError) and exc.status not in (None, OK)):
                self.fit = False
            if isinstance(exc, (OllamaUnreachableError, StreamBrokenError)):
                self._base = None  # the embedded server may come back at another port
            if isinstance(exc, (OllamaUnreachableError, StreamBrokenError, OllamaTimeoutError)):
                for known in [each for each in tuple(_warm) if each[0] == transport.base_url]:
                    _warm.pop(known, None)  # it may have been started anew, or be busy with another model
            raise
        finally:
            self.flying.discard(transport)
            if len(self._spare) < self.most_kept and transport.base_url == self._base:
                self._spare.append(transport)
            else:
                transport.close()

    def _moving(self, once: Callable[[], T], model: str) -> T:
        try:
            return once()
        except OllamaError as exc:
            if not self._moved(exc, model):
                raise
        try:
            return once()
        except OllamaError as exc:
            self._moved(exc, model, last=True)
            raise

    def _moved(self, error: OllamaError, model: str, *, last: bool = False) -> bool:
        host = None if self.watcher is None else self.watcher.move(error, model, last=last)
        if host is None:
            return False
        while self._spare:
            self._spare.pop().close()
        self._base = host
        self._resolve = lambda: host  # not the first one again, whatever happens
        self.fit = True
        self.moves += 1
        return True


class ReplyStream(Iterator[Piece]):
    """A model's answer as it comes: iterate over its pieces, then read ``reply``. Leaving early ends the generation.

    Examples
    --------
    >>> with OllamaClient().generate("Tell me a story.", stream=True) as pieces:  # doctest: +SKIP
    ...     for piece in pieces:
    ...         print(piece.text, end="")
    """

    def __init__(self, pieces: Generator[Piece, None, Reply]) -> None:
        self._pieces = pieces
        self.reply: Reply | None = None

    def __next__(self) -> Piece:
        try:
            return next(self._pieces)
        except StopIteration as stop:
            if stop.value is not None:
                self.reply = stop.value
            raise StopIteration from None

    def close(self) -> None:
        """End the generation, if it still runs."""
        self._pieces.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _shape(body: Mapping[str, Any]) -> list[object]:
    options = body.get("options") or {}
    return [body.get("shift"), *map(options.get, _SHAPE)]


def _note_warm(host: str, body: Mapping[str, Any]) -> None:
    until = time.monotonic() + min(_WARM_S, 0.8 * _memory_s(body.get("keep_alive")))
    _warm[host, body["model"]] = (until, _shape(body))


def _memory_s(keep_alive: object) -> float:
    """Return the seconds that a model stays in memory for; 0 where ``keep_alive`` is in no form that is known here."""
    if keep_alive is None:
        return _WARM_S / 0.8
    try:
        seconds = duration_s(keep_alive) if isinstance(keep_alive, str) else float(keep_alive)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0
    return life_s(seconds)


def _event(
    host: str, model: str, path: str, elapsed_s: float, *, reply: Reply | None, error: BaseException | None
) -> events.RequestFinished:
    if reply is None:
        kind = type(error).__name__ if error is not None else None
        return events.RequestFinished(host, model, path, elapsed_s, ok=False, error_type=kind)
    return events.RequestFinished(
        host,
        model,
        path,
        elapsed_s,
        ok=True,
        queue_s=reply.queue_s,
        load_s=reply.load_s,
        prompt_s=reply.prompt_s,
        generate_s=reply.generate_s,
        first_token_s=reply.first_token_s,
        prompt_tokens=reply.prompt_tokens,
        generated_tokens=reply.generated_tokens,
    )

"""The wire: JSON over one `requests.Session` with one connection; what fails is named in `faults`.

Three limits bound a call: connecting, the first line of the answer, each further line. Answers are bounded in size.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import requests
import urllib3

from analysis_kit.cancellation import current_token
from analysis_kit.errors import AnalysisKitError, ConfigurationError, OllamaError
from analysis_kit.ollama.faults import FOREIGN, OK, Faults
from analysis_kit.ollama.host import is_loopback
from analysis_kit.ollama.line import BUFFER_BYTES, Line, LineAdapter
from analysis_kit.ollama.text import clean

_log = logging.getLogger(__name__)

#: More than this is no answer: a line (the official Go client takes as much), and a whole answer, in bytes.
MAX_LINE_BYTES = 8 * 2**20
MAX_ANSWER_BYTES = 64 * 2**20
#: After an answer's last line the connection has this many seconds to end the response, or is not used again.
TAIL_S = 1.0

_ERROR_BYTES = 65536


def encode(body: Mapping[str, Any]) -> bytes:
    """Return ``body`` as JSON bytes.

    Raises
    ------
    ConfigurationError
        If it holds what JSON cannot carry (NaN, infinity, objects).
    """
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(f"the request cannot be written as JSON: {exc}") from exc
    try:
        return text.encode()
    except UnicodeEncodeError:
        return clean(text).encode()


class Transport:
    """One Session with one connection to one server. One call at a time; `abort` may come from any thread.

    Parameters
    ----------
    base_url : str
        As `host.parse_host` returns it.
    connect_timeout_s, read_timeout_s : float
        Seconds for connecting, and for each line of an answer.
    api_key : str, optional
        Sent as bearer token; redirects are never followed, so that it goes nowhere else.
    """

    def __init__(
        self, base_url: str, *, connect_timeout_s: float, read_timeout_s: float, api_key: str | None = None
    ) -> None:
        self.base_url = base_url
        self.connect_timeout_s = connect_timeout_s
        self.read_timeout_s = read_timeout_s
        self._api_key = api_key
        self.faults = Faults(
            base_url, connect_timeout_s=connect_timeout_s, read_timeout_s=read_timeout_s, api_key=api_key
        )
        self._line = Line()
        self._templates: dict[tuple[str, str], requests.PreparedRequest] = {}
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._session = requests.Session()
        self._session.trust_env = not is_loopback(self.base_url)
        self._session.headers.clear()
        self._session.headers.update(
            {
                "User-Agent": "analysis-kit",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
            }
        )
        if self._api_key:
            self._session.headers["Authorization"] = f"Bearer {self._api_key}"
        self._adapter = LineAdapter(self._line)
        self._session.mount(self.base_url, self._adapter)
        # read from the environment once: looking it up costs as much as the rest of a request
        self._settings: dict[str, Any] = dict(
            self._session.merge_environment_settings(self.base_url, {}, True, None, None)
        )

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        model: str = "",
        within_s: float | None = None,
    ) -> dict[str, Any]:
        """Return the JSON object that the server answers with; for endpoints that do not stream.

        It has ``within_s`` seconds, by default the read limit.

        Raises
        ------
        OllamaError
            Or one of its kinds, with host, model, status and the server's own words.
        InvalidAnswerError
            If the answer is beyond the size limit.
        """
        with self._flight(model, self.read_timeout_s if within_s is None else within_s) as flight:
            answer = flight.parse(b"".join(flight.chunks(method, path, body)))
            if answer.get("error") is not None:
                raise self.faults.broken_off(answer["error"], model=model)
            return answer

    def stream(
        self, path: str, body: Mapping[str, Any], *, model: str = "", first_s: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the objects of an NDJSON answer; closing the iterator early ends the server's work on it.

        Parameters
        ----------
        path, body
            The endpoint and its request.
        model : str, default ""
            Named in errors.
        first_s : float, optional
            Seconds until the first line; default the read limit.

        Raises
        ------
        OllamaError
            As `call`; and `StreamBrokenError` where the server reports an error after the start, or just ends.
        """
        with self._flight(model, self.read_timeout_s if first_s is None else first_s) as flight:
            for line in flight.lines(path, body):
                item = flight.parse(line)
                if item.get("error") is not None:
                    raise self.faults.broken_off(item["error"], model=model)
                yield item
                if item.get("done") is True:
                    flight.finish()
                    return

    @contextlib.contextmanager
    def _flight(self, model: str, first_s: float) -> Iterator[_Flight]:
        if os.getpid() != self._pid:
            # a forked child must not speak on its parent's connection
            self._line.forget()
            self._start()
        token = current_token.get()
        if token is not None:
            token.raise_if_cancelled()
        flight = _Flight(self, model)
        self._line.begin(first_s, self.read_timeout_s)
        try:
            with token.on_cancel(self.abort) if token is not None else contextlib.nullcontext():
                yield flight
        except Exception as exc:
            if self._line.aborted and not flight.complete:
                raise self.faults.aborted(self._line) from exc
            if isinstance(exc, FOREIGN) and not isinstance(exc, AnalysisKitError):
                # what lies below is in its own words already; shown as well, it hides ours under 130 lines more
                exc.__suppress_context__ = True
                raise self.faults.translated(exc, self._line, model=model) from exc
            raise
        finally:
            self._line.end()
            flight.close()
        if self._line.aborted and not flight.complete:
            raise self.faults.aborted(self._line)

    def abort(self, error: BaseException | None = None) -> None:
        """End the call in flight at once, if there is one; callable from any thread. ``error`` is what it raises there."""
        if os.getpid() == self._pid:
            self._line.abort(error)

    def close(self) -> None:
        """Close the connection."""
        if os.getpid() == self._pid:
            self._session.close()
        else:
            self._line.forget()

    # sending
    def send(self, method: str, path: str, data: bytes | None) -> requests.Response:
        """Send once; twice if a kept connection turns out to be closed before any byte of an answer has come."""
        kind = (method, path)
        template = self._templates.get(kind)
        if template is None:
            request = requests.Request(method, self.base_url + path, headers=dict(self._session.headers))
            template = self._templates[kind] = request.prepare()
        prepared = template.copy()
        if data is not None:
            prepared.body = data
            prepared.headers["Content-Length"] = str(len(data))
        try:
            return self._send(prepared)
        except (requests.ConnectionError, urllib3.exceptions.ProtocolError):
            line = self._line
            reused = not (line.fresh or line.connecting)
            if not reused or line.received or not line.again():
                raise
            _log.debug(
                "%s closed a kept connection; sending anew", self.base_url, extra={"host": self.base_url}
            )
            return self._send(prepared)

    def _send(self, prepared: requests.PreparedRequest) -> requests.Response:
        try:
            return self._adapter.send(
                prepared,
                stream=True,
                timeout=(self.connect_timeout_s, self.read_timeout_s),
                verify=self._settings["verify"],
                cert=self._settings["cert"],
                proxies=self._settings["proxies"],
            )
        except requests.RequestException as exc:
            exc.request = None  # its headers hold the key
            raise

    def __repr__(self) -> str:
        return f"<Transport {self.base_url}>"


class _Flight:
    """One call under way: its response, read within the bounds."""

    def __init__(self, transport: Transport, model: str) -> None:
        self._transport = transport
        self._line = transport._line  # noqa: SLF001 - a flight is the transport's own
        self._model = model
        self._response: requests.Response | None = None
        self._ended = False
        self.complete = False

    def chunks(self, method: str, path: str, body: Mapping[str, Any] | None) -> Iterator[bytes]:
        """Send, and yield the answer's bytes as they come."""
        response = self._response = self._transport.send(method, path, None if body is None else encode(body))
        if response.status_code != OK:
            raise self._refused(response)
        size = 0
        # asked for as it is, an answer may still be compressed by a proxy on the way
        while chunk := response.raw.read1(BUFFER_BYTES, decode_content=True):
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise self._transport.faults.too_long(MAX_ANSWER_BYTES, model=self._model)
            yield chunk
        if not size and response.raw.length_remaining is None and not response.raw.chunked:
            # http.client takes a head that was cut for a short one
            raise http.client.IncompleteRead(b"")
        self._ended = True
        self.complete = not self._line.aborted

    def lines(self, path: str, body: Mapping[str, Any]) -> Iterator[bytes]:
        """Yield the answer's lines, wherever the network cut them; what no newline ends is a line too."""
        rest = bytearray()
        for chunk in self.chunks("POST", path, body):
            if b"\n" not in chunk:
                rest += chunk
            else:
                first, *whole = chunk.split(b"\n")
                rest += first
                for line in (bytes(rest), *whole[:-1]):
                    if line.strip():
                        yield line
                        self._line.progress()
                rest = bytearray(whole[-1])
            if len(rest) > MAX_LINE_BYTES:
                raise self._transport.faults.too_long(MAX_LINE_BYTES, model=self._model)
        if rest.strip():
            yield bytes(rest)

    def finish(self) -> None:
        """Read what the server sends after the last line of a complete answer: nothing, if the connection is to live on."""
        self.complete = True
        self._line.deadline = time.monotonic() + TAIL_S
        try:
            self._ended = self._response is not None and not self._response.raw.read(
                BUFFER_BYTES, decode_content=True
            )
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            host = self._transport.base_url
            _log.debug("%s did not end its response: %s", host, exc, extra={"host": host, "error": str(exc)})

    def parse(self, data: bytes) -> dict[str, Any]:
        """Return the JSON object that ``data`` is."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return value
        kind = self._response.headers.get("content-type", "") if self._response is not None else ""
        raise self._transport.faults.not_json(data, kind, model=self._model)

    def _refused(self, response: requests.Response) -> OllamaError:
        body = b""
        with contextlib.suppress(*FOREIGN):  # the status says enough where its text cannot be read
            body = response.raw.read(_ERROR_BYTES, decode_content=True)
        return self._transport.faults.refused(
            response.status_code, body, headers=response.headers, model=self._model
        )

    def close(self) -> None:
        """Give the connection back, or end it where the answer was not read to its end."""
        if self._response is not None and not self._ended:
            self._response.close()

"""The ONE place where errors of requests and urllib3, and error answers of a server, become this package's errors.

Each carries host, model, status and the server's own words; none carries the key.
"""

from __future__ import annotations

import errno
import http.client
import json
import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from analysis_kit.cancellation import current_token
from analysis_kit.errors import (
    ConfigurationError,
    InvalidAnswerError,
    ModelNotFoundError,
    OllamaError,
    OllamaTimeoutError,
    OllamaUnreachableError,
    ServerBusyError,
    StreamBrokenError,
)
from analysis_kit.ollama.line import Line
from analysis_kit.ollama.text import clean

OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _NO_METHOD, _TOO_LARGE = 200, 401, 403, 404, 405, 413
_BUSY = frozenset({429, 503})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NO_MODEL = re.compile(r"model .*not found", re.IGNORECASE | re.DOTALL)
#: Endpoints that are pasted along with an address, "http://gpu1:11434/v1".
_OWN_PATH = re.compile(r"/(?:v1|api)(?:/.*)?$")
_SHOWN_CHARACTERS = 500

#: What requests, urllib3 and the socket below them raise.
FOREIGN = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)
#: What they raise where an address, of the server or of a proxy, is none that they know how to reach.
_UNUSABLE = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    urllib3.exceptions.LocationParseError,
)


class Faults:
    """Says what went wrong with one server.

    Parameters
    ----------
    host : str
        Its base URL.
    connect_timeout_s, read_timeout_s : float
        The limits, for the messages.
    api_key : str, optional
        Struck out of whatever the server says.
    """

    def __init__(
        self, host: str, *, connect_timeout_s: float, read_timeout_s: float, api_key: str | None
    ) -> None:
        self.host = host
        self.connect_timeout_s = connect_timeout_s
        self.read_timeout_s = read_timeout_s
        self._api_key = api_key

    def words(self, text: str) -> str:
        """Return what a server said fit for a message: short, on one line, without the key, should it echo it."""
        if self._api_key:
            text = text.replace(self._api_key, "***")
        text = clean(text).strip()
        if "\n" in text:
            text = " ".join(text.split())
        return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " ..."

    def refused(self, status: int, body: bytes, *, headers: Mapping[str, str], model: str) -> OllamaError:
        """Return the error that an answer with another status than 200 means."""
        text, fields = _error_text(body)
        words = self.words(text)
        said = f": {words}" if words else ""
        facts: dict[str, Any] = {"host": self.host, "model": model, "status": status, "server_text": words}
        if status in _BUSY:
            pause = self.words(headers.get("retry-after", ""))
            later = f"later (Retry-After: {pause})" if pause else "later"
            return ServerBusyError(
                f"{self.host} is busy{_of(model)} (status {status}){said}; ask for less at once, or {later}",
                retry_after_s=_seconds_until(pause),
                **facts,
            )
        if status == _NOT_FOUND and _NO_MODEL.search(words):
            return ModelNotFoundError(
                f"{self.host} has no model {model!r} (status 404{said}); get it with: ollama pull {model}",
                **facts,
            )
        hint = ""
        if status == _UNAUTHORIZED:
            place = self.words(str(fields.get("signin_url") or ""))
            hint = f"; {f'sign in at {place} or ' if place else ''}give the key of this host as api_key= of the client, or of the pool "
            hint += "(for a run: pool=OllamaConnectionPool(hosts=..., api_key=...))"
        elif status == _FORBIDDEN and not words:
            hint = "; the server does not take requests from here"
        elif status in _REDIRECTS:
            place = self.words(headers.get("location", ""))
            hint = f"; it points to {place!r}: name the server itself as the host"
        elif status == _TOO_LARGE:
            hint = "; the request is larger than something on the way lets through: shorten the text"
        elif not words or words.startswith(("404 page", "<")):
            own = _OWN_PATH.search(urlsplit(self.host).path) if status in (_NOT_FOUND, _NO_METHOD) else None
            hint = (
                f"; an Ollama's address ends before {own[0]}"
                if own
                else "; is an Ollama server at this address?"
            )
        return OllamaError(
            f"{self.host} failed the request{_of(model)} with status {status}{said}{hint}", **facts
        )

    def translated(self, exc: Exception, line: Line, *, model: str) -> Exception:
        """Return the error that ``exc``, one of `FOREIGN`, means at this point of the call."""
        facts: dict[str, Any] = {"host": self.host, "model": model}
        bottom = _bottom(exc)
        why = self.words(_reason(bottom))
        if isinstance(exc, _UNUSABLE):
            return ConfigurationError(
                f"the host {self.host}, or the proxy that the environment names for it, cannot be used: {why}"
            )
        if line.connecting:
            limit = (
                f" within {self.connect_timeout_s:g} s" if isinstance(exc, requests.ConnectTimeout) else ""
            )
            proxied = isinstance(exc, requests.exceptions.ProxyError)
            through = " through the proxy that the environment names" if proxied else ""
            if crash := self._crash():
                return OllamaUnreachableError(
                    f"{self.host} does not answer ({why}): {crash} The next call starts it again, once",
                    **facts,
                )
            return OllamaUnreachableError(
                f"no Ollama server answers at {self.host}{limit}{through} ({why}): start Ollama there, set OLLAMA_HOST "
                "to the address of one, or use hosts='embedded'",
                **facts,
            )
        # the system's own word, after probes without an answer: the host is away, not slow
        gone = getattr(bottom, "errno", None) == errno.ETIMEDOUT
        if isinstance(exc, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)) and not gone:
            when = "gone on with its answer" if line.received else "begun to answer"
            return OllamaTimeoutError(
                f"{self.host} has not {when}{_of(model)} within {line.limit_s:g} s (read_timeout_s={self.read_timeout_s:g}); "
                "give it more time, or fewer requests at once",
                **facts,
            )
        part = "in the middle of its answer" if line.received else "without an answer"
        crash = self._crash()
        return StreamBrokenError(
            f"{self.host} ended the connection {part}{_of(model)} ({why}){crash and f': {crash}'}", **facts
        )

    def broken_off(self, error: object, *, model: str) -> StreamBrokenError:
        """Return the error for an error object in the middle of a stream."""
        words = self.words(_said(error))
        return StreamBrokenError(
            f"{self.host} broke off its answer{_of(model)}: {words}",
            host=self.host,
            model=model,
            status=OK,
            server_text=words,
        )

    def not_json(self, data: bytes, content_type: str, *, model: str) -> OllamaError:
        """Return the error for an answer that is not Ollama's JSON."""
        words = self.words(data[:_SHOWN_CHARACTERS].decode("utf-8", "replace"))
        return OllamaError(
            f"{self.host} answered with something else than Ollama's JSON ({content_type or 'no content type'}): "
            f"{words[:120]!r}; is a proxy or another server at this address?",
            host=self.host,
            model=model,
            status=OK,
            server_text=words,
        )

    def too_long(self, limit_bytes: int, *, model: str) -> InvalidAnswerError:
        """Return the error for an answer beyond the size limit; it would be as long the next time."""
        return InvalidAnswerError(
            f"{self.host} sent more than {limit_bytes // 2**20} MiB{_of(model)} without an end; the call was ended",
            model=model,
            host=self.host,
        )

    def aborted(self, line: Line) -> BaseException:
        """Return what an aborted call raises: the token's error, else the abort's own, else a cancellation."""
        token = current_token.get()
        if token is not None and token.error is not None:
            return token.error
        if line.abort_error is not None:
            return line.abort_error
        from asyncio import CancelledError

        return CancelledError(f"the call to {self.host} was aborted")

    def _crash(self) -> str:
        """Return how the embedded server at this host ended, with the name of its log; empty if it did not."""
        from analysis_kit.ollama.embedded import crash_note

        return crash_note(self.host) or ""


def _of(model: str) -> str:
    return f" for model {model!r}" if model else ""


def _error_text(raw: bytes) -> tuple[str, Mapping[str, Any]]:
    """Return the words of an error body (``{"error": text}``, the OpenAI form, or the body itself), and its fields."""
    text = raw.decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return text, {}
    if not isinstance(body, dict):
        return text, {}
    error = body.get("error")
    return _said(body.get("message") or text if error is None else error), body


def _said(error: object) -> str:
    return str(error.get("message") or error if isinstance(error, dict) else error)


def _seconds_until(text: str) -> float | None:
    """Return the seconds that a Retry-After means: a number of them, or a date (RFC 9110, 10.2.3); None for anything else."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
        return max(0.0, seconds)
    return seconds if 0 <= seconds < math.inf else None


def _bottom(exc: BaseException) -> BaseException:
    """Return the exception at the bottom of ``exc``."""
    seen: set[int] = set()
    deepest: BaseException = exc
    while id(deepest) not in seen:
        seen.add(id(deepest))
        inner = [getattr(deepest, "reason", None), *deepest.args, deepest.__cause__, deepest.__context__]
        fresh = (each for each in inner if isinstance(each, BaseException) and id(each) not in seen)
        deepest = next(fresh, deepest)
    return deepest


def _reason(exc: BaseException) -> str:
    """Return ``exc`` in a few words, without addresses of objects."""
    words = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    return re.sub(r"<[^<>]*>:?\s*", "", str(words))[:_SHOWN_CHARACTERS]

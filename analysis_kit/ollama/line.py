"""One connection under control: another thread can abort it at any moment, and no read outlasts its deadline.

requests offers neither: closing a Session does not wake a blocked read, and its read limit starts anew with every byte.
So the adapter here makes urllib3 use connections that tell a `Line` about their socket.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from analysis_kit.ollama.dial import dial

#: Bytes read from the socket at once.
BUFFER_BYTES = 65536

#: A host that went away without a word is noticed after two minutes, however long a model may think: while nothing is
#: sent by the system's probes (seconds), else because what was sent is not acknowledged (milliseconds).
_NOTICED = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 120_000}
_OPTIONS = [
    *HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, option), value)
        for option, value in _NOTICED.items()
        if hasattr(socket, option)
    ),
]


class Line:
    """What is known about a transport's one socket.

    Attributes
    ----------
    busy, aborted : bool
        Whether a call is in flight, and whether it was aborted.
    connecting, fresh, received : bool
        Of the call in flight: a connect was begun and not finished; a connect was finished; a byte of the answer came.
    deadline, limit_s : float
        ``time.monotonic()`` after which reading fails, and how many seconds there were until then.
    """

    __slots__ = (
        "_lock",
        "_sock",
        "abort_error",
        "aborted",
        "busy",
        "connecting",
        "deadline",
        "fresh",
        "limit_s",
        "read_timeout_s",
        "received",
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _sock, busy and aborted: abort() comes from any thread
        self._sock: socket.socket | None = None
        self.busy = False
        self.aborted = False
        self.abort_error: BaseException | None = None
        self.connecting = False
        self.fresh = False
        self.received = False
        self.read_timeout_s = self.limit_s = self.deadline = 0.0

    def begin(self, wait_s: float, read_timeout_s: float) -> None:
        """Note that a call begins; ``wait_s`` bounds the time to the first line, ``read_timeout_s`` each further one."""
        with self._lock:
            self.busy = True
            self.aborted = False
            self.abort_error = None
        self.connecting = self.fresh = self.received = False
        self.read_timeout_s = read_timeout_s
        self.limit_s = wait_s
        self.deadline = time.monotonic() + wait_s

    def again(self) -> bool:
        """Ready the call for a second sending; False if it was aborted."""
        self.connecting = self.fresh = False
        return not self.aborted

    def progress(self) -> None:
        """Give the next line its full time."""
        self.limit_s = self.read_timeout_s
        self.deadline = time.monotonic() + self.limit_s

    def end(self) -> None:
        """Note that the call is over; an abort that comes now does nothing."""
        with self._lock:
            self.busy = False

    def abort(self, error: BaseException | None = None) -> None:
        """End the call in flight, if there is one; from any thread. ``error`` is the reason; the first one stays."""
        with self._lock:
            if self.busy and not self.aborted:
                self.aborted = True
                self.abort_error = error
                if self._sock is not None:
                    _shutdown(self._sock)

    def opened(self, sock: Any) -> None:
        """Take note of the socket that the call in flight uses from now on."""
        with self._lock:
            self._sock = sock
            if self.aborted and sock is not None:
                _shutdown(sock)

    def forget(self) -> None:
        """Let go of a socket that a forked child inherited: the connection stays the parent's."""
        self._lock = threading.Lock()
        sock, self._sock = self._sock, None
        if sock is not None:
            with contextlib.suppress(OSError):
                os.close(sock.detach())


def _shutdown(sock: Any) -> None:
    # An SSLSocket's own shutdown() would pull its TLS state away under the reading thread: the plain one leaves it alone.
    raw = getattr(sock, "socket", sock)
    with contextlib.suppress(OSError):
        socket.socket.shutdown(raw, socket.SHUT_RDWR)


class _Reader(io.RawIOBase):
    """Reads from a socket until the line's deadline, however many bytes drip in before it."""

    def __init__(self, sock: Any, line: Line) -> None:
        self._raw = sock.makefile("rb", buffering=0)
        self._sock = sock
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._line.deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the time to read is over")
        self._sock.settimeout(left_s)
        count: int | None = self._raw.readinto(buffer)
        if count:
            self._line.received = True
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Readable:
    """Stands for the socket where http.client asks for a file to read the answer from."""

    def __init__(self, sock: Any, line: Line) -> None:
        self._sock = sock
        self._line = line

    def makefile(self, mode: str) -> io.BufferedReader:
        del mode  # http.client only reads
        return io.BufferedReader(_Reader(self._sock, self._line), BUFFER_BYTES)


class _Answer(http.client.HTTPResponse):
    """An answer; one whose head the connection's end has cut is an error here, where urllib3 would warn and go on."""

    def begin(self) -> None:
        super().begin()
        if self.msg.defects and not self.fp.peek(1):
            raise http.client.IncompleteRead(b"")


class _Watched(HTTPConnection):
    """Shared by both kinds of connection: tells the line what happens to the socket."""

    line: Line
    _parts: list[bytes] | None = None

    def watch(self, line: Line) -> None:
        self.line = line
        self.response_class = self._answer  # type: ignore[assignment]

    def _answer(self, sock: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        return _Answer(_Readable(sock, self.line), *args, **kwargs)  # type: ignore[arg-type]

    def _new_conn(self) -> socket.socket:
        try:
            return dial(
                self._dns_host.strip("[]"),
                self.port,
                timeout_s=float(self.timeout),  # type: ignore[arg-type] # requests gives it, in seconds
                watch=self.line,
                options=_OPTIONS,
                source=self.source_address,
            )
        except TimeoutError as exc:
            raise urllib3.exceptions.ConnectTimeoutError(self, str(exc)) from exc
        except UnicodeError as exc:  # a label of the name is empty, or too long
            raise urllib3.exceptions.LocationParseError(self._dns_host) from exc
        except OSError as exc:
            raise urllib3.exceptions.NewConnectionError(self, str(exc)) from exc

    def connect(self) -> None:
        self.line.connecting = True
        super().connect()
        self.line.connecting = False
        self.line.fresh = True
        self.sock.settimeout(self.line.read_timeout_s)

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            # sending a long prompt over a kept connection is not bounded by the connect limit
            self.timeout = self.line.read_timeout_s
        # head and body go out in one piece: each sending costs as much as the rest of the request
        self._parts = []
        try:
            super().request(*args, **kwargs)
        finally:
            parts, self._parts = self._parts, None
        self.send(b"".join(parts))

    def send(self, data: Any) -> None:
        if self._parts is None:
            super().send(data)
        else:
            self._parts.append(data)


class _Plain(_Watched):
    """http."""


class _Secure(_Watched, HTTPSConnection):
    """https: the handshake runs on a socket object that nobody else sees, so a duplicate is watched meanwhile."""

    _double: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        self._double = sock.dup()
        self.line.opened(self._double)
        return sock

    def connect(self) -> None:
        try:
            super().connect()
        finally:
            self.line.opened(self.sock)
            if self._double is not None:
                self._double.close()


class LineAdapter(HTTPAdapter):
    """A transport adapter whose one connection is watched by ``line``."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._pool: Any = None
        self._classes: dict[str, Callable[..., Any]] = {
            "http": self._pool_maker(urllib3.HTTPConnectionPool, _Plain),
            "https": self._pool_maker(urllib3.HTTPSConnectionPool, _Secure),
        }
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool manager, with our connections."""
        super().init_poolmanager(*args, socket_options=_OPTIONS, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._classes

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Make the manager for a proxy, with our connections."""
        manager = super().proxy_manager_for(*args, socket_options=_OPTIONS, **kwargs)
        manager.pool_classes_by_scheme = self._classes
        return manager

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool of the one connection; all requests of a line go to one host in one way."""
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return self._pool

    def close(self) -> None:
        """Close the connection now; urllib3 would leave that to the garbage collector."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
        super().close()

    def _pool_maker(self, pool_class: Any, connection_class: type[_Watched]) -> Callable[..., Any]:
        def connection(*args: Any, **kwargs: Any) -> _Watched:
            made = connection_class(*args, **kwargs)
            made.watch(self._line)
            return made

        def pool(*args: Any, **kwargs: Any) -> Any:
            made = pool_class(*args, **kwargs)
            made.ConnectionCls = connection
            return made

        return pool

"""Reach a server within one limit for the name lookup and all of its addresses together, and leave at once on an abort.

Nothing can interrupt the system's name lookup, so it runs on a daemon thread: whoever wants the address waits for it no
longer than its own limit. Lookups of one name at the same time are one lookup, so a resolver that hangs holds one
thread and not one for each request.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from typing import Any, Protocol

from urllib3.util.connection import allowed_gai_family
from urllib3.util.wait import wait_for_write

#: An event cannot wait for two things; a look at the abort every so many seconds keeps a cancel well within its second.
LOOK_S = 0.05

#: Process, name and port -> the lookup that is under way; the process, for a forked child has no thread of its parent's.
_lookups: dict[tuple[int, str, int], Future[list[Any]]] = {}


class Watch(Protocol):
    """Whom to tell of the socket, and who says whether the call was aborted."""

    @property
    def aborted(self) -> bool:
        """Whether the call is no longer wanted."""

    def opened(self, sock: Any) -> None:
        """Take note of the socket in use; None: of none."""


def dial(
    host: str,
    port: int,
    *,
    timeout_s: float,
    watch: Watch,
    options: Sequence[tuple[int, int, int | bytes]] = (),
    source: tuple[str, int] | None = None,
) -> socket.socket:
    """Return a socket that is connected to ``host``.

    Raises
    ------
    socket.gaierror
        If the name is not known.
    TimeoutError
        If lookup and connects together take longer than ``timeout_s``.
    OSError
        Of the last address, if none takes the connection; also after an abort.
    """
    deadline = time.monotonic() + timeout_s
    failure: OSError = OSError(f"the name {host!r} stands for no address")
    addresses = _addresses(host, port, deadline, watch)
    for place, (family, kind, protocol, _, address) in enumerate(addresses):
        now = time.monotonic()
        if watch.aborted:
            break
        if now >= deadline:
            raise TimeoutError(f"no time was left to try {address[0]}") from failure
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as exc:  # the system may have no IPv6
            failure = exc
            continue
        watch.opened(sock)
        # an address that swallows everything must leave time for the others
        until = now + (deadline - now) / (len(addresses) - place)
        try:
            for option in options:
                sock.setsockopt(*option)
            if source is not None:
                sock.bind(source)
            _connect(sock, address, until, watch)
            sock.settimeout(max(LOOK_S, deadline - time.monotonic()))
        except BaseException as exc:
            watch.opened(None)
            sock.close()
            if not isinstance(exc, OSError):
                raise
            failure = exc
        else:
            return sock
    try:
        raise failure
    finally:
        del failure  # it holds this frame, and the frame it


def _connect(sock: socket.socket, address: Any, deadline: float, watch: Watch) -> None:
    # not by sock.connect(): an abort that comes just before it would find nothing to end
    sock.setblocking(False)
    failed = sock.connect_ex(address)
    if failed in {errno.EINPROGRESS, errno.EWOULDBLOCK}:
        while not wait_for_write(sock, max(0.0, min(deadline - time.monotonic(), LOOK_S))):
            if watch.aborted:
                raise OSError("the call was aborted")
            if time.monotonic() >= deadline:
                raise TimeoutError("timed out")
        failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failed:
        raise OSError(failed, os.strerror(failed))
    if watch.aborted:
        raise OSError("the call was aborted")


def _addresses(host: str, port: int, deadline: float, watch: Watch) -> list[Any]:
    with contextlib.suppress(socket.gaierror):  # a number needs no lookup
        return _look_up(host, port, socket.AI_NUMERICHOST)
    key = (os.getpid(), host, port)
    mine: Future[list[Any]] = Future()
    found = _lookups.setdefault(key, mine)
    if found is mine:
        thread = threading.Thread(target=_work, args=(key, mine), name="analysis-kit-lookup", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:  # the system gives no more threads
            del _lookups[key]
            mine.set_exception(OSError(f"the name {host!r} cannot be looked up: {exc}"))
    while not found.done():
        left_s = deadline - time.monotonic()
        if watch.aborted:
            raise OSError("the call was aborted")
        if left_s <= 0:
            raise TimeoutError(f"the lookup of the name {host!r} has not ended")
        wait([found], min(left_s, LOOK_S))
    return found.result()


def _work(key: tuple[int, str, int], found: Future[list[Any]]) -> None:
    _, host, port = key
    try:
        addresses = _look_up(host, port)
    except BaseException as exc:  # noqa: BLE001 - it is raised where the address is wanted
        del _lookups[key]
        found.set_exception(exc)
    else:
        del _lookups[key]
        found.set_result(addresses)


def _look_up(host: str, port: int, flags: int = 0) -> list[Any]:
    return socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM, 0, flags)

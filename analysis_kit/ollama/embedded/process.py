"""The parent's side of the embedded server: start it, know it, end it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import threading
import urllib.parse
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from analysis_kit._optional import require
from analysis_kit.cancellation import current_token
from analysis_kit.errors import ConfigurationError, OllamaUnreachableError
from analysis_kit.ollama import model_file
from analysis_kit.ollama.embedded.environment import LEAST_CTX, server_variables
from analysis_kit.ollama.embedded.names import base_url
from analysis_kit.ollama.embedded.spawn import Child
from analysis_kit.ollama.host import is_loopback

_MOST_THREADS = 4
_MOST_RESTARTS = 1
_REAP_S = 1.0

_log = logging.getLogger(__name__)


class EmbeddedOllama:
    """A local model behind Ollama's API, in a child process that ends with this one.

    Parameters
    ----------
    model_path : path or sequence of paths, optional
        GGUF files to serve. None: the small demo model, fetched on first use (93 MB).
    port : int, default 0
        Port to listen on; 0 takes a free one.
    parallel : int, optional
        Requests answered at once, the rest wait in line; None: ``OLLAMA_NUM_PARALLEL``, else 2.
    ctx : int, optional
        Tokens of context of each request, a request's larger ``num_ctx`` loads the model anew with it; None:
        ``OLLAMA_CONTEXT_LENGTH``, else 2048.
    threads : int, optional
        Compute threads; None: the cores this process may use, at most 4.
    gpu_layers : int, default -1
        Layers on a GPU, for builds of ``xllamacpp`` that have one; -1 lets llama.cpp decide.
    listen : str, default "127.0.0.1"
        Address to listen on. Anything but loopback opens the server to the network, without a password, and warns.

    Raises
    ------
    ConfigurationError
        If a number cannot be, or the model, its file or the port cannot be used (the last three by `start`).

    Notes
    -----
    ``OLLAMA_KEEP_ALIVE``, ``OLLAMA_MAX_QUEUE`` and ``OLLAMA_ORIGINS`` are read as Ollama reads them; see `environment`.

    Examples
    --------
    >>> with EmbeddedOllama() as server:  # doctest: +SKIP
    ...     print(server.url)
    http://127.0.0.1:40123
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        *,
        port: int = 0,
        parallel: int | None = None,
        ctx: int | None = None,
        threads: int | None = None,
        gpu_layers: int = -1,
        listen: str = "127.0.0.1",
    ) -> None:
        paths = [model_path] if isinstance(model_path, str | os.PathLike) else list(model_path or ())
        threads = default_threads() if threads is None else threads
        variables = server_variables()
        parallel = variables.parallel if parallel is None else parallel
        ctx = variables.ctx if ctx is None else ctx
        for name, value, least in (
            ("parallel", parallel, 1),
            ("ctx", ctx, LEAST_CTX),
            ("threads", threads, 1),
            ("port", port, 0),
        ):
            most = 65535 if name == "port" else 1 << 24
            if not least <= value <= most:
                raise ConfigurationError(
                    f"the embedded server cannot be started with {name}={value}; it may be from {least} to {most}"
                )
        self._config: dict[str, Any] = {
            "models": [str(Path(path).expanduser().absolute()) for path in paths],
            "port": port,
            "listen": listen,
            "loopback": is_loopback(base_url(listen, port)),
            "shape": {"ctx": ctx, "parallel": parallel, "threads": threads, "gpu_layers": gpu_layers},
            "keep_alive_s": variables.keep_alive_s,
            "max_queue": variables.max_queue,
            "origins": variables.origins,
        }
        self._lock = threading.RLock()  # guards the fields below
        self._child: Child | None = None
        self._port = 0
        self._restarts = 0
        _servers.add(self)

    @property
    def url(self) -> str:
        """Base URL, such as ``http://127.0.0.1:40123``; reading it starts nothing.

        Raises
        ------
        ConfigurationError
            If the server has never been started.
        """
        if not self._port:
            raise ConfigurationError("the embedded server has no address before its start(); call that first")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._config["listen"], self._config["listen"])  # noqa: S104
        return base_url(host, self._port)

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        child = self._child
        return child.process.pid if child is not None else None

    @property
    def log_path(self) -> Path | None:
        """The child's log, removed when the child is ended and kept where it ended by itself; None while there is none."""
        child = self._child
        return child.log if child is not None else None

    @property
    def running(self) -> bool:
        """Whether the child is alive."""
        child = self._child
        return child is not None and child.process.poll() is None

    def start(self) -> Self:
        """Start the server unless it runs, and return self; after a crash, start it again, once.

        Raises
        ------
        ConfigurationError
            If what it needs is not installed, or the model or the port cannot be used.
        OllamaUnreachableError
            If it does not start, or has crashed twice.
        """
        with self._lock:
            if (token := current_token.get()) is not None:
                token.raise_if_cancelled()  # it may have waited for another thread's start
            if self.running:
                return self
            if (crash := self.crash_note()) is not None:
                if self._restarts >= _MOST_RESTARTS:
                    raise OllamaUnreachableError(
                        f"{crash} It was started again once already; stop() it to begin anew."
                    )
                _log.warning(
                    "%s Starting it again.", crash, extra={"crash": crash, "restarts": self._restarts + 1}
                )
                self._restarts += 1
            require("xllamacpp", extra="local", purpose="the embedded model")
            if not self._config["models"]:
                model_file.ensure_model()
            if not self._config["loopback"]:
                _log.warning(
                    "the embedded server listens on %s: whoever reaches this machine can use it, there is no password",
                    self._config["listen"],
                    extra={"listen": self._config["listen"]},
                )
            self._child, self._port = Child.start({**self._config, "port_before": self._port})
            return self

    def stop(self) -> None:
        """End the server: requests in it may finish for 5 s. Stopping a stopped one does nothing."""
        with self._lock:
            child, self._child = self._child, None
            self._restarts = 0
            if child is not None:
                child.end(drain=True)

    def wait(self) -> None:
        """Block until the child has ended."""
        child = self._child
        if child is not None:
            child.process.wait()

    def crash_note(self) -> str | None:
        """Return a sentence on how the child ended without being told to, naming its log; None if it did not."""
        child = self._child
        code = child.process.poll() if child is not None else None
        if child is None or code is None:
            return None
        return f"The embedded server (process {child.process.pid}) ended with exit code {code}; its log: {child.log}."

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return (
            f"<EmbeddedOllama {self.url} pid {self.pid}>" if self.running else "<EmbeddedOllama, not running>"
        )

    def _forget(self) -> None:
        """Let go of the child without ending it: after a fork it is the other process's."""
        self._lock = threading.RLock()
        child, self._child = self._child, None
        if child is not None:
            child.forget()


def default_threads() -> int:
    """Return the compute threads to use: the cores that this process may use, at most 4."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, max(1, int(quota) // int(period)))  # "max" is no number: no quota
    return max(1, min(_MOST_THREADS, cores))


_servers: weakref.WeakSet[EmbeddedOllama] = weakref.WeakSet()
_embedded: EmbeddedOllama | None = None
_inherited_url: str | None = None  # after a fork: the parent's server, which may be used but not ended
_embedded_lock = threading.Lock()


def embedded_url() -> str:
    """Return the base URL of this process's embedded server, started on demand and again, once, after a crash.

    A forked child uses its parent's server as long as that answers.

    Raises
    ------
    ConfigurationError, OllamaUnreachableError
        As `EmbeddedOllama.start` raises them.
    """
    global _embedded, _inherited_url  # noqa: PLW0603 - one server a process
    with _embedded_lock:
        if _inherited_url is not None:
            if _answers(_inherited_url):
                return _inherited_url
            _inherited_url = None
        if _embedded is None:
            _embedded = EmbeddedOllama()
        return _embedded.start().url


def crash_note(url: str) -> str | None:
    """Return a sentence on the crash of the embedded server at ``url``, if it is one of this process and has crashed."""
    for server in list(_servers):
        child = server._child  # noqa: SLF001 - same module
        if child is not None and server.url == url.rstrip("/"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(_REAP_S)  # its connections end a moment before it is known to have ended
            return server.crash_note()
    return None


def _answers(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=1.0):
            return True
    except OSError:
        return False


def _after_fork() -> None:
    global _embedded, _embedded_lock, _inherited_url  # noqa: PLW0603 - this is another process
    _embedded_lock = threading.Lock()
    if _embedded is not None and _embedded.pid is not None:
        _inherited_url = _embedded.url
    _embedded = None
    for server in list(_servers):
        server._forget()  # noqa: SLF001 - same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

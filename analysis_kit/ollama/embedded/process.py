"""The parent's side of the embedded server: start it, know it, end it."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import site
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from analysis_kit._optional import require
from analysis_kit.errors import ConfigurationError, OllamaUnreachableError
from analysis_kit.ollama import model_file

_START_S = 60.0
_STOP_S = 10.0

_log = logging.getLogger(__name__)


class EmbeddedOllama:
    """A local model behind Ollama's API, in a child process that ends with this one.

    Parameters
    ----------
    model_path : path or sequence of paths, optional
        GGUF files to serve. None: the small demo model, fetched on first use (93 MB).
    port : int, default 0
        Port to listen on; 0 takes a free one.
    parallel : int, default 2
        Requests answered at once; the rest wait in line.
    ctx : int, default 2048
        Tokens of context of each request; a request's larger ``num_ctx`` loads the model anew with it.
    threads : int, optional
        Compute threads; None: the cores this process may use, at most 4.
    gpu_layers : int, default -1
        Layers on a GPU, for builds of ``xllamacpp`` that have one; -1 lets llama.cpp decide.
    listen : str, default "127.0.0.1"
        Address to listen on. Anything but loopback opens the server to the network, and warns.

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
        parallel: int = 2,
        ctx: int = 2048,
        threads: int | None = None,
        gpu_layers: int = -1,
        listen: str = "127.0.0.1",
    ) -> None:
        paths = [model_path] if isinstance(model_path, str | os.PathLike) else list(model_path or ())
        self._config: dict[str, Any] = {
            "models": [str(Path(path).expanduser().absolute()) for path in paths],
            "port": port,
            "listen": listen,
            "shape": {
                "ctx": ctx, "parallel": parallel, "threads": threads or default_threads(), "gpu_layers": gpu_layers,
            },
        }  # fmt: skip
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Base URL, such as ``http://127.0.0.1:40123``."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._process.pid if self._process else None

    def start(self) -> EmbeddedOllama:
        """Start the server unless it runs; return self."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return self
            require("xllamacpp", extra="local", purpose="the embedded model")
            if not self._config["models"]:
                model_file.ensure_model()
            handle, log = tempfile.mkstemp(prefix="analysis-kit-embedded-", suffix=".log")
            self.log_path = Path(log)
            env = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
            root = str(Path(__file__).parents[3])
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "analysis_kit.ollama.embedded"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=handle, env=env, start_new_session=True,
                )  # fmt: skip
            finally:
                os.close(handle)
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(self._config).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            self._process.stdout.close()
            if not line:
                raise OllamaUnreachableError(f"the embedded server did not start; its log: {log}")
            self._port = json.loads(line)["port"]
            _live.add(self)
            return self

    def stop(self) -> None:
        """End the server; requests in it may finish for 5 s."""
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            with contextlib.suppress(OSError):
                process.stdin.write(b"stop\n")
                process.stdin.flush()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with contextlib.suppress(OSError):
                process.stdin.close()
            self.log_path.unlink(missing_ok=True)

    def __enter__(self) -> EmbeddedOllama:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


def default_threads() -> int:
    """Return the compute threads to use: the cores this process may use, at most 4."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(4, cores))


_live: weakref.WeakSet[EmbeddedOllama] = weakref.WeakSet()
_embedded: EmbeddedOllama | None = None
_embedded_lock = threading.Lock()


def embedded_url() -> str:
    """Return the base URL of this process's embedded server, started on demand."""
    global _embedded
    with _embedded_lock:
        if _embedded is None:
            _embedded = EmbeddedOllama()
        return _embedded.start().url


@atexit.register
def _stop_all() -> None:
    for server in list(_live):
        server.stop()

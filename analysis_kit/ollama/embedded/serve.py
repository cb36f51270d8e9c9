"""``analysis-kit serve``: the embedded server in the foreground."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from analysis_kit.ollama.embedded.environment import listen_address
from analysis_kit.ollama.embedded.process import EmbeddedOllama


def serve(
    *,
    port: int | None = None,
    models: Sequence[str | os.PathLike[str]] = (),
    parallel: int | None = None,
    ctx: int | None = None,
    threads: int | None = None,
    gpu_layers: int = -1,
    listen: str | None = None,
) -> int:
    """Serve until Ctrl-C, and return the exit code: 0, or 1 if the server ended by itself.

    The parameters are those of `EmbeddedOllama`; ``models`` are its paths. Address and port that are not given are
    those of ``OLLAMA_HOST``, else 127.0.0.1 and 11434; see `listen_address`.

    Raises
    ------
    ConfigurationError, OllamaUnreachableError
        As `EmbeddedOllama.start` raises them.
    """
    if listen is None or port is None:
        address, its_port = listen_address(say=listen is None)
        listen = address if listen is None else listen
        port = its_port if port is None else port
    server = EmbeddedOllama(
        list(models) or None,
        port=port, parallel=parallel, ctx=ctx, threads=threads, gpu_layers=gpu_layers, listen=listen,
    )  # fmt: skip
    try:
        server.start()
        sys.stdout.write(
            f"serving at {server.url}; set OLLAMA_HOST={server.url} to use it, press Ctrl-C to end it\n"
        )
        sys.stdout.flush()
        server.wait()
        sys.stderr.write(f"{server.crash_note()}\n")
    except KeyboardInterrupt:
        server.stop()
        return 0
    return 1

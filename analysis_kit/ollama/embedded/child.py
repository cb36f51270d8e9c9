"""The child process: serves until told to stop, or until its parent is gone."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import sys
import threading
from typing import Any

from analysis_kit._optional import require
from analysis_kit.errors import AnalysisKitError
from analysis_kit.ollama.embedded import lifeline
from analysis_kit.ollama.embedded.catalog import load_catalog
from analysis_kit.ollama.embedded.llama import Shape

_DRAIN_S = 5  # told to stop: requests may end by themselves for this long, then they are cut
_ABANDON_S = 1.0  # the parent is gone: requests are cut, and this is how long llama.cpp may take to notice
_BACKLOG = 512


def main() -> int:
    """Serve what the parent's first line says; the parent learns the port, or why there is none, from standard output."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    config = lifeline.read_config()
    try:
        asyncio.run(_serve(config))
    except (AnalysisKitError, OSError) as exc:
        _tell({"error": str(exc)})
        return 1
    return 0


async def _serve(config: dict[str, Any]) -> None:
    uvicorn = require("uvicorn", extra="local", purpose="the embedded server")
    require("starlette", extra="local", purpose="the embedded server")
    from analysis_kit.ollama.embedded.app import build_app
    from analysis_kit.ollama.embedded.runner import LoadQueue
    from analysis_kit.ollama.embedded.served import Served

    shape, queue = Shape(**config["shape"]), LoadQueue(config["max_queue"])
    models = {
        name: Served(model, shape, keep_alive_s=config["keep_alive_s"], queue=queue)
        for name, model in load_catalog(config["models"]).items()
    }
    listener = _listen(config["listen"], config["port"], config["port_before"])
    settings = uvicorn.Config(
        build_app(models, loopback=config["loopback"], origins=config["origins"]),
        log_level="warning", access_log=False, lifespan="off", ws="none", server_header=False,
        timeout_graceful_shutdown=_DRAIN_S, timeout_keep_alive=120,
    )  # fmt: skip
    server = uvicorn.Server(settings)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    def abandon() -> None:
        settings.timeout_graceful_shutdown = 0
        server.should_exit = True
        threading.Timer(_ABANDON_S, os._exit, [1]).start()

    watch = threading.Thread(
        target=lifeline.watch,
        args=(lambda: loop.call_soon_threadsafe(stop), lambda: loop.call_soon_threadsafe(abandon)),
        daemon=True,
        name="lifeline",
    )
    watch.start()
    _tell({"port": listener.getsockname()[1]})
    await server.serve(sockets=[listener])
    for served in models.values():
        await served.unload()  # llama.cpp does not survive an exit with a call in it
    logging.shutdown()
    os._exit(0)  # nothing is left to be done, and the destructors of so much C++ are not worth waiting for


def _listen(host: str, port: int, before: int) -> socket.socket:
    """Return a listening socket, after a crash on the port of before if it can be had."""
    try:
        return _bound(host, port or before)
    except OSError as exc:
        if not port and before:
            return _bound(host, 0)
        reason = "the port is in use" if exc.errno == errno.EADDRINUSE else exc.strerror or str(exc)
        raise OSError(f"cannot listen on {host} port {port}: {reason}") from exc


def _bound(host: str, port: int) -> socket.socket:
    # the protocol is named, since asyncio sends small packets at once only where it is: else each reply waits 40 ms
    listener = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()

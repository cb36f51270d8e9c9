"""The child process: serves until told to stop, or until its parent is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
import threading
from typing import Any

from analysis_kit._optional import require
from analysis_kit.ollama.embedded.catalog import load_catalog
from analysis_kit.ollama.embedded.llama import Shape
from analysis_kit.ollama.embedded.runner import Runner

DRAIN_S = 5.0  # told to stop: requests may end by themselves for this long
ABANDON_S = 1.0  # the parent is gone: calls are cut, and this is how long llama.cpp may take to notice


def main() -> int:
    """Serve as the first line of standard input says; its end means that the parent is gone."""
    config: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(config))
    return 0


async def _serve(config: dict[str, Any]) -> None:
    uvicorn = require("uvicorn", extra="local", purpose="the embedded server")
    require("starlette", extra="local", purpose="the embedded server")
    from analysis_kit.ollama.embedded.app import build_app

    shape = Shape(**config["shape"])
    runners = {name: Runner(model, shape) for name, model in load_catalog(config["models"]).items()}
    listener = socket.create_server((config["listen"], config["port"]), backlog=512)
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(runners), log_level="warning", access_log=False, lifespan="off", ws="none", backlog=512,
            timeout_graceful_shutdown=DRAIN_S, timeout_keep_alive=75,
        )  # fmt: skip
    )
    server.install_signal_handlers = lambda: None
    loop = asyncio.get_running_loop()

    def stop(*, abandoned: bool) -> None:
        server.should_exit = True
        server.force_exit = abandoned
        if abandoned:
            loop.call_later(ABANDON_S, os._exit, 0)

    threading.Thread(target=_watch_parent, args=(loop, stop), daemon=True, name="parent-watch").start()
    sys.stdout.write(json.dumps({"port": listener.getsockname()[1], "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    await server.serve(sockets=[listener])
    for runner in runners.values():
        await runner.unload()


def _watch_parent(loop: asyncio.AbstractEventLoop, stop: Any) -> None:
    """Wait for the word to stop, or for the pipe's end, which comes however the parent dies."""
    while line := os.read(0, 4096):
        if b"stop" in line:
            loop.call_soon_threadsafe(lambda: stop(abandoned=False))
    loop.call_soon_threadsafe(lambda: stop(abandoned=True))

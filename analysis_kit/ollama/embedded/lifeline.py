"""The pipe from the parent: its end, which comes however the parent dies, is the child's end too."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

_PIPE = 0  # standard input
_held = False  # whether standard input is that pipe: only the child knows, by having read from it
_depth = 0


def read_config() -> dict[str, Any]:
    """Return the first line of the pipe: what to serve. Nothing after it is consumed."""
    global _held  # noqa: PLW0603 - a fact of the process
    _held = True
    with open(_PIPE, "rb", buffering=0, closefd=False) as pipe:
        return dict(json.loads(pipe.readline()))


def watch(on_stop: Callable[[], None], on_end: Callable[[], None]) -> None:
    """Block until the pipe ends, calling ``on_stop`` at a word from the parent and ``on_end`` at the end."""
    while os.read(_PIPE, 4096):
        on_stop()
    on_end()


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """While the block runs, let the kernel itself end this process when the parent is gone.

    Loading a model holds the interpreter for as long as it takes, so that no thread of ours could see the pipe end. A
    signal on the pipe, whose default action is to end the process, needs no interpreter.
    """
    global _depth  # noqa: PLW0603 - blocks may overlap; the first one sets the signal up, the last one takes it back
    if sys.platform == "win32" or not hasattr(os, "O_ASYNC") or not _held:
        yield
        return
    import fcntl

    _depth += 1
    flags = fcntl.fcntl(_PIPE, fcntl.F_GETFL)
    if _depth == 1:
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(_PIPE, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(_PIPE, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0:
            fcntl.fcntl(_PIPE, fcntl.F_SETFL, flags & ~os.O_ASYNC)

"""The embedded server: Ollama's API over llama.cpp, in a child process of its own.

`process` is the parent's side (`EmbeddedOllama`, `embedded_url`), `serve` the command's; the rest runs in the child. The
names below are resolved on first use: every analyzer asks `is_demo_model`, and few ever start a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis_kit.ollama.embedded.names import MODEL_NAME as MODEL_NAME
from analysis_kit.ollama.embedded.names import is_demo_model as is_demo_model

if TYPE_CHECKING:
    from analysis_kit.ollama.embedded.process import EmbeddedOllama as EmbeddedOllama
    from analysis_kit.ollama.embedded.process import crash_note as crash_note
    from analysis_kit.ollama.embedded.process import embedded_url as embedded_url

_HOME = ("EmbeddedOllama", "crash_note", "embedded_url")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from analysis_kit.ollama.embedded import process

    return getattr(process, name)

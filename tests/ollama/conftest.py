"""Each test of the Ollama room ends with the threads it began with, and begins with a server never met before."""

from __future__ import annotations

import threading

import pytest

from analysis_kit.container import reset_container
from analysis_kit.ollama.pool import reset_pool
from analysis_kit.settings import reset_settings


@pytest.fixture(autouse=True)
def _clean_room(monkeypatch):
    for name in ("OLLAMA_HOST", "OLLAMA_API_KEY", "ANALYSIS_KIT_OLLAMA_HOST", "ANALYSIS_KIT_OLLAMA_MODEL"):
        monkeypatch.delenv(name, raising=False)
    reset_settings()
    before = set(threading.enumerate())
    yield
    reset_pool()
    reset_container()
    reset_settings()
    left = [
        thread for thread in set(threading.enumerate()) - before if not thread.name.startswith("asyncio_")
    ]
    for thread in left:
        thread.join(5)
    assert not [thread for thread in left if thread.is_alive()]

"""Each test of the Ollama room ends with the threads it began with, and begins with a server never met before."""

from __future__ import annotations

import os
import threading

import pytest

from analysis_kit.container import reset_container
from analysis_kit.ollama.client import OllamaClient
from analysis_kit.ollama.host import parse_host
from analysis_kit.ollama.pool import OllamaConnectionPool, reset_pool
from analysis_kit.settings import reset_settings


@pytest.fixture(autouse=True)
def _clean_room(monkeypatch):
    for name in ("OLLAMA_HOST", "OLLAMA_API_KEY", "ANALYSIS_KIT_OLLAMA_HOST", "ANALYSIS_KIT_OLLAMA_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("analysis_kit.ollama.calls._warm", {})  # ports come again
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


@pytest.fixture
def make(fake):
    """Make pools over the fake, and shut them down after."""
    made = []

    def build(*args, **options):
        options.setdefault("hosts", fake.url)
        options.setdefault("model", "fake")
        pool = OllamaConnectionPool(*args, **options)
        made.append(pool)
        return pool

    yield build
    for pool in made:
        pool.shutdown()


@pytest.fixture(scope="session")
def live_server():
    """Base URL of the real Ollama, and the name of its smallest completion model."""
    with OllamaClient(parse_host(os.environ["LIVE_OLLAMA_HOST"])) as client:
        able = [info for info in client.tags() if "completion" in (info.capabilities or ("completion",))]
        return client.base_url, min(able, key=lambda info: info.size_bytes).name

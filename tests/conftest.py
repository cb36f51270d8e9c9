"""What every test shares: the fakes' folder on the path, what the marks need, and a cache and settings of its own.

A test whose mark this machine cannot serve is left out with its reason. ``REQUIRED_TEST_MARKS`` (mark names) turns
a marked group that was left out into a failure of the session; CI sets it.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

# A shell starts its background jobs with SIGINT ignored, and that is handed down: no test of an interrupt would get one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
_left_out: dict[str, str] = {}


def chromium() -> str | None:
    """Return the browser's executable, where there is one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _why_not_browser() -> str | None:
    if chromium() is None:
        return "Chromium is not installed"
    return None if importlib.util.find_spec("playwright") else "playwright is not installed"


def _why_not_llama() -> str | None:
    if importlib.util.find_spec("xllamacpp") is None:
        return "xllamacpp is not installed (no wheel for this machine)"
    from analysis_kit.errors import AnalysisKitError
    from analysis_kit.ollama.model_file import ensure_model

    try:
        ensure_model()
    except AnalysisKitError as exc:
        return f"the model file cannot be had: {exc}"
    return None


def _why_not_redis() -> str | None:
    return None if shutil.which("redis-server") else "redis-server is not installed"


def _why_not_live() -> str | None:
    host = os.environ.get("LIVE_OLLAMA_HOST")
    return None if host else "LIVE_OLLAMA_HOST names no running Ollama"


WHY_NOT = {
    "browser": functools.cache(_why_not_browser),
    "llama": functools.cache(_why_not_llama),
    "redis": functools.cache(_why_not_redis),
    "live": functools.cache(_why_not_live),
}


def pytest_collection_modifyitems(items):
    for item in items:
        for mark, why_not in WHY_NOT.items():
            if item.get_closest_marker(mark) is not None and (reason := why_not()) is not None:
                item.add_marker(pytest.mark.skip(reason=f"{mark}: {reason}"))
                _left_out[mark] = reason


def pytest_sessionfinish(session):
    required = os.environ.get("REQUIRED_TEST_MARKS", "").split()
    missing = [mark for mark in required if mark in _left_out]
    if missing:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    required = os.environ.get("REQUIRED_TEST_MARKS", "").split()
    for mark, reason in _left_out.items():
        word = "REQUIRED AND LEFT OUT" if mark in required else "left out"
        terminalreporter.write_line(f"{word}: the tests marked {mark!r}, because {reason}")


@pytest.fixture(autouse=True)
def _a_world_of_its_own(tmp_path_factory, monkeypatch):
    """Give each test a result cache of its own, and no server of the user's; the model file stays where it is."""
    from analysis_kit.settings import reset_settings

    for name in ("OLLAMA_HOST", "OLLAMA_API_KEY", "ANALYSIS_KIT_OLLAMA_HOST", "ANALYSIS_KIT_OLLAMA_MODEL"):
        monkeypatch.delenv(name, raising=False)
    place = tmp_path_factory.mktemp("cache") / "results.sqlite"
    monkeypatch.setenv("ANALYSIS_KIT_CACHE_URL", f"sqlite:///{place}")
    reset_settings()
    yield
    from analysis_kit.cache import reset_cache

    reset_cache()
    reset_settings()

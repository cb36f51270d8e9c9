"""`setup_default_services` wires the kit's parts into a container."""

import subprocess
import sys

import pytest

from analysis_kit.analyzers.llm import LLMAnalyzer
from analysis_kit.analyzers.sentiment import SentimentAnalyzer
from analysis_kit.cache import ResultCache, get_cache
from analysis_kit.container import DIContainer, Lifetime, get_container, reset_container
from analysis_kit.engine.engine import AsyncAnalysisEngine
from analysis_kit.monitor.monitor import PerformanceMonitor, get_monitor, reset_monitor
from analysis_kit.ollama.pool import OllamaConnectionPool, get_pool, reset_pool
from analysis_kit.services import setup_default_services
from analysis_kit.settings import Settings, reset_settings

PARTS = (ResultCache, PerformanceMonitor, OllamaConnectionPool, AsyncAnalysisEngine)


@pytest.fixture
def container():
    with DIContainer() as container:
        yield container


@pytest.fixture
def shared():
    """Leave no process-wide service behind."""
    yield
    reset_container()
    reset_pool()
    reset_monitor()


def test_the_parts_are_made_from_the_settings(container):
    """Pool, cache, monitor, engine and analyzers take their values from the settings given."""
    settings = Settings(
        OLLAMA_POOL_SIZE=3,
        OLLAMA_MAX_OVERFLOW=1,
        OLLAMA_CONNECTION_TIMEOUT=7.0,
        OLLAMA_HOST="127.0.0.1:9",
        ASYNC_MAX_WORKERS=2,
        CACHE_URL="memory:",
        PERFORMANCE_ALERT_THRESHOLD=1.5,
        PERFORMANCE_MAX_METRICS=10,
        ENABLE_PERFORMANCE_MONITORING=False,
    )
    assert setup_default_services(container, settings) is container
    container.validate()
    pool, monitor = container.resolve(OllamaConnectionPool), container.resolve(PerformanceMonitor)
    assert (pool.pool_size, pool.max_overflow, pool.timeout) == (3, 1, 7.0)
    assert list(pool.hosts) == ["http://127.0.0.1:9"]
    assert (monitor.enabled, monitor.alert_threshold) == (False, 1.5)
    assert container.resolve(ResultCache).stats()["place"] == "memory"
    assert container.resolve(AsyncAnalysisEngine).max_workers == 2
    assert isinstance(container.resolve(SentimentAnalyzer), LLMAnalyzer)
    assert container.registrations()[SentimentAnalyzer].lifetime is Lifetime.TRANSIENT


def test_calling_it_again_changes_nothing(container):
    """The second call keeps what is live."""
    setup_default_services(container, Settings(CACHE_URL="memory:"))
    cache, known = container.resolve(ResultCache), container.registrations()
    setup_default_services(container)
    setup_default_services(container, Settings(CACHE_URL="memory:"))
    assert container.resolve(ResultCache) is cache
    assert container.registrations().keys() == known.keys()
    assert all(each.generation == known[key].generation for key, each in container.registrations().items())


def test_registrations_of_ones_own_stay(container):
    """What a person registered before or after is kept, whatever the settings."""
    own = ResultCache()
    container.register_singleton(ResultCache, instance=own)
    setup_default_services(container)
    assert container.resolve(ResultCache) is own
    setup_default_services(container, Settings(OLLAMA_POOL_SIZE=9, CACHE_URL="memory:"))
    assert container.resolve(ResultCache) is own


def test_other_settings_take_the_place_of_the_former(container):
    """A cell edited to other settings and run again just works: what was made from the old ones is made anew."""
    setup_default_services(container, Settings(OLLAMA_POOL_SIZE=3, OLLAMA_HOST="127.0.0.1:9"))
    old = container.resolve(OllamaConnectionPool)
    setup_default_services(container, Settings(OLLAMA_POOL_SIZE=5, OLLAMA_HOST="127.0.0.1:9"))
    assert old.closed
    assert container.resolve(OllamaConnectionPool).pool_size == 5


def test_overriding_the_settings_reaches_every_part(container):
    """One override of `Settings` rewires pool and engine for the block."""
    setup_default_services(container, Settings(OLLAMA_HOST="127.0.0.1:9"))
    before = container.resolve(OllamaConnectionPool)
    with container.override(Settings, instance=Settings(OLLAMA_POOL_SIZE=8, OLLAMA_HOST="127.0.0.1:9")):
        assert container.resolve(OllamaConnectionPool).pool_size == 8
    assert container.resolve(OllamaConnectionPool) is before
    assert not before.closed


def test_the_get_functions_give_the_containers_parts(shared):
    """After the set-up, and within an override, `get_pool`, `get_cache` and `get_monitor` give what is registered."""
    setup_default_services()
    container = get_container()
    assert get_pool() is container.resolve(OllamaConnectionPool)
    assert get_cache() is container.resolve(ResultCache)
    assert get_monitor() is container.resolve(PerformanceMonitor)
    double = ResultCache()
    with container.override(ResultCache, instance=double):
        assert get_cache() is double
    assert get_cache() is not double


def test_closing_the_container_closes_the_parts(container):
    """The pool is shut down and the cache's file let go."""
    setup_default_services(container, Settings(OLLAMA_HOST="127.0.0.1:9"))
    pool = container.resolve(OllamaConnectionPool)
    container.resolve(ResultCache).set("text", "kind", 1)
    container.resolve(AsyncAnalysisEngine)
    container.resolve(PerformanceMonitor)
    container.close()
    assert pool.closed


def test_a_process_that_sets_up_ends_cleanly(tmp_path):
    """With all parts live the interpreter ends without a warning, an error or a thread that holds it."""
    code = (
        "from analysis_kit import get_container, setup_default_services\n"
        "setup_default_services()\n"
        "box = get_container()\n"
        "for key in box.registrations(): box.resolve(key)\n"
        "print(len(box.registrations()), box.graph().count('-->'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", code],
        env={"HOME": str(tmp_path), "OLLAMA_HOST": "127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["10", "4"]


@pytest.mark.parametrize("part", PARTS)
def test_any_part_can_be_replaced_in_one_line(container, part):
    """An override of a part is what resolving gives, and nothing of the default is built for it."""
    setup_default_services(container, Settings(CACHE_URL="memory:", OLLAMA_HOST="127.0.0.1:9"))
    with container.override(part, instance="double"):
        assert container.resolve(part) == "double"
    assert not any(each.live for key, each in container.registrations().items() if key in PARTS)


@pytest.mark.parametrize("made_before", [True, False])
def test_the_pool_of_the_set_up_follows_ollama_host(shared, monkeypatch, made_before):
    """OLLAMA_HOST set in a live kernel, as %env does, is heeded after the set-up too, before and after the pool's first use."""
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:8")
    monkeypatch.setenv("ANALYSIS_KIT_OLLAMA_POOL_SIZE", "3")
    reset_settings()
    try:
        setup_default_services()
        if made_before:
            assert get_pool(max_overflow=7).hosts == ("http://127.0.0.1:8",)
        monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
        pool = get_pool()
        assert pool.hosts == ("http://127.0.0.1:9",)
        assert (pool.pool_size, pool.max_overflow) == (3, 7 if made_before else 2)
        assert get_pool() is pool
        assert get_pool(pool_size=5) is pool
        assert get_pool().pool_size == 5
        monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:8")
        assert get_pool().hosts == ("http://127.0.0.1:8",)
    finally:
        reset_settings()


def test_hosts_that_the_settings_of_a_set_up_name_are_kept(shared, monkeypatch):
    """A host given by ``settings=``, or by a pool of one's own, holds, whatever OLLAMA_HOST becomes."""
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:8")
    try:
        setup_default_services(settings=Settings(OLLAMA_HOST="127.0.0.1:7"))
        monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
        pool = get_pool()
        assert pool is get_container().resolve(OllamaConnectionPool)
        assert pool.hosts == ("http://127.0.0.1:7",)
        own = OllamaConnectionPool(hosts="127.0.0.1:6")
        get_container().register_singleton(OllamaConnectionPool, instance=own)
        assert get_pool() is own
    finally:
        reset_settings()

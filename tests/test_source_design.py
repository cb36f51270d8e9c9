"""Every example of the source design, as written; only the imports are the package's."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod

import pytest
from fakes.ollama import FakeOllama

from analysis_kit import (
    AsyncAnalysisEngine,
    BaseAnalyzer,
    DIContainer,
    Lifetime,
    OllamaClient,
    OllamaConnectionPool,
    PerformanceMonitor,
    SentimentAnalyzer,
    example_transcript,
    exponential_backoff_retry,
    get_cache,
    get_container,
    get_monitor,
    get_pool,
    injectable,
    run_async,
    setup_default_services,
)

ANSWER = json.dumps({"label": "positive", "score": 0.5, "confidence": 0.9})


@pytest.fixture
def server(monkeypatch):
    """Stand a server up that OLLAMA_HOST names, and take everything process-wide down after."""
    from analysis_kit.container import reset_container
    from analysis_kit.monitor.monitor import reset_monitor
    from analysis_kit.ollama.pool import reset_pool
    from analysis_kit.settings import reset_settings

    with FakeOllama(slots=4, answer=lambda _request: ANSWER) as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.url)
        reset_settings()
        yield fake
        reset_pool()
        reset_container()
        reset_monitor()


def test_the_engine_analyses_all_sections_at_once(server):
    """Section 1: analyze_sections_parallel inside a coroutine, called from a script by run_async."""
    sections, analyzer = example_transcript().sections, SentimentAnalyzer()

    async def analyze_parallel():
        with AsyncAnalysisEngine(max_workers=4) as engine:
            results = await engine.analyze_sections_parallel(sections, analyzer.analyze, "sentiment_analyzer")
            return results

    results = run_async(analyze_parallel())
    assert list(results) == list(sections)
    assert {finding.label for finding in results.values()} == {"positive"}


def test_a_pool_with_its_options_gives_a_client(server):
    """Section 2: the constructor's four options, the context manager, the five statistics, health, shutdown."""
    pool = OllamaConnectionPool(
        pool_size=4,  # Maintain 4 connections
        max_overflow=2,  # Allow 2 additional when exhausted
        timeout=30.0,  # Wait up to 30s for connection
        recycle_after=100,  # Recycle after 100 uses
    )
    with pool.get_connection() as client:
        result = client.analyze_sentiment("Revenue grew.")
    assert result["label"] == "positive"
    assert json.loads(json.dumps(result)) == result
    stats = pool.get_stats()
    keys = [
        "pool_size",
        "active_connections",
        "available_connections",
        "total_requests",
        "pool_exhausted_count",
    ]
    assert [stats[key] for key in keys] == [4, 0, 4, 1, 0]
    assert pool.health_check() is True
    pool.shutdown()
    assert pool.health_check() is False


def test_the_global_pool_and_monitor_work_together(server):
    """Usage example 2: get_pool(pool_size=4) and get_monitor() around one call."""
    pool = get_pool(pool_size=4)
    monitor = get_monitor()
    with monitor.measure("llm_analysis"), pool.get_connection() as client:
        result = client.analyze_sentiment("Revenue grew.")
    stats = pool.get_stats()
    assert f"Active: {stats['active_connections']}/{stats['pool_size']}" == "Active: 0/4"
    assert result["score"] == 0.5
    assert monitor.get_stats()["llm_analysis"].count == 1


def test_the_monitor_measures_and_says_what_is_slow(tmp_path, capsys):
    """Section 3: measure with metadata, statistics by attribute, bottlenecks as dicts, JSON export, printed summary."""
    monitor = PerformanceMonitor(enabled=True, alert_threshold=5.0, max_metrics=10000)
    with monitor.measure("sentiment_analysis", metadata={"text_len": 1000}):
        sum(range(1000))
    for stat in monitor.get_stats().values():
        assert stat.count == 1
        assert 0 < stat.min_time <= stat.avg_time <= stat.p95_time <= stat.p99_time <= stat.max_time
        assert f"{stat.success_rate:.1%}" == "100.0%"
    for b in monitor.identify_bottlenecks(threshold_percentile=0.95):
        assert f"{b['operation']}: {b['percentage_of_total']:.1f}" == "sentiment_analysis: 100.0"
    monitor.export_to_json(tmp_path / "data" / "metrics" / "performance.json")
    assert json.loads((tmp_path / "data" / "metrics" / "performance.json").read_text())
    monitor.print_summary()
    printed = capsys.readouterr().out
    assert "PERFORMANCE SUMMARY" in printed
    assert "Top Operations by Total Time:" in printed


class ICache(ABC):
    @abstractmethod
    def get(self, key): ...


class RedisCache(ICache):
    def get(self, key):
        return ("redis", key)


class MockCache(ICache):
    def get(self, key):
        return ("mock", key)


class IRequest(ABC): ...


class HttpRequest(IRequest): ...


class ISession(ABC): ...


class DatabaseSession(ISession): ...


class ILogger(ABC): ...


class Logger(ILogger):
    def __init__(self, level):
        self.level = level


class IConfig: ...


def test_the_container_registers_in_every_way():
    """Section 4: implementation by keyword and by position, factory, instance, the three lifetimes, auto-injection."""
    my_config = IConfig()
    container = DIContainer()
    container.register_singleton(ICache, implementation=RedisCache)
    container.register_transient(IRequest, implementation=HttpRequest)
    container.register_scoped(ISession, implementation=DatabaseSession)
    container.register_singleton(ILogger, factory=lambda: Logger(level="INFO"))
    container.register_singleton(IConfig, instance=my_config)

    class MyService:
        def __init__(self, cache: ICache, logger: ILogger):
            self.cache = cache
            self.logger = logger

    container.register_singleton(MyService, implementation=MyService)
    assert container.resolve(ICache) is container.resolve(ICache)
    assert container.resolve(IRequest) is not container.resolve(IRequest)
    with container.create_scope() as one, container.create_scope() as two:
        assert one.resolve(ISession) is one.resolve(ISession)
        assert one.resolve(ISession) is not two.resolve(ISession)
    service = container.resolve(MyService)
    assert service.cache is container.resolve(ICache)
    assert service.logger.level == "INFO"
    assert container.resolve(IConfig) is my_config


def test_production_and_testing_differ_by_one_registration():
    """Testing benefits: the same class gets Redis in production and a mock in tests."""

    class MyService:
        def __init__(self, cache: ICache):
            self.cache = cache

    answers = []
    for kind in (RedisCache, MockCache):
        container = DIContainer()
        container.register_singleton(ICache, kind)
        container.register_transient(MyService, MyService)
        answers.append(container.resolve(MyService).cache.get("k"))
    assert answers == [("redis", "k"), ("mock", "k")]


def test_a_decorated_class_is_resolvable_at_once():
    """Decorator-based registration: any container knows the class."""

    @injectable(Lifetime.SINGLETON)
    class MyAnalyzer:
        def analyze(self, text):
            return len(text)

    container = DIContainer()
    assert container.resolve(MyAnalyzer).analyze("abc") == 3
    assert container.resolve(MyAnalyzer) is container.resolve(MyAnalyzer)


def test_default_services_are_set_up_once_for_the_app(server):
    """Usage example 3: setup_default_services, then own registrations in get_container()."""

    class IAnalyzer: ...

    class MyAnalyzer(IAnalyzer): ...

    setup_default_services()
    container = get_container()
    container.register_singleton(IAnalyzer, MyAnalyzer)
    container.register_transient(IRequest, HttpRequest)
    assert isinstance(container.resolve(IAnalyzer), MyAnalyzer)
    assert container.resolve(OllamaConnectionPool) is get_pool()


def test_sections_and_speakers_of_a_transcript(server):
    """Usage example 1: the full parallel analysis of one transcript."""

    async def analyze_transcript_parallel(transcript):
        analyzer = SentimentAnalyzer()
        with AsyncAnalysisEngine(max_workers=4) as engine:
            section_results = await engine.analyze_sections_parallel(
                transcript.sections, analyzer.analyze, "sentiment_analyzer"
            )
            speaker_results = await engine.analyze_speakers_parallel(
                transcript.speakers, analyzer.analyze, "sentiment_analyzer"
            )
        return section_results, speaker_results

    transcript = example_transcript()
    results = run_async(analyze_transcript_parallel(transcript))
    assert list(results[0]) == list(transcript.sections)
    assert list(results[1]) == list(transcript.speakers)


class OptimizedAnalyzer(BaseAnalyzer):  # Phase 2
    def __init__(self):
        super().__init__()
        self.cache = get_cache()  # Phase 1
        self.pool = get_pool()  # Phase 3
        self.monitor = get_monitor()  # Phase 3

    @exponential_backoff_retry(max_attempts=3)  # Phase 2
    def analyze(self, text: str):
        # Check cache (Phase 1)
        cached = self.cache.get(text, "analysis")
        if cached:
            return cached

        # Measure performance (Phase 3)
        with self.monitor.measure("analysis"):
            # Use pooled connection (Phase 3)
            with self.pool.get_connection() as client:
                result = client.analyze(text)

        # Cache result (Phase 1)
        self.cache.set(text, "analysis", result)
        return result


def test_all_phases_combined(server):
    """The combined example: cache, retry, pool and monitor in one analyzer, driven by the engine; then from the cache."""

    async def analyze_parallel(sections):
        analyzer = OptimizedAnalyzer()
        with AsyncAnalysisEngine() as engine:
            results = await engine.analyze_sections_parallel(sections, analyzer.analyze)
        return results

    sections = example_transcript().sections
    first = run_async(analyze_parallel(sections))
    asked = len(server.requests)
    again = run_async(analyze_parallel(sections))
    assert first == again
    assert list(first) == list(sections)
    assert len(server.requests) == asked
    assert get_monitor().get_stats()["analysis"].count == len(sections)


def test_the_migration_guide(server):
    """Options 2 to 4: a client alone, the pool, the monitor around an analyzer."""
    with OllamaClient() as client:
        alone = client.analyze_sentiment("Revenue grew.")
    pool = get_pool()
    with pool.get_connection() as client:
        assert client.analyze_sentiment("Revenue grew.") == alone
    monitor = get_monitor()
    with monitor.measure("analysis"):
        assert SentimentAnalyzer().analyze("Revenue grew.").label == "positive"
    assert monitor.get_stats()["analysis"].success_rate == 1.0

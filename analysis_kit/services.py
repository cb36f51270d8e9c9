"""The composition root: the one place that knows which class stands for what."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from analysis_kit.analyzers.complexity import ComplexityAnalyzer
from analysis_kit.analyzers.deception import DeceptionAnalyzer
from analysis_kit.analyzers.lexicon import LexiconSentimentAnalyzer
from analysis_kit.analyzers.numerical import NumericalAnalyzer
from analysis_kit.analyzers.sentiment import SentimentAnalyzer
from analysis_kit.cache import ResultCache, open_cache
from analysis_kit.container import DIContainer, get_container
from analysis_kit.engine.engine import AsyncAnalysisEngine
from analysis_kit.monitor.monitor import PerformanceMonitor
from analysis_kit.ollama.pool import OllamaConnectionPool
from analysis_kit.settings import Settings, get_settings


def setup_default_services(
    container: DIContainer | None = None, settings: Settings | None = None
) -> DIContainer:
    """Register pool, cache, monitor, engine and analyzers, each made from the settings on first use.

    What is registered already stays, so that it may be called again, and after registrations of your own.

    Parameters
    ----------
    container : DIContainer, optional
        Default: the process-wide one.
    settings : Settings, optional
        Default: the process-wide ones.

    Returns
    -------
    DIContainer
        The container.

    Examples
    --------
    >>> setup_default_services(DIContainer()).resolve(AsyncAnalysisEngine)
    <AsyncAnalysisEngine 4 workers on threads, on_error='raise'>
    """
    box = container if container is not None else get_container()
    values = settings if settings is not None else get_settings()
    factories: dict[Hashable, Callable[[], Any]] = {
        Settings: lambda: values,
        ResultCache: lambda: open_cache(values.CACHE_URL),
        PerformanceMonitor: lambda: PerformanceMonitor(
            values.ENABLE_PERFORMANCE_MONITORING,
            values.PERFORMANCE_ALERT_THRESHOLD,
            values.PERFORMANCE_MAX_METRICS,
        ),
        OllamaConnectionPool: lambda: OllamaConnectionPool(
            values.OLLAMA_POOL_SIZE,
            values.OLLAMA_MAX_OVERFLOW,
            values.OLLAMA_CONNECTION_TIMEOUT,
            values.OLLAMA_RECYCLE_AFTER,
            hosts=values.OLLAMA_HOST or None,
        ),
        AsyncAnalysisEngine: lambda: AsyncAnalysisEngine(
            values.ASYNC_MAX_WORKERS, values.ASYNC_USE_PROCESSES
        ),
    }
    known = set(box.registrations())
    for kind, factory in factories.items():
        if kind not in known:
            box.register_singleton(kind, factory=factory)
    for analyzer in (
        LexiconSentimentAnalyzer,
        ComplexityAnalyzer,
        NumericalAnalyzer,
        DeceptionAnalyzer,
        SentimentAnalyzer,
    ):
        if analyzer not in known:
            box.register_transient(analyzer, factory=analyzer)
    return box

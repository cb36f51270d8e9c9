"""The composition root: the one place that knows which class stands for what.

Each factory takes the settings as a service of their own, so that overriding or registering `Settings` reaches all.
"""

from __future__ import annotations

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

_ANALYZERS = (
    LexiconSentimentAnalyzer,
    ComplexityAnalyzer,
    NumericalAnalyzer,
    DeceptionAnalyzer,
    SentimentAnalyzer,
)


def setup_default_services(
    container: DIContainer | None = None, settings: Settings | None = None
) -> DIContainer:
    """Register pool, cache, monitor, engine and analyzers, each made from the settings on first use.

    What is registered already stays, so it may be called again, and after registrations of one's own. Other
    ``settings`` than those of the former call take their place, and what was made from them is made anew.

    Parameters
    ----------
    container : DIContainer, optional
        Default: the process-wide one, which `analyze` and the ``get_*`` functions ask.
    settings : Settings, optional
        Default: the process-wide ones.

    Returns
    -------
    DIContainer
        The container.

    Examples
    --------
    >>> container = setup_default_services(DIContainer(), Settings(OLLAMA_POOL_SIZE=6))
    >>> container.resolve(OllamaConnectionPool).pool_size
    6
    """
    box = container if container is not None else get_container()
    if settings is not None and (Settings not in box or box.resolve(Settings) != settings):
        box.register_singleton(Settings, instance=settings)
    elif Settings not in box:
        box.register_transient(Settings, factory=get_settings)  # those of the moment when a part is made
    for kind, factory in (
        (ResultCache, _cache),
        (PerformanceMonitor, _monitor),
        (OllamaConnectionPool, _pool),
        (AsyncAnalysisEngine, _engine),
    ):
        if kind not in box:
            box.register_singleton(kind, factory=factory)
    for analyzer in _ANALYZERS:
        if analyzer not in box:
            box.register_transient(analyzer)
    return box


def _cache(settings: Settings) -> ResultCache:
    return open_cache(settings.CACHE_URL)


def _monitor(settings: Settings) -> PerformanceMonitor:
    return PerformanceMonitor(
        settings.ENABLE_PERFORMANCE_MONITORING,
        settings.PERFORMANCE_ALERT_THRESHOLD,
        settings.PERFORMANCE_MAX_METRICS,
    )


def _pool(settings: Settings) -> OllamaConnectionPool:
    return OllamaConnectionPool(
        settings.OLLAMA_POOL_SIZE,
        settings.OLLAMA_MAX_OVERFLOW,
        settings.OLLAMA_CONNECTION_TIMEOUT,
        settings.OLLAMA_RECYCLE_AFTER,
        # over the process-wide settings a pool follows OLLAMA_HOST; over others it keeps what they say
        hosts=None if settings is get_settings() else settings.OLLAMA_HOST or None,
    )


def _engine(settings: Settings) -> AsyncAnalysisEngine:
    return AsyncAnalysisEngine(settings.ASYNC_MAX_WORKERS, settings.ASYNC_USE_PROCESSES)

"""analysis_kit: analyse earnings-call transcripts in parallel inside a notebook, over one shared Ollama pool.

Public names are resolved on first use, so that importing the package does no work and loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    import analysis_kit.plots as plots  # noqa: F401, PLR0402 - a module among names
    from analysis_kit.analyzers.base import BaseAnalyzer as BaseAnalyzer
    from analysis_kit.analyzers.complexity import ComplexityAnalyzer as ComplexityAnalyzer
    from analysis_kit.analyzers.deception import DeceptionAnalyzer as DeceptionAnalyzer
    from analysis_kit.analyzers.lexicon import LexiconSentimentAnalyzer as LexiconSentimentAnalyzer
    from analysis_kit.analyzers.llm import LLMAnalyzer as LLMAnalyzer
    from analysis_kit.analyzers.numerical import NumericalAnalyzer as NumericalAnalyzer
    from analysis_kit.analyzers.sentiment import SentimentAnalyzer as SentimentAnalyzer
    from analysis_kit.cache import get_cache as get_cache
    from analysis_kit.container import DIContainer as DIContainer
    from analysis_kit.container import Lifetime as Lifetime
    from analysis_kit.container import get_container as get_container
    from analysis_kit.container import injectable as injectable
    from analysis_kit.dashboard import Dashboard as Dashboard
    from analysis_kit.engine.engine import AsyncAnalysisEngine as AsyncAnalysisEngine
    from analysis_kit.engine.loop import run_async as run_async
    from analysis_kit.errors import *  # noqa: F403
    from analysis_kit.monitor.compare import compare as compare
    from analysis_kit.monitor.monitor import PerformanceMonitor as PerformanceMonitor
    from analysis_kit.monitor.monitor import get_monitor as get_monitor
    from analysis_kit.ollama.client import OllamaClient as OllamaClient
    from analysis_kit.ollama.embedded import EmbeddedOllama as EmbeddedOllama
    from analysis_kit.ollama.pool import OllamaConnectionPool as OllamaConnectionPool
    from analysis_kit.ollama.pool import get_pool as get_pool
    from analysis_kit.report.render import render_report as render_report
    from analysis_kit.results import Finding as Finding
    from analysis_kit.retry import exponential_backoff_retry as exponential_backoff_retry
    from analysis_kit.run import AnalysisRun as AnalysisRun
    from analysis_kit.run import analyze as analyze
    from analysis_kit.run import last_run as last_run
    from analysis_kit.services import setup_default_services as setup_default_services
    from analysis_kit.settings import Settings as Settings
    from analysis_kit.settings import get_settings as get_settings
    from analysis_kit.speedup import SpeedupFit as SpeedupFit
    from analysis_kit.speedup import fit_speedup as fit_speedup
    from analysis_kit.speedup import measure_speedup as measure_speedup
    from analysis_kit.speedup import probe_slots as probe_slots
    from analysis_kit.transcripts.model import Transcript as Transcript
    from analysis_kit.transcripts.parse import example_transcript as example_transcript
    from analysis_kit.transcripts.parse import parse_transcript as parse_transcript
    from analysis_kit.transcripts.parse import read_transcript as read_transcript

#: Public name -> the module it lives in. ``plots`` is a module itself.
_HOME = {
    "AnalysisError": "errors",
    "AnalysisKitError": "errors",
    "AnalysisRun": "run",
    "AnswerError": "errors",
    "AsyncAnalysisEngine": "engine.engine",
    "BaseAnalyzer": "analyzers.base",
    "CaptiveDependencyError": "errors",
    "CircularDependencyError": "errors",
    "ComplexityAnalyzer": "analyzers.complexity",
    "ConfigurationError": "errors",
    "ContainerError": "errors",
    "DIContainer": "container",
    "Dashboard": "dashboard",
    "DeceptionAnalyzer": "analyzers.deception",
    "EmbeddedOllama": "ollama.embedded",
    "EmptyAnswerError": "errors",
    "Finding": "results",
    "InsufficientDataError": "errors",
    "InvalidAnswerError": "errors",
    "LLMAnalyzer": "analyzers.llm",
    "LexiconSentimentAnalyzer": "analyzers.lexicon",
    "Lifetime": "container",
    "ModelNotFoundError": "errors",
    "NumericalAnalyzer": "analyzers.numerical",
    "OllamaClient": "ollama.client",
    "OllamaConnectionPool": "ollama.pool",
    "OllamaError": "errors",
    "OllamaTimeoutError": "errors",
    "OllamaUnreachableError": "errors",
    "PerformanceMonitor": "monitor.monitor",
    "PoolClosedError": "errors",
    "PoolError": "errors",
    "PoolTimeoutError": "errors",
    "ReportError": "errors",
    "SentimentAnalyzer": "analyzers.sentiment",
    "ServerBusyError": "errors",
    "ServiceNotFoundError": "errors",
    "Settings": "settings",
    "SpeedupFit": "speedup",
    "StreamBrokenError": "errors",
    "Transcript": "transcripts.model",
    "TranscriptError": "errors",
    "TruncatedAnswerError": "errors",
    "analyze": "run",
    "compare": "monitor.compare",
    "example_transcript": "transcripts.parse",
    "exponential_backoff_retry": "retry",
    "fit_speedup": "speedup",
    "get_cache": "cache",
    "get_container": "container",
    "get_monitor": "monitor.monitor",
    "get_pool": "ollama.pool",
    "get_settings": "settings",
    "injectable": "container",
    "last_run": "run",
    "measure_speedup": "speedup",
    "parse_transcript": "transcripts.parse",
    "plots": "",
    "probe_slots": "speedup",
    "read_transcript": "transcripts.parse",
    "render_report": "report.render",
    "run_async": "engine.loop",
    "setup_default_services": "services",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604 - the keys are names


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = (
        import_module(f"{__name__}.{name}")
        if not home
        else getattr(import_module(f"{__name__}.{home}"), name)
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"Any", "TYPE_CHECKING", "annotations"})

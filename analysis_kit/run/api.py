"""`analyze`: the main job in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis_kit.cache import ResultCache, open_cache
from analysis_kit.engine.arguments import (
    OnError,
    Workers,
    checked_count,
    checked_policy,
    checked_seconds,
    checked_workers,
)
from analysis_kit.engine.engine import AsyncAnalysisEngine
from analysis_kit.errors import ConfigurationError
from analysis_kit.frames import json_value
from analysis_kit.ollama.arguments import options_of
from analysis_kit.ollama.host import resolve_hosts
from analysis_kit.ollama.pool import OllamaConnectionPool
from analysis_kit.run.analysis import AnalysisRun
from analysis_kit.run.plan import RunConfig, named_analyzers
from analysis_kit.run.units import units_of


def analyze(
    data: Any,
    analyzers: Any = None,
    *,
    by: str | Sequence[str] = "section",
    text: str | None = None,
    id: str | None = None,  # noqa: A002 - the design's own name
    keep: Sequence[str] = (),
    model: str | Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    hosts: str | Sequence[str] | None = None,
    max_workers: Workers | None = None,
    on_error: OnError = "collect",
    deadline_s: float | None = None,
    timeout_s: float | None = None,
    cache: bool | str | ResultCache = True,
    repeats: int = 1,
    limit: int | None = None,
    mask_entities: bool = False,
    dashboard: bool | None = None,
    engine: AsyncAnalysisEngine | None = None,
    pool: OllamaConnectionPool | None = None,
) -> AnalysisRun:
    """Analyse every unit of ``data`` with every analyzer, in parallel, and keep one row for each.

    Parameters
    ----------
    data : Transcript(s), path, folder, glob, mapping name -> text, or DataFrame
        A DataFrame needs ``text``.
    analyzers : name, analyzer, function, or several, optional
        Default: the four rule analyzers, and `SentimentAnalyzer` where an Ollama server answers.
    by : {"section", "speaker", "turn"} or several, default "section"
        How transcripts are cut.
    text, id, keep : str, str, list of str
        Columns of a DataFrame: the text, the name of the document, and what comes along into the table.
    model : str or list of str, optional
        Default: ``OLLAMA_MODEL``, else the server's only completion model. Several give a row each.
    options : mapping, optional
        Ollama options over the kit's own (temperature 0, a fixed seed).
    hosts : str or list of str, optional
        Ollama servers, or ``"embedded"``. Default: ``OLLAMA_HOST``, else 127.0.0.1:11434.
    max_workers : int or "auto", optional
        Units at the same time; default ``ASYNC_MAX_WORKERS``.
    on_error : {"collect", "raise"}, default "collect"
        Keep a failure as a row, or stop at the first.
    deadline_s, timeout_s : float, optional
        Seconds for the whole run, and for one unit.
    cache : bool, URL or ResultCache, default True
        Whether, and where, answers are kept.
    repeats : int, default 1
        How often a model answers each unit, each with a seed of its own.
    limit : int, optional
        Try only the first so many units.
    mask_entities : bool, default False
        Replace the names of company and people by placeholders (transcripts only).
    dashboard : bool, optional
        Show the live dashboard; default: in a notebook.
    engine, pool : optional
        Parts of your own.

    Returns
    -------
    AnalysisRun
        Starts when awaited, or by `run_async`.

    Raises
    ------
    ConfigurationError
        At once, if data, columns or analyzers cannot work; when it starts, if no server or model can be had.

    Examples
    --------
    >>> from analysis_kit.engine.loop import run_async
    >>> run = run_async(analyze({"opening": "Revenue grew 12% and margins expanded."}, ["tone"]))
    >>> run.to_frame()["label"].tolist()
    ['positive']
    """
    if limit is not None:
        limit = checked_count("limit", limit, otherwise=", or None for all units")
    if max_workers is not None:
        max_workers = checked_workers(max_workers, otherwise=", or 'auto', or None for the setting's")
    if engine is not None and not isinstance(engine, AsyncAnalysisEngine):
        raise ConfigurationError(f"engine={engine!r} is no AsyncAnalysisEngine.")
    if pool is not None and not hasattr(pool, "get_connection"):
        raise ConfigurationError(f"pool={pool!r} is no OllamaConnectionPool.")
    if pool is not None and hosts is not None:
        theirs = getattr(pool, "hosts", ())  # a pool of one's own making may not tell
        if set(resolve_hosts(hosts)) != set(theirs):
            raise ConfigurationError(
                f"hosts={hosts!r} and the pool's {', '.join(theirs) or 'own'} differ; give one of them."
            )
    units = units_of(data, by=by, text=text, id=id, keep=keep, mask_entities=mask_entities)
    config = RunConfig(
        analyzers=None if analyzers is None else tuple(named_analyzers(analyzers)),
        models=_names(model),
        options=options_of(options),
        hosts=hosts,
        max_workers=max_workers,
        on_error=checked_policy(on_error),
        deadline_s=checked_seconds("deadline_s", deadline_s),
        timeout_s=checked_seconds("timeout_s", timeout_s),
        cache=_own_cache(cache),
        caching=cache is not False,
        repeats=checked_count("repeats", repeats),
        dashboard=dashboard,
        engine=engine,
        pool=pool,
    )
    return AnalysisRun(units[:limit], config)


def _names(model: object) -> tuple[str | None, ...]:
    """Return the models that were named, as nothing but texts; None stands for the usual one."""
    if model is None or isinstance(model, str):
        return (json_value(model),)
    named = tuple(dict.fromkeys(model)) if isinstance(model, Iterable) else ()
    if not named or not all(isinstance(each, str) for each in named):
        raise ConfigurationError(f"model={model!r} must be the name of a model, or a list of names.")
    return tuple(map(json_value, named))


def _own_cache(cache: object) -> ResultCache | None:
    """Return the cache that was named; None stands for the usual one, or for none where ``cache`` is False."""
    if cache is None or isinstance(cache, (bool, ResultCache)):
        return cache if isinstance(cache, ResultCache) else None
    if isinstance(cache, str):
        return open_cache(cache)
    raise ConfigurationError(
        f"cache={cache!r} must be True, False, a URL or a cache, such as get_cache() gives."
    )

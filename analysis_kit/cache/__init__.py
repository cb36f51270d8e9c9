"""The result cache: memory, SQLite (the default) or Redis by URL; JSON values only, never a pickle."""

from __future__ import annotations

import atexit
import logging
import re
import threading
from pathlib import Path

from analysis_kit.cache.result_cache import ResultCache, Store
from analysis_kit.cache.values import cache_key
from analysis_kit.container import get_container
from analysis_kit.errors import ConfigurationError

__all__ = ["ResultCache", "Store", "cache_key", "get_cache", "open_cache", "reset_cache"]

_log = logging.getLogger(__name__)
_MAX_MB = 1024


def open_cache(url: str = "") -> ResultCache:
    """Return the cache at ``url``.

    Parameters
    ----------
    url : str, default ""
        ``memory:``, ``sqlite:///path`` (four slashes begin an absolute path), ``redis://host:6379/0``; empty: SQLite
        in `analysis_kit.settings.cache_dir`. The first two take ``?max_mb=N``, the bound on the size (default: 1024,
        for memory 64), beyond which the least recently used entries go.

    Returns
    -------
    ResultCache
        Where the file cannot be made, one in memory, and a warning says so.

    Raises
    ------
    ConfigurationError
        If the URL has another form, or names a folder or another application's database.

    Examples
    --------
    >>> open_cache("memory:")
    <ResultCache memory: 0 answers, 0.0 MB, 0 hits, 0 misses>
    """
    bare, given = re.fullmatch(r"(.*?)(?:\?max_mb=(\d+))?", url, re.DOTALL).groups()  # type: ignore[union-attr]
    bound = int(given or 0) * 1024 * 1024
    if given is not None and not bound:
        raise ConfigurationError(f"CACHE_URL={url!r}: max_mb is a whole number of megabytes, at least 1")
    if bare in {"memory:", "memory://"}:
        return ResultCache(memory_bytes=bound) if bound else ResultCache()
    if bare.startswith(("redis://", "rediss://", "unix://")):
        from analysis_kit.cache.redis import RedisStore

        return ResultCache(RedisStore(url))
    if bare and not bare.startswith("sqlite:///"):
        raise ConfigurationError(f"CACHE_URL={url!r}: use memory:, sqlite:///path or redis://host:port/0")
    return _sqlite(bare.removeprefix("sqlite:///"), bound or _MAX_MB * 1024 * 1024)


def _sqlite(name: str, max_bytes: int) -> ResultCache:
    from analysis_kit.cache.sqlite import SQLiteStore
    from analysis_kit.settings import cache_dir

    path = Path(name).expanduser() if name else cache_dir() / "answers.sqlite"
    try:
        return ResultCache(SQLiteStore(path, max_bytes=max_bytes))
    except SQLiteStore.errors as exc:
        _log.warning(
            "the cache %s cannot be opened (%s); answers are kept in memory for this session",
            *(path, exc),
            extra={"path": str(path), "error": str(exc)},
        )
        return ResultCache()


_shared: ResultCache | None = None
_lock = threading.Lock()  # guards _shared


def get_cache() -> ResultCache:
    """Return the process-wide cache: the one registered in the container, else the one at the setting ``CACHE_URL``."""
    global _shared  # noqa: PLW0603 - the one process-wide cache
    registered: ResultCache | None = get_container().find(ResultCache)
    if registered is not None:
        return registered
    if _shared is None:
        from analysis_kit.settings import get_settings

        url = get_settings().CACHE_URL
        with _lock:
            if _shared is None:
                _shared = open_cache(url)
                atexit.register(reset_cache)
    return _shared


def reset_cache() -> None:
    """Close and forget the process-wide cache; the next use opens it by the settings of then."""
    global _shared
    with _lock:
        old, _shared = _shared, None
    if old is not None:
        atexit.unregister(reset_cache)
        old.close()

"""The process-wide pool, and `OllamaConnectionPool` itself."""

from __future__ import annotations

import atexit
import logging
import threading
from typing import Any

from analysis_kit.container import get_container
from analysis_kit.errors import ConfigurationError
from analysis_kit.ollama.connection_pool import OllamaConnectionPool
from analysis_kit.ollama.host import resolve_hosts
from analysis_kit.settings import get_settings

_log = logging.getLogger(__name__)

_lock = threading.Lock()  # guards _shared
_shared: OllamaConnectionPool | None = None
_made_with: dict[str, Any] = {}

__all__ = ["OllamaConnectionPool", "get_pool", "reset_pool"]


def get_pool(
    pool_size: int | None = None,
    max_overflow: int | None = None,
    timeout: float | None = None,
    recycle_after: int | None = None,
    **options: Any,
) -> OllamaConnectionPool:
    """Return the process-wide pool: the one registered in the container, else one made on first use.

    Parameters
    ----------
    pool_size, max_overflow, timeout, recycle_after : optional
        Default as the settings say. If the pool is live and another value is given, the pool is changed (slots are
        added, surplus ones closed as they come back) and one INFO record says so.
    **options
        Other arguments of `OllamaConnectionPool`. Where one differs from what the live pool was made with, a new pool
        takes its place; who uses the old one may finish.

    Raises
    ------
    ConfigurationError
        If a value cannot be used.

    Examples
    --------
    >>> get_pool() is get_pool()
    True
    """
    global _shared, _made_with  # noqa: PLW0603 - the one process-wide value
    wanted = {
        "pool_size": pool_size,
        "max_overflow": max_overflow,
        "timeout": timeout,
        "recycle_after": recycle_after,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    registered = get_container().find(OllamaConnectionPool)
    if registered is not None:
        pool: OllamaConnectionPool = registered
        _change(pool, given)
        return pool
    replaced: OllamaConnectionPool | None = None
    with _lock:
        live = _shared
        if options.get("hosts") is not None:
            options["hosts"] = resolve_hosts(options["hosts"])
        if live is not None and any(_made_with.get(name) != value for name, value in options.items()):
            replaced, live = live, None
        if live is None or live.closed:
            settings = get_settings()
            defaults = {
                "pool_size": settings.OLLAMA_POOL_SIZE,
                "max_overflow": settings.OLLAMA_MAX_OVERFLOW,
                "timeout": settings.OLLAMA_CONNECTION_TIMEOUT,
                "recycle_after": settings.OLLAMA_RECYCLE_AFTER,
            }
            live = _shared = OllamaConnectionPool(**{**defaults, **given, **options})
            _made_with = {"hosts": live.hosts, **options}
            given = {}
    if replaced is not None:
        _log.info(
            "a new pool over %s takes the place of the one over %s",
            ", ".join(live.hosts),
            ", ".join(replaced.hosts),
        )
        replaced.retire()
    _change(live, given)
    return live


def reset_pool() -> None:
    """Shut the process-wide pool down; the next `get_pool` makes a new one."""
    global _shared
    with _lock:
        pool, _shared = _shared, None
    if pool is not None:
        pool.shutdown()


def _change(pool: OllamaConnectionPool, given: dict[str, Any]) -> None:
    changed = {name: value for name, value in given.items() if getattr(pool, name) != value}
    if not changed:
        return
    for name in ("timeout", "recycle_after"):
        if not changed.get(name, 1) > 0:
            raise ConfigurationError(f"{name}={changed[name]!r}: use a number above 0")
    before = {name: getattr(pool, name) for name in changed}
    pool.resize(changed.get("pool_size"), max_overflow=changed.get("max_overflow"))
    for name in ("timeout", "recycle_after"):
        if name in changed:
            setattr(pool, name, changed[name])
    said = ", ".join(f"{name} {before[name]} -> {value}" for name, value in changed.items())
    _log.info("the live pool %r was changed: %s", pool.name, said)


atexit.register(reset_pool)

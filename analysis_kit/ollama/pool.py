"""The process-wide pool, and `OllamaConnectionPool` itself."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from typing import Any

from analysis_kit.container import get_container
from analysis_kit.ollama.arguments import seconds, whole
from analysis_kit.ollama.connection_pool import OllamaConnectionPool
from analysis_kit.ollama.host import resolve_hosts
from analysis_kit.settings import get_settings

_log = logging.getLogger(__name__)

_lock = threading.Lock()  # guards all of these
_shared: OllamaConnectionPool | None = None
_made_for: str | None = None  # the OLLAMA_HOST that the pool follows; None if its hosts were named
_in_place_of: weakref.ref[OllamaConnectionPool] | None = None  # the registered pool that it stands for
_SIZES = ("pool_size", "max_overflow", "timeout", "recycle_after")  # what can be changed in a live pool
_NO_HOSTS = {"hosts": None, "api_key": None}

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
        takes its place; who uses the old one may finish. So it is where the pool was shut down, and where OLLAMA_HOST
        has changed and no hosts were named, also for a registered pool; one INFO record says so.

    Raises
    ------
    ConfigurationError
        If a value cannot be used.

    Examples
    --------
    >>> get_pool() is get_pool()
    True
    """
    global _shared  # noqa: PLW0603 - the one process-wide value
    sizes = (pool_size, max_overflow, timeout, recycle_after)
    given = {name: value for name, value in zip(_SIZES, sizes, strict=True) if value is not None}
    registered: OllamaConnectionPool | None = get_container().find(OllamaConnectionPool)
    if (
        registered is not None
        and not registered.closed
        and (registered.named or registered.hosts == resolve_hosts(None))
    ):
        if not registered.queue.keeps:
            _back_to(registered)
        _change(registered, given)
        return registered
    if options.get("hosts") is None:
        options.pop("hosts", None)
    else:
        options["hosts"] = resolve_hosts(options["hosts"])
    with _lock:
        live, before = _shared, None
        if live is None or live.closed or not _still_meant(live, registered, options):
            before = registered if live is None else live
            live = _shared = _made(live, registered, given, options)
            given = {}
    if before is not None:
        _replace(before, live)
    _change(live, given)
    return live


def reset_pool() -> None:
    """Shut the process-wide pool down; the next `get_pool` makes a new one."""
    global _shared
    with _lock:
        pool, _shared = _shared, None
    if pool is not None:
        pool.shutdown()


def _back_to(registered: OllamaConnectionPool) -> None:
    """Use a registered pool again, since OLLAMA_HOST is what it was; the pool that stood for it ends."""
    global _shared  # noqa: PLW0603 - guarded by the lock
    with _lock:
        before = _shared if _stands_for(registered) else None
        if before is not None:
            _shared = None
    registered.queue.resume()
    if before is not None:
        _replace(before, registered)


def _replace(before: OllamaConnectionPool, pool: OllamaConnectionPool) -> None:
    _log.info(
        "a pool over %s takes the place of the one over %s%s",
        ", ".join(pool.hosts),
        ", ".join(before.hosts),
        ", which was shut down" if before.closed else "",
        extra={"hosts": list(pool.hosts), "replaced_hosts": list(before.hosts)},
    )
    before.retire()


def _still_meant(
    live: OllamaConnectionPool, registered: OllamaConnectionPool | None, options: dict[str, Any]
) -> bool:
    """Return whether the live pool is the one asked for: made with the same options, over the hosts of today."""
    global _made_for  # noqa: PLW0603 - guarded by the lock
    if registered is not None and not _stands_for(registered):
        return False
    made_with = {**live.made_with, "hosts": live.hosts}
    if any(made_with.get(name) != value for name, value in options.items()):
        return False
    host = get_settings().OLLAMA_HOST
    if "hosts" not in options and _made_for not in (None, host):
        if live.hosts != resolve_hosts(host):
            return False
        _made_for = host
    return True


def _stands_for(registered: OllamaConnectionPool) -> bool:
    return _in_place_of is not None and _in_place_of() is registered


def _made(
    live: OllamaConnectionPool | None,
    registered: OllamaConnectionPool | None,
    given: dict[str, Any],
    options: dict[str, Any],
) -> OllamaConnectionPool:
    """Return a new process-wide pool; without ``options`` it is as the one before it, but for hosts that nobody named."""
    global _made_for, _in_place_of  # noqa: PLW0603 - guarded by the lock
    settings = get_settings()
    as_before: dict[str, Any] = {
        "pool_size": settings.OLLAMA_POOL_SIZE,
        "max_overflow": settings.OLLAMA_MAX_OVERFLOW,
        "timeout": settings.OLLAMA_CONNECTION_TIMEOUT,
        "recycle_after": settings.OLLAMA_RECYCLE_AFTER,
    }
    before = registered
    if (
        live is not None
        and not live.closed
        and not options
        and (registered is None or _stands_for(registered))
    ):
        before = live
    if before is not None:
        as_before = {name: getattr(before, name) for name in _SIZES}
        if not options:
            # another server than one that somebody named would be a silent substitute; a key is for its own hosts only
            theirs = {"hosts": before.hosts, "api_key": before.keys} if before.named else _NO_HOSTS
            as_before = {**before.made_with, **as_before, **theirs}
    pool = OllamaConnectionPool(**{**as_before, **given, **options})
    _made_for = None if pool.named else settings.OLLAMA_HOST
    _in_place_of = None if registered is None else weakref.ref(registered)
    return pool


def _change(pool: OllamaConnectionPool, given: dict[str, Any]) -> None:
    if "timeout" in given:
        given = {**given, "timeout": seconds("timeout", given["timeout"])}
    changed = {name: value for name, value in given.items() if getattr(pool, name) != value}
    if not changed:
        return
    whole("recycle_after", changed.get("recycle_after", 1), least=1)
    before = {name: getattr(pool, name) for name in changed}
    pool.resize(changed.get("pool_size"), max_overflow=changed.get("max_overflow"))
    for name in ("timeout", "recycle_after"):
        if name in changed:
            setattr(pool, name, changed[name])
    said = ", ".join(f"{name} {before[name]} -> {value}" for name, value in changed.items())
    _log.info("the live pool %r was changed: %s", pool.name, said, extra={"pool": pool.name, **changed})


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it, which is not here
    _lock = threading.Lock()


atexit.register(reset_pool)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

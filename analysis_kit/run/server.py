"""What a run has to do with servers: the pools of named hosts, and how many requests a server worked on at once."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterable, Sequence

from analysis_kit.ollama.pool import OllamaConnectionPool, get_pool
from analysis_kit.results import Row
from analysis_kit.settings import get_settings

_pools: dict[tuple[str, ...], OllamaConnectionPool] = {}
_lock = threading.Lock()  # guards _pools

#: Fewer requests than this say too little about a server.
ENOUGH_REQUESTS = 6
#: A server that works on fewer than this share of what it is given makes the rest wait.
BUSY_SHARE = 0.75
#: A server that works on fewer than this on average has idle time, so its slots are not what holds it back.
MOSTLY_WORKING = 0.6
#: A server that is given fewer requests at once than this on average is given one at a time.
SEVERAL = 1.5


def pool_for(hosts: Sequence[str] | None, *, workers: int) -> OllamaConnectionPool:
    """Return the pool for ``hosts`` with room for ``workers``: the process-wide one for None, else one kept per host list."""
    settings = get_settings()
    if hosts is None:
        pool = get_pool()
        return pool if pool.pool_size >= workers else get_pool(pool_size=workers)
    with _lock:
        kept = _pools.get(tuple(hosts))
        if kept is None or kept.closed:
            kept = _pools[tuple(hosts)] = OllamaConnectionPool(
                workers,
                settings.OLLAMA_MAX_OVERFLOW,
                settings.OLLAMA_CONNECTION_TIMEOUT,
                settings.OLLAMA_RECYCLE_AFTER,
                hosts=hosts,
            )
        elif kept.pool_size < workers:
            kept.resize(pool_size=workers)
        return kept


def parallel_notices(rows: Iterable[Row]) -> list[str]:
    """Return one sentence a server on how many requests it worked on at once, and what to set; none if too few were sent.

    The server's own counters say how long it worked for each request; the sum of these, over the time in which at
    least one request was out, is the number it worked on at once on average.
    """
    by_host: dict[str, list[tuple[float, float, float, float]]] = {}
    for row in rows:
        done = row.examined
        if row.status != "done" or done is None or not done.host or row.started_at is None:
            continue
        work = done.split.load_s + done.split.prompt_s + done.split.generate_s
        if math.isnan(work) or math.isnan(row.duration_s):
            continue
        start = row.started_at.timestamp()
        queued = done.split.queue_s
        # our own part of the duration (the pool, the client) is no request that the server made wait
        out = row.duration_s if math.isnan(queued) else work + queued
        by_host.setdefault(done.host, []).append((start, start + row.duration_s, work, out))
    alone = len(by_host) == 1
    said = (_parallel_notice(requests, host=None if alone else host) for host, requests in by_host.items())
    return [notice for notice in said if notice]


def _parallel_notice(
    requests: Sequence[tuple[float, float, float, float]], *, host: str | None
) -> str | None:
    """Return the sentence on one server's requests (start, end, seconds of work, seconds out); ``host`` where it is one of several."""
    if len(requests) < ENOUGH_REQUESTS:
        return None
    spans = sorted((start, end) for start, end, _, _ in requests)
    covered = _covered(spans)
    at_once, given = (sum(each[part] for each in requests) / covered for part in (2, 3))
    if at_once < MOSTLY_WORKING or given < SEVERAL:
        return None  # idle most of the time, or given one request at a time: both say nothing on its slots
    server = host or "The server"
    if at_once >= BUSY_SHARE * given:
        return f"{server} worked on {at_once:.1f} requests at once of the {given:.1f} it had."
    slots, workers = max(1, round(at_once)), _most_at_once(spans)
    # fewer workers would be too few for the other servers
    fewer = "" if host else f", or max_workers={slots} here, which is as fast"
    return (
        f"{server} worked on {at_once:.1f} requests at once while it had {given:.1f}: the others waited. "
        f"Set OLLAMA_NUM_PARALLEL={workers} where {'it' if host else 'the server'} is started{fewer}."
    )


def _most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """Return the most ``spans`` that overlap; one that ends as another begins does not overlap it."""
    steps = sorted([(start, 1) for start, _ in spans] + [(stop, -1) for _, stop in spans])
    return max(itertools.accumulate(step for _, step in steps))


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Return the length of the union of sorted ``spans``."""
    total, end = 0.0, -math.inf
    for start, stop in spans:
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total

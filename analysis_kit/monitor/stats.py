"""What is known about an operation, from its durations in seconds: pure functions; the formulas are in `estimates`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from analysis_kit.frames import STATS_COLUMNS, frame
from analysis_kit.monitor.estimates import (
    NAN,
    autocorrelation,
    interval_by_rank,
    percentile_by_rank,
    ranked,
    wilson_interval,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class OperationStats:
    """What is known about one operation; times in seconds.

    Attributes
    ----------
    count : int
        How often it was measured; like sums and extremes it covers all time.
    total_time, avg_time, min_time, max_time : float
        Sum, arithmetic mean, shortest and longest.
    median_time, p95_time, p99_time : float
        By `percentile`; always between ``min_time`` and ``max_time``. NaN only where ``count`` is 0.
    failure_count : int
        How many ended in an exception.
    success_rate : float
        Share without one, from 0 to 1; NaN where ``count`` is 0.
    source : {"exact", "sketch"}
        Whether the percentiles rest on every single duration or on the sketch of all time, which is within 0.4 %.
    kind : {"operation", "request", "wait"}
        Requests to a server and waits for a slot take place inside operations, so their time is not added to theirs.
    """

    count: int
    total_time: float
    avg_time: float
    min_time: float
    max_time: float
    median_time: float
    p95_time: float
    p99_time: float
    failure_count: int
    success_rate: float
    source: Literal["exact", "sketch"] = "exact"
    kind: Literal["operation", "request", "wait"] = "operation"


def summarise(durations: Iterable[float], *, failure_count: int = 0) -> OperationStats:
    """Return the statistics of all ``durations`` (seconds), of which ``failure_count`` ended in an exception.

    Examples
    --------
    >>> summarise([1.0, 2.0, 3.0]).median_time
    2.0
    """
    ordered = sorted(durations)
    return summarise_by_rank(
        ordered.__getitem__,
        count=len(ordered),
        total=math.fsum(ordered),
        shortest=ordered[0] if ordered else NAN,
        longest=ordered[-1] if ordered else NAN,
        failure_count=failure_count,
    )


def summarise_by_rank(
    at: Callable[[int], float],
    *,
    count: int,
    total: float,
    shortest: float,
    longest: float,
    failure_count: int = 0,
    source: Literal["exact", "sketch"] = "exact",
    kind: Literal["operation", "request", "wait"] = "operation",
) -> OperationStats:
    """Return the statistics of ``count`` durations where ``at(rank)`` gives the one at ``rank``, counted from 0."""
    return OperationStats(
        count=count,
        total_time=total,
        # a rounding error must not put the mean outside its own values
        avg_time=min(max(total / count, shortest), longest) if count else NAN,
        min_time=shortest,
        max_time=longest,
        median_time=percentile_by_rank(at, count, 0.5),
        p95_time=percentile_by_rank(at, count, 0.95),
        p99_time=percentile_by_rank(at, count, 0.99),
        failure_count=failure_count,
        success_rate=(count - failure_count) / count if count else NAN,
        source=source,
        kind=kind,
    )


def busy_time(spans: Iterable[tuple[float, float]]) -> float:
    """Return the seconds in which at least one of ``spans`` (start, end) runs: the length of their union.

    Examples
    --------
    >>> busy_time([(0.0, 2.0), (1.0, 3.0), (10.0, 11.0)])
    4.0
    """
    busy = 0.0
    until = -math.inf
    for start, end in sorted(spans):
        if end > until:
            busy += end - max(start, until)
            until = end
    return busy


def rate(amount: float, seconds: float) -> float:
    """Return ``amount`` a second (operations over busy time, tokens over writing time); NaN where no time passed."""
    return amount / seconds if seconds > 0 else NAN


def stats_row(
    operation: str, stats: OperationStats, recent: Sequence[float], at: Callable[[int], float]
) -> dict[str, Any]:
    """Return one record of `frames.STATS_COLUMNS`.

    Parameters
    ----------
    operation : str
    stats : OperationStats
    recent : sequence of float
        The durations at hand, in order of time.
    at : callable
        Gives the duration at a rank of all ``stats.count``, counted from 0 in ascending order.
    """
    p95 = interval_by_rank(stats.count, recent, 0.95, at)
    p99 = interval_by_rank(stats.count, recent, 0.99, at)
    success = wilson_interval(stats.count - stats.failure_count, stats.count)
    return {
        "operation": operation,
        "count": stats.count,
        "total_s": stats.total_time,
        "avg_s": stats.avg_time,
        "min_s": stats.min_time,
        "median_s": stats.median_time,
        "p95_s": stats.p95_time,
        "p99_s": stats.p99_time,
        "max_s": stats.max_time,
        "p95_low_s": p95.low,
        "p95_high_s": p95.high,
        "p95_note": p95.note or None,
        "p99_low_s": p99.low,
        "p99_high_s": p99.high,
        "p99_note": p99.note or None,
        "failure_count": stats.failure_count,
        "success_rate": stats.success_rate,
        "success_low": success.low,
        "success_high": success.high,
        "autocorrelation": autocorrelation(recent),
        "source": stats.source,
    }


def summary_frame(rows: Iterable[tuple[str, float, bool]]) -> pd.DataFrame:
    """Return the statistics of (operation, seconds, succeeded) by operation, as a table of `frames.STATS_COLUMNS`.

    Rows come in order of time; one without a duration (NaN) is left out.

    Examples
    --------
    >>> summary_frame([("tone", 0.2, True), ("tone", 0.4, False)])["success_rate"].tolist()
    [0.5]
    """
    durations: dict[str, list[float]] = {}
    failures: dict[str, int] = {}
    for operation, seconds, succeeded in rows:
        if math.isfinite(seconds):
            durations.setdefault(operation, []).append(seconds)
            failures[operation] = failures.get(operation, 0) + (not succeeded)
    records = [
        stats_row(name, summarise(values, failure_count=failures[name]), values, ranked(values))
        for name, values in durations.items()
    ]
    return frame(records, STATS_COLUMNS)

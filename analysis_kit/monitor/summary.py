"""A monitor's snapshot as text: the printed summary, the bottlenecks, and what a notebook shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis_kit import _html
from analysis_kit.monitor.estimates import percentile_by_rank
from analysis_kit.monitor.records import Alert, Snapshot
from analysis_kit.monitor.sketch import LogSketch

_TOP = 10
_LATEST_ALERTS = 5


def whole(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Return what is not part of something else: operations, or, where there are none, requests and waits."""
    return [each for each in snapshots if each.kind == "operation"] or list(snapshots)


def total_time(snapshots: Sequence[Snapshot]) -> float:
    """Return the seconds of all operations; requests and waits, which take place inside them, are not added."""
    parts = sum(each.total for each in snapshots if each.kind != "operation")
    return max(parts, sum(each.total for each in snapshots if each.kind == "operation"))


def find_bottlenecks(snapshots: Sequence[Snapshot], threshold_percentile: float) -> list[dict[str, Any]]:
    """Return the operations whose p95 reaches a percentile of all durations pooled; see the monitor's method."""
    limit = _pooled(snapshots, threshold_percentile)
    total = total_time(snapshots)
    found = [
        {
            "operation": each.name,
            "avg_time": stats.avg_time,
            "max_time": stats.max_time,
            "p95_time": stats.p95_time,
            "count": stats.count,
            "percentage_of_total": 100 * min(1.0, each.total / total) if total else 0.0,
        }
        for each in snapshots
        if (stats := each.stats()).p95_time >= limit
    ]
    return sorted(found, key=lambda each: -each["avg_time"])


def _pooled(snapshots: Sequence[Snapshot], fraction: float) -> float:
    """Return a percentile of all durations; from the sketches as soon as one operation has only that."""
    if all(each.sketch is None for each in snapshots):
        ordered = sorted(seconds for each in snapshots for seconds in each.durations())
        return percentile_by_rank(ordered.__getitem__, len(ordered), fraction)
    pooled = LogSketch()
    for each in snapshots:
        if each.sketch is None:
            pooled.add(each.durations())
        else:
            pooled.merge(each.sketch)
    # a bucket's middle may lie above all that is in it, which no operation could reach
    longest = max(each.longest for each in snapshots)
    return min(percentile_by_rank(pooled.at, len(pooled), fraction), longest)


def summary_text(snapshots: Sequence[Snapshot], alerts: Sequence[Alert], alert_count: int) -> str:
    """Return the printed summary."""
    shown = whole(snapshots)
    count = sum(each.count for each in shown)
    failures = sum(each.failures for each in shown)
    total = sum(each.total for each in shown)
    lines = [
        "PERFORMANCE SUMMARY",
        "=" * 80,
        "Overall Statistics:",
        f"  Total Operations: {count}",
        f"  Total Time: {total:.2f}s",
        f"  Total Failures: {failures}",
        f"  Success Rate: {(count - failures) / count:.1%}" if count else "  Success Rate: n/a",
        "",
        "Top Operations by Total Time:",
    ]
    for place, each in enumerate(sorted(shown, key=lambda each: -each.total)[:_TOP], 1):
        share = each.total / total if total else 0.0
        lines.append(
            f"  {place}. {_line(each.name)}: {each.total:.2f}s "
            f"({share:.1%}, {each.count} calls, avg: {each.total / each.count:.2f}s)"
        )
    lines += ["", "Identified Bottlenecks:"]
    lines += [
        f"  {place}. {_line(each['operation'])}: avg {each['avg_time']:.2f}s, "
        f"max {each['max_time']:.2f}s ({each['count']} calls)"
        for place, each in enumerate(find_bottlenecks(snapshots, 0.95)[:_TOP], 1)
    ]
    lines += ["", f"Performance Alerts: {alert_count}"]
    lines += [
        f"  • {_line(alert.operation)}: {alert.duration_s:.2f}s at {alert.at:%Y-%m-%dT%H:%M:%S}"
        for alert in alerts[-_LATEST_ALERTS:]
    ]
    return "\n".join(lines)


def _line(name: str) -> str:
    """Return ``name`` in one line, whatever it is."""
    return name if name.isprintable() and name else ascii(name)


def repr_text(snapshots: Sequence[Snapshot], alert_count: int, *, enabled: bool) -> str:
    """Return the monitor's repr."""
    shown = whole(snapshots)
    state = "" if enabled else "off, "
    return (
        f"<PerformanceMonitor {state}{sum(each.count for each in shown)} measurements of {len(shown)} operations, "
        f"{sum(each.total for each in shown):.2f} s, {sum(each.failures for each in shown)} failed, {alert_count} alerts>"
    )


def html_text(snapshots: Sequence[Snapshot], alert_count: int, *, enabled: bool) -> str:
    """Return what a notebook shows: a table of the operations by total time."""
    head = ("operation", "count", "total s", "avg s", "median s", "p95 s", "max s", "failed")
    most = sorted(snapshots, key=lambda each: -each.total)[: 2 * _TOP]
    rows = [
        (
            each.name,
            each.count,
            *(
                f"{seconds:,.3f}"
                for seconds in (each.total, stats.avg_time, stats.median_time, stats.p95_time, stats.max_time)
            ),
            each.failures,
        )
        for each, stats in ((each, each.stats()) for each in most)
    ]
    return _html.block(
        _html.table(head, rows, caption=repr_text(snapshots, alert_count, enabled=enabled)[1:-1])
    )

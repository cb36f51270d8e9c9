"""The monitor's tables: fixed names and dtypes, whether there is something to show or not."""

from __future__ import annotations

import math

import pytest

from analysis_kit import frames
from analysis_kit.events import SlotWaited
from analysis_kit.monitor.monitor import PerformanceMonitor
from analysis_kit.monitor.tables import MORE_SPLIT, MORE_STATS

TABLES = {
    "to_frame": frames.METRIC_COLUMNS,
    "stats_frame": (*frames.STATS_COLUMNS, *MORE_STATS),
    "split_frame": (*frames.SPLIT_COLUMNS, *MORE_SPLIT),
    "alerts_frame": frames.ALERT_COLUMNS,
}
SHOWN = {"json": "string"}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("filled", [False, True])
def test_tables_have_the_documented_columns_and_dtypes(table, filled):
    """Every table has its columns in order with their dtypes, empty and filled; times are UTC."""
    monitor = PerformanceMonitor(alert_threshold=0.1)
    if filled:
        monitor.record("call", 0.2, error_type="E", metadata={"unit": "Q&A 1"})
        monitor.record("call", 0.3)
        monitor.handle(SlotWaited("pool", "h", 0.1))
    found = getattr(monitor, table)()
    assert list(found.columns) == [column.name for column in TABLES[table]]
    assert [str(d) for d in found.dtypes] == [SHOWN.get(c.dtype, c.dtype) for c in TABLES[table]]
    assert (len(found) > 0) is filled


def test_raw_measurements_come_in_order_of_time():
    """Whatever operation they are of, the raw measurements are listed as they ended."""
    monitor = PerformanceMonitor()
    for name in ("a", "b", "a", "c", "b"):
        with monitor.measure(name):
            pass
    table = monitor.to_frame()
    assert table["operation"].tolist() == ["a", "b", "a", "c", "b"]
    assert table["ok"].all()
    assert table["error_type"].isna().all()


def test_too_few_measurements_show_no_interval_and_why():
    """Twenty measurements give percentiles, but no interval of them, and the table says so."""
    monitor = PerformanceMonitor()
    for number in range(20):
        monitor.record("call", 0.1 * ((number * 7) % 20))
    [row] = monitor.stats_frame().to_dict("records")
    assert math.isnan(row["p95_low_s"])
    assert (row["p95_note"], row["p99_note"]) == ("n too small (20)", "n too small (20)")
    assert row["avg_low_s"] < row["avg_s"] < row["avg_high_s"]
    assert row["success_low"] == pytest.approx(0.8389, abs=1e-4)


def test_operations_side_by_side_are_busy_once():
    """Throughput is counted over the time in which something ran, not over the sum of durations."""
    monitor = PerformanceMonitor()
    for _ in range(4):  # all end now, so they ran at the same time
        monitor.record("call", 10.0)
    [row] = monitor.stats_frame().to_dict("records")
    assert row["busy_s"] == pytest.approx(10.0, abs=0.5)
    assert row["per_busy_s"] == pytest.approx(0.4, rel=0.05)

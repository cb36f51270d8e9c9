"""Bounds: raw measurements, names and alerts stay few while sums stay exact, also while many threads write and read."""

from __future__ import annotations

import json
import logging
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from analysis_kit.monitor.monitor import PerformanceMonitor
from analysis_kit.monitor.recorder import MAX_NAMES, OTHER
from analysis_kit.monitor.sketch import RELATIVE_ERROR

FIELDS = {"p95_time": 95, "p99_time": 99, "median_time": 50}


def heavy_tail(size, seed=0):
    """Return Pareto durations: the slowest is thousands of times the median."""
    return (np.random.default_rng(seed).pareto(1.2, size) + 1) * 0.01


def test_raw_measurements_are_bounded_and_sums_are_not():
    """Beyond max_metrics the latest raw ones stay, while count, sum, extremes and failures cover all time."""
    monitor = PerformanceMonitor(max_metrics=100)
    for number in range(1, 5001):
        monitor.record("call", number, error_type="E" if number <= 10 else None)
    stats = monitor.get_stats()["call"]
    assert (stats.count, stats.total_time, stats.min_time, stats.max_time) == (5000, 12_502_500, 1, 5000)
    assert (stats.failure_count, stats.source) == (10, "sketch")
    assert monitor.to_frame()["duration_s"].tolist() == list(range(4901, 5001))


def test_percentiles_are_exact_until_raw_ones_are_dropped():
    """With every duration at hand percentiles are numpy's; one more and they come from the sketch, within its error."""
    values = heavy_tail(1000)
    monitor = PerformanceMonitor(max_metrics=1000)
    for value in values:
        monitor.record("call", value)
    stats = monitor.get_stats()["call"]
    assert stats.source == "exact"
    for field, percent in FIELDS.items():
        assert getattr(stats, field) == pytest.approx(np.percentile(values, percent), rel=1e-12)
    monitor.record("call", values[0])
    stats = monitor.get_stats()["call"]
    assert stats.source == "sketch"
    for field, percent in FIELDS.items():
        exact = np.percentile([*values, values[0]], percent)
        assert getattr(stats, field) == pytest.approx(exact, rel=RELATIVE_ERROR)


@pytest.mark.parametrize("seed", range(5))
def test_all_time_percentiles_of_heavy_tails_are_within_one_percent(seed):
    """The p99 of 50,000 heavy-tailed durations, of which 100 raw ones are left, is within 1 % of the exact one."""
    values = heavy_tail(50_000, seed)
    monitor = PerformanceMonitor(max_metrics=100)
    for value in values.tolist():
        monitor.record("call", value)
    stats = monitor.get_stats()["call"]
    for field, percent in FIELDS.items():
        assert getattr(stats, field) == pytest.approx(np.percentile(values, percent), rel=0.01)
    assert stats.min_time <= stats.median_time <= stats.p95_time <= stats.p99_time <= stats.max_time


def test_a_busy_operation_does_not_push_out_a_rare_one():
    """The raw measurements are shared out: a rare operation keeps all of its own while a busy one is cut."""
    monitor = PerformanceMonitor(max_metrics=200)
    for number in range(40):
        monitor.record("rare", number)
    for number in range(10_000):
        monitor.record("busy", number)
        monitor.record("also busy", number)
    stats = monitor.get_stats()
    assert (stats["rare"].source, stats["busy"].source) == ("exact", "sketch")
    kept = monitor.to_frame()["operation"].value_counts().to_dict()
    assert kept == {"rare": 40, "busy": 80, "also busy": 80}


@pytest.mark.parametrize("max_metrics", [1, 2, 7])
def test_very_small_bounds_hold(max_metrics):
    """With room for less than one measurement an operation, the bound holds and nothing is lost from the counts."""
    monitor = PerformanceMonitor(max_metrics=max_metrics)
    for number in range(700):
        monitor.record(f"operation {number % 5}", number)
    stats = monitor.get_stats()
    assert [each.count for each in stats.values()] == [140] * 5
    assert all(each.min_time <= each.p95_time <= each.max_time for each in stats.values())
    assert len(monitor.to_frame()) == max_metrics


def test_a_flood_of_names_is_counted_together_and_said_once(caplog):
    """Names beyond the thousandth share one operation, which one warning says; nothing is lost from the total."""
    monitor = PerformanceMonitor()
    with caplog.at_level(logging.WARNING):
        for number in range(3 * MAX_NAMES):
            with monitor.measure(f"unit {number}"):
                pass
    stats = monitor.get_stats()
    assert len(stats) == MAX_NAMES + 1
    assert stats[OTHER].count == 2 * MAX_NAMES
    assert sum(each.count for each in stats.values()) == 3 * MAX_NAMES
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Put what varies into metadata" in caplog.text


def test_alerts_are_bounded_and_their_number_is_not():
    """The latest thousand alerts are kept, and how many there were is known."""
    monitor = PerformanceMonitor(alert_threshold=0.5)
    for number in range(1500):
        monitor.record("slow", 1 + number)
    assert (len(monitor.alerts), monitor.alert_count) == (1000, 1500)
    assert monitor.alerts[-1].duration_s == 1500


def test_memory_is_flat_once_the_bound_is_reached():
    """From 20,000 measurements on, a hundred thousand more take no more memory."""
    monitor = PerformanceMonitor(max_metrics=2000)

    def work(size):
        for number in range(size):
            with monitor.measure("call", {"number": number}):
                pass
        monitor.snapshot()

    tracemalloc.start()
    try:
        work(20_000)
        before, _ = tracemalloc.get_traced_memory()
        work(100_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert monitor.get_stats()["call"].count == 120_000
    assert after < 1.1 * before


def test_M5_reading_and_exporting_while_threads_write(tmp_path):
    """Eight threads measure while another reads and exports all the time: no error, and each view is consistent."""
    monitor = PerformanceMonitor(max_metrics=100, alert_threshold=1e-9)
    rounds, writers = 3000, 8
    barrier = threading.Barrier(writers + 1)
    writing = threading.Event()
    writing.set()

    def write(worker):
        barrier.wait()
        for number in range(rounds):
            try:
                with monitor.measure(f"operation {number % 3}", {"worker": worker}):
                    if number % 10 == 0:
                        raise ValueError(number)
            except ValueError:
                pass

    def read():
        barrier.wait()
        seen = views = 0
        while writing.is_set() or views < 3:
            stats = monitor.get_stats()
            total = sum(each.count for each in stats.values())
            assert total >= seen
            seen = total
            for each in stats.values():
                assert 0 <= each.failure_count <= each.count
                assert each.min_time <= each.median_time <= each.p95_time <= each.p99_time <= each.max_time
                assert each.min_time <= each.avg_time <= each.max_time
            monitor.export_to_json(tmp_path / "out.json")
            document = json.loads((tmp_path / "out.json").read_text())
            assert len(document["records"]) <= 100
            monitor.summary()
            assert len(monitor.to_frame()) <= 100
            views += 1

    with ThreadPoolExecutor(writers + 1) as pool:
        reader = pool.submit(read)
        try:
            for each in [pool.submit(write, worker) for worker in range(writers)]:
                each.result()
        finally:
            writing.clear()
        reader.result()
    stats = monitor.get_stats()
    assert sum(each.count for each in stats.values()) == rounds * writers
    assert sum(each.failure_count for each in stats.values()) == rounds * writers // 10
    assert monitor.alert_count == rounds * writers
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_writers_and_resets_at_once_leave_a_usable_monitor():
    """Resetting while threads measure loses only what a reset forgets, and the bound still holds afterwards."""
    monitor = PerformanceMonitor(max_metrics=50)
    with ThreadPoolExecutor(4) as pool:

        def write(_):
            for number in range(2000):
                with monitor.measure(f"operation {number % 7}"):
                    pass

        writers = [pool.submit(write, worker) for worker in range(3)]
        while not all(each.done() for each in writers):
            monitor.reset()
        for each in writers:
            each.result()
    monitor.reset()
    for number in range(500):
        monitor.record("after", number)
    assert monitor.get_stats()["after"].count == 500
    assert len(monitor.to_frame()) == 50

"""The process-wide monitor: made from settings, replaced through the container, and reached from worker processes."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from analysis_kit import events
from analysis_kit.container import get_container, reset_container
from analysis_kit.engine.engine import AsyncAnalysisEngine
from analysis_kit.engine.loop import run_async
from analysis_kit.events import OperationTimed, SlotWaited
from analysis_kit.monitor.monitor import PerformanceMonitor, get_monitor, reset_monitor
from analysis_kit.settings import override_settings


@pytest.fixture(autouse=True)
def _fresh():
    reset_container()
    reset_monitor()
    yield
    reset_monitor()
    reset_container()


def test_it_is_one_and_is_made_from_the_settings():
    """Every caller gets the same monitor, with the settings' values."""
    with override_settings(PERFORMANCE_ALERT_THRESHOLD=1.5, PERFORMANCE_MAX_METRICS=7):
        monitor = get_monitor()
    assert get_monitor() is monitor
    assert (monitor.enabled, monitor.alert_threshold, monitor.max_metrics) == (True, 1.5, 7)


def test_it_listens_once_from_its_first_use_until_it_is_reset():
    """Events reach it without being asked for, once, however often it is fetched; a reset ends that."""
    monitor = get_monitor()
    get_monitor()
    events.emit(SlotWaited("pool", "h", 0.5))
    assert monitor.get_stats()["pool wait"].count == 1
    reset_monitor()
    assert not events.listening()
    assert get_monitor() is not monitor


def test_switched_off_by_the_settings_nobody_listens():
    """With monitoring off no event need be built at all."""
    with override_settings(ENABLE_PERFORMANCE_MONITORING=False):
        monitor = get_monitor()
        assert not monitor.enabled
        assert not events.listening()
    monitor.enabled = True
    get_monitor()
    assert events.listening()


def test_one_registered_in_the_container_takes_its_place():
    """An override through the container reaches everybody who asks, and it is the one that listens."""
    usual, mine = get_monitor(), PerformanceMonitor()
    get_container().register_singleton(PerformanceMonitor, instance=mine)
    assert get_monitor() is mine
    events.emit(SlotWaited("pool", "h", 0.5))
    assert (len(mine.get_stats()), len(usual.get_stats())) == (1, 0)
    reset_container()
    assert get_monitor() is usual
    events.emit(SlotWaited("pool", "h", 0.5))
    assert (len(mine.get_stats()), len(usual.get_stats())) == (1, 1)


def _measured_in_child(fail):
    """Run in a worker: measure two operations, and return what the events told there."""
    told = []
    stop = events.subscribe(told.append)
    try:
        for broken in (False, fail):
            try:
                with get_monitor().measure("in the child"):
                    if broken:
                        raise ValueError("no")
            except ValueError:
                pass
    finally:
        stop()
    return os.getpid(), told, get_monitor().get_stats()["in the child"].count


def _assert_carried(pid, told, own_count):
    assert pid != os.getpid()
    assert own_count == 2  # neither the parent's nor its own events counted
    assert [(each.name, each.ok, each.error_type) for each in told if isinstance(each, OperationTimed)] == [
        ("in the child", True, None),
        ("in the child", False, "ValueError"),
    ]
    monitor = get_monitor()
    for each in told:
        events.emit(each)
    stats = monitor.get_stats()["in the child"]
    assert (stats.count, stats.failure_count) == (2, 1)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_measurements_in_worker_processes_can_be_carried_to_the_parent(method):
    """In a real worker process each measurement is told as an event, which counts once when it is emitted here."""
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        _assert_carried(*pool.submit(_measured_in_child, fail=True).result())


def test_measurements_in_loky_workers_can_be_carried_to_the_parent():
    """The same through loky, which ships functions of a notebook."""
    loky = pytest.importorskip("loky")
    pool = loky.ProcessPoolExecutor(1, timeout=10)
    try:
        _assert_carried(*pool.submit(_measured_in_child, True).result())
    finally:
        pool.shutdown(wait=True, kill_workers=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_begins_anew_even_while_the_parent_reads():
    """A child forked with the monitor's lock held measures and reads without hanging, and without the parent's numbers."""
    monitor = get_monitor()
    monitor.record("in the parent", 9.0)

    def child(sender):
        told = []
        events.subscribe(told.append)
        with get_monitor().measure("in the child"):
            pass
        sender.send((list(get_monitor().get_stats()), [each.name for each in told], get_monitor() is monitor))

    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=child, args=(sender,))
    with monitor._lock:
        process.start()
    try:
        assert receiver.poll(30)
        assert receiver.recv() == (["in the child"], ["in the child"], True)
    finally:
        process.join(30)
        receiver.close()
        sender.close()
    assert process.exitcode == 0
    assert list(monitor.get_stats()) == ["in the parent"]


def _measured_length(text):
    with get_monitor().measure("in the child"):
        return len(text)


def test_measurements_in_the_engines_processes_arrive_once():
    """Run over real worker processes, what a function measures there is in this process's monitor, and counts once."""
    monitor = get_monitor()

    async def main():
        with AsyncAnalysisEngine(max_workers=2, use_processes=True) as engine:
            return await engine.analyze_sections_parallel(
                {f"section {n}": "x" * n for n in range(6)}, _measured_length, "in the child"
            )

    assert list(run_async(main()).values()) == list(range(6))
    assert monitor.get_stats()["in the child"].count == 6


def _length(text):
    return len(text)


@pytest.mark.parametrize("use_processes", [False, True])
def test_a_plain_function_of_the_engine_appears_under_its_name(use_processes):
    """A function that measures nothing is listed by its units, from threads and from processes."""
    monitor = get_monitor()

    async def main():
        with AsyncAnalysisEngine(max_workers=2, use_processes=use_processes) as engine:
            return await engine.analyze_sections_parallel({"a": "one", "b": "three"}, _length, "length")

    assert run_async(main()) == {"a": 3, "b": 5}
    assert monitor.get_stats()["length"].count == 2

"""Measuring: as a context and as a decorator, in threads, tasks and generators, with failures and odd input."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest

from analysis_kit.errors import ConfigurationError
from analysis_kit.monitor import timing
from analysis_kit.monitor.monitor import PerformanceMonitor


@pytest.fixture
def monitor():
    """Return a monitor of its own."""
    return PerformanceMonitor()


@pytest.fixture
def clock(monkeypatch):
    """Replace the monotonic clock by one that a test moves by hand: ``clock[0] += 2.5``."""
    now = [1000.0]
    monkeypatch.setattr(timing, "perf_counter", lambda: now[0])
    return now


def test_context_measures_the_block(monitor, clock):
    """The time between entering and leaving the block is the duration, and what the caller noted stands beside it."""
    with monitor.measure("sentiment_analysis", metadata={"text_len": 1000}):
        clock[0] += 2.5
    stats = monitor.get_stats()["sentiment_analysis"]
    assert (stats.count, stats.total_time, stats.success_rate, stats.failure_count) == (1, 2.5, 1.0, 0)
    [kept] = monitor.slowest_operations(1)
    assert (kept.operation, kept.duration_s, kept.ok) == ("sentiment_analysis", 2.5, True)
    assert kept.metadata == {"text_len": 1000}
    assert kept.thread == threading.current_thread().name


def test_statistics_are_those_of_the_durations(monitor):
    """Each attribute of the design's table has the value that its definition gives for 1, 2, ..., 100 s."""
    for seconds in range(1, 101):
        monitor.record("call", seconds, error_type="TimeoutError" if seconds > 97 else None)
    stats = monitor.get_stats()["call"]
    assert stats.count == 100
    assert stats.total_time == 5050
    assert stats.avg_time == 50.5
    assert (stats.min_time, stats.max_time) == (1, 100)
    assert stats.median_time == 50.5
    assert stats.p95_time == pytest.approx(95.05)
    assert stats.p99_time == pytest.approx(99.01)
    assert stats.failure_count == 3
    assert stats.success_rate == pytest.approx(0.97)


def test_statistics_cannot_be_changed(monitor):
    """What get_stats gives is frozen, so that no caller can change what another one reads."""
    monitor.record("call", 1.0)
    with pytest.raises(AttributeError):
        monitor.get_stats()["call"].count = 5


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_a_body_that_raises_is_a_failure_and_raises_on(monitor, error):
    """An exception of any kind passes through unchanged and counts as a failure with its type's name."""
    raised = error("no")
    with pytest.raises(error) as caught, monitor.measure("call"):
        raise raised
    assert caught.value is raised
    assert monitor.get_stats()["call"].failure_count == 1
    assert monitor.slowest_operations(1)[0].error_type == error.__name__


def test_nested_operations_each_count_their_own_whole_time(monitor, clock):
    """An operation inside another is measured by itself, and also one inside another of the same name."""
    with monitor.measure("outer"):
        clock[0] += 1
        with monitor.measure("inner"):
            clock[0] += 2
            with monitor.measure("outer"):
                clock[0] += 4
    stats = monitor.get_stats()
    assert (stats["inner"].total_time, stats["outer"].total_time) == (6, 7 + 4)


def test_one_measurement_object_serves_several_blocks_but_not_at_once(monitor, clock):
    """The same object can be entered again after it was left; entered twice at once it says so instead of misleading."""
    once = monitor.measure("call")
    for _ in range(2):
        with once:
            clock[0] += 3
    assert monitor.get_stats()["call"].total_time == 6
    with (
        once,
        pytest.raises(ConfigurationError, match=r"'call' is running already; call measure\(\) anew"),
        once,
    ):
        pass
    assert monitor.get_stats()["call"].count == 3


def test_decorates_functions_and_methods(monitor, clock):
    """A decorated function keeps its name, arguments, result and exceptions, and each call is measured."""

    class Reader:
        @monitor.measure("read", metadata={"kind": "file"})
        def read(self, size, *, fail=False):
            """Read."""
            clock[0] += size
            if fail:
                raise OSError("gone")
            return size * 2

    assert Reader().read(3) == 6
    with pytest.raises(OSError, match="gone"):
        Reader().read(4, fail=True)
    assert (Reader.read.__name__, Reader.read.__doc__) == ("read", "Read.")
    stats = monitor.get_stats()["read"]
    assert (stats.count, stats.total_time, stats.failure_count) == (2, 7, 1)


def test_decorated_function_may_call_itself(monitor, clock):
    """Recursion measures each level."""

    @monitor.measure("down")
    def down(n):
        clock[0] += 1
        return n if n == 0 else down(n - 1)

    assert down(3) == 0
    assert monitor.get_stats()["down"].total_time == 4 + 3 + 2 + 1


class Asker:
    """Objects whose call is async."""

    async def __call__(self, gate):
        await gate.wait()
        return "answer"


async def ask(gate):
    """Answer once the gate is open."""
    await gate.wait()
    return "answer"


@pytest.mark.parametrize("asking", [ask, partial(ask), Asker()], ids=["function", "partial", "callable"])
def test_a_decorated_coroutine_is_measured_until_it_ends(monitor, clock, asking):
    """Async functions, partials of them and objects with an async call are timed over their awaits, also side by side."""
    measured = monitor.measure("ask")(asking)

    async def main():
        gate = asyncio.Event()
        tasks = [asyncio.create_task(measured(gate)) for _ in range(3)]
        await asyncio.sleep(0)
        clock[0] += 5
        gate.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == ["answer"] * 3
    stats = monitor.get_stats()["ask"]
    assert (stats.count, stats.min_time, stats.max_time) == (3, 5, 5)


def test_a_cancelled_task_counts_as_failure_and_stays_cancelled(monitor):
    """Cancelling a measured task reaches its caller, and the monitor says what became of it."""

    async def main():
        gate = asyncio.Event()
        task = asyncio.create_task(monitor.measure("ask")(ask)(gate))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert monitor.slowest_operations(1)[0].error_type == "CancelledError"


def test_a_decorated_generator_is_measured_to_its_end(monitor, clock):
    """A generator counts once, from its first item to its last, and what is sent into it or returned by it passes."""

    @monitor.measure("items")
    def items():
        clock[0] += 1
        got = yield "first"
        clock[0] += 2
        yield got
        return "done"

    running = items()
    assert monitor.get_stats() == {}
    assert next(running) == "first"
    assert running.send("sent") == "sent"
    with pytest.raises(StopIteration) as end:
        next(running)
    assert end.value.value == "done"
    stats = monitor.get_stats()["items"]
    assert (stats.count, stats.total_time, stats.failure_count) == (1, 3, 0)


def test_a_generator_closed_early_has_not_failed(monitor):
    """A consumer that has enough is no failure of the generator."""

    @monitor.measure("items")
    def items():
        yield 1
        yield 2

    running = items()
    next(running)
    running.close()
    assert monitor.get_stats()["items"].failure_count == 0


def test_a_decorated_async_generator_behaves_as_before_and_is_measured(monitor, clock):
    """Items, sent values, thrown errors and an early close reach an async generator through the measurement."""
    closed = []

    @monitor.measure("items")
    async def items():
        try:
            clock[0] += 1
            got = yield "first"
            try:
                yield got
            except ValueError as exc:
                yield f"caught {exc}"
        finally:
            closed.append(True)

    async def main():
        running = items()
        assert await anext(running) == "first"
        assert await running.asend("sent") == "sent"
        assert await running.athrow(ValueError("thrown")) == "caught thrown"
        with pytest.raises(StopAsyncIteration):
            await anext(running)
        early = items()
        await anext(early)
        await early.aclose()

    asyncio.run(main())
    assert closed == [True, True]
    stats = monitor.get_stats()["items"]
    assert (stats.count, stats.total_time, stats.failure_count) == (2, 2, 0)


def test_switched_off_it_measures_nothing_until_it_is_switched_on(clock):
    """A monitor that is off records nothing; functions decorated meanwhile are measured once it is on."""
    monitor = PerformanceMonitor(enabled=False)

    @monitor.measure("call")
    def call():
        clock[0] += 1
        return "done"

    with monitor.measure("block"):
        assert call() == "done"
    monitor.record("given", 1.0)
    assert monitor.get_stats() == {}
    monitor.enabled = True
    call()
    assert monitor.get_stats()["call"].total_time == 1


def test_metadata_is_taken_as_it_was_then(monitor):
    """A mapping that the caller fills anew for each call is copied, so that each measurement keeps its own."""
    noted = {}
    for number in range(3):
        noted["number"] = number
        with monitor.measure("call", noted):
            pass
    assert monitor.to_frame()["metadata"].tolist() == ['{"number": 0}', '{"number": 1}', '{"number": 2}']


@pytest.mark.parametrize(
    "noted",
    [
        {"nan": float("nan"), "far": float("inf")},
        {"scalar": np.float64(0.5), "whole": np.int64(3), "flag": np.bool_(1), "array": np.arange(3)},
        {"error": ValueError("bad value")},
        {3: "a number as name", ("a", 1): None},
        {"text": "\ud800 half a character", "when": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
    ids=["nan", "numpy", "exception", "names", "text"],
)
def test_odd_metadata_can_be_recorded_and_read(monitor, noted, tmp_path):
    """NaN, numpy values, exceptions and names of any kind in metadata break neither tables nor exports."""
    with monitor.measure("call", noted):
        pass
    assert monitor.to_frame()["metadata"].notna().all()
    monitor.export_to_json(tmp_path / "out.json")


def test_metadata_that_cannot_be_written_says_so_in_its_place(monitor):
    """One value that holds itself spoils neither the rest of its record's metadata nor the table of all the others."""
    endless = {"section": "Outlook"}
    endless["self"] = endless
    monitor.record("call", 1.0, metadata=endless)
    monitor.record("call", 2.0, metadata={"fine": True})
    assert monitor.to_frame()["metadata"].tolist() == [
        '{"section": "Outlook", "self": "unreadable: RecursionError"}',
        '{"fine": true}',
    ]


def test_metadata_that_is_no_mapping_is_refused_before_the_body_runs(monitor):
    """A mistake in the call is told at once and never instead of the body's own exception."""
    with pytest.raises(ConfigurationError, match=r"metadata of 'call' must be a mapping .* is list"):
        monitor.measure("call", ["not", "a", "mapping"])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", ""),
        ("two\nlines", "two\nlines"),
        ("Ünïcödé 语", "Ünïcödé 语"),
        ("\ud800", "\\ud800"),
        (7, "7"),
        (None, "None"),
        (["a", "list"], "['a', 'list']"),
    ],
)
def test_names_of_any_kind_are_taken(monitor, name, shown, tmp_path):
    """Whatever a caller gives as a name is counted under its text, printed in one line, and can be exported."""
    for _ in range(2):
        with monitor.measure(name):
            pass
    assert monitor.get_stats()[shown].count == 2
    top = next(line for line in monitor.summary().splitlines() if line.startswith("  1. "))
    assert "(100.0%, 2 calls" in top
    monitor.export_to_json(tmp_path / "out.json")


def test_M4_a_wall_clock_set_back_changes_no_duration(monitor, monkeypatch):
    """Durations come from a monotonic clock: a step of the wall clock inside a block leaves them, and times stay aware."""
    real = time.time
    with monitor.measure("call"):
        monkeypatch.setattr(time, "time", lambda: real() - 3600)
        monkeypatch.setattr(timing, "time", lambda: real() - 3600)
    monkeypatch.undo()
    [kept] = monitor.slowest_operations(1)
    assert 0 <= kept.duration_s < 60
    assert kept.started_at.utcoffset() == timedelta(0)
    assert str(monitor.to_frame()["started_at"].dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -0.001])
def test_a_duration_that_is_none_is_refused(monitor, seconds):
    """What cannot be a duration is told to the caller and changes no statistic."""
    with pytest.raises(ConfigurationError, match="finite number of seconds from 0 up"):
        monitor.record("call", seconds)
    assert monitor.get_stats() == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"alert_threshold": 0},
        {"alert_threshold": float("nan")},
        {"alert_threshold": None},
        {"max_metrics": 0},
        {"max_metrics": 2.5},
        {"max_metrics": None},
    ],
)
def test_numbers_out_of_range_are_refused_by_name(wrong):
    """A constructor value that cannot work names the parameter and what is allowed."""
    [name] = wrong
    with pytest.raises(ConfigurationError, match=f"{name} is .* must be"):
        PerformanceMonitor(**wrong)


def test_alerts_are_kept_and_told_to_subscribers(monitor, clock, caplog):
    """An operation beyond the threshold leaves an alert, is told once to each subscriber, and one INFO record says so."""
    told = []
    stop = monitor.on_alert(told.append)
    with caplog.at_level(logging.INFO), monitor.measure("llm_sentiment", {"unit": "Q&A 1"}):
        clock[0] += 5.23
    with monitor.measure("quick"):
        clock[0] += 5.0
    stop()
    with monitor.measure("llm_sentiment"):
        clock[0] += 6
    [first, second] = monitor.alerts
    assert told == [first]
    assert (first.operation, first.duration_s, first.threshold_s) == (
        "llm_sentiment",
        pytest.approx(5.23),
        5.0,
    )
    assert first.metadata == {"unit": "Q&A 1"}
    assert first.at.utcoffset() == timedelta(0)
    assert second.duration_s == 6
    assert [r.levelname for r in caplog.records] == ["INFO"]
    table = monitor.alerts_frame()
    assert table["operation"].tolist() == ["llm_sentiment", "llm_sentiment"]


def test_a_subscriber_that_fails_or_measures_something_slow_does_no_harm(monitor, clock, caplog):
    """A broken subscriber is logged, the next one is still told, and one that is slow itself does not loop."""
    told = []

    def slow(alert):
        told.append(alert.operation)
        with monitor.measure("in the subscriber"):
            clock[0] += 9

    monitor.on_alert(lambda alert: 1 / 0)
    monitor.on_alert(slow)
    with monitor.measure("call"):
        clock[0] += 7
    assert told == ["call"]
    assert [alert.operation for alert in monitor.alerts] == ["call", "in the subscriber"]
    assert "a subscriber to alerts failed on 'call'" in caplog.text


def test_slowest_operations_gives_the_outliers_first(monitor):
    """The n slowest single measurements come slowest first, of whatever operation."""
    for name, seconds in (("a", 1.0), ("b", 9.0), ("a", 5.0), ("c", 3.0)):
        monitor.record(name, seconds)
    found = [(each.operation, each.duration_s) for each in monitor.slowest_operations(3)]
    assert found == [("b", 9.0), ("a", 5.0), ("c", 3.0)]


def test_reset_forgets_all_and_does_not_count_what_was_running(monitor, clock):
    """After a reset only what begins afterwards counts; functions decorated before are measured on."""

    @monitor.measure("decorated")
    def call():
        clock[0] += 1

    call()
    monitor.record("slow", 60.0)
    with monitor.measure("running"):
        monitor.reset()
        assert (monitor.get_stats(), monitor.alerts, monitor.alert_count) == ({}, (), 0)
    call()
    assert list(monitor.get_stats()) == ["decorated"]


def test_thread_names_are_those_of_the_threads_that_measured(monitor):
    """Each measurement carries its own thread's name, also when the system gives a thread number out again."""

    def work(number):
        with monitor.measure("call", {"number": number}):
            pass

    for number in range(5):  # one after the other: the same number, as a rule
        thread = threading.Thread(target=work, args=(number,), name=f"worker {number}")
        thread.start()
        thread.join()
    assert monitor.to_frame()["thread"].tolist() == [f"worker {number}" for number in range(5)]

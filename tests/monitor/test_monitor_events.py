"""Events: requests, waits and units become operations without counting anything twice; the time split is honest."""

from __future__ import annotations

import math

import pytest

from analysis_kit import events
from analysis_kit.events import OperationTimed, RequestFinished, SlotWaited, UnitFinished, UnitStarted
from analysis_kit.monitor.monitor import PerformanceMonitor

PARTS = ["wait_s", "queue_s", "load_s", "prompt_s", "generate_s", "other_s"]


@pytest.fixture
def monitor():
    """Return a monitor that listens to events while the test runs."""
    listening = PerformanceMonitor()
    stop = events.subscribe(listening.handle)
    yield listening
    stop()


def request(**values):
    """Return one finished request of 2 s."""
    base = {
        "host": "http://127.0.0.1:11434",
        "model": "m",
        "endpoint": "/api/chat",
        "duration_s": 2.0,
        "ok": True,
    }
    told = {"queue_s": 0.1, "load_s": 0.2, "prompt_s": 0.3, "generate_s": 1.0, "first_token_s": 0.7}
    return RequestFinished(**{**base, **told, "prompt_tokens": 50, "generated_tokens": 20, **values})


def test_a_request_is_an_operation_with_its_servers_split(monitor):
    """A request counts under its endpoint with host, model, tokens and parts beside it; the rest is client and network."""
    events.emit(request())
    assert monitor.get_stats()["ollama chat"].total_time == 2.0
    [row] = monitor.split_frame().to_dict("records")
    assert row["operation"] == "ollama chat"
    assert row["requests"] == 1
    assert [row[part] for part in PARTS[1:]] == pytest.approx([0.1, 0.2, 0.3, 1.0, 0.4])
    assert math.isnan(row["wait_s"])
    noted = monitor.slowest_operations(1)[0].metadata
    assert (noted["host"], noted["model"], noted["generated_tokens"]) == ("http://127.0.0.1:11434", "m", 20)


def test_what_no_request_told_is_not_a_number_and_never_zero(monitor):
    """A server that keeps no counters gives NaN parts, and so is what is left over for client and network."""
    nan = math.nan
    events.emit(request(queue_s=nan, load_s=nan, prompt_s=nan, generate_s=nan, first_token_s=nan))
    [row] = monitor.split_frame().to_dict("records")
    assert all(math.isnan(row[part]) for part in PARTS)
    assert math.isnan(row["tokens_per_s"])
    assert math.isnan(row["first_token_s"])


def test_sums_hold_what_was_told(monitor):
    """A request without a counter adds nothing to that part's sum and stops no other; a known zero stays zero."""
    events.emit(request(load_s=0.0))
    events.emit(request(load_s=math.nan))
    [row] = monitor.split_frame().to_dict("records")
    assert row["requests"] == 2
    assert (row["load_s"], row["generate_s"]) == (0.0, 2.0)
    assert row["other_s"] == pytest.approx(2.0 - 1.4)
    assert row["generated_tokens"] == 40
    assert row["tokens_per_s"] == pytest.approx(20)
    assert row["first_token_s"] == pytest.approx(0.7)


def test_counters_beyond_the_measured_time_leave_nothing_over(monitor):
    """A server whose counters add up to more than the client saw gives 0 for the rest, not a negative time."""
    events.emit(request(duration_s=1.5))
    assert monitor.split_frame()["other_s"].tolist() == [0.0]


def test_a_failed_request_counts_as_failure_with_its_type(monitor):
    """A request that failed is a failure of its operation and tells no parts."""
    events.emit(RequestFinished("h", "m", "/api/generate", 0.5, ok=False, error_type="ServerBusyError"))
    stats = monitor.get_stats()["ollama generate"]
    assert (stats.count, stats.failure_count) == (1, 1)
    assert monitor.to_frame()["error_type"].tolist() == ["ServerBusyError"]


def test_waits_for_a_slot_are_their_own_operation(monitor):
    """Each wait for a slot of the pool counts as pool wait and fills only that part of the split."""
    events.emit(SlotWaited("pool", "h", 0.25))
    events.emit(SlotWaited("pool", "h", 30.0, ok=False))
    stats = monitor.get_stats()["pool wait"]
    assert (stats.count, stats.total_time, stats.failure_count) == (2, 30.25, 1)
    [row] = monitor.split_frame().to_dict("records")
    assert row["wait_s"] == 30.25
    assert all(math.isnan(row[part]) for part in PARTS[1:])


def test_an_analyzer_that_measures_itself_is_not_counted_again(monitor):
    """A unit whose analyzer's name was measured by hand, in this or an earlier unit, adds no operation."""
    for unit in ("Q&A 1", "Q&A 2"):
        events.emit(UnitStarted("sentiment", unit))
        with monitor.measure("sentiment"):
            pass
        events.emit(UnitFinished("sentiment", unit, "done", 1.0))
    assert monitor.get_stats()["sentiment"].count == 2


def test_a_unit_that_is_still_being_measured_is_not_counted_again(monitor):
    """A name counts as measured from the beginning of its first measurement, not from its end."""
    with monitor.measure("sentiment"):
        events.emit(UnitFinished("sentiment", "Q&A 1", "done", 1.0))
    assert monitor.get_stats()["sentiment"].count == 1


def test_a_plain_function_run_by_the_engine_appears_by_its_units(monitor):
    """Where nobody measures the name, each unit that ran is an operation, with its failures; one never begun is none."""
    events.emit(UnitFinished("my_function", "a", "done", 1.5))
    events.emit(UnitFinished("my_function", "b", "failed", 0.5, error_type="ValueError"))
    events.emit(UnitFinished("my_function", "c", "cancelled", 0.25))
    events.emit(UnitFinished("my_function", "d", "not started", 0.0))
    stats = monitor.get_stats()["my_function"]
    assert (stats.count, stats.total_time, stats.failure_count) == (3, 2.25, 2)
    table = monitor.to_frame()
    assert table["error_type"].tolist()[1:] == ["ValueError", "cancelled"]
    assert '"unit": "a"' in table["metadata"][0]


def test_after_a_reset_nobody_has_measured_anything(monitor):
    """The rule counts from the last reset, as a name may have been measured by something that is gone."""
    with monitor.measure("tone"):
        pass
    monitor.reset()
    events.emit(UnitFinished("tone", "a", "done", 1.0))
    assert monitor.get_stats()["tone"].count == 1


def test_answers_from_the_cache_do_not_drag_percentiles(monitor):
    """A cached unit is kept apart under its own name, whether its analyzer measures itself or not."""
    with monitor.measure("sentiment"):
        pass
    for _ in range(20):
        events.emit(UnitFinished("sentiment", "a", "cached", 0.001))
    stats = monitor.get_stats()
    assert (stats["sentiment"].count, stats["sentiment (cached)"].count) == (1, 20)


def test_operations_timed_in_a_worker_process_count_like_those_measured_here(monitor):
    """What a worker process tells counts as measured, so that the unit's event does not count it again."""
    events.emit(OperationTimed("sentiment", 2.0, ok=True))
    events.emit(OperationTimed("sentiment", 4.0, ok=False, error_type="ValueError"))
    events.emit(UnitFinished("sentiment", "a", "done", 2.1))
    stats = monitor.get_stats()["sentiment"]
    assert (stats.count, stats.total_time, stats.failure_count) == (2, 6.0, 1)


def test_what_takes_place_inside_operations_is_not_added_to_their_time(monitor):
    """Totals and shares count an analyzer's time once, though its request and its wait are operations as well."""
    monitor.record("sentiment", 2.5)
    events.emit(request())
    events.emit(SlotWaited("pool", "h", 0.4))
    text = monitor.summary()
    assert "Total Operations: 1\n  Total Time: 2.50s" in text
    assert "1. sentiment: 2.50s (100.0%, 1 calls, avg: 2.50s)" in text
    shares = {each["operation"]: each["percentage_of_total"] for each in monitor.identify_bottlenecks(0.0)}
    assert shares == pytest.approx({"sentiment": 100, "ollama chat": 80, "pool wait": 16})


def test_requests_alone_are_what_there_is(monitor):
    """Somebody who calls the client without measuring still gets totals: of the requests."""
    events.emit(request())
    assert "Total Operations: 1\n  Total Time: 2.00s" in monitor.summary()


def test_slow_requests_and_waits_raise_no_alert_of_their_own(monitor):
    """A slow call is one alert, that of the operation; not three for its request and its wait as well."""
    monitor.record("sentiment", 20.0)
    events.emit(request(duration_s=19.0))
    events.emit(SlotWaited("pool", "h", 9.0))
    assert [alert.operation for alert in monitor.alerts] == ["sentiment"]


def test_an_event_without_a_duration_is_logged_and_changes_nothing(monitor, caplog):
    """A broken event does not poison sums: it is refused, and the log says so."""
    events.emit(SlotWaited("pool", "h", math.nan))
    assert monitor.get_stats() == {}
    assert "an event listener failed on SlotWaited" in caplog.text


def test_a_monitor_that_is_off_takes_in_nothing(monitor):
    """Switched off, it lets events pass by."""
    monitor.enabled = False
    events.emit(request())
    assert monitor.get_stats() == {}

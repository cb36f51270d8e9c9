"""Speedup curves: measured, fitted, and a server's slots probed."""

from __future__ import annotations

import _thread
import asyncio
import threading
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from fakes.ollama import FakeOllama, Play

from analysis_kit import cancellation, example_transcript
from analysis_kit.errors import (
    AnalysisError,
    ConfigurationError,
    InsufficientDataError,
    OllamaError,
    ServerBusyError,
)
from analysis_kit.frames import SPEEDUP_COLUMNS, frame
from analysis_kit.speedup import fit_speedup, measure_speedup, probe_slots
from analysis_kit.speedup.probe import concurrency

LEVELS = (1, 2, 3, 4, 6, 8, 12, 16)


def curve(speedup, *, workers=LEVELS, repeats=5, noise=0.0, seed=0, t1=10.0):
    """Return a speedup frame of a known shape with relative noise."""
    rng = np.random.default_rng(seed)
    return frame(
        (
            {"workers": n, "repeat": repeat, "wall_s": float(t1 / speedup(n) * (1 + rng.normal(0, noise)))}
            for n in workers
            for repeat in range(repeats)
        ),
        SPEEDUP_COLUMNS,
    )


def usl(sigma, kappa):
    """Return the USL's speedup as a function of the worker count."""
    return lambda n: n / (1 + sigma * (n - 1) + kappa * n * (n - 1))


# --- fit


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_hinge_finds_the_slots_of_a_noisy_server(slots):
    """With 3 % noise, the default levels and 5 repeats, the slots are right in at least 97 of 100 draws."""
    found = [
        fit_speedup(curve(lambda n: min(n, slots), noise=0.03, seed=seed), resamples=20).slots
        for seed in range(100)
    ]
    assert found.count(slots) >= 97


def test_flat_line_is_one_slot():
    """A server that runs one request at a time gives an answer, not an error: one worker."""
    fit = fit_speedup(curve(lambda _: 1.0, noise=0.02))
    assert (fit.model, fit.slots, fit.recommended_workers) == ("hinge", 1, 1)
    assert fit.intervals["slots"] == (1.0, 1.0)
    assert "one at a time" in fit.sentence
    assert fit.peak_workers is None


def test_exact_flat_line_without_repeats():
    """Times that are all the same, one a level, are a flat line too."""
    fit = fit_speedup(curve(lambda _: 1.0, repeats=1))
    assert (fit.slots, fit.recommended_workers) == (1, 1)


def test_slots_that_share_a_processor_keep_their_number():
    """Four slots that each add 60 % are four slots with efficiency 0.6, and not two or three."""
    fit = fit_speedup(curve(lambda n: 1 + 0.6 * (min(n, 4) - 1), noise=0.03))
    assert (fit.model, fit.slots) == ("hinge", 4)
    low, high = fit.intervals["efficiency"]
    assert low <= 0.6 <= high
    assert fit.efficiency == pytest.approx(0.6, abs=0.05)


def test_amdahl_where_it_fits_better():
    """A serial part of 10 % is found as such, and the hinge is left for it."""
    fit = fit_speedup(curve(lambda n: n / (1 + 0.1 * (n - 1)), noise=0.02))
    assert fit.model == "amdahl"
    assert fit.serial_fraction == pytest.approx(0.1, abs=0.02)
    low, high = fit.intervals["serial_fraction"]
    assert low < fit.serial_fraction < high
    assert fit.sigma is None
    assert fit.recommended_workers < 16


@pytest.mark.parametrize(("sigma", "kappa"), [(0.05, 0.002), (0.1, 0.01)])
def test_usl_is_found_with_its_peak(sigma, kappa):
    """Where throughput falls again, sigma, kappa and the peak are within 20 %, each inside its interval's reach."""
    fit = fit_speedup(curve(usl(sigma, kappa), workers=(1, 2, 4, 8, 16, 32), noise=0.03, seed=4))
    assert fit.model == "usl"
    truth = {"sigma": sigma, "kappa": kappa, "peak_workers": ((1 - sigma) / kappa) ** 0.5}
    for name, value in truth.items():
        assert getattr(fit, name) == pytest.approx(value, rel=0.2)
        low, high = fit.intervals[name]
        assert low < getattr(fit, name) < high
        assert high - low < value


def test_usl_is_not_reported_where_the_hinge_does_as_well():
    """A server with slots has no sigma, no kappa and no peak."""
    fit = fit_speedup(curve(lambda n: min(n, 4), noise=0.03))
    assert fit.model == "hinge"
    assert fit.sigma is fit.kappa is fit.peak_workers is None
    assert set(fit.intervals) == {"slots", "efficiency", "serial_fraction"}


def test_a_peak_beyond_the_tested_range_is_not_claimed():
    """With kappa so small that the peak lies beyond the most workers tested, no peak is named."""
    fit = fit_speedup(curve(usl(0.02, 0.001), workers=(1, 2, 4, 8, 16, 20), noise=0.003))
    assert fit.model == "usl"
    assert fit.peak_workers is None
    assert "peak_workers" not in fit.intervals
    assert "peak" not in fit.sentence


def test_still_growing_at_the_most_workers_says_so():
    """A curve that never bends is told as at least so many, not as a limit."""
    fit = fit_speedup(curve(float, noise=0.02))
    assert fit.recommended_workers == fit.max_workers == 16
    assert "more may help" in fit.sentence


def test_one_hiccup_does_not_bend_the_curve():
    """One run that took five times as long changes neither slots nor shape."""
    table = curve(lambda n: min(n, 4), noise=0.03)
    table.loc[table["workers"].eq(2).idxmax(), "wall_s"] *= 5
    fit = fit_speedup(table)
    assert (fit.model, fit.slots) == ("hinge", 4)


def test_order_of_rows_and_units_of_time_do_not_matter():
    """Shuffled rows and times in milliseconds give the same slots and a time of one worker that scales."""
    table = curve(lambda n: min(n, 3), noise=0.02)
    again = fit_speedup(table.assign(wall_s=table["wall_s"] * 1000).sample(frac=1, random_state=1))
    first = fit_speedup(table)
    assert again.slots == first.slots == 3
    assert again.t1_s == pytest.approx(1000 * first.t1_s)


def test_same_data_same_intervals():
    """The bootstrap has a seed: fitting twice gives equal fits."""
    table = curve(usl(0.05, 0.002), noise=0.03)
    assert fit_speedup(table) == fit_speedup(table)


@pytest.mark.parametrize("workers", [(1,), (1, 2, 3, 4), ()])
def test_too_few_worker_counts_are_refused(workers):
    """Fewer than five distinct worker counts are refused, with what was measured; the error is a ValueError too."""
    with pytest.raises(InsufficientDataError, match=f"and {len(workers)} were measured") as caught:
        fit_speedup(curve(float, workers=workers))
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_times_that_cannot_be_are_refused(bad):
    """A wall time of zero, below it, or missing is named instead of fitted."""
    table = curve(float)
    table.loc[3, "wall_s"] = bad
    with pytest.raises(InsufficientDataError, match="1 of 40 wall times"):
        fit_speedup(table)


def test_fit_shows_itself():
    """The fit has a frame for its curve and an HTML table with its sentence."""
    fit = fit_speedup(curve(lambda n: min(n, 2), noise=0.02))
    band = fit.to_frame()
    assert band.columns.tolist() == ["workers", "speedup", "low", "high"]
    assert (band["low"] <= band["speedup"] + 1e-9).all()
    assert (band["speedup"] <= band["high"] + 1e-9).all()
    assert fit.sentence in fit._repr_html_()


# --- measure


def test_measure_runs_every_count_in_every_repeat_after_a_warm_up():
    """The first run is untimed at the most workers; then each repeat goes once through all counts, in changing order."""
    called = []
    table = measure_speedup(called.append, workers=(1, 2, 4, 8), repeats=6)
    assert called[0] == 8
    assert called[1:] == table["workers"].tolist()
    rounds = table.groupby("repeat")["workers"].agg(list)
    assert all(sorted(order) == [1, 2, 4, 8] for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1
    assert table.dtypes.astype(str).to_dict() == {"workers": "int64", "repeat": "int64", "wall_s": "float64"}
    assert (table["wall_s"] > 0).all()


def test_units_are_worked_on_by_exactly_so_many_threads():
    """With three workers three units run at the same time, never more, and all are done."""
    barrier, lock, now, seen = threading.Barrier(3), threading.Lock(), [0], []

    def work(text):
        with lock:
            now[0] += 1
            seen.append((text, now[0]))
        barrier.wait(10)
        with lock:
            now[0] -= 1
        barrier.wait(10)

    measure_speedup(work, ["a", "b", "c", "d", "e", "f"], workers=(3,), repeats=2)
    assert Counter(text for text, _ in seen) == dict.fromkeys("abcdef", 3)
    assert max(count for _, count in seen) == 3


def test_longest_unit_goes_first():
    """One worker takes the texts by length, longest first."""
    seen = []
    measure_speedup(seen.append, {"x": "a", "y": "ccc", "z": "bb"}, workers=(1,), repeats=1)
    assert seen == ["ccc", "bb", "a"] * 2


def test_async_work_runs_inside_a_running_loop_without_nesting():
    """Called in a running event loop, as in a notebook cell, async functions are measured on threads of their own."""
    seen = []

    async def unit(text):
        await asyncio.sleep(0)
        seen.append(text)

    async def whole(workers):
        await asyncio.sleep(0)
        seen.append(workers)

    async def cell():
        return measure_speedup(unit, ["a", "b"], workers=(1, 2), repeats=1), measure_speedup(
            whole, workers=(1, 2), repeats=1
        )

    by_unit, by_call = asyncio.run(cell())
    assert len(by_unit) == len(by_call) == 2
    assert Counter(seen) == {"a": 3, "b": 3, 2: 2, 1: 1}


def test_a_failing_unit_stops_the_measurement_and_is_named():
    """A curve with failures says nothing: the first one is raised as the cause, with the unit's name, and no thread stays."""

    def work(text):
        if text == "bad":
            raise KeyError("no such thing")

    with pytest.raises(AnalysisError, match="'second' failed with KeyError") as caught:
        measure_speedup(work, {"first": "good", "second": "bad"}, workers=(1,), repeats=1)
    assert isinstance(caught.value.__cause__, KeyError)
    assert not [thread for thread in threading.enumerate() if "speedup" in thread.name]


def test_an_interrupt_ends_what_runs():
    """An interrupt leaves the measurement, and units that wait on their cancel token end at once."""
    ended = threading.Event()

    def work(_text):
        try:
            _thread.interrupt_main()
            cancellation.sleep(60)
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        measure_speedup(work, ["a"], workers=(1,), repeats=1)
    assert ended.wait(10)
    for thread in threading.enumerate():
        if "speedup" in thread.name:
            thread.join(10)
            assert not thread.is_alive()


def test_inside_a_unit_of_a_run_the_outer_cancel_reaches_it():
    """Cancelling the surrounding unit ends the measurement with that cancel, not with a finished table."""
    token = cancellation.CancelToken()
    before = cancellation.current_token.set(token)
    try:
        with pytest.raises(asyncio.CancelledError):
            measure_speedup(lambda _: token.cancel(), ["a", "b"], workers=(1,), repeats=1)
    finally:
        cancellation.current_token.reset(before)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"workers": (0, 1)}, "a count of workers=0 must be a whole number, 1 or more"),
        ({"workers": (1, 2.5)}, "a count of workers=2.5 must be"),
        ({"workers": ()}, "workers= is empty"),
        ({"workers": 4}, "workers=4 must be several"),
        ({"repeats": 0}, "repeats=0 must be"),
        ({"units": 3}, "units must be a mapping name -> text, or texts, got int"),
        ({"units": example_transcript()}, "got Transcript. A transcript has .sections"),
        ({"units": ["a", "b"], "workers": (1, 4)}, "2 units cannot keep 4 workers busy"),
    ],
)
def test_measure_refuses_what_cannot_be_measured(arguments, says):
    """Counts below one, no repeats, and fewer units than workers are refused before anything runs."""
    with pytest.raises(ConfigurationError, match=says):
        measure_speedup(lambda _: pytest.fail("ran"), **arguments)
    with pytest.raises(ConfigurationError, match="work=None must be a function or an analyzer"):
        measure_speedup(None)


def test_what_is_no_curve_is_said():
    """A thing that is no table, a table of something else, and no resamples are each one sentence."""
    with pytest.raises(ConfigurationError, match="as measure_speedup returns it; NoneType has no wall_s"):
        fit_speedup(None)
    with pytest.raises(ConfigurationError, match="DataFrame has no workers"):
        fit_speedup(pd.DataFrame({"wall_s": [1.0]}))
    curve = pd.DataFrame({"workers": range(1, 7), "wall_s": [6 / n for n in range(1, 7)]})
    with pytest.raises(ConfigurationError, match="resamples=0"):
        fit_speedup(curve, resamples=0)
    assert fit_speedup(curve, resamples=np.int64(2)).max_workers == 6


def test_progress_is_told_after_every_timed_run():
    """The callback gets runs done and runs in all."""
    told = []
    measure_speedup(lambda _: None, workers=(1, 2), repeats=2, on_progress=lambda *state: told.append(state))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_llm_analyzer_is_asked_anew_each_time_with_a_slot_for_every_worker():
    """The cache is passed by, and the analyzer's own pool of two does not cap the curve at two."""
    from pydantic import BaseModel

    from analysis_kit.analyzers.llm import LLMAnalyzer
    from analysis_kit.cache import open_cache
    from analysis_kit.ollama.pool import OllamaConnectionPool

    class Answer(BaseModel):
        label: str

    together = threading.Barrier(4)

    def answer(_request):
        together.wait(10)
        return '{"label": "kept"}'

    texts = {f"s{i}": f"text number {i}" for i in range(4)}
    with FakeOllama(slots=4, answer=answer) as fake:
        analyzer = LLMAnalyzer("guidance", "What about guidance?\n{text}", Answer, model="fake:latest")
        analyzer.pool = OllamaConnectionPool(pool_size=1, max_overflow=1, hosts=fake.url)
        analyzer.cache = open_cache("memory:")
        table = measure_speedup(analyzer.analyze, texts, workers=(4,), repeats=2)
        analyzer.pool.shutdown()
        asked = len(fake.asked("/api/chat")) + len(fake.asked("/api/generate"))
        assert asked == 3 * len(texts)
        assert fake.max_running == 4
    assert len(table) == 2


def test_an_analyzer_without_texts_is_refused():
    """An analyzer alone cannot be measured, and the error shows how to call it."""
    from analysis_kit.analyzers.base import BaseAnalyzer

    with pytest.raises(ConfigurationError, match="needs texts"):
        measure_speedup(BaseAnalyzer())


# --- probe


@pytest.mark.parametrize(("slots", "calls"), [(1, 5), (2, 11), (3, 11), (4, 23)])
def test_probe_sees_how_many_run_at_once(slots, calls):
    """The slots of a server are found from overlap in a few short calls."""
    with FakeOllama(slots=slots, answer="one two three " * 12, delay_s=0.05, token_s=0.004) as fake:
        probe = probe_slots(fake.url)
        assert fake.max_running == slots
    assert (probe.slots, probe.low, probe.high, probe.calls) == (slots, slots, slots, calls)
    assert probe.note == ""
    assert (f"max_workers={slots}" if slots > 1 else "OLLAMA_NUM_PARALLEL") in probe.advice


def test_probe_does_not_claim_more_than_it_tried():
    """A server that runs all at once has no upper limit in the answer, and the note says so."""
    with FakeOllama(slots=8, answer="one two three " * 12, delay_s=0.05) as fake:
        probe = probe_slots(fake.url, max_slots=4)
    assert (probe.slots, probe.high) == (4, None)
    assert "higher max_slots" in probe.note


def test_probe_refuses_a_server_without_durations():
    """Where a server does not say how long it worked, no number is made up."""
    silent = {"prompt_eval_duration": None, "eval_duration": None, "total_duration": None}
    with FakeOllama(answer=lambda _: Play(text="one two", fields=silent)) as fake:
        with pytest.raises(InsufficientDataError, match="does not say how long"):
            probe_slots(fake.url)


@pytest.mark.parametrize("wrong", [1, 0, -3, True, 2.5, "4", None, float("nan")])
def test_probe_needs_two_requests(wrong):
    """One request overlaps with nothing, and what is no number of requests, or of tokens, is refused by name."""
    with pytest.raises(ConfigurationError, match="max_slots must be a whole number of at least 2"):
        probe_slots("127.0.0.1:9", max_slots=wrong)
    if wrong is True or wrong != 1:
        with pytest.raises(ConfigurationError, match="num_predict="):
            probe_slots("127.0.0.1:9", num_predict=wrong)


def test_probe_takes_a_refusal_for_what_did_not_run():
    """A server that refuses what it cannot run at once shows its slots too; one that refuses all is its own error."""
    runs = Play(text="one two " * 12, delay_s=0.1)
    busy = Play(status=503, body={"error": "server busy"})
    with FakeOllama(slots=8) as fake:
        fake.script("/api/generate", *[runs] * 5, busy, busy, runs, runs, busy, busy)
        probe = probe_slots(fake.url)
        assert (probe.slots, probe.high) == (2, 2)
        assert "refused 4 requests as busy" in probe.note
        fake.script("/api/generate", *[busy] * 20)
        with pytest.raises(ServerBusyError, match="server busy"):
            probe_slots(fake.url)


def test_probe_is_not_taken_in_by_a_cache():
    """Figures of another request, longer than this one took, tell nothing; and no prompt is sent twice."""
    old = {"eval_duration": 2 * 10**9, "total_duration": 3 * 10**9}
    with FakeOllama(slots=8, answer=lambda _: Play(text="one two", fields=old)) as fake:
        with pytest.raises(InsufficientDataError, match="a cache answers"):
            probe_slots(fake.url)
    with FakeOllama(slots=2, answer="one two " * 12, delay_s=0.02) as fake:
        probe_slots(fake.url)
        prompts = [request.json["prompt"] for request in fake.asked("/api/generate")]
    assert len(prompts) == len(set(prompts))


def test_probe_says_when_requests_are_too_short_to_tell():
    """Requests that run for microseconds hardly overlap; the answer says so instead of looking sure."""
    short = {"eval_duration": 1000, "prompt_eval_duration": 1000, "total_duration": 3000}
    with FakeOllama(slots=8, answer=lambda _: Play(text="one two", fields=short)) as fake:
        assert "too short to tell" in probe_slots(fake.url).note


def test_probe_ends_with_the_error_of_a_server_that_fails():
    """A server that breaks off is its typed error, and no request is left running."""
    with FakeOllama(slots=4, answer="one two " * 12, delay_s=0.05) as fake:
        fake.script("/api/generate", Play(text="x"), Play(status=500, body={"error": "out of memory"}))
        with pytest.raises(OllamaError, match="out of memory"):
            probe_slots(fake.url)
        fake.until(lambda: fake.running == 0 and fake.open_connections == 0)


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([(0.0, 1.0)], 1),
        ([(0.0, 1.0), (1.0, 2.0)], 1),
        ([(0.0, 1.0), (0.95, 2.0)], 1),
        ([(0.0, 1.0), (0.2, 1.2)], 2),
        ([(0.0, 1.0), (0.0, 1.0), (1.0, 2.0), (1.02, 2.0)], 2),
        ([(0.0, 3.0), (0.0, 3.0), (0.0, 3.0), (3.0, 6.0)], 3),
    ],
)
def test_concurrency_is_real_overlap_and_not_jitter(intervals, expected):
    """Requests that only touch, or overlap by a hair, ran one after the other."""
    assert concurrency(intervals) == expected


def test_fit_takes_any_integer_dtype():
    """Worker counts of a nullable dtype, and a frame without repeats column, are fitted as well."""
    table = curve(lambda n: min(n, 2)).drop(columns="repeat").astype({"workers": "Int64"})
    assert fit_speedup(pd.DataFrame(table)).slots == 2

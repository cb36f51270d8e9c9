"""Statistics: each formula against its source, and honest about samples that are too small or correlated."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from analysis_kit.errors import ConfigurationError
from analysis_kit.frames import STATS_COLUMNS
from analysis_kit.monitor import estimates
from analysis_kit.monitor.estimates import (
    autocorrelation,
    effective_count,
    interval_ranks,
    mean_interval,
    percentile,
    percentile_interval,
    smallest_sample,
    wilson_interval,
)
from analysis_kit.monitor.monitor import PerformanceMonitor
from analysis_kit.monitor.stats import busy_time, rate, summarise, summary_frame

DURATIONS = st.lists(st.floats(0, 1e6), min_size=1, max_size=50)


def correlated(size, phi, *, seed):
    """Return lognormal durations whose logarithms are a first-order autoregression."""
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal()]
    for _ in range(size - 1):
        values.append(phi * values[-1] + math.sqrt(1 - phi**2) * rng.standard_normal())
    return np.exp(values).tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 20, 100])
def test_M1_percentiles_lie_between_the_extremes_and_never_cross(size):
    """For few values and many: min <= median <= p95 <= p99 <= max, by numpy's own definition."""
    values = np.random.default_rng(size).lognormal(size=size).tolist()
    monitor = PerformanceMonitor()
    for value in values:
        monitor.record("call", value)
    stats = monitor.get_stats()["call"]
    assert stats.min_time <= stats.median_time <= stats.p95_time <= stats.p99_time <= stats.max_time
    assert stats.p95_time == pytest.approx(np.percentile(values, 95))


def test_M1_the_p95_of_1_and_2_is_below_2_and_of_nothing_is_not_a_number():
    """The published example: 1.95 for [1, 2], never above the maximum; no values give NaN and no exception."""
    assert percentile([1.0, 2.0], 0.95) == 1.95
    assert math.isnan(percentile([], 0.95))
    empty = summarise([])
    assert empty.count == 0
    assert math.isnan(empty.p99_time)
    assert math.isnan(empty.success_rate)
    assert PerformanceMonitor().get_stats() == {}


@given(DURATIONS, st.floats(0, 1), st.floats(0, 1))
def test_M1_percentile_is_monotone_and_inside_for_any_values(values, first, second):
    """Whatever the values: a percentile is inside them, and a higher one is not lower."""
    ordered = sorted(values)
    low, high = sorted((first, second))
    assert ordered[0] <= percentile(ordered, low) <= ordered[-1]
    assert percentile(ordered, low) <= percentile(ordered, high) * (1 + 1e-12)


@given(DURATIONS)
def test_the_mean_lies_between_the_extremes(values):
    """A rounding error never puts the mean outside its own values."""
    stats = summarise(values)
    assert stats.min_time <= stats.avg_time <= stats.max_time


@pytest.mark.parametrize("fraction", [95, -0.1, float("nan")])
def test_a_percentile_that_is_no_fraction_is_refused(fraction):
    """Asking for the 95th as 95 says how to ask."""
    with pytest.raises(ConfigurationError, match=r"fraction from 0 to 1.*the 95th is 0\.95"):
        percentile([1.0], fraction)


def test_intervals_need_72_values_for_p95_and_368_for_p99():
    """Below the smallest sample the interval is absent and says so with the number; from there on it is there."""
    values = np.random.default_rng(1).lognormal(size=368).tolist()
    for fraction, smallest in ((0.95, 72), (0.99, 368)):
        assert smallest_sample(fraction) == smallest
        few = percentile_interval(values[: smallest - 1], fraction)
        assert (math.isnan(few.low), few.note) == (True, f"n too small ({smallest - 1})")
        enough = percentile_interval(values[:smallest], fraction)
        assert enough.low < percentile(sorted(values[:smallest]), fraction) < enough.high
        assert enough.note == ""
    assert percentile_interval(values[:20], 0.95).note == "n too small (20)"


@pytest.mark.parametrize(
    ("count", "fraction"), list(itertools.product([72, 100, 1000, 100_000], [0.5, 0.9, 0.95]))
)
def test_interval_ranks_hold_their_level_and_no_closer_pair_does(count, fraction):
    """By the binomial law the ranks cover at least 95 %, each tail at most 2.5 %, and the next rank inwards would not."""
    low, high = interval_ranks(count, fraction)
    below = reference.binom(count, fraction)
    assert below.cdf(low) <= 0.025 < below.cdf(low + 1)
    assert below.sf(high) <= 0.025 < below.sf(high - 1)


def test_autocorrelation_is_the_textbook_estimate():
    """Lag-1 correlation against numpy, and NaN where there is nothing to correlate."""
    values = correlated(200, 0.6, seed=1)
    centred = np.array(values) - np.mean(values)
    assert autocorrelation(values) == pytest.approx((centred[1:] @ centred[:-1]) / (centred @ centred))
    assert math.isnan(autocorrelation([1.0, 2.0]))
    assert math.isnan(autocorrelation([3.0] * 10))


def test_independent_values_are_worth_themselves_and_correlated_ones_less():
    """The effective number is n for independent durations, and near n (1 - r) / (1 + r) for an autoregression."""
    assert effective_count(correlated(2000, 0.0, seed=4)) == 2000
    for phi in (0.5, 0.8):
        values = correlated(2000, phi, seed=3)
        r = autocorrelation(values)
        assert 0.6 * 2000 * (1 - r) / (1 + r) < effective_count(values) < 1.1 * 2000 * (1 - r) / (1 + r)


def test_correlated_neighbours_widen_the_interval_and_are_named():
    """Where neighbours in time are alike the interval is wider than order statistics of as many independent values."""
    values = correlated(2000, 0.8, seed=3)
    low, high = interval_ranks(2000, 0.95)
    naive = sorted(values)[high] - sorted(values)[low]
    found = percentile_interval(values, 0.95)
    assert found.high - found.low > 1.5 * naive
    assert found.note.startswith("neighbours are correlated: 2000 worth ")


def test_correlated_samples_that_are_worth_too_little_have_no_interval():
    """Two hundred values that say no more than a few dozen give no interval, and the note says why."""
    found = percentile_interval(correlated(200, 0.8, seed=5), 0.95)
    assert math.isnan(found.low)
    assert found.note.startswith("n too small (200, worth ")


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("fraction", [0.5, 0.95])
def test_percentile_intervals_cover_the_truth(fraction, phi):
    """In 300 simulated runs the 95 % interval holds the true percentile at least 93 times in 100."""
    truth = math.exp(reference.norm.ppf(fraction))
    found = [percentile_interval(correlated(600, phi, seed=seed), fraction) for seed in range(300)]
    given_ones = [each for each in found if not math.isnan(each.low)]
    assert len(given_ones) > 100
    assert sum(each.low <= truth <= each.high for each in given_ones) >= 0.93 * len(given_ones)


@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_mean_intervals_cover_the_truth(phi):
    """In 200 simulated runs of skewed durations the bootstrap-t interval holds the true mean about as often as stated."""
    truth = math.exp(0.5)
    found = [mean_interval(correlated(400, phi, seed=seed), resamples=299) for seed in range(200)]
    assert sum(each.low <= truth <= each.high for each in found) >= 0.88 * len(found)


def test_mean_interval_is_the_same_each_time_and_refuses_a_handful():
    """The resampling is seeded; four values have no interval; values all alike have one without width."""
    values = correlated(50, 0.0, seed=1)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values[:4]).note == "n too small (4)"
    assert mean_interval([2.0] * 30)[:2] == (2.0, 2.0)


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (950, 1000)])
def test_wilson_interval_is_scipys(successes, count):
    """The interval of a rate equals scipy's Wilson interval, inside 0..1 also at the ends."""
    expected = reference.binomtest(successes, count).proportion_ci(method="wilson")
    found = wilson_interval(successes, count)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= found.low <= successes / count <= found.high <= 1


def test_a_rate_of_nothing_has_no_interval():
    """No observation, no interval, and the reason."""
    assert wilson_interval(0, 0).note == "n too small (0)"


def test_busy_time_is_the_length_of_the_union():
    """Overlapping, nested, touching and empty spans are counted once, in any order."""
    assert busy_time([]) == 0
    assert busy_time([(5, 6), (0, 2), (1, 3), (1.5, 1.6), (3, 4), (9, 9)]) == 5
    assert rate(10, busy_time([(0, 2), (1, 3)])) == pytest.approx(10 / 3)
    assert math.isnan(rate(10, 0.0))


def test_statistics_tables_name_every_column_and_what_they_cannot_say():
    """The table of a run's rows has the fixed columns; NaN durations are left out; failures count against the rate."""
    rows = [("tone", 0.1 + n / 100, n % 10 != 0) for n in range(80)] + [
        ("rules", 0.2, True),
        ("rules", math.nan, True),
    ]
    table = summary_frame(rows).set_index("operation")
    assert ["operation", *table.columns] == [column.name for column in STATS_COLUMNS]
    tone, rules = table.loc["tone"], table.loc["rules"]
    assert (tone["count"], tone["failure_count"], tone["success_rate"]) == (80, 8, 0.9)
    assert tone["success_low"] < 0.9 < tone["success_high"]
    assert (rules["count"], rules["p95_s"], rules["p95_note"]) == (1, 0.2, "n too small (1)")
    assert len(summary_frame([])) == 0


def test_the_absent_interval_is_the_same_from_records_and_from_the_sketch():
    """A monitor whose raw measurements overflowed gives intervals from the sketch, near those of all the values."""
    values = np.random.default_rng(9).lognormal(size=3000).tolist()
    full, cut = PerformanceMonitor(), PerformanceMonitor(max_metrics=500)
    for value in values:
        full.record("call", value)
        cut.record("call", value)
    exact, sketched = full.stats_frame().iloc[0], cut.stats_frame().iloc[0]
    assert (exact["source"], sketched["source"]) == ("exact", "sketch")
    for column in ("p95_low_s", "p95_high_s", "p99_low_s", "p99_high_s"):
        assert sketched[column] == pytest.approx(exact[column], rel=0.004)


def test_every_formula_names_its_source():
    """Each function that is a published method says whose, so that a reader can check it."""
    methods = (
        "percentile",
        "interval_ranks",
        "autocorrelation",
        "effective_count",
        "mean_interval",
        "wilson_interval",
    )
    for name in methods:
        assert "References\n" in getattr(estimates, name).__doc__

"""Comparing: faster, slower, or cannot tell, from files and from live monitors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis_kit.errors import ConfigurationError
from analysis_kit.frames import COMPARE_COLUMNS
from analysis_kit.monitor.compare import compare
from analysis_kit.monitor.monitor import PerformanceMonitor


def measured(**operations):
    """Return a monitor with the given durations by operation."""
    monitor = PerformanceMonitor()
    for name, values in operations.items():
        for value in values:
            monitor.record(name, value)
    return monitor


def lognormal(size, median, *, seed):
    """Return durations around a median, scattered by a fifth."""
    return (median * np.exp(0.2 * np.random.default_rng(seed).standard_normal(size))).tolist()


def test_clear_changes_are_named_with_their_ratio(tmp_path):
    """Half the time is faster, twice the time slower, from a saved file against a live monitor."""
    before = measured(
        a=lognormal(60, 1.0, seed=1), b=lognormal(60, 1.0, seed=2), c=lognormal(60, 1.0, seed=3)
    )
    after = measured(
        a=lognormal(60, 0.5, seed=4), b=lognormal(60, 2.0, seed=5), c=lognormal(60, 1.01, seed=6)
    )
    before.save(tmp_path / "baseline.json")
    table = compare(tmp_path / "baseline.json", after)
    assert list(table.columns) == [column.name for column in COMPARE_COLUMNS]
    assert table["verdict"].tolist() == ["faster", "slower", "cannot tell"]
    assert table["ratio"].tolist() == pytest.approx([0.5, 2.0, 1.0], rel=0.15)
    assert (table["ratio_low"] < table["ratio"]).all()
    assert (table["ratio"] < table["ratio_high"]).all()
    assert table["detectable_ratio"].between(1.05, 1.3).all()
    assert table.equals(compare(before, after))


def test_few_observations_cannot_tell():
    """Five against sixty is no verdict and no interval, but the ratio is shown."""
    table = compare(measured(a=[1.0] * 5), measured(a=[2.0] * 60))
    [row] = table.to_dict("records")
    assert (row["before_n"], row["after_n"], row["ratio"], row["verdict"]) == (5, 60, 2.0, "cannot tell")
    assert math.isnan(row["ratio_low"])
    assert math.isnan(row["detectable_ratio"])


def test_operations_on_one_side_only_are_listed_without_a_ratio():
    """What is new or gone has its number and median on its own side, and no verdict."""
    table = compare(measured(gone=[1.0] * 10), measured(new=[2.0] * 10)).set_index("operation")
    assert (table.loc["gone", "before_n"], table.loc["gone", "after_n"]) == (10, 0)
    assert (table.loc["new", "before_n"], table.loc["new", "after_median_s"]) == (0, 2.0)
    assert table["ratio"].isna().all()
    assert (table["verdict"] == "cannot tell").all()


def test_nothing_against_nothing_is_an_empty_table():
    """Two empty monitors give the table's columns and no line."""
    table = compare(PerformanceMonitor(), PerformanceMonitor())
    assert list(table.columns) == [column.name for column in COMPARE_COLUMNS]
    assert len(table) == 0


def test_durations_of_zero_break_no_ratio():
    """A clock that saw no time pass gives no division by zero and no infinite verdict."""
    [row] = compare(measured(a=[0.0] * 20), measured(a=[0.0] * 20)).to_dict("records")
    assert (row["verdict"], row["ratio_low"], row["ratio_high"]) == ("cannot tell", 1.0, 1.0)
    assert math.isnan(row["ratio"])


def test_the_same_work_is_rarely_called_different():
    """Of 400 comparisons of the same distribution at most 7 in 100 are called a change."""
    rng = np.random.default_rng(7)
    changed = 0
    for _ in range(400):
        first, second = np.exp(rng.standard_normal((2, 25))).tolist()
        changed += compare(measured(a=first), measured(a=second))["verdict"][0] != "cannot tell"
    assert changed <= 28


def test_the_detectable_ratio_is_found_four_times_in_five():
    """A slow-down by the ratio it states is called slower in about 80 of 100 comparisons."""
    rng = np.random.default_rng(8)
    ratio = float(np.median([_detectable(rng) for _ in range(50)]))
    found = 0
    for _ in range(200):
        first, second = np.exp(rng.standard_normal((2, 40))).tolist()
        table = compare(measured(a=first), measured(a=[ratio * value for value in second]))
        found += table["verdict"][0] == "slower"
    assert 0.7 <= found / 200 <= 0.9


def _detectable(rng):
    first, second = np.exp(rng.standard_normal((2, 40))).tolist()
    return compare(measured(a=first), measured(a=second))["detectable_ratio"][0]


def test_correlated_neighbours_need_a_larger_change():
    """The same values in an order in which neighbours are alike show less than in a random one."""
    values = lognormal(200, 1.0, seed=9)
    steady = compare(measured(a=values), measured(a=values))["detectable_ratio"][0]
    drifting = compare(measured(a=sorted(values)), measured(a=sorted(values)))["detectable_ratio"][0]
    assert drifting > 2 * steady


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file"),
        ("not json", "is not JSON"),
        ('{"schema": "other/9"}', "has schema 'other/9'"),
        ("[1, 2]", "has schema None"),
        (b"\xff\xfe\x00", "is not JSON"),
    ],
    ids=["missing", "text", "foreign", "list", "binary"],
)
def test_a_file_that_is_none_of_ours_is_one_clear_error(tmp_path, content, told):
    """The error names the file, what is wrong with it, and what to give instead."""
    path = tmp_path / "baseline.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(
        ConfigurationError, match=rf"baseline\.json' {told}.*name a file that monitor\.save\(path\) wrote"
    ):
        compare(path, PerformanceMonitor())


def test_what_is_no_monitor_is_said():
    """Things that hold no measurements are refused with what can be compared."""
    with pytest.raises(ConfigurationError, match="two monitors, or files .* was given NoneType"):
        compare(PerformanceMonitor(), None)

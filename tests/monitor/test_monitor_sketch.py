"""The sketch: within its stated error of the exact answer, whatever the values, and merged without loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis_kit.monitor.sketch import RELATIVE_ERROR, LogSketch

SECONDS = st.floats(min_value=1e-9, max_value=1e8, allow_nan=False)


@given(st.lists(SECONDS, min_size=1, max_size=300), st.data())
def test_each_rank_is_within_the_stated_error(values, data):
    """Whatever durations from a nanosecond to years: the value at any rank is within 0.4 % of the sorted one."""
    sketch = LogSketch()
    sketch.add(values)
    rank = data.draw(st.integers(0, len(values) - 1))
    assert sketch.at(rank) == pytest.approx(sorted(values)[rank], rel=RELATIVE_ERROR)


@pytest.mark.parametrize("size", [8191, 8192, 8193, 40_000])
def test_batches_count_as_one_by_one(size):
    """Values added singly, in batches and across the point where they are counted give the same answer."""
    values = np.random.default_rng(1).lognormal(-1, 2, size).tolist()
    together, apart = LogSketch(), LogSketch()
    together.add(values)
    for start in range(0, size, 1000):
        apart.add(values[start : start + 1000])
    assert len(together) == len(apart) == size
    for rank in (0, size // 2, int(size * 0.99), size - 1):
        assert together.at(rank) == apart.at(rank) == pytest.approx(sorted(values)[rank], rel=RELATIVE_ERROR)


def test_zero_has_a_bucket_of_its_own():
    """A clock that saw no time pass gives 0, not a small number."""
    sketch = LogSketch()
    sketch.add([0.0, 0.0, 1.0])
    assert (sketch.at(0), sketch.at(1)) == (0.0, 0.0)


def test_a_rank_beyond_the_end_is_the_last_value():
    """Asking beyond what was counted gives the largest, so that a reader never falls off the end."""
    sketch = LogSketch()
    sketch.add([1.0, 2.0])
    assert sketch.at(99) == sketch.at(1)


def test_merging_and_copying_lose_nothing_and_share_nothing():
    """A merge counts both; a copy stays as it was when the original goes on."""
    first, second = LogSketch(), LogSketch()
    first.add([1.0] * 9000)
    second.add([2.0] * 10)
    twin = first.copy()
    first.merge(second)
    assert (len(first), len(second), len(twin)) == (9010, 10, 9000)
    assert first.at(9005) == pytest.approx(2.0, rel=RELATIVE_ERROR)
    assert twin.at(9005) == pytest.approx(1.0, rel=RELATIVE_ERROR)


def test_counts_up_to_a_limit():
    """The count up to a limit is the number of values in buckets that lie below it."""
    sketch = LogSketch()
    sketch.add([0.01, 0.1, 0.1, 1.0, 10.0])
    assert [sketch.up_to(limit) for limit in (0.005, 0.05, 0.5, 5, 50)] == [0, 1, 3, 4, 5]


def test_buckets_stay_few():
    """A hundred thousand values over six decades take a few thousand buckets, whatever their number."""
    sketch = LogSketch()
    sketch.add((10 ** np.random.default_rng(2).uniform(-4, 2, 100_000)).tolist())
    assert len(sketch) == 100_000
    assert len(sketch._counts) < 2700

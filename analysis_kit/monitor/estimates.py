"""Percentiles, means and rates, and how sure they are: pure functions, each with the source of its formula.

An interval that a sample cannot support is absent (NaN at both ends) and carries the reason as a note.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from analysis_kit.errors import ConfigurationError

NAN = math.nan

_FEWEST_FOR_LAG = 3
_FEWEST_FOR_MEAN = 5


class Interval(NamedTuple):
    """A confidence interval; NaN at both ends where there is none, and then ``note`` says why."""

    low: float
    high: float
    note: str = ""


#: So many values are sorted faster by numpy, although they have to be handed over.
_MANY = 500


def ranked(values: Sequence[float]) -> Callable[[int], float]:
    """Return what gives the value at a rank of ``values``, counted from 0 in ascending order."""
    if len(values) < _MANY:
        return sorted(values).__getitem__
    import numpy as np

    at: Callable[[int], float] = np.sort(np.array(values, dtype=float)).item
    return at


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Return the percentile by linear interpolation between order statistics, as numpy and pandas do by default.

    It lies between the smallest and the largest value and never falls as ``fraction`` grows.

    Parameters
    ----------
    ordered : sequence of float
        In ascending order.
    fraction : float
        From 0 to 1: 0.95 for the 95th percentile.

    Returns
    -------
    float
        NaN for no values.

    References
    ----------
    R. J. Hyndman and Y. Fan, "Sample quantiles in statistical packages", The American Statistician 50 (1996),
    definition 7.

    Examples
    --------
    >>> percentile([1.0, 2.0], 0.95)
    1.95
    """
    return percentile_by_rank(ordered.__getitem__, len(ordered), fraction)


def percentile_by_rank(at: Callable[[int], float], count: int, fraction: float) -> float:
    """Return `percentile` of ``count`` values where ``at(rank)`` gives the one at ``rank``, counted from 0."""
    if not 0 <= fraction <= 1:
        raise ConfigurationError(
            f"a percentile is asked for as a fraction from 0 to 1, and this is {fraction!r}; the 95th is 0.95"
        )
    if not count:
        return NAN
    place = (count - 1) * fraction
    rank = min(int(place), count - 1)
    low, high = at(rank), at(min(rank + 1, count - 1))
    return min(low + (high - low) * (place - rank), high)


def smallest_sample(fraction: float, *, level: float = 0.95) -> int:
    """Return how many independent values a two-sided interval of a percentile needs: 72 for p95, 368 for p99.

    With fewer, even the interval from the smallest to the largest value misses the percentile too often.

    Examples
    --------
    >>> smallest_sample(0.95), smallest_sample(0.99)
    (72, 368)
    """
    return math.ceil(math.log((1 - level) / 2) / math.log(max(fraction, 1 - fraction)))


def interval_ranks(
    count: int, fraction: float, *, level: float = 0.95, effective: float | None = None
) -> tuple[int, int] | None:
    """Return between which ranks (from 0, both included) a percentile lies with at least ``level`` confidence.

    The number of values below the true percentile is binomial, whatever the distribution.

    Parameters
    ----------
    count : int
        Number of values.
    fraction : float
        From 0 to 1, the percentile.
    level : float, default 0.95
        Confidence, two-sided with equal tails.
    effective : float, optional
        How many independent values these are worth (`effective_count`), by default all.

    Returns
    -------
    tuple of int or None
        None where the sample is too small (`smallest_sample`).

    References
    ----------
    H. A. David and H. N. Nagaraja, "Order Statistics", 3rd edition (2003), section 7.1; for dependent values the
    ranks are spread as R. S. Woodruff does in J. Am. Stat. Assoc. 47 (1952).
    """
    worth = count if effective is None else min(count, max(1, round(effective)))
    if not count or worth < smallest_sample(fraction, level=level):
        return None
    tail = (1 - level) / 2
    low = _binomial_quantile(tail, worth, fraction)
    high = _binomial_quantile(1 - tail, worth, fraction) + 1
    if low < 1 or high > worth:
        return None
    return max(low * count // worth, 1) - 1, min(-(-high * count // worth), count) - 1


def _binomial_quantile(share: float, n: int, p: float) -> int:
    """Return the smallest k with P(B <= k) >= ``share`` for B binomial with ``n`` draws of chance ``p``."""
    from scipy.special import bdtr, bdtrik

    k = max(math.ceil(float(bdtrik(share, n, p))), 0)
    while k > 0 and float(bdtr(k - 1, n, p)) >= share:
        k -= 1
    return min(k, n)


def autocorrelation(values: Sequence[float]) -> float:
    """Return the correlation of neighbours in time (lag 1); NaN for fewer than 3 values or values all alike.

    References
    ----------
    G. E. P. Box and G. M. Jenkins, "Time Series Analysis" (1970), the sample autocorrelation.

    Examples
    --------
    >>> autocorrelation([1.0, 2.0, 1.0, 2.0, 1.0, 2.0]) < -0.8
    True
    """
    if len(values) < _FEWEST_FOR_LAG:
        return NAN
    mean = math.fsum(values) / len(values)
    deviations = [value - mean for value in values]
    squares = math.fsum(each * each for each in deviations)
    if squares <= 0:
        return NAN
    return math.fsum(a * b for a, b in itertools.pairwise(deviations)) / squares


def is_correlated(values: Sequence[float]) -> bool:
    """Return whether neighbours in time are alike beyond chance (lag-1 correlation above 1.96 / sqrt(n), Bartlett)."""
    return autocorrelation(values) > 1.96 / math.sqrt(len(values) or 1)


def effective_count(values: Sequence[float], fraction: float = 0.5) -> float:
    """Return how many independent values ``values``, in order of time, are worth for one of their percentiles.

    Durations of queued work are alike from one to the next, so 200 of them say less than 200 independent ones. The
    smaller of two estimates is taken: the one of a first-order autoregression, n (1 - r) / (1 + r), and the one of
    moving blocks: how much more the count of values beyond the percentile varies between blocks than independence
    allows. That variance is the one a moving-block bootstrap gives, in closed form, with the first-order bias of the
    block length removed (twice the estimate less that of half the length).

    Returns
    -------
    float
        From 1 to ``len(values)``; all of them where neighbours are not correlated (`is_correlated`).

    References
    ----------
    H. R. Künsch, "The jackknife and the bootstrap for general stationary observations", Annals of Statistics 17
    (1989); D. N. Politis and J. P. Romano, "Bias-corrected nonparametric spectral estimation", J. Time Series
    Analysis 16 (1995).
    """
    count = len(values)
    if not is_correlated(values):
        return float(count)
    seen = autocorrelation(values)
    r = min(seen + (1 + 4 * seen) / count, 1 - 1 / count)  # the sample value is too low by (1 + 4 r) / n
    limit = percentile_by_rank(ranked(values), count, fraction)
    below = [float(value <= limit) for value in values]
    length = math.ceil(math.sqrt(count))
    blocks = 2 * _block_inflation(below, length) - _block_inflation(below, max(1, length // 2))
    return max(1.0, count / max((1 + r) / (1 - r), blocks, 1.0))


def _block_inflation(values: Sequence[float], length: int) -> float:
    """Return the variance of sums over moving blocks of ``length``, relative to independent values'."""
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
    if variance <= 0:
        return 1.0
    sums = [0.0, *itertools.accumulate(value - mean for value in values)]
    squares = [(end - start) ** 2 for start, end in zip(sums, sums[length:], strict=False)]
    return math.fsum(squares) / len(squares) / length / variance


def percentile_interval(values: Sequence[float], fraction: float, *, level: float = 0.95) -> Interval:
    """Return a distribution-free confidence interval of a percentile, by order statistics.

    Parameters
    ----------
    values : sequence of float
        In order of time: where neighbours are correlated, the interval is widened to what the values are worth
        (`effective_count`), and the note says so.
    fraction : float
        From 0 to 1, the percentile.
    level : float, default 0.95
        Confidence, two-sided.

    Returns
    -------
    Interval
        Absent below `smallest_sample` values, with the note "n too small (20)".

    Examples
    --------
    >>> percentile_interval([0.1] * 20, 0.95)
    Interval(low=nan, high=nan, note='n too small (20)')
    """
    return interval_by_rank(len(values), values, fraction, ranked(values), level=level)


def interval_by_rank(
    count: int, recent: Sequence[float], fraction: float, at: Callable[[int], float], *, level: float = 0.95
) -> Interval:
    """Return `percentile_interval` of ``count`` values, of which ``recent`` are at hand in order of time.

    ``at(rank)`` gives the value at a rank of all of them, counted from 0 in ascending order.
    """
    if count < smallest_sample(fraction, level=level):
        return Interval(NAN, NAN, f"n too small ({count})")
    worth = effective_count(recent, fraction) * count / len(recent)
    ranks = interval_ranks(count, fraction, level=level, effective=worth)
    if ranks is None:
        return Interval(NAN, NAN, f"n too small ({count}, worth {worth:.0f}: neighbours are correlated)")
    note = "" if worth >= count else f"neighbours are correlated: {count} worth {worth:.0f}"
    return Interval(at(ranks[0]), at(ranks[1]), note)


def mean_interval(
    values: Sequence[float], *, level: float = 0.95, resamples: int = 999, seed: int = 0
) -> Interval:
    """Return a bootstrap-t confidence interval of the mean; by moving blocks where neighbours are correlated.

    Parameters
    ----------
    values : sequence of float
        In order of time; at least 5.
    level : float, default 0.95
        Confidence, two-sided.
    resamples : int, default 999
        Bootstrap samples.
    seed : int, default 0
        The same values give the same interval.

    References
    ----------
    B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), section 12.5; blocks after H. R. Künsch,
    Annals of Statistics 17 (1989), of ceil(sqrt(n)) values.
    """
    import numpy as np

    count = len(values)
    if count < _FEWEST_FOR_MEAN:
        return Interval(NAN, NAN, f"n too small ({count})")
    length = math.ceil(math.sqrt(count)) if is_correlated(values) else 1
    data = np.asarray(values, dtype=float)
    means = np.convolve(data, np.ones(length) / length, mode="valid")  # of every moving block
    drawn = count // length
    error = float(means.std(ddof=1)) / math.sqrt(drawn)
    middle = float(data.mean())
    if drawn < _FEWEST_FOR_MEAN:
        return Interval(NAN, NAN, f"n too small ({count}, {drawn} blocks: neighbours are correlated)")
    if error <= 1e-12 * abs(middle):
        return Interval(middle, middle)
    rng = np.random.default_rng(seed)
    pivots = np.empty(resamples)
    for index in range(resamples):  # one sample at a time, so that 10,000 values do not take 80 MB
        sample = means[rng.integers(0, len(means), drawn)]
        spread = float(sample.std(ddof=1)) / math.sqrt(drawn)
        pivots[index] = (float(sample.mean()) - float(means.mean())) / spread if spread > 0 else NAN
    low, high = np.nanquantile(pivots, [(1 + level) / 2, (1 - level) / 2])
    return Interval(middle - float(low) * error, middle - float(high) * error)


def wilson_interval(successes: int, count: int, *, level: float = 0.95) -> Interval:
    """Return a confidence interval of a rate, from 0 to 1; it needs no minimum beyond one observation.

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", J. Am. Stat. Assoc. 22 (1927).

    Examples
    --------
    >>> low, high, _ = wilson_interval(20, 20)
    >>> round(low, 3), high
    (0.839, 1.0)
    """
    if not count:
        return Interval(NAN, NAN, "n too small (0)")
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    rate = successes / count
    middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    low = 0.0 if successes == 0 else middle - half
    return Interval(low, 1.0 if successes == count else middle + half)

"""Two measurements side by side: which operation got faster or slower, and by how much, with honest doubt."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final

from analysis_kit.errors import ConfigurationError
from analysis_kit.frames import COMPARE_COLUMNS, frame
from analysis_kit.monitor.estimates import NAN, effective_count, percentile
from analysis_kit.monitor.export import SCHEMA

if TYPE_CHECKING:
    import pandas as pd

    from analysis_kit.monitor.monitor import PerformanceMonitor

#: Fewer observations a side say nothing about a median.
FEWEST: Final = 6
_POWER: Final = 0.8
_SHORTEST_S: Final = 1e-9  # a clock that saw no time pass; a ratio needs more than zero


def compare(
    before: PerformanceMonitor | str | os.PathLike[str], after: PerformanceMonitor | str | os.PathLike[str]
) -> pd.DataFrame:
    """Return what became faster or slower, one line per operation.

    Parameters
    ----------
    before, after : PerformanceMonitor or path
        A monitor, or a file that its ``save`` wrote. The raw measurements kept are compared.

    Returns
    -------
    pandas.DataFrame
        With `frames.COMPARE_COLUMNS`. ``ratio`` is the median after over the median before, with a 95 % interval that
        needs no assumption about the distribution; it is widened where neighbours in time are correlated. The verdict
        is "cannot tell" where the interval holds 1, or fewer than 6 observations stand on a side.
        ``detectable_ratio``: a change by this factor, or by its inverse, would have been found 4 times in 5.

    Raises
    ------
    ConfigurationError
        If a file cannot be read, or is none of ours.

    References
    ----------
    R. M. Price and D. G. Bonett, "Distribution-free confidence intervals for difference and ratio of medians",
    J. Statistical Computation and Simulation 72 (2002).

    Examples
    --------
    >>> from analysis_kit.monitor.monitor import PerformanceMonitor
    >>> slow, fast = PerformanceMonitor(), PerformanceMonitor()
    >>> for n in range(40):
    ...     slow.record("tone", 2.0 + n / 100)
    ...     fast.record("tone", 1.0 + n / 100)
    >>> compare(slow, fast)["verdict"].tolist()
    ['faster']
    """
    earlier, later = _durations(before), _durations(after)
    names = [*earlier, *(name for name in later if name not in earlier)]
    return frame(
        (_record(name, earlier.get(name, []), later.get(name, [])) for name in names), COMPARE_COLUMNS
    )


def _durations(source: PerformanceMonitor | str | os.PathLike[str]) -> dict[str, list[float]]:
    """Return the durations by operation, each in order of time."""
    if not isinstance(source, (str, os.PathLike)) and not hasattr(source, "snapshot"):
        raise ConfigurationError(
            "compare takes two monitors, or files that monitor.save(path) wrote, and was given "
            f"{type(source).__name__}"
        )
    if not isinstance(source, (str, os.PathLike)):
        return {each.name: each.durations() for each in source.snapshot()}
    found: dict[str, list[float]] = {}
    for record in _read(Path(source).expanduser())["records"]:
        found.setdefault(record["operation"], []).append(record["duration_s"])
    return found


def _read(path: Path) -> dict[str, Any]:
    advice = "name a file that monitor.save(path) wrote"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"{str(path)!r} cannot be read: {exc.strerror or exc}; {advice}") from exc
    except ValueError as exc:
        raise ConfigurationError(f"{str(path)!r} is not JSON: {exc}; {advice}") from exc
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise ConfigurationError(f"{str(path)!r} has schema {schema!r}, and {SCHEMA!r} is needed; {advice}")
    return dict(document)


def _record(name: str, before: Sequence[float], after: Sequence[float]) -> dict[str, Any]:
    first, second = _median(before), _median(after)
    record = {
        "operation": name,
        "before_n": len(before),
        "after_n": len(after),
        "before_median_s": first[0],
        "after_median_s": second[0],
        "ratio": second[0] / first[0] if first[0] > 0 else NAN,
        "verdict": "cannot tell",
    }
    error = math.hypot(first[1], second[1])
    if math.isnan(error):
        return record
    middle = math.log(max(second[0], _SHORTEST_S) / max(first[0], _SHORTEST_S))
    reach = NormalDist().inv_cdf(0.975)
    low, high = math.exp(middle - reach * error), math.exp(middle + reach * error)
    return record | {
        "ratio_low": low,
        "ratio_high": high,
        "verdict": "faster" if high < 1 else "slower" if low > 1 else "cannot tell",
        "detectable_ratio": math.exp((reach + NormalDist().inv_cdf(_POWER)) * error),
    }


def _median(values: Sequence[float]) -> tuple[float, float]:
    """Return the median, and the standard error of its logarithm (NaN for too few values)."""
    from scipy.special import bdtr

    ordered = sorted(values)
    count = len(ordered)
    median = percentile(ordered, 0.5)
    if count < FEWEST:
        return median, NAN
    place = max(1, round((count + 1) / 2 - math.sqrt(count)))  # between it and its mirror lie about 95 %
    tail = float(bdtr(place - 1, count, 0.5))
    low, high = (max(ordered[k], _SHORTEST_S) for k in (place - 1, count - place))
    error = math.log(high / low) / (2 * NormalDist().inv_cdf(1 - tail))
    return median, error * math.sqrt(count / effective_count(values))

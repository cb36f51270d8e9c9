"""From a speedup curve to an answer: how many workers really help, and how sure that is.

Three shapes are fitted, all to relative errors, because a run that takes twice as long varies twice as much:

hinge
    Throughput grows to ``slots`` workers and is flat from there: ``S(n) = 1 + e (min(n, slots) - 1)``. A server with
    k slots of their own has ``e = 1``, so ``S(n) = min(n, k)``; slots that share a processor have an ``e`` below 1.
    A flat line is one slot.
Amdahl
    ``S(n) = n / (1 + f (n - 1))`` with the serial fraction f (Amdahl 1967, AFIPS spring joint conference).
USL
    ``S(n) = n / (1 + sigma (n - 1) + kappa n (n - 1))``, the Universal Scalability Law (Gunther 2007, Guerrilla
    Capacity Planning): beyond ``sqrt((1 - sigma) / kappa)`` workers it gets slower again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis_kit._html import block, table
from analysis_kit.engine.arguments import checked_count
from analysis_kit.errors import ConfigurationError, InsufficientDataError
from analysis_kit.speedup.models import CLEARLY_BETTER, Kind, Shape, amdahl, hinge, usl

if TYPE_CHECKING:
    import pandas as pd

    from analysis_kit.speedup.models import Floats

#: Fewer distinct worker counts cannot tell the three shapes apart.
MIN_LEVELS = 5
#: Workers that bring less than the last 5 % of the best throughput are not recommended.
NEARLY_BEST = 0.95


@dataclass(frozen=True, slots=True)
class SpeedupFit:
    """What a speedup curve says.

    Attributes
    ----------
    model : {"hinge", "amdahl", "usl"}
        The shape that describes the curve best.
    slots : int
        Workers up to which throughput grows (hinge). Equal to ``max_workers``: at least that many.
    efficiency : float
        What each further slot adds, as a share of the first (hinge); 1 where slots share nothing.
    serial_fraction : float
        Amdahl's, in [0, 1].
    sigma, kappa : float or None
        Contention and coherence of the USL, where ``model`` is ``"usl"``.
    peak_workers : float or None
        Where the USL is fastest; None where it is not the model, or the peak lies beyond the workers tested.
    recommended_workers : int
        The fewest workers that come within 5 % of the best fitted throughput among those tested.
    intervals : dict of str to (float, float)
        95 % bootstrap intervals by name of the attribute.
    t1_s : float
        Fitted wall time with one worker, in seconds.
    max_workers : int
        The most workers tested.
    curve : tuple of (workers, speedup, low, high)
        The chosen shape over the tested range with its 95 % band.
    sentence : str
        The answer in words.
    """

    model: Kind
    slots: int
    efficiency: float
    serial_fraction: float
    sigma: float | None
    kappa: float | None
    peak_workers: float | None
    recommended_workers: int
    intervals: dict[str, tuple[float, float]]
    t1_s: float
    max_workers: int
    curve: tuple[tuple[float, float, float, float], ...] = field(repr=False)
    sentence: str = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """Return the fitted curve: ``workers``, ``speedup``, ``low``, ``high`` (all float64, speedup over one worker)."""
        import pandas as pd

        return pd.DataFrame(list(self.curve), columns=["workers", "speedup", "low", "high"], dtype="float64")

    def _repr_html_(self) -> str:
        names = (
            "recommended_workers",
            "slots",
            "efficiency",
            "serial_fraction",
            "sigma",
            "kappa",
            "peak_workers",
        )
        known = [name for name in names if getattr(self, name) is not None]
        rows = [(name, f"{getattr(self, name):.3g}", _range(self.intervals.get(name))) for name in known]
        return block(table(("", "value", "95 % interval"), rows, caption=self.sentence))


def _range(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.3g} to {ends[1]:.3g}"


def fit_speedup(frame: pd.DataFrame, *, resamples: int = 2000, seed: int = 0) -> SpeedupFit:
    """Fit a speedup curve and say how many workers help.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``workers`` (int) and ``wall_s`` (seconds), one row a measurement, as `measure_speedup` returns it.
    resamples : int, default 2000
        Bootstrap resamples behind the intervals: relative residuals are drawn anew from all worker counts.
    seed : int, default 0
        Makes the intervals reproducible.

    Returns
    -------
    SpeedupFit

    Raises
    ------
    ConfigurationError
        If it is no such table, or ``resamples`` is below 1.
    InsufficientDataError
        If fewer than 5 distinct worker counts were measured, or a wall time is missing, zero or negative.

    Notes
    -----
    A measurement far from the others of its worker count (beyond 5 standard deviations, taken from the median
    absolute deviation) counts only as if it lay at that distance, so that one hiccup does not bend the curve.

    Examples
    --------
    >>> import pandas as pd
    >>> workers = [1, 2, 3, 4, 6, 8] * 2
    >>> fit = fit_speedup(pd.DataFrame({"workers": workers, "wall_s": [8 / min(n, 2) for n in workers]}))
    >>> fit.slots, fit.recommended_workers, fit.model
    (2, 2, 'hinge')
    """
    import numpy as np

    resamples = checked_count("resamples", resamples)
    n, log_wall = _checked(frame)
    top = int(n.max())
    shapes = {"hinge": hinge, "amdahl": amdahl, "usl": usl}
    fits = {kind: fit(n, log_wall[None, :]) for kind, fit in shapes.items()}
    chosen = fits["hinge"]
    for kind in ("amdahl", "usl"):
        if _aicc(fits[kind], n, log_wall) < _aicc(chosen, n, log_wall) - CLEARLY_BETTER:
            chosen = fits[kind]

    draws = np.random.default_rng(seed).integers(len(n), size=(resamples, len(n)))
    drawn = {kind: fit(n, _resampled(fits[kind], n, log_wall, draws)) for kind, fit in shapes.items()}

    def interval(kind: str, name: str) -> tuple[float, float]:
        # an observed value and no mean of two: a count stays whole, and a peak at infinity is one
        low, high = np.quantile(drawn[kind].found[name], (0.025, 0.975), method="nearest")
        return float(low), float(high)

    value = {name: float(each[0]) for shape in fits.values() for name, each in shape.found.items()}
    intervals = {name: interval("hinge", name) for name in ("slots", "efficiency")}
    intervals["serial_fraction"] = interval("amdahl", "serial_fraction")
    is_usl = chosen.kind == "usl"
    inside = is_usl and value["peak_workers"] <= top
    for name, told in (("sigma", is_usl), ("kappa", is_usl), ("peak_workers", inside)):
        if told:
            intervals[name] = interval("usl", name)

    grid = np.unique(np.concatenate([np.arange(1.0, top + 1), np.linspace(1.0, top, 120)]))
    band = np.quantile(drawn[chosen.kind].gains(grid), (0.025, 0.975), axis=0)
    counts = np.arange(1.0, top + 1)
    gains = chosen.gains(counts)[0]
    slots = round(value["slots"])
    nearly = int(counts[np.argmax(gains >= NEARLY_BEST * gains.max())])
    recommended = slots if chosen.kind == "hinge" else nearly
    return SpeedupFit(
        model=chosen.kind,
        slots=slots,
        efficiency=value["efficiency"],
        serial_fraction=value["serial_fraction"],
        sigma=value["sigma"] if is_usl else None,
        kappa=value["kappa"] if is_usl else None,
        peak_workers=value["peak_workers"] if inside else None,
        recommended_workers=recommended,
        intervals=intervals,
        t1_s=math.exp(float(np.mean(log_wall + np.log(chosen.gains(n)[0])))),
        max_workers=top,
        curve=tuple(zip(*(each.tolist() for each in (grid, chosen.gains(grid)[0], *band)), strict=True)),
        sentence=_sentence(chosen.kind, recommended, top, float(gains[recommended - 1]), value),
    )


def _sentence(kind: Kind, recommended: int, top: int, gain: float, value: dict[str, float]) -> str:
    use = f"Use {recommended} worker{'s' if recommended > 1 else ''}"
    fast = f"{gain:.1f} times as fast as one"
    if kind == "hinge" and recommended == 1:
        return f"{use}: the work runs one at a time, and up to {top} workers make it no faster."
    if recommended == top:
        return f"{use}, {fast}: still faster at {top}, the most tested; more may help."
    if kind == "hinge":
        return f"{use}, {fast}: from there on it is flat, up to {top} tested."
    if kind == "usl" and value["peak_workers"] <= top:
        return f"{use}, {fast}: the peak is near {value['peak_workers']:.0f}, and beyond it gets slower."
    return f"{use}, {fast}: up to {top} tested, more bring less than 5 %."


def _checked(frame: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return worker counts and the logarithms of the wall times, hiccups drawn in."""
    import numpy as np

    if missing := {"workers", "wall_s"} - set(getattr(frame, "columns", ())):
        raise ConfigurationError(
            f"a speedup curve is a table with the columns workers and wall_s, as measure_speedup returns it; {type(frame).__name__} "
            f"has no {min(missing)}"
        )
    n = frame["workers"].to_numpy(dtype=float)
    wall = frame["wall_s"].to_numpy(dtype=float, na_value=math.nan)
    levels = np.unique(n)
    if len(levels) < MIN_LEVELS:
        raise InsufficientDataError(
            f"a speedup curve needs at least {MIN_LEVELS} different worker counts, and {len(levels)} were measured "
            f"({', '.join(f'{level:g}' for level in levels) or 'none'}); measure more, for example workers=(1, 2, 3, 4, 6, 8)"
        )
    wrong = ~(np.isfinite(wall) & (wall > 0))
    if wrong.any():
        raise InsufficientDataError(
            f"{int(wrong.sum())} of {len(wall)} wall times are missing or not above 0 s (the first at {n[wrong][0]:g} "
            "workers); give the work enough to do that it can be timed"
        )
    log_wall = np.log(wall)
    medians = np.empty_like(log_wall)
    for level in levels:
        medians[n == level] = np.median(log_wall[n == level])
    deviation = float(np.median(np.abs(log_wall - medians)))
    reach = 5 * 1.4826 * deviation  # 1.4826: from a normal's median absolute deviation to its standard one
    return n, np.clip(log_wall, medians - reach, medians + reach) if reach > 0 else log_wall


def _aicc(shape: Shape, n: Floats, log_wall: Floats) -> float:
    return float(shape.aicc(n, log_wall[None, :])[0])


def _resampled(shape: Shape, n: Floats, log_wall: Floats, draws: Any) -> Floats:
    """Return resampled logarithms of wall times: the fit, plus its residuals in another order."""
    residuals = shape.residuals(n, log_wall[None, :])
    spare = max(1.0, len(n) - float(shape.parameters[0]))
    # Residuals of a fit are too small: over 1 less the mean leverage, as the jackknife has it (HC3 of MacKinnon and
    # White 1985); and few have Student's tails: his 97.5 % point over the normal one's, expanded in 1 / spare
    # (Abramowitz and Stegun 26.7.5).
    inflate = len(n) / spare * (1 + (1.96**2 + 1) / (4 * spare))
    drawn: Floats = residuals[0][draws] * inflate
    return log_wall - residuals + drawn

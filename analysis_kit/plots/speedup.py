"""How much faster more workers make the work: measurements, ideal, the fitted shape, and what to use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from analysis_kit.errors import InsufficientDataError
from analysis_kit.plots.style import COLORS, as_frame, finish, ink, new_axes, nothing, rows_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from analysis_kit.speedup import SpeedupFit

_NAMES: Final = {
    "hinge": "fit: grows to its slots, then flat",
    "amdahl": "fit: Amdahl, serial fraction {serial_fraction:.1%}",
    "usl": "fit: scalability law, \N{GREEK SMALL LETTER SIGMA} = {sigma:.3g}, \N{GREEK SMALL LETTER KAPPA} = {kappa:.2g}",
}


def speedup_data(data: Any, *, fit: SpeedupFit | None = None) -> pd.DataFrame:
    """Return the points that `plot_speedup` draws: one row a worker count.

    Parameters
    ----------
    data : DataFrame, or an object with ``to_frame()``
        ``workers`` and ``wall_s``, as `measure_speedup` returns them.
    fit : SpeedupFit, optional
        Its wall time of one worker is the 1 of the speedup; else the median at the fewest workers, taken as ideal.

    Returns
    -------
    pandas.DataFrame
        ``workers`` (int64), ``repeats`` (int64), ``wall_s`` (median, seconds), ``speedup`` (median), ``low``, ``high``
        (the slowest and the fastest repeat).
    """
    table = as_frame(data, "workers", "wall_s")
    table = table[table["wall_s"] > 0]
    walls = table.groupby("workers")["wall_s"].agg(["size", "median", "min", "max"]).reset_index()
    if walls.empty:
        one = 1.0
    else:
        one = fit.t1_s if fit is not None else float(walls["median"].iloc[0] * walls["workers"].iloc[0])
    walls["speedup"], walls["low"], walls["high"] = (
        one / walls["median"],
        one / walls["max"],
        one / walls["min"],
    )
    walls = walls.rename(columns={"size": "repeats", "median": "wall_s"})
    return walls[["workers", "repeats", "wall_s", "speedup", "low", "high"]]


def plot_speedup(data: Any, *, fit: SpeedupFit | None = None, ax: Axes | None = None) -> Axes:
    """Draw a speedup curve with the ideal, the fitted shape and its band, and what to use.

    Parameters
    ----------
    data : DataFrame, or an object with ``to_frame()``
        ``workers`` and ``wall_s``, as `measure_speedup` returns them. Points are medians, bars the slowest and the
        fastest repeat.
    fit : SpeedupFit, optional
        Default: `fit_speedup` of the data; with too few worker counts the points stand alone and the title says so.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: axes of their own, which show themselves in a notebook.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from analysis_kit.speedup import fit_speedup

    table = as_frame(data, "workers", "wall_s")
    title = "Measured speedup"
    if fit is None:
        try:
            fit = fit_speedup(table)
        except InsufficientDataError as exc:
            title = f"No fit: {exc}"
    points = speedup_data(table, fit=fit)
    ax = new_axes(ax, height=4.2, width=6.4)
    if points.empty:
        return nothing(ax, "no wall time has been measured", title="Measured speedup", table=points)
    most = int(points["workers"].max())
    best = float(points["high"].max())
    handles: list[Any] = []
    if fit is not None:
        title = fit.sentence
        curve = fit.to_frame()
        best = max(best, float(curve["high"].max()))
        words = _NAMES[fit.model].format(
            serial_fraction=fit.serial_fraction, sigma=fit.sigma, kappa=fit.kappa
        )
        ax.fill_between(
            curve["workers"], curve["low"], curve["high"], color=COLORS[0], alpha=0.2, linewidth=0
        )
        handles += ax.plot(curve["workers"], curve["speedup"], color=COLORS[0], linewidth=2, label=words)
        if fit.model == "hinge" and fit.slots < most:
            words = f"{fit.slots} slot{'s' if fit.slots > 1 else ''}"
            handles.append(ax.axvline(fit.slots, color=COLORS[5], linestyle=":", linewidth=1.6, label=words))
    handles += ax.plot(
        [1, most], [1, most], color=ink(), alpha=0.8, linestyle="--", linewidth=1.1, zorder=3, label="ideal"
    )
    bars = ax.errorbar(
        points["workers"],
        points["speedup"],
        yerr=[points["speedup"] - points["low"], points["high"] - points["speedup"]],
        fmt="o",
        color=ink(),
        markersize=4.5,
        capsize=3,
        linewidth=1.2,
        label="median of repeats, slowest to fastest",
    )
    handles.insert(0, bars)
    if fit is not None:
        height = dict(zip(curve["workers"], curve["speedup"], strict=True))[fit.recommended_workers]
        handles += ax.plot(
            fit.recommended_workers,
            height,
            "o",
            markersize=12,
            markerfacecolor="none",
            markeredgecolor=COLORS[5],
            markeredgewidth=1.8,
            zorder=4,
            label=f"recommended: {fit.recommended_workers}",
        )
    ax.set_xticks(points["workers"].to_list(), labels=[str(count) for count in points["workers"]])
    ax.set_xlim(0, most * 1.03)
    ax.set_ylim(0, max(2.0, best * 1.25))
    ax.set_xlabel("workers")
    ax.set_ylabel("times as fast as one worker")
    told = ", ".join(f"{row.workers}: {row.speedup:.2f}" for row in rows_of(points))
    return finish(
        ax,
        title=title,
        alt=f"{title} Measured speedup by workers: {told}.",
        table=points,
        handles=handles,
        grid="both",
    )

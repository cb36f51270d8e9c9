"""A run over time: which unit ran when, beside which others, and how much got done."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from analysis_kit.plots.split import series_names
from analysis_kit.plots.style import (
    COLORS,
    as_frame,
    categories,
    finish,
    ink,
    new_axes,
    nothing,
    rows_of,
)
from analysis_kit.plots.text import label, room, seconds

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: More bars than this are drawn without the names of their units.
NAMED = 60
#: Bars of fewer points than this touch: a gap of 0.8 points between them would be most of what one sees.
NARROW = 4.0
#: Units that an interval of the throughput holds on average; fewer and the gaps between them are all one sees.
PER_INTERVAL = 5


def timeline_data(data: Any) -> pd.DataFrame:
    """Return what `plot_timeline` draws: one row a unit that ran, by its start.

    Parameters
    ----------
    data : DataFrame, or an object with ``to_frame()``
        A run's rows (``analyzer``, ``unit``, ``status``, ``started_at``, ``duration_s``), or measurements
        (``operation``, ``ok``, ``started_at``, ``duration_s``).

    Returns
    -------
    pandas.DataFrame
        ``lane`` (int64, from 0: the first that was free, so there are as many as ran at once), ``series``, ``unit``,
        ``start_s`` and ``end_s`` (seconds since the first start), ``ok`` (bool).
    """
    import pandas as pd

    table = as_frame(data, "started_at", "duration_s")
    if "operation" in table.columns:
        table = table.assign(series=table["operation"], unit="", good=table["ok"])
    else:
        table = as_frame(table, "analyzer", "unit", "status", "started_at", "duration_s")
        table = table[table["status"] != "cached"]
        table = table.assign(series=series_names(table), good=~table["status"].isin(["failed", "cancelled"]))
    table = table[table["started_at"].notna() & table["duration_s"].notna()]
    table = table.sort_values("started_at", kind="stable")
    start = (table["started_at"] - table["started_at"].min()).dt.total_seconds().to_numpy()
    end = start + table["duration_s"].to_numpy(dtype=float)
    return pd.DataFrame(
        {
            "lane": pd.Series(_lanes(start.tolist(), end.tolist()), dtype="int64"),
            "series": table["series"].astype(str).to_numpy(),
            "unit": table["unit"].astype(str).to_numpy(),
            "start_s": start,
            "end_s": end,
            "ok": table["good"].fillna(value=True).to_numpy(dtype=bool),
        }
    )


def _lanes(start: list[float], end: list[float]) -> list[int]:
    """Return for each span, by start, the lowest lane that is free."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    lanes, opened = [], 0
    for begins, ends in zip(start, end, strict=True):
        while busy and busy[0][0] <= begins + 1e-6:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, opened = opened, opened + 1
        heapq.heappush(busy, (ends, lane))
        lanes.append(lane)
    return lanes


def plot_timeline(data: Any, *, ax: Axes | None = None) -> Axes:
    """Draw every unit as a bar from its start to its end, one lane for each that ran at once.

    Parameters
    ----------
    data : DataFrame, or an object with ``to_frame()``
        See `timeline_data`. What failed is hatched and outlined.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: axes of their own, which show themselves in a notebook.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from matplotlib.patches import Patch

    table = timeline_data(data)
    lanes = int(table["lane"].max()) + 1 if len(table) else 0
    ax = new_axes(ax, height=min(9.0, 1.5 + 0.36 * max(2, lanes)))
    title = "What ran when"
    if not lanes:
        return nothing(ax, "nothing has run yet", title=title, table=table)
    end = float(table["end_s"].max()) or 1.0
    names = list(dict.fromkeys(table["series"]))
    named = len(table) <= NAMED
    scale = room(ax) / end  # points a second
    for row in rows_of(table):
        color = COLORS[names.index(row.series) % len(COLORS)]
        width = row.end_s - row.start_s
        ax.barh(
            row.lane,
            width,
            0.78,
            row.start_s,
            color=color,
            # a gap between neighbours, but not one that covers a narrow bar whole
            linewidth=0.8 if not row.ok or width * scale > NARROW else 0,
            edgecolor=ax.get_facecolor() if row.ok else ink(),
            hatch=None if row.ok else "xxxx",
        )
        fits = int(width * scale / (7 * 0.6)) - 1
        if named and row.unit and row.ok and fits > 3:  # noqa: PLR2004 - shorter says nothing
            dark = color in {"#0072B2", "#009E73", "#D55E00"}
            words = label(row.unit, width=fits)
            ax.text(
                row.start_s + width / 2,
                row.lane,
                words,
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
                clip_on=True,
            )
    categories(ax, [str(lane + 1) for lane in range(lanes)])
    ax.set_ylabel("running at once")
    ax.set_xlim(0, end * 1.01)
    ax.set_xlabel("seconds since the start")
    handles = [
        Patch(color=COLORS[i % len(COLORS)], label=label(name, width=30)) for i, name in enumerate(names)
    ]
    failed = int((~table["ok"]).sum())
    if failed:
        handles.append(Patch(facecolor="none", edgecolor=ink(), hatch="xxxx", label=f"failed ({failed})"))
    alt = f"{title}: {len(table)} units in {seconds(end)}, at most {lanes} at once, {failed} failed."
    return finish(ax, title=title, alt=alt, table=table, handles=handles)


def throughput_data(data: Any, *, intervals: int | None = None) -> pd.DataFrame:
    """Return what `plot_throughput` draws: one row an interval of the run.

    Parameters
    ----------
    data : DataFrame, or an object with ``to_frame()``
        See `timeline_data`.
    intervals : int, optional
        How many equal intervals; default: so many that each holds 5 units on average, from 4 to 40.

    Returns
    -------
    pandas.DataFrame
        ``start_s``, ``end_s`` (seconds since the first start), ``units`` (int64, finished in the interval),
        ``units_per_s``, ``running`` (float64, mean number at once).
    """
    import numpy as np
    import pandas as pd

    table = timeline_data(data)
    if table.empty or not table["end_s"].max() > 0:
        return pd.DataFrame(
            {"start_s": [], "end_s": [], "units": np.array([], "int64"), "units_per_s": [], "running": []}
        )
    starts, ends = table["start_s"].to_numpy(), table["end_s"].to_numpy()
    count = intervals or int(np.clip(len(table) // PER_INTERVAL, 4, 40))
    edges = np.linspace(0.0, ends.max(), count + 1)
    units = np.histogram(ends, edges)[0]
    width = edges[1] - edges[0]
    inside = np.clip(np.minimum(ends[:, None], edges[1:]) - np.maximum(starts[:, None], edges[:-1]), 0, None)
    return pd.DataFrame(
        {
            "start_s": edges[:-1],
            "end_s": edges[1:],
            "units": units.astype("int64"),
            "units_per_s": units / width,
            "running": inside.sum(axis=0) / width,
        }
    )


def plot_throughput(data: Any, *, intervals: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw how many units were finished a second, over the run.

    Parameters
    ----------
    data : DataFrame, or an object with ``to_frame()``
        See `timeline_data`.
    intervals : int, optional
        How many equal intervals; default: so many that each holds 5 units on average, from 4 to 40.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: axes of their own, which show themselves in a notebook.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from analysis_kit.monitor.stats import busy_time, rate

    table, spans = throughput_data(data, intervals=intervals), timeline_data(data)
    ax = new_axes(ax, height=3.2)
    title = "Throughput over the run"
    if table.empty:
        return nothing(ax, "nothing has run yet", title=title, table=table)
    each_s = rate(len(spans), busy_time(zip(spans["start_s"], spans["end_s"], strict=True)))
    mean = f"{each_s:,.0f}" if each_s >= 1000 else f"{each_s:.3g}"  # noqa: PLR2004 - 1,220 and not 1.22e+03
    edges = [*table["start_s"], table["end_s"].iloc[-1]]
    ax.stairs(table["units_per_s"], edges, fill=True, color=COLORS[0], alpha=0.55, linewidth=0)
    line = ax.axhline(
        each_s, color=ink(), linestyle="--", linewidth=1.2, label=f"mean while busy: {mean} units/s"
    )
    ax.set_xlim(0, edges[-1])
    ax.set_ylim(bottom=0)
    ax.set_xlabel("seconds since the start")
    ax.set_ylabel("units finished / s")
    at_once = (
        f"{table['running'].mean():.1f} units ran at once on average, in intervals of {seconds(edges[1])}."
    )
    alt = f"{title}: {len(spans)} units, {mean} a second while busy. {at_once}"
    return finish(ax, title=title, alt=alt, table=table, note=at_once, handles=[line], grid="y")

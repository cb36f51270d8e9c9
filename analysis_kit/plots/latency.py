"""How long operations take: their distribution, median and 95th percentile, and how sure the latter is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from analysis_kit.plots.style import (
    COLORS,
    as_frame,
    beside,
    categories,
    finish,
    ink,
    new_axes,
    nothing,
    rows_of,
)
from analysis_kit.plots.text import label, seconds

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: With fewer durations each is drawn as a point: bars of a histogram would show shapes that are not there.
FEWEST_FOR_BARS = 30
#: Longest over shortest from which on the time axis is logarithmic.
WIDE = 20.0
#: Height of a histogram's highest bar, in rows.
ROW = 0.72
#: So many curves are named in the legend; more names would leave no room for the curves.
NAMED_CURVES = 10
#: So many operations are named in the note below.
NAMED_IN_NOTE = 4

_TITLE = "How long each operation takes"


def latency_data(data: Any) -> pd.DataFrame:
    """Return the durations that `plot_latency` draws.

    Parameters
    ----------
    data : DataFrame, or an object with ``to_frame()``
        Measurements (``operation``, ``duration_s``: a monitor) or a run's rows (``analyzer``, ``status``,
        ``duration_s``). Of the latter only rows done are taken: an answer from the cache takes no time of a server.

    Returns
    -------
    pandas.DataFrame
        ``operation`` (text), ``duration_s`` (seconds, as they came), ``share`` (of the operation's durations that are
        at most as long, 0 to 1).
    """
    import pandas as pd

    table = as_frame(data, "duration_s")
    if "operation" not in table.columns:
        table = as_frame(table, "analyzer", "status", "duration_s")
        table = table[table["status"] == "done"]
        table = table.assign(operation=table["analyzer"])
    table = table.loc[table["duration_s"].notna(), ["operation", "duration_s"]].reset_index(drop=True)
    share = table.groupby("operation", sort=False)["duration_s"].rank(method="max", pct=True)
    return pd.DataFrame(table).assign(share=share.astype("float64"))


def latency_summary(data: Any) -> pd.DataFrame:
    """Return one row an operation: ``operation``, ``count``, ``median_s``, ``p95_s``, its interval, and why there is none."""
    from analysis_kit.monitor.stats import summary_frame

    table = latency_data(data)
    stats = summary_frame(
        (name, took, True) for name, took in zip(table["operation"], table["duration_s"], strict=True)
    )
    return stats[["operation", "count", "median_s", "p95_s", "p95_low_s", "p95_high_s", "p95_note"]]


def plot_latency(
    data: Any, *, kind: Literal["histogram", "ecdf"] = "histogram", ax: Axes | None = None
) -> Axes:
    """Draw the distribution of durations by operation, with median and 95th percentile.

    Parameters
    ----------
    data : DataFrame, or an object with ``to_frame()``
        See `latency_data`.
    kind : {"histogram", "ecdf"}, default "histogram"
        One row an operation, or the empirical distribution functions over each other. Below 30 durations a row shows
        every single one instead of bars. The band is the 95 % interval of the 95th percentile, where the sample
        supports one.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: axes of their own, which show themselves in a notebook.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import pandas as pd
    >>> ax = plot_latency(pd.DataFrame({"operation": ["ask"] * 3, "duration_s": [0.2, 0.3, 0.9]}))
    >>> ax.get_xlabel()
    'duration (s)'
    """
    durations, summary = latency_data(data), latency_summary(data)
    rows = len(summary)
    legend = 0.17 * min(rows, NAMED_CURVES + 1)
    ax = new_axes(ax, height=3.1 + legend if kind == "ecdf" else 1.2 + 0.75 * max(1, rows))
    if not rows:
        return nothing(ax, "no operation has been measured yet", title=_TITLE, table=summary)
    values = durations["duration_s"]
    positive = values[values > 0]
    logarithmic = len(positive) == len(values) and values.max() > WIDE * values.min()
    if logarithmic:
        _logarithmic(ax)
    handles = (_draw_ecdf if kind == "ecdf" else _draw_rows)(ax, durations, summary, logarithmic=logarithmic)
    ax.set_xlabel("duration (s), logarithmic" if logarithmic else "duration (s)")
    if not logarithmic:
        ax.set_xlim(left=0)
    vague = summary.loc[summary["p95_low_s"].isna(), "operation"]
    who = ", ".join(label(name) for name in vague[:NAMED_IN_NOTE])
    if len(vague) > NAMED_IN_NOTE:
        who += f" and {len(vague) - NAMED_IN_NOTE} more"
    note = f"No interval of p95 for {who}: it takes 72 durations or more." if who else ""
    return finish(ax, title=_TITLE, alt=_alt(summary), table=summary, note=note, handles=handles)


def _draw_rows(ax: Axes, durations: pd.DataFrame, summary: pd.DataFrame, *, logarithmic: bool) -> list[Any]:
    import numpy as np
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    values = durations["duration_s"].to_numpy()
    low, high = values.min(), values.max()
    per_row = np.sqrt(len(values) / len(summary)) * 2
    bins = np.linspace(0, high, int(np.clip(per_row, 12, 40)) + 1)
    if logarithmic:  # some bars a decade, so that an operation that fills one of four still has a shape
        bins = np.geomspace(low, high, int(np.clip(np.log10(high / low) * 10, 12, 60)) + 1)
    banded = False
    for place, row in enumerate(rows_of(summary)):
        color, took = COLORS[place % len(COLORS)], values[durations["operation"] == row.operation]
        foot = place + 0.36
        if len(took) < FEWEST_FOR_BARS or low == high:
            spread = (
                (np.arange(len(took)) * 0.618034) % 1 - 0.5
            ) * 0.4  # golden steps: even, and the same each time
            ax.plot(took, place + spread, "o", color=color, alpha=0.75, markersize=4.5, markeredgewidth=0)
        else:
            heights, edges = np.histogram(took, bins)
            tops = heights / heights.max() * ROW
            ax.bar(
                edges[:-1], -tops, np.diff(edges), foot, align="edge", color=color, alpha=0.55, linewidth=0
            )
        if math.isfinite(row.p95_low_s):
            banded = True
            ax.fill_betweenx(
                [foot - ROW, foot], row.p95_low_s, row.p95_high_s, color=ink(), alpha=0.18, linewidth=0
            )
        for at, style in ((row.median_s, "-"), (row.p95_s, (0, (3, 1.5)))):
            ax.plot([at, at], [foot - ROW, foot], color=ink(), linestyle=style, linewidth=1.6)
    beside(ax, [f"p50 {seconds(row.median_s)}\np95 {seconds(row.p95_s)}" for row in rows_of(summary)])
    categories(ax, [f"{label(row.operation, width=26)}\nn = {row.count:,}" for row in rows_of(summary)])
    handles: list[Any] = [
        Line2D([], [], color=ink(), linewidth=1.6, label="median (p50)"),
        Line2D([], [], color=ink(), linewidth=1.6, linestyle=(0, (3, 1.5)), label="p95"),
    ]
    return handles + ([Patch(color=ink(), alpha=0.18, label="95 % interval of p95")] if banded else [])


def _draw_ecdf(ax: Axes, durations: pd.DataFrame, summary: pd.DataFrame, *, logarithmic: bool) -> list[Any]:
    import numpy as np
    from matplotlib.lines import Line2D

    handles: list[Any] = []
    styles = ("-", "--", "-.", ":")
    for place, row in enumerate(rows_of(summary)):
        took = np.sort(durations.loc[durations["operation"] == row.operation, "duration_s"].to_numpy())
        color, style = COLORS[place % len(COLORS)], styles[place % len(styles)]
        start = took[0] if logarithmic else 0.0
        words = f"{label(row.operation, width=26)} (n = {row.count:,}): p50 {seconds(row.median_s)}, p95 {seconds(row.p95_s)}"
        handles += ax.step(
            [start, *took],
            [0.0, *np.arange(1, len(took) + 1) / len(took)],
            where="post",
            color=color,
            linestyle=style,
            linewidth=1.8,
            label=words,
        )
        ax.plot(
            [row.median_s, row.p95_s],
            [0.5, 0.95],
            "o",
            color=color,
            markersize=5,
            markeredgecolor=ax.get_facecolor(),
        )
    if len(handles) > NAMED_CURVES:
        more = len(handles) - NAMED_CURVES
        handles = handles[:NAMED_CURVES]
        handles.append(Line2D([], [], linewidth=0, label=f"and {more} more, named in the data"))
    ax.set_ylim(0, 1.02)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 0.95], labels=["0", "25", "50", "75", "95"])
    ax.set_ylabel("cumulative share (%)")
    return handles


def _logarithmic(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}")
    )  # matplotlib's own writes mathtext
    ax.xaxis.set_minor_formatter(NullFormatter())


def _alt(summary: pd.DataFrame) -> str:
    told = "; ".join(
        f"{row.operation}: median {seconds(row.median_s)}, 95th percentile {seconds(row.p95_s)}, n {row.count}"
        for row in rows_of(summary)
    )
    return f"Distribution of durations by operation. {told}."

"""Two runs side by side: what got faster, what got slower, and what cannot be told."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from analysis_kit.frames import COMPARE_COLUMNS
from analysis_kit.plots.style import (
    FAINT,
    as_frame,
    beside,
    categories,
    finish,
    ink,
    new_axes,
    nothing,
    rows_of,
)
from analysis_kit.plots.text import label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_TITLE = "Time after, relative to before"
#: A bar of what could not be told is shown up to this ratio.
WIDEST: Final = 4.0
#: Verdict -> (marker, colour).
VERDICTS: Final = {"faster": ("v", "#0072B2"), "slower": ("^", "#D55E00"), "cannot tell": ("o", "#7f7f7f")}


def compare_data(data: Any) -> pd.DataFrame:
    """Return the table that `plot_compare` draws: `frames.COMPARE_COLUMNS`, rows without a ratio left out.

    Parameters
    ----------
    data : DataFrame, or an object with ``to_frame()``
        What `analysis_kit.compare` returns.
    """
    table = as_frame(data, *(column.name for column in COMPARE_COLUMNS))
    return table[table["ratio"].gt(0).fillna(value=False)].reset_index(drop=True)


def plot_compare(data: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the ratio of medians, after over before, with its 95 % interval, by operation.

    Parameters
    ----------
    data : DataFrame, or an object with ``to_frame()``
        What `analysis_kit.compare` returns. The grey bar spans the ratios that these sample sizes could not have told
        from 1.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: axes of their own, which show themselves in a notebook.

    Returns
    -------
    matplotlib.axes.Axes
    """
    import numpy as np
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    table = compare_data(data)
    ax = new_axes(ax, height=1.7 + 0.42 * max(1, len(table)))
    if table.empty:
        return nothing(ax, "no operation was measured both before and after", title=_TITLE, table=table)
    ax.axvline(1, color=ink(), linewidth=1)
    ends = [0.8, 1.25]
    for place, row in enumerate(rows_of(table)):
        marker, color = VERDICTS.get(str(row.verdict), VERDICTS["cannot tell"])
        if math.isfinite(row.detectable_ratio) and row.detectable_ratio > 0:
            reach = max(row.detectable_ratio, 1 / row.detectable_ratio)
            ax.barh(place, reach - 1 / reach, 0.5, 1 / reach, color=FAINT, alpha=0.35, linewidth=0)
            # a tiny sample could only have shown a huge change: its bar may leave the plot, to spare the others' scale
            ends += [1 / min(reach, WIDEST), min(reach, WIDEST)]
        if math.isfinite(row.ratio_low) and math.isfinite(row.ratio_high):
            ax.plot([row.ratio_low, row.ratio_high], [place, place], color=color, linewidth=2)
            ends += [row.ratio_low, row.ratio_high]
        hollow = ax.get_facecolor() if row.verdict == "cannot tell" else color
        ax.plot(
            row.ratio, place, marker, color=color, markerfacecolor=hollow, markersize=7, markeredgewidth=1.4
        )
        ends.append(row.ratio)
    beside(ax, [f"{_times(row.ratio)}  {row.verdict}" for row in rows_of(table)])
    low, high = min(end for end in ends if end > 0) / 1.06, max(ends) * 1.06
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    steps = [
        1 / 100,
        1 / 50,
        1 / 20,
        1 / 10,
        1 / 5,
        1 / 3,
        0.5,
        0.67,
        0.8,
        1,
        1.25,
        1.5,
        2,
        3,
        5,
        10,
        20,
        50,
        100,
    ]
    least = 0.09 * np.log(high / low)
    ticks: list[float] = [1.0]
    for step in sorted(steps, key=lambda value: abs(math.log(value))):  # from 1 outwards, where there is room
        if low <= step <= high and all(abs(math.log(step / tick)) > least for tick in ticks):
            ticks.append(step)
    ax.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    ax.xaxis.set_major_formatter(
        FixedFormatter([f"\N{MULTIPLICATION SIGN} {tick:g}" for tick in sorted(ticks)])
    )
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("faster   ←   median after / median before   →   slower")
    counts = zip(table["operation"], table["before_n"], table["after_n"], strict=True)
    categories(ax, [f"{label(name, width=26)}\nn = {before:,} → {after:,}" for name, before, after in counts])
    handles: list[Any] = [
        Line2D(
            [],
            [],
            color=color,
            marker=marker,
            markerfacecolor=ax.get_facecolor() if name == "cannot tell" else color,
            label=name,
        )
        for name, (marker, color) in VERDICTS.items()
        if name in set(table["verdict"])
    ]
    handles.append(Patch(color=FAINT, alpha=0.35, label="too close to 1 for these n"))
    told = "; ".join(f"{row.operation}: {_times(row.ratio)}, {row.verdict}" for row in rows_of(table))
    return finish(ax, title=_TITLE, alt=f"{_TITLE}. {told}.", table=table, handles=handles)


def _times(ratio: float) -> str:
    return f"\N{MULTIPLICATION SIGN} {ratio:.{2 if ratio < 10 else 0}f}"  # noqa: PLR2004 - three digits

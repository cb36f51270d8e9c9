"""What the analyzers say about the units of a call: scores in the order of the call, and unit by analyzer as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis_kit.plots.split import series_names
from analysis_kit.plots.style import (
    COLORS,
    DEMO,
    FAINT,
    MARKERS,
    SMALL,
    as_frame,
    categories,
    finish,
    ink,
    new_axes,
    nothing,
)
from analysis_kit.plots.text import label, lines_a_row

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MINUS = "\N{MINUS SIGN}"
#: More rows than this and only some of them are named.
NAMED = 40
#: More rows than this and a heat map's numbers would not be read.
NUMBERED = 60


def scores_data(data: Any, *, by: str | None = None) -> pd.DataFrame:
    """Return what `plot_scores` and `plot_heatmap` draw: one row a unit and series, in the order of the call.

    Parameters
    ----------
    data : DataFrame, or an object with ``to_frame()``
        A run's rows: ``document by unit position analyzer status score``, and ``model repeat flags`` where it has them.
    by : {"section", "speaker", "turn", ...}, optional
        Which units; default: the first kind in the table.

    Returns
    -------
    pandas.DataFrame
        ``place`` (row of the plot, from 0), ``unit`` (with several documents: the document), ``series`` (analyzer, with
        its model where there are several), ``score``, ``low``, ``high`` (mean and extremes over what falls together:
        repeats, or a document's units), ``n`` (how many scores), ``missing`` (rows without one that should have had it),
        ``demo`` (whether the demo model answered). Analyzers that give no score at all are left out.
    """
    table = as_frame(data, "document", "by", "unit", "position", "analyzer", "status", "score")
    kind = by or (str(table["by"].iloc[0]) if len(table) else "")
    table = table[table["by"] == kind]
    table = table.assign(series=series_names(table) if len(table) else table["analyzer"])
    has_scale = table.groupby("series", sort=False)["score"].transform("count") > 0
    table = table[has_scale]
    several = len(set(table["document"])) > 1
    if not several:
        table = table.sort_values("position", kind="stable")
    table = table.assign(unit=table["document"] if several else table["unit"])
    table = table.assign(place=table.groupby("document" if several else "position", sort=False).ngroup())
    flags = table["flags"] if "flags" in table.columns else table["status"]
    table = table.assign(demo=flags.astype("object").fillna("").astype(str).str.contains(DEMO, regex=False))
    groups = table.groupby(["place", "series"], sort=False)
    found = groups.agg(
        unit=("unit", "first"),
        score=("score", "mean"),
        low=("score", "min"),
        high=("score", "max"),
        n=("score", "count"),
        rows=("score", "size"),
        demo=("demo", "any"),
    ).reset_index()
    found["missing"] = found["rows"] - found["n"]
    names = ["place", "unit", "series", "score", "low", "high", "n", "missing", "demo"]
    return found[names].sort_values("place", kind="stable").reset_index(drop=True)


def plot_scores(data: Any, *, by: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the scores of a call's units from its beginning, at the top, to its end.

    Parameters
    ----------
    data : DataFrame, or an object with ``to_frame()``
        See `scores_data`. With several documents each row is one document, its point the mean of its units and its
        line their range. The demo model's marks are hatched: it is no judge of tone.
    by : {"section", "speaker", "turn", ...}, optional
        Which units; default: the first kind in the table.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: axes of their own, which show themselves in a notebook.

    Returns
    -------
    matplotlib.axes.Axes
    """
    table = as_frame(data, "document", "by")
    found = scores_data(table, by=by)
    rows = int(found["place"].max()) + 1 if len(found) else 0
    ax = new_axes(ax, height=min(11.0, 1.5 + 0.3 * max(3, rows)))
    title = _title(table, found, by)
    if not found["n"].sum():
        return nothing(ax, "no row has a score", title=title, table=found)
    ax.axvline(0, color=ink(), alpha=0.7, linewidth=0.9, zorder=1)
    handles = []
    names = list(dict.fromkeys(found["series"]))
    for place, name in enumerate(names):
        part = found[(found["series"] == name) & (found["n"] > 0)]
        demo = bool(part["demo"].any())
        color = COLORS[place % len(COLORS)]
        y = part["place"] + (place - (len(names) - 1) / 2) * min(0.22, 0.66 / len(names))
        ranged = part["high"] > part["low"]
        ax.hlines(y[ranged], part["low"][ranged], part["high"][ranged], color=color, linewidth=1.6, alpha=0.6)
        handles.append(
            ax.scatter(
                part["score"],
                y,
                s=46 if rows <= NAMED else 20,
                marker=MARKERS[place % len(MARKERS)],
                facecolor=ax.get_facecolor() if demo else color,
                edgecolor=color if demo else ax.get_facecolor(),
                hatch="//////" if demo else None,
                linewidth=1.0 if demo else 0.6,
                zorder=3,
                label=label(name, width=30) + (f" ({DEMO})" if demo else ""),
            )
        )
    _name_rows(ax, found, rows)
    ax.set_xlim(-1.05, 1.05)
    ax.set_xticks([-1, -0.5, 0, 0.5, 1], labels=[f"{MINUS}1", f"{MINUS}0.5", "0", "0.5", "1"])
    ax.set_xlabel("negative   ←   score   →   positive")
    ax.grid(visible=True, axis="y", color=FAINT, alpha=0.25, linewidth=0.6)
    return finish(ax, title=title, alt=_alt(found, title), table=found, note=_missing(found), handles=handles)


def plot_heatmap(data: Any, *, by: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the scores as a table of coloured cells, unit by analyzer, each with its number.

    Parameters
    ----------
    data : DataFrame, or an object with ``to_frame()``
        See `scores_data`.
    by : {"section", "speaker", "turn", ...}, optional
        Which units; default: the first kind in the table.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: axes of their own, which show themselves in a notebook.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from matplotlib import colormaps

    table = as_frame(data, "document", "by")
    found = scores_data(table, by=by)
    rows = int(found["place"].max()) + 1 if len(found) else 0
    names = list(dict.fromkeys(found["series"]))
    ax = new_axes(ax, height=min(11.0, 1.0 + 0.3 * max(3, rows)), width=3.6 + 1.1 * max(1, len(names)))
    title = _title(table, found, by)
    if not found["n"].sum():
        return nothing(ax, "no row has a score", title=title, table=found)
    grid = found.pivot_table(index="place", columns="series", values="score", dropna=False, observed=False)
    values = grid.reindex(columns=names).to_numpy(dtype=float)
    # red and blue are told apart by the colour-blind; the numbers tell them apart in grey
    colors = colormaps["RdBu"].with_extremes(bad="#f2f2f2")
    mesh = ax.pcolormesh(values, cmap=colors, vmin=-1, vmax=1, edgecolors=ax.get_facecolor(), linewidth=1.2)
    mesh.set_offset_transform(mesh.get_offset_transform())
    _name_rows(ax, found, rows)
    ax.set_ylim(rows, 0)
    ax.set_yticks(
        [tick + 0.5 for tick in ax.get_yticks()], labels=[t.get_text() for t in ax.get_yticklabels()]
    )
    if rows <= NUMBERED and lines_a_row(ax, rows) >= 1:
        for (row, column), value in _cells(values):
            known = value == value  # noqa: PLR0124 - NaN
            shown = f"{value:+.2f}".replace("-", MINUS) if known else "none"
            color = "white" if abs(value) > 0.6 else "black"  # noqa: PLR2004 - on dark red or blue
            ax.text(column + 0.5, row + 0.5, shown, ha="center", va="center", fontsize=SMALL, color=color)
    ax.xaxis.tick_top()
    heads = [label(name, width=18) + ("\n(demo model)" if _demo(found, name) else "") for name in names]
    ax.set_xticks([place + 0.5 for place in range(len(names))], labels=heads, va="baseline")
    ax.tick_params(axis="both", length=0)
    ax.spines[:].set_visible(False)
    return finish(ax, title=title, alt=_alt(found, title), table=found, grid="", gap=12)


def _cells(values: Any) -> Any:
    import numpy as np

    return np.ndenumerate(values)


def _demo(found: pd.DataFrame, series: str) -> bool:
    return bool(found.loc[found["series"] == series, "demo"].any())


def _name_rows(ax: Axes, found: pd.DataFrame, rows: int) -> None:
    first = found.drop_duplicates("place").set_index("place")["unit"]
    categories(ax, [label(first[place]) for place in range(rows)], step=-(-rows // NAMED))


def _title(table: pd.DataFrame, found: pd.DataFrame, by: str | None) -> str:
    documents = list(dict.fromkeys(table["document"]))
    kind = by or (str(table["by"].iloc[0]) if len(table) else "unit")
    if len(documents) > 1:
        return f"Score by document: mean and range over its {kind}s"
    repeats = ", mean and range of repeats" if len(found) and found["n"].max() > 1 else ""
    return f"Score by {kind}{repeats}" + (f": {label(documents[0], width=40)}" if documents else "")


def _missing(found: pd.DataFrame) -> str:
    absent = found.groupby("series", sort=False)[["missing", "n"]].sum()
    told = [
        f"{label(name)} {int(row['missing'])} of {int(row['missing'] + row['n'])}"
        for name, row in absent.iterrows()
        if row["missing"]
    ]
    return f"Without a score: {', '.join(told)}." if told else ""


def _alt(found: pd.DataFrame, title: str) -> str:
    told = []
    for name, part in found[found["n"] > 0].groupby("series", sort=False):
        ordered = part.sort_values("score", kind="stable")
        low, high = ordered.iloc[0], ordered.iloc[-1]
        told.append(
            f"{name}: mean {part['score'].mean():+.2f}, lowest {low['score']:+.2f} ({low['unit']}), "
            f"highest {high['score']:+.2f} ({high['unit']})"
        )
    return f"{title}. {'; '.join(told)}."

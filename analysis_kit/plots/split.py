"""Where the time of a model's answers went: our pool, the server's queue, loading, reading, writing, the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from analysis_kit.errors import ConfigurationError
from analysis_kit.frames import SPLIT_COLUMNS, frame
from analysis_kit.plots.style import SMALL, as_frame, categories, finish, new_axes, nothing
from analysis_kit.plots.text import label, seconds

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Part -> (what it is called, colour, hatch). Neighbours differ in lightness, and hatches tell them apart in grey.
PARTS: Final = {
    "wait_s": ("waiting for our pool", "#bdbdbd", "...."),
    "queue_s": ("queue of the server", "#737373", ""),
    "load_s": ("loading the model", "#E69F00", "////"),
    "prompt_s": ("reading the prompt", "#56B4E9", ""),
    "generate_s": ("writing the answer", "#0072B2", ""),
    "other_s": ("client and network", "#CC79A7", "\\\\\\\\"),
}
_TITLE = "Where the time of a request goes"
#: Share of the longest bar below which a part has no room for its number.
ROOM = 0.085


def time_split_data(data: Any) -> pd.DataFrame:
    """Return the sums that `plot_time_split` draws, in seconds, as a table of `frames.SPLIT_COLUMNS`.

    Parameters
    ----------
    data : DataFrame, or an object with ``split_frame()`` (a monitor) or ``to_frame()``
        Such a table, or a run's rows: those that asked a server, by analyzer (and model, where there are several).
        A part that no row knows is NaN.
    """
    names = list(PARTS)
    split_frame = getattr(data, "split_frame", None)
    table = as_frame(split_frame() if callable(split_frame) else data, *names)
    if "requests" in table.columns:
        return as_frame(table, *(column.name for column in SPLIT_COLUMNS))
    if "analyzer" not in table.columns:
        raise ConfigurationError(
            "a time split needs a run's rows (column analyzer) or a table of SPLIT_COLUMNS"
        )
    table = table[table[names].notna().any(axis=1)]
    if "cached" in table.columns:
        table = table[~table["cached"].fillna(value=False).astype(bool)]
    operation = series_names(table)
    groups = table.groupby(operation, sort=False)
    sums, requests = groups[names].sum(min_count=1), groups.size()
    return frame(
        (
            {"operation": name, "requests": int(requests[name]), **sums.loc[name].to_dict()}
            for name in sums.index
        ),
        SPLIT_COLUMNS,
    )


def series_names(table: pd.DataFrame) -> pd.Series[str]:
    """Return each row's analyzer, with its model where an analyzer asked several."""
    names = table["analyzer"].astype("object")
    if "model" not in table.columns:
        return names.astype(str)
    several = table.groupby("analyzer", sort=False)["model"].transform("nunique") > 1
    return names.where(~several, names + " · " + table["model"].astype("object").fillna("no model")).astype(
        str
    )


def plot_time_split(data: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the mean request of each analyzer as one bar, cut into where its time went.

    Parameters
    ----------
    data : DataFrame, or an object with ``split_frame()`` or ``to_frame()``
        See `time_split_data`. What is not known is left out of the bar, and a note says so.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: axes of their own, which show themselves in a notebook.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from matplotlib.patches import Patch

    table = time_split_data(data)
    ax = new_axes(ax, height=1.75 + 0.5 * max(1, len(table)))
    if table.empty:
        why = "no row has asked a server: rules need none, and answers from the cache take none of its time"
        return nothing(ax, why, title=_TITLE, table=table)
    means = table[list(PARTS)].div(table["requests"], axis=0)
    longest = float(means.sum(axis=1).max()) or 1.0
    for place in range(len(table)):
        left = 0.0
        for name, (_, color, hatch) in PARTS.items():
            value = float(means[name].iloc[place])
            if not value > 0:  # NaN too
                continue
            ax.barh(
                place,
                value,
                0.6,
                left,
                color=color,
                hatch=hatch,
                edgecolor=ax.get_facecolor(),
                linewidth=0.8,
                label=name,
            )
            if value > ROOM * longest:
                dark = name in {"queue_s", "generate_s"}
                ax.text(
                    left + value / 2,
                    place,
                    seconds(value),
                    ha="center",
                    va="center",
                    fontsize=SMALL,
                    color="white" if dark else "black",
                    bbox=None if not hatch else {"facecolor": color, "edgecolor": "none", "pad": 1.5},
                )
            left += value
        ax.text(left + 0.012 * longest, place, f"{seconds(left)}", va="center", fontsize=SMALL)
    ax.set_xlim(0, longest * 1.1)
    ax.set_xlabel("mean of a request (s)")
    names = zip(table["operation"], table["requests"], strict=True)
    categories(
        ax, [f"{label(name, width=26)}\n{count:,} request{'s' * (count != 1)}" for name, count in names]
    )
    shown = [name for name in PARTS if (means[name] > 0).any()]
    handles = [
        Patch(facecolor=PARTS[n][1], hatch=PARTS[n][2], edgecolor=ax.get_facecolor(), label=PARTS[n][0])
        for n in shown
    ]
    return finish(
        ax, title=_TITLE, alt=_alt(table, means), table=table, note=_unknown(table), handles=handles
    )


def _unknown(table: pd.DataFrame) -> str:
    """Say which parts are not known, by operation."""
    told = []
    for row in table.to_dict("records"):
        absent = [PARTS[name][0] for name in PARTS if row[name] != row[name]]
        if absent:
            told.append(f"{label(row['operation'])}: {', '.join(absent)}")
    return f"Not known, so not drawn: {'; '.join(told)}." if told else ""


def _alt(table: pd.DataFrame, means: pd.DataFrame) -> str:
    told = []
    for place, name in enumerate(table["operation"]):
        parts = [(part, float(means[part].iloc[place])) for part in PARTS]
        known = ", ".join(f"{PARTS[part][0]} {seconds(value)}" for part, value in parts if value == value)  # noqa: PLR0124
        told.append(f"{name}: {known}")
    return f"Mean time of a request by part. {'; '.join(told)}."

"""What all plots share: their input, axes, colours, notes and alt text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from analysis_kit.errors import ConfigurationError
from analysis_kit.plots.text import CHARACTER_WIDTH, fill, lines_a_row, room

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

#: Okabe and Ito (2008), ordered so that neighbours differ in lightness too; black and yellow are left out.
COLORS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS: Final = ("o", "s", "^", "D", "v", "P")
FAINT: Final = "#b0b0b0"
TITLE_SIZE: Final = 10.5
SMALL: Final = 8.5
#: What an analyzer flags where a 135M model answered.
DEMO: Final = "demo model"


def ink() -> str:
    """Return the colour of text in the user's style: dark on light, or light on dark."""
    from matplotlib import rcParams

    return str(rcParams["text.color"])


def as_frame(data: Any, *needs: str) -> pd.DataFrame:
    """Return ``data`` as a table that has the columns ``needs``.

    Parameters
    ----------
    data : pandas.DataFrame, or an object with ``to_frame()``
    *needs : str

    Raises
    ------
    ConfigurationError
        If it is neither, or a column is missing.
    """
    import pandas as pd

    table = data
    if not isinstance(data, pd.DataFrame):
        to_frame = getattr(data, "to_frame", None)
        if not callable(to_frame):
            raise ConfigurationError(
                f"a plot takes a DataFrame or an object with to_frame(), and was given {type(data).__name__}"
            )
        table = to_frame()
    missing = [name for name in needs if name not in table.columns]
    if missing:
        raise ConfigurationError(
            f"this plot needs the columns {missing}, and the table has {list(map(str, table.columns))}"
        )
    assert isinstance(table, pd.DataFrame)
    return table


def rows_of(table: pd.DataFrame) -> list[Any]:
    """Return the rows as named tuples of untyped values: what a cell holds is fixed by the table, not by its type."""
    return list(table.itertuples(index=False))


def new_axes(ax: Axes | None, *, height: float, width: float = 7.0) -> Axes:
    """Return ``ax``, or new axes in a figure of its own, of a size in inches, that pyplot does not know."""
    if ax is not None:
        if not hasattr(ax, "get_figure"):
            raise ConfigurationError(f"ax= is of type {type(ax).__name__}; give one Axes, such as axs[0, 0]")
        return ax
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from analysis_kit.plots.shown import ShownAxes

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    return figure.add_subplot(axes_class=ShownAxes)


def finish(
    ax: Axes,
    *,
    title: str,
    alt: str,
    table: pd.DataFrame,
    note: str = "",
    handles: Sequence[Artist] = (),
    grid: Literal["x", "y", "both", ""] = "x",
    gap: float = 6,
) -> Axes:
    """Set title, legend, note, alt text and the quiet frame; keep the table where the axes can show it."""
    from matplotlib.text import Text

    from analysis_kit.plots.shown import ShownAxes

    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(visible=True, axis=grid, color=FAINT, alpha=0.35, linewidth=0.6)
    rows = _legend(ax, handles) if handles else 0
    ax.set_title(fill(ax, title, size=TITLE_SIZE), loc="left", fontsize=TITLE_SIZE, pad=gap + 12.6 * rows)
    if note:
        ax.annotate(
            fill(ax, note, size=SMALL),
            xy=(0, 0),
            xycoords=("axes fraction", ax.xaxis.label),
            xytext=(0, -5),
            textcoords="offset points",
            va="top",
            fontsize=SMALL,
            color=ink(),
            alpha=0.75,
        )
    for text in ax.findobj(Text):
        text.set_usetex(False)  # names from a transcript are no LaTeX, whatever the user's settings
    ax.set_label(alt)
    if isinstance(ax, ShownAxes):
        ax.shown_table = table
    return ax


def _legend(ax: Axes, handles: Sequence[Artist]) -> int:
    """Put a legend without a frame between plot and title; return its number of rows."""
    widths = [len(str(handle.get_label())) * SMALL * CHARACTER_WIDTH + 32 for handle in handles]
    columns = len(widths)
    while columns > 1 and _columns_width(widths, columns) > room(ax):
        columns -= 1
    ax.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=SMALL,
        borderaxespad=0.1,
        borderpad=0.2,
        labelspacing=0.35,
        handlelength=1.6,
        columnspacing=1.4,
    )
    return -(-len(handles) // columns)


def _columns_width(widths: list[float], columns: int) -> float:
    """Return the width of a legend that is filled column by column, as matplotlib does."""
    rows, longer = divmod(len(widths), columns)
    ends = [rows + (place < longer) for place in range(columns)]
    starts = [sum(ends[:place]) for place in range(columns)]
    return sum(max(widths[start : start + count]) for start, count in zip(starts, ends, strict=True))


def nothing(ax: Axes, why: str, *, title: str, table: pd.DataFrame) -> Axes:
    """Say on empty axes why there is nothing to draw."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, fill(ax, why, size=10), transform=ax.transAxes, ha="center", va="center", alpha=0.75)
    return finish(ax, title=title, alt=f"{title}: {why}", table=table, grid="")


def categories(ax: Axes, names: list[str], *, step: int = 1) -> None:
    """Write every ``step``-th of ``names`` down the y axis, the first on top, at 0, 1, 2 ...

    Axes too low for that get the first line of each name, or of every second, third ... name.
    """
    room = lines_a_row(ax, len(names))
    if room < max((name.count("\n") + 1 for name in names), default=1):
        names = [name.partition("\n")[0] for name in names]
    step = max(step, math.ceil(1 / room))
    ax.set_yticks(range(0, len(names), step), labels=names[::step])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)


def beside(ax: Axes, lines: Sequence[str]) -> None:
    """Write ``lines`` right of the rows of `categories`: each in full, in one line, or only some, as there is room."""
    room = lines_a_row(ax, len(lines))
    for place in range(0, len(lines), max(1, math.ceil(1 / room))):
        text = lines[place] if room >= lines[place].count("\n") + 1 else lines[place].replace("\n", ", ")
        ax.text(1.01, place, text, transform=ax.get_yaxis_transform(), va="center", fontsize=SMALL)

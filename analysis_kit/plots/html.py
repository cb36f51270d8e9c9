"""A figure as a piece of HTML that stands alone: picture, alt text, caption, and the data behind it."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any, Literal

from analysis_kit._html import escape
from analysis_kit.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: More marks than this make an SVG larger than the picture it draws (20,000 points: 2.1 MB, as PNG 0.1 MB).
DENSE = 2000
#: Pixels an inch of a PNG: twice the usual, for screens that show two for one.
PNG_DPI = 200
#: Rows of a table that are shown; the rest is counted.
SHOWN_ROWS = 500

_STYLE = (
    "<style>.ak-fig{margin:1em 0;font-family:system-ui,sans-serif;font-size:13px}"
    ".ak-fig img{max-width:100%;height:auto;background:#fff}.ak-fig figcaption{margin:.3em 0;max-width:60em}"
    ".ak-fig summary{cursor:pointer;opacity:.75}.ak-fig details>div{max-height:24em;overflow:auto}"
    ".ak-fig table{border-collapse:collapse;font-size:inherit}"
    # the class twice, as in the kit's other tables: JupyterLab's own rule is as strong as two classes
    ".ak-fig.ak-fig th,.ak-fig.ak-fig td{padding:.15em .6em;border-bottom:1px solid rgba(128,128,128,.35);text-align:left}"
    ".ak-fig.ak-fig td.num{text-align:right;font-variant-numeric:tabular-nums}</style>"
)


def figure_html(
    figure: Axes | Figure,
    *,
    alt: str | None = None,
    caption: str = "",
    table: pd.DataFrame | None = None,
    format: Literal["svg", "png"] | None = None,  # noqa: A002 - as matplotlib calls it
) -> str:
    """Return a figure as self-contained HTML: nothing is fetched when it is opened, and all text is escaped.

    Parameters
    ----------
    figure : matplotlib.axes.Axes or matplotlib.figure.Figure
        Pyplot is not touched, and the figure is left as it was.
    alt : str, optional
        What the picture shows, for those who cannot see it. Default: what the ``plot_*`` functions wrote on the axes.
    caption : str, optional
        Text below the picture.
    table : pandas.DataFrame, optional
        The data drawn, folded below the caption.
    format : {"svg", "png"}, optional
        Default: SVG, or PNG where more than 2,000 marks are drawn.

    Returns
    -------
    str
        ``<figure>`` with an ``<img>`` that holds the picture itself.

    Raises
    ------
    ConfigurationError
        If it is no figure, or if ``alt`` is not given and the axes carry none.

    Examples
    --------
    >>> import pandas as pd
    >>> from analysis_kit import plots
    >>> rows = pd.DataFrame({"operation": ["ask"] * 3, "duration_s": [0.2, 0.3, 0.9]})
    >>> plots.figure_html(plots.plot_latency(rows), caption="Three calls").count("<img")
    1
    """
    whole: Any = figure
    while not hasattr(whole, "savefig"):  # axes, or a part of a figure
        if not hasattr(whole, "figure"):
            raise ConfigurationError(
                f"figure_html takes axes or a figure, and was given {type(figure).__name__}"
            )
        whole = whole.figure
    told = alt or "; ".join(filter(None, (str(ax.get_label()) for ax in whole.axes)))
    if not told:
        raise ConfigurationError("a picture needs a text for those who cannot see it: give alt=")
    kind = format or ("png" if marks(whole) > DENSE else "svg")
    media = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    data = base64.b64encode(picture(whole, format=kind)).decode("ascii")
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    details = "" if table is None else _details(table)
    return f'{_STYLE}<figure class="ak-fig"><img alt="{escape(told)}" src="data:{media};base64,{data}">{below}{details}</figure>'


def picture(figure: Figure, *, format: Literal["svg", "png"]) -> bytes:  # noqa: A002 - as matplotlib calls it
    """Return the picture's bytes; the same figure gives the same SVG, so that a report can be compared with the last."""
    import matplotlib as mpl

    out = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "analysis_kit", "svg.fonttype": "path"}):
        if format == "svg":
            figure.savefig(out, format="svg", metadata={"Date": None})
        else:
            figure.savefig(out, format="png", dpi=PNG_DPI)
    return out.getvalue()


def marks(figure: Figure) -> int:
    """Return how many marks a figure draws: vertices of lines, patches, and the items of collections."""
    from matplotlib.collections import Collection
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    count = 0
    for ax in figure.axes:
        for mark in ax.get_children():
            if isinstance(mark, Line2D):
                vertices: Any = mark.get_path().vertices
                count += len(vertices)
            elif isinstance(mark, Patch):
                count += 1
            elif isinstance(mark, Collection):
                offsets: Any = mark.get_offsets()
                paths: Any = mark.get_paths()
                count += max(len(offsets), len(paths))
    return count


def _details(table: pd.DataFrame) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = (
        "<tr>" + "".join(_cell(value) for value in row) + "</tr>"
        for row in table.head(SHOWN_ROWS).itertuples(index=False)
    )
    more = len(table) - SHOWN_ROWS
    left = f"<p>and {more:,} more rows</p>" if more > 0 else ""
    return (
        f"<details><summary>The data ({len(table):,} row{'s' if len(table) != 1 else ''})</summary><div><table>"
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>{left}</div></details>"
    )


def _cell(value: object) -> str:
    import pandas as pd

    if not isinstance(value, (str, list, tuple, dict)) and pd.isna(value):  # type: ignore[call-overload]
        return "<td></td>"
    if isinstance(value, float):
        return f'<td class="num">{value:.4g}</td>'
    number = ' class="num"' if isinstance(value, int) and not isinstance(value, bool) else ""
    return f"<td{number}>{escape(value)}</td>"

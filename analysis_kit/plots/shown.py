"""The axes of a plot that makes its own figure: they show themselves in a notebook, with alt text and table.

Loaded by the drawing functions only: its base class is matplotlib's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes

if TYPE_CHECKING:
    import pandas as pd


class ShownAxes(Axes):
    """Axes outside pyplot, which therefore no front end would show unless they did it themselves."""

    shown_table: pd.DataFrame | None = None

    def _repr_html_(self) -> str:
        from analysis_kit.plots.html import figure_html

        return figure_html(self, table=self.shown_table)

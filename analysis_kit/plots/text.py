"""Words in a figure: short enough, drawable by the font at hand, never read as mathematics."""

from __future__ import annotations

import math
import textwrap
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Stands for a character that no font at hand can draw; the figure's table has the text as it is.
NO_GLYPH = "\N{WHITE SQUARE}"
#: Width of an average character, as a share of the font size (DejaVu Sans, matplotlib's own).
CHARACTER_WIDTH = 0.55

_LINE_HEIGHT = 10.5  # points


def label(text: object, *, width: int = 34) -> str:
    r"""Return ``text`` for a figure: one line, its middle left out beyond ``width`` characters, ``$`` kept as it is.

    Examples
    --------
    >>> label("Q&A 12: Jonathan Featherstonehaugh-Smythe", width=24)
    'Q&A 12: Jon…haugh-Smythe'
    >>> label("cost of $5 and $6")
    'cost of \\$5 and \\$6'
    """
    flat = " ".join(str(text).split())
    covered = _covered(*_families())
    shown = "".join(
        letter if ord(letter) in covered else NO_GLYPH for letter in flat if not _invisible(letter)
    )
    if len(shown) > width:
        head = (width - 1) // 2
        shown = f"{shown[:head].rstrip()}…{shown[head + 1 - width :].lstrip()}"
    return shown.replace("$", r"\$")


def _invisible(letter: str) -> bool:
    """Return whether ``letter`` only steers how others look: joiners, direction marks, variation selectors."""
    return unicodedata.category(letter) in {"Cc", "Cf", "Cs"} or "\ufe00" <= letter <= "\ufe0f"


def _families() -> tuple[tuple[str, ...], tuple[str, ...]]:
    from matplotlib import rcParams

    settings: Any = rcParams
    families = tuple(settings["font.family"])
    return families, tuple(name for family in families for name in settings.get(f"font.{family}", ()))


@lru_cache(maxsize=8)
def _covered(families: tuple[str, ...], _members: tuple[str, ...]) -> frozenset[int]:
    """Return the code points that the fonts of the current settings draw; asking first avoids a warning a character."""
    from matplotlib import font_manager

    paths = []
    for family in families:
        properties = font_manager.FontProperties(family=[family])
        try:
            paths.append(font_manager.findfont(properties, fallback_to_default=False))
        except ValueError:
            continue  # not installed: matplotlib skips it as well
    found = paths or [font_manager.findfont("DejaVu Sans")]
    return frozenset(code for path in found for code in font_manager.get_font(path).get_charmap())


def room(ax: Axes) -> float:
    """Return about how many points ``ax`` will be wide once its tick labels have taken their share of the figure."""
    from analysis_kit.plots.shown import ShownAxes

    labels = [line for tick in ax.get_yticklabels() for line in tick.get_text().split("\n")]
    taken = max(map(len, labels), default=0) * CHARACTER_WIDTH * 10
    width: float = ax.get_window_extent().width * 72 / ax.figure.dpi
    own = width + 40 - max(0.0, taken - 40)
    # other axes beside it may take more of its room than its own labels do
    return own if isinstance(ax, ShownAxes) else min(own, 0.75 * width)


def lines_a_row(ax: Axes, rows: int) -> float:
    """Return how many lines of small text have room beside each of ``rows`` rows of ``ax``; below 1, only some have."""
    return float(ax.get_window_extent().height) * 72 / ax.figure.dpi / max(1, rows) / _LINE_HEIGHT


def fill(ax: Axes, text: str, *, size: float) -> str:
    """Return ``text`` broken into lines that fit the width of ``ax`` at a font size in points."""
    return textwrap.fill(text, max(20, int(room(ax) / (size * CHARACTER_WIDTH))))


def seconds(value: float) -> str:
    """Return a duration to three digits, in the unit that suits it.

    Examples
    --------
    >>> seconds(0.0123), seconds(1.234), seconds(75.3)
    ('12.3 ms', '1.23 s', '75.3 s')
    """
    if not math.isfinite(value):
        return "unknown"
    amount, unit = (value, "s") if value >= 1 else (value * 1e3, "ms")
    digits = 2 if amount < 10 else 1 if amount < 100 else 0  # noqa: PLR2004 - three digits in all
    return f"{amount:.{digits}f} {unit}"

"""Small pure functions that make escaped HTML; every rich display of the kit is built from them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from numbers import Number
from typing import Any

#: Works on light and dark backgrounds: colours come from the page, lines are translucent.
STYLE = (
    "<style>.ak{font-family:system-ui,sans-serif;font-size:13px}"
    ".ak table{border-collapse:collapse;margin:.4em 0}"
    # the class twice: JupyterLab's own rule for table cells, which sets all right, is as strong as two classes
    ".ak.ak th,.ak.ak td{padding:.2em .7em;border-bottom:1px solid rgba(128,128,128,.35);text-align:left;vertical-align:top}"
    ".ak.ak td.num,.ak.ak th.num{text-align:right;font-variant-numeric:tabular-nums}"
    ".ak caption{text-align:left;font-weight:600;padding:.2em 0}"
    ".ak .bad{color:#c0392b}.ak .dim{opacity:.65}</style>"
)

_NUMBER = re.compile(r"[+-]?(?:\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?|nan|inf)")


def escape(value: object) -> str:
    """Return ``value`` as text that is safe in HTML, in attributes and as a Jinja or Markdown source."""
    text = html.escape(str(value), quote=True)
    return text.replace("{", "&#123;").replace("}", "&#125;")


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "") -> str:
    """Return an HTML table; columns of numbers are set right, with their heads, and everything is escaped."""
    lines = [list(row) for row in rows]
    columns = zip_longest(*lines, fillvalue="")
    marks = [' class="num"' if _are_numbers(column) else "" for column in columns]

    def line(tag: str, cells: Sequence[object]) -> str:
        marked = zip_longest(marks[: len(cells)], cells, fillvalue="")
        inside = (f"<{tag}{mark}>{escape(cell)}</{tag}>" for mark, cell in marked)
        return f"<tr>{''.join(inside)}</tr>"

    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "".join(line("td", cells) for cells in lines)
    return f"<table>{title}<thead>{line('th', head)}</thead><tbody>{body}</tbody></table>"


def _are_numbers(column: Sequence[object]) -> bool:
    """Tell whether a column holds numbers, or texts that were made of them; blanks may stand among them.

    Texts of nothing but digits may as well be names, years say.
    """
    told = [text for text in map(str, column) if text]
    sure = any(isinstance(cell, Number) for cell in column) or not all(map(str.isdigit, told))
    return bool(told) and sure and all(map(_NUMBER.fullmatch, told))


def mermaid(nodes: Mapping[Any, str], edges: Iterable[tuple[Any, Any]]) -> str:
    """Return a graph as Mermaid text; names of nodes are escaped and on one line."""
    safe = str.maketrans({"#": "#35;", '"': "#quot;", "<": "#lt;"})
    at = {node: f"s{i}" for i, node in enumerate(nodes)}
    boxes = [f'{at[node]}["{" ".join(name.translate(safe).splitlines())}"]' for node, name in nodes.items()]
    return "\n    ".join(["graph TD", *boxes, *(f"{at[one]} --> {at[other]}" for one, other in edges)])


def block(*parts: str) -> str:
    """Return ``parts`` (HTML) in one styled block."""
    return f'{STYLE}<div class="ak">{"".join(parts)}</div>'

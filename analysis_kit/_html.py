"""Small pure functions that make escaped HTML; every rich display of the kit is built from them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

#: Works on light and dark backgrounds: colours come from the page, lines are translucent.
STYLE = (
    "<style>.ak{font-family:system-ui,sans-serif;font-size:13px}"
    ".ak table{border-collapse:collapse;margin:.4em 0}"
    ".ak th,.ak td{padding:.2em .7em;border-bottom:1px solid rgba(128,128,128,.35);text-align:left;vertical-align:top}"
    ".ak td.num,.ak th.num{text-align:right;font-variant-numeric:tabular-nums}"
    ".ak caption{text-align:left;font-weight:600;padding:.2em 0}"
    ".ak .bad{color:#c0392b}.ak .dim{opacity:.65}</style>"
)


def escape(value: object) -> str:
    """Return ``value`` as text that is safe in HTML, in attributes and as a Jinja or Markdown source."""
    text = html.escape(str(value), quote=True)
    return text.replace("{", "&#123;").replace("}", "&#125;")


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "") -> str:
    """Return an HTML table; numbers are set right, everything is escaped."""
    body = []
    for row in rows:
        cells = "".join(
            f'<td class="num">{escape(cell)}</td>'
            if isinstance(cell, (int, float)) and not isinstance(cell, bool)
            else f"<td>{escape(cell)}</td>"
            for cell in row
        )
        body.append(f"<tr>{cells}</tr>")
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f"<table>{title}<thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def block(*parts: str) -> str:
    """Return ``parts`` (HTML) in one styled block."""
    return f'{STYLE}<div class="ak">{"".join(parts)}</div>'

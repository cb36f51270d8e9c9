"""The live dashboard of a run: a progress bar, counts and Cancel, with a static twin that stays when the run is over.

Front ends differ in how a click reaches a busy kernel (a nested run keeps the main shell blocked; a click may come in on
another thread with a loop of its own), so a callback does one thing only: it cancels a token, which is safe anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from analysis_kit import _html
from analysis_kit.results import Row

#: One push of the widgets' state per tick; also what lets an idle loop notice an interrupt soon.
TICK_S = 0.2
_ROWS_IN_TWIN = 30
#: The time left goes by the pace of the later half of the time so far, once so many rows have ended in it and so many
#: seconds have passed: rows that were in the cache end at once, at the beginning, and say nothing on the others.
FEWEST, SOONEST_S = 4, 5.0
ENDED = ("done", "cached", "failed", "cancelled")


class Watched(Protocol):
    """What a dashboard shows: anything with counts by status that can be cancelled."""

    def counts(self) -> Mapping[str, int]:
        """Return how many rows have each status."""

    def cancel(self) -> None:
        """Stop the work; from any thread."""


def in_notebook() -> bool:
    """Return whether this process is a Jupyter kernel that can show widgets; imports nothing."""
    import sys

    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def live_while_blocked(*widgets: Any) -> None:
    """Let clicks on ``widgets`` reach the kernel while its main shell is blocked.

    JupyterLab sends comm messages on a subshell, but ipykernel answers on the shell that spoke on the comm last, which
    is the blocked one. Forgetting that shell undoes it. The attribute is private, so its absence is no fault.
    """
    for widget in widgets:
        comm: Any = getattr(widget, "comm", None)
        if hasattr(comm, "_reply_subshell_id"):
            with contextlib.suppress(AttributeError):
                del comm._reply_subshell_id  # noqa: SLF001 - there is no public way


def with_twin(widget: Any, twin: Callable[[], str]) -> Any:
    """Return ``widget``, which is shown from now on with ``twin()`` (HTML) beside its view.

    A front end takes the view; an export that was not given the widget's state takes the twin instead of a blank.
    """
    view = widget._repr_mimebundle_

    def bundle(**how: Any) -> dict[str, Any]:
        return {**view(**how), "text/html": twin()}

    widget._repr_mimebundle_ = bundle
    return widget


class Dashboard:
    """Shows a run while it works; ``async with Dashboard(run): ...`` shows it for the block's time.

    Parameters
    ----------
    watched : Watched
        An `AnalysisRun`, or anything with ``counts()`` and ``cancel()``.
    title : str, default "Analysis"
        Stands above the bar.

    Examples
    --------
    >>> class Work:
    ...     def counts(self):
    ...         return {"done": 3, "not started": 1}
    ...     def cancel(self):
    ...         pass
    >>> print(Dashboard(Work()))
    Analysis: 3 of 4 (75 %), 3 done, 1 not started
    """

    def __init__(self, watched: Watched, *, title: str = "Analysis") -> None:
        self.title = title
        self._watched = watched
        self._began = time.monotonic()
        self._took_s: float | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._handle: Any = None
        self._box: Any = None
        self._bar: Any = None
        self._said: Any = None
        self._button: Any = None
        self._cancelling = False
        self._seen: deque[tuple[float, int]] = deque()  # after how many seconds how many rows had ended

    # -- what it says ---------------------------------------------------------------------------------------------

    def _progress(self) -> tuple[int, int, str]:
        counts = self._watched.counts()
        total = sum(counts.values())
        ended = sum(counts.get(status, 0) for status in ENDED)
        return ended, total, ", ".join(f"{number} {status}" for status, number in counts.items() if number)

    def _elapsed_s(self) -> float:
        return self._took_s if self._took_s is not None else time.monotonic() - self._began

    def _left(self, ended: int, total: int) -> str:
        """Return how long it will go on, in words; nothing where that cannot be told yet."""
        now, seen = self._elapsed_s(), self._seen
        seen.append((now, ended))
        while len(seen) > 1 and seen[1][0] <= now / 2:
            seen.popleft()
        then, before = seen[0]
        if ended >= total or ended - before < FEWEST or now < SOONEST_S:
            return ""
        return f", about {_span((total - ended) * (now - then) / (ended - before))} left"

    def __str__(self) -> str:
        ended, total, said = self._progress()
        share = f" ({ended / total:.0%})".replace("%", " %") if total else ""
        return f"{self.title}: {ended} of {total}{share}, {said or 'nothing yet'}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the static twin: the same facts without a widget."""
        ended, total, _ = self._progress()
        bar = f'<progress max="{max(total, 1)}" value="{ended}" style="width:20em"></progress>'
        return _html.block(f"<p>{bar} {_html.escape(self)}, {self._elapsed_s():.1f} s</p>")

    def _html_at_first(self) -> str:
        return self._repr_html_() + _html.block(
            '<p class="dim">As it stood when it was shown; what came later needs the live kernel.</p>'
        )

    # -- life -----------------------------------------------------------------------------------------------------

    def show(self) -> None:
        """Put the widgets into the current cell's output."""
        import ipywidgets as widgets
        from IPython.display import display

        if self._box is not None:
            return
        self._bar = widgets.IntProgress(min=0, max=1, layout=widgets.Layout(width="22em"))
        self._said = widgets.HTML()
        self._button = widgets.Button(
            description="Cancel", button_style="warning", tooltip="Stop; what is finished stays"
        )
        self._button.on_click(self._on_click)
        self._box = with_twin(widgets.HBox([self._bar, self._button, self._said]), self._html_at_first)
        self.refresh()
        self._handle = display(self._box, display_id=True)
        live_while_blocked(self._button)

    def refresh(self) -> None:
        """Bring the widgets up to date, with one message each."""
        if self._box is None:
            return
        ended, total, _ = self._progress()
        with self._bar.hold_sync():
            self._bar.max, self._bar.value = max(total, 1), ended
        word = "cancelling; " if self._cancelling else ""
        self._said.value = f"{word}{_html.escape(self)}, {_span(self._elapsed_s())}{self._left(ended, total)}"

    def finish(self) -> None:
        """Replace the widgets by the static twin, which needs no kernel and survives in a saved notebook."""
        self._took_s = self._elapsed_s()
        if self._box is None:
            return
        from IPython.display import HTML

        if self._handle is not None:
            self._handle.update(HTML(self._repr_html_()))
        for widget in (self._bar, self._said, self._button, self._box):
            for part in (getattr(widget, "layout", None), getattr(widget, "style", None), widget):
                if part is not None:
                    part.close()
        self._box = self._bar = self._said = self._button = None

    def _on_click(self, _button: object) -> None:
        self._cancelling = True
        self._watched.cancel()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.refresh()

    async def __aenter__(self) -> Self:
        self._began = time.monotonic()
        self.show()
        self._ticker = asyncio.get_running_loop().create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ticker = self._ticker
        if ticker is not None:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker
        self.finish()


def _span(seconds: float) -> str:
    """Return a time as a person says it: ``"40 s"``, ``"12 min"``, ``"3.5 h"``."""
    if seconds < 99.5:  # noqa: PLR2004 - 100 s
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def explorer(items: Sequence[tuple[Row, str]]) -> Any:
    """Return a widget to look at rows one by one: the text with the evidence marked, score, label and values.

    Parameters
    ----------
    items : sequence of (Row, str)
        Each row with its unit's text.
    """
    import ipywidgets as widgets

    names = [f"{row.document} · {row.unit} · {row.analyzer}" for row, _ in items]
    choice = widgets.Dropdown(options=[(name, index) for index, name in enumerate(names)], description="Row")
    choice.layout.width = "40em"
    page = widgets.HTML()

    def show(change: Mapping[str, Any]) -> None:
        page.value = row_html(*items[change["new"]]) if change["new"] is not None else ""

    choice.observe(show, names="value")
    if items:
        page.value = row_html(*items[0])
    return with_twin(widgets.VBox([choice, page]), lambda: _pages(names, items))


def _pages(names: Sequence[str], items: Sequence[tuple[Row, str]]) -> str:
    """Return the first rows to unfold, for where nothing can be chosen."""
    pages = [
        f"<details><summary>{_html.escape(name)}</summary>{row_html(*item)}</details>"
        for name, item in zip(names[:_ROWS_IN_TWIN], items, strict=False)
    ]
    rest = len(items) - len(pages)
    more = f'<p class="dim">and {rest} more rows</p>' if rest else ""
    return _html.block(*pages, more)


def row_html(row: Row, text: str) -> str:
    """Return one row as HTML: what was found, and the text with its evidence marked."""
    if row.examined is None:
        return _html.block(
            f'<p class="bad">{_html.escape(row.status)}: {_html.escape(row.error or "no answer")}</p>'
        )
    finding = row.examined.finding
    facts = [("score", finding.score), ("label", finding.label), ("method", finding.method)]
    facts += [(name, value) for name, value in finding.values.items() if not isinstance(value, (list, dict))]
    marked, end = [], 0
    for span in sorted(finding.evidence, key=lambda span: span.start):
        if span.start < end:
            continue
        marked.append(_html.escape(text[end : span.start]))
        marked.append(
            f'<mark title="{_html.escape(span.note)}">{_html.escape(text[span.start : span.end])}</mark>'
        )
        end = span.end
    marked.append(_html.escape(text[end:]))
    told = [(name, value) for name, value in facts if value is not None and value != ""]
    return _html.block(_html.table(("", "value"), told), f"<p>{''.join(marked)}</p>")

"""The dashboard without a front end: its counts, its Cancel, its static twin, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import warnings
from types import SimpleNamespace

import ipywidgets
import pytest

import analysis_kit as ak
from analysis_kit.dashboard import Dashboard, explorer, in_notebook, live_while_blocked, row_html
from analysis_kit.results import Examined, Finding, Row, Span


class Work:
    """Something to watch: counts that a test changes, and whether it was cancelled."""

    def __init__(self, **counts):
        self.said = {name.replace("_", " "): number for name, number in counts.items()}
        self.cancelled = threading.Event()

    def counts(self):
        return dict(self.said)

    def cancel(self):
        self.cancelled.set()


class Handle:
    """Takes what would be shown in place of the widgets."""

    def __init__(self):
        self.shown = []

    def update(self, content):
        self.shown.append(content)


@pytest.fixture
def handle(monkeypatch):
    """Let ``display`` give a handle, as it does in a kernel, instead of printing."""
    handle = Handle()
    monkeypatch.setattr("IPython.display.display", lambda *_things, **_how: handle)
    return handle


def registry():
    """Return how many widgets are alive."""
    return len(ipywidgets.widgets.widget._instances)


def test_the_sentence_counts_what_ended_of_all():
    """Done, cached, failed and cancelled have ended; the rest has not."""
    board = Dashboard(Work(done=3, cached=2, failed=1, cancelled=1, not_started=3), title="Calls")
    assert str(board) == "Calls: 7 of 10 (70 %), 3 done, 2 cached, 1 failed, 1 cancelled, 3 not started"
    assert str(Dashboard(Work())) == "Analysis: 0 of 0, nothing yet"


def test_the_widgets_follow_the_counts(handle):
    """The bar's value, maximum and the text beside it are those of the watched work at each refresh."""
    work = Work(done=1, not_started=3)
    board = Dashboard(work)
    board.show()
    assert (board._bar.value, board._bar.max) == (1, 4)
    work.said = {"done": 4}
    board.refresh()
    assert (board._bar.value, board._bar.max) == (4, 4)
    assert "4 of 4 (100 %), 4 done" in board._said.value
    board.show()
    board.finish()
    assert len(handle.shown) == 1


def test_the_time_left_goes_by_the_latest_pace(handle, monkeypatch):
    """A thousand rows from the cache in the first second do not promise that the rest is done in the next."""
    now = [100.0]
    monkeypatch.setattr("analysis_kit.dashboard.time", SimpleNamespace(monotonic=lambda: now[0]))
    work = Work(done=0, not_started=1300)
    board = Dashboard(work)
    board.show()

    def at(second, done):
        now[0] = 100.0 + second
        work.said = {"done": done, "not started": 1300 - done}
        board.refresh()
        return board._said.value

    assert "left" not in at(1, 1000)
    assert "left" not in at(1.5, 1001)
    for second in range(2, 60):
        text = at(second, 1000 + second)
        assert "left" not in text or " min left" in text
    assert text.endswith("59 s, about 4 min left")  # 241 rows at one a second
    assert at(6000, 1059).endswith("1.7 h")  # none has ended for long
    board.finish()


def test_a_click_on_cancel_cancels_and_says_so(handle):
    """The callback does one thing: it cancels; the next refresh shows that it was heard."""
    work = Work(done=1, not_started=3)
    board = Dashboard(work)
    board.show()
    assert board._button.description == "Cancel"
    board._button.click()
    assert work.cancelled.is_set()
    board.refresh()
    assert board._said.value.startswith("cancelling; ")
    board.finish()


def test_a_click_on_another_thread_ends_a_run(handle):
    """A front end's click may come in on any thread: the run ends with its rows named."""
    inside, go = threading.Event(), threading.Event()

    async def slow(text):
        inside.set()
        while not go.is_set():
            await asyncio.sleep(0.005)
        return len(text)

    run = ak.analyze({f"u{n}": "We grew." for n in range(4)}, {"slow": slow}, max_workers=1)
    board = Dashboard(run)

    def click():
        assert inside.wait(10)
        board._button.click()

    async def work():
        async with board:
            clicker = threading.Thread(target=click)
            clicker.start()
            await run
            clicker.join(10)

    try:
        ak.run_async(asyncio.wait_for(work(), 10))
    finally:
        go.set()
    assert run.counts() == {"cancelled": 1, "not started": 3}
    assert "1 cancelled, 3 not started" in handle.shown[-1].data


def test_a_run_shows_its_dashboard_when_asked(handle):
    """dashboard=True shows it for the run's time and leaves the twin with the final counts."""
    alive = registry()
    run = ak.run_async(ak.analyze({"a": "We grew.", "b": "We fell."}, ["tone"], dashboard=True))
    assert run.counts() == {"done": 2}
    (twin,) = handle.shown
    assert "2 of 2 (100 %), 2 done" in twin.data
    assert registry() == alive


def test_the_twin_replaces_the_widgets_even_when_the_work_fails(handle):
    """After an error, too, no live widget is left in the saved notebook, and the error goes on."""
    alive = registry()

    async def work():
        async with Dashboard(Work(done=1, not_started=1)):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        ak.run_async(work())
    assert len(handle.shown) == 1
    assert "<progress" in handle.shown[0].data
    assert registry() == alive


def test_the_twin_stands_still_and_is_escaped(handle):
    """Title and statuses are text, and the seconds do not go on after the end."""
    board = Dashboard(Work(done=1), title="<script>alert(1)</script>")
    board.show()
    assert "<script" not in board._said.value
    board.finish()
    first = board._repr_html_()
    assert "<script" not in first
    assert first == board._repr_html_()


def test_W5_a_hundred_dashboards_leave_no_widget_behind(handle):
    """Bars, buttons, texts, their layouts and styles are all closed: the registry is as large as before."""
    alive = registry()
    for number in range(100):
        board = Dashboard(Work(done=number, not_started=1))
        board.show()
        board.refresh()
        board.finish()
        board.finish()
    assert registry() == alive
    assert len(handle.shown) == 100


def test_W5_refreshing_makes_no_widget(handle):
    """A hundred refreshes update one dashboard in place."""
    work = Work(done=0, not_started=100)
    board = Dashboard(work)
    board.show()
    alive = registry()
    for number in range(100):
        work.said = {"done": number, "not started": 100 - number}
        board.refresh()
    assert registry() == alive
    board.finish()


def test_the_ticker_ends_with_the_block(handle):
    """No task is left in the loop when the block is over."""

    async def work():
        async with Dashboard(Work(done=1)) as board:
            ticker = board._ticker
        assert ticker.done()
        return len(asyncio.all_tasks())

    assert ak.run_async(work()) == 1


def test_live_while_blocked_forgets_the_shell_and_is_harmless_without():
    """The private attribute is removed where it is there; a widget or comm without it is left as it is."""

    class Comm:
        pass

    class Thing:
        comm = Comm()

    live_while_blocked(Thing(), object())
    Thing.comm._reply_subshell_id = "main"
    live_while_blocked(Thing())
    assert not hasattr(Thing.comm, "_reply_subshell_id")

    class ByClass(Comm):
        _reply_subshell_id = None  # cannot be deleted on the instance

    Thing.comm = ByClass()
    live_while_blocked(Thing())


def test_this_process_is_no_notebook():
    """A plain test run shows no dashboard by itself."""
    assert in_notebook() is False


def test_a_row_marks_its_evidence_and_escapes_all_text():
    """Spans are marked where they stand, overlapping ones once; markup in text, notes and values stays text."""
    text = "<script>x</script> revenue grew strongly"
    spans = (Span(19, 31, "revenue grew", "+ <b>"), Span(22, 40, "overlaps"))
    finding = Finding(0.5, "positive", {"why": "<i>", "list": [1]}, spans, "rules")
    row = Row("d", "section", "u", 0, "tone", status="done", examined=Examined(finding))
    shown = row_html(row, text)
    assert shown.count("<mark") == 1
    assert ">revenue grew</mark> strongly" in shown
    assert "<script" not in shown
    assert "<i>" not in shown
    assert "&lt;script&gt;x&lt;/script&gt;" in shown
    failed = Row("d", "section", "u", 0, "tone", status="failed", error="<b>no</b>")
    assert "failed: &lt;b&gt;no&lt;/b&gt;" in row_html(failed, text)


def test_the_explorer_shows_the_row_that_is_chosen():
    """The page follows the choice, and nothing to show is an empty page."""
    rows = [
        (
            Row("d", "section", name, 0, "tone", status="done", examined=Examined(Finding(label=name))),
            f"text {name}",
        )
        for name in ("one", "two")
    ]
    box = explorer(rows)
    choice, page = box.children
    assert "text one" in page.value
    choice.value = 1
    assert "text two" in page.value
    empty = explorer([])
    assert empty.children[1].value == ""
    for each in (box, empty):
        for part in (*each.children, each):
            part.close()


def executed(*cells, store_widget_state=False):
    """Return a notebook of ``cells`` as a kernel of this interpreter leaves it."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    kernels = AsyncKernelManager()
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=40"]
    kernels._kernel_spec = KernelSpec(argv=argv, display_name="test", language="python")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(notebook, km=kernels, timeout=60, store_widget_state=store_widget_state)
    return asyncio.run(client.async_execute(cleanup_kc=True))


def exported(notebook):
    """Return the body of the page that nbconvert makes of ``notebook``, without styles and scripts of its own."""
    nbconvert = pytest.importorskip("nbconvert")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        page, _ = nbconvert.HTMLExporter(template_name="basic").from_notebook_node(notebook)
    return page


WORK = """
import analysis_kit as ak
class Work:
    def counts(self):
        return {"done": 3, "not started": 1}
    def cancel(self):
        pass
"""


def test_W1_a_dashboard_is_in_the_exported_page_whatever_became_of_its_widgets():
    """A finished dashboard, one left open and the explorer: each page without widget state shows the facts as HTML."""
    notebook = executed(
        WORK + "run = await ak.analyze({'a': 'We grew.', 'b': 'Orders fell.'}, ['tone'])",
        "board = ak.Dashboard(Work(), title='Left open'); board.show()",
        "run.explore()",
        "ak.Dashboard(Work(), title='Never shown')",
    )
    over, left, explored, never = ([out.get("data", {}) for out in cell.outputs] for cell in notebook.cells)
    assert [sorted(data) for data in over] == [["text/html", "text/plain"]]
    assert "2 of 2 (100 %), 2 done" in over[0]["text/html"]
    for data in (left[0], explored[0]):
        assert "application/vnd.jupyter.widget-view+json" in data
    assert "text/html" in never[0]
    page = exported(notebook)
    for fact in (
        "2 of 2 (100 %), 2 done",
        "Left open: 3 of 4 (75 %)",
        "Never shown: 3 of 4",
        "b · tone</summary>",
    ):
        assert fact in page, fact
    assert "widget-view+json" not in page
    assert page.count("<progress") == 3


def test_W1_stored_widget_state_is_embedded():
    """Where the state was saved, the page holds it; a finished dashboard leaves none to save."""
    notebook = executed(
        WORK + "run = await ak.analyze({'a': 'We grew.'}, ['tone'])",
        "board = ak.Dashboard(Work(), title='Left open'); board.show()",
        store_widget_state=True,
    )
    state = json.dumps(notebook.metadata.widgets)
    assert "Left open: 3 of 4" in state
    assert "1 of 1" not in state
    assert "1 of 1 (100 %), 1 done" in exported(notebook)


@pytest.mark.parametrize("how", ["asyncio.ensure_future(run)", "in_thread(run)"])
def test_W4_progress_stays_with_the_cell_that_started_the_run(how):
    """A run in the background, as a task or on a thread, shows all in its own cell while other cells work and print."""
    start, other, last = executed(
        f"""
import asyncio, threading
import analysis_kit as ak
begun, go = threading.Event(), threading.Event()
def slow(text):
    begun.set()
    assert go.wait(60)
    return len(text)
def in_thread(run):
    async def wait():
        await run
    thread = threading.Thread(target=lambda: ak.run_async(wait()))
    thread.start()
    return asyncio.create_task(asyncio.to_thread(thread.join))
run = ak.analyze({{f"u{{n}}": "We grew." for n in range(4)}}, {{"slow": slow}}, max_workers=2, dashboard=True)
working = {how}
assert await asyncio.to_thread(begun.wait, 60)
""",
        "print('mine'); go.set(); await working; print(run.counts()['done'])",
        "print('over')",
    ).cells
    (shown,) = start.outputs
    assert "<progress" in shown.data["text/html"]
    if how == "in_thread(run)":  # nbclient drops what a task of an earlier cell updates; front ends do not
        assert "4 of 4 (100 %), 4 done" in shown.data["text/html"]
    assert ["".join(out.get("text", "?") for out in cell.outputs) for cell in (other, last)] == [
        "mine\n4\n",
        "over\n",
    ]

"""The report in a real browser: nothing is fetched, no script runs, pictures have words, tables are there."""

from __future__ import annotations

import shutil

import nbformat
import pytest

import analysis_kit as ak

pytestmark = pytest.mark.browser

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def wide_page(tmp_path_factory):
    """Write the report of a template of one's own that shows a wide DataFrame."""
    folder = tmp_path_factory.mktemp("wide")
    notebook = nbformat.v4.new_notebook()
    cell = (
        "import pandas as pd\npd.DataFrame([{f'a.rather_long_name_{n}': 'section' for n in range(12)}] * 11)"
    )
    notebook.cells = [nbformat.v4.new_code_cell(cell)]
    nbformat.write(notebook, folder / "own.ipynb")
    return ak.render_report(
        {"a": "We grew."}, folder / "own.html", analyzers="tone", template=folder / "own.ipynb"
    )


@pytest.fixture(scope="module")
def opened(hostile_page, wide_page):
    """Open the page of the call that tries everything; return the tab with what it asked for and complained of."""
    del wide_page  # only written before the browser's own loop runs
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        asked, complaints = [], []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(hostile_page.as_uri(), wait_until="networkidle")
        yield tab, asked, complaints
        browser.close()


def test_W3_opening_the_report_asks_the_network_for_nothing(opened, hostile_page):
    """The only address that is opened is the file's own."""
    _, asked, _ = opened
    assert [url for url in asked if not url.startswith("data:")] == [hostile_page.as_uri()]


def test_the_console_stays_silent(opened):
    """No error, no warning, and no complaint that the page's own policy had to stop something."""
    assert opened[2] == []


def test_no_script_of_the_call_ran(opened):
    """Markup from text, names, company and title is inert, and is read as it was said."""
    tab, _, _ = opened
    assert tab.evaluate("typeof window.ran") == "undefined"
    assert tab.evaluate("document.scripts.length") == 0
    said = tab.inner_text("body")
    assert "<script>window.ran=1</script>" in said
    assert "{{ 7*7 }}" in said
    assert "{% raw %}" in said
    assert "<script>" in tab.title()


def test_every_picture_is_drawn_and_has_words(opened):
    """Each image has loaded from within the page and carries an alt text."""
    tab, _, _ = opened
    images = tab.evaluate("[...document.images].map(i => [i.complete && i.naturalWidth > 100, i.alt.length])")
    assert len(images) >= 4
    assert all(drawn and words > 20 for drawn, words in images)


def test_the_data_behind_each_figure_can_be_unfolded(opened):
    """Every figure has a table, and a click on its summary shows it."""
    tab, _, _ = opened
    figures = tab.locator("figure")
    assert figures.count() >= 4
    for number in range(figures.count()):
        figure = figures.nth(number)
        figure.locator("summary").click()
        assert figure.locator("table tbody tr").first.is_visible()


def test_the_tables_of_findings_are_there(opened):
    """Sections and speakers each have a table with the rules' and the model's column."""
    tab, _, _ = opened
    heads = tab.evaluate(
        "[...document.querySelectorAll('table')].map(t => [...t.querySelectorAll('th')].map(h => h.innerText).join('|'))"
    )
    for unit in ("section", "speaker"):
        (head,) = [each for each in heads if each.startswith(f"{unit}|words")]
        assert "tone (rules)" in head
        assert "demo model" in head


def test_the_page_does_not_run_out_of_a_narrow_window(opened):
    """On a window as narrow as a phone's the page scrolls up and down only."""
    tab, _, _ = opened
    tab.set_viewport_size({"width": 420, "height": 900})
    wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    tab.set_viewport_size({"width": 1200, "height": 900})
    assert wide <= 1


def test_a_wide_dataframe_of_an_own_template_is_scrolled_and_its_words_whole(opened, wide_page):
    """A table of pandas' own keeps each cell on one line, within a page that does not get wider."""
    tab = opened[0].context.browser.new_page()
    tab.goto(wide_page.as_uri())
    heights = tab.eval_on_selector_all(".dataframe tbody tr", "rows => rows.map(row => row.clientHeight)")
    wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    tab.close()
    assert len(heights) == 11
    assert max(heights) < 40
    assert wide <= 1

"""Tables in HTML."""

import shutil

import numpy as np
import pandas as pd
import pytest

from analysis_kit import _html, plots


def test_columns_of_numbers_are_set_right_with_their_heads():
    """Numbers and their texts count, with blanks among them; a column with a word in it is set left."""
    shown = _html.table(
        ("name", "n", "s", "mean"),
        [("a", 1, "0.50", "+0.1"), ("7", 2.5, "1,000.00", ""), ("<b>", 0, "x", "-2")],
    )
    assert shown.count('<th class="num">') == 2
    assert '<th>name</th><th class="num">n</th><th>s</th><th class="num">mean</th>' in shown
    assert '<td>7</td><td class="num">2.5</td><td>1,000.00</td><td class="num"></td>' in shown
    assert "<td>&lt;b&gt;</td>" in shown


def test_names_of_digits_are_names():
    """Years that name rows stand left; whole numbers, numpy's too, stand right with texts of digits among them."""
    shown = _html.table(("unit", "n", "m"), [("2024", np.int64(1), "7"), ("2025", "12", 8)])
    assert '<th>unit</th><th class="num">n</th><th class="num">m</th>' in shown
    assert '<td>2024</td><td class="num">1</td><td class="num">7</td>' in shown


def test_a_table_takes_any_cells():
    """Missing values, arrays and rows that are too short or too long are shown; none ends the display."""
    shown = _html.table(("a", "b"), [(pd.NA, 1), (np.array([1, 2]), 2, 3.5), (None,)])
    assert '<tr><td>&lt;NA&gt;</td><td class="num">1</td></tr>' in shown
    assert '<tr><td>[1 2]</td><td class="num">2</td><td class="num">3.5</td></tr>' in shown
    assert "<tr><td>None</td></tr>" in shown


def test_a_table_without_rows_has_its_head():
    """No row is no reason to fail."""
    assert (
        _html.table(("a", "b"), [])
        == "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody></tbody></table>"
    )


@pytest.mark.browser
def test_words_stand_left_and_numbers_right_also_in_jupyterlab():
    """JupyterLab sets every cell of a table right; in the kit's tables words stay left all the same."""
    from playwright.sync_api import sync_playwright

    theirs = ":not(.jp-RenderedMarkdown).jp-RenderedHTMLCommon :is(td, th) { text-align: right }"
    run = pd.DataFrame({"operation": ["ask"] * 3, "duration_s": [0.2, 0.3, 0.9]})
    ours = _html.block(_html.table(("name", "n"), [("a", 1)])) + plots.plot_latency(run)._repr_html_()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page()
        tab.set_content(f"<style>{theirs}</style><div class='jp-RenderedHTMLCommon'>{ours}</div>")
        aligned = "cells => cells.map(cell => [cell.textContent, getComputedStyle(cell).textAlign])"
        found = tab.eval_on_selector_all(".ak td, .ak th", aligned)
        assert found == [["name", "left"], ["n", "right"], ["a", "left"], ["1", "right"]]
        folded = dict(tab.eval_on_selector_all(".ak-fig td", aligned))
        browser.close()
    assert folded["ask"] == "left"
    assert "right" in folded.values()

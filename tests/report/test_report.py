"""The report as a file: what stands in it, that text stays text, and that it appears whole or not at all."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

import analysis_kit as ak
from analysis_kit.errors import ConfigurationError, ReportError

EVIL_MARKS = ("{{ 7*7 }}", "{% raw %}", "{# no #}", "<script>window.ran=1</script>", "onerror=window.ran=2")
TEXTS = {"good": "Revenue grew 12% and margins expanded.", "bad": "Orders fell and we cut our guidance."}


class Page(HTMLParser):
    """Reads a page: its elements with their attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self._style = [], "", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag):
        self._style = False

    def handle_data(self, data):
        self.text += "" if self._style else data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def notebook(*cells):
    """Return a notebook's JSON with a cell tagged 'parameters' and ``cells`` of code."""

    def cell(source, tags=()):
        return {
            "cell_type": "code",
            "execution_count": None,
            "id": f"c{abs(hash(source)) % 10**8}",
            "metadata": {"tags": list(tags)},
            "outputs": [],
            "source": source,
        }

    held = [cell("run_path = ''\ntitle = ''", ["parameters"]), *map(cell, cells)]
    return json.dumps({"cells": held, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@contextmanager
def disk_with(limit_bytes):
    """Let no file grow beyond ``limit_bytes``, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def run():
    """Return a small finished run by rules."""
    return ak.run_async(ak.analyze(TEXTS, ["tone"], dashboard=False))


def names_in(folder):
    """Return what a folder holds."""
    return sorted(each.name for each in folder.iterdir())


# -- what stands in it --------------------------------------------------------------------------------------------------


def test_the_report_holds_findings_figures_numbers_times_and_what_is_missing(hostile_page):
    """Each part is there: headline, both tables, evidence, numbers, timings, the row without an answer."""
    page = Page(hostile_page.read_text(encoding="utf-8"))
    for part in (
        "Tone through the call",
        "Findings by section and by speaker",
        "Sections",
        "Speakers",
        "What it rests on",
        "Numbers that were stated",
        "Where the time went",
        "What is missing",
        "InvalidAnswerError",
        "made by analysis_kit on",
    ):
        assert part in page.text, part
    assert "Error:" not in page.text.replace("InvalidAnswerError:", "")


def test_a_demo_model_is_called_one_and_the_way_to_a_real_one_is_said(hostile_page):
    """The model's column stands beside the rules' and is marked; the headline is the rules'."""
    page = Page(hostile_page.read_text(encoding="utf-8"))
    assert "(demo model)" in page.text
    assert "is a demo model" in page.text
    assert "start Ollama" in page.text
    assert "by rules)" in page.text


def test_every_figure_has_an_alt_text_and_its_data_as_a_table(hostile_page):
    """Who cannot see the picture has its words and its numbers."""
    html = hostile_page.read_text(encoding="utf-8")
    images = Page(html).all("img")
    assert len(images) >= 4
    assert all(len(image["alt"]) > 20 for image in images)
    figures = html.split("<figure")[1:]
    assert len(figures) == len(images)
    assert all("<table" in figure.split("</figure>")[0] for figure in figures)


def test_the_text_of_a_call_is_shown_escaped_and_never_obeyed(hostile_page):
    """Markup and template braces in text, names, company, title and errors come out as they were said."""
    html = hostile_page.read_text(encoding="utf-8")
    page = Page(html)
    for mark in EVIL_MARKS:
        assert mark in page.text, mark
    assert not page.all("script")
    assert not page.all("iframe")
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert {image["src"].partition(":")[0] for image in page.all("img")} == {"data"}


def test_the_page_names_nothing_to_load(hostile_page):
    """W3: no element has an address to fetch from, and the page's own policy forbids it."""
    page = Page(hostile_page.read_text(encoding="utf-8"))
    assert not page.all("link")
    for _, attrs in page.elements:
        for name in ("src", "srcset", "poster", "data", "action"):
            assert attrs.get(name, "data:").startswith("data:")
    policy = [
        meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy[0].startswith("default-src 'none'")


def test_a_report_of_rules_alone_says_so_and_has_every_unit(tmp_path):
    """Two documents stand beside each other; no model's name is in the page."""
    folder = tmp_path / "calls"
    folder.mkdir()
    for name in ("alpha", "beta"):
        (folder / f"{name}.txt").write_text(
            f"Ann Lee: Sales of {name} rose 5%.\n\nBo Orr: Orders of {name} fell.\n"
        )
    rules = ["tone", "complexity", "numerical", "deception"]
    steps = []
    out = ak.render_report(
        folder, tmp_path / "two.html", analyzers=rules, progress=lambda *step: steps.append(step)
    )
    page = Page(out.read_text(encoding="utf-8"))
    assert "no language model was asked" in page.text
    assert "Nothing is missing" in page.text
    assert "alpha" in page.text
    assert "beta" in page.text
    assert page.all("title")
    assert [step[1] == step[2] for step in steps if step[0] == "analysis"][-1]
    last = steps[-1]
    assert last[0] == "report"
    assert last[1] == last[2] > 5


# -- what it is made from -------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """Return a template of one cell, so that a test of the way there takes no longer than a kernel's start."""
    place = tmp_path / "small.ipynb"
    place.write_text(notebook("import json\nprint(len(json.load(open(run_path))['rows']), 'rows of', title)"))
    return place


def test_a_template_of_ones_own_is_given_the_run_and_the_title(run, small, tmp_path):
    """The cell tagged 'parameters' is followed by the run's file and the title; code is not shown."""
    out = ak.render_report(run, tmp_path / "own.html", template=small, title="Mine & yours")
    page = Page(out.read_text(encoding="utf-8"))
    assert "2 rows of Mine & yours" in page.text
    assert "json.load" not in page.text


def test_a_dataframe_is_reported_with_its_columns_named(small, tmp_path):
    """text=, id= and keep= work as in analyze."""
    data = pd.DataFrame({"body": list(TEXTS.values()), "call": ["a", "b"]})
    out = ak.render_report(
        data, tmp_path / "rows.html", template=small, text="body", id="call", analyzers=["tone"]
    )
    assert "2 rows of 2 documents" in Page(out.read_text(encoding="utf-8")).text


def test_a_report_can_be_made_while_a_loop_runs(run, small, tmp_path):
    """In a notebook's cell a loop is running already."""

    async def cell():
        return ak.render_report(run, tmp_path / "cell.html", template=small)

    assert ak.run_async(cell()).stat().st_size > 500


def test_a_run_that_was_not_started_is_refused(tmp_path):
    """There is nothing to report yet, and no file."""
    with pytest.raises(ReportError, match="no rows yet"):
        ak.render_report(ak.analyze(TEXTS, ["tone"]), tmp_path / "none.html")
    assert names_in(tmp_path) == []


def test_nothing_is_left_running_or_lying_about(run, small, tmp_path, monkeypatch):
    """The kernel's process has ended and the working folder is gone when the report is there."""
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(working))
    before = children()
    ak.render_report(run, tmp_path / "r.html", template=small)
    assert children() == before
    assert not [name for name in names_in(working) if name.startswith("analysis-kit-")]


def children():
    """Return the process ids of this process's children."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= set((task / "children").read_text().split())
    return found


# -- what can go wrong ----------------------------------------------------------------------------------------------------


def test_a_cell_that_fails_is_named_and_its_notebook_kept_beside_no_report(run, tmp_path):
    """The sentence has the cell's number, the error and the notebook's place; the earlier report stays."""
    template = tmp_path / "bad.ipynb"
    template.write_text(notebook("1 / 0"))
    out = tmp_path / "out.html"
    out.write_text("earlier")
    with pytest.raises(ReportError, match="cell 3 of 3 of the report failed") as caught:
        ak.render_report(run, out, template=template)
    assert "ZeroDivisionError" in str(caught.value)
    assert "out.failed.ipynb" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert out.read_text() == "earlier"
    assert names_in(tmp_path) == ["bad.ipynb", "out.failed.ipynb", "out.html"]


def test_a_limit_may_be_any_number_of_seconds_or_none(run, tmp_path):
    """Half seconds and no limit both serve; what is no time is refused before anything runs."""
    template = tmp_path / "own.ipynb"
    template.write_text(notebook("print('mine')"))
    for limit_s in (30.5, None):
        page = ak.render_report(run, tmp_path / "out.html", template=template, timeout_s=limit_s)
        assert "mine" in page.read_text()
    with pytest.raises(ConfigurationError, match="timeout_s=-1 must be a number above 0"):
        ak.render_report(run, tmp_path / "out.html", template=template, timeout_s=-1)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os\nos._exit(3)", "kernel died"),
        ("import threading\nthreading.Event().wait()", "longer than 2 s"),
    ],
)
def test_W9_a_kernel_that_dies_or_never_ends_is_an_error_and_no_hang(code, said, run, tmp_path):
    """Both end the report with one sentence, leave what was executed, and leave no process."""
    template = tmp_path / "bad.ipynb"
    template.write_text(notebook(code))
    before = children()
    with pytest.raises(ReportError, match=said):
        ak.render_report(run, tmp_path / "out.html", template=template, timeout_s=2)
    assert names_in(tmp_path) == ["bad.ipynb", "out.failed.ipynb"]
    assert children() == before


@pytest.mark.parametrize(
    "held",
    [
        "",
        "text",
        "[]",
        "{}",
        '{"nbformat": 4}',
        '{"nbformat": 4, "cells": [1]}',
        '{"nbformat": 99, "cells": []}',
        "\x00\xff",
    ],
)
def test_a_template_that_is_no_notebook_is_refused_before_the_work(held, run, tmp_path):
    """Whatever the file holds, one sentence names it."""
    template = tmp_path / "odd.ipynb"
    template.write_text(held, encoding="latin-1")
    with pytest.raises(ReportError, match=r"odd\.ipynb.* cannot be read as a notebook") as caught:
        ak.render_report(run, tmp_path / "out.html", template=template)
    assert "\n" not in str(caught.value)
    assert names_in(tmp_path) == ["odd.ipynb"]


def test_a_template_that_is_missing_is_refused(run, tmp_path):
    """The sentence names the file."""
    with pytest.raises(ReportError, match=r"none\.ipynb"):
        ak.render_report(run, tmp_path / "out.html", template=tmp_path / "none.ipynb")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_a_disk_that_is_full_at_export_leaves_the_earlier_report_and_no_half(run, small, tmp_path):
    """The error has place and size; neither a cut page nor a part of one is left."""
    out = tmp_path / "out.html"
    out.write_text("earlier")
    limits = []

    def last_cell(step, done, total):
        if step == "report" and done == total:
            limits.append(resource.getrlimit(resource.RLIMIT_FSIZE))
            resource.setrlimit(resource.RLIMIT_FSIZE, (256, limits[0][1]))

    try:
        with pytest.raises(
            ReportError, match=r"out\.html' cannot be written \([\d,]+ bytes\): .*free some space"
        ):
            ak.render_report(run, out, template=small, progress=last_cell)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits[0])
    assert out.read_text() == "earlier"
    assert names_in(tmp_path) == ["out.html", "small.ipynb"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_a_disk_that_is_full_from_the_start_is_a_sentence_too(run, small, tmp_path):
    """Where not even the run's own file fits, no report and no part of one is left."""
    with disk_with(64), pytest.raises((ak.AnalysisKitError, OSError), match="cannot be written"):
        ak.render_report(run, tmp_path / "out.html", template=small)
    assert names_in(tmp_path) == ["small.ipynb"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_refused_before_the_work(run, tmp_path):
    """The sentence names the folder."""
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ReportError, match="may not be written to"):
            ak.render_report(run, tmp_path / "out.html")
    finally:
        tmp_path.chmod(0o700)

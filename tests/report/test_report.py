"""The report: one file that loads nothing, with the text escaped, alt texts and tables; failures leave no half file."""

from __future__ import annotations

import html
import json
import re

import nbformat
import pytest

from analysis_kit import ReportError, analyze, example_transcript, parse_transcript, render_report, run_async

EVIL = """Evil <script>alert(1)</script> {{ 7*7 }} Corp (NYSE: EVL)
Q1 2025 Earnings Call

Prepared Remarks

Ann <b>Ode</b> -- Chief Executive Officer

Revenue grew 12% {{ config }} {% raw %} <script>document.title='owned'</script> & more.

Bo Lind -- Chief Financial Officer

Costs fell to $3 million. <img src=x onerror="document.title='owned'">
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """One report of the packaged call, by rules."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    render_report(example_transcript(), out, analyzers=["tone", "complexity", "numerical", "deception"])
    return out.read_text(encoding="utf-8")


def test_nothing_is_loaded_and_no_script_is_there(page):
    """No address, no script, and a policy that would forbid both."""
    assert not re.search(r"<(script|link|iframe)\b", page)
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "default-src 'none'" in page


def test_every_figure_has_an_alt_text_and_its_data(page):
    """Each picture carries words for those who cannot see it, and the table it was drawn from."""
    pictures = re.findall(r"<img[^>]*>", page)
    assert len(pictures) >= 3
    assert all(re.search(r'alt="[^"]{20,}"', picture) for picture in pictures)
    assert page.count("<details>") >= len(pictures)


def test_sections_speakers_numbers_and_timings_are_there(page):
    """All units, the numbers as said, and the run's own statistics are in the page."""
    call = example_transcript()
    for name in [*call.sections, *call.speakers]:
        assert html.escape(name) in page
    for words in (call.company, "Tone", "fog grade", "evasion markers", "n too small", "Where the time went"):
        assert words in page


def test_text_of_a_transcript_is_inert(tmp_path):
    """Scripts, template braces and attributes in the text come out as text."""
    out = render_report(parse_transcript(EVIL), tmp_path / "evil.html", analyzers=["tone", "numerical"])
    page = out.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "<b>Ode" not in page
    assert "49" not in re.findall(r"<title>(.*?)</title>", page)[0]


def test_a_finished_run_is_reported_as_it_is(tmp_path):
    """A run is not run again, and its failures are told."""
    run = run_async(analyze({"good": "Revenue grew.", "hole": ""}, ["tone"]))
    page = render_report(run, tmp_path / "r.html", title="Mine").read_text(encoding="utf-8")
    assert "<h1>Mine</h1>" in page
    assert "hole" in page
    assert "empty" in page


def test_a_run_that_never_ran_is_refused(tmp_path):
    """A run without rows is an error that says to await it."""
    from analysis_kit.run.analysis import AnalysisRun
    from analysis_kit.run.plan import RunConfig

    with pytest.raises(ReportError, match="await"):
        render_report(AnalysisRun([], RunConfig()), tmp_path / "r.html")


def _template(path, *sources):
    cells = [nbformat.v4.new_code_cell('run_path = ""\ntitle = ""', metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


@pytest.mark.parametrize(
    ("source", "timeout_s", "words"),
    [
        ("1 / 0", 60, "ZeroDivisionError"),
        ("import os; os._exit(1)", 60, "died"),
        ("import threading; threading.Event().wait()", 2, "longer than 2 s"),
    ],
)
def test_W9_a_cell_that_fails_dies_or_never_ends(source, timeout_s, words, tmp_path):
    """The error names the cell and is bounded; no report is left, and the notebook as far as it went is kept."""
    _template(tmp_path / "mine.ipynb", "first = 1\nfirst", source)
    run = run_async(analyze({"a": "Revenue grew."}, ["tone"]))
    out = tmp_path / "out.html"
    with pytest.raises(ReportError, match=words):
        render_report(run, out, template=tmp_path / "mine.ipynb", timeout_s=timeout_s)
    assert not out.exists()
    kept = json.loads((tmp_path / "out.failed.ipynb").read_text())
    assert kept["cells"][2]["outputs"], "the cell that worked has its output"


def test_a_template_of_ones_own(tmp_path):
    """A template gets the run and the title, and its output is the page."""
    _template(
        tmp_path / "mine.ipynb",
        "from analysis_kit import AnalysisRun\nprint(title, len(AnalysisRun.load(run_path).rows))",
    )
    run = run_async(analyze({"a": "Revenue grew."}, ["tone"]))
    page = render_report(run, tmp_path / "o.html", template=tmp_path / "mine.ipynb", title="Own").read_text()
    assert "Own 1" in page

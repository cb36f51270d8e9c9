"""Plots: asserted on the data they draw, and on what surrounds it; pictures are looked at by people."""

from __future__ import annotations

import base64
import functools
import itertools
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis_kit import plots
from analysis_kit.errors import ConfigurationError
from analysis_kit.frames import (
    COMPARE_COLUMNS,
    METRIC_COLUMNS,
    ROW_COLUMNS,
    SPEEDUP_COLUMNS,
    SPLIT_COLUMNS,
    frame,
)
from analysis_kit.monitor.compare import compare
from analysis_kit.monitor.monitor import PerformanceMonitor
from analysis_kit.plots.html import marks, picture
from analysis_kit.plots.text import label, seconds
from analysis_kit.speedup import fit_speedup

START = datetime(2026, 11, 25, 9, tzinfo=UTC)
UNITS = ["Prepared remarks", "Q&A 1: Wren Castellane", "Q&A 2: Tomas Okonkwo-Lindqvist of Brightwater & Sons"]
SPLIT = {"wait_s": 0.1, "queue_s": 0.2, "load_s": 0.0, "prompt_s": 0.5, "generate_s": 1.0, "other_s": 0.05}


def row(place=0, analyzer="lexicon", score=0.5, **values):
    """Return one record of a run's rows."""
    base = {
        "document": "ACME Q1",
        "by": "section",
        "unit": UNITS[place % 3],
        "position": place,
        "analyzer": analyzer,
    }
    common = {
        "repeat": 0,
        "status": "done",
        "score": score,
        "flags": "",
        "cached": False,
        "attempts": 1,
        "words": 9,
    }
    return {
        **base,
        **common,
        "duration_s": 1.0 + place,
        "started_at": START + timedelta(seconds=place),
        **values,
    }


def rows(*records):
    """Return a run's rows as a table."""
    return frame(records, ROW_COLUMNS)


def run():
    """Return rows of three units by rules and by a demo model, one of which failed."""
    return rows(
        *(row(place, score=score) for place, score in enumerate((0.5, -0.25, 0.0))),
        *(row(place, "tone", 0.1 * place, flags="prompt clipped;demo model", **SPLIT) for place in range(2)),
        row(2, "tone", None, status="failed"),
    )


def measurements(n=100):
    """Return a monitor's table: one slow and one fast operation."""
    took = np.random.default_rng(1).gamma(4, 0.5, n)
    return pd.DataFrame(
        {"operation": ["slow"] * n + ["fast"] * 5, "duration_s": [*took, 0.5, 0.6, 0.7, 0.8, 0.9]}
    )


def compared():
    """Return a comparison with every verdict."""
    names = ("operation", "before_n", "after_n", "before_median_s", "after_median_s")
    more = ("ratio", "ratio_low", "ratio_high", "verdict", "detectable_ratio")
    values = [
        ("a", 100, 90, 2.0, 1.0, 0.5, 0.4, 0.6, "faster", 1.1),
        ("b", 100, 90, 1.0, 1.5, 1.5, 1.3, 1.7, "slower", 1.1),
        ("c", 9, 9, 1.0, 1.0, 1.0, float("nan"), float("nan"), "cannot tell", 2.5),
        (
            "gone",
            9,
            0,
            1.0,
            float("nan"),
            float("nan"),
            float("nan"),
            float("nan"),
            "cannot tell",
            float("nan"),
        ),
    ]
    return frame((dict(zip(names + more, each, strict=True)) for each in values), COMPARE_COLUMNS)


def curve(slots=3, workers=(1, 2, 3, 4, 6, 8)):
    """Return an exact speedup curve of a server with slots."""
    records = (
        {"workers": n, "repeat": r, "wall_s": (12 + r) / min(n, slots)} for n in workers for r in range(2)
    )
    return frame(records, SPEEDUP_COLUMNS)


EVERY = {
    "scores": lambda **kw: plots.plot_scores(run(), **kw),
    "heatmap": lambda **kw: plots.plot_heatmap(run(), **kw),
    "latency": lambda **kw: plots.plot_latency(measurements(), **kw),
    "ecdf": lambda **kw: plots.plot_latency(measurements(), kind="ecdf", **kw),
    "split": lambda **kw: plots.plot_time_split(run(), **kw),
    "timeline": lambda **kw: plots.plot_timeline(run(), **kw),
    "throughput": lambda **kw: plots.plot_throughput(run(), **kw),
    "compare": lambda **kw: plots.plot_compare(compared(), **kw),
    "speedup": lambda **kw: plots.plot_speedup(curve(), **kw),
}
EMPTY = {
    "scores": lambda: plots.plot_scores(rows()),
    "heatmap": lambda: plots.plot_heatmap(rows()),
    "latency": lambda: plots.plot_latency(rows()),
    "ecdf": lambda: plots.plot_latency(measurements().iloc[:0], kind="ecdf"),
    "split": lambda: plots.plot_time_split(rows()),
    "timeline": lambda: plots.plot_timeline(rows()),
    "throughput": lambda: plots.plot_throughput(rows()),
    "compare": lambda: plots.plot_compare(frame([], COMPARE_COLUMNS)),
    "speedup": lambda: plots.plot_speedup(frame([], SPEEDUP_COLUMNS)),
}


class Strict(HTMLParser):
    """Collects tags and attributes, and refuses what is not closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def words(ax):
    """Return every text on the axes."""
    from matplotlib.text import Text

    return [text.get_text() for text in ax.findobj(Text)]


# --- what holds for every plot


@pytest.mark.parametrize("kind", ["svg", "png"])
@pytest.mark.parametrize("name", EVERY)
def test_B3_every_plot_renders_without_a_warning(name, kind):
    """Warnings are errors here, and every plot makes an SVG and a PNG."""
    data = picture(EVERY[name]().figure, format=kind)
    assert data.startswith(b"<?xml" if kind == "svg" else b"\x89PNG")


@pytest.mark.parametrize("name", EVERY)
def test_every_plot_draws_on_the_axes_it_is_given(name):
    """``ax`` comes back as it went in, and no other axes or figure is made."""
    ax = Figure().add_subplot()
    assert EVERY[name](ax=ax) is ax
    assert ax.figure.axes == [ax]


def test_several_axes_are_refused():
    """The array that ``subplots`` gives is no Axes, and the sentence says how to take one of it."""
    axes = Figure().subplots(2, 2)
    for plot in EVERY.values():
        with pytest.raises(ConfigurationError, match=r"ndarray; give one Axes, such as axs\[0, 0\]"):
            plot(ax=axes)


@pytest.mark.parametrize("name", EVERY)
def test_every_plot_tells_what_it_shows(name):
    """Alt text, title and data table are there without having been asked for."""
    ax = EVERY[name]()
    assert len(ax.get_label()) > 40
    assert ax.get_title(loc="left")
    assert len(ax.shown_table) > 0


@pytest.mark.parametrize("name", EMPTY)
def test_no_data_is_said_and_not_raised(name):
    """A table without rows gives axes that say so, so that a report of a failed run still has its figure."""
    ax = EMPTY[name]()
    assert "no" in ax.texts[0].get_text()
    picture(ax.figure, format="svg")


def test_W7_no_figure_stays_open_and_none_of_the_users_is_closed():
    """Thirty plot calls leave pyplot's figures as they were, those of the user included."""
    import matplotlib.pyplot as plt

    mine = plt.figure()
    try:
        before = plt.get_fignums()
        for _ in range(30):
            plots.figure_html(plots.plot_latency(measurements(5)), format="png")
        assert plt.get_fignums() == before
        assert plt.gcf() is mine
    finally:
        plt.close(mine)


def test_plotting_loads_no_pyplot_and_changes_no_setting():
    """Importing plots loads no matplotlib; drawing and rendering load no pyplot and leave backend and settings alone."""
    code = (
        "import sys\nfrom analysis_kit import plots\nassert 'matplotlib' not in sys.modules\n"
        "import matplotlib as mpl, pandas as pd\nbefore = dict(mpl.rcParams.copy())\n"
        "ax = plots.plot_latency(pd.DataFrame({'operation': ['a'], 'duration_s': [1.0]}))\n"
        "plots.figure_html(ax)\nassert 'matplotlib.pyplot' not in sys.modules\n"
        "after = dict(mpl.rcParams.copy())\nassert after == before, set(after.items()) ^ set(before.items())"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)


@pytest.mark.parametrize(
    "name",
    [
        "cost of $5 and $6",
        r"$\frac{broken$",
        "日本語の会社",
        "emoji 🧑‍🚀🚀 and 𒀀",
        "مرحبا",
        "new\nline\ttab\x00nul",
        "\ud800 lone surrogate",
        "<script>alert(1)</script> {{ 7*7 }}",
        "x" * 300,
        "",
        "%s & _ ^ # ~ \\",
    ],
)
def test_names_of_any_kind_are_drawn_as_text(name):
    """Dollar signs are no mathematics, glyphs that no font has are no warning, long names are shortened."""
    table = rows(row(0, name or "none", unit=name), row(1, "b", unit=name + "2"))
    metrics = frame(({"operation": name, "duration_s": took} for took in (1.0, 2.0, 3.0)), METRIC_COLUMNS)
    for ax in (plots.plot_scores(table), plots.plot_heatmap(table), plots.plot_latency(metrics)):
        picture(ax.figure, format="png")
        assert all(len(text.replace(r"\$", "$")) < 130 for text in words(ax))


def test_dollar_signs_stay_visible():
    """What is drawn for "$5 and $6" is that text, with both signs."""
    table = rows(row(0, unit="costs $5 and $6"))
    assert r"costs \$5 and \$6" in words(plots.plot_scores(table))


def test_settings_for_latex_do_not_reach_names():
    """A user whose figures are set by LaTeX gets names with & and _ as plain text all the same."""
    with mpl.rc_context({"text.usetex": True}):
        ax = plots.plot_scores(rows(row(0, unit="R&D_costs 5%")))
        assert not any(
            text.get_usetex() for text in [*ax.get_yticklabels(), ax.title, *ax.get_legend().get_texts()]
        )


def test_label_keeps_both_ends_of_a_long_name():
    """Names that differ at their ends stay different when shortened."""
    one, two = (
        label("Question and answer session, part one", width=24),
        label("Question and answer session, part two", width=24),
    )
    assert one != two
    assert max(len(one), len(two)) <= 24


def test_objects_with_to_frame_are_taken_and_others_refused_by_name():
    """A monitor or run goes in as it is; something without a table, or without the columns, is named."""

    class Monitor:
        def to_frame(self):
            return measurements()

    assert plots.latency_summary(Monitor())["count"].tolist() == [100, 5]
    with pytest.raises(ConfigurationError, match="was given list"):
        plots.plot_latency([1, 2])
    with pytest.raises(ConfigurationError, match="needs the columns"):
        plots.plot_compare(measurements())


# --- latency


def test_latency_marks_are_the_monitors_percentiles():
    """The lines of each row stand at the median and p95 of the table, and the band is its interval."""
    ax = plots.plot_latency(measurements())
    slow = plots.latency_summary(measurements()).iloc[0]
    drawn = [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]
    assert drawn[:2] == [slow["median_s"], slow["p95_s"]]
    box = ax.collections[0].get_paths()[0].get_extents()
    assert (box.x0, box.x1) == pytest.approx((slow["p95_low_s"], slow["p95_high_s"]))


def test_latency_shows_few_durations_one_by_one_and_many_as_bars():
    """Five durations are five points; a hundred are bars whose areas count them all."""
    ax = plots.plot_latency(measurements())
    points = [line for line in ax.lines if line.get_marker() == "o"]
    assert [sorted(line.get_xdata()) for line in points] == [[0.5, 0.6, 0.7, 0.8, 0.9]]
    heights = np.array([abs(bar.get_height()) for bar in ax.patches])
    assert heights.sum() / heights.max() == pytest.approx(100 / round(100 * heights.max() / heights.sum()))


def test_latency_says_which_intervals_a_sample_cannot_support():
    """Below 72 durations p95 has no interval; the note names the operation and the count is beside its name."""
    ax = plots.plot_latency(measurements())
    text = " ".join(" ".join(words(ax)).split())
    assert "No interval of p95 for fast" in text
    assert "fast n = 5" in text
    summary = plots.latency_summary(measurements())
    assert summary["p95_note"].isna().tolist() == [True, False]


def test_latency_leaves_cached_and_failed_rows_out():
    """An answer from the cache takes no server's time, and a failure is no latency."""
    table = rows(row(0), row(1, status="cached", duration_s=0.0), row(2, status="failed"))
    assert plots.latency_data(table)["duration_s"].tolist() == [1.0]


def test_latency_goes_logarithmic_only_where_durations_spread_widely():
    """A factor of twenty between shortest and longest makes the axis logarithmic; a zero never does."""
    wide = pd.DataFrame({"operation": ["a"] * 3, "duration_s": [0.01, 1.0, 9.0]})
    assert plots.plot_latency(wide).get_xscale() == "log"
    assert plots.plot_latency(wide.assign(duration_s=[0.0, 1.0, 9.0])).get_xscale() == "linear"
    assert plots.plot_latency(measurements(5)).get_xscale() == "linear"


def test_ecdf_reaches_one_at_the_longest():
    """Each step line goes from 0 to 1 and ends at the longest duration."""
    ax = plots.plot_latency(measurements(), kind="ecdf")
    step = next(line for line in ax.lines if len(line.get_xdata()) > 50)
    assert step.get_ydata()[0] == 0
    assert step.get_ydata()[-1] == 1
    assert step.get_xdata()[-1] == measurements()["duration_s"].max()
    share = plots.latency_data(measurements())["share"]
    assert share.max() == 1
    assert share.min() > 0


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0], [0.0] * 40, [2.0] * 40])
def test_latency_of_values_all_alike(values):
    """One duration, equal ones and zeros are drawn without a warning."""
    picture(plots.plot_latency(pd.DataFrame({"operation": "a", "duration_s": values})).figure, format="png")


# --- time split


def test_time_split_stacks_the_known_parts():
    """The bars of a row stand end to end, have the means of their parts as widths, and leave zeros out."""
    ax = plots.plot_time_split(run())
    bars = [(bar.get_x(), bar.get_width()) for bar in ax.patches]
    expected = [value for value in SPLIT.values() if value > 0]
    assert [width for _, width in bars] == pytest.approx(expected)
    assert [left for left, _ in bars] == pytest.approx(np.cumsum([0.0, *expected[:-1]]))
    assert "2 requests" in " ".join(words(ax))


def test_time_split_keeps_the_unknown_apart_from_zero():
    """A part that no row knows is NaN in the sums, absent in the bar, and named in the note."""
    table = rows(row(0, "tone", **{**SPLIT, "queue_s": None}), row(1, "tone", **{**SPLIT, "queue_s": None}))
    sums = plots.time_split_data(table)
    assert np.isnan(sums["queue_s"][0])
    assert sums["load_s"][0] == 0
    ax = plots.plot_time_split(table)
    assert "queue_s" not in [bar.get_label() for bar in ax.patches]
    assert "Not known, so not drawn: tone: queue of the server." in " ".join(" ".join(words(ax)).split())


def test_time_split_takes_only_rows_that_asked_a_server():
    """Rules and cached answers are no requests; models are told apart where an analyzer asked several."""
    table = rows(
        row(0),
        row(0, "tone", model="a", **SPLIT),
        row(1, "tone", model="b", **SPLIT),
        row(2, "tone", model="b", status="cached", cached=True, **SPLIT),
    )
    sums = plots.time_split_data(table)
    assert sums["operation"].tolist() == ["tone · a", "tone · b"]
    assert sums["requests"].tolist() == [1, 1]
    assert sums.columns.tolist() == [column.name for column in SPLIT_COLUMNS]
    assert plots.time_split_data(sums).equals(sums)


def test_a_monitor_goes_in_as_it_is():
    """The live monitor is taken by latency and time split, and what compare says of two of them by its plot."""
    from analysis_kit import events
    from analysis_kit.monitor.compare import compare
    from analysis_kit.monitor.monitor import PerformanceMonitor

    before, after = PerformanceMonitor(), PerformanceMonitor()
    request = {
        "host": "http://gpu1:11434",
        "model": "m",
        "endpoint": "/api/chat",
        "duration_s": 1.0,
        "ok": True,
    }
    for number in range(30):
        before.record("tone", 1.0 + number / 100)
        after.record("tone", 0.5 + number / 100)
        after.handle(events.RequestFinished(**request, queue_s=0.1, load_s=0.0, prompt_s=0.3, generate_s=0.5))
    assert "tone" in plots.latency_summary(before)["operation"].tolist()
    assert sum(bar.get_width() for bar in plots.plot_time_split(after).patches) == pytest.approx(
        1.0, abs=0.11
    )
    assert "faster" in " ".join(words(plots.plot_compare(compare(before, after))))


def test_compare_keeps_its_scale_beside_a_tiny_sample():
    """A sample that could only have shown a change by a thousand does not squeeze the others to a dot."""
    table = compared()
    table.loc[2, "detectable_ratio"] = 1000.0
    low, high = plots.plot_compare(table).get_xlim()
    assert 0.2 < low < high < 5


# --- scores


def test_scores_stand_in_the_order_of_the_call():
    """Units run from top to bottom by position, whatever the order of the rows; each point is at its score."""
    ax = plots.plot_scores(run().sample(frac=1, random_state=3))
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names[:2] == UNITS[:2]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    drawn = {
        group.get_label(): sorted(group.get_offsets()[:, 0].tolist())
        for group in ax.collections
        if group.get_label()
    }
    assert drawn["lexicon"] == [-0.25, 0.0, 0.5]
    assert drawn["tone (demo model)"] == pytest.approx([0.0, 0.1])


def test_scores_mark_the_demo_model_and_count_what_is_missing():
    """The demo model's marks are hatched; a failed row has no mark and is counted below."""
    ax = plots.plot_scores(run())
    hatches = {group.get_label(): group.get_hatch() for group in ax.collections}
    assert hatches["tone (demo model)"]
    assert not hatches["lexicon"]
    assert "Without a score: tone 1 of 3." in words(ax)


def test_scores_of_repeats_are_mean_and_range():
    """Repeats of a unit become one mark with a line from lowest to highest."""
    found = plots.scores_data(rows(*(row(0, repeat=r, score=s) for r, s in enumerate((0.1, 0.2, 0.6)))))
    assert found[["score", "low", "high"]].iloc[0].tolist() == pytest.approx([0.3, 0.1, 0.6])
    assert found["n"].tolist() == [3]


def test_scores_of_several_documents_are_one_row_each():
    """With several calls each row is a call, in the order of the table."""
    table = rows(*(row(place, document=name, score=0.1) for name in ("B Q1", "A Q1") for place in range(3)))
    found = plots.scores_data(table)
    assert found["unit"].tolist() == ["B Q1", "A Q1"]
    assert found["n"].tolist() == [3, 3]


def test_scores_by_speaker_are_chosen_and_analyzers_without_a_scale_left_out():
    """``by`` picks the units; an analyzer that gives numbers but no score has no place in the plot."""
    table = rows(row(0), row(0, by="speaker", unit="Wren", score=-0.3), row(0, "numbers", None))
    assert plots.scores_data(table, by="speaker")["score"].tolist() == [-0.3]
    assert plots.scores_data(table)["series"].tolist() == ["lexicon"]


def test_scores_of_hundreds_of_turns_name_only_some():
    """Two hundred rows keep a figure of one page, with at most forty names."""
    ax = plots.plot_scores(rows(*(row(place, unit=f"turn {place}") for place in range(200))))
    assert len(ax.get_yticks()) <= 40
    assert ax.figure.get_size_inches()[1] <= 11


def test_a_heatmap_too_low_for_its_numbers_shows_the_colours_alone():
    """Forty rows on axes of a notebook's size have no number over the next one's; the same rows on their own do."""
    table = rows(*(row(place, unit=f"turn {place}") for place in range(40)))
    assert not plots.plot_heatmap(table, ax=Figure(figsize=(6.4, 4.8)).add_subplot()).texts
    assert len(plots.plot_heatmap(table).texts) == 40


def test_heatmap_cells_are_scores_and_gaps_are_gaps():
    """The mesh holds unit by analyzer; a missing score is masked and said in words."""
    ax = plots.plot_heatmap(run())
    values = np.ma.filled(ax.collections[0].get_array().reshape(3, 2), np.nan)
    assert values[:, 0].tolist() == [0.5, -0.25, 0.0]
    assert np.isnan(values[2, 1])
    assert "none" in words(ax)


# --- time


def test_timeline_lanes_are_as_many_as_ran_at_once():
    """Spans that overlap lie in different lanes, those that follow reuse one; cached rows did not run."""
    at = [START + timedelta(seconds=s) for s in (0, 1, 2, 9)]
    spans = [(at[0], 5.0), (at[1], 1.0), (at[2], 4.0)]
    table = rows(
        *(row(i, started_at=start, duration_s=took) for i, (start, took) in enumerate(spans)),
        row(3, started_at=at[3], duration_s=0.0, status="cached"),
    )
    found = plots.timeline_data(table)
    assert found["lane"].tolist() == [0, 1, 1]
    assert found["start_s"].tolist() == [0, 1, 2]
    assert found["end_s"].tolist() == [5, 2, 6]


def test_timeline_hatches_what_failed():
    """A failed unit is a bar too, told from the others without colour."""
    ax = plots.plot_timeline(run())
    assert [bool(bar.get_hatch()) for bar in ax.patches].count(True) == 1
    assert "failed (1)" in words(ax)


def test_timeline_shows_a_thousand_short_units_as_work():
    """Bars narrower than the gap between them are drawn without it, or a full lane would look idle."""
    table = rows(
        *(row(i, started_at=START + timedelta(seconds=i / 100), duration_s=0.01) for i in range(1000))
    )
    ax = plots.plot_timeline(table)
    canvas = FigureCanvasAgg(ax.figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    (left, bottom), (right, _) = ax.transData.transform([(1, 0), (9, 0)])
    lane = pixels[pixels.shape[0] - int(bottom), int(left) : int(right)]
    assert (lane < 200).any(axis=1).mean() > 0.95


def test_throughput_counts_every_unit_once():
    """The intervals cover the run; their units add up to all, also the one that ends last."""
    table = plots.throughput_data(run(), intervals=7)
    assert table["units"].sum() == 6
    assert len(table) == 7
    assert (table["units_per_s"] * (table["end_s"] - table["start_s"])).tolist() == pytest.approx(
        table["units"].tolist()
    )


# --- compare and speedup


def test_compare_draws_ratio_and_interval_with_its_verdict():
    """Each operation has its ratio, interval and verdict; one measured only once is left out."""
    ax = plots.plot_compare(compared())
    marks_at = {line.get_marker(): line.get_xdata()[0] for line in ax.lines if line.get_marker() != "None"}
    assert marks_at == {"v": 0.5, "^": 1.5, "o": 1.0}
    bars = [
        list(line.get_xdata())
        for line in ax.lines
        if len(line.get_xdata()) == 2 and line.get_linewidth() == 2
    ]
    assert bars == [[0.4, 0.6], [1.3, 1.7]]
    assert len(ax.get_yticks()) == 3
    wide = max(bar.get_x() + bar.get_width() for bar in ax.patches)
    assert wide == pytest.approx(2.5)


def test_speedup_draws_points_ideal_fit_and_slots():
    """Medians with their range, the diagonal, the fitted hinge and its slots are all there."""
    ax = plots.plot_speedup(curve())
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines["ideal"].get_xdata()) == [1, 8]
    assert list(lines["3 slots"].get_xdata()) == [3, 3]
    assert max(lines["fit: grows to its slots, then flat"].get_ydata()) == pytest.approx(3)
    assert list(lines["recommended: 3"].get_xdata()) == [3]
    assert "Use 3 workers" in ax.get_title(loc="left")
    points = plots.speedup_data(curve(), fit=fit_speedup(curve()))
    assert points["repeats"].tolist() == [2] * 6
    assert points["low"].lt(points["speedup"]).all()


def test_speedup_with_too_few_counts_shows_points_and_says_why():
    """Three worker counts are drawn, not fitted, and the title gives the reason."""
    ax = plots.plot_speedup(curve(workers=(1, 2, 4)))
    assert "needs at least 5" in " ".join(ax.get_title(loc="left").split())
    assert not [line for line in ax.lines if "fit" in str(line.get_label())]


# --- HTML


def test_figure_html_stands_alone_and_is_escaped():
    """One image with alt text, caption and table; nothing is fetched, and no text becomes a tag or a template."""
    table = pd.DataFrame(
        {"<b>": ["<script>alert(1)</script>", "{{ 7*7 }}", None], "n": [1.25, float("nan"), 3.0]}
    )
    nasty = '"><script>x</script>'
    html = plots.figure_html(plots.plot_latency(measurements()), alt=nasty, caption=nasty, table=table)
    parsed = Strict(html)
    image = next(attrs for tag, attrs in parsed.tags if tag == "img")
    assert image["alt"] == nasty
    assert image["src"].startswith("data:image/svg+xml;base64,")
    assert "script" not in [tag for tag, _ in parsed.tags]
    assert "{{" not in html
    assert not re.search(r"(src|href)=[\"'](?!data:)", html)
    svg = base64.b64decode(image["src"].split(",")[1]).decode()
    assert 'xlink:href="http' not in svg
    assert [tag for tag, _ in parsed.tags].count("tr") == 4


def test_figure_html_says_what_it_takes():
    """What is neither axes nor a figure is refused by its kind."""
    with pytest.raises(ConfigurationError, match="takes axes or a figure, and was given NoneType"):
        plots.figure_html(None)


def test_figure_html_takes_png_for_dense_pictures():
    """More than 2,000 marks make a PNG, fewer an SVG; either can be asked for."""
    ax = Figure().add_subplot()
    ax.scatter(range(2500), range(2500))
    assert marks(ax.figure) > 2500
    assert "image/png" in plots.figure_html(ax, alt="points")
    assert "image/svg+xml" in plots.figure_html(ax, alt="points", format="svg")
    few = plots.plot_latency(measurements(5))
    assert "image/svg+xml" in plots.figure_html(few)
    assert "image/png" in plots.figure_html(few.figure, format="png")


def test_the_same_figure_gives_the_same_bytes():
    """An SVG made twice, from two equal figures, is the same text, without a date."""
    one, two = (picture(plots.plot_latency(measurements()).figure, format="svg") for _ in range(2))
    assert one == two
    assert b"<dc:date>" not in one


def test_a_picture_without_words_is_refused():
    """A figure of one's own needs an alt text; the error says how."""
    with pytest.raises(ConfigurationError, match="give alt="):
        plots.figure_html(Figure())


def test_axes_of_their_own_show_themselves_in_a_notebook():
    """IPython's own formatter finds HTML with alt text and the data, though pyplot knows no figure."""
    formatters = pytest.importorskip("IPython.core.formatters")
    shown, _ = formatters.DisplayFormatter().format(plots.plot_scores(run()))
    tags = Strict(shown["text/html"]).tags
    assert next(attrs for tag, attrs in tags if tag == "img")["alt"].startswith("Score by section")
    assert ("details", {}) in tags


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0123, "12.3 ms"), (0.99949, "999 ms"), (1.0, "1.00 s"), (75.34, "75.3 s"), (float("nan"), "unknown")],
)
def test_seconds_have_three_digits_and_a_unit(value, shown):
    """Durations are written so that they can be read at a glance."""
    assert seconds(value) == shown


@pytest.mark.parametrize("kind", ["histogram", "ecdf", "compare"])
@pytest.mark.parametrize("given", [True, False])
def test_forty_long_names_do_not_run_into_each_other(kind, given):
    """Forty operations on axes of a notebook's size or of their own: no name overlaps the next, and the curves have room."""
    names = [f"operation number {n} of the quarterly call analysis" for n in range(40)]
    if kind == "compare":
        before, after = PerformanceMonitor(), PerformanceMonitor()
        for name in names:
            for n in range(8):
                before.record(name, 1 + n / 10)
                after.record(name, 2 + n / 10)
        draw, data = plots.plot_compare, compare(before, after)
    else:
        draw = functools.partial(plots.plot_latency, kind=kind)
        data = pd.DataFrame({"operation": names * 3, "duration_s": [1 + n / 50 for n in range(120)]})
    ax = draw(data, ax=Figure(figsize=(6.4, 4.8)).add_subplot() if given else None)
    ax.figure.canvas.draw()
    boxes = [tick.get_window_extent() for tick in ax.get_yticklabels() if tick.get_text()]
    boxes.sort(key=lambda box: -box.y1)
    assert all(above.y0 >= below.y1 - 1 for above, below in itertools.pairwise(boxes))
    assert len(boxes) >= 5
    assert ax.get_window_extent().height >= 0.3 * ax.figure.bbox.height
    if kind == "ecdf":
        assert "and 30 more" in ax.get_legend().get_texts()[-1].get_text()
    if kind != "compare":
        assert any("and 36 more: it takes 72" in text.get_text().replace("\n", " ") for text in ax.texts)

"""The printed summary line by line, bottlenecks, and what a notebook shows; the source design's example as written."""

from __future__ import annotations

import io
import json
import re
import sys

import numpy as np
import pytest

from analysis_kit.errors import ConfigurationError
from analysis_kit.monitor.monitor import PerformanceMonitor


@pytest.fixture
def monitor():
    """Return a monitor with three analyzers, 150 operations, 3 failures and 2 alerts."""
    filled = PerformanceMonitor()
    for name, calls, seconds in (
        ("complexity_analysis", 50, 0.9),
        ("llm_sentiment", 50, 2.4),
        ("numerical", 50, 0.76),
    ):
        for number in range(calls):
            slow = name == "llm_sentiment" and number >= 48
            failed = name == "llm_sentiment" and number < 3
            filled.record(name, 5.25 if slow else seconds, error_type="TimeoutError" if failed else None)
    return filled


def test_the_printed_summary_has_the_source_designs_lines(monitor, capsys):
    """Heading, totals, top operations by time, bottlenecks and alerts come in the order and form of the example."""
    monitor.print_summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:7] == [
        "PERFORMANCE SUMMARY",
        "=" * 80,
        "Overall Statistics:",
        "  Total Operations: 150",
        "  Total Time: 208.70s",
        "  Total Failures: 3",
        "  Success Rate: 98.0%",
    ]
    assert lines[7:12] == [
        "",
        "Top Operations by Total Time:",
        "  1. llm_sentiment: 125.70s (60.2%, 50 calls, avg: 2.51s)",
        "  2. complexity_analysis: 45.00s (21.6%, 50 calls, avg: 0.90s)",
        "  3. numerical: 38.00s (18.2%, 50 calls, avg: 0.76s)",
    ]
    assert lines[12:17] == [
        "",
        "Identified Bottlenecks:",
        "  1. llm_sentiment: avg 2.51s, max 5.25s (50 calls)",
        "",
        "Performance Alerts: 2",
    ]
    assert len(lines) == 19
    for line in lines[17:]:
        assert re.fullmatch(r"  • llm_sentiment: 5\.25s at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line)


def test_the_summary_of_nothing(capsys):
    """Nothing measured prints the same headings without a division by zero."""
    PerformanceMonitor().print_summary()
    text = capsys.readouterr().out
    assert "Total Operations: 0\n  Total Time: 0.00s\n  Total Failures: 0\n  Success Rate: n/a" in text
    assert text.endswith("Performance Alerts: 0\n")


def test_a_console_without_the_bullet_gets_a_question_mark(monitor, monkeypatch):
    """An ASCII console prints the summary with a substitute instead of raising."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monitor.print_summary()
    sys.stdout.flush()
    assert b"? llm_sentiment: 5.25s at" in raw.getvalue()


def test_all_failures_are_a_success_rate_of_zero():
    """An operation that never succeeded has statistics like any other, and a rate of 0."""
    monitor = PerformanceMonitor()
    for _ in range(3):
        monitor.record("call", 1.0, error_type="OSError")
    assert monitor.get_stats()["call"].success_rate == 0.0
    assert "Success Rate: 0.0%" in monitor.summary()


def test_bottlenecks_are_those_whose_p95_reaches_the_pooled_percentile(monitor):
    """The list follows the design's definition, slowest average first, with shares of the whole time."""
    everything = [e.duration_s for e in monitor.slowest_operations(1000)]
    for threshold in (0.0, 0.5, 0.95):
        found = monitor.identify_bottlenecks(threshold_percentile=threshold)
        stats = monitor.get_stats()
        expected = {
            name
            for name, each in stats.items()
            if each.p95_time >= np.percentile(everything, threshold * 100)
        }
        assert {each["operation"] for each in found} == expected
        averages = [each["avg_time"] for each in found]
        assert averages == sorted(averages, reverse=True)
        for each in found:
            own = stats[each["operation"]]
            assert each == {
                "operation": each["operation"],
                "avg_time": own.avg_time,
                "max_time": own.max_time,
                "p95_time": own.p95_time,
                "count": own.count,
                "percentage_of_total": pytest.approx(100 * own.total_time / 208.7),
            }
    assert sum(each["percentage_of_total"] for each in monitor.identify_bottlenecks(0.0)) == pytest.approx(
        100
    )


def test_a_single_operation_is_its_own_bottleneck_also_from_the_sketch():
    """With one operation the definition is met with equality, exactly and where only the sketch is left."""
    monitor = PerformanceMonitor(max_metrics=100)
    for number in range(1000):
        monitor.record("only", 1 + number / 7)
        if number in {50, 999}:
            assert [each["operation"] for each in monitor.identify_bottlenecks()] == ["only"]
    for number in range(5000):
        monitor.record("quick", 0.001 * (1 + number % 3))
    assert [each["operation"] for each in monitor.identify_bottlenecks()] == ["only"]


def test_a_threshold_given_in_percent_is_refused():
    """95 instead of 0.95 says how to ask, also when nothing was measured."""
    with pytest.raises(ConfigurationError, match=r"the 95th is 0\.95"):
        PerformanceMonitor().identify_bottlenecks(threshold_percentile=95)


def test_the_source_designs_example_runs_as_written(tmp_path, monkeypatch, capsys):
    """Measuring, statistics, bottlenecks, export and summary are called exactly as the source design calls them."""
    monkeypatch.chdir(tmp_path)

    class _Analyzer:
        def analyze(self, text):
            return text.upper()

    analyzer, text = _Analyzer(), "we grew"
    monitor = PerformanceMonitor(
        enabled=True,
        alert_threshold=5.0,
        max_metrics=10000,
    )
    with monitor.measure("sentiment_analysis", metadata={"text_len": 1000}):
        result = analyzer.analyze(text)
    assert result == "WE GREW"
    stats = monitor.get_stats()
    for op, stat in stats.items():
        print(f"{op}:")
        print(f"  Count: {stat.count}")
        print(f"  Avg: {stat.avg_time:.2f}s")
        print(f"  P95: {stat.p95_time:.2f}s")
        print(f"  Success rate: {stat.success_rate:.1%}")
    bottlenecks = monitor.identify_bottlenecks(threshold_percentile=0.95)
    for b in bottlenecks:
        print(f"{b['operation']}: {b['avg_time']:.2f}s, {b['percentage_of_total']:.1f}% of time")
    monitor.export_to_json("data/metrics/performance.json")
    monitor.print_summary()
    out = capsys.readouterr().out
    assert "sentiment_analysis:\n  Count: 1\n  Avg: 0.00s\n  P95: 0.00s\n  Success rate: 100.0%\n" in out
    assert "sentiment_analysis: 0.00s, 100.0% of time" in out
    assert json.loads((tmp_path / "data/metrics/performance.json").read_text())["total_operations"] == 1


def test_repr_states_the_live_numbers(monitor):
    """The plain repr says how much was measured, and whether the monitor is off."""
    assert repr(monitor) == (
        "<PerformanceMonitor 150 measurements of 3 operations, 208.70 s, 3 failed, 2 alerts>"
    )
    assert repr(PerformanceMonitor(enabled=False)).startswith("<PerformanceMonitor off, 0 measurements")


def test_the_notebooks_table_escapes_names(monitor):
    """Names are text in the HTML, never markup, and the slowest operation comes first."""
    monitor.record("<script>alert(1)</script> {{x}}", 1000.0)
    html = monitor._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &#123;&#123;x" in html
    assert html.index("script&gt;") < html.index("llm_sentiment") < html.index("numerical")
    assert "1,000.000" in html

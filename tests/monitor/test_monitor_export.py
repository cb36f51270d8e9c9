"""Exports: strict JSON, written whole or not at all; Prometheus and OpenTelemetry by their own conventions."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from analysis_kit.errors import ConfigurationError
from analysis_kit.events import RequestFinished, SlotWaited
from analysis_kit.monitor import telemetry
from analysis_kit.monitor.export import SCHEMA, write_text
from analysis_kit.monitor.monitor import PerformanceMonitor


def strict(path):
    """Return the JSON of a file, refusing what is none: NaN, Infinity, bytes that are no UTF-8."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture
def monitor():
    """Return a monitor with an operation, a failure, an alert, a request and a wait."""
    filled = PerformanceMonitor()
    filled.record("sentiment", 6.0, metadata={"rate": math.nan, "text": "\ud800<script>"})
    filled.record("sentiment", 0.5, error_type="ValueError")
    filled.handle(SlotWaited("pool", "http://h:1", 0.25))
    filled.handle(SlotWaited("pool", "http://h:1", 30.0, ok=False))
    filled.handle(
        RequestFinished(
            "http://h:1", "llama3.2", "/api/chat", 5.0, ok=True, queue_s=0.5, load_s=0.0, prompt_s=0.5,
            generate_s=3.5, first_token_s=1.0, prompt_tokens=100, generated_tokens=70,
        )
    )  # fmt: skip
    return filled


def test_M2_an_export_is_strict_json_whatever_was_noted(monitor, tmp_path):
    """NaN in metadata and parts that are not known become null; half characters stay readable."""
    monitor.export_to_json(tmp_path / "out.json")
    document = strict(tmp_path / "out.json")
    assert document["records"][0]["metadata"] == {"rate": None, "text": "\ud800<script>"}
    assert document["splits"]["ollama chat"]["wait_s"] is None
    assert document["splits"]["ollama chat"]["load_s"] == 0.0


def test_M2_an_export_of_nothing_is_strict_json(tmp_path):
    """A monitor that measured nothing exports empty lists, not NaN; without a threshold it exports null."""
    PerformanceMonitor(alert_threshold=math.inf).export_to_json(tmp_path / "out.json")
    document = strict(tmp_path / "out.json")
    assert (document["operations"], document["records"], document["alerts"]) == ({}, [], [])
    assert document["alert_threshold"] is None


def test_an_export_holds_what_the_monitor_knows(monitor, tmp_path):
    """Schema, totals, statistics, bottlenecks, alerts and raw measurements are in the file, times UTC-aware."""
    monitor.export_to_json(tmp_path / "out.json")
    document = strict(tmp_path / "out.json")
    assert document["schema"] == SCHEMA
    assert (document["total_operations"], document["total_time"], document["total_failures"]) == (2, 6.5, 1)
    assert document["operations"]["sentiment"]["p95_time"] == monitor.get_stats()["sentiment"].p95_time
    assert document["bottlenecks"] == monitor.identify_bottlenecks()
    assert [alert["operation"] for alert in document["alerts"]] == ["sentiment"]
    assert [record["duration_s"] for record in document["records"]] == [6.0, 0.5, 0.25, 30.0, 5.0]
    for stamp in (document["exported_at"], document["alerts"][0]["at"], document["records"][0]["started_at"]):
        assert datetime.fromisoformat(stamp).utcoffset() == timedelta(0)


def test_an_export_makes_its_folders(monitor, tmp_path):
    """As in the source design's example, the folders of the path need not be there."""
    monitor.export_to_json(str(tmp_path / "data" / "metrics" / "performance.json"))
    assert [p.name for p in (tmp_path / "data" / "metrics").iterdir()] == ["performance.json"]


def test_an_export_through_a_link_replaces_what_it_points_at(monitor, tmp_path):
    """A link stays a link, and a new file has the usual permissions, not those of a temporary one."""
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    monitor.export_to_json(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert strict(tmp_path / "real.json")["schema"] == SCHEMA
    monitor.export_to_json(tmp_path / "new.json")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "new.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("where", ["a folder", "below a file"])
def test_a_path_that_cannot_be_written_is_one_clear_error(monitor, tmp_path, where):
    """The error names the path, the reason and what to do; nothing is left behind."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    path = tmp_path / "folder" if where == "a folder" else tmp_path / "file" / "out.json"
    with pytest.raises(ConfigurationError, match=r"'.*' cannot be written: .*; name a file in a folder"):
        monitor.export_to_json(path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "old"


_AS_NOBODY = """
import os, sys
from analysis_kit.errors import ConfigurationError
from analysis_kit.monitor.monitor import PerformanceMonitor
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    PerformanceMonitor().export_to_json(sys.argv[1])
except ConfigurationError as exc:
    print(exc)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to become another user")
def test_a_read_only_folder_keeps_the_old_file():
    """Run as nobody in a folder of somebody else's, the export fails clearly and the old file is as it was."""
    with tempfile.TemporaryDirectory() as folder:  # tmp_path lies below a folder that nobody may enter
        Path(folder).chmod(0o755)
        path = Path(folder) / "out.json"
        path.write_text("old")
        command = [sys.executable, "-c", _AS_NOBODY, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert "cannot be written: Permission denied; name a file in a folder" in done.stdout
        assert path.read_text() == "old"
        assert os.listdir(folder) == ["out.json"]


def test_a_full_disk_keeps_the_old_file(tmp_path):
    """When the new text does not fit, the old file stays whole and no half-written one is left beside it."""
    path = tmp_path / "out.json"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then the write fails as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ConfigurationError, match="cannot be written: File too large"):
            write_text(path, "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_prometheus_text_follows_its_conventions(monitor):
    """Base units and suffixes as Prometheus wants them, cumulative buckets, and names escaped; its own parser reads it."""
    parser = pytest.importorskip("prometheus_client.parser")
    monitor.record('odd "name"\n', 0.3)
    families = {
        each.name: each for each in parser.text_string_to_metric_families(telemetry.prometheus_text(monitor))
    }
    durations = families["analysis_kit_operation_duration_seconds"]
    assert durations.type == "histogram"
    values = {
        (s.name.removeprefix(durations.name), s.labels["operation"], s.labels.get("le")): s.value
        for s in durations.samples
    }
    assert values["_count", "sentiment", None] == 2
    assert values["_sum", "sentiment", None] == 6.5
    assert [values["_bucket", "sentiment", le] for le in ("0.25", "0.5", "5.0", "10.0", "+Inf")] == [
        0,
        1,
        1,
        2,
        2,
    ]
    assert values["_count", 'odd "name"\n', None] == 1
    failures = {s.labels["operation"]: s.value for s in families["analysis_kit_operation_failures"].samples}
    assert failures == {"sentiment": 1, "pool wait": 1, "ollama chat": 0, 'odd "name"\n': 0}
    parts = {s.labels["part"]: s.value for s in families["analysis_kit_request_part_seconds"].samples}
    assert parts == pytest.approx(
        {"wait": 30.25, "queue": 0.5, "load": 0, "prompt": 0.5, "generate": 3.5, "other": 0.5}
    )
    assert [s.value for s in families["analysis_kit_alerts"].samples] == [1]


def test_prometheus_buckets_of_all_time_come_from_the_sketch():
    """Once raw measurements were dropped the histogram still counts everything."""
    pytest.importorskip("prometheus_client")
    monitor = PerformanceMonitor(max_metrics=10)
    for number in range(1000):
        monitor.record("call", 0.004 if number % 4 else 0.2)
    text = telemetry.prometheus_text(monitor)
    assert 'duration_seconds_bucket{kind="operation",le="0.005",operation="call"} 750.0' in text
    assert 'duration_seconds_bucket{kind="operation",le="+Inf",operation="call"} 1000.0' in text


@pytest.fixture
def collected(monitor):
    """Return the spans and metrics that an exporter sent for the monitor, and the exporter."""
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    exporter = telemetry.OpenTelemetryExporter(monitor, meter_provider=meters, tracer_provider=tracers)
    assert exporter.send() == 5
    found = {
        metric.name: metric
        for resource_metrics in reader.get_metrics_data().resource_metrics
        for scope in resource_metrics.scope_metrics
        for metric in scope.metrics
    }
    yield spans, found, exporter
    tracers.shutdown()
    meters.shutdown()


def test_opentelemetry_spans_follow_the_conventions_for_generative_ai(collected):
    """A request is a client span named by operation and model, with usage and server; its times are the measurement's."""
    spans, _, _ = collected
    span = next(each for each in spans.get_finished_spans() if each.name == "chat llama3.2")
    assert span.kind.name == "CLIENT"
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "ollama",
        "gen_ai.request.model": "llama3.2",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 70,
        "server.address": "h",
        "server.port": 1,
    }
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(5.0, abs=1e-6)
    failed = next(
        each for each in spans.get_finished_spans() if each.attributes.get("error.type") == "ValueError"
    )
    assert (failed.name, failed.status.status_code.name) == ("sentiment", "ERROR")


def test_opentelemetry_metrics_follow_the_conventions(collected):
    """Durations, tokens, first piece, waits and timeouts have the conventional names, units and values."""
    _, metrics, _ = collected

    def points(name, unit):
        assert metrics[name].unit == unit
        return list(metrics[name].data.data_points)

    [request] = points("gen_ai.client.operation.duration", "s")
    assert (request.sum, request.attributes["gen_ai.operation.name"]) == (5.0, "chat")
    tokens = {
        p.attributes["gen_ai.token.type"]: p.sum for p in points("gen_ai.client.token.usage", "{token}")
    }
    assert tokens == {"input": 100, "output": 70}
    [first] = points("gen_ai.client.operation.time_to_first_chunk", "s")
    assert first.sum == 1.0
    [wait] = points("db.client.connection.wait_time", "s")
    assert (wait.count, dict(wait.attributes)) == (2, {"db.client.connection.pool.name": "pool"})
    [timeouts] = points("db.client.connection.timeouts", "{timeout}")
    assert timeouts.value == 1
    assert sum(p.count for p in points("analysis_kit.operation.duration", "s")) == 2


def test_opentelemetry_sends_each_measurement_once(monitor, collected, caplog):
    """A second call sends what is new; after a reset it begins anew; what was dropped before it could be sent is said."""
    spans, _, exporter = collected
    assert exporter.send() == 0
    monitor.record("sentiment", 1.0)
    assert exporter.send() == 1
    assert len(spans.get_finished_spans()) == 6
    monitor.reset()
    monitor.record("sentiment", 1.0)
    assert exporter.send() == 1
    assert caplog.text == ""
    monitor.max_metrics = 10
    for _ in range(50):
        monitor.record("sentiment", 1.0)
    assert exporter.send() == 10
    assert "40 measurements of 'sentiment' were dropped before they could be sent" in caplog.text

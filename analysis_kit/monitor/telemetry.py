"""A monitor for other people's dashboards: Prometheus and OpenTelemetry, named by their conventions.

Both need the extra ``telemetry``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from analysis_kit._optional import require
from analysis_kit.monitor.recorder import Recorder
from analysis_kit.monitor.records import PARTS, Raw, Snapshot

_log = logging.getLogger(__name__)

#: Upper bounds of the Prometheus histogram, in seconds: from a rule's milliseconds to a large model's minutes.
BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
#: Ollama's endpoint -> ``gen_ai.operation.name``.
_GEN_AI: Final = {"chat": "chat", "generate": "text_completion", "embed": "embeddings"}


class PrometheusCollector:
    """Gives a Prometheus registry the monitor's state whenever it is scraped.

    Metrics: ``analysis_kit_operation_duration_seconds`` (histogram) and ``analysis_kit_operation_failures_total``, by
    operation and kind; ``analysis_kit_request_part_seconds_total`` by operation and part of the time split;
    ``analysis_kit_tokens_total`` by operation and type; ``analysis_kit_alerts_total``.

    Parameters
    ----------
    monitor : PerformanceMonitor

    Examples
    --------
    >>> from prometheus_client import CollectorRegistry
    >>> from analysis_kit.monitor.monitor import PerformanceMonitor
    >>> registry = CollectorRegistry()
    >>> registry.register(PrometheusCollector(PerformanceMonitor()))
    """

    def __init__(self, monitor: Recorder) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[Any]:
        """Yield the metric families; the registry calls it."""
        core = require("prometheus_client.core", extra="telemetry", purpose="the Prometheus export")
        labels = ["operation", "kind"]
        durations = core.HistogramMetricFamily(
            "analysis_kit_operation_duration_seconds", "How long operations took.", labels=labels
        )
        failures = core.CounterMetricFamily(
            "analysis_kit_operation_failures", "Operations that ended in an exception.", labels=labels
        )
        parts = core.CounterMetricFamily(
            "analysis_kit_request_part_seconds",
            "Where requests spent their time.",
            labels=["operation", "part"],
        )
        tokens = core.CounterMetricFamily(
            "analysis_kit_tokens", "Tokens read and written.", labels=["operation", "type"]
        )
        for each in self._monitor.snapshot():
            own = [each.name, each.kind]
            buckets = [(f"{float(limit)}", each.count_up_to(limit)) for limit in BUCKETS_S]
            durations.add_metric(own, [*buckets, ("+Inf", each.count)], sum_value=each.total)
            failures.add_metric(own, each.failures)
            if each.split is not None:
                for part in PARTS:
                    if part in each.split.sums:
                        parts.add_metric([each.name, part.removesuffix("_s")], each.split.sums[part])
                tokens.add_metric([each.name, "input"], each.split.prompt_tokens)
                tokens.add_metric([each.name, "output"], each.split.generated_tokens)
        alerts = core.CounterMetricFamily("analysis_kit_alerts", "Operations slower than the threshold.")
        alerts.add_metric([], self._monitor.alert_count)
        yield from (durations, failures, parts, tokens, alerts)


def prometheus_text(monitor: Recorder) -> str:
    """Return the monitor's state in the Prometheus text format, for a file or an endpoint of your own."""
    client = require("prometheus_client", extra="telemetry", purpose="the Prometheus export")
    registry = client.CollectorRegistry()
    registry.register(PrometheusCollector(monitor))
    return str(client.generate_latest(registry).decode())


class OpenTelemetryExporter:
    """Sends a monitor's measurements as spans and metrics, each once.

    Requests follow the generative AI conventions (``gen_ai.client.operation.duration``, ``gen_ai.client.token.usage``,
    spans of kind client), waits for a slot those of connection pools (``db.client.connection.wait_time``,
    ``db.client.connection.timeouts``); other operations are ``analysis_kit.operation.duration``. Spans carry the times
    of the measurement, not of the sending.

    Parameters
    ----------
    monitor : PerformanceMonitor
    meter_provider, tracer_provider : optional
        OpenTelemetry providers; by default the global ones.
    """

    def __init__(self, monitor: Recorder, *, meter_provider: Any = None, tracer_provider: Any = None) -> None:
        metrics = require("opentelemetry.metrics", extra="telemetry", purpose="the OpenTelemetry export")
        self._trace = require("opentelemetry.trace", extra="telemetry", purpose="the OpenTelemetry export")
        meter = metrics.get_meter("analysis_kit", meter_provider=meter_provider)
        self._tracer = self._trace.get_tracer("analysis_kit", tracer_provider=tracer_provider)
        self._own = meter.create_histogram(
            "analysis_kit.operation.duration", "s", "How long operations took."
        )
        self._requests = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "GenAI operation duration."
        )
        self._first = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "Time to the first piece of a streamed answer.",
        )
        self._tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}", "Tokens used.")
        self._waits = meter.create_histogram(
            "db.client.connection.wait_time", "s", "The time it took to obtain a connection from the pool."
        )
        self._timeouts = meter.create_counter(
            "db.client.connection.timeouts", "{timeout}", "Waits for a connection that ended in vain."
        )
        self._monitor = monitor
        self._sent: dict[str, int] = {}

    def send(self) -> int:
        """Send what has been measured since the last call; return how many measurements that were.

        Only raw measurements that are still kept can be sent; how many had been dropped before is logged.
        """
        sent = 0
        for each in self._monitor.snapshot():
            before = self._sent.get(each.name, 0)
            due = each.count - before if each.count >= before else each.count  # the monitor was reset between
            new = each.recent[-due:] if due else ()
            if len(new) < due:
                _log.warning(
                    "%d measurements of %r were dropped before they could be sent; send more often",
                    due - len(new),
                    each.name,
                    extra={"dropped": due - len(new), "operation": each.name},
                )
            self._sent[each.name] = each.count
            self._send(each, new)
            sent += len(new)
        return sent

    def _send(self, each: Snapshot, new: Sequence[Raw]) -> None:
        for raw in new:
            seconds, end, error, _, metadata = raw
            facts = dict(metadata or {})
            failed = {"error.type": error} if error else {}
            kind = self._trace.SpanKind.INTERNAL
            span_name, shown = each.name, {}
            if each.kind == "request":
                kind, span_name, shown = (
                    self._trace.SpanKind.CLIENT,
                    *self._request(each.name, seconds, facts, failed),
                )
            elif each.kind == "wait":
                shown = {"db.client.connection.pool.name": str(facts.get("pool", ""))}
                self._waits.record(seconds, shown)
                if error:
                    self._timeouts.add(1, shown)
            else:
                self._own.record(seconds, {"operation": each.name, **failed})
                shown = {f"analysis_kit.{key}": str(value) for key, value in facts.items()}
            start_ns, end_ns = int((end - seconds) * 1e9), int(end * 1e9)
            span = self._tracer.start_span(
                span_name, kind=kind, start_time=start_ns, attributes={**shown, **failed}
            )
            if error:
                span.set_status(self._trace.StatusCode.ERROR, error)
            span.end(end_time=end_ns)

    def _request(
        self, name: str, seconds: float, facts: dict[str, Any], failed: dict[str, str]
    ) -> tuple[str, dict[str, Any]]:
        """Record a request's metrics; return its span's name and attributes."""
        endpoint = name.removeprefix("ollama ")
        model, server = str(facts.get("model", "")), urlsplit(str(facts.get("host", "")))
        shown: dict[str, Any] = {
            "gen_ai.operation.name": _GEN_AI.get(endpoint, endpoint),
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": model,
            "server.address": server.hostname or "",
        }
        if server.port:
            shown["server.port"] = server.port
        self._requests.record(seconds, {**shown, **failed})
        first = facts.get("first_token_s", math.nan)
        if math.isfinite(first):
            self._first.record(first, shown)
        read, written = facts.get("prompt_tokens", 0), facts.get("generated_tokens", 0)
        for kind, amount in (("input", read), ("output", written)):
            if amount:
                self._tokens.record(amount, {**shown, "gen_ai.token.type": kind})
        usage = {"gen_ai.usage.input_tokens": read, "gen_ai.usage.output_tokens": written}
        return f"{shown['gen_ai.operation.name']} {model}".strip(), {**shown, **usage}

# ruff: noqa: SLF001 - the monitor's own ear
"""How the kit's events become operations of a monitor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from analysis_kit.events import Event, OperationTimed, RequestFinished, SlotWaited, UnitFinished
from analysis_kit.monitor.records import Kind, Operation, Split

if TYPE_CHECKING:
    from analysis_kit.monitor.monitor import PerformanceMonitor

_SERVER_PARTS = ("queue_s", "load_s", "prompt_s", "generate_s")


def take_in(monitor: PerformanceMonitor, event: Event) -> None:
    """Record what ``event`` says; see `PerformanceMonitor.handle` for the rules."""
    if isinstance(event, UnitFinished):
        _unit(monitor, event)
    elif isinstance(event, RequestFinished):
        _request(monitor, event)
    elif isinstance(event, SlotWaited):
        operation = _operation(monitor, "pool wait", "wait")
        error = None if event.ok else "PoolTimeoutError"
        monitor._add(operation, event.wait_s, error, {"pool": event.pool, "host": event.host})
        _split(monitor, operation, {"wait_s": event.wait_s})
    elif isinstance(event, OperationTimed):
        error = None if event.ok else event.error_type or "Exception"
        monitor._add(monitor._measured[event.name], event.duration_s, error, None)


def _unit(monitor: PerformanceMonitor, event: UnitFinished) -> None:
    facts: dict[str, Any] = {"unit": event.unit, "status": event.status}
    if event.status == "cached":
        operation = _operation(monitor, f"{event.analyzer} (cached)", "operation")
        monitor._add(operation, event.duration_s, None, facts)
    elif event.status != "not started" and event.analyzer not in monitor._measured:
        error = None if event.status == "done" else event.error_type or event.status
        monitor._add(_operation(monitor, event.analyzer, "operation"), event.duration_s, error, facts)


def _request(monitor: PerformanceMonitor, event: RequestFinished) -> None:
    parts = {part: getattr(event, part) for part in _SERVER_PARTS}
    inside = sum(parts.values())  # NaN as soon as one is not known
    parts["other_s"] = max(0.0, event.duration_s - inside) if math.isfinite(inside) else math.nan
    parts["first_token_s"] = event.first_token_s
    tokens = {"prompt_tokens": event.prompt_tokens, "generated_tokens": event.generated_tokens}
    operation = _operation(monitor, f"ollama {event.endpoint.removeprefix('/api/')}", "request")
    error = None if event.ok else event.error_type or "Exception"
    facts = {"host": event.host, "model": event.model, **parts, **tokens}
    monitor._add(operation, event.duration_s, error, facts)
    _split(monitor, operation, parts, **tokens)


def _operation(monitor: PerformanceMonitor, name: str, kind: Kind) -> Operation:
    return monitor._operations.get(name) or monitor._admit(name, kind, measured=False)


def _split(monitor: PerformanceMonitor, operation: Operation, parts: dict[str, float], **tokens: int) -> None:
    with monitor._lock:
        if operation.split is None:
            operation.split = Split()
        operation.split.add(parts, **tokens)

"""A monitor as JSON: strict (no NaN), versioned, and written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analysis_kit.errors import ConfigurationError
from analysis_kit.frames import json_text
from analysis_kit.monitor.records import Measurement
from analysis_kit.monitor.summary import find_bottlenecks, whole

if TYPE_CHECKING:
    from analysis_kit.monitor.monitor import PerformanceMonitor

#: Names the layout of the file; the number changes when a reader has to.
SCHEMA: Final = "analysis_kit.performance/1"


def to_document(monitor: PerformanceMonitor) -> dict[str, Any]:
    """Return everything ``monitor`` knows as one JSON-ready mapping.

    ``schema``; ``exported_at`` (UTC); ``max_metrics``, ``alert_threshold`` (s); ``total_operations``, ``total_time``
    (s), ``total_failures``, without what takes place inside operations; ``operations``: name -> the fields of `OperationStats`; ``splits``: name -> the columns of
    ``split_frame``; ``bottlenecks``; ``alerts``; ``alert_count``; ``records``: the raw measurements kept.
    """
    snapshots = monitor.snapshot()
    shown = whole(snapshots)
    raw = sorted(
        ((each.name, kept) for each in snapshots for kept in each.recent), key=lambda pair: pair[1][1]
    )
    return {
        "schema": SCHEMA,
        "exported_at": datetime.now(UTC).isoformat(),
        "max_metrics": monitor.max_metrics,
        "alert_threshold": monitor.alert_threshold,
        "total_operations": sum(each.count for each in shown),
        "total_time": sum(each.total for each in shown),
        "total_failures": sum(each.failures for each in shown),
        "operations": {each.name: asdict(each.stats()) for each in snapshots},
        "splits": {each.name: each.split.to_record() for each in snapshots if each.split},
        "bottlenecks": find_bottlenecks(snapshots, 0.95),
        "alert_count": monitor.alert_count,
        "alerts": [_plain(alert.to_record()) for alert in monitor.alerts],
        "records": [_plain(Measurement.of(name, kept).to_record()) for name, kept in raw],
    }


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    times = {key: value.isoformat() for key, value in record.items() if isinstance(value, datetime)}
    metadata = record["metadata"]
    return {**record, **times, "metadata": None if metadata is None else json.loads(metadata)}


def write_json(monitor: PerformanceMonitor, path: str | os.PathLike[str]) -> None:
    """Write `to_document` to ``path``; see `PerformanceMonitor.export_to_json`."""
    document = to_document(monitor)
    records = ",\n".join(map(json_text, document.pop("records")))
    head = [f"{json_text(key)}: {json_text(value)}" for key, value in document.items()]
    write_text(path, "{\n" + ",\n".join(head) + ',\n"records": [\n' + records + "\n]\n}\n")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` by way of a file beside it, so that a reader sees the old or the new one, never half.

    Raises
    ------
    ConfigurationError
        If it cannot be written; then nothing new is left behind, and what was there is unchanged.
    """
    target = Path(path).expanduser()
    aside: Path | None = None
    try:
        target = target.resolve()  # what a link points at is replaced, not the link
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{secrets.token_hex(8)}.tmp")
        with aside.open("x", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    except OSError as exc:
        if aside is not None:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
        raise ConfigurationError(
            f"{str(target)!r} cannot be written: {exc.strerror or exc}; name a file in a folder that can be written to"
        ) from exc

"""A run's rows as tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from analysis_kit import frames
from analysis_kit.results import Examined, Finding, Row

if TYPE_CHECKING:
    import pandas as pd

_NOTHING = Examined(Finding())


def _kept(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.keep))


def rows_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return one line per row, with `frames.ROW_COLUMNS` and the kept columns of the data."""
    return frames.frame(map(_record, rows), frames.ROW_COLUMNS, extra=_kept(rows))


def _record(row: Row) -> dict[str, Any]:
    done = row.examined or _NOTHING
    finding = done.finding
    confidence = finding.values.get("confidence")
    asked = bool(done.host)
    return {
        **row.keep,
        "document": row.document,
        "by": row.by,
        "unit": row.unit,
        "position": row.position,
        "analyzer": row.analyzer,
        "model": done.model or row.model or None,
        "repeat": row.repeat,
        "status": row.status,
        "score": finding.score,
        "label": finding.label,
        "confidence": confidence if isinstance(confidence, (int, float)) else None,
        "values": dict(finding.values) if row.examined else None,
        "evidence": [asdict(span) for span in finding.evidence] if row.examined else None,
        "flags": ";".join(finding.flags) if row.examined else None,
        "method": finding.method or None,
        "cached": row.status == "cached",
        "attempts": row.attempts,
        "duration_s": row.duration_s,
        **asdict(done.split),
        # an answer is at least a token, as is its prompt: none means that the server (an older one, of a prompt it had
        # kept) did not count
        "prompt_tokens": (asked and done.prompt_tokens) or None,
        "generated_tokens": (asked and done.generated_tokens) or None,
        "host": done.host or None,
        "digest": done.digest or None,
        "words": row.words,
        "started_at": row.started_at,
        "error_type": row.error_type or None,
        "error": row.error or None,
    }


def failures_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return every row that has no answer, with its reason: `frames.FAILURE_COLUMNS`."""
    records = [
        {
            "document": row.document,
            "by": row.by,
            "unit": row.unit,
            "analyzer": row.analyzer,
            "model": row.model or None,
            "repeat": row.repeat,
            "status": row.status,
            "attempts": row.attempts,
            "duration_s": row.duration_s,
            "error_type": row.error_type or None,
            "error": row.error or None,
        }
        for row in rows
        if row.examined is None
    ]
    return frames.frame(records, frames.FAILURE_COLUMNS)


def numbers_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Return one line per number that `NumericalAnalyzer` found: `frames.NUMBER_COLUMNS`."""
    known = {column.name for column in frames.NUMBER_COLUMNS}
    records = []
    for row in rows:
        numbers = row.examined.finding.values.get("numbers") if row.examined else None
        for number in numbers or ():
            fields = {("unit_of_value" if name == "unit" else name): value for name, value in number.items()}
            place = {"document": row.document, "by": row.by, "unit": row.unit}
            records.append({**{name: value for name, value in fields.items() if name in known}, **place})
    return frames.frame(records, frames.NUMBER_COLUMNS)


def wide_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return one line per document and unit: ``<analyzer>.score``, ``.label`` and each plain value as columns.

    Several models or repeats of an analyzer are told apart in the column name: ``sentiment[llama3.2].score``,
    ``sentiment#1.score``.
    """
    models: dict[str, set[str]] = {}
    for row in rows:
        models.setdefault(row.analyzer, set()).add(_model(row))
    lines: dict[tuple[str, str, str, int], dict[str, Any]] = {}
    for row in rows:
        key = (row.document, row.by, row.unit, row.position)
        place = {"document": row.document, "by": row.by, "unit": row.unit, "words": row.words, **row.keep}
        line = lines.setdefault(key, place)
        name = row.analyzer + (f"[{_model(row)}]" if len(models[row.analyzer]) > 1 else "")
        name += f"#{row.repeat}" if row.repeat else ""
        if row.examined is not None:
            finding = row.examined.finding
            found = {"score": finding.score, "label": finding.label, **finding.values}
            line.update(
                {
                    f"{name}.{key}": value
                    for key, value in found.items()
                    if isinstance(value, (str, int, float, bool))
                }
            )
    columns = list(dict.fromkeys(name for line in lines.values() for name in line))
    return frames.frame(lines.values(), (), extra=columns)


def _model(row: Row) -> str:
    # as it was asked for first: a failed row knows nothing else, and must share its column with the rest
    return row.model or (row.examined.model if row.examined else "")


def prompt_text(row: Row) -> str | None:
    """Return the exact request of a row as a command to paste, and the server's raw reply; None where no model was asked."""
    exchange = row.examined.exchange if row.examined else None
    if exchange is None:
        return None
    request = json.dumps(exchange.request, ensure_ascii=False, indent=1).replace("'", "'\\''")
    reply = json.dumps(exchange.reply, ensure_ascii=False, indent=1)
    return f"curl {exchange.host}{exchange.endpoint} -d '{request}'\n\n# the reply:\n{reply}\n"

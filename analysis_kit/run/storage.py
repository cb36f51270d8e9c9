"""A finished run as a JSON file, and back; never a pickle."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from analysis_kit.errors import ConfigurationError
from analysis_kit.frames import json_text
from analysis_kit.monitor.export import write_text
from analysis_kit.results import Examined, Row, TimeSplit
from analysis_kit.run.units import Unit

FORMAT = "analysis_kit run 1"


@dataclass(frozen=True, slots=True)
class SavedRun:
    """What the file holds."""

    units: list[Unit]
    rows: list[Row]
    notices: list[str]
    wall_s: float


def save_run(
    path: str | Path, *, units: Sequence[Unit], rows: Sequence[Row], notices: Sequence[str], wall_s: float
) -> None:
    """Write a run to ``path``, whole or not at all; what is not finite becomes null.

    Raises
    ------
    ConfigurationError
        If it cannot be written.
    """
    data = {
        "format": FORMAT,
        "units": [{**asdict(unit), "keep": _told(unit.keep)} for unit in units],
        "rows": [_row_dict(row) for row in rows],
        "notices": list(notices),
        "wall_s": wall_s,
    }
    write_text(path, json_text(data))


def _times() -> dict[str, tuple[type, Callable[[str], Any]]]:
    """Return the kinds of kept values that JSON has no word for: their class, and how to read what `_told` wrote."""
    import pandas as pd

    return {
        "kept time": (datetime, pd.Timestamp),
        "kept date": (date, date.fromisoformat),
        "kept duration": (timedelta, pd.Timedelta),
        "kept period": (pd.Period, lambda told: pd.Period(told[0], freq=told[1])),
    }


def _told(keep: Mapping[str, Any]) -> dict[str, Any]:
    """Return kept values as JSON has them; ``{"kept time": "2025-01-31 ..."}`` for a time, null for what is missing."""
    import pandas as pd

    kinds = _times().items()
    told: dict[str, Any] = {}
    for column, value in keep.items():
        kind = next((kind for kind, (cls, _) in kinds if isinstance(value, cls)), None)
        missing = value is pd.NaT or value is pd.NA
        if kind == "kept period":  # its text alone does not say when its year or week begins
            told[column] = {kind: [str(value.start_time), value.freqstr]}
        else:
            told[column] = None if missing else value if kind is None else {kind: str(value)}
    return told


def _kept(told: Mapping[str, Any]) -> dict[str, Any]:
    kinds = _times()
    keep: dict[str, Any] = {}
    for column, value in told.items():
        kind = next(iter(value)) if isinstance(value, dict) and len(value) == 1 else None
        keep[column] = kinds[kind][1](value[kind]) if kind in kinds else value
    return keep


def _row_dict(row: Row) -> dict[str, Any]:
    data = {name: getattr(row, name) for name in Row.__slots__ if name != "examined"}
    data["keep"] = _told(row.keep)
    data["started_at"] = row.started_at.isoformat() if row.started_at else None
    if row.examined is not None:
        data["examined"] = {**row.examined.to_dict(), "split": asdict(row.examined.split)}
    return data


def load_run(path: str | Path) -> SavedRun:
    """Return the run that `save_run` wrote.

    Raises
    ------
    ConfigurationError
        If the file is not a saved run.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise ValueError(f"it holds {data['format']!r}, not {FORMAT!r}")
        units = [Unit(**{**unit, "keep": _kept(unit["keep"])}) for unit in data["units"]]
        rows = [_row(row) for row in data["rows"]]
        return SavedRun(units, rows, data["notices"], data["wall_s"])
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        fault = f"it has no {exc}" if isinstance(exc, KeyError) else exc
        raise ConfigurationError(f"{path} is not a saved run: {fault}") from exc


def _row(data: dict[str, Any]) -> Row:
    examined = data.pop("examined", None)
    started = data.pop("started_at", None)
    duration = data.pop("duration_s", None)
    data["keep"] = _kept(data["keep"])
    if examined is not None:
        split = {name: _number(value) for name, value in examined.pop("split").items()}
        answer = Examined.from_dict(examined)
        data["examined"] = Examined(
            answer.finding,
            cached=data["status"] == "cached",
            split=TimeSplit(**split),
            **{name: getattr(answer, name) for name in ("host", "model", "digest", "exchange")},
            prompt_tokens=answer.prompt_tokens,
            generated_tokens=answer.generated_tokens,
        )
    return Row(
        **data, started_at=datetime.fromisoformat(started) if started else None, duration_s=_number(duration)
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value

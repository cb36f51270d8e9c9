"""A monitor's snapshot as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from analysis_kit.frames import FLOAT, INT, SPLIT_COLUMNS, STATS_COLUMNS, Column, frame
from analysis_kit.monitor.estimates import mean_interval
from analysis_kit.monitor.records import Snapshot
from analysis_kit.monitor.stats import busy_time, rate, stats_row

if TYPE_CHECKING:
    import pandas as pd

MORE_STATS: Final = (
    Column("avg_low_s", FLOAT, "s", "lower end of the 95 % interval of avg_s"),
    Column("avg_high_s", FLOAT, "s", "upper end of the 95 % interval of avg_s"),
    Column("busy_s", FLOAT, "s", "in which at least one was running"),
    Column("per_busy_s", FLOAT, "1/s", "how many ended in a second of busy_s"),
)
MORE_SPLIT: Final = (
    Column("prompt_tokens", INT, "tokens", "read"),
    Column("generated_tokens", INT, "tokens", "written"),
    Column("tokens_per_s", FLOAT, "tokens/s", "written in a second of generate_s"),
    Column("first_token_s", FLOAT, "s", "mean time to the first token of streamed answers"),
)


def stats_table(snapshots: Sequence[Snapshot]) -> pd.DataFrame:
    """Return one line per operation: `frames.STATS_COLUMNS`, then `MORE_STATS`."""
    return frame(map(_stats_record, snapshots), STATS_COLUMNS, extra=MORE_STATS)


def _stats_record(each: Snapshot) -> dict[str, Any]:
    durations = each.durations()
    mean = mean_interval(durations)
    busy = busy_time((raw[1] - raw[0], raw[1]) for raw in each.recent)
    return {
        **stats_row(each.name, each.stats(), durations, each.by_rank()),
        "avg_low_s": mean.low,
        "avg_high_s": mean.high,
        "busy_s": busy,
        "per_busy_s": rate(len(durations), busy),
    }


def split_table(snapshots: Sequence[Snapshot]) -> pd.DataFrame:
    """Return where requests spent their time: `frames.SPLIT_COLUMNS`, then `MORE_SPLIT`."""
    records = ({"operation": each.name, **each.split.to_record()} for each in snapshots if each.split)
    return frame(records, SPLIT_COLUMNS, extra=MORE_SPLIT)

"""What a monitor holds: one `Operation` a name, its recent durations and its sums; and frozen copies of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from analysis_kit.frames import json_text
from analysis_kit.monitor.estimates import NAN, ranked
from analysis_kit.monitor.sketch import LogSketch
from analysis_kit.monitor.stats import OperationStats, summarise_by_rank

Kind = Literal["operation", "request", "wait"]
Raw = tuple[float, float, str | None, str, Mapping[str, Any] | None]
"""A measurement as it is stored: seconds, end (since 1970, UTC), error type, thread, metadata."""

_FIELDS = 5  # of `Raw`

#: So many measurements of one operation wait before they are added up; fewer cost more, more cost memory.
BATCH = 256

PARTS = ("wait_s", "queue_s", "load_s", "prompt_s", "generate_s", "other_s")


class Measurement(NamedTuple):
    """One measurement: how long an operation took, once."""

    operation: str
    duration_s: float
    started_at: datetime
    ok: bool
    error_type: str | None
    thread: str
    metadata: Mapping[str, Any]

    @classmethod
    def of(cls, operation: str, raw: Raw) -> Measurement:
        """Return what ``raw`` says about ``operation``."""
        seconds, end, error, thread, metadata = raw
        started = datetime.fromtimestamp(end - seconds, UTC)
        return cls(operation, seconds, started, error is None, error, thread, metadata or {})

    def to_record(self) -> dict[str, Any]:
        """Return it as a record of `frames.METRIC_COLUMNS`."""
        return self._asdict() | {"metadata": metadata_text(self.metadata)}


class Alert(NamedTuple):
    """One measurement that took longer than the threshold; ``at`` is when it ended, UTC."""

    operation: str
    duration_s: float
    threshold_s: float
    at: datetime
    metadata: Mapping[str, Any]

    def to_record(self) -> dict[str, Any]:
        """Return it as a record of `frames.ALERT_COLUMNS`."""
        return self._asdict() | {"metadata": metadata_text(self.metadata)}


def metadata_text(metadata: Mapping[str, Any]) -> str | None:
    """Return ``metadata`` as JSON text, None if there is none; what cannot be written says so in its place."""
    if not metadata:
        return None
    try:
        return json_text(metadata)
    except Exception:  # noqa: BLE001 - a caller's object may fail in any way, and must not spoil an export
        return json_text({str(name): _readable(value) for name, value in metadata.items()})


def _readable(value: Any) -> Any:
    try:
        json_text(value)
    except Exception as exc:  # noqa: BLE001 - as above
        return f"unreadable: {type(exc).__name__}"
    return value


class Split:
    """Where the requests of one operation spent their time: a sum for each part, over those that told it."""

    __slots__ = (
        "generated_tokens",
        "prompt_tokens",
        "requests",
        "sums",
        "told",
        "writing_s",
        "written_tokens",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.sums: dict[str, float] = {}
        self.told: dict[str, int] = {}
        self.prompt_tokens = self.generated_tokens = self.written_tokens = 0
        self.writing_s = 0.0

    def add(self, parts: Mapping[str, float], *, prompt_tokens: int = 0, generated_tokens: int = 0) -> None:
        """Add one request; a part that is NaN was not told."""
        self.requests += 1
        self.prompt_tokens += prompt_tokens
        self.generated_tokens += generated_tokens
        for part, seconds in parts.items():
            if math.isfinite(seconds):
                self.sums[part] = self.sums.get(part, 0.0) + seconds
                self.told[part] = self.told.get(part, 0) + 1
        if parts.get("generate_s", 0.0) > 0:  # a rate needs both: tokens, and the time they took
            self.writing_s += parts["generate_s"]
            self.written_tokens += generated_tokens

    def copy(self) -> Split:
        """Return an independent copy."""
        twin = Split()
        for name in Split.__slots__:
            value = getattr(self, name)
            setattr(twin, name, dict(value) if isinstance(value, dict) else value)
        return twin

    def to_record(self) -> dict[str, Any]:
        """Return it as a record of `frames.SPLIT_COLUMNS` with tokens; NaN where no request told."""
        first = self.told.get("first_token_s", 0)
        return {
            "requests": self.requests,
            **{part: self.sums.get(part, NAN) for part in PARTS},
            "prompt_tokens": self.prompt_tokens,
            "generated_tokens": self.generated_tokens,
            "tokens_per_s": self.written_tokens / self.writing_s if self.writing_s else NAN,
            "first_token_s": self.sums["first_token_s"] / first if first else NAN,
        }


class Operation:
    """All that is kept about one name. ``raw`` anyone extends without a lock; all else is guarded by the monitor's.

    ``raw`` holds the fields of each `Raw` one after the other: a list takes five values in one indivisible step, and
    a tuple to hold them would cost a twentieth of a measurement, and the garbage collector a look at each.

    Parameters
    ----------
    name : str
    kind : {"operation", "request", "wait"}
    owner : object
        The monitor; a measurement finds its threshold there.
    """

    __slots__ = (
        "count",
        "failed",
        "failures",
        "folded",
        "kind",
        "left",
        "longest",
        "name",
        "owner",
        "raw",
        "shortest",
        "sketch",
        "split",
        "total",
    )

    def __init__(self, name: str, kind: Kind, owner: Any) -> None:
        self.name = name
        self.kind: Kind = kind
        self.owner = owner
        self.raw: list[Any] = []
        self.folded = 0  # how many measurements of raw are added up
        self.left = BATCH  # until it is time to fold
        self.count = 0
        self.failures = 0
        self.failed = False
        self.total = 0.0
        self.shortest = math.inf
        self.longest = 0.0
        self.sketch = LogSketch()
        self.split: Split | None = None

    def fail(self, kind: type[BaseException]) -> str | None:
        """Return the name of a failure; None for ``GeneratorExit``, which says that a consumer had enough."""
        if kind is GeneratorExit:
            return None
        self.failed = True
        return kind.__name__

    def fold(self) -> int:
        """Add up what was appended since the last time; return how much it was. The caller holds the monitor's lock."""
        batch = self.raw[self.folded * _FIELDS :]
        size = len(batch) // _FIELDS
        if not size:
            return 0
        self.folded += size
        durations = batch[::_FIELDS]
        self.count += size
        if self.failed:  # never set back: a failure may have been marked whose measurement is yet to come
            self.failures += size - batch[2::_FIELDS].count(None)
        self.total += sum(durations)
        low, high = min(durations), max(durations)
        self.shortest = min(self.shortest, low)
        self.longest = max(self.longest, high)
        self.sketch.add(durations)
        return size

    def drop(self, size: int) -> None:
        """Let go of the oldest ``size`` of what was added up. The caller holds the monitor's lock."""
        del self.raw[: size * _FIELDS]
        self.folded -= size

    def snapshot(self) -> Snapshot:
        """Return a copy of everything; the caller holds the monitor's lock."""
        return Snapshot(
            name=self.name,
            kind=self.kind,
            count=self.count,
            failures=self.failures,
            total=self.total,
            shortest=self.shortest,
            longest=self.longest,
            kept=self.raw[: self.folded * _FIELDS],
            sketch=self.sketch.copy() if self.count > self.folded else None,
            split=None if self.split is None else self.split.copy(),
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An operation at one moment. ``sketch`` is there only when not every measurement is among those ``kept``."""

    name: str
    kind: Kind
    count: int
    failures: int
    total: float
    shortest: float
    longest: float
    kept: list[Any]
    sketch: LogSketch | None
    split: Split | None

    @property
    def recent(self) -> list[Raw]:
        """The measurements at hand, in the order in which they ended."""
        fields = iter(self.kept)
        return list(zip(fields, fields, fields, fields, fields, strict=True))

    def durations(self) -> list[float]:
        """Return the seconds at hand, in order of time."""
        return self.kept[::_FIELDS]

    def by_rank(self) -> Callable[[int], float]:
        """Return what gives the duration at a rank of all time, counted from 0 in ascending order."""
        sketch = self.sketch
        if sketch is None:
            return ranked(self.durations())
        return lambda rank: min(max(sketch.at(rank), self.shortest), self.longest)

    def count_up_to(self, limit: float) -> int:
        """Return how many took at most ``limit`` seconds."""
        if self.sketch is None:
            return sum(seconds <= limit for seconds in self.durations())
        return self.sketch.up_to(limit)

    def stats(self) -> OperationStats:
        """Return the statistics."""
        return summarise_by_rank(
            self.by_rank(),
            count=self.count,
            total=self.total,
            shortest=self.shortest,
            longest=self.longest,
            failure_count=self.failures,
            source="exact" if self.sketch is None else "sketch",
            kind=self.kind,
        )

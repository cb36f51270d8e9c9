"""What an analysis says: `Finding`, and the row that a run keeps about each unit. All frozen, all JSON at heart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

from analysis_kit.errors import ConfigurationError

NAN = float("nan")
#: What rounding may put a score beyond its ends, also in 32 bits.
_ROUNDING = 1e-6

Status = Literal["done", "cached", "failed", "cancelled", "not started"]


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of the unit's text that supports a finding: ``text[start:end]``, and why it counts."""

    start: int
    end: int
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one analyzer says about one unit.

    Parameters
    ----------
    score : float or None
        In [-1, 1], where the analyzer has a scale; else None.
    label : str or None
        One word of the analyzer's closed list.
    values : mapping
        Everything else the analyzer found, as JSON values.
    evidence : tuple of Span
        Where in the text it was found.
    method : str
        How it was found: ``"rules"``, or the model's name.
    flags : tuple of str
        What to know before trusting it (``"prompt clipped"``, ``"demo model"``, ``"score clamped"``).

    Examples
    --------
    >>> Finding(score=0.5, label="positive", method="rules").label
    'positive'
    """

    score: float | None = None
    label: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    evidence: tuple[Span, ...] = ()
    method: str = ""
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        score: Any = self.score
        try:
            known = score is None or bool(-1 - _ROUNDING <= score <= 1 + _ROUNDING)
        except (TypeError, ValueError):  # a text, an array
            known = False
        if not known:
            raise ConfigurationError(
                f"a finding has score={score!r}, which is not from -1 to 1; put what has another scale into values"
            )
        if score is not None and abs(score) > 1:
            object.__setattr__(self, "score", math.copysign(1.0, score))

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return {
            "score": self.score,
            "label": self.label,
            "values": dict(self.values),
            "evidence": [asdict(span) for span in self.evidence],
            "method": self.method,
            "flags": list(self.flags),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the finding that `to_dict` wrote."""
        finding = cls(
            label=data.get("label"),
            values=dict(data.get("values") or {}),
            evidence=tuple(Span(**span) for span in data.get("evidence") or ()),
            method=data.get("method", ""),
            flags=tuple(data.get("flags") or ()),
        )
        object.__setattr__(finding, "score", data.get("score"))  # unchecked: what was kept stays readable
        return finding


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """Where a unit's time went, in seconds; NaN where it cannot be known.

    ``wait_s`` our pool, ``queue_s`` inside the server and not accounted for by the next three, ``load_s``,
    ``prompt_s``, ``generate_s``, ``other_s`` client and network.
    """

    wait_s: float = NAN
    queue_s: float = NAN
    load_s: float = NAN
    prompt_s: float = NAN
    generate_s: float = NAN
    other_s: float = NAN


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange with a model: the request as sent, and the server's reply, both as JSON values."""

    host: str
    endpoint: str
    request: Mapping[str, Any]
    reply: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Examined:
    """A finding with how it was come by; what `BaseAnalyzer.examine` returns."""

    finding: Finding
    cached: bool = False
    attempts: int = 1
    duration_s: float = NAN
    split: TimeSplit = TimeSplit()
    host: str = ""
    model: str = ""
    digest: str = ""
    prompt_tokens: int = 0
    generated_tokens: int = 0
    exchange: Exchange | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what a cache keeps, as JSON values: the answer and who gave it; not the time it took then."""
        return {
            "finding": self.finding.to_dict(),
            "host": self.host,
            "model": self.model,
            "digest": self.digest,
            "prompt_tokens": self.prompt_tokens,
            "generated_tokens": self.generated_tokens,
            "exchange": None if self.exchange is None else asdict(self.exchange),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return what `to_dict` wrote, as an answer that took no attempt."""
        exchange = data.get("exchange")
        return cls(
            finding=Finding.from_dict(data["finding"]),
            cached=True,
            attempts=0,
            host=data["host"],
            model=data["model"],
            digest=data["digest"],
            prompt_tokens=data["prompt_tokens"],
            generated_tokens=data["generated_tokens"],
            exchange=None if exchange is None else Exchange(**exchange),
        )


@dataclass(frozen=True, slots=True)
class Row:
    """What a run knows about one document x unit x analyzer (x model x repeat)."""

    document: str
    by: str
    unit: str
    position: int
    analyzer: str
    model: str = ""
    repeat: int = 0
    status: Status = "not started"
    examined: Examined | None = None
    error_type: str = ""
    error: str = ""
    attempts: int = 0
    duration_s: float = NAN
    started_at: datetime | None = None
    words: int = 0
    keep: Mapping[str, Any] = field(default_factory=dict)

"""Durations as Go writes them, which is how Ollama has them written."""

from __future__ import annotations

import json
import re

FOR_EVER = float("inf")

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)


def duration_s(text: str) -> float:
    """Return the seconds that ``text`` says; below zero where it begins with a minus.

    Raises
    ------
    ValueError
        If it is no duration, in Go's words.

    Examples
    --------
    >>> duration_s("1h30m"), duration_s("-1.5s"), duration_s("0")
    (5400.0, -1.5, 0.0)
    """
    sign = -1.0 if text.startswith("-") else 1.0
    digits = text[1:] if text[:1] in {"-", "+"} else text
    if digits == "0":
        return 0.0
    parts = _PART.findall(digits)
    if not parts or "".join(number + unit for number, unit in parts) != digits:
        problem = "missing unit in duration" if re.fullmatch(r"[\d.]+", digits) else "invalid duration"
        raise ValueError(f"time: {problem} {json.dumps(text)}")
    return sign * sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def life_s(seconds: float) -> float:
    """Return a model's life in seconds: below zero means for ever."""
    return FOR_EVER if seconds < 0 else seconds

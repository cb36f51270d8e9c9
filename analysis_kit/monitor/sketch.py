"""A bounded sketch of durations: counts in log-linear buckets, so that percentiles of a million values stay cheap."""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Final

#: A percentile read from the sketch is within this share of the exact one (2**-8, rounded up).
RELATIVE_ERROR: Final = 0.004

_BATCH: Final = 8192


class LogSketch:
    """Counts of non-negative numbers, by the upper 16 bits of their single-precision form.

    Those bits are the exponent and the first 7 bits of the fraction, so each power of two is cut into 128 equal
    buckets (the log-linear layout of HdrHistogram), and a bucket's middle is at most 1/256 away from what it holds. From a
    nanosecond to a year there are about 7,000 buckets; only those in use take memory. Zero has a bucket of its own.

    Examples
    --------
    >>> sketch = LogSketch()
    >>> sketch.add(n / 1000 for n in range(1, 1001))
    >>> abs(sketch.at(949) / 0.95 - 1) <= RELATIVE_ERROR
    True
    """

    __slots__ = ("_counts", "_fresh")

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._fresh = array("f")  # counted later, many at a time, which is far cheaper than one by one

    def add(self, values: Iterable[float]) -> None:
        """Count ``values``; each must be finite and 0 or more."""
        self._fresh.extend(values)
        if len(self._fresh) >= _BATCH:
            self._count()

    def _count(self) -> Counter[int]:
        if self._fresh:
            import numpy as np

            upper = np.frombuffer(self._fresh, dtype=np.uint32) >> np.uint32(16)
            buckets, counts = np.unique(upper, return_counts=True)
            self._counts.update(dict(zip(buckets.tolist(), counts.tolist(), strict=True)))
            self._fresh = array("f")
        return self._counts

    def merge(self, other: LogSketch) -> None:
        """Add what ``other`` counted."""
        self._counts.update(other._counts)
        self._fresh.extend(other._fresh)

    def copy(self) -> LogSketch:
        """Return an independent copy."""
        twin = LogSketch()
        twin.merge(self)
        return twin

    def __len__(self) -> int:
        return sum(self._counts.values()) + len(self._fresh)

    def at(self, rank: int) -> float:
        """Return the value at ``rank`` in ascending order, counted from 0; beyond the last one, the last."""
        counts = self._count()
        seen = bucket = 0
        for bucket in sorted(counts):
            seen += counts[bucket]
            if seen > rank:
                break
        return _middle(bucket)

    def up_to(self, limit: float) -> int:
        """Return how many values lie in buckets whose middle is at most ``limit``."""
        return sum(count for bucket, count in self._count().items() if _middle(bucket) <= limit)


def _middle(bucket: int) -> float:
    if bucket == 0:
        return 0.0
    value: float = struct.unpack("f", struct.pack("I", bucket << 16 | 0x8000))[0]
    return value

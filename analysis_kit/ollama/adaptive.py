"""How many requests a host should have at once, found from latency while it works.

An Ollama that is full does not refuse: it queues without a word. So the cap cannot wait for errors; it watches what one
more request brings. By Little's law a host with ``n`` requests in flight that take ``r`` seconds each completes ``n / r``
a second. The cap starts low and grows as long as that grows, and falls back to where only waiting grew. Where the
server's own durations are known, the share of a request's time that it spent queueing says directly how many ran.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass

#: The cap to begin with; a host with fewer slots loses nothing by it, the surplus queues.
START = 4
#: The most requests that a cap ever allows.
HIGHEST = 64

#: Below this share of queueing the host runs all that it is given; above the other the rest only waits.
_NO_QUEUE, _QUEUE = 0.1, 0.3
#: More in flight must bring at least this share of what it would bring if all of it ran: while climbing, and later,
#: when a step is small and chance could be taken for gain.
_WORTH, _WORTH_LATER = 0.15, 0.5
#: Fewer in flight must bring at least this share of the throughput: too many cost only memory, too few cost time.
_SAME = 0.97
#: A sample counts for a cap only if the host had at least this share of it in flight.
_FILLED = 0.7
#: Samples that make a judgement, at least and at most; rounds between two looks around.
_FEWEST, _MOST, _LOOK_EVERY = 4, 16, 3


@dataclass(frozen=True, slots=True)
class Mark:
    """When a request started, and what had been in flight until then."""

    at_s: float
    area: float
    limit: int


class AdaptiveLimit:
    """The cap of one host.

    Parameters
    ----------
    start, highest : int
        The cap to begin with, and the most it may become.

    Examples
    --------
    >>> cap = AdaptiveLimit()
    >>> mark = cap.started()
    >>> cap.finished(mark)
    >>> cap.limit
    4
    """

    def __init__(self, *, start: int = START, highest: int = HIGHEST) -> None:
        self._lock = threading.Lock()  # guards everything below
        self._limit = start
        self._highest = highest
        self._in_flight = 0
        self._area = 0.0  # requests x seconds
        self._changed = time.monotonic()
        self._slots: float | None = None
        self._climbing = True
        self._downwards = False  # where the next look goes, if the server does not say what queues
        self._before: tuple[int, float] | None = None  # the cap before this one, and its throughput
        self._rounds = 0
        self._clear()

    @property
    def limit(self) -> int:
        """Requests that the host should have at once, now."""
        return self._limit

    @property
    def slots(self) -> float | None:
        """Requests that the host was seen to run at once; None before anything is known."""
        return self._slots

    @property
    def in_flight(self) -> int:
        """Requests that the host has now."""
        return self._in_flight

    def started(self) -> Mark:
        """Note that a request was sent."""
        with self._lock:
            now = self._step(1)
            return Mark(now, self._area, self._limit)

    def finished(self, mark: Mark, *, ok: bool = True, queue_s: float = math.nan) -> None:
        """Note that a request is over.

        Parameters
        ----------
        mark : Mark
            What `started` returned for it.
        ok : bool, default True
            Whether it was answered; what was cancelled counts for nothing, use `dropped`.
        queue_s : float, optional
            Seconds it queued inside the server, where known.
        """
        with self._lock:
            now = self._step(-1)
            if not ok:
                if mark.limit == self._limit:  # those sent before the last change are answered by it already
                    self._settle(self._limit // 2)
                return
            elapsed_s = now - mark.at_s
            if elapsed_s <= 0 or mark.limit != self._limit:
                return
            beside = (self._area - mark.area) / elapsed_s
            if beside < _FILLED * self._limit:
                return
            self._count += 1
            self._beside += beside
            self._elapsed_s += elapsed_s
            self._queued_s += queue_s
            if self._count >= self._enough():
                self._judge()

    def dropped(self) -> None:
        """Note that a request is over and tells nothing."""
        with self._lock:
            self._step(-1)

    def _step(self, by: int) -> float:
        now = time.monotonic()
        self._area += self._in_flight * (now - self._changed)
        self._changed = now
        self._in_flight = max(0, self._in_flight + by)
        return now

    def _enough(self) -> int:
        """Return how many samples a judgement needs: where chance alone could decide, as many as are worth waiting for."""
        if not self._climbing:
            return _MOST
        return max(2 * _FEWEST if math.isnan(self._queued_s) else _FEWEST, min(self._limit, _MOST))

    def _clear(self) -> None:
        self._count = 0
        self._beside = self._elapsed_s = self._queued_s = 0.0

    def _judge(self) -> None:
        """Decide after one round of samples at this cap."""
        mean = self._beside / self._count
        rate = self._beside / self._elapsed_s
        share = self._queued_s / self._elapsed_s  # NaN where the server does not say
        if not math.isnan(share):
            ran = mean * (1 - min(1.0, share))
            self._slots = ran if share >= _NO_QUEUE else max(ran, self._slots or 0.0)
        self._clear()
        if share > _QUEUE:
            self._settle(math.ceil(mean * (1 - share) - _NO_QUEUE) + 1)
        elif self._climbing:
            self._climb(rate, share)
        elif self._before is not None:
            self._compare(rate)
        else:
            self._hold(rate, share)

    def _climb(self, rate: float, share: float) -> None:
        if self._before is not None:
            limit, before = self._before
            if rate < before * (1 + _WORTH * (self._limit / limit - 1)):
                self._slots = limit * max(1.0, rate / before)
                self._settle(math.ceil(self._slots))
                return
        if self._limit >= self._highest:
            self._settle(self._limit)
            return
        factor = 4 if self._before is None and share < _NO_QUEUE else 2
        self._before = (self._limit, rate)
        self._limit = min(self._highest, self._limit * factor)

    def _hold(self, rate: float, share: float) -> None:
        """Keep the cap; from time to time try a neighbour, for hosts change, and a climb can end by chance."""
        self._rounds += 1
        if self._rounds >= _LOOK_EVERY:
            step = max(1, self._limit // 4)
            if math.isnan(share):
                self._downwards = not self._downwards
                step = -step if self._downwards else step
            elif share >= _NO_QUEUE:
                return
            other = max(1, min(self._highest, self._limit + step))
            if other != self._limit:
                self._before = (self._limit, rate)
                self._limit = other

    def _compare(self, rate: float) -> None:
        """Stay at a neighbour that brings more, or as much with less in flight; else go back."""
        assert self._before is not None
        limit, before = self._before
        growth = self._limit / limit - 1
        better = rate >= before * (1 + _WORTH_LATER * growth if growth > 0 else _SAME)
        self._settle(self._limit if better else limit)

    def _settle(self, limit: int) -> None:
        self._limit = max(1, min(self._highest, limit))
        self._before = None
        self._climbing = False
        self._rounds = 0
        self._clear()

    def __repr__(self) -> str:
        seen = "" if self._slots is None else f" slots={self._slots:.1f}"
        return f"<AdaptiveLimit {self._limit}{seen} in_flight={self._in_flight}>"

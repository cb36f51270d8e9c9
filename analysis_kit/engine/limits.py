"""What holds an engine back: a rate limit, and the slots that the runs of one engine share."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from typing import Protocol

from analysis_kit.cancellation import CancelToken
from analysis_kit.errors import ConfigurationError

_PERIODS_S = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}


class Cap(Protocol):
    """Says how many units may run now; a pool offers one that follows what its servers can do."""

    @property
    def limit(self) -> int:
        """Units that may run at once, now; at least 1."""


class RateLimit:
    """Spaces starts evenly (GCRA with no burst): "120/min" is one start every 0.5 s, whoever asks.

    Parameters
    ----------
    rate : str
        Count / period: "5/s", "120/min", "1000/hour", "20000/day".

    Raises
    ------
    ConfigurationError
        If ``rate`` has another form, or is not above 0.

    Examples
    --------
    >>> RateLimit("120/min").interval_s
    0.5
    """

    def __init__(self, rate: str) -> None:
        form = re.fullmatch(r"(\d+(?:\.\d+)?)\s*/\s*([a-z]+)", str(rate).strip().lower())
        if form is None or form[2] not in _PERIODS_S or float(form[1]) <= 0:
            raise ConfigurationError(
                f"rate_limit={rate!r} is not a rate: write a count above 0, a slash and s, min, hour or day, as in '120/min'."
            )
        self.interval_s = _PERIODS_S[form[2]] / float(form[1])
        self._next = 0.0
        self._lock = threading.Lock()  # guards _next

    def reserve(self, count: int = 1) -> float:
        """Book ``count`` starts; return the seconds until the first of them."""
        with self._lock:
            now = time.monotonic()
            start = max(self._next, now)
            self._next = start + count * self.interval_s
            return start - now

    def give_back(self, count: int = 1) -> None:
        """Return starts that were booked and will not be used, so that the next run need not wait for them."""
        with self._lock:
            self._next -= count * self.interval_s

    def wait(self, token: CancelToken) -> bool:
        """Block until the next start is due; False, at once, if ``token`` is cancelled first."""
        wait_s = self.reserve()
        if wait_s > 0 and token.wait(wait_s):
            self.give_back()
            return False
        return True

    async def pause(self, count: int = 1) -> None:
        """Wait, on the running loop, until the next ``count`` starts are due."""
        wait_s = self.reserve(count)
        try:
            await asyncio.sleep(wait_s)
        except BaseException:
            self.give_back(count)
            raise


class Member(Protocol):
    """A run, as the slots see it."""

    @property
    def nested(self) -> bool:
        """Whether it was started by a unit of a run that holds slots already."""

    def hire(self) -> None:
        """Put one more worker to work; called on any thread, with no lock held."""


class Slots:
    """Hands out ``limit()`` slots, one a worker, evenly to the runs that want them.

    A run alone has all it wants. When another comes, workers leave between two units until the shares are even. A run
    inside a unit of another run always gets one slot, because its parent waits for it and will give none back.
    """

    def __init__(self, limit: Callable[[], int], *, moving: bool) -> None:
        self.limit = limit
        self.contended = moving
        self._moving = moving
        self._lock = threading.Lock()  # guards the two tables and `contended`
        self._held: dict[Member, int] = {}
        self._wanted: dict[Member, int] = {}

    def enter(self, member: Member, wanted: int) -> None:
        """Let ``member`` share; it is asked to `hire` for each slot it gets, now or later."""
        with self._lock:
            self._held[member] = 0
            self._wanted[member] = wanted
        self.deal()

    def want(self, member: Member, wanted: int) -> None:
        """Have ``member`` want ``wanted`` slots from now on, those that it holds included."""
        with self._lock:
            if member in self._held:
                self._wanted[member] = wanted
        self.deal()

    def leave(self, member: Member) -> None:
        """Take back all that ``member`` holds."""
        with self._lock:
            self._held.pop(member, None)
            self._wanted.pop(member, None)
        self.deal()

    def give_back(self, member: Member, *, done: bool = True) -> None:
        """Take back one slot; with ``done`` the member wants no other in its place."""
        with self._lock:
            if member in self._held:
                self._held[member] -= 1
                if done:
                    self._wanted[member] = self._held[member]
        self.deal()

    def must_yield(self, member: Member) -> bool:
        """Say, between two units, whether this worker's slot is due to another run; it is taken back then."""
        with self._lock:
            held = self._held.get(member, 0)
            limit = max(1, self.limit())
            fair = max(1, limit // max(1, len(self._held)))
            starved = any(
                self._held[other] < min(fair, self._wanted[other])
                for other in self._held
                if other is not member
            )
            due = held > 1 and (sum(self._held.values()) > limit or (starved and held > fair))
            if due:
                self._held[member] = held - 1
        self.deal()
        return due

    def deal(self) -> None:
        """Hand out what is free."""
        hired: list[Member] = []
        with self._lock:
            free = max(1, self.limit()) - sum(self._held.values())
            for member in self._held:
                if member.nested and self._held[member] == 0 < self._wanted[member]:
                    self._held[member] = 1
                    free -= 1
                    hired.append(member)
            while free > 0:
                short = [each for each in self._held if self._held[each] < self._wanted[each]]
                if not short:
                    break
                member = min(short, key=self._held.__getitem__)
                self._held[member] += 1
                free -= 1
                hired.append(member)
            self.contended = self._moving or len(self._held) > 1
        for member in hired:
            member.hire()

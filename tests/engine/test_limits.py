"""The rate limit and the slots, without an engine."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from analysis_kit.cancellation import CancelToken
from analysis_kit.engine.limits import RateLimit, Slots
from analysis_kit.errors import ConfigurationError


@pytest.mark.parametrize(
    ("rate", "interval_s"),
    [
        ("120/min", 0.5),
        ("5/s", 0.2),
        ("2 / seconds", 0.5),
        ("0.5/s", 2.0),
        ("3600/hour", 1.0),
        ("86400/DAY", 1.0),
    ],
)
def test_rates_are_read(rate, interval_s):
    """A count and a period give the seconds between two starts."""
    assert RateLimit(rate).interval_s == pytest.approx(interval_s)


@pytest.mark.parametrize(
    "rate", ["", "120", "0/min", "-1/s", "5/ms", "5/fortnight", "min/5", None, 5, "1e3/s"]
)
def test_what_is_no_rate_is_refused(rate):
    """The message shows what was given and a form that works."""
    with pytest.raises(ConfigurationError, match="'120/min'"):
        RateLimit(rate)


def test_starts_are_evenly_spaced_and_given_back(monkeypatch):
    """Reservations follow each other by the interval; what is given back is free again; a pause earns no burst."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limit = RateLimit("2/s")
    assert [limit.reserve() for _ in range(3)] == [0.0, 0.5, 1.0]
    limit.give_back()
    assert limit.reserve(2) == 1.0
    assert limit.reserve() == 2.0
    now = 200.0
    assert [limit.reserve() for _ in range(2)] == [0.0, 0.5]


def test_the_wall_clock_does_not_matter(monkeypatch):
    """A clock set back changes nothing."""
    limit = RateLimit("1/day")
    limit.reserve()
    before = limit.reserve()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert limit.reserve() > before


def test_a_cancelled_wait_ends_at_once_and_takes_no_start():
    """Threads and coroutines that wait for a start leave when cancelled, and the start is free for the next."""
    limit, token = RateLimit("1/day"), CancelToken()
    assert limit.wait(token)
    threading.Timer(0.01, token.cancel).start()
    assert not limit.wait(token)

    async def main():
        task = asyncio.create_task(limit.pause())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert limit.reserve() <= limit.interval_s


class Worker:
    def __init__(self, *, nested=False):
        self.nested = nested
        self.hired = 0

    def hire(self):
        self.hired += 1


def test_one_run_gets_all_it_wants():
    """Alone, a run gets as many slots as it wants and there are, and nobody asks it between units."""
    slots, alone = Slots(lambda: 4, moving=False), Worker()
    slots.enter(alone, 10)
    assert alone.hired == 4
    assert not slots.contended


def test_runs_share_evenly_and_get_back_what_is_free():
    """A second run gets half as workers of the first yield; when it leaves, the first gets all again."""
    slots, first, second = Slots(lambda: 4, moving=False), Worker(), Worker()
    slots.enter(first, 10)
    slots.enter(second, 10)
    assert (first.hired, second.hired) == (4, 0)
    assert [slots.must_yield(first) for _ in range(4)] == [True, True, False, False]
    assert second.hired == 2
    slots.leave(second)
    assert first.hired == 6


def test_a_run_that_needs_little_takes_little():
    """A run that wants one slot leaves the rest to the other."""
    slots, small, large = Slots(lambda: 4, moving=False), Worker(), Worker()
    slots.enter(small, 1)
    slots.enter(large, 10)
    assert (small.hired, large.hired) == (1, 3)


def test_a_nested_run_always_gets_one():
    """A run that a unit of another waits for starts though no slot is free."""
    slots, parent, child = Slots(lambda: 1, moving=False), Worker(), Worker(nested=True)
    slots.enter(parent, 5)
    slots.enter(child, 5)
    assert child.hired == 1


def test_a_falling_limit_takes_workers_away_and_a_rising_one_hires():
    """Between two units a moving limit is followed in both directions, never below one worker."""
    limit = 4
    slots, member = Slots(lambda: limit, moving=True), Worker()
    slots.enter(member, 10)
    limit = 1
    assert [slots.must_yield(member) for _ in range(4)] == [True, True, True, False]
    limit = 3
    slots.must_yield(member)
    assert member.hired == 4 + 2
    limit = 0
    assert [slots.must_yield(member) for _ in range(3)] == [True, True, False]


def test_what_a_run_wants_can_change():
    """A run that gives a slot back wants no other until it says so."""
    slots, member = Slots(lambda: 2, moving=False), Worker()
    slots.enter(member, 2)
    slots.give_back(member)
    slots.give_back(member)
    assert member.hired == 2
    slots.want(member, 1)
    assert member.hired == 3

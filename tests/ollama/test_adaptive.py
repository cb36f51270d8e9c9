"""The cap finds how many requests a host can use, from latency alone, and follows it."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque

import pytest
from hypothesis import given, strategies

from analysis_kit.ollama import adaptive
from analysis_kit.ollama.adaptive import AdaptiveLimit


class Simulated:
    """A server of ``slots`` that takes ``service(running)`` seconds a request, and a client that keeps to the cap."""

    def __init__(self, monkeypatch, slots, *, service=lambda running: 1.0, tells=True, noise=0.0, seed=1):
        self.now, self.slots, self.service, self.tells, self.noise = 0.0, slots, service, tells, noise
        self.rng = random.Random(seed)
        self.waiting, self.busy, self.events = deque(), 0, []
        monkeypatch.setattr(adaptive.time, "monotonic", lambda: self.now)
        self.cap = AdaptiveLimit()
        self.seen = []

    def run(self, units, fixed=None):
        """Send so many units; return the seconds they took."""
        began, out = self.now, 0
        while units or out:
            while units and out < (fixed or self.cap.limit):
                units, out = units - 1, out + 1
                request = {"mark": self.cap.started(), "came": self.now}
                self.waiting.append(request)
                self._serve()
            self.now, _, request = heapq.heappop(self.events)
            self.busy, out = self.busy - 1, out - 1
            queued = request["begun"] - request["came"] if self.tells else math.nan
            self.cap.finished(request["mark"], queue_s=queued)
            self.seen.append(self.cap.limit)
            self._serve()
        return self.now - began

    def _serve(self):
        while self.waiting and self.busy < self.slots:
            request = self.waiting.popleft()
            request["begun"] = self.now
            self.busy += 1
            took = self.service(self.busy) * (1 + self.noise * self.rng.uniform(-1, 1))
            heapq.heappush(self.events, (self.now + took, id(request), request))


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("slots", [1, 4, 16])
def test_the_cap_comes_near_the_best_fixed_one(monkeypatch, slots, noise, tells):
    """400 units at 1, 4 and 16 slots reach nine tenths of the best fixed cap (a little less where nothing is told)."""
    shares = []
    for seed in range(8):
        best = min(
            Simulated(monkeypatch, slots, noise=noise, seed=seed).run(400, fixed=fixed)
            for fixed in (slots, slots + 2)
        )
        shares.append(best / Simulated(monkeypatch, slots, noise=noise, tells=tells, seed=seed).run(400))
    assert sum(shares) / len(shares) >= (0.9 if tells else 0.87)


@pytest.mark.parametrize("slots", [1, 2, 4, 8, 16])
def test_the_cap_falls_back_to_where_only_waiting_grew(monkeypatch, slots):
    """After looking higher the cap settles near the slots, and knows their number."""
    server = Simulated(monkeypatch, slots)
    server.run(400)
    assert slots <= server.cap.limit <= slots + max(2, slots // 2)
    assert server.cap.slots == pytest.approx(slots, rel=0.2)
    assert max(server.seen) > slots


def test_the_cap_grows_while_throughput_does(monkeypatch):
    """A server that does more at once, each a little slower, is given more as long as that is worth it."""
    server = Simulated(monkeypatch, 64, service=lambda running: 1 + 0.2 * (running - 1), noise=0.3)
    took = server.run(400)
    best = min(
        Simulated(monkeypatch, 64, service=lambda running: 1 + 0.2 * (running - 1), noise=0.3).run(
            400, fixed=fixed
        )
        for fixed in (8, 16, 32, 64)
    )
    assert best / took > 0.85


def test_the_cap_follows_a_host_that_changes(monkeypatch):
    """More slots are found by looking up from time to time, fewer by the queue that they cause."""
    server = Simulated(monkeypatch, 2)
    server.run(200)
    low = server.cap.limit
    server.slots = 12
    server.run(1200)
    assert server.cap.limit >= 10 > low
    server.slots = 2
    server.run(400)
    assert server.cap.limit <= 5


def test_a_refusal_halves_the_cap(monkeypatch):
    """A busy server, or one that timed out, is given half at once."""
    server = Simulated(monkeypatch, 16)
    server.run(200)
    before = server.cap.limit
    server.cap.finished(server.cap.started(), ok=False)
    assert server.cap.limit == before // 2
    for _ in range(9):
        server.cap.finished(server.cap.started(), ok=False)
    assert server.cap.limit == 1


def test_a_burst_of_refusals_is_one_refusal(monkeypatch):
    """Requests that were sent together and fail together halve the cap once, and it finds back to where it was."""
    server = Simulated(monkeypatch, 16)
    server.run(400)
    before = server.cap.limit
    for mark in [server.cap.started() for _ in range(before)]:
        server.cap.finished(mark, ok=False)
    assert server.cap.limit == before // 2
    server.run(1200)
    assert server.cap.limit >= 14


def test_a_host_that_is_not_filled_keeps_its_cap(monkeypatch):
    """A few requests at a time say nothing about more, and what was cancelled says nothing at all."""
    server = Simulated(monkeypatch, 16)
    server.run(100, fixed=1)
    assert server.cap.limit == adaptive.START
    for _ in range(20):
        server.cap.started()
        server.cap.dropped()
    assert (server.cap.limit, server.cap.in_flight) == (adaptive.START, 0)
    assert repr(server.cap).startswith("<AdaptiveLimit 4")


@given(
    strategies.lists(
        strategies.tuples(
            strategies.booleans(),
            strategies.floats(0, 5),
            strategies.floats(0, 5) | strategies.just(math.nan),
        ),
        max_size=60,
    )
)
def test_the_cap_is_always_a_whole_number_in_its_bounds(outcomes):
    """Whatever happens, whatever a server tells, the cap is an int from 1 to the highest."""
    cap = AdaptiveLimit(highest=8)
    marks = []
    for ok, _, queued in outcomes:
        marks.append(cap.started())
        if len(marks) > 3:
            cap.finished(marks.pop(0), ok=ok, queue_s=queued)
        assert isinstance(cap.limit, int)
        assert 1 <= cap.limit <= 8

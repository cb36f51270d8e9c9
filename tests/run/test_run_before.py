"""Before a run, what it will cost is said when it is long; in it, nothing is paid for twice."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from fakes.ollama import FakeOllama, Play

import analysis_kit as ak
from analysis_kit.analyzers.inflight import InFlight
from analysis_kit.monitor.monitor import reset_monitor

ANSWER = json.dumps({"label": "neutral", "score": 0.0, "confidence": 0.5})


def test_a_run_of_more_than_ten_minutes_says_so_before_it_starts():
    """From calls measured in this session the time is predicted; beyond ten minutes one line has the figure."""
    texts = {f"unit {number}": f"Text {number}." for number in range(8)}
    reset_monitor()
    ak.get_monitor().record("sentiment", 400.0)
    with FakeOllama(slots=4, answer=lambda _request: ANSWER) as fake:
        run = ak.run_async(ak.analyze(texts, "sentiment", hosts=fake.url, max_workers=4, dashboard=False))
    assert any("about 13 minutes" in notice for notice in run.notices)


@pytest.mark.parametrize(
    ("answered", "failed", "expected"),
    [
        ([1.0, 3.0, 5.0], [600.0], 3.0),
        ([2.0], [600.0, 600.0], 2.0),
        ([10.0], [0.01] * 3, 10.0),
        ([], [4.0], 4.0),
    ],
    ids=["one of four", "most, by their limit", "most, at once", "all"],
)
def test_calls_that_failed_count_in_no_prediction(answered, failed, expected):
    """However many ran into their limit or were refused: the mean is that of the calls that were answered, if any was."""
    reset_monitor()
    for seconds in answered:
        ak.get_monitor().record("sentiment", seconds)
    for seconds in failed:
        ak.get_monitor().record("sentiment", seconds, error_type="OllamaTimeoutError")
    with FakeOllama(answer=lambda _request: ANSWER) as fake:
        run = ak.analyze({"a": "Text."}, "sentiment", hosts=fake.url, max_workers=1, dashboard=False)
        assert run.estimate().wall_s == expected


def test_a_short_run_says_nothing():
    """Without a long prediction there is no such line."""
    reset_monitor()
    ak.get_monitor().record("sentiment", 0.1)
    with FakeOllama(slots=4, answer=lambda _request: ANSWER) as fake:
        run = ak.run_async(ak.analyze({"a": "Text."}, "sentiment", hosts=fake.url, dashboard=False))
    assert run.notices == []


@pytest.mark.parametrize("runs", [1, 2], ids=["in one run", "in two runs"])
def test_identical_units_in_flight_are_asked_once(runs, monkeypatch):
    """Four workers come with one question at the same time: the model is asked once, and each has its row."""
    gate, waiting, wait = threading.Event(), [], InFlight._wait

    def counted(flight):
        waiting.append(flight)
        if len(waiting) == 3:
            gate.set()
        wait(flight)

    monkeypatch.setattr(InFlight, "_wait", staticmethod(counted))
    texts = {f"unit {number}": "Revenue grew." for number in range(4 // runs)}

    async def together(url):
        made = [
            ak.analyze(texts, "sentiment", hosts=url, max_workers=4, dashboard=False) for _ in range(runs)
        ]
        await asyncio.gather(*map(finished, made))
        return made

    async def finished(run):
        await run

    with FakeOllama(slots=4, answer=lambda _request: ANSWER) as fake:
        for path in ("/api/chat", "/api/generate"):
            fake.script(path, Play(text=ANSWER, gate=gate))
        made = ak.run_async(together(fake.url))
        assert len(fake.asked("/api/chat")) + len(fake.asked("/api/generate")) == 1
    assert sum(run.counts()["done"] for run in made) == 4

"""Before a run: what it will cost is said when it is long."""

from __future__ import annotations

import json

from fakes.ollama import FakeOllama

import analysis_kit as ak
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


def test_a_short_run_says_nothing():
    """Without a long prediction there is no such line."""
    reset_monitor()
    ak.get_monitor().record("sentiment", 0.1)
    with FakeOllama(slots=4, answer=lambda _request: ANSWER) as fake:
        run = ak.run_async(ak.analyze({"a": "Text."}, "sentiment", hosts=fake.url, dashboard=False))
    assert run.notices == []

"""The time split of real requests, against what the server itself saw."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes.ollama import FakeOllama

from analysis_kit import events
from analysis_kit.monitor.monitor import PerformanceMonitor
from analysis_kit.ollama.client import OllamaClient


def test_queue_and_rest_are_what_the_server_saw():
    """Four requests at a server with one slot: the queue's share, and what is left for client and network, match its log."""
    monitor = PerformanceMonitor()
    with FakeOllama(slots=1, delay_s=0.1) as fake:
        stop = events.subscribe(monitor.handle)

        def ask(number):
            client = OllamaClient(fake.url, model="fake:latest")
            try:
                return client.generate(f"question {number}").elapsed_s
            finally:
                client.close()

        try:
            with ThreadPoolExecutor(4) as pool:
                elapsed = sum(pool.map(ask, range(4)))
        finally:
            stop()
        logged = fake.asked("/api/generate")
    queued = sum(each.started - each.arrived for each in logged)
    served = sum(each.ended - each.arrived for each in logged)
    [row] = monitor.split_frame().to_dict("records")
    assert (row["operation"], row["requests"]) == ("ollama generate", 4)
    assert row["queue_s"] == pytest.approx(queued, rel=0.05, abs=0.04)  # 10 ms a request
    assert row["other_s"] == pytest.approx(elapsed - served, rel=0.05, abs=0.04)
    assert monitor.get_stats()["ollama generate"].total_time == pytest.approx(elapsed, rel=0.01)

"""A request that has not reached its server yet: stuck in the name lookup, or in the connect."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import pytest

from analysis_kit.engine.engine import AsyncAnalysisEngine
from analysis_kit.ollama import dial
from analysis_kit.ollama.pool import OllamaConnectionPool


@contextlib.contextmanager
def hung_lookup(monkeypatch):
    """Give the address of a server whose name the system looks up for ever, and what to wait for: that it does."""
    asked, gate, real = threading.Event(), threading.Event(), socket.getaddrinfo

    def look_up(host, *args, **kwargs):
        if host != "hung.test" or socket.AI_NUMERICHOST in args:
            return real(host, *args, **kwargs)
        asked.set()
        gate.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no name server answers")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        yield "http://hung.test:11434", asked.wait
    finally:
        gate.set()


@contextlib.contextmanager
def hung_connect(monkeypatch):
    """Give the address of a server whose queue of connections is full, and what to wait for: that one is tried."""
    asked, real = threading.Event(), dial._look_up
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = [socket.socket() for _ in range(8)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())

    def look_up(*args):
        asked.set()
        return real(*args)

    monkeypatch.setattr(dial, "_look_up", look_up)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked.wait
    finally:
        for each in (*fillers, listener):
            each.close()


@pytest.mark.parametrize("hung", [hung_lookup, hung_connect])
def test_a_request_that_has_not_reached_its_server_is_aborted(hung, monkeypatch, caplog):
    """A cancel reaches a thread in the name lookup or in the connect; no worker is left, and the next run works."""
    with hung(monkeypatch) as (url, until_asked):
        pool = OllamaConnectionPool(2, 0, hosts=[url], connect_timeout_s=120)

        def ask(text):
            with pool.get_connection() as client:
                return client.generate(text, model="fake").text

        async def main():
            engine = AsyncAnalysisEngine(2)
            task = asyncio.create_task(engine.analyze_sections_parallel({"a": "one", "b": "two"}, ask))
            assert await asyncio.to_thread(until_asked, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not [each for each in threading.enumerate() if each.name == "analysis-kit-worker"]
            return await engine.analyze_sections_parallel({"a": "next"}, len)

        try:
            assert asyncio.run(main()) == {"a": 4}
            assert pool.get_stats()["active_connections"] == 0
        finally:
            pool.shutdown()
    assert "left behind" not in caplog.text

"""The Redis store against a real server, also one that goes away."""

import contextlib
import logging
import shutil
import socket
import subprocess
import time

import pytest

from analysis_kit.cache import open_cache, result_cache

pytestmark = pytest.mark.redis


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(port):
    """Run a Redis server on ``port`` and wait until it answers."""
    process = subprocess.Popen(
        [
            shutil.which("redis-server"),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None
            assert time.monotonic() < deadline
        yield process
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def port():
    port = free_port()
    with server(port):
        yield port


@pytest.fixture
def url(port):
    url = f"redis://127.0.0.1:{port}/0"
    yield url
    with open_cache(url) as cache:
        cache.clear()


def test_values_come_back_equal_in_another_process_too(url):
    """What one cache sets another, without its memory, gets: odd texts, nested values, kinds."""
    value = {"label": "positive", "odd": "\ud83d\x00\u200f", "list": [1, 1.5, None, True, {}]}
    with open_cache(url) as cache:
        cache.set("a\ud83d", "kind\ud83d", value)
        cache.set("b", "kind", 2)
    with open_cache(url) as cache:
        assert cache.get("a\ud83d", "kind\ud83d") == value
        assert cache.get("b", "kind") == 2
        assert cache.get("c", "kind") is None


def test_stats_and_clear(url):
    """Entries and bytes are the server's; one kind can be cleared."""
    with open_cache(url) as cache:
        for number in range(2500):
            cache._store.write([(str(number), "a", "1234")])
        cache.set("x", "b", 1)
        stats = cache.stats()
        assert (stats["entries"], stats["bytes"]) == (2501, 10_001)
        cache.clear(kind="a")
        assert cache.stats()["entries"] == 1
        assert cache.get("x", "b") == 1
        cache.clear()
        assert cache.stats()["entries"] == 0
        assert list(cache._store._redis.scan_iter("analysis_kit:*")) == []


def test_the_password_is_not_shown(url):
    """What is displayed and logged names host, port and database only."""
    host = url.removeprefix("redis://")
    cache = open_cache(f"redis://me:secret@{host}")
    assert cache.stats()["place"] == url
    assert "secret" not in repr(cache)
    cache.close()


def test_a_server_that_goes_away_fails_nothing_and_gets_what_it_missed(monkeypatch, caplog):
    """Killed in the middle: gets and sets go on, quickly and with one warning; restarted, it is given what it missed."""
    port, clock = free_port(), [0.0]
    monkeypatch.setattr(result_cache.time, "monotonic", lambda: clock[0])
    url = f"redis://127.0.0.1:{port}/0"
    with caplog.at_level(logging.INFO, "analysis_kit"):
        with server(port) as process:
            cache = open_cache(url)
            cache.set("before", "kind", 1)
            process.kill()
            process.wait(20)
        tries = []
        monkeypatch.setattr(cache._store, "read", counted(cache._store.read, tries))
        monkeypatch.setattr(cache._store, "write", counted(cache._store.write, tries))
        for number in range(100):
            cache.set(f"during {number}", "kind", number)
            assert cache.get(f"during {number}", "kind") == number
            assert cache.get(f"never {number}", "kind") is None
        assert cache.get("before", "kind") == 1
        assert len(tries) == 2
        assert [each.levelname for each in caplog.records] == ["WARNING"]
        assert "out of reach" in repr(cache)
        with server(port):
            clock[0] += 60.0
            cache.set("after", "kind", 2)
            cache.close()
            with open_cache(url) as fresh:
                assert fresh.get("during 99", "kind") == 99
                assert fresh.get("after", "kind") == 2
    assert "is back" in caplog.text


def counted(call, tries):
    """Return ``call`` noting each use in ``tries``."""

    def noted(*args):
        tries.append(args)
        return call(*args)

    return noted


def test_a_server_that_never_was_there_is_said_once(caplog):
    """A wrong address costs one warning, and the cache works in memory."""
    with open_cache(f"redis://127.0.0.1:{free_port()}") as cache:
        cache.set("a", "kind", 1)
        assert cache.get("a", "kind") == 1
        assert cache.get("b", "kind") is None
    assert [each.levelname for each in caplog.records][:1] == ["WARNING"]
    assert len(caplog.records) == 2  # the second says, at the end, what could not be kept

"""Pool, addresses, probe, doctor and the main job on a real Ollama; which one, says `test_live`.

``LIVE_OLLAMA_SLOTS`` may say what its OLLAMA_NUM_PARALLEL is: then the probe must find just that.
"""

from __future__ import annotations

import os
import socket
import threading
from urllib.parse import urlsplit

import pytest

from analysis_kit import analyze, probe_slots, run_async
from analysis_kit.doctor import checks
from analysis_kit.errors import OllamaError, OllamaUnreachableError
from analysis_kit.ollama.client import OllamaClient
from analysis_kit.ollama.pool import OllamaConnectionPool
from analysis_kit.settings import reset_settings

pytestmark = pytest.mark.live

FEW = {"num_predict": 4}


@pytest.fixture
def nobody():
    """Name an address at which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


def from_threads(pool, count):
    """Ask from ``count`` threads at once; return the replies."""
    replies = []

    def work():
        with pool.get_connection() as slot:
            replies.append(slot.generate("Say hi.", options=FEW))

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies


def test_a_pool_keeps_callers_apart(live_server):
    """Eight threads through three slots all get an answer."""
    host, model = live_server
    with OllamaConnectionPool(2, 1, 600, hosts=host, model=model) as pool:
        assert [bool(reply.text) for reply in from_threads(pool, 8)] == [True] * 8
        stats = pool.get_stats()
        assert (stats["active_connections"], stats["total_requests"]) == (0, 8)
        assert pool.health_check()


def test_a_pool_goes_round_a_host_that_is_not_there(live_server, nobody):
    """Every request is answered by the living host, which each reply names; the dead one is set aside with its reason."""
    host, model = live_server
    with OllamaConnectionPool(2, 0, 600, hosts=[nobody, host], model=model) as pool:
        assert {reply.host for reply in from_threads(pool, 6)} == {host}
        states = {each["host"]: each for each in pool.get_stats()["hosts"]}
    assert states[host]["served"] == 6
    assert not states[nobody]["up"]
    assert "no Ollama server answers" in states[nobody]["last_error"]


def test_every_form_of_an_address_reaches_the_server(live_server, monkeypatch, nobody):
    """OLLAMA_HOST as the server reads it: scheme, slash, quotes, blanks, no host, the address that stands for all."""
    parts = urlsplit(live_server[0])
    if parts.scheme != "http" or parts.hostname != "127.0.0.1" or parts.path:
        pytest.skip("the server is not on this machine's plain 127.0.0.1")
    here = f"127.0.0.1:{parts.port}"
    for form in (
        here,
        f"http://{here}",
        f"HTTP://{here}/",
        f"{here}/",
        f"  {here}\t",
        f'"{here}"',
        f"'{here}'",
        f":{parts.port}",
        f"0.0.0.0:{parts.port}",
        f"http://0.0.0.0:{parts.port}",
        f"localhost:{parts.port}",
    ):
        monkeypatch.setenv("OLLAMA_HOST", form)
        reset_settings()
        with OllamaClient() as client:
            assert client.version()[0].isdigit()
    for form, kind, words in (
        (nobody, OllamaUnreachableError, "no Ollama server answers"),
        (f"https://{here}", OllamaUnreachableError, "no Ollama server answers"),
        (f"http://{here}/ollama", OllamaError, "is an Ollama server at this address"),
    ):
        with OllamaClient(form) as client, pytest.raises(kind, match=words):
            client.version()


def test_the_probe_finds_the_servers_slots(live_server):
    """Where it is known how many requests run at once, the probe says so; its calls are few."""
    host, model = live_server
    found = probe_slots(host, model)
    assert 1 <= found.low <= found.slots
    assert found.calls <= 31
    assert f"max_workers={found.slots}" in found.advice or found.slots == 1
    slots = os.environ.get("LIVE_OLLAMA_SLOTS")
    assert slots is None or found.slots == int(slots)


def test_doctor_says_what_answers(live_server):
    """The server's line has its version and models."""
    host, model = live_server
    lines = [line for line in checks(hosts=host, model=model, probe=False) if line.startswith("server")]
    with OllamaClient(host) as client:
        assert lines[0].startswith(f"server {host}: Ollama {client.version()}, models: ")
    assert model in lines[0]


def test_the_main_job_runs_and_runs_again_from_the_cache(live_server):
    """Three texts make three rows, each with server, model, digest and a time split; the second run asks nothing."""
    host, model = live_server
    texts = {
        "up": "Revenue grew 12 % and we raise our guidance.",
        "down": "We missed our plan, and charges rose.",
        "even": "The line is open for questions.",
    }
    first = run_async(analyze(texts, ["sentiment"], hosts=host, model=model)).to_frame()
    assert list(first["unit"]) == list(texts)
    assert set(first["status"]) == {"done"}
    assert set(first["host"]) == {host}
    assert set(first["model"]) == {model}
    with OllamaClient(host) as client:
        assert set(first["digest"]) == {client.digest(model)}
    parts = ["wait_s", "queue_s", "load_s", "prompt_s", "generate_s", "other_s"]
    assert (first[parts] >= 0).all(axis=None)
    assert (first["prompt_tokens"] > 0).all()
    again = run_async(analyze(texts, ["sentiment"], hosts=host, model=model)).to_frame()
    assert again["cached"].all()
    assert list(again["label"]) == list(first["label"])

"""Faults on purpose: killed servers, cut wires, mute and endless ones. Each test says in figures what may be lost: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import threading
import tracemalloc
import zlib

import pytest
from fakes.apart import fake_apart
from fakes.ollama import FakeOllama, Play

from analysis_kit.errors import (
    InvalidAnswerError,
    OllamaError,
    OllamaTimeoutError,
    ServerBusyError,
    StreamBrokenError,
)
from analysis_kit.ollama.client import OllamaClient
from analysis_kit.ollama.pool import OllamaConnectionPool
from analysis_kit.retry import RetryBudget, call_with_retry

MIB = 2**20
LINE = {"response": "grew", "done": False}
LAST = {"response": "", "done": True, "done_reason": "stop"}


@pytest.fixture
def fake():
    """Serve with four slots."""
    with FakeOllama(slots=4) as server:
        yield server


def ask(pool, prompt="x"):
    """Ask once through the pool."""
    with pool.get_connection() as client:
        return client.generate(prompt).text


def work_off(threads, each, work):
    """Run ``work(number)`` so many times on each of so many threads; return results and errors."""
    results, errors, numbers = [], [], iter(range(threads * each))
    lock = threading.Lock()

    def run():
        for _ in range(each):
            with lock:
                number = next(numbers)
            try:
                results.append(work(number))
            except Exception as exc:
                errors.append(exc)

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    return results, errors


@contextlib.contextmanager
def wire(serve):
    """Listen, and have ``serve(conn)`` called on a thread for each connection; give the address and what was raised."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads, conns = [], []

    def handle(conn):
        with contextlib.suppress(OSError):
            serve(conn)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                conn, _ = listener.accept()
                conns.append(conn)
                threads.append(threading.Thread(target=handle, args=(conn,)))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)
        for conn in conns:
            with contextlib.suppress(OSError):
                conn.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)
        for conn in conns:
            conn.close()


# servers that die
def test_a_server_process_killed_three_times_under_load_loses_no_row():
    """SIGKILL thrice, each with requests under way, and started again on its port: 400 of 400 answers, each its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    served = {"slots": 8, "delay_s": 0.01, "port": port}
    answered, quarter = [], threading.Semaphore(0)
    pool = OllamaConnectionPool(8, 0, 60, hosts=f"127.0.0.1:{port}", model="fake", connect_timeout_s=1)

    def work(number):
        text = call_with_retry(
            lambda: ask(pool, f"row {number}"),
            max_attempts=200,
            base_s=0.02,
            max_wait_s=0.05,
            budget=RetryBudget(reserve=1e6),
        )
        answered.append(number)
        if len(answered) % 100 == 0:
            quarter.release()
        return text

    def life():
        for number in range(4):
            with fake_apart(**served) as server:
                assert quarter.acquire(timeout=60)
                if number < 3:
                    server.kill()

    keeper = threading.Thread(target=life)
    keeper.start()
    texts, errors = work_off(8, 50, work)
    keeper.join(60)
    assert errors == []
    assert texts == ["ok"] * 400
    assert sorted(answered) == list(range(400))
    stats = pool.get_stats()
    assert (stats["active_connections"], stats["waiting"]) == (0, 0)
    assert stats["open_slots"] == 8
    pool.shutdown()


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("path", ["/api/chat", "/api/tags"])
def test_a_connection_that_ends_at_any_byte_costs_neither_slot_nor_truth(fake, reset, path):
    """FIN or RST after each byte of a reply: a broken stream or the whole answer, and the pool's one slot is there again."""
    chat = [{"message": {"role": "assistant", "content": "gräw"}, "done": False}, {**LAST, "message": {}}]
    body = {"models": [{"name": "fäke:latest", "digest": "d" * 8}]}
    reply = {"lines": chat} if path == "/api/chat" else {"body": body}
    size = len(json.dumps(chat if path == "/api/chat" else body)) + 250
    with OllamaConnectionPool(1, 0, 5, hosts=fake.url, model="fake") as pool:
        outcomes = []
        for cut in range(size):
            fake.script(path, Play(**reply, cut_at=cut, reset=reset))
            with pool.get_connection() as client:
                try:
                    if path == "/api/chat":
                        outcomes.append(client.chat([{"role": "user", "content": "x"}]).text)
                    else:
                        outcomes.append(client.tags()[0].name)
                except StreamBrokenError as exc:
                    outcomes.append(None if exc.text in ("", "gräw") else exc.text)
                    fake._scripts.clear()
        whole = "gräw" if path == "/api/chat" else "fäke:latest"
        first = outcomes.index(whole)
        assert outcomes == [None] * first + [whole] * (size - first)
        assert first > 100
        assert ask(pool) == "ok"
        assert pool.get_stats()["open_slots"] == 1


@pytest.mark.parametrize("path", ["/api/generate", "/api/version"])
@pytest.mark.parametrize("off", [-40, -1, 1, 40])
def test_a_wrong_content_length_is_an_error_or_the_whole_answer(path, off):
    """A length that is too short or too long never gives half an answer, and does not spoil the next one on that client."""
    body = json.dumps({"response": "grew", "version": "1", "pad": "x" * 50, "done": True}).encode()
    asked = []

    def serve(conn):
        while conn.recv(65536):
            asked.append(path)
            wrong = off if len(asked) == 1 else 0
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body) + wrong, body))
            if wrong > 0:
                conn.shutdown(socket.SHUT_RDWR)

    def ask(client):
        return client.generate("x").text if path == "/api/generate" else client.version()

    right = "grew" if path == "/api/generate" else "1"
    with wire(serve) as url, OllamaClient(url, model="fake") as client:
        with pytest.raises(OllamaError) as caught:
            ask(client)
        assert isinstance(caught.value, StreamBrokenError) is (off > 0)
        assert ask(client) == ask(client) == right
    assert len(asked) == 3


def test_chunks_without_an_end_are_no_whole_listing():
    """A listing whose last chunk never comes is a broken answer, though what came could be read; so is one with a bad chunk."""
    body = b'{"version": "1"}'
    for tail in (b"", b"zz\r\n"):

        def serve(conn, tail=tail):
            conn.recv(65536)
            conn.sendall(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%s"
                % (len(body), body, tail)
            )
            conn.shutdown(socket.SHUT_RDWR)

        with (
            wire(serve) as url,
            OllamaClient(url) as client,
            pytest.raises(StreamBrokenError, match="middle"),
        ):
            client.version()


# servers that say nothing
def test_a_kept_connection_to_a_host_that_vanished_is_given_up_in_bounds(monkeypatch):
    """A half-open socket, alive at our end and mute: the read limit ends the call, pre_ping replaces it before one is made."""
    monkeypatch.setattr("analysis_kit.ollama.connection_pool.PROBE_S", 0.2)
    requests, mute = [], threading.Event()
    line = json.dumps({**LAST, "response": "ok", "version": "1"}).encode()
    framed = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(line), line)

    def serve(conn):
        vanished = False
        while data := conn.recv(65536):
            requests.append(data.split(b" ", 2)[1].decode())
            vanished = vanished or mute.is_set()
            mute.clear()
            if not vanished:
                conn.sendall(framed)

    with wire(serve) as url:
        options = {"hosts": url, "model": "fake", "load_timeout_s": 0.0}
        with OllamaConnectionPool(1, 0, 5, read_timeout_s=0.3, **options) as pool:
            assert ask(pool) == "ok"
            mute.set()
            with pytest.raises(OllamaTimeoutError, match=r"0\.3 s"):
                ask(pool)
            assert ask(pool) == "ok"
        del requests[:]
        with OllamaConnectionPool(1, 0, 5, pre_ping=True, **options) as pool:
            assert ask(pool) == "ok"
            mute.set()
            assert ask(pool) == "ok"
            assert pool.get_stats()["discarded"] == 1
        assert requests == ["/api/generate", "/api/version", "/api/generate"]


def test_a_word_of_the_system_that_the_host_is_gone_is_no_read_limit(fake, monkeypatch):
    """What the system gives up on (ETIMEDOUT after unanswered probes) is a broken stream, which may be asked again."""

    def gone(*_):
        raise TimeoutError(110, "Connection timed out")

    with OllamaClient(fake.url, model="fake") as client:
        monkeypatch.setattr("analysis_kit.ollama.line._Reader.readinto", gone)
        with pytest.raises(StreamBrokenError, match="timed out"):
            client.generate("x")


def test_a_host_that_accepts_and_never_answers_holds_nobody(fake):
    """24 calls of 8 threads to a mute host: 24 timeouts at the read limit, no slot lost, and it serves again when it speaks."""
    fake.script("/api/generate", *[Play(hang=True)] * 24)
    with OllamaConnectionPool(
        8, 0, 30, hosts=fake.url, model="fake", read_timeout_s=0.2, load_timeout_s=0
    ) as pool:
        answers, errors = work_off(8, 3, lambda _: ask(pool))
        assert answers == []
        assert {type(error) for error in errors} == {OllamaTimeoutError}
        assert len(errors) == 24
        fake.until(lambda: fake.open_connections == 0)
        assert ask(pool) == "ok"
        assert pool.get_stats()["active_connections"] == 0


def test_a_slow_loris_gets_one_read_limit_however_it_drips(fake):
    """A byte each 20 ms, in head, body, listing or error text: given up after the read limit, on every endpoint."""
    drip = {"chunk_bytes": 1, "drip_s": 0.02}
    body = json.dumps({"models": [], "pad": "x" * 300})
    with OllamaClient(fake.url, model="fake", read_timeout_s=0.3, load_timeout_s=0) as client:
        for path, call in (("/api/generate", lambda: client.generate("x")), ("/api/tags", client.tags)):
            fake.script(path, Play(body=body, **drip))
            with pytest.raises(OllamaTimeoutError):
                call()
        fake.script("/api/tags", Play(status=500, body=body, **drip))
        with pytest.raises(OllamaError):
            client.tags()
    fake.until(lambda: fake.open_connections == 0)


# servers that say too much, or something else
def test_a_storm_of_503_ends_in_answers_with_a_bounded_number_of_requests():
    """160 calls of 16 threads to 2 slots that let 2 wait: 160 answers, and no more requests than calls and retry budget."""
    with FakeOllama(slots=2, delay_s=0.005, max_queue=2) as fake:
        budget = RetryBudget(reserve=2000.0)
        with OllamaConnectionPool(16, 0, 60, hosts=fake.url, model="fake") as pool:
            answers, errors = work_off(
                16,
                10,
                lambda _: call_with_retry(
                    lambda: ask(pool), max_attempts=100, base_s=0.01, max_wait_s=0.1, budget=budget
                ),
            )
        refused = [request for request in fake.requests if request.status == 503]
        assert errors == []
        assert answers == ["ok"] * 160
        assert len(refused) > 16
        assert len(fake.requests) == 160 + len(refused) <= 160 + 2080


def test_a_storm_of_503_that_does_not_end_stops_at_the_budget():
    """40 calls to a server that refuses all: a budget of 10 retries allows 10 beyond, and each error has the server's words."""
    with FakeOllama() as fake, OllamaConnectionPool(8, 0, 30, hosts=fake.url, model="fake") as pool:
        fake.script("/api/generate", *[Play(status=503, body={"error": "server busy"})] * 200)
        budget = RetryBudget(ratio=0.0, reserve=10.0, refill_per_s=0.0)
        answers, errors = work_off(
            8, 5, lambda _: call_with_retry(lambda: ask(pool), base_s=0.001, budget=budget)
        )
        assert answers == []
        assert {type(error) for error in errors} == {ServerBusyError}
        assert all("server busy" in str(error) for error in errors)
        assert len(fake.requests) == 50


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/html; charset=latin-1", "application/octet-stream", "x"]
)
def test_a_wrong_content_type_is_no_matter_where_the_body_is_right_and_said_where_it_is_not(fake, kind):
    """The body decides: Ollama's JSON under another type is read; a page under Ollama's type, or another, is an error."""
    with OllamaClient(fake.url, model="fake") as client:
        fake.script("/api/generate", Play(lines=[LINE, LAST], content_type=kind))
        assert client.generate("x").text == "grew"
        for named in (kind, "application/x-ndjson"):
            fake.script("/api/generate", Play(body="<html>Welcome</html>", content_type=named))
            with pytest.raises(OllamaError, match="proxy or another server") as caught:
                client.generate("x")
            assert named in str(caught.value)


def endless(kind):
    """Return pieces of 200 MB of an answer that has no end, and the header that names its encoding."""
    line = json.dumps({"response": "y" * 60_000, "done": False}).encode() + b"\n"
    if kind == "lines":
        return "", (line for _ in range(200 * MIB // len(line)))
    if kind == "one line":
        return "", (b"x" * 65536 for _ in range(200 * MIB // 65536))
    packer = zlib.compressobj(wbits=31)
    return "Content-Encoding: gzip\r\n", (packer.compress(b"z" * MIB) or b"" for _ in range(200))


@pytest.mark.parametrize("kind", ["lines", "one line", "gzip"])
@pytest.mark.parametrize("path", ["/api/generate", "/api/tags"])
def test_an_answer_of_200_megabytes_is_ended_with_bounded_memory(kind, path):
    """200 MB as lines, one line, or packed into 200 KB: one clear error, and never more than 160 MB of memory for it."""
    sent = []

    def serve(conn):
        conn.recv(65536)
        encoding, pieces = endless(kind)
        conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n" % encoding.encode())
        for piece in pieces:
            if piece:
                conn.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                sent.append(len(piece))
        conn.recv(1)

    with wire(serve) as url, OllamaClient(url, model="fake") as client:
        tracemalloc.start()
        try:
            with pytest.raises(InvalidAnswerError, match="MiB.*the call was ended"):
                client.generate("x") if path == "/api/generate" else client.tags()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 160 * MIB
    assert sum(sent) < 100 * MIB


# callers that go away
def test_ten_thousand_checkouts_of_tasks_with_random_cancels_lose_no_slot():
    """10,000 tasks, a third cancelled before, in or after checkout: every slot of 3 + 1 is free in the end, none is extra."""
    chance = random.Random(4)
    pool = OllamaConnectionPool(3, 1, 60, hosts="127.0.0.1:9")
    counts = {"done": 0, "cancelled": 0}

    async def one():
        async with pool.acquire():
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
        counts["done"] += 1

    async def batch():
        tasks = [asyncio.ensure_future(one()) for _ in range(100)]
        for task in chance.sample(tasks, 33):
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError)
            counts["cancelled"] += result is not None

    async def all_of_them():
        for _ in range(100):
            await batch()

    asyncio.run(all_of_them())
    assert counts["done"] + counts["cancelled"] == 10_000
    assert counts["cancelled"] > 1000
    stats = pool.get_stats()
    assert (stats["active_connections"], stats["waiting"]) == (0, 0)
    assert stats["open_slots"] == len(pool.queue.idle) <= 4
    pool.shutdown()

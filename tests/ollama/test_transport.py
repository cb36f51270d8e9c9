"""The wire: whatever a server or a network does, the answer is whole or a typed error comes, and nothing goes on."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import logging
import os
import socket
import ssl
import threading
import time
import traceback
from pathlib import Path

import pytest
from fakes.ollama import FakeOllama, Play
from fakes.threads import in_thread

from analysis_kit.cancellation import CancelToken, current_token
from analysis_kit.errors import (
    ConfigurationError,
    InvalidAnswerError,
    OllamaError,
    OllamaTimeoutError,
    OllamaUnreachableError,
    ServerBusyError,
    StreamBrokenError,
)
from analysis_kit.ollama import transport as wire
from analysis_kit.ollama.client import OllamaClient
from analysis_kit.ollama.transport import Transport

CERTIFICATE = Path(__file__).parents[1] / "fakes" / "loopback_cert.pem"
PROMPT = {"model": "fake", "prompt": "how was the quarter"}


@pytest.fixture
def fake():
    """Serve with four slots."""
    with FakeOllama(slots=4) as server:
        yield server


@pytest.fixture
def transport(fake):
    """Connect to the fake."""
    made = Transport(fake.url, connect_timeout_s=3, read_timeout_s=10)
    yield made
    made.close()


def said(transport, **options):
    """Return what a stream says in the end."""
    return "".join(
        item["response"] for item in transport.stream("/api/generate", PROMPT, model="fake", **options)
    )


# what arrives
def test_lines_are_put_together_wherever_the_network_cuts_them(fake, transport):
    """An answer that comes byte by byte, with text outside ASCII, is the same answer."""
    text = "Umsatz stieg um 5 %: 売上 🙂 <b>"
    for size in (1, 2, 3, 7, 1000):
        fake.script("/api/generate", Play(text=text, chunk_bytes=size))
        assert said(transport) == text


@pytest.mark.parametrize("reset", [False, True])
def test_an_answer_cut_at_any_byte_is_an_error_or_whole(fake, reset, caplog):
    """A connection that ends (FIN or RST) after any byte never gives half an answer as a whole one, nor a warning in the log."""
    text = "grew by five percent"
    final = {"total_duration": 5, "eval_count": 4}
    lines = [
        {"response": text, "done": False},
        {"response": "", "done": True, "done_reason": "stop", **final},
    ]
    whole = len(b"".join(json.dumps(line).encode() for line in lines)) + 250
    outcomes = []
    for cut in range(whole):
        with OllamaClient(fake.url, model="fake") as client:
            fake.script("/api/generate", Play(lines=lines, cut_at=cut, reset=reset))
            try:
                outcomes.append(client.generate("x").text)
            except StreamBrokenError as exc:
                outcomes.append(None if text.startswith(exc.text) else exc.text)
    assert set(outcomes) == {None, text}
    first_whole = outcomes.index(text)
    assert all(outcome == text for outcome in outcomes[first_whole:])
    assert first_whole > 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_head_with_a_strange_line_is_read_all_the_same(fake):
    """A proxy's broken header line, with the answer behind it, costs nothing."""
    line = json.dumps({"response": "hi", "done": True}).encode()
    head = b"HTTP/1.1 200 OK\r\nno header at all\r\nContent-Length: %d\r\n\r\n" % len(line)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            conn, _ = listener.accept()
            conn.recv(65536)
            conn.sendall(head + line)
            conn.close()

        thread, _ = in_thread(serve)
        with OllamaClient(f"127.0.0.1:{listener.getsockname()[1]}", model="fake") as client:
            assert client.generate("x").text == "hi"
        thread.join(5)


def test_O8_an_error_in_the_middle_of_a_stream_raises_with_the_part_that_came(fake):
    """O8: after status 200 an error object ends the answer; what had come is attached, in the server's own words."""
    part = {"response": "half ", "done": False}
    fake.script("/api/generate", Play(lines=[part, part, {"error": "model runner has unexpectedly stopped"}]))
    with OllamaClient(fake.url, model="fake") as client, pytest.raises(StreamBrokenError) as caught:
        client.generate("x")
    assert caught.value.text == "half half "
    assert caught.value.server_text == "model runner has unexpectedly stopped"
    assert (caught.value.host, caught.value.model, caught.value.status) == (fake.url, "fake", 200)


def test_O8_a_stream_without_its_last_line_raises(fake):
    """O8: a stream that just ends, without ``done``, is no answer."""
    fake.script("/api/generate", Play(lines=[{"response": "half", "done": False}]))
    with OllamaClient(fake.url, model="fake") as client, pytest.raises(StreamBrokenError) as caught:
        client.generate("x")
    assert caught.value.text == "half"


@pytest.mark.parametrize(
    "body", ["<html>proxy</html>", "", "[1, 2]", '{"a": NaN', b"\xff\xfe", "null", "[" * 100_000]
)
def test_O12_a_body_that_is_no_json_object_is_a_clear_error(fake, body):
    """O12: a 200 with a page, nothing, or broken JSON is an error that says what came, on every endpoint."""
    with OllamaClient(fake.url, model="fake") as client:
        for path, call in (("/api/generate", lambda: client.generate("x")), ("/api/tags", client.tags)):
            fake.script(path, Play(body=body, content_type="text/html"))
            with pytest.raises(OllamaError) as caught:
                call()
            assert fake.url in str(caught.value)
        assert "text/html" in str(caught.value)


def test_an_answer_without_an_end_is_bounded(fake, monkeypatch):
    """A line, and an answer, beyond their limits end the call and the connection."""
    monkeypatch.setattr(wire, "MAX_LINE_BYTES", 100_000)
    monkeypatch.setattr(wire, "MAX_ANSWER_BYTES", 300_000)
    with OllamaClient(fake.url, model="fake") as client:
        fake.script("/api/generate", Play(body=b"x" * 2_000_000))
        with pytest.raises(InvalidAnswerError, match="MiB"):
            client.generate("x")
        fake.script("/api/generate", Play(lines=[{"response": "y" * 50_000, "done": False}] * 100))
        with pytest.raises(InvalidAnswerError, match="MiB"):
            client.generate("x")
        fake.script("/api/tags", Play(body=b"x" * 2_000_000))
        with pytest.raises(InvalidAnswerError, match="MiB"):
            client.tags()
        assert client.generate("x").text == "ok"


# what does not arrive
def test_O13_a_first_call_has_time_to_load_the_model_and_the_next_has_not(fake):
    """O13: connecting, the first line and the rest are limited apart; a cold model gets ``load_timeout_s`` more."""
    loaded = threading.Event()
    fake.script("/api/generate", Play(text="slow", gate=loaded))
    with OllamaClient(fake.url, model="fake", read_timeout_s=0.2, load_timeout_s=30) as client:
        thread, box = in_thread(lambda: client.generate("x"))
        fake.until(lambda: fake.running == 1)
        thread.join(0.5)
        assert thread.is_alive()
        loaded.set()
        thread.join()
        assert box["value"].text == "slow"
        fake.script("/api/generate", Play(hang=True))
        with pytest.raises(OllamaTimeoutError, match=r"read_timeout_s=0\.2"):
            client.generate("x")
    assert len(fake.asked("/api/generate")) == 2


def ask_generate(client):
    """Ask for an answer."""
    return client.generate("x")


@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("/api/generate", ask_generate),
        ("/api/generate", lambda client: client.load()),
        ("/api/embed", lambda client: client.embed("x")),
    ],
)
def test_whatever_loads_a_model_has_time_for_it(fake, path, ask):
    """The first answer, a load beforehand and the first vectors are given ``load_timeout_s`` more, and the next are not."""
    loaded = threading.Event()
    with OllamaClient(fake.url, model="fake", read_timeout_s=0.2, load_timeout_s=30) as client:
        body = {"response": "x", "embeddings": [[1.0]], "done": True}
        fake.script(path, Play(body=body, gate=loaded), Play(hang=True))
        thread, box = in_thread(lambda: ask(client))
        fake.until(lambda: len(fake.requests) == 1)
        thread.join(0.5)
        assert thread.is_alive()
        loaded.set()
        thread.join(5)
        assert "error" not in box
        with pytest.raises(OllamaTimeoutError):
            ask(client)


@pytest.mark.parametrize(
    ("before", "then"),
    [
        ({"options": {"num_ctx": 2048}}, {"options": {"num_ctx": 4096}}),
        ({}, {"options": {"num_gpu": 0}}),
        ({"keep_alive": 0}, {}),
        ({"keep_alive": "0s"}, {}),
        ({"keep_alive": "1ns"}, {}),
        ({"keep_alive": "for a while"}, {}),
        ({"shift": True}, {"shift": False}),
    ],
)
def test_a_model_that_must_be_loaded_again_has_time_for_it(fake, before, then):
    """Other loading options, or a model that was let go, count as a first call; the same call again does not."""
    loaded = threading.Event()
    with OllamaClient(fake.url, model="fake", read_timeout_s=0.2, load_timeout_s=30) as client:
        client.generate("x", **before)
        fake.script("/api/generate", Play(text="slow", gate=loaded), Play(hang=True))
        thread, box = in_thread(lambda: client.generate("x", **then))
        fake.until(lambda: len(fake.requests) == 2)
        thread.join(0.5)
        assert thread.is_alive()
        loaded.set()
        thread.join(5)
        assert box["value"].text == "slow"
        with pytest.raises(OllamaTimeoutError):
            client.generate("x", **then)


@pytest.mark.parametrize("keep_alive", [None, -1, "-1m", "5m", 3600, "1h"])
def test_a_model_that_stays_is_not_waited_for_as_if_it_were_loaded(fake, keep_alive):
    """While it is in memory by the caller's own keep_alive, and other options change nothing, the read limit holds."""
    with OllamaClient(fake.url, model="fake", read_timeout_s=0.2, load_timeout_s=30) as client:
        client.generate("x", keep_alive=keep_alive)
        fake.script("/api/generate", Play(hang=True))
        with pytest.raises(OllamaTimeoutError, match=r"within 0\.2 s"):
            client.generate("x", options={"temperature": 1, "num_predict": 5})


def test_a_server_that_was_started_anew_has_time_to_load(fake):
    """After a lost connection the model is taken to be out of memory."""
    loaded = threading.Event()
    with OllamaClient(fake.url, model="fake", read_timeout_s=0.2, load_timeout_s=30) as client:
        client.generate("x")
        fake.stop()
        with pytest.raises(OllamaUnreachableError):
            client.generate("x")
        fake.start()
        fake.script("/api/generate", Play(text="slow", gate=loaded))
        thread, box = in_thread(lambda: client.generate("x"))
        fake.until(lambda: fake.running == 1)
        thread.join(0.5)
        assert thread.is_alive()
        loaded.set()
        thread.join(5)
        assert box["value"].text == "slow"


@pytest.mark.parametrize("drip", [Play(lines=[{"response": "a"}] * 9), Play(body=b" " * 4000)])
def test_a_server_that_drips_does_not_hold_the_caller(fake, drip):
    """A slow-loris server, that sends a byte now and then, is given up after the read limit, in the head or the body."""
    fake.script("/api/generate", Play(**{**vars(drip), "chunk_bytes": 1, "drip_s": 0.05}))
    with OllamaClient(fake.url, model="fake", read_timeout_s=0.4, load_timeout_s=0) as client:
        with pytest.raises(OllamaTimeoutError):
            client.generate("x")
    fake.until(lambda: fake.open_connections == 0)


def test_a_slow_answer_may_take_longer_than_the_limit_for_a_line(fake):
    """The read limit is for each line: an answer that keeps coming is never cut, nor one whose reader is slow."""
    fake.token_s = 0.05
    fake.script("/api/generate", Play(text="a b c d e f g h i j"))
    with OllamaClient(fake.url, model="fake", read_timeout_s=0.25, load_timeout_s=0) as client:
        assert client.generate("x").text == "a b c d e f g h i j"
        fake.script("/api/generate", Play(text="a b c"))
        pieces = client.generate("x", stream=True)
        next(pieces)
        time.sleep(0.4)  # the reader's own pause is what is tested
        assert "".join(piece.text for piece in pieces) == " b c"


def test_an_answer_is_kept_when_only_its_end_mark_is_missing(fake, monkeypatch):
    """After the last line the answer is complete: what the connection does then costs the connection, not the answer."""
    monkeypatch.setattr(wire, "TAIL_S", 0.1)
    line = json.dumps({"response": "all", "done": True, "done_reason": "stop"}).encode() + b"\n"
    framed = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(line), line)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        conn, _ = listener.accept()
        conn.recv(65536)
        conn.sendall(framed)
        conn.recv(1)
        conn.close()

    thread, _ = in_thread(serve)
    with OllamaClient(f"127.0.0.1:{listener.getsockname()[1]}", model="fake") as client:
        assert client.generate("x").text == "all"
    thread.join(5)
    listener.close()
    assert not thread.is_alive()


def test_nobody_there_is_said_with_the_three_ways_out():
    """A refused connection and an unknown name are unreachable hosts: start one, name another, or use the embedded one."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(OllamaUnreachableError) as caught:
        OllamaClient(f"127.0.0.1:{port}").tags()
    text = str(caught.value)
    assert "start Ollama" in text
    assert "OLLAMA_HOST" in text
    assert "hosts='embedded'" in text
    assert " at 0x" not in text
    assert caught.value.host == f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def full_backlog():
    """Give the address of a server that takes no further connection and refuses none."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


def test_the_traceback_of_an_absent_server_is_ours_and_its_cause():
    """What the HTTP library's lower floors raised is still there, and not printed above the sentence that counts."""
    with socket.socket() as taken, pytest.raises(OllamaUnreachableError) as caught:
        taken.bind(("127.0.0.1", 0))
        OllamaClient(f"127.0.0.1:{taken.getsockname()[1]}").version()
    said = "".join(traceback.format_exception(caught.value))
    assert said.count("Traceback (most recent call last)") == 2
    assert "Connection refused" in str(caught.value)
    assert caught.value.__cause__.__context__ is not None


def test_a_full_backlog_is_a_connect_limit():
    """A host that never accepts is given up after ``connect_timeout_s``, not after the read limit."""
    with full_backlog() as (_, port), pytest.raises(OllamaUnreachableError, match=r"within 0\.2 s"):
        OllamaClient(f"127.0.0.1:{port}", connect_timeout_s=0.2, read_timeout_s=60).tags()


def test_a_name_lookup_that_hangs_is_a_connect_limit(monkeypatch):
    """A resolver without an answer is given up after ``connect_timeout_s``, and holds one thread for all who ask."""
    gate, looked_up = threading.Event(), []

    def look_up(host, *args, **kwargs):
        if socket.AI_NUMERICHOST in args:
            raise socket.gaierror(socket.EAI_NONAME, "no number")
        looked_up.append(host)
        gate.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no name server answers")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        for _ in range(3):
            with pytest.raises(
                OllamaUnreachableError, match=r"within 0\.1 s \(the lookup of the name 'hung\.test'"
            ):
                OllamaClient("hung.test", connect_timeout_s=0.1, read_timeout_s=60).tags()
        assert looked_up == ["hung.test"]
    finally:
        gate.set()
        for thread in threading.enumerate():
            if thread.name == "analysis-kit-lookup":
                thread.join(10)


@contextlib.contextmanager
def refusing():
    """Give an address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = probe.getsockname()
    yield address


@pytest.mark.parametrize("dead", [refusing, full_backlog])
def test_every_address_of_a_name_is_tried(dead, monkeypatch):
    """A name whose first address refuses, or swallows everything, is reached at its second within the connect limit."""
    with FakeOllama() as fake, dead() as first:
        live = ("127.0.0.1", fake.port)

        def look_up(host, *args, **kwargs):
            if socket.AI_NUMERICHOST in args:
                raise socket.gaierror(socket.EAI_NONAME, "no number")
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in (first, live)]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        with OllamaClient("two.test", connect_timeout_s=2) as client:
            assert [each.name for each in client.tags()] == ["fake:latest"]


def test_a_host_that_vanishes_without_a_word_is_noticed(fake, transport):
    """A half-open connection (a host that lost power) is probed by the system every minute, however long a model thinks."""
    said(transport)
    sock = transport._line._sock
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if hasattr(socket, "TCP_KEEPIDLE"):
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# sending again
def test_C2_a_kept_connection_closed_at_the_moment_of_sending_is_replaced_once(fake, transport):
    """C2: the server answers, then drops the next request unread: one replay on a fresh connection, counted exactly."""
    said(transport)
    for reset in (False, True):
        before = len(fake.requests), fake.connections
        fake.script("/api/generate", Play(drop=True, reset=reset), Play(text="again"))
        assert said(transport) == "again"
        assert len(fake.requests) - before[0] == 2
        assert fake.connections - before[1] == 1


def test_C2_there_is_no_second_replay_and_none_on_a_fresh_connection(fake, transport):
    """C2: a server that drops every request is asked twice at most, and once on a connection that was just opened."""
    fake.script("/api/generate", Play(drop=True))
    with pytest.raises(StreamBrokenError, match="without an answer"):
        said(transport)
    assert len(fake.requests) == 1
    said(transport)
    fake.script("/api/generate", Play(drop=True), Play(drop=True), Play(drop=True))
    with pytest.raises(StreamBrokenError):
        said(transport)
    assert len(fake.requests) == 4


def test_C2_an_answer_that_began_is_never_asked_for_again(fake, transport):
    """C2: one byte of an answer on a kept connection is enough to rule a replay out."""
    said(transport)
    fake.script("/api/generate", Play(text="x", cut_at=1), Play(text="second"))
    with pytest.raises(StreamBrokenError, match="middle"):
        said(transport)
    assert len(fake.requests) == 2


def test_a_connection_closed_while_idle_is_replaced_without_a_word(fake, transport):
    """A server that closes kept connections between calls costs a connection, not a call."""
    fake.script("/api/generate", *[Play(text="x", close=True)] * 3)
    for _ in range(3):
        assert said(transport) == "x"
        fake.until(lambda: fake.open_connections == 0)
    assert len(fake.requests) == 3


# ending a call
def abort_when(fake, true, work, ender):
    """Start ``work`` on a thread, end it once ``true()``, and return the error that it raised."""
    thread, box = in_thread(work)
    fake.until(true)
    ender()
    thread.join(5)
    assert not thread.is_alive()
    return box["error"]


@pytest.mark.parametrize("where", ["before the head", "in the queue", "in the middle"])
def test_an_abort_from_another_thread_ends_the_call_and_the_generation(fake, transport, where):
    """Wherever a call is blocked, abort() ends it at once, the server is let go, and the next call works."""
    fake.slots = 1
    never = threading.Event()
    play = Play(text="a b c", gate=never) if where != "in the middle" else Play(text="a b c", mid_gate=never)
    fake.script("/api/generate", play)
    if where == "in the queue":
        held = OllamaClient(fake.url, model="fake")
        holder, _ = in_thread(lambda: held.generate("x"))
        fake.until(lambda: fake.running == 1)
        error = abort_when(fake, lambda: fake.waiting == 1, lambda: said(transport), transport.abort)
        held.abort()
        holder.join(5)
        held.close()
    else:
        error = abort_when(fake, lambda: fake.running == 1, lambda: said(transport), transport.abort)
    assert isinstance(error, asyncio.CancelledError)
    fake.until(lambda: fake.running == 0)
    fake.until(lambda: fake.requests[-1].aborted)
    assert said(transport) == "ok"


def test_an_abort_works_on_tls_too(monkeypatch):
    """On https the abort reaches the socket below the TLS layer, during a read and during the handshake."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    monkeypatch.setattr(wire, "is_loopback", lambda _: False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with FakeOllama(ssl_context=context) as fake:
        secure = Transport(fake.url, connect_timeout_s=20, read_timeout_s=20)
        assert said(secure) == "ok"
        fake.script("/api/generate", Play(text="x", gate=threading.Event()))
        error = abort_when(fake, lambda: fake.running == 1, lambda: said(secure), secure.abort)
        assert isinstance(error, asyncio.CancelledError)
        fake.until(lambda: fake.running == 0)
        assert said(secure) == "ok"
        secure.close()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        mute = Transport(
            f"https://127.0.0.1:{listener.getsockname()[1]}", connect_timeout_s=20, read_timeout_s=20
        )
        thread, box = in_thread(lambda: said(mute))
        conn, _ = listener.accept()
        conn.recv(1)  # the handshake has begun
        mute.abort()
        thread.join(5)
        assert not thread.is_alive()
        assert isinstance(box["error"], asyncio.CancelledError)
        conn.close()
        mute.close()


def test_a_certificate_nobody_vouches_for_is_refused():
    """Without its certificate being trusted an https host is not talked to, and the reason is said."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with FakeOllama(ssl_context=context) as fake, pytest.raises(OllamaUnreachableError, match="certificate"):
        OllamaClient(fake.url).tags()


def test_a_cancelled_token_ends_the_call_with_its_own_error(fake, transport):
    """A call registers with the current token; its error, not the connection's, comes out of the call."""
    for reason in (None, TimeoutError("took longer than 2 s")):
        token = CancelToken()
        fake.script("/api/generate", Play(text="x", gate=threading.Event()))

        def work(token=token):
            current_token.set(token)
            return said(transport)

        error = abort_when(fake, lambda: fake.running == 1, work, functools.partial(token.cancel, reason))
        assert error is token.error
        fake.until(lambda: fake.running == 0)


def test_a_token_that_is_cancelled_already_sends_nothing(fake, transport):
    """Work that is no longer wanted does not reach the server."""
    token = CancelToken()
    token.cancel()
    reset = current_token.set(token)
    try:
        with pytest.raises(asyncio.CancelledError):
            said(transport)
    finally:
        current_token.reset(reset)
    assert fake.requests == []
    assert said(transport) == "ok"


def test_an_abort_between_calls_does_nothing(fake, transport):
    """abort() with no call under way neither fails nor spoils the next call."""
    transport.abort()
    assert said(transport) == "ok"
    transport.abort()
    assert said(transport) == "ok"
    assert fake.connections == 1


def test_leaving_a_stream_early_ends_the_generation(fake):
    """Closing, or dropping, the iterator lets the server go."""
    fake.token_s = 0.01
    with OllamaClient(fake.url, model="fake") as client:
        for leave in (lambda pieces: pieces.close(), lambda pieces: None):
            fake.script("/api/generate", Play(text="w " * 5000))
            pieces = client.generate("x", stream=True)
            next(pieces)
            leave(pieces)
            del pieces
            gc.collect()
            fake.until(lambda: fake.running == 0 and fake.requests[-1].aborted)


# where it goes
def test_O12_loopback_never_goes_through_a_proxy(fake, monkeypatch):
    """O12: proxy variables, with or without NO_PROXY, leave loopback alone in both families."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        proxy = f"http://127.0.0.1:{trap.getsockname()[1]}"
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        for no_proxy in ("", "localhost,127.0.0.1"):
            monkeypatch.setenv("NO_PROXY", no_proxy)
            monkeypatch.setenv("no_proxy", no_proxy)
            with OllamaClient(fake.url, model="fake") as client:
                assert client.generate("x").text == "ok"
            assert (
                Transport("http://[::1]:9", connect_timeout_s=1, read_timeout_s=1)._settings["proxies"] == {}
            )
        trap.settimeout(0)
        with pytest.raises(BlockingIOError):
            trap.accept()


@pytest.mark.parametrize("name", ["localhost", "127.1", "127.0.0.1"])
def test_every_spelling_of_loopback_goes_past_the_proxy(fake, monkeypatch, name):
    """Loopback by name, by address and by its short form reaches the server itself, where a proxy leads nowhere."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    with OllamaClient(f"{name}:{fake.port}") as client:
        assert client.version() == fake.version


def test_no_proxy_is_heeded_for_hosts_elsewhere(fake, monkeypatch):
    """A host that NO_PROXY names is asked directly; another is asked through the proxy, with neither netrc nor its login shown."""
    monkeypatch.setenv("HTTP_PROXY", f"http://user:geheim@127.0.0.1:{fake.port}")
    monkeypatch.setenv("NO_PROXY", "near.invalid,.lab.invalid")
    for name in ("near.invalid", "gpu1.lab.invalid"):
        with pytest.raises(OllamaUnreachableError) as caught:
            OllamaClient(name, connect_timeout_s=5).tags()
        assert "proxy" not in str(caught.value)
    assert fake.requests == []
    fake.script("http://far.invalid:11434/api/tags", Play(status=502, body="<html>no such host</html>"))
    with pytest.raises(OllamaError, match="502") as caught:
        OllamaClient("far.invalid").tags()
    assert len(fake.requests) == 1
    assert "geheim" not in "".join(traceback.format_exception(caught.value))


def test_a_proxy_that_cannot_be_used_is_a_matter_of_configuration(monkeypatch):
    """A kind of proxy that requests lacks a part for is one clear error that no retry repeats."""
    monkeypatch.setenv("HTTP_PROXY", "gopher://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(ConfigurationError, match="proxy"):
        OllamaClient("far.invalid").tags()


def test_a_netrc_file_has_no_say(fake, monkeypatch, tmp_path):
    """What a .netrc holds for a host is neither sent nor put in the place of the key."""
    (tmp_path / "netrc").write_text("default login someone password geheim\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", fake.url)
    monkeypatch.setenv("NO_PROXY", "")
    path = "http://far.invalid:11434/api/version"
    for key, sent in ((None, None), ("mine", "Bearer mine")):
        fake.script(path, Play(body={"version": "1"}))
        OllamaClient("far.invalid", api_key=key).version()
        assert fake.asked(path)[-1].headers.get("authorization") == sent


def test_a_host_elsewhere_goes_through_the_proxy_of_the_environment(fake, monkeypatch):
    """Off loopback the proxy variables are honoured, and calls through the proxy can be aborted like others."""
    monkeypatch.setenv("HTTP_PROXY", fake.url)
    monkeypatch.setenv("NO_PROXY", "")
    away = Transport("http://ollama.example:11434", connect_timeout_s=3, read_timeout_s=10)
    fake.script("http://ollama.example:11434/api/version", Play(body={"version": "1"}), Play(hang=True))
    assert away.call("GET", "/api/version") == {"version": "1"}
    error = abort_when(
        fake, lambda: len(fake.requests) == 2, lambda: away.call("GET", "/api/version"), away.abort
    )
    assert isinstance(error, asyncio.CancelledError)
    away.close()


def test_the_key_goes_to_its_host_and_appears_nowhere(caplog):
    """A key is sent to its host, not along a redirect, and is in no repr, log, message or traceback."""
    key = "geheim-1234"
    with FakeOllama(api_key=key) as fake, FakeOllama() as elsewhere, caplog.at_level(logging.DEBUG):
        client = OllamaClient(fake.url, model="fake", api_key=key)
        assert client.generate("x").text == "ok"
        fake.script(
            "/api/generate", Play(status=302, body="", headers={"Location": elsewhere.url + "/api/generate"})
        )
        fake.script(
            "/api/generate", Play(status=500, body={"error": f"bad key {key}"}), *[Play(drop=True)] * 2
        )
        shown = [repr(client), repr(client.calls), str(vars(client.calls.__class__))]
        for _ in range(3):
            try:
                client.generate("x")
            except OllamaError as exc:
                shown += ["".join(traceback.format_exception(exc)), repr(exc), exc.server_text]
                while exc is not None:
                    shown += [str(vars(exc)), str(vars(getattr(exc, "request", None) or Exception()))]
                    exc = exc.__cause__ or exc.__context__
        with pytest.raises(OllamaError, match="api_key"):
            OllamaClient(fake.url, model="fake").generate("x")
        client.close()
    assert elsewhere.requests == []
    assert len(shown) > 12
    assert not [text for text in [*shown, caplog.text] if key in text]


def test_a_redirect_is_not_followed_but_said(fake):
    """A server that points elsewhere is an error that names the place."""
    fake.script("/api/tags", Play(status=301, body="", headers={"Location": "http://gpu9:11434/api/tags"}))
    with OllamaClient(fake.url) as client, pytest.raises(OllamaError, match="gpu9"):
        client.tags()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (503, {"error": "server busy, please try again."}, ServerBusyError, "server busy, please try again."),
        (429, {"error": "slow down"}, ServerBusyError, "slow down"),
        (
            500,
            {"error": "llama-server process has terminated"},
            OllamaError,
            "llama-server process has terminated",
        ),
        (400, {"error": {"message": "context too long", "code": 400}}, OllamaError, "context too long"),
        (404, "404 page not found", OllamaError, "404 page not found"),
        (502, "<html>Bad gateway</html>", OllamaError, "<html>Bad gateway</html>"),
        (418, b"\xff\x00", OllamaError, ""),
    ],
)
def test_a_refusal_carries_host_model_status_and_the_servers_words(fake, status, body, kind, words):
    """Every other status is one typed error with the facts on it, and the connection is used again."""
    fake.script("/api/generate", Play(status=status, body=body))
    with OllamaClient(fake.url, model="fake") as client:
        with pytest.raises(kind) as caught:
            client.generate("x")
        assert client.generate("x").text == "ok"
    error = caught.value
    assert (error.host, error.model, error.status) == (fake.url, "fake", status)
    assert words in error.server_text
    assert words in str(error)
    assert str(status) in str(error)
    assert fake.connections == 1


def test_what_json_cannot_carry_is_a_configuration_error(fake):
    """NaN or an object among the options is refused before anything is sent."""
    with OllamaClient(fake.url, model="fake") as client:
        for value in (float("nan"), object()):
            with pytest.raises(ConfigurationError, match="JSON"):
                client.generate("x", options={"temperature": value})
    assert fake.requests == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_C8_a_forked_child_does_not_speak_on_its_parents_connection(fake):
    """C8: a client that was used before a fork opens its own connection in each child; answers are not mixed."""
    fake.answer = lambda request: request["prompt"].upper()
    with OllamaClient(fake.url, model="fake") as client:
        assert client.generate("parent").text == "PARENT"
        children = []
        for name in ("one", "two"):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    status = (
                        0
                        if all(client.generate(f"{name} {n}").text == f"{name} {n}".upper() for n in range(5))
                        else 2
                    )
                finally:
                    os._exit(status)
            children.append(pid)
        assert all(client.generate(f"parent {n}").text == f"PARENT {n}" for n in range(5))
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    assert fake.connections == 3

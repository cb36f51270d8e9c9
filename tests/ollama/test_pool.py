"""The pool: first come, first served, bounded, nothing lost to errors, cancels, forks or loops."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import signal
import threading
import time
import weakref

import pytest
from fakes.ollama import FakeOllama, Play
from fakes.threads import in_thread, wait_for

from analysis_kit import events
from analysis_kit.cancellation import CancelToken, current_token
from analysis_kit.container import get_container
from analysis_kit.errors import (
    ConfigurationError,
    OllamaError,
    PoolClosedError,
    PoolError,
    PoolTimeoutError,
    StreamBrokenError,
)
from analysis_kit.ollama.client import OllamaClient
from analysis_kit.ollama.pool import OllamaConnectionPool, get_pool, reset_pool
from analysis_kit.ollama.questions import SENTIMENT
from analysis_kit.settings import override_settings

NOWHERE = "127.0.0.1:9"


@pytest.fixture
def fake():
    """Serve with many slots."""
    with FakeOllama(slots=64) as server:
        yield server


def run_threads(count, work):
    """Run ``work(number)`` on so many threads at once; return what they raised."""
    errors = []
    together = threading.Barrier(count)

    def run(number):
        together.wait()
        try:
            work(number)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return errors


def call(pool, prompt="x", **options):
    """Ask once through the pool."""
    with pool.get_connection(**options) as client:
        return client.generate(prompt).text


# the source design's pool
def test_the_source_designs_example_works_as_written(fake):
    """Constructor, context manager, five figures, health check and shutdown, called as the source design calls them."""
    with override_settings(OLLAMA_HOST=fake.url, OLLAMA_MODEL="fake"):
        pool = OllamaConnectionPool(pool_size=4, max_overflow=2, timeout=30.0, recycle_after=100)
        with pool.get_connection() as client:
            fake.answer = '{"label": "neutral", "score": 0, "confidence": 1}'
            assert client.analyze_sentiment("Revenue was flat.")["label"] == "neutral"
            stats = pool.get_stats()
        assert {key: stats[key] for key in ("pool_size", "active_connections", "available_connections")} == {
            "pool_size": 4,
            "active_connections": 1,
            "available_connections": 3,
        }
        assert (stats["total_requests"], stats["pool_exhausted_count"]) == (1, 0)
        json.dumps(stats, allow_nan=False)
        assert pool.health_check() is True
        pool.shutdown()
        assert pool.health_check() is False


def test_connections_are_opened_on_use_reused_and_no_more_than_needed(fake, make):
    """One caller after another needs one connection, however many slots there are."""
    pool = make(4, 2)
    assert fake.connections == 0
    for _ in range(5):
        call(pool)
    assert fake.connections == 1
    assert pool.get_stats()["created"] == 1


def test_C1_threads_beyond_the_slots_never_open_more_connections(fake, make, caplog):
    """C1: 8 threads, 40 calls, 2 slots and 6 beyond: no urllib3 warning, never over the limit, overflow ones closed."""
    pool = make(2, 6)
    with caplog.at_level(logging.DEBUG, logger="urllib3"):
        assert run_threads(8, lambda _: [call(pool) for _ in range(5)]) == []
    assert "discarding" not in caplog.text
    assert fake.connections <= 40
    assert fake.max_running <= 8
    fake.until(lambda: fake.open_connections <= 2)
    stats = pool.get_stats()
    assert (stats["total_requests"], stats["open_slots"], stats["active_connections"]) == (40, 2, 0)


# waiting
def test_callers_are_served_in_the_order_they_came(make):
    """First come, first served: ten waiters get the one slot in their order."""
    pool = make(1, 0)
    order = []
    threads = []
    with pool.get_connection():
        for number in range(10):

            def work(number=number):
                with pool.get_connection():
                    order.append(number)

            thread = threading.Thread(target=work)
            thread.start()
            threads.append(thread)
            wait_for(lambda number=number: pool.get_stats()["waiting"] == number + 1)
    for thread in threads:
        thread.join(5)
    assert order == list(range(10))
    assert pool.get_stats()["pool_exhausted_count"] == 10


def test_the_one_who_returns_a_slot_does_not_overtake_those_who_wait(make):
    """A thread that gives its slot back and asks again at once goes behind the waiter."""
    pool = make(1, 0)
    order = []

    def waiter():
        with pool.get_connection():
            order.append("waiter")

    thread = threading.Thread(target=waiter)
    with pool.get_connection():
        thread.start()
        wait_for(lambda: pool.get_stats()["waiting"] == 1)
    with pool.get_connection():
        order.append("greedy")
    thread.join(5)
    assert order == ["waiter", "greedy"]


def test_a_timeout_names_size_overflow_and_every_holder(make):
    """The error says how full the pool is, and who holds each slot for how long, doing what."""
    pool = make(1, 1, timeout=0.05, name="lab")
    with pool.get_connection(operation="sentiment of Q&A 3"), pool.get_connection():
        with pytest.raises(PoolTimeoutError) as caught:
            pool.get_connection().__enter__()
    text = str(caught.value)
    assert "'lab' (limit of size 1 overflow 1 reached)" in text
    assert "0.05 s: 2 in use" in text
    assert text.count("MainThread for") == 2
    assert "sentiment of Q&A 3" in text
    stats = pool.get_stats()
    assert (stats["timeouts"], stats["active_connections"], stats["waiting"]) == (1, 0, 0)
    call(pool)


def test_the_holders_last_request_is_what_it_is_doing(fake, make):
    """Without an operation of its own, a slot is described by endpoint and model."""
    pool = make(1, 0, timeout=0.05)
    go = threading.Event()
    fake.script("/api/generate", Play(text="x", gate=go))
    thread = threading.Thread(target=call, args=(pool,), name="worker-7")
    thread.start()
    fake.until(lambda: fake.running == 1)
    with pytest.raises(PoolTimeoutError, match=r"worker-7 for 0\.\d s \(/api/generate fake\)"):
        call(pool)
    go.set()
    thread.join()


def test_C6_nested_checkouts_end_in_a_bounded_error(make):
    """C6: a thread that asks for a second slot of a full pool, and N threads that all do, get PoolTimeoutError."""
    pool = make(1, 0, timeout=0.1)
    with pool.get_connection():
        with pytest.raises(PoolTimeoutError, match=r"size 1 overflow 0.*1 in use"):
            pool.get_connection().__enter__()
    many = make(4, 0, timeout=0.2)
    together = threading.Barrier(4)

    def nest(_):
        with many.get_connection():
            together.wait()
            with many.get_connection():
                pass

    errors = run_threads(4, nest)
    assert errors
    assert all(isinstance(error, PoolTimeoutError) for error in errors)
    assert many.get_stats()["active_connections"] == 0


def test_C6_a_nested_checkout_inside_a_run_is_bounded_too(make):
    """C6: inside a run waiting is bounded by the run, except for a thread that may be waiting for itself."""
    pool = make(1, 0, timeout=0.05)
    reset = current_token.set(CancelToken())
    try:
        with pool.get_connection(), pytest.raises(PoolTimeoutError):
            pool.get_connection().__enter__()
    finally:
        current_token.reset(reset)


def test_inside_a_run_a_wait_is_ended_by_the_token_alone(make):
    """With a token the pool's timeout does not count; a cancel ends the wait at once, with the token's error."""
    pool = make(1, 0, timeout=0.02)
    token = CancelToken()
    with pool.get_connection():
        thread, box = in_thread(lambda: call(pool), token)
        wait_for(lambda: pool.get_stats()["waiting"] == 1)
        thread.join(0.2)
        assert thread.is_alive()
        token.cancel(TimeoutError("the run's deadline"))
        thread.join(5)
    assert box == {"error": token.error}
    assert (pool.get_stats()["waiting"], pool.get_stats()["active_connections"]) == (0, 0)


def test_too_many_waiters_are_sent_away_at_once(make):
    """With ``max_waiting`` reached one more caller fails without waiting."""
    pool = make(1, 0, max_waiting=1)
    with pool.get_connection():
        thread = threading.Thread(target=call, args=(pool,))
        thread.start()
        wait_for(lambda: pool.get_stats()["waiting"] == 1)
        with pytest.raises(PoolError, match="max_waiting=1"):
            call(pool)
    thread.join(5)


def test_the_wait_of_a_checkout_is_on_its_lease(make):
    """A lease says how long its checkout waited; without waiting that is 0."""
    pool = make(1, 0)
    lease = pool.get_connection()
    with lease:
        assert lease.wait_s == 0.0
        waits = []

        def work():
            second = pool.get_connection()
            with second:
                waits.append(second.wait_s)

        thread = threading.Thread(target=work)
        thread.start()
        wait_for(lambda: pool.get_stats()["waiting"] == 1)
    thread.join(5)
    assert waits[0] > 0
    assert pool.get_stats()["wait_s_max"] == waits[0]


def test_checkouts_and_timeouts_are_told_to_whoever_listens(fake, make):
    """One event a checkout with its wait, and one with ok False for a caller that had none in time."""
    heard = []
    pool = make(1, 0, timeout=0.02, name="p")
    stop = events.subscribe(heard.append)
    try:
        with pool.get_connection(), pytest.raises(PoolTimeoutError):
            pool.get_connection().__enter__()
    finally:
        stop()
    assert [(event.pool, event.host, event.ok) for event in heard] == [
        ("p", fake.url, True),
        ("p", fake.url, False),
    ]
    assert heard[1].wait_s >= 0.02


# what becomes of a slot
@pytest.mark.parametrize(
    "play", [Play(drop=True), Play(text="half a", cut_at=150), Play(text="x", cut_at=9, reset=True)]
)
def test_a_broken_connection_costs_its_client_not_the_slot(fake, make, play):
    """After a failed connection the slot has a new client; a refusal by the server replaces nothing."""
    pool = make(1, 0)
    fake.script("/api/generate", play)
    with pytest.raises(StreamBrokenError):
        call(pool)
    assert call(pool) == "ok"
    fake.script("/api/generate", Play(status=500, body={"error": "no"}))
    with pytest.raises(OllamaError):
        call(pool)
    stats = pool.get_stats()
    assert (stats["discarded"], stats["open_slots"], stats["created"]) == (1, 1, 1)


def test_a_stream_left_open_does_not_go_to_the_next_caller(fake, make):
    """A slot returned in the middle of an answer gets a new client, and the server is let go."""
    pool = make(1, 0)
    fake.token_s = 0.01
    fake.script("/api/generate", Play(text="w " * 5000), Play(text="other"))
    with pool.get_connection() as client:
        pieces = client.generate("x", stream=True)
        next(pieces)
    assert call(pool) == "other"
    fake.until(lambda: fake.running == 0)
    assert pool.get_stats()["discarded"] == 1
    with pytest.raises(PoolError, match="given back"):
        for _ in range(10_000):
            next(pieces)


def test_connections_are_replaced_after_so_many_uses(fake, make):
    """``recycle_after`` uses end a connection, not a slot."""
    pool = make(1, 0, recycle_after=3)
    for _ in range(7):
        call(pool)
    stats = pool.get_stats()
    assert (fake.connections, stats["recycled"], stats["total_requests"]) == (3, 2, 7)


def test_connections_are_replaced_after_so_long(fake, make, monkeypatch):
    """``max_age_s`` is looked at when a slot is handed out, and those born together do not end together."""
    pool = make(2, 0, max_age_s=1000)
    with pool.get_connection() as one, pool.get_connection() as two:
        one.generate("x")
        two.generate("x")
        ends = sorted(slot.expires for slot in pool.queue.slots)
    assert 0 < ends[1] - ends[0] < 100
    real = time.monotonic
    monkeypatch.setattr("analysis_kit.ollama.slots.time.monotonic", lambda: real() + 1001)
    call(pool)
    assert fake.connections == 3
    assert pool.get_stats()["recycled"] == 1


def test_pre_ping_replaces_what_does_not_answer(fake, make):
    """With ``pre_ping`` a used connection is asked for the version first; if that fails the caller gets a fresh one."""
    pool = make(1, 0, pre_ping=True)
    call(pool)
    assert fake.asked("/api/version") == []
    fake.script("/api/version", Play(status=500, body={"error": "gone"}))
    assert call(pool) == "ok"
    assert len(fake.asked("/api/version")) == 1
    assert pool.get_stats()["discarded"] == 1


def test_a_ping_that_is_cancelled_costs_its_client_not_the_next_caller(fake, make):
    """What a cancel has broken during the ping is replaced as it comes back, so that the next caller need not find out."""
    pool = make(1, 0, pre_ping=True)
    call(pool)
    fake.script("/api/version", Play(hang=True))
    token = CancelToken()
    thread, box = in_thread(lambda: call(pool), token)
    fake.until(lambda: len(fake.asked("/api/version")) == 1)
    token.cancel()
    thread.join(5)
    assert isinstance(box["error"], asyncio.CancelledError)
    assert pool.get_stats()["discarded"] == 1
    assert [slot.client.calls.fit for slot in pool.queue.idle] == [True]
    assert call(pool) == "ok"
    assert pool.get_stats()["discarded"] == 1


def test_a_slot_that_is_not_given_back_is_reported_once(make, caplog):
    """After ``leak_after_s`` one warning names the holder, at the pool's next activity; the count stays."""
    pool = make(2, 0, leak_after_s=0.05)
    lease = pool.get_connection(operation="forgotten")
    lease.__enter__()
    with caplog.at_level(logging.WARNING):
        wait_for(lambda: pool.get_stats()["leaked"] == 1)
        call(pool)
        call(pool)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "MainThread for" in caplog.text
    assert "forgotten" in caplog.text
    lease.__exit__(None, None, None)
    assert (pool.get_stats()["leaked"], pool.get_stats()["active_connections"]) == (1, 0)


def test_a_checkout_alone_is_activity_enough_for_the_leak_report(make, caplog):
    """The report needs nobody to ask for figures."""
    pool = make(2, 0, leak_after_s=0.02)
    lease = pool.get_connection()
    lease.__enter__()
    with caplog.at_level(logging.WARNING):
        wait_for(lambda: [call(pool), "not given back" in caplog.text][1])
    lease.__exit__(None, None, None)


def test_a_checkout_that_fails_on_its_last_step_gives_the_slot_back(make, monkeypatch):
    """An interrupt between getting a slot and handing out its client loses nothing."""
    pool = make(1, 0)
    call(pool)
    pool.look_at = 0.0
    with monkeypatch.context() as patched:
        patched.setattr(pool, "report_leaks", lambda now: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pool.get_connection().__enter__()
    assert call(pool, timeout=1.0) == "ok"


# size and life
def test_a_pool_is_resized_while_live(fake, make):
    """More slots serve those who wait at once; surplus ones are closed as they come back."""
    pool = make(1, 0)
    go = threading.Event()
    fake.script("/api/generate", *[Play(text="x", gate=go)] * 3)
    threads = [threading.Thread(target=call, args=(pool,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: pool.get_stats()["waiting"] == 2)
    pool.resize(3)
    fake.until(lambda: fake.running == 3)
    pool.resize(1)
    assert pool.get_stats()["open_slots"] == 3
    go.set()
    for thread in threads:
        thread.join(5)
    assert pool.get_stats()["open_slots"] == 1
    fake.until(lambda: fake.open_connections == 1)
    with pytest.raises(ConfigurationError, match="pool_size=0"):
        pool.resize(0)


def test_shutdown_sends_waiters_away_and_ends_calls_under_way(fake, make):
    """Nobody hangs on a pool that is shut down: waiters, callers and later callers get PoolClosedError."""
    pool = make(1, 0)
    fake.script("/api/generate", Play(text="x", gate=threading.Event()))
    errors = []

    def work():
        try:
            call(pool)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work) for _ in range(2)]
    threads[0].start()
    fake.until(lambda: fake.running == 1)
    threads[1].start()
    wait_for(lambda: pool.get_stats()["waiting"] == 1)
    pool.shutdown()
    for thread in threads:
        thread.join(5)
    assert [type(error) for error in errors] == [PoolClosedError] * 2
    fake.until(lambda: fake.open_connections == 0 and fake.running == 0)
    with pytest.raises(PoolClosedError, match="make a new one"):
        call(pool)
    pool.shutdown()
    assert pool.get_stats()["open_slots"] == 0


def test_shutdown_can_let_calls_finish(fake, make):
    """With ``drain_s`` calls under way have that long to end by themselves."""
    pool = make(1, 0)
    go = threading.Event()
    fake.script("/api/generate", Play(text="done", gate=go))
    texts = []
    thread = threading.Thread(target=lambda: texts.append(call(pool)))
    thread.start()
    fake.until(lambda: fake.running == 1)
    closer = threading.Thread(target=pool.shutdown, kwargs={"drain_s": 30})
    closer.start()
    wait_for(lambda: pool.closed)
    go.set()
    thread.join(5)
    closer.join(5)
    assert not closer.is_alive()
    assert texts == ["done"]


def test_a_pool_that_is_dropped_goes_away_with_its_connections(fake):
    """Without shutdown nothing keeps a pool, its slots or its sockets alive."""
    pool = OllamaConnectionPool(2, 0, hosts=fake.url, model="fake")
    call(pool)
    seen = weakref.ref(pool)
    del pool
    gc.collect()
    assert seen() is None
    fake.until(lambda: fake.open_connections == 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pool_size": 0},
        {"pool_size": 2.5},
        {"max_overflow": -1},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"recycle_after": 0},
        {"max_waiting": -1},
        {"leak_after_s": -1},
        {"connect_timeout_s": 0},
        {"hosts": "ftp://x"},
        {"hosts": "a,b", "api_key": "k"},
        {"hosts": "a,b", "api_key": {"c": "k"}},
    ],
)
def test_impossible_arguments_are_one_sentence(wrong):
    """A value that cannot work is refused at once, by name."""
    with pytest.raises(ConfigurationError, match=next(reversed(wrong)).replace("hosts", "host")):
        OllamaConnectionPool(**{"hosts": NOWHERE, **wrong})


@pytest.mark.parametrize("seconds", [-1, -0.5, float("nan"), "3", True])
def test_an_impossible_wait_is_refused_not_waited_for(make, seconds):
    """A negative or strange timeout of a checkout, plain or async, or of the pool is one error at once, free slots or not."""
    pool = make(1, 0)
    for refused in (
        lambda: pool.get_connection(timeout=seconds),
        lambda: pool.acquire(timeout=seconds),
        lambda: setattr(pool, "timeout", seconds),
    ):
        with pytest.raises(ConfigurationError, match="timeout="):
            refused()
    assert pool.timeout == 30.0


def test_a_wait_of_zero_takes_what_is_free_or_fails_at_once(make):
    """timeout=0 is a question, not a wait; an endless timeout is allowed."""
    pool = make(1, 0, timeout=float("inf"))
    with pool.get_connection(timeout=0):
        began = time.monotonic()
        with pytest.raises(PoolTimeoutError, match=r"0\.00 s"):
            pool.get_connection(timeout=0).__enter__()
        assert time.monotonic() - began < 1
    assert pool.get_stats()["timeouts"] == 1


def test_a_lease_is_entered_once_at_a_time(make):
    """Entering a lease that holds a slot is an error that costs none; leaving twice, or without entering, gives back one."""
    pool = make(2, 0)
    lease = pool.get_connection()
    lease.__exit__(None, None, None)
    for _ in range(2):
        with lease:
            with pytest.raises(PoolError, match="holds a slot already"):
                lease.__enter__()
            assert pool.get_stats()["active_connections"] == 1
        lease.__exit__(None, None, None)
    assert pool.get_stats()["active_connections"] == 0
    assert len(pool.queue.idle) == 1


def test_a_client_kept_beyond_its_block_is_refused(fake, make):
    """After its slot was given back a client asks nothing; a call that was still under way then ends with the reason."""
    pool = make(1, 0)
    with pool.get_connection() as client:
        assert client.generate("x").text == "ok"
    with pytest.raises(PoolError, match="given back"):
        client.generate("x")
    never, errors = threading.Event(), []
    fake.script("/api/generate", Play(text="x", gate=never))

    def ask(client):
        try:
            client.generate("x")
        except BaseException as exc:
            errors.append(exc)

    with pool.get_connection() as client:
        thread = threading.Thread(target=ask, args=(client,))
        thread.start()
        fake.until(lambda: len(fake.requests) == 2)  # the first may still count as running
    thread.join(5)
    assert [type(error) for error in errors] == [PoolError]  # which no retry repeats
    assert "given back" in str(errors[0])
    with pytest.raises(PoolError, match="given back"):
        client.generate("x")
    assert len(fake.requests) == 2
    assert call(pool) == "ok"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_client_kept_beyond_its_block_asks_no_endpoint(fake, make, replaced):
    """Listings, cards, vectors, downloads and streams are refused like answers, also where the slot has a new client."""
    pool = make(1, 0)
    with pool.get_connection() as client:
        if replaced:
            fake.script("/api/generate", Play(drop=True))
            with pytest.raises(StreamBrokenError):
                client.generate("x")
    before = len(fake.requests)
    for ask in (
        client.tags,
        client.ps,
        client.show,
        client.version,
        client.load,
        lambda: client.embed("x"),
        lambda: client.pull("m"),
        lambda: client.digest("fake"),
        lambda: client.chat([{"role": "user", "content": "x"}]),
        lambda: list(client.generate("x", stream=True)),
    ):
        with pytest.raises(PoolError, match="given back"):
            ask()
    assert len(fake.requests) == before


def test_nothing_that_a_pool_shows_or_tells_holds_its_key():
    """Reprs, figures, events, errors that name holders, and the exchange that an answer keeps: the key is in none."""
    heard = []
    told = '{"label": "positive", "score": 0.5, "confidence": 0.9}'
    with FakeOllama(api_key="geheim-9", answer=told) as fake:
        pool = OllamaConnectionPool(1, 0, 5, hosts=fake.url, model="fake", api_key="geheim-9")
        stop = events.subscribe(heard.append)
        try:
            with pool.get_connection() as client:
                answer = client.ask(SENTIMENT, "Revenue grew.")
                client.tags()
                with pytest.raises(PoolTimeoutError) as caught:
                    pool.get_connection(timeout=0).__enter__()
                shown = [repr(client), repr(answer), repr(client.generate("x")), str(caught.value)]
            shown += [repr(pool), pool._repr_html_(), json.dumps(pool.get_stats()), repr(heard)]
        finally:
            stop()
            pool.shutdown()
    assert len(heard) >= 3
    assert not [text for text in shown if "geheim" in text]


def test_an_error_in_the_block_comes_out_and_the_slot_comes_back(make):
    """Whatever a caller raises inside the block, an interrupt included, is its own and costs no slot."""
    pool = make(1, 0)
    for error in (KeyError("mine"), KeyboardInterrupt(), GeneratorExit()):
        with pytest.raises(type(error)), pool.get_connection():
            raise error
    assert len(pool.queue.idle) == 1


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to threads on this platform")
def test_an_interrupt_ends_a_wait_for_a_slot(make):
    """Ctrl-C while waiting is KeyboardInterrupt at once; the caller leaves the queue and the slot goes to the next."""
    pool = make(1, 0)
    main, woken = threading.get_ident(), []
    holding, interrupted = threading.Event(), threading.Event()

    def hold():
        with pool.get_connection():
            holding.set()
            wait_for(lambda: pool.get_stats()["waiting"] == 1)
            signal.pthread_kill(main, signal.SIGINT)
            woken.append(interrupted.wait(10))

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(10)
    with pytest.raises(KeyboardInterrupt):
        pool.get_connection(timeout=30).__enter__()
    assert pool.get_stats()["waiting"] == 0
    interrupted.set()
    thread.join(10)
    assert woken == [True]
    with pool.get_connection(timeout=1):
        pass


def test_a_holder_that_died_is_named(make, caplog):
    """A thread that ended without giving its slot back is told from one that works, in the error and in the leak report."""
    pool = make(1, 0, leak_after_s=0.01)
    leases = []

    def take():
        lease = pool.get_connection(operation="forgotten")
        lease.__enter__()
        leases.append(lease)

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    with pytest.raises(PoolTimeoutError, match=r"a thread that has ended for .* s \(forgotten\)"):
        pool.get_connection(timeout=0.05).__enter__()
    with caplog.at_level(logging.WARNING, logger="analysis_kit"):
        assert pool.get_stats()["leaked"] == 1
    assert "a thread that has ended" in caplog.text
    pool.resize(2)
    with pool.get_connection(timeout=1):
        pass


def test_a_pool_shows_how_full_it_is(make, fake):
    """The repr is one line with live numbers; the HTML has a row a host, escaped."""
    pool = make(4, 2, name="<lab>")
    with pool.get_connection():
        assert repr(pool) == f"<OllamaConnectionPool '<lab>' 1 of 4+2 in use, 0 waiting, {fake.url}>"
        html = pool._repr_html_()
    assert fake.url in html
    assert "&lt;lab&gt;" in html
    assert "<lab>" not in html
    pool.shutdown()
    assert "closed" in repr(pool)


# cancels, loops, forks
def test_C4_cancelled_tasks_lose_no_slot(fake, make):
    """C4: 50 tasks cancelled in, at and after checkout: the next call works, nothing is checked out."""
    pool = make(2, 0)

    async def use():
        async with pool.acquire() as client:
            await asyncio.to_thread(client.generate, "x")

    async def main():
        rng = random.Random(1)
        for _ in range(50):
            tasks = [asyncio.create_task(use()) for _ in range(4)]
            await asyncio.sleep(rng.choice([0, 0, 0.001, 0.003]))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        async with pool.acquire() as client:
            return await asyncio.to_thread(client.generate, "x")

    assert asyncio.run(main()).text == "ok"
    stats = pool.get_stats()
    assert (stats["active_connections"], stats["waiting"]) == (0, 0)
    assert stats["open_slots"] <= 2


def test_C4_a_cancel_while_the_slot_is_being_prepared_loses_none(fake, make):
    """C4: also where preparing a slot takes I/O (pre-ping), a cancelled task's slot comes back by itself."""
    pool = make(1, 0, pre_ping=True)
    call(pool)

    async def main():
        go = threading.Event()
        fake.script("/api/version", Play(body={"version": "1"}, gate=go))
        lease = pool.acquire()
        task = asyncio.create_task(lease.__aenter__())
        await asyncio.to_thread(fake.until, lambda: fake.asked("/api/version"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        async with pool.acquire() as client:
            return await asyncio.to_thread(client.generate, "x")

    assert asyncio.run(main()).text == "ok"
    assert pool.get_stats()["active_connections"] == 0


def test_acquire_never_blocks_the_loop_and_times_out(make):
    """While a task waits for a slot the loop goes on, and its timeout is the pool's error."""
    pool = make(1, 0, timeout=0.05)

    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(tick())
        async with pool.acquire():
            with pytest.raises(PoolTimeoutError):
                await pool.acquire().__aenter__()
        ticker.cancel()
        return ticks

    assert asyncio.run(main()) > 50
    assert pool.get_stats()["active_connections"] == 0


def test_L9_one_pool_serves_many_loops_and_threads(make):
    """L9: with contention, in two runs of a loop, a thread's loop and plain threads: nothing is bound to a loop."""
    pool = make(2, 0)

    async def batch():
        async def use():
            async with pool.acquire() as client:
                return await asyncio.to_thread(client.generate, "x")

        return await asyncio.gather(*(use() for _ in range(8)))

    for _ in range(2):
        assert len(asyncio.run(batch())) == 8
    assert (
        run_threads(2, lambda number: asyncio.run(batch()) if number else [call(pool) for _ in range(8)])
        == []
    )
    assert pool.get_stats()["active_connections"] == 0


def test_a_waiter_whose_loop_has_ended_does_not_swallow_a_slot(make):
    """A loop that is closed with a task still waiting leaves the queue working for the others."""
    pool = make(1, 0)
    loop = asyncio.new_event_loop()

    async def wait():
        async with pool.acquire():
            pass

    with pool.get_connection():
        task = loop.create_task(wait())
        loop.run_until_complete(asyncio.sleep(0))
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()
    assert call(pool, timeout=1.0) == "ok"


def test_ten_thousand_checkouts_with_random_cancels_lose_no_slot(make):
    """Threads under tokens cancelled at random moments, waiting or holding: all slots are there in the end."""
    pool = make(3, 1, hosts=NOWHERE, timeout=30)
    cancelled = [0] * 8

    def work(number):
        rng = random.Random(number)
        for _ in range(1250):
            token = CancelToken()
            reset = current_token.set(token)
            killer = threading.Timer(rng.random() * 0.0005, token.cancel) if rng.random() < 0.05 else None
            if killer is not None:
                killer.start()
            elif rng.random() < 0.05:
                token.cancel()
            try:
                with pool.get_connection():
                    if rng.random() < 0.2:
                        time.sleep(0)
                    token.raise_if_cancelled()
            except asyncio.CancelledError:
                cancelled[number] += 1
            finally:
                current_token.reset(reset)
                if killer is not None:
                    killer.join()

    assert run_threads(8, work) == []
    assert sum(cancelled) > 100
    stats = pool.get_stats()
    assert (stats["active_connections"], stats["waiting"]) == (0, 0)
    assert stats["open_slots"] == len(pool.queue.idle) <= 4
    with pool.get_connection(), pool.get_connection(), pool.get_connection(), pool.get_connection(timeout=1):
        assert pool.get_stats()["active_connections"] == 4


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_C8_a_pool_begins_anew_in_a_forked_child(fake):
    """C8: a warm process-wide pool, forked twice while another thread holds a slot: answers match, nothing is shared."""
    fake.answer = lambda request: request["prompt"].upper()
    pool = get_pool(2, 0, hosts=fake.url, model="fake")
    assert call(pool, "warm") == "WARM"
    holding, go = threading.Event(), threading.Event()

    def hold():
        with pool.get_connection():
            holding.set()
            go.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    holding.wait()
    children = []
    for name in ("one", "two"):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                same = get_pool()
                texts = [call(same, f"{name} {n}", timeout=5) for n in range(5)]
                with same.get_connection(timeout=5), same.get_connection(timeout=5):
                    both = same.get_stats()["active_connections"]
                status = 0 if (texts == [f"{name} {n}".upper() for n in range(5)] and both == 2) else 2
            finally:
                os._exit(status)
        children.append(pid)
    assert [call(pool, f"parent {n}") for n in range(5)] == [f"PARENT {n}" for n in range(5)]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    go.set()
    holder.join()
    assert pool.get_stats()["active_connections"] == 0


# the process-wide pool
def test_get_pool_is_the_live_one_and_is_resized_by_other_values(fake, caplog):
    """Bare it is the live pool; other values change it in place with one INFO record; re-running a cell just works."""
    with override_settings(OLLAMA_HOST=fake.url, OLLAMA_POOL_SIZE=3):
        pool = get_pool()
        assert pool.pool_size == 3
        assert get_pool() is pool
        with caplog.at_level(logging.INFO, logger="analysis_kit"):
            assert get_pool(pool_size=5, timeout=2.0) is pool
            assert get_pool(pool_size=5) is pool
        assert len(caplog.records) == 1
        assert "pool_size 3 -> 5" in caplog.text
        assert (pool.pool_size, pool.timeout) == (5, 2.0)
        with pytest.raises(ConfigurationError, match="timeout"):
            get_pool(timeout=-1)
        pool.shutdown()
        assert get_pool() is not pool


def test_get_pool_over_other_hosts_replaces_the_live_one(fake):
    """Other hosts are another pool; a run that has the old one goes on with it, and it keeps no connection."""
    old = get_pool(hosts=NOWHERE)
    with old.get_connection():
        new = get_pool(hosts=fake.url, model="fake")
        assert new is not old
        assert get_pool(hosts=fake.url) is new
    with old.get_connection(), old.get_connection():
        assert old.get_stats()["open_slots"] == 2
    assert old.get_stats()["open_slots"] == 0
    assert call(new) == "ok"
    reset_pool()
    assert new.closed


def test_get_pool_follows_ollama_host(fake, caplog):
    """The bare call gives a live pool over the host of now, like the old one but for its key; one INFO record says so."""
    with FakeOllama() as other, override_settings(OLLAMA_HOST=NOWHERE):
        old = get_pool(3, 1, model="fake", api_key="geheim", name="mine")
        lease = old.get_connection()
        lease.__enter__()
        with override_settings(OLLAMA_HOST="http://127.0.0.1:9/"):
            assert get_pool() is old
        with (
            caplog.at_level(logging.INFO, logger="analysis_kit"),
            override_settings(OLLAMA_HOST=f"{fake.url},{other.url}"),
        ):
            new = get_pool()
            assert get_pool() is new
            assert get_pool(pool_size=3) is new
            assert new.hosts == (fake.url, other.url)
            assert (new.pool_size, new.max_overflow, new.model, new.name) == (3, 1, "fake", "mine")
            assert call(new) == "ok"
            assert [record.levelname for record in caplog.records] == ["INFO"]
            assert fake.url in caplog.text
            assert "127.0.0.1:9" in caplog.text
        assert not [
            request for request in fake.requests + other.requests if "authorization" in request.headers
        ]
        lease.__exit__(None, None, None)
        assert old.get_stats()["open_slots"] == 0


def test_get_pool_and_clients_follow_the_variable_in_a_notebook(fake, monkeypatch):
    """OLLAMA_HOST set in the process, as %env does, is heeded by the next call; an override holds against it."""
    monkeypatch.setenv("OLLAMA_HOST", NOWHERE)
    old = get_pool(model="fake")
    with override_settings(OLLAMA_HOST=NOWHERE):
        monkeypatch.setenv("OLLAMA_HOST", fake.url)
        assert get_pool() is old
    new = get_pool()
    assert (new.hosts, new.model) == ((fake.url,), "fake")
    assert call(new) == "ok"
    assert OllamaClient().version() == fake.version
    monkeypatch.delenv("OLLAMA_HOST")
    assert get_pool().hosts == ("http://127.0.0.1:11434",)


@pytest.mark.parametrize("closed", [False, True])
def test_the_pool_in_place_of_a_registered_one_is_as_it_in_all_but_the_host(make, fake, closed):
    """A registered pool, live or shut down, is replaced over today's OLLAMA_HOST by one of the same arguments, key excepted."""
    alike = {
        "connect_timeout_s": 4.0,
        "read_timeout_s": 5.0,
        "load_timeout_s": 6.0,
        "max_age_s": 70.0,
        "pre_ping": True,
        "max_waiting": 7,
        "leak_after_s": 80.0,
        "name": "lab",
        "model": "fake",
        "options": {"num_ctx": 8192},
        "keep_alive": "1h",
    }
    with override_settings(OLLAMA_HOST=NOWHERE):
        mine = make(3, 1, 9.0, 50, hosts=None, api_key="geheim", **alike)
        get_container().register_singleton(OllamaConnectionPool, instance=mine)
        mine.resize(5)
    if closed:
        mine.shutdown()
    with override_settings(OLLAMA_HOST=fake.url):
        new = get_pool()
        assert new.hosts == (fake.url,)
        assert (new.pool_size, new.max_overflow, new.timeout, new.recycle_after) == (5, 1, 9.0, 50)
        assert {name: new.made_with[name] for name in alike} == alike
        assert call(new) == "ok"
        (asked,) = (request for request in fake.requests if request.path == "/api/generate")
        assert (asked.json["options"]["num_ctx"], asked.json["keep_alive"]) == (8192, "1h")
        assert "authorization" not in asked.headers
        assert get_pool() is new
        other = get_pool(read_timeout_s=8)
        assert other is not new
        assert get_pool() is other
        second = make(2, hosts=None, name="second")
        second.shutdown()
        get_container().register_singleton(OllamaConnectionPool, instance=second)
        assert get_pool().name == "second"


def test_the_pool_in_place_of_a_closed_one_keeps_its_named_hosts_and_arguments(make, fake):
    """A registered pool over named hosts, shut down: the next one has its hosts, its key and all else."""
    mine = make(2, 0, hosts=fake.url, api_key="geheim", name="lab", model="fake", keep_alive="1h")
    get_container().register_singleton(OllamaConnectionPool, instance=mine)
    mine.shutdown()
    with override_settings(OLLAMA_HOST=NOWHERE):
        new = get_pool()
        assert (new.hosts, new.keys, new.name) == (mine.hosts, mine.keys, "lab")
        assert (new.pool_size, new.max_overflow, new.made_with["keep_alive"]) == (2, 0, "1h")
        assert get_pool() is new


def test_a_registered_pool_serves_again_when_ollama_host_is_what_it_was(make, fake, caplog):
    """Back at its host it keeps its connections as before, and the pool that stood for it keeps none; one record a change."""
    with FakeOllama() as other, override_settings(OLLAMA_HOST=fake.url):
        mine = make(2, 0, hosts=None)
        get_container().register_singleton(OllamaConnectionPool, instance=mine)
        with caplog.at_level(logging.INFO, logger="analysis_kit"):
            with override_settings(OLLAMA_HOST=other.url):
                between = get_pool()
                assert call(between) == "ok"
            assert get_pool() is mine
            assert get_pool() is mine
        assert len(caplog.records) == 2
        before = mine.get_stats()["created"]
        assert [call(mine) for _ in range(3)] == ["ok"] * 3
        assert (mine.get_stats()["open_slots"], mine.get_stats()["created"]) == (1, before + 1)
        assert between.get_stats()["open_slots"] == 0


def test_get_pool_keeps_to_hosts_that_were_named(fake):
    """Hosts given to get_pool hold, whatever OLLAMA_HOST becomes; ``hosts=None`` says nothing."""
    named = get_pool(hosts=fake.url)
    with override_settings(OLLAMA_HOST=NOWHERE):
        assert get_pool() is named
        assert get_pool(hosts=None) is named


@pytest.mark.parametrize("registered", [False, True])
def test_get_pool_never_gives_a_closed_pool(make, fake, caplog, registered):
    """Where the pool was shut down the bare call makes a live one, a registered one's over the same hosts, and says so."""
    with override_settings(OLLAMA_HOST=NOWHERE if registered else fake.url, OLLAMA_MODEL="fake"):
        if registered:
            get_container().register_singleton(OllamaConnectionPool, instance=make(hosts=fake.url))
        old = get_pool()
        old.shutdown()
        with caplog.at_level(logging.INFO, logger="analysis_kit"):
            new = get_pool()
            assert get_pool() is new
        assert new is not old
        assert call(new) == "ok"
        assert len(caplog.records) == 1
        assert "shut down" in caplog.text
        if registered:
            mine = make()
            get_container().register_singleton(OllamaConnectionPool, instance=mine)
            assert get_pool() is mine


def test_get_pool_refuses_a_change_it_cannot_make_and_makes_no_part_of_it(fake):
    """One impossible value among several leaves the live pool as it is."""
    pool = get_pool(2, hosts=fake.url)
    for wrong in ({"timeout": -1}, {"timeout": float("nan")}, {"recycle_after": 0}, {"max_overflow": -1}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            get_pool(pool_size=5, **wrong)
        assert pool.pool_size == 2


def test_a_pool_registered_in_the_container_is_the_process_wide_one(make):
    """An override of the pool reaches everyone who asks for it."""
    mine = make(7, 0)
    get_container().register_singleton(OllamaConnectionPool, instance=mine)
    assert get_pool() is mine
    assert get_pool(pool_size=9) is mine
    assert mine.pool_size == 9


def test_the_cap_of_a_pool_is_a_live_number_within_its_size(fake, make):
    """``limit_for`` gives what an engine asks for: at least 1, at most what the pool holds, following the requests."""
    pool = make(2, 0)
    cap = pool.limit_for()
    assert cap.limit == 2
    pool.resize(50)
    assert cap.limit == 4
    cap.started()
    cap.finished(1.0, True)
    assert pool.limit_for(fake.url).limit == 4
    with pytest.raises(ConfigurationError, match="gpu9"):
        pool.limit_for("gpu9")

"""What users of other pools have reported, each kind as a test: leaks, shrinking, dead loops, abandoned work, exits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes.ollama import FakeOllama, Play
from fakes.threads import coming_and_going, wait_for

from analysis_kit.cancellation import CancelToken, current_token
from analysis_kit.errors import (
    ConfigurationError,
    OllamaUnreachableError,
    PoolClosedError,
    PoolError,
    PoolTimeoutError,
)
from analysis_kit.ollama import pool as pool_module
from analysis_kit.ollama.lost import take_back
from analysis_kit.ollama.pool import OllamaConnectionPool, get_pool
from analysis_kit.retry import call_with_retry

NOWHERE = "127.0.0.1:9"


@pytest.fixture
def fake():
    """Serve with many slots."""
    with FakeOllama(slots=64) as server:
        yield server


def call(pool, prompt="x", **options):
    """Ask once through the pool."""
    with pool.get_connection(**options) as client:
        return client.generate(prompt).text


def quiet(pool):
    """Return whether nothing is held, nobody waits, and no slot is missing."""
    stats = pool.get_stats()
    return (stats["active_connections"], stats["waiting"], stats["open_slots"]) == (
        0,
        0,
        len(pool.queue.idle),
    )


# slots that nobody can give back
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to threads on this platform")
@pytest.mark.parametrize(("size", "overflow"), [(2, 0), (1, 1)])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_at_any_step_of_a_checkout_lose_no_slot(make, size, overflow):
    """A thousand interrupts in a tight loop, two slots each round: whatever step they hit, both are there again."""
    pool = make(size, overflow, hosts=NOWHERE)
    # a plain flag: an interrupt inside Event.set() would leave the event's own lock locked
    main, hits, armed, stop = threading.get_ident(), 0, [False], threading.Event()

    def shoot():
        idle = 0
        while not stop.wait(0.0005):
            idle += 1
            # one that came within a callback of the garbage collector was swallowed there, and is sent again
            if armed[0] or idle > 200:
                armed[0], idle = False, 0
                signal.pthread_kill(main, signal.SIGINT)

    shooter = threading.Thread(target=shoot)
    shooter.start()
    until = time.monotonic() + 20
    while hits < 1000 and time.monotonic() < until:
        try:
            armed[0] = True
            while time.monotonic() < until:
                with pool.get_connection(timeout=5), pool.get_connection(timeout=5):
                    pass
        except KeyboardInterrupt:
            hits += 1
    stop.set()
    with contextlib.suppress(KeyboardInterrupt):
        shooter.join()
    shooter.join()
    assert hits == 1000
    assert quiet(pool)
    with pool.get_connection(timeout=1), pool.get_connection(timeout=1):
        assert pool.get_stats()["active_connections"] == 2


def test_a_lease_that_is_dropped_without_leaving_gives_its_slot_to_the_next(make, caplog):
    """Garbage with a slot in it is taken back when the slot is wanted, with one warning that names who had it."""
    pool = make(1, 0)
    pool.get_connection(operation="forgotten").__enter__()
    gc.collect()
    with caplog.at_level(logging.WARNING, logger="analysis_kit"):
        assert call(pool, timeout=0.2) == "ok"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "held by MainThread for" in caplog.text
    assert "forgotten" in caplog.text
    assert quiet(pool)
    assert pool.get_stats()["leaked"] == 1
    assert pool.get_stats()["total_requests"] == 2


def test_who_waits_already_gets_a_slot_that_is_lost_meanwhile(make):
    """A waiter looks again while it waits, on a thread or a loop: nobody has to come and ask for it."""
    pool = make(1, 0, timeout=30)
    leases = [pool.get_connection()]
    leases[0].__enter__()
    texts = []
    thread = threading.Thread(target=lambda: texts.append(call(pool)))
    thread.start()
    wait_for(lambda: len(pool.queue.waiters) == 1)
    leases.clear()
    thread.join(10)
    assert texts == ["ok"]

    async def main():
        leases.append(pool.get_connection())
        leases[0].__enter__()
        task = asyncio.ensure_future(pool.acquire().__aenter__())
        while not pool.queue.waiters:
            await asyncio.sleep(0)
        leases.clear()
        await asyncio.wait_for(task, 10)

    asyncio.run(main())


def test_what_anybody_can_still_use_is_never_taken_back(make, fake):
    """A client, a method of it, or a stream that somebody kept is in use, though its lease is gone."""
    pool = make(3, 0)
    go = threading.Event()
    fake.script("/api/generate", Play(text="a b", mid_gate=go))
    client = pool.get_connection().__enter__()
    stream = pool.get_connection().__enter__().generate("x", stream=True)
    method = pool.get_connection().__enter__().generate
    next(stream)
    gc.collect()
    with pytest.raises(PoolTimeoutError, match="3 in use"):
        call(pool, timeout=0.05)
    go.set()
    assert [client.generate("x").text, method("x").text] == ["ok", "ok"]
    assert "".join(piece.text for piece in stream).strip() == "b"
    del client, stream, method
    gc.collect()
    assert call(pool, timeout=0.05) == "ok"
    assert quiet(pool)


def test_a_slot_lost_on_one_of_many_hosts_does_not_count_there(fake):
    """A host is not thought busy for ever because a lease on it was dropped."""
    with FakeOllama() as other, OllamaConnectionPool(2, 0, hosts=[fake.url, other.url], model="fake") as pool:
        for _ in range(5):
            pool.get_connection().__enter__()
            gc.collect()
            assert pool.get_stats()["active_connections"] == 0
        assert [host["active"] for host in pool.get_stats()["hosts"]] == [0, 0]
        assert call(pool) == "ok"


def test_work_that_is_abandoned_half_way_gives_its_slot_back(make, fake):
    """A generator that holds a client, plain or async, and is dropped: its slot is free and the server let go."""
    pool = make(1, 0)
    fake.token_s = 0.01
    endless = Play(text="w " * 5000)

    def pieces():
        with pool.get_connection() as client:
            yield from client.generate("x", stream=True)

    async def pieces_async():
        async with pool.acquire() as client:
            for piece in client.generate("x", stream=True):
                yield piece

    fake.script("/api/generate", endless)
    half = pieces()
    next(half)
    del half
    assert call(pool, timeout=2) == "ok"

    async def main():
        fake.script("/api/generate", endless)
        half = pieces_async()
        await anext(half)
        await half.aclose()

    asyncio.run(main())
    assert call(pool, timeout=2) == "ok"
    fake.until(lambda: fake.running == 0)
    assert quiet(pool)


# a client beyond its block
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("tags", ()),
        ("ps", ()),
        ("version", ()),
        ("show", ("fake",)),
        ("load", ("fake",)),
        ("pull", ("fake",)),
        ("digest", ("fake",)),
        ("embed", ("x", "fake")),
        ("generate", ("x", "fake")),
        ("chat", ([{"role": "user", "content": "x"}], "fake")),
        ("analyze_sentiment", ("x", "fake")),
    ],
)
def test_a_kept_client_asks_nothing_at_all(make, fake, name, args):
    """Every call of a client whose block is over is refused without a request, and works within the block."""
    pool = make(1, 0, model=None)
    with pool.get_connection() as client:
        with contextlib.suppress(Exception):
            getattr(client, name)(*args)
        inside = len(fake.requests)
        assert inside
    with pytest.raises(PoolError, match="given back"):
        getattr(client, name)(*args)
    assert len(fake.requests) == inside


def test_a_slot_keeps_one_connection_however_many_threads_used_it(make, fake):
    """Eight threads that share one client in its block have eight connections then, and the slot one after."""
    pool = make(1, 0)
    go = threading.Event()
    fake.script("/api/generate", *[Play(text="ok", gate=go)] * 8)
    with pool.get_connection() as client, ThreadPoolExecutor(8) as threads:
        texts = [threads.submit(client.generate, "x") for _ in range(8)]
        fake.until(lambda: fake.running == 8)
        go.set()
        assert [text.result().text for text in texts] == ["ok"] * 8
    fake.until(lambda: fake.open_connections == 1)
    assert call(pool) == "ok"
    assert fake.connections == 8


# size
def test_a_pool_made_smaller_under_load_gets_smaller(make):
    """With callers waiting all the time, what is beyond the new size ends; nobody is served with it first."""
    pool = make(4, 2, hosts=NOWHERE)
    stop, served = threading.Event(), [0] * 8

    def work(number):
        while not stop.is_set():
            with pool.get_connection():
                served[number] += 1
                time.sleep(0.0002)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: pool.get_stats()["open_slots"] == 6)
        pool.resize(1, max_overflow=0)
        wait_for(lambda: pool.get_stats()["open_slots"] == 1)
        before = list(served)
        wait_for(lambda: all(now > then for now, then in zip(served, before, strict=True)))
        assert pool.get_stats()["active_connections"] <= 1
        pool.resize(3)
        wait_for(lambda: pool.get_stats()["open_slots"] == 3)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert quiet(pool)


def test_overflow_ends_when_nobody_needs_it(make, fake):
    """After a burst the pool is back at its size, burst after burst, and its figures never fall below zero."""
    pool = make(2, 4)
    for burst in range(1, 4):
        go = threading.Event()
        fake.script("/api/generate", *[Play(text="ok", gate=go)] * 6)
        threads = [threading.Thread(target=call, args=(pool,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        fake.until(lambda: fake.running == 6)
        assert pool.get_stats()["available_connections"] == 0
        go.set()
        for thread in threads:
            thread.join(10)
        stats = pool.get_stats()
        assert (stats["open_slots"], stats["available_connections"]) == (2, 2)
        assert stats["total_requests"] == 6 * burst
        assert all(value >= 0 for value in stats.values() if isinstance(value, int))
        fake.until(lambda: fake.open_connections == 2)


# loops
def test_a_loop_that_was_closed_with_waiters_swallows_no_slot(make):
    """Tasks left waiting in a closed loop, many of them: the next live caller is served, and each slot is given once."""
    pool = make(2, 0)
    loop = asyncio.new_event_loop()

    async def wait():
        async with pool.acquire():
            raise AssertionError("nobody runs here any more")

    with pool.get_connection(), pool.get_connection():
        tasks = [loop.create_task(wait()) for _ in range(2000)]
        loop.run_until_complete(asyncio.sleep(0))
        wait_for(lambda: len(pool.queue.waiters) == 2000)
        loop.close()
    assert call(pool, timeout=1) == "ok"
    for task in tasks:
        task._log_destroy_pending = False
    del tasks, task
    gc.collect()
    assert quiet(pool)
    assert len(set(pool.queue.idle)) == len(pool.queue.idle) == 2


def test_a_dead_waiter_that_is_collected_while_it_is_served_gives_its_slot_to_one_alone(make):
    """A task of a closed loop ends on another thread just as a slot is handed to it: the slot is free once, not twice."""
    pool = make(1, 0)
    loop = asyncio.new_event_loop()
    waiting = pool.queue.wait_async(5)

    def wake(*_):
        collector = threading.Thread(target=waiting.close)
        collector.start()
        collector.join(10)
        raise RuntimeError("Event loop is closed")

    with pool.get_connection():
        task = loop.create_task(waiting)
        loop.run_until_complete(asyncio.sleep(0))
        wait_for(lambda: len(pool.queue.waiters) == 1)
        loop.close()
        loop.call_soon_threadsafe = wake
    assert len(pool.queue.idle) == 1
    with (
        pool.get_connection(timeout=0),
        pytest.raises(PoolTimeoutError),
        pool.get_connection(timeout=0),
    ):
        raise AssertionError("two hold the one slot")
    task._log_destroy_pending = False


def test_a_dead_waiter_that_is_collected_under_the_queues_lock_stops_nobody(make):
    """Where the collector ends a closed loop's waiter in a step that holds the pool's lock, the step and the pool go on."""
    pool = make(1, 0)
    waiting = pool.queue.wait_async(5)

    def collect():
        with pool.queue.lock:
            waiting.close()

    async def begin():
        waiting.send(None)

    with pool.get_connection():
        asyncio.run(begin())
        assert len(pool.queue.waiters) == 1
        collector = threading.Thread(target=collect, daemon=True)
        collector.start()
        collector.join(10)
        assert not collector.is_alive()
        wait_for(lambda: not pool.queue.waiters)
    assert call(pool, timeout=1) == "ok"


def test_a_dead_holder_that_is_collected_under_the_queues_lock_gives_its_slot_back(make):
    """Where the collector ends a closed loop's task that holds a slot, in a step that has the pool's lock, all goes on."""
    pool = make(1, 0)

    async def hold():
        async with pool.acquire():
            await asyncio.sleep(60)

    holding = hold()

    async def begin():
        holding.send(None)

    def collect():
        with pool.queue.lock:
            holding.close()

    asyncio.run(begin())
    collector = threading.Thread(target=collect, daemon=True)
    waiter = threading.Thread(target=call, args=(pool,), kwargs={"timeout": 10}, daemon=True)
    waiter.start()
    wait_for(lambda: len(pool.queue.waiters) == 1)
    collector.start()
    for thread in (collector, waiter):
        thread.join(10)
        assert not thread.is_alive()
    assert quiet(pool)


def test_leave_to_make_a_slot_is_not_lost_on_a_closed_loop(make):
    """Where a waiter of a closed loop is offered a slot that does not exist yet, the next one may make it."""
    pool = make(1, 0)
    loop = asyncio.new_event_loop()

    async def wait():
        await pool.acquire().__aenter__()

    with pool.get_connection():
        task = loop.create_task(wait())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        pool.resize(3)
        assert call(pool, timeout=1) == "ok"
        with pool.get_connection(timeout=1), pool.get_connection(timeout=1):
            assert pool.get_stats()["open_slots"] == 3
    task._log_destroy_pending = False


def test_a_shutdown_ends_the_waits_of_tasks(make):
    """Tasks that wait when the pool is closed get PoolClosedError, on one loop or several."""
    pool = make(1, 0)

    async def main():
        async with pool.acquire():
            tasks = [asyncio.ensure_future(pool.acquire().__aenter__()) for _ in range(3)]
            while len(pool.queue.waiters) < 3:
                await asyncio.sleep(0)
            pool.shutdown()
            return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(error) for error in asyncio.run(main())] == [PoolClosedError] * 3
    assert pool.get_stats()["open_slots"] == 0


def test_a_wait_that_wait_for_gives_up_leaves_the_queue(make):
    """The time limits of asyncio around a checkout cost neither a slot nor a place in the queue."""
    pool = make(1, 0)

    async def main():
        async with pool.acquire():
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(pool.acquire().__aenter__(), 0.001)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001), pool.acquire():
                        pass
        assert pool.get_stats()["waiting"] == 0

    asyncio.run(main())
    assert quiet(pool)
    assert call(pool, timeout=1) == "ok"


def test_tasks_of_a_run_wait_for_one_another_as_threads_do(make):
    """In a run a task waits as long as it takes for the slot of another on its loop; one that holds a slot is bounded."""
    pool = make(1, 0, timeout=0.02)

    async def main():
        current_token.set(CancelToken())
        held, go = asyncio.Event(), asyncio.Event()

        async def hold():
            async with pool.acquire():
                held.set()
                await go.wait()

        async def wait():
            async with pool.acquire():
                with pytest.raises(PoolTimeoutError):
                    await pool.acquire().__aenter__()

        holder = asyncio.ensure_future(hold())
        await held.wait()
        waiter = asyncio.ensure_future(wait())
        assert not (await asyncio.wait([waiter], timeout=0.2))[0]
        go.set()
        await asyncio.gather(holder, waiter)

    asyncio.run(main())
    assert quiet(pool)


@pytest.mark.parametrize(
    "way",
    [
        lambda inner, _: asyncio.gather(inner()),
        lambda inner, _: asyncio.create_task(inner()),
        lambda inner, _: asyncio.wait_for(inner(), 60),
        lambda _, blocking: asyncio.to_thread(blocking),
    ],
    ids=["gather", "create_task", "wait_for", "to_thread"],
)
def test_C6_what_a_task_begins_while_it_holds_a_slot_is_bounded_in_a_run(make, way):
    """In a run a checkout in a child of the task that holds the last slot ends in time; after the block it is not bounded."""
    pool = make(1, 0, timeout=0.05)

    async def main():
        current_token.set(CancelToken())

        async def inner():
            async with pool.acquire():
                return "served"

        def blocking():
            with pool.get_connection():
                return "served"

        async def after(go):
            await go.wait()
            return await way(inner, blocking)

        async def hold(held, go):
            async with pool.acquire():
                held.set()
                await go.wait()

        begin, held, go = asyncio.Event(), asyncio.Event(), asyncio.Event()
        async with pool.acquire():
            with pytest.raises(PoolTimeoutError):
                await way(inner, blocking)
            child = asyncio.create_task(after(begin))
        other = asyncio.create_task(hold(held, go))
        await held.wait()
        begin.set()
        assert not (await asyncio.wait([child], timeout=0.2))[0]
        go.set()
        await other
        assert await child in ("served", ["served"])

    asyncio.run(asyncio.wait_for(main(), 10))
    assert quiet(pool)


def test_a_holder_asks_nothing_more_after_a_shutdown(make, fake):
    """Who holds a slot when the pool is shut down gets PoolClosedError from the next call too, and gives back as ever."""
    pool = make(2, 0)
    with pool.get_connection() as client:
        assert client.generate("x").text == "ok"
        pool.shutdown()
        for ask in (lambda: client.generate("x"), client.tags, lambda: client.embed("x", "fake")):
            with pytest.raises(PoolClosedError, match="shut down"):
                ask()
    assert len(fake.requests) == 1
    assert pool.get_stats()["open_slots"] == 0
    fake.until(lambda: fake.open_connections == 0)


# time
@pytest.mark.parametrize("drain_s", [-1, math.nan, "3", True, None])
def test_an_impossible_drain_closes_nothing(make, drain_s):
    """A drain that is no time is refused before anything is shut down; an endless one is allowed."""
    pool = make(1, 0)
    with pytest.raises(ConfigurationError, match="drain_s="):
        pool.shutdown(drain_s=drain_s)
    assert call(pool) == "ok"
    pool.shutdown(drain_s=math.inf)
    assert pool.closed


def test_retried_checkouts_do_not_multiply_the_wait(make):
    """A timeout of the pool is not repeated by a retry, so the caller waits for it once."""
    pool = make(1, 0, timeout=0.1)
    with pool.get_connection(), pytest.raises(PoolTimeoutError):
        call_with_retry(lambda: call(pool), max_attempts=5, base_s=0.001)
    assert pool.get_stats()["timeouts"] == 1


def test_a_pool_over_a_dead_host_still_hands_out_slots(make):
    """Checkout opens nothing: a host that is away is the request's error, and costs no slot, time after time."""
    pool = make(1, 0, hosts=NOWHERE)
    for _ in range(10):
        with pytest.raises(OllamaUnreachableError):
            call(pool, timeout=0)
    assert quiet(pool)
    assert pool.get_stats()["open_slots"] == 1


def test_an_age_that_is_over_does_not_end_a_connection_in_use(make, fake):
    """A connection older than ``max_age_s`` answers its holder to the end, and is replaced for the next."""
    pool = make(1, 0, max_age_s=0.001, recycle_after=1)
    with pool.get_connection() as client:
        for _ in range(3):
            client.generate("x")
        assert fake.connections == 1
    call(pool)
    assert fake.connections == 2


def test_pings_wait_in_no_storm(make, fake):
    """With ``pre_ping`` and a server that hangs on it, others' slots stay free to use; the pinged slot counts as held."""
    pool = make(2, 0, pre_ping=True)
    with pool.get_connection() as one, pool.get_connection() as two:
        one.generate("x")
        two.generate("x")
    go = threading.Event()
    fake.script("/api/version", Play(body={"version": "1"}, gate=go))
    thread = threading.Thread(target=call, args=(pool,), name="pinger")
    thread.start()
    fake.until(lambda: len(fake.asked("/api/version")) == 1)
    assert pool.get_stats()["active_connections"] == 1
    assert call(pool, timeout=1) == "ok"
    with pool.get_connection(timeout=1), pytest.raises(PoolTimeoutError, match="pinger for"):
        call(pool, timeout=0.02)
    go.set()
    thread.join(10)
    assert len(fake.asked("/api/version")) == 3
    assert quiet(pool)


# processes
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_C8_a_fork_inside_the_block_shares_no_connection(make, fake):
    """C8: parent and child both go on with the client they held at the fork, each on a connection of its own."""
    fake.answer = lambda request: request["prompt"].upper()
    pool = make(1, 0)
    with pool.get_connection() as client:
        client.generate("warm")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                texts = [client.generate(f"child {n}").text for n in range(20)]
                status = 0 if texts == [f"CHILD {n}" for n in range(20)] else 2
            finally:
                os._exit(status)
        assert [client.generate(f"parent {n}").text for n in range(20)] == [f"PARENT {n}" for n in range(20)]
        assert os.waitpid(pid, 0)[1] == 0
    assert fake.connections == 2
    assert quiet(pool)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_C8_a_fork_while_other_threads_are_in_the_pool_hangs_nowhere(fake):
    """C8: locks that other threads held at the fork are free in the child, and their places in the queue gone."""
    shared = get_pool(1, 0, hosts=fake.url, model="fake")
    waiting = threading.Thread(target=call, args=(shared,))
    locked, go = threading.Event(), threading.Event()

    def hold_the_locks():
        with pool_module._lock, shared.queue.lock, shared.members[0]._lock:
            locked.set()
            go.wait(30)

    holder = threading.Thread(target=hold_the_locks)
    lease = shared.get_connection()
    with lease:
        waiting.start()
        wait_for(lambda: len(shared.queue.waiters) == 1)
        holder.start()
        locked.wait(10)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(20)
                lease.__exit__(None, None, None)
                same = get_pool()
                status = 0 if same is shared and call(same, timeout=1) == "ok" and quiet(same) else 2
            finally:
                os._exit(status)
        status = os.waitpid(pid, 0)[1]
        go.set()
        holder.join(10)
    waiting.join(10)
    assert status == 0
    assert quiet(shared)


def test_a_process_with_slots_held_and_callers_waiting_ends(fake):
    """Leases never left, a stream half read and threads that wait for a slot do not hold the interpreter."""
    fake.token_s = 0.05
    code = f"""
import threading
from analysis_kit import OllamaConnectionPool, get_pool

def wait(pool):
    try:
        pool.get_connection(timeout=1e9).__enter__()
    except BaseException:
        pass

leases = []
for pool in (OllamaConnectionPool(1, 0, hosts={fake.url!r}, model="fake"), get_pool(1, 0, hosts={fake.url!r}, model="fake")):
    leases.append(pool.get_connection())
    stream = leases[-1].__enter__().generate("x", stream=True)
    next(stream)
    threading.Thread(target=wait, args=(pool,), daemon=True).start()
print("end", flush=True)
"""
    fake.script("/api/generate", *[Play(text="w " * 5000)] * 2)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
    fake.until(lambda: fake.open_connections == 0)


# cases, through the whole pool
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("/api/generate", lambda client: client.generate("x").text),
        ("/api/generate", lambda client: "".join(piece.text for piece in client.generate("x", stream=True))),
        ("/api/chat", lambda client: client.chat([{"role": "user", "content": "x"}]).text),
        ("/api/embed", lambda client: client.embed("x", "fake").vectors),
        ("/api/tags", lambda client: client.tags()),
    ],
)
def test_C2_a_slots_kept_connection_that_was_closed_costs_one_replay(fake, reset, hosts, path, ask):
    """C2: on every endpoint a dropped request is sent once more to the same host, which is not blamed for it."""
    with FakeOllama() as other:
        pool = OllamaConnectionPool(1, 0, hosts=[fake.url, other.url][:hosts], model="fake")
        call(pool)
        before = len(fake.requests)
        fake.script(path, Play(drop=True, reset=reset))
        with pool.get_connection() as client:
            assert ask(client)
        assert [request.path for request in fake.requests[before:]] == [path, path]
        assert [host["failed"] for host in pool.get_stats()["hosts"]] == [0] * hosts
        assert pool.get_stats()["discarded"] == 0
        pool.shutdown()


def test_C4_tasks_cancelled_while_they_connect_lose_no_slot(make):
    """C4: against a server that takes no connection, 20 cancelled calls leave both slots free, each at once."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        pool = make(2, 0, hosts=f"127.0.0.1:{full.getsockname()[1]}", connect_timeout_s=60)

        async def use(token):
            async with pool.acquire() as client:
                started.set()
                current_token.set(token)
                await asyncio.to_thread(client.generate, "x")

        async def main():
            for _ in range(20):
                started.clear()
                token = CancelToken()
                task = asyncio.ensure_future(use(token))
                await asyncio.to_thread(started.wait, 10)
                token.cancel()
                task.cancel()
                assert isinstance(
                    (await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError
                )

        started = threading.Event()
        asyncio.run(asyncio.wait_for(main(), 30))
        assert quiet(pool)


def test_any_resize_at_any_time_keeps_the_count(make):
    """Hundreds of sizes while eight threads come and go: no error, nothing lost, and the last size holds."""
    pool = make(2, 1, hosts=NOWHERE, timeout=30)
    chance = random.Random(7)
    with coming_and_going(pool):
        for _ in range(500):
            pool.resize(chance.randint(1, 6), max_overflow=chance.randint(0, 3))
            stats = pool.get_stats()
            assert min(stats["open_slots"], stats["active_connections"], stats["available_connections"]) >= 0
    pool.resize(2, max_overflow=0)
    stats = pool.get_stats()
    assert stats["open_slots"] == len(pool.queue.idle) <= 2
    assert (stats["active_connections"], stats["waiting"], stats["leaked"]) == (0, 0, 0)


def test_looking_for_lost_slots_takes_none_that_is_on_its_way(make):
    """Ten thousand looks while eight threads take and return as fast as they can find nothing."""
    pool = make(3, 2, hosts=NOWHERE, timeout=30)
    with coming_and_going(pool):
        for _ in range(10_000):
            take_back(pool)
    assert pool.get_stats()["leaked"] == 0
    assert quiet(pool)

"""The pool's own cost and fairness, beside its peers in one run: paired ratios over interleaved repeats.

Run on demand, with ``-s`` to see the figures: ``pytest tests/benchmarks/test_pool.py -s``.
"""

from __future__ import annotations

import collections
import gc
import statistics
import threading
import time

import pytest

from analysis_kit.errors import PoolTimeoutError
from analysis_kit.ollama.pool import OllamaConnectionPool

REPEATS = 9
NOWHERE = "127.0.0.1:9"


class Thing:
    """What the peers pool."""

    closed = False

    def close(self):
        """Close nothing."""

    def rollback(self):
        """Roll nothing back."""


def ours(size):
    """Return one checkout and return through our pool."""
    pool = OllamaConnectionPool(size, 0, hosts=NOWHERE, recycle_after=10**9)

    def once(work=None):
        with pool.get_connection():
            if work is not None:
                work()

    return once


def floor(size):
    """Return the same through a bare deque and Condition."""
    things = collections.deque(Thing() for _ in range(size))
    free = threading.Condition(threading.Lock())

    def once(work=None):
        with free:
            while not things:
                free.wait()
            thing = things.pop()
        if work is not None:
            work()
        with free:
            things.append(thing)
            free.notify()

    return once


def sqlalchemy(size):
    """Return the same through SQLAlchemy's QueuePool."""
    pool = pytest.importorskip("sqlalchemy.pool", reason="SQLAlchemy is not installed")
    queue = pool.QueuePool(Thing, pool_size=size, max_overflow=0, timeout=30, reset_on_return=None)

    def once(work=None):
        thing = queue.connect()
        if work is not None:
            work()
        thing.close()

    return once


def connpool(size):
    """Return the same through connpool."""
    peer = pytest.importorskip("connpool", reason="connpool is not installed")
    pool = peer.ConnectionPool(peer.CallableFactory(Thing), peer.PoolConfig(max_size=size))

    def once(work=None):
        with pool.connection():
            if work is not None:
                work()

    once.close = pool.close
    return once


def alone(once, count=20_000):
    """Return the seconds of so many on this thread."""
    start = time.perf_counter()
    for _ in range(count):
        once()
    return time.perf_counter() - start


def eight(once, count=2_500, work=None):
    """Return the seconds in which eight threads do so many each."""
    together = threading.Barrier(9)

    def run():
        together.wait()
        for _ in range(count):
            once(work)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    together.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def paired(title, first, second, *, run):
    """Return the median ratio of ``first`` to ``second`` over interleaved repeats, and print it with its spread."""
    run(first)
    run(second)
    ratios = []
    for repeat in range(REPEATS):
        gc.collect()
        took = {each: run(each) for each in ((first, second) if repeat % 2 else (second, first))}
        ratios.append(took[first] / took[second])
    median = statistics.median(ratios)
    print(f"\n{title}: {median:.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {REPEATS} repeats)")
    return median


@pytest.mark.parametrize(("run", "name"), [(alone, "1 thread"), (eight, "8 threads")])
@pytest.mark.parametrize(("peer", "bar"), [(sqlalchemy, 0.35), (connpool, 0.4), (floor, 2.4)])
def test_checkout_and_return_cost_less_than_the_peers(run, name, peer, bar):
    """A checkout without a wait costs a third of SQLAlchemy's and connpool's; 1.2 of a bare deque is reached for."""
    against = peer(8)
    ratio = paired(f"checkout + return, {name}, x {peer.__name__}", ours(8), against, run=run)
    getattr(against, "close", lambda: None)()
    assert ratio <= bar


def first_come(size):
    """Return the same through the barest queue that serves in order: what order itself costs."""
    things, waiting, lock = collections.deque(range(size)), collections.deque(), threading.Lock()

    def once(work=None):
        mine = None
        with lock:
            if things and not waiting:
                thing = things.pop()
            else:
                mine = [threading.Lock(), None]
                mine[0].acquire()
                waiting.append(mine)
        if mine is not None:
            mine[0].acquire()
            thing = mine[1]
        if work is not None:
            work()
        with lock:
            if waiting:
                heir = waiting.popleft()
                heir[1] = thing
                heir[0].release()
            else:
                things.append(thing)

    return once


def hand_over(peer):
    """Return our ratio to a peer where eight threads want two slots and each holder gives way to the others."""
    return paired(
        f"hand-over, 8 threads, 2 slots, x {peer.__name__}",
        ours(2),
        peer(2),
        run=lambda once: eight(once, 2_000, lambda: time.sleep(0)),
    )


@pytest.mark.parametrize(("peer", "bar"), [(floor, 1.15), (first_come, 1.25), (sqlalchemy, 1.1)])
def test_a_hand_over_costs_little_more_than_a_condition(peer, bar):
    """First come first served, beside a bare Condition, the barest queue in order, and SQLAlchemy's, in no order."""
    assert hand_over(peer) <= bar


def test_no_waiter_waits_past_its_timeout():
    """Of 64 waiters for a slot that never comes none is kept 50 ms longer than it asked for."""
    pool = OllamaConnectionPool(1, 0, 0.3, hosts=NOWHERE)
    late = []

    def wait():
        start = time.monotonic()
        with pytest.raises(PoolTimeoutError):
            pool.get_connection().__enter__()
        late.append(time.monotonic() - start - 0.3)

    with pool.get_connection():
        threads = [threading.Thread(target=wait) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(f"\nlatest of 64 waiters: {max(late) * 1000:.1f} ms past its timeout")
    assert max(late) <= 0.05


def test_waits_are_fair():
    """64 threads, 8 slots, 50 ms calls: the 99th percentile of the wait is at most 1.5 of the first-come ideal."""
    ideal = (64 - 8) / 8 * 0.05
    worst = []
    for _ in range(7):
        pool = OllamaConnectionPool(8, 0, 60, hosts=NOWHERE)
        waits, lock = [], threading.Lock()

        def work(pool=pool, waits=waits, lock=lock):
            for number in range(6):
                lease = pool.get_connection()
                with lease:
                    time.sleep(0.05)
                if number:  # the first waits are those of a queue that is still filling
                    with lock:
                        waits.append(lease.wait_s)

        threads = [threading.Thread(target=work) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        worst.append(statistics.quantiles(waits, n=100)[98] / ideal)
    print(
        f"\np99 of the wait, x first-come ideal: {statistics.median(worst):.3f} ({min(worst):.3f} to {max(worst):.3f})"
    )
    assert statistics.median(worst) <= 1.5

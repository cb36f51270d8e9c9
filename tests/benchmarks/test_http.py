"""What a request costs and how much gets through, beside the peers in one run; the servers are processes of their own.

Run on demand, with ``-s`` to see the figures: ``pytest tests/benchmarks/test_http.py -s``.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time

import pytest
import requests
from fakes.apart import fake_apart

from analysis_kit.ollama.pool import OllamaConnectionPool

# the peers leave their sockets to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

REPEATS = 7
PROMPT = "revenue grew " * 80
BODY = {"model": "fake", "prompt": PROMPT, "stream": False}


def drive(make_call, *, threads, count):
    """Make ``count`` calls on so many threads; return CPU seconds, wall seconds and failures."""
    numbers, lock, failures = iter(range(count)), threading.Lock(), []
    together = threading.Barrier(threads + 1)

    def work():
        call = make_call()
        together.wait()
        while True:
            with lock:
                if next(numbers, None) is None:
                    return
            try:
                call()
            except Exception as exc:
                failures.append(exc)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    cpu = time.process_time()
    together.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.process_time() - cpu, time.perf_counter() - start, failures


def through(pool):
    """Return a maker of calls through our pool."""

    def make():
        def call():
            with pool.get_connection() as client:
                client.generate(PROMPT, "fake")

        return call

    return make


def session_per_thread(url):
    """Return a maker of calls on a requests.Session a thread."""

    def make():
        session = requests.Session()
        session.trust_env = False

        def call():
            response = session.post(f"{url}/api/generate", json=BODY, timeout=60)
            response.raise_for_status()
            response.json()

        return call

    return make


def one_shot(url):
    """Return a maker of calls that open a connection each."""

    def call():
        response = requests.post(f"{url}/api/generate", json=BODY, timeout=60)
        response.raise_for_status()
        response.json()

    return lambda: call


def ollama_client(url):
    """Return a maker of calls through one shared client of the official package."""
    ollama = pytest.importorskip("ollama", reason="the ollama package is not installed")
    client = ollama.Client(host=url, timeout=60)
    return lambda: lambda: client.generate(model="fake", prompt=PROMPT)


def ratios(title, first, second):
    """Print and return the median of the paired ratios."""
    pairs = [a / b for a, b in zip(first, second, strict=True)]
    median = statistics.median(pairs)
    print(f"\n{title}: {median:.3f} ({min(pairs):.3f} to {max(pairs):.3f}, {len(pairs)} repeats)")
    return median


@pytest.mark.parametrize(
    ("peer", "bar"),
    [(session_per_thread, 1.05), (ollama_client, 0.8), (one_shot, 0.65)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_request_costs_less_cpu_than_the_peers(peer, bar):
    """CPU a request at 64 threads, ours streamed and theirs not: under Session's, ollama's, one-shot's."""
    with fake_apart(slots=1000, delay_s=0.05) as server:
        pool = OllamaConnectionPool(64, 0, hosts=server.url)
        theirs = peer(server.url)
        cpu, lost = {"ours": [], "theirs": []}, {"ours": [], "theirs": []}
        drive(through(pool), threads=64, count=128)
        drive(theirs, threads=64, count=128)
        for _ in range(REPEATS):
            for name, make in (("ours", through(pool)), ("theirs", theirs)):
                spent, _, failures = drive(make, threads=64, count=640)
                lost[name] += failures
                cpu[name].append(spent)
        assert lost["ours"] == []
        if lost["theirs"]:  # seen of the official client: now and then one of 640 requests times out
            print(f"\n{peer.__name__} lost {len(lost['theirs'])} of its requests: {lost['theirs'][0]!r}")
        before = server.figures()["connections"]
        drive(through(pool), threads=64, count=640)
        assert server.figures()["connections"] - before <= 64
        pool.shutdown()
    assert ratios(f"client CPU a request, 64 threads, x {peer.__name__}", cpu["ours"], cpu["theirs"]) <= bar


def test_a_thousand_threads_at_once_do_not_fail():
    """1,000 threads, two requests each, 64 slots: no failure, no connection beyond the slots; throughput beside Session's."""
    with fake_apart(slots=1000, delay_s=0.05) as server:
        walls = {"ours": [], "session": []}
        for repeat in range(REPEATS):
            before = server.figures()["connections"]
            pool = OllamaConnectionPool(64, 0, 120, hosts=server.url)
            _, wall, failures = drive(through(pool), threads=1000, count=2000)
            pool.shutdown()
            assert failures == []
            assert server.figures()["connections"] - before <= 64
            walls["ours"].append(wall)
            if repeat < 3:
                _, wall, _ = drive(session_per_thread(server.url), threads=1000, count=2000)
                walls["session"].append(wall)
        ratios("1,000 threads at once, throughput x Session per thread", walls["session"], walls["ours"][:3])


def work_off(pool, units, cap):
    """Have ``units`` requests made, at most ``cap()`` at once; return the wall seconds."""
    left, out, state = units, 0, threading.Condition()

    def work():
        nonlocal left, out
        while True:
            with state:
                while left and out >= cap():
                    state.wait()
                if not left:
                    state.notify_all()
                    return
                left, out = left - 1, out + 1
            with pool.get_connection() as client:
                client.generate("x", "fake")
            with state:
                out -= 1
                state.notify(2)

    threads = [threading.Thread(target=work) for _ in range(64)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


@pytest.mark.parametrize("slots", [1, 4, 16])
def test_auto_comes_near_the_best_fixed_cap(slots):
    """400 units on 1, 4 and 16 slots: the cap found from latency reaches 0.9 of the best fixed one's throughput."""
    shares = []
    delay = 0.02 if slots == 1 else 0.05
    with fake_apart(slots=slots, delay_s=delay) as server:
        for _ in range(REPEATS):
            best = []
            for fixed in {slots, slots + 1, 2 * slots}:
                pool = OllamaConnectionPool(64, 0, 600, hosts=server.url)
                best.append(work_off(pool, 400, lambda fixed=fixed: fixed))
                pool.shutdown()
            pool = OllamaConnectionPool(64, 0, 600, hosts=server.url)
            cap = pool.limit_for()
            shares.append(min(best) / work_off(pool, 400, lambda cap=cap: cap.limit))
            found = pool.get_stats()["hosts"][0]["limit"]
            pool.shutdown()
    print(
        f"\nauto, {slots} slots: {statistics.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f}) cap {found}"
    )
    assert statistics.median(shares) >= 0.9


def throughput(urls, slots, units):
    """Return requests a second over the hosts, with as many slots as they have in all."""
    pool = OllamaConnectionPool(slots, 0, 600, hosts=urls, model="fake")
    work_off(pool, 4 * slots, lambda: slots)  # connections open, speeds known
    wall = work_off(pool, units, lambda: slots)
    pool.shutdown()
    return units / wall


def test_three_hosts_do_three_times_the_work():
    """Three hosts of equal speed give at least 2.85 times the throughput of one."""
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(fake_apart(slots=4, delay_s=0.1)) for _ in range(3)]
        urls = [host.url for host in hosts]
        gains = [throughput(urls, 12, 480) / throughput(urls[:1], 4, 160) for _ in range(REPEATS)]
    print(f"\n3 equal hosts, x one: {statistics.median(gains):.3f} ({min(gains):.3f} to {max(gains):.3f})")
    assert statistics.median(gains) >= 2.85


def test_a_slow_host_among_three_adds_what_it_can():
    """Two hosts and one of a quarter of their speed reach 0.95 of the sum of what each does alone."""
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(fake_apart(slots=4, delay_s=delay)) for delay in (0.1, 0.1, 0.4)]
        urls = [host.url for host in hosts]
        shares = []
        for _ in range(REPEATS):
            alone = [throughput([url], 4, count) for url, count in zip(urls, (160, 160, 40), strict=True)]
            shares.append(throughput(urls, 12, 720) / sum(alone))
    print(
        f"\n2 hosts and a slow one, x sum: {statistics.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})"
    )
    assert statistics.median(shares) >= 0.95

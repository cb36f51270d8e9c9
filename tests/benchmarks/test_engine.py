"""How good the engine is, each figure beside its peer in one run: paired ratios over interleaved repeats.

Run on demand, with ``-s`` to see the figures: ``pytest tests/benchmarks/test_engine.py -s``.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from fakes.ollama import FakeOllama

from analysis_kit.engine.engine import AsyncAnalysisEngine

REPEATS = 9
WORKERS = 8


def noop(text):
    return text


def sleepy(text):
    time.sleep(0.02)
    return text


def took(call):
    """Return the seconds of one call."""
    gc.collect()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def paired(title, ours, *peers, repeats=REPEATS):
    """Return, for each peer, the median of ours / peer over interleaved repeats, and print it with its spread."""
    rows = []
    for repeat in range(repeats + 1):
        calls = (ours, *peers) if repeat % 2 else (*peers[::-1], ours)
        times = {call: took(call) for call in calls}
        rows.append(times)
    medians = []
    for peer in peers:
        ratios = [times[ours] / times[peer] for times in rows[1:]]  # the first is a warm-up
        medians.append(statistics.median(ratios))
        print(
            f"\n{title} / {peer.__name__}: {medians[-1]:.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {repeats} repeats)",
            end="",
        )
    print()
    return medians


@pytest.mark.parametrize("count", [1_000, 10_000])
def test_cheap_units_cost_less_than_a_warm_thread_pool(count):
    """No-op units, dict in and dict out, 8 workers: at most 1.0 of ThreadPoolExecutor.map, 0.4 of gather over it."""
    units = {f"s{number}": "x" for number in range(count)}
    with ThreadPoolExecutor(WORKERS) as pool, AsyncAnalysisEngine(WORKERS) as engine:

        def ours():
            assert len(asyncio.run(engine.analyze_sections_parallel(units, noop))) == count

        def pool_map():
            assert len(list(pool.map(noop, units.values()))) == count

        def gather_run_in_executor():
            async def main():
                loop = asyncio.get_running_loop()
                jobs = [loop.run_in_executor(pool, noop, text) for text in units.values()]
                return await asyncio.gather(*jobs)

            assert len(asyncio.run(main())) == count

        to_map, to_gather = paired(f"{count} no-op units", ours, pool_map, gather_run_in_executor)
    assert to_map <= 1.0
    assert to_gather <= 0.4


def test_workers_are_kept_busy():
    """200 units of 20 ms on 8 workers: the share of the ideal schedule is that of ThreadPoolExecutor.map, less 0.01."""
    units = {f"s{number}": "x" for number in range(200)}
    ideal_s = 0.02 * 200 / WORKERS
    shares, peers = [], []
    with ThreadPoolExecutor(WORKERS) as pool, AsyncAnalysisEngine(WORKERS) as engine:
        for _ in range(REPEATS):
            shares.append(
                ideal_s / took(lambda: asyncio.run(engine.analyze_sections_parallel(units, sleepy)))
            )
            peers.append(ideal_s / took(lambda: list(pool.map(sleepy, units.values()))))
    ours, theirs = statistics.median(shares), statistics.median(peers)
    gap = statistics.median(one - other for one, other in zip(shares, peers, strict=True))
    print(f"\n200 x 20 ms: share of the ideal {ours:.4f}, pool.map {theirs:.4f}, median gap {gap:+.4f}")
    assert gap >= -0.01


def test_cheap_units_over_processes():
    """10,000 cheap units over 2 processes: at most 0.1 of ProcessPoolExecutor.map with chunksize 1."""
    pytest.importorskip("loky")
    units = {f"s{number}": "x" for number in range(10_000)}
    with AsyncAnalysisEngine(2, use_processes=True) as engine, ProcessPoolExecutor(2) as pool:

        def ours():
            assert len(asyncio.run(engine.analyze_sections_parallel(units, noop))) == 10_000

        def pool_map_chunksize_1():
            assert len(list(pool.map(noop, units.values()))) == 10_000

        def pool_map_chunksize_64():
            assert len(list(pool.map(noop, units.values(), chunksize=64))) == 10_000

        peers = [pool_map_chunksize_1, pool_map_chunksize_64]
        try:
            import joblib
        except ImportError:
            pass
        else:

            def joblib_loky():
                jobs = (joblib.delayed(noop)(text) for text in units.values())
                assert len(joblib.Parallel(n_jobs=2, backend="loky")(jobs)) == 10_000

            peers.append(joblib_loky)
        first, *_ = paired("10,000 cheap units over processes", ours, *peers)
    assert first <= 0.1


# -- against a server with four slots ----------------------------------------------------------------------------------


def served(texts, *, delay_s):
    """Return wall seconds of the engine with 4 workers, and of the sequential loop, over one fake server of 4 slots."""
    from analysis_kit.ollama.pool import OllamaConnectionPool

    def seconds(request):
        return delay_s(next(name for name in texts if name in request["prompt"]))

    with FakeOllama(slots=4, delay_s=seconds) as fake, AsyncAnalysisEngine(4) as engine:
        pool = OllamaConnectionPool(4, 0, hosts=[fake.url])
        model = next(iter(fake.models))

        def ask(text):
            with pool.get_connection() as client:
                return client.generate(text, model=model).text

        try:
            asyncio.run(engine.analyze_sections_parallel(texts, ask))  # connections and imports
            walls = [
                took(lambda: asyncio.run(engine.analyze_sections_parallel(texts, ask))) for _ in range(7)
            ]
            sequential = took(lambda: [ask(text) for text in texts.values()])
        finally:
            pool.shutdown()
    return statistics.median(walls), sequential


def test_ten_equal_sections():
    """Ten sections of T = 0.3 s at 4 workers against 4 slots: at most 3.15 T (ideal 3 T)."""
    texts = {f"<{number}>": f"<{number}> words" for number in range(10)}
    wall, sequential = served(texts, delay_s=lambda _: 0.3)
    print(f"\nten equal sections: {wall / 0.3:.3f} T; one after the other {sequential / 0.3:.3f} T", end="")
    print(f"; speedup {sequential / wall:.2f}")
    assert wall <= 3.15 * 0.3


def test_twelve_unequal_sections():
    """Twelve sections whose time goes by their length: at most 1.08 x max(sum / 4, longest)."""
    lengths = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 24]
    seconds = {f"<{number}>": 0.03 * length for number, length in enumerate(lengths)}
    texts = {name: name + " word" * length for (name, length) in zip(seconds, lengths, strict=True)}
    wall, sequential = served(texts, delay_s=seconds.__getitem__)
    ideal = max(sum(seconds.values()) / 4, max(seconds.values()))
    print(
        f"\ntwelve unequal sections: {wall / ideal:.3f} of the ideal; one after the other {sequential / ideal:.3f}"
    )
    assert wall <= 1.08 * ideal

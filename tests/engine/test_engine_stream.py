"""stream(): outcomes by completion, flat memory, back-pressure, and an early end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import threading
from typing import ClassVar

import pytest

from analysis_kit.cancellation import sleep
from analysis_kit.engine.engine import AsyncAnalysisEngine, Task
from analysis_kit.errors import AnalysisError, ConfigurationError


def run(coroutine):
    return asyncio.run(coroutine)


async def waiting(text):
    await asyncio.sleep(0)
    return len(text)


async def waiting_one(_):
    return 1


@pytest.mark.parametrize("analyze", [len, waiting], ids=["threads", "coroutines"])
def test_every_unit_of_a_generator_comes_out_once(analyze):
    """A generator of pairs, a mapping and an iterable of tasks all give one outcome a unit."""
    engine = AsyncAnalysisEngine(3)

    async def main(units, *how):
        return [outcome async for outcome in engine.stream(units, *how)]

    pairs = ((number, "x" * number) for number in range(300))
    outcomes = run(main(pairs, analyze, "lengths"))
    assert sorted(outcome.value for outcome in outcomes) == list(range(300))
    assert {outcome.task.analyzer for outcome in outcomes} == {"lengths"}
    assert len(run(main({"a": "x", "b": "xx"}, analyze))) == 2
    assert run(main([], analyze)) == []
    [outcome] = run(main(iter([Task("k", "t", "u", 0, lambda: 7)])))
    assert (outcome.task.key, outcome.value) == ("k", 7)


def test_outcomes_come_by_completion(latch):
    """A fast unit comes out while one taken up earlier is still blocked."""

    async def main():
        names = []
        async for outcome in AsyncAnalysisEngine(2).stream(
            [("slow", True), ("fast", False)], lambda slow: latch.hold() if slow else None
        ):
            names.append(outcome.task.unit)
            latch.release()
        return names

    assert run(main()) == ["fast", "slow"]


class Counted:
    """A unit that knows how many of its kind are alive."""

    alive: ClassVar[set[int]] = set()
    most = 0

    def __init__(self):
        Counted.alive.add(id(self))
        Counted.most = max(Counted.most, len(Counted.alive))

    def __del__(self):
        Counted.alive.discard(id(self))


@pytest.mark.parametrize("analyze", [lambda _: 1, waiting_one], ids=["threads", "coroutines"])
def test_memory_is_flat_over_100_000_units(analyze):
    """Of 100,000 units from a generator no more are ever alive than are drawn ahead: nothing is kept."""
    workers = 4

    async def main():
        units = ((number, Counted()) for number in range(100_000))
        return sum([outcome.value async for outcome in AsyncAnalysisEngine(workers).stream(units, analyze)])

    Counted.most = 0
    assert run(main()) == 100_000
    assert Counted.most <= 16 * workers + 2 * workers
    gc.collect()
    assert not Counted.alive


def test_a_slow_reader_slows_the_drawing():
    """Only a little more than what was read is drawn from an endless generator."""
    drawn = []

    def endless():
        for number in itertools.count():
            drawn.append(number)
            yield number, ""

    async def main():
        engine = AsyncAnalysisEngine(2)
        async with contextlib.aclosing(engine.stream(endless(), len)) as outcomes:
            for _ in range(100):
                await anext(outcomes)
                await asyncio.sleep(0)
        return len(drawn)

    assert 100 <= run(main()) <= 100 + 16 * 2 + 1


def test_leaving_early_cancels_the_rest():
    """After break and aclose no unit works on, and nothing more is drawn."""
    begun, woken = threading.Event(), threading.Event()

    def analyze(text):
        if not text:
            begun.wait(30)
            return
        begun.set()
        try:
            sleep(30)
        finally:
            woken.set()

    async def main():
        engine = AsyncAnalysisEngine(2)
        async with contextlib.aclosing(
            engine.stream([("a", ""), ("b", "x"), ("c", "x")], analyze)
        ) as outcomes:
            async for _ in outcomes:
                break
        assert woken.is_set()
        async for _ in engine.stream([("a", ""), ("b", "x")], analyze):
            break
        gc.collect()
        await asyncio.sleep(0)
        return await engine.analyze_sections_parallel({"next": "ab"}, len)

    assert run(main()) == {"next": 2}


def test_cancel_of_the_reader_ends_the_stream():
    """A cancelled reader gets CancelledError, and the units under way are woken."""
    woken = threading.Event()

    def analyze(_):
        try:
            sleep(30)
        finally:
            woken.set()

    async def main():
        async def read():
            async for _ in AsyncAnalysisEngine(1).stream([("a", "")], analyze):
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert woken.is_set()


def test_failures_are_raised_or_yielded_by_the_policy():
    """Under "collect" a failed unit is an outcome; under "raise" the stream ends with its error after what was done."""

    async def main(policy):
        seen = []
        try:
            async for outcome in AsyncAnalysisEngine(1, on_error=policy).stream(
                [("a", "1"), ("b", "x"), ("c", "2")], int, "parse"
            ):
                seen.append(outcome.status)
        except AnalysisError as error:
            seen.append(error)
        return seen

    assert run(main("collect")) == ["done", "failed", "done"]
    *statuses, error = run(main("raise"))
    assert statuses in (["done"], ["done", "done"])
    assert "parse on 'b' failed" in str(error)


def test_a_deadline_and_a_cancel_end_a_stream_with_an_error():
    """A stream that was cut short never looks like one that ended."""

    async def main(end):
        engine = AsyncAnalysisEngine(1, on_error="collect")
        loop = asyncio.get_running_loop()
        if end == "cancel":
            loop.call_later(0.05, engine.cancel)
        outcomes = engine.stream(
            [("a", "")], lambda _: sleep(30), deadline_s=0.05 if end == "deadline" else None
        )
        return [outcome.status async for outcome in outcomes]

    with pytest.raises(AnalysisError, match="deadline_s"):
        run(main("deadline"))
    with pytest.raises(asyncio.CancelledError):
        run(main("cancel"))


def test_an_error_of_the_generator_is_the_streams_error():
    """What the source raises comes out of the stream, and the workers end."""

    def broken():
        yield "a", "x"
        raise OSError("disk gone")

    async def main():
        return [outcome async for outcome in AsyncAnalysisEngine(2).stream(broken(), len)]

    with pytest.raises(OSError, match="disk gone"):
        run(main())


def test_units_that_are_no_pairs_are_refused():
    """A text in place of units is refused with the two forms named."""

    async def main():
        return [outcome async for outcome in AsyncAnalysisEngine().stream("text", len)]

    with pytest.raises(ConfigurationError, match="mapping name -> text"):
        run(main())

"""Many short runs with everything mixed: kinds of functions, policies, limits, cancels, streams that are left early."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import threading

import pytest

from analysis_kit import cancellation
from analysis_kit.cancellation import CancelToken
from analysis_kit.engine.engine import AsyncAnalysisEngine, Task
from analysis_kit.errors import AnalysisError


async def waiting(kind):
    await asyncio.sleep(0.0005 if kind < 0.3 else 0)
    if kind > 0.98:
        raise KeyError(kind)
    return kind


def plain(kind):
    if kind < 0.03:
        raise ValueError(kind)
    if kind < 0.06:
        cancellation.sleep(0.05)
    if kind < 0.09:
        return waiting(kind / 2)
    return kind


class Soak:
    """One engine and a seeded source of chance."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.engine = AsyncAnalysisEngine(
            self.chance.choice([1, 2, 4, 8]), rate_limit=self.chance.choice([None, "20000/s"])
        )

    def tasks(self):
        """Return tasks of one kind of function, or of both."""
        kinds = self.chance.choice([[plain], [waiting], [plain, waiting]])
        return [
            Task(
                n,
                "t",
                str(n),
                self.chance.randrange(9),
                functools.partial(self.chance.choice(kinds), self.chance.random()),
            )
            for n in range(self.chance.choice([1, 2, 5, 40, 150]))
        ]

    async def drain(self, tasks, token, options):
        """Run and check that every task has exactly one outcome, in order, and was given once."""
        given = []
        outcomes = await self.engine.run_tasks(tasks, on_outcome=given.append, token=token, **options)
        assert [outcome.task for outcome in outcomes] == tasks
        assert sorted(outcome.task.key for outcome in given) == list(range(len(tasks)))

    async def read(self, tasks, token, options):
        """Read a stream, use the engine in between, and perhaps leave early."""
        async with contextlib.aclosing(self.engine.stream(iter(tasks), token=token, **options)) as outcomes:
            async for _ in outcomes:
                if self.chance.random() < 0.02:
                    break
                if self.chance.random() < 0.02:
                    await asyncio.create_task(self.engine.run_tasks([Task(0, "n", "n", 0, int)]))

    async def one(self):
        """Make one run, and perhaps cancel it, from inside or outside."""
        token = CancelToken()
        options = {
            "on_error": self.chance.choice(["raise", "collect"]),
            "timeout_s": self.chance.choice([None, None, 0.01]),
            "deadline_s": self.chance.choice([None, None, None, 0.005]),
        }
        how = self.read if self.chance.random() < 0.3 else self.drain
        task = asyncio.create_task(how(self.tasks(), token, options))
        if self.chance.random() < 0.3:
            await asyncio.sleep(self.chance.random() * 0.01)
            self.chance.choice([token.cancel, task.cancel])()
        with contextlib.suppress(AnalysisError):
            _, late = await asyncio.wait({task}, timeout=300)
            assert not late, "a run hangs"
            if not task.cancelled():
                task.result()

    async def several(self):
        """Make a few runs at the same time."""
        await asyncio.gather(*(self.one() for _ in range(self.chance.choice([1, 1, 2, 4]))))


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_and_nothing_is_left(seed):
    """Whatever happens, every task has its outcome, every slot comes back, and no run and no thread is left."""
    soak = Soak(seed)
    with soak.engine:
        for _ in range(15):
            asyncio.run(soak.several())
            assert "idle" in repr(soak.engine)
            assert not soak.engine._slots._held
    assert not [each for each in threading.enumerate() if each.name.startswith("analysis-kit")]

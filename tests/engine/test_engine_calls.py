"""What the engine's calls take and give: shapes, order, kinds of functions, errors."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import pickle
import threading

import pytest

from analysis_kit import events
from analysis_kit.cache import get_cache
from analysis_kit.cancellation import current_token
from analysis_kit.engine.engine import AsyncAnalysisEngine, Task
from analysis_kit.errors import AnalysisError
from analysis_kit.ollama.pool import get_pool, reset_pool

SECTIONS = {f"section {number}": "x" * number for number in (3, 1, 2, 9, 5, 4, 8, 7, 6, 10)}


def run(coroutine):
    return asyncio.run(coroutine)


class Analyzer:
    name = "lengths"

    def analyze(self, text):
        return len(text)

    async def analyze_async(self, text):
        await asyncio.sleep(0)
        return len(text)

    def __call__(self, text):
        return len(text)


class AsyncCallable:
    async def __call__(self, text):
        await asyncio.sleep(0)
        return len(text)


async def length(text):
    await asyncio.sleep(0)
    return len(text)


def with_option(text, *, plus):
    return len(text) + plus


@pytest.mark.parametrize(
    "analyze",
    [
        len,
        Analyzer().analyze,
        Analyzer().analyze_async,
        Analyzer(),
        AsyncCallable(),
        length,
        functools.partial(with_option, plus=0),
        functools.partial(length),
        lambda text: len(text),
        lambda text: length(text),
    ],
    ids=[
        *("builtin", "bound method", "async bound method", "callable object", "async callable object"),
        *("async function", "partial", "partial of async", "lambda", "lambda that returns a coroutine"),
    ],
)
def test_every_kind_of_function_gives_results_in_input_order(analyze):
    """Plain and async functions, methods, partials and callable objects all give name -> result, in the order given."""
    with AsyncAnalysisEngine(max_workers=3) as engine:
        results = run(engine.analyze_sections_parallel(SECTIONS, analyze, "lengths"))
    assert list(results) == list(SECTIONS)
    assert results == {name: len(text) for name, text in SECTIONS.items()}


def test_speakers_and_several_analyzers_have_the_same_shape():
    """Speakers go as sections do; analyze_multiple gives analyzer -> unit -> result, plain and async mixed."""
    engine = AsyncAnalysisEngine(2)
    assert run(engine.analyze_speakers_parallel({"Ann": "one two"}, str.split)) == {"Ann": ["one", "two"]}
    table = run(engine.analyze_multiple(SECTIONS, {"plain": len, "async": length}))
    expected = {name: len(text) for name, text in SECTIONS.items()}
    assert table == {"plain": expected, "async": expected}
    assert [list(column) for column in table.values()] == [list(SECTIONS)] * 2


def test_longest_text_is_taken_up_first():
    """One worker takes units by falling length, and equal ones as given."""
    taken = []
    units = {"b": "xx", "a": "x", "d": "xxxx", "c": "xx"}
    run(AsyncAnalysisEngine(1).analyze_sections_parallel(units, taken.append))
    assert taken == ["xxxx", "xx", "xx", "x"]


def test_no_more_than_max_workers_at_once_over_all_runs_of_an_engine():
    """Two runs of one engine at the same time, one of them mixed with async functions, share its workers."""
    engine = AsyncAnalysisEngine(3)
    lock, now, most = threading.Lock(), 0, 0

    def enter(step):
        nonlocal now, most
        with lock:
            now += step
            most = max(most, now)

    def plain(text):
        enter(1)
        threading.Event().wait(0.002)
        enter(-1)

    async def waiting(text):
        enter(1)
        await asyncio.sleep(0.002)
        enter(-1)

    async def both():
        units = {str(number): "x" for number in range(40)}
        await asyncio.gather(
            engine.analyze_sections_parallel(units, plain),
            engine.analyze_multiple(units, {"plain": plain, "waiting": waiting}),
            engine.analyze_sections_parallel(units, waiting),
        )

    run(both())
    assert 1 < most <= 3


def test_a_unit_may_use_the_engine_it_runs_on():
    """A run inside a unit gets a worker of its own, so that parent and child cannot wait for each other for ever."""
    engine = AsyncAnalysisEngine(2)

    def outer(text):
        return asyncio.run(engine.analyze_sections_parallel({"a": text, "b": text * 2}, len))

    results = run(engine.analyze_sections_parallel({str(n): "x" for n in range(6)}, outer))
    assert results == {str(n): {"a": 1, "b": 2} for n in range(6)}


@pytest.mark.parametrize("apart", [False, True], ids=["itself", "in a task of its own"])
@pytest.mark.parametrize("analyze", [len, length], ids=["threads", "coroutines"])
def test_the_reader_of_a_stream_may_use_the_engine(analyze, apart):
    """A run started between two outcomes of a stream is not starved by the stream's idle workers."""
    engine = AsyncAnalysisEngine(1)
    pairs = ((str(number), "x" * number) for number in range(40))  # more than are drawn ahead

    async def main():
        found = []
        async for outcome in engine.stream(pairs, analyze):
            other = engine.analyze_sections_parallel({"c": "xxx"}, analyze)
            found.append((outcome.value, await (asyncio.ensure_future(other) if apart else other)))
        return sorted(found)

    assert run(asyncio.wait_for(main(), 60)) == [(number, {"c": 3}) for number in range(40)]


def test_two_readers_share_a_small_engine():
    """A stream whose reader is slow gives its idle workers to another task's run."""
    engine = AsyncAnalysisEngine(1)

    async def main():
        go_on = asyncio.Event()

        async def read():
            return [outcome.value async for outcome in engine.stream(pairs(), len) if await go_on.wait()]

        def pairs():
            yield from [("a", "x"), ("b", "xx")]

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        other = await engine.analyze_sections_parallel({"c": "xxx"}, len)
        go_on.set()
        return other, await reading

    assert run(main()) == ({"c": 3}, [1, 2])


def test_L13_one_failure_is_collected_in_its_place():
    """Ten sections, number 4 raises: nine results in input order and one error tied to section 4."""

    def analyze(text):
        if len(text) == 4:
            raise ValueError("cannot read this")
        return len(text)

    with AsyncAnalysisEngine(4, on_error="collect") as engine:
        results = run(engine.analyze_sections_parallel(SECTIONS, analyze, "tone"))
    assert list(results) == list(SECTIONS)
    error = results.pop("section 4")
    assert results == {name: len(text) for name, text in SECTIONS.items() if len(text) != 4}
    assert isinstance(error, AnalysisError)
    assert (error.unit, error.analyzer, error.attempts) == ("section 4", "tone", 1)
    assert error.duration_s >= 0
    assert isinstance(error.__cause__, ValueError)
    for fact in ("section 4", "tone", "ValueError", "cannot read this"):
        assert fact in str(error)


def test_L13_first_failure_stops_the_rest_and_keeps_what_is_done():
    """Under "raise" the error names unit and analyzer, holds what had finished, and queued units never start."""
    started = []

    def analyze(text):
        started.append(len(text))
        if len(text) == 8:
            raise ValueError("eight")
        return len(text)

    with pytest.raises(AnalysisError, match=r"'section 8'.*ValueError: eight") as caught:
        run(AsyncAnalysisEngine(1).analyze_sections_parallel(SECTIONS, analyze, "tone"))
    assert started == [10, 9, 8]
    assert caught.value.partial == {"section 9": 9, "section 10": 10}
    assert isinstance(caught.value.__cause__, ValueError)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert copy.partial == caught.value.partial
    assert copy.unit == "section 8"


def test_first_failure_reaches_those_who_wait():
    """Under "raise" a running unit that waits on its token is woken by another's failure, and its slot is free again."""
    both = threading.Barrier(2, timeout=30)
    woken = []

    def analyze(text):
        both.wait()
        if text == "bad":
            raise ValueError("bad one")
        woken.append(current_token.get().wait(30))
        current_token.get().raise_if_cancelled()

    with pytest.raises(AnalysisError, match="bad one"):
        run(AsyncAnalysisEngine(2).analyze_sections_parallel({"one": "bad", "two": "good"}, analyze))
    assert woken == [True]


def test_several_failures_are_all_named():
    """Two units that fail at the same time are both in the message."""
    both = threading.Barrier(2, timeout=30)

    def analyze(text):
        both.wait()
        raise ValueError(f"no {text}")

    with pytest.raises(AnalysisError) as caught:
        run(AsyncAnalysisEngine(2).analyze_sections_parallel({"one": "1", "two": "2"}, analyze))
    for fact in ("'one'", "no 1", "'two'", "no 2"):
        assert fact in str(caught.value)


def test_partial_of_several_analyzers_has_two_levels():
    """The partial result of analyze_multiple is analyzer -> unit -> result."""

    def second(text):
        raise ValueError

    with pytest.raises(AnalysisError) as caught:
        run(AsyncAnalysisEngine(1).analyze_multiple({"a": "x"}, {"first": len, "second": second}))
    assert caught.value.partial == {"first": {"a": 1}}


def analyze_by_raising(text):
    raise {
        "exit": SystemExit(3),
        "cancel": asyncio.CancelledError("own"),
        "late": TimeoutError("own"),
        "closed": GeneratorExit(),
        "empty": StopAsyncIteration(),
    }.get(text, KeyError(text))


async def analyze_by_raising_later(text):
    await asyncio.sleep(0)
    analyze_by_raising(text)


@pytest.mark.parametrize(
    "analyze",
    [analyze_by_raising, analyze_by_raising_later, lambda text: analyze_by_raising_later(text)],
    ids=["plain", "async", "returns an awaitable"],
)
def test_whatever_a_unit_raises_is_its_own_failure(analyze):
    """SystemExit, a stray CancelledError or TimeoutError of a function ends that unit, not the run, wherever it runs."""
    units = {name: name for name in ("exit", "cancel", "late", "closed", "empty", "key")}
    results = run(AsyncAnalysisEngine(2, on_error="collect").analyze_sections_parallel(units, analyze))
    assert [type(results[name].__cause__).__name__ for name in units] == [
        "SystemExit",
        "CancelledError",
        "TimeoutError",
        "GeneratorExit",
        "StopAsyncIteration",
        "KeyError",
    ]
    assert "timeout_s" not in str(results["late"])


def test_context_variables_reach_workers_and_do_not_leak_between_units():
    """A unit sees the caller's context variables, and what it sets is gone for the next unit and for the caller."""
    variable = contextvars.ContextVar("variable", default="unset")

    def plain(text):
        seen = variable.get()
        variable.set(text)
        return seen

    async def waiting(text):
        return plain(text)

    async def main():
        variable.set("caller")
        return await AsyncAnalysisEngine(1).analyze_multiple({"a": "1", "b": "2"}, {"p": plain, "w": waiting})

    assert run(main()) == {"p": {"a": "caller", "b": "caller"}, "w": {"a": "caller", "b": "caller"}}
    assert variable.get() == "unset"


def test_events_tell_of_start_and_end():
    """Listeners hear UnitStarted and UnitFinished with status, duration and the kind of error."""
    heard = []
    unsubscribe = events.subscribe(heard.append)
    try:
        run(
            AsyncAnalysisEngine(1, on_error="collect").analyze_sections_parallel(
                {"a": "1", "b": "x"}, int, "parse"
            )
        )
    finally:
        unsubscribe()
    assert [type(event).__name__ for event in heard] == ["UnitStarted", "UnitFinished"] * 2
    assert [event.status for event in heard[1::2]] == ["done", "failed"]
    assert heard[3].error_type == "ValueError"
    assert heard[1].duration_s >= 0


def test_run_tasks_hands_over_on_the_loops_thread_and_returns_in_input_order():
    """Outcomes come to on_outcome as units end, on the caller's thread; the list is in the order of the tasks."""
    threads, keys = set(), []

    def give(outcome):
        threads.add(threading.current_thread())
        keys.append(outcome.task.key)

    tasks = [Task(number, "t", f"u{number}", number, functools.partial(abs, -number)) for number in range(50)]
    outcomes = run(AsyncAnalysisEngine(4).run_tasks(tasks, on_outcome=give))
    assert [outcome.value for outcome in outcomes] == list(range(50))
    assert sorted(keys) == list(range(50))
    assert threads == {threading.current_thread()}
    assert all(outcome.status == "done" and outcome.started_at.tzinfo is not None for outcome in outcomes)


def test_an_outcome_is_handed_over_while_others_still_run(latch):
    """The caller hears of a finished unit while another is blocked."""

    async def main():
        heard = asyncio.Event()
        tasks = [Task("slow", "t", "slow", 2, latch.hold), Task("fast", "t", "fast", 1, int)]
        running = asyncio.create_task(
            AsyncAnalysisEngine(2).run_tasks(tasks, on_outcome=lambda outcome: heard.set())
        )
        await heard.wait()
        assert not running.done()
        latch.release()
        return [outcome.status for outcome in await running]

    assert run(main()) == ["done", "done"]


def test_a_failing_receiver_stops_the_run_with_its_own_error():
    """An exception of on_outcome is raised as it is, and nothing more is started."""
    started = []

    def give(outcome):
        raise OSError("disk full")

    tasks = [Task(number, "t", "u", 0, functools.partial(started.append, number)) for number in range(10_000)]
    with pytest.raises(OSError, match="disk full"):
        run(AsyncAnalysisEngine(1).run_tasks(tasks, on_outcome=give))
    assert len(started) < 10_000


def test_a_result_may_be_an_exception():
    """What a function returns is its result, also where that is an exception; only what it raises is a failure."""
    found = run(AsyncAnalysisEngine(2).analyze_sections_parallel({"a": "x"}, ValueError))
    assert type(found["a"]) is ValueError


def test_auto_follows_the_cap():
    """With max_workers="auto" the number of units at once follows the cap while the run goes on."""

    class Cap:
        limit = 1

    cap, lock, now, seen = Cap(), threading.Lock(), 0, []
    pair = threading.Barrier(2, timeout=30)

    def analyze(text):
        nonlocal now
        with lock:
            now += 1
            seen.append((cap.limit, now))
        if text == "grow":
            cap.limit = 2
        elif text == "together":
            pair.wait()
        with lock:
            now -= 1

    units = {"0": "grow", **{str(n): "together" for n in range(1, 5)}}
    tasks = [Task(key, "t", key, 0, functools.partial(analyze, text)) for key, text in units.items()]
    run(AsyncAnalysisEngine("auto", cap=cap).run_tasks(tasks))
    assert seen[0] == (1, 1)
    assert max(count for _, count in seen) == 2


def test_auto_asks_the_pool_of_the_time_of_the_run():
    """An engine that is kept from cell to cell follows the process-wide pool, also where another has taken its place."""
    engine = AsyncAnalysisEngine("auto")
    seen = []

    def one(pool_size):
        get_pool(pool_size, 0, hosts=f"127.0.0.1:{pool_size}")
        lock, now = threading.Lock(), 0
        together = threading.Barrier(pool_size)

        def analyze(text):
            nonlocal now
            with lock:
                now += 1
                seen.append((pool_size, now))
            together.wait(10)
            with lock:
                now -= 1

        run(engine.analyze_sections_parallel({str(n): "x" for n in range(3 * pool_size)}, analyze))

    try:
        for pool_size in (1, 3, 2):
            one(pool_size)
    finally:
        reset_pool()
    assert {size: max(count for each, count in seen if each == size) for size in (1, 2, 3)} == {
        1: 1,
        2: 2,
        3: 3,
    }


def test_repr_says_what_it_is_doing():
    """The repr shows workers, kind and state."""
    engine = AsyncAnalysisEngine(3)
    assert repr(engine) == "<AsyncAnalysisEngine 3 threads, idle>"
    assert run(engine.analyze_sections_parallel({"a": ""}, lambda _: repr(engine))) == {
        "a": "<AsyncAnalysisEngine 3 threads, 1 run under way>"
    }


def test_results_are_kept_under_cache_as():
    """With cache_as a second run, plain or async, finds the first one's results and calls nothing; without it all is called."""
    calls = []

    def plain(text):
        calls.append(text)
        return {"length": len(text)}

    async def waiting(text):
        return plain(text)

    engine = AsyncAnalysisEngine(2)
    for analyze, kind in ((plain, "kept"), (plain, "kept"), (waiting, "kept too"), (waiting, "kept too")):
        results = run(engine.analyze_sections_parallel({"a": "xyz"}, analyze, cache_as=kind))
        assert results == {"a": {"length": 3}}
    assert len(calls) == 2
    run(engine.analyze_sections_parallel({"a": "xyz"}, plain))
    assert len(calls) == 3


def test_K1_the_result_is_kept_for_the_model_that_was_set_when_it_was_asked(monkeypatch):
    """A cell that names another model while a call works does not get the former model's result under the new name."""
    engine = AsyncAnalysisEngine(1)

    def switch(text):
        monkeypatch.setenv("ANALYSIS_KIT_OLLAMA_MODEL", "large")
        return "of small"

    monkeypatch.setenv("ANALYSIS_KIT_OLLAMA_MODEL", "small")
    run(engine.analyze_sections_parallel({"a": "xyz"}, switch, cache_as="by model"))
    hits = get_cache().stats()["hits"]
    run(engine.analyze_sections_parallel({"a": "xyz"}, switch, cache_as="by model"))
    assert get_cache().stats()["hits"] == hits


def test_K1_an_edited_function_does_not_meet_its_former_results():
    """A function, method or object of other code, or with another bound value, is called anew under the same cache_as."""

    def scorer(factor):
        class Scorer:
            def score(self, text):
                return len(text) * factor

            __call__ = score

        return Scorer()

    def score(factor, text):
        return len(text) * factor

    engine = AsyncAnalysisEngine(1)
    for analyze, result in [
        (lambda text: len(text) + 1, 4),
        (lambda text: len(text) + 2, 5),
        (functools.partial(score, 3), 9),
        (functools.partial(score, 4), 12),
        (lambda text: 0 * len(text) + 4, 4),
        (scorer(7).score, 21),
        (scorer(8).score, 24),
        (scorer(9), 27),
        (functools.lru_cache(lambda text: len(text) * 10), 30),
        (functools.lru_cache(lambda text: len(text) * 11), 33),
    ]:
        assert run(engine.analyze_sections_parallel({"a": "xyz"}, analyze, cache_as="edited")) == {
            "a": result
        }


@pytest.mark.parametrize("nothing", [None, False, 0, "", [], {}])
def test_K2_a_result_that_is_nothing_is_kept_under_cache_as_too(nothing):
    """A function that finds nothing is not asked again, whichever way it says so."""
    calls = []

    def find(text):
        calls.append(text)
        return nothing

    engine = AsyncAnalysisEngine(1)
    for _ in range(2):
        found = run(engine.analyze_sections_parallel({"a": "xyz"}, find, cache_as=f"nothing {nothing!r}"))
        assert found == {"a": nothing}
    assert calls == ["xyz"]


def test_threads_wait_for_the_next_run_inside_with_only():
    """Within the block the same threads serve run after run; at its end they are gone, and without it after each run."""

    def ours():
        return {each for each in threading.enumerate() if each.name.startswith("analysis-kit")}

    engine = AsyncAnalysisEngine(1)
    with engine:
        first = run(engine.analyze_sections_parallel({"a": ""}, lambda _: threading.get_ident()))
        second = run(engine.analyze_sections_parallel({"a": ""}, lambda _: threading.get_ident()))
        assert first == second
        assert len(ours()) == 1
    assert not ours()
    run(engine.analyze_sections_parallel(SECTIONS, len))
    assert not ours()


def test_under_uvloop():
    """The engine works the same on a uvloop loop."""
    uvloop = pytest.importorskip("uvloop")
    engine = AsyncAnalysisEngine(2)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        table = runner.run(engine.analyze_multiple({"a": "x"}, {"plain": len, "async": length}))
        assert table == {"plain": {"a": 1}, "async": {"a": 1}}
        assert runner.run(engine.analyze_sections_parallel({"a": "x"}, length)) == {"a": 1}

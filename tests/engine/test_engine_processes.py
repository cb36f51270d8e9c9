"""Workers in other processes: loky's, a pool of the user's, dask's; results, errors, crashes, limits, timings."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import cloudpickle
import pytest

from analysis_kit import cancellation, events
from analysis_kit.engine.engine import AsyncAnalysisEngine, Task
from analysis_kit.errors import AnalysisError, ConfigurationError

pytest.importorskip("loky")
psutil = pytest.importorskip("psutil")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file

UNITS = {f"u{number}": number for number in range(12)}


def run(coroutine):
    return asyncio.run(coroutine)


def children():
    """Return child processes that work; the trackers that loky and multiprocessing keep are none."""
    return [
        each
        for each in psutil.Process().children(recursive=True)
        if each.status() != psutil.STATUS_ZOMBIE
        and not any("resource_tracker" in part or "forkserver" in part for part in each.cmdline())
    ]


@pytest.fixture(autouse=True)
def no_process_left():
    """Every worker process of a test ends with it."""
    before = {each.pid for each in children()}
    yield
    left = [each for each in children() if each.pid not in before]
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not alive


class Inline(Executor):
    """The smallest executor there is."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as exc:
            future.set_exception(exc)
        return future


@pytest.fixture(params=["loky", "process pool", "thread pool", "dask", "inline"])
def engine(request):
    """An engine over each kind of executor."""
    if request.param == "loky":
        with AsyncAnalysisEngine(2, use_processes=True, on_error="collect") as made:
            yield made
    elif request.param == "dask":
        distributed = pytest.importorskip("distributed")
        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield AsyncAnalysisEngine(2, executor=client.get_executor(), on_error="collect")
    elif request.param == "inline":
        yield AsyncAnalysisEngine(2, executor=Inline(), on_error="collect")
    else:
        kind = ProcessPoolExecutor if request.param == "process pool" else ThreadPoolExecutor
        with kind(2) as pool:
            yield AsyncAnalysisEngine(2, executor=pool, on_error="collect")


class StubbornError(Exception):
    """Cannot be unpickled."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def analyze(number):
    if number == 3:
        raise ValueError("three is bad")
    if number == 4:
        raise StubbornError("this", "that")
    return number * 2


def test_results_and_errors_are_the_same_everywhere(engine):
    """Closures work, results come in input order, and errors name unit, analyzer and the original's type and words."""
    results = run(engine.analyze_sections_parallel(UNITS, lambda number: analyze(number), "double"))
    assert list(results) == list(UNITS)
    good = {name: value for name, value in results.items() if not isinstance(value, AnalysisError)}
    assert good == {name: number * 2 for name, number in UNITS.items() if number not in {3, 4}}
    assert "double on 'u3' failed" in str(results["u3"])
    assert "ValueError: three is bad" in str(results["u3"])
    assert isinstance(results["u3"].__cause__, ValueError)
    assert "StubbornError: this and that" in str(results["u4"])


def test_async_functions_work_too(engine):
    """An async function is awaited where it runs."""

    async def waiting(number):
        await asyncio.sleep(0)
        return number

    assert run(engine.analyze_sections_parallel(UNITS, waiting)) == UNITS


def test_streams_and_several_analyzers(engine):
    """Streams and analyze_multiple work over every executor."""

    async def main():
        table = await engine.analyze_multiple({"a": -1, "b": -2}, {"abs": abs, "neg": lambda n: -n})
        seen = []
        async for outcome in engine.stream(((n, -n) for n in range(100)), abs):
            seen.append(outcome.value)
            if outcome.value % 50 == 0:
                await asyncio.create_task(engine.analyze_sections_parallel({"c": -3}, abs))
        return table, sorted(seen)

    assert run(main()) == ({"abs": {"a": 1, "b": 2}, "neg": {"a": 1, "b": 2}}, list(range(100)))


def test_events_of_a_unit_and_its_timings_come_back_once(engine):
    """Each unit gives UnitFinished with its own duration, and what it emits itself is heard once, wherever it ran."""
    heard = []

    def tell(number):
        events.emit(events.OperationTimed(f"op {number}", 0.5, ok=True))

    unsubscribe = events.subscribe(heard.append)
    try:
        run(engine.analyze_sections_parallel(UNITS, tell, "tell"))
    finally:
        unsubscribe()
    timed = [event.name for event in heard if isinstance(event, events.OperationTimed)]
    assert sorted(timed) == sorted(f"op {number}" for number in UNITS.values())
    finished = [event for event in heard if isinstance(event, events.UnitFinished)]
    assert sorted(event.unit for event in finished) == sorted(UNITS)
    assert all(event.status == "done" and event.duration_s >= 0 for event in finished)


def test_what_cannot_be_sent_is_refused_by_name():
    """A function that holds a lock cannot go to a worker process: one clear error names it, before any worker starts."""
    lock = threading.Lock()

    def locked(number):
        with lock:
            return number

    for policy in ("raise", "collect"):
        engine = AsyncAnalysisEngine(2, use_processes=True, on_error=policy)
        with pytest.raises(
            ConfigurationError, match=r"locked on 'u.*cannot be sent to a worker process.*lock"
        ):
            run(engine.analyze_sections_parallel(UNITS, locked))
    assert not children()


def test_a_result_that_cannot_come_back_fails_its_unit_only():
    """A lambda among good results is no trouble; a lock fails its own unit and says why."""
    results = run(
        AsyncAnalysisEngine(2, use_processes=True, on_error="collect").analyze_sections_parallel(
            UNITS, lambda number: threading.Lock() if number == 5 else number
        )
    )
    assert "cannot be sent back from a worker process" in str(results.pop("u5"))
    assert results == {name: number for name, number in UNITS.items() if number != 5}


def crash(number):
    if number == 5:
        os._exit(3)
    return number


def test_X2_a_unit_that_kills_its_worker_fails_and_the_others_are_done():
    """os._exit in one unit: that unit is marked, every other one is done, and the next run works at once."""
    with AsyncAnalysisEngine(2, use_processes=True, on_error="collect") as engine:
        results = run(engine.analyze_sections_parallel(UNITS, crash, "crash"))
        error = results.pop("u5")
        assert "crash on 'u5' failed" in str(error)
        assert "its worker ended without an answer" in str(error)
        assert results == {name: number for name, number in UNITS.items() if number != 5}
        assert run(engine.analyze_sections_parallel(UNITS, abs)) == UNITS


def test_X2_a_repeat_crasher_is_not_tried_for_ever(tmp_path):
    """A unit that kills whatever runs it is tried at most twice."""
    note = tmp_path / "tries"

    def killer(number):
        if number == 5:
            with note.open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(AnalysisError, match="'u5'") as caught:
        run(AsyncAnalysisEngine(2, use_processes=True).analyze_sections_parallel(UNITS, killer))
    assert len(note.read_text()) <= 2
    assert "u5" not in caught.value.partial


def test_X2_a_broken_pool_of_the_user_ends_with_errors_not_a_hang():
    """A user's own pool that breaks cannot be rebuilt by us: every unit still gets its outcome."""
    with ProcessPoolExecutor(1) as pool:
        results = run(
            AsyncAnalysisEngine(1, executor=pool, on_error="collect").analyze_sections_parallel(UNITS, crash)
        )
    assert list(results) == list(UNITS)
    assert isinstance(results["u5"], AnalysisError)


def hang(number):
    if number == 5:
        threading.Event().wait()
    return number


def test_timeout_of_a_unit_that_blocks_its_process():
    """A process stuck in a unit is killed at its time limit; the other units are done."""
    with AsyncAnalysisEngine(2, use_processes=True, on_error="collect", timeout_s=0.2) as engine:
        results = run(engine.analyze_sections_parallel(UNITS, hang))
    error = results.pop("u5")
    assert isinstance(error.__cause__, TimeoutError)
    assert results == {name: number for name, number in UNITS.items() if number != 5}


def test_timeout_of_a_unit_that_listens():
    """In a worker process the unit's token is cancelled at its limit, so that a listening function ends by itself."""

    def listen(number):
        if number == 5:
            cancellation.sleep(60)
        return number

    with AsyncAnalysisEngine(2, use_processes=True, on_error="collect", timeout_s=0.2) as engine:
        results = run(engine.analyze_sections_parallel(UNITS, listen))
    error = results.pop("u5")
    assert "TimeoutError: took longer than timeout_s=0.2" in str(error)
    assert results == {name: number for name, number in UNITS.items() if number != 5}


def test_cancel_kills_the_workers_and_the_next_run_has_new_ones(tmp_path):
    """Cancelling the task ends the processes though they block; queued units never start."""
    note = tmp_path / "pids"

    def block(number):
        with note.open("a") as file:
            file.write(f"{os.getpid()} ")
        threading.Event().wait()

    async def main(engine):
        task = asyncio.create_task(engine.analyze_sections_parallel(UNITS, block))
        while not note.exists() or len(note.read_text().split()) < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        pids = [int(pid) for pid in note.read_text().split()]
        assert len(pids) == 2
        assert not any(psutil.pid_exists(pid) for pid in pids)
        return await engine.analyze_sections_parallel(UNITS, abs)

    with AsyncAnalysisEngine(2, use_processes=True) as engine:
        assert run(main(engine)) == UNITS


@pytest.mark.parametrize("busy", [False, True])
def test_workers_end_when_their_parent_is_killed(busy):
    """A kernel that dies without a farewell leaves no worker process behind, neither an idle nor a busy one."""
    code = f"""
        import threading
        from analysis_kit.engine.engine import AsyncAnalysisEngine
        from analysis_kit.engine.loop import run_async

        def work(_):
            print("at work", flush=True)
            while {busy}:
                pass

        engine = AsyncAnalysisEngine(1, use_processes=True).__enter__()
        run_async(engine.analyze_sections_parallel({{"a": 1}}, work))
        print("idle", flush=True)
        threading.Event().wait()
    """
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "at work\n"
    assert busy or owner.stdout.readline() == "idle\n"
    owner.kill()
    owner.communicate(timeout=30)  # its end comes when nobody holds the pipe any more


def test_processes_stay_warm_inside_with_and_end_with_it():
    """Runs inside the block share the workers; at its end, and after a run without a block, none is alive."""
    with AsyncAnalysisEngine(1, use_processes=True) as engine:
        first = run(engine.analyze_sections_parallel({"a": 0}, lambda _: os.getpid()))
        second = run(engine.analyze_sections_parallel({"a": 0}, lambda _: os.getpid()))
        assert first == second != {"a": os.getpid()}
    assert not psutil.pid_exists(first["a"])
    third = run(engine.analyze_sections_parallel({"a": 0}, lambda _: os.getpid()))
    assert third != first
    assert not psutil.pid_exists(third["a"])


def test_cheap_units_go_out_in_chunks():
    """A thousand cheap units cross in far fewer messages; slow ones go one by one."""
    sent = []

    class Through(Executor):
        def submit(self, fn, /, *args):
            sent.append(fn)
            return Inline().submit(fn, *args)

    engine = AsyncAnalysisEngine(2, executor=Through())
    run(engine.analyze_sections_parallel({str(n): n for n in range(1000)}, abs))
    assert len(sent) < 50
    sent.clear()
    run(engine.analyze_sections_parallel({str(n): n for n in range(4)}, lambda _: time.sleep(0.11)))
    assert len(sent) == 4


def test_thread_pools_share_our_memory_and_context():
    """Units in a user's ThreadPoolExecutor run in this process, see context variables and their cancel token."""
    seen = []

    def note(number):
        seen.append(
            (number, cancellation.current_token.get() is not None, threading.current_thread().name[:4])
        )

    with ThreadPoolExecutor(2, "mine") as pool:
        run(AsyncAnalysisEngine(2, executor=pool).analyze_sections_parallel({"a": 1}, note))
    assert seen == [(1, True, "mine")]


def test_processes_and_executor_exclude_each_other():
    """Asking for both is refused."""
    with pytest.raises(ConfigurationError, match="exclude each other"):
        AsyncAnalysisEngine(executor=Inline(), use_processes=True)


def test_rate_limit_over_an_executor_can_be_cancelled():
    """With a rate limit the first unit is sent and the rest waits; a cancel does not wait for them."""
    done = []

    async def main():
        engine = AsyncAnalysisEngine(2, executor=Inline(), rate_limit="1/day")
        tasks = [Task(n, "t", f"u{n}", 0, functools.partial(abs, n)) for n in range(5)]
        running = asyncio.create_task(engine.run_tasks(tasks, on_outcome=done.append))
        while not done:
            await asyncio.sleep(0.001)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run(main())
    assert [outcome.status for outcome in done] == ["done"] + ["not started"] * 4


def test_methods_of_the_kits_analyzers_travel():
    """A bound method of an analyzer by rules works in a worker process as it does here."""
    complexity = pytest.importorskip("analysis_kit.analyzers.complexity")
    text = "Revenue grew. We expect further growth next year, although costs may rise."
    method = complexity.ComplexityAnalyzer().analyze
    results = run(AsyncAnalysisEngine(1, use_processes=True).analyze_sections_parallel({"a": text}, method))
    assert results["a"] == method(text)


def test_X2_a_worker_killed_between_runs_costs_nothing():
    """A worker process that dies while it is idle is replaced: every unit of the next run is done."""
    with AsyncAnalysisEngine(1, use_processes=True) as engine:
        [pid] = run(engine.analyze_sections_parallel({"a": 0}, lambda _: os.getpid())).values()
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
        assert run(engine.analyze_sections_parallel(UNITS, abs)) == UNITS

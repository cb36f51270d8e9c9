"""Cancel, time limits and deadlines: nothing lost, nothing left running, and the next run works at once."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from fakes.ollama import FakeOllama, Play

from analysis_kit.cancellation import CancelToken, current_token, sleep
from analysis_kit.engine.engine import AsyncAnalysisEngine, Task
from analysis_kit.errors import AnalysisError


def run(coroutine):
    return asyncio.run(coroutine)


def units(count):
    return {f"u{number}": number for number in range(count)}


def tasks_of(calls):
    return [Task(name, "t", name, 0, call) for name, call in calls.items()]


async def wait_for(condition):
    while not condition():
        await asyncio.sleep(0.001)


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_cancel_reaches_running_units_and_queued_ones_never_start():
    """Cancelling the task wakes units that wait on their token; what was queued is never called."""
    started, woken = [], []

    def analyze(number):
        started.append(number)
        try:
            sleep(30)
        except asyncio.CancelledError:
            woken.append(number)
            raise

    async def main():
        engine = AsyncAnalysisEngine(2)
        task = asyncio.create_task(engine.analyze_sections_parallel(units(50), analyze))
        await wait_for(lambda: len(started) == 2)
        await cancelled(task)
        assert sorted(woken) == sorted(started)
        assert len(started) == 2
        return await engine.analyze_sections_parallel({"next": 5}, abs)

    assert run(main()) == {"next": 5}


def test_control_comes_back_while_a_function_still_blocks(latch, caplog):
    """A unit that cannot be stopped is named in one warning and left behind; its result is dropped, the next run works."""
    given = []

    async def main():
        engine = AsyncAnalysisEngine(2)
        calls = {
            "deaf": functools.partial(latch.hold, "late"),
            "other": functools.partial(latch.hold, "late"),
        }
        task = asyncio.create_task(engine.run_tasks(tasks_of(calls), on_outcome=given.append))
        await asyncio.to_thread(latch.until_held, 2)
        await cancelled(task)  # the functions block until the latch is released, after this
        return await engine.analyze_sections_parallel({"a": -1, "b": -2, "c": -3}, abs)

    with caplog.at_level(logging.WARNING):
        assert run(main()) == {"a": 1, "b": 2, "c": 3}
    latch.release()
    assert [outcome.status for outcome in given] == ["cancelled", "cancelled"]
    [record] = [each for each in caplog.records if each.name.startswith("analysis_kit.engine")]
    assert "t on 'deaf'" in record.getMessage()
    assert "t on 'other'" in record.getMessage()


def test_workers_are_daemons():
    """Threads of the engine never hold up the end of the process."""
    assert run(
        AsyncAnalysisEngine(1).analyze_sections_parallel(
            {"a": 0}, lambda _: threading.current_thread().daemon
        )
    ) == {"a": True}


def test_the_process_ends_though_a_unit_blocks_for_ever():
    """A script that leaves a blocked unit behind ends by itself."""
    script = """
        import asyncio, threading
        from analysis_kit.engine.engine import AsyncAnalysisEngine
        held = threading.Event()
        def analyze(text):
            held.set()
            threading.Event().wait()
        async def main():
            task = asyncio.create_task(AsyncAnalysisEngine(2).analyze_sections_parallel({"a": "x"}, analyze))
            await asyncio.to_thread(held.wait)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            print("back")
        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "back\n"), done.stderr


def test_interrupt_in_a_script_gives_keyboard_interrupt():
    """SIGINT during run_async in a script ends in KeyboardInterrupt, with the units cancelled before."""
    script = """
        import asyncio, os, signal, threading
        from analysis_kit import cancellation
        from analysis_kit.engine.engine import AsyncAnalysisEngine
        from analysis_kit.engine.loop import run_async
        ended = []
        def analyze(text):
            if text == "last":
                os.kill(os.getpid(), signal.SIGINT)
            try:
                cancellation.sleep(60)
            finally:
                ended.append(text)
        try:
            run_async(AsyncAnalysisEngine(2).analyze_sections_parallel({"a": "first", "b": "last", "c": ""}, analyze))
        except KeyboardInterrupt:
            print("interrupted", sorted(ended), threading.active_count())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "interrupted ['first', 'last'] 1\n", done.stderr


def test_async_units_are_cancelled_as_tasks_and_may_clean_up():
    """A cancel reaches an async function as CancelledError once, and its cleanup may await."""
    ended = []

    async def analyze(number):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    async def main(calls):
        started = asyncio.create_task(calls)
        await asyncio.sleep(0.05)
        await cancelled(started)
        assert {task for task in asyncio.all_tasks() if task is not asyncio.current_task()} == set()

    run(main(AsyncAnalysisEngine(2).analyze_sections_parallel(units(5), analyze)))
    assert len(ended) == 2
    ended.clear()
    mixed = AsyncAnalysisEngine(4).analyze_multiple(
        units(2), {"async": analyze, "plain": lambda _: sleep(30)}
    )
    run(main(mixed))
    assert sorted(ended) == [0, 1]


def test_engine_cancel_from_another_thread():
    """cancel() may come from any thread; under "raise" the run ends with CancelledError, under "collect" with errors."""
    for policy in ("raise", "collect"):
        engine = AsyncAnalysisEngine(1, on_error=policy)

        def analyze(_, engine=engine):
            threading.Thread(target=engine.cancel).start()
            sleep(30)

        coroutine = engine.analyze_sections_parallel(units(3), analyze, "t")
        if policy == "raise":
            with pytest.raises(asyncio.CancelledError):
                run(coroutine)
        else:
            results = run(coroutine)
            assert [type(each) for each in results.values()] == [AnalysisError] * 3
            assert "t on 'u0' was cancelled" in str(results["u0"])
            assert "t on 'u1' was not started" in str(results["u1"])


def test_a_cancelled_token_stops_the_run_and_all_is_accounted_for():
    """Under "collect" run_tasks returns every outcome after a cancel: done, cancelled, not started; each is given once."""
    token = CancelToken()
    given = []

    def stop():
        token.cancel()
        token.wait(30)
        current_token.get().raise_if_cancelled()

    calls = {"first": int, "stop": stop, "never": int}
    outcomes = run(
        AsyncAnalysisEngine(1, on_error="collect").run_tasks(
            tasks_of(calls), token=token, on_outcome=given.append
        )
    )
    assert [outcome.status for outcome in outcomes] == ["done", "cancelled", "not started"]
    assert sorted(map(str, given)) == sorted(map(str, outcomes))
    assert [outcome.attempts for outcome in outcomes] == [1, 1, 0]
    with pytest.raises(asyncio.CancelledError):
        run(AsyncAnalysisEngine(1).run_tasks(tasks_of(calls), token=token))


def test_a_unit_that_finishes_in_spite_of_the_cancel_is_kept():
    """What completes while the run is being stopped counts as done."""
    token = CancelToken()

    def finish():
        token.cancel()
        return "whole"

    [outcome] = run(
        AsyncAnalysisEngine(1, on_error="collect").run_tasks(tasks_of({"a": finish}), token=token)
    )
    assert (outcome.status, outcome.value) == ("done", "whole")


def test_timeout_ends_a_unit_and_only_that_one():
    """A unit over its limit fails with TimeoutError; the others, before and after it on the same worker, are done."""

    def analyze(number):
        if number == 1:
            sleep(30)
        return number

    engine = AsyncAnalysisEngine(1, on_error="collect", timeout_s=0.05)
    results = run(engine.analyze_sections_parallel(units(4), analyze))
    assert isinstance(results["u1"].__cause__, TimeoutError)
    assert "timeout_s=0.05" in str(results["u1"])
    assert [results["u0"], results["u2"], results["u3"]] == [0, 2, 3]


def test_timeout_of_an_async_unit():
    """An async unit over its limit is cancelled and fails with TimeoutError, not as a cancelled one."""

    async def analyze(number):
        await asyncio.sleep(30 if number == 1 else 0)
        return number

    results = run(
        AsyncAnalysisEngine(2, on_error="collect", timeout_s=0.05).analyze_sections_parallel(
            units(3), analyze
        )
    )
    assert isinstance(results["u1"].__cause__, TimeoutError)
    assert (results["u0"], results["u2"]) == (0, 2)


def test_timeout_of_a_blocked_unit_gives_its_place_to_another_worker(latch, caplog):
    """With one worker stuck for ever in a function, the rest of the units is still worked on."""
    results = run(
        AsyncAnalysisEngine(1, on_error="collect", timeout_s=0.05).analyze_sections_parallel(
            {"stuck": "xx", "next": "x"}, lambda text: latch.hold() if text == "xx" else text
        )
    )
    assert isinstance(results["stuck"].__cause__, TimeoutError)
    assert results["next"] == "x"
    assert "on 'stuck'" in caplog.text


def test_deadline_ends_the_run():
    """After deadline_s the running are cancelled and the queued never start; "raise" says so and holds what is done."""

    def analyze(number):
        if number:
            sleep(30)
        return number

    with pytest.raises(AnalysisError, match=r"deadline_s=0\.1") as caught:
        run(AsyncAnalysisEngine(1).analyze_sections_parallel(units(3), analyze, deadline_s=0.1))
    assert caught.value.partial == {"u0": 0}
    assert isinstance(caught.value.__cause__, TimeoutError)
    outcomes = run(
        AsyncAnalysisEngine(1, on_error="collect").run_tasks(
            tasks_of({name: functools.partial(analyze, number) for name, number in units(3).items()}),
            deadline_s=0.1,
        )
    )
    assert [outcome.status for outcome in outcomes] == ["done", "cancelled", "not started"]
    assert isinstance(outcomes[1].error.__cause__, TimeoutError)


def test_a_run_inside_a_cancelled_unit_is_cancelled_too():
    """The token of a unit is the parent of every run started inside it."""
    inner = []

    def leaf(text):
        try:
            sleep(30)
        except TimeoutError:  # the parent's time limit
            inner.append(text)
            raise

    def outer(text):
        return asyncio.run(AsyncAnalysisEngine(1).analyze_sections_parallel({"leaf": text}, leaf))

    results = run(
        AsyncAnalysisEngine(1, on_error="collect", timeout_s=0.1).analyze_sections_parallel({"a": "x"}, outer)
    )
    assert inner == ["x"]
    assert isinstance(results["a"].__cause__, TimeoutError)


def test_a_second_cancel_does_not_wait(latch):
    """Whoever cancels again while stuck units are given their time is not kept waiting for it."""

    async def main():
        task = asyncio.create_task(AsyncAnalysisEngine(1).analyze_sections_parallel({"a": "x"}, latch.hold))
        await asyncio.to_thread(latch.until_held)
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await cancelled(task)

    run(main())


def test_a_coroutine_that_is_closed_stops_its_workers():
    """Closing the coroutine without a loop (as a dying loop does) reaches the units under way."""
    woken = threading.Event()

    def analyze(_):
        current_token.get().wait(30)
        woken.set()

    loop = asyncio.new_event_loop()
    coroutine = AsyncAnalysisEngine(1).analyze_sections_parallel({"a": ""}, analyze)

    async def start():
        task = loop.create_task(coroutine)
        await asyncio.sleep(0.05)
        return task

    task = loop.run_until_complete(start())
    coroutine.close() if not task.done() else None
    assert woken.wait(30)
    task._log_destroy_pending = False
    loop.close()


def test_L9_one_engine_over_several_loops_and_threads():
    """The same engine serves two asyncio.run in a row and one in another thread, each with more units than workers."""
    engine = AsyncAnalysisEngine(2, rate_limit="100000/s")

    async def waiting(number):
        await asyncio.sleep(0)
        return number

    for analyze in (abs, waiting):
        assert run(engine.analyze_sections_parallel(units(20), analyze)) == units(20)
        assert run(engine.analyze_sections_parallel(units(20), analyze)) == units(20)
        elsewhere = []
        thread = threading.Thread(
            target=lambda a=analyze, e=elsewhere: e.append(
                run(engine.analyze_sections_parallel(units(20), a))
            )
        )
        thread.start()
        thread.join()
        assert elsewhere == [units(20)]


def test_the_engine_can_be_used_after_its_end():
    """After `with`, and after close(), a run works as before."""
    with AsyncAnalysisEngine(2) as engine:
        assert run(engine.analyze_sections_parallel(units(3), abs)) == units(3)
    assert run(engine.analyze_sections_parallel(units(3), abs)) == units(3)
    engine.close()
    engine.close()

    async def main():
        async with engine as same:
            return await same.analyze_sections_parallel(units(3), abs)

    assert run(main()) == units(3)


def test_close_from_another_thread_cancels_what_runs():
    """Leaving the engine's block while a run is on in another thread stops that run."""
    started = threading.Event()
    ended = []

    def analyze(_):
        started.set()
        sleep(30)

    with AsyncAnalysisEngine(1) as engine:

        def work():
            with pytest.raises(asyncio.CancelledError):
                run(engine.analyze_sections_parallel(units(2), analyze))
            ended.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        started.wait(30)
    thread.join(30)
    assert ended == [True]


def test_rate_limit_spaces_starts_and_can_be_cancelled():
    """Starts are spaced by the rate, and a cancel does not wait for the next one; nor does the next run."""
    starts = []

    def analyze(_):
        starts.append(True)

    async def main():
        engine = AsyncAnalysisEngine(4, rate_limit="1/day")
        task = asyncio.create_task(engine.analyze_sections_parallel(units(10), analyze))
        await wait_for(lambda: starts)
        await cancelled(task)
        assert len(starts) == 1
        waiting = asyncio.create_task(engine.analyze_sections_parallel(units(10), _a_nothing))
        await asyncio.sleep(0.01)
        await cancelled(waiting)

    run(main())


async def _a_nothing(_):
    return None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_an_engine_of_its_own(latch):
    """A child forked in the middle of a run starts clean, though the parent's workers hold every slot."""

    async def main():
        engine = AsyncAnalysisEngine(1)
        task = asyncio.create_task(engine.analyze_sections_parallel({"a": "x"}, latch.hold))
        await asyncio.to_thread(latch.until_held)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            code = 1
            try:
                done = []
                thread = threading.Thread(
                    target=lambda: done.append(run(engine.analyze_sections_parallel({"b": -1}, abs)))
                )
                thread.start()
                thread.join()
                code = 0 if done == [{"b": 1}] else 2
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        latch.release()
        await task
        return os.waitstatus_to_exitcode(status)

    assert run(main()) == 0


@pytest.mark.parametrize("end", ["cancel", "timeout", "failure"])
def test_a_request_that_is_never_answered_is_aborted(end, caplog):
    """Cancel, time limit and another unit's failure reach a thread that is blocked in a socket read; nothing is left behind."""
    from analysis_kit.ollama.pool import OllamaConnectionPool

    with FakeOllama(slots=4, answer="fine") as fake:
        fake.script("/api/generate", Play(hang=True), Play(hang=True))
        pool = OllamaConnectionPool(2, 0, hosts=[fake.url])
        model = next(iter(fake.models))

        def ask(text):
            if text == "bad":
                fake.until(lambda: len(fake.requests) >= 2)
                raise ValueError("bad")
            with pool.get_connection() as client:
                return client.generate(text, model=model).text

        async def main():
            engine = AsyncAnalysisEngine(3, on_error="raise" if end == "failure" else "collect")
            sections = {"a": "one", "b": "two", **({"c": "bad"} if end == "failure" else {})}
            limit = 0.2 if end == "timeout" else None
            calls = [
                Task(name, "ask", name, 0, functools.partial(ask, text)) for name, text in sections.items()
            ]
            task = asyncio.create_task(engine.run_tasks(calls, timeout_s=limit))
            if end == "cancel":
                await asyncio.to_thread(fake.until, lambda: len(fake.requests) >= 2)
                await cancelled(task)
            elif end == "failure":
                with pytest.raises(AnalysisError, match="'c'"):
                    await task
            else:
                outcomes = await task
                assert [outcome.status for outcome in outcomes] == ["failed", "failed"]
                assert all("timeout_s=0.2" in str(outcome.error) for outcome in outcomes)
            return await engine.analyze_sections_parallel({"a": "next"}, ask)

        try:
            assert run(main()) == {"a": "fine"}
            assert pool.get_stats()["active_connections"] == 0
        finally:
            pool.shutdown()
    assert "left behind" not in caplog.text

"""run_async in a script, under a running loop, under uvloop, and where nest_asyncio 1 was there first."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import textwrap
import threading

import pytest

from analysis_kit.engine.loop import run_async
from analysis_kit.errors import ConfigurationError

variable = contextvars.ContextVar("variable", default="unset")


def script(text, *, timeout=60):
    """Run ``text`` in a fresh interpreter with warnings as errors, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Awaitable:
    def __await__(self):
        return asyncio.sleep(0, "awaited").__await__()


async def answer(value=42):
    await asyncio.sleep(0)
    return value


def test_in_a_script():
    """Without a running loop a coroutine and any awaitable give their result, and the thread's loop is left alone."""
    mine = asyncio.new_event_loop()
    asyncio.set_event_loop(mine)
    try:
        assert run_async(answer()) == 42
        assert run_async(Awaitable()) == "awaited"
        assert asyncio.get_event_loop_policy().get_event_loop() is mine
    finally:
        asyncio.set_event_loop(None)
        mine.close()


def test_in_a_thread_without_a_loop():
    """A worker thread may use run_async too."""
    found = []
    thread = threading.Thread(target=lambda: found.append(run_async(answer())))
    thread.start()
    thread.join()
    assert found == [42]


def test_a_future_runs_where_it_belongs():
    """A future of an idle loop, and one of a loop that runs in another thread, are waited for on their own loop."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(answer())
    assert run_async(task) == 42
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        other = asyncio.run_coroutine_threadsafe(_task(), loop).result()
        assert run_async(other) == 42
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_future_is_one_after_a_patch_too():
    """A patch puts other classes in the place of asyncio's; what gather gives is still taken for the future it is."""
    text = """
        import asyncio
        from analysis_kit.engine.loop import run_async

        async def main():
            run_async(asyncio.sleep(0))

        asyncio.run(main())
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        print(run_async(asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))))
        loop.close()
    """
    assert script(text) == "[1, 2]\n"


def test_asyncio_run_is_the_users_own_where_no_loop_runs():
    """After a nested run, asyncio.run still cancels tasks, closes generators and its loop; under a loop it nests."""
    text = """
        import asyncio, gc, threading
        from analysis_kit.engine.loop import run_async

        async def nesting():
            run_async(asyncio.sleep(0))
            return asyncio.run(asyncio.sleep(0, "nested"))

        async def for_ever():
            try:
                await asyncio.Event().wait()
            finally:
                print("cancelled")

        async def items():
            try:
                yield 1
            finally:
                print("closed")

        async def leaves():
            kept.append(items())
            async for _ in kept[-1]:
                break
            task = asyncio.create_task(for_ever())
            await asyncio.sleep(0)

        kept = []
        print(asyncio.run(nesting()))
        for target in (lambda: asyncio.run(leaves()), lambda: asyncio.run(asyncio.sleep(0))):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        asyncio.run(leaves())
        gc.collect()
    """
    assert script(text).split() == ["nested", "cancelled", "closed", "cancelled", "closed"]


def test_a_generator_that_was_left_half_read_is_closed():
    """What an asynchronous generator does on its way out is done to its end, though its reader left it in a nested run."""
    done = []

    async def items():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            done.append("closed")

    async def first():
        async for item in items():
            return item

    async def main():
        return run_async(first())

    assert asyncio.run(main()) == 1
    assert done == ["closed"]


async def _task():
    return asyncio.get_running_loop().create_task(answer())


@pytest.mark.parametrize("thing", [3, None, answer, [answer]], ids=["int", "None", "function", "list"])
def test_what_cannot_be_awaited_is_refused(thing):
    """The error is a ConfigurationError and a TypeError; a function is told to be called."""
    with pytest.raises(ConfigurationError, match="run_async needs an awaitable") as caught:
        run_async(thing)
    assert isinstance(caught.value, TypeError)
    assert ("Call it" in str(caught.value)) == callable(thing)


def test_the_coroutines_own_error_comes_out():
    """An exception inside is raised outside, also one that looks like a time limit of ours."""

    async def fail(error):
        raise error

    for error in (ValueError("own"), TimeoutError("own"), KeyError("own")):
        with pytest.raises(type(error), match="own"):
            run_async(fail(error))


NESTED = """
    import asyncio, contextvars, gc, threading
    from analysis_kit.engine.loop import run_async
    variable = contextvars.ContextVar("variable", default="unset")
    async def answer(value=42):
        await asyncio.sleep(0.01)
        return value
    class Awaitable:
        def __await__(self):
            return answer("awaited").__await__()
    async def deep(levels):
        await asyncio.sleep(0)
        return run_async(deep(levels - 1)) if levels else asyncio.current_task() is not None
    async def reader():
        return variable.get()
    async def writer():
        variable.set("inside")
    async def fail():
        raise TimeoutError("own")
    async def main():
        print(run_async(answer()), run_async(Awaitable()), run_async(deep(3)))
        variable.set("outside")
        print(run_async(reader()), run_async(writer()), variable.get())
        print(run_async(asyncio.wait_for(answer("waited"), 5)))
        try:
            run_async(fail())
        except TimeoutError as error:
            print(error)
        orphans = []
        async def leave_one():
            orphans.append(asyncio.create_task(asyncio.sleep(60)))
            await asyncio.sleep(0)
        run_async(leave_one())
        print(orphans[0].cancelled())
        await asyncio.sleep(0)
        return "end"
"""
PRINTED = "42 awaited True\noutside None outside\nwaited\nown\nTrue\nend\n"


def test_L3_L7_L11_nested_in_a_running_loop():
    """Nested: results, three levels, current_task, wait_for, context variables, left-over tasks; nothing lost, no warning."""
    assert script(NESTED + "    print(asyncio.run(main()))\n") == PRINTED


def test_L1_under_uvloop():
    """Under uvloop importing the package works and run_async gives the same, on a loop in a thread."""
    pytest.importorskip("uvloop")
    assert (
        script("    import uvloop\n    import analysis_kit\n" + NESTED + "    print(uvloop.run(main()))\n")
        == PRINTED
    )


def test_L1_a_future_of_an_unpatchable_loop_is_refused():
    """A task of the blocked uvloop loop cannot be waited for there: one clear error, naming the loop, not a hang."""
    pytest.importorskip("uvloop")
    text = """
    import uvloop
    async def main():
        task = asyncio.ensure_future(answer())
        try:
            run_async(task)
        except ValueError as error:
            print(error)
        print(await task)
    uvloop.run(main())
    """
    said, value = script(NESTED + text).splitlines()
    assert "uvloop.Loop" in said
    assert "await it" in said
    assert value == "42"


def test_L11_where_nest_asyncio_1_patched_first():
    """With asyncio marked as patched by nest_asyncio 1 the result is the same, from a loop in a thread."""
    mark = "    asyncio._nest_patched = True\n"
    assert script(NESTED + mark + "    print(asyncio.run(main()))\n") == PRINTED
    where = """
    async def main():
        async def name():
            return threading.current_thread().name
        print(run_async(name()))
    asyncio.run(main())
    """
    assert script(NESTED + mark + where) == "analysis-kit-loop\n"


def test_L11_applying_three_times_is_harmless():
    """nest_asyncio2 applied by others, before and after, changes nothing."""
    text = """
    import nest_asyncio2
    async def twice():
        nest_asyncio2.apply(); nest_asyncio2.apply()
        run_async(answer())
        nest_asyncio2.apply()
        return await main()
    print(asyncio.run(twice()))
    """
    assert script(NESTED + text) == PRINTED


def test_L7_context_variables_behave_the_same_in_every_mode():
    """Reads pass in, writes stay inside: in a script as in the nested runs of the tests above."""

    async def reader():
        return variable.get()

    async def writer():
        variable.set("inside")

    token = variable.set("outside")
    try:
        assert run_async(reader()) == "outside"
        run_async(writer())
        assert variable.get() == "outside"
    finally:
        variable.reset(token)


def test_importing_patches_nothing():
    """Importing the package, the engine and run_async leaves asyncio as it is; a script never patches it."""
    text = """
    import asyncio
    before = (asyncio.run, asyncio.Task, asyncio.get_event_loop_policy())
    import analysis_kit, analysis_kit.engine.engine
    from analysis_kit.engine.loop import run_async
    run_async(asyncio.sleep(0))
    import sys
    print(before == (asyncio.run, asyncio.Task, asyncio.get_event_loop_policy()), "nest_asyncio2" in sys.modules)
    print(sorted({"pandas", "tenacity", "loky", "distributed", "requests"} & set(sys.modules)))
    """
    assert script(text) == "True False\n[]\n"


INTERRUPT = """
    import signal, os, threading, time
    counts = [0, 0, 0]
    async def count(n):
        while True:
            counts[n] += 1
            await asyncio.sleep(0.001)
    async def three(interrupt=True):
        if interrupt:
            asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
        asyncio.create_task(count(2))
        await asyncio.gather(count(0), count(1))
    async def level(number):
        await asyncio.sleep(0)
        run_async(level(number - 1) if number else three())
    async def later():
        before = list(counts)
        await asyncio.sleep(0.05)
        return before == counts
"""


@pytest.mark.parametrize("runner", ["asyncio", "uvloop"])
def test_L5_an_interrupt_under_a_running_loop_ends_every_task(runner):
    """SIGINT during nested runs (three deep), or on the loop thread: KeyboardInterrupt, and no task goes on."""
    pytest.importorskip(runner)
    text = f"""
    import {runner}
    async def main():
        run_async(level(2))
    try:
        {runner}.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    before = list(counts)
    time.sleep(0.05)
    print(before == counts, all(counts), threading.active_count())
    """
    assert script(NESTED + INTERRUPT + text) == "interrupted\nTrue True 1\n"


def test_L5_an_interrupt_with_the_default_handler_ends_every_task():
    """As in a kernel, where SIGINT raises in the middle of the nested loop: all three counters stop, the loop lives on."""
    text = """
    async def main():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            run_async(level(2))
        except KeyboardInterrupt:
            print("interrupted")
        left = asyncio.all_tasks() - {asyncio.current_task()}
        print(run_async(later()), all(counts), len(left), await later())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    """
    assert script(NESTED + INTERRUPT + text) == "interrupted\nTrue True 0 True\n"


def test_L5_a_task_whose_wake_up_was_swallowed_ends_all_the_same():
    """An interrupt can hit a task between what it waited for and its next step; it is woken to be cancelled."""
    text = """
    import asyncio, logging
    from analysis_kit.engine.loop import run_async
    logging.basicConfig(format="%(message)s", stream=__import__("sys").stdout)
    async def waiting(future):
        try:
            await future
        except asyncio.CancelledError:
            print("cancelled")
            raise
    async def hit():
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(waiting(future))
        await asyncio.sleep(0)
        assert future.remove_done_callback(task._Task__wakeup) == 1
        future.set_result(None)
        raise KeyboardInterrupt
    async def main():
        run_async(asyncio.sleep(0))
        try:
            run_async(hit())
        except KeyboardInterrupt:
            print("interrupted")
        print(len(asyncio.all_tasks()))
    asyncio.run(main())
    """
    assert script(text) == "cancelled\ninterrupted\n1\n"


def test_a_cancel_of_the_surrounding_task_reaches_the_nested_run():
    """A time limit around sync code that nests ends the nested run and its tasks.

    Before Python 3.13 asyncio delivers a cancel of a task that was busy once more, at its next await.
    """
    text = """
    async def main():
        try:
            async with asyncio.timeout(0.1):
                run_async(three(interrupt=False))
        except TimeoutError:
            print("timeout")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        print(await later(), all(counts))
    import contextlib
    asyncio.run(main())
    """
    assert script(NESTED + INTERRUPT + text) == "timeout\nTrue True\n"


def test_a_coroutine_that_cannot_start_is_closed(monkeypatch):
    """If no loop can be made the error comes out, and no "never awaited" warning follows."""

    def refuse():
        raise OSError("too many open files")

    monkeypatch.setattr(asyncio, "new_event_loop", refuse)
    with pytest.raises(OSError, match="too many open files"):
        run_async(answer())
    gc.collect()

"""The engine and run_async in a real Jupyter kernel: queued cells, interrupts, and functions defined in cells."""

from __future__ import annotations

import contextlib

import pytest

pytest.importorskip("jupyter_client")
pytest.importorskip("ipykernel")

from fakes.kernel import Kernel


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all tests of this file."""
    made = Kernel()
    try:
        made.run(
            """
            import asyncio, threading, time
            from analysis_kit import cancellation
            from analysis_kit.engine.engine import AsyncAnalysisEngine
            from analysis_kit.engine.loop import run_async
            def ours():
                return [t.name for t in threading.enumerate() if t.name.startswith("analysis-kit")]
            """
        )
        yield made
    finally:
        with contextlib.suppress(Exception):
            made.close()


def test_L2_every_queued_cell_runs(kernel):
    """Three cells queued at once, the first nesting a loop: each runs once, in order, after the one before."""
    cells = [
        kernel.send("run_async(asyncio.sleep(0.5)); print('slept')"),
        kernel.send("x = 7; print('set')"),
        kernel.send("print(x, run_async(asyncio.sleep(0, 'again')))"),
    ]
    assert kernel.printed(*cells) == ["slept\n", "set\n", "7 again\n"]


def test_the_source_designs_cell(kernel):
    """The engine works through run_async and by await in a cell, and no thread of ours is left."""
    cell = """
        async def analyze_parallel():
            with AsyncAnalysisEngine(max_workers=4) as engine:
                return await engine.analyze_sections_parallel({"b": "two words", "a": "one"}, str.split, "words")
        print(run_async(analyze_parallel()), await analyze_parallel(), ours())
    """
    expected = {"b": ["two", "words"], "a": ["one"]}
    assert kernel.run(cell) == f"{expected} {expected} []\n"


def test_L5_interrupt_ends_every_task(kernel):
    """SIGINT over a gather of endless counters: KeyboardInterrupt in the cell, and the counters stand still."""
    printed = kernel.interrupted(
        """
        counts = [0, 0, 0]
        async def count(n):
            while True:
                counts[n] += 1
                await asyncio.sleep(0.001)
        async def three():
            print("started")
            await asyncio.gather(*map(count, range(3)))
        async def nest(levels):
            await asyncio.sleep(0)
            run_async(nest(levels - 1) if levels else three())
        run_async(nest(2))
        """
    )
    assert printed == "started\nKeyboardInterrupt"
    after = """
        before = list(counts)
        run_async(asyncio.sleep(0.1))
        print(before == counts, all(counts), len([t for t in asyncio.all_tasks() if "count" in repr(t)]))
    """
    assert kernel.run(after) == "True True 0\n"


@pytest.mark.parametrize("how", ["run_async(run())", "await run()"], ids=["nested", "await"])
def test_interrupt_of_a_run_ends_it_and_the_next_one_works(kernel, how):
    """SIGINT during an engine's run: the cell ends, units are woken, queued ones never start, the next run works."""
    printed = kernel.interrupted(
        f"""
        engine = AsyncAnalysisEngine(2)
        begun, woken = [], []
        def analyze(text):
            begun.append(text)
            print("started") if len(begun) == 2 else None
            try:
                cancellation.sleep(600)
            finally:
                woken.append(text)
        async def run():
            await engine.analyze_sections_parallel({{str(n): n for n in range(20)}}, analyze)
        {how}
        """
    )
    assert printed in ("started\nKeyboardInterrupt", "started\nCancelledError")
    check = "print(len(begun), sorted(woken) == sorted(begun), ours(), engine)"
    assert kernel.run(check) == "2 True [] <AsyncAnalysisEngine 2 threads, idle>\n"
    assert kernel.run("print(run_async(engine.analyze_sections_parallel({'a': 'x'}, len)))") == "{'a': 1}\n"


def test_interrupt_over_a_function_that_blocks(kernel):
    """SIGINT while units block in plain waits: the cell ends while they still block, with one warning that names them."""
    printed = kernel.interrupted(
        """
        gate = threading.Event()
        held = []
        def analyze(text):
            held.append(text)
            print("started") if len(held) == 2 else None
            gate.wait(600)
        run_async(AsyncAnalysisEngine(2).analyze_sections_parallel({"one": 1, "two": 2}, analyze, "tone"))
        """
    )
    assert printed.startswith("started\n")
    # where the interrupt met a task of the kernel itself, its traceback comes last
    assert printed.rstrip().endswith("KeyboardInterrupt")
    assert "tone on 'one'" in printed
    assert kernel.run("print(gate.is_set(), len(ours())); gate.set()") == "False 2\n"
    assert (
        kernel.run("[t.join(30) for t in threading.enumerate() if t.name in ours()]; print(ours())") == "[]\n"
    )


def test_X1_functions_of_cells_reach_worker_processes(kernel):
    """A function and a class defined in cells work with use_processes=True, and with a forkserver pool of the user's."""
    pytest.importorskip("loky")
    cell = """
        import os
        class Result:
            def __init__(self, text):
                self.length, self.pid = len(text), os.getpid()
        def analyze(text):
            return Result(text)
        def there(engine):
            found = run_async(engine.analyze_sections_parallel({"a": "x", "b": "xx"}, analyze))
            same = all(type(each) is Result and each.pid != os.getpid() for each in found.values())
            return same, [each.length for each in found.values()]
        with AsyncAnalysisEngine(2, use_processes=True) as engine:
            print(there(engine))
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
            print(there(AsyncAnalysisEngine(2, executor=pool)))
    """
    assert kernel.run(cell) == "(True, [1, 2])\n(True, [1, 2])\n"


def test_interrupt_of_worker_processes(kernel):
    """SIGINT while worker processes compute: the cell ends, the processes are gone, and the next run has new ones."""
    pytest.importorskip("loky")
    printed = kernel.interrupted(
        """
        import os, tempfile, time
        note = tempfile.mktemp()
        def spin(text):
            with open(note, "a") as file:
                file.write(f"{os.getpid()} ")
            time.sleep(600)
        def tell():
            while not os.path.exists(note):
                time.sleep(0.01)
            print("started")
        threading.Thread(target=tell).start()
        engine = AsyncAnalysisEngine(2, use_processes=True)
        run_async(engine.analyze_sections_parallel({"a": 1, "b": 2, "c": 3}, spin))
        """
    )
    assert printed == "started\nKeyboardInterrupt"
    check = """
        def alive(pid):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return False
            return True
        print([pid for pid in map(int, open(note).read().split()) if alive(pid)])
        os.remove(note)
        print(run_async(engine.analyze_sections_parallel({"a": "x"}, len)))
    """
    assert kernel.run(check) == "[]\n{'a': 1}\n"

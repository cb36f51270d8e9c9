"""A run in a real Jupyter kernel that is killed, or interrupted before a server that never answers: nothing is lost."""

from __future__ import annotations

import contextlib
import json

import pytest

pytest.importorskip("jupyter_client")
pytest.importorskip("ipykernel")

from fakes.kernel import Kernel
from fakes.ollama import FakeOllama, Play

UNITS, WORKERS = 40, 4
ANSWER = json.dumps({"label": "positive", "score": 0.5, "confidence": 0.9})

#: Writes each row down as it is reported, past all buffers.
CELL = """
import os, threading
import analysis_kit as ak
texts = {{f"unit {{n}}": f"Revenue of division {{n}} grew {{n}} percent." for n in range({units})}}
run = ak.analyze(texts, "sentiment", hosts={url!r}, max_workers={workers}, dashboard=False)
note = os.open({note!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
run.watch(lambda row: os.write(note, f"{{row.unit}}: {{row.status}}\\n".encode()))
"""


@pytest.fixture
def kernel_of():
    """Start kernels, and end those that are left at the end."""
    with contextlib.ExitStack() as stack:

        def start():
            kernel = Kernel()
            stack.callback(kernel.close)
            return kernel

        yield start


def asked(fake):
    """Return the texts that a model was asked about, in order."""
    return [
        each.json["messages"][-1]["content"] if "messages" in each.json else each.json["prompt"]
        for path in ("/api/chat", "/api/generate")
        for each in fake.asked(path)
    ]


@pytest.mark.parametrize("how", ["await run", "ak.run_async(run)"], ids=["await", "nested"])
def test_a_killed_kernel_costs_what_was_under_way(kernel_of, tmp_path, how):
    """SIGKILL in the middle of a run: the same cell in a new kernel asks for the rest, and at most max_workers twice."""
    note = tmp_path / "rows"
    with FakeOllama(slots=WORKERS, answer=lambda _request: ANSWER, delay_s=0.01) as fake:
        cell = CELL.format(units=UNITS, workers=WORKERS, url=fake.url, note=str(note)) + how
        first = kernel_of()
        first.send(cell)
        fake.until(lambda: len(asked(fake)) >= UNITS // 2, timeout=60)
        first.kill()
        before, reported = len(asked(fake)), note.read_text().splitlines()
        assert before < UNITS
        assert reported
        note.unlink()
        assert kernel_of().run(cell + "\nprint(dict(run.counts()))").endswith("}\n")
        after = dict(line.rsplit(": ", 1) for line in note.read_text().splitlines())
        assert set(after.values()) == {"done", "cached"}
        assert len(after) == UNITS
        # what was reported was stored before, so it is not asked again
        assert all(after[line.rsplit(": ", 1)[0]] == "cached" for line in reported)
        assert len(asked(fake)) <= UNITS + WORKERS
        assert len(set(asked(fake))) == UNITS


@pytest.mark.parametrize("how", ["await run", "ak.run_async(run)"], ids=["await", "nested"])
def test_L5_an_interrupt_before_a_silent_server_ends_the_cell(kernel_of, tmp_path, how):
    """SIGINT while every worker is in a socket read: queued cells run, no thread of ours works on, the rest can be had."""
    with FakeOllama(slots=WORKERS, answer=lambda _request: ANSWER) as fake:
        for path in ("/api/chat", "/api/generate"):
            fake.script(path, *[Play(text=ANSWER)] * 6, *[Play(hang=True)] * WORKERS)
        kernel = kernel_of()
        cell = CELL.format(units=UNITS, workers=WORKERS, url=fake.url, note=str(tmp_path / "rows"))
        running = kernel.send(cell + how, stop_on_error=False)
        queued = [
            kernel.send("print(sorted(ak.last_run().counts().items()))", stop_on_error=False),
            kernel.send(
                "print([t.name for t in threading.enumerate() if 'worker' in t.name])", stop_on_error=False
            ),
        ]
        fake.until(lambda: len(asked(fake)) == 6 + WORKERS, timeout=60)
        kernel.manager.interrupt_kernel()
        ended, counts, threads = kernel.printed(running, *queued)
        assert ended in ("KeyboardInterrupt", "CancelledError")
        assert counts == f"[('cancelled', {WORKERS}), ('done', 6), ('not started', {UNITS - 6 - WORKERS})]\n"
        assert threads == "[]\n"
        fake._scripts.clear()
        assert kernel.run(how + "\nprint(dict(run.counts()))") == f"{{'done': {UNITS}}}\n"
        assert len(asked(fake)) == UNITS + WORKERS

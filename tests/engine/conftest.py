"""What the engine's tests share: nothing of ours may be alive after a test, and a latch that never hangs a test."""

from __future__ import annotations

import threading

import pytest


class Latch:
    """Functions under test block in `hold` until `release`; if nobody releases in time the test fails, not hangs."""

    def __init__(self) -> None:
        self._gate = threading.Event()
        self._inside = threading.Semaphore(0)
        self.late = False

    def hold(self, value=None):
        """Block until released."""
        self._inside.release()
        if not self._gate.wait(30):
            self.late = True
        return value

    def until_held(self, times: int = 1) -> None:
        """Wait until ``times`` more calls are blocked."""
        for _ in range(times):
            assert self._inside.acquire(timeout=30), "the function was never called"

    def release(self) -> None:
        """Let everyone go on."""
        self._gate.set()


@pytest.fixture
def latch():
    """A `Latch`, released at the end."""
    made = Latch()
    yield made
    made.release()
    assert not made.late, "a blocked function was never released"


@pytest.fixture(autouse=True)
def nothing_left(request):
    """No thread of the engine outlives a test, once what the test itself blocked is let go."""
    request.getfixturevalue("latch") if "latch" in request.fixturenames else None
    before = set(threading.enumerate())
    yield
    if "latch" in request.fixturenames:
        request.getfixturevalue("latch").release()
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("analysis-kit"):
            thread.join(10)
            assert not thread.is_alive(), f"{thread} is still at work"

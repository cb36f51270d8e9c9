"""Other threads, as the tests of the pool and the client use them."""

from __future__ import annotations

import contextlib
import threading
import time

from analysis_kit.cancellation import current_token


def in_thread(work, token=None):
    """Run ``work``, as a unit under ``token``, on a thread; return it and where its result or error will be."""
    box = {}

    def run():
        current_token.set(token)
        try:
            box["value"] = work()
        except BaseException as exc:
            box["error"] = exc

    thread = threading.Thread(target=run)
    thread.start()
    return thread, box


def wait_for(true):
    """Wait, with a bound, for something that another thread of ours does."""
    for _ in range(2000):
        if true():
            return
        time.sleep(0.002)
    raise AssertionError("it never happened")


@contextlib.contextmanager
def coming_and_going(pool, count=8):
    """Have so many threads take and return slots without a pause while the block runs; none of them may fail."""
    stop = threading.Event()

    def work():
        while not stop.is_set():
            with pool.get_connection():
                pass

    running = [in_thread(work) for _ in range(count)]
    try:
        yield
    finally:
        stop.set()
        for thread, _ in running:
            thread.join(30)
    assert [box for _, box in running] == [{"value": None}] * count

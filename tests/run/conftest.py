"""What the tests of a run share: everything process-wide is taken down after each."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _nothing_left_running():
    """Shut the pools down that runs made, so that no thread or socket outlives its test."""
    yield
    from analysis_kit.container import reset_container
    from analysis_kit.monitor.monitor import reset_monitor
    from analysis_kit.ollama.pool import reset_pool
    from analysis_kit.run import server

    reset_pool()
    reset_container()
    reset_monitor()
    for pool in server._pools.values():
        pool.shutdown()
    server._pools.clear()

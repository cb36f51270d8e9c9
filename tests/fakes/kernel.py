"""A real Jupyter kernel of this interpreter, driven over its own protocol."""

from __future__ import annotations

import queue
import sys
import textwrap
import time

from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpec

PATIENCE_S = 60


class Kernel:
    """A kernel of this interpreter, asked by messages."""

    def __init__(self):
        self.manager = KernelManager()
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        self.manager._kernel_spec = KernelSpec(argv=argv, display_name="test", language="python")
        self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE_S)

    def send(self, cell, **how):
        """Queue a cell and return its message id."""
        return self.client.execute(textwrap.dedent(cell), **how)

    def printed(self, *ids, until=None):
        """Return what the cells printed, each with its errors, once all are through (or ``until`` was printed)."""
        texts = dict.fromkeys(ids, "")
        busy = set(ids)
        end = time.monotonic() + PATIENCE_S
        while busy:
            try:
                message = self.client.get_iopub_msg(timeout=max(0.1, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(
                    f"no answer from the kernel to {sorted(busy)}; so far: {texts}"
                ) from None
            cell, content = message["parent_header"].get("msg_id"), message["content"]
            if cell not in texts:
                continue
            if message["msg_type"] == "stream":
                texts[cell] += content["text"]
            elif message["msg_type"] == "error":
                texts[cell] += content["ename"]
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                busy.discard(cell)
            if until is not None and until in texts[cell]:
                break
        return [texts[each] for each in ids]

    def run(self, cell):
        """Run one cell and return what it printed."""
        return self.printed(self.send(cell))[0]

    def interrupted(self, cell):
        """Run a cell, interrupt it as soon as it has printed "started", and return all that it printed."""
        sent = self.send(cell)
        head = self.printed(sent, until="started")[0]
        self.manager.interrupt_kernel()
        return head + self.printed(sent)[0]

    def kill(self):
        """End the kernel's process as a dead machine would: SIGKILL, no farewell."""
        self.manager.provisioner.process.kill()
        self.manager.provisioner.process.wait(PATIENCE_S)

    def close(self):
        """End the kernel."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

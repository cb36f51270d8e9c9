"""The fake Ollama in a process of its own, so that a benchmark's client does not share the interpreter with it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path


class Apart:
    """A `FakeOllama` elsewhere: its ``url``, and its figures so far."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self.url = url

    def figures(self) -> dict[str, int]:
        """Return ``requests connections open_connections max_running aborted``."""
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        """End it at once, as a crash or the system would."""
        self._process.kill()


@contextlib.contextmanager
def fake_apart(**options):
    """Run ``FakeOllama(**options)`` (JSON values) in a child process while the block runs."""
    process = subprocess.Popen(
        [sys.executable, __file__, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Apart(process, process.stdout.readline().strip())
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def main() -> None:
    """Serve until the parent closes our input."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from fakes.ollama import FakeOllama

    with FakeOllama(**json.loads(sys.argv[1])) as fake:
        print(fake.url, flush=True)
        for _ in sys.stdin:
            figures = {
                "requests": len(fake.requests),
                "connections": fake.connections,
                "open_connections": fake.open_connections,
                "max_running": fake.max_running,
                "aborted": sum(request.aborted for request in fake.requests),
            }
            print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()

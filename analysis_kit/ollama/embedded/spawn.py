"""Starting, hearing and ending the child process that serves."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any

from analysis_kit.cancellation import current_token
from analysis_kit.errors import ConfigurationError, OllamaUnreachableError

_START_S = 120.0  # a first start may have to write 145 MB
_STOP_S = 12.0
_ABANDON_S = 3.0


class Child:
    """A child process and its log, which is kept where the child ended by itself.

    The child is also ended when this object is collected, and at the interpreter's exit.

    Attributes
    ----------
    process : subprocess.Popen
        The process.
    log : pathlib.Path
        Where its standard error goes.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self._finalizer = weakref.finalize(self, _end, process, log, drain=False)

    @classmethod
    def start(cls, config: dict[str, Any]) -> tuple[Child, int]:
        """Start a child and wait for its port."""
        handle, name = tempfile.mkstemp(prefix="analysis-kit-embedded-", suffix=".log")
        with os.fdopen(handle, "wb") as log:
            process = subprocess.Popen(  # noqa: S603 - a fixed command
                [sys.executable, "-P", "-m", __package__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
                # an interrupt of the notebook or of Ctrl-C is for this process alone
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        child = cls(process, Path(name))
        try:
            return child, child._handshake(config)
        except BaseException:
            child.end(drain=False)
            raise

    def _handshake(self, config: dict[str, Any]) -> int:
        """Tell the child what to serve; return the port it says."""
        said: list[bytes] = []
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):  # it has died already: its output ends too
            self.process.stdin.write(json.dumps(config).encode() + b"\n")
            self.process.stdin.flush()
        reader = threading.Thread(
            target=lambda out: said.append(out.readline()), args=(self.process.stdout,), daemon=True
        )
        reader.start()
        token = current_token.get()
        with token.on_cancel(self.process.kill) if token is not None else contextlib.nullcontext():
            reader.join(_START_S)
        if token is not None:
            token.raise_if_cancelled()
        if reader.is_alive():
            self.process.kill()
            self.process.wait()
            reader.join()
            raise OllamaUnreachableError(
                f"the embedded server did not start within {_START_S:.0f} s; {self._last_words()}"
            )
        self.process.stdout.close()
        answer = json.loads(said[0]) if said and said[0] else {}
        if "error" in answer:
            self.process.wait()
            self.log.unlink(missing_ok=True)  # the error says it all
            raise ConfigurationError(f"the embedded server cannot start: {answer['error']}")
        if "port" not in answer:
            code = self.process.wait()
            raise OllamaUnreachableError(
                f"the embedded server ended at its start with exit code {code}; {self._last_words()}"
            )
        return int(answer["port"])

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        return (
            f"its log ends with: {' | '.join([line for line in lines if line.strip()][-3:]) or '(nothing)'}"
        )

    def end(self, *, drain: bool) -> None:
        """End the process and remove its log."""
        self._finalizer.detach()
        _end(self.process, self.log, drain=drain)

    def forget(self) -> None:
        """Let go of the process, which is another's."""
        self._finalizer.detach()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()  # else this copy of the pipe would keep the server alive
        self.process.returncode = 0  # it is not ours to wait for, and no reason to complain at collection


def _end(process: subprocess.Popen[bytes], log: Path, *, drain: bool) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    crashed = process.poll() is not None
    with contextlib.suppress(OSError):
        if drain and not crashed:
            process.stdin.write(b"stop\n")
            process.stdin.flush()
        else:
            process.stdin.close()
    try:
        process.wait(_STOP_S if drain else _ABANDON_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with contextlib.suppress(OSError):
        process.stdin.close()
    process.stdout.close()
    if not crashed:
        with contextlib.suppress(OSError):
            log.unlink()


def _environment() -> dict[str, str]:
    """Return the child's environment: OpenMP's threads sleep while they wait, and this very package is importable."""
    env = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    env.pop("GOMP_SPINCOUNT", None)  # it would win over the policy
    root = str(Path(__file__).parents[3])
    if root in sys.path:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), root]))
    return env

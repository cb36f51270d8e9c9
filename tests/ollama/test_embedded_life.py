"""The embedded server's life: started once, ended with its owner however that ends, started again once after a crash."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import requests

from analysis_kit.errors import ConfigurationError, OllamaUnreachableError, StreamBrokenError
from analysis_kit.ollama import model_file
from analysis_kit.ollama.client import OllamaClient
from analysis_kit.ollama.embedded import MODEL_NAME, EmbeddedOllama, crash_note, embedded_url, process

pytestmark = [pytest.mark.llama, pytest.mark.skipif(os.name != "posix", reason="signals and fork are POSIX")]
ENDLESS = {
    "model": MODEL_NAME,
    "prompt": "Tell an endless story.",
    "options": {"num_predict": 15000, "temperature": 0},
}


@pytest.fixture(scope="module", autouse=True)
def _model():
    try:
        model_file.ensure_model()
    except ConfigurationError as exc:
        pytest.skip(str(exc))


@pytest.fixture
def server():
    with EmbeddedOllama() as running:
        yield running


@pytest.fixture
def own_embedded(monkeypatch):
    """The process-wide server of this test alone, ended after it."""
    monkeypatch.setattr(process, "_embedded", None)
    yield
    if process._embedded is not None:
        process._embedded.stop()


def alive(pid):
    """Whether the process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def ended_within(pid, seconds):
    """Watch a process that is not our child."""
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


def version(url):
    return requests.get(f"{url}/api/version", timeout=5).json()["version"]


def answer(url, **options):
    ask = {"model": MODEL_NAME, "prompt": "Hi", "stream": False, "options": {"num_predict": 1, **options}}
    return requests.post(f"{url}/api/generate", json=ask, timeout=60)


def test_start_is_idempotent_and_stop_leaves_nothing(tmp_path):
    """A second start is the same process; after stop there is no process, no log, and stop again does nothing."""
    server = EmbeddedOllama()
    with pytest.raises(ConfigurationError, match="before its start"):
        server.url  # noqa: B018
    assert "not running" in repr(server)
    assert server.start() is server
    pid, log, url = server.pid, server.log_path, server.url
    assert server.start().pid == pid
    assert version(url)
    assert log.exists()
    assert f"pid {pid}" in repr(server)
    server.stop()
    server.stop()
    assert not alive(pid)
    assert not log.exists()
    assert server.pid is None
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)


def test_many_threads_start_one_server():
    """Starting from several threads at once starts one process."""
    server = EmbeddedOllama()
    barrier = threading.Barrier(4)
    pids = []

    def start():
        barrier.wait()
        pids.append(server.start().pid)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.stop()
    assert len(set(pids)) == 1


def test_a_dropped_server_is_ended():
    """A server that nobody holds any more is ended, without a warning."""
    server = EmbeddedOllama().start()
    pid, log = server.pid, server.log_path
    del server
    gc.collect()
    assert not alive(pid)
    assert not log.exists()


def test_the_server_does_not_spin_and_is_out_of_reach_of_an_interrupt(server):
    """The child has OpenMP's threads sleep, and is in a session of its own, where Ctrl-C does not reach."""
    environment = Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")
    assert b"OMP_WAIT_POLICY=PASSIVE" in environment
    assert os.getsid(server.pid) != os.getsid(0)
    assert os.getpgid(server.pid) != os.getpgid(0)


def test_the_server_listens_on_loopback_alone(server):
    """Neither the server nor llama.cpp inside it is open to the network, and the inner one wants a key."""
    answer(server.url)
    opened = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        inodes = _links(server.pid)
        for line in Path(table).read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in inodes:
                opened.add(columns[1])
    assert len(opened) == 2
    assert all(address.startswith("0100007F:") for address in opened)
    inner = next(
        int(each.partition(":")[2], 16)
        for each in opened
        if int(each.partition(":")[2], 16) != int(server.url.rpartition(":")[2])
    )
    assert (
        requests.post(f"http://127.0.0.1:{inner}/tokenize", json={"content": "x"}, timeout=5).status_code
        == 401
    )


def _links(pid):
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def test_stop_lets_a_short_answer_finish(server):
    """Told to stop, the server finishes what it is at."""
    answer(server.url)
    ask = {"model": MODEL_NAME, "prompt": "Hi", "options": {"num_predict": 12}}
    with requests.post(f"{server.url}/api/generate", json=ask, stream=True, timeout=60) as reply:
        stream = reply.iter_lines(chunk_size=None)
        next(stream)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        last = list(stream)[-1]
        stopping.join()
    assert json.loads(last)["done"] is True


def test_stop_cuts_an_endless_answer(server):
    """An answer that does not end is cut after the grace, and the process ends by itself."""
    child = server._child.process
    with requests.post(f"{server.url}/api/generate", json=ENDLESS, stream=True, timeout=60) as reply:
        stream = reply.iter_lines(chunk_size=None)
        next(stream)
        server.stop()
        with contextlib.suppress(requests.exceptions.ChunkedEncodingError, requests.ConnectionError):
            assert not any(json.loads(line)["done"] for line in stream)
    assert child.returncode == 0


OWNER = """
    import contextlib, sys, threading, requests
    from analysis_kit.ollama.embedded import EmbeddedOllama
    server = EmbeddedOllama().start()
    print(server.pid, server.url, server.log_path, flush=True)
    {then}
    sys.stdin.read()
"""
IN_FLIGHT = """
    def ask():
        with contextlib.suppress(Exception):
            with requests.post(server.url + "/api/generate", json=%r, stream=True) as reply:
                for line in reply.iter_lines(chunk_size=None):
                    started.set()
    started = threading.Event()
    threading.Thread(target=ask, daemon=True).start()
    started.wait()
    print("asked", flush=True)
""" % (ENDLESS,)  # noqa: UP031 - braces


def own(then="", stdin=subprocess.PIPE):
    """Start a process that owns a server; return it, with the server's pid, url and log."""
    code = textwrap.dedent(OWNER).replace("{then}", textwrap.dedent(then))
    owner = subprocess.Popen(
        [sys.executable, "-c", code], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pid, url, log = owner.stdout.readline().split()
    return owner, int(pid), url, Path(log)


def close(owner):
    owner.stdin.close()
    owner.stdout.close()
    owner.stderr.close()
    owner.wait()


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_within_two_seconds_of_its_parents_death(how, busy):
    """However the parent dies, and even in the middle of an answer, the server is gone 2 s later."""
    owner, pid, _, log = own(IN_FLIGHT if busy else "")
    if busy:
        assert owner.stdout.readline() == "asked\n"
    owner.send_signal(how)
    owner.wait()
    assert ended_within(pid, 2.0)
    log.unlink(missing_ok=True)  # nobody was left to do it
    close(owner)


@pytest.mark.parametrize("busy", [False, True])
def test_the_parents_exit_ends_the_server_cleanly(busy):
    """A parent that ends by itself keeps its exit code, says nothing, and leaves neither server nor log."""
    owner, pid, _, log = own(IN_FLIGHT if busy else "")
    if busy:
        assert owner.stdout.readline() == "asked\n"
    owner.stdin.close()
    assert owner.wait() == 0
    assert not alive(pid)
    assert not log.exists()
    assert owner.stderr.read() == ""
    close(owner)


def test_an_interrupt_of_the_parents_group_leaves_the_server_alone():
    """Ctrl-C in the terminal reaches the parent, which may go on, and not the server."""
    then = """
        import time
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    code = textwrap.dedent(OWNER).replace("{then}", textwrap.dedent(then))
    owner = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    pid, url, _ = owner.stdout.readline().split()
    assert owner.stdout.readline() == "ready\n"
    os.killpg(owner.pid, signal.SIGINT)
    assert owner.stdout.readline() == "interrupted\n"
    assert alive(int(pid))
    assert version(url)
    owner.stdin.close()
    assert owner.wait() == 0
    assert not alive(int(pid))
    close(owner)


def test_a_thread_that_started_the_server_may_end():
    """The server outlives the thread that started it."""
    servers = []
    thread = threading.Thread(target=lambda: servers.append(EmbeddedOllama().start()))
    thread.start()
    thread.join()
    assert version(servers[0].url)
    servers[0].stop()


@pytest.mark.parametrize("ending", ["os._exit(0)", "sys.exit(0)", "os.kill(os.getpid(), 9)"])
def test_a_forked_child_neither_ends_nor_keeps_the_server(ending):
    """A fork of the parent may end as it likes, and one that lives on does not keep the server after the parent."""
    then = f"""
        import os
        from analysis_kit.ollama.embedded import embedded_url
        child = os.fork()
        if child == 0:
            {ending}
        os.waitpid(child, 0)
        print(requests.get(server.url + "/api/version").status_code, flush=True)
        if os.fork() == 0:
            print(os.getpid(), flush=True)
            sys.stdin.read()
            os._exit(0)
    """
    owner, pid, _, log = own(then)
    assert owner.stdout.readline() == "200\n"
    forked = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    assert alive(forked)
    assert ended_within(pid, 2.0)
    log.unlink(missing_ok=True)
    close(owner)
    assert ended_within(forked, 5.0)


def test_a_forked_child_uses_its_parents_embedded_server():
    """embedded_url() after a fork is the parent's server; the child's end does not end it."""
    code = """
        import os, requests, sys
        from analysis_kit.ollama.embedded import embedded_url
        url = embedded_url()
        child = os.fork()
        if child == 0:
            same = embedded_url() == url and requests.get(url).status_code == 200
            sys.exit(0 if same else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), requests.get(url).text)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0 Ollama is running\n", "", 0)


def test_a_crash_is_named_with_its_log_and_mended_once(own_embedded, caplog):
    """After a crash the next use starts the server again at the same address; after a second one it says so, with the log."""
    url = embedded_url()
    assert embedded_url() == url
    assert crash_note(url) is None
    for restarts in range(2):
        server = process._embedded
        server._child.process.kill()
        server._child.process.wait()
        log = server.log_path
        assert str(log) in crash_note(url + "/")
        assert "exit code -9" in crash_note(url)
        with pytest.raises(requests.ConnectionError):
            version(url)
        if restarts == 0:
            with caplog.at_level(logging.WARNING):
                assert embedded_url() == url
            assert str(log) in caplog.text
            assert version(url)
            log.unlink()
    with pytest.raises(OllamaUnreachableError, match="started again once already") as caught:
        embedded_url()
    assert str(log) in str(caught.value)
    server.stop()
    log.unlink()
    assert version(embedded_url())


def test_a_crash_in_the_middle_of_an_answer_breaks_that_answer(server):
    """The client of a crashed server gets an error, not a short answer."""
    with requests.post(f"{server.url}/api/generate", json=ENDLESS, stream=True, timeout=60) as reply:
        stream = reply.iter_lines(chunk_size=None)
        next(stream)
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
            list(stream)
    log = server.log_path
    server.wait()
    server.start()
    log.unlink()
    assert version(server.url)


@pytest.mark.parametrize("busy", [False, True])
def test_a_clients_error_on_a_crash_names_the_log_and_the_next_call_works(own_embedded, busy):
    """Killed idle or in the middle of an answer: one error with the log's name, then a new server."""
    with OllamaClient("embedded") as client:
        assert client.version()
        server = process._embedded
        with contextlib.ExitStack() as stack:
            if busy:
                options = ENDLESS["options"]
                pieces = stack.enter_context(client.generate(ENDLESS["prompt"], options=options, stream=True))
                next(pieces)
            os.kill(server.pid, signal.SIGKILL)
            log = server.log_path
            with pytest.raises((OllamaUnreachableError, StreamBrokenError), match="exit code -9") as caught:
                list(pieces) if busy else client.version()
        assert str(log) in str(caught.value)
        log.unlink()
        assert client.version()


def test_the_log_names_what_happened(server):
    """Loads, cut prompts and llama.cpp's own errors stand in the log."""
    answer(server.url)
    ask = {
        "model": MODEL_NAME,
        "prompt": "word " * 600,
        "stream": False,
        "options": {"num_ctx": 128, "num_predict": 1},
    }
    requests.post(f"{server.url}/api/generate", json=ask, timeout=60)
    text = server.log_path.read_text()
    assert f"loaded {MODEL_NAME}" in text
    assert "cut a prompt of" in text


def test_a_port_in_use_is_one_sentence(server):
    """A port that another server has is named."""
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(
        ConfigurationError, match=f"cannot listen on 127.0.0.1 port {port}: the port is in use"
    ):
        EmbeddedOllama(port=port).start()


def test_a_given_port_is_taken():
    """port= is the port, with the address as given."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with EmbeddedOllama(port=port) as server:
        assert server.url == f"http://127.0.0.1:{port}"
        assert version(server.url)


def test_listening_to_the_network_warns_and_serves_any_host(caplog):
    """listen= other than loopback is a warning, and the Host rule no longer holds."""
    with caplog.at_level(logging.WARNING), EmbeddedOllama(listen="0.0.0.0") as server:
        assert "whoever reaches this machine" in caplog.text
        assert server.url.startswith("http://127.0.0.1:")
        assert requests.get(server.url, headers={"Host": "some.example"}, timeout=5).status_code == 200


def test_ipv6_loopback():
    """listen="::1" gives a bracketed address that answers."""
    if not socket.has_ipv6 or not _can_bind_v6():
        pytest.skip("this machine has no IPv6 loopback")
    with EmbeddedOllama(listen="::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert version(server.url)


def _can_bind_v6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_several_models_have_names_and_digests(tmp_path):
    """Each file is served under its own name; two files of one name are refused."""
    first, second = tmp_path / "My Model-Q8_0.gguf", tmp_path / "other.gguf"
    for path in (first, second):
        path.symlink_to(model_file.model_path())
    with EmbeddedOllama([first, second], ctx=512, parallel=1, threads=1) as server:
        tags = requests.get(f"{server.url}/api/tags", timeout=30).json()["models"]
        assert sorted(each["name"] for each in tags) == ["my-model-q8_0:latest", "other:latest"]
        assert {each["digest"] for each in tags} == {model_file.SHA256}
        for name in ("my-model-q8_0", "OTHER:latest"):
            ask = {"model": name, "prompt": "Hi", "stream": False, "options": {"num_predict": 1}}
            assert requests.post(f"{server.url}/api/generate", json=ask, timeout=60).json()["done"]
        loaded = requests.get(f"{server.url}/api/ps", timeout=30).json()["models"]
        assert {each["context_length"] for each in loaded} == {512}
        assert len(loaded) == 2
    (tmp_path / "sub").mkdir()
    twin = tmp_path / "sub" / "other.gguf"
    twin.symlink_to(second)
    with pytest.raises(ConfigurationError, match="would both be named 'other:latest'"):
        EmbeddedOllama([second, twin]).start()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"PK\x03\x04", "no usable GGUF"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 16, "no usable GGUF"),
    ],
)
def test_a_file_that_is_no_model_is_one_sentence(tmp_path, content, words):
    """A missing, foreign or broken file is refused at the start, by name."""
    path = tmp_path / "x.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        EmbeddedOllama(path).start()
    assert str(path) in str(caught.value)


def test_a_model_that_llama_cpp_cannot_load_is_500(tmp_path):
    """A file with a good header and no weights starts, lists, and fails its first use with the reason."""
    path = tmp_path / "cut.gguf"
    with model_file.model_path().open("rb") as whole:
        path.write_bytes(whole.read(4_000_000))
    with EmbeddedOllama(path) as server:
        ask = {"model": "cut", "prompt": "Hi", "stream": False}
        for _ in range(2):
            reply = requests.post(f"{server.url}/api/generate", json=ask, timeout=60)
            assert reply.status_code == 500
            assert "llama.cpp cannot load" in reply.json()["error"]
        assert requests.get(f"{server.url}/api/ps", timeout=30).json() == {"models": []}


@pytest.mark.parametrize(
    "wrong", [{"parallel": 0}, {"ctx": 1}, {"threads": 0}, {"port": -1}, {"port": 70000}]
)
def test_numbers_that_cannot_be_are_refused_at_once(wrong):
    """An impossible number is an error where it is written, not in the child."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        EmbeddedOllama(**wrong)


def test_unloading_frees_the_memory(server):
    """After keep_alive 0 the process is about as small as before the load."""

    def resident():
        return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    answer(server.url)
    requests.post(f"{server.url}/api/generate", json={"model": MODEL_NAME, "keep_alive": 0}, timeout=30)
    before = resident()
    answer(server.url)
    loaded = resident()
    requests.post(f"{server.url}/api/generate", json={"model": MODEL_NAME, "keep_alive": 0}, timeout=30)
    after = resident()
    assert loaded - before > 100_000_000
    assert after - before < 0.2 * (loaded - before)


def test_a_load_is_not_taken_back_when_its_client_leaves_O13(server):
    """A client that gives up during the load does not make the load start over for the next one."""

    def load_s():
        return server.log_path.read_text().count("loaded")

    for _ in range(3):
        with contextlib.suppress(requests.exceptions.ReadTimeout):
            requests.post(f"{server.url}/api/generate", json={"model": MODEL_NAME}, timeout=(5, 0.05))
    assert answer(server.url).status_code == 200
    assert load_s() == 1


def test_serve_runs_until_interrupted():
    """serve() says its address, serves, ends at Ctrl-C with code 0, and leaves no server."""
    code = "import sys; from analysis_kit.ollama.embedded.serve import serve; sys.exit(serve(port=0))"
    served = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    line = served.stdout.readline()
    url = line.split()[2].rstrip(";")
    assert f"OLLAMA_HOST={url}" in line
    assert version(url)
    served.send_signal(signal.SIGINT)
    assert served.wait() == 0
    assert served.stderr.read() == ""
    with pytest.raises(requests.ConnectionError):
        version(url)
    served.stdout.close()
    served.stderr.close()


def test_the_kernel_ends_a_child_that_cannot_look_at_its_pipe():
    """While a load holds the interpreter, the end of the pipe still ends the process."""
    code = """
        import ctypes, sys
        from analysis_kit.ollama.embedded import lifeline
        assert lifeline.read_config() == {}
        with lifeline.guarded():
            print("deaf", flush=True)
            ctypes.PyDLL(None).sleep(60)  # holds the interpreter, as xllamacpp does while it loads
    """
    assert ctypes.PyDLL is not ctypes.CDLL
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    child.stdin.write(b"{}\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"deaf\n"
    child.stdin.close()
    assert child.wait(10) == -signal.SIGIO
    child.stdout.close()

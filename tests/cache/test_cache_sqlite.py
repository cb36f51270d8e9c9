"""The SQLite store under processes, threads, damage, full disks and clocks: the kinds around issue 3's cache item."""

import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from analysis_kit.cache import open_cache, result_cache
from analysis_kit.cache.result_cache import ResultCache
from analysis_kit.cache.sqlite import SQLiteStore
from analysis_kit.errors import ConfigurationError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "answers.sqlite"


@pytest.fixture
def cache(path):
    with open_cache(f"sqlite:///{path}") as cache:
        yield cache


def handles(path):
    """Return how many handles this process has on the file."""
    names = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            names.append(os.readlink(each))
    return names.count(str(path))


def run(code, *args, **options):
    """Run Python code in a process of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_was_set_survives_a_killed_process(path):
    """Each value is on the disk when `set` returns: a SIGKILL right after costs nothing."""
    code = (
        "import os, signal, sys; from analysis_kit.cache import open_cache\n"
        "cache = open_cache(f'sqlite:///{sys.argv[1]}')\n"
        "for n in range(50): cache.set(str(n), 'kind', n)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    with open_cache(f"sqlite:///{path}") as cache:
        assert [cache.get(str(n), "kind") for n in range(50)] == list(range(50))


def test_several_processes_begin_write_and_read_at_once(path):
    """Six processes open a file that is not there yet at the same moment: no error, no lost entry, all see all."""
    code = (
        "import sys, time; from analysis_kit.cache import open_cache\n"
        "me, count = int(sys.argv[2]), 60\n"
        "input()\n"
        "with open_cache(f'sqlite:///{sys.argv[1]}') as cache:\n"
        "    assert cache._store is not None\n"
        "    for n in range(count): cache.set(f'{me} {n}', 'kind', n); cache.get(f'{(me + 1) % 6} {n}', 'kind')\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, str(path), str(number)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    with open_cache(f"sqlite:///{path}") as cache:
        assert cache.stats()["entries"] == 360
        assert cache.get("5 59", "kind") == 59


@LINUX
def test_connections_go_with_their_threads_and_with_close(path):
    """Each thread has a connection, closed when the thread ends; `close` closes those of live threads too."""
    with open_cache(f"sqlite:///{path}") as cache:
        cache.set("a", "kind", 1)
        assert (len(cache._store._open), handles(path)) == (1, 1)

        def batch():
            ready, go = threading.Barrier(9), threading.Event()

            def work():
                cache.get("b", "kind")
                ready.wait(20)
                go.wait(20)

            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            ready.wait(20)
            opened = len(cache._store._open), handles(path)
            go.set()
            for thread in threads:
                thread.join(20)
            gc.collect()
            return opened

        # SQLite itself keeps a closed connection's handle for the next one, as long as any other is open
        assert [batch() for _ in range(3)] == [(9, 9)] * 3
        assert len(cache._store._open) == 1
    assert handles(path) == 0
    assert cache.get("a", "kind") == 1
    cache.set("c", "kind", 1)
    assert handles(path) == 1
    cache.close()
    cache.close()
    assert handles(path) == 0


@LINUX
def test_a_cache_that_is_dropped_leaves_no_handle(path):
    """Forgetting to close costs no handle and no ResourceWarning."""
    cache = open_cache(f"sqlite:///{path}")
    cache.set("a", "kind", 1)
    del cache
    gc.collect()
    assert handles(path) == 0


def test_threads_that_share_a_cache_lose_nothing(cache, path):
    """Eight threads write and read at once while one closes the store again and again."""
    stop, errors = threading.Event(), []

    def close():
        while not stop.is_set():
            cache._store.close()

    def work(me):
        try:
            for number in range(60):
                cache._store.write([(f"{me} {number}", "kind", str(number))])
                assert cache._store.read(f"{me} {number}") == str(number)
        except Exception as exc:
            errors.append(exc)

    closer = threading.Thread(target=close)
    threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
    for thread in (closer, *threads):
        thread.start()
    for thread in threads:
        thread.join(60)
    stop.set()
    closer.join(20)
    assert not errors
    assert cache._store.size()[0] == 480


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(cache, path):
    """Parent and child both go on writing after a fork, also one that came while another thread held a lock."""
    cache.set("parent", "kind", 1)
    held, release = threading.Event(), threading.Event()

    def hold():
        with cache._lock, cache._store._lock:
            held.set()
            release.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    context = multiprocessing.get_context("fork")

    def child(answers):
        cache.set("child", "kind", 2)
        answers.put((cache.get("parent", "kind"), cache.get("child", "kind")))

    answers = context.SimpleQueue()
    process = context.Process(target=child, args=(answers,))
    process.start()
    release.set()
    thread.join(20)
    process.join(60)
    assert process.exitcode == 0
    assert answers.get() == (1, 2)
    answers.close()
    cache.set("after", "kind", 3)
    with open_cache(f"sqlite:///{path}") as fresh:
        assert [fresh.get(text, "kind") for text in ("parent", "child", "after")] == [1, 2, 3]
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("damage", ["garbage", "header", "cut"])
def test_a_damaged_file_is_set_aside(path, caplog, damage):
    """Garbage, a spoiled header, a file cut short: set aside under its own name, said once, and the run goes on."""
    with open_cache(f"sqlite:///{path}") as cache:
        for number in range(200):
            cache.set(str(number), "kind", "x" * 1000)
    whole = path.read_bytes()
    spoiled = {
        "garbage": b"no database" * 1000,
        "header": b"\x00" * 100 + whole[100:],
        "cut": whole[: len(whole) // 2],
    }
    path.write_bytes(spoiled[damage])
    with open_cache(f"sqlite:///{path}") as cache:
        found = [cache.get(str(number), "kind") for number in range(200)]
        cache.set("new", "kind", 1)
        assert None in found
    with open_cache(f"sqlite:///{path}") as cache:
        assert cache.get("new", "kind") == 1
    aside = [each for each in path.parent.iterdir() if "damaged" in each.name]
    assert len(aside) == 1
    assert aside[0].read_bytes() == spoiled[damage]
    warnings = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert aside[0].name in warnings[0].getMessage()


def test_a_file_damaged_under_a_running_cache_is_set_aside(path, caplog):
    """Damage that comes while threads are at work stops none of them."""
    store = SQLiteStore(path, max_bytes=10**9)
    cache = ResultCache(store, memory_bytes=1)
    for number in range(300):
        cache.set(str(number), "kind", "x" * 1000)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    errors = []

    def work(me):
        try:
            for number in range(100):
                cache.get(str(number), "kind")
                cache.set(f"{me} {number}", "kind", number)
        except Exception as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    cache.close()
    with open_cache(f"sqlite:///{path}") as fresh:
        assert [fresh.get(f"{me} 99", "kind") for me in range(4)] == [99] * 4
    assert "set aside" in caplog.text


def test_an_empty_file_is_a_new_cache(path, caplog):
    """A file of no bytes, as a killed process may leave one, is begun quietly."""
    path.parent.mkdir()
    path.touch()
    with open_cache(f"sqlite:///{path}") as cache:
        cache.set("a", "kind", 1)
    assert not caplog.records


def test_other_peoples_files_are_left_alone(tmp_path):
    """A folder, and another application's database, are refused by name and stay as they are."""
    with pytest.raises(ConfigurationError, match="folder"):
        open_cache(f"sqlite:///{tmp_path}")
    path = tmp_path / "mine.db"
    with contextlib.closing(sqlite3.connect(path)) as mine:
        mine.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="another application"):
        open_cache(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_file_removed_under_a_running_cache_is_begun_anew(path):
    """Someone deletes the cache during a run: what is stored from the next look on is in a new file."""
    with open_cache(f"sqlite:///{path}") as cache:
        cache.set("old", "kind", 1)
        for each in path.parent.iterdir():
            each.unlink()
        for number in range(600):
            cache.set(str(number), "kind", number)
    with open_cache(f"sqlite:///{path}") as cache:
        assert cache.get("599", "kind") == 599


def test_the_file_is_bounded_and_keeps_what_was_used(path):
    """Beyond the bound the least recently used entries go; one that is read again and again stays."""
    bound = 400_000
    cache = ResultCache(SQLiteStore(path, max_bytes=bound))
    cache.set("kept", "kind", "x" * 1000)
    for number in range(1500):
        cache.set(str(number), "kind", "x" * 1000)
        cache.get("kept", "kind")
        time_passes()
    stats = cache.stats()
    cache.close()
    # the size is looked at every 256 writes, so it may be over by so many
    assert stats["bytes"] <= bound + 256 * 1300
    with open_cache(f"sqlite:///{path}") as fresh:
        assert fresh.get("kept", "kind") == "x" * 1000
        assert fresh.get("0", "kind") is None
        assert fresh.get("1499", "kind") is not None


def time_passes():
    """Let the clock tick, so that the order of uses can be told."""
    now = time.time()
    while time.time() == now:
        pass


def test_a_clock_set_back_does_no_harm(cache, path, monkeypatch):
    """Entries written before and after the step are found."""
    cache.set("before", "kind", 1)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    cache.set("after", "kind", 2)
    cache.close()
    with open_cache(f"sqlite:///{path}") as fresh:
        assert (fresh.get("before", "kind"), fresh.get("after", "kind")) == (1, 2)


@LINUX
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="becomes 'nobody', which takes root")
def test_a_read_only_folder_leaves_the_answers_in_memory(tmp_path):
    """Where nothing can be written, one warning says so and the cache works on in memory."""
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        if parent.stat().st_uid == os.getuid() and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    code = (
        "import logging, os, sys\n"
        "from analysis_kit.cache import open_cache; import analysis_kit.cache.sqlite, analysis_kit.settings\n"
        "logging.basicConfig(stream=sys.stdout, level='WARNING')\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "cache = open_cache(f'sqlite:///{sys.argv[1]}/c.sqlite')\n"
        "for n in range(3): cache.set(str(n), 'kind', n)\n"
        "print(cache.get('2', 'kind'), cache.stats()['place'])\n"
    )
    lines = run(code, tmp_path, env={**os.environ, "HOME": str(tmp_path)}).splitlines()
    assert len(lines) == 2
    assert "c.sqlite cannot be opened" in lines[0]
    assert lines[1] == "2 memory"


@LINUX
def test_a_full_disk_is_said_once_and_made_up_for(tmp_path):
    """Under a limit on file size writes fail: one warning, reads go on, and what was missed is written once there is room."""
    code = (
        "import logging, resource, sys; from analysis_kit.cache import open_cache\n"
        "logging.basicConfig(stream=sys.stdout, level='WARNING')\n"
        "url = f'sqlite:///{sys.argv[1]}/c.sqlite'\n"
        "cache = open_cache(url); cache.set('first', 'kind', 'there')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))\n"
        "for n in range(300): cache.set(str(n), 'kind', 'x' * 3000)\n"
        "assert all(cache.get(str(n), 'kind') for n in range(300))\n"
        "cache._memory.clear(); assert cache.get('first', 'kind') == 'there'\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "cache.close()\n"
        "with open_cache(url) as fresh: print(sum(fresh.get(str(n), 'kind') is not None for n in range(300)))\n"
    )
    lines = run(code, tmp_path).splitlines()
    assert len(lines) == 2
    assert "the run goes on" in lines[0]
    assert lines[1] == "300"


class Flaky:
    """A store that fails when told to, and counts what reaches it."""

    place = "somewhere"
    errors = (OSError,)

    def __init__(self):
        self.down, self.calls, self.kept = False, 0, {}

    def _call(self):
        self.calls += 1
        if self.down:
            raise OSError("gone")

    def tidy(self, used):
        """Do nothing."""

    def read(self, key):
        self._call()
        return self.kept.get(key)

    def write(self, entries):
        self._call()
        self.kept.update({key: text for key, _, text in entries})

    def close(self):
        """Do nothing."""


def test_a_store_that_fails_is_asked_less_and_less_and_made_up_for(monkeypatch, caplog):
    """While it fails the store is tried after 1, 2, 4 ... 60 s only, said once; when it is back it gets what it missed."""
    clock = [100.0]
    monkeypatch.setattr(result_cache.time, "monotonic", lambda: clock[0])
    store = Flaky()
    cache = ResultCache(store)
    cache.set_key("a", "kind", 1)
    store.down, store.calls = True, 0
    with caplog.at_level(logging.INFO, "analysis_kit"):
        for _ in range(1000):
            clock[0] += 1.0
            cache.set_key("b", "kind", 2)
            assert cache.get_key("b") == 2
        assert store.calls < 30
        assert [each.levelname for each in caplog.records] == ["WARNING"]
        store.down = False
        clock[0] += 60.0
        cache.set_key("c", "kind", 3)
    assert set(store.kept) == {"a", "b", "c"}
    assert [each.levelname for each in caplog.records] == ["WARNING", "INFO"]


def test_what_never_could_be_kept_is_said_at_the_end(caplog):
    """A store that is still gone when the cache is closed: one line says how many answers are lost with the process."""
    store = Flaky()
    store.down = True
    with ResultCache(store) as cache:
        for number in range(3):
            cache.set_key(str(number), "kind", number)
    assert "3 answers could not be kept at somewhere" in caplog.text


def test_the_default_file_is_in_the_cache_folder(tmp_path, monkeypatch):
    """Without a URL the file is in ``ANALYSIS_KIT_CACHE_DIR``, else under ``XDG_CACHE_HOME``."""
    from analysis_kit.settings import reset_settings

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("ANALYSIS_KIT_CACHE_DIR", raising=False)
    reset_settings()
    with open_cache() as cache:
        assert Path(cache.stats()["place"]) == tmp_path / "xdg" / "analysis_kit" / "answers.sqlite"
    monkeypatch.setenv("ANALYSIS_KIT_CACHE_DIR", str(tmp_path / "own"))
    reset_settings()
    with open_cache() as cache:
        assert Path(cache.stats()["place"]) == tmp_path / "own" / "answers.sqlite"

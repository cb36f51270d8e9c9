"""The result cache: memory, SQLite (the default) or Redis by URL; JSON values only, never a pickle.

Losing the store costs time and never a run: where it cannot be read or written, one warning says so and the memory in front
of it goes on alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from analysis_kit import events
from analysis_kit._optional import require
from analysis_kit.container import get_container
from analysis_kit.errors import ConfigurationError
from analysis_kit.settings import cache_dir, get_settings

_log = logging.getLogger(__name__)

#: Entries of the memory in front of a store.
MEMORY_ENTRIES = 4096
#: Bytes of values that the SQLite file keeps; the least recently used go first.
MAX_BYTES = 512 * 1024 * 1024
#: How many writes may pass before the size is looked at again.
CHECK_EVERY = 256


def cache_key(**parts: Any) -> str:
    """Return a stable key for ``parts``: SHA-256 over their canonical JSON, the same in every process.

    Examples
    --------
    >>> cache_key(a=1, b={"y": 2, "x": 1}) == cache_key(b={"x": 1, "y": 2}, a=1)
    True
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=repr)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _encode(value: Any) -> str:
    """Return ``value`` as JSON that reads back equal.

    Raises
    ------
    ConfigurationError
        If it would not: tuples, sets, NaN, keys that are no text.
    """
    try:
        text = json.dumps(value, allow_nan=False)
        same = _same(json.loads(text), value)
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(f"the cache takes JSON values, and this is none: {exc}") from exc
    if not same:
        raise ConfigurationError(
            f"{value!r:.200} would come back changed from the cache; give lists in place of tuples, and texts as keys"
        )
    return text


def _same(read: Any, given: Any) -> bool:
    if isinstance(given, dict):
        return (
            isinstance(read, dict)
            and read.keys() == given.keys()
            and all(_same(read[key], given[key]) for key in given)
        )
    if isinstance(given, list):
        return isinstance(read, list) and len(read) == len(given) and all(map(_same, read, given))
    return type(read) is type(given) and bool(read == given)


class Store(Protocol):
    """Where a cache keeps its entries: text by key and kind."""

    place: str

    def read(self, key: str) -> str | None:
        """Return the text of ``key``."""

    def write(self, key: str, kind: str, text: str) -> None:
        """Keep ``text``."""

    def clear(self, kind: str | None) -> None:
        """Remove the entries of ``kind``, or all."""

    def size(self) -> tuple[int, int]:
        """Return how many entries there are, and their bytes."""

    def close(self) -> None:
        """Let go of files and sockets."""


class SQLiteStore:
    """Entries in one SQLite file (WAL, ``synchronous=NORMAL``), which several processes may use at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = str(path)
        self._local = threading.local()
        self._lock = threading.Lock()  # guards _connections and _writes
        self._connections: list[tuple[threading.Thread, sqlite3.Connection]] = []
        self._writes = 0
        self._pid = os.getpid()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection()
        except sqlite3.DatabaseError as exc:
            if isinstance(exc, sqlite3.OperationalError):
                raise
            self._set_aside(exc)
            self._connection()

    def _set_aside(self, exc: sqlite3.DatabaseError) -> None:
        aside = self.path.with_name(f"{self.path.name}.corrupt-{time.time_ns()}")
        self.close()
        self.path.replace(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        _log.warning("the cache file %s is damaged (%s); it was set aside as %s", self.path, exc, aside.name)

    def _connection(self) -> sqlite3.Connection:
        if self._pid != os.getpid():
            # a forked child must not touch its parent's connections, not even to close them
            self._local, self._connections, self._pid = threading.local(), [], os.getpid()
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is not None:
            return found
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, kind TEXT NOT NULL, value TEXT NOT NULL, "
                "used REAL NOT NULL) WITHOUT ROWID"
            )
        except BaseException:
            connection.close()
            raise
        with self._lock:
            alive = []
            for thread, old in self._connections:
                if thread.is_alive():
                    alive.append((thread, old))
                else:
                    old.close()
            self._connections = [*alive, (threading.current_thread(), connection)]
        self._local.connection = connection
        return connection

    def read(self, key: str) -> str | None:
        """Return the text of ``key``."""
        row = self._connection().execute("SELECT value FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def write(self, key: str, kind: str, text: str) -> None:
        """Keep ``text``."""
        connection = self._connection()
        connection.execute(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", (key, kind, text, time.time())
        )
        with self._lock:
            self._writes += 1
            due = self._writes % CHECK_EVERY == 0
        if due:
            self._evict(connection)

    def _evict(self, connection: sqlite3.Connection) -> None:
        entries, size = self.size()
        if size > MAX_BYTES and entries:
            # a tenth is dropped at once, so that the next writes find room
            few = max(1, entries // 10)
            connection.execute(
                "DELETE FROM answers WHERE key IN (SELECT key FROM answers ORDER BY used LIMIT ?)", (few,)
            )

    def clear(self, kind: str | None) -> None:
        """Remove the entries of ``kind``, or all."""
        if kind is None:
            self._connection().execute("DELETE FROM answers")
        else:
            self._connection().execute("DELETE FROM answers WHERE kind = ?", (kind,))

    def size(self) -> tuple[int, int]:
        """Return how many entries there are, and their bytes."""
        row = (
            self._connection()
            .execute("SELECT COUNT(*), COALESCE(SUM(LENGTH(value)), 0) FROM answers")
            .fetchone()
        )
        return int(row[0]), int(row[1])

    def close(self) -> None:
        """Let go of files and sockets."""
        with self._lock:
            connections, self._connections = self._connections, []
            self._local = threading.local()
        for _, connection in connections:
            connection.close()


class RedisStore:
    """Entries on a Redis server; the server bounds their size by its own ``maxmemory``."""

    def __init__(self, url: str) -> None:
        redis = require("redis", extra="redis", purpose="a cache at redis://")
        parts = urlsplit(url)
        self.place = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"
        self._redis = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=5, socket_connect_timeout=3
        )

    def read(self, key: str) -> str | None:
        """Return the text of ``key``."""
        value = self._redis.get(f"analysis_kit:{key}")
        return None if value is None else str(value)

    def write(self, key: str, kind: str, text: str) -> None:
        """Keep ``text``."""
        with self._redis.pipeline() as pipe:
            pipe.set(f"analysis_kit:{key}", text)
            pipe.sadd(f"analysis_kit-kind:{kind}", key)
            pipe.execute()

    def clear(self, kind: str | None) -> None:
        """Remove the entries of ``kind``, or all."""
        pattern = "analysis_kit-kind:*" if kind is None else f"analysis_kit-kind:{kind}"
        for group in list(self._redis.scan_iter(pattern)) if kind is None else [pattern]:
            keys = self._redis.smembers(group)
            self._redis.delete(group, *(f"analysis_kit:{key}" for key in keys))

    def size(self) -> tuple[int, int]:
        """Return how many entries there are, and their bytes."""
        keys = list(self._redis.scan_iter("analysis_kit:*"))
        return len(keys), sum(self._redis.strlen(key) for key in keys)

    def close(self) -> None:
        """Let go of files and sockets."""
        self._redis.close()


class ResultCache:
    """Answers by key, in memory and, behind it, in a store.

    Parameters
    ----------
    store : Store, optional
        Default: memory alone.
    memory_entries : int, default 4096
        Entries kept in memory; the least recently used go first.

    Examples
    --------
    >>> cache = ResultCache()
    >>> cache.set("Revenue grew.", "sentiment", {"label": "positive"})
    >>> cache.get("Revenue grew.", "sentiment")
    {'label': 'positive'}
    """

    def __init__(self, store: Store | None = None, *, memory_entries: int = MEMORY_ENTRIES) -> None:
        self._store = store
        self._entries = memory_entries
        self._memory: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._lock = threading.Lock()  # guards _memory and the counters
        self._hits = self._misses = 0
        self._warned = False

    def get(self, text: str, kind: str) -> Any:
        """Return the value that was set for ``text`` and ``kind`` under today's model and options; None on a miss."""
        return self.get_key(self._key(text, kind), kind=kind)

    def set(self, text: str, kind: str, value: Any) -> None:
        """Keep ``value``, a JSON value that is not None.

        Raises
        ------
        ConfigurationError
            If it would not come back equal.
        """
        self.set_key(self._key(text, kind), kind, value)

    def _key(self, text: str, kind: str) -> str:
        settings = get_settings()
        return cache_key(text=text, kind=kind, model=settings.OLLAMA_MODEL, host=settings.OLLAMA_HOST)

    def get_key(self, key: str, *, kind: str = "") -> Any:
        """Return the value of ``key``; None on a miss."""
        with self._lock:
            entry = self._memory.get(key)
            if entry is not None:
                self._memory.move_to_end(key)
        text = entry[1] if entry is not None else self._from_store(key)
        with self._lock:
            self._hits += text is not None
            self._misses += text is None
        if events.listening():
            events.emit(events.CacheLooked(kind, text is not None))
        if text is None:
            return None
        if entry is None:
            self._remember(key, kind, text)
        return json.loads(text)

    def set_key(self, key: str, kind: str, value: Any) -> None:
        """Keep ``value`` under ``key``."""
        text = _encode(value)
        self._remember(key, kind, text)
        if self._store is not None:
            with self._spared():
                self._store.write(key, kind, text)

    def _from_store(self, key: str) -> str | None:
        text: str | None = None
        if self._store is not None:
            with self._spared():
                text = self._store.read(key)
        return text

    def _remember(self, key: str, kind: str, text: str) -> None:
        with self._lock:
            self._memory[key] = (kind, text)
            self._memory.move_to_end(key)
            while len(self._memory) > self._entries:
                self._memory.popitem(last=False)

    @contextlib.contextmanager
    def _spared(self) -> Iterator[None]:
        """Keep a run going when the store fails; the first failure is said."""
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            self._say(exc)
        except Exception as exc:
            if not type(exc).__module__.startswith("redis"):
                raise
            self._say(exc)

    def _say(self, exc: Exception) -> None:
        if not self._warned:
            self._warned = True
            place = self._store.place if self._store is not None else "memory"
            _log.warning(
                "the cache at %s fails (%s); answers are kept in memory until it is back", place, exc
            )

    def clear(self, kind: str | None = None) -> None:
        """Remove the entries of ``kind``, or all."""
        with self._lock:
            self._memory = OrderedDict(
                (k, e) for k, e in self._memory.items() if kind is not None and e[0] != kind
            )
        if self._store is not None:
            with self._spared():
                self._store.clear(kind)

    def stats(self) -> dict[str, Any]:
        """Return ``place``, ``entries``, ``bytes``, and this process's ``hits`` and ``misses``."""
        entries = size = None
        if self._store is not None:
            with self._spared():
                entries, size = self._store.size()
        with self._lock:
            if self._store is None:
                entries, size = len(self._memory), sum(len(text) for _, text in self._memory.values())
            hits, misses = self._hits, self._misses
        place = self._store.place if self._store is not None else "memory"
        return {"place": place, "entries": entries, "bytes": size, "hits": hits, "misses": misses}

    def close(self) -> None:
        """Let go of the store's files and sockets; the memory stays."""
        if self._store is not None:
            self._store.close()

    def __repr__(self) -> str:
        stats = self.stats()
        held = (
            "" if stats["entries"] is None else f"{stats['entries']} answers, {stats['bytes'] / 1e6:.1f} MB, "
        )
        return f"<ResultCache {stats['place']}: {held}{stats['hits']} hits, {stats['misses']} misses>"


def open_cache(url: str = "") -> ResultCache:
    """Return the cache at ``url``.

    Parameters
    ----------
    url : str, default ""
        ``memory:``, ``sqlite:///path``, ``redis://host:port/0``; empty: SQLite in `cache_dir`.

    Raises
    ------
    ConfigurationError
        If the URL has another form.
    """
    if url in {"memory:", "memory://"}:
        return ResultCache()
    if url.startswith(("redis://", "rediss://")):
        return ResultCache(RedisStore(url))
    if url and not url.startswith("sqlite:///"):
        raise ConfigurationError(f"CACHE_URL={url!r}: use memory:, sqlite:///path or redis://host:port/0")
    path = Path(url.removeprefix("sqlite:///")).expanduser() if url else cache_dir() / "results.sqlite"
    try:
        return ResultCache(SQLiteStore(path))
    except (sqlite3.Error, OSError) as exc:
        _log.warning("the cache %s cannot be opened (%s); answers are kept in memory", path, exc)
        return ResultCache()


_shared: ResultCache | None = None
_shared_lock = threading.Lock()  # guards _shared


def get_cache() -> ResultCache:
    """Return the process-wide cache: the one registered in the container, else the one at ``CACHE_URL``."""
    global _shared  # noqa: PLW0603 - the one process-wide value
    registered: ResultCache | None = get_container().find(ResultCache)
    if registered is not None:
        return registered
    with _shared_lock:
        if _shared is None:
            _shared = open_cache(get_settings().CACHE_URL)
        return _shared


def reset_cache() -> None:
    """Close and forget the process-wide cache."""
    global _shared
    with _shared_lock:
        old, _shared = _shared, None
    if old is not None:
        old.close()

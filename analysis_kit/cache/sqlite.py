"""Entries in one SQLite file, which several threads and processes use at once."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from analysis_kit.errors import ConfigurationError

T = TypeVar("T")
_log = logging.getLogger(__name__)
_APPLICATION_ID = 0x414B6974  # "AKit", in the file's header: tells our files from other people's
_BUSY_S = 30.0
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_SCHEMA = (
    # `used` stands before the value, so that finding the oldest rows does not read long values
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, used REAL NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL)"
)
_READ = "SELECT value FROM answers WHERE key = ?"
_EVICT = (
    "DELETE FROM answers WHERE rowid IN "
    "(SELECT rowid FROM answers ORDER BY used LIMIT (SELECT COUNT(*) / 10 + 1 FROM answers))"
)
_WRITE = (
    "INSERT INTO answers VALUES (?, ?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET used = excluded.used, kind = excluded.kind, value = excluded.value"
)


class _Held:
    """One thread's connection; closed when the thread ends, or by the store when nobody is at work on it."""

    __slots__ = ("__weakref__", "connection", "live", "lock")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.live = True
        self.lock = threading.Lock()
        # not __del__: in a cycle the collector may end the connection first, which warns that nobody has closed it
        weakref.finalize(self, connection.close).atexit = False

    def close(self) -> None:
        with self.lock:
            self.live = False
            self.connection.close()


class SQLiteStore:
    """A store in one SQLite file: WAL, ``synchronous=NORMAL`` (survives a killed process), a connection per thread.

    A damaged file is set aside under a name of its own, with a warning, and a new one begun.

    Parameters
    ----------
    path : Path
        The file; it and its folder are made if need be.
    max_bytes : int
        Bound on the file's used pages, in bytes; beyond it the least recently used tenth of the entries goes.

    Raises
    ------
    ConfigurationError
        If the path is a folder, or the database of another application.
    sqlite3.Error, OSError
        If the file cannot be made or opened.
    """

    errors = (sqlite3.Error, OSError)

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        if path.is_dir():
            raise ConfigurationError(
                f"the cache cannot be kept in {str(path)!r}, which is a folder; name a file in it"
            )
        self.path = path
        self.place = str(path)
        self.max_bytes = max_bytes
        self._lock = threading.Lock()  # guards the three below
        self._open: weakref.WeakSet[_Held] = weakref.WeakSet()
        self._local = threading.local()
        self._inode = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        _stores.add(self)
        self._with(lambda connection: connection.execute("SELECT 1 FROM answers LIMIT 1").fetchone())

    def read(self, key: str) -> str | None:
        """Return the text of ``key``."""
        held: _Held | None = getattr(self._local, "held", None)
        if held is not None and held.live:
            # what `_with` does, without its calls, since every answer that is not in memory comes this way
            with contextlib.suppress(sqlite3.DatabaseError), held.lock:
                row = held.connection.execute(_READ, (key,)).fetchone()
                return None if row is None else row[0]
        row = self._with(lambda connection: connection.execute(_READ, (key,)).fetchone())
        return None if row is None else row[0]

    def write(self, entries: Iterable[tuple[str, str, str]]) -> None:
        """Keep entries of (key, kind, text); they are on the disk, in one transaction, when this returns."""
        now = time.time()
        rows = [(key, now, _storable(kind), text) for key, kind, text in entries]
        if len(rows) == 1:
            self._with(lambda connection: connection.execute(_WRITE, rows[0]))
        else:
            self._many(_WRITE, rows)

    def tidy(self, used: Iterable[str]) -> None:
        """Note which keys were used, keep to the bound, and begin anew if the file was removed under us."""
        if _inode(self.path) != self._inode:
            self._let_go()
            return
        now = time.time()
        self._many("UPDATE answers SET used = ? WHERE key = ?", [(now, key) for key in used])
        while self._with(_used_bytes) > self.max_bytes:
            if not self._with(lambda connection: connection.execute(_EVICT).rowcount):
                return

    def clear(self, kind: str | None) -> None:
        """Remove the entries of ``kind``, or all, and give their room back."""
        where, values = ("", ()) if kind is None else (" WHERE kind = ?", (_storable(kind),))
        self._with(lambda c: c.execute(f"DELETE FROM answers{where}", values))  # noqa: S608 - no text of a user's
        with contextlib.suppress(
            sqlite3.OperationalError
        ):  # someone else reads; the room is reused all the same
            self._with(lambda c: c.execute("VACUUM"))

    def size(self) -> tuple[int, int]:
        """Return how many entries there are, and the bytes of the pages they fill."""

        def look(connection: sqlite3.Connection) -> tuple[int, int]:
            count = connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
            return int(count), _used_bytes(connection)

        return self._with(look)

    def close(self) -> None:
        """Close every thread's connection; another use opens anew."""
        self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            held, self._local, self._inode = list(self._open), threading.local(), 0
        for each in held:
            each.close()

    def _with(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what ``work`` gives on this thread's connection; a damaged file is replaced first."""
        try:
            return self._attempt(work)
        except sqlite3.DatabaseError as exc:
            if getattr(exc, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                raise
            self._set_aside(exc)
            return self._attempt(work)

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T:
        while True:
            try:
                held: _Held = self._local.held
            except AttributeError:
                held = self._connect()
                with self._lock:
                    self._open.add(held)
                    self._inode = self._inode or _inode(self.path)
                    self._local.held = held
            with held.lock:
                if held.live:
                    return work(held.connection)
            del self._local.held

    def _connect(self) -> _Held:
        # another thread may close it: when the store is closed, or when the file is replaced
        held = _Held(
            sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        )
        try:
            self._check(held.connection)
        except BaseException:
            held.close()
            raise
        return held

    def _check(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -16384")
        tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        if owner != _APPLICATION_ID and tables:
            raise ConfigurationError(
                f"the cache cannot be kept in {self.place!r}, the database of another application; name another file"
            )
        if owner != _APPLICATION_ID or not tables:
            self._begin(connection)

    def _begin(self, connection: sqlite3.Connection) -> None:
        # of several processes that begin at once, SQLite turns all but one away without waiting
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                # before the table, so that whoever sees the table sees whose it is
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(_SCHEMA)
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def _set_aside(self, exc: sqlite3.DatabaseError) -> None:
        with _replacing:
            self._let_go()
            with (
                contextlib.suppress(sqlite3.DatabaseError),
                contextlib.closing(sqlite3.connect(self.path)) as fresh,
            ):
                if fresh.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
                    return  # another process or thread was quicker
            aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
            self.path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        _log.warning(
            "the cache file %s is damaged (%s); it was set aside as %s, and a new one begun",
            self.path,
            exc,
            aside.name,
            extra={"path": str(self.path), "aside": str(aside), "error": str(exc)},
        )

    def _many(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(statement, rows)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

        if rows:
            self._with(work)


def _used_bytes(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _storable(kind: str) -> str:
    """Return ``kind`` as SQLite can hold it: lone surrogates as escapes."""
    return kind.encode("utf-8", "backslashreplace").decode()


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1


_replacing = threading.Lock()  # one replacement of a damaged file at a time
_stores: weakref.WeakSet[SQLiteStore] = weakref.WeakSet()
_inherited: list[
    object
] = []  # a forked child must never close its parent's connections, so it keeps them for good


def _begin_in_child() -> None:
    global _replacing  # noqa: PLW0603 - a lock that another thread held at the fork would stay held here
    _replacing = threading.Lock()
    for store in list(_stores):
        _inherited.append((store._local, list(store._open)))  # noqa: SLF001 - of one piece with the class
        store._local, store._open, store._lock = threading.local(), weakref.WeakSet(), threading.Lock()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)

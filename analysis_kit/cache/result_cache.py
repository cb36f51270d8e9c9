"""`ResultCache`: answers by key, in memory and in a store behind it, whose loss costs time and never a run."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import marshal
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Protocol, Self

from analysis_kit import events
from analysis_kit.cache.values import cache_key, from_json, plain, to_json
from analysis_kit.errors import ConfigurationError

_log = logging.getLogger(__name__)
_MAX_PAUSE_S = 60.0
_MAX_UNSAVED = 10_000
_TIDY_EVERY = 256  # sets
_IDENTITY = "model identity"
_MISSING = object()  # None is a value like others


class Store(Protocol):
    """Where a cache keeps its entries for good: JSON text by key."""

    place: str

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What its calls raise when it fails."""

    def read(self, key: str) -> str | None:
        """Return the text of ``key``."""

    def write(self, entries: Iterable[tuple[str, str, str]]) -> None:
        """Keep entries of (key, kind, text)."""

    def tidy(self, used: Iterable[str]) -> None:
        """Note which keys were used, and keep to the bound; called now and then."""

    def clear(self, kind: str | None) -> None:
        """Remove the entries of ``kind``, or all."""

    def size(self) -> tuple[int, int]:
        """Return how many entries there are, and their bytes."""

    def close(self) -> None:
        """Let go of files and sockets."""


class ResultCache:
    """Answers by text and kind, or by a key of one's own; JSON values only, which come back equal or are refused.

    Each value is in the store before `set` returns. While the store fails (a full disk, a server that is gone), one
    warning says so, values are kept in memory, the store is tried again after a pause that doubles up to 60 s, and
    what it missed is written then.

    Parameters
    ----------
    store : Store, optional
        Default: memory alone.
    memory_bytes : int, default 64 MiB
        Bound on the values in memory; the least recently used go first.

    Examples
    --------
    >>> cache = ResultCache()
    >>> cache.set("Revenue grew.", "sentiment", {"label": "positive"})
    >>> cache.get("Revenue grew.", "sentiment")
    {'label': 'positive'}
    """

    def __init__(self, store: Store | None = None, *, memory_bytes: int = 64 * 1024 * 1024) -> None:
        self._store = store
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()  # guards all below
        # marshal, because each caller must get a copy of its own, and nothing in the library copies JSON values
        # faster; it never leaves this process
        self._memory: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._held = self._hits = self._misses = self._sets = 0
        self._used: set[str] = set()
        self._unsaved: OrderedDict[str, tuple[str, str, str]] = OrderedDict()
        self._pauses: dict[
            str, tuple[float, float]
        ] = {}  # what fails, reads or writes -> seconds, and till when
        self._hashers: dict[str, tuple[Any, Any]] = {}
        _caches.add(self)

    def get(self, text: str, kind: str, default: Any = None) -> Any:
        """Return the value that was set for ``text`` and ``kind`` under the settings' model; ``default`` on a miss.

        Parameters
        ----------
        text : str
            Any text; lone surrogates and NUL are texts like others.
        kind : str
            What the value says about the text, such as an analyzer's name.
        default : object, optional
            Tells a miss from a None that was set.
        """
        return self.get_key(self.key_of(text, kind), kind=kind, default=default)

    def set(self, text: str, kind: str, value: Any) -> None:
        """Keep ``value`` for ``text`` and ``kind``.

        Raises
        ------
        ConfigurationError
            If ``value`` would not come back equal from JSON; the message names the part.
        """
        self.set_key(self.key_of(text, kind), kind, value)

    def get_key(self, key: str, *, kind: str = "", default: Any = None) -> Any:
        """Return the value of ``key``, a fresh copy; ``default`` on a miss."""
        with self._lock:
            entry = self._memory.get(key)
            if entry is not None:
                self._memory.move_to_end(key)
                self._hits += 1
                self._used.add(key)
        value = self._from_store(key, kind) if entry is None else marshal.loads(entry[1])  # noqa: S302 - made here
        if events.listening():
            events.emit(events.CacheLooked(kind, value is not _MISSING))
        return default if value is _MISSING else value

    def set_key(self, key: str, kind: str, value: Any) -> None:
        """Keep ``value`` under ``key``; raises as `set` does."""
        value = plain(value)
        text = to_json(value)
        self._remember(key, kind, value)
        if self._store is None:
            return
        if not self._stored([(key, kind, text)]):
            with self._lock:
                self._unsaved[key] = (key, kind, text)
                if len(self._unsaved) > _MAX_UNSAVED:
                    self._unsaved.popitem(last=False)
        self._sets += 1
        if self._sets % _TIDY_EVERY == 0:
            self._tidy()

    def note_model(self, model: str, digest: str) -> None:
        """Remember which weights a model name stands for; `get` and `set` tell answers apart by them from now on.

        Parameters
        ----------
        model : str
            As the settings name it; "" for the host's only model.
        digest : str
            As the server gives it.
        """
        if self._digest(model) != digest:
            self.set_key(cache_key(digest_of=model), _IDENTITY, digest)
            with self._lock:
                self._hashers.clear()

    def clear(self, kind: str | None = None) -> None:
        """Remove the entries of ``kind``, or all."""
        with self._lock:
            for key, (its, data) in list(self._memory.items()):
                if kind is None or its == kind:
                    del self._memory[key]
                    self._held -= len(data)
            for key, (_, its, _) in list(self._unsaved.items()):
                if kind is None or its == kind:
                    del self._unsaved[key]
            self._hashers.clear()
        self._try("writes", lambda store: store.clear(kind))

    def stats(self) -> dict[str, Any]:
        """Return ``place``, ``entries``, ``bytes`` (None while the store fails), and this process's ``hits``, ``misses``."""
        entries, size = self._try("reads", lambda store: store.size()) or (None, None)
        with self._lock:
            if self._store is None:
                entries, size = len(self._memory), self._held
            hits, misses = self._hits, self._misses
        place = "memory" if self._store is None else self._store.place
        return {"place": place, "entries": entries, "bytes": size, "hits": hits, "misses": misses}

    def close(self) -> None:
        """Write what the store missed, if it can be had, and let go of files and sockets; another use opens anew."""
        if self._store is None:
            return
        if self._unsaved:
            self._pauses.pop("writes", None)
            if not self._stored([]):
                facts = {"answers": len(self._unsaved), "place": self._store.place}
                _log.warning("%(answers)d answers could not be kept at %(place)s", facts, extra=facts)
        if self._used:
            self._tidy()
        with contextlib.suppress(*self._store.errors):  # it failed before, and said so then
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        stats = self.stats()
        held = (
            "out of reach"
            if stats["entries"] is None
            else f"{stats['entries']} answers, {stats['bytes'] / 1e6:.1f} MB"
        )
        return f"<ResultCache {stats['place']}: {held}, {stats['hits']} hits, {stats['misses']} misses>"

    def key_of(self, text: str, kind: str) -> str:
        """Return the key of what `get` and `set` keep, under the settings' model of this moment."""
        from analysis_kit.settings import get_settings

        settings = get_settings()
        if not isinstance(kind, str):
            raise ConfigurationError(f"kind={kind!r} must be a text that says what is kept")
        known = self._hashers.get(kind)
        if known is None or known[0] is not settings:
            digest = self._digest(settings.OLLAMA_MODEL)
            # without a digest the host tells apart what one name may stand for
            of = (
                {"digest": digest}
                if digest
                else {"model": settings.OLLAMA_MODEL, "host": settings.OLLAMA_HOST}
            )
            known = (settings, hashlib.sha256(cache_key(kind=kind, **of).encode("ascii")))
            if len(self._hashers) < _MAX_UNSAVED:
                self._hashers[kind] = known
        hasher = known[1].copy()
        try:
            hasher.update(text.encode("utf-8", "surrogatepass"))
        except AttributeError:
            raise ConfigurationError(
                f"the cache keeps what is said about a text (str), not about a {type(text).__name__}"
            ) from None
        return str(hasher.hexdigest())

    def _digest(self, model: str) -> Any:
        key = cache_key(digest_of=model)
        with self._lock:
            entry = self._memory.get(key)
        found = self._read(key) if entry is None else marshal.loads(entry[1])  # noqa: S302 - made in this process
        return None if found is _MISSING else found

    def _read(self, key: str) -> Any:
        """Return the store's value of ``key`` or ``_MISSING``."""
        store = self._store
        if store is None or (self._pauses and self._is_paused("reads")):
            return _MISSING
        try:
            text = store.read(key)
            value = _MISSING if text is None else from_json(text)
        except store.errors as exc:
            self._fails("reads", store, exc)
            return _MISSING
        except ValueError:
            facts = {"place": store.place}
            _log.warning(
                "an entry of the cache at %(place)s is no JSON; it counts as missing", facts, extra=facts
            )
            return _MISSING
        if self._pauses:
            self._works("reads", store)
        return value

    def _from_store(self, key: str, kind: str) -> Any:
        value = self._read(key)
        if value is _MISSING:
            with self._lock:
                self._misses += 1
        else:
            self._remember(key, kind, value, hits=1)
        return value

    def _remember(self, key: str, kind: str, value: Any, *, hits: int = 0) -> None:
        data = marshal.dumps(value)
        with self._lock:
            self._hits += hits
            if hits:
                self._used.add(key)
            old = self._memory.pop(key, None)
            self._held += len(data) - (len(old[1]) if old is not None else 0)
            self._memory[key] = (kind, data)
            while self._held > self._memory_bytes and len(self._memory) > 1:
                self._held -= len(self._memory.popitem(last=False)[1][1])

    def _tidy(self) -> None:
        with self._lock:
            used, self._used = self._used, set()
        self._try("writes", lambda store: store.tidy(used))

    def _stored(self, entries: list[tuple[str, str, str]]) -> bool:
        with self._lock:
            unsaved = list(self._unsaved.values()) if self._unsaved else []

        def write(store: Store) -> bool:
            store.write([*unsaved, *entries])
            return True

        done = bool(self._try("writes", write))
        if done and unsaved:
            with self._lock:
                for entry in unsaved:
                    if self._unsaved.get(entry[0]) is entry:
                        del self._unsaved[entry[0]]
        return done

    def _try(self, way: str, work: Callable[[Store], Any]) -> Any:
        """Return what ``work`` gives on the store; None where there is none, or it fails, or did so a moment ago."""
        store = self._store
        if store is None or self._is_paused(way):
            return None
        try:
            result = work(store)
        except store.errors as exc:
            self._fails(way, store, exc)
            return None
        self._works(way, store)
        return result

    # Reads and writes fail apart: on a full disk, what was kept can still be had.

    def _is_paused(self, way: str) -> bool:
        return self._pauses.get(way, (0.0, 0.0))[1] > time.monotonic()

    def _fails(self, way: str, store: Store, exc: Exception) -> None:
        with self._lock:
            first = not self._pauses
            pause_s = min(_MAX_PAUSE_S, self._pauses.get(way, (0.0, 0.0))[0] * 2 or 1.0)
            self._pauses[way] = (pause_s, time.monotonic() + pause_s)
        if first:
            _log.warning(
                "the cache at %s fails (%s: %s); the run goes on, and new answers are kept in memory until it is back",
                *(store.place, type(exc).__name__, exc),
                extra={"place": store.place, "way": way, "error": str(exc), "pause_s": pause_s},
            )

    def _works(self, way: str, store: Store) -> None:
        with self._lock:
            back = self._pauses.pop(way, None) is not None and not self._pauses
        if back:
            _log.info("the cache at %s is back", store.place, extra={"place": store.place})


_caches: weakref.WeakSet[ResultCache] = weakref.WeakSet()


def _begin_in_child() -> None:
    for cache in list(_caches):
        cache._lock = threading.Lock()  # noqa: SLF001 - one that another thread held at the fork would stay held here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)

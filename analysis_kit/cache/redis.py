"""Entries on a Redis server, which several machines use at once."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from analysis_kit._optional import require
from analysis_kit.errors import ConfigurationError

_ANSWER = "analysis_kit:answer:"
_KIND = "analysis_kit:kind:"
_BATCH = 1000


class RedisStore:
    """A store on a Redis server. Its size is bounded by the server's own ``maxmemory`` and ``allkeys-lru``.

    Parameters
    ----------
    url : str
        ``redis://``, ``rediss://`` or ``unix://``, as redis-py reads it.
    timeout_s : float, default 2.0
        Seconds after which a silent server counts as gone.

    Raises
    ------
    ConfigurationError
        If the extra ``redis`` is not installed, or the URL cannot be read.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.0) -> None:
        redis = require("redis", extra="redis", purpose="a cache on a Redis server")
        parts = urlsplit(url)
        # without user and password, since it is shown
        self.place = (
            f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
        )
        self.errors: tuple[type[Exception], ...] = (redis.RedisError, OSError)
        try:
            # one quick second try, for a connection that the server closed while it was idle; the pause between
            # tries is the cache's, which knows of all threads
            self._redis = redis.Redis.from_url(
                url,
                decode_responses=True,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1),
            )
        except ValueError as exc:
            raise ConfigurationError(f"CACHE_URL={self.place!r} cannot be read: {exc}") from exc

    def read(self, key: str) -> str | None:
        """Return the text of ``key``."""
        value: str | None = self._redis.get(_ANSWER + key)
        return value

    def write(self, entries: Iterable[tuple[str, str, str]]) -> None:
        """Keep entries of (key, kind, text)."""
        with self._redis.pipeline(transaction=False) as pipe:
            for key, kind, text in entries:
                pipe.set(_ANSWER + key, text)
                pipe.sadd(_kind_key(kind), key)
            pipe.execute()

    def tidy(self, used: Iterable[str]) -> None:
        """Do nothing: the server sees what is read and keeps to its own bound."""

    def clear(self, kind: str | None) -> None:
        """Remove the entries of ``kind``, or all."""
        groups = (
            [_kind_key(kind)] if kind is not None else list(self._redis.scan_iter(f"{_KIND}*", count=_BATCH))
        )
        for group in groups:
            while keys := self._redis.spop(group, _BATCH):
                self._redis.delete(*(_ANSWER + key for key in keys))

    def size(self) -> tuple[int, int]:
        """Return how many entries there are, and the bytes of their texts."""
        entries = size = 0
        found = self._redis.scan_iter(f"{_ANSWER}*", count=_BATCH)
        while batch := list(islice(found, _BATCH)):
            with self._redis.pipeline(transaction=False) as pipe:
                for key in batch:
                    pipe.strlen(key)
                size += sum(pipe.execute())
            entries += len(batch)
        return entries, size

    def close(self) -> None:
        """Close the connections; another use opens anew."""
        self._redis.close()
        pool: Any = self._redis.connection_pool
        pool.disconnect()


def _kind_key(kind: str) -> str:
    return _KIND + kind.encode("utf-8", "backslashreplace").decode()

"""``cache_as=``: a plain function's results kept in the cache. Analyzers of the kit keep their own."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from analysis_kit.engine.tasks import awaits


@dataclass(frozen=True, slots=True)
class _Remembered:
    """Looks in the cache first, and stores what is new; a class, so that it travels to worker processes."""

    analyze: Callable[[Any], Any]
    kind: str
    code: str  # what the function does, since an edited one is to be called anew

    def __call__(self, text: Any) -> Any:
        from analysis_kit.cache import get_cache

        missing = object()  # a function may well find nothing, and say None
        found = get_cache().get(self._key(text), self.kind, missing)
        if found is not missing:
            return found
        value = self.analyze(text)
        if awaits(value):
            return self._store_later(text, value)
        get_cache().set(self._key(text), self.kind, value)
        return value

    def _key(self, text: Any) -> Any:
        return f"{self.code} {text}" if isinstance(text, str) else text

    async def _store_later(self, text: Any, coming: Awaitable[Any]) -> Any:
        from analysis_kit.cache import get_cache

        value = await coming
        get_cache().set(self._key(text), self.kind, value)
        return value


def remembered(analyze: Callable[[Any], Any], kind: str) -> Callable[[Any], Any]:
    """Return ``analyze`` with its results, which must be JSON values, kept under ``kind``."""
    from analysis_kit.analyzers.identity import told
    from analysis_kit.cache import cache_key

    plain = isinstance(analyze, (FunctionType, functools.partial))
    return _Remembered(analyze, kind, cache_key(code=told(analyze)) if plain else "")

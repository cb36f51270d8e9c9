"""``cache_as=``: a plain function's results kept in the cache. Analyzers of the kit keep their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis_kit.engine.tasks import awaits

if TYPE_CHECKING:
    from analysis_kit.cache import ResultCache


@dataclass(frozen=True, slots=True)
class _Remembered:
    """Looks in the cache first, and stores what is new; a class, so that it travels to worker processes."""

    analyze: Callable[[Any], Any]
    kind: str
    code: str  # what the function does, since an edited one is to be called anew

    def __call__(self, text: Any) -> Any:
        from analysis_kit.cache import get_cache

        missing = object()  # a function may well find nothing, and say None
        cache = get_cache()
        # once, since the settings may name another model by the time that the result is there
        key = cache.key_of(f"{self.code} {text}" if isinstance(text, str) else text, self.kind)
        found = cache.get_key(key, kind=self.kind, default=missing)
        if found is not missing:
            return found
        value = self.analyze(text)
        if awaits(value):
            return self._store_later(cache, key, value)
        cache.set_key(key, self.kind, value)
        return value

    async def _store_later(self, cache: ResultCache, key: str, coming: Awaitable[Any]) -> Any:
        value = await coming
        cache.set_key(key, self.kind, value)
        return value


def remembered(analyze: Callable[[Any], Any], kind: str) -> Callable[[Any], Any]:
    """Return ``analyze`` with its results, which must be JSON values, kept under ``kind``."""
    from analysis_kit.analyzers.identity import code_of_call
    from analysis_kit.cache import cache_key

    return _Remembered(analyze, kind, cache_key(code=code_of_call(analyze)))

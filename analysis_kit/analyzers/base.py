"""`BaseAnalyzer`: what every analyzer needs, written once: validate -> cache -> measure -> ask (with retry) -> store."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel

from analysis_kit.analyzers.identity import code_of, state_of, told
from analysis_kit.analyzers.inflight import InFlight
from analysis_kit.cache import ResultCache, cache_key, get_cache
from analysis_kit.errors import AnalysisError, AnswerError, ConfigurationError, OllamaUnreachableError
from analysis_kit.frames import json_value
from analysis_kit.monitor.monitor import PerformanceMonitor, get_monitor
from analysis_kit.ollama.pool import OllamaConnectionPool, get_pool
from analysis_kit.results import Examined, Finding, Span
from analysis_kit.retry import call_with_retry, is_transient

#: Attempts at one question; and attempts where a server that has answered before is away, since one that starts again
#: takes some seconds (their waits are 16 s together in the mean). Once one has waited in vain, those after it do not.
_ATTEMPTS, _ATTEMPTS_IN_ALL = 3, 7

_IN_FLIGHT: InFlight[Examined] = InFlight()
_INVISIBLE = re.compile(r"[\s\ufeff\u200b-\u200f\u2060\x00]+")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def usable_text(text: object) -> str:
    """Return ``text`` with lone surrogates replaced by U+FFFD, or raise where there is nothing to analyse.

    Raises
    ------
    AnalysisError
        If ``text`` is not a ``str``, or holds nothing but blanks and invisible marks.
    """
    if not isinstance(text, str):
        raise AnalysisError(f"an analyzer needs text (str), and was given {type(text).__name__}")
    if not _INVISIBLE.sub("", text):
        raise AnalysisError(
            f"the text is empty ({len(text)} characters, all blank); there is nothing to analyse"
        )
    return _LONE_SURROGATE.sub("\ufffd", text)


def as_finding(value: object, *, analyzer: str) -> Finding:
    """Return what an analyzer gave as a `Finding` of JSON values: a mapping's ``score`` and ``label`` are lifted out of them.

    Raises
    ------
    AnalysisError
        If ``value`` says nothing (None) or is of a kind that cannot be read as a finding.
    """
    if isinstance(value, Finding):
        return _plain(value)
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    known = isinstance(value, (Mapping, list, tuple, str, int, float)) or getattr(value, "ndim", None) == 0
    if known:
        value = json_value(value)  # a finished answer is not lost over numpy's numbers, or an enum's
    if isinstance(value, Mapping):
        values = dict(value)
        score = values.get("score")
        lifted: dict[str, Any] = {}
        if isinstance(score, (int, float)) and not isinstance(score, bool) and -1 <= score <= 1:
            lifted["score"] = float(values.pop("score"))
        if isinstance(values.get("label"), str):
            lifted["label"] = values.pop("label")
        if isinstance(values.get("method"), str):
            lifted["method"] = values.pop("method")
        return Finding(values=values, **lifted)
    if isinstance(value, (bool, int, float, list)) or (known and value is None):  # NaN
        return Finding(values={"value": value})
    if isinstance(value, str):
        return Finding(label=value)
    raise AnalysisError(
        f"analyzer {analyzer!r} returned {type(value).__name__}; return a Finding, a dict of JSON values, a number or a text",
        analyzer=analyzer,
    )


def _plain(finding: Finding) -> Finding:
    """Return ``finding`` in JSON's kinds."""
    marks = (map(json_value, (each.start, each.end, each.text, each.note)) for each in finding.evidence)
    return replace(
        finding,
        score=None if finding.score is None else float(finding.score),
        label=json_value(finding.label),
        values=json_value(finding.values),
        evidence=tuple(Span(*mark) for mark in marks),
        method=json_value(finding.method),
        flags=tuple(json_value(finding.flags)),
    )


class BaseAnalyzer:
    """An analyzer in a dozen lines: override `ask`, and get validation, cache, retry and timing from `analyze`.

    Attributes
    ----------
    name : str
        Names the analyzer in tables, caches and timings; by default made from the class name.
    version : str
        Part of the cache key; raise it when the meaning of an answer changes.
    kind : {"custom", "rules", "llm"}
        "rules" need no server and are quick enough to be asked anew, so they are not cached.
    cache, pool, monitor
        The process-wide ones unless assigned; fetched on first use.

    Examples
    --------
    >>> class Shouting(BaseAnalyzer):
    ...     kind = "rules"
    ...     def ask(self, text):
    ...         words = text.split()
    ...         return {"upper_share": sum(w.isupper() for w in words) / len(words)}
    >>> Shouting().analyze("WE grew").values
    {'upper_share': 0.5}
    """

    name: str = ""
    version: str = "1"
    kind: ClassVar[Literal["custom", "rules", "llm"]] = "custom"

    _cache: ResultCache | None = None
    _pool: OllamaConnectionPool | None = None
    _monitor: PerformanceMonitor | None = None
    _caching: bool = True
    _reached: bool = False  # whether its server has answered before
    _given: Any = None  # what it was made with, as `told`

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__ and not isinstance(getattr(cls, "name", None), property):
            stem = cls.__name__.removesuffix("Analyzer") or cls.__name__
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", stem).lower()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Note what the analyzer is made with, for two that are made with different values answer differently."""
        make: Any = super().__new__
        self: Self = make(cls) if make is object.__new__ else make(cls, *args, **kwargs)
        object.__setattr__(self, "_given", told([args, kwargs]))  # which a frozen dataclass does not hinder
        return self

    def __init__(self) -> None:
        """Take nothing: the parts are fetched on first use, or assigned."""

    @property
    def cache(self) -> ResultCache:
        """The result cache."""
        return self._cache if self._cache is not None else get_cache()

    @cache.setter
    def cache(self, value: ResultCache | None) -> None:
        self._cache = value

    @property
    def pool(self) -> OllamaConnectionPool:
        """The connection pool."""
        return self._pool if self._pool is not None else get_pool()

    @pool.setter
    def pool(self, value: OllamaConnectionPool | None) -> None:
        self._pool = value

    @property
    def monitor(self) -> PerformanceMonitor:
        """The performance monitor."""
        return self._monitor if self._monitor is not None else get_monitor()

    @monitor.setter
    def monitor(self, value: PerformanceMonitor | None) -> None:
        self._monitor = value

    def with_parts(
        self,
        *,
        cache: ResultCache | None = None,
        pool: OllamaConnectionPool | None = None,
        caching: bool = True,
    ) -> Self:
        """Return a copy of this analyzer that uses the given parts; a part left out, or set before, stays."""
        twin = copy.copy(self)
        twin._cache = self._cache if self._cache is not None else cache  # noqa: SLF001 - the twin is one of us
        twin._pool = self._pool if self._pool is not None else pool  # noqa: SLF001
        twin._caching = caching  # noqa: SLF001
        return twin

    def is_cached(self, text: str, *, sample: int = 0) -> bool:
        """Return whether `examine` would find its answer in the cache."""
        parts = self.cache_parts()
        if parts is None or not self._caching:
            return False
        return self.cache.get_key(cache_key(**parts, text=usable_text(text), sample=sample)) is not None

    def ask(self, text: str) -> Finding | Mapping[str, Any]:  # noqa: ARG002 - for those who override it
        """Answer for one text; this is what a subclass writes.

        Parameters
        ----------
        text : str
            Not blank, free of lone surrogates.
        """
        raise ConfigurationError(
            f"{type(self).__name__} says nothing yet: override ask(text) and return a Finding or a dict, or override analyze(text)"
        )

    def analyze(self, text: str) -> Finding:
        """Return the finding for ``text``, from the cache where it was answered before.

        Raises
        ------
        AnalysisError
            If the text is blank, or the answer cannot be used.
        OllamaError
            If the server fails, after retries.
        """
        return self.examine(text).finding

    def examine(self, text: str, *, sample: int = 0) -> Examined:
        """Return the finding together with how it was come by (cached, attempts, time split, server, tokens).

        Parameters
        ----------
        text : str
            The unit's text.
        sample : int, default 0
            Which repeat this is; repeats are cached apart from each other.
        """
        usable = usable_text(text)
        parts = self.cache_parts()
        if parts is None or not self._caching:
            return self._fresh(usable, sample)
        key = cache_key(**parts, text=usable, sample=sample)
        known = self._cached(key)
        if known is not None:
            return known
        return _IN_FLIGHT.once(
            key, lambda: self._cached(key) or self._store(key, self._fresh(usable, sample))
        )

    def cache_parts(self) -> dict[str, Any] | None:
        """Return what, besides text and sample, tells answers apart; None where answers are not cached."""
        if self.kind == "rules":
            return None
        return {
            "analyzer": f"{type(self).__module__}.{type(self).__qualname__}",
            "name": self.name,
            "version": self.version,
            "code": code_of(type(self)),
            "state": state_of(self),
            "given": self._given,
        }

    def inquire(self, text: str, sample: int) -> Examined:
        """Ask once, without cache, retry or timing; analyzers that know more than a finding override this."""
        del sample  # an answer by rules is the same each time
        return Examined(as_finding(self.ask(text), analyzer=self.name))

    def _fresh(self, text: str, sample: int) -> Examined:
        attempts = counted = 0
        patient = self._reached

        def attempt() -> Examined:
            nonlocal attempts
            attempts += 1
            return self.inquire(text, sample)

        def again(exc: Exception) -> bool:
            nonlocal counted
            away = isinstance(exc, OllamaUnreachableError)
            if away and (patient or self._reached):
                return True
            if not away:
                self._note(reached=True)
            counted += 1
            return is_transient(exc) and counted < _ATTEMPTS

        started = time.perf_counter()
        try:
            with self.monitor.measure(self.name, {"characters": len(text)}):
                examined = (
                    attempt()
                    if self.kind == "rules"
                    else call_with_retry(attempt, max_attempts=_ATTEMPTS_IN_ALL, retry_on=again)
                )
        except OllamaUnreachableError:
            self._note(reached=False)
            raise
        except AnswerError as exc:
            exc.analyzer, exc.attempts = self.name, attempts
            exc.duration_s = time.perf_counter() - started
            raise
        self._note(reached=True)
        attempts += examined.attempts - 1  # where it moved to another host
        return replace(examined, attempts=attempts, duration_s=time.perf_counter() - started)

    def _note(self, *, reached: bool) -> None:
        object.__setattr__(self, "_reached", reached)  # a frozen dataclass may be an analyzer

    def _cached(self, key: str) -> Examined | None:
        data = self.cache.get_key(key)
        return None if data is None else Examined.from_dict(data)

    def _store(self, key: str, examined: Examined) -> Examined:
        self.cache.set_key(key, self.name, examined.to_dict())
        return examined

    def __getstate__(self) -> dict[str, Any]:
        """Leave pool, cache and monitor behind: a worker process fetches its own."""
        return {
            key: value for key, value in self.__dict__.items() if key not in {"_cache", "_pool", "_monitor"}
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} version {self.version}>"

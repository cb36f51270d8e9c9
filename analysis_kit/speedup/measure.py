"""Measure how the wall time of one piece of work falls with the number of workers."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

from analysis_kit.engine.arguments import checked_count
from analysis_kit.errors import AnalysisError, ConfigurationError
from analysis_kit.frames import SPEEDUP_COLUMNS, frame
from analysis_kit.speedup.drain import drain

if TYPE_CHECKING:
    import pandas as pd

    from analysis_kit.analyzers.base import BaseAnalyzer

WORKERS = (1, 2, 3, 4, 6, 8, 12, 16)


def measure_speedup(
    work: Callable[[Any], Any] | BaseAnalyzer,
    units: Mapping[str, str] | Sequence[str] | None = None,
    *,
    workers: Sequence[int] = WORKERS,
    repeats: int = 5,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Time the same work at several worker counts; every repeat runs through all counts in an order of its own.

    The order is drawn anew for each repeat, so that a machine that gets busier does not bend the curve. One run at
    the most workers goes before, untimed: it loads the model and opens connections. It needs no event loop, so it
    can be called in a notebook cell as in a script; an interrupt ends it, and aborts the calls that run.

    Parameters
    ----------
    work : callable or BaseAnalyzer
        Without ``units``: called with a worker count, does the whole work with so many workers. With ``units``: a
        plain or async function of one text, or an analyzer, which is asked anew each time, past the cache, and gets a
        pool of its own with a slot for every worker.
    units : mapping of str to str, or sequence of str, optional
        The texts; each is worked on once a run, the longest first. Give four times as many as the most workers, else
        workers that have nothing left to do flatten the curve.
    workers : sequence of int, default (1, 2, 3, 4, 6, 8, 12, 16)
        Worker counts to compare; `fit_speedup` needs five.
    repeats : int, default 5
        Timed runs of each count.
    seed : int, default 0
        Makes the order reproducible.
    on_progress : callable, optional
        Called with (runs done, runs in all) after every run.

    Returns
    -------
    pandas.DataFrame
        ``workers`` (int64), ``repeat`` (int64, from 0), ``wall_s`` (float64, seconds), in the order of measurement.

    Raises
    ------
    ConfigurationError
        If a count is below 1, or there are fewer units than workers.
    AnalysisError
        If a unit fails: a curve with failures in it says nothing. The failure is its ``__cause__``.

    Examples
    --------
    >>> import time
    >>> curve = measure_speedup(lambda workers: time.sleep(0.02 / min(workers, 2)), workers=(1, 2, 4), repeats=2)
    >>> sorted(set(curve["workers"]))
    [1, 2, 4]
    """
    counts = _counts(workers)
    repeats = checked_count("repeats", repeats)
    order = random.Random(seed)  # noqa: S311 - an order, not a secret
    plan = [(count, repeat) for repeat in range(repeats) for count in order.sample(counts, len(counts))]
    if not callable(work) and not hasattr(work, "analyze"):
        raise ConfigurationError(f"work={work!r} must be a function or an analyzer")
    with _job(work, units, counts[-1]) as run:
        run(counts[-1])
        records = []
        for done, (count, repeat) in enumerate(plan, start=1):
            started = time.perf_counter()
            run(count)
            records.append({"workers": count, "repeat": repeat, "wall_s": time.perf_counter() - started})
            if on_progress is not None:
                on_progress(done, len(plan))
    return frame(records, SPEEDUP_COLUMNS)


@contextmanager
def _job(
    work: Any, units: Mapping[str, str] | Sequence[str] | None, most: int
) -> Iterator[Callable[[int], None]]:
    """Yield what does the whole work once with a given number of workers."""
    from analysis_kit.analyzers.base import BaseAnalyzer
    from analysis_kit.cache import open_cache
    from analysis_kit.ollama.pool import OllamaConnectionPool

    owner = getattr(work, "__self__", None)
    if isinstance(owner, BaseAnalyzer) and getattr(work, "__name__", "") == "analyze":
        work = owner
    if units is None:
        if isinstance(work, BaseAnalyzer):
            raise ConfigurationError(
                f"{work!r} needs texts to work on: measure_speedup(analyzer, transcript.sections)"
            )
        if inspect.iscoroutinefunction(work):
            # a thread has no event loop yet, so nothing is nested, in a script as in a kernel
            yield lambda count: _all(work, [("the work", count)], 1)
        else:
            yield work
        return
    pairs = _pairs(units)
    if len(pairs) < most:
        raise ConfigurationError(
            f"{len(pairs)} units cannot keep {most} workers busy; give at least {most}, better {4 * most}, or fewer workers"
        )
    pairs.sort(key=lambda pair: -len(pair[1]))
    if not isinstance(work, BaseAnalyzer):
        yield lambda count: _all(work, pairs, count)
        return
    with ExitStack() as stack:
        analyzer = work.with_parts(caching=False)
        cache = stack.enter_context(closing(open_cache("memory:")))
        analyzer.cache = cache  # an analyzer with an `analyze` of its own may look there all the same
        if analyzer.kind == "llm":
            pool = OllamaConnectionPool(pool_size=most, max_overflow=0, hosts=work.pool.hosts)
            stack.callback(pool.shutdown)
            analyzer.pool = pool

        def run(count: int) -> None:
            cache.clear()
            _all(analyzer.analyze, pairs, count)

        yield run


def _counts(workers: object) -> list[int]:
    if isinstance(workers, str) or not isinstance(workers, Iterable):
        raise ConfigurationError(f"workers={workers!r} must be several worker counts, as in (1, 2, 4)")
    counts = sorted({checked_count("a count of workers", count) for count in workers})
    if not counts:
        raise ConfigurationError("workers= is empty: give worker counts, as in (1, 2, 4)")
    return counts


def _pairs(units: object) -> list[tuple[str, Any]]:
    if isinstance(units, Mapping):
        return list(units.items())
    if isinstance(units, Iterable) and not isinstance(units, str):
        return [(str(i), text) for i, text in enumerate(units)]
    hint = ". A transcript has .sections and .speakers." if hasattr(units, "sections") else ""
    raise ConfigurationError(
        f"units must be a mapping name -> text, or texts, got {type(units).__name__}{hint}"
    )


def _all(call: Callable[[Any], Any], pairs: Sequence[tuple[str, Any]], workers: int) -> None:
    failure = drain(call, pairs, workers=workers)
    if failure is not None:
        unit, cause = failure
        raise AnalysisError(
            f"the speedup measurement stopped: {unit!r} failed with {type(cause).__name__}: {cause}; "
            "a curve with failures in it says nothing, so make the work run once first",
            unit=unit,
        ) from cause

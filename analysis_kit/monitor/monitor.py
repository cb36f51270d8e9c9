"""`PerformanceMonitor`: measures operations, listens to the kit's events, and answers where the time went."""

from __future__ import annotations

import heapq
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from analysis_kit import events
from analysis_kit.container import get_container
from analysis_kit.frames import ALERT_COLUMNS, METRIC_COLUMNS, frame
from analysis_kit.monitor.export import write_json
from analysis_kit.monitor.listening import take_in
from analysis_kit.monitor.recorder import Recorder
from analysis_kit.monitor.records import Measurement
from analysis_kit.monitor.stats import OperationStats
from analysis_kit.monitor.summary import find_bottlenecks, html_text, repr_text, summary_text
from analysis_kit.monitor.tables import split_table, stats_table
from analysis_kit.monitor.timing import ForwardedTiming, here

if TYPE_CHECKING:
    import pandas as pd


class PerformanceMonitor(Recorder):
    """Measures how long operations take, and says which are slow and how sure that is.

    Counts, sums and extremes cover all time. Percentiles are exact as long as every duration of the operation is among
    the ``max_metrics`` latest raw ones, which operations share so that a busy one does not push out a rare one; from
    then on they come from a sketch of all time that is within 0.4 %. Everything is bounded: raw measurements, alerts,
    and names (1,000; later ones are counted under "(other operations)").

    Parameters
    ----------
    enabled : bool, default True
        While False, `measure` times nothing. It may be assigned.
    alert_threshold : float, default 5.0
        Seconds; an operation that takes longer raises an alert. ``math.inf`` for none. It may be assigned.
    max_metrics : int, default 10000
        Raw measurements kept.

    Raises
    ------
    ConfigurationError
        If a number is out of range.

    Examples
    --------
    >>> monitor = PerformanceMonitor()
    >>> with monitor.measure("tone", metadata={"words": 12}):
    ...     pass
    >>> monitor.get_stats()["tone"].count
    1
    """

    def handle(self, event: events.Event) -> None:
        """Take in one of the kit's events; ``events.subscribe(monitor.handle)`` has a monitor of your own listen.

        Requests and waits for a slot become operations of their own (``ollama generate``, ``pool wait``) with the
        server's split of the time. A unit of the engine is recorded under its analyzer's name only if nobody has
        measured that name since the last `reset`, because an analyzer that measures itself would count twice; units
        answered from the cache are kept apart as ``<analyzer> (cached)``, so that they do not drag percentiles.
        """
        if self.enabled and not here.forwarding:
            take_in(self, event)

    def get_stats(self) -> dict[str, OperationStats]:
        """Return the statistics of each operation, in order of first use; nothing measured gives an empty dict."""
        return {each.name: each.stats() for each in self.snapshot()}

    def identify_bottlenecks(self, threshold_percentile: float = 0.95) -> list[dict[str, Any]]:
        """Return the slow operations: those whose p95 reaches the given percentile of all durations pooled.

        Parameters
        ----------
        threshold_percentile : float, default 0.95
            From 0 to 1.

        Returns
        -------
        list of dict
            ``operation``, ``avg_time``, ``max_time``, ``p95_time`` (seconds), ``count``, ``percentage_of_total``
            (0 to 100), slowest average first. The total does not count what takes place inside operations.
        """
        return find_bottlenecks(self.snapshot(), threshold_percentile)

    def slowest_operations(self, n: int = 10) -> list[Measurement]:
        """Return the ``n`` slowest single measurements among the raw ones kept, slowest first."""
        return heapq.nlargest(n, self._measurements(), key=lambda each: each.duration_s)

    def _measurements(self) -> list[Measurement]:
        """Return the raw measurements kept, in the order in which they ended."""
        raw = [(each.name, kept) for each in self.snapshot() for kept in each.recent]
        raw.sort(key=lambda pair: pair[1][1])
        return [Measurement.of(name, kept) for name, kept in raw]

    def to_frame(self) -> pd.DataFrame:
        """Return the raw measurements kept, oldest first, with `frames.METRIC_COLUMNS`."""
        return frame((each.to_record() for each in self._measurements()), METRIC_COLUMNS)

    def stats_frame(self) -> pd.DataFrame:
        """Return one line per operation with `frames.STATS_COLUMNS`, then four more.

        ``avg_low_s`` and ``avg_high_s``: 95 % interval of the mean; ``busy_s``: seconds in which at least one was
        running; ``per_busy_s``: how many ended in each such second. These four are about the raw measurements kept.
        """
        return stats_table(self.snapshot())

    def split_frame(self) -> pd.DataFrame:
        """Return where requests spent their time, by operation, with `frames.SPLIT_COLUMNS`, then tokens and rates.

        Sums in seconds over the requests that told the part; NaN where none did. ``tokens_per_s``: tokens written a
        second of writing; ``first_token_s``: mean time to the first token of streamed answers.
        """
        return split_table(self.snapshot())

    def alerts_frame(self) -> pd.DataFrame:
        """Return the latest alerts, oldest first, with `frames.ALERT_COLUMNS`."""
        return frame((alert.to_record() for alert in self.alerts), ALERT_COLUMNS)

    def summary(self) -> str:
        """Return what `print_summary` prints."""
        return summary_text(self.snapshot(), self.alerts, self.alert_count)

    def print_summary(self) -> None:
        """Print totals, top operations, bottlenecks and alerts; times of day are UTC."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        # a console that knows no bullet gets a question mark, not a traceback
        print(self.summary().encode(encoding, "replace").decode(encoding))  # noqa: T201 - printing is its purpose

    def export_to_json(self, path: str | os.PathLike[str]) -> None:
        """Write everything as strict JSON to ``path``, whole or not at all; folders are made.

        Raises
        ------
        ConfigurationError
            If it cannot be written; a file that was there is unchanged.
        """
        write_json(self, path)

    save = export_to_json

    def __repr__(self) -> str:
        return repr_text(self.snapshot(), self.alert_count, enabled=self.enabled)

    def _repr_html_(self) -> str:
        return html_text(self.snapshot(), self.alert_count, enabled=self.enabled)


_shared: PerformanceMonitor | None = None
_listener: PerformanceMonitor | None = None
_stop_listening: Callable[[], None] | None = None
_lock = threading.Lock()  # guards the three above


def get_monitor() -> PerformanceMonitor:
    """Return the process-wide monitor, which listens to the kit's events from its first use on.

    That is the one registered in `get_container`, if any; else one made from the settings
    (``ENABLE_PERFORMANCE_MONITORING``, ``PERFORMANCE_ALERT_THRESHOLD``, ``PERFORMANCE_MAX_METRICS``). In a worker
    process it also tells each measurement as an event, so that the engine can carry it to the parent.

    Examples
    --------
    >>> get_monitor() is get_monitor()
    True
    """
    monitor: PerformanceMonitor = get_container().find(PerformanceMonitor) or _shared or _make_shared()
    wanted = monitor if monitor.enabled else None
    if wanted is not _listener:
        _listen(wanted)
    return monitor


def _make_shared() -> PerformanceMonitor:
    global _shared  # noqa: PLW0603 - the one process-wide monitor
    from analysis_kit.settings import get_settings

    settings = get_settings()
    with _lock:
        if _shared is None:
            _shared = PerformanceMonitor(
                settings.ENABLE_PERFORMANCE_MONITORING,
                settings.PERFORMANCE_ALERT_THRESHOLD,
                settings.PERFORMANCE_MAX_METRICS,
            )
        return _shared


def _listen(monitor: PerformanceMonitor | None) -> None:
    """Have ``monitor`` and no other listen to the kit's events; None for nobody, so that nobody need build them."""
    global _listener, _stop_listening
    import multiprocessing

    with _lock:
        if _stop_listening is not None:
            _stop_listening()
        _listener, _stop_listening = None, None
        if monitor is not None:
            if multiprocessing.parent_process() is not None:
                monitor._timing = ForwardedTiming  # noqa: SLF001
            _listener, _stop_listening = monitor, events.subscribe(monitor.handle)


def reset_monitor() -> None:
    """Forget the process-wide monitor, which stops listening; the next `get_monitor` makes another."""
    global _shared  # noqa: PLW0603
    _listen(None)
    with _lock:
        _shared = None


def _after_fork() -> None:
    """Begin anew in a forked child: the parent's measurements stay the parent's, its threads' locks mean nothing."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    for monitor in (_shared, _listener):
        if monitor is not None:
            monitor._lock, monitor._naming = threading.Lock(), threading.RLock()  # noqa: SLF001
            monitor._timing = ForwardedTiming  # noqa: SLF001
            monitor._forget()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

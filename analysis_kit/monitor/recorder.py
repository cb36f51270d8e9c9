"""The taking in: measurements by name, bounded in every direction, added up in batches off the hot path."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from operator import index
from time import time
from typing import Any, Final, SupportsFloat, SupportsIndex

from analysis_kit.errors import ConfigurationError
from analysis_kit.monitor.records import BATCH, Alert, Kind, Operation, Snapshot
from analysis_kit.monitor.timing import Off, Timing, here

_log = logging.getLogger(__name__)

#: So many names are told apart; further ones are counted together under `OTHER`.
MAX_NAMES: Final = 1000
OTHER: Final = "(other operations)"
_MAX_ALERTS: Final = 1000


class Recorder:
    """What `PerformanceMonitor` measures with and holds; see there."""

    def __init__(
        self,
        enabled: bool = True,  # noqa: FBT001, FBT002 - the source design's signature
        alert_threshold: float = 5.0,
        max_metrics: int = 10_000,
    ) -> None:
        seconds: object = alert_threshold  # a caller without a type checker may pass anything
        if not isinstance(seconds, SupportsFloat) or not float(seconds) > 0:
            raise ConfigurationError(
                f"alert_threshold is {alert_threshold!r}; it must be seconds above 0, or math.inf for no alerts"
            )
        size: object = max_metrics
        if not isinstance(size, SupportsIndex) or index(size) < 1:
            raise ConfigurationError(f"max_metrics is {max_metrics!r}; it must be a whole number from 1 up")
        self.enabled = bool(enabled)
        self.alert_threshold = float(alert_threshold)
        self.max_metrics = int(max_metrics)
        self._timing: type[Timing] = Timing
        self._lock = threading.Lock()  # guards what operations add up, and _kept
        self._naming = threading.RLock()  # guards the exchange and growth of the dictionaries, and the alerts
        self._callbacks: tuple[Callable[[Alert], None], ...] = ()
        self._forget()

    def _forget(self) -> None:
        self._operations: dict[str, Operation] = {}
        self._measured = _Measured(self)
        self._kept = 0
        self._alerts: deque[Alert] = deque(maxlen=_MAX_ALERTS)
        self._alert_count = 0

    def measure(self, name: str, metadata: Mapping[str, Any] | None = None) -> Timing | Off:
        """Time a block (``with``) or each call of a function (``@``); exceptions pass through.

        A body that raises counts as a failure, with the exception's type; so do ``CancelledError`` and
        ``KeyboardInterrupt``, as the operation did not do its work. Operations may be nested; each counts its own whole
        time. As a decorator it also takes coroutine functions (timed until they end) and generator functions (from the
        first item to the last, the consumer's time included).

        Parameters
        ----------
        name : str
            The operation.
        metadata : mapping, optional
            What to know about this call; copied now, shown with the raw measurements.

        Examples
        --------
        >>> monitor = Recorder()
        >>> @monitor.measure("double")
        ... def double(x):
        ...     return 2 * x
        >>> double(4), monitor.snapshot()[0].count
        (8, 1)
        """
        if not self.enabled:
            return Off((self, name, metadata))
        timing = self._timing()
        timing.start = 0.0
        try:
            timing.operation = self._measured[name]
        except TypeError:  # a name that cannot be hashed
            timing.operation = self._measured[str(name)]
        try:
            timing.metadata = None if metadata is None else {**metadata}
        except TypeError as exc:
            raise ConfigurationError(
                f"metadata of {name!r} must be a mapping of names to values, and is {type(metadata).__name__}"
            ) from exc
        return timing

    def record(
        self,
        name: str,
        duration_s: float,
        *,
        error_type: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an operation that was timed elsewhere and ended now.

        Parameters
        ----------
        name : str
        duration_s : float
            Seconds, finite, 0 or more.
        error_type : str, optional
            Kind of failure; by default it succeeded.
        metadata : mapping, optional

        Raises
        ------
        ConfigurationError
            If the duration is none.
        """
        if self.enabled:
            known = None if metadata is None else dict(metadata)
            self._add(self._measured[str(name)], duration_s, error_type, known)

    def _add(
        self, operation: Operation, seconds: float, error: str | None, metadata: dict[str, Any] | None
    ) -> None:
        if not 0 <= seconds < math.inf:
            raise ConfigurationError(
                f"{operation.name!r} cannot have taken {seconds!r} s; a duration is a finite number of seconds from 0 up"
            )
        if error is not None:
            operation.failed = True
        operation.raw.extend((float(seconds), time(), error, here.thread_name, metadata))
        if operation.kind == "operation" and seconds > self.alert_threshold:
            self._alert(operation.name, seconds, metadata)
        operation.left -= 1
        if operation.left <= 0:
            self._settle(operation)

    def _admit(self, name: object, kind: Kind = "operation", *, measured: bool = True) -> Operation:
        """Return the operation of ``name``, made on first sight; of one name too many, the one that stands for all."""
        # lone surrogates cannot be written to any file
        text = str(name).encode("utf-8", "backslashreplace").decode()
        with self._naming:
            operation = self._operations.get(text)
            first = operation is None and len(self._operations) >= MAX_NAMES and OTHER not in self._operations
            if operation is None:
                if len(self._operations) >= MAX_NAMES:
                    text = OTHER
                operation = self._operations.setdefault(text, Operation(text, kind, self))
            if measured and isinstance(name, str) and operation.name != OTHER:
                self._measured[name] = operation
        if first:
            _log.warning(
                "%d operations have been named; further names are counted together as %r. "
                "Put what varies into metadata, not into the name",
                MAX_NAMES,
                OTHER,
                extra={"operations": MAX_NAMES},
            )
        return operation

    def _settle(self, operation: Operation) -> None:
        """Add up what is new, unless another thread is reading or adding up: then it will be done later."""
        operation.left = BATCH
        if self._lock.acquire(blocking=False):
            try:
                if self._operations.get(operation.name) is operation:
                    self._kept += operation.fold()
                    if self._kept > self.max_metrics + max(BATCH, self.max_metrics // 8):
                        self._trim()
                else:  # measured across a reset
                    operation.fold()
                    operation.drop(operation.folded)
            finally:
                self._lock.release()

    def _trim(self) -> None:
        """Drop the oldest raw measurements of those operations that hold most, until ``max_metrics`` are left."""
        excess = self._kept - self.max_metrics
        if excess <= 0:
            return
        held = sorted(self._operations.values(), key=lambda each: -each.folded)
        total = 0
        for many, operation in enumerate(held, 1):
            total += operation.folded
            following = held[many].folded if many < len(held) else 0
            level = max(0, (total - excess) // many)
            if level >= following:
                break
        for operation in held[:many]:
            drop = min(operation.folded - level, excess)
            operation.drop(drop)
            excess -= drop
        self._kept = self.max_metrics

    def reset(self) -> None:
        """Forget everything; what is running at this moment will not be counted. Subscribers to alerts stay."""
        with self._naming, self._lock:
            self._forget()

    def snapshot(self) -> list[Snapshot]:
        """Return a consistent copy of all operations, in order of first use; writers are held up only by the copying."""
        with self._naming, self._lock:
            operations = list(self._operations.values())
            for operation in operations:
                self._kept += operation.fold()
            self._trim()
            return [operation.snapshot() for operation in operations if operation.count]

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The latest alerts (1,000 at most), oldest first."""
        with self._naming:
            return tuple(self._alerts)

    @property
    def alert_count(self) -> int:
        """How many alerts there were since the last `reset`."""
        return self._alert_count

    def on_alert(self, callback: Callable[[Alert], None]) -> Callable[[], None]:
        """Have ``callback`` called with every alert, on the thread that measured; one that fails is logged.

        Returns
        -------
        callable
            Call it to stop.
        """
        with self._naming:
            self._callbacks = (*self._callbacks, callback)

        def stop() -> None:
            with self._naming:
                self._callbacks = tuple(each for each in self._callbacks if each is not callback)

        return stop

    def _alert(self, name: str, seconds: float, metadata: Mapping[str, Any] | None) -> None:
        alert = Alert(name, seconds, self.alert_threshold, datetime.now(UTC), metadata or {})
        with self._naming:
            self._alerts.append(alert)
            self._alert_count += 1
            callbacks = self._callbacks
        facts = {"operation": name, "took_s": seconds, "threshold_s": alert.threshold_s}
        _log.info(
            "%(operation)s took %(took_s).2f s; the alert threshold is %(threshold_s).2f s",
            facts,
            extra=facts,
        )
        if here.alerting:  # the callback itself measures something slow
            return
        here.alerting = True
        try:
            for callback in callbacks:
                try:
                    callback(alert)
                except Exception:  # noqa: BLE001 - a subscriber is a stranger, and must not break what it watches
                    _log.exception("a subscriber to alerts failed on %r", name, extra={"operation": name})
        finally:
            here.alerting = False


class _Measured(dict[str, Operation]):
    """Name -> operation, for names that were measured by hand; a name not seen before is admitted on the way."""

    __slots__ = ("_monitor",)

    def __init__(self, monitor: Recorder) -> None:
        super().__init__()
        self._monitor = monitor

    def __missing__(self, name: object) -> Operation:
        return self._monitor._admit(name)  # noqa: SLF001 - its own table

"""Ask once: identical questions that are in flight at the same time share one answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from analysis_kit.cancellation import current_token

T = TypeVar("T")


class _Flight(Generic[T]):
    __slots__ = ("error", "landed", "value")

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.value: T | None = None
        self.error: BaseException | None = None


class InFlight(Generic[T]):
    """Lets one thread work on a key while others that want the same wait for its answer.

    A leader that was cancelled, or hit a time limit of its own, does not decide for the others: one of them takes over.

    Examples
    --------
    >>> InFlight().once("key", lambda: 42)
    42
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _flights
        self._flights: dict[str, _Flight[T]] = {}

    def once(self, key: str, work: Callable[[], T]) -> T:
        """Return ``work()``, or the answer of the thread that is working on ``key`` already."""
        while True:
            with self._lock:
                flight = self._flights.get(key)
                leading = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight()
            if leading:
                return self._lead(key, flight, work)
            self._wait(flight)
            error = flight.error
            if error is None:
                return flight.value  # type: ignore[return-value] # a landed flight without error holds its value
            if isinstance(error, Exception) and not isinstance(error, TimeoutError):
                raise error

    def _lead(self, key: str, flight: _Flight[T], work: Callable[[], T]) -> T:
        try:
            flight.value = work()
        except BaseException as exc:
            flight.error = exc
            raise
        finally:
            with self._lock:
                del self._flights[key]
            flight.landed.set()
        return flight.value

    @staticmethod
    def _wait(flight: _Flight[T]) -> None:
        token = current_token.get()
        if token is None:
            flight.landed.wait()
            return
        # an event cannot wait for two things; a look at the token every 50 ms keeps a cancel well within its second
        while not flight.landed.wait(0.05):
            token.raise_if_cancelled()

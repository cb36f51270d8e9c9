"""Retries: `exponential_backoff_retry` and `call_with_retry`, on tenacity.

What is worth repeating is decided by `is_transient`. Waits have full jitter (anything from 0 to ``base_s * 2**n``, at
most ``max_wait_s``), so that many callers who failed together do not come back together; a server's Retry-After comes
on top, within the same bound. A cancelled unit leaves its backoff at once. A retried call inside another one is not
retried itself, or three attempts would become nine. A `RetryBudget` bounds what retries may add up to when all fails.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from analysis_kit import cancellation, errors, events

if TYPE_CHECKING:
    import tenacity

P = ParamSpec("P")
T = TypeVar("T")
RetryOn = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]

_log = logging.getLogger(__name__)
_REQUEST_TIMEOUT, _TOO_EARLY, _TOO_MANY = 408, 425, 429
_REDIRECTS, _SERVER_ERRORS = 300, 500

_ALWAYS = (errors.ServerBusyError, errors.OllamaUnreachableError, errors.StreamBrokenError)
# OllamaTimeoutError: the server had its whole read limit; asking again adds to the load that made it late.
_NEVER: tuple[type[Exception], ...] = (
    *(errors.ConfigurationError, errors.TranscriptError, errors.AnswerError, errors.ModelNotFoundError),
    *(errors.OllamaTimeoutError, errors.PoolError, errors.InsufficientDataError, errors.ContainerError),
    *(errors.ReportError, TypeError, AttributeError, NameError, LookupError, ImportError, SyntaxError),
    *(AssertionError, NotImplementedError, RecursionError, MemoryError, UnicodeError, ArithmeticError),
    *(FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError),
)

_attempts: ContextVar[int] = ContextVar("analysis_kit_attempts", default=1)
_retrying: ContextVar[bool] = ContextVar("analysis_kit_retrying", default=False)


class RetryBudget:
    """Bounds retries in sum: ``reserve`` at once, and ``ratio`` for each call and ``refill_per_s`` for each second after.

    With the defaults, 600 calls to a server that is down cost at most 1,000 requests and one a second, not 1,800.

    Parameters
    ----------
    ratio : float, default 0.5
        Retries earned by each call.
    reserve : float, default 100
        Retries that may be spent before any is earned, and the most that can be saved up.
    refill_per_s : float, default 1.0
        Retries earned by each second.
    """

    def __init__(self, *, ratio: float = 0.5, reserve: float = 100.0, refill_per_s: float = 1.0) -> None:
        self.ratio = ratio
        self.reserve = reserve
        self.refill_per_s = refill_per_s
        self._left = reserve
        self._seen = time.monotonic()
        self._lock = threading.Lock()  # guards _left and _seen

    def _earn(self, amount: float) -> None:
        now = time.monotonic()
        self._left = min(self.reserve, self._left + amount + (now - self._seen) * self.refill_per_s)
        self._seen = now

    def call(self) -> None:
        """Note a call's first attempt."""
        with self._lock:
            self._earn(self.ratio)

    def take(self) -> bool:
        """Spend one retry; False if there is none."""
        with self._lock:
            self._earn(0.0)
            if self._left < 1.0:
                return False
            self._left -= 1.0
            return True


shared_budget = RetryBudget()
"""The budget of every retried call of this process that names no other."""


def is_transient(exc: BaseException) -> bool:
    """Return whether the same call, repeated a little later, may well go better.

    Transient are a busy or unreachable server, a broken stream, 5xx, 408 and 429, and failures of kinds this kit does
    not know (also ``OSError``, ``ConnectionError``, ``TimeoutError``, ``RuntimeError``, ``ValueError`` of one's own).
    Permanent are a missing model, every other 4xx, a 500 that blames the request, and a redirect; an answer that was
    cut, empty or invalid, because at temperature 0 with a fixed seed the same question gets the same answer; a read
    limit that ran out; configuration; and errors of programming (``TypeError``, ``KeyError``, ``AssertionError`` and
    their like). A cancellation is never retried.
    """
    if not isinstance(exc, Exception):
        return False
    if isinstance(exc, _ALWAYS):
        return True
    if isinstance(exc, _NEVER):
        return False
    if isinstance(exc, errors.OllamaError) and exc.request_is_wrong:
        return False
    status = exc.status if isinstance(exc, errors.OllamaError) else _status_of(exc)
    if isinstance(status, int) and _REDIRECTS <= status < _SERVER_ERRORS:
        return status in {_REQUEST_TIMEOUT, _TOO_EARLY, _TOO_MANY}
    if isinstance(exc, errors.AnalysisError):
        return exc.__cause__ is not None and is_transient(exc.__cause__)
    return True


def _status_of(exc: Exception) -> object:
    """Return the HTTP status that requests and httpx put on their errors' response, else None."""
    return getattr(getattr(exc, "response", None), "status_code", None)


def attempts() -> int:
    """Return how many attempts the last retried call of this context (thread or task) made; 1 if there was none."""
    return _attempts.get()


def new_scope() -> None:
    """Start counting anew in this context, and let calls in it be retried on their own again.

    The engine calls it for the context of its units, which may themselves run inside a retried call.
    """
    _attempts.set(1)
    _retrying.set(False)


class _Retry:
    """One call's way through its attempts; made anew for each call, because it counts."""

    def __init__(self, name: str, policy: _Policy) -> None:
        self.name = name
        self.policy = policy
        self.began = time.monotonic()
        self.number = 0
        self.refused = False

    def attempt(self) -> None:
        """Count an attempt that begins now."""
        self.number += 1
        _attempts.set(self.number)
        if self.policy.on_attempt is not None:
            self.policy.on_attempt(self.number)

    def options(self) -> dict[str, Any]:
        """Return what tenacity's controllers, plain and async, take in common."""
        import tenacity

        policy = self.policy
        stop: Any = tenacity.stop_after_attempt(policy.max_attempts)
        if policy.deadline_s is not None:
            stop |= tenacity.stop_before_delay(policy.deadline_s)
        backoff = tenacity.wait_random_exponential(multiplier=policy.base_s, max=policy.max_wait_s)
        return {
            "stop": stop | self._no_leave,
            "wait": lambda state: min(policy.max_wait_s, backoff(state) + _asked_s(state)),
            "retry": tenacity.retry_if_exception(policy.repeats),
            "before_sleep": self._tell,
            "reraise": True,
        }

    def _no_leave(self, state: tenacity.RetryCallState) -> bool:
        """Stop where the unit's own time is over before the wait is, and where the budget is spent. Asked last."""
        token = cancellation.current_token.get()
        left_s = token.remaining_s() if token is not None else None
        if left_s is not None and state.upcoming_sleep >= left_s:
            return True
        self.refused = not (self.policy.budget or shared_budget).take()
        return self.refused

    def _tell(self, state: tenacity.RetryCallState) -> None:
        exc = state.outcome.exception() if state.outcome is not None else None
        wait_s, kind = state.upcoming_sleep, type(exc).__name__
        facts = {"operation": self.name, "attempt": self.number, "attempts": self.policy.max_attempts}
        facts |= {"wait_s": wait_s, "error_type": kind, "error": str(exc)}
        text = (
            "%(operation)s: attempt %(attempt)d of at most %(attempts)d failed (%(error_type)s: %(error)s); "
        )
        _log.info(text + "the next follows in %(wait_s).2f s", facts, extra=facts)
        events.emit(events.RetryScheduled(self.name, self.number, wait_s, kind))

    def note(self, exc: Exception) -> None:
        """Add to the final error what was tried."""
        took_s = time.monotonic() - self.began
        if self.number > 1:
            exc.add_note(f"{self.name} gave up after {self.number} attempts in {took_s:.2f} s.")
        if self.refused:
            why = "this process's retry budget is spent (too much fails at once)"
            exc.add_note(f"{self.name} was not tried again: {why}.")


@dataclass(frozen=True, slots=True)
class _Policy:
    """The options of a retried call, checked once."""

    max_attempts: int
    base_s: float
    max_wait_s: float
    deadline_s: float | None
    retry_on: RetryOn | None
    budget: RetryBudget | None
    on_attempt: Callable[[int], None] | None

    def __post_init__(self) -> None:
        count = self.max_attempts
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise errors.ConfigurationError(f"max_attempts={count!r} must be a whole number, 1 or more.")
        for name in ("base_s", "max_wait_s", "deadline_s"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise errors.ConfigurationError(f"{name}={value!r} must be 0 or more seconds.")

    def repeats(self, exc: BaseException) -> bool:
        """Return whether the policy allows another attempt after ``exc``."""
        token = cancellation.current_token.get()
        if not isinstance(exc, Exception) or (token is not None and token.cancelled):
            return False
        if self.retry_on is None:
            return is_transient(exc)
        if isinstance(self.retry_on, (type, tuple)):
            return isinstance(exc, self.retry_on)
        return bool(self.retry_on(exc))

    def run(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call ``fn`` until it succeeds or the policy ends it."""
        if _retrying.get():
            return fn(*args, **kwargs)
        import tenacity

        retry = _Retry(_name(fn), self)

        def attempt() -> T:
            retry.attempt()
            return fn(*args, **kwargs)

        self._enter()
        try:
            return tenacity.Retrying(**retry.options(), sleep=cancellation.sleep)(attempt)
        except Exception as exc:
            retry.note(exc)
            raise
        finally:
            _retrying.set(False)

    async def arun(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do the same for an async function."""
        if _retrying.get():
            return await fn(*args, **kwargs)
        import tenacity

        retry = _Retry(_name(fn), self)

        async def attempt() -> Any:
            retry.attempt()
            return await fn(*args, **kwargs)

        self._enter()
        try:
            return await tenacity.AsyncRetrying(**retry.options(), sleep=asyncio.sleep)(attempt)
        except Exception as exc:
            retry.note(exc)
            raise
        finally:
            _retrying.set(False)

    def _enter(self) -> None:
        (self.budget or shared_budget).call()
        _retrying.set(True)


def _asked_s(state: tenacity.RetryCallState) -> float:
    """Return the seconds that the server wants to be left alone, by the failed attempt's error; 0 if it says none."""
    exc = state.outcome.exception() if state.outcome is not None else None
    if isinstance(exc, errors.AnalysisError):
        exc = exc.__cause__
    return getattr(exc, "retry_after_s", None) or 0.0


def _name(fn: Callable[..., Any]) -> str:
    return str(getattr(fn, "__qualname__", type(fn).__qualname__))


@overload
def exponential_backoff_retry(max_attempts: Callable[P, T]) -> Callable[P, T]: ...
@overload
def exponential_backoff_retry(
    max_attempts: int = ...,
    *,
    base_s: float = ...,
    max_wait_s: float = ...,
    deadline_s: float | None = ...,
    retry_on: RetryOn | None = ...,
    budget: RetryBudget | None = ...,
    on_attempt: Callable[[int], None] | None = ...,
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
def exponential_backoff_retry(
    max_attempts: int | Callable[P, T] = 3,
    *,
    base_s: float = 0.5,
    max_wait_s: float = 30.0,
    deadline_s: float | None = None,
    retry_on: RetryOn | None = None,
    budget: RetryBudget | None = None,
    on_attempt: Callable[[int], None] | None = None,
) -> Any:
    """Have a plain or async function repeated when it fails in a way that may pass.

    Parameters
    ----------
    max_attempts : int, default 3
        Calls in all, the first included.
    base_s, max_wait_s : float, default 0.5 and 30.0
        The wait before the n-th repetition is drawn evenly from 0 to ``min(max_wait_s, base_s * 2**(n-1))`` seconds,
        after those that a busy server asked for; no wait is longer than ``max_wait_s``.
    deadline_s : float, optional
        No attempt begins later than so many seconds after the first did. An attempt that runs is not cut off.
    retry_on : exception type, tuple of them, or callable, optional
        What to repeat, in place of `is_transient`; a callable is given the exception.
    budget : RetryBudget, optional
        Bounds retries in sum; by default one budget serves the whole process.
    on_attempt : callable, optional
        Called with the attempt's number, from 1, as each begins.

    Returns
    -------
    callable
        The decorated function. It raises the last attempt's own error, with a note on how often it was tried.

    Raises
    ------
    ConfigurationError
        If ``max_attempts`` is below 1 or a time below 0, or the function is a generator function.

    Examples
    --------
    >>> answers = iter([OSError("reset"), "fine"])
    >>> @exponential_backoff_retry(max_attempts=3, base_s=0.001)
    ... def ask():
    ...     answer = next(answers)
    ...     if isinstance(answer, Exception):
    ...         raise answer
    ...     return answer
    >>> ask(), attempts()
    ('fine', 2)
    """
    if callable(max_attempts):  # written as a bare @exponential_backoff_retry
        return exponential_backoff_retry()(max_attempts)
    policy = _Policy(max_attempts, base_s, max_wait_s, deadline_s, retry_on, budget, on_attempt)

    def decorate(fn: Callable[P, T]) -> Callable[P, T]:
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            why = "it fails while it is read, where no call can be repeated; decorate what it calls for each item"
            raise errors.ConfigurationError(f"{_name(fn)} is a generator function: {why}.")
        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def waiting(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await policy.arun(fn, *args, **kwargs)

            return cast("Callable[P, T]", waiting)

        @functools.wraps(fn)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> T:
            return policy.run(fn, *args, **kwargs)

        return blocking

    return decorate


def call_with_retry(
    fn: Callable[..., T],
    *args: Any,
    max_attempts: int = 3,
    base_s: float = 0.5,
    max_wait_s: float = 30.0,
    deadline_s: float | None = None,
    retry_on: RetryOn | None = None,
    budget: RetryBudget | None = None,
    on_attempt: Callable[[int], None] | None = None,
) -> T:
    """Call the plain function ``fn`` with ``args`` under the options of `exponential_backoff_retry`."""
    policy = _Policy(max_attempts, base_s, max_wait_s, deadline_s, retry_on, budget, on_attempt)
    return policy.run(fn, *args)

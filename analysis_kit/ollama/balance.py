"""Many hosts: what each is seen to do, which one is next, and how one that fails is set aside and tried again."""

from __future__ import annotations

import functools
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from analysis_kit.cancellation import CancelToken, call_side_by_side, current_token
from analysis_kit.errors import (
    AnalysisKitError,
    AnswerError,
    ModelNotFoundError,
    OllamaError,
    OllamaUnreachableError,
)
from analysis_kit.ollama.adaptive import AdaptiveLimit
from analysis_kit.ollama.client import OllamaClient, connectable
from analysis_kit.ollama.host import EMBEDDED
from analysis_kit.ollama.names import same_model
from analysis_kit.ollama.reply import ModelInfo, Reply

_log = logging.getLogger(__name__)

#: The pause of a host that failed, in seconds: doubled each time, up to the longest, and shortened by chance.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
#: What a host has is asked again after so many seconds; whether it is there at all is answered within the other.
SHELF_S, PROBE_S = 60.0, 3.0

_SMOOTHING = 0.2


class Host:
    """One host of a pool.

    Attributes
    ----------
    name : str
        Its base URL, or ``embedded``.
    limit : AdaptiveLimit
        The cap found from its latency.
    out : int
        Slots that callers hold on it; the pool's lock guards it.
    service_s : float
        Seconds a request takes there, queueing and loading not counted, as a running mean; NaN before the first.
    served, failed : int
        Requests answered, and failures of the host itself.
    """

    def __init__(self, name: str, *, api_key: str | None) -> None:
        self.name = name
        self.limit = AdaptiveLimit()
        self._url = None if name == EMBEDDED else name
        self.out = 0
        self.service_s = math.nan
        self.served = 0
        self.failed = 0
        self.last_error = ""
        self.away = False  # whether its last failure was that nothing answers there
        self._api_key = api_key
        self._lock = threading.Lock()  # guards all figures but `out`
        self._probing = threading.Lock()  # held by the one caller who asks whether the host is back
        self._failures = 0  # in a row
        self._lost = False  # whether it was said that it is away
        self._until = 0.0
        self._models: tuple[str, ...] | None = None
        self._loaded: tuple[str, ...] = ()
        self._asked = self._probed = -math.inf

    @property
    def up(self) -> bool:
        """Whether it is not set aside."""
        return self._failures == 0

    @property
    def due(self) -> bool:
        """Whether its pause is over."""
        return time.monotonic() >= self._until

    def answered(self, reply: Reply) -> None:
        """Note an answer."""
        queued_s = 0.0 if math.isnan(reply.queue_s) else reply.queue_s
        loaded_s = 0.0 if math.isnan(reply.load_s) else reply.load_s
        service_s = max(0.0, reply.elapsed_s - queued_s - loaded_s)
        with self._lock:
            self.served += 1
            self._failures = 0
            self._lost = False
            self._url = reply.host
            known = not math.isnan(self.service_s)
            self.service_s = (
                self.service_s + _SMOOTHING * (service_s - self.service_s) if known else service_s
            )
            if self._models is not None and not _has(self._loaded, reply.model):
                self._loaded = (*self._loaded, reply.model)

    def fail(self, error: OllamaError | AnswerError) -> None:
        """Set it aside for a while, twice as long as the last time; a missing model is only noted."""
        with self._lock:
            self.last_error, self.away = str(error), isinstance(error, OllamaUnreachableError)
            if isinstance(error, ModelNotFoundError):
                self._asked = -math.inf
                return
            self.failed += 1
            lost = self.away and self.served > 0 and not self._lost
            self._lost = self._lost or lost
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._failures)
            self._failures += 1
            self._until = time.monotonic() + pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads, hides nothing
        if lost:
            facts = {"host": self.name, "error": str(error)}
            _log.warning(
                "%(host)s has answered before and is lost now; it is asked again: %(error)s",
                facts,
                extra=facts,
            )

    def probe(self, *, wait: bool) -> bool:
        """Return whether it answers; if so it is back, else its pause grows.

        One caller asks. The others hear False at once, or, with ``wait``, what that one has found.
        """
        if not self._probing.acquire(blocking=wait, timeout=2 * PROBE_S if wait else -1):
            return False
        try:
            if self.up or time.monotonic() - self._probed < FIRST_PAUSE_S:
                return self.up
            self._probed = time.monotonic()
            with self.visitor() as client:
                client.version()
        except (OllamaError, AnswerError) as exc:
            self.fail(exc)
            return False
        else:
            with self._lock:
                self._failures = 0
                self._lost = False
                self._asked = -math.inf  # it may have come back with other models
            return True
        finally:
            self._probing.release()

    def stale(self, older_s: float) -> bool:
        """Return whether what it has was asked longer ago than that; who hears so is the one to `look`."""
        with self._lock:
            now = time.monotonic()
            if now - self._asked < older_s:
                return False
            self._asked = now
            return True

    def look(self) -> None:
        """Ask which models it has and has loaded; what fails there sets it aside."""
        try:
            with self.visitor() as client:
                models, loaded = _names(client.tags()), _names(client.ps())
        except (OllamaError, AnswerError) as exc:
            self.fail(exc)
            return
        except BaseException:
            self._asked = -math.inf  # a cancel: it is not known yet
            raise
        with self._lock:
            self._models, self._loaded = models, loaded

    def visitor(self) -> OllamaClient:
        """Return a client beside the pool's slots, for short questions."""
        url = connectable(self.name)
        return OllamaClient(url, connect_timeout_s=PROBE_S, read_timeout_s=PROBE_S, api_key=self._api_key)

    def answers(self) -> bool:
        """Return whether it answers now; an embedded server that was not started does not."""
        url = self._url
        if url is None:
            return False
        try:
            with OllamaClient(
                url, connect_timeout_s=PROBE_S, read_timeout_s=PROBE_S, api_key=self._api_key
            ) as client:
                client.version()
        except AnalysisKitError:
            return False
        return True

    def after_fork(self) -> None:
        """Begin anew in a forked child, where no other thread holds a lock or a request."""
        self._lock, self._probing = threading.Lock(), threading.Lock()
        self.limit = AdaptiveLimit()

    def has(self, model: str) -> bool:
        """Return whether it has ``model``, as far as is known."""
        return self._models is None or _has(self._models, model)

    def rank(self, model: str | None, usual_s: float) -> tuple[bool, bool, float]:
        """Return what orders hosts: free before full, of the free those with the model loaded, then seconds until done."""
        slots = max(1.0, self.limit.slots or 1.0)
        service_s = usual_s if math.isnan(self.service_s) else self.service_s
        loaded = model is None or self._models is None or _has(self._loaded, model)
        full = self.out >= slots
        return full, not (full or loaded), (self.out + 1) * service_s / slots

    def stats(self) -> dict[str, Any]:
        """Return its figures as JSON values."""
        return {
            "host": self.name,
            "active": self.out,
            "in_flight": self.limit.in_flight,
            "limit": self.limit.limit,
            "slots": self.limit.slots,
            "served": self.served,
            "failed": self.failed,
            "service_s": None if math.isnan(self.service_s) else self.service_s,
            "up": self.up,
            "away": self.away and not self.up,
            "last_error": self.last_error,
        }


def choose(hosts: Sequence[Host], model: str | None, *, besides: Iterable[Host] = ()) -> Host | None:
    """Return the host for the next request, or None if none of those left is up and has ``model``.

    A host with a free slot comes before one where the request would queue; among these one that has the model in memory;
    among these the one that would be done with it first, by its own speed. Unknown slots count as one, as Ollama's
    default is.
    """
    left = [host for host in hosts if host not in besides and host.up and (model is None or host.has(model))]
    if not left:
        return None
    known = [host.service_s for host in left if not math.isnan(host.service_s)]
    usual_s = sum(known) / len(known) if known else 1.0
    return min(left, key=lambda host: host.rank(model, usual_s))


def look_at(hosts: Sequence[Host], *, older_s: float = SHELF_S) -> None:
    """Ask the hosts that are up what they have, where that was not asked for ``older_s`` seconds: all at the same time."""
    _each(lambda host: host.look(), [host for host in hosts if host.up and host.stale(older_s)])


def revive(hosts: Sequence[Host]) -> None:
    """Ask the hosts that were set aside and whose pause is over whether they are back; all of them, if none is up."""
    none_up = not any(host.up for host in hosts)
    _each(
        lambda host: host.probe(wait=none_up),
        [host for host in hosts if not host.up and (host.due or none_up)],
    )


def _each(ask: Callable[[Host], object], hosts: Sequence[Host]) -> None:
    """Ask each host on a thread of its own, so that those which are away cost one limit together and not one each."""
    if len(hosts) < 2:  # noqa: PLR2004
        for host in hosts:
            ask(host)
        return
    token = CancelToken(parent=current_token.get())
    failures: list[BaseException] = []

    def work(host: Host) -> None:
        current_token.set(token)
        try:
            ask(host)
        except BaseException as exc:  # noqa: BLE001 - raised below, where the answer is wanted
            failures.append(exc)

    try:
        call_side_by_side([functools.partial(work, host) for host in hosts], "host")
    except BaseException:
        token.cancel()
        raise
    finally:
        token.close()
    if failures:
        raise failures[0]


def nobody(hosts: Sequence[Host], model: str | None) -> OllamaError:
    """Return the error for "no host can": each with its last failure."""
    up = [host for host in hosts if host.up]
    if up and model is not None:
        names = ", ".join(host.name for host in up)
        return ModelNotFoundError(
            f"none of the hosts that answer has model {model!r} ({names}); get it with: ollama pull {model}",
            model=model,
        )
    each = "; ".join(f"{host.name}: {host.last_error or 'not asked yet'}" for host in hosts)
    return OllamaUnreachableError(f"none of the {len(hosts)} hosts answers. {each}", host=hosts[0].name)


def is_host_failure(error: OllamaError) -> bool:
    """Return whether ``error`` speaks against the host, so that another one may do better."""
    if isinstance(error, ModelNotFoundError):
        return True
    if error.request_is_wrong:
        return False
    return error.status is None or error.status >= 500 or error.status in (200, 404, 429)  # noqa: PLR2004


def _names(models: Iterable[ModelInfo]) -> tuple[str, ...]:
    return tuple(info.name for info in models)


def _has(names: Iterable[str], model: str) -> bool:
    return any(same_model(name, model) for name in names)

"""`OllamaConnectionPool`: slots over one or many hosts, first come, first served.

The way through it without waiting takes no lock: a deque's ``pop`` and ``append`` are atomic. The order of steps matters
there: who returns a slot appends it and then looks for waiters; who waits joins the queue and then looks for slots. So one
of the two sees the other.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Self

from analysis_kit import events
from analysis_kit.cancellation import current_token
from analysis_kit.errors import (
    ConfigurationError,
    OllamaError,
    PoolClosedError,
    PoolError,
    PoolTimeoutError,
)
from analysis_kit.ollama import pool_view
from analysis_kit.ollama.balance import Host, choose, is_host_failure, nobody, revive
from analysis_kit.ollama.client import OllamaClient, connectable
from analysis_kit.ollama.host import resolve_hosts
from analysis_kit.ollama.slots import AsyncWaiter, Lease, Slot, Waiter

_log = logging.getLogger(__name__)

#: A connection's life ends somewhere in the last tenth of ``max_age_s``, so that those born together do not die together.
_JITTER = 0.1


class OllamaConnectionPool:
    """Connections to Ollama servers, shared by threads and event loops.

    A slot owns one client with one connection, opened on first use. After an abort or a failed connection the slot's
    client is replaced. With several hosts a request goes where it will be done first, and moves on once if its host
    fails; a failing host is set aside with growing pauses.

    Parameters
    ----------
    pool_size : int, default 4
        Slots that stay, over all hosts.
    max_overflow : int, default 2
        Slots beyond them while they are needed.
    timeout : float, default 30.0
        Seconds that a caller waits for a slot. Inside a run of the kit the run's own deadline holds instead.
    recycle_after : int, default 100
        Uses after which a slot's connection is replaced.
    hosts : str or sequence of str, optional
        As OLLAMA_HOST: one or several, or ``embedded``; default OLLAMA_HOST.
    connect_timeout_s, read_timeout_s, load_timeout_s : float
        As `OllamaClient`.
    max_age_s : float, default 3600.0
        Seconds after which a slot's connection is replaced.
    pre_ping : bool, default False
        Ask the server for its version before a used connection is handed out, and replace the connection if that fails.
    max_waiting : int, optional
        Callers that may wait at once; one more fails at once.
    leak_after_s : float, default 900.0
        A slot held longer is reported in one warning (at the pool's next activity) and counted.
    name : str, default "ollama"
        Names the pool in messages and events.
    model, options, keep_alive
        As `OllamaClient`.
    api_key : str or mapping, optional
        The key of the one host, or base URL -> key.

    Raises
    ------
    ConfigurationError
        Naming the argument, its value and what is allowed.

    Examples
    --------
    >>> pool = OllamaConnectionPool(pool_size=4, max_overflow=2, timeout=30.0, recycle_after=100)
    >>> pool.get_stats()["available_connections"]
    4
    >>> pool.shutdown()
    """

    def __init__(
        self,
        pool_size: int = 4,
        max_overflow: int = 2,
        timeout: float = 30.0,
        recycle_after: int = 100,
        *,
        hosts: str | Sequence[str] | None = None,
        connect_timeout_s: float = 3.0,
        read_timeout_s: float = 600.0,
        load_timeout_s: float = 300.0,
        max_age_s: float = 3600.0,
        pre_ping: bool = False,
        max_waiting: int | None = None,
        leak_after_s: float = 900.0,
        name: str = "ollama",
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
        api_key: str | Mapping[str, str] | None = None,
        keep_alive: str | float | None = None,
    ) -> None:
        _check("pool_size", pool_size, least=1)
        _check("max_overflow", max_overflow, least=0)
        _check("recycle_after", recycle_after, least=1)
        _check("max_waiting", 0 if max_waiting is None else max_waiting, least=0)
        for argument, value in {"timeout": timeout, "max_age_s": max_age_s, "leak_after_s": leak_after_s}.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ConfigurationError(f"{argument}={value!r}: use a number of seconds above 0")
        self.name = name
        self.hosts = resolve_hosts(hosts)
        self.pool_size = pool_size
        self.max_overflow = max_overflow
        self.timeout = timeout
        self.recycle_after = recycle_after
        self.max_waiting = max_waiting
        self._max_age_s = max_age_s
        self._pre_ping = pre_ping
        self._leak_after_s = leak_after_s
        self._model = model
        self._client_options: dict[str, Any] = {
            "connect_timeout_s": connect_timeout_s,
            "read_timeout_s": read_timeout_s,
            "load_timeout_s": load_timeout_s,
            "model": model,
            "options": options,
            "keep_alive": keep_alive,
        }
        if isinstance(api_key, str) and len(self.hosts) > 1:
            raise ConfigurationError(
                f"api_key= is one key for {len(self.hosts)} hosts; give a mapping base URL -> key"
            )
        self._keys = {self.hosts[0]: api_key} if isinstance(api_key, str) else dict(api_key or {})
        self._hosts = tuple(Host(host, api_key=self._keys.get(host)) for host in self.hosts)
        self._plain = len(self._hosts) == 1 and not pre_ping
        # guards _total, _slots, _waiters' order, hosts' `out`, the counters; no I/O and no strange code under it
        self._lock = threading.Lock()
        self._idle: deque[Slot] = deque()
        self._waiters: deque[Waiter] = deque()
        self._slots: set[Slot] = set()
        self._total = 0
        self._closed = False
        self._empty = threading.Event()
        self._look_at = math.inf
        self._counts = dict.fromkeys(("created", "recycled", "discarded", "timeouts", "waits", "leaked"), 0)
        self._past_uses = 0
        self._past_use_s = self._longest_use_s = self._wait_s = self._longest_wait_s = 0.0
        self._client_for(self._hosts[0]).close()  # what is wrong with the arguments shows here
        _pools.add(self)

    # taking and giving back
    def get_connection(
        self, *, timeout: float | None = None, model: str | None = None, operation: str = ""
    ) -> Lease:
        """Return a context manager that yields an `OllamaClient`, for the caller alone while the block runs.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a slot; default the pool's.
        model : str, optional
            With several hosts: one that has it is chosen.
        operation : str, default ""
            What the slot is for, for the message of a timeout.

        Raises
        ------
        PoolTimeoutError
            On entering, if no slot comes free in time; the message names every holder.
        PoolClosedError
            If the pool was shut down.
        PoolError
            If ``max_waiting`` callers wait already.
        OllamaUnreachableError, ModelNotFoundError
            With several hosts, if none answers or none has the model.
        """
        return Lease(self, timeout, model, operation)

    def acquire(self, *, timeout: float | None = None, model: str | None = None, operation: str = "") -> Lease:
        """Return the twin of `get_connection` for ``async with``: it never blocks the loop, and a cancel loses no slot.

        The client's calls block; run them with ``asyncio.to_thread``.
        """
        return Lease(self, timeout, model, operation)

    def _pop(self) -> Slot | None:
        if not self._waiters:
            try:
                return self._idle.pop()
            except IndexError:
                return None
        return None

    def _put(self, slot: Slot) -> None:
        calls = slot.client.calls
        if not (calls.fit and calls.idle):
            self._renew(slot, "discarded")
        elif slot.uses >= slot.worn_at:
            self._renew(slot, "recycled")
        if len(self._hosts) > 1:
            with self._lock:
                slot.host.out -= 1
        self._free(slot)

    def _free(self, slot: Slot) -> None:
        self._idle.append(slot)
        if self._waiters or self._total > self.pool_size or self._closed:
            self._settle()

    def _settle(self) -> None:
        """Give what is free to who waits, and close what is too much."""
        surplus: list[Slot] = []
        with self._lock:
            while self._waiters and not self._closed:
                if self._idle:
                    self._waiters.popleft().give(self._idle.pop())
                elif self._total < self.pool_size + self.max_overflow:
                    self._total += 1
                    self._waiters.popleft().give(None)
                else:
                    break
            while self._idle and (self._closed or self._total > self.pool_size):
                slot = self._idle.popleft()
                surplus.append(slot)
                self._forget(slot)
        for slot in surplus:
            slot.client.close()

    def _forget(self, slot: Slot) -> None:
        self._slots.discard(slot)
        self._past_uses += slot.uses
        self._past_use_s += slot.use_s
        self._longest_use_s = max(self._longest_use_s, slot.longest_s)
        self._total -= 1
        if self._total <= 0:
            self._empty.set()

    def _wait(self, timeout_s: float | None) -> tuple[Slot, float]:
        began = time.monotonic()
        waiter = Waiter()
        slot = self._queue(waiter)
        if slot is not None:
            return slot, 0.0
        token = current_token.get()
        limit_s = self._limit_s(timeout_s, bounded=token is not None)
        try:
            if not waiter.ready:
                waiter.wait(limit_s, token)
        except BaseException:
            self._withdraw(waiter)
            raise
        return self._got(waiter, began, limit_s)

    async def _wait_async(self, timeout_s: float | None) -> tuple[Slot, float]:
        began = time.monotonic()
        waiter = AsyncWaiter()
        slot = self._queue(waiter)
        if slot is not None:
            return slot, 0.0
        token = current_token.get()
        limit_s = self._limit_s(timeout_s, bounded=token is not None)
        try:
            if not waiter.ready:
                if token is None:
                    await waiter.wait_async(limit_s)
                else:
                    with token.on_cancel(waiter.wake):
                        await waiter.wait_async(limit_s)
        except BaseException:
            self._withdraw(waiter)
            raise
        return self._got(waiter, began, limit_s)

    def _queue(self, waiter: Waiter) -> Slot | None:
        """Return a slot if there is one after all; else ``waiter`` is in the queue, or has leave to make one."""
        with self._lock:
            if self._closed:
                raise PoolClosedError(f"the pool {self.name!r} was shut down; make a new one")
            if not self._waiters and self._total < self.pool_size + self.max_overflow and not self._idle:
                self._total += 1
                waiter.ready = True
                return None
            if self.max_waiting is not None and len(self._waiters) >= self.max_waiting:
                raise PoolError(
                    f"the pool {self.name!r} has {len(self._waiters)} callers waiting already (max_waiting="
                    f"{self.max_waiting}); ask for less at once"
                )
            self._waiters.append(waiter)
            if len(self._waiters) == 1 and (slot := self._last_idle()) is not None:
                self._waiters.pop()
                return slot
            self._counts["waits"] += 1
        return None

    def _last_idle(self) -> Slot | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _limit_s(self, timeout_s: float | None, *, bounded: bool) -> float | None:
        if timeout_s is not None:
            return timeout_s
        # a run bounds its units itself; but a thread that waits for a slot while it holds one may wait for itself
        mine = threading.get_ident()
        if bounded and not any(slot.holder == mine and not math.isnan(slot.since) for slot in tuple(self._slots)):
            return None
        return self.timeout

    def _got(self, waiter: Waiter, began: float, limit_s: float | None) -> tuple[Slot, float]:
        """Return what the waiter has got, and how long it waited; or raise why it has nothing."""
        self._withdraw(waiter, keep=True)
        waited_s = time.monotonic() - began
        if waiter.error is not None:
            raise waiter.error
        token = current_token.get()
        if token is not None and token.cancelled:
            self._hand_on(waiter)
            token.raise_if_cancelled()
        with self._lock:
            self._wait_s += waited_s
            self._longest_wait_s = max(self._longest_wait_s, waited_s)
            if not waiter.ready:
                self._counts["timeouts"] += 1
        if not waiter.ready:
            if events.listening():
                events.emit(events.SlotWaited(self.name, ",".join(self.hosts), waited_s, ok=False))
            raise PoolTimeoutError(pool_view.timeout_text(self, limit_s or waited_s))
        return waiter.got or self._make(), waited_s

    def _withdraw(self, waiter: Waiter, *, keep: bool = False) -> None:
        """Take ``waiter`` out of the queue; what it has got already goes on to the next, unless it is to keep it."""
        with self._lock:
            if not waiter.ready and waiter in self._waiters:
                self._waiters.remove(waiter)
        if not keep:
            self._hand_on(waiter)

    def _hand_on(self, waiter: Waiter) -> None:
        if waiter.ready and waiter.got is not None:
            self._free(waiter.got)
        elif waiter.ready:
            with self._lock:
                self._total -= 1
            self._settle()

    # slots
    def _make(self) -> Slot:
        slot = Slot(self._move)
        slot.host = self._hosts[0]
        try:
            slot.client = self._client_for(slot.host)
        except BaseException:
            with self._lock:
                self._total -= 1
            self._settle()
            raise
        self._renewed(slot)
        with self._lock:
            self._slots.add(slot)
            self._counts["created"] += 1
            self._empty.clear()
        return slot

    def _client_for(self, host: Host) -> OllamaClient:
        return OllamaClient(host.name, api_key=self._keys.get(host.name), **self._client_options)

    def _renewed(self, slot: Slot) -> None:
        slot.client.calls.watcher = slot
        slot.worn_at = slot.uses + self.recycle_after
        slot.expires = time.monotonic() + self._max_age_s * random.uniform(1 - _JITTER, 1)  # noqa: S311 - spreads
        self._look_at = min(self._look_at, time.monotonic() + self._leak_after_s)

    def _renew(self, slot: Slot, why: str, *, host: Host | None = None) -> None:
        old = slot.client
        slot.host = host or slot.host
        slot.client = self._client_for(slot.host)
        self._renewed(slot)
        if why:
            with self._lock:
                self._counts[why] += 1
        old.calls.watcher = None
        old.close()

    # hosts
    def _prepare(self, slot: Slot, model: str | None) -> Slot:
        """Return a slot on the host that the next request should go to."""
        try:
            if len(self._hosts) > 1:
                slot = self._place(slot, model or self._model or pool_view.default_model_name())
            if self._pre_ping and slot.uses:
                try:
                    slot.client.version()
                except OllamaError as exc:
                    _log.info("the pool %r replaces a connection that does not answer: %s", self.name, exc)
                    self._renew(slot, "discarded")
        except BaseException:
            self._free(slot)
            raise
        return slot

    async def _prepare_async(self, slot: Slot, model: str | None) -> Slot:
        work = asyncio.ensure_future(asyncio.to_thread(self._prepare, slot, model))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(lambda done: None if done.cancelled() or done.exception() else self._put(done.result()))
            raise

    def _place(self, slot: Slot, model: str | None) -> Slot:
        if not all(host.up for host in self._hosts):
            revive(self._hosts)
        if model is not None:
            for host in self._hosts:
                if host.up:
                    host.look()
        with self._lock:
            host_chosen = choose(self._hosts, model)
            if host_chosen is None:
                raise nobody(self._hosts, model)
            host_chosen.out += 1
            if slot.host is not host_chosen:
                for other in tuple(self._idle):
                    if other.host is host_chosen:
                        try:
                            self._idle.remove(other)
                        except ValueError:  # taken meanwhile
                            continue
                        self._idle.append(slot)
                        slot = other
                        break
        if slot.host is not host_chosen:
            self._renew(slot, "", host=host_chosen)
        if self._waiters:
            self._settle()
        return slot

    def _move(self, slot: Slot, error: OllamaError, model: str) -> str | None:
        if not is_host_failure(error):
            return None
        slot.host.fail(error)
        if len(self._hosts) == 1:
            return None
        with self._lock:
            host = choose(self._hosts, model or None, besides=(slot.host,))
            if host is not None:
                slot.host.out -= 1
                host.out += 1
                slot.host = host
        if host is None:
            if not any(each.up for each in self._hosts):
                raise nobody(self._hosts, None) from error
            return None
        _log.info("%s failed (%s); the request goes to %s", error.host, error, host.name)
        return connectable(host.name)

    def limit_for(self, host: str | None = None) -> pool_view.Cap:
        """Return the cap that was found for ``host`` (None: for all together) while it worked: ``.limit`` is an int.

        It is driven by the requests that go through the pool, and never above the pool's own size.
        """
        hosts = [each for each in self._hosts if host is None or each.name == host]
        if not hosts:
            raise ConfigurationError(f"the pool {self.name!r} has no host {host!r}; it has {', '.join(self.hosts)}")
        return pool_view.Cap(self, hosts)

    # life
    @property
    def closed(self) -> bool:
        """Whether it was shut down."""
        return self._closed

    def resize(self, pool_size: int | None = None, *, max_overflow: int | None = None) -> None:
        """Change the size while live: waiters are served at once, surplus slots closed as they come back."""
        size = self.pool_size if pool_size is None else pool_size
        overflow = self.max_overflow if max_overflow is None else max_overflow
        _check("pool_size", size, least=1)
        _check("max_overflow", overflow, least=0)
        with self._lock:
            self.pool_size, self.max_overflow = size, overflow
        self._settle()

    def get_stats(self) -> dict[str, Any]:
        """Return what the pool did and does, as JSON values.

        Counts: ``pool_size max_overflow active_connections available_connections open_slots waiting total_requests
        pool_exhausted_count`` (checkouts that had to wait) ``timeouts created recycled discarded leaked``. Seconds:
        ``wait_s_total wait_s_max use_s_total use_s_max``. ``hosts``: one dict a host.
        """
        self._report_leaks(time.monotonic())
        return pool_view.stats(self)

    def health_check(self) -> bool:
        """Return whether a host answers, without a slot and without starting anything; never raises."""
        return not self._closed and any(pool_view.answers(host) for host in self._hosts)

    def shutdown(self, *, drain_s: float = 0.0) -> None:
        """Close the pool: callers that wait get `PoolClosedError`, calls under way have ``drain_s`` seconds to end."""
        error = PoolClosedError(f"the pool {self.name!r} was shut down")
        with self._lock:
            first, self._closed = not self._closed, True
            waiting = list(self._waiters)
            self._waiters.clear()
            if self._total <= 0:
                self._empty.set()
        for waiter in waiting:
            waiter.fail(error)
        self._settle()
        if first and drain_s > 0:
            self._empty.wait(drain_s)
        for slot in tuple(self._slots):
            slot.client.calls.abort(error)

    def _report_leaks(self, now: float) -> None:
        due = math.inf
        names: dict[int, str] = {}
        for slot in tuple(self._slots):
            held_s = now - slot.since
            if math.isnan(held_s) or slot.leaked:
                continue
            if held_s < self._leak_after_s:
                due = min(due, slot.since + self._leak_after_s)
                continue
            slot.leaked = True
            with self._lock:
                self._counts["leaked"] += 1
            names = names or pool_view.thread_names()
            _log.warning(
                "the pool %r has a slot that is not given back: %s (leak_after_s=%g)",
                self.name,
                slot.describe(now, names),
                self._leak_after_s,
            )
        self._look_at = min(due, now + self._leak_after_s)

    def _told(self, wait_s: float, slot: Slot) -> None:
        if events.listening():
            events.emit(events.SlotWaited(self.name, slot.host.name, wait_s))

    def _after_fork(self) -> None:
        """Begin anew in a forked child: other threads, their locks and what they held are not here."""
        self._lock = threading.Lock()
        self._waiters.clear()
        for host in self._hosts:
            host.after_fork()
        mine = threading.get_ident()
        for slot in tuple(self._slots):
            if not math.isnan(slot.since) and slot.holder != mine:
                self._slots.discard(slot)
                self._total -= 1
                slot.host.out -= len(self._hosts) > 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        return pool_view.text(self)

    def _repr_html_(self) -> str:
        return pool_view.html(self)


_pools: weakref.WeakSet[OllamaConnectionPool] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for pool in tuple(_pools):
        pool._after_fork()  # noqa: SLF001 - of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _check(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name}={value!r}: use a whole number, {least} or more")

"""`OllamaConnectionPool`: slots over one or many hosts."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Self

from analysis_kit import events
from analysis_kit.errors import ConfigurationError, OllamaError
from analysis_kit.ollama import pool_view
from analysis_kit.ollama.arguments import keys_by_host, seconds, whole
from analysis_kit.ollama.balance import PROBE_S, Host
from analysis_kit.ollama.client import OllamaClient
from analysis_kit.ollama.host import api_key_for, parse_host, resolve_hosts
from analysis_kit.ollama.lost import take_back
from analysis_kit.ollama.placement import Placement
from analysis_kit.ollama.slot_queue import SlotQueue
from analysis_kit.ollama.slots import GivenBack, Lease, Slot, given_back
from analysis_kit.settings import get_settings

_log = logging.getLogger(__name__)

#: A connection's life ends somewhere in the last tenth of ``max_age_s``: those born together do not die together.
_JITTER = 0.1
_OF_CLIENT = ("connect_timeout_s", "read_timeout_s", "load_timeout_s", "model", "options", "keep_alive")


class OllamaConnectionPool:
    """Connections to Ollama servers, shared by threads and event loops, first come, first served.

    A slot owns one client with one connection, opened on first use; after an abort or a failed connection the client is
    replaced. With several hosts a request goes where it will be done first, and moves on once if its host fails; a host
    that fails is set aside with growing pauses.

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
    max_age_s : float, default 3600.0
        Seconds after which a slot's connection is replaced.
    pre_ping : bool, default False
        Ask the server for its version before a used connection is handed out; replace the connection if no answer comes
        within 3 seconds.
    max_waiting : int, optional
        Callers that may wait at once; one more fails at once.
    leak_after_s : float, default 900.0
        A slot held longer is reported in one warning, at the pool's next activity, and counted. One that nobody can give
        back any more is taken back when it is wanted, and counted too.
    name : str, default "ollama"
        Names the pool in messages and events.
    api_key : str or mapping, optional
        The key of the one host, or host -> key.
    connect_timeout_s, read_timeout_s, load_timeout_s, model, options, keep_alive
        As `OllamaClient`.

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
        self.made_with = {**locals()}  # so that another can be made like it
        del self.made_with["self"]
        whole("pool_size", pool_size, least=1)
        whole("max_overflow", max_overflow, least=0)
        whole("max_waiting", 0 if max_waiting is None else max_waiting, least=0)
        self.name = name
        self.hosts = resolve_hosts(hosts)
        self.named = hosts is not None  # else they are those that OLLAMA_HOST was
        self.recycle_after = recycle_after
        self._max_age_s = seconds("max_age_s", max_age_s)
        self._pre_ping = pre_ping
        self._leak_after_s = seconds("leak_after_s", leak_after_s)
        self.model = model
        self._options: dict[str, Any] = {name: self.made_with[name] for name in _OF_CLIENT}
        self.keys = keys_by_host(api_key, self.hosts)
        self.members = tuple(Host(host, api_key=self.keys.get(host)) for host in self.hosts)
        self.queue = SlotQueue(
            name,
            size=pool_size,
            overflow=max_overflow,
            timeout_s=seconds("timeout", timeout),
            max_waiting=max_waiting,
            make=self._make,
            late=lambda waited_s: self.told(waited_s, ",".join(self.hosts), ok=False),
            take_back=lambda: take_back(self),
        )
        self.placement = Placement(self.members, self.queue, self._connect)
        self.plain = not self.placement.many and not pre_ping
        self.look_at = math.inf  # monotonic time of the next look for leaks
        self.counts = {"recycled": 0, "discarded": 0, "leaked": 0}  # guarded by the queue's lock
        self._client_for(self.members[0])  # what is wrong with the arguments shows here
        _pools.add(self)

    @property
    def pool_size(self) -> int:
        """Slots that stay."""
        return self.queue.size

    @property
    def max_overflow(self) -> int:
        """Slots beyond them while they are needed."""
        return self.queue.overflow

    @property
    def timeout(self) -> float:
        """Seconds that a caller waits for a slot."""
        return self.queue.timeout_s

    @timeout.setter
    def timeout(self, timeout_s: float) -> None:
        self.queue.timeout_s = seconds("timeout", timeout_s)

    @property
    def recycle_after(self) -> int:
        """Uses after which a slot's connection is replaced."""
        return self._recycle_after

    @recycle_after.setter
    def recycle_after(self, uses: int) -> None:
        whole("recycle_after", uses, least=1)
        self._recycle_after = uses

    @property
    def closed(self) -> bool:
        """Whether it was shut down."""
        return self.queue.closed

    def get_connection(
        self, *, timeout: float | None = None, model: str | None = None, operation: str = ""
    ) -> Lease:
        """Return a context manager that yields an `OllamaClient`, for the caller alone while the block runs.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a slot, 0 for not at all; default the pool's.
        model : str, optional
            The model that the client asks where a call names none; with several hosts, one that has it is chosen.
        operation : str, default ""
            What the slot is for; shown to others who wait in vain.

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
        if timeout is not None:
            timeout = seconds("timeout", timeout, zero=True)
        return Lease(self, timeout, model, operation)

    def acquire(
        self, *, timeout: float | None = None, model: str | None = None, operation: str = ""
    ) -> Lease:
        """Return the twin of `get_connection` for ``async with``: it never blocks the loop, and a cancel loses no slot.

        The client's own calls block; run them with ``asyncio.to_thread``.
        """
        return self.get_connection(timeout=timeout, model=model, operation=operation)

    def put(self, slot: Slot) -> None:
        """Take back what a lease held, with a new client if the old one is worn or broken."""
        calls = slot.client.calls
        if calls.flying or not calls.fit:
            self.renew(slot, "discarded")
        elif slot.uses >= slot.worn_at:
            self.renew(slot, "recycled")
        if not self.plain:
            self.placement.leave(slot)
        self.queue.free(slot)

    def _unused(self, slot: Slot, *, placed: bool) -> None:
        slot.since = math.nan
        (self.put if placed else self.queue.free)(slot)

    def _make(self) -> Slot:
        host = self.members[0]
        slot = Slot(self._client_for(host), host, self.placement.move)
        self._fresh(slot, slot.client)
        return slot

    def _client_for(self, host: Host) -> OllamaClient:
        client, keys = OllamaClient(host.name, **self._options), self.keys
        # by host, since a request that moves must not take its first host's key along
        client.calls.key_for = lambda base_url: api_key_for(base_url, keys.get(base_url))
        return client

    def _fresh(self, slot: Slot, client: OllamaClient) -> None:
        now = time.monotonic()
        client.calls.watcher, client.calls.most_kept = slot, 1
        slot.client = client
        if self.closed:  # else `shutdown` will see this client
            client.calls.watcher = GivenBack(slot.host.name, self.queue.shut_down())
        slot.worn_at = slot.uses + self.recycle_after
        slot.expires = now + self._max_age_s * random.uniform(1 - _JITTER, 1)  # noqa: S311 - spreads, hides nothing
        self.look_at = min(self.look_at, now + self._leak_after_s)

    def renew(self, slot: Slot, why: str) -> None:
        """Give the slot a new client; ``why`` is counted."""
        self._connect(slot, slot.host)
        with self.queue.lock:
            self.counts[why] += 1

    def _connect(self, slot: Slot, host: Host) -> None:
        old, gone = slot.client, slot.host.name
        slot.host = host
        self._fresh(slot, self._client_for(host))
        old.calls.watcher = GivenBack(gone)
        old.calls.abort(given_back(gone))
        old.close()

    def prepare(self, slot: Slot, model: str | None) -> Slot:
        """Return a slot on the host that the next request should go to, tested where that was asked for."""
        placed = not self.placement.many
        try:
            if self.placement.many:
                wanted = model or self.model or get_settings().OLLAMA_MODEL or None
                slot, other = self.placement.place(slot, wanted)
                placed = True
                if other is not None:
                    self.queue.free(other)
            if self._pre_ping and slot.uses:
                slot.since, slot.holder = time.monotonic(), threading.get_ident()  # the ping is its holder's
                try:
                    slot.client.version(within_s=PROBE_S)
                except OllamaError as exc:
                    facts = {"pool": self.name, "host": slot.host.name, "error": str(exc)}
                    _log.info("pool %(pool)r replaces a silent connection: %(error)s", facts, extra=facts)
                    self.renew(slot, "discarded")
        except BaseException:
            self._unused(slot, placed=placed)
            raise
        return slot

    async def prepare_async(self, slot: Slot, model: str | None) -> Slot:
        """Do as `prepare`, on a thread; if the caller is cancelled meanwhile, the slot comes back by itself."""
        work = asyncio.ensure_future(asyncio.to_thread(self.prepare, slot, model))

        def came_to_nothing(done: asyncio.Future[Slot]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._unused(done.result(), placed=True)

        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(came_to_nothing)
            raise

    def limit_for(self, host: str | None = None) -> pool_view.Cap:
        """Return the cap found for ``host`` (None: for all together) while it works; its ``limit`` is a live int.

        It is found from the latency of the requests that go through the pool, and never above the pool's own size.
        """
        members = [each for each in self.members if host is None or each.name == parse_host(host)]
        if not members:
            known = ", ".join(self.hosts)
            raise ConfigurationError(f"the pool {self.name!r} has no host {host!r}; it has {known}")
        return pool_view.Cap(self.queue, members)

    def resize(self, pool_size: int | None = None, *, max_overflow: int | None = None) -> None:
        """Change the size while live: waiters are served at once, surplus slots closed as they come back."""
        size = self.pool_size if pool_size is None else pool_size
        overflow = self.max_overflow if max_overflow is None else max_overflow
        whole("pool_size", size, least=1)
        whole("max_overflow", overflow, least=0)
        self.queue.resize(size, overflow)

    def get_stats(self) -> dict[str, Any]:
        """Return what the pool did and does, as JSON values.

        Counts: ``pool_size max_overflow active_connections available_connections open_slots waiting total_requests
        pool_exhausted_count`` (checkouts that had to wait) ``timeouts created recycled discarded leaked``. Seconds:
        ``wait_s_total wait_s_max use_s_total use_s_max``. ``hosts``: one dict a host.
        """
        take_back(self)
        self.report_leaks(time.monotonic())
        return pool_view.stats(self)

    def health_check(self) -> bool:
        """Return whether a host answers, without a slot and without starting anything; never raises."""
        return not self.closed and any(host.answers() for host in self.members)

    def shutdown(self, *, drain_s: float = 0.0) -> None:
        """Close the pool: who waits gets `PoolClosedError`; calls under way have ``drain_s`` seconds, then get it too."""
        within_s = seconds("drain_s", drain_s, zero=True)
        error = self.queue.close()
        if not self.queue.drained(within_s):
            for slot in tuple(self.queue.slots):
                slot.client.calls.watcher = GivenBack(slot.host.name, error)
                slot.client.calls.abort(error)

    def retire(self) -> None:
        """Keep no connection: a run that has the pool may go on with it, and each slot ends as it comes back."""
        self.queue.retire()

    def report_leaks(self, now: float) -> None:
        """Warn, once each, of slots that are held for longer than ``leak_after_s``; say when to look again."""
        due = now + self._leak_after_s
        for slot in self.queue.held:
            late_at = slot.since + self._leak_after_s
            if slot.leaked or late_at > now:
                due = due if slot.leaked else min(due, late_at)
                continue
            slot.leaked = True
            with self.queue.lock:
                self.counts["leaked"] += 1
            who = slot.describe()
            facts = {"pool": self.name, "host": slot.host.name, "held_s": now - slot.since, "holder": who}
            _log.warning("pool %(pool)r has a slot that is not given back: %(holder)s", facts, extra=facts)
        self.look_at = due

    def told(self, wait_s: float, host: str, *, ok: bool = True) -> None:
        """Tell whoever listens about a checkout."""
        if events.listening():
            events.emit(events.SlotWaited(self.name, host, wait_s, ok=ok))

    def after_fork(self) -> None:
        """Begin anew in a forked child: other threads, their locks and what they held are not here."""
        for host in self.members:
            host.after_fork()
        for slot in self.queue.after_fork():
            slot.host.out -= self.placement.many

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
        pool.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

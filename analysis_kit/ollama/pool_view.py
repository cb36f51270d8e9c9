"""What a pool shows: its figures, its text and HTML, and the cap that an engine asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from analysis_kit import _html
from analysis_kit.ollama.balance import Host
from analysis_kit.ollama.slot_queue import SlotQueue

if TYPE_CHECKING:
    from analysis_kit.ollama.connection_pool import OllamaConnectionPool


class Cap:
    """How many units an engine should have under way, now; read from the hosts' own requests."""

    def __init__(self, queue: SlotQueue, hosts: Sequence[Host]) -> None:
        self._queue = queue
        self._hosts = tuple(hosts)

    @property
    def limit(self) -> int:
        """Units that may run at once on the hosts that are up; at least 1, at most what the pool can hold."""
        up = [host for host in self._hosts if host.up] or self._hosts
        found = sum(host.limit.limit for host in up)
        return max(1, min(found, self._queue.size + self._queue.overflow))

    def started(self) -> None:
        """Take note of nothing: requests are counted where they are made."""

    def finished(self, duration_s: float, ok: bool) -> None:  # noqa: FBT001 - the engine's own protocol
        """Take note of nothing: requests are measured where they are made."""

    def __repr__(self) -> str:
        return f"<Cap {self.limit}>"


def stats(pool: OllamaConnectionPool) -> dict[str, Any]:
    """Return a pool's figures as JSON values."""
    queue = pool.queue
    with queue.lock:
        slots = tuple(queue.slots)
        held = len(queue.held)
        return {
            "name": pool.name,
            "pool_size": queue.size,
            "max_overflow": queue.overflow,
            "active_connections": held,
            "available_connections": max(0, queue.size - held),
            "open_slots": queue.total,
            "waiting": len(queue.waiters),
            "total_requests": queue.past_uses + sum(slot.uses for slot in slots) + held,
            "pool_exhausted_count": queue.waits,
            "timeouts": queue.timeouts,
            "created": queue.made,
            **pool.counts,
            "wait_s_total": queue.past_wait_s + sum(slot.wait_s for slot in slots),
            "wait_s_max": max([queue.longest_wait_s, *(slot.longest_wait_s for slot in slots)]),
            "use_s_total": queue.past_use_s + sum(slot.use_s for slot in slots),
            "use_s_max": max([queue.longest_use_s, *(slot.longest_s for slot in slots)]),
            "hosts": [{**host.stats(), "active": held if pool.plain else host.out} for host in pool.members],
        }


def text(pool: OllamaConnectionPool) -> str:
    """Return one line: how full it is, and over which hosts."""
    queue = pool.queue
    state = "closed" if queue.closed else f"{len(queue.held)} of {queue.size}+{queue.overflow} in use"
    return (
        f"<OllamaConnectionPool {pool.name!r} {state}, {len(queue.waiters)} waiting, {', '.join(pool.hosts)}>"
    )


def html(pool: OllamaConnectionPool) -> str:
    """Return the live slots of each host as an HTML table."""
    figures = pool.get_stats()
    head = ("host", "active", "in flight", "cap", "slots seen", "answered", "failed", "state")
    rows = [
        (
            host["host"],
            host["active"],
            host["in_flight"],
            host["limit"],
            "" if host["slots"] is None else round(host["slots"], 1),
            host["served"],
            host["failed"],
            f"set aside: {host['last_error']}"
            if not host["up"]
            else "up"
            if host["served"] or host["failed"]
            else "no request yet",
        )
        for host in figures["hosts"]
    ]
    caption = (
        f"Pool {pool.name!r}: {figures['active_connections']} of {figures['pool_size']}+{figures['max_overflow']} in use, "
        f"{figures['waiting']} waiting, {figures['total_requests']} checkouts, {figures['pool_exhausted_count']} had to wait"
    )
    return _html.block(_html.table(head, rows, caption=caption))

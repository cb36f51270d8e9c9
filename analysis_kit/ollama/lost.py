"""Slots that nobody can give back any more.

A lease that is dropped without leaving its block, or an interrupt between two steps of a checkout or a return, leaves a
slot that is neither free nor held. Python cannot rule that out: an interrupt may come before the first step of
``__exit__``. But such a slot is told from all others: nobody but the pool refers to it, or to its client. To see that
costs nothing while all goes well, for it is looked for only when somebody waits in vain, or asks for figures.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from typing import TYPE_CHECKING

from analysis_kit.ollama.slots import Slot

if TYPE_CHECKING:
    from analysis_kit.ollama.connection_pool import OllamaConnectionPool

_log = logging.getLogger(__name__)


def _counts(objects: tuple[object, ...]) -> list[int]:
    return [sys.getrefcount(each) for each in objects]


_exact = hasattr(sys, "getrefcount") and getattr(sys, "_is_gil_enabled", lambda: True)()
#: What `_counts` gives for an object that only the tuple refers to; None where references are not counted exactly.
_ALONE = _counts((object(),))[0] if _exact else None


def unreachable(slots: tuple[Slot, ...]) -> list[Slot]:
    """Return those of a pool's ``slots`` that only the pool refers to: they are not free, and nobody holds them."""
    if _ALONE is None:
        return []
    clients = tuple(slot.client for slot in slots)
    calls = tuple(client.calls for client in clients)
    known = zip(_counts(slots), _counts(clients), _counts(calls), strict=True)
    lost = []
    for slot, call, counts in zip(slots, calls, known, strict=True):
        # beside the tuples: the queue's set and the client, whose watcher it is once that is made; the slot; the client
        owners = 1 + (call.watcher is slot), 1, 1
        if counts == tuple(_ALONE + each for each in owners):
            lost.append(slot)
    return lost


def take_back(pool: OllamaConnectionPool) -> None:
    """End the pool's lost slots, each with a warning, so that others can take their place."""
    queue, now = pool.queue, time.monotonic()
    with queue.lock:
        lost = unreachable(tuple(queue.slots))
        for slot in lost:
            if not math.isnan(slot.since):
                slot.uses += 1
                slot.use_s += now - slot.since
                slot.host.out -= pool.placement.many
            pool.counts["leaked"] += not slot.leaked
            queue.end(slot)
        queue.used_leave()
        short = queue.total - len(queue.slots) - len(queue.leaves)
        queue.total -= short  # leaves that were lost before their slot was made
        if lost and pool.placement.many and len(queue.idle) == queue.total:
            for host in pool.members:
                host.out = 0
    for slot in lost:
        slot.client.close()
        what = "on its way" if math.isnan(slot.since) else f"held by {slot.describe()}"
        facts = {"pool": pool.name, "host": slot.host.name, "holder": what}
        _log.warning(
            "pool %(pool)r takes back a slot that nobody can return any more: it was %(holder)s",
            facts,
            extra=facts,
        )
    if lost or short:
        queue.settle()

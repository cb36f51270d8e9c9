"""Which host a slot is on: chosen when a caller has got it, and changed once when that host fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from analysis_kit.errors import OllamaError, OllamaTimeoutError
from analysis_kit.ollama.balance import Host, choose, is_host_failure, look_at, nobody, revive
from analysis_kit.ollama.client import connectable
from analysis_kit.ollama.slot_queue import SlotQueue
from analysis_kit.ollama.slots import Slot

_log = logging.getLogger(__name__)


class Placement:
    """Puts a pool's slots on its hosts.

    Parameters
    ----------
    members : sequence of Host
        The hosts.
    queue : SlotQueue
        The slots; its lock guards the hosts' `out`.
    connect : callable
        Gives a slot a new client, on another host.
    """

    def __init__(
        self, members: Sequence[Host], queue: SlotQueue, connect: Callable[[Slot, Host], None]
    ) -> None:
        self._members = members
        self._queue = queue
        self._connect = connect
        self.many = len(members) > 1

    def place(self, slot: Slot, model: str | None) -> tuple[Slot, Slot | None]:
        """Return a slot on the host that the next request for ``model`` should go to, and ``slot`` if that is another one.

        The caller has both then, and gives the second back once it holds the first.

        Raises
        ------
        OllamaUnreachableError, ModelNotFoundError
            If no host answers, or none of those that do has the model.
        """
        if not all(host.up for host in self._members):
            revive(self._members)
        look_at(self._members)
        with self._queue.lock:
            host = self._chosen(model)
        if host is None and model is not None:
            # it may have come to one of them since they were asked
            look_at(self._members, older_s=0.0)
            with self._queue.lock:
                host = self._chosen(model)
        if host is None:
            raise nobody(self._members, model)
        try:
            with self._queue.lock:
                other = self._idle_on(host) if slot.host is not host else None
            if other is None and slot.host is not host:
                self._connect(slot, host)
        except BaseException:
            with self._queue.lock:
                host.out -= 1
            raise
        return (slot, None) if other is None else (other, slot)

    def leave(self, slot: Slot) -> None:
        """Note that a slot's holder has let go of it."""
        if self.many:
            with self._queue.lock:
                slot.host.out -= 1

    def move(self, slot: Slot, error: OllamaError, model: str, *, last: bool = False) -> str | None:
        """Put ``slot`` on another host after ``error``, if that speaks against its host; return the new base URL.

        A request moves once: after its ``last`` error that is only noted.

        Raises
        ------
        OllamaUnreachableError
            If no host is left at all; the message gives each one's last failure.
        """
        if not is_host_failure(error):
            return None
        slot.host.fail(error)
        if not self.many:
            return None
        with self._queue.lock:
            host = None if last else choose(self._members, model or None, besides=(slot.host,))
            if host is not None:
                slot.host.out -= 1
                host.out += 1
                slot.host = host
        if host is None:
            # one that has answered, if only with a failure, and one that was too slow, speak for themselves
            gone = error.status is None and not isinstance(error, OllamaTimeoutError)
            if gone and not any(each.up for each in self._members):
                raise nobody(self._members, None) from error
            return None
        facts = {"host": host.name, "model": model, "error": str(error)}
        _log.info("a request moves to %(host)s: %(error)s", facts, extra=facts)
        return connectable(host.name)

    def _chosen(self, model: str | None) -> Host | None:
        host = choose(self._members, model)
        if host is not None:
            host.out += 1
        return host

    def _idle_on(self, host: Host) -> Slot | None:
        """Take a free slot that is connected to ``host`` already, if there is one."""
        for other in tuple(self._queue.idle):
            if other.host is host:
                try:
                    self._queue.idle.remove(other)
                except ValueError:  # taken this moment
                    continue
                return other
        return None

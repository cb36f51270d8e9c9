"""The queue at the heart of a pool: slots that are free, callers that wait, first come, first served.

The way through it without waiting takes no lock: a deque's ``pop`` and ``append`` are atomic. The order of steps matters
there: who returns a slot appends it and then looks for waiters; who waits joins the queue and then looks for slots. So
one of the two sees the other.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator

from analysis_kit.cancellation import CancelToken, current_token
from analysis_kit.errors import PoolClosedError, PoolError, PoolTimeoutError
from analysis_kit.ollama.slots import AsyncWaiter, Slot, Waiter, entered

#: Who waits looks for lost slots after so many seconds, then after twice as many, up to the other.
_LOOK_S, _LONGEST_LOOK_S = 1.0, 60.0


class SlotQueue:
    """At most ``size + overflow`` slots; those beyond ``size`` end when nobody waits for them.

    Parameters
    ----------
    name : str
        The pool's, for messages.
    size, overflow : int
        Slots that stay, and slots beyond them.
    timeout_s : float
        Seconds that a caller waits who says nothing else.
    max_waiting : int or None
        Callers that may wait at once.
    make : callable
        Makes a slot; called without a lock.
    late : callable
        Told the seconds that a caller waited in vain.
    take_back : callable
        Ends what was lost; called without a lock when a caller waits for long, or in vain.
    """

    def __init__(
        self,
        name: str,
        *,
        size: int,
        overflow: int,
        timeout_s: float,
        max_waiting: int | None,
        make: Callable[[], Slot],
        late: Callable[[float], None],
        take_back: Callable[[], None],
    ) -> None:
        self.name = name
        self.size, self.overflow = size, overflow
        self.timeout_s, self.max_waiting = timeout_s, max_waiting
        self._make, self._late, self._take_back = make, late, take_back
        # guards all below except for `idle`; no I/O and no strange code under it
        self.lock = threading.Lock()
        self.idle: deque[Slot] = deque()
        self.waiters: deque[Waiter] = deque()
        self.slots: set[Slot] = set()
        self.total = 0  # slots, and leaves to make one
        # Who has leave, and has not made its slot yet; not a WeakSet, whose callbacks would swallow an interrupt.
        self.leaves: list[weakref.ref[Waiter]] = []
        self.keeps = True  # what comes back; else it ends then
        self.closed = False
        self.waits = self.timeouts = self.made = 0
        self.past_wait_s = self.longest_wait_s = 0.0
        self.past_uses = 0
        self.past_use_s = self.longest_use_s = 0.0
        self._empty = threading.Event()

    @property
    def held(self) -> list[Slot]:
        """The slots that callers hold now."""
        return [slot for slot in tuple(self.slots) if not math.isnan(slot.since)]

    def pop(self) -> Slot | None:
        """Return a free slot, if nobody waits before the caller."""
        if not self.waiters:
            try:
                return self.idle.pop()
            except IndexError:
                return None
        return None

    def free(self, slot: Slot) -> None:
        """Take a slot back; whoever waits first has it at once."""
        # after a resize to less, what is too much ends before anyone is served
        while self.waiters and self.total <= self.size + self.overflow:
            with self.lock:
                waiter = self.waiters.popleft() if self.waiters else None
                if waiter is not None:
                    waiter.got, waiter.ready = slot, True
            if waiter is None:
                break
            # outside the lock, which the one who wakes would run into
            if not waiter.wake() or self._claim(waiter)[1] is None:
                return
        self.idle.append(slot)
        if self.waiters or self.total > self.size or not self.keeps:
            self.settle()

    def settle(self) -> None:
        """Give what is free to who waits, and end what is too much."""
        surplus: list[Slot] = []
        with self.lock:
            while self.total > self.size + self.overflow and (slot := self._last_idle()) is not None:
                surplus.append(slot)
                self.end(slot)
            while self.waiters:
                slot = self._last_idle()
                if slot is None and self.total >= self.size + self.overflow:
                    break
                self.total += slot is None
                waiter = self.waiters.popleft()
                if slot is None:
                    self.leaves.append(weakref.ref(waiter))
                if waiter.give(slot):
                    waiter.got, waiter.ready = None, False
                    if slot is None:
                        self.used_leave(waiter)
                        self.total -= 1
                    else:
                        self.idle.append(slot)
            while (not self.keeps or self.total > self.size) and (slot := self._last_idle()) is not None:
                surplus.append(slot)
                self.end(slot)
        for slot in surplus:
            slot.client.close()

    def end(self, slot: Slot) -> None:
        """Strike a slot out, and keep its figures; under the lock."""
        self.slots.discard(slot)
        self.past_uses += slot.uses
        self.past_use_s += slot.use_s
        self.past_wait_s += slot.wait_s
        self.longest_use_s = max(self.longest_use_s, slot.longest_s)
        self.longest_wait_s = max(self.longest_wait_s, slot.longest_wait_s)
        self._less()

    def wait(self, timeout_s: float | None) -> tuple[Slot, float]:
        """Return a slot and the seconds waited for it; blocks.

        Raises
        ------
        PoolTimeoutError, PoolClosedError, PoolError
            If there is none in time, or never will be, or too many wait already.
        """
        waiter = Waiter()
        slot = self._join(waiter)
        if slot is not None or waiter.ready:
            return slot or waiter.got or self._made(waiter), 0.0
        began = time.monotonic()
        token = current_token.get()
        limit_s = self._limit_s(token, blocks=True) if timeout_s is None else timeout_s
        try:
            if token is None:
                if not waiter.lock.acquire(True, min(limit_s, _LOOK_S)):  # nearly all waits end here
                    self._take_back()
                    self._await(waiter, max(0.0, limit_s - _LOOK_S))
            else:
                with token.on_cancel(waiter.wake):
                    self._await(waiter, limit_s)
        except BaseException:
            self._leave(waiter, keep=False)
            raise
        waited_s = time.monotonic() - began
        slot = waiter.got
        if slot is None or token is not None:
            slot = self._got(waiter, waited_s, limit_s, token)
        slot.waited(waited_s)
        return slot, waited_s

    async def wait_async(self, timeout_s: float | None) -> tuple[Slot, float]:
        """Do as `wait`, on an event loop."""
        waiter = AsyncWaiter()
        slot = self._join(waiter)
        if slot is not None or waiter.ready:
            return slot or waiter.got or self._made(waiter), 0.0
        began = time.monotonic()
        token = current_token.get()
        limit_s = self._limit_s(token, blocks=False) if timeout_s is None else timeout_s
        try:
            for part_s in self._parts(limit_s):
                if await waiter.wait_async(part_s, token):
                    break
                self._take_back()
        except GeneratorExit:
            self.apart(lambda: self._leave(waiter, keep=False))
            raise
        except BaseException:
            self._leave(waiter, keep=False)
            raise
        waited_s = time.monotonic() - began
        slot = self._got(waiter, waited_s, limit_s, token)
        slot.waited(waited_s)
        return slot, waited_s

    def _await(self, waiter: Waiter, limit_s: float) -> None:
        """Block until the waiter is woken, or ``limit_s`` is over."""
        for part_s in self._parts(limit_s):
            if waiter.lock.acquire(True, part_s):
                return
            self._take_back()

    @staticmethod
    def _parts(limit_s: float) -> Iterator[float]:
        """Cut a wait (-1: without end) into parts; after each it is time to look for what was lost."""
        part_s = _LOOK_S
        while limit_s < 0 or limit_s > part_s:
            yield part_s
            limit_s -= part_s if limit_s > 0 else 0
            part_s = min(2 * part_s, _LONGEST_LOOK_S)
        yield limit_s

    def resize(self, size: int, overflow: int) -> None:
        """Change the bounds; who waits is served at once, what is too much ends as it comes back."""
        with self.lock:
            self.size, self.overflow = size, overflow
        self.settle()

    def retire(self) -> None:
        """End every slot as it comes back: a run that still works with the pool may go on, and nothing stays open after."""
        with self.lock:
            self.keeps = False
        self.settle()

    def resume(self) -> None:
        """Keep again what comes back, after `retire`."""
        with self.lock:
            self.keeps = not self.closed

    def close(self) -> PoolClosedError:
        """Send everyone away who waits, with the error returned, and end every slot as it comes back."""
        error = self.shut_down()
        with self.lock:
            self.closed, self.keeps = True, False
            waiting, self.waiters = self.waiters, deque()
            if self.total == 0:
                self._empty.set()
        for waiter in waiting:
            waiter.fail(error)
        self.settle()
        return error

    def shut_down(self) -> PoolClosedError:
        """Return the error for all who come too late."""
        return PoolClosedError(f"the pool {self.name!r} was shut down; make a new one")

    def drained(self, within_s: float) -> bool:
        """Return whether every slot of a closed queue came back within so many seconds."""
        return self._empty.wait(within_s)

    def after_fork(self) -> list[Slot]:
        """Begin anew in a forked child; return the slots of threads that are not here."""
        self.lock = threading.Lock()
        self.waiters.clear()
        self.leaves.clear()
        self.total = len(self.slots)
        mine = threading.get_ident()
        gone = [slot for slot in self.held if slot.holder != mine]
        for slot in gone:
            self.slots.discard(slot)
            self._less()
        return gone

    def _join(self, waiter: Waiter) -> Slot | None:
        """Return a slot if there is one after all; else the waiter is in the queue, or has leave to make a slot."""
        with self.lock:
            if self.closed:
                raise self.shut_down()
            if not self.waiters:
                slot = self._last_idle()
                if slot is not None:
                    return slot
                if self.total < self.size + self.overflow:
                    self.total += 1
                    self.leaves.append(weakref.ref(waiter))
                    waiter.give(None)
                    return None
            if self.max_waiting is not None and len(self.waiters) >= self.max_waiting:
                raise PoolError(
                    f"the pool {self.name!r} has {len(self.waiters)} callers waiting already (max_waiting="
                    f"{self.max_waiting}); ask for less at once"
                )
            self.waiters.append(waiter)
            # a slot that came back just before this caller could be seen has found nobody
            if self.idle and len(self.waiters) == 1 and (slot := self._last_idle()) is not None:
                self.waiters.pop()
                return slot
            self.waits += 1
        return None

    def _got(self, waiter: Waiter, waited_s: float, limit_s: float, token: CancelToken | None) -> Slot:
        """Return what the waiter has got, or raise why it has nothing."""
        if not waiter.ready:
            self._leave(waiter, keep=True)
        if waiter.error is not None:
            raise waiter.error
        if token is not None and token.cancelled:
            self._pass_on(waiter)
            token.raise_if_cancelled()
        if not waiter.ready:
            with self.lock:
                self.timeouts += 1
                self.past_wait_s += waited_s
                self.longest_wait_s = max(self.longest_wait_s, waited_s)
            self._late(waited_s)
            raise PoolTimeoutError(self._full(waited_s if limit_s < 0 else limit_s))
        return waiter.got or self._made(waiter)

    def _made(self, waiter: Waiter) -> Slot:
        try:
            slot = self._make()
        except BaseException:
            with self.lock:
                self.used_leave(waiter)
                self._less()
            self.settle()
            raise
        with self.lock:
            self.slots.add(slot)
            self.used_leave(waiter)
            self.made += 1
        if self.closed:
            self.free(slot)
            raise self.shut_down()
        return slot

    def used_leave(self, waiter: Waiter | None = None) -> None:
        """Strike out the leave of ``waiter``, and those of callers that are no more; under the lock."""
        self.leaves = [leave for leave in self.leaves if leave() not in (None, waiter)]

    def _leave(self, waiter: Waiter, *, keep: bool) -> None:
        """Leave the queue; what the waiter has got already goes on to the next, unless it is to keep it."""
        with self.lock:
            if not waiter.ready and waiter in self.waiters:
                self.waiters.remove(waiter)
        if not keep:
            self._pass_on(waiter)

    def apart(self, step: Callable[[], object]) -> None:
        """Take a step of what the collector ends: maybe within a step of this very thread that has the lock."""
        if self.lock.acquire(blocking=False):
            self.lock.release()
            step()
        else:
            threading.Thread(target=step, daemon=True).start()

    def _claim(self, waiter: Waiter) -> tuple[bool, Slot | None]:
        """Take back what a waiter was given, if nobody has: who gave it and who ends the waiter may both pass it on."""
        with self.lock:
            had = waiter.ready, waiter.got
            waiter.ready, waiter.got = False, None
        return had

    def _pass_on(self, waiter: Waiter) -> None:
        had, slot = self._claim(waiter)
        if slot is not None:
            self.free(slot)
        elif had:
            with self.lock:
                self.used_leave(waiter)
                self._less()
            self.settle()

    def _limit_s(self, token: CancelToken | None, *, blocks: bool) -> float:
        """Return the seconds that a caller waits who says nothing; -1 for as long as its token lets it."""
        # A run bounds its units itself. But who waits within a block of its own, or blocks the thread of one, may be
        # waiting for itself; so may what was begun there, in other tasks and threads.
        if token is None:
            return self.timeout_s
        mine, thread = entered.get(), threading.get_ident() if blocks else None
        own = (slot.holder == thread or slot.entry in mine for slot in self.held)
        return self.timeout_s if any(own) else -1

    def _last_idle(self) -> Slot | None:
        try:
            return self.idle.pop() if self.idle else None
        except IndexError:  # taken this moment, without the lock
            return None

    def _less(self) -> None:
        self.total -= 1
        if self.closed and self.total <= 0:
            self._empty.set()

    def _full(self, limit_s: float) -> str:
        holders = "; ".join(slot.describe() for slot in sorted(self.held, key=lambda slot: slot.since))
        return (
            f"the pool {self.name!r} (limit of size {self.size} overflow {self.overflow} reached) had no slot free within "
            f"{limit_s:.2f} s: {len(self.held)} in use, {len(self.waiters)} waiting. Held by: {holders or 'nobody now'}. "
            "Hold slots for shorter, or raise pool_size or timeout"
        )

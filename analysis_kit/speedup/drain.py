"""Work through a list with a few threads, without an event loop: callable from a script and from a notebook's cell."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from analysis_kit.cancellation import CancelToken, call_side_by_side, current_token


def drain(
    call: Callable[[Any], Any], items: Iterable[tuple[str, Any]], *, workers: int
) -> tuple[str, BaseException] | None:
    """Have ``workers`` threads take one item after the other until none is left, or one has failed.

    Parameters
    ----------
    call : callable
        Plain or async; called with an item's second part, under a cancel token of its own.
    items : iterable of (str, object)
        Name and argument.
    workers : int
        Threads; they end before this returns, unless it is left by an interrupt while a foreign function blocks.

    Returns
    -------
    tuple of (str, BaseException) or None
        Name and error of the first item that failed; it stopped the others.
    """
    outer = current_token.get()
    token, left = CancelToken(parent=outer), iter(items)
    lock = threading.Lock()  # guards left and failures
    failures: list[tuple[str, BaseException]] = []

    def work_on() -> None:
        current_token.set(token)
        while not token.cancelled:
            with lock:
                item = next(left, None)
            if item is None:
                return
            try:
                result = call(item[1])
                if inspect.isawaitable(result):
                    asyncio.run(_awaited(result))  # a fresh thread has no loop, so nothing is nested
            except BaseException as exc:  # noqa: BLE001 - handed to the caller
                with lock:
                    failures.append((item[0], exc))
                token.cancel()

    try:
        call_side_by_side([work_on] * workers, "speedup")
    finally:
        token.cancel()
        token.close()
    if outer is not None:
        outer.raise_if_cancelled()
    return failures[0] if failures else None


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result

"""Ask a server how many requests it really runs at once, by looking at how they overlap."""

from __future__ import annotations

import math
import secrets
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis_kit.errors import ConfigurationError, InsufficientDataError, ServerBusyError
from analysis_kit.speedup.drain import drain

if TYPE_CHECKING:
    from analysis_kit.ollama.client import OllamaClient

#: The mark at its front is new each time, so that no cache on the way answers instead of the model.
_PROMPT = "[{mark}] Count from 1 to 100 in words, one number a line, and begin with number {start}."
#: Requests overlap for real where they do so for this share of a request; less is the jitter of their ends.
REAL_OVERLAP = 0.3
#: One request overlaps with nothing.
FEWEST = 2
#: Requests that ran for less than this, in seconds, differ in when they were sent by as much as they could overlap.
_SHORTEST_S = 0.01
#: A server that ran for longer than its request took, by this share, speaks of another request.
_LONGER = 1.1
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class SlotProbe:
    """How many requests a server runs at once.

    Attributes
    ----------
    slots : int
        Requests that ran at once.
    low, high : int, int or None
        The fewest and the most over the deciding rounds; ``high`` is None where the probe's own limit was reached.
    calls : int
        Requests spent.
    note : str
        What to know before trusting it; "" where there is nothing.
    advice : str
        What to set.
    """

    slots: int
    low: int
    high: int | None
    calls: int
    note: str
    advice: str


def probe_slots(
    host: str | None = None,
    model: str | None = None,
    *,
    max_slots: int = 8,
    num_predict: int = 32,
    options: Mapping[str, Any] | None = None,
) -> SlotProbe:
    """Measure how many requests a server runs at once; no endpoint tells it, and Ollama's default is one.

    Two short requests are sent together, then four, and so on up to ``max_slots``, until fewer run at once than were
    sent; that round is repeated. A request ran from its end back over the server's own ``prompt_s`` and
    ``generate_s``, so that time spent in its queue does not count. What it refuses as busy did not run.

    Parameters
    ----------
    host : str, optional
        Default: as `OllamaClient` takes it.
    model : str, optional
        Default: `OllamaClient.default_model`.
    max_slots : int, default 8
        The most requests sent at once.
    num_predict : int, default 32
        Tokens of each answer.
    options : mapping, optional
        Further Ollama options. Give the ``num_ctx`` of your run: another one makes the server reload the model.

    Returns
    -------
    SlotProbe

    Raises
    ------
    ConfigurationError
        If ``max_slots`` is no whole number, or below 2; if ``num_predict`` is none, or below 1.
    InsufficientDataError
        If the server does not state its durations, or not those of these requests.
    OllamaError
        If a request fails otherwise than by being refused beside others that ran.

    Examples
    --------
    >>> probe_slots("gpu1:11434", "llama3.2").advice  # doctest: +SKIP
    'Set max_workers=4: that keeps every slot busy, and more would only wait.'
    """
    from analysis_kit.ollama.arguments import whole
    from analysis_kit.ollama.client import OllamaClient

    if isinstance(max_slots, bool) or not isinstance(max_slots, int) or max_slots < FEWEST:
        raise ConfigurationError(
            f"max_slots must be a whole number of at least {FEWEST}, and is {max_slots!r}: one request overlaps with nothing"
        )
    whole("num_predict", num_predict, least=1)
    asked = {"temperature": 0, **(options or {}), "num_predict": num_predict}
    with OllamaClient(host, model=model) as client:
        _round(client, 1, asked)  # loads the model
        calls, sent = 1, FEWEST
        while (seen := concurrency(first := _round(client, sent, asked))) == sent < max_slots:
            calls, sent = calls + sent, min(2 * sent, max_slots)
        again = concurrency(second := _round(client, sent, asked))
        calls += 2 * sent
    low, high = sorted((seen, again))
    most = None if high == max_slots else high
    ran = [*first, *second]
    note = _note(low, high, max_slots, refused=2 * sent - len(ran), ran_s=_usual_s(ran))
    return SlotProbe(high, low, most, calls, note, _advice(high, limit=max_slots))


def _round(client: OllamaClient, count: int, options: Mapping[str, Any]) -> list[Interval]:
    """Send ``count`` requests at once; return when each ran, on our clock, that was not refused."""
    ran: list[Interval] = []
    refused: list[ServerBusyError] = []

    def ask(start: int) -> None:
        prompt = _PROMPT.format(mark=secrets.token_hex(4), start=start)
        began = time.perf_counter()
        try:
            # reasoning would use up the few tokens, and an answer without text is an error
            reply = client.generate(prompt, options=dict(options), think=False)
        except ServerBusyError as exc:
            refused.append(exc)
            return
        end = time.perf_counter()
        took = reply.generate_s + (reply.prompt_s if math.isfinite(reply.prompt_s) else 0.0)
        if not took > 0:
            raise InsufficientDataError(
                f"{reply.host} does not say how long it worked on a request (generate_s={reply.generate_s}), "
                "so its slots cannot be told; use measure_speedup instead"
            )
        if took > _LONGER * (end - began):
            raise InsufficientDataError(
                f"{reply.host} says that it worked for {took:.3g} s on a request that took {end - began:.3g} s: a cache "
                "answers, or its clock is wrong, so its slots cannot be told; use measure_speedup instead"
            )
        ran.append((end - took, end))

    failure = drain(ask, [(f"request {place}", place) for place in range(1, count + 1)], workers=count)
    if failure is not None:
        raise failure[1]
    if not ran:
        raise refused[0]
    return ran


def concurrency(intervals: Sequence[Interval]) -> int:
    """Return how many of ``intervals`` (start, end in seconds) ran at once for a real share of one of them.

    Examples
    --------
    >>> concurrency([(0.0, 1.0), (0.1, 1.1), (1.05, 2.0)])
    2
    """
    least = REAL_OVERLAP * _usual_s(intervals)
    steps = sorted([(start, 1) for start, _ in intervals] + [(end, -1) for _, end in intervals])
    at_least: dict[int, float] = {}
    level, before = 0, steps[0][0]
    for moment, change in steps:
        for reached in range(1, level + 1):
            at_least[reached] = at_least.get(reached, 0.0) + moment - before
        level, before = level + change, moment
    return max((count for count, seconds in at_least.items() if seconds >= least), default=1)


def _usual_s(intervals: Sequence[Interval]) -> float:
    return statistics.median(end - start for start, end in intervals)


def _note(low: int, high: int, most: int, *, refused: int, ran_s: float) -> str:
    if ran_s < _SHORTEST_S:
        return f"a request ran for {ran_s * 1000:.2g} ms, too short to tell what ran at once; probe with a higher num_predict"
    if high == most:
        return f"as many ran at once as were sent ({most}); probe with a higher max_slots to find the limit"
    if refused:
        return f"the server refused {refused} requests as busy; what it refused did not run"
    if low < high:
        return f"one round showed {low} and one {high}: others may be using the server"
    return ""


def _advice(slots: int, *, limit: int) -> str:
    if slots == 1:
        return (
            "The server runs one request at a time: start it with OLLAMA_NUM_PARALLEL=4, which takes memory for "
            "num_ctx x 4, or leave max_workers at 1."
        )
    if slots == limit:
        return f"Set max_workers={slots} or more: every request that was sent ran at once."
    return f"Set max_workers={slots}: that keeps every slot busy, and more would only wait."

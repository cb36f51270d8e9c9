"""Where an answer ends because of its words: at a stop text, or where the model says one token for ever.

llama.cpp looks for a stop text only near its last token, and so misses one in a token that it holds back until the
bytes of a character are complete; and what it holds back as the possible start of one is lost where the answer ends.
"""

from __future__ import annotations

from collections.abc import Sequence

_MOST_REPEATS = 30


class Stops:
    """Lets an answer's text through up to the first of its stop texts.

    Parameters
    ----------
    texts : sequence of str
        The stop texts.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [text for text in texts if text]
        self._held = ""
        self.found = False

    def let_through(self, text: str) -> str:
        """Return what is surely part of the answer now that ``text`` has come; the rest is held back."""
        held = self._held + text
        ends = [at for stop in self._texts if (at := held.find(stop)) >= 0]
        self.found = bool(ends)
        kept = 0 if ends else max((_overlap(stop, held) for stop in self._texts), default=0)
        out = held[: min(ends)] if ends else held[: len(held) - kept]
        self._held = held[len(held) - kept :]
        return out

    def rest(self) -> str:
        """Return what is held back: at the end it is part of the answer after all."""
        rest, self._held = self._held, ""
        return rest


class Repeats:
    """Notices a model that says one token for ever, as Ollama does: over 30 times more, blanks around it left out."""

    def __init__(self) -> None:
        self._token = ""
        self._count = 0

    def too_many(self, token: str) -> bool:
        """Return whether ``token`` is the one too many."""
        token = token.strip()
        self._token, self._count = token, self._count + 1 if token == self._token else 0
        return self._count > _MOST_REPEATS


def _overlap(stop: str, text: str) -> int:
    """Return how many of the last characters of ``text`` are the first of ``stop``."""
    most = min(len(stop) - 1, len(text))
    return next((size for size in range(most, 0, -1) if text.endswith(stop[:size])), 0)

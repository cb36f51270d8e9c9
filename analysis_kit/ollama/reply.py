"""What a server says, frozen: times in seconds, the text whole, and flags for what to know before trusting it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis_kit.errors import EmptyAnswerError, InvalidAnswerError, StreamBrokenError, TruncatedAnswerError
from analysis_kit.ollama.text import clean

NAN = float("nan")

TRUNCATED = "truncated"
CLIPPED = "prompt clipped"

#: No tokenizer in use packs more bytes of text than this into a token on average (CJK text included).
_BYTES_PER_TOKEN = 12
_LIKE_TOKENS = 30
#: Go's integers end below this.
_BEYOND = 2**63


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer with the server's own figures.

    Attributes
    ----------
    text, thinking : str
        The answer, and the reasoning that the server set apart from it.
    model, host : str
        The model as asked for, and the base URL that answered.
    done_reason : str
        ``stop``, or ``length`` at the token limit.
    total_s, load_s, prompt_s, generate_s : float
        The server's durations in seconds; NaN where it gave none.
    queue_s : float
        Seconds inside the server that it does not account for: ``total_s - load_s - prompt_s - generate_s``, at least
        0. On an Ollama that is the wait for a slot.
    elapsed_s, first_token_s : float
        Seconds on our clock from sending to the last, and to the first piece of the answer (NaN if none came).
    prompt_tokens, generated_tokens : int
        The server's counts; 0 where it gave none.
    logprobs : tuple of dict
        One entry a token, where asked for.
    flags : tuple of str
        ``"truncated"`` (stopped at the token limit), ``"prompt clipped"`` (see `is_clipped`).
    raw : mapping
        The reply as one JSON object, as a server answers that does not stream.
    """

    text: str
    model: str
    host: str
    done_reason: str = ""
    total_s: float = NAN
    load_s: float = NAN
    prompt_s: float = NAN
    generate_s: float = NAN
    queue_s: float = NAN
    elapsed_s: float = NAN
    first_token_s: float = NAN
    prompt_tokens: int = 0
    generated_tokens: int = 0
    thinking: str = ""
    logprobs: tuple[Mapping[str, Any], ...] = ()
    flags: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The tools that the model wants called."""
        return list(self.raw.get("message", {}).get("tool_calls") or self.raw.get("tool_calls") or ())


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of an answer as it comes."""

    text: str
    thinking: str = ""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of texts: one row a text, each of length 1."""

    vectors: tuple[tuple[float, ...], ...]
    model: str
    host: str
    total_s: float = NAN
    load_s: float = NAN
    elapsed_s: float = NAN
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model of a server: its listing, or (``loaded``) what is in memory."""

    name: str
    digest: str
    size_bytes: int
    family: str
    parameter_size: str
    capabilities: tuple[str, ...]
    loaded: bool = False
    context_length: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, item: Mapping[str, Any], *, loaded: bool = False) -> ModelInfo:
        """Return what an item of ``/api/tags`` or ``/api/ps`` says."""
        details = item.get("details") or {}
        return cls(
            name=str(item.get("name") or item.get("model") or ""),
            digest=str(item.get("digest") or ""),
            size_bytes=int(item.get("size") or 0),
            family=str(details.get("family") or ""),
            parameter_size=str(details.get("parameter_size") or ""),
            capabilities=tuple(item.get("capabilities") or ()),
            loaded=loaded,
            context_length=count(item.get("context_length")) or count(details.get("context_length")) or None,
            raw=item,
        )


def is_clipped(prompt_tokens: int, text: str, num_ctx: int | None, *, generated_tokens: int = 0) -> bool:
    """Return whether a server cannot have read all of ``text``.

    Ollama drops the middle or the start of a prompt beyond ``num_ctx`` and answers as if nothing had happened, but its
    count of prompt tokens tells. It was clipped if the count is below what ``text`` must take at least: a token for
    each word between blanks, and for each 12 bytes; if the count has reached ``num_ctx`` (less one), which no
    complete prompt with room for an answer does; or if prompt and answer together are longer than ``num_ctx`` (and the
    one token that ended it): then prompt was dropped to go on answering. A count of 0 means that the server did not say.

    Parameters
    ----------
    prompt_tokens : int
        The server's count.
    text : str
        All that was sent as prompt.
    num_ctx : int or None
        The context in tokens; None where it is not known.
    generated_tokens : int, default 0
        The server's count for the answer.

    Examples
    --------
    >>> is_clipped(2050, "word " * 6000, None)
    True
    """
    if prompt_tokens <= 0:
        return False
    if num_ctx is not None and (
        prompt_tokens >= num_ctx - 1 or prompt_tokens + generated_tokens > num_ctx + 1
    ):
        return True
    if prompt_tokens * _BYTES_PER_TOKEN > 4 * len(text):  # at most 4 bytes a character: a cheap way out
        return False
    words = text.split()
    solid = (
        sum(map(len, words))
        if text.isascii()
        else sum(len(word.encode("utf-8", "replace")) for word in words)
    )
    return prompt_tokens < max(len(words), solid // _BYTES_PER_TOKEN)


class Collector:
    """Gathers the objects of one streamed answer into a `Reply`."""

    def __init__(self, *, host: str, model: str, prompt: str, num_ctx: int | None, chat: bool) -> None:
        self._host = host
        self._model = model
        self._prompt = prompt
        self.num_ctx = num_ctx
        self._chat = chat
        self._parts: list[str] = []
        self._thoughts: list[str] = []
        self._logprobs: list[Mapping[str, Any]] = []
        self._tool_calls: list[dict[str, Any]] = []
        self._last: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """What has come so far."""
        return clean("".join(self._parts))

    @property
    def prompt_tokens(self) -> int:
        """The server's count, once it has come."""
        return count((self._last or {}).get("prompt_eval_count"))

    def add(self, item: dict[str, Any]) -> Piece | None:
        """Take one object; return its part of the answer, if it has one."""
        said = item.get("message") or {} if self._chat else item
        if not isinstance(said, dict):
            raise self._strange("message", said)
        key = "content" if self._chat else "response"
        text, thought = said.get(key) or "", said.get("thinking") or ""
        if not isinstance(text, str):
            raise self._strange(key, text)
        if not isinstance(thought, str):
            raise self._strange("thinking", thought)
        if text:
            self._parts.append(text)
        if thought:
            self._thoughts.append(thought)
        self._logprobs += self._listed("logprobs", item)
        self._tool_calls += self._listed("tool_calls", said)
        if item.get("done"):
            self._last = item
        return Piece(text, thought) if text or thought else None

    def reply(self, *, elapsed_s: float, first_token_s: float) -> Reply:
        """Return the answer.

        Raises
        ------
        StreamBrokenError
            If the last object never came; the error holds the text so far.
        EmptyAnswerError
            If the server only loaded the model, or the answer has neither text nor tool calls.
        TruncatedAnswerError
            If the token limit was reached before any text came (reasoning used it up); or if the last object never came
            because the model repeated one token and Ollama gave up on it.
        """
        last, text, thinking = self._last, self.text, clean("".join(self._thoughts))
        where = f"{self._host}, model {self._model!r}"
        if last is None:
            if _loops(self._parts or self._thoughts):
                raise TruncatedAnswerError(
                    f"the model says the same over and over, and the server ended its answer ({where}, after {len(text)} "
                    "characters): another prompt, repeat_penalty or model may help, the same request will not",
                    text=text,
                    model=self._model,
                    host=self._host,
                )
            raise StreamBrokenError(
                f"the answer ended before its last line ({where}, after {len(text)} characters)",
                host=self._host,
                model=self._model,
                text=text,
            )
        facts: dict[str, Any] = {"text": text, "model": self._model, "host": self._host}
        reason = str(last.get("done_reason") or "")
        if reason in ("load", "unload"):
            raise EmptyAnswerError(
                f"the server only {reason}ed the model and gave no answer ({where})", **facts
            )
        generated_tokens = count(last.get("eval_count"))
        prompt_tokens = self.prompt_tokens
        clipped = is_clipped(prompt_tokens, self._prompt, self.num_ctx, generated_tokens=generated_tokens)
        where += ", prompt clipped: raise num_ctx" if clipped else ""
        if not text.strip() and not self._tool_calls:
            if reason == "length":
                by = "its reasoning" if thinking else "blanks"
                raise TruncatedAnswerError(
                    f"the model spent all {generated_tokens} tokens on {by} and gave no answer ({where}): allow more with num_predict, "
                    "or switch reasoning off with think=False",
                    **facts,
                )
            raise EmptyAnswerError(
                f"the model's answer is empty ({where}, {generated_tokens} tokens)", **facts
            )
        flags = [TRUNCATED] if reason == "length" else []
        if clipped:
            flags.append(CLIPPED)
        total, load, prompt, generate = durations(last)
        return Reply(
            text=text,
            model=self._model,
            host=self._host,
            done_reason=reason,
            total_s=total,
            load_s=load,
            prompt_s=prompt,
            generate_s=generate,
            queue_s=max(0.0, total - load - prompt - generate) if total == total else NAN,  # noqa: PLR0124 - NaN
            elapsed_s=elapsed_s,
            first_token_s=first_token_s,
            prompt_tokens=prompt_tokens,
            generated_tokens=generated_tokens,
            thinking=thinking,
            logprobs=tuple(self._logprobs),
            flags=tuple(flags),
            raw=self._whole(last, text, thinking),
        )

    def _listed(self, key: str, said: Mapping[str, Any]) -> list[dict[str, Any]]:
        value = said.get(key)
        if not value:
            return []
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise self._strange(key, value)
        return value

    def _strange(self, key: str, value: object) -> InvalidAnswerError:
        return InvalidAnswerError(
            f"{self._host} sent a {type(value).__name__} as {key!r} (model {self._model!r}); is that an Ollama?",
            text=self.text,
            model=self._model,
            host=self._host,
        )

    def _whole(self, last: dict[str, Any], text: str, thinking: str) -> dict[str, Any]:
        whole = dict(last)
        extra: dict[str, Any] = {"thinking": thinking} if thinking else {}
        if self._tool_calls:
            extra["tool_calls"] = self._tool_calls
        if self._chat:
            whole["message"] = {"role": "assistant", "content": text, **extra}
        else:
            whole.update({"response": text, **extra})
        if self._logprobs:
            whole["logprobs"] = list(self._logprobs)
        return whole


def _loops(pieces: list[str]) -> bool:
    """Return whether ``pieces`` end as Ollama (v0.24.0) ends a loop: without a last object, after so many like tokens."""
    end = [piece.strip() for piece in pieces[-_LIKE_TOKENS:]]
    return len(end) == _LIKE_TOKENS and len(set(end)) == 1


def durations(last: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Return total, load, prompt and generation seconds; a server that gives a total leaves zeros out."""
    keys = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
    total, load, prompt, generate = (count(last.get(key)) / 1e9 for key in keys)
    return (total, load, prompt, generate) if total else (NAN, NAN, NAN, NAN)


def count(value: object) -> int:
    """Return a count, or a duration in nanoseconds; 0 where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0
    return int(value) if 0 <= value < _BEYOND else 0

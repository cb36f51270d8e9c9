"""From a model's raw text to a checked answer: nothing is repaired, and nothing half is taken for whole."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from analysis_kit.errors import InvalidAnswerError, TruncatedAnswerError
from analysis_kit.ollama.label_probabilities import label_probabilities
from analysis_kit.ollama.questions import Question
from analysis_kit.ollama.reply import TRUNCATED, Reply
from analysis_kit.results import Exchange

_TAGS = "think|thinking|thought|reasoning"
_OPENING = re.compile(rf"\s*<({_TAGS})>", re.IGNORECASE)
_CLOSING = re.compile(rf"</({_TAGS})>", re.IGNORECASE)
_FENCE = re.compile(r"\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to a `Question`.

    Attributes
    ----------
    value : pydantic.BaseModel
        The checked answer, of the question's schema.
    reply : Reply
        How it came: text, times, counts.
    probabilities : dict
        Label -> probability, from the token log-probabilities; empty where they did not come or cannot tell.
    flags : tuple of str
        The reply's, and ``"<field> clamped"`` for a number that was outside the schema's bounds.
    exchange : results.Exchange
        The request as sent and the reply, as JSON values.
    """

    value: BaseModel
    reply: Reply
    probabilities: dict[str, float]
    flags: tuple[str, ...]
    exchange: Exchange


def read_answer(reply: Reply, question: Question, exchange: Exchange) -> Answer:
    """Return the answer that ``reply`` holds.

    Raises
    ------
    TruncatedAnswerError
        If the reply stopped at the token limit.
    InvalidAnswerError
        If the text is not one JSON object of the question's schema; the error holds the text.
    """
    facts: dict[str, Any] = {"text": reply.text, "model": reply.model, "host": reply.host}
    if TRUNCATED in reply.flags:
        raise TruncatedAnswerError(
            f"the answer to {question.name!r} was cut at the token limit after {reply.generated_tokens} tokens "
            f"({reply.host}, model {reply.model!r}): raise num_predict (it was {question.num_predict}, unless options= "
            "said otherwise)",
            **facts,
        )
    schema = question.json_schema
    try:
        data = parse_object(split_thinking(reply.text)[1])
        clamped: list[str] = []
        data = clamp(data, schema, schema, clamped)
        value = question.schema.model_validate(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidAnswerError(
            f"the answer to {question.name!r} has not the form asked for ({reply.host}, model {reply.model!r}): "
            f"{_wrong(exc)}; it began {reply.text[:_SHOWN_CHARACTERS]!r}",
            **facts,
        ) from exc
    flags = (*reply.flags, *(f"{name} clamped" for name in dict.fromkeys(clamped)))
    probabilities = label_probabilities(reply.logprobs, schema)
    return Answer(value, reply, probabilities, flags, exchange)


def split_thinking(text: str) -> tuple[str, str]:
    """Cut ``text`` into the reasoning that stands before the answer, and the answer.

    Only what stands in front counts: a tag inside the answer is the answer's own text. A model whose template opens the
    block itself sends only the closing tag.

    Raises
    ------
    ValueError
        If a block in front is never closed: then there is no answer.

    Examples
    --------
    >>> split_thinking('<think>{"maybe": 1}</think> {"label": "a <think> b"}')
    ('{"maybe": 1}', '{"label": "a <think> b"}')
    """
    thoughts = []
    while (opening := _OPENING.match(text)) is not None:
        closing = _CLOSING.search(text, opening.end())
        if closing is None:
            raise ValueError(f"its <{opening[1]}> block is never closed")
        thoughts.append(text[opening.end() : closing.start()].strip())
        text = text[closing.end() :]
    if not thoughts and not text.lstrip().startswith(("{", "[", "```")):
        closing = _CLOSING.search(text)
        if closing is not None:
            thoughts.append(text[: closing.start()].strip())
            text = text[closing.end() :]
    return "\n".join(thoughts), text.strip()


def parse_object(text: str) -> dict[str, Any]:
    """Return the one JSON object that ``text`` is, a surrounding code fence apart.

    Raises
    ------
    ValueError
        If it is anything else: text around it, NaN or infinity in it, a key twice.
    """
    fenced = _FENCE.fullmatch(text)
    data = json.loads(
        fenced[1] if fenced else text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys
    )
    if not isinstance(data, dict):
        raise ValueError(f"it is a JSON {type(data).__name__}, not an object")  # noqa: TRY004 - bad data, not a bad call
    return data


def clamp(
    data: Any, schema: Mapping[str, Any], root: Mapping[str, Any], clamped: list[str], name: str = ""
) -> Any:
    """Return ``data`` with numbers moved into their ``minimum`` and ``maximum``; ``clamped`` gets the fields' names.

    Servers hold a model to the schema's structure, not to its bounds (measured: a score of 2 for [-1, 1]).
    """
    if "$ref" in schema:
        schema = root.get("$defs", {}).get(str(schema["$ref"]).rpartition("/")[2], {})
    if isinstance(data, dict):
        fields = schema.get("properties", {})
        return {key: clamp(value, fields.get(key, {}), root, clamped, key) for key, value in data.items()}
    if isinstance(data, list):
        return [clamp(value, schema.get("items") or {}, root, clamped, name) for value in data]
    if isinstance(data, bool) or not isinstance(data, (int, float)):
        return data
    for option in schema.get("anyOf", ()):
        if option.get("type") in ("number", "integer"):
            schema = option
    bounded = max(data, schema.get("minimum", data))
    bounded = min(bounded, schema.get("maximum", bounded))
    if bounded != data:
        clamped.append(name)
    return bounded


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, which is no JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("it gives a key twice")
    return data


def _wrong(exc: BaseException) -> str:
    if isinstance(exc, ValidationError):
        return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in exc.errors()[:3])
    if isinstance(exc, json.JSONDecodeError):
        return f"no JSON ({exc.msg} at character {exc.pos})"
    return str(exc)

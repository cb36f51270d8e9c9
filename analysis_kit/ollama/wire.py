"""The JSON that Ollama speaks, as types; no logic. Durations on the wire are integer nanoseconds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict


class Message(TypedDict):
    """One chat message."""

    role: str
    content: str
    thinking: NotRequired[str]
    images: NotRequired[list[str]]
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_name: NotRequired[str]
    tool_call_id: NotRequired[str]


class TokenLogprob(TypedDict):
    """One token and its natural-log probability."""

    token: str
    logprob: float
    bytes: NotRequired[list[int]]
    top_logprobs: NotRequired[list[TokenLogprob]]


class RequestFields(TypedDict, total=False):
    """What a request to generate or chat may hold besides model, prompt or messages, and stream."""

    format: Any
    options: Mapping[str, Any]
    system: str
    template: str
    raw: bool
    suffix: str
    images: Sequence[str | bytes | os.PathLike[str]]
    context: list[int]
    tools: list[dict[str, Any]]
    think: bool | str
    keep_alive: str | float
    logprobs: bool
    top_logprobs: int
    truncate: bool
    shift: bool


class Metrics(TypedDict, total=False):
    """Counts and durations of the last object of an answer; zeros are left out by the server."""

    total_duration: int
    load_duration: int
    prompt_eval_count: int
    prompt_eval_duration: int
    eval_count: int
    eval_duration: int


class GenerateChunk(Metrics):
    """One object of ``/api/generate``, whole or a streamed part."""

    model: str
    created_at: str
    response: str
    thinking: NotRequired[str]
    done: bool
    done_reason: NotRequired[str]
    context: NotRequired[list[int]]
    logprobs: NotRequired[list[TokenLogprob]]


class ChatChunk(Metrics):
    """One object of ``/api/chat``, whole or a streamed part."""

    model: str
    created_at: str
    message: Message
    done: bool
    done_reason: NotRequired[str]
    logprobs: NotRequired[list[TokenLogprob]]


class ModelDetails(TypedDict, total=False):
    """What a server says about a model's make."""

    parent_model: str
    format: str
    family: str
    families: list[str] | None
    parameter_size: str
    quantization_level: str
    context_length: int
    embedding_length: int


class TagsItem(TypedDict):
    """One model of ``/api/tags``."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: ModelDetails
    capabilities: NotRequired[list[str]]


class PsItem(TypedDict):
    """One loaded model of ``/api/ps``."""

    name: str
    model: str
    size: int
    digest: str
    details: ModelDetails
    expires_at: str
    size_vram: int
    context_length: NotRequired[int]


class EmbedReply(TypedDict):
    """The answer of ``/api/embed``."""

    model: str
    embeddings: list[list[float]]
    total_duration: NotRequired[int]
    load_duration: NotRequired[int]
    prompt_eval_count: NotRequired[int]


class ErrorBody(TypedDict):
    """The body of every native error."""

    error: str

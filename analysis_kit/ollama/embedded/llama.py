"""llama.cpp, loaded: the one place that knows xllamacpp. Its calls block; `runner` calls them on threads."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from analysis_kit._optional import require
from analysis_kit.ollama.embedded.catalog import Model
from analysis_kit.ollama.embedded.grammar import any_object_grammar

#: Below this many weights one thread generates as fast as two: at every layer the threads meet, and a small model's
#: layers are shorter than the meetings (135M weights, two cores: 75 and 73 tokens/s idle, 44 and 20 on a busy machine).
_SMALL_MODEL = 300_000_000


class LlamaError(Exception):
    """Raised when llama.cpp refuses or fails a call.

    Parameters
    ----------
    message : str
        Its own words.
    status : int, default 500
        Its HTTP status.
    """

    def __init__(self, message: str, *, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model is loaded with; a change of it loads the model anew.

    Parameters
    ----------
    ctx : int
        Tokens of context of one request.
    parallel : int
        Requests at once.
    threads : int
        Compute threads.
    gpu_layers : int, default -1
        Layers on the GPU; -1 lets llama.cpp decide.
    batch : int, default 256
        Prompt tokens processed at a time; between two batches a request can be cut, and others get their turn.
    shift : bool, default True
        Whether the window slides when it is full (else the answer ends with ``length``).
    embedding : bool, default False
        Whether it is loaded for embeddings instead of answers.
    """

    ctx: int
    parallel: int
    threads: int
    gpu_layers: int = -1
    batch: int = 256
    shift: bool = True
    embedding: bool = False


class Llama:
    """A model in memory.

    Parameters
    ----------
    model : Model
        Which one.
    shape : Shape
        What to load it with.

    Attributes
    ----------
    address, key : str
        Base URL of llama.cpp's own listener, and the key it wants; see `inner`.

    Raises
    ------
    LlamaError
        If llama.cpp cannot load it.
    """

    def __init__(self, model: Model, shape: Shape) -> None:
        xlc = require("xllamacpp", extra="local", purpose="the embedded model")
        params = xlc.CommonParams()
        params.model.path = str(model.path)
        params.n_ctx = shape.ctx * shape.parallel  # llama.cpp divides it among the slots
        params.n_parallel = shape.parallel
        params.n_batch = params.n_ubatch = shape.batch
        params.ctx_shift = shape.shift
        params.n_gpu_layers = shape.gpu_layers
        small = model.header.parameter_count < _SMALL_MODEL
        params.cpuparams.n_threads = 1 if small else shape.threads
        params.cpuparams_batch.n_threads = shape.threads
        params.cpuparams.poll = params.cpuparams_batch.poll = 0  # waiting threads sleep: the cores are shared
        params.cache_ram_mib = 64  # the default of 8 GiB is no default for a guest in someone's notebook
        params.verbosity = 1  # errors, to the log
        params.warmup = False
        params.fit_params = has_gpu()  # without one it would only read the model twice
        params.n_threads_http = 2 * shape.parallel + 2  # each connection kept has a thread to itself
        self.key = secrets.token_urlsafe(16)  # llama.cpp's own listener on loopback is ours alone
        params.api_keys = [self.key]
        if shape.embedding:
            params.embedding = True
            params.n_batch = params.n_ubatch = shape.ctx  # an input is embedded in one piece
            if not model.header.number("pooling_type"):
                params.pooling_type = xlc.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        try:
            self._server = xlc.Server(params)
        except RuntimeError as exc:
            raise LlamaError(f"llama.cpp cannot load {model.path}: {exc}") from exc
        self.address: str = self._server.listening_address
        if not shape.embedding:
            # the first grammar has the vocabulary sorted for all later ones, 0.3 s that are part of loading
            self.complete(
                {"prompt": "a", "max_tokens": 1, "grammar": any_object_grammar()}, lambda _: False, chat=False
            )

    def complete(
        self, body: dict[str, Any], on_chunk: Callable[[dict[str, Any]], bool], *, chat: bool
    ) -> None:
        """Run one request to its end, calling ``on_chunk`` with each piece until it returns True (stop).

        Pieces come at least at every batch of the prompt and at every token, so that a stop is soon noticed.

        Raises
        ------
        LlamaError
            If llama.cpp refuses the request.
        """
        errors: list[LlamaError] = []

        def take(chunk: dict[str, Any]) -> bool:
            if "error" in chunk:
                errors.append(error_of(chunk["error"]))
                return True
            return on_chunk(chunk)

        call = self._server.handle_chat_completions if chat else self._server.handle_completions
        try:
            call({**body, "stream": True, "return_progress": True}, take)
        except ValueError as exc:  # it reports in two ways: this is what its HTTP listener answers 400 to,
            raise LlamaError(str(exc), status=400) from exc
        except RuntimeError as exc:  # and this is its 500
            raise LlamaError(str(exc)) from exc
        if errors:
            raise errors[0]

    def embed(self, tokens: Sequence[int]) -> list[float]:
        """Return the vector, of L2 norm 1, of a text given as tokens."""
        reply = self._server.handle_embeddings({"input": [list(tokens)]})
        if "error" in reply:
            raise error_of(reply["error"])
        return [float(value) for value in reply["data"][0]["embedding"]]

    def close(self) -> None:
        """Free the model's memory; no call may be running."""
        del self._server


def has_gpu() -> bool:
    """Return whether this build of llama.cpp sees a GPU."""
    xlc = require("xllamacpp", extra="local", purpose="the embedded model")
    return any("GPU" in str(device.get("type", "")).upper() for device in xlc.get_device_info())


def error_of(error: Any) -> LlamaError:
    """Return what llama.cpp reports as an exception."""
    if not isinstance(error, dict):
        return LlamaError(str(error))
    return LlamaError(str(error.get("message", error)), status=int(error.get("code", 500)))

"""A served model: one runner for its answers, one for its embeddings, shown to the outside as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from analysis_kit.ollama.embedded import asks
from analysis_kit.ollama.embedded.asks import ApiError
from analysis_kit.ollama.embedded.catalog import Model
from analysis_kit.ollama.embedded.llama import Shape, has_gpu
from analysis_kit.ollama.embedded.runner import LoadQueue, Runner, Seat

Embedded = tuple[list[list[float]], int, int]  #: vectors, tokens in all texts, nanoseconds of loading


class Served:
    """One model of the server.

    Parameters
    ----------
    model : Model
        Which one.
    shape : Shape
        What to load it with unless a request asks for more.
    keep_alive_s : float
        Seconds it stays after its last request where no request says otherwise.
    queue : LoadQueue
        Where requests wait for it to be loaded.
    """

    def __init__(self, model: Model, shape: Shape, *, keep_alive_s: float, queue: LoadQueue) -> None:
        self.model = model
        # a machine-wide OLLAMA_CONTEXT_LENGTH may be meant for larger models
        trained = model.header.number("context_length")
        shape = replace(shape, ctx=min(shape.ctx, trained) if trained else shape.ctx)
        self.answers = Runner(model, shape, keep_alive_s=keep_alive_s, queue=queue)
        embedding = replace(shape, parallel=1, embedding=True)
        self.embeds = Runner(model, embedding, keep_alive_s=keep_alive_s, queue=queue)

    @property
    def _loaded(self) -> list[Runner]:
        return [runner for runner in (self.answers, self.embeds) if runner.loaded]

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory, for either use."""
        return bool(self._loaded)

    @property
    def expires_at(self) -> datetime:
        """When the last of it will be unloaded if nobody asks again."""
        return max(runner.expires_at for runner in self._loaded)

    def ps_item(self) -> dict[str, Any]:
        """Return the model's entry of ``/api/ps``."""
        size = sum(runner.memory for runner in self._loaded)
        shape = self._loaded[0].shape
        layers = self.model.header.number("block_count") + 1  # and the output layer
        share = 1.0 if shape.gpu_layers < 0 else min(1.0, shape.gpu_layers / layers)
        return {
            "name": self.model.name,
            "model": self.model.name,
            "size": size,
            "digest": self.model.digest,
            "details": self.model.details,
            "expires_at": self.expires_at.isoformat(),
            "size_vram": int(size * share) if has_gpu() else 0,
            "context_length": shape.ctx,
        }

    async def expire(self) -> None:
        """Free the model's memory: now if it is idle, else when the last request in it has ended."""
        for runner in (self.answers, self.embeds):
            await runner.expire()

    async def unload(self) -> None:
        """Free the model's memory, once the requests in it have ended."""
        for runner in (self.answers, self.embeds):
            await runner.unload()

    async def embed(self, request: Mapping[str, Any], texts: Sequence[str]) -> Embedded:
        """Return the vectors of ``texts``, the tokens in them, and the nanoseconds waited for the model to load.

        Raises
        ------
        ApiError
            400, if a text is too long and may not be cut.
        LlamaError
            If llama.cpp fails.
        """
        options = asks.options_of(request)
        keep_alive_s = asks.keep_alive_s(request)
        trained = self.model.header.number("context_length")
        async with self.embeds.seat(
            lambda shape: asks.shape_for(options, shape, trained_ctx=trained, shift=shape.shift), keep_alive_s
        ) as seat:
            ctx = asks.ctx_of(options, self.embeds.shape, trained_ctx=trained)
            done = [await self._one(seat, text, ctx, cut=request.get("truncate", True)) for text in texts]
            return [vector for vector, _ in done], sum(tokens for _, tokens in done), seat.load_ns

    async def _one(self, seat: Seat, text: str, ctx: int, *, cut: bool) -> tuple[list[float], int]:
        tokens = await seat.inner.tokenize(text)
        if len(tokens) > ctx:
            if not cut:
                raise ApiError(400, "the input length exceeds the context length")
            tokens = tokens[:ctx]
        return await seat.call(seat.llama.embed, tokens), len(tokens)

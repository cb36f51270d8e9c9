"""llama.cpp's own listener, asked on the event loop for what its Python face does not offer.

It is HTTP to the same process: a question takes half the time of a call on a thread, and its connections are kept.
"""

from __future__ import annotations

import asyncio
import json
import re
import urllib.parse
from collections.abc import Sequence
from typing import Any

from analysis_kit.ollama.embedded.llama import Llama, LlamaError, error_of

_MOST_PIECES = 1 << 16
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Inner:
    """Tokens and templates of a loaded model.

    Parameters
    ----------
    llama : Llama
        The loaded model.

    Raises
    ------
    LlamaError
        By every call, if llama.cpp refuses or does not answer.
    """

    def __init__(self, llama: Llama) -> None:
        address = urllib.parse.urlsplit(llama.address)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 0
        self._head = (
            f"HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {llama.key}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        )
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._pieces: dict[str, asyncio.Task[list[int]]] = {}
        self._one_piece = asyncio.Lock()

    async def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """Return the tokens of ``text``; ``special``: with the marks that the model wants around a prompt."""
        body = {"content": text, "add_special": special, "parse_special": True}
        return [int(token) for token in (await self._post("/tokenize", body))["tokens"]]

    def piece_tokens(self, piece: str) -> asyncio.Task[list[int]]:
        """Return the tokens of a piece of an answer, on their way; a piece that was met before is not asked about again."""
        if len(self._pieces) > _MOST_PIECES:
            self._pieces.clear()
        task = self._pieces.get(piece)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._pieces[piece] = asyncio.ensure_future(self._ask_piece(piece))
            # an answer may end without it
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _ask_piece(self, piece: str) -> list[int]:
        async with self._one_piece:  # llama.cpp has few threads for connections
            return await self.tokenize(piece, special=False)

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``."""
        return str((await self._post("/detokenize", {"tokens": list(tokens)}))["content"])

    async def render(self, body: dict[str, Any]) -> str:
        """Return the prompt that the model's chat template makes of a chat request; its schema is checked too."""
        return str((await self._post("/apply-template", body))["prompt"])

    async def prompt_tokens(self, body: dict[str, Any]) -> list[int]:
        """Return the tokens that a request's prompt is, or is rendered to."""
        prompt = body["prompt"] if "prompt" in body else await self.render(body)
        return await self.tokenize(prompt) if isinstance(prompt, str) else list(prompt)

    def close(self) -> None:
        """Let go of the connections that are kept."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(body).encode()
        request = f"POST {path} {self._head}{len(data)}\r\n\r\n".encode() + data
        while True:
            kept = bool(self._idle)
            try:
                streams = self._idle.pop() if kept else await asyncio.open_connection(self._host, self._port)
                reply = await self._exchange(*streams, request)
                break
            except (OSError, EOFError) as exc:
                if not kept:
                    raise LlamaError(f"llama.cpp did not answer {path}: {exc}") from exc
        if "error" in reply:
            raise error_of(reply["error"])
        return reply

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> dict[str, Any]:
        done = False
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if length is None:
                raise EOFError("a reply without a length")
            reply: dict[str, Any] = json.loads(await reader.readexactly(int(length[1])))
            done = True
        finally:
            if done:
                self._idle.append((reader, writer))
            else:
                writer.close()  # it may be in the middle of a reply
        return reply

"""The demo model's weights in the form that llama.cpp computes fastest on a CPU.

The file that can be had by pip is Q4_1. For Q8_0 llama.cpp has a blocked matrix product and for Q4_1 it has none: a
prompt token took 10.1 ms of CPU with the one and 5.0 ms with the other (two AVX2 cores, median of 4 x 421 tokens), and
the prompts of this kit are ten times as long as their answers. Each Q4_1 weight is kept to within 1/254 of the largest
in its block of 32, which is finer than Q4_1 itself distinguishes.
"""

from __future__ import annotations

import contextlib
import logging
import math
import struct
import tempfile
from pathlib import Path
from typing import BinaryIO

from analysis_kit.ollama import model_file
from analysis_kit.ollama.embedded.gguf import ALIGNMENT, Layout, Tensor, read_layout

_Q4_1, _Q8_0, _F32 = 3, 8, 0  # GGML tensor types
_FILE_TYPE_Q8_0 = 7
_BLOCK = 32
_BYTES_PER_BLOCK = {_Q4_1: 20, _Q8_0: 34, _F32: 4 * _BLOCK}
FAST_NAME = model_file.FILE_NAME.replace("Q4_1", "Q8_0")
FAST_SIZE = 144_811_072

_log = logging.getLogger(__name__)


def served_path() -> Path:
    """Return the file to serve for the demo model: the fast one, made on first use, else the one that was fetched."""
    source = model_file.ensure_model()
    fast = source.with_name(FAST_NAME)
    with contextlib.suppress(OSError):
        if fast.stat().st_size == FAST_SIZE:
            return fast
    try:
        write_q8_0(source, fast)
    except OSError as exc:  # a full disk costs speed, nothing else
        facts = {"model": source.name, "path": str(fast), "error": str(exc)}
        _log.warning(
            "serving %(model)s as it is: %(path)s could not be written: %(error)s", facts, extra=facts
        )
        return source
    return fast


def write_q8_0(source: Path, target: Path) -> None:
    """Write the Q4_1 model ``source`` with Q8_0 weights to ``target``, whole or not at all.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    layout = read_layout(source)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=model_file.WORK_PREFIX) as work:
        part = Path(work) / target.name
        with source.open("rb") as old, part.open("wb") as new:
            new.write(_front(old, layout))
            for tensor in layout.tensors:
                old.seek(layout.data + tensor.offset)
                weights = old.read(_size(tensor))
                new.write(_padded(_as_q8_0(weights) if tensor.kind == _Q4_1 else weights))
        part.replace(target)


def _size(tensor: Tensor) -> int:
    return math.prod(tensor.dims) // _BLOCK * _BYTES_PER_BLOCK[tensor.kind]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)


def _front(old: BinaryIO, layout: Layout) -> bytes:
    """Return metadata and tensor list, with the new file type, tensor types and offsets."""
    old.seek(0)
    front = bytearray(old.read(layout.tensor_list))
    struct.pack_into("<I", front, layout.positions["general.file_type"], _FILE_TYPE_Q8_0)
    offset = 0
    for tensor in layout.tensors:
        kind = _Q8_0 if tensor.kind == _Q4_1 else tensor.kind
        name = tensor.name.encode()
        front += struct.pack("<Q", len(name)) + name
        front += struct.pack(f"<I{len(tensor.dims)}QIQ", len(tensor.dims), *tensor.dims, kind, offset)
        size = math.prod(tensor.dims) // _BLOCK * _BYTES_PER_BLOCK[kind]
        offset += size + -size % ALIGNMENT
    return _padded(bytes(front))


def _as_q8_0(blocks: bytes) -> bytes:
    """Return Q4_1 blocks (scale, minimum, 32 nibbles) as Q8_0 blocks (scale, 32 signed bytes)."""
    import numpy as np

    raw = np.frombuffer(blocks, np.uint8).reshape(-1, _BYTES_PER_BLOCK[_Q4_1])
    scale, least = (raw[:, at : at + 2].copy().view("<f2").astype(np.float32) for at in (0, 2))
    nibbles = np.concatenate([raw[:, 4:] & 15, raw[:, 4:] >> 4], axis=1)
    weights = nibbles.astype(np.float32) * scale + least
    step = np.abs(weights).max(axis=1, keepdims=True) / np.float32(127)
    whole = np.rint(np.divide(weights, step, out=np.zeros_like(weights), where=step != 0)).astype(np.int8)
    return np.concatenate([step.astype("<f2").view(np.uint8), whole.view(np.uint8)], axis=1).tobytes()

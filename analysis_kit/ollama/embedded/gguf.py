"""Read a GGUF file's header: what a model says about itself, without loading it."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from analysis_kit.errors import ConfigurationError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
ALIGNMENT = 32  #: of tensors, unless the file says otherwise
_LONGEST_STRING = 1 << 24
_LONGEST_LIST = 64  # longer lists are vocabularies; nobody asks for them by name

#: general.file_type -> the name people use (llama.cpp's enum llama_ftype).
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says about its model.

    Parameters
    ----------
    metadata : dict
        Key -> value; a list of more than 64 items (a vocabulary) is None.
    parameter_count : int
        Weights in all tensors.
    """

    metadata: dict[str, Any]
    parameter_count: int

    @property
    def family(self) -> str:
        """The architecture's name, such as ``llama``."""
        return str(self.metadata.get("general.architecture", "unknown"))

    def number(self, key: str, default: int = 0) -> int:
        """Return an architecture key, such as ``context_length``; per-layer lists give their largest."""
        value = self.metadata.get(f"{self.family}.{key}", default)
        return int(max(value) if isinstance(value, list) else value if value is not None else default)

    @property
    def quantization(self) -> str:
        """The weights' format, such as ``Q4_1``."""
        return _FILE_TYPES.get(self.metadata.get("general.file_type", -1), "unknown")

    @property
    def parameter_size(self) -> str:
        """The number of weights as Ollama writes it, such as ``134.52M``."""
        for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
            if self.parameter_count >= size:
                digits = 1 if unit == "B" else 2
                return f"{self.parameter_count / size:.{digits}f}{unit}"
        return str(self.parameter_count)


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one tensor lies: its name, dimensions, GGML type, and offset from the start of the data."""

    name: str
    dims: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A GGUF file's parts: its header, where each metadata value and the tensor list begin, and its tensors."""

    header: Header
    positions: dict[str, int]
    tensor_list: int
    data: int
    tensors: tuple[Tensor, ...]


def read_header(path: Path) -> Header:
    """Read what the GGUF file at ``path`` says about its model; see `read_layout`."""
    return read_layout(path).header


def read_layout(path: Path) -> Layout:
    """Read the front of the GGUF file at ``path``: everything but the weights.

    Raises
    ------
    ConfigurationError
        If the file cannot be read or is no GGUF file.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as exc:
        raise ConfigurationError(f"the model file {path} cannot be read: {exc.strerror or exc}") from exc
    except (ValueError, struct.error, OverflowError, MemoryError) as exc:
        raise ConfigurationError(
            f"{path} is no usable GGUF model file ({exc}); give the path of a .gguf file of version 2 or 3"
        ) from exc


def _read(file: BinaryIO) -> Layout:
    if file.read(4) != b"GGUF":
        raise ValueError("it does not begin with 'GGUF'")
    version, tensor_count, pairs = struct.unpack("<IQQ", _take(file, 20))
    if version not in {2, 3}:
        raise ValueError(f"version {version}")
    metadata: dict[str, Any] = {}
    positions: dict[str, int] = {}
    for _ in range(pairs):
        key, kind = _string(file), _unpack(file, "I")
        positions[key] = file.tell()
        metadata[key] = _value(file, kind)
    tensor_list = file.tell()
    tensors = tuple(_tensor(file) for _ in range(tensor_count))
    alignment = int(metadata.get("general.alignment", ALIGNMENT))
    data = math.ceil(file.tell() / alignment) * alignment
    header = Header(metadata, sum(math.prod(tensor.dims) for tensor in tensors))
    return Layout(header, positions, tensor_list, data, tensors)


def _tensor(file: BinaryIO) -> Tensor:
    name, rank = _string(file), _unpack(file, "I")
    dims = struct.unpack(f"<{rank}Q", _take(file, 8 * rank))
    return Tensor(name, dims, *struct.unpack("<IQ", _take(file, 12)))


def _take(file: BinaryIO, size: int) -> bytes:
    data = file.read(size) if size < 1 << 28 else b""
    if len(data) != size:
        raise ValueError("it ends early, or a length in it is wrong")
    return data


def _unpack(file: BinaryIO, code: str) -> Any:
    return struct.unpack("<" + code, _take(file, struct.calcsize("<" + code)))[0]


def _string(file: BinaryIO) -> str:
    return _take(file, _unpack(file, "Q")).decode("utf-8", "replace")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        if kind not in _SCALARS:
            raise ValueError(f"value type {kind}")
        return _unpack(file, _SCALARS[kind])
    item, length = struct.unpack("<IQ", _take(file, 12))
    if length <= _LONGEST_LIST:
        return [_value(file, item) for _ in range(length)]
    if item in _SCALARS:
        _take(file, length * struct.calcsize("<" + _SCALARS[item]))
    elif item == _STRING:
        _pass_strings(file, length)
    else:
        raise ValueError("a long list of lists")
    return None


def _pass_strings(file: BinaryIO, count: int) -> None:
    """Read past ``count`` strings, of which a vocabulary has a hundred thousand: this loop is most of a start's reading."""
    read, size_of = file.read, struct.Struct("<Q").unpack
    for _ in range(count):
        (size,) = size_of(read(8))
        if size > _LONGEST_STRING:
            raise ValueError("a length in it is wrong")
        read(size)

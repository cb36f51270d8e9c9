"""Images for a request: bytes, files and base64 text become what the protocol has, a list of base64 texts."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from analysis_kit.errors import ConfigurationError

#: A text that is longer names no file.
_LONGEST_PATH = 4096


def encoded(images: Any) -> list[str] | None:
    """Return ``images`` as base64 texts, in order; None for None.

    Bytes, and files named by a path, are encoded; text is the name of a file where there is one, else base64.

    Raises
    ------
    ConfigurationError
        If one of them is nothing of that, or its file cannot be read.
    """
    if images is None:
        return None
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)):
        raise ConfigurationError(f"images= is one {type(images).__name__}; give a list of images")
    return [_encode(image) for image in images]


def _encode(image: object) -> str:
    if isinstance(image, (bytes, bytearray, memoryview)):
        return base64.b64encode(image).decode()
    if isinstance(image, os.PathLike) or (isinstance(image, str) and _names_file(image)):
        try:
            return base64.b64encode(Path(image).read_bytes()).decode()
        except OSError as exc:
            raise ConfigurationError(
                f"the image {os.fspath(image)!r} cannot be read: {exc.strerror}"
            ) from exc
    if not isinstance(image, str):
        raise ConfigurationError(f"an image is a {type(image).__name__}; give bytes, a path, or base64 text")
    try:
        base64.b64decode(image, validate=True)
    except ValueError as exc:
        raise ConfigurationError(f"the image {image[:60]!r} is neither a file nor base64 text") from exc
    return image


def _names_file(text: str) -> bool:
    try:
        return len(text) <= _LONGEST_PATH and Path(text).is_file()
    except (OSError, ValueError):  # NUL in it, or a part that is too long
        return False

"""The models a server has, and what is said about them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from analysis_kit.errors import ConfigurationError
from analysis_kit.ollama import model_file
from analysis_kit.ollama.embedded.gguf import Header, read_header
from analysis_kit.ollama.embedded.names import MODEL_NAME
from analysis_kit.ollama.embedded.requantize import FAST_NAME, served_path
from analysis_kit.ollama.wire import ModelDetails, TagsItem
from analysis_kit.settings import cache_dir


@dataclass(frozen=True)
class Model:
    """One GGUF file under its name.

    Parameters
    ----------
    name : str
        Short name with tag.
    path : pathlib.Path
        The file.
    header : Header
        What the file says about itself.
    """

    name: str
    path: Path
    header: Header
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def template(self) -> str:
        """The chat template, Jinja; empty where the model has none."""
        return str(self.header.metadata.get("tokenizer.chat_template") or "")

    @cached_property
    def capabilities(self) -> list[str]:
        """What the model can do, in Ollama's words."""
        if self.header.number("pooling_type") or "bert" in self.header.family:
            return ["embedding"]
        found = ["completion"]
        if re.search(r"\btools\b", self.template):
            found.append("tools")
        if "<think>" in self.template or "enable_thinking" in self.template:
            found.append("thinking")
        return found

    @cached_property
    def details(self) -> ModelDetails:
        """The make of the model, as tags, ps and show give it."""
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.header.family,
            "families": [self.header.family],
            "parameter_size": self.header.parameter_size,
            "quantization_level": self.header.quantization,
        }

    @cached_property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    @cached_property
    def modified_at(self) -> str:
        """When the file was last written, in this machine's zone."""
        return datetime.fromtimestamp(self.path.stat().st_mtime).astimezone().isoformat()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file; of a large one it takes seconds, once: it is kept in the cache folder."""
        with self._lock:
            return _kept_digest(self.path)

    def kv_bytes(self, ctx: int) -> int:
        """Return the bytes that ``ctx`` tokens of attention memory take (16-bit keys and values)."""
        heads = self.header.number("attention.head_count", 1)
        width = self.header.number("embedding_length") // max(1, heads)
        key = self.header.number("attention.key_length", width)
        value = self.header.number("attention.value_length", width)
        per_token = self.header.number("attention.head_count_kv", heads) * (key + value) * 2
        return self.header.number("block_count") * per_token * ctx

    def tags_item(self) -> TagsItem:
        """Return the model's entry of ``/api/tags``."""
        return {
            "name": self.name,
            "model": self.name,
            "modified_at": self.modified_at,
            "size": self.size,
            "digest": self.digest,
            "details": self.details,
            "capabilities": self.capabilities,
        }

    def show(self, *, system: str, verbose: bool) -> dict[str, Any]:
        """Return the model card of ``/api/show``; vocabularies are None."""
        facts = self.header.metadata
        info = {key: value for key, value in facts.items() if key != "tokenizer.chat_template"}
        info["general.parameter_count"] = self.header.parameter_count
        if not verbose:
            info = {key: value for key, value in info.items() if value is not None}
        card: dict[str, Any] = {
            "modelfile": f"# the GGUF file as it is\nFROM {self.path}\n",
            "template": self.template,
            "details": self.details,
            "model_info": info,
            "capabilities": self.capabilities,
            "modified_at": self.modified_at,
        }
        if system:
            card["system"] = system
        if licence := facts.get("general.license"):
            card["license"] = licence
        return card


def load_catalog(paths: Iterable[str | os.PathLike[str]] = ()) -> dict[str, Model]:
    """Read the headers of the model files, the kit's own model where no path is given; lower-case name -> model.

    A file's name gives the model's name: ``Llama-3.2-1B-Q4_K_M.gguf`` is ``llama-3.2-1b-q4_k_m:latest``.

    Raises
    ------
    ConfigurationError
        If a file is missing or no GGUF model, or two files would have one name.
    """
    models: dict[str, Model] = {}
    for path in [Path(each).expanduser().absolute() for each in paths] or [served_path()]:
        name = _name_of(path)
        if name in models:
            raise ConfigurationError(
                f"{path} and {models[name].path} would both be named {name!r}; rename one of the files"
            )
        models[name] = Model(name, path, read_header(path))
    return models


def _name_of(path: Path) -> str:
    if path.name in {model_file.FILE_NAME, FAST_NAME}:
        return MODEL_NAME
    stem = re.sub(r"[^a-z0-9_.-]+", "-", path.stem.lower()).lstrip("-.")[:80]
    return f"{stem or 'model'}:latest"


def _kept_digest(path: Path) -> str:
    stat = path.stat()
    mark = f"{path}|{stat.st_size}|{stat.st_mtime_ns}"
    kept_file = cache_dir() / "digests.json"
    try:
        kept: dict[str, str] = json.loads(kept_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = {}
    if mark not in kept:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        kept = {
            **{key: value for key, value in kept.items() if Path(key.split("|")[0]) != path},
            mark: digest,
        }
        _keep(kept_file, kept)
    return kept[mark]


def _keep(file: Path, kept: dict[str, str]) -> None:
    part = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(kept), encoding="utf-8")
        part.replace(file)
    except OSError:  # a cache that cannot be written costs time at the next start, nothing else
        part.unlink(missing_ok=True)

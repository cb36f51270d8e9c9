"""What an argument of the pool or the client may be; each refusal names the argument, its value and what is allowed."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from analysis_kit.errors import ConfigurationError
from analysis_kit.frames import json_value
from analysis_kit.ollama.host import checked_key, parse_host

#: The system's clocks end somewhere above this; who waits for thirty years (on Windows 50 days) waits for ever.
LONGEST_S = min(1e9, threading.TIMEOUT_MAX)
#: The options that Ollama's documentation names, and some that others write for them.
_OPTIONS = {
    "num_ctx", "num_predict", "num_keep", "num_batch", "num_gpu", "num_thread", "main_gpu", "use_mmap", "use_mlock",
    "low_vram", "numa", "temperature", "seed", "top_k", "top_p", "min_p", "typical_p", "tfs_z", "stop",
    "repeat_last_n", "repeat_penalty", "presence_penalty", "frequency_penalty", "mirostat", "mirostat_tau",
    "mirostat_eta", "penalize_newline", "draft_num_predict",
}  # fmt: skip
_OTHER_WORDS = {"max_tokens": "num_predict", "max_new_tokens": "num_predict", "context_length": "num_ctx"}


def whole(name: str, value: object, *, least: int) -> None:
    """Refuse ``value`` if it is no whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name}={value!r}: use a whole number, {least} or more")


def seconds(name: str, value: object, *, zero: bool = False) -> float:
    """Return ``value`` as seconds, at most `LONGEST_S`; 0 is refused unless ``zero`` allows it."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not (value > 0 or (zero and value == 0))
    ):
        allowed = "0 or more" if zero else "above 0"
        raise ConfigurationError(f"{name}={value!r}: use a number of seconds, {allowed}")
    return min(value, LONGEST_S)


def options_of(value: object) -> dict[str, Any]:
    """Return ``value`` as options of a model, in JSON's kinds; a name that is nearly one is refused: a server passes over it."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"options={value!r} must map names to values, as in {{'temperature': 0.5}}.")
    for name in value:
        near = (
            [_OTHER_WORDS[name]]
            if name in _OTHER_WORDS
            else difflib.get_close_matches(str(name), _OPTIONS, 1, 0.8)
        )
        if near and name not in _OPTIONS:
            raise ConfigurationError(
                f"options= has {name!r}, which a server ignores; did you mean {near[0]!r}?"
            )
    return {name: _plain(given) for name, given in value.items()}


def _plain(value: Any) -> Any:
    """Return ``value`` in JSON's kinds; one that is of none (NaN, an object) stays, for the request to refuse it."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if getattr(value, "ndim", 0):
        return _plain(value.tolist())
    told = json_value(value)
    lost = told is None or (isinstance(told, str) and not isinstance(value, str))
    return value if lost else told


def keys_by_host(api_key: str | Mapping[str, str] | None, hosts: Sequence[str]) -> dict[str, str]:
    """Return host -> key, where ``api_key`` is the key of the one host, or says which host has which."""
    if isinstance(api_key, Mapping):
        keys = {parse_host(host): checked_key(key) for host, key in api_key.items()}
        strange = keys.keys() - set(hosts)
        if strange:
            raise ConfigurationError(
                f"api_key= names {', '.join(sorted(strange))}, which is no host of the pool"
            )
        return keys
    if api_key is None:
        return {}
    key = checked_key(api_key)
    if len(hosts) > 1:
        raise ConfigurationError(f"api_key= is one key for {len(hosts)} hosts; give a mapping host -> key")
    return {hosts[0]: key}

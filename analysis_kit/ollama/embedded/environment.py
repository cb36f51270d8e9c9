"""Ollama's own variables for a server, as far as they mean something for this one.

Not taken: ``OLLAMA_MODELS`` (files are named by path), ``OLLAMA_LOAD_TIMEOUT`` (a load cannot be broken off),
``OLLAMA_MAX_LOADED_MODELS`` (the models are those that were named, each with its own life) and those of the cloud.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass

from analysis_kit.errors import ConfigurationError
from analysis_kit.ollama.durations import duration_s, life_s
from analysis_kit.ollama.embedded.names import base_url
from analysis_kit.ollama.host import DEFAULT_PORT, EMBEDDED, is_loopback

DEFAULT_PARALLEL, DEFAULT_CTX = 2, 2048
#: Ollama raises what is less.
LEAST_CTX = 4
DEFAULT_KEEP_ALIVE_S, DEFAULT_MAX_QUEUE = 300.0, 512
_LOOPBACK = "127.0.0.1"
_SCHEME_PORTS = {"http": 80, "https": 443}
_MOST_PORT = 65535
_ADDRESS = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[^:]*))?")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerVariables:
    """What the environment says of a server.

    Parameters
    ----------
    parallel : int
        ``OLLAMA_NUM_PARALLEL``: requests that a model answers at once.
    ctx : int
        ``OLLAMA_CONTEXT_LENGTH``: tokens of context of a request.
    keep_alive_s : float
        ``OLLAMA_KEEP_ALIVE``: seconds that a model stays in memory after its last request; infinite for ever.
    max_queue : int
        ``OLLAMA_MAX_QUEUE``: requests that may wait for a model to be loaded, besides the one that loads it.
    origins : tuple of str
        ``OLLAMA_ORIGINS``: web origins allowed besides the local ones; ``*`` stands for anything.
    """

    parallel: int
    ctx: int
    keep_alive_s: float
    max_queue: int
    origins: tuple[str, ...]


def server_variables() -> ServerVariables:
    """Read the environment; a value that cannot be used is warned of, and the default taken, as Ollama does it."""
    return ServerVariables(
        parallel=_count("OLLAMA_NUM_PARALLEL", 0) or DEFAULT_PARALLEL,
        ctx=max(_count("OLLAMA_CONTEXT_LENGTH", 0) or DEFAULT_CTX, LEAST_CTX),
        keep_alive_s=_life_s("OLLAMA_KEEP_ALIVE"),
        max_queue=_count("OLLAMA_MAX_QUEUE", DEFAULT_MAX_QUEUE),
        origins=tuple(filter(None, (each.strip() for each in _value("OLLAMA_ORIGINS").split(",")))),
    )


def listen_address(*, say: bool = True) -> tuple[str, int]:
    """Return address and port to listen on by ``OLLAMA_HOST``, which clients read as well: it never opens the network.

    An address of loopback is taken. One that means every interface (``0.0.0.0``, ``:1234``) gives the port alone, and
    one of another machine nothing; both are said, unless only the port is wanted.

    Raises
    ------
    ConfigurationError
        If it names several servers.
    """
    text = _value("OLLAMA_HOST")
    if text.lower() in {"", EMBEDDED}:
        return _LOOPBACK, DEFAULT_PORT
    if "," in text:
        raise ConfigurationError(
            f"OLLAMA_HOST={text} names several servers; say where this one is to listen: --listen and --port"
        )
    scheme, separator, rest = text.partition("://")
    place = (rest if separator else text).partition("/")[0]
    found = _ADDRESS.fullmatch(place)
    name = (
        (found["six"] or found["name"] or "") if found else place
    )  # an IPv6 address may stand without brackets
    default = _SCHEME_PORTS.get(scheme, DEFAULT_PORT) if separator else DEFAULT_PORT
    port = _port(found["port"] if found else None, default)
    if name and is_loopback(base_url(name, port)):
        return name, port
    level = logging.WARNING if say else logging.DEBUG
    if name in {"", "0.0.0.0", "::"}:  # noqa: S104 - recognised, not bound
        _log.log(
            level,
            "OLLAMA_HOST=%s means every interface; listening on loopback alone, --listen 0.0.0.0 opens it to the network",
            text,
            extra={"variable": "OLLAMA_HOST", "value": text},
        )
        return _LOOPBACK, port
    _log.log(
        level,
        "OLLAMA_HOST=%s is no address of loopback; listening on %s, --listen takes another",
        text,
        base_url(_LOOPBACK, DEFAULT_PORT),
        extra={"variable": "OLLAMA_HOST", "value": text},
    )
    return _LOOPBACK, DEFAULT_PORT


def _value(name: str) -> str:
    return os.environ.get(name, "").strip().strip("\"'")


def _count(name: str, default: int) -> int:
    text = _value(name)
    if not text or (text.isascii() and text.isdigit()):
        return int(text) if text else default
    _not_used(name, text, "no whole number of 0 or more")
    return default


def _life_s(name: str) -> float:
    text = _value(name)
    if re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        return life_s(float(text))
    try:
        return life_s(duration_s(text)) if text else DEFAULT_KEEP_ALIVE_S
    except ValueError:
        _not_used(name, text, "neither a duration such as 5m nor a number of seconds")
        return DEFAULT_KEEP_ALIVE_S


def _not_used(name: str, text: str, why: str) -> None:
    facts = {"variable": name, "value": text}
    _log.warning("%(variable)s=%(value)s is %(why)s; it is not used", {**facts, "why": why}, extra=facts)


def _port(text: str | None, default: int) -> int:
    if text is None or (text.isascii() and text.isdigit() and int(text) <= _MOST_PORT):
        return int(text) if text else default
    _log.warning(
        "%r in OLLAMA_HOST is no port; using %d",
        text,
        default,
        extra={"variable": "OLLAMA_HOST", "value": text},
    )
    return default

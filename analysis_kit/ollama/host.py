"""Addresses: every form of OLLAMA_HOST becomes a base URL, as the server itself reads it (its envconfig/config.go).

Where the server's reading names an address to listen on (``0.0.0.0``, ``:1234``), the client connects to loopback.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import socket
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from analysis_kit.errors import ConfigurationError
from analysis_kit.settings import get_settings

_log = logging.getLogger(__name__)

DEFAULT_PORT = 11434
#: The word that stands for the server this package brings along.
EMBEDDED = "embedded"
#: The one host that takes the key in ``OLLAMA_API_KEY``.
CLOUD = "https://ollama.com:443"
_SCHEME_PORTS = {"http": 80, "https": 443}
_MAX_PORT = 65535
_NOT_IN_A_HOST = re.compile(r"[\s\x00-\x1f<>\"'\\^`{|}?#@]")


def parse_host(value: str) -> str:
    """Return the base URL that ``value`` means: scheme, host, port, and a path where there is one.

    Parameters
    ----------
    value : str
        What OLLAMA_HOST may hold: ``""``, ``host``, ``host:port``, ``:port``, ``[v6]:port``, ``http(s)://...``. Blanks
        and quotes around it are stripped. A port that is none becomes the default one, as the server does it.

    Returns
    -------
    str
        Without a trailing slash; the port is always there. The word ``embedded`` is returned as it is.

    Raises
    ------
    ConfigurationError
        If it names another scheme, a user, or no possible host.

    Examples
    --------
    >>> parse_host("gpu1")
    'http://gpu1:11434'
    >>> parse_host("https://example.com/ollama")
    'https://example.com:443/ollama'
    >>> parse_host("0.0.0.0")
    'http://127.0.0.1:11434'
    """
    text = value.strip().strip("\"'").strip()
    if text.lower() == EMBEDDED:
        return EMBEDDED
    given_scheme, separator, rest = text.partition("://")
    scheme, port = ("http", DEFAULT_PORT) if not separator else (given_scheme.lower(), DEFAULT_PORT)
    if separator:
        port = _SCHEME_PORTS.get(given_scheme, DEFAULT_PORT)
    else:
        rest = text
        if text.lower() == "ollama.com":
            scheme, port = "https", 443
    if scheme not in _SCHEME_PORTS:
        raise ConfigurationError(f"the host {_shown(text)} has scheme {scheme!r}; use http:// or https://")
    hostport, _, path = rest.partition("/")
    if "@" in hostport:
        raise ConfigurationError(
            f"the host {_shown(text)} names a user, which Ollama does not know; a key goes into api_key="
        )
    host, port_text = _split(hostport)
    if port_text is not None:
        port = _port(port_text, default=port)
    host = _connectable(host, text)
    path = path.rstrip("/")
    if re.search(r"[\s?#]", path):
        raise ConfigurationError(
            f"the host {_shown(text)} has a path that cannot be one; a host ends with its path"
        )
    return f"{scheme}://{host}:{port}" + (f"/{path}" if path else "")


def resolve_hosts(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return base URLs, in order and each once; the word ``embedded`` stays a word, so that nothing is started by it.

    Parameters
    ----------
    value : str or sequence of str or None
        One host, several (a list, or one text with commas), or None for OLLAMA_HOST, else the local default.

    Raises
    ------
    ConfigurationError
        As `parse_host`.

    Examples
    --------
    >>> resolve_hosts("gpu1, gpu2:8080")
    ('http://gpu1:11434', 'http://gpu2:8080')
    """
    if value is None:
        value = get_settings().OLLAMA_HOST
    entries = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    for entry in entries:
        if not isinstance(entry, str):
            raise ConfigurationError(f"hosts={value!r}: use text, or a list of texts")
    stripped = [entry.strip().strip("\"'") for entry in entries]
    parts = [part for entry in stripped for part in entry.split(",") if part.strip()] or [""]
    return tuple(dict.fromkeys(parse_host(part) for part in parts))


def is_loopback(url: str) -> bool:
    """Return whether ``url`` (a base URL, or the word ``embedded``) stays on this machine.

    Examples
    --------
    >>> is_loopback("http://[::1]:11434")
    True
    """
    if url == EMBEDDED:
        return True
    name = (urlsplit(url).hostname or "").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(name))  # 127.1 and other short forms
        except OSError:
            return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def api_key_for(base_url: str, given: str | None) -> str | None:
    """Return the key to send to ``base_url``: the one ``given`` for it; ``OLLAMA_API_KEY`` is for ollama.com alone."""
    if given is not None:
        return checked_key(given) or None
    if base_url == CLOUD or base_url.startswith(CLOUD + "/"):
        return checked_key(os.environ.get("OLLAMA_API_KEY", ""), name="OLLAMA_API_KEY") or None
    return None


def checked_key(key: object, *, name: str = "api_key") -> str:
    """Return ``key`` without blanks around it; one that no HTTP header can carry is refused, and not shown."""
    if not isinstance(key, str):
        raise ConfigurationError(f"{name}= is a {type(key).__name__}; a key is text")
    text = key.strip()
    if not (text.isascii() and text.isprintable()):
        raise ConfigurationError(
            f"{name}= holds characters that no HTTP header can carry; use printable ASCII"
        )
    return text


def _split(hostport: str) -> tuple[str, str | None]:
    """Cut into host and port text (None where there is no port)."""
    bracketed = re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", hostport)
    if bracketed:
        return bracketed[1], bracketed[2]
    if hostport.count(":") == 1:
        host, _, port = hostport.partition(":")
        return host, port
    return hostport, None


def _port(text: str, *, default: int) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) <= _MAX_PORT:
        return int(text)
    _log.warning(
        "%r is no port to connect to; using %d", text, default, extra={"given": text, "port": default}
    )
    return default


def _connectable(host: str, text: str) -> str:
    if not host:
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        if ":" in host or _NOT_IN_A_HOST.search(host):
            raise ConfigurationError(
                f"the host {_shown(text)} cannot be read; write host, host:port, [v6]:port or http(s)://host:port/path"
            ) from None
        return host.lower()
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"  # noqa: PLR2004 - IP versions
    return f"[{host}]" if address.version == 6 else host  # noqa: PLR2004


def _shown(text: str) -> str:
    """Return ``text`` for a message, without a user and password that may stand in it."""
    return repr(re.sub(r"(?<=//)[^/]*@|^[^/]*@", "***@", text))

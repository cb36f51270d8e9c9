"""Who may ask: the Host and Origin rules that keep web pages away from a server on loopback."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ORIGINS = re.compile(
    r"https?://(localhost|127\.0\.0\.1|0\.0\.0\.0)(:\d+)?\Z|(app|file|tauri|vscode-webview|vscode-file)://",
    re.IGNORECASE,
)
_LOCAL_ENDINGS = (".localhost", ".local", ".internal")
_ALLOWED_HEADERS = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,OpenAI-Beta,x-stainless-arch,x-stainless-async,"
    "x-stainless-custom-poll-interval,x-stainless-helper-method,x-stainless-lang,x-stainless-os,"
    "x-stainless-package-version,x-stainless-poll-helper,x-stainless-retry-count,x-stainless-runtime,"
    "x-stainless-runtime-version,x-stainless-timeout"
)


class Guard:
    """ASGI middleware: answers 403 to foreign web pages, 204 to allowed preflights, and marks allowed origins.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    loopback : bool
        Whether the server listens on loopback; the Host rule holds only there.
    origins : sequence of str
        Origins allowed besides the local ones; ``*`` stands for anything.
    """

    def __init__(self, app: ASGIApp, *, loopback: bool, origins: Sequence[str]) -> None:
        self.app = app
        self.check_host = loopback
        own = "|".join(re.escape(origin).replace(r"\*", ".*") for origin in origins)
        self._own_origins = re.compile(own, re.IGNORECASE) if own else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin", "")
        foreign = bool(origin) and origin.lower() not in {f"http://{host}".lower(), f"https://{host}".lower()}
        if foreign and not self._allows(origin):
            await Response(status_code=403)(scope, receive, send)
        elif foreign and scope["method"] == "OPTIONS":
            await Response(status_code=204, headers=_preflight(origin))(scope, receive, send)
        elif self.check_host and not _allowed_host(host):
            await Response(status_code=403)(scope, receive, send)
        elif scope["method"] == "OPTIONS" and not _address_of(host):
            await Response(status_code=204)(scope, receive, send)
        else:
            await self.app(scope, receive, _marking(send, origin) if foreign else send)

    def _allows(self, origin: str) -> bool:
        own = self._own_origins is not None and self._own_origins.fullmatch(origin)
        return bool(own or _ORIGINS.match(origin))


def _preflight(origin: str) -> dict[str, str]:
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
        "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
        "Access-Control-Max-Age": "43200",
        "Vary": "Origin",
    }


def _marking(send: Send, origin: str) -> Send:
    extra: Iterable[tuple[bytes, bytes]] = (
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"vary", b"Origin"),
    )

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *extra]}
        await send(message)

    return marked


def _name_of(host: str) -> str:
    """Return a Host header without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() and ":" not in name else host


def _address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(_name_of(host))
    except ValueError:
        return None


def _allowed_host(host: str) -> bool:
    if address := _address_of(host):
        return address.is_loopback or address.is_private or address.is_unspecified or _is_own(str(address))
    name = _name_of(host).lower()
    return name in {"", "localhost", socket.gethostname().lower()} or name.endswith(_LOCAL_ENDINGS)


def _is_own(address: str) -> bool:
    """Return whether an address belongs to this machine: only such can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True

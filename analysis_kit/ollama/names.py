"""Names of models by Ollama's rules."""

from __future__ import annotations

import re

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}\Z")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}\Z")
_DEFAULTS = ("registry.ollama.ai", "library")


def short_name(name: str) -> str | None:
    """Return ``name`` as a listing shows it (``model:tag``; host and namespace only where not the default).

    None if it is no model name. Case is kept; compare with `str.lower`.

    Examples
    --------
    >>> short_name(" smollm2 "), short_name("registry.ollama.ai/library/smollm2:135m"), short_name("a b")
    ('smollm2:latest', 'smollm2:135m', None)
    """
    rest = name.strip()
    rest, _, tag = rest.rpartition(":") if ":" in rest.rpartition("/")[2] else (rest, "", "latest")
    *place, model = rest.split("/")
    if len(place) > 2 or not _PART.match(model) or not _PART.match(tag):  # noqa: PLR2004 - host and namespace
        return None
    namespace = place[-1] if place else _DEFAULTS[1]
    host = place[0] if len(place) > 1 else _DEFAULTS[0]
    if not _NAMESPACE.match(namespace) or not _HOST.match(host):
        return None
    full = f"{host}/{namespace}/{model}:{tag}"
    for default in ("/".join(_DEFAULTS), _DEFAULTS[0]):
        if full.lower().startswith(default + "/"):
            return full[len(default) + 1 :]
    return full


def same_model(listed: str, asked: str) -> bool:
    """Return whether ``asked`` names the model that a server lists as ``listed``.

    Case, ``:latest``, the default host and namespace, and ``:local`` (not from the cloud) do not matter.

    Examples
    --------
    >>> same_model("llama3.2:latest", "library/Llama3.2"), same_model("llama3.2:1b", "llama3.2:1b:local")
    (True, True)
    """
    listed, asked = listed.lower(), asked.strip().lower().removesuffix(":local")
    return listed == asked or (short_name(listed) or listed) == short_name(asked)

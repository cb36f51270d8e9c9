"""The name of the kit's own model, and how addresses are written."""

from __future__ import annotations

from analysis_kit.ollama.names import short_name

MODEL_NAME = "smollm2:135m"


def is_demo_model(name: str) -> bool:
    """Return whether ``name`` is the small model that the kit brings, whose judgement of tone is near chance."""
    return (short_name(name) or "").lower() == MODEL_NAME


def base_url(address: str, port: int) -> str:
    """Return the URL of an address, in brackets where it is of IPv6."""
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"

"""What is installed, which server answers, and where files are: the lines of ``analysis-kit doctor``."""

from __future__ import annotations

import platform
import sys
from collections.abc import Generator, Iterator
from importlib.metadata import PackageNotFoundError, version

from analysis_kit.cache import get_cache
from analysis_kit.errors import AnalysisKitError
from analysis_kit.ollama import model_file
from analysis_kit.ollama.client import OllamaClient
from analysis_kit.ollama.host import resolve_hosts
from analysis_kit.speedup import probe_slots

#: Extra -> the distributions it brings.
EXTRAS = {
    "local": ("xllamacpp", "starlette", "uvicorn"),
    "report": ("nbclient", "nbconvert", "papermill", "ipykernel"),
    "processes": ("loky",),
    "dask": ("distributed",),
    "redis": ("redis",),
    "telemetry": ("opentelemetry-sdk", "prometheus-client"),
    "parquet": ("pyarrow",),
}
#: What a server of several is told that has one slot.
_MORE = "It runs one request at a time; with OLLAMA_NUM_PARALLEL=4 more, which takes memory for num_ctx x 4."


def checks(*, hosts: str | None = None, model: str | None = None, probe: bool = True) -> Iterator[str]:
    """Yield one line per finding; what fails is a line too.

    Parameters
    ----------
    hosts : str, optional
        Default: ``OLLAMA_HOST``, else 127.0.0.1:11434.
    model : str, optional
        The model with which the server's slots are measured.
    probe : bool, default True
        Whether to measure how many requests the server runs at once; takes a few short calls.
    """
    yield f"analysis-kit {version('analysis-kit')}, Python {platform.python_version()} at {sys.executable}"
    for extra, distributions in EXTRAS.items():
        yield f"extra {extra}: {', '.join(map(_installed, distributions))}"
    slots, named = [], resolve_hosts(hosts)
    for host in named:
        slots += yield from _server(host, model, probe=probe, alone=len(named) == 1)
    if slots and len(named) > 1:
        some = f"the servers that were measured ({len(slots)} of {len(named)})"
        which = "all servers" if len(slots) == len(named) else some
        yield f"{which}: {sum(slots)} requests at once. Set max_workers={sum(slots)} for a run over them."
    yield model_file.describe()
    yield f"cache: {get_cache()!r}; to empty it: python -c 'import analysis_kit; analysis_kit.get_cache().clear()'"


def _installed(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} not installed"


def _server(host: str, model: str | None, *, probe: bool, alone: bool) -> Generator[str, None, list[int]]:
    """Yield the lines on one server; return how many requests it works on at once, none if that is not known."""
    if host == "embedded":
        from analysis_kit.ollama.embedded import embedded_url

        host = embedded_url()
    try:
        with OllamaClient(host) as client:
            names = [item.name for item in client.tags()]
            yield f"server {client.base_url}: Ollama {client.version()}, models: {', '.join(names) or 'none'}"
            chosen = model or (client.default_model() if names else None)
        if probe and chosen:
            found = probe_slots(host, chosen)
            # the workers of a run serve all its servers
            advice = found.advice if alone else _MORE if found.slots == 1 else ""
            most = "more" if found.high is None else found.high
            yield (
                f"server {host}: {found.slots} requests at once, measured in {found.calls} calls ({found.low} to {most}). "
                f"{' '.join(filter(None, (found.note, advice)))}".rstrip()
            )
            return [found.slots]
    except AnalysisKitError as exc:
        yield f"server {host}: {exc}"
    return []

"""Execute a notebook in a kernel of this very interpreter, and turn what came out into one HTML page."""

from __future__ import annotations

import asyncio
import html
import json
import math
import sys
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from analysis_kit._optional import require
from analysis_kit.errors import ReportError

#: Nothing is loaded when the page is opened: pictures are inline, scripts are not allowed.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"


def read_notebook(path: Path | None) -> Any:
    """Return the notebook at ``path``, or the kit's template.

    Raises
    ------
    ReportError
        If the file is missing or no notebook.
    """
    nbformat = require("nbformat", extra="report", purpose="a report")
    source = path if path is not None else files("analysis_kit.report").joinpath("template.ipynb")
    try:
        text = source.read_text(encoding="utf-8")
        held = json.loads(text)
        if not isinstance(held, dict) or not isinstance(held.get("nbformat"), int):
            raise ValueError("it has no 'nbformat' number, which every notebook has")  # noqa: TRY004 - told below
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError) as exc:
        said = str(exc).partition("\n")[0]
        raise ReportError(
            f"the template {str(path)!r} cannot be read as a notebook: {said}; give a Jupyter notebook (.ipynb)"
        ) from exc
    return notebook


def with_parameters(notebook: Any, parameters: Mapping[str, Any]) -> Any:
    """Return the notebook with ``parameters`` set after its cell tagged ``parameters``, as papermill does."""
    parameterize = require("papermill.parameterize", extra="report", purpose="a report")
    for cell in notebook.cells:
        cell.metadata.setdefault("tags", [])  # papermill reads these two without asking
    notebook.metadata.setdefault("papermill", type(notebook.metadata)())
    return parameterize.parameterize_notebook(
        notebook, dict(parameters), kernel_name="python3", language="python"
    )


def execute(
    notebook: Any, *, folder: Path, timeout_s: float | None, on_cell: Callable[[int, int], None]
) -> None:
    """Run every cell in a fresh kernel, started with ``sys.executable`` and never by a kernelspec found on the machine.

    It runs a loop of its own, so it must be called from a thread that has none running.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        Changed in place.
    folder : Path
        Where the kernel works.
    timeout_s : float or None
        The longest a cell may take.
    on_cell : callable
        Called with the number of cells done, and of all.

    Raises
    ------
    ReportError
        If a cell fails, takes too long, or the kernel dies.
    """
    nbclient = require("nbclient", extra="report", purpose="a report")
    manager = require("jupyter_client.manager", extra="report", purpose="a report")
    kernelspec = require("jupyter_client.kernelspec", extra="report", purpose="a report")
    require("ipykernel", extra="report", purpose="a report")
    spec = kernelspec.KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=40"],
        display_name="Python",
        language="python",
    )

    class OwnKernels(kernelspec.KernelSpecManager):  # type: ignore[misc, name-defined] # loaded on use
        def get_kernel_spec(self, kernel_name: str) -> Any:
            del kernel_name
            return spec

    kernels = manager.AsyncKernelManager(kernel_name="python3", kernel_spec_manager=OwnKernels())
    done = 0
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)

    def count(execute_reply: Mapping[str, Any], **_: Any) -> None:
        nonlocal done
        if execute_reply["content"]["status"] == "ok":  # the cell that fails is told of, too
            done += 1
            on_cell(done, cells)

    client = nbclient.NotebookClient(
        notebook,
        km=kernels,
        timeout=None if timeout_s is None else math.ceil(timeout_s),  # it takes whole seconds
        resources={"metadata": {"path": str(folder)}},
        on_cell_executed=count,
    )
    try:
        # execute() would leave a loop open behind it; a manager that was handed in is not cleaned up unasked
        asyncio.run(client.async_execute(cleanup_kc=True))
    except nbclient.exceptions.CellTimeoutError as exc:
        raise ReportError(
            f"cell {done + 1} of {cells} of the report took longer than {timeout_s:g} s"
        ) from exc
    except nbclient.exceptions.DeadKernelError as exc:
        raise ReportError(f"the report's kernel died in cell {done + 1} of {cells}") from exc
    except nbclient.exceptions.CellExecutionError as exc:
        raise ReportError(
            f"cell {done + 1} of {cells} of the report failed: {exc.ename}: {exc.evalue}"
        ) from exc


def to_html(notebook: Any, *, title: str, subtitle: str) -> str:
    """Return the notebook's outputs and prose as one page that loads nothing: code, widgets and scripts are left out."""
    nbconvert = require("nbconvert", extra="report", purpose="a report")
    notebook.metadata.pop("widgets", None)
    exporter = nbconvert.HTMLExporter(
        template_name="basic", exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True
    )
    body, _ = exporter.from_notebook_node(notebook)
    css = files("analysis_kit.report").joinpath("style.css").read_text(encoding="utf-8")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{css}</style></head>\n"
        f'<body><header><h1>{html.escape(title)}</h1><p class="sub">{html.escape(subtitle)}</p></header>\n'
        f"<main>{body}</main></body></html>\n"
    )

"""The notebooks run from top to bottom on the embedded model, in a kernel of this very interpreter."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.llama

FOLDER = Path(__file__).parent.parent / "notebooks"


def executed(path):
    """Return the notebook after every cell has run, with the folder of the notebooks as working folder."""
    import nbclient
    import nbformat
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class ThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name):
            return KernelSpec(
                argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                display_name="this Python",
                language="python",
            )

    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython()),
        timeout=300,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    asyncio.run(client.async_execute(cleanup_kc=True))
    return notebook


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end_and_shows_tables_and_figures(path):
    """No cell fails or complains; there is a table, a picture with words for it, and no widget that needs a kernel."""
    notebook = executed(path)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    shown = [output.data for output in outputs if output.output_type in {"execute_result", "display_data"}]
    assert [data for data in shown if "<table" in data.get("text/html", "")]
    assert [data for data in shown if "image/png" in data or "<img" in data.get("text/html", "")]
    assert not [data for data in shown if "application/vnd.jupyter.widget-view+json" in data]
    complaints = [output.text for output in outputs if output.get("name") == "stderr"]
    assert not [text for text in complaints if "Warning" in text or "Traceback" in text]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_kept_valid_and_names_no_place_of_its_author(path):
    """It is a notebook by the format's own schema, it begins with words, and its paths are relative."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    source = "\n".join(cell.source for cell in notebook.cells)
    assert "/home/" not in source
    assert notebook.cells[0].cell_type == "markdown"
    assert source.count("import analysis_kit as ak") == 1

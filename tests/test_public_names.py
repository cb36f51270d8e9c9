"""The package root: every public name is there, and importing it loads and does nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import analysis_kit

HEAVY = [
    "pandas",
    "numpy",
    "scipy",
    "matplotlib",
    "ipywidgets",
    "IPython",
    "pydantic_settings",
    "distributed",
    "nbconvert",
    "papermill",
    "xllamacpp",
    "requests",
    "asyncio",
]


def _in_a_fresh_interpreter(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout


def test_import_loads_nothing_heavy():
    """A bare import leaves pandas and its like unloaded."""
    out = _in_a_fresh_interpreter("import sys, json, analysis_kit; print(json.dumps(list(sys.modules)))")
    assert not set(HEAVY) & set(json.loads(out))


def test_import_changes_nothing():
    """Importing adds no logging handler, event loop policy or warning filter."""
    code = (
        "import asyncio, logging, warnings\n"
        "before = (list(logging.root.handlers), type(asyncio.get_event_loop_policy()), list(warnings.filters))\n"
        "import analysis_kit\n"
        "print(before == (list(logging.root.handlers), type(asyncio.get_event_loop_policy()), list(warnings.filters)))"
    )
    assert _in_a_fresh_interpreter(code).strip() == "True"


def test_every_public_name_resolves_to_its_home():
    """Each name of ``__all__`` can be had, and its table entry is true."""
    for name in analysis_kit.__all__:
        assert getattr(analysis_kit, name) is not None
    assert set(analysis_kit.__all__) <= set(dir(analysis_kit))
    assert not {"Any", "TYPE_CHECKING", "annotations"} & set(
        dir(analysis_kit)
    )  # what completion offers is ours


def test_an_unknown_name_is_an_attribute_error():
    """A misspelt name fails as on any module."""
    assert not hasattr(analysis_kit, "analyse")

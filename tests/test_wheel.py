"""The wheel alone, in an empty environment outside the checkout, makes a report."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _run(*command, cwd, env=None):
    """Run a command to its end; its output goes into the failure."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from the checkout."""
    place = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", place, ROOT, cwd=place)
    (built,) = place.glob("*.whl")
    return built


def test_the_wheel_holds_what_the_report_needs_and_nothing_of_the_tests(wheel):
    """Template, style, the sample call and the typing mark are inside; tests, notebooks and data are not."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {
        "analysis_kit/report/template.ipynb",
        "analysis_kit/report/style.css",
        "analysis_kit/transcripts/example.txt",
        "analysis_kit/py.typed",
    } <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"analysis_kit"}
    assert not [name for name in names if "__pycache__" in name]
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_a_report_is_made_by_the_wheel_in_an_empty_environment(wheel, tmp_path):
    """Installed with its report extra, the command analyses the packaged sample by rules and writes the page."""
    home = tmp_path / "venv"
    _run(sys.executable, "-m", "venv", home, cwd=tmp_path)
    programs = home / ("Scripts" if sys.platform == "win32" else "bin")
    python = programs / "python"
    _run(python, "-m", "pip", "install", "--quiet", f"{wheel}[report]", cwd=tmp_path)
    # nothing of the checkout may help: neither a path nor the working folder
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    code = "from importlib.resources import files; import analysis_kit; print(files(analysis_kit))"
    installed = Path(_run(python, "-c", code, cwd=tmp_path, env=env).strip())
    assert home in installed.parents
    sample = installed / "transcripts" / "example.txt"
    told = _run(
        programs / "analysis-kit",
        "report",
        sample,
        "--analyzers",
        "tone,complexity,numerical,deception",
        cwd=tmp_path,
        env=env,
    )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "report.html" in told
    assert "Fernhill Bakeries" in page
    assert page.count("<figure") >= 2
    assert "Nothing is missing" in page

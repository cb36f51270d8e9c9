"""The main job in one call: `analyze` gives an `AnalysisRun`; `last_run` is the latest one, from its start on."""

from __future__ import annotations

from analysis_kit.run.analysis import AnalysisRun, last_run
from analysis_kit.run.api import analyze

__all__ = ["AnalysisRun", "analyze", "last_run"]

"""How many workers really help: measure a speedup curve, fit it, ask a server for its slots."""

from __future__ import annotations

from analysis_kit.speedup.fit import SpeedupFit, fit_speedup
from analysis_kit.speedup.measure import measure_speedup
from analysis_kit.speedup.probe import SlotProbe, probe_slots

__all__ = ["SlotProbe", "SpeedupFit", "fit_speedup", "measure_speedup", "probe_slots"]

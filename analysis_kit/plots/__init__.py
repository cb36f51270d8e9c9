"""Plots of a run and of its timings: ``plot_*(data, *, ax=None) -> Axes``, each with a function for the data it draws.

Every plot takes a DataFrame, or an object with ``to_frame()``. Without ``ax`` it makes a figure that pyplot does not
know: none stays open, and in a notebook the returned axes show themselves with alt text and data table.
"""

from __future__ import annotations

from analysis_kit.plots.compare import compare_data, plot_compare
from analysis_kit.plots.html import figure_html
from analysis_kit.plots.latency import latency_data, latency_summary, plot_latency
from analysis_kit.plots.scores import plot_heatmap, plot_scores, scores_data
from analysis_kit.plots.speedup import plot_speedup, speedup_data
from analysis_kit.plots.split import plot_time_split, time_split_data
from analysis_kit.plots.timeline import plot_throughput, plot_timeline, throughput_data, timeline_data

__all__ = [
    "compare_data",
    "figure_html",
    "latency_data",
    "latency_summary",
    "plot_compare",
    "plot_heatmap",
    "plot_latency",
    "plot_scores",
    "plot_speedup",
    "plot_throughput",
    "plot_time_split",
    "plot_timeline",
    "scores_data",
    "speedup_data",
    "throughput_data",
    "time_split_data",
    "timeline_data",
]

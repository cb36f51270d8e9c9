"""What a run will cost, before it is started."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from analysis_kit import _html
from analysis_kit.analyzers.llm import CHARACTERS_PER_TOKEN, LLMAnalyzer
from analysis_kit.monitor.records import Snapshot
from analysis_kit.run.plan import Plan


@dataclass(frozen=True, slots=True)
class Estimate:
    """Calls, tokens and time of a run that has not run yet.

    Attributes
    ----------
    rows : int
        Rows of the table.
    calls : int
        Requests to a model, without those whose answer is cached.
    cached : int
        Answers that are there already.
    prompt_tokens, generated_tokens : int
        Upper bounds: three characters a token, and the most each answer may take.
    wall_s : float
        Predicted seconds; NaN where nothing was measured yet.
    basis : str
        What the prediction rests on.
    """

    rows: int
    calls: int
    cached: int
    prompt_tokens: int
    generated_tokens: int
    wall_s: float
    basis: str

    def __str__(self) -> str:
        wall = f"about {self.wall_s:,.0f} s" if math.isfinite(self.wall_s) else "time unknown"
        return (
            f"{self.rows} rows: {self.calls} calls to a model ({self.cached} more are cached), at most "
            f"{self.prompt_tokens:,} prompt and {self.generated_tokens:,} answer tokens, {wall} ({self.basis})"
        )

    def _repr_html_(self) -> str:
        return _html.block(f"<p>{_html.escape(self)}</p>")


def estimate(plan: Plan, *, workers: int, seconds_a_call: Mapping[str, float]) -> Estimate:
    """Return the estimate of ``plan``.

    Parameters
    ----------
    plan : Plan
        What will be done.
    workers : int
        Calls at the same time.
    seconds_a_call : mapping
        Analyzer name -> seconds that one call takes, as measured.
    """
    calls, cached, prompt, generated, wall, unknown = 0, 0, 0, 0, 0.0, 0
    for job in plan.llm_jobs:
        analyzer = job.analyzer
        if not isinstance(analyzer, LLMAnalyzer) or not job.unit.text.strip():
            continue
        if analyzer.is_cached(job.unit.text, sample=job.repeat):
            cached += 1
            continue
        calls += 1
        prompt += math.ceil(len(analyzer.question.render(job.unit.text)) / CHARACTERS_PER_TOKEN)
        generated += analyzer.question.num_predict
        seconds = seconds_a_call.get(analyzer.name, math.nan)
        unknown += math.isnan(seconds)
        wall += 0.0 if math.isnan(seconds) else seconds
    basis = "by the calls measured in this session" if calls else "nothing to ask"
    if unknown:
        wall, basis = math.nan, "no call was measured in this session; run with limit=3 first"
    return Estimate(len(plan.jobs), calls, cached, prompt, generated, wall / max(1, workers), basis)


def seconds_of(measured: Snapshot) -> float:
    """Return the mean seconds of the calls that were answered; of all of them, if there were no others.

    One that timed out or was refused says nothing on how long an answer takes.
    """
    answered = [seconds for seconds, _, error, *_ in measured.recent if error is None]
    if measured.failures and answered:
        return math.fsum(answered) / len(answered)
    return measured.total / measured.count if measured.count else math.nan

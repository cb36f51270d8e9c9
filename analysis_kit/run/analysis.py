"""`AnalysisRun`: plan, run, keep every row, and hand it all out as tables."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import operator
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from analysis_kit import _html
from analysis_kit.cancellation import CancelToken, current_token
from analysis_kit.container import get_container
from analysis_kit.dashboard import Dashboard, in_notebook
from analysis_kit.engine.arguments import checked_count
from analysis_kit.engine.engine import AsyncAnalysisEngine, Outcome, Task
from analysis_kit.errors import ConfigurationError
from analysis_kit.monitor.monitor import get_monitor
from analysis_kit.ollama.host import resolve_hosts
from analysis_kit.ollama.pool import OllamaConnectionPool
from analysis_kit.results import Examined, Row
from analysis_kit.run import tables
from analysis_kit.run.estimate import Estimate, estimate, seconds_of
from analysis_kit.run.plan import Job, Plan, RunConfig, make_plan
from analysis_kit.run.server import parallel_notices, pool_for
from analysis_kit.run.storage import load_run, save_run
from analysis_kit.run.units import Unit
from analysis_kit.settings import get_settings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_log = logging.getLogger(__name__)
_last: AnalysisRun | None = None

#: llama.cpp in the embedded server works on two requests at a time; more clients only queue (measured on two cores).
EMBEDDED_WORKERS = 2
#: The most requests that ``max_workers="auto"`` has under way; how many it is at a time, the server's latency decides.
AUTO_MOST = 16
#: A run that is expected to take longer says so before it starts.
LONG_S = 600.0
OPEN = frozenset({"not started", "cancelled"})


def last_run() -> AnalysisRun | None:
    """Return the run that was started last in this process, finished or not; None before the first."""
    return _last


class AnalysisRun:
    """A run over units x analyzers: await it, look at it while it works, and take its tables.

    Made by `analyze`. Awaiting it again works on what was cancelled or never started; `retry_failed` on what failed.

    Attributes
    ----------
    units : tuple of Unit
        What is analysed.
    notices : list of str
        What the user should know: sentences on the server, the models and where the texts went.
    """

    def __init__(self, units: Sequence[Unit], config: RunConfig) -> None:
        self.units = tuple(units)
        self.notices: list[str] = []
        self._worked_s = 0.0
        self._began = math.nan  # perf_counter seconds, while it works
        self._config = config
        self._embedded = "embedded" in resolve_hosts(config.hosts)
        usual = EMBEDDED_WORKERS if self._embedded else get_settings().ASYNC_MAX_WORKERS
        self._workers = config.max_workers or usual
        self._plan: Plan | None = None
        self._planning = threading.Lock()  # guards the making of _plan: one thread asks the server
        self._rows: list[Row] = []
        self._loaded = False  # from a file: rows without their analyzers
        self._token: CancelToken | None = None
        self._watchers: list[Callable[[Row], None]] = []

    # -- before ---------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """Return what the run will do; made once, and the only part that asks the server before the run.

        Raises
        ------
        OllamaUnreachableError
            If a server is needed and none answers.
        ConfigurationError
            If no model was named and the server has none, or several.
        """
        with self._planning:
            if self._plan is None:
                given = self._config.hosts is not None or bool(get_settings().OLLAMA_HOST)
                plan = make_plan(self.units, self._config, pool=self._pool, host_given=given)
                self._rows = [_blank(job) for job in plan.jobs]
                for notice in plan.notices:
                    self._say(notice)
                self._plan = plan
            return self._plan

    def estimate(self) -> Estimate:
        """Return calls, tokens, what is cached and the predicted time, before running."""
        plan = self.plan()
        known = {each.name: seconds_of(each) for each in get_monitor().snapshot()}
        workers = self._workers if isinstance(self._workers, int) else 1
        return estimate(plan, workers=workers, seconds_a_call=known)

    def save(self, path: str | Path) -> None:
        """Write the run, with its texts, as JSON; `AnalysisRun.load` reads it again."""
        save_run(path, units=self.units, rows=self._rows, notices=self.notices, wall_s=self.wall_s)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return a saved run with all its tables; it cannot be run again."""
        saved = load_run(path)
        run = cls(saved.units, RunConfig(analyzers=()))
        run._plan, run._rows, run._loaded = Plan(()), saved.rows, True
        run.notices, run._worked_s = saved.notices, saved.wall_s
        return run

    def watch(self, watcher: Callable[[Row], None]) -> None:
        """Have ``watcher`` called with every row that ends, on the thread that runs the loop."""
        self._watchers.append(watcher)

    # -- running --------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, AnalysisRun]:
        return self._run(OPEN).__await__()

    async def retry_failed(self) -> AnalysisRun:
        """Work again on the rows that failed, and on nothing else."""
        return await self._run(frozenset({"failed"}))

    def cancel(self) -> None:
        """Stop: queued units never start, running ones are aborted; what is finished stays. From any thread."""
        token = self._token
        if token is not None:
            token.cancel()

    async def _run(self, statuses: frozenset[str]) -> AnalysisRun:
        global _last  # noqa: PLW0603 - the one process-wide latest run
        if self._loaded:
            raise ConfigurationError("a loaded run has its tables and no analyzers; analyze() the data again")
        if self._token is not None:
            raise ConfigurationError("this run is working already; wait for it, or cancel() it first")
        token = self._token = CancelToken()
        _last = self
        get_monitor()  # listens from here on
        self._began = time.perf_counter()
        try:
            plan = await self._plan_aside(token)
            tasks = [
                self._task(index, job)
                for index, (job, row) in enumerate(zip(plan.jobs, self._rows, strict=True))
                if row.status in statuses
            ]
            for task in tasks:  # what is worked on again counts as open again
                index = cast("int", task.key)
                self._rows[index] = _blank(plan.jobs[index])
            engine = self._engine()
            shown = self._config.dashboard if self._config.dashboard is not None else in_notebook()
            async with Dashboard(self) if shown else contextlib.nullcontext():
                await engine.run_tasks(
                    tasks,
                    on_outcome=self._keep,
                    token=token,
                    on_error=self._config.on_error,
                    deadline_s=self._config.deadline_s,
                    timeout_s=self._config.timeout_s,
                )
        except BaseException as exc:
            token.cancel(exc)
            raise
        finally:
            self._worked_s, self._began = self.wall_s, math.nan
            self._token = None
            token.close()
            if self._rows and self.wall_s:
                self._conclude()
        return self

    async def _plan_aside(self, token: CancelToken) -> Plan:
        """Make the plan on a thread: a server that is slow to answer must not hold up the loop."""

        def work() -> Plan:
            current_token.set(token)
            plan = self.plan()
            expected = self.estimate()
            if expected.wall_s > LONG_S:
                self._say(
                    f"This will take about {expected.wall_s / 60:.0f} minutes: {expected}. limit=3 tries it first."
                )
            return plan

        return await asyncio.to_thread(work)

    def _task(self, index: int, job: Job) -> Task:
        name = (
            f"{job.unit.document}: {job.unit.name}" if job.unit.document != job.unit.name else job.unit.name
        )
        return Task(key=index, analyzer=job.analyzer.name, unit=name, size=len(job.unit.text), call=job.call)

    def _keep(self, outcome: Outcome) -> None:
        index = cast("int", outcome.task.key)
        row = self._rows[index]
        examined = outcome.value if isinstance(outcome.value, Examined) else None
        cached = examined is not None and examined.cached
        cause = outcome.error.__cause__ or outcome.error if outcome.error is not None else None
        row = replace(
            row,
            status="cached" if cached else outcome.status,
            examined=examined,
            error_type=type(cause).__name__ if cause else "",
            error=(str(cause) or type(cause).__name__) if cause else "",
            attempts=examined.attempts if examined else outcome.attempts,
            duration_s=outcome.duration_s,
            started_at=outcome.started_at,
        )
        self._rows[index] = row
        for watcher in self._watchers:
            watcher(row)

    def _conclude(self) -> None:
        for notice in () if self._embedded else parallel_notices(self._rows):
            self._say(notice)

    def _engine(self) -> AsyncAnalysisEngine:
        if self._config.engine is not None:
            return self._config.engine
        if self._config.max_workers is None and not self._embedded:
            shared = get_container().find(AsyncAnalysisEngine)
            if shared is not None:
                return cast("AsyncAnalysisEngine", shared)
        if self._workers == "auto":
            return AsyncAnalysisEngine("auto", cap=self._pool().limit_for())
        return AsyncAnalysisEngine(self._workers)

    def _pool(self) -> OllamaConnectionPool:
        if self._config.pool is not None:
            return self._config.pool
        workers = self._workers if isinstance(self._workers, int) else AUTO_MOST
        hosts = None if self._config.hosts is None else resolve_hosts(self._config.hosts)
        return pool_for(hosts, workers=workers)

    def _say(self, notice: str) -> None:
        if notice not in self.notices:
            self.notices.append(notice)
            _log.warning("%s", notice, extra={"units": len(self.units), "rows": len(self._rows)})

    # -- after ----------------------------------------------------------------------------------------------------

    @property
    def wall_s(self) -> float:
        """Seconds that were worked on it so far."""
        began = self._began
        return self._worked_s + (0.0 if math.isnan(began) else time.perf_counter() - began)

    def counts(self) -> Counter[str]:
        """Return how many rows have each status."""
        return Counter(row.status for row in self._rows)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row so far, in table order."""
        return tuple(self._rows)

    def to_frame(self) -> pd.DataFrame:
        """Return one line per document x unit x analyzer (x model x repeat), with `frames.ROW_COLUMNS`."""
        return tables.rows_frame(self._rows)

    def wide(self) -> pd.DataFrame:
        """Return one line per document and unit, with the analyzers' scores, labels and values as columns."""
        return tables.wide_frame(self._rows)

    @property
    def failures(self) -> pd.DataFrame:
        """Every row without an answer and why, with `frames.FAILURE_COLUMNS`."""
        return tables.failures_frame(self._rows)

    def numbers_frame(self) -> pd.DataFrame:
        """Return one line per number found, with `frames.NUMBER_COLUMNS`."""
        return tables.numbers_frame(self._rows)

    def stats_frame(self) -> pd.DataFrame:
        """Return the statistics of the durations by analyzer, with `frames.STATS_COLUMNS`; cached rows are left out."""
        from analysis_kit.monitor.stats import summary_frame

        return summary_frame(
            (row.analyzer, row.duration_s, row.examined is not None)
            for row in self._rows
            if row.status in {"done", "failed"}
        )

    def prompt(self, row: int) -> str:
        """Return the exact request of a row of `to_frame` and the raw reply, ready to paste into a shell.

        Parameters
        ----------
        row : int
            The row's number in `to_frame`.
        """
        row = operator.index(row)
        if not 0 <= row < len(self._rows):
            raise ConfigurationError(f"row {row}: the table has rows 0 to {len(self._rows) - 1}")
        found = self._rows[row]
        text = tables.prompt_text(found)
        if text is None:
            raise ConfigurationError(
                f"row {row} ({found.unit!r}, {found.analyzer!r}) has no prompt: its status is {found.status!r}, "
                f"its method {(found.examined.finding.method if found.examined else '') or 'none'!r}"
            )
        return text

    def sample_for_labelling(self, n: int = 30, *, seed: int = 0) -> pd.DataFrame:
        """Return ``n`` units in random order with an empty column ``your_label``, to compare the analyzers with a person."""
        import random

        from analysis_kit import frames

        n = min(checked_count("n", n), len(self.units))
        chosen = random.Random(seed).sample(self.units, n)  # noqa: S311 - a sample, no secret
        records = [
            {
                "document": unit.document,
                "by": unit.by,
                "unit": unit.name,
                "text": unit.text,
                "your_label": None,
            }
            for unit in chosen
        ]
        return frames.frame(records, frames.LABEL_COLUMNS)

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the scores in the order of the call; see `plots.plot_scores`."""
        import analysis_kit.plots as plots  # noqa: PLR0402

        return plots.plot_scores(self.to_frame(), ax=ax)

    def explore(self) -> Any:
        """Return a widget that shows one row at a time: its text with the evidence marked, and its values."""
        from analysis_kit.dashboard import explorer

        texts = {(unit.document, unit.by, unit.name, unit.position): unit.text for unit in self.units}
        return explorer([(row, texts[row.document, row.by, row.unit, row.position]) for row in self._rows])

    def __repr__(self) -> str:
        counts = self.counts()
        if not counts:
            return f"<AnalysisRun of {len(self.units)} units, not started: await it, or run_async(it)>"
        said = ", ".join(f"{number} {status}" for status, number in counts.most_common())
        return f"<AnalysisRun {sum(counts.values())} rows of {len(self.units)} units: {said}; {self.wall_s:.1f} s>"

    def _repr_html_(self) -> str:
        lines: dict[str, list[Row]] = {}
        for row in self._rows:
            lines.setdefault(row.analyzer, []).append(row)
        body = []
        for analyzer, rows in lines.items():
            scores = [row.examined.finding.score for row in rows if row.examined]
            known = [score for score in scores if score is not None]
            number = Counter(row.status for row in rows)
            missing = len(rows) - number["done"] - number["cached"]
            mean = f"{sum(known) / len(known):+.2f}" if known else ""
            body.append((analyzer, len(rows), number["done"], number["cached"], missing, mean))
        head = ("analyzer", "rows", "done", "cached", "without answer", "mean score")
        failed = [row for row in self._rows if row.status == "failed"][:3]
        notes = [*self.notices, *(f"{row.analyzer}, {row.unit}: {row.error}" for row in failed)]
        return _html.block(
            _html.table(head, body, caption=re.sub(r"^<|>$", "", repr(self))),
            *(f'<p class="dim">{_html.escape(note)}</p>' for note in notes),
        )


def _blank(job: Job) -> Row:
    unit = job.unit
    return Row(
        document=unit.document,
        by=unit.by,
        unit=unit.name,
        position=unit.position,
        analyzer=job.analyzer.name,
        model=job.model,
        repeat=job.repeat,
        words=len(unit.text.split()),
        keep=unit.keep,
    )

"""`render_report`: analyse, execute the template notebook, and leave one HTML file that opens anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis_kit._optional import require
from analysis_kit.engine.arguments import checked_seconds
from analysis_kit.engine.loop import run_async
from analysis_kit.errors import ReportError
from analysis_kit.report.notebook import execute, read_notebook, to_html, with_parameters
from analysis_kit.run.analysis import AnalysisRun
from analysis_kit.run.api import analyze
from analysis_kit.run.units import transcripts_of
from analysis_kit.transcripts.model import Transcript

#: Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


def render_report(
    data: Any,
    out: str | Path = "report.html",
    *,
    template: str | Path | None = None,
    title: str | None = None,
    analyzers: Any = None,
    by: str | Sequence[str] = ("section", "speaker"),
    text: str | None = None,
    id: str | None = None,  # noqa: A002 - as `analyze` calls it
    keep: Sequence[str] = (),
    model: str | Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    hosts: str | Sequence[str] | None = None,
    max_workers: int | None = None,
    timeout_s: float | None = 600.0,
    progress: Progress | None = None,
) -> Path:
    """Write a report of ``data`` as one HTML file that needs no network, no kernel and no script.

    Parameters
    ----------
    data : AnalysisRun, or anything `analyze` takes
        A run that is finished is reported as it is; everything else is analysed first.
    out : path, default "report.html"
        The file; it appears whole or not at all, and takes the place of an earlier one.
    template : path, optional
        A notebook of your own; its cell tagged ``parameters`` is given ``run_path`` and ``title``.
    title : str, optional
        Default: the name of the call.
    analyzers, by, text, id, keep, model, options, hosts, max_workers
        As for `analyze`; ``by`` is sections and speakers.
    timeout_s : float or None, default 600
        The longest a cell of the template may take, in seconds; None for no limit.
    progress : callable, optional
        Called with the step's name, what is done of it and how much there is.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ReportError
        If the file cannot be written, or the template fails; a failed notebook is kept beside ``out``.
    AnalysisKitError
        If the data cannot be analysed.

    Examples
    --------
    >>> import analysis_kit as ak
    >>> ak.render_report(ak.example_transcript(), "report.html", analyzers=["tone"])  # doctest: +SKIP
    PosixPath('report.html')
    """
    target = Path(out)
    limit_s = checked_seconds("timeout_s", timeout_s)
    tell = progress or (lambda _step, _done, _total: None)
    require("nbconvert", extra="report", purpose="a report")
    notebook = read_notebook(None if template is None else Path(template))
    check_target(target)
    name = title
    if not isinstance(data, AnalysisRun):
        if not isinstance(data, Mapping) and not hasattr(data, "columns"):
            data = transcripts_of(data)
            name = title or _call_name(data)
        run = _analysed(
            data,
            tell,
            analyzers=analyzers,
            by=by,
            text=text,
            id=id,
            keep=keep,
            model=model,
            options=options,
            hosts=hosts,
            max_workers=max_workers,
        )
    else:
        run = data
    if not run.rows:
        raise ReportError("the run has no rows yet; await it before it is reported")
    name = name or _title(run)
    with tempfile.TemporaryDirectory(prefix="analysis-kit-") as folder:
        stored = Path(folder) / "run.json"
        run.save(stored)
        notebook = with_parameters(notebook, {"run_path": str(stored), "title": name})
        try:
            _outside_loop(
                lambda: execute(
                    notebook,
                    folder=Path(folder),
                    timeout_s=limit_s,
                    on_cell=lambda done, total: tell("report", done, total),
                )
            )
        except ReportError as exc:
            raise ReportError(f"{exc}{_keep_failed(notebook, target)}") from exc.__cause__
    write_whole(target, to_html(notebook, title=name, subtitle=_subtitle(run)))
    return target


def _analysed(data: Any, tell: Progress, **how: Any) -> AnalysisRun:
    run = analyze(data, dashboard=False, **how)
    done = 0

    def count(_row: object) -> None:
        nonlocal done
        done += 1
        tell("analysis", done, len(run.rows))

    run.watch(count)
    return run_async(run)


def _outside_loop(work: Callable[[], None]) -> None:
    """Do ``work``, which runs a loop of its own, on a thread if this one has a loop that runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work()
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def _call_name(transcripts: Sequence[Transcript]) -> str | None:
    """Return company and quarter of a single call; None where that is not known, or there are several."""
    if len(transcripts) != 1 or transcripts[0].company is None:
        return None
    return ", ".join(part for part in (transcripts[0].company, transcripts[0].quarter) if part)


def _title(run: AnalysisRun) -> str:
    names = list(dict.fromkeys(row.document for row in run.rows))
    return names[0] if len(names) == 1 else f"{len(names)} documents"


def _subtitle(run: AnalysisRun) -> str:
    words = sum(
        unit_words
        for unit_words in {
            (row.document, row.by, row.position): row.words for row in run.rows if row.by == run.rows[0].by
        }.values()
    )
    ways = {
        by: len({(row.document, row.unit) for row in run.rows if row.by == by})
        for by in dict.fromkeys(row.by for row in run.rows)
    }
    counted = ", ".join(f"{number} {by}{'s' if number != 1 else ''}" for by, number in ways.items())
    return f"{words:,} words, {counted}; made by analysis_kit on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def check_target(target: Path) -> None:
    """Refuse, before the work, a place that cannot take the file.

    Raises
    ------
    ReportError
        If it is a folder, or in a folder that is missing or may not be written to.
    """
    folder = target.parent
    if target.is_dir():
        raise ReportError(f"{str(target)!r} is a folder; name a file, as in {str(target / 'report.html')!r}")
    if not folder.is_dir():
        raise ReportError(f"the folder {str(folder)!r} does not exist; make it, or choose another place")
    if not os.access(folder, os.W_OK):
        raise ReportError(f"the folder {str(folder)!r} may not be written to; choose another place")


def write_whole(target: Path, content: str | bytes) -> None:
    """Write ``content`` (text as UTF-8) to ``target``, whole or not at all.

    Raises
    ------
    ReportError
        If the disk is full or the folder refuses; an earlier file is left as it was.
    """
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as exc:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise ReportError(
            f"{str(target)!r} cannot be written ({len(data):,} bytes): {exc.strerror or exc}; "
            "free some space or choose another place"
        ) from exc


def _keep_failed(notebook: Any, target: Path) -> str:
    """Save what was executed so far beside the report, and say where."""
    nbformat = require("nbformat", extra="report", purpose="a report")
    place = target.with_name(f"{target.stem}.failed.ipynb")
    try:
        write_whole(place, nbformat.writes(notebook))
    except ReportError:
        return ""
    return f"; the notebook as far as it went is in {str(place)!r}"

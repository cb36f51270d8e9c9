"""The parts of a report, each a function from a finished run to HTML; the template notebook calls them in order.

All text of a transcript is escaped; every figure carries an alt text and its data as a table.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import analysis_kit.plots as plots  # noqa: PLR0402
from analysis_kit._html import block, escape, table
from analysis_kit.analyzers.lexicon import TEXT_THRESHOLD
from analysis_kit.analyzers.quantities import as_written
from analysis_kit.results import Row
from analysis_kit.run.analysis import AnalysisRun

WAYS = {"section": "Sections", "speaker": "Speakers", "turn": "Turns", "row": "Rows", "text": "Texts"}
DEMO = "demo model"


def documents(run: AnalysisRun) -> list[str]:
    """Return the names of the run's documents, in order."""
    return list(dict.fromkeys(row.document for row in run.rows))


def _rows(
    run: AnalysisRun, analyzer: str, *, document: str | None = None, by: str | None = None
) -> list[Row]:
    return [
        row
        for row in run.rows
        if row.analyzer == analyzer
        and (document is None or row.document == document)
        and (by is None or row.by == by)
    ]


def _ways(run: AnalysisRun) -> list[str]:
    return list(dict.fromkeys(row.by for row in run.rows))


def _value(row: Row | None, name: str) -> Any:
    return row.examined.finding.values.get(name) if row is not None and row.examined is not None else None


def _score(row: Row | None) -> float | None:
    return row.examined.finding.score if row is not None and row.examined is not None else None


def mean_tone(rows: Sequence[Row]) -> float:
    """Return the mean score, weighted by words; NaN without any."""
    weights = [(score, row.words) for row in rows if (score := _score(row)) is not None]
    words = sum(weight for _, weight in weights)
    return sum(score * weight for score, weight in weights) / words if words else math.nan


def word_for(score: float) -> str:
    """Return the word for a tone score."""
    if math.isnan(score):
        return "not known"
    return "positive" if score > TEXT_THRESHOLD else "negative" if score < -TEXT_THRESHOLD else "balanced"


def models(run: AnalysisRun) -> list[str]:
    """Return the models that answered, in order."""
    return list(dict.fromkeys(row.examined.model for row in run.rows if row.examined and row.examined.model))


def is_demo(run: AnalysisRun) -> bool:
    """Return whether a demo model answered any row."""
    return any(row.examined is not None and DEMO in row.examined.finding.flags for row in run.rows)


def headline(run: AnalysisRun) -> str:
    """Return the answer first: tone, guidance, numbers and evasions of each document in one card each."""
    way = _ways(run)[0]
    cards = []
    for document in documents(run):
        tone = _rows(run, "tone", document=document, by=way)
        score = mean_tone(tone)
        scored = [row for row in tone if _score(row) is not None]
        best = max(scored, key=lambda row: _score(row) or 0.0, default=None)
        worst = min(scored, key=lambda row: _score(row) or 0.0, default=None)
        numbers = [
            n
            for row in _rows(run, "numerical", document=document, by=way)
            for n in _value(row, "numbers") or ()
        ]
        guidance = sum(1 for number in numbers if number.get("kind") == "guidance")
        facts = [
            f"<strong>Tone {escape(word_for(score))}</strong> ({score:+.2f} on a scale from -1 to 1, by rules)"
            if not math.isnan(score)
            else "<strong>Tone not known</strong>",
        ]
        if best is not None and worst is not None and best is not worst:
            facts.append(
                f"brightest: {escape(best.unit)} ({_score(best):+.2f}); darkest: {escape(worst.unit)} ({_score(worst):+.2f})"
            )
        if numbers:
            facts.append(
                f"{len(numbers)} number{'s' if len(numbers) > 1 else ''} stated, {guidance} of them guidance"
            )
        items = "".join(f"<li>{fact}</li>" for fact in facts)
        cards.append(f'<section class="card"><h2>{escape(document)}</h2><ul>{items}</ul></section>')
    return block(*cards, provenance(run))


def provenance(run: AnalysisRun) -> str:
    """Return who answered, as a paragraph; a demo model is called one, with the way to a real one."""
    found = models(run)
    if not found:
        return "<p>By rules alone; no language model was asked.</p>"
    names = ", ".join(escape(name) for name in found)
    if is_demo(run):
        return (
            f'<p class="note"><strong>{names} is a demo model</strong> of 135 million parameters. It shows that everything '
            "works; it is no judge of tone, so the headline is the rules' and the model's column stands beside it. "
            "For a real one start Ollama, pull a model, and leave out <code>--demo</code>.</p>"
        )
    return f"<p>Language model: {names}.</p>"


def units_table(run: AnalysisRun, way: str) -> str:
    """Return one line per unit of ``way``: tone, the model's view, readability, evasion, numbers."""
    by_unit: dict[tuple[str, int, str], dict[str, Row]] = defaultdict(dict)
    for row in run.rows:
        if row.by == way and not row.repeat:
            name = (
                f"{row.analyzer} {row.examined.model}"
                if row.examined and row.examined.model
                else row.analyzer
            )
            by_unit[row.document, row.position, row.unit][name] = row
    asked = list(
        dict.fromkeys(
            name
            for rows in by_unit.values()
            for name, row in rows.items()
            if row.examined and row.examined.host
        )
    )
    several = len(documents(run)) > 1
    head = [
        *(["document"] if several else []),
        WAYS.get(way, way).rstrip("s").lower(),
        "words",
        "tone (rules)",
        "score",
    ]
    head += [f"{name} ({DEMO})" if is_demo(run) else name for name in asked]
    head += ["fog grade", "evasion markers /100 words", "numbers"]
    body = []
    for (document, _, unit), rows in by_unit.items():
        tone = rows.get("tone")
        line: list[object] = [*([document] if several else []), unit, next(iter(rows.values())).words]
        line += [_label(tone), _signed(_score(tone))]
        line += [f"{_label(rows.get(name))} {_signed(_score(rows.get(name)))}".strip() for name in asked]
        line += [
            _number(_value(rows.get("complexity"), "fog")),
            _number(_value(rows.get("deception"), "markers_per_100_words")),
        ]
        numbers = _value(rows.get("numerical"), "numbers")
        line.append(len(numbers) if numbers is not None else "")
        body.append(line)
    return block(table(head, body))


def _label(row: Row | None) -> str:
    if row is None:
        return ""
    return (row.examined.finding.label or "") if row.examined else row.status


def _signed(score: float | None) -> str:
    return "" if score is None else f"{score:+.2f}"


def _number(value: Any) -> object:
    return round(value, 1) if isinstance(value, (int, float)) else ""


def scores_figure(run: AnalysisRun, way: str) -> str:
    """Return the scores of the units of ``way`` in the order of the call."""
    frame = run.to_frame()
    axes = plots.plot_scores(frame, by=way)
    shown = frame[(frame["by"] == way) & frame["score"].notna()][
        ["document", "unit", "analyzer", "score", "label"]
    ]
    caption = f"Tone by {way}, in the order of the call; -1 is bad news, 1 good news."
    return plots.figure_html(axes, caption=caption, table=shown)


def evidence(run: AnalysisRun, *, most: int = 5) -> str:
    """Return the sentences that weigh most in the rules' tone, good and bad, with the rule that fired."""
    found = []
    for row in _rows(run, "tone", by=_ways(run)[0]):
        for span in row.examined.finding.evidence if row.examined else ():
            found.append((row.document, row.unit, span.text, span.note))  # noqa: PERF401 - one loop in another reads better
    found.sort(key=lambda line: -line[3].count(","))  # several reasons weigh more than one
    good = [line for line in found if not line[3].startswith("-")][:most]
    bad = [line for line in found if line[3].startswith("-")][:most]
    head = ("document", "where", "what was said", "why it counts")
    return block(table(head, good, caption="Good news"), table(head, bad, caption="Bad news"))


def numbers_table(run: AnalysisRun, *, most: int = 60) -> str:
    """Return the numbers that were stated, guidance first."""
    way = _ways(run)[0]
    lines = []
    for row in _rows(run, "numerical", by=way):
        for number in _value(row, "numbers") or ():
            lines.append(  # noqa: PERF401 - one loop in another reads better
                (
                    number.get("kind") != "guidance",
                    (
                        number.get("kind", ""),
                        number.get("metric") or "",
                        number.get("text", ""),
                        _amount(number),
                        row.unit,
                    ),
                )
            )
    lines.sort(key=lambda line: line[0])
    left = (
        f"<p>and {len(lines) - most} more; see <code>run.numbers_frame()</code></p>"
        if len(lines) > most
        else ""
    )
    head = ("kind", "metric", "as said", "normalised", "where")
    return block(table(head, [line for _, line in lines[:most]]), left)


def _amount(number: dict[str, Any]) -> str:
    unit = number.get("unit") or ""
    low, high = number.get("low"), number.get("high")
    if low is not None and high is not None and low != high:
        return f"{as_written(low)} to {as_written(high)} {unit}"
    value = number.get("value")
    return f"{as_written(value)} {unit}" if isinstance(value, (int, float)) else ""


def timings(run: AnalysisRun) -> str:
    """Return where the run's own time went: durations, the split of the model's calls, statistics, notices."""
    frame = run.to_frame()
    worked = frame[frame["status"] == "done"]
    stats = run.stats_frame()
    parts = []
    if len(worked):
        columns = ["unit", "analyzer", "duration_s"]
        axes = plots.plot_latency(worked)
        parts.append(plots.figure_html(axes, caption="How long each unit took.", table=worked[columns]))
    split = ["unit", "wait_s", "queue_s", "load_s", "prompt_s", "generate_s", "other_s"]
    asked = worked[worked["prompt_s"].notna()]
    if len(asked):
        axes = plots.plot_time_split(asked)
        caption = "Where a model's call spends its time: our pool, the server's queue, loading, reading, writing, the rest."
        parts.append(plots.figure_html(axes, caption=caption, table=asked[split]))
    head = ("operation", "count", "median s", "p95 s", "longest s", "total s", "95 % interval of p95")
    body = [
        (
            line["operation"],
            line["count"],
            *(round(line[name], 4) for name in ("median_s", "p95_s", "max_s", "total_s")),
            line["p95_note"]
            if math.isnan(line["p95_low_s"])
            else f"{line['p95_low_s']:.3g} to {line['p95_high_s']:.3g} s",
        )
        for line in stats.to_dict("records")
    ]
    said = "".join(f"<p>{escape(notice)}</p>" for notice in run.notices)
    cached = run.counts()["cached"]
    told = f"<p>{len(run.rows)} rows in {run.wall_s:.1f} s; {cached} of them were in the cache.</p>"
    return block(told, table(head, body, caption="Statistics"), *parts, said)


def missing(run: AnalysisRun) -> str:
    """Return every row without an answer and why; one sentence where there is none."""
    lines = [
        (row.document, row.unit, row.analyzer, row.status, f"{row.error_type}: {row.error}")
        for row in run.rows
        if row.examined is None
    ]
    if not lines:
        return block("<p>Nothing is missing: every unit has an answer from every analyzer.</p>")
    return block(table(("document", "unit", "analyzer", "status", "reason"), lines))

"""The command line: ``analysis-kit report | analyze | speedup | serve | doctor``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analysis_kit.errors import AnalysisKitError, ConfigurationError

#: Exit codes: as shells and argparse have them.
OK, WRONG_USE, INTERRUPTED = 0, 2, 130
#: Characters of the shortest text with which ``speedup`` loads a server.
SHORTEST_PROBE = 200


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Default: the process's own arguments.

    Returns
    -------
    int
        0, 2 where something is wrong (one sentence on stderr says what), 130 when interrupted.
    """
    options = _parser().parse_args(argv)
    from analysis_kit.logs import configure_logging

    configure_logging(options.log_level, json=options.log_json, said=_said)
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except KeyboardInterrupt:
        print("analysis-kit: interrupted; what was finished is in the cache", file=sys.stderr)
        return INTERRUPTED
    except (AnalysisKitError, OSError) as exc:
        if options.debug:
            raise
        print(f"analysis-kit: {_said(exc)}", file=sys.stderr)
        return WRONG_USE


def _said(sentence: object) -> str:
    """Return a sentence of the kit with the demo model named as it is here."""
    return str(sentence).replace("hosts='embedded'", "--demo")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="analysis-kit", description="Analyse earnings-call transcripts in parallel."
    )
    parser.add_argument("--version", action="version", version=f"analysis-kit {version('analysis-kit')}")
    _common(parser, before_command=True)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    report = _command(commands, "report", _report, "analyse transcripts and write one HTML file")
    _inputs(report)
    report.add_argument("-o", "--out", default="report.html", help="the HTML file (default: %(default)s)")
    report.add_argument("--template", help="a notebook of your own, with a cell tagged 'parameters'")
    report.add_argument("--title", help="the report's title")

    analyze = _command(commands, "analyze", _analyze, "analyse transcripts and write the table of rows")
    _inputs(analyze)
    analyze.add_argument(
        "-o", "--out", default="rows.csv", help="a .csv, .json or .parquet file (default: %(default)s)"
    )

    speedup = _command(commands, "speedup", _speedup, "measure how many workers help on a server")
    _server(speedup)
    speedup.add_argument(
        "--repeats", type=int, default=5, help="how often each worker count is tried (default: 5)"
    )
    speedup.add_argument("-o", "--out", help="also write the measurements to this .csv file")

    serve = _command(commands, "serve", _serve, "serve a local model behind the Ollama API until Ctrl-C")
    serve.add_argument("--port", type=int, help="port (default: OLLAMA_HOST's, else 11434)")
    serve.add_argument(
        "--model", action="append", default=[], metavar="PATH.gguf", help="a model file; may be repeated"
    )
    serve.add_argument("--parallel", type=int, help="requests at once (default: OLLAMA_NUM_PARALLEL, else 2)")
    serve.add_argument(
        "--ctx", type=int, help="context tokens a request (default: OLLAMA_CONTEXT_LENGTH, else 2048)"
    )
    serve.add_argument("--threads", type=int, help="threads (default: the cores it may use, at most 4)")
    serve.add_argument("--gpu-layers", type=int, default=-1, help="layers on a GPU (default: as many as fit)")
    serve.add_argument("--listen", help="address (default: OLLAMA_HOST's if of loopback, else 127.0.0.1)")

    doctor = _command(
        commands, "doctor", _doctor, "show what is installed, which server answers, and where files are"
    )
    _server(doctor)
    return parser


def _command(
    commands: Any, name: str, command: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + "."
    )
    parser.set_defaults(command=command)
    _common(parser, before_command=False)
    return parser


def _common(parser: argparse.ArgumentParser, *, before_command: bool) -> None:
    """Add what may stand before the command or after it; after it nothing is a default, so that what stood before holds."""

    def default(value: object) -> object:
        return value if before_command else argparse.SUPPRESS

    parser.add_argument(
        "--debug", action="store_true", default=default(False), help="show the traceback of an error"
    )
    parser.add_argument(
        "--log-level",
        type=str.upper,
        default=default("WARNING"),
        choices=["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        help="default: WARNING",
    )
    parser.add_argument(
        "--log-json", action="store_true", default=default(False), help="log one JSON object a line"
    )


def _server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hosts", help="Ollama server(s), comma-separated (default: OLLAMA_HOST, else 127.0.0.1:11434)"
    )
    parser.add_argument("--model", help="model name (default: OLLAMA_MODEL, else the server's only one)")
    parser.add_argument(
        "--demo", action="store_true", help="use the embedded demo model (93 MB, fetched once)"
    )


def _inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="transcripts (.txt, .json, .vtt, .srt), folders or globs"
    )
    _server(parser)
    parser.add_argument("--analyzers", help="comma-separated names (default: all that can answer)")
    parser.add_argument(
        "--by", default="section,speaker", help="section, speaker, turn (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, help="units at the same time")


def _how(options: argparse.Namespace) -> dict[str, Any]:
    if options.demo and options.hosts:
        raise ConfigurationError("--demo is a server of its own; leave out --hosts, or --demo")
    return {
        "hosts": "embedded" if options.demo else options.hosts,
        "model": options.model,
        "analyzers": options.analyzers.split(",") if options.analyzers else None,
        "by": options.by.split(","),
        "max_workers": options.workers,
    }


class _Bar:
    """A progress bar on stderr, one for each step; silent where stderr is no terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._step = ""

    def __call__(self, step: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if step != self._step:
            self.close()
            self._bar = tqdm(total=total, desc=step, unit="", disable=None, leave=True)
            self._step = step
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _report(options: argparse.Namespace) -> int:
    from analysis_kit.report.render import render_report

    how = _how(options)
    _fetch_demo(options)
    bar = _Bar()
    try:
        out = render_report(
            options.files, options.out, template=options.template, title=options.title, progress=bar, **how
        )
    finally:
        bar.close()
    print(out)
    return OK


def _fetch_demo(options: argparse.Namespace) -> None:
    """Fetch the demo model before anything else is begun, so that its progress stands alone."""
    if options.demo:
        from analysis_kit.ollama.model_file import ensure_model

        ensure_model()


def _analyze(options: argparse.Namespace) -> int:
    from analysis_kit.engine.loop import run_async
    from analysis_kit.report.render import check_target, write_whole
    from analysis_kit.run.api import analyze

    out = Path(options.out)
    check_target(out)
    if out.suffix.lower() not in {".csv", ".json", ".parquet"}:
        raise ConfigurationError(f"--out {options.out!r}: the name must end in .csv, .json or .parquet")
    if out.suffix.lower() == ".parquet":
        from analysis_kit._optional import require

        require("pyarrow", extra="parquet", purpose="a .parquet file")
    run = analyze(options.files, dashboard=False, **_how(options))
    _fetch_demo(options)
    bar = _Bar()
    done = 0

    def count(_row: object) -> None:
        nonlocal done
        done += 1
        bar("analysis", done, len(run.rows))

    run.watch(count)
    try:
        run_async(run)
    finally:
        bar.close()
    frame = run.to_frame()
    if out.suffix.lower() == ".parquet":
        write_whole(out, frame.to_parquet(None))
    elif out.suffix.lower() == ".json":
        write_whole(out, frame.to_json(orient="records", date_format="iso", force_ascii=False))
    else:
        write_whole(out, frame.to_csv(index=False))
    print(f"{out}: {run!r}")
    return OK


def _speedup(options: argparse.Namespace) -> int:
    from analysis_kit.analyzers.sentiment import SentimentAnalyzer
    from analysis_kit.ollama.host import resolve_hosts
    from analysis_kit.report.render import check_target, write_whole
    from analysis_kit.run.server import pool_for
    from analysis_kit.speedup import fit_speedup, measure_speedup
    from analysis_kit.transcripts.parse import example_transcript

    if options.out:
        check_target(Path(options.out))
    _fetch_demo(options)
    counts = (1, 2, 3, 4, 6, 8)
    pool = pool_for(resolve_hosts("embedded" if options.demo else options.hosts), workers=max(counts))
    analyzer = SentimentAnalyzer(model=options.model).with_parts(pool=pool, caching=False)
    # with fewer units than a few rounds of the most workers, the last round's gaps would hide the slots
    texts = [turn.text for turn in example_transcript().turns if len(turn.text) > SHORTEST_PROBE]
    units = {f"turn {number}": texts[number % len(texts)] for number in range(4 * max(counts))}
    bar = _Bar()
    try:
        frame = measure_speedup(
            analyzer,
            units,
            workers=counts,
            repeats=options.repeats,
            on_progress=lambda done, total: bar("speedup", done, total),
        )
    finally:
        bar.close()
    if options.out:
        write_whole(Path(options.out), frame.to_csv(index=False))
    print(fit_speedup(frame).sentence)
    return OK


def _serve(options: argparse.Namespace) -> int:
    from analysis_kit.ollama.embedded.serve import serve

    return serve(
        port=options.port,
        models=options.model,
        parallel=options.parallel,
        ctx=options.ctx,
        threads=options.threads,
        gpu_layers=options.gpu_layers,
        listen=options.listen,
    )


def _doctor(options: argparse.Namespace) -> int:
    from analysis_kit.doctor import checks

    for line in checks(hosts="embedded" if options.demo else options.hosts, model=options.model):
        print(_said(line))
    return OK


if __name__ == "__main__":
    logging.raiseExceptions = False
    sys.exit(main())

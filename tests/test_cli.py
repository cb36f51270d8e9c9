"""The command line: what it writes, and that everything wrong ends in one sentence and exit code 2."""

from __future__ import annotations

import csv
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.ollama import FakeOllama

from analysis_kit.cli import main
from analysis_kit.errors import AnalysisKitError
from analysis_kit.logs import JsonFormatter

DATA = Path(__file__).parent.parent / "data"
CALL = str(DATA / "perihel_q1_2025.vtt")


@pytest.fixture(autouse=True)
def _quiet_logging():
    logger = logging.getLogger("analysis_kit")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield
    logger.handlers, logger.level, logger.propagate = before
    from analysis_kit.ollama.pool import reset_pool
    from analysis_kit.run import server

    reset_pool()
    for pool in server._pools.values():
        pool.shutdown()
    server._pools.clear()


def _fails(argv, capsys, folder):
    """Run a command that must fail; return its one sentence."""
    before = sorted(folder.iterdir())
    assert main(argv) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith("analysis-kit: ")
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1, err
    assert sorted(folder.iterdir()) == before
    with pytest.raises((AnalysisKitError, OSError)):
        main([*argv, "--debug"])
    capsys.readouterr()
    return err


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\x00\x01\x02\xff\xfe\x00" * 50, "binary"),
        (b"Just a few words about the weather, and nobody who says them.", "Operator"),
        (b"%PDF-1.7 something", "PDF"),
    ],
)
@pytest.mark.parametrize("command", ["report", "analyze"])
def test_a_file_that_is_no_transcript(content, words, command, folder, capsys):
    """Empty, binary, unlabelled and PDF files are named with what was expected."""
    (folder / "call.txt").write_bytes(content)
    err = _fails(
        [command, "call.txt", "-o", f"out.{'html' if command == 'report' else 'csv'}"], capsys, folder
    )
    assert "call.txt" in err
    assert words.lower() in err.lower()


def test_a_file_that_is_not_there(folder, capsys):
    """A missing file is named."""
    assert "nope.txt" in _fails(["analyze", "nope.txt"], capsys, folder)


def test_an_unknown_analyzer_offers_the_nearest(folder, capsys):
    """A misspelt analyzer's name is met with the one that was meant."""
    assert "'tone'" in _fails(["analyze", CALL, "--analyzers", "tonne"], capsys, folder)


def test_a_server_that_does_not_answer(folder, capsys, monkeypatch):
    """An OLLAMA_HOST that cannot be reached is an error with the ways out, and no fall back to the rules."""
    from analysis_kit.settings import reset_settings

    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    reset_settings()
    err = _fails(["report", CALL], capsys, folder)
    assert "127.0.0.1:9" in err
    assert "OLLAMA_HOST" in err
    assert "or use --demo" in err  # as it is called here


def test_no_model_and_several_models(folder, capsys, monkeypatch):
    """A server without a model, and one with several and none named, say which there are."""
    with FakeOllama(models=("a:latest", "b:latest")) as fake:
        err = _fails(["analyze", CALL, "--hosts", fake.url, "--analyzers", "sentiment"], capsys, folder)
        assert "a:latest" in err
    with FakeOllama(models=()) as fake:
        assert "model" in _fails(
            ["analyze", CALL, "--hosts", fake.url, "--analyzers", "sentiment"], capsys, folder
        )


def test_places_that_cannot_take_the_file(folder, capsys):
    """A folder that is not there, a folder as file, and an ending nobody knows are refused before the work."""
    assert "does not exist" in _fails(
        ["report", CALL, "--analyzers", "tone", "-o", "no/where.html"], capsys, folder
    )
    assert "is a folder" in _fails(["report", CALL, "--analyzers", "tone", "-o", "."], capsys, folder)
    assert ".csv" in _fails(["analyze", CALL, "-o", "rows.xyz"], capsys, folder)


def test_a_template_that_is_no_notebook(folder, capsys):
    """A template that cannot be read as a notebook is named."""
    (folder / "bad.ipynb").write_text("{")
    assert "bad.ipynb" in _fails(
        ["report", CALL, "--analyzers", "tone", "--template", "bad.ipynb"], capsys, folder
    )


def test_demo_and_hosts_exclude_each_other(folder, capsys):
    """Two servers at once are refused."""
    assert "--demo" in _fails(["analyze", CALL, "--demo", "--hosts", "localhost"], capsys, folder)


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is POSIX")
@pytest.mark.parametrize("command", ["report", "analyze"])
def test_a_full_disk_leaves_the_earlier_file_alone(command, folder):
    """Where the file cannot be written whole, nothing half is left, the old file stays, and one sentence says why."""
    out = folder / ("out.html" if command == "report" else "out.csv")
    out.write_text("earlier")
    code = (
        "import resource, signal, sys\n"
        "from analysis_kit.cli import main\n"
        "from analysis_kit.report import render\n"
        "write = render.write_whole\n"
        "def full(target, text):\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))\n"
        "    write(target, text)\n"
        "render.write_whole = full\n"
        f"sys.exit(main(['{command}', {CALL!r}, '--analyzers', 'tone', '-o', {str(out)!r}]))\n"
    )
    env = {**os.environ, "ANALYSIS_KIT_CACHE_URL": "memory:"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert run.returncode == 2, run.stderr
    assert "cannot be written" in run.stderr
    assert "Traceback" not in run.stderr
    assert out.read_text() == "earlier"
    assert [path.name for path in folder.iterdir()] == [out.name]


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.parquet"])
def test_analyze_writes_the_table(name, folder, capsys):
    """Each format holds one row per unit and analyzer."""
    assert (
        main(["analyze", CALL, "--analyzers", "tone,complexity", "--by", "section,speaker", "-o", name]) == 0
    )
    assert name in capsys.readouterr().out
    if name.endswith("csv"):
        with (folder / name).open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    elif name.endswith("json"):
        rows = json.loads((folder / name).read_text())
    else:
        import pandas as pd

        rows = pd.read_parquet(folder / name).to_dict("records")
    assert {row["analyzer"] for row in rows} == {"tone", "complexity"}
    assert {row["by"] for row in rows} == {"section", "speaker"}


def test_json_logs_are_json(folder, capsys):
    """With --log-json each record on stderr is one JSON object with level, logger and message."""
    with FakeOllama(
        slots=1, delay_s=0.02, answer=lambda _: '{"label": "neutral", "score": 0, "confidence": 1}'
    ) as fake:
        argv = [
            "analyze",
            str(DATA / "tarnbrook_q3_2025.txt"),
            "--hosts",
            fake.url,
            "--analyzers",
            "sentiment",
        ]
        assert main([*argv, "--by", "section", "--workers", "4", "--log-json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert any(
        "OLLAMA_NUM_PARALLEL" in record["message"] and record["level"] == "WARNING" for record in records
    )


@pytest.mark.parametrize(
    "argv",
    [
        ["--log-level", "info", "--log-json", "doctor"],
        ["doctor", "--log-level", "INFO", "--log-json"],
        ["--log-json", "--log-level", "ERROR", "doctor", "--log-level", "Info"],
    ],
)
def test_logging_options_stand_before_or_after_the_command(folder, argv):
    """Level, in any case, and form are heeded in both places; of two levels the later one holds."""
    assert main([*argv, "--hosts", "127.0.0.1:1"]) == 0
    logger = logging.getLogger("analysis_kit")
    assert logger.level == logging.INFO
    assert [type(handler.formatter) for handler in logger.handlers] == [JsonFormatter]


@pytest.mark.parametrize("argv", [["--log-level", "LOUD", "doctor"], ["doctor", "--log-level", "LOUD"]])
def test_an_unknown_log_level_is_refused_in_both_places(capsys, argv):
    """Exit code 2, and the levels there are."""
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert "CRITICAL" in capsys.readouterr().err


def test_doctor_says_what_is_there(folder, capsys):
    """Versions, extras, the server with its slots, the model file and the cache, one line each."""
    with FakeOllama(slots=2, delay_s=0.02, answer=lambda _: "word " * 20) as fake:
        assert main(["doctor", "--hosts", fake.url]) == 0
    out = capsys.readouterr().out
    for words in ("Python", "extra local", fake.url, "demo model", "cache"):
        assert words in out


def test_doctor_adds_up_the_servers(folder, capsys):
    """Of several servers the last line, and no other, has how many workers those that answer keep busy together."""
    with (
        FakeOllama(slots=2, delay_s=0.02, answer=lambda _: "word " * 20) as one,
        FakeOllama(slots=1, delay_s=0.02, answer=lambda _: "word " * 20) as two,
    ):
        assert main(["doctor", "--hosts", f"{one.url},{two.url}"]) == 0
        assert main(["doctor", "--hosts", f"127.0.0.1:9,{one.url}"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "max_workers" in line]
    assert lines == [
        "all servers: 3 requests at once. Set max_workers=3 for a run over them.",
        "the servers that were measured (1 of 2): 2 requests at once. Set max_workers=2 for a run over them.",
    ]


def test_doctor_names_the_demo_model_as_it_is_called_here(folder, capsys):
    """What a notebook calls hosts='embedded' is an option of the command."""
    assert main(["doctor", "--hosts", "127.0.0.1:9"]) == 0
    out = capsys.readouterr().out
    assert "or use --demo" in out
    assert "embedded'" not in out


@pytest.mark.parametrize("form", [[], ["--log-json"]], ids=["text", "json"])
def test_a_log_line_names_the_demo_model_as_it_is_called_here(folder, capsys, monkeypatch, form):
    """The commonest of all, where no server answers, has the option and not the notebook's argument, in either form."""
    monkeypatch.setattr("analysis_kit.ollama.host.DEFAULT_PORT", 9)
    assert main(["analyze", CALL, *form]) == 0
    err = capsys.readouterr().err
    assert "so the rules analyse alone" in err
    assert "or use --demo" in err
    assert "embedded'" not in err


# -- more of what can be wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["analyze", CALL, "--analyzers", "tone", "-o", "no/where.csv"], "'no' does not exist"),
        (["analyze", CALL, "--analyzers", "tone", "-o", "."], "is a folder"),
        (["analyze", CALL, "--analyzers", "tone", "--by", "chapter"], "'section', 'speaker', 'turn'"),
        (["analyze", CALL, "--analyzers", "tone", "--workers", "0"], "0"),
        (["analyze", CALL, "--analyzers", "sentiment", "--hosts", "http://"], "http://"),
        (["analyze", CALL, "--analyzers", "sentiment", "--hosts", "host:port:more"], "host:port:more"),
        (["analyze", ".", "--analyzers", "tone"], "holds no transcript"),
        (["analyze", "*.vtt", "--analyzers", "tone"], "no file matches"),
        (["report", CALL, "--analyzers", "tone", "--template", "none.ipynb"], "none.ipynb"),
        (["report", CALL, "--analyzers", "tone", "--template", "."], "cannot be read as a notebook"),
        (["speedup", "--hosts", "127.0.0.1:9", "-o", "no/where.csv"], "'no' does not exist"),
        (["speedup", "--hosts", "127.0.0.1:9"], "127.0.0.1:9"),
        (["serve", "--port", "65536"], "port=65536; it may be from 0 to 65535"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_sentence(argv, said, folder, capsys):
    """A place, an option or a host that cannot work is named, with what would."""
    assert said in _fails(argv, capsys, folder)


@pytest.mark.parametrize("command", ["report", "analyze"])
@pytest.mark.parametrize("models", [(), ("a:latest", "b:latest")], ids=["none", "several"])
def test_the_default_analyzers_need_a_model_that_is_clear(command, models, folder, capsys, monkeypatch):
    """Also without --analyzers, a named host without a model or with several is refused, and nothing was asked."""
    from analysis_kit.settings import reset_settings

    with FakeOllama(models=models) as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.url)
        reset_settings()
        err = _fails([command, CALL], capsys, folder)
        assert not [each for each in fake.requests if each.path in {"/api/generate", "/api/chat"}]
    assert fake.url.removeprefix("http://") in err
    assert ("a:latest, b:latest" if models else "ollama pull") in err


def test_one_bad_file_of_several_is_named_and_nothing_is_written(folder, capsys):
    """A folder with one file that is no transcript says which, before any work."""
    (folder / "good.txt").write_text("Ann Lee: Sales rose.\n\nBo Orr: Thank you.\n")
    (folder / "worse.txt").write_bytes(b"")
    assert "worse.txt" in _fails(["analyze", ".", "--analyzers", "tone"], capsys, folder)


def test_markup_and_braces_in_a_call_pass_through_the_table_as_text(folder, capsys):
    """The bare table holds names and errors as they were said."""
    evil = "<script>alert(1)</script> {{ 7*7 }} {% raw %}"
    (folder / "call.txt").write_text(f"Ann Lee: Sales rose {evil}.\n\nBo Orr: Thank you, {evil}.\n")
    assert main(["analyze", "call.txt", "--analyzers", "tone", "--by", "turn", "-o", "rows.json"]) == 0
    rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    assert [row["status"] for row in rows] == ["done", "done"]
    capsys.readouterr()


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="a small file system needs root to mount"
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.parquet"])
def test_a_small_disk_that_is_full_leaves_no_half_of_a_table(name, folder, capsys):
    """On a real file system of 16 kB the table does not fit: one sentence, and the disk is as empty as before."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        argv = ["analyze", str(DATA / "tarnbrook_q3_2025.txt"), "--analyzers", "tone,complexity,numerical"]
        err = _fails([*argv, "-o", f"disk/{name}"], capsys, folder)
        assert "cannot be written" in err
        assert "No space left" in err
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_interrupt_is_130_and_one_sentence(folder, capsys, monkeypatch):
    """Ctrl-C says that what was finished is kept, and leaves no file."""
    import analysis_kit.run.api as api

    def interrupted(*_args, **_how):
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "analyze", interrupted)
    assert main(["analyze", CALL]) == 130
    assert capsys.readouterr().err.strip() == "analysis-kit: interrupted; what was finished is in the cache"
    assert list(folder.iterdir()) == []


def test_the_command_writes_a_report_of_a_call(folder, capsys):
    """The main job: the file is there, says so, and carries the call's name."""
    assert main(["report", CALL, "--analyzers", "tone,numerical", "-o", "out.html"]) == 0
    told = capsys.readouterr()
    assert "out.html" in told.out
    assert told.err == ""
    assert "<title>Perihel" in (folder / "out.html").read_text(encoding="utf-8")
    assert [each.name for each in folder.iterdir()] == ["out.html"]


def test_a_run_whose_units_failed_says_how_many(folder, capsys):
    """Rows without an answer are in the table and in the line that is printed."""
    with FakeOllama(slots=4, answer="no JSON") as fake:
        argv = ["analyze", CALL, "--hosts", fake.url, "--analyzers", "sentiment", "--by", "section"]
        assert main(argv) == 0
    assert "failed" in capsys.readouterr().out
    with (folder / "rows.csv").open(encoding="utf-8") as file:
        assert {row["error_type"] for row in csv.DictReader(file)} == {"InvalidAnswerError"}


def test_the_log_level_decides_what_is_said(folder, capsys, monkeypatch):
    """With --log-level INFO its records come to stderr, by default they do not."""
    from analysis_kit.settings import reset_settings

    said = {}
    for name, more in {"QUIET_COLOUR": [], "LOUD_COLOUR": ["--log-level", "INFO"]}.items():
        monkeypatch.setenv(f"ANALYSIS_KIT_{name}", "blue")
        reset_settings()
        assert main(["analyze", CALL, "--analyzers", "complexity", *more]) == 0
        said[name] = capsys.readouterr().err
    assert "is no setting" not in said["QUIET_COLOUR"]
    assert "ANALYSIS_KIT_LOUD_COLOUR is no setting" in said["LOUD_COLOUR"]

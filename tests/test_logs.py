"""The command line's logging: levels, and JSON lines with the fields given by ``extra=``."""

import ast
import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.ollama import FakeOllama

import analysis_kit
from analysis_kit.container import DIContainer
from analysis_kit.errors import ConfigurationError, OllamaError
from analysis_kit.logs import JsonFormatter, configure_logging


@pytest.fixture
def logger():
    """Give back the package's logger as it was."""
    logger = logging.getLogger("analysis_kit")
    before = logger.handlers, logger.level, logger.propagate
    yield logger
    logger.handlers, logger.level, logger.propagate = before


def test_json_lines_hold_message_fields_and_exception(logger, capsys):
    """Each record is one strict JSON object: time in UTC, level, logger, message, extra fields, the exception."""
    configure_logging("info", json=True)
    child = logging.getLogger("analysis_kit.room")
    child.debug("not heard")
    child.info("waited %.1f s\nfor a slot", 1.5, extra={"wait_s": 1.5, "unit": "Q&A 1 \u2013 Ann"})
    try:
        raise ValueError("why")
    except ValueError:
        child.exception("failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first["message"] == "waited 1.5 s\nfor a slot"
    assert (first["wait_s"], first["unit"], first["level"]) == (1.5, "Q&A 1 \u2013 Ann", "INFO")
    assert first["logger"] == "analysis_kit.room"
    assert first["time"].endswith("+00:00")
    assert "ValueError: why" in second["exception"]


class _Silent:
    def __repr__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "odd",
    [float("nan"), {1: object()}, {(1,): 2}, object(), "\ud83d", b"x", _Silent(), [_Silent()], 10**5000],
    ids=["nan", "object", "key", "plain", "half", "bytes", "silent", "within", "digits"],
)
def test_odd_fields_still_make_one_strict_json_line(odd):
    """NaN, objects, keys that are no text, half an emoji and what has no text never break or lose a line."""
    record = logging.makeLogRecord(
        {"name": "n", "levelname": "INFO", "msg": "m", "odd": odd, "level": "mine"}
    )
    line = JsonFormatter().format(record)
    fields = json.loads(line, parse_constant=pytest.fail)
    assert line.isascii()
    assert "\n" not in line
    assert "odd" in fields
    assert fields["level"] == "INFO"


def test_text_lines_and_levels(logger, capsys):
    """Without JSON a line is level, logger and message; configuring again replaces, and adds no second handler."""
    configure_logging()
    configure_logging("ERROR")
    logging.getLogger("analysis_kit.room").warning("not heard")
    logging.getLogger("analysis_kit.room").error("heard")
    assert capsys.readouterr().err == "ERROR analysis_kit.room: heard\n"
    assert len(logger.handlers) == 1


def test_an_unknown_level_is_refused():
    """The message names the level and those there are."""
    with pytest.raises(ConfigurationError, match=r"'loud'.*DEBUG"):
        configure_logging("loud")


def test_importing_the_package_adds_no_handler():
    """The library leaves logging to its user."""
    code = (
        "import logging, analysis_kit, analysis_kit.cache, analysis_kit.services\n"
        "print(len(logging.getLogger().handlers), len(logging.getLogger('analysis_kit').handlers))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["0", "0"]


def test_every_module_logs_under_its_own_name_with_fields():
    """Each module's logger is ``logging.getLogger(__name__)``, and each of its records carries its facts by ``extra=``."""
    loggers, bare = set(), []
    for path in Path(analysis_kit.__file__).parent.rglob("*.py"):
        if path.name == "logs.py":  # configures the package's logger, and has no records of its own
            continue
        for call in (
            node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)
        ):
            text = ast.unparse(call.func)
            if text.endswith("getLogger"):
                loggers.add(ast.unparse(call))
            elif text.startswith("_log.") and "extra" not in {each.arg for each in call.keywords}:
                bare.append(f"{path.name}:{call.lineno}")
    assert loggers == {"logging.getLogger(__name__)"}
    assert not bare


@pytest.fixture
def lines(logger, monkeypatch):
    """Return the JSON lines so far, by their logger's last name."""
    from analysis_kit.monitor.monitor import reset_monitor
    from analysis_kit.ollama.pool import reset_pool

    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    configure_logging("DEBUG", json=True)
    logger.handlers[0].setStream(stream := io.StringIO())

    def read():
        found = map(json.loads, stream.getvalue().splitlines())
        return {each["logger"].rpartition(".")[2]: each for each in found}

    yield read
    reset_pool()
    reset_monitor()


def test_a_resize_is_logged_with_its_sizes(lines):
    """The record of `get_pool` with another size has the pool's name and the new sizes."""
    from analysis_kit.ollama.pool import get_pool

    get_pool(2, hosts="127.0.0.1:9")
    get_pool(3, 5)
    line = lines()["pool"]
    assert (line["pool_size"], line["max_overflow"], line["level"]) == (3, 5, "INFO")
    assert line["pool"] == get_pool().name


def test_a_retry_is_logged_with_attempts_and_wait(lines):
    """The record of a failed attempt says which of how many, what failed, and how long the wait is."""
    from analysis_kit.retry import exponential_backoff_retry

    tries = []

    @exponential_backoff_retry(max_attempts=3, base_s=0.001)
    def flaky():
        tries.append(1)
        if len(tries) < 2:
            raise OllamaError("busy", status=503)
        return "well"

    assert flaky() == "well"
    line = lines()["retry"]
    assert (line["attempt"], line["attempts"], line["error_type"]) == (1, 3, "OllamaError")
    assert line["wait_s"] >= 0
    assert "flaky" in line["operation"]


def test_a_leak_is_logged_with_pool_host_and_time(lines):
    """The record of a slot that is not given back says which pool, which host, who holds it and for how long."""
    from analysis_kit.ollama.pool import OllamaConnectionPool

    with FakeOllama() as server, OllamaConnectionPool(1, 0, hosts=server.url, leak_after_s=0.001) as pool:
        with pool.get_connection():
            while not pool.get_stats()["leaked"]:
                pass
        line = lines()["connection_pool"]
    assert (line["pool"], line["host"]) == (pool.name, server.url)
    assert line["held_s"] >= 0.001
    assert line["holder"].startswith("MainThread")


def test_a_slow_operation_and_a_service_registered_again_are_logged_with_fields(lines):
    """An alert has operation, seconds and threshold; a registration that replaces one has its generation."""
    from analysis_kit.monitor.monitor import PerformanceMonitor

    with PerformanceMonitor(alert_threshold=1e-9).measure("slow step"):
        pass
    container = DIContainer()
    container.register_singleton("clock", instance=1)
    container.register_singleton("clock", instance=2)
    found = lines()
    assert found["recorder"]["operation"] == "slow step"
    assert found["recorder"]["took_s"] > found["recorder"]["threshold_s"] == 1e-9
    assert (found["container"]["service"], found["container"]["generation"]) == ("clock", 2)


def test_a_runs_records_have_fields(lines):
    """A notice of a run says how many units and rows it has."""
    from analysis_kit import analyze, run_async

    run_async(analyze({"one": "Revenue rose by 5 percent.", "two": "We are pleased."}))
    line = lines()["analysis"]
    assert line["level"] == "WARNING"
    assert line["units"] == 2
    assert line["rows"] >= 2

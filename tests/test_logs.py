"""The command line's logging: levels, and JSON lines with the fields given by ``extra=``."""

import json
import logging
import subprocess
import sys

import pytest

from analysis_kit.errors import ConfigurationError
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


@pytest.mark.parametrize("odd", [float("nan"), {1: object()}, {(1,): 2}, object(), "\ud83d", b"x"])
def test_odd_fields_still_make_one_strict_json_line(odd):
    """NaN, objects, keys that are no text and half an emoji never break a line."""
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

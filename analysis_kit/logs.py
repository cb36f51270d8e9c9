"""Logging for the command line: a level, and one JSON object a line where wanted. The library itself adds no handler."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

from analysis_kit.errors import ConfigurationError

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonFormatter(logging.Formatter):
    """One JSON object a record, in ASCII on one line: ``time`` (UTC), ``level``, ``logger``, ``message``, and the fields given by ``extra=``.

    An exception comes as ``exception``, a stack as ``stack``. What JSON cannot hold becomes its text.

    Examples
    --------
    >>> record = logging.makeLogRecord({"name": "mine", "levelname": "INFO", "msg": "slow: %s", "args": ("tone",), "wait_s": 2})
    >>> json.loads(JsonFormatter().format(record))["wait_s"]
    2
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        # a field of a record of somebody else's may have any name; those above are the record's own
        fields = {**{name: value for name, value in vars(record).items() if name not in _STANDARD}, **fields}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        try:
            return json.dumps(fields, default=str, allow_nan=False)
        except Exception:  # noqa: BLE001 - NaN, keys that are no text, values that contain themselves or have no text
            return json.dumps({name: _text(value) for name, value in fields.items()})


def _text(value: object) -> str:
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - a stranger's object must not cost the record
        return f"<{type(value).__name__} without a text>"


class _Handler(logging.StreamHandler[TextIO]):
    def __init__(self, said: Callable[[str], str]) -> None:
        super().__init__()
        self._said = said

    def format(self, record: logging.LogRecord) -> str:
        return self._said(super().format(record))


def configure_logging(
    level: str = "WARNING", *, json: bool = False, said: Callable[[str], str] = str
) -> None:
    """Send the kit's records of ``level`` and above to stderr; called by the command line only.

    Parameters
    ----------
    level : str, default "WARNING"
        DEBUG, INFO, WARNING, ERROR or CRITICAL, in any case.
    json : bool, default False
        One JSON object a line, see `JsonFormatter`, in place of text.
    said : callable, optional
        Gives a line as it is to be written.

    Raises
    ------
    ConfigurationError
        If there is no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigurationError(f"log level {level!r}: use DEBUG, INFO, WARNING, ERROR or CRITICAL")
    handler = _Handler(said)
    handler.setFormatter(
        JsonFormatter() if json else logging.Formatter("%(levelname)s %(name)s: %(message)s")
    )
    logger = logging.getLogger("analysis_kit")
    logger.handlers = [handler]
    logger.setLevel(number)
    logger.propagate = False

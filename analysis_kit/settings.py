"""Settings: one frozen value object, read from the environment once; the only place environment variables are named."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from annotated_types import Ge, Gt
from pydantic import AliasChoices, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from analysis_kit.errors import ConfigurationError

PREFIX = "ANALYSIS_KIT_"
_log = logging.getLogger(__name__)
_named: set[str] = set()  # variables that were named as unknown; once is enough


class _Environment(EnvSettingsSource):
    """The environment without its blank variables, so that the next one that may say the same is heeded."""

    def __init__(self, settings_class: type[BaseSettings]) -> None:
        super().__init__(settings_class)
        self.env_vars = {name: text for name, text in self.env_vars.items() if text and text.strip()}


class Settings(BaseSettings):
    """The kit's settings; each is read from ``ANALYSIS_KIT_<NAME>``, and ``OLLAMA_HOST`` also as Ollama reads it.

    A keyword wins over the environment. A variable that is empty or blank counts as not set; spaces around a value do not count.
    A ``.env`` file is read only by `load_settings`, and only when it is named there.

    Attributes
    ----------
    ASYNC_MAX_WORKERS : int, default 4
        Units analysed at the same time.
    ASYNC_USE_PROCESSES : bool, default False
        Processes instead of threads.
    OLLAMA_POOL_SIZE, OLLAMA_MAX_OVERFLOW : int, default 4 and 2
        Connections kept, and connections allowed beyond them.
    OLLAMA_CONNECTION_TIMEOUT : float, default 30.0
        Seconds a caller waits for a connection of the pool.
    OLLAMA_RECYCLE_AFTER : int, default 100
        Uses after which a connection is replaced.
    OLLAMA_HOST : str, default ""
        Server address(es), comma-separated, or ``embedded``; empty means 127.0.0.1:11434. Of the two variables
        the kit's own (``ANALYSIS_KIT_OLLAMA_HOST``) wins over the one it shares with Ollama.
    OLLAMA_MODEL : str, default ""
        Model name; empty means the host's only completion model.
    CACHE_URL : str, default ""
        ``memory:``, ``sqlite:///path``, ``redis://...``; empty means SQLite in `cache_dir`.
    CACHE_DIR : str, default ""
        Folder for answers and downloaded models; empty means the platform's own place, see `cache_dir`.
    ENABLE_PERFORMANCE_MONITORING : bool, default True
        Whether operations are timed.
    PERFORMANCE_ALERT_THRESHOLD : float, default 5.0
        Seconds after which an operation raises an alert.
    PERFORMANCE_MAX_METRICS : int, default 10000
        Raw measurements kept.
    ENABLE_AUTO_REGISTRATION : bool, default True
        Whether ``@injectable`` classes are resolvable from any container.

    Raises
    ------
    ConfigurationError
        Naming each wrong variable, its value and what is allowed.

    Examples
    --------
    >>> Settings(ASYNC_MAX_WORKERS=8).ASYNC_MAX_WORKERS
    8
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=None,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        case_sensitive=True,
    )

    ASYNC_MAX_WORKERS: int = Field(default=4, ge=1)
    ASYNC_USE_PROCESSES: bool = False
    OLLAMA_POOL_SIZE: int = Field(default=4, ge=1)
    OLLAMA_MAX_OVERFLOW: int = Field(default=2, ge=0)
    OLLAMA_CONNECTION_TIMEOUT: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    OLLAMA_RECYCLE_AFTER: int = Field(default=100, ge=1)
    OLLAMA_HOST: str = Field(default="", validation_alias=AliasChoices(f"{PREFIX}OLLAMA_HOST", "OLLAMA_HOST"))
    OLLAMA_MODEL: str = ""
    CACHE_URL: str = ""
    CACHE_DIR: str = ""
    ENABLE_PERFORMANCE_MONITORING: bool = True
    PERFORMANCE_ALERT_THRESHOLD: float = Field(default=5.0, gt=0)
    PERFORMANCE_MAX_METRICS: int = Field(default=10_000, ge=1)
    ENABLE_AUTO_REGISTRATION: bool = True

    @field_validator("*", mode="before")
    @classmethod
    def _clean(cls, value: Any, info: ValidationInfo) -> Any:
        """Strip text, and refuse to take True for a number."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError("a truth value is no number")
        return value.strip() if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the caller's names
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment as `_Environment` does."""
        return init_settings, _Environment(settings_cls), dotenv_settings, file_secret_settings

    def __init__(self, **values: Any) -> None:
        if "OLLAMA_HOST" in values:
            # under the first alias, so that no variable of the environment can win over the keyword
            values[f"{PREFIX}OLLAMA_HOST"] = values.pop("OLLAMA_HOST")
        _refuse_misspelt(os.environ)
        try:
            super().__init__(**values)
        except ValidationError as exc:
            wrong = "; ".join(_sentence(item, values) for item in exc.errors())
            raise ConfigurationError(
                f"{exc.error_count()} setting(s) cannot be used: {wrong}. "
                f"Settings are keyword arguments or environment variables {PREFIX}<NAME>."
            ) from exc


def load_settings(*, env_file: str | Path | None = None, **values: Any) -> Settings:
    """Read the environment anew; the process-wide settings stay as they are.

    Parameters
    ----------
    env_file : str or Path, optional
        A ``.env`` file to read as well. The environment wins over it; lines that are not ours are passed over.
    **values
        Settings by name; they win over both.

    Raises
    ------
    ConfigurationError
        Naming each variable, its value and what is allowed; or the file, if it cannot be read.
    """
    if env_file is None:
        return Settings(**values)
    from dotenv import dotenv_values

    path = Path(env_file)
    if not path.is_file():
        raise ConfigurationError(
            f"the settings file {str(path)!r} does not exist or is no file; name one that does."
        )
    try:
        lines = dotenv_values(path)
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"the settings file {str(path)!r} cannot be read ({exc}); it has to be UTF-8 text."
        ) from exc
    found = {name: text for name, text in lines.items() if text and text.strip() and not _text(name)}
    _refuse_misspelt(found)
    known = {
        name: found.get(PREFIX + name) or (found.get(name) if name == "OLLAMA_HOST" else None)
        for name in Settings.model_fields
    }
    if _host() and f"{PREFIX}OLLAMA_HOST" not in found:
        known.pop("OLLAMA_HOST")
    return Settings(**{**{name: text for name, text in known.items() if text is not None}, **values})


_current: Settings | None = None
#: Those of the environment, and our variables when they were read.
_read: tuple[Settings, list[object]] | None = None
_encode: Callable[[str], object] = getattr(os.environ, "encodekey", str)
_variables = [_encode(name) for name in ("OLLAMA_HOST", *map(PREFIX.__add__, Settings.model_fields))]
_lock = threading.Lock()  # guards all of these
_on_change: list[Callable[[], None]] = []


def get_settings() -> Settings:
    """Return the process-wide settings, read from the environment on first use, and again when one of them changes there.

    A notebook that is set on another server says so in a cell, ``%env OLLAMA_HOST=...``; the kit's calls after it go
    there. What is made once (cache, monitor) keeps the settings that it was made with.
    """
    global _current, _read  # noqa: PLW0603 - the one process-wide value
    # each cached answer asks for the settings: os.environ itself would take ten times as long for variables that are not set
    held: Any = getattr(os.environ, "_data", os.environ)
    texts = list(map(held.get, _variables))
    with _lock:
        settings = _current
        if settings is not None and (_read is None or settings is not _read[0] or texts == _read[1]):
            return settings
        callbacks = tuple(_on_change) if settings is not None else ()
        settings = _current = load_settings()
        _read = (settings, texts)
    for callback in callbacks:
        callback()
    return settings


def reset_settings() -> None:
    """Forget the process-wide settings, so that the next use reads the environment again."""
    _exchange(None)


@contextlib.contextmanager
def override_settings(**values: Any) -> Iterator[Settings]:
    """Within the block, `get_settings` returns settings with ``values`` in place, on every thread.

    Examples
    --------
    >>> with override_settings(ASYNC_MAX_WORKERS=2):
    ...     get_settings().ASYNC_MAX_WORKERS
    2
    """
    replaced = load_settings(**{**get_settings().model_dump(), **values})
    before = _exchange(replaced)
    try:
        yield replaced
    finally:
        _exchange(before)


def on_change(callback: Callable[[], None]) -> None:
    """Have ``callback`` called, for the rest of the process, whenever the process-wide settings are exchanged."""
    with _lock:
        _on_change.append(callback)


def cache_dir() -> Path:
    """Return the folder for answers and downloaded models; it is not created here.

    ``ANALYSIS_KIT_CACHE_DIR`` if set; else ``analysis_kit`` under ``XDG_CACHE_HOME``; else the platform's own
    place: ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on Windows, ``~/.cache`` elsewhere.
    """
    own = get_settings().CACHE_DIR
    if own:
        return Path(own).expanduser()
    home = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(home):  # noqa: PTH117 - the base directory specification says to ignore a relative one
        return Path(home) / "analysis_kit"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "analysis_kit"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "analysis_kit"
    return Path.home() / ".cache" / "analysis_kit"


def _text(variable: str) -> str:
    return os.environ.get(variable, "").strip()


def _host() -> str:
    return _text(f"{PREFIX}OLLAMA_HOST") or _text("OLLAMA_HOST")


def _exchange(replacement: Settings | None) -> Settings | None:
    global _current
    with _lock:
        before, _current = _current, replacement
        callbacks = tuple(_on_change)
    for callback in callbacks:
        callback()
    return before


def _refuse_misspelt(environment: Mapping[str, Any]) -> None:
    """Refuse a variable that looks like one of ours with a slip; name any other that is none, and go on."""
    for variable in environment:
        name = variable[len(PREFIX) :]
        if not variable.upper().startswith(PREFIX) or variable in {
            PREFIX + known for known in Settings.model_fields
        }:
            continue
        close = difflib.get_close_matches(name.upper(), Settings.model_fields, n=1, cutoff=0.75)
        if close:
            raise ConfigurationError(
                f"{variable}={environment[variable]!r} is no setting of this package; did you mean {PREFIX}{close[0]}?"
            )
        if variable not in _named:
            _named.add(variable)
            _log.info(
                "%s is no setting of this package and is passed over; known are: %s",
                variable,
                ", ".join(PREFIX + known for known in Settings.model_fields),
                extra={"variable": variable},
            )


def _sentence(item: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    alias = str(item["loc"][0])
    name = alias.removeprefix(PREFIX)
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name.upper(), Settings.model_fields, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are: {', '.join(Settings.model_fields)}"
        return f"{alias} is no setting ({hint})"
    given = name if {name, alias} & values.keys() else alias if _text(alias) else PREFIX + name
    return f"{given}={item['input']!r}: allowed is {_allowed(name)}"


def _allowed(name: str) -> str:
    field = Settings.model_fields[name]
    words: dict[object, str] = {
        bool: "true or false, yes or no",
        int: "a whole number",
        float: "a number",
        str: "text",
    }
    allowed = words.get(field.annotation, str(field.annotation))
    for bound in field.metadata:
        if isinstance(bound, Ge):
            allowed += f" of at least {bound.ge}"
        elif isinstance(bound, Gt):
            allowed += f" above {bound.gt}"
    return f"{allowed} (default {field.default!r})"

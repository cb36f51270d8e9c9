"""Settings: one frozen value object, read from the environment once; the only place environment variables are named."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from analysis_kit.errors import ConfigurationError

PREFIX = "ANALYSIS_KIT_"


class Settings(BaseSettings):
    """The kit's settings; each is read from ``ANALYSIS_KIT_<NAME>``, and ``OLLAMA_HOST`` as Ollama reads it.

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
        Server address(es), comma-separated, or ``embedded``; empty means 127.0.0.1:11434.
    OLLAMA_MODEL : str, default ""
        Model name; empty means the host's only completion model.
    CACHE_URL : str, default ""
        ``memory:``, ``sqlite:///path``, ``redis://...``; empty means SQLite in the user's cache folder.
    ENABLE_PERFORMANCE_MONITORING : bool, default True
    PERFORMANCE_ALERT_THRESHOLD : float, default 5.0
        Seconds after which an operation raises an alert.
    PERFORMANCE_MAX_METRICS : int, default 10000
        Raw measurements kept.
    ENABLE_AUTO_REGISTRATION : bool, default True
        Whether ``@injectable`` classes are resolvable from any container.

    Examples
    --------
    >>> Settings(ASYNC_MAX_WORKERS=8).ASYNC_MAX_WORKERS
    8
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=None, frozen=True, extra="forbid", case_sensitive=True
    )

    ASYNC_MAX_WORKERS: int = Field(default=4, ge=1)
    ASYNC_USE_PROCESSES: bool = False
    OLLAMA_POOL_SIZE: int = Field(default=4, ge=1)
    OLLAMA_MAX_OVERFLOW: int = Field(default=2, ge=0)
    OLLAMA_CONNECTION_TIMEOUT: float = Field(default=30.0, gt=0)
    OLLAMA_RECYCLE_AFTER: int = Field(default=100, ge=1)
    OLLAMA_HOST: str = Field(default="", validation_alias=AliasChoices("OLLAMA_HOST", f"{PREFIX}OLLAMA_HOST"))
    OLLAMA_MODEL: str = ""
    CACHE_URL: str = ""
    ENABLE_PERFORMANCE_MONITORING: bool = True
    PERFORMANCE_ALERT_THRESHOLD: float = Field(default=5.0, gt=0)
    PERFORMANCE_MAX_METRICS: int = Field(default=10_000, ge=1)
    ENABLE_AUTO_REGISTRATION: bool = True


_current: Settings | None = None
_lock = threading.Lock()  # guards _current


def load_settings(**values: Any) -> Settings:
    """Read the environment anew, ``values`` winning over it; the process-wide settings stay as they are.

    Raises
    ------
    ConfigurationError
        Naming each variable, its value and what is allowed.
    """
    try:
        return Settings(**values)
    except ValidationError as exc:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}={item.get('input')!r}: {item['msg']}"
            for item in exc.errors()
        )
        raise ConfigurationError(
            f"{exc.error_count()} setting(s) cannot be used: {wrong}. "
            f"Settings are keyword arguments or environment variables {PREFIX}<NAME>."
        ) from exc


def get_settings() -> Settings:
    """Return the process-wide settings, read from the environment on first use."""
    global _current  # noqa: PLW0603 - the one process-wide value
    with _lock:
        if _current is None:
            _current = load_settings()
        return _current


def reset_settings() -> None:
    """Forget the process-wide settings, so that the next use reads the environment again."""
    global _current  # noqa: PLW0603
    with _lock:
        _current = None


@contextlib.contextmanager
def override_settings(**values: Any) -> Iterator[Settings]:
    """Within the block, `get_settings` returns settings with ``values`` in place."""
    global _current  # noqa: PLW0603
    replaced = load_settings(**{**get_settings().model_dump(), **values})
    with _lock:
        before, _current = _current, replaced
    try:
        yield replaced
    finally:
        with _lock:
            _current = before

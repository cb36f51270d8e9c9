"""Every error the kit raises, in one tree.

::

    AnalysisKitError
    ├── ConfigurationError (also ValueError)     a setting, argument or name that cannot work
    ├── TranscriptError (also ValueError)        text that is no transcript
    ├── AnalysisError                            a unit that could not be analysed
    │   └── AnswerError                          the model answered, but not usably
    │       ├── TruncatedAnswerError
    │       ├── EmptyAnswerError
    │       └── InvalidAnswerError
    ├── OllamaError                              the server
    │   ├── OllamaUnreachableError
    │   ├── ModelNotFoundError
    │   ├── ServerBusyError
    │   ├── OllamaTimeoutError (also TimeoutError)
    │   └── StreamBrokenError
    ├── InsufficientDataError (also ValueError)  too few observations for the answer asked for
    ├── PoolError
    │   ├── PoolTimeoutError (also TimeoutError)
    │   └── PoolClosedError
    ├── ContainerError
    │   ├── ServiceNotFoundError (also LookupError)
    │   ├── CircularDependencyError
    │   └── CaptiveDependencyError
    └── ReportError

The message is the only positional argument and the facts are keyword attributes, so every error pickles as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SERVER_ERROR = 500
#: What Ollama says about options, format and template of a request; measured on v0.24.0.
_WRONG_REQUEST = re.compile(
    r'option ".*" must be of type|invalid format: |invalid JSON schema in format|template: '
)


class RemoteCause(Exception):  # noqa: N818 - it stands for a cause of any kind
    """Stands for the cause of an error that crossed a process border: the cause's type name and message."""


class AnalysisKitError(Exception):
    """Raised when the kit cannot do what was asked; the base of every other error here.

    Parameters
    ----------
    message : str
        What failed, on what, and what to do.
    partial : mapping, optional
        What had finished before the failure, by name.
    """

    def __init__(self, message: str = "", *, partial: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.partial: dict[str, Any] = dict(partial or {})

    def __reduce__(self) -> tuple[Any, ...]:
        cause = self.__cause__
        state: dict[str, Any] = dict(self.__dict__)
        if cause is not None:
            state["_cause"] = (type(cause).__name__, str(cause))
        return type(self), self.args, state

    def __setstate__(self, state: dict[str, Any] | None) -> None:
        facts = dict(state or {})
        cause = facts.pop("_cause", None)
        self.__dict__.update(facts)
        if cause is not None:
            self.__cause__ = RemoteCause(": ".join(cause))


class ConfigurationError(AnalysisKitError, ValueError):
    """Raised when a setting, an argument or a name cannot work as given."""


class TranscriptError(AnalysisKitError, ValueError):
    """Raised when a text cannot be read as a transcript.

    Parameters
    ----------
    message : str
        File, line, and what was expected.
    path : str, optional
        The file, where there is one.
    line : int, optional
        The line, counted from 1.
    """

    def __init__(self, message: str = "", *, path: str | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line = line


class AnalysisError(AnalysisKitError):
    """Raised when one unit could not be analysed; the original failure is its ``__cause__``.

    Parameters
    ----------
    message : str
        Unit, analyzer, attempts, duration and the cause's own words.
    unit, analyzer : str, optional
        Which unit (section, speaker, turn) and which analyzer.
    attempts : int, default 1
        How often it was tried.
    duration_s : float, default 0.0
        Seconds from the first attempt's start to the failure.
    partial : mapping, optional
        What had finished before the run was stopped, by unit name.
    """

    def __init__(
        self,
        message: str = "",
        *,
        unit: str | None = None,
        analyzer: str | None = None,
        attempts: int = 1,
        duration_s: float = 0.0,
        partial: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, partial=partial)
        self.unit = unit
        self.analyzer = analyzer
        self.attempts = attempts
        self.duration_s = duration_s


class AnswerError(AnalysisError):
    """Raised when a model answered, but the answer cannot be used; ``text`` holds what it said."""

    def __init__(
        self, message: str = "", *, text: str = "", model: str | None = None, host: str | None = None
    ) -> None:
        super().__init__(message)
        self.text = text
        self.model = model
        self.host = host


class TruncatedAnswerError(AnswerError):
    """Raised when the answer stopped at the token limit, or in a loop: half an answer is no answer."""


class EmptyAnswerError(AnswerError):
    """Raised when the answer is empty, or the server only loaded the model."""


class InvalidAnswerError(AnswerError):
    """Raised when the answer does not have the form that was asked for."""


class OllamaError(AnalysisKitError):
    """Raised when an Ollama server fails a request.

    Parameters
    ----------
    message : str
        Host, model, status and the server's own words.
    host, model : str, optional
        Which server and model.
    status : int, optional
        The HTTP status, where an answer came.
    server_text : str, default ""
        The server's own words.
    text : str, default ""
        What part of an answer had come before the failure.
    """

    def __init__(
        self,
        message: str = "",
        *,
        host: str | None = None,
        model: str | None = None,
        status: int | None = None,
        server_text: str = "",
        text: str = "",
    ) -> None:
        super().__init__(message)
        self.host = host
        self.model = model
        self.status = status
        self.server_text = server_text
        self.text = text

    @property
    def request_is_wrong(self) -> bool:
        """Whether the server blames the request with a status that otherwise blames itself: no repeat can help."""
        return self.status == _SERVER_ERROR and _WRONG_REQUEST.match(self.server_text) is not None


class OllamaUnreachableError(OllamaError):
    """Raised when no connection to the server can be made."""


class ModelNotFoundError(OllamaError):
    """Raised when the server does not have the model."""


class ServerBusyError(OllamaError):
    """Raised when the server refuses more work for now (503, 429).

    Parameters
    ----------
    message, **facts
        As `OllamaError`.
    retry_after_s : float, optional
        Seconds after which the server wants to be asked again, where it says so (``Retry-After``).
    """

    def __init__(self, message: str = "", *, retry_after_s: float | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.retry_after_s = retry_after_s


class OllamaTimeoutError(OllamaError, TimeoutError):
    """Raised when the server does not answer within the read limit."""


class StreamBrokenError(OllamaError):
    """Raised when an answer ends before its last line; ``text`` holds the part that came."""


class InsufficientDataError(AnalysisKitError, ValueError):
    """Raised when there are too few observations for the answer asked for."""


class PoolError(AnalysisKitError):
    """Raised when the connection pool cannot serve."""


class PoolTimeoutError(PoolError, TimeoutError):
    """Raised when no slot came free within the pool's timeout."""


class PoolClosedError(PoolError):
    """Raised when a slot is asked of a pool that was shut down."""


class ContainerError(AnalysisKitError):
    """Raised when services are wired wrongly."""


class ServiceNotFoundError(ContainerError, LookupError):
    """Raised when nothing is registered for what is needed."""


class CircularDependencyError(ContainerError):
    """Raised when services need each other in a circle; the message shows the path."""


class CaptiveDependencyError(ContainerError):
    """Raised when a longer-lived service would hold a shorter-lived one."""


class ReportError(AnalysisKitError):
    """Raised when a report could not be made."""

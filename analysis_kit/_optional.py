"""Load an optional dependency on use, or say which extra brings it."""

from __future__ import annotations

import importlib
from types import ModuleType

from analysis_kit.errors import ConfigurationError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import ``module``, or raise with the line that installs it.

    Parameters
    ----------
    module : str
        Dotted module name.
    extra : str
        The extra of this package that brings it.
    purpose : str
        What needs it, as the subject of a sentence ("the embedded model").

    Raises
    ------
    ConfigurationError
        If the module, or something it imports, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise ConfigurationError(
            f"{purpose} needs {module!r}, which is not usable here ({exc}); "
            f"install it with: pip install 'analysis-kit[{extra}]'"
        ) from exc

"""Packages that are loaded at first use."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from megalith.exceptions import MissingExtraError


def require(package: str, extra: str) -> Any:
    """Import a package of an extra.

    Parameters
    ----------
    package : str
        Name of the module.
    extra : str
        The extra of megalith that installs it.

    Returns
    -------
    module : module
        The imported module.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        message = f"this needs the package {package!r}, which is not installed; pip install 'megalith[{extra}]'"
        raise MissingExtraError(message, package=package, extra=extra) from error


def is_instance(value: Any, module: str, name: str) -> bool:
    """Whether `value` is of a class of a module, without importing it: what is not loaded has no instances."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name, ()))

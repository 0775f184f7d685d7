"""Whose code it is: the user's own, which is read, or that of installed packages, which count by their versions."""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import os
import pathlib
import sys
from typing import TYPE_CHECKING

from megalith import _core

if TYPE_CHECKING:
    import types
    from collections.abc import Mapping
    from typing import Any


def _directories(*paths: str | None) -> tuple[str, ...]:
    found = {form for path in paths if path for form in (os.path.abspath(path), os.path.realpath(path))}  # noqa: PTH100
    return tuple(sorted(path.rstrip(os.sep) + os.sep for path in found))


@functools.cache
def _places_of_others() -> tuple[str, ...]:
    """Return where Python, what is installed, and megalith are."""
    import site
    import sysconfig

    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return _directories(*paths, site.getusersitepackages(), str(pathlib.Path(__file__).parents[1]))


_SITE = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def _is_user_file(path: str) -> bool:
    path = os.path.abspath(path)  # noqa: PTH100
    return not (path.startswith(_places_of_others()) or any(name in path for name in _SITE))


_is_user: dict[str, bool] = {"__main__": True, "builtins": False}


def is_user_module(name: str | None) -> bool:
    """Whether a module is the user's own: neither installed, nor of Python, nor of megalith."""
    if name is None:
        return True
    known = _is_user.get(name)
    if known is None:
        known = _is_user_module(name)
        if name in sys.modules:
            _is_user[name] = known
    return known


def _is_user_module(name: str) -> bool:
    module = sys.modules.get(name)
    path: Any
    if module is not None:
        path = getattr(module, "__file__", None)
        if path is None:
            path = next(iter(getattr(module, "__path__", ())), None)
        is_made_by_hand = path is None and getattr(module, "__spec__", None) is None
    else:
        try:
            spec = importlib.util.find_spec(name.partition(".")[0])
        except (ImportError, AttributeError, ValueError):
            spec = None
        path = None if spec is None else spec.origin if spec.has_location else None
        if spec is not None and path is None:
            path = next(iter(spec.submodule_search_locations or ()), None)
        is_made_by_hand = spec is None
    if isinstance(path, str):
        return _is_user_file(path)
    return is_made_by_hand and name.partition(".")[0] not in sys.stdlib_module_names


@functools.cache
def package_version(module: str) -> str:
    """Return the version of the package a module belongs to, as its installation says; '' for the standard library."""
    top = module.partition(".")[0]
    if not top or top in sys.stdlib_module_names:
        return ""
    if top == "megalith":
        return _core.__version__
    from importlib import metadata

    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:
        names = _distributions().get(top)
    if names:
        return ", ".join(f"{name} {metadata.version(name)}" for name in sorted(set(names)))
    version = getattr(sys.modules.get(top), "__version__", "")
    return version if isinstance(version, str) else ""


@functools.cache
def compiled_content(name: str) -> bytes:
    """Return what stands for the file of an extension module of the user's, as it was at first; b'' for all others."""
    path = getattr(sys.modules.get(name), "__file__", None)
    if not isinstance(path, str) or not path.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
        return b""
    if not is_user_module(name):
        return b""
    try:
        return _core.digest_bytes(pathlib.Path(path).read_bytes())
    except OSError:
        return b""


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    from importlib import metadata

    return metadata.packages_distributions()


def is_user_class(cls: type) -> bool:
    """Whether the code of a class is the user's own."""
    return bool(cls.__flags__ & 1 << 9) and is_user_module(cls.__module__)  # made at run time


def home(function: types.FunctionType) -> str | None:
    """Return the module whose code a function is; `__module__` may be a decorated one's."""
    name = function.__globals__.get("__name__")
    return name if isinstance(name, str) else None

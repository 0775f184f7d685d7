"""Which calls are the same: a key for a function, as its code is now, and the arguments of a call."""

from __future__ import annotations

import functools
import os
import pathlib
import re
import sys
import time
import types
from typing import TYPE_CHECKING, Any

from megalith.context.arguments import Arguments
from megalith.exceptions import ArgumentError, DTypeError
from megalith.records import code
from megalith.records.encoders import ENCODERS, FORM, Refused, Work, content_of_bytes, encode_named
from megalith.records.encoding import module_name, text
from megalith.records.known_files import is_undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# The longest name of a directory that is made of a function's name.
LONGEST_NAME = 120

# Files that changed less than this ago may change again without a new time.
REST_NS = 2_000_000_000


class FunctionKey:
    """Keys of the calls of a function.

    A key stands for what the function does and for the arguments of a call. The function counts by its compiled code,
    its defaults, its closure as it is now, the functions and classes of the user's modules that it reaches and the
    plain data in their globals, read at each call, and the versions of installed packages. Comments, docstrings and
    the place of the code do not count. Of globals that can change (lists, dicts, arrays, objects) only the functions in
    them and the methods of their classes count, and not their state: make them arguments, or name them in `depends`.

    Parameters
    ----------
    function : callable
        A function, method, partial, class, or an object that can be called.
    version : object, optional
        Stands for the code in its place: as long as it is the same, so is the function.
    depends : sequence
        What counts as well: functions and classes (by code), files (`pathlib.Path`, by content) and values.
    ignore : sequence of str, optional
        Arguments that do not count; ``'*'`` and ``'**'`` are all further ones.
    key : callable, optional
        Takes the arguments of a call and gives what stands for them.

    Attributes
    ----------
    name : str
        Module and qualified name.
    path : tuple of str
        The same, as names of directories.

    Raises
    ------
    ArgumentError
        If there is no argument of a name in `ignore`, `depends` is no sequence, or `key` cannot be called.
    DTypeError
        If `function` cannot be called, or something in its closure or in `depends` cannot be identified.

    Notes
    -----
    An object that can change but is met in a closure or a default counts as it was when it was met first. Modules
    of the user that the body imports are imported when the key is made.

    Examples
    --------
    >>> from megalith.context.keys import FunctionKey
    >>> def scale(x, by=2):
    ...     return x * by
    >>> key = FunctionKey(scale)
    >>> key.call_key((3,), {}) == key.call_key((), {'by': 2, 'x': 3})
    True
    >>> key.call_key((3,), {}) == key.call_key((3.0,), {})
    False
    >>> key.bind((3,), {})
    {'x': 3, 'by': 2}
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        version: Any = None,
        depends: Sequence[Any] = (),
        ignore: Sequence[str] | None = None,
        key: Callable[..., Any] | None = None,
    ) -> None:
        if not callable(function):
            message = f"function: got {function!r}, which cannot be called"
            raise DTypeError(message, name="function", got=type(function).__name__, supported="callables")
        if isinstance(depends, str | pathlib.PurePath) or callable(depends):
            message = f"depends: got {depends!r}, expected a list of functions, pathlib.Paths and values"
            raise ArgumentError(message, name="depends", got=depends, expected="a list")
        if key is not None and not callable(key):
            message = f"key: got {key!r}, expected a function that takes the arguments of a call"
            raise ArgumentError(message, name="key", got=key, expected="callable")
        self.function = function
        inner, self._bound, self._bound_keywords = _unbound(function)
        self._options = (version, tuple(depends), None if ignore is None else tuple(ignore), key)
        module = module_name(getattr(inner, "__module__", None))
        qualname = getattr(inner, "__qualname__", None) or type(inner).__qualname__
        self.name = f"{module}.{qualname}"
        self.path = (*(_safe(part) for part in module.split(".")), _safe(qualname))
        self._header = FORM + text(code.PYTHON) + text(qualname if module == "__main__" else self.name)
        self._version = None if version is None else text("version") + encode_named(version, "version")
        self._depends = tuple(_dependency(value, f"depends[{i}]") for i, value in enumerate(depends))
        try:
            self._code = None if version is not None else code.Code(inner, is_call=True)
        except Refused as refused:
            raise refused.error("", f" of {self.name}") from refused.__cause__
        self._key = key
        self._arguments = Arguments(inner, self.name, ignore or ())
        fixed = (*self._bound, *self._bound_keywords.values(), *self._arguments.defaults())
        self._is_all_watched = not self._depends and key is None and all(map(code.is_data, fixed))
        self._last: tuple[bytes, bytes] = (b"", b"")

    def __reduce__(self) -> Any:
        return _rebuild, (self.function, *self._options)

    def __repr__(self) -> str:
        return f"<FunctionKey of {self.name}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FunctionKey):
            return NotImplemented
        return self._options[2:] == other._options[2:] and self.function_digest() == other.function_digest()

    def __hash__(self) -> int:
        return hash(self.name)

    def function_digest(self) -> str:
        """Return what stands for the function as it is now.

        Returns
        -------
        digest : str
            32 hexadecimal digits.

        Raises
        ------
        DTypeError
            If something in its closure cannot be identified.
        FileNotFoundError
            If a file in `depends` is gone.
        """
        return self._function().hex()

    def _function(self) -> bytes:
        if self._code is None:
            now: bytes = self._version or b""
        else:
            try:
                now = self._code.digest()
            except Refused as refused:
                raise refused.error("", f" of {self.name}") from refused.__cause__
        if self._depends:
            now += b"".join([get() for get in self._depends])
        last, digest = self._last
        if now != last:
            digest = content_of_bytes(self._header + now)
            self._last = (now, digest)
        return digest

    def watched(self) -> tuple[tuple[str, Any, str, Any], ...] | None:
        """Return what the function's part of the last key was read from.

        Returns
        -------
        watched : tuple of (kind, place, name, value), or None
            As long as these are the very same, so is the function (but for its ``__defaults__``, if somebody sets
            them). The kinds are those of `megalith.records.code.Code.watched`. None if there is more to look at: what
            it depends on, a `key` that may give something else each time, a `self`, defaults or arguments of a partial
            that may change.
        """
        if not self._is_all_watched:
            return None
        return () if self._code is None else self._code.watched()

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name, defaults filled in, without those that are ignored.

        Parameters
        ----------
        args : tuple
            Arguments by position.
        kwargs : dict
            Arguments by keyword.

        Returns
        -------
        arguments : dict
            Further arguments stand under ``'*'`` (a list) and ``'**'`` (a dict).

        Raises
        ------
        TypeError
            If the function cannot be called so; it says what Python says.
        """
        names, values = self._arguments.bind(*self._whole(args, kwargs))
        arguments = dict(zip(names, values, strict=True))
        if "*" in arguments:
            arguments["*"] = list(arguments["*"])
        return arguments

    def _whole(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        if self._bound:
            args = (*self._bound, *args)
        if self._bound_keywords:
            kwargs = {**self._bound_keywords, **kwargs}
        return args, kwargs

    def call_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return the key of a call.

        Parameters
        ----------
        args : tuple
            Arguments by position.
        kwargs : dict
            Arguments by keyword.

        Returns
        -------
        key : str
            32 hexadecimal digits.

        Raises
        ------
        TypeError
            If the function cannot be called so.
        DTypeError
            If an argument cannot be identified; it names the place, such as ``args[1]['model'].net``.
        """
        return self.combine(*self.digests(args, kwargs))

    @staticmethod
    def combine(function: str, arguments: str) -> str:
        """Return the key of a call of which both parts are known.

        Parameters
        ----------
        function, arguments : str
            What `digests` gives.

        Returns
        -------
        key : str
            32 hexadecimal digits.
        """
        return content_of_bytes(f"{function}{arguments}".encode()).hex()

    def digests(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, str]:
        """Return what stands for the function and what stands for the arguments of a call.

        Parameters
        ----------
        args : tuple
            Arguments by position.
        kwargs : dict
            Arguments by keyword.

        Returns
        -------
        function, arguments : str
            32 hexadecimal digits each.

        Raises
        ------
        TypeError, DTypeError
            As `call_key`.
        """
        return self.function_digest(), self.arguments_digest(args, kwargs)

    def arguments_digest(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return what stands for the arguments of a call.

        Parameters
        ----------
        args : tuple
            Arguments by position.
        kwargs : dict
            Arguments by keyword.

        Returns
        -------
        digest : str
            32 hexadecimal digits.

        Raises
        ------
        TypeError, DTypeError
            As `call_key`.
        """
        out: list[bytes] = []
        if self._key is not None:
            chosen = self._key(*args, **kwargs)
            out.append(encode_named(chosen, "key(...)", note=f" (the key of {self.name})"))
            return content_of_bytes(b"".join(out)).hex()
        if self._bound or self._bound_keywords:
            whole, keywords = self._whole(args, kwargs)
        else:
            whole, keywords = args, kwargs
        names, values = self._arguments.bind(whole, keywords)
        labels = self._arguments.labels
        work = Work()
        encoders = ENCODERS
        i = 0
        try:
            for i, value in enumerate(values):
                out.append(labels[i])
                out.append(encoders[type(value)](value, work))
        except Refused as refused:
            return self._refused(refused, i, names, values, whole, keywords)
        except RecursionError:
            why = "containers lie too deep in each other, about a thousand levels are possible"
            raise self._located(Refused(type(values[i]).__name__, why), names[i], whole, keywords) from None
        return content_of_bytes(b"".join(out)).hex()

    def _is_default(self, name: str, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether an argument was not given."""
        is_given = name in kwargs or self._position(name) < len(args)
        return not is_given and self._arguments.default(name) is value

    def _refused(
        self,
        refused: Refused,
        i: int,
        names: tuple[str, ...],
        values: tuple[Any, ...],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> str:
        """Take a default that has no digest by its name: the code stands for it. Raise the error for anything else."""
        if not self._is_default(names[i], values[i], args, kwargs):
            raise self._located(refused, names[i], args, kwargs) from refused.__cause__
        again = list(values)
        again[i] = NotImplemented
        labels = self._arguments.labels
        out: list[bytes] = []
        work = Work()
        for j, value in enumerate(again):
            try:
                out += [labels[j], ENCODERS[type(value)](value, work)]
            except Refused as other:
                return self._refused(other, j, names, tuple(again), args, kwargs)
        return content_of_bytes(b"".join(out)).hex()

    def _position(self, name: str) -> int:
        return self._arguments.positions.get(name, len(self._arguments.positions))

    def _located(self, refused: Refused, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> DTypeError:
        n_bound = len(self._bound)
        if name == "*" or (position := self._position(name)) < len(args):
            position = len(self._arguments.positions) if name == "*" else position
            if name == "*" and refused.path:
                position += int(refused.path.pop()[1:-1])
            if position < n_bound:
                is_self = position == 0 and not isinstance(self.function, functools.partial)
                where = "self" if is_self else f"partial.args[{position}]"
            else:
                where = f"args[{position - n_bound}]"
        elif name == "**":
            where = "kwargs"
        elif name in kwargs:
            where = f"kwargs[{name!r}]"
        else:
            where = f"default {name!r}"
        what = "" if name in ("*", "**") else f"argument {name!r} "
        return refused.error(where, f" ({what}of {self.name})")

    def parts(self) -> dict[str, str]:
        """Return what the function is made of, as it is now.

        Returns
        -------
        parts : dict of str
            Digests by name: ``'code'``, ``"default 'x'"``, ``"closure 'scale'"``, ``"global 'helpers.smooth'"``,
            ``"constant global 'helpers.LIMIT'"``, ``'version of numpy'``, ``'version'``, ``'depends[0]'``. Two lists
            of them differ where the function does.
        """
        self._function()
        parts = {} if self._code is None else self._code.parts()
        if self._version is not None:
            parts["version"] = self._version
        for i, get in enumerate(self._depends):
            parts[f"depends[{i}]"] = get()
        parts["name"] = self._header
        return {name: content_of_bytes(data).hex() for name, data in parts.items()}


def find_named(module: str | None, name: str) -> Any:
    """Return what has a qualified name in a loaded module."""
    found: Any = sys.modules.get(module or "")
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _rebuild(function: Any, version: Any, depends: Any, ignore: Any, key: Any) -> FunctionKey:
    return FunctionKey(function, version=version, depends=depends, ignore=ignore, key=key)


def _unbound(function: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Take partials, bound methods and objects apart into a function and its first arguments."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    while True:
        if isinstance(function, functools.partial):
            args = (*function.args, *args)
            kwargs = {**function.keywords, **kwargs}
            function = function.func
        elif isinstance(function, types.MethodType):
            args = (function.__self__, *args)
            function = function.__func__
        elif isinstance(function, types.FunctionType | type | types.BuiltinFunctionType):
            return function, args, kwargs
        elif code.is_memory(function):
            function = code.inner(function)
        else:
            call = type(function).__call__
            if not isinstance(call, types.FunctionType) or code.inner(function) is not None:
                return function, args, kwargs
            args = (function, *args)
            function = call


def _safe(name: str) -> str:
    """Make a name of a directory."""
    safe = re.sub(r"[^\w.+=-]", "-", name)
    if safe in ("", ".", ".."):
        safe = f"-{safe}"
    if len(safe.encode()) > LONGEST_NAME:
        safe = f"{safe[: LONGEST_NAME // 4]}-{content_of_bytes(name.encode()).hex()}"
    return safe


def _dependency(value: Any, name: str) -> Callable[[], bytes]:
    """Return what gives the bytes of something a function depends on."""
    if isinstance(value, pathlib.PurePath):
        return _File(value).content
    if isinstance(value, types.FunctionType | type):
        return code.Code(value, is_call=True).digest
    if code.inner(value) is not None:
        return code.Code(value, is_call=True).digest
    data = encode_named(value, name)
    return lambda: data


class _File:
    """The content of a file, read again when its times say that it may have changed."""

    def __init__(self, path: pathlib.PurePath) -> None:
        self.path = os.fspath(path)
        self._stamp: tuple[int, ...] | None = None
        self._content = b""

    def content(self) -> bytes:
        stat = os.stat(self.path)  # noqa: PTH116
        stamp = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        # Stores through a mapping need not show in the times of a file.
        if stamp != self._stamp or not is_undisturbed(self.path, stat.st_dev):
            is_quiet = is_undisturbed(self.path, stat.st_dev)
            self._content = content_of_bytes(pathlib.Path(self.path).read_bytes())
            is_at_rest = time.time_ns() - stat.st_mtime_ns > REST_NS
            self._stamp = stamp if is_at_rest and is_quiet else None
        return self._content

"""Functions that remember their results in memory.

A hit on plain arguments (numbers, strings, bytes, None, and tuples of these) happens in the core alone: the call as it
was written is looked up byte by byte. All else, and the first call of each form, goes by the canonical key of
`megalith.context.keys`, a digest of the function and its arguments, so that arrays and everything else that can change
are looked at again in each call.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
import types
import warnings
import weakref
from contextvars import ContextVar
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from megalith import _core, records
from megalith._checks import positive_int
from megalith.context.keys import FunctionKey, find_named
from megalith.exceptions import ArgumentError, DTypeError, FormatError, MegalithError, MegalithWarning
from megalith.records.tree import flatten

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator

    from megalith._typing import AnyArray, PathLike

__all__ = ["DEFAULT_MAX_BYTES", "CacheInfo", "Memoized", "load", "memoize", "save", "size_of"]

DEFAULT_MAX_BYTES = 512 * 1024**2

FORMAT = "megalith.memcache"
VERSION = 1

# What stands for no bound at all.
_UNBOUNDED = 2**64 - 1

# Containers inside of each other that are measured, and objects: from further on they lead anywhere.
_MOST_LEVELS = 20
_MOST_OBJECTS = 3

_LONGEST_NAME = 200
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]|^\.")
_KEY = re.compile(r"[0-9a-f]{32}")


class Key(Protocol):
    """What tells calls of a function apart; `megalith.context.keys.FunctionKey` is one."""

    def call_key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return 32 hexadecimal digits for the function and these arguments."""

    def function_digest(self) -> str:
        """Return a digest of the function alone."""

    def watched(self) -> tuple[tuple[str, Any, str, Any], ...] | None:
        """Return what was read for the last key besides arguments, see `FunctionKey.watched`."""


class CacheInfo(NamedTuple):
    """What a memory cache has done and holds."""

    hits: int
    """Calls that were answered, also by waiting for another thread."""
    misses: int
    """Calls that computed."""
    entries: int
    """Results held."""
    bytes: int
    """What they take, 512 bytes for the bookkeeping of each included."""
    max_bytes: int | None
    """What they may take."""


class Memoized(_core.Memoized):
    """A function that remembers its results; `memoize` makes it.

    It is called as the function is, has its name, documentation and signature, and the function itself as
    ``__wrapped__``. In a class it is a method, and `self` an argument like others.

    Parameters
    ----------
    function : callable
        What computes.
    directory : path
        Where its results are saved.
    max_bytes : int or None
        Bytes of the results kept.
    key : Key, optional
        What tells calls apart.

    Notes
    -----
    Threads: of those that make the same call at the same time one computes and the others wait for it; if it raises,
    the next one computes. A thread that is computing something itself waits for nobody: it computes, so that two can
    never wait for each other. A forked child does not wait for threads of its parent.

    A copy that was sent to another process starts empty.

    Examples
    --------
    >>> import tempfile
    >>> from megalith.context.memcache import memoize
    >>> power = memoize(pow, tempfile.mkdtemp())
    >>> power(2, 10), power(2, 10)
    (1024, 1024)
    >>> power.cache_info()[:3]
    (1, 1, 1)
    """

    __wrapped__: Callable[..., Any]

    def __new__(
        cls, function: Callable[..., Any], directory: PathLike, max_bytes: int | None, key: Key | None = None
    ) -> Memoized:
        """Make one of the core's for the function."""
        return super().__new__(cls, function, _UNBOUNDED if max_bytes is None else max_bytes)

    def __init__(
        self, function: Callable[..., Any], directory: PathLike, max_bytes: int | None, key: Key | None = None
    ) -> None:
        is_plain = isinstance(function, types.FunctionType)
        functools.update_wrapper(self, function, updated=("__dict__",) if is_plain else ())
        self._directory = Path(directory)
        self._max_bytes = max_bytes
        self._given_key = key
        self._keys: Key = FunctionKey(function) if key is None else key
        self._name = full_name(function)
        self._is_loaded = False
        self._was_cleared = False
        number = id(self)
        _living[number] = weakref.ref(self, lambda _: _living.pop(number, None) and None)

    def __repr__(self) -> str:
        info = self.cache_info()
        return f"<Memoized {self._name}: {info.entries} results, {info.bytes} bytes>"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __reduce__(self) -> str | tuple[Any, ...]:
        name = getattr(self, "__qualname__", None)
        module = getattr(self, "__module__", None)
        if isinstance(name, str) and module != "__main__" and find_named(module, name) is self:
            return name
        return _copy, (type(self), self.__wrapped__, self._directory, self._max_bytes, self._given_key)

    @property
    def name(self) -> str:
        """Module and qualified name of the function."""
        return self._name

    @property
    def path(self) -> Path:
        """The file its results are saved to."""
        return self._directory / file_name(self._name)

    def cache_info(self) -> CacheInfo:
        """Say what the cache has done and holds.

        Returns
        -------
        info : CacheInfo
            Hits, misses, entries, bytes and max_bytes.
        """
        self._load_once()
        hits, misses, entries, nbytes, _ = self._numbers()
        return CacheInfo(hits, misses, entries, nbytes, self._max_bytes)

    def clear(self) -> None:
        """Forget all results, saved ones too once `save` is called."""
        self._is_loaded = True
        self._was_cleared = True
        self._clear()

    def load(self) -> int:
        """Read the saved results of this version of the function.

        Returns
        -------
        n_entries : int
            How many results there were. Those of calls that are remembered already stay as they are.
        """
        self._is_loaded = True
        entries = _read(self.path).get(self._keys.function_digest(), [])
        for key, value in entries:
            kept, nbytes = self._keep(value, is_alone=True)
            self._insert(key, kept, nbytes)
        return len(entries)

    def _load_once(self) -> None:
        if not self._is_loaded:
            self.load()

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, tuple[Any, ...] | None]:
        # Not when the function was wrapped: what it calls may not have been defined by then.
        self._load_once()
        # Before the key: what changes in between makes the next call look again, and never the other way round.
        watched = self._keys.watched()
        return self._keys.call_key(args, kwargs), watched

    def _keep(self, value: Any, is_alone: bool) -> tuple[Any, int]:
        value = _frozen(value, is_alone=is_alone) if isinstance(value, np.ndarray) else _frozen_within(value)
        try:
            return value, size_of(value)
        except Exception:  # Of a user's class; the result is not lost for that.
            return value, object.__sizeof__(value)


class AsyncMemoized(Memoized):
    """A coroutine function that remembers what was awaited."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._flights: dict[tuple[int, str], asyncio.Future[tuple[Any, ...]]] = {}
        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)
        else:
            import asyncio

            self._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._await(args, kwargs)

    async def _await(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        import asyncio

        loop = asyncio.get_running_loop()
        while True:
            value, key = self._find(args, kwargs)
            if key is None:
                return value
            flight = self._flights.get((id(loop), key))
            if flight is None:
                return await self._fly(args, kwargs, key, loop)
            if _is_computing.get():  # It may be this one that the other waits for.
                return await self._compute(args, kwargs, key)
            done = await asyncio.shield(flight)
            if done:
                return done[0]

    async def _fly(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], key: str, loop: asyncio.AbstractEventLoop
    ) -> Any:
        """Compute, while others wait."""
        flight = self._flights[id(loop), key] = loop.create_future()
        outcome: tuple[Any, ...] = ()
        try:
            value = await self._compute(args, kwargs, key)
            outcome = (value,)
            return value
        finally:
            del self._flights[id(loop), key]
            if not flight.done():
                flight.set_result(outcome)

    async def _compute(self, args: tuple[Any, ...], kwargs: dict[str, Any], key: str) -> Any:
        clearings = self._begin()
        token = _is_computing.set(True)
        try:
            value = await self.__wrapped__(*args, **kwargs)
        finally:
            _is_computing.reset(token)
        value, nbytes = self._keep(value, is_alone=False)
        return self._insert(key, value, nbytes, clearings)


_is_computing: ContextVar[bool] = ContextVar("megalith_is_computing", default=False)

# Every one there is, for `load`. A plain dict: its steps cannot be torn apart by other threads, as those of a WeakSet.
_living: dict[int, weakref.ref[Memoized]] = {}


def memoize(
    function: Callable[..., Any],
    directory: PathLike,
    *,
    max_bytes: int | None = DEFAULT_MAX_BYTES,
    key: Key | None = None,
) -> Memoized:
    """Make a function remember its results.

    Parameters
    ----------
    function : callable
        A function, method, partial, coroutine function or any other callable whose result depends on its arguments
        alone.
    directory : path
        Where `save` keeps its results, and where they are looked for when it is called first.
    max_bytes : int or None
        Bytes of the results kept; the least recently used leave first. None keeps all. A result that is larger is
        given out and not kept.
    key : Key, optional
        What tells calls apart. None for `megalith.context.keys.FunctionKey`.

    Returns
    -------
    memoized : Memoized
        The function.

    Raises
    ------
    ArgumentError
        If `function` cannot be called, gives an iterator that can be read only once, or `max_bytes` is no whole number
        of 1 or more.

    Notes
    -----
    All arguments count, keywords included, with their types: 1, 1.0 and True are three calls, and f(1, b=2), f(1, 2)
    and f(b=2, a=1) are one. NaN equals NaN. None is a result like others; exceptions are not kept.

    An array is given out read-only, the same one in each call, so that nobody can change what the next one gets. It is
    copied once if somebody else could still write to it: an argument, or a buffer that the function uses again. So are
    arrays in tuples, lists and dicts. Lists, dicts and other objects themselves are given out as they are: treat them
    as constants. A read-only mapping of a file is kept as a mapping.

    The function counts by its code and all that it reaches, as in the disk cache: where a helper or a plain constant is
    another one, it computes again.

    A hit takes about 0.1 microseconds, and 10 nanoseconds for each global that the function reaches, if all arguments
    are plain: int, float, str, bytes, bool, None, common scalars of NumPy, tuples of these, 512 bytes in all. Other
    arguments are digested in each call, and so is what a method or partial is bound to.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from megalith.context.memcache import memoize
    >>> def ramp(n, step=1):
    ...     print('computed')
    ...     return np.arange(0, n * step, step)
    >>> ramp = memoize(ramp, tempfile.mkdtemp())
    >>> ramp(3, step=2)
    computed
    array([0, 2, 4])
    >>> ramp(step=2, n=3) is ramp(3, 2)
    True
    """
    if not callable(function):
        message = f"function: got {function!r}, expected something that can be called"
        raise ArgumentError(message, name="function", got=function, expected="callable")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        message = f"function: {full_name(function)} is a generator, whose results can be read only once; return a list"
        raise ArgumentError(message, name="function", got=function, expected="no generator")
    if max_bytes is not None:
        max_bytes = min(positive_int("max_bytes", max_bytes), _UNBOUNDED)
    cls = AsyncMemoized if _is_coroutine_function(function) else Memoized
    return cls(function, directory, max_bytes, key)


def _is_coroutine_function(function: Any) -> bool:
    is_async = inspect.iscoroutinefunction
    call = getattr(type(function), "__call__", None)  # noqa: B004  # of its class: what calling it does
    return is_async(function) or isinstance(function, AsyncMemoized) or is_async(call)


def _copy(
    cls: type[Memoized], function: Callable[..., Any], directory: Path, max_bytes: int | None, key: Key | None
) -> Memoized:
    """Make an unpickled one, which stays empty until it is called."""
    made = cls(function, directory, max_bytes, key)
    made._is_loaded = True
    return made


def full_name(function: Any) -> str:
    """Return module and qualified name of a function, of what a partial calls, or of the class of another callable."""
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"


def file_name(name: str) -> str:
    """Return the name of the file of a function's results."""
    safe = _UNSAFE.sub(lambda found: "".join(f"%{byte:02x}" for byte in found[0].encode()), name)
    if len(safe) > _LONGEST_NAME:
        safe = safe[: _LONGEST_NAME - 33] + "-" + blake2b(name.encode(), digest_size=16).hexdigest()
    return safe + ".npz"


def _frozen(array: AnyArray, *, is_alone: bool) -> AnyArray:
    """Return a read-only view of an array that nobody can write to."""
    if _is_constant(array):
        return array if array.base is not None else array.view()
    # Alone is an array whose memory is its own, or that of a base nobody else holds. (The second reference to the base
    # is the argument of getrefcount.)
    base = array.base
    is_own = base is None
    if type(base) is np.ndarray and base.base is None:
        del base
        is_own = sys.getrefcount(array.base) == 2
    if not (is_alone and is_own and type(array) in (np.ndarray, np.memmap)):
        array = np.array(array, order="K", subok=type(array) is not np.memmap)
    if isinstance(array.base, np.ndarray):
        array.base.flags.writeable = False
    array.flags.writeable = False
    return array.view()


def _frozen_within(value: Any, level: int = 0) -> Any:
    """Return a tuple, list or dict with read-only arrays in the place of those in it; other things as they are."""
    if type(value) not in (tuple, list, dict) or level > _MOST_LEVELS:
        return value
    parts = value.values() if type(value) is dict else value
    frozen = [
        _frozen(part, is_alone=False) if isinstance(part, np.ndarray) else _frozen_within(part, level + 1)
        for part in parts
    ]
    if all(now is before for now, before in zip(frozen, parts, strict=True)):
        return value
    return dict(zip(value, frozen, strict=True)) if type(value) is dict else type(value)(frozen)


def _is_constant(array: AnyArray) -> bool:
    """Whether no array that leads to its memory is writable."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return base is None or isinstance(base, bytes | _core.Segment) or type(base).__name__ == "mmap"


def size_of(value: Any) -> int:
    """Estimate the bytes that a value keeps alive.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    nbytes : int
        For arrays the bytes of the memory they show, all of it if they show a part; for containers and objects with
        attributes those of what is in them, once; for all else what `sys.getsizeof` says.

    Raises
    ------
    Exception
        Whatever the value's own ``__sizeof__`` raises.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith.context.memcache import size_of
    >>> size_of(np.zeros(1000)[:10])
    8000
    """
    return _measure(value, set(), 0)


def _measure(value: Any, seen: set[int], level: int) -> int:
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return _measure_array(value, seen, level)
    if isinstance(value, bytes | bytearray | str | int | float | complex | np.generic | None):
        return sys.getsizeof(value)
    nbytes = getattr(value, "nbytes", None)
    if type(nbytes) is int:  # of an xarray, a tensor
        return nbytes
    size = sys.getsizeof(value)
    if level < _MOST_LEVELS and not isinstance(value, type | types.ModuleType | types.FunctionType):
        size += sum(_measure(item, seen, level + 1) for item in _parts(value, level))
    return size


def _measure_array(array: AnyArray, seen: set[int], level: int) -> int:
    owner: Any = array
    nbytes = array.nbytes
    while isinstance(owner, np.ndarray):
        if owner is not array and id(owner) in seen:
            return 0
        seen.add(id(owner))
        nbytes = max(nbytes, owner.nbytes)
        owner = owner.base
    if array.dtype.hasobject and level < _MOST_LEVELS:
        nbytes += sum(_measure(item, seen, level + 1) for item in array.ravel().tolist())
    return nbytes


def _parts(value: Any, level: int) -> Iterator[Any]:
    """Give what is inside of a value."""
    if isinstance(value, dict):
        yield from list(value)
        yield from list(value.values())
    elif isinstance(value, tuple | list | set | frozenset):
        yield from list(value)
    attributes = getattr(value, "__dict__", None)
    if type(attributes) is dict and level < _MOST_OBJECTS:
        yield from list(attributes.values())


def save(functions: Iterable[Memoized], directory: PathLike | None = None) -> list[Path]:
    """Write the results of functions, one file each.

    Parameters
    ----------
    functions : iterable of Memoized
        The functions. Those of one name (closures of one function, versions of it) share a file.
    directory : path, optional
        Where to; None for the directory of each.

    Returns
    -------
    paths : list of Path
        The files written. A function that holds nothing and was not cleared leaves its file as it is.

    Raises
    ------
    OSError
        If a file cannot be written. The one before is there still.

    Notes
    -----
    The files are records, without pickles. Results that records cannot keep are left out, with one warning for each
    function.

    Examples
    --------
    >>> import tempfile
    >>> from megalith.context.memcache import memoize, save
    >>> directory = tempfile.mkdtemp()
    >>> power = memoize(pow, directory)
    >>> power(2, 10)
    1024
    >>> [path.name for path in save([power])]
    ['builtins.pow.npz']
    >>> memoize(pow, directory).cache_info().entries
    1
    """
    groups: dict[Path, list[Memoized]] = {}
    for function in functions:
        path = function.path if directory is None else Path(directory) / function.path.name
        groups.setdefault(path, []).append(function)
    return [path for path, group in groups.items() if _write(path, group)]


def _write(path: Path, group: list[Memoized]) -> bool:
    versions: dict[str, dict[str, Any]] = {}
    n_left_out, problem = 0, ""
    for function in group:
        function._load_once()
        entries = versions.setdefault(function._keys.function_digest(), {})
        for key, value in function._entries():
            try:
                flatten(value, exact=True)
            except DTypeError as error:
                n_left_out, problem = n_left_out + 1, problem or error.message
            else:
                entries.pop(key, None)
                entries[key] = value
    if n_left_out:
        message = f"{group[0].name}: {n_left_out} results cannot be saved and are left out: {problem}"
        warnings.warn(message, MegalithWarning, stacklevel=3)
    if not any(versions.values()) and not any(function._was_cleared for function in group):
        return False
    content = {
        "format": FORMAT,
        "version": VERSION,
        "name": group[0].name,
        "functions": {digest: [list(item) for item in entries.items()] for digest, entries in versions.items()},
    }
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    records.save(path, content)
    path.chmod(0o600)
    return True


def load(name: str, directory: PathLike) -> int:
    """Read the saved results of a function again.

    Parameters
    ----------
    name : str
        Module and qualified name of a function that `memoize` wrapped: ``'package.module.function'``.
    directory : path
        The directory it was given.

    Returns
    -------
    n_entries : int
        How many results there were for the functions of this name; 0 if there is no such function or no file.

    Raises
    ------
    MegalithError
        If what the function reaches cannot be digested.

    Examples
    --------
    >>> import tempfile
    >>> from megalith.context.memcache import load
    >>> load('builtins.pow', tempfile.mkdtemp())
    0
    """
    directory = Path(directory)
    found = [function for known in list(_living.values()) if (function := known()) is not None]
    return sum(function.load() for function in found if function.name == name and function._directory == directory)


def _read(path: Path) -> dict[str, list[tuple[str, Any]]]:
    """Return the entries in a file by the digests of their functions; a damaged file is set aside."""
    try:
        return _entries_of(records.load(path, verify=True), path)
    except FileNotFoundError:
        return {}
    except MegalithError as error:
        problem, aside = str(error), path.with_name(path.name + ".damaged")
        try:
            os.replace(path, aside)  # noqa: PTH105  # as the rest of the library publishes
        except OSError as failure:
            problem += f"; it could not be set aside: {failure}"
        else:
            problem += f"; it is now {aside.name}"
    except OSError as error:
        problem = str(error)
    warnings.warn(f"{path}: saved results cannot be read: {problem}", MegalithWarning, stacklevel=4)
    return {}


def _entries_of(content: Any, path: Path) -> dict[str, list[tuple[str, Any]]]:
    try:
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ValueError(f"format {content['format']!r}, version {content['version']!r}")
        functions = {
            str(digest): [(str(key), value) for key, value in entries]
            for digest, entries in content["functions"].items()
        }
        for entries in functions.values():
            for key, _ in entries:
                if not _KEY.fullmatch(key):
                    raise ValueError(f"the key {key!r}")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        message = f"{path}: no file of saved results: {type(error).__name__}: {error}"
        raise FormatError(message, path=path, field="memcache", got=str(error)) from error
    return functions

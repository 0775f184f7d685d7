"""Functions whose results are kept on disk, and references to such results."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import enum
import functools
import inspect
import json
import logging
import os
import socket
import time
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from joblib import memory as joblib_memory
from joblib.func_inspect import filter_args
from joblib.memory import NotMemorizedResult

from megalith import _core, records
from megalith.context.backend import PickledError, about_of, open_backend, pickled
from megalith.context.entries import MAP_FROM, SUFFIX, look, shown
from megalith.context.keys import FunctionKey, find_named
from megalith.exceptions import ArgumentError, CacheWarning, DTypeError, FormatError, MegalithError
from megalith.shared.caching import is_making, turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# How often an entry is waited for that is gone when it is read, or was never one.
TRIES = 3

# Entries that `explain` looks at, the latest first.
EXPLAINED = 1000


class _No(enum.Enum):
    """What is found in the place of a result."""

    MISSING = enum.auto()
    REFUSED = enum.auto()
    """There is a file, but no result for this function in it, and it stays."""


# Whether this task is computing something that others may wait for.
_is_making: contextvars.ContextVar[bool] = contextvars.ContextVar("_is_making", default=False)


class Entry(NamedTuple):
    """What is known of a result on disk."""

    key: str
    arguments: dict[str, str]
    nbytes: int
    time: float
    duration: float
    last_use: float
    host: str
    is_current: bool
    path: str


class Explanation(NamedTuple):
    """Whether a call is answered from disk, and why or why not."""

    hit: bool
    reason: str


class _Call(NamedTuple):
    """A call, and what it is known by."""

    id: tuple[str, str]
    """The function's directory and the key."""
    function: str
    arguments: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class MemorizedResult(joblib_memory.MemorizedResult):  # type: ignore[misc]
    """A reference to a result on disk; `get` reads it.

    Parameters
    ----------
    location : str or Backend
        The directory.
    call_id : sequence of str
        Function and key.
    backend : str
        Only 'local'.
    mmap_mode : {None, 'r', 'c', 'r+', 'w+'}
        How arrays are mapped.
    verbose : int
        As in joblib.
    timestamp, metadata : object
        As in joblib.
    """

    def __init__(
        self,
        location: Any,
        call_id: Sequence[str],
        backend: str = "local",
        mmap_mode: str | None = None,
        verbose: int = 0,
        timestamp: float | None = None,
        metadata: Any = None,
    ) -> None:
        super().__init__(
            open_backend(location, backend, mmap_mode), call_id, backend, mmap_mode, verbose, timestamp, metadata
        )


class MemorizedFunc(joblib_memory.MemorizedFunc):  # type: ignore[misc]
    """A function whose results are kept on disk; made by `Memory.cache`.

    Parameters
    ----------
    func : callable
        The function.
    location : str, Path or Backend
        The directory.
    backend : str
        Only 'local'.
    ignore : list of str, optional
        Arguments that do not count.
    mmap_mode : {None, 'r', 'c', 'r+', 'w+'}
        How arrays of results are mapped; None maps those of 64 MiB and more, read-only, and reads others.
    compress : object
        For joblib's sake; results are never compressed.
    verbose : int
        As in joblib.
    timestamp : float, optional
        As in joblib.
    cache_validation_callback : callable, optional
        Takes what is known of a result, a dict with 'duration', 'time' and 'input_args', and says whether it is valid.
    version : object, optional
        Stands for the code of the function.
    depends : sequence
        What else counts: functions, files (Paths, by content), values.
    key : callable, optional
        Takes the arguments and gives what stands for them.
    allow_pickle : bool
        Whether results that are no arrays, scalars or nestings of them are pickled.

    Attributes
    ----------
    func : callable
        The function.
    func_id : str
        The directory of its results, below that of the memory.
    keys : FunctionKey
        What its calls are known by.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        location: Any,
        backend: str = "local",
        ignore: Sequence[str] | None = None,
        mmap_mode: str | None = None,
        compress: Any = False,
        verbose: int = 1,
        timestamp: float | None = None,
        cache_validation_callback: Callable[[dict[str, Any]], Any] | None = None,
        *,
        version: Any = None,
        depends: Sequence[Any] = (),
        key: Callable[..., Any] | None = None,
        allow_pickle: bool | None = None,
    ) -> None:
        store = open_backend(location, backend, mmap_mode, allow_pickle)
        super().__init__(
            func, store, backend, ignore, mmap_mode, compress, verbose, timestamp, cache_validation_callback
        )
        self.keys = FunctionKey(func, version=version, depends=depends, ignore=ignore, key=key)
        self.func_id = "/".join(self.keys.path)
        self._has_warned = False

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Return the result of a call, from disk if it is there."""
        call = self._call_of(args, kwargs)
        found = self._find(call)
        if type(found) is _No:
            return self._make(call, force=found is _No.REFUSED)[0]
        return found

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Be a method of the instances of a class."""
        return self if instance is None else BoundMemorizedFunc(self, instance)

    def __reduce_ex__(self, protocol: Any) -> Any:
        name, module = getattr(self, "__qualname__", None), getattr(self, "__module__", None)
        # As a function, which its decorated self has taken the place of.
        if isinstance(name, str) and module != "__main__" and find_named(module, name) is self:
            return name
        return super().__reduce_ex__(protocol)

    def call(self, /, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Compute, whatever is on disk, and keep the result.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the function.

        Returns
        -------
        output : object
            The result.
        metadata : dict
            What is known of it.
        """
        return self._make(self._call_of(args, kwargs), force=True)

    def call_and_shelve(self, /, *args: Any, **kwargs: Any) -> Any:
        """Have the result on disk, and return a reference to it.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the function.

        Returns
        -------
        result : MemorizedResult or NotMemorizedResult
            ``get()`` gives the value, ``clear()`` removes it. The second kind holds what could not be written.
        """
        call = self._call_of(args, kwargs)
        if self._is_in_cache_and_valid(call.id, damaged=True):
            return self._get_memorized_result(call.id)
        return self._shelved(call, *self._make(call))

    def cached(self, /, *args: Any, **kwargs: Any) -> bool:
        """Whether a call would be answered from disk; nothing is computed, no value is read.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the function.

        Returns
        -------
        is_cached : bool
            As joblib's ``check_call_in_cache``.
        """
        return bool(self.check_call_in_cache(*args, **kwargs))

    def forget(self, /, *args: Any, **kwargs: Any) -> bool:
        """Remove the result of a call; one of a memory below stays, and answers.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the function.

        Returns
        -------
        was_there : bool
            Whether there was one.

        Raises
        ------
        ArgumentError
            If the memory is read-only.
        """
        entries = self.store_backend.entries
        if entries.readonly:
            message = f"{entries.root} was opened with readonly=True; nothing in it is removed"
            raise ArgumentError(message, name="readonly", got=True, expected="a memory that may be changed")
        return bool(entries.remove(entries.path(self.func_id, self._get_args_id(*args, **kwargs))))

    def entries(self) -> list[Entry]:
        """List the results of this function, those of older versions too, but not those of a memory below.

        Returns
        -------
        entries : list of Entry
            The latest first. `is_current` says whether they belong to the function as it is now.
        """
        current = self.keys.function_digest()
        found = [self._entry(item, current) for item in self.store_backend.entries.items(self.func_id)]
        return sorted(found, key=lambda entry: -entry.time)

    def explain(self, /, *args: Any, **kwargs: Any) -> Explanation:
        """Say whether a call would be answered from disk, and why or why not.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the function.

        Returns
        -------
        explanation : Explanation
            ``.hit`` and ``.reason``.
        """
        call = self._call_of(args, kwargs)
        holder = self.store_backend.holder(call.id)
        if holder is not None:
            return self._explain_entry(holder.path(call.id))
        shown = self._shown(call)
        stores = self.store_backend.layers()
        items = [item for store in stores for item in store.entries.items(self.func_id)]
        items = sorted(items, key=lambda item: -item.used)[:EXPLAINED]
        if not items:
            return Explanation(hit=False, reason="no result of this function is there")
        others: dict[str, Any] = {}
        for item in items:
            about = about_of(item.path) or {}
            if about.get("arguments") == call.arguments:
                return Explanation(hit=False, reason=self._explain_change(about.get("function"), call.function))
            if about.get("function") == call.function and not others:
                others = about.get("input_args", {})
        if others:
            differs = [
                f"{name}={shown[name]} (was {others.get(name)})" for name in shown if shown[name] != others.get(name)
            ]
            what = ", ".join(differs) or "arguments that look alike but are not"
            return Explanation(
                hit=False, reason=f"not computed with these arguments; compared with the last one used: {what}"
            )
        return Explanation(
            hit=False, reason="not computed with these arguments, and the function has changed since its last result"
        )

    def check_call_in_cache(self, /, *args: Any, **kwargs: Any) -> bool:
        """Whether a call would be answered from disk; nothing is computed, no value is read.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the function.

        Returns
        -------
        is_cached : bool
            False too if `cache_validation_callback` refuses what is there.
        """
        return self._is_in_cache_and_valid((self.func_id, self._get_args_id(*args, **kwargs)))

    def clear(self, warn: bool = True) -> None:
        """Remove all results of this function.

        Parameters
        ----------
        warn : bool
            Whether to log it.
        """
        if self._verbose > 0 and warn:
            super().warn(f"Clearing function cache identified by {self.func_id}")
        self.store_backend.clear_location(os.path.join(self.store_backend.location, self.func_id))  # noqa: PTH118

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "timestamp": None, "_func_code_id": None}

    def _check_previous_func_code(self, stacklevel: int = 2) -> bool:
        # The code is a part of the keys; what joblib's callers want to know is whether anything is there.
        return Path(self.store_backend.location, self.func_id).is_dir()

    def _get_args_id(self, /, *args: Any, **kwargs: Any) -> str:
        return self._call_of(args, kwargs).id[1]

    def _call_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        """Identify a call.

        Raises
        ------
        TypeError, ValueError
            If the function cannot be called so: what joblib raises, which for some such calls is the second.
        DTypeError
            If an argument cannot be identified.
        """
        try:
            function, arguments = self.keys.digests(args, kwargs)
        except TypeError as error:
            if not isinstance(error, DTypeError):
                filter_args(self.func, list(self.ignore), args, kwargs)
            raise
        call = _Call((self.func_id, self.keys.combine(function, arguments)), function, arguments, args, kwargs)
        if self._verbose >= 20:
            logging.basicConfig(level=logging.INFO)
            self.info(f"Querying {self._signature(call)} (key {call.id[1]}) in {self.store_backend.location}")
        return call

    def _is_in_cache_and_valid(self, call_id: tuple[str, str], *, damaged: bool = False) -> bool:
        """Whether a result is there and may be used; `damaged` is what to say of one whose file is damaged."""
        holder = self.store_backend.holder(call_id)
        if holder is None:
            return False
        about = about_of(holder.path(call_id))
        if about is None:
            return damaged
        if about.get("pickled") and not self.store_backend.allow_pickle:
            return False
        is_valid = self.cache_validation_callback
        if is_valid is not None and not is_valid(about):
            self.store_backend.clear_item(call_id)
            return False
        return True

    def _find(self, call: _Call) -> Any:
        """Return the result on disk, or a `_No`; what is damaged is set aside with a warning."""
        start = time.time()
        try:
            found = self.store_backend.find(call.id)
        except PickledError:
            return _No.REFUSED
        except Exception as error:
            self.warn(
                f"Exception while loading results for {self._signature(call)}: it is computed again\n"
                f"{traceback.format_exc()}"
            )
            holder = self.store_backend.holder(call.id)
            # What could not be read this time may be all right.
            is_damaged = not isinstance(error, MemoryError | OSError) or isinstance(error, MegalithError)
            is_aside = holder is not None and is_damaged and holder.entries.set_aside(holder.path(call.id))
            if is_aside or not os.path.lexists(self.store_backend.path(call.id)):
                return _No.MISSING
            return _No.REFUSED
        if found is None:
            return _No.MISSING
        is_valid = self.cache_validation_callback
        if is_valid is not None and not is_valid(found.about or {}):
            self.store_backend.clear_item(call.id)
            return _No.MISSING
        if self._verbose > 1:
            print(f"[Memory]: Loading {self._signature(call)}...")
            if self._verbose > 4:
                self._print_duration(time.time() - start, context="cache loaded ")
        return found.value

    def _make(self, call: _Call, *, force: bool = False) -> tuple[Any, dict[str, Any]]:
        """Compute a result and write it, or wait for another process that does."""
        tries = 0
        while True:
            tries += 1
            with contextlib.ExitStack() as stack:
                is_ours = self._turn(stack, call)
                if is_ours is not False or force:
                    making = _Making(self, call)
                    return making.keep(self.func(*call.args, **call.kwargs), replace=force)
                found = self._find(call)
                if type(found) is not _No:
                    return found, {}
                # It was there, and is not any more, or is not for us.
                force = found is _No.REFUSED or tries == TRIES

    def _turn(self, stack: contextlib.ExitStack, call: _Call) -> bool | None:
        """Wait for the turn to compute: False if it is there by now, None where nothing can be written."""
        entries = self.store_backend.entries
        if entries.readonly:
            return None
        name = entries.name(*call.id)
        # A task that is computing does not wait: whoever computes this might wait for it.
        timeout = 0 if _is_making.get() else -1
        try:
            entries.prepare(name.directory)
            return stack.enter_context(turn(name, timeout, _say_nothing))
        except (OSError, FormatError):
            # Also if the function asks for its own result. What cannot be written is told when it is.
            return None

    def _plan(self, output: Any, about: dict[str, Any]) -> records.Plan | None:
        """Plan the file of a result; None for one that is not to be kept."""
        try:
            return records.plan(output, suffix=SUFFIX, about=about, exact=True)
        except DTypeError as error:
            if not self.store_backend.allow_pickle:
                self._warn_once(
                    f"the result of {self.keys.name} is returned but not kept: {error}. "
                    "allow_pickle=True keeps such results as pickles, which run code when they are read"
                )
                return None
        try:
            content = np.frombuffer(pickled(output), np.uint8)
        except Exception as error:
            self._warn_once(f"the result of {self.keys.name} is returned but not kept: it cannot be pickled: {error}")
            return None
        about["pickled"] = True
        return records.plan(content, suffix=SUFFIX, about=about)

    def _shelved(self, call: _Call, output: Any, metadata: dict[str, Any]) -> Any:
        if self._is_in_cache_and_valid(call.id):
            return self._get_memorized_result(call.id, metadata or None)
        return NotMemorizedResult(output)

    def _get_memorized_result(self, call_id: tuple[str, str], metadata: Any = None) -> MemorizedResult:
        return MemorizedResult(
            self.store_backend,
            call_id,
            mmap_mode=self.mmap_mode,
            metadata=metadata,
            timestamp=self.timestamp,
            verbose=self._verbose - 1,
        )

    def _note_parts(self, function: str) -> None:
        """Write what this version of the function is made of, once; for `explain` alone."""
        path = f"{self.store_backend.location}/{self.func_id}/{function}.json"
        if not os.path.exists(path):  # noqa: PTH110
            with contextlib.suppress(OSError):
                text = json.dumps(self.keys.parts()).encode()
                draft = _core.Draft(path, len(text))
                try:
                    with open(draft.duplicate(), "rb") as file:  # noqa: PTH123
                        os.fchmod(file.fileno(), self.store_backend.entries.mode)
                    draft.write(0, text)
                    draft.publish(replace=True)
                finally:
                    draft.discard()

    def _explain_entry(self, path: str) -> Explanation:
        try:
            about = look(path).about or {}
        except (ValueError, OSError) as error:
            return Explanation(hit=False, reason=f"a result is there but damaged, so it is computed again: {error}")
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about.get("time", 0)))
        what = f"computed at {when} in {about.get('duration', 0):.3g} s on {about.get('host', 'unknown')}"
        if about.get("pickled") and not self.store_backend.allow_pickle:
            return Explanation(hit=False, reason=f"{what}, but it is a pickle; allow_pickle=True reads it")
        if self.cache_validation_callback is not None and not self.cache_validation_callback(about):
            return Explanation(hit=False, reason=f"{what}, but cache_validation_callback refuses it")
        return Explanation(hit=True, reason=what)

    def _explain_change(self, before: Any, now: str) -> str:
        if before == now:
            return "computed with these arguments once, and removed since"
        parts = None
        for store in self.store_backend.layers():
            with contextlib.suppress(OSError, ValueError):
                parts = json.loads(Path(store.location, self.func_id, f"{before}.json").read_text())
                break
        if type(parts) is not dict:
            return "the function has changed"
        current = self.keys.parts()
        changed = [name for name in current if parts.get(name) != current[name]]
        gone = [name for name in parts if name not in current]
        return "the function has changed: " + ", ".join([*changed, *(f"{name} (gone)" for name in gone)])

    def _entry(self, item: Any, current: str) -> Entry:
        about = about_of(item.path) or {}
        return Entry(
            Path(item.path).stem,
            about.get("input_args", {}),
            item.size,
            about.get("time", 0.0),
            about.get("duration", 0.0),
            item.used,
            about.get("host", ""),
            about.get("function") == current,
            item.path,
        )

    def _shown(self, call: _Call) -> dict[str, str]:
        return {name: shown(value) for name, value in self.keys.bind(call.args, call.kwargs).items()}

    def _signature(self, call: _Call) -> str:
        return f"{self.keys.name}({', '.join(f'{name}={text}' for name, text in self._shown(call).items())})"

    def _warn_once(self, message: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(message, CacheWarning, stacklevel=_outside())

    def _warn_unwritten(self, error: BaseException) -> None:
        message = f"the result of {self.keys.name} is returned but could not be kept: {error}"
        warnings.warn(message, CacheWarning, stacklevel=_outside())

    def warn(self, message: str) -> None:
        """Give a warning.

        Parameters
        ----------
        message : str
            What it says.
        """
        warnings.warn(message, CacheWarning, stacklevel=_outside())


class _Making:
    """A computation: begun when it is made, kept when it is done.

    Parameters
    ----------
    function : MemorizedFunc
        What is computed.
    call : _Call
        Its call. Arguments are described now: the function may change them.
    """

    def __init__(self, function: MemorizedFunc, call: _Call) -> None:
        self._function = function
        self._call = call
        self._about: dict[str, Any] = {
            "function": call.function,
            "arguments": call.arguments,
            "input_args": function._shown(call),
            "host": socket.gethostname(),
        }
        function._before_call(call.args, call.kwargs)
        self._start = time.time()

    def keep(self, output: Any, *, replace: bool) -> tuple[Any, dict[str, Any]]:
        """Write a result; what cannot be written is returned all the same.

        Parameters
        ----------
        output : object
            The result.
        replace : bool
            Whether one that is there is replaced.

        Returns
        -------
        output : object
            The same, or as it is on disk, where later calls map it.
        about : dict
            What is known of it.
        """
        function, call, about = self._function, self._call, self._about
        duration = time.time() - self._start
        about |= {"time": round(self._start, 6), "duration": round(duration, 6)}
        if function._verbose > 0:
            function._print_duration(duration)
        entries = function.store_backend.entries
        if entries.readonly:
            return output, about
        try:
            planned = function._plan(output, about)
            if planned is None:
                return output, about
            if entries.limit is not None and planned.nbytes > entries.limit:
                problem = f"it has {planned.nbytes:,} bytes, the limit for all is {entries.limit:,}"
                function._warn_once(f"the result of {function.keys.name} is returned but not kept: {problem}")
                return output, about
            entries.prepare(entries.name(*call.id).directory)
            entries.write(*call.id, planned, replace=replace)
            function._note_parts(call.function)
            if function.mmap_mode is not None or _is_large(output):
                # As later calls do, so that a result is the same thing at first and from then on.
                found = function._find(call)
                return (output if type(found) is _No else found), about
        except (OSError, MemoryError, FormatError) as error:
            function._warn_unwritten(error)
        return output, about


class AsyncMemorizedFunc(MemorizedFunc):
    """A coroutine function whose results are kept on disk; made by `Memory.cache`."""

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Return the result of a call, from disk if it is there."""
        call = self._call_of(args, kwargs)
        found = self._find(call)
        if type(found) is _No:
            return (await self._make_async(call, force=found is _No.REFUSED))[0]
        return found

    async def call(self, /, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:  # type: ignore[override]
        """Compute, whatever is on disk, and keep the result."""
        return await self._make_async(self._call_of(args, kwargs), force=True)

    async def call_and_shelve(self, /, *args: Any, **kwargs: Any) -> Any:
        """Have the result on disk, and return a reference to it."""
        call = self._call_of(args, kwargs)
        if self._is_in_cache_and_valid(call.id, damaged=True):
            return self._get_memorized_result(call.id)
        return self._shelved(call, *await self._make_async(call))

    async def _make_async(self, call: _Call, *, force: bool = False) -> tuple[Any, dict[str, Any]]:
        """As `_make`, without keeping other tasks waiting."""
        pause = 0.001
        tries = 0
        while True:
            is_there, claim = self._take(call)
            before = _is_making.get()
            try:
                if claim is not None or force:
                    _is_making.set(True)
                    making = _Making(self, call)
                    return making.keep(await self.func(*call.args, **call.kwargs), replace=force)
            finally:
                _is_making.set(before)
                if isinstance(claim, _core.Turned):
                    claim.release()
            found = self._find(call) if is_there else _No.MISSING
            if type(found) is not _No:
                return found, {}
            tries += is_there
            force = found is _No.REFUSED or tries == TRIES
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.02)

    def _take(self, call: _Call) -> tuple[bool, Any]:
        """Look whether the result is there, or may be computed here: True for the second where nothing is locked."""
        entries = self.store_backend.entries
        if entries.readonly:
            return False, True
        name = entries.name(*call.id)
        try:
            entries.prepare(name.directory)
            is_there, claim = _core.shared_turn(name.directory, name.prefix, name.id, 0.0)
        except (OSError, FormatError):
            return False, True
        # As in `_turn`; a thread may be computing what runs this task.
        return is_there, claim or (not is_there and (_is_making.get() or is_making())) or None


class BoundMemorizedFunc:
    """A cached method of an instance: what the function offers, with the instance as its first argument.

    Parameters
    ----------
    function : MemorizedFunc or Layered
        The function.
    instance : object
        What it is a method of.
    """

    def __init__(self, function: Any, instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance
        self.__doc__ = function.__doc__

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Return the result of a call, from disk if it is there."""
        return self.__func__(self.__self__, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Return what the function has, bound where it takes the arguments of a call."""
        found = getattr(self.__func__, name)
        if name in ("call", "call_and_shelve", "check_call_in_cache", "cached", "forget", "explain"):
            return functools.partial(found, self.__self__)
        return found

    def __repr__(self) -> str:
        return f"<cached method {self.__func__.keys.name} of {self.__self__!r}>"


def _is_large(value: Any) -> bool:
    """Whether some array in a result is mapped on later calls."""
    if isinstance(value, np.ndarray):
        return value.nbytes >= MAP_FROM
    if isinstance(value, dict):
        return any(map(_is_large, value.values()))
    return isinstance(value, tuple | list) and any(map(_is_large, value))


def _outside() -> int:
    """Return the level of the first caller that is not a part of this package or of joblib."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("megalith", "joblib"):
        frame, level = frame.f_back, level + 1
    return level


def _say_nothing(_: str) -> None:
    """Do not tell of waiting."""

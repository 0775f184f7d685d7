"""Results of calls on disk: `joblib.Memory` with other keys, other files, and one computation among all who ask.

The interface is joblib's, so that a program changes an import and no more. What a call is known by is
`megalith.context.keys`, how results lie on disk is `megalith.context.entries`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import weakref
from typing import TYPE_CHECKING, Any

from joblib import memory as joblib_memory
from joblib.disk import memstr_to_bytes
from joblib.memory import AsyncNotMemorizedFunc, NotMemorizedFunc, NotMemorizedResult, expires_after

from megalith.context.backend import Backend, check_backend, check_mmap_mode, make_location, root_of
from megalith.context.entries import Entries
from megalith.context.memorized import AsyncMemorizedFunc, Entry, Explanation, MemorizedFunc, MemorizedResult
from megalith.exceptions import ArgumentError

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Sequence

__all__ = [
    "AsyncMemorizedFunc",
    "Entry",
    "Explanation",
    "MemorizedFunc",
    "MemorizedResult",
    "Memory",
    "NotMemorizedFunc",
    "NotMemorizedResult",
    "expires_after",
]


class Memory(joblib_memory.Memory):  # type: ignore[misc]
    """A directory of results of calls, with the interface of `joblib.Memory`.

    Calls are known by content: arrays by type, shape and elements, functions by their code and the functions of the
    user's modules that they reach, so that a changed helper is noticed and a changed comment is not. Results of older
    versions of a function stay. Of all processes and threads that ask for the same call one computes.

    Parameters
    ----------
    location : str, pathlib.Path or None
        The directory. As in joblib, results are in ``joblib/`` below one that is given as a string, and None keeps
        nothing.
    backend : str
        Only 'local'.
    mmap_mode : {None, 'r', 'c', 'r+', 'w+'}
        How arrays of results are mapped. None maps those of 64 MiB and more read-only, and reads and verifies others.
        'r' maps all; the others give arrays whose changes stay in this process.
    compress : object
        For joblib's sake; results are never compressed.
    verbose : int
        As in joblib: 0 says nothing.
    backend_options : dict, optional
        For joblib's sake.
    bytes_limit : int or str, optional
        Bytes that all results may have, such as ``'10G'``. Those not used for the longest time go first.
    age_limit : datetime.timedelta, optional
        Time after its last use that a result goes.
    readonly : bool
        Whether nothing in the directory may be changed.
    below : Memory, str or pathlib.Path, optional
        Where results are looked for that are not here, such as a cache that a group shares. Never written to.
    allow_pickle : bool
        Whether results that are no arrays, scalars or nestings of them are pickled. Who can write to the directory can
        then have this process run code.
    mode : int
        Permissions of files; 0o640 lets a group read them.

    Raises
    ------
    ArgumentError
        If an option is not one of those allowed.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from megalith.context.disk import Memory
    >>> memory = Memory(tempfile.mkdtemp(), verbose=0)
    >>> @memory.cache
    ... def total(x):
    ...     print('computing')
    ...     return float(x.sum())
    >>> total(np.arange(4)), total(np.arange(4))
    computing
    (6.0, 6.0)
    >>> total.explain(np.arange(5)).hit
    False
    """

    def __init__(
        self,
        location: Any = None,
        backend: str = "local",
        mmap_mode: str | None = None,
        compress: Any = False,
        verbose: int = 1,
        backend_options: dict[str, Any] | None = None,
        *,
        bytes_limit: int | str | None = None,
        age_limit: datetime.timedelta | None = None,
        readonly: bool = False,
        below: Any = None,
        allow_pickle: bool = False,
        mode: int = 0o600,
    ) -> None:
        super().__init__(None, backend, mmap_mode, compress, verbose, backend_options)
        check_mmap_mode(mmap_mode)
        check_backend(backend)
        self.location = location
        self._functions: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()
        if location is None:
            return
        max_age = None if age_limit is None else age_limit.total_seconds()
        limit = memstr_to_bytes(bytes_limit) if isinstance(bytes_limit, str) else bytes_limit
        for name, value in (("bytes_limit", limit), ("age_limit", max_age)):
            if value is not None and value < 0:
                message = f"{name}: got {value}, expected 0 or more"
                raise ArgumentError(message, name=name, got=value, expected=">= 0")
        entries = Entries(root_of(location), readonly=readonly, limit=limit, max_age=max_age, mode=mode)
        self.store_backend = Backend(
            entries,
            None if below is None else _below(below),
            mmap_mode,
            allow_pickle=allow_pickle,
            verbose=verbose,
        )
        if not readonly:
            make_location(entries)

    def cache(
        self,
        func: Callable[..., Any] | None = None,
        ignore: Sequence[str] | None = None,
        verbose: int | None = None,
        mmap_mode: Any = False,
        cache_validation_callback: Callable[[dict[str, Any]], Any] | None = None,
        *,
        version: Any = None,
        depends: Sequence[Any] = (),
        key: Callable[..., Any] | None = None,
        allow_pickle: bool | None = None,
    ) -> Any:
        """Keep the results of a function on disk.

        Parameters
        ----------
        func : callable, optional
            The function, method, partial or coroutine function; without it a decorator is returned.
        ignore : list of str, optional
            Arguments that do not count.
        verbose : int, optional
            As in joblib; that of the memory if not given.
        mmap_mode : {None, 'r', 'c', 'r+', 'w+'}, optional
            How arrays of results are mapped; as the memory does if not given.
        cache_validation_callback : callable, optional
            Takes what is known of a result, a dict with 'duration', 'time' and 'input_args', and says whether it is
            valid, such as `expires_after`.
        version : object, optional
            Stands for the code of the function: as long as it is the same, so is the function.
        depends : sequence
            What else counts: functions (by code), pathlib.Paths (files, by content), values.
        key : callable, optional
            Takes the arguments of a call and gives what stands for them.
        allow_pickle : bool, optional
            Whether results of other types are pickled; as the memory does if not given.

        Returns
        -------
        function : MemorizedFunc
            To be called as `func`; also `call`, `call_and_shelve`, `cached`, `forget`, `explain`, `entries`, `clear`.

        Raises
        ------
        ArgumentError
            If an option is not one of those allowed.
        DTypeError
            If the function cannot be identified.
        """
        options: dict[str, Any] = {"version": version, "depends": depends, "key": key, "allow_pickle": allow_pickle}
        if cache_validation_callback is not None and not callable(cache_validation_callback):
            got = cache_validation_callback
            message = f"cache_validation_callback needs to be callable. Got {got}."
            raise ArgumentError(message, name="cache_validation_callback", got=got, expected="a callable")
        if func is None:
            return functools.partial(
                self.cache,
                ignore=ignore,
                verbose=verbose,
                mmap_mode=mmap_mode,
                cache_validation_callback=cache_validation_callback,
                **options,
            )
        is_async = inspect.iscoroutinefunction(func)
        if self.store_backend is None:
            return (AsyncNotMemorizedFunc if is_async else NotMemorizedFunc)(func)
        if isinstance(func, joblib_memory.MemorizedFunc):
            func = func.func
        cached = (AsyncMemorizedFunc if is_async else MemorizedFunc)(
            func,
            self.store_backend,
            self.backend,
            ignore,
            self.mmap_mode if mmap_mode is False else mmap_mode,
            self.compress,
            self._verbose if verbose is None else verbose,
            self.timestamp,
            cache_validation_callback,
            **options,
        )
        with contextlib.suppress(TypeError):
            self._functions[func] = weakref.ref(cached)
        return cached

    def eval(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function in the context of the memory.

        Parameters
        ----------
        func : callable
            The function. If this memory caches it already, with the options that were given then.
        *args, **kwargs
            Its arguments.

        Returns
        -------
        output : object
            The result, from disk if it is there.
        """
        known = None
        with contextlib.suppress(TypeError):
            known = self._functions.get(func)
        cached = None if known is None else known()
        return (self.cache(func) if cached is None else cached)(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_functions": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._functions = weakref.WeakKeyDictionary()

    def clear(self, warn: bool = True) -> None:
        """Remove all results.

        Parameters
        ----------
        warn : bool
            Whether to log it.
        """
        if warn:
            self.warn("Flushing completely the cache")
        if self.store_backend is not None:
            self.store_backend.clear()


def _below(memory: Any) -> Backend | None:
    """Return the store of a memory, or of a directory, from which is only read."""
    if not isinstance(memory, joblib_memory.Memory):
        memory = Memory(memory, readonly=True, verbose=0)
    elif not isinstance(memory, Memory):
        message = f"below: got {memory!r}, expected a megalith.context.disk.Memory or a directory of one"
        raise ArgumentError(message, name="below", got=memory, expected="a Memory of megalith, or its directory")
    store: Backend | None = memory.store_backend
    return None if store is None else store.readonly()

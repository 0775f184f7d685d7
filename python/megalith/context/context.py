"""`Context`: a directory that remembers what was computed, in memory and on disk, and what was saved."""

from __future__ import annotations

import functools
import weakref
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megalith.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from megalith._typing import PathLike
    from megalith.context.disk import Memory
    from megalith.context.memcache import Memoized
    from megalith.context.store import Location, Store
    from megalith.maps.background import AsyncResult
    from megalith.maps.running import OnError

# Bytes that all results of `cache` may have on disk.
CACHE_LIMIT = 2 * 1024**3


class Context:
    """What a project remembers: results on disk, results in memory, named values.

    Parameters
    ----------
    cache_dir : path
        The directory of all that is kept; made if it is missing, for this user alone.
    ipy_view : ipyparallel view, optional
        Where work runs; an attribute that can be set later.
    verbose : int
        Above 0, computations of cached functions are printed, as joblib does.
    workers : object, optional
        Where work runs, in place of `ipy_view`; an attribute too.
    cache_limit : int or None
        Bytes that the results of `cache` may have on disk; those not used for the longest time go first, and who has
        one mapped keeps it. None sets no limit.
    readonly : bool
        Whether nothing may be written to the directory: what is not there is computed and not kept.
    below : path, optional
        The `cache_dir` of a Context whose results are used where this one has none, such as one that a group shares. It
        is only read.

    Attributes
    ----------
    cache_dir : pathlib.Path
        The directory.

    Raises
    ------
    ArgumentError
        If `cache_limit` is no number of bytes.

    Notes
    -----
    A Context pickles: in a worker on the same machine, or with the same file system, it finds the same results. Workers
    are not taken along.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from megalith import Context
    >>> context = Context(tempfile.mkdtemp())
    >>> @context.cache
    ... def spectrum(x, n=None):
    ...     print('computing')
    ...     return np.abs(np.fft.rfft(x, n))
    >>> spectrum(np.ones(4))
    computing
    array([4., 0., 0.])
    >>> spectrum(np.ones(4))
    array([4., 0., 0.])
    """

    def __init__(
        self,
        cache_dir: PathLike,
        ipy_view: Any = None,
        verbose: int = 0,
        *,
        workers: Any = None,
        cache_limit: int | None = CACHE_LIMIT,
        readonly: bool = False,
        below: PathLike | None = None,
    ) -> None:
        if cache_limit is not None and not (isinstance(cache_limit, Real) and cache_limit >= 0):
            message = f"cache_limit: got {cache_limit!r}, expected a number of bytes, or None for no limit"
            raise ArgumentError(message, name="cache_limit", got=cache_limit, expected=">= 0, or None")
        self.cache_dir = Path(cache_dir).expanduser().absolute()
        self.ipy_view = ipy_view
        self.workers = workers
        self.verbose = verbose
        self.cache_limit = cache_limit
        self.readonly = readonly
        self._below = None if below is None else Path(below).expanduser().absolute()
        self._memoized: list[weakref.ref[Memoized]] = []
        if not readonly:
            self.cache_dir.mkdir(0o700, parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return f"Context({str(self.cache_dir)!r})"

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in ("memory", "store")}
        return {**state, "ipy_view": None, "workers": None, "_memoized": []}

    def cache(
        self,
        f: Callable[..., Any] | None = None,
        memcache: bool = False,
        *,
        ignore: Sequence[str] | None = None,
        version: Any = None,
        depends: Sequence[Any] = (),
        key: Callable[..., Any] | None = None,
        allow_pickle: bool = False,
        mmap_mode: str | None = None,
    ) -> Any:
        """Keep the results of a function on disk, and in memory too if wanted.

        Calls are known by content: arrays by type, shape and elements, whatever their order in memory; functions by
        their code, defaults and closure, and by the functions and constants of the user's modules that they reach. So a
        changed helper is noticed, and a changed comment is not. Results of older versions stay beside the new ones.

        Parameters
        ----------
        f : callable, optional
            A function, method, partial or coroutine function; without it a decorator is returned.
        memcache : bool
            Whether results are remembered in memory as well, up to 512 MiB. As with `memcache`, arrays are then given
            out read-only, the same one at each call.
        ignore : sequence of str, optional
            Arguments that do not count, ``self`` for instance.
        version : object, optional
            Stands for the code of the function: as long as it is the same, so is the function.
        depends : sequence
            What else counts: functions (by code), pathlib.Paths (files, by content), values.
        key : callable, optional
            Takes the arguments of a call and gives what stands for them.
        allow_pickle : bool
            Whether results that are no arrays, scalars or nestings of these are pickled. Otherwise they are returned
            and not kept, with a warning. Who can write to the directory can have code run by pickles.
        mmap_mode : {None, 'r', 'c'}, optional
            How arrays of results are mapped. None maps those of 64 MiB and more read-only and reads smaller ones,
            comparing checksums; 'r' maps all read-only, 'c' for changes that stay in this process.

        Returns
        -------
        function : megalith.context.disk.MemorizedFunc or megalith.context.layered.Layered
            To be called as `f`. ``explain(*args)`` says whether a call is answered without computing and why or why
            not, ``cached(*args)`` whether it is, ``forget(*args)`` removes a result, ``entries()`` lists those on disk;
            also what `joblib.Memory.cache` gives: ``call``, ``call_and_shelve``, ``check_call_in_cache``, ``clear``.
            With `memcache` all of them know both layers.

        Raises
        ------
        ArgumentError, DTypeError
            If an option is not one of those allowed, or the function cannot be identified. In a call: if an argument
            cannot be, with its place.

        See Also
        --------
        megalith.context.disk.Memory : The same with the interface of `joblib.Memory`.

        Notes
        -----
        Of all processes and threads that ask for the same call one computes; the others wait, and one of them takes
        over if it fails or is killed. A damaged result gives a warning and is computed again. A result that cannot be
        written, on a full disk for instance, is returned with a warning.

        A hit costs about 30 microseconds and the digest of the arguments (100 MB take 5 ms).

        Examples
        --------
        >>> import tempfile
        >>> from megalith import Context
        >>> context = Context(tempfile.mkdtemp())
        >>> def cube(x):
        ...     return x ** 3
        >>> cube = context.cache(cube)
        >>> cube.cached(3), cube(3), cube.cached(3)
        (False, 27, True)
        """
        options: dict[str, Any] = {"ignore": ignore, "version": version, "depends": depends, "key": key}
        if f is None:
            options |= {"allow_pickle": allow_pickle, "mmap_mode": mmap_mode}
            return functools.partial(self.cache, memcache=memcache, **options)
        cached = self.memory.cache(f, mmap_mode=mmap_mode, allow_pickle=allow_pickle, **options)
        if not memcache:
            return cached
        from megalith.context.layered import layer
        from megalith.context.memcache import DEFAULT_MAX_BYTES

        return layer(cached, self._memcache_dir, DEFAULT_MAX_BYTES)

    def memcache(self, f: Callable[..., Any] | None = None, *, max_bytes: int | None = None) -> Any:
        """Have a function remember its results in memory.

        All arguments count, keywords included; 1, 1.0 and True are three calls. None is a result like others. Arrays
        are given out read-only, the same one at each call.

        Parameters
        ----------
        f : callable, optional
            The function; without it a decorator is returned.
        max_bytes : int, optional
            Bytes of the results kept; the least recently used leave first. By default 512 MiB.

        Returns
        -------
        function : megalith.context.memcache.Memoized
            To be called as `f`; ``cache_info()`` says what it holds, ``clear()`` forgets all.

        Raises
        ------
        ArgumentError
            If `f` cannot be called, or `max_bytes` is no whole number of 1 or more.

        Notes
        -----
        A hit costs about 0.1 microseconds with scalar arguments, helpers of the function that were defined anew are
        noticed; arrays are digested in each call, and so is the `self` of a method. Of threads that make the same call
        one computes.

        Examples
        --------
        >>> import tempfile
        >>> from megalith import Context
        >>> context = Context(tempfile.mkdtemp())
        >>> @context.memcache
        ... def square(x):
        ...     print('computing')
        ...     return x * x
        >>> square(3), square(x=3)
        computing
        (9, 9)
        """
        if f is None:
            return functools.partial(self.memcache, max_bytes=max_bytes)
        from megalith.context.memcache import DEFAULT_MAX_BYTES, memoize

        limit = DEFAULT_MAX_BYTES if max_bytes is None else max_bytes
        memoized = memoize(f, self._memcache_dir, max_bytes=limit)
        self._memoized = [known for known in self._memoized if known() is not None]
        self._memoized.append(weakref.ref(memoized))
        return memoized

    def save_memcache(self) -> None:
        """Write what all functions of this Context remember, so that they do when they are wrapped again.

        Raises
        ------
        ArgumentError
            If the Context is read-only.
        OSError
            If it cannot be written; what was saved before stays.

        Notes
        -----
        Functions of ``cache(memcache=True)`` are left out: their results are on disk already.

        Examples
        --------
        >>> import tempfile
        >>> from megalith import Context
        >>> context = Context(tempfile.mkdtemp())
        >>> power = context.memcache(pow)
        >>> power(2, 10)
        1024
        >>> context.save_memcache()
        >>> context.memcache(pow).cache_info().entries
        1
        """
        from megalith.context.memcache import save

        self._check_writable()
        save([function for known in self._memoized if (function := known()) is not None])

    def load_memcache(self, name: str) -> None:
        """Read again what was saved for a function that this Context has wrapped.

        Parameters
        ----------
        name : str
            Module and qualified name: ``'package.module.function'``.

        Examples
        --------
        >>> import tempfile
        >>> from megalith import Context
        >>> Context(tempfile.mkdtemp()).load_memcache('package.module.function')
        """
        from megalith.context.memcache import load

        load(name, self._memcache_dir)

    def map(
        self, f: Callable[..., Any], *args: Iterable[Any], on_error: OnError = "raise", verbose: bool = False
    ) -> list[Any]:
        """Call a function for each item, on the workers of this Context, and return the results in order.

        Parameters
        ----------
        f : callable
            The function. It may be a closure, a lambda, or one of `cache`.
        *args : iterable
            What it is called with, one item of each, as for the builtin `map`; the shortest ends it.
        on_error : {'raise', 'keep'}
            Whether the first failure ends the map, or a `megalith.maps.Failure` (with ``index``, ``args``, ``error``
            and ``traceback``) stands in the place of its result.
        verbose : bool
            Whether a bar is shown.

        Returns
        -------
        results : list
            One for each item.

        Raises
        ------
        Exception
            What the function raised, with a note of the item's index and arguments.
        WorkerDiedError
            If a worker died of an item three times, or none is left.
        ArgumentError
            If the workers, or `on_error`, are nothing that is known.

        See Also
        --------
        map_async : The same in the background.

        Notes
        -----
        Workers are `workers`, else `ipy_view`: a number of processes, an Executor, an ipyparallel view, a dask Client;
        without either the items are done here, one after the other. Small items are sent several at once. What a dead
        worker had is done again, so that an item may run twice. Large arrays are mapped by workers on this machine,
        each item getting a private view, and copied to others. Ctrl-C takes back what waits, and interrupts engines
        and processes started by this call.

        Examples
        --------
        >>> import tempfile
        >>> from megalith import Context
        >>> context = Context(tempfile.mkdtemp())
        >>> context.map(pow, [2, 3, 4], [5, 2, 1])
        [32, 9, 4]
        >>> context.workers = 2
        >>> context.map(lambda x: x + 1, range(4))
        [1, 2, 3, 4]
        """
        from megalith import maps

        return maps.run(f, *args, workers=self._workers, on_error=on_error, verbose=verbose)

    def map_async(self, f: Callable[..., Any], *args: Iterable[Any]) -> AsyncResult:
        """Call a function for each item in the background, on the workers of this Context.

        Parameters
        ----------
        f : callable
            The function, as for `map`.
        *args : iterable
            What it is called with, as for `map`.

        Returns
        -------
        result : megalith.maps.AsyncResult
            With ipyparallel's ``get(timeout)``, ``ready()``, ``successful()``, ``progress``, ``wait(timeout)``,
            ``wait_interactive()``, ``abort()``; ``native`` is ipyparallel's own.

        Raises
        ------
        ArgumentError
            If the workers are nothing that is known.

        Examples
        --------
        >>> import tempfile
        >>> from megalith import Context
        >>> Context(tempfile.mkdtemp()).map_async(pow, [2, 3, 4], [5, 2, 1]).get()
        [32, 9, 4]
        """
        from megalith import maps

        return maps.start(f, *args, workers=self._workers)

    def map_dask_array(
        self, f: Callable[..., Any], da: Any, *args: Any, name: str | tuple[str, ...] | None = None
    ) -> Any:
        """Call a function with each chunk of a dask array, and keep the results on disk as a new one.

        Workers write results themselves, to ``<name>/<i>.npy`` in the Context's directory. What a run that was ended
        has finished is not done again by the next, and all of it is where function, arguments or chunks changed.

        Parameters
        ----------
        f : callable
            Called as ``f(chunk, *args)``. It gives an array, or a tuple of arrays.
        da : dask.array.Array
            The array.
        *args : object
            Further arguments, the same for all chunks.
        name : str or tuple of str, optional
            Name of the directory; a tuple of names, one for each result, where the function gives a tuple. By default
            the function's name.

        Returns
        -------
        array : dask.array.Array or tuple of dask.array.Array
            Maps the files when it is computed. Its dask name changes with the content.

        Raises
        ------
        ArgumentError
            If there is not a name for each result, a name is not possible, `da` is on a cluster (``persist()``) or read
            from what would be written, or the Context is read-only.
        DTypeError
            If `da` is no dask array, the function or an argument cannot be identified, or results are of different
            types or hold Python objects.
        ShapeError
            If results do not fit together.
        FileExistsError
            If something else has the name.
        Exception
            What the function raised; finished chunks are kept.

        See Also
        --------
        dask.array.from_npy_stack : Opens the directory, if the array is cut along one axis.

        Notes
        -----
        Chunks may get longer or shorter. Axes can be lost or gained behind those that are cut. Files of arrays that
        are cut along one axis are numbered; those of others have the place of their chunk, ``<i>.<j>.npy``, as name.

        Calls are known by content: each run computes the chunks of `da` and digests them, and what it saves are the
        calls of the function. Functions count as those of `cache` do, by their code and by what they reach. A chunk
        counts as finished when its file is on the disk and has a record, with which it is compared later. While files
        change there is no ``info`` file, so that dask does not read a stack that is half old. An array of an earlier
        run raises a FormatError if the file it shows has another content since.

        Examples
        --------
        >>> import tempfile
        >>> import dask.array as da
        >>> from megalith import Context
        >>> context = Context(tempfile.mkdtemp())
        >>> def power(x, n):
        ...     return x ** n
        >>> powers = context.map_dask_array(power, da.arange(10, chunks=4), 2)
        >>> powers.compute()
        array([ 0,  1,  4,  9, 16, 25, 36, 49, 64, 81])
        >>> sorted(path.name for path in (context.cache_dir / 'power').glob('*.npy'))
        ['0.npy', '1.npy', '2.npy']
        """
        from megalith.context.stacks import map_dask_array

        self._check_writable()
        return map_dask_array(f, da, args, name, self.cache_dir, self._workers, verbose=self.verbose > 0)

    def save(self, name: str, data: Any, location: Location = "local") -> None:
        """Write a value under a name, as JSON that people can read, with large arrays beside it.

        Parameters
        ----------
        name : str
            Letters, digits and ``=+._-``; ``'a/b'`` lies in a directory.
        data : object
            A dict of arrays, scalars, strings, bytes, sets, tuples, dates, Paths, and nestings of these.
        location : {'local', 'global'}
            The Context's directory, or the user's config directory.

        Raises
        ------
        ArgumentError, DTypeError
            If the name or something in the value is not one of those allowed, or the Context is read-only.
        OSError
            If it cannot be written; the value before it stays.

        Examples
        --------
        >>> import tempfile
        >>> from megalith import Context
        >>> context = Context(tempfile.mkdtemp())
        >>> context.save('groups', {3: 'good', 5: 'noise'})
        >>> context.load('groups')
        {3: 'good', 5: 'noise'}
        """
        if location == "local":
            self._check_writable()
        self.store.save(name, data, location)

    def load(self, name: str, location: Location = "local", default: Any = None) -> Any:
        """Read the value of a name.

        Parameters
        ----------
        name : str
            The name.
        location : {'local', 'global'}
            Where it was saved.
        default : object
            What is returned if there is none; None stands for an empty dict.

        Returns
        -------
        data : object
            The value. Keys that are digits are ints, as in phy, whose files are read too.

        Raises
        ------
        FormatError
            If the file is damaged.
        ArgumentError
            If the name is not possible.

        Examples
        --------
        >>> import tempfile
        >>> from megalith import Context
        >>> Context(tempfile.mkdtemp()).load('nothing')
        {}
        """
        return self.store.load(name, location, default)

    @functools.cached_property
    def memory(self) -> Memory:
        """The results on disk, as a `megalith.context.disk.Memory` (which is a `joblib.Memory`)."""
        from megalith.context.disk import Memory

        below = None if self._below is None else self._below / "results"
        return Memory(
            self.cache_dir / "results",
            verbose=self.verbose,
            bytes_limit=self.cache_limit,
            readonly=self.readonly,
            below=below,
        )

    @functools.cached_property
    def store(self) -> Store:
        """The named values."""
        from megalith.context.store import Store

        return Store(self.cache_dir)

    def _check_writable(self) -> None:
        if self.readonly:
            message = f"{self.cache_dir} was opened with readonly=True; nothing is written there"
            raise ArgumentError(message, name="readonly", got=True, expected="a Context that may be written to")

    @property
    def _workers(self) -> Any:
        return self.ipy_view if self.workers is None else self.workers

    @property
    def _memcache_dir(self) -> Path:
        return self.cache_dir / "memcache"

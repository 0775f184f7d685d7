"""Functions of a list of cluster ids, one for each spike: grouping, means, look-ups."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from megalith import _core
from megalith._progress import progress
from megalith.arrays import as_source, where
from megalith.arrays.blocks import WINDOW_BYTES
from megalith.arrays.kernels.common import check_kind, thread_request
from megalith.exceptions import SelectionError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from megalith._progress import Bar
    from megalith._typing import AnyArray, Processes, SourceLike
    from megalith.arrays.source import Source

Ints: TypeAlias = "npt.NDArray[np.int64]"

# Of ids that are not there, so many are named.
NAMED = 10


def id_source(name: str, ids: SourceLike) -> Source:
    """Describe a list of ids.

    Raises
    ------
    ShapeError
        If it has not one dimension.
    DTypeError
        If it is not of integers.
    """
    source = as_source(ids)
    if source.ndim != 1:
        message = f"{name}: got shape {source.shape}, expected one dimension; ravel it, or take one of its columns"
        raise ShapeError(message, name=name, got=source.shape, expected="(n,)")
    if source.size == 0 and source.dtype == np.float64:  # The empty list, to which NumPy gives a type of its own.
        return as_source(np.zeros(0, np.int64))
    check_kind(name, source.dtype, "iu", "integers")
    return source


def id_array(name: str, ids: Any) -> Ints:
    """Return ids as an array: one number, or any collection of numbers.

    Raises
    ------
    ShapeError, DTypeError
        As `id_source`.
    """
    # Sets, mappings, views of their keys and iterators; what has a dtype may have keys of its own, as tables do.
    if isinstance(ids, Iterable) and not isinstance(ids, Sequence) and not hasattr(ids, "dtype"):
        ids = list(ids)
    source = id_source(name, np.atleast_1d(ids) if np.ndim(ids) == 0 else ids)
    return source.reader().read((slice(0, source.size),))


class Windows:
    """The stretches in which a list is read: all of it at once if it is in memory.

    Parameters
    ----------
    source : Source
        The list.
    threads : int, optional
        Threads that read.
    rows : int
        Stretches are a whole number of so many rows, but for the last; and of chunks, where both can be.
    """

    def __init__(self, source: Source, threads: int | None, rows: int = 1) -> None:
        self._source = source
        self._threads = threads
        self._reader = source.reader() if source.streams else None
        row_bytes = source.dtype.itemsize * math.prod(source.shape[1:])
        most = WINDOW_BYTES // max(row_bytes, 1)
        chunk = source.chunks[0] if source.chunks else 1
        whole = math.lcm(rows, chunk)
        step = most // whole * whole or max(most // rows, -(-chunk // rows)) * rows
        self.step = step if source.streams else max(source.shape[0], 1)

    def __len__(self) -> int:
        return -(-self._source.shape[0] // self.step)

    def __iter__(self) -> Iterator[tuple[int, AnyArray]]:
        for start in range(0, self._source.shape[0], self.step):
            yield start, self.read(start, start + self.step)

    def read(self, start: int, stop: int) -> AnyArray:
        """Return rows start to stop."""
        stop = min(stop, self._source.shape[0])
        if self._reader is None:
            return self._source.array[start:stop]
        box = (slice(start, stop), *(slice(0, n) for n in self._source.shape[1:]))
        return self._reader.read(box, processes=self._threads)


def _tally(source: Source, windows: Windows, threads: int | None, bar: Bar) -> tuple[_core.Tally, AnyArray, Ints]:
    """Count ids: the tally, the ids as integers of 64 bits, and how often each is there."""
    tally = None
    for _, window in windows:
        counted = _core.count_ids(window, threads, bar.tick)
        bar.part_done()
        if tally is None:
            tally = counted
        else:
            tally.merge(counted)
    if tally is None:
        tally = _core.count_ids(np.zeros(0, source.dtype))
    ids, counts = np.empty(len(tally), np.int64), np.empty(len(tally), np.int64)
    tally.write(ids, counts)
    return tally, ids.view(np.uint64) if _is_wide(source) else ids, counts


def _is_wide(source: Source) -> bool:
    """Whether ids need all bits of an unsigned integer."""
    return source.dtype.kind == "u" and source.dtype.itemsize == 8


def _positive(ids: AnyArray) -> Any:
    """Which ids are not negative."""
    return ids >= 0


def _as_ids(ids: AnyArray) -> Ints:
    """Ids as int64, where that holds them all."""
    return ids.astype(np.int64) if ids.dtype == np.uint64 and (ids.size == 0 or ids[-1] < 2**63) else ids


def spikes_per_cluster(
    spike_clusters: SourceLike | None,
    spike_ids: npt.ArrayLike | None = None,
    *,
    processes: Processes = None,
    verbose: bool = False,
) -> dict[int, Ints]:
    """Group spikes by the cluster they belong to.

    A stable counting sort by all cores, where ``numpy.argsort(spike_clusters, kind='stable')`` compares.

    Parameters
    ----------
    spike_clusters : (n_spikes,) array-like of integers
        The cluster of each spike: any whole numbers, negative, huge and sparse ones too. A path, a dataset and the
        mapping of a large file are read in windows. None is taken for an empty list.
    spike_ids : (n_spikes,) array-like of integers, optional
        The spikes, if they are not 0, 1, 2, ...
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    spikes : dict of int to ndarray of int64
        The spikes of each cluster, in the order of the list; clusters rising, -1 ("unclustered") among them. The arrays
        are parts of one, which lives as long as any of them.

    Raises
    ------
    ShapeError
        If the clusters have not one dimension, or there are not as many spikes as clusters.
    DTypeError
        If they are not integers.

    Notes
    -----
    The result has 8 bytes a spike. Beyond it there are 64 bytes for each cluster and each of up to four parts a thread,
    4 MiB of tables a part at most, and two windows of a file: under 1 GB for a file of any length, as long as its
    clusters are fewer than a million. Where most ids differ they are sorted by their bytes instead, with 16 bytes a
    spike (of a window), 32 for ids that are far apart. The result does not depend on the number of threads.

    References
    ----------
    .. [1] phylib ``io.array._spikes_per_cluster`` (behaviour).

    Examples
    --------
    >>> from megalith.select import spikes_per_cluster
    >>> spikes_per_cluster([7, -1, 7, 2, 7])
    {-1: array([1]), 2: array([3]), 7: array([0, 2, 4])}
    """
    threads = thread_request(processes)
    source = id_source("spike_clusters", () if spike_clusters is None else spike_clusters)
    given = None if spike_ids is None else id_array("spike_ids", spike_ids)
    if given is not None and given.shape != source.shape:
        message = f"spike_ids: got {given.size} spikes, expected one for each of the {source.size} cluster ids"
        raise ShapeError(message, name="spike_ids", got=given.shape, expected=source.shape)
    windows = Windows(source, threads)
    with progress(verbose, "spikes_per_cluster", source.nbytes, parts=2 * len(windows)) as bar:
        tally, ids, counts = _tally(source, windows, threads, bar)
        bounds = np.concatenate([[0], np.cumsum(counts)])
        cursors = bounds[:-1].copy()
        positions = _core.empty((source.size,), np.int64)
        for start, window in windows:
            tally.positions(window, start, cursors, positions, threads, bar.tick)
            bar.part_done()
    if given is not None:
        positions = given[positions].astype(np.int64, copy=False)
    edges = bounds.tolist()
    return {cluster: positions[edges[i] : edges[i + 1]] for i, cluster in enumerate(ids.tolist())}


def grouped_mean(
    arr: SourceLike, spike_clusters: SourceLike, *, processes: Processes = None, verbose: bool = False
) -> npt.NDArray[np.float64]:
    """Average a quantity of the spikes of each cluster.

    One pass over both arguments by all cores, without the temporaries of ``numpy.bincount``.

    Parameters
    ----------
    arr : (n_spikes, ...) array-like of bool, int or float
        A value, a row or an array for each spike; read in windows where it is a path, a dataset or a large mapping.
    spike_clusters : (n_spikes,) array-like of integers
        The cluster of each spike; spikes of negative clusters ("unclustered") are left out.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    means : (n_clusters, ...) ndarray of float64
        The mean for each cluster that is not negative, in the order of `unique`.

    Raises
    ------
    ShapeError
        If there are not as many values as cluster ids, or these have not one dimension.
    DTypeError
        If the values are no real numbers or the cluster ids no integers.

    Notes
    -----
    Sums are in double precision, in an order that depends on the length alone: the same bits for any number of threads,
    in memory and streamed. A NaN makes the mean of its own cluster NaN.

    References
    ----------
    .. [1] phylib ``io.array.grouped_mean`` (behaviour).

    Examples
    --------
    >>> from megalith.select import grouped_mean
    >>> grouped_mean([9, -3, 10, 11, -5], [2, 3, 2, 2, 5])
    array([10., -3., -5.])
    """
    threads = thread_request(processes)
    values, source = as_source(arr), id_source("spike_clusters", spike_clusters)
    check_kind("arr", values.dtype, "biuf", "bool, integers and floats")
    if values.ndim == 0 or values.shape[0] != source.size:
        message = f"arr: got shape {values.shape}, expected one entry for each of the {source.size} cluster ids"
        raise ShapeError(message, name="arr", got=values.shape, expected=(source.size, ...))
    columns = math.prod(values.shape[1:])
    means = _core.Means(columns)
    windows = Windows(values, threads, _core.Means.block_rows(columns))
    if source.streams and not values.streams:
        windows.step = Windows(source, threads, _core.Means.block_rows(columns)).step
    reader = Windows(source, threads)
    with progress(verbose, "grouped_mean", values.nbytes, parts=len(windows)) as bar:
        for start, window in windows:
            means.add(reader.read(start, start + len(window)), window, threads, bar.tick)
            bar.part_done()
    ids, found = np.empty(len(means), np.int64), np.empty(len(means) * columns)
    means.write(ids, found)
    kept = _positive(ids.view(np.uint64) if _is_wide(source) else ids)
    kept_means: npt.NDArray[np.float64] = found.reshape(len(means), *values.shape[1:])[kept]
    return kept_means


def unique(x: SourceLike | None, *, processes: Processes = None, verbose: bool = False) -> Ints:
    """List the clusters there are.

    ``numpy.unique`` by counting, without those that are negative.

    Parameters
    ----------
    x : (n_spikes,) array-like of integers
        The cluster of each spike; None is taken for an empty list.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    clusters : (n_clusters,) ndarray of int64
        Rising; of uint64 where int64 does not hold the largest.

    Raises
    ------
    ShapeError
        If the list has not one dimension.
    DTypeError
        If it is not of integers.

    Notes
    -----
    One pass; memory as in `spikes_per_cluster`.

    References
    ----------
    .. [1] phylib ``io.array._unique`` (behaviour).

    Examples
    --------
    >>> from megalith.select import unique
    >>> unique([36, -1, 42, 42, 2])
    array([ 2, 36, 42])
    """
    threads = thread_request(processes)
    if x is None:
        return np.zeros(0, np.int64)
    source = id_source("x", x)
    windows = Windows(source, threads)
    with progress(verbose, "unique", source.nbytes, parts=len(windows)) as bar:
        _, ids, _ = _tally(source, windows, threads, bar)
    return _as_ids(ids[_positive(ids)])


def index_of(arr: SourceLike, lookup: npt.ArrayLike, *, processes: Processes = None) -> Ints:
    """Replace each cluster id by its place in a list of clusters.

    Parameters
    ----------
    arr : (n0, ..., nk) array-like of integers
        The cluster ids; -1 ("unclustered") stays -1.
    lookup : (n_clusters,) array-like of integers
        All clusters that are in `arr`, in any order; the last place counts if one is named twice.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.

    Returns
    -------
    places : (n0, ..., nk) ndarray of int64
        With ``lookup[places] == arr``, but for -1.

    Raises
    ------
    SelectionError
        If an id is not in the list; names them.
    ShapeError
        If the list has not one dimension.
    DTypeError
        If either is not of integers.

    Notes
    -----
    Ids need not be small: there is a table of all ids between the smallest and the largest only where it is not much
    longer than the list.

    References
    ----------
    .. [1] phylib ``io.array._index_of`` (behaviour; an id that is missing is no error there).

    Examples
    --------
    >>> from megalith.select import index_of
    >>> index_of([36, 42, -1, 2], [2, 36, 42])
    array([ 1,  2, -1,  0])
    """
    threads = thread_request(processes)
    known = id_array("lookup", lookup)
    source = as_source(arr)
    if source.size == 0 and source.dtype == np.float64:
        return np.zeros(source.shape, np.int64)
    check_kind("arr", source.dtype, "iu", "integers")
    places = _core.empty(source.shape, np.int64)
    if source.ndim == 0:
        source, places = as_source(np.atleast_1d(source.array)), places.reshape(1)
    missing: set[int] = set()
    for start, window in Windows(source, threads):
        part = places[start : start + len(window)]
        _core.index_of(window, known, part, threads)
        # Where -1 is in the list itself it has a place, and is not looked for here.
        if (part < 0).any():
            missing.update(np.unique(np.asarray(window)[part < 0]).tolist())
    missing.discard(-1)
    if missing:
        raise unknown("arr", sorted(missing), known)
    return places.reshape(as_source(arr).shape)


def unknown(name: str, labels: list[int], known: AnyArray | None) -> SelectionError:
    """Return the error for clusters that are not there."""
    are = "there is no cluster" if len(labels) == 1 else "there are no clusters"
    there = "" if known is None else f"; there are {len(known)}{': ' * bool(len(known))}{_listed(known.tolist())}"
    message = f"{name}: {are} {_listed(labels)}{there}; leave out what is not there"
    return SelectionError(message, axis="cluster", label=labels, known=known)


def _listed(ids: list[int]) -> str:
    """Return some ids in words."""
    return ", ".join(map(str, ids[:NAMED])) + ", ..." * (len(ids) > NAMED)


def spikes_in_clusters(
    spike_clusters: SourceLike, clusters: npt.ArrayLike, *, processes: Processes = None, verbose: bool = False
) -> Ints:
    """Find all spikes that belong to some clusters.

    Parameters
    ----------
    spike_clusters : (n_spikes,) array-like of integers
        The cluster of each spike; read in windows.
    clusters : array-like of integers
        The clusters; those that are not there contribute nothing.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    spikes : (n_found,) ndarray of int64
        Rising.

    Raises
    ------
    ShapeError
        If a list has not one dimension.
    DTypeError
        If one is not of integers.

    Notes
    -----
    ``numpy.flatnonzero(numpy.isin(spike_clusters, clusters))`` without temporaries of the length of the list. To ask
    for many selections of the same list, group it once (`spikes_per_cluster`, `Selector`).

    References
    ----------
    .. [1] phylib ``io.array._spikes_in_clusters`` (behaviour).

    Examples
    --------
    >>> from megalith.select import spikes_in_clusters
    >>> spikes_in_clusters([2, 3, 2, 5], [2, 5, 99])
    array([0, 2, 3])
    """
    threads = thread_request(processes)
    source, known = id_source("spike_clusters", spike_clusters), id_array("clusters", clusters)
    if source.size == 0 or known.size == 0:
        return np.zeros(0, np.int64)
    windows = Windows(source, threads)
    windows.step = min(windows.step, WINDOW_BYTES // 8)
    places = _core.empty((min(windows.step, source.size),), np.int64)
    found = []
    with progress(verbose, "spikes_in_clusters", source.nbytes, parts=len(windows)) as bar:
        for start, window in windows:
            part = places[: len(window)]
            _core.index_of(window, known, part, threads, bar.tick)
            found.append(where(part, above=-1, processes=threads) + start)
            bar.part_done()
    return np.concatenate(found)

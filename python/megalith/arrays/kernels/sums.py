"""Sums and counts of blocks."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from megalith import _core
from megalith.arrays.blocks import block_ranges, boxes, flat_start
from megalith.arrays.kernels.common import (
    check_kind,
    thread_request,
)
from megalith.arrays.source import as_source, is_lazy

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from megalith._typing import AnyArray, Processes, SourceLike
    from megalith.arrays.source import Source


def block_sums(source: SourceLike, blocks: int | None = None, processes: Processes = None) -> AnyArray:
    """Sum the values of each block of the C-order sequence.

    `numpy.add.reduceat` over `block_ranges`, by all cores.

    Parameters
    ----------
    source : (n0, ..., nk) array-like of bool or numbers
        Any layout; a path or dataset is read in windows. The sums of a dask array are a dask array.
    blocks : int, optional
        Number of blocks, see `block_ranges`.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.

    Returns
    -------
    sums : (blocks,) ndarray
        Of int64 for bool and signed integers, uint64 for unsigned ones (both wrap), float64 for floats, complex128 for
        complex numbers.

    Raises
    ------
    ArgumentError
        If `blocks` or `processes` is 0, negative or no whole number.
    DTypeError
        If the values have no sum of their own kind (dates, records).

    Notes
    -----
    Floats are added pairwise in double precision by a tree that depends on the length of the block alone: the same bits
    for any number of threads, in memory and streamed. Those of a dask array are added up chunk by chunk, and can differ
    in the last bits.

    References
    ----------
    .. [1] ClearMap ``ArrayProcessing.block_sums``.

    Examples
    --------
    >>> import numpy as np
    >>> import megalith
    >>> megalith.block_sums(np.arange(10), blocks=2)
    array([10, 35])
    """
    if is_lazy(source):
        from megalith.arrays import lazy

        sums: AnyArray = lazy.block_sums(source, blocks, processes)
        return sums
    source = as_source(source)
    check_kind("source", source.dtype, "biufc", "bool, integers, floats and complex numbers")
    dtype = {"u": np.uint64, "f": np.float64, "c": np.complex128}.get(source.dtype.kind, np.int64)
    return _reduce(source, _core.block_sums, dtype, blocks, processes)


def block_counts(source: SourceLike, blocks: int | None = None, processes: Processes = None) -> npt.NDArray[np.int64]:
    """Count the non-zero entries of each block of the C-order sequence.

    Parameters
    ----------
    source : (n0, ..., nk) array-like of bool, numbers or dates
        Any layout; a path or dataset is read in windows. The counts of a dask array are a dask array.
    blocks : int, optional
        Number of blocks, see `block_ranges`.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.

    Returns
    -------
    counts : (blocks,) ndarray of int64
        What `numpy.count_nonzero` gives for each block.

    Raises
    ------
    ArgumentError
        If `blocks` or `processes` is 0, negative or no whole number.
    DTypeError
        If the values have no zero (records, strings).

    Notes
    -----
    One pass over the source.

    References
    ----------
    .. [1] ClearMap ``ArrayProcessing.block_sums``, which counts so for `where`.

    Examples
    --------
    >>> import numpy as np
    >>> import megalith
    >>> megalith.block_counts(np.array([0, 1, 2, 0, 0, 5]), blocks=2)
    array([2, 1])
    """
    if is_lazy(source):
        from megalith.arrays import lazy

        counts: npt.NDArray[np.int64] = lazy.block_counts(source, blocks, processes)
        return counts
    source = as_source(source)
    check_kind("source", source.dtype, "biufcmM", "bool, numbers and dates")
    return _reduce(source, _core.block_counts, np.int64, blocks, processes)


def _reduce(
    source: Source, kernel: Callable[..., None], dtype: npt.DTypeLike, blocks: int | None, processes: Processes
) -> AnyArray:
    threads = thread_request(processes)
    boundaries = block_ranges(source, blocks, processes)
    sums = np.zeros(len(boundaries) - 1, dtype)
    if not source.streams:
        kernel(source.array, boundaries, sums, threads)
        return sums
    # Each block is cut in pieces as the core cuts it; windows hold whole pieces, and the sums of pieces are summed up
    # again by the core: the same tree as in memory.
    piece = _core.SUM_PIECE
    cuts = [np.append(np.arange(a, b, piece), b) if b > a else np.array([a]) for a, b in itertools.pairwise(boundaries)]
    edges = np.unique(np.concatenate(cuts)) if cuts else boundaries
    partials = np.zeros(max(len(edges) - 1, 0), dtype)
    reader = _FlatReader(source)
    step = max(reader.window // piece, 1)
    for first in range(0, len(partials), step):
        part = edges[first : first + step + 1]
        values = reader.read(int(part[0]), int(part[-1]), threads)
        kernel(values, part - part[0], partials[first : first + step], threads)
    _core.block_sums(partials, np.searchsorted(edges, boundaries), sums, threads)
    return sums


class _FlatReader:
    """Stretches of the C-order sequence of a source that is read in boxes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._reader = source.reader()
        self._boxes = boxes(
            source.shape, source.dtype.itemsize, "C", chunks=source.chunks if source.ndim == 1 else None
        )
        self._starts = [flat_start(box, source.shape) for box in self._boxes]
        self._held = -1
        self._values: AnyArray = np.empty(0)
        self.window = max(math.prod(part.stop - part.start for part in self._boxes[0]), 1) if self._boxes else 1

    def read(self, start: int, stop: int, threads: int | None) -> AnyArray:
        """Return elements start to stop; asked for in rising order, each window is read once."""
        pieces = []
        while start < stop:
            index = int(np.searchsorted(self._starts, start, side="right")) - 1
            if index != self._held:
                self._values = self._reader.read(self._boxes[index], processes=threads).reshape(-1)
                self._held = index
            low = start - self._starts[index]
            piece = self._values[low : low + stop - start]
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

"""Sums and counts of blocks."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from megalith import _core
from megalith.arrays.blocks import block_count, boxes, flat_start, ranges_of
from megalith.arrays.kernels.common import check_kind, thread_request
from megalith.arrays.source import is_lazy, source_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from megalith._typing import AnyArray, Box, Processes, SourceLike
    from megalith.arrays.source import Source

# The type of a sum, by the kind of what is added.
_TOTALS = {
    "b": np.dtype(np.int64),
    "i": np.dtype(np.int64),
    "u": np.dtype(np.uint64),
    "f": np.dtype(np.float64),
    "c": np.dtype(np.complex128),
}


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
    if type(source) is not np.ndarray:
        source = source_of(source)
    check_kind("source", source.dtype, "biufc", "bool, integers, floats and complex numbers")
    return _reduce(source, _core.block_sums, _TOTALS[source.dtype.kind], blocks, processes)


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
    if type(source) is not np.ndarray:
        source = source_of(source)
    check_kind("source", source.dtype, "biufcmM", "bool, numbers and dates")
    return _reduce(source, _core.block_counts, np.int64, blocks, processes)


def _reduce(
    source: AnyArray | Source,
    kernel: Callable[..., None],
    dtype: npt.DTypeLike,
    blocks: int | None,
    processes: Processes,
) -> AnyArray:
    threads = thread_request(processes)
    sums = np.zeros(min(block_count(blocks, processes), source.size), dtype)
    if not isinstance(source, np.ndarray) and not source.streams:
        source = source.array
    if isinstance(source, np.ndarray):
        kernel(source, None, sums, threads)
        return sums
    boundaries = ranges_of(source.size, max(sums.size, 1), processes)
    # Each block is cut in pieces as the core cuts it, and the sums of pieces are summed up again by the core: the same
    # tree as in memory.
    piece = _core.SUM_PIECE
    cuts = [np.append(np.arange(a, b, piece), b) if b > a else np.array([a]) for a, b in itertools.pairwise(boundaries)]
    edges = np.unique(np.concatenate(cuts)) if cuts else boundaries
    pieces = _Pieces(kernel, edges, np.zeros(max(len(edges) - 1, 0), dtype), threads)
    reader = source.reader()
    for window in boxes(source.shape, source.dtype.itemsize, "C", chunks=source.chunks):
        values = reader.read(window, processes=threads)
        axis = _run_axis(window, source.shape)
        lines = itertools.product(*(range(part.start, part.stop) for part in window[:axis]))
        runs = values.reshape(-1, math.prod(values.shape[axis:]))
        for line, run in zip(lines, runs, strict=True):
            pieces.add(flat_start((*(slice(i, i + 1) for i in line), *window[axis:]), source.shape), run)
    _core.block_sums(pieces.sums, np.searchsorted(edges, boundaries), sums, threads)
    return sums


def _run_axis(box: Box, shape: tuple[int, ...]) -> int:
    """Return the first axis from which on the elements of a box are a run of the C-order sequence."""
    cut = [axis for axis, (part, n) in enumerate(zip(box, shape, strict=True)) if part.stop - part.start != n]
    return cut[-1] if cut else 0


class _Pieces:
    """The sums of pieces of the C-order sequence, whose elements come in runs.

    Parts of a piece that come in different runs are kept until it is whole: a float sum depends on the order.
    """

    def __init__(
        self, kernel: Callable[..., None], edges: npt.NDArray[np.int64], sums: AnyArray, threads: int | None
    ) -> None:
        self._kernel = kernel
        self._edges = edges
        self.sums = sums
        self._threads = threads
        self._parts: dict[int, tuple[AnyArray, int]] = {}

    def add(self, start: int, run: AnyArray) -> None:
        """Add the elements from a position on."""
        edges, stop = self._edges, start + len(run)
        first = int(np.searchsorted(edges, start, side="right")) - 1
        last = int(np.searchsorted(edges, stop, side="left"))
        low, high = first + (edges[first] < start), last - (edges[last] > stop)
        if low < high:
            whole = run[edges[low] - start : edges[high] - start]
            self._kernel(whole, edges[low : high + 1] - edges[low], self.sums[low:high], self._threads)
        for i in {first, last - 1} - set(range(low, high)):
            self._add_part(i, max(start, int(edges[i])), run[max(edges[i] - start, 0) : edges[i + 1] - start])

    def _add_part(self, i: int, start: int, part: AnyArray) -> None:
        begin, length = self._edges[i], int(self._edges[i + 1] - self._edges[i])
        held = self._parts.pop(i, None)
        values, n_missing = (np.empty(length, part.dtype), length) if held is None else held
        values[start - begin : start - begin + len(part)] = part
        n_missing -= len(part)
        if n_missing:
            self._parts[i] = values, n_missing
        else:
            self._kernel(values, np.array([0, length]), self.sums[i : i + 1], self._threads)

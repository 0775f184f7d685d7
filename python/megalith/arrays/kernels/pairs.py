"""Pairs of entries that lie an offset apart: `neighbours`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from megalith import _checks, _core
from megalith._progress import progress
from megalith.arrays.kernels.common import (
    EVERYTHING,
    NOTHING,
    check_kind,
    thread_request,
)
from megalith.arrays.source import source_of, whole
from megalith.exceptions import ShapeError

if TYPE_CHECKING:
    import numpy.typing as npt

    from megalith._typing import Processes, SourceLike


def neighbours(
    indices: SourceLike, offset: int, processes: Processes = None, verbose: bool = False
) -> npt.NDArray[np.int64]:
    """Find all pairs of entries of a list that lie an offset apart.

    With the flat positions of a mask and the stride of an axis as offset these are the edges of the graph of its
    voxels along that axis.

    Parameters
    ----------
    indices : (n,) array-like of integers
        Sorted lists are fast; others are sorted on the way. A path is read into memory.
    offset : int
        The distance, of either sign.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    pairs : (n_pairs, 2) ndarray of int64
        All positions ``(i, j)`` with ``indices[j] == indices[i] + offset``, sorted by i, then j; equal entries make all
        their pairs.

    Raises
    ------
    ShapeError
        If the list has not one dimension.
    DTypeError
        If it is not of integers, or the offset is no whole number.

    Notes
    -----
    A merge of the list with itself, cut into blocks, walked twice: to count and to write.

    References
    ----------
    .. [1] ClearMap ``ArrayProcessing.neighbours``.

    Examples
    --------
    >>> import megalith
    >>> megalith.neighbours([2, 3, 5, 6, 7], 1)
    array([[0, 1],
           [2, 3],
           [3, 4]])
    """
    threads = thread_request(processes)
    source = source_of(indices)
    if source.ndim != 1:
        message = f"indices: got shape {source.shape}, expected one dimension"
        raise ShapeError(message, name="indices", got=source.shape, expected="(n,)")
    if source.size == 0 and source._array is not None and source.dtype == np.float64:
        return np.empty((0, 2), np.int64)  # The empty list, to which NumPy gives a type of its own.
    check_kind("indices", source.dtype, "iu", "integers")
    offset = min(max(_checks.integer("offset", offset), EVERYTHING), NOTHING)
    values = source.reader().read(whole(source.shape), processes=threads) if source.streams else source.array
    with progress(verbose, "neighbours", source.nbytes, parts=2) as bar:
        found = _core.find_pairs(values, offset, threads, bar.tick)
        bar.part_done()
        pairs = _core.empty((len(found), 2), np.int64)
        found.fill(values, pairs, threads, bar.tick)
    return pairs


def index_neighbours(indices: SourceLike, offset: int, processes: Processes = None) -> npt.NDArray[np.int64]:
    """Find all pairs of entries of a list that lie an offset apart; see `neighbours`.

    Parameters
    ----------
    indices : (n,) array-like of integers
        As in `neighbours`.
    offset : int
        The distance, of either sign.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.

    Returns
    -------
    pairs : (n_pairs, 2) ndarray of int64
        As in `neighbours`.

    Raises
    ------
    ShapeError, DTypeError
        As in `neighbours`.

    Examples
    --------
    >>> import megalith
    >>> megalith.index_neighbours([10, 20, 30], -10)
    array([[1, 0],
           [2, 1]])
    """
    return neighbours(indices, offset, processes)

"""Positions of entries: `where`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import megalith.arrays as settings
from megalith import _checks, _core
from megalith._progress import progress
from megalith.arrays.blocks import boxes, in_c_order
from megalith.arrays.kernels.common import (
    EVERYTHING,
    NOTHING,
    check_kind,
    order_of,
    refuse_overlap,
    thread_request,
)
from megalith.arrays.sink import Target, sink_dtype
from megalith.arrays.source import is_lazy, is_path, source_of
from megalith.exceptions import DTypeError, IndexRangeError, ShapeError

if TYPE_CHECKING:
    import numpy.typing as npt

    from megalith._progress import Bar
    from megalith._typing import AnyArray, Processes, SinkLike, SourceLike, Tick
    from megalith.arrays.source import Source


def where(
    source: SourceLike,
    sink: SinkLike = None,
    blocks: int | None = None,
    cutoff: int | None = None,
    processes: Processes = None,
    verbose: bool = False,
    *,
    dtype: npt.DTypeLike = np.int64,
    above: Any = None,
) -> Any:
    """Find the positions of the non-zero entries.

    What `numpy.argwhere` gives (for one dimension `numpy.flatnonzero`), found by all cores, without temporaries of the
    size of the source, and with a choice of type and place for the result.

    Parameters
    ----------
    source : (n0, ..., nk) array-like of bool, numbers or dates
        Any layout, byte order and number of dimensions; a path or dataset is read in windows. Negative values, NaN and
        truth values stored as any byte but 0 count as non-zero. A dask array is searched chunk by chunk, when the
        result is computed.
    sink : (n_hits,) or (n_hits, ndim) ndarray of integers, or path, optional
        Where the positions go: exactly as many rows as there are hits. A path ending in ``.npy`` makes a file that
        appears when it is complete. It must not share memory with `source`.
    blocks : int, optional
        Kept for callers of older interfaces; the cut of the work does not depend on it.
    cutoff : int, optional
        At or below this number of elements NumPy does the work; None means `megalith.arrays.default_cutoff`.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.
    verbose : bool
        Show a progress bar.
    dtype : data type
        Integer type of the result, if no sink says otherwise.
    above : number or date, optional
        Find the entries greater than this instead (``source > above``, without the temporary).

    Returns
    -------
    positions : (n_hits,) or (n_hits, ndim) ndarray
        In C order of the logical index, whatever the layout; the sink, if one was given (a memmap for a path). If the
        source is a dask array and there is no sink, a dask array that does not know its number of rows.

    Raises
    ------
    IndexRangeError
        If positions along some axis do not fit the type of the result.
    ShapeError
        If the sink does not have one row for each hit.
    DTypeError
        If the type of the result is no integer, or `source` has no order to compare `above` with.
    LayoutError
        If the sink is read-only or shares memory with the source.

    Notes
    -----
    Two passes, the second over a mask of one bit an element. The result is the same for any number of threads.

    Of a dask array, the positions of chunks that share their stretch of the first axis are put in order together: what
    is in memory are these positions. Into a sink it is computed twice, first for the number of rows.

    References
    ----------
    .. [1] `numpy.argwhere`, `numpy.flatnonzero`.
    .. [2] ClearMap ``ArrayProcessing.where``, which counts positive entries only.

    Examples
    --------
    >>> import numpy as np
    >>> import megalith
    >>> megalith.where(np.array([0, 3, 0, -1]))
    array([1, 3])
    >>> megalith.where(np.eye(2), dtype=np.uint8)
    array([[0, 0],
           [1, 1]], dtype=uint8)
    >>> megalith.where(np.array([1, 5, 9]), above=4)
    array([1, 2])
    """
    if is_lazy(source):
        from megalith.arrays import lazy

        return lazy.where(source, sink, blocks, cutoff, processes, verbose, dtype=dtype, above=above)
    threads = thread_request(processes, blocks)
    is_plain = sink is None and type(source) is np.ndarray and not verbose
    if not is_plain:
        source = source_of(source)
    check_kind("source", source.dtype, "biufcmM", "bool, numbers and dates")
    is_given = sink is not None and not is_path(sink)
    result_dtype = np.dtype(dtype) if not is_given else sink_dtype(sink)
    if result_dtype.kind not in "iu":
        message = f"dtype: positions are integers, got {result_dtype}"
        raise DTypeError(message, name="dtype", got=str(result_dtype), supported="integers")
    check_fits(source.shape, result_dtype)
    bound = None if above is None else bound_of(above, source.dtype)
    cutoff = settings.default_cutoff if cutoff is None else _checks.integer("cutoff", cutoff)
    if is_plain:
        # As below, with less around it: small arrays feel that.
        if source.size <= cutoff:
            return _where_numpy(source, bound, result_dtype)
        return positions_in(source, bound, result_dtype, threads)
    if source.size <= cutoff and not source.streams:
        found = _where_numpy(source.array, bound, result_dtype)
        if sink is None:
            return found
        with Target(sink, found.shape, result_dtype, "C") as target:
            refuse_overlap(source, target)
            target.put(found)
        return target.result
    with progress(verbose, "where", source.nbytes, parts=2) as bar:
        if source.streams:
            found = _where_streamed(source, bound, threads, result_dtype, bar)
            if sink is None:
                return found
            with Target(sink, found.shape, result_dtype, "C") as target:
                refuse_overlap(source, target)
                target.put(found)
            return target.result
        hits = _core.find(source.array, bound, threads, bar.tick)
        bar.part_done()
        shape = (len(hits),) if source.ndim == 1 else (len(hits), source.ndim)
        with Target(sink, shape, result_dtype, "C") as target:
            refuse_overlap(source, target)
            found = _core.empty(shape, result_dtype) if target.streams else target.array
            hits.fill(found, threads, bar.tick)
            if target.streams:
                target.put(found)
    return target.result


def check_fits(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Check that a type can hold all positions of an array.

    Raises
    ------
    IndexRangeError
        If it cannot.
    """
    if dtype.itemsize == 8:
        return
    limit = (1 << (8 * dtype.itemsize - (dtype.kind == "i"))) - 1
    for axis, n in enumerate(shape):
        if n - 1 > limit:
            message = f"dtype: positions up to {n - 1} along axis {axis} do not fit {dtype}; choose a wider type"
            raise IndexRangeError(message, index=n - 1, size=limit + 1, position=(axis,))


def _where_numpy(array: AnyArray, bound: Any, dtype: np.dtype[Any]) -> AnyArray:
    if array.dtype.kind == "b":
        array = array.view(np.uint8) != 0
    if array.dtype.kind in "mM":
        array = array.view(array.dtype.str.replace(array.dtype.kind, "i", 1).split("[")[0])
    # A float bound is in double precision already; NumPy must not round it to the type of the array.
    mask = array != 0 if bound is None else array > (np.float64(bound) if isinstance(bound, float) else bound)
    # What flatnonzero does, less half a microsecond.
    found = mask.nonzero()[0] if array.ndim == 1 else np.argwhere(mask)
    return found if found.dtype == dtype else found.astype(dtype)


def bound_of(above: Any, dtype: np.dtype[Any]) -> int | float:
    """Return the number that the core compares elements with, so that the answer is NumPy's ``source > above``."""
    value = np.asarray(above)
    if value.ndim != 0:
        raise ShapeError(f"above: got shape {value.shape}, expected one number", name="above", got=value.shape)
    check_kind("source", dtype, "biufmM", "bool, integers, floats and dates, to be compared with `above`")
    if dtype.kind in "mM":
        try:
            date = value.astype(dtype.newbyteorder("="), casting="same_kind")
        except TypeError as error:
            message = f"above: {above!r} cannot be compared with {dtype}"
            raise DTypeError(message, name="above", got=str(value.dtype), supported=str(dtype)) from error
        return NOTHING if np.isnat(date) else int(date.astype(np.int64))
    is_integer = isinstance(above, int) or value.dtype.kind in "biu"
    if not is_integer:
        check_kind("above", value.dtype, "f", "real numbers")
    # Python's integers may be larger than any type, but not than these two.
    number = min(max(int(above), EVERYTHING), NOTHING) if is_integer else float(value)
    if is_integer and dtype.kind != "f":
        return number
    # NumPy compares in the common type; Python's own numbers take that of a float source.
    if isinstance(above, int | float) and not isinstance(above, np.floating):
        common = dtype if dtype.kind == "f" else np.dtype(np.float64)
    else:
        common = np.result_type(dtype, value.dtype)
    with np.errstate(over="ignore"):
        rounded = float(common.type(number))
    if dtype.kind == "f":
        return rounded
    if not math.isfinite(rounded):
        return EVERYTHING if rounded < 0 else NOTHING
    # Integers of 64 bits are rounded when NumPy compares them with floats; the smaller ones are exact.
    return rounded if dtype.itemsize == 8 else math.floor(rounded)


def _where_streamed(source: Source, bound: Any, threads: int | None, dtype: np.dtype[Any], bar: Bar) -> AnyArray:
    """Find hits window by window; memory is the result and one window."""
    windows = boxes(source.shape, source.dtype.itemsize, order_of(source), chunks=source.chunks)
    ordered = in_c_order(windows, source.shape)
    bar.split(len(windows))
    reader = source.reader()
    ndim = source.ndim
    pieces: list[AnyArray] = []
    for window in windows:
        values = reader.read(window, processes=threads)
        found = positions_in(values, bound, dtype if ordered else np.dtype(np.int64), threads, bar.tick)
        first = tuple(part.start for part in window)
        if ordered:
            found += np.array(first, dtype=dtype)
        else:
            found = flattened(found, first, source.shape)
        pieces.append(found)
        bar.part_done()
    pieces.reverse()
    if ordered:
        total = sum(len(piece) for piece in pieces)
        result: AnyArray = _core.empty((total,) if ndim == 1 else (total, ndim), dtype)
        start = 0
        while pieces:  # Each piece is given back as soon as it is copied.
            piece = pieces.pop()
            result[start : start + len(piece)] = piece
            start += len(piece)
        return result
    flat = np.concatenate(pieces)
    pieces.clear()
    flat.sort()
    return unflattened(flat, source.shape, dtype)


def positions_in(
    values: AnyArray, bound: Any, dtype: np.dtype[Any], threads: int | None, tick: Tick = None
) -> AnyArray:
    """Return the positions of hits in an array."""
    hits = _core.find(values, bound, threads, tick)
    found = _core.empty((len(hits),) if values.ndim == 1 else (len(hits), values.ndim), dtype)
    hits.fill(found, threads)
    return found


def flattened(found: AnyArray, start: tuple[int, ...], shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return the C-order positions of hits of a part that begins at `start`."""
    flat = np.zeros(len(found), np.int64)
    for axis, n in enumerate(shape):
        flat = flat * n + (found[:, axis] + start[axis])
    return flat


def unflattened(flat: npt.NDArray[np.int64], shape: tuple[int, ...], dtype: np.dtype[Any]) -> AnyArray:
    """Return the positions along each axis."""
    found = _core.empty((len(flat), len(shape)), dtype)
    for axis in reversed(range(len(shape))):
        flat, found[:, axis] = np.divmod(flat, shape[axis])
    return found

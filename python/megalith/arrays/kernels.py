"""The array functions: arguments checked here, results made here, the work done in the core.

A source in memory goes to the core in one call. Files, datasets and mappings of large files are *streamed*: cut into
windows (`blocks.boxes`) that are read, computed and written one after the other, so that memory stays bounded.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import megalith.arrays as settings
from megalith import _checks, _core
from megalith._progress import progress
from megalith._threads import requested
from megalith.arrays.blocks import block_ranges, boxes, flat_start, in_c_order, runs, with_halo
from megalith.arrays.sink import Target, given_array
from megalith.arrays.source import as_source, is_path, whole
from megalith.exceptions import ArgumentError, DTypeError, IndexRangeError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from megalith._progress import Bar
    from megalith._typing import AnyArray, Box, CorrelateMode, LutMode, Order, Processes, SinkLike, SourceLike
    from megalith.arrays.source import Source

# A bound no element exceeds, and one that each does.
NOTHING, EVERYTHING = 1 << 100, -(1 << 100)

MODES = ("constant", "nearest", "reflect", "mirror", "wrap", "grid-constant", "grid-mirror", "grid-wrap")


def _requested(processes: Processes, blocks: int | None = None) -> int | None:
    if blocks is not None:
        _checks.positive_int("blocks", blocks)
    return requested(processes, settings.default_processes)


def _order(source: Source) -> Order:
    return source.order or "C"


def _kind(name: str, dtype: np.dtype[Any], kinds: str, supported: str) -> None:
    if dtype.kind not in kinds or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        message = f"{name}: dtype {dtype} is not supported; supported: {supported}"
        raise DTypeError(message, name=name, got=str(dtype), supported=supported)


# ---------------------------------------------------------------------------------------------------------- where


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
        truth values stored as any byte but 0 count as non-zero.
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
        In C order of the logical index, whatever the layout; the sink, if one was given (a memmap for a path).

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
    threads = _requested(processes, blocks)
    source = as_source(source)
    given = None if sink is None or is_path(sink) else given_array(sink)
    result_dtype = np.dtype(dtype) if given is None else given.dtype
    if result_dtype.kind not in "iu":
        message = f"dtype: positions are integers, got {result_dtype}"
        raise DTypeError(message, name="dtype", got=str(result_dtype), supported="integers")
    limit = int(np.iinfo(result_dtype).max)
    for axis, n in enumerate(source.shape):
        if n - 1 > limit:
            message = f"dtype: positions up to {n - 1} along axis {axis} do not fit {result_dtype}; choose a wider type"
            raise IndexRangeError(message, index=n - 1, size=limit + 1, position=(axis,))
    bound = None if above is None else _bound(above, source.dtype)
    cutoff = settings.default_cutoff if cutoff is None else _checks.integer("cutoff", cutoff)
    if source.size <= cutoff and not source.streams and source.dtype.kind in "biufcmM":
        found = _where_numpy(source.array, bound, result_dtype)
        if sink is None:
            return found
        with Target(sink, found.shape, result_dtype, "C") as target:
            if given is not None and np.may_share_memory(given, source.array):
                given_array(given)
            target.array[...] = found
        return target.result
    with progress(verbose, "where", source.nbytes, parts=2) as bar:
        if source.streams:
            found = _where_streamed(source, bound, threads, result_dtype, bar)
            if sink is None:
                return found
            with Target(sink, found.shape, result_dtype, "C") as target:
                target.array[...] = found
            return target.result
        hits = _core.find(source.array, bound, threads, bar.tick)
        bar.part_done()
        shape = (len(hits),) if source.ndim == 1 else (len(hits), source.ndim)
        with Target(sink, shape, result_dtype, "C") as target:
            if given is not None:
                _core.refuse_overlap(target.array, source.array)
            hits.fill(target.array, threads, bar.tick)
    return target.result


def _where_numpy(array: AnyArray, bound: Any, dtype: np.dtype[Any]) -> AnyArray:
    if array.dtype.kind == "b":
        array = array.view(np.uint8) != 0
    if array.dtype.kind in "mM":
        array = array.view(array.dtype.str.replace(array.dtype.kind, "i", 1).split("[")[0])
    mask = array != 0 if bound is None else array > bound
    found = np.flatnonzero(mask) if array.ndim == 1 else np.argwhere(mask)
    return found.astype(dtype, copy=False)


def _bound(above: Any, dtype: np.dtype[Any]) -> int | float:
    """Return the number that the core compares elements with, so that the answer is NumPy's ``source > above``."""
    value = np.asarray(above)
    if value.ndim != 0:
        raise ShapeError(f"above: got shape {value.shape}, expected one number", name="above", got=value.shape)
    _kind("source", dtype, "biufmM", "bool, integers, floats and dates, to be compared with `above`")
    if dtype.kind in "mM":
        try:
            date = value.astype(dtype.newbyteorder("="), casting="same_kind")
        except TypeError as error:
            message = f"above: {above!r} cannot be compared with {dtype}"
            raise DTypeError(message, name="above", got=str(value.dtype), supported=str(dtype)) from error
        return NOTHING if np.isnat(date) else int(date.astype(np.int64))
    is_integer = isinstance(above, int) or value.dtype.kind in "biu"
    if not is_integer:
        _kind("above", value.dtype, "f", "real numbers")
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
    windows = boxes(source.shape, source.dtype.itemsize, _order(source), chunks=source.chunks)
    ordered = in_c_order(windows, source.shape)
    bar.split(len(windows))
    reader = source.reader()
    ndim = source.ndim
    pieces: list[AnyArray] = []
    for window in windows:
        values = reader.read(window, processes=threads)
        hits = _core.find(values, bound, threads, bar.tick)
        shape = (len(hits),) if ndim == 1 else (len(hits), ndim)
        found: AnyArray = np.empty(shape, dtype if ordered else np.int64)
        hits.fill(found, threads)
        if ordered:
            found += np.array([part.start for part in window], dtype=dtype)
        else:
            found = _flattened(found, window, source.shape)
        pieces.append(found)
        bar.part_done()
    pieces.reverse()
    if ordered:
        total = sum(len(piece) for piece in pieces)
        result: AnyArray = np.empty((total,) if ndim == 1 else (total, ndim), dtype)
        start = 0
        while pieces:  # Each piece is given back as soon as it is copied.
            piece = pieces.pop()
            result[start : start + len(piece)] = piece
            start += len(piece)
        return result
    flat = np.concatenate(pieces)
    pieces.clear()
    flat.sort()
    result = np.empty((len(flat), ndim), dtype)
    for axis in reversed(range(ndim)):
        flat, result[:, axis] = np.divmod(flat, source.shape[axis])
    return result


def _flattened(found: AnyArray, window: Box, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return the C-order positions of hits of a window."""
    flat = np.zeros(len(found), np.int64)
    for axis, n in enumerate(shape):
        flat = flat * n + (found[:, axis] + window[axis].start)
    return flat


# ------------------------------------------------------------------------------------------------------- look-ups


def apply_lut(
    source: SourceLike,
    lut: SourceLike,
    sink: SinkLike = None,
    blocks: int | None = None,
    processes: Processes = None,
    verbose: bool = False,
    *,
    mode: LutMode = "raise",
) -> Any:
    """Replace each value by its entry in a look-up table: ``sink[i] = lut[source[i]]``.

    What ``lut[source]`` or `numpy.take` gives, by all cores, with every index checked, into a sink of any kind.

    Parameters
    ----------
    source : (n0, ..., nk) array-like of bool or integers
        The indices; False and True are 0 and 1. Any layout; a path or dataset is read in windows.
    lut : (n,) array-like
        The table. Entries of any type without Python objects, records included, are moved as they are.
    sink : (n0, ..., nk) ndarray, path or dataset, optional
        Where the result goes. It has the table's type, or one the table casts to safely. `source` itself (with an item
        size that fits) is replaced in place; any other overlap with `source` or `lut` is refused.
    blocks : int, optional
        Kept for callers of older interfaces; the cut of the work does not depend on it.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.
    verbose : bool
        Show a progress bar.
    mode : {'raise', 'clip', 'wrap'}
        What an index outside of the table means: an error, the nearest entry, or the entry counted from the other end,
        as in `numpy.take`. A table has no negative entries: under 'raise' a negative index is an error.

    Returns
    -------
    sink : (n0, ..., nk) ndarray
        The sink that was given (a memmap for a path), or a fresh array in the order of the source.

    Raises
    ------
    IndexRangeError
        Under ``mode='raise'``, with the first bad index and its position; what the sink holds is then not defined,
        except in place, where nothing has changed.
    DTypeError
        If `source` is not of integers or truth values, or the table does not cast safely to the sink's type.
    ShapeError
        If the table has not one dimension, or the sink another shape than the source.
    LayoutError
        If the sink is read-only or shares memory with the source or the table.

    Notes
    -----
    One pass over source and sink. A source that another thread writes to can give other entries, but never a read
    outside of the table.

    References
    ----------
    .. [1] `numpy.take`.
    .. [2] ClearMap ``ArrayProcessing.apply_lut``, which does not check the indices.

    Examples
    --------
    >>> import numpy as np
    >>> import megalith
    >>> megalith.apply_lut(np.array([[0, 2], [1, 1]]), np.array([10.0, 20.0, 30.0]))
    array([[10., 30.],
           [20., 20.]])
    >>> megalith.apply_lut(np.array([-1, 7]), np.array([1, 2, 3]), mode='clip')
    array([1, 3])
    """
    threads = _requested(processes, blocks)
    _one_of("mode", mode, ("raise", "clip", "wrap"))
    source = as_source(source)
    _kind("source", source.dtype, "biu", "bool and integers")
    table, lut_dtype = _table(lut)
    with Target(sink, source.shape, lut_dtype, _order(source)) as target:
        table = _cast_table(table, target.dtype)
        with progress(verbose, "apply_lut", source.nbytes) as bar:

            def kernel(values: AnyArray, out: AnyArray) -> None:
                _core.apply_lut(values, table, out, mode, threads, bar.tick)

            _elementwise(source, target, kernel, threads, bar)
    return target.result


def apply_lut_to_index(
    source: SourceLike,
    kernel: SourceLike,
    lut: SourceLike,
    sink: SinkLike = None,
    processes: Processes = None,
    verbose: bool = False,
) -> Any:
    """Correlate with an index kernel and look the sums up in a table.

    ``lut[scipy.ndimage.correlate(source, kernel, mode='constant', output=int64)]`` in one pass, without the array of
    indices. With a kernel of powers of two and a table over all patterns it applies any local rule to a mask:
    smoothing, thinning, topology.

    Parameters
    ----------
    source : (n0, ..., nk) array-like of bool, integers or floats
        Any layout and number of dimensions; a path or dataset is read in windows. Zeros lie outside of it.
    kernel : (m0, ..., mk) array-like of integers or floats
        The weights, with their centre at ``m // 2`` along each axis. Integers over an integer source are summed
        exactly in 64 bits; otherwise sums are made in double precision and truncated once.
    lut : (n,) array-like
        The table; entries of 1, 2, 4, 8 or 16 bytes.
    sink : (n0, ..., nk) ndarray, path or dataset, optional
        Where the result goes; as in `apply_lut`, but never in place.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    sink : (n0, ..., nk) ndarray
        The sink that was given (a memmap for a path), or a fresh array in the order of the source.

    Raises
    ------
    IndexRangeError
        With the first index (negative ones included) outside of the table and its position.
    ShapeError
        If kernel and source have different numbers of dimensions, or an axis of the kernel is empty.
    DTypeError
        If types are not supported.
    LayoutError
        If the sink is read-only or shares memory with the source, the kernel or the table.

    Notes
    -----
    Rows of the source are converted once and used for all sums they are part of.

    References
    ----------
    .. [1] `scipy.ndimage.correlate`.
    .. [2] ClearMap ``ArrayProcessing.apply_lut_to_index``, for three dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> import megalith
    >>> megalith.apply_lut_to_index(np.array([1, 0, 1, 1]), np.array([1, 2, 4]), np.arange(8) * 10)
    array([20, 50, 60, 30])
    """
    threads = _requested(processes)
    source = as_source(source)
    _kind("source", source.dtype, "biuf", "bool, integers and floats")
    weights = as_source(kernel).array
    _kind("kernel", weights.dtype, "biuf", "bool, integers and floats")
    if weights.ndim != source.ndim or 0 in weights.shape:
        expected = f"{source.ndim} axes of length 1 or more"
        message = f"kernel: got shape {weights.shape}, expected {expected}"
        raise ShapeError(message, name="kernel", got=weights.shape, expected=expected)
    weights = np.ascontiguousarray(weights, np.float64 if weights.dtype.kind == "f" else np.int64).reshape(weights.shape)
    table, lut_dtype = _table(lut)
    before = tuple(n // 2 for n in weights.shape)
    after = tuple(n - 1 - n // 2 for n in weights.shape)
    with Target(sink, source.shape, lut_dtype, _order(source)) as target:
        table = _cast_table(table, target.dtype)
        if table.dtype.itemsize not in (1, 2, 4, 8, 16):
            message = f"lut: items of {table.dtype.itemsize} bytes are not supported; supported: 1, 2, 4, 8, 16"
            raise DTypeError(message, name="lut", got=str(table.dtype), supported="items of 1, 2, 4, 8 or 16 bytes")
        with progress(verbose, "apply_lut_to_index", source.nbytes) as bar:

            def run(values: AnyArray, out: AnyArray) -> None:
                if values.ndim == 0:
                    values, out = values.reshape(1), out.reshape(1)
                    _core.apply_lut_to_index(values, weights.reshape(1), table, out, threads, bar.tick)
                else:
                    _core.apply_lut_to_index(values, weights, table, out, threads, bar.tick)

            _elementwise(source, target, run, threads, bar, before, after)
    return target.result


def _table(lut: SourceLike) -> tuple[AnyArray, np.dtype[Any]]:
    table = as_source(lut).array
    if table.ndim != 1:
        message = f"lut: got shape {table.shape}, expected one dimension"
        raise ShapeError(message, name="lut", got=table.shape, expected="(n,)")
    return table, table.dtype


def _cast_table(table: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    if not np.can_cast(table.dtype, dtype, "safe"):
        message = f"sink: dtype {dtype} cannot hold every value of the table's {table.dtype}"
        raise DTypeError(message, name="sink", got=str(dtype), supported=f"types {table.dtype} casts to safely")
    return np.require(table.astype(dtype, copy=False), requirements=["C", "A"])


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        expected = ", ".join(repr(option) for option in allowed)
        raise ArgumentError(f"{name}: got {value!r}, expected one of {expected}", name=name, got=value, expected=expected)


def _elementwise(
    source: Source,
    target: Target,
    kernel: Callable[[AnyArray, AnyArray], None],
    threads: int | None,
    bar: Bar,
    before: tuple[int, ...] | None = None,
    after: tuple[int, ...] | None = None,
) -> None:
    """Run a kernel whose result at a position depends on the source within a margin of it."""
    if not source.streams and not target.streams:
        kernel(source.array, target.array)
        return
    margin = (0,) * source.ndim
    windows = boxes(
        source.shape, max(source.dtype.itemsize, target.dtype.itemsize), _order(source), chunks=source.chunks or target.chunks
    )
    bar.split(len(windows))
    reader = source.reader()
    for window in windows:
        grown, inner = with_halo(window, source.shape, before or margin, after or margin)
        values = reader.read(grown, processes=threads)
        out = target.view(window) if grown == window else np.empty(values.shape, target.dtype)
        try:
            kernel(values, out)
        except IndexRangeError as error:
            raise _moved(error, grown) from None
        target.store(window, out if grown == window else out[inner])
        bar.part_done()


def _moved(error: IndexRangeError, window: Box) -> IndexRangeError:
    """Return an error of a window with its position in the whole array."""
    position = tuple(part.start + i for part, i in zip(window, error.position, strict=True))  # type: ignore[attr-defined]
    message = error.message.replace(f"position {list(error.position)}", f"position {list(position)}")  # type: ignore[attr-defined]
    return IndexRangeError(message, index=error.index, size=error.size, position=position)  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------------- correlation


def correlate1d(
    source: SourceLike,
    kernel: SourceLike,
    sink: SinkLike = None,
    axis: int = 0,
    processes: Processes = None,
    verbose: bool = False,
    *,
    mode: CorrelateMode = "constant",
    cval: complex = 0.0,
    origin: int = 0,
    dtype: npt.DTypeLike | None = None,
    fast: bool = False,
) -> Any:
    """Correlate with a one-dimensional kernel along an axis.

    `scipy.ndimage.correlate1d`, bit for bit, by all cores: products and sums in double precision in SciPy's order,
    converted once at the end.

    Parameters
    ----------
    source : (n0, ..., nk) array-like of bool, integers, floats or complex numbers
        Any layout; a path or dataset is read in windows.
    kernel : (m,) array-like of numbers
        The weights; may be longer than the axis. Complex weights are conjugated, as in SciPy.
    sink : (n0, ..., nk) ndarray, path or dataset, optional
        Where the result goes; its type is that of the result. `source` itself is replaced in place (unless the kernel
        is complex); any other overlap is refused.
    axis : int
        The axis, negative ones counted from the end.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.
    verbose : bool
        Show a progress bar.
    mode : {'constant', 'nearest', 'reflect', 'mirror', 'wrap'}
        What lies beyond the ends of the axis, as in SciPy ('grid-constant', 'grid-mirror' and 'grid-wrap' too).
    cval : float
        What lies there under 'constant'; never cast to the type of the source.
    origin : int
        Shift of the kernel: 0 centres it, positive values move it to the left.
    dtype : data type, optional
        Type of the result, if no sink is given; None means ``numpy.result_type(source, kernel)``.
    fast : bool
        Allow single precision and fused operations for float32 results, no longer bit for bit SciPy's.

    Returns
    -------
    sink : (n0, ..., nk) ndarray
        The sink that was given (a memmap for a path), or a fresh array in the order of the source.

    Raises
    ------
    ShapeError
        If the kernel is empty or has not one dimension, there is no such axis, or the sink has another shape.
    ArgumentError
        If the mode is unknown or the origin moves the kernel off its centre.
    DTypeError
        If types have no meaning here (dates, records), or a complex result has a real sink.
    LayoutError
        If the sink is read-only or overlaps the source in part.

    Notes
    -----
    Integer results are truncated toward zero and wrap as SciPy's do on x86-64, on every processor. Truth values of a
    bool result are True where SciPy's byte is not 0. The result is the same for any number of threads.

    References
    ----------
    .. [1] `scipy.ndimage.correlate1d`.
    .. [2] ClearMap ``ArrayProcessing.correlate1d`` (mode 'constant' with 0).

    Examples
    --------
    >>> import numpy as np
    >>> import megalith
    >>> megalith.correlate1d(np.array([2, 8, 0, 4, 1, 9, 9, 0]), [1, 3], mode='reflect')
    array([ 8, 26,  8, 12,  7, 28, 36,  9])
    """
    threads = _requested(processes)
    source = as_source(source)
    weights = as_source(kernel).array
    for name, given in (("source", source.dtype), ("kernel", weights.dtype)):
        _kind(name, given, "biufc", "bool, integers, floats and complex numbers")
    if weights.ndim != 1 or weights.size == 0:
        message = f"kernel: got shape {weights.shape}, expected one dimension with one weight or more"
        raise ShapeError(message, name="kernel", got=weights.shape, expected="(m,), m >= 1")
    axis = _checks.axis_index(axis, source.ndim)
    _one_of("mode", mode, MODES)
    origin = _checks.integer("origin", origin)
    low, high = -(weights.size // 2), (weights.size - 1) // 2
    if not low <= origin <= high:
        message = f"origin: got {origin} for a kernel of {weights.size}, expected {low} to {high}"
        raise ArgumentError(message, name="origin", got=origin, expected=f"{low} to {high}")
    is_complex = "c" in (source.dtype.kind, weights.dtype.kind)
    fill = _cval(cval, source.dtype)
    if dtype is None:
        result_dtype = np.result_type(source.dtype, weights.dtype)
    else:
        result_dtype = np.dtype(dtype)
    with Target(sink, source.shape, result_dtype, _order(source)) as target:
        if is_complex and target.dtype.kind != "c":
            message = f"sink: the result is complex, got {target.dtype}"
            raise DTypeError(message, name="sink", got=str(target.dtype), supported="complex64 and complex128")
        _kind("sink", target.dtype, "biufc", "bool, integers, floats and complex numbers")
        with progress(verbose, "correlate1d", source.nbytes) as bar:

            def real(values: AnyArray, part: AnyArray, out: AnyArray, value: float, border: str) -> None:
                _core.correlate1d(values, part, out, axis, border, value, origin, fast, threads, bar.tick)

            def run(values: AnyArray, out: AnyArray, border: str = mode) -> None:
                if is_complex:
                    _correlate_complex(real, values, weights, out, fill, border)
                elif out.dtype.kind == "c":
                    out.imag = 0
                    real(values, real_weights, out.real, fill.real, border)
                else:
                    real(values, real_weights, out, fill.real, border)

            real_weights = None if is_complex else np.ascontiguousarray(weights, np.float64)
            if source.streams or target.streams:
                before = weights.size // 2 + origin
                after = weights.size - 1 - before
                _correlate_streamed(source, target, run, axis, mode, before, after, threads, bar)
            elif is_complex and weights.dtype.kind == "c" and np.may_share_memory(source.array, target.array):
                _core.refuse_overlap(target.array, source.array)
                run(source.array, target.array)
            else:
                run(source.array, target.array)
    return target.result


def _cval(cval: complex, dtype: np.dtype[Any]) -> complex:
    try:
        value = complex(cval)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"cval: got {cval!r}, expected a number", name="cval", got=cval, expected="float") from error
    if np.iscomplexobj(cval) and dtype.kind != "c":
        message = f"cval: got {cval!r} for a real source, expected a real number"
        raise ArgumentError(message, name="cval", got=cval, expected="float")
    return value


def _correlate_complex(
    real: Callable[[AnyArray, AnyArray, AnyArray, float, str], None],
    values: AnyArray,
    weights: AnyArray,
    out: AnyArray,
    cval: complex,
    mode: str,
) -> None:
    """Correlate by real parts, in SciPy's order and with its roundings in between."""
    if weights.dtype.kind == "c":
        weights = weights.conj().astype(np.complex128, copy=False)
    parts = [np.ascontiguousarray(part, np.float64) for part in (weights.real, weights.imag)]
    if values.dtype.kind != "c":
        real(values, parts[0], out.real, cval.real, mode)
        real(values, parts[1], out.imag, cval.real, mode)
    elif weights.dtype.kind != "c":
        real(values.real, parts[0], out.real, cval.real, mode)
        real(values.imag, parts[0], out.imag, cval.imag, mode)
    else:
        temporary = np.empty(values.shape, values.real.dtype.newbyteorder("="))
        real(values.real, parts[0], out.real, cval.real, mode)
        real(values.imag, parts[1], temporary, cval.imag, mode)
        out.real -= temporary
        real(values.real, parts[1], out.imag, cval.real, mode)
        real(values.imag, parts[0], temporary, cval.imag, mode)
        out.imag += temporary


def _correlate_streamed(
    source: Source,
    target: Target,
    run: Callable[..., None],
    axis: int,
    mode: str,
    before: int,
    after: int,
    threads: int | None,
    bar: Bar,
) -> None:
    """Correlate window by window: whole lines where they fit, otherwise stretches of lines with a margin."""
    itemsize = max(source.dtype.itemsize, target.dtype.itemsize)
    windows = boxes(source.shape, itemsize, _order(source), chunks=source.chunks or target.chunks, keep=axis)
    bar.split(len(windows))
    reader = source.reader()
    n = source.shape[axis]
    for window in windows:
        part = window[axis]
        if part.stop - part.start == n:
            values = reader.read(window, processes=threads)
            out = target.view(window)
            run(values, out)
            target.store(window, out)
            bar.part_done()
            continue
        # What lies within the margin beyond an end of the axis is fetched from where the mode says it comes from.
        # Under 'constant' nothing is fetched: the slab ends where the source does, and the core fills in the value.
        wanted = np.arange(part.start - before, part.stop + after, dtype=np.int64)
        if mode in ("constant", "grid-constant"):
            wanted = wanted[(wanted >= 0) & (wanted < n)]
            skip = part.start - int(wanted[0])
        else:
            wanted = _extended(wanted, n, mode)
            skip = before
        shape = [p.stop - p.start for p in window]
        shape[axis] = len(wanted)
        slab = np.empty(shape, source.dtype, order=_order(source))
        start = 0
        for low, high in runs(wanted):
            place = [slice(None)] * source.ndim
            place[axis] = slice(start, start + high - low)
            box = (*window[:axis], slice(low, high), *window[axis + 1 :])
            reader.read(box, slab[tuple(place)], processes=threads)
            start += high - low
        out = np.empty(shape, target.dtype, order=_order(source))
        run(slab, out, "constant")
        inner = [slice(None)] * source.ndim
        inner[axis] = slice(skip, skip + part.stop - part.start)
        target.store(window, out[tuple(inner)])
        bar.part_done()


def _extended(positions: npt.NDArray[np.int64], n: int, mode: str) -> npt.NDArray[np.int64]:
    """Return where along an axis of length n the values at positions beyond its ends come from."""
    if mode == "nearest" or (mode == "mirror" and n == 1):
        return positions.clip(0, n - 1)
    if mode in ("wrap", "grid-wrap"):
        return positions % n
    period = 2 * n if mode in ("reflect", "grid-mirror") else 2 * n - 2
    folded = positions % period
    return np.where(folded < n, folded, period - folded - (period == 2 * n))


# ----------------------------------------------------------------------------------------------------------- sums


def block_sums(source: SourceLike, blocks: int | None = None, processes: Processes = None) -> AnyArray:
    """Sum the values of each block of the C-order sequence.

    `numpy.add.reduceat` over `block_ranges`, by all cores.

    Parameters
    ----------
    source : (n0, ..., nk) array-like of bool or numbers
        Any layout; a path or dataset is read in windows.
    blocks : int, optional
        Number of blocks, see `block_ranges`.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.

    Returns
    -------
    sums : (blocks,) ndarray
        int64 for bool and signed integers, uint64 for unsigned ones (both wrap), float64 for floats, complex128 for
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
    for any number of threads, in memory and streamed.

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
    source = as_source(source)
    _kind("source", source.dtype, "biufc", "bool, integers, floats and complex numbers")
    dtype = {"u": np.uint64, "f": np.float64, "c": np.complex128}.get(source.dtype.kind, np.int64)
    return _reduce(source, _core.block_sums, dtype, blocks, processes)


def block_counts(source: SourceLike, blocks: int | None = None, processes: Processes = None) -> npt.NDArray[np.int64]:
    """Count the non-zero entries of each block of the C-order sequence.

    Parameters
    ----------
    source : (n0, ..., nk) array-like of bool, numbers or dates
        Any layout; a path or dataset is read in windows.
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
    source = as_source(source)
    _kind("source", source.dtype, "biufcmM", "bool, numbers and dates")
    return _reduce(source, _core.block_counts, np.int64, blocks, processes)


def _reduce(
    source: Source, kernel: Callable[..., None], dtype: npt.DTypeLike, blocks: int | None, processes: Processes
) -> AnyArray:
    threads = _requested(processes)
    boundaries = block_ranges(source, blocks, processes)
    sums = np.zeros(len(boundaries) - 1, dtype)
    if not source.streams:
        kernel(source.array, boundaries, sums, threads)
        return sums
    # Each block is cut in pieces as the core cuts it; windows hold whole pieces, and the sums of pieces are summed up
    # again by the core: the same tree as in memory.
    piece = _core.SUM_PIECE
    cuts = [np.append(np.arange(a, b, piece), b) if b > a else np.array([a]) for a, b in zip(boundaries, boundaries[1:], strict=False)]
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
        self._boxes = boxes(source.shape, source.dtype.itemsize, "C", chunks=source.chunks if source.ndim == 1 else None)
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


# ----------------------------------------------------------------------------------------------------- neighbours


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
    threads = _requested(processes)
    source = as_source(indices)
    if source.ndim != 1:
        message = f"indices: got shape {source.shape}, expected one dimension"
        raise ShapeError(message, name="indices", got=source.shape, expected="(n,)")
    if source.size == 0 and source._array is not None and source.dtype == np.float64:  # noqa: SLF001
        return np.empty((0, 2), np.int64)  # The empty list, to which NumPy gives a type of its own.
    _kind("indices", source.dtype, "iu", "integers")
    offset = min(max(_checks.integer("offset", offset), EVERYTHING), NOTHING)
    values = source.reader().read(whole(source.shape), processes=threads) if source.streams else source.array
    with progress(verbose, "neighbours", source.nbytes, parts=2) as bar:
        found = _core.find_pairs(values, offset, threads, bar.tick)
        bar.part_done()
        pairs = np.empty((len(found), 2), np.int64)
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

"""Look-up tables: `apply_lut` and `apply_lut_to_index`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _core
from megalith._progress import progress
from megalith.arrays.kernels.common import (
    check_kind,
    check_option,
    elementwise,
    fresh_like,
    order_of,
    thread_request,
)
from megalith.arrays.sink import Target
from megalith.arrays.source import array_of, is_lazy, source_of
from megalith.exceptions import DTypeError, ShapeError

if TYPE_CHECKING:
    from megalith._typing import AnyArray, LutMode, Processes, SinkLike, SourceLike


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
        The indices; False and True are 0 and 1. Any layout; a path or dataset is read in windows. A dask array is
        worked on chunk by chunk, when the result is computed.
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
        The sink that was given (a memmap for a path), or a fresh array in the order of the source; a dask array if the
        source is one and there is no sink.

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
    if is_lazy(source):
        from megalith.arrays import lazy

        return lazy.apply_lut(source, lut, sink, blocks, processes, verbose, mode=mode)
    threads = thread_request(processes, blocks)
    check_option("mode", mode, ("raise", "clip", "wrap"))
    table = table_of(lut)
    if sink is None and type(source) is np.ndarray and not verbose and table.dtype.itemsize > 0:
        # As below, with less around it: small arrays feel that.
        check_kind("source", source.dtype, "biu", "bool and integers")
        fresh = fresh_like(source, table.dtype)
        _core.apply_lut(source, table, fresh, mode, threads)
        return fresh
    source = source_of(source)
    check_kind("source", source.dtype, "biu", "bool and integers")
    with Target(sink, source.shape, table.dtype, order_of(source)) as target:
        table = _cast_table(table, target.dtype)
        with progress(verbose, "apply_lut", source.nbytes) as bar:

            def kernel(values: AnyArray, out: AnyArray, _: tuple[int, ...]) -> None:
                _core.apply_lut(values, table, out, mode, threads, bar.tick)

            elementwise(source, target, kernel, threads, bar)
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
        Any layout and number of dimensions; a path or dataset is read in windows. Zeros lie outside of it. A dask array
        is worked on chunk by chunk, when the result is computed.
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
        The sink that was given (a memmap for a path), or a fresh array in the order of the source; a dask array if the
        source is one and there is no sink.

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
    if is_lazy(source):
        from megalith.arrays import lazy

        return lazy.apply_lut_to_index(source, kernel, lut, sink, processes, verbose)
    threads = thread_request(processes)
    source = source_of(source)
    check_kind("source", source.dtype, "biuf", "bool, integers and floats")
    weights = array_of(kernel)
    check_kind("kernel", weights.dtype, "biuf", "bool, integers and floats")
    if weights.ndim != source.ndim or 0 in weights.shape:
        expected = f"{source.ndim} axes of length 1 or more"
        message = f"kernel: got shape {weights.shape}, expected {expected}"
        raise ShapeError(message, name="kernel", got=weights.shape, expected=expected)
    weights = sum_weights(weights, source.dtype)
    table = table_of(lut)
    before, after = margins(weights.shape)
    with Target(sink, source.shape, table.dtype, order_of(source)) as target:
        table = _cast_table(table, target.dtype)
        if table.dtype.itemsize not in (1, 2, 4, 8, 16):
            message = f"lut: items of {table.dtype.itemsize} bytes are not supported; supported: 1, 2, 4, 8, 16"
            raise DTypeError(message, name="lut", got=str(table.dtype), supported="items of 1, 2, 4, 8 or 16 bytes")
        with progress(verbose, "apply_lut_to_index", source.nbytes) as bar:

            def run(values: AnyArray, out: AnyArray, start: tuple[int, ...]) -> None:
                if values.ndim == 0:
                    values, out = values.reshape(1), out.reshape(1)
                    _core.apply_lut_to_index(values, weights.reshape(1), table, out, (0,), threads, bar.tick)
                else:
                    _core.apply_lut_to_index(values, weights, table, out, start, threads, bar.tick)

            elementwise(source, target, run, threads, bar, before, after)
    return target.result


def sum_weights(weights: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    """Return weights in the type that sums are made in: over a float source double precision, whatever they are."""
    is_float = "f" in (weights.dtype.kind, dtype.kind)
    return np.require(weights, np.float64 if is_float else np.int64, ["C", "A"])


def margins(lengths: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return how far a kernel reaches before and after its centre."""
    return tuple(n // 2 for n in lengths), tuple(n - 1 - n // 2 for n in lengths)


def table_of(lut: SourceLike) -> AnyArray:
    """Return a look-up table.

    Raises
    ------
    ShapeError
        If it has not one dimension.
    """
    table = array_of(lut)
    if table.ndim != 1:
        message = f"lut: got shape {table.shape}, expected one dimension"
        raise ShapeError(message, name="lut", got=table.shape, expected="(n,)")
    return table


def _cast_table(table: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    if table.dtype == dtype and dtype.itemsize > 0:
        return table
    if not np.can_cast(table.dtype, dtype, "safe"):
        message = f"sink: dtype {dtype} cannot hold every value of the table's {table.dtype}"
        raise DTypeError(message, name="sink", got=str(dtype), supported=f"types {table.dtype} casts to safely")
    if dtype.itemsize == 0:
        raise DTypeError(f"lut: {dtype} has no size", name="lut", got=str(dtype), supported="types with a size")
    return table.astype(dtype, copy=False)

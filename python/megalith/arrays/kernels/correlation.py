"""Correlation along an axis: `correlate1d`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _checks, _core
from megalith._progress import progress
from megalith.arrays.blocks import boxes, runs
from megalith.arrays.kernels.common import (
    check_kind,
    check_option,
    fresh_like,
    is_streamed,
    order_of,
    refuse_other_view,
    refuse_overlap,
    thread_request,
)
from megalith.arrays.sink import Target
from megalith.arrays.source import array_of, is_lazy, source_of
from megalith.exceptions import ArgumentError, DTypeError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from megalith._progress import Bar
    from megalith._typing import AnyArray, CorrelateMode, Processes, SinkLike, SourceLike, Tick
    from megalith.arrays.source import Source


_DOUBLE = np.dtype(np.float64)
MODES = ("constant", "nearest", "reflect", "mirror", "wrap", "grid-constant", "grid-mirror", "grid-wrap")


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
        Any layout; a path or dataset is read in windows. A dask array is worked on chunk by chunk, with what the kernel
        reaches of neighbouring chunks, when the result is computed.
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
        Allow sums in single precision, no longer SciPy's bits: 1.5 times as fast for 31 weights. That is done for
        more than 5 weights if the result is of the source's type, float32 or an integer of up to 16 bits, or float32
        for such integers or truth values. Each is off by ``(m + 3) * 2**-24`` of the sum of its
        ``abs(source * kernel)`` at most, as long as that is in the range of float32; integers, which are truncated, by
        one.

    Returns
    -------
    sink : (n0, ..., nk) ndarray
        The sink that was given (a memmap for a path), or a fresh array in the order of the source; a dask array if the
        source is one and there is no sink.

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
    bool result are True where SciPy's byte is not 0. The result is the same for any number of threads. With `fast` its
    last bits depend on the processor, and on the layout, chunks or windows in which the source is seen: lines and rows
    that are too short to gain are summed as ever.

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
    if is_lazy(source):
        from megalith.arrays import lazy

        return lazy.correlate1d(
            source, kernel, sink, axis, processes, verbose, mode=mode, cval=cval, origin=origin, dtype=dtype, fast=fast
        )
    threads = thread_request(processes)
    is_plain = sink is None and type(source) is np.ndarray and not verbose
    if not is_plain:
        source = source_of(source)
    weights = array_of(kernel)
    for name, given in (("source", source.dtype), ("kernel", weights.dtype)):
        check_kind(name, given, "biufc", "bool, integers, floats and complex numbers")
    if weights.ndim != 1 or weights.size == 0:
        message = f"kernel: got shape {weights.shape}, expected one dimension with one weight or more"
        raise ShapeError(message, name="kernel", got=weights.shape, expected="(m,), m >= 1")
    axis = _checks.axis_index(axis, source.ndim)
    check_option("mode", mode, MODES)
    origin = _checks.integer("origin", origin)
    low, high = -(weights.size // 2), (weights.size - 1) // 2
    if not low <= origin <= high:
        message = f"origin: got {origin} for a kernel of {weights.size}, expected {low} to {high}"
        raise ArgumentError(message, name="origin", got=origin, expected=f"{low} to {high}")
    is_complex = "c" in (source.dtype.kind, weights.dtype.kind)
    fill = _cval(cval, source.dtype)
    if dtype is not None:
        result_dtype = np.dtype(dtype)
    else:
        is_one = source.dtype is weights.dtype and source.dtype.isnative  # The common case, and soon done.
        result_dtype = source.dtype if is_one else np.result_type(source.dtype, weights.dtype)
    if is_plain and dtype is None and not is_complex:
        # As below, with less around it: small arrays feel that.
        fresh = fresh_like(source, result_dtype)
        _core.correlate1d(source, _doubles(weights), fresh, axis, mode, fill.real, origin, fast, threads)
        return fresh
    source = source_of(source)
    with Target(sink, source.shape, result_dtype, order_of(source)) as target:
        if dtype is not None and target.dtype != result_dtype:
            message = f"dtype: got {result_dtype} with a sink of {target.dtype}; give one of the two"
            raise ArgumentError(message, name="dtype", got=str(result_dtype), expected=str(target.dtype))
        if is_complex and target.dtype.kind != "c":
            message = f"sink: the result is complex, got {target.dtype}"
            raise DTypeError(message, name="sink", got=str(target.dtype), supported="complex64 and complex128")
        check_kind("sink", target.dtype, "biufc", "bool, integers, floats and complex numbers")
        with progress(verbose, "correlate1d", source.nbytes) as bar:
            how = (origin, fast, threads, bar.tick)
            if not target.is_fresh:
                refuse_other_view(source, target)
            if is_streamed(source, target):
                run = partial(_correlate, weights=weights, axis=axis, cval=fill, how=how)
                before = weights.size // 2 + origin
                after = weights.size - 1 - before
                _correlate_streamed(source, target, run, axis, mode, before, after, threads, bar)
            else:
                # A complex array is correlated in parts, of which the core sees one at a time.
                in_parts = "c" in (source.dtype.kind, target.dtype.kind)
                if in_parts and (weights.dtype.kind == "c" or not _is_same(source.array, target.array)):
                    refuse_overlap(source, target)
                _correlate(source.array, target.array, mode, weights, axis, fill, how)
    return target.result


def _correlate(
    values: AnyArray,
    out: AnyArray,
    mode: str,
    weights: AnyArray,
    axis: int,
    cval: complex,
    how: tuple[int, bool, int | None, Tick],
) -> None:
    """Correlate an array in memory; `how` is what else the core takes."""
    if "c" in (values.dtype.kind, weights.dtype.kind):

        def real(values: AnyArray, part: AnyArray, out: AnyArray, value: float) -> None:
            _core.correlate1d(values, part, out, axis, mode, value, *how)

        _correlate_complex(real, values, weights, out, cval)
    elif out.dtype.kind == "c":
        _correlate(values, out.real, mode, weights, axis, cval, how)
        out.imag = 0
    else:
        _core.correlate1d(values, _doubles(weights), out, axis, mode, cval.real, *how)


def _is_same(a: AnyArray, b: AnyArray) -> bool:
    """Whether two arrays are the same memory seen in the same way."""
    return bool(a.__array_interface__ == b.__array_interface__)


def _doubles(values: AnyArray) -> AnyArray:
    flags = values.flags
    if values.dtype == _DOUBLE and flags.c_contiguous and flags.aligned:
        return values
    return np.require(values, np.float64, ["C", "A"])


def _cval(cval: complex, dtype: np.dtype[Any]) -> complex:
    if type(cval) is float:
        return cval
    try:
        value = complex(cval)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"cval: got {cval!r}, expected a number", name="cval", got=cval, expected="float"
        ) from error
    if np.iscomplexobj(cval) and dtype.kind != "c":
        message = f"cval: got {cval!r} for a real source, expected a real number"
        raise ArgumentError(message, name="cval", got=cval, expected="float")
    return value


def _correlate_complex(
    real: Callable[[AnyArray, AnyArray, AnyArray, float], None],
    values: AnyArray,
    weights: AnyArray,
    out: AnyArray,
    cval: complex,
) -> None:
    """Correlate by real parts, in SciPy's order and with its roundings in between."""
    if weights.dtype.kind == "c":
        weights = weights.conj().astype(np.complex128, copy=False)
    parts = [_doubles(part) for part in (weights.real, weights.imag)]
    if values.dtype.kind != "c":
        real(values, parts[0], out.real, cval.real)
        real(values, parts[1], out.imag, cval.real)
    elif weights.dtype.kind != "c":
        real(values.real, parts[0], out.real, cval.real)
        real(values.imag, parts[0], out.imag, cval.imag)
    else:
        temporary = _core.empty(values.shape, values.real.dtype.newbyteorder("="))
        real(values.real, parts[0], out.real, cval.real)
        real(values.imag, parts[1], temporary, cval.imag)
        out.real -= temporary
        real(values.real, parts[1], out.imag, cval.real)
        real(values.imag, parts[0], temporary, cval.imag)
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
    windows = boxes(
        source.shape, itemsize, order_of(source), chunks=source.chunks, sink_chunks=target.chunks, keep=axis
    )
    bar.split(len(windows))
    reader = source.reader()
    n = source.shape[axis]
    for window in windows:
        part = window[axis]
        if part.stop - part.start == n:
            values = reader.read(window, processes=threads)
            out = target.view(window)
            run(values, out, mode)
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
            wanted = extended(wanted, n, mode)
            skip = before
        shape = [p.stop - p.start for p in window]
        shape[axis] = len(wanted)
        slab = _core.empty(shape, source.dtype, order_of(source))
        start = 0
        for low, high in runs(wanted):
            place = [slice(None)] * source.ndim
            place[axis] = slice(start, start + high - low)
            box = (*window[:axis], slice(low, high), *window[axis + 1 :])
            reader.read(box, slab[tuple(place)], processes=threads)
            start += high - low
        out = _core.empty(shape, target.dtype, order_of(source))
        run(slab, out, "constant")
        inner = [slice(None)] * source.ndim
        inner[axis] = slice(skip, skip + part.stop - part.start)
        target.store(window, out[tuple(inner)])
        bar.part_done()


def extended(positions: npt.NDArray[np.int64], n: int, mode: str) -> npt.NDArray[np.int64]:
    """Return where along an axis of length n the values at positions beyond its ends come from."""
    if mode == "nearest" or (mode == "mirror" and n == 1):
        return positions.clip(0, n - 1)
    if mode in ("wrap", "grid-wrap"):
        return positions % n
    period = 2 * n if mode in ("reflect", "grid-mirror") else 2 * n - 2
    folded = positions % period
    return np.where(folded < n, folded, period - folded - (period == 2 * n))

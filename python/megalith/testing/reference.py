"""What each function of `megalith.arrays` means, in NumPy and SciPy.

Plain and slow; the tests hold the library to these. Where an oracle itself is wrong (SciPy reads the raw byte of a
True, NumPy counts such bytes), the wrong part is put right here, in the open.
"""

import math
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from megalith.testing.cases import contiguous
from megalith.testing.layouts import Array

__all__ = [
    "MODES",
    "apply_lut",
    "apply_lut_to_index",
    "block_counts",
    "block_ranges",
    "block_sums",
    "block_sums_bound",
    "correlate1d",
    "grouped",
    "grouped_mean",
    "neighbours",
    "where",
]

Mode: TypeAlias = Literal[
    "reflect", "constant", "nearest", "mirror", "wrap", "grid-mirror", "grid-constant", "grid-wrap"
]
MODES: tuple[Mode, ...] = (
    "reflect", "constant", "nearest", "mirror", "wrap", "grid-mirror", "grid-constant", "grid-wrap",
)  # fmt: skip
"""Every name SciPy has for what lies beyond the edge."""


def where(source: Array, *, dtype: npt.DTypeLike = np.int64, above: float | None = None) -> Array:
    """Find the positions of non-zero entries.

    Parameters
    ----------
    source : ndarray
        Any array.
    dtype : dtype
        Integer type of the result.
    above : number, optional
        Find the entries greater than this instead.

    Returns
    -------
    where : (n, ndim) ndarray, (n,) for one axis
        Positions in C order.
    """
    plain = contiguous(source)
    hits = plain != np.zeros((), dtype=plain.dtype) if above is None else plain > above
    if plain.dtype.kind in "mM" and above is None:
        hits = plain.view(np.int64) != 0
    found = np.argwhere(hits).astype(dtype)
    return found[:, 0] if plain.ndim == 1 else found


def apply_lut(source: Array, lut: Array, *, mode: Literal["raise", "clip", "wrap"] = "raise") -> Array:
    """Look every value up in a table.

    Parameters
    ----------
    source : ndarray of bool or int
        Indices.
    lut : 1-d ndarray
        The table.
    mode : {'raise', 'clip', 'wrap'}
        What happens to an index outside of it.

    Returns
    -------
    sink : ndarray
        The entries, in the shape of `source`.

    Raises
    ------
    IndexError
        If `mode` is 'raise' and an index lies outside.
    """
    lut = np.asarray(lut)
    lut = np.array(lut, dtype=lut.dtype.newbyteorder("="), copy=True)
    values = contiguous(source)
    # A list of indices even for one: for an index without axes NumPy gives a scalar, and other bytes of True become 1.
    return lut[_places(values.reshape(-1), len(lut), mode)].reshape(values.shape)


def _places(values: Array, size: int, mode: str) -> npt.NDArray[np.intp]:
    """Turn values into indices of a table, exactly for every integer type."""
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    if mode == "raise":
        outside = (values < 0) | (values >= size)
        if outside.any():
            raise IndexError(f"{values[outside][0]} is outside a table of {size}")
        return values.astype(np.intp)
    if values.dtype != np.uint64:
        values = values.astype(np.int64)
        return np.mod(values, size) if mode == "wrap" else np.clip(values, 0, size - 1)
    n = np.uint64(size)
    return (values % n if mode == "wrap" else np.minimum(values, n - np.uint64(1))).astype(np.intp)


def apply_lut_to_index(source: Array, kernel: Array, lut: Array) -> Array:
    """Correlate with a kernel, zeros beyond the edges, and look the sum up in a table.

    Parameters
    ----------
    source : ndarray of bool or int
        Any number of axes.
    kernel : ndarray
        As many axes. Whole numbers are summed in 64 bits; floats as SciPy does and truncated once.
    lut : 1-d ndarray
        The table.

    Returns
    -------
    sink : ndarray
        The entries, in the shape of `source`.

    Raises
    ------
    IndexError
        If a sum lies outside the table.
    """
    plain, kernel = contiguous(np.asarray(source)), contiguous(np.asarray(kernel))
    if plain.ndim == 0:
        return apply_lut_to_index(plain.reshape(1), kernel.reshape(1), lut).reshape(())
    if kernel.dtype.kind == "f":
        import scipy.ndimage  # type: ignore[import-untyped,unused-ignore]

        if plain.dtype == np.bool_:
            plain = plain.astype(np.uint8)
        sums = scipy.ndimage.correlate(
            plain.astype(np.float64), kernel.astype(np.float64), mode="constant", cval=0.0
        ).astype(np.int64)
        return apply_lut(sums, lut)
    wide, weights = plain.astype(np.int64), kernel.astype(np.int64)
    before = [n // 2 for n in kernel.shape]
    padded = np.pad(wide, [(b, n - 1 - b) for b, n in zip(before, kernel.shape, strict=True)])
    total = np.zeros(plain.shape, dtype=np.int64)
    for place in np.ndindex(*kernel.shape):
        window = tuple(slice(p, p + n) for p, n in zip(place, plain.shape, strict=True))
        total += weights[place] * padded[window]
    return apply_lut(total, lut)


def correlate1d(
    source: Array,
    kernel: npt.ArrayLike,
    *,
    axis: int = 0,
    mode: Mode = "constant",
    cval: complex = 0.0,
    origin: int = 0,
    dtype: npt.DTypeLike | None = None,
) -> Array:
    """Correlate along an axis as `scipy.ndimage.correlate1d` does.

    Parameters
    ----------
    source : ndarray
        Any type; half precision is widened, which SciPy does not do itself.
    kernel : 1-d array_like
        The weights.
    axis, mode, cval, origin
        As SciPy has them.
    dtype : dtype, optional
        Type of the result; `numpy.result_type(source, kernel)` if not given.

    Returns
    -------
    sink : ndarray
        Half precision is rounded once from double; truth is where SciPy's byte is not zero.
    """
    import scipy.ndimage

    weights = contiguous(np.asarray(kernel))
    plain = contiguous(source)
    out = np.dtype(dtype) if dtype is not None else np.result_type(plain, weights)
    out = out.newbyteorder("=")
    if plain.dtype == np.bool_:
        plain = plain.astype(np.uint8)
    if plain.dtype == np.float16:
        plain = plain.astype(np.float64)
    sink = np.empty(plain.shape, dtype=np.float64 if out == np.float16 else out)
    with np.errstate(all="ignore"):
        scipy.ndimage.correlate1d(plain, weights, axis=axis, output=sink, mode=mode, cval=cval, origin=origin)
        if out == np.float16:
            return sink.astype(np.float16)
    return sink.view(np.uint8) != 0 if out == np.bool_ else sink


def block_ranges(size: int, blocks: int) -> list[int]:
    """Cut a number of elements into even blocks.

    Parameters
    ----------
    size : int
        Elements.
    blocks : int
        Blocks; at most one for each element, so that an empty array has none.

    Returns
    -------
    ranges : list of int
        `i * size // blocks` for i from 0 to `blocks`.
    """
    blocks = min(blocks, size)
    return [i * size // blocks if blocks else 0 for i in range(blocks + 1)]


def block_sums(source: Array, blocks: int) -> Array:
    """Sum each block of the C-order sequence of values.

    Parameters
    ----------
    source : ndarray
        Bool, integers, floats or complex.
    blocks : int
        Blocks, as in `block_ranges`.

    Returns
    -------
    sums : ndarray
        In 64 bits, wrapping, for whole numbers; correctly rounded doubles for the others.
    """
    flat = contiguous(source).reshape(-1)
    cuts = block_ranges(flat.size, blocks)
    parts = [flat[a:b] for a, b in pairwise(cuts)]
    if flat.dtype.kind in "bi":
        return np.array([part.sum(dtype=np.int64) for part in parts], dtype=np.int64)
    if flat.dtype.kind == "u":
        return np.array([part.sum(dtype=np.uint64) for part in parts], dtype=np.uint64)
    if flat.dtype.kind == "c":
        sums = np.empty(len(parts), dtype=np.complex128)
        sums.real = [_exact_sum(part.real) for part in parts]
        sums.imag = [_exact_sum(part.imag) for part in parts]
        return sums
    return np.array([_exact_sum(part) for part in parts], dtype=np.float64)


def _exact_sum(values: Array) -> float:
    """Sum of floats, rounded once; what double arithmetic gives where that is not a number or infinite."""
    values = values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        plain = float(values.sum())
    return math.fsum(values.tolist()) if np.isfinite(values).all() and math.isfinite(plain) else plain


def block_sums_bound(source: Array, blocks: int) -> npt.NDArray[np.float64]:
    """Error that a pairwise sum of doubles may have, block by block.

    Parameters
    ----------
    source : ndarray of float or complex
        The values.
    blocks : int
        Blocks.

    Returns
    -------
    bound : ndarray of float64
        64 rounding errors of the sum of the magnitudes: a pairwise sum of 2^40 values over runs of 128 in 16 lanes
        adds each value into fewer partial sums than that, a running sum of a block of 2^16 into a thousand times more.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        values = contiguous(source).reshape(-1).astype(np.complex128)
        flat = np.nan_to_num(np.abs(values.real), nan=0, posinf=0) + np.nan_to_num(np.abs(values.imag), nan=0, posinf=0)
        cuts = block_ranges(flat.size, blocks)
        return np.array([64 * 2.0**-53 * flat[a:b].sum() for a, b in pairwise(cuts)])


def block_counts(source: Array, blocks: int) -> npt.NDArray[np.int64]:
    """Count the non-zero values of each block of the C-order sequence.

    Parameters
    ----------
    source : ndarray
        Any array.
    blocks : int
        Blocks, as in `block_ranges`.

    Returns
    -------
    counts : ndarray of int64
        One count a block.
    """
    flat = contiguous(source).reshape(-1)
    hits = flat.view(np.int64) != 0 if flat.dtype.kind in "mM" else flat != np.zeros((), dtype=flat.dtype)
    cuts = block_ranges(flat.size, blocks)
    return np.array([int(hits[a:b].sum()) for a, b in pairwise(cuts)], dtype=np.int64)


def neighbours(indices: npt.ArrayLike, offset: int) -> npt.NDArray[np.int64]:
    """Find all pairs of positions whose values differ by an offset.

    Parameters
    ----------
    indices : 1-d array_like of int
        Sorted or not, with duplicates or not.
    offset : int
        The difference.

    Returns
    -------
    pairs : (n, 2) ndarray of int64
        All (i, j) with `indices[j] == indices[i] + offset`, in exact arithmetic, sorted by i and then by j.
    """
    values: list[Any] = np.asarray(indices).tolist()
    places: dict[int, list[int]] = {}
    for j, value in enumerate(values):
        places.setdefault(value, []).append(j)
    found = [(i, j) for i, value in enumerate(values) for j in places.get(value + offset, ())]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def grouped(ids: Array) -> tuple[npt.NDArray[np.int64], Array, npt.NDArray[np.int64]]:
    """Group positions by the id that stands at each.

    Parameters
    ----------
    ids : 1-d ndarray of int
        Any ids.

    Returns
    -------
    positions : (n,) ndarray of int64
        Of one id after the other, rising for each.
    found : (n_ids,) ndarray
        The ids, rising.
    bounds : (n_ids + 1,) ndarray of int64
        Where the positions of each begin and end.
    """
    values = contiguous(ids)
    found, counts = np.unique(values, return_counts=True)
    return np.argsort(values, kind="stable"), found, np.concatenate([[0], np.cumsum(counts)])


def grouped_mean(values: Array, ids: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Average rows by id, without those of negative ids.

    Parameters
    ----------
    values : (n, ...) ndarray of bool, int or float
        The rows.
    ids : (n,) ndarray of int
        Their ids.

    Returns
    -------
    means : (n_ids, ...) ndarray of float64
        In the order of the ids.
    bound : (n_ids, ...) ndarray of float64
        What the rounding of sums in any order may come to: an ulp for each addition.
    """
    positions, found, bounds = grouped(ids)
    rows = contiguous(values).astype(np.float64)
    groups = [rows[positions[a:b]] for (a, b), i in zip(pairwise(bounds), found, strict=True) if i >= 0]
    shape = (len(groups), *rows.shape[1:])
    means = np.array([group.mean(axis=0) for group in groups]).reshape(shape)
    sizes = np.array([np.abs(group).sum(axis=0) for group in groups]).reshape(shape)
    return means, sizes * np.finfo(np.float64).eps + 1e-300

"""Element types, sizes and values for tests, and all pairs of such things."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import numpy.typing as npt

from megalith.testing.layouts import Array

__all__ = [
    "ALL",
    "BLOCK",
    "BOOL",
    "COMPLEX",
    "FLOATS",
    "INTS",
    "LARGE",
    "NUMERIC",
    "SIZES",
    "TIMES",
    "assert_identical",
    "contiguous",
    "pairs",
    "sample",
    "shape_of",
]

BLOCK = 1 << 16
"""Elements of a block of work in the core."""
LARGE = 24 * BLOCK + 40
"""More than a mebibyte of any type: work of this size is shared between threads."""
SIZES = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, LARGE)

INTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
BOOL = ("bool",)
TIMES = ("datetime64[us]", "timedelta64[s]")
NUMERIC = INTS + FLOATS + COMPLEX
ALL = BOOL + NUMERIC + TIMES


def shape_of(size: int, ndim: int) -> tuple[int, ...]:
    """Shape of a given size and number of axes.

    Parameters
    ----------
    size : int
        Elements, 1 for no axes.
    ndim : int
        Axes.

    Returns
    -------
    shape : tuple of int
        The prime factors of `size` dealt out to the axes, so that the product is exact.
    """
    if ndim == 0:
        if size != 1:
            raise ValueError(f"an array without axes has one element, not {size}")
        return ()
    if size == 0:
        return tuple(0 if i == ndim // 2 else i + 2 for i in range(ndim))
    shape = [1] * ndim
    rest, factor = size, 2
    factors = []
    while rest > 1:
        if factor * factor > rest:
            factor = rest
        if rest % factor:
            factor += 1
            continue
        factors.append(factor)
        rest //= factor
    for one in sorted(factors, reverse=True):
        # The shortest axis so far; of equals the last, so that a single axis is the contiguous one.
        i = min(range(ndim), key=lambda k: (shape[k], -k))
        shape[i] *= one
    return tuple(shape)


def sample(dtype: npt.DTypeLike, shape: tuple[int, ...], seed: int = 0, density: float = 0.5) -> Array:
    """Values of a type, with the awkward ones among them.

    Parameters
    ----------
    dtype : dtype
        Their type.
    shape : tuple of int
        Their shape.
    seed : int
        The same seed gives the same values.
    density : float
        Share of values that are not zero.

    Returns
    -------
    values : ndarray
        Zeros, small values, the extremes of the type; for floats also NaN, both infinities and both zeros; True as
        bytes other than 1.
    """
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape, dtype=np.int64))
    values: Array
    if dtype.kind == "b":
        values = rng.integers(1, 256, size, dtype=np.uint8).view(np.bool_)
    elif dtype.kind in "iu":
        info = np.iinfo(dtype)
        values = rng.integers(max(info.min, -100), 100, size).astype(dtype)
        extremes = np.array([info.max, info.min, info.max // 2, 1], dtype=dtype)
        _sprinkle(values, extremes, rng)
    elif dtype.kind == "f":
        values = (rng.standard_normal(size) * 50).astype(dtype)
        _sprinkle(values, np.array([np.nan, np.inf, -np.inf, -0.0, np.finfo(dtype).max], dtype=dtype), rng)
    elif dtype.kind == "c":
        part = np.dtype("f4" if dtype.itemsize == 8 else "f8")
        values = np.empty(size, dtype=dtype)
        values.real = sample(part, (size,), seed + 1)
        values.imag = sample(part, (size,), seed + 2)
    elif dtype.kind in "mM":
        values = rng.integers(-100, 100, size).astype(np.int64).view(dtype)
        _sprinkle(values, np.array(["NaT"], dtype=dtype), rng)
    else:
        raise TypeError(f"no sample values for {dtype}")
    values[rng.random(size) >= density] = np.zeros((), dtype=dtype)
    return values.reshape(shape)


def _sprinkle(values: Array, awkward: Array, rng: np.random.Generator) -> None:
    """Put awkward values at about one place in a hundred, and at the first places of a small array."""
    places = rng.random(values.size) < 0.01
    values[places] = rng.choice(awkward, int(places.sum()))
    if values.size >= 2 * awkward.size:
        values[: awkward.size] = awkward


def contiguous(array: Array) -> Array:
    """Copy to native byte order and C order, with True stored as 1.

    Parameters
    ----------
    array : ndarray
        Any array.

    Returns
    -------
    plain : ndarray
        Its values as an oracle may read them.
    """
    if array.dtype == np.bool_:
        return np.asarray(np.array(array, order="C", copy=True).view(np.uint8) != 0)
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)


def assert_identical(got: object, expected: object) -> None:
    """Assert the same type, shape and bits; any NaN equals any NaN.

    Parameters
    ----------
    got, expected : ndarray
        What the library gave and what it should have given; byte order is not compared.

    Raises
    ------
    AssertionError
        If they differ: says in how many places, and in the first of them.
    """
    assert isinstance(got, np.ndarray), f"got a {type(got).__name__}, expected an ndarray"
    assert isinstance(expected, np.ndarray)
    assert got.dtype.newbyteorder("=") == expected.dtype.newbyteorder("="), f"{got.dtype} is not {expected.dtype}"
    assert got.shape == expected.shape, f"shape {got.shape} is not {expected.shape}"
    one, other = _raw(got), _raw(expected)
    same = one == other
    if one.dtype.kind == "f":
        same |= np.isnan(one) & np.isnan(other)
        with np.errstate(invalid="ignore"):
            same &= (np.signbit(one) == np.signbit(other)) | np.isnan(one)
    if not same.all():
        first = tuple(int(i) for i in np.argwhere(~same)[0])
        raise AssertionError(
            f"{np.count_nonzero(~same)} of {same.size} values differ, the first at {first}: "
            f"got {one[first]!r}, expected {other[first]!r}"
        )


def _raw(array: Array) -> Array:
    """View complex numbers as pairs of reals and truth values as bytes; native byte order."""
    plain = np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)
    if plain.dtype.kind == "c":
        return np.stack([plain.real, plain.imag], axis=-1)
    if plain.dtype.kind == "b":
        return plain.view(np.uint8)
    if plain.dtype.kind in "mM":
        return plain.view(np.int64)
    return plain


def pairs(
    factors: Mapping[str, Sequence[Any]],
    excluded: Callable[[Mapping[str, Any]], bool] = lambda _: False,
) -> list[dict[str, Any]]:
    """Cases that cover every pair of values of every two factors.

    Parameters
    ----------
    factors : mapping of str to sequence
        The values of each factor; equal values count once each.
    excluded : callable, optional
        Says of a partial case whether it can not be; looked at whenever two factors or more are set.

    Returns
    -------
    cases : list of dict
        A value for each factor in each case. The same factors give the same cases in the same order.
    """
    names = list(factors)
    open_pairs: dict[tuple[tuple[str, int], tuple[str, int]], None] = {}
    for a, b in combinations(names, 2):
        for i, j in product(range(len(factors[a])), range(len(factors[b]))):
            if not excluded({a: factors[a][i], b: factors[b][j]}):
                open_pairs[(a, i), (b, j)] = None
    cases: list[dict[str, Any]] = []
    while open_pairs:
        case = dict(next(iter(open_pairs)))
        for name in names:
            if name in case:
                continue
            best, gain = None, -1
            n = len(factors[name])
            # Begin elsewhere in each case, so that ties do not always go to the first value.
            for k in range(n):
                i = (k + len(cases)) % n
                trial = {other: factors[other][j] for other, j in case.items()} | {name: factors[name][i]}
                if excluded(trial):
                    continue
                new = sum(_pair(names, (name, i), (other, j)) in open_pairs for other, j in case.items())
                if new > gain:
                    best, gain = i, new
            if best is None:
                raise ValueError(f"no value of {name} goes with {case}")
            case[name] = best
        for one, other in combinations(case.items(), 2):
            open_pairs.pop(_pair(names, one, other), None)
        cases.append({name: factors[name][case[name]] for name in names})
    return cases


def _pair(names: list[str], one: tuple[str, int], other: tuple[str, int]) -> tuple[tuple[str, int], tuple[str, int]]:
    return (one, other) if names.index(one[0]) < names.index(other[0]) else (other, one)

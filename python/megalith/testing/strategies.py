"""Hypothesis strategies: arrays of any type, shape and layout."""

from collections.abc import Sequence
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np

from megalith.testing.cases import ALL, BOOL, FLOATS, INTS
from megalith.testing.layouts import LAYOUTS, Array

__all__ = ["arrays", "index_arrays", "kernels", "laid_out", "shapes", "tables"]


def shapes(*, min_dims: int = 0, max_dims: int = 5, max_side: int = 6) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes, empty ones included.

    Parameters
    ----------
    min_dims, max_dims : int
        Bounds of the number of axes.
    max_side : int
        Longest axis.

    Returns
    -------
    shapes : strategy of tuple of int
        Shrinks to few and short axes.
    """
    return hnp.array_shapes(min_dims=max(min_dims, 1), max_dims=max_dims, min_side=0, max_side=max_side) | (
        st.just(()) if min_dims == 0 else st.nothing()
    )


@st.composite
def laid_out(draw: st.DrawFn, values: st.SearchStrategy[Array]) -> Array:
    """Arrays of a strategy, in any layout.

    Parameters
    ----------
    draw : callable
        Given by Hypothesis.
    values : strategy of ndarray
        The values.

    Returns
    -------
    arrays : strategy of ndarray
        Shrinks to C order.
    """
    return LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](draw(values))


def _elements(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    """Values of a type: zero often, so that results of `where` are not always everything."""
    if dtype.kind in "mM":
        values = st.integers(-(2**40), 2**40) | st.just(-(2**63))
        return values.map(lambda n: np.array(n, dtype=np.int64).view(dtype)[()])
    some: st.SearchStrategy[Any] = hnp.from_dtype(dtype)
    return st.just(np.zeros((), dtype=dtype)[()]) | some


@st.composite
def arrays(
    draw: st.DrawFn,
    dtypes: Sequence[str] = ALL,
    *,
    min_dims: int = 0,
    max_dims: int = 5,
    max_side: int = 6,
) -> Array:
    """Arrays of some types, any shape, any layout.

    Parameters
    ----------
    draw : callable
        Given by Hypothesis.
    dtypes : sequence of str
        Their types.
    min_dims, max_dims, max_side : int
        As in `shapes`.

    Returns
    -------
    arrays : strategy of ndarray
        True may be stored as any byte.
    """
    dtype = np.dtype(draw(st.sampled_from(list(dtypes))))
    shape = draw(shapes(min_dims=min_dims, max_dims=max_dims, max_side=max_side))
    stored = np.dtype(np.uint8) if dtype == np.bool_ else dtype
    values = hnp.arrays(stored, shape, elements=_elements(stored)).map(lambda a: a.view(dtype))
    return draw(laid_out(values))


@st.composite
def index_arrays(draw: st.DrawFn, size: int, dtypes: Sequence[str] = INTS + BOOL, *, max_dims: int = 5) -> Array:
    """Arrays whose values are valid indices of a table, in any layout.

    Parameters
    ----------
    draw : callable
        Given by Hypothesis.
    size : int
        Entries of the table.
    dtypes : sequence of str
        Types of the indices.
    max_dims : int
        Most axes.

    Returns
    -------
    arrays : strategy of ndarray
        Values from 0 to `size - 1`, as far as the type goes.
    """
    dtype = np.dtype(draw(st.sampled_from(list(dtypes))))
    shape = draw(shapes(max_dims=max_dims))
    if dtype == np.bool_:
        bytes_ = hnp.arrays(np.uint8, shape, elements=st.integers(0, 255 if size > 1 else 0))
        return draw(laid_out(bytes_.map(lambda a: a.view(np.bool_))))
    top = min(size - 1, int(np.iinfo(dtype.name).max))
    return draw(laid_out(hnp.arrays(dtype, shape, elements=st.integers(0, top))))


@st.composite
def tables(draw: st.DrawFn, *, min_size: int = 1, max_size: int = 20) -> Array:
    """Lookup tables of any type, structured ones included.

    Parameters
    ----------
    draw : callable
        Given by Hypothesis.
    min_size, max_size : int
        Bounds of their length.

    Returns
    -------
    tables : strategy of 1-d ndarray
        In any layout that one axis can have.
    """
    size = draw(st.integers(min_size, max_size))
    if draw(st.booleans()):
        dtype = np.dtype(draw(st.sampled_from(list(ALL))))
        return draw(laid_out(hnp.arrays(dtype, (size,), elements=_elements(dtype))))
    record = np.dtype(draw(st.sampled_from([[("a", "u1"), ("b", "<f4")], [("a", "<i8"), ("b", "<c16")], "S3", "V7"])))
    table = np.frombuffer(draw(st.binary(min_size=size * record.itemsize, max_size=size * record.itemsize)), record)
    return table.copy()


def kernels(*, max_size: int = 9) -> st.SearchStrategy[Array]:
    """Weights of a correlation: whole, real, symmetric, antisymmetric.

    Parameters
    ----------
    max_size : int
        Most taps of the free ones; the symmetric ones have up to twice as many.

    Returns
    -------
    kernels : strategy of 1-d ndarray
        Of any type that has an order.
    """
    whole = st.sampled_from(INTS).flatmap(lambda name: hnp.arrays(name, st.integers(1, max_size)))
    finite = st.floats(-1e6, 1e6, width=32)
    real = st.sampled_from(FLOATS[1:]).flatmap(lambda name: hnp.arrays(name, st.integers(1, max_size), elements=finite))
    even = real.map(lambda half: np.concatenate([half, half[-2::-1]]))
    odd = real.map(lambda half: np.concatenate([half, np.zeros(1, half.dtype), -half[::-1]]))
    return whole | real | even | odd

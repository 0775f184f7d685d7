"""Values of every kind a record can hold, and what it means for two to be the same."""

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np

from megalith.testing.layouts import Array
from megalith.testing.strategies import arrays

__all__ = ["odd_arrays", "same", "scalars", "values"]

RECORDS = np.dtype([("x", "<f4"), ("größe", ">i2", (2,)), ("名", "S3"), ("t", "M8[ms]")])
ALIGNED = np.dtype([("a", "i1"), ("b", "f8"), ("c", [("d", "u2")])], align=True)
ODD_TYPES = ("V3", "V0", "S0", "U0", "S5", "<U4", ">U2", "M8", "m8[25us]", "longdouble", "clongdouble")


def _bytes(array: Array) -> bytes:
    """Give the items as they lie: copies of records leave out what is between fields."""
    return array.view(f"V{array.dtype.itemsize}").tobytes() if array.nbytes else b""


def same(a: Any, b: Any) -> bool:
    """Tell whether two values are the same, down to types, order of keys and bits.

    Parameters
    ----------
    a, b : object
        Nested values; NaNs are the same whatever their bits.

    Returns
    -------
    same : bool
        Also False where one is equal but of another type: 1 and 1.0.
    """
    if isinstance(a, np.ndarray):
        is_alike = isinstance(b, np.ndarray) and (a.shape, a.dtype) == (b.shape, b.dtype)
        return is_alike and _bytes(a) == _bytes(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, np.generic):
        return bool(a.dtype == b.dtype) and a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or a.hex() == b.hex()
    return bool(a == b)


@st.composite
def odd_arrays(draw: st.DrawFn) -> Array:
    """Arrays of types that kernels do not take.

    Parameters
    ----------
    draw : callable
        Given by Hypothesis.

    Returns
    -------
    arrays : strategy of ndarray
        Text, bytes, records, types without bytes, numbers of the C compiler.
    """
    dtype = np.dtype(draw(st.sampled_from([*ODD_TYPES, RECORDS, ALIGNED, np.dtype([])])))
    shape = draw(st.sampled_from([(), (3,), (0, 2), (2, 3)]))
    array: Array = np.ndarray(shape, dtype)
    if array.nbytes:
        array.reshape(-1).view(np.uint8)[:] = draw(st.integers(0, 127))
    if dtype.kind == "U" and array.nbytes:
        array[...] = "aé"
    return array.T if draw(st.booleans()) else array


def _numpy_scalars() -> st.SearchStrategy[Any]:
    plain = arrays(min_dims=1, max_dims=1).map(lambda a: a[0] if a.size else np.zeros((), a.dtype)[()])
    odd: list[Any] = [
        np.str_("a\0"),
        np.str_(""),
        np.str_("\ud800"),
        np.bytes_(b"\0x\0"),
        np.void(b"abc"),
        np.datetime64("NaT"),
        np.timedelta64(3, "D"),
        np.longdouble(1) / 3,
        np.zeros((), RECORDS)[()],
    ]
    return plain | st.sampled_from(odd)


def scalars() -> st.SearchStrategy[Any]:
    """Scalars of JSON, also those JSON would change.

    Returns
    -------
    scalars : strategy of str, int, float, bool or None
        Lone surrogates, huge integers, NaN and infinities among them.
    """
    text = st.text() | st.text(st.characters(min_codepoint=0xD7F0, max_codepoint=0xE010, categories=["Cs", "L", "Co"]))
    numbers = st.integers() | st.integers(-(10**40), 10**40)
    return st.none() | st.booleans() | numbers | st.floats() | text


def values(*, max_leaves: int = 12) -> st.SearchStrategy[Any]:
    """Nested values that `megalith.records` can keep.

    Parameters
    ----------
    max_leaves : int
        Arrays and scalars in one, about.

    Returns
    -------
    values : strategy of object
        Arrays of any type and layout, scalars of JSON and NumPy, tuples, lists, dicts.
    """
    return st.recursive(
        scalars() | _numpy_scalars() | arrays() | odd_arrays(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=4).map(tuple)
            | st.dictionaries(scalars(), inner, max_size=4)
        ),
        max_leaves=max_leaves,
    )

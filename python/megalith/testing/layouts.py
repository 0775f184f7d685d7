"""Every way an array can lie in memory.

Each function takes an array of values and gives an array that lies as its name says. All but `broadcast` hold the
values they were given; `broadcast` repeats the first entry along an axis, because that is what a zero stride does.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "LAYOUTS",
    "SINK_LAYOUTS",
    "Array",
    "big_endian",
    "broadcast",
    "c_order",
    "empty_like_layout",
    "fortran_order",
    "packed_field",
    "read_only",
    "reversed_axes",
    "strided",
    "transposed",
    "unaligned",
]

Array: TypeAlias = npt.NDArray[Any]


def c_order(values: npt.ArrayLike) -> Array:
    """Lay values out contiguously, last axis fastest.

    Parameters
    ----------
    values : array_like
        The values.

    Returns
    -------
    laid : ndarray
        A fresh array of the same values.
    """
    return np.array(values, order="C", copy=True)


def fortran_order(values: npt.ArrayLike) -> Array:
    """Lay values out contiguously, first axis fastest.

    Parameters
    ----------
    values : array_like
        The values.

    Returns
    -------
    laid : ndarray
        A fresh array of the same values.
    """
    return np.array(values, order="F", copy=True)


def strided(values: npt.ArrayLike) -> Array:
    """Take every third element of a larger array, along every axis.

    Parameters
    ----------
    values : array_like
        The values.

    Returns
    -------
    laid : ndarray
        A view with gaps; the gaps hold the last values, so that reading them shows.
    """
    values = np.asarray(values)
    if values.ndim == 0:
        return c_order(values)
    steps = (slice(None, None, 3),) + (slice(1, None, 2),) * (values.ndim - 1)
    shape = (3 * values.shape[0], *(2 * n for n in values.shape[1:]))
    base = np.empty(shape, dtype=values.dtype)
    base.view(np.uint8)[...] = 0xA5
    laid = base[steps]
    laid[...] = values
    return laid


def reversed_axes(values: npt.ArrayLike) -> Array:
    """Lay values out backwards: every stride is negative.

    Parameters
    ----------
    values : array_like
        The values.

    Returns
    -------
    laid : ndarray
        A view that walks its memory from the end.
    """
    values = np.asarray(values)
    if values.ndim == 0:
        return c_order(values)
    back = (slice(None, None, -1),) * values.ndim
    laid: Array = np.array(values[back], order="C", copy=True)[back]
    return laid


def transposed(values: npt.ArrayLike) -> Array:
    """Lay values out with the axes rotated, so that neither C nor Fortran order fits from three axes on.

    Parameters
    ----------
    values : array_like
        The values.

    Returns
    -------
    laid : ndarray
        A view with its axes permuted.
    """
    values = np.asarray(values)
    if values.ndim < 2:
        return c_order(values)
    laid = np.array(np.moveaxis(values, 0, -1), order="C", copy=True)
    return np.moveaxis(laid, -1, 0)


def broadcast(values: npt.ArrayLike) -> Array:
    """Repeat the first entry along the last axis by a stride of zero.

    Parameters
    ----------
    values : array_like
        The values; only the first along the last axis are used.

    Returns
    -------
    laid : ndarray
        A read-only view of the shape of `values`, with a zero stride.
    """
    values = np.asarray(values)
    if values.ndim == 0:
        return np.broadcast_to(values.copy(), ())
    return np.broadcast_to(values[..., :1].copy(), values.shape)


def unaligned(values: npt.ArrayLike) -> Array:
    """Begin one byte off the alignment of the type.

    Parameters
    ----------
    values : array_like
        The values.

    Returns
    -------
    laid : ndarray
        A view whose address is one more than a multiple of 64.
    """
    values = np.asarray(values)
    memory = np.empty(values.nbytes + 128, dtype=np.uint8)
    start = -memory.ctypes.data % 64 + 1
    laid = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    laid[...] = values
    return laid


def packed_field(values: npt.ArrayLike) -> Array:
    """Be one field of a packed structured array: no stride is a multiple of the item size.

    Parameters
    ----------
    values : array_like
        The values.

    Returns
    -------
    laid : ndarray
        The view `records['value']`, between a byte before and two bytes after.
    """
    values = np.asarray(values)
    record = np.dtype([("before", "u1"), ("value", values.dtype), ("after", "u1", (2,))])
    records = np.empty(values.shape, dtype=record)
    records["before"] = 0xA5
    records["after"] = 0x5A
    records["value"] = values
    laid: Array = records["value"]
    return laid


def big_endian(values: npt.ArrayLike) -> Array:
    """Store values in the byte order this machine does not use.

    Parameters
    ----------
    values : array_like
        The values.

    Returns
    -------
    laid : ndarray
        Equal values, bytes swapped (single bytes have no order).
    """
    values = np.asarray(values)
    return values.astype(values.dtype.newbyteorder("S"), order="C", copy=True)


def read_only(values: npt.ArrayLike) -> Array:
    """Forbid writing.

    Parameters
    ----------
    values : array_like
        The values.

    Returns
    -------
    laid : ndarray
        A contiguous array that is not writeable.
    """
    laid = c_order(values)
    laid.flags.writeable = False
    return laid


def empty_like_layout(name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Make an array to write into.

    Parameters
    ----------
    name : str
        One of `SINK_LAYOUTS`.
    shape : tuple of int
        Its shape.
    dtype : dtype
        Its type.

    Returns
    -------
    sink : ndarray
        Filled with a pattern of bytes no result would leave.
    """
    filled = np.empty(shape, dtype=dtype)
    filled.reshape(-1).view(np.uint8)[...] = 0xC3
    if filled.dtype == np.bool_:
        filled[...] = True
    return SINK_LAYOUTS[name](filled)


LAYOUTS: dict[str, Callable[[npt.ArrayLike], Array]] = {
    "C": c_order,
    "F": fortran_order,
    "strided": strided,
    "reversed": reversed_axes,
    "broadcast": broadcast,
    "transposed": transposed,
    "unaligned": unaligned,
    "packed field": packed_field,
    "big-endian": big_endian,
    "read-only": read_only,
}
"""All layouts, by name."""

SINK_LAYOUTS: dict[str, Callable[[npt.ArrayLike], Array]] = {
    name: lay for name, lay in LAYOUTS.items() if name not in ("broadcast", "read-only")
}
"""The layouts one can write into."""

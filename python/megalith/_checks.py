"""Checks of arguments a user typed; each message says what, got, allowed."""

from __future__ import annotations

import inspect
import operator
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith.exceptions import ArgumentError, IndexRangeError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from megalith._typing import Processes


def positive_int(name: str, value: Any) -> int:
    """Return a whole number of 1 or more.

    Raises
    ------
    ArgumentError
        For anything else, True and 2.0 included.
    """
    if type(value) is int:
        number = value
    else:
        try:
            if isinstance(value, bool | np.bool_):
                raise TypeError
            number = operator.index(value)
        except TypeError:
            number = 0
    if number < 1:
        raise ArgumentError(
            f"{name}: got {value!r}, expected a whole number of 1 or more", name=name, got=value, expected="int >= 1"
        )
    return number


def integer(name: str, value: Any) -> int:
    """Return a whole number.

    Raises
    ------
    ArgumentError
        For anything else.
    """
    try:
        return operator.index(value)
    except TypeError:
        message = f"{name}: got {value!r} of type {type(value).__name__}, expected a whole number"
        raise ArgumentError(message, name=name, got=value, expected="int") from None


def count(name: str, value: Any) -> int:
    """Return a whole number of 0 or more.

    Raises
    ------
    ArgumentError
        For anything else.
    """
    number = integer(name, value)
    if number < 0:
        message = f"{name}: got {number}, expected a whole number of 0 or more"
        raise ArgumentError(message, name=name, got=number, expected="int >= 0")
    return number


def lengths(name: str, values: Iterable[Any]) -> tuple[int, ...]:
    """Return the lengths of axes.

    Raises
    ------
    ArgumentError
        If one is negative or no whole number.
    """
    shape = tuple(integer(name, value) for value in values)
    if any(n < 0 for n in shape):
        message = f"{name}: got {shape}, expected lengths of 0 or more"
        raise ArgumentError(message, name=name, got=shape, expected="int >= 0")
    return shape


def thread_count(processes: Processes) -> int | None:
    """Return the number of threads a `processes` argument asks for, None if it asks for nothing.

    Raises
    ------
    ArgumentError
        For 0, negative numbers and anything that is neither a whole number, 'serial' nor None.
    """
    if processes is None:
        return None
    if isinstance(processes, str):
        if processes == "serial":
            return 1
        message = f"processes: got {processes!r}, expected a whole number of 1 or more, 'serial' or None"
        raise ArgumentError(message, name="processes", got=processes, expected="int >= 1, 'serial' or None")
    return min(positive_int("processes", processes), sys.maxsize)


def on_error(value: Any) -> None:
    """Check what is to be done where something fails.

    Raises
    ------
    ArgumentError
        If it is neither 'raise' nor 'keep'.
    """
    if value not in ("raise", "keep"):
        message = f"on_error: got {value!r}, expected 'raise' or 'keep'"
        raise ArgumentError(message, name="on_error", got=value, expected="'raise' or 'keep'")


def returning(f: Any) -> None:
    """Check that a function gives its result when it is called.

    Raises
    ------
    ArgumentError
        If it is a coroutine function.
    """
    if inspect.iscoroutinefunction(f) or inspect.iscoroutinefunction(type(f).__call__):
        name = getattr(f, "__name__", None) or type(f).__name__
        message = f"f: got the coroutine function {name}, expected one that returns: lambda x: asyncio.run(f(x))"
        raise ArgumentError(message, name="f", got=f, expected="a function")


def axis_index(axis: Any, ndim: int) -> int:
    """Return a non-negative axis.

    Raises
    ------
    ShapeError
        If there is no such axis.
    """
    try:
        number = operator.index(axis)
    except TypeError:
        raise ShapeError(
            f"axis: got {axis!r}, expected a whole number", name="axis", got=axis, expected="int"
        ) from None
    if not -ndim <= number < ndim:
        allowed = f"-{ndim} to {ndim - 1}" if ndim else "none, the array has no axes"
        message = f"axis: got {number} for an array of {ndim} dimensions, expected {allowed}"
        raise ShapeError(message, name="axis", got=number, expected=allowed)
    return number % ndim


def same_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Check a shape.

    Raises
    ------
    ShapeError
        If it is another.
    """
    if tuple(shape) != tuple(expected):
        message = f"{name}: got shape {tuple(shape)}, expected {tuple(expected)}"
        raise ShapeError(message, name=name, got=tuple(shape), expected=tuple(expected))


def box(slicing: Any, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[int, ...], tuple[slice, ...]]:
    """Turn integers, slices and an ellipsis into a box of whole steps.

    Parameters
    ----------
    slicing : int, slice, Ellipsis or tuple of these
        As between the brackets of an array.
    shape : tuple of int
        The shape of the array.

    Returns
    -------
    box : tuple of slice
        For each axis the stretch that is touched, of step 1.
    shape : tuple of int
        The shape of the result: axes with an integer are gone.
    steps : tuple of slice
        What to take out of the stretch along each remaining axis (all of it unless a step was given).

    Raises
    ------
    IndexRangeError
        If an integer or an explicit bound lies outside of its axis.
    ShapeError
        If there are more entries than axes.
    ArgumentError
        If an entry is something else, or a step is zero.
    """
    entries = slicing if isinstance(slicing, tuple) else (slicing,)
    if any(isinstance(entry, bool | np.bool_ | np.ndarray | list) for entry in entries):
        message = (
            f"slicing: got {slicing!r}, expected whole numbers, slices or an ellipsis; masks and lists are not taken"
        )
        raise ArgumentError(message, name="slicing", got=slicing, expected="int, slice or Ellipsis")
    if sum(entry is Ellipsis for entry in entries) > 1:
        raise ArgumentError(f"slicing: got {slicing!r}, expected at most one ellipsis", name="slicing", got=slicing)
    n_given = sum(entry is not Ellipsis for entry in entries)
    if n_given > len(shape):
        message = f"slicing: got {n_given} entries for an array of {len(shape)} dimensions"
        raise ShapeError(message, name="slicing", got=n_given, expected=len(shape))
    fill = [slice(None)] * (len(shape) - n_given)
    if Ellipsis in entries:
        at = entries.index(Ellipsis)
        entries = (*entries[:at], *fill, *entries[at + 1 :])
    else:
        entries = (*entries, *fill)
    touched, result, steps = [], [], []
    for axis, (entry, n) in enumerate(zip(entries, shape, strict=True)):
        if isinstance(entry, slice):
            if entry.step is not None and integer("slicing", entry.step) == 0:
                raise ArgumentError(
                    "slicing: a step of zero", name="slicing", got=entry, expected="a step that is not 0"
                )
            for bound in (entry.start, entry.stop):
                if bound is not None and not -n <= integer("slicing", bound) <= n:
                    raise _outside(bound, n, axis, n)
            indices = range(n)[entry]
            if len(indices) == 0:
                touched.append(slice(0, 0))
                steps.append(slice(None))
            else:
                low, high = min(indices[0], indices[-1]), max(indices[0], indices[-1])
                touched.append(slice(low, high + 1))
                steps.append(slice(None, None, indices.step) if indices.step != 1 else slice(None))
            result.append(len(indices))
        else:
            try:
                index = operator.index(entry)
            except TypeError:
                message = f"slicing: got {entry!r}, expected whole numbers, slices or an ellipsis"
                raise ArgumentError(message, name="slicing", got=entry, expected="int, slice or Ellipsis") from None
            if not -n <= index < n:
                raise _outside(index, n, axis, n - 1)
            touched.append(slice(index % n, index % n + 1))
    return tuple(touched), tuple(result), tuple(steps)


def _outside(index: int, n: int, axis: int, last: int) -> IndexRangeError:
    message = f"slicing: {index} is outside of axis {axis} of length {n}; valid are -{n} to {last}"
    return IndexRangeError(message, index=index, size=n, position=(axis,))

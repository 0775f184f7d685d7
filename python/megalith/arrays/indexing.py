"""NumPy's way of indexing, taken apart: what is taken along each axis, and how the axes of the result lie."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from megalith.exceptions import ArgumentError, IndexRangeError

if TYPE_CHECKING:
    import numpy.typing as npt

    from megalith._typing import AnyArray

    Positions: TypeAlias = npt.NDArray[np.intp]
    # What is taken along one axis: one entry, a stretch with a step, or entries in any order.
    Taken: TypeAlias = int | range | Positions

# What the entries of an index are, beside the axes of slices. An ellipsis that stands for no axis is one too: it keeps
# arrays apart.
_ARRAY, _NEW, _ELLIPSIS = "array", "new", "ellipsis"


class Index:
    """What stands between the brackets, for an array of known shape.

    Parameters
    ----------
    item : int, slice, Ellipsis, None, list, ndarray of integers or bool, or tuple of these
        As NumPy takes it.
    shape : tuple of int
        The shape of the array.

    Attributes
    ----------
    axes : list of int, range or ndarray
        For each axis what is taken, in positions from 0. Integers beside arrays are arrays too.
    common : tuple of int or None
        The shape all index arrays broadcast to; None if there are none.
    is_scalar : bool
        Whether the result is an element and not an array.

    Raises
    ------
    IndexRangeError
        If a position is outside of its axis, a mask has another shape, or there are too many entries.
    """

    def __init__(self, item: Any, shape: tuple[int, ...]) -> None:
        entries = [_entry(entry) for entry in (item if isinstance(item, tuple) else (item,))]
        has_ellipsis = sum(entry is Ellipsis for entry in entries)
        if has_ellipsis > 1:
            raise IndexRangeError(f"index: got {item!r}, expected at most one ellipsis", index=item)
        n_axes = sum(_axes_of(entry) for entry in entries)
        if n_axes > len(shape):
            message = f"index: got {n_axes} entries for an array of {len(shape)} dimensions"
            raise IndexRangeError(message, index=item, size=len(shape))
        if not has_ellipsis:
            entries.append(Ellipsis)
        n_filled = len(shape) - n_axes
        self.shape = shape
        self.axes: list[Taken] = []
        self._dims: list[str | int] = []
        # Truth values without axes: they add one axis, of length 1 or 0.
        self._flags: list[bool] = []
        has_arrays = any(isinstance(entry, np.ndarray) for entry in entries)
        for entry in entries:
            if entry is None:
                self._dims.append(_NEW)
            elif entry is Ellipsis:
                self._dims.append(_ELLIPSIS)
                self._dims += range(len(self.axes), len(self.axes) + n_filled)
                self.axes += [range(n) for n in shape[len(self.axes) : len(self.axes) + n_filled]]
            elif isinstance(entry, slice):
                self._dims.append(len(self.axes))
                self.axes.append(_range(entry, shape[len(self.axes)]))
            elif isinstance(entry, int):
                position = self._position(entry, len(self.axes))
                if has_arrays:
                    self._dims.append(_ARRAY)
                self.axes.append(np.array(position) if has_arrays else position)
            else:
                self._dims.append(_ARRAY)
                self._add_array(entry)
        self.common = self._broadcast() if has_arrays else None
        for axis, taken in enumerate(self.axes):
            if isinstance(taken, np.ndarray):
                self.axes[axis] = self._positions(taken, axis)
        self.is_scalar = not has_ellipsis and self._dims == [_ELLIPSIS]

    def _position(self, position: int, axis: int) -> int:
        n = self.shape[axis]
        if not -n <= position < n:
            raise _outside(position, n, axis)
        return position % n

    def _positions(self, entry: AnyArray, axis: int) -> Positions:
        assert self.common is not None
        if 0 in self.common:  # Nothing is taken: NumPy does not look at the positions.
            return np.zeros(self.common, np.intp)
        n = self.shape[axis]
        if int(entry.min()) < -n or int(entry.max()) >= n:
            bad = entry[(entry < -n) | (entry >= n)]
            raise _outside(int(bad.flat[0]), n, axis)
        positions = entry.astype(np.intp)
        positions[positions < 0] += n
        return positions

    def _add_array(self, entry: AnyArray) -> None:
        axis = len(self.axes)
        if entry.dtype.kind != "b":
            self.axes.append(entry)
        elif entry.ndim == 0:
            self._flags.append(bool(entry))
        else:
            expected = self.shape[axis : axis + entry.ndim]
            # To NumPy an axis of length 0 fits any other.
            if any(m not in (n, 0) for m, n in zip(entry.shape, expected, strict=True)):
                message = f"index: a mask of shape {entry.shape} for axes of lengths {expected}; give one of that shape"
                raise IndexRangeError(message, index=entry.shape, size=expected, position=(axis,))
            self.axes += np.nonzero(entry)

    def _broadcast(self) -> tuple[int, ...]:
        shapes = [taken.shape for taken in self.axes if isinstance(taken, np.ndarray)]
        shapes += [(int(flag),) for flag in self._flags]
        try:
            return np.broadcast_shapes(*shapes)
        except ValueError:
            message = f"index: arrays of shapes {', '.join(map(str, shapes))} cannot be broadcast to one shape"
            raise IndexRangeError(message, index=tuple(shapes)) from None

    @property
    def has_flags(self) -> bool:
        """Whether there are truth values without axes."""
        return bool(self._flags)

    def arrange(self, values: AnyArray) -> Any:
        """Bring a result to the shape NumPy gives it.

        Parameters
        ----------
        values : ndarray
            The axes all index arrays have in common, then those of the slices in order.

        Returns
        -------
        result : ndarray or scalar
            A view.
        """
        if self.is_scalar:
            return values[()]
        n_common = 0 if self.common is None else len(self.common)
        slices = [dim for dim in self._dims if dim not in (_ARRAY, _ELLIPSIS)]
        key: list[Any] = [slice(None)] * n_common
        key += [None if dim == _NEW else slice(None) for dim in slices]
        values = values[(*key, ...)]
        if not n_common:
            return values
        # Arrays that stand side by side leave their axes where they stand; apart, in front.
        at = [i for i, dim in enumerate(self._dims) if dim == _ARRAY]
        is_together = at[-1] - at[0] == len(at) - 1
        place = at[0] - self._dims[: at[0]].count(_ELLIPSIS) if is_together else 0
        return np.moveaxis(values, range(n_common), range(place, place + n_common))


def _entry(entry: Any) -> Any:
    """Bring one entry to one of: None, Ellipsis, slice, int, ndarray of integers or bool."""
    if entry is None or entry is Ellipsis or isinstance(entry, slice):
        return entry
    is_given = isinstance(entry, np.ndarray | np.generic)
    if not is_given and not isinstance(entry, bool):
        try:
            return operator.index(entry)
        except TypeError:
            pass
    array = np.asarray(entry) if not isinstance(entry, str | bytes) else np.empty(0, np.str_)
    if array.size == 0 and not is_given and array.dtype.kind == "f":
        array = array.astype(np.intp)
    if array.dtype.kind not in "biu":
        message = (
            f"index: got {type(entry).__name__} of {array.dtype}, expected whole numbers, slices, an ellipsis, "
            "None, or arrays of whole numbers or truth values"
        )
        raise IndexRangeError(message, index=entry)
    return int(array) if array.ndim == 0 and array.dtype.kind != "b" else array


def _axes_of(entry: Any) -> int:
    if entry is None or entry is Ellipsis:
        return 0
    return entry.ndim if isinstance(entry, np.ndarray) and entry.dtype.kind == "b" else 1


def _range(entry: slice, n: int) -> range:
    try:
        return range(n)[entry]
    except ValueError:
        raise ArgumentError("index: a step of zero", name="index", got=entry, expected="a step that is not 0") from None


def _outside(position: int, n: int, axis: int) -> IndexRangeError:
    allowed = f"valid are -{n} to {n - 1}" if n else "it has no entries"
    message = f"index: {position} is outside of axis {axis} of length {n}; {allowed}"
    return IndexRangeError(message, index=position, size=n, position=(axis,))


def as_slice(taken: range) -> slice:
    """Return the slice that takes what a range does.

    Parameters
    ----------
    taken : range
        Positions from 0.

    Returns
    -------
    taken : slice
        For arrays that reach as far.
    """
    if not taken:
        return slice(0, 0)
    stop = taken[-1] + (1 if taken.step > 0 else -1)
    return slice(taken[0], None if stop < 0 else stop, taken.step)


def bounding(taken: Taken) -> tuple[slice, Any]:
    """Return the shortest stretch that holds what is taken, and what to take of it.

    Parameters
    ----------
    taken : int, range or ndarray
        Positions from 0.

    Returns
    -------
    stretch : slice
        Of step 1.
    inner : int, slice or ndarray
        The same as `taken`, within the stretch.
    """
    if isinstance(taken, int):
        return slice(taken, taken + 1), 0
    if len(taken) == 0 if isinstance(taken, range) else taken.size == 0:
        return slice(0, 0), slice(0, 0) if isinstance(taken, range) else taken
    if isinstance(taken, range):
        low, high = min(taken[0], taken[-1]), max(taken[0], taken[-1])
        return slice(low, high + 1), as_slice(range(taken.start - low, taken.stop - low, taken.step))
    low, high = int(taken.min()), int(taken.max())
    return slice(low, high + 1), taken - low

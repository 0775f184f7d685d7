"""What this process has mapped: a name that is asked for again gives the memory it already has.

Only weak references are kept, so that the memory of a freed name is given back with the last view. Each look compares
the identity of the file (device, inode, size, time), so a name that was freed and made anew, here or in another
process, is noticed.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _core, _npy, records
from megalith.shared.views import SharedArray, view

if TYPE_CHECKING:
    from megalith.shared.names import Name

# A plain dictionary: looking into the other kind takes a tenth of a hit.
_arrays: dict[str, weakref.ref[SharedArray]] = {}
_segments: weakref.WeakValueDictionary[str, _core.Segment] = weakref.WeakValueDictionary()


def find(name: Name, *, trust_owner: bool) -> Any:
    """Return the value of a name, None if there is none.

    Raises
    ------
    OwnershipError
        If its file belongs to another user and `trust_owner` is False.
    FormatError, TruncatedFileError, DTypeError
        If it is not the file of an array.
    """
    path = name.path + ".npy"
    known = _arrays.get(path)
    array = None if known is None else known()
    base: Any = None if array is None else array.base  # Not the table's: that may be a newer one.
    if base is not None and base.is_current(trust_owner):
        return array
    segment = segment_at(path, trust_owner=trust_owner)
    if segment is not None:
        array = _array(segment, path)
        _remember(path, array)
        return array
    path = name.path + ".npz"
    segment = segment_at(path, trust_owner=trust_owner)
    return None if segment is None else _record(segment, path)


def segment_at(path: str, *, trust_owner: bool) -> _core.Segment | None:
    """Map a file, or return the mapping this process has of it; None if there is no file."""
    segment = _segments.get(path)
    if segment is not None and segment.is_current(trust_owner):
        return segment
    segment = _core.Segment.open(path, trust_owner)
    if segment is not None:
        _segments[path] = segment
    return segment


def remember(segment: _core.Segment, array: SharedArray) -> None:
    """Have later looks give the array that was made here."""
    if segment.path is not None:
        _segments[segment.path] = segment
        _remember(segment.path, array)


def _remember(path: str, array: SharedArray) -> None:
    def forget(reference: weakref.ref[SharedArray]) -> None:
        if _arrays.get(path) is reference:
            _arrays.pop(path, None)

    _arrays[path] = weakref.ref(array, forget)


def _array(segment: _core.Segment, path: str) -> SharedArray:
    plain = segment.header
    if plain is not None:
        shape, descr, is_fortran, offset = plain
        # Which also refuses what does not lie in the segment; the reason is said below.
        with contextlib.suppress(TypeError, ValueError):
            return view(segment, offset, shape, np.dtype(descr), "F" if is_fortran else "C")
    header = _npy.parse_header(segment.memory, path, len(segment))
    return view(segment, header.offset, header.shape, header.dtype, header.order)


def _record(segment: _core.Segment, path: str) -> Any:
    return records.read(segment.memory, path, lambda *where: view(segment, *where))

"""References to shared arrays: small, picklable, opened where they arrive."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megalith._shared_memory import segment_of
from megalith.exceptions import ArgumentError, KeyMissingError
from megalith.shared.mappings import segment_at
from megalith.shared.views import SharedArray, view

if TYPE_CHECKING:
    import numpy as np

    from megalith import _core
    from megalith._typing import AnyArray


@dataclass(frozen=True)
class Handle:
    """Where a shared array lies.

    Made by `handle`. It keeps nothing alive: once the name has been freed, it can no longer be opened.

    Parameters
    ----------
    path : str
        The file.
    identity : tuple of int
        Device, inode, size and time of the file, so that another one of the same name is not mistaken for it.
    boot : str
        Which run of which machine it is in.
    offset : int
        Bytes in the file before the first element.
    shape : tuple of int
        Lengths of the axes.
    strides : tuple of int
        Bytes between neighbours along each axis.
    dtype : numpy.dtype
        Type of the elements.
    trust_owner : bool
        Whether the file may belong to another user.
    """

    path: str
    identity: tuple[int, int, int, int]
    boot: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    trust_owner: bool = False

    def open(self) -> SharedArray:
        """Map the array.

        Returns
        -------
        array : SharedArray
            The same memory; read-only.

        Raises
        ------
        KeyMissingError
            If it was freed meanwhile, or is on another machine.
        OwnershipError
            If its file belongs to another user.
        """
        if self.boot != boot():
            reason = "is in the memory of another machine, or of this one before it was started anew"
        else:
            segment = segment_at(self.path, trust_owner=self.trust_owner)
            if segment is not None and segment.identity == self.identity:
                return view(segment, self.offset, self.shape, self.dtype, strides=self.strides)
            reason = "is not there (any more); it was freed, or this process sees another file system"
        message = f"the shared array {self.path} {reason}. Send a copy instead: numpy.array(a)"
        raise KeyMissingError(message, key=self.path, root=str(Path(self.path).parent))


@functools.cache
def boot() -> str:
    """Return what names this run of this machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import platform

        return platform.node()


def handle(array: AnyArray) -> Handle:
    """Return a small reference to a shared array, or to a part of one.

    Parameters
    ----------
    array : SharedArray
        An array that `cache`, `get` or `allocate` gave, or a view of one.

    Returns
    -------
    handle : Handle
        Picklable; ``.open()`` gives the array in any process of this machine, as long as its name is there.

    Raises
    ------
    ArgumentError
        If the array is not in shared memory under a name.
    KeyMissingError
        If its name was freed.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith import shared
    >>> a = shared.cache('doc-handle', lambda: np.arange(10), verbose=False)
    >>> shared.handle(a[::-2]).open()
    SharedArray([9, 7, 5, 3, 1])
    >>> shared.free('doc-handle')
    """
    segment = segment_of(array) if hasattr(array, "base") else None
    if segment is None or segment.path is None:
        message = f"array: got {type(array).__name__} in memory of this process, expected a SharedArray under a name"
        raise ArgumentError(message, name="array", got=type(array).__name__, expected="SharedArray")
    if not segment.is_current(trust_owner=True):
        message = f"the shared array {segment.path} was freed; nobody else can open it any more"
        raise KeyMissingError(message, key=segment.path, root=str(Path(segment.path).parent))
    return _handle(segment, segment.path, array)


def _handle(segment: _core.Segment, path: str, array: AnyArray) -> Handle:
    offset = array.__array_interface__["data"][0] - segment.address
    if array.size == 0:
        offset = min(max(offset, 0), len(segment))
    identity = segment.identity
    assert identity is not None, "a file that has a name has been looked at"
    return Handle(path, identity, boot(), offset, array.shape, array.strides, array.dtype, segment.is_foreign)


def reference(array: AnyArray) -> tuple[Any, ...] | None:
    """Return what pickle needs to send an array by reference, None if its name is not there."""
    segment = segment_of(array)
    if segment is None or segment.path is None or not segment.is_current(trust_owner=True):
        return None
    return Handle.open, (_handle(segment, segment.path, array),)

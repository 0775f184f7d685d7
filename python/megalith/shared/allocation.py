"""`allocate`: an array that is made where it will be shared."""

from __future__ import annotations

import math
import operator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _core, _npy
from megalith._shared_memory import DEFAULT_DIRECTORY, DEFAULT_PREFIX, full, is_full
from megalith.exceptions import ArgumentError, DTypeError, ShapeError
from megalith.shared.caching import check_mode, turn
from megalith.shared.mappings import remember
from megalith.shared.names import name_of
from megalith.shared.views import SharedArray, view

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import numpy.typing as npt

    from megalith._typing import Order


@contextmanager
def allocate(
    id: str,
    shape: int | tuple[int, ...],
    dtype: npt.DTypeLike,
    order: Order = "C",
    *,
    shm_path: str | os.PathLike[str] = DEFAULT_DIRECTORY,
    prefix: str = DEFAULT_PREFIX,
    timeout: float = -1,
    mode: int = 0o600,
) -> Iterator[SharedArray]:
    """Make an array inside of shared memory, to be filled in a ``with`` block.

    The producer never holds a second copy. When the block ends well the array is published under its name and
    read-only; after an error nothing is left of it.

    Parameters
    ----------
    id : str
        The name, as for `cache`.
    shape : int or tuple of int
        Lengths of the axes.
    dtype : dtype-like
        Type of the elements: any but object.
    order : {'C', 'F'}
        Order of the elements.
    shm_path : path
        The directory, as for `cache`.
    prefix : str
        What file names begin with.
    timeout : float
        Seconds to wait while another process makes the same name; a negative number waits for ever.
    mode : int
        Permissions of the file, exactly.

    Yields
    ------
    array : SharedArray
        Zeros, writable inside of the block, also in children forked there. Views of it made in the block must not be
        written after it.

    Raises
    ------
    FileExistsError
        If the name exists.
    SharedMemoryFullError
        If there is no room, before anything is written.
    ShapeError, DTypeError, ArgumentError
        If shape, dtype or name are not possible.
    LockTimeoutError
        If another process has not finished with the name in time.
    OwnershipError
        If the directory of locks belongs to another user.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith import shared
    >>> with shared.allocate('doc-ramp', (2, 3), np.uint8) as ramp:
    ...     ramp[:] = np.arange(3)
    >>> shared.get('doc-ramp').flags.writeable
    False
    >>> shared.free('doc-ramp')
    """
    name = name_of(id, shm_path, prefix)
    check_mode(mode)
    lengths, kind = _shape(shape), _dtype(dtype)
    if order not in ("C", "F"):
        message = f"order: got {order!r}, expected 'C' or 'F'"
        raise ArgumentError(message, name="order", got=order, expected="'C' or 'F'")
    header = _npy.make_header(lengths, kind, order)
    nbytes = len(header) + math.prod(lengths) * kind.itemsize
    with turn(name, timeout, lambda _: None) as is_ours:
        if not is_ours:
            message = f"{name.path}.npy exists; free {id!r} first, or map it by megalith.shared.get"
            raise FileExistsError(message)
        try:
            draft = _core.Draft.shared(name.directory, prefix, id, ".npy", nbytes, mode, reserve=True)
        except OSError as error:
            if is_full(error):
                raise full(name.directory, nbytes) from error
            raise
        try:
            draft.write(0, header)
            segment = draft.map(nbytes)
            array = view(segment, len(header), lengths, kind, order)
            yield array
            draft.publish(replace=False)
        finally:
            draft.discard()
        segment.seal(f"{name.path}.npy")
        array.flags.writeable = False
        remember(segment, array)


def _shape(shape: Any) -> tuple[int, ...]:
    try:
        lengths = tuple(operator.index(n) for n in (shape if isinstance(shape, tuple | list) else (shape,)))
    except TypeError:
        lengths = (-1,)
    if any(n < 0 for n in lengths) or math.prod(lengths) >= 1 << 62:
        message = f"shape: got {shape!r}, expected whole numbers of 0 or more"
        raise ShapeError(message, name="shape", got=shape, expected="int >= 0, or a tuple of these")
    if len(lengths) > 64:
        message = f"shape: got {len(lengths)} axes, expected at most 64"
        raise ShapeError(message, name="shape", got=len(lengths), expected="at most 64 axes")
    return lengths


def _dtype(dtype: Any) -> np.dtype[Any]:
    try:
        kind: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        message = f"dtype: {dtype!r} is no type of elements: {error}"
        raise DTypeError(message, name="dtype", got=dtype, supported="dtypes of NumPy but object") from error
    if kind.hasobject or kind.itemsize == 0:
        what = "holds Python objects" if kind.hasobject else "has elements of no bytes; say how many, such as 'S8'"
        message = f"dtype: {kind} {what}"
        raise DTypeError(message, name="dtype", got=str(kind), supported="dtypes of a fixed size, without objects")
    return kind

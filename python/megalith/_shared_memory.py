"""Memory that other processes can map: where it is, how an array of it is made, and what is said when it is full."""

from __future__ import annotations

import errno
import functools
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _core
from megalith.exceptions import SharedMemoryFullError

if TYPE_CHECKING:
    from megalith._typing import AnyArray, Order

DEFAULT_DIRECTORY = "/dev/shm"
DEFAULT_PREFIX = "sharearray_"


def directory(shm_path: str | os.PathLike[str] = DEFAULT_DIRECTORY) -> str:
    """Return the directory that a `shm_path` argument means.

    The default stands for what this machine has: MEGALITH_SHARED_DIR, /dev/shm, or a directory of the user's cache.
    """
    if shm_path != DEFAULT_DIRECTORY:
        return os.fspath(shm_path)
    # Asked first: `get` raises and catches an exception where there is none, which takes a fifth of a hit.
    if "MEGALITH_SHARED_DIR" in os.environ:
        return os.environ["MEGALITH_SHARED_DIR"] or _machine_directory()
    return _machine_directory()


@functools.cache
def _machine_directory() -> str:
    return _core.shared_directory()


def prepare(directory: str) -> None:
    """Make the directory that settings name, if it is missing; one that a caller names must be there."""
    if directory not in (os.environ.get("MEGALITH_SHARED_DIR"), _machine_directory()):
        return
    path = Path(directory)
    if not path.is_dir():
        path.mkdir(0o700, parents=True, exist_ok=True)


def segment_of(array: AnyArray) -> _core.Segment | None:
    """Return the shared memory an array shows, None for other memory."""
    base: Any = array.base
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, _core.Segment) else None


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def has_room(directory: str, nbytes: int) -> bool:
    """Whether so much could be stored now, as far as that is known."""
    free = _free(_core.capacity(directory))
    return free is not None and nbytes <= free


def _free(room: dict[str, Any]) -> int | None:
    room_now: int | None = room["free"] if room["room"] is None else room["room"]
    return room_now


def full(directory: str, asked: int, result: Any = None) -> SharedMemoryFullError:
    """Make the error for shared memory without room.

    Parameters
    ----------
    directory : str
        Where there is none.
    asked : int
        Bytes that were to be stored.
    result : object
        What was to be stored.

    Returns
    -------
    error : SharedMemoryFullError
        To be raised.
    """
    room = _core.capacity(directory)
    free = _free(room)
    mine = os.geteuid()
    entries = _core.shared_list(directory, DEFAULT_PREFIX)
    prunable = sum(entry[3] for entry in entries if entry[4] == mine)
    kind = "memory" if room["memory_backed"] else "disk"
    message = (
        f"{directory} ({kind}): {asked:,} bytes asked, {'unknown' if free is None else format(free, ',')} free "
        f"(file system, machine and control group considered), {prunable:,} in shared arrays of yours that "
        "megalith.shared.free or prune could give back. A container gets more by --shm-size; "
        "MEGALITH_SHARED_DIR moves shared arrays to another directory"
    )
    if result is not None:
        message += "; what was computed is this error's .result"
    return SharedMemoryFullError(message, path=directory, free=free, asked=asked, prunable=prunable, result=result)


def anonymous(shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> AnyArray:
    """Make a writable array of zeros in shared memory that has no name.

    Forked children see it and write into it. It is gone with the last array that shows it, whoever is killed.

    Raises
    ------
    SharedMemoryFullError
        If there is no room.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    where = directory()
    prepare(where)
    try:
        segment = _core.Segment.anonymous(where, nbytes)
    except OSError as error:
        if is_full(error):
            raise full(where, nbytes) from error
        raise
    return np.ndarray(shape, dtype, buffer=segment, order=order)  # type: ignore[arg-type]

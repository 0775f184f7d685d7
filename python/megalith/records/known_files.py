"""Digests of what lies in files that megalith keeps: they are never rewritten, so their content is read once.

A part of a file is known by (device, inode, size, mtime, ctime) and where its elements are; for files that megalith
published without ctime, which each use of a cached result sets. The table answers only for mappings that megalith
opened itself and said so (`trust`), and for published shared memory; the file must still be at its path with that
identity. Everything else is hashed: a mapping that somebody else made may be written through, and its times do not
tell.

Files of the user's that megalith mapped (`published=False`) must have been at rest for 2 s, and no process may have
them open or mapped for writing, before they are read, after, and when the answer is given: what is written through a
mapping need not show in the times of a file.

An answer for another mapping than the one that was read is given only if the file was at rest by then: two files with
the same inode and times cannot be more than a tick of the clock apart. Files of others may have been written through a
mapping and must be at rest for long; ours are renamed to their path when they are whole, so a few ticks are enough. For
a mapping itself no such rule is needed, as it keeps its inode from being used again.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import threading
import time
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from megalith import _core

if TYPE_CHECKING:
    from megalith._typing import AnyArray, PathLike

# Smaller arrays are hashed sooner than looked up.
SMALL_BYTES = 1 << 16

# Files that changed less than this ago may change again without a new time.
REST_NS = 2_000_000_000

# The same for published files, on file systems that count fractions of seconds: ticks are up to 10 ms.
PUBLISHED_REST_NS = 50_000_000

MOST = 4096
"""Parts of files that are remembered."""

_Stamp = tuple[int, int, int, int, int]


class _Mapping(NamedTuple):
    path: str
    stamp: _Stamp
    published: bool
    address: int


class _Entry(NamedTuple):
    content: bytes
    mapping: weakref.ref[Any]
    at_rest: bool


class _Place(NamedTuple):
    key: tuple[Any, ...]
    base: Any
    mapping: _Mapping


_mappings: weakref.WeakKeyDictionary[Any, _Mapping] = weakref.WeakKeyDictionary()
_entries: OrderedDict[tuple[Any, ...], _Entry] = OrderedDict()
_lock = threading.Lock()

# Which devices are in memory.
_in_memory: dict[int, bool] = {}


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


# A thread that held it is not there in a forked child.
os.register_at_fork(after_in_child=_renew_lock)


def trust(mapping: Any, path: PathLike, *, published: bool = True, before: os.stat_result | None = None) -> None:
    """Say that megalith has mapped a file, read-only.

    Parameters
    ----------
    mapping : mmap.mmap or ndarray
        What the arrays show; an array stands for the mapping it lies in.
    path : path-like
        The file.
    published : bool
        Whether it is one of megalith's own, which are never rewritten. Others must have been at rest for 2 s each
        time, and nobody may have them open for writing.
    before : os.stat_result, optional
        What was known of the file before it was opened: another one that has its path since is never taken for it.

    Raises
    ------
    FileNotFoundError
        If the file is gone.
    """
    base = mapping
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    name = os.fspath(path)
    name = os.fsdecode(name)
    path = os.path.abspath(name)  # noqa: PTH100
    stat = os.stat(path) if before is None else before  # noqa: PTH116
    _mappings[base] = _Mapping(path, _stamp(stat, published), published, _address(base))


def known(array: AnyArray) -> bytes | None:
    """Return the digest of the elements of an array if it is known, else None."""
    place = _place(array)
    if place is None:
        return None
    entry = _entries.get(place.key)
    if entry is None:
        return None
    if place.mapping.published:
        return entry.content if entry.at_rest or entry.mapping() is place.base else None
    return entry.content if entry.at_rest and _is_undisturbed(place.mapping) else None


def is_quiet(array: AnyArray) -> bool:
    """Whether an array shows a part of a file that nobody writes to; asked before it is read and kept.

    Who writes through a mapping, and ends that before the array has been read, is not seen by `remember`.
    """
    place = _place(array)
    return place is not None and (place.mapping.published or _is_undisturbed(place.mapping))


def remember(array: AnyArray, content: bytes) -> bool:
    """Keep the digest of the elements of an array, if it shows a part of a file that is known.

    Parameters
    ----------
    array : ndarray
        What was read.
    content : bytes
        The digest of its elements.

    Returns
    -------
    kept : bool
        Whether there is such a file.
    """
    place = _place(array)
    if place is None:
        return False
    mapping = place.mapping
    changed = mapping.stamp[3]
    rest = PUBLISHED_REST_NS if mapping.published and changed % 1_000_000_000 else REST_NS
    at_rest = time.time_ns() - changed > rest
    if not (mapping.published or (at_rest and _is_undisturbed(mapping))):
        return False
    with _lock:
        _entries[place.key] = _Entry(content, weakref.ref(place.base), at_rest)
        _entries.move_to_end(place.key)
        while len(_entries) > MOST:
            _entries.popitem(last=False)
    return True


def _place(array: AnyArray) -> _Place | None:
    """Where in which file an array lies, None if that is not certain."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return None
        base = base.base
    if type(base) is memoryview:
        base = base.obj
    mapping = _mapping(base)
    if mapping is None:
        return None
    try:
        if _stamp(os.stat(mapping.path), mapping.published) != mapping.stamp:  # noqa: PTH116 - twice as fast
            return None
    except OSError:
        return None
    offset = array.__array_interface__["data"][0] - mapping.address
    return _Place((mapping.path, mapping.stamp, offset, array.shape, array.strides, array.dtype.str), base, mapping)


def _mapping(base: Any) -> _Mapping | None:
    if not isinstance(base, mmap.mmap | _core.Segment):
        return None
    mapping = _mappings.get(base)
    if mapping is None and isinstance(base, _core.Segment):
        path, identity = base.path, base.identity
        if path is None or identity is None or base.is_foreign:
            return None
        try:
            stamp = _stamp(os.stat(path), published=True)  # noqa: PTH116
        except OSError:
            return None
        if (stamp[0], stamp[1], stamp[2], stamp[3]) != identity:
            return None
        mapping = _mappings[base] = _Mapping(path, stamp, published=True, address=base.address)
    return mapping


def _is_undisturbed(mapping: _Mapping) -> bool:
    """Whether a mapping shows the file it should, and nobody can be writing to that file."""
    return _shows(mapping) and is_undisturbed(mapping.path, mapping.stamp[0])


def is_undisturbed(path: str, device: int) -> bool:
    """Whether nobody can be writing to a file in a way that its times would not tell."""
    return not _has_writers(path) and not _keeps_no_times(path, device)


def _shows(mapping: _Mapping) -> bool:
    """Whether a mapping is of the file that is at its path, and not of one that was there before."""
    inode = b" %d " % mapping.stamp[1]
    try:
        with open("/proc/self/maps", "rb") as maps:  # noqa: PTH123
            lines = [line for line in maps.read().split(b"\n") if inode in line]
    except OSError:
        return False
    spans = [[int(part, 16) for part in line.split(b" ", 1)[0].split(b"-")] for line in lines]
    return any(first <= mapping.address < last for first, last in spans)


def _has_writers(path: str) -> bool:
    """Whether any process has a file open, or mapped, for writing; True where that is not known.

    A lease for reading is given only if nobody has. With none at the time of the digest, the pages are clean: whoever
    comes later sets the time of the file with his first store, which a writer who has a page already does not.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        # Who opens the file for writing just now has us told, by a signal that is ignored unless asked for.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except (OSError, AttributeError):  # Another user's file, a file system or a system without leases.
        return True
    finally:
        os.close(descriptor)
    return False


def _keeps_no_times(path: str, device: int) -> bool:
    """Whether a file system is one in memory: some versions of these do not set times when mappings are written."""
    if device not in _in_memory:
        _in_memory[device] = bool(_core.capacity(os.path.dirname(path))["memory_backed"])  # noqa: PTH120
    return _in_memory[device]


def _address(base: Any) -> int:
    return (
        base.address
        if isinstance(base, _core.Segment)
        else int(np.frombuffer(base, np.uint8, count=1).__array_interface__["data"][0])
    )


def _stamp(stat: os.stat_result, published: bool) -> _Stamp:
    changed = 0 if published else stat.st_ctime_ns
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, changed

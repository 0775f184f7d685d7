"""Who computes a point: a byte of one file, locked by open description.

A lock file for each point would be made and removed for each point, and where many files have just been removed the
next is slow to make: on ext4 a millisecond. So all points of a function share a file, of which each locks the byte that
its key says. The kernel frees it when the holder dies. Where there are no such locks, points have lock files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from megalith.exceptions import FormatError, LockTimeoutError
from megalith.shared.caching import hold, is_making, turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from megalith.context.entries import Entries

# struct flock of 64-bit Linux: type, whence, start, length, process.
_FLOCK = struct.Struct("@hhqqi4x")
_SET: int | None = getattr(fcntl, "F_OFD_SETLK", None) if struct.calcsize("P") == 8 else None
_WAIT, _GET = getattr(fcntl, "F_OFD_SETLKW", None), getattr(fcntl, "F_OFD_GETLK", None)

_BUSY = (errno.EAGAIN, errno.EACCES)

# Directories whose files stay open.
MOST_OPEN = 8

# Hexadecimal digits of a key that fit the offset of a file.
_DIGITS = 15
_END = 16**_DIGITS


class _File:
    """The open file of a directory's locks, closed when nobody has it any more."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        status = os.fstat(self.descriptor)
        self.identity = (status.st_dev, status.st_ino)
        _all_files.add(self)

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    __del__ = close


class _Files(threading.local):
    """The open files of this thread: locks of one description do not exclude each other."""

    def __init__(self) -> None:
        self.known: dict[str, _File] = {}


_files = _Files()
_all_files: weakref.WeakSet[_File] = weakref.WeakSet()


def _close_in_child() -> None:
    # The locks are those of the parent, and must not be held by a child that lives longer.
    global _files
    for file in list(_all_files):
        with contextlib.suppress(OSError):
            file.close()
    _files = _Files()


os.register_at_fork(after_in_child=_close_in_child)


class BusyError(Exception):
    """Somebody else computes the point."""


@contextlib.contextmanager
def claimed(entries: Entries, function: str, key: str, *, wait: bool) -> Iterator[bool]:
    """Have the right to compute a point; False if it is there by now.

    Raises
    ------
    BusyError
        If somebody else has it, and shall not be waited for.
    """
    directory = f"{entries.root}/{function}"
    # Whoever computes something that others may wait for does not wait.
    is_waiting = wait and not is_making()
    with contextlib.ExitStack() as stack:
        try:
            entries.prepare(directory)
            if _SET is None:
                is_ours = stack.enter_context(turn(entries.name(function, key), -1 if is_waiting else 0, _say_nothing))
            else:
                lock = _Lock(_open(directory), key, wait=is_waiting)
                stack.callback(hold((directory, key), lock).release)
                is_ours = not os.path.exists(entries.path(function, key))  # noqa: PTH110
        except (BusyError, LockTimeoutError):
            if not wait:
                raise BusyError from None
            is_ours = True
        except (OSError, FormatError):
            # Where nothing can be locked, it is computed all the same.
            is_ours = True
        yield is_ours


def mark_used(entries: Entries, function: str) -> None:
    """Make the file of the locks of a function: its directory is one of sweeps then."""
    directory = f"{entries.root}/{function}"
    entries.prepare(directory)
    _open(directory)


def is_used(directory: str) -> bool:
    """Whether a directory is one of sweeps: it has a file of locks, of any user."""
    return any(Path(directory).glob("megalith-*/claims"))


def running(directory: str, keys: Sequence[str]) -> set[str]:
    """Return which keys are locked by anybody."""
    found = _found(directory)
    return {key for key in keys if int(key[:_DIGITS], 16) in found} if found else set()


def count(directory: str) -> int:
    """Return how many keys are locked by anybody."""
    return len(_found(directory))


def _found(directory: str) -> set[int]:
    if _GET is None:
        return set()
    try:
        descriptor = os.open(_path(directory), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return set()
    try:
        return set(_locked(descriptor, 0, _END))
    except OSError:
        return set()
    finally:
        os.close(descriptor)


def _locked(descriptor: int, start: int, end: int) -> Iterator[int]:
    """Find all locked bytes: the kernel tells any one in a range."""
    waiting = [(start, end)]
    while waiting:
        start, end = waiting.pop()
        if start < end:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, end - start, 0)
            kind, _, at, n, _ = _FLOCK.unpack(fcntl.fcntl(descriptor, _GET, asked))  # type: ignore[arg-type]
            if kind != fcntl.F_UNLCK:
                yield from range(max(at, start), min(at + n, end))
                waiting += [(start, at), (at + n, end)]


class _Lock:
    """A locked byte, until it is released or nobody has it any more: an interrupt may come between any two steps."""

    def __init__(self, file: _File, key: str, *, wait: bool) -> None:
        self._file: _File | None = file
        self._key = key
        try:
            fcntl.fcntl(file.descriptor, _WAIT if wait else _SET, _range(fcntl.F_WRLCK, key))  # type: ignore[arg-type]
        except OSError as error:
            self._file = None
            if error.errno in _BUSY:
                raise BusyError from None
            raise

    def release(self) -> None:
        file, self._file = self._file, None
        # A forked child has it closed.
        if file is not None and file.descriptor >= 0:
            with contextlib.suppress(OSError):
                fcntl.fcntl(file.descriptor, _SET, _range(fcntl.F_UNLCK, self._key))  # type: ignore[arg-type]

    __del__ = release


def _range(kind: int, key: str) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, int(key[:_DIGITS], 16), 1, 0)


def _path(directory: str) -> str:
    return f"{directory}/megalith-{os.getuid()}/claims"


def _open(directory: str) -> _File:
    """Return this thread's file of a directory, which may have been removed and made again."""
    known, path = _files.known, _path(directory)
    file = known.pop(directory, None)
    if file is not None:
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path, follow_symlinks=False)  # noqa: PTH116
            if file.identity == (status.st_dev, status.st_ino):
                known[directory] = file
                return file
    with contextlib.suppress(FileExistsError):
        os.mkdir(os.path.dirname(path), 0o700)  # noqa: PTH102, PTH120
    file = known[directory] = _File(path)
    if len(known) > MOST_OPEN:
        del known[next(iter(known))]
    return file


def _say_nothing(_: str) -> None:
    """Do not tell of waiting."""

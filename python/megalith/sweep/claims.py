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

# Hexadecimal digits of a key that fit the offset of a file.
_DIGITS = 15
_END = 16**_DIGITS


class _Files(threading.local):
    """The open files of this thread: locks of one description do not exclude each other."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[int, tuple[int, int]]] = {}


_files = _Files()
_descriptors: set[int] = set()


def _close_in_child() -> None:
    # The locks are those of the parent, which must not be held by a child that lives longer.
    global _files
    for descriptor in _descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()
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
                descriptor = _open(directory)
                is_ours = _lock(descriptor, key, wait=is_waiting)
                if is_ours:
                    stack.callback(hold((directory, key), _Lock(descriptor, key)).release)
                    is_ours = not os.path.exists(entries.path(function, key))  # noqa: PTH110
        except (BusyError, LockTimeoutError):
            if not wait:
                raise BusyError from None
            is_ours = True
        except (OSError, FormatError):
            # Where nothing can be locked, it is computed all the same.
            is_ours = True
        yield is_ours


def running(directory: str, keys: Sequence[str]) -> set[str]:
    """Return which keys are locked by anybody."""
    if _GET is None:
        return set()
    try:
        descriptor = os.open(_path(directory), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return set()
    try:
        found = set(_locked(descriptor, 0, _END))
    except OSError:
        found = set()
    finally:
        os.close(descriptor)
    return {key for key in keys if int(key[:_DIGITS], 16) in found} if found else set()


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
    """A locked byte."""

    def __init__(self, descriptor: int, key: str) -> None:
        self._descriptor, self._key, self._process = descriptor, key, os.getpid()

    def release(self) -> None:
        if self._process == os.getpid():
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._descriptor, _SET, _range(fcntl.F_UNLCK, self._key))  # type: ignore[arg-type]


def _lock(descriptor: int, key: str, *, wait: bool) -> bool:
    try:
        fcntl.fcntl(descriptor, _WAIT if wait else _SET, _range(fcntl.F_WRLCK, key))  # type: ignore[arg-type]
    except OSError as error:
        if error.errno in _BUSY:
            raise BusyError from None
        raise
    return True


def _range(kind: int, key: str) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, int(key[:_DIGITS], 16), 1, 0)


def _path(directory: str) -> str:
    return f"{directory}/megalith-{os.getuid()}/claims"


def _open(directory: str) -> int:
    """Return this thread's descriptor of the file of a directory, which may have been removed and made again."""
    known = _files.known.get(directory)
    path = _path(directory)
    if known is not None:
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path, follow_symlinks=False)  # noqa: PTH116
            if known[1] == (status.st_dev, status.st_ino):
                return known[0]
        del _files.known[directory]
        _descriptors.discard(known[0])
        os.close(known[0])
    with contextlib.suppress(FileExistsError):
        os.mkdir(os.path.dirname(path), 0o700)  # noqa: PTH102, PTH120
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    _descriptors.add(descriptor)
    status = os.fstat(descriptor)
    _files.known[directory] = (descriptor, (status.st_dev, status.st_ino))
    return descriptor


def _say_nothing(_: str) -> None:
    """Do not tell of waiting."""

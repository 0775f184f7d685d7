"""Files and directories that are on the disk, whatever happens to the power, and locks that end with their holder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import TYPE_CHECKING

from megalith import _core

if TYPE_CHECKING:
    from pathlib import Path

_NOT_SUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)

# Have the bytes of a file of unchanged size on the disk, by its descriptor.
sync_data = getattr(os, "fdatasync", os.fsync)

# Descriptors of locks: a forked child has them too, and would keep the lock of a parent that was killed.
_held: set[int] = set()


def sync(directory: Path) -> None:
    """Have the names in a directory on the disk."""
    descriptor = open_directory(directory)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:  # Some file systems cannot sync directories and need not.
            raise
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Have what was written to a file on the disk."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_directory(directory: Path) -> int:
    """Return a descriptor of a directory."""
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def make_directory(directory: Path, mode: int = 0o700) -> None:
    """Make a directory and those above it, if they are missing."""
    if not directory.is_dir():
        make_directory(directory.parent, mode)
        directory.mkdir(mode, exist_ok=True)
        sync(directory.parent)


def publish(draft: _core.Draft, *, replace: bool, mode: int | None = None, durable: bool = True) -> None:
    """Give a file its name, if `durable` when all of it is on the disk; `sync` has the name there too."""
    descriptor = draft.duplicate()
    try:
        if mode is not None:
            os.fchmod(descriptor, mode)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.publish(replace=replace)


def write(path: Path, data: bytes, mode: int | None = None, *, durable: bool = True) -> None:
    """Put bytes under a name, in place of the file that has it; if `durable` both are on the disk then."""
    draft = _core.Draft(os.fspath(path), len(data))
    try:
        draft.write(0, data)
        publish(draft, replace=True, mode=mode, durable=durable)
    except BaseException:
        draft.discard()
        raise
    if durable:
        sync(path.parent)


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file: True, False if another has the lock, None where there are no locks."""
    return _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock(descriptor: int) -> bool | None:
    """Lock an open file, and wait for it; None where there are no locks."""
    return _lock(descriptor, fcntl.LOCK_EX)


def _lock(descriptor: int, how: int) -> bool | None:
    _held.add(descriptor)
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        _held.discard(descriptor)
        return False
    except OSError:
        _held.discard(descriptor)
        return None
    return True


def unlock(descriptor: int) -> None:
    """Give a lock back, and close the file."""
    _held.discard(descriptor)
    # Explicitly: a child that was forked meanwhile may have the descriptor too.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether a name still is that of an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _let_go() -> None:
    """Give up what the parent holds: not by unlocking, which would unlock it for the parent too."""
    if not _held:
        return
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in _held:
        os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)

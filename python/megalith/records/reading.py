"""Values from files, or from any memory that holds one."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from megalith import _core, _npy
from megalith._threads import requested
from megalith.exceptions import ArgumentError, DTypeError, FormatError
from megalith.records import archive
from megalith.records.tree import unflatten

if TYPE_CHECKING:
    from megalith._typing import AnyArray, Order, PathLike, Processes

Make: TypeAlias = Callable[[int, "tuple[int, ...]", "np.dtype[Any]", "Order"], "AnyArray"]

# Smaller files are read at once, and their arrays copied.
SMALL_BYTES = 1 << 16

# Of smaller ones each array is read by one thread; of larger ones by all.
MEDIUM_BYTES = 1 << 24


def read(
    buffer: bytes | bytearray | memoryview,
    path: PathLike,
    make: Make | None = None,
    *,
    verify: bool = False,
    processes: Processes = None,
) -> Any:
    """Read a value from memory that holds the whole file.

    Parameters
    ----------
    buffer : bytes-like
        The bytes of the file.
    path : path
        Its name: for messages, and its suffix says whether it is one array (``.npy``) or a record (``.npz``).
    make : callable, optional
        ``make(offset, shape, dtype, order)`` gives an array of the file. By default views of the buffer.
    verify : bool
        Whether to compute the checksum of each array of a record. A ``.npy`` file holds none.
    processes : int or 'serial', optional
        Upper bound on threads for `verify`; None means all cores given to this process.

    Returns
    -------
    value : object
        The value that was written.

    Raises
    ------
    FormatError
        If the bytes are damaged, or are no record. Nothing outside of the buffer is ever touched.
    TruncatedFileError
        If the end of them is missing.
    DTypeError
        If a ``.npy`` file holds pickled Python objects, which are never loaded.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from megalith import records
    >>> path = records.save(pathlib.Path(tempfile.mkdtemp()) / 'pair', (np.eye(2), None))
    >>> records.read(path.read_bytes(), path)[0].flags.owndata
    False
    """
    verify_below = sys.maxsize if verify else 0
    return _read(memoryview(buffer).cast("B"), path, make, verify_below, processes).value


class Record(NamedTuple):
    """A value, and what was said of it."""

    value: Any
    about: Any


def _read(view: memoryview, path: PathLike, make: Make | None, verify_below: int, processes: Processes) -> Record:
    """Read a value, with the checksums of its arrays of fewer bytes than `verify_below`."""
    if make is None:
        make = _views(view)
    name = os.fspath(path)
    if name.endswith(".npy"):
        header = _npy.parse_header(view, path, len(view))
        return Record(make(header.offset, header.shape, header.dtype, header.order), None)
    if not name.endswith(".npz"):
        message = f"{name}: values are kept in files that end in '.npy' or '.npz'"
        raise FormatError(message, path=path, field="suffix", got=Path(name).suffix)
    found = archive.parse(view, path)
    threads = requested(processes) if verify_below else None
    leaves = []
    for i, (start, size) in enumerate(found.members):
        member = archive.member_name(i)
        shape, dtype, order, offset = _header(view[start : start + size], path, member)
        array = make(start + offset, shape, dtype, order)
        if array.nbytes < verify_below:
            items = array.T if order == "F" else array
            xxh3 = _core.xxh3(bytes(view[start : start + offset]), items, threads)
            if f"{xxh3:016x}" != found.checksums[i]:
                message = f"{name}, member {member}: its checksum is wrong: the file is damaged"
                raise FormatError(message, path=path, field=f"{member}: xxh3", got=f"{xxh3:016x}")
        leaves.append(array)
    return Record(unflatten(found.value, leaves, path), found.about)


def _header(member: memoryview, path: PathLike, name: str) -> _npy.Header:
    """Read the header of a member, which ends with its last element."""
    try:
        header = _npy.parse_header(member, path, len(member), name)
    except DTypeError as error:
        raise FormatError(error.message, path=path, field=f"{name}: descr", got=str(error)) from error
    wanted = header.offset + _nbytes(header.shape, header.dtype)
    if wanted != len(member):
        message = f"{os.fspath(path)}, member {name}: it has {len(member)} bytes, its header says {wanted}"
        raise FormatError(message, path=path, field=f"{name}: size", got=len(member))
    return header


def _nbytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    nbytes = dtype.itemsize
    for n in shape:
        nbytes *= n
    return nbytes


def _views(buffer: memoryview) -> Make:
    """Return a maker of views."""

    def view(offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> AnyArray:
        return np.ndarray(shape, dtype, buffer, offset, order=order)

    return view


def load(
    path: PathLike,
    mmap_mode: Literal["r", "c"] | None = None,
    *,
    verify: bool = False,
    processes: Processes = None,
) -> Any:
    """Read a value from a file.

    Parameters
    ----------
    path : path
        A ``.npy`` file, or a ``.npz`` file that `save` wrote.
    mmap_mode : {'r', 'c'}, optional
        Map the arrays instead of reading them: read-only, or with changes that stay in memory. They are memmaps then.
    verify : bool
        Whether to compute the checksum of each array of a record. A ``.npy`` file holds none.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.

    Returns
    -------
    value : object
        The value that was written.

    Raises
    ------
    FileNotFoundError, PermissionError
        If the file cannot be opened.
    FormatError
        If it is damaged, or no record.
    TruncatedFileError
        If its end is missing.
    DTypeError
        If a ``.npy`` file holds pickled Python objects, which are never loaded.
    ArgumentError
        If there is no such `mmap_mode`.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from megalith import records
    >>> path = records.save(pathlib.Path(tempfile.mkdtemp()) / 'model', {'a': np.arange(3.0), 'b': [1, 2.5, 'x']})
    >>> records.load(path)
    {'a': array([0., 1., 2.]), 'b': [1, 2.5, 'x']}
    >>> records.load(path, mmap_mode='r')['a'].flags.writeable
    False
    """
    if mmap_mode not in (None, "r", "c"):
        message = f"mmap_mode: got {mmap_mode!r}, expected 'r', 'c' or None; files of values are never changed"
        raise ArgumentError(message, name="mmap_mode", got=mmap_mode, expected="'r', 'c' or None")
    return open_record(path, mmap_mode, sys.maxsize if verify else 0, processes=processes).value


def open_record(
    path: PathLike,
    mmap_mode: Literal["r", "c"] | None = None,
    verify_below: int = sys.maxsize,
    *,
    map_from: int = sys.maxsize,
    unnoted: bool = False,
    processes: Processes = None,
    flags: int = 0,
) -> Record:
    """Read a value from a file, and what was said of it.

    Parameters
    ----------
    path : path
        The file.
    mmap_mode : {'r', 'c'}, optional
        As for `load`.
    verify_below : int
        Arrays of fewer bytes are compared with their checksums.
    map_from : int
        Without `mmap_mode`: arrays of so many bytes or more are mapped, read-only.
    unnoted : bool
        Whether the file's time of last access stays as it is, where the system allows that.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.
    flags : int
        How the file is opened as well: `os.O_NOFOLLOW` for instance.

    Returns
    -------
    record : Record
        ``value`` and ``about``, which is None where nothing was said.

    Raises
    ------
    FileNotFoundError, PermissionError, FormatError, TruncatedFileError, DTypeError
        As `load`.
    """
    name = os.fspath(path)
    descriptor = _open(name, flags, unnoted=unnoted)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FormatError(f"{name}: it is no file", path=path, field="type", got=stat.filemode(status.st_mode)[0])
        size = status.st_size
        if size <= SMALL_BYTES and mmap_mode is None and map_from > size:
            view = memoryview(os.read(descriptor, size))
            return _read(view, name, _copies(view), verify_below, processes)
        if size == 0:
            return _read(memoryview(b""), name, None, verify_below, processes)
        content = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
        maps = _memmaps(descriptor, Path(name), mmap_mode or "r")
        if mmap_mode is not None:
            return _read(memoryview(content), name, maps, verify_below, processes)
        if size <= MEDIUM_BYTES and map_from > size:
            return _read(memoryview(content), name, _preads(descriptor), verify_below, processes)
        opened = _core.File(name)
        if os.path.samestat(Path(name).stat(), os.fstat(descriptor)):
            make = _reads(opened, requested(processes))
            return _read(memoryview(content), name, _by_size(map_from, make, maps), verify_below, processes)
    finally:
        os.close(descriptor)
    # Another file has the name by now.
    return open_record(
        path, mmap_mode, verify_below, map_from=map_from, unnoted=unnoted, processes=processes, flags=flags
    )


def _open(name: str, flags: int, *, unnoted: bool) -> int:
    # A pipe would be waited for.
    flags |= os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    if unnoted:
        with contextlib.suppress(PermissionError):  # Only the owner may.
            return os.open(name, flags | getattr(os, "O_NOATIME", 0))
    return os.open(name, flags)


def _by_size(map_from: int, small: Make, large: Make) -> Make:
    def make(offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> AnyArray:
        return (large if _nbytes(shape, dtype) >= map_from else small)(offset, shape, dtype, order)

    return make


def _copies(buffer: memoryview) -> Make:
    """Return a maker of copies."""
    views = _views(buffer)

    def copy(offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> AnyArray:
        array: AnyArray = np.ndarray(shape, dtype, order=order)
        if array.nbytes:
            _npy.raw(array)[...] = _npy.raw(views(offset, shape, dtype, order))
        return array

    return copy


def _preads(descriptor: int) -> Make:
    """Return a maker of arrays that are read by this thread."""

    def read_all(offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> AnyArray:
        array: AnyArray = np.ndarray(shape, dtype, order=order)
        sink: Any = (array.T if order == "F" else array).reshape(-1).view(np.uint8) if array.nbytes else array
        # A file that was cut after it was opened has too few bytes; its checksum, or the mapping, would tell first.
        n_read = 0
        while n_read < array.nbytes and (n := os.preadv(descriptor, [sink[n_read:]], offset + n_read)):
            n_read += n
        return array

    return read_all


def _memmaps(descriptor: int, path: Path, mode: Literal["r", "c"]) -> Make:
    """Return a maker of memmaps of an open file."""
    name = os.fspath(path.absolute())
    file: Any = os.fdopen(descriptor, "rb", buffering=0, closefd=False)

    def memmap(offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> AnyArray:
        if _nbytes(shape, dtype) == 0:
            array: AnyArray = np.ndarray(shape, dtype, b"" if mode == "r" else bytearray(), order=order)
            return array
        mapped: AnyArray = np.memmap(file, dtype, mode, offset, shape, order)
        mapped.filename = name  # type: ignore[attr-defined]
        return mapped

    return memmap


def _reads(file: _core.File, threads: int | None) -> Make:
    """Return a maker of arrays that are read by all cores."""

    def read_all(offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> AnyArray:
        array: AnyArray = np.ndarray(shape, dtype, order=order)
        if array.nbytes:
            items = array.T if order == "F" else array
            file.read_box(offset, items.shape, [(0, n) for n in items.shape], items, threads, None)
        return array

    return read_all

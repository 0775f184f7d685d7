"""Named values in files that people read, each saved entirely or not at all.

A value is the file ``<name>.json`` (see `megalith.context.tagged`). Its large arrays are ``.npy`` files named by a
digest of their content, in a directory of that one version::

    fit.json
    fit.arrays/<version>/<digest>.npy

Files are written once and never changed. To save is

1. to make the directory of the new version, locked, and its arrays (links to those of the version before, where these
   are the same), all synced;
2. to rename the new JSON over the old one, and to sync that;
3. to remove the versions that no JSON names.

A process that is killed before 2 leaves the old version, one that is killed later the new one. A reader that finds the
JSON but not its arrays any more reads the JSON again: there is another one.

The lock of 1 is only for 3: a version that is not named may still become so while its writer lives. It is flock on the
directory, which ends with the writer. Versions that were named before the rename are over, locked or not. Where locks
do not reach (other machines, some network file systems) what is not named is left alone for a day.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import platform
import re
import secrets
import shutil
import stat
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from megalith import _core, _durable, _npy, records
from megalith.context.tagged import decode, encode
from megalith.exceptions import ArgumentError, DTypeError, FileWriteError, FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from megalith._typing import AnyArray, Order, PathLike

Location: TypeAlias = Literal["local", "global"]

# Arrays in files from so many bytes on are mapped when they are loaded, smaller ones are read and verified.
MAPPED_BYTES = 64 << 20

# What nobody names and no lock tells of is removed after this time.
FOREIGN_S = 24 * 3600.0

# With `.json`, `.arrays` and what temporary names add, below the 255 bytes that most file systems allow.
MOST_CHARACTERS = 200

_PART = r"[A-Za-z0-9=+_-][A-Za-z0-9=+._-]*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")

# Directories that are not the store's own.
_TAKEN = (["results"], ["memcache"])
_VERSION = re.compile(r"[0-9a-f]{24}")
_FILE = re.compile(r"([0-9a-f]{24})/([0-9a-f]{24}\.npy)")

# How a JSON names a file. No text inside of it can look so: quotes in text have backslashes.
_NAMED = re.compile(rb'"__ndarray__"\s*:\s*\{\s*"file"\s*:\s*"([0-9a-f]{24})/')

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Store:
    """Values by name, in a directory.

    Parameters
    ----------
    directory : path
        Where values are kept. It is made when the first one is saved.
    global_directory : path, optional
        Where values of location 'global' are kept; by default ``megalith`` in the user's config directory
        (``XDG_CONFIG_HOME``, or ``~/.config``).

    Notes
    -----
    Any number of threads and processes may save and load at once. Of two that save one name the later one stays, whole,
    and a reader gets the old value or the new one. Nothing waits for anything.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from megalith.context.store import Store
    >>> store = Store(tempfile.mkdtemp())
    >>> store.save('clusters', {3: 'good', 7: 'noise', 'shift': np.array([0.1, -2])})
    >>> store.load('clusters')
    {3: 'good', 7: 'noise', 'shift': array([ 0.1, -2. ])}
    >>> store.load('other')
    {}
    """

    def __init__(self, directory: PathLike, global_directory: PathLike | None = None) -> None:
        self.directory = Path(directory)
        self._global_directory = None if global_directory is None else Path(global_directory)

    def __repr__(self) -> str:
        return f"Store({os.fspath(self.directory)!r})"

    def save(self, name: str, data: Any, location: Location = "local") -> None:
        """Save a value under a name, in place of the one that has it.

        Parameters
        ----------
        name : str
            Letters, digits and ``=+._-``, not beginning with a dot; ``'a/b'`` lies in a directory.
        data : object
            Usually a dict. NumPy arrays and scalars of any type without Python objects, str, bytes, int, float,
            complex, bool, None, dates, times, Paths, Qt byte arrays, and dicts, lists, tuples and sets of these.
        location : {'local', 'global'}
            In the directory of the store, or in the user's config directory.

        Raises
        ------
        ArgumentError
            If the name or the location is none.
        DTypeError
            If something in the data cannot be kept; the message says where it is. Nothing has changed then.
        FileWriteError
            If there is no room. The value before is still there, and nothing is left of the new one.
        OSError
            If the files cannot be written.

        Notes
        -----
        All comes back as it was, except that keys of the outermost dict that are digits come back as integers (both 1
        and '1' as 1, unless both are in it), as in phy; that arrays are plain ndarrays; and that dicts of a class of
        their own are plain dicts. Arrays of up to 1,000 elements are readable in the file, others of more than 16 KiB
        are files of their own.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> from megalith.context.store import Store
        >>> store = Store(tempfile.mkdtemp())
        >>> store.save('view', {'shown': {'ch1', 'ch2'}, 'range': (0, 2.5), 'rgb': np.array([255, 0, 9], 'u1')})
        >>> print((store.directory / 'view.json').read_text(), end='')
        {
          "shown": {"__set__": ["ch1", "ch2"]},
          "range": {"__tuple__": [0, 2.5]},
          "rgb": {"__ndarray__": [255, 0, 9], "dtype": "|u1", "shape": [3]}
        }
        """
        entry = self._entry(name, location)
        version = _new_version()
        arrays: dict[str, _Large] = {}

        def keep(array: AnyArray) -> str:
            large = _large(array)
            arrays[large.file] = large
            return f"{version}/{large.file}"

        text = encode(data, keep).encode()
        try:
            _durable.make_directory(entry.path.parent)
            before = entry.versions()
            with _locked_version(entry, version) if arrays else contextlib.nullcontext():
                for large in arrays.values():
                    path = entry.arrays / version / large.file
                    if not any(_link(entry.arrays / old / large.file, path, large.plan.nbytes) for old in before):
                        _write_array(path, large)
                if arrays:
                    _durable.sync(entry.arrays / version)
                    _durable.sync(entry.arrays)
                _durable.write(entry.path, text, 0o600)
        except BaseException as error:
            # The JSON may have got its name before the error came.
            if arrays and version not in entry.versions():
                shutil.rmtree(entry.arrays / version, ignore_errors=True)
                _remove_empty(entry.arrays)
            if isinstance(error, OSError) and error.errno in _FULL and not isinstance(error, FileWriteError):
                message = f"{entry.path}: no room for it: {error.strerror}"
                raise FileWriteError(message, path=entry.path, errno=error.errno) from error
            raise
        _sweep(entry, before)

    def load(self, name: str, location: Location = "local", default: Any = None) -> Any:
        """Load the value that has a name.

        Parameters
        ----------
        name : str
            As it was saved.
        location : {'local', 'global'}
            In the directory of the store, or in the user's config directory.
        default : object
            What is returned if there is none; None stands for an empty dict, as in phy.

        Returns
        -------
        data : object
            The value. Arrays of 64 MiB and more are read-only memmaps, all others its own.

        Raises
        ------
        ArgumentError
            If the name or the location is none.
        FormatError
            If the file, or one of its arrays, is damaged or missing; the message says which and where.
        OSError
            If a file cannot be read.

        Notes
        -----
        Files that phy has written are read too. Nothing in a file is executed or unpickled.

        Examples
        --------
        >>> import tempfile
        >>> from megalith.context.store import Store
        >>> store = Store(tempfile.mkdtemp())
        >>> store.load('state', default='nothing yet')
        'nothing yet'
        >>> text = '{"12": {"__ndarray__": "AQI=", "dtype": "uint8", "shape": [2]}}'
        >>> _ = (store.directory / 'state.json').write_text(text)
        >>> store.load('state')
        {12: array([1, 2], dtype=uint8)}
        """
        entry = self._entry(name, location)
        content = entry.read()
        while content is not None:
            try:
                return decode(_as_text(content, entry.path), entry.open_array, entry.path)
            except FileNotFoundError as error:
                latest = entry.read()
                if latest == content:
                    message = f"{entry.path}: the file {error.filename} of one of its arrays is missing"
                    raise FormatError(message, path=entry.path, field="file", got=error.filename) from error
                content = latest
        return {} if default is None else default

    def _entry(self, name: Any, location: Location) -> _Entry:
        """Return the files of a name."""
        directories = name.split("/")[:-1] if isinstance(name, str) else []
        is_taken = directories[:1] in _TAKEN or any(part.endswith(".arrays") for part in directories)
        if is_taken or not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MOST_CHARACTERS:
            allowed = (
                f"1 to {MOST_CHARACTERS} letters, digits or any of =+._-, not beginning with a dot; 'a/b' is b in the "
                "directory a, which is neither results nor memcache nor one of arrays"
            )
            raise ArgumentError(f"name: got {name!r}, expected {allowed}", name="name", got=name, expected=allowed)
        if location == "local":
            directory = self.directory
        elif location == "global":
            directory = self._global_directory or _config_directory()
        else:
            message = f"location: got {location!r}, expected 'local' or 'global'"
            raise ArgumentError(message, name="location", got=location, expected="'local' or 'global'")
        return _Entry(directory / f"{name}.json", directory / f"{name}.arrays")


class _Entry(NamedTuple):
    """The files of a name."""

    path: Path
    arrays: Path

    def read(self) -> bytes | None:
        """Read the JSON, None if there is none."""
        try:
            with _open(self.path) as file:
                return file.readall()
        except FileNotFoundError:
            return None

    def versions(self) -> set[str]:
        """Return the versions that the JSON names."""
        if not self.arrays.is_dir():
            return set()
        return {version.decode() for version in _NAMED.findall(self.read() or b"")}

    def open_array(self, file: Any) -> AnyArray:
        """Read or map a large array."""
        found = _FILE.fullmatch(file) if type(file) is str else None
        if found is None:
            raise ValueError(f"no file of an array is called {file!r}"[:200])
        path = self.arrays / found[1] / found[2]
        for place in (self.arrays, path.parent, path):
            if place.is_symlink():
                raise FormatError(f"{place}: a symbolic link, which is not followed", path=place, field="file")
        with _open(path, os.O_NOFOLLOW) as file:
            try:
                return _read_array(file, path)
            except DTypeError as error:
                raise FormatError(error.message, path=path, field="descr") from error


def _config_directory() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME", "")
    # The specification wants relative ones ignored.
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".config") / "megalith"


@contextlib.contextmanager
def _open(path: Path, flags: int = 0) -> Iterator[FileIO]:
    """Open a regular file for reading; what is no file is an error, not a wait for a writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FormatError(f"{path}: not a regular file", path=path, field="file", got="special file")
        yield file


def _as_text(content: bytes, path: Path) -> str:
    if not content:
        raise FormatError(f"{path}: the file is empty", path=path, field="json", got=b"")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{path}: not valid JSON: no UTF-8 at byte {error.start}"
        raise FormatError(message, path=path, field=f"byte {error.start}", got=content[error.start]) from error


class _Large(NamedTuple):
    """An array for a file of its own."""

    plan: records.Plan
    file: str


def _large(array: AnyArray) -> _Large:
    order: Order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    header = _npy.make_header(array.shape, array.dtype, order, "data")
    plan = records.plan(array, name="data", suffix=".npy")
    return _Large(plan, _file_name(header, array))


def _file_name(header: bytes, array: AnyArray) -> str:
    """Return the name of an array's file, by all of its content."""
    is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    crc32, xxh3 = _core.checksums(header, array.T if is_fortran else array)
    return f"{xxh3:016x}{crc32:08x}.npy"


def _read_array(file: FileIO, path: Path) -> AnyArray:
    """Read or map the array of an open file."""
    shape, dtype, order, offset, buffer = _header(file, path)
    if len(buffer) >= MAPPED_BYTES:
        mapped: AnyArray = np.memmap(file, dtype, "r", offset, shape, order)
        mapped.filename = os.fspath(path)  # type: ignore[attr-defined]
        return mapped
    array: AnyArray = np.ndarray(shape, dtype, order=order)
    if array.nbytes:
        items = _npy.raw(array.T if order == "F" else array).reshape(-1).view(np.uint8)
        file.seek(offset)
        done = 0
        while done < items.nbytes and (n := file.readinto(items[done:].data)):
            done += n
        if done < items.nbytes:
            raise FormatError(
                f"{path}: it ends after {done} of {items.nbytes} bytes", path=path, field="shape", got=done
            )
    return _verified(bytes(buffer[:offset]), array, path)


def _header(file: FileIO, path: Path) -> tuple[tuple[int, ...], np.dtype[Any], Order, int, memoryview]:
    """Read the header of an open file; with it comes the content, mapped."""
    size = os.fstat(file.fileno()).st_size
    buffer = memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b"")
    return *_npy.parse_header(buffer, path, size), buffer


def _verified(header: bytes, array: AnyArray, path: Path) -> AnyArray:
    """Return an array if it is what the name of its file says."""
    got = _file_name(header, array)
    if got != path.name:
        message = f"{path}: its content is not the one that its name is a digest of: the file is damaged"
        raise FormatError(message, path=path, field="digest", got=got)
    return array


def _new_version() -> str:
    return f"{_host():08x}{secrets.token_hex(8)}"


def _host() -> int:
    """Return a digest of the running system, whose processes see each other's locks."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        name = platform.node()
    return zlib.crc32(name.encode())


def _remove_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()


@contextlib.contextmanager
def _locked_version(entry: _Entry, version: str) -> Iterator[None]:
    """Make the directory of a version, locked as long as it is not named."""
    path = entry.arrays / version
    while True:
        _durable.make_directory(entry.arrays)
        # Who sweeps may remove what is empty or not yet locked.
        with contextlib.suppress(FileNotFoundError):
            path.mkdir(0o700, exist_ok=True)
            descriptor = _durable.open_directory(path)
            if _durable.try_lock(descriptor) is not False and _durable.is_at(descriptor, path):
                break
            _durable.unlock(descriptor)
    try:
        yield
    finally:
        _durable.unlock(descriptor)


def _write_array(path: Path, large: _Large) -> None:
    draft = _core.Draft(os.fspath(path), large.plan.nbytes)
    try:
        large.plan.write(draft)
        _durable.publish(draft, replace=False, mode=0o600)
    except BaseException:
        draft.discard()
        raise


def _link(old: Path, path: Path, nbytes: int) -> bool:
    """Give a file of another version a second name in this one, if it is there and whole."""
    try:
        os.link(old, path, follow_symlinks=False)
    except OSError:
        return False
    try:
        with _open(path, os.O_NOFOLLOW) as file:
            shape, dtype, order, offset, buffer = _header(file, path)
            if len(buffer) == nbytes:
                _verified(bytes(buffer[:offset]), np.ndarray(shape, dtype, buffer, offset, order=order), path)
                return True
    except (OSError, FormatError, DTypeError):
        pass
    path.unlink()
    return False


def _sweep(entry: _Entry, before: set[str]) -> None:
    """Remove the versions that are over."""
    # The value is saved: what cannot be removed is left for the next time.
    with contextlib.suppress(OSError, FormatError):
        if not entry.arrays.is_dir():
            return
        current = entry.versions()
        for path in list(entry.arrays.iterdir()):
            if _VERSION.fullmatch(path.name) and path.name not in current:
                with contextlib.suppress(OSError):
                    _remove_if_over(entry, path, was_named=path.name in before)
        _remove_empty(entry.arrays)


def _remove_if_over(entry: _Entry, path: Path, *, was_named: bool) -> None:
    descriptor = _durable.open_directory(path)
    try:
        is_here = path.name.startswith(f"{_host():08x}")
        is_old = time.time() - os.fstat(descriptor).st_mtime > FOREIGN_S
        # It may have got its name since that was looked at; with the lock it cannot any more.
        if (was_named or is_old or (is_here and _durable.try_lock(descriptor))) and path.name not in entry.versions():
            shutil.rmtree(path)
    finally:
        _durable.unlock(descriptor)

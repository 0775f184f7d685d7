"""What is known of a run: its manifest, and a record of each finished block.

Beside ``result.h5`` lies ``result.h5.blocks`` while a run goes on, and for virtual results afterwards::

    run.json     what the run is made of, written first
    3.json       the record of block 3: shape, type, checksum. It is written when the data are on the disk
    3.h5         the data of block 3, unless they go to ``result.h5.partial``

Every file is complete when it has its name, and may be written a second time with the same content: workers that were
thought dead, and tasks that a scheduler runs twice, do no harm. A record without its data, or with others, is refused
by the checksum.
"""

from __future__ import annotations

import ast
import json
import logging
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from megalith import _core, _durable, _npy
from megalith.exceptions import FormatError
from megalith.hdf5 import files
from megalith.hdf5.plan import chunks_of
from megalith.records.digest import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from megalith._typing import AnyArray

MANIFEST = "run.json"

_log = logging.getLogger(__name__)


class Done(NamedTuple):
    """A finished block."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    checksum: str
    identity: tuple[int, int] | None = None
    """Inode and size of its file, if it has one."""


class Journal:
    """The directory of a run.

    Parameters
    ----------
    directory : pathlib.Path
        Where it is.
    run : str
        What identifies the run.
    """

    def __init__(self, directory: Path, run: str) -> None:
        self.directory = directory
        self.run = run

    def block(self, index: int) -> Path:
        """Return the file of a block's data."""
        return self.directory / f"{index}.h5"

    def add(self, index: int, done: Done) -> None:
        """Record a block whose data are on the disk."""
        record = {
            "run": self.run,
            "shape": done.shape,
            "dtype": repr(np.lib.format.dtype_to_descr(done.dtype)),
            "xxh3": done.checksum,
        }
        # Synced when it has its name: that costs one turn of the disk instead of two, and takes the name of the block's
        # file along. A record that is torn after all is no record.
        data = json.dumps(record).encode()
        draft = _core.Draft(os.fspath(self._record(index)), len(data))
        descriptor = draft.duplicate()
        try:
            draft.write(0, data)
            draft.publish(replace=True)
            os.fsync(descriptor)
        except BaseException:
            draft.discard()
            raise
        finally:
            os.close(descriptor)
        _durable.sync(self.directory)

    def find(self, index: int) -> Done | None:
        """Return what is recorded of a block by this run."""
        try:
            record = json.loads(self._record(index).read_bytes())
            if record["run"] != self.run:
                return None
            dtype = np.lib.format.descr_to_dtype(ast.literal_eval(record["dtype"]))
            return Done(tuple(record["shape"]), dtype, record["xxh3"])
        except (FileNotFoundError, ValueError, KeyError, TypeError, SyntaxError):
            return None

    def _record(self, index: int) -> Path:
        return self.directory / f"{index}.json"


def checksum(array: AnyArray) -> str:
    """Return the XXH3 digest of the elements, the type and the shape of an array."""
    if array.dtype.names is not None:  # Bytes between fields mean nothing, and do not come back.
        return digest(array)
    items = _npy.raw(np.ascontiguousarray(array)).reshape(-1)
    return f"{_core.xxh3(repr((array.shape, array.dtype)).encode(), items):016x}"


def write_block(path: Path, array: AnyArray, dataset: str, compression: Any, chunks: Any) -> Done:
    """Write a file of one block; its name is on the disk when it is recorded."""
    if compression is None or array.size == 0:
        image = files.plain_image(array.shape, array.dtype, dataset)
        files.put(path, image, array)
    else:
        chunks = chunks or chunks_of(array.shape, array.itemsize)
        if chunks is not None:  # HDF5 wants none that are larger than the dataset.
            chunks = tuple(map(min, chunks, array.shape))
        files.put(path, files.compressed_image(array, dataset, compression, chunks))
    stat = path.stat()
    return Done(array.shape, array.dtype, checksum(array), (stat.st_ino, stat.st_size))


def read_block(path: Path, dataset: str, done: Done) -> tuple[AnyArray, Done] | None:
    """Read a block's file, None if it is not there or not what its record says."""
    try:
        with files.open_file(path) as file:
            array = np.empty(done.shape, done.dtype)
            found = files.dataset_of(file, dataset)
            if (found.shape, found.dtype) != (done.shape, done.dtype):
                return None
            array[...] = found[()]
        stat = path.stat()
    except (OSError, FormatError, KeyError, RuntimeError):
        return None
    return (array, done._replace(identity=(stat.st_ino, stat.st_size))) if checksum(array) == done.checksum else None


@contextmanager
def opened(directory: Path, what: str) -> Iterator[None]:
    """Make the directory of a run, and have it alone in a ``with`` block.

    A second run of the same result waits until the first has ended, or was killed. Where there are no locks both work,
    and write the same.
    """
    while True:
        directory.mkdir(exist_ok=True)
        descriptor = _durable.open_directory(directory)
        if _durable.try_lock(descriptor) is False:
            _log.warning("%s is being written by another process; waiting for it", what)
            _durable.lock(descriptor)
        if _durable.is_at(descriptor, directory):
            break
        _durable.unlock(descriptor)
    try:
        yield
    finally:
        _durable.unlock(descriptor)


def read_manifest(directory: Path) -> dict[str, str] | None:
    """Return what a run is made of, None if there is no run.

    Raises
    ------
    FormatError
        If the file is damaged.
    """
    path = directory / MANIFEST
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        message = f"{path}: it is damaged: {error}; give resume=False to begin anew"
        raise FormatError(message, path=path, field="json") from error
    return dict(found)


def write_manifest(directory: Path, identity: Mapping[str, str]) -> None:
    """Begin a run."""
    _durable.write(directory / MANIFEST, json.dumps(dict(identity), indent=1).encode())
    _durable.sync(directory.parent)


def clear(directory: Path) -> None:
    """Remove all that is in the directory of a run."""
    # The manifest last: what lies here is that of a run until there is nothing else.
    for path in sorted(directory.iterdir(), key=lambda path: path.name == MANIFEST):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def remove(directory: Path) -> None:
    """Remove the directory of a run."""
    clear(directory)
    os.rmdir(directory)  # noqa: PTH106 - as `shutil.rmtree` does

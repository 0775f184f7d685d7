"""Whole arrays in ``.npy`` files: `read_array`, `write_array`."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _core, _npy
from megalith._optional import is_instance, require
from megalith.arrays import blocks
from megalith.arrays.files import read, write
from megalith.arrays.source import as_source
from megalith.exceptions import ArgumentError, DTypeError, FormatError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from megalith._typing import AnyArray, Box, PathLike, SourceLike

MODES = ("r", "r+", "c")


def read_array(path: PathLike, mmap_mode: Literal["r", "r+", "c"] | None = None) -> AnyArray:
    """Read the array of a ``.npy`` file, or map it.

    Parameters
    ----------
    path : path
        The file.
    mmap_mode : {'r', 'r+', 'c'}, optional
        Map the file instead, as `numpy.load` does: read-only, to be written to, or with changes kept from the file.

    Returns
    -------
    array : numpy.ndarray
        The elements, in the order of the file; a `numpy.memmap` with a mode (an ndarray if there are no elements).

    Raises
    ------
    FileNotFoundError, PermissionError
        If the file cannot be opened.
    FormatError
        If it is no ``.npy`` file.
    TruncatedFileError
        If it has fewer bytes than it should.
    DTypeError
        If the elements are Python objects; no pickle is read.
    ArgumentError
        If there is no such mode.

    References
    ----------
    .. [1] phylib ``io.array.read_array``.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> from megalith.arrays import read_array, write_array
    >>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.npy'
    >>> write_array(path, np.arange(3))
    >>> read_array(path)
    array([0, 1, 2])
    """
    path = _npy_path("path", path)
    if mmap_mode is None:
        return read(path).array
    if mmap_mode not in MODES:
        expected = "'r', 'r+', 'c' or None"
        message = f"mmap_mode: got {mmap_mode!r}, expected {expected}"
        raise ArgumentError(message, name="mmap_mode", got=mmap_mode, expected=expected)
    source = as_source(path)
    if source.size == 0:
        return np.empty(source.shape, source.dtype, order=source.order or "C")
    return np.memmap(path, source.dtype, mmap_mode, source.offset, source.shape, source.order or "C")


def write_array(path: PathLike, array: SourceLike) -> None:
    """Write an array to a ``.npy`` file, a dask array chunk by chunk.

    Parameters
    ----------
    path : path
        The file; one that is there is replaced when the new one is complete.
    array : array-like
        Anything `as_source` takes, or a ``dask.array.Array``.

    Raises
    ------
    FormatError
        If the path does not end in ``.npy``.
    DTypeError
        If the elements are Python objects.
    ShapeError
        If a dask array does not know the lengths of its chunks.
    OSError
        If there is no room; nothing is written then.

    Notes
    -----
    Files and datasets are copied in windows. Chunks of a dask array are written as its threads finish them, in one run
    over the graph; those of schedulers in other processes come in groups of 64 MiB.

    References
    ----------
    .. [1] phylib ``io.array.write_array``.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> from megalith.arrays import read_array, write_array
    >>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.npy'
    >>> write_array(path, np.eye(2))
    >>> read_array(path, mmap_mode='r')[0].tolist()
    [1.0, 0.0]
    """
    path = _npy_path("path", path)
    if is_instance(array, "dask.array", "Array"):
        _write_dask(path, array)
    else:
        write(path, array)


def _npy_path(name: str, path: PathLike) -> Path:
    path = Path(path)
    if path.suffix != ".npy":
        message = f"{name}: {path} does not end in '.npy'; `megalith.read` and `megalith.write` take raw files too"
        raise FormatError(message, path=path, field="suffix", got=path.suffix)
    return path


class _Chunks:
    """The file, as what `dask.array.store` puts chunks into."""

    def __init__(self, draft: _core.Draft, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._draft, self._offset, self.shape, self.dtype = draft, offset, shape, dtype

    def __setitem__(self, box: tuple[slice, ...], values: Any) -> None:
        laid = np.asarray(values, self.dtype)
        spans = [(part.start, part.stop) for part in box]
        self._draft.write_box(self._offset, self.shape, spans, laid)


def _write_dask(path: Path, array: Any) -> None:
    dask, stores = require("dask", "dask"), require("dask.array", "dask")
    if any(math.isnan(n) for n in array.shape):
        message = "array: it does not know the lengths of its chunks; call its compute_chunk_sizes() first"
        raise ShapeError(message, name="array", got=array.shape, expected="known lengths")
    if array.dtype.hasobject:
        message = "array: dtype object holds Python objects; supported are numbers, truth values, dates and records"
        raise DTypeError(message, name="array", got="object", supported="types without Python objects")
    shape = tuple(int(n) for n in array.shape)
    header = _npy.make_header(shape, array.dtype, "C")
    draft = _core.Draft(os.fspath(path), len(header) + array.dtype.itemsize * math.prod(shape))
    try:
        draft.write(0, header)
        chunks = _Chunks(draft, len(header), shape, array.dtype)
        scheduler = dask.base.get_scheduler(collections=[array])
        if scheduler in (dask.threaded.get, dask.local.get_sync):
            stores.store(array, chunks, lock=True, scheduler=scheduler)
        else:  # Other processes have no way into the file.
            for batch in _batches(array, stores.core.slices_from_chunks(array.chunks)):
                for box, values in zip(batch, dask.compute(*(array[box] for box in batch)), strict=True):
                    chunks[box] = values
        draft.publish(replace=True)
    except BaseException:
        draft.discard()
        raise


def _batches(array: Any, found: list[Box]) -> Iterator[list[Box]]:
    """Group chunks so that those of a group have the size of a window."""
    batch: list[Box] = []
    held = 0
    for box in found:
        batch.append(box)
        held += array.dtype.itemsize * math.prod(part.stop - part.start for part in box)
        if held >= blocks.WINDOW_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch

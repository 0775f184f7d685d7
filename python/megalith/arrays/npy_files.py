"""Whole arrays in ``.npy`` files: `read_array`, `write_array`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from megalith.arrays.files import read, write
from megalith.arrays.source import as_source
from megalith.exceptions import ArgumentError, FormatError

if TYPE_CHECKING:
    from typing import Literal

    from megalith._typing import AnyArray, PathLike, SourceLike

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
    """Write an array to a ``.npy`` file, as `write`.

    Parameters
    ----------
    path : path
        The file; one that is there is replaced when the new one is complete.
    array : array-like
        Anything `as_source` takes.

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
    write(_npy_path("path", path), array)


def _npy_path(name: str, path: PathLike) -> Path:
    path = Path(path)
    if path.suffix != ".npy":
        message = f"{name}: {path} does not end in '.npy'; `megalith.read` and `megalith.write` take raw files too"
        raise FormatError(message, path=path, field="suffix", got=path.suffix)
    return path

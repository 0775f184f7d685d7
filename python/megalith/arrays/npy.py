"""Headers of ``.npy`` files, read and made by `numpy.lib.format`; the bytes behind them are the core's."""

from __future__ import annotations

import io
import math
import tokenize
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from megalith.exceptions import DTypeError, FormatError, TruncatedFileError

if TYPE_CHECKING:
    from pathlib import Path

    from megalith._typing import Order


# Longer headers are refused unread: they are parsed as Python literals, and nobody has so many fields.
HEADER_BYTES = 1 << 20


# What NumPy's parser of headers may raise on damaged ones.
_DAMAGED = (
    ValueError,
    TypeError,
    SyntaxError,
    KeyError,
    AttributeError,
    EOFError,
    RecursionError,
    tokenize.TokenError,
)


class Header(NamedTuple):
    """What a header says, and where it ends."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Order
    offset: int


def read_header(path: Path) -> Header:
    """Read and check the header of a ``.npy`` file.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    header : Header
        Shape, dtype, order and the offset of the first element.

    Raises
    ------
    FileNotFoundError, PermissionError, IsADirectoryError
        If it cannot be opened.
    FormatError
        If it is no ``.npy`` file, or its header is damaged.
    TruncatedFileError
        If it has fewer bytes than the header promises.
    DTypeError
        If it holds pickled Python objects, which are never loaded.
    """
    with path.open("rb") as file:
        try:
            version = npy_format.read_magic(file)
            if version == (1, 0):
                shape, fortran, dtype = npy_format.read_array_header_1_0(file, HEADER_BYTES)
            elif version == (2, 0):
                shape, fortran, dtype = npy_format.read_array_header_2_0(file, HEADER_BYTES)
            elif version == (3, 0):
                return _read_mapped(path)
            else:
                message = f"{path}: .npy version {version[0]}.{version[1]} is not known; versions 1.0 to 3.0 are"
                raise FormatError(message, path=path, field="version", got=version)
        except _DAMAGED as error:
            if isinstance(error, FormatError):
                raise
            message = f"{path}: not a valid .npy file: {error}; for a raw file give its dtype"
            raise FormatError(message, path=path, field="header", got=str(error)) from error
        offset = file.tell()
        size = file.seek(0, io.SEEK_END)
    if dtype.hasobject:
        message = f"{path}: dtype object is stored as a pickle, which is never loaded"
        raise DTypeError(message, name="source", got="object", supported="types without Python objects")
    if any(n < 0 for n in shape):
        message = f"{path}: the header gives shape {shape}"
        raise FormatError(message, path=path, field="shape", got=shape)
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > size - offset:
        message = (
            f"{path}: the header promises {wanted} bytes ({shape} of {dtype.name}) from offset {offset}, "
            f"the file has {size - offset}; it is truncated or its header is wrong"
        )
        raise TruncatedFileError(message, path=path, offset=offset, wanted=wanted, done=size - offset, field="shape")
    order: Order = "F" if fortran and len(shape) > 1 else "C"
    return Header(shape, dtype, order, offset)


def _read_mapped(path: Path) -> Header:
    """Read a header of version 3 (field names in UTF-8), for which NumPy has no public reader, by mapping the file."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    order: Order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    return Header(array.shape, array.dtype, order, array.offset)


def make_header(shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> bytes:
    """Return the header of a ``.npy`` file.

    Parameters
    ----------
    shape : tuple of int
        Lengths of the axes.
    dtype : numpy.dtype
        Type of the elements.
    order : {'C', 'F'}
        Order of the elements.

    Returns
    -------
    header : bytes
        A multiple of 64 bytes, so that the elements behind it are aligned.

    Raises
    ------
    DTypeError
        If the names of the fields cannot be written in the header.
    """
    if dtype.hasobject:
        message = "sink: dtype object is stored as a pickle, which is never written"
        raise DTypeError(message, name="sink", got="object", supported="types without Python objects")
    fields = {"descr": npy_format.dtype_to_descr(dtype), "fortran_order": order == "F", "shape": shape}
    buffer = io.BytesIO()
    try:
        npy_format.write_array_header_1_0(buffer, fields)
    except UnicodeEncodeError as error:
        message = f"sink: field names of {dtype} are outside of Latin-1, which headers of .npy files are written in"
        raise DTypeError(message, name="sink", got=str(dtype), supported="field names in Latin-1") from error
    except ValueError:  # More than 64 KiB: records with very many fields.
        buffer = io.BytesIO()
        npy_format.write_array_header_2_0(buffer, fields)
    return buffer.getvalue()

"""Headers of ``.npy`` files, read and made by `numpy.lib.format`; the bytes behind them are the core's."""

from __future__ import annotations

import io
import math
import os
import sys
import tokenize
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from megalith import _core
from megalith.exceptions import DTypeError, FormatError, TruncatedFileError

if TYPE_CHECKING:
    from pathlib import Path

    from megalith._typing import AnyArray, Order, PathLike


# Longer headers are refused unread: they are parsed as Python literals, and nobody has so many fields.
HEADER_BYTES = 1 << 20

# What is read of a file at first: nearly all headers have 128 bytes.
FIRST_BYTES = 4096

# Axes an array of NumPy can have.
MOST_AXES = 64

# Headers that were parsed, so that each is once: NumPy takes 20 microseconds for one. Dropped when there are more.
KNOWN_HEADERS = 512
KNOWN_BYTES = 512
_known: dict[bytes, Parsed] = {}

# What NumPy's parser of headers may raise on damaged ones; a warning where warnings are errors.
_DAMAGED = (
    ValueError,
    TypeError,
    SyntaxError,
    KeyError,
    AttributeError,
    EOFError,
    RecursionError,
    MemoryError,
    OverflowError,
    Warning,
    tokenize.TokenError,
)


class Header(NamedTuple):
    """What a header says, and where it ends."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Order
    offset: int


class Parsed(NamedTuple):
    """A header, and the bytes of the elements behind it."""

    header: Header
    nbytes: int


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
    with path.open("rb", buffering=0) as file:
        start = file.read(FIRST_BYTES)
        wanted = min(_offset(start), HEADER_BYTES)
        while len(start) < wanted and (more := file.read(wanted - len(start))):
            start += more
        size = file.seek(0, io.SEEK_END)
    return parse_header(start, path, size)


def parse_header(buffer: bytes | memoryview, path: PathLike, size: int, member: str = "") -> Header:
    """Check and take apart the header at the start of a buffer.

    Parameters
    ----------
    buffer : bytes or memoryview of bytes
        The file, or as much of its start as holds the header.
    path : path
        Its name, for messages.
    size : int
        Bytes of the whole file.
    member : str
        Name of the member, where the file is one in an archive.

    Returns
    -------
    header : Header
        Shape, dtype, order and the offset of the first element.

    Raises
    ------
    FormatError
        If it is no ``.npy`` file, or its header is damaged.
    TruncatedFileError
        If the file has fewer bytes than the header promises.
    DTypeError
        If it holds pickled Python objects, which are never loaded.
    """
    offset = _offset(bytes(buffer[:12]))
    text = bytes(buffer[: min(offset, HEADER_BYTES)])
    parsed = _known.get(text) or _parse(text, offset, path, member)
    header, nbytes = parsed
    if nbytes > size - offset:
        message = (
            f"{_where(path, member)}: the header promises {nbytes} bytes ({header.shape} of {header.dtype.name}) from "
            f"offset {offset}, the file has {size - offset}; it is truncated or its header is wrong"
        )
        raise TruncatedFileError(
            message, path=path, offset=offset, wanted=nbytes, done=size - offset, field=_field(member, "shape")
        )
    return header


def _where(path: PathLike, member: str) -> str:
    return f"{os.fspath(path)}, member {member}" if member else os.fspath(path)


def _field(member: str, field: str) -> str:
    return f"{member}: {field}" if member else field


def _offset(start: bytes) -> int:
    """Return where the elements begin by the length in a header, 0 if there is none."""
    if start[:6] != npy_format.MAGIC_PREFIX:
        return 0
    if start[6:7] == b"\1":
        return 10 + int.from_bytes(start[8:10], "little")
    return 12 + int.from_bytes(start[8:12], "little")


def _parse(text: bytes, offset: int, path: PathLike, member: str) -> Parsed:
    """Take a header apart that is not known, and remember it if it is a usual one."""

    def damaged(field: str, problem: str, got: Any) -> FormatError:
        return FormatError(f"{_where(path, member)}: {problem}", path=path, field=_field(member, field), got=got)

    mend = "" if member else "; for a raw file give its dtype"
    if offset == 0:
        raise damaged("header", f"not a valid .npy file: it starts with {text[:6]!r}{mend}", text[:6])
    version = tuple(text[6:8])
    if len(version) == 2 and version not in ((1, 0), (2, 0), (3, 0)):
        known = "versions 1.0 to 3.0 are"
        raise damaged("version", f".npy version {'.'.join(map(str, version))} is not known; {known}", version)
    if len(text) < offset:
        raise damaged("header", f"not a valid .npy file: its header ends after {len(text)} of {offset} bytes", offset)
    try:
        shape, fortran, dtype = _dictionary(version, text)
    except _DAMAGED as error:
        raise damaged("header", f"not a valid .npy file: {error}{mend}", str(error)) from error
    if dtype.hasobject:
        message = f"{_where(path, member)}: dtype object is stored as a pickle, which is never loaded"
        raise DTypeError(message, name="source", got="object", supported="types without Python objects")
    if any(n < 0 for n in shape) or len(shape) > MOST_AXES:
        raise damaged("shape", f"the header gives shape {shape}", shape)
    if math.prod(n or 1 for n in shape) * max(dtype.itemsize, 1) > sys.maxsize:
        raise damaged("shape", f"the header gives shape {shape}, more than an array can have", shape)
    if dtype.subdtype is not None:
        raise damaged("descr", f"the header gives {dtype}, a type that only fields can have", str(dtype))
    order: Order = "F" if fortran and len(shape) > 1 else "C"
    parsed = Parsed(Header(shape, dtype, order, offset), math.prod(shape) * dtype.itemsize)
    # Types with fields are not shared: their names can be changed in place.
    if dtype.names is None and len(text) <= KNOWN_BYTES:
        if len(_known) >= KNOWN_HEADERS:
            _known.clear()
        _known[text] = parsed
    return parsed


def _dictionary(version: tuple[int, ...], text: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Parse what a header says, by NumPy unless it is one that NumPy itself writes for a plain type."""
    plain = _core.plain_header(text)
    if plain is not None:
        return plain[0], plain[2], np.dtype(plain[1])
    if version == (1, 0):
        shape, fortran, dtype = npy_format.read_array_header_1_0(io.BytesIO(text[8:]), HEADER_BYTES)
    elif version == (2, 0):
        shape, fortran, dtype = npy_format.read_array_header_2_0(io.BytesIO(text[8:]), HEADER_BYTES)
    else:
        # NumPy has no public reader of version 3, which is version 2 in UTF-8: with escapes it is one in ASCII.
        literal = text[12:].decode("utf-8").encode("ascii", "backslashreplace")
        file = io.BytesIO(len(literal).to_bytes(4, "little") + literal)
        shape, fortran, dtype = npy_format.read_array_header_2_0(file, 6 * HEADER_BYTES)
    return tuple(int(n) for n in shape), bool(fortran), dtype


def raw(array: AnyArray) -> AnyArray:
    """Return the same items as bytes without a meaning, so that copies take what lies between fields too.

    Parameters
    ----------
    array : ndarray
        Of a type without Python objects.

    Returns
    -------
    items : ndarray
        A view.
    """
    return array.view(np.ndarray).view(f"V{array.dtype.itemsize}") if array.dtype.itemsize else array


def describe(dtype: np.dtype[Any], name: str = "sink") -> Any:
    """Return what a header says of a type.

    Parameters
    ----------
    dtype : numpy.dtype
        Type of the elements.
    name : str
        What has the type, for messages.

    Returns
    -------
    descr : str or list
        As `numpy.lib.format.dtype_to_descr`.

    Raises
    ------
    DTypeError
        If a header cannot say it: Python objects, strings of variable length, types of other packages, overlapping
        fields.
    """
    supported = "types without Python objects"
    if dtype.kind == "T":
        message = f"{name}: StringDType has its text outside of the array; give array.astype('U')"
        raise DTypeError(message, name=name, got=str(dtype), supported=supported)
    if dtype.hasobject:
        message = f"{name}: dtype object is stored as a pickle, which is never written"
        raise DTypeError(message, name=name, got="object", supported=supported)
    descr: Any
    try:
        if dtype.names is None:
            descr = dtype.str
            is_kept = np.dtype(descr) == dtype
        else:
            descr = npy_format.dtype_to_descr(dtype)
            is_kept = npy_format.descr_to_dtype(descr) == dtype
    except (TypeError, ValueError):
        is_kept = False
    if not is_kept:
        message = (
            f"{name}: headers of .npy files have no word for dtype {dtype} (a type of another package, or fields that "
            "overlap or are out of order); convert it with astype"
        )
        raise DTypeError(message, name=name, got=str(dtype), supported="NumPy's types and records of them")
    return descr


def make_header(shape: tuple[int, ...], dtype: np.dtype[Any], order: Order, name: str = "sink") -> bytes:
    """Return the header of a ``.npy`` file.

    Parameters
    ----------
    shape : tuple of int
        Lengths of the axes.
    dtype : numpy.dtype
        Type of the elements.
    order : {'C', 'F'}
        Order of the elements.
    name : str
        What has the type, for messages.

    Returns
    -------
    header : bytes
        A multiple of 64 bytes, so that the elements behind it are aligned. Version 1.0 where that can say it, 2.0 for
        very many fields, 3.0 for names of fields outside of Latin-1.

    Raises
    ------
    DTypeError
        If a header cannot say the type.
    """
    fields = {"descr": describe(dtype, name), "fortran_order": order == "F", "shape": shape}
    buffer = io.BytesIO()
    try:
        npy_format.write_array_header_1_0(buffer, fields)
    except UnicodeEncodeError:
        return _header_3_0(fields)
    except ValueError:  # More than 64 KiB: records with very many fields.
        buffer = io.BytesIO()
        npy_format.write_array_header_2_0(buffer, fields)
    return buffer.getvalue()


def _header_3_0(fields: dict[str, Any]) -> bytes:
    """Return a header in UTF-8, for which NumPy has no public writer."""
    literal = repr(fields).encode("utf-8")  # Lone surrogates are escapes in it.
    literal += b" " * (-(12 + len(literal) + 1) % npy_format.ARRAY_ALIGN) + b"\n"
    return npy_format.magic(3, 0) + len(literal).to_bytes(4, "little") + literal

"""NumPy's arrays, scalars and types as bytes: type, shape and content; neither order in memory nor views count.

The content of a plain type is one digest of its elements in C order. Structured types are read field by field and long
doubles without their padding, so that bytes which mean nothing do not count.
"""

from __future__ import annotations

import functools
import math
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith.records import known_files
from megalith.records.encoding import (
    ENCODERS,
    LONG,
    Refused,
    Work,
    builtin,
    content_of,
    content_of_bytes,
    derived,
    encode,
    encode_part,
    named,
    other,
    qualified,
    text,
)
from megalith.records.origin import package_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from megalith._typing import AnyArray

# Elements of a masked array that are copied at a time.
BLOCK = 1 << 20

_NATIVE = "?bhilqBHILQefdFD"
_LONG_DOUBLE = np.dtype(np.longdouble)

_shapes = [Struct(f"<B{n}q").pack for n in range(65)]
_length = Struct("<Q").pack


def _describe(dtype: np.dtype[Any]) -> bytes:
    """Return the bytes of a type of elements; offsets and alignment do not count."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return b"(" + _shapes[len(shape)](len(shape), *shape) + _describe(base)
    if dtype.names is not None:
        fields: Any = dtype.fields
        parts = [b"{" + _length(len(dtype.names))]
        for name in dtype.names:
            kind, _, *title = fields[name]
            parts.append(text(name) + text(repr(title[0]) if title else "") + _describe(kind))
        return b"".join(parts)
    words = dtype.str
    if dtype.isbuiltin == 2:  # of another package: all of the same size have one string
        words = qualified(dtype.type)
    if dtype.kind == "T":
        words = f"StringDType({_missing_name(dtype)})"
    return text(words)


def _missing_name(dtype: Any) -> str:
    missing = getattr(dtype, "na_object", None)
    return f"{dtype.coerce}, {missing!r}" if hasattr(dtype, "na_object") else f"{dtype.coerce}"


_known_types: dict[np.dtype[Any], bytes] = {np.dtype(code): _describe(np.dtype(code)) for code in _NATIVE}


def _type(dtype: np.dtype[Any]) -> bytes:
    return _known_types.get(dtype) or _describe(dtype)


@builtin(np.ndarray, np.memmap)
def _array(value: AnyArray, work: Work) -> bytes:
    dtype = value.dtype
    shape = value.shape
    kind = _known_types.get(dtype)
    if kind is None:
        return b"a" + _describe(dtype) + _shapes[len(shape)](len(shape), *shape) + _content(value, work)
    if value.nbytes <= LONG:
        return b"a" + kind + _shapes[len(shape)](len(shape), *shape) + value.tobytes()
    return b"a" + kind + _shapes[len(shape)](len(shape), *shape) + _digest(value, work)


def _digest(array: AnyArray, work: Work) -> bytes:
    """Return the digest of many elements of a plain type; what is known of a file is not read."""
    if array.nbytes < known_files.SMALL_BYTES:
        return content_of(array, work.processes)
    found = work.known(array)
    if found is not None:
        return found
    if array.flags.writeable:
        found = content_of(array, work.processes)
    else:
        found = known_files.known(array)
        if found is None:
            is_quiet = known_files.is_quiet(array)
            found = content_of(array, work.processes)
            if is_quiet:
                known_files.remember(array, found)
    work.keep(array, found)
    return found


def _content(array: AnyArray, work: Work) -> bytes:
    """Return what stands for the elements of an array of any type."""
    if type(array) is not np.ndarray:
        array = array.view(np.ndarray)
    dtype = array.dtype
    if dtype.names is not None:
        return b"".join([_content(array[name], work) for name in dtype.names])
    if dtype.kind == "O":
        return _objects(array, work)
    if dtype.kind == "T":
        return _strings(array)
    if dtype.char in "gG" and _has_padding():
        return b"".join([_content(part, work) for part in _without_padding(array)])
    if dtype.kind in "mM":
        array = array.view(f"{dtype.byteorder}i8")
    if array.nbytes <= LONG:
        return array.tobytes()
    if dtype.itemsize == 0:
        return b""
    return _digest(array, work)


@functools.cache
def _has_padding() -> bool:
    """Whether long doubles are the 80 bits of x87 in more bytes."""
    return np.finfo(np.longdouble).nmant == 63


def _without_padding(array: AnyArray) -> Iterator[AnyArray]:
    """Yield the mantissas and the exponents of long doubles; the rest of their bytes is whatever was there."""
    n = array.dtype.itemsize // _LONG_DOUBLE.itemsize
    width = _LONG_DOUBLE.itemsize
    order = array.dtype.byteorder
    kind = np.dtype(
        {
            "names": [f"{part}{i}" for i in range(n) for part in "me"],
            "formats": [f"{order}u8", f"{order}u2"] * n,
            "offsets": [i * width + at for i in range(n) for at in ((0, 8) if order != ">" else (8, 6))],
            "itemsize": n * width,
        }
    )
    parts = array.view(kind)
    yield from (parts[name] for name in kind.names or ())


def _objects(array: AnyArray, work: Work) -> bytes:
    def items(array: AnyArray, work: Work) -> bytes:
        out = []
        try:
            for item in array.flat:
                out.append(ENCODERS[type(item)](item, work))  # noqa: PERF401 - its length says where it stopped
        except Refused as refused:
            at = np.unravel_index(len(out), array.shape)
            raise refused.at(f"[{', '.join(str(i) for i in at)}]") from None
        return b"".join(out)

    return work.within(array, items)


def _strings(array: AnyArray) -> bytes:
    data = b"".join([text(item) if isinstance(item, str) else b"N" for item in array.flat])
    return b"#" + content_of_bytes(data) if len(data) > LONG else data


def _attributes(value: Any, work: Work) -> bytes:
    state = getattr(value, "__dict__", None)
    return encode(state, work) if state else b"N"


@derived(np.ndarray)
def _subclass(value: AnyArray, work: Work) -> bytes:
    # megalith's own array classes say so: they are what plain arrays of the same content are.
    if getattr(value, "_digests_as_array", False) is True:
        return _array(value, work)

    def content(value: AnyArray, work: Work) -> bytes:
        plain = value.view(np.ndarray)
        if plain.dtype.type is np.record:
            plain = plain.view((np.void, plain.dtype))
        return other("array", encode(type(value), work), _array(plain, work), _attributes(value, work))

    return work.within(value, content)


@builtin(np.ma.MaskedArray, subclasses=lambda value, work: _masked(value, work))
def _masked(value: Any, work: Work) -> bytes:
    mask = np.ma.getmask(value)
    data = np.ma.getdata(value).view(np.ndarray)
    shape = value.shape
    return other(
        "masked",
        text(qualified(type(value))),
        _type(data.dtype) + _shapes[len(shape)](len(shape), *shape),
        _masked_content(data, mask, work),
        _array(np.asarray(value.fill_value, data.dtype), work),
        encode(value.__dict__.get("_optinfo") or None, work),
    )


def _masked_content(data: AnyArray, mask: Any, work: Work) -> bytes:
    """Return what stands for data and mask; what lies under the mask does not count."""
    if data.dtype.names is not None:
        parts = [
            _masked_content(data[name], mask if mask is np.ma.nomask else mask[name], work) for name in data.dtype.names
        ]
        return b"(" + b"".join(parts)
    if mask is np.ma.nomask or not mask.any():
        return b"N" + _content(data, work)
    shown: list[bytes] = []
    for part, hidden in _blocks(data, mask):
        clean = part.copy()
        clean[hidden] = np.zeros((), data.dtype)[()]
        shown.append(_content(clean, Work(work.processes)))
    return b"M" + _content(np.ascontiguousarray(mask), work) + _length(len(shown)) + b"".join(shown)


def _blocks(data: AnyArray, mask: AnyArray) -> Iterator[tuple[AnyArray, AnyArray]]:
    """Yield an array and its mask in pieces of a bounded size, which depend on the shape alone."""
    if data.size <= BLOCK or data.ndim == 0:
        yield data, mask
        return
    inner = math.prod(data.shape[1:])
    if inner > BLOCK:
        for i in range(data.shape[0]):
            yield from _blocks(data[i], mask[i])
        return
    step = max(1, BLOCK // inner)
    for start in range(0, data.shape[0], step):
        yield data[start : start + step], mask[start : start + step]


@derived(np.ma.core.MaskedConstant)
def _masked_constant(value: Any, work: Work) -> bytes:
    return other("np.ma.masked")


@derived(np.generic)
def _scalar(value: Any, work: Work) -> bytes:
    dtype = value.dtype
    kind = _known_types.get(dtype)
    if kind is not None:
        if value != value:
            value = type(value)("nan")
        data: bytes = value.tobytes()
        return b"n" + kind + data
    plain = np.empty((), dtype)
    plain[()] = value
    return b"n" + _describe(dtype) + _content(plain, work)


builtin(*(np.dtype(code).type for code in _NATIVE))(_scalar)
builtin(np.str_, np.bytes_, subclasses=_scalar)(_scalar)


@builtin(memoryview)
def _memory(value: memoryview, work: Work) -> bytes:
    return other("memoryview", text(value.format), _array(np.asarray(value), work))


@derived(np.dtype)
def _dtype(value: np.dtype[Any], work: Work) -> bytes:
    # Of a type itself, its layout counts.
    layout = [value.itemsize, value.alignment]
    if value.names is not None:
        fields: Any = value.fields
        layout += [fields[name][1] for name in value.names]
    return other("dtype", _type(value), encode(layout, work))


@derived(np.ufunc)
def _ufunc(value: np.ufunc, work: Work) -> bytes:
    return other("ufunc", text(value.__name__), text(package_version("numpy")))


@named("scipy.sparse._base._spbase")
def _sparse(value: Any, work: Work) -> bytes:
    """Take a sparse matrix by its content: the order of its entries and doubled ones do not count."""
    name = other("sparse", text(qualified(type(value))), encode(value.shape, work), _type(value.dtype))
    if value.format in ("csr", "csc", "bsr"):
        sums = value
        if not sums.has_canonical_format:
            sums = value.copy()
            sums.sum_duplicates()
        parts = [sums.indptr, sums.indices]
        if value.format == "bsr":
            parts.append(np.array(value.blocksize))
    else:
        sums = value.tocoo(copy=True)
        sums.sum_duplicates()
        coords = getattr(sums, "coords", None) or (sums.row, sums.col)
        # In C order of the positions.
        order = np.lexsort(coords[::-1])
        parts = [axis[order] for axis in coords]
        return name + b"".join(
            [_array(np.asarray(part, np.int64), work) for part in parts] + [_array(sums.data[order], work)]
        )
    return name + b"".join([_array(np.asarray(part, np.int64), work) for part in parts] + [_array(sums.data, work)])


@named("megalith.arrays.source.Source")
def _source(value: Any, work: Work) -> bytes:
    """Take a description of an array as what it describes."""
    array = value.array
    if value.is_file and array.nbytes >= known_files.SMALL_BYTES:
        with suppress(OSError):
            known_files.trust(array, value.location, published=False)
    return other("Source", encode_part(array, work, ".array"))


@named("megalith.arrays.concatenated.ConcatenatedArrays")
def _concatenated(value: Any, work: Work) -> bytes:
    """Take a concatenation as its arrays: all of them together may not fit in memory."""
    return other(
        "ConcatenatedArrays",
        encode_part(value.parts, work, ".parts"),
        encode_part(value.cols, work, ".cols"),
        encode_part(value.scaling, work, ".scaling"),
    )

"""Values as JSON that people read, and nothing lost: what JSON cannot say is an object with a tag.

JSON's own null, true, false, numbers, strings, lists and objects with plain keys stand for themselves. A tag is a key
such as ``__tuple__``::

    {"__ndarray__": [[1, 2], [3, 4]], "dtype": "<i8", "shape": [2, 2]}      a small array, its elements
    {"__ndarray__": "AAAAAA==", "dtype": "<f4", "shape": [1]}               its bytes in base64, as phy writes them
    {"__ndarray__": {"file": "..."}, "dtype": "<f4", "shape": [1000000]}    a large one, in a file of its own
    {"__numpy__": 2.5, "dtype": "<f4"}                                      a scalar of NumPy
    {"__items__": [[1, "a"], [[2, 3], "b"]]}                                a dict whose keys are not plain strings

and ``__bytes__``, ``__bytearray__`` (base64), ``__qbytearray__`` (as phy: base64 of base64), ``__complex__``,
``__float__`` (nan, inf, -inf), ``__int__`` (beyond 64 bits, in hexadecimal), ``__str__`` (with lone surrogates: UTF-8
in hexadecimal), ``__tuple__``, ``__set__``, ``__frozenset__``, ``__date__``, ``__time__``, ``__datetime__``,
``__timedelta__``, ``__path__``. A dict that has keys like tags is written as ``__items__``, so that it is not mistaken.

Keys of the outermost dict that are digits are integers, as in phy: 1 and '1' both come back as 1. With both in it, it
is written as ``__items__``, and both come back. Everywhere else 1 stays 1 and '1' stays '1'.
"""

from __future__ import annotations

import ast
import base64
import datetime
import importlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.lib import format as npy_format

from megalith import _npy
from megalith._optional import is_instance
from megalith.exceptions import FormatError
from megalith.records.nested import Walk, place

if TYPE_CHECKING:
    from megalith._typing import AnyArray, PathLike

Keep: TypeAlias = Callable[["AnyArray"], str]
Open: TypeAlias = Callable[[str], "AnyArray"]

# Arrays of up to so many elements and bytes are written as their elements.
READABLE_ELEMENTS = 1000
READABLE_BYTES = 1 << 16

# The longest such arrays that are read: what a damaged file says must not fill the memory.
MOST_READABLE_BYTES = 1 << 20

# Others of up to so many bytes in base64; larger ones in files.
INLINE_BYTES = 1 << 14

# Containers inside of each other. JSON has up to three levels for one, and the interpreter allows about a thousand.
MOST_LEVELS = 100
MOST_JSON_LEVELS = 3 * MOST_LEVELS + 100

# Larger integers are in hexadecimal: the interpreter refuses to parse very long decimal ones.
INT_BITS = 64

MOST_DIGITS = 20

# What is longer is broken into lines, if it has parts that can be.
LINE = 100

# What a message shows of what is wrong.
SHOWN = 40

SUPPORTED = (
    "NumPy arrays and scalars, str, bytes, int, float, complex, bool, None, dates, times, Paths, Qt byte arrays, and "
    "dicts, lists, tuples and sets of these"
)
KEPT = (list, tuple, set, frozenset, str, bytes, int, float)

QT = ("PySide6", "PyQt6", "PyQt5", "PySide2")

_TAG = re.compile(r"__.*__", re.DOTALL)
_PLAIN_TYPE = re.compile(r"[<>|=]?[A-Za-z_]+[0-9]*(\[[0-9]*[A-Za-z]+(/[0-9]+)?\])?")
_TYPE_BYTES = 1 << 16
_SPECIAL = ("nan", "inf", "-inf")
_PURE = {"posix": PurePosixPath, "windows": PureWindowsPath}
_Scalar = (str, int, float, bool, type(None))

# What damaged content may raise; a warning where warnings are errors.
_DAMAGED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
)


def encode(value: Any, keep: Keep, name: str = "data") -> str:
    """Write a value as JSON.

    Parameters
    ----------
    value : object
        The value.
    keep : callable
        Given an array that is too large for the text, it returns the name of a file for it.
    name : str
        What the value is called in messages.

    Returns
    -------
    text : str
        JSON, with a line feed at the end.

    Raises
    ------
    DTypeError
        If something in it cannot be kept, contains itself, or lies too deep. The message says where.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith.context.tagged import encode
    >>> print(encode({'shift': (1, 2.5), 'size': np.array([3, 4], 'u1')}, keep=None), end='')
    {"shift": {"__tuple__": [1, 2.5]}, "size": {"__ndarray__": [3, 4], "dtype": "|u1", "shape": [2]}}
    """
    work = _Encoding(name, keep)
    try:
        return _text(work.root(value), 0) + "\n"
    except RecursionError:
        return work.too_deep(value)


class _Encoding(Walk):
    """Where the work is, and what keeps large arrays."""

    def __init__(self, name: str, keep: Keep) -> None:
        super().__init__(name, SUPPORTED, MOST_LEVELS)
        self._keep = keep

    def root(self, value: Any) -> Any:
        """Return the JSON of the outermost value, in whose keys integers and digits are the same."""
        if not isinstance(value, dict):
            return self.node(value)
        keys = [str(key) if type(key) is int and 0 <= key < 1 << INT_BITS else key for key in value]
        is_exact = all(_is_plain(key) and (_is_usual(key) or not key.isdigit()) for key in keys)
        if not is_exact or len(set(keys)) < len(keys):
            return self._items(value)
        return self._inside(value, lambda: self._plain(value, map(str, keys)))

    def node(self, value: Any) -> Any:
        """Return the JSON of a value."""
        kind = type(value)
        if kind is str:
            return value if _is_utf8(value) else {"__str__": value.encode("utf-8", "surrogatepass").hex()}
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if value.bit_length() <= INT_BITS else {"__int__": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"__float__": repr(value)}
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, np.generic):
            return self._scalar(value)
        if isinstance(value, dict):
            plain = all(map(_is_plain, value))
            return self._inside(value, lambda: self._plain(value, value)) if plain else self._items(value)
        if kind is list:
            return self._inside(value, lambda: self.nodes(value))
        tag = _SEQUENCES.get(kind)
        if tag is not None:
            nodes = self._inside(value, lambda: self.nodes(value))
            # Sets have another order in each process.
            return {tag: nodes if kind is tuple else sorted(nodes, key=json.dumps)}
        return self._other(value)

    def _inside(self, value: Any, work: Callable[[], Any]) -> Any:
        """Do the work on what is in a container."""
        self.enter(value)
        result = work()
        self.leave(value)
        return result

    def _plain(self, value: dict[Any, Any], keys: Iterable[str]) -> dict[str, Any]:
        nodes = {}
        for text, (key, item) in zip(keys, value.items(), strict=True):
            self._path.append(key)
            nodes[text] = self.node(item)
            self._path.pop()
        return nodes

    def _items(self, value: dict[Any, Any]) -> Any:
        def pairs() -> list[Any]:
            nodes = []
            for key, item in value.items():
                self._path.append(key)
                nodes.append([self.node(key), self.node(item)])
                self._path.pop()
            return nodes

        return {"__items__": self._inside(value, pairs)}

    def _array(self, array: AnyArray) -> Any:
        self.refuse_masked(array)
        array = np.asarray(array)
        tail = {"dtype": self.describe(array.dtype), "shape": list(array.shape)}
        if array.flags.f_contiguous and not array.flags.c_contiguous:
            tail["order"] = "F"
        if array.size <= READABLE_ELEMENTS and array.nbytes <= READABLE_BYTES:
            elements = _elements(array)
            if elements is not None:
                return {"__ndarray__": elements, **tail}
        if array.nbytes <= INLINE_BYTES:
            return {"__ndarray__": _base64(_npy.raw(array).tobytes()), **tail}
        return {"__ndarray__": {"file": self._keep(array)}, **tail}

    def _scalar(self, value: Any) -> Any:
        kind = type(value)
        if kind is np.str_:  # Whose arrays lose zeros at the end.
            return {"__numpy__": self.node("".join(value)), "dtype": "str"}
        if kind is np.bytes_:
            return {"__numpy__": self.node(bytes(value)), "dtype": "bytes"}
        if kind is not value.dtype.type:
            self.refuse_type(value, KEPT)
        array: AnyArray = np.ndarray((), value.dtype, value.tobytes())
        tail = {"dtype": self.describe(value.dtype)}
        elements = _elements(array)
        content = {"base64": _base64(array.tobytes())} if elements is None else elements[0]
        return {"__numpy__": content, **tail}

    def _other(self, value: Any) -> Any:
        """Return the JSON of what is neither of JSON's types, nor of NumPy's, nor a container."""
        kind = type(value)
        if kind is bytes or kind is bytearray:
            return {f"__{kind.__name__}__": _base64(value)}
        if kind is complex:
            return {"__complex__": [_number(value.real), _number(value.imag)]}
        if kind is datetime.date:
            return {"__date__": value.isoformat()}
        if kind is datetime.datetime or kind is datetime.time:
            return {f"__{kind.__name__}__": value.replace(tzinfo=None).isoformat(), **self._zone(value)}
        if kind is datetime.timedelta:
            return {"__timedelta__": [value.days, value.seconds, value.microseconds]}
        if kind is type(Path()):
            return {"__path__": self.node(str(value))}
        for flavour, pure in _PURE.items():
            if kind is pure:
                return {"__path__": self.node(str(value)), "pure": flavour}
        if kind.__name__ == "QByteArray" and kind.__module__.partition(".")[0] in QT:
            return {"__qbytearray__": _base64(base64.b64encode(bytes(value.data())))}
        return self.refuse_type(value, KEPT)

    def _zone(self, value: datetime.datetime | datetime.time) -> dict[str, Any]:
        """Return what the JSON of a time says of its zone."""
        tail: dict[str, Any] = {"fold": 1} if value.fold else {}
        zone: Any = value.tzinfo
        if zone is None:
            return tail
        if type(zone) is datetime.timezone:
            offset = zone.utcoffset(None)
            name = zone.tzname(None)
            tail["offset"] = [offset.days, offset.seconds, offset.microseconds]
            return tail if name == datetime.timezone(offset).tzname(None) else {**tail, "name": self.node(name)}
        if is_instance(zone, "zoneinfo", "ZoneInfo") and getattr(zone, "key", None):
            return {**tail, "zone": zone.key}
        kind = type(zone)
        mend = "datetime.timezone and zoneinfo.ZoneInfo can be kept"
        return self.refuse(kind.__name__, f"a time in a zone of type {kind.__module__}.{kind.__qualname__}; {mend}")


_SEQUENCES: dict[type[Any], str] = {tuple: "__tuple__", set: "__set__", frozenset: "__frozenset__"}


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_plain(key: Any) -> bool:
    """Whether a key can be one of an object of JSON."""
    return type(key) is str and _is_utf8(key) and not _TAG.fullmatch(key)


def _is_usual(text: str) -> bool:
    """Whether text is an integer as Python writes it."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS and str(int(text)) == text


def _base64(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode("ascii")


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else repr(value)


def _elements(array: AnyArray) -> list[Any] | None:
    """Return the elements of an array as nested lists, None if these would not give the same bytes back."""
    kind = array.dtype.kind
    shape = array.shape or (1,)
    flat = array.reshape(-1)
    items: list[Any]
    try:
        if kind in "biu":
            items = flat.tolist()
        elif kind == "m":
            items = flat.view(f"{array.dtype.byteorder}i8").tolist()
        elif kind == "M":
            items = np.datetime_as_string(flat).tolist()
        elif kind in "fc" and array.dtype.itemsize <= (8 if kind == "f" else 16):
            if kind == "c":
                flat, shape = flat.view(f"{array.dtype.byteorder}f{array.dtype.itemsize // 2}"), (*shape, 2)
            # By way of text, so that 0.1 in single precision is 0.1.
            items = [_number(float(str(item))) for item in flat]
        elif kind == "U":
            items = flat.tolist()
            if not all(map(_is_utf8, items)):
                return None
        elif kind == "S":
            items = [item.decode("latin-1") for item in flat.tolist()]
        else:
            return None
        again = _array_of(items, array.shape, array.dtype)
    except (ValueError, OverflowError, RuntimeError):
        return None
    is_exact = _npy.raw(again).tobytes() == _npy.raw(array).tobytes()
    return _nested(items, shape) if is_exact else None


def _nested(items: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """Return what `tolist` would; an empty list for any array that is empty."""
    for n in reversed(shape[1:] if items else ()):
        items = [items[i : i + n] for i in range(0, len(items), n)]
    return items


def _dumps(node: Any) -> str:
    text = json.dumps(node, ensure_ascii=False, allow_nan=False)
    return text if _is_utf8(text) else json.dumps(node, allow_nan=False)  # Names of fields can be anything.


def _text(node: Any, indent: int) -> str:
    """Write JSON, in lines where it is long."""
    kind = type(node)
    if kind is dict and node:
        parts = []
        for key, item in node.items():
            parts.append(f"{_dumps(key)}: {_text(item, indent + 2)}")
        start, end = "{", "}"
    elif kind is list and not all(isinstance(item, _Scalar) for item in node):
        parts = []
        for item in node:
            parts.append(_text(item, indent + 2))
        start, end = "[", "]"
    else:
        return _dumps(node)
    if indent + sum(map(len, parts)) + 2 * len(parts) <= LINE and not any("\n" in part for part in parts):
        return start + ", ".join(parts) + end
    lines = ",\n".join(" " * (indent + 2) + part for part in parts)
    return f"{start}\n{lines}\n{' ' * indent}{end}"


def decode(text: str, open_array: Open, path: PathLike = "data") -> Any:
    """Read a value from JSON.

    Parameters
    ----------
    text : str
        What `encode` wrote, or phy.
    open_array : callable
        Given the name of the file of a large array, it returns the array.
    path : path
        Where the text is from, for messages.

    Returns
    -------
    value : object
        The value.

    Raises
    ------
    FormatError
        If it is damaged. The message says where. Nothing of it is executed, and nothing large is allocated for a small
        text.

    Examples
    --------
    >>> from megalith.context.tagged import decode
    >>> decode('{"shift": {"__tuple__": [1, 2.5]}, "7": NaN}', open_array=None)
    {'shift': (1, 2.5), 7: nan}
    """
    try:
        node = json.loads(text)
    except json.JSONDecodeError as error:
        message = f"{path}: not valid JSON: {error}"
        raise FormatError(
            message, path=path, field=f"line {error.lineno} column {error.colno}", got=error.pos
        ) from error
    except (ValueError, RecursionError) as error:
        message = f"{path}: not valid JSON: {str(error) or type(error).__name__}"
        raise FormatError(message, path=path, field="json", got=str(error)) from error
    work = _Decoding(open_array)
    try:
        return work.root(node)
    except FormatError:
        raise
    except _DAMAGED as error:
        where = work.where()
        problem = str(error) or type(error).__name__
        raise FormatError(f"{path}: {where} is damaged: {problem}", path=path, field=where, got=problem) from error


class _Decoding:
    """Where the work is."""

    def __init__(self, open_array: Open) -> None:
        self._open_array = open_array
        self._path: list[Any] = []

    def where(self) -> str:
        """Return the place as Python would write it."""
        return place("data", self._path[:SHOWN])

    def root(self, node: Any) -> Any:
        """Return the outermost value."""
        if type(node) is not dict or _tag(node) is not None:
            return self.node(node)
        value = {}
        for key, item in self.node(node).items():
            number = _digits(key)
            # Both 7 and 007, in a file of another's.
            value[key if number is None or (str(number) != key and str(number) in node) else number] = item
        return value

    def node(self, node: Any) -> Any:
        """Return a value."""
        kind = type(node)
        if kind is list:
            return self._list(node)
        if kind is not dict:
            return node
        tag = _tag(node)
        if tag is not None:
            self._path.append(tag)
            value = _READERS[tag](self, node[tag], node)
            self._path.pop()
            return value
        value = {}
        for key, item in node.items():
            self._enter(key)
            value[key] = self.node(item)
            self._path.pop()
        return value

    def _enter(self, key: Any) -> None:
        self._path.append(key)
        if len(self._path) > MOST_JSON_LEVELS:
            del self._path[3:]
            raise ValueError(f"it is nested deeper than {MOST_JSON_LEVELS} levels")

    def _list(self, node: Any) -> list[Any]:
        if type(node) is not list:
            raise TypeError(f"{type(node).__name__} in place of a list")
        items = []
        for i, item in enumerate(node):
            if type(item) is list or type(item) is dict:
                self._enter(i)
                item = self.node(item)
                self._path.pop()
            items.append(item)
        return items

    def _items(self, content: Any, _: Any) -> dict[Any, Any]:
        return {key: item for key, item in self._list(content)}  # noqa: C416

    def _array(self, content: Any, node: dict[str, Any]) -> AnyArray:
        dtype, shape = _dtype(node["dtype"]), _shape(node["shape"])
        order = node.get("order", "C")
        if order not in ("C", "F"):
            raise ValueError(f"order {order!r}")
        if type(content) is dict:
            array = self._open_array(content["file"])
            if (array.dtype, array.shape) != (dtype, shape):
                raise ValueError(f"{content['file']} has {array.shape} of {array.dtype}, not {shape} of {dtype}")
            return array
        nbytes = math.prod(shape) * dtype.itemsize
        if type(content) is str:
            array = _from_bytes(_bytes(content), shape, dtype)
        elif nbytes > MOST_READABLE_BYTES:
            raise ValueError(f"{nbytes} bytes are too many for elements in the text")
        else:
            array = _array_of(_flat(content, shape, dtype), shape, dtype)
        if order == "C":
            return array
        ordered: AnyArray = np.ndarray(shape, dtype, order="F")
        if nbytes:
            _npy.raw(ordered)[...] = _npy.raw(array)
        return ordered

    def _scalar(self, content: Any, node: dict[str, Any]) -> Any:
        if node["dtype"] == "str":
            return np.str_(_of(str, self.node(content)))
        if node["dtype"] == "bytes":
            return np.bytes_(_of(bytes, self.node(content)))
        dtype = _dtype(node["dtype"])
        if type(content) is dict:
            return _from_bytes(_bytes(content["base64"]), (), dtype)[()]
        if dtype.itemsize > MOST_READABLE_BYTES:
            raise ValueError(f"{dtype.itemsize} bytes are too many for a scalar in the text")
        return _array_of(_flat([content], (), dtype), (), dtype)[()]


def _digits(key: str) -> int | None:
    """Return the integer that phy makes of a key, None if it stays."""
    try:
        return int(key) if key.isdigit() else None
    except ValueError:  # Superscripts, and very many digits.
        return None


def _tag(node: dict[str, Any]) -> str | None:
    """Return the tag of an object, None for a dict."""
    for key in node:
        if key in _READERS:
            return key
    return None


def _of(kind: type[Any], value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} in place of {kind.__name__}")
    return value


def _bytes(content: Any) -> bytes:
    return base64.b64decode(_of(str, content), validate=True)


def _shape(node: Any) -> tuple[int, ...]:
    shape = tuple(_of(list, node))
    if len(shape) > _npy.MOST_AXES or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"shape {str(shape)[:SHOWN]}")
    return shape


def _dtype(node: Any) -> np.dtype[Any]:
    """Return an element type: as headers of ``.npy`` files give it, or as `str`, which phy writes."""
    dtype: np.dtype[Any]
    if type(node) is list:
        dtype = npy_format.descr_to_dtype(_fields(node))
    elif len(_of(str, node)) <= _TYPE_BYTES and node[:1] in ("[", "{"):
        dtype = np.dtype(ast.literal_eval(node))
    elif len(node) <= _TYPE_BYTES and _PLAIN_TYPE.fullmatch(node):
        dtype = np.dtype(node)
    else:
        raise ValueError(f"no element type is called {node[:SHOWN]!r}")
    if dtype.hasobject or dtype.kind == "T" or dtype.subdtype is not None:
        raise TypeError(f"elements of dtype {dtype}, which are never loaded")
    return dtype


def _fields(node: Any) -> Any:
    """Return the fields of a type as NumPy wants them: tuples where JSON has lists."""
    if type(node) is not list:
        return _of(str, node)
    fields = []
    for name, kind, *shape in node:
        name = tuple(name) if type(name) is list else name
        fields.append((name, _fields(kind), *(tuple(lengths) for lengths in shape)))
    return fields


def _from_bytes(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> AnyArray:
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(data)} bytes for {shape} of {dtype}")
    array: AnyArray = np.ndarray(shape, dtype)
    if data:
        _npy.raw(array)[...] = _npy.raw(np.ndarray(shape, dtype, data))
    return array


def _flat(content: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> list[Any]:
    """Return the elements of nested lists."""
    items: list[Any] = _of(list, content)
    if 0 in shape:
        if items:
            raise ValueError(f"elements in an array of shape {shape}")
        return []
    lengths = (*(shape or (1,)), *((2,) if dtype.kind == "c" else ()))
    for axis, n in enumerate(lengths):
        lists = [items] if axis == 0 else items
        if not all(type(part) is list and len(part) == n for part in lists):
            raise ValueError(f"the elements are not {lengths}")
        items = [item for part in lists for item in part]
    return items


def _array_of(items: list[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> AnyArray:
    """Return the array of its elements in C order; a complex one is two of them."""
    array: AnyArray = np.ndarray(shape, dtype)
    if not items:
        if array.size:
            raise ValueError(f"no elements for {shape}")
        return array
    flat = array.reshape(-1)
    kind = dtype.kind
    if kind == "c":
        flat = flat.view(f"{dtype.byteorder}f{dtype.itemsize // 2}")
    elif kind == "m":
        flat = flat.view(f"{dtype.byteorder}i8")
    wanted = {"b": (bool,), "f": (int, float, str), "c": (int, float, str), "S": (str,), "U": (str,), "M": (str,)}
    if kind not in "biufcmMSU" or not all(type(item) in wanted.get(kind, (int,)) for item in items):
        raise TypeError(f"elements that are not of dtype {dtype}")
    if kind == "S":
        items = [item.encode("latin-1") for item in items]
    elif kind in "fc":
        items = [_float(item) for item in items]
    with np.errstate(all="ignore"):
        flat[:] = items
    return array


def _float(content: Any) -> float:
    if type(content) is str and content not in _SPECIAL:
        raise ValueError(f"a number that is {content[:SHOWN]!r}")
    return float(content)


def _time(kind: Any, content: Any, node: dict[str, Any]) -> Any:
    zone: datetime.tzinfo | None = None
    if "zone" in node:
        import zoneinfo

        zone = zoneinfo.ZoneInfo(_of(str, node["zone"]))
    elif "offset" in node:
        days, seconds, microseconds = node["offset"]
        offset = datetime.timedelta(days, seconds, microseconds)
        zone = datetime.timezone(offset, *([node["name"]] if "name" in node else []))
    return kind.fromisoformat(content).replace(tzinfo=zone, fold=int(node.get("fold") == 1))


def _timedelta(content: Any) -> datetime.timedelta:
    days, seconds, microseconds = content
    return datetime.timedelta(_of(int, days), _of(int, seconds), _of(int, microseconds))


def _complex(content: Any) -> complex:
    real, imaginary = content
    return complex(_float(real), _float(imaginary))


def _qbytearray(content: Any) -> Any:
    """Return a byte buffer of the Qt that is loaded, or one that can be; bytes where there is none."""
    data = base64.b64decode(_bytes(content))
    for package in sorted(QT, key=lambda name: f"{name}.QtCore" not in sys.modules):
        try:
            return importlib.import_module(f"{package}.QtCore").QByteArray(data)
        except ImportError:
            continue
    return data


_READERS: dict[str, Callable[[_Decoding, Any, dict[str, Any]], Any]] = {
    "__bytearray__": lambda work, content, node: bytearray(_bytes(content)),
    "__bytes__": lambda work, content, node: _bytes(content),
    "__complex__": lambda work, content, node: _complex(content),
    "__date__": lambda work, content, node: datetime.date.fromisoformat(content),
    "__datetime__": lambda work, content, node: _time(datetime.datetime, content, node),
    "__float__": lambda work, content, node: _float(content),
    "__frozenset__": lambda work, content, node: frozenset(work._list(content)),
    "__int__": lambda work, content, node: int(content, 16),
    "__items__": _Decoding._items,
    "__ndarray__": _Decoding._array,
    "__numpy__": _Decoding._scalar,
    "__path__": lambda work, content, node: _path(work.node(content), node),
    "__qbytearray__": lambda work, content, node: _qbytearray(content),
    "__set__": lambda work, content, node: set(work._list(content)),
    "__str__": lambda work, content, node: bytes.fromhex(content).decode("utf-8", "surrogatepass"),
    "__time__": lambda work, content, node: _time(datetime.time, content, node),
    "__timedelta__": lambda work, content, node: _timedelta(content),
    "__tuple__": lambda work, content, node: tuple(work._list(content)),
}


def _path(text: Any, node: dict[str, Any]) -> PurePath:
    kind = _PURE[node["pure"]] if "pure" in node else Path
    return kind(_of(str, text))

"""Nested values as a tree of plain JSON beside a list of arrays.

JSON's own null, true, false, numbers, strings and lists stand for themselves. All else is an object with one key, its
tag: ``{"array": 0}`` is the first array, ``{"tuple": [...]}`` a tuple, ``{"dict": {...}}`` a dict whose keys are all
strings, ``{"items": [[key, value], ...]}`` one with other keys. What JSON would change has a tag too: ``int`` (beyond
2**53, in hexadecimal), ``float`` (nan, inf, -inf), ``str`` (with lone surrogates: UTF-8 in hexadecimal), ``numpy``
(a scalar: its type and its bytes in hexadecimal), ``numpy.str``, ``numpy.bytes``, ``record`` (the scalar in an array
without axes).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _npy
from megalith.exceptions import FormatError
from megalith.records.nested import Walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from megalith._typing import AnyArray, PathLike

# Containers inside of each other. JSON has up to three levels for one, and the interpreter allows about a thousand.
MOST_LEVELS = 200

# Larger integers are not numbers to other readers of JSON.
LARGEST_INT = 2**53

SUPPORTED = "arrays, NumPy scalars, str, int, float, bool, None, and tuples, lists and dicts of these"
KEPT = (dict, list, tuple, str, int)
KEYS = "str, int, float, bool and None"

_NUMBERS = "biufcmM"

# What a damaged tree may raise.
_DAMAGED = (AttributeError, KeyError, OverflowError, RecursionError, SyntaxError, TypeError, ValueError)


def flatten(value: Any, name: str = "result", *, exact: bool = False) -> tuple[Any, list[AnyArray]]:
    """Take a nested value apart into a tree of plain JSON and its arrays.

    Parameters
    ----------
    value : object
        An array, a scalar, or tuples, lists and dicts of these, nested.
    name : str
        What it is called in messages.
    exact : bool
        Whether subclasses of arrays are refused, which come back as plain arrays; memory maps and shared arrays are
        taken as arrays all the same.

    Returns
    -------
    tree : object
        What `json.dumps` writes and `unflatten` understands.
    leaves : list of ndarray
        The arrays, not copied. An array that stands in several places is in it once.

    Raises
    ------
    DTypeError
        If something in it is of another type, contains itself, or lies too deep. The message says where.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith.records.tree import flatten
    >>> tree, leaves = flatten({'image': np.zeros((2, 3)), 'shift': (1, 2.5)})
    >>> tree
    {'dict': {'image': {'array': 0}, 'shift': {'tuple': [1, 2.5]}}}
    >>> len(leaves)
    1
    """
    work = _Flattening(name, exact=exact)
    try:
        return work.node(value), work.leaves
    except RecursionError:
        return work.too_deep(value)


class _Flattening(Walk):
    """The arrays found so far, and where the work is."""

    def __init__(self, name: str, *, exact: bool) -> None:
        super().__init__(name, SUPPORTED, MOST_LEVELS)
        self.exact = exact
        self.leaves: list[AnyArray] = []
        self._index: dict[int, int] = {}

    def node(self, value: Any) -> Any:
        """Return the tree of a value."""
        kind = type(value)
        if kind is str:
            return _text(value)
        if value is None or kind is bool:
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind is int:
            return value if -LARGEST_INT <= value <= LARGEST_INT else {"int": hex(value)}
        if isinstance(value, np.ndarray):
            return {"array": self._array(value)}
        if isinstance(value, np.generic):
            return self._scalar(value)
        if kind is dict or kind is list or kind is tuple:
            return self._container(value)
        return self.refuse_type(value, KEPT)

    def _container(self, value: Any) -> Any:
        self.enter(value)
        nodes: Any = self._dict(value) if type(value) is dict else self.nodes(value)
        self.leave(value)
        return {"tuple": nodes} if type(value) is tuple else nodes

    def _dict(self, value: dict[Any, Any]) -> Any:
        keys, nodes = [], []
        for key, item in value.items():
            self._path.append(key)
            if type(key) not in (str, int, float, bool, type(None)):
                problem = f"a key of type {type(key).__name__}; keys can be {KEYS}"
                self.refuse(type(key).__name__, problem)
            keys.append(self.node(key))
            nodes.append(self.node(item))
            self._path.pop()
        if all(type(key) is str for key in keys):
            return {"dict": dict(zip(keys, nodes, strict=True))}
        return {"items": [list(pair) for pair in zip(keys, nodes, strict=True)]}

    def _array(self, array: AnyArray) -> int:
        found = self._index.get(id(array))
        if found is not None:
            return found
        self.refuse_masked(array)
        kind = type(array)
        if self.exact and kind not in (np.ndarray, np.memmap) and kind.__module__.partition(".")[0] != "megalith":
            problem = f"a {kind.__name__}, which would come back as a plain array; convert it with np.asarray(...)"
            self.refuse(kind.__name__, problem)
        self.describe(array.dtype)
        self.leaves.append(np.asarray(array))
        self._index[id(array)] = len(self.leaves) - 1
        return len(self.leaves) - 1

    def _scalar(self, value: Any) -> Any:
        kind = type(value)
        if kind is np.str_:  # Whose str() and arrays lose zeros at the end.
            return {"numpy.str": _text("".join(value))}
        if kind is np.bytes_:
            return {"numpy.bytes": value.hex()}
        if kind is not value.dtype.type:
            self.refuse_type(value, KEPT)
        if value.dtype.kind in _NUMBERS and np.dtype(value.dtype.str) == value.dtype:
            return {"numpy": [value.dtype.str, value.tobytes().hex()]}
        self.describe(value.dtype)
        return {"record": self._array(np.ndarray((), value.dtype, value.tobytes()))}


def _text(value: str) -> Any:
    """Return the tree of a string."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return {"str": value.encode("utf-8", "surrogatepass").hex()}
    return value


def unflatten(tree: Any, leaves: Sequence[AnyArray], path: PathLike = "tree") -> Any:
    """Put a value together again.

    Parameters
    ----------
    tree : object
        As `flatten` gave it.
    leaves : sequence of ndarray
        The arrays.
    path : path
        Where the tree is from, for messages.

    Returns
    -------
    value : object
        The nested value. An array that stood in several places is one object again.

    Raises
    ------
    FormatError
        If it is no such tree.

    Examples
    --------
    >>> from megalith.records.tree import flatten, unflatten
    >>> unflatten(*flatten({1: [None, 'a'], 'b': (float('inf'),)}))
    {1: [None, 'a'], 'b': (inf,)}
    """
    try:
        return _value(tree, leaves)
    except _DAMAGED as error:
        message = f"{path}: the tree is damaged: {type(error).__name__}: {error}"
        raise FormatError(message, path=path, field="tree", got=str(error)) from error


def _value(node: Any, leaves: Sequence[AnyArray]) -> Any:
    kind = type(node)
    if kind is dict:
        ((tag, content),) = node.items()
        return _READERS[tag](content, leaves)
    if kind is list:
        return [_value(item, leaves) for item in node]
    return node


def _leaf(content: Any, leaves: Sequence[AnyArray]) -> AnyArray:
    if type(content) is not int or not 0 <= content < len(leaves):
        raise ValueError(f"array {content!r} of {len(leaves)}")
    return leaves[content]


def _record(content: Any, leaves: Sequence[AnyArray]) -> Any:
    array = _leaf(content, leaves)
    if array.shape != ():
        raise ValueError(f"a scalar in an array of shape {array.shape}")
    return np.ndarray((), array.dtype, bytearray(_npy.raw(array).tobytes()))[()]


def _number(content: Any, _: Sequence[AnyArray]) -> Any:
    text, data = content
    dtype = np.dtype(str(text))
    if dtype.kind not in _NUMBERS:
        raise ValueError(f"a scalar of dtype {dtype}")
    (value,) = np.frombuffer(bytes.fromhex(data), dtype)
    return value


def _list(content: Any, leaves: Sequence[AnyArray]) -> list[Any]:
    if type(content) is not list:
        raise TypeError(f"a list that is {type(content).__name__}")
    return [_value(item, leaves) for item in content]


def _float(content: Any, _: Sequence[AnyArray]) -> float:
    if content not in ("nan", "inf", "-inf"):
        raise ValueError(f"a float that is {content!r}")
    return float(content)


_READERS: dict[str, Any] = {
    "array": _leaf,
    "dict": lambda content, leaves: {key: _value(item, leaves) for key, item in content.items()},
    "float": _float,
    "int": lambda content, _: int(content, 16),
    "items": lambda content, leaves: {_value(key, leaves): _value(item, leaves) for key, item in content},
    "numpy": _number,
    "numpy.bytes": lambda content, _: np.bytes_(bytes.fromhex(content)),
    "numpy.str": lambda content, leaves: np.str_(_value(content, leaves)),
    "record": _record,
    "str": lambda content, _: bytes.fromhex(content).decode("utf-8", "surrogatepass"),
    "tuple": lambda content, leaves: tuple(_list(content, leaves)),
}

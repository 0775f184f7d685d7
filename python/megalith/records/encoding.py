"""Values as bytes: equal values give equal bytes, others never do.

Every value is a tag of one byte, a length where it is not fixed, and its content, so that no two values in a row can be
read as two others. What has no order (dicts, sets) is sorted by its bytes. Large contents, those of arrays for one,
stand in the bytes by their digest.

The table `ENCODERS` says for each type how. It makes up its mind about a type it does not know when it meets it:
registered types come first, then bases that are known, then what pickle would take apart.
"""

from __future__ import annotations

import enum
import weakref
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from megalith import _core
from megalith.exceptions import DTypeError
from megalith.records.nested import shown

if TYPE_CHECKING:
    from megalith._typing import AnyArray

Encoder = Callable[[Any, "Work"], bytes]

# Longer encodings of containers are kept as digests, and remembered: what is met again is not done again.
LONG = 1024

MEND = "leave it out (ignore=), give a key of your own (key=), or say how by megalith.context.register_digest"

# The form of the bytes; another one makes all digests others.
FORM: Final = b"1"


def content_of(array: AnyArray, processes: int | None = None) -> bytes:
    """Return 16 bytes that stand for the elements of an array in C order."""
    return _core.digest(array, processes)


content_of_bytes = _core.digest_bytes
"""What stands for bytes: 16 others."""


class Refused(Exception):  # noqa: N818 - never seen by a user
    """A value that has no digest; on its way up it collects where that is."""

    def __init__(self, got: str, why: str) -> None:
        super().__init__(why)
        self.got = got
        self.why = why
        self.path: list[str] = []

    def at(self, piece: str) -> Refused:
        """Add the place in what contains it."""
        self.path.append(piece)
        return self

    def error(self, name: str, note: str = "") -> DTypeError:
        """Make the error a user reads."""
        where = name + "".join(reversed(self.path))
        message = f"{where}{note}: {self.why}; {MEND}"
        return DTypeError(message, name=where, got=self.got, supported="values whose content is plain")


class Work:
    """What is known while one value is encoded: which containers are open, and what was met before."""

    __slots__ = ("_known", "_open", "_reach", "processes")

    def __init__(self, processes: int | None = None) -> None:
        self.processes = processes
        self._open: dict[int, int] = {}
        self._known: dict[int, tuple[Any, bytes]] = {}
        self._reach = 1 << 60

    def within(self, value: Any, encode: Encoder) -> bytes:
        """Encode something that may contain itself.

        Where it does, the number of levels up to it stands in its place.
        """
        key = id(value)
        known = self._known.get(key)
        if known is not None:
            return known[1]
        level = len(self._open)
        if key in self._open:
            back = self._open[key]
            self._reach = min(self._reach, back)
            return _number(0x40, level - back)  # @
        self._open[key] = level
        try:
            data = encode(value, self)
        finally:
            del self._open[key]
        if self._reach >= level:
            self._reach = 1 << 60
        return self.shorten(value, data) if len(data) > LONG else data

    def shorten(self, value: Any, data: bytes) -> bytes:
        """Return a digest in the place of many bytes, and remember it unless it holds in this place only."""
        data = b"#" + content_of_bytes(data)
        if self._reach >= len(self._open):
            self._known[id(value)] = (value, data)
        return data

    def keep(self, value: Any, data: bytes) -> None:
        """Remember what stands for a value."""
        self._known[id(value)] = (value, data)

    def known(self, value: Any) -> bytes | None:
        """Return what was remembered of a value."""
        found = self._known.get(id(value))
        return None if found is None else found[1]


class _Table(dict[type, Encoder]):
    """Encoders of types; one that is missing is found by the type's bases."""

    def __missing__(self, cls: type) -> Encoder:
        encoder = _found.get(cls)
        if encoder is None:
            encoder = _find(cls)
            _found[cls] = encoder
        return encoder


ENCODERS: Final = _Table()
"""What encodes a value of exactly this type."""

_builtin: dict[type, Encoder] = {}
_bases: dict[type, Encoder] = {}
_named: dict[str, Encoder] = {}
_registered: dict[type, Callable[[Any], Any]] = {}
_found: weakref.WeakKeyDictionary[type, Encoder] = weakref.WeakKeyDictionary()


def builtin(*types: type, subclasses: Encoder | None = None) -> Callable[[Encoder], Encoder]:
    """Say that a function encodes values of these types.

    Parameters
    ----------
    *types : type
        The types themselves.
    subclasses : callable, optional
        What encodes values of types derived from them.

    Returns
    -------
    decorator : callable
        For the function.
    """

    def add(encoder: Encoder) -> Encoder:
        for cls in types:
            _builtin[cls] = ENCODERS[cls] = encoder
            if subclasses is not None:
                _bases[cls] = subclasses
        return encoder

    return add


def derived(*types: type) -> Callable[[Encoder], Encoder]:
    """Say that a function encodes values of all types derived from these."""

    def add(encoder: Encoder) -> Encoder:
        for cls in types:
            _bases[cls] = encoder
        return encoder

    return add


def named(*names: str) -> Callable[[Encoder], Encoder]:
    """Say that a function encodes values of types of optional packages and of types derived from them."""

    def add(encoder: Encoder) -> Encoder:
        _named.update(dict.fromkeys(names, encoder))
        return encoder

    return add


def register(cls: type, function: Callable[[Any], Any]) -> None:
    """Let `function(value)` stand for values of a type and of those derived from it."""
    _registered[cls] = function
    _found.clear()
    for known, encoder in _builtin.items():
        ENCODERS[known] = _registration(known) or encoder


def _registration(cls: type) -> Encoder | None:
    for base in cls.__mro__:
        function = _registered.get(base)
        if function is not None:
            return _by_registration(function)
    return None


def _by_registration(function: Callable[[Any], Any]) -> Encoder:
    def encode(value: Any, work: Work) -> bytes:
        def content(value: Any, work: Work) -> bytes:
            stand_in = function(value)
            return ENCODERS[type(stand_in)](stand_in, work)

        return b"R" + text(qualified(type(value))) + work.within(value, content)

    return encode


def _find(cls: type) -> Encoder:
    registered = _registration(cls)
    if registered is not None:
        return registered
    if isinstance(cls, enum.EnumMeta):
        return _bases[enum.Enum]  # whatever else its members are
    for base in cls.__mro__:
        encoder = _named.get(f"{base.__module__}.{base.__qualname__}") or _bases.get(base)
        if encoder is not None:
            return encoder
    return _bases[object]


def module_name(name: Any) -> str:
    """Return the name of a module; a script is one, whether it was started or imported by a child of its own."""
    return "__main__" if name == "__mp_main__" or not isinstance(name, str) else name


def qualified(thing: Any) -> str:
    """Return the module and the qualified name of a class or function."""
    module = getattr(thing, "__module__", None)
    module = module and module_name(module)
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", "?")
    return f"{module}.{name}" if module else str(name)


# Tags are written as their code where struct wants a number: @ back, ( tuple, [ list, { dict, < set, S frozenset,
# i int, I long int, f float, c complex, s str, b bytes, B bytearray, # digest, R registered, o other.
_number = Struct("<Bq").pack
_float = Struct("<Bd").pack
_complex = Struct("<Bdd").pack
_count = Struct("<BQ").pack
_NAN = float("nan")


@builtin(type(None))
def _none(value: None, work: Work) -> bytes:
    return b"N"


@builtin(bool)
def _bool(value: bool, work: Work) -> bytes:
    return b"T" if value else b"F"


@builtin(type(Ellipsis))
def _ellipsis(value: Any, work: Work) -> bytes:
    return b"."


@builtin(type(NotImplemented))
def _not_implemented(value: Any, work: Work) -> bytes:
    return b"!"


@builtin(int)
def _int(value: int, work: Work) -> bytes:
    if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        return _number(0x69, value)
    data = int.to_bytes(value, value.bit_length() // 8 + 1, "little", signed=True)
    return _count(0x49, len(data)) + data


@builtin(float)
def _a_float(value: float, work: Work) -> bytes:
    return _float(0x66, value if value == value else _NAN)


@builtin(complex)
def _a_complex(value: complex, work: Work) -> bytes:
    real, imag = value.real, value.imag
    return _complex(0x63, real if real == real else _NAN, imag if imag == imag else _NAN)


@builtin(str)
def _str(value: str, work: Work) -> bytes:
    data = str.encode(value, "utf-8", "surrogatepass")
    return _count(0x73, len(data)) + data


@builtin(bytes)
def _bytes(value: bytes | bytearray, work: Work) -> bytes:
    data = bytes(value)
    if len(data) > LONG:
        return _count(0x62, len(data)) + content_of_bytes(data)
    return _count(0x62, len(data)) + data


@builtin(bytearray)
def _bytearray(value: bytearray, work: Work) -> bytes:
    return b"B" + _bytes(value, work)


@builtin(tuple)
def _tuple(value: tuple[Any, ...], work: Work) -> bytes:
    if work._known and (known := work._known.get(id(value))):
        return known[1]
    out = [_count(0x28, len(value))]
    encoders = ENCODERS
    try:
        for item in value:
            out.append(encoders[type(item)](item, work))  # noqa: PERF401 - its length says where it stopped
    except Refused as refused:
        raise refused.at(f"[{len(out) - 1}]") from None
    data = b"".join(out)
    return work.shorten(value, data) if len(data) > LONG else data


def _list_items(value: list[Any], work: Work) -> bytes:
    out = [_count(0x5B, len(value))]
    encoders = ENCODERS
    try:
        for item in list.__iter__(value):
            out.append(encoders[type(item)](item, work))  # noqa: PERF401
    except Refused as refused:
        raise refused.at(f"[{len(out) - 1}]") from None
    return b"".join(out)


@builtin(list)
def _list(value: list[Any], work: Work) -> bytes:
    return work.within(value, _list_items)


def _dict_items(value: dict[Any, Any], work: Work) -> bytes:
    pairs = []
    encoders = ENCODERS
    key: Any = None
    is_key = True
    try:
        for key, item in dict.items(value):
            is_key = True
            first = encoders[type(key)](key, work)
            is_key = False
            pairs.append((first, encoders[type(item)](item, work)))
    except Refused as refused:
        raise refused.at(f"[{shown(key)}]" if not is_key else f"(key {shown(key)})") from None
    pairs.sort()
    return _count(0x7B, len(pairs)) + b"".join([part for pair in pairs for part in pair])


@builtin(dict)
def _dict(value: dict[Any, Any], work: Work) -> bytes:
    return work.within(value, _dict_items)


def _unordered(tag: bytes) -> Encoder:
    def encode(value: Any, work: Work) -> bytes:
        out = []
        encoders = ENCODERS
        item: Any = None
        try:
            for item in value:
                out.append(encoders[type(item)](item, work))
        except Refused as refused:
            raise refused.at(f"(item {shown(item)})") from None
        out.sort()
        data = _count(tag[0], len(out)) + b"".join(out)
        return work.shorten(value, data) if len(data) > LONG else data

    return encode


builtin(set)(_unordered(b"<"))
builtin(frozenset)(_unordered(b"S"))


def text(words: str) -> bytes:
    """Encode a str."""
    data = words.encode("utf-8", "surrogatepass")
    return _count(0x73, len(data)) + data


def other(kind: str, *parts: bytes) -> bytes:
    """Put encoded parts together under the name of what they are."""
    name = kind.encode()
    return b"o" + bytes((len(name), len(parts))) + name + b"".join(parts)


def encode(value: Any, work: Work) -> bytes:
    """Return the bytes of a value."""
    return ENCODERS[type(value)](value, work)


def encode_part(value: Any, work: Work, piece: str) -> bytes:
    """Return the bytes of a part of a value, whose place is `piece`."""
    try:
        return ENCODERS[type(value)](value, work)
    except Refused as refused:
        raise refused.at(piece) from None


def encode_named(value: Any, name: str, processes: int | None = None, note: str = "") -> bytes:
    """Return the bytes of a value.

    Raises
    ------
    DTypeError
        If it, or something in it, has none. The message says where.
    """
    try:
        return ENCODERS[type(value)](value, Work(processes))
    except Refused as refused:
        raise refused.error(name, note) from refused.__cause__
    except RecursionError:
        why = "containers lie too deep in each other, about a thousand levels are possible"
        raise Refused(type(value).__name__, why).error(name, note) from None

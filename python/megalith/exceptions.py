"""Every exception and warning of megalith; the Rust core raises these too.

Each is a :class:`MegalithError` and also the builtin it is, so that code which catches ``ValueError`` or ``OSError``
goes on working. A message says what was wrong, what was given, what is allowed and how to mend it; the same facts are
attributes. What the system itself refuses stays what Python calls it: ``FileNotFoundError``, ``PermissionError``,
``FileExistsError``. ``KeyboardInterrupt`` is never wrapped.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "ArgumentError",
    "CacheWarning",
    "DTypeError",
    "FileReadError",
    "FileWriteError",
    "FormatError",
    "IndexRangeError",
    "InternalError",
    "KeyMissingError",
    "LayoutError",
    "LockTimeoutError",
    "MegalithDeprecationWarning",
    "MegalithError",
    "MegalithWarning",
    "MissingExtraError",
    "OutOfMemoryError",
    "OwnershipError",
    "PerformanceWarning",
    "SelectionError",
    "ShapeError",
    "SharedMemoryFullError",
    "SweepError",
    "TruncatedFileError",
    "WorkerDiedError",
]


def _rebuild(cls: type[MegalithError], message: str, fields: dict[str, Any]) -> MegalithError:
    """Make an unpickled exception."""
    return cls(message, **fields)


class MegalithError(Exception):
    """Base of all errors of megalith.

    Parameters
    ----------
    message : str
        The sentence a user reads.
    **fields
        The facts in it; each becomes an attribute, absent ones are None.
    """

    _fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        for name in self._fields:
            setattr(self, name, fields.pop(name, None))
        self.__dict__.update(fields)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {name: getattr(self, name) for name in self._fields}
        fields.update((name, value) for name, value in self.__dict__.items() if name != "message")
        return _rebuild, (type(self), self.message, fields)


class ShapeError(MegalithError, ValueError):
    """A number of dimensions, a shape, a length or an axis that does not fit.

    Attributes: ``name``, ``got``, ``expected``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("name", "got", "expected")


class ArgumentError(MegalithError, ValueError):
    """A count, mode, origin or other option that is not one of those allowed.

    Attributes: ``name``, ``got``, ``expected``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("name", "got", "expected")


class DTypeError(MegalithError, TypeError):
    """An element type the operation has no meaning for, or an unsafe cast.

    Attributes: ``name``, ``got``, ``supported``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("name", "got", "supported")


class LayoutError(MegalithError, ValueError):
    """Memory that cannot be used as asked: read-only, overlapping.

    Attributes: ``name``, ``reason``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("name", "reason")


class IndexRangeError(MegalithError, IndexError):
    """An index, or a value used as one, outside of its table or array.

    Attributes: ``index``, ``size``, ``position``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("index", "size", "position")


class FileReadError(MegalithError, OSError):
    """A read that gave fewer bytes than asked for.

    Attributes: ``path``, ``offset``, ``wanted``, ``done``, ``errno``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("path", "offset", "wanted", "done", "errno")


class FileWriteError(MegalithError, OSError):
    """A write that did not finish, or room for it that is not there.

    Attributes: ``path``, ``offset``, ``wanted``, ``done``, ``errno``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("path", "offset", "wanted", "done", "errno")


class FormatError(MegalithError, ValueError):
    """A header, version or checksum that is not valid.

    Attributes: ``path``, ``field``, ``got``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("path", "field", "got")


class TruncatedFileError(FileReadError, FormatError):
    """A file that is shorter than its header says.

    Attributes: those of `FileReadError` and `FormatError`.
    """

    _fields: ClassVar[tuple[str, ...]] = (*FileReadError._fields, *FormatError._fields[1:])


class KeyMissingError(MegalithError, KeyError):
    """A store or cache that has no such key.

    Attributes: ``key``, ``root``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("key", "root")


class LockTimeoutError(MegalithError, TimeoutError):
    """A lock that was not gained in time.

    Attributes: ``key``, ``holder``, ``waited_s``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("key", "holder", "waited_s")


class SharedMemoryFullError(MegalithError, MemoryError):
    """Shared memory without room for an array.

    Attributes: ``path``, ``free``, ``asked``, ``prunable``, ``result`` (the computed value, if there was one).
    """

    _fields: ClassVar[tuple[str, ...]] = ("path", "free", "asked", "prunable", "result")


class OutOfMemoryError(MegalithError, MemoryError):
    """Work that needs more memory than there is.

    Attributes: ``free``, ``asked``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("free", "asked")


class SelectionError(MegalithError, LookupError):
    """A selection that names what is not there.

    Attributes: ``axis``, ``label``, ``known``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("axis", "label", "known")


class SweepError(MegalithError, RuntimeError):
    """Points of a sweep that failed.

    Attributes: ``points``, ``errors``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("points", "errors")


class OwnershipError(MegalithError, PermissionError):
    """A shared file that belongs to another user.

    Attributes: ``path``, ``owner``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("path", "owner")


class MissingExtraError(MegalithError, ImportError):
    """An optional package that is not installed.

    Attributes: ``package``, ``extra``.
    """

    _fields: ClassVar[tuple[str, ...]] = ("package", "extra")


class WorkerDiedError(MegalithError, RuntimeError):
    """A worker that ended while it had something to do, too often or with nobody left to take over.

    Attributes: ``worker``, ``index`` (of the item it died of).
    """

    _fields: ClassVar[tuple[str, ...]] = ("worker", "index")


class InternalError(MegalithError, RuntimeError):
    """A bug of megalith's own; please report it."""


class MegalithWarning(UserWarning):
    """Base of all warnings of megalith."""


class CacheWarning(MegalithWarning):
    """A result was not kept, or one that was kept is damaged; what was asked for is returned all the same."""


class PerformanceWarning(MegalithWarning):
    """Something works, but slower than it could."""


class MegalithDeprecationWarning(MegalithWarning, DeprecationWarning):
    """Something will be removed; the message names the replacement and the version."""

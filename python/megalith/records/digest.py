"""How a value is identified: the digest of its content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from megalith import _checks
from megalith.exceptions import DTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from megalith._typing import Processes


def digest(value: Any, *, name: str = "value", processes: Processes = None) -> str:
    """Identify a value by its content.

    Two values have the same digest if their types and contents agree: in another process, on another machine, after
    another start of Python. Arrays count by type, shape and elements, not by their order in memory; dicts and sets in
    any order; 1, 1.0 and True, a list and a tuple, a str and a Path are apart. Objects count by class and state,
    functions by code, defaults and closure. pandas and xarray objects count by value.

    Parameters
    ----------
    value : object
        Nearly anything.
    name : str
        What it is called in messages.
    processes : int or 'serial', optional
        Upper bound on threads for large arrays; None means all cores given to this process.

    Returns
    -------
    digest : str
        32 hexadecimal digits.

    Raises
    ------
    DTypeError
        If something in it cannot be identified: open files, locks, generators, objects of extension types. The message
        says where it is.
    ArgumentError
        If `processes` is not possible.

    See Also
    --------
    register_digest : Say how values of a type are identified.

    Notes
    -----
    All nan of a type are one, 0.0 and -0.0 are two; inside of arrays bits count. Bytes that mean nothing (gaps in
    structured types, what lies under a mask) do not count. A writable array is read each time; what lies in a file that
    megalith published is read once in a process.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith.records import digest
    >>> a = np.arange(6.0).reshape(2, 3)
    >>> digest(a) == digest(np.asfortranarray(a))
    True
    >>> digest(a) == digest(a.astype('f4'))
    False
    >>> digest({'gain': 2, 'data': a}) == digest({'data': a.copy(), 'gain': 2})
    True
    >>> len(digest((1, 'a', None)))
    32
    >>> digest({'model': [open]}, name='settings') == digest({'model': [print]}, name='settings')
    False
    """
    from megalith.records.encoders import FORM, content_of_bytes, encode_named

    threads = None if processes is None else _checks.thread_count(processes)
    return content_of_bytes(FORM + encode_named(value, name, threads)).hex()


def register_digest(type: type, function: Callable[[Any], Any]) -> None:
    """Say how values of a type are identified.

    Parameters
    ----------
    type : type
        Values of it, and of types derived from it.
    function : callable
        Takes a value and gives what stands for it: bytes, or anything that can be digested.

    Raises
    ------
    DTypeError
        If `type` is no type or `function` is not callable.

    See Also
    --------
    digest : Identify a value by its content.

    Notes
    -----
    A registration wins over what megalith knows of a type itself, and a later one over an earlier one. It holds in this
    process: register where the class is defined, so that workers do too.

    Examples
    --------
    >>> from megalith.records import digest, register_digest
    >>> class Detector:
    ...     def __init__(self, serial):
    ...         self.serial = serial
    ...         self.connection = iter([])
    >>> register_digest(Detector, lambda detector: detector.serial)
    >>> digest(Detector(3)) == digest(Detector(3))
    True
    """
    if not isinstance(type, _TYPE):
        message = f"type: got {type!r}, expected a class"
        raise DTypeError(message, name="type", got=type, supported="classes")
    if not callable(function):
        message = f"function: got {function!r}, expected a function of a value"
        raise DTypeError(message, name="function", got=function, supported="callables")
    from megalith.records.encoders import register

    register(type, function)


_TYPE = type

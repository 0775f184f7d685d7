"""`cache`: one process computes an array, every other one maps it.

A value is there when its file is: files are written without a name and linked when they are complete, so a look needs
no lock. Who finds none takes the name's lock (a file in the user's own directory, locked by flock, so that it dies with
its holder), looks again, computes, publishes and gives the lock back; who cannot have the lock waits until the file is
there or the lock is free. Correctness never depends on the lock: the link of the second of two files fails, and its
maker takes the first.
"""

from __future__ import annotations

import functools
import random
import threading
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from megalith import _core, records
from megalith._shared_memory import DEFAULT_DIRECTORY, DEFAULT_PREFIX, full, has_room, is_full, prepare
from megalith.exceptions import ArgumentError, DTypeError, KeyMissingError, LockTimeoutError
from megalith.shared.mappings import find
from megalith.shared.names import Name, name_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

TimeoutException = LockTimeoutError

# How often a value is written to a directory that was full, but is not any more.
TRIES = 4

F = TypeVar("F", bound="Callable[[], Any]")


class _Making:
    """A name that a thread is making, until it is released or nobody knows of it any more."""

    def __init__(self, key: tuple[str, str], claim: Claim | None) -> None:
        self.key = key
        self._claim = claim

    def release(self) -> None:
        _held.names.discard(self)
        if self._claim is not None:
            self._claim.release()


class Claim(Protocol):
    """The right to make something."""

    def release(self) -> None:
        """Give it back."""


class _Held(threading.local):
    """The names this thread is making.

    Known weakly: an interrupt may come between any two steps, also before the `try` that would take a name out again.
    """

    def __init__(self) -> None:
        self.names: weakref.WeakSet[_Making] = weakref.WeakSet()


_held = _Held()


def hold(key: tuple[str, str], claim: Claim | None) -> _Making:
    """Note that this thread makes something that others may wait for, until what is returned is released."""
    making = _Making(key, claim)
    _held.names.add(making)
    return making


def is_making() -> bool:
    """Whether this thread is making something that others may wait for."""
    return bool(_held.names)


def cache(
    id: str,
    array_or_callback: Any,
    shm_path: str | os.PathLike[str] = DEFAULT_DIRECTORY,
    prefix: str = DEFAULT_PREFIX,
    timeout: float = -1,
    verbose: bool = True,
    log_func: Callable[[str], object] | None = None,
    *,
    mode: int = 0o600,
    trust_owner: bool = False,
) -> Any:
    """Return the array of a name, made by this process if no process has made it.

    The interface of sharearray. Of all processes and threads of a user that ask for a name, one computes and the others
    wait and map the same memory. If the one fails or is killed, one of those that wait takes over.

    Parameters
    ----------
    id : str
        The name, one for all processes on the machine: letters, digits and ``=+._-``.
    array_or_callback : numpy.ndarray, tuple, list, dict or callable
        The value, or a function of no arguments that gives it: an array, or any nesting of tuples, lists and dicts with
        arrays, strings, numbers, truth values and None inside. Arrays of any dtype but object.
    shm_path : path
        A directory in memory. The default stands for MEGALITH_SHARED_DIR if set, and for a directory of the user's
        cache where there is no /dev/shm.
    prefix : str
        What file names begin with.
    timeout : float
        Seconds to wait while another process computes; 0 does not wait, a negative number waits for ever.
    verbose : bool
        Say what is done: made, waited for, mapped.
    log_func : callable, optional
        Called with each sentence instead of `print`.
    mode : int
        Permissions of the file, exactly.
    trust_owner : bool
        Whether to map a file that belongs to another user.

    Returns
    -------
    value : SharedArray, or tuple, list or dict with SharedArrays inside
        Read-only views of shared memory. A second call in a process gives the very array that is there.

    Raises
    ------
    ArgumentError
        If the id holds other characters, or an option is not one of those allowed.
    DTypeError
        If the value is neither an array nor a nesting of arrays and JSON scalars; nothing is stored then, and the next
        caller computes.
    LockTimeoutError
        If another process has not finished in time; at once if a callback asks for its own name.
    SharedMemoryFullError
        If there is no room; ``.result`` is what was computed.
    OwnershipError
        If the file, or the directory of locks, belongs to another user.
    FormatError, TruncatedFileError
        If the file is not that of an array.

    Notes
    -----
    A hit takes no lock: 2 microseconds while a view is alive in this process, else that of mapping a file. A store
    copies the value once; `allocate` spares that too. Inside of a callback no other name is waited for: what is
    being made elsewhere is made again, and the first to finish is kept.

    A single array is ``<shm_path>/<prefix><id>.npy``, as written by `numpy.save`; anything else is one record ``.npz``.

    References
    ----------
    .. [1] B. Shillingford, sharearray, ``sharearray.cache``.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith import shared
    >>> squares = shared.cache('doc-squares', lambda: np.arange(5) ** 2, verbose=False)
    >>> squares
    SharedArray([ 0,  1,  4,  9, 16])
    >>> shared.free('doc-squares')
    """
    name = name_of(id, shm_path, prefix)
    found = find(name, trust_owner=trust_owner)
    if found is None:
        return _create(name, array_or_callback, timeout, _speaker(verbose, log_func), mode, trust_owner)
    if verbose:
        _speaker(verbose, log_func)(f"{id!r} is there: mapped")
    return found


def get(
    id: str,
    shm_path: str | os.PathLike[str] = DEFAULT_DIRECTORY,
    prefix: str = DEFAULT_PREFIX,
    *,
    trust_owner: bool = False,
) -> Any:
    """Return the array of a name that is there.

    Parameters
    ----------
    id : str
        The name.
    shm_path : path
        The directory.
    prefix : str
        What file names begin with.
    trust_owner : bool
        Whether to map a file that belongs to another user.

    Returns
    -------
    value : SharedArray, or tuple, list or dict with SharedArrays inside
        As `cache` gives it.

    Raises
    ------
    KeyMissingError
        If there is none.
    ArgumentError, OwnershipError, FormatError, TruncatedFileError
        As `cache`.

    Examples
    --------
    >>> from megalith import shared
    >>> shared.get('doc-nothing')
    Traceback (most recent call last):
    megalith.exceptions.KeyMissingError: no shared array 'doc-nothing' in ...
    """
    name = name_of(id, shm_path, prefix)
    found = find(name, trust_owner=trust_owner)
    if found is None:
        message = f"no shared array {id!r} in {name.directory}; megalith.shared.cache makes it"
        raise KeyMissingError(message, key=id, root=name.directory)
    return found


def decorator(id: str, **kwargs: Any) -> Callable[[F], F]:
    """Make a function of no arguments give the array of a name.

    Parameters
    ----------
    id : str
        The name.
    **kwargs
        As for `cache`.

    Returns
    -------
    decorate : callable
        The decorator. The function is called only where nothing is there.

    Raises
    ------
    ArgumentError
        If the id holds other characters.

    References
    ----------
    .. [1] B. Shillingford, sharearray, ``sharearray.decorator``.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith import shared
    >>> @shared.decorator('doc-ones', verbose=False)
    ... def ones():
    ...     return np.ones(3)
    >>> ones()
    SharedArray([1., 1., 1.])
    >>> shared.free('doc-ones')
    """
    name_of(id, kwargs.get("shm_path", DEFAULT_DIRECTORY), kwargs.get("prefix", DEFAULT_PREFIX))

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapped() -> Any:
            return cache(id, function, **kwargs)

        return wrapped  # type: ignore[return-value]

    return decorate


def free(id: str, shm_path: str | os.PathLike[str] = DEFAULT_DIRECTORY, prefix: str = DEFAULT_PREFIX) -> None:
    """Give up a name; the memory lives until the last view of it dies, in any process.

    Parameters
    ----------
    id : str
        The name; nothing happens if there is none.
    shm_path : path
        The directory.
    prefix : str
        What file names begin with.

    Raises
    ------
    ArgumentError
        If the id holds other characters.
    OwnershipError
        If the file belongs to another user.

    References
    ----------
    .. [1] B. Shillingford, sharearray, ``sharearray.free``.

    Examples
    --------
    >>> from megalith import shared
    >>> shared.free('doc-nothing')
    """
    name = name_of(id, shm_path, prefix)
    _core.shared_remove(name.directory, prefix, id)


def _speaker(verbose: bool, log_func: Callable[[str], object] | None) -> Callable[[str], object]:
    if not verbose:
        return lambda _: None
    return print if log_func is None else log_func


def _create(name: Name, make: Any, timeout: float, say: Callable[[str], object], mode: int, trust_owner: bool) -> Any:
    if not callable(make) and not isinstance(make, np.ndarray | tuple | list | dict):
        message = (
            f"array_or_callback: got {type(make).__name__}, expected an ndarray, a tuple, list or dict of arrays, "
            "or a function of no arguments"
        )
        raise DTypeError(message, name="array_or_callback", got=type(make).__name__, supported="ndarray or callable")
    check_mode(mode)
    while True:
        with turn(name, timeout, say) as is_ours:
            found = find(name, trust_owner=trust_owner) if not is_ours else None
            if is_ours:
                say(f"{name.id!r} is not there: creating it")
                value = make() if callable(make) else make
                found = _store(name, value, mode, trust_owner)
        if found is not None:
            say(f"{name.id!r} is there: mapped")
            return found
        # Published and freed before it was mapped: again.


@contextmanager
def turn(name: Name, timeout: float, say: Callable[[str], object]) -> Iterator[bool]:
    """Wait for a name to be published, or for the right to make it; says which of the two it was.

    Raises
    ------
    LockTimeoutError
        If neither happens in time, or if this thread is already making it.
    """
    timeout = _seconds(timeout)
    held = [made.key for made in _held.names]
    if name.key in held:
        message = f"{name.id!r} was asked for by the callback that computes it, which would wait for itself for ever"
        raise LockTimeoutError(message, key=name.id, waited_s=0.0)
    prepare(name.directory)
    place = (name.directory, name.prefix, name.id)
    is_published, claim = _core.shared_turn(*place, 0.0)
    if not is_published and claim is None and not held:
        # A thread that holds a name does not wait for another: whoever makes that one might wait for ours.
        holder = _core.shared_holder(*place)
        by = "another process" if holder is None else f"process {holder}"
        limit = "as long as it takes" if timeout < 0 else f"up to {timeout:g} s"
        if timeout != 0:
            say(f"{name.id!r} is being created by {by}: waiting {limit}")
            is_published, claim = _core.shared_turn(*place, timeout)
        if not is_published and claim is None:
            message = (
                f"{name.id!r} is being created by {by}, which has not finished within {timeout:g} s; "
                "wait longer (timeout=-1: for ever) or end it"
            )
            raise LockTimeoutError(message, key=name.id, holder=holder, waited_s=timeout)
    if is_published:
        yield False
        return
    making = hold(name.key, claim)
    try:
        yield True
    finally:
        making.release()


def _store(name: Name, value: Any, mode: int, trust_owner: bool) -> Any:
    """Publish a value and map it, or what somebody else published first."""
    if not isinstance(value, np.ndarray | tuple | list | dict):
        message = (
            f"{name.id!r}: the callback gave {type(value).__name__}, expected an ndarray, or a tuple, list or dict of "
            "arrays and JSON scalars; nothing was stored"
        )
        raise DTypeError(message, name="array_or_callback", got=type(value).__name__, supported="ndarray or nestings")
    plan = records.plan(value)
    tries = 0
    while True:
        try:
            draft = _core.Draft.shared(
                name.directory, name.prefix, name.id, plan.suffix, plan.nbytes, mode, reserve=False
            )
            try:
                plan.write(draft)
                draft.publish(replace=False)
            finally:
                draft.discard()
        except FileExistsError:
            pass
        except OSError as error:
            if not is_full(error):
                raise
            # Writers that fill it together are all refused, though there would have been room for some.
            tries += 1
            if tries == TRIES or not has_room(name.directory, plan.nbytes):
                raise full(name.directory, plan.nbytes, value) from error
            time.sleep(random.uniform(0, 0.05))
            continue
        found = find(name, trust_owner=trust_owner)
        if found is not None:
            return found
        # Freed before it was mapped: the value is here, so it is published again.


def _seconds(timeout: Any) -> float:
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        seconds = float("nan")
    if seconds != seconds:
        message = f"timeout: got {timeout!r}, expected seconds; a negative number waits for ever"
        raise ArgumentError(message, name="timeout", got=timeout, expected="a number of seconds")
    return seconds


def check_mode(mode: Any) -> None:
    """Check permissions of a file.

    Raises
    ------
    ArgumentError
        If they are no number of read and write bits, or do not let the owner read.
    """
    if isinstance(mode, bool) or not isinstance(mode, int) or mode & ~0o666 or not mode & 0o400:
        message = f"mode: got {mode!r}, expected permissions to read and write, such as 0o600 or 0o644"
        raise ArgumentError(message, name="mode", got=mode, expected="0o400 to 0o666")

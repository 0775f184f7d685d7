"""What shared arrays there are, and how to be rid of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from megalith import _core
from megalith._shared_memory import DEFAULT_DIRECTORY, DEFAULT_PREFIX, directory
from megalith.exceptions import ArgumentError

if TYPE_CHECKING:
    import os


class Entry(NamedTuple):
    """A shared array that is there.

    Parameters
    ----------
    id : str
        Its name.
    path : str
        Its file.
    nbytes : int
        The size of the file.
    owner : str
        The user it belongs to, by name where there is one.
    created : float
        When it was made, in seconds as of `time.time`.
    """

    id: str
    path: str
    nbytes: int
    owner: str
    created: float


def ls(shm_path: str | os.PathLike[str] = DEFAULT_DIRECTORY, prefix: str = DEFAULT_PREFIX) -> list[Entry]:
    """List the shared arrays, of all users.

    Parameters
    ----------
    shm_path : path
        The directory.
    prefix : str
        What file names begin with.

    Returns
    -------
    entries : list of Entry
        Oldest first.

    Raises
    ------
    PermissionError
        If the directory may not be listed.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith import shared
    >>> a = shared.cache('doc-ls', np.zeros(100), verbose=False)
    >>> [entry.nbytes for entry in shared.ls() if entry.id == 'doc-ls']
    [928]
    >>> shared.free('doc-ls')
    """
    return [entry for entry, _ in _entries(directory(shm_path), prefix)]


def _entries(where: str, prefix: str) -> list[tuple[Entry, int]]:
    found = [
        (Entry(id, f"{where}/{file}", size, _user(uid), modified), uid)
        for file, id, size, _, uid, modified in _core.shared_list(where, prefix)
    ]
    return sorted(found, key=lambda pair: pair[0].created)


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def usage(shm_path: str | os.PathLike[str] = DEFAULT_DIRECTORY, prefix: str = DEFAULT_PREFIX) -> int:
    """Return the bytes of all shared arrays.

    Parameters
    ----------
    shm_path : path
        The directory.
    prefix : str
        What file names begin with.

    Returns
    -------
    nbytes : int
        The sum over `ls`.

    Raises
    ------
    PermissionError
        If the directory may not be listed.

    Examples
    --------
    >>> from megalith import shared
    >>> shared.usage(prefix='doc-no-such-prefix-')
    0
    """
    return sum(entry.nbytes for entry in ls(shm_path, prefix))


def prune(
    max_bytes: int | None = None,
    max_age_s: float | None = None,
    shm_path: str | os.PathLike[str] = DEFAULT_DIRECTORY,
    prefix: str = DEFAULT_PREFIX,
) -> list[Entry]:
    """Free shared arrays of this user that are too old, then the oldest until the rest is small enough.

    Parameters
    ----------
    max_bytes : int, optional
        What the arrays of this user may take together.
    max_age_s : float, optional
        Seconds an array may be old.
    shm_path : path
        The directory.
    prefix : str
        What file names begin with.

    Returns
    -------
    freed : list of Entry
        What was freed. Views of it stay right, and its memory is given back when the last one dies.

    Raises
    ------
    ArgumentError
        If a limit is negative, or neither is given.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith import shared
    >>> a = shared.cache('old', np.zeros(100), prefix='doc-prune-', verbose=False)
    >>> [entry.id for entry in shared.prune(max_bytes=0, prefix='doc-prune-')]
    ['old']
    """
    _limit("max_bytes", max_bytes)
    _limit("max_age_s", max_age_s)
    if max_bytes is None and max_age_s is None:
        message = "prune: neither max_bytes nor max_age_s is given; max_bytes=0 frees everything"
        raise ArgumentError(message, name="max_bytes", got=None, expected="max_bytes or max_age_s")
    where = directory(shm_path)
    user, now = _core.user_id(), time.time()
    mine = [entry for entry, uid in _entries(where, prefix) if uid == user]
    total = sum(entry.nbytes for entry in mine)
    freed = []
    for entry in mine:
        is_old = max_age_s is not None and now - entry.created > max_age_s
        if is_old or (max_bytes is not None and total > max_bytes):
            _core.shared_remove(where, prefix, entry.id)
            total -= entry.nbytes
            freed.append(entry)
    return freed


def _limit(name: str, value: Any) -> None:
    if value is not None and not value >= 0:
        message = f"{name}: got {value!r}, expected a number of 0 or more"
        raise ArgumentError(message, name=name, got=value, expected=">= 0")

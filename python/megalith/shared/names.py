"""Names of shared arrays and the files they mean."""

from __future__ import annotations

import functools
import string
from typing import TYPE_CHECKING, Any, NamedTuple

from megalith._shared_memory import DEFAULT_DIRECTORY, DEFAULT_PREFIX, directory
from megalith.exceptions import ArgumentError

if TYPE_CHECKING:
    import os

_CHARACTERS = frozenset(string.ascii_letters + string.digits + "=+._-")

# Bytes of a file name on most file systems; the longest suffix is a lock's.
_LONGEST = 255 - len(".lock")


class Name(NamedTuple):
    """A shared array's name, and where it lies."""

    id: str
    directory: str
    prefix: str
    path: str

    @property
    def key(self) -> tuple[str, str]:
        """What makes two names the same."""
        return self.directory, self.prefix + self.id


def valid_id(id: Any) -> bool:
    """Whether a string may name a shared array: letters, digits and ``=+._-``.

    Parameters
    ----------
    id : str
        The string.

    Returns
    -------
    is_valid : bool
        False for the empty string and for anything that is no string, too.

    Examples
    --------
    >>> from megalith import shared
    >>> shared.valid_id('atlas-25um'), shared.valid_id('../etc/passwd')
    (True, False)
    """
    return isinstance(id, str) and id != "" and _CHARACTERS.issuperset(id)


def name_of(id: Any, shm_path: Any = DEFAULT_DIRECTORY, prefix: Any = DEFAULT_PREFIX) -> Name:
    """Check a name.

    Raises
    ------
    ArgumentError
        If id or prefix hold other characters, or are too long for the name of a file.
    """
    if not isinstance(id, str) or not isinstance(prefix, str):
        message = f"id: got {id!r} and prefix {prefix!r}, expected strings of letters, digits and '=+._-'"
        raise ArgumentError(message, name="id", got=id, expected="[A-Za-z0-9=+._-]+")
    return _name(id, directory(shm_path), prefix)


@functools.lru_cache(maxsize=4096)
def _name(id: str, where: str, prefix: str) -> Name:
    if not valid_id(id):
        message = f"id: got {id!r}, expected a string of letters, digits and '=+._-'"
        raise ArgumentError(message, name="id", got=id, expected="[A-Za-z0-9=+._-]+")
    if not _CHARACTERS.issuperset(prefix):
        message = f"prefix: got {prefix!r}, expected a string of letters, digits and '=+._-'"
        raise ArgumentError(message, name="prefix", got=prefix, expected="[A-Za-z0-9=+._-]*")
    if len(prefix) + len(id) > _LONGEST:
        message = f"id: prefix and id have {len(prefix) + len(id)} characters, expected at most {_LONGEST}"
        raise ArgumentError(message, name="id", got=id, expected=f"at most {_LONGEST} characters with the prefix")
    return Name(id, where, prefix, f"{where}/{prefix}{id}")


def _build_path(
    id: str, shm_path: str | os.PathLike[str] = DEFAULT_DIRECTORY, prefix: str = DEFAULT_PREFIX
) -> tuple[str, str]:
    """Return the file of an array, and the file that sharearray would lock it by; megalith never makes the second."""
    path = name_of(id, shm_path, prefix).path + ".npy"
    return path, path + ".lock"

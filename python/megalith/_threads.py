"""How many threads the core may use.

The number is looked for in this order: the argument ``processes=``, the innermost ``with megalith.threads(n):``,
``megalith.set_threads(n)``, ``megalith.arrays.default_processes``, the environment variables ``MEGALITH_NUM_THREADS``
and ``OMP_NUM_THREADS`` (loky and dask set the latter for their workers), and last what the affinity of the process and
the quota of its cgroup leave. Small inputs use the calling thread alone.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from megalith._checks import thread_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from megalith._typing import Processes

_scope: ContextVar[int | None] = ContextVar("megalith_threads", default=None)
_setting: int | None = None


def set_threads(n: Processes) -> None:
    """Set the number of threads for this process.

    Parameters
    ----------
    n : int, 'serial' or None
        The number; 'serial' means 1, None takes the setting back.

    Raises
    ------
    ArgumentError
        If it is 0, negative or no whole number.

    Examples
    --------
    >>> import megalith
    >>> megalith.set_threads(2)
    >>> megalith.initialize_processing()
    (2, None)
    >>> megalith.set_threads(None)
    """
    global _setting
    _setting = thread_count(n)


@contextmanager
def threads(n: Processes) -> Iterator[None]:
    """Set the number of threads inside of a ``with`` block, for this thread or task alone.

    Parameters
    ----------
    n : int, 'serial' or None
        The number; 'serial' means 1, None leaves things as they are outside.

    Raises
    ------
    ArgumentError
        If it is 0, negative or no whole number.

    Examples
    --------
    >>> import megalith
    >>> with megalith.threads(3):
    ...     megalith.initialize_processing()
    (3, None)
    """
    token = _scope.set(thread_count(n) or _scope.get())
    try:
        yield
    finally:
        _scope.reset(token)


def requested(processes: Processes, default: Processes = None) -> int | None:
    """Return the number of threads that was asked for in Python, None if nobody did."""
    if processes is not None:
        return thread_count(processes)
    return _scope.get() or _setting or (None if default is None else thread_count(default))

"""What runs in a worker: a function for some items, one after the other.

Results go back as soon as they have taken long enough or become large enough; items that were not begun by then go back
too, so that one long item holds up nobody but itself.
"""

from __future__ import annotations

import os
import pickle
import socket
import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from megalith import _core
from megalith._threads import threads
from megalith.exceptions import MegalithError
from megalith.maps.failure import packed
from megalith.maps.marks import Place, marker
from megalith.maps.parcel import OutOfReachError, pack_result
from megalith.records.digest import digest
from megalith.records.origin import is_user_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# What stops an item, and is reported as its failure. All else (KeyboardInterrupt) is meant for the whole map.
FAILURES = (Exception, SystemExit)

# Results are sent back once they have so many bytes.
FULL = 64 << 20

# Functions that stay unpickled here, of so many bytes at most: what is held by larger ones is to be given back.
FUNCTIONS = 8
SMALL = 1 << 20

is_worker: ContextVar[bool] = ContextVar("megalith_is_worker", default=False)
"""Whether the running code is an item of a map."""


def environment() -> tuple[str | None, ...]:
    """Return what the environment of this process says about threads."""
    return tuple(os.environ.get(name) for name in ("MEGALITH_NUM_THREADS", "OMP_NUM_THREADS"))


@dataclass(frozen=True)
class Share:
    """How many threads of the core an item may use.

    Parameters
    ----------
    workers : int
        Workers among which the processors are divided.
    threads : int or None
        How many threads the caller of the map asked for, for all of them.
    environment : tuple
        What the environment of the caller says.
    """

    workers: int
    threads: int | None = None
    environment: tuple[str | None, ...] = ()

    def here(self) -> int | None:
        """Return the number for this process, None where its environment, unlike that of the caller, says it."""
        if self.threads is None and any(environment()) and environment() != self.environment:
            return None
        return max((self.threads or _core.default_threads()) // self.workers, 1)


@dataclass(frozen=True)
class Order:
    """What a worker is to do, packed."""

    token: str
    """Names the function, so that it is unpickled once; empty if each item is to have arrays of its own in it."""
    function: bytes
    code: str | None
    """The digest of the function, if it travels by name: workers may know another one of that name."""
    items: list[bytes]
    pause_s: float
    """When to report."""
    share: Share
    is_near: bool
    """Whether results may refer to memory of this machine."""
    place: Place | None = None
    """Where to note what is being done."""


@dataclass
class Report:
    """What a worker did."""

    worker: str
    seconds: float = 0.0
    results: list[tuple[bool, Any]] = field(default_factory=list)
    """Of the first items: True and the result, or False and the exception with its traceback."""
    is_packed: bool = True
    missing: tuple[str, bytes] | None = None
    """The module that could not be imported here, or lacked something, and the exception."""
    is_out_of_reach: bool = False
    died: tuple[int, int] | None = None
    """The process that had the same order before and died, and the item it was at."""


@contextmanager
def as_worker(n_threads: int | None) -> Iterator[None]:
    """Let maps inside of the body run serially, and the core use its part of the processors."""
    token = is_worker.set(True)
    try:
        with threads(n_threads):
            yield
    finally:
        is_worker.reset(token)


def work_here(function: Callable[..., Any], items: Sequence[tuple[Any, ...]], pause_s: float, share: Share) -> Report:
    """Do items in a thread of the calling process."""
    report = Report(threading.current_thread().name, is_packed=False)
    start = time.perf_counter()
    with as_worker(max((share.threads or _core.default_threads()) // share.workers, 1)):
        for args in items:
            try:
                report.results.append((True, function(*args)))
            except BaseException as error:
                report.results.append((False, error))
                if not isinstance(error, FAILURES):
                    break
            if time.perf_counter() - start > pause_s:
                break
    report.seconds = time.perf_counter() - start
    return report


def work(data: bytes) -> Report:
    """Do the items of a packed `Order`."""
    order: Order = pickle.loads(data)
    report = Report(f"process {os.getpid()} on {socket.gethostname()}")
    mark, before = marker(order.place)
    if before is not None:
        # Dask tries again by itself. Whether to do so is decided where the map was called.
        mark(0)
        report.died = before
        return report
    start, nbytes = time.perf_counter(), 0
    function: Callable[..., Any] | None = None
    with as_worker(order.share.here()):
        for i, item in enumerate(order.items, 1):
            mark(i)
            try:
                if function is None or not order.token:
                    function = _function(order)
                    start = start if i > 1 else time.perf_counter()  # What it takes says nothing about the items.
                args = pickle.loads(item)
            except OutOfReachError:
                report.is_out_of_reach = True
                break
            except (ImportError, AttributeError) as error:
                report.missing = (_module(error), packed(error))
                break
            except FAILURES as error:
                report.results.append((False, packed(error)))
                continue
            is_over = False
            try:
                result = (True, pack_result(function(*args), is_near=order.is_near))
            except BaseException as error:  # The pools, and dask above all, do odd things with most of these.
                result = (False, packed(error))
                is_over = not isinstance(error, FAILURES)
            report.results.append(result)
            del args
            nbytes += len(result[1])
            if is_over or time.perf_counter() - start > order.pause_s or nbytes > FULL:
                break
    mark(0)
    report.seconds = time.perf_counter() - start
    return report


def _module(error: ImportError | AttributeError) -> str:
    """Return the module that is missing, or lacks something."""
    if isinstance(error, ImportError):
        return error.name or ""
    return getattr(error.obj, "__name__", "")


_functions: OrderedDict[str, Callable[..., Any]] = OrderedDict()
_lock = threading.Lock()


def _function(order: Order) -> Callable[..., Any]:
    with _lock:
        found = _functions.get(order.token)
    if found is None:
        found = pickle.loads(order.function)
        if order.code is not None and code_of(found) != order.code:
            message = f"{found.__module__}.{found.__qualname__} is another function here than where it was sent from"
            raise ImportError(message, name=found.__module__)
        if order.token and len(order.function) < SMALL:
            with _lock:
                _functions[order.token] = found
                if len(_functions) > FUNCTIONS:
                    _functions.popitem(last=False)
    return found


def code_of(function: Callable[..., Any]) -> str | None:
    """Return the digest of a function of the user's, None if it has none that says anything."""
    if not is_user_module(getattr(function, "__module__", None)):
        return None
    try:
        return digest(function)
    except MegalithError:
        return None

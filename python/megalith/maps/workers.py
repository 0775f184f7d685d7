"""What all kinds of worker have in common."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from concurrent.futures import Executor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from megalith import _checks
from megalith._optional import is_instance
from megalith.exceptions import ArgumentError
from megalith.maps.marks import Marks

if TYPE_CHECKING:
    from collections.abc import Callable

    from megalith.maps.marks import Place
    from megalith.maps.task import Report

log = logging.getLogger("megalith.maps")


@dataclass
class Item:
    """One call."""

    index: int
    args: tuple[Any, ...]
    packed: bytes = b""
    version: int = -1
    """Of the sender, when it was packed."""
    copies: Any = ()
    """Memory that has to be there until it is done."""
    deaths: int = 0
    """How many workers died of it, or while they had it."""


@dataclass(eq=False)
class Chunk:
    """Items that are sent together.

    Parameters
    ----------
    items : list of Item
        What is done, one after the other.
    slot : int
        Its mark; no other chunk that is on its way has it.
    number : int
        Rises from one that is sent to the next.
    future : Future
        Of the workers.
    worker : object
        Where it was sent, where that is chosen by us.
    is_innocent : bool
        Whether its worker is known to have died of something else.
    """

    items: list[Item]
    slot: int
    number: int
    future: Any = None
    worker: Any = None
    is_innocent: bool = False


@dataclass(frozen=True)
class Death:
    """A worker is gone.

    Parameters
    ----------
    worker : str
        Which one.
    at : int or None
        Which item of the chunk it was at, from 1 on; 0 if it had nothing to do with the chunk, None if not known.
    others : int
        How many others had died of the chunk before.
    """

    worker: str
    at: int | None
    others: int = 0


class Workers(ABC):
    """Where the items of one map are done.

    Attributes
    ----------
    is_near : bool
        Whether they can map memory of this process.
    is_here : bool
        Whether they are threads of this process, so that nothing has to be packed.
    done : SimpleQueue
        Chunks that have ended, however they did; None only wakes who waits.
    """

    is_near = False
    is_here = False

    def __init__(self) -> None:
        self.done: SimpleQueue[Chunk | None] = SimpleQueue()
        self.chunks: set[Chunk] = set()
        self._marks: Marks | None = None

    def open(self) -> None:  # noqa: B027  # Most need not.
        """Prepare for a map in the background: once a program ends, nothing can be started any more."""

    @abstractmethod
    def count(self) -> int:
        """Return how many there are at present."""

    def share(self) -> int:
        """Return among how many of them the processors of a machine are divided."""
        return self.count()

    @abstractmethod
    def begin(self, chunk: Chunk, task: Callable[..., Report], *args: Any) -> None:
        """Have one of them do a chunk."""

    def send(self, chunk: Chunk, task: Callable[..., Report], *args: Any) -> None:
        """Have one of them do a chunk, and remember that it is on its way."""
        self.chunks.add(chunk)
        if self.is_near:
            self._marks = self._marks or Marks()
            self._marks.clear(chunk.slot)
        try:
            self.begin(chunk, task, *args)
        except BaseException:
            self.chunks.discard(chunk)
            raise

    def received(self, chunk: Chunk) -> Report | Death:
        """Return what became of a chunk that has ended."""
        self.chunks.discard(chunk)
        report = self.report(chunk)
        if isinstance(report, Death) or report.died is None:
            return report
        pid, at = report.died
        return Death(f"process {pid}", at)

    @abstractmethod
    def report(self, chunk: Chunk) -> Report | Death:
        """Return what became of a chunk that has ended.

        Raises
        ------
        Exception
            What is wrong with the workers, rather than with an item.
        """

    def look(self) -> None:  # noqa: B027  # Most need not.
        """See who is there, and raise if nobody is left to wait for; called from time to time."""

    def stop(self, *, interrupt: bool) -> None:
        """Take back all that was sent, and interrupt what runs, if the workers are ours to interrupt."""
        for chunk in tuple(self.chunks):
            chunk.future.cancel()

    def close(self) -> None:
        """Give the workers back."""
        if self._marks is not None:
            self._marks.close()

    def place(self, chunk: Chunk) -> Place | None:
        """Return where who does a chunk is to note what he is at, None if he cannot."""
        return None if self._marks is None else self._marks.place(chunk.slot)

    def mark(self, chunk: Chunk) -> tuple[int, int] | tuple[None, None]:
        """Return which process has a chunk, and at which of its items it is, from 1 on; zeros if none is."""
        return (None, None) if self._marks is None else self._marks.read(chunk.slot)


def as_workers(workers: Any) -> Workers | None:
    """Return the workers that an argument stands for, None for the calling thread.

    Raises
    ------
    ArgumentError
        If it is nothing that can do work.
    """
    if workers is None:
        return None
    if isinstance(workers, bool) or (not isinstance(workers, int | Executor) and not _is_cluster(workers)):
        message = (
            f"workers: got {type(workers).__name__}, expected None, a number of processes, a concurrent.futures "
            "Executor, an ipyparallel view (client[:] or client.load_balanced_view()) or a dask Client"
        )
        raise ArgumentError(message, name="workers", got=workers, expected="int, Executor, view, Client or None")
    if is_instance(workers, "ipyparallel.client.view", "ViewExecutor"):
        workers = workers.view  # That of a DirectView does everything on each engine.
    if isinstance(workers, int):
        from megalith.maps.pools import own_pool

        return own_pool(_checks.positive_int("workers", workers))
    if isinstance(workers, Executor):
        from megalith.maps.pools import executor_workers

        return executor_workers(workers)
    if is_instance(workers, "distributed", "Client"):
        from megalith.maps.dask import DaskWorkers

        return DaskWorkers(workers)
    from megalith.maps.ipyparallel import EngineWorkers

    return EngineWorkers(workers)


def _is_cluster(workers: Any) -> bool:
    return is_instance(workers, "distributed", "Client") or is_instance(workers, "ipyparallel.client.view", "View")

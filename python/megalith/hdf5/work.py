"""What a worker does with one block: read, compute, write, record."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from megalith import _core, _durable, _npy
from megalith.exceptions import DTypeError, FormatError, OutOfMemoryError, ShapeError
from megalith.hdf5 import files, journal
from megalith.hdf5.journal import Done, Journal
from megalith.hdf5.plan import shape_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from megalith._typing import AnyArray, Box
    from megalith.hdf5.origins import Origin


class Partial(NamedTuple):
    """A file that all blocks are written into: which one it is, where its data begin, and what they are."""

    path: Path
    inode: int
    offset: int | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Task(NamedTuple):
    """One block: its number and box, and if they are known the shape of its result and where that lies in the whole."""

    number: int
    box: Box
    shape: tuple[int, ...] | None = None
    place: Box | None = None


@dataclass(frozen=True)
class Job:
    """A run, as workers know it; to be called with a `Task`."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    options: dict[str, Any]
    origin: Origin
    journal: Journal
    dataset: str
    compression: Any = None
    chunks: Any = None
    partial: Partial | None = None

    def __call__(self, task: Task) -> Done:
        """Finish a block, unless it is finished."""
        done = self.journal.find(task.number)
        if done is not None and (task.shape is None or done.shape == task.shape):
            found = self._found(task, done)
            if found is not None:
                return found
        done = self._write(task, self._compute(task))
        self.journal.add(task.number, done)
        return done

    def _found(self, task: Task, done: Done) -> Done | None:
        """Return a block that is recorded if its data are what the record says."""
        if self.partial is None:
            found = journal.read_block(self.journal.block(task.number), self.dataset, done)
            return None if found is None else found[1]
        assert task.place is not None
        if done.dtype == self.partial.dtype:
            array = np.empty(done.shape, done.dtype)
            if self.partial.offset is not None and array.size:
                spans = [(part.start, part.stop) for part in task.place]
                file = _core.File(os.fspath(self.partial.path))
                file.read_box(self.partial.offset, self.partial.shape, spans, _npy.raw(array))
            if journal.checksum(array) == done.checksum:
                return done
        # It may have been computed before the shape of the whole was known.
        found = journal.read_block(self.journal.block(task.number), self.dataset, done)
        return None if found is None else self._write(task, found[0])

    def _compute(self, task: Task) -> AnyArray:
        shape = shape_of(task.box)
        nbytes = math.prod(shape) * self.origin.dtype.itemsize
        if self.partial is not None and task.shape is not None:
            nbytes += math.prod(task.shape) * self.partial.dtype.itemsize
        check_memory(nbytes, 1, self.journal.directory)
        block = self.origin.read(task.box)
        result = as_result(self.func(block, *self.args, **self.options))
        if task.shape is not None and result.shape != task.shape:
            message = f"func: for a block of shape {shape} it returned {result.shape}, expected {task.shape}"
            raise ShapeError(message, name="func", got=result.shape, expected=task.shape)
        if self.partial is not None and result.dtype != self.partial.dtype:
            raise other_dtype(result.dtype, self.partial.dtype)
        return result

    def _write(self, task: Task, result: AnyArray) -> Done:
        if self.partial is None:
            path = self.journal.block(task.number)
            return journal.write_block(path, result, self.dataset, self.compression, self.chunks)
        assert task.place is not None
        write_into(self.partial, task.place, result)
        return Done(result.shape, result.dtype, journal.checksum(result))


def as_result(value: Any) -> AnyArray:
    """Return what a function gave as an array that HDF5 can hold.

    Raises
    ------
    DTypeError
        If it is none.
    """
    if value is None or isinstance(value, np.ma.MaskedArray | tuple):
        message = f"func: it returned {type(value).__name__}, expected an array"
        raise DTypeError(message, name="func", got=type(value).__name__, supported="arrays")
    result = np.atleast_1d(np.asarray(value))
    files.check_dtype(result.dtype, "func")
    return result


def other_dtype(got: np.dtype[Any], expected: np.dtype[Any]) -> DTypeError:
    """Make the error for results of several types."""
    message = f"func: it returned dtype {got} for one block and {expected} for another; let it return one type"
    return DTypeError(message, name="func", got=str(got), supported=str(expected))


def write_into(partial: Partial, place: Box, result: AnyArray) -> None:
    """Write a block to its place by positioned writes: no lock, as no other block has a byte of it."""
    descriptor = os.open(partial.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_ino != partial.inode:
            message = f"{partial.path}: it is another file than when the run began; another run has taken its place"
            raise FormatError(message, path=partial.path, field="inode")
        if partial.offset is not None and result.size:
            spans = [(part.start, part.stop) for part in place]
            file = _core.File(f"/dev/fd/{descriptor}", writable=True)
            file.write_box(partial.offset, partial.shape, spans, _npy.raw(np.ascontiguousarray(result)))
        _durable.sync_data(descriptor)
    finally:
        os.close(descriptor)


def dask_worker() -> Any:
    """Return the dask worker that this task runs on, None elsewhere."""
    distributed = sys.modules.get("distributed")
    try:
        return None if distributed is None else distributed.get_worker()
    except ValueError:
        return None


def check_memory(asked: int, blocks: int, directory: Path) -> None:
    """Check that blocks and their results fit in the memory of this process.

    Raises
    ------
    OutOfMemoryError
        If they do not.
    """
    free = _core.capacity(directory)["memory"]
    worker = dask_worker()
    limit = None if worker is None else worker.memory_manager.memory_limit
    if limit:
        free = min(limit // worker.state.nthreads, limit if free is None else free)
    if free is not None and asked * blocks > free:
        message = (
            f"{blocks} blocks at once, with what is known of their results, need {asked * blocks:,} bytes of memory "
            f"and {free:,} are available; make the blocks smaller (blocks=), or have fewer workers"
        )
        raise OutOfMemoryError(message, asked=asked * blocks, free=free)

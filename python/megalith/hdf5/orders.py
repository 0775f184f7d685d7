"""What a worker is told to do in one dict: read a block, compute, write the result."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from megalith import _durable
from megalith.arrays.source import as_source
from megalith.exceptions import ArgumentError
from megalith.hdf5 import files
from megalith.hdf5.virtual import source_files
from megalith.hdf5.work import as_result, dask_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from megalith._typing import AnyArray, PathLike

# What is put to the name of a dataset for the group that says which calls have been added to it.
ADDED = "_calls"


class Order(NamedTuple):
    """The keys of an order, and what absent ones mean."""

    infile: Any
    outfile: PathLike
    indset: str = "data"
    ingrid: Any = ()
    inshape: tuple[int, ...] | None = None
    sigrid: Any = None
    fancy: bool = False
    hdr: Any = None
    vdsdir: PathLike | None = None
    outdset: str = "data"
    outgrid: Any = ()
    outshape: tuple[int, ...] | None = None
    dtype: Any = None
    keeptrials: bool = True
    call_id: Any = None


def carry_out(given: dict[str, Any], func: Callable[[AnyArray], Any]) -> None:
    """Do what an order says.

    Parameters
    ----------
    given : dict
        The order.
    func : callable
        Takes the block.

    Raises
    ------
    ArgumentError
        If it has keys that are none, or lacks a file.
    FormatError
        If a file is damaged.
    """
    unknown, missing = sorted(given.keys() - set(Order._fields)), sorted({"infile", "outfile"} - given.keys())
    if unknown or missing:
        what = f"no such key: {unknown[0]!r}" if unknown else f"it lacks {missing[0]!r}"
        message = f"order: {what}; the keys are {', '.join(Order._fields)}"
        raise ArgumentError(message, name="order", got=sorted(given), expected=Order._fields)
    order = Order(**given)
    ingrid = order.ingrid if isinstance(order.ingrid, tuple) else (order.ingrid,)
    if any(isinstance(part, list | np.ndarray) and len(part) == 0 for part in ingrid):
        # Nothing is selected, so there is nothing to compute.
        result = np.zeros(order.outshape or (0,), order.dtype)
    else:
        block = _read(order, ingrid)
        result = as_result(func(block if order.inshape is None else block.reshape(order.inshape)))
        if order.outshape is not None:
            result = result.reshape(order.outshape)
        if order.dtype is not None:
            result = result.astype(order.dtype, copy=False)
    outfile = Path(order.outfile)
    if order.vdsdir is not None or not outfile.exists():
        files.publish(outfile, files.plain_image(result.shape, result.dtype, order.outdset), result)
    else:
        _write_into(outfile, order, result)


def _read(order: Order, ingrid: tuple[Any, ...]) -> AnyArray:
    if order.hdr is not None:
        return _read_raw(order, ingrid)
    if Path(order.infile).suffix == ".npy":
        values = np.array(as_source(order.infile).array[ingrid])
    else:
        with files.open_file(order.infile) as file:
            dataset = files.dataset_of(file, order.indset)
            source_files(dataset)
            values = np.asarray(dataset[ingrid])
    return values[np.ix_(*order.sigrid)] if order.fancy else values


def _read_raw(order: Order, ingrid: tuple[Any, ...]) -> AnyArray:
    headers = [order.hdr] if isinstance(order.hdr, dict) else list(order.hdr)
    paths = [order.infile] if isinstance(order.infile, str | os.PathLike) else list(order.infile)
    parts = []
    for path, header in zip(paths, headers, strict=True):
        shape, offset = (int(header["M"]), int(header["N"])), int(header["length"])
        values = as_source(path, dtype=header["dtype"], shape=shape, offset=offset).array
        parts.append(values[np.ix_(*ingrid)] if order.fancy else values[ingrid])
    return np.vstack(parts)


def _write_into(path: Path, order: Order, result: AnyArray) -> None:
    """Write a result into a dataset that is there, while nobody else does."""
    with mutex(path), files.open_file(path, "r+") as file:
        dataset = files.dataset_of(file, order.outdset)
        if order.keeptrials:
            dataset[order.outgrid] = result
        else:
            added = file.require_group(order.outdset + ADDED)
            call = None if order.call_id is None else str(order.call_id).replace("/", ":")
            if call is None or call not in added:
                dataset[...] = np.nansum([dataset[()], result], axis=0)
            if call is not None:
                added.require_group(call)
    _durable.sync_file(path)


@contextmanager
def mutex(path: Path) -> Iterator[None]:
    """Have a file alone in a ``with`` block, among all who ask for it so.

    The lock is one on the open file, which the system takes back when its holder ends, however it ends. On a dask
    worker there is dask's lock as well, for workers on other machines; that one is a lease, which runs out when its
    holder does not renew it.
    """
    with ExitStack() as stack:
        lock = _dask_lock(f"megalith-{path.absolute()}")
        if lock is not None:
            stack.enter_context(lock)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            _durable.lock(descriptor)
            if _durable.is_at(descriptor, path):
                break
            _durable.unlock(descriptor)
        stack.callback(_durable.unlock, descriptor)
        yield


def _dask_lock(name: str) -> Any:
    """Return the lock of a name that all workers of a dask cluster see, None elsewhere."""
    if dask_worker() is None:
        return None
    import distributed

    make: Any = distributed.Lock
    return make(name)

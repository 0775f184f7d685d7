"""Where results go: a fresh array, one the caller gave, a dataset, or a file that appears when it is complete."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _core, _npy
from megalith._checks import same_shape
from megalith.arrays import datasets
from megalith.arrays.source import Source, is_path, is_same_file, mapped_file, view_of
from megalith.exceptions import ArgumentError, DTypeError, FormatError, LayoutError

if TYPE_CHECKING:
    from types import TracebackType

    from megalith._typing import AnyArray, Box, Order, SinkLike


class Target:
    """The sink of one operation, to be used in a ``with`` block.

    Inside of the block `array` can be written. Where the sink is a path, the file is a temporary one with its bytes
    reserved, and gets its name when the block ends well; after an error nothing is left of it.

    Parameters
    ----------
    sink : ndarray, Source, path, h5py.Dataset, zarr.Array or None
        What the caller gave; None for a fresh array.
    shape : tuple of int
        Shape of the result.
    dtype : numpy.dtype
        Type of the result; a sink with a type of its own keeps that.
    order : {'C', 'F'}
        Order of a result that is made anew.

    Raises
    ------
    ShapeError
        If the sink has another shape.
    LayoutError
        If it is read-only.
    FormatError
        If it is a path that does not end in ``.npy``.
    OSError
        If there is no room for the file, before anything is computed.
    """

    _is_fresh = True
    _array: AnyArray | None = None
    _dataset: Any = None
    _draft: _core.Draft | None = None
    _path: Path | None = None
    _result: Any = None

    def __init__(self, sink: SinkLike, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> None:
        if sink is None:
            self._array = self._result = _core.empty(shape, dtype, order)
            return
        self._is_fresh = is_path(sink)
        if self._is_fresh:
            self._open(Path(sink), shape, dtype, order)
            return
        self._dataset = given_dataset(sink)
        if self._dataset is not None:
            self._result = self._dataset
        else:
            self._array = self._result = given_array(sink)
        same_shape("sink", self._result.shape, shape)

    def _open(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> None:
        if path.suffix != ".npy":
            message = (
                f"sink: {path} does not end in '.npy'; results are written as .npy files, or to arrays and datasets"
            )
            raise FormatError(message, path=path, field="suffix", got=path.suffix)
        header = _npy.make_header(shape, dtype, order)
        nbytes = math.prod(shape) * dtype.itemsize
        self._path = path
        self._draft = _core.Draft(os.fspath(path), len(header) + nbytes)
        self._draft.write(0, header)
        if nbytes == 0:
            self._array = np.empty(shape, dtype, order=order)
        else:
            with os.fdopen(self._draft.duplicate(), "r+b", buffering=0) as file:
                self._array = np.memmap(file, dtype, "r+", len(header), shape, order)
        self._result = self._array

    @property
    def array(self) -> AnyArray:
        """What is written to."""
        if self._array is None:
            message = "a dataset is written in boxes"
            raise AssertionError(message)
        return self._array

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self._dataset.dtype if self._array is None else self._array.dtype

    @property
    def streams(self) -> bool:
        """Whether it is written in boxes only."""
        return self._dataset is not None

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of what a dataset writes at once: a chunk, or the shard that holds it."""
        return None if self._dataset is None else datasets.write_unit(self._dataset)

    def view(self, box: Box) -> AnyArray:
        """Return an array to write the box to; `store` brings it to where it belongs."""
        if self._array is not None:
            return view_of(self._array, box)
        return _core.empty(tuple(part.stop - part.start for part in box), self.dtype)

    def put(self, values: AnyArray) -> None:
        """Bring a whole result to where it belongs."""
        if self._array is None:
            self._dataset[...] = values.astype(self.dtype, copy=False)
        else:
            self._array[...] = values

    def store(self, box: Box, values: AnyArray) -> None:
        """Bring the values of a box to where they belong, if they are not there."""
        if self._array is None:
            self._dataset[box] = values.astype(self.dtype, copy=False)
        elif not np.may_share_memory(values, self._array):
            self._array[box] = values

    @property
    def is_fresh(self) -> bool:
        """Whether it was made for this operation, so that nothing else can show it."""
        return self._is_fresh

    def shows(self, source: Source) -> bool:
        """Whether it is the file or dataset of a source, but not the same memory."""
        if self.is_fresh:
            return False
        if self._array is None:
            return bool(source.is_dataset(self._dataset))
        if source.is_made_of_parts and source.shares_memory(self._array):
            return True  # The core would have to see all parts at once.
        mapped = mapped_file(self._array)
        if mapped is None:
            return False
        if source.shares_memory(self._array):
            return False  # One mapping: the core can tell.
        if source.streams:
            return source.is_in(mapped)
        other = mapped_file(source.array)
        return other is not None and is_same_file(mapped, other)

    @property
    def result(self) -> Any:
        """What the operation returns: the very sink, a memmap of the file, or the fresh array."""
        return self._result

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        draft, self._draft = self._draft, None
        if draft is None:
            return
        self._array = None
        if kind is not None:
            self._result = None
            draft.discard()
            return
        assert self._path is not None
        draft.publish(replace=True)
        if isinstance(self._result, np.memmap):
            # The mapping is of the file that has the name now; opening it by name could find another.
            self._result.filename = os.fspath(self._path.absolute())


def sink_dtype(sink: Any) -> np.dtype[Any]:
    """Return the dtype of a sink the caller gave, which is no path."""
    dataset = given_dataset(sink)
    dtype: np.dtype[Any] = given_array(sink).dtype if dataset is None else dataset.dtype
    return dtype


def given_dataset(sink: Any) -> Any:
    """Return the dataset of a sink the caller gave, None if it is no dataset.

    Raises
    ------
    LayoutError
        If it is read-only.
    """
    dataset = sink.dataset if isinstance(sink, Source) else sink
    if not datasets.is_dataset(dataset):
        return None
    if datasets.is_read_only(dataset):
        message = f"sink: dataset {dataset.name!r} is read-only; open it with mode 'r+'"
        raise LayoutError(message, name="sink", reason="read-only")
    return dataset


def given_array(sink: Any) -> AnyArray:
    """Return the array of a sink the caller gave.

    Raises
    ------
    LayoutError
        If it is read-only.
    DTypeError
        If it is no array, or one of Python objects.
    """
    if isinstance(sink, Source):
        sink = sink.array
    if not isinstance(sink, np.ndarray):
        try:
            sink = np.asarray(memoryview(sink))
        except TypeError:
            message = f"sink: got {type(sink).__name__}, expected an ndarray, a Source, a path or a dataset"
            raise DTypeError(message, name="sink", got=type(sink).__name__, supported="ndarray") from None
    if sink.dtype.hasobject:
        message = "sink: dtype object holds Python objects; supported are numbers, truth values, dates and records"
        raise DTypeError(message, name="sink", got="object", supported="types without Python objects")
    if not sink.flags.writeable:
        message = "sink: it is read-only; give an array that can be written"
        raise LayoutError(message, name="sink", reason="read-only")
    array: AnyArray = sink
    return array


def is_shared(memory: str | None, sink: Any) -> bool:
    """Check a `memory` argument, and say whether it asks for a fresh array in shared memory.

    Raises
    ------
    ArgumentError
        For anything but 'shared' and None, and for 'shared' together with a sink, which has its own memory.
    """
    if memory not in (None, "shared"):
        message = f"memory: got {memory!r}, expected 'shared' or None"
        raise ArgumentError(message, name="memory", got=memory, expected="'shared' or None")
    if memory is not None and sink is not None:
        message = "memory: 'shared' is for fresh arrays, and a sink was given; give one of the two"
        raise ArgumentError(message, name="memory", got=memory, expected="None with a sink")
    return memory is not None

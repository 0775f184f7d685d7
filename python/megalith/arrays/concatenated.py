"""`ConcatenatedArrays`: arrays that lie one after the other, seen as one."""

from __future__ import annotations

import bisect
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _core
from megalith.arrays.indexing import Index, as_slice, bounding
from megalith.arrays.source import Reader, Source, as_source, is_path
from megalith.exceptions import ArgumentError, DTypeError, LayoutError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from megalith._typing import AnyArray, Box, SourceLike, Tick
    from megalith.arrays.indexing import Positions, Taken

# From this size on, rows of a file are read by positioned reads of all cores and not by faults of a mapping.
READ_BYTES = 1 << 24

# Rows in any order are copied twice; this many bytes at a time.
COPIED_BYTES = 1 << 22

# Files a reader keeps open; recordings can have more parts than a process may have files.
OPEN_FILES = 64

# Bytes of rows that are read at a time when they are gone through one by one.
ITERATED_BYTES = 1 << 20


class ConcatenatedArrays(Source):
    """Arrays one after the other along the first axis, without a copy.

    What `numpy.concatenate` of the arrays would be, to be indexed as NumPy does, and a source of every function of
    `megalith.arrays`. Only what is asked for is read.

    Parameters
    ----------
    arrays : sequence of array-like
        One or more ndarrays, memory maps, paths of ``.npy`` files, Sources, datasets, or anything else `as_source`
        takes. All have the same shape but for the first axis.
    cols : slice, list or ndarray, optional
        Columns to keep, in this order: what the last axis is indexed by. For arrays of two axes or more.
    scaling : number, optional
        What all elements are multiplied by when they are read.

    Attributes
    ----------
    parts : tuple of Source
        The arrays.
    offsets : (n_arrays + 1,) ndarray of int64
        Rows of the whole at which the arrays begin, and the number of all rows.
    cols : ndarray or slice or None
        The columns, as positions from 0 or as a slice.
    scaling : number or None
        The factor.

    Raises
    ------
    ShapeError
        If arrays have no axis or differ beyond the first, or there are no columns to choose from.
    ArgumentError
        If there is no array, or `cols` names no list of columns.
    IndexRangeError
        If there are no such columns.
    DTypeError
        If the types have none in common, or cannot be multiplied.

    Notes
    -----
    The dtype is ``numpy.result_type`` of the arrays, as in `numpy.concatenate`; with `scaling` it is that of the
    product, also for a factor of 1. Indexing gives fresh arrays, never views. Pickled, files and shared mappings of
    files go by name and arrays in memory by value.

    References
    ----------
    .. [1] phylib ``ConcatenatedArrays``.

    Examples
    --------
    >>> import numpy as np
    >>> import megalith
    >>> recording = megalith.ConcatenatedArrays([np.array([[1, 2], [3, 4]]), np.array([[5, 6]])])
    >>> recording.shape
    (3, 2)
    >>> recording[::-2, 0]
    array([5, 1])
    >>> megalith.ConcatenatedArrays(recording.parts, cols=[1], scaling=0.5)[[2, 0]]
    array([[3.],
           [1.]])
    >>> megalith.block_sums(recording, blocks=2)
    array([ 6, 15])
    """

    def __init__(self, arrays: Sequence[SourceLike], cols: Any = None, scaling: Any = None) -> None:
        self.parts = _parts(arrays)
        shapes = [part.shape for part in self.parts]
        self.offsets: npt.NDArray[np.int64] = np.cumsum([0, *(shape[0] for shape in shapes)], dtype=np.int64)
        self._starts: list[int] = self.offsets.tolist()
        self.cols = _columns(cols, shapes[0])
        self.scaling = scaling
        self._joined = _joined_dtype(self.parts)
        shape = (int(self.offsets[-1]), *shapes[0][1:])
        if self.cols is not None:
            n_cols = len(range(shape[-1])[self.cols]) if isinstance(self.cols, slice) else len(self.cols)
            shape = (*shape[:-1], n_cols)
        is_turned = len(shape) > 1 and all(part.order == "F" for part in self.parts)
        super().__init__(shape, _scaled_dtype(self._joined, scaling), "F" if is_turned else "C")
        self.is_file = False

    @property
    def array(self) -> AnyArray:
        """All elements as an ndarray, read anew each time."""
        values: AnyArray = self[...]
        return values

    @property
    def streams(self) -> bool:
        """Whether kernels read it in windows: always."""
        return True

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of the chunks, if all arrays are datasets with the same."""
        found = {part.chunks for part in self.parts}
        return found.pop() if len(found) == 1 and self.cols is None else None

    def is_dataset(self, dataset: Any) -> bool:
        """Whether some elements are those of a dataset.

        Parameters
        ----------
        dataset : h5py.Dataset or zarr.Array
            The dataset.

        Returns
        -------
        is_dataset : bool
            True if one of the arrays is the dataset.
        """
        return any(part.is_dataset(dataset) for part in self.parts)

    @property
    def is_made_of_parts(self) -> bool:
        """Whether the elements are in several places: always."""
        return True

    def is_of(self, path: Path) -> bool:
        """Whether some elements are in a file, or in a mapping of it.

        Parameters
        ----------
        path : pathlib.Path
            The file, by any of its names.

        Returns
        -------
        is_of : bool
            True if one of the arrays is.
        """
        return any(part.is_of(path) for part in self.parts)

    def is_in(self, path: Path) -> bool:
        """Whether some elements are in a file; the same as `is_of`.

        Parameters
        ----------
        path : pathlib.Path
            The file, by any of its names.

        Returns
        -------
        is_in : bool
            True if one of the arrays is.
        """
        return self.is_of(path)

    def shares_memory(self, array: AnyArray) -> bool:
        """Whether some elements are an array's.

        Parameters
        ----------
        array : numpy.ndarray
            The array.

        Returns
        -------
        shares : bool
            Decided by the bounds of both, as by `numpy.may_share_memory`.
        """
        return any(part.shares_memory(array) for part in self.parts)

    def reader(self) -> Reader:
        """Open it for reading boxes.

        Returns
        -------
        reader : Reader
            Keeps files open.
        """
        return _Reader(self)

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, str) and self.dtype.names is not None:
            fields = np.concatenate([np.asarray(part[item]) for part in self.parts])
            return fields if self.cols is None else fields[..., self.cols]
        index = Index(item, self.shape)
        rows, rest, turn = index.axes[0], index.axes[1:], None
        if self.cols is not None:
            rest, turn = self._through_columns(rest)
        if index.common is None:
            values = self._take(rows, rest, turn)
        elif isinstance(rows, np.ndarray):
            values = self._take_rows(rows, rest, turn, index)
        else:
            values = self._take_beside_arrays(rows, rest, turn, index)
        return index.arrange(values)

    def __setitem__(self, key: Any, value: Any) -> None:
        message = "arrays: a concatenation is read-only; write to the arrays it is made of"
        raise LayoutError(message, name="arrays", reason="read-only")

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        if copy is False:
            message = "copy: a concatenation cannot be seen as one ndarray without a copy"
            raise ArgumentError(message, name="copy", got=False, expected="None or True")
        return self.array if dtype is None else self.array.astype(dtype, copy=False)

    def __iter__(self) -> Iterator[Any]:
        step = max(ITERATED_BYTES * max(self.shape[0], 1) // max(self.nbytes, 1), 1)
        for start in range(0, self.shape[0], step):
            yield from self[start : start + step]

    def __repr__(self) -> str:
        n = len(self.parts)
        arrays = "1 array" if n == 1 else f"{n} arrays"
        return f"ConcatenatedArrays({arrays}, shape={self.shape}, dtype={self.dtype.name})"

    def _through_columns(self, rest: list[Taken]) -> tuple[list[Taken], Positions | None]:
        """Say what of the last axis of the arrays is taken, and which of that in which order."""
        taken, cols = rest[-1], self.cols
        if isinstance(cols, slice):
            every = range(self.parts[0].shape[-1])[cols]
            if not isinstance(taken, np.ndarray):
                return [*rest[:-1], every[as_slice(taken) if isinstance(taken, range) else taken]], None
            return [*rest[:-1], np.asarray(every.start + taken * every.step)], None
        if isinstance(taken, int):
            return [*rest[:-1], int(cols[taken])], None
        if isinstance(taken, np.ndarray):
            return [*rest[:-1], np.asarray(cols[taken])], None
        stretch, turn = bounding(cols[as_slice(taken)])
        return [*rest[:-1], range(stretch.start, stretch.stop)], turn

    def _take(self, rows: Taken, rest: list[Taken], turn: Positions | None) -> AnyArray:
        """Take a slice of rows or one row, and slices and entries of other axes."""
        out = _core.empty(_lengths([rows, *rest], turn), self.dtype)
        for part, local, place in self._pieces(rows):
            self._put(out, place, _values(part, local, rest, turn))
        return out

    def _take_beside_arrays(self, rows: Taken, rest: list[Taken], turn: Positions | None, index: Index) -> AnyArray:
        """Take a slice of rows, with arrays along other axes: the axes of these come first."""
        assert index.common is not None
        common = index.common
        arrays = [i for i, taken in enumerate(rest) if isinstance(taken, np.ndarray)]
        if not arrays:  # A truth value alone: one axis of length 1 or 0.
            return np.repeat(self._take(rows, rest, turn)[None], common[0], axis=0)
        first = arrays[0]
        rest = [*rest[:first], np.broadcast_to(rest[first], common), *rest[first + 1 :]]
        is_together = arrays[-1] - first == len(arrays) - 1
        place_of_common = 1 + first - sum(isinstance(taken, int) for taken in rest[:first]) if is_together else 0
        out = _core.empty(common + _lengths([rows, *rest], turn), self.dtype)
        n = len(common)
        for part, local, place in self._pieces(rows):
            values = _values(part, local, rest, turn)
            values = np.moveaxis(values, range(place_of_common, place_of_common + n), range(n))
            self._put(out, (slice(None),) * n + (place,), values)
        return out

    def _take_rows(self, rows: Positions, rest: list[Taken], turn: Positions | None, index: Index) -> AnyArray:
        """Take rows in any order, and what stands beside them along other axes."""
        assert index.common is not None
        common = index.common
        if index.has_flags:
            rows = np.broadcast_to(rows, common)
        arrays = {i: taken for i, taken in enumerate(rest) if isinstance(taken, np.ndarray)}
        shapes = {i: (1,) * (len(common) - taken.ndim) + taken.shape for i, taken in arrays.items()}
        rows = rows.reshape((1,) * (len(common) - rows.ndim) + rows.shape)
        # As with `numpy.ix_`, where rows vary along axes of their own: each row with all of the rest. Otherwise row by
        # row with what belongs to it.
        of_rows = [axis for axis, n in enumerate(rows.shape) if n != 1]
        if any(shape[axis] != 1 for shape in shapes.values() for axis in of_rows):
            of_rows = list(range(len(common)))
            rows = np.broadcast_to(rows, common)
            arrays = {i: np.broadcast_to(taken, common).reshape(-1) for i, taken in arrays.items()}
            is_joint = True
        else:
            arrays = {
                i: arrays[i].reshape([n for axis, n in enumerate(shape) if axis not in of_rows])
                for i, shape in shapes.items()
            }
            is_joint = False
        others = [axis for axis in range(len(common)) if axis not in of_rows]
        flat = rows.reshape(-1)
        lead = (flat.size, *(common[axis] for axis in others))
        slices = _lengths(rest, turn)
        out = _core.empty(lead + slices, self.dtype)
        most = max(COPIED_BYTES * flat.size // max(out.nbytes, 1), 1)
        for part, local, place in _short(self._pieces(flat), most):
            if not arrays:  # Axes the rows do not vary along have length 1 here.
                values = _values(part, local, rest, turn)
                self._put(out, place, values.reshape(values.shape[:1] + lead[1:] + slices))
                continue
            beside = [
                arrays[i][place] if is_joint and i in arrays else arrays.get(i, taken) for i, taken in enumerate(rest)
            ]
            self._put(out, place, _values(part, local.reshape((-1,) + (1,) * len(others)), beside, turn))
        back = out.reshape([common[axis] for axis in of_rows + others] + list(slices))
        order = np.argsort([*of_rows, *others], kind="stable")
        return back.transpose([*order, *range(len(common), back.ndim)])

    def _pieces(self, rows: Taken) -> Iterator[tuple[Source, Any, Any]]:
        """Cut rows at the ends of the arrays: of each array its rows, and where in the result they go."""
        offsets = self.offsets
        if isinstance(rows, int):
            i = bisect.bisect_right(self._starts, rows) - 1
            yield self.parts[i], rows - self._starts[i], ...
        elif isinstance(rows, range):
            if rows:
                yield from self._pieces_of_range(rows)
        elif rows.size:
            found = np.searchsorted(offsets, rows, side="right") - 1
            if found[0] == found[-1] and (len(self.parts) == 1 or (found == found[0]).all()):
                yield self.parts[found[0]], rows - offsets[found[0]], slice(0, rows.size)
                return
            is_sorted = bool((found[1:] >= found[:-1]).all())
            order = None if is_sorted else np.argsort(found, kind="stable")
            cuts = np.flatnonzero(np.diff(found if order is None else found[order])) + 1
            for low, high in itertools.pairwise([0, *cuts.tolist(), rows.size]):
                place = slice(low, high) if order is None else order[low:high]
                i = found[low] if order is None else found[order[low]]
                yield self.parts[i], rows[place] - offsets[i], place

    def _pieces_of_range(self, rows: range) -> Iterator[tuple[Source, slice, slice]]:
        step = rows.step
        low, high = min(rows[0], rows[-1]), max(rows[0], rows[-1])
        first, last = bisect.bisect_right(self._starts, low) - 1, bisect.bisect_right(self._starts, high)
        for i in range(first, last):
            start, stop = self._starts[i], self._starts[i + 1]
            if step > 0:
                begin, end = -((rows.start - start) // step), -((rows.start - stop) // step)
            else:
                begin, end = (rows.start - stop) // -step + 1, (rows.start - start) // -step + 1
            begin, end = max(begin, 0), min(end, len(rows))
            if begin < end:
                part = rows[begin:end]
                local = range(part.start - start, part.stop - start, step)
                yield self.parts[i], as_slice(local), slice(begin, end)

    def _put(self, out: AnyArray, place: Any, values: AnyArray) -> None:
        """Bring values of an array to their place in a result."""
        if self.scaling is None:
            out[place] = values
        elif isinstance(place, np.ndarray):
            out[place] = self._scaled(values)
        else:
            self._scaled(values, out[place])

    def _scaled(self, values: AnyArray, out: AnyArray | None = None) -> AnyArray:
        scaled: AnyArray = np.multiply(values.astype(self._joined, copy=False), self.scaling, out=out)
        return scaled


class _Reader(Reader):
    """Reads boxes of a concatenation: views where a box lies in one array in memory, else fresh arrays."""

    def __init__(self, source: ConcatenatedArrays) -> None:
        self._source = source
        self._whole = source
        self._readers: dict[int, Reader] = {}

    def read(
        self, box: Box, out: AnyArray | None = None, *, processes: int | None = None, tick: Tick = None
    ) -> AnyArray:
        whole = self._whole
        is_plain = whole.cols is None and whole.scaling is None
        rows = range(box[0].start, box[0].stop)
        pieces = list(whole._pieces(rows))
        if is_plain and out is None and len(pieces) == 1 and pieces[0][0].dtype == whole.dtype:
            part, local, _ = pieces[0]
            return self._reader(part).read((local, *box[1:]), processes=processes, tick=tick)
        if out is None:
            out = _core.empty([part.stop - part.start for part in box], whole.dtype, whole.order or "C")
        rest, turn = list(box[1:]), None
        if whole.cols is not None:
            taken, turn = whole._through_columns([range(part.start, part.stop) for part in box[1:]])
            stretch, inner = bounding(taken[-1])
            rest[-1] = stretch
            turn = np.arange(stretch.stop - stretch.start)[inner] if turn is None else turn
        for part, local, place in pieces:
            reader, wanted = self._reader(part), (local, *rest)
            if is_plain:
                reader.read(wanted, out[place], processes=processes)
            else:
                values = reader.read(wanted, processes=processes)
                whole._put(out, place, values if turn is None else values[..., turn])
            if tick is not None:
                tick(place.stop / len(rows))
        return out

    def _reader(self, part: Source) -> Reader:
        found = self._readers.pop(id(part), None)
        if found is None:
            found = part.reader()
            while len(self._readers) >= OPEN_FILES:
                del self._readers[next(iter(self._readers))]
        self._readers[id(part)] = found
        return found


def _parts(arrays: Sequence[SourceLike]) -> tuple[Source, ...]:
    if isinstance(arrays, np.ndarray | Source) or is_path(arrays):
        message = f"arrays: got one {type(arrays).__name__}, expected a list of arrays"
        raise ArgumentError(message, name="arrays", got=type(arrays).__name__, expected="a list of arrays")
    parts: list[Source] = []
    for array in arrays:
        part = as_source(array)
        is_plain = isinstance(part, ConcatenatedArrays) and part.cols is None and part.scaling is None
        parts += part.parts if is_plain and isinstance(part, ConcatenatedArrays) else (part,)
    if not parts:
        message = "arrays: got no array, expected one or more"
        raise ArgumentError(message, name="arrays", got=0, expected="one array or more")
    for i, part in enumerate(parts):
        if not part.shape:
            message = f"arrays: array {i} has no axes, expected one or more"
            raise ShapeError(message, name="arrays", got=(), expected="one axis or more")
        if part.shape[1:] != parts[0].shape[1:] or part.ndim != parts[0].ndim:
            expected = ("any", *parts[0].shape[1:])
            message = (
                f"arrays: array {i} has shape {part.shape}, the first one {parts[0].shape}; "
                "all lengths but the first must be the same"
            )
            raise ShapeError(message, name="arrays", got=part.shape, expected=expected)
    return tuple(parts)


def _joined_dtype(parts: tuple[Source, ...]) -> np.dtype[Any]:
    dtypes = dict.fromkeys(part.dtype for part in parts)
    try:
        return np.result_type(*dtypes)
    except TypeError as error:
        listed = ", ".join(map(str, dtypes))
        message = f"arrays: no type holds the elements of all of {listed}; convert some of the arrays"
        raise DTypeError(message, name="arrays", got=listed, supported="types numpy.concatenate joins") from error


def _scaled_dtype(dtype: np.dtype[Any], scaling: Any) -> np.dtype[Any]:
    if scaling is None:
        return dtype
    if np.ndim(scaling) != 0 or isinstance(scaling, str | bytes):
        message = f"scaling: got {scaling!r}, expected one number"
        raise ArgumentError(message, name="scaling", got=scaling, expected="a number")
    try:
        product: AnyArray = np.multiply(np.empty(0, dtype), scaling)
    except (TypeError, OverflowError) as error:
        message = f"scaling: {scaling!r} does not multiply elements of {dtype}: {error}"
        raise DTypeError(
            message, name="scaling", got=str(dtype), supported="numbers in the range of the type"
        ) from error
    return product.dtype


def _columns(cols: Any, shape: tuple[int, ...]) -> Any:
    """Return columns as a slice, or as positions from 0."""
    if cols is None:
        return None
    if len(shape) < 2:
        message = "cols: arrays with one axis have no columns"
        raise ShapeError(message, name="cols", got=shape, expected="two axes or more")
    taken = Index(cols, shape[-1:]).axes[0] if not isinstance(cols, tuple) else None
    if isinstance(taken, range):
        return as_slice(taken)
    if not isinstance(taken, np.ndarray) or taken.ndim != 1:
        message = f"cols: got {cols!r}, expected a slice or a list of columns"
        raise ArgumentError(message, name="cols", got=cols, expected="a slice, list or one-dimensional array")
    return taken


def _short(pieces: Iterator[tuple[Source, Any, Any]], most: int) -> Iterator[tuple[Source, Any, Any]]:
    """Cut pieces with many rows in any order, of which copies are made on the way."""
    for part, local, place in pieces:
        for start in range(0, local.size, most):
            stop = min(start + most, local.size)
            short = slice(place.start + start, place.start + stop) if isinstance(place, slice) else place[start:stop]
            yield part, local[start:stop], short


def _lengths(taken: list[Taken], turn: Positions | None) -> tuple[int, ...]:
    """Return the lengths of the axes that slices leave."""
    lengths = [len(entry) for entry in taken if isinstance(entry, range)]
    if turn is not None:
        lengths[-1] = len(turn)
    return tuple(lengths)


def _values(part: Source, local: Any, rest: list[Taken], turn: Positions | None) -> AnyArray:
    """Read from one array."""
    key = (local, *(as_slice(taken) if isinstance(taken, range) else taken for taken in rest))
    if part.dataset is not None:
        values = _from_dataset(part, local, rest)
    elif isinstance(part, ConcatenatedArrays):
        values = np.asarray(part[key])
    elif part.is_file and _is_large_box(part, local, rest):
        values = part.reader().read(key)
    else:
        array = np.asarray(part.array)
        is_rows = isinstance(local, np.ndarray) and local.ndim == 1
        is_rows = is_rows and all(
            isinstance(t, range) and t == range(n) for t, n in zip(rest, array.shape[1:], strict=True)
        )
        values = np.take(array, local, axis=0) if is_rows else np.asarray(array[key])
    return values if turn is None else values[..., turn]


def _is_large_box(part: Source, local: Any, rest: list[Taken]) -> bool:
    if not isinstance(local, slice) or local.step != 1:
        return False
    if not all(isinstance(taken, range) and taken.step == 1 for taken in rest):
        return False
    n_rows: int = local.stop - local.start
    return n_rows * math.prod(_lengths(rest, None)) * part.dtype.itemsize >= READ_BYTES


def _from_dataset(part: Source, local: Any, rest: list[Taken]) -> AnyArray:
    """Read from a dataset, which knows boxes and little more: those that hold what is wanted."""
    bounds = [bounding(taken) for taken in rest]
    box, inner = tuple(stretch for stretch, _ in bounds), tuple(entry for _, entry in bounds)
    values: AnyArray
    if not isinstance(local, np.ndarray):
        taken = local if isinstance(local, int) else range(part.shape[0])[local]
        if isinstance(taken, range) and taken.step > 1:  # The rows between are left out by the dataset itself.
            stretch, rows = local, slice(None)
        else:
            stretch, rows = bounding(taken)
        values = np.asarray(part.dataset[(stretch, *box)])[(rows, *inner)]
        return values
    # Rows near each other are read together, those in between too.
    unique, where = np.unique(local, return_inverse=True)
    gap = part.chunks[0] if part.chunks else 1
    held = np.empty((unique.size, *(stretch.stop - stretch.start for stretch in box)), part.dtype)
    cuts = np.flatnonzero(np.diff(unique) > gap) + 1
    for low, high in itertools.pairwise([0, *cuts.tolist(), unique.size]):
        if low < high:
            first = int(unique[low])
            near = np.asarray(part.dataset[(slice(first, int(unique[high - 1]) + 1), *box)])
            held[low:high] = near[unique[low:high] - first]
    values = held[(where.reshape(local.shape), *inner)]
    return values

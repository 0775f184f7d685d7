"""`Source`: an array wherever it lives, described without reading it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _checks, _core, _npy
from megalith._optional import is_instance
from megalith._shared_memory import segment_of
from megalith.arrays import datasets
from megalith.exceptions import ArgumentError, DTypeError, FormatError, LayoutError, ShapeError, TruncatedFileError

if TYPE_CHECKING:
    import numpy.typing as npt

    from megalith._typing import AnyArray, Box, Order, SourceLike, Tick

# A mapped file larger than this is read by positioned reads instead, window by window: pages of a mapping count as
# resident memory, and a kernel promises to stay under 1 GB of it.
MAPPED_BYTES = 1 << 29


class Source:
    """An array in memory, in a file, or in a dataset of HDF5 or zarr.

    Made by `as_source`, `read`, `write` and the ``initialize_*`` functions. A file is not mapped and a dataset not read
    until something asks for elements.

    Parameters
    ----------
    shape : tuple of int
        Lengths of the axes.
    dtype : numpy.dtype
        Type of the elements.
    order : {'C', 'F'} or None
        Order of the elements in memory or file; None if they have gaps.
    array : numpy.ndarray, optional
        The elements, if they are in memory or mapped.
    dataset : h5py.Dataset or zarr.Array, optional
        The elements, if they are read in boxes.
    location : pathlib.Path, optional
        The file.
    offset : int, optional
        Bytes from the start of the file to the first element.
    memory : {'shared'} or None
        What kind of memory the elements are in.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith.arrays import as_source
    >>> source = as_source(np.zeros((2, 3), dtype=np.uint8))
    >>> source.shape, source.dtype, source.order, source.element_strides
    ((2, 3), dtype('uint8'), 'C', (3, 1))
    """

    # What most sources are not and do not have.
    is_file = False
    location: Path | None = None
    offset = 0
    memory: str | None = None
    _array: AnyArray | None = None
    _dataset: Any = None

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        order: Order | None,
        array: AnyArray | None = None,
        *,
        dataset: Any = None,
        location: Path | None = None,
        offset: int = 0,
        memory: str | None = None,
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.order = order
        if array is not None:
            self._array = array
        elif dataset is not None:
            self._dataset = dataset
        else:
            self.is_file = True
        if location is not None:
            self.location, self.offset = location, offset
        if memory is not None:
            self.memory = memory

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape) if self._array is None else self._array.size

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize if self._array is None else self._array.nbytes

    @property
    def element_strides(self) -> tuple[int, ...]:
        """Elements between neighbours along each axis.

        Raises
        ------
        LayoutError
            If the strides are no multiple of the item size (a field of a packed record).
        """
        if self._array is not None:
            strides, itemsize = self._array.strides, max(self.dtype.itemsize, 1)
            if any(stride % itemsize for stride in strides):
                message = f"source: byte strides {strides} are no multiple of the item size {itemsize}"
                raise LayoutError(message, name="source", reason="strides")
            return tuple(stride // itemsize for stride in strides)
        shape = self.shape if self.order != "F" else self.shape[::-1]
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        return strides if self.order != "F" else strides[::-1]

    @property
    def array(self) -> AnyArray:
        """The elements as an ndarray: itself, a memory map of the file, or the dataset read into memory (each time)."""
        if self._dataset is not None:
            return np.asarray(self._dataset[()])
        if self._array is None:
            self._array = self._map()
        return self._array

    @property
    def dataset(self) -> Any:
        """The dataset the elements are in, or None."""
        return self._dataset

    @property
    def lazy(self) -> Any:
        """The dask array that computes the elements, or None."""
        return self._dataset.array if is_instance(self._dataset, "megalith.arrays.lazy", "Chunks") else None

    def _map(self) -> AnyArray:
        if self.size == 0:
            return np.empty(self.shape, self.dtype, order=self.order or "C")
        return np.memmap(self._file, self.dtype, "r", self.offset, self.shape, self.order or "C")

    def as_buffer(self) -> AnyArray:
        """Return the elements as an ndarray; the name ClearMap's code uses for `array`.

        Returns
        -------
        buffer : numpy.ndarray
            As `array`.
        """
        return self.array

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        return np.array(self.array, dtype=dtype, copy=copy)

    def __getitem__(self, key: Any) -> Any:
        return self.array[key] if self._dataset is None else self._dataset[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._dataset is not None:
            self._dataset[key] = value
        else:
            self.array[key] = value

    def __getstate__(self) -> dict[str, Any]:
        """Pickle files and shared mappings of files by name, other arrays by value."""
        state = self.__dict__.copy()
        if self.is_file:
            state["_array"] = None
        elif isinstance(self._array, np.memmap) and self.order is not None:
            found = certain_file(self._array)
            if found is not None:
                state.update(_array=None, is_file=True, location=found[0], offset=found[1])
        return state

    def __len__(self) -> int:
        if not self.shape:
            message = "len() of a source without axes"
            raise TypeError(message)
        return self.shape[0]

    def __repr__(self) -> str:
        where = f", location={str(self.location)!r}" if self.location is not None else ""
        return f"Source(shape={self.shape}, dtype={self.dtype.name}, order={self.order!r}{where})"

    @property
    def _file(self) -> Path:
        if self.location is None:
            message = "source: it is not in a file"
            raise ArgumentError(message, name="source", got=repr(self), expected="a source with a location")
        return self.location

    @property
    def streams(self) -> bool:
        """Whether kernels read it in windows: files, datasets, and mappings of large files."""
        if self.is_file or self._dataset is not None:
            return True
        if self.location is None or self.order is None or self.memory is not None:
            return False
        return self.nbytes > MAPPED_BYTES

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of the chunks of a dataset; reads of whole chunks are the fast ones."""
        return None if self._dataset is None else self._dataset.chunks

    def is_dataset(self, dataset: Any) -> bool:
        """Whether the elements are those of a dataset.

        Parameters
        ----------
        dataset : h5py.Dataset or zarr.Array
            The dataset.

        Returns
        -------
        is_dataset : bool
            False for elements in memory or in a file of another kind.
        """
        return self._dataset is not None and datasets.is_same(self._dataset, dataset)

    @property
    def is_made_of_parts(self) -> bool:
        """Whether the elements are in several places."""
        return False

    def is_of(self, path: Path) -> bool:
        """Whether the elements are in a file, or in a mapping of it.

        Parameters
        ----------
        path : pathlib.Path
            The file, by any of its names.

        Returns
        -------
        is_of : bool
            False for elements in other memory, and for datasets.
        """
        if self.is_file or self._dataset is not None:
            return self.is_file and self.is_in(path)
        name = mapped_file(self.array)
        return name is not None and is_same_file(name, path)

    def is_in(self, path: Path) -> bool:
        """Whether the elements are in a file.

        Parameters
        ----------
        path : pathlib.Path
            The file, by any of its names.

        Returns
        -------
        is_in : bool
            False for elements in memory.
        """
        return self.location is not None and is_same_file(self.location, path)

    def shares_memory(self, array: AnyArray) -> bool:
        """Whether the elements are in memory, some of it an array's.

        Parameters
        ----------
        array : numpy.ndarray
            The array.

        Returns
        -------
        shares : bool
            Decided by the bounds of both, as by `numpy.may_share_memory`.
        """
        return not self.is_file and self._dataset is None and np.may_share_memory(self.array, array)

    def reader(self) -> Reader:
        """Open the source for reading boxes.

        Returns
        -------
        reader : Reader
            Keeps a file open.
        """
        return Reader(self)


class Reader:
    """Reads boxes of a source: views of memory, positioned reads of a file, selections of a dataset.

    A file is opened once, so that all boxes come from the same file even if its name is given to another meanwhile.

    Parameters
    ----------
    source : Source
        What is read.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._file = None
        if source.streams and source._dataset is None:
            self._file = _core.File(os.fspath(source._file))

    def read(
        self, box: Box, out: AnyArray | None = None, *, processes: int | None = None, tick: Tick = None
    ) -> AnyArray:
        """Return the elements of a box, in `out` if one is given.

        Parameters
        ----------
        box : tuple of slice
            One slice of step 1 for each axis, inside of the source.
        out : numpy.ndarray, optional
            Where to put them; any layout.
        processes : int, optional
            Upper bound on threads.
        tick : callable, optional
            Called with the share done.

        Returns
        -------
        values : numpy.ndarray
            A view where the source is in memory and no `out` was given.
        """
        source = self._source
        if self._file is None and source._dataset is None:
            values = view_of(source.array, box)
            if out is None:
                return values
            out[...] = values
            return out
        shape = tuple(part.stop - part.start for part in box)
        if source._dataset is not None:
            values = source._dataset[box]
            if out is None:
                return np.asarray(values)
            out[...] = values
            return out
        return self._read_file(box, shape, out, processes, tick)

    def _read_file(
        self, box: Box, shape: tuple[int, ...], out: AnyArray | None, processes: int | None, tick: Tick
    ) -> AnyArray:
        source, file = self._source, self._file
        assert file is not None
        # A file in F order is one in C order with its axes reversed.
        is_reversed = source.order == "F"
        step = -1 if is_reversed else 1
        usable = out is not None and out.dtype == source.dtype
        if usable and out is not None:
            usable = out.flags.f_contiguous if is_reversed else out.flags.c_contiguous
        values = out if usable and out is not None else _core.empty(shape, source.dtype, source.order or "C")
        file.read_box(
            source.offset,
            source.shape[::step],
            [(part.start, part.stop) for part in box[::step]],
            values.T if is_reversed else values,
            processes,
            tick,
        )
        if out is None or values is out:
            return values
        out[...] = values
        return out


def as_source(
    source: SourceLike,
    *,
    dtype: npt.DTypeLike | None = None,
    shape: tuple[int, ...] | None = None,
    offset: int = 0,
    order: Order = "C",
) -> Source:
    """Describe an array wherever it lives.

    Parameters
    ----------
    source : array-like
        An ndarray, a memmap, the path of a ``.npy`` file or of the directory of a zarr array, a `Source` (or
        `ConcatenatedArrays`), an ``h5py.Dataset``, a ``zarr.Array``, a ``dask.array.Array``, or anything with a buffer
        or an ``__array__`` method. With `dtype` the path of a raw file.
    dtype : dtype-like, optional
        Of a raw file.
    shape : tuple of int, optional
        Of a raw file; None is one axis up to the end of the file.
    offset : int
        Bytes of a raw file before the first element.
    order : {'C', 'F'}
        Of a raw file.

    Returns
    -------
    source : Source
        Nothing is copied or read.

    Raises
    ------
    FileNotFoundError, PermissionError
        If the file cannot be opened.
    FormatError
        If it is neither a ``.npy`` file nor a zarr array, and no `dtype` was given.
    TruncatedFileError
        If it is shorter than it says.
    DTypeError
        If the elements are Python objects.
    MissingExtraError
        If it is a zarr array and zarr is not installed.

    Examples
    --------
    >>> from megalith.arrays import as_source
    >>> as_source([1, 2, 3]).shape
    (3,)
    """
    described_by_caller = dtype is not None or shape is not None or offset != 0 or order != "C"
    if described_by_caller and (not is_path(source) or Path(source).suffix == ".npy"):
        message = "source: dtype, shape, offset and order describe raw files; arrays and .npy files describe themselves"
        raise ArgumentError(message, name="source", got=type(source).__name__, expected="the path of a raw file")
    if described_by_caller and dtype is None:
        message = "source: shape, offset and order describe a raw file only together with its dtype"
        raise ArgumentError(message, name="dtype", got=None, expected="the dtype of the raw file")
    if isinstance(source, Source):
        return source
    if isinstance(source, str | os.PathLike):
        path = Path(source).absolute()
        if dtype is not None:
            described = _raw_file(path, np.dtype(dtype), shape, offset, order)
        elif datasets.is_zarr(path):
            described = _dataset(datasets.open_zarr(path))
        else:
            described = _npy_file(path)
    elif isinstance(source, np.ndarray) and type(source) is not np.memmap:
        described = _memory(source)
    elif isinstance(source, np.memmap):
        described = _mapping(source)
    elif datasets.is_dataset(source):
        described = _dataset(source)
    elif is_lazy(source):
        from megalith.arrays.lazy import Chunks

        described = Source(tuple(source.shape), source.dtype, "C", dataset=Chunks(source))
    else:
        described = _memory(np.asarray(source))
    return _checked(described)


def source_of(source: SourceLike) -> Source:
    """Describe an array as `as_source`, one that owns its memory without what costs as much as a small sum."""
    if type(source) is not np.ndarray or source.base is not None or source.dtype.hasobject:
        return as_source(source)
    described = Source.__new__(Source)
    described._array, described.shape, described.dtype = source, source.shape, source.dtype
    described.order = _order(source)
    return described


def array_of(source: SourceLike) -> AnyArray:
    """Return the elements of an array wherever it lives, as an ndarray.

    Raises
    ------
    DTypeError
        As `as_source`.
    """
    if type(source) is np.ndarray and not source.dtype.hasobject:
        return source
    return as_source(source).array


def _checked(described: Source) -> Source:
    if described.dtype.hasobject:
        message = "source: dtype object holds Python objects; supported are numbers, truth values, dates and records"
        raise DTypeError(message, name="source", got="object", supported="types without Python objects")
    return described


def _dataset(dataset: Any) -> Source:
    if dataset.shape is None:
        message = f"source: dataset {dataset.name!r} is empty and has no shape"
        raise ShapeError(message, name="source", got=None, expected="a dataset with a shape")
    return Source(tuple(dataset.shape), dataset.dtype, "C", dataset=dataset)


def _memory(array: AnyArray) -> Source:
    if type(array) is not np.ndarray and isinstance(array, np.ma.MaskedArray):
        message = "source: a masked array, whose mask would be lost; give array.filled(value) or array.data"
        raise DTypeError(message, name="source", got="MaskedArray", supported="ndarray")
    described = Source(array.shape, array.dtype, _order(array), array)
    segment = segment_of(array) if array.base is not None else None
    if segment is not None:
        described.memory = "shared"
        if segment.path is not None:
            described.location = Path(segment.path)
            described.offset = array.__array_interface__["data"][0] - segment.address
    return described


def _order(array: AnyArray) -> Order | None:
    flags = array.flags
    if flags.c_contiguous:
        return "C"
    return "F" if flags.f_contiguous else None


def _mapping(array: AnyArray) -> Source:
    """Describe a memmap, with its file if that is certain to be the one mapped."""
    described = _memory(array)
    if array.nbytes > MAPPED_BYTES and described.order is not None:
        found = certain_file(array)
        if found is not None:
            described.location, described.offset = found
    elif getattr(array, "filename", None) is not None and array.base is getattr(array, "_mmap", None):
        described.location, described.offset = Path(array.filename), array.offset  # type: ignore[attr-defined]
    return described


def certain_file(array: AnyArray) -> tuple[Path, int] | None:
    """Return the file a mapping shows and where in it the array begins, or None where that is not certain.

    Asked of the kernel: the name a memmap remembers may belong to another file by now, and a copy-on-write mapping may
    differ from its file.
    """
    name = getattr(array, "filename", None)
    if name is None or getattr(array, "mode", "c") == "c":
        return None
    address = array.__array_interface__["data"][0]
    try:
        stat = Path(name).stat()
        with Path("/proc/self/maps").open() as maps:
            for line in maps:
                span, access, start, device, inode = line.split(maxsplit=5)[:5]
                low, high = (int(bound, 16) for bound in span.split("-"))
                if low <= address < high:
                    major, minor = (int(part, 16) for part in device.split(":"))
                    is_same = (os.makedev(major, minor), int(inode)) == (stat.st_dev, stat.st_ino)
                    is_whole = address + array.nbytes <= high
                    if not (is_same and is_whole and access[3] == "s"):
                        return None
                    return Path(name), int(start, 16) + address - low
    except OSError:
        return None
    return None


def _npy_file(path: Path) -> Source:
    header = _npy.read_header(path)
    return Source(header.shape, header.dtype, header.order, location=path, offset=header.offset)


def _raw_file(path: Path, dtype: np.dtype[Any], shape: Any, offset: int, order: Order) -> Source:
    available = path.stat().st_size - _checks.integer("offset", offset)
    if order not in ("C", "F"):
        raise ArgumentError(
            f"order: got {order!r}, expected 'C' or 'F'", name="order", got=order, expected="'C' or 'F'"
        )
    if dtype.itemsize == 0:
        raise DTypeError(f"dtype: {dtype} has no size", name="dtype", got=str(dtype), supported="types with a size")
    if offset < 0 or available < 0:
        message = f"{path}: offset {offset} is outside of the file of {available + offset} bytes"
        raise FormatError(message, path=path, field="offset", got=offset)
    if shape is None:
        if available % dtype.itemsize:
            message = f"{path}: {available} bytes from offset {offset} are not a whole number of {dtype.name}"
            raise FormatError(message, path=path, field="size", got=available)
        shape = (available // dtype.itemsize,)
    shape = _checks.lengths("shape", shape if isinstance(shape, tuple | list) else (shape,))
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > available:
        message = f"{path}: {shape} of {dtype.name} are {wanted} bytes, the file has {available} from offset {offset}"
        raise TruncatedFileError(message, path=path, offset=offset, wanted=wanted, done=available, field="size")
    return Source(shape, dtype, order, location=path, offset=offset)


def view_of(array: AnyArray, box: Box) -> AnyArray:
    """Return the view of a box; of an array without axes an array, not its element."""
    key: Any = (*box, ...)
    view: AnyArray = array[key]
    return view


def mapped_file(array: Any) -> Path | None:
    """Return the file whose mapping an array is a view of, if there is one."""
    while isinstance(array, np.ndarray):
        name = getattr(array, "filename", None)
        if name is not None:
            return Path(name)
        array = array.base
    return None


def is_same_file(a: Path, b: Path) -> bool:
    """Whether two names are of one file; what is gone is no file."""
    try:
        return a.samefile(b)
    except OSError:
        return False


def is_path(value: Any) -> bool:
    """Whether a value names a file."""
    return isinstance(value, str | os.PathLike)


def is_lazy(value: Any) -> bool:
    """Whether a value is a dask array."""
    return type(value) is not np.ndarray and is_instance(value, "dask.array", "Array")


def whole(shape: tuple[int, ...]) -> Box:
    """Return the box of everything."""
    return tuple(slice(0, n) for n in shape)

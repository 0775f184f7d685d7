"""HDF5 files that are written in two parts: all that describes the data by HDF5, in memory, then the data themselves.

HDF5 lays a file out as if it wrote it, with the dataset contiguous and allocated early, and what it would have written
is kept. So where the data lie is known beforehand, they are written by positioned writes of any number of processes,
and a file gets its name when it is whole: no state of it that HDF5 could not open is ever seen.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from megalith import _core, _durable, _npy
from megalith.exceptions import ArgumentError, DTypeError, FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from megalith._typing import AnyArray, PathLike

# Data begin at a multiple of it.
PAGE = 4096


class Image(NamedTuple):
    """A file without its data: pieces by their place, where the data begin (None if there are none), and its size."""

    pieces: list[tuple[int, bytes]]
    offset: int | None
    nbytes: int

    def write(self, draft: _core.Draft) -> None:
        """Write what is not data."""
        for place, piece in self.pieces:
            draft.write(place, piece)


class _File(io.RawIOBase):
    """What HDF5 needs of a file, but for the bytes."""

    def __init__(self) -> None:
        self.position = 0
        self.nbytes = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.position = offset + (0, self.position, self.nbytes)[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def truncate(self, size: int | None = None) -> int:
        self.nbytes = self.position if size is None else size
        return self.nbytes


class _Pages(_File):
    """A file in memory of which only those pages exist that are written to."""

    def __init__(self) -> None:
        super().__init__()
        self._pages: dict[int, bytearray] = {}

    def write(self, data: Any) -> int:
        view, done = memoryview(data).cast("B"), 0
        while done < len(view):
            page, start = divmod(self.position + done, PAGE)
            n = min(PAGE - start, len(view) - done)
            self._pages.setdefault(page, bytearray(PAGE))[start : start + n] = view[done : done + n]
            done += n
        self.position += done
        self.nbytes = max(self.nbytes, self.position)
        return done

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), max(self.nbytes - self.position, 0))
        done = 0
        while done < wanted:
            page, start = divmod(self.position + done, PAGE)
            n = min(PAGE - start, wanted - done)
            view[done : done + n] = self._pages.get(page, bytes(PAGE))[start : start + n]
            done += n
        self.position += done
        return done

    def pieces(self) -> list[tuple[int, bytes]]:
        """Return what was written, pages next to each other as one piece."""
        found: list[tuple[int, list[bytearray]]] = []
        for page in sorted(self._pages):
            if not found or found[-1][0] + len(found[-1][1]) != page:
                found.append((page, []))
            found[-1][1].append(self._pages[page])
        return [(page * PAGE, b"".join(parts)[: self.nbytes - page * PAGE]) for page, parts in found]


class _Reserved(_File):
    """A file that has its room already, whatever its size.

    HDF5 does not survive an error of a file that is a Python object. So the first one is kept for later, and what could
    not be written is lost.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._descriptor = descriptor

    def write(self, data: Any) -> int:
        view, done = memoryview(data).cast("B"), 0
        try:
            while done < len(view):
                done += os.pwrite(self._descriptor, view[done:], self.position + done)
        except OSError as error:
            self.error = self.error or error
        self.position += len(view)
        self.nbytes = max(self.nbytes, self.position)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view, done = memoryview(buffer).cast("B"), 0
        wanted = min(len(view), max(self.nbytes - self.position, 0))
        while done < wanted and (n := os.preadv(self._descriptor, [view[done:wanted]], self.position + done)):
            done += n
        self.position += done
        return done


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Check that HDF5 can hold the elements as they are in memory.

    Raises
    ------
    DTypeError
        If it cannot.
    """
    import h5py

    supported = "truth values, integers, floats, complex numbers, bytes and records of these"
    try:
        fits = not dtype.hasobject and h5py.h5t.py_create(dtype, logical=True).get_size() == dtype.itemsize
    except TypeError:
        fits = False
    if not fits or dtype.itemsize == 0:
        message = f"{name}: HDF5 has no type for dtype {dtype}; supported are {supported}"
        raise DTypeError(message, name=name, got=str(dtype), supported=supported)


Attributes: TypeAlias = Mapping[str, Any]


def plain_image(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    dataset: str,
    attributes: Attributes = MappingProxyType({}),
    of_file: Attributes = MappingProxyType({}),
) -> Image:
    """Lay out a file with one contiguous dataset; attributes are those of the dataset, and of the file."""
    import h5py

    space = h5py.h5s.create_simple(shape)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    pages = _Pages()
    with h5py.File(pages, "w", alignment_threshold=PAGE, alignment_interval=PAGE) as file:
        kind = h5py.h5t.py_create(dtype, logical=True)
        created = h5py.Dataset(h5py.h5d.create(file.id, dataset.encode(), kind, space, layout, links))
        created.attrs.update(attributes)
        file.attrs.update(of_file)
        offset = created.id.get_offset()
    return Image(pages.pieces(), offset, pages.nbytes)


def compressed_image(
    array: AnyArray,
    dataset: str,
    compression: Any,
    chunks: Any = None,
    attributes: Attributes = MappingProxyType({}),
    of_file: Attributes = MappingProxyType({}),
) -> Image:
    """Lay out a file with one compressed dataset, data included."""
    import h5py

    pages = _Pages()
    with h5py.File(pages, "w") as file:
        created = file.create_dataset(dataset, data=array, compression=compression, chunks=chunks)
        created.attrs.update(attributes)
        file.attrs.update(of_file)
    return Image(pages.pieces(), None, pages.nbytes)


def virtual_image(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    dataset: str,
    sources: list[tuple[Any, str, tuple[int, ...]]],
    attributes: Attributes,
    of_file: Attributes,
) -> Image:
    """Lay out a file with one dataset made of others: their boxes in it, relative paths and shapes."""
    import h5py

    layout = h5py.VirtualLayout(shape, dtype)
    for box, name, part in sources:
        # HDF5 reads a percent sign as the beginning of a number to be put in.
        layout[box] = h5py.VirtualSource(name.replace("%", "%%"), dataset.replace("%", "%%"), part)
    pages = _Pages()
    with h5py.File(pages, "w") as file:
        file.create_virtual_dataset(dataset, layout).attrs.update(attributes)
        file.attrs.update(of_file)
    return Image(pages.pieces(), None, pages.nbytes)


def publish(path: Path, image: Image, array: AnyArray | None = None) -> None:
    """Have a file appear with all that is in it, on the disk, in place of the one that has its name."""
    put(path, image, array)
    _durable.sync(path.parent)


def put(path: Path, image: Image, array: AnyArray | None = None) -> None:
    """Do the same, but for the name, which is on the disk when the directory is synced."""
    with draft(path, image.nbytes) as file:
        image.write(file)
        if array is not None and image.offset is not None:
            items = _npy.raw(np.ascontiguousarray(array))
            file.write_box(image.offset, items.shape, [(0, n) for n in items.shape], items)


@contextmanager
def draft(path: Path, nbytes: int) -> Iterator[_core.Draft]:
    """Write a file in a ``with`` block; at its end it is on the disk and has its name."""
    file = _core.Draft(os.fspath(path), nbytes)
    try:
        yield file
        _durable.publish(file, replace=True)
    except BaseException:
        file.discard()
        raise


@contextmanager
def streamed(file: _core.Draft) -> Iterator[Any]:
    """Open a draft as an HDF5 file, for what does not fit in memory; the room it has is used first."""
    import h5py

    descriptor = file.duplicate()
    raw = _Reserved(descriptor)
    try:
        try:
            with h5py.File(raw, "w") as opened:
                yield opened
        finally:
            if raw.error is not None:
                raise raw.error
        os.ftruncate(descriptor, raw.nbytes)
    finally:
        os.close(descriptor)


def open_file(path: PathLike, mode: str = "r") -> Any:
    """Open an HDF5 file without its lock, which some file systems lack and which refuses readers beside a writer.

    Raises
    ------
    FileNotFoundError, PermissionError
        If the file cannot be opened.
    FormatError
        If it is no HDF5 file, or a damaged one.
    """
    import h5py

    try:
        try:
            return h5py.File(path, mode, locking=False)
        except OSError as error:
            # This process has it open already, with the lock; one file has one setting.
            if "lock" not in str(error):
                raise
            return h5py.File(path, mode)
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        message = f"{os.fspath(path)}: HDF5 cannot open it, it is damaged or something else: {error}"
        raise FormatError(message, path=Path(path), field="file", got=None) from error


def move_chunks(source: Any, target: Any, start: tuple[int, ...]) -> None:
    """Copy the chunks of a dataset, as they are, to a place in another one with the same chunks and filters."""
    for chunk in source.iter_chunks():
        place = tuple(part.start for part in chunk)
        mask, data = source.id.read_direct_chunk(place)
        target.id.write_direct_chunk(tuple(a + b for a, b in zip(place, start, strict=True)), data, mask)


def dataset_of(file: Any, name: str) -> Any:
    """Return a dataset of an open file.

    Raises
    ------
    FormatError
        If it has none of that name.
    """
    import h5py

    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        message = f"{file.filename}: it has no dataset {name!r}"
        raise FormatError(message, path=Path(file.filename), field=name, got=None)
    return found


def check_compression(compression: Any) -> None:
    """Check an option as h5py knows it.

    Raises
    ------
    ArgumentError
        If h5py does not know it.
    """
    if compression is None:
        return
    try:
        compressed_image(np.zeros(1), "data", compression)
    except (ValueError, TypeError) as error:
        message = f"compression: got {compression!r}; expected what h5py's create_dataset takes: {error}"
        raise ArgumentError(message, name="compression", got=compression, expected="'gzip', 'lzf', 0-9") from error

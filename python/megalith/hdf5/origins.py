"""What is computed on, wherever it lives, as something that travels to the workers."""

from __future__ import annotations

import copy
import os
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import arrays
from megalith._optional import is_instance
from megalith.arrays.source import as_source, is_path
from megalith.exceptions import ArgumentError
from megalith.hdf5.files import dataset_of, open_file
from megalith.hdf5.virtual import check_sources, source_files
from megalith.records.digest import digest

if TYPE_CHECKING:
    from megalith._typing import AnyArray, Box, SourceLike

# The copy of an array in memory for workers that cannot map it.
COPY = "source.npy"


@dataclass(frozen=True)
class Stored:
    """A dataset of an HDF5 file, by name: every process opens the file itself."""

    path: str
    dataset: str


@dataclass(frozen=True)
class Origin:
    """A source: its shape and type, what identifies it, how it is called, from what it is read, and where it can be."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    identity: str
    text: str
    place: Any
    travels: bool = True

    def read(self, box: Box) -> AnyArray:
        """Return the elements of a box as an array of its own, which may be changed."""
        place = self.place
        if isinstance(place, Stored):
            with open_file(place.path) as file:
                dataset = dataset_of(file, place.dataset)
                source_files(dataset)
                return np.asarray(dataset[box])
        values = as_source(place).reader().read(box)
        return values if values.base is None and values.flags.writeable else values.copy()

    def for_workers(self, workers: Any, directory: Path) -> Origin:
        """Return the same, as the workers can read it.

        Processes of this machine map an array that is in the memory of this one. For others it becomes a file beside
        the result, which they see too.
        """
        is_near = isinstance(workers, ThreadPoolExecutor) or hasattr(os, "memfd_create")
        if self.travels or workers is None or (isinstance(workers, int | Executor) and is_near):
            return self
        return replace(self, place=arrays.write(directory / COPY, self.place))


def describe(source: SourceLike, dataset: str) -> Origin:
    """Describe a source without reading it, but for what is in memory alone: that is identified by its content.

    Parameters
    ----------
    source : array-like or path
        Whatever `megalith.arrays.as_source` takes; the path of an HDF5 file or of a zarr array; a pair of the path of
        an HDF5 file and the name of a dataset in it.
    dataset : str
        The dataset of an HDF5 file that is given by its path alone and has several.

    Raises
    ------
    FileNotFoundError, PermissionError
        If it cannot be opened.
    FormatError
        If it is not what its name says, or a virtual dataset whose sources are missing.
    ArgumentError
        If it does not say which dataset of several is meant.
    ShapeError, DTypeError
        If it has no axis, or elements that are Python objects.
    """
    if isinstance(source, tuple) and len(source) == 2 and is_path(source[0]) and isinstance(source[1], str):
        return _stored(Path(source[0]), source[1], None)
    if is_instance(source, "h5py", "File"):
        name = _only(source, dataset)
        return _stored(Path(source.filename), name, source[name])
    if is_path(source):
        import h5py

        if h5py.is_hdf5(source):
            with open_file(source) as file:
                name = _only(file, dataset)
            return _stored(Path(source), name, None)
    # Of a mapping only what is certain to be a file is taken for one; copying a Source is what finds out.
    described = copy.copy(as_source(source))
    if described.dataset is not None:
        if not is_instance(described.dataset, "h5py", "Dataset"):
            return _zarr(described.dataset)
        return _stored(Path(described.dataset.file.filename), described.dataset.name, described.dataset)
    if described.is_file and described.location is not None:
        stamp = _stamp(described.location.stat())
        identity = digest((described.shape, described.dtype, described.order, described.offset, stamp))
        return Origin(described.shape, described.dtype, identity, str(described.location), described)
    return _memory(described if described.is_made_of_parts else described.array)


def _memory(values: Any) -> Origin:
    identity = digest(values, name="source")
    return Origin(values.shape, values.dtype, identity, f"an array in memory: {identity}", values, travels=False)


def _stored(path: Path, name: str, opened: Any) -> Origin:
    path = path.absolute()
    if opened is not None:
        if opened.file.driver in ("core", "fileobj"):
            return _memory(np.asarray(opened[()]))
        if opened.file.mode != "r":
            opened.file.flush()
    with open_file(path) as file:
        found = dataset_of(file, name)
        stamps = [_stamp(part.stat()) for part in (path, *check_sources(found))]
        described = as_source(found)
        shape, dtype = described.shape, described.dtype
    identity = digest((shape, dtype, name, stamps))
    return Origin(shape, dtype, identity, f"{path}:{name}", Stored(os.fspath(path), name))


def _zarr(array: Any) -> Origin:
    place, dtype = array.store_path, np.dtype(array.dtype)
    if is_instance(place.store, "zarr.storage", "MemoryStore"):
        return _memory(np.asarray(array[...]))
    stamps: list[Any] = [str(place)]
    if hasattr(place.store, "root"):
        directory = Path(place.store.root) / place.path
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        stamps = [(str(path.relative_to(directory)), _stamp(path.stat())) for path in files]
    return Origin(tuple(array.shape), dtype, digest((array.shape, dtype, stamps)), str(place), array)


def _stamp(stat: os.stat_result) -> tuple[int, int]:
    """Return what tells a file from what it was before, wherever it has been moved to meanwhile."""
    return stat.st_size, stat.st_mtime_ns


def _only(file: Any, wanted: str) -> str:
    """Return the name of the dataset that is meant: the one of that name, or the only one."""
    import h5py

    if isinstance(file.get(wanted), h5py.Dataset):
        return wanted
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    if len(names) == 1:
        return names[0]
    listed = ", ".join(map(repr, names[:10])) or "none"
    message = f"source: {file.filename} has the datasets {listed}; give a pair (path, name), or the dataset itself"
    raise ArgumentError(message, name="source", got=file.filename, expected="the name of a dataset")

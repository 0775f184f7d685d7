"""Arrays that are read and written in boxes, chunk by chunk: `h5py.Dataset` and `zarr.Array`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from megalith._optional import is_instance, require
from megalith.exceptions import FormatError

if TYPE_CHECKING:
    from pathlib import Path


def is_dataset(value: Any) -> bool:
    """Whether a value is a dataset of HDF5 or an array of zarr."""
    return is_instance(value, "h5py", "Dataset") or is_instance(value, "zarr", "Array")


def is_same(a: Any, b: Any) -> bool:
    """Whether two datasets are the same elements in the same place."""
    if is_instance(a, "zarr", "Array") and is_instance(b, "zarr", "Array"):
        return _place(a) == _place(b)
    return bool(a == b)


def _place(array: Any) -> str:
    """Return where a zarr array is kept; directories by their real name."""
    url = str(array.store_path)
    return os.path.realpath(url.removeprefix("file://")) if url.startswith("file://") else url


def is_read_only(dataset: Any) -> bool:
    """Whether a dataset was opened for reading only."""
    return bool(dataset.file.mode == "r" if is_instance(dataset, "h5py", "Dataset") else dataset.read_only)


def write_unit(dataset: Any) -> tuple[int, ...] | None:
    """Return the shape of what is written at once: a chunk, or the shard that holds it."""
    unit: tuple[int, ...] | None = getattr(dataset, "shards", None) or dataset.chunks
    return unit


def is_zarr(path: Path) -> bool:
    """Whether a directory holds an array or a group of zarr."""
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def open_zarr(path: Path) -> Any:
    """Open an array of zarr for reading.

    Raises
    ------
    FormatError
        If it is a group, or its description is damaged.
    MissingExtraError
        If zarr is not installed.
    """
    zarr = require("zarr", "zarr")
    try:
        opened = zarr.open(os.fspath(path), mode="r")
    except (KeyError, TypeError, ValueError) as error:
        message = f"{path}: zarr does not open it: {error}"
        raise FormatError(message, path=path, field="description", got=str(error)) from error
    if is_instance(opened, "zarr", "Group"):
        names = ", ".join(sorted(opened.array_keys())) or "none"
        message = f"{path}: a group of zarr, not an array; give the directory of one of its arrays: {names}"
        raise FormatError(message, path=path, field="node_type", got="group")
    return opened

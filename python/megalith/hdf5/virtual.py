"""Virtual datasets, whose data lie in other files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from megalith.exceptions import FormatError
from megalith.hdf5.files import dataset_of, open_file

if TYPE_CHECKING:
    from megalith._typing import PathLike


def open_virtual(path: PathLike) -> Any:
    """Open an HDF5 file for reading if the sources of all its virtual datasets are there.

    HDF5 itself opens it in any case, and gives fill values for what is missing.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    file : h5py.File
        Open for reading; to be closed, or used in a ``with`` block.

    Raises
    ------
    FileNotFoundError
        If the file, or one of the sources, is missing; the message names it.
    FormatError
        If the file or a source is damaged, or a source lacks its dataset.

    Notes
    -----
    Relative names of sources are looked for beside the file, so a result can be moved together with its blocks. Files
    without virtual datasets are opened too.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> from megalith import hdf5
    >>> sink = hdf5.compute(np.square, np.arange(6), pathlib.Path(tempfile.mkdtemp()) / 'squares.h5', blocks=2)
    >>> with hdf5.open_virtual(sink) as file:
    ...     file['data'][:]
    array([ 0,  1,  4,  9, 16, 25])
    >>> (sink.parent / 'squares.h5.blocks' / '1.h5').unlink()
    >>> hdf5.open_virtual(sink)
    Traceback (most recent call last):
    ...
    FileNotFoundError: ...squares.h5.blocks/1.h5...
    """
    import h5py

    file = open_file(path)
    try:
        found: list[Any] = []
        file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
        for dataset in found:
            check_sources(dataset)
    except BaseException:
        file.close()
        raise
    return file


def source_files(dataset: Any) -> list[tuple[Path, Any]]:
    """Return the files of a virtual dataset with what it says of each, nothing for other datasets.

    Raises
    ------
    FileNotFoundError
        If one is missing.
    """
    if not dataset.is_virtual:
        return []
    place = Path(dataset.file.filename).absolute()
    found = []
    for source in dataset.virtual_sources():
        name = source.file_name.replace("%%", "%")
        if name == "." or "%" in source.file_name.replace("%%", ""):
            continue  # the file itself; a pattern of names, of which as many are there as there are
        # HDF5 looks beside the name by which the file was opened, then beside the file itself.
        paths = [place.parent / name, place.resolve().parent / name]
        path = next((path for path in paths if path.exists()), None)
        if path is None:
            message = f"{paths[0]}: a source of the virtual dataset {dataset.name!r} of {place} is missing"
            raise FileNotFoundError(message)
        found.append((path, source))
    return found


def check_sources(dataset: Any) -> list[Path]:
    """Check that all sources of a dataset are there and whole, if it is virtual, and return their files.

    Raises
    ------
    FileNotFoundError
        If one is missing.
    FormatError
        If one is damaged, or lacks its dataset.
    """
    paths = []
    for path, source in source_files(dataset):
        inner = source.dset_name.replace("%%", "%")
        with open_file(path) as file:
            part = dataset_of(file, inner)
            wanted = source.vspace.get_select_npoints()
            if part.size < wanted:
                whole = dataset.file.filename
                message = f"{path}: dataset {inner!r} has {part.size} elements, of which {whole} shows {wanted}"
                raise FormatError(message, path=path, field=inner, got=part.size)
            paths += [path, *check_sources(part)]
    return paths

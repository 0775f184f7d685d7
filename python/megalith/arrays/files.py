"""Files read and written by all cores at once, whole or in part."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import megalith.arrays as settings
from megalith import _checks, _core, _npy
from megalith._progress import progress
from megalith._shared_memory import anonymous
from megalith._threads import requested
from megalith.arrays import datasets
from megalith.arrays.blocks import boxes
from megalith.arrays.kernels.common import refuse_other_view
from megalith.arrays.sink import Target, given_array, given_dataset, is_shared
from megalith.arrays.source import Source, as_source, is_path, view_of, whole
from megalith.exceptions import ArgumentError, DTypeError, FormatError, LayoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from megalith._typing import AnyArray, Box, Order, Processes, SinkLike, SourceLike

RAW_SUFFIXES = ("", ".bin", ".dat", ".raw")


def read(
    source: SourceLike,
    sink: SinkLike = None,
    slicing: Any = None,
    memory: str | None = None,
    blocks: int | None = None,
    processes: Processes = None,
    verbose: bool = False,
    **kwargs: Any,
) -> Source:
    """Read an array, or a part of one, into memory by all cores.

    Parameters
    ----------
    source : path, Source, h5py.Dataset, zarr.Array or array-like
        A ``.npy`` file, a raw file (with `dtype` and what else of `kwargs` describes it), the directory of a zarr
        array, a dataset.
    sink : ndarray, path or dataset, optional
        Where to put it; None for a fresh array in the order of the file.
    slicing : int, slice, Ellipsis or tuple of these, optional
        The part to read, as between the brackets of an array. Only its bytes are read.
    memory : {'shared'}, optional
        Kind of memory of a fresh array. 'shared' memory has no name: forked children see it and write into it, and it
        is gone with the last array that shows it. (``megalith.shared`` gives names, for all processes.)
    blocks : int, optional
        Kept for callers of older interfaces; the cut of the work does not depend on it.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.
    verbose : bool
        Show a progress bar.
    **kwargs
        Of a raw file: `dtype`, `shape`, `offset` (bytes), `order`.

    Returns
    -------
    source : Source
        The array in memory (or in the sink); ``.array`` is the ndarray.

    Raises
    ------
    FileNotFoundError, PermissionError
        If the file cannot be opened.
    FormatError
        If it is neither a ``.npy`` file nor a zarr array, and no `dtype` was given.
    TruncatedFileError
        If it has fewer bytes than it should.
    IndexRangeError
        If the slicing leaves the array.
    ShapeError
        If the sink has another shape.
    DTypeError
        If the sink cannot hold every value.
    SharedMemoryFullError
        If shared memory has no room for it.

    Notes
    -----
    Positioned reads in pieces of a few MiB, straight into the result; no mapping, no second copy. Datasets are read in
    windows that end where their chunks do, by the threads of their own library.

    References
    ----------
    .. [1] ClearMap ``ArrayProcessing.read``.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> import megalith
    >>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.npy'
    >>> np.save(path, np.arange(12).reshape(3, 4))
    >>> megalith.read(path, slicing=(slice(1, 3), 0)).array
    array([4, 8])
    """
    in_shared_memory = is_shared(memory, sink)
    if blocks is not None:
        _checks.positive_int("blocks", blocks)
    threads = requested(processes, settings.default_processes)
    unknown = sorted(kwargs.keys() - {"dtype", "shape", "offset", "order"})
    if unknown:
        message = f"read: unknown argument {unknown[0]!r}; a raw file is described by dtype, shape, offset and order"
        raise ArgumentError(message, name=unknown[0], got=kwargs[unknown[0]], expected="dtype, shape, offset, order")
    source = as_source(source, **kwargs)
    box, shape, steps = _checks.box(... if slicing is None else slicing, source.shape)
    if in_shared_memory:
        sink = anonymous(shape, source.dtype, source.order or "C")
    if any(part != slice(None) for part in steps):
        return _read_steps(source, sink, slicing, shape)
    kept = _kept_axes(... if slicing is None else slicing, source.ndim)
    with Target(sink, shape, source.dtype, source.order or "C") as target:
        _castable(source.dtype, target.dtype)
        refuse_other_view(source, target)
        with progress(verbose, "read", target.dtype.itemsize * int(np.prod(shape))) as bar:
            if not _is_direct(source, target):
                _copy_boxes(source, target, box, kept, threads, bar)
            else:
                out = np.expand_dims(target.array, tuple(axis for axis in range(source.ndim) if axis not in kept))
                source.reader().read(box, out, processes=threads, tick=bar.tick)
    return as_source(target.result)


def _is_direct(source: Source, target: Target) -> bool:
    """Whether the bytes of a file can go straight into the sink."""
    if target.streams or source.dataset is not None or target.dtype != source.dtype:
        return False
    flags = target.array.flags
    return bool(flags.f_contiguous if source.order == "F" else flags.c_contiguous)


def _kept_axes(slicing: Any, ndim: int) -> list[int]:
    """Return the axes that are not taken away by an integer."""
    entries = list(slicing) if isinstance(slicing, tuple) else [slicing]
    if Ellipsis in entries:
        at = entries.index(Ellipsis)
        entries[at : at + 1] = [slice(None)] * (ndim - len(entries) + 1)
    entries += [slice(None)] * (ndim - len(entries))
    return [axis for axis, entry in enumerate(entries) if isinstance(entry, slice)]


def _castable(dtype: np.dtype[Any], sink: np.dtype[Any], name: str = "sink") -> None:
    if not np.can_cast(dtype, sink, "safe"):
        message = f"{name}: a sink of dtype {sink} cannot hold every value of {dtype}; cast the source first"
        raise DTypeError(message, name=name, got=str(dtype), supported=f"types that cast to {sink} safely")


def _read_steps(source: Source, sink: SinkLike, slicing: Any, shape: tuple[int, ...]) -> Source:
    """Read with steps: through a mapping of a file, since the bytes wanted are not next to each other."""
    with Target(sink, shape, source.dtype, source.order or "C") as target:
        _castable(source.dtype, target.dtype)
        refuse_other_view(source, target)
        target.put(_stepped(source.dataset, slicing, source.shape) if source.dataset is not None else source[slicing])
    return as_source(target.result)


def _stepped(dataset: Any, slicing: Any, shape: tuple[int, ...]) -> AnyArray:
    """Read from a dataset, which knows no negative steps: forward, then turned around."""
    entries = list(slicing) if isinstance(slicing, tuple) else [slicing]
    at = next((i for i, entry in enumerate(entries) if entry is Ellipsis), len(entries))
    entries[at : at + 1] = [slice(None)] * (len(shape) - len(entries) + (at < len(entries)))
    turns = []
    for axis, (entry, n) in enumerate(zip(entries, shape, strict=True)):
        if not isinstance(entry, slice):
            continue
        indices = range(n)[entry]
        if indices.step < 0:
            indices = indices[::-1]
            turns.append(slice(None, None, -1))
        else:
            turns.append(slice(None))
        entries[axis] = slice(indices.start, indices.stop, indices.step) if len(indices) else slice(0, 0)
    values: AnyArray = np.asarray(dataset[tuple(entries)])[tuple(turns)]
    return values


def _copy_boxes(source: Source, target: Target, box: Box, kept: list[int], threads: int | None, bar: Any) -> None:
    def put(window: Box, values: AnyArray) -> None:
        place = tuple(window[axis] for axis in kept)
        target.store(place, values.reshape([part.stop - part.start for part in place]))
        bar.part_done()

    extent = tuple(part.stop - part.start for part in box)
    sink_chunks = None
    if target.chunks is not None:
        sink_chunks = tuple(target.chunks[kept.index(axis)] if axis in kept else 1 for axis in range(source.ndim))
    windows = boxes(
        extent,
        source.dtype.itemsize,
        source.order or "C",
        chunks=source.chunks,
        start=tuple(part.start for part in box),
        sink_chunks=sink_chunks,
    )
    _hand_over(source, box, windows, put, threads, bar)


def _hand_over(
    source: Source,
    box: Box,
    windows: list[Box],
    put: Callable[[Box, AnyArray], None],
    threads: int | None,
    bar: Any,
) -> None:
    """Read a box in windows, or in its chunks what has to be computed; `put` gets their places in the box."""
    if source.lazy is not None:
        from megalith.arrays.lazy import store

        part = source.lazy[box]
        bar.split(part.npartitions)
        store(part, put)
        return
    bar.split(len(windows))
    reader = source.reader()
    for window in windows:
        moved = tuple(slice(w.start + b.start, w.stop + b.start) for w, b in zip(window, box, strict=True))
        put(window, reader.read(moved, processes=threads))


def write(
    sink: SinkLike,
    source: SourceLike,
    slicing: Any = None,
    overwrite: bool = True,
    blocks: int | None = None,
    processes: Processes = None,
    verbose: bool = False,
) -> Source:
    """Write an array to a file, or into a part of an existing file, by all cores.

    Parameters
    ----------
    sink : path, Source, h5py.Dataset, zarr.Array or ndarray
        A ``.npy`` file, or a raw file (``.raw``, ``.bin``, ``.dat`` or no suffix); a dataset or an array is written
        into, and keeps its type.
    source : array-like
        What to write, of any layout.
    slicing : int, slice, Ellipsis or tuple of these, optional
        The part of an existing file to write to. No other byte of it changes. The change is not atomic: a reader may
        see half of it, and a killed writer leaves it so.
    overwrite : bool
        Whether a file of another shape, type or order may be replaced.
    blocks : int, optional
        Kept for callers of older interfaces; the cut of the work does not depend on it.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    sink : Source
        The file that was written.

    Raises
    ------
    FileExistsError
        If the file exists with another shape, type or order and `overwrite` is False.
    FileNotFoundError
        If the directory does not exist, or a slicing is given for a file that does not.
    OSError
        If there is no room; nothing is written then.
    ShapeError
        If source and slicing have different shapes.
    IndexRangeError
        If the slicing leaves the array.
    DTypeError
        If the source cannot be cast safely to the type of an existing file.

    Notes
    -----
    A new file gets its name when it is complete, in place of an old one; readers of the old one keep it. C and F order
    are kept; arrays with gaps are gathered block by block and written in C order. Files and datasets are copied in
    windows. Chunks of a dask array are written as its threads finish them, in one run over the graph; those of
    schedulers in other processes come in groups of 64 MiB, or of two for each core.

    A chunk of a dataset is written once, whole where the slicing has all of it. Where it has a part, the chunk is read,
    changed and written back: two writers at the same time must not share one (in zarr, a shard where there are any).

    References
    ----------
    .. [1] ClearMap ``ArrayProcessing.write``.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> import megalith
    >>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.npy'
    >>> megalith.write(path, np.zeros((2, 3), dtype=np.uint8)).shape
    (2, 3)
    >>> megalith.write(path, np.array([7, 8], dtype=np.uint8), slicing=(slice(None), 1)).array.tolist()
    [[0, 7, 0], [0, 8, 0]]
    """
    if blocks is not None:
        _checks.positive_int("blocks", blocks)
    threads = requested(processes, settings.default_processes)
    source = as_source(source)
    dataset = given_dataset(sink)
    if dataset is not None:
        return _write_dataset(dataset, source, slicing, threads, verbose)
    described = sink if isinstance(sink, Source) and sink.is_file else None
    if not is_path(sink) and described is None:
        return _write_array(sink, source, slicing, threads)
    if is_path(sink) and datasets.is_zarr(Path(sink)):
        message = f"sink: {sink} is a zarr array; open it for writing and give that, zarr.open_array(path, mode='r+')"
        raise FormatError(message, path=Path(sink), field="suffix", got=Path(sink).suffix)
    if described is not None and described.offset and described.location and described.location.suffix != ".npy":
        # A raw file with something before the array: that stays.
        slicing = ... if slicing is None else slicing
    if slicing is not None:
        return _write_slice(sink, source, slicing, threads, verbose)
    path = Path(sink if described is None else described.location or "")
    order: Order = source.order or "C"
    is_raw = path.suffix != ".npy"
    if is_raw and path.suffix not in RAW_SUFFIXES:
        message = f"sink: {path} ends in neither '.npy' nor one of {RAW_SUFFIXES[1:]}, which are written as raw files"
        raise FormatError(message, path=path, field="suffix", got=path.suffix)
    existed = path.exists()
    if not overwrite and existed:
        _refuse_other(path, described, source, order, is_raw=is_raw)
    header = b"" if is_raw else _npy.make_header(source.shape, source.dtype, order)
    draft = _core.Draft(os.fspath(path), len(header) + source.nbytes)
    try:
        draft.write(0, header)
        with progress(verbose, "write", source.nbytes) as bar:

            def put(box: Box, values: AnyArray) -> None:
                _write_box(draft, len(header), source.shape, order, box, values, threads, bar)

            everything = whole(source.shape)
            windows = [everything]
            if source.streams:
                windows = boxes(source.shape, source.dtype.itemsize, order, chunks=source.chunks)
            _hand_over(source, everything, windows, put, threads, bar)
        draft.publish(replace=overwrite or existed)
    except BaseException:
        draft.discard()
        raise
    return Source(source.shape, source.dtype, order, location=path, offset=len(header))


def _write_box(
    file: _core.Draft | _core.File,
    offset: int,
    shape: tuple[int, ...],
    order: Order,
    box: Box,
    values: AnyArray,
    threads: int | None,
    bar: Any,
) -> None:
    step = -1 if order == "F" else 1
    spans = [(part.start, part.stop) for part in box[::step]]
    file.write_box(offset, shape[::step], spans, values.T if step < 0 else values, threads, bar.tick)
    bar.part_done()


def _refuse_other(path: Path, described: Source | None, source: Source, order: Order, *, is_raw: bool) -> None:
    if is_raw and described is None:
        same = path.stat().st_size == source.nbytes
        found = f"{path.stat().st_size} bytes"
    else:
        old = described if described is not None else as_source(path)
        same = (old.shape, old.dtype, old.order) == (source.shape, source.dtype, order)
        found = f"shape {old.shape}, dtype {old.dtype}, order {old.order}"
    if not same:
        message = (
            f"{path} exists with {found}; the source has shape {source.shape}, dtype {source.dtype}, order {order}. "
            "Give overwrite=True to replace it"
        )
        raise FileExistsError(message)


def _write_slice(sink: Any, source: Source, slicing: Any, threads: int | None, verbose: bool) -> Source:
    file = as_source(sink)
    box, shape, steps = _checks.box(slicing, file.shape)
    _checks.same_shape("source", source.shape, shape)
    _castable(source.dtype, file.dtype, "source")
    _refuse_same_file(file, source)
    order: Order = file.order or "C"
    with progress(verbose, "write", source.size * file.dtype.itemsize) as bar:
        if any(part != slice(None) for part in steps):
            mapped = np.memmap(file.location or "", file.dtype, "r+", file.offset, file.shape, order)
            mapped[slicing] = source.array
            mapped.flush()
            return file
        target = _core.File(os.fspath(file.location or ""), writable=True)
        kept = _kept_axes(slicing, file.ndim)
        gone = tuple(axis for axis in range(file.ndim) if axis not in kept)
        reader = source.reader()
        windows = boxes(source.shape, file.dtype.itemsize, order, chunks=source.chunks)
        bar.split(len(windows))
        place = list(box)
        for window in windows:
            for axis, part in zip(kept, window, strict=True):
                place[axis] = slice(box[axis].start + part.start, box[axis].start + part.stop)
            values = reader.read(window, processes=threads).astype(file.dtype, copy=False)
            _write_box(target, file.offset, file.shape, order, tuple(place), np.expand_dims(values, gone), threads, bar)
    return file


def _refuse_same_file(file: Source, source: Source) -> None:
    """Check that a source is not the file that is written into, of which it would see half the change."""
    if file.location is not None and source.is_of(file.location):
        message = f"source: it is in {file.location}, which is written into; give a copy"
        raise LayoutError(message, name="source", reason="shares memory with sink")


def _write_array(sink: Any, source: Source, slicing: Any, threads: int | None) -> Source:
    array = given_array(sink)
    place = array if slicing is None else array[slicing]
    _checks.same_shape("source", source.shape, place.shape)
    _castable(source.dtype, array.dtype)
    with Target(place, source.shape, array.dtype, "C") as target:
        refuse_other_view(source, target)
        if not source.streams:
            np.copyto(place, source.array)
        else:
            reader = source.reader()
            for box in boxes(source.shape, source.dtype.itemsize, source.order or "C", chunks=source.chunks):
                reader.read(box, view_of(place, box), processes=threads)
    return sink if isinstance(sink, Source) else as_source(array)


def _write_dataset(sink: Any, source: Source, slicing: Any, threads: int | None, verbose: bool) -> Source:
    box, shape, steps = _checks.box(... if slicing is None else slicing, tuple(sink.shape))
    _checks.same_shape("source", source.shape, shape)
    _castable(source.dtype, sink.dtype, "source")
    if source.is_dataset(sink):
        message = "source: it is the dataset that is written into; give a copy"
        raise LayoutError(message, name="source", reason="shares memory with sink")
    if any(part != slice(None) for part in steps):
        if any(part.step is not None and part.step < 0 for part in steps):
            message = "slicing: datasets are written with positive steps only; turn the source around"
            raise ArgumentError(message, name="slicing", got=slicing, expected="positive steps")
        sink[slicing] = source.array.astype(sink.dtype, copy=False)
        return as_source(sink)
    kept = _kept_axes(... if slicing is None else slicing, len(sink.shape))
    fixed = list(box)
    reader = source.reader()
    with progress(verbose, "write", source.nbytes) as bar:
        unit = datasets.write_unit(sink)
        windows = boxes(
            source.shape,
            source.dtype.itemsize,
            source.order or "C",
            chunks=source.chunks,
            sink_chunks=None if unit is None else tuple(unit[axis] for axis in kept),
            sink_start=tuple(box[axis].start for axis in kept),
        )
        bar.split(len(windows))
        for window in windows:
            for axis, part in zip(kept, window, strict=True):
                fixed[axis] = slice(box[axis].start + part.start, box[axis].start + part.stop)
            values = reader.read(window, processes=threads).astype(sink.dtype, copy=False)
            sink[tuple(fixed)] = values.reshape([part.stop - part.start for part in fixed])
            bar.part_done()
    return as_source(sink)

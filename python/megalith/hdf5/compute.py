"""`compute`: a function over the blocks of an array, with the results written to disk where they are computed."""

from __future__ import annotations

import errno
import inspect
import json
import math
import os
import platform
import shutil
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from megalith import _core, _durable
from megalith.exceptions import ArgumentError, DTypeError, FileWriteError, FormatError, ShapeError
from megalith.hdf5 import files, journal
from megalith.hdf5.decorators import FauxTrial, takes
from megalith.hdf5.journal import Done, Journal
from megalith.hdf5.origins import COPY, describe
from megalith.hdf5.plan import arrange, by_shape, chunks_of, cut, shape_of
from megalith.hdf5.work import Job, Partial, Task, check_memory, other_dtype
from megalith.records.digest import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from megalith._typing import AnyArray, Box, PathLike, SourceLike
    from megalith.context import Context
    from megalith.maps import Failure

Layout: TypeAlias = Literal["virtual", "single"]
# Shape and type of results, by the shape of blocks.
Expected: TypeAlias = dict[tuple[int, ...], tuple[tuple[int, ...], np.dtype[Any]]]
LAYOUTS = ("virtual", "single")

# Characters of the arguments that are written down with a result.
MOST_TEXT = 8000

# The attribute of a file that says which run it is the result of.
RUN = "megalith_run"


def compute(
    func: Callable[..., Any],
    source: SourceLike,
    sink: PathLike | None = None,
    *,
    args: Sequence[Any] = (),
    cfg: Mapping[str, Any] | None = None,
    blocks: int | Sequence[Any] | None = None,
    layout: Layout = "virtual",
    dataset: str = "data",
    compression: Any = None,
    context: Context | None = None,
    keeptrials: bool = True,
    resume: bool = True,
    verbose: bool = False,
) -> Path:
    """Call a function for each block of an array, and have the workers write the results to an HDF5 file.

    A run that was killed, or failed, goes on where it stopped when it is started again: each finished block is on the
    disk, with a record and a checksum, before it counts.

    Parameters
    ----------
    func : callable
        ``func(block, *args, **cfg)`` takes an array and returns one. If it has an argument `noCompute` it is asked with
        a `FauxTrial` first, and returns shape and type of its result; `chunkShape` gets the largest of these shapes.
    source : array-like or path
        An HDF5 dataset, an HDF5 file (with one dataset, or one called as `dataset`), a pair of such a file and the name
        of a dataset, a ``.npy`` file, a raw file as a `megalith.Source`, a zarr array, or any array.
    sink : path, optional
        The HDF5 file to be; without it one in the directory of the Context, named by function and run.
    args : sequence
        Arguments of the function.
    cfg : mapping, optional
        Keyword arguments of the function.
    blocks : int or list of slice or tuple of slice, optional
        How many along the first axis, or the boxes themselves. Blocks that form a grid give results that form one;
        others follow one another along the first axis. None makes blocks of 16 MiB.
    layout : {'virtual', 'single'}
        'virtual' makes a file of each block, in ``<sink>.blocks`` beside the sink, and a virtual dataset of them;
        'single' one dataset in one file.
    dataset : str
        Name of the dataset in the sink.
    compression : str or int, optional
        As h5py's ``create_dataset`` takes it: 'gzip', 'lzf', 0 to 9. Workers compress; for 'single' the compressed
        blocks are put together at the end.
    context : Context, optional
        Its workers do the work; without it, or without workers, it is done here.
    keeptrials : bool
        False writes the mean of the results of all blocks, which then have one shape.
    resume : bool
        False begins anew, and gives up a result of an earlier run, finished or not.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    sink : pathlib.Path
        The file, complete. If this very run has been completed before, that result.

    Raises
    ------
    FormatError
        If the sink is that of another run: of another function, source, arguments or blocks. If a block was lost or
        changed before the result was made of it.
    FileExistsError
        If the sink is a file that is no result of this function.
    ShapeError, DTypeError
        If results do not fit together, or HDF5 has no type for them.
    OutOfMemoryError
        If blocks and their results do not fit in memory.
    OSError
        If there is no room for the result, before work starts where its size is known.
    ArgumentError
        If an option is not one of those allowed.

    See Also
    --------
    open_virtual : Opens a result only if all its blocks are there.

    Notes
    -----
    What `func` raises is raised here, with a note that names the block, after all other blocks have been finished and
    kept.

    Means are summed up block by block in double precision, in their order, and have the type that `numpy.mean` gives;
    they do not depend on the workers.

    A block may be computed twice, if a worker dies or a scheduler wants it so. Of two runs of one sink at the same time
    the second waits for the first. A result that is complete is checked when it is asked for again: blocks of virtual
    ones by their checksums, and what is damaged is computed anew. The dataset has attributes that say how it was made:
    ``function``, ``code`` (a digest), ``arguments``, ``cfg``, ``source``, ``blocks`` and ``versions``.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import h5py
    >>> import numpy as np
    >>> from megalith import hdf5
    >>> place = pathlib.Path(tempfile.mkdtemp())
    >>> recording = np.arange(12.0).reshape(6, 2)
    >>> def scale(block, factor=1):
    ...     return factor * block
    >>> sink = hdf5.compute(scale, recording, place / 'scaled.h5', cfg={'factor': 10}, blocks=3)
    >>> with h5py.File(sink) as file:
    ...     file['data'][4], file['data'].attrs['cfg']
    (array([80., 90.]), "{'factor': 10}")
    >>> sink = hdf5.compute(np.mean, recording, place / 'mean.h5', args=(0,), blocks=2, keeptrials=False)
    >>> with h5py.File(sink) as file:
    ...     file['data'][:]
    array([5., 6.])
    """
    if layout not in LAYOUTS:
        message = f"layout: got {layout!r}, expected 'virtual' or 'single'"
        raise ArgumentError(message, name="layout", got=layout, expected="'virtual' or 'single'")
    if not callable(func):
        message = f"func: got {type(func).__name__}, expected a function of a block"
        raise DTypeError(message, name="func", got=type(func).__name__, supported="callables")
    files.check_compression(compression)
    workers = None if context is None else context._workers
    origin = describe(source, dataset)
    boxes = cut(origin.shape, origin.dtype, blocks)
    original = inspect.unwrap(func, stop=lambda inner: not hasattr(inner, "takes_orders"))
    identity = {
        "function": digest(original, name="func"),
        "arguments": digest(tuple(args), name="args"),
        "cfg": digest(dict(cfg or {}), name="cfg"),
        "source": origin.identity,
        "blocks": digest([[(part.start, part.stop) for part in box] for box in boxes]),
        "layout": layout if keeptrials else "mean",
        "dataset": dataset,
        "compression": repr(compression),
    }
    run = digest(identity)
    path = Path(sink).absolute() if sink is not None else _path(context, original, run)
    job = Job(
        func=func,
        args=tuple(args),
        options=dict(cfg or {}),
        origin=origin,
        journal=Journal(path.with_name(path.name + ".blocks"), run),
        dataset=dataset,
        compression=compression,
    )
    _Run(path, job, boxes, identity, workers, verbose=verbose).go(resume=resume)
    return path


def _path(context: Context | None, func: Callable[..., Any], run: str) -> Path:
    """Return the file of a run that has none."""
    if context is None or context.readonly:
        message = "sink: got None, expected a path, or a Context to whose directory results can be written"
        raise ArgumentError(message, name="sink", got=None, expected="a path, or a Context that may be written to")
    directory = context.cache_dir / "hdf5"
    _durable.make_directory(directory)
    name = "".join(letter if letter.isalnum() else "_" for letter in getattr(func, "__name__", type(func).__name__))
    return directory / f"{name[:100]}-{run[:16]}.h5"


def _identity_of(path: Path) -> dict[str, str] | None:
    """Return what a result is made of, None if there is none.

    Raises
    ------
    FileExistsError
        If there is something else.
    """
    if not path.exists():
        return None
    try:
        with files.open_file(path) as file:
            return dict(json.loads(file.attrs[RUN]))
    except (FormatError, KeyError, ValueError, TypeError):
        message = f"{path} exists and is no result of this function; remove it, or give another sink"
        raise FileExistsError(message) from None


class _Run:
    """One call of `compute`."""

    def __init__(
        self,
        path: Path,
        job: Job,
        boxes: list[Box],
        identity: dict[str, str],
        workers: Any,
        *,
        verbose: bool,
    ) -> None:
        self.path = path
        self.job = job
        self.boxes = boxes
        self.identity = identity
        self.workers = workers
        self.verbose = verbose
        self.directory = job.journal.directory
        self.partial_path = path.with_name(path.name + ".partial")
        self.is_virtual = identity["layout"] == "virtual"
        self.is_mean = identity["layout"] == "mean"
        self.done: dict[int, Done] = {}
        self.failures: dict[int, Failure] = {}

    def go(self, *, resume: bool) -> None:
        self._refuse_another(resume=resume)
        if resume and self._is_complete() and not self.directory.exists():
            return
        with journal.opened(self.directory, os.fspath(self.path)):
            self._refuse_another(resume=resume)
            if not resume:
                self.path.unlink(missing_ok=True)
                self.partial_path.unlink(missing_ok=True)
                journal.clear(self.directory)
            if not self._is_complete():
                if journal.read_manifest(self.directory) is None:
                    journal.write_manifest(self.directory, self.identity)
                self._work()
            if self.is_virtual:
                (self.directory / COPY).unlink(missing_ok=True)
            else:
                journal.remove(self.directory)

    # What is there.

    def _refuse_another(self, *, resume: bool) -> None:
        found = {self.path: _identity_of(self.path)}
        if (self.directory / journal.MANIFEST).exists():
            found[self.directory] = journal.read_manifest(self.directory) if resume else None
        elif self.directory.exists() and any(self.directory.glob("[!.]*")):
            message = f"{self.directory} is in the way: it is no directory of this function's; give another sink"
            raise FileExistsError(message)
        else:
            _identity_of(self.partial_path)
        for place, identity in found.items():
            if identity is None or not resume or identity == self.identity:
                continue
            other = [name for name in self.identity if identity.get(name) != self.identity[name]]
            message = (
                f"{place}: it is of another run: {' and '.join(other)} differ; "
                "give another sink, or resume=False to give that one up"
            )
            raise FormatError(message, path=place, field=other[0], got=identity.get(other[0]))

    def _is_complete(self) -> bool:
        """Whether the result is there and needs no other files."""
        return not self.is_virtual and _identity_of(self.path) is not None

    # The work.

    def _work(self) -> None:
        self.job = replace(self.job, origin=self.job.origin.for_workers(self.workers, self.directory))
        check_memory(self._block_bytes(), self._at_once(), self.path.parent)
        expected = self._dry_run()
        if expected is None:
            expected = self._scout()
        shapes = {box_shape: shape for box_shape, (shape, _) in expected.items()}
        check_memory(self._block_bytes(expected), self._at_once(), self.path.parent)
        results = [shapes[shape_of(box)] for box in self.boxes]
        dtype = self._one_dtype([dtype for _, dtype in expected.values()])
        if self.is_virtual or self.is_mean or self.job.compression is not None:
            self._work_on_files(results, dtype)
        else:
            self._work_on_one(results, dtype)

    def _dry_run(self) -> Expected | None:
        """Ask the function for shapes and types of its results, by the shapes of blocks; None if it does not say."""
        if not takes(self.job.func, "noCompute"):
            return None
        found = {}
        for shape, indices in by_shape(self.boxes).items():
            block = FauxTrial(shape, self.job.origin.dtype, self.boxes[indices[0]])
            answer = self.job.func(block, *self.job.args, **self.job.options, noCompute=True)
            try:
                result_shape, dtype = tuple(int(n) for n in answer[0]), np.dtype(answer[1])
            except (TypeError, IndexError, ValueError):
                message = f"func: with noCompute=True it returned {answer!r}, expected a shape and a type"
                raise DTypeError(message, name="func", got=repr(answer), supported="(shape, dtype)") from None
            files.check_dtype(dtype, "func")
            found[shape] = (result_shape or (1,), dtype)
        if takes(self.job.func, "chunkShape") and "chunkShape" not in self.job.options:
            largest = tuple(max(lengths) for lengths in zip(*(shape for shape, _ in found.values()), strict=False))
            self.job = replace(self.job, options={**self.job.options, "chunkShape": largest})
        return found

    def _scout(self) -> Expected:
        """Compute the first block of each shape, to see what the function gives."""
        shapes = by_shape(self.boxes)
        self._map(self.job, [Task(indices[0], self.boxes[indices[0]]) for indices in shapes.values()])
        if self.failures:
            # The others are kept as files, whatever the layout.
            self._map(self.job, [Task(i, box) for i, box in enumerate(self.boxes) if i not in self.failures])
            self._raise_failures()
        return {shape: (self.done[indices[0]].shape, self.done[indices[0]].dtype) for shape, indices in shapes.items()}

    def _map(self, job: Job, tasks: Iterable[Task]) -> None:
        tasks = [task for task in tasks if task.number not in self.done]
        if not tasks:
            return
        from megalith import maps

        results = maps.run(
            job, tasks, workers=self.workers, on_error="keep", verbose=self.verbose, desc=f"compute {self.path.name}"
        )
        for task, result in zip(tasks, results, strict=True):
            if isinstance(result, maps.Failure):
                self.failures[task.number] = result
            else:
                self.done[task.number] = result

    def _raise_failures(self) -> None:
        if not self.failures:
            return
        index, failure = min(self.failures.items())
        box = ", ".join(f"{part.start}:{part.stop}" for part in self.boxes[index])
        rest = f"; so did {len(self.failures) - 1} others" if len(self.failures) > 1 else ""
        failure.error.add_note(
            f"block {index} of {len(self.boxes)}, source[{box}], failed{rest}. "
            f"{len(self.done)} blocks are kept in {self.directory}: the same call goes on with the others"
        )
        raise failure.error

    def _work_on_files(self, shapes: list[tuple[int, ...]], dtype: np.dtype[Any]) -> None:
        """Compute blocks into files of their own, and make the result of these."""
        chunks: Any = None
        if self.is_mean and len(set(shapes)) > 1:
            message = f"func: a mean needs results of one shape, and they are {sorted(set(shapes))}"
            raise ShapeError(message, name="func", got=sorted(set(shapes)), expected="one shape")
        if self.job.compression is None:
            self._check_room(sum(self._missing(shapes)) * dtype.itemsize)
        elif not (self.is_virtual or self.is_mean):
            shape, places = arrange(self.boxes, shapes)
            chunks = chunks_of(shape, dtype.itemsize, places)
        # A function that does not say what it returns may return results of any length.
        is_fixed = not self.is_virtual or takes(self.job.func, "noCompute")
        tasks = [Task(i, box, shapes[i] if is_fixed else None) for i, box in enumerate(self.boxes)]
        self._map(replace(self.job, chunks=chunks), tasks)
        self._raise_failures()
        done = [self.done[i] for i in range(len(self.boxes))]
        dtype = self._one_dtype([one.dtype for one in done])
        if self.is_virtual:
            self._finish_virtual(done, dtype)
        elif self.is_mean:
            self._finish_mean(done, dtype)
        else:
            self._finish_compressed(done, dtype, chunks)

    def _work_on_one(self, shapes: list[tuple[int, ...]], dtype: np.dtype[Any]) -> None:
        """Compute blocks into one file."""
        shape, places = arrange(self.boxes, shapes)
        partial = self._partial(shape, dtype)
        self.done = {}  # What was computed to see what the function gives is moved there.
        tasks = [Task(i, box, shapes[i], places[i]) for i, box in enumerate(self.boxes)]
        self._map(replace(self.job, partial=partial), tasks)
        self._raise_failures()
        if self.partial_path.stat().st_ino != partial.inode:
            message = f"{self.partial_path}: it is another file than when the run began"
            raise FormatError(message, path=self.partial_path, field="inode")
        self.partial_path.rename(self.path)
        _durable.sync(self.path.parent)

    def _partial(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Partial:
        """Return the file that blocks are written into: that of this run, or a new one with all its room."""
        try:
            with files.open_file(self.partial_path) as file:
                found = files.dataset_of(file, self.job.dataset)
                is_ours = json.loads(file.attrs[RUN]) == self.identity
                if is_ours and (found.shape, found.dtype) == (shape, dtype):
                    return Partial(
                        self.partial_path, self.partial_path.stat().st_ino, found.id.get_offset(), shape, dtype
                    )
        except (FileNotFoundError, FormatError, KeyError, ValueError):
            pass
        image = files.plain_image(shape, dtype, self.job.dataset, self._attributes(), {RUN: json.dumps(self.identity)})
        with files.draft(self.partial_path, image.nbytes) as draft:
            image.write(draft)
        _durable.sync(self.path.parent)
        return Partial(self.partial_path, self.partial_path.stat().st_ino, image.offset, shape, dtype)

    # The end.

    def _finish_virtual(self, done: list[Done], dtype: np.dtype[Any]) -> None:
        shape, places = arrange(self.boxes, [one.shape for one in done])
        for i, one in enumerate(done):
            self._check_block(i, one)
        sources = [
            (place, f"{self.directory.name}/{i}.h5", one.shape)
            for i, (place, one) in enumerate(zip(places, done, strict=True))
            if math.prod(one.shape)
        ]
        run = {RUN: json.dumps(self.identity)}
        image = files.virtual_image(shape, dtype, self.job.dataset, sources, self._attributes(), run)
        files.publish(self.path, image)

    def _check_block(self, index: int, done: Done) -> None:
        """Check that the file of a block is the one that was written, or another one with the same content."""
        path = self.job.journal.block(index)
        stat = path.stat() if path.exists() else None
        if stat is None or (stat.st_ino, stat.st_size) != done.identity:
            self._read_block(index, done)

    def _read_block(self, index: int, done: Done) -> AnyArray:
        found = journal.read_block(self.job.journal.block(index), self.job.dataset, done)
        if found is None:
            path = self.job.journal.block(index)
            message = f"{path}: block {index} is gone or damaged; the same call computes it again"
            raise FormatError(message, path=path, field=f"block {index}")
        return found[0]

    def _finish_mean(self, done: list[Done], dtype: np.dtype[Any]) -> None:
        if not np.issubdtype(dtype, np.number) and dtype != np.bool_:
            message = f"func: there is no mean of dtype {dtype}"
            raise DTypeError(message, name="func", got=str(dtype), supported="numbers and truth values")
        total = np.zeros(done[0].shape, np.result_type(dtype, np.float64))
        for i, one in enumerate(done):
            total += self._read_block(i, one)
        total /= len(done)
        mean = total.astype(dtype if np.issubdtype(dtype, np.inexact) else np.float64, copy=False)
        run = {RUN: json.dumps(self.identity)}
        if self.job.compression is None:
            files.publish(
                self.path, files.plain_image(mean.shape, mean.dtype, self.job.dataset, self._attributes(), run), mean
            )
        else:
            image = files.compressed_image(mean, self.job.dataset, self.job.compression, None, self._attributes(), run)
            files.publish(self.path, image)

    def _finish_compressed(self, done: list[Done], dtype: np.dtype[Any], chunks: tuple[int, ...] | None) -> None:
        """Put compressed blocks together, chunk by chunk as they are where they fit."""
        shape, places = arrange(self.boxes, [one.shape for one in done])
        paths = [self.job.journal.block(i) for i in range(len(done))]
        room = sum(path.stat().st_size for path in paths)
        with files.draft(self.path, room) as draft, files.streamed(draft) as file:
            target = file.create_dataset(
                self.job.dataset, shape, dtype, chunks=chunks or True, compression=self.job.compression
            )
            target.attrs.update(self._attributes())
            file.attrs[RUN] = json.dumps(self.identity)
            for i, (place, one) in enumerate(zip(places, done, strict=True)):
                self._check_block(i, one)
                with files.open_file(paths[i]) as opened:
                    block = files.dataset_of(opened, self.job.dataset)
                    if chunks is not None and block.chunks == chunks:
                        files.move_chunks(block, target, tuple(part.start for part in place))
                        continue
                target[place] = self._read_block(i, one)
        _durable.sync(self.path.parent)

    def _attributes(self) -> dict[str, Any]:
        """Say how the result is made."""
        import h5py

        func = inspect.unwrap(self.job.func, stop=lambda inner: not hasattr(inner, "takes_orders"))
        name = f"{getattr(func, '__module__', '')}.{getattr(func, '__qualname__', type(func).__qualname__)}"
        options = {key: value for key, value in self.job.options.items() if key != "chunkShape"}
        versions = {
            "megalith": _core.__version__,
            "numpy": np.__version__,
            "h5py": h5py.__version__,
            "hdf5": h5py.version.hdf5_version,
            "python": platform.python_version(),
        }
        return {
            "function": name,
            "code": self.identity["function"],
            "arguments": repr(self.job.args)[:MOST_TEXT],
            "cfg": repr(options)[:MOST_TEXT],
            "source": self.job.origin.text,
            "blocks": len(self.boxes),
            "versions": json.dumps(versions),
        }

    # What it takes.

    def _one_dtype(self, dtypes: list[np.dtype[Any]]) -> np.dtype[Any]:
        for dtype in dtypes:
            if dtype != dtypes[0]:
                raise other_dtype(dtype, dtypes[0])
        return dtypes[0]

    def _missing(self, shapes: list[tuple[int, ...]]) -> list[int]:
        """Return the numbers of elements of the blocks that are not there yet."""
        return [math.prod(shape) for i, shape in enumerate(shapes) if not self.job.journal.block(i).exists()]

    def _check_room(self, nbytes: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if nbytes > free:
            message = f"{self.path}: the result needs {nbytes:,} bytes more, and {free:,} are free"
            raise FileWriteError(message, path=self.path, wanted=nbytes, done=0, errno=errno.ENOSPC)

    def _block_bytes(self, expected: Expected | None = None) -> int:
        """Return the bytes of the largest block, with its result if that is known."""
        itemsize: int = self.job.origin.dtype.itemsize
        if expected is None:
            return max(math.prod(shape_of(box)) for box in self.boxes) * itemsize
        return max(
            math.prod(shape) * itemsize + math.prod(result) * dtype.itemsize
            for shape, (result, dtype) in expected.items()
        )

    def _at_once(self) -> int:
        """Return how many blocks are in the memory of this machine at once; none, if workers may be elsewhere."""
        if isinstance(self.workers, Executor):
            n = int(getattr(self.workers, "_max_workers", 1))
        elif self.workers is None or isinstance(self.workers, int):
            n = self.workers or 1
        else:
            return 0  # Each of them looks itself.
        return min(n, len(self.boxes))

"""Stacks of ``.npy`` files made from dask arrays, chunk by chunk: `Context.map_dask_array`.

A stack is a directory. Beside the files of the chunks and dask's ``info`` it has a directory ``.done`` with a record
for each finished chunk: the key of what it was made from, the digest of its content, and what its file looked like
then. The key stands for the function, its arguments, and the content of the chunk it was given: names of dask say
nothing certain of that. So each run computes the chunks of the source and digests them, and calls the function for
those that have no record with that key, or whose file is not the one of the record.

A file is on the disk before its record is written, so that after a crash of the machine a record is right or gone.
``info`` is taken away before the first file changes and written when all are there. Nothing in a stack is unpickled
here.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from megalith import _core, _durable, maps, records
from megalith._optional import is_instance, require
from megalith.arrays import Source, as_source, read_array
from megalith.arrays.source import is_lazy, mapped_file
from megalith.exceptions import ArgumentError, DTypeError, FormatError, MegalithError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from megalith._typing import AnyArray

DONE = ".done"

_NAME = re.compile(r"[A-Za-z0-9=+_-][A-Za-z0-9=+._-]{0,119}")
_TAKEN = re.compile(r"results|memcache|.*\.json|.*\.arrays")
_CHUNK_FILE = re.compile(r"\d+(\.\d+)*\.npy")


class _Made(NamedTuple):
    """A result of a chunk, as it was written."""

    digest: str
    stamp: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def map_dask_array(
    f: Callable[..., Any],
    array: Any,
    args: tuple[Any, ...],
    name: str | tuple[str, ...] | None,
    directory: Path,
    workers: Any,
    *,
    verbose: bool,
) -> Any:
    """Do what `Context.map_dask_array` does, in a directory and by some workers."""
    dask = require("dask", "dask")
    require("dask.array", "dask")
    if not is_lazy(array):
        message = f"da: got {type(array).__name__}, expected a dask.array.Array; dask.array.from_array makes one"
        raise DTypeError(message, name="da", got=type(array).__name__, supported="dask.array.Array")
    if name is None:
        name = name_of(f)
    names = name if isinstance(name, tuple) else (name,)
    paths = [directory / stack for stack in _checked(names)]
    keys = list(dask.core.flatten(array.__dask_keys__()))
    graph = _nodes(array.__dask_optimize__(array.__dask_graph__(), keys))
    _check_graph(graph, keys, paths)
    if workers is not None:
        graph = _apart(array, graph)
    grid = _Grid(array)
    graphs = [dask.optimization.cull(graph, [key])[0] for key in keys]
    task = partial(
        _make,
        f=f,
        args=args,
        function=records.digest((f, args, name), name="(f, args, name)"),
        paths=paths,
        is_several=isinstance(name, tuple),
    )
    for path in paths:
        _open_stack(path)
    made = maps.run(task, grid.files, keys, graphs, workers=workers, verbose=verbose, desc=f"map {', '.join(names)}")
    stacks = tuple(_finish(path, grid, [outputs[i] for outputs in made]) for i, path in enumerate(paths))
    return stacks if isinstance(name, tuple) else stacks[0]


def name_of(f: Any) -> str:
    """Return the name of the stack of a function, as phy chose it: that of the function without its module.

    Parameters
    ----------
    f : callable
        A function, method, partial, or an object that can be called.

    Returns
    -------
    name : str
        Without characters that have no place in the name of a file; ``'lambda'`` for those.
    """
    while not hasattr(f, "__name__") and hasattr(f, "func"):
        f = f.func
    return re.sub(r"[^A-Za-z0-9=+._-]", "", getattr(f, "__name__", type(f).__name__))


def _checked(names: tuple[Any, ...]) -> tuple[str, ...]:
    """Check the names of stacks.

    Raises
    ------
    ArgumentError
        If one is not possible, or two are the same.
    """
    allowed = "1 to 120 letters, digits or any of =+._-, not beginning with a dot"
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ArgumentError(f"name: got {name!r}, expected {allowed}", name="name", got=name, expected=allowed)
        if _TAKEN.fullmatch(name):
            message = f"name: {name!r} is taken by other things that a Context keeps; give another name"
            raise ArgumentError(message, name="name", got=name, expected=allowed)
    if not names or len(set(names)) < len(names):
        message = f"name: got {names!r}, expected a different name for each result"
        raise ArgumentError(message, name="name", got=names, expected="different names")
    return names


def _open_stack(path: Path) -> None:
    """Make the directory of a stack, if it is not there.

    Raises
    ------
    FileExistsError
        If something else has that name.
    """
    if path.exists() and not (path / DONE).is_dir() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} is there and was not made by map_dask_array; give another name")
    _durable.make_directory(path / DONE)


def _check_graph(graph: Mapping[Hashable, Any], keys: Sequence[Hashable], paths: Sequence[Path]) -> None:
    """Check that all chunks can be computed anywhere, and none from what is written.

    Raises
    ------
    ArgumentError
        If not.
    """
    needed = {*keys, *(key for node in graph.values() for key in node.dependencies)}
    futures = (is_instance(getattr(node, "value", None), "distributed", "Future") for node in graph.values())
    if not needed <= graph.keys() or any(futures):
        message = "da: its chunks are on a cluster since persist() was called; give the array from before that"
        raise ArgumentError(message, name="da", got="a persisted array", expected="an array with its graph")
    starts = tuple(f"{os.fspath(path)}{os.sep}" for path in paths)
    for node in graph.values():
        for place in _paths_in(node):
            if os.path.abspath(place).startswith(starts):  # noqa: PTH100
                message = f"name: the array is read from {place}, which would be written; give another name"
                raise ArgumentError(message, name="name", got=place, expected="the name of another stack")


def _paths_in(node: Any) -> Iterator[str]:
    """Yield what may name files in a task: its strings and paths, and the files of its memory maps."""
    if isinstance(node, str | os.PathLike):
        yield os.fspath(node)
    elif isinstance(node, np.ndarray):
        file = mapped_file(node)
        if file is not None:
            yield os.fspath(file)
    elif isinstance(node, Source):
        if node.location is not None:
            yield os.fspath(node.location)
    elif isinstance(node, list | tuple | set):
        for part in node:
            yield from _paths_in(part)
    elif isinstance(node, dict):
        yield from _paths_in(list(node.values()))
    elif isinstance(node, partial):
        yield from _paths_in((node.func, node.args, node.keywords))
    elif type(node).__module__ == "dask._task_spec":
        for attribute in ("func", "args", "kwargs", "value"):
            yield from _paths_in(getattr(node, attribute, None))


def _nodes(graph: Any) -> dict[Hashable, Any]:
    nodes: dict[Hashable, Any] = require("dask._task_spec", "dask").convert_legacy_graph(dict(graph))
    return nodes


def _apart(array: Any, graph: dict[Hashable, Any]) -> dict[Hashable, Any]:
    """Return a graph whose tasks can be sent away one by one.

    Memory maps go by the name of their file. Where several tasks take their parts of an array in memory, they are
    given these here: dask does that itself with plain arrays, and not with subclasses.
    """
    data = require("dask._task_spec", "dask").DataNode
    uses = Counter(key for node in graph.values() for key in node.dependencies)
    values = {key: node.value for key, node in graph.items() if isinstance(getattr(node, "value", None), np.ndarray)}
    sources = {key: as_source(value) for key, value in values.items() if mapped_file(value) is not None}
    whole = {key for key in values.keys() - sources.keys() if uses[key] > 1}
    if whole:  # As it was before tasks were fused.
        graph = _nodes(array.__dask_graph__())
    parts = {
        key: node({leaf: values[leaf] for leaf in node.dependencies})
        for key, node in graph.items()
        if node.dependencies and node.dependencies <= whole and _is_getter(getattr(node, "func", None))
    }
    return graph | {key: data(key, value) for key, value in (sources | parts).items()}


def _is_getter(function: Any) -> bool:
    """Whether a function of a task is one of those that take a part of an array for dask."""
    return getattr(function, "__module__", None) == "dask.array.core" and function.__name__.startswith("getter")


class _Grid:
    """The chunks of an array, in C order of their places.

    Parameters
    ----------
    array : dask.array.Array
        The array.
    """

    def __init__(self, array: Any) -> None:
        self.lengths: tuple[int, ...] = array.numblocks
        self.split = [axis for axis, n in enumerate(self.lengths) if n > 1]
        self.places = list(np.ndindex(*self.lengths))
        if len(self.split) > 1:
            self.files = [".".join(map(str, place)) for place in self.places]
        else:
            self.files = [str(i) for i in range(len(self.places))]


def _make(
    file: str,
    key: Hashable,
    graph: Mapping[Hashable, Any],
    *,
    f: Callable[..., Any],
    args: tuple[Any, ...],
    function: str,
    paths: Sequence[Path],
    is_several: bool,
) -> list[_Made]:
    """Compute a chunk, and its results if they are not there: what a worker does."""
    chunk = require("dask.local", "dask").get_sync(graph, key)
    call = records.digest((function, chunk), name="(f, chunk)")
    known = [_look_up(path, file, call) for path in paths]
    found = [made for made in known if made is not None]
    if len(found) == len(paths):
        return found
    results = f(chunk, *args)
    if not is_several:
        if isinstance(results, tuple):
            message = f"name: chunk {file} gave {len(results)} results; give a tuple of so many names"
            raise ArgumentError(message, name="name", got="one name", expected=f"{len(results)} names")
        results = (results,)
    if not isinstance(results, tuple) or len(results) != len(paths):
        given = f"{len(results)} results" if isinstance(results, tuple) else f"a {type(results).__name__}"
        message = f"name: chunk {file} gave {given} for {len(paths)} names; expected a tuple of as many"
        raise ArgumentError(message, name="name", got=len(paths), expected="one name for each result")
    arrays = [as_source(np.asanyarray(result)).array for result in results]
    return [_keep(path, file, call, array) for path, array in zip(paths, arrays, strict=True)]


def _look_up(path: Path, file: str, call: str) -> _Made | None:
    """Return the result of a chunk, if it is there and whole."""
    try:
        record = json.loads((path / DONE / f"{file}.json").read_bytes())
        if record["call"] != call:
            return None
        return _verified(path / f"{file}.npy", record["digest"], tuple(record["stamp"]))[0]
    except (OSError, ValueError, KeyError, TypeError, MegalithError):
        return None


def _verified(path: Path, digest: str, stamp: tuple[int, ...]) -> tuple[_Made, AnyArray]:
    """Map a file; if it looks other than by its stamp, its content is compared.

    Raises
    ------
    FormatError
        If its content is another.
    """
    array = read_array(path, "r")
    made = _Made(digest, _stamp(path), array.shape, array.dtype)
    if made.stamp != stamp and records.digest(np.asarray(array)) != digest:
        message = f"{path}: it has changed since map_dask_array wrote it; map the array again"
        raise FormatError(message, path=path, field="content", got=made.stamp)
    return made, array


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes with a file."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _keep(path: Path, file: str, call: str, array: AnyArray) -> _Made:
    """Write the result of a chunk and its record."""
    (path / "info").unlink(missing_ok=True)
    plan = records.plan(array, name=f"result of chunk {file}", suffix=".npy")
    place = path / f"{file}.npy"
    draft = _core.Draft(os.fspath(place), plan.nbytes)
    try:
        plan.write(draft)
        _durable.publish(draft, replace=True, mode=0o600)
    except BaseException:
        draft.discard()
        raise
    made = _Made(records.digest(array), _stamp(place), array.shape, array.dtype)
    record = {"call": call, "digest": made.digest, "stamp": made.stamp}
    _durable.write(path / DONE / f"{file}.json", json.dumps(record).encode(), 0o600, durable=False)
    return made


def _finish(path: Path, grid: _Grid, made: list[_Made]) -> Any:
    """Write what dask wants to know of a stack, and return its array."""
    stores = require("dask.array", "dask")
    chunks = _chunks(grid, made)
    dtype = made[0].dtype
    axis = (grid.split or [0])[0] if len(grid.split) < 2 else None  # dask has no stacks of grids, and must not read one
    info = pickle.dumps({"chunks": chunks, "dtype": dtype, "axis": axis})
    for old in path.iterdir():
        if _CHUNK_FILE.fullmatch(old.name) and old.stem not in grid.files:
            (path / DONE / f"{old.stem}.json").unlink(missing_ok=True)
            old.unlink(missing_ok=True)
    _durable.write(path / "info", info, 0o600)
    name = f"{path.name}-{records.digest((os.fspath(path), chunks, [one.digest for one in made]))}"
    graph = {}
    for place, file, one in zip(grid.places, grid.files, made, strict=True):
        block = (*place, *(0 for _ in chunks))[: len(chunks)]
        graph[name, *block] = (partial(_load, os.fspath(path / f"{file}.npy"), one.digest, one.stamp),)
    return stores.Array(graph, name, chunks, meta=np.empty((0,) * len(chunks), dtype))


def _load(path: str, digest: str, stamp: tuple[int, ...]) -> AnyArray:
    return _verified(Path(path), digest, stamp)[1]


def _chunks(grid: _Grid, made: list[_Made]) -> tuple[tuple[int, ...], ...]:
    """Return the lengths of chunks along each axis of results.

    Raises
    ------
    ShapeError
        If results do not fit together.
    DTypeError
        If they are of different types.
    """
    first = made[0]
    ndim = len(first.shape)
    lost = [axis for axis in grid.split if axis >= ndim]
    if lost:
        message = (
            f"f: axis {lost[0]} of the array is cut into {grid.lengths[lost[0]]} chunks, but results have shape "
            f"{first.shape}; keep the axes (keepdims=True), or rechunk the array"
        )
        raise ShapeError(message, name="f", got=first.shape, expected=f"{lost[0] + 1} axes or more")
    chunks = [[-1] * (grid.lengths[axis] if axis < len(grid.lengths) else 1) for axis in range(ndim)]
    for place, file, one in zip(grid.places, grid.files, made, strict=True):
        if one.dtype != first.dtype:
            message = f"f: the result of chunk {file} has dtype {one.dtype}, that of the first one {first.dtype}"
            raise DTypeError(message, name="f", got=str(one.dtype), supported=str(first.dtype))
        expected = []
        for axis, length in enumerate(one.shape[:ndim]):
            i = place[axis] if axis < len(place) else 0
            if chunks[axis][i] < 0:
                chunks[axis][i] = length
            expected.append(chunks[axis][i])
        if one.shape != tuple(expected) or len(one.shape) != ndim:
            message = (
                f"f: the result of chunk {file} has shape {one.shape}, beside the others it must be {tuple(expected)}"
            )
            raise ShapeError(message, name="f", got=one.shape, expected=tuple(expected))
    return tuple(map(tuple, chunks))

"""The array functions on dask arrays: the same results, of dask arrays, made when they are asked for.

Each chunk of a result is one task, which calls the function of `megalith.arrays` on the chunks it needs, so kernels run
where dask's scheduler has them. Stencils take from neighbouring chunks what their kernel reaches, and no more: that
piece is cut off where the neighbour is. What lies beyond the ends of the array is decided there, from the array itself.
Tasks name functions of this module and hold numbers and kernels; a look-up table is a task of its own, so that a worker
gets it once.

A task uses one thread, since dask runs as many tasks as there are cores, unless the caller or an environment variable
says otherwise.
"""

from __future__ import annotations

import bisect
import itertools
import math
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import megalith.arrays as settings
from megalith import _core
from megalith._optional import require
from megalith._progress import progress
from megalith._threads import requested
from megalith.arrays import blocks as cut
from megalith.arrays import kernels
from megalith.arrays.kernels.common import moved, thread_request
from megalith.arrays.kernels.correlation import extended
from megalith.arrays.kernels.lut import margins, sum_weights, table_of
from megalith.arrays.kernels.positions import bound_of, check_fits, flattened, positions_in, unflattened
from megalith.arrays.sink import Target, sink_dtype
from megalith.arrays.source import array_of, is_path
from megalith.exceptions import IndexRangeError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    import numpy.typing as npt

    from megalith._typing import AnyArray, Box, CorrelateMode, LutMode, Processes, SinkLike, SourceLike

    Put = Callable[[Box, AnyArray], None]
    # A stretch of the chunks along an axis: which chunk, and where in it.
    Stretch = tuple[int, int, int]

# Partial sums of so many chunks are added by one task.
FAN_IN = 32


class Chunks:
    """A dask array as what `Source` reads boxes from: what is asked for is computed, chunk by chunk.

    Parameters
    ----------
    array : dask.array.Array
        The array.
    """

    def __init__(self, array: Any) -> None:
        _known(array, range(array.ndim))
        self.array = array
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype: np.dtype[Any] = array.dtype
        self.chunks = tuple(max(*lengths, 1) for lengths in array.chunks)

    def __getitem__(self, key: Any) -> AnyArray:
        part = self.array[key]
        values = _core.empty(part.shape, part.dtype)
        store(part, values.__setitem__)
        return values


def store(array: Any, put: Put) -> None:
    """Compute a dask array and hand its chunks over, one at a time.

    Parameters
    ----------
    array : dask.array.Array
        The array, with chunks of known lengths.
    put : callable
        Takes the box of a chunk and its values.

    Notes
    -----
    The threads of this process hand chunks over as they finish them, in one run over the graph. Those of schedulers in
    other processes come in groups of 64 MiB, or of two for each core where that is more.
    """
    dask, stores = require("dask", "dask"), require("dask.array", "dask")
    scheduler = dask.base.get_scheduler(collections=[array])
    if scheduler in (dask.threaded.get, dask.local.get_sync):
        stores.store(array, _Sink(array, put), lock=True, scheduler=scheduler)
        return
    with _pool(scheduler) as options:
        for group in _groups(stores.core.slices_from_chunks(array.chunks), array.dtype.itemsize):
            found = dask.compute(*(array[box] for box in group), scheduler=scheduler, **options)
            for box, values in zip(group, found, strict=True):
                put(box, np.asarray(values, array.dtype))


@contextmanager
def _pool(scheduler: Any) -> Iterator[dict[str, Any]]:
    """Start the processes of dask's scheduler for processes once, which otherwise starts them for each computation."""
    dask, schedulers = require("dask", "dask"), require("dask.multiprocessing", "dask")
    if scheduler is not schedulers.get or dask.config.get("pool", None) is not None:
        yield {}
        return
    with ProcessPoolExecutor(
        dask.config.get("num_workers", None) or dask.system.CPU_COUNT,
        mp_context=schedulers.get_context(),
        initializer=schedulers.initialize_worker_process,
    ) as pool:
        yield {"pool": pool}


class _Sink:
    """What `dask.array.store` puts chunks into."""

    def __init__(self, array: Any, put: Put) -> None:
        self._put, self.shape, self.dtype = put, array.shape, array.dtype

    def __setitem__(self, box: Box, values: Any) -> None:
        self._put(box, np.asarray(values, self.dtype))


def _groups(boxes: list[Box], itemsize: int) -> Iterator[list[Box]]:
    """Group chunks so that those of a group have the size of a window, or keep all cores busy."""
    least = 2 * _core.default_threads()
    group: list[Box] = []
    held = 0
    for box in boxes:
        group.append(box)
        held += itemsize * math.prod(part.stop - part.start for part in box)
        if held >= cut.WINDOW_BYTES and len(group) >= least:
            yield group
            group, held = [], 0
    if group:
        yield group


def apply_lut(
    source: Any,
    lut: SourceLike,
    sink: SinkLike = None,
    blocks: int | None = None,
    processes: Processes = None,
    verbose: bool = False,
    *,
    mode: LutMode = "raise",
) -> Any:
    """`megalith.apply_lut` of a dask array."""
    table = table_of(lut)
    like = kernels.apply_lut(_empty(source), table, _empty_like(sink, source.ndim), blocks, processes, mode=mode)
    name = _name("apply_lut", source, table, like.dtype, mode)
    task = partial(_apply_lut, mode=mode, threads=thread_request(processes))
    tasks: dict[Hashable, Any] = {f"lut-{name}": table.astype(like.dtype, copy=False)}
    edges = _edges(source)
    for place in np.ndindex(*source.numblocks):
        start = tuple(ends[i] for ends, i in zip(edges, place, strict=True))
        tasks[name, *place] = (partial(task, start=start), (source.name, *place), f"lut-{name}")
    return _into(_array(name, tasks, source, source.chunks, like.dtype), sink, verbose, "apply_lut")


def _apply_lut(
    values: AnyArray, table: AnyArray, *, start: tuple[float, ...], mode: LutMode, threads: int | None
) -> AnyArray:
    try:
        found: AnyArray = kernels.apply_lut(values, table, processes=_threads(threads), mode=mode)
    except IndexRangeError as error:
        if any(math.isnan(first) for first in start):
            raise
        raise moved(error, start) from None  # type: ignore[arg-type]
    return found


def apply_lut_to_index(
    source: Any,
    kernel: SourceLike,
    lut: SourceLike,
    sink: SinkLike = None,
    processes: Processes = None,
    verbose: bool = False,
) -> Any:
    """`megalith.apply_lut_to_index` of a dask array."""
    weights, table = array_of(kernel), table_of(lut)
    like = kernels.apply_lut_to_index(_empty(source), weights, table, _empty_like(sink, source.ndim), processes)
    _known(source, range(source.ndim))
    before, after = margins(weights.shape)
    name = _name("apply_lut_to_index", source, weights, table, like.dtype)
    task = partial(_apply_lut_to_index, weights=weights, threads=thread_request(processes))
    tasks: dict[Hashable, Any] = {f"lut-{name}": table.astype(like.dtype, copy=False)}
    edges = _edges(source)
    for place in np.ndindex(*source.numblocks):
        box = tuple(slice(ends[i], ends[i + 1]) for ends, i in zip(edges, place, strict=True))
        is_empty = any(part.start == part.stop for part in box)
        grown, inner = (box, box) if is_empty else cut.with_halo(box, source.shape, before, after)
        stretches = [
            [(i, 0, part.stop - part.start)] if is_empty else _stretches(ends, part.start, part.stop)
            for i, ends, part in zip(place, edges, grown, strict=True)
        ]
        pieces = _pieces(tasks, name, source, stretches)
        start = tuple(part.start for part in box)
        tasks[name, *place] = (partial(task, inner=inner, start=start), pieces, f"lut-{name}")
    return _into(_array(name, tasks, source, source.chunks, like.dtype), sink, verbose, "apply_lut_to_index")


def _apply_lut_to_index(
    pieces: Any,
    table: AnyArray,
    *,
    weights: AnyArray,
    inner: Box,
    start: tuple[int, ...],
    threads: int | None,
) -> AnyArray:
    values = _joined(pieces)
    threads = _threads(threads)
    wanted = tuple(part.stop - part.start for part in inner)
    try:
        if values.shape == wanted:
            whole: AnyArray = kernels.apply_lut_to_index(values, weights, table, processes=threads)
            return whole
        out = _core.empty(wanted, table.dtype)
        begin = tuple(part.start for part in inner)
        _core.apply_lut_to_index(values, sum_weights(weights, values.dtype), table, out, begin, threads)
        return out
    except IndexRangeError as error:
        raise moved(error, start) from None


def correlate1d(
    source: Any,
    kernel: SourceLike,
    sink: SinkLike = None,
    axis: int = 0,
    processes: Processes = None,
    verbose: bool = False,
    *,
    mode: CorrelateMode = "constant",
    cval: complex = 0.0,
    origin: int = 0,
    dtype: npt.DTypeLike | None = None,
    fast: bool = False,
) -> Any:
    """`megalith.correlate1d` of a dask array."""
    weights = array_of(kernel)
    options: dict[str, Any] = {"axis": axis, "cval": cval, "origin": origin, "fast": fast}
    like = kernels.correlate1d(
        _empty(source), weights, _empty_like(sink, source.ndim), processes=processes, mode=mode, dtype=dtype, **options
    )
    axis %= source.ndim
    lengths = source.chunks[axis]
    if len(lengths) > 1:
        _known(source, [axis])
    name = _name("correlate1d", source, weights, like.dtype, mode, tuple(options.values()))
    task = partial(
        _correlate1d, weights=weights, dtype=like.dtype, threads=thread_request(processes), **options, mode=mode
    )
    tasks: dict[Hashable, Any] = {}
    edges = _edges(source)
    reach = _Reach(source.shape[axis], weights.size // 2 + origin, (weights.size - 1) // 2 - origin, mode)
    for i in range(len(lengths)):
        if len(lengths) == 1 or lengths[i] == 0:
            part, stretches = task, [(i, 0, lengths[i])]
        else:
            span = edges[axis][i], edges[axis][i + 1]
            part = partial(task, reach=reach, span=span)
            stretches = [s for low, high in cut.runs(reach.needed(*span)) for s in _stretches(edges[axis], low, high)]
        others = [range(n) if k != axis else (i,) for k, n in enumerate(source.numblocks)]
        for place in itertools.product(*others):
            whole = [[(j, 0, source.chunks[k][j])] for k, j in enumerate(place)]
            whole[axis] = stretches
            keys = [_piece(tasks, name, source, piece) for piece in itertools.product(*whole)]
            tasks[name, *place] = (part, keys)
    return _into(_array(name, tasks, source, source.chunks, like.dtype), sink, verbose, "correlate1d")


class _Reach:
    """What a kernel reaches along an axis that is cut.

    Parameters
    ----------
    n : int
        Length of the axis.
    before, after : int
        How far the kernel reaches from a position.
    mode : str
        What lies beyond the ends.
    """

    def __init__(self, n: int, before: int, after: int, mode: str) -> None:
        self.n, self.before, self.after, self.mode = n, before, after, mode

    def line(self, start: int, stop: int) -> tuple[npt.NDArray[np.int64], int]:
        """Return where the values around a chunk come from, and how many of them come before it.

        Nothing lies beyond the ends under 'constant': the line ends there, and the kernel fills in the value.
        """
        line = np.arange(start - self.before, stop + self.after, dtype=np.int64)
        if self.mode not in ("constant", "grid-constant"):
            return extended(line, self.n, self.mode), self.before
        line = line[(line >= 0) & (line < self.n)]
        return line, start - int(line[0])

    def needed(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the positions that the values around a chunk come from, each once, in order."""
        return np.unique(self.line(start, stop)[0])


def _correlate1d(
    pieces: list[AnyArray],
    *,
    weights: AnyArray,
    threads: int | None,
    axis: int,
    mode: CorrelateMode,
    reach: _Reach | None = None,
    span: tuple[int, int] = (0, 0),
    **options: Any,
) -> AnyArray:
    values = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis)
    options |= {"axis": axis, "processes": _threads(threads)}
    if reach is None:
        whole: AnyArray = kernels.correlate1d(values, weights, mode=mode, **options)
        return whole
    line, skip = reach.line(*span)
    needed = reach.needed(*span)
    if len(line) != len(needed) or (line[1:] < line[:-1]).any():
        values = np.take(values, np.searchsorted(needed, line), axis)
    inner = [slice(None)] * values.ndim
    inner[axis] = slice(skip, skip + span[1] - span[0])
    found = kernels.correlate1d(values, weights, mode="constant", **options)
    return _without_margin(found[tuple(inner)], found.size)


def where(
    source: Any,
    sink: SinkLike = None,
    blocks: int | None = None,
    cutoff: int | None = None,
    processes: Processes = None,
    verbose: bool = False,
    *,
    dtype: npt.DTypeLike = np.int64,
    above: Any = None,
) -> Any:
    """`megalith.where` of a dask array.

    Positions are found chunk by chunk. Those of a row of chunks, which share their stretch of the first axis, become
    one chunk of the result and are sorted into C order there: memory holds their positions, never their elements. Where
    chunks have length 1 along the first axis, rows share their stretch of the next one too, and so on.
    """
    find_options = {"dtype": dtype, "above": above, "processes": processes}
    like = kernels.where(_empty(source), _no_rows(sink, source.ndim), blocks, cutoff, **find_options)
    _known(source, range(source.ndim))
    check_fits(source.shape, like.dtype)
    bound = None if above is None else bound_of(above, source.dtype)
    name = _name("where", source, like.dtype, bound)
    find = partial(_find, bound=bound, threads=thread_request(processes))
    edges = _edges(source)
    # In a row all leading axes but the last have one index: so rows follow each other in C order.
    n_leading = next((axis for axis, c in enumerate(source.chunks) if max(c) > 1), source.ndim - 1) + 1
    tasks: dict[Hashable, Any] = {}
    for row, first in enumerate(np.ndindex(*source.numblocks[:n_leading])):
        key = (name, row) if source.ndim == 1 else (name, row, 0)
        places = [(*first, *rest) for rest in np.ndindex(*source.numblocks[n_leading:])]
        starts = [tuple(ends[i] for ends, i in zip(edges, place, strict=True)) for place in places]
        if len(places) == 1:
            tasks[key] = (partial(find, start=starts[0], dtype=like.dtype), (source.name, *places[0]))
            continue
        parts: list[Hashable] = [(f"find-{name}", *place) for place in places]
        for part, place, start in zip(parts, places, starts, strict=True):
            tasks[part] = (partial(find, start=start, shape=source.shape), (source.name, *place))
        tasks[key] = (partial(_sorted, shape=source.shape, dtype=like.dtype), parts)
    rows = (math.nan,) * math.prod(source.numblocks[:n_leading])
    found = _array(name, tasks, source, (rows,) if source.ndim == 1 else (rows, (source.ndim,)), like.dtype)
    if sink is not None:
        found.compute_chunk_sizes()
    return _into(found, sink, verbose, "where")


def _find(
    values: AnyArray,
    *,
    start: tuple[int, ...],
    bound: Any,
    threads: int | None,
    dtype: npt.DTypeLike = np.int64,
    shape: tuple[int, ...] | None = None,
) -> AnyArray:
    found = positions_in(array_of(values), bound, np.dtype(dtype), _threads(threads))
    if shape is not None:
        return flattened(found, start, shape)
    found += np.array(start, dtype=dtype)
    return found


def _sorted(parts: list[npt.NDArray[np.int64]], *, shape: tuple[int, ...], dtype: np.dtype[Any]) -> AnyArray:
    flat = np.concatenate(parts)
    flat.sort()
    return unflattened(flat, shape, dtype)


def block_sums(source: Any, blocks: int | None = None, processes: Processes = None) -> Any:
    """`megalith.block_sums` of a dask array.

    Sums are made in each chunk and added in the order of the chunks: those of floats can differ in the last bits from
    those of the same array in memory, or in other chunks, but not from one run to the next.
    """
    like = kernels.block_sums(_empty(source), blocks, processes)
    return _reduced(source, "block_sums", like.dtype, blocks, processes)


def block_counts(source: Any, blocks: int | None = None, processes: Processes = None) -> Any:
    """`megalith.block_counts` of a dask array."""
    like = kernels.block_counts(_empty(source), blocks, processes)
    return _reduced(source, "block_counts", like.dtype, blocks, processes)


def _reduced(source: Any, kernel: str, dtype: np.dtype[Any], blocks: int | None, processes: Processes) -> Any:
    _known(source, range(source.ndim))
    n_blocks = min(cut.block_count(blocks, processes), int(source.size))
    name = _name(kernel, source, n_blocks)
    task = partial(
        _sums_of_chunk,
        kernel=kernel,
        dtype=dtype,
        shape=source.shape,
        n_blocks=n_blocks,
        threads=thread_request(processes),
    )
    tasks: dict[Hashable, Any] = {}
    edges = _edges(source)
    parts: list[Hashable] = []
    for place in np.ndindex(*source.numblocks):
        start = tuple(ends[i] for ends, i in zip(edges, place, strict=True))
        parts.append((f"chunk-{name}", *place))
        tasks[parts[-1]] = (partial(task, start=start), (source.name, *place))
    level = 0
    while len(parts) > FAN_IN:
        groups = [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]
        parts = [(f"level-{name}", level, i) for i in range(len(groups))]
        tasks.update((part, (_sums_added, group)) for part, group in zip(parts, groups, strict=True))
        level += 1
    tasks[name, 0] = (partial(_all_sums, n_blocks=n_blocks, dtype=dtype), parts)
    return _array(name, tasks, source, ((n_blocks,),), dtype)


def _sums_of_chunk(
    values: AnyArray,
    *,
    kernel: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    start: tuple[int, ...],
    n_blocks: int,
    threads: int | None,
) -> tuple[int, AnyArray]:
    """Return the first block that a chunk has elements of, and its sums of that and the next ones."""
    values = array_of(values)
    if values.size == 0:
        return 0, np.zeros(0, dtype)
    if values.ndim == 0:
        values, shape, start = values.reshape(1), (1,), (0,)
    low, high, size = 0, 0, math.prod(shape)
    for first, length, n in zip(start, values.shape, shape, strict=True):
        low, high = low * n + first, high * n + first + length - 1
    # Block b is from b * size // n_blocks on.
    first_block, last_block = (((position + 1) * n_blocks - 1) // size for position in (low, high))
    boundaries = cut.boundaries(size, n_blocks, first_block, last_block + 2)
    sums = np.zeros(len(boundaries) - 1, dtype)
    inside = _counts_before(boundaries, start, values.shape, shape)
    getattr(_core, kernel)(values, inside, sums, _threads(threads))
    return first_block, sums


def _counts_before(
    flat: npt.NDArray[np.int64], start: tuple[int, ...], lengths: tuple[int, ...], shape: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """Return how many elements of a box come before each C-order position of the array."""
    counts = np.zeros(len(flat), np.int64)
    is_inside = np.ones(len(flat), bool)
    for axis, (first, length) in enumerate(zip(start, lengths, strict=True)):
        index, flat = np.divmod(flat, math.prod(shape[axis + 1 :]))
        counts += np.where(is_inside, (index - first).clip(0, length) * math.prod(lengths[axis + 1 :]), 0)
        is_inside &= (index >= first) & (index < first + length)
    return counts


def _sums_added(parts: list[tuple[int, AnyArray]]) -> tuple[int, AnyArray]:
    parts = [part for part in parts if len(part[1])] or parts[:1]
    low = min(first for first, _ in parts)
    total = np.zeros(max(first + len(sums) for first, sums in parts) - low, parts[0][1].dtype)
    with np.errstate(invalid="ignore"):
        for first, sums in parts:
            total[first - low : first - low + len(sums)] += sums
    return low, total


def _all_sums(parts: list[tuple[int, AnyArray]], *, n_blocks: int, dtype: np.dtype[Any]) -> AnyArray:
    return _sums_added([(0, np.zeros(n_blocks, dtype)), *parts])[1]


def _threads(asked: int | None) -> int | None:
    """Return the number of threads of a kernel in a task, None if an environment variable says it."""
    asked = asked or requested(None, settings.default_processes)
    if asked is None and not any(os.environ.get(name) for name in ("MEGALITH_NUM_THREADS", "OMP_NUM_THREADS")):
        return 1
    return asked


def _known(source: Any, axes: Sequence[int]) -> None:
    """Check that the lengths of chunks along some axes are known.

    Raises
    ------
    ShapeError
        If they are not.
    """
    if any(math.isnan(length) for axis in axes for length in source.chunks[axis]):
        message = "source: it does not know the lengths of its chunks; call its compute_chunk_sizes() first"
        raise ShapeError(message, name="source", got=source.shape, expected="known lengths")


def _empty(source: Any) -> AnyArray:
    """Return an array like a dask array but without elements, for functions to check their other arguments with."""
    return np.zeros((0,) * source.ndim, source.dtype)


def _empty_like(sink: SinkLike, ndim: int) -> AnyArray | None:
    return None if sink is None or is_path(sink) else np.zeros((0,) * ndim, sink_dtype(sink))


def _no_rows(sink: SinkLike, ndim: int) -> AnyArray | None:
    if sink is None or is_path(sink):
        return None
    return np.zeros((0,) if ndim == 1 else (0, ndim), sink_dtype(sink))


def _name(function: str, source: Any, *arguments: Any) -> str:
    """Name a result by what it is made of, as dask does."""
    return f"{function}-{require('dask.base', 'dask').tokenize(source.name, *arguments)}"


def _array(name: str, tasks: dict[Hashable, Any], source: Any, chunks: Any, dtype: np.dtype[Any]) -> Any:
    stores, graphs = require("dask.array", "dask"), require("dask.highlevelgraph", "dask")
    graph = graphs.HighLevelGraph.from_collections(name, tasks, dependencies=[source])
    return stores.Array(graph, name, chunks, meta=np.empty((0,) * len(chunks), dtype))


def _into(result: Any, sink: SinkLike, verbose: bool, name: str) -> Any:
    """Compute a result into a sink, if there is one."""
    if sink is None:
        return result
    _known(result, range(result.ndim))
    shape = tuple(int(n) for n in result.shape)
    nbytes = math.prod(shape) * result.dtype.itemsize
    with Target(sink, shape, result.dtype, "C") as target, progress(verbose, name, nbytes) as bar:
        bar.split(result.npartitions)

        def put(box: Box, values: AnyArray) -> None:
            target.store(box, values)
            bar.part_done()

        store(result, put)
    return target.result


def _edges(source: Any) -> list[list[Any]]:
    """Return where chunks begin along each axis, and where the last one ends."""
    return [list(itertools.accumulate(lengths, initial=0)) for lengths in source.chunks]


def _stretches(ends: list[int], low: int, high: int) -> list[Stretch]:
    """Return the chunks that positions low to high of an axis lie in, and where in them."""
    first, last = bisect.bisect_right(ends, low) - 1, bisect.bisect_left(ends, high)
    return [
        (i, max(low - ends[i], 0), min(high, ends[i + 1]) - ends[i])
        for i in range(first, last)
        if ends[i] < ends[i + 1]
    ]


def _piece(tasks: dict[Hashable, Any], name: str, source: Any, stretches: Sequence[Stretch]) -> Hashable:
    """Return the key of a piece of a chunk: the chunk itself, or a task that cuts it off."""
    place = tuple(i for i, _, _ in stretches)
    block = (source.name, *place)
    # No length is less than one that is not known.
    if all(low == 0 and not high < source.chunks[axis][i] for axis, (i, low, high) in enumerate(stretches)):
        return block
    box = tuple(slice(low, None if math.isnan(high) else high) for _, low, high in stretches)
    key = (f"piece-{name}", *place, *(bound for _, low, high in stretches for bound in (low, high)))
    tasks[key] = (partial(_cut, box=box), block)
    return key


def _cut(values: AnyArray, *, box: Box) -> AnyArray:
    return values[box].copy()


def _pieces(tasks: dict[Hashable, Any], name: str, source: Any, stretches: list[list[Stretch]]) -> Any:
    """Return the keys of all pieces of a box, nested as `numpy.block` wants arrays."""

    def nest(chosen: tuple[Stretch, ...]) -> Any:
        if len(chosen) == len(stretches):
            return _piece(tasks, name, source, chosen)
        return [nest((*chosen, stretch)) for stretch in stretches[len(chosen)]]

    return nest(())


def _without_margin(found: AnyArray, size: int) -> AnyArray:
    """Return a view of results of that size; a copy where it would keep more of a margin than of the results."""
    return found if 2 * found.size >= size else found.copy()


def _joined(pieces: Any) -> AnyArray:
    only = pieces
    while isinstance(only, list) and len(only) == 1:
        only = only[0]
    return np.block(pieces) if isinstance(only, list) else only

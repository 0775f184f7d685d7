"""How an array is cut: boundaries of even blocks, and boxes that fit in memory."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

import megalith.arrays as settings
from megalith import _core
from megalith._checks import positive_int
from megalith._threads import requested
from megalith.arrays.source import as_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from megalith._typing import Box, Order, Processes, SourceLike

    Step = tuple[int, int]

# Bytes of a window onto a file or dataset: two of them and their results are all a streamed kernel holds.
WINDOW_BYTES = 1 << 26


def thread_count(processes: Processes) -> int:
    """Return the number of threads a call would use."""
    return requested(processes, settings.default_processes) or _core.default_threads()


def block_count(blocks: int | None, processes: Processes) -> int:
    """Return the number of blocks a call would make."""
    if blocks is not None:
        return positive_int("blocks", blocks)
    return thread_count(processes) * positive_int("default_blocks_per_process", settings.default_blocks_per_process)


def block_ranges(source: SourceLike, blocks: int | None = None, processes: Processes = None) -> npt.NDArray[np.int64]:
    """Cut an array into even blocks of its C-order sequence.

    Parameters
    ----------
    source : array-like
        The array; only its size matters.
    blocks : int, optional
        Number of blocks; at most one for each element. None means `default_blocks_per_process` for each thread.
    processes : int or 'serial', optional
        Number of threads the default of `blocks` is made for.

    Returns
    -------
    boundaries : (blocks + 1,) ndarray of int64
        Block ``b`` is ``boundaries[b]`` up to ``boundaries[b + 1]``; boundary ``b`` is ``b * size // blocks``.

    Raises
    ------
    ArgumentError
        If `blocks` or `processes` is 0, negative or no whole number.

    Notes
    -----
    Integers throughout: no boundary is rounded at large sizes. No element is read.

    References
    ----------
    .. [1] ClearMap ``ArrayProcessing.block_ranges``.

    Examples
    --------
    >>> import numpy as np
    >>> import megalith
    >>> megalith.block_ranges(np.zeros(10), blocks=3)
    array([ 0,  3,  6, 10])
    """
    return ranges_of(as_source(source).size, blocks, processes)


def ranges_of(size: int, blocks: int | None, processes: Processes) -> npt.NDArray[np.int64]:
    """Return `block_ranges` of an array of so many elements."""
    blocks = min(block_count(blocks, processes), size)
    if blocks == 0:
        return np.zeros(1, dtype=np.int64)
    return boundaries(size, blocks, 0, blocks + 1)


def boundaries(size: int, blocks: int, first: int, stop: int) -> npt.NDArray[np.int64]:
    """Return where the blocks from `first` up to `stop` of so many begin: block b at ``b * size // blocks``."""
    found = np.empty(stop - first, np.int64)
    _core.block_boundaries(size, blocks, first, found)
    return found


def boxes(
    shape: tuple[int, ...],
    itemsize: int,
    order: Order,
    *,
    chunks: tuple[int, ...] | None = None,
    start: tuple[int, ...] | None = None,
    sink_chunks: tuple[int, ...] | None = None,
    sink_start: tuple[int, ...] | None = None,
    keep: int | None = None,
    budget: int | None = None,
) -> list[Box]:
    """Cut an array into boxes of about `budget` bytes.

    Parameters
    ----------
    shape : tuple of int
        The shape of the array.
    itemsize : int
        Bytes of an element.
    order : {'C', 'F'}
        Order of the elements in the file: boxes are long where the file is.
    chunks : tuple of int, optional
        Chunks that are read whole; boxes end where they do.
    start : tuple of int, optional
        Where the array begins in the one that has the chunks, if it is a part of it.
    sink_chunks : tuple of int, optional
        Chunks that the result is written in. Boxes end where they do too; where no box within the budget does both,
        each of these is written once and chunks of the source are read more than once.
    sink_start : tuple of int, optional
        Where the result begins in the array that has these chunks.
    keep : int, optional
        An axis to leave whole unless nothing else is left to cut.
    budget : int, optional
        Bytes of a box, `WINDOW_BYTES` by default.

    Returns
    -------
    boxes : list of tuple of slice
        In C order of their first elements.
    """
    budget = WINDOW_BYTES if budget is None else budget
    block = [max(n, 1) for n in shape]
    axes = list(range(len(shape))) if order == "C" else list(range(len(shape)))[::-1]
    if keep is not None:
        axes = [axis for axis in axes if axis != keep] + [keep]
    grids = [_grid(shape, chunks, start), _grid(shape, sink_chunks, sink_start)]
    grid = grids[1] if sink_chunks is not None else grids[0]
    if chunks is not None and sink_chunks is not None:
        # A chunk that is larger than the budget is in memory all the same when it is read.
        most = max(budget, _cell(grids[0], block) * itemsize)
        for axis in axes[::-1]:
            joint = list(grid)
            joint[axis] = _joint(grids[0][axis], grids[1][axis], block[axis])
            if _cell(joint, block) * itemsize <= most:
                grid = joint
    for axis in axes:
        inner = math.prod(block) // block[axis] * max(itemsize, 1)
        if inner * block[axis] <= budget:
            break
        step = grid[axis][0]
        block[axis] = min(max(budget // inner // step, 1) * step, block[axis])
    cuts = [_cuts(*each) for each in zip(shape, block, grid, strict=True)]
    return list(itertools.product(*cuts))


def _grid(shape: tuple[int, ...], chunks: tuple[int, ...] | None, start: tuple[int, ...] | None) -> list[Step]:
    """Return for each axis the length of a chunk, and where the first whole one begins."""
    lengths = [1] * len(shape) if chunks is None else [max(length, 1) for length in chunks]
    return [(length, -at % length) for length, at in zip(lengths, start or (0,) * len(shape), strict=True)]


def _cell(grid: list[Step], shape: list[int]) -> int:
    """Return the elements between the cuts of a grid, or of all of the array if it has fewer."""
    return math.prod(min(step, n) for (step, _), n in zip(grid, shape, strict=True))


def _joint(one: Step, other: Step, n: int) -> Step:
    """Return the step from one place to the next where chunks of both grids begin, n if there is none."""
    step = math.lcm(one[0], other[0])
    found = (at for at in range(one[1], min(n, step), one[0]) if at % other[0] == other[1])
    first = next(found, None)
    return (n, 0) if first is None else (step, first)


def _cuts(n: int, length: int, grid: Step) -> list[slice]:
    """Cut an axis into stretches of a length, the first one short so that the others begin where chunks do."""
    step, first = grid
    if length >= n:
        return [slice(0, n)] if n else []
    starts = range(first + length - step if first else length, n, length)
    return [slice(low, high) for low, high in itertools.pairwise([0, *starts, n])]


def in_c_order(found: list[Box], shape: tuple[int, ...]) -> bool:
    """Whether boxes, one after the other, are the C-order sequence of the array."""
    if len(found) < 2:
        return True
    for box in found:
        split = next((axis for axis, part in enumerate(box) if part.stop - part.start > 1), len(shape))
        if any(part.stop - part.start != n for part, n in zip(box[split + 1 :], shape[split + 1 :], strict=True)):
            return False
    return True


def with_halo(box: Box, shape: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...]) -> tuple[Box, Box]:
    """Grow a box by a margin, inside of the array.

    Returns
    -------
    grown : tuple of slice
        What has to be read.
    inner : tuple of slice
        Where in it the box is.
    """
    grown = tuple(
        slice(max(part.start - low, 0), min(part.stop + high, n))
        for part, n, low, high in zip(box, shape, before, after, strict=True)
    )
    inner = tuple(slice(part.start - out.start, part.stop - out.start) for part, out in zip(box, grown, strict=True))
    return grown, inner


def flat_start(box: Box, shape: tuple[int, ...]) -> int:
    """Return the C-order position of the first element of a box."""
    position = 0
    for part, n in zip(box, shape, strict=True):
        position = position * n + part.start
    return position


def runs(positions: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut positions into stretches that rise by one: (start, stop) of each."""
    breaks = np.flatnonzero(np.diff(positions) != 1) + 1
    for part in np.split(positions, breaks):
        if part.size:
            yield int(part[0]), int(part[-1]) + 1

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
    size = as_source(source).size
    blocks = min(block_count(blocks, processes), size)
    if blocks == 0:
        return np.zeros(1, dtype=np.int64)
    return boundaries(size, blocks, np.arange(blocks + 1, dtype=np.int64))


def boundaries(size: int, blocks: int, i: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return where the blocks `i` of so many begin: ``i * size // blocks``, without a product that is too large."""
    whole, rest = divmod(size, blocks)
    return i * whole + i * rest // blocks


def boxes(
    shape: tuple[int, ...],
    itemsize: int,
    order: Order,
    *,
    chunks: tuple[int, ...] | None = None,
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
    for axis in axes:
        inner = math.prod(block) // block[axis] * max(itemsize, 1)
        if inner * block[axis] <= budget:
            break
        step = max(budget // inner, 1)
        if chunks is not None:
            step = max(step // chunks[axis], 1) * chunks[axis]
        block[axis] = min(step, block[axis])
    cuts = [
        [slice(start, min(start + step, n)) for start in range(0, n, step)]
        for n, step in zip(shape, block, strict=True)
    ]
    return list(itertools.product(*cuts))


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

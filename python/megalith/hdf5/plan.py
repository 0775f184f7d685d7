"""Which blocks there are, and where their results lie in the whole."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from megalith import _checks
from megalith.exceptions import ArgumentError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from megalith._typing import Box

# Bytes of a block if the caller does not say how many there are. What workers there are plays no part in it: a run that
# is taken up elsewhere has the same blocks.
BLOCK_BYTES = 1 << 24

# Bytes of a chunk of a compressed dataset, about.
CHUNK_BYTES = 1 << 20


def cut(shape: tuple[int, ...], dtype: np.dtype[Any], blocks: Any) -> list[Box]:
    """Return the boxes of the blocks.

    Parameters
    ----------
    shape : tuple of int
        Shape of the source.
    dtype : numpy.dtype
        Type of its elements.
    blocks : int, list of slice or tuple of slice, or None
        How many along the first axis (at most one for each index), or the boxes themselves. None makes blocks of
        16 MiB.

    Raises
    ------
    ArgumentError
        If it is none of these, or there are no blocks.
    ShapeError, IndexRangeError
        If a slice leaves the source, or the source has no axes.
    """
    if not shape:
        message = "source: it has no axes, so there are no blocks; give an array of one dimension or more"
        raise ShapeError(message, name="source", got=shape, expected="1 dimension or more")
    if isinstance(blocks, list | tuple):
        boxes = [_box(entry, shape) for entry in blocks]
        if not boxes:
            message = "blocks: got no slices, expected one for each block"
            raise ArgumentError(message, name="blocks", got=blocks, expected="1 block or more")
        return boxes
    n = shape[0]
    if blocks is None:
        blocks = math.ceil(math.prod(shape) * dtype.itemsize / BLOCK_BYTES) or 1
    count = max(min(_checks.positive_int("blocks", blocks), n), 1)
    rest = tuple(slice(0, length) for length in shape[1:])
    return [(slice(i * n // count, (i + 1) * n // count), *rest) for i in range(count)]


def _box(entry: Any, shape: tuple[int, ...]) -> Box:
    entries = entry if isinstance(entry, tuple) else (entry,)
    expected = "slices of step 1"
    if not all(part is Ellipsis or isinstance(part, slice) for part in entries):
        message = f"blocks: got {entry!r}, expected {expected}; write slice(i, i + 1) for an index"
        raise ArgumentError(message, name="blocks", got=entry, expected=expected)
    box, _, steps = _checks.box(entries, shape)
    if any(step != slice(None) for step in steps):
        raise ArgumentError(f"blocks: got {entry!r}, expected {expected}", name="blocks", got=entry, expected=expected)
    return box


def shape_of(box: Box) -> tuple[int, ...]:
    """Return the shape of a box."""
    return tuple(part.stop - part.start for part in box)


def arrange(boxes: Sequence[Box], shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], list[Box]]:
    """Put the results of all blocks together.

    Blocks that form a grid in the source form the same grid in the result. All others, and blocks that differ along the
    first axis alone, follow one another along the first axis. Results without axes become one element each.

    Parameters
    ----------
    boxes : sequence of tuple of slice
        The blocks in the source.
    shapes : sequence of tuple of int
        The shapes of their results.

    Returns
    -------
    shape : tuple of int
        The shape of the whole.
    places : list of tuple of slice
        Where the result of each block lies in it.

    Raises
    ------
    ShapeError
        If the results do not fit together.
    """
    shapes = [shape or (1,) for shape in shapes]
    grid = _grid(boxes)
    ndim = len(shapes[0])
    for i, shape in enumerate(shapes):
        if len(shape) != ndim:
            message = f"block {i}: its result has shape {shape}, that of block 0 has shape {shapes[0]}"
            raise ShapeError(message, name="func", got=shape, expected=shapes[0])
    if any(len(starts) > 1 for starts in grid[ndim:]):
        message = f"func: blocks form a grid of {len(grid)} axes, and results have {ndim}: {shapes[0]}"
        raise ShapeError(message, name="func", got=shapes[0], expected=f"{len(grid)} dimensions")
    coordinates = [
        tuple(starts[box[axis].start] for axis, starts in enumerate(grid[:ndim])) if grid else (i,)
        for i, box in enumerate(boxes)
    ]
    stretches: list[list[slice]] = []
    for axis in range(ndim):
        lengths: dict[int, int] = {}
        for i, (place, shape) in enumerate(zip(coordinates, shapes, strict=True)):
            k = place[axis] if axis < len(place) else 0
            if lengths.setdefault(k, shape[axis]) != shape[axis]:
                message = (
                    f"block {i}: its result has shape {shape}; along axis {axis} it must have length {lengths[k]}, "
                    "as the results beside it"
                )
                raise ShapeError(message, name="func", got=shape, expected=lengths[k])
        ends = [0]
        for k in sorted(lengths):
            ends.append(ends[-1] + lengths[k])
        stretches.append([slice(start, stop) for start, stop in itertools.pairwise(ends)])
    places = [
        tuple(stretches[axis][place[axis] if axis < len(place) else 0] for axis in range(ndim)) for place in coordinates
    ]
    return tuple(axis[-1].stop for axis in stretches), places


def _grid(boxes: Sequence[Box]) -> list[dict[int, int]]:
    """Return for each axis the number of each stretch by its start; nothing if the blocks are no grid."""
    found: list[dict[int, int]] = []
    for axis in range(len(boxes[0])):
        stretches = sorted({(box[axis].start, box[axis].stop) for box in boxes})
        if any(a[1] > b[0] or a[0] == b[0] for a, b in itertools.pairwise(stretches)):
            return []
        found.append({start: k for k, (start, _) in enumerate(stretches)})
    if all(len(starts) == 1 for starts in found[1:]):
        return []
    if math.prod(map(len, found)) != len(boxes) or len({tuple(part.start for part in box) for box in boxes}) != len(
        boxes
    ):
        return []
    return found


def chunks_of(shape: tuple[int, ...], itemsize: int, places: Sequence[Box] = ()) -> tuple[int, ...] | None:
    """Return chunks none of which holds elements of two blocks, None if they were too small.

    Those of a block by itself are the same if blocks are even along the first axis.
    """
    steps = []
    for axis, length in enumerate(shape):
        starts = {place[axis].start for place in places} - {0}
        steps.append(math.gcd(*starts) if starts else max(length, 1))
    chunk = list(steps)
    for axis, step in enumerate(steps):
        inner = math.prod(chunk) // chunk[axis] * itemsize
        if inner * step <= CHUNK_BYTES:
            break
        most = max(CHUNK_BYTES // inner, 1)
        is_cut = axis == 0 or any(place[axis].start for place in places)
        chunk[axis] = max(d for d in _divisors(step) if d <= most) if is_cut else min(most, step)
    is_small = math.prod(chunk) * itemsize < CHUNK_BYTES // 64 and chunk != list(shape)
    return None if is_small else tuple(chunk)


def _divisors(n: int) -> set[int]:
    small = {d for d in range(1, math.isqrt(n) + 1) if n % d == 0}
    return small | {n // d for d in small}


def by_shape(boxes: Sequence[Box]) -> dict[tuple[int, ...], list[int]]:
    """Return the numbers of the blocks of each shape."""
    found: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, box in enumerate(boxes):
        found[shape_of(box)].append(i)
    return dict(found)

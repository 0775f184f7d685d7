"""What all array functions share: how arguments are checked, and how streamed sources are walked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import megalith.arrays as settings
from megalith import _checks, _core
from megalith._threads import requested
from megalith.arrays.blocks import boxes, with_halo
from megalith.exceptions import ArgumentError, DTypeError, IndexRangeError, LayoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from megalith._progress import Bar
    from megalith._typing import AnyArray, Order, Processes
    from megalith.arrays.sink import Target
    from megalith.arrays.source import Source

# A bound no element exceeds, and one that each does.
NOTHING, EVERYTHING = 1 << 100, -(1 << 100)


def thread_request(processes: Processes, blocks: int | None = None) -> int | None:
    """Return the number of threads that was asked for, None if nobody did; check `blocks` on the way."""
    if blocks is not None:
        _checks.positive_int("blocks", blocks)
    return requested(processes, settings.default_processes)


def order_of(source: Source) -> Order:
    """Return the order of a result made anew."""
    return source.order or "C"


def fresh_like(source: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    """Return an array for results at the positions of another one, in its order."""
    # Small arrays feel an argument.
    if source.ndim > 1 and source.flags.fnc:
        return _core.empty(source.shape, dtype, "F")
    return _core.empty(source.shape, dtype)


def check_kind(name: str, dtype: np.dtype[Any], kinds: str, supported: str) -> None:
    """Check that a dtype is of one of the kinds, and no wider than the core knows.

    Raises
    ------
    DTypeError
        If it is another.
    """
    if dtype.kind not in kinds or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        message = f"{name}: dtype {dtype} is not supported; supported: {supported}"
        raise DTypeError(message, name=name, got=str(dtype), supported=supported)


def check_option(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Check an option.

    Raises
    ------
    ArgumentError
        If it is not one of those allowed.
    """
    if value not in allowed:
        expected = ", ".join(repr(option) for option in allowed)
        raise ArgumentError(
            f"{name}: got {value!r}, expected one of {expected}", name=name, got=value, expected=expected
        )


def refuse_overlap(source: Source, target: Target) -> None:
    """Check that a sink shares no memory, file or dataset with the source.

    Raises
    ------
    LayoutError
        If it does.
    """
    refuse_other_view(source, target)
    if not target.is_fresh and not target.streams and source.shares_memory(target.array):
        _core.refuse_overlap(target.array, source.array)


def refuse_other_view(source: Source, target: Target) -> None:
    """Check that a sink is not the file or dataset of the source seen another way.

    The core compares addresses; two mappings of a file have different ones.

    Raises
    ------
    LayoutError
        If it is.
    """
    if target.shows(source):
        message = "sink: it is the file or dataset of the source, seen another way; give a sink of its own"
        raise LayoutError(message, name="sink", reason="shares memory with source")


def is_streamed(source: Source, target: Target) -> bool:
    """Whether work goes window by window; in place it does not, where each line must be read before it is written."""
    streams = target.streams
    if streams or not source.streams:
        return streams
    return target.is_fresh or not source.shares_memory(target.array)


def elementwise(
    source: Source,
    target: Target,
    kernel: Callable[[AnyArray, AnyArray, tuple[int, ...]], None],
    threads: int | None,
    bar: Bar,
    before: tuple[int, ...] | None = None,
    after: tuple[int, ...] | None = None,
) -> None:
    """Run a kernel whose result at a position depends on the source within a margin of it.

    The kernel is given values, where the results go, and where in the values these begin.
    """
    margin = (0,) * source.ndim
    if not target.is_fresh:
        refuse_other_view(source, target)
    if not is_streamed(source, target):
        kernel(source.array, target.array, margin)
        return
    windows = boxes(
        source.shape,
        max(source.dtype.itemsize, target.dtype.itemsize),
        order_of(source),
        chunks=source.chunks,
        sink_chunks=target.chunks,
    )
    bar.split(len(windows))
    reader = source.reader()
    wrong: dict[tuple[int, ...], IndexRangeError] = {}
    for window in windows:
        first = tuple(part.start for part in window)
        if not wrong or first < min(wrong):
            grown, inner = with_halo(window, source.shape, before or margin, after or margin)
            values, out = reader.read(grown, processes=threads), target.view(window)
            try:
                kernel(values, out, tuple(part.start for part in inner))
            except IndexRangeError as error:
                # Windows do not always follow each other in C order: a later one may have an earlier position.
                there = moved(error, first)
                wrong[there.position] = there  # type: ignore[attr-defined]
            if not wrong:
                target.store(window, out)
        bar.part_done()
    if wrong:
        raise wrong[min(wrong)]


def moved(error: IndexRangeError, start: tuple[int, ...]) -> IndexRangeError:
    """Return an error of a part that begins at `start` with its position in the whole array."""
    position = tuple(first + i for first, i in zip(start, error.position, strict=True))  # type: ignore[attr-defined]
    message = error.message.replace(f"position {list(error.position)}", f"position {list(position)}")  # type: ignore[attr-defined]
    return IndexRangeError(message, index=error.index, size=error.size, position=position)  # type: ignore[attr-defined]

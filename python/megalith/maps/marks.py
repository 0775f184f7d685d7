"""What workers on this machine are at, in memory that outlives them: so the item that one died of can be told."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from megalith.maps import parcel

if TYPE_CHECKING:
    from collections.abc import Callable

# Chunks that are on their way at once, at most.
SLOTS = 4096

MARK = struct.Struct("<qq")
"""The process that has a chunk, and the item it is at, from 1 on; 0 before and after."""


@dataclass(frozen=True)
class Place:
    """Where the mark of a chunk is."""

    where: parcel.Unnamed
    slot: int


class Marks:
    """The marks of one map; in this process."""

    def __init__(self) -> None:
        self._descriptor = parcel.unnamed(SLOTS * MARK.size)
        self._where = parcel.located(self._descriptor)
        self._memory = mmap.mmap(self._descriptor, SLOTS * MARK.size)

    def place(self, slot: int) -> Place:
        """Return where the mark of a chunk is."""
        return Place(self._where, slot)

    def clear(self, slot: int) -> None:
        """Forget what was there."""
        MARK.pack_into(self._memory, slot * MARK.size, 0, 0)

    def read(self, slot: int) -> tuple[int, int]:
        """Return the process that has a chunk and the item it is at."""
        pid, item = MARK.unpack_from(self._memory, slot * MARK.size)
        return pid, item

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        parcel.close(self._descriptor)


_mapped: dict[parcel.Unnamed, mmap.mmap] = {}
"""The marks that this worker wrote last."""


def _nowhere(_item: int) -> None:
    pass


def marker(place: Place | None) -> tuple[Callable[[int], None], tuple[int, int] | None]:
    """Return what notes that this process is at an item, and what another process noted that did not get to the end."""
    if place is None:
        return _nowhere, None
    try:
        memory = _mapped.get(place.where)
        if memory is None:
            with place.where.open("r+b") as file:
                memory = mmap.mmap(file.fileno(), SLOTS * MARK.size)
            _mapped.clear()
            _mapped[place.where] = memory
    except (OSError, ValueError):  # Another machine, or container.
        return _nowhere, None
    pid, at = os.getpid(), place.slot * MARK.size
    before = MARK.unpack_from(memory, at)
    return lambda item: MARK.pack_into(memory, at, pid, item), before if before[1] and before[0] != pid else None

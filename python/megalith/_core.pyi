"""The native module; see the functions of `megalith` for what these do."""

import os
from collections.abc import Callable
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "DEBUG",
    "SUM_PIECE",
    "Draft",
    "File",
    "Hits",
    "Pairs",
    "__version__",
    "apply_lut",
    "apply_lut_to_index",
    "block_counts",
    "block_sums",
    "capacity",
    "correlate1d",
    "cpu_level",
    "default_threads",
    "find",
    "find_pairs",
    "refuse_overlap",
    "shared_directory",
]

_Array = npt.NDArray[Any]
_Tick = Callable[[float], object] | None

__version__: Final[str]
DEBUG: Final[bool]
SUM_PIECE: Final[int]

@final
class Hits:
    def __len__(self, /) -> int: ...
    def fill(self, /, sink: _Array, processes: int | None = None, progress: _Tick = None) -> None: ...

@final
class Pairs:
    def __len__(self, /) -> int: ...
    def fill(self, /, indices: _Array, sink: _Array, processes: int | None = None, progress: _Tick = None) -> None: ...

@final
class File:
    def __new__(cls, path: str | os.PathLike[str], *, writable: bool = False) -> File: ...
    def read_box(
        self,
        /,
        offset: int,
        shape: tuple[int, ...],
        spans: list[tuple[int, int]],
        sink: _Array,
        processes: int | None = None,
        progress: _Tick = None,
    ) -> None: ...
    def write_box(
        self,
        /,
        offset: int,
        shape: tuple[int, ...],
        spans: list[tuple[int, int]],
        source: _Array,
        processes: int | None = None,
        progress: _Tick = None,
    ) -> None: ...

@final
class Draft:
    def __new__(cls, path: str | os.PathLike[str], size: int) -> Draft: ...
    def duplicate(self, /) -> int: ...
    def write(self, /, offset: int, data: bytes) -> None: ...
    def write_box(
        self,
        /,
        offset: int,
        shape: tuple[int, ...],
        spans: list[tuple[int, int]],
        source: _Array,
        processes: int | None = None,
        progress: _Tick = None,
    ) -> None: ...
    def publish(self, /, *, replace: bool) -> None: ...
    def discard(self, /) -> None: ...

def default_threads() -> int: ...
def cpu_level() -> str: ...
def shared_directory() -> os.PathLike[str]: ...
def capacity(directory: str | os.PathLike[str]) -> dict[str, Any]: ...
def refuse_overlap(sink: _Array, source: _Array) -> None: ...
def find(source: _Array, above: float | None = None, processes: int | None = None, progress: _Tick = None) -> Hits: ...
def apply_lut(
    source: _Array, lut: _Array, sink: _Array, mode: str, processes: int | None = None, progress: _Tick = None
) -> None: ...
def apply_lut_to_index(
    source: _Array, kernel: _Array, lut: _Array, sink: _Array, processes: int | None = None, progress: _Tick = None
) -> None: ...
def correlate1d(
    source: _Array,
    kernel: npt.NDArray[np.float64],
    sink: _Array,
    axis: int,
    mode: str,
    cval: float,
    origin: int,
    fast: bool,
    processes: int | None = None,
    progress: _Tick = None,
) -> None: ...
def block_sums(
    source: _Array,
    boundaries: npt.NDArray[np.int64],
    sink: _Array,
    processes: int | None = None,
    progress: _Tick = None,
) -> None: ...
def block_counts(
    source: _Array,
    boundaries: npt.NDArray[np.int64],
    sink: _Array,
    processes: int | None = None,
    progress: _Tick = None,
) -> None: ...
def find_pairs(indices: _Array, offset: int, processes: int | None = None, progress: _Tick = None) -> Pairs: ...

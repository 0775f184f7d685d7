"""The native module; see the functions of `megalith` for what these do."""

import os
from collections.abc import Callable
from typing import Any, ClassVar, Final, Self, final

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

__all__ = [
    "DEBUG",
    "SUM_PIECE",
    "Draft",
    "File",
    "Hits",
    "Memoized",
    "Pairs",
    "Segment",
    "Turned",
    "__version__",
    "apply_lut",
    "apply_lut_to_index",
    "block_counts",
    "block_sums",
    "books_added",
    "books_remove",
    "books_settle",
    "capacity",
    "checksums",
    "correlate1d",
    "cpu_level",
    "default_threads",
    "digest",
    "digest_bytes",
    "find",
    "find_pairs",
    "plain_header",
    "refuse_overlap",
    "shared_directory",
    "shared_holder",
    "shared_list",
    "shared_remove",
    "shared_turn",
    "touch",
    "user_id",
    "xxh3",
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
    @staticmethod
    def shared(directory: str, prefix: str, id: str, suffix: str, size: int, mode: int, *, reserve: bool) -> Draft: ...
    def map(self, /, nbytes: int) -> Segment: ...
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
    def publish(self, /, *, replace: bool, books: str | os.PathLike[str] | None = None) -> int | None: ...
    def discard(self, /) -> None: ...

@final
class Segment:
    @staticmethod
    def open(path: str, trust_owner: bool) -> Segment | None: ...
    @staticmethod
    def anonymous(directory: str, nbytes: int) -> Segment: ...
    @property
    def path(self, /) -> str | None: ...
    @property
    def identity(self, /) -> tuple[int, int, int, int] | None: ...
    @property
    def memory(self, /) -> memoryview: ...
    @property
    def header(self, /) -> tuple[tuple[int, ...], str, bool, int] | None: ...
    @property
    def address(self, /) -> int: ...
    @property
    def is_foreign(self, /) -> bool: ...
    def is_current(self, /, trust_owner: bool) -> bool: ...
    def seal(self, /, path: str) -> None: ...
    def __len__(self, /) -> int: ...

@final
class Turned:
    def release(self, /) -> None: ...

@disjoint_base
class Memoized:
    ENTRY_BYTES: ClassVar[int]
    def __new__(cls, function: Callable[..., Any], max_bytes: int) -> Self: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any: ...
    def _find(self, /, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, str | None]: ...
    def _insert(self, /, key: str, value: Any, nbytes: int, clearings: int | None = None) -> Any: ...
    def _begin(self, /) -> int: ...
    def _entries(self, /) -> list[tuple[str, Any]]: ...
    def _numbers(self, /) -> tuple[int, int, int, int, int]: ...
    def _clear(self, /) -> None: ...

def shared_turn(directory: str, prefix: str, id: str, timeout: float) -> tuple[bool, Turned | None]: ...
def shared_holder(directory: str, prefix: str, id: str) -> int | None: ...
def shared_remove(directory: str, prefix: str, id: str) -> bool: ...
def shared_list(directory: str, prefix: str) -> list[tuple[str, str, int, int, int, float]]: ...
def books_remove(path: str | os.PathLike[str], books: str | os.PathLike[str]) -> tuple[bool, int | None]: ...
def books_added(books: str | os.PathLike[str]) -> int: ...
def books_settle(books: str | os.PathLike[str], counted: int, added: int) -> int: ...
def touch(path: str | os.PathLike[str]) -> bool: ...
def plain_header(file: bytes) -> tuple[tuple[int, ...], str, bool, int] | None: ...
def user_id() -> int: ...
def default_threads() -> int: ...
def cpu_level() -> str: ...
def shared_directory() -> str: ...
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
def xxh3(prefix: bytes, source: _Array, processes: int | None = None, progress: _Tick = None) -> int: ...
def checksums(
    prefix: bytes, source: _Array, processes: int | None = None, progress: _Tick = None
) -> tuple[int, int]: ...
def digest(source: _Array, processes: int | None = None, progress: _Tick = None) -> bytes: ...
def digest_bytes(data: bytes) -> bytes: ...
def find_pairs(indices: _Array, offset: int, processes: int | None = None, progress: _Tick = None) -> Pairs: ...

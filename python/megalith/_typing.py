"""Names for the types of arguments."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy.typing as npt

AnyArray: TypeAlias = npt.NDArray[Any]
PathLike: TypeAlias = str | os.PathLike[str]
# Whatever may stand for an array; `megalith.arrays.source.as_source` says what is accepted.
SourceLike: TypeAlias = Any
SinkLike: TypeAlias = Any
Processes: TypeAlias = int | Literal["serial"] | None
LutMode: TypeAlias = Literal["raise", "clip", "wrap"]
CorrelateMode: TypeAlias = Literal[
    "constant", "nearest", "reflect", "mirror", "wrap", "grid-constant", "grid-mirror", "grid-wrap"
]
Order: TypeAlias = Literal["C", "F"]
Box: TypeAlias = tuple[slice, ...]
Tick: TypeAlias = Callable[[float], None] | None

"""Which spikes, and which pieces of a recording."""

from megalith.arrays import (
    ConcatenatedArrays,
    chunk_bounds,
    data_chunk,
    excerpts,
    get_excerpts,
    pad,
    read_array,
    write_array,
)

__all__ = [
    "ConcatenatedArrays",
    "chunk_bounds",
    "data_chunk",
    "excerpts",
    "get_excerpts",
    "pad",
    "read_array",
    "write_array",
]

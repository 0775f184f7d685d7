"""The array functions: arguments checked here, results made here, the work done in the core.

A source in memory goes to the core in one call. Files, datasets and mappings of large files are *streamed*: cut into
windows (`megalith.arrays.blocks.boxes`) that are read, computed and written one after the other, so that memory stays
bounded.
"""

from megalith.arrays.kernels.correlation import correlate1d
from megalith.arrays.kernels.lut import apply_lut, apply_lut_to_index
from megalith.arrays.kernels.pairs import index_neighbours, neighbours
from megalith.arrays.kernels.positions import where
from megalith.arrays.kernels.sums import block_counts, block_sums

__all__ = [
    "apply_lut",
    "apply_lut_to_index",
    "block_counts",
    "block_sums",
    "correlate1d",
    "index_neighbours",
    "neighbours",
    "where",
]

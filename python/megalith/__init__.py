"""megalith: NumPy arrays that have outgrown NumPy, at the speed of memory."""

from megalith import arrays, context, exceptions, records, select, shared
from megalith._core import __version__
from megalith._threads import set_threads, threads
from megalith.arrays import (
    Source,
    apply_lut,
    apply_lut_to_index,
    block_counts,
    block_ranges,
    block_sums,
    correlate1d,
    finalize_processing,
    index_neighbours,
    initialize_processing,
    initialize_sink,
    initialize_source,
    neighbours,
    read,
    where,
    write,
)
from megalith.context import Context

__all__ = [
    "Context",
    "Source",
    "__version__",
    "apply_lut",
    "apply_lut_to_index",
    "arrays",
    "block_counts",
    "block_ranges",
    "block_sums",
    "context",
    "correlate1d",
    "exceptions",
    "finalize_processing",
    "index_neighbours",
    "initialize_processing",
    "initialize_sink",
    "initialize_source",
    "neighbours",
    "read",
    "records",
    "select",
    "set_threads",
    "shared",
    "threads",
    "where",
    "write",
]

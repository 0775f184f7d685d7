"""megalith: NumPy arrays that have outgrown NumPy, at the speed of memory."""

from megalith import arrays, context, exceptions, hdf5, mock, records, select, shared, sweep
from megalith._core import __version__
from megalith._threads import set_threads, threads
from megalith.arrays import (
    ConcatenatedArrays,
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
from megalith.sweep import Parameter, ParameterSpace

__all__ = [
    "ConcatenatedArrays",
    "Context",
    "Parameter",
    "ParameterSpace",
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
    "hdf5",
    "index_neighbours",
    "initialize_processing",
    "initialize_sink",
    "initialize_source",
    "mock",
    "neighbours",
    "read",
    "records",
    "select",
    "set_threads",
    "shared",
    "sweep",
    "threads",
    "where",
    "write",
]

"""Block-parallel functions on arrays of any size, in memory or in files.

Three settings are read at each call: `default_processes` (threads where nothing else says how many; None for all cores
given to this process), `default_blocks_per_process` (blocks where `blocks` is None) and `default_cutoff` (elements up
to which `where` leaves the work to NumPy).

Fresh results are ordinary arrays that own their data. From 8 MiB on they take over the memory of results that were
freed before, which spares the page faults: these cost as much as the work of most functions here. At most 2 GiB or an
eighth of the machine's memory are kept for that, and the system may take them back at any time; the environment
variable ``MEGALITH_REUSE_BYTES`` is read once and sets another limit, 0 for none kept.
"""

from megalith._typing import Processes

default_processes: Processes = None
default_blocks_per_process: int = 10
default_cutoff: int = 64

from megalith.arrays.blocks import block_ranges  # noqa: E402  The functions read the settings above.
from megalith.arrays.chunks import chunk_bounds, data_chunk, excerpts, get_excerpts, pad  # noqa: E402
from megalith.arrays.concatenated import ConcatenatedArrays  # noqa: E402
from megalith.arrays.files import read, write  # noqa: E402
from megalith.arrays.initialize import (  # noqa: E402
    Timer,
    finalize_processing,
    initialize_processing,
    initialize_sink,
    initialize_source,
)
from megalith.arrays.kernels import (  # noqa: E402
    apply_lut,
    apply_lut_to_index,
    block_counts,
    block_sums,
    correlate1d,
    index_neighbours,
    neighbours,
    where,
)
from megalith.arrays.npy_files import read_array, write_array  # noqa: E402
from megalith.arrays.source import Source, as_source  # noqa: E402

__all__ = [
    "ConcatenatedArrays",
    "Source",
    "Timer",
    "apply_lut",
    "apply_lut_to_index",
    "as_source",
    "block_counts",
    "block_ranges",
    "block_sums",
    "chunk_bounds",
    "correlate1d",
    "data_chunk",
    "default_blocks_per_process",
    "default_cutoff",
    "default_processes",
    "excerpts",
    "finalize_processing",
    "get_excerpts",
    "index_neighbours",
    "initialize_processing",
    "initialize_sink",
    "initialize_source",
    "neighbours",
    "pad",
    "read",
    "read_array",
    "where",
    "write",
    "write_array",
]

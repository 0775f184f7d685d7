"""Spikes by the cluster they belong to: which ones, how many, what they have in common; and pieces of recordings.

The words are those of electrophysiology, in which phy made these functions known. A spike is a position, a cluster is
the whole number that stands there; neither needs to be more than that.
"""

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
from megalith.select.groups import grouped_mean, index_of, spikes_in_clusters, spikes_per_cluster, unique
from megalith.select.selector import Selector, select_spikes
from megalith.select.subsets import regular_subset

__all__ = [
    "ConcatenatedArrays",
    "Selector",
    "chunk_bounds",
    "data_chunk",
    "excerpts",
    "get_excerpts",
    "grouped_mean",
    "index_of",
    "pad",
    "read_array",
    "regular_subset",
    "select_spikes",
    "spikes_in_clusters",
    "spikes_per_cluster",
    "unique",
    "write_array",
]

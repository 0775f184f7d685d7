"""Spikes by the cluster they belong to: which ones, how many, and what they have in common.

The words are those of electrophysiology, in which phy made these functions known. A spike is a position, a cluster is
the whole number that stands there; neither needs to be more than that.
"""

from megalith.select.groups import grouped_mean, index_of, spikes_in_clusters, spikes_per_cluster, unique
from megalith.select.selector import Selector, select_spikes
from megalith.select.subsets import regular_subset

__all__ = [
    "Selector",
    "grouped_mean",
    "index_of",
    "regular_subset",
    "select_spikes",
    "spikes_in_clusters",
    "spikes_per_cluster",
    "unique",
]

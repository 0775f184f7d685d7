"""Artificial data sets of any size: the same for the same seed."""

from megalith.mock.spikes import (
    artificial_correlograms,
    artificial_features,
    artificial_masks,
    artificial_spike_clusters,
    artificial_spike_samples,
    artificial_traces,
    artificial_waveforms,
)
from megalith.mock.volume import artificial_volume

__all__ = [
    "artificial_correlograms",
    "artificial_features",
    "artificial_masks",
    "artificial_spike_clusters",
    "artificial_spike_samples",
    "artificial_traces",
    "artificial_volume",
    "artificial_waveforms",
]

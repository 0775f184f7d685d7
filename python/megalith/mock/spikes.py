"""What a spike sorter works on: traces, spikes, their waveforms, features and clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _checks
from megalith.exceptions import ArgumentError

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

# Standard deviation of noise, in the unit of the signal.
NOISE = 0.25

# Channels a spike is not seen on have mask 0; this share of the values is.
MASKED = 0.25


def artificial_waveforms(n_spikes: int, n_samples: int, n_channels: int, *, seed: int | None = None) -> Floats:
    """Make waveforms of spikes: noise.

    Parameters
    ----------
    n_spikes : int
        Number of spikes.
    n_samples : int
        Samples of a waveform.
    n_channels : int
        Number of channels.
    seed : int or None
        Of the random numbers; None for other ones each time.

    Returns
    -------
    waveforms : (n_spikes, n_samples, n_channels) ndarray of float64
        Normally distributed around 0 with a standard deviation of 0.25; no unit.

    Raises
    ------
    ArgumentError
        If a length is negative or no whole number.

    References
    ----------
    .. [1] phylib ``io.mock.artificial_waveforms``.

    Examples
    --------
    >>> from megalith.mock import artificial_waveforms
    >>> artificial_waveforms(100, 32, 4, seed=0).shape
    (100, 32, 4)
    """
    return _noise((n_spikes, n_samples, n_channels), seed)


def artificial_features(*shape: int, seed: int | None = None) -> Floats:
    """Make features of spikes: noise.

    Parameters
    ----------
    *shape : int
        Lengths of the axes: number of spikes, then channels and features of a channel, or both as one.
    seed : int or None
        Of the random numbers; None for other ones each time.

    Returns
    -------
    features : ndarray of float64
        Of that shape, normally distributed around 0 with a standard deviation of 0.25; no unit.

    Raises
    ------
    ArgumentError
        If a length is negative or no whole number.

    References
    ----------
    .. [1] phylib ``io.mock.artificial_features``.

    Examples
    --------
    >>> from megalith.mock import artificial_features
    >>> artificial_features(100, 4, 3, seed=0).shape
    (100, 4, 3)
    """
    return _noise(shape, seed)


def artificial_masks(n_spikes: int, n_channels: int, *, seed: int | None = None) -> Floats:
    """Make masks: how much each spike is seen on each channel.

    Parameters
    ----------
    n_spikes : int
        Number of spikes.
    n_channels : int
        Number of channels.
    seed : int or None
        Of the random numbers; None for other ones each time.

    Returns
    -------
    masks : (n_spikes, n_channels) ndarray of float64
        A quarter of the values is 0, the others are even between 0.25 and 1; no unit.

    Raises
    ------
    ArgumentError
        If a length is negative or no whole number.

    References
    ----------
    .. [1] phylib ``io.mock.artificial_masks``.

    Examples
    --------
    >>> from megalith.mock import artificial_masks
    >>> masks = artificial_masks(100, 4, seed=0)
    >>> bool(((masks == 0) | (masks >= 0.25)).all())
    True
    """
    masks = _random(seed).random(_checks.lengths("n_spikes, n_channels", (n_spikes, n_channels)))
    masks[masks < MASKED] = 0
    return masks


def artificial_traces(n_samples: int, n_channels: int, *, seed: int | None = None) -> Floats:
    """Make the traces of a recording: noise.

    Parameters
    ----------
    n_samples : int
        Length of the recording.
    n_channels : int
        Number of channels.
    seed : int or None
        Of the random numbers; None for other ones each time.

    Returns
    -------
    traces : (n_samples, n_channels) ndarray of float64
        Normally distributed around 0 with a standard deviation of 0.25; no unit.

    Raises
    ------
    ArgumentError
        If a length is negative or no whole number.

    References
    ----------
    .. [1] phylib ``io.mock.artificial_traces``.

    Examples
    --------
    >>> from megalith.mock import artificial_traces
    >>> artificial_traces(1000, 4, seed=0).shape
    (1000, 4)
    """
    return _noise((n_samples, n_channels), seed)


def artificial_spike_clusters(n_spikes: int, n_clusters: int, low: int = 0, *, seed: int | None = None) -> Integers:
    """Make the cluster of each spike.

    Parameters
    ----------
    n_spikes : int
        Number of spikes.
    n_clusters : int
        Clusters are those below this number; at least cluster 0.
    low : int
        The lowest cluster; -1 is that of spikes without one.
    seed : int or None
        Of the random numbers; None for other ones each time.

    Returns
    -------
    spike_clusters : (n_spikes,) ndarray of int64
        Each cluster as likely as any other, `low` to `n_clusters` - 1.

    Raises
    ------
    ArgumentError
        If a length is negative or no whole number, or there is no cluster from `low` on.

    References
    ----------
    .. [1] phylib ``io.mock.artificial_spike_clusters``.

    Examples
    --------
    >>> from megalith.mock import artificial_spike_clusters
    >>> sorted(set(artificial_spike_clusters(100, 5, low=2, seed=0).tolist()))
    [2, 3, 4]
    """
    shape = _checks.lengths("n_spikes", (n_spikes,))
    high = max(_checks.integer("n_clusters", n_clusters), 1)
    if _checks.integer("low", low) >= high:
        message = f"low: got {low}, expected less than the number of clusters, {high}"
        raise ArgumentError(message, name="low", got=low, expected=f"int < {high}")
    return _random(seed).integers(low, high, shape)


def artificial_spike_samples(n_spikes: int, max_isi: int = 50, *, seed: int | None = None) -> Integers:
    """Make the times of spikes.

    Parameters
    ----------
    n_spikes : int
        Number of spikes.
    max_isi : int
        Samples from one spike to the next: fewer than this.
    seed : int or None
        Of the random numbers; None for other ones each time.

    Returns
    -------
    spike_samples : (n_spikes,) ndarray of int64
        Samples from the start of the recording, in order; several spikes may share one.

    Raises
    ------
    ArgumentError
        If a length is negative or no whole number.

    References
    ----------
    .. [1] phylib ``io.mock.artificial_spike_samples``.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith.mock import artificial_spike_samples
    >>> samples = artificial_spike_samples(100, seed=0)
    >>> int(np.diff(samples).max()) < 50
    True
    """
    shape = _checks.lengths("n_spikes", (n_spikes,))
    gaps = _random(seed).integers(0, _checks.positive_int("max_isi", max_isi), shape)
    return np.cumsum(gaps, out=gaps)


def artificial_correlograms(n_clusters: int, n_samples: int, *, seed: int | None = None) -> Floats:
    """Make cross-correlograms of clusters: noise.

    Parameters
    ----------
    n_clusters : int
        Number of clusters.
    n_samples : int
        Bins of a correlogram.
    seed : int or None
        Of the random numbers; None for other ones each time.

    Returns
    -------
    correlograms : (n_clusters, n_clusters, n_samples) ndarray of float64
        Even between 0 and 1; no unit.

    Raises
    ------
    ArgumentError
        If a length is negative or no whole number.

    References
    ----------
    .. [1] phylib ``io.mock.artificial_correlograms``.

    Examples
    --------
    >>> from megalith.mock import artificial_correlograms
    >>> artificial_correlograms(3, 20, seed=0).shape
    (3, 3, 20)
    """
    return _random(seed).random(_checks.lengths("n_clusters, n_samples", (n_clusters, n_clusters, n_samples)))


def _random(seed: int | None) -> np.random.Generator:
    return np.random.default_rng(seed)


def _noise(lengths: tuple[Any, ...], seed: int | None) -> Floats:
    values = _random(seed).standard_normal(_checks.lengths("shape", lengths))
    values *= NOISE
    return values

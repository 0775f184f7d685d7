"""Artificial data of a spike sorter: shapes, types, ranges, and the same for the same seed."""

import inspect

import numpy as np
import pytest

from megalith import mock
from megalith.exceptions import ArgumentError

CALLS = {
    "artificial_waveforms": ((50, 8, 4), (50, 8, 4)),
    "artificial_features": ((50, 4, 3), (50, 4, 3)),
    "artificial_masks": ((50, 4), (50, 4)),
    "artificial_traces": ((50, 4), (50, 4)),
    "artificial_spike_clusters": ((50, 4), (50,)),
    "artificial_spike_samples": ((50,), (50,)),
    "artificial_correlograms": ((5, 20), (5, 5, 20)),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_same_seed_gives_the_same_data_and_another_other(name):
    make, (arguments, shape) = getattr(mock, name), CALLS[name]
    first = make(*arguments, seed=3)
    assert first.shape == shape
    assert first.dtype == (np.int64 if "spike" in name else np.float64)
    assert np.array_equal(first, make(*arguments, seed=3))
    assert not np.array_equal(first, make(*arguments, seed=4))
    assert not np.array_equal(make(*arguments), make(*arguments))


@pytest.mark.parametrize("name", CALLS)
def test_nothing_may_be_asked_for(name):
    arguments = [0] * len(CALLS[name][0])
    assert getattr(mock, name)(*arguments[:1], *CALLS[name][0][1:], seed=0).size == 0


@pytest.mark.parametrize("name", CALLS)
def test_negative_lengths_are_refused(name):
    with pytest.raises(ArgumentError, match="0 or more"):
        getattr(mock, name)(-1, *CALLS[name][0][1:])


@pytest.mark.parametrize("name", CALLS)
def test_the_seed_is_the_last_argument_and_goes_by_name(name):
    parameters = list(inspect.signature(getattr(mock, name)).parameters.values())
    assert (parameters[-1].name, parameters[-1].kind) == ("seed", inspect.Parameter.KEYWORD_ONLY)


def test_the_global_random_numbers_are_left_alone():
    state = np.random.get_state()[1].copy()
    for name, (arguments, _) in CALLS.items():
        getattr(mock, name)(*arguments, seed=0)
    assert np.array_equal(np.random.get_state()[1], state)


def test_noise_has_a_standard_deviation_of_a_quarter():
    assert mock.artificial_traces(10000, 4, seed=0).std() == pytest.approx(0.25, rel=0.05)
    assert mock.artificial_waveforms(100, 100, 4, seed=0).std() == pytest.approx(0.25, rel=0.05)


def test_a_quarter_of_the_masks_is_zero():
    masks = mock.artificial_masks(10000, 4, seed=0)
    assert (masks == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert masks[masks > 0].min() >= 0.25
    assert masks.max() < 1


def test_clusters_go_from_the_lowest_to_the_number():
    assert np.unique(mock.artificial_spike_clusters(1000, 5, low=-1, seed=0)).tolist() == [-1, 0, 1, 2, 3, 4]
    assert np.unique(mock.artificial_spike_clusters(10, 0, seed=0)).tolist() == [0]
    with pytest.raises(ArgumentError, match="low: got 5"):
        mock.artificial_spike_clusters(10, 5, low=5)


def test_spikes_come_in_order_and_closer_than_the_longest_gap():
    samples = mock.artificial_spike_samples(10000, 7, seed=0)
    gaps = np.diff(samples, prepend=0)
    assert (gaps.min(), gaps.max()) == (0, 6)

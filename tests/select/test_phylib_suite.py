"""phylib's own tests of its array module and of artificial data, run against ours.

Only the imports change: the names that the installed phylib's test files import are ours, where there is one (`NAMES`,
`MOCKS`). Each test of the array module that is left out is in `LEFT_OUT`, with the reason.
"""

import functools

import numpy as np
import pytest
from phylib.io import array as phylib_array
from phylib.io.tests import test_array, test_mock

from megalith import mock, select

NAMES = {
    "SpikeSelector": select.Selector,
    "_index_of": select.index_of,
    "_pad": select.pad,
    "_sample_spikes_evenly": select.regular_subset,
    "_spikes_in_clusters": select.spikes_in_clusters,
    "_spikes_per_cluster": select.spikes_per_cluster,
    "_unique": select.unique,
    "chunk_bounds": select.chunk_bounds,
    "data_chunk": select.data_chunk,
    "excerpts": select.excerpts,
    "get_excerpts": select.get_excerpts,
    "grouped_mean": select.grouped_mean,
    "read_array": select.read_array,
    "write_array": select.write_array,
}
MOCKS = {name: functools.partial(getattr(mock, name), seed=0) for name in mock.__all__ if name != "artificial_volume"}

HELPER = "of a helper that megalith does not offer: "

LEFT_OUT = {
    "test_clip": HELPER + "_clip is numpy.clip",
    "test_range_from_slice": HELPER + "_range_from_slice is numpy.arange",
    "test_get_padded": HELPER + "_get_padded is numpy.pad of a slice",
    "test_get_data_lim": HELPER + "_get_data_lim is the largest of numpy.abs",
    "test_normalize": HELPER + "_normalize, of positions on the screen",
    "test_as_array": HELPER + "_as_array is numpy.atleast_1d",
    "test_flatten": HELPER + "_flatten is itertools.chain",
    "test_get_closest_clusters": HELPER + "get_closest_clusters is sorted",
    "test_flatten_per_cluster": HELPER + "_flatten_per_cluster; a Selector joins what it selects itself",
    "test_flatten_per_cluster_characterization": HELPER + "_flatten_per_cluster",
    "test_flatten_per_cluster_fast_path": HELPER + "_flatten_per_cluster",
    "test_flatten_per_cluster_disjoint_fast_path": HELPER + "_flatten_per_cluster",
    "test_flatten_per_cluster_fallbacks": HELPER + "_flatten_per_cluster",
    "test_select_spikes_sparse_sample_is_reproducible": HELPER + "_sample_spikes; a Selector has a seed",
    "test_intersect_sorted": HELPER + "_intersect_sorted is numpy.intersect1d",
}

TAKEN = {
    name: function
    for name, function in vars(test_array).items()
    if name.startswith("test_") and callable(function) and name not in LEFT_OUT
}
globals().update(TAKEN)
test_artificial = test_mock.test_artificial


@pytest.fixture
def tempdir(tmp_path):
    """What phylib's conftest calls the directory of a test."""
    return tmp_path


@pytest.fixture(autouse=True)
def ours_in_the_place_of_theirs(monkeypatch):
    """Put our names where phylib's tests find theirs, and the seed that phylib's conftest sets."""
    np.random.seed(2015)
    for module, table in ((test_array, NAMES), (test_mock, MOCKS)):
        for name, ours in table.items():
            monkeypatch.setattr(module, name, ours)


def test_every_name_of_the_tables_is_one_that_phylibs_tests_import():
    assert NAMES.keys() <= vars(test_array).keys()
    assert MOCKS.keys() <= vars(test_mock).keys()


def test_what_is_not_replaced_is_in_no_test_that_is_taken():
    theirs = {
        name for name, thing in vars(phylib_array).items() if getattr(thing, "__module__", "") == "phylib.io.array"
    }
    for name, function in TAKEN.items():
        assert not (theirs - NAMES.keys()) & set(function.__code__.co_names), name


def test_every_test_that_is_left_out_is_there():
    assert LEFT_OUT.keys() <= vars(test_array).keys()
    assert len(TAKEN) >= 21

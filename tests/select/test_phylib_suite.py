"""phylib's own tests of its array module, run against `megalith.select`.

Only the imports change: the names that the installed phylib's test file imports from `phylib.io.array` are ours, where
there is one (`NAMES`). Each test that is left out is in `LEFT_OUT`, with the reason.
"""

import numpy as np
import pytest
from phylib.io.tests import test_array

from megalith import select

NAMES = {
    "SpikeSelector": select.Selector,
    "_index_of": select.index_of,
    "_sample_spikes_evenly": select.regular_subset,
    "_spikes_in_clusters": select.spikes_in_clusters,
    "_spikes_per_cluster": select.spikes_per_cluster,
    "_unique": select.unique,
    "grouped_mean": select.grouped_mean,
}

HELPER = "a private helper that megalith does not offer: "
LATER = "of excerpts and files, which are not in megalith.select: "

LEFT_OUT = {
    "test_clip": HELPER + "_clip is numpy.clip",
    "test_range_from_slice": HELPER + "_range_from_slice",
    "test_get_padded": HELPER + "_get_padded",
    "test_get_data_lim": HELPER + "_get_data_lim",
    "test_normalize": HELPER + "_normalize",
    "test_as_array": HELPER + "_as_array is numpy.atleast_1d",
    "test_flatten": HELPER + "_flatten is itertools.chain",
    "test_get_closest_clusters": HELPER + "get_closest_clusters",
    "test_flatten_per_cluster": HELPER + "_flatten_per_cluster",
    "test_flatten_per_cluster_characterization": HELPER + "_flatten_per_cluster",
    "test_flatten_per_cluster_fast_path": HELPER + "_flatten_per_cluster",
    "test_flatten_per_cluster_disjoint_fast_path": HELPER + "_flatten_per_cluster",
    "test_flatten_per_cluster_fallbacks": HELPER + "_flatten_per_cluster",
    "test_select_spikes_sparse_sample_is_reproducible": HELPER + "_sample_spikes; Selector is reproducible by its seed",
    "test_intersect_sorted": HELPER + "_intersect_sorted is numpy.intersect1d",
    "test_pad": LATER + "_pad",
    "test_read_write": LATER + "read_array, write_array",
    "test_chunk_bounds": LATER + "chunk_bounds",
    "test_chunk": LATER + "data_chunk",
    "test_excerpts_1": LATER + "excerpts",
    "test_excerpts_2": LATER + "excerpts",
    "test_get_excerpts": LATER + "get_excerpts",
}

TAKEN = {
    name: function
    for name, function in vars(test_array).items()
    if name.startswith("test_") and callable(function) and name not in LEFT_OUT
}
globals().update(TAKEN)


@pytest.fixture(autouse=True)
def ours_in_the_place_of_theirs(monkeypatch):
    """Put our names where phylib's tests find theirs, and the seed that phylib's conftest sets."""
    np.random.seed(2015)
    for name, ours in NAMES.items():
        monkeypatch.setattr(test_array, name, ours)


def test_every_name_of_the_table_is_one_that_phylibs_tests_import():
    assert NAMES.keys() <= vars(test_array).keys()


def test_every_test_that_is_left_out_is_there():
    assert LEFT_OUT.keys() <= vars(test_array).keys()


def test_the_tests_of_all_that_is_offered_are_taken():
    assert len(TAKEN) >= 14
    assert {"test_select_spikes_matches_legacy_reference", "test_grouped_mean", "test_index_of"} <= TAKEN.keys()

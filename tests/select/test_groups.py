"""Spikes grouped by cluster, and what is computed from the groups."""

import numpy as np
import pytest

from megalith import select
from megalith.exceptions import ArgumentError, DTypeError, IndexRangeError, SelectionError, ShapeError
from megalith.testing import reference
from megalith.testing.cases import BLOCK, BOOL, FLOATS, INTS, LARGE, assert_identical, pairs, sample
from megalith.testing.faults import run_python
from megalith.testing.layouts import LAYOUTS

SPREADS = ("one", "few", "runs", "many", "sparse", "all different", "all far apart")
CASES = pairs(
    {
        "dtype": INTS,
        "layout": list(LAYOUTS),
        "size": (0, 1, BLOCK - 1, BLOCK + 1, LARGE),
        "spread": SPREADS,
        "threads": (1, 2, 8),
    }
)


def ids_of(dtype, size, spread):
    """Cluster ids of a kind, as far as the type has room for it."""
    rng = np.random.default_rng(5)
    info = np.iinfo(dtype)
    low = -1 if info.min < 0 else 0
    if spread == "one":
        ids = np.full(size, 7)
    elif spread == "few":
        ids = rng.integers(low, 50, size)
    elif spread == "runs":
        ids = np.repeat(rng.integers(low, 50, size // 16 + 1), 16)[:size]
    elif spread == "many":
        ids = rng.integers(low, min(info.max, 30_000), size)
    elif spread == "sparse":
        ids = rng.choice(rng.integers(info.min, info.max, 60, dtype=dtype, endpoint=True), size)
    elif spread == "all different":
        ids = rng.permutation(size) * 3
    else:
        ids = rng.integers(info.min, info.max, size, dtype=dtype, endpoint=True)
    return ids.astype(dtype)


def assert_same_groups(got, expected):
    """Assert the same clusters in the same order, with the same spikes."""
    assert list(got) == list(expected)
    for cluster, spikes in expected.items():
        assert_identical(got[cluster], spikes)


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c.values())))
def test_spikes_per_cluster_equals_a_stable_sort_for_every_pair_of_conditions(case):
    ids = LAYOUTS[case["layout"]](ids_of(case["dtype"], case["size"], case["spread"]))
    positions, clusters, bounds = reference.grouped(ids)
    got = select.spikes_per_cluster(ids, processes=case["threads"])
    assert list(got) == clusters.tolist()
    assert_identical(np.concatenate([np.zeros(0, np.int64), *got.values()]), positions)
    assert [len(spikes) for spikes in got.values()] == np.diff(bounds).tolist()


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c.values())))
def test_unique_equals_numpy_unique_without_negative_ids_for_every_pair_of_conditions(case):
    ids = LAYOUTS[case["layout"]](ids_of(case["dtype"], case["size"], case["spread"]))
    expected = np.unique(ids[ids >= 0].astype(ids.dtype.newbyteorder("=")))
    got = select.unique(ids, processes=case["threads"])
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == (np.uint64 if expected.size and expected[-1] > 2**63 - 1 else np.int64)


MEANS = pairs(
    {
        "dtype": BOOL + INTS + FLOATS,
        "layout": list(LAYOUTS),
        "columns": ((), (1,), (3,), (2, 2), (20,), (3, 40)),
        "size": (0, 1, 1000, BLOCK + 1, 300_000),
        "spread": SPREADS[:5],
        "threads": (1, 2, 8),
    },
    excluded=lambda c: c.get("size", 0) > BLOCK and np.prod(c.get("columns", ())) > 10,
)


@pytest.mark.parametrize("case", MEANS, ids=lambda c: "-".join(map(str, c.values())))
def test_grouped_mean_equals_sums_by_cluster_for_every_pair_of_conditions(case):
    ids = ids_of("int32", case["size"], case["spread"])
    values = sample(case["dtype"], (case["size"], *case["columns"]))
    if values.dtype.kind == "f":
        values[~np.isfinite(values) | (np.abs(values).astype(float) > 1e30)] = 0.5
    values = LAYOUTS[case["layout"]](values)
    got = select.grouped_mean(values, ids, processes=case["threads"])
    expected, bound = reference.grouped_mean(values, ids)
    assert got.dtype == np.float64
    assert got.shape == expected.shape
    assert (np.abs(got - expected) <= bound).all()


@pytest.mark.parametrize("shape", [(900_001,), (400_001, 2), (30_001, 40)])
def test_grouped_mean_gives_the_same_bits_for_any_number_of_threads_and_from_a_file(tmp_path, shape, monkeypatch):
    values = np.random.default_rng(0).random(shape)
    ids = ids_of("int16", shape[0], "few")
    one = select.grouped_mean(values, ids, processes=1)
    for threads in (2, 3, 8):
        assert_identical(select.grouped_mean(values, ids, processes=threads), one)
    np.save(tmp_path / "values.npy", values)
    np.save(tmp_path / "ids.npy", ids)
    monkeypatch.setattr(select.groups, "WINDOW_BYTES", 1 << 20)
    assert_identical(select.grouped_mean(tmp_path / "values.npy", tmp_path / "ids.npy"), one)
    assert_identical(select.grouped_mean(values, tmp_path / "ids.npy"), one)
    assert_identical(select.grouped_mean(tmp_path / "values.npy", ids), one)


def test_a_nan_is_in_the_mean_of_its_own_cluster_only():
    got = select.grouped_mean([1.0, np.nan, 3.0, 5.0], [0, 4, 0, 9])
    np.testing.assert_array_equal(got, [2.0, np.nan, 5.0])


def test_grouped_mean_leaves_unclustered_spikes_out():
    assert select.grouped_mean([1, 100, 3], [4, -1, 4]).tolist() == [2.0]
    assert select.grouped_mean([1, 100], [-1, -2]).shape == (0,)
    assert select.grouped_mean(np.zeros((0, 5)), []).shape == (0, 5)


@pytest.mark.parametrize("kind", ["list", "memmap", "path", "read-only"])
def test_groups_of_lists_maps_and_files_are_those_of_the_array(tmp_path, clusters, kind, monkeypatch):
    np.save(tmp_path / "ids.npy", clusters)
    monkeypatch.setattr(select.groups, "WINDOW_BYTES", 1 << 14)
    given = {
        "list": clusters.tolist,
        "memmap": lambda: np.load(tmp_path / "ids.npy", mmap_mode="r"),
        "path": lambda: tmp_path / "ids.npy",
        "read-only": lambda: LAYOUTS["read-only"](clusters),
    }[kind]()
    expected = select.spikes_per_cluster(clusters)
    assert_same_groups(select.spikes_per_cluster(given), expected)
    assert_identical(select.unique(given), select.unique(clusters))
    assert_identical(select.spikes_in_clusters(given, [5, -1]), np.sort(np.concatenate([expected[5], expected[-1]])))
    assert_identical(select.index_of(given, list(expected)), select.index_of(clusters, list(expected)))


def test_groups_keep_unclustered_huge_and_sparse_ids(clusters):
    groups = select.spikes_per_cluster(clusters)
    assert list(groups) == [-1, 0, 1, 2, 5, 77, 10**6, 2**62]
    for cluster, spikes in groups.items():
        assert_identical(spikes, np.flatnonzero(clusters == cluster))


def test_ids_beyond_63_bits_are_kept_as_they_are():
    ids = np.array([2**64 - 1, 0, 2**63, 2**64 - 1], dtype=np.uint64)
    assert_same_groups(
        select.spikes_per_cluster(ids), {0: np.array([1]), 2**63: np.array([2]), 2**64 - 1: np.array([0, 3])}
    )
    assert_identical(select.unique(ids), np.array([0, 2**63, 2**64 - 1], dtype=np.uint64))
    assert select.grouped_mean([1.0, 2.0, 3.0, 5.0], ids).tolist() == [2.0, 3.0, 3.0]


def test_given_spikes_are_grouped_in_the_place_of_positions():
    assert_same_groups(
        select.spikes_per_cluster([2, 3, 3, 2, 2], [2, 3, 5, 7, 11]), {2: np.array([2, 7, 11]), 3: np.array([3, 5])}
    )


@pytest.mark.parametrize("empty", [[], (), np.zeros(0, np.int16), None])
def test_nothing_is_grouped_to_nothing(empty):
    assert select.spikes_per_cluster(empty) == {}
    assert_identical(select.unique(empty), np.zeros(0, np.int64))


def test_spikes_in_no_clusters_or_unknown_ones_are_none(clusters):
    for wanted in ([], [3], [2**61, -7]):
        assert_identical(select.spikes_in_clusters(clusters, wanted), np.zeros(0, np.int64))
    assert_identical(select.spikes_in_clusters([], [1]), np.zeros(0, np.int64))


def test_places_are_those_of_the_look_up_whatever_its_order(clusters):
    lookup = [77, 2**62, 0, 5, 2, 10**6, 1]
    places = select.index_of(clusters, lookup)
    assert ((places == -1) == (clusters == -1)).all()
    np.testing.assert_array_equal(np.array(lookup)[places[places >= 0]], clusters[clusters >= 0])


@pytest.mark.parametrize("step", [1, 5, 1000, 2**40])
def test_places_in_a_long_look_up_are_those_of_its_ids(step):
    lookup = np.random.default_rng(0).permutation(300_000) * step - 7
    arr = np.concatenate([lookup[::7], [lookup.min(), lookup.max(), lookup[0]]])
    np.testing.assert_array_equal(lookup[select.index_of(arr, lookup)], arr)
    with pytest.raises(SelectionError, match="no cluster -8"):
        select.index_of([-8], lookup)


def test_places_of_tables_and_single_ids_have_their_shape():
    assert select.index_of([[5, 7], [7, -1]], [7, 5]).tolist() == [[1, 0], [0, -1]]
    assert select.index_of(np.int16(5), [7, 5]).tolist() == 1
    assert select.index_of([], [7]).shape == (0,)


def test_ids_that_are_not_in_the_look_up_are_named():
    with pytest.raises(SelectionError, match="no clusters -2, 9") as caught:
        select.index_of([1, 9, -1, -2, 9], [1, 2])
    assert caught.value.label == [-2, 9]
    assert caught.value.known.tolist() == [1, 2]


FUNCTIONS = [
    select.spikes_per_cluster,
    select.unique,
    lambda ids: select.spikes_in_clusters(ids, [1]),
    lambda ids: select.grouped_mean(np.ones(4), ids),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_ids_that_are_no_list_of_integers_are_refused(function):
    with pytest.raises(ShapeError, match="one dimension"):
        function(np.zeros((2, 2), np.int32))
    for dtype in ("float64", "bool", "datetime64[s]", "complex64"):
        with pytest.raises(DTypeError, match="integers"):
            function(np.zeros(4, dtype))


def test_lengths_that_differ_and_values_without_a_mean_are_refused():
    with pytest.raises(ShapeError, match="4 cluster ids"):
        select.grouped_mean(np.ones(3), [1, 2, 3, 4])
    with pytest.raises(ShapeError, match="spike_ids"):
        select.spikes_per_cluster([1, 2], [1])
    with pytest.raises(DTypeError, match="arr"):
        select.grouped_mean(np.ones(2, complex), [1, 2])


def test_a_subset_is_even_and_has_both_ends():
    spikes = np.arange(100, 200)
    assert select.regular_subset(spikes, 6).tolist() == [100, 119, 139, 159, 179, 199]
    assert select.regular_subset([2, 3, 5, 7, 11, 13, 17], 3, offset=1).tolist() == [3, 11]
    assert select.regular_subset(spikes).tolist() == spikes.tolist()
    for options in ({"n_spikes_max": -1}, {"offset": -1}, {"n_spikes_max": 2.5}):
        with pytest.raises(ArgumentError):
            select.regular_subset(spikes, **options)


def test_a_list_that_changes_between_counting_and_writing_is_an_error():
    from megalith import _core

    ids = np.array([1, 2, 1], np.int32)
    tally = _core.count_ids(ids)
    ids[1] = 1
    with pytest.raises(ArgumentError, match="changed by another thread"):
        tally.positions(ids, 0, np.array([0, 2]), np.zeros(3, np.int64))
    with pytest.raises(ShapeError, match="cursors"):
        tally.positions(ids, 0, np.array([0]), np.zeros(3, np.int64))


WATCH = """
import threading, time
import numpy as np
from megalith import select

def resident():
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssFile")) / 1024

before = peak = resident()
def watch():
    global peak
    while True:
        peak = max(peak, resident())
        time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
"""


def test_a_long_recording_is_counted_in_little_memory(tmp_path):
    # 2^28 ids in a file of 512 MiB, given by its path; a thousandth of them is written.
    n = 1 << 28
    path = tmp_path / "ids.npy"
    ids = np.lib.format.open_memmap(path, mode="w+", dtype=np.int16, shape=(n,))
    ids[::1000] = np.arange(len(ids[::1000])) % 500 + 1
    ids.flush()
    del ids
    code = f"""
clusters = select.unique({str(path)!r})
assert clusters.tolist() == list(range(501)), clusters
means = select.grouped_mean({str(path)!r}, {str(path)!r})
assert np.array_equal(means, np.arange(501)), means
print(peak - before)
"""
    try:
        assert float(run_python(WATCH + code, tmp_path, timeout_s=110).check()) < 400
    finally:
        path.unlink()


@pytest.mark.parametrize("given", ["path", "mapping"])
def test_a_long_recording_is_grouped_in_little_memory_beyond_the_result(tmp_path, given):
    # 5e7 ids in a file of 191 MiB, which a mapping shows whole.
    n, shown = 50_000_000, {"path": 0, "mapping": 191}[given]
    path = tmp_path / "ids.npy"
    np.save(path, np.arange(n, dtype=np.int32) % 499)
    code = f"""
ids = {str(path)!r} if {given == "path"} else np.load({str(path)!r}, mmap_mode="r")
groups = select.spikes_per_cluster(ids)
assert list(groups) == list(range(499))
assert all(np.array_equal(groups[i], np.arange(i, {n}, 499)) for i in (0, 250, 498))
print(peak - before - 8 * {n} / 2**20)
"""
    try:
        assert float(run_python(WATCH + code, tmp_path, timeout_s=110).check()) < 170 + shown
    finally:
        path.unlink()


def test_spikes_outside_of_the_array_cannot_be_moved():
    with pytest.raises(IndexRangeError, match="spikes are 0 to 2"):
        select.Selector([1, 2, 3]).update([3], 9)

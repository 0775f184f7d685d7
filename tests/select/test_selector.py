"""`Selector` takes some spikes of some clusters."""

import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megalith.exceptions import ArgumentError, DTypeError, SelectionError, ShapeError
from megalith.select import Selector, regular_subset, select_spikes, spikes_per_cluster
from megalith.testing.cases import assert_identical

NONE = np.zeros(0, np.int64)


def sources(clusters):
    """A list of cluster ids in each form that a Selector takes."""
    groups = spikes_per_cluster(clusters)
    return {
        "array": clusters,
        "list": np.asarray(clusters).tolist(),
        "mapping": groups,
        "function": lambda cluster: groups.get(cluster, NONE),
        "function that raises": groups.__getitem__,
    }


KINDS = ["array", "list", "mapping", "function", "function that raises"]


@pytest.mark.parametrize("kind", KINDS)
def test_all_spikes_of_clusters_are_those_that_numpy_finds(clusters, kind):
    selector = Selector(sources(clusters)[kind])
    for wanted in ([0], [2**62, -1], [5, 5, 77], np.array([1, 99]), {0, 1, 2}, 10**6):
        expected = np.flatnonzero(
            np.isin(clusters, list(np.atleast_1d(list(wanted) if isinstance(wanted, set) else wanted)))
        )
        assert_identical(selector.select_spikes(wanted), expected)
        assert_identical(selector.select_spikes(wanted, 0), expected)


def test_clusters_come_in_any_collection_and_series_by_their_values(clusters):
    groups = spikes_per_cluster(clusters)
    expected = np.sort(np.concatenate([groups[0], groups[5]]))
    both = {0: "a", 5: "b"}
    for wanted in (both, both.keys(), {1: 0, 2: 5}.values(), iter([5, 0]), pd.Series([0, 5]), range(0, 6, 5), (5, 0)):
        assert_identical(Selector(clusters).select_spikes(wanted), expected)
    labels = np.arange(len(clusters))[::-1]
    selector = Selector(
        pd.Series(clusters, labels), spike_times=pd.Series(np.arange(len(clusters)), labels), chunk_bounds=[0, 100]
    )
    assert_identical(selector.select_spikes([0], subset_chunks=True), np.flatnonzero(clusters[:100] == 0))
    selector.update(pd.Series([3, 4], [9, 8]), pd.Series([70, 71], [9, 8]))
    assert selector.select_spikes([71]).tolist() == [4]


def test_no_clusters_select_none_and_clusters_without_spikes_nothing(clusters):
    selector = Selector(clusters)
    assert selector.select_spikes() is None
    assert selector.select_spikes([]) is None
    assert_identical(selector.select_spikes([3]), NONE)
    assert_identical(selector(3, []), NONE)
    assert_identical(select_spikes([], 3, clusters), NONE)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_clusters_are_named_when_strict(clusters, kind):
    selector = Selector(sources(clusters)[kind])
    with pytest.raises(SelectionError, match=r"no clusters -5, 3") as caught:
        selector.select_spikes([0, 3, -5], strict=True)
    assert caught.value.label == [-5, 3]
    assert isinstance(caught.value, LookupError)
    assert_identical(selector.select_spikes([0, 3, -5]), selector.select_spikes([0], strict=True))


def test_a_limit_shrinks_by_phys_rule_as_clusters_grow(clusters):
    selector = Selector(clusters)
    wanted = [0, 1, 2, 5, 77]
    for n in range(1, 6):
        found = selector.select_spikes(wanted[:n], 100)
        assert np.unique(clusters[found], return_counts=True)[1].tolist() == [int(100 * math.exp(-0.1 * (n - 1)))] * n
        assert len(selector.select_spikes(wanted[:n], 100, shrink=False)) == 100 * n
    assert len(selector.select_spikes(wanted, 1)) == 5


def test_regular_subsets_are_evenly_spread_and_the_same_each_time(clusters):
    spikes = np.flatnonzero(clusters == 5)
    found = Selector(clusters).select_spikes([5], 50)
    assert_identical(found, regular_subset(spikes, 50))
    assert found[0] == spikes[0]
    assert found[-1] == spikes[-1]


def test_random_subsets_are_those_of_the_seed(clusters):
    def taken(seed, selector=None):
        selector = selector or Selector(clusters, seed=seed)
        return selector.select_spikes([0, 5], 50, subset="random").tolist()

    assert taken(1) == taken(1) == taken([1])
    assert taken(1) != taken(2)
    selector = Selector(clusters, seed=1)
    selector.select_spikes([77], 5, subset="random")
    assert taken(1, selector) == taken(1), "what was asked before does not matter"
    assert taken(None) != taken(None)
    assert taken(np.random.default_rng(4)) == taken(np.random.default_rng(4))
    assert taken(1, pickle.loads(pickle.dumps(Selector(clusters, seed=1)))) == taken(1)


@pytest.mark.parametrize("cluster", [-1, 0, 2**62])
def test_random_subsets_of_one_cluster_do_not_depend_on_the_others(clusters, cluster):
    selector = Selector(clusters, seed=9)
    alone = selector.select_spikes([cluster], 40, subset="random")
    together = selector.select_spikes([cluster, 5, 77], 40, subset="random", shrink=False)
    assert_identical(together[clusters[together] == cluster], alone)
    selector.update(selector.select_spikes([5, 77]), 4000)  # a merge
    selector.update(np.flatnonzero(clusters == 2)[::2], 4001)  # a split
    assert_identical(selector.select_spikes([cluster], 40, subset="random"), alone)
    assert_identical(selector.select_spikes([cluster], 40), Selector(clusters).select_spikes([cluster], 40))


@pytest.mark.parametrize("subset", ["regular", "random"])
def test_batches_are_spikes_of_the_cluster_that_follow_each_other(clusters, subset):
    spikes = np.flatnonzero(clusters == 0)
    selector = Selector(clusters, seed=0)
    found = selector.select_spikes([0], 105, batch=10, subset=subset)
    places = np.searchsorted(spikes, found)
    assert len(found) == 100
    assert (np.diff(places.reshape(10, 10), axis=1) == 1).all()
    assert len(selector.select_spikes([0], 4, batch=10, subset=subset)) == 4
    assert len(selector.select_spikes([0], 50, batch=10**6, subset=subset)) == 50


def test_batches_begin_where_phys_excerpts_do():
    found = Selector({0: np.arange(100)}).select_spikes([0], 30, batch=10)
    assert [(int(a[0]), int(a[-1])) for a in found.reshape(3, 10)] == [(0, 9), (45, 54), (90, 99)]


def test_only_spikes_of_kept_chunks_and_of_the_subset_are_taken(clusters):
    times = np.arange(len(clusters)) / 100
    bounds = np.linspace(0, 200, 11)
    selector = Selector(clusters, spike_times=times, chunk_bounds=bounds, n_chunks_kept=3)
    assert selector.chunks_kept.tolist() == [0, 20, 80, 100, 160, 180]
    inside = ((times >= 0) & (times < 20)) | ((times >= 80) & (times < 100)) | ((times >= 160) & (times < 180))
    assert_identical(selector.select_spikes([0], subset_chunks=True), np.flatnonzero((clusters == 0) & inside))
    only = np.arange(0, 3000, 3)
    expected = np.flatnonzero((clusters == 0) & inside & np.isin(np.arange(len(clusters)), only))
    for asked in (only, only[::-1], [*only.tolist(), 0, 3]):
        assert_identical(selector.select_spikes([0], subset_chunks=True, subset_spikes=asked), expected)
    assert_identical(Selector(clusters).select_spikes([0], subset_spikes=[]), NONE)


def test_all_chunks_are_kept_when_no_number_is_given():
    selector = Selector([1, 1, 1], spike_times=[0.0, 1.0, 2.5], chunk_bounds=[0, 1, 2])
    assert selector.chunks_kept.tolist() == [0, 1, 1, 2]
    assert selector.select_spikes([1], subset_chunks=True).tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["array", "mapping"])
def test_updates_give_the_groups_of_the_new_assignments(clusters, kind):
    selector = Selector(sources(clusters)[kind])
    now = clusters.copy()
    rng = np.random.default_rng(8)
    for i in range(20):
        if i % 3 == 0:
            moved = selector.select_spikes(rng.choice(selector.clusters, 2, replace=False))
            to = 100 + i
        else:
            moved = rng.integers(0, len(now), 300)
            to = rng.integers(-1, 130, 300) if i % 3 == 1 else int(rng.integers(-1, 130))
        selector.update(moved, to)
        now[moved] = to
        expected = spikes_per_cluster(now)
        assert selector.clusters == list(expected)
        for cluster, spikes in expected.items():
            assert_identical(selector.select_spikes([cluster]), spikes)


@pytest.mark.parametrize("compared", [7, 1 << 20])
def test_an_array_that_is_changed_in_place_is_seen_whether_it_is_told_or_not(clusters, compared, monkeypatch):
    monkeypatch.setattr("megalith.select.selector.COMPARED", compared)
    ids = clusters[:300].copy()
    selector = Selector(ids, seed=1)
    selector.update([0, 1], 500)
    ids[[3, 299]] = 600
    now = np.where(np.arange(300) < 2, 500, ids)
    for cluster, spikes in spikes_per_cluster(now).items():
        assert_identical(selector.select_spikes([cluster]), spikes)
    assert selector.clusters == list(spikes_per_cluster(now))
    ids[:] = ids[::-1].copy()
    selector.update([5], 700)
    assert selector(None, [700]).tolist() == [5]
    assert_identical(selector.select_spikes([600]), np.array([0, 296]))
    copied = pickle.loads(pickle.dumps(selector))
    ids[:] = 0
    assert_identical(copied.select_spikes([600]), np.array([0, 296]))
    assert selector.select_spikes([600]).size == 0


def test_only_arrays_that_may_be_written_to_are_compared(monkeypatch):
    def compare(*_):
        raise AssertionError("compared")

    monkeypatch.setattr("megalith.select.selector._differing", compare)
    fixed, base = np.array([1, 2, 1]), np.array([1, 2, 1])
    fixed.flags.writeable = False
    for ids in (fixed, fixed[::-1]):
        assert Selector(ids).select_spikes([1]).tolist() == [0, 2]
    view = base[:]
    view.flags.writeable = False
    for ids in (base, view, np.frombuffer(bytearray(16), np.int64)):
        with pytest.raises(AssertionError, match="compared"):
            Selector(ids).select_spikes([1])


@pytest.mark.parametrize("kind", ["path", "mapping", "writable mapping"])
@pytest.mark.parametrize("way", ["in place", "saved again", "renamed to"])
def test_a_file_that_was_sorted_anew_is_grouped_anew(tmp_path, clusters, kind, way):
    path = tmp_path / "spike_clusters.npy"
    np.save(path, clusters)
    given = {
        "path": lambda: path,
        "mapping": lambda: np.load(path, mmap_mode="r"),
        "writable mapping": lambda: np.load(path, mmap_mode="r+"),
    }[kind]()
    selector = Selector(given, seed=0)
    if kind != "writable mapping":
        selector.update([0], 9999)
        assert selector.select_spikes([9999]).tolist() == [0]
    sorted_anew = clusters[::-1].copy()
    if way == "in place":
        mapped = np.load(path, mmap_mode="r+")
        mapped[:] = sorted_anew
        mapped.flush()
    elif way == "saved again" and kind == "path":
        np.save(path, sorted_anew[:-10])  # Other mappings of a file that is cut off are gone.
    else:
        np.save(tmp_path / "other.npy", sorted_anew)
        (tmp_path / "other.npy").replace(path)
    expected = np.load(path) if kind == "path" else np.asarray(given)
    for cluster, spikes in spikes_per_cluster(expected).items():
        assert_identical(selector.select_spikes([cluster]), spikes)
    selector.update([2], 8888)
    assert selector.select_spikes([8888]).tolist() == [2]


def test_a_file_that_is_gone_is_an_error_and_not_what_it_was(tmp_path):
    np.save(tmp_path / "ids.npy", [1, 2, 1])
    selector = Selector(tmp_path / "ids.npy")
    (tmp_path / "ids.npy").unlink()
    with pytest.raises(FileNotFoundError):
        selector.select_spikes([1])


def test_threads_that_select_while_an_array_changes_see_whole_groups():
    ids = np.repeat(np.arange(10), 1000)
    selector = Selector(ids)
    with ThreadPoolExecutor(4) as pool:
        for target in range(10, 40):
            ids[ids == target - 10] = target
            found = list(pool.map(lambda cluster: selector.select_spikes([cluster]), [target] * 8))
            assert all(np.array_equal(spikes, np.flatnonzero(ids == target)) for spikes in found)


def test_ids_of_64_bits_are_selected_but_not_moved():
    ids = np.array([2**63, 3, 2**63], np.uint64)
    selector = Selector(ids)
    assert selector.select_spikes(np.array([2**63], np.uint64)).tolist() == [0, 2]
    with pytest.raises(ArgumentError, match=r"2\*\*63"):
        selector.update([1], 4)
    groups = selector._groups
    assert selector.clusters == [3, 2**63]
    assert selector._groups is groups, "nothing has changed, and nothing is grouped anew"
    ids[0] = 3
    assert selector.select_spikes([3]).tolist() == [0, 1]


def test_spikes_in_two_clusters_are_selected_but_not_moved():
    selector = Selector({1: [4, 5], 2: [5, 6]})
    assert selector.select_spikes([1, 2]).tolist() == [4, 5, 6]
    for _ in range(2):
        with pytest.raises(ArgumentError, match="spike 5 is in more than one"):
            selector.update([4], 3)


def test_spikes_that_are_new_to_a_mapping_are_added_by_an_update():
    selector = Selector({4: [1, 3]})
    selector.update([9, 3], [4, 5])
    assert selector.select_spikes([4]).tolist() == [1, 9]
    assert selector.select_spikes([5]).tolist() == [3]


def test_what_a_selection_gives_can_be_changed_without_harm():
    groups = {1: np.array([1, 2, 3])}
    selector = Selector(groups)
    selector.select_spikes([1])[:] = 0
    groups[1][:] = 0
    assert selector.select_spikes([1]).tolist() == [1, 2, 3]
    selector = Selector([6, 6])
    selector.select_spikes([6])[:] = 5
    assert selector.select_spikes([6]).tolist() == [0, 1]


def test_phylibs_way_of_asking_obeys_numpys_seed_and_a_seed_of_its_own(clusters):
    groups = spikes_per_cluster(clusters)
    for n in (20, 3000):
        selector = Selector(get_spikes_per_cluster=groups.__getitem__, spikes_are_disjoint=True)
        np.random.seed(3)
        first = selector(n, [0, 1])
        np.random.seed(3)
        assert_identical(selector(n, [0, 1]), first)
        assert np.unique(clusters[first], return_counts=True)[1].tolist() == [n, n]
    seeded = Selector(groups, seed=3)
    assert_identical(seeded(20, [0]), seeded(20, [0]))
    assert_identical(seeded(-1, [0]), groups[0])


WRONG = [
    (ArgumentError, "subset", {"subset": "first"}),
    (ArgumentError, "max_n_spikes_per_cluster", {"max_n_spikes_per_cluster": -1}),
    (ArgumentError, "max_n_spikes_per_cluster", {"max_n_spikes_per_cluster": 1.5}),
    (ArgumentError, "batch", {"batch": 0}),
    (ArgumentError, "spike_times", {"subset_chunks": True}),
    (DTypeError, "subset_spikes", {"subset_spikes": [True, False]}),
    (ShapeError, "subset_spikes", {"subset_spikes": [[1]]}),
    (DTypeError, "cluster_ids", {"cluster_ids": [1.5]}),
]


@pytest.mark.parametrize(("error", "match", "options"), WRONG)
def test_options_that_are_not_allowed_are_refused(error, match, options):
    with pytest.raises(error, match=match):
        Selector([1, 2]).select_spikes(**{"cluster_ids": [1], **options})


MADE_WRONG = [
    (ArgumentError, "spikes_per_cluster", {"spikes_per_cluster": None}),
    (ShapeError, "spikes_per_cluster", {"spikes_per_cluster": [[1]]}),
    (DTypeError, "spikes_per_cluster", {"spikes_per_cluster": [0.5]}),
    (DTypeError, "cluster 3", {"spikes_per_cluster": {3: [0.5]}}),
    (ShapeError, "cluster 3", {"spikes_per_cluster": {3: [[1]]}}),
    (ArgumentError, "spikes_per_cluster", {"spikes_per_cluster": {"a": [1]}}),
    (ShapeError, "spike_times", {"spike_times": [1.0]}),
    (ShapeError, "chunk_bounds", {"chunk_bounds": [1.0]}),
    (ShapeError, "chunk_bounds", {"chunk_bounds": [1.0, 0.0]}),
    (ArgumentError, "n_chunks_kept", {"chunk_bounds": [0, 1], "n_chunks_kept": 0}),
    (ArgumentError, "seed", {"seed": -1}),
    (ArgumentError, "seed", {"seed": "one"}),
    (ArgumentError, "seed", {"seed": 1.5}),
]


@pytest.mark.parametrize(("error", "match", "options"), MADE_WRONG)
def test_selectors_that_make_no_sense_are_refused(error, match, options):
    with pytest.raises(error, match=match):
        Selector(**{"spikes_per_cluster": [1, 2], **options})


def test_updates_that_make_no_sense_are_refused():
    with pytest.raises(ArgumentError, match="function"):
        Selector(lambda cluster: [1]).update([1], 2)
    with pytest.raises(ShapeError, match="3 spikes"):
        Selector([1, 2, 3]).update([0, 1, 2], [7, 8])


IDS = st.integers(-1, 6) | st.sampled_from([2**62, -(2**40)])


@st.composite
def recordings(draw):
    """Clusters and times of spikes, and chunks."""
    clusters = np.array(draw(st.lists(IDS, max_size=60)), np.int64)
    times = np.sort(draw(st.lists(st.integers(0, 40), min_size=len(clusters), max_size=len(clusters))))
    bounds = np.sort(draw(st.lists(st.integers(-2, 45), min_size=2, max_size=9)))
    chunks = {"spike_times": times.astype(float), "chunk_bounds": bounds}
    return clusters, chunks | {"n_chunks_kept": draw(st.none() | st.integers(1, 10)), "seed": draw(st.integers(0, 99))}


QUESTIONS = st.fixed_dictionaries(
    {
        "max_n_spikes_per_cluster": st.none() | st.integers(0, 12),
        "subset": st.sampled_from(["regular", "random"]),
        "batch": st.none() | st.integers(1, 5),
        "subset_chunks": st.booleans(),
        "subset_spikes": st.none() | st.lists(st.integers(0, 70), max_size=30),
        "shrink": st.booleans(),
    }
)


def in_question(clusters, made, asked):
    """Which spikes may be selected, apart from their clusters."""
    allowed = np.ones(len(clusters), bool)
    if asked["subset_chunks"]:
        bounds, n = made["chunk_bounds"], len(made["chunk_bounds"]) - 1
        step = 1 if made["n_chunks_kept"] is None else -(-n // made["n_chunks_kept"])
        kept = [(bounds[i], bounds[i + 1]) for i in range(0, n, step)]
        allowed &= np.array([any(low <= t < high for low, high in kept) for t in made["spike_times"]], bool)
    if asked["subset_spikes"] is not None:
        allowed &= np.isin(np.arange(len(clusters)), asked["subset_spikes"])
    return allowed


@given(recording=recordings(), wanted=st.lists(IDS, min_size=1, max_size=6), asked=QUESTIONS)
def test_every_selection_is_sorted_unique_within_clusters_and_limits_and_that_of_its_seed(recording, wanted, asked):
    clusters, made = recording
    found = Selector(clusters, **made).select_spikes(wanted, **asked)
    assert found.dtype == np.int64
    assert all(a < b for a, b in pairwise(found.tolist()))
    allowed = in_question(clusters, made, asked)
    assert allowed[found].all()
    assert np.isin(clusters[found], wanted).all()
    limit, most = asked["max_n_spikes_per_cluster"], len(clusters)
    if limit:
        most = max(1, int(limit * math.exp(-0.1 * (len(set(wanted)) - 1)))) if asked["shrink"] else limit
    for cluster in set(wanted):
        there = int((allowed & (clusters == cluster)).sum())
        taken = int((clusters[found] == cluster).sum())
        assert taken == min(there, most) or (asked["batch"] is not None and 0 < taken < min(there, most))
    groups = spikes_per_cluster(clusters)
    for given_as in (clusters, groups, lambda cluster: groups.get(cluster, NONE), groups.__getitem__):
        assert_identical(Selector(given_as, **made).select_spikes(wanted[::-1], **asked), found)
    if not asked["subset_chunks"]:
        options = {name: asked[name] for name in asked if name not in ("max_n_spikes_per_cluster", "subset_chunks")}
        assert_identical(select_spikes(wanted, limit, groups, seed=made["seed"], **options), found)


MOVES = st.lists(st.tuples(st.lists(st.integers(0, 59), max_size=8), IDS), max_size=6)


@given(recording=recordings(), moves=MOVES, told=st.booleans(), wanted=st.lists(IDS, min_size=1), asked=QUESTIONS)
def test_selections_after_merges_and_splits_are_those_of_the_new_assignments(recording, moves, told, wanted, asked):
    clusters, made = recording
    given_now = clusters.copy()
    selectors = [Selector(given_now, **made), Selector(spikes_per_cluster(clusters), **made)]
    now = clusters.copy()
    for spikes, cluster in moves:
        moved = [spike for spike in spikes if spike < len(clusters)]
        now[moved] = cluster
        for selector in selectors[not told :]:
            selector.update(moved, cluster)
        if not told:
            given_now[moved] = cluster
    expected = Selector(now, **made).select_spikes(wanted, **asked)
    for selector in selectors:
        assert selector.clusters == list(spikes_per_cluster(now))
        assert_identical(selector.select_spikes(wanted, **asked), expected)
        # A cluster that kept its spikes keeps those that are taken of it.
        for cluster in set(wanted):
            if np.array_equal(now == cluster, clusters == cluster):
                before = Selector(clusters, **made).select_spikes([cluster], **asked)
                assert_identical(selector.select_spikes([cluster], **asked), before)

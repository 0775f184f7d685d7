"""Any array there is: every kernel equals its oracle."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import megalith
from megalith import select
from megalith.exceptions import IndexRangeError, SelectionError
from megalith.testing import reference, strategies
from megalith.testing.cases import BOOL, COMPLEX, FLOATS, INTS, assert_identical
from megalith.testing.layouts import SINK_LAYOUTS, empty_like_layout
from megalith.testing.reference import MODES

threads = st.sampled_from([1, 2, 8])
blocks = st.sampled_from([1, 3, 1000])
sinks = st.sampled_from([None, *SINK_LAYOUTS])


def sink_for(name, expected):
    """A sink of a layout for a result, or None."""
    return None if name is None else empty_like_layout(name, expected.shape, expected.dtype)


@given(strategies.arrays(), blocks, threads, sinks, st.sampled_from(INTS))
def test_where_equals_its_oracle(source, blocks, threads, sink, dtype):
    expected = reference.where(source, dtype=dtype)
    sink = sink_for(sink, expected)
    assert_identical(megalith.where(source, sink, blocks, 0, threads, dtype=dtype), expected)


@given(strategies.arrays(BOOL + INTS + FLOATS), st.integers(-300, 300) | st.floats(-100, 100, width=16), threads)
def test_where_above_equals_its_oracle(source, above, threads):
    expected = reference.where(source, above=above)
    assert_identical(megalith.where(source, above=above, cutoff=0, processes=threads), expected)


@given(strategies.arrays())
def test_where_with_numpy_below_the_cutoff_equals_where_without(source):
    assert_identical(megalith.where(source, cutoff=1 << 40), megalith.where(source, cutoff=0))


@given(st.data(), strategies.tables(), threads, sinks)
def test_apply_lut_equals_its_oracle(data, table, threads, sink):
    source = data.draw(strategies.index_arrays(len(table)))
    expected = reference.apply_lut(source, table)
    sink = sink_for(sink, expected) if table.dtype.names is None and table.dtype.kind not in "SV" else None
    got = megalith.apply_lut(source, table, sink, processes=threads)
    assert got.shape == expected.shape
    assert got.astype(expected.dtype).tobytes() == expected.tobytes()


@given(strategies.arrays(INTS + BOOL), st.integers(1, 300), st.sampled_from(["raise", "clip", "wrap"]), threads)
def test_apply_lut_of_any_value_equals_its_oracle_or_both_refuse(source, size, mode, threads):
    table = np.arange(size, dtype=np.int32) * 3
    try:
        expected = reference.apply_lut(source, table, mode=mode)
    except IndexError:
        with pytest.raises(IndexRangeError):
            megalith.apply_lut(source, table, processes=threads, mode=mode)
    else:
        assert_identical(megalith.apply_lut(source, table, processes=threads, mode=mode), expected)


@given(strategies.index_arrays(2, max_dims=4), st.data(), threads, sinks)
def test_apply_lut_to_index_equals_its_oracle_or_both_refuse(source, data, threads, sink):
    sides = tuple(data.draw(st.integers(1, 4)) for _ in range(source.ndim))
    dtype = data.draw(st.sampled_from(INTS + BOOL + ("float32", "float64")))
    kernel = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 3, sides).astype(dtype)
    if np.dtype(dtype).kind == "f":
        kernel += np.asarray(0.25, dtype=dtype)
    table = np.arange(200, dtype=np.int16)[::-1].copy()
    try:
        expected = reference.apply_lut_to_index(source, kernel, table)
    except IndexError:
        with pytest.raises(IndexRangeError):
            megalith.apply_lut_to_index(source, kernel, table, processes=threads)
    else:
        sink = sink_for(sink, expected)
        assert_identical(megalith.apply_lut_to_index(source, kernel, table, sink, threads), expected)


@given(
    strategies.arrays(BOOL + INTS + FLOATS + COMPLEX, min_dims=1),
    strategies.kernels(),
    st.data(),
    st.sampled_from(MODES),
    st.floats(-1e3, 1e3),
    threads,
    sinks,
)
def test_correlate1d_equals_its_oracle(source, kernel, data, mode, cval, threads, sink):
    n = len(kernel)
    types = COMPLEX if source.dtype.kind == "c" else BOOL + INTS + FLOATS
    options = {
        "axis": data.draw(st.integers(-source.ndim, source.ndim - 1)),
        "origin": data.draw(st.integers(-(n // 2), (n - 1) // 2)),
        "mode": mode,
        "cval": cval,
    }
    expected = reference.correlate1d(source, kernel, dtype=data.draw(st.sampled_from(types)), **options)
    if sink is None:
        got = megalith.correlate1d(source, kernel, processes=threads, dtype=expected.dtype, **options)
    else:
        got = megalith.correlate1d(source, kernel, sink_for(sink, expected), processes=threads, **options)
    assert_identical(got, expected)


@given(strategies.arrays(BOOL + INTS), blocks, threads)
def test_block_sums_of_whole_numbers_equal_their_oracle(source, blocks, threads):
    assert_identical(megalith.block_sums(source, blocks, threads), reference.block_sums(source, blocks))


@given(strategies.arrays(FLOATS + COMPLEX), blocks, threads)
def test_block_sums_of_floats_equal_their_oracle_to_the_rounding_of_a_pairwise_sum(source, blocks, threads):
    expected, bound = reference.block_sums(source, blocks), reference.block_sums_bound(source, blocks)
    got = megalith.block_sums(source, blocks, threads)
    parts = [(got.real, expected.real), (got.imag, expected.imag)]
    for one, other in parts:
        # An overflow on the way depends on the order of the sum: NumPy's own is no better.
        sure = np.isfinite(other) & np.isfinite(one)
        assert (np.abs(one[sure] - other[sure]) <= bound[sure] + 1e-300).all()
        assume(np.isfinite(bound).all() and (bound < 1e280).all())
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
        np.testing.assert_array_equal(one[np.isinf(other)], other[np.isinf(other)])


@given(strategies.arrays(), blocks, threads)
def test_block_counts_equal_their_oracle(source, blocks, threads):
    assert_identical(megalith.block_counts(source, blocks, threads), reference.block_counts(source, blocks))


@given(
    strategies.arrays(INTS, min_dims=1, max_dims=1, max_side=40)
    | st.lists(st.integers(-9, 9)).map(np.array).map(lambda a: a.astype(np.int64)),
    st.integers(-20, 20) | st.integers(-(2**63), 2**63 - 1),
    threads,
)
def test_neighbours_equal_their_oracle(indices, offset, threads):
    assert_identical(megalith.neighbours(indices, offset, threads), reference.neighbours(indices, offset))


# Few different ids, so that groups have several entries; any values of the type; runs.
ids = strategies.arrays(INTS, min_dims=1, max_dims=1, max_side=40) | st.lists(
    st.integers(-2, 9) | st.sampled_from([100, 10**7, 2**62, -(2**63)]), max_size=60
).flatmap(lambda ids: st.sampled_from([1, 4, 9]).map(lambda n: np.repeat(np.array(ids, np.int64), n)))


@given(ids, threads)
def test_spikes_per_cluster_equal_their_oracle(ids, threads):
    positions, found, bounds = reference.grouped(ids)
    got = select.spikes_per_cluster(ids, processes=threads)
    assert list(got) == found.tolist()
    for i, spikes in enumerate(got.values()):
        assert_identical(spikes, positions[bounds[i] : bounds[i + 1]])


@given(ids, threads)
def test_unique_equals_its_oracle(ids, threads):
    values = np.unique(ids.astype(ids.dtype.newbyteorder("=")))
    np.testing.assert_array_equal(select.unique(ids, processes=threads), values[values >= 0])


@given(ids, st.data(), st.sampled_from(BOOL + INTS + FLOATS), threads)
def test_grouped_means_equal_their_oracle_to_the_rounding_of_a_sum(ids, data, dtype, threads):
    shape = (len(ids), *data.draw(strategies.shapes(max_dims=2, max_side=5)))
    values = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 100, shape).astype(dtype)
    values = data.draw(strategies.laid_out(st.just(values)))
    expected, bound = reference.grouped_mean(values, ids)
    got = select.grouped_mean(values, ids, processes=threads)
    assert got.shape == expected.shape
    assert (np.abs(got - expected) <= bound).all()


@given(ids, st.lists(st.integers(-2, 9) | st.sampled_from([10**7, 2**62, -(2**63)]), max_size=9), threads)
def test_places_and_members_equal_their_oracles(ids, table, threads):
    values = ids.tolist()
    members = [i for i, value in enumerate(values) if value in table]
    assert select.spikes_in_clusters(ids, table, processes=threads).tolist() == members
    if any(value not in table for value in values if value != -1):
        with pytest.raises(SelectionError):
            select.index_of(ids, table, processes=threads)
    else:
        expected = [len(table) - 1 - table[::-1].index(value) if value in table else -1 for value in values]
        assert select.index_of(ids, table, processes=threads).tolist() == expected


@given(source=strategies.arrays(max_side=4), order=st.sampled_from(["C", "F"]))
def test_write_and_read_give_the_array_back(tmp_path_factory, source, order):
    path = tmp_path_factory.mktemp("property") / "a.npy"
    megalith.write(path, np.asarray(source, order=order))
    assert np.load(path).tobytes() == source.tobytes()
    assert megalith.read(path).array.tobytes() == source.tobytes()

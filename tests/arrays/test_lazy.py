"""The array functions on dask arrays: lazy, and the same numbers whatever the chunks and the scheduler."""

import pickle
import threading

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import megalith
from megalith.arrays import blocks, lazy
from megalith.exceptions import ArgumentError, DTypeError, IndexRangeError, LayoutError, ShapeError
from megalith.testing import reference
from megalith.testing.cases import ALL, NUMERIC, assert_identical, sample
from megalith.testing.faults import run_python
from megalith.testing.reference import MODES

GRIDS = [((7, 5), (7, 5)), ((3, 2), (7, 5)), ((1, 5), (7, 5)), (((0, 4, 0, 1, 2), (5,)), (7, 5)), ((1, 1), (7, 5))]


@st.composite
def chunked(draw, shape):
    """Lengths of chunks along each axis, of none at all too."""
    return tuple(tuple(np.diff([0, *sorted(draw(st.lists(st.integers(0, n), max_size=4))), n]).tolist()) for n in shape)


@st.composite
def volumes(draw, min_dims=1, max_dims=4, high=9):
    shape = tuple(draw(st.lists(st.integers(0, 7), min_size=min_dims, max_size=max_dims)))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, high, shape)
    dtype = draw(st.sampled_from(["u1", "i2", ">i4", "u8", "?"]))
    return values.astype(dtype), draw(chunked(shape))


def computed(result):
    """The numbers of a lazy result, which has said their type beforehand."""
    assert isinstance(result, da.Array)
    values = result.compute(scheduler="sync")
    assert values.dtype == result.dtype
    return values


@given(volumes(), st.data())
def test_correlate1d_gives_the_bits_of_the_whole_array(volume, data):
    values, chunks = volume
    values = values.astype(data.draw(st.sampled_from(NUMERIC)))
    kernel = data.draw(st.lists(st.sampled_from([0.25, 1.0, -2.0, 1 / 3]), min_size=1, max_size=20))
    options = {
        "axis": data.draw(st.integers(-values.ndim, values.ndim - 1)),
        "mode": data.draw(st.sampled_from(MODES)),
        "cval": data.draw(st.sampled_from([0.0, 1.5, -3])),
        "origin": data.draw(st.integers(-(len(kernel) // 2), (len(kernel) - 1) // 2)),
    }
    found = computed(megalith.correlate1d(da.from_array(values, chunks=chunks), kernel, **options))
    assert_identical(found, megalith.correlate1d(values, kernel, **options))


@pytest.mark.parametrize("dtype", NUMERIC)
@pytest.mark.parametrize("mode", MODES)
def test_correlate1d_gives_what_scipy_gives(mode, dtype):
    values = sample(dtype, (11, 6))
    array = da.from_array(values, chunks=((3, 1, 0, 5, 2), (2, 4)))
    for kernel in ([1, 2], [0.25, 0.5, 0.25], np.arange(30.0)):
        for axis in (0, 1):
            expected = reference.correlate1d(values, kernel, axis=axis, mode=mode)
            assert_identical(computed(megalith.correlate1d(array, kernel, axis=axis, mode=mode)), expected)


def test_correlate1d_of_complex_numbers_and_with_a_type_gives_the_same():
    values = sample("complex64", (9, 4))
    array = da.from_array(values, chunks=2)
    assert_identical(computed(megalith.correlate1d(array, [1j, 2, 3])), megalith.correlate1d(values, [1j, 2, 3]))
    half = megalith.correlate1d(da.from_array(values.real, chunks=2), [1.0, 2.0], dtype="f4")
    assert_identical(computed(half), megalith.correlate1d(values.real, [1.0, 2.0], dtype="f4"))


@given(volumes(min_dims=0), st.sampled_from(ALL))
def test_apply_lut_looks_the_same_up_in_every_chunk(volume, dtype):
    values, chunks = volume
    table = sample(dtype, (9,))
    found = computed(megalith.apply_lut(da.from_array(values, chunks=chunks), table))
    assert_identical(found, table[values.astype(int).reshape(-1)].reshape(values.shape))


@given(volumes(min_dims=0, max_dims=3, high=3), st.data())
def test_apply_lut_to_index_sums_over_the_edges_of_chunks(volume, data):
    values, chunks = volume
    shape = tuple(data.draw(st.integers(1, 9)) for _ in values.shape)
    kernel = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 3, shape)
    kernel = kernel.astype(data.draw(st.sampled_from(["i8", "f8"])))
    table = np.arange(int(kernel.sum()) * 2 + 1)
    found = computed(megalith.apply_lut_to_index(da.from_array(values, chunks=chunks), kernel, table))
    assert_identical(found, megalith.apply_lut_to_index(values, kernel, table))


@given(volumes(min_dims=0), st.sampled_from(["i8", "u1", ">i4"]), st.sampled_from([None, 3]))
def test_where_gives_positions_in_c_order_over_any_grid_of_chunks(volume, dtype, above):
    values, chunks = volume
    found = computed(megalith.where(da.from_array(values, chunks=chunks), dtype=dtype, above=above))
    assert_identical(found, megalith.where(values, dtype=dtype, above=above))


def test_where_makes_a_chunk_of_each_row_of_chunks():
    values = np.ones((1, 6, 4), bool)
    found = megalith.where(da.from_array(values, chunks=(1, 2, 2)))
    assert found.numblocks == (3, 1)
    assert np.isnan(found.shape[0])
    assert found.compute_chunk_sizes().chunks == ((8, 8, 8), (3,))


@given(volumes(min_dims=0), st.integers(1, 30))
def test_sums_and_counts_are_those_of_the_blocks_of_the_c_order_sequence(volume, n_blocks):
    values, chunks = volume
    array = da.from_array(values, chunks=chunks)
    for function in (megalith.block_sums, megalith.block_counts):
        assert_identical(computed(function(array, n_blocks)), function(values, n_blocks))


def test_sums_of_floats_are_as_good_as_those_in_memory_and_do_not_change_from_run_to_run(monkeypatch):
    monkeypatch.setattr(lazy, "FAN_IN", 3)
    values = np.random.default_rng(0).standard_normal((60, 40)).astype("f4")
    sums = megalith.block_sums(da.from_array(values, chunks=(7, 9)), 11)
    found = computed(sums)
    assert (abs(found - reference.block_sums(values, 11)) <= reference.block_sums_bound(values, 11)).all()
    for scheduler in ("sync", "threads"):
        assert_identical(sums.compute(scheduler=scheduler), found)


def test_blocks_are_by_default_those_of_an_array_in_memory():
    values = np.arange(1000)
    with megalith.threads(3):
        assert_identical(computed(megalith.block_sums(da.from_array(values, chunks=90))), megalith.block_sums(values))
        assert_identical(megalith.block_ranges(da.from_array(values, chunks=90)), megalith.block_ranges(values))


def everything(array, table):
    """All lazy results of small numbers, by name."""
    return {
        "apply_lut": megalith.apply_lut(array, table),
        "apply_lut_to_index": megalith.apply_lut_to_index(array, np.ones((3, 2), int), np.arange(99)),
        "correlate1d": megalith.correlate1d(array, [1.0, 2, 3], mode="reflect"),
        "along the rows": megalith.correlate1d(array, np.ones(9), axis=1, mode="wrap"),
        "where": megalith.where(array, above=2),
        "block_sums": megalith.block_sums(array, 5),
        "block_counts": megalith.block_counts(array, 5),
    }


def in_memory(values, table):
    return {name: np.asarray(result) for name, result in everything(values, table).items()}


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_every_scheduler_gives_the_same(scheduler):
    values, table = np.random.default_rng(0).integers(0, 9, (30, 20)), np.arange(9) * 1.5
    results = everything(da.from_array(values, chunks=(9, 8)), table)
    found = dask.compute(*results.values(), scheduler=scheduler)
    for got, expected in zip(found, in_memory(values, table).values(), strict=True):
        assert_identical(got, expected)


CLUSTER = """
if __name__ == "__main__":
    import dask.array as da
    import numpy as np
    from dask.distributed import Client, LocalCluster

    import megalith
    from megalith import _core

    def threads(values):
        return np.full(values.shape, _core.default_threads())

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster):
        values = np.random.default_rng(0).integers(0, 9, (30, 20))
        array = da.from_array(values, chunks=(9, 8)).persist()
        kernel, table = np.ones((3, 2), int), np.arange(99)
        for mode in ("constant", "reflect", "wrap"):
            lazy = megalith.correlate1d(array, [1.0, 2, 3], mode=mode)
            assert np.array_equal(lazy.compute(), megalith.correlate1d(values, [1.0, 2, 3], mode=mode))
        lazy = megalith.apply_lut_to_index(megalith.apply_lut(array, np.arange(9)[::-1]), kernel, table)
        expected = megalith.apply_lut_to_index(8 - values, kernel, table)
        assert np.array_equal(lazy.compute(), expected)
        assert np.array_equal(megalith.where(array).compute(), megalith.where(values))
        assert np.array_equal(megalith.block_sums(array, 7).compute(), megalith.block_sums(values, 7))
        sink = np.zeros((30, 20))
        assert megalith.correlate1d(array, [1.0, 2, 3], sink) is sink
        assert np.array_equal(sink, megalith.correlate1d(values, [1.0, 2, 3]))
        megalith.write("a.npy", array)
        assert np.array_equal(np.load("a.npy"), values)
        assert np.array_equal(megalith.where(array, "hits.npy"), megalith.where(values))
        print(sorted(set(array.map_blocks(threads, dtype=int).compute().ravel().tolist())))
"""


def test_on_a_cluster_kernels_run_where_the_chunks_are(tmp_path):
    child = run_python(f"import os; os.chdir({str(tmp_path)!r})\n{CLUSTER}", tmp_path, timeout_s=100)
    assert child.check().split() == ["[1]"]


def test_nothing_is_computed_until_it_is_asked_for():
    def fail(block):
        raise RuntimeError("computed")

    array = da.ones((20, 10), chunks=6, dtype="u1").map_blocks(fail, dtype="u1", meta=np.empty((0, 0), "u1"))
    for result in everything(array, np.arange(9)).values():
        with pytest.raises(RuntimeError, match="computed"):
            result.compute(scheduler="sync")


def test_names_are_those_of_the_content():
    values, table = np.arange(40).reshape(8, 5) % 9, np.arange(9)
    first, again = (everything(da.from_array(values, chunks=(4, 2)), table) for _ in range(2))
    other = everything(da.from_array(values[::-1], chunks=(4, 2)), table)
    for name in first:
        assert first[name].name == again[name].name != other[name].name
    assert (
        megalith.apply_lut(da.from_array(values), table).name != megalith.apply_lut(da.from_array(values), -table).name
    )


def test_tasks_are_small_and_the_table_is_in_the_graph_once():
    table = np.arange(100_000.0)
    array = da.zeros((40, 40), chunks=4, dtype="u1")
    for result in (megalith.apply_lut(array, table), megalith.apply_lut_to_index(array, np.ones((3, 3), int), table)):
        graph = dict(result.__dask_graph__().layers[result.name])
        sizes = sorted(len(pickle.dumps(task)) for task in graph.values())
        assert sizes[-1] > table.nbytes
        assert sizes[-2] < 2000


def test_a_chunk_is_made_from_its_neighbours_alone():
    array = da.zeros(100, chunks=10)
    result = megalith.correlate1d(array, np.ones(5), mode="wrap")
    wanted = {key[1] for key in result.blocks[3].dask.cull({(result.blocks[3].name, 0)}) if key[0] == array.name}
    assert wanted == {2, 3, 4}
    ends = result.blocks[0]
    assert {key[1] for key in ends.dask.cull({(ends.name, 0)}) if key[0] == array.name} == {0, 1, 9}


def test_kernels_in_tasks_use_one_thread_unless_told(monkeypatch):
    seen = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MEGALITH_NUM_THREADS", raising=False)
    monkeypatch.setattr(lazy.kernels, "apply_lut", lambda *args, **options: seen.append(options["processes"]))
    run = lambda **options: lazy._apply_lut(np.zeros(3, int), np.zeros(1), start=(0,), mode="raise", **options)  # noqa: E731
    run(threads=None)
    run(threads=3)
    with megalith.threads(2):
        run(threads=None)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    run(threads=None)
    assert seen == [1, 3, 2, None]


@pytest.mark.parametrize("kind", ["array", "path", "dataset", "F order", "Source"])
def test_a_sink_is_filled_chunk_by_chunk_and_returned(kind, tmp_path):
    values = np.random.default_rng(0).integers(0, 9, (30, 20))
    array = da.from_array(values, chunks=(9, 8))
    expected = megalith.correlate1d(values, [1, 2, 3])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        sink = {
            "array": np.zeros((30, 20), int),
            "path": tmp_path / "a.npy",
            "dataset": file.create_dataset("a", (30, 20), int),
            "F order": np.zeros((30, 20), int, order="F"),
            "Source": megalith.arrays.as_source(np.zeros((30, 20), int)),
        }[kind]
        result = megalith.correlate1d(array, [1, 2, 3], sink)
        assert result is {"path": result, "Source": getattr(sink, "array", None)}.get(kind, sink)
        assert_identical(np.array(result[...]), expected)
    if kind == "path":
        assert_identical(np.load(sink), expected)


def test_a_sink_says_the_type_of_the_result():
    values = np.random.default_rng(0).integers(0, 9, (30, 20))
    array = da.from_array(values, chunks=(9, 8))
    sink = np.zeros((30, 20), "f4")
    assert_identical(megalith.correlate1d(array, [0.5, 1], sink), megalith.correlate1d(values, [0.5, 1], dtype="f4"))
    table = np.arange(9, dtype="u1")
    assert_identical(megalith.apply_lut(array, table, np.zeros((30, 20), "f8")), table[values].astype("f8"))
    hits = np.zeros((np.count_nonzero(values), 2), "u1")
    assert megalith.where(array, hits) is hits
    assert_identical(hits, megalith.where(values, dtype="u1"))
    with pytest.raises(ShapeError):
        megalith.where(array, hits[1:].copy())
    with pytest.raises(DTypeError):
        megalith.apply_lut(array, np.arange(9.0), np.zeros((30, 20), "i4"))


def test_positions_go_to_a_file_and_progress_is_shown(tmp_path, capfd):
    values = np.random.default_rng(0).integers(0, 2, (30, 20, 4))
    found = megalith.where(da.from_array(values, chunks=(9, 8, 4)), tmp_path / "hits.npy", verbose=True)
    assert_identical(np.asarray(found), megalith.where(values))
    assert "where" in capfd.readouterr().err


def test_a_failing_chunk_leaves_no_file(tmp_path):
    array = da.from_array(np.array([1, 2, 3, 9, 1, 7]), chunks=2)
    with pytest.raises(IndexRangeError) as caught:
        megalith.apply_lut(array, np.arange(8), tmp_path / "a.npy")
    assert (caught.value.index, caught.value.position) == (9, (3,))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheduler", ["sync", "processes"])
def test_bad_indices_are_named_with_their_place_in_the_array(scheduler):
    values = np.zeros((6, 8), int)
    values[4, 5] = 3
    array = da.from_array(values, chunks=(2, 3))
    with pytest.raises(IndexRangeError, match=r"position \[4, 5\]") as caught:
        megalith.apply_lut(array, np.zeros(3)).compute(scheduler=scheduler)
    assert (caught.value.index, caught.value.position) == (3, (4, 5))
    with pytest.raises(IndexRangeError) as caught:
        megalith.apply_lut_to_index(array, np.ones((1, 3), int), np.zeros(3)).compute(scheduler=scheduler)
    assert caught.value.position[0] == 4
    assert caught.value.position[1] in (4, 5, 6)


def test_sums_that_lack_a_neighbour_are_not_looked_up():
    values = np.pad(np.ones(96, dtype=np.uint8), 4)
    kernel, table = np.array([1, -1, 1]), np.arange(2)
    found = megalith.apply_lut_to_index(da.from_array(values, chunks=7), kernel, table)
    assert_identical(computed(found), megalith.apply_lut_to_index(values, kernel, table))


def test_arguments_are_checked_when_the_result_is_made():
    array = da.from_array(np.arange(24).reshape(4, 6), chunks=3)
    with pytest.raises(ArgumentError, match="mode"):
        megalith.correlate1d(array, [1, 2], mode="around")
    with pytest.raises(ArgumentError, match="origin"):
        megalith.correlate1d(array, [1, 2], origin=2)
    with pytest.raises(ShapeError, match="axis"):
        megalith.correlate1d(array, [1, 2], axis=2)
    with pytest.raises(ShapeError, match="kernel"):
        megalith.apply_lut_to_index(array, [1, 2], [1])
    with pytest.raises(DTypeError, match="source"):
        megalith.apply_lut(array.astype(float), [1])
    with pytest.raises(IndexRangeError, match="do not fit"):
        megalith.where(da.zeros(1000, chunks=10), dtype="u1")
    with pytest.raises(ArgumentError, match="blocks"):
        megalith.block_sums(array, 0)
    with pytest.raises(ShapeError, match="sink"):
        megalith.apply_lut(array, np.arange(24), np.zeros((4, 5), int))
    read_only = np.zeros((4, 6), int)
    read_only.flags.writeable = False
    with pytest.raises(LayoutError, match="read-only"):
        megalith.apply_lut(array, np.arange(24), read_only)


def test_lengths_of_chunks_are_needed_where_neighbours_are():
    values = np.arange(20)
    unknown = da.from_array(values, chunks=7)[da.from_array(values, chunks=7) % 2 == 0]
    assert_identical(computed(megalith.apply_lut(unknown, values * 2)), values[::2] * 2)
    rows = da.from_array(np.ones((20, 3)), chunks=(7, 2))[da.from_array(values, chunks=7) % 2 == 0]
    assert_identical(computed(megalith.correlate1d(rows, [1, 1], axis=1)), np.array([[1.0, 2, 2]] * 10))
    for call in (
        lambda: megalith.correlate1d(unknown, [1, 2]),
        lambda: megalith.where(unknown),
        lambda: megalith.block_sums(unknown, 2),
        lambda: megalith.apply_lut_to_index(unknown, [1, 2], [1]),
        lambda: megalith.apply_lut(unknown, values * 2, np.zeros(10, int)),
        lambda: megalith.neighbours(unknown, 1),
    ):
        with pytest.raises(ShapeError, match="compute_chunk_sizes"):
            call()


def test_records_are_moved_as_they_are():
    table = np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")])
    values = np.array([[0, 1], [1, 0]])
    assert_identical(computed(megalith.apply_lut(da.from_array(values, chunks=1), table)), table[values])


def test_other_functions_compute_chunk_by_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "WINDOW_BYTES", 100)
    values = np.arange(600).reshape(20, 30)
    array = da.from_array(values, chunks=(6, 7))
    assert_identical(megalith.read(array).array, values)
    assert_identical(megalith.read(array, slicing=(slice(3, 17), 4)).array, values[3:17, 4])
    assert_identical(megalith.read(array, slicing=np.s_[::-2, 1:]).array, values[::-2, 1:])
    assert_identical(np.load(megalith.write(tmp_path / "a.npy", array).location), values)
    megalith.write(tmp_path / "a.npy", array[:2], slicing=slice(5, 7))
    assert_identical(np.load(tmp_path / "a.npy")[4:7], values[[4, 0, 1]])
    assert_identical(megalith.neighbours(array[0], 1), megalith.neighbours(values[0], 1))
    both = megalith.ConcatenatedArrays([array, values])
    assert_identical(both[15:23, ::2], np.concatenate([values, values])[15:23, ::2])
    source = megalith.arrays.as_source(array)
    assert (source.shape, source.dtype, source.chunks) == ((20, 30), values.dtype, (6, 7))
    assert_identical(np.asarray(source), values)
    assert_identical(megalith.correlate1d(source, [1, 2, 3]), megalith.correlate1d(values, [1, 2, 3]))


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_only_some_chunks_are_in_memory_at_a_time(scheduler, monkeypatch):
    monkeypatch.setattr(blocks, "WINDOW_BYTES", 1)
    held, most, lock = [0], [0], threading.Lock()
    array = da.zeros((100, 10), chunks=(1, 10), dtype="u1")

    class Counted(np.ndarray):
        def __del__(self):
            with lock:
                held[0] -= 1

    def make(block):
        with lock:
            held[0] += 1
            most[0] = max(most[0], held[0])
        return block.view(Counted)

    if scheduler == "threads":
        array = array.map_blocks(make, dtype="u1", meta=np.empty((0, 0), "u1"))
    groups, sizes = lazy._groups, []
    monkeypatch.setattr(lazy, "_groups", lambda *args: [sizes.append(len(group)) or group for group in groups(*args)])
    with dask.config.set(scheduler=scheduler, num_workers=2):
        assert_identical(megalith.apply_lut(array, np.arange(3), np.ones((100, 10), int)), np.zeros((100, 10), int))
    assert most[0] <= 12
    assert max(sizes, default=0) <= 2 * megalith._core.default_threads()

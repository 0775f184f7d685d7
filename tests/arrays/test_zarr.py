"""Arrays of zarr as sources and sinks: the values of the same ndarray, chunk by chunk.

Windows are 64 MiB. Here most are a few bytes, so that small arrays are cut everywhere.
"""

import collections
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore, WrapperStore, ZipStore

import megalith
from megalith.arrays import as_source, blocks, data_chunk, get_excerpts, read_array, write_array
from megalith.exceptions import (
    ArgumentError,
    DTypeError,
    FormatError,
    IndexRangeError,
    LayoutError,
    MissingExtraError,
    ShapeError,
)
from megalith.select import Selector, grouped_mean, index_of, spikes_in_clusters, spikes_per_cluster, unique
from megalith.testing import reference
from megalith.testing.cases import ALL, assert_identical, sample
from megalith.testing.faults import run_python

SHAPES = [(70,), (9, 11), (5, 6, 7), (3, 4, 2, 5)]
KERNEL = [1.0, 2.0, 0.5]


def uneven(values):
    """Chunks that do not divide the shape."""
    return tuple(n // 2 + 1 for n in values.shape)


def format_3(values, path):
    return zarr.create_array(path, data=values, chunks=uneven(values))


def format_2_in_f_order(values, path):
    return zarr.create_array(path, data=values, chunks=uneven(values), zarr_format=2, order="F")


def chunks_larger_than_the_array(values, path):
    return zarr.create_array(path, data=values, chunks=tuple(n + 3 for n in values.shape))


def shards_without_compression(values, path):
    shards = tuple(2 * (n // 3 + 1) for n in values.shape)
    return zarr.create_array(path, data=values, chunks=tuple(n // 2 for n in shards), shards=shards, compressors=None)


def member_of_a_group(values, path):
    group = zarr.open_group(path, mode="w")
    return group.create_array("first/second", data=values, chunks=(2,) * values.ndim)


def read_only(values, path):
    format_3(values, path)
    return zarr.open_array(path, mode="r")


def in_memory(values, path):
    return zarr.create_array(MemoryStore(), data=values, chunks=uneven(values))


def in_a_zip_file(values, path):
    with ZipStore(path.with_suffix(".zip"), mode="w") as store:
        format_3(values, store)
    return zarr.open_array(ZipStore(path.with_suffix(".zip"), mode="r"), mode="r")


MAKERS = [
    format_3,
    format_2_in_f_order,
    chunks_larger_than_the_array,
    shards_without_compression,
    member_of_a_group,
    in_memory,
    read_only,
    in_a_zip_file,
]
WRITABLE = MAKERS[:-2]


@pytest.fixture(params=[100, 1 << 26])
def window(request, monkeypatch):
    """Bytes of a window."""
    monkeypatch.setattr(blocks, "WINDOW_BYTES", request.param)
    return request.param


@pytest.fixture(params=SHAPES, ids=str)
def values(request):
    """Small numbers, so that they are good indices."""
    return np.random.default_rng(1).integers(0, 9, request.param).astype(np.uint16)


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def source(request, values, tmp_path):
    """The values in an array of zarr."""
    return request.param(values, tmp_path / "a.zarr")


@pytest.fixture(params=WRITABLE, ids=lambda make: make.__name__)
def sink(request, values, tmp_path):
    """An array of zarr of doubles, with another value everywhere."""
    return request.param(np.full(values.shape, 77.0), tmp_path / "sink.zarr")


class Counting(WrapperStore):
    """A store that counts how often each chunk is read and written."""

    def __init__(self, store):
        super().__init__(store)
        self.reads, self.writes = collections.Counter(), collections.Counter()

    async def get(self, key, prototype, byte_range=None):
        self.reads[key] += key.startswith("c/")
        return await super().get(key, prototype, byte_range)

    async def set(self, key, value):
        self.writes[key] += key.startswith("c/")
        await super().set(key, value)


def counted(values, chunks, **options):
    """Return an array of zarr and its counts, which begin when it has its values."""
    store = Counting(MemoryStore())
    array = zarr.create_array(store, data=values, chunks=chunks, **options)
    store.reads.clear()
    store.writes.clear()
    return array, store


def test_where_finds_what_numpy_finds(window, source, values):
    assert_identical(megalith.where(source, cutoff=0), reference.where(values))
    assert_identical(megalith.where(source, cutoff=0, above=3), reference.where(values, above=3))


def test_sums_and_counts_are_those_of_the_array(window, source, values):
    for n in (1, 5, 1000):
        assert_identical(megalith.block_sums(source, n), reference.block_sums(values, n))
        assert_identical(megalith.block_counts(source, n), reference.block_counts(values, n))


@pytest.mark.parametrize("chunks", [(10, 60, 90), (40, 7, 33), (3, 60, 10)])
@pytest.mark.parametrize("n_bytes", [1, 200_000, 1 << 26])
def test_sums_of_floats_have_the_bits_of_the_sums_in_memory(monkeypatch, chunks, n_bytes):
    monkeypatch.setattr(blocks, "WINDOW_BYTES", n_bytes)
    floats = np.random.default_rng(0).standard_normal((40, 60, 90)).astype(np.float32)
    array, store = counted(floats, chunks)
    for n in (1, 7):
        store.reads.clear()
        assert_identical(megalith.block_sums(array, n), megalith.block_sums(floats, n))
        assert set(store.reads.values()) == {1}


def test_apply_lut_looks_up_what_numpy_takes(window, source, values):
    table = np.random.default_rng(2).random(9)
    assert_identical(megalith.apply_lut(source, table), table[values])


def test_apply_lut_to_index_sums_across_the_edges_of_chunks(window, source, values):
    kernel = np.random.default_rng(3).integers(0, 3, (3,) * values.ndim)
    table = np.arange(16 * 3**values.ndim + 1)
    assert_identical(
        megalith.apply_lut_to_index(source, kernel, table), reference.apply_lut_to_index(values, kernel, table)
    )


@pytest.mark.parametrize("mode", ["constant", "reflect", "wrap"])
def test_correlate1d_sums_across_the_edges_of_chunks(window, source, values, mode):
    for axis in range(values.ndim):
        options = {"axis": axis, "mode": mode, "cval": 2.0}
        assert_identical(
            megalith.correlate1d(source, KERNEL, **options), reference.correlate1d(values, KERNEL, **options)
        )


def test_neighbours_are_those_of_the_array(tmp_path):
    values = np.random.default_rng(4).integers(0, 20, 70)
    array = format_3(values, tmp_path / "a.zarr")
    assert_identical(megalith.neighbours(array, 3), megalith.neighbours(values, 3))


def test_read_gives_the_values_into_any_sink(window, source, values, tmp_path):
    assert_identical(megalith.read(source).array, values)
    assert_identical(np.asarray(megalith.read(source, tmp_path / "a.npy").array), values)
    given = np.zeros(values.shape[::-1]).T
    assert np.array_equal(megalith.read(source, given).array, values)


@pytest.mark.parametrize(
    "cut", [np.s_[2], np.s_[-1:, ...], np.s_[1:3, ..., 1:], np.s_[::-2, ..., ::-1], np.s_[1:1], np.s_[..., 0]]
)
@pytest.mark.parametrize("make", MAKERS)
def test_read_of_a_slice_equals_indexing(window, tmp_path, make, cut):
    values = sample("int32", (5, 6, 7))
    source = make(values, tmp_path / "a.zarr")
    assert_identical(megalith.read(source, slicing=cut).array, values[cut].copy())


def test_write_to_a_file_gives_it_the_values(window, source, values, tmp_path):
    assert_identical(np.asarray(megalith.write(tmp_path / "a.npy", source).array), values)
    write_array(tmp_path / "b.npy", source)
    assert_identical(read_array(tmp_path / "b.npy"), values)
    place = np.zeros((2, *values.shape), np.uint16)
    np.save(tmp_path / "c.npy", place)
    megalith.write(tmp_path / "c.npy", source, slicing=1)
    assert_identical(np.load(tmp_path / "c.npy")[1], values)


def test_a_sink_is_returned_and_has_the_result(window, sink, values):
    table = np.random.default_rng(2).random(9)
    kernel = np.ones((2,) * values.ndim, np.int64)
    calls = [
        (megalith.apply_lut(values, table, sink), table[values]),
        (megalith.correlate1d(values, KERNEL, sink), reference.correlate1d(values, KERNEL)),
    ]
    for returned, _ in calls:
        assert returned is sink
    assert_identical(sink[...], calls[-1][1])
    assert megalith.apply_lut_to_index(values, kernel, np.arange(150.0), sink) is sink
    assert np.array_equal(sink[...], reference.apply_lut_to_index(values, kernel, np.arange(150.0)))
    megalith.apply_lut(values, table, as_source(sink))
    assert_identical(sink[...], table[values])
    assert megalith.read(values, sink).dataset is sink
    assert np.array_equal(sink[...], values)
    megalith.write(sink, values.T[::-1].T)
    assert np.array_equal(sink[...], values.T[::-1].T)


def test_where_writes_into_a_sink(tmp_path, values):
    found = reference.where(values)
    for cutoff in (0, 10_000):
        sink = zarr.create_array(tmp_path / f"{cutoff}.zarr", shape=found.shape, chunks=found.shape, dtype="i4")
        assert megalith.where(values, sink, cutoff=cutoff) is sink
        assert np.array_equal(sink[...], found)


@pytest.mark.parametrize("cut", [np.s_[1:3], np.s_[2, ...], np.s_[..., 1:, :2], np.s_[..., 0], np.s_[:0], np.s_[:3:2]])
@pytest.mark.parametrize("make", WRITABLE)
def test_write_into_a_slice_changes_nothing_else(window, tmp_path, make, cut):
    values = sample("int32", (5, 6, 7))
    sink = make(np.full(values.shape, 77.0), tmp_path / "a.zarr")
    part = values[cut]
    megalith.write(sink, part, slicing=cut)
    expected = np.full(values.shape, 77.0)
    expected[cut] = part
    assert_identical(sink[...], expected)


@pytest.mark.parametrize("dtype", [*ALL, ">i4", ">f8", "S3", "U2", [("a", "<u1"), ("b", "<f4")]], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (23,), (6, 7)], ids=str)
def test_values_of_every_type_come_back_as_they_went_in(tmp_path, dtype, shape):
    if isinstance(dtype, str) and dtype in ALL:
        values = sample(dtype, shape)
        values = np.asarray(values != 0) if dtype == "bool" else values
    else:
        values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    chunks = tuple(max(n - 2, 1) for n in shape)
    array = zarr.create_array(tmp_path / "a", shape=shape, chunks=chunks, dtype=values.dtype, zarr_format=2)
    megalith.write(array, values)
    assert_identical(np.asarray(array[...], values.dtype), values)
    assert as_source(array).dtype == values.dtype
    assert_identical(megalith.read(array).array, values)
    other = zarr.create_array(tmp_path / "b", shape=shape, chunks=shape or (), dtype=values.dtype, zarr_format=2)
    megalith.read(array, other)
    assert_identical(np.asarray(other[...], values.dtype), values)


@pytest.mark.parametrize("shape", [(), (0,), (0, 4)], ids=str)
def test_functions_take_arrays_without_axes_or_elements(tmp_path, shape):
    values = np.ones(shape, np.int16)
    array = format_3(values, tmp_path / "a")
    sink = format_3(np.zeros(shape, np.int16), tmp_path / "b")
    assert_identical(megalith.where(array), reference.where(values))
    assert_identical(megalith.block_sums(array, 1), reference.block_sums(values, 1))
    assert_identical(
        np.asarray(megalith.apply_lut(array, np.array([7, 8], np.int16), sink)), np.full(shape, 8, np.int16)
    )
    assert_identical(megalith.apply_lut_to_index(array, np.ones((1,) * len(shape), int), [5, 6]), np.full(shape, 6))


def test_chunks_that_were_never_written_are_the_fill_value(window):
    array = zarr.create_array({}, shape=(9, 11), chunks=(4, 4), dtype="u1", fill_value=3)
    array[4:8, 4:8] = 0
    assert np.array_equal(megalith.where(array, cutoff=0), np.argwhere(array[...]))
    assert megalith.block_sums(array, 1) == [3 * (99 - 16)]


def test_a_wider_type_takes_what_it_holds_and_a_narrower_one_refuses(tmp_path):
    values = np.array([[True, False], [True, True]])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for sink in (zarr.create_array({}, shape=(2, 2), dtype=">i4"), file.create_dataset("a", (2, 2), "i4")):
            megalith.write(sink, values)
            assert np.array_equal(sink[...], values)
            sink[...] = 0
            megalith.read(values, sink)
            assert np.array_equal(sink[...], values)
    narrow = zarr.create_array({}, shape=(3,), dtype="u1")
    for call in (megalith.write, lambda sink, values: megalith.apply_lut(np.arange(3), values, sink)):
        with pytest.raises(DTypeError):
            call(narrow, np.array([300, -1, 5]))
    assert not narrow[...].any()


GRIDS = [
    {"chunks": (16, 20, 30)},
    {"chunks": (8, 40, 15)},
    {"chunks": (50, 20, 10)},
    {"chunks": (8, 10, 10), "shards": (16, 20, 30)},
    {"chunks": (7, 9, 11)},
]
LARGE = 60_000


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("name", ["apply_lut", "correlate1d", "write", "read", "write of a slice", "read of a slice"])
def test_each_chunk_of_the_sink_is_written_once(monkeypatch, grid, name):
    monkeypatch.setattr(blocks, "WINDOW_BYTES", LARGE)
    values = np.random.default_rng(0).integers(1, 9, (50, 60, 70)).astype(np.uint16)
    source, read = counted(values, GRIDS[0]["chunks"], compressors=None)
    sink, written = counted(np.full(values.shape, 99, np.uint16), **grid)
    expected = values.copy()
    if name == "apply_lut":
        megalith.apply_lut(source, np.arange(9, dtype=np.uint16), sink)
    elif name == "correlate1d":
        megalith.correlate1d(source, np.array([1], np.uint16), sink, axis=1)
    elif name == "write":
        megalith.write(sink, source)
    elif name == "read":
        megalith.read(source, sink)
    elif name == "write of a slice":
        megalith.write(sink, values[:40, :33, 5:], slicing=np.s_[3:43, 7:40, :65])
        expected[...] = 99
        expected[3:43, 7:40, :65] = values[:40, :33, 5:]
    else:
        sink, written = counted(np.full((40, 33), 99, np.uint16), (9, 7))
        megalith.read(source, sink, slicing=np.s_[3:43, 7:40, 5])
        expected = values[3:43, 7:40, 5]
    assert set(written.writes.values()) == {1}
    assert np.array_equal(sink[...], expected)
    # Chunks of both fit in a window together, but for the last grid.
    if grid != GRIDS[-1] and "slice" not in name and name != "correlate1d" and "shards" not in grid:
        assert set(read.reads.values()) == {1}


def test_each_chunk_of_the_source_is_read_once(monkeypatch, tmp_path):
    monkeypatch.setattr(blocks, "WINDOW_BYTES", LARGE)
    values = np.random.default_rng(0).integers(0, 9, (50, 60, 70)).astype(np.uint16)
    source, store = counted(values, (16, 20, 30))
    for call in (
        lambda: megalith.where(source),
        lambda: megalith.block_sums(source),
        lambda: megalith.block_counts(source, 3),
        lambda: megalith.apply_lut(source, np.arange(9)),
        lambda: megalith.write(tmp_path / "a.npy", source),
        lambda: megalith.read(source),
        lambda: megalith.read(source, slicing=np.s_[5:40, 3:55, 7]),
    ):
        store.reads.clear()
        call()
        assert set(store.reads.values()) == {1}


def test_a_chunk_larger_than_a_window_is_read_once_for_many_small_ones(monkeypatch):
    monkeypatch.setattr(blocks, "WINDOW_BYTES", LARGE)
    values = np.random.default_rng(0).integers(1, 9, (50, 60, 70)).astype(np.uint16)
    source, read = counted(values, (25, 60, 70))
    sink, written = counted(np.full(values.shape, 99, np.uint16), (5, 30, 7))
    megalith.write(sink, source)
    assert np.array_equal(sink[...], values)
    assert set(read.reads.values()) == set(written.writes.values()) == {1}


MEMORY = """
import numpy as np, zarr, megalith

def peak():
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(fields["VmHWM"].split()[0]) >> 10

shape, chunks = (1024, 1024, 1024), (64, 256, 256)
source = zarr.create_array({{}}, shape=shape, chunks=chunks, dtype="u2", fill_value=1)
sink = zarr.create_array({path!r}, shape=shape, chunks=(128, 128, 256), dtype="u2")
small = zarr.create_array({{}}, shape=(8, 8), chunks=(4, 4), dtype="u2", fill_value=1)
{small}
before = peak()
{call}
print(peak() - before)
"""


@pytest.mark.parametrize(
    "call",
    [
        "assert megalith.block_sums(source, 1) == [1 << 30]",
        "assert megalith.where(source, above=1).shape == (0, 3)",
        "megalith.apply_lut(source, np.arange(2, dtype='u2'), sink)",
        "megalith.correlate1d(source, np.ones(1, 'u2'), sink)",
    ],
)
def test_two_gigabytes_pass_through_a_few_windows(tmp_path, call):
    small = call.replace("[1 << 30]", "[64]").replace("(0, 3)", "(0, 2)").replace("source", "small")
    small = small.replace(", sink", "")
    child = run_python(MEMORY.format(path=str(tmp_path / "sink"), small=small, call=call), tmp_path, timeout_s=100)
    assert int(child.check()) < 500


def test_a_path_names_an_array(tmp_path):
    values = np.arange(12).reshape(3, 4)
    format_3(values, tmp_path / "a.zarr")
    format_2_in_f_order(values, tmp_path / "old")
    member_of_a_group(values, tmp_path / "group.zarr")
    for path in (tmp_path / "a.zarr", str(tmp_path / "old"), tmp_path / "group.zarr" / "first" / "second"):
        assert_identical(megalith.read(path).array, values)
        assert_identical(megalith.read(path, slicing=1).array, values[1])
        assert_identical(megalith.apply_lut(path, np.arange(12)), values)
        assert_identical(np.asarray(data_chunk(path, (1, 3))), values[1:3])
    with pytest.raises(LayoutError, match="read-only"):
        megalith.write(as_source(path), values)


def test_a_path_of_something_else_is_named_as_what_it_is(tmp_path):
    member_of_a_group(np.arange(3), tmp_path / "group.zarr")
    zarr.open_group(tmp_path / "old.zarr", mode="w", zarr_format=2).create_array("one", shape=(3,), dtype="u1")
    (tmp_path / "damaged.zarr").mkdir()
    (tmp_path / "damaged.zarr" / "zarr.json").write_text("{")
    with pytest.raises(FormatError, match="one"):
        megalith.read(tmp_path / "old.zarr")
    for name in ("group.zarr", "damaged.zarr"):
        with pytest.raises(FormatError, match=name):
            megalith.read(tmp_path / name)
    with pytest.raises(ArgumentError):
        megalith.read(zarr.create_array({}, shape=(3,), dtype="u1"), dtype="u1")


def test_a_path_is_no_sink(tmp_path):
    format_3(np.zeros(3), tmp_path / "a.zarr")
    for call in (
        lambda: megalith.write(tmp_path / "a.zarr", np.ones(3)),
        lambda: megalith.write(tmp_path / "a.zarr", np.ones(1), slicing=slice(1)),
        lambda: megalith.apply_lut(np.zeros(3, int), np.ones(1), tmp_path / "a.zarr"),
    ):
        with pytest.raises(FormatError):
            call()
    assert not zarr.open_array(tmp_path / "a.zarr")[...].any()


def test_without_zarr_a_path_says_what_to_install(tmp_path, monkeypatch):
    format_3(np.zeros(3), tmp_path / "a.zarr")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingExtraError, match=r"megalith\[zarr\]"):
        megalith.read(tmp_path / "a.zarr")
    assert megalith.where(np.ones(2)).tolist() == [0, 1]


def test_a_read_only_sink_is_refused_before_work_starts(tmp_path):
    calls = []
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (3,), "i8")
    with h5py.File(tmp_path / "a.h5", "r") as file:
        for sink in (read_only(np.zeros(3, int), tmp_path / "a.zarr"), file["a"]):
            for call in (
                lambda sink: megalith.write(sink, np.ones(3, int)),
                lambda sink: megalith.read(np.ones(3, int), sink),
                lambda sink: megalith.correlate1d(np.ones(3, int), [1], sink),
                lambda sink: megalith.where(np.ones(3, int), sink),
                lambda sink: megalith.initialize_sink(sink, return_buffer=False),
            ):
                with pytest.raises(LayoutError, match="read-only"):
                    call(sink)
                calls.append(sink)
    assert len(calls) == 10


def test_a_sink_of_another_shape_is_refused():
    sink = zarr.create_array({}, shape=(3, 4), dtype="i8")
    with pytest.raises(ShapeError):
        megalith.correlate1d(np.ones((4, 3), int), [1], sink)
    with pytest.raises(ShapeError):
        megalith.write(sink, np.ones(3, int))
    with pytest.raises(IndexRangeError):
        megalith.write(sink, np.ones(4, int), slicing=3)


def test_the_source_is_no_sink_by_any_of_its_names(tmp_path):
    array = format_3(np.zeros((4, 4), int), tmp_path / "a.zarr")
    (tmp_path / "link").symlink_to(tmp_path / "a.zarr")
    memory = in_memory(np.zeros((4, 4), int), None)
    pairs = [(array, array), (array, zarr.open_array(tmp_path / "link")), (memory, zarr.open_array(memory.store))]
    for source, sink in pairs:
        for call in (
            lambda source, sink: megalith.apply_lut_to_index(source, np.ones((3, 3), int), [0], sink),
            lambda source, sink: megalith.correlate1d(source, [1], sink),
            lambda source, sink: megalith.write(sink, source),
            lambda source, sink: megalith.write(sink, megalith.ConcatenatedArrays([source])),
        ):
            with pytest.raises(LayoutError):
                call(source, sink)
    other = in_memory(np.ones((4, 4), int), None)
    megalith.write(other, memory)
    assert not other[...].any()


def test_what_holds_python_objects_is_refused():
    with pytest.raises(DTypeError):
        megalith.read(zarr.create_array({}, shape=(3,), dtype=str))


def test_the_first_index_out_of_the_table_is_named_by_its_place_in_the_array(window, source, values):
    for most in (3, 7, 8):
        first = tuple(int(i) for i in np.argwhere(values >= most)[0])
        with pytest.raises(IndexRangeError) as caught:
            megalith.apply_lut(source, np.zeros(most))
        assert (caught.value.index, tuple(caught.value.position)) == (values[first], first)


def test_the_helpers_of_clearmap_describe_it(tmp_path):
    values = np.arange(12).reshape(3, 4) % 2 == 0
    array = format_3(values, tmp_path / "a.zarr")
    source, buffer, shape, strides, order = megalith.initialize_source(
        array, return_shape=True, return_strides=True, return_order=True
    )
    assert source.dataset is array
    assert_identical(buffer, values.view(np.uint8))
    assert (shape.tolist(), strides.tolist(), order) == ([3, 4], [4, 1], "C")
    with pytest.raises(DTypeError):
        megalith.initialize_sink(array)
    sink, shape = megalith.initialize_sink(array, dtype=bool, return_buffer=False, return_shape=True)
    assert sink.dataset is array
    assert shape.tolist() == [3, 4]
    with pytest.raises(DTypeError):
        megalith.initialize_sink(array, dtype="u1", return_buffer=False)


def test_a_source_is_pickled_by_its_place(tmp_path):
    values = np.arange(12).reshape(3, 4)
    source = pickle.loads(pickle.dumps(as_source(format_3(values, tmp_path / "a.zarr"))))
    assert_identical(megalith.read(source).array, values)


def test_a_source_is_indexed_as_the_array_is(source, values):
    assert np.array_equal(as_source(source)[1:3], values[1:3])
    assert_identical(np.asarray(as_source(source)), values)


def test_arrays_are_concatenated_with_those_of_other_kinds(window, source, values, tmp_path):
    np.save(tmp_path / "part.npy", values)
    whole = megalith.ConcatenatedArrays([source, values, tmp_path / "part.npy", source])
    expected = np.concatenate([values] * 4)
    rows = np.random.default_rng(0).integers(0, len(expected), 30)
    assert_identical(whole[...], expected)
    assert_identical(whole[rows], expected[rows])
    assert_identical(whole[::-3], expected[::-3].copy())
    assert whole[-1].tolist() == expected[-1].tolist()
    assert_identical(megalith.where(whole, cutoff=0), reference.where(expected))
    assert_identical(megalith.block_sums(whole, 3), reference.block_sums(expected, 3))
    both = megalith.ConcatenatedArrays([source, source])
    assert_identical(megalith.apply_lut(both, np.arange(9)), np.concatenate([values] * 2).astype(np.int64))


@pytest.mark.parametrize("n_bytes", [100, 1 << 26])
def test_spikes_are_selected_from_it(monkeypatch, tmp_path, n_bytes):
    monkeypatch.setattr(blocks, "WINDOW_BYTES", n_bytes)
    monkeypatch.setattr("megalith.select.groups.WINDOW_BYTES", n_bytes)
    clusters = np.random.default_rng(0).integers(0, 6, 200).astype(np.int32)
    amplitudes = np.random.default_rng(1).random((200, 3))
    stored, stored_amplitudes = (format_3(array, tmp_path / str(i)) for i, array in enumerate((clusters, amplitudes)))
    assert_identical(unique(stored), unique(clusters))
    assert_identical(grouped_mean(stored_amplitudes, stored), grouped_mean(amplitudes, clusters))
    assert_identical(grouped_mean(amplitudes, stored), grouped_mean(amplitudes, clusters))
    assert_identical(index_of(stored, np.arange(6)), index_of(clusters, np.arange(6)))
    assert_identical(spikes_in_clusters(stored, [1, 3]), spikes_in_clusters(clusters, [1, 3]))
    groups, expected = spikes_per_cluster(stored), spikes_per_cluster(clusters)
    assert list(groups) == list(expected)
    for cluster, spikes in expected.items():
        assert_identical(groups[cluster], spikes)
    assert_identical(Selector(stored).select_spikes([2, 4], 10), Selector(clusters).select_spikes([2, 4], 10))
    assert_identical(get_excerpts(stored, 3, 20), get_excerpts(clusters, 3, 20))


def test_zarr_is_not_loaded_for_other_sources(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    code = f"import sys, megalith; megalith.read({str(tmp_path / 'a.npy')!r}); sys.exit('zarr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

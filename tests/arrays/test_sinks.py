"""Results go where they were sent, and nowhere else: the findings of the first review."""

import h5py
import numpy as np
import pytest

import megalith
from megalith.arrays import as_source
from megalith.exceptions import ArgumentError, DTypeError, LayoutError, ShapeError

VALUES = np.arange(60, dtype=np.int64).reshape(6, 10)


@pytest.fixture
def dataset(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        yield file.create_dataset("a", VALUES.shape, "i8", chunks=(2, 5))


def test_a_source_over_a_dataset_is_a_sink_that_reaches_the_dataset(dataset):
    megalith.correlate1d(VALUES, [1], sink=as_source(dataset))
    assert np.array_equal(dataset[()], VALUES)
    megalith.write(as_source(dataset), VALUES + 1)
    assert np.array_equal(dataset[()], VALUES + 1)
    megalith.write(megalith.read(VALUES, sink=dataset), VALUES + 2)
    assert np.array_equal(dataset[()], VALUES + 2)
    as_source(dataset)[0] = 7
    assert np.array_equal(dataset[0], np.full(10, 7))


def test_a_source_over_a_dataset_sees_changes_after_it_was_read(dataset):
    source = as_source(dataset)
    assert not source.array.any()
    dataset[...] = 1
    assert megalith.block_sums(source, 1) == [60]


def test_where_writes_into_a_dataset(tmp_path):
    mask = VALUES % 7 == 0
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for cutoff in (0, 1000):
            sink = file.create_dataset(f"w{cutoff}", (mask.sum(), 2), "i4")
            assert megalith.where(mask, sink, cutoff=cutoff) is sink
            assert np.array_equal(sink[()], np.argwhere(mask))


def test_a_dataset_of_a_narrower_type_refuses_the_source(tmp_path):
    with h5py.File(tmp_path / "n.h5", "w") as file:
        sink = file.create_dataset("n", (3,), "u1")
        with pytest.raises(DTypeError):
            megalith.write(sink, np.array([300, -1, 5]))
        assert not sink[()].any()


def test_an_empty_dataset_is_a_shape_error(tmp_path):
    with h5py.File(tmp_path / "e.h5", "w") as file, pytest.raises(ShapeError):
        megalith.where(file.create_dataset("e", data=h5py.Empty("f8")))


@pytest.mark.parametrize("cut", [slice(None, None, -2), slice(1, 5, 3)])
def test_read_with_steps_from_a_dataset(dataset, cut):
    dataset[...] = VALUES
    assert np.array_equal(megalith.read(dataset, slicing=(cut, ..., cut)).array, VALUES[cut, ..., cut])


def test_read_from_a_file_into_its_own_mapping_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r+")
    with pytest.raises(LayoutError):
        megalith.read(tmp_path / "a.npy", sink=mapped[1:], slicing=slice(0, -1))
    with pytest.raises(LayoutError):
        megalith.write(tmp_path / "a.npy", mapped[:-1], slicing=slice(1, None))
    with pytest.raises(LayoutError):
        megalith.write(np.load(tmp_path / "a.npy", mmap_mode="r+")[1:], mapped[:-1])
    assert np.array_equal(np.load(tmp_path / "a.npy"), VALUES)


def test_write_into_a_raw_source_keeps_what_is_before_it(tmp_path):
    (tmp_path / "r.bin").write_bytes(b"HEADER__" + bytes(8))
    megalith.write(as_source(tmp_path / "r.bin", dtype="u1", offset=8), np.arange(8, dtype="u1"))
    assert (tmp_path / "r.bin").read_bytes() == b"HEADER__" + bytes(range(8))


def test_write_into_the_sink_that_initialize_sink_made_reaches_its_buffer(tmp_path):
    sink, buffer = megalith.initialize_sink(tmp_path / "s.npy", shape=(5,), dtype="f8")
    megalith.write(sink, np.ones(5))
    assert np.array_equal(buffer, np.ones(5))
    assert np.array_equal(np.load(tmp_path / "s.npy"), np.ones(5))


def test_write_through_a_copy_on_write_mapping_leaves_the_file(tmp_path):
    np.save(tmp_path / "c.npy", VALUES)
    megalith.write(as_source(np.load(tmp_path / "c.npy", mmap_mode="c")), VALUES + 1)
    assert np.array_equal(np.load(tmp_path / "c.npy"), VALUES)


def test_initialize_sink_keeps_a_file_of_another_shape(tmp_path):
    np.save(tmp_path / "keep.npy", VALUES)
    with pytest.raises(ShapeError):
        megalith.initialize_sink(tmp_path / "keep.npy", shape=(3,), dtype="f4")
    with pytest.raises(DTypeError):
        megalith.initialize_sink(tmp_path / "keep.npy", shape=VALUES.shape, dtype="f4")
    assert np.array_equal(np.load(tmp_path / "keep.npy"), VALUES)


def test_correlate1d_refuses_a_complex_sink_over_its_real_source():
    numbers = VALUES * (1 + 2j)
    before = numbers.copy()
    with pytest.raises(LayoutError):
        megalith.correlate1d(numbers.imag, [1.0], sink=numbers)
    buffer = np.arange(13.0)
    with pytest.raises(LayoutError):
        megalith.correlate1d(buffer[:12].view("c16"), [2.0], sink=buffer[1:].view("c16"))
    assert np.array_equal(numbers, before)


def test_apply_lut_in_place_of_another_byte_order_is_refused():
    source = np.array([1 << 24, 0, 2 << 24], dtype=">i4")
    with pytest.raises(LayoutError):
        megalith.apply_lut(source, np.zeros(3, dtype="V4"), sink=source.view("V4"))


@pytest.mark.parametrize("dtype", ["c8", "S2", "V16", "S8", "M8[s]"])
def test_a_table_aligned_for_nothing_is_read_right(dtype):
    memory = bytes(range(1, 162))
    lut = np.frombuffer(memory, dtype, count=10 if np.dtype(dtype).itemsize == 16 else 5, offset=1)
    indices = np.array([4, 0, 2])
    assert megalith.apply_lut(indices, lut).tobytes() == lut[indices].tobytes()
    assert megalith.apply_lut_to_index(indices, [1], lut).tobytes() == lut[indices].tobytes()


def test_neighbours_of_equal_entries_are_counted_in_one_walk():
    indices = np.zeros(200_000, dtype=np.int64)
    assert len(megalith.neighbours(indices, 1)) == 0
    indices[100_000:] = 1
    with pytest.raises(MemoryError):  # 1e10 pairs: counted at once, and not to be had.
        megalith.neighbours(indices, 1)


def test_where_without_memory_for_its_mask_is_a_memory_error():
    with pytest.raises(MemoryError):
        megalith.where(np.broadcast_to(np.uint8(0), (1 << 50,)))


def test_read_refuses_the_description_of_a_raw_file_for_what_describes_itself(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    for source in (tmp_path / "a.npy", VALUES):
        with pytest.raises(ArgumentError):
            megalith.read(source, dtype="u1")

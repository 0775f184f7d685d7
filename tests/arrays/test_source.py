"""`Source` describes an array wherever it lives, and every kernel takes it from there."""

import array as stdlib_array
from pathlib import Path

import h5py
import numpy as np
import pytest

import megalith
from megalith.arrays import Source
from megalith.exceptions import DTypeError, LayoutError
from megalith.testing import reference
from megalith.testing.cases import ALL, LARGE, assert_identical, sample, shape_of
from megalith.testing.layouts import LAYOUTS


def as_source(thing):
    """A Source by way of the public interface."""
    return megalith.initialize_source(thing, return_buffer=False)


def places(tmp_path, values):
    """The same values in every place a source may be."""
    np.save(tmp_path / "c.npy", np.ascontiguousarray(values).reshape(values.shape))
    np.save(tmp_path / "f.npy", np.asfortranarray(values).reshape(values.shape))
    np.save(tmp_path / "big.npy", values.astype(values.dtype.newbyteorder(">")))
    np.asarray(values, order="C").tofile(tmp_path / "raw.bin")
    yield "ndarray", values
    yield "path", tmp_path / "c.npy"
    yield "str", str(tmp_path / "c.npy")
    yield "F-order path", tmp_path / "f.npy"
    yield "big-endian path", tmp_path / "big.npy"
    yield "mmap", np.load(tmp_path / "c.npy", mmap_mode="r")
    yield "memmap of raw", np.memmap(tmp_path / "raw.bin", values.dtype, "r", shape=values.shape)
    yield "Source of ndarray", as_source(values)
    yield "Source of path", as_source(tmp_path / "c.npy")
    yield "Source of raw", megalith.read(tmp_path / "raw.bin", dtype=values.dtype, shape=values.shape)
    if values.dtype.kind not in "c" and values.ndim:
        yield "memoryview", memoryview(np.array(values, order="C"))


@pytest.mark.parametrize("shape", [(1000,), (37, 41), (7, 11, 13), (0, 4), ()])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "complex64", "bool"])
def test_where_finds_the_same_wherever_the_array_lives(tmp_path, shape, dtype):
    values = sample(dtype, shape)
    if shape == (0, 4):
        values = values.copy()
    expected = reference.where(values)
    for name, source in places(tmp_path, values) if values.size else [("ndarray", values)]:
        got = megalith.where(source, cutoff=0)
        assert got.tolist() == expected.tolist(), name


@pytest.mark.parametrize("place", ["chunks", "contiguous", "compressed", "big-endian"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_every_kernel_streams_an_hdf5_dataset(tmp_path, place, ndim):
    shape = shape_of(LARGE, ndim)
    values = sample("uint16", shape) % np.uint16(500)
    options = {
        "chunks": {"chunks": tuple(max(1, n // 3) for n in shape)},
        "contiguous": {},
        "compressed": {"chunks": tuple(max(1, n // 2) for n in shape), "compression": "gzip", "compression_opts": 1},
        "big-endian": {"dtype": ">u2"},
    }[place]
    table = np.random.default_rng(0).integers(0, 255, 500, dtype=np.uint8)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        dataset = file.create_dataset("values", data=values, **options)
        assert_identical(megalith.where(dataset), reference.where(values))
        assert_identical(megalith.apply_lut(dataset, table), table[values])
        assert_identical(megalith.block_sums(dataset, blocks=7), reference.block_sums(values, 7))
        assert_identical(megalith.block_counts(dataset, blocks=7), reference.block_counts(values, 7))
        for axis in range(ndim):
            got = megalith.correlate1d(dataset, [1.0, 2.0, 0.5], axis=axis, mode="reflect")
            expected = reference.correlate1d(values, [1.0, 2.0, 0.5], axis=axis, mode="reflect")
            assert_identical(got, expected)
        kernel = np.ones((3,) * ndim, dtype=np.int64)
        lut = np.arange(500 * 27 + 1)
        assert_identical(
            megalith.apply_lut_to_index(dataset, kernel, lut), reference.apply_lut_to_index(values, kernel, lut)
        )


def test_kernels_write_into_an_hdf5_dataset(tmp_path):
    values = sample("uint8", (300, 70, 80))
    table = np.random.default_rng(0).integers(0, 1000, 256).astype(np.float32)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        sink = file.create_dataset("out", values.shape, "f4", chunks=(50, 30, 80))
        megalith.apply_lut(values, table, sink)
        assert_identical(sink[()], table[values])


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_source_describes_an_array_in_memory(dtype, layout):
    values = LAYOUTS[layout](sample(dtype, (4, 5, 6)))
    source = as_source(values)
    assert isinstance(source, Source)
    assert source.shape == (4, 5, 6)
    assert source.dtype == values.dtype
    assert source.array is values
    assert source.as_buffer() is values
    assert source.location is None
    assert source.memory is None
    assert np.asarray(source).tobytes() == values.tobytes()


@pytest.mark.parametrize(("order", "flag"), [("C", "C"), ("F", "F")])
def test_source_knows_the_order_of_its_elements(order, flag):
    assert as_source(np.zeros((3, 4), order=order)).order == flag


def test_source_of_an_array_with_gaps_has_no_order():
    assert as_source(np.zeros((6, 4))[::2]).order is None


def test_source_counts_strides_in_elements():
    assert as_source(np.zeros((3, 4, 5), dtype=np.int16)[:, ::-2]).element_strides == (20, -10, 1)


def test_source_of_a_packed_field_has_no_strides_in_elements():
    with pytest.raises(LayoutError):
        _ = as_source(LAYOUTS["packed field"](np.zeros((3, 4)))).element_strides


@pytest.mark.parametrize("order", ["C", "F"])
def test_source_of_a_path_describes_the_file_without_reading_it(tmp_path, order):
    path = tmp_path / "in.npy"
    np.save(path, np.zeros((3, 4, 5), dtype=np.float32, order=order))
    source = as_source(str(path))
    assert (source.shape, source.dtype, source.order) == ((3, 4, 5), np.float32, order)
    assert Path(source.location) == path
    assert source.offset == np.load(path, mmap_mode="r").offset
    assert source.element_strides == ((20, 5, 1) if order == "C" else (1, 3, 12))


@pytest.mark.parametrize("key", [0, -1, slice(1, 3), (slice(None), 2), (Ellipsis, slice(None, None, -1)), [0, 2]])
def test_source_slices_as_its_array_does(tmp_path, key):
    values = sample("float32", (3, 4, 5))
    np.save(tmp_path / "in.npy", values)
    for source in (as_source(values), as_source(tmp_path / "in.npy")):
        np.testing.assert_equal(np.asarray(source[key]), values[key])


def test_source_knows_its_length():
    assert len(as_source(np.zeros((7, 2)))) == 7


def test_source_takes_the_buffer_of_an_array_array():
    assert megalith.where(stdlib_array.array("h", [0, -4, 0, 5]), cutoff=0).tolist() == [1, 3]


def test_source_takes_a_list():
    assert megalith.where([[0, 1], [2, 0]]).tolist() == [[0, 1], [1, 0]]


def test_source_takes_an_array_interface():
    class Holder:
        def __init__(self, values):
            self.values = values
            self.__array_interface__ = values.__array_interface__

    assert megalith.block_sums(Holder(np.arange(10)), blocks=2).tolist() == [10, 35]


def test_source_refuses_python_objects():
    with pytest.raises(DTypeError):
        as_source(np.array([None, 1]))


def test_source_refuses_a_masked_array_rather_than_forget_its_mask():
    with pytest.raises(DTypeError):
        megalith.where(np.ma.masked_equal([1, 2, 3], 2))


def test_source_refuses_an_npy_file_of_pickles(tmp_path):
    np.save(tmp_path / "in.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(DTypeError):
        megalith.where(tmp_path / "in.npy")


def test_source_of_a_memmap_that_was_changed_in_memory_alone_gives_what_memory_holds(tmp_path):
    np.save(tmp_path / "in.npy", np.zeros(1000, dtype=np.uint8))
    private = np.load(tmp_path / "in.npy", mmap_mode="c")
    private[7] = 1
    assert megalith.where(private, cutoff=0).tolist() == [7]


def test_source_of_a_slice_of_a_memmap_gives_the_slice(tmp_path):
    values = sample("int32", (100, 9))
    np.save(tmp_path / "in.npy", values)
    part = np.load(tmp_path / "in.npy", mmap_mode="r")[10:90:7, ::-1]
    assert_identical(megalith.where(part, cutoff=0), reference.where(values[10:90:7, ::-1]))


def test_source_of_a_memmap_whose_file_was_replaced_gives_what_was_mapped(tmp_path):
    path = tmp_path / "in.npy"
    np.save(path, np.zeros(1000, dtype=np.uint8))
    mapped = np.load(path, mmap_mode="r")
    np.save(tmp_path / "other.npy", np.ones(1000, dtype=np.uint8))
    (tmp_path / "other.npy").replace(path)
    assert len(megalith.where(mapped, cutoff=0)) == 0


def test_source_says_what_it_is():
    assert "float32" in repr(as_source(np.zeros((2, 3), dtype=np.float32)))

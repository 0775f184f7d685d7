"""`memory='shared'` of `read` and `initialize_sink`: writable memory that forked children share, without a name."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest

import megalith
from megalith.exceptions import ArgumentError, DTypeError, ShapeError


@pytest.fixture
def directory(shm, monkeypatch):
    """The test's own directory in the place of the machine's shared memory."""
    monkeypatch.setenv("MEGALITH_SHARED_DIR", str(shm))
    return shm


@pytest.fixture
def npy(tmp_path):
    np.save(tmp_path / "in.npy", np.arange(60.0).reshape(3, 4, 5))
    return tmp_path / "in.npy"


def files(directory):
    return [path for path in directory.rglob("*") if not path.is_dir()]


def test_read_gives_a_writable_array_in_shared_memory(directory, npy):
    got = megalith.read(npy, memory="shared")
    assert got.memory == "shared"
    np.testing.assert_array_equal(got.array, np.load(npy))
    got.array[0] = 7
    assert (got.array[0] == 7).all()
    np.testing.assert_array_equal(np.load(npy), np.arange(60.0).reshape(3, 4, 5))


def test_read_of_a_slice_gives_shared_memory(directory, npy):
    got = megalith.read(npy, slicing=np.s_[:, 1:3, 2], memory="shared")
    assert got.memory == "shared"
    np.testing.assert_array_equal(got.array, np.load(npy)[:, 1:3, 2])


def test_read_keeps_the_order_of_the_file(directory, tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(np.arange(12).reshape(3, 4)))
    got = megalith.read(tmp_path / "f.npy", memory="shared")
    assert got.array.flags.f_contiguous
    np.testing.assert_array_equal(got.array, np.arange(12).reshape(3, 4))


def test_read_of_an_array_gives_shared_memory(directory):
    values = np.arange(10, dtype=">i4")
    got = megalith.read(values, memory="shared")
    np.testing.assert_array_equal(got.array, values)
    assert not np.shares_memory(got.array, values)


def test_other_sources_are_in_no_shared_memory(npy):
    assert megalith.read(npy).memory is None
    assert megalith.initialize_sink(shape=(2,), dtype="u1", return_buffer=False).memory is None


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(0,), (7,), (3, 4), (2, 3, 4), (3, 0)])
@pytest.mark.parametrize("dtype", ["bool", "u1", ">f8", "c16", [("a", "u1"), ("b", "f8")]], ids=str)
def test_initialize_sink_makes_any_array_in_shared_memory(directory, shape, dtype, order):
    sink, buffer = megalith.initialize_sink(shape=shape, dtype=dtype, order=order, memory="shared")
    assert sink.memory == "shared"
    assert sink.shape == shape
    assert sink.dtype == np.dtype(dtype)
    assert sink.array.flags.writeable
    want = np.empty(shape, dtype, order)
    assert (sink.array.flags.c_contiguous, sink.array.flags.f_contiguous) == (
        want.flags.c_contiguous,
        want.flags.f_contiguous,
    )
    assert np.shares_memory(buffer, sink.array) == (sink.array.size > 0)


def test_initialize_sink_takes_shape_and_type_of_a_source(directory):
    sink = megalith.initialize_sink(source=np.ones((3, 4), "i2"), memory="shared", return_buffer=False)
    assert (sink.shape, sink.dtype, sink.memory) == ((3, 4), np.dtype("i2"), "shared")


def test_kernels_write_into_shared_sinks(directory):
    values = np.arange(20.0)
    sink = megalith.initialize_sink(shape=(20,), dtype="f8", memory="shared", return_buffer=False)
    got = megalith.correlate1d(values, [1.0, 2.0, 1.0], sink)
    np.testing.assert_array_equal(sink.array, megalith.correlate1d(values, [1.0, 2.0, 1.0]))
    assert np.shares_memory(got, sink.array)


def test_nothing_of_it_has_a_name(directory, npy):
    kept = [megalith.read(npy, memory="shared"), megalith.initialize_sink(shape=(9,), dtype="u1", memory="shared")]
    assert files(directory) == []
    del kept
    gc.collect()
    assert files(directory) == []


def test_nothing_of_it_is_left_in_the_machines_own_shared_memory(npy):
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208
    got = megalith.read(npy, memory="shared")
    new = set(os.listdir("/dev/shm")) - before  # noqa: PTH208
    assert {name for name in new if not name.startswith(("megalith-", "sharearray_"))} == set()
    assert got.array.sum() == np.arange(60).sum()


def test_the_memory_is_given_back_with_the_last_array(directory):
    sink = megalith.initialize_sink(shape=(1000,), dtype="u1", memory="shared", return_buffer=False)
    inode = inode_at(sink.array.ctypes.data)
    part = sink.array[10:20]
    del sink
    gc.collect()
    assert inode in inodes()
    part[:] = 5
    del part
    gc.collect()
    assert inode not in inodes()


def mappings():
    return [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]


def inodes():
    return {fields[4] for fields in mappings()}


def inode_at(address):
    for fields in mappings():
        start, end = (int(text, 16) for text in fields[0].split("-"))
        if start <= address < end:
            return fields[4]
    raise AssertionError("not mapped")


def test_a_shared_sink_is_no_private_memory(directory):
    sink = megalith.initialize_sink(shape=(1000,), dtype="u1", memory="shared", return_buffer=False)
    address = sink.array.ctypes.data
    (permissions,) = [
        fields[1]
        for fields in mappings()
        if int(fields[0].split("-")[0], 16) <= address < int(fields[0].split("-")[1], 16)
    ]
    assert permissions == "rw-s"


@pytest.mark.parametrize("memory", ["private", "", 1, True, b"shared"])
def test_another_kind_of_memory_is_an_argument_error(npy, memory):
    with pytest.raises(ArgumentError, match="memory"):
        megalith.read(npy, memory=memory)
    with pytest.raises(ArgumentError, match="memory"):
        megalith.initialize_sink(shape=(3,), dtype="u1", memory=memory)


def test_objects_are_refused(directory):
    with pytest.raises(DTypeError):
        megalith.initialize_sink(shape=(3,), dtype=object, memory="shared")


def test_a_negative_shape_is_refused(directory):
    with pytest.raises((ShapeError, ValueError)):
        megalith.initialize_sink(shape=(-3,), dtype="u1", memory="shared")
    assert files(directory) == []

"""`read_array` and `write_array`: whole ``.npy`` files, dask arrays chunk by chunk."""

import threading

import dask
import dask.array as da
import numpy as np
import pytest

from megalith.arrays import ConcatenatedArrays, blocks, read_array, write_array
from megalith.exceptions import ArgumentError, DTypeError, FormatError, ShapeError, TruncatedFileError
from megalith.testing.cases import ALL, assert_identical, sample


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("shape", [(7,), (3, 4), (0, 2), ()])
def test_what_is_written_is_read(tmp_path, dtype, shape):
    values = sample(dtype, shape)
    write_array(tmp_path / "a.npy", values)
    assert_identical(np.load(tmp_path / "a.npy"), np.asarray(values))
    for mode in (None, "r", "r+", "c"):
        assert_identical(np.asarray(read_array(tmp_path / "a.npy", mode)), np.asarray(values))


def test_order_is_kept(tmp_path):
    write_array(tmp_path / "a.npy", np.asfortranarray(np.arange(6).reshape(2, 3)))
    assert read_array(tmp_path / "a.npy").flags.f_contiguous
    assert read_array(str(tmp_path / "a.npy"), mmap_mode="r").flags.f_contiguous


def test_modes_are_those_of_numpy(tmp_path):
    path = tmp_path / "a.npy"
    write_array(path, np.zeros(3))
    assert not read_array(path, "r").flags.writeable
    private = read_array(path, "c")
    private[0] = 1
    shared = read_array(path, "r+")
    shared[1] = 2
    assert read_array(path).tolist() == [0, 2, 0]
    with pytest.raises(ArgumentError, match="mmap_mode: got 'w'"):
        read_array(path, "w")


def test_errors_of_files_say_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_array(tmp_path / "none.npy")
    for call in (lambda: read_array(tmp_path / "a.txt"), lambda: write_array(tmp_path / "a.txt", np.zeros(3))):
        with pytest.raises(FormatError, match=r"does not end in '\.npy'"):
            call()
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DTypeError):
        read_array(tmp_path / "objects.npy")
    np.save(tmp_path / "short.npy", np.zeros(100))
    (tmp_path / "short.npy").write_bytes((tmp_path / "short.npy").read_bytes()[:-1])
    with pytest.raises(TruncatedFileError):
        read_array(tmp_path / "short.npy", "r")


def test_a_concatenation_is_written_without_being_held(tmp_path):
    parts = [np.arange(12).reshape(4, 3), np.arange(6).reshape(2, 3)]
    write_array(tmp_path / "a.npy", ConcatenatedArrays(parts, scaling=0.5))
    assert_identical(read_array(tmp_path / "a.npy"), np.concatenate(parts) * 0.5)


@pytest.mark.parametrize("chunks", [(3, 4), (7, 9), (1, 1), (-1, 2)])
@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_a_dask_array_is_written_chunk_by_chunk(tmp_path, chunks, scheduler):
    values = sample("int16", (7, 9))
    with dask.config.set(scheduler=scheduler):
        write_array(tmp_path / "a.npy", da.from_array(values, chunks=chunks)[::-1])
    assert_identical(read_array(tmp_path / "a.npy"), values[::-1])


def test_chunks_of_other_processes_are_written_in_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "WINDOW_BYTES", 80)
    values = sample("int16", (7, 9))
    with dask.config.set(scheduler="processes", num_workers=1):
        write_array(tmp_path / "a.npy", da.from_array(values, chunks=(5, 6)))
    assert_identical(read_array(tmp_path / "a.npy"), values)


def test_dask_arrays_of_any_number_of_axes_are_written(tmp_path):
    for shape in ((), (0,), (3, 0), (2, 3, 4)):
        write_array(tmp_path / "a.npy", da.ones(shape, chunks=2, dtype=">f4"))
        assert_identical(read_array(tmp_path / "a.npy"), np.ones(shape, ">f4"))


def test_chunks_of_a_dask_array_are_let_go_when_they_are_written(tmp_path):
    alive, most, lock = [0], [0], threading.Lock()

    class Counted(np.ndarray):
        def __del__(self):
            with lock:
                alive[0] -= 1

    def make(block_info=None):
        with lock:
            alive[0] += 1
            most[0] = max(most[0], alive[0])
        return np.zeros((10, 10)).view(Counted)

    lazy = da.map_blocks(make, chunks=((10,) * 50, (10,)), dtype=float, meta=np.empty((0, 0)))
    with dask.config.set(num_workers=2):
        write_array(tmp_path / "a.npy", lazy)
    assert read_array(tmp_path / "a.npy").shape == (500, 10)
    assert most[0] <= 10


def test_a_failing_chunk_leaves_what_was_there(tmp_path):
    write_array(tmp_path / "a.npy", np.arange(3))

    def fail(block):
        raise RuntimeError("no such chunk")

    lazy = da.ones(10, chunks=5).map_blocks(fail, dtype=float, meta=np.empty(0))
    with pytest.raises(RuntimeError, match="no such chunk"):
        write_array(tmp_path / "a.npy", lazy)
    assert read_array(tmp_path / "a.npy").tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_dask_arrays_that_have_no_place_in_a_file_are_refused(tmp_path):
    lazy = da.from_array(np.arange(10), chunks=5)
    with pytest.raises(ShapeError, match="compute_chunk_sizes"):
        write_array(tmp_path / "a.npy", lazy[lazy > 3])
    with pytest.raises(DTypeError, match="Python objects"):
        write_array(tmp_path / "a.npy", da.from_array(np.array([{}]), chunks=1))

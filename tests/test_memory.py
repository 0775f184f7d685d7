"""Large fresh results are ordinary arrays, in memory that arrays of before gave back."""

import gc
import pickle
import threading

import numpy as np
import pytest

import megalith
from megalith import _core
from megalith.testing.faults import run_python

LARGE = 20 << 20

RSS = """
import os
import numpy as np
import megalith
from megalith import _core

def resident():
    '''Resident memory of this process in MiB.'''
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

def made(nbytes, value):
    array = _core.empty((nbytes,), np.uint8)
    array.fill(value)
    return array
"""


@pytest.fixture
def nothing_kept():
    """The store as it is where no memory was given back: what cannot be had takes all that is kept."""
    gc.collect()
    with pytest.raises(MemoryError):
        _core.empty((1 << 60,), np.uint8)


@pytest.mark.parametrize("dtype", ["u1", "<f8", ">i4", "c16", "M8[ns]", [("a", "u1"), ("b", "f4")], ("f4", 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_array_is_one_as_numpy_makes_them(dtype, order):
    got, expected = _core.empty((3, LARGE // 8, 2), dtype, order), np.empty((3, LARGE // 8, 2), dtype, order)
    assert type(got) is np.ndarray
    assert got.base is None
    assert str(got.flags) == str(expected.flags)
    assert got.flags.owndata
    assert got.flags.writeable
    assert (got.shape, got.strides, got.dtype) == (expected.shape, expected.strides, expected.dtype)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 1 << 40), [3, 4], (np.int64(3), 4)])
def test_a_small_array_is_one_as_numpy_makes_them(shape):
    got, expected = _core.empty(shape, np.float32), np.empty(shape, np.float32)
    assert (got.shape, got.dtype, got.strides) == (expected.shape, expected.dtype, expected.strides)


def test_an_array_of_objects_is_one_of_nones():
    assert not any(_core.empty((LARGE // 8,), object))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (((LARGE, -1), np.uint8), (ValueError, OverflowError)),
        (((LARGE,), "no type"), TypeError),
        (((LARGE,), np.uint8, "no order"), ValueError),
        (((1 << 62, 4), np.uint8), ValueError),
        (((1 << 60,), np.uint8), MemoryError),
    ],
)
def test_what_numpy_refuses_is_refused_and_later_arrays_are_numpys(arguments, error):
    with pytest.raises(error):
        _core.empty(*arguments)
    assert _core.empty((LARGE,), np.uint8).size == LARGE
    assert np._core.multiarray.get_handler_name() == "default_allocator"
    assert np._core.multiarray.get_handler_name(np.empty(LARGE, np.uint8)) == "default_allocator"


def test_an_array_can_be_resized_pickled_copied_and_written():
    array = _core.empty((LARGE,), np.uint8)
    array[:] = np.arange(LARGE, dtype=np.uint8)
    values = array.copy()
    assert np.array_equal(pickle.loads(pickle.dumps(array)), values)
    for n in (LARGE + 1, 3 * LARGE, 2 * LARGE, LARGE // 2, LARGE, 5):
        array.resize(n, refcheck=False)
        values.resize(n, refcheck=False)
        assert np.array_equal(array, values)
        array += 1
        values += 1
    assert array.flags.owndata


@pytest.mark.usefixtures("nothing_kept")
def test_the_memory_of_an_array_is_the_next_ones():
    first = _core.empty((LARGE,), np.uint8)
    address = first.ctypes.data
    assert address % (1 << 21) == 0
    del first
    for shape, dtype in [((LARGE,), np.uint8), ((LARGE - 5,), np.uint8), ((LARGE // 40, 10), np.float32)]:
        assert _core.empty(shape, dtype).ctypes.data == address
    longer, shorter = _core.empty((2 * LARGE,), np.uint8), _core.empty((LARGE // 2,), np.uint8)
    assert address not in (longer.ctypes.data, shorter.ctypes.data)


@pytest.mark.usefixtures("nothing_kept")
def test_memory_that_a_view_shows_is_nobody_elses():
    first = _core.empty((LARGE,), np.uint8)
    address = first.ctypes.data
    first.fill(1)
    view = first[5:-5:7]
    buffer = memoryview(view)
    del first
    others = [_core.empty((LARGE,), np.uint8) for _ in range(3)]
    for other in others:
        other.fill(2)
        assert not np.may_share_memory(view, other)
    del view
    assert _core.empty((LARGE,), np.uint8).ctypes.data != address
    assert set(bytes(buffer)) == {1}
    others.clear()
    del buffer
    assert _core.empty((LARGE,), np.uint8).ctypes.data == address


RESULTS = {
    "where": lambda volume, path: megalith.where(volume),
    "apply_lut": lambda volume, path: megalith.apply_lut(volume, np.arange(256)),
    "apply_lut_to_index": lambda volume, path: megalith.apply_lut_to_index(volume, [[[1, 1]]], np.arange(600)),
    "correlate1d": lambda volume, path: megalith.correlate1d(volume, [1.0, 2.0]),
    "neighbours": lambda volume, path: megalith.neighbours(np.arange(volume.size), 1),
    "read": lambda volume, path: megalith.read(path).array,
    "excerpts": lambda volume, path: megalith.arrays.get_excerpts(volume.reshape(-1, 32), 8, volume.size // 320),
    "spikes_per_cluster": lambda volume, path: megalith.select.spikes_per_cluster(volume.ravel())[1].base,
    "index_of": lambda volume, path: megalith.select.index_of(volume, np.arange(256)),
}


@pytest.mark.parametrize("name", RESULTS)
def test_the_second_result_has_the_memory_of_the_first(name, tmp_path):
    volume = np.random.default_rng(0).integers(0, 250, (64, 256, 1024), dtype=np.uint8)
    path = tmp_path / "volume.npy"
    np.save(path, volume)
    first = RESULTS[name](volume, path)
    while isinstance(first.base, np.ndarray):
        first = first.base
    assert first.flags.owndata
    expected, address = first.copy(), first.ctypes.data
    first.fill(0)
    del first
    second = RESULTS[name](volume, path)
    while isinstance(second.base, np.ndarray):
        second = second.base
    assert second.ctypes.data == address
    assert np.array_equal(second, expected)


def test_scratch_that_was_used_before_changes_no_result():
    rng = np.random.default_rng(0)
    weights = (1 << np.arange(23)).reshape(1, 1, 23)
    source = rng.integers(0, 2, (20, 300, 400)).astype(bool)
    sums = np.zeros(source.shape, np.int64)
    for k in range(23):
        at = k - 11
        sums[:, :, max(-at, 0) : 400 - max(at, 0)] += source[:, :, max(at, 0) : 400 + min(at, 0)].astype(np.int64) << k
    dense, sparse = np.ones(9 << 20, np.uint8), np.zeros(9 << 20, np.uint8)
    sparse[:: 1 << 18] = 1
    for turn in range(2):
        for values in (dense, sparse):
            assert np.array_equal(megalith.where(values), np.flatnonzero(values))
        table = rng.integers(0, 2, 1 << 23).astype(np.uint8)
        assert np.array_equal(megalith.apply_lut_to_index(source, weights, table), table[sums])
        gaps = np.concatenate([np.arange(6 << 20), (8 << 20) + np.arange(turn, 1 << 20, 2)])
        pairs = megalith.neighbours(gaps, 2)
        assert np.array_equal(gaps[pairs[:, 0]] + 2, gaps[pairs[:, 1]])
        assert len(pairs) == np.isin(gaps + 2, gaps).sum()


def test_eight_threads_keep_what_they_write():
    wrong = []

    def work(thread):
        rng = np.random.default_rng(thread)
        for turn in range(30):
            length = int(rng.integers(1 << 20, 1 << 21))
            array = _core.empty((length,), np.int64)
            array.fill(100 * thread + turn)
            other = megalith.apply_lut(np.broadcast_to(np.uint8(thread), 9 << 20), np.arange(8, dtype=np.uint8))
            if not (array == 100 * thread + turn).all() or not (other == thread).all():
                wrong.append((thread, turn))
            passed[thread] = array  # Freed by the thread that comes next.
            passed[thread - 1] = None

    passed = [None] * 8
    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(("limit", "n_kept"), [(0, 0), (39 << 20, 1), (40 << 20, 2), (100 << 20, 4)])
def test_no_more_is_kept_than_the_limit(tmp_path, limit, n_kept):
    code = f"""
    before = resident()
    arrays = [made({LARGE}, i) for i in range(4)]
    assert resident() - before >= 79
    arrays.clear()
    print(round((resident() - before) / 20))
    """
    run = run_python(RSS + "if True:" + code, tmp_path, env={"MEGALITH_REUSE_BYTES": str(limit)})
    assert int(run.check()) == n_kept


def test_a_limit_of_zero_leaves_arrays_to_numpy(tmp_path):
    code = f"print(np._core.multiarray.get_handler_name(_core.empty(({LARGE},), np.uint8)))"
    said = run_python(RSS + code, tmp_path, env={"MEGALITH_REUSE_BYTES": "0"}).check()
    assert said.strip() == "default_allocator"


def test_a_limit_that_is_no_number_is_an_error(tmp_path):
    code = f"""
try:
    _core.empty(({LARGE},), np.uint8)
except megalith.exceptions.ArgumentError as error:
    print(error)
"""
    said = run_python(RSS + code, tmp_path, env={"MEGALITH_REUSE_BYTES": "much"}).check()
    assert "MEGALITH_REUSE_BYTES" in said
    assert "much" in said


def test_a_thousand_results_take_no_more_memory_than_a_few(tmp_path):
    code = f"""
    source, table = np.zeros({LARGE}, np.uint8), np.ones(256, np.uint8)
    def work(n):
        for i in range(n):
            megalith.apply_lut(source, table)
            made({LARGE} + (i % 7 << 20), i % 256)
    work(10)
    before = resident()
    work(1000)
    print(resident() - before)
    """
    assert int(run_python(RSS + "if True:" + code, tmp_path).check()) < 200


def test_tracemalloc_knows_the_arrays(tmp_path):
    code = f"""
    import tracemalloc
    tracemalloc.start()
    array = made({LARGE}, 1)
    assert tracemalloc.get_traced_memory()[0] >= {LARGE}
    array.resize({2 * LARGE}, refcheck=False)
    assert tracemalloc.get_traced_memory()[0] >= {2 * LARGE}
    del array
    assert tracemalloc.get_traced_memory()[0] < {LARGE}
    """
    run_python(RSS + "if True:" + code, tmp_path).check()


def test_arrays_that_outlive_everything_are_freed_at_the_end(tmp_path):
    code = f"""
    import sys, threading
    class Holder:
        array = made({LARGE}, 1)
        def __del__(self):
            self.array.resize({2 * LARGE}, refcheck=False)
            print(self.array[0])
    holder = sys.modules["holder"] = Holder()
    holder.itself = holder
    np.kept = made({LARGE}, 2)
    """
    assert run_python(RSS + "if True:" + code, tmp_path).check().strip() in ("", "1")

"""`allocate`: an array that is made inside of shared memory, and published when it is complete."""

import inspect
import os
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from megalith import shared
from megalith.exceptions import ArgumentError, DTypeError, KeyMissingError, LockTimeoutError, MegalithError, ShapeError
from megalith.shared import SharedArray


def never():
    raise AssertionError("computed although it is there")


def test_arguments_have_the_names_and_the_order_of_the_contract():
    names = list(inspect.signature(shared.allocate).parameters)
    assert names[:4] == ["id", "shape", "dtype", "order"]
    assert {"shm_path", "prefix", "timeout"} <= set(names[4:])
    kinds = {name: p.kind for name, p in inspect.signature(shared.allocate).parameters.items()}
    assert kinds["shm_path"] is kinds["prefix"] is kinds["timeout"] is inspect.Parameter.KEYWORD_ONLY


def test_what_was_written_inside_of_the_block_is_served_after_it(store):
    with store.allocate("a", (3, 4), np.int32) as array:
        array[...] = np.arange(12).reshape(3, 4)
    for got in (array, store.get("a"), store.cache("a", never), np.load(store.file("a"), mmap_mode="r")):
        assert got.dtype == np.int32
        np.testing.assert_array_equal(got, np.arange(12).reshape(3, 4))


def test_an_array_in_the_machines_own_shared_memory_is_a_file_under_its_name(key):
    with shared.allocate(key, 5, "u1") as array:
        array[:] = 7
    assert np.load(f"/dev/shm/sharearray_{key}.npy").tolist() == [7] * 5


def test_the_array_is_writable_in_the_block_and_read_only_after(store):
    with store.allocate("a", 3, "f8") as array:
        assert array.flags.writeable
        array += 1
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 5
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.setflags(write=True)
    assert type(store.get("a")) is SharedArray


def test_the_array_and_later_hits_are_the_same_memory(store):
    with store.allocate("a", 1000, "f8") as array:
        array[:] = 1
    inodes = [line.split()[4] for line in Path("/proc/self/maps").read_text().splitlines()]
    assert inodes.count(str(store.file("a").stat().st_ino)) == 1
    assert np.shares_memory(array, store.get("a"))


def test_nothing_is_visible_before_the_block_ends(store):
    with store.allocate("a", 3, "u1"):
        assert list(store.directory.glob("sharearray_*")) == []
        assert store.ls() == []
        with pytest.raises(KeyMissingError):
            store.get("a")
    assert [path.name for path in store.directory.glob("sharearray_*")] == ["sharearray_a.npy"]


@pytest.mark.parametrize(
    "shape", [0, 1, 5, (), (0,), (3, 0), (2, 3, 4), [4, 5], np.int64(6), (np.uint8(2), 3)], ids=str
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_shapes_are_those_of_numpy(store, shape, order):
    with store.allocate("a", shape, "<i4", order) as array:
        array[...] = 3
    want = np.full(shape, 3, "<i4", order)
    assert array.shape == want.shape
    assert array.flags.f_contiguous == want.flags.f_contiguous
    assert array.flags.c_contiguous == want.flags.c_contiguous
    np.testing.assert_array_equal(np.load(store.file("a")), want)


DTYPES = ["bool", "i1", ">f8", "c16", "f2", "M8[ns]", "S3", "U2", "V5", float, np.uint16, [("a", "u1"), ("b", "f8")]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_types_are_those_of_numpy(store, dtype):
    values = np.ones(4, dtype) if np.dtype(dtype).kind not in "V" else np.zeros(4, dtype)
    with store.allocate("a", 4, dtype) as array:
        array[:] = values
    assert array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(store.get("a"), values)
    assert np.load(store.file("a")).dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    "shape", [-1, (3, -1), (-2, -3), (-1, 0), 2.5, "3", None, (2, 1.0), (2**62, 4), 2**70], ids=str
)
def test_an_impossible_shape_is_a_shape_error_that_leaves_nothing(store, shape):
    with pytest.raises(ShapeError), store.allocate("a", shape, "u1"):
        never()
    assert [path for path in store.directory.rglob("*") if not path.is_dir()] == []


NO_DTYPES = ["O", "S0", "U0", "V0", object, str, bytes, [("a", "O")], [], "nonsense"]


@pytest.mark.parametrize("dtype", NO_DTYPES, ids=str)
def test_objects_and_unsized_types_are_dtype_errors_that_leave_nothing(store, dtype):
    with pytest.raises(DTypeError), store.allocate("a", 3, dtype):
        never()
    assert [path for path in store.directory.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("order", ["K", "A", "X", None, 1])
def test_another_order_is_an_argument_error(store, order):
    with pytest.raises(ArgumentError), store.allocate("a", 3, "u1", order):
        never()


def test_more_than_any_memory_is_an_error_that_leaves_nothing(store):
    with pytest.raises((MemoryError, ValueError)) as caught, store.allocate("a", 2**60, "u1"):
        never()
    assert isinstance(caught.value, MegalithError)
    assert [path for path in store.directory.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("value", [np.ones(2), [np.ones(2)]], ids=["array", "nesting"])
def test_a_name_that_exists_is_file_exists(store, value):
    store.cache("a", lambda: value)
    with pytest.raises(FileExistsError, match="a"), store.allocate("a", 3, "u1"):
        never()
    assert store.cache("a", never) is not None


def test_a_name_that_was_allocated_exists(store):
    with store.allocate("a", 3, "u1") as array:
        array[:] = 1
    with pytest.raises(FileExistsError), store.allocate("a", 3, "u1"):
        never()
    assert store.get("a").tolist() == [1, 1, 1]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, StopIteration, GeneratorExit])
def test_an_error_in_the_block_flies_as_it_is_and_leaves_nothing(store, error):
    raised = error("mine")

    def fail():
        with store.allocate("a", 3, "u1") as array:
            array[:] = 1
            raise raised

    with pytest.raises(error) as caught:
        fail()
    assert caught.value is raised
    assert [path for path in store.directory.rglob("*") if not path.is_dir()] == []
    assert store.cache("a", lambda: np.zeros(2)).tolist() == [0, 0]


def test_the_array_of_a_failed_block_can_still_be_looked_at(store):
    with suppress(ZeroDivisionError), store.allocate("a", 1000, "u1") as array:
        array[:] = 5
        _ = 1 / 0
    assert array.sum() == 5000


def test_the_file_is_private(store):
    before = os.umask(0)
    try:
        with store.allocate("a", 3, "u1"):
            pass
    finally:
        os.umask(before)
    assert store.file("a").stat().st_mode & 0o777 == 0o600


def test_asking_for_the_name_inside_of_its_block_fails_at_once(store):
    with store.allocate("a", 3, "u1") as array:
        with pytest.raises(LockTimeoutError):
            store.cache("a", never)
        with pytest.raises(LockTimeoutError), store.allocate("a", 3, "u1"):
            never()
        array[:] = 1
    assert store.get("a").tolist() == [1, 1, 1]


def test_other_names_may_be_made_inside_of_a_block(store):
    with store.allocate("a", 3, "u1") as a, store.allocate("b", 2, "u1") as b:
        a[:] = store.cache("c", lambda: np.full(3, 9))
        b[:] = 1
    assert store.get("a").tolist() == [9, 9, 9]
    assert store.get("b").tolist() == [1, 1]


def test_a_name_published_during_the_block_is_file_exists_and_stays(store):
    np.save(store.directory / "other.npy", np.zeros(3))
    with pytest.raises(FileExistsError), store.allocate("a", 3, "u1"):
        (store.directory / "other.npy").rename(store.file("a"))
    assert store.get("a").tolist() == [0, 0, 0]


def test_a_callback_of_another_thread_waits_for_the_block_and_is_served(store):
    got, waits = [], threading.Event()

    def ask():
        got.append(store.cache("a", never, verbose=True, log_func=lambda sentence: waits.set()))

    with store.allocate("a", 3, "u1") as array:
        other = threading.Thread(target=ask)
        other.start()
        assert waits.wait(30)
        array[:] = 4
    other.join(30)
    assert [one.tolist() for one in got] == [[4, 4, 4]]


def test_a_block_may_end_in_another_thread_than_it_began(store):
    block = store.allocate("a", 3, "u1")
    arrays = []
    other = threading.Thread(target=lambda: arrays.append(block.__enter__()))
    other.start()
    other.join(30)
    arrays[0][:] = 5
    block.__exit__(None, None, None)
    assert store.get("a").tolist() == [5, 5, 5]
    store.free("a")
    assert store.cache("a", lambda: np.ones(2), timeout=0).sum() == 2


def test_blocks_may_end_in_another_order_than_they_began(store):
    blocks = [store.allocate(f"a{i}", 3, "u1") for i in range(3)]
    for i, block in enumerate(blocks):
        block.__enter__()[:] = i
    for i in (1, 0, 2):
        blocks[i].__exit__(None, None, None)
    assert [int(store.get(f"a{i}")[0]) for i in range(3)] == [0, 1, 2]


def test_a_name_that_is_being_made_is_a_timeout(store):
    with store.allocate("a", 3, "u1"):
        errors = []

        def ask():
            for timeout in (0, 0.05):
                try:
                    with store.allocate("a", 3, "u1", timeout=timeout):
                        never()
                except LockTimeoutError as error:
                    errors.append(error)

        other = threading.Thread(target=ask)
        other.start()
        other.join(30)
        assert len(errors) == 2


def test_files_made_by_allocate_and_by_cache_are_the_same_bytes(store):
    values = np.arange(100.0).reshape(10, 10)
    store.cache("a", values)
    with store.allocate("b", values.shape, values.dtype) as array:
        array[...] = values
    assert store.file("a").read_bytes() == store.file("b").read_bytes()

"""`SharedArray`: a read-only view that owns its part of the mapping; what is computed from it is a plain array."""

import copy
import gc
import pickle
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest

import megalith
from megalith.exceptions import LayoutError
from megalith.shared import SharedArray
from megalith.testing.cases import assert_identical

VALUES = np.arange(24.0).reshape(4, 6)
PLAIN = {
    "+": lambda a: a + 1,
    "1 -": lambda a: 1 - a,
    "a * a": lambda a: a * a,
    "plain * a": lambda a: np.ones(6) * a,
    "-": lambda a: -a,
    "**": lambda a: a**2,
    ">": lambda a: a > 3,
    "@": lambda a: a @ a.T,
    "divmod": lambda a: divmod(a, 5)[0],
    "ufunc": np.sqrt,
    "outer": lambda a: np.hypot.outer(a, np.ones(2)),
    "reduceat": lambda a: np.add.reduceat(a, [0, 2]),
    "accumulate": np.add.accumulate,
    "sum": lambda a: a.sum(axis=0),
    "mean": lambda a: a.mean(axis=1),
    "std": lambda a: np.std(a, axis=0),
    "max": lambda a: a.max(axis=0),
    "argmax": lambda a: a.argmax(axis=0),
    "cumsum": lambda a: a.cumsum(),
    "clip": lambda a: a.clip(2, 5),
    "round": lambda a: a.round(1),
    "astype": lambda a: a.astype(np.float32),
    "astype of its own type": lambda a: a.astype(a.dtype),
    "copy": lambda a: a.copy(),
    "np.copy": np.copy,
    "np.array": np.array,
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "flatten": lambda a: a.flatten(),
    "take": lambda a: a.take([1, 2]),
    "repeat": lambda a: a.repeat(2),
    "fancy index": lambda a: a[[0, 2]],
    "mask": lambda a: a[a > 5],
    "fancy and slice": lambda a: a[[0, 1], 1:3],
    "concatenate": lambda a: np.concatenate([a, a]),
    "stack": lambda a: np.stack([a, a]),
    "where": lambda a: np.where(a > 3, a, 0),
    "sort": np.sort,
    "argsort": lambda a: a.argsort(),
    "nonzero": lambda a: a.nonzero()[0],
    "dot": lambda a: a.dot(np.ones(6)),
    "einsum": lambda a: np.einsum("ij,ij->i", a, a),
    "pad": lambda a: np.pad(a, 1),
    "zeros_like": np.zeros_like,
    "empty_like": np.empty_like,
    "full_like": lambda a: np.full_like(a, 3),
    "unique": np.unique,
    "ravel of a transpose": lambda a: a.T.ravel(),
    "reshape of a transpose": lambda a: a.T.reshape(3, 8),
    "ascontiguousarray of a transpose": lambda a: np.ascontiguousarray(a.T),
    "pickle": lambda a: pickle.loads(pickle.dumps(a)),
}
SHARING = {
    "slice": lambda a: a[1:3],
    "row": lambda a: a[2],
    "reversed": lambda a: a[::-1],
    "ellipsis": lambda a: a[...],
    "new axis": lambda a: a[:, None],
    "transpose": lambda a: a.T,
    "reshape": lambda a: a.reshape(2, 12),
    "ravel": lambda a: a.ravel(),
    "view of bytes": lambda a: a.view(np.uint8),
    "view": lambda a: a.view(),
    "swapaxes": lambda a: a.swapaxes(0, 1),
    "squeeze": lambda a: a[:1].squeeze(),
    "diagonal": lambda a: a.diagonal(),
    "split": lambda a: np.split(a, 2)[1],
    "broadcast": lambda a: np.broadcast_to(a, (2, 4, 6)),
    "asarray": np.asarray,
    "asanyarray": np.asanyarray,
    "view of ndarray": lambda a: a.view(np.ndarray),
    "memoryview": lambda a: np.asarray(memoryview(a)),
    "real": lambda a: a.real,
    "flat slice": lambda a: np.lib.stride_tricks.sliding_window_view(a, 2, axis=0),
}


@pytest.fixture
def array(store):
    """A shared array of doubles."""
    return store.cache("a", lambda: VALUES)


def mapped(file):
    """Whether this process has mapped a file."""
    return inodes().count(str(file.stat().st_ino)) > 0


def inodes():
    """The files this process has mapped, one for each mapping."""
    return [line.split()[4] for line in Path("/proc/self/maps").read_text().splitlines()]


def test_what_cache_gives_is_a_shared_array(array):
    assert type(array) is SharedArray
    assert isinstance(array, np.ndarray)


@pytest.mark.parametrize("operation", PLAIN.values(), ids=PLAIN)
def test_what_is_computed_is_a_plain_array_of_its_own(array, operation):
    with np.errstate(divide="ignore", invalid="ignore"):
        got, want = operation(array), operation(VALUES)
    assert type(got) is np.ndarray
    assert got.flags.writeable
    assert not np.shares_memory(got, array)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if operation is not np.empty_like:
        np.testing.assert_array_equal(got, want)
    got[...] = 0


@pytest.mark.parametrize("operation", SHARING.values(), ids=SHARING)
def test_a_view_shows_the_same_memory_and_is_read_only(array, operation):
    got = operation(array)
    assert np.shares_memory(got, array)
    np.testing.assert_array_equal(got, operation(VALUES))
    assert not got.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        got[...] = 0


@pytest.mark.parametrize("name", ["slice", "row", "reversed", "transpose", "reshape", "view", "new axis"])
def test_slices_and_other_views_are_shared_arrays(array, name):
    assert type(SHARING[name](array)) is SharedArray


@pytest.mark.parametrize("name", sorted(SHARING))
def test_a_view_keeps_the_memory_after_all_else_is_gone(store, name):
    view = SHARING[name](store.cache("a", lambda: VALUES))
    store.free("a")
    gc.collect()
    np.testing.assert_array_equal(view, SHARING[name](VALUES))


def test_an_element_is_a_plain_scalar(array):
    assert type(array[1, 2]) is np.float64
    assert type(array.sum()) is np.float64
    assert type(array.max()) is np.float64
    assert type(np.add.reduce(array, axis=None)) is np.float64
    assert array.item(3) == 3.0


def test_arithmetic_with_an_array_without_axes_gives_what_numpy_gives(store):
    array = store.cache("a", np.array(2.5))
    assert type(array + 1) is type(np.array(2.5) + 1)
    assert array + 1 == 3.5
    assert array[()] == 2.5


WRITES = {
    "item": lambda a: a.__setitem__((0, 0), 1),
    "+=": lambda a: a.__iadd__(1),
    "fill": lambda a: a.fill(0),
    "sort": lambda a: a.sort(),
    "partition": lambda a: a.partition(1),
    "put": lambda a: a.put([0], 1),
    "byteswap": lambda a: a.byteswap(inplace=True),
    "out of a ufunc": lambda a: np.add(a, 1, out=a),
    "copyto": lambda a: np.copyto(a, 0),
    "flat": lambda a: a.flat.__setitem__(0, 1),
    "place": lambda a: np.place(a, a > 0, 1),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_writing_is_refused(array, write):
    with pytest.raises(ValueError, match=r"read-only|not writeable|WRITEABLE"):
        write(array)
    np.testing.assert_array_equal(array, VALUES)


@pytest.mark.parametrize("view", ["itself", *sorted(SHARING)])
def test_no_flag_makes_it_writable(array, view):
    view = SHARING.get(view, lambda a: a)(array)
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.setflags(write=True)
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True


def test_its_buffer_is_read_only(array):
    assert memoryview(array).readonly


def test_a_base_owns_the_mapping(array):
    assert array.base is not None
    assert not array.flags.owndata
    assert array[1:].base is not None


def test_dlpack_makes_no_copy(array):
    exported = np.from_dlpack(array)
    assert np.shares_memory(exported, array)
    assert not exported.flags.writeable
    np.testing.assert_array_equal(exported, VALUES)


def test_results_may_be_written_into_plain_arrays(array):
    out = np.empty_like(VALUES)
    assert np.multiply(array, 2, out=out) is out
    np.testing.assert_array_equal(out, VALUES * 2)
    out += array
    assert type(out) is np.ndarray


def test_it_prints_like_an_array(array):
    assert str(array) == str(VALUES)
    assert "SharedArray" in repr(array)


def test_the_mapping_is_gone_with_the_last_view(store):
    first = store.cache("a", lambda: VALUES)
    file = store.file("a")
    row = first[1]
    second = store.get("a")
    assert mapped(file)
    del first
    gc.collect()
    assert mapped(file)
    del second
    gc.collect()
    assert mapped(file)
    assert row.tolist() == VALUES[1].tolist()
    del row
    gc.collect()
    assert not mapped(file)


def test_the_mapping_of_a_nesting_is_gone_with_the_last_of_its_arrays(store):
    one, two = store.cache("a", lambda: (VALUES, VALUES + 1))
    file = store.file("a", ".npz")
    del one
    gc.collect()
    assert mapped(file)
    del two
    gc.collect()
    assert not mapped(file)


def test_the_mapping_of_an_allocated_array_is_gone_with_the_last_view(store):
    with store.allocate("a", 10, "u1") as array:
        pass
    file = store.file("a")
    assert mapped(file)
    del array
    gc.collect()
    assert not mapped(file)


def test_views_of_one_file_are_one_mapping(store):
    kept = [store.cache("a", lambda: VALUES)] + [store.get("a") for _ in range(10)]
    assert inodes().count(str(store.file("a").stat().st_ino)) == 1
    assert len({array.ctypes.data for array in kept}) == 1


def test_weak_references_to_a_view_die_with_it(store):
    array = store.cache("a", lambda: VALUES)
    reference = weakref.ref(array)
    del array
    gc.collect()
    assert reference() is None


def test_a_view_is_no_part_of_a_cycle(store):
    gc.disable()
    try:
        array = store.cache("a", lambda: VALUES)
        file = store.file("a")
        del array
        assert not mapped(file)
    finally:
        gc.enable()


def test_kernels_take_shared_arrays(array):
    assert_identical(megalith.where(array), np.argwhere(VALUES))
    assert type(megalith.correlate1d(array, [1.0, 2.0])) is np.ndarray
    assert megalith.block_sums(array).sum() == VALUES.sum()


def test_a_shared_array_is_refused_as_a_sink(array):
    with pytest.raises(ValueError, match=r"read-only|writeable|sink"):
        megalith.correlate1d(VALUES, [1.0, 2.0], array)
    np.testing.assert_array_equal(array, VALUES)


def test_numpy_saves_and_loads_it(array, tmp_path):
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), VALUES)


@pytest.mark.parametrize(("name", "value"), [("shape", (24,)), ("dtype", np.int64), ("strides", (8, 32))])
def test_what_every_user_in_the_process_holds_cannot_be_reshaped_in_place(array, name, value):
    with pytest.raises(LayoutError, match="change a view's"):
        setattr(array, name, value)
    assert array.shape == VALUES.shape
    own = array.view()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        own.shape = (24,)
    assert own.shape == (24,)
    assert array.shape == VALUES.shape

"""Every array comes back as it was, in a file that NumPy reads; a file that NumPy wrote is served."""

import numpy as np
import pytest

from megalith.exceptions import DTypeError, MegalithError
from megalith.shared import SharedArray
from megalith.testing.cases import ALL, pairs, sample
from megalith.testing.layouts import LAYOUTS

PACKED = np.dtype([("a", "u1"), ("b", ">f8"), ("c", "<u2", (3,))])
KINDS = {
    **{name: np.dtype(name) for name in ALL},
    **{name: np.dtype(name) for name in (">i2", ">u8", ">f2", ">f4", ">c16", ">M8[s]", "M8[D]", "m8[ns]", "m8")},
    **{name: np.dtype(name) for name in ("longdouble", "clongdouble")},
    **{name: np.dtype(name) for name in ("S5", "U3", ">U3", "V7")},
    "packed": PACKED,
    "aligned": np.dtype([("a", "u1"), ("b", "f8"), ("c", "u2", (3,))], align=True),
    "nested": np.dtype([("point", [("x", "f4"), ("y", "f4")]), ("name", "U4"), ("inner", PACKED, (2,))]),
    "offsets": np.dtype({"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [3, 16], "itemsize": 40}),
}


def values_of(dtype, shape=(7, 11)):
    """Some values of any type."""
    if dtype.kind in "SU":
        return np.array(["a", "bcd", ""])[np.arange(np.prod(shape)).reshape(shape) % 3].astype(dtype)
    if dtype.kind == "V":
        raw = np.random.default_rng(0).integers(1, 100, (*shape, dtype.itemsize), dtype=np.uint8)
        return raw.view(dtype).reshape(shape) if dtype.names is None else filled(dtype, shape)
    if dtype.char in "gG":
        return sample("c16" if dtype.kind == "c" else "f8", shape).astype(dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        return sample(dtype.newbyteorder("="), shape).astype(dtype)


def filled(dtype, shape):
    values = np.zeros(shape, dtype)
    for name in dtype.names:
        field = values[name]
        field[...] = np.arange(field.size, dtype=np.int16).reshape(field.shape) if field.dtype.names is None else 0
    return values


def assert_same(got, want):
    """Assert a read-only shared array of the very same type, shape and values."""
    assert type(got) is SharedArray
    assert not got.flags.writeable
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if want.dtype.names is None and want.dtype.char not in "gG":
        assert got.tobytes() == want.tobytes()
    else:  # without what lies between the fields
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", KINDS.values(), ids=KINDS)
def test_an_array_of_any_type_comes_back_as_it_was(store, dtype):
    values = values_of(dtype)
    assert_same(store.cache("a", values), values)
    np.testing.assert_array_equal(np.load(store.file("a")), values)
    np.testing.assert_array_equal(np.load(store.file("a"), mmap_mode="r"), values)


@pytest.mark.parametrize("dtype", KINDS.values(), ids=KINDS)
def test_an_array_of_any_type_that_numpy_saved_is_served(store, dtype):
    values = values_of(dtype)
    np.save(store.file("a"), values, allow_pickle=False)
    assert_same(store.cache("a", never), values)


def never():
    raise AssertionError("computed although it is there")


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (0, 0), (5, 1, 7), (2,) * 20], ids=str)
@pytest.mark.parametrize("dtype", ["uint8", ">f8", "packed"])
def test_an_array_of_any_shape_comes_back_as_it_was(store, shape, dtype):
    values = values_of(PACKED if dtype == "packed" else np.dtype(dtype), shape)
    assert_same(store.cache("a", lambda: values), values)
    assert np.load(store.file("a"), mmap_mode="r").shape == shape


@pytest.mark.parametrize(
    "case",
    pairs(
        {
            "layout": list(LAYOUTS),
            "dtype": ["bool", "int16", "float64", "complex64"],
            "shape": [(), (0, 3), (6, 5, 4)],
            "by": ["value", "callback", "record"],
        }
    ),
    ids=lambda case: "-".join(map(str, case.values())),
)
def test_an_array_of_any_layout_comes_back_as_it_was(store, case):
    values = LAYOUTS[case["layout"]](sample(case["dtype"], case["shape"]))
    if case["by"] == "record":
        got = store.cache("a", lambda: [values])[0]
    else:
        got = store.cache("a", values if case["by"] == "value" else lambda: values)
    assert_same(got, values)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_of_the_elements_is_kept(store, order):
    values = np.array(np.arange(24).reshape(2, 3, 4), order=order)
    for got in (store.cache("a", values), store.cache("b", {"x": values})["x"]):
        assert got.flags.c_contiguous == (order == "C")
        assert got.flags.f_contiguous == (order == "F")
        np.testing.assert_array_equal(got, values)
    assert np.load(store.file("a")).flags.f_contiguous == (order == "F")


def test_a_memory_map_is_stored_like_any_array(store, tmp_path):
    values = np.arange(1000.0)
    np.save(tmp_path / "a.npy", values)
    got = store.cache("a", np.load(tmp_path / "a.npy", mmap_mode="r")[10:])
    assert_same(got, values[10:])


def test_a_shared_array_is_stored_like_any_array(store):
    first = store.cache("a", np.arange(12).reshape(3, 4))
    second = store.cache("b", first[:, 1:3])
    store.free("a")
    assert_same(second, np.arange(12).reshape(3, 4)[:, 1:3])
    assert not np.shares_memory(first, second)


def test_the_stored_array_is_a_copy(store):
    values = np.zeros(10)
    got = store.cache("a", values)
    values[:] = 1
    assert not got.any()


def test_elements_begin_at_a_multiple_of_64_bytes(store):
    for id, values in {"a": np.ones(3), "b": np.ones((2, 3), PACKED)}.items():
        assert store.cache(id, values).ctypes.data % 64 == 0
    record = store.cache("c", [np.ones(3, np.uint8), np.ones(5, np.uint8)])
    assert [array.ctypes.data % 64 for array in record] == [0, 0]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_files_of_every_version_of_the_format_are_served(store, version, order):
    values = np.array(np.arange(6.0).reshape(2, 3), order=order)
    with store.file("a").open("wb") as file:
        np.lib.format.write_array(file, values, version=version)
    assert_same(store.get("a"), values)
    assert store.get("a").flags.f_contiguous == (order == "F")


@pytest.mark.filterwarnings("ignore:Stored array in format 3:UserWarning")
def test_fields_may_have_names_in_any_alphabet(store):
    values = np.ones(4, np.dtype([("größe", "f4"), ("長さ", "i8")]))
    assert_same(store.cache("a", values), values)
    np.save(store.file("b"), values)
    assert_same(store.get("b"), values)


@pytest.mark.filterwarnings("ignore:Stored array in format:UserWarning")
def test_a_header_may_be_longer_than_any_usual_one(store):
    values = np.zeros(3, np.dtype([(f"a field with a long name {i}", "u1") for i in range(3000)]))
    values["a field with a long name 2999"] = 7
    assert_same(store.cache("a", values), values)
    assert_same(store.cache("b", [values])[0], values)


def test_a_file_that_numpy_made_by_a_memory_map_is_served(store):
    made = np.lib.format.open_memmap(store.file("a"), "w+", "<i4", (4, 5))
    made[...] = 7
    made.flush()
    assert_same(store.cache("a", never), np.full((4, 5), 7, "<i4"))


MASKED = np.ma.masked_array([1.0, 2.0], mask=[True, False])
NO_VALUES = {
    "object array": np.array([1, None], dtype=object),
    "object field": np.zeros(2, [("a", "i4"), ("b", "O")]),
    "masked array": MASKED,
    "array of arrays inside": {"a": np.array([[1], [2, 3]], dtype=object)},
    "masked array inside": [np.ones(2), MASKED],
    "object inside": [np.ones(2), object()],
    "set inside": {"a": np.ones(2), "b": {1, 2}},
    "bytes inside": (np.ones(2), b"abc"),
    "complex number inside": (np.ones(2), 1j),
    "function inside": [np.ones(2), len],
    "tuple as key": {("a", 1): np.ones(2)},
    "bytes as key": {b"x": np.ones(2)},
}


@pytest.mark.parametrize("value", NO_VALUES.values(), ids=NO_VALUES)
@pytest.mark.parametrize("by", ["value", "callback"])
def test_what_cannot_be_stored_is_a_dtype_error_that_leaves_nothing(store, value, by):
    with pytest.raises(DTypeError):
        store.cache("a", value if by == "value" else lambda: value)
    assert list(store.directory.glob("sharearray_*")) == []
    assert store.cache("a", lambda: np.ones(3)).sum() == 3


NO_ARRAYS = [None, 5, 2.5, "text", object(), {1, 2}, range(3), np.ones, iter([np.ones(2)])]


@pytest.mark.parametrize("value", NO_ARRAYS, ids=lambda value: type(value).__name__)
def test_a_callback_without_an_array_is_a_dtype_error_and_the_next_caller_computes(store, value):
    with pytest.raises(DTypeError):
        store.cache("a", lambda: value)
    assert list(store.directory.glob("sharearray_*")) == []
    assert store.cache("a", lambda: np.ones(3)).sum() == 3


def test_a_list_that_holds_itself_is_an_error(store):
    value = [np.ones(2)]
    value.append(value)
    with pytest.raises((MegalithError, RecursionError)):
        store.cache("a", lambda: value)
    assert store.cache("a", lambda: np.ones(3)).sum() == 3

"""Tuples, lists and dicts with arrays inside are one record, and come back in the same structure."""

import json
import math
import zipfile

import numpy as np
import pytest

from megalith.exceptions import KeyMissingError
from megalith.shared import SharedArray

ONE = np.arange(6, dtype=np.int16).reshape(2, 3)
TWO = np.linspace(0, 1, 5)
NESTED = {
    "tuple": (ONE, TWO),
    "list": [ONE, TWO],
    "dict": {"one": ONE, "two": TWO},
    "single": [ONE],
    "deep": {"a": [(ONE, {"b": [TWO, [[ONE]]]}), "x"], "c": ({"d": ({"e": TWO},)},)},
    "very deep": None,
    "integers as keys": {0: ONE, -7: TWO, 10**30: ONE},
    "integers and their texts as keys": {1: ONE, "1": TWO},
    "other scalars as keys": {None: ONE, True: TWO, 1.5: ONE, "None": TWO},
    "the empty text as key": {"": ONE},
    "texts of all kinds as keys": {"a/b": ONE, "../up": TWO, "tree.json": ONE, "ä☃": TWO, "a\x00b": ONE, ".npy": TWO},
    "scalars": {"a": ONE, "none": None, "yes": True, "no": False, "int": 7, "float": 0.1, "text": "word"},
    "large integers": [ONE, 2**63, -(2**64), 2**100],
    "special floats": [ONE, math.nan, math.inf, -math.inf, -0.0, 5e-324],
    "integer and float": [ONE, 1, 1.0, True],
    "texts": [ONE, "", "ä☃😀", "line\nline", "nul\x00", "NaN", "null"],
    "empty containers": {"a": ONE, "b": (), "c": [], "d": {}},
    "arrays of all shapes": [np.array(3.5), np.zeros(0), np.zeros((2, 0, 3)), np.asfortranarray(ONE)],
    "arrays of all types": [TWO.astype(">f4"), np.array(["ab", "c"]), np.ones(2, "M8[s]"), np.ones(3, [("a", "u1")])],
    "many": [np.full(3, i) for i in range(300)],
    "words of our own": {"__array__": ONE, "array": {"$": TWO}, "__tuple__": ["tuple", ONE]},
}
deep = ONE
for _ in range(60):
    deep = [deep]
NESTED["very deep"] = deep


def assert_same(got, want):
    """Assert the same structure with equal values, and shared arrays for arrays."""
    if isinstance(want, np.ndarray):
        assert type(got) is SharedArray
        assert not got.flags.writeable
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
        return
    assert type(got) is type(want)
    if isinstance(want, dict):
        assert list(got) == list(want)
        assert [type(key) for key in got] == [type(key) for key in want]
        for key, value in want.items():
            assert_same(got[key], value)
    elif isinstance(want, tuple | list):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            assert_same(one, other)
    elif isinstance(want, float):
        assert math.copysign(1, got) == math.copysign(1, want)
        assert got == want or (math.isnan(got) and math.isnan(want))
    else:
        assert got == want


def leaves(value):
    """The arrays in a structure."""
    if isinstance(value, np.ndarray):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [leaf for part in parts for leaf in leaves(part)]


def never():
    raise AssertionError("computed although it is there")


@pytest.mark.parametrize("value", NESTED.values(), ids=NESTED)
def test_a_nesting_comes_back_with_its_structure(store, value):
    assert_same(store.cache("a", lambda: value), value)
    assert_same(store.cache("a", never), value)
    assert_same(store.get("a"), value)


@pytest.mark.parametrize("value", NESTED.values(), ids=NESTED)
def test_a_nesting_is_one_uncompressed_npz_that_numpy_reads(store, value):
    store.cache("a", lambda: value)
    assert [path.name for path in store.directory.glob("sharearray_*")] == ["sharearray_a.npz"]
    path = store.file("a", ".npz")
    with np.load(path, allow_pickle=False) as record:
        stored = [record[name] for name in record.files if name != "tree.json"]
    wanted = leaves(value)
    for array in wanted:
        assert any(one.dtype == array.dtype and np.array_equal(one, array) for one in stored)
    assert len(stored) <= len(wanted)
    with zipfile.ZipFile(path) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.testzip() is None
        json.loads(archive.read("tree.json"))


def test_a_nesting_may_be_given_without_a_callback(store):
    value = {"a": ONE, "b": [TWO, None]}
    assert_same(store.cache("a", value), value)


def test_the_same_array_twice_comes_back_twice(store):
    got = store.cache("a", lambda: {"x": TWO, "y": [TWO, TWO]})
    assert_same(got, {"x": TWO, "y": [TWO, TWO]})


def test_a_hit_of_a_nesting_gives_the_same_memory(store):
    first, second = store.cache("a", lambda: (ONE, {"x": TWO})), store.cache("a", never)
    assert first[0].ctypes.data == second[0].ctypes.data
    assert first[1]["x"].ctypes.data == second[1]["x"].ctypes.data


def test_changing_a_container_changes_nobody_elses(store):
    first = store.cache("a", lambda: {"x": ONE, "rest": [TWO]})
    first["rest"].append(5)
    del first["x"]
    assert_same(store.cache("a", never), {"x": ONE, "rest": [TWO]})


def test_an_array_of_a_nesting_outlives_all_else_of_it(store):
    array = store.cache("a", lambda: (ONE, TWO))[1]
    store.free("a")
    np.testing.assert_array_equal(array, TWO)


def test_free_removes_a_nesting(store):
    store.cache("a", lambda: (ONE, TWO))
    store.free("a")
    with pytest.raises(KeyMissingError):
        store.get("a")
    assert_same(store.cache("a", lambda: [TWO]), [TWO])


def test_a_name_may_be_an_array_after_it_was_a_nesting(store):
    store.cache("a", lambda: (ONE, TWO))
    store.free("a")
    assert_same(store.cache("a", lambda: ONE), ONE)
    assert [path.name for path in store.directory.glob("sharearray_*")] == ["sharearray_a.npy"]
    store.free("a")
    assert_same(store.cache("a", lambda: [ONE]), [ONE])


def test_nestings_follow_mode_and_umask_like_arrays(store):
    store.cache("a", lambda: (ONE,))
    store.cache("b", lambda: (ONE,), mode=0o644)
    assert store.file("a", ".npz").stat().st_mode & 0o777 == 0o600
    assert store.file("b", ".npz").stat().st_mode & 0o777 == 0o644

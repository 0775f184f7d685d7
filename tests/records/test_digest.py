"""`digest`: values of equal type and content have one digest, all others have their own."""

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import gc
import io
import itertools
import mmap
import os
import pathlib
import re
import struct
import subprocess
import sys
import threading
import uuid
import weakref

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from megalith import shared
from megalith.arrays import as_source
from megalith.exceptions import ArgumentError, DTypeError
from megalith.records import digest, known_files, register_digest
from megalith.testing.faults import run_python


class Point(collections.namedtuple("Point", "x y")):
    __slots__ = ()


Pair = collections.namedtuple("Pair", "x y")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Flags(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class Settings:
    gain: float = 1.0
    mask: object = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    gain: float = 1.0


class Plain:
    def __init__(self, **state):
        self.__dict__.update(state)


class Slots:
    __slots__ = ("a", "b")


class Stateful:
    def __init__(self, kept, dropped):
        self.kept = kept
        self.dropped = dropped

    def __getstate__(self):
        return {"kept": self.kept}


class MyInt(int):
    pass


class MyList(list):
    pass


class MyDict(dict):
    pass


class MyArray(np.ndarray):
    pass


def with_slots(a, b):
    value = Slots()
    value.a, value.b = a, b
    return value


A = np.arange(6.0).reshape(2, 3)

# No two of these are the same.
ZOO = {
    "None": None,
    "True": True,
    "1": 1,
    "1.0": 1.0,
    "1+0j": 1 + 0j,
    "'1'": "1",
    "b'1'": b"1",
    "bytearray": bytearray(b"1"),
    "memoryview": memoryview(b"1"),
    "False": False,
    "0": 0,
    "0.0": 0.0,
    "-0.0": -0.0,
    "nan": float("nan"),
    "inf": float("inf"),
    "2**63": 2**63,
    "-2**63": -(2**63),
    "-2**63-1": -(2**63) - 1,
    "2**64": 2**64,
    "''": "",
    "b''": b"",
    "'None'": "None",
    "surrogates": "\ud800\udc00",
    "the same joined": "\U00010000",
    "()": (),
    "[]": [],
    "{}": {},
    "set()": set(),
    "frozenset()": frozenset(),
    "(1,)": (1,),
    "[1]": [1],
    "((1,),)": ((1,),),
    "(1, 2)": (1, 2),
    "((1,), 2)": ((1,), 2),
    "(1, (2,))": (1, (2,)),
    "('ab', 'c')": ("ab", "c"),
    "('a', 'bc')": ("a", "bc"),
    "[[], []]": [[], []],
    "[[[]]]": [[[]]],
    "{1}": {1},
    "frozenset({1})": frozenset({1}),
    "{1: 2}": {1: 2},
    "{2: 1}": {2: 1},
    "{True: 2}": {True: 2},
    "OrderedDict": collections.OrderedDict({1: 2}),
    "defaultdict": collections.defaultdict(int, {1: 2}),
    "Counter": collections.Counter({1: 2}),
    "MyDict": MyDict({1: 2}),
    "MyList": MyList([1]),
    "MyInt": MyInt(1),
    "deque": collections.deque([1]),
    "short deque": collections.deque([1], maxlen=3),
    "Point": Point(1, 2),
    "Pair": Pair(1, 2),
    "array.array": array.array("i", [1]),
    "...": ...,
    "NotImplemented": NotImplemented,
    "slice": slice(1, 2),
    "slice of step": slice(1, 2, 1),
    "range": range(1, 2),
    "int64(1)": np.int64(1),
    "int32(1)": np.int32(1),
    "float64(1)": np.float64(1),
    "bool_": np.True_,
    "float64(nan)": np.float64("nan"),
    "float32(nan)": np.float32("nan"),
    "np.str_": np.str_("1"),
    "np.bytes_": np.bytes_(b"1"),
    "longdouble": np.longdouble(1),
    "datetime64[s]": np.datetime64(1, "s"),
    "datetime64[ms]": np.datetime64(1, "ms"),
    "timedelta64[s]": np.timedelta64(1, "s"),
    "void": np.void(b"1"),
    "array of no axes": np.array(1),
    "array of one": np.array([1]),
    "array (1, 1)": np.array([[1]]),
    "array of no elements": np.zeros((0, 3)),
    "array of no elements either": np.zeros((3, 0)),
    "float": A,
    "transposed": A.T,
    "reshaped": A.reshape(3, 2),
    "float32": A.astype("f4"),
    "big-endian": A.astype(">f8"),
    "one bit": np.nextafter(A, 9),
    "complex": A.astype(complex),
    "long double": A.astype(np.longdouble),
    "S1": np.array([b"1"]),
    "S2": np.array([b"1"], "S2"),
    "U1": np.array(["1"]),
    "V1": np.array([b"1"], "V1"),
    "StringDType": np.array(["1"], np.dtypes.StringDType()),
    "StringDType, others": np.array(["2"], np.dtypes.StringDType()),
    "StringDType with nan": np.array(["1"], np.dtypes.StringDType(na_object=np.nan)),
    "objects": np.array(["1"], object),
    "objects 1": np.array([1], object),
    "M8[s]": np.zeros(1, "M8[s]"),
    "M8[D]": np.zeros(1, "M8[D]"),
    "m8[s]": np.zeros(1, "m8[s]"),
    "structured": np.zeros(1, [("a", "i4"), ("b", "i4")]),
    "other names": np.zeros(1, [("a", "i4"), ("c", "i4")]),
    "other titles": np.zeros(1, [(("title", "a"), "i4"), ("b", "i4")]),
    "other order": np.zeros(1, [("b", "i4"), ("a", "i4")]),
    "subarray": np.zeros(1, [("a", "i4", (2,))]),
    "recarray": np.zeros(1, [("a", "i4"), ("b", "i4")]).view(np.recarray),
    "matrix": np.asmatrix([[1]]),
    "MyArray": np.array([1]).view(MyArray),
    "masked, nothing masked": np.ma.array([1, 2]),
    "masked": np.ma.array([1, 2], mask=[0, 1]),
    "masked elsewhere": np.ma.array([1, 2], mask=[1, 0]),
    "masked with zeros": np.ma.array([1, 0]),
    "fill value": np.ma.array([1, 2], mask=[0, 1], fill_value=3),
    "np.ma.masked": np.ma.masked,
    "dtype": np.dtype("f8"),
    "dtype f4": np.dtype("f4"),
    "aligned": np.dtype("i1,f8", align=True),
    "packed": np.dtype("i1,f8"),
    "type": np.float64,
    "int": int,
    "Colour.RED": Colour.RED,
    "Colour.BLUE": Colour.BLUE,
    "Colour": Colour,
    "Flags": Flags.A,
    "Flags both": Flags.A | Flags.B,
    "Settings": Settings(),
    "Settings 2": Settings(gain=2.0),
    "Settings int": Settings(gain=1),
    "Frozen": Frozen(),
    "Plain": Plain(),
    "Plain a": Plain(a=1),
    "Plain b": Plain(b=1),
    "Slots": with_slots(1, 2),
    "Slots turned": with_slots(2, 1),
    "Stateful": Stateful(1, 2),
    "Path": pathlib.PurePosixPath("1"),
    "Windows path": pathlib.PureWindowsPath("1"),
    "date": datetime.date(2020, 1, 1),
    "datetime": datetime.datetime(2020, 1, 1),
    "fold": datetime.datetime(2020, 1, 1, fold=1),
    "aware": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    "time": datetime.time(1),
    "timedelta": datetime.timedelta(1),
    "Decimal": decimal.Decimal("1.0"),
    "Decimal 1.00": decimal.Decimal("1.00"),
    "Fraction": fractions.Fraction(1, 3),
    "UUID": uuid.UUID(int=1),
    "Pattern": re.compile("a"),
    "Pattern of flags": re.compile("a", re.I),
    "Generator": np.random.default_rng(1),
    "Generator 2": np.random.default_rng(2),
    "Philox": np.random.Generator(np.random.Philox(1)),
    "RandomState": np.random.RandomState(1),
    "module": np,
    "ufunc": np.add,
    "ufunc 2": np.subtract,
    "builtin": len,
    "builtin 2": print,
    "method of a list": [1].index,
    "numpy function": np.mean,
    "python function": os.path.join,
    "lambda": lambda x: x,
    "lambda + 1": lambda x: x + 1,
    "partial": functools.partial(len, [1]),
    "partial 2": functools.partial(len, [2]),
    "method": Stateful(1, 2).__getstate__,
    "DataFrame": pd.DataFrame({"a": [1, 2]}),
    "DataFrame b": pd.DataFrame({"b": [1, 2]}),
    "DataFrame float": pd.DataFrame({"a": [1.0, 2]}),
    "DataFrame index": pd.DataFrame({"a": [1, 2]}, index=[1, 2]),
    "DataFrame index name": pd.DataFrame({"a": [1, 2]}, index=pd.Index([0, 1], name="i")),
    "DataFrame Int64": pd.DataFrame({"a": pd.array([1, 2], "Int64")}),
    "DataFrame missing": pd.DataFrame({"a": pd.array([1, None], "Int64")}),
    "DataFrame two": pd.DataFrame({"a": [1, 2], "b": [1, 2]}),
    "DataFrame two turned": pd.DataFrame({"b": [1, 2], "a": [1, 2]}),
    "Series": pd.Series([1, 2]),
    "Series name": pd.Series([1, 2], name="a"),
    "Index": pd.Index([1, 2]),
    "MultiIndex": pd.MultiIndex.from_tuples([(1, 2)]),
    "dates": pd.date_range("2020", periods=2),
    "dates of a zone": pd.date_range("2020", periods=2, tz="Europe/Berlin"),
    "periods": pd.period_range("2020", periods=2, freq="D"),
    "strings": pd.Series(["a", "b"]),
    "strings as objects": pd.Series(["a", "b"], dtype=object),
    "strings missing": pd.Series(["a", None]),
    "categories": pd.Series(["a", "b"], dtype="category"),
    "ordered": pd.Categorical(["a", "b"], ordered=True),
    "Categorical": pd.Categorical(["a", "b"]),
    "intervals": pd.interval_range(0, 2),
    "NA": pd.NA,
    "NaT": pd.NaT,
    "Timestamp": pd.Timestamp("2020"),
    "DataArray": xr.DataArray([1, 2], dims="x"),
    "DataArray y": xr.DataArray([1, 2], dims="y"),
    "DataArray coords": xr.DataArray([1, 2], dims="x", coords={"x": [0, 1]}),
    "DataArray attrs": xr.DataArray([1, 2], dims="x", attrs={"unit": "mV"}),
    "DataArray name": xr.DataArray([1, 2], dims="x", name="a"),
    "Dataset": xr.Dataset({"a": ("x", [1, 2])}),
    "Dataset coords": xr.Dataset(coords={"a": ("x", [1, 2])}),
    "csr": scipy.sparse.csr_array([[0, 1]]),
    "csc": scipy.sparse.csc_array([[0, 1]]),
    "coo": scipy.sparse.coo_array([[0, 1]]),
    "csr shape": scipy.sparse.csr_array([[0, 1, 0]]),
    "csr other": scipy.sparse.csr_array([[1, 0]]),
    "csr matrix": scipy.sparse.csr_matrix([[0, 1]]),
    "an exception": ValueError("a"),
}


def test_values_of_other_type_or_content_have_other_digests():
    found = collections.defaultdict(list)
    for name, value in ZOO.items():
        found[digest(value)].append(name)
    assert [names for names in found.values() if len(names) > 1] == []


@pytest.mark.parametrize("name", ZOO)
def test_the_digest_of_a_value_stays_the_same_inside_of_containers_and_between_calls(name):
    value = ZOO[name]
    first = digest(value)
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert digest(value) == first
    assert digest([value, value]) == digest([value, value]) != first


TWINS = {
    "nan of any bits": (float("nan"), struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000001))[0]),
    "numpy nan": (np.float64("nan"), -np.float64("nan")),
    "order of a dict": ({"a": 1, 2: "b"}, {2: "b", "a": 1}),
    "order of an OrderedDict": (
        collections.OrderedDict([("a", 1), ("b", 2)]),
        collections.OrderedDict([("b", 2), ("a", 1)]),
    ),
    "order of a set": ({"x", 1, 2.5, None, (1, 2)}, {(1, 2), None, 2.5, 1, "x"}),
    "memory order": (A, np.asfortranarray(A)),
    "views": (A, np.repeat(A, 2, axis=1)[:, ::2]),
    "negative strides": (A, A[::-1, ::-1].copy()[::-1, ::-1]),
    "big arrays in memory order": (np.arange(6e4).reshape(200, 300), np.arange(6e4).reshape(200, 300).copy("F")),
    "broadcast": (np.zeros((3, 4)), np.broadcast_to(0.0, (3, 4))),
    "names of one type": (np.zeros(3, np.longlong), np.zeros(3, np.int64)),
    "gaps in a type": (np.ones(3, "i1,f8"), np.ones(3, np.dtype("i1,f8", align=True))),
    "offsets": (
        np.ones(3, [("a", "i4"), ("b", "f8")]),
        np.ones(3, {"names": ["a", "b"], "formats": ["i4", "f8"], "offsets": [8, 0]}),
    ),
    "under the mask": (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 9], mask=[0, 1])),
    "no mask": (np.ma.array([1, 2]), np.ma.array([1, 2], mask=[0, 0])),
    "masked fields": (
        np.ma.array([(1, 2.0)], mask=[(0, 1)], dtype="i4,f8"),
        np.ma.array([(1, 7.0)], mask=[(0, 1)], dtype="i4,f8"),
    ),
    "sharing": ([[1], [1]], [[1]] * 2),
    "fields of a dataclass": (Settings(2.0, A), Settings(gain=2.0, mask=A.copy())),
    "attributes in another order": (Plain(a=1, b=2), Plain(b=2, a=1)),
    "what __getstate__ leaves out": (Stateful(1, 2), Stateful(1, 3)),
    "two compiled patterns": (re.compile("a+"), re.compile("a+")),
    "columns of one block": (
        pd.DataFrame({"a": [1, 2], "b": [3, 4]}),
        pd.DataFrame(np.array([[1, 3], [2, 4]]), columns=["a", "b"]),
    ),
    "ranges as an index": (pd.Series([1, 2]), pd.Series([1, 2], index=np.array([0, 1]))),
    "unused levels": (
        pd.MultiIndex.from_tuples([(1, 2), (3, 4)])[:1],
        pd.MultiIndex.from_tuples([(1, 2)]),
    ),
    "a slice of a frame": (pd.DataFrame({"a": [1.0, 2]}), pd.DataFrame({"a": [1.0, 5, 2]})[::2].set_axis([0, 1])),
    "variables in another order": (
        xr.Dataset({"a": ("x", [1]), "b": ("x", [2])}),
        xr.Dataset({"b": ("x", [2]), "a": ("x", [1])}),
    ),
    "unsorted entries": (
        scipy.sparse.csr_array((np.array([1.0, 2.0]), np.array([2, 0]), np.array([0, 2])), shape=(1, 3)),
        scipy.sparse.csr_array([[2.0, 0, 1.0]]),
    ),
    "doubled entries": (
        scipy.sparse.coo_array((np.array([1.0, 1.0]), (np.array([0, 0]), np.array([1, 1]))), shape=(1, 3)),
        scipy.sparse.coo_array([[0, 2.0, 0]]),
    ),
    "lambdas of one code": ((lambda x: x + 1), (lambda x: x + 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", TWINS)
def test_what_does_not_count_leaves_the_digest_as_it_is(name):
    first, second = TWINS[name]
    assert digest(first) == digest(second)


@pytest.mark.parametrize("storage", ["python", "pyarrow"])
def test_strings_of_pandas_count_whichever_way_they_are_stored(storage):
    words = ["a", None, "ccc"]
    assert digest(pd.Series(words, dtype=pd.StringDtype(storage))) == digest(
        pd.Series(words, dtype=pd.StringDtype("python"))
    )


INNER = [("a", "i2"), ("b", ">f8", (2,)), ("c", [("d", "U3"), ("e", "M8[s]")])]


@pytest.mark.parametrize(
    "dtype",
    ["?", "i1", ">u2", "f2", "f4", "g", "G", "c8", "S3", "U5", "V7", "M8[us]", "m8[D]", "O", "T", INNER],
    ids=str,
)
def test_large_arrays_of_any_type_have_one_digest_in_any_layout(dtype):
    numbers = np.random.default_rng(0).integers(0, 100, (40, 60))
    numbers[0, 0], numbers[39, 59] = 0, 1
    kind = np.dtypes.StringDType() if dtype == "T" else np.dtype(dtype)
    if kind.names is not None:
        array = np.zeros((40, 60), kind)
        array["a"], array["b"], array["c"]["d"] = numbers, numbers[..., None] / 3, numbers.astype("U3")
    elif kind.kind == "V":
        array = numbers.astype("S7").view("V7")
    else:
        array = numbers.astype(kind)
    spaced = np.zeros((80, 120), kind)[::2, ::-2]
    spaced[...] = array
    expected = digest(array)
    assert digest(array.copy("F")) == digest(spaced) == digest(array.T.copy().T) == expected
    other = array.copy()
    other[39, 59] = array[0, 0]
    assert digest(other) != expected


class Unit(str, enum.Enum):  # noqa: UP042 - such ones are about
    MV = "mV"


class Level(enum.IntEnum):
    LOW = 1


def test_members_of_enums_that_are_numbers_or_words_count_by_name_and_value():
    assert len({digest(value) for value in (Unit.MV, "mV", Level.LOW, 1)}) == 4
    assert digest(Level.LOW) == digest(Level(1))


def test_what_was_digested_is_not_kept():
    held = np.zeros(10)

    def function(x):
        return held + x

    class Local:
        pass

    value = Local()
    value.function = function
    alive = weakref.ref(function), weakref.ref(value)
    digest([function, value])
    del function, value
    gc.collect()
    assert [reference() for reference in alive] == [None, None]


def test_padding_of_long_doubles_does_not_count():
    first = np.ones(300, np.longdouble)
    second = first.copy()
    second.view(np.uint8).reshape(300, -1)[:, 10:] = 7
    assert np.array_equal(first, second)
    assert digest(first) == digest(second)
    assert digest(first.astype(np.clongdouble)) == digest(second.astype(np.clongdouble))


def test_gaps_of_structured_types_do_not_count():
    first = np.zeros(100, np.dtype("i1,f8", align=True))
    second = first.copy()
    second.view(np.uint8).reshape(100, -1)[:, 1:8] = 7
    assert digest(first) == digest(second)
    assert digest(first[0]) == digest(second[0])


def test_large_masked_arrays_are_read_in_blocks_that_memory_order_does_not_change():
    data = np.arange(3_000_000, dtype="f4").reshape(3, 1000, 1000)
    mask = data % 7 == 0
    first = np.ma.array(data, mask=mask)
    second = np.ma.array(np.asfortranarray(np.where(mask, -1, data).astype("f4")), mask=np.asfortranarray(mask))
    second.fill_value = first.fill_value
    assert digest(first) == digest(second)
    other = data.copy()
    other[2, 999, 999] += 1
    assert digest(np.ma.array(other, mask=mask)) != digest(first)


def test_frames_of_many_columns_are_read_at_once():
    values = np.arange(400.0).reshape(4, 100)
    first = pd.DataFrame(values)
    second = pd.DataFrame({i: values[:, i] for i in range(100)})
    assert digest(first) == digest(second)
    assert digest(first) != digest(pd.DataFrame(values.astype("f4")))


def test_attributes_of_frames_and_of_array_classes_count():
    frame = pd.DataFrame({"a": [1]})
    other = frame.copy()
    other.attrs["unit"] = "mV"
    assert digest(frame) != digest(other)
    array = np.arange(3).view(MyArray)
    named = array.copy()
    named.unit = "mV"
    assert digest(array) != digest(named)


def test_cached_properties_do_not_count():
    class Model:
        @functools.cached_property
        def weights(self):
            return [1, 2]

    used, unused = Model(), Model()
    assert used.weights
    assert digest(used) == digest(unused)


class Prepared(Settings):
    def __init__(self, gain, extra):
        super().__init__(gain)
        self.extra = extra


def test_all_attributes_of_dataclasses_count():
    first, second = Settings(1.0), Settings(1.0)
    second.table = [1]
    assert digest(first) != digest(second)
    assert digest(Prepared(1.0, 2)) != digest(Prepared(1.0, 3))
    assert digest(Prepared(1.0, 2)) == digest(Prepared(1.0, 2))


@pytest.mark.parametrize(
    "source",
    [
        "class C(enum.Enum):\n    A = 1\n    B = A\n    def run(self): return {}\nvalue = C.A",
        "class C(enum.Flag):\n    A = 1\n    B = 2\n    def run(self): return {}\nvalue = C.A | C.B",
        "class C(np.ndarray):\n    def run(self): return {}\nvalue = np.zeros(3).view(C)",
        "class C(list):\n    def run(self): return {}\nvalue = C()",
        "@dataclasses.dataclass\nclass C:\n    def run(self): return {}\nvalue = C()",
    ],
)
def test_the_methods_of_a_value_of_a_users_class_count(source):
    def value(result):
        space = {"enum": enum, "np": np, "dataclasses": dataclasses, "__name__": __name__}
        exec(source.format(result), space)
        return space["value"]

    assert digest(value(1)) == digest(value(1))
    assert digest(value(1)) != digest(value(2))


def test_types_of_elements_of_other_packages_count():
    same_size = [np.zeros(3, ml_dtypes.float8_e4m3fn), np.zeros(3, ml_dtypes.float8_e5m2), np.zeros(3, "V1")]
    assert len({digest(array) for array in same_size}) == 3


def test_attributes_that_a_table_of_a_users_class_names_count():
    class Recording(pd.DataFrame):
        _metadata = ("unit",)

    tables = [Recording({"a": [1]}), Recording({"a": [1]})]
    tables[0].unit, tables[1].unit = "mV", "uV"
    assert digest(tables[0]) != digest(tables[1])


def test_an_array_in_a_store_is_refused():
    with pytest.raises(DTypeError, match="read it first"):
        digest(zarr.array(np.ones(3)))


def test_what_a_defaultdict_makes_counts():
    by_type = {kind: collections.defaultdict(kind, a=1) for kind in (int, list, str, None)}
    assert len({digest(value) for value in by_type.values()}) == 4
    assert digest(by_type[int]) == digest(collections.defaultdict(int, a=1))
    assert digest(collections.defaultdict(lambda: 1)) != digest(collections.defaultdict(lambda: 2))


def test_random_states_count_by_where_they_are():
    first, second = np.random.default_rng(1), np.random.default_rng(1)
    assert digest(first) == digest(second)
    second.random()
    assert digest(first) != digest(second)


def test_containers_that_hold_themselves_have_a_digest():
    def loop(n):
        value = [n]
        value.append({"back": value, "pair": (value, n)})
        return value

    assert digest(loop(1)) == digest(loop(1)) != digest(loop(2))
    node = Plain(name="a")
    node.me = node
    again = Plain(name="a")
    again.me = again
    assert digest(node) == digest(again)


def test_where_a_loop_leads_counts():
    near, far = [[]], [[]]
    near[0].append(near[0])
    far[0].append(far)
    assert digest(near) != digest(far)


def test_what_is_met_many_times_is_encoded_once():
    value = [0]
    for _ in range(200):
        value = [value, value]
    assert digest(value) == digest(value)
    pair = ("x",)
    for _ in range(200):
        pair = (pair, pair)
    assert digest(pair) == digest(pair)


@pytest.mark.parametrize("make", [lambda v: [v], lambda v: (v,), lambda v: {"a": v}, lambda v: Plain(a=v)])
def test_what_is_nested_too_deep_is_an_error_and_no_crash(make):
    value = 1
    for _ in range(100_000):
        value = make(value)
    with pytest.raises(DTypeError, match=r"^value: containers lie too deep"):
        digest(value)
    while value != 1:  # Python itself would recurse to take them down
        value = value.a if type(value) is Plain else next(iter(value.values() if type(value) is dict else value))


def test_a_hundred_levels_are_fine():
    value = 1
    for _ in range(100):
        value = {"a": [value]}
    assert len(digest(value)) == 32


def a_generator():
    yield 1


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (a_generator, "a generator"),
        (lambda: open(os.devnull), "an open file"),  # noqa: PTH123, SIM115
        (threading.Lock, "a lock"),
        (lambda: iter([]), "list_iterator"),
        (lambda: map(str, []), "map"),
        (object, "object"),
        (lambda: mmap.mmap(-1, 10), "mmap"),
        (itertools.count, "count"),
        (lambda: {}.keys(), "dict_keys"),
    ],
)
def test_what_cannot_be_keyed_is_refused_with_its_place(make, what):
    held = make()
    model = Plain(net=held)
    with pytest.raises(DTypeError) as caught:
        digest([0, {"model": model}], name="args")
    assert caught.value.name == "args[1]['model'].net"
    assert str(caught.value).startswith("args[1]['model'].net: ")
    assert what in str(caught.value)
    assert all(word in str(caught.value) for word in ("ignore=", "key=", "register_digest"))
    if hasattr(held, "close"):
        held.close()


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": {object()}}, "x['a'](item <object"),
        (np.array([[1, object()]], object), "x[0, 1]"),
        (pd.DataFrame({"col": [1, object()]}), "x['col'][1]"),
        (Settings(mask=[object()]), "x.mask[0]"),
        (with_slots(1, object()), "x.b"),
        (functools.partial(len, object()), "x.args[0]"),
        (xr.DataArray([1], dims="a", attrs={"o": object()}), "x.attrs['o']"),
        ({Frozen(object()): 1}, "x(key "),
    ],
)
def test_the_place_of_what_is_refused_is_named_as_python_would_write_it(value, where):
    with pytest.raises(DTypeError) as caught:
        digest(value, name="x")
    assert str(caught.value).startswith(where)


def test_lazy_arrays_are_not_computed():
    lazy = xr.DataArray(np.zeros((4, 4)), dims=("a", "b")).chunk({"a": 2})
    with pytest.raises(DTypeError, match="not computed"):
        digest(lazy)


@pytest.mark.parametrize("processes", [0, -1, 1.5, "many"])
def test_a_wrong_number_of_threads_is_an_error(processes):
    with pytest.raises(ArgumentError, match="processes"):
        digest(1, processes=processes)


@pytest.mark.parametrize("processes", [1, 2, "serial", None])
def test_the_digest_does_not_depend_on_threads(processes):
    big = np.arange(3_000_000)
    assert digest(big, processes=processes) == digest(big)


# Registration.


class Camera:
    def __init__(self, serial):
        self.serial = serial
        self.stream = iter(())


class BetterCamera(Camera):
    pass


class Wave(np.ndarray):
    pass


def test_registered_types_and_those_derived_from_them_count_by_what_was_registered():
    with pytest.raises(DTypeError, match=r"value\.stream"):
        digest(Camera(1))
    register_digest(Camera, lambda camera: ("serial", camera.serial))
    assert digest(Camera(1)) == digest(Camera(1)) != digest(Camera(2))
    assert digest(BetterCamera(1)) == digest(BetterCamera(1)) != digest(Camera(1))
    register_digest(Camera, lambda camera: b"all alike")
    assert digest(Camera(1)) == digest(Camera(2))


def test_a_registration_wins_over_what_is_known_of_a_type():
    values = np.arange(3).view(Wave)
    register_digest(Wave, lambda wave: wave.shape)
    assert digest(values) == digest(values + 1)
    assert digest(np.arange(3)) != digest(np.arange(3) + 1)


def test_a_registered_value_that_cannot_be_keyed_is_named():
    class Broken:
        pass

    register_digest(Broken, lambda broken: [1, object()])
    with pytest.raises(DTypeError, match=r"value\[0\]\[1\]"):
        digest([Broken()])


@pytest.mark.parametrize("args", [(1, len), (Camera, "serial")])
def test_only_classes_and_functions_can_be_registered(args):
    with pytest.raises(DTypeError):
        register_digest(*args)


# Properties.

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(codec=None))
    | st.binary()
)
hashables = st.recursive(
    scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5
)
values = st.recursive(
    hashables,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hashables, inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=12,
)


def shuffled(value, draw):
    """The same value with dicts and sets in another order."""
    if type(value) is dict:
        pairs = draw(st.permutations(list(value.items())))
        return {shuffled(k, draw): shuffled(v, draw) for k, v in pairs}
    if type(value) in (list, tuple):
        return type(value)(shuffled(item, draw) for item in value)
    if type(value) is frozenset:
        return frozenset(draw(st.permutations(list(value))))
    return value


@given(st.data(), values)
def test_equal_values_in_another_order_have_one_digest(data, value):
    assert digest(shuffled(value, data.draw)) == digest(value)


def typed(value):
    """A form of a value that is equal only for values of equal types and content."""
    if type(value) in (list, tuple):
        return (type(value).__name__, [typed(item) for item in value])
    if type(value) is dict:
        return ("dict", sorted((repr(typed(k)), repr(typed(v))) for k, v in value.items()))
    if type(value) is frozenset:
        return ("frozenset", sorted(repr(typed(item)) for item in value))
    return (type(value).__name__, repr(value).replace("-nan", "nan"))


@given(values, values)
def test_two_values_have_one_digest_only_if_types_and_content_are_equal(first, second):
    assert (digest(first) == digest(second)) == (typed(first) == typed(second))


@given(
    st.data(),
    hnp.arrays(hnp.scalar_dtypes() | hnp.array_dtypes(), hnp.array_shapes(min_dims=0, min_side=0, max_side=40)),
)
def test_arrays_of_equal_content_have_one_digest_in_any_layout(data, array):
    expected = digest(array)
    spaced = np.zeros([2 * n for n in array.shape], array.dtype)[tuple(slice(None, None, 2) for _ in array.shape)]
    if array.ndim:
        spaced[...] = array
    else:
        spaced = array.copy()
    frozen = array.copy()
    frozen.flags.writeable = False
    for form in (array.copy("F"), spaced, frozen, array.T.copy().T):
        assert digest(form) == expected


@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(max_side=40)), st.data())
def test_one_changed_element_changes_the_digest(array, data):
    other = array.copy()
    at = tuple(data.draw(st.integers(0, n - 1)) for n in array.shape)
    raw = other.reshape(-1).view(np.uint8).reshape(array.size, -1) if array.itemsize else None
    if raw is None or array.dtype.char in "gG":
        return
    raw[np.ravel_multi_index(at, array.shape), 0] ^= 1
    assert digest(other) != digest(array)


# Other processes.

SAME = """
import collections, functools, numpy as np
from megalith.records import digest

class Thing:
    def __init__(self): self.a = {'x', 'y', 'z', 1, 2.0, None}; self.b = frozenset('abcdef')
    def work(self, x): return x in {'p', 'q', 'r', 's'}

def helper(x, table=frozenset('ghijk')): return x in {'a', 'b', 'c', 'd', 'e'}

values = [
    {'a', 'b', 'c', 1, 2.5, None, ('x', 'y')}, {'b': {'c', 'd'}, 'a': frozenset('xyz'), 1: 2},
    Thing(), Thing, helper, functools.partial(helper, table={'u', 'v', 'w'}), lambda x: helper(x) in {'1', '2', '3'},
    np.arange(10), np.random.default_rng(3), np.mean, np.float32, collections.Counter('hello world'),
]
print(digest(values))
for value in values: print(digest(value))
"""


def test_digests_are_the_same_in_other_processes_whatever_the_seed_of_hashes(tmp_path):
    said = {run_python(SAME, tmp_path, env={"PYTHONHASHSEED": seed}).check() for seed in ("0", "1", "12345")}
    assert len(said) == 1


def test_digests_do_not_change_between_releases():
    assert digest((3, "a", 1.5, None, np.arange(3, dtype="<i4"))) == "b3f040ec2eb8b08574e771a31da0aa4c"
    assert digest(np.arange(1000, dtype="<f8")) == "78368f110d62d4c9941e5616fad1f6ae"


def test_pandas_and_xarray_are_not_imported(tmp_path):
    code = """
    import sys
    import numpy as np
    import megalith
    from megalith.records import digest
    digest([np.zeros(3), {1}, lambda: 1, open])
    print([name for name in ('pandas', 'xarray', 'joblib', 'scipy', 'h5py', 'dask') if name in sys.modules])
    """
    assert run_python(code, tmp_path).check().strip() == "[]"


# Files.


@pytest.fixture
def hashed(monkeypatch):
    """Sizes of the arrays that were hashed."""
    from megalith.records import encoding_arrays

    sizes = []
    real = encoding_arrays.content_of

    def counted(array, processes=None):
        sizes.append(array.nbytes)
        return real(array, processes)

    monkeypatch.setattr(encoding_arrays, "content_of", counted)
    return sizes


BIG = np.arange(100_000.0)


@pytest.fixture
def npy(tmp_path):
    path = tmp_path / "big.npy"
    np.save(path, BIG)
    old = os.stat(path).st_mtime - 100  # noqa: PTH116
    os.utime(path, (old, old))
    return path


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_mapping_of_somebody_else_is_hashed_each_time(npy, hashed, mode):
    mapped = np.load(npy, mmap_mode=mode)
    assert digest(mapped) == digest(mapped) == digest(BIG)
    assert len(hashed) == 3


def test_what_is_written_through_a_mapping_changes_the_digest_at_once(npy):
    mapped = np.load(npy, mmap_mode="r+")
    before, time = digest(mapped), npy.stat().st_mtime_ns
    mapped[7] = -1
    assert digest(mapped) != before
    os.utime(npy, ns=(time, time))
    assert digest(np.load(npy, mmap_mode="r")) == digest(mapped) != before


def test_a_file_that_megalith_mapped_is_read_once(npy, hashed):
    mapped = np.load(npy, mmap_mode="r")
    known_files.trust(mapped, npy)
    assert digest(mapped) == digest(BIG)
    hashed.clear()
    assert digest(mapped) == digest(mapped) == digest(mapped[:])
    assert hashed == []
    assert digest(mapped[1:]) == digest(BIG[1:])
    assert digest(mapped.view("i8")) == digest(BIG.view("i8"))
    assert digest(mapped.reshape(100, 1000)) == digest(BIG.reshape(100, 1000))


def test_a_new_file_of_the_same_name_is_read(npy, hashed):
    mapped = np.load(npy, mmap_mode="r")
    known_files.trust(mapped, npy)
    digest(mapped)
    npy.rename(npy.with_suffix(".old"))
    np.save(npy, BIG + 1)
    again = np.load(npy, mmap_mode="r")
    known_files.trust(again, npy)
    assert digest(again) == digest(BIG + 1)
    assert digest(mapped) == digest(BIG)


def test_a_mapping_of_a_file_that_is_gone_is_hashed(npy, hashed):
    mapped = np.load(npy, mmap_mode="r")
    known_files.trust(mapped, npy)
    digest(mapped)
    npy.unlink()
    hashed.clear()
    digest(mapped)
    assert len(hashed) == 1


def test_a_young_file_is_known_to_the_mapping_that_was_read_and_to_no_other(tmp_path, hashed):
    path = tmp_path / "young.npy"
    np.save(path, BIG)
    mapped, other = np.load(path, mmap_mode="r"), np.load(path, mmap_mode="r")
    known_files.trust(mapped, path)
    known_files.trust(other, path)
    digest(mapped), digest(mapped)
    assert len(hashed) == 1
    digest(other)
    assert len(hashed) == 2


def test_a_young_file_of_a_user_is_hashed_each_time(tmp_path, hashed):
    path = tmp_path / "young.npy"
    np.save(path, BIG)
    mapped = np.load(path, mmap_mode="r")
    known_files.trust(mapped, path, published=False)
    digest(mapped), digest(mapped)
    assert len(hashed) == 2


def test_a_writable_view_is_hashed_even_of_a_mapping_that_is_known(npy, hashed):
    mapped = np.load(npy, mmap_mode="r+")
    known_files.trust(mapped, npy)
    frozen = mapped[:]
    frozen.flags.writeable = False
    digest(mapped), digest(mapped), digest(frozen), digest(frozen)
    assert len(hashed) == 4


def test_the_digest_of_a_result_can_be_given_along(npy, hashed):
    mapped = np.load(npy, mmap_mode="r")
    content = bytes.fromhex("00" * 16)
    assert not known_files.remember(mapped, content)
    known_files.trust(mapped, npy)
    assert known_files.known(mapped) is None
    assert known_files.remember(mapped, content)
    assert known_files.known(mapped) == content
    known_files._entries.clear()


def test_the_table_of_files_is_bounded(npy, monkeypatch):
    monkeypatch.setattr(known_files, "MOST", 3)
    mapped = np.load(npy, mmap_mode="r")
    known_files.trust(mapped, npy)
    for i in range(10):
        digest(mapped[i:])
    assert len(known_files._entries) == 3


@pytest.fixture
def big_shared(tmp_path, monkeypatch):
    monkeypatch.setenv("MEGALITH_SHARED_DIR", str(tmp_path))
    return shared.cache("digest", BIG, verbose=False)


def test_a_shared_array_is_what_a_plain_one_of_its_content_is_and_is_hashed_once(big_shared, hashed):
    assert digest(big_shared) == digest(BIG)
    hashed.clear()
    assert digest(big_shared) == digest(BIG.copy()) == digest(big_shared[:])
    assert len(hashed) == 1  # the copy


def test_a_shared_array_being_filled_is_hashed_each_time(tmp_path, monkeypatch, hashed):
    monkeypatch.setenv("MEGALITH_SHARED_DIR", str(tmp_path))
    with shared.allocate("filled", (100_000,), "f8") as filling:
        first = digest(filling)
        filling[3] = 1
        assert digest(filling) != first


def test_a_source_is_what_it_describes(npy):
    assert digest(as_source(npy)) == digest(as_source(npy)) == digest(as_source(BIG))


def test_a_file_at_rest_that_megalith_opened_is_read_once(npy, hashed):
    first = digest(as_source(npy))
    assert digest(as_source(npy)) == first
    assert len(hashed) == 1


def test_a_file_that_is_written_through_a_mapping_is_hashed_each_time(npy, hashed):
    first = digest(as_source(npy))
    writing = np.load(npy, mmap_mode="r+")
    time = npy.stat().st_mtime_ns
    writing[7] = -1
    os.utime(npy, ns=(time, time))
    second = digest(as_source(npy))
    writing[8] = -1
    third = digest(as_source(npy))
    assert len({first, second, third}) == 3
    assert len(hashed) == 3


def test_a_file_that_another_process_has_mapped_for_writing_is_hashed_each_time(npy, hashed):
    """Its stores do not show in the times of the file: the page was dirty before."""
    code = (
        "import sys, numpy as np; a = np.load(sys.argv[1], mmap_mode='r+'); a[7] = -1\n"
        "for line in sys.stdin: a[int(line)] = -2; print('stored', flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(npy)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        found = []
        for i in (8, 9, 10):
            writer.stdin.write(f"{i}\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "stored\n"
            os.utime(npy, (1, 1))
            found.append(digest(as_source(npy)))
        writer.stdin.close()
    assert len(set(found)) == len(hashed) == 3


def test_a_file_that_was_replaced_while_it_was_mapped_is_not_remembered(npy, hashed):
    source = as_source(npy)
    assert source.array[7] == 7
    npy.rename(npy.with_suffix(".old"))
    np.save(npy, BIG + 1)
    os.utime(npy, (1, 1))
    old = digest(source)
    new = digest(as_source(npy))
    assert old != new
    assert old == digest(as_source(BIG))
    assert new == digest(as_source(BIG + 1))


def test_files_in_memory_and_buffers_count_by_content():
    assert digest(io.BytesIO(b"a")) == digest(io.BytesIO(b"a")) != digest(io.BytesIO(b"b"))
    assert digest(io.StringIO("a")) != digest(io.BytesIO(b"a"))
    assert digest(memoryview(np.arange(3))) == digest(memoryview(np.arange(6)[::2] // 2)) != digest(np.arange(3))

"""`where` finds what `numpy.argwhere` finds."""

import numpy as np
import pytest

import megalith
from megalith import arrays
from megalith.exceptions import ArgumentError, DTypeError, IndexRangeError, LayoutError, ShapeError
from megalith.testing import reference
from megalith.testing.cases import (
    ALL,
    BLOCK,
    COMPLEX,
    FLOATS,
    INTS,
    LARGE,
    SIZES,
    assert_identical,
    pairs,
    sample,
    shape_of,
)
from megalith.testing.layouts import LAYOUTS, SINK_LAYOUTS, empty_like_layout

CASES = pairs(
    {
        "dtype": ALL,
        "layout": list(LAYOUTS),
        "ndim": range(6),
        "size": SIZES,
        "threads": (1, 2, 8),
        "blocks": (1, 3, 1000),
        "density": (0.0, 0.001, 0.5, 1.0),
        "cutoff": (None, 0, 1 << 40),
    },
    excluded=lambda c: c.get("ndim") == 0 and c.get("size", 1) != 1,
)


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c.values())))
def test_where_equals_argwhere_for_every_pair_of_conditions(case):
    values = sample(case["dtype"], shape_of(case["size"], case["ndim"]), density=case["density"])
    source = LAYOUTS[case["layout"]](values)
    before = source.tobytes()
    got = megalith.where(source, blocks=case["blocks"], processes=case["threads"], cutoff=case["cutoff"])
    assert_identical(got, reference.where(source))
    assert source.tobytes() == before


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ndim", [1, 3, 5])
def test_where_gives_the_same_for_every_number_of_threads(layout, ndim):
    source = LAYOUTS[layout](sample("int32", shape_of(LARGE, ndim)))
    one, two, eight = (megalith.where(source, processes=n, cutoff=0) for n in (1, 2, 8))
    assert_identical(one, reference.where(source))
    assert_identical(two, one)
    assert_identical(eight, one)


@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
def test_where_counts_nan_and_not_negative_zero(dtype):
    source = np.array([0.0, -0.0, np.nan, 1.0, -1.0], dtype=dtype)
    assert megalith.where(source, cutoff=0).tolist() == [2, 3, 4]


def test_where_counts_negative_values():
    assert megalith.where(np.array([-3, 0, 5], dtype=np.int8), cutoff=0).tolist() == [0, 2]


def test_where_counts_true_stored_as_any_byte():
    source = np.arange(256, dtype=np.uint8).view(np.bool_)
    assert megalith.where(source, cutoff=0).tolist() == list(range(1, 256))


def test_where_counts_not_a_time():
    source = np.array(["NaT", 0, 1], dtype="datetime64[s]")
    assert megalith.where(source, cutoff=0).tolist() == [0, 2]


@pytest.mark.parametrize(("value", "rows"), [(0, 0), (7, 1)])
def test_where_of_an_array_without_axes_has_rows_without_columns(value, rows):
    assert megalith.where(np.array(value)).shape == (rows, 0)


def test_where_of_32_axes_equals_argwhere():
    source = np.zeros((1,) * 25 + (2,) * 7, dtype=np.uint8)
    source[..., 1, 0, 1] = 1
    assert_identical(megalith.where(source, cutoff=0), reference.where(source))


@pytest.mark.parametrize("dtype", INTS + FLOATS + ("bool",))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_where_above_equals_numpy_comparison(dtype, layout):
    source = LAYOUTS[layout](sample(dtype, (23, 5, 7)))
    for above in (0, -3, 17):
        assert_identical(megalith.where(source, above=above, cutoff=0), reference.where(source, above=above))


def test_where_above_a_fraction_finds_whole_numbers_beyond_it():
    assert megalith.where(np.arange(5, dtype=np.uint8), above=2.5, cutoff=0).tolist() == [3, 4]


@pytest.mark.parametrize(("above", "n"), [(300, 0), (-1, 256), (255, 0), (254, 1), (np.inf, 0), (-np.inf, 256)])
def test_where_above_a_threshold_outside_of_the_type_finds_all_or_nothing(above, n):
    assert len(megalith.where(np.arange(256).astype(np.uint8), above=above, cutoff=0)) == n


def test_where_above_leaves_nan_out():
    source = np.array([np.nan, 1.0, 3.0], dtype=np.float32)
    assert megalith.where(source, above=2, cutoff=0).tolist() == [2]


def test_where_above_finds_the_same_in_a_large_array_on_any_number_of_threads():
    source = sample("float32", shape_of(LARGE, 2))
    expected = reference.where(source, above=10.0)
    for threads in (1, 2, 8):
        assert_identical(megalith.where(source, above=10.0, processes=threads), expected)


@pytest.mark.parametrize("dtype", INTS)
def test_where_gives_positions_in_the_asked_type(dtype):
    source = sample("uint8", (100, 3))
    assert_identical(megalith.where(source, dtype=dtype, cutoff=0), reference.where(source, dtype=dtype))


def test_where_accepts_the_longest_axis_that_fits_the_type():
    assert megalith.where(np.ones(256, dtype=np.uint8), dtype=np.uint8, cutoff=0).tolist() == list(range(256))


def test_where_refuses_a_type_too_small_for_an_axis_wherever_the_hits_are():
    with pytest.raises(IndexRangeError):
        megalith.where(np.zeros(257, dtype=np.uint8), dtype=np.uint8, cutoff=0)


@pytest.mark.parametrize("dtype", ["float32", "bool", "complex64", "object"])
def test_where_refuses_a_type_of_positions_that_is_no_integer(dtype):
    with pytest.raises(DTypeError):
        megalith.where(np.ones(3, dtype=np.uint8), dtype=dtype)


@pytest.mark.parametrize("layout", SINK_LAYOUTS)
@pytest.mark.parametrize("shape", [(1000,), (20, 30), (5, 6, 7)])
@pytest.mark.parametrize("dtype", ["int64", "uint16"])
def test_where_writes_into_a_sink_of_any_layout(layout, shape, dtype):
    source = sample("int16", shape)
    expected = reference.where(source, dtype=dtype)
    sink = empty_like_layout(layout, expected.shape, dtype)
    assert megalith.where(source, sink, cutoff=0) is sink
    assert_identical(sink, expected)


def test_where_writes_into_a_large_sink_on_two_threads():
    source = sample("bool", shape_of(LARGE, 3))
    expected = reference.where(source)
    sink = empty_like_layout("C", expected.shape, "int64")
    assert megalith.where(source, sink=sink, processes=2) is sink
    assert_identical(sink, expected)


@pytest.mark.parametrize("rows", [2, 4])
def test_where_refuses_a_sink_with_another_number_of_rows(rows):
    source = np.array([1, 0, 1, 1], dtype=np.uint8)
    sink = np.full(rows, -7)
    with pytest.raises(ShapeError, match="3"):
        megalith.where(source, sink, cutoff=0)
    assert (sink == -7).all()


def test_where_refuses_a_sink_with_another_number_of_columns():
    with pytest.raises(ShapeError):
        megalith.where(np.ones((2, 2)), np.empty((4, 3), dtype=np.int64), cutoff=0)


def test_where_refuses_a_sink_of_floats():
    with pytest.raises(DTypeError):
        megalith.where(np.ones(3), np.empty(3))


def test_where_refuses_a_sink_whose_type_is_too_small():
    with pytest.raises(IndexRangeError):
        megalith.where(np.ones(300), np.empty(300, dtype=np.uint8))


def test_where_refuses_a_read_only_sink():
    sink = np.empty(3, dtype=np.int64)
    sink.flags.writeable = False
    with pytest.raises(LayoutError):
        megalith.where(np.ones(3), sink)


def test_where_refuses_a_sink_that_overlaps_the_source():
    memory = np.ones(8, dtype=np.int64)
    with pytest.raises(LayoutError):
        megalith.where(memory, memory)
    assert (memory == 1).all()


def test_where_into_a_path_gives_a_memmap_of_the_file(tmp_path):
    source = sample("uint8", (50, 4))
    got = megalith.where(source, tmp_path / "hits.npy", cutoff=0)
    assert isinstance(got, np.memmap)
    assert_identical(np.asarray(got), reference.where(source))
    assert_identical(np.load(tmp_path / "hits.npy"), reference.where(source))


def test_where_without_hits_into_a_path_gives_an_empty_file(tmp_path):
    megalith.where(np.zeros((3, 3)), tmp_path / "hits.npy", cutoff=0)
    assert np.load(tmp_path / "hits.npy").shape == (0, 2)


def test_where_with_a_cutoff_gives_the_same_below_and_above_it():
    source = sample("float32", (40, 50))
    assert_identical(megalith.where(source, cutoff=source.size), megalith.where(source, cutoff=source.size - 1))


def test_where_reads_the_default_cutoff_at_each_call():
    source = sample("uint8", (40, 50))
    for arrays.default_cutoff in (0, 10**9):
        assert_identical(megalith.where(source), reference.where(source))


@pytest.mark.parametrize("source", [np.array([object()]), np.array(["text"]), np.zeros(3, dtype=[("a", "i4")])])
def test_where_refuses_types_without_a_zero(source):
    with pytest.raises(DTypeError):
        megalith.where(source)


@pytest.mark.parametrize("name", ["blocks", "processes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "many"])
def test_where_refuses_impossible_counts(name, value):
    with pytest.raises((ArgumentError, DTypeError), match=name):
        megalith.where(np.ones(3), **{name: value})


def test_where_takes_anything_with_a_buffer_or_an_array():
    class Holder:
        def __array__(self, dtype=None, copy=None):
            return np.array([0, 3, 0, 4])

    for source in (bytearray(b"\0\1\0\1"), memoryview(b"\0\1\0\1"), Holder()):
        assert megalith.where(source).tolist() == [1, 3]


def test_where_finds_a_single_hit_at_every_edge_of_a_block():
    for place in (0, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, LARGE - 1):
        source = np.zeros(LARGE, dtype=np.uint8)
        source[place] = 1
        assert megalith.where(source, processes=2).tolist() == [place]


@pytest.mark.parametrize("dtype", ["longdouble", "clongdouble"])
@pytest.mark.parametrize("cutoff", [0, 100])
def test_where_refuses_types_beyond_double_whatever_the_size(dtype, cutoff):
    with pytest.raises(DTypeError):
        megalith.where(np.ones(3, dtype=dtype), cutoff=cutoff)


@pytest.mark.parametrize("above", ["x", 1j, None, np.ones(2), object()])
def test_where_above_takes_one_real_number_or_nothing(above):
    if above is None:
        assert megalith.where(np.ones(3), above=None).tolist() == [0, 1, 2]
    else:
        with pytest.raises((DTypeError, ShapeError), match="above"):
            megalith.where(np.ones(3), above=above)


@pytest.mark.parametrize(
    ("source", "above"),
    [
        (np.array([0.1], dtype=np.float32), 0.1),
        (np.array([0.1], dtype=np.float32), np.float64(0.1)),
        (np.array([2**53 + 1]), 2.0**53),
        (np.array([2**63], dtype=np.uint64), 2**63 - 1),
        (np.array([0, 1, 2]), True),
        (np.array([1, 2], dtype="datetime64[s]"), np.datetime64(1, "s")),
    ],
    ids=repr,
)
@pytest.mark.parametrize("cutoff", [0, 100])
def test_where_above_compares_as_numpy_does(source, above, cutoff):
    assert megalith.where(source, above=above, cutoff=cutoff).tolist() == np.flatnonzero(source > above).tolist()

"""`block_ranges`, `block_sums` and `block_counts` cut the C-order sequence evenly and say what is in each part."""

import numpy as np
import pytest

import megalith
from megalith import arrays
from megalith.exceptions import ArgumentError, DTypeError
from megalith.testing import reference
from megalith.testing.cases import (
    ALL,
    BLOCK,
    BOOL,
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
from megalith.testing.layouts import LAYOUTS

FACTORS = {
    "layout": list(LAYOUTS),
    "ndim": range(6),
    "size": SIZES,
    "threads": (1, 2, 8),
    "blocks": (1, 3, 1000),
}


def impossible(case):
    """Whether an array without axes would have several elements."""
    return case.get("ndim") == 0 and case.get("size", 1) != 1


SUMMED = pairs({"dtype": BOOL + INTS + FLOATS + COMPLEX, **FACTORS}, impossible)
COUNTED = pairs({"dtype": ALL, **FACTORS}, impossible)


def finite(dtype, shape):
    """Sample values without infinities and NaN, which say nothing about the order of a sum."""
    values = sample(dtype, shape)
    if values.dtype.kind in "fc":
        values[~np.isfinite(values)] = 0.5
    if values.dtype in ("float64", "complex128"):
        values[np.maximum(abs(values.real), abs(values.imag)) > 1e300] = -2.5
    return values


@pytest.mark.parametrize("case", SUMMED, ids=lambda c: "-".join(map(str, c.values())))
def test_block_sums_equal_numpy_sums_for_every_pair_of_conditions(case):
    source = LAYOUTS[case["layout"]](finite(case["dtype"], shape_of(case["size"], case["ndim"])))
    got = megalith.block_sums(source, blocks=case["blocks"], processes=case["threads"])
    expected = reference.block_sums(source, case["blocks"])
    if source.dtype.kind in "biu":
        assert_identical(got, expected)
    else:
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        bound = reference.block_sums_bound(source, case["blocks"])
        with np.errstate(over="ignore", invalid="ignore"):
            assert ((np.abs(got - expected) <= bound) | (got == expected)).all()


@pytest.mark.parametrize("case", COUNTED, ids=lambda c: "-".join(map(str, c.values())))
def test_block_counts_equal_numpy_counts_for_every_pair_of_conditions(case):
    source = LAYOUTS[case["layout"]](sample(case["dtype"], shape_of(case["size"], case["ndim"])))
    got = megalith.block_counts(source, blocks=case["blocks"], processes=case["threads"])
    assert_identical(got, reference.block_counts(source, case["blocks"]))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("blocks", [1, 3, 1000])
def test_block_sums_are_the_same_bits_for_every_number_of_threads(dtype, layout, blocks):
    values = np.random.default_rng(0).standard_normal(LARGE).astype(dtype).reshape(shape_of(LARGE, 2))
    source = LAYOUTS[layout](values)
    one, two, eight = (megalith.block_sums(source, blocks=blocks, processes=n) for n in (1, 2, 8))
    assert_identical(two, one)
    assert_identical(eight, one)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "broadcast"])
def test_block_sums_are_the_same_bits_for_every_layout(layout):
    values = np.random.default_rng(0).standard_normal(LARGE).reshape(shape_of(LARGE, 3))
    assert_identical(megalith.block_sums(LAYOUTS[layout](values), blocks=7), megalith.block_sums(values, blocks=7))


@pytest.mark.parametrize("size", [0, 1, 2, 7, 999, 1000, 1001, BLOCK, LARGE])
@pytest.mark.parametrize("blocks", [1, 2, 3, 7, 1000])
def test_block_ranges_are_even_to_within_one_element(size, blocks):
    got = megalith.block_ranges(np.broadcast_to(np.uint8(0), (size,)), blocks=blocks)
    assert got.tolist() == reference.block_ranges(size, blocks)
    assert got.dtype == np.int64


def test_block_ranges_of_more_elements_than_doubles_can_count_are_exact():
    source = np.broadcast_to(np.uint8(0), (2**31, 2**31 - 1))
    assert megalith.block_ranges(source, blocks=1001).tolist() == reference.block_ranges(source.size, 1001)


def test_block_ranges_of_an_array_without_axes_hold_its_one_element():
    assert megalith.block_ranges(np.array(5), blocks=3).tolist() == [0, 1]


def test_block_ranges_have_ten_blocks_for_each_thread_by_default():
    for threads in (1, 2, 8):
        assert len(megalith.block_ranges(np.zeros(1000), processes=threads)) == 10 * threads + 1


def test_block_ranges_read_the_default_number_of_blocks_at_each_call():
    for arrays.default_blocks_per_process in (1, 4, 25):
        assert len(megalith.block_ranges(np.zeros(1000), processes=2)) == 2 * arrays.default_blocks_per_process + 1


def test_block_ranges_read_the_default_number_of_threads_at_each_call():
    for arrays.default_processes in (1, 3, "serial"):
        n = 1 if arrays.default_processes == "serial" else arrays.default_processes
        assert len(megalith.block_ranges(np.zeros(1000))) == 10 * n + 1


def test_block_sums_and_counts_have_as_many_entries_as_ranges_have_blocks():
    source = np.ones(1234)
    n = len(megalith.block_ranges(source, processes=3)) - 1
    assert len(megalith.block_sums(source, processes=3)) == n
    assert len(megalith.block_counts(source, processes=3)) == n


@pytest.mark.parametrize(("dtype", "wide"), [("int8", "int64"), ("uint32", "uint64"), ("bool", "int64")])
def test_block_sums_of_whole_numbers_have_64_bits(dtype, wide):
    assert megalith.block_sums(np.ones(5, dtype=dtype), blocks=2).dtype == wide


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_block_sums_wrap_as_numpy_sums_do(dtype):
    source = np.full(5, np.iinfo(dtype).max, dtype=dtype)
    assert_identical(megalith.block_sums(source, blocks=1), source.sum(keepdims=True))


def test_block_sums_count_true_stored_as_any_byte_as_one():
    assert megalith.block_sums(np.arange(256, dtype=np.uint8).view(np.bool_), blocks=1).tolist() == [255]


def test_block_sums_of_a_small_number_many_times_do_not_drift():
    source = np.full(3_000_000, 0.1, dtype=np.float32)
    exact = float(np.float32(0.1)) * 3_000_000
    assert megalith.block_sums(source, blocks=1)[0] == pytest.approx(exact, rel=1e-14)


def test_block_sums_of_nothing_are_positive_zero():
    got = megalith.block_sums(np.zeros(3), blocks=3)
    assert not np.signbit(got).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_block_sums_keep_infinities_and_nan_to_their_block(value):
    source = np.zeros(100, dtype=np.float32)
    source[42] = value
    got = megalith.block_sums(source, blocks=10)
    assert got[[0, 1, 2, 3, 5, 6, 7, 8, 9]].tolist() == [0.0] * 9
    np.testing.assert_equal(got[4], value)


def test_block_sums_of_opposite_infinities_are_nan():
    assert np.isnan(megalith.block_sums(np.array([np.inf, 1.0, -np.inf]), blocks=1)[0])


@pytest.mark.parametrize("dtype", ["datetime64[s]", "timedelta64[s]", "object", "S2", "V4"])
def test_block_sums_refuse_types_without_a_sum(dtype):
    with pytest.raises(DTypeError):
        megalith.block_sums(np.zeros(3, dtype=dtype))


@pytest.mark.parametrize("dtype", ["object", "S2", "V4"])
def test_block_counts_refuse_types_without_a_zero(dtype):
    with pytest.raises(DTypeError):
        megalith.block_counts(np.zeros(3, dtype=dtype))


def test_block_counts_count_nan_and_not_a_time_and_not_negative_zero():
    assert megalith.block_counts(np.array([np.nan, -0.0, 0.0, 2.0]), blocks=1).tolist() == [2]
    assert megalith.block_counts(np.array(["NaT", 0, 5], dtype="timedelta64[s]"), blocks=1).tolist() == [2]


@pytest.mark.parametrize("function", [megalith.block_ranges, megalith.block_sums, megalith.block_counts])
@pytest.mark.parametrize(("name", "value"), [("blocks", 0), ("blocks", -2), ("processes", 0), ("processes", -1)])
def test_block_functions_refuse_impossible_counts(function, name, value):
    with pytest.raises(ArgumentError, match=f"{name}.*{value}"):
        function(np.zeros(3), **{name: value})


@pytest.mark.parametrize("order", ["C", "F"])
def test_block_sums_of_a_file_equal_those_of_its_array(tmp_path, order):
    values = np.random.default_rng(0).standard_normal(LARGE).reshape(shape_of(LARGE, 3))
    np.save(tmp_path / "in.npy", np.asarray(values, order=order))
    for blocks in (1, 3, 1000):
        assert_identical(
            megalith.block_sums(tmp_path / "in.npy", blocks=blocks), megalith.block_sums(values, blocks=blocks)
        )
        assert_identical(
            megalith.block_counts(tmp_path / "in.npy", blocks=blocks), reference.block_counts(values, blocks)
        )

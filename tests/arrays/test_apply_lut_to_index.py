"""`apply_lut_to_index` is a correlation in whole numbers and a lookup."""

import numpy as np
import pytest
import scipy.ndimage

import megalith
from megalith.exceptions import DTypeError, IndexRangeError, LayoutError, ShapeError
from megalith.testing import reference
from megalith.testing.cases import ALL, BOOL, INTS, LARGE, SIZES, assert_identical, pairs, sample, shape_of
from megalith.testing.layouts import LAYOUTS, SINK_LAYOUTS, empty_like_layout

KERNELS = ("powers", "ones", "even", "floats", "one", "longer")
CASES = pairs(
    {
        "dtype": INTS + BOOL,
        "kernel": KERNELS,
        "kernel_layout": list(LAYOUTS),
        "lut": ALL,
        "layout": list(LAYOUTS),
        "sink": [None, *SINK_LAYOUTS],
        "ndim": range(6),
        "size": SIZES,
        "threads": (1, 2, 8),
    },
    excluded=lambda c: (
        (c.get("ndim") == 0 and c.get("size", 1) != 1)
        # Powers of two for 3^ndim neighbours: the table doubles with each, and so would the time of the oracle.
        or (c.get("kernel") in ("powers", "longer") and c.get("ndim", 0) > 2)
        or (c.get("ndim", 0) > 3 and c.get("size", 0) == LARGE)
    ),
)


def kernel_of(name, ndim):
    """A kernel whose sums over zeros and ones stay below 512."""
    shape = (3,) * ndim
    if name == "powers":
        return (2 ** np.arange(3**ndim, dtype=np.int64)).reshape(shape)
    if name == "ones":
        return np.ones(shape, dtype=np.uint8)
    if name == "even":
        return np.arange(1, 2**ndim + 1, dtype=np.int16).reshape((2,) * ndim) % 16
    if name == "floats":
        return (np.arange(3**ndim).reshape(shape) % 7) / 8 + 0.3
    if name == "one":
        return np.ones((1,) * ndim, dtype=np.int32)
    return np.ones((7,) * ndim, dtype=np.int8)


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c.values())))
def test_apply_lut_to_index_equals_correlate_and_take_for_every_pair_of_conditions(case):
    shape = shape_of(case["size"], case["ndim"])
    values = sample("bool", shape) if case["dtype"] == "bool" else (sample("uint8", shape) & 1).astype(case["dtype"])
    source = LAYOUTS[case["layout"]](values)
    kernel = LAYOUTS[case["kernel_layout"]](kernel_of(case["kernel"], case["ndim"]))
    lut = sample(case["lut"], (4096,))
    expected = reference.apply_lut_to_index(source, kernel, lut)
    sink = None if case["sink"] is None else empty_like_layout(case["sink"], shape, lut.dtype)
    got = megalith.apply_lut_to_index(source, kernel, lut, sink, case["threads"])
    assert sink is None or got is sink
    assert_identical(got, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32"])
def test_apply_lut_to_index_gives_the_same_for_every_number_of_threads(layout, dtype):
    source = LAYOUTS[layout]((sample("uint8", (120, 130, 140)) % 2).astype(dtype))
    kernel = (np.arange(27) % 5).reshape(3, 3, 3)
    table = np.random.default_rng(0).integers(0, 100, 60, dtype=np.uint8)
    one, two, eight = (megalith.apply_lut_to_index(source, kernel, table, processes=n) for n in (1, 2, 8))
    assert_identical(one, reference.apply_lut_to_index(source, kernel, table))
    assert_identical(two, one)
    assert_identical(eight, one)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_apply_lut_to_index_of_powers_of_two_gives_the_configuration_of_neighbours(ndim):
    shape = {1: (1000,), 2: (40, 50), 3: (12, 13, 70)}[ndim]
    side = 3 if ndim < 3 else 2
    source = np.random.default_rng(1).random(shape) < 0.4
    kernel = (2 ** np.arange(side**ndim)).reshape((side,) * ndim)
    identity = np.arange(2 ** (side**ndim))
    expected = scipy.ndimage.correlate(source.astype(np.int64), kernel, mode="constant")
    assert_identical(megalith.apply_lut_to_index(source, kernel, identity), expected)


def test_apply_lut_to_index_of_27_neighbours_finds_the_topology_of_every_voxel():
    source = np.random.default_rng(2).random((30, 31, 32)) < 0.5
    kernel = (2 ** np.arange(27, dtype=np.int64)).reshape(3, 3, 3)
    table = np.zeros(2**27, dtype=np.uint8)
    table[::7] = 1
    sums = scipy.ndimage.correlate(source.astype(np.int64), kernel, mode="constant")
    assert_identical(megalith.apply_lut_to_index(source, kernel, table), table[sums])


@pytest.mark.parametrize("shape", [(1,), (2, 1), (1, 1, 1), (2, 3, 1, 2)])
def test_apply_lut_to_index_of_arrays_smaller_than_the_kernel(shape):
    source = np.ones(shape, dtype=np.uint8)
    kernel = np.ones((5,) * len(shape), dtype=np.int64)
    assert_identical(
        megalith.apply_lut_to_index(source, kernel, np.arange(700)),
        reference.apply_lut_to_index(source, kernel, np.arange(700)),
    )


def test_apply_lut_to_index_sums_whole_numbers_in_64_bits_exactly():
    # The difference of two numbers that are one double.
    source = np.array([2**60 + 1, 0, 2**60])
    assert megalith.apply_lut_to_index(source, np.array([1, 0, -1]), np.arange(3)).tolist() == [0, 1, 0]


def test_apply_lut_to_index_names_a_sum_of_more_than_32_bits():
    source = np.full(1, 2**31, dtype=np.uint32)
    with pytest.raises(IndexRangeError, match=str(-(2**62))):
        megalith.apply_lut_to_index(source, np.array([-(2**31)]), np.arange(3))


def test_apply_lut_to_index_truncates_float_sums_toward_zero_once():
    source = np.array([1, 1, 1, 0, 1], dtype=np.uint8)
    kernel = np.array([0.6, 0.6, -0.3])
    assert megalith.apply_lut_to_index(source, kernel, np.arange(10)).tolist() == [0, 0, 1, 0, 0]


def test_apply_lut_to_index_counts_true_stored_as_any_byte_as_one():
    source = np.array([0, 2, 255, 1], dtype=np.uint8).view(np.bool_)
    assert megalith.apply_lut_to_index(source, np.ones(1, dtype=int), np.arange(2)).tolist() == [0, 1, 1, 1]


def test_apply_lut_to_index_refuses_a_sum_beyond_the_table_and_names_it_and_its_position():
    source = np.zeros((6, 7), dtype=np.uint8)
    source[4, 5] = 9
    with pytest.raises(IndexRangeError, match=r"\b9\b.*\b4\b.*\b5\b"):
        megalith.apply_lut_to_index(source, np.ones((1, 1), dtype=int), np.arange(9))


def test_apply_lut_to_index_refuses_negative_sums():
    with pytest.raises(IndexRangeError, match="-1"):
        megalith.apply_lut_to_index(np.ones(4, dtype=np.uint8), np.array([-1]), np.arange(9))


@pytest.mark.parametrize("shape", [(3,), (3, 3, 3), ()])
def test_apply_lut_to_index_refuses_a_kernel_of_another_number_of_axes(shape):
    with pytest.raises(ShapeError):
        megalith.apply_lut_to_index(np.zeros((4, 4), dtype=np.uint8), np.ones(shape, dtype=int), np.arange(9))


def test_apply_lut_to_index_refuses_an_empty_kernel():
    with pytest.raises(ShapeError):
        megalith.apply_lut_to_index(np.zeros(4, dtype=np.uint8), np.ones(0, dtype=int), np.arange(9))


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "object"])
def test_apply_lut_to_index_refuses_sources_without_whole_sums(dtype):
    with pytest.raises(DTypeError):
        megalith.apply_lut_to_index(np.zeros(4, dtype=dtype), np.ones(3, dtype=int), np.arange(9))


def test_apply_lut_to_index_refuses_a_complex_kernel():
    with pytest.raises(DTypeError):
        megalith.apply_lut_to_index(np.zeros(4, dtype=np.uint8), np.ones(3, dtype=complex), np.arange(9))


def test_apply_lut_to_index_refuses_any_overlap_of_sink_and_source():
    memory = np.zeros((20, 20), dtype=np.uint8)
    for sink in (memory, memory[::-1], memory.T):
        with pytest.raises(LayoutError):
            megalith.apply_lut_to_index(memory, np.ones((3, 3), dtype=int), np.arange(9, dtype=np.uint8), sink)


def test_apply_lut_to_index_refuses_a_sink_of_another_shape():
    with pytest.raises(ShapeError):
        megalith.apply_lut_to_index(np.zeros(4, dtype=np.uint8), np.ones(3, dtype=int), np.arange(9), np.empty(5))


def test_apply_lut_to_index_into_a_path_gives_a_memmap_of_the_file(tmp_path):
    source = sample("bool", (30, 40, 50))
    kernel, table = np.ones((3, 3, 3), dtype=np.uint8), np.arange(28, dtype=np.uint8)
    got = megalith.apply_lut_to_index(source, kernel, table, tmp_path / "out.npy")
    assert isinstance(got, np.memmap)
    assert_identical(np.load(tmp_path / "out.npy"), reference.apply_lut_to_index(source, kernel, table))

"""`neighbours` finds every pair of positions a distance apart."""

import numpy as np
import pytest

import megalith
from megalith.exceptions import DTypeError, MegalithError, ShapeError
from megalith.testing import reference
from megalith.testing.cases import BLOCK, INTS, assert_identical, pairs
from megalith.testing.layouts import LAYOUTS

BOTH = [megalith.neighbours, megalith.index_neighbours]
ORDERS = ("sorted", "shuffled", "descending", "duplicates", "all equal")
CASES = pairs(
    {
        "function": BOTH,
        "dtype": INTS,
        "layout": list(LAYOUTS),
        "size": (0, 1, 2, 100, BLOCK - 1, BLOCK, BLOCK + 1, 300_000),
        "order": ORDERS,
        "offset": (0, 1, -1, 37, -100, 10**6),
        "threads": (1, 2, 8),
    },
    # Equal values are all neighbours of each other: n^2 pairs at offset 0.
    excluded=lambda c: (
        c.get("size", 0) > 1000
        and (
            c.get("order") == "all equal"
            or c.get("offset") == 0
            or c.get("layout") == "broadcast"
            # Few values, many duplicates: pairs grow as the square here too.
            or c.get("dtype") in ("int8", "uint8", "int16", "uint16")
        )
    ),
)


def indices(case):
    """Indices in the asked order, about every third of all values."""
    rng = np.random.default_rng(7)
    info = np.iinfo(case["dtype"])
    values = np.minimum(np.flatnonzero(rng.random(3 * case["size"] + 10) < 0.34)[: case["size"]], min(info.max, 2**62))
    if info.min < 0:
        values = values - min(50, -info.min)
    values = values.astype(case["dtype"])
    if case["order"] == "shuffled":
        rng.shuffle(values)
    elif case["order"] == "descending":
        values = values[::-1].copy()
    elif case["order"] == "duplicates":
        values = np.sort(np.concatenate([values[::2], values[::2]]))[: len(values)]
    elif case["order"] == "all equal":
        values[:] = 5
    return LAYOUTS[case["layout"]](values)


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(str(getattr(v, "__name__", v)) for v in c.values()))
def test_neighbours_equal_a_search_of_all_pairs_for_every_pair_of_conditions(case):
    source = indices(case)
    got = case["function"](source, case["offset"], processes=case["threads"])
    assert_identical(got, reference.neighbours(source, case["offset"]))


@pytest.mark.parametrize("order", ORDERS[:4])
def test_neighbours_give_the_same_for_every_number_of_threads(order):
    source = indices({"dtype": "int64", "size": 400_000, "order": order, "layout": "C"})
    one, two, eight = (megalith.neighbours(source, 2, processes=n) for n in (1, 2, 8))
    assert_identical(one, reference.neighbours(source, 2))
    assert_identical(two, one)
    assert_identical(eight, one)


def test_neighbours_of_duplicates_give_all_pairs_sorted_by_first_and_then_second_position():
    assert megalith.neighbours(np.array([4, 5, 4, 5]), 1).tolist() == [[0, 1], [0, 3], [2, 1], [2, 3]]


def test_neighbours_at_offset_zero_include_each_with_itself():
    assert megalith.neighbours(np.array([7, 3, 7]), 0).tolist() == [[0, 0], [0, 2], [1, 1], [2, 0], [2, 2]]


def test_neighbours_of_nothing_have_no_rows():
    assert megalith.neighbours(np.zeros(0, dtype=np.int64), 1).shape == (0, 2)


@pytest.mark.parametrize("dtype", INTS)
def test_neighbours_at_the_ends_of_the_type_do_not_wrap(dtype):
    info = np.iinfo(dtype)
    source = np.array([info.min, info.min + 1, info.max - 1, info.max], dtype=dtype)
    for offset in (1, -1, 2**62, -(2**62)):
        assert_identical(megalith.neighbours(source, offset), reference.neighbours(source, offset))


@pytest.mark.parametrize("offset", [2**63, -(2**63) - 1, 2**64, 10**30])
def test_neighbours_at_an_offset_beyond_64_bits_are_exact_or_refused(offset):
    source = np.array([0, 2**64 - 1], dtype=np.uint64)
    try:
        got = megalith.neighbours(source, offset)
    except MegalithError:
        return
    assert_identical(got, reference.neighbours(source, offset))


@pytest.mark.parametrize("dtype", ["float64", "complex64", "datetime64[s]", "object"])
def test_neighbours_refuse_values_that_are_no_indices(dtype):
    with pytest.raises(DTypeError):
        megalith.neighbours(np.zeros(3, dtype=dtype), 1)


@pytest.mark.parametrize("shape", [(), (2, 2)])
def test_neighbours_refuse_anything_but_a_list(shape):
    with pytest.raises(ShapeError):
        megalith.neighbours(np.zeros(shape, dtype=np.int64), 1)


@pytest.mark.parametrize("offset", [1.5, "1", None])
def test_neighbours_refuse_an_offset_that_is_no_whole_number(offset):
    with pytest.raises((DTypeError, ValueError), match="offset") as caught:
        megalith.neighbours(np.arange(3), offset)
    assert isinstance(caught.value, MegalithError)


def test_neighbours_of_a_path_read_the_file(tmp_path):
    source = indices({"dtype": "int64", "size": 200_000, "order": "sorted", "layout": "C"})
    np.save(tmp_path / "in.npy", source)
    assert_identical(megalith.neighbours(str(tmp_path / "in.npy"), 3), reference.neighbours(source, 3))

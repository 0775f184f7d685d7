"""`correlate1d` is SciPy's, bit for bit."""

import numpy as np
import pytest
import scipy.ndimage

import megalith
from megalith.exceptions import ArgumentError, DTypeError, LayoutError, ShapeError
from megalith.testing import reference
from megalith.testing.cases import (
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
from megalith.testing.layouts import LAYOUTS, SINK_LAYOUTS, empty_like_layout
from megalith.testing.reference import MODES

REAL = BOOL + INTS + FLOATS
TYPES = REAL + COMPLEX

KERNELS = {
    "one tap": np.array([2.0]),
    "symmetric": np.array([0.25, 0.5, 0.25]),
    "antisymmetric": np.array([-0.5, 0.1, 0.0, -0.1, 0.5]),
    "nearly symmetric": np.array([0.3, 1.0, 0.3 + 1e-16 * 3]),
    "any": np.array([0.1, -2.5, 3.7, 0.01, 11.0]),
    "even": np.array([0.7, -1.1, 2.0, 0.3]),
    "whole": np.array([1, -2, 3], dtype=np.int16),
    "single": np.array([0.1, 0.7, 0.2, 0.4], dtype=np.float32),
    "long": np.random.default_rng(0).standard_normal(31),
    "long symmetric": np.hanning(33)[1:-1] / 7,
}


def impossible(case):
    """Whether SciPy has no meaning for a case: complex numbers into reals, reals into complex numbers."""
    if "dtype" in case and case.get("out") is not None and (case["dtype"] in COMPLEX) != (case["out"] in COMPLEX):
        return True
    # An oracle that takes seconds teaches nothing that a smaller one does not.
    return case.get("size", 0) == LARGE and "long" in case.get("kernel", "")


CASES = pairs(
    {
        "dtype": TYPES,
        "out": (None, *TYPES),
        "layout": list(LAYOUTS),
        "sink": [None, *SINK_LAYOUTS],
        "kernel": list(KERNELS),
        "kernel_layout": list(LAYOUTS),
        "mode": MODES,
        "ndim": range(1, 6),
        "size": SIZES,
        "axis": ("first", "middle", "last"),
        "origin": ("lowest", 0, "highest"),
        "cval": (0.0, -3.75),
        "threads": (1, 2, 8),
    },
    excluded=impossible,
)


def origin_of(name, n):
    """The lowest and highest origin SciPy allows for `n` taps."""
    return {"lowest": -(n // 2), 0: 0, "highest": (n - 1) // 2}[name]


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c.values())))
def test_correlate1d_equals_scipy_for_every_pair_of_conditions(case):
    shape = shape_of(case["size"], case["ndim"])
    source = LAYOUTS[case["layout"]](sample(case["dtype"], shape))
    kernel = LAYOUTS[case["kernel_layout"]](KERNELS[case["kernel"]])
    axis = {"first": 0, "middle": case["ndim"] // 2, "last": -1}[case["axis"]]
    options = {
        "axis": axis,
        "mode": case["mode"],
        "cval": case["cval"],
        "origin": origin_of(case["origin"], len(kernel)),
    }
    expected = reference.correlate1d(source, kernel, dtype=case["out"], **options)
    before = source.tobytes(), kernel.tobytes()
    if case["sink"] is None:
        got = megalith.correlate1d(source, kernel, processes=case["threads"], dtype=case["out"], **options)
    else:
        sink = empty_like_layout(case["sink"], shape, expected.dtype)
        got = megalith.correlate1d(source, kernel, sink, processes=case["threads"], **options)
        assert got is sink
    assert_identical(got, expected)
    assert before == (source.tobytes(), kernel.tobytes())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", TYPES)
def test_correlate1d_equals_scipy_for_every_mode_and_pair_of_types(mode, dtype):
    source = sample(dtype, (5, 12), seed=3, density=0.9)
    for out in COMPLEX if dtype in COMPLEX else REAL:
        for kernel in (KERNELS["whole"], KERNELS["any"], KERNELS["antisymmetric"], KERNELS["long symmetric"]):
            for axis in (0, 1):
                options = {"axis": axis, "mode": mode, "cval": 2.5, "dtype": out}
                got = megalith.correlate1d(source, kernel, **options)
                assert_identical(got, reference.correlate1d(source, kernel, **options))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_correlate1d_equals_scipy_for_every_kernel_length_and_origin(mode, n):
    source = np.random.default_rng(n).standard_normal(n)
    for taps in range(1, 3 * n + 4):
        kernel = np.random.default_rng(taps).standard_normal(taps)
        for origin in range(-(taps // 2), (taps - 1) // 2 + 1):
            options = {"mode": mode, "cval": 1.5, "origin": origin}
            got = megalith.correlate1d(source, kernel, **options)
            assert_identical(got, reference.correlate1d(source, kernel, **options))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("source_type", ["uint8", "float32", "complex64", "complex128"])
@pytest.mark.parametrize("kernel_type", COMPLEX)
def test_correlate1d_with_a_complex_kernel_equals_scipy(mode, source_type, kernel_type):
    source = sample(source_type, (40, 7), seed=1)
    kernel = np.array([1 + 2j, -0.5j, 3], dtype=kernel_type)
    cval = 2 - 1j if source_type in COMPLEX else 2.0
    for axis in (0, 1):
        options = {"axis": axis, "mode": mode, "cval": cval}
        assert_identical(
            megalith.correlate1d(source, kernel, **options), reference.correlate1d(source, kernel, **options)
        )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_correlate1d_gives_the_same_for_every_number_of_threads(layout, axis, dtype):
    source = LAYOUTS[layout](sample(dtype, shape_of(LARGE, 3)))
    kernel = KERNELS["any"]
    one, two, eight = (megalith.correlate1d(source, kernel, axis=axis, processes=n) for n in (1, 2, 8))
    assert_identical(one, reference.correlate1d(source, kernel, axis=axis))
    assert_identical(two, one)
    assert_identical(eight, one)


@pytest.mark.parametrize("source", TYPES)
@pytest.mark.parametrize("kernel", TYPES)
def test_correlate1d_gives_the_type_numpy_would_give_source_and_kernel(source, kernel):
    got = megalith.correlate1d(np.ones(4, dtype=source), np.ones(3, dtype=kernel))
    assert got.dtype == np.result_type(source, kernel)


@pytest.mark.parametrize("dtype", INTS)
def test_correlate1d_truncates_and_wraps_whole_results_as_scipy(dtype):
    source = np.array([0.0, -0.5, 0.9, -1.9, 127.9, 128.5, 255.99, 256.0, -129.0, 3e4, 7e4, -7e4, 3e9, -3e9, 1e10])
    source = np.concatenate([source, [1e19, -1e19, 1.8e19, 1e30, -1e30, np.nan, np.inf, -np.inf, 2.0**63, 2.0**64]])
    kernel = np.array([1.0])
    assert_identical(
        megalith.correlate1d(source, kernel, dtype=dtype), reference.correlate1d(source, kernel, dtype=dtype)
    )


def test_correlate1d_takes_a_list_as_kernel():
    assert megalith.correlate1d(np.array([1, 2, 3]), [1, 1]).tolist() == [1, 3, 5]


def test_correlate1d_constant_zero_is_the_default():
    assert megalith.correlate1d(np.array([1.0, 1.0]), [1.0, 1.0, 1.0]).tolist() == [2.0, 2.0]


def test_correlate1d_filters_the_first_axis_by_default():
    source = np.array([[1, 2], [3, 4]])
    assert megalith.correlate1d(source, [0, 1, 1]).tolist() == [[4, 6], [3, 4]]


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("layout", SINK_LAYOUTS)
@pytest.mark.parametrize("axis", [0, 1])
def test_correlate1d_in_place_equals_correlate1d(dtype, layout, axis):
    source = SINK_LAYOUTS[layout](sample(dtype, (300, 41)))
    expected = reference.correlate1d(source, KERNELS["any"], axis=axis, mode="reflect", dtype=dtype)
    assert megalith.correlate1d(source, KERNELS["any"], source, axis=axis, mode="reflect") is source
    assert_identical(source, expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_correlate1d_in_place_on_two_threads_equals_correlate1d(axis):
    source = sample("float32", shape_of(LARGE, 3))
    expected = reference.correlate1d(source, KERNELS["any"], axis=axis, dtype="float32")
    megalith.correlate1d(source, KERNELS["any"], source, axis=axis, processes=2)
    assert_identical(source, expected)


@pytest.mark.parametrize(
    "slices", [(slice(0, 50), slice(1, 51)), (slice(0, 50), slice(49, None, -1)), (slice(0, 50), slice(0, 100, 2))]
)
def test_correlate1d_refuses_a_sink_that_overlaps_the_source_in_part(slices):
    memory = np.zeros(100)
    with pytest.raises(LayoutError, match="memory"):
        megalith.correlate1d(memory[slices[0]], [1.0, 2.0], memory[slices[1]])


def test_correlate1d_refuses_a_sink_in_the_same_memory_of_another_type():
    memory = np.zeros(100, dtype=np.float32)
    with pytest.raises(LayoutError):
        megalith.correlate1d(memory, [1.0, 2.0], memory.view(np.int32))


def test_correlate1d_into_a_kernel_does_not_change_what_it_reads():
    source, kernel = np.arange(5.0), np.arange(1.0, 6.0)
    expected = reference.correlate1d(source, kernel)
    try:
        got = megalith.correlate1d(source, kernel, kernel)
    except LayoutError:
        assert kernel.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    else:
        assert_identical(got, expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("mode", ["constant", "nearest", "reflect", "mirror", "wrap"])
@pytest.mark.parametrize(("dtype", "to"), [("f4", "f4"), ("u2", "u2"), ("u2", "f4"), ("i1", "i1"), ("u1", "f4")])
def test_correlate1d_fast_stays_within_single_precision(dtype, to, axis, mode):
    source = (np.random.default_rng(0).random((40, 9, 333)) * 100).astype(dtype)
    kernel = np.hanning(33)[1:-1] / 16
    got = megalith.correlate1d(source, kernel, axis=axis, dtype=to, mode=mode, fast=True)
    exact = reference.correlate1d(source, kernel, axis=axis, dtype=np.float64, mode=mode)
    # So many roundings of sums that are below 100; integers are truncated.
    error = 34 * 2.0**-24 * 100
    assert got.dtype == to
    if got.dtype.kind == "f":
        np.testing.assert_allclose(got, exact, rtol=0, atol=error)
    else:
        assert np.all((got == (exact - error).astype(to)) | (got == (exact + error).astype(to)))


def test_correlate1d_fast_spreads_what_is_not_finite_no_further_than_the_kernel_reaches():
    source = np.ones((50, 3, 300), dtype=np.float32)
    source[20, 1, 150], source[25, 2, 10] = np.nan, np.inf
    kernel = np.r_[np.full(4, 0.125), 0, np.full(4, 0.125)]
    for axis in range(3):
        got = megalith.correlate1d(source, kernel, axis=axis, dtype="f4", mode="mirror", fast=True)
        expected = reference.correlate1d(source, kernel, axis=axis, mode="mirror")
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8"])
@pytest.mark.parametrize("fast", [False, True])
def test_correlate1d_of_rows_that_lie_a_power_of_two_apart(dtype, fast):
    # All rows want the same lines of the caches, which is dealt with in ways of its own.
    whole = (np.random.default_rng(0).random((70, 1 << 17)) * 100).astype(dtype)
    kernel = np.hanning(33)[1:-1] / 16
    for width in (64, 300):
        source, sink = whole[:, :width], np.empty_like(whole)[:, -width:]
        got = megalith.correlate1d(source, kernel, sink, mode="reflect", fast=fast)
        expected = reference.correlate1d(source, kernel, mode="reflect", dtype=dtype)
        if fast and dtype != "f8":
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1 if dtype[0] == "u" else 0)
        else:
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
@pytest.mark.parametrize(("shape", "axis"), [((44, 512, 512), 0), ((44, 520, 512), 0), ((120, 44, 2048), 1)])
@pytest.mark.parametrize(("taps", "mode"), [(7, "wrap"), (10, "mirror"), (11, "constant"), (31, "reflect")])
def test_correlate1d_of_large_images_that_are_a_power_of_two_wide(dtype, shape, axis, taps, mode):
    # Rows are copied to where they do not want the same lines of the caches.
    source = (np.random.default_rng(0).random(shape) * 1000).astype(dtype)
    kernel = np.random.default_rng(1).random(taps) if taps == 10 else np.hanning(taps + 2)[1:-1] / taps
    options = {"axis": axis, "mode": mode, "cval": 1, "origin": 2}
    expected = reference.correlate1d(source, kernel, dtype=dtype, **options)
    np.testing.assert_array_equal(megalith.correlate1d(source, kernel, dtype=dtype, **options), expected)
    swapped = np.empty(shape, np.dtype(dtype).newbyteorder())
    np.testing.assert_array_equal(megalith.correlate1d(source, kernel, swapped, **options), expected)


@pytest.mark.parametrize(("shape", "axis"), [((300_000,), 0), ((3_000, 70), 0), ((3, 70_001), 1), ((40, 30, 50), 1)])
def test_correlate1d_fast_is_the_same_for_any_number_of_threads(shape, axis):
    source = np.random.default_rng(5).normal(size=shape).astype("f4")
    kernel = np.arange(31) / 465
    one = megalith.correlate1d(source, kernel, axis=axis, dtype="f4", mode="reflect", processes=1, fast=True)
    for threads in (2, 8):
        got = megalith.correlate1d(source, kernel, axis=axis, dtype="f4", mode="reflect", processes=threads, fast=True)
        assert_identical(got, one)


def test_correlate1d_fast_is_as_exact_as_ever_for_doubles():
    source = np.random.default_rng(0).random((40, 70))
    kernel = np.hanning(33)[1:-1]
    for axis in range(2):
        expected = reference.correlate1d(source, kernel, axis=axis, mode="constant")
        assert_identical(megalith.correlate1d(source, kernel, axis=axis, fast=True), expected)


@pytest.mark.parametrize("kernel", [[], [[1.0]], 1.0])
def test_correlate1d_refuses_a_kernel_that_is_empty_or_not_a_list(kernel):
    with pytest.raises(ShapeError, match="kernel"):
        megalith.correlate1d(np.ones(3), kernel)


@pytest.mark.parametrize("axis", [2, -3])
def test_correlate1d_refuses_an_axis_the_source_does_not_have(axis):
    with pytest.raises(ShapeError, match="axis"):
        megalith.correlate1d(np.ones((2, 2)), [1.0], axis=axis)


def test_correlate1d_refuses_an_array_without_axes():
    with pytest.raises(ShapeError):
        megalith.correlate1d(np.array(1.0), [1.0])


@pytest.mark.parametrize(("taps", "origin"), [(3, 2), (3, -2), (4, 2), (4, -3), (1, 1)])
def test_correlate1d_refuses_an_origin_outside_of_the_kernel(taps, origin):
    with pytest.raises(ArgumentError, match="origin"):
        megalith.correlate1d(np.ones(9), np.ones(taps), origin=origin)


def test_correlate1d_refuses_an_unknown_mode_and_names_those_it_knows():
    with pytest.raises(ArgumentError, match=r"(?s)symmetric.*mirror"):
        megalith.correlate1d(np.ones(9), np.ones(3), mode="symmetric")


def test_correlate1d_refuses_a_complex_value_beyond_the_edge_of_a_real_source():
    with pytest.raises((ArgumentError, DTypeError)):
        megalith.correlate1d(np.ones(9), np.ones(3, dtype=complex), cval=1j)


@pytest.mark.parametrize("dtype", ["datetime64[s]", "timedelta64[s]", "object", "S2", "longdouble"])
def test_correlate1d_refuses_types_without_a_double(dtype):
    with pytest.raises(DTypeError):
        megalith.correlate1d(np.zeros(4, dtype=dtype), [1.0])


def test_correlate1d_refuses_a_real_sink_for_complex_numbers():
    with pytest.raises(DTypeError):
        megalith.correlate1d(np.ones(4, dtype=complex), [1.0], np.empty(4))


def test_correlate1d_refuses_a_sink_of_another_shape():
    with pytest.raises(ShapeError):
        megalith.correlate1d(np.ones((2, 3)), [1.0], np.empty((3, 2)))


def test_correlate1d_refuses_a_sink_and_another_type():
    with pytest.raises((ArgumentError, DTypeError)):
        megalith.correlate1d(np.ones(3), [1.0], np.empty(3), dtype=np.float32)


def test_correlate1d_refuses_a_read_only_sink():
    sink = np.empty(3)
    sink.flags.writeable = False
    with pytest.raises(LayoutError):
        megalith.correlate1d(np.ones(3), [1.0], sink)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_correlate1d_from_a_path_into_a_path_gives_a_memmap_of_the_file(tmp_path, axis):
    source = sample("int16", shape_of(LARGE, 3))
    np.save(tmp_path / "in.npy", source)
    got = megalith.correlate1d(tmp_path / "in.npy", KERNELS["any"], tmp_path / "out.npy", axis=axis, dtype="float32")
    assert isinstance(got, np.memmap)
    expected = reference.correlate1d(source, KERNELS["any"], axis=axis, dtype="float32")
    assert_identical(np.load(tmp_path / "out.npy"), expected)


def test_correlate1d_along_three_axes_is_a_gaussian_filter():
    source = np.random.default_rng(4).random((50, 60, 70)).astype(np.float32)
    x = np.arange(-4, 5)
    kernel = np.exp(-0.5 * x**2)
    kernel /= kernel.sum()
    got = source
    for axis in range(3):
        got = megalith.correlate1d(got, kernel, axis=axis, mode="reflect", dtype=np.float32)
    assert_identical(got, scipy.ndimage.gaussian_filter(source, 1.0, truncate=4.0))


def test_correlate1d_between_two_mappings_of_one_file_is_right_or_refused(tmp_path):
    values = np.random.default_rng(0).random(LARGE)
    np.save(tmp_path / "a.npy", values)
    source, sink = np.load(tmp_path / "a.npy", mmap_mode="r"), np.load(tmp_path / "a.npy", mmap_mode="r+")
    try:
        got = megalith.correlate1d(source, KERNELS["any"], sink)
    except LayoutError:
        return
    assert_identical(np.asarray(got), reference.correlate1d(values, KERNELS["any"]))


@pytest.mark.parametrize("value", [1 + 2**-11 + 2**-40, 2049.0000001, 65519.9999999, 2.0**-25 + 2.0**-60])
def test_correlate1d_rounds_to_half_precision_once(value):
    source = np.array([value])
    assert_identical(megalith.correlate1d(source, [1.0], dtype=np.float16), source.astype(np.float16))

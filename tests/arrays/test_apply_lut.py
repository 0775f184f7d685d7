"""`apply_lut` is `lut[source]`, checked."""

import numpy as np
import pytest

import megalith
from megalith.exceptions import ArgumentError, DTypeError, IndexRangeError, LayoutError, ShapeError
from megalith.testing import reference
from megalith.testing.cases import ALL, BLOCK, BOOL, INTS, LARGE, SIZES, assert_identical, pairs, sample, shape_of
from megalith.testing.layouts import LAYOUTS, SINK_LAYOUTS, empty_like_layout

SOURCES = INTS + BOOL
MODES = ("raise", "clip", "wrap")
CASES = pairs(
    {
        "dtype": SOURCES,
        "lut": ALL,
        "layout": list(LAYOUTS),
        "lut_layout": list(LAYOUTS),
        "sink": [None, *SINK_LAYOUTS],
        "ndim": range(6),
        "size": SIZES,
        "threads": (1, 2, 8),
        "blocks": (1, 3, 1000),
        "mode": MODES,
    },
    excluded=lambda c: c.get("ndim") == 0 and c.get("size", 1) != 1,
)


def indices(dtype, shape, n, seed=1):
    """Valid indices of a table of `n` entries."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.integers(0, 256, shape, dtype=np.uint8).view(np.bool_)
    return rng.integers(0, min(n, np.iinfo(dtype).max + 1), shape).astype(dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c.values())))
def test_apply_lut_equals_indexing_for_every_pair_of_conditions(case):
    shape = shape_of(case["size"], case["ndim"])
    source = LAYOUTS[case["layout"]](
        indices(case["dtype"], shape, 113) if case["mode"] == "raise" else sample(case["dtype"], shape)
    )
    lut = LAYOUTS[case["lut_layout"]](sample(case["lut"], (113,)))
    expected = reference.apply_lut(source, lut, mode=case["mode"])
    sink = None if case["sink"] is None else empty_like_layout(case["sink"], shape, lut.dtype)
    before = source.tobytes(), lut.tobytes()
    got = megalith.apply_lut(source, lut, sink, case["blocks"], case["threads"], mode=case["mode"])
    assert sink is None or got is sink
    assert_identical(got, expected)
    assert before == (source.tobytes(), lut.tobytes())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("lut", ["uint8", "float32", "complex128"])
def test_apply_lut_gives_the_same_for_every_number_of_threads(layout, lut):
    source = LAYOUTS[layout](indices("uint16", shape_of(LARGE, 3), 5000))
    table = sample(lut, (5000,))
    one, two, eight = (megalith.apply_lut(source, table, processes=n) for n in (1, 2, 8))
    assert_identical(one, reference.apply_lut(source, table))
    assert_identical(two, one)
    assert_identical(eight, one)


@pytest.mark.parametrize("dtype", SOURCES)
def test_apply_lut_of_a_table_of_every_value_of_a_byte(dtype):
    source = indices(dtype, (LARGE,), 256)
    table = np.random.default_rng(0).integers(0, 256, 256, dtype=np.uint8)
    assert_identical(megalith.apply_lut(source, table), reference.apply_lut(source, table))


@pytest.mark.parametrize(
    "item",
    [
        np.dtype([("a", "u1"), ("b", "<f4")]),
        np.dtype([("a", "<i8"), ("b", "<c16"), ("c", "u1", (3,))]),
        np.dtype("S3"),
        np.dtype("U5"),
        np.dtype("V7"),
        np.dtype("V64"),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [100, LARGE // 8])
def test_apply_lut_moves_items_of_any_size(item, size):
    source = indices("uint8", (size,), 50)
    bytes_ = np.random.default_rng(3).integers(1, 100, 50 * item.itemsize, dtype=np.uint8)
    table = np.zeros(50, dtype=item)
    if item.kind in "SU":
        table[:] = [f"t{i}" for i in range(50)]
    else:
        table = bytes_.view(item)
    got = megalith.apply_lut(source, table)
    assert got.dtype == item
    assert got.tobytes() == table[source].tobytes()


@pytest.mark.parametrize("lut", ["float16", "float32", "float64", "complex64", "complex128"])
def test_apply_lut_moves_nan_with_its_payload(lut):
    raw = np.random.default_rng(0).integers(0, 256, 16 * np.dtype(lut).itemsize, dtype=np.uint8)
    raw.reshape(16, -1)[:, -2:] = (0xF4, 0x7F)
    table = raw.view(lut)
    source = np.arange(16, dtype=np.uint8)
    assert megalith.apply_lut(source, table).tobytes() == table.tobytes()


@pytest.mark.parametrize("dtype", SOURCES)
@pytest.mark.parametrize("mode", ["clip", "wrap"])
@pytest.mark.parametrize("n", [1, 2, 7, 128, 300])
def test_apply_lut_clips_and_wraps_every_value_as_take(dtype, mode, n):
    source = sample(dtype, (700,), density=0.9)
    table = sample("int32", (n,), seed=5)
    got = megalith.apply_lut(source, table, mode=mode)
    assert_identical(got, reference.apply_lut(source, table, mode=mode))
    if np.dtype(dtype).itemsize <= 2:  # NumPy wraps by adding the size again and again: years for 64 bits
        plain = source.view(np.uint8) != 0 if dtype == "bool" else source
        assert_identical(got, np.take(table, plain.astype(np.int64), mode=mode))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "bool"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [1, 2, 126, 127, 128, 129, 254, 255, 256, 257])
def test_apply_lut_of_each_byte_by_tables_about_as_long_as_there_are_values(dtype, mode, n):
    tables = [sample(lut, (n,), seed=5) for lut in ("uint8", "float32", "complex128")]
    for byte in range(256):
        source = np.full(70, byte, np.uint8).view(dtype)
        plain = source != 0 if dtype == "bool" else source
        index = int(plain[0])
        for table in tables:
            if mode == "raise" and not 0 <= index < n:
                with pytest.raises(IndexRangeError):
                    megalith.apply_lut(source, table)
            else:
                expected = np.take(table, plain.astype(np.int64), mode=mode)
                assert_identical(megalith.apply_lut(source, table, mode=mode), expected)


@pytest.mark.parametrize("dtype", INTS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [5, LARGE])
def test_apply_lut_names_the_first_index_beyond_the_table_and_its_position(dtype, layout, size):
    values = np.zeros((size,), dtype=dtype)
    values[3:] = 100
    source = LAYOUTS[layout](values) if layout != "broadcast" else np.broadcast_to(values[3:4], (5,))
    first = 0 if layout == "broadcast" else 3
    with pytest.raises(IndexRangeError, match=rf"\b100\b.*\b{first}\b") as caught:
        megalith.apply_lut(source, np.zeros(100), processes=2)
    assert isinstance(caught.value, IndexError)


def test_apply_lut_names_the_first_bad_index_of_a_large_array_on_any_number_of_threads():
    source = np.zeros(shape_of(LARGE, 2), dtype=np.int16)
    source.reshape(-1)[BLOCK + 17 :: BLOCK] = np.arange(300, 300 + len(source.reshape(-1)[BLOCK + 17 :: BLOCK]))
    where = tuple(int(i) for i in np.unravel_index(BLOCK + 17, source.shape))
    for threads in (1, 2, 8):
        with pytest.raises(IndexRangeError, match=rf"\b300\b.*\b{where[0]}\b.*\b{where[1]}\b"):
            megalith.apply_lut(source, np.zeros(256), processes=threads)


@pytest.mark.parametrize("dtype", [name for name in INTS if name.startswith("i")])
def test_apply_lut_refuses_negative_indices(dtype):
    with pytest.raises(IndexRangeError, match="-1"):
        megalith.apply_lut(np.array([0, -1], dtype=dtype), np.arange(5))


def test_apply_lut_refuses_the_largest_unsigned_index():
    with pytest.raises(IndexRangeError, match=str(2**64 - 1)):
        megalith.apply_lut(np.array([2**64 - 1], dtype=np.uint64), np.arange(5))


def test_apply_lut_refuses_true_for_a_table_of_one_entry():
    with pytest.raises(IndexRangeError):
        megalith.apply_lut(np.array([False, True]), np.arange(1))


@pytest.mark.parametrize("mode", MODES)
def test_apply_lut_of_an_empty_table_is_an_index_error_unless_nothing_is_looked_up(mode):
    with pytest.raises(IndexRangeError):
        megalith.apply_lut(np.zeros(1, dtype=np.uint8), np.zeros(0), mode=mode)
    assert megalith.apply_lut(np.zeros((0, 3), dtype=np.uint8), np.zeros(0, np.float32), mode=mode).shape == (0, 3)


def test_apply_lut_with_a_bad_index_writes_nothing_beyond_its_sink():
    memory = np.full(LARGE + 2000, 0xEE, dtype=np.uint8)
    source = np.full(LARGE, 200, dtype=np.uint8)
    with pytest.raises(IndexRangeError):
        megalith.apply_lut(source, np.zeros(10, dtype=np.uint8), memory[1000:-1000], processes=2)
    assert (memory[:1000] == 0xEE).all()
    assert (memory[-1000:] == 0xEE).all()


@pytest.mark.parametrize("layout", SINK_LAYOUTS)
def test_apply_lut_leaves_the_gaps_of_a_strided_sink_alone(layout):
    source = indices("uint8", (30, 7), 9)
    sink = empty_like_layout(layout, source.shape, "int16")
    base = sink if sink.base is None else sink.base
    while base.base is not None:
        base = base.base
    mask = np.zeros(base.shape, dtype=base.dtype)
    mask.view(np.uint8)[...] = 0
    raw = np.frombuffer(base, dtype=np.uint8) if base.flags.c_contiguous else base.reshape(-1, order="A").view(np.uint8)
    untouched = raw.copy()
    megalith.apply_lut(source, np.arange(9, dtype=np.int16), sink)
    changed = np.flatnonzero(raw != untouched)
    start = sink.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    owned = {
        start + sum(i * s for i, s in zip(place, sink.strides, strict=True)) + k
        for place in np.ndindex(*sink.shape)
        for k in range(2)
    }
    assert set(changed.tolist()) <= owned


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64"])
@pytest.mark.parametrize("layout", SINK_LAYOUTS)
@pytest.mark.parametrize("size", [100, LARGE])
def test_apply_lut_in_place_equals_apply_lut(dtype, layout, size):
    source = SINK_LAYOUTS[layout](indices(dtype, shape_of(size, 2), 100))
    table = np.random.default_rng(2).permutation(100).astype(dtype)
    expected = reference.apply_lut(source, table)
    assert megalith.apply_lut(source, table, source, processes=2) is source
    assert_identical(source, expected)


@pytest.mark.parametrize("shift", [1, 8, -8])
def test_apply_lut_refuses_a_sink_that_overlaps_the_source_in_part(shift):
    memory = np.zeros(100, dtype=np.uint8)
    source, sink = memory[10:60], memory[10 + shift : 60 + shift]
    with pytest.raises(LayoutError, match="memory"):
        megalith.apply_lut(source, np.arange(9, dtype=np.uint8), sink)


def test_apply_lut_refuses_a_wider_view_of_its_own_memory_as_sink():
    memory = np.zeros(64, dtype=np.uint8)
    with pytest.raises(LayoutError):
        megalith.apply_lut(memory[:8], np.arange(9), memory.view(np.int64))


def test_apply_lut_accepts_a_sink_interleaved_with_the_source():
    memory = np.zeros((50, 2), dtype=np.uint8)
    memory[:, 0] = 3
    megalith.apply_lut(memory[:, 0], np.arange(9, dtype=np.uint8)[::-1].copy(), memory[:, 1])
    assert (memory == [3, 5]).all()


@pytest.mark.parametrize(("lut", "sink"), [("uint8", "int16"), ("int16", "float32"), ("float32", "complex128")])
def test_apply_lut_casts_safely_into_a_wider_sink(lut, sink):
    source = indices("uint8", (40, 5), 100)
    table = sample(lut, (100,))
    got = megalith.apply_lut(source, table, np.empty((40, 5), dtype=sink))
    assert_identical(got, table.astype(sink)[source])


@pytest.mark.parametrize(("lut", "sink"), [("int16", "uint8"), ("float64", "float32"), ("float32", "int64")])
def test_apply_lut_refuses_a_sink_that_would_lose_values(lut, sink):
    with pytest.raises(DTypeError):
        megalith.apply_lut(np.zeros(3, dtype=np.uint8), np.zeros(4, dtype=lut), np.empty(3, dtype=sink))


def test_apply_lut_refuses_a_sink_of_another_shape():
    with pytest.raises(ShapeError):
        megalith.apply_lut(np.zeros(6, dtype=np.uint8), np.zeros(4), np.empty((2, 3)))


def test_apply_lut_refuses_a_read_only_sink():
    sink = np.empty(3)
    sink.flags.writeable = False
    with pytest.raises(LayoutError):
        megalith.apply_lut(np.zeros(3, dtype=np.uint8), np.zeros(4), sink)


def test_apply_lut_refuses_a_sink_whose_elements_share_memory():
    sink = np.lib.stride_tricks.as_strided(np.empty(1), shape=(3,), strides=(0,), writeable=True)
    with pytest.raises(LayoutError):
        megalith.apply_lut(np.zeros(3, dtype=np.uint8), np.zeros(4), sink)


@pytest.mark.parametrize("dtype", ["float32", "complex64", "datetime64[s]", "timedelta64[s]", "object", "S2"])
def test_apply_lut_refuses_a_source_that_is_no_index(dtype):
    with pytest.raises(DTypeError):
        megalith.apply_lut(np.zeros(3, dtype=dtype), np.zeros(4))


def test_apply_lut_refuses_a_table_of_objects():
    with pytest.raises(DTypeError):
        megalith.apply_lut(np.zeros(3, dtype=np.uint8), np.array([None, None]))


@pytest.mark.parametrize("shape", [(), (2, 2)])
def test_apply_lut_refuses_a_table_that_is_not_a_list(shape):
    with pytest.raises(ShapeError):
        megalith.apply_lut(np.zeros(3, dtype=np.uint8), np.zeros(shape))


def test_apply_lut_refuses_an_unknown_mode_and_names_those_it_knows():
    with pytest.raises(ArgumentError, match=r"(?s)nearest.*(raise|clip|wrap)"):
        megalith.apply_lut(np.zeros(3, dtype=np.uint8), np.zeros(4), mode="nearest")


def test_apply_lut_into_a_path_gives_a_memmap_of_the_file(tmp_path):
    source, table = indices("uint8", shape_of(LARGE, 3), 200), sample("float32", (200,))
    got = megalith.apply_lut(source, table, str(tmp_path / "out.npy"))
    assert isinstance(got, np.memmap)
    assert_identical(np.load(tmp_path / "out.npy"), table[source])


def test_apply_lut_of_a_path_reads_the_file(tmp_path):
    source, table = indices("uint16", shape_of(LARGE, 3), 200), sample("float64", (200,))
    np.save(tmp_path / "in.npy", source)
    assert_identical(megalith.apply_lut(str(tmp_path / "in.npy"), table, processes=2), table[source])


def test_apply_lut_with_a_bad_index_leaves_no_file(tmp_path):
    with pytest.raises(IndexRangeError):
        megalith.apply_lut(np.full(10, 9, dtype=np.uint8), np.zeros(4), tmp_path / "out.npy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [6, LARGE])
def test_apply_lut_refuses_to_write_over_its_table(size):
    table = np.arange(size)
    with pytest.raises(LayoutError, match="lut"):
        megalith.apply_lut(np.zeros(size, dtype=np.uint8), table, table)
    assert (table == np.arange(size)).all()


@pytest.mark.parametrize("ndim", [32, 33, 64])
def test_apply_lut_of_as_many_axes_as_numpy_has(ndim):
    assert megalith.apply_lut(np.ones((1,) * ndim, dtype=np.uint8), np.arange(3)).shape == (1,) * ndim


def test_apply_lut_between_two_mappings_of_one_file_is_right_or_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(LARGE) % 100)
    source, sink = np.load(tmp_path / "a.npy", mmap_mode="r"), np.load(tmp_path / "a.npy", mmap_mode="r+")[::-1]
    table = np.arange(100)[::-1].copy()
    expected = table[np.array(source)]
    try:
        got = megalith.apply_lut(source, table, sink)
    except LayoutError:
        return
    assert_identical(np.asarray(got), expected)

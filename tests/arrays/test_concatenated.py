"""`ConcatenatedArrays` is what `numpy.concatenate` would be, without the copy."""

import pickle
import tracemalloc
from pathlib import Path

import h5py
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import megalith
from megalith import ConcatenatedArrays
from megalith.arrays import blocks, concatenated
from megalith.exceptions import ArgumentError, DTypeError, IndexRangeError, LayoutError, ShapeError
from megalith.testing import reference
from megalith.testing.cases import assert_identical

LENGTHS = st.lists(st.integers(0, 7), min_size=1, max_size=5)


def numbers(n, rest, dtype="int16", start=0):
    """Rows that are all different."""
    shape = (n, *rest)
    return (np.arange(int(np.prod(shape))) + start).astype(dtype).reshape(shape)


def parts_of(lengths, rest, dtypes=("int16",)):
    """Arrays of these lengths, with values that go on from one to the next."""
    size = int(np.prod(rest))
    starts = np.cumsum([0, *lengths]) * size
    return [
        numbers(n, rest, dtypes[i % len(dtypes)], start)
        for i, (n, start) in enumerate(zip(lengths, starts[:-1], strict=True))
    ]


@st.composite
def positions(draw, n, shape):
    """An array of valid positions along an axis, as an array of some type or as lists."""
    size = int(np.prod(shape))
    values = draw(st.lists(st.integers(-n, n - 1), min_size=size, max_size=size)) if n else []
    array = np.array(values, dtype=draw(st.sampled_from(["int64", "int8", "int32"]))).reshape(shape if n else (0,))
    return draw(st.sampled_from([array, array.tolist()]))


@st.composite
def masks(draw, shape):
    size = int(np.prod(shape))
    values = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    mask = np.array(values, dtype=bool).reshape(shape)
    return draw(st.sampled_from([mask, mask.tolist()] if mask.ndim == 1 and mask.size else [mask]))


def slices(n):
    bound = st.none() | st.integers(-n - 3, n + 3)
    return st.builds(slice, bound, bound, st.none() | st.sampled_from([1, 2, 3, 9, -1, -2, -9]))


@st.composite
def items(draw, shape):
    """Whatever NumPy takes between the brackets of an array of this shape."""
    common = draw(st.sampled_from([(), (1,), (3,), (2, 3), (2, 1), (0,)]))
    entries = []
    axis = 0
    while axis < len(shape):
        n = shape[axis]
        kinds = (
            ["slice", "slice", "new", "stop", "array"] + (["int"] if n else []) + (["mask"] if not common[1:] else [])
        )
        kind = draw(st.sampled_from(kinds))
        if kind == "stop":
            break
        if kind == "new":
            entries.append(None)
            continue
        if kind == "slice":
            entries.append(draw(slices(n)))
        elif kind == "int":
            entries.append(draw(st.sampled_from([int, np.int16, np.array]))(draw(st.integers(-n, n - 1))))
        elif kind == "array":
            if common == ():
                continue
            shrunk = tuple(draw(st.sampled_from([m, 1])) if m else m for m in common)
            entries.append(draw(positions(n, shrunk)))
        else:
            width = draw(st.integers(1, len(shape) - axis))
            entries.append(draw(masks(shape[axis : axis + width])))
            axis += width - 1
        axis += 1
    if draw(st.booleans()):
        at = draw(st.integers(0, len(entries)))
        entries.insert(at, ...)
    if not entries or draw(st.integers(0, 9)):
        return entries[0] if len(entries) == 1 and draw(st.booleans()) else tuple(entries)
    return (*entries, draw(st.booleans()))


def taken(array, item):
    """What indexing gives: the array, or the class of the error."""
    try:
        return array[item]
    except (IndexError, ValueError) as error:
        return IndexError if isinstance(error, IndexError) else ValueError


@st.composite
def concatenations(draw):
    lengths = draw(LENGTHS)
    rest = draw(st.sampled_from([(), (3,), (1,), (0,), (2, 4), (2, 3, 2)]))
    dtypes = draw(st.sampled_from([("int16",), ("uint8", "float32"), (">i4", "int64", "complex64"), (">u2",)]))
    parts = parts_of(lengths, rest, dtypes)
    expected = np.concatenate(parts)
    kwargs = {}
    if rest and draw(st.booleans()):
        n = rest[-1]
        kwargs["cols"] = draw(slices(n) | positions(n, (draw(st.integers(0, 4)),)) | masks((n,)))
        expected = expected[..., kwargs["cols"]]
    if draw(st.booleans()):
        kwargs["scaling"] = draw(st.sampled_from([2, 0.5, np.float32(3), 1]))
        expected = expected * kwargs["scaling"]
    return parts, kwargs, expected, draw(items(expected.shape))


@pytest.fixture(params=[1, 20, concatenated.COPIED_BYTES])
def copied(request, monkeypatch):
    """Bytes of rows that are copied at a time."""
    monkeypatch.setattr(concatenated, "COPIED_BYTES", request.param)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=concatenations())
def test_every_index_gives_what_it_gives_of_the_concatenated_array(copied, case):
    parts, kwargs, expected, item = case
    whole = ConcatenatedArrays(parts, **kwargs)
    assert (whole.shape, whole.dtype, whole.ndim, whole.size) == (
        expected.shape,
        expected.dtype,
        expected.ndim,
        expected.size,
    )
    got, wanted = taken(whole, item), taken(expected, item)
    if isinstance(wanted, type):
        assert got is wanted
        return
    assert type(got) is type(wanted)
    assert_identical(np.asarray(got), np.asarray(wanted))


@given(case=concatenations())
def test_every_index_gives_the_same_of_files_and_datasets(case, tmp_path_factory):
    parts, kwargs, expected, item = case
    directory = tmp_path_factory.mktemp("parts")
    places = []
    with h5py.File(directory / "parts.h5", "w") as file:
        for i, part in enumerate(parts):
            np.save(directory / f"{i}.npy", np.asfortranarray(part) if i % 2 else part)
            if i % 3 == 0:
                places.append(directory / f"{i}.npy")
            elif i % 3 == 1:
                places.append(file.create_dataset(str(i), data=part))
            else:
                places.append(ConcatenatedArrays([part], cols=slice(None)) if part.ndim > 1 else part)
        got, wanted = taken(ConcatenatedArrays(places, **kwargs), item), taken(expected, item)
        if isinstance(wanted, type):
            assert got is wanted
        else:
            assert_identical(np.asarray(got), np.asarray(wanted))


def test_ix_takes_the_product_of_rows_and_columns():
    parts = parts_of((5, 0, 6, 2), (4, 3))
    item = np.ix_([12, 0, 5, 5], [3, 1], [0, 2, 1, 1])
    assert_identical(ConcatenatedArrays(parts)[item], np.concatenate(parts)[item])


def test_rows_are_iterated_over(monkeypatch):
    parts = parts_of((5, 0, 6), (3,))
    monkeypatch.setattr(concatenated, "ITERATED_BYTES", 16)
    assert [row.tolist() for row in ConcatenatedArrays(parts)] == np.concatenate(parts).tolist()
    assert len(ConcatenatedArrays(parts)) == 11


def test_numpy_makes_an_array_of_it_by_a_copy_only():
    parts = parts_of((5, 6), (3,))
    whole = ConcatenatedArrays(parts)
    assert_identical(np.asarray(whole), np.concatenate(parts))
    assert_identical(np.asarray(whole, dtype=np.float32), np.concatenate(parts).astype(np.float32))
    assert_identical(np.array(whole, copy=True), np.concatenate(parts))
    with pytest.raises(ValueError, match="without a copy"):
        np.array(whole, copy=False)


def test_a_result_is_never_a_view():
    part = numbers(6, (3,))
    ConcatenatedArrays([part])[2:4][:] = -1
    ConcatenatedArrays([part])[...][:] = -1
    assert_identical(part, numbers(6, (3,)))


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [(("uint8", "int8"), "int16"), (("int64", "uint64"), "float64"), (("bool", "bool"), "bool"), (("S2", "S5"), "S5")],
)
def test_the_dtype_is_that_of_concatenate(dtypes, expected):
    parts = [np.zeros(2, dtype) for dtype in dtypes]
    whole = ConcatenatedArrays(parts)
    assert whole.dtype == expected == np.concatenate(parts).dtype
    assert whole[:].dtype == expected


def test_records_and_dates_are_concatenated_too():
    parts = [np.zeros(2, "i4, f8"), np.ones(3, "i4, f8")]
    assert ConcatenatedArrays(parts)[1:4].tolist() == [(0, 0.0), (1, 1.0), (1, 1.0)]
    fields = ConcatenatedArrays(parts)["f1"]
    assert_identical(fields, np.concatenate(parts)["f1"])
    square = [part.reshape(-1, 1)[:, [0, 0]] for part in parts]
    assert_identical(ConcatenatedArrays(square, cols=[1])["f0"], np.concatenate(square)[:, [1]]["f0"])
    with pytest.raises(ValueError, match="no field of name"):
        ConcatenatedArrays(parts)["f9"]
    days = [np.array(["2024-02-29"], "M8[D]"), np.array(["2024-03-01T12"], "M8[h]")]
    assert_identical(ConcatenatedArrays(days)[:], np.concatenate(days))


def test_scaling_by_one_gives_the_type_of_the_product():
    assert ConcatenatedArrays([np.zeros(2, "int16")], scaling=1.0).dtype == np.float64
    assert ConcatenatedArrays([np.zeros(2, "int16")], scaling=1).dtype == np.int16


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([],), ArgumentError, "no array"),
        ((np.zeros((2, 3)),), ArgumentError, "expected a list of arrays"),
        (("a.npy",), ArgumentError, "expected a list of arrays"),
        (([np.zeros(2), np.float64(1)],), ShapeError, "array 1 has no axes"),
        (([np.zeros((2, 3)), np.zeros((2, 4))],), ShapeError, r"array 1 has shape \(2, 4\), the first one \(2, 3\)"),
        (([np.zeros((2, 3)), np.zeros(2)],), ShapeError, "array 1 has shape"),
        (([np.zeros(2), np.zeros(2, "M8[s]")],), DTypeError, "no type holds"),
        (([np.zeros(2)], [0]), ShapeError, "no columns"),
        (([np.zeros((2, 3))], 1), ArgumentError, "expected a slice or a list"),
        (([np.zeros((2, 3))], [3]), IndexRangeError, "3 is outside"),
        (([np.zeros(2, "u1")], None, 300), DTypeError, "300 does not multiply"),
        (([np.zeros(2)], None, [1, 2]), ArgumentError, "expected one number"),
    ],
)
def test_what_cannot_be_concatenated_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ConcatenatedArrays(*arguments)


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        (11, IndexRangeError, "11 is outside of axis 0 of length 11; valid are -11 to 10"),
        ((0, -4), IndexRangeError, "-4 is outside of axis 1"),
        ([3, 99], IndexRangeError, "99 is outside of axis 0"),
        ((0, 0, 0), IndexRangeError, "3 entries for an array of 2 dimensions"),
        ((..., ...), IndexRangeError, "at most one ellipsis"),
        (np.ones(4, bool), IndexRangeError, r"mask of shape \(4,\)"),
        (([1, 2], [0, 1, 2]), IndexRangeError, "cannot be broadcast"),
        (1.5, IndexRangeError, "expected whole numbers"),
        ("a", IndexRangeError, "expected whole numbers"),
        (slice(None, None, 0), ArgumentError, "step of zero"),
    ],
)
def test_a_bad_index_says_what_is_wrong(item, error, message):
    with pytest.raises(error, match=message):
        ConcatenatedArrays(parts_of((5, 6), (3,)))[item]


def test_it_is_read_only():
    with pytest.raises(LayoutError, match="read-only"):
        ConcatenatedArrays([np.zeros(3)])[0] = 1


def test_it_says_what_it_is():
    assert (
        repr(ConcatenatedArrays(parts_of((5, 6), (3,)))) == "ConcatenatedArrays(2 arrays, shape=(11, 3), dtype=int16)"
    )


def test_concatenations_of_concatenations_are_flat():
    inner = ConcatenatedArrays(parts_of((2, 3), (3,)))
    assert len(ConcatenatedArrays([inner, np.zeros((1, 3), "int16")]).parts) == 3
    scaled = ConcatenatedArrays([ConcatenatedArrays([inner], scaling=2), inner], cols=[2, 0])
    expected = np.concatenate([np.concatenate(parts_of((2, 3), (3,))) * n for n in (2, 1)])[:, [2, 0]]
    assert_identical(scaled[[9, 0, 4, -1]], expected[[9, 0, 4, -1]])
    assert_identical(megalith.correlate1d(scaled, [1, 2]), reference.correlate1d(expected, [1, 2]))


def resident_bytes(path):
    """Bytes of a file that this process has touched through mappings of it."""
    found, is_of = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()
        if "-" in head[0]:
            is_of = line.endswith(str(path))
        elif is_of and head[0] == "Rss:":
            found += int(head[1]) * 1024
    return found


AROUND = 1 << 20
"""Bytes that the kernel may map around one that is touched: pages come in large folios."""


@pytest.fixture
def recording(tmp_path):
    """Three mapped files of 8 MB, 64 channels."""
    paths = [tmp_path / f"{i}.npy" for i in range(3)]
    for i, path in enumerate(paths):
        np.save(path, np.full((62500, 64), i, np.int16))
    return paths, ConcatenatedArrays([np.load(path, mmap_mode="r") for path in paths])


@pytest.mark.parametrize(
    ("item", "touched"),
    [
        (70000, [0, 1, 0]),
        (slice(62000, 63000), [1, 1, 0]),
        ([5, 130000], [1, 0, 1]),
        ((slice(0, 40), [3, 60]), [1, 0, 0]),
        ((-1, ...), [0, 0, 1]),
        (slice(0, 0), [0, 0, 0]),
        (slice(None, None, 62500), [1, 1, 1]),
        (slice(70040, 69990, -1), [0, 1, 0]),
        (slice(None, None, -62500), [1, 1, 1]),
        (np.array([[125001, 125003], [-1, 187000]]), [0, 0, 1]),
        (([5, 130000], [3, 60]), [1, 0, 1]),
        (np.ix_([130000, 5], [3, 60]), [1, 0, 1]),
        (np.arange(187500) // 10 == 12, [1, 0, 0]),
        (np.zeros(187500, bool), [0, 0, 0]),
        ((np.arange(187500) == 62500, slice(None, None, -1)), [0, 1, 0]),
        ((None, slice(62400, 62600, 7), ..., 0), [1, 1, 0]),
    ],
    ids=str,
)
def test_only_pages_that_are_asked_for_are_read(recording, item, touched):
    paths, whole = recording
    before = [resident_bytes(path) for path in paths]
    wanted = np.asarray(whole[item])
    for path, old, share in zip(paths, before, touched, strict=True):
        read = resident_bytes(path) - old
        assert read <= share * (AROUND + 2 * wanted.nbytes), path
        assert (read > 0) == bool(share)


def test_of_a_dataset_boxes_are_read_that_hold_what_is_wanted(tmp_path, monkeypatch):
    read = []
    original = h5py.Dataset.__getitem__

    def spy(self, *args, **kwargs):
        values = original(self, *args, **kwargs)
        read.append(np.size(values))
        return values

    values = numbers(1000, (8,))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        parts = [file.create_dataset(name, data=values, chunks=(10, 8)) for name in "ab"]
        whole = ConcatenatedArrays(parts)
        monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
        for item, most in [
            (1500, 8),
            (slice(990, 1010), 160),
            ([3, 4, 1999], 24),
            ((slice(None), 2), 2000),
            ((7, 3), 1),
        ]:
            read.clear()
            assert np.array_equal(whole[item], np.concatenate([values, values])[item])
            assert sum(read) <= most, item


def test_every_kernel_streams_it(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "WINDOW_BYTES", 500)
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 9, (n, 7, 5)).astype(np.uint16) for n in (4, 0, 9, 1, 12)]
    values = np.concatenate(parts)
    for i, part in enumerate(parts):
        np.save(tmp_path / f"{i}.npy", part)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        mixed = [parts[0], tmp_path / "1.npy", file.create_dataset("a", data=parts[2]), np.asfortranarray(parts[3])]
        mixed.append(np.load(tmp_path / "4.npy", mmap_mode="r"))
        table, kernel = rng.random(9), np.ones((3, 3, 3), np.int64)
        turned = [np.asfortranarray(part) for part in parts]
        for whole in (ConcatenatedArrays(parts), ConcatenatedArrays(mixed), ConcatenatedArrays(turned)):
            assert_identical(megalith.where(whole), reference.where(values))
            assert_identical(megalith.block_sums(whole, 7), reference.block_sums(values, 7))
            assert_identical(megalith.block_counts(whole, 7), reference.block_counts(values, 7))
            assert_identical(megalith.apply_lut(whole, table), table[values])
            for axis in range(3):
                for mode in ("reflect", "wrap", "constant"):
                    got = megalith.correlate1d(whole, [1.0, 2.0, 0.5], axis=axis, mode=mode)
                    assert_identical(got, reference.correlate1d(values, [1.0, 2.0, 0.5], axis=axis, mode=mode))
            lut = np.arange(500)
            got = megalith.apply_lut_to_index(whole, kernel, lut)
            assert_identical(got, reference.apply_lut_to_index(values, kernel, lut))
            assert_identical(megalith.read(whole, slicing=(slice(3, 20), 2)).array, values[3:20, 2])
            assert_identical(megalith.read(whole, slicing=slice(None, None, -5)).array, values[::-5])
            megalith.write(tmp_path / "out.npy", whole)
            assert_identical(np.load(tmp_path / "out.npy"), values)
            target = np.zeros_like(values)
            megalith.write(target, whole)
            assert_identical(target, values)


def test_columns_and_scaling_are_streamed_too(monkeypatch):
    monkeypatch.setattr(blocks, "WINDOW_BYTES", 300)
    parts = parts_of((40, 60), (8,), ("int16", "uint8"))
    for cols in ([5, 0, 3], slice(6, None, -2), [2], []):
        whole = ConcatenatedArrays(parts, cols=cols, scaling=0.5)
        values = np.concatenate(parts)[:, cols] * 0.5
        assert_identical(
            megalith.correlate1d(whole, [1, 2, 1], axis=1), reference.correlate1d(values, [1, 2, 1], axis=1)
        )
        assert_identical(
            megalith.correlate1d(whole, [1, 2, 1], axis=0), reference.correlate1d(values, [1, 2, 1], axis=0)
        )
        assert_identical(megalith.where(whole, above=20), reference.where(values, above=20))


def test_kernels_hold_windows_and_not_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "WINDOW_BYTES", 1 << 20)
    paths = []
    for i in range(4):
        paths.append(tmp_path / f"{i}.npy")
        np.save(paths[-1], np.ones((1 << 16, 64), np.int16))
    whole = ConcatenatedArrays(paths, scaling=2)
    tracemalloc.start()
    sums = megalith.block_sums(whole, 10)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert int(sums.sum()) == 2 * whole.size
    assert most < 8 << 20 < whole.nbytes


def test_more_files_than_are_kept_open_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(concatenated, "OPEN_FILES", 3)
    for i in range(10):
        np.save(tmp_path / f"{i}.npy", np.full((3, 2), i))
    whole = ConcatenatedArrays([tmp_path / f"{i}.npy" for i in range(10)])
    expected = np.repeat(np.arange(10), 3)[:, None] * np.ones((1, 2), int)
    assert_identical(megalith.correlate1d(whole, [1, 1], axis=0), reference.correlate1d(expected, [1, 1], axis=0))


def test_a_sink_that_is_one_of_the_arrays_is_refused(tmp_path):
    part = np.zeros((4, 3))
    with pytest.raises(LayoutError, match="seen another way"):
        megalith.correlate1d(ConcatenatedArrays([part]), [1, 2], part)
    np.save(tmp_path / "a.npy", part)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r+")
    other = np.load(tmp_path / "a.npy", mmap_mode="r")
    for whole in (ConcatenatedArrays([mapped]), ConcatenatedArrays([other]), ConcatenatedArrays([tmp_path / "a.npy"])):
        with pytest.raises(LayoutError, match="seen another way"):
            megalith.correlate1d(whole, [1, 2], mapped)
        with pytest.raises(LayoutError, match="which is written into"):
            megalith.write(tmp_path / "a.npy", whole, slicing=...)
    assert megalith.correlate1d(ConcatenatedArrays([mapped]), [1, 2], np.ones((4, 3))).sum() == 0


def test_pickled_files_go_by_name_and_arrays_by_value(tmp_path):
    np.save(tmp_path / "a.npy", numbers(5000, (3,)))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    path = ConcatenatedArrays([tmp_path / "a.npy"])
    path[0]  # maps it
    for whole in (path, ConcatenatedArrays([mapped, mapped[100:]], cols=[1], scaling=2)):
        dumped = pickle.dumps(whole)
        assert len(dumped) < 2000
        assert_identical(pickle.loads(dumped)[...], whole[...])
    private = np.load(tmp_path / "a.npy", mmap_mode="c")
    private[0] = -1
    for part in (private, numbers(5, (3,)), mapped[::2]):
        again = pickle.loads(pickle.dumps(ConcatenatedArrays([part])))
        assert_identical(again[...], np.asarray(part))


def test_large_boxes_of_files_are_read_and_not_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(concatenated, "READ_BYTES", 100)
    parts = parts_of((40, 60), (8,))
    for i, part in enumerate(parts):
        np.save(tmp_path / f"{i}.npy", np.asfortranarray(part) if i else part)
    whole = ConcatenatedArrays([tmp_path / f"{i}.npy" for i in range(2)], scaling=2)
    for item in (slice(10, 90), (slice(10, 90), slice(2, 7)), (slice(10, 90), 3), ..., (None, slice(5, None))):
        assert_identical(whole[item], (np.concatenate(parts) * 2)[item])


def test_arrays_in_shared_memory_and_their_parts_are_concatenated():
    identifier = "megalith-test-concatenated"
    try:
        shared = megalith.shared.cache(identifier, numbers(5000, (3,)), verbose=False)
        whole = ConcatenatedArrays([shared, shared[:10]])
        expected = np.concatenate([numbers(5000, (3,)), numbers(10, (3,))])
        assert_identical(whole[4990:5005], expected[4990:5005])
        assert_identical(pickle.loads(pickle.dumps(whole))[...], expected)
    finally:
        megalith.shared.free(identifier)


def test_a_digest_is_of_the_arrays_the_columns_and_the_factor(tmp_path):
    parts = parts_of((400, 600), (8,))
    np.save(tmp_path / "0.npy", parts[0])
    digests = [
        megalith.records.digest(ConcatenatedArrays(arrays, cols=cols, scaling=scaling))
        for arrays in (parts, [tmp_path / "0.npy", parts[1]], parts[::-1])
        for cols in (None, [1, 2], slice(3))
        for scaling in (None, 2)
    ]
    assert digests[:6] == digests[6:12]
    assert len(set(digests)) == 12


def test_a_cached_function_knows_a_concatenation_by_its_content(tmp_path):
    cached = megalith.Context(tmp_path / "cache").cache(whole_sum)
    parts = parts_of((400, 600), (8,))
    assert not cached.cached(ConcatenatedArrays(parts))
    cached(ConcatenatedArrays(parts))
    assert cached.cached(ConcatenatedArrays([part.copy() for part in parts]))
    parts[1][3] = -1
    assert not cached.cached(ConcatenatedArrays(parts))


def whole_sum(whole):
    return megalith.block_sums(whole, 1)

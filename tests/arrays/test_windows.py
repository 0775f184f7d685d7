"""A file or dataset is read in windows; where they are cut makes no difference.

Windows are 64 MiB. Here they are a few bytes, so that small arrays are cut everywhere.
"""

import h5py
import numpy as np
import pytest

import megalith
from megalith.arrays import blocks
from megalith.exceptions import IndexRangeError
from megalith.testing import reference
from megalith.testing.cases import assert_identical
from megalith.testing.reference import MODES

SHAPES = [(70,), (9, 11), (5, 6, 7), (3, 4, 2, 5)]
PLACES = ["C file", "F file", "big-endian file", "chunks", "contiguous"]


@pytest.fixture(params=[1, 64, 1000, 5000])
def window(request, monkeypatch):
    """Bytes of a window."""
    monkeypatch.setattr(blocks, "WINDOW_BYTES", request.param)
    return request.param


@pytest.fixture(params=SHAPES, ids=str)
def values(request):
    """Small numbers, so that they are good indices."""
    return np.random.default_rng(1).integers(0, 9, request.param).astype(np.uint16)


@pytest.fixture(params=PLACES)
def source(request, values, tmp_path):
    """The values in a file or dataset."""
    if request.param.endswith("file"):
        laid = {"C": np.ascontiguousarray, "F": np.asfortranarray}.get(request.param[0], lambda a: a.astype(">u2"))
        np.save(tmp_path / "in.npy", laid(values))
        yield tmp_path / "in.npy"
    else:
        chunks = tuple(max(1, n // 2) for n in values.shape) if request.param == "chunks" else None
        with h5py.File(tmp_path / "in.h5", "w") as file:
            yield file.create_dataset("values", data=values, chunks=chunks)


def test_where_finds_the_same_in_every_window(window, source, values):
    assert_identical(megalith.where(source, cutoff=0), reference.where(values))
    assert_identical(megalith.where(source, cutoff=0, above=3), reference.where(values, above=3))


def test_block_sums_and_counts_are_the_same_in_every_window(window, source, values):
    for n in (1, 5, 1000):
        assert_identical(megalith.block_sums(source, n), reference.block_sums(values, n))
        assert_identical(megalith.block_counts(source, n), reference.block_counts(values, n))


def test_block_sums_of_floats_have_the_same_bits_in_every_window(window, tmp_path):
    floats = np.random.default_rng(0).standard_normal((40, 50))
    np.save(tmp_path / "floats.npy", floats)
    assert_identical(megalith.block_sums(tmp_path / "floats.npy", 3), megalith.block_sums(floats, 3))


def test_apply_lut_looks_the_same_up_in_every_window(window, source, values, tmp_path):
    table = np.random.default_rng(2).random(9)
    assert_identical(megalith.apply_lut(source, table), table[values])
    assert_identical(np.asarray(megalith.apply_lut(source, table, tmp_path / "out.npy")), table[values])


def test_apply_lut_names_the_first_bad_index_of_all_windows(window, source, values):
    for most in (3, 7, 8):
        first = tuple(int(i) for i in np.argwhere(values >= most)[0])
        with pytest.raises(IndexRangeError) as caught:
            megalith.apply_lut(source, np.zeros(most))
        assert (caught.value.index, tuple(caught.value.position)) == (values[first], first)


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_apply_lut_to_index_sums_across_the_edges_of_windows(window, source, values, side):
    kernel = np.random.default_rng(3).integers(0, 3, (side,) * values.ndim)
    table = np.arange(16 * side**values.ndim + 1)
    expected = reference.apply_lut_to_index(values, kernel, table)
    assert_identical(megalith.apply_lut_to_index(source, kernel, table), expected)


def test_apply_lut_to_index_sums_nothing_outside_of_its_windows(window, tmp_path):
    """A sum of half a neighbourhood, at the edge of what was read, is no index of the table."""
    values = np.arange(60).reshape(6, 10)
    values[0] = 0
    np.save(tmp_path / "in.npy", values)
    kernel, table = np.array([[0, -1], [0, 1]]), np.arange(20)
    expected = reference.apply_lut_to_index(values, kernel, table)
    assert_identical(megalith.apply_lut_to_index(tmp_path / "in.npy", kernel, table), expected)
    with pytest.raises(IndexRangeError) as caught:
        megalith.apply_lut_to_index(tmp_path / "in.npy", kernel, table[:11])
    assert (caught.value.index, tuple(caught.value.position)) == (11, (1, 1))


@pytest.mark.parametrize("mode", MODES)
def test_correlate1d_sums_across_the_edges_of_windows(window, source, values, mode):
    for axis in range(values.ndim):
        for kernel in ([1.0, 2.0, 0.5], [1, 2, 3, 4], list(range(12))):
            options = {"axis": axis, "mode": mode, "cval": 2.0}
            assert_identical(
                megalith.correlate1d(source, kernel, **options), reference.correlate1d(values, kernel, **options)
            )


def test_read_and_write_move_the_same_in_every_window(window, source, values, tmp_path):
    assert megalith.read(source).array.tolist() == values.tolist()
    assert megalith.write(tmp_path / "out.npy", source).array.tolist() == values.tolist()


@pytest.mark.parametrize("call", ["apply_lut", "correlate1d", "apply_lut_to_index"])
def test_a_sink_that_is_the_file_of_its_source_replaces_it_when_done(window, tmp_path, call):
    values = np.random.default_rng(4).integers(0, 9, (30, 40), dtype=np.uint8)
    path = tmp_path / "a.npy"
    np.save(path, values)
    kernel, table = np.ones((3, 3), dtype=np.int64), np.arange(99)
    if call == "apply_lut":
        megalith.apply_lut(path, table, path)
        expected = table[values]
    elif call == "correlate1d":
        megalith.correlate1d(path, [1.0, 2.0, 3.0], path)
        expected = reference.correlate1d(values, [1.0, 2.0, 3.0])
    else:
        megalith.apply_lut_to_index(path, kernel, table, path)
        expected = reference.apply_lut_to_index(values, kernel, table)
    assert_identical(np.load(path), expected)


def test_sums_beyond_the_edges_of_windows_are_not_looked_up(window, tmp_path):
    values = np.pad(np.ones(96, dtype=np.uint8), 4)
    kernel, table = np.array([1, -1, 1]), np.arange(2)  # a sum that lacks one of the ones is 0 - 1 or 2
    for dtype in (np.int64, np.float64):
        np.save(tmp_path / "a.npy", values.astype(dtype))
        with pytest.raises(IndexRangeError) as caught:
            megalith.apply_lut_to_index(tmp_path / "a.npy", 2 * kernel, table)
        assert (caught.value.index, caught.value.position) == (2, (3,))
        found = megalith.apply_lut_to_index(tmp_path / "a.npy", kernel, table)
        assert_identical(found, reference.apply_lut_to_index(values, kernel, table))

"""Chunks, excerpts and padding of recordings in memory, in files and in parts."""

import h5py
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from phylib.io import array as phylib_array

from megalith.arrays import ConcatenatedArrays, as_source, chunk_bounds, data_chunk, excerpts, get_excerpts, pad
from megalith.exceptions import ArgumentError, FormatError


@st.composite
def cuts(draw):
    n_samples, chunk_size = draw(st.integers(0, 300)), draw(st.integers(1, 120))
    return n_samples, chunk_size, draw(st.integers(0, chunk_size - 1))


@given(cuts())
def test_what_is_kept_of_chunks_is_the_recording_each_sample_once(cut):
    n_samples, chunk_size, overlap = cut
    chunks = list(chunk_bounds(n_samples, chunk_size, overlap))
    kept = [i for _, _, low, high in chunks for i in range(low, high)]
    assert kept == list(range(n_samples))
    for start, end, low, high in chunks:
        assert 0 <= start <= low <= high <= end <= n_samples
        assert end - start <= chunk_size


@given(cuts())
def test_chunks_are_those_of_phylib_where_these_stay_inside(cut):
    n_samples, chunk_size = cut[:2]
    if n_samples >= chunk_size:
        assert list(chunk_bounds(*cut)) == list(phylib_array.chunk_bounds(*cut))


def test_a_recording_shorter_than_a_chunk_is_one_chunk_and_an_empty_one_none():
    assert list(chunk_bounds(5, 100, 20)) == [(0, 5, 0, 5)]
    assert list(chunk_bounds(0, 100, 20)) == []


@given(st.integers(0, 500), st.integers(2, 20), st.integers(1, 60))
def test_excerpts_are_those_of_phylib(n_samples, n_excerpts, size):
    got = list(excerpts(n_samples, n_excerpts=n_excerpts, excerpt_size=size))
    assert got == list(phylib_array.excerpts(n_samples, n_excerpts=n_excerpts, excerpt_size=size))


@given(st.integers(0, 500), st.integers(0, 20), st.integers(1, 60))
def test_excerpts_are_apart_and_inside(n_samples, n_excerpts, size):
    bounds = list(excerpts(n_samples, n_excerpts, size))
    assert len(bounds) <= n_excerpts
    edges = [edge for bound in bounds for edge in bound]
    assert edges == sorted(edges)
    assert all(0 <= start < end <= n_samples and end - start <= size for start, end in bounds)
    assert get_excerpts(np.arange(n_samples), n_excerpts, size).tolist() == (
        list(range(n_samples))
        if n_samples < n_excerpts * size
        else [i for start, end in bounds for i in range(start, end)]
    )


def test_bounds_are_checked_at_the_call_and_not_at_the_first_chunk():
    for call in (
        lambda: chunk_bounds(100, 0),
        lambda: chunk_bounds(-1, 10),
        lambda: chunk_bounds(100, 10, overlap=10),
        lambda: chunk_bounds(100, 10, overlap=-1),
        lambda: excerpts(100, n_excerpts=3),
        lambda: excerpts(100, n_excerpts=-1, excerpt_size=3),
        lambda: excerpts(100, n_excerpts=2, excerpt_size=0),
        lambda: get_excerpts(np.zeros(3), excerpt_size=2),
    ):
        with pytest.raises(ArgumentError):
            call()


@pytest.mark.parametrize("rest", [(), (4,), (4, 2)])
def test_chunks_and_excerpts_are_the_same_of_arrays_maps_files_datasets_and_parts(tmp_path, rest):
    values = np.random.default_rng(0).random((200, *rest))
    np.save(tmp_path / "a.npy", values)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        places = [
            values,
            tmp_path / "a.npy",
            str(tmp_path / "a.npy"),
            np.load(tmp_path / "a.npy", mmap_mode="r"),
            as_source(tmp_path / "a.npy"),
            file.create_dataset("a", data=values),
            ConcatenatedArrays([values[:70], values[70:]]),
            values.tolist(),
        ]
        for data in places:
            assert np.array_equal(data_chunk(data, (80, 180, 90, 170)), values[90:170])
            assert np.array_equal(data_chunk(data, (80, 180, 90, 170), with_overlap=True), values[80:180])
            assert np.array_equal(data_chunk(data, (80, 180)), values[80:180])
            expected = np.concatenate([values[:9], values[95:104], values[190:199]])
            got = get_excerpts(data, n_excerpts=3, excerpt_size=9)
            assert np.array_equal(got, expected)
            assert got.dtype == expected.dtype
            assert np.array_equal(get_excerpts(data, n_excerpts=1, excerpt_size=7), values[:7])
            assert np.array_equal(get_excerpts(data, n_excerpts=50, excerpt_size=7), values)
            assert get_excerpts(data, n_excerpts=0, excerpt_size=7).shape == (0, *rest)


def test_a_chunk_of_an_array_is_a_view():
    values = np.arange(10)
    assert np.shares_memory(data_chunk(values, (2, 5)), values)


@pytest.mark.parametrize("chunk", [(0,), (0, 1, 2), ()])
def test_a_chunk_has_two_or_four_numbers(chunk):
    with pytest.raises(ArgumentError, match="expected \\(start, end\\)"):
        data_chunk(np.zeros(3), chunk)


@given(st.integers(0, 9), st.integers(0, 12), st.sampled_from(["left", "right"]))
def test_padding_adds_zeros_or_cuts_off_at_one_end(m, n, side):
    values = np.arange(1, 2 * m + 1, dtype=np.int16).reshape(m, 2)
    padded = pad(values, n, side)
    zeros = np.zeros((max(n - m, 0), 2), np.int16)
    if side == "right":
        expected = np.concatenate([values, zeros])[:n]
    else:
        expected = np.concatenate([zeros, values])[max(m - n, 0) :]
    assert padded.dtype == np.int16
    assert np.array_equal(padded, expected)


def test_padding_to_the_length_it_has_gives_the_very_array():
    values = np.zeros(3)
    assert pad(values, 3) is values


def test_padding_refuses_negative_lengths_and_other_directions():
    with pytest.raises(ArgumentError, match="n: got -1"):
        pad(np.zeros(3), -1)
    with pytest.raises(ArgumentError, match="dir: got 'up'"):
        pad(np.zeros(3), 4, "up")


def test_a_path_that_is_no_array_is_refused(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"nothing")
    with pytest.raises(FormatError):
        data_chunk(tmp_path / "a.npy", (0, 1))

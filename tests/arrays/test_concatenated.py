"""`ConcatenatedArrays` is what `numpy.concatenate` would be, without the copy."""

import pickle
import tracemalloc
from pathlib import Path

import h5py
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

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


@given(concatenations())
def test_every_index_gives_what_it_gives_of_the_concatenated_array(case):
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

"""The digest of an array: of its bytes in C order, whatever the layout, the threads and the types."""

from itertools import permutations

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from megalith import _core
from megalith.exceptions import DTypeError
from megalith.testing.cases import ALL, LARGE, sample
from megalith.testing.layouts import LAYOUTS
from megalith.testing.strategies import arrays

BLOCK = 1 << 16
SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 40 * BLOCK - 1, 40 * BLOCK + 1]
THREADS = [None, 1, 2, 3, 8]


def twin(array):
    """Return the digest by its definition."""
    data = array.tobytes()
    if len(data) <= BLOCK:
        return xxhash.xxh3_128_digest(data)
    nodes = [xxhash.xxh3_128_digest(data[i : i + BLOCK]) for i in range(0, len(data), BLOCK)]
    return xxhash.xxh3_128_digest(b"".join(nodes) + len(data).to_bytes(8, "big"), seed=1)


def noise(nbytes, seed=0):
    return np.random.default_rng(seed).integers(0, 256, nbytes, dtype=np.uint8)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("size", SIZES)
def test_digest_of_any_size_is_that_of_its_twin(size, threads):
    assert _core.digest(noise(size), threads) == twin(noise(size))


@given(arrays(), st.sampled_from(THREADS))
def test_digest_of_any_array_is_that_of_its_twin(array, threads):
    assert _core.digest(array, threads) == twin(array)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_digest_of_large_arrays_depends_on_the_bytes_in_c_order_only(layout, dtype):
    array = LAYOUTS[layout](sample(dtype, (LARGE // 8, 8)))
    assert {_core.digest(array, threads) for threads in THREADS} == {twin(array)}


SHAPES = [(3, 700_001), (700_001, 3), (70, 40_000), (1500, 1501), (2, 1000, 1001), (90, 80, 301), (5, 200, 2001)]


@pytest.mark.parametrize(
    "dtype", ["u1", "<u2", ">f4", "f8", "c16", "V3", "V12", [("a", "<i2"), ("b", "u1", 3)]], ids=str
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_digest_is_the_same_in_any_memory_order(shape, dtype):
    dtype = np.dtype(dtype)
    array = noise(dtype.itemsize * int(np.prod(shape))).view(dtype).reshape(shape)
    expected = twin(array)
    orders = permutations(range(array.ndim))
    views = [np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes)) for axes in orders]
    views.append(np.asfortranarray(array[::-1])[::-1])
    views.append(np.ascontiguousarray(array[..., ::-1])[..., ::-1])
    assert all(view.tobytes() == array.tobytes() for view in views)
    assert {_core.digest(view, threads) for view in views for threads in (1, 2)} == {expected}


@pytest.mark.parametrize("size", [1, 16, 240, 241, BLOCK, BLOCK + 1, 12 * BLOCK + 5])
def test_digest_changes_with_any_bit(size):
    data = noise(size)
    seen = {_core.digest(data)}
    places = {0, 1, size // 2, size - 1, BLOCK - 1, BLOCK, 8 * BLOCK} & set(range(size))
    for place in places:
        for bit in range(8):
            data[place] ^= 1 << bit
            seen.add(_core.digest(data))
            data[place] ^= 1 << bit
    assert len(seen) == 1 + 8 * len(places)


def test_digest_changes_when_blocks_change_places():
    data = noise(4 * BLOCK).reshape(4, BLOCK)
    assert _core.digest(data) != _core.digest(data[[1, 0, 2, 3]])


def test_zeros_of_different_lengths_have_different_digests():
    sizes = [*range(300), BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1, 3 * BLOCK]
    assert len({_core.digest(np.zeros(size, np.uint8)) for size in sizes}) == len(sizes)


def test_digest_of_a_tree_is_not_that_of_the_bytes_of_its_nodes():
    data = noise(3 * BLOCK)
    nodes = b"".join(xxhash.xxh3_128_digest(block.tobytes()) for block in data.reshape(3, BLOCK))
    assert _core.digest(data) != _core.digest_bytes(nodes + data.nbytes.to_bytes(8, "big"))


@pytest.mark.parametrize("size", SIZES)
def test_digest_of_bytes_is_that_of_an_array_of_them(size):
    data = noise(size)
    assert _core.digest_bytes(data.tobytes()) == _core.digest(data)


@pytest.mark.parametrize("order", ["C", "F"])
def test_digest_of_a_mapped_file_is_that_of_its_content(tmp_path, order):
    array = noise(LARGE * 4).view(np.float32).reshape(8, -1)
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    for mode in ("r", "r+", "c"):
        assert _core.digest(np.load(tmp_path / "a.npy", mmap_mode=mode)) == twin(array)


def test_digest_sees_what_is_written_through_a_mapping(tmp_path):
    np.save(tmp_path / "a.npy", noise(2 * BLOCK))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r+")
    before = _core.digest(mapped)
    mapped[BLOCK] ^= 1
    assert _core.digest(mapped) == twin(np.asarray(mapped)) != before


@pytest.mark.parametrize("dtype", ["O", [("a", "i4"), ("b", "O")], "T"], ids=str)
def test_types_that_hold_python_objects_are_refused(dtype):
    with pytest.raises(DTypeError, match="without Python objects"):
        _core.digest(np.empty(3, dtype))


def test_large_digests_tell_how_far_they_are():
    seen = []
    array = np.zeros((1 << 14, 1 << 13), np.uint32).T
    assert _core.digest(array, 1, seen.append) == _core.digest(array, 2)
    assert seen == sorted(seen)
    assert all(0 <= share <= 1 for share in seen)

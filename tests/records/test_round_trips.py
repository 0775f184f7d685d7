"""What is written comes back the same, and NumPy and zipfile read it too."""

import io
import json
import os
import zipfile
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from megalith import _core, records
from megalith.exceptions import ArgumentError, DTypeError
from megalith.records import archive, writing
from megalith.records.tree import flatten, unflatten
from megalith.testing.cases import LARGE
from megalith.testing.layouts import LAYOUTS
from megalith.testing.strategies import arrays
from megalith.testing.values import same, values


class Memory:
    """A file in memory that keeps to the offsets it is given."""

    def __init__(self, nbytes):
        self.data = bytearray(nbytes)

    def write(self, offset, data):
        assert offset + len(data) <= len(self.data)
        self.data[offset : offset + len(data)] = data

    def write_box(self, offset, shape, spans, source, processes=None, progress=None):
        assert spans == [(0, n) for n in shape]
        assert source.shape == shape
        self.write(offset, source.tobytes())


def names(directory):
    return [path.name for path in directory.iterdir()]


def written(value, **options):
    planned = records.plan(value, **options)
    memory = Memory(planned.nbytes)
    planned.write(memory)
    return planned.suffix, bytes(memory.data)


@given(values())
def test_any_value_comes_back_the_same(value):
    suffix, data = written(value)
    assert same(records.read(data, "a" + suffix, verify=True), value)


@given(values())
def test_numpy_and_zipfile_read_every_archive_and_arrays_are_aligned(value):
    _, data = written(value, suffix=".npz")
    tree, leaves = flatten(value)
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert found.testzip() is None
        members = found.namelist()
        assert members == [*(f"{i}.npy" for i in range(len(leaves))), "tree.json"]
        content = json.loads(found.read("tree.json"))
        assert content["value"] == tree
        assert content["xxh3"] == [xxhash.xxh3_64_hexdigest(found.read(name)) for name in members[:-1]]
    loaded = np.load(io.BytesIO(data), max_header_size=1 << 20)
    for i, leaf in enumerate(leaves):
        if leaf.dtype.itemsize and leaf.dtype.names is None:  # np.load makes U1 of U0
            assert same(loaded[str(i)], leaf)
    found = archive.parse(memoryview(data), "a.npz")
    for (offset, size), leaf in zip(found.members, leaves, strict=True):
        assert offset % 64 == (size - leaf.nbytes) % 64 == 0  # the member, and its elements


@given(arrays())
def test_a_single_array_is_the_file_that_numpy_saves(array):
    suffix, data = written(array)
    assert suffix == ".npy"
    assert same(np.load(io.BytesIO(data)), array)
    contiguous = np.array(array, order="K", copy=True)
    if contiguous.flags.forc:
        file = io.BytesIO()
        np.save(file, contiguous)
        assert written(contiguous)[1] == file.getvalue()


@given(values())
def test_unflatten_undoes_flatten_and_the_tree_is_plain_json(value):
    tree, leaves = flatten(value)
    again = json.loads(json.dumps(tree, allow_nan=False))
    assert again == tree
    assert same(unflatten(again, leaves), value)


def test_bytes_between_fields_are_kept_and_belong_to_the_checksum(tmp_path):
    dtype = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    for n in (6, 60_000):
        array = np.ndarray((n, 4), dtype)
        array.view("V16").reshape(-1).view(np.uint8)[:] = np.arange(n * 64) % 251
        for laid in (array, array.T, array[::2, ::-1], array[1:, 1]):
            path = records.save(tmp_path / "a", [laid, laid[0]])
            for mode in (None, "r"):
                assert same(records.load(path, mode, verify=True), [laid, laid[0]])


@given(values())
def test_equal_values_give_equal_bytes(value):
    assert written(value) == written(value)


@pytest.mark.parametrize("mmap_mode", [None, "r", "c"])
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_files_of_large_arrays_come_back_the_same(tmp_path, layout, mmap_mode):
    values = np.arange(LARGE, dtype=np.uint32).reshape(-1, 8)
    value = {"a": LAYOUTS[layout](values), "b": [np.arange(5), "x"], "c": np.empty((0, 3))}
    path = records.save(tmp_path / "a", value)
    assert path.name == "a.npz"
    back = records.load(path, mmap_mode, verify=True)
    assert same(back, value)
    assert same(records.load(records.save(tmp_path / "b.npy", value["a"]), mmap_mode), value["a"])
    order = "F" if value["a"].flags.f_contiguous else "C"
    assert back["a"].flags[f"{order}_CONTIGUOUS"]
    assert back["a"].ctypes.data % 64 == 0 or mmap_mode is None
    assert {array.flags.writeable for array in (back["a"], back["b"][0], back["c"])} == {mmap_mode != "r"}


@pytest.mark.parametrize("mmap_mode", ["r", "c"])
def test_mapped_arrays_are_memmaps_of_the_file(tmp_path, mmap_mode):
    path = records.save(tmp_path / "a", [np.arange(5), np.arange(6)])
    back = records.load(path, mmap_mode)
    assert all(type(array) is np.memmap and array.filename == str(path) for array in back)
    if mmap_mode == "c":
        back[0][:] = 7
    assert same(records.load(path), [np.arange(5), np.arange(6)])


def test_arrays_read_into_memory_are_writable_and_own_their_memory(tmp_path):
    small, large = np.arange(5), np.zeros(1 << 20)
    for value in ([small], [large], small, large):
        back = records.load(records.save(tmp_path / "a", value))
        array = back[0] if isinstance(back, list) else back
        assert array.flags.owndata
        assert array.flags.writeable


def test_read_gives_places_to_the_maker_of_arrays():
    value = [np.arange(6).reshape(2, 3).T, np.uint8([1])]
    suffix, data = written(value)
    places = []

    def make(offset, shape, dtype, order):
        places.append((offset % 64, shape, dtype, order))
        return np.ndarray(shape, dtype, data, offset, order=order)

    assert same(records.read(bytearray(data), "a" + suffix, make), value)
    assert places == [(0, (3, 2), np.dtype(int), "F"), (0, (1,), np.dtype("u1"), "C")]


def test_one_array_in_several_places_is_stored_once_and_comes_back_as_one():
    array = np.arange(1000)
    value = {"a": array, "b": [array, (array, array.copy())]}
    _, leaves = flatten(value)
    assert len(leaves) == 2
    back = records.read(written(value)[1], "a.npz")
    assert back["a"] is back["b"][0] is back["b"][1][0]
    assert back["a"] is not back["b"][1][1]


def test_types_of_keys_and_scalars_are_kept():
    value = {1: "int", "1": "str", 2.5: "float", None: "none", "t": True, "f": np.float64(0.1), "b": np.bool_(True)}
    back = records.read(written(value)[1], "a.npz")
    assert same(back, value)
    assert type(back["f"]) is np.float64
    assert type(back["b"]) is np.bool_
    assert type(records.read(written({True: 0})[1], "a.npz").popitem()[0]) is bool


def test_two_lone_surrogates_do_not_become_one_character():
    value = ["\ud83d\ude00", {"\ud83d\ude00": 1, "😀": 2}]
    assert same(records.read(written(value)[1], "a.npz"), value)


def test_integers_with_more_digits_than_python_prints_are_kept():
    value = {1 << 20_000: -(1 << 20_000)}
    back = records.read(written(value)[1], "a.npz")
    assert back == value


def test_subclasses_of_arrays_count_as_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(4))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    for array in (mapped, np.arange(4).view(np.matrix), np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])):
        back = records.read(written([array])[1], "a.npz")[0]
        assert type(back) is np.ndarray
        assert same(back, np.asarray(array))


def test_subclasses_of_arrays_are_refused_where_types_have_to_stay(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(4))
    records.plan([np.arange(4), np.load(tmp_path / "a.npy", mmap_mode="r")], exact=True)
    with pytest.raises(DTypeError, match=r"result\[1\]: a recarray, which would come back as a plain array"):
        records.plan([1, np.rec.array([(1, 2.0)])], exact=True)


def test_scalars_alone_are_records_too(tmp_path):
    for value in (None, 3, "text", np.float32(2), [], {}, ()):
        assert same(records.load(records.save(tmp_path / "a", value)), value)


def test_a_single_array_can_be_an_archive(tmp_path):
    path = records.save(tmp_path / "a.npz", np.arange(3))
    assert same(records.load(path, verify=True), np.arange(3))
    assert same(np.load(path)["0"], np.arange(3))


def test_suffixes_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(DTypeError, match="one array"):
        records.save(tmp_path / "a.npy", [1])
    with pytest.raises(ArgumentError, match="suffix"):
        records.plan([1], suffix=".pkl")
    with pytest.raises(ArgumentError, match="mmap_mode"):
        records.load(tmp_path / "a.npy", "r+")
    assert records.save(tmp_path / "v1.2", [1]).name == "v1.2.npz"
    assert names(tmp_path) == ["v1.2.npz"]


def test_a_value_that_cannot_be_kept_leaves_the_old_file(tmp_path):
    path = records.save(tmp_path / "a.npz", [1])
    with pytest.raises(DTypeError):
        records.save(path, [object()])
    assert records.load(path) == [1]
    assert names(tmp_path) == ["a.npz"]


def test_an_error_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing.Plan, "write", fail)
    with pytest.raises(KeyboardInterrupt):
        records.save(tmp_path / "a", [1])
    assert names(tmp_path) == []


def test_more_members_than_16_bits_count(tmp_path):
    value = [np.uint16([i % 1000]) for i in range(70_000)]
    path = records.save(tmp_path / "a", value)
    assert same(records.load(path), value)
    with zipfile.ZipFile(path) as found:
        assert len(found.infolist()) == 70_001
        assert found.read("69999.npy")[-2:] == np.uint16([999]).tobytes()


def test_members_and_offsets_beyond_4_gib(tmp_path, monkeypatch):
    """The file is sparse: the large array is neither summed nor written."""
    large = np.broadcast_to(np.uint8(0), (1 << 32) + 5)
    checksums = lambda prefix, items, *rest: (  # noqa: E731
        (0, 0) if items.nbytes == large.nbytes else _core.checksums(prefix, items, *rest)
    )
    monkeypatch.setattr(writing, "_core", SimpleNamespace(checksums=checksums))
    small = np.arange(20)
    planned = records.plan([small, large, small + 1])
    path = tmp_path / "a.npz"
    with path.open("wb") as file:
        file.truncate(planned.nbytes)

        class Sparse:
            def write(self, offset, data):
                os.pwrite(file.fileno(), data, offset)

            def write_box(self, *_):
                pass

        planned.write(Sparse())
    back = records.load(path, "r")
    assert same([back[0], back[2]], [small, small + 1])
    assert (back[1].shape, back[1].offset % 64, back[1][-1]) == (large.shape, 0, 0)
    with zipfile.ZipFile(path) as found:
        assert [info.file_size for info in found.infolist()[:3]] == [288, (1 << 32) + 5 + 128, 288]
        assert same(np.load(io.BytesIO(found.read("2.npy"))), small + 1)
        assert found.read("tree.json").startswith(b'{"format":"megalith.record"')


@given(arrays(), st.binary(max_size=300), st.sampled_from([None, 1, 2]))
def test_checksums_are_those_of_zlib_and_xxhash(array, prefix, processes):
    data = prefix + array.tobytes()
    assert _core.checksums(prefix, array, processes) == (zlib.crc32(data), xxhash.xxh3_64_intdigest(data))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_checksums_of_large_arrays_do_not_depend_on_threads(layout):
    array = LAYOUTS[layout](np.arange(LARGE, dtype=np.uint32).reshape(-1, 8))
    data = b"head" + array.tobytes()
    expected = (zlib.crc32(data), xxhash.xxh3_64_intdigest(data))
    assert [_core.checksums(b"head", array, threads) for threads in (1, 2, 8)] == [expected] * 3

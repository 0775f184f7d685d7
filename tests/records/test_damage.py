"""Damaged, truncated, lying and foreign files are errors of ours, never crashes and never other values."""

import contextlib
import io
import json
import os
import re
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megalith import records
from megalith.exceptions import DTypeError, FormatError, TruncatedFileError
from megalith.records import archive
from megalith.records.tree import _READERS, unflatten
from megalith.testing.values import same

VALUE = {"a": np.arange(6, dtype="i2").reshape(2, 3).T, 7: [1.5, "x", np.float32(2)], "t": (np.zeros((), "M8[s]"),)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return records.save(tmp_path_factory.mktemp("data") / "a", VALUE).read_bytes()


def read(data, *, verify=True):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return records.read(data, "a.npz", verify=verify)


def test_every_truncation_is_an_error(data):
    for n in range(len(data)):
        with pytest.raises(TruncatedFileError if n < 4 or data[:n].rfind(b"PK\5\6") < 0 else FormatError):
            read(data[:n])


def test_every_truncation_of_an_array_is_an_error(tmp_path):
    data = records.save(tmp_path / "a", np.arange(10)).read_bytes()
    for n in range(len(data)):
        with pytest.raises(FormatError):
            records.read(data[:n], "a.npy")


@pytest.mark.parametrize("flip", [*(1 << bit for bit in range(8)), 0xFF])
def test_every_byte_flipped_is_an_error_or_changes_nothing(data, flip):
    n_found = 0
    for i in range(len(data)):
        changed = bytearray(data)
        changed[i] ^= flip
        try:
            value = read(changed)
        except FormatError:
            n_found += 1
        else:
            assert same(value, VALUE), f"byte {i}"
        with contextlib.suppress(FormatError):
            read(changed, verify=False)
    assert n_found > len(data) / 3  # the rest is padding, times and the numbers zipfile alone looks at


@given(
    st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4), st.data()
)
def test_any_overwritten_bytes_are_an_error_or_change_nothing(data, places, more):
    changed = bytearray(data)
    for at, part in places:
        at %= len(data)
        changed[at : at + len(part)] = part[: len(data) - at]
    if more.draw(st.booleans()):
        start = more.draw(st.integers(0, len(data) - 1))
        del changed[start : start + more.draw(st.integers(1, 64))]
    try:
        value = read(changed)
    except FormatError:
        return
    assert same(value, VALUE)


def test_a_changed_element_is_found_when_it_is_asked_for(tmp_path):
    path = records.save(tmp_path / "a", {"small": np.arange(5), "large": np.zeros(1 << 18)})
    changed = bytearray(path.read_bytes())
    changed[changed.index(b"tree.json") - 1000] ^= 1
    path.write_bytes(changed)
    assert records.load(path)["large"].any()
    for mode in (None, "r", "c"):
        with pytest.raises(FormatError, match=r"a\.npz, member 1\.npy: its checksum is wrong") as caught:
            records.load(path, mode, verify=True)
        assert caught.value.field == "1.npy: xxh3"


def numbers(data, i):
    """Offsets of the entry of a member and of the end."""
    entries = [found.start() for found in re.finditer(b"PK\1\2", data)]
    return entries[i], data.rindex(b"PK\5\6")


@pytest.mark.parametrize("value", [0, 1, 127, 128, 1000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF])
@pytest.mark.parametrize("field", ["size", "offset", "directory size", "directory offset"])
def test_offsets_and_lengths_that_lie_are_errors(data, field, value):
    entry, end = numbers(data, 0)
    at, n = {"size": (entry + 20, 8), "offset": (entry + 42, 4)}.get(field, (end + (12 if "size" in field else 16), 4))
    changed = bytearray(data)
    changed[at : at + n] = struct.pack("<I", value) * (n // 4)
    if changed == data:
        assert same(read(changed), VALUE)
        return
    with pytest.raises(FormatError):
        read(changed, verify=False)


def test_offsets_of_64_bits_that_lie_are_errors(data):
    entry, end = numbers(data, 0)
    for offset in (1 << 63, (1 << 64) - 1, 1 << 40):
        extra = struct.pack("<2H3Q", 1, 24, 288, 288, offset)
        fixed = bytearray(data[entry : entry + 46])
        struct.pack_into("<2I", fixed, 20, 0xFFFFFFFF, 0xFFFFFFFF)
        struct.pack_into("<H", fixed, 30, len(extra))
        struct.pack_into("<I", fixed, 42, 0xFFFFFFFF)
        changed = bytearray(data[:entry] + fixed + b"0.npy" + extra + data[entry + 51 :])
        struct.pack_into("<I", changed, end + len(extra) + 12, end - entry + len(extra))
        with pytest.raises(FormatError, match=r"0\.npy"):
            read(changed, verify=False)


def test_missing_64_bit_records_are_errors(data):
    _, end = numbers(data, 0)
    changed = bytearray(data)
    struct.pack_into("<2H", changed, end + 8, 0xFFFF, 0xFFFF)
    with pytest.raises(FormatError, match="64-bit"):
        read(changed)
    for limit in (0, end - 20, 1 << 63):
        locator = struct.pack("<4sIQI", b"PK\6\7", 0, limit, 1)
        with pytest.raises(FormatError, match="64-bit"):
            read(bytes(changed[:end]) + locator + changed[end:])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_of_numpy_are_no_records(tmp_path, save):
    save(tmp_path / "a.npz", x=np.arange(1000))
    with pytest.raises(FormatError, match=r"a\.npz") as caught:
        records.load(tmp_path / "a.npz")
    assert caught.value.field in ("tree.json", "x.npy")


def test_a_record_that_another_program_compressed_is_refused_and_one_it_stored_is_read(data):
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", method) as new:
            for name in reversed(old.namelist()):
                new.writestr(name, old.read(name))
        if method == zipfile.ZIP_STORED:
            assert same(read(file.getvalue()), VALUE)
        else:
            with pytest.raises(FormatError, match="compressed"):
                read(file.getvalue())


def forged(tree, members=()):
    """An archive with any tree, its checksums right."""
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    layout = archive.Layout([len(member) for member in members], len(text))
    out, crcs = bytearray(), []
    for i, member in enumerate([*members, text]):
        crcs.append(zlib.crc32(member))
        out += layout.local(i, crcs[-1]) + member
    return bytes(out) + layout.tail(crcs)


def head(**more):
    return {"format": "megalith.record", "version": 1, "xxh3": [], "value": None, **more}


@pytest.mark.parametrize(
    ("tree", "field"),
    [
        (b"", "tree.json"),
        (b"[" * 100_000, "tree.json"),
        (b"\xff\xfe", "tree.json"),
        (b"9" * 5000, "tree.json"),
        ([], "tree.json"),
        ({}, "tree.json"),
        ({"format": "other"}, "tree.json"),
        (head(version=2), "tree.json"),
        (head(version=None), "tree.json"),
        (head(xxh3=3), "tree.json"),
        (head(xxh3=["0" * 16]), "0.npy"),
        (head(value={"array": 0}), "tree"),
        (head(value={"array": -1}), "tree"),
        (head(value={"array": True}), "tree"),
        (head(value={"record": 0}), "tree"),
        (head(value={}), "tree"),
        (head(value={"tuple": [], "dict": {}}), "tree"),
        (head(value={"later": 1}), "tree"),
        (head(value={"tuple": 1}), "tree"),
        (head(value={"tuple": "ab"}), "tree"),
        (head(value={"dict": []}), "tree"),
        (head(value={"items": [[1]]}), "tree"),
        (head(value={"items": [[[1], 2]]}), "tree"),
        (head(value={"int": "zz"}), "tree"),
        (head(value={"int": 5}), "tree"),
        (head(value={"float": "1.5"}), "tree"),
        (head(value={"float": []}), "tree"),
        (head(value={"str": "ff"}), "tree"),
        (head(value={"str": 1}), "tree"),
        (head(value={"numpy": ["O", "00" * 8]}), "tree"),
        (head(value={"numpy": ["<f8", "00" * 7]}), "tree"),
        (head(value={"numpy": ["<f8", "00" * 16]}), "tree"),
        (head(value={"numpy": ["(2", "00"]}), "tree"),
        (head(value={"numpy": [["<f8"], "00" * 8]}), "tree"),
        (head(value={"numpy.bytes": 5}), "tree"),
    ],
)
def test_trees_that_lie_are_errors_that_name_file_and_field(tree, field):
    with pytest.raises(FormatError, match=r"^a\.npz: ") as caught:
        read(forged(tree))
    assert caught.value.field == field


def member(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", "0.npy: header"),
        (b"x" * 200, "0.npy: header"),
        (member(np.array([None])), "0.npy: descr"),
        (member(np.arange(5))[:-1], "0.npy: shape"),
        (member(np.arange(5)) + b"x", "0.npy: size"),
    ],
)
def test_members_that_lie_are_errors_that_name_them(content, field):
    tree = head(xxh3=["0" * 16], value={"array": 0})
    with pytest.raises(FormatError, match=r"^a\.npz, member 0\.npy: ") as caught:
        read(forged(tree, [content]), verify=False)
    assert caught.value.field == field


def test_scalars_in_arrays_with_axes_are_errors():
    with pytest.raises(FormatError, match="a scalar in an array of shape"):
        read(forged(head(xxh3=["0" * 16], value={"record": 0}), [member(np.zeros(3))]), verify=False)


def test_two_members_of_one_name_are_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        new.writestr("tree.json", json.dumps(head()))
        new.writestr("tree.json", json.dumps(head(value=1)))
    with pytest.raises(FormatError, match="two members"):
        read(file.getvalue())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*_READERS, "later"]),
            inner,
            max_size=2,
        )
    ),
)


@given(JSON)
def test_any_json_as_a_tree_gives_a_value_or_an_error_of_ours(tree):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(FormatError):
            unflatten(tree, [np.zeros(3), np.zeros(())])


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY", b"anything else that is here", b"PK\5\6" + bytes(18)])
def test_files_that_are_something_else_are_format_errors(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    for mode in (None, "r"):
        with pytest.raises(FormatError, match=re.escape(os.fspath(tmp_path / name))):
            records.load(tmp_path / name, mode)


def test_other_suffixes_and_pickles_are_refused(tmp_path):
    with pytest.raises(FormatError, match="end in"):
        records.read(b"", "a.pkl")
    np.save(tmp_path / "a.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(DTypeError, match="pickle"):
        records.load(tmp_path / "a.npy")
    with pytest.raises(FileNotFoundError):
        records.load(tmp_path / "b.npz")


def test_a_file_that_is_replaced_while_it_is_opened_is_read_whole(tmp_path, monkeypatch):
    """The second open, by name, finds another file: reading starts again."""
    old, new = [np.zeros(1 << 22)], [np.ones(1 << 23)]
    path = records.save(tmp_path / "a", old)
    later = records.save(tmp_path / "b", new)
    real = records.reading._core.File

    class File:
        def __new__(cls, name):
            if later.exists():
                later.rename(path)
            return real(name)

    class Core:
        def __getattr__(self, name):
            return File if name == "File" else getattr(records.writing._core, name)

    monkeypatch.setattr(records.reading, "_core", Core())
    assert same(records.load(path), new)

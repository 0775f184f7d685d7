"""Damaged results on disk: noticed, told once, set aside, computed again, right."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from megalith.context import entries
from megalith.context.disk import Memory
from megalith.exceptions import CacheWarning

STRIDE = 7 if os.environ.get("MEGALITH_HYPOTHESIS") == "ci" else 1

RESULTS = {
    "array": np.arange(40.0),
    "nesting": {"a": np.arange(30), "b": [np.ones((3, 4), "f4", order="F"), None, "text", np.array("x")], "c": 2.5},
    "scalar": {"x": 1.5},
    "empty": [np.empty((0, 3)), []],
}
PARTS = {
    "header of the archive": 4,
    "tree": b'{"format"',
    "array": np.float64(17.0).tobytes(),
    "directory": b"PK\x01\x02",
}


class Cached:
    """A function that counts, its one entry, and the warnings of a call."""

    def __init__(self, directory, value, **options):
        self.count = 0

        def compute():
            self.count += 1
            return value

        self.value = value
        self.f = Memory(Path(directory), verbose=0, **options).cache(compute, key=lambda: 0, version=1)
        self.f()
        (self.path,) = Path(directory).rglob("*.npz")

    def call(self):
        """Call it: the result is right; how often it was computed, and what was warned of."""
        before = self.count
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            got = self.f()
        assert same(got, self.value)
        assert all(issubclass(warning.category, CacheWarning) for warning in caught)
        return self.count - before, [str(warning.message) for warning in caught]

    def damage(self, content):
        """Put other bytes in the place of the entry."""
        self.path.unlink()
        self.path.write_bytes(content)

    def assert_mended(self):
        """It was noticed once, and is all right from then on."""
        n, said = self.call()
        assert (n, len(said)) == (1, 1), (n, said)
        assert "compute" in said[0]
        assert self.call() == (0, [])


def same(got, value):
    if isinstance(value, np.ndarray):
        return got.dtype == value.dtype and got.shape == value.shape and np.array_equal(got, value)
    if isinstance(value, dict):
        return got.keys() == value.keys() and all(same(got[name], value[name]) for name in value)
    if isinstance(value, list):
        return len(got) == len(value) and all(map(same, got, value))
    return type(got) is type(value) and got == value


@pytest.mark.parametrize("value", RESULTS.values(), ids=RESULTS)
def test_whatever_bit_is_flipped_the_result_is_right_and_what_is_noticed_is_told_once(tmp_path, value):
    cached = Cached(tmp_path, value)
    content = cached.path.read_bytes()
    noticed = 0
    for position in range(0, len(content), STRIDE):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        cached.damage(flipped)
        n, said = cached.call()
        assert n == len(said) <= 1, (position, said)
        noticed += n
        assert cached.call() == (0, [])
    # The rest is padding, and what other programs read of an archive.
    assert noticed > len(content) / STRIDE / 3


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_a_flipped_bit_is_noticed_in_every_part(tmp_path, part, mmap_mode):
    cached = Cached(tmp_path, RESULTS["array"], mmap_mode=mmap_mode)
    content = bytearray(cached.path.read_bytes())
    content[content.index(PARTS[part]) if isinstance(PARTS[part], bytes) else PARTS[part]] ^= 1
    if part == "header of the archive" and content[:2] != b"PK":
        content[0] ^= 1
    cached.damage(content)
    if mmap_mode == "r" and part == "array":
        # The elements of what is mapped are not read.
        assert cached.f()[17] != 17
        return
    if part == "header of the archive":
        cached.damage(b"X" + bytes(content[1:]))
    cached.assert_mended()


@pytest.mark.parametrize("mmap_mode", [None, "r", "c"])
@pytest.mark.parametrize("value", RESULTS.values(), ids=RESULTS)
def test_a_truncated_or_extended_entry_is_noticed(tmp_path, value, mmap_mode):
    cached = Cached(tmp_path, value, mmap_mode=mmap_mode)
    content = cached.path.read_bytes()
    lengths = sorted({0, 1, 3, 4, 30, 63, 64, 65, len(content) - 1, *range(0, len(content), 13 * STRIDE)})
    for length in lengths:
        cached.damage(content[:length])
        cached.assert_mended()


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x05\x06" + bytes(18), bytes(5000), b"\x93NUMPY" + bytes(99)])
@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_what_is_no_record_is_noticed(tmp_path, content, mmap_mode):
    cached = Cached(tmp_path, RESULTS["nesting"], mmap_mode=mmap_mode)
    cached.damage(content)
    cached.assert_mended()


@pytest.mark.parametrize("kind", ["npz of NumPy", "npy", "another entry"])
def test_a_file_of_another_kind_is_noticed_or_a_record(tmp_path, kind):
    cached = Cached(tmp_path, RESULTS["array"])
    cached.path.unlink()
    with cached.path.open("wb") as file:
        np.save(file, np.ones(3)) if kind == "npy" else np.savez(file, x=np.ones(3))
    cached.assert_mended()


def test_a_large_result_that_is_mapped_is_compared_by_header_and_size(tmp_path, monkeypatch):
    monkeypatch.setattr(entries, "MAP_FROM", 1 << 16)
    value = {"large": np.arange(10_000.0), "small": np.arange(50.0)}
    cached = Cached(tmp_path, value)
    assert isinstance(cached.f()["large"], np.memmap)
    assert not isinstance(cached.f()["small"], np.memmap)
    content = cached.path.read_bytes()
    # In the small array, which is read: noticed.
    damaged = bytearray(content)
    damaged[content.rindex(np.arange(40.0, 50.0).tobytes())] ^= 1
    cached.damage(damaged)
    cached.assert_mended()
    for length in (0, 100, len(content) // 2, len(content) - 1):
        cached.damage(content[:length])
        cached.assert_mended()


def test_a_damaged_entry_is_set_aside_until_the_next_scan(tmp_path):
    cached = Cached(tmp_path, RESULTS["array"], bytes_limit=10**9)
    cached.damage(b"garbage")
    cached.assert_mended()
    (aside,) = tmp_path.rglob("*.damaged")
    assert aside.read_bytes() == b"garbage"
    assert len(cached.f.entries()) == 1
    assert not list(tmp_path.rglob("*.damaged"))


@pytest.mark.parametrize("kind", ["directory", "pipe", "link", "link to nothing", "socket"])
def test_what_is_no_file_is_never_followed_or_waited_for(tmp_path, kind, monkeypatch):
    cached = Cached(tmp_path, RESULTS["array"])
    elsewhere = tmp_path / "elsewhere"
    cached.path.rename(elsewhere)
    monkeypatch.chdir(cached.path.parent)
    if kind == "directory":
        cached.path.mkdir()
    elif kind == "pipe":
        os.mkfifo(cached.path)
    elif kind == "socket":
        os.mknod(cached.path, 0o600 | 0o140000)
    else:
        cached.path.symlink_to(elsewhere if kind == "link" else tmp_path / "nothing")
    content = elsewhere.read_bytes()
    cached.assert_mended()
    assert cached.path.is_file()
    assert not cached.path.is_symlink()
    assert elsewhere.read_bytes() == content
    assert not (tmp_path / "nothing").exists()


def test_an_array_under_the_name_of_an_entry_is_not_waited_for(tmp_path):
    cached = Cached(tmp_path, RESULTS["array"])
    np.save(cached.path.with_suffix(".npy"), np.ones(3))
    cached.path.unlink()
    assert cached.call() == (1, [])
    assert cached.call() == (0, [])


def test_an_entry_that_cannot_be_read_for_a_while_is_not_lost(tmp_path, monkeypatch):
    cached = Cached(tmp_path, RESULTS["array"])
    for error in (OSError(24, "Too many open files"), MemoryError()):
        with monkeypatch.context() as patch:

            def fail(*args, error=error, **options):
                raise error

            patch.setattr(entries, "open_record", fail)
            n, said = cached.call()
            assert (n, len(said)) == (1, 1)
        assert not list(tmp_path.rglob("*.damaged"))
        assert cached.path.exists()
        assert cached.call() == (0, [])


def test_a_result_under_the_name_of_another_call_is_damaged(tmp_path):
    f = Memory(tmp_path, verbose=0).cache(lambda x: 2 * x)
    assert [f(1), f(2)] == [2, 4]
    paths = {entry.arguments["x"]: Path(entry.path) for entry in f.entries()}
    paths["2"].replace(paths["1"])
    with pytest.warns(CacheWarning, match="another call"):
        assert f(1) == 2
    assert f.cached(1)

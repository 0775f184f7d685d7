"""`ls`, `usage` and `prune`, and the command for them: what there is, how much, and how to be rid of it."""

import os
import time

import numpy as np
import pytest

from megalith import shared
from megalith.cli import main
from megalith.exceptions import ArgumentError, KeyMissingError


def names(entries):
    return [entry.id for entry in entries]


@pytest.fixture
def three(store):
    """Three arrays of 100,000 bytes, made one after the other: a, b, c."""
    for id in "abc":
        store.cache(id, np.zeros(100_000, np.uint8))
        time.sleep(0.02)  # more than the clock of a file system ticks
    return store


def test_an_empty_directory_lists_nothing(store):
    assert store.ls() == []
    assert store.usage() == 0


def test_entries_say_name_file_size_owner_and_time(store):
    before = time.time()
    store.cache("a", np.zeros(1000))
    (entry,) = store.ls()
    assert entry._fields == ("id", "path", "nbytes", "owner", "created")
    assert entry.id == "a"
    assert str(entry.path) == str(store.file("a"))
    assert 8000 <= entry.nbytes <= 8000 + 4096
    assert str(entry.owner) in (str(os.getuid()), os.environ.get("USER"), owner_of(store.file("a")))
    assert before - 60 < float(entry.created) < time.time() + 60


def owner_of(path):
    try:
        return path.owner()
    except KeyError:
        return None


def test_nestings_and_allocated_arrays_are_listed_too(store):
    store.cache("a", lambda: [np.zeros(1000), np.zeros(1000)])
    with store.allocate("b", 1000, "f8"):
        assert names(store.ls()) == ["a"]
    entries = {entry.id: entry for entry in store.ls()}
    assert set(entries) == {"a", "b"}
    assert 16000 <= entries["a"].nbytes <= 16000 + 8192
    assert str(entries["a"].path) == str(store.file("a", ".npz"))


def test_files_of_others_are_not_listed(store):
    store.cache("a", np.zeros(10))
    others = ("other.npy", "sharearray_x.txt", "sharearray_", "sharearray_.npy", "sharearray_a b.npy", "x_sharearray_b")
    for name in others:
        (store.directory / name).write_bytes(b"x")
    (store.directory / "sharearray_d.npy").mkdir()
    assert names(store.ls()) == ["a"]
    for name in others:
        (store.directory / name).unlink()
    (store.directory / "sharearray_d.npy").rmdir()


def test_each_prefix_lists_its_own(store):
    store.cache("a", np.zeros(10), prefix="mine_")
    store.cache("b", np.zeros(10))
    assert names(store.ls()) == ["b"]
    assert names(store.ls(prefix="mine_")) == ["a"]
    store.free("a", prefix="mine_")


def test_usage_is_the_sum_of_what_is_listed(three):
    assert three.usage() == sum(entry.nbytes for entry in three.ls())
    assert 300_000 <= three.usage() <= 300_000 + 3 * 4096


def test_the_machines_own_shared_memory_is_listed_by_default(key):
    shared.cache(key, np.zeros(1000), verbose=False)
    assert key in names(shared.ls())
    assert shared.usage() >= 8000


def test_a_freed_array_is_not_listed_even_while_a_view_lives(store):
    array = store.cache("a", np.zeros(10))
    store.free("a")
    assert store.ls() == []
    assert array.sum() == 0


@pytest.mark.parametrize(
    ("max_bytes", "left"), [(10**9, "abc"), (310_000, "abc"), (210_000, "bc"), (150_000, "c"), (99_999, ""), (0, "")]
)
def test_prune_by_size_frees_the_oldest_first(three, max_bytes, left):
    three.prune(max_bytes=max_bytes)
    assert sorted(names(three.ls())) == list(left)
    assert three.usage() <= max_bytes


def test_prune_by_age_frees_what_is_older(three):
    now = time.time()
    for id, age_s in {"a": 5000, "b": 3000}.items():
        os.utime(three.file(id), (now - age_s, now - age_s))
    three.prune(max_age_s=10000)
    assert sorted(names(three.ls())) == ["a", "b", "c"]
    three.prune(max_age_s=4000)
    assert sorted(names(three.ls())) == ["b", "c"]
    three.prune(max_age_s=1000)
    assert sorted(names(three.ls())) == ["c"]


def test_prune_by_size_and_age_obeys_both(three):
    os.utime(three.file("c"), (0, 0))
    three.prune(max_bytes=150_000, max_age_s=10000)
    assert sorted(names(three.ls())) == ["b"]


def test_prune_frees_nestings(store):
    store.cache("a", lambda: [np.zeros(10)])
    store.prune(max_bytes=0)
    assert store.ls() == []
    with pytest.raises(KeyMissingError):
        store.get("a")


def test_views_of_what_was_pruned_stay_right(store):
    array = store.cache("a", np.arange(1000))
    store.prune(max_bytes=0)
    assert array.tolist() == list(range(1000))


def test_prune_leaves_other_files_and_prefixes_alone(store):
    store.cache("a", np.zeros(10), prefix="mine_")
    (store.directory / "other.npy").write_bytes(b"x")
    store.prune(max_bytes=0)
    assert (store.directory / "mine_a.npy").exists()
    assert (store.directory / "other.npy").exists()
    store.free("a", prefix="mine_")
    (store.directory / "other.npy").unlink()


def test_prune_leaves_an_array_alone_that_is_being_made(store):
    with store.allocate("a", 3, "u1") as array:
        store.prune(max_bytes=0, max_age_s=0)
        array[:] = 1
    assert store.get("a").tolist() == [1, 1, 1]


@pytest.mark.parametrize("limits", [{"max_bytes": -1}, {"max_age_s": -0.5}, {"max_bytes": float("nan")}], ids=str)
def test_impossible_limits_are_argument_errors(store, limits):
    store.cache("a", np.zeros(10))
    with pytest.raises(ArgumentError):
        store.prune(**limits)
    assert names(store.ls()) == ["a"]


@pytest.fixture
def default(store, monkeypatch):
    """The test's own directory in the place of the machine's shared memory, for commands."""
    monkeypatch.setenv("MEGALITH_SHARED_DIR", str(store.directory))
    return store


def test_the_command_lists_names_and_sizes(default, capsys):
    default.cache("name-of-one", np.zeros(100))
    default.cache("name-of-two", lambda: [np.zeros(100)])
    assert main(["shared", "ls"]) == 0
    said = capsys.readouterr().out
    assert "name-of-one" in said
    assert "name-of-two" in said
    assert owner_of(default.file("name-of-one")) in said


def test_the_command_lists_an_empty_directory(default, capsys):
    assert main(["shared", "ls"]) == 0
    assert capsys.readouterr().err == ""


def test_the_command_frees_a_name(default):
    default.cache("one", np.zeros(100))
    default.cache("two", np.zeros(100))
    assert main(["shared", "free", "one"]) == 0
    assert names(default.ls()) == ["two"]


def test_the_command_says_that_a_name_is_not_valid(default, capsys):
    assert main(["shared", "free", "../one"]) != 0
    assert "../one" in capsys.readouterr().err


def test_the_command_prunes_by_size(three, default):
    assert main(["shared", "prune", "--max-bytes", "150000"]) == 0
    assert names(default.ls()) == ["c"]


def test_the_command_prunes_by_age(three, default):
    os.utime(default.file("b"), (0, 0))
    assert main(["shared", "prune", "--max-age", "5000"]) == 0
    assert sorted(names(default.ls())) == ["a", "c"]

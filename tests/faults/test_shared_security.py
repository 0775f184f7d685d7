"""Files that are planted, damaged or another user's: refused with a clear error, and never followed or unpickled."""

import os
import pickle
import socket
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from megalith import shared
from megalith.exceptions import (
    DTypeError,
    FormatError,
    KeyMissingError,
    MegalithError,
    OwnershipError,
    TruncatedFileError,
)

NEEDS_TWO_USERS = pytest.mark.skipif(
    os.getuid() != 0, reason="only root can be two users at once (files are given away, a child changes its user)"
)


def never():
    raise AssertionError("computed although something is there")


@pytest.fixture
def planted(shm):
    """Where the array `a` would be; whatever was planted there is taken away at the end."""
    path = shm / "sharearray_a.npy"
    yield path
    for one in (path, path.with_suffix(".npz"), shm / "target"):
        if one.is_dir() and not one.is_symlink():
            one.rmdir()
        else:
            one.unlink(missing_ok=True)


def assert_refused(path, kind, match=None):
    """Assert that `cache` and `get` refuse what lies there, and leave it as it is."""
    before = path.lstat()
    for call in (
        lambda: shared.cache("a", never, str(path.parent), verbose=False),
        lambda: shared.get("a", str(path.parent)),
    ):
        with pytest.raises(kind, match=match or r"sharearray_a\.np[yz]") as caught:
            call()
        assert isinstance(caught.value, MegalithError)
    after = path.lstat()
    assert (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_planted_symbolic_link_is_refused(planted, suffix):
    planted = planted.with_suffix(suffix)
    target = planted.parent / "target"
    with target.open("wb") as file:
        np.save(file, np.ones(3))
    planted.symlink_to(target)
    assert_refused(planted, FormatError)
    assert np.load(target).sum() == 3


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_symbolic_link_to_nothing_is_refused_and_its_target_not_made(planted, suffix):
    planted = planted.with_suffix(suffix)
    planted.symlink_to(planted.parent / "target")
    assert_refused(planted, FormatError)
    assert not (planted.parent / "target").exists()


def test_a_symbolic_link_is_freed_and_its_target_stays(planted):
    target = planted.parent / "target"
    target.write_bytes(b"mine")
    planted.symlink_to(target)
    shared.free("a", str(planted.parent))
    assert not planted.is_symlink()
    assert target.read_bytes() == b"mine"


def test_allocate_does_not_write_through_a_symbolic_link(planted):
    target = planted.parent / "target"
    target.write_bytes(b"mine")
    planted.symlink_to(target)
    with pytest.raises((FormatError, FileExistsError)), shared.allocate("a", 3, "u1", shm_path=str(planted.parent)):
        never()
    assert target.read_bytes() == b"mine"


def test_a_pipe_is_refused_at_once(planted):
    os.mkfifo(planted)
    assert_refused(planted, FormatError)


def test_a_directory_is_refused(planted):
    planted.mkdir()
    assert_refused(planted, FormatError)


def test_a_socket_is_refused(planted, monkeypatch):
    monkeypatch.chdir(planted.parent)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(planted.name)
        assert_refused(planted, FormatError)


def test_a_device_is_refused(planted):
    try:
        os.mknod(planted, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("this user may make no devices (root without CAP_MKNOD, or not root)")
    assert_refused(planted, FormatError)


@pytest.mark.parametrize("kept", [8127, 4000, 129, 128])
def test_a_truncated_file_is_refused(planted, kept):
    np.save(planted, np.arange(1000.0))
    os.truncate(planted, kept)
    assert_refused(planted, TruncatedFileError)


@pytest.mark.parametrize("kept", [0, 1, 6, 9, 60, 127])
def test_a_file_that_ends_within_its_header_is_refused(planted, kept):
    np.save(planted, np.arange(1000.0))
    os.truncate(planted, kept)
    assert_refused(planted, FormatError)


def test_a_refused_file_can_be_freed_and_made_anew(planted):
    planted.write_bytes(b"nonsense")
    with pytest.raises(FormatError):
        shared.get("a", str(planted.parent))
    shared.free("a", str(planted.parent))
    assert shared.cache("a", lambda: np.ones(3), str(planted.parent), verbose=False).sum() == 3


def header(text, version=1):
    """A `.npy` file with a header of any text, and 800 bytes."""
    body = text.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(body)) + body + bytes(800)


def shaped(shape, descr="'<f8'", order="False"):
    return header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}")


@pytest.mark.parametrize("shape", ["(101,)", "(10, 11)", "(1000000000000,)", "(4611686018427387904, 4)"])
def test_a_header_that_promises_more_than_there_is_is_refused(planted, shape):
    planted.write_bytes(shaped(shape))
    assert_refused(planted, (TruncatedFileError, FormatError))


@pytest.mark.parametrize(
    "content",
    [
        shaped("(-1,)"),
        shaped("(-10, -10)"),
        shaped("(10.5,)"),
        shaped("('a',)"),
        shaped("100"),
        shaped("(9223372036854775808,)"),
        shaped("(0, 9223372036854775808)"),
        shaped("(100,)", order="3"),
        shaped("(100,)", descr="'<f9'"),
        shaped("(100,)", descr="None"),
        shaped("(" + "1, " * 70 + ")"),
        header("{'descr': '<f8'}"),
        header("[1, 2, 3]"),
        header(""),
        header("{" * 100),
        header("__import__('os').mkdir('/tmp/megalith-was-fooled')"),
        shaped("(100,)", descr="__import__('os').mkdir('/tmp/megalith-was-fooled')"),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (100,), 'more': 1}"),
        shaped("(100,)").replace(b"NUMPY\x01", b"NUMPY\x07"),
        b"",
        b"nonsense",
        b"\x93NUMPY",
        b"PK\x03\x04" + bytes(500),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100),
    ],
    ids=lambda content: repr(content.rstrip(b"\0 \n")[10:60]),
)
def test_a_damaged_header_is_refused_and_never_run(planted, content):
    planted.write_bytes(content)
    assert_refused(planted, FormatError)
    assert not Path("/tmp/megalith-was-fooled").exists()


class Fooled:
    def __reduce__(self):
        return os.mkdir, ("/tmp/megalith-was-fooled",)


@pytest.mark.parametrize("fields", [None, [("a", "u1"), ("b", "O")]], ids=["objects", "a field of objects"])
def test_an_array_of_objects_is_refused_and_never_unpickled(planted, fields):
    values = np.empty(2, fields or object)
    values[0] = Fooled() if fields is None else (1, Fooled())
    np.save(planted, values, allow_pickle=True)
    assert_refused(planted, DTypeError, match="")
    assert not Path("/tmp/megalith-was-fooled").exists()


def test_a_pickle_is_refused_and_never_loaded(planted):
    planted.write_bytes(pickle.dumps(Fooled()))
    assert_refused(planted, FormatError)
    assert not Path("/tmp/megalith-was-fooled").exists()


@pytest.fixture
def record(planted):
    """The file of a good nesting."""
    value = {"x": np.arange(1000.0), "y": [np.ones(10, "u1"), "text", None]}
    shared.cache("a", lambda: value, str(planted.parent), verbose=False)
    return planted.with_suffix(".npz")


def rewritten(path, change):
    """Write an archive anew, as a new file, with members changed by a function of their name and content."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    new = path.with_name("target")
    with zipfile.ZipFile(new, "w") as archive:
        for name, content in change(members).items():
            archive.writestr(name, content)
    new.rename(path)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_nesting_is_refused(record, kept):
    content = record.read_bytes()
    record.unlink()
    record.write_bytes(content[: int(len(content) * kept)])
    assert_refused(record, FormatError)


TREES = {
    "no tree": lambda members: {name: content for name, content in members.items() if name != "tree.json"},
    "no arrays": lambda members: {"tree.json": members["tree.json"]},
    "empty tree": lambda members: members | {"tree.json": b""},
    "no JSON": lambda members: members | {"tree.json": b"{'"},
    "another JSON": lambda members: members | {"tree.json": b"[1, 2]"},
    "null": lambda members: members | {"tree.json": b"null"},
    "deep JSON": lambda members: members | {"tree.json": b"[" * 100_000},
    "not UTF-8": lambda members: members | {"tree.json": b"\xff\xfe"},
    "members of no array": lambda members: {n: c if n == "tree.json" else b"nonsense" for n, c in members.items()},
    "nothing": lambda members: {},
}


@pytest.mark.parametrize("change", TREES.values(), ids=TREES)
def test_a_nesting_with_a_damaged_tree_is_refused(record, change):
    rewritten(record, change)
    assert_refused(record, FormatError)


def test_a_nesting_with_pickled_objects_is_refused_and_never_unpickled(record):
    values = np.empty(1, object)
    values[0] = Fooled()
    np.save(record.with_name("target"), values, allow_pickle=True)
    content = record.with_name("target.npy").read_bytes()
    record.with_name("target.npy").unlink()
    rewritten(record, lambda members: {n: c if n == "tree.json" else content for n, c in members.items()})
    assert_refused(record, (DTypeError, FormatError), match="")
    assert not Path("/tmp/megalith-was-fooled").exists()


def test_a_compressed_archive_of_numpy_is_refused(planted):
    np.savez_compressed(planted.with_suffix(".npz"), a=np.ones(3))
    assert_refused(planted.with_suffix(".npz"), FormatError)


@pytest.mark.parametrize("kind", ["file", "symbolic link", "symbolic link to nothing"])
def test_a_directory_of_locks_that_is_none_is_refused(shm, kind):
    own, elsewhere = shm / f"megalith-{os.getuid()}", shm / "elsewhere"
    elsewhere.mkdir()
    if kind == "file":
        own.write_bytes(b"mine")
    else:
        own.symlink_to(elsewhere if kind == "symbolic link" else shm / "nothing")
    with pytest.raises((OSError, ValueError), match=own.name):
        shared.cache("a", lambda: np.ones(3), str(shm), verbose=False)
    assert sorted(path.name for path in shm.iterdir()) == ["elsewhere", own.name]
    assert list(elsewhere.iterdir()) == []
    own.unlink()
    elsewhere.rmdir()


def test_a_directory_of_locks_that_is_open_to_all_is_closed_or_refused(shm):
    own = shm / f"megalith-{os.getuid()}"
    own.mkdir()
    own.chmod(0o777)
    try:
        shared.cache("a", lambda: np.ones(3), str(shm), verbose=False)
    except OwnershipError:
        assert not (shm / "sharearray_a.npy").exists()
    else:
        assert own.stat().st_mode & 0o777 == 0o700
        shared.free("a", str(shm))
    own.rmdir()


NOBODY = """
NOBODY = 65534
shm.chmod(0o1777)

def ones():
    return np.ones(3)

# What Python loads lazily is loaded by root: another user may not be allowed to read it.
warm = here / "warm"
warm.mkdir()
for value in (np.ones(3), [np.ones(3)]):
    shared.cache("a", lambda: value, str(warm), verbose=False)
    shared.get("a", str(warm)), shared.ls(str(warm)), shared.free("a", str(warm))
with shared.allocate("a", 3, "u1", shm_path=str(warm)):
    pass
os.chown(warm / "sharearray_a.npy", NOBODY, NOBODY)
raises(OwnershipError, shared.get, "a", str(warm))
for junk in (b"junk", b""):
    (warm / "sharearray_b.npy").write_bytes(junk)
    raises(FormatError, shared.get, "b", str(warm))
raises(LockTimeoutError, shared.cache, "c", lambda: shared.cache("c", ones, str(warm)), str(warm), verbose=False)

def as_nobody(work):
    return join(as_user(NOBODY, work)) == [0]

def as_root(work):
    return join(fork(work)) == [0]

def clean():
    for path in shm.iterdir():
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
"""
USERS = pytest.mark.parametrize(("maker", "other"), [("as_root", "as_nobody"), ("as_nobody", "as_root")])


@NEEDS_TWO_USERS
@USERS
def test_the_file_of_another_user_is_an_ownership_error(run, shm, maker, other):
    code = f"""
    def refuse():
        for call in (cache, lambda *args: get(args[0])):
            error = raises(OwnershipError, call, "a", never)
            assert isinstance(error, PermissionError)
            assert str(error.path).endswith("sharearray_a.npy") and "sharearray_a.npy" in str(error)
            assert error.owner is not None and "trust_owner" in str(error)

    assert {maker}(lambda: cache("a", ones, mode=0o644))
    assert {other}(refuse)
    assert {maker}(lambda: cache("a", never).sum() == 3 or never())
    clean()
    """
    run(shm, NOBODY, code)


@NEEDS_TWO_USERS
@USERS
@pytest.mark.parametrize("value", ["np.ones(3)", "[np.ones(3)]"], ids=["array", "nesting"])
def test_the_file_of_a_trusted_user_is_served(run, shm, maker, other, value):
    code = f"""
    def read():
        for got in (cache("a", never, trust_owner=True), get("a", trust_owner=True)):
            assert (got[0] if isinstance(got, list) else got).sum() == 3
        raises(OwnershipError, cache, "a", never)

    before = os.umask(0o077)
    assert {maker}(lambda: cache("a", lambda: {value}, mode=0o644))
    assert {other}(read)
    clean()
    """
    run(shm, NOBODY, code)


@NEEDS_TWO_USERS
def test_trust_is_asked_for_at_each_hit(run, shm):
    code = """
    assert as_nobody(lambda: cache("a", ones))
    array = cache("a", never, trust_owner=True)
    raises(OwnershipError, cache, "a", never)
    raises(OwnershipError, get, "a")
    assert get("a", trust_owner=True).ctypes.data == array.ctypes.data
    clean()
    """
    run(shm, NOBODY, code)


@NEEDS_TWO_USERS
def test_a_private_file_is_closed_to_others_even_if_they_trust_it(run, shm):
    code = """
    cache("a", ones)
    def refuse():
        raises(PermissionError, get, "a", trust_owner=True)
        raises(PermissionError, cache, "a", never, trust_owner=True)
        raises(PermissionError, get, "a")
    assert as_nobody(refuse)
    clean()
    """
    run(shm, NOBODY, code)


@NEEDS_TWO_USERS
@USERS
def test_a_directory_of_locks_that_another_user_planted_is_refused(run, shm, maker, other):
    code = f"""
    victim = 0 if {other!r} == "as_root" else NOBODY
    own = shm / f"megalith-{{victim}}"
    def plant():
        own.mkdir()
        own.chmod(0o777)
    def refuse():
        error = raises(OwnershipError, cache, "a", ones)
        assert own.name in str(error)
        def block():
            with allocate("a", 3, "u1"):
                never()
        raises(OwnershipError, block)
    assert {maker}(plant)
    assert {other}(refuse)
    assert not list(own.iterdir()) and not (shm / "sharearray_a.npy").exists()
    clean()
    """
    run(shm, NOBODY, code)


@NEEDS_TWO_USERS
@USERS
def test_a_planted_link_of_another_user_is_refused(run, shm, maker, other):
    code = f"""
    target = shm / "target"
    def plant():
        target.write_bytes(b"theirs")
        (shm / "sharearray_a.npy").symlink_to(target)
    def refuse():
        error = raises((FormatError, OwnershipError), cache, "a", never)
        raises((FormatError, OwnershipError), get, "a", trust_owner=True)
    assert {maker}(plant)
    assert {other}(refuse)
    assert target.read_bytes() == b"theirs"
    clean()
    """
    run(shm, NOBODY, code)


@NEEDS_TWO_USERS
def test_a_user_cannot_free_what_is_anothers(run, shm):
    code = """
    array = cache("a", ones)
    assert as_nobody(lambda: raises(PermissionError, free, "a"))
    assert get("a").sum() == 3
    assert as_nobody(lambda: prune(max_bytes=0))
    assert get("a").sum() == 3
    clean()
    """
    run(shm, NOBODY, code)


@NEEDS_TWO_USERS
@pytest.mark.parametrize("umask", ["0o077", "0o177", "0o777"])
def test_who_is_not_root_stores_under_any_umask(run, shm, umask):
    code = f"""
    def store():
        os.umask({umask})
        assert cache("a", ones).sum() == 3
        with allocate("b", 3, "u1"):
            pass
        assert get("b").sum() == 0
    works = as_nobody(store)
    own = shm / f"megalith-{{NOBODY}}"
    assert works and own.stat().st_mode & 0o777 == 0o700
    clean()
    """
    run(shm, NOBODY, code)


@NEEDS_TWO_USERS
def test_two_users_do_not_wait_for_each_other(run, shm):
    code = """
    def slow():
        note("holds")
        until_noted("done")
        return ones()
    creator = fork(lambda: cache("a", slow))
    until_noted("holds")
    def other():
        assert cache("a", lambda: np.zeros(3), timeout=0).sum() == 0
    assert as_nobody(other)
    note("done")
    [status] = join(creator)
    assert status == 1  # what is there is another user's
    clean()
    """
    run(shm, NOBODY, code)


@NEEDS_TWO_USERS
def test_the_list_says_whose_an_array_is(run, shm):
    code = """
    cache("a", ones)
    assert as_nobody(lambda: cache("b", ones))
    owners = {entry.id: str(entry.owner) for entry in ls()}
    assert set(owners) == {"a", "b"} and owners["a"] != owners["b"]
    assert owners["a"] in ("0", "root")
    prune(max_bytes=0)
    assert [entry.id for entry in ls()] == ["b"]
    clean()
    """
    run(shm, NOBODY, code)


def test_what_is_planted_while_a_callback_computes_is_not_followed(planted):
    target = planted.parent / "target"

    def compute():
        planted.symlink_to(target)
        return np.ones(3)

    with pytest.raises(FormatError):
        shared.cache("a", compute, str(planted.parent), verbose=False)
    assert not target.exists()


def test_a_mapped_name_that_became_a_link_is_noticed(planted):
    array = shared.cache("a", lambda: np.ones(3), str(planted.parent), verbose=False)
    planted.rename(planted.parent / "target")
    planted.symlink_to(planted.parent / "target")
    assert_refused(planted, FormatError)
    assert array.sum() == 3


def test_a_name_that_vanished_is_missing(planted):
    shared.cache("a", lambda: np.ones(3), str(planted.parent), verbose=False)
    planted.unlink()
    with pytest.raises(KeyMissingError):
        shared.get("a", str(planted.parent))

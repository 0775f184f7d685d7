"""What others may have put among results on disk: never run, never followed, never written through."""

import os
import pickle
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest

from megalith import Context, records
from megalith.context.disk import Memory
from megalith.exceptions import CacheWarning, KeyMissingError
from megalith.records.reading import open_record

NEEDS_TWO_USERS = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def make(n):
    return np.full(10, n)


class Fooled:
    """Runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def planted(tmp_path):
    """A call whose entry is a pickle that makes a directory."""
    f = Memory(tmp_path / "cache", verbose=0).cache(make)
    f(3)
    path = Path(f.entries()[0].path)
    about = open_record(path).about | {"pickled": True}
    pickled = np.frombuffer(pickle.dumps(Fooled(str(tmp_path / "fooled"))), np.uint8)
    plan = records.plan(pickled, suffix=".npz", about=about)
    assert f.store_backend.entries.write(f.func_id, path.stem, plan, replace=True)
    return tmp_path


@pytest.mark.parametrize("options", [{}, {"mmap_mode": "r"}, {"readonly": True}, {"bytes_limit": 10**6}])
def test_a_planted_pickle_never_runs(planted, options):
    f = Memory(planted / "cache", verbose=0, **options).cache(make)
    assert not f.cached(3)
    assert not f.explain(3).hit
    assert "allow_pickle" in f.explain(3).reason
    f.entries()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (f(3) == 3).all()
        assert (f.call_and_shelve(3).get() == 3).all()
    assert f.cached(3) == ("readonly" not in options)
    assert not (planted / "fooled").exists()


def test_a_planted_pickle_below_never_runs(planted):
    f = Memory(planted / "here", verbose=0, below=planted / "cache").cache(make)
    assert (f(3) == 3).all()
    assert (f(3) == 3).all()
    assert f.cached(3)
    assert not (planted / "fooled").exists()


def test_a_planted_pickle_never_runs_in_a_context(planted, tmp_path):
    (tmp_path / "context").mkdir()
    (tmp_path / "cache").rename(tmp_path / "context" / "results")
    f = Context(tmp_path / "context").cache(make)
    assert (f(3) == 3).all()
    assert not (tmp_path / "fooled").exists()


def test_a_reference_to_a_planted_pickle_is_an_error(planted):
    allowing = Memory(planted / "cache", verbose=0, allow_pickle=True).cache(make)
    reference = allowing.call_and_shelve(3)
    reference.store_backend = reference.store_backend.with_options(None, allow_pickle=False)
    with pytest.raises(KeyMissingError, match="allow_pickle"):
        reference.get()
    assert not (planted / "fooled").exists()


def test_a_planted_pickle_runs_if_pickles_are_allowed(planted):
    Memory(planted / "cache", verbose=0, allow_pickle=True).cache(make)(3)
    assert (planted / "fooled").exists()


def test_an_array_of_objects_among_the_members_never_runs(tmp_path):
    f = Memory(tmp_path / "cache", verbose=0).cache(make)
    f(3)
    path = Path(f.entries()[0].path)
    values = np.empty(1, object)
    values[0] = Fooled(str(tmp_path / "fooled"))
    path.unlink()
    with path.open("wb") as file:
        np.savez(file, values)
    with pytest.warns(CacheWarning, match="loading"):
        assert (f(3) == 3).all()
    assert not (tmp_path / "fooled").exists()


def test_a_result_that_is_no_array_is_not_kept_unless_pickles_are_allowed(tmp_path):
    def thing(n):
        return {1, n}

    f = Memory(tmp_path, verbose=0).cache(thing)
    with pytest.warns(CacheWarning, match="allow_pickle") as caught:
        assert f(3) == f(3) == {1, 3}
    assert len(caught) == 1
    allowing = Memory(tmp_path, verbose=0, allow_pickle=True).cache(thing)
    assert allowing(3) == {1, 3}
    assert allowing.cached(3)
    # What others have pickled is computed here, each time, and stays.
    with pytest.warns(CacheWarning, match="allow_pickle"):
        assert Memory(tmp_path, verbose=0).cache(thing)(3) == {1, 3}
    assert allowing.cached(3)


@pytest.mark.parametrize("kind", ["link", "link to nothing", "file"])
def test_a_directory_of_locks_that_is_none_is_a_warning(tmp_path, kind):
    f = Memory(tmp_path / "cache", verbose=0).cache(make)
    directory = tmp_path / "cache" / f.func_id
    directory.mkdir(parents=True)
    own, elsewhere = directory / f"megalith-{os.getuid()}", tmp_path / "elsewhere"
    elsewhere.mkdir()
    if kind == "file":
        own.write_bytes(b"theirs")
    else:
        own.symlink_to(elsewhere if kind == "link" else tmp_path / "nothing")
    for n in (1, 2):
        with pytest.warns(CacheWarning, match="could not be kept") as caught:
            assert (f(n) == n).all()
        assert len(caught) == 1
    assert list(elsewhere.iterdir()) == []
    assert not (tmp_path / "nothing").exists()
    own.unlink()
    f(1)
    assert f.cached(1)


def test_what_is_in_a_directory_that_is_a_link_is_not_listed_evicted_or_cleared(tmp_path):
    elsewhere = Memory(tmp_path / "elsewhere", verbose=0).cache(make)
    elsewhere(1)
    f = Memory(tmp_path / "cache", verbose=0, bytes_limit=100_000).cache(make)
    (tmp_path / "cache" / "planted").symlink_to(tmp_path / "elsewhere")
    for n in range(300):
        f(n)
    assert elsewhere.cached(1)
    Memory(tmp_path / "cache", verbose=0).reduce_size(bytes_limit=0)
    assert elsewhere.cached(1)


NAMES = [
    "..",
    ".",
    "",
    "../../outside",
    "/etc/outside",
    "a/b",
    "a\0b",
    "x" * 5000,
    "<locals>",
    "ä" * 200,
    "\ud800",
    "a\nb",
]


@pytest.mark.parametrize("attribute", ["__qualname__", "__module__", "__name__"])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_no_name_leaves_the_directory(tmp_path, name, attribute):
    def f(x):
        return x

    setattr(f, attribute, name)
    before = set(tmp_path.parent.rglob("*"))
    cached = Memory(tmp_path / "a" / "cache", verbose=0).cache(f, version=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cached(1) == 1
    assert cached.cached(1)
    made = set(tmp_path.parent.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "a") for path in made)
    (entry,) = (tmp_path / "a" / "cache").rglob("*.npz")
    assert not entry.is_symlink()
    cached.clear(warn=False)
    assert not entry.exists()
    assert (tmp_path / "a" / "cache").is_dir()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_what_is_made_is_closed_to_others_unless_it_is_asked_for(tmp_path, mode):
    before = os.umask(0)
    try:
        f = Memory(tmp_path / "cache", verbose=0, bytes_limit=10**6, mode=mode).cache(make)
        f(1)
    finally:
        os.umask(before)
    for path in (tmp_path / "cache").rglob("*"):
        allowed = stat.S_IMODE(path.stat().st_mode)
        assert allowed & 0o022 == 0, path
        if path.suffix in (".npz", ".json"):
            assert allowed == mode
        elif path.is_dir() and mode == 0o600:
            assert allowed == 0o700


USERS = """
NOBODY = 65534

def make(n):
    note("computed")
    return np.full(10, n)

# What Python loads lazily is loaded by root: another user may not be allowed to read it.
warm = memory(at=here / "warm", bytes_limit=1000).cache(make)
for _ in range(2):
    warned(warm, 10), warm.entries(), warm.explain(10)
for entry in warm.entries():
    Path(entry.path).write_bytes(b"garbage")
warned(warm, 10)
(here / "warm" / "blocked").write_bytes(b"")
warned(memory(at=here / "warm" / "blocked").cache(make), 10)
os.chmod(here, 0o777)
for list_ in here.glob("*.list"):
    list_.chmod(0o666)
for above in [shm, *shm.parents]:
    if above != Path("/tmp") and above != Path("/"):
        above.chmod(above.stat().st_mode | 0o055)

def as_nobody(work):
    return join(as_user(NOBODY, work)) == [0]

def as_root(work):
    return join(fork(work)) == [0]
"""


@NEEDS_TWO_USERS
@pytest.mark.parametrize(("maker", "other"), [("as_root", "as_nobody"), ("as_nobody", "as_root")])
def test_the_results_of_another_user_are_served_as_values(run_context, maker, other):
    code = f"""
    place.mkdir()
    place.chmod(0o777)
    os.umask(0)
    def write():
        f = memory(mode=0o644).cache(make)
        f(3)
        def thing(n):
            note("computed")
            return {{1, n}}
        assert memory(mode=0o644, allow_pickle=True).cache(thing, version=1)(3) == {{1, 3}}
    def read():
        for options in ({{}}, {{"mmap_mode": "r"}}, {{"bytes_limit": 10**6}}):
            got, n = computed(memory(**options).cache(make), 3)
            assert n == 0 and (got == 3).all()
        below = memory(at=shm / "own", below=place) if {other!r} == "as_root" else memory()
        assert computed(below.cache(make), 3)[1] == 0
    assert {maker}(write)
    assert {other}(read)
    """
    run_context(USERS, code)


@NEEDS_TWO_USERS
def test_a_pickle_of_another_user_never_runs_unless_pickles_are_allowed(run_context):
    code = """
    place.mkdir()
    place.chmod(0o777)
    os.umask(0)
    class Fooled:
        def __reduce__(self):
            return os.mkdir, (str(here / "fooled"),)
    def plant():
        f = memory(mode=0o644).cache(make)
        f(3)
        (entry,) = f.entries()
        import pickle
        pickled = np.frombuffer(pickle.dumps(Fooled()), np.uint8)
        plan = records.plan(pickled, suffix=".npz", about={"pickled": True})
        f.store_backend.entries.write(f.func_id, entry.key, plan, replace=True)
    assert as_nobody(plant)
    (got, n), said = warned(computed, memory().cache(make), 3)
    assert n == 1 and (got == 3).all()
    assert not (here / "fooled").exists()
    """
    run_context(USERS, code)


@NEEDS_TWO_USERS
def test_two_users_of_one_directory_do_not_wait_for_each_other_or_fail(run_context):
    code = """
    place.mkdir()
    place.chmod(0o777)
    os.umask(0)
    def slow(n):
        note("holds")
        until_noted("done")
        return np.full(10, n)
    f = memory(mode=0o644).cache(slow)
    directory = place / f.func_id
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    creator = fork(lambda: f(3))
    until_noted("holds")
    note("done")
    def other():
        got, said = warned(memory(mode=0o644).cache(slow), 3)
        assert (got == 3).all() and said == []
    assert as_nobody(other)
    assert join(creator) == [0]
    assert f.cached(3)
    """
    run_context(USERS, code)


@NEEDS_TWO_USERS
def test_a_directory_of_locks_that_another_user_planted_is_a_warning(run_context):
    code = """
    f = memory(mode=0o644).cache(make)
    directory = place / f.func_id
    directory.mkdir(parents=True)
    (directory / own).mkdir()
    (directory / own).chmod(0o777)
    os.chown(directory / own, NOBODY, NOBODY)
    (got, n), said = warned(computed, f, 3)
    assert n == 1 and len(said) == 1 and "could not be kept" in said[0], said
    assert list((directory / own).iterdir()) == []
    """
    run_context(USERS, code)


@NEEDS_TWO_USERS
def test_a_total_of_another_user_keeps_nothing_back_and_stays(run_context):
    code = """
    place.mkdir()
    place.chmod(0o777)
    os.umask(0)
    memory(mode=0o644, bytes_limit=10**6).cache(make)(1)
    books = (place / "total.bytes").stat()
    def other():
        def mine(n):
            note("computed")
            return np.ones(n)
        f = memory(bytes_limit=1000).cache(mine)
        for n in range(10, 40):
            (got, times), said = warned(computed, f, n)
            assert times == 1 and said == [], said
            assert f.cached(n)
    note("computed"), os.chmod(here / "computed.list", 0o666)
    directory = place / "__main__"
    directory.chmod(0o777)
    assert as_nobody(other)
    assert (place / "total.bytes").stat().st_ino == books.st_ino
    """
    run_context(USERS, code)

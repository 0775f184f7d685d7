"""Limits of results on disk: who goes, who stays, what that costs, and what nothing may be written to."""

import datetime
import os
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from megalith import records
from megalith.context.disk import Memory
from megalith.context.entries import Entries
from megalith.exceptions import CacheWarning

NBYTES = 10_000


def make(n):
    return np.full(NBYTES, n % 256, np.uint8)


def size(directory):
    return sum(path.stat().st_size for path in directory.rglob("*.npz"))


def total(directory):
    return int.from_bytes((directory / "total.bytes").read_bytes()[:8], "little", signed=True)


def there(f, numbers):
    return [n for n in numbers if f.cached(n)]


@pytest.fixture
def scans(monkeypatch):
    """How often all entries were listed."""
    count = []
    listed = Entries.items

    def items(self, function=""):
        count.append(function)
        return listed(self, function)

    monkeypatch.setattr(Entries, "items", items)
    return count


def test_those_not_used_for_the_longest_time_go_first(tmp_path):
    f = Memory(tmp_path, verbose=0, bytes_limit=6 * 11_000).cache(make)
    for n in range(5):
        f(n)
        time.sleep(0.01)
    for n in (1, 0, 3):  # used again
        f(n)
        time.sleep(0.01)
    f(5), f(6)
    assert there(f, range(7)) == [0, 1, 3, 4, 5, 6]
    f(7)
    assert there(f, range(8)) == [0, 1, 3, 5, 6, 7]
    f(8)
    assert there(f, range(9)) == [0, 3, 5, 6, 7, 8]


def test_the_last_use_by_another_process_counts(tmp_path):
    f = Memory(tmp_path, verbose=0, bytes_limit=4 * 11_000).cache(make)
    for n in range(4):
        f(n)
    f(4)  # makes an index in which 1 is the oldest
    for path in tmp_path.rglob("*.npz"):
        if f.entries() and str(path) == next(e.path for e in f.entries() if e.arguments == {"n": "1"}):
            os.utime(path, ns=(time.time_ns() + 10**9, path.stat().st_mtime_ns))
    f(5)
    assert there(f, range(6)) == [1, 3, 4, 5]


def test_looking_is_no_use(tmp_path):
    f = Memory(tmp_path, verbose=0, bytes_limit=4 * 11_000).cache(make)
    for n in range(4):
        f(n)
        time.sleep(0.01)
    used = {entry.path: entry.last_use for entry in f.entries()}
    for n in reversed(range(4)):
        time.sleep(0.01)
        assert f.cached(n)
        assert f.explain(n).hit
    records.load(f.entries()[0].path)
    Memory(tmp_path, verbose=0, readonly=True).cache(make)(0)
    now = {entry.path: entry.last_use for entry in f.entries()}
    assert [now[path] for path in list(used)[1:]] == [used[path] for path in list(used)[1:]]
    f(4)
    assert not f.cached(0)


def test_a_mapped_result_keeps_its_bytes_after_its_entry_is_gone(tmp_path):
    f = Memory(tmp_path, verbose=0, bytes_limit=3 * 11_000, mmap_mode="r").cache(make)
    kept = [f(n) for n in range(20)]
    assert len(there(f, range(20))) == 3
    f.clear(warn=False)
    for n, array in enumerate(kept):
        assert (array == n).all()


def test_no_scan_per_insert(tmp_path, scans):
    f = Memory(tmp_path, verbose=0, bytes_limit=20 * 11_000).cache(make)
    start = time.monotonic()
    for n in range(300):
        f(n)
    assert size(tmp_path) <= 20 * 11_000
    assert len(scans) <= 2 + (time.monotonic() - start)
    g = Memory(tmp_path, verbose=0, bytes_limit=10**9).cache(make)
    before = len(scans)
    for n in range(300, 400):
        g(n)
    assert len(scans) == before


def test_two_scans_at_once_mend_the_total_once(tmp_path, monkeypatch):
    f = Memory(tmp_path, verbose=0, bytes_limit=10**9).cache(make)
    for n in range(10):
        f(n)
    for path in list(tmp_path.rglob("*.npz"))[:4]:
        path.unlink()  # by others, who do not count
    barrier = threading.Barrier(2)
    listed = Entries.items

    def items(self, function=""):
        found = list(listed(self, function))
        barrier.wait()
        return iter(found)

    monkeypatch.setattr(Entries, "items", items)
    threads = [threading.Thread(target=Entries(str(tmp_path), limit=10**9)._scan) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total(tmp_path) == size(tmp_path)


@pytest.mark.parametrize("what", ["written", "removed", "failed", "replaced", "evicted"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_happens_while_somebody_scans_is_not_lost(tmp_path, monkeypatch, what, when):
    f = Memory(tmp_path, verbose=0, bytes_limit=10**9).cache(make)
    for n in range(5):
        f(n)
    listed = Entries.items

    def happen():
        with monkeypatch.context() as patch:
            patch.setattr(Entries, "items", listed)
            if what == "written":
                f(5)
            elif what == "removed":
                assert f.forget(2)
            elif what == "failed":
                plan = records.plan(np.ones(10), suffix=".npz")
                key = Path(f.entries()[0].path).stem
                assert not f.store_backend.entries.write(f.func_id, key, plan, replace=False)
            elif what == "replaced":
                f.call(1)
            else:
                Memory(tmp_path, verbose=0, bytes_limit=2 * 11_000).cache(make)(6)

    def items(self, function=""):
        found = []
        if when == "before":
            happen()
        found = list(listed(self, function))
        if when == "after":
            happen()
        return iter(found)

    with monkeypatch.context() as patch:
        patch.setattr(Entries, "items", items)
        Entries(str(tmp_path), limit=10**9)._scan()
    assert total(tmp_path) >= size(tmp_path)
    Entries(str(tmp_path), limit=10**9)._scan()
    assert total(tmp_path) == size(tmp_path)


def test_a_scan_while_an_entry_is_being_written_does_not_lose_it(tmp_path, monkeypatch):
    f = Memory(tmp_path, verbose=0, bytes_limit=10**9).cache(make)
    f(0)
    write = records.Plan.write

    def write_and_scan(plan, draft):
        Entries(str(tmp_path), limit=10**9)._scan()
        write(plan, draft)
        Entries(str(tmp_path), limit=10**9)._scan()

    monkeypatch.setattr(records.Plan, "write", write_and_scan)
    f(1)
    assert total(tmp_path) == size(tmp_path)


def test_a_total_that_says_too_much_is_mended_before_anything_goes(tmp_path):
    f = Memory(tmp_path, verbose=0, bytes_limit=10 * 11_000).cache(make)
    for n in range(5):
        f(n)
    (tmp_path / "total.bytes").write_bytes((10**9).to_bytes(8, "little") + bytes(8))
    f = Memory(tmp_path, verbose=0, bytes_limit=10 * 11_000).cache(make)
    f(5)
    assert there(f, range(6)) == list(range(6))
    assert total(tmp_path) == size(tmp_path)


def test_a_directory_that_was_filled_without_a_limit_is_counted_first(tmp_path):
    f = Memory(tmp_path, verbose=0).cache(make)
    for n in range(10):
        f(n)
    assert not (tmp_path / "total.bytes").exists()
    limited = Memory(tmp_path, verbose=0, bytes_limit=5 * 11_000).cache(make)
    limited(10)
    assert size(tmp_path) <= 5 * 11_000
    f(11)  # counts too, from now on
    assert total(tmp_path) == size(tmp_path)


@pytest.mark.parametrize("limit", [0, 5000, "5K"])
def test_a_result_larger_than_the_limit_is_returned_with_one_warning(tmp_path, limit):
    f = Memory(tmp_path, verbose=0, bytes_limit=limit).cache(make)
    with pytest.warns(CacheWarning, match="limit") as caught:
        got = [f(3), f(4)]
    assert [array[0] for array in got] == [3, 4]
    assert len(caught) == 1
    assert size(tmp_path) == 0


def test_results_that_were_not_used_for_so_long_go(tmp_path):
    f = Memory(tmp_path, verbose=0, age_limit=datetime.timedelta(seconds=100)).cache(make)
    for n in range(6):
        f(n)
    by_number = {int(entry.arguments["n"]): entry.path for entry in f.entries()}
    for n in (1, 4):
        os.utime(by_number[n], (time.time() - 200, time.time()))
    f.store_backend.entries._index._made = -float("inf")
    f(6)
    assert there(f, range(7)) == [0, 2, 3, 5, 6]


def state(directory):
    """All that a listing shows, with times; when a directory was read is not ours to keep."""
    found = {}
    for path in [directory, *directory.rglob("*")]:
        status = path.lstat()
        used = None if path.is_dir() else status.st_atime_ns
        found[str(path)] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, used)
    return found


def use(f):
    """All that can be done with a function."""
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        assert (f(1) == 1).all()
        assert (f(99) == 99).all()
        assert (f.call(1)[0] == 1).all()
        assert (f.call_and_shelve(2).get() == 2).all()
        f.cached(1), f.explain(1), f.explain(50), f.entries()
        f.clear(warn=False)


@pytest.mark.parametrize(
    "options", [{}, {"mmap_mode": "r"}, {"bytes_limit": 100}, {"age_limit": datetime.timedelta(0)}]
)
def test_a_memory_that_is_only_read_writes_nothing_at_all(tmp_path, options):
    f = Memory(tmp_path, verbose=0, bytes_limit=10**9).cache(make)
    for n in range(4):
        f(n)
    damaged = next(entry.path for entry in f.entries() if entry.arguments == {"n": "1"})
    for content in (None, b"garbage"):
        if content is not None:
            Path(damaged).write_bytes(content)
        before = state(tmp_path)
        memory = Memory(tmp_path, verbose=0, readonly=True, **options)
        use(memory.cache(make))
        memory.reduce_size(bytes_limit=0)
        memory.clear(warn=False)
        assert state(tmp_path) == before
    missing = tmp_path / "missing"
    use(Memory(missing, verbose=0, readonly=True, **options).cache(make))
    assert not missing.exists()


@pytest.mark.parametrize("is_given_as", ["path", "memory", "readonly memory"])
def test_a_cache_below_is_read_and_never_written_to(tmp_path, is_given_as):
    below = tmp_path / "below"
    shared = Memory(below, verbose=0, bytes_limit=10**9)
    f = shared.cache(make)
    for n in range(4):
        f(n)
    given = {"path": below, "memory": shared, "readonly memory": Memory(below, verbose=0, readonly=True)}[is_given_as]
    here = Memory(tmp_path / "here", verbose=0, below=given)
    before = state(below)
    g = here.cache(make)
    assert g.cached(0)
    assert (g(0) == 0).all()
    assert size(tmp_path / "here") == 0
    use(g)
    assert g.forget(0) is False
    assert g.cached(0)
    here.clear(warn=False)
    assert state(below) == before
    assert (g(7) == 7).all()
    assert len(g.entries()) == 1
    assert not f.cached(7)


@pytest.mark.parametrize("is_given_as", ["path", "memory"])
def test_a_damaged_entry_below_is_computed_and_kept_here(tmp_path, is_given_as):
    below = tmp_path / "below"
    shared = Memory(below, verbose=0)
    f = shared.cache(make)
    f(3)
    Path(f.entries()[0].path).write_bytes(b"garbage")
    before = state(below)
    g = Memory(tmp_path / "here", verbose=0, below=below if is_given_as == "path" else shared).cache(make)
    with pytest.warns(CacheWarning, match="loading") as caught:
        assert (g(3) == 3).all()
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (g(3) == 3).all()
    assert len(g.entries()) == 1
    assert state(below) == before


def test_a_damaged_entry_here_is_set_aside_and_made_again(tmp_path):
    below = Memory(tmp_path / "below", verbose=0)
    g = Memory(tmp_path / "here", verbose=0, below=below).cache(make)
    g(3)
    Path(g.entries()[0].path).write_bytes(b"garbage")
    with pytest.warns(CacheWarning, match="loading"):
        assert (g(3) == 3).all()
    assert g.cached(3)
    assert below.cache(make).entries() == []


def test_eight_processes_that_write_at_once_keep_the_limit(run_context):
    code = """
    LIMIT, ROOM = 300_000, 8 * 25_000
    def make(i):
        return np.full(10_000 + i % 10_000, i % 251, np.uint8)
    def ask(seed):
        f = memory(bytes_limit=LIMIT).cache(make)
        note("started")
        until_noted("started", 8)
        for i in range(seed * 1000, seed * 1000 + 60):
            assert (f(i) == i % 251).all()
        note("done")
    crowd = [fork(ask, i) for i in range(8)]
    most = 0
    while len(noted("done")) < 8:
        most = max(most, size())
        time.sleep(0.002)
    assert join(*crowd) == [0] * 8
    assert LIMIT / 2 < most <= LIMIT + ROOM, most
    assert LIMIT / 2 < size() <= LIMIT and total() >= size(), (size(), total())
    Entries(str(place), limit=LIMIT)._scan()
    assert total() == size()
    """
    run_context(code)


def test_a_module_named_as_the_total_is_kept_as_others_are(tmp_path):
    def f(x):
        return x

    for name in ("total", "total.bytes", "bytes"):
        f.__module__ = name
        cached = Memory(tmp_path, verbose=0, bytes_limit=10**6).cache(f, version=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cached(1)
        assert cached.cached(1)

"""No room, no permission, no directory: results are returned with a warning, and kept again when they can be."""

import os
from pathlib import Path

import pytest

NEEDS_TWO_USERS = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

FULL = """
def make(n):
    note("computed")
    return np.ones(n, np.uint8)

def unkept(f, *args):
    '''A call is answered, with one warning, and nothing of it is left.'''
    before = sorted(entry_files())
    (got, n), said = warned(computed, f, *args)
    assert got.size == args[0] and got.all() and n == 1
    assert len(said) == 1 and "returned but could not be kept" in said[0], said
    assert sorted(entry_files()) == before and leftovers() == [], leftovers()
    assert not f.cached(*args)

def kept(f, *args):
    (got, n), said = warned(computed, f, *args)
    assert got.size == args[0] and n == 1 and said == [], said
    assert computed(f, *args)[1] == 0 and f.cached(*args)
"""


@pytest.mark.parametrize("options", ["", "bytes_limit=10**9", "mmap_mode='r'"])
def test_a_full_disk_returns_results_and_raises_nothing(run_context, tmpfs, options):
    small = tmpfs("8m")
    code = f"""
    f = memory({options}).cache(make)
    kept(f, 1000)
    unkept(f, 20_000_000)
    unkept(f, 20_000_001)
    filler = shm / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    unkept(f, 30_000)
    assert computed(f, 1000)[1] == 0
    unkept(memory(at=shm / "new" {", " + options if options else ""}).cache(make), 30_000)
    got, said = warned(f.call_and_shelve, 30_000)
    assert got.get().size == 30_000 and len(said) == 1
    filler.unlink()
    kept(f, 30_000)
    g = memory({options}).cache(make)
    assert computed(g, 30_000)[1] == 0
    if (place / "total.bytes").exists():
        assert total() >= size()
    """
    run_context(FULL, code, directory=small["directory"], prefix=small["prefix"])


def test_many_writers_that_fill_the_disk_together_all_get_results(run_context, tmpfs):
    small = tmpfs("8m")
    code = """
    warnings.simplefilter("ignore", CacheWarning)
    def ask(seed):
        f = memory(bytes_limit=10**9).cache(make)
        for i in range(20):
            assert f(1_000_000 + (seed * 20 + i) % 30).all()
    assert join(*[fork(ask, i) for i in range(6)]) == [0] * 6
    for path in entry_files():
        records.load(path, verify=True)
    assert total() >= size()
    """
    run_context(FULL, code, directory=small["directory"], prefix=small["prefix"])


def test_a_file_system_without_names_left_returns_results(run_context, tmpfs):
    small = tmpfs("8m,nr_inodes=24")
    code = """
    f = memory(bytes_limit=10**9).cache(make)
    kept(f, 1000)
    made = []
    with contextlib.suppress(OSError):
        for i in range(100):
            (shm / f"filler{i}").touch()
            made.append(i)
    unkept(f, 2000)
    unkept(memory(at=shm / "new").cache(make), 2000)
    assert computed(f, 1000)[1] == 0
    for i in made:
        (shm / f"filler{i}").unlink()
    kept(f, 2000)
    """
    run_context(FULL, code, directory=small["directory"], prefix=small["prefix"])


def test_a_limit_on_the_size_of_files_returns_results(run_context):
    code = """
    import resource
    f = memory(bytes_limit=10**9).cache(make)
    kept(f, 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    unkept(f, 200_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept(f, 200_000)
    """
    run_context(FULL, code)


def test_a_directory_on_a_read_only_mount_is_read(run_context, tmpfs):
    small = tmpfs("8m")
    code = """
    def mount(*arguments):
        subprocess.run(["mount", *arguments], check=True)
    f = memory(bytes_limit=10**9).cache(make)
    kept(f, 1000)
    kept(f, 1001)
    (damaged,) = {Path(entry.path) for entry in f.entries() if entry.arguments == {"n": "1001"}}
    damaged.write_bytes(b"garbage")
    mount("-o", "remount,ro", str(shm))
    for options in ({}, {"bytes_limit": 10**9}, {"bytes_limit": 1000}, {"readonly": True}):
        f = memory(**options).cache(make)
        assert computed(f, 1000)[1] == 0
        (got, n), said = warned(computed, f, 2000)
        assert got.size == 2000 and n == 1 and len(said) == (0 if options.get("readonly") else 1)
        # A damaged one that cannot be set aside.
        (got, n), said = warned(computed, f, 1001)
        assert got.size == 1001 and n == 1 and 1 <= len(said) <= 2 and "loading" in said[0]
        async def later(n):
            note("computed")
            return np.ones(n)
        got, said = warned(asyncio.run, memory(**options).cache(later)(5))
        assert got.size == 5 and len(said) == (0 if options.get("readonly") else 1)
    mount("-o", "remount,rw", str(shm))
    f = memory().cache(make)
    kept(f, 2000)
    got, said = warned(f, 1001)
    assert got.size == 1001 and len(said) == 1
    """
    run_context(FULL, code, directory=small["directory"], prefix=small["prefix"])


WARM = """
# What Python loads lazily is loaded by root: another user may not be allowed to read it.
warm = memory(at=here / "warm", bytes_limit=1000).cache(make)
warned(warm, 10), warm(10), warm.cached(10), warm.entries(), warned(warm, 10_000)
(here / "warm" / "blocked").write_bytes(b"")
warned(memory(at=here / "warm" / "blocked").cache(make), 10)
Path(warm.entries()[0].path).write_bytes(b"garbage")
warned(warm, 10)
os.chmod(here, 0o777)
for list_ in here.glob("*.list"):
    list_.chmod(0o666)
for above in [shm, *shm.parents]:
    if above != Path("/tmp") and above != Path("/"):
        above.chmod(above.stat().st_mode | 0o055)

NOBODY = 65534
def as_nobody(work):
    return join(as_user(NOBODY, work)) == [0]
"""


@NEEDS_TWO_USERS
def test_who_may_not_write_to_the_directory_gets_results_and_hits(run_context):
    code = """
    f = memory(mode=0o644, bytes_limit=10**9).cache(make)
    kept(f, 1000)

    def ask():
        for options in ({}, {"bytes_limit": 10**9}, {"age_limit": __import__("datetime").timedelta(0)}):
            f = memory(**options).cache(make)
            got, n = computed(f, 1000)
            assert n == 0
            (got, n), said = warned(computed, f, 2000)
            assert got.size == 2000 and n == 1 and len(said) == 1, said
            assert f.cached(1000) and not f.cached(2000)
    before = os.umask(0)
    os.umask(before)
    assert as_nobody(ask)
    assert computed(f, 1000)[1] == 0 and len(entry_files()) == 1
    # What he may not even read is computed by him.
    place.chmod(0o700)
    def ask_in_vain():
        (got, n), said = warned(computed, memory().cache(make), 1000)
        assert got.size == 1000 and n == 1 and 1 <= len(said) <= 2, said
    assert as_nobody(ask_in_vain)
    """
    run_context(FULL, WARM, code)


@pytest.mark.parametrize("options", ["", "bytes_limit=10**9", "mmap_mode='r'"])
def test_a_directory_that_vanishes_between_or_during_calls_is_made_again(run_context, options):
    code = f"""
    def make(n):
        note("computed")
        if n % 2:
            shutil.rmtree(place)
        return np.ones(n)
    f = memory({options}).cache(make)
    for n in range(2, 12):
        (got, times), said = warned(computed, f, n)
        assert got.size == n and times == 1 and len(said) <= 1, said
        assert len(said) == 0 or "could not be kept" in said[0]
        if n % 3 == 0:
            shutil.rmtree(place)
    assert f.entries() == [] or len(f.entries()) > 0
    f(20)
    assert computed(f, 20)[1] == 0
    """
    run_context(code)


def test_a_directory_that_vanishes_again_and_again_under_many_processes_harms_nobody(run_context):
    code = """
    def make(n):
        return np.full(2000, n)
    warnings.simplefilter("ignore", CacheWarning)
    def ask(seed):
        random_ = random.Random(seed)
        f = memory(bytes_limit=200_000).cache(make)
        note("started")
        while not (here / "stop.list").exists():
            n = random_.randrange(20)
            assert (f(n) == n).all()
            f.entries()
    crowd = [fork(ask, i) for i in range(4)]
    until_noted("started", 4)
    for _ in range(60):
        shutil.rmtree(place, ignore_errors=True)
        time.sleep(0.01)
    note("stop")
    assert join(*crowd) == [0] * 4
    f = memory(bytes_limit=10**9).cache(make)
    assert (f(3) == 3).all() and f.cached(3)
    """
    run_context(code)


def test_who_waits_while_the_directory_is_deleted_computes(run_context):
    code = """
    def make(n):
        note("computed")
        if len(noted("computed")) == 1:
            until_noted("deleted")
        return np.full(5, n)
    warnings.simplefilter("ignore", CacheWarning)
    f = memory().cache(make)
    def ask():
        assert f(3).tolist() == [3] * 5
    first = fork(ask)
    until_noted("computed")
    second = fork(ask)
    time.sleep(0.2)
    shutil.rmtree(place)
    until_noted("computed", 2)
    note("deleted")
    assert join(first, second) == [0, 0]
    assert f(3).tolist() == [3] * 5 and f.cached(3)
    """
    run_context(code)


def test_a_file_in_the_place_of_a_directory_is_a_warning(tmp_path, run_context):
    code = """
    f = memory().cache(make)
    directory = place / f.func_id
    for blocked in (directory, directory.parent, place):
        shutil.rmtree(place, ignore_errors=True)
        blocked.parent.mkdir(parents=True, exist_ok=True)
        blocked.write_bytes(b"theirs")
        (got, n), said = warned(computed, f, 10)
        assert got.size == 10 and n == 1 and len(said) == 1, said
        assert blocked.read_bytes() == b"theirs"
        blocked.unlink()
    kept(f, 10)
    """
    run_context(FULL, code)
    assert not Path("/nothing").exists()


@pytest.mark.parametrize("kind", ["directory", "link", "garbage"])
def test_a_total_that_cannot_be_kept_keeps_nothing_back(run_context, kind):
    code = f"""
    place.mkdir()
    books = place / "total.bytes"
    if {kind!r} == "directory":
        books.mkdir()
    elif {kind!r} == "link":
        books.symlink_to(shm / "elsewhere")
    else:
        books.write_bytes(b"garbage")
    f = memory(bytes_limit=100_000).cache(make)
    for n in range(10_000, 10_030):
        kept(f, n)
    assert not (shm / "elsewhere").exists()
    if {kind!r} != "directory":
        assert size() <= 100_000
    """
    run_context(FULL, code)

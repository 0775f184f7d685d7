"""No room: an exception before anything is written, which carries what was computed; nobody is killed.

File systems are private mounts of a few MB. Limits of memory are simulated in private mounts too, over the files that
tell of them: nothing outside of the test sees them.
"""

import os
import re
from pathlib import Path

import pytest

MB = 10**6

SMALL = """
def assert_nothing_left():
    gc.collect()
    assert left_behind(shm) == [], left_behind(shm)
    assert ls() == []

def check(error, asked, result=None):
    '''What a SharedMemoryFullError says.'''
    assert isinstance(error, MemoryError) and isinstance(error, MegalithError)
    assert asked <= error.asked <= asked + 100_000, error.asked
    assert 0 <= error.free < error.asked
    assert str(error.path).startswith(str(shm)), error.path
    assert error.result is result
    assert str(shm) in str(error) and "free" in str(error), str(error)

def block(*args):
    with allocate("a", *args):
        never()

def children_live():
    assert join(fork(lambda: cache("small", lambda: np.ones(10)).sum())) == [0]
    free("small")
"""


@pytest.fixture
def small(tmpfs):
    """A private file system in memory of 64 MB."""
    return tmpfs("64m")


def test_an_array_larger_than_the_file_system_is_an_error_that_carries_it(run, small):
    code = """
    values = np.zeros(100_000_000, np.uint8)
    error = raises(SharedMemoryFullError, cache, "a", values)
    check(error, values.nbytes, values)
    assert_nothing_left()
    children_live()
    """
    run(small["directory"], SMALL, code, prefix=small["prefix"])


def test_what_a_callback_computed_is_carried_by_the_error(run, small):
    code = """
    values = np.zeros(100_000_000, np.uint8)
    def compute():
        note("computed")
        return values
    error = raises(SharedMemoryFullError, cache, "a", compute)
    check(error, values.nbytes, values)
    assert len(noted("computed")) == 1
    assert_nothing_left()
    assert cache("a", lambda: np.ones(3)).sum() == 3
    free("a")
    """
    run(small["directory"], SMALL, code, prefix=small["prefix"])


def test_what_another_process_computed_is_not_waited_for_any_longer(run, small):
    code = """
    def large():
        note("holds")
        until_noted("waits", 2)
        return np.zeros(100_000_000, np.uint8)
    first = fork(lambda: raises(SharedMemoryFullError, cache, "a", large))
    until_noted("holds")
    others = [fork(lambda: cache("a", lambda: np.ones(3), **waiting("waits")).sum() == 3 or never()) for _ in range(2)]
    assert join(first, *others) == [0, 0, 0]
    free("a")
    assert_nothing_left()
    """
    run(small["directory"], SMALL, code, prefix=small["prefix"])


def test_a_nesting_without_room_is_an_error_that_carries_it(run, small):
    code = """
    value = {"x": np.zeros(50_000_000, np.uint8), "y": [np.zeros(50_000_000, np.uint8), None]}
    error = raises(SharedMemoryFullError, cache, "a", lambda: value)
    check(error, 100_000_000, value)
    assert_nothing_left()
    """
    run(small["directory"], SMALL, code, prefix=small["prefix"])


def test_allocate_without_room_is_an_error_before_anything_is_written(run, small):
    code = """
    for shape, dtype in ((100_000_000, np.uint8), ((10_000, 10_000), "f8"), (2**50, "u1")):
        error = raises(SharedMemoryFullError, block, shape, dtype)
        check(error, np.prod(shape) * np.dtype(dtype).itemsize)
        assert_nothing_left()
    volume = os.statvfs(shm)
    assert volume.f_bavail * volume.f_frsize > 60_000_000
    children_live()
    """
    run(small["directory"], SMALL, code, prefix=small["prefix"])


def test_what_fits_just_so_is_stored(run, small):
    code = """
    volume = os.statvfs(shm)
    n = volume.f_bavail * volume.f_frsize - 200_000
    values = np.ones(n, np.uint8)
    assert cache("a", values).sum() == n
    free("a")
    with allocate("b", n, np.uint8) as array:
        array[:] = 2
    assert get("b").sum() == 2 * n
    free("b")
    del array
    assert_nothing_left()
    """
    run(small["directory"], SMALL, code, prefix=small["prefix"])


def test_a_full_file_system_says_what_could_be_pruned(run, small):
    code = """
    cache("old", np.ones(40_000_000, np.uint8))
    error = raises(SharedMemoryFullError, cache, "a", np.zeros(40_000_000, np.uint8))
    assert 40_000_000 <= error.prunable <= 40_100_000
    assert error.free < 28_000_000
    assert "prun" in str(error)
    assert [entry.id for entry in ls()] == ["old"]
    prune(max_bytes=0)
    assert cache("a", error.result).size == 40_000_000
    free("a")
    assert_nothing_left()
    """
    run(small["directory"], SMALL, code, prefix=small["prefix"])


def test_a_freed_array_that_is_still_mapped_takes_its_room(run, small):
    code = """
    array = cache("a", np.ones(40_000_000, np.uint8))
    free("a")
    raises(SharedMemoryFullError, cache, "b", np.zeros(40_000_000, np.uint8))
    assert array.sum() == 40_000_000
    del array
    gc.collect()
    assert cache("b", np.zeros(40_000_000, np.uint8)).sum() == 0
    free("b")
    """
    run(small["directory"], SMALL, code, prefix=small["prefix"])


def test_files_of_others_that_fill_it_are_an_error_too(run, small):
    code = """
    (shm / "other").write_bytes(bytes(60_000_000))
    error = raises(SharedMemoryFullError, cache, "a", np.zeros(10_000_000, np.uint8))
    assert error.prunable == 0
    raises(SharedMemoryFullError, block, 10_000_000, "u1")
    (shm / "other").unlink()
    assert_nothing_left()
    """
    run(small["directory"], SMALL, code, prefix=small["prefix"])


def test_many_who_want_the_last_room_get_it_or_an_error(run, small):
    code = """
    def ask(i):
        try:
            assert (cache(f"a{i}", lambda: np.full(12_000_000, i, np.uint8)) == i).all()
            note("stored")
        except SharedMemoryFullError as error:
            assert (error.result == i).all()
            note("full")

    assert join(*[fork(ask, i) for i in range(8)]) == [0] * 8
    assert 1 <= len(noted("stored")) <= 5
    assert len(noted("stored") + noted("full")) == 8
    for i in range(8):
        free(f"a{i}")
    assert_nothing_left()
    """
    run(small["directory"], SMALL, code, prefix=small["prefix"])


def test_writable_shared_memory_without_room_is_an_error(run, small):
    code = """
    import megalith
    os.environ["MEGALITH_SHARED_DIR"] = str(shm)
    error = raises(
        SharedMemoryFullError, megalith.initialize_sink, shape=(100_000_000,), dtype="u1", memory="shared"
    )
    check(error, 100_000_000)
    assert_nothing_left()
    np.save(here / "in.npy", np.zeros(70_000_000, np.uint8))
    error = raises(SharedMemoryFullError, megalith.read, here / "in.npy", memory="shared")
    check(error, 70_000_000)
    assert_nothing_left()
    assert megalith.read(here / "in.npy", memory="shared", slicing=slice(0, 1000)).array.sum() == 0
    """
    run(small["directory"], SMALL, code, prefix=small["prefix"])


def test_writable_shared_memory_gives_its_room_back(run, small):
    code = """
    import megalith
    os.environ["MEGALITH_SHARED_DIR"] = str(shm)
    for _ in range(4):
        sink, buffer = megalith.initialize_sink(shape=(40_000_000,), dtype="u1", memory="shared")
        buffer[:] = 1
        del sink, buffer
        gc.collect()
    assert_nothing_left()
    """
    run(small["directory"], SMALL, code, prefix=small["prefix"])


def test_a_directory_that_is_full_of_names_is_an_error_that_leaves_nothing(run, tmpfs):
    # Room for very few files: the locks need some too.
    code = """
    kept = []
    error = None
    for i in range(40):
        try:
            kept.append(cache(f"a{i}", lambda: np.ones(3)))
        except (SharedMemoryFullError, OSError) as error:
            break
    else:
        never()
    for i in range(len(kept)):
        free(f"a{i}")
    assert_nothing_left()
    """
    place = tmpfs("4m,nr_inodes=16")
    run(place["directory"], SMALL, code, prefix=place["prefix"])


LIMITS = """
def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)

def limit_group(point, limit, used, path):
    '''Cover a mount of control groups by one that tells of a limit.'''
    mount("-t", "tmpfs", "-o", "size=1m", "none", point)
    group = Path(point + path)
    group.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used), strict=True):
        (Path(point) / name).write_text(f"{value}\\n")
        (group / name).write_text(f"{value}\\n")
    for place in (Path(point), group):
        (place / "memory.stat").write_text("anon 0\\ninactive_file 0\\nactive_file 0\\n")

values = np.zeros(100_000_000, np.uint8)
"""
NAMES = {
    "cgroup2": ("memory.max", "memory.current"),
    "cgroup": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
}


def group_mount(kind):
    """Where this machine has mounted its memory groups, and the group of this process in them."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        if after.split()[0] == kind and (kind == "cgroup2" or "memory" in after.split()[-1].split(",")):
            root, point = before.split()[3:5]
            break
    else:
        pytest.skip(f"this machine has mounted no {kind} for memory, which a limit could be simulated in")
    pattern = r"^0::(.*)$" if kind == "cgroup2" else r"^\d+:(?:\w+,)*memory(?:,\w+)*:(.*)$"
    path = re.search(pattern, Path("/proc/self/cgroup").read_text(), flags=re.MULTILINE)[1]
    return point, path.removeprefix(root.rstrip("/"))


@pytest.mark.parametrize("kind", NAMES)
def test_more_than_the_limit_of_the_control_group_is_an_error(run, tmpfs, kind):
    point, path = group_mount(kind)
    place = tmpfs("1g")
    code = f"""
    names = {NAMES[kind]!r}
    limit_group({point!r}, 150_000_000, 100_000_000, {path!r})
    error = raises(SharedMemoryFullError, cache, "a", values)
    check(error, values.nbytes, values)
    assert error.free <= 50_000_000
    raises(SharedMemoryFullError, block, 100_000_000, "u1")
    assert_nothing_left()
    assert cache("a", lambda: np.ones(1_000_000, np.uint8)).sum() == 1_000_000
    free("a")
    """
    run(place["directory"], SMALL, LIMITS, code, prefix=place["prefix"])


@pytest.mark.parametrize("kind", NAMES)
def test_a_control_group_without_a_limit_limits_nothing(run, tmpfs, kind):
    point, path = group_mount(kind)
    place = tmpfs("1g")
    unlimited = "max" if kind == "cgroup2" else str(2**63 - 4096)
    code = f"""
    names = {NAMES[kind]!r}
    limit_group({point!r}, {unlimited!r}, 100_000_000, {path!r})
    with allocate("a", 30_000_000, "u1"):
        pass
    free("a")
    """
    run(place["directory"], SMALL, LIMITS, code, prefix=place["prefix"])


def test_more_than_the_memory_of_the_machine_is_an_error(run, tmpfs):
    place = tmpfs("1g")
    code = """
    told = here / "meminfo"
    told.write_text("MemTotal: 800000 kB\\nMemFree: 290000 kB\\nMemAvailable: 300000 kB\\n")
    mount("--bind", str(told), "/proc/meminfo")
    error = raises(SharedMemoryFullError, cache, "a", values)  # 100 MB of 300, of which some is kept for others
    check(error, values.nbytes, values)
    raises(SharedMemoryFullError, block, 400_000_000, "u1")
    assert_nothing_left()
    assert cache("a", lambda: np.ones(1_000_000, np.uint8)).sum() == 1_000_000
    free("a")
    """
    run(place["directory"], SMALL, LIMITS, code, prefix=place["prefix"])


def test_a_real_control_group_with_a_limit_kills_nobody(run, tmpfs):
    parent = os.environ.get("MEGALITH_TEST_CGROUP")
    if parent is None:
        pytest.skip(
            "MEGALITH_TEST_CGROUP names no directory of memory control groups in which a test may make one "
            "(simulated limits are tested above)"
        )
    group = Path(parent) / f"megalith-test-{os.getpid()}"
    group.mkdir()
    is_old = (group / "memory.limit_in_bytes").exists()
    (group / NAMES["cgroup" if is_old else "cgroup2"][0]).write_text(str(200 * MB))
    try:
        place = tmpfs("1g")
        code = f"""
        def ask():
            Path({str(group)!r}, "cgroup.procs").write_text(str(os.getpid()))
            raises(SharedMemoryFullError, block, 400_000_000, "u1")
            large = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (400_000_000,), (0,))  # one byte
            raises(SharedMemoryFullError, cache, "a", large)
            assert_nothing_left()
            assert cache("a", lambda: np.ones(10_000_000, np.uint8)).sum() == 10_000_000
            free("a")
        assert join(fork(ask)) == [0]
        """
        run(place["directory"], SMALL, code, prefix=place["prefix"])
    finally:
        group.rmdir()


def test_no_more_mappings_are_an_error_and_more_of_them_work_again(run, shm):
    code = """
    import mmap
    cache("a", lambda: np.ones(3))
    gc.collect()
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    if limit > 200_000:
        print("too many mappings are allowed to use them up")
        sys.exit()
    maps, reserve, error = [], [bytearray(1 << 20) for _ in range(8)], None
    try:
        while True:
            maps.append(mmap.mmap(-1, 4096, prot=mmap.PROT_READ))
    except OSError:
        try:
            get("a")
        except (OSError, MemoryError) as e:
            error = e
    maps.clear()
    assert error is not None
    assert get("a").sum() == 3
    free("a")
    """
    assert run(shm, code) in ("", "too many mappings are allowed to use them up\n")


def test_a_limit_on_the_size_of_files_is_an_error_that_leaves_nothing(run, shm):
    code = """
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    raises(OSError, cache, "a", np.zeros(2_000_000, np.uint8))
    raises(OSError, cache, "a", [np.zeros(900_000, np.uint8)] * 1 + [np.ones(900_000, np.uint8)])
    raises(OSError, block, 2_000_000, "u1")
    assert_nothing_left()
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert cache("a", np.zeros(2_000_000, np.uint8)).size == 2_000_000
    free("a")
    """
    run(shm, SMALL, code)


def test_no_more_descriptors_are_an_error_and_more_of_them_work_again(run, shm):
    code = """
    import resource
    cache("there", lambda: np.ones(3))
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for spare in (0, 1, 2, 3, 4):
        opened = []
        try:
            while True:
                opened.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            for _ in range(spare):
                os.close(opened.pop())
        for value in (np.ones(3), [np.ones(3)], None):
            try:
                get("there") if value is None else cache("a", value)
            except OSError:
                pass
            free("a")
        for file in opened:
            os.close(file)
        assert cache("a", lambda: np.ones(3), timeout=0).sum() == 3
        free("a")
        assert get("there").sum() == 3
    free("there")
    assert_nothing_left()
    """
    run(shm, SMALL, code)


PEAK = """
def anonymous():
    '''Bytes of this process that nobody shares.'''
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) << 10

N = 32_000_000
cache("warm", lambda: np.ones(10))
free("warm")
"""


def test_allocate_holds_no_second_copy(run, shm):
    code = """
    before = anonymous()
    with allocate("a", N, np.uint8) as array:
        for i in range(0, N, 1_000_000):
            array[i : i + 1_000_000] = 7
        inside = anonymous()
    after = anonymous()
    assert array.sum(dtype=np.int64) == 7 * N
    assert max(inside, after) - before < N / 4, (before, inside, after)
    free("a")
    """
    run(shm, PEAK, code)


def test_a_view_of_another_process_is_no_copy(run, shm):
    code = """
    values = np.full(N, 7, np.uint8)
    assert join(fork(lambda: cache("a", values))) == [0]
    def look():
        before = anonymous()
        array = get("a")
        assert array[::4096].sum(dtype=np.int64) == 7 * array[::4096].size
        assert array[: N // 2].any() and array[N // 2 :].any()
        assert anonymous() - before < N / 4
    assert join(fork(look), fork(look)) == [0, 0]
    free("a")
    """
    run(shm, PEAK, code)


def test_storing_an_array_takes_no_copy_beside_the_stored_one(run, shm):
    code = """
    values = np.full(N, 7, np.uint8)
    before = anonymous()
    peak = 0
    stop = threading.Event()
    def watch():
        global peak
        while not stop.is_set():
            peak = max(peak, anonymous())
            time.sleep(0.0005)
    watcher = threading.Thread(target=watch)
    watcher.start()
    array = cache("a", values)
    other = cache("b", lambda: {"x": values, "y": values[: N // 2]})
    stop.set()
    watcher.join()
    assert max(peak, anonymous()) - before < N / 2, (before, peak)
    free("a"), free("b")
    """
    run(shm, PEAK, code)

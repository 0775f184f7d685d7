"""Forks in the midst of it: a child inherits views, but neither locks nor the right to publish."""

import pytest

PREPARE = """
values = np.arange(50_000.0)

def right(array):
    assert np.array_equal(array, values)

def thread_that_holds(name="a"):
    '''Another thread of this process that computes a name until "done" is noted.'''
    def slow():
        note("holds")
        until_noted("done")
        return values
    thread = threading.Thread(target=cache, args=(name, slow))
    thread.start()
    until_noted("holds")
    return thread
"""


def test_a_child_sees_the_views_of_its_parent(run, shm):
    code = """
array = cache("a", lambda: values)
part = array[10:20]
def look():
    right(array)
    assert part.tolist() == values[10:20].tolist()
    assert cache("a", never).ctypes.data == array.ctypes.data
assert join(fork(look), fork(look)) == [0, 0]
free("a")
assert join(fork(lambda: right(array))) == [0]
"""
    run(shm, PREPARE, code)


def test_a_child_may_make_and_free_names(run, shm):
    code = """
array = cache("a", lambda: values)
def work():
    assert cache("b", lambda: np.ones(3)).sum() == 3
    free("a")
    cache("a", lambda: np.zeros(3))
assert join(fork(work)) == [0]
assert cache("a", never).tolist() == [0, 0, 0]
assert cache("b", never).tolist() == [1, 1, 1]
right(array)
free("a"), free("b")
"""
    run(shm, PREPARE, code)


def test_a_child_forked_while_another_thread_computes_waits_for_it(run, shm):
    code = """
thread = thread_that_holds()
child = fork(lambda: right(cache("a", never, **waiting("waits"))))
until_noted("waits")
note("done")
thread.join(HANG_S)
assert join(child) == [0]
free("a")
"""
    run(shm, PREPARE, code)


def test_a_child_forked_while_another_thread_computes_does_not_end_the_lock(run, shm):
    code = """
thread = thread_that_holds()
def work():
    assert cache("b", lambda: np.ones(3)).sum() == 3
    raises(LockTimeoutError, cache, "a", never, timeout=0)
    gc.collect()
assert join(*[fork(work) for _ in range(3)]) == [0] * 3
raises(LockTimeoutError, cache, "a", never, timeout=0)
note("done")
thread.join(HANG_S)
right(cache("a", never))
free("a"), free("b")
"""
    run(shm, PREPARE, code)


def test_a_child_of_a_callback_does_not_end_the_lock(run, shm):
    code = """
def make():
    assert join(fork(gc.collect), fork(lambda: cache("b", lambda: np.ones(3)))) == [0, 0]
    multiprocessing.get_context("fork").Process(target=int).start()
    subprocess.run(["true"], check=True)
    note("forked")
    until_noted("done")
    return values

creator = fork(lambda: right(cache("a", make)))
until_noted("forked")
raises(LockTimeoutError, cache, "a", never, timeout=0.2)
note("done")
assert join(creator) == [0]
right(cache("a", never))
free("a"), free("b")
"""
    run(shm, PREPARE, code)


def test_a_child_that_leaves_the_callback_by_itself_publishes_nothing_by_halves(run, shm):
    code = """
def make():
    global pid
    pid = os.fork()  # both return from the callback
    return values

right(cache("a", make))
if pid == 0:
    os._exit(0)
assert join(pid) == [0]
right(cache("a", never))
free("a")
"""
    run(shm, PREPARE, code)


def test_a_callback_may_compute_in_a_pool_of_forked_processes(run, shm):
    code = """
def square(i):
    return cache("table", lambda: np.arange(100.0) ** 2)[i]

def make():
    with multiprocessing.get_context("fork").Pool(3) as pool:
        return np.array(pool.map(square, range(100), chunksize=5))

assert np.array_equal(cache("a", make), np.arange(100.0) ** 2)
free("a"), free("table")
"""
    run(shm, PREPARE, code)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_processes_started_by_any_method_share_one_array(run, shm, method):
    code = f"""
def make():
    note("computed")
    time.sleep(0.2)
    return values

def total(_):
    return float(cache("a", make).sum())

if __name__ == "__main__":
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        assert pool.map(total, range(4), chunksize=1) == [values.sum()] * 4
    assert len(noted("computed")) == 1
    right(cache("a", never))
    free("a")
"""
    run(shm, PREPARE, code)


def test_forked_children_write_into_an_allocated_array(run, shm):
    code = """
def fill_last():
    array[3] = 4
with allocate("a", (4, 1000), np.int64) as array:
    def fill(i):
        array[i] = i + 1
    assert join(*[fork(fill, i) for i in range(3)]) == [0] * 3
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.apply(fill_last)
    assert array.sum() == 10_000
assert get("a").sum(axis=1).tolist() == [1000, 2000, 3000, 4000]
assert not array.flags.writeable
free("a")
"""
    run(shm, PREPARE, code)


def test_a_child_that_leaves_the_block_of_its_parent_publishes_nothing(run, shm):
    code = """
with allocate("a", 1000, "u1") as array:
    pid = os.fork()
    if pid == 0:
        sys.exit(0)  # unwinds the block in the child
    assert join(pid) == [0]
    raises(KeyMissingError, get, "a")
    assert not list(shm.glob("sharearray_*"))
    raises(LockTimeoutError, cache, "a", never, timeout=0)
    def ask():
        raises(LockTimeoutError, cache, "a", never, timeout=0)
    assert join(fork(ask)) == [0]
    array[:] = 1
assert get("a").sum() == 1000
free("a")
"""
    run(shm, PREPARE, code)


def test_children_see_what_is_written_into_shared_memory_without_a_name(run, shm):
    code = """
import megalith
os.environ["MEGALITH_SHARED_DIR"] = str(shm)
np.save(here / "in.npy", np.zeros((3, 1000)))
sink, buffer = megalith.initialize_sink(shape=(3, 1000), dtype="f8", memory="shared")
read = megalith.read(here / "in.npy", memory="shared")
def fill(i):
    buffer[i] = i + 1
    read.array[i] = 10 * (i + 1)
assert join(*[fork(fill, i) for i in range(3)]) == [0] * 3
assert sink.array[:, -1].tolist() == [1, 2, 3]
assert read.array[:, -1].tolist() == [10, 20, 30]
assert left_behind(shm) == []
"""
    run(shm, PREPARE, code)


def test_shared_memory_without_a_name_dies_with_its_killed_holder(run, shm):
    code = """
import megalith
os.environ["MEGALITH_SHARED_DIR"] = str(shm)
def hold():
    sink, buffer = megalith.initialize_sink(shape=(1_000_000,), dtype="u1", memory="shared")
    buffer[:] = 1
    note("holds")
    time.sleep(HANG_S)
child = fork(hold)
until_noted("holds")
kill(child)
cache("a", lambda: values)
free("a")
assert left_behind(shm) == []
"""
    run(shm, PREPARE, code)


def test_forty_forks_while_threads_store_and_free_all_hold_good(run, shm):
    code = """
stop = threading.Event()
def churn(i):
    n = 0
    while not stop.is_set():
        n += 1
        assert (cache(f"t{i}", lambda: np.full(1000, i)) == i).all()
        if n % 3 == 0:
            free(f"t{i}")
threads = [threading.Thread(target=churn, args=(i,)) for i in range(3)]
for thread in threads:
    thread.start()
def work(i):
    assert (cache(f"t{i % 3}", lambda: np.full(1000, i % 3)) == i % 3).all()
    assert cache(f"child{i}", lambda: np.ones(10)).sum() == 10
    free(f"child{i}")
try:
    for i in range(40):
        assert join(fork(work, i)) == [0], i
finally:
    stop.set()
    for thread in threads:
        thread.join(HANG_S)
for i in range(3):
    free(f"t{i}")
"""
    run(shm, PREPARE, code)


def test_no_process_or_thread_is_started_beside(run, shm):
    code = """
def tasks():
    return len(os.listdir("/proc/self/task"))
def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
before = tasks()
array = cache("a", lambda: values)
with allocate("b", 3, "u1"):
    pass
assert tasks() == before
assert children() == []
free("a"), free("b")
"""
    run(shm, PREPARE, code)

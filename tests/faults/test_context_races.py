"""Many ask for one result on disk: one computes; whoever fails, dies or forks is followed by one of the others."""

import time

import numpy as np
import pytest

from megalith.context.disk import Memory
from megalith.context.entries import Entries
from megalith.records import digest

MAKE = """
def make(n):
    note("computed")
    time.sleep(0.2)
    return np.arange(n)

def right(got, n):
    assert np.array_equal(got, np.arange(n))
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_eight_processes_on_one_cold_key_compute_once(run_context, method):
    code = f"""
    def ask(n):
        note("started")
        until_noted("started", 8)
        right(memory(bytes_limit=10**9).cache(make)(n), n)

    if __name__ == "__main__":
        children = [multiprocessing.get_context("{method}").Process(target=ask, args=(1000,)) for _ in range(8)]
        for child in children:
            child.start()
        for child in children:
            child.join(HANG_S)
        assert [child.exitcode for child in children] == [0] * 8
        assert len(noted("computed")) == 1, noted("computed")
        assert leftovers() == []
    """
    run_context(MAKE, code)


def test_thirty_two_threads_on_one_cold_key_compute_once(run_context):
    code = """
    barrier, got = threading.Barrier(32), []
    f = memory(bytes_limit=10**9).cache(make)
    def ask():
        barrier.wait()
        got.append(f(1000))
    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)
    assert len(got) == 32 and len(noted("computed")) == 1
    for array in got:
        right(array, 1000)
    """
    run_context(MAKE, code)


def test_after_the_computing_process_is_killed_exactly_one_other_takes_over(run_context):
    code = """
    def slow(n):
        note("computed", os.getpid())
        if len(noted("computed")) == 1:
            time.sleep(HANG_S)
        time.sleep(0.1)
        return np.arange(n)

    f = memory().cache(slow)
    children = [fork(lambda: right(f(1000), 1000)) for _ in range(6)]
    until_noted("computed")
    time.sleep(0.2)  # the others wait
    first = int(noted("computed")[0])
    kill(first)
    children.remove(first)
    assert join(*children) == [0] * 5
    assert len(noted("computed")) == 2 and leftovers() == []
    """
    run_context(MAKE, code)


def test_after_a_function_that_raises_those_who_wait_take_over_in_turn(run_context):
    code = """
    def failing(n):
        note("log", "begin")
        turn = len(noted("log"))
        time.sleep(0.05)
        note("log", "end")
        if turn < 6:  # the first three
            raise ValueError(f"of {os.getpid()}")
        return np.arange(n)

    f = memory().cache(failing)
    def ask():
        note("started")
        until_noted("started", 6)
        try:
            right(f(10), 10)
            note("right")
        except ValueError as error:
            assert str(error) == f"of {os.getpid()}"
            note("raised")

    assert join(*[fork(ask) for _ in range(6)]) == [0] * 6
    assert noted("log") == ["begin", "end"] * 4
    assert (len(noted("raised")), len(noted("right"))) == (3, 3)
    assert leftovers() == []
    """
    run_context(MAKE, code)


@pytest.mark.parametrize("workers", ["processes", "threads"])
def test_functions_that_call_each_other_in_crossing_orders_do_not_wait_for_ever(run_context, workers):
    code = f"""
    def f(n):
        note("holds")
        until_noted("holds", 2)
        return n if len(noted("holds")) > 2 else g(n) + 1
    def g(n):
        note("holds")
        until_noted("holds", 2)
        return n if len(noted("holds")) > 2 else f(n) + 1
    # By version: each reaches the other.
    f, g = (memory().cache(function, version=1) for function in (f, g))
    if "{workers}" == "processes":
        assert join(fork(f, 3), fork(g, 3)) == [0, 0]
    else:
        threads = [threading.Thread(target=function, args=(3,)) for function in (f, g)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG_S)
            assert not thread.is_alive()
    assert f.cached(3) and g.cached(3) and leftovers() == []
    """
    run_context(code)


def test_a_function_that_asks_for_its_own_result_computes(run_context):
    code = """
    def f(n):
        note("computed")
        return f(n) + 1 if len(noted("computed")) < 3 else n
    f = memory().cache(f, version=1)
    assert f(5) >= 5 and len(noted("computed")) == 3
    assert f.cached(5)
    """
    run_context(code)


def test_ctrl_c_while_waiting_is_quick_and_leaves_nothing(run_context):
    code = """
    def slow(n):
        note("computed")
        until_noted("done")
        return np.arange(n)

    f = memory().cache(slow)
    def ask():
        def interrupt():
            time.sleep(0.3)
            note("sent", time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        raises(KeyboardInterrupt, f, 10)
        assert time.monotonic() - float(noted("sent")[-1]) < 0.2
        g = memory().cache(lambda n: np.zeros(n), version="other")
        assert g(4).sum() == 0
        right(f(10), 10)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    creator = fork(lambda: right(f(10), 10))
    until_noted("computed")
    waiter = fork(ask)
    until_noted("sent")
    time.sleep(0.3)
    note("done")
    assert join(creator, waiter) == [0, 0]
    assert len(noted("computed")) == 1 and leftovers() == []
    """
    run_context(MAKE, code)


def test_ctrl_c_while_computing_leaves_nothing_and_the_next_call_computes(run_context):
    code = """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    def slow(n):
        note("computed")
        if len(noted("computed")) % 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(HANG_S)
        return np.arange(n)
    f = memory(bytes_limit=10**9).cache(slow)
    for n in (10, 11):
        raises(KeyboardInterrupt, f, n)
        assert leftovers() == [] and not f.cached(n)
        right(f(n), n)
        assert f.cached(n)
    assert total() == size()
    """
    run_context(MAKE, code)


def test_ctrl_c_at_any_moment_leaves_nothing_wrong(run_context):
    code = """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    def quick(n):
        return np.arange(n)
    f = memory(bytes_limit=100_000).cache(quick)
    f(1)
    rng = random.Random(0)
    interrupted = 0
    for i in range(150):
        timer = threading.Timer(rng.random() * 0.004, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            for n in range(1000 + i % 20, 1300):
                f(n)
                f.forget(n)
            timer.join()
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
    assert interrupted > 75
    assert total() >= size()
    right(f(77), 77)
    for path in leftovers():
        os.utime(path, (1, 1))
    right(f(78), 78)
    assert leftovers() == []
    """
    run_context(MAKE, code)


def test_a_child_forked_while_another_thread_computes_does_not_hang(run_context):
    code = """
    def slow(n):
        note("holds")
        until_noted("done")
        return np.arange(n)
    f = memory().cache(slow)
    g = memory(bytes_limit=10**9).cache(make)
    g(2)
    thread = threading.Thread(target=f, args=(10,))
    thread.start()
    until_noted("holds")
    def other():
        right(g(5), 5)
    assert join(fork(other), fork(other)) == [0, 0]
    waiter = fork(lambda: right(f(10), 10))
    time.sleep(0.2)
    note("done")
    thread.join(HANG_S)
    assert join(waiter) == [0]
    assert len(noted("holds")) == 1
    """
    run_context(MAKE, code)


def test_children_forked_while_other_threads_write_and_evict_do_not_hang(run_context):
    code = """
    def quick(n):
        return np.arange(1000) + n
    f = memory(bytes_limit=100_000).cache(quick)
    f(0)  # Python itself hangs in a child that was forked while another thread imported something
    stop = threading.Event()
    def churn(i):
        n = i
        while not stop.is_set():
            n += 10
            assert f(n)[0] == n
    threads = [threading.Thread(target=churn, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    def work(i):
        for n in range(5):
            assert f(-1 - i * 5 - n)[0] == -1 - i * 5 - n
    try:
        for i in range(40):
            # In the midst of a scan or an eviction, whose lock a child inherits.
            f.store_backend.entries._index._made = -float("inf")
            assert join(fork(work, i)) == [0], i
    finally:
        stop.set()
        for thread in threads:
            thread.join(HANG_S)
    assert size() <= 100_000 and total() >= size()
    """
    run_context(code)


ASYNC = """
async def slow(n):
    note("computed")
    await asyncio.sleep(0.2)
    return np.arange(n)

def right(got, n):
    assert np.array_equal(got, np.arange(n))
"""


def test_two_tasks_and_two_processes_compute_an_async_function_once(run_context):
    code = """
    async def ask():
        f = memory().cache(slow)
        for got in await asyncio.gather(*[f(100) for _ in range(5)]):
            right(got, 100)
    def run():
        note("started")
        until_noted("started", 3)
        asyncio.run(ask())
    assert join(*[fork(run) for _ in range(3)]) == [0] * 3
    assert len(noted("computed")) == 1 and leftovers() == []
    """
    run_context(ASYNC, code)


def test_an_async_function_that_fails_or_is_cancelled_is_followed_by_another_task(run_context):
    code = """
    async def failing(n):
        note("computed")
        await asyncio.sleep(0.05)
        if len(noted("computed")) < 3:
            raise ValueError
        return np.arange(n)
    async def ask():
        f = memory().cache(failing)
        got = await asyncio.gather(*[f(5) for _ in range(4)], return_exceptions=True)
        assert sum(isinstance(each, ValueError) for each in got) == 2
        f = memory().cache(slow)
        tasks = [asyncio.create_task(f(7)) for _ in range(2)]
        await asyncio.sleep(0.05)
        tasks[0].cancel()
        right(await tasks[1], 7)
    asyncio.run(ask())
    assert len(noted("computed")) == 3 + 2 and leftovers() == []
    """
    run_context(ASYNC, code)


def test_async_functions_that_await_each_other_in_crossing_orders_do_not_wait_for_ever(run_context):
    code = """
    async def f(n):
        note("holds")
        while len(noted("holds")) < 2:
            await asyncio.sleep(0.01)
        return n if len(noted("holds")) > 2 else (await g(n)) + 1
    async def g(n):
        note("holds")
        while len(noted("holds")) < 2:
            await asyncio.sleep(0.01)
        return n if len(noted("holds")) > 2 else (await f(n)) + 1
    f, g = (memory().cache(function, version=1) for function in (f, g))
    async def both():
        await asyncio.wait_for(asyncio.gather(f(3), g(3)), HANG_S / 2)
        note("holds"), note("holds")
        own = memory().cache(recursive, version=1)
        globals()["own"] = own
        assert await asyncio.wait_for(own(1), HANG_S / 2) == 2
        # One that awaits in a task of its own.
        assert await asyncio.wait_for(memory().cache(spawning, version=1)(1), HANG_S / 2) == 2
    async def recursive(n):
        note("recursions")
        return (await own(n)) + 1 if len(noted("recursions")) < 2 else n
    async def spawning(n):
        note("spawnings")
        if len(noted("spawnings")) > 1:
            return n
        return (await asyncio.create_task(memory().cache(spawning, version=1)(n))) + 1
    asyncio.run(both())
    """
    run_context(code)


def test_a_function_and_an_async_one_that_call_each_other_do_not_wait_for_ever(run_context):
    code = """
    def f(n):
        note("holds")
        until_noted("holds", 2)
        return n if len(noted("holds")) > 2 else asyncio.run(g(n)) + 1
    async def g(n):
        note("holds")
        until_noted("holds", 2)
        return n if len(noted("holds")) > 2 else f(n) + 1
    f, g = (memory().cache(function, version=1) for function in (f, g))
    assert join(fork(f, 3), fork(lambda: asyncio.run(g(3)))) == [0, 0]
    """
    run_context(code)


def test_a_result_that_is_replaced_while_it_is_mapped_is_never_taken_for_the_new_one(tmp_path, monkeypatch):
    numbers = iter(range(9))
    memory = Memory(tmp_path, mmap_mode="r", verbose=0)
    f = memory.cache(lambda: np.full(100_000, next(numbers)), version=1)
    f()
    read = Entries.read

    def read_and_replace(self, path, mmap_mode):
        found = read(self, path, mmap_mode)
        monkeypatch.setattr(Entries, "read", read)
        f.call()
        time.sleep(0.1)
        return found

    monkeypatch.setattr(Entries, "read", read_and_replace)
    old, new = f(), f()
    assert (old[0], new[0]) == (0, 1)
    assert digest(new) == digest(np.array(new)) != digest(old)
    assert digest(old) == digest(np.array(old))

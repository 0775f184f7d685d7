"""Many ask for what is not there: one computes, the others wait; whoever fails or dies is followed by one of them."""

import pytest

ALIVE = """
values = np.arange(100_000.0)

def compute():
    note("computed")
    time.sleep(0.3)
    return values

def right(array):
    assert type(array) is shared.SharedArray
    assert np.array_equal(array, values)
"""


def test_eight_processes_on_one_cold_name_compute_once(run, shm):
    code = """
    def ask():
        note("started")
        until_noted("started", 8)
        right(cache("a", compute))

    assert join(*[fork(ask) for _ in range(8)]) == [0] * 8
    assert len(noted("computed")) == 1
    right(get("a"))
    free("a")
    """
    run(shm, ALIVE, code)


def test_thirty_two_threads_on_one_cold_name_compute_once(run, shm):
    code = """
    barrier = threading.Barrier(32)
    got = []

    def ask():
        barrier.wait()
        got.append(cache("a", compute))

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)
    assert len(got) == 32
    for array in got:
        right(array)
    assert len({array.ctypes.data for array in got}) == 1
    assert len(noted("computed")) == 1
    free("a")
    """
    run(shm, ALIVE, code)


def test_threads_of_many_processes_compute_once(run, shm):
    code = """
    def ask():
        def one():
            right(cache("a", compute))
            note("served")
        note("started")
        until_noted("started", 8)
        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG_S)

    assert join(*[fork(ask) for _ in range(8)]) == [0] * 8
    assert len(noted("served")) == 32
    assert len(noted("computed")) == 1
    free("a")
    """
    run(shm, ALIVE, code)


def test_processes_started_afresh_compute_once(run, shm):
    code = """
    program = f'''
import os
import numpy as np
from megalith import shared
def compute():
    print("computed", flush=True)
    return np.arange(10.0)
print(shared.cache("a", compute, {str(shm)!r}, verbose=False).sum())
'''
    children = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    said = "".join(child.communicate(timeout=HANG_S)[0] for child in children).split()
    assert sorted(said) == ["45.0"] * 6 + ["computed"], said
    free("a")
    """
    run(shm, code)


def test_a_nesting_is_computed_once_too(run, shm):
    code = """
    def ask():
        note("started")
        until_noted("started", 6)
        got = cache("a", lambda: {"x": compute(), "y": [1, None]})
        right(got["x"])
        assert got["y"] == [1, None]

    assert join(*[fork(ask) for _ in range(6)]) == [0] * 6
    assert len(noted("computed")) == 1
    free("a")
    """
    run(shm, ALIVE, code)


def test_many_names_at_once_are_computed_once_each(run, shm):
    code = """
    def ask(seed):
        names = list(range(20))
        random.Random(seed).shuffle(names)
        note("started")
        until_noted("started", 6)
        for i in names:
            def compute():
                note("computed", i)
                return np.full(1000, i)
            assert (cache(f"a{i}", compute) == i).all()

    assert join(*[fork(ask, seed) for seed in range(6)]) == [0] * 6
    assert sorted(map(int, noted("computed"))) == list(range(20))
    for i in range(20):
        free(f"a{i}")
    """
    run(shm, code)


def test_names_that_are_freed_and_asked_for_all_the_time_are_always_right(run, shm):
    code = """
    def ask(seed):
        rng = random.Random(seed)
        for _ in range(150):
            i = rng.randrange(3)
            array = cache(f"a{i}", lambda: np.full(20_000, i, np.int32))
            assert array.shape == (20_000,) and (array == i).all()
            if rng.random() < 0.5:
                free(f"a{i}")
            assert (array == i).all()
        note("asked")

    def tidy():
        while len(noted("asked")) < 5 + 3:
            assert {entry.id for entry in ls()} <= {"a0", "a1", "a2"}
            prune(max_bytes=100_000)

    def ask_by_threads():
        threads = [threading.Thread(target=ask, args=(seed,)) for seed in (5, 6, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG_S)

    children = [fork(ask, seed) for seed in range(5)] + [fork(ask_by_threads), fork(tidy)]
    assert join(*children) == [0] * 7
    for i in range(3):
        free(f"a{i}")
    """
    run(shm, code)


def test_after_a_creator_that_raises_exactly_one_waiter_at_a_time_takes_over(run, shm):
    code = """
    def ask(i):
        def compute():
            note("log", "begin")
            turn = len(noted("log"))
            time.sleep(0.1)
            if turn < 6:  # the first three
                note("log", "end")
                raise ValueError(f"of {i}")
            note("log", "end")
            return values
        note("started")
        until_noted("started", 6)
        try:
            right(cache("a", compute))
            note("right")
        except ValueError as error:
            assert str(error) == f"of {i}"  # its own, not another's
            note("raised")

    assert join(*[fork(ask, i) for i in range(6)]) == [0] * 6
    assert noted("log") == ["begin", "end"] * 4  # one at a time
    assert (len(noted("raised")), len(noted("right"))) == (3, 3)
    free("a")
    """
    run(shm, ALIVE, code)


def test_after_a_thread_that_raises_exactly_one_at_a_time_takes_over(run, shm):
    code = """
    def ask():
        def compute():
            note("log", "begin")
            turn = len(noted("log"))
            time.sleep(0.1)
            note("log", "end")
            if turn < 6:
                raise ValueError
            return values
        try:
            right(cache("a", compute))
            note("right")
        except ValueError:
            note("raised")

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)
    assert noted("log") == ["begin", "end"] * 4
    assert (len(noted("raised")), len(noted("right"))) == (3, 3)
    free("a")
    """
    run(shm, ALIVE, code)


def test_a_callback_that_gives_no_array_is_followed_by_one_waiter(run, shm):
    code = """
    def bad():
        note("holds")
        until_noted("waits")
        return "no array"

    first = fork(lambda: raises(DTypeError, cache, "a", bad))
    until_noted("holds")
    second = fork(lambda: right(cache("a", compute, **waiting("waits"))))
    assert join(first, second) == [0, 0]
    assert len(noted("computed")) == 1
    free("a")
    """
    run(shm, ALIVE, code)


CHILDREN = {
    "alone": "def start_children():\n    pass",
    "with a forked child": """
        def start_children():
            if os.fork() == 0:
                time.sleep(HANG_S)
                os._exit(0)
    """,
    "with a child of multiprocessing": """
        def start_children():
            multiprocessing.get_context("fork").Process(target=time.sleep, args=(HANG_S,)).start()
    """,
    "with a grandchild": """
        def start_children():
            if os.fork() == 0:
                if os.fork() == 0:
                    time.sleep(HANG_S)
                os._exit(0)
            os.wait()
    """,
    "with a child of subprocess": """
        def start_children():
            subprocess.Popen(["sleep", str(HANG_S)], close_fds=False)
    """,
    "with a child that asks too": """
        def start_children():
            if os.fork() == 0:
                try:
                    cache("a", values.copy, timeout=0.2)
                except MegalithError:
                    pass
                time.sleep(HANG_S)
                os._exit(0)
            time.sleep(0.3)
    """,
}


@pytest.mark.parametrize("children", CHILDREN.values(), ids=CHILDREN)
def test_after_a_creator_that_is_killed_exactly_one_waiter_takes_over(run, shm, children):
    code = """
    def hold():
        def endless():
            start_children()
            note("holds")
            time.sleep(HANG_S)
        cache("a", endless)

    creator = fork(hold)
    until_noted("holds")
    waiters = [fork(lambda: right(cache("a", compute, **waiting("waits")))) for _ in range(5)]
    until_noted("waits", 5)
    began = time.monotonic()
    kill(creator)
    assert join(*waiters) == [0] * 5
    assert time.monotonic() - began < HANG_S / 3  # long before the children of the dead end
    assert len(noted("computed")) == 1
    free("a")
    """
    run(shm, ALIVE, children, code)


@pytest.mark.parametrize("children", CHILDREN.values(), ids=CHILDREN)
def test_after_a_producer_that_is_killed_in_its_block_exactly_one_waiter_takes_over(run, shm, children):
    code = """
    def hold():
        with allocate("a", values.shape, values.dtype) as array:
            array[:1000] = 1
            start_children()
            note("holds")
            time.sleep(HANG_S)

    producer = fork(hold)
    until_noted("holds")
    waiters = [fork(lambda: right(cache("a", compute, **waiting("waits")))) for _ in range(3)]
    until_noted("waits", 3)
    began = time.monotonic()
    kill(producer)
    assert join(*waiters) == [0] * 3
    assert time.monotonic() - began < HANG_S / 3
    assert len(noted("computed")) == 1
    free("a")
    """
    run(shm, ALIVE, children, code)


def test_creators_killed_one_after_the_other_are_each_followed_by_one(run, shm):
    code = """
    def ask(i):
        def compute():
            note("holders", os.getpid())
            if len(noted("holders")) <= 3:
                time.sleep(HANG_S)
            return values
        right(cache("a", compute))

    children = [fork(ask, i) for i in range(6)]
    for n in (1, 2, 3):
        until_noted("holders", n)
        time.sleep(0.1)
        assert len(noted("holders")) == n
        victim = int(noted("holders")[-1])
        kill(victim)
        children.remove(victim)
    assert join(*children) == [0] * 3
    assert len(noted("holders")) == 4
    free("a")
    """
    run(shm, ALIVE, code)


def test_two_processes_whose_callbacks_ask_for_each_others_name_do_not_wait_for_ever(run, shm):
    code = """
    def ask(mine, other):
        def make():
            note("holds")
            until_noted("holds", 2)
            return cache(other, lambda: np.full(5, 1.0)) + 1
        got = cache(mine, make)
        assert got.tolist() in ([1.0] * 5, [2.0] * 5), got

    assert join(fork(ask, "x", "y"), fork(ask, "y", "x")) == [0, 0]
    assert get("x").size == get("y").size == 5
    free("x"), free("y")
    """
    run(shm, code)


def test_two_threads_whose_callbacks_ask_for_each_others_name_do_not_wait_for_ever(run, shm):
    code = """
    barrier, got = threading.Barrier(2), []

    def ask(mine, other):
        def make():
            barrier.wait(HANG_S)
            return cache(other, lambda: np.full(5, 1.0)) + 1
        got.append(cache(mine, make).size)

    threads = [threading.Thread(target=ask, args=names) for names in (("x", "y"), ("y", "x"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)
    assert got == [5, 5]
    free("x"), free("y")
    """
    run(shm, code)


def test_a_callback_computes_what_another_process_is_computing(run, shm):
    code = """
    def slow():
        note("holds")
        until_noted("done")
        return values

    creator = fork(lambda: right(cache("a", slow)))
    until_noted("holds")
    assert cache("b", lambda: cache("a", compute).sum(keepdims=True)) == values.sum()
    assert len(noted("computed")) == 1
    note("done")
    assert join(creator) == [0]
    right(get("a"))
    free("a"), free("b")
    """
    run(shm, ALIVE, code)


def test_a_name_published_by_somebody_without_the_lock_is_the_one_everybody_has(run, shm):
    code = """
    def slow():
        note("holds")
        until_noted("done")
        return np.ones(5)

    creator = fork(lambda: cache("a", slow).sum() == 0 or never())
    until_noted("holds")
    assert cache("b", lambda: cache("a", lambda: np.zeros(5)) + 1).sum() == 5
    note("done")
    assert join(creator) == [0]
    assert get("a").sum() == 0
    free("a"), free("b")
    """
    run(shm, code)


HELD = """
def hold(name="a"):
    def slow():
        note("holds")
        until_noted("done")
        return values
    right(cache(name, slow))

creator = fork(hold)
until_noted("holds")
"""


def test_who_does_not_want_to_wait_gets_an_error(run, shm):
    code = """
    for timeout in (0, 0.0, 0.05, 1e-9, np.float64(0.01)):
        error = raises(LockTimeoutError, cache, "a", never, timeout=timeout)
        assert isinstance(error, TimeoutError) and isinstance(error, shared.TimeoutException)
        assert error.key == "a" and "a" in str(error)
    note("done")
    assert join(creator) == [0]
    right(cache("a", never, timeout=0))
    free("a")
    """
    run(shm, ALIVE, HELD, code)


def test_a_thread_that_does_not_want_to_wait_for_another_gets_an_error(run, shm):
    code = """
    def slow():
        note("holds")
        until_noted("done")
        return values
    other = threading.Thread(target=cache, args=("a", slow))
    other.start()
    until_noted("holds")
    for timeout in (0, 0.05):
        raises(LockTimeoutError, cache, "a", never, timeout=timeout)
    note("done")
    other.join(HANG_S)
    right(cache("a", never, timeout=0))
    free("a")
    """
    run(shm, ALIVE, code)


def test_who_waits_at_least_waits_as_long_as_it_said(run, shm):
    code = """
    began = time.monotonic()
    error = raises(LockTimeoutError, cache, "a", never, timeout=0.3)
    assert time.monotonic() - began >= 0.3
    assert error.waited_s >= 0.3
    note("done")
    assert join(creator) == [0]
    free("a")
    """
    run(shm, ALIVE, HELD, code)


def test_who_has_waited_long_enough_is_served(run, shm):
    code = """
    waiter = fork(lambda: right(cache("a", never, timeout=HANG_S, **waiting("waits"))))
    until_noted("waits")
    note("done")
    assert join(creator, waiter) == [0, 0]
    free("a")
    """
    run(shm, ALIVE, HELD, code)


@pytest.mark.parametrize("timeout", ["float('inf')", "1e300", "2**70", "-float('inf')"])
def test_who_waits_practically_for_ever_is_served(run, shm, timeout):
    code = f"""
    waiter = fork(lambda: right(cache("a", never, timeout={timeout}, **waiting("waits"))))
    until_noted("waits")
    note("done")
    assert join(creator, waiter) == [0, 0]
    free("a")
    """
    run(shm, ALIVE, HELD, code)


def test_waiting_is_told_to_the_log_function(run, shm):
    code = """
    said = []
    raises(LockTimeoutError, cache, "a", never, timeout=0.05, verbose=True, log_func=said.append)
    assert said and all(isinstance(sentence, str) for sentence in said)
    assert any("'a'" in sentence and "wait" in sentence for sentence in said), said
    note("done")
    assert join(creator) == [0]
    free("a")
    """
    assert run(shm, ALIVE, HELD, code) == ""


def test_other_names_are_not_waited_for(run, shm):
    code = """
    assert cache("b", lambda: np.ones(3), timeout=0).sum() == 3
    free("b")
    note("done")
    assert join(creator) == [0]
    free("a")
    """
    run(shm, ALIVE, HELD, code)


def test_free_does_not_wait_and_does_not_disturb_who_computes(run, shm):
    code = """
    free("a")
    raises(LockTimeoutError, cache, "a", never, timeout=0)
    note("done")
    assert join(creator) == [0]
    right(cache("a", never))
    free("a")
    """
    run(shm, ALIVE, HELD, code)


def test_get_does_not_wait_for_who_computes(run, shm):
    code = """
    raises(KeyMissingError, get, "a")
    note("done")
    assert join(creator) == [0]
    right(get("a"))
    free("a")
    """
    run(shm, ALIVE, HELD, code)


def test_allocate_waits_for_who_computes_and_finds_that_the_name_exists(run, shm):
    code = """
    def block(timeout=-1):
        with allocate("a", 3, "u1", timeout=timeout):
            never()

    raises(LockTimeoutError, block, 0)
    raises(LockTimeoutError, block, 0.05)

    def finish():
        time.sleep(0.2)
        note("done")

    threading.Thread(target=finish).start()
    raises(FileExistsError, block)
    assert join(creator) == [0]
    right(get("a"))
    free("a")
    """
    run(shm, ALIVE, HELD, code)


@pytest.mark.parametrize("directory", ["", "or"], ids=["the files in it", "all of it"])
def test_results_are_right_when_somebody_removes_the_directory_of_locks(run, shm, directory):
    code = f"""
    own = shm / f"megalith-{{os.getuid()}}"
    for path in own.iterdir():
        path.unlink()
    if {bool(directory)}:
        own.rmdir()
    # Nobody knows of the first any more: the work is done twice.
    right(cache("a", compute, timeout=0))
    note("done")
    assert join(creator) == [0]
    right(get("a"))
    free("a")
    cache("a", compute), free("a")
    """
    run(shm, ALIVE, HELD, code)


def test_what_is_there_is_served_while_another_process_holds_the_lock(run, shm):
    code = """
    np.save(here / "made.npy", values)
    staged = shm / "staged.npy"
    staged.write_bytes((here / "made.npy").read_bytes())
    staged.rename(shm / "sharearray_a.npy")
    for _ in range(3):
        right(cache("a", never, timeout=0))
        right(get("a"))
        gc.collect()
    note("done")
    assert join(creator) == [0]
    free("a")
    """
    run(shm, ALIVE, HELD, code)


def test_a_hit_works_in_a_directory_that_is_read_only(run, shm):
    code = """
    cache("a", lambda: values)
    get("a"), raises(KeyMissingError, get, "b")  # what Python loads lazily is loaded as root
    uid = 65534 if os.getuid() == 0 else os.getuid()
    if os.getuid() == 0:
        os.chown(shm, uid, uid)
        os.chown(shm / "sharearray_a.npy", uid, uid)
    own = next(shm.glob("megalith-*"), None)
    if own is not None:
        own.rmdir()
    shm.chmod(0o555)

    def ask():
        raises(PermissionError, (shm / "new").write_bytes, b"")
        for _ in range(3):
            right(cache("a", never))
            right(get("a"))

    assert join(as_user(uid, ask) if os.getuid() == 0 else fork(ask)) == [0]
    assert sorted(os.listdir(shm)) == ["sharearray_a.npy"]
    shm.chmod(0o700)
    (shm / "sharearray_a.npy").unlink()
    """
    run(shm, ALIVE, code)


INTERRUPT = """
def send(number=signal.SIGINT):
    def later():
        global sent
        until_noted("waits")
        time.sleep(0.2)
        sent = time.monotonic()
        os.kill(os.getpid(), number)
    threading.Thread(target=later).start()
"""


def test_ctrl_c_while_waiting_raises_keyboard_interrupt_soon(run, shm):
    code = """
    delays = []
    for _ in range(3):
        (here / "waits.list").unlink(missing_ok=True)
        send()
        raises(KeyboardInterrupt, cache, "a", never, **waiting("waits"))
        delays.append(time.monotonic() - sent)
    assert min(delays) < 0.5, delays
    note("done")
    assert join(creator) == [0]
    right(cache("a", never))
    free("a")
    """
    run(shm, ALIVE, HELD, INTERRUPT, code)


def test_ctrl_c_while_waiting_for_another_thread_raises_keyboard_interrupt_soon(run, shm):
    code = """
    def slow():
        note("holds")
        until_noted("done")
        return values
    other = threading.Thread(target=cache, args=("a", slow))
    other.start()
    until_noted("holds")
    send()
    raises(KeyboardInterrupt, cache, "a", never, **waiting("waits"))
    assert time.monotonic() - sent < 5
    note("done")
    other.join(HANG_S)
    right(cache("a", never))
    free("a")
    """
    run(shm, ALIVE, INTERRUPT, code)


def test_ctrl_c_while_allocate_waits_raises_keyboard_interrupt(run, shm):
    code = """
    def block():
        with allocate("a", 3, "u1"):
            never()

    def interrupt():
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    raises(KeyboardInterrupt, block)
    note("done")
    assert join(creator) == [0]
    free("a")
    """
    run(shm, ALIVE, HELD, code)


def test_the_exception_of_a_signal_handler_ends_the_wait_as_what_it_is(run, shm):
    code = """
    def handler(number, frame):
        raise LookupError("of the handler")
    signal.signal(signal.SIGUSR1, handler)
    send(signal.SIGUSR1)
    error = raises(LookupError, cache, "a", never, **waiting("waits"))
    assert str(error) == "of the handler"
    note("done")
    assert join(creator) == [0]
    free("a")
    """
    run(shm, ALIVE, HELD, INTERRUPT, code)


def test_a_signal_handler_that_raises_nothing_does_not_end_the_wait(run, shm):
    code = """
    signal.signal(signal.SIGUSR1, lambda number, frame: note("handled"))
    send(signal.SIGUSR1)
    def finish():
        until_noted("handled")
        note("done")
    threading.Thread(target=finish).start()
    right(cache("a", never, **waiting("waits")))
    assert join(creator) == [0]
    free("a")
    """
    run(shm, ALIVE, HELD, INTERRUPT, code)


def test_an_interrupt_at_any_instant_leaves_no_name_locked_and_no_half_array(run, shm):
    code = """
    class Now(Exception):
        pass

    def handler(number, frame):
        raise Now

    signal.signal(signal.SIGALRM, handler)
    rng = random.Random(0)
    value = {"x": values, "y": [values[:10]]}

    def produce():
        with allocate("a", values.shape, values.dtype) as array:
            array[:] = values

    calls = (lambda: cache("a", lambda: values), lambda: cache("a", lambda: value), produce)
    interrupted = 0
    for i in range(3000):
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.random() * 0.0012 + 1e-5)
            try:
                calls[i % 3]()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Now:
            interrupted += 1
        got = cache("a", lambda: values, timeout=0)
        right(got["x"] if isinstance(got, dict) else got)
        free("a")
    assert interrupted > 100, interrupted
    """
    run(shm, ALIVE, code)


def test_other_threads_go_on_while_one_waits(run, shm):
    code = """
    ticks, stop = 0, threading.Event()
    def tick():
        global ticks
        while not stop.is_set():
            ticks += 1
            time.sleep(0.001)
    other = threading.Thread(target=tick)
    other.start()
    raises(LockTimeoutError, cache, "a", never, timeout=1)
    seen = ticks
    stop.set()
    other.join()
    assert seen > 20, seen
    note("done")
    assert join(creator) == [0]
    free("a")
    """
    run(shm, ALIVE, HELD, code)


def test_an_interrupted_callback_is_followed_by_one_waiter(run, shm):
    code = """
    def interrupted():
        def slow():
            note("holds")
            time.sleep(HANG_S)
        raises(KeyboardInterrupt, cache, "a", slow)

    first = fork(interrupted)
    until_noted("holds")
    others = [fork(lambda: right(cache("a", compute, **waiting("waits")))) for _ in range(3)]
    until_noted("waits", 3)
    os.kill(first, signal.SIGINT)
    assert join(first, *others) == [0] * 4
    assert len(noted("computed")) == 1
    free("a")
    """
    run(shm, ALIVE, code)

"""`free` takes the name away; views stay right, and the memory returns when the last of them dies, anywhere."""

import pytest

PREPARE = """
N = 20_000_000

def room():
    volume = os.statvfs(shm)
    return volume.f_bavail * volume.f_frsize

def right(array, value=7):
    assert array.size == N and (array == value).all()

def make(name="a", value=7):
    cache(name, lambda: np.full(N, value, np.uint8))
    gc.collect()
"""


@pytest.fixture
def place(tmpfs):
    """A private file system in memory of 64 MB, whose free room is this test's alone."""
    return tmpfs("64m")


def test_free_while_views_live_in_other_processes(run, place):
    code = """
    make()
    before = room()

    def look():
        array = get("a")
        right(array)
        note("looks")
        until_noted("freed")
        right(array)
        raises(KeyMissingError, get, "a")
        note("looked")
        until_noted(f"end {os.getpid()}")
        right(array)

    children = [fork(look) for _ in range(3)]
    until_noted("looks", 3)
    free("a")
    note("freed")
    until_noted("looked", 3)
    assert room() - before < N / 2
    for child in children[:2]:
        note(f"end {child}")
        assert join(child) == [0]
        assert room() - before < N / 2
    note(f"end {children[2]}")
    assert join(children[2]) == [0]
    until(lambda: room() - before >= N, "the memory is given back")
    assert left_behind(shm) == []
    """
    run(place["directory"], PREPARE, code, prefix=place["prefix"])


def test_memory_returns_when_the_last_holder_is_killed(run, place):
    code = """
    make()
    before = room()

    def look():
        array = get("a")
        note("looks")
        time.sleep(HANG_S)

    child = fork(look)
    until_noted("looks")
    free("a")
    assert room() - before < N / 2
    kill(child)
    until(lambda: room() - before >= N, "the memory is given back")
    """
    run(place["directory"], PREPARE, code, prefix=place["prefix"])


def test_memory_returns_when_the_last_view_in_this_process_dies(run, place):
    code = """
    make()
    before = room()
    array = get("a")
    part = array[100:200]
    free("a")
    del array
    gc.collect()
    assert room() - before < N / 2 and part.tolist() == [7] * 100
    del part
    gc.collect()
    assert room() - before >= N
    """
    run(place["directory"], PREPARE, code, prefix=place["prefix"])


def test_memory_of_a_name_nobody_looks_at_returns_at_once(run, place):
    code = """
    before = room()
    make()
    assert before - room() >= N
    free("a")
    assert before - room() < 100_000
    """
    run(place["directory"], PREPARE, code, prefix=place["prefix"])


def test_old_and_new_arrays_of_one_name_live_side_by_side(run, place):
    code = """
    make()

    def look():
        array = get("a")
        note("looks")
        until_noted("made")
        right(array)
        right(get("a"), 8)

    child = fork(look)
    until_noted("looks")
    old = get("a")
    free("a")
    make(value=8)
    note("made")
    right(old), right(get("a"), 8)
    assert join(child) == [0]
    free("a")
    """
    run(place["directory"], PREPARE, code, prefix=place["prefix"])


def test_a_failed_producer_gives_its_memory_back(run, place):
    code = """
    before = room()
    try:
        with allocate("a", N, "u1") as array:
            array[:] = 1
            assert before - room() >= N
            raise LookupError
    except LookupError:
        pass
    del array
    gc.collect()
    assert before - room() < 100_000
    """
    run(place["directory"], PREPARE, code, prefix=place["prefix"])


def test_a_killed_producer_gives_its_memory_back(run, place):
    code = """
    before = room()

    def produce():
        with allocate("a", N, "u1") as array:
            array[:] = 1
            note("produces")
            time.sleep(HANG_S)

    child = fork(produce)
    until_noted("produces")
    assert before - room() >= N
    kill(child)
    until(lambda: before - room() < 100_000, "the memory is given back")
    """
    run(place["directory"], PREPARE, code, prefix=place["prefix"])


def test_an_array_outlives_the_process_that_made_it(run, place):
    code = """
    assert join(fork(make)) == [0]
    array = get("a")
    right(array)
    free("a")
    right(array)
    """
    run(place["directory"], PREPARE, code, prefix=place["prefix"])


def test_an_array_outlives_a_killed_holder_of_a_view(run, place):
    code = """
    make()

    def look():
        array = get("a")
        note("looks")
        time.sleep(HANG_S)

    child = fork(look)
    until_noted("looks")
    kill(child)
    right(get("a"))
    free("a")
    """
    run(place["directory"], PREPARE, code, prefix=place["prefix"])


def test_views_that_die_when_the_interpreter_ends_do_no_harm(run, shm):
    code = """
    program = f'''
import numpy as np
from megalith import shared
kept = [shared.cache("a", lambda: np.ones(10), {str(shm)!r}, verbose=False)]
kept.append(kept)
nested = shared.cache("b", lambda: [np.ones(10)], {str(shm)!r}, verbose=False)
class Late:
    def __del__(self):
        assert kept[0].sum() == 10
late = Late()
'''
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=HANG_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
    assert get("a").sum() == 10
    free("a"), free("b")
    """
    run(shm, code)

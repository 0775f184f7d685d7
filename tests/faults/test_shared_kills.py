"""Creators that are killed, anywhere: who comes after them is right, and nothing of them is left.

Some are killed at a random instant. Others, of a build of their own, kill themselves between two file operations.
"""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from megalith import shared
from megalith.testing.faults import left_behind, shared_directory, tmpfs_command

ROOT = Path(__file__).resolve().parents[2]
KILLS = 40 if os.environ.get("MEGALITH_HYPOTHESIS") == "ci" else 300

RANDOM = """
rng = random.Random(seed)
N = 1 << 18  # doubles: 2 MiB

def values(name):
    return np.arange(float(N)) + sum(map(ord, name))

def store(name, value):
    cache(name, lambda: value)

def store_nesting(name, value):
    cache(name, lambda: {"x": value, "rest": [value[:1000], name]})

def produce(name, value):
    with allocate(name, N, "f8") as array:
        array[: N // 2] = value[: N // 2]
        array[N // 2 :] = value[N // 2 :]

def churn(store, name, has_children):
    '''Store and free a name for ever, as the leader of a group of processes.'''
    os.setpgid(0, 0)
    value = values(name)
    if has_children:
        inner = store
        def store(name, value):
            def make():
                if os.fork() == 0:
                    time.sleep(HANG_S)
                    os._exit(0)
                return value
            if inner is produce:
                with allocate(name, N, "f8") as array:
                    array[:] = make()
            else:
                cache(name, make)
    note("started")
    while True:
        try:
            store(name, value)
        except FileExistsError:  # of allocate, where the one before was killed between publishing and freeing
            pass
        free(name)

def check(name):
    got = cache(name, lambda: values(name), timeout=20)
    if isinstance(got, dict):
        assert set(got) == {"x", "rest"} and got["rest"][1] == name
        assert np.array_equal(got["rest"][0], values(name)[:1000])
        got = got["x"]
    assert np.array_equal(got, values(name)), name

killed = 0
names = ("one", "two", "three", "four", "five")
for i in range(kills):
    name = names[i % 5]
    pid = fork(churn, (store, store_nesting, produce)[i // 3 % 3], name, i % 3 == 0)
    until_noted("started", i + 1)
    time.sleep(rng.random() * 0.015)
    os.kill(pid, signal.SIGKILL)
    killed += join(pid) == [-9]
    check(name)
    if i % 7 == 0:
        assert join(fork(check, name)) == [0]
    free(name)
    try:
        os.killpg(pid, signal.SIGKILL)  # its children lived on
    except ProcessLookupError:
        pass
assert killed == kills
for name in names:  # the next use of each
    check(name)
    free(name)
print(killed)
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [0, 1])
def test_creators_killed_at_random_leave_nothing_and_nothing_wrong(run, shm, seed):
    code = f"seed, kills = {seed}, {KILLS // 2}\n"
    assert run(shm, code, RANDOM, timeout_s=500.0) == f"{KILLS // 2}\n"


@pytest.mark.timeout(600)
def test_a_crowd_of_which_one_is_killed_again_and_again_is_always_served(run, shm):
    code = """
    values = np.arange(200_000.0)

    def ask(n):
        for i in range(n):
            array = cache(f"a{i % 3}", lambda: values + i % 3, timeout=30)
            assert np.array_equal(array, values + i % 3)
            free(f"a{i % 3}")

    rng = random.Random(0)
    crowd = [fork(ask, 300) for _ in range(3)]
    for _ in range(kills):
        victim = fork(ask, 10**9)
        time.sleep(rng.random() * 0.02)
        kill(victim)
    assert join(*crowd) == [0] * 3
    ask(3)
    """
    run(shm, f"kills = {KILLS // 2}", code, timeout_s=500.0)


def steps():
    """Every step of `MEGALITH_CRASH_AT`, as the source of the core lists them."""
    source = ROOT / "rust" / "megalith-files" / "src" / "crash.rs"
    lists = re.findall(r"const \w*STEPS: \[&str; \d+\] =\s*\[(.*?)\]", source.read_text(), flags=re.DOTALL)
    return re.findall(r'"([\w-]+)"', "".join(lists))


STEPS = steps()
CRASHES = """
values = np.arange(100_000.0)
nesting = {"x": values, "y": [values[:1000], None, "text"]}

def store(directory):
    shared.cache("a", lambda: values, directory, verbose=False)

def store_again(directory):
    shared.cache("b", lambda: values, directory, verbose=False)
    shared.free("b", directory)
    os.environ["MEGALITH_CRASH_AT"] = step
    store(directory)

def store_nesting(directory):
    shared.cache("a", lambda: nesting, directory, verbose=False)

def produce(directory):
    with shared.allocate("a", values.shape, values.dtype, shm_path=directory) as array:
        array[:] = values

def produce_in_vain(directory):
    try:
        with shared.allocate("a", values.shape, values.dtype, shm_path=directory) as array:
            array[:10] = 5
            raise LookupError
    except LookupError:
        pass

def fail(directory):
    try:
        shared.cache("a", lambda: {}["nothing"], directory, verbose=False)
    except KeyError:
        pass

OPERATIONS = {
    "array": store,
    "array after another": store_again,
    "nesting": store_nesting,
    "allocate": produce,
    "allocate that fails": produce_in_vain,
    "callback that fails": fail,
}

def die(operation, step, directory):
    globals()["step"] = step
    if operation is not store_again:
        os.environ["MEGALITH_CRASH_AT"] = step
    operation(directory)

def ask(directory):
    assert np.array_equal(shared.cache("a", lambda: values, directory, timeout=30, **waiting(directory.name)), values)

def die_before_a_waiter(step, directory):
    '''A creator that is waited for while it goes through its steps.'''
    def make():
        note("holds-" + directory.name)
        until_noted(directory.name)
        return values
    def create():
        os.environ["MEGALITH_CRASH_AT"] = step
        shared.cache("a", make, directory, verbose=False)
    creator = fork(create)
    status = []
    def has_begun_or_died():
        pid, code = os.waitpid(creator, os.WNOHANG) if not status else (0, 0)
        if pid:
            status.append(os.waitstatus_to_exitcode(code))
        return status or noted("holds-" + directory.name)
    until(has_begun_or_died)
    waiter = fork(ask, directory)
    status = status or join(creator)
    assert join(waiter) == [0], step
    return status[0]

ended = []
for step in steps:
    for name in operations:
        directory = shm / f"{name}-{step}"
        directory.mkdir()
        if name == "array that is waited for":
            status = die_before_a_waiter(step, directory)
        else:
            [status] = join(fork(die, OPERATIONS[name], step, directory))
        ended.append((name, step, status))
print(json.dumps(ended))
"""
OPERATIONS = (
    "array",
    "array after another",
    "nesting",
    "allocate",
    "allocate that fails",
    "callback that fails",
    "array that is waited for",
)


@pytest.fixture(scope="module")
def crashed(run, crash_build):
    """How each operation ended at each step: (operation, step) to 0 or -9; and the directory of them all."""
    with shared_directory() as directory:
        code = f"steps, operations = {STEPS!r}, {OPERATIONS!r}"
        said = run(directory, code, CRASHES, env={"PYTHONPATH": str(crash_build)}, timeout_s=300.0)
        yield {(name, step): status for name, step, status in json.loads(said)}, directory


@pytest.mark.timeout(900)  # of the first of them: a build
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_after_a_creator_that_died_at_any_step_the_next_caller_is_right(crashed, operation, step):
    ended, place = crashed
    directory = place / f"{operation}-{step}"
    assert ended[operation, step] in (0, -9)
    values = np.arange(100_000.0)
    # The use of another name takes away all but what is published, and locks, which are empty.
    shared.cache("b", lambda: values, str(directory), timeout=0, verbose=False)
    shared.free("b", str(directory))
    rest = [directory / name for name in left_behind(directory) if not name.startswith("sharearray_a.np")]
    assert [path.stat().st_size for path in rest] == [0] * len(rest)
    got = shared.cache("a", lambda: values, str(directory), timeout=30, verbose=False)
    if isinstance(got, dict):
        assert list(got) == ["x", "y"]
        assert got["y"][0].tolist() == values[:1000].tolist()
        assert got["y"][1:] == [None, "text"]
        got = got["x"]
    np.testing.assert_array_equal(got, values)
    shared.free("a", str(directory))
    shared.cache("a", lambda: values, str(directory), timeout=30, verbose=False)
    shared.free("a", str(directory))
    assert left_behind(directory) == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_goes_through_steps_at_which_it_dies(crashed, operation):
    died = {step for (name, step), status in crashed[0].items() if name == operation and status == -9}
    assert len(died) >= 3, died


@pytest.mark.timeout(900)
@pytest.mark.parametrize("operation", ["array", "nesting", "allocate"])
def test_a_store_can_be_killed_before_and_after_every_file_operation(crashed, operation):
    died = {step for (name, step), status in crashed[0].items() if name == operation and status == -9}
    assert died >= {"directory-made", "lock-opened", "lock-held", "opened", "written", "linked", "lock-removed"}


@pytest.mark.timeout(900)
def test_without_a_process_file_system_a_creator_that_died_at_any_step_leaves_nothing_for_long(run, crash_build, shm):
    hidden = tmpfs_command(Path("/proc"), "4k")
    if hidden is None:
        pytest.skip("this system allows no private mounts (unshare --mount), with or without root")
    code = f"""
    assert not os.path.exists("/proc/self")
    steps, operations = {STEPS!r}, ("array", "nesting", "allocate", "allocate that fails")
    """
    after = """
    assert sum(status == -9 for _, _, status in ended) >= 10
    os.environ.pop("MEGALITH_CRASH_AT", None)
    for name, step, _ in ended:
        directory = shm / f"{name}-{step}"
        shared.cache("b", lambda: values, str(directory), timeout=0, verbose=False)
        shared.free("b", str(directory))
        rest = [directory / name for name in left_behind(directory) if not name.startswith("sharearray_a.np")]
        assert all(path.stat().st_size == 0 for path in rest), rest
        for _ in range(2):
            got = shared.cache("a", lambda: values, str(directory), timeout=30, verbose=False)
            assert np.array_equal(got["x"] if isinstance(got, dict) else got, values), (name, step)
            shared.free("a", str(directory))
        assert left_behind(directory) == [], (name, step, left_behind(directory))
        for own in directory.iterdir():
            own.rmdir()
        directory.rmdir()
    """
    environment = {"PYTHONPATH": str(crash_build)}
    run(shm, code, CRASHES, after, prefix=hidden, env=environment, timeout_s=300.0)

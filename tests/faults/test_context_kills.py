"""Processes that are killed while they write, evict or read results on disk: what is there is complete and right."""

import json
import os

import pytest

IS_CI = os.environ.get("MEGALITH_HYPOTHESIS") == "ci"
KILLS = 60 if IS_CI else 300

RANDOM = """
N_KEYS = 12
rng = random.Random(seed)

def values(i):
    return np.arange(5000 * (1 + i % 4)) + i

def result(i):
    return {"x": values(i), "rest": [values(i)[:100], f"text {i}"]} if i % 2 else values(i)

def right(got, i):
    if i % 2:
        assert set(got) == {"x", "rest"} and got["rest"][1] == f"text {i}"
        assert np.array_equal(got["rest"][0], values(i)[:100])
        got = got["x"]
    assert np.array_equal(got, values(i)), i

def write(random, f):
    '''Ask for results, forget some, force some.'''
    i = random.randrange(N_KEYS)
    right(f(i), i)
    with contextlib.suppress(KeyMissingError):  # evicted
        right(f.call_and_shelve(i).get(), i)
    if random.random() < 0.2:
        f.forget(i)
    elif random.random() < 0.1:
        right(f.call(i)[0], i)

def read(random, f):
    '''Look at all that is said to be there.'''
    for entry in f.entries():
        with contextlib.suppress(FileNotFoundError):
            got = records.load(entry.path, verify=True)
            if entry.arguments:
                right(got, int(entry.arguments["i"]))

OPTIONS = [{}, {"bytes_limit": 400_000}, {"mmap_mode": "r"}, {"bytes_limit": 250_000}]
ROLES = [(write, options) for options in OPTIONS * 2] + [(read, {"readonly": True}), (read, {})]

def act(role, seed):
    work, options = role
    random_ = random.Random(seed)
    f = memory(**options).cache(result)
    warnings.simplefilter("error")
    note("started")
    while not (here / "stop.list").exists():
        work(random_, f)

place.mkdir()
crowd = {fork(act, role, i): role for i, role in enumerate(ROLES)}
until_noted("started", len(ROLES))
for n in range(kills):
    time.sleep(rng.random() * 0.03)
    victim = rng.choice(list(crowd))
    role = crowd.pop(victim)
    kill(victim)  # which had not ended: nothing has ever been wrong, nor warned of
    crowd[fork(act, role, 1000 + n)] = role
note("stop")
assert join(*crowd) == [0] * len(crowd)

f = memory().cache(result)
assert total() is None or total() >= size(), (total(), size())
for path in entry_files():
    records.load(path, verify=True)
for i in range(N_KEYS):
    was_there = f.cached(i)
    got, warnings_ = warned(f, i)
    right(got, i)
    assert warnings_ == [] and f.cached(i)
Entries(str(place), limit=10**9)._scan()
assert total() == size()
for path in leftovers():
    os.utime(path, (1, 1))  # locks of the dead go when they are old
f.forget(0), f(0)
assert leftovers() == [], leftovers()
print(kills)
"""


@pytest.mark.timeout(400)
def test_among_writers_readers_and_evicting_processes_killed_at_random_all_that_is_there_is_right(run_context):
    assert run_context(f"seed, kills = 0, {KILLS}", RANDOM, timeout_s=380.0) == f"{KILLS}\n"


CRASHES = """
values = np.arange(20_000.0)

def array(i):
    return values + i

def nesting(i):
    return {"x": values + i, "y": [values[:100], None, "text"]}

def right(got, i):
    if isinstance(got, dict):
        assert list(got) == ["x", "y"] and got["y"][1:] == [None, "text"]
        assert np.array_equal(got["y"][0], values[:100])
        got = got["x"]
    assert np.array_equal(got, values + i)

def cold(at):
    memory(at=at).cache(array)(1)

def counted(at):
    memory(at=at, bytes_limit=10**9).cache(array)(1)

def after_another(at):
    f = memory(at=at, bytes_limit=10**9).cache(array)
    f(7)
    arm()
    f(1)

def nested(at):
    memory(at=at, bytes_limit=10**9).cache(nesting)(1)

def forced(at):
    f = memory(at=at, bytes_limit=10**9).cache(array)
    f(1)
    arm()
    f.call(1)

def evicting(at):
    f = memory(at=at, bytes_limit=400_000).cache(array)
    f(7), f(8)
    arm()
    f(1)

def forgetting(at):
    f = memory(at=at, bytes_limit=400_000).cache(array)
    f(1)
    arm()
    f.forget(1)

def arm():
    os.environ["MEGALITH_CRASH_AT"] = step

def die(operation, at):
    if operation in (cold, counted, nested):
        arm()
    operation(at)

operations = (cold, counted, after_another, nested, forced, evicting, forgetting)
died = {operation.__name__: [] for operation in operations}
for operation in operations:
    for step in steps:
        at = place / f"{operation.__name__}-{step}"
        [status] = join(fork(die, operation, at))
        assert status in (0, -9), (operation.__name__, step, status)
        if status:
            died[operation.__name__].append(step)
        for path in entry_files(at):
            got = records.load(path, verify=True)
            right(got, (got["x"] if isinstance(got, dict) else got)[0])
        known = total(at) if (at / "total.bytes").exists() else None
        assert known is None or known >= size(at), (operation.__name__, step, known, size(at))
        f = memory(at=at, bytes_limit=10**9).cache(nesting if operation is nested else array)
        got, warnings_ = warned(f, 1)
        right(got, 1)
        assert warnings_ == [] and f.cached(1), (operation.__name__, step)
        for path in leftovers(at):
            os.utime(path, (1, 1))
        right(f(2), 2)
        assert leftovers(at) == [], (operation.__name__, step, leftovers(at))
        Entries(str(at), limit=10**9)._scan()
        assert total(at) == size(at), (operation.__name__, step)
print(json.dumps(died))
"""


@pytest.mark.timeout(900)  # a build
def test_after_a_writer_that_died_at_any_step_the_next_call_is_right(run_context, crash_build, crash_steps):
    said = run_context(
        f"steps = {crash_steps!r}",
        CRASHES,
        env={"PYTHONPATH": str(crash_build)},
        timeout_s=300.0,
    )
    died = {name: set(steps) for name, steps in json.loads(said).items()}
    write = {"directory-made", "lock-opened", "lock-held", "opened", "locked", "permitted", "written", "linked"}
    assert died["cold"] >= write | {"lock-removed", "lock-released"}
    assert died["counted"] >= write | {"counted", "settled"}
    assert died["after_another"] >= {"counted", "linked", "lock-removed"}
    assert died["nested"] >= write | {"counted"}
    assert died["forced"] >= {"counted", "linked", "renamed"}
    assert died["evicting"] >= {"counted", "linked", "removed"}
    assert died["forgetting"] == {"removed"}


def test_a_process_killed_while_it_computes_leaves_nothing(run_context):
    code = """
    def slow(i):
        note("computed")
        if len(noted("computed")) == 1:
            time.sleep(HANG_S)
        return np.arange(10)

    f = memory(bytes_limit=10**6).cache(slow)
    child = fork(f, 1)
    until_noted("computed")
    kill(child)
    assert not f.cached(1) and f.entries() == [] and entry_files() == []
    assert f(1).sum() == 45
    assert leftovers() == []
    """
    run_context(code)

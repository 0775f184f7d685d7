"""Runs of `hdf5.compute` that are killed, driver or worker, at any moment: they go on where they stopped, and every
file that is left can be opened."""

import json
import os

import pytest

IS_CI = os.environ.get("MEGALITH_HYPOTHESIS") == "ci"
KILLS = 5 if IS_CI else 100
KINDS = ["virtual", "single", "compressed", "mean"]

HDF5 = """
import h5py
from concurrent.futures import ProcessPoolExecutor
from megalith.hdf5 import compute, open_virtual

N_ROWS, N_BLOCKS = 3 * n_blocks - 1, n_blocks
source = np.arange(N_ROWS * 3000.0).reshape(N_ROWS, 3000)
starts = [i * N_ROWS // N_BLOCKS for i in range(N_BLOCKS + 1)]

def root(block):
    note("workers", os.getpid())
    note("calls", starts.index(int(block[0, 0]) // 3000))
    time.sleep(0.003)
    return np.sqrt(block)

def summed(block):
    return root(block).sum(axis=0)

OPTIONS = {
    "virtual": {},
    "single": {"layout": "single"},
    "compressed": {"layout": "single", "compression": "lzf"},
    "mean": {"keeptrials": False},
}

def wanted(kind):
    if kind == "mean":
        return np.mean([np.sqrt(source[a:b]).sum(axis=0) for a, b in zip(starts, starts[1:])], axis=0)
    return np.sqrt(source)

def ask(kind, sink, context=None):
    func = summed if kind == "mean" else root
    return compute(func, source, sink, blocks=N_BLOCKS, context=context, **OPTIONS[kind])

def drive(kind, sink):
    pool = ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
    ask(kind, sink, Context(shm / "cache", workers=pool))
    # A pool of the standard library waits for ever if a process of it is killed while it shuts down.
    end(pool._processes or ())
    os._exit(0)

def clear(*names):
    for name in names:
        (here / f"{name}.list").unlink(missing_ok=True)

def recorded(sink):
    '''Blocks that are finished.'''
    directory = sink.with_name(sink.name + ".blocks")
    return {int(path.stem) for path in directory.glob("[0-9]*.json")}

def all_open(sink):
    '''Open every file of a run that is no record; some may vanish, if somebody goes on with it.'''
    directory = sink.with_name(sink.name + ".blocks")
    found = [*sink.parent.glob(sink.name + "*"), *directory.glob("*"), *sink.parent.glob(f".{sink.name}*")]
    for path in found:
        if path.is_file() and ".json" not in path.name:  # a record, perhaps under its first name
            with contextlib.suppress(FileNotFoundError), h5py.File(path, locking=False) as file:
                file.visititems(lambda _, item: item[()] if isinstance(item, h5py.Dataset) else None)

def check(kind, sink):
    with open_virtual(sink) as file:
        assert file["data"][()].tobytes() == wanted(kind).tobytes()
    left = {path.name for path in sink.parent.glob(sink.name + "*")}
    assert left == ({sink.name, sink.name + ".blocks"} if kind == "virtual" else {sink.name}), left

def end(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
"""

RANDOM = """
rng = random.Random(seed)
sinks, n, spared = 0, 0, 0
while n < kills:
    sink, sinks = shm / f"{sinks}.h5", sinks + 1
    orphans = set()
    while True:
        clear("calls", "workers")
        before = recorded(sink)
        driver = fork(drive, kind, sink)
        moment = rng.choice([0, 1, 3, 8, N_BLOCKS])  # in the beginning, between, at the end
        ended = lambda: os.waitid(os.P_PID, driver, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        until(lambda: ended() or len(noted("calls")) >= min(moment, N_BLOCKS - len(before)))
        time.sleep(rng.random() * (0.02 if moment < N_BLOCKS else 0.08))
        is_over = ended() or n >= kills
        if not is_over and (moment == N_BLOCKS or rng.random() < 0.6):
            os.kill(driver, signal.SIGKILL)
            all_open(sink)
            [status] = join(driver)
            assert status in (-9, 0)
            is_over = status == 0
            n += not is_over
            workers = set(map(int, noted("workers")))
            if rng.random() < 0.5:  # The others go on without him.
                end(workers)
            orphans |= workers
        else:
            if not is_over and noted("workers"):
                workers = set(map(int, noted("workers"))) - orphans
                if workers:
                    end([rng.choice(sorted(workers))])
                    n += 1
                    all_open(sink)
            assert join(driver) == [0], (kind, n)
            is_over = True
        calls = set(map(int, noted("calls")))
        assert not calls & before, (kind, n, calls, before)
        spared += len(before)
        if is_over:
            break
    end(orphans)
    all_open(sink)
    check(kind, sink)
assert spared or kills < 50
print(n)
"""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", KINDS)
def test_runs_killed_at_random_end_the_same_redo_only_what_is_unfinished_and_leave_files_that_open(kind, run_context):
    settings = f"kind, seed, kills = {kind!r}, 0, {KILLS}"
    assert run_context("n_blocks = 16", HDF5, settings, RANDOM, timeout_s=380.0) == f"{KILLS}\n"


FULL = """
size = shutil.disk_usage(shm).total
rows = size // 2 // 8000
source = np.zeros((rows, 1000))

def same(block, noCompute=None):
    return (block.shape, block.dtype) if noCompute else block

def plain(block):
    return block

kept = {}
(shm / "ballast").write_bytes(bytes(size * 6 // 10))
for func in (same, plain):
    for layout in ("virtual", "single"):
        sink = shm / f"{func.__name__}-{layout}.h5"
        error = raises(OSError, compute, func, source, sink, blocks=20, layout=layout)
        assert "room" in str(error) or "free" in str(error) or "space" in str(error), error
        assert not sink.exists()
        all_open(sink)
        kept[sink] = len(recorded(sink))
assert max(n for sink, n in kept.items() if "same" in sink.name) == 0, kept
(shm / "ballast").unlink()
for sink in kept:
    func = same if "same" in sink.name else plain
    compute(func, source, sink, blocks=20, layout="single" if "single" in sink.name else "virtual")
    with open_virtual(sink) as file:
        assert file["data"].shape == source.shape and not file["data"][()].any()
    sink.unlink()
    shutil.rmtree(sink.with_name(sink.name + ".blocks"), ignore_errors=True)
print("done")
"""

FILLS = """
# Room that vanishes while blocks are written.
source = np.zeros((20, 20_000))

def fills(block):
    if not block[0, 0] and noted("calls") and not noted("freed"):
        with contextlib.suppress(OSError), open(shm / "ballast", "ab") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
    note("calls")
    return block + 1

for kind, options in OPTIONS.items():
    if kind == "single":
        continue  # it has all its room from the start
    clear("calls", "freed")
    sink = shm / f"{kind}.h5"
    error = raises(OSError, compute, fills, source, sink, blocks=10, **options)
    all_open(sink)
    assert not sink.exists() and recorded(sink) == {0}
    (shm / "ballast").unlink()
    note("freed")
    clear("calls")
    compute(fills, source, sink, blocks=10, **options)
    assert len(noted("calls")) == 9
    with open_virtual(sink) as file:
        assert (file["data"][()] == 1).all()
    sink.unlink()
    shutil.rmtree(sink.with_name(sink.name + ".blocks"), ignore_errors=True)
print("done")
"""


@pytest.mark.parametrize("program", [FULL, FILLS], ids=["full before", "full meanwhile"])
def test_on_a_full_disk_what_was_done_is_kept_and_all_files_open(program, run_context, tmpfs):
    assert run_context("n_blocks = 16", HDF5, program, **tmpfs("6m")) == "done\n"


STEPS = """
import megalith._durable as durable
from megalith.hdf5 import journal

# The process ends at the n-th of all moments at which something becomes visible or durable.
def mortal(call):
    def wrapper(*args, **options):
        step()
        result = call(*args, **options)
        step()
        return result
    return wrapper

count = 0
def step():
    global count
    count += 1
    if count == last:
        os._exit(7)

def live(kind, sink, n):
    global last, count
    last, count = n, 0
    durable.publish, durable.sync, durable.sync_data = map(mortal, (durable.publish, durable.sync, durable.sync_data))
    Path.rename, Path.unlink, journal.Journal.add = map(mortal, (Path.rename, Path.unlink, journal.Journal.add))
    ask(kind, sink)

steps = {}
for kind in OPTIONS:
    for n in range(stride, 10**6, stride):
        sink = shm / f"{kind}-{n}.h5"
        [status] = join(fork(live, kind, sink, n))
        all_open(sink)
        clear("calls")
        before = recorded(sink)
        ask(kind, sink)
        assert not set(map(int, noted("calls"))) & before
        check(kind, sink)
        sink.unlink()
        shutil.rmtree(sink.with_name(sink.name + ".blocks"), ignore_errors=True)
        if status == 0:
            break
        assert status == 7
    steps[kind] = n
print(json.dumps(steps))
"""


@pytest.mark.timeout(300)
def test_a_run_that_ends_at_any_step_between_data_record_and_name_goes_on(run_context):
    steps = json.loads(run_context("n_blocks = 4", HDF5, f"stride = {3 if IS_CI else 1}", STEPS, timeout_s=280.0))
    assert all(n > 25 for n in steps.values()), steps

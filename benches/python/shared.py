"""Shared arrays against what else puts arrays into shared memory: same data, same run, medians.

    python benches/python/shared.py [--repeat N] [--size MIB] [--record FILE.json]

Peers: NumPy's files (save and load with mmap_mode), multiprocessing.shared_memory, SharedArray where it is installed.
Times are wall time; rows without a peer are for the floors that name none.
"""

import os
import statistics
import subprocess
import sys
import threading
import time
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import bench
import numpy as np

from megalith import shared

try:
    import SharedArray
except ImportError:
    SharedArray = None

ID, FILE = f"bench-{os.getpid()}", Path(f"/dev/shm/bench-{os.getpid()}.npy")

FIRST = """
import sys, time
import numpy as np
from megalith import shared
shared.get({other!r}) if {warm} else None
start = time.perf_counter()
{call}
print(time.perf_counter() - start)
"""


def first(call, repeat, *, warm):
    """Time a call in processes that make it once; `warm`: after they have mapped another array."""
    code = FIRST.format(call=call, other=ID + "-other", warm=warm)
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(repeat)
    ]
    return statistics.median(float(run.stdout) for run in runs)


def hits(repeat):
    values = np.arange(1000.0)
    held = shared.cache(ID, values, verbose=False)
    shared.cache(ID + "-other", values[:5], verbose=False)
    np.save(FILE, values)
    block = SharedMemory(ID, create=True, size=values.nbytes)
    ours = bench.median(lambda: shared.cache(ID, values, verbose=False), repeat, 2000)
    yield (
        "hit, a view is alive",
        ours,
        "numpy.load, mapped",
        bench.median(lambda: np.load(FILE, mmap_mode="r"), repeat, 500),
    )
    if SharedArray is not None:
        SharedArray.create(ID + "-peer", values.shape)
        attached = bench.median(lambda: SharedArray.attach(ID + "-peer"), repeat, 2000)
        yield "hit, a view is alive", ours, "SharedArray.attach", attached
        SharedArray.delete(ID + "-peer")
    del held
    ours = bench.median(lambda: shared.cache(ID, values, verbose=False), repeat, 2000)

    def attach():
        other = SharedMemory(ID)
        np.frombuffer(other.buf)[0]
        other.close()

    yield "hit, no view is alive", ours, "multiprocessing.shared_memory", bench.median(attach, repeat, 500)
    for warm, name in ((True, "first hit in a process that has mapped another"), (False, "first call of a process")):
        ours = first(f"shared.get({ID!r})", repeat, warm=warm)
        yield name, ours, "numpy.load, mapped", first(f"np.load({str(FILE)!r}, mmap_mode='r')", repeat, warm=False)
    block.close()
    block.unlink()
    FILE.unlink()
    shared.free(ID)
    shared.free(ID + "-other")


def stores(repeat, mebibytes):
    values = np.random.default_rng(0).integers(0, 255, mebibytes << 20, dtype=np.uint8)

    def free():
        shared.free(ID)
        FILE.unlink(missing_ok=True)

    def fill():
        with shared.allocate(ID, values.shape, values.dtype) as array:
            array[:] = 7

    def make_and_save():
        array = np.empty_like(values)
        array[:] = 7
        np.save(FILE, array)

    peer = bench.median(lambda: np.save(FILE, values), repeat, after=free)
    yield (
        f"store {mebibytes} MiB",
        bench.median(lambda: shared.cache(ID, values, verbose=False), repeat, after=free),
        "numpy.save",
        peer,
    )
    record = bench.median(lambda: shared.cache(ID, {"a": values}, verbose=False), repeat, after=free)
    yield f"store {mebibytes} MiB in a dict, with checksums", record, "numpy.save", peer
    ours = bench.median(fill, repeat, after=free)
    yield f"make {mebibytes} MiB in place", ours, "numpy.save", bench.median(make_and_save, repeat, after=free)


def _hit_for_a_while(id, start, times):
    held = shared.get(id)
    start.wait()
    times.put(bench.median(lambda: shared.cache(id, held, verbose=False), 5, 5000))


def crowd(repeat):
    """Eight processes that hit one name at once, against one alone; on two cores they share the time."""
    context = get_context("spawn")
    shared.cache(ID, np.arange(1000.0), verbose=False)
    found = {}
    for n in (1, os.cpu_count(), 8):
        start, times = context.Barrier(n), context.Queue()
        workers = [context.Process(target=_hit_for_a_while, args=(ID, start, times)) for _ in range(n)]
        for worker in workers:
            worker.start()
        found[n] = statistics.median(times.get() for _ in workers) / max(1, n / os.cpu_count())
        for worker in workers:
            worker.join()
    shared.free(ID)
    for n in (os.cpu_count(), 8):
        yield f"hit, {n} processes at once (per core)", found[n], "one process", found[1]


def _wait_for(id, started, times):
    started.release()
    shared.cache(id, lambda: 1 / 0, verbose=False)
    times.put(time.monotonic())


def _handover():
    """Return the seconds from publication to the last of seven waiters."""
    context = get_context("spawn")
    started, times, published = context.Semaphore(0), context.Queue(), []
    workers = [context.Process(target=_wait_for, args=(ID, started, times)) for _ in range(7)]

    def make():
        for worker in workers:
            worker.start()
        for _ in workers:
            started.acquire()
        time.sleep(0.3)
        published.append(time.monotonic())
        return np.arange(10.0)

    shared.cache(ID, make, verbose=False)
    late = max(times.get() for _ in workers) - published[0]
    for worker in workers:
        worker.join()
    shared.free(ID)
    return late


def handover(repeat):
    late = statistics.median(_handover() for _ in range(repeat))
    yield "from the end of computing to the last of 7 waiters", late, None, None


def threads(repeat):
    """32 threads on a cold name compute once."""

    def race():
        count, barrier = [], threading.Barrier(32)

        def make():
            count.append(1)
            return np.arange(10.0)

        def ask():
            barrier.wait()
            shared.cache(ID, make, verbose=False)

        workers = [threading.Thread(target=ask) for _ in range(32)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert count == [1]
        shared.free(ID)

    yield "32 threads, a cold name", bench.median(race, repeat), None, None


def main():
    parser = bench.parser(__doc__)
    parser.add_argument("--size", type=int, default=1024, help="MiB of large arrays")
    options = parser.parse_args()
    rows = []
    for group in (hits, crowd, handover, threads, lambda repeat: stores(repeat, options.size)):
        for name, seconds, peer, peer_seconds in group(options.repeat):
            rows.append(bench.against(name, seconds, peer, peer_seconds))
            versus = "" if peer is None else f"{peer_seconds * 1e6:>14,.1f} us{rows[-1]['ratio']:>7.1f}x  {peer}"
            print(f"{name:<52}{seconds * 1e6:>14,.1f} us{versus}", flush=True)
    bench.record(options, rows)


if __name__ == "__main__":
    main()

"""Results of blocks to HDF5 by two workers, against h5py in one process: same results, same run, medians, all synced.

    python benches/python/hdf5.py [--repeat N] [--blocks N] [--directory DIR] [--record FILE.json]

Every block is 16 MiB of float64 that is made by the worker; the source is one number for each. Times are wall time from
the call to the moment when all is on the disk. Workers are started before. Compressed rows have a quarter of the
blocks.
"""

import functools
import itertools
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import bench
import h5py
import numpy as np

from megalith import Context, hdf5

N = 1 << 21
WORKERS = 2


def make(block):
    return np.full((len(block), N), block[0, 0])


def mixed(block):
    """Numbers that compress to about a half."""
    return np.random.default_rng(int(block[0, 0])).integers(0, 256, (1, N)).astype("f8")


def by_h5py(func, source, path, **options):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("data", (len(source), N), "f8", **options)
        for i in range(len(source)):
            dataset[i : i + 1] = func(source[i : i + 1])
    synced(path)


def by_orders(func, source, context, path):
    """One file that is there, and a lock around each write: Syncopy's way."""
    with h5py.File(path.with_suffix(".in"), "w") as file:
        file["data"] = source
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (len(source), N), "f8")
    rows = [(slice(i, i + 1), slice(None)) for i in range(len(source))]
    orders = [{"infile": path.with_suffix(".in"), "ingrid": row, "outfile": path, "outgrid": row} for row in rows]
    context.map(hdf5.unwrap_io(func), orders)
    synced(path)


def ours_of(func, source, context, options, path):
    hdf5.compute(func, source, path, blocks=len(source), context=context, **options)


def synced(path):
    file = os.open(path, os.O_RDWR)
    os.fsync(file)
    os.close(file)


def ways(source, context):
    """What is timed: name, function of a path, and the name of the peer."""

    def ours(**options):
        return functools.partial(ours_of, make, source, context, options)

    plain = "h5py in one process"
    yield plain, functools.partial(by_h5py, make, source), None
    yield "virtual", ours(), plain
    yield "single, lock-free", ours(layout="single"), plain
    yield "orders into one file under a mutex", functools.partial(by_orders, make, source, context), plain
    few = source[: max(len(source) // 4, 1)]
    for name, compression in (("lzf", "lzf"), ("gzip", 1)):
        packed = {"layout": "single", "compression": compression}
        yield f"h5py, {name}", functools.partial(by_h5py, mixed, few, compression=compression), None
        yield f"single, {name}", functools.partial(ours_of, mixed, few, context, packed), f"h5py, {name}"


def clear(directory):
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    os.sync()


def main():
    parser = bench.parser(__doc__, repeat=5)
    parser.add_argument("--blocks", type=int, default=64)
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    options = parser.parse_args()
    source = np.arange(float(options.blocks))[:, None]
    times = {}
    with tempfile.TemporaryDirectory(dir=options.directory) as base:
        context = Context(Path(base) / "cache", workers=WORKERS)
        place = Path(base) / "results"
        place.mkdir()
        context.map(time.sleep, itertools.repeat(0.1, 2 * WORKERS))
        found = list(ways(source, context))
        for turn in range(options.repeat + 1):  # all of them in each turn; the first one warms up
            for name, write, _ in found:
                clear(place)
                start = time.perf_counter()
                write(place / "a.h5")
                if turn:
                    times.setdefault(name, []).append(time.perf_counter() - start)
        clear(place)
    rows = []
    for name, _, peer in found:
        peer_seconds = None if peer is None else statistics.median(times[peer])
        row = bench.against(name, statistics.median(times[name]), peer, peer_seconds)
        rows.append(row)
        against = "" if peer is None else f"{row['ratio']:>7.2f}x  {peer}"
        print(f"{name:<40}{row['seconds']:>8.3f} s{against}", flush=True)
    bench.record(options, rows, h5py=h5py.__version__, blocks=options.blocks)


if __name__ == "__main__":
    main()

"""Kernels on small arrays beside the calls they replace, and how their times grow with size and threads.

    python benches/python/scaling.py [--repeat N] [--record FILE.json]

From 1,000 elements on, microseconds more than the peer; from 2^26 to 2^30 bytes, T(2n) / T(n) with 1 thread and with
all. These four times are taken one after the other in each round, and the ratios of rounds have the median: clocks of
shared machines change by a third from one minute to the next.

As the results of two sizes take turns, memory is kept for both, unless MEGALITH_REUSE_BYTES says otherwise.
"""

import itertools
import os
import statistics

import bench
import numpy as np
import scipy.ndimage

import megalith
from megalith.arrays.blocks import thread_count
from megalith.cli.bench import machine
from megalith.cli.workloads import Workload, measure, searched_pairs

RANDOM = np.random.default_rng(0)
POWERS = 2 ** np.arange(27).reshape(3, 3, 3)
RULES = np.zeros(1 << 27, bool)
# Of spikes_per_cluster, 1 and 2 GiB.
KEPT = 4 << 30


def small(n):
    """Each kernel on about `n` elements, its peer and the peer's way."""
    values = RANDOM.integers(0, 2, n).astype(np.uint8)
    floats, lut, kernel = values.astype(np.float64), np.arange(256), np.array([1.0, 2.0, 1.0])
    starts = megalith.block_ranges(values, 20)[:-1]
    indices = np.sort(RANDOM.choice(5 * n, n, replace=False))
    mask = RANDOM.random((n // 100, 10, 10)) < 0.5
    ids = RANDOM.integers(0, 50, n)
    yield "where", lambda: megalith.where(values), "numpy.flatnonzero", lambda: np.flatnonzero(values)
    yield "apply_lut", lambda: megalith.apply_lut(values, lut), "numpy: lut[a]", lambda: lut[values]
    yield (
        "correlate1d",
        lambda: megalith.correlate1d(floats, kernel),
        "scipy.ndimage",
        lambda: scipy.ndimage.correlate1d(floats, kernel, mode="constant"),
    )
    yield (
        "block_sums",
        lambda: megalith.block_sums(values, 20),
        "numpy.add.reduceat",
        lambda: np.add.reduceat(values, starts, dtype=np.uint64),
    )

    yield (
        "neighbours",
        lambda: megalith.neighbours(indices, 5),
        "numpy.searchsorted",
        lambda: searched_pairs(indices, 5),
    )
    yield (
        "apply_lut_to_index",
        lambda: megalith.apply_lut_to_index(mask, POWERS, RULES),
        "scipy.ndimage, take",
        lambda: RULES.take(scipy.ndimage.correlate(mask.view(np.uint8), POWERS, np.int64, "constant")),
    )

    def groups():
        order = np.argsort(ids, kind="stable")
        bounds = np.searchsorted(ids[order], np.arange(51))
        return {k: order[a:b] for k, (a, b) in enumerate(itertools.pairwise(bounds)) if b > a}

    yield "spikes_per_cluster", lambda: megalith.select.spikes_per_cluster(ids), "numpy.argsort", groups


def large(n):
    """Each kernel on `n` bytes and so many threads, into memory that is in use where it can be."""
    kernel, table = np.hanning(13)[1:-1], RANDOM.integers(0, 200, 1 << 16).astype(np.uint16)
    values = RANDOM.integers(0, 256, n, dtype=np.uint8)
    sparse = (values < 26).view(np.uint8)
    volume = values[: n // 4].astype(np.float32).reshape(-1, 256, 256)
    words, cube = values.view(np.uint16), sparse[: n // 4].view(bool).reshape(-1, 256, 256)
    sink, smooth = np.empty_like(words), np.empty_like(volume)
    # Not a power of two of clusters: their lists would begin multiples of a large one apart, each size another.
    indices, ids = np.flatnonzero(values[: n // 4] < 128), RANDOM.integers(0, 500, n // 4, dtype=np.int32)
    yield "where 1-d uint8, 10 %", lambda threads: megalith.where(sparse, processes=threads)
    yield "apply_lut uint16, warm", lambda threads: megalith.apply_lut(words, table, sink, processes=threads)
    yield "block_sums uint8", lambda threads: megalith.block_sums(values, 20, threads)
    yield (
        "correlate1d float32, 11 taps, warm",
        lambda threads: megalith.correlate1d(volume, kernel, smooth, axis=1, processes=threads),
    )
    yield (
        "apply_lut_to_index 3 x 3 x 3",
        lambda threads: megalith.apply_lut_to_index(cube, POWERS, RULES, processes=threads),
    )
    yield "neighbours, offset 1000", lambda threads: megalith.neighbours(indices, 1000, threads)
    yield "spikes_per_cluster", lambda threads: megalith.select.spikes_per_cluster(ids, processes=threads)


def main():
    options = bench.parser(__doc__, repeat=5).parse_args()
    kept = os.environ.setdefault("MEGALITH_REUSE_BYTES", str(KEPT))
    rows, growth = [], []
    for n in (1000, 10_000, 100_000):
        for name, ours, peer, theirs in small(n):
            found = measure(Workload(f"{name}, {n:,} elements", 8 * n, ours, {peer: theirs}), 4 * options.repeat)
            more = found.seconds - found.peers[peer]
            rows.append({"workload": found.workload.name, "peer": peer, "seconds": found.seconds, "more": more})
            print(f"{found.workload.name:<48}{1e6 * found.seconds:>9.2f} us, {1e6 * more:+.2f} of {peer}", flush=True)
    most = thread_count(None)
    counts = sorted({1, most})
    for bits in range(27, 31):
        for (name, half), (_, whole) in zip(large(1 << (bits - 1)), large(1 << bits), strict=True):
            rounds = [
                {
                    (call, threads): bench.median(lambda f=call, n=threads: f(n), 1)
                    for call in (half, whole)
                    for threads in counts
                }
                for _ in range(options.repeat + 1)
            ][1:]
            for threads in counts:
                row = {"workload": name, "threads": threads, "bytes": 1 << bits}
                row["seconds"] = statistics.median(found[whole, threads] for found in rounds)
                row["growth"] = statistics.median(found[whole, threads] / found[half, threads] for found in rounds)
                row["by_threads"] = statistics.median(found[whole, 1] / found[whole, threads] for found in rounds)
                growth.append(row)
                ratios = f"T(2n) / T(n) {row['growth']:.2f}, by threads {row['by_threads']:.2f}x"
                print(
                    f"{name:<40}{threads} threads{1 << bits - 20:>6} MiB{1e3 * row['seconds']:>10.2f} ms  {ratios}",
                    flush=True,
                )
    bench.record(options, rows, growth=growth, reuse=kept, **machine(most))


if __name__ == "__main__":
    main()

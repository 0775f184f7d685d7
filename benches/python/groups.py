"""Groups and means of spikes by cluster against what else makes them: same data, same run, medians.

    python benches/python/groups.py [--repeat N] [--spikes N] [--record FILE.json]

Peers: NumPy, phylib, pandas, polars (with all its threads) and Numba (compiled before, one thread and two), where they
are installed. All give the same groups or means, which is checked. Times are wall time; "used" are the processors that
ours had of it: a machine that is shared gives less than one for each thread.
"""

import os
import statistics
import time

import bench
import numpy as np

from megalith import select

try:
    import numba
except ImportError:
    numba = None
try:
    import pandas
except ImportError:
    pandas = None
try:
    import polars
except ImportError:
    polars = None
try:
    from phylib.io import array as phylib
except ImportError:
    phylib = None

CLUSTERS = 500


def medians(fs, repeat):
    """Seconds of each function, called in turn, and processors used by the first."""
    times, used = [[] for _ in fs], []
    for f in fs:
        f()
    for _ in range(repeat):
        for i, f in enumerate(fs):
            cpu, start = time.process_time(), time.perf_counter()
            f()
            times[i].append(time.perf_counter() - start)
            if i == 0:
                used.append((time.process_time() - cpu) / times[0][-1])
    return [statistics.median(one) for one in times], statistics.median(used)


if numba is not None:

    @numba.njit
    def numba_groups(ids, n):
        counts = np.zeros(n + 1, np.int64)
        for i in range(len(ids)):
            counts[ids[i] + 1] += 1
        starts = np.cumsum(counts)
        out = np.empty(len(ids), np.int64)
        for i in range(len(ids)):
            out[starts[ids[i]]] = i
            starts[ids[i]] += 1
        return out

    @numba.njit
    def numba_means(ids, values, n):
        sums, counts = np.zeros(n), np.zeros(n, np.int64)
        for i in range(len(ids)):
            sums[ids[i]] += values[i]
            counts[ids[i]] += 1
        return sums / counts

    @numba.njit(parallel=True)
    def numba_means_parallel(ids, values, n):
        parts = numba.get_num_threads()
        sums, counts = np.zeros((parts, n)), np.zeros((parts, n), np.int64)
        for p in numba.prange(parts):
            for i in range(p * len(ids) // parts, (p + 1) * len(ids) // parts):
                sums[p, ids[i]] += values[i]
                counts[p, ids[i]] += 1
        return sums.sum(axis=0) / counts.sum(axis=0)


def group_peers(ids):
    yield "numpy.argsort(kind='stable')", lambda: ids.argsort(kind="stable")
    if phylib is not None:
        yield "phylib", lambda: phylib._spikes_per_cluster(ids)
    if pandas is not None:
        yield "pandas groupby.indices", lambda: pandas.Series(ids).groupby(ids).indices
    if polars is not None:
        frame = polars.DataFrame({"cluster": ids}).with_row_index("spike")
        yield "polars group_by", lambda: frame.group_by("cluster", maintain_order=True).agg("spike")
    if numba is not None:
        yield "numba counting sort", lambda: numba_groups(ids, CLUSTERS)


def mean_peers(values, ids):
    yield "numpy.bincount, twice", lambda: np.bincount(ids, weights=values) / np.bincount(ids)
    if phylib is not None:
        yield "phylib", lambda: phylib.grouped_mean(values, ids)
    if pandas is not None:
        yield "pandas groupby.mean", lambda: pandas.Series(values).groupby(ids).mean().to_numpy()
    if polars is not None:
        frame = polars.DataFrame({"cluster": ids, "value": values})
        yield "polars group_by.mean", lambda: frame.group_by("cluster").agg(polars.col("value").mean())
    if numba is not None:
        yield "numba", lambda: numba_means(ids, values, CLUSTERS)
        yield "numba, parallel", lambda: numba_means_parallel(ids, values, CLUSTERS)


def data(n, dtype):
    rng = np.random.default_rng(0)
    yield "random", rng.integers(0, CLUSTERS, n).astype(dtype)
    yield "runs of 16", np.repeat(rng.integers(0, CLUSTERS, n // 16 + 1), 16)[:n].astype(dtype)


def rows(repeat, n, only):
    values = np.random.default_rng(1).random(n)
    for dtype in ("int32", "int64"):
        for kind, ids in data(n, dtype):
            order, means = ids.argsort(kind="stable"), np.bincount(ids, weights=values) / np.bincount(ids)
            for threads in (1, 2):
                assert np.array_equal(
                    np.concatenate([*select.spikes_per_cluster(ids, processes=threads).values()]), order
                )
                assert np.allclose(select.grouped_mean(values, ids, processes=threads), means, rtol=1e-10)
            del order
            calls = (
                ("spikes_per_cluster", select.spikes_per_cluster, (ids,), group_peers(ids)),
                ("grouped_mean", select.grouped_mean, (values, ids), mean_peers(values, ids)),
            )
            for name, ours, args, peers in calls:
                if only and only != name:
                    continue
                for peer, theirs in peers:
                    both = [lambda t=t, f=ours, a=args: f(*a, processes=t) for t in (2, 1)]
                    # Few rounds of what takes seconds.
                    start = time.perf_counter()
                    theirs()
                    rounds = repeat if time.perf_counter() - start < 2 else min(repeat, 3)
                    (two, one, seconds), used = medians([*both, theirs], rounds)
                    yield f"{name}, {dtype}, {kind}", one, two, used, peer, seconds


def main():
    parser = bench.parser(__doc__, repeat=5)
    parser.add_argument("--spikes", type=int, default=50_000_000)
    parser.add_argument("--only", choices=["spikes_per_cluster", "grouped_mean"])
    options = parser.parse_args()
    found = []
    for name, one, two, used, peer, seconds in rows(options.repeat, options.spikes, options.only):
        found.append(
            {
                "what": name,
                "seconds_1_thread": one,
                "seconds": two,
                "processors_used": used,
                "peer": peer,
                "peer_seconds": seconds,
                "ratio": seconds / two,
            }
        )
        print(
            f"{name:<40}{one * 1e3:>7.0f} ms{two * 1e3:>7.0f} ms ({used:.1f} used){seconds * 1e3:>9.0f} ms"
            f"{seconds / two:>8.1f}x  {peer}",
            flush=True,
        )
    bench.record(options, found, load=os.getloadavg()[0], spikes=options.spikes, clusters=CLUSTERS)


if __name__ == "__main__":
    main()

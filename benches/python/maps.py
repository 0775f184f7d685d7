"""Maps over workers against what else maps over the same workers: same items, same run, medians.

    python benches/python/maps.py [--repeat N] [--items N] [--record FILE.json]

Peers: a list comprehension, `Executor.map` and `submit`, joblib, ipyparallel's own maps (one task for each item, and in
chunks), dask's `Client.map`. Items are trivial, unless the row says otherwise; workers are two processes, started and
warm.
"""

import logging
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import bench
import numpy as np
from joblib import Parallel, delayed

from megalith import Context, maps


def trivial(x):
    return x


def total(array, i):
    return float(array[i])


def nap(seconds):
    time.sleep(seconds)


def serial(options, n):
    context, items = Context(tempfile.mkdtemp()), range(n)
    ours = bench.median(lambda: context.map(trivial, items), options.repeat, warm=True)
    peer = bench.median(lambda: [trivial(x) for x in items], options.repeat, warm=True)
    row = bench.against(f"serial, {n:,} trivial items", ours, "list comprehension", peer)
    yield {**row, "extra_ns_per_item": (ours - peer) / n * 1e9}


def compare(options, what, workers, peers):
    def ours(f, *args):
        return maps.run(f, *args, workers=workers)

    n = options.items
    seconds = bench.median(lambda: ours(trivial, range(n)), options.repeat, warm=True)
    for name, call in peers.items():
        yield bench.against(f"{what}, {n:,} trivial items", seconds, name, bench.median(call, 3))
    delays = [0.02, 0.0] * 50
    seconds = bench.median(lambda: ours(nap, delays), options.repeat)
    yield bench.against(f"{what}, 100 items of 20 and 0 ms", seconds, "half of their sum", sum(delays) / 2)
    array = np.ones(25_000_000)
    seconds = bench.median(lambda: ours(total, [array] * 20, range(20)), options.repeat, warm=True)
    yield bench.against(f"{what}, 20 items with one array of 200 MB", seconds, None, None)


def rows(options):
    n = options.items
    yield from serial(options, 1_000_000)
    with ThreadPoolExecutor(2) as executor:
        peers = {"Executor.map": lambda: list(executor.map(trivial, range(n)))}
        yield from compare(options, "threads", executor, peers)
    with ProcessPoolExecutor(2) as executor:
        peers = {
            "Executor.map": lambda: list(executor.map(trivial, range(n))),
            "Executor.map in chunks of 100": lambda: list(executor.map(trivial, range(n), chunksize=100)),
        }
        yield from compare(options, "processes", executor, peers)
    with Parallel(2) as parallel:
        peers = {"joblib": lambda: parallel(delayed(trivial)(x) for x in range(n))}
        yield from compare(options, "own processes", 2, peers)
        array = np.ones(25_000_000)
        seconds = bench.median(lambda: maps.run(total, [array] * 20, range(20), workers=2), options.repeat, warm=True)
        theirs = bench.median(lambda: parallel(delayed(total)(array, i) for i in range(20)), options.repeat, warm=True)
        yield bench.against("own processes, 20 items with one array of 200 MB", seconds, "joblib", theirs)
    yield from clusters(options)


def clusters(options):
    import distributed
    import ipyparallel

    n = options.items
    with ipyparallel.Cluster(n=2, log_level=logging.ERROR) as client:
        view = client.load_balanced_view()
        peers = {
            "load-balanced view, a task an item": lambda: view.map_sync(trivial, range(n)),
            "load-balanced view, chunks of 100": lambda: view.map_sync(trivial, range(n), chunksize=100),
            "direct view": lambda: client[:].map_sync(trivial, range(n)),
        }
        yield from compare(options, "ipyparallel", view, peers)
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with cluster, distributed.Client(cluster) as client:
        peers = {"Client.map": lambda: client.gather(client.map(trivial, range(n), pure=False))}
        yield from compare(options, "dask", client, peers)


def main():
    parser = bench.parser(__doc__, repeat=5)
    parser.add_argument("--items", type=int, default=10_000)
    options = parser.parse_args()
    os.environ.setdefault("IPYTHONDIR", tempfile.mkdtemp())
    found = []
    for row in rows(options):
        found.append(row)
        against = f"{row['peer_seconds'] * 1e3:10.1f} ms {row['ratio']:8.2f}x  {row['peer']}" if row["peer"] else ""
        print(f"{row['what']:50} {row['seconds'] * 1e3:10.1f} ms {against}", flush=True)
    bench.record(options, found, items=options.items)


if __name__ == "__main__":
    main()

"""Functions that remember their results against what else does: same function, same run.

    python benches/python/memcache.py [--repeat N] [--size MIB] [--record FILE.json]

Peers: functools.lru_cache, cachetools and joblib.Memory where they are installed, and a dict keyed by the arguments as
phylib 2's `Context.memcache` documents it (written here in three lines: positional arguments only, no bound).
Hits on plain arguments are minima of many short loops, all else medians.
"""

import functools
import tempfile
import threading
import time

import bench
import numpy as np

from megalith.context.memcache import load, memoize, save

try:
    import cachetools
except ImportError:
    cachetools = None
try:
    import joblib
except ImportError:
    joblib = None

LIMIT = 3


def plain(a, b=2):
    return a


def helper(x):
    return x * LIMIT


def reaching(a, b=2):
    return helper(a)


def total(array, scale):
    return scale


def phy_memcache(f):
    cache = {}

    def memcached(*args):
        found = cache.get(args)
        if found is None:
            found = cache[args] = f(*args)
        return found

    return memcached


EMPTY = "def run(f, args):\n    for _ in range({n}):\n        f({call})\n"


def hit(function, call, repeat, n=20_000):
    """Time of a call as it stands in a loop, without that of the loop."""
    space = {}
    exec(EMPTY.format(n=n, call=call), space)
    exec(EMPTY.format(n=n, call=call).replace("run", "empty").replace(f"f({call})", "pass"), space)
    space["run"](function, None)
    calls, loops = [], []
    for _ in range(5 * repeat):
        start = time.perf_counter()
        space["run"](function, None)
        middle = time.perf_counter()
        space["empty"](function, None)
        calls.append(middle - start)
        loops.append(time.perf_counter() - middle)
    return (min(calls) - min(loops)) / n


def hits(repeat, _):
    with tempfile.TemporaryDirectory() as directory:
        ours, reaches = memoize(plain, directory), memoize(reaching, directory)
        lru, typed = functools.lru_cache(None)(plain), functools.lru_cache(None, typed=True)(plain)
        for call in ("1", "1, 2", "1, b=2", "a=1, b=2", "'session-12', 2.5", "(1, 2), None"):
            seconds = hit(ours, call, repeat)
            yield f"hit, f({call})", seconds, "functools.lru_cache", hit(lru, call, repeat)
            yield f"hit, f({call})", seconds, "functools.lru_cache, typed", hit(typed, call, repeat)
            if "=" not in call:
                yield f"hit, f({call})", seconds, "phy memcache", hit(phy_memcache(plain), call, repeat)
            if cachetools is not None:
                peer = cachetools.cached(cachetools.LRUCache(1000))(plain)
                yield f"hit, f({call})", seconds, "cachetools", hit(peer, call, repeat, 5000)
        yield "hit, f(1) with five globals and helpers", hit(reaches, "1", repeat), None, None
        if joblib is not None:
            peer = joblib.Memory(directory, verbose=0).cache(plain)
            yield "hit, f(1, b=2)", hit(ours, "1, b=2", repeat), "joblib.Memory", hit(peer, "1, b=2", repeat, 500)


def misses(repeat, _):
    with tempfile.TemporaryDirectory() as directory:
        ours, numbers = memoize(plain, directory), iter(range(10**9))
        lru = functools.lru_cache(10_000)(plain)
        yield (
            "miss, f(i)",
            bench.median(lambda: ours(next(numbers)), repeat, 5000),
            "functools.lru_cache",
            bench.median(lambda: lru(next(numbers)), repeat, 5000),
        )
        full = memoize(plain, directory, max_bytes=1000 * 600)
        for i in range(2000):
            full(i)
        yield "miss, the store full", bench.median(lambda: full(next(numbers)), repeat, 5000), None, None


def arrays(repeat, mebibytes):
    with tempfile.TemporaryDirectory() as directory:
        for nbytes in (1 << 10, 1 << 20, mebibytes << 20):
            array = np.random.default_rng(0).random(nbytes // 8)
            ours, number = memoize(total, directory), max(1, (1 << 26) // nbytes // 50)
            ours(array, 2)
            seconds = bench.median(lambda: ours(array, 2), repeat, min(number, 2000))  # noqa: B023
            peer = peer_seconds = None
            if joblib is not None:
                cached = joblib.Memory(directory, verbose=0).cache(total)
                cached(array, 2)
                peer = "joblib.Memory"
                peer_seconds = bench.median(lambda: cached(array, 2), repeat, min(number, 100))  # noqa: B023
            yield f"hit, an array of {nbytes:,} bytes", seconds, peer, peer_seconds


def threads(repeat, _):
    """32 threads on a cold key compute once."""
    with tempfile.TemporaryDirectory() as directory:

        def race():
            function, barrier = memoize(plain, directory), threading.Barrier(32)

            def ask():
                barrier.wait()
                function(1)

            workers = [threading.Thread(target=ask) for _ in range(32)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            assert function.cache_info().misses == 1

        yield "32 threads, a cold key", bench.median(race, repeat, 1), None, None


def files(repeat, _):
    with tempfile.TemporaryDirectory() as directory:
        function = memoize(plain, directory)
        for i in range(10_000):
            function(i)
        yield "save 10,000 results", bench.median(lambda: save([function]), repeat, 1), None, None
        function.clear()
        yield "load 10,000 results", bench.median(lambda: load(function.name, directory), 1, 1), None, None


def main():
    parser = bench.parser(__doc__)
    parser.add_argument("--size", type=int, default=100, help="MiB of the largest array")
    options = parser.parse_args()
    rows = []
    for group in (hits, misses, arrays, threads, files):
        for name, seconds, peer, peer_seconds in group(options.repeat, options.size):
            rows.append(bench.against(name, seconds, peer, peer_seconds))
            versus = "" if peer is None else f"{peer_seconds * 1e9:>16,.0f} ns{rows[-1]['ratio']:>7.1f}x  {peer}"
            print(f"{name:<44}{seconds * 1e9:>14,.0f} ns{versus}", flush=True)
    bench.record(options, rows)


if __name__ == "__main__":
    main()

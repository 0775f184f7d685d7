"""Results of calls on disk against other caches: same functions, same arguments, same run, medians.

    python benches/python/context.py [--repeat N] [--large MIB] [--record FILE.json]

Peers: joblib; diskcache and cachier where they are installed. A hit is timed, unless the row says otherwise.
"""

import functools
import os
import shutil
import tempfile
import time
import warnings
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import bench
import joblib
import numpy as np

from megalith import Context, shared

try:
    import diskcache
except ImportError:
    diskcache = None

try:
    import cachier
except ImportError:
    cachier = None


median = functools.partial(bench.median, warm=True)


def total(array, scale=1):
    return float(array.ravel()[0]) * scale


def cube(x, power=3):
    return x**power


def ramp(n):
    return np.arange(n, dtype=np.float64)


def caches(directory):
    """Return each cache as a decorator."""
    found = {
        "megalith": Context(directory / "megalith").cache,
        "joblib": joblib.Memory(directory / "joblib", verbose=0).cache,
    }
    if diskcache is not None:
        store = diskcache.Cache(str(directory / "diskcache"))
        found["diskcache"] = store.memoize()
    if cachier is not None:
        found["cachier"] = cachier.cachier(cache_dir=str(directory / "cachier"))
    return found


def hits(directory, repeat, large):
    sizes = {"1 KB": 1 << 10, "1 MB": 1 << 20, "100 MB": 100 << 20, f"{large} MiB": large << 20}
    rows = {name: [] for name in ("scalars", *sizes)}
    for peer, cache in caches(directory).items():
        f, g = cache(total), cache(cube)
        rows["scalars"].append((peer, median(lambda g=g: g(7, power=2), repeat, 200)))
        for name, nbytes in sizes.items():
            if peer in ("diskcache", "cachier") and nbytes > 200 << 20:
                continue
            array = np.random.default_rng(0).integers(0, 255, nbytes, dtype=np.uint8)
            number = max(1, min(100, (20 << 20) // nbytes))
            rows[name].append((peer, median(lambda f=f, array=array: f(array, 2), repeat, number)))
    for name, times in rows.items():
        what = "hit, two scalars, a small result" if name == "scalars" else f"hit, an array of {name} and a scalar"
        yield what, times


def carried(directory, repeat):
    """Hits whose argument needs no reading: the result of a cached call, a shared array."""
    context = Context(directory / "carried")
    made = context.cache(ramp)
    f = context.cache(total)
    for mebibytes in (64, 512):
        array = made((mebibytes << 20) // 8)
        f(array, 2)
        yield (
            f"hit, a result of a cached call of {mebibytes} MiB",
            [("megalith", median(lambda a=array: f(a, 2), repeat, 20))],
        )
    name = f"bench-context-{os.getpid()}"
    array = shared.cache(name, np.ones(64 << 17), verbose=False)
    yield "hit, a shared array of 64 MiB", [("megalith", median(lambda: f(array, 2), repeat, 20))]
    shared.free(name)


def results(directory, repeat):
    """Hits whose results are large."""
    rows = {n: [] for n in (1 << 17, 1 << 20, 1 << 24)}
    for peer, cache in caches(directory / "results").items():
        f = cache(ramp)
        for n, times in rows.items():
            times.append((peer, median(lambda f=f, n=n: f(n), repeat, 3)))
    for n, times in rows.items():
        yield f"hit, a result of {n >> 17} MiB", times


def misses(directory, repeat):
    rows = []
    for peer, cache in caches(directory / "misses").items():
        f, numbers = cache(cube), iter(range(10**9))
        rows.append((peer, median(lambda f=f, numbers=numbers: f(next(numbers)), repeat, 20)))
    yield "miss: compute nothing, store a small result", rows


def slow(x):
    with Path(os.environ["MEGALITH_BENCH_COUNT"]).open("a") as file:
        file.write("x")
    time.sleep(0.2)
    return x


def _ask(cache, directory, barrier):
    f = Context(directory).cache(slow) if cache == "megalith" else joblib.Memory(directory, verbose=0).cache(slow)
    barrier.wait()
    f(1)


def cold(directory, repeat):
    """Eight processes and one cold key: how often it is computed."""
    os.environ["MEGALITH_BENCH_COUNT"] = str(directory / "count")
    context = get_context("spawn")
    rows = []
    for cache in ("megalith", "joblib"):
        (directory / "count").write_text("")
        barrier = context.Barrier(8)
        workers = [context.Process(target=_ask, args=(cache, directory / f"cold-{cache}", barrier)) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        rows.append((cache, len((directory / "count").read_text())))
    yield "8 processes, one cold key: computations", rows


def main():
    parser = bench.parser(__doc__)
    parser.add_argument("--large", type=int, default=1024, help="MiB of the largest argument")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    directory = Path(tempfile.mkdtemp(prefix="megalith-bench-"))
    rows = []
    try:
        for group in (
            lambda: hits(directory, options.repeat, options.large),
            lambda: carried(directory, options.repeat),
            lambda: results(directory, options.repeat),
            lambda: misses(directory, options.repeat),
            lambda: cold(directory, options.repeat),
        ):
            for what, times in group():
                ours = dict(times)["megalith"]
                unit, factor = ("times", 1) if what.endswith("computations") else ("us", 1e6)
                peers = "  ".join(f"{peer} {value * factor:,.1f} ({value / ours:.1f}x)" for peer, value in times[1:])
                print(f"{what:<52}{ours * factor:>14,.1f} {unit}   {peers}", flush=True)
                rows.append({"what": what, **dict(times)})
    finally:
        shutil.rmtree(directory)
    bench.record(
        options,
        rows,
        joblib=joblib.__version__,
        diskcache=None if diskcache is None else version("diskcache"),
        cachier=None if cachier is None else version("cachier"),
    )


if __name__ == "__main__":
    main()

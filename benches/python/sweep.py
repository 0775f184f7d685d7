"""Sweeps: what a point costs besides its function, against TINC and joblib, in one run.

    python benches/python/sweep.py [--most N] [--tinc-most N] [--directory DIR] [--record FILE.json]

A cold point is computed (by a function that costs nothing) and kept; a warm one is there already. TINC is the package
`tinc` where it is installed; it rewrites its list at every point, so it is asked for fewer.
"""

import contextlib
import gc
import io
import os
import tempfile
import time
from pathlib import Path

import bench
import joblib

from megalith import Context, Parameter, ParameterSpace

try:
    import tinc
except ImportError:
    tinc = None


def product(a, b):
    return a * b


def values(n):
    return list(range(n // 10)), list(range(10))


def timed(f, n):
    gc.collect()
    start = time.perf_counter()
    f()
    return (time.perf_counter() - start) / n


def with_megalith(directory, n):
    a, b = values(n)
    space = ParameterSpace("bench", [Parameter("a", a), Parameter("b", b)], context=Context(directory))
    return lambda: space.sweep(product)


def with_joblib(directory, n):
    a, b = values(n)
    kept = joblib.Memory(directory, verbose=0).cache(product)
    return lambda: [kept(a=x, b=y) for x in a for y in b]


def with_tinc(directory, n):
    a, b = values(n)
    first, second = tinc.ParameterInt("a"), tinc.ParameterInt("b")
    first.set_values(a)
    second.set_values(b)
    space = tinc.ParameterSpace("bench")
    space.register_parameters([first, second])
    space.enable_cache(str(directory))

    def sweep():
        with contextlib.redirect_stdout(io.StringIO()):
            space.sweep(product)

    return sweep


def cold_and_warm(make, root, n):
    """Seconds of a point when it is computed, and when it is there, in directories of their own; the best of some."""
    # Removed at the end of all: ext4 is slow to make files where many have just been removed.
    rounds = 5 if n <= 1000 else 3 if n <= 10_000 else 1
    sweeps = [make(Path(tempfile.mkdtemp(dir=root)), n) for _ in range(1 if make is with_tinc else rounds)]
    cold = min(timed(sweep, n) for sweep in sweeps)
    return cold, min(timed(sweeps[0], n) for _ in range(rounds))


def main():
    parser = bench.parser(__doc__, repeat=1)
    parser.add_argument("--most", type=int, default=100_000)
    parser.add_argument("--tinc-most", type=int, default=1000)
    parser.add_argument("--directory", type=Path, default=None)
    options = parser.parse_args()
    rows = []

    def compare(n, ours, peer, theirs):
        for what, seconds, peer_seconds in zip(("cold", "warm"), ours, theirs, strict=True):
            row = bench.against(f"sweep over {n:,}, {what}", seconds, peer, peer_seconds)
            rows.append(row)
            times = f"{1e6 * seconds:8.1f} us  {peer} {1e6 * peer_seconds:8.1f} us"
            print(f"{row['what']:<28}{times}  {row['ratio']:6.1f}x", flush=True)

    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="megalith-bench-", dir=options.directory) as root:
        os.chdir(root)
        try:
            for make in (with_megalith, with_joblib):  # what they import at first use
                cold_and_warm(make, root, 20)
            sizes = [100 * 10**i for i in range(9) if 100 * 10**i <= options.most]
            ours = {}
            for n in sizes:
                ours[n] = cold_and_warm(with_megalith, root, n)
                compare(n, ours[n], "joblib", cold_and_warm(with_joblib, root, n))
            # Last, since it makes and removes a file for each point.
            for n in [n for n in sizes if tinc is not None and n <= options.tinc_most]:
                compare(n, ours[n], "TINC", cold_and_warm(with_tinc, root, n))
        finally:
            os.chdir(before)
    bench.record(options, rows, joblib=joblib.__version__, tinc=tinc is not None, directory=str(options.directory))


if __name__ == "__main__":
    main()

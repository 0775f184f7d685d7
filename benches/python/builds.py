"""Builds of the Rust core beside each other in one process, for differences that are smaller than a machine's moods.

    python benches/python/builds.py OLD.so NEW.so --call "ml.correlate1d(a, w, sink=out)"
        [--setup "a = RANDOM.random((200, 400, 500)); w = np.hanning(13)[1:-1]; out = np.empty_like(a)"] [--repeat N]

Each build gets a copy of the Python package under a name of its own; `ml` in the call is one after the other, in turns.
A ratio is the median of those to the first build's call of the same turn: on a machine where processes one after the
other differ by a fifth, it tells two hundredths.
"""

import importlib
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import bench
import numpy as np

import megalith

PACKAGE = Path(megalith.__file__).parent
RANDOM = np.random.default_rng(0)


def loaded(build, name, folder):
    """Import the package with that build of its core, as `name`."""
    copy = folder / name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for path in copy.rglob("*.py"):
        path.write_text(re.sub(r"\bmegalith\b(?=\.|\s+import\b)", name, path.read_text()))
    shutil.copy(build, copy / "_core.abi3.so")
    return importlib.import_module(name)


def seconds(call, names):
    start = time.perf_counter()
    eval(call, names)
    return time.perf_counter() - start


def main():
    parser = bench.parser(__doc__, repeat=15)
    parser.add_argument("builds", nargs="+", type=Path)
    parser.add_argument("--setup", default="")
    parser.add_argument("--call", required=True)
    options = parser.parse_args()
    names = {"np": np, "RANDOM": RANDOM}
    exec(options.setup, names)
    call = compile(options.call, "the call", "eval")
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        modules = [loaded(build, f"megalith_{i}", Path(folder)) for i, build in enumerate(options.builds)]
        turns = []
        for turn in range(options.repeat + 1):
            # There and back: what comes first after the others is not always the same.
            order = range(len(modules)) if turn % 2 else reversed(range(len(modules)))
            times = {i: seconds(call, names | {"ml": modules[i]}) for i in order}
            turns.append([times[i] for i in range(len(modules))])
    rows = []
    for build, times in zip(options.builds, zip(*turns[1:], strict=True), strict=True):
        first = [turn[0] for turn in turns[1:]]
        ratio = statistics.median(mine / theirs for mine, theirs in zip(times, first, strict=True))
        rows.append({"what": str(build), "call": options.call, "seconds": statistics.median(times), "ratio": ratio})
        print(f"{build!s:40} {1e3 * rows[-1]['seconds']:>9.3f} ms  {ratio:.3f} of the first")
    bench.record(options, rows)


if __name__ == "__main__":
    main()

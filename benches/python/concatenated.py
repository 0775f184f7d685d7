"""Indexing of mapped files one after the other, against a copy of all and phylib's class: same files, same run.

    python benches/python/concatenated.py [--repeat N] [--size MIB] [--record FILE.json]

Peers: numpy.concatenate and the index, and `ConcatenatedArrays` of phylib 2.1 or 2.2 where that is installed (it knows
integers and slices of step 1). Times are minima, since the machine does other things too; `peak_bytes` is what was
allocated on the way, the result included.
"""

import tempfile
import time
import tracemalloc
from pathlib import Path

import bench
import numpy as np

import megalith

try:
    from phylib.io.array import ConcatenatedArrays as Phy
except (ImportError, AttributeError):  # newer phylibs lack it; older ones want names that NumPy has dropped
    Phy = None

FILES, CHANNELS = 4, 64


def indices(n):
    """What is asked for of n rows."""
    rows = np.random.default_rng(0).integers(0, n, n // 40)
    seam = n // FILES
    yield "one row", n // 2 + 7, True
    yield "1,000 rows of one file", slice(n // 3, n // 3 + 1000), True
    yield "30,000 rows across a seam", slice(seam - 15_000, seam + 15_000), True
    yield "a quarter of all rows", slice(n // 8, n // 8 + n // 4), True
    yield "every thousandth row", slice(None, None, 1000), False
    yield f"{len(rows):,} rows, sorted", np.sort(rows), False
    yield f"{len(rows):,} rows in any order", rows, False
    yield "two channels of a tenth of the rows", (slice(0, n // 10), [3, 60]), True


def shortest(call, repeat):
    """Seconds of the shortest of some runs, each of as many calls as take ten milliseconds."""
    start = time.perf_counter()
    call()
    inner = max(int(0.01 / max(time.perf_counter() - start, 1e-9)), 1)
    found = []
    for _ in range(repeat):
        start = time.perf_counter()
        for _ in range(inner):
            call()
        found.append((time.perf_counter() - start) / inner)
    return min(found)


def peak(call):
    """Bytes allocated at most."""
    tracemalloc.start()
    call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def main():
    parser = bench.parser(__doc__)
    parser.add_argument("--size", type=int, default=512, help="MiB of all files")
    options = parser.parse_args()
    n = (options.size << 20) // (2 * CHANNELS)
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        maps = []
        for i in range(FILES):
            path = Path(directory) / f"{i}.npy"
            np.save(path, np.random.default_rng(i).integers(-999, 999, (n // FILES, CHANNELS), dtype=np.int16))
            maps.append(np.load(path, mmap_mode="r"))
        ours = megalith.ConcatenatedArrays(maps)
        theirs = None if Phy is None else Phy(maps)
        for name, item, is_phy in indices(ours.shape[0]):
            seconds, most = shortest(lambda item=item: ours[item], options.repeat), peak(lambda item=item: ours[item])
            peers = {"numpy.concatenate": lambda item=item: np.concatenate(maps)[item]}
            if theirs is not None and is_phy:
                peers["phylib"] = lambda item=item: theirs[item]
            for peer, call in peers.items():
                repeat = options.repeat if peer == "phylib" else 2
                found = {"what": name, "seconds": seconds, "peak_bytes": most, "peer": peer}
                found |= {"peer_seconds": shortest(call, repeat), "peer_peak_bytes": peak(call)}
                found["ratio"] = found["peer_seconds"] / seconds
                rows.append(found)
                print(
                    f"{name:<38}{seconds * 1e6:>12,.1f} us{most / 1e6:>9.2f} MB"
                    f"{found['peer_seconds'] * 1e6:>14,.1f} us{found['peer_peak_bytes'] / 1e6:>9.2f} MB"
                    f"{found['ratio']:>10.1f}x  {peer}",
                    flush=True,
                )
    bench.record(options, rows)


if __name__ == "__main__":
    main()

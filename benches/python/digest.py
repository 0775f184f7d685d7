"""The digest of an array against what else hashes one: same data, same run, medians.

    python benches/python/digest.py [--repeat N] [--size MIB] [--record FILE.json]

Peers: joblib.hash, and xxhash and blake3 where they are installed (both want contiguous bytes: a Fortran array is
copied for them, as their users must). Times are wall time.
"""

import bench
import joblib
import numpy as np

from megalith import _core

try:
    import xxhash
except ImportError:
    xxhash = None
try:
    import blake3
except ImportError:
    blake3 = None

# Long enough for the clock, at least once.
ROUND_BYTES = 1 << 24


def plain(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def peers(array):
    yield "joblib.hash", lambda: joblib.hash(array)
    if xxhash is not None:
        yield "xxhash.xxh3_128", lambda: xxhash.xxh3_128_digest(plain(array))
    if blake3 is not None:
        yield "blake3", lambda: blake3.blake3(plain(array)).digest()
        yield "blake3, all threads", lambda: blake3.blake3(plain(array), max_threads=blake3.blake3.AUTO).digest()


def arrays(most):
    """Volumes of float32, in both orders, and small arrays."""
    rng = np.random.default_rng(0)
    yield "1 KB", rng.random(250, dtype=np.float32)
    for mebibytes in (1, 100, most):
        side = round((mebibytes * (1 << 20) / 4) ** (1 / 3))
        volume = rng.random((side,) * 3, dtype=np.float32)
        name = f"{mebibytes} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:g} GiB"
        yield f"{name}, C order", volume
        # The same memory, its axes reversed.
        yield f"{name}, Fortran order", volume.T


def versus(name, array, repeat):
    number = max(1, ROUND_BYTES // max(array.nbytes, 1 << 12))
    repeat = repeat if array.nbytes < 1 << 29 else min(repeat, 3)
    ours = {1: bench.median(lambda: _core.digest(array, 1), repeat, number)}
    if array.nbytes >= 1 << 22:  # less is hashed by the calling thread, or takes no longer than waking another
        ours[2] = bench.median(lambda: _core.digest(array, 2), repeat, number)
    for peer, f in peers(array):
        seconds = bench.median(f, repeat, max(1, number // 16))
        for threads, mine in ours.items():
            yield f"{name}, {threads} thread{'s' * (threads > 1)}", array.nbytes, mine, peer, seconds


def rows(repeat, most):
    for name, array in arrays(most):
        yield from versus(name, array, repeat)
    data = bytes(100)
    ours = bench.median(lambda: _core.digest_bytes(data), repeat, 100_000)
    peer = None if xxhash is None else bench.median(lambda: xxhash.xxh3_128_digest(data), repeat, 100_000)
    yield "100 bytes", len(data), ours, None if xxhash is None else "xxhash.xxh3_128", peer


def main():
    parser = bench.parser(__doc__)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the largest array")
    options = parser.parse_args()
    found = []
    for name, nbytes, seconds, peer, peer_seconds in rows(options.repeat, options.size):
        found.append(bench.against(name, seconds, peer, peer_seconds))
        versus = "" if peer is None else f"{peer_seconds * 1e6:>14,.1f} us{found[-1]['ratio']:>8.1f}x  {peer}"
        print(f"{name:<36}{seconds * 1e6:>12,.1f} us{nbytes / seconds / 1e9:>7.2f} GB/s{versus}", flush=True)
    bench.record(options, found, joblib=joblib.__version__)


if __name__ == "__main__":
    main()

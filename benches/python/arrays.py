"""The array functions against NumPy and SciPy: same data, same process, medians.

    python benches/python/arrays.py [--repeat N] [--only REGEX] [--record FILE.json]

Prints a row for each workload: our median, the peer's, the ratio, and the bytes of the source a second. Both ways are
run once before they are timed. The record says the machine and the versions.
"""

import re

import bench
import numpy as np
import scipy
import scipy.ndimage

import megalith

RANDOM = np.random.default_rng(0)


def positions():
    for density in (0.001, 0.1):
        for dtype in (np.uint8, np.uint16, np.float32, bool):
            volume = (RANDOM.random((256, 512, 512), dtype=np.float32) < density).astype(dtype)
            flat, name = volume.ravel(), f"{np.dtype(dtype).name}, {density:.1%}"
            yield f"where 1-d {name}", flat, lambda a=flat: megalith.where(a), lambda a=flat: np.flatnonzero(a)
            yield f"where 3-d {name}", volume, lambda a=volume: megalith.where(a), lambda a=volume: np.argwhere(a)


def tables():
    bytes_ = RANDOM.integers(0, 256, 1 << 27, dtype=np.uint8)
    words = RANDOM.integers(0, 1 << 16, 1 << 26, dtype=np.uint16)
    labels = RANDOM.integers(0, 10**6, 1 << 25, dtype=np.int32)
    for source, size, dtype in (
        (bytes_, 256, np.uint8),
        (bytes_, 256, np.float32),
        (words, 1 << 16, np.uint16),
        (labels, 10**6, np.int32),
    ):
        lut = RANDOM.integers(0, 200, size).astype(dtype)
        sink = np.empty(source.shape, dtype)
        name = f"apply_lut {source.dtype} -> {lut.dtype}"
        yield (
            f"{name}, warm",
            source,
            lambda s=source, t=lut, o=sink: megalith.apply_lut(s, t, o),
            lambda s=source, t=lut: t[s],
        )
        yield f"{name}, fresh", source, lambda s=source, t=lut: megalith.apply_lut(s, t), lambda s=source, t=lut: t[s]


def correlations():
    for dtype in (np.float32, np.float64, np.uint16):
        volume = (RANDOM.random((200, 400, 500)) * 1000).astype(dtype)
        for taps in (3, 11, 31):
            kernel = np.hanning(taps + 2)[1:-1]
            kernel /= kernel.sum()
            for axis in range(3):
                yield (
                    f"correlate1d {volume.dtype}, {taps} taps, axis {axis}",
                    volume,
                    lambda v=volume, k=kernel, a=axis: megalith.correlate1d(v, k, axis=a, dtype=v.dtype),
                    lambda v=volume, k=kernel, a=axis: scipy.ndimage.correlate1d(v, k, axis=a, mode="constant"),
                )


def rules():
    kernel = 2 ** np.arange(27).reshape(3, 3, 3)
    lut = RANDOM.random(1 << 27) < 0.5
    noise = RANDOM.random((200, 400, 400)) < 0.5
    tissue = scipy.ndimage.gaussian_filter(RANDOM.random((200, 400, 400), dtype=np.float32), 3) > 0.5
    for name, mask in (("blobs", tissue), ("random 50 %", noise)):
        yield (
            f"apply_lut_to_index 3 x 3 x 3, {name}",
            mask,
            lambda m=mask: megalith.apply_lut_to_index(m, kernel, lut),
            lambda m=mask: lut.take(scipy.ndimage.correlate(m.view(np.uint8), kernel, np.int64, "constant")),
        )


def sums():
    for dtype in (np.uint8, np.uint16, np.int32, np.float32, np.float64):
        values = (RANDOM.random(1 << 26) * 200).astype(dtype)
        starts = megalith.block_ranges(values, 20)[:-1]
        yield (
            f"block_sums {values.dtype}",
            values,
            lambda v=values: megalith.block_sums(v, 20),
            lambda v=values, s=starts: np.add.reduceat(v, s),
        )


def pairs():
    indices = np.flatnonzero(RANDOM.random(20_000_000) < 0.5)

    def peer(offset):
        j = np.searchsorted(indices, indices + offset)
        j[j == len(indices)] = 0
        i = np.flatnonzero(indices[j] == indices + offset)
        return np.stack([i, j[i]], axis=1)

    for offset in (1, 1000, 1_000_000):
        yield (
            f"neighbours, offset {offset}",
            indices,
            lambda o=offset: megalith.neighbours(indices, o),
            lambda o=offset: peer(o),
        )


def small():
    values = RANDOM.integers(0, 2, 1000).astype(np.uint8)
    floats, lut = values.astype(np.float64), np.arange(256)
    starts = megalith.block_ranges(values, 20)[:-1]
    kernel = np.array([1.0, 2.0, 1.0])
    yield "1,000 elements: where", values, lambda: megalith.where(values), lambda: np.flatnonzero(values)
    yield "1,000 elements: apply_lut", values, lambda: megalith.apply_lut(values, lut), lambda: lut[values]
    yield (
        "1,000 elements: correlate1d",
        floats,
        lambda: megalith.correlate1d(floats, kernel),
        lambda: scipy.ndimage.correlate1d(floats, kernel),
    )
    yield (
        "1,000 elements: block_sums",
        values,
        lambda: megalith.block_sums(values, 20),
        lambda: np.add.reduceat(values, starts),
    )


def main():
    parser = bench.parser(__doc__, repeat=5)
    parser.add_argument("--only", type=re.compile, default=re.compile(""), metavar="REGEX")
    options = parser.parse_args()
    rows = []
    for group in (small, positions, tables, correlations, rules, sums, pairs):
        for name, source, ours, theirs in group():
            if not options.only.search(name):
                continue
            repeat = options.repeat if group is not small else 2000
            a, b = bench.median(ours, repeat, warm=True), bench.median(theirs, repeat, warm=True)
            rows.append(
                {"workload": name, "seconds": a, "peer_seconds": b, "ratio": b / a, "gb_per_s": source.nbytes / a / 1e9}
            )
            print(
                f"{name:<48}{a * 1e3:>11.3f} ms{b * 1e3:>11.3f} ms{b / a:>8.1f}x{source.nbytes / a / 1e9:>8.1f} GB/s",
                flush=True,
            )
    bench.record(options, rows, threads=megalith.initialize_processing()[0], scipy=scipy.__version__)


if __name__ == "__main__":
    main()

"""Our kernels against ClearMap's Cython code on the same threads: same data, same process, medians.

    python benches/python/clearmap.py --clearmap DIR [FAMILY ...] [--threads N ...] [--repeat N] [--only REGEX]
        [--elements N] [--record FILE.json]

Memory's bandwidth is probed before and after. An arrow marks a row below its floor in TARGETS, which holds for any
number of threads. `page.py` makes a page of a record.

DIR holds the compiled code. It is under the GPL and no part of this repository. Take
ClearMap/ParallelProcessing/DataProcessing/ArrayProcessingCode.pyx of github.com/ClearAnatomics/ClearMap (timed: commit
02e162e64bce107f3759e60a24786b2b96fd6586), and in DIR

    cython -3 -X legacy_implicit_noexcept=True ArrayProcessingCode.pyx
    gcc -O3 -march=native -fopenmp -shared -fPIC -w -o ArrayProcessingCode.so ArrayProcessingCode.c \\
        $(python3-config --includes) -I$(python -c 'import numpy; print(numpy.get_include())')

The flags of its .pyxbld are -O3 -march=native, without OpenMP its loops have one thread. It is called as its
ArrayProcessing does, with ten blocks for each thread and positions counted before they are written, but into
`numpy.empty` and without its layer of sources. Where it takes seconds, arrays are a quarter of those of `kernels.py`.
What differs is compared as far as it is alike:

- where: finds what is positive; positions in three dimensions come in blocks of the last axis, and are sorted to be
  compared.
- correlate1d: beyond the ends is 0; sums in another order, equal to 1e-5 (float32) and 1e-12 (float64).
- block_sums: counts what is positive, and is compared with block_counts.
- neighbours: walks from each entry until the offset is passed, so that one of 1,000,000 is not timed.
- read and write: copies of a file in the page cache, with no floor of their own.
"""

import importlib
import os
import re
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import bench
import numpy as np
import scipy.ndimage

import megalith
from megalith.arrays.blocks import thread_count
from megalith.cli.bench import line_of, machine, rows_of
from megalith.cli.workloads import LARGE, TAPS, UnequalError, Workload, bandwidth, measure, none, same

RANDOM = np.random.default_rng(0)
PEER = "ClearMap"
FLOOR = {PEER: 2.0}


class ClearMap:
    """The calls of ClearMap's ArrayProcessing, on so many threads."""

    def __init__(self, code, threads):
        self.code = code
        self.threads = threads
        self.blocks = 10 * threads

    def where(self, source):
        ndim = source.ndim
        source = source.view(np.uint8) if source.dtype == bool else source
        sums = getattr(self.code, f"block_sums_{ndim}d")(source, self.blocks, self.threads)
        found = np.empty((np.sum(sums), ndim)[: min(ndim, 2)], np.intp)
        getattr(self.code, f"where_{ndim}d")(source, found, sums, self.blocks, self.threads)
        return found

    def apply_lut(self, source, lut, sink=None):
        sink = np.empty(source.shape, lut.dtype) if sink is None else sink
        self.code.apply_lut(source, sink, lut, self.blocks, self.threads)
        return sink

    def apply_lut_to_index(self, source, kernel, lut):
        sink = np.empty(source.shape, lut.dtype)
        self.code.apply_lut_to_index_3d(
            source.view(np.uint8), kernel, lut.view(np.uint8), sink.view(np.uint8), self.threads
        )
        return sink

    def correlate1d(self, source, kernel, sink=None, axis=0):
        sink = np.empty(source.shape, source.dtype) if sink is None else sink
        arrays = []
        for array in (source, sink):
            strides = np.array(array.strides, np.intp) // array.itemsize
            arrays += [array.reshape(-1), np.array(array.shape, np.intp), strides]
        self.code.correlate_1d(*arrays, kernel, axis, self.threads)
        return sink

    def block_counts(self, source):
        return np.asarray(self.code.block_sums_1d(source, self.blocks, self.threads))

    def neighbours(self, indices, offset):
        return self.code.neighbours(indices, offset, self.threads)

    def read(self, path, sink=None):
        source = np.load(path, mmap_mode="r")
        sink = np.empty(source.shape, source.dtype) if sink is None else sink
        self.code.read(sink, os.fsencode(path), source.offset, self.blocks, self.threads)
        return sink

    def write(self, path, source):
        path.unlink(missing_ok=True)
        offset = np.lib.format.open_memmap(path, "w+", source.dtype, source.shape).offset
        self.code.write(source, os.fsencode(path), offset, self.blocks, self.threads)


def positions(elements, theirs):
    for ndim, size in ((1, elements), (3, elements // 4)):
        side = max(round((size / 2) ** (1 / 3)), 1)
        shape = {1: (size,), 3: (side, side, size // side**2)}[ndim]
        for percent, density in ((0.1, 0.001), (10, 0.1), (50, 0.5)):
            chosen = RANDOM.random(shape, dtype=np.float32) < density
            n = np.count_nonzero(chosen)
            for dtype in (np.uint8, np.uint16, np.float32, np.bool_):
                source = chosen.astype(dtype)

                def in_any_order(found, other, shape=shape, ndim=ndim):
                    if ndim == 3:
                        found, other = (np.ravel_multi_index(tuple(rows.T), shape) for rows in (found, other))
                        other.sort()
                    return np.array_equal(found, other)

                yield (
                    Workload(
                        f"where {ndim}-d {source.dtype}, {percent} %",
                        source.nbytes + 8 * ndim * n,
                        lambda a=source: megalith.where(a, processes=theirs.threads),
                        {PEER: lambda a=source: theirs.where(a)},
                        FLOOR,
                    ),
                    in_any_order,
                )


def tables(elements, theirs):
    runs = np.repeat(RANDOM.integers(0, 10**6, elements // 120 + 1, dtype=np.int32), 30)[: elements // 4]
    for source, size, dtype, note in (
        (RANDOM.integers(0, 256, elements, dtype=np.uint8), 256, np.uint8, ""),
        (RANDOM.integers(0, 256, elements, dtype=np.uint8), 256, np.float32, ""),
        (RANDOM.integers(0, 1 << 16, elements // 2, dtype=np.uint16), 1 << 16, np.uint16, ""),
        (RANDOM.integers(0, 10**6, elements // 4, dtype=np.int32), 10**6, np.int32, ", random"),
        (runs, 10**6, np.int32, ", runs of 30"),
    ):
        lut = RANDOM.integers(0, 200, size).astype(dtype)
        for sink, other, where in (
            (np.empty(source.shape, dtype), np.empty(source.shape, dtype), "warm"),
            (None, None, "fresh"),
        ):
            yield (
                Workload(
                    f"apply_lut {source.dtype} -> {lut.dtype}{note}, {where}",
                    source.nbytes + source.size * lut.itemsize,
                    lambda s=source, t=lut, o=sink: megalith.apply_lut(s, t, o, processes=theirs.threads),
                    {PEER: lambda s=source, t=lut, o=other: theirs.apply_lut(s, t, o)},
                    FLOOR,
                ),
                same,
            )


def correlations(elements, theirs):
    scale = (elements / LARGE) ** (1 / 3)
    shape = tuple(max(round(n * scale), 2 * max(TAPS)) for n in (200, 400, 500))
    for dtype, rtol in ((np.float32, 1e-5), (np.float64, 1e-12)):
        volume = (RANDOM.random(shape) * 1000).astype(dtype)
        sink, other = np.empty_like(volume), np.empty_like(volume)
        for taps in TAPS:
            weights = np.hanning(taps + 2)[1:-1]
            weights /= weights.sum()
            for axis in range(3):
                yield (
                    Workload(
                        f"correlate1d {volume.dtype}, {taps} taps, axis {axis}, warm",
                        2 * volume.nbytes,
                        lambda v=volume, k=weights, a=axis, o=sink: megalith.correlate1d(
                            v, k, o, a, processes=theirs.threads
                        ),
                        {PEER: lambda v=volume, k=weights, a=axis, o=other: theirs.correlate1d(v, k, o, a)},
                        FLOOR,
                    ),
                    lambda found, other, r=rtol: np.allclose(found, other, rtol=r, atol=0),
                )


def rules(elements, theirs):
    side = max(round((elements / 32) ** (1 / 3)), 3)
    noise = RANDOM.random((side, side, elements // 16 // side**2), dtype=np.float32)
    lut = RANDOM.random(1 << 27, dtype=np.float32) < 0.5
    powers = 2 ** np.arange(27).reshape(3, 3, 3)
    weights = RANDOM.permutation(np.arange(-13, 14)).reshape(3, 3, 3) * 1000 + 500_000
    small = 2 ** np.arange(8).reshape(2, 2, 2)
    for name, mask in (("blobs", scipy.ndimage.gaussian_filter(noise, 3) > 0.5), ("random 50 %", noise < 0.5)):
        for kernel, table, what in (
            (powers, lut, "3 x 3 x 3"),
            (weights, lut, "any 3 x 3 x 3"),
            (small, lut[:256], "2 x 2 x 2"),
        ):
            yield (
                Workload(
                    f"apply_lut_to_index {what}, {name}",
                    2 * mask.nbytes,
                    lambda m=mask, k=kernel, t=table: megalith.apply_lut_to_index(m, k, t, processes=theirs.threads),
                    {PEER: lambda m=mask, k=kernel, t=table: theirs.apply_lut_to_index(m, k, t)},
                    FLOOR,
                ),
                same,
            )


def counts(elements, theirs):
    for dtype in (np.uint8, np.uint16, np.int32, np.float32, np.float64):
        values = (RANDOM.random(elements // 2, dtype=np.float32) * 200).astype(dtype)
        yield (
            Workload(
                f"block_counts {values.dtype}",
                values.nbytes,
                lambda v=values: megalith.block_counts(v, theirs.blocks, theirs.threads),
                {PEER: lambda v=values: theirs.block_counts(v)},
                FLOOR,
            ),
            same,
        )


def pairs(elements, theirs):
    n = max(elements // 13, 2)
    for density in (0.5, 0.05):
        indices = np.flatnonzero(RANDOM.random(int(n / density), dtype=np.float32) < density)
        for offset in (1, 1000):
            yield (
                Workload(
                    f"neighbours, {density:.0%} of the span, offset {offset:,}",
                    indices.nbytes,
                    lambda a=indices, o=offset: megalith.neighbours(a, o, theirs.threads),
                    {PEER: lambda a=indices, o=offset: theirs.neighbours(a, o)},
                    FLOOR,
                ),
                same,
            )


def files(elements, theirs):
    values = RANDOM.random(elements)
    threads = theirs.threads
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "ours.npy"
        other = Path(name) / "theirs.npy"
        np.save(path, values)
        sinks = np.empty_like(values), np.empty_like(values)
        ways = (
            ("fresh", lambda: megalith.read(path, processes=threads).array, lambda: theirs.read(path)),
            (
                "warm",
                lambda: megalith.read(path, sinks[0], processes=threads).array,
                lambda: theirs.read(path, sinks[1]),
            ),
        )
        for what, ours, peer in ways:
            yield Workload(f"read .npy, {what}", 2 * values.nbytes, ours, {PEER: peer}), same
        yield (
            Workload(
                "write .npy",
                2 * values.nbytes,
                lambda: none(megalith.write(path, values, processes=threads)),
                {PEER: lambda: theirs.write(other, values)},
            ),
            lambda *_: np.array_equal(np.load(path), np.load(other)),
        )


FAMILIES = {
    "where": positions,
    "apply_lut": tables,
    "correlate1d": correlations,
    "apply_lut_to_index": rules,
    "block_counts": counts,
    "neighbours": pairs,
    "files": files,
}


def main():
    parser = bench.parser(__doc__, repeat=5)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(FAMILIES))
    parser.add_argument("--clearmap", type=Path, required=True, metavar="DIR")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, thread_count(None)}))
    parser.add_argument("--only", type=re.compile, metavar="REGEX")
    parser.add_argument("--elements", type=int, default=LARGE)
    options = parser.parse_args()
    if unknown := set(options.families) - FAMILIES.keys():
        parser.error(f"{sorted(unknown)}: not among {', '.join(FAMILIES)}")
    sys.path.insert(0, str(options.clearmap.resolve()))
    try:
        code = importlib.import_module("ArrayProcessingCode")
    except ImportError as error:
        parser.error(f"{options.clearmap} has no ArrayProcessingCode that can be imported ({error}).\n{__doc__}")
    rows, memory = [], []

    def probe():
        memory.extend({"threads": n, **bandwidth(n)} for n in options.threads)

    probe()
    for family in options.families or FAMILIES:
        for threads in options.threads:
            for workload, agree in FAMILIES[family](options.elements, ClearMap(code, threads)):
                if options.only is not None and not options.only.search(workload.name):
                    continue
                way = workload.peers[PEER]
                if not agree(workload.ours(), way()):
                    raise UnequalError(f"{workload.name}: the result is not that of {PEER}")
                compared = replace(workload, peers={PEER: lambda way=way: none(way())})
                for row in rows_of(measure(compared, options.repeat), threads):
                    mark = "" if row.floor is None else f"{'' if row.speedup >= row.floor else '  <--'} {row.floor:g}x"
                    print(f"{threads} {line_of(row)}{mark}", flush=True)
                    rows.append(asdict(row))
    probe()
    bench.record(
        options, rows, memory=memory, reuse=os.environ.get("MEGALITH_REUSE_BYTES"), **machine(max(options.threads))
    )


if __name__ == "__main__":
    main()

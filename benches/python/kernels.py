"""All workloads of the kernels against their peers: same data, same process, medians, with 1 thread and with all.

    python benches/python/kernels.py [--repeat N] [--only REGEX] [--elements N] [--volume FILE.npy] [--record FILE.json]

Memory's bandwidth is probed before and after, for the same threads, and after each workload what memory gives to
readers and how fast the cores are. An arrow marks a row below its floor in TARGETS; floors are for all threads. Of an
image of tissue the mask of what is brighter than its mean is measured too. `page.py` makes a page of a record.
MEGALITH_REUSE_BYTES=0 times results in memory that was never used, as first calls have it.
"""

import os
import re
from dataclasses import asdict
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path

import bench
import numpy as np

from megalith.arrays.blocks import thread_count
from megalith.cli.bench import line_of, machine, rows_of, run
from megalith.cli.workloads import LARGE, adding, bandwidth, measure, reading, rules


def main():
    parser = bench.parser(__doc__, repeat=5)
    parser.add_argument("--only", type=re.compile, metavar="REGEX")
    parser.add_argument("--elements", type=int, default=LARGE)
    parser.add_argument("--volume", type=Path, metavar="FILE.npy", help="an image of tissue in three dimensions")
    options = parser.parse_args()
    most = thread_count(None)
    rows, memory = [], []
    words = np.ones(1 << 25, np.uint64)

    def probe():
        memory.extend({"threads": n, **bandwidth(n)} for n in sorted({1, most}))
        print(*memory[-2:], sep="\n", flush=True)

    probe()
    for threads in sorted({1, most}):
        found = run(options.elements, threads, options.repeat, options.only, essential=False)
        for _, group in groupby(chain(found, tissue(options, threads)), key=attrgetter("workload")):
            now = {"read": reading(words, threads), "cached": adding(threads)}
            for row in group:
                floor = row.floor if threads == most else None
                mark = "" if floor is None else f"{'' if row.speedup >= floor else '  <--'} {floor:g}x"
                print(f"{threads} {line_of(row)}{mark}", flush=True)
                rows.append({**asdict(row), **now})
    probe()
    bench.record(options, rows, memory=memory, reuse=os.environ.get("MEGALITH_REUSE_BYTES"), **machine(most))


def tissue(options, threads):
    """Yield the rows of the mask of a volume, as often on top of itself as it takes."""
    if options.volume is None:
        return
    image = np.load(options.volume)
    mask = image > image[image > 0].mean()
    mask = np.tile(mask, (-(-options.elements // 4 // mask.size), 1, 1))
    for workload in rules([("tissue", mask, 60.0)], threads):
        if options.only is None or options.only.search(workload.name):
            yield from rows_of(measure(workload, options.repeat), threads)


if __name__ == "__main__":
    main()

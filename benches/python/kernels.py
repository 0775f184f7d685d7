"""All workloads of the kernels against their peers: same data, same process, medians, with 1 thread and with all.

    python benches/python/kernels.py [--repeat N] [--only REGEX] [--elements N] [--record FILE.json]

Memory's bandwidth is probed before and after, for the same threads. An arrow marks a row below its floor in TARGETS;
floors are for all threads. `page.py` makes a page of a record. MEGALITH_REUSE_BYTES=0 times results in memory that was
never used, as first calls have it.
"""

import os
import re
from dataclasses import asdict

import bench

from megalith.arrays.blocks import thread_count
from megalith.cli.bench import line_of, machine, run
from megalith.cli.workloads import LARGE, bandwidth


def main():
    parser = bench.parser(__doc__, repeat=5)
    parser.add_argument("--only", type=re.compile, metavar="REGEX")
    parser.add_argument("--elements", type=int, default=LARGE)
    options = parser.parse_args()
    most = thread_count(None)
    rows, memory = [], []

    def probe():
        memory.extend({"threads": n, **bandwidth(n)} for n in sorted({1, most}))
        print(*memory[-2:], sep="\n", flush=True)

    probe()
    for threads in sorted({1, most}):
        for row in run(options.elements, threads, options.repeat, options.only, essential=False):
            floor = row.floor if threads == most else None
            mark = "" if floor is None else f"{'' if row.speedup >= floor else '  <--'} {floor:g}x"
            print(f"{threads} {line_of(row)}{mark}", flush=True)
            rows.append(asdict(row))
    probe()
    bench.record(options, rows, memory=memory, reuse=os.environ.get("MEGALITH_REUSE_BYTES"), **machine(most))


if __name__ == "__main__":
    main()

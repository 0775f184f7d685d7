"""A page of the records: for each workload its floor and what was reached.

python benches/python/page.py benches/record/KERNELS.json [SCALING.json] [FIRST.json] [CLEARMAP.json]
    > docs/benchmarks.md
"""

import json
import sys
from pathlib import Path

HEAD = """# How fast the kernels are

Written by `benches/python/page.py` from {names}. Times are medians, ours and the peers' one
after the other in one process; a way that takes less than 0.1 s is called once just before. Memory's bandwidth was
probed before and after, and after each workload what as many threads read of memory, and what NumPy adds up of arrays
in the caches of as many cores: read and cached, GB/s. GB/s of a row are bytes that have to be read and written at
least. The floor is what we promise to reach; **bold** is a row below it. Each result is given up before the next call,
as in a loop over volumes: rows without a warm sink take over that memory (see the README). A second table of the same
rows, where there is one, is of a process that keeps none (`MEGALITH_REUSE_BYTES=0`), as first calls are. Floors are for
all threads; those against ClearMap's Cython code, which has as many threads as we, for any number.
"""


def main():
    paths = [Path(name) for name in sys.argv[1:]]
    kernels, *others = [json.loads(path.read_text()) for path in paths]
    print(HEAD.format(names=", ".join(f"`{path.name}`" for path in paths)))
    show_kernels(kernels)
    for other in others:
        if "growth" in other["machine"]:
            show_scaling(other)
        else:
            show_kernels(other)


def show_kernels(kernels):
    machine = dict(kernels["machine"])
    memory = machine.pop("memory")
    for name, value in machine.items():
        print(f"- {name}: {value}")
    print("\n| memory, GB/s | read | write | fresh pages | cached |\n|---|---|---|---|---|")
    for probe in memory:
        kinds = ("read", "write", "fresh", "cached")
        rates = " | ".join(f"{probe[kind]:.1f}" if kind in probe else "" for kind in kinds)
        print(f"| {probe['threads']} threads | {rates} |")
    print("\n| workload | threads | time | GB/s | peer | faster | floor | read | cached |\n" + "|---" * 9 + "|")
    for row in kernels["rows"]:
        is_judged = row["floor"] is not None and (row["threads"] == machine["threads"] or row["peer"] == "ClearMap")
        faster = f"{row['speedup']:.1f}x"
        if is_judged and row["speedup"] < row["floor"]:
            faster = f"**{faster}**"
        floor = f"{row['floor']:g}x" if is_judged else ""
        now = " | ".join(f"{row[kind]:.0f}" if kind in row else "" for kind in ("read", "cached"))
        print(
            f"| {row['workload']} | {row['threads']} | {1e3 * row['seconds']:.2f} ms | {row['gb_per_s']:.1f} "
            f"| {row['peer']} | {faster} | {floor} | {now} |"
        )
    print()


def show_scaling(scaling):
    print("\n| small arrays | time | more than the peer |\n|---|---|---|")
    for row in scaling["rows"]:
        more = f"{1e6 * row['more']:+.2f} us ({row['peer']})"
        print(f"| {row['workload']} | {1e6 * row['seconds']:.2f} us | {more} |")
    print("\n| growth | threads | MiB | time | T(2n) / T(n) | by threads |\n|---|---|---|---|---|---|")
    for row in scaling["machine"]["growth"]:
        print(
            f"| {row['workload']} | {row['threads']} | {row['bytes'] >> 20} | {1e3 * row['seconds']:.2f} ms "
            f"| {row['growth']:.2f} | {row['by_threads']:.2f}x |"
        )


if __name__ == "__main__":
    main()

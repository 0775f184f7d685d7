"""``megalith bench``: how fast the kernels are on this machine, beside what else does their work."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import megalith
from megalith import _core
from megalith._checks import positive_int
from megalith._optional import require
from megalith.arrays.blocks import thread_count
from megalith.cli.info import processor
from megalith.cli.workloads import LARGE, Measured, bandwidth, kernels, measure

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator
    from pathlib import Path

# Rounds of which the median counts.
REPEAT = 5


@dataclass(frozen=True)
class Row:
    """A workload and one of its peers."""

    workload: str
    threads: int
    seconds: float
    gb_per_s: float
    peer: str
    peer_seconds: float
    speedup: float
    floor: float | None


def rows_of(measured: Measured, threads: int) -> list[Row]:
    """Return a row for each peer."""
    workload = measured.workload
    return [
        Row(
            workload.name,
            threads,
            measured.seconds,
            measured.gb_per_s,
            peer,
            seconds,
            seconds / measured.seconds,
            workload.floors.get(peer),
        )
        for peer, seconds in measured.peers.items()
    ]


def machine(threads: int) -> dict[str, Any]:
    """Return what a record says of the machine and of the versions."""
    versions = {name: _version(name) for name in ("scipy", "numba", "cv2", "joblib", "pandas")}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "system": platform.platform(),
        "processor": processor(),
        "level": _core.cpu_level(),
        "threads": threads,
        "megalith": megalith.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        **{name: version for name, version in versions.items() if version is not None},
    }


def _version(name: str) -> str | None:
    import importlib

    try:
        return str(importlib.import_module(name).__version__)
    except ImportError:
        return None


def run(elements: int, threads: int, repeat: int, only: re.Pattern[str] | None, *, essential: bool) -> Iterator[Row]:
    """Measure workloads one by one.

    Parameters
    ----------
    elements : int
        Elements of the largest array.
    threads : int
        Our threads.
    repeat : int
        Rounds of which the median counts.
    only : re.Pattern or None
        What the names of the workloads must match.
    essential : bool
        Whether to run the essential ones only.

    Yields
    ------
    row : Row
        One for each workload and peer.
    """
    for workload in kernels(elements, threads):
        if (workload.essential or not essential) and (only is None or only.search(workload.name)):
            yield from rows_of(measure(workload, repeat), threads)


def line_of(row: Row) -> str:
    """Return a row as a line of the table."""
    return f"{row.workload:<48}{row.seconds * 1e3:>9.3f} ms{row.gb_per_s:>8.1f} GB/s{row.speedup:>8.1f}x  {row.peer}"


def bench(
    to_json: Path | None, plot: Path | None, processes: int | None, elements: int | None, only: re.Pattern[str] | None
) -> int:
    """Run the essential workloads and print their table.

    Parameters
    ----------
    to_json : pathlib.Path or None
        Where to write the table for programs.
    plot : pathlib.Path or None
        Where to draw it.
    processes : int or None
        Number of threads.
    elements : int or None
        Elements of the largest array.
    only : re.Pattern or None
        Which workloads to run.

    Returns
    -------
    status : int
        0; results that differ are an error.
    """
    require("scipy", "demo")
    if plot is not None:
        require("matplotlib", "demo")
    elements = LARGE if elements is None else positive_int("--elements", elements)
    threads = thread_count(processes)
    found = machine(threads)
    print(", ".join(f"{name} {value}" for name, value in found.items()), flush=True)
    memory = bandwidth(threads)
    print("memory and caches, GB/s: " + ", ".join(f"{name} {rate:.1f}" for name, rate in memory.items()), flush=True)
    rows = []
    for row in run(elements, threads, REPEAT, only, essential=True):
        print(line_of(row), flush=True)
        rows.append(row)
    if to_json is not None:
        table = {"machine": found, "memory": memory, "rows": [asdict(row) for row in rows]}
        to_json.write_text(json.dumps(table, indent=1) + "\n")
    if plot is not None:
        plot.write_bytes(draw(found, rows, plot.suffix[1:] or "png"))
    return 0


def draw(found: dict[str, Any], rows: list[Row], kind: str) -> bytes:
    """Draw how much faster each workload is than its peers.

    Parameters
    ----------
    found : dict
        What `machine` said.
    rows : list of Row
        The bars, from above.
    kind : str
        A format of matplotlib: ``'png'``, ``'svg'``, ``'pdf'``.

    Returns
    -------
    picture : bytes
        The file.
    """
    import io

    require("matplotlib", "demo").use("Agg")
    pyplot = require("matplotlib.pyplot", "demo")
    canvas, axes = pyplot.subplots(figsize=(9, 0.8 + 0.28 * len(rows)), layout="constrained")
    bars = axes.barh(
        [f"{row.workload}  ({row.peer})" for row in rows][::-1], [row.speedup for row in rows][::-1], color="#4878a8"
    )
    axes.bar_label(bars, fmt="%.1fx", padding=3)
    axes.axvline(1, color="#999", linewidth=0.8)
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.01)
    axes.set_xlabel(f"times faster, {found['threads']} threads, {found['level']}, NumPy {found['numpy']}")
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format=kind, dpi=110)
    pyplot.close(canvas)
    return buffer.getvalue()

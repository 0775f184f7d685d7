"""What the benches share: their options, their clock and the record they write."""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np

import megalith


def parser(doc, repeat=7):
    """Return a parser of the options of all benches, which a bench may add its own to."""
    found = argparse.ArgumentParser(description=doc.splitlines()[0])
    found.add_argument("--repeat", type=int, default=repeat)
    found.add_argument("--record", type=Path)
    return found


def median(f, repeat, number=1, *, warm=False, after=lambda: None):
    """Seconds of a call, the median of some rounds of as many calls; `after` runs between rounds, untimed."""
    if warm:
        f()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        for _ in range(number):
            f()
        times.append((time.perf_counter() - start) / number)
        after()
    return statistics.median(times)


def against(name, seconds, peer, peer_seconds):
    """Return the row of a time and a peer's, None where there is none."""
    ratio = None if peer is None else peer_seconds / seconds
    return {"what": name, "seconds": seconds, "peer": peer, "peer_seconds": peer_seconds, "ratio": ratio}


def record(options, rows, **more):
    """Write rows with what is known of the machine, if a record was asked for."""
    if options.record is None:
        return
    machine = {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "megalith": megalith.__version__,
        **more,
        "repeat": options.repeat,
    }
    options.record.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")

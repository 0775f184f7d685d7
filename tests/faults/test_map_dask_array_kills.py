"""`Context.map_dask_array` in processes that are killed: what is there is whole, and only the rest is done again."""

import json
import os
import random

import dask.array as da
import numpy as np
import pytest

from megalith import Context
from megalith.testing.cases import assert_identical
from megalith.testing.faults import kill_when, run_python

KILLS = 30 if os.environ.get("MEGALITH_HYPOTHESIS") == "ci" else 100
N_CHUNKS = 20
VALUES = np.arange(N_CHUNKS * 500, dtype=np.float64)

SETTING = f"""
import os, random, signal, sys, time
from pathlib import Path

import dask.array as da
import numpy as np

from megalith import Context

here = Path(__file__).parent
array = da.from_array(np.arange({N_CHUNKS} * 500, dtype=np.float64), chunks=500)

def halves(chunk, log):
    with open(log, "a") as file:
        file.write(f"{{int(chunk[0]) // 500}}\\n")
    time.sleep(0.01)  # So that a run is long enough to be killed in the middle, however fast the machine.
    return chunk[::2] / 2, chunk.sum(keepdims=True)
"""

DRIVER = """
rng = random.Random(1)
for i in range({kills}):
    directory = here / f"cache-{{i}}"
    log = here / f"log-{{i}}"
    log.touch()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        context = Context(directory)
        os.write(writing, b"x")
        context.map_dask_array(halves, array, log, name=("halves", "sums"))
        os._exit(0)
    os.read(reading, 1)
    time.sleep(rng.random() * {longest})
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)
"""

WORKERS = """
if __name__ == "__main__":
    context = Context(here / "cache-0", workers=2)
    context.map(abs, range(4))
    (here / "log-0").touch()
    print("started", flush=True)
    context.map_dask_array(halves, array, here / "log-0", name=("halves", "sums"))
    time.sleep(60)
"""


def halves(chunk, log):
    with log.open("a") as file:
        file.write(f"{int(chunk[0]) // 500}\n")
    return chunk[::2] / 2, chunk.sum(keepdims=True)


def finished(directory):
    """Chunks that are there with a record, of both results; each file that has its name is whole."""
    chunks = []
    for name in ("halves", "sums"):
        for path in (directory / name).glob("*.npy"):
            np.load(path)
        records = (directory / name / ".done").glob("*.json")
        chunks.append({int(path.stem) for path in records if json.loads(path.read_text())})
        assert not (directory / name / "info").exists() or len(chunks[-1]) == N_CHUNKS
    return chunks[0] & chunks[1]


RESUME = """
for i in range({n}):
    log = here / f"log-{{i}}"
    log.write_text("")
    both = Context(here / f"cache-{{i}}").map_dask_array(halves, array, log, name=("halves", "sums"))
    assert np.array_equal(both[0].compute(), (np.arange({n_values}.0) / 2).reshape(-1, 500)[:, ::2].ravel())
    assert np.array_equal(both[1].compute(), np.arange({n_values}.0).reshape(-1, 500).sum(axis=1))
"""


def resumed(tmp_path, n):
    """Go on with the runs that were killed, and return the chunks that each did."""
    code = SETTING + RESUME.format(n=n, n_values=N_CHUNKS * 500)
    run_python(code, tmp_path, timeout_s=100).check()
    return [[int(line) for line in (tmp_path / f"log-{i}").read_text().split()] for i in range(n)]


def test_a_killed_run_goes_on_with_the_chunks_that_are_missing(tmp_path):
    run_python(SETTING + DRIVER.format(kills=KILLS, longest=0.5), tmp_path, timeout_s=100).check()
    before = [finished(tmp_path / f"cache-{i}") for i in range(KILLS)]
    assert len({len(chunks) for chunks in before}) > 5  # killed at different times
    for done, chunks in zip(before, resumed(tmp_path, KILLS), strict=True):
        assert sorted(chunks) == sorted(set(range(N_CHUNKS)) - done)


@pytest.mark.parametrize("seed", range(3))
def test_runs_on_workers_that_are_killed_go_on_too(tmp_path, seed):
    kill_when(SETTING + WORKERS, tmp_path, "started", delay_s=random.Random(seed).random() * 0.3)
    done = finished(tmp_path / "cache-0")
    (chunks,) = resumed(tmp_path, 1)
    assert sorted(chunks) == sorted(set(range(N_CHUNKS)) - done)


def test_a_worker_that_dies_costs_its_chunk_alone(tmp_path):
    def fatal(chunk, log, marker):
        if chunk[0] == 5000 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), 9)
        return halves(chunk, log)[0]

    (tmp_path / "log").touch()
    context = Context(tmp_path / "cache", workers=2)
    found = context.map_dask_array(fatal, da.from_array(VALUES, chunks=500), tmp_path / "log", tmp_path / "marker")
    assert_identical(found.compute(), (VALUES / 2).reshape(-1, 500)[:, ::2].ravel())
    done = [int(line) for line in (tmp_path / "log").read_text().split()]
    assert set(done) == set(range(N_CHUNKS))

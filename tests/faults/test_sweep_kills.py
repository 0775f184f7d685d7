"""Sweeps that are killed: what is published never runs again, and nothing is ever half-written."""

import json
import os
import random
import subprocess
import sys
import time

import pytest

from megalith import Context, Parameter, ParameterSpace, records
from megalith.testing.faults import run_python

IS_CI = os.environ.get("MEGALITH_HYPOTHESIS") == "ci"
KILLS = 8 if IS_CI else 100
N_POINTS = 60 * KILLS
WORKERS = 2

PROGRAM = """
import os, sys, time
from pathlib import Path
import numpy as np
from megalith import Context, Parameter, ParameterSpace

here = Path(__file__).parent

def wave(i):
    file = os.open(here / "computed", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{i}\\n".encode())
    os.close(file)
    time.sleep(0.002)
    return {"i": i, "wave": np.arange(i % 500) + i}

if __name__ == "__main__":
    n, workers = int(sys.argv[1]), int(sys.argv[2]) or None
    space = ParameterSpace("", [Parameter("i", range(n))], context=Context(here / "cache", workers=workers))
    (here / "begun").touch()
    print(len(space.sweep(wave)))
"""


class Killed:
    """A sweep of a program that is killed, and what it has computed."""

    def __init__(self, directory, workers):
        self.directory, self.workers = directory, workers
        (directory / "program.py").write_text(PROGRAM)

    def start(self):
        (self.directory / "begun").unlink(missing_ok=True)
        command = [sys.executable, "program.py", str(N_POINTS), str(self.workers)]
        child = subprocess.Popen(command, cwd=self.directory, stdout=subprocess.PIPE, start_new_session=True)
        while not (self.directory / "begun").exists():
            assert child.poll() is None
            time.sleep(0.001)
        return child

    def computed(self):
        """How often each point was begun; a line that was being written counts."""
        path = self.directory / "computed"
        lines = path.read_text().split("\n") if path.exists() else []
        return [int(line) for line in lines if line]

    def published(self):
        """The points whose results are visible, all of them whole."""
        found = set()
        for path in (self.directory / "cache" / "sweeps").rglob("*.npz"):
            if not path.parent.name.startswith("megalith-"):
                value = records.load(path, verify=True)
                assert value["wave"].tolist() == list(range(value["i"], value["i"] + value["i"] % 500))
                found.add(value["i"])
        return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [0, WORKERS])
def test_a_sweep_killed_at_random_moments_goes_on_where_it_stopped(tmp_path, workers):
    rng = random.Random(workers)
    sweep = Killed(tmp_path, workers)
    published, n_killed = set(), 0
    for _ in range(KILLS // 2):
        before = len(sweep.computed())
        child = sweep.start()
        # Some of them while the workers start, most while they work.
        time.sleep(rng.uniform(0, 0.4) + (0.3 if workers else 0.0))
        os.killpg(child.pid, 9)
        n_killed += child.wait() == -9
        child.stdout.close()
        again = set(sweep.computed()[before:]) & published
        assert again == set(), "published points ran again"
        published = sweep.published()
        assert len(sweep.computed()) <= len(published) + n_killed * max(workers, 1)
    assert n_killed > KILLS // 4
    before = len(sweep.computed())
    child = sweep.start()
    assert child.communicate(timeout=300)[0] == f"{N_POINTS}\n".encode()
    assert not set(sweep.computed()[before:]) & published
    assert len(sweep.computed()) <= N_POINTS + n_killed * max(workers, 1)
    assert sweep.published() == set(range(N_POINTS))
    leftovers = [path for path in (tmp_path / "cache").rglob("*") if path.name.endswith("-tmp")]
    assert leftovers == []


SHARED = """
import os, time
from pathlib import Path
from megalith import Context, Parameter, ParameterSpace

here = Path(__file__).parent

def slow(i):
    (here / f"begun-{i}-{os.getpid()}").touch()
    while i == 1 and not (here / "go").exists():
        time.sleep(0.001)
    return i

space = ParameterSpace("", [Parameter("i", range(4))], context=Context(here / "cache"))
first = os.fork()
if not first:
    space.sweep(slow)
    os._exit(0)
while not (here / f"begun-1-{first}").exists():
    time.sleep(0.001)
second = os.fork()
if not second:
    results = space.sweep(slow)
    os._exit(0 if results.to_dict() == {(i,): i for i in range(4)} else 1)
while not (here / f"begun-3-{second}").exists():
    time.sleep(0.001)
(here / "go").touch()
os.kill(first, 9)
os.waitpid(first, 0)
assert os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]) == 0
print(sorted(path.name.split("-")[1] for path in here.glob("begun-*")))
"""


def test_a_sweep_takes_over_what_another_was_killed_at(tmp_path):
    said = run_python(SHARED, tmp_path).check()
    assert said in ("['0', '1', '1', '2', '3']\n", "['0', '1', '2', '3']\n")


def test_failures_survive_a_kill(tmp_path):
    program = """
    import os
    from pathlib import Path
    from megalith import Context, Parameter, ParameterSpace

    def fails(i):
        if i == 3:
            os.kill(os.getpid(), 9)
        raise ValueError(i)

    space = ParameterSpace("", [Parameter("i", range(5))], context=Context(Path(__file__).parent / "cache"))
    space.sweep(fails)
    """
    assert run_python(program, tmp_path).returncode == -9
    notes = sorted((tmp_path / "cache").rglob("failures/*.json"))
    assert sorted(json.loads(path.read_text())[0]["error"] for path in notes) == [
        "ValueError: 0",
        "ValueError: 1",
        "ValueError: 2",
    ]


def test_a_full_disk_is_a_failure_of_the_points_and_the_next_sweep_computes_them(tmp_path, monkeypatch):
    from megalith.context.entries import Entries

    space = ParameterSpace("", [Parameter("i", range(3))], context=Context(tmp_path))
    with monkeypatch.context() as patch:

        def full(*_args, **_options):
            raise OSError(28, "No space left on device")

        patch.setattr(Entries, "write", full)
        found = space.sweep(square, on_error="keep")
    assert [failed.error for failed in found.failures] == ["OSError: [Errno 28] No space left on device"] * 3
    assert space.sweep(square).to_dict() == {(0,): 0, (1,): 1, (2,): 4}


def square(i):
    return i * i

"""A sweep gives the same wherever it runs; two processes share its work."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from megalith import Context, Parameter, ParameterSpace
from megalith.exceptions import SweepError
from megalith.testing.faults import run_python


def wave(length, phase):
    if length == 3 and phase == 0.5:
        raise ZeroDivisionError(f"at {length}")
    return {"wave": np.sin(np.arange(length) + phase), "pid": os.getpid(), "sum": length + phase}


def serial(tmp_path):
    return space_of(Context(tmp_path / "serial")).sweep(wave, on_error="keep")


def space_of(context):
    lengths, phases = Parameter("length", range(1, 21)), Parameter("phase", [0, 0.5])
    return ParameterSpace("waves", [lengths, phases], context=context)


def check_equals_serial(workers, tmp_path, *, in_processes=True):
    context = Context(tmp_path / "there", workers=workers)
    space = space_of(context)
    seen = []
    with pytest.raises(SweepError, match=r"1 of 40 points .*ZeroDivisionError: at 3") as caught:
        space.sweep(wave, on_result=lambda point, value: seen.append((point, value["sum"])))
    assert isinstance(caught.value.errors[0], ZeroDivisionError)
    found, wanted = space.results(wave), serial(tmp_path)
    assert found.counts == wanted.counts == {"done": 39, "failed": 1}
    assert found.failures[0].error == "ZeroDivisionError: at 3"
    assert "in wave" in found.failures[0].traceback
    assert sorted(seen) == [(point, value["sum"]) for point, value in wanted.items()]
    pids = set()
    for point, value in wanted.items():
        assert np.array_equal(found[point]["wave"], value["wave"])
        pids.add(found[point]["pid"])
    assert (os.getpid() not in pids) is in_processes
    assert len(list(context.cache_dir.rglob("failures/*.json"))) == 1


def test_threads(tmp_path):
    with ThreadPoolExecutor(2) as executor:
        check_equals_serial(executor, tmp_path, in_processes=False)


def test_processes(tmp_path):
    check_equals_serial(2, tmp_path)


def test_ipyparallel(tmp_path, ipyparallel_client):
    check_equals_serial(ipyparallel_client.load_balanced_view(), tmp_path)


def test_dask(tmp_path, dask_client):
    check_equals_serial(dask_client, tmp_path)


def test_a_point_that_kills_its_workers_is_a_failure_and_the_others_finish(tmp_path):
    context = Context(tmp_path / "cache", workers=2)
    space = ParameterSpace("", [Parameter("i", range(12))], context=context)
    found = space.sweep(deadly, on_error="keep")
    assert found.counts == {"done": 11, "failed": 1}
    [failed] = found.failures
    assert failed.point == (7,)
    assert "WorkerDiedError" in failed.error


def deadly(i):
    if i == 7:
        os.kill(os.getpid(), 9)
    return i


SHARED = """
import os, sys, time
from pathlib import Path
from megalith import Context, Parameter, ParameterSpace

here = Path({here!r})

def slow(i):
    file = os.open(here / "computed", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{{i}} {{os.getpid()}}\\n".encode())
    os.close(file)
    time.sleep(0.005)
    return i ** 2

space = ParameterSpace("", [Parameter("i", range(60))], context=Context(here / "cache"))
"""

TWO = """
children = []
for _ in range(2):
    pid = os.fork()
    if not pid:
        (here / f"ready-{os.getpid()}").touch()
        while len(list(here.glob("ready-*"))) < 2:
            time.sleep(0.001)
        results = space.sweep(slow)
        os._exit(0 if results.to_dict() == {(i,): i ** 2 for i in range(60)} else 1)
    children.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
"""


def test_two_processes_share_the_work_and_compute_nothing_twice(tmp_path):
    said = run_python(SHARED.format(here=str(tmp_path)) + TWO, tmp_path / "code").check()
    assert said == "[0, 0]\n"
    computed = [line.split() for line in (tmp_path / "computed").read_text().splitlines()]
    assert sorted(int(i) for i, _ in computed) == list(range(60))
    assert len({pid for _, pid in computed}) == 2


def test_a_global_that_was_set_here_only_is_a_failure_and_not_another_result(tmp_path):
    (tmp_path / "scaling.py").write_text("FACTOR = 1\n\n\ndef scaled(x):\n    return x * FACTOR\n")
    program = """
    from pathlib import Path

    import scaling
    from megalith import Context, Parameter, ParameterSpace

    if __name__ == "__main__":
        context = Context(Path(__file__).parent / "cache", workers=1)
        space = ParameterSpace("", [Parameter("x", [1, 2])], context=context)
        print(list(space.sweep(scaling.scaled).values()))
        scaling.FACTOR = 10
        print({failed.error.partition(": ")[2] for failed in space.sweep(scaling.scaled, on_error="keep").failures})
        context.workers = None
        print(list(space.sweep(scaling.scaled).values()))
    """
    assert run_python(program, tmp_path).check().splitlines() == [
        "[1, 2]",
        """{"constant global 'scaling.FACTOR': not the same in this worker as where the sweep was started; """
        """make it an argument"}""",
        "[10, 20]",
    ]

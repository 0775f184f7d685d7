"""How many threads a call uses: argument, `with`, `set_threads`, environment, what the system leaves."""

import os
import threading

import numpy as np
import pytest

import megalith
from megalith import arrays
from megalith.exceptions import ArgumentError
from megalith.testing.faults import run_python

WORK = """
import time
import numpy as np
import megalith

def threads_used(**options):
    '''Threads of the pool that a kernel on 32 MiB woke; one may also be the calling thread alone.'''
    before = compute_threads()
    megalith.where(np.zeros(1 << 25, dtype=np.uint8), **options)
    time.sleep(0.2)  # A thread that got nothing to do may not have begun, and gives itself its name.
    return max(compute_threads() - before, 1)
"""


def threads_used(tmp_path, statement="print(threads_used())", env=None, prefix=()):
    """What a child prints that runs a kernel."""
    return int(run_python(WORK + statement, tmp_path, env=env, prefix=prefix).check().strip())


def test_set_threads_acts_on_kernels(tmp_path):
    assert threads_used(tmp_path, "megalith.set_threads(3); print(threads_used())") == 3


def test_threads_acts_inside_of_its_block_only(tmp_path):
    code = """
megalith.set_threads(2)
with megalith.threads(5):
    print(threads_used(), end='')
print(threads_used())
"""
    assert threads_used(tmp_path, code) == 52


def test_the_argument_wins_over_everything(tmp_path):
    code = """
megalith.set_threads(2)
with megalith.threads(3):
    print(threads_used(processes=4))
"""
    assert threads_used(tmp_path, code, env={"MEGALITH_NUM_THREADS": "5", "OMP_NUM_THREADS": "6"}) == 4


def test_threads_wins_over_set_threads():
    megalith.set_threads(2)
    with megalith.threads(3):
        assert megalith.initialize_processing()[0] == 3
    assert megalith.initialize_processing()[0] == 2


def test_threads_nest_and_the_innermost_wins():
    with megalith.threads(3):
        with megalith.threads(4):
            assert megalith.initialize_processing()[0] == 4
        assert megalith.initialize_processing()[0] == 3


def test_threads_takes_its_setting_back_after_an_exception():
    before = megalith.initialize_processing()[0]
    with pytest.raises(KeyError), megalith.threads(before + 3):
        raise KeyError
    assert megalith.initialize_processing()[0] == before


def test_threads_does_not_act_on_other_threads():
    seen = []
    before = megalith.initialize_processing()[0]
    with megalith.threads(before + 3):
        other = threading.Thread(target=lambda: seen.append(megalith.initialize_processing()[0]))
        other.start()
        other.join()
    assert seen == [before]


def test_set_threads_wins_over_the_default_of_the_module():
    arrays.default_processes = 7
    assert megalith.initialize_processing()[0] == 7
    megalith.set_threads(3)
    assert megalith.initialize_processing()[0] == 3


def test_set_threads_wins_over_the_environment(tmp_path):
    code = "megalith.set_threads(3); print(threads_used())"
    assert threads_used(tmp_path, code, env={"MEGALITH_NUM_THREADS": "5"}) == 3


def test_set_threads_of_none_takes_the_setting_back(monkeypatch):
    monkeypatch.setenv("MEGALITH_NUM_THREADS", "6")
    megalith.set_threads(3)
    megalith.set_threads(None)
    assert megalith.initialize_processing()[0] == 6


@pytest.mark.parametrize(
    ("env", "n"),
    [
        ({"MEGALITH_NUM_THREADS": "3"}, 3),
        ({"MEGALITH_NUM_THREADS": "3", "OMP_NUM_THREADS": "1"}, 3),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "4"}, 4),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
        ({}, len(os.sched_getaffinity(0))),
    ],
    ids=str,
)
def test_the_environment_gives_the_number_of_threads(tmp_path, env, n):
    assert threads_used(tmp_path, env=env) == n


@pytest.mark.parametrize("value", ["0", "-2", "many", "1.5"])
def test_the_environment_with_an_impossible_number_is_an_error_that_names_the_variable(tmp_path, value):
    code = WORK + "from megalith.exceptions import ArgumentError\n"
    code += "try:\n    threads_used()\nexcept ArgumentError as error:\n    print(error)\n"
    said = run_python(code, tmp_path, env={"MEGALITH_NUM_THREADS": value}).check()
    assert "MEGALITH_NUM_THREADS" in said
    assert value in said


def test_one_processor_gives_one_thread(tmp_path):
    assert threads_used(tmp_path, prefix=("taskset", "-c", str(min(os.sched_getaffinity(0))))) == 1


def test_serial_is_one_thread(tmp_path):
    assert threads_used(tmp_path, "print(threads_used(processes='serial'))") == 1
    assert megalith.initialize_processing("serial")[0] == 1


def test_small_inputs_wake_no_thread(tmp_path):
    code = "megalith.where(np.ones(1000), cutoff=0); print(compute_threads())"
    assert threads_used(tmp_path, code) == 0


@pytest.mark.parametrize("n", [0, -1, 1.5, "two", True, [2]])
def test_set_threads_and_threads_refuse_impossible_numbers(n):
    with pytest.raises(ArgumentError):
        megalith.set_threads(n)
    with pytest.raises(ArgumentError), megalith.threads(n):
        pass
    with pytest.raises(ArgumentError, match="processes"):
        megalith.where(np.ones(3), processes=n)


@pytest.mark.parametrize("n", [0, -1])
def test_the_message_says_what_was_given_and_what_is_allowed(n):
    with pytest.raises(ArgumentError, match=rf"processes.*{n}.*1 or more"):
        megalith.where(np.ones(3), processes=n)


def test_many_python_threads_run_kernels_at_once():
    source = np.random.default_rng(0).integers(0, 2, 1 << 21, dtype=np.uint8)
    expected = np.flatnonzero(source)
    wrong = []

    def work(n):
        wrong.extend(n for _ in range(5) if not np.array_equal(megalith.where(source, processes=n), expected))

    workers = [threading.Thread(target=work, args=(1 + i % 7,)) for i in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.parametrize("n", [5000, 2**70])
def test_more_threads_than_there_is_work_for_cost_nothing(tmp_path, n):
    code = f"""
import time
began = time.monotonic()
assert megalith.where(np.ones(1 << 22, dtype=np.uint8), processes={n}).size == 1 << 22
assert compute_threads() <= 1024, compute_threads()
"""
    run_python(WORK + code, tmp_path, timeout_s=15).check()

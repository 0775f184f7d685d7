"""The right to compute a point: one has it, others see that, and it ends with its holder."""

import gc
import threading
from pathlib import Path

import pytest

from megalith import Context, Parameter, ParameterSpace
from megalith.context.entries import Entries
from megalith.sweep import claims
from megalith.testing.faults import run_python

KEYS = [f"{i:032x}" for i in (0, 1 << 80, (1 << 80) + (1 << 68), (1 << 128) - 1)]


@pytest.fixture
def entries(tmp_path):
    return Entries(str(tmp_path))


def in_thread(work):
    """Return what something gives, or raises, in another thread."""
    found = []

    def run():
        try:
            found.append(work())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return found[0]


def claim(entries, key, *, wait=False):
    with claims.claimed(entries, "f", key, wait=wait) as is_ours:
        return is_ours


def test_one_thread_has_a_claim_and_others_see_it(entries, tmp_path):
    with claims.claimed(entries, "f", KEYS[1], wait=False) as is_ours:
        assert is_ours
        assert isinstance(in_thread(lambda: claim(entries, KEYS[1])), claims.BusyError)
        assert in_thread(lambda: claim(entries, KEYS[2])) is True
        assert claims.running(f"{tmp_path}/f", KEYS) == {KEYS[1]}
    assert claims.count(f"{tmp_path}/f") == 0
    assert in_thread(lambda: claim(entries, KEYS[1])) is True


def test_all_claims_are_found(entries, tmp_path):
    gate, ready = threading.Event(), threading.Barrier(len(KEYS) + 1)

    def hold(key):
        with claims.claimed(entries, "f", key, wait=False):
            ready.wait(60)
            gate.wait(60)

    threads = [threading.Thread(target=hold, args=(key,)) for key in KEYS]
    for thread in threads:
        thread.start()
    ready.wait(60)
    assert claims.running(f"{tmp_path}/f", [*KEYS, f"{7 << 80:032x}"]) == set(KEYS)
    assert claims.count(f"{tmp_path}/f") == len(KEYS)
    gate.set()
    for thread in threads:
        thread.join(60)
    assert claims.count(f"{tmp_path}/f") == 0


def test_who_waits_gets_the_claim_when_it_is_given_back(entries):
    waiting = []

    def wait():
        waiting.append(None)
        waiting.append(claim(entries, KEYS[1], wait=True))

    with claims.claimed(entries, "f", KEYS[1], wait=False):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.05)
        assert waiting == [None]
    thread.join(60)
    assert waiting == [None, True]


def test_a_thread_that_has_a_claim_does_not_wait_for_another(entries):
    def outer():
        with claims.claimed(entries, "f", KEYS[2], wait=True):
            return claim(entries, KEYS[1], wait=True)

    with claims.claimed(entries, "f", KEYS[1], wait=False):
        assert in_thread(outer) is True


def n_open():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_files_are_closed_with_their_threads(entries):
    before = n_open()
    for _ in range(5):
        in_thread(lambda: [claim(Entries(f"{entries.root}/{i}"), KEYS[0]) for i in range(20)])
    gc.collect()
    assert n_open() <= before + 1


def square(i):
    return i * i


@pytest.mark.parametrize("problem", ["no such locks", "no locks at all"])
def test_where_points_cannot_be_locked_sweeps_work_all_the_same(tmp_path, monkeypatch, problem):
    if problem == "no such locks":
        monkeypatch.setattr(claims, "_SET", None)
    else:

        def refuse(_directory):
            raise OSError(37, "No locks available")

        monkeypatch.setattr(claims, "_open", refuse)
    space = ParameterSpace("", [Parameter("i", range(5))], context=Context(tmp_path))
    assert space.sweep(square).to_dict() == {(i,): i * i for i in range(5)}
    assert space.run_process(square, {"i": 4}) == 16


FORKED = """
import os, signal, sys, time
from pathlib import Path
from megalith.context.entries import Entries
from megalith.sweep import claims

here = Path(__file__).parent
entries, key = Entries(str(here)), f"{1 << 80:032x}"
holder = os.fork()
if not holder:
    with claims.claimed(entries, "f", key, wait=False):
        if not os.fork():
            (here / "pid").write_text(str(os.getpid()))
            (here / "pid").rename(here / "grandchild")
            time.sleep(60)
        while not (here / "grandchild").exists():
            time.sleep(0.001)
        (here / "held").touch()
        time.sleep(60)
while not (here / "held").exists():
    time.sleep(0.001)
assert claims.running(f"{here}/f", [key]) == {key}
os.kill(holder, signal.SIGKILL)
os.waitpid(holder, 0)
grandchild = int((here / "grandchild").read_text())
os.kill(grandchild, 0)
with claims.claimed(entries, "f", key, wait=False) as is_ours:
    print(is_ours)
os.kill(grandchild, signal.SIGKILL)
"""


def test_a_child_that_was_forked_meanwhile_does_not_hold_a_claim(tmp_path):
    assert run_python(FORKED, tmp_path).check() == "True\n"


def test_a_sweep_that_waits_for_another_process_can_be_stopped(tmp_path):
    program = """
    import os, time
    from pathlib import Path
    from megalith import Context, Parameter, ParameterSpace

    here = Path(__file__).parent

    def slow(i):
        (here / "begun").touch()
        while not (here / "go").exists():
            time.sleep(0.001)
        return i

    space = ParameterSpace("", [Parameter("i", [0])], context=Context(here / "cache"))
    other = os.fork()
    if not other:
        space.sweep(slow)
        os._exit(0)
    while not (here / "begun").exists():
        time.sleep(0.001)
    job = space.sweep_async(slow)
    time.sleep(0.2)
    print(job.ready())
    space.stop_sweep()
    print(job.get().counts, space.results(slow).counts)
    (here / "go").touch()
    os.waitpid(other, 0)
    print(space.sweep(slow).to_dict() == {(0,): 0})
    """
    assert run_python(program, tmp_path).check().splitlines() == ["False", "{'missing': 1} {'running': 1}", "True"]

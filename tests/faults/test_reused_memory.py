"""Memory that is kept for the next result: forks, limits, and a system that takes it back."""

import os
from pathlib import Path

import pytest

from megalith.testing.faults import FORKED, run_python

PREPARE = (
    FORKED
    + """
import ctypes, mmap, os, resource
import numpy as np
import megalith
from megalith import _core

N = 64 << 20
rng = np.random.default_rng(0)
source, table = rng.integers(0, 256, N, dtype=np.uint8), rng.integers(0, 256, 256, dtype=np.uint8)
expected = np.take(table, source)

def is_right():
    return np.array_equal(megalith.apply_lut(source, table), expected)

def field(name, file="/proc/self/status"):
    for line in open(file):
        if line.startswith(name):
            return int(line.split()[1]) << 10

def made(value):
    array = _core.empty((N,), np.uint8)
    array.fill(value)
    return array

def ended(pid):
    return os.waitpid(pid, 0)[1] == 0

assert is_right()
"""
)


def test_parent_and_child_write_different_values_to_what_was_kept(tmp_path):
    code = """
for turn in range(10):
    made(1)
    held = made(2)
    told, tell = os.pipe()
    def work():
        mine = made(3)
        os.read(told, 1)  # The parent has written by now.
        global held
        return (mine == 3).all() and (held == 2).all() and is_right() and (held := None) is None and is_right()
    pid = forked(work)
    mine = made(4)
    os.write(tell, b"x")
    assert (mine == 4).all() and is_right()
    assert ended(pid), turn
    assert (mine == 4).all() and (held == 2).all()
    held = mine = None
    assert is_right()
    os.close(told)
    os.close(tell)
"""
    run_python(PREPARE + code, tmp_path).check()


def test_a_child_has_no_part_of_what_was_kept(tmp_path):
    code = """
before = field("VmSize")
def is_smaller():
    return field("VmSize") <= before - N
made(1)
assert field("VmSize") <= before
assert ended(forked(is_smaller))
"""
    run_python(PREPARE + code, tmp_path).check()


def test_children_forked_while_other_threads_take_and_give_back(tmp_path):
    code = """
import threading
stop = threading.Event()
def keep_on():
    while not stop.is_set():
        megalith.where(source[: N // 4], processes=2)
threads = [threading.Thread(target=keep_on) for _ in range(3)]
for thread in threads:
    thread.start()
try:
    for turn in range(20):
        assert ended(forked(is_right)), turn
finally:
    stop.set()
    for thread in threads:
        thread.join()
assert is_right()
"""
    run_python(PREPARE + code, tmp_path, timeout_s=100).check()


def test_where_there_is_little_room_what_is_kept_goes_first_and_then_it_is_a_memory_error(tmp_path):
    code = """
parts = [made(i) for i in range(4)]
parts.clear()
room = field("VmSize")
resource.setrlimit(resource.RLIMIT_AS, (room + N, room + N))
large = _core.empty((4 * N,), np.uint8)  # More than there is, but for what is kept.
large.fill(1)
try:
    megalith.apply_lut(np.broadcast_to(np.uint8(0), 8 * N), table)
except MemoryError as error:
    print(error)
assert large.min() == large.max() == 1
del large
assert is_right()
"""
    said = run_python(PREPARE + code, tmp_path).check()
    assert "512. MiB" in said
    assert "shape (536870912,)" in said


def test_results_are_right_when_the_system_took_the_pages(tmp_path):
    code = """
libc = ctypes.CDLL(None, use_errno=True)
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
array = made(7)
address = array.ctypes.data
del array
before = field("VmRSS")
PAGEOUT = 21
if libc.madvise(address, N, PAGEOUT):  # A system without it: what it would do, by force.
    assert libc.madvise(address, N, mmap.MADV_DONTNEED) == 0
array = _core.empty((N,), np.uint8)
assert array.ctypes.data == address
assert not set(np.unique(array)) - {0, 7}
del array
assert is_right()
"""
    run_python(PREPARE + code, tmp_path).check()


def test_a_control_group_takes_the_pages_before_it_kills(tmp_path):
    parent = os.environ.get("MEGALITH_TEST_CGROUP")
    if parent is None:
        pytest.skip("MEGALITH_TEST_CGROUP names no directory of memory control groups in which a test may make one")
    group = Path(parent) / f"megalith-test-{os.getpid()}"
    group.mkdir()
    is_old = (group / "memory.limit_in_bytes").exists()
    (group / ("memory.limit_in_bytes" if is_old else "memory.max")).write_text(str(800 << 20))
    try:
        code = f"""
def ask():
    open({str(group / "cgroup.procs")!r}, "w").write(str(os.getpid()))
    parts = [made(i) for i in range(8)]
    addresses = [part.ctypes.data for part in parts]
    parts.clear()
    other = np.full(8 * N, 5, np.uint8)
    again = made(9)
    assert again.ctypes.data in addresses
    return other.min() == other.max() == 5 and again.min() == again.max() == 9 and is_right()
assert ended(forked(ask))
"""
        run_python(PREPARE + code, tmp_path).check()
    finally:
        group.rmdir()

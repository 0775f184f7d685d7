"""Forks, interrupts, and what an import may not do."""

import sys

import pytest

from megalith.testing.faults import FORKED, run_python

PREPARE = (
    FORKED
    + """
import os, signal, sys, threading, time
import numpy as np
import megalith

source = np.zeros(1 << 24, dtype=np.uint8)
source[::1001] = 1
expected = np.flatnonzero(source)
volume = np.random.default_rng(0).random((200, 210, 50), dtype=np.float32)
kernel = np.array([0.1, 0.5, 0.3])
smooth = megalith.correlate1d(volume, kernel, processes=2)
digests = [megalith._core.digest(array, 2) for array in (volume, volume.T)]
clusters = np.random.default_rng(1).integers(-1, 90, 1 << 20)
groups = [np.flatnonzero(clusters == cluster) for cluster in range(-1, 90)]
means = megalith.select.grouped_mean(volume.ravel()[: 1 << 20], clusters, processes=2)

def groups_work():
    got = megalith.select.spikes_per_cluster(clusters, processes=2)
    return (
        all(np.array_equal(*both) for both in zip(got.values(), groups, strict=True))
        and np.array_equal(megalith.select.grouped_mean(volume.ravel()[: 1 << 20], clusters, processes=2), means)
    )

def kernels_work():
    return (
        np.array_equal(megalith.where(source, processes=2), expected)
        and np.array_equal(megalith.correlate1d(volume, kernel, processes=2), smooth)
        and [megalith._core.digest(array, 2) for array in (volume, volume.T)] == digests
        and groups_work()
    )

assert kernels_work()
assert compute_threads() >= 2

def in_child(work):
    return os.waitpid(forked(work), 0)[1]
"""
)


def test_children_forked_after_a_kernel_run_kernels_forty_times(tmp_path):
    code = PREPARE + "\nfor i in range(40):\n    assert in_child(kernels_work) == 0, i\nassert kernels_work()\n"
    run_python(code, tmp_path, timeout_s=100).check()


def test_children_forked_while_another_thread_is_inside_a_kernel_run_kernels_forty_times(tmp_path):
    code = (
        PREPARE
        + """
stop = threading.Event()
rounds = 0

def keep_running():
    global rounds
    while not stop.is_set():
        assert np.array_equal(megalith.where(source, processes=2), expected)
        megalith.correlate1d(volume, kernel, processes=2)
        megalith._core.digest(volume.T, 2)
        groups_work()
        rounds += 1

other = threading.Thread(target=keep_running)
other.start()
while rounds == 0:
    time.sleep(0.001)
try:
    for i in range(40):
        assert in_child(kernels_work) == 0, i
finally:
    stop.set()
    other.join()
assert rounds > 1
"""
    )
    run_python(code, tmp_path, timeout_s=110).check()


def test_grandchildren_run_kernels(tmp_path):
    code = PREPARE + "\nassert in_child(lambda: kernels_work() and in_child(kernels_work) == 0) == 0\n"
    run_python(code, tmp_path).check()


def test_a_child_forked_before_any_kernel_runs_kernels(tmp_path):
    code = """
    import os, sys
    import numpy as np
    import megalith
    pid = os.fork()
    source = np.ones(1 << 22, dtype=np.uint8)
    ok = len(megalith.where(source, processes=2)) == 1 << 22
    if pid == 0:
        os._exit(0 if ok else 1)
    assert ok and os.waitpid(pid, 0)[1] == 0
    """
    run_python(code, tmp_path).check()


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_processes_started_by_any_method_run_kernels(tmp_path, method):
    code = """
    import multiprocessing
    import numpy as np
    import megalith

    def hits(n):
        source = np.zeros(1 << 22, dtype=np.uint8)
        source[::n] = 1
        return len(megalith.where(source, processes=2))

    if __name__ == "__main__":
        want = [hits(n) for n in (3, 5, 7, 11)]
        with multiprocessing.get_context("METHOD").Pool(2) as pool:
            assert pool.map(hits, (3, 5, 7, 11)) == want
    """
    run_python(code.replace("METHOD", method), tmp_path).check()


LONG = """
import os, signal, sys, threading, time
import numpy as np
import megalith

volume = np.ones((1 << 13, 1 << 12), dtype=np.float32)
taps = np.random.default_rng(0).random(601)
sent = None

def interrupt(after_s):
    def send():
        global sent
        time.sleep(after_s)
        sent = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=send).start()
"""


def test_ctrl_c_in_a_long_kernel_raises_keyboard_interrupt_and_the_next_call_works(tmp_path):
    code = (
        LONG
        + """
for round in range(3):
    began = time.monotonic()
    interrupt(0.2)
    try:
        megalith.correlate1d(volume, taps, axis=round % 2, processes=2)
    except KeyboardInterrupt:
        waited = time.monotonic() - sent
        print(waited)
        assert waited < 1, waited
    else:
        sys.exit(f"not interrupted: done in {time.monotonic() - began} s")
    assert megalith.where(np.ones(1 << 21, dtype=np.uint8), processes=2).size == 1 << 21
    assert megalith.correlate1d(volume[:100], [1.0, 1.0], processes=2)[1, 0] == 2
"""
    )
    said = run_python(code, tmp_path).check()
    assert len(said.split()) == 3


@pytest.mark.parametrize("order", ["C", "F"])
def test_ctrl_c_in_a_digest_raises_keyboard_interrupt_and_the_next_digest_is_right(tmp_path, order):
    # With a stride of zero, 64 GiB of a few MiB.
    strides = {"C": (0, 0, 4), "F": (4, 0, 1024)}[order]
    code = (
        LONG
        + f"""
array = np.lib.stride_tricks.as_strided(np.ones(1 << 20, "f4"), (256, 1 << 14, 4096), {strides})
small = megalith._core.digest(volume, 2)
for _ in range(3):
    interrupt(0.2)
    try:
        megalith._core.digest(array, 2)
    except KeyboardInterrupt:
        waited = time.monotonic() - sent
        assert waited < 1, waited
    else:
        sys.exit("not interrupted")
    assert megalith._core.digest(volume, 2) == small
"""
    )
    run_python(code, tmp_path).check()


@pytest.mark.parametrize("call", ["spikes_per_cluster(array)", "grouped_mean(array, array)", "unique(array)"])
def test_ctrl_c_among_groups_raises_keyboard_interrupt_and_the_next_grouping_is_right(tmp_path, call):
    # With a stride of zero, 2^31 ids of a few bytes; the result of the first is never touched.
    code = (
        LONG
        + f"""
array = np.lib.stride_tricks.as_strided(np.arange(4, dtype="i8"), (1 << 31,), (0,))
for _ in range(3):
    interrupt(0.2)
    try:
        megalith.select.{call}
    except KeyboardInterrupt:
        waited = time.monotonic() - sent
        assert waited < 1, waited
    else:
        sys.exit("not interrupted")
    assert megalith.select.spikes_per_cluster(np.tile([3, 1], 1 << 20))[1].tolist() == list(range(1, 1 << 21, 2))
"""
    )
    run_python(code, tmp_path).check()


def test_ctrl_c_leaves_no_file_where_the_result_should_have_been(tmp_path):
    (tmp_path / "out").mkdir()
    code = (
        LONG
        + f"""
out = {str(tmp_path / "out")!r}
interrupt(0.2)
try:
    megalith.correlate1d(volume, taps, out + "/a.npy", processes=2)
except KeyboardInterrupt:
    assert os.listdir(out) == [], os.listdir(out)
else:
    sys.exit("not interrupted")
"""
    )
    run_python(code, tmp_path).check()


def test_an_exception_of_another_signal_handler_ends_a_kernel_as_what_it_is(tmp_path):
    code = (
        LONG
        + """
def handler(number, frame):
    raise TimeoutError("too long")

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    megalith.correlate1d(volume, taps, processes=2)
except TimeoutError as error:
    assert str(error) == "too long"
else:
    sys.exit("not interrupted")
assert megalith.where(np.ones(1 << 21, dtype=np.uint8), processes=2).size == 1 << 21
"""
    )
    run_python(code, tmp_path).check()


def test_other_python_threads_go_on_while_a_kernel_runs(tmp_path):
    code = (
        LONG
        + """
ticks = 0
done = threading.Event()

def tick():
    global ticks
    while not done.is_set():
        ticks += 1
        time.sleep(0.005)

other = threading.Thread(target=tick)
other.start()
began = time.monotonic()
megalith.correlate1d(volume, taps[:61], processes=2)
took = time.monotonic() - began
seen = ticks
done.set()
other.join()
assert seen > took / 0.005 / 20, (seen, took)
"""
    )
    run_python(code, tmp_path).check()


def test_import_starts_no_thread_and_loads_no_heavy_package(tmp_path):
    code = """
    import os, sys
    import numpy
    before = len(os.listdir("/proc/self/task"))
    loaded = set(sys.modules)
    import megalith
    assert len(os.listdir("/proc/self/task")) == before
    new = {name.split(".")[0] for name in set(sys.modules) - loaded}
    heavy = {"joblib", "h5py", "dask", "scipy", "ipyparallel", "xarray", "zarr", "matplotlib", "tqdm", "hypothesis"}
    assert not new & heavy, new & heavy
    """
    run_python(code, tmp_path).check()


def test_import_opens_no_file_for_writing(tmp_path):
    code = """
    import sys
    import numpy
    written = []
    def hook(event, args):
        if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
            written.append(args[0])
        if event in ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink"):
            written.append((event, args))
    sys.dont_write_bytecode = True
    sys.addaudithook(hook)
    import megalith
    assert written == [], written
    """
    run_python(code, tmp_path).check()


def test_import_in_a_sub_interpreter_is_refused_with_an_import_error(tmp_path):
    report = tmp_path / "report.txt"
    inner = f"""
try:
    import megalith._core
    said = "imported"
except ImportError as error:
    said = "ImportError: " + str(error)
except BaseException as error:
    said = type(error).__name__ + ": " + str(error)
with open({str(report)!r}, "w") as file:
    file.write(said)
"""
    module = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    create = "create('legacy')" if sys.version_info >= (3, 13) else "create(isolated=False)"
    run = "exec" if sys.version_info >= (3, 13) else "run_string"
    code = f"import {module} as interpreters\ninterpreters.{run}(interpreters.{create}, {inner!r})\n"
    run_python(code, tmp_path)
    said = report.read_text()
    assert said.startswith("ImportError"), said
    assert "interpreter" in said

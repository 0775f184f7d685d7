"""Maps in programs of their own: what is defined in `__main__`, Ctrl-C, modules workers cannot import, what is left."""

import json

import pytest

from megalith.testing.faults import run_python

WORKERS = {
    "serial": "workers = None",
    "threads": "workers = ThreadPoolExecutor(2)",
    "processes": "workers = ProcessPoolExecutor(2)",
    "spawned processes": "workers = ProcessPoolExecutor(2, multiprocessing.get_context('spawn'))",
    "own processes": "workers = 2",
    "ipyparallel": """
import ipyparallel
cluster = stack.enter_context(ipyparallel.Cluster(n=2, log_level=40))
workers = cluster.load_balanced_view()
""",
    "dask": """
import distributed
cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
workers = stack.enter_context(distributed.Client(stack.enter_context(cluster)))
""",
}

PRELUDE = """
import contextlib, json, multiprocessing, os, signal, sys, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import numpy as np
from megalith import maps
stack = contextlib.ExitStack()

def start():
    global workers, cluster
{start}
"""


def program(kind, code, main):
    start = "\n".join("    " + line for line in WORKERS[kind].strip().splitlines())
    body = "\n".join("    " + line for line in ["start()", "with stack:", *(f"    {x}" for x in main.splitlines())])
    return PRELUDE.format(start=start) + code + "\nif __name__ == '__main__':\n" + body + "\n"


def run(kind, code, main, tmp_path, timeout_s=100.0):
    env = {"IPYTHONDIR": str(tmp_path / "ipython")}
    return json.loads(run_python(program(kind, code, main), tmp_path, timeout_s=timeout_s, env=env).check())


@pytest.mark.parametrize("kind", WORKERS)
def test_functions_and_classes_of_main_travel_with_the_globals_they_use(kind, tmp_path):
    code = """
SCALE = 3

class Point:
    def __init__(self, x):
        self.x = x

def helper(p):
    return Point(p.x * SCALE)

def work(p):
    return helper(p)
"""
    main = "print(json.dumps([p.x for p in maps.run(work, [Point(1), Point(2)], workers=workers)]))"
    assert run(kind, code, main, tmp_path) == [3, 6]


@pytest.mark.parametrize("kind", [kind for kind in WORKERS if kind != "threads"])
def test_ctrl_c_ends_a_map_at_once_and_the_workers_go_on(kind, tmp_path):
    code = """
def interrupt():
    time.sleep(2.0)
    os.kill(os.getpid(), signal.SIGINT)

def nap(s):
    time.sleep(s)
    return s
"""
    main = """
maps.run(nap, [0.0] * 4, workers=workers)
threading.Thread(target=interrupt).start()
begin = time.monotonic()
out = {}
try:
    maps.run(nap, [8.0] * 6, workers=workers)
except KeyboardInterrupt:
    out["after"] = time.monotonic() - begin - 2.0
begin = time.monotonic()
out["results"] = maps.run(nap, [0.01, 0.02, 0.0], workers=workers)
out["free"] = time.monotonic() - begin
print(json.dumps(out), flush=True)
"""
    out = run(kind, code, main, tmp_path)
    assert out["after"] < 2
    assert out["results"] == [0.01, 0.02, 0.0]
    # Engines and processes of ours are interrupted; what others run is theirs.
    assert out["free"] < 5 or kind in ("processes", "spawned processes", "dask")


def test_ctrl_c_returns_although_threads_cannot_be_interrupted(tmp_path):
    code = """
def interrupt():
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)
"""
    main = """
threading.Thread(target=interrupt).start()
begin = time.monotonic()
done = []
try:
    maps.run(time.sleep, [3.0] * 8, workers=workers, on_result=lambda i, _: done.append(i))
except KeyboardInterrupt:
    print(json.dumps([time.monotonic() - begin, done]))
"""
    after, done = run("threads", code, main, tmp_path)
    assert after < 2
    assert done == []


@pytest.mark.parametrize("kind", ["own processes", "spawned processes", "ipyparallel", "dask"])
def test_a_module_that_workers_cannot_import_is_sent_along(kind, tmp_path):
    code = """
def load():
    import importlib.util, pathlib, tempfile
    directory = pathlib.Path(tempfile.mkdtemp())
    (directory / "hidden.py").write_text("K = 4\\ndef g(x):\\n    return x * K\\ndef f(x):\\n    return g(x) + 1\\n")
    spec = importlib.util.spec_from_file_location("hidden", directory / "hidden.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["hidden"] = module
    spec.loader.exec_module(module)
    return module
"""
    main = "print(json.dumps(maps.run(load().f, range(3), workers=workers)))"
    assert run(kind, code, main, tmp_path) == [1, 5, 9]


def test_a_package_that_workers_lack_is_named(tmp_path):
    code = """
import types

def load():
    module = types.ModuleType("numpy_of_tomorrow")
    module.__file__ = os.path.join(os.path.dirname(np.__file__), "tomorrow.py")
    exec("def f(x): return x", module.__dict__)
    sys.modules[module.__name__] = module
    return module.f
"""
    main = """
try:
    maps.run(load(), range(3), workers=workers)
except ImportError as error:
    print(json.dumps([error.name, error.__notes__[0]]))
"""
    name, note = run("own processes", code, main, tmp_path)
    assert name == "numpy_of_tomorrow"
    assert "has to be installed" in note


def test_an_attribute_error_of_an_argument_on_its_way_is_raised_as_it_is(tmp_path):
    code = """
class Picky:
    def __setstate__(self, state):
        raise AttributeError("no such attribute here")

    def __getstate__(self):
        return {"a": 1}
"""
    main = """
results = maps.run(type, [1, Picky(), 2], workers=workers, on_error="keep")
print(json.dumps([type(results[1].error).__name__, str(results[1].error), results[0] is int]))
"""
    assert run("own processes", code, main, tmp_path) == ["AttributeError", "no such attribute here", True]


@pytest.mark.parametrize("kind", ["processes", "own processes", "ipyparallel", "dask"])
def test_memory_of_arrays_that_were_sent_is_given_back(kind, tmp_path):
    code = """
def memory():
    return [name for fd in os.listdir("/proc/self/fd") if "memfd" in (name := read(f"/proc/self/fd/{fd}"))]

def read(link):
    try:
        return os.readlink(link)
    except OSError:
        return ""

def made(n, peak):
    for i in range(n):
        peak.append(len(memory()))
        yield np.full(4_000_000, i, dtype=np.float32)
"""
    main = """
peak = []
got = maps.run(lambda a: int(a[-1]), made(40, peak), workers=workers)
print(json.dumps([got == list(range(40)), max(peak), memory()]))
"""
    right, peak, left = run(kind, code, main, tmp_path)
    assert right
    assert peak < 15
    assert left == []


def test_a_view_whose_engines_are_all_gone_is_an_error(tmp_path):
    code = """
def die(_):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    main = """
try:
    maps.run(die, range(4), workers=workers)
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
try:
    maps.run(abs, range(4), workers=workers)
except Exception as error:
    print(json.dumps(type(error).__name__))
"""
    env = {"IPYTHONDIR": str(tmp_path / "ipython")}
    lines = run_python(program("ipyparallel", code, main), tmp_path, timeout_s=100, env=env).check().splitlines()
    kind, message = json.loads(lines[0])
    assert kind == "WorkerDiedError"
    assert "engine" in message
    assert json.loads(lines[1]) == "WorkerDiedError"


def test_a_controller_that_is_gone_is_an_error(tmp_path):
    main = """
import subprocess
import megalith.maps.ipyparallel as ours
ours.QUIET_S = 2.0
maps.run(abs, range(4), workers=workers)
def end():
    time.sleep(1.0)
    command = ["pgrep", "-f", "ipyparallel.controller"]
    for line in subprocess.run(command, capture_output=True, text=True).stdout.split():
        environ = open(f"/proc/{line}/environ").read()
        if os.environ["IPYTHONDIR"] in environ:
            os.kill(int(line), signal.SIGKILL)
threading.Thread(target=end).start()
try:
    maps.run(time.sleep, [60] * 2, workers=workers)
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]), flush=True)
os._exit(0)
"""
    assert run("ipyparallel", "", main, tmp_path) == [
        "WorkerDiedError",
        "the controller of the cluster does not answer any more",
    ]


def test_a_dask_cluster_that_has_lost_all_workers_is_an_error(tmp_path):
    main = """
import megalith.maps.dask as ours
ours.NOBODY_S = 2.0
threading.Timer(1.0, lambda: cluster.scale(0)).start()
try:
    maps.run(time.sleep, [0.5] * 1000, workers=workers)
except Exception as error:
    print(json.dumps(type(error).__name__), flush=True)
"""
    assert run("dask", "", main, tmp_path) == "WorkerDiedError"


def test_workers_that_know_another_version_of_a_function_get_the_callers(tmp_path):
    code = """
def write(k):
    (here / "changing.py").write_text(f"K = {k}\\ndef f(x):\\n    return x * K\\n")

from pathlib import Path
here = Path(__file__).parent
"""
    main = """
import importlib
sys.path.insert(0, str(here))
write(2)
import changing
first = maps.run(changing.f, [1], workers=workers)
write(30)
os.utime(here / "changing.py", (1, 1))
importlib.reload(changing)
second = maps.run(changing.f, [1], workers=workers)
inside = maps.run(lambda x: changing.f(x), [1], workers=workers)
changing.K = 400
print(json.dumps([first, second, inside, maps.run(changing.f, [1], workers=workers)]))
"""
    assert run("own processes", code, main, tmp_path) == [[2], [30], [30], [400]]


def test_a_program_ends_while_a_pool_of_ours_is_idle(tmp_path):
    main = "print(json.dumps(maps.run(abs, [-1, 2], workers=workers)))"
    assert run("own processes", "", main, tmp_path, timeout_s=30) == [1, 2]


def test_forked_children_map_with_pools_of_their_own(tmp_path):
    main = """
maps.run(abs, [-1], workers=2)
pid = os.fork()
if not pid:
    ok = maps.run(abs, [-1, -2], workers=2) == [1, 2]
    os._exit(0 if ok else 1)
print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
"""
    assert run("own processes", "", main, tmp_path) == 0

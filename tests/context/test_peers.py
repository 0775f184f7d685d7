"""What breaks in the caches people use today, one test each, which is right here.

Where the peer is installed and its fault shows at once, the test shows that too, so that a peer that was mended is
noticed and its row goes. joblib always is; phy and diskcache are looked at if they are there.
"""

import importlib
import importlib.util
import os
import pickle
import threading
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest

from megalith import Context
from megalith.context import disk
from megalith.context.disk import Memory
from megalith.exceptions import CacheWarning
from megalith.records import encoding_arrays
from megalith.testing.faults import run_python, tmpfs_command

CALLS = []


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


@pytest.fixture
def ours(tmp_path):
    return Memory(tmp_path / "ours", verbose=0)


@pytest.fixture
def theirs(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield joblib.Memory(tmp_path / "theirs", verbose=0)


def peer(name):
    """A module of a peer, None if it is not installed."""
    return importlib.import_module(name) if importlib.util.find_spec(name.partition(".")[0]) else None


# joblib.


def test_closures_over_different_values(ours, theirs):
    def scaled(memory, by):
        def scale(x):
            return by * x

        return memory.cache(scale)

    assert (scaled(theirs, 2)(1), scaled(theirs, 3)(1)) == (2, 2), "joblib gives one's result for the other"
    assert (scaled(ours, 2)(1), scaled(ours, 3)(1)) == (2, 3)


LAMBDAS = """
first, second = memory.cache(lambda x: x + 1), memory.cache(lambda x: x + 2)
print(first(1), second(1), first(1))
"""


def session(directory, memory, code, **files):
    """Run code in a fresh interpreter with a memory; the last line it printed."""
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)
    made = {"ours": "from megalith.context.disk import Memory", "theirs": "from joblib import Memory"}[memory]
    start = f"import pathlib, sys, warnings\nsys.path.insert(0, {str(directory)!r})\nsys.dont_write_bytecode = True\n"
    start += f"warnings.simplefilter('ignore')\n{made}\n"
    start += f"memory = Memory(pathlib.Path({str(directory / memory)!r}), verbose=0)\n"
    return run_python(start + code, directory).check().splitlines()[-1]


@pytest.mark.parametrize(("memory", "said"), [("theirs", "2 2 2"), ("ours", "2 3 2")])
def test_two_lambdas_on_one_line(tmp_path, memory, said):
    assert session(tmp_path, memory, LAMBDAS) == said


@pytest.mark.parametrize(("memory", "said"), [("theirs", "2"), ("ours", "3")])
def test_a_helper_that_was_edited(tmp_path, memory, said):
    code = "from work import work\nprint(memory.cache(work)(1))"
    work = "from helper import help\n\ndef work(x):\n    return help(x)\n"
    helper = "def help(x):\n    return x + 1\n"
    assert session(tmp_path, memory, code, work=work, helper=helper) == "2"
    assert session(tmp_path, memory, code, work=work, helper=helper.replace("1", "2")) == said


@pytest.mark.parametrize(("memory", "said"), [("theirs", "computed"), ("ours", "2")])
def test_a_comment_that_was_edited(tmp_path, memory, said):
    code = "from work import work\nprint(memory.cache(work)(1))"
    work = "def work(x):\n    # One.\n    print('computed', end=' ')\n    return x + 1\n"
    assert session(tmp_path, memory, code, work=work) == "computed 2"
    assert session(tmp_path, memory, code, work=work.replace("One", "Two")).split()[0] == said


@pytest.mark.parametrize(("memory", "said"), [("theirs", "4"), ("ours", "2")])
def test_two_versions_in_turn(tmp_path, memory, said):
    code = "from work import work, N\nresult = memory.cache(work)(1)\nprint(len(N) if N else 0)"
    log = tmp_path / "log"
    work = f"N = []\n\ndef work(x):\n    open({str(log)!r}, 'a').write('.')\n    return x + 1\n"
    for _ in range(2):
        session(tmp_path, memory, code, work=work)
        session(tmp_path, memory, code, work=work.replace("x + 1", "x + 2"))
    assert str(len(log.read_text())) == said


def test_c_and_fortran_order(ours, theirs):
    def total(x):
        CALLS.append(1)
        return float(x.sum())

    x = np.arange(12.0).reshape(3, 4)
    for memory, n_calls in ((theirs, 2), (ours, 1)):
        CALLS.clear()
        cached = memory.cache(total)
        assert cached(x) == cached(np.asfortranarray(x)) == 66
        assert len(CALLS) == n_calls


RACE = """
import multiprocessing, os, time

def slow(x):
    with open(os.environ["COMPUTED"], "a") as file:
        file.write(".")
    time.sleep(1)
    return x + 1

def ask(barrier):
    barrier.wait(30)
    assert memory.cache(slow)(1) == 2

if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(8)
    children = [fork.Process(target=ask, args=(barrier,)) for _ in range(8)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    print([child.exitcode for child in children], len(open(os.environ["COMPUTED"]).read()))
"""


@pytest.mark.parametrize("memory", ["theirs", "ours"])
def test_8_processes_that_ask_for_one_call(tmp_path, memory, monkeypatch):
    monkeypatch.setenv("COMPUTED", str(tmp_path / "computed"))
    codes, n_computed = session(tmp_path, memory, RACE).rsplit(" ", 1)
    assert codes == str([0] * 8)
    assert (int(n_computed) == 1) == (memory == "ours")


FULL = """
import numpy as np

def large(n):
    return np.ones(n)

cached = memory.cache(large, mmap_mode="r")
try:
    print(float(cached(1_000_000).sum()))
except BaseException as error:
    print("lost by", type(error).__name__)
"""


@pytest.mark.parametrize(("memory", "said"), [("theirs", "lost by"), ("ours", "1000000.0")])
def test_a_full_disk_under_mmap_mode(tmp_path, memory, said):
    mount = tmp_path / memory
    mount.mkdir()
    prefix = tmpfs_command(mount, "2m")
    if prefix is None:
        pytest.skip("nobody may mount here")
    made = {"ours": "from megalith.context.disk import Memory", "theirs": "from joblib import Memory"}[memory]
    start = f"import pathlib, warnings\nwarnings.simplefilter('ignore')\n{made}\n"
    start += f"memory = Memory(pathlib.Path({str(mount)!r}), verbose=0)\n"
    child = run_python(start + FULL, tmp_path, prefix=prefix)
    assert child.check().splitlines()[-1].startswith(said)


def test_a_pickle_that_was_planted(ours, theirs):
    for memory in (theirs, ours):
        memory.cache(double)(1)
        for path in Path(memory.store_backend.location).rglob("*"):
            if path.suffix in (".pkl", ".npz"):
                path.write_bytes(pickle.dumps(planted))
        CALLS.clear()
        ran.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            memory.cache(double)(1)
        assert bool(ran) == (memory is theirs)


ran = []


class Planted:
    def __reduce__(self):
        return run_it, ()


def run_it():
    ran.append("ran")


planted = Planted()


def double(x):
    CALLS.append(x)
    return 2 * x


def test_a_limit_of_bytes(tmp_path):
    memory = Memory(tmp_path / "ours", verbose=0, bytes_limit=30_000)
    cached = memory.cache(lambda n: np.zeros(n))
    for n in range(1000, 1020):
        cached(n)
    assert sum(path.stat().st_size for path in (tmp_path / "ours").rglob("*.npz")) <= 30_000
    limited = joblib.Memory(tmp_path / "theirs", verbose=0)
    cached = limited.cache(zeros)
    for n in range(1000, 1020):
        cached(n)
    assert sum(path.stat().st_size for path in (tmp_path / "theirs").rglob("*.pkl")) > 160_000, "joblib has none"


def zeros(n):
    return np.zeros(n)


def test_a_dataframe_whose_strings_are_other_objects(ours):
    pandas = pytest.importorskip("pandas")
    cached = ours.cache(lambda frame: CALLS.append(1) or len(frame))
    for _ in range(3):
        names = ["".join(["a", "b"]), "ab", "c" * 2]
        cached(pandas.DataFrame({"name": names, "value": [1.0, np.nan, 3.0]}))
    assert len(CALLS) == 1
    cached(pandas.DataFrame({"name": ["ab", "ab", "cd"], "value": [1.0, np.nan, 3.0]}))
    assert len(CALLS) == 2


def test_a_list_that_holds_one_object_twice(ours):
    cached = ours.cache(lambda x: CALLS.append(1) or len(x))
    one, other = np.arange(3), np.arange(3)
    text = "".join(["x", "y"])
    assert cached([one, one, text, text]) == cached([one, other, "xy", "".join(["x", "y"])]) == 4
    assert len(CALLS) == 1


def test_equal_numbers_of_other_types_and_nan(ours):
    cached = ours.cache(double)
    results = [cached(x) for x in (1, 1.0, True, np.float32(1), float("nan"), float("nan"), -float("nan"))]
    assert [type(x) for x in results[:4]] == [int, float, int, np.float32]
    assert len(CALLS) == 5


def test_a_function_of_a_notebook_cell(ours):
    source = "def cell(x):\n    return x + 1\n"
    for number in (1, 2):
        space = {"__name__": "__main__"}
        exec(compile(source, f"/tmp/ipykernel_{number}/{number}234.py", "exec"), space)
        cached = ours.cache(space["cell"])
        assert cached.cached(1) == (number == 2)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert cached(1) == 2


def test_single_results_can_be_listed_and_removed(ours):
    cached = ours.cache(double)
    for x in range(3):
        cached(x)
    assert sorted(entry.arguments["x"] for entry in cached.entries()) == ["0", "1", "2"]
    assert cached.forget(1)
    assert [cached.cached(x) for x in range(3)] == [True, False, True]


def test_a_directory_that_may_not_be_written(tmp_path, monkeypatch):
    Memory(tmp_path / "group", verbose=0).cache(double)(1)
    cached = Memory(tmp_path / "group", verbose=0, readonly=True).cache(double)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    for name in ("prepare", "write", "remove"):
        monkeypatch.setattr(disk.Entries, name, refuse)
    assert (cached(1), cached(2)) == (2, 4)
    unwritable = Memory(tmp_path / "group", verbose=0).cache(double)
    with pytest.warns(CacheWarning, match="could not be kept.*Permission denied"):
        assert unwritable(3) == 6


def test_a_result_that_is_passed_on_is_not_hashed_again(tmp_path, monkeypatch):
    hashed = []
    memory = Memory(tmp_path, verbose=0, mmap_mode="r")
    make, use = memory.cache(zeros), memory.cache(lambda x: float(x.sum()))
    content_of = encoding_arrays.content_of
    monkeypatch.setattr(encoding_arrays, "content_of", lambda a, *args: hashed.append(1) or content_of(a, *args))
    x = make(100_000)
    for _ in range(3):
        use(x)
    assert len(hashed) == 1


# phy.


@pytest.fixture
def remembered(tmp_path):
    """Our way to remember a function in memory."""
    return Context(tmp_path / "ours").memcache


def test_keywords_count_in_memory(remembered, tmp_path):
    def power(x, exponent=2):
        return x**exponent

    cached = remembered(power)
    assert (cached(2, exponent=2), cached(2, exponent=3)) == (4, 8)
    if context := phy_context(tmp_path):
        theirs = context.memcache(power)
        assert (theirs(2, exponent=2), theirs(2, exponent=3)) == (4, 4), "phy leaves keywords out"


def phy_context(tmp_path):
    found = peer("phy.utils.context")
    return found and found.Context(tmp_path / "phy")


def test_none_is_remembered(remembered, tmp_path):
    def nothing(x):
        CALLS.append(x)

    cached = remembered(nothing)
    assert (cached(1), cached(1), len(CALLS)) == (None, None, 1)
    if context := phy_context(tmp_path):
        theirs = context.memcache(nothing)
        theirs(1)
        theirs(1)
        assert len(CALLS) == 3, "phy computes None each time"


def test_arrays_are_arguments_in_memory(remembered):
    cached = remembered(lambda x: CALLS.append(1) or float(x.sum()))
    assert (cached(np.ones(3)), cached(np.ones(3)), cached(np.zeros(3))) == (3, 3, 0)
    assert len(CALLS) == 2


def test_two_objects_do_not_share_the_results_of_a_method(tmp_path):
    context = Context(tmp_path)

    class Controller:
        def __init__(self, group):
            self.group = group
            self.amplitudes = context.cache(self.amplitudes, memcache=True)
            self.features = context.memcache(self.features)

        def __getstate__(self):
            return {"group": self.group}

        def amplitudes(self, cluster):
            return self.group * 10 + cluster

        def features(self, cluster):
            return self.group * 100 + cluster

    one, two = Controller(1), Controller(2)
    assert [c.amplitudes(3) for c in (one, two, one)] == [13, 23, 13]
    assert [c.features(3) for c in (one, two, one)] == [103, 203, 103]


def test_results_in_memory_are_bounded(tmp_path):
    cached = Context(tmp_path).memcache(zeros, max_bytes=100_000)
    for n in range(1000, 1100):
        cached(n)
    assert cached.cache_info().bytes <= 100_000


def test_data_that_were_sorted_again_in_place_are_other_data(tmp_path):
    """phy: delete the .phy folder, or see the waveforms of before."""
    context = Context(tmp_path / "context")
    path = tmp_path / "spike_clusters.npy"
    np.save(path, np.array([1, 1, 2, 2] * 10_000))
    counted = context.cache(lambda clusters: int((clusters == 2).sum()), memcache=True)
    assert counted(np.load(path, mmap_mode="r")) == 20_000
    before = path.stat()
    writer = np.load(path, mmap_mode="r+")
    writer[0] = 2
    writer.flush()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert counted(np.load(path, mmap_mode="r")) == 20_001


# diskcache.


def test_threads_that_ask_for_one_call(ours, tmp_path):
    def compute(x):
        CALLS.append(x)
        time.sleep(0.2)
        return x

    def ask_at_once(function):
        CALLS.clear()
        threads = [threading.Thread(target=function, args=(1,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(CALLS)

    assert ask_at_once(ours.cache(compute)) == 1
    if diskcache := peer("diskcache"):
        with diskcache.Cache(tmp_path / "diskcache") as cache:
            assert ask_at_once(cache.memoize()(compute)) > 1, "diskcache computes once for each"


def test_arrays_are_arguments_on_disk_by_content(ours):
    def total(x):
        CALLS.append(1)
        return float(x.sum())

    x = np.arange(20_000.0).reshape(100, 200)
    cached = ours.cache(total)
    wide = np.zeros((200, 400))
    wide[::2, ::2] = x
    assert cached(x) == cached(wide[::2, ::2]) == cached(x.copy("F"))
    assert len(CALLS) == 1


def test_an_edited_function_is_another_one(ours, tmp_path):
    def edited(by):
        space = {"__name__": "__main__"}
        exec(f"def f(x):\n    return x * {by}\n", space)
        return space["f"]

    assert [ours.cache(edited(by))(1) for by in (2, 3, 2)] == [2, 3, 2]
    if diskcache := peer("diskcache"):
        with diskcache.Cache(tmp_path / "diskcache") as cache:
            assert [cache.memoize()(edited(by))(1) for by in (2, 3, 2)] == [2, 2, 2], "diskcache knows its name alone"


def test_the_form_of_a_call_does_not_count(ours):
    def power(x, exponent=2):
        CALLS.append(1)
        return x**exponent

    cached = ours.cache(power)
    assert cached(3) == cached(3, 2) == cached(x=3) == cached(exponent=2, x=3) == 9
    assert len(CALLS) == 1


def test_a_large_result_is_mapped_and_not_copied(tmp_path):
    cached = Memory(tmp_path, verbose=0, mmap_mode="r").cache(zeros)
    cached(1_000_000)
    found = cached(1_000_000)
    assert not found.flags.owndata
    assert isinstance(found, np.memmap)

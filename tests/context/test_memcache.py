"""Functions that remember their results."""

import asyncio
import functools
import gc
import inspect
import itertools
import pickle
import sys
import threading
import time
import types
import warnings
import weakref
from collections import OrderedDict

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megalith import records
from megalith.context import memcache
from megalith.context.keys import FunctionKey
from megalith.context.memcache import Memoized, full_name, load, memoize, save, size_of
from megalith.exceptions import ArgumentError, DTypeError, MegalithWarning
from megalith.testing.faults import kill_when, run_python

ENTRY = Memoized.ENTRY_BYTES


class Counted:
    """Makes functions that count their calls."""

    def __init__(self, directory):
        self.directory = directory
        self.calls = []

    def __call__(self, function, **options):
        calls = self.calls

        @functools.wraps(function)
        def counted(*args, **kwargs):
            calls.append((args, kwargs))
            return function(*args, **kwargs)

        return memoize(counted, self.directory, **options)


@pytest.fixture
def counted(tmp_path):
    return Counted(tmp_path)


def add(a, b=2, *, c=0):
    return a, b, c


# Keys


def test_a_second_call_does_not_compute(counted):
    f = counted(add)
    assert f(1) == f(1) == (1, 2, 0)
    assert len(counted.calls) == 1
    assert f.cache_info()[:3] == (1, 1, 1)


def test_keywords_count(counted):
    f = counted(add)
    assert [f(1), f(1, c=3), f(1, b=5), f(1, c=3)] == [(1, 2, 0), (1, 2, 3), (1, 5, 0), (1, 2, 3)]
    assert len(counted.calls) == 3


def test_all_ways_of_writing_a_call_are_one_entry(counted):
    f = counted(add)
    for _ in range(2):
        for result in (f(1, 2), f(1, b=2), f(b=2, a=1), f(a=1, b=2), f(1), f(1, c=0), f(c=0, b=2, a=1)):
            assert result == (1, 2, 0)
    assert len(counted.calls) == 1
    assert f.cache_info().entries == 1


def test_more_ways_of_writing_a_call_than_are_remembered_are_one_entry(counted):
    f = counted(lambda a, b, c, d: (a, b, c, d))
    for _ in range(2):
        for order in itertools.permutations("abcd"):
            assert f(**{name: ord(name) for name in order}) == (97, 98, 99, 100)
    assert len(counted.calls) == 1


ZOO = [
    1, 1.0, True, np.int64(1), np.float64(1), np.int32(1), np.uint8(1), np.bool_(True), np.float32(1), np.int8(1),
    "1", b"1", (1,), [1], (1.0,), ((1,),), (True,), {1}, frozenset({1}), {1: 1}, 1 + 0j, bytearray(b"1"),
    0, 0.0, False, None, "", b"", (), [], (None,), ((), ()), ("", b""), "None", 2**63, -(2**63), 2**64, -1,
    float("inf"), float("nan"), "\ud800", "é", "x" * 1000, "x" * 999, (("a", "b"), "c"), ("a", ("b", "c")),
    np.array(1), np.array([1]), np.array([1.0]),
]  # fmt: skip


def test_no_two_of_the_zoo_of_arguments_share_an_entry(counted):
    f = counted(lambda value: type(value).__name__)
    for _ in range(2):
        assert [f(value) for value in ZOO] == [type(value).__name__ for value in ZOO]
    assert len(counted.calls) == f.cache_info().entries == len(ZOO)


def test_arguments_that_run_together_are_apart(counted):
    f = counted(lambda *args, **kwargs: (args, kwargs))
    calls = [("ab", "c"), ("a", "bc"), ("abc",), (("ab", "c"),), (("ab",), "c"), ("ab", ("c",))]
    assert [f(*args) for args in calls] == [(args, {}) for args in calls]
    assert f("a", b="c") == (("a",), {"b": "c"})
    assert f("a", "b", "c") == (("a", "b", "c"), {})
    assert f(("b", "c"), a="a") != f("b", "c", a="a")


def test_nan_hits_whatever_its_object(counted):
    f = counted(lambda value: [value])
    assert f(float("nan")) is f(float("nan")) is f(-float("nan"))
    assert f((1, float("nan"))) is f((1, float("nan")))
    assert len(counted.calls) == 2


def test_none_is_a_result(counted):
    f = counted(lambda: None)
    assert f() is f() is None
    assert len(counted.calls) == 1


def test_numbers_and_strings_with_an_equality_of_their_own_are_never_asked(counted):
    class Odd(int):
        def __eq__(self, other):
            raise AssertionError

        __hash__ = None

    class Text(str):
        def __eq__(self, other):
            raise AssertionError

        def __hash__(self):
            raise AssertionError

    f = counted(lambda value: type(value))
    assert [f(1), f("a"), f(Odd(1)), f(Text("a")), f(Odd(2))] == [int, str, Odd, Text, Odd]
    assert len(counted.calls) == 5


def test_arrays_are_told_apart_by_content_at_each_call(counted):
    f = counted(lambda array: float(array.sum()))
    array = np.ones(4)
    assert f(array) == f(np.ones(4)) == 4
    array[0] = 5
    assert f(array) == 8
    assert len(counted.calls) == 2


def test_lists_and_dicts_that_change_are_looked_at_again(counted):
    f = counted(lambda values: len(values))
    values = [1]
    assert f(values) == 1
    values.append(2)
    assert f(values) == 2
    assert f({"a": 1}) == 1
    assert f({"a": 1, "b": 2}) == 2


def test_a_method_of_a_builtin_class_is_a_function_like_others(tmp_path):
    upper = memoize(str.upper, tmp_path)
    assert [upper("a"), upper("a")] == ["A", "A"]
    assert upper.name == "builtins.str.upper"


def test_a_list_inside_of_a_tuple_is_looked_at_again(counted):
    f = counted(lambda values: len(values[0]))
    values = ([1],)
    assert f(values) == 1
    values[0].append(2)
    assert f(values) == 2


HELPED = """
LIMIT = 1
def helper(n):
    return n + LIMIT
def f(n):
    return helper(n)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's own, with a function, a helper and a constant."""
    made = types.ModuleType("helped_by_others")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    exec(HELPED, made.__dict__)
    return made


def test_a_call_that_was_seen_is_computed_again_when_a_helper_or_a_constant_is_another(module, tmp_path):
    f = memoize(module.f, tmp_path)
    assert [f(1), f(2), f(1), f(n=1), f(n=1)] == [2, 3, 2, 2, 2]
    assert f.cache_info().misses == 2
    module.LIMIT = 10
    assert [f(1), f(1), f(n=1), f(2)] == [11, 11, 11, 12]
    old, module.helper = module.helper, lambda n: -n
    assert [f(1), f(n=1), f(2), f(1)] == [-1, -1, -2, -1]
    assert f.cache_info().misses == 6
    module.helper, module.LIMIT = old, 1
    assert [f(1), f(1), f(n=1), f(2)] == [2, 2, 2, 3]
    assert f.cache_info().misses == 6


def test_a_helper_whose_code_is_replaced_in_place_is_noticed(module, tmp_path):
    f = memoize(module.f, tmp_path)
    assert [f(1), f(1)] == [2, 2]
    module.helper.__code__ = (lambda n: n * 100).__code__
    assert [f(1), f(1), f(n=1)] == [100, 100, 100]


@pytest.mark.parametrize(
    "wrap", [lambda f: f, lambda f: functools.wraps(f)(lambda *args, **kwargs: f(*args, **kwargs))]
)
def test_a_default_that_was_changed_in_place_is_noticed(wrap, tmp_path):
    offsets = [1]

    def f(x, by=offsets):
        return x + sum(by)

    f = memoize(wrap(f), tmp_path)
    assert [f(0), f(0)] == [1, 1]
    offsets.append(2)
    assert f(0) == 3


def test_a_method_that_a_class_gets_later_and_another_base_are_noticed(module, tmp_path):
    source = "class A:\n    def run(self): return 1\nclass B:\n    def run(self): return 2\nclass C(A): pass\n"
    exec(source + "def f(x): return C().run()", vars(module))
    f = memoize(module.f, tmp_path)
    assert [f(0), f(0)] == [1, 1]
    module.C.__bases__ = (module.B,)
    assert f(0) == 2
    module.C.run = lambda self: 3
    assert f(0) == 3


def test_a_function_that_is_put_into_a_table_is_noticed(module, tmp_path):
    exec("TABLE = {'a': abs}\ndef f(x): return TABLE['a'](x)", vars(module))
    f = memoize(module.f, tmp_path)
    assert [f(-1), f(-1)] == [1, 1]
    module.TABLE["a"] = float
    assert f(-1) == -1.0


def test_a_result_that_was_begun_before_a_helper_changed_answers_no_later_call(module, tmp_path):
    module.helper = lambda n: __import__("time").sleep(0.2) or n
    f = memoize(module.f, tmp_path)
    thread = threading.Thread(target=f, args=(1,))
    thread.start()
    while f.cache_info().misses == 0:
        time.sleep(0.001)
    module.helper = lambda n: -n
    assert f(1) == -1
    thread.join()
    assert [f(1), f(n=1), f(1)] == [-1, -1, -1]


def test_a_global_that_an_inner_name_hides_later_is_noticed(module, tmp_path):
    exec("def g(n):\n    return abs(n)", module.__dict__)
    g = memoize(module.g, tmp_path)
    assert [g(-1), g(-1)] == [1, 1]
    module.abs = lambda n: n
    assert [g(-1), g(-1)] == [-1, -1]


def test_with_files_to_depend_on_each_call_looks_at_them(tmp_path):
    path = tmp_path / "gain.txt"
    path.write_text("1")

    def scaled(n):
        return n * int(path.read_text())

    f = memoize(scaled, tmp_path / "cache", key=FunctionKey(scaled, depends=[path]))
    assert [f(3), f(3)] == [3, 3]
    path.write_text("20")
    assert [f(3), f(3)] == [60, 60]


def test_arguments_that_are_ignored_do_not_count(tmp_path):
    f = memoize(add, tmp_path, key=FunctionKey(add, ignore=["c"]))
    assert [f(1, c=1), f(1, c=2), f(1, c=2), f(1, 3, c=1)] == [(1, 2, 1)] * 3 + [(1, 3, 1)]


def test_an_argument_that_has_no_key_is_named(tmp_path):
    f = memoize(add, tmp_path)
    with pytest.raises(DTypeError, match=r"args\[1\]"):
        f(1, threading.Lock())


def test_wrong_arguments_raise_what_the_function_raises(counted):
    f = counted(add)
    for _ in range(2):
        with pytest.raises(TypeError):
            f()
        with pytest.raises(TypeError):
            f(1, nothing=2)
    assert f.cache_info().entries == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans()), max_size=30))
def test_any_calls_give_what_the_function_gives(tmp_path_factory, calls):
    f = memoize(add, tmp_path_factory.getbasetemp())
    for name, value, is_positional in calls:
        args = (value,) if is_positional else ()
        kwargs = {} if name == "a" and is_positional else {name: value}
        if not is_positional:
            kwargs.setdefault("a", 7)
        assert f(*args, **kwargs) == add(*args, **kwargs)


# Computing


def test_exceptions_are_not_kept(counted):
    f = counted(lambda value: 1 / value)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            f(0)
    assert len(counted.calls) == 2
    assert f.cache_info().entries == 0


def run_threads(n, work):
    """Run work(i) in n threads at once, and return what they return or raise."""
    barrier, results = threading.Barrier(n), [None] * n

    def body(i):
        barrier.wait()
        try:
            results[i] = work(i)
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=body, args=(i,), daemon=True) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return results


def test_32_threads_on_a_cold_key_compute_once(counted):
    def slow(n):
        time.sleep(0.05)
        return np.arange(n)

    f = counted(slow)
    results = run_threads(32, lambda i: f(5) if i % 2 else f(n=5))
    assert len(counted.calls) == 1
    assert all(result is results[0] for result in results)
    assert f.cache_info()[:3] == (31, 1, 1)


def test_threads_that_wait_are_given_a_result_that_is_too_large_to_keep(counted):
    def slow(n):
        time.sleep(0.1)
        return bytes(n)

    f = counted(slow, max_bytes=1000)
    assert {len(result) for result in run_threads(8, lambda _: f(2000))} == {2000}
    assert len(counted.calls) == 1
    assert f.cache_info().entries == 0


def test_when_the_one_that_computes_raises_the_next_one_computes(counted):
    failures = iter([True, True])

    def fails_twice(_):
        time.sleep(0.05)
        if next(failures, False):
            raise OSError
        return "done"

    f = counted(fails_twice)
    results = run_threads(8, lambda _: f(1))
    assert sorted(map(str, results)) == ["", "", *["done"] * 6]
    assert len(counted.calls) == 3


def test_different_keys_compute_at_the_same_time(counted):
    together = threading.Barrier(4)
    f = counted(lambda i: together.wait(20) is not None and i)
    assert run_threads(4, f) == [0, 1, 2, 3]


# Globals that can change do not count for a key.
BOTH = types.SimpleNamespace(met=threading.Barrier(2), deep=threading.local(), functions={})


def half(name, other):
    BOTH.deep.n = getattr(BOTH.deep, "n", 0) + 1
    if BOTH.deep.n > 1:
        return name
    BOTH.met.wait(20)
    return name + BOTH.functions[other](other, name)


def test_two_threads_that_need_the_key_of_the_other_both_finish(tmp_path):
    BOTH.functions.update(left=memoize(half, tmp_path), right=memoize(half, tmp_path))
    pairs = [("left", "right"), ("right", "left")]
    results = run_threads(2, lambda i: BOTH.functions[pairs[i][0]](*pairs[i]))
    assert [result[:4] for result in results] == ["left", "righ"]


def test_a_recursive_function_remembers_each_step(counted):
    fibonacci = counted(lambda n: n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2))
    assert fibonacci(80) == 23416728348467685
    assert len(counted.calls) == 81


def test_a_function_that_asks_for_its_own_key_computes_it(counted):
    inside = []

    def again(n):
        if not inside:
            inside.append(1)
            return f(n)
        return [n]

    f = counted(again)
    assert f(3) is f(3)
    assert len(counted.calls) == 2


def test_an_interrupt_ends_the_wait_for_another_thread(tmp_path):
    code = f"""
        import _thread, threading, time
        from megalith.context.memcache import memoize
        release = threading.Event()
        started = threading.Event()

        def slow(n):
            started.set()
            release.wait(30)
            return n

        f = memoize(slow, {str(tmp_path)!r})
        thread = threading.Thread(target=f, args=(1,))
        thread.start()
        started.wait()
        threading.Timer(0.3, _thread.interrupt_main).start()
        try:
            f(1)
        except KeyboardInterrupt:
            print("interrupted")
        release.set()
        thread.join()
        print(f(1), f.cache_info().misses)
    """
    assert run_python(code, tmp_path / "code").check().splitlines() == ["interrupted", "1 1"]


def test_a_child_forked_in_the_middle_of_a_computation_does_not_hang(tmp_path):
    code = f"""
        import os, signal, threading, time
        from megalith.context.memcache import memoize
        started, release = threading.Event(), threading.Event()
        parent = os.getpid()

        def slow(n):
            if os.getpid() == parent:
                started.set()
                release.wait(30)
            return n + 1

        f = memoize(slow, {str(tmp_path)!r})
        threads = [threading.Thread(target=f, args=(1,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        time.sleep(0.1)
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                os._exit(0 if f(1) == 2 and f(n=1) == 2 and f(2) == 3 else 1)
            assert os.waitpid(pid, 0)[1] == 0
        release.set()
        for thread in threads:
            thread.join()
        assert f.cache_info()[:3] == (3, 1, 1), f.cache_info()
    """
    run_python(code, tmp_path / "code").check()


def test_a_child_forked_inside_of_the_computation_finishes_it(tmp_path):
    code = f"""
        import os, signal, threading, time
        from megalith.context.memcache import memoize
        waiting = threading.Event()

        def forks(n):
            waiting.wait(10)
            time.sleep(0.1)
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                return "child"
            assert os.waitpid(pid, 0)[1] == 0
            return "parent"

        f = memoize(forks, {str(tmp_path)!r})
        waiters = [threading.Thread(target=lambda: (waiting.set(), f(1))) for _ in range(3)]
        for waiter in waiters:
            threading.Timer(0.2, waiter.start).start()
        result = f(1)
        if result == "child":
            os._exit(0 if f(1) == "child" else 1)
        print(result, f(1))
    """
    assert run_python(code, tmp_path / "code").check() == "parent parent\n"


# Results


def test_an_array_is_given_out_read_only_and_the_same_each_time(counted):
    f = counted(np.arange)
    first = f(5)
    assert f(5) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 7
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        first.flags.writeable = True


def test_a_fresh_array_is_not_copied(tmp_path):
    addresses = []

    def fresh(n):
        array = np.arange(n)
        addresses.append(array.ctypes.data)
        return array

    f = memoize(fresh, tmp_path)
    assert f(1000).ctypes.data == addresses[0]


def test_a_view_of_a_fresh_array_is_not_copied_and_counts_all_of_it(tmp_path):
    f = memoize(lambda n: np.zeros((n, 2)).T[:1], tmp_path)
    assert not f(1000).flags.owndata
    assert f(1000).base.nbytes == 16000
    assert f.cache_info().bytes == 16000 + ENTRY
    assert not f(1000).base.flags.writeable


def test_an_argument_that_is_returned_is_copied(tmp_path):
    f = memoize(lambda array, part=None: array if part is None else array[part], tmp_path)
    source = np.ones(4)
    whole, part = f(source), f(source, part=2)
    sliced = memoize(lambda array: array[1:], tmp_path)(source)
    source[:] = 9
    assert whole.tolist() == [1, 1, 1, 1]
    assert sliced.tolist() == [1, 1, 1]
    assert part == 1
    assert source.flags.writeable


def test_a_buffer_that_the_function_uses_again_is_copied(tmp_path):
    buffer = np.zeros(3)

    def reuse(n):
        buffer[:] = n
        return buffer

    f = memoize(reuse, tmp_path)
    assert [f(1).tolist(), f(2).tolist(), f(1).tolist()] == [[1, 1, 1], [2, 2, 2], [1, 1, 1]]


def test_an_array_over_memory_of_others_is_copied(tmp_path):
    memory = bytearray(8)
    f = memoize(lambda n: np.frombuffer(memory, np.uint8, n), tmp_path)
    result = f(8)
    memory[0] = 5
    assert result[0] == f(8)[0] == 0


def test_a_read_only_mapping_stays_a_mapping(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(1000))
    f = memoize(lambda mode: np.load(tmp_path / "a.npy", mmap_mode=mode), tmp_path)
    assert isinstance(f("r"), np.memmap)
    writable = f("r+")
    assert not writable.flags.writeable
    np.load(tmp_path / "a.npy", mmap_mode="r+")[0] = 5
    assert writable[0] == f("r+")[0] == 0


def test_arrays_without_axes_and_subclasses_keep_their_type(tmp_path):
    f = memoize(lambda n: np.array(n), tmp_path)
    assert f(3).shape == ()
    masked = memoize(lambda n: np.ma.array([1, n], mask=[0, 1]), tmp_path)(2)
    assert isinstance(masked, np.ma.MaskedArray)
    assert masked.mask.tolist() == [False, True]


def test_arrays_in_containers_cannot_be_changed(tmp_path):
    given = np.zeros(3)
    f = memoize(lambda array: {"a": array, "b": [(array, 1)], "c": Thing(array)}, tmp_path)
    found = f(given)
    given[0] = 7
    assert f(np.zeros(3)) is found
    assert found["a"][0] == found["b"][0][0][0] == 0
    assert not found["a"].flags.writeable
    assert not found["b"][0][0].flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        found["a"][0] = 1


class Thing:
    def __init__(self, array):
        self.array = array


def test_containers_without_arrays_stay_the_very_objects(tmp_path):
    made = {"a": [1, (2, "x")]}
    f = memoize(lambda n: made, tmp_path)
    assert f(3) is f(3) is made


@pytest.mark.parametrize(
    ("value", "nbytes"),
    [
        (np.zeros(1000), 8000),
        (np.zeros(1000)[::2], 8000),
        (np.zeros((10, 100)).T.reshape(-1, order="F"), 8000),
        (bytes(1000), 1033),
        ([np.zeros(1000), np.zeros(1000)], 16000),
        ({"a": (np.zeros(1000), "b")}, 8000),
    ],
)
def test_results_are_measured(value, nbytes):
    assert nbytes <= size_of(value) <= nbytes + 500


def test_what_stands_twice_in_a_result_is_measured_once():
    array = np.zeros(1000)
    assert size_of([array, array, array[5:]]) < 8200
    loop = []
    loop.append(loop)
    assert size_of(loop) < 200


def test_attributes_of_objects_are_measured():
    class Model:
        def __init__(self):
            self.weights = np.zeros(1000)

    assert size_of(Model()) > 8000


def test_a_result_that_cannot_be_measured_is_not_lost(tmp_path):
    class Odd:
        def __sizeof__(self):
            raise RuntimeError

    f = memoize(lambda n: Odd(), tmp_path)
    assert f(1) is f(1)


# Bounds


def test_the_least_recently_used_leaves_first(counted):
    f = counted(lambda n: bytes(1000), max_bytes=3 * (1033 + ENTRY))
    for n in (1, 2, 3, 1, 4):
        f(n)
    del counted.calls[:]
    for n in (1, 3, 4):
        f(n)
    assert counted.calls == []
    f(2)
    assert len(counted.calls) == 1
    assert f.cache_info().entries == 3


def test_a_result_larger_than_the_bound_is_given_and_leaves_the_others(counted):
    f = counted(lambda n: bytes(n), max_bytes=5000)
    f(100)
    assert len(f(6000)) == 6000
    assert f.cache_info().entries == 1
    f(100)
    assert len(counted.calls) == 2


def test_without_a_bound_all_stays(counted):
    f = counted(lambda n: bytes(n), max_bytes=None)
    for n in range(1000):
        f(n)
    info = f.cache_info()
    assert (info.entries, info.max_bytes) == (1000, None)


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=200), st.integers(600, 20000))
def test_any_calls_leave_what_a_naive_model_holds(tmp_path_factory, calls, max_bytes):
    computed, model, n_computed = [], OrderedDict(), 0

    def sized(n):
        computed.append(n)
        return bytes(400 * n)

    f = memoize(sized, tmp_path_factory.getbasetemp() / "model", max_bytes=max_bytes)
    for n, is_keyword in calls:
        assert len(f(n=n) if is_keyword else f(n)) == 400 * n
        size = 400 * n + 33 + ENTRY
        if n in model:
            model.move_to_end(n)
        else:
            n_computed += 1
            if size <= max_bytes:
                while sum(model.values()) + size > max_bytes:
                    model.popitem(last=False)
                model[n] = size
        info = f.cache_info()
        assert (info.entries, info.bytes, info.misses) == (len(model), sum(model.values()), n_computed)
    assert [len(value) // 400 for _, value in f._entries()] == list(model)


def test_results_that_left_stay_with_those_who_hold_them(tmp_path):
    f = memoize(np.arange, tmp_path, max_bytes=1000)
    held = f(10)
    for n in range(20, 50):
        f(n)
    assert held.tolist() == list(range(10))


def test_what_leaves_may_call_the_function_as_it_dies(tmp_path):
    class Dying:
        def __del__(self):
            f(-1)

    f = memoize(lambda n: Dying() if n >= 0 else n, tmp_path, max_bytes=2000)
    for n in range(50):
        f(n)
    f.clear()
    assert f(-1) == -1


def test_clear_forgets(counted):
    f = counted(add)
    f(1)
    f.clear()
    assert f.cache_info()[:4] == (0, 0, 0, 0)
    f(1)
    assert len(counted.calls) == 2


def test_what_was_begun_before_a_clear_is_not_kept(tmp_path):
    f = memoize(lambda n: time.sleep(0.2) or n, tmp_path)
    thread = threading.Thread(target=f, args=(1,))
    thread.start()
    while f.cache_info().misses == 0:
        time.sleep(0.001)
    f.clear()
    thread.join()
    assert f.cache_info().entries == 0


def test_a_function_nobody_holds_is_collected_with_its_results(tmp_path):
    class Result:
        pass

    def make():
        f = memoize(lambda n: f and Result(), tmp_path)
        return weakref.ref(f(1)), weakref.ref(f)

    references = make()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_threads_that_call_and_clear_and_evict_at_once_get_right_results(tmp_path):
    f = memoize(lambda n: bytes([n]) * 100, tmp_path, max_bytes=5000)

    def work(i):
        for k in range(400):
            n = (i * 7 + k * k) % 23
            assert f(n) == bytes([n]) * 100
            if k % 100 == 99:
                f.clear()
        return True

    assert run_threads(8, work) == [True] * 8
    assert f.cache_info().bytes <= 5000


# The wrapper


def test_the_wrapper_looks_like_the_function(tmp_path):
    def documented(a, b=2, *, c: int = 0) -> tuple:
        """Give a tuple."""

    f = memoize(documented, tmp_path)
    assert (f.__name__, f.__doc__, f.__wrapped__) == ("documented", "Give a tuple.", documented)
    assert inspect.signature(f) == inspect.signature(documented)
    assert f.name == f"{__name__}.{documented.__qualname__}"


def test_attributes_of_the_function_are_the_wrappers_too(tmp_path):
    def annotated(n):
        return n + 1

    annotated.unit, annotated._key, annotated._keys = "mV", 3, 5
    f = memoize(annotated, tmp_path)
    assert (f.unit, f(1), f(1), f.cache_info().hits) == ("mV", 2, 2, 1)


def test_methods_are_told_apart_by_what_self_holds(tmp_path):
    calls = []

    class Model:
        def __init__(self, scale):
            self.scale = scale

        def apply(self, value):
            """Scale."""
            calls.append(value)
            return self.scale * value

        apply = memoize(apply, tmp_path)

    one, two = Model(1), Model(2)
    assert [one.apply(3), two.apply(3), one.apply(3), Model(2).apply(value=3)] == [3, 6, 3, 6]
    assert len(calls) == 2
    one.scale = 5
    assert one.apply(3) == 15
    assert Model.apply.__doc__ == "Scale."


def test_partials_and_callable_objects_are_wrapped(tmp_path):
    f = memoize(functools.partial(add, b=5), tmp_path)
    assert f(1) == f(1) == (1, 5, 0)
    assert f.name == full_name(add)

    class Adder:
        def __call__(self, a):
            return a + 1

    assert memoize(Adder(), tmp_path)(2) == 3
    assert memoize(pow, tmp_path)(2, 3) == 8


@pytest.mark.parametrize("max_bytes", [0, -1, 2.5, "1", True])
def test_bounds_that_are_none_are_refused(tmp_path, max_bytes):
    with pytest.raises(ArgumentError, match="max_bytes"):
        memoize(add, tmp_path, max_bytes=max_bytes)


def test_what_cannot_be_called_or_read_twice_is_refused(tmp_path):
    def generator():
        yield 1

    for wrong in (3, generator):
        with pytest.raises(ArgumentError, match="function"):
            memoize(wrong, tmp_path)


def test_of_coroutine_functions_the_awaited_result_is_kept(tmp_path):
    calls = []

    async def slow(n):
        calls.append(n)
        await asyncio.sleep(0.01)
        if n < 0:
            raise OSError
        return np.arange(n)

    f = memoize(slow, tmp_path)

    async def main():
        results = await asyncio.gather(*(f(3) for _ in range(10)), f(n=3))
        failed = await asyncio.gather(*(f(-1) for _ in range(3)), return_exceptions=True)
        return results, failed

    assert asyncio.iscoroutinefunction(f)
    results, failed = asyncio.run(main())
    assert all(result is results[0] for result in results)
    assert [type(error) for error in failed] == [OSError] * 3
    assert calls == [3, -1, -1, -1]
    assert asyncio.run(f(3)) is results[0]
    assert not results[0].flags.writeable


def test_coroutines_that_need_each_other_both_finish(tmp_path):
    async def one(n):
        await asyncio.sleep(0.01)
        return await two_(n - 1) if n else "one"

    async def two(n):
        await asyncio.sleep(0.01)
        return await one_(n - 1) if n else "two"

    one_, two_ = memoize(one, tmp_path), memoize(two, tmp_path)

    async def main():
        return await asyncio.wait_for(asyncio.gather(one_(2), two_(3), one_(1), two_(2)), 20)

    assert asyncio.run(main()) == ["one", "one", "two", "two"]


def test_when_the_coroutine_that_computes_is_cancelled_the_next_one_computes(tmp_path):
    async def slow(n):
        await asyncio.sleep(0.05)
        return n

    f = memoize(slow, tmp_path)

    async def main():
        first, second = asyncio.create_task(f(1)), asyncio.create_task(f(1))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert asyncio.run(main()) == 1
    assert f.cache_info().misses == 2


# Copies


def test_a_copy_in_a_worker_works_and_starts_empty(tmp_path):
    f = memoize(lambda n: n + 1, tmp_path, max_bytes=10000)
    f(1)
    save([f])
    copy = cloudpickle.loads(cloudpickle.dumps(f))
    assert copy.cache_info() == (0, 0, 0, 0, 10000)
    assert copy(1) == 2
    assert copy.name == f.name


def test_functions_of_modules_are_pickled_by_name(tmp_path, monkeypatch):
    (tmp_path / "memoized_module.py").write_text(
        "import tempfile\nfrom megalith.context.memcache import memoize\n"
        "f = None\ndef f(n):\n    return n + 1\nf = memoize(f, tempfile.gettempdir())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import memoized_module

    assert pickle.loads(pickle.dumps(memoized_module.f)) is memoized_module.f
    assert cloudpickle.loads(cloudpickle.dumps(memoized_module.f)) is memoized_module.f


def test_a_function_under_another_name_than_its_wrapper_is_pickled(tmp_path):
    f = memoize(add, tmp_path)
    assert pickle.loads(pickle.dumps(f))(1) == (1, 2, 0)


# Files


def squares(n, scale=1.0):
    return {"values": np.arange(n) ** 2 * scale, "n": n}


def test_saved_results_are_there_when_the_function_is_wrapped_again(tmp_path):
    f = memoize(squares, tmp_path)
    f(3), f(4, scale=2.0)
    assert save([f]) == [f.path]
    again = memoize(squares, tmp_path)
    assert again(scale=2.0, n=4)["values"].tolist() == [0, 2, 8, 18]
    assert again(3)["n"] == 3
    assert again.cache_info()[:3] == (2, 0, 2)


def test_saved_results_keep_their_order_of_use_and_their_types(tmp_path):
    values = [None, True, 2**70, "a", (1, [2.5]), np.float32(3), np.arange(3), {1: float("inf")}]
    f = memoize(lambda i: values[i], tmp_path)
    for i in (7, 6, 5, 4, 3, 2, 1, 0):
        f(i)
    save([f])
    again = memoize(f.__wrapped__, tmp_path)
    loaded = [again(i) for i in range(8)]
    assert [type(value) for value in loaded] == [type(value) for value in values]
    assert repr(loaded) == repr(values)
    assert again.cache_info().misses == 0
    with pytest.raises(ValueError, match="read-only"):
        again(6)[0] = 1


def test_results_of_another_version_of_a_function_are_not_loaded(tmp_path):
    namespace = {"__name__": "some_module"}
    exec("def f(n):\n    return n + 1", namespace)
    old = memoize(namespace["f"], tmp_path)
    assert old(1) == 2
    save([old])
    exec("def f(n):\n    return n + 2", namespace)
    new = memoize(namespace["f"], tmp_path)
    assert new.path == old.path
    assert new.cache_info().entries == 0
    assert new(1) == 3


def test_functions_of_one_name_share_a_file_and_keep_their_results(tmp_path):
    def make(step):
        return memoize(lambda n: n + step, tmp_path)

    one, two = make(1), make(2)
    assert (one(1), two(1)) == (2, 3)
    assert save([one, two]) == [one.path]
    one, two = make(1), make(2)
    assert (one(1), two(1), one.cache_info().misses, two.cache_info().misses) == (2, 3, 0, 0)


def test_a_function_that_was_not_called_leaves_its_file(tmp_path):
    f = memoize(squares, tmp_path)
    f(3)
    save([f])
    save([memoize(squares, tmp_path)])
    again = memoize(squares, tmp_path)
    assert again.cache_info().entries == 1
    again.clear()
    save([again])
    assert memoize(squares, tmp_path).cache_info().entries == 0


def test_what_records_cannot_keep_is_left_out_with_one_warning(tmp_path):
    f = memoize(lambda n: {n} if n % 2 else n, tmp_path)
    for n in range(6):
        f(n)
    with pytest.warns(MegalithWarning, match="3 results cannot be saved") as caught:
        save([f])
    assert len(caught) == 1
    assert full_name(f.__wrapped__) in str(caught[0].message)
    again = memoize(f.__wrapped__, tmp_path)
    assert [again(n) for n in (0, 2, 4)] == [0, 2, 4]
    assert again.cache_info().misses == 0


def test_load_reads_the_file_of_a_name_again(tmp_path):
    f, other = memoize(squares, tmp_path), memoize(squares, tmp_path)
    other.cache_info()
    f(3)
    save([f])
    assert load(f.name, tmp_path) == 2  # both of this name
    assert other(3)["n"] == 3
    assert other.cache_info().misses == 0
    assert load("no.such.function", tmp_path) == 0
    assert load(f.name, tmp_path / "elsewhere") == 0


def test_loaded_results_respect_the_bound(tmp_path):
    f = memoize(np.arange, tmp_path)
    for n in range(100, 110):
        f(n)
    save([f])
    small = memoize(np.arange, tmp_path, max_bytes=3 * (8 * 110 + ENTRY))
    assert small.cache_info().entries == 3
    small(109)
    assert small.cache_info().misses == 0


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "another record", "a pickle"])
def test_a_damaged_file_gives_one_warning_and_is_set_aside(tmp_path, damage):
    f = memoize(squares, tmp_path)
    f(3)
    save([f])
    content = bytearray(f.path.read_bytes())
    if damage == "truncated":
        f.path.write_bytes(content[:-30])
    elif damage == "flipped":
        content[content.index(np.arange(3.0).tobytes()[8:16])] ^= 1
        f.path.write_bytes(content)
    elif damage == "empty":
        f.path.write_bytes(b"")
    elif damage == "another record":
        records.save(f.path, {"format": memcache.FORMAT, "version": 1, "functions": {"x": [["y"]]}})
    else:
        f.path.write_bytes(pickle.dumps({"a": Bomb()}))
    again = memoize(squares, tmp_path)
    with pytest.warns(MegalithWarning, match="cannot be read") as caught:
        assert again(3)["n"] == 3
    assert len(caught) == 1
    assert [path.name for path in tmp_path.iterdir()] == [f.path.name + ".damaged"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert again.load() == 0
        save([again])
    assert memoize(squares, tmp_path).cache_info().entries == 1


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("code of a file was executed",)


@pytest.mark.parametrize("name", ["a.f", "a.<locals>.<lambda>", "..", "a/../../b", "ü", "x" * 1000, "A.f", "a.%f"])
def test_names_of_files_are_safe_and_apart(tmp_path, name):
    made = memcache.file_name(name)
    assert (tmp_path / made).parent == tmp_path
    assert len(made) < 256
    assert not made.startswith(".")
    (tmp_path / made).write_text("")
    others = {memcache.file_name(other) for other in ("a.f", "b", "a.f%", "x" * 999, "a.%3clocals") if other != name}
    assert made not in others


def test_a_kill_while_saving_leaves_the_old_file_or_the_new_one(tmp_path):
    code = f"""
        import numpy as np
        from megalith.context.memcache import memoize, save

        def f(n):
            return np.full(200_000, n)

        f = memoize(f, {str(tmp_path / "cache")!r})
        for n in range(5):
            f(n)
        save([f])
        print("saved", flush=True)
        for n in range(5, 10**6):
            f(n)
            save([f])
    """
    for delay_s in (0.0, 0.013, 0.031, 0.057):
        kill_when(code, tmp_path / "code", "saved", delay_s=delay_s)
        (path,) = [path for path in (tmp_path / "cache").iterdir() if path.suffix == ".npz"]
        (entries,) = records.load(path, verify=True)["functions"].values()
        assert sorted(value[0] for _, value in entries) == list(range(len(entries)))
        assert len(entries) >= 5


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    f = memoize(squares, tmp_path)
    f(3)
    save([f])
    before = f.path.read_bytes()
    f(4)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.Plan, "write", full)
    with pytest.raises(OSError, match="No space"):
        save([f])
    assert f.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [f.path.name]


def test_directories_are_for_the_user_alone(tmp_path):
    f = memoize(squares, tmp_path / "cache" / "memcache")
    f(3)
    save([f])
    assert f.path.parent.stat().st_mode & 0o077 == 0
    assert f.path.stat().st_mode & 0o077 == 0


def test_importing_it_does_not_import_joblib_or_asyncio(tmp_path):
    code = """
        import sys
        import megalith.context.memcache
        print(sorted({"joblib", "asyncio"} & set(sys.modules)))
    """
    assert run_python(code, tmp_path).check() == "[]\n"

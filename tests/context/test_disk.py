"""`megalith.context.disk`: what `Memory` and the functions it caches promise, as their users meet it."""

import asyncio
import datetime
import functools
import gc
import mmap
import os
import pickle
import re
import sys
import threading
import time
import types
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest

from megalith import Context
from megalith.context import entries, memorized
from megalith.context.disk import Memory, expires_after
from megalith.exceptions import ArgumentError, CacheWarning, DTypeError, KeyMissingError
from megalith.records import digest, encoding_arrays

CALLS = []
"""What the functions of these tests were called with. A list is no constant, so it is no part of any key."""


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


@pytest.fixture
def memory(tmp_path):
    return Memory(tmp_path / "cache", verbose=0)


def add(x, y=1):
    CALLS.append((x, y))
    return x + y


def total(x):
    CALLS.append(x)
    return float(np.sum(x))


def give(name):
    """The result of a name in RESULTS; a key of its own stands for what it is."""
    CALLS.append(name)
    return RESULTS[name]


def ramp(n):
    CALLS.append(n)
    return np.arange(n, dtype=np.float64)


def files(memory):
    return sorted(Path(memory.store_backend.location).rglob("*.npz"))


def mapping_of(array):
    """The mmap that an array shows, None if it shows none."""
    base = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) else None


def same(found, expected):
    """Whether two results are the same to the bit, types, order in memory and all; a mapped array is an array."""
    if type(found) is not type(expected) and not (type(found) is np.memmap and type(expected) is np.ndarray):
        return False
    if isinstance(expected, np.ndarray):
        return (
            found.dtype == expected.dtype
            and found.shape == expected.shape
            and found.flags.f_contiguous == expected.flags.f_contiguous
            and found.tobytes() == expected.tobytes()
        )
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[name], expected[name]) for name in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, np.generic):
        return found.dtype == expected.dtype and found.tobytes() == expected.tobytes()
    return found == expected or (found != found and expected != expected)


# Methods of a cached function.


def test_the_second_call_is_answered_from_disk(memory):
    cached = memory.cache(add)
    assert (cached(2), cached(2), cached(2, y=1), cached(y=1, x=2)) == (3, 3, 3, 3)
    assert CALLS == [(2, 1)]


def test_another_memory_on_the_same_directory_has_the_results(memory, tmp_path):
    memory.cache(add)(2)
    assert Memory(tmp_path / "cache", verbose=0).cache(add)(2) == 3
    assert len(CALLS) == 1


def test_cached_and_check_call_in_cache_say_what_a_call_would_do(memory):
    cached = memory.cache(add)
    assert not cached.cached(2)
    assert not cached.check_call_in_cache(2)
    cached(2)
    assert cached.cached(2)
    assert cached.check_call_in_cache(x=2, y=1)
    assert not cached.cached(2, 2)
    assert CALLS == [(2, 1)]


def test_forget_removes_one_result_and_says_whether_there_was_one(memory):
    cached = memory.cache(add)
    cached(2)
    cached(3)
    assert cached.forget(2)
    assert not cached.forget(2)
    assert not cached.cached(2)
    assert cached.cached(3)


def test_call_computes_again_and_replaces_what_is_there(memory):
    cached = memory.cache(now)
    CALLS.append("first")
    assert cached(0) == "first"
    CALLS.append("second")
    output, about = cached.call(0)
    assert output == "second"
    assert about["input_args"] == {"x": "0"}
    assert cached(0) == "second"


def now(x):
    return CALLS[-1]


def test_call_and_shelve_refers_to_a_result_that_is_read_when_asked_for(memory):
    cached = memory.cache(ramp)
    shelved = cached.call_and_shelve(4)
    assert np.array_equal(shelved.get(), np.arange(4.0))
    assert np.array_equal(pickle.loads(pickle.dumps(shelved)).get(), np.arange(4.0))
    assert cached.call_and_shelve(4).duration == shelved.duration
    assert CALLS == [4]
    shelved.clear()
    assert not cached.cached(4)
    with pytest.raises(KeyError, match="may have been cleared"):
        shelved.get()


def test_call_and_shelve_of_what_cannot_be_kept_holds_the_result(memory):
    cached = memory.cache(lambda x: {x, x + 1})
    with pytest.warns(CacheWarning, match="allow_pickle"):
        shelved = cached.call_and_shelve(1)
    assert shelved.get() == {1, 2}


def test_clear_of_a_function_leaves_other_functions(memory):
    cached, other = memory.cache(add), memory.cache(total)
    cached(1)
    other(2)
    cached.clear(warn=False)
    assert (cached.cached(1), other.cached(2)) == (False, True)
    assert cached(1) == 2


def test_clear_of_a_memory_removes_all(memory):
    cached, other = memory.cache(add), memory.cache(total)
    cached(1)
    other(2)
    memory.clear(warn=False)
    assert files(memory) == []
    assert (cached(1), other(2)) == (2, 2.0)


def test_entries_tell_what_is_known_of_each_result(memory):
    cached = memory.cache(add)
    before = time.time()
    cached(2)
    cached(np.zeros((2, 3), "f4"), y=[5])
    (latest, first) = cached.entries()
    assert latest.arguments == {"x": "ndarray((2, 3), float32)", "y": "[5]"}
    assert first.arguments == {"x": "2", "y": "1"}
    assert before - 1 < first.time < time.time() + 1
    assert first.last_use >= int(before)
    assert first.duration >= 0
    assert first.host == os.uname().nodename
    assert first.is_current
    assert first.nbytes == Path(first.path).stat().st_size
    assert Path(first.path).stem == first.key


def test_entries_list_results_of_older_versions_and_say_so(memory):
    make = functools.partial(compiled, name="f")
    memory.cache(make("def f(x): return x"))(1)
    cached = memory.cache(make("def f(x): return x + 0"))
    cached(1)
    assert sorted(entry.is_current for entry in cached.entries()) == [False, True]


def compiled(source, name="f", **space):
    """A function made from source, as a cell of a notebook makes one."""
    space.setdefault("__name__", "__main__")
    exec(compile(source, "<ipython-input-1-abc>", "exec"), space)
    return space[name]


def test_eval_calls_a_function_with_the_options_it_was_cached_with(memory):
    cached = memory.cache(add, ignore=["y"])
    assert memory.eval(add, 1, y=1) == 2
    assert memory.eval(add, 1, y=7) == 2
    assert cached.cached(1, 3)
    assert memory.eval(total, [1, 2]) == 3.0
    assert memory.eval(total, [1, 2]) == 3.0
    assert CALLS == [(1, 1), [1, 2]]


def test_without_a_location_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cached = Memory(None, verbose=0).cache(add)
    assert cached(1) == cached(1) == 2
    assert len(CALLS) == 2
    assert cached.call_and_shelve(1).get() == 2
    assert list(tmp_path.iterdir()) == []


# explain.


def test_explain_says_that_there_is_no_result_of_a_function(memory):
    assert memory.cache(add).explain(1) == (False, "no result of this function is there")


def test_explain_says_when_where_and_how_long_a_result_was_computed(memory):
    cached = memory.cache(add)
    cached(1)
    found = cached.explain(1)
    assert found.hit is True
    assert re.fullmatch(
        rf"computed at {time.strftime('%Y-%m-%d')} [\d:]+ in \S+ s on {os.uname().nodename}", found.reason
    )


def test_explain_names_the_arguments_that_differ(memory):
    cached = memory.cache(add)
    cached(1, 2)
    hit, reason = cached.explain(1, 3)
    assert not hit
    assert reason == "not computed with these arguments; compared with the last one used: y=3 (was 2)"


def test_explain_does_not_tell_addresses_apart(memory):
    cls = decorated(memory)
    cls(1).fit(3)
    assert cls(1).fit.explain(4).reason.endswith("with the last one used: x=4 (was 3)")


def test_explain_says_when_arguments_look_alike(memory):
    cached = memory.cache(total)
    cached(np.zeros(100))
    assert "look alike but are not" in cached.explain(np.ones(100)).reason


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("def f(x): return x", "def f(x): return x + 1", "code"),
        ("def f(x, y=1): return x", "def f(x, y=2): return x", "default 'y'"),
        ("K = 1\ndef f(x): return x + K", "K = 2\ndef f(x): return x + K", "constant global '__main__.K'"),
        (
            "def h(x): return x\ndef f(x): return h(x)",
            "def h(x): return -x\ndef f(x): return h(x)",
            "global '__main__.h'",
        ),
        ("def f(x): return x", "def h(x): return x\ndef f(x): return h(x)", "global '__main__.h'"),
    ],
)
def test_explain_names_what_changed_in_the_function(memory, before, after, named):
    options = {"key": lambda x, *rest, **kwargs: x} if "y=" in before else {}
    memory.cache(compiled(before), **options)(1)
    hit, reason = memory.cache(compiled(after), **options).explain(1)
    assert not hit
    assert reason.startswith("the function has changed: ")
    assert named in reason


def test_explain_names_a_closure_that_changed(memory):
    def scaled(by):
        def scale(x):
            return x * by

        return scale

    memory.cache(scaled(2))(1)
    assert memory.cache(scaled(3)).explain(1) == (False, "the function has changed: closure 'by'")


def test_explain_names_versions_and_dependencies_that_changed(memory, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("1")
    memory.cache(add, version=1, depends=[table])(1)
    table.write_text("2")
    assert memory.cache(add, version=1, depends=[table]).explain(1).reason == "the function has changed: depends[0]"
    table.write_text("1")
    assert memory.cache(add, version=2, depends=[table]).explain(1).reason == "the function has changed: version"


def test_explain_says_that_both_function_and_arguments_are_others(memory):
    memory.cache(compiled("def f(x): return x"))(1)
    hit, reason = memory.cache(compiled("def f(x): return x + 1")).explain(2)
    assert not hit
    assert reason == "not computed with these arguments, and the function has changed since its last result"


def test_explain_prefers_the_version_that_was_used_last(memory):
    first = memory.cache(compiled("def f(x): return x"))
    second = memory.cache(compiled("def f(x, y=1): return x"), key=lambda x, y=1: x)
    first(1)
    second(1)
    assert "the function has changed" in memory.cache(compiled("def f(x): return -x")).explain(1).reason


def test_explain_and_cached_say_that_a_result_is_damaged(memory):
    cached = memory.cache(add)
    cached(1)
    files(memory)[0].write_bytes(b"garbage")
    hit, reason = cached.explain(1)
    assert not hit
    assert reason.startswith("a result is there but damaged, so it is computed again: ")
    assert not cached.cached(1)


def test_explain_says_that_a_callback_refuses_the_result(memory):
    memory.cache(add)(1)
    cached = memory.cache(add, cache_validation_callback=lambda about: False)
    hit, reason = cached.explain(1)
    assert not hit
    assert reason.endswith("but cache_validation_callback refuses it")
    assert files(memory), "explain removes nothing"


def test_explain_says_that_a_result_is_a_pickle(memory):
    memory.cache(two_sets, allow_pickle=True)(1)
    hit, reason = memory.cache(two_sets).explain(1)
    assert not hit
    assert reason.endswith("but it is a pickle; allow_pickle=True reads it")


def test_explain_finds_results_below(memory, tmp_path):
    memory.cache(add)(1)
    above = Memory(tmp_path / "mine", verbose=0, below=memory).cache(add)
    assert above.explain(1).hit
    assert above.explain(2).reason.endswith("x=2 (was 1)")


def test_explain_computes_nothing_and_leaves_all_as_it_is(memory):
    cached = memory.cache(add)
    cached(1)
    before = [(path, path.stat().st_mtime_ns) for path in Path(memory.store_backend.location).rglob("*")]
    cached.explain(1)
    cached.explain(2)
    assert [(path, path.stat().st_mtime_ns) for path in Path(memory.store_backend.location).rglob("*")] == before
    assert CALLS == [(1, 1)]


# Validation and limits.


def test_a_result_that_the_callback_refuses_is_computed_again(memory):
    answers = []
    cached = memory.cache(add, cache_validation_callback=lambda about: answers.pop())
    cached(1)
    answers.append(True)
    cached(1)
    assert len(CALLS) == 1
    answers.extend([False])
    cached(1)
    assert len(CALLS) == 2
    answers.append(False)
    assert not cached.check_call_in_cache(1)


def test_the_callback_sees_duration_time_and_arguments(memory):
    seen = []
    cached = memory.cache(add, cache_validation_callback=lambda about: seen.append(about) or True)
    cached(1, y=2)
    cached(1, y=2)
    (about,) = seen
    assert about["input_args"] == {"x": "1", "y": "2"}
    assert about["duration"] >= 0
    assert abs(about["time"] - time.time()) < 60


def test_results_expire(memory):
    cached = memory.cache(add, cache_validation_callback=expires_after(hours=1))
    cached(1)
    assert cached.cached(1)
    impatient = memory.cache(add, cache_validation_callback=expires_after(microseconds=1))
    assert not impatient.cached(1)
    impatient(1)
    assert len(CALLS) == 2


def test_reduce_size_by_bytes_leaves_what_was_used_last(memory):
    cached = memory.cache(ramp)
    for n in (1000, 1001, 1002):
        cached(n)
    use_at(memory, cached, {1000: 300, 1001: 100, 1002: 200})
    memory.reduce_size(bytes_limit=18_500)
    assert [cached.cached(n) for n in (1000, 1001, 1002)] == [True, False, True]


def use_at(memory, cached, seconds):
    """Let results have been used last at a time."""
    for n, used in seconds.items():
        path = Path(memory.store_backend.path((cached.func_id, cached._get_args_id(n))))
        os.utime(path, (used, path.stat().st_mtime))


def test_reduce_size_by_items_and_by_age(memory):
    cached = memory.cache(ramp)
    for n in range(5):
        cached(n)
    use_at(memory, cached, {0: 100, 1: 200, 2: 300})
    memory.reduce_size(items_limit=3)
    assert [cached.cached(n) for n in range(5)] == [False, False, True, True, True]
    memory.reduce_size(age_limit=datetime.timedelta(days=1))
    assert [cached.cached(n) for n in range(5)] == [False, False, False, True, True]


def test_a_hit_is_a_use(memory):
    cached = memory.cache(ramp)
    cached(1)
    cached(2)
    use_at(memory, cached, {1: 100, 2: 200})
    cached(1)
    memory.reduce_size(items_limit=1)
    assert [cached.cached(n) for n in (1, 2)] == [True, False]


def test_a_look_is_no_use(memory):
    cached = memory.cache(ramp)
    cached(1)
    use_at(memory, cached, {1: 100})
    cached.cached(1)
    cached.explain(1)
    cached.explain(2)
    (entry,) = cached.entries()
    assert entry.last_use == 100


def test_a_limit_of_bytes_is_kept_after_each_call(tmp_path):
    memory = Memory(tmp_path, verbose=0, bytes_limit="64K")
    cached = memory.cache(ramp)
    for n in range(1000, 1030):
        cached(n)
        assert sum(path.stat().st_size for path in files(memory)) <= 64 * 1024
    assert cached.cached(1029)
    assert not cached.cached(1000)
    assert len(files(memory)) >= 6


def test_a_result_larger_than_the_limit_is_returned_with_a_warning_and_others_stay(tmp_path):
    memory = Memory(tmp_path, verbose=0, bytes_limit=20_000)
    cached = memory.cache(ramp)
    cached(1000)
    with pytest.warns(CacheWarning, match="the limit for all is 20,000"):
        assert len(cached(10_000)) == 10_000
    assert cached.cached(1000)


def test_a_limit_of_age_removes_what_nobody_uses(tmp_path):
    memory = Memory(tmp_path, verbose=0, age_limit=datetime.timedelta(hours=1))
    cached = memory.cache(ramp)
    cached(1)
    cached(2)
    use_at(memory, cached, {1: time.time() - 7200})
    Memory(tmp_path, verbose=0, age_limit=datetime.timedelta(hours=1)).cache(ramp)(3)
    assert [cached.cached(n) for n in (1, 2, 3)] == [False, True, True]


def test_an_array_stays_with_who_has_it_mapped_when_its_result_goes(memory):
    cached = memory.cache(ramp, mmap_mode="r")
    mapped = cached(1000)
    assert mapping_of(mapped) is not None
    memory.reduce_size(bytes_limit=0)
    assert files(memory) == []
    assert np.array_equal(mapped, np.arange(1000.0))


@pytest.mark.parametrize(
    ("option", "value"),
    [("bytes_limit", -1), ("age_limit", datetime.timedelta(-1)), ("mmap_mode", "rw"), ("backend", "nowhere")],
)
def test_options_that_make_no_sense_are_errors(tmp_path, option, value):
    with pytest.raises((ArgumentError, TypeError), match=option if option != "backend" else "nowhere"):
        Memory(tmp_path, verbose=0, **{option: value})


# Options.


def test_arguments_that_are_ignored_do_not_count(memory):
    cached = memory.cache(add, ignore=["y"])
    assert (cached(1, 1), cached(1, y=5), cached(2, 5)) == (2, 2, 7)


def test_an_unknown_argument_to_ignore_is_an_error_that_lists_those_there_are(memory):
    with pytest.raises(ValueError, match="'z'; there are x, y"):
        memory.cache(add, ignore=["z"])


def test_a_version_stands_for_the_code(memory):
    first = memory.cache(compiled("def f(x): return x"), version=1)
    same_version = memory.cache(compiled("def f(x): return -x"), version=1)
    other = memory.cache(compiled("def f(x): return -x"), version=2)
    assert (first(1), same_version(1), other(1), first(1)) == (1, 1, -1, 1)


def test_a_file_to_depend_on_counts_by_content_at_each_call(memory, tmp_path):
    path = tmp_path / "weights.txt"
    path.write_text("one")
    cached = memory.cache(compiled("def f(x): return PATH.read_text()", PATH=path), depends=[path])
    assert cached(0) == "one"
    path.write_text("two")
    assert cached(0) == "two"
    path.write_text("one")
    assert cached.cached(0)


def test_a_key_of_ones_own_stands_for_the_arguments(memory):
    cached = memory.cache(add, key=lambda x, y=1: round(x, 1))
    assert cached(1.01) == cached(1.04, y=100) == 2.01
    assert cached(1.2) == 2.2


def test_verbose_says_what_is_computed_and_what_is_loaded(tmp_path, capsys):
    cached = Memory(tmp_path, verbose=2).cache(add)
    cached(1)
    said = capsys.readouterr().out
    assert "add" in said
    assert "[Memory] Calling" in said
    cached(1)
    assert "Loading" in capsys.readouterr().out
    Memory(tmp_path, verbose=0).cache(add)(2)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("mmap_mode", ["r", "c", "r+", "w+"])
def test_mmap_modes_map_small_results_too(tmp_path, mmap_mode):
    cached = Memory(tmp_path, verbose=0, mmap_mode=mmap_mode).cache(ramp)
    for _ in range(2):
        found = cached(10)
        assert mapping_of(found) is not None
        assert np.array_equal(found, np.arange(10.0))
        assert found.flags.writeable == (mmap_mode != "r")
        if mmap_mode != "r":
            found[:] = -1  # only in this process
    assert CALLS == [10]


def test_a_mode_of_mapping_can_be_set_for_one_function(memory):
    assert mapping_of(memory.cache(ramp, mmap_mode="r")(10)) is not None
    assert mapping_of(memory.cache(ramp)(10)) is None


# What can be cached.


class Model:
    def __init__(self, rate):
        self.rate = rate

    def fit(self, x):
        CALLS.append((self.rate, x))
        return self.rate * x


def decorated(memory, **options):
    class Model:
        def __init__(self, rate):
            self.rate = rate

        @memory.cache(**options)
        def fit(self, x):
            """Fit it."""
            CALLS.append((self.rate, x))
            return self.rate * x

        @classmethod
        @memory.cache
        def make(cls, x):
            CALLS.append(x)
            return x + 1

        @staticmethod
        @memory.cache
        def scale(x):
            CALLS.append(x)
            return 2 * x

    return Model


def test_methods_count_what_self_holds(memory):
    cls = decorated(memory)
    one, two = cls(1), cls(2)
    assert (one.fit(3), two.fit(3), cls(1).fit(3)) == (3, 6, 3)
    assert CALLS == [(1, 3), (2, 3)]
    assert one.fit.cached(3)
    assert not one.fit.cached(4)
    assert one.fit.explain(3).hit
    assert "x=4 (was 3)" in one.fit.explain(4).reason
    assert one.fit.forget(3)
    assert not one.fit.cached(3)
    assert two.fit.cached(3)
    assert len(two.fit.entries()) == 1
    assert "Fit it." in two.fit.__doc__
    assert two.fit.call(3)[0] == 6
    assert two.fit.call_and_shelve(3).get() == 6


def test_self_can_be_ignored(memory):
    cls = decorated(memory, ignore=["self"])
    assert (cls(1).fit(3), cls(2).fit(3)) == (3, 3)


def test_class_methods_and_static_methods(memory):
    cls = decorated(memory)
    assert (cls.make(1), cls(5).make(1), cls.scale(4), cls(5).scale(4)) == (2, 2, 8, 8)
    assert CALLS == [1, 4]


def test_a_bound_method_can_be_cached_from_outside(memory):
    model = Model(2)
    model.fit = memory.cache(model.fit)
    assert (model.fit(3), model.fit(3)) == (6, 6)
    assert CALLS == [(2, 3)]
    other = memory.cache(Model(5).fit)
    assert other(3) == 15
    assert other.explain(3).hit


def test_self_of_a_bound_method_can_be_ignored(memory):
    first, second = (memory.cache(Model(rate).fit, ignore=["self"]) for rate in (2, 3))
    assert (first(1), second(1)) == (2, 2)


class Recipe:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        CALLS.append(x)
        return self.factor * x


def test_partials_callable_objects_and_builtins_can_be_cached(memory):
    double = memory.cache(functools.partial(add, y=5))
    assert (double(1), double(1), memory.cache(functools.partial(add, y=6))(1)) == (6, 6, 7)
    assert (memory.cache(Recipe(2))(4), memory.cache(Recipe(2))(4), memory.cache(Recipe(3))(4)) == (8, 8, 12)
    assert CALLS == [(1, 5), (1, 6), 4, 4]
    power = memory.cache(pow)
    assert (power(2, 10), power.cached(2, 10), power(2, 10)) == (1024, True, 1024)
    mean = memory.cache(np.mean)
    assert (mean([1, 2]), mean.cached([1, 2])) == (1.5, True)
    assert mean([1, 2]).dtype == mean([1, 2]).dtype == np.float64


def test_a_cached_function_looks_like_the_function(memory):
    cached = memory.cache(add)
    assert (cached.__name__, cached.__module__) == ("add", __name__)
    assert cached.func is add


def test_coroutine_functions_are_awaited(memory):
    async def fetch(x):
        CALLS.append(x)
        await asyncio.sleep(0)
        return x + 1

    cached = memory.cache(fetch)

    async def main():
        assert not cached.cached(1)
        assert await cached(1) == 2
        assert await cached(1) == 2
        assert cached.cached(1)
        assert (await cached.call(1))[0] == 2
        assert (await cached.call_and_shelve(1)).get() == 2
        assert (await cached.call_and_shelve(7)).get() == 8
        assert cached.explain(1).hit
        assert cached.forget(1)
        assert await asyncio.gather(*[cached(5) for _ in range(10)]) == [6] * 10

    asyncio.run(main())
    assert CALLS == [1, 1, 7, 5]


def test_coroutine_methods_are_awaited(memory):
    class Client:
        @memory.cache
        async def fetch(self, x):
            CALLS.append(x)
            return x + 1

    async def main():
        client = Client()
        assert await client.fetch(1) == await client.fetch(1) == 2
        assert client.fetch.cached(1)

    asyncio.run(main())
    assert CALLS == [1]


def test_exceptions_are_raised_and_not_kept(memory):
    cached = memory.cache(fails_at_first)
    with pytest.raises(ZeroDivisionError):
        cached(1)
    assert not cached.cached(1)
    assert cached(1) == 1


def fails_at_first(x):
    CALLS.append(x)
    if len(CALLS) == 1:
        raise ZeroDivisionError
    return x


def test_a_recursive_function_keeps_each_step(memory):
    @memory.cache
    def factorial(n):
        CALLS.append(n)
        return n * factorial(n - 1) if n else 1

    assert factorial(20) == 2432902008176640000
    assert factorial(15) == 1307674368000
    assert len(CALLS) == 21


def test_threads_that_ask_for_one_call_compute_once(memory):
    cached = memory.cache(slow)
    threads = [threading.Thread(target=cached, args=(1,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert CALLS == [1]


def slow(x):
    CALLS.append(x)
    time.sleep(0.2)
    return x


# Results.


RESULTS = {
    **{f"array of {dtype}": np.array([0, 1, 1], dtype) for dtype in (
        "?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", ">i4", ">f8", "S3", "U2",
        "M8[ns]", "M8[D]", "m8[s]", "V5",
    ) if dtype not in ("S3", "U2", "V5")},
    "bytes in an array": np.array([b"ab", b"c\0d"], "S3"),
    "text in an array": np.array(["ab", "ü"], "U2"),
    "void": np.frombuffer(b"0123456789", "V5"),
    "structured": np.array([(1, 2.5, b"x")], [("id", "u1"), ("weight", "f8"), ("name", "S4")]),
    "NaN, infinities and a negative zero": np.array([np.nan, np.inf, -np.inf, -0.0]),
    "Fortran order": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "three axes": np.arange(24).reshape(2, 3, 4),
    "no axes": np.array(3.5),
    "empty": np.zeros((0, 3), "f4"),
    "tuple": (np.arange(3), np.eye(2), 1),
    "list of lists": [[1, 2.0], [], [None, True]],
    "dict": {"a": np.arange(3), "b": {"c": [1, (2, "x")]}},
    "None": None,
    "True": True,
    "integer": 5,
    "integer beyond 2**53": 2**53 + 1,
    "integer beyond 2**64": -(2**100),
    "float": 0.1,
    "NaN": float("nan"),
    "infinity": float("-inf"),
    "text": "a ü\n\"\\",
    "empty text": "",
    "NumPy integer": np.int16(-3),
    "NumPy float": np.float32(0.1),
    "NumPy bool": np.bool_(True),
    "NumPy complex": np.complex64(1j),
    "NumPy date": np.datetime64("2026-01-02T03:04:05"),
    "empty tuple": (),
    "empty dict": {},
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_comes_back_to_the_bit(memory, name):
    cached = memory.cache(give)
    assert same(cached(name), RESULTS[name])
    assert same(cached(name), RESULTS[name])
    assert same(cached.call_and_shelve(name).get(), RESULTS[name])
    assert [name] == CALLS


@pytest.mark.parametrize("mmap_mode", ["r", "c"])
@pytest.mark.parametrize("name", RESULTS)
def test_a_mapped_result_comes_back_to_the_bit(memory, name, mmap_mode):
    cached = memory.cache(give, mmap_mode=mmap_mode)
    assert same(cached(name), RESULTS[name])
    assert same(cached(name), RESULTS[name])
    assert [name] == CALLS


def test_none_is_a_result_like_others(memory):
    cached = memory.cache(nothing)
    assert (cached(1), cached(1)) == (None, None)
    assert CALLS == [1]


def nothing(x):
    CALLS.append(x)


def two_sets(x):
    CALLS.append(x)
    return [{x}, frozenset([x])]


def test_a_result_that_cannot_be_recorded_is_returned_with_one_warning_and_not_kept(memory):
    cached = memory.cache(two_sets)
    with pytest.warns(CacheWarning, match=r"two_sets is returned but not kept.*set.*allow_pickle=True") as warned:
        assert cached(1) == [{1}, frozenset([1])]
    assert cached(1) == [{1}, frozenset([1])]
    assert [str(Path(one.filename).name) for one in warned] == ["test_disk.py"]
    assert CALLS == [1, 1]
    assert files(memory) == []


def test_a_result_that_cannot_be_recorded_is_kept_where_pickles_are_allowed(memory):
    cached = memory.cache(two_sets, allow_pickle=True)
    for _ in range(2):
        assert cached(1) == [{1}, frozenset([1])]
    assert CALLS == [1]
    assert cached.explain(1).hit


def test_a_decorated_function_of_a_module_is_pickled_by_name(memory, monkeypatch):
    module = types.ModuleType("decorated_module")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec("def f(x): return x", vars(module))
    module.f = memory.cache(module.f)
    assert pickle.loads(pickle.dumps(module.f)) is module.f


def test_a_cached_function_as_an_argument_counts_by_its_code(tmp_path, monkeypatch):
    module = types.ModuleType("decorated_module")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for wrap in (Memory(tmp_path, verbose=0).cache, Context(tmp_path).memcache, functools.lru_cache):
        digests = set()
        for source in ("def f(x): return x", "def f(x): return -x", "def f(x): return x  # the same"):
            exec(source, vars(module))
            module.f = wrap(module.f)
            digests.add(digest(module.f))
        assert len(digests) == 2


def test_pickles_may_be_allowed_for_a_whole_memory(tmp_path):
    memory = Memory(tmp_path, verbose=0, allow_pickle=True)
    cached = memory.cache(lambda x: lambda y: x + y)
    assert cached(1)(2) == cached(1)(2) == 3
    refusing = memory.cache(two_sets, allow_pickle=False)
    with pytest.warns(CacheWarning, match="not kept"):
        refusing(1)


def test_a_pickle_that_is_there_is_no_hit_without_leave(memory):
    memory.cache(two_sets, allow_pickle=True)(1)
    cached = memory.cache(two_sets)
    assert (cached.explain(1).hit, cached.cached(1), cached.check_call_in_cache(1)) == (False, False, False)
    with pytest.warns(CacheWarning, match="not kept"):
        assert cached.call_and_shelve(1).get() == [{1}, frozenset([1])]
    cached = memory.cache(two_sets)
    with pytest.warns(CacheWarning, match="not kept"):
        assert cached(1) == [{1}, frozenset([1])]
    assert len(CALLS) == 3


def test_what_cannot_be_pickled_is_returned_with_a_warning(memory):
    cached = memory.cache(lambda x: (n for n in range(x)), allow_pickle=True)
    with pytest.warns(CacheWarning, match="cannot be pickled"):
        assert list(cached(3)) == [0, 1, 2]


def test_small_results_are_writable_copies_of_their_own(memory):
    cached = memory.cache(ramp)
    first = cached(5)
    first[:] = -1
    second = cached(5)
    assert second.flags.writeable
    assert mapping_of(second) is None
    second[:] = -2
    assert np.array_equal(cached(5), np.arange(5.0))
    assert CALLS == [5]


def test_large_results_are_mapped_read_only_from_the_first_call_on(memory, monkeypatch):
    monkeypatch.setattr(entries, "MAP_FROM", 8000)
    monkeypatch.setattr(memorized, "MAP_FROM", 8000)
    cached = memory.cache(ramp)
    for _ in range(2):
        large = cached(1000)
        assert mapping_of(large) is not None
        assert not large.flags.writeable
        small = cached(999)
        assert mapping_of(small) is None
        assert small.flags.writeable
    assert CALLS == [1000, 999]


def test_large_arrays_inside_of_a_result_are_mapped_and_small_ones_are_not(memory, monkeypatch):
    monkeypatch.setattr(entries, "MAP_FROM", 8000)
    monkeypatch.setattr(memorized, "MAP_FROM", 8000)
    cached = memory.cache(lambda n: {"large": np.arange(float(n)), "small": [np.arange(3)], "n": n})
    kinds = [
        [(type(a), a.flags.writeable, mapping_of(a) is None) for a in (found["large"], found["small"][0])]
        for found in (cached(1000), cached(1000), cached(1000))
    ]
    assert kinds[0] == kinds[1] == kinds[2] == [(np.memmap, False, False), (np.ndarray, True, True)]


def test_call_gives_the_same_kind_of_thing_as_a_hit(memory, monkeypatch):
    monkeypatch.setattr(entries, "MAP_FROM", 8000)
    monkeypatch.setattr(memorized, "MAP_FROM", 8000)
    cached = memory.cache(ramp)
    assert mapping_of(cached.call(1000)[0]) is not None
    assert mapping_of(cached.call(1000)[0]) is not None
    assert mapping_of(cached.call_and_shelve(1000).get()) is not None


class Metres(np.ndarray):
    """An array with a unit, as astropy has them."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.arange(20.0)[::2],
        lambda: np.arange(20.0).reshape(4, 5)[:, 1:3],
        lambda: np.arange(20.0)[::-1],
        lambda: np.broadcast_to(np.float64(1), (3, 4)),
        lambda: np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
        lambda: np.zeros(3, [("a", "f8"), ("b", "i4")])["b"],
        lambda: np.ma.masked_array([1.0, 2.0], [True, False]),
        lambda: np.eye(2).view(Metres),
        lambda: np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    ],
    ids=["step", "window", "reversed", "broadcast", "transposed", "field", "masked", "units", "records"],
)
def test_views_and_subclasses_come_back_as_what_they_were(memory, make):
    cached = memory.cache(make, allow_pickle=True)
    first, second = cached(), cached()
    assert type(second) is type(first)
    assert second.dtype == first.dtype
    assert np.array_equal(np.asarray(second), np.asarray(make()))
    assert np.array_equal(np.ma.getmaskarray(second), np.ma.getmaskarray(make()))


@pytest.mark.parametrize("make", [lambda: np.eye(2).view(Metres), lambda: [np.rec.array([(1, 2.0)])]])
def test_a_subclass_of_arrays_is_not_kept_as_a_plain_array(memory, make):
    cached = memory.cache(make)
    with pytest.warns(CacheWarning, match="would come back as a plain array"):
        first = cached()
    assert type(cached()) is type(first)
    assert files(memory) == []


def test_a_result_that_is_a_memmap_is_kept(memory, tmp_path):
    path = tmp_path / "data.npy"
    np.save(path, np.arange(10.0))
    cached = memory.cache(lambda: np.load(path, mmap_mode="r+"))
    first = cached()
    assert np.array_equal(first, np.arange(10.0))
    path.unlink()
    assert np.array_equal(cached(), np.arange(10.0))


def test_a_result_that_is_an_argument_is_kept_and_given_back(memory):
    cached = memory.cache(lambda x: x)
    x = np.arange(5)
    assert cached(x) is not None
    found = cached(x)
    found[:] = 0
    assert np.array_equal(x, np.arange(5))
    assert np.array_equal(cached(np.arange(5)), np.arange(5))


# Arguments.


def test_a_function_that_changes_its_argument_keeps_the_result_under_what_it_was_given(memory):
    def zeroed(x):
        CALLS.append(1)
        result = x.sum()
        x[:] = 0
        return result

    cached = memory.cache(zeroed)
    x = np.arange(5)
    assert cached(x) == 10
    assert cached.cached(np.arange(5))
    assert not cached.cached(x)
    assert cached(np.arange(5)) == 10
    assert cached(x) == 0
    assert len(CALLS) == 2


def test_a_list_that_the_function_changes_is_shown_as_it_was(memory):
    def popped(x):
        return x.pop()

    cached = memory.cache(popped)
    assert cached([1, 2, 3]) == 3
    (entry,) = cached.entries()
    assert entry.arguments == {"x": "[1, 2, 3]"}


def test_arrays_of_one_content_are_one_argument(memory, tmp_path):
    cached = memory.cache(total)
    data = np.arange(60.0).reshape(6, 10)
    np.save(tmp_path / "data.npy", data)
    frozen = data.copy()
    frozen.flags.writeable = False
    wide = np.zeros((12, 30))
    wide[::2, ::3] = data
    forms = [
        data,
        np.asfortranarray(data),
        wide[::2, ::3],
        data[::-1, ::-1].copy()[::-1, ::-1],
        frozen,
        np.load(tmp_path / "data.npy", mmap_mode="r"),
        np.load(tmp_path / "data.npy", mmap_mode="r+"),
        np.load(tmp_path / "data.npy", mmap_mode="c"),
    ]
    assert {cached(form) for form in forms} == {data.sum()}
    assert len(CALLS) == 1


def test_arrays_of_other_shape_or_type_are_other_arguments(memory):
    cached = memory.cache(total)
    forms = [np.arange(6), np.arange(6).reshape(2, 3), np.arange(6.0), np.arange(6, dtype=">i8"), list(range(6))]
    for form in forms:
        cached(form)
    assert len(CALLS) == len(forms)


def test_a_memmap_that_was_written_through_is_another_argument(memory, tmp_path):
    path = tmp_path / "data.npy"
    np.save(path, np.zeros(100_000))
    mapped = np.load(path, mmap_mode="r+")
    cached = memory.cache(total)
    assert (cached(mapped), cached(mapped)) == (0, 0)
    before = path.stat()
    mapped[7] = 1
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cached(mapped) == 1
    assert cached(np.load(path, mmap_mode="r")) == 1
    reader = np.load(path, mmap_mode="r")
    mapped[8] = 1
    assert cached(reader) == 2
    assert len(CALLS) == 3


def test_what_has_no_content_is_named_by_its_place(memory):
    cached = memory.cache(add)
    with pytest.raises(DTypeError, match=re.escape("args[0]['model'][1]")):
        cached({"model": [1, threading.Lock()]})


def test_wrong_arguments_raise_before_anything_is_computed(memory):
    cached = memory.cache(add)
    for check in (cached, cached.explain, cached.cached, cached.forget, cached.call, cached.call_and_shelve):
        with pytest.raises((TypeError, ValueError), match="z"):
            check(1, z=2)
    assert CALLS == []


# Results of calls as arguments of others.


@pytest.fixture
def hashed(monkeypatch):
    """Numbers of elements of the arrays that are really read for a digest."""
    sizes = []
    content_of = encoding_arrays.content_of

    def spy(array, *args):
        sizes.append(array.size)
        return content_of(array, *args)

    monkeypatch.setattr(encoding_arrays, "content_of", spy)
    return sizes


def test_a_mapped_result_is_hashed_once_as_an_argument(memory, hashed):
    make, use = memory.cache(ramp, mmap_mode="r"), memory.cache(total)
    make(100_000)
    time.sleep(0.1)  # a file that was made just now may be another one with the same times
    x = make(100_000)
    for _ in range(5):
        assert use(x) == use(make(100_000))
    assert hashed == [100_000]
    assert len(CALLS) == 2


def test_hits_between_do_not_make_it_be_hashed_again(memory, hashed):
    make, use = memory.cache(ramp, mmap_mode="r"), memory.cache(total)
    make(100_000)
    time.sleep(0.1)
    kept = []
    for _ in range(4):
        time.sleep(0.02)  # so that each hit sets another time of use
        kept.append(make(100_000))
        use(kept[-1])
        use(kept[0])
    assert hashed == [100_000]


def test_a_result_is_hashed_once_as_long_as_it_is_held_however_new_it_is(memory, hashed):
    make, use = memory.cache(ramp, mmap_mode="r"), memory.cache(total)
    x = make(100_000)
    for _ in range(3):
        use(x)
        make(100_000)
    assert hashed == [100_000]


def test_hits_of_results_at_rest_never_hash_again(memory, hashed):
    make, use = memory.cache(ramp, mmap_mode="r"), memory.cache(total)
    use(make(100_000))
    (path,) = [path for path in files(memory) if "ramp" in str(path)]
    os.utime(path, (100, 100))  # written long ago
    use(make(100_000))
    hashed.clear()
    for _ in range(3):
        time.sleep(0.02)
        use(make(100_000))
        gc.collect()
    assert hashed == []


def test_a_result_that_was_replaced_is_another_argument(memory):
    @memory.cache(mmap_mode="r")
    def latest(x):
        return np.full(100_000, float(len(CALLS)))

    use = memory.cache(total)
    use(latest(1))
    first = use(latest(1))
    latest.call(1)
    assert use(latest(1)) != first


def test_a_private_mapping_that_was_changed_is_hashed(memory):
    make, use = memory.cache(ramp, mmap_mode="c"), memory.cache(total)
    x = make(100_000)
    before = use(x)
    x[0] = 5
    assert use(x) == before + 5


# The directory.


def test_a_location_that_is_a_string_has_its_results_below_joblib_as_in_joblib(tmp_path):
    Memory(str(tmp_path / "a"), verbose=0).cache(add)(1)
    Memory(tmp_path / "b", verbose=0).cache(add)(1)
    assert (tmp_path / "a" / "joblib").is_dir()
    assert not (tmp_path / "b" / "joblib").exists()
    assert (tmp_path / "a" / ".gitignore").read_text().endswith("*\n")


def test_a_home_directory_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Memory("~/cache", verbose=0).cache(add)(1)
    assert (tmp_path / "cache" / "joblib").is_dir()


def test_directories_and_files_are_for_the_user_alone(memory, tmp_path):
    memory.cache(add)(1)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "cache").rglob("*") if path.is_dir()}
    assert modes == {0o700}
    assert {path.stat().st_mode & 0o777 for path in files(memory)} == {0o600}


def test_a_group_may_read_where_it_is_given_leave(tmp_path):
    memory = Memory(tmp_path / "shared", verbose=0, mode=0o640)
    memory.cache(add)(1)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in files(memory)} == {0o640}


def test_a_readonly_memory_reads_and_never_writes(memory, tmp_path):
    memory.cache(add)(1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    cached = Memory(tmp_path / "cache", verbose=0, readonly=True).cache(add)
    assert (cached(1), cached(2), cached(2)) == (2, 3, 3)
    assert CALLS == [(1, 1), (2, 1), (2, 1)]
    with pytest.raises(ArgumentError, match="readonly"):
        cached.forget(1)
    cached.clear(warn=False)
    assert cached.cached(1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")} == before


def test_results_below_are_used_and_new_ones_are_written_above(memory, tmp_path):
    memory.cache(add)(1)
    above = Memory(tmp_path / "mine", verbose=0, below=tmp_path / "cache")
    cached = above.cache(add)
    assert (cached(1), cached(2)) == (2, 3)
    assert CALLS == [(1, 1), (2, 1)]
    assert len(files(above)) == len(files(memory)) == 1
    assert not memory.cache(add).cached(2)


def test_a_memory_and_its_functions_pickle(memory):
    cached = memory.cache(add)
    cached(1)
    again, function = pickle.loads(pickle.dumps((memory, cached)))
    assert function(1) == again.cache(add)(1) == 2
    assert len(CALLS) == 1


def test_the_classes_of_joblib_are_those_of_ours(memory):
    cached = memory.cache(add)
    assert isinstance(memory, joblib.Memory)
    assert isinstance(cached, joblib.memory.MemorizedFunc)
    assert isinstance(cached.call_and_shelve(1), joblib.memory.MemorizedResult)


def test_missing_results_of_a_reference_say_where_they_were(memory):
    shelved = memory.cache(add).call_and_shelve(1)
    memory.clear(warn=False)
    with pytest.raises(KeyMissingError, match=re.escape(str(memory.store_backend.location))):
        shelved.get()


def test_a_damaged_result_is_set_aside_with_one_warning_and_computed_again(memory):
    cached = memory.cache(ramp)
    cached(100)
    (path,) = files(memory)
    data = bytearray(path.read_bytes())
    data[-300] ^= 1
    path.write_bytes(data)
    with pytest.warns(CacheWarning) as warned:
        assert np.array_equal(cached(100), np.arange(100.0))
    assert len(warned) == 1
    assert np.array_equal(cached(100), np.arange(100.0))
    assert CALLS == [100, 100]


def test_a_result_that_cannot_be_read_is_computed_and_stays(memory, monkeypatch):
    cached = memory.cache(add)
    cached(1)

    def busy(*args, **kwargs):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(entries, "open_record", busy)
        with pytest.warns(CacheWarning, match="Too many open files"):
            assert cached(1) == 2
    assert cached(1) == 2
    assert len(CALLS) == 2


def test_a_pickle_of_what_is_gone_is_computed_again_and_replaced(memory):
    memory.cache(vanishing, allow_pickle=True)(1)
    cached = memory.cache(vanishing, allow_pickle=True)
    CALLS.append("gone")
    with pytest.warns(CacheWarning, match="vanished"):
        assert cached(1) == {1}
    assert cached(1) == {1}
    assert len(CALLS) == 3


class Vanishing:
    def __reduce__(self):
        return revive, ()


def revive():
    raise ImportError("vanished")


def vanishing(x):
    CALLS.append(x)
    return Vanishing() if len(CALLS) == 1 else {x}


def test_a_result_that_the_callback_refuses_below_is_computed_above(memory, tmp_path):
    memory.cache(add)(1)
    above = Memory(tmp_path / "mine", verbose=0, below=memory)
    cached = above.cache(add, cache_validation_callback=lambda about: False)
    assert cached(1) == 2
    assert len(CALLS) == 2
    assert len(files(memory)) == len(files(above)) == 1


def test_a_coroutine_whose_result_is_a_pickle_that_may_not_be_read_computes(memory):
    async def sets(x):
        CALLS.append(x)
        return {x}

    asyncio.run(memory.cache(sets, allow_pickle=True)(1))
    with pytest.warns(CacheWarning, match="not kept"):
        assert asyncio.run(memory.cache(sets)(1)) == {1}


def test_a_memory_below_is_not_written_even_where_it_could_be(memory, tmp_path):
    cached = memory.cache(ramp)
    cached(100)
    use_at(memory, cached, {100: 100})
    above = Memory(tmp_path / "mine", verbose=0, below=memory).cache(ramp)
    assert len(above(100)) == 100
    (entry,) = cached.entries()
    assert entry.last_use < time.time()
    (path,) = files(memory)
    path.write_bytes(b"garbage")
    with pytest.warns(CacheWarning, match="computed again"):
        assert len(above(100)) == 100
    assert path.read_bytes() == b"garbage"
    assert len(above(100)) == 100
    assert CALLS == [100, 100]


def test_what_cannot_be_below_is_an_error(tmp_path):
    with pytest.raises(ArgumentError, match="below"):
        Memory(tmp_path, verbose=0, below=joblib.Memory(tmp_path / "theirs", verbose=0))
    assert Memory(tmp_path, verbose=0, below=Memory(None)).cache(add)(1) == 2


def test_a_directory_that_cannot_be_made_gives_one_warning_for_each_result(tmp_path):
    (tmp_path / "file").write_text("")
    cached = Memory(tmp_path / "file" / "cache", verbose=0).cache(add)
    for x in (1, 2):
        with pytest.warns(CacheWarning, match="is returned but could not be kept") as warned:
            assert cached(x) == x + 1
        assert len(warned) == 1


def test_a_function_that_asks_for_its_own_result_computes(memory):
    @memory.cache
    def again(x):
        CALLS.append(x)
        return again(x) if len(CALLS) == 1 else x + 1

    assert (again(1), again(1), len(CALLS)) == (2, 2, 2)


def test_many_mapped_results_can_be_held(memory):
    cached = memory.cache(ramp, mmap_mode="r")
    held = [cached(n) for n in range(1, 50)]
    memory.clear(warn=False)
    assert [len(array) for array in held] == list(range(1, 50))
    assert all(np.array_equal(array, np.arange(len(array))) for array in held)


def test_results_that_are_one_array_in_two_places_share_it_again(memory):
    @memory.cache
    def pair(n):
        x = np.arange(n)
        return x, [x, {"again": x}]

    pair(3)
    first, (second, third) = pair(3)
    assert first is second is third["again"]


def test_clearing_while_others_compute_loses_no_result(memory):
    cached = memory.cache(slow)
    found = []
    threads = [threading.Thread(target=lambda i=i: found.append(quiet(cached, i))) for i in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        memory.clear(warn=False)
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 2, 3]


def quiet(function, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args)


def test_arguments_may_have_any_name(memory):
    def named(self, func, args=0, kwargs=0):
        return self + func + args + kwargs

    cached = memory.cache(named)
    assert cached(self=1, func=2, args=3, kwargs=4) == 10
    assert cached.explain(self=1, func=2, args=3, kwargs=4).hit
    assert cached.cached(1, 2, 3, 4)
    assert cached.forget(self=1, func=2, args=3, kwargs=4)
    assert memory.eval(named, self=1, func=2) == 3


@pytest.mark.parametrize(
    ("option", "value"), [("depends", "table.csv"), ("depends", Path("table.csv")), ("depends", add), ("key", "x")]
)
def test_options_of_another_kind_are_errors_when_the_function_is_cached(memory, option, value):
    with pytest.raises(ArgumentError, match=f"{option}: got"):
        memory.cache(add, **{option: value})


def test_a_result_that_cannot_be_read_back_is_given_as_it_was_computed(memory, monkeypatch):
    cached = memory.cache(ramp, mmap_mode="r")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(type(cached.store_backend), "find", fail)
    with pytest.warns(CacheWarning, match="while loading"):
        assert np.array_equal(cached(10), np.arange(10))

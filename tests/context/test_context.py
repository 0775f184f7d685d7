"""`Context`: one object that owns a project's caches and named values, and what can be had from it."""

import asyncio
import inspect
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

import megalith
from megalith import Context
from megalith import context as context_package
from megalith.context import disk, entries
from megalith.exceptions import ArgumentError, CacheWarning
from megalith.testing.faults import run_python

CALLS = []
STATE = {"value": 1}


@pytest.fixture(autouse=True)
def as_at_first():
    CALLS.clear()
    STATE.update(value=1)


@pytest.fixture
def context(tmp_path):
    return Context(tmp_path / "project")


def add(x, y=1):
    CALLS.append((x, y))
    return x + y


def ramp(n):
    CALLS.append(n)
    return np.arange(n, dtype=np.float64)


def results(context):
    return sorted((context.cache_dir / "results").rglob("*.npz"))


# The object.


def test_the_signature_is_that_of_the_contract():
    parameters = inspect.signature(Context).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == {
        "cache_dir": inspect.Parameter.empty,
        "ipy_view": None,
        "verbose": 0,
        "workers": None,
        "cache_limit": 2 * 1024**3,
        "readonly": False,
        "below": None,
    }
    assert [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY] == [
        "workers", "cache_limit", "readonly", "below",
    ]  # fmt: skip


def test_the_signature_of_cache_is_that_of_the_contract():
    parameters = inspect.signature(Context.cache).parameters
    assert {name: parameter.default for name, parameter in list(parameters.items())[1:]} == {
        "f": None,
        "memcache": False,
        "ignore": None,
        "version": None,
        "depends": (),
        "key": None,
        "allow_pickle": False,
        "mmap_mode": None,
    }
    assert [p.kind is p.KEYWORD_ONLY for p in parameters.values()] == [False] * 3 + [True] * 6


def test_it_is_at_the_top_of_the_package():
    assert megalith.Context is context_package.Context


def test_attributes_are_what_was_given(tmp_path):
    view, workers = object(), object()
    context = Context(str(tmp_path / "a"), view, 3, workers=workers, cache_limit=5)
    assert context.cache_dir == tmp_path / "a"
    assert (context.ipy_view, context.workers, context.verbose, context.cache_limit) == (view, workers, 3, 5)
    context.ipy_view = None
    assert repr(context) == f"Context({str(tmp_path / 'a')!r})"


def test_the_directory_is_made_for_the_user_alone(tmp_path):
    before = os.umask(0o022)
    try:
        context = Context(tmp_path / "deep" / "project")
        context.cache(add)(1)
        context.memcache(add)(1)
        context.save("name", {"a": np.arange(3)})
        context.save_memcache()
    finally:
        os.umask(before)
    assert context.cache_dir.stat().st_mode & 0o777 == 0o700
    inside = list(context.cache_dir.rglob("*"))
    assert {path.stat().st_mode & 0o077 for path in inside} == {0}


def test_a_home_directory_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Context("~/cache").cache_dir == tmp_path / "cache"
    assert (tmp_path / "cache").is_dir()


def test_a_relative_directory_stays_where_it_is_when_the_process_moves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    context = Context("project")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    context.cache(add)(1)
    context.save("name", {})
    assert results(context)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("limit", [-1, "2G"])
def test_a_limit_that_is_no_number_of_bytes_is_an_error(tmp_path, limit):
    with pytest.raises(ArgumentError, match=f"cache_limit: got {limit!r}"):
        Context(tmp_path, cache_limit=limit)


def test_verbose_prints_computations(tmp_path, capsys):
    Context(tmp_path, verbose=1).cache(add)(1)
    assert "Calling" in capsys.readouterr().out


# cache.


def test_cache_decorates_with_and_without_arguments(context):
    @context.cache
    def plain(x):
        CALLS.append(x)
        return x

    @context.cache(ignore=["y"])
    def with_options(x, y):
        CALLS.append(x)
        return x

    assert (plain(1), plain(1), with_options(2, 3), with_options(2, 4)) == (1, 1, 2, 2)
    assert CALLS == [1, 2]


def test_every_option_reaches_the_disk_cache(context):
    cached = context.cache(add, ignore=["y"], version=3, mmap_mode="r", allow_pickle=True)
    assert cached.mmap_mode == "r"
    assert cached.store_backend.allow_pickle
    assert cached(1, 2) == cached(1, 5) == 3
    assert context.cache(add, key=lambda x, y=1: "always")(7) == context.cache(add, key=lambda x, y=1: "always")(8)


def test_two_contexts_on_one_directory_share_results(context, tmp_path):
    other = Context(tmp_path / "project")
    assert context.cache(add)(1) == other.cache(add)(1) == 2
    assert CALLS == [(1, 1)]
    assert other.cache(add).forget(1)
    assert not context.cache(add).cached(1)
    other.save("name", {"a": 1})
    assert context.load("name") == {"a": 1}


def test_cache_limit_is_a_bound_of_all_functions_together(tmp_path):
    context = Context(tmp_path, cache_limit=60_000)
    one, two = context.cache(ramp), context.cache(lambda n: ramp(n) + 1)
    for n in range(1000, 1010):
        one(n)
        two(n)
        assert sum(path.stat().st_size for path in results(context)) <= 60_000
    assert two.cached(1009)
    assert not one.cached(1000)


def test_without_a_limit_all_stays(tmp_path):
    context = Context(tmp_path, cache_limit=None)
    cached = context.cache(ramp)
    for n in range(100):
        cached(n)
    assert len(results(context)) == 100


def test_a_limit_of_nothing_keeps_nothing_and_returns_results(tmp_path):
    cached = Context(tmp_path, cache_limit=0).cache(ramp)
    with pytest.warns(CacheWarning, match="the limit for all is 0"):
        assert len(cached(10)) == 10
    assert not cached.cached(10)


def test_a_readonly_context_reads_and_writes_nothing(context, tmp_path):
    context.cache(add)(1)
    context.save("name", {"a": 1})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    frozen = Context(tmp_path / "project", readonly=True)
    assert frozen.cache(add)(1) == 2
    assert CALLS == [(1, 1)]
    assert frozen.cache(add)(5) == 6
    assert frozen.load("name") == {"a": 1}
    with pytest.raises(ArgumentError, match="readonly"):
        frozen.save("name", {"a": 2})
    power = frozen.memcache(pow)
    assert power(2, 3) == 8
    with pytest.raises(ArgumentError, match="readonly"):
        frozen.save_memcache()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_readonly_context_of_a_directory_that_is_missing_makes_none(tmp_path):
    frozen = Context(tmp_path / "missing", readonly=True)
    assert frozen.cache(add)(1) == 2
    assert frozen.load("name") == {}
    assert list(tmp_path.iterdir()) == []


def test_a_context_below_gives_its_results_and_is_never_written(context, tmp_path):
    context.cache(add)(1)
    before = sorted(tmp_path.rglob("*"))
    mine = Context(tmp_path / "mine", below=context.cache_dir)
    assert (mine.cache(add)(1), mine.cache(add)(2)) == (2, 3)
    assert CALLS == [(1, 1), (2, 1)]
    assert [path for path in sorted(tmp_path.rglob("*")) if "mine" not in path.parts] == before
    assert len(results(mine)) == 1


# Both layers.


@pytest.fixture
def no_disk(monkeypatch):
    """Let whatever looks at a result on disk fail."""

    def refuse(*args, **kwargs):
        raise AssertionError("the disk was looked at")

    def begin():
        monkeypatch.setattr(entries.Entries, "read", refuse)
        monkeypatch.setattr(disk.MemorizedFunc, "__call__", refuse)

    return begin


def test_a_hit_in_memory_does_not_touch_the_disk(context, no_disk):
    cached = context.cache(ramp, memcache=True)
    first = cached(10)
    no_disk()
    assert cached(10) is first
    assert cached.explain(10) == (True, "in memory")
    assert cached.cached(10)


def test_what_is_not_in_memory_is_taken_from_disk(context, tmp_path):
    context.cache(ramp, memcache=True)(10)
    cached = Context(tmp_path / "project").cache(ramp, memcache=True)
    assert cached.explain(10).reason.startswith("computed at")
    assert cached.cached(10)
    assert len(cached(10)) == 10
    assert cached.explain(10).reason == "in memory"
    assert CALLS == [10]


def test_memory_and_disk_agree_with_a_function_that_is_cached_on_disk_alone(context):
    context.cache(add)(1)
    assert context.cache(add, memcache=True)(1) == 2
    assert CALLS == [(1, 1)]


def test_the_same_thing_is_given_at_first_and_later(context):
    cached = context.cache(ramp, memcache=True)
    found = [cached(10), cached(10), context.cache(ramp, memcache=True)(10)]
    assert {(type(array), array.flags.writeable) for array in found} == {(np.ndarray, False)}


def test_options_hold_in_both_layers(context, tmp_path):
    def reading(path, scale=1):
        CALLS.append(path)
        return Path(path).read_text()

    data = tmp_path / "data.txt"
    data.write_text("one")
    by_file = context.cache(reading, memcache=True, depends=[data])
    by_key = context.cache(reading, memcache=True, key=lambda path, scale=1: Path(path).read_text())
    ignoring = context.cache(reading, memcache=True, ignore=["scale"], version="ignoring")
    name = str(data)
    assert (by_file(name), by_key(name), ignoring(name, scale=1)) == ("one", "one", "one")
    assert ignoring(name, scale=2) == "one"
    n_calls = len(CALLS)
    data.write_text("two")
    assert (by_file(name), by_key(name)) == ("two", "two")
    assert ignoring(name, 3) == "one"
    assert len(CALLS) == n_calls + 2
    data.write_text("one")
    assert (by_file(name), by_key(name)) == ("one", "one")
    assert len(CALLS) == n_calls + 2
    assert context.cache(reading, memcache=True, ignore=["scale"], version="other")(name) == "one"
    assert len(CALLS) == n_calls + 3


def test_what_a_key_looks_at_is_looked_at_in_each_call(context):
    cached = context.cache(lambda x: STATE["value"], memcache=True, key=lambda x: STATE["value"])
    assert cached(1) == 1
    STATE["value"] = 2
    assert cached(1) == 2


class Model:
    def __init__(self, rate):
        self.rate = rate

    def fit(self, x):
        CALLS.append(x)
        return self.rate * x


@pytest.mark.parametrize("wrap", ["memcache", "both"])
def test_self_of_a_bound_method_is_looked_at_in_each_call(context, wrap):
    model = Model(2)
    fit = context.memcache(model.fit) if wrap == "memcache" else context.cache(model.fit, memcache=True)
    assert (fit(3), fit(3)) == (6, 6)
    model.rate = 5
    assert (fit(3), fit(3)) == (15, 15)
    assert CALLS == [3, 3]


def test_forget_removes_a_result_from_both_layers(context):
    cached = context.cache(add, memcache=True)
    cached(1)
    cached(2)
    assert cached.forget(1)
    assert not cached.forget(1)
    assert (cached.cached(1), cached.cached(2)) == (False, True)
    assert cached.explain(1).reason.endswith("x=1 (was 2)")
    cached(1)
    assert CALLS == [(1, 1), (2, 1), (1, 1)]


def test_forget_also_removes_what_is_in_memory_alone(context):
    cached = context.cache(add, memcache=True)
    cached(1)
    context.memory.clear(warn=False)
    assert cached.cached(1)
    assert cached.forget(1)
    assert not cached.cached(1)


def test_clear_clears_both_layers(context):
    cached, other = context.cache(add, memcache=True), context.cache(ramp, memcache=True)
    cached(1)
    other(1)
    cached.clear(warn=False)
    assert (cached.cached(1), other.cached(1), cached.entries()) == (False, True, [])
    assert cached.cache_info().entries == 0


def test_entries_call_and_shelve_and_call_are_there(context):
    cached = context.cache(ramp, memcache=True)
    cached(3)
    (entry,) = cached.entries()
    assert entry.arguments == {"n": "3"}
    assert len(cached.call_and_shelve(3).get()) == 3
    output, about = cached.call(3)
    assert about["input_args"] == {"n": "3"}
    assert cached(3) is output
    assert cached.check_call_in_cache(3)
    assert CALLS == [3, 3]


def test_call_replaces_the_result_in_both_layers(context):
    cached = context.cache(lambda x: STATE["value"], memcache=True)
    assert cached(0) == 1
    STATE["value"] = 2
    assert cached(0) == 1
    assert cached.call(0)[0] == 2
    assert cached(0) == 2
    assert cached.call_and_shelve(0).get() == 2


def test_methods_have_both_layers_and_their_methods(context):
    class Model:
        def __init__(self, rate):
            self.rate = rate

        @context.cache(memcache=True, ignore=["self"])
        def fit(self, x):
            """Fit."""
            CALLS.append(x)
            return self.rate * x

    model = Model(2)
    assert (model.fit(3), model.fit(3), Model(9).fit(3)) == (6, 6, 6)
    assert CALLS == [3]
    assert model.fit.explain(3) == (True, "in memory")
    assert model.fit.forget(3)
    assert not model.fit.cached(3)
    assert Model(9).fit(3) == 27


def test_coroutine_functions_have_both_layers(context):
    @context.cache(memcache=True)
    async def fetch(x):
        CALLS.append(x)
        return np.full(3, x)

    async def main():
        first, second = await fetch(1), await fetch(1)
        assert first is second
        assert fetch.explain(1).hit
        assert (await fetch.call(1))[0] is not first
        assert (await fetch.call_and_shelve(1)).get()[0] == 1
        assert fetch.forget(1)
        assert not fetch.cached(1)

    asyncio.run(main())
    assert CALLS == [1, 1]


def test_a_function_of_both_layers_looks_like_the_function(context):
    cached = context.cache(add, memcache=True)
    assert (cached.__name__, cached.func) == ("add", add)
    assert inspect.signature(cached) == inspect.signature(add)


def test_a_readonly_context_forgets_in_neither_layer(context, tmp_path):
    context.cache(add)(1)
    cached = Context(tmp_path / "project", readonly=True).cache(add, memcache=True)
    assert cached(1) == 2
    with pytest.raises(ArgumentError, match="readonly"):
        cached.forget(1)
    assert cached.explain(1).reason == "in memory"


def test_a_cached_function_of_both_layers_travels(context):
    cached = context.cache(add, memcache=True)
    cached(1)
    again = pickle.loads(pickle.dumps(cached))
    assert again(1) == 2
    assert again.explain(1).hit
    assert CALLS == [(1, 1)]


def test_functions_of_both_layers_are_not_saved_twice(context):
    context.cache(add, memcache=True)(1)
    context.save_memcache()
    assert not (context.cache_dir / "memcache").exists()


# The rest is wired.


def test_memcache_remembers_and_is_saved_and_loaded(context, tmp_path):
    remembered = context.memcache(add)
    assert (remembered(1), remembered(1, y=1)) == (2, 2)
    context.save_memcache()
    again = Context(tmp_path / "project").memcache(add)
    assert again(1) == 2
    assert CALLS == [(1, 1)]


def test_load_memcache_reads_what_another_process_saved(context, tmp_path):
    here = context.memcache(add)
    here(1)
    other = Context(tmp_path / "project")
    there = other.memcache(add)
    there(2)
    other.save_memcache()
    context.load_memcache(f"{__name__}.add")
    assert here(2) == 3
    assert CALLS == [(1, 1), (2, 1)]


def test_memcache_decorates_with_and_without_arguments_and_is_bounded(context):
    @context.memcache
    def one(x):
        return x

    @context.memcache(max_bytes=2000)
    def two(x):
        return x

    assert (one(1), two(1)) == (1, 1)
    assert one.cache_info().max_bytes == 512 * 1024**2
    for i in range(100):
        two(i)
    assert two.cache_info().bytes <= 2000


def test_named_values_are_saved_and_loaded(context, tmp_path):
    context.save("fit", {"weights": np.arange(3.0), 5: "good"})
    found = Context(tmp_path / "project").load("fit")
    assert found[5] == "good"
    assert np.array_equal(found["weights"], np.arange(3.0))
    assert context.load("missing") == {}
    assert context.load("missing", default=3) == 3


def test_names_may_lie_in_directories(context):
    context.save("a/hello", {"text": "world", "data": np.arange(100_000)})
    context.save("a/b/hello", {"text": "again"})
    assert context.load("a/hello")["text"] == "world"
    assert (context.cache_dir / "a" / "b" / "hello.json").exists()
    assert np.array_equal(context.load("a/hello")["data"], np.arange(100_000))


@pytest.mark.parametrize(
    "name", ["../a", "a/../b", "/a", "a/", "a//b", ".a/b", "results/x", "memcache/x", "a.arrays/x"]
)
def test_names_cannot_leave_the_store(context, name):
    with pytest.raises(ArgumentError, match="name: got"):
        context.save(name, {})


def test_names_do_not_meet_the_directories_of_the_caches(context):
    for name in ("results", "memcache", "total"):
        context.save(name, {"a": np.zeros(100_000)})
    context.cache(add)(1)
    remembered = context.memcache(add)
    remembered(1)
    context.save_memcache()
    for name in ("results", "memcache", "total"):
        assert len(context.load(name)["a"]) == 100_000
    context.memory.clear(warn=False)
    assert len(context.load("results")["a"]) == 100_000


def test_a_context_pickles_without_its_workers(tmp_path):
    class Connection:
        def __reduce__(self):
            raise TypeError("a connection does not travel")

    context = Context(tmp_path, Connection(), workers=Connection(), cache_limit=12345, verbose=0)
    context.cache(add)(1)
    context.memcache(add)(1)
    context.save("name", {"a": 1})
    again = pickle.loads(pickle.dumps(context))
    assert (again.ipy_view, again.workers, again.cache_limit, again.cache_dir) == (None, None, 12345, tmp_path)
    assert again.cache(add)(1) == 2
    assert CALLS == [(1, 1), (1, 1)]
    assert again.load("name") == {"a": 1}
    assert context.ipy_view is not None


# What it costs.


def test_the_package_is_imported_without_joblib_or_a_thread(tmp_path):
    code = """
    import os, sys, threading
    import megalith
    from megalith import Context
    context = Context(os.environ["PROJECT"])
    context.save("name", {"a": 1})
    f = context.memcache(pow)
    f(2, 3)
    heavy = ("joblib", "h5py", "dask", "ipyparallel", "xarray", "pandas", "cloudpickle", "asyncio", "scipy")
    print([name for name in heavy if name in sys.modules], threading.active_count())
    context.cache(pow)
    print("joblib" in sys.modules, "dask" in sys.modules)
    """
    child = run_python(inspect.cleandoc(code), tmp_path, env={"PROJECT": str(tmp_path / "project")})
    assert child.check().splitlines() == ["[] 1", "True False"]


def test_wrapping_a_function_writes_nothing(context):
    before = sorted(context.cache_dir.rglob("*"))
    start = time.time()
    context.memcache(add)
    context.memcache(ramp)
    assert sorted(context.cache_dir.rglob("*")) == before
    assert context.cache_dir.stat().st_mtime <= start + 1

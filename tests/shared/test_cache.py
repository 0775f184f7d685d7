"""`cache`, `get`, `free` and `decorator`: what is there is served, what is not is computed once."""

import inspect
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import megalith
from megalith import shared
from megalith.exceptions import ArgumentError, KeyMissingError, LockTimeoutError, MegalithError
from megalith.shared import SharedArray
from megalith.testing.faults import left_behind


def never():
    raise AssertionError("computed although it is there")


def ones():
    return np.ones(3)


def python(code):
    """Run code in another process, to its end."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (shared.cache, "id array_or_callback shm_path prefix timeout verbose log_func mode trust_owner"),
        (shared.free, "id shm_path prefix"),
        (shared.valid_id, "id"),
        (shared.decorator, "id kwargs"),
    ],
    ids=lambda thing: getattr(thing, "__name__", ""),
)
def test_arguments_have_the_names_and_the_order_of_sharearray(function, names):
    assert list(inspect.signature(function).parameters) == names.split()


def test_defaults_are_those_of_sharearray():
    defaults = {name: p.default for name, p in inspect.signature(shared.cache).parameters.items()}
    del defaults["id"], defaults["array_or_callback"]
    assert defaults == {
        "shm_path": "/dev/shm",
        "prefix": "sharearray_",
        "timeout": -1,
        "verbose": True,
        "log_func": None,
        "mode": 0o600,
        "trust_owner": False,
    }


def test_mode_and_trust_are_keyword_only():
    parameters = inspect.signature(shared.cache).parameters
    assert {parameters[name].kind for name in ("mode", "trust_owner")} == {inspect.Parameter.KEYWORD_ONLY}


def test_the_package_is_at_the_top():
    assert megalith.shared is shared
    assert "shared" in megalith.__all__


def test_timeout_exception_is_the_lock_timeout_error():
    assert shared.TimeoutException is LockTimeoutError


def test_an_array_is_a_file_in_shared_memory_under_its_name(key):
    shared.cache(key, np.arange(5), verbose=False)
    np.testing.assert_array_equal(np.load(f"/dev/shm/sharearray_{key}.npy"), np.arange(5))


def test_free_removes_the_file(key):
    shared.cache(key, ones, verbose=False)
    shared.free(key)
    assert not os.path.exists(f"/dev/shm/sharearray_{key}.npy")  # noqa: PTH110


def test_free_of_nothing_is_no_error(store):
    store.free("nothing")
    store.cache("a", ones)
    store.free("a")
    store.free("a")


def test_free_in_a_missing_directory_is_no_error(tmp_path):
    shared.free("a", str(tmp_path / "missing"))
    assert list(tmp_path.iterdir()) == []


def test_the_directory_may_be_a_path(shm):
    shared.cache("a", ones, shm, verbose=False)
    assert shared.get("a", shm).sum() == 3
    shared.free("a", shm)


@pytest.mark.parametrize("name", ["ünï cøde ☃", "with space", "-dash", "%41", "a'b\"c"])
def test_the_directory_may_have_any_name(shm, name):
    directory = shm / name
    directory.mkdir()
    assert shared.cache("a", ones, str(directory), verbose=False).sum() == 3
    assert shared.cache("b", lambda: [ones()], str(directory), verbose=False)[0].sum() == 3
    assert [entry.id for entry in shared.ls(str(directory))] == ["a", "b"]
    for id in "ab":
        shared.free(id, str(directory))
    assert left_behind(directory) == []
    shutil.rmtree(directory)


def test_the_directory_may_be_reached_by_a_link(shm):
    (shm / "real").mkdir()
    (shm / "link").symlink_to("real")
    array = shared.cache("a", ones, str(shm / "link"), verbose=False)
    assert shared.get("a", str(shm / "real")).sum() == 3
    shared.free("a", str(shm / "link"))
    assert array.sum() == 3
    assert not (shm / "real" / "sharearray_a.npy").exists()
    (shm / "link").unlink()
    shutil.rmtree(shm / "real")


def test_the_directory_may_be_relative_to_where_one_is(shm, monkeypatch):
    for name in ("one", "other"):
        (shm / name).mkdir()
    monkeypatch.chdir(shm / "one")
    first = shared.cache("a", ones, ".", verbose=False)
    monkeypatch.chdir(shm / "other")
    with pytest.raises(KeyMissingError):
        shared.get("a", ".")
    second = shared.cache("a", lambda: np.zeros(3), ".", verbose=False)
    monkeypatch.chdir(shm / "one")
    assert shared.get("a", ".").tolist() == first.tolist() == [1, 1, 1]
    assert second.tolist() == [0, 0, 0]
    monkeypatch.chdir(shm)
    for name in ("one", "other"):
        shared.free("a", name)
        shutil.rmtree(shm / name)


def test_names_that_look_like_files_are_names_of_their_own(store):
    ids = ["a", "a.npy", "a.npz", "a.lock", "a.npy.lock", "a.", ".a", "sharearray_a", "a.npy.npy"]
    for i, id in enumerate(ids):
        store.cache(id, np.full(3, i))
    assert [int(store.get(id)[0]) for id in ids] == list(range(len(ids)))
    assert sorted(entry.id for entry in store.ls()) == sorted(ids)
    store.free("a")
    assert sorted(entry.id for entry in store.ls()) == sorted(ids[1:])


def test_the_longest_names_work_or_are_refused_before_anything_is_computed(store):
    works = []
    for n in range(200, 260):
        id = "x" * n
        try:
            store.cache(id, [np.ones(3)] if n % 2 else np.ones(3))
        except (ValueError, OSError):
            with pytest.raises((ValueError, OSError)):
                store.cache(id, never)
            continue
        works.append(n)
        store.get(id)
        store.free(id)
        with store.allocate(id, 3, "u1"):
            pass
        store.free(id)
    assert works == list(range(200, 200 + len(works)))
    assert works[-1] >= 230


def test_prefixes_are_names_of_their_own(shm):
    one = shared.cache("a", np.zeros(2), str(shm), "one_", verbose=False)
    other = shared.cache("a", np.ones(2), str(shm), "other_", verbose=False)
    assert (one.sum(), other.sum()) == (0, 2)
    assert sorted(path.name for path in shm.glob("*.npy")) == ["one_a.npy", "other_a.npy"]
    shared.free("a", str(shm), "one_")
    assert shared.get("a", str(shm), "other_").sum() == 2
    shared.free("a", str(shm), "other_")


@pytest.mark.parametrize("id", ["a", "A-z_0.9", "a=b+c", "...", ".", "-", "x" * 100])
def test_letters_digits_and_a_few_signs_are_valid(store, id):
    assert shared.valid_id(id)
    assert store.cache(id, ones).sum() == 3
    store.free(id)
    assert list(store.directory.glob("sharearray_*")) == []


INVALID = ["", "a b", "a/b", "../a", "/a", "a\n", "\n", "a\x00", "ä", "a*", "a\\b", "a:b", "²", "a,b", "٣"]


@pytest.mark.parametrize("id", INVALID, ids=repr)
def test_other_names_are_argument_errors_everywhere(store, id):
    assert not shared.valid_id(id)
    for call in (
        lambda: store.cache(id, never),
        lambda: store.get(id),
        lambda: store.free(id),
        lambda: store.decorator(id),
        lambda: store.allocate(id, 3, "u1").__enter__(),
    ):
        with pytest.raises(ArgumentError) as caught:
            call()
        assert isinstance(caught.value, ValueError)
    assert list(store.directory.iterdir()) == []


@pytest.mark.parametrize("prefix", ["../", "a/", "/", "\x00"], ids=repr)
def test_a_prefix_cannot_leave_the_directory(shm, prefix):
    with pytest.raises(ValueError, match="prefix"):
        shared.cache("a", never, str(shm), prefix, verbose=False)
    assert list(shm.iterdir()) == []


def test_a_name_that_is_too_long_for_a_file_is_an_error_that_computes_nothing(store):
    with pytest.raises((ValueError, OSError)):
        store.cache("x" * 300, never)
    assert list(store.directory.glob("sharearray_*")) == []


@pytest.mark.parametrize("value", [5, "text", None, 2.5, object()], ids=lambda value: type(value).__name__)
def test_what_is_neither_value_nor_function_is_an_error_that_says_so(store, value):
    with pytest.raises((TypeError, ValueError), match="array_or_callback") as caught:
        store.cache("a", value)
    assert isinstance(caught.value, MegalithError)


@pytest.mark.parametrize("timeout", ["soon", None, float("nan")], ids=repr)
def test_an_impossible_timeout_is_an_error(store, timeout):
    with pytest.raises((TypeError, ValueError), match="timeout"):
        store.cache("a", ones, timeout=timeout)


@pytest.mark.parametrize("mode", [-1, 0o10000, 0o7777, "rw", 6.5, 0o000], ids=repr)
def test_an_impossible_mode_is_an_error(store, mode):
    with pytest.raises((TypeError, ValueError), match="mode"):
        store.cache("a", ones, mode=mode)
    assert list(store.directory.glob("sharearray_*")) == []


@pytest.mark.parametrize("timeout", [-1, 0, 0.0, 0.5, 10, float("inf")])
def test_nobody_waits_where_nobody_computes(store, timeout):
    assert store.cache("a", ones, timeout=timeout).sum() == 3
    assert store.cache("a", never, timeout=timeout).sum() == 3


def test_the_callback_is_called_once(store):
    calls = []
    for _ in range(3):
        store.cache("a", lambda: calls.append(1) or np.ones(2))
    assert calls == [1]


def test_a_hit_gives_the_memory_that_is_mapped_already(store):
    first = store.cache("a", ones)
    for again in (store.cache("a", never), store.get("a")):
        assert again.ctypes.data == first.ctypes.data
        assert np.shares_memory(again, first)


def test_a_hit_after_the_last_view_died_maps_anew(store):
    store.cache("a", ones)
    assert store.cache("a", never).sum() == 3


def test_get_gives_what_another_process_made(store):
    code = f"import numpy as np; from megalith import shared; shared.cache('a', np.arange(9), {str(store.directory)!r})"
    python(code)
    np.testing.assert_array_equal(store.get("a"), np.arange(9))
    np.testing.assert_array_equal(store.cache("a", never), np.arange(9))


def test_an_array_stays_when_the_process_that_made_it_ends(store):
    code = f"""
    import numpy as np
    from megalith import shared
    a = shared.cache('a', lambda: np.arange(9), {str(store.directory)!r}, verbose=False)
    b = shared.get('a', {str(store.directory)!r})
    """
    assert python(code) == ""
    assert python(code) == ""
    np.testing.assert_array_equal(store.get("a"), np.arange(9))


def test_get_of_nothing_is_a_key_missing_error(store):
    with pytest.raises(KeyMissingError) as caught:
        store.get("nothing")
    assert isinstance(caught.value, KeyError)
    assert caught.value.key == "nothing"
    assert "nothing" in str(caught.value)


def test_get_in_a_missing_directory_is_a_key_missing_error(tmp_path):
    with pytest.raises(KeyMissingError):
        shared.get("a", str(tmp_path / "missing"))
    assert list(tmp_path.iterdir()) == []


def test_cache_in_a_missing_directory_is_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        shared.cache("a", ones, str(tmp_path / "missing"), verbose=False)
    assert list(tmp_path.iterdir()) == []


def test_what_was_freed_is_computed_anew(store):
    old = store.cache("a", lambda: np.zeros(4))
    store.free("a")
    new = store.cache("a", lambda: np.ones(4))
    assert (old.tolist(), new.tolist()) == ([0] * 4, [1] * 4)


def test_what_another_process_freed_and_made_anew_is_noticed(store):
    old = store.cache("a", lambda: np.zeros(4))
    python(f"""
    import numpy as np
    from megalith import shared
    shared.free('a', {str(store.directory)!r})
    shared.cache('a', np.ones(4), {str(store.directory)!r}, verbose=False)
    """)
    for new in (store.get("a"), store.cache("a", never)):
        assert new.tolist() == [1] * 4
    assert old.tolist() == [0] * 4


def test_what_another_process_freed_is_noticed(store):
    old = store.cache("a", ones)
    python(f"from megalith import shared; shared.free('a', {str(store.directory)!r})")
    with pytest.raises(KeyMissingError):
        store.get("a")
    assert store.cache("a", lambda: np.zeros(2)).tolist() == [0, 0]
    assert old.sum() == 3


def test_a_file_that_was_replaced_by_rename_is_noticed(store):
    old = store.cache("a", ones)
    np.save(store.directory / "new.npy", np.zeros(5))
    (store.directory / "new.npy").rename(store.file("a"))
    assert store.get("a").tolist() == [0] * 5
    assert old.sum() == 3


@pytest.mark.parametrize("umask", [0, 0o022, 0o777], ids=oct)
def test_files_are_private_whatever_the_umask(store, umask):
    before = os.umask(umask)
    try:
        store.cache("a", ones)
    finally:
        os.umask(before)
    assert store.file("a").stat().st_mode & 0o777 == 0o600
    assert (store.directory / f"megalith-{os.getuid()}").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o660, 0o666, 0o444, 0o400], ids=oct)
def test_a_mode_is_given_exactly_whatever_the_umask(store, mode):
    before = os.umask(0o077)
    try:
        store.cache("a", ones, mode=mode)
    finally:
        os.umask(before)
    assert store.file("a").stat().st_mode & 0o7777 == mode
    assert store.cache("a", never).sum() == 3


ERRORS = [ValueError, KeyboardInterrupt, SystemExit, MemoryError, StopIteration, GeneratorExit]


@pytest.mark.parametrize("error", ERRORS)
def test_what_a_callback_raises_flies_as_it_is_and_leaves_nothing(store, error):
    raised = error("mine")

    def fail():
        raise raised

    with pytest.raises(error) as caught:
        store.cache("a", fail)
    assert caught.value is raised
    assert [path for path in store.directory.rglob("*") if not path.is_dir()] == []
    assert store.cache("a", ones).sum() == 3


def test_a_callback_that_asks_for_its_own_name_fails_at_once(store):
    with pytest.raises(LockTimeoutError) as caught:
        store.cache("a", lambda: store.cache("a", ones))
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.key == "a"
    assert store.cache("a", ones).sum() == 3


def test_a_callback_that_asks_for_its_own_name_through_another_fails_at_once(store):
    with pytest.raises(LockTimeoutError):
        store.cache("a", lambda: store.cache("b", lambda: store.cache("a", ones)))
    assert list(store.directory.glob("sharearray_*")) == []
    assert store.cache("b", ones).sum() == 3


def test_a_callback_that_mends_the_error_of_its_own_name_goes_on(store):
    def make():
        with pytest.raises(LockTimeoutError):
            store.cache("a", never)
        with pytest.raises(KeyMissingError):
            store.get("a")
        return np.ones(3)

    assert store.cache("a", make).sum() == 3


def test_a_callback_may_make_other_names(store):
    def make():
        return store.cache("b", lambda: store.cache("c", ones) + 1) + 1

    assert store.cache("a", make).tolist() == [3, 3, 3]
    assert store.get("b").tolist() == [2, 2, 2]


def test_a_callback_may_use_the_name_of_another_directory_or_prefix(store, tmp_path):
    def make():
        here = shared.cache("a", ones, str(tmp_path), verbose=False)
        there = store.cache("a", ones, prefix="other_")
        return here + there

    assert store.cache("a", make).sum() == 6
    store.free("a", prefix="other_")


def test_a_callback_that_publishes_its_own_name_by_other_means_keeps_what_was_first(store):
    def make():
        np.save(store.directory / "other.npy", np.zeros(3))
        (store.directory / "other.npy").rename(store.file("a"))
        return np.ones(3)

    assert store.cache("a", make).tolist() == store.get("a").tolist() == [0, 0, 0]


def test_a_callback_that_frees_its_own_name_is_published(store):
    def make():
        store.free("a")
        return np.ones(3)

    assert store.cache("a", make).sum() == 3
    assert store.get("a").sum() == 3


def test_the_decorator_computes_once_and_serves_after(store):
    calls = []

    @store.decorator("a")
    def make():
        calls.append(1)
        return np.ones(3)

    first, second = make(), make()
    assert type(first) is SharedArray
    assert first.ctypes.data == second.ctypes.data
    assert calls == [1]
    store.free("a")
    assert make().sum() == 3
    assert calls == [1, 1]


def test_the_decorator_keeps_name_and_docstring(store):
    @store.decorator("a")
    def make():
        """Say what it is."""

    assert (make.__name__, make.__doc__) == ("make", "Say what it is.")


def test_the_decorator_hands_options_on(shm):
    @shared.decorator("a", shm_path=str(shm), prefix="mine_", verbose=False, mode=0o640)
    def make():
        return np.ones(3)

    assert make().sum() == 3
    assert (shm / "mine_a.npy").stat().st_mode & 0o777 == 0o640
    shared.free("a", str(shm), "mine_")


def test_creation_is_told_to_the_log_function(store, capsys):
    said = []
    store.cache("name-of-it", ones, verbose=True, log_func=said.append)
    assert said
    assert all(isinstance(sentence, str) for sentence in said)
    assert any("name-of-it" in sentence for sentence in said)
    assert capsys.readouterr() == ("", "")


def test_creation_is_printed_without_a_log_function(store, capsys):
    store.cache("name-of-it", ones, verbose=True)
    assert "name-of-it" in capsys.readouterr().out


def test_nothing_is_said_unless_verbose(store, capsys):
    said = []
    store.cache("a", ones, verbose=False, log_func=said.append)
    store.cache("a", never, verbose=False)
    assert said == []
    assert capsys.readouterr() == ("", "")


def test_a_log_function_that_fails_leaves_nothing(store):
    def fail(sentence):
        raise OSError("the log is full")

    with pytest.raises(OSError, match="the log is full"):
        store.cache("a", ones, verbose=True, log_func=fail)
    assert [path for path in store.directory.rglob("*") if not path.is_dir()] == []
    store.free("a")
    assert store.cache("a", ones).sum() == 3


def test_each_thread_may_hold_a_name_of_its_own(store):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda i: store.cache(f"a{i}", lambda: np.full(10, i)), range(40)))
    assert [array.tolist() for array in got] == [[i] * 10 for i in range(40)]


def test_no_descriptors_stay_open(store):
    def opened():
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    store.cache("warm", ones)
    before = opened()
    kept = []
    for i in range(20):
        kept.append(store.cache(f"a{i}", ones))
        kept.append(store.cache(f"b{i}", lambda: [np.ones(2)]))
        with store.allocate(f"c{i}", 3, "u1") as array:
            kept.append(array)
        with pytest.raises(ZeroDivisionError):
            store.cache(f"d{i}", lambda: 1 / 0)
    assert opened() <= before + 1

"""Sweeps: what is computed, what is found again, what fails, what stops."""

import json
import os
import pickle
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from megalith import Context, Parameter, ParameterSpace
from megalith.context.disk import Memory
from megalith.exceptions import ArgumentError, CacheWarning, DTypeError, SweepError

# What was computed, in order. It can change, so it does not count for the code of a function.
CALLS = []

# Points that fail.
BAD = set()


def area(length, width=1):
    CALLS.append((length, width))
    if (length, width) in BAD:
        raise ValueError(f"no box of {length} x {width}")
    return length * width


@pytest.fixture(autouse=True)
def nothing_computed():
    CALLS.clear()
    BAD.clear()


def boxes(context, lengths=(1, 2, 3), widths=(5, 7)):
    return ParameterSpace("boxes", [Parameter("length", lengths), Parameter("width", widths)], context=context)


def test_a_second_sweep_computes_nothing(context):
    first = boxes(context).sweep(area)
    again = boxes(Context(context.cache_dir)).sweep(area)
    assert len(CALLS) == 6
    assert first.to_dict() == again.to_dict() == {(a, b): a * b for a in (1, 2, 3) for b in (5, 7)}
    assert again.counts == {"done": 6}


def test_a_new_value_computes_the_new_points_only(context):
    space = boxes(context)
    space.sweep(area)
    CALLS.clear()
    space["length"].values = [1, 2, 3, 4]
    assert len(space.sweep(area)) == 8
    assert CALLS == [(4, 5), (4, 7)]


def test_the_order_of_parameters_and_values_does_not_count(context):
    boxes(context).sweep(area)
    CALLS.clear()
    width, length = Parameter("width", np.array([7, 5])), Parameter("length", [3, 2, 1])
    results = ParameterSpace("other", [width, length], context=context).sweep(area)
    assert CALLS == []
    assert results[7, 2] == 14


def test_a_changed_function_is_computed_anew_and_the_old_one_is_still_known(context):
    def versions(text):
        found = {"CALLS": CALLS}
        exec(f"def f(length, width):\n    CALLS.append(length)\n    return {text}", found)
        return found["f"]

    space = boxes(context)
    space.sweep(versions("length + width"))
    assert space.sweep(versions("length - width"))[3, 5] == -2
    assert len(CALLS) == 12
    assert space.sweep(versions("length + width"))[3, 5] == 8
    assert len(CALLS) == 12


def test_parameters_that_a_function_does_not_take_are_not_given_and_do_not_count(context):
    space = boxes(context)
    space.register_parameters([Parameter("colour", ["red", "blue"])])
    results = space.sweep(area)
    assert len(results) == 12
    assert len(CALLS) == 6
    assert results[3, 7, "red"] == results[3, 7, "blue"] == 21


def test_parameters_that_do_not_change_have_their_present_value(context):
    space = boxes(context)
    space["width"].value = 7
    assert space.sweep(area, ["length"]).to_dict() == {(1,): 7, (2,): 14, (3,): 21}
    assert space.sweep(area, [space["length"]])[2] == 14
    assert len(CALLS) == 3


def test_a_function_of_keywords_gets_all(context):
    results = boxes(context).sweep(lambda **point: sorted(point))
    assert results[1, 5] == ["length", "width"]


@pytest.mark.parametrize("function", [lambda depth: depth, lambda length, /: length, 3, min])
def test_a_function_that_takes_something_else_is_refused_before_anything_is_computed(context, function):
    with pytest.raises(ArgumentError):
        boxes(context).sweep(function)


def test_dependencies_count(context, tmp_path):
    file, space, extra = tmp_path / "input", boxes(context), Parameter("extra", [1, 2])
    file.write_text("a")
    for change in (lambda: None, lambda: file.write_text("b"), lambda: setattr(extra, "value", 2)):
        CALLS.clear()
        change()
        space.sweep(area, None, [file, extra, "a"])
        assert len(CALLS) == 6
        space.sweep(area, None, [file, extra, "a"])
        assert len(CALLS) == 6


def test_force_recompute_computes_all(context):
    space = boxes(context)
    space.sweep(area)
    assert len(space.sweep(area, force_recompute=True)) == 6
    assert len(CALLS) == 12


def test_one_failing_point_of_a_thousand_leaves_the_others_and_retry_computes_one(context):
    space = boxes(context, range(500), (0, 1))
    BAD.add((321, 1))
    with pytest.raises(SweepError, match="1 of 1,000 points of area failed") as caught:
        space.sweep(area)
    assert caught.value.points == [(321, 1)]
    assert [type(error) for error in caught.value.errors] == [ValueError]
    results = space.results(area)
    assert len(results) == len(results.to_dict()) == 999
    assert results.counts == {"done": 999, "failed": 1}
    [failure] = results.failures
    assert failure.point == (321, 1)
    assert failure.error == "ValueError: no box of 321 x 1"
    assert "in area" in failure.traceback
    assert failure.host
    BAD.clear()
    CALLS.clear()
    assert results.retry() is results
    assert CALLS == [(321, 1)]
    assert results[321, 1] == 321
    assert results.failures == []


def test_under_keep_nothing_is_raised_and_a_second_sweep_computes_what_failed(context):
    BAD.update([(1, 5), (2, 7)])
    space = boxes(context)
    assert [failed.point for failed in space.sweep(area, on_error="keep").failures] == [(1, 5), (2, 7)]
    CALLS.clear()
    again = space.sweep(area, on_error="keep")
    assert CALLS == [(1, 5), (2, 7)]
    assert [failed.attempts for failed in again.failures] == [2, 2]
    with pytest.raises(ArgumentError, match="on_error"):
        space.sweep(area, on_error="ignore")


def test_failures_lie_on_disk_with_arguments_and_host(context):
    BAD.add((1, 5))
    boxes(context).sweep(area, on_error="keep")
    [path] = context.cache_dir.rglob("failures/*.json")
    [attempt] = json.loads(path.read_text())
    assert attempt["arguments"] == {"length": "1", "width": "5"}
    assert attempt["pid"] == os.getpid()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_error_and_its_points_can_be_pickled(context):
    BAD.add((1, 5))
    with pytest.raises(SweepError) as caught:
        boxes(context).sweep(area)
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.points == [(1, 5)]
    assert str(again) == str(caught.value)


def test_a_result_that_cannot_be_kept_is_a_failure(context):
    space = boxes(context, [1], [1])
    with pytest.raises(SweepError, match="DTypeError") as caught:
        space.sweep(lambda length: {length})
    assert isinstance(caught.value.errors[0], DTypeError)
    with pytest.warns(CacheWarning, match="returned but not kept"):
        assert space.run_process(lambda length: {length}) == {1}


def test_ctrl_c_keeps_what_was_finished(context):
    space = boxes(context)

    def interrupted(length, width):
        if len(CALLS) == 4:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        CALLS.append((length, width))
        return length * width

    with pytest.raises(KeyboardInterrupt):
        space.sweep(interrupted)
    assert len(space.results(interrupted)) == 4
    CALLS.append(None)
    space.sweep(interrupted)
    assert len(CALLS) == 7


def test_stop_sweep_keeps_what_was_finished_and_the_next_goes_on(context):
    space = boxes(context)

    def stop(point, _value):
        if point == (2, 5):
            space.stop_sweep()

    results = space.sweep(area, on_result=stop)
    assert results.counts == {"done": 3, "missing": 3}
    assert len(space.sweep(area)) == 6
    assert len(CALLS) == 6


def test_a_sweep_in_the_background_can_be_waited_for_and_stopped(context):
    space = boxes(context)
    assert len(space.sweep_async(area).get(timeout=60)) == 6
    go = threading.Event()
    GATES.append(go)
    result = space.sweep_async(gated)
    go.set()
    assert result.wait(60)
    assert result.successful()
    BAD.add((1, 5))
    CALLS.clear()
    failed = boxes(Context(context.cache_dir / "other")).sweep_async(area)
    with pytest.raises(SweepError):
        failed.get(60)


GATES = []


def gated(length, width):
    GATES[-1].wait(60)
    return length + width


def test_stop_sweep_ends_a_sweep_in_the_background(context):
    space = boxes(context, range(1000), [1])
    GATES.append(threading.Event())
    result = space.sweep_async(gated)
    stopper = threading.Thread(target=space.stop_sweep)
    stopper.start()
    while not all(stop.is_set() for stop in space._shared.stops):
        time.sleep(0.001)
    GATES[-1].set()
    stopper.join(60)
    assert result.ready()
    assert result.get().counts["missing"] >= 998


def test_on_result_sees_what_is_done_and_what_is_computed(context):
    space, seen = boxes(context), []
    space.sweep(area, ["length"])
    space.sweep(area, on_result=lambda point, value: seen.append((point.length, point.width, value)))
    assert seen[:3] == [(1, 5, 5), (2, 5, 10), (3, 5, 15)]
    assert sorted(seen[3:]) == [(1, 7, 7), (2, 7, 14), (3, 7, 21)]


def test_the_bar_counts_what_was_cached_and_what_failed(context, capsys):
    space = boxes(context)
    space.sweep(area, ["length"])
    BAD.add((2, 7))
    space.sweep(area, on_error="keep", verbose=True)
    said = capsys.readouterr().err
    assert "6/6" in said
    assert "cached 3, done 2, failed 1, running" in said


def test_callbacks_are_called_for_points_that_are_computed(context):
    space, seen = boxes(context, [1, 2], [5]), []
    space["length"].register_callback(seen.append)
    space.sweep(area)
    assert seen == [1, 2]
    space.sweep(area)
    assert seen == [1, 2]
    space.sweep(area, force_recompute=True)
    assert seen == [1, 2, 1, 2]


def test_run_process_answers_what_a_sweep_has_computed(context):
    space = boxes(context)
    space.sweep(area)
    space["length"].value = 3
    assert space.run_process(area) == 15
    assert space.run_process(area, {"width": 7.0}) == 21
    assert space.run_process(area, [space["width"]]) == 15
    assert space.cached(area)
    assert not space.cached(lambda length: length)
    assert len(CALLS) == 6
    with pytest.raises(ValueError, match="width: got 6"):
        space.run_process(area, {"width": 6})


def test_run_process_raises_what_the_function_raised_and_notes_it(context):
    space = boxes(context)
    BAD.add((1, 5))
    with pytest.raises(ValueError, match="no box of 1 x 5"):
        space.run_process(area)
    assert [failed.point for failed in space.results(area).failures] == [(1, 5)]


def test_run_process_takes_linked_values_along(context):
    length, width = Parameter("length", [1, 2]), Parameter("width")
    width.link(length, lambda length: length + 1)
    space = ParameterSpace("", [length, width], context=context)
    assert space.run_process(area, {"length": 2}) == 6
    assert space.sweep(area).to_dict() == {(1, 2): 2, (2, 3): 6}
    assert CALLS == [(2, 3), (1, 2)]


def test_without_a_cache_results_are_kept_by_the_results_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = boxes(None)
    BAD.add((1, 5))
    results = space.sweep(area, on_error="keep")
    assert results.counts == {"done": 5, "failed": 1}
    BAD.clear()
    assert results.retry()[1, 5] == 5
    assert len(space.results(area)) == 0
    assert space.run_process(area) == space.run_process(area) == 5
    assert len(CALLS) == 9
    assert list(tmp_path.iterdir()) == []


def test_enable_cache_keeps_results_from_then_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = boxes(None)
    space.enable_cache()
    space.sweep(area)
    assert {path.suffix for path in Path("python_cache").rglob("*.npz")} == {".npz"}
    other = boxes(None)
    other.enable_cache(tmp_path / "python_cache")
    other.sweep(area)
    assert len(CALLS) == 6
    other.clear_cache()
    space.sweep(area)
    assert len(CALLS) == 12


def test_clear_cache_removes_points_and_failures_and_nothing_else(tmp_path):
    space = boxes(None)
    for name in ("mine/data", "empty"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "mine" / "data" / "results.npz").touch()
    (tmp_path / "notes.json").touch()
    before = sorted(tmp_path.rglob("*"))
    space.enable_cache(tmp_path)
    BAD.add((1, 5))
    space.sweep(area, on_error="keep")
    assert len(sorted(tmp_path.rglob("*"))) > len(before) + 6
    space.clear_cache()
    assert sorted(tmp_path.rglob("*")) == before
    assert space.results(area).counts == {"missing": 6}


def test_a_sweep_is_not_limited_by_the_limit_of_the_cache(tmp_path):
    context = Context(tmp_path, cache_limit=1)
    boxes(context).sweep(area)
    assert len(boxes(context).results(area)) == 6


def test_a_context_that_is_read_only_answers_and_keeps_nothing(context):
    boxes(context).sweep(area)
    space = boxes(Context(context.cache_dir, readonly=True), (1, 2, 3, 4))
    files = sorted(context.cache_dir.rglob("*"))
    CALLS.clear()
    assert space.sweep(area)[4, 5] == 20
    assert CALLS == [(4, 5), (4, 7)]
    assert sorted(context.cache_dir.rglob("*")) == files


def test_a_damaged_point_is_computed_again_with_a_warning(context):
    space = boxes(context)
    space.sweep(area)
    paths = sorted(context.cache_dir.rglob("*.npz"))
    data = bytearray(paths[2].read_bytes())
    data[len(data) // 2] ^= 255
    paths[2].write_bytes(data)
    os.truncate(paths[4], 100)
    results = space.results(area)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(results.to_dict()) == 4
    assert len(caught) == 2
    CALLS.clear()
    assert len(space.sweep(area).to_dict()) == 6
    assert len(CALLS) == 2


def test_a_sweep_notices_damage_itself(context):
    space = boxes(context)
    space.sweep(area)
    path = sorted(context.cache_dir.rglob("*.npz"))[0]
    os.truncate(path, 0)
    with pytest.warns(CacheWarning, match="damaged"):
        assert len(space.sweep(area)) == 6
    assert len(CALLS) == 7


def test_memory_explains_points(context):
    boxes(context).sweep(area)
    known = Memory(context.cache_dir / "sweeps", verbose=0).cache(area)
    assert known.explain(length=1, width=5).hit
    assert "width=9" in known.explain(length=1, width=9).reason
    assert len(known.entries()) == 6
    assert known(length=3, width=7) == 21
    assert len(CALLS) == 6


def test_a_dry_run_tells_points_time_and_disk(context):
    space = boxes(context)
    assert space.dry_run()[:3] == (6, 0, 6)
    assert space.dry_run(area) == (6, 0, 6, None, None)
    space.sweep(area, ["length"])
    points, cached, to_do, seconds, nbytes = space.dry_run(area)
    assert (points, cached, to_do) == (6, 3, 3)
    assert 0 < seconds < 1
    assert 300 < nbytes < 10_000
    assert len(CALLS) == 3


def test_a_sweep_of_nothing_is_an_error_and_one_without_points_is_not(context):
    with pytest.raises(ArgumentError, match="nothing to sweep"):
        ParameterSpace("", [Parameter("x")], context=context).sweep(abs)
    assert len(boxes(context).where(lambda length: length > 9).sweep(area)) == 0


class App:
    """An object that has a space and sweeps a method over it."""

    def __init__(self, context):
        self.space = boxes(context)
        self.scale = 1

    def render(self, length):
        CALLS.append(length)
        return self.scale * length


def test_a_method_of_what_has_the_space_is_computed_once(context):
    app = App(context)
    app.space.sweep(app.render)
    app.space["length"].value = 3
    app.space["length"].register_callback(print)
    app.space.sweep(app.render)
    again = App(context)
    again.space.sweep(again.render)
    assert CALLS == [1, 2, 3]
    again.space["width"].value = 7  # It is not given, so the method may look at it.
    again.space.sweep(again.render)
    again.scale = 2
    assert again.space.sweep(again.render)[1, 5] == 2
    assert len(CALLS) == 9


def test_a_closure_over_the_space_is_computed_once(context):
    space = boxes(context)

    def f(length, width):
        CALLS.append((length, width))
        return f"{space.name} {length} {width}"

    space.sweep(f)
    space["length"].value, space["width"].value = 2, 7
    space.sweep(f)
    assert len(CALLS) == 6


def test_a_closure_that_takes_all_parameters_is_computed_once(context):
    space = boxes(context)

    def f(**values):
        CALLS.append(values)
        return f"{space.name} {values}"

    space.sweep(f)
    space["length"].value, space["width"].value = 2, 7
    space.sweep(f)
    assert len(CALLS) == 6


def test_a_value_that_a_closure_looks_at_counts(context):
    space = boxes(context)
    width = space["width"]

    def f(length):
        return length * width.value

    first = space.sweep(f, ["length"])[3]
    width.value = 7
    assert (first, space.sweep(f, ["length"])[3]) == (15, 21)


def test_a_sweep_in_the_background_can_be_stopped_by_a_callback(context):
    space = ParameterSpace("", [Parameter("i", range(20))], context=context)
    space["i"].register_callback(lambda i: space.stop_sweep() if i == 3 else None)
    assert space.sweep_async(lambda i: i).get(60).counts == {"done": 4, "missing": 16}


SPACES = []


def stops(i):
    SPACES[0].stop_sweep()
    return i


@pytest.mark.parametrize("is_threaded", [False, True])
def test_a_sweep_in_the_background_can_be_stopped_by_its_function(context, is_threaded):
    with ThreadPoolExecutor(1) as executor:
        context.workers = executor if is_threaded else None
        SPACES[:] = [ParameterSpace("", [Parameter("i", range(3))], context=context)]
        found = SPACES[0].sweep_async(stops).get(60)
    assert found.counts["done"] >= 1
    assert is_threaded or found.counts == {"done": 1, "missing": 2}


def test_retry_of_a_function_that_has_changed_is_refused(context, monkeypatch):
    BAD.add((2, 5))
    space = boxes(context)
    found = space.sweep(through_helper, on_error="keep")
    monkeypatch.setitem(globals(), "helper", lambda length, width: -1)
    with pytest.raises(ArgumentError, match="through_helper, or something it reaches, has changed since"):
        found.retry()
    assert space.sweep(through_helper)[2, 5] == -1
    monkeypatch.undo()
    assert (2, 5) not in space.results(through_helper)


def helper(length, width):
    return area(length, width)


def through_helper(length, width):
    return helper(length, width)


def test_clear_cache_leaves_what_is_not_of_sweeps(context):
    cached = context.cache(area)
    cached(2, 3)
    space = ParameterSpace("", [Parameter("length", [1, 2])])
    space.enable_cache(context.cache_dir)
    space.sweep(area)
    other = context.cache_dir / "mine" / f"{0:032}.json"
    other.parent.mkdir()
    other.write_text("mine")
    space.clear_cache()
    assert len(space.results(area)) == 0
    assert cached.cached(2, 3)
    assert other.read_text() == "mine"


def test_points_that_are_computed_while_the_cache_is_cleared_are_kept(context):
    space = ParameterSpace("", [Parameter("i", range(30))], context=context)

    def f(i):
        if i % 3 == 0:
            space.clear_cache()
        return i

    assert space.sweep(f).counts == {"done": 30}
    assert len(space.results(f)) == 3
    space.clear_cache()
    assert not list((context.cache_dir / "sweeps").rglob("*.npz"))


def test_a_place_where_nothing_can_be_kept_is_told_before_anything_is_computed(context, monkeypatch):
    space = boxes(context)
    monkeypatch.setattr("megalith.sweep.points.os.access", lambda *_: False)
    with pytest.raises(PermissionError, match="points cannot be kept here"):
        space.sweep(area)
    assert CALLS == []
    assert space.run_process(area) == 5


def test_a_cache_in_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        boxes(None).enable_cache(tmp_path / "file")


class SpeechlessError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def test_an_exception_that_cannot_be_told_does_not_hide_the_others(context):
    def f(length):
        if length == 2:
            raise SpeechlessError
        return length

    with pytest.raises(SweepError, match="SpeechlessError: <exception str"):
        boxes(context).sweep(f, ["length"])


def test_failures_that_could_not_be_noted_are_told(context, monkeypatch):
    monkeypatch.setattr("megalith.sweep.points.note_failure", lambda *_: None)
    BAD.add((2, 5))
    (failed,) = boxes(context).sweep(area, on_error="keep").failures
    assert failed.error == "ValueError: no box of 2 x 5"


def test_functions_that_cannot_be_called_by_name_are_refused(context):
    def by_position(length=7, /):
        return length

    async def later(length):
        return length

    with pytest.raises(ArgumentError, match="'length' cannot be given by name"):
        boxes(context).sweep(by_position)
    with pytest.raises(ArgumentError, match="coroutine function later"):
        boxes(context).sweep(later)
    with pytest.raises(ArgumentError, match="dependencies: got None"):
        boxes(context).sweep(area, dependencies=None)


def files(directory):
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*")}


def test_points_below_are_done_and_new_ones_are_kept_here(context, tmp_path):
    boxes(context).sweep(area)
    before = files(context.cache_dir)
    CALLS.clear()
    above = boxes(Context(tmp_path / "above", below=context.cache_dir), lengths=(1, 2, 3, 4))
    plan = above.dry_run(area)
    assert (plan.points, plan.cached, plan.to_do) == (8, 6, 2)
    assert plan.nbytes is not None
    assert above.cached(area)
    assert above.run_process(area, {"length": 2}) == 10
    found = above.sweep(area)
    assert CALLS == [(4, 5), (4, 7)]
    assert found.to_xarray().area.sel(length=2, width=7) == 14
    assert pickle.loads(pickle.dumps(above)).results(area).counts == {"done": 8}
    above.sweep(area, force_recompute=True)
    above.clear_cache()
    assert above.results(area).counts == {"done": 6, "missing": 2}
    assert files(context.cache_dir) == before


def test_a_damaged_point_below_is_computed_and_kept_here(context, tmp_path):
    boxes(context).sweep(area)
    path = next((context.cache_dir / "sweeps").rglob("*.npz"))
    path.write_bytes(b"damaged")
    CALLS.clear()
    above = boxes(Context(tmp_path / "above", below=context.cache_dir))
    with pytest.warns(CacheWarning, match="damaged"):
        assert above.sweep(area).counts == {"done": 6}
    assert len(CALLS) == 1
    assert above.sweep(area).counts == {"done": 6}
    assert len(CALLS) == 1
    assert path.read_bytes() == b"damaged"


def test_a_link_in_place_of_a_point_is_set_aside_and_the_point_computed(context, tmp_path):
    boxes(context).sweep(area)
    path = next((context.cache_dir / "sweeps").rglob("*.npz"))
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    CALLS.clear()
    with pytest.warns(CacheWarning, match="damaged"):
        assert boxes(context).sweep(area).counts == {"done": 6}
    assert len(CALLS) == 1
    assert not path.is_symlink()


class Speechless:
    """A value that cannot be shown."""

    def __repr__(self):
        raise RuntimeError("no words")


def test_values_that_cannot_be_shown_are_swept_all_the_same(context):
    space = ParameterSpace("", [Parameter("thing", [Speechless()])], context=context)
    assert list(space.sweep(lambda thing: 3).values()) == [3]


def test_an_object_that_cannot_be_a_key_is_named_with_what_mends_it(context):
    app = App(context)
    app.lock = threading.Lock()
    with pytest.raises(
        DTypeError, match=r"self\.lock.*a lock cannot be a key; sweep a function that does not reach it"
    ):
        app.space.sweep(app.render)


def test_retry_of_a_sweep_that_computed_anew_does_so_too(context):
    space = boxes(context)
    space.sweep(area)
    BAD.add((2, 5))
    found = space.sweep(area, force_recompute=True, on_error="keep")
    assert found.counts == {"done": 5, "failed": 1}
    assert space.run_process(area, {"length": 2}) == 10
    CALLS.clear()
    BAD.clear()
    assert found.retry().counts == {"done": 6}
    assert CALLS == [(2, 5)]

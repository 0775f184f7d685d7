"""`Context.map` and `map_async`; what all kinds of worker do is held by tests/maps."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from megalith import Context, maps
from megalith.exceptions import ArgumentError


@pytest.fixture
def context(tmp_path):
    return Context(tmp_path / "cache")


def test_without_workers_a_map_runs_here(context):
    assert context.map(lambda x: (x * x, os.getpid()), [1, 2]) == [(1, os.getpid()), (4, os.getpid())]


def test_without_workers_map_async_runs_in_the_background(context):
    result = context.map_async(lambda x: x * x, [1, 2, 3])
    assert result.get() == [1, 4, 9]


def test_workers_can_be_set_later_and_come_before_the_view(context):
    context.workers = 2
    context.ipy_view = "not a view"
    assert os.getpid() not in context.map(lambda _: os.getpid(), range(4))
    context.workers = None
    with pytest.raises(ArgumentError, match="workers: got str"):
        context.map(abs, [1])


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, "serial", object()])
def test_workers_that_cannot_work_are_refused(context, workers):
    context.workers = workers
    with pytest.raises(ArgumentError, match="workers"):
        context.map(abs, [1])
    with pytest.raises(ArgumentError, match="workers"):
        context.map_async(abs, [1])


def test_on_error_is_checked(context):
    with pytest.raises(ArgumentError, match="on_error: got 'ignore'"):
        context.map(abs, [1], on_error="ignore")


def test_failures_are_kept(context):
    results = context.map(lambda x: 1 / x, [1, 0], on_error="keep")
    assert results[0] == 1
    assert isinstance(results[1], maps.Failure)
    assert isinstance(results[1].error, ZeroDivisionError)


def test_the_bar_is_shown_only_if_asked_for(context, capsys):
    context.map(abs, [1, 2])
    assert capsys.readouterr().err == ""
    context.map(abs, [1, 2], verbose=True)
    assert "2/2" in capsys.readouterr().err


def test_workers_find_the_results_of_cached_functions(context):
    def slow(x):
        return x.sum(), os.getpid()

    cached = context.cache(slow)
    arrays = [np.full(1000, i) for i in range(4)]
    context.workers = 2
    first = context.map(cached, arrays)
    assert os.getpid() not in {pid for _, pid in first}
    assert context.map(cached, arrays) == first
    assert [cached(array) for array in arrays] == [list(pair) for pair in first] or [
        tuple(cached(array)) for array in arrays
    ] == first


def test_a_context_inside_of_an_item_is_this_one(context):
    with ThreadPoolExecutor(1) as executor:
        context.workers = executor
        assert context.map(lambda c: str(c.cache_dir), [context]) == [str(context.cache_dir)]
    context.workers = 1
    assert context.map(lambda c: str(c.cache_dir), [context]) == [str(context.cache_dir)]

"""phy's own tests of what a Context maps, with other imports and today's start of ipyparallel.

References
----------
.. [1] phy ``phy/io/tests/test_context.py``, 2016.
"""

import pickle

import ipyparallel
import numpy as np
import pytest
from numpy.testing import assert_array_equal as ae

from megalith import Context


@pytest.fixture(scope="module")
def ipy_client():
    with ipyparallel.Cluster(n=2) as client:
        yield client


@pytest.fixture(params=[False, True], ids=["serial", "parallel"])
def parallel_context(tmp_path, ipy_client, request):
    """Parallel and non-parallel context."""
    ctx = Context(f"{tmp_path}/cache/")
    if request.param:
        ctx.ipy_view = ipy_client[:]
    return ctx


def test_client_1(ipy_client):
    assert ipy_client.ids == [0, 1]
    assert ipy_client[:].map_sync(lambda x: x * x, [1, 2, 3]) == [1, 4, 9]


def test_pickle_cache(tmp_path, parallel_context):
    """Make sure the Context is picklable."""
    with (tmp_path / "test.pkl").open("wb") as f:
        pickle.dump(parallel_context, f)
    with (tmp_path / "test.pkl").open("rb") as f:
        ctx = pickle.load(f)
    assert isinstance(ctx, Context)
    assert ctx.cache_dir == parallel_context.cache_dir


def test_context_map(parallel_context):
    def square(x):
        return x * x

    assert parallel_context.map(square, [1, 2, 3]) == [1, 4, 9]
    # In phy a RuntimeError without a view; here it runs in the background.
    assert parallel_context.map_async(square, [1, 2, 3]).get() == [1, 4, 9]


@pytest.mark.parametrize("multiple_outputs", [True, False])
def test_context_dask(parallel_context, multiple_outputs):
    from dask.array import from_array, from_npy_stack

    context = parallel_context

    if not multiple_outputs:

        def f4(x, onset):
            return x * x * x * x

        name = None
    else:

        def f4(x, onset):
            return x * x * x * x + onset, x + 1

        name = ("power_four", "plus_one")

    x = np.arange(10)
    da = from_array(x, chunks=(3,))
    res = context.map_dask_array(f4, da, 0, name=name)

    # Check that we can load the dumped dask array from disk.
    # The location is in the context cache dir, in a subdirectory with the
    # name of the function by default.
    if not multiple_outputs:
        ae(res.compute(), x**4)

        y = from_npy_stack(context.cache_dir / "f4")
        ae(y.compute(), x**4)
    else:
        ae(res[0].compute(), x**4)
        ae(res[1].compute(), x + 1)
        y = from_npy_stack(context.cache_dir / "power_four")
        ae(y.compute(), x**4)

        y = from_npy_stack(context.cache_dir / "plus_one")
        ae(y.compute(), x + 1)

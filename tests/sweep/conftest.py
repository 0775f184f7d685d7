"""A Context of its own for each test, and real clusters that are started once."""

import os

import pytest

from megalith import Context


@pytest.fixture
def context(tmp_path):
    return Context(tmp_path / "cache")


@pytest.fixture(scope="session")
def ipyparallel_view(tmp_path_factory):
    """A load-balanced view of a cluster of two engines."""
    ipyparallel = pytest.importorskip("ipyparallel", reason="ipyparallel comes with the test extra")
    before = os.environ.get("IPYTHONDIR")
    os.environ["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))
    try:
        with ipyparallel.Cluster(n=2, log_level=40) as client:
            yield client.load_balanced_view()
    finally:
        if before is None:
            del os.environ["IPYTHONDIR"]
        else:
            os.environ["IPYTHONDIR"] = before


@pytest.fixture(scope="session")
def dask_client():
    """A client of a cluster of two processes."""
    distributed = pytest.importorskip("distributed", reason="dask comes with the test extra")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        yield client

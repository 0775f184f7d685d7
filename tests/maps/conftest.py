"""Real workers of every kind; clusters are started once."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest


@pytest.fixture(scope="session")
def ipyparallel_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a cluster of two engines."""
    yield from engines(2, tmp_path_factory)


@pytest.fixture
def doomed_ipyparallel_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a cluster whose engines may be killed: four, so that one is left."""
    yield from engines(4, tmp_path_factory)


def engines(n: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    ipyparallel = pytest.importorskip("ipyparallel", reason="ipyparallel comes with the test extra")
    before = os.environ.get("IPYTHONDIR")
    os.environ["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))
    try:
        with ipyparallel.Cluster(n=n, log_level=40) as client:
            yield client
    finally:
        if before is None:
            del os.environ["IPYTHONDIR"]
        else:
            os.environ["IPYTHONDIR"] = before


@pytest.fixture(scope="session")
def dask_client() -> Iterator[Any]:
    """A client of a cluster of two processes."""
    distributed = pytest.importorskip("distributed", reason="dask comes with the test extra")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="session")
def threads() -> Iterator[ThreadPoolExecutor]:
    """Two threads."""
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def processes() -> Iterator[ProcessPoolExecutor]:
    """Two forked processes."""
    with ProcessPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def loky() -> Iterator[Any]:
    """Two processes of loky."""
    loky = pytest.importorskip("loky", reason="loky comes with the test extra")
    with loky.ProcessPoolExecutor(2, timeout=60) as executor:
        yield executor

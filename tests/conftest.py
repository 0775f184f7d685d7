"""Settings of the whole suite: Hypothesis profiles, a limit on the time of each test, a clean slate after it; clusters.

The groups of element types (INTS, FLOATS, NUMERIC, ALL) and the pairwise cases are in `megalith.testing.cases`.
MEGALITH_HYPOTHESIS chooses the profile: `ci` (few examples, always the same), `default`, `nightly` (very many).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

TIMEOUT_S = 120
"""A test that takes longer hangs: the whole run ends with the stacks of all threads, because nothing less stops a
thread that waits inside of the core."""

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("ci", max_examples=30, derandomize=True, database=None, print_blob=True, **COMMON)
settings.register_profile("default", max_examples=100, **COMMON)
settings.register_profile("nightly", max_examples=5000, **COMMON)
settings.load_profile(os.environ.get("MEGALITH_HYPOTHESIS", "default"))


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.hasplugin("timeout"):
        raise pytest.UsageError("the tests need pytest-timeout, so that a hang is a failure: pip install '.[test]'")
    # The marks of SciPy's own tests, which arrays/test_scipy_suite.py takes over.
    for mark in ("skip_xp_backends", "xfail_xp_backends", "array_api_backends", "uses_xp_capabilities"):
        config.addinivalue_line("markers", f"{mark}: of SciPy's test suite, means other array libraries")
    for mark in ("parallel_threads_limit", "thread_unsafe", "iterations", "xslow", "slow", "fail_slow"):
        config.addinivalue_line("markers", f"{mark}: of SciPy's test suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S, method="thread"))


@pytest.fixture(autouse=True)
def settings_as_they_were() -> Iterator[None]:
    """Put the number of threads and the module settings of `megalith.arrays` back after each test."""
    import megalith
    from megalith import arrays

    names = ("default_processes", "default_blocks_per_process", "default_cutoff")
    before = {name: getattr(arrays, name) for name in names}
    yield
    for name, value in before.items():
        setattr(arrays, name, value)
    megalith.set_threads(None)


@pytest.fixture
def root() -> Path:
    """The top of the repository."""
    return Path(__file__).resolve().parents[1]


def engines(n: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a cluster of n ipyparallel engines, and give its client."""
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
def ipyparallel_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a cluster of two engines, started once."""
    yield from engines(2, tmp_path_factory)


@pytest.fixture
def doomed_ipyparallel_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a cluster whose engines may be killed: four, so that one is left."""
    yield from engines(4, tmp_path_factory)


@pytest.fixture(scope="session")
def dask_client() -> Iterator[Any]:
    """A client of a cluster of two processes, started once; it is nobody's default."""
    distributed = pytest.importorskip("distributed", reason="dask comes with the test extra")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client

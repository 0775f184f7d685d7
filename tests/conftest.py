"""Settings of the whole suite: Hypothesis profiles, a limit on the time of each test, and a clean slate after it.

The groups of element types (INTS, FLOATS, NUMERIC, ALL) and the pairwise cases are in `megalith.testing.cases`.
MEGALITH_HYPOTHESIS chooses the profile: `ci` (few examples, always the same), `default`, `nightly` (very many).
"""

import os
from collections.abc import Iterator
from pathlib import Path

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

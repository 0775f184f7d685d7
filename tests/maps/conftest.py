"""Workers of this machine; clusters are those of the whole suite."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest


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

"""phylib's own tests of arrays in pieces and of artificial data, run against ours.

Only the imports change: what the test files of the installed phylib import is ours, as the tables say.
"""

import functools

import pytest
from phylib.io.tests import test_array, test_mock

from megalith import mock, select

OURS = {
    "_pad": select.pad,
    "chunk_bounds": select.chunk_bounds,
    "excerpts": select.excerpts,
    "data_chunk": select.data_chunk,
    "get_excerpts": select.get_excerpts,
    "read_array": select.read_array,
    "write_array": select.write_array,
}
MOCKS = {name: functools.partial(getattr(mock, name), seed=0) for name in mock.__all__ if name != "artificial_volume"}

TAKEN = [
    "test_pad",
    "test_read_write",
    "test_chunk_bounds",
    "test_chunk",
    "test_excerpts_1",
    "test_excerpts_2",
    "test_get_excerpts",
]


@pytest.fixture
def tempdir(tmp_path):
    """What phylib's conftest calls the directory of a test."""
    return tmp_path


@pytest.fixture(autouse=True)
def ours(monkeypatch):
    for module, table in ((test_array, OURS), (test_mock, MOCKS)):
        for name, thing in table.items():
            monkeypatch.setattr(module, name, thing)


for name in TAKEN:
    globals()[name] = getattr(test_array, name)

test_artificial = test_mock.test_artificial

"""A Context of its own for each test."""

import pytest

from megalith import Context


@pytest.fixture
def context(tmp_path):
    return Context(tmp_path / "cache")

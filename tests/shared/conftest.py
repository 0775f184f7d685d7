"""A directory in shared memory for each test, in which nothing may be left, and names nobody else uses."""

import os
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from megalith import shared
from megalith.testing.faults import left_behind, shared_directory


@pytest.fixture(autouse=True)
def default_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no setting of the user's decide where shared arrays are."""
    monkeypatch.delenv("MEGALITH_SHARED_DIR", raising=False)


@pytest.fixture
def shm() -> Iterator[Path]:
    """A directory in shared memory; whatever the test has not freed is a failure."""
    with shared_directory() as directory:
        yield directory
        assert left_behind(directory) == []


@pytest.fixture
def store(shm: Path) -> Iterator[SimpleNamespace]:
    """The functions of `megalith.shared` on a directory of the test's own; what is stored there is freed at the end."""
    where = {"shm_path": str(shm)}
    yield SimpleNamespace(
        directory=shm,
        cache=partial(shared.cache, verbose=False, **where),
        get=partial(shared.get, **where),
        free=partial(shared.free, **where),
        allocate=partial(shared.allocate, **where),
        decorator=partial(shared.decorator, verbose=False, **where),
        ls=partial(shared.ls, **where),
        usage=partial(shared.usage, **where),
        prune=partial(shared.prune, **where),
        file=lambda id, suffix=".npy": shm / f"sharearray_{id}{suffix}",
    )
    for path in shm.glob("sharearray_*"):
        shared.free(path.name.removeprefix("sharearray_").rpartition(".")[0], **where)


@pytest.fixture
def key() -> Iterator[str]:
    """A name in the machine's own shared memory; freed at the end, and then nothing of it may be left."""
    key = f"test-{os.getpid()}-{uuid.uuid4().hex}"
    yield key
    shared.free(key)
    memory = Path("/dev/shm")
    directories = [memory, memory / f"megalith-{os.getuid()}"]
    left = [path for directory in directories if directory.is_dir() for path in directory.glob(f"*{key}*")]
    assert left == []

"""MEGALITH_SHARED_DIR: shared arrays in another directory, the way of systems without /dev/shm."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import megalith
from megalith import shared
from megalith.exceptions import KeyMissingError, LockTimeoutError
from megalith.testing.faults import left_behind


@pytest.fixture(params=["memory", "disk"])
def elsewhere(request, monkeypatch, tmp_path, shm):
    """A directory that does not exist yet, in memory and on a disk, named by the variable."""
    directory = (shm if request.param == "memory" else tmp_path) / "made" / "when needed"
    monkeypatch.setenv("MEGALITH_SHARED_DIR", str(directory))
    yield directory
    if directory.exists():
        for entry in shared.ls():
            shared.free(entry.id)
        assert left_behind(directory) == []
        for path in [*directory.glob("megalith-*"), directory, directory.parent]:
            path.rmdir()


def test_the_directory_is_made_for_its_user_only(elsewhere):
    before = os.umask(0)
    try:
        shared.cache("a", np.arange(5), verbose=False)
    finally:
        os.umask(before)
    assert (elsewhere / "sharearray_a.npy").exists()
    assert elsewhere.stat().st_mode & 0o777 == 0o700
    assert not Path("/dev/shm/sharearray_a.npy").exists()


def test_everything_works_there(elsewhere):
    assert shared.cache("a", lambda: np.arange(5), verbose=False).tolist() == [0, 1, 2, 3, 4]
    assert shared.get("a").ctypes.data != 0
    assert shared.cache("b", lambda: {"x": np.ones(3)}, verbose=False)["x"].sum() == 3
    with shared.allocate("c", 3, "u1") as array:
        array[:] = 2
    assert shared.get("c").sum() == 6
    assert sorted(entry.id for entry in shared.ls()) == ["a", "b", "c"]
    assert shared.usage() == sum(entry.nbytes for entry in shared.ls())
    with pytest.raises(LockTimeoutError):
        shared.cache("d", lambda: shared.cache("d", np.ones(1), verbose=False), verbose=False)
    shared.prune(max_bytes=0)
    assert shared.ls() == []
    with pytest.raises(KeyMissingError):
        shared.get("a")


def test_other_processes_find_it_there(elsewhere):
    shared.cache("a", np.arange(5), verbose=False)
    code = "from megalith import shared; print(shared.get('a').tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[0, 1, 2, 3, 4]\n", done.stderr


def test_what_is_not_there_needs_no_directory(elsewhere):
    assert shared.ls() == []
    assert shared.usage() == 0
    shared.free("a")
    with pytest.raises(KeyMissingError):
        shared.get("a")


def test_writable_shared_memory_lies_there(elsewhere):
    sink, buffer = megalith.initialize_sink(shape=(3, 4), dtype="f8", memory="shared")
    buffer[:] = 1
    assert sink.memory == "shared"
    assert sink.array.sum() == 12


def test_another_directory_is_taken_as_it_is(elsewhere, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shared.cache("a", np.arange(5), str(other), verbose=False)
    assert (other / "sharearray_a.npy").exists()
    assert not elsewhere.exists()


def test_an_empty_variable_means_nothing(monkeypatch, key):
    monkeypatch.setenv("MEGALITH_SHARED_DIR", "")
    shared.cache(key, np.arange(5), verbose=False)
    assert Path(f"/dev/shm/sharearray_{key}.npy").exists()

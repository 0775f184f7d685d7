"""Every kind of worker, and what the tests compute on them."""

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="session")
def processes():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


@pytest.fixture
def calls(tmp_path):
    """A file in which functions note what they are called with, whichever process they are in."""
    return Calls(tmp_path / "calls")


class Calls:
    def __init__(self, path):
        self.path = Path(path)

    def add(self, word):
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{word}\n".encode())
        os.close(file)

    def all(self):
        return self.path.read_text().split() if self.path.exists() else []

    def clear(self):
        self.path.unlink(missing_ok=True)


def values(shape, dtype="f8"):
    """Numbers of any type that HDF5 can hold, none like another as far as the type allows."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(3)
    if dtype.names is not None:
        made = np.zeros(shape, dtype)
        for name in dtype.names:
            made[name] = values((*np.shape(made[name]),), dtype[name].base)
        return made
    if dtype.kind in "SV":
        return rng.integers(97, 122, (*shape, dtype.itemsize), dtype=np.uint8).view(dtype).reshape(shape)
    if dtype.kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    return (rng.normal(size=shape) * 100).astype(dtype) if dtype != np.bool_ else rng.random(shape) < 0.5

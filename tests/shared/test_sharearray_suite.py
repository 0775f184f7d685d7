"""What sharearray's own tests check, checked of ours: only the module and its private helper are other ones."""

import unittest
from pathlib import Path

import numpy as np

from megalith import shared
from megalith.shared import _build_path

SHAPE = (5, 6)


class TestCache(unittest.TestCase):
    """The three scenarios of sharearray's suite, under its names and in the machine's own shared memory."""

    def paths(self, identifier):
        return [Path(path) for path in _build_path(identifier, shm_path="/dev/shm", prefix="sharearray_")]

    def assert_there(self, identifier):
        array, lock = self.paths(identifier)
        assert array.exists()
        assert not lock.exists()

    def assert_gone(self, identifier):
        array, lock = self.paths(identifier)
        assert not array.exists()
        assert not lock.exists()

    def test_simple(self):
        identifier = "testcache_simple"
        self.addCleanup(shared.free, identifier)
        values = np.random.default_rng(0).normal(size=SHAPE)
        created = shared.cache(identifier, array_or_callback=values, timeout=-1, verbose=True)
        assert (created == values).all()
        opened = shared.cache(identifier, array_or_callback=values, timeout=-1, verbose=True)
        assert (opened == values).all()
        del created
        del opened
        shared.free(identifier)

    def test_callback(self):
        identifier = "testcache_callback"
        self.addCleanup(shared.free, identifier)
        shared.free(identifier)
        self.assert_gone(identifier)
        created = shared.cache(identifier, array_or_callback=lambda: np.ones(SHAPE), timeout=-1, verbose=True)
        self.assert_there(identifier)
        del created
        self.assert_there(identifier)
        shared.free(identifier)
        self.assert_gone(identifier)

    def test_decorator(self):
        identifier = "testcache_decorator"
        self.addCleanup(shared.free, identifier)

        @shared.decorator(identifier, verbose=False)
        def data():
            return np.ones(SHAPE)

        shared.free(identifier)
        self.assert_gone(identifier)
        first = data()
        assert (first == 1).all()
        self.assert_there(identifier)
        second = data()
        assert (second == 1).all()
        self.assert_there(identifier)
        shared.free(identifier)
        self.assert_gone(identifier)

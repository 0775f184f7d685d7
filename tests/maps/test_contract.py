"""Every kind of worker does the same: `MapContract` on each of them."""

import pytest

from megalith.testing.maps import MapContract


class TestSerial(MapContract):
    can_die = False
    is_process = False

    @pytest.fixture
    def workers(self):
        return None


class TestThreads(MapContract):
    can_die = False
    is_process = False

    @pytest.fixture
    def workers(self, threads):
        return threads


class TestProcesses(MapContract):
    @pytest.fixture
    def workers(self, processes):
        return processes

    @pytest.fixture
    def mortals(self, processes):
        return processes


class TestLoky(MapContract):
    @pytest.fixture
    def workers(self, loky):
        return loky

    @pytest.fixture
    def mortals(self, loky):
        return loky


class TestOwnProcesses(MapContract):
    @pytest.fixture
    def workers(self):
        return 2

    @pytest.fixture
    def mortals(self):
        return 2


class TestLoadBalancedView(MapContract):
    @pytest.fixture
    def workers(self, ipyparallel_client):
        return ipyparallel_client.load_balanced_view()

    @pytest.fixture
    def mortals(self, doomed_ipyparallel_client):
        return doomed_ipyparallel_client.load_balanced_view()


class TestDirectView(MapContract):
    can_die = False

    @pytest.fixture
    def workers(self, ipyparallel_client):
        return ipyparallel_client[:]


class TestBroadcastView(MapContract):
    can_die = False

    @pytest.fixture
    def workers(self, ipyparallel_client):
        return ipyparallel_client.broadcast_view()


class TestDask(MapContract):
    @pytest.fixture
    def workers(self, dask_client):
        return dask_client

    @pytest.fixture
    def mortals(self, dask_client):
        return dask_client

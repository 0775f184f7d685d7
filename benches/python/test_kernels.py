"""The workloads of the kernels under pytest-benchmark: a group for each, with our way and its peers'.

    pytest benches/python/test_kernels.py --elements 1000000 --benchmark-group-by=group

Results are compared before anything is timed. `--benchmark-disable` only compares.
"""

import functools

import pytest

from megalith.cli.workloads import kernels, same


@functools.cache
def names():
    return [(workload.name, peer) for workload in kernels(1000) for peer in ("megalith", *workload.peers)]


@functools.lru_cache(maxsize=1)
def workload(name, elements):
    return next(workload for workload in kernels(elements) if workload.name == name)


@pytest.mark.parametrize(("name", "way"), names())
def test_kernel(benchmark, name, way, request):
    found = workload(name, request.config.getoption("--elements"))
    run = found.ours if way == "megalith" else found.peers[way]
    assert same(found.ours(), run())
    benchmark.group = name
    benchmark(run)

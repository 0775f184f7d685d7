"""`megalith bench` and the benches: what they time gives equal results, and what they write can be read."""

import json
import platform
import subprocess
import sys

import numpy as np
import pytest

from megalith import _core
from megalith.cli import main
from megalith.cli.workloads import UnequalError, Workload, bandwidth, kernels, measure

ELEMENTS = 20_000


@pytest.fixture(scope="module")
def workloads():
    return {workload.name: workload for workload in kernels(ELEMENTS, 2)}


def test_each_workload_gives_what_its_peers_give(workloads):
    for workload in workloads.values():
        measured = measure(workload, repeat=1)
        assert measured.seconds > 0
        assert set(measured.peers) == set(workload.peers)


def test_every_kernel_is_measured_and_some_workloads_are_essential(workloads):
    for kernel in (
        *("where", "apply_lut", "apply_lut_to_index", "correlate1d", "block_sums", "block_counts", "neighbours"),
        *("spikes_per_cluster", "grouped_mean"),
    ):
        assert any(name.startswith(kernel) for name in workloads)
    essential = [workload for workload in workloads.values() if workload.essential]
    assert 8 <= len(essential) < len(workloads) / 2


def test_a_wrong_result_is_an_error_and_no_time():
    workload = Workload("wrong", 8, lambda: np.array([1]), {"right": lambda: np.array([2])})
    with pytest.raises(UnequalError, match="wrong: the result is not that of right"):
        measure(workload, repeat=1)


def test_bench_prints_a_table_and_writes_it_and_a_plot(tmp_path, capsys):
    table, plot = tmp_path / "bench.json", tmp_path / "bench.png"
    arguments = ["bench", "--elements", str(ELEMENTS), "--only", "where|sums", "--processes", "2"]
    assert main([*arguments, "--json", str(table), "--plot", str(plot)]) == 0
    written = json.loads(table.read_text())
    assert written["machine"]["level"] == _core.cpu_level()
    assert platform.machine() in written["machine"]["processor"]
    assert written["memory"]["read"] > 0
    names = {row["workload"] for row in written["rows"]}
    assert names == {"where 1-d uint8, 10 %", "where 3-d uint8, 10 %", "block_sums uint8", "block_sums float32"}
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_number_of_elements_below_one_is_refused(capsys):
    assert main(["bench", "--elements", "0"]) == 1
    assert "--elements: got 0, expected a whole number of 1 or more" in capsys.readouterr().err


def test_bandwidth_is_read_and_written(monkeypatch):
    found = bandwidth(2, 1 << 22)
    assert set(found) == {"read", "write", "fresh", "cached"}
    assert all(rate > 0 for rate in found.values())
    words = np.arange(100, dtype=np.uint64)
    assert _core.probe_read(words) == words.sum()
    _core.probe_write(words, 7)
    assert (words == 7).all()


@pytest.mark.parametrize("level", ["baseline", "avx2", "avx512", "nonsense"])
def test_the_environment_lowers_the_level_and_cannot_raise_it(level):
    program = "from megalith import _core; print(_core.cpu_level())"
    used = subprocess.run(
        [sys.executable, "-c", program],
        env={"MEGALITH_SIMD": level, "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    order = ["baseline", "avx2", "avx512"]
    if used == "neon":
        return
    highest = _core.cpu_level()
    wanted = order.index(level) if level in order else len(order) - 1
    assert order.index(used) == min(wanted, order.index(highest))

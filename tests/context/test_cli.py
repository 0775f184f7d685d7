"""``megalith cache``: what a shell shows and does."""

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

from megalith import Context, Parameter, ParameterSpace
from megalith.cli import main
from megalith.context.disk import Memory


def cube(x):
    return np.full(1000, x**3)


@pytest.fixture
def cache(tmp_path):
    context = Context(tmp_path / "cache")
    cached = context.cache(cube)
    for x in range(3):
        cached(x)
        # Used one after the other, whatever the clock of the file system can tell apart.
        (path,) = (entry.path for entry in cached.entries() if entry.arguments == {"x": str(x)})
        os.utime(path, (time.time() - 100 * (3 - x), time.time()))
    return context.cache_dir, cached


def test_ls_lists_results_and_their_arguments(cache, capsys):
    assert main(["cache", "ls", str(cache[0])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["function", "arguments", "size", "took", "last", "use"]
    assert [line.split()[1] for line in lines[1:4]] == ["x=0", "x=1", "x=2"]
    assert lines[4].startswith("in all")
    assert "3 results" in lines[4]


def test_du_sums_up_functions(cache, capsys):
    assert main(["cache", "du", str(cache[0])]) == 0
    out = capsys.readouterr().out
    assert "cube" in out
    assert re.search(r"25\.\d KiB", out)  # how long it took is written in few digits or many


def test_verify_finds_and_removes_what_is_damaged(cache, capsys):
    directory, cached = cache
    assert main(["cache", "verify", str(directory)]) == 0
    assert re.search(r"3 results, 25\.\d KiB: 0 damaged", capsys.readouterr().out)
    path = Path(cached.entries()[0].path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert main(["cache", "verify", str(directory)]) == 1
    assert "1 damaged" in capsys.readouterr().out
    assert path.exists()
    assert main(["cache", "verify", "--remove", str(directory)]) == 1
    assert "1 damaged (removed)" in capsys.readouterr().out
    assert not path.exists()
    assert main(["cache", "verify", str(directory)]) == 0


def test_prune_removes_the_longest_unused(cache, capsys):
    directory, cached = cache
    assert main(["cache", "prune", "--max-bytes", "9000", str(directory)]) == 0
    assert "2 results removed" in capsys.readouterr().out
    assert [cached.cached(x) for x in range(3)] == [False, False, True]
    assert main(["cache", "prune", "--max-age", "50", str(directory)]) == 0
    assert not cached.cached(2)


def test_clear_removes_all(cache, capsys):
    directory, cached = cache
    assert main(["cache", "clear", str(directory)]) == 0
    assert "3 results removed" in capsys.readouterr().out
    assert cached.entries() == []


def test_a_directory_of_memory_is_understood(tmp_path, capsys):
    Memory(str(tmp_path), verbose=0).cache(cube)(2)
    assert main(["cache", "ls", str(tmp_path)]) == 0
    assert "x=2" in capsys.readouterr().out


def test_a_directory_that_is_missing_is_said(tmp_path, capsys):
    assert main(["cache", "ls", str(tmp_path / "none")]) == 1
    assert "is no directory" in capsys.readouterr().err


def volume(edge):
    return edge**3


@pytest.fixture
def with_sweep(cache):
    """A directory that has points of a sweep beside cached results."""
    space = ParameterSpace("", [Parameter("edge", [4, 5, 6])], context=Context(cache[0]))
    space.sweep(volume)
    space.sweep(lambda edge: 1 / (edge - 4), on_error="keep")
    return space


def test_points_of_sweeps_are_listed_and_summed_up_beside_results(cache, with_sweep, capsys):
    assert main(["cache", "ls", str(cache[0])]) == 0
    out = capsys.readouterr().out
    assert out.count("cube ") == 3
    assert re.search(r"volume \(sweep\) +edge=4 ", out)
    assert "3 results and 5 points of sweeps" in out
    assert main(["cache", "du", str(cache[0])]) == 0
    assert re.search(r"volume \(sweep\) +3 ", capsys.readouterr().out)


def test_points_of_sweeps_are_verified(cache, with_sweep, capsys):
    assert main(["cache", "verify", str(cache[0])]) == 0
    assert "3 results and 5 points of sweeps" in capsys.readouterr().out
    next((cache[0] / "sweeps").rglob("volume/*.npz")).write_bytes(b"damaged")
    assert main(["cache", "verify", "--remove", str(cache[0])]) == 1
    assert "1 damaged (removed)" in capsys.readouterr().out
    assert with_sweep.results(volume).counts == {"done": 2, "missing": 1}


def test_prune_leaves_points_of_sweeps_unless_told(cache, with_sweep, capsys):
    assert main(["cache", "prune", "--max-bytes", "0", str(cache[0])]) == 0
    out = capsys.readouterr().out
    assert "3 results removed" in out
    assert re.search(r"5 points of sweeps, .* stay; --sweeps removes them too", out)
    assert len(with_sweep.results(volume)) == 3
    assert main(["cache", "prune", "--max-bytes", "0", "--sweeps", str(cache[0])]) == 0
    assert "5 points of sweeps removed" in capsys.readouterr().out
    assert len(with_sweep.results(volume)) == 0


def test_clear_removes_points_of_sweeps_and_notes_of_failures(cache, with_sweep, capsys):
    assert main(["cache", "clear", str(cache[0])]) == 0
    assert "3 results and 5 points of sweeps removed" in capsys.readouterr().out
    assert not list((cache[0] / "sweeps").rglob("*.npz"))
    assert not list((cache[0] / "sweeps").rglob("failures/*"))


def test_a_directory_of_sweeps_alone_is_understood(tmp_path, capsys):
    space = ParameterSpace("", [Parameter("edge", [4, 5, 6])])
    space.enable_cache(tmp_path / "points")
    space.sweep(volume)
    assert main(["cache", "ls", str(tmp_path / "points")]) == 0
    assert capsys.readouterr().out.count("volume (sweep)") == 3

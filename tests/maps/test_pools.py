"""Pools of processes that end otherwise than they should, and what they do after a map has failed."""

from concurrent.futures import ProcessPoolExecutor

import pytest

from megalith import maps
from megalith.exceptions import WorkerDiedError
from megalith.testing.faults import run_python


def refuse():
    raise RuntimeError("not today")


def test_a_pool_whose_processes_do_not_start_is_an_error():
    executor = ProcessPoolExecutor(2, initializer=refuse)
    with executor, pytest.raises(WorkerDiedError, match="initializer"):
        maps.run(abs, range(4), workers=executor)


def test_a_script_that_starts_itself_again_and_again_is_an_error(tmp_path):
    program = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from megalith import maps
maps.run(abs, range(4), workers=ProcessPoolExecutor(2, multiprocessing.get_context("spawn")))
"""
    ended = run_python(program, tmp_path, timeout_s=100)
    assert ended.returncode == 1
    assert "WorkerDiedError" in ended.stderr
    assert "__main__" in ended.stderr


def test_items_that_begin_after_the_map_has_failed_do_not_write_to_other_files(tmp_path):
    program = f"""
import itertools
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from megalith import maps

def fail_late(x):
    if x < 6:
        return
    time.sleep(1.5 if is_first(x) else 0.5)
    raise ValueError

def is_first(x):
    try:
        open("first", "x").close()
    except FileExistsError:
        return False
    return True

if __name__ == "__main__":
    os.chdir({str(tmp_path)!r})
    with ProcessPoolExecutor(2) as executor:
        try:
            maps.run(fail_late, range(40), workers=executor)
        except ValueError:
            pass
        files = []
        for i in range(12):
            Path(str(i)).write_bytes(bytes(1 << 17))
            files.append(open(str(i), "r+b"))
    print(sum(any(Path(str(i)).read_bytes()) for i in range(12)))
"""
    assert int(run_python(program, tmp_path, timeout_s=60).check()) == 0

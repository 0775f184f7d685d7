"""Programs that share arrays, race for them and die: what they all begin with, and how they are run."""

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from megalith.testing.faults import left_behind, run_python, shared_directory, tmpfs_command

PRELUDE = """
import faulthandler, gc, itertools, json, multiprocessing, os, random, signal, subprocess, sys, threading, time
import traceback
from functools import partial
from pathlib import Path
import numpy as np
from megalith import shared
from megalith.exceptions import *
from megalith.testing.faults import left_behind

HANG_S = 60
here = Path(__file__).parent
shm = Path({directory!r})
cache = partial(shared.cache, shm_path=str(shm), verbose=False)
get, free, allocate, ls, prune = (
    partial(getattr(shared, name), shm_path=str(shm)) for name in ("get", "free", "allocate", "ls", "prune")
)

def note(name, line="x"):
    '''Append a line to a list that all processes share.'''
    file = os.open(here / f"{{name}}.list", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{{line}}\\n".encode())
    os.close(file)

def noted(name):
    try:
        return (here / f"{{name}}.list").read_text().split()
    except FileNotFoundError:
        return []

def until(condition, what="it happens"):
    '''Wait for something another process does.'''
    end = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {{what}}"
        time.sleep(0.001)

def until_noted(name, n=1):
    until(lambda: len(noted(name)) >= n, f"{{name}} is noted {{n}} times")

def fork(work, *args):
    '''Call something in a child, which ends with 0 if that raised nothing.'''
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        faulthandler.register(signal.SIGALRM, chain=True)  # says where it hangs, and dies of it
        signal.alarm(HANG_S)
        work(*args)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

def join(*pids):
    '''How children ended: 0, or minus the signal that killed them.'''
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]

def kill(pid):
    os.kill(pid, signal.SIGKILL)
    assert join(pid) == [-9]

def waiting(name):
    '''Options of `cache` that note when it begins to wait.'''
    return {{"verbose": True, "log_func": lambda sentence: note(name) if "wait" in sentence else None}}

def never():
    raise AssertionError("computed although somebody else does")

def as_user(uid, work, *args):
    '''`fork` as another user.'''
    def changed():
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        work(*args)
    return fork(changed)

def raises(kind, call, *args, **options):
    '''The error a call raises, which is of a kind.'''
    try:
        call(*args, **options)
    except kind as error:
        return error
    raise AssertionError(f"no {{kind}}")
"""


@pytest.fixture
def shm() -> Iterator[Path]:
    """A directory in shared memory; whatever the test has not freed is a failure."""
    with shared_directory() as directory:
        yield directory
        assert left_behind(directory) == []


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a program of parts behind the prelude; `directory` is its shared memory. It gives what it printed."""

    def run(directory: Path, *parts: str, timeout_s: float = 100.0, **options: Any) -> str:
        program = PRELUDE.format(directory=str(directory)) + "\n".join(map(textwrap.dedent, parts))
        return run_python(program, tmp_path_factory.mktemp("program"), timeout_s=timeout_s, **options).check()

    return run


@pytest.fixture
def tmpfs(tmp_path: Path) -> Callable[[str], dict[str, object]]:
    """Give options of `run` for a program that has a small file system in memory of its own."""

    def options(size: str) -> dict[str, object]:
        place = tmp_path / "mount"
        place.mkdir(exist_ok=True)
        command = tmpfs_command(place, size)
        if command is None:
            pytest.skip("this system allows no private mounts (unshare --mount), with or without root")
        return {"directory": place, "prefix": command}

    return options

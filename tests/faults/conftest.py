"""Programs that share arrays, race for them and die: what they all begin with, and how they are run."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import megalith
from megalith.testing.faults import left_behind, run_python, shared_directory, tmpfs_command

ROOT = Path(__file__).resolve().parents[2]

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

CONTEXT = """
import asyncio, contextlib, shutil, warnings
from megalith import Context, records
from megalith.context.disk import Memory
from megalith.context.entries import Entries

place = shm / "cache"
own = f"megalith-{os.getuid()}"

def memory(**options):
    return Memory(options.pop("at", place), verbose=0, **options)

def entry_files(at=place):
    return sorted(path for path in at.rglob("*.npz") if path.parent.name != own)

def size(at=place):
    '''Bytes of all entries, of which some may vanish meanwhile.'''
    found = 0
    for path in entry_files(at):
        with contextlib.suppress(FileNotFoundError):
            found += path.lstat().st_size
    return found

def total(at=place):
    '''What the books say, None where they do not know.'''
    number = int.from_bytes((at / "total.bytes").read_bytes()[:8] or bytes([255] * 8), "little", signed=True)
    return None if number < 0 else number

def leftovers(at=place):
    '''Files of locks and drafts, of any function.'''
    return [path for path in at.rglob("*") if path.parent.name == own or path.name.endswith(("-tmp", ".damaged"))]

def warned(call, *args, **options):
    '''What a call gives, and the warnings of it.'''
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = call(*args, **options)
    return got, [str(warning.message) for warning in caught if issubclass(warning.category, CacheWarning)]

def computed(call, *args):
    '''What a call gives, and how often something was noted as computed in it.'''
    before = len(noted("computed"))
    got = call(*args)
    return got, len(noted("computed")) - before
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
def run_context(run: Callable[..., str], tmp_path: Path) -> Callable[..., str]:
    """Run a program of parts that has the tools for results on disk; its cache is `place`."""

    def run_context(*parts: str, directory: Path = tmp_path, **options: Any) -> str:
        return run(directory, CONTEXT, *parts, **options)

    return run_context


@pytest.fixture(scope="session")
def crash_build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a copy of the package whose core dies at MEGALITH_CRASH_AT.

    MEGALITH_CRASH_TARGET names a directory where cargo keeps its build from run to run.
    """
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.skip("crash points need a build of their own, and cargo is not on the path")
    base = tmp_path_factory.mktemp("crash")
    target = Path(os.environ.get("MEGALITH_CRASH_TARGET") or base / "target")
    command = [cargo, "build", "-p", "megalith-python", "--features", "crash-points", "--locked"]
    # Unoptimized, for the time it takes.
    profile = {"CARGO_PROFILE_DEV_DEBUG": "0", "CARGO_PROFILE_DEV_OPT_LEVEL": "0"}
    env = {**os.environ, **profile, "PYO3_PYTHON": sys.executable}
    built = subprocess.run(
        [*command, "--target-dir", target], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    package = base / "python" / "megalith"
    shutil.copytree(Path(megalith.__file__).parent, package, ignore=shutil.ignore_patterns("_core.*so", "__pycache__"))
    library = target / "debug" / ("lib_core.dylib" if sys.platform == "darwin" else "lib_core.so")
    shutil.copy(library, package / "_core.abi3.so")
    yield base / "python"
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def crash_steps() -> list[str]:
    """Every step of MEGALITH_CRASH_AT, as the source of the core lists them."""
    source = ROOT / "rust" / "megalith-files" / "src" / "crash.rs"
    lists = re.findall(r"const \w*STEPS: \[&str; \d+\] =\s*\[(.*?)\]", source.read_text(), flags=re.DOTALL)
    return re.findall(r'"([\w-]+)"', "".join(lists))


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

"""Child processes that may hang, die or run out of space without taking the tests with them."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TextIO

__all__ = [
    "Child",
    "compute_threads",
    "kill_when",
    "left_behind",
    "run_python",
    "shared_directory",
    "tmpfs_command",
]

THREADS = '''
import os

def compute_threads():
    """Threads of the core's pools in this process."""
    names = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as comm:
                names.append(comm.read().strip())
        except FileNotFoundError:  # ended meanwhile
            pass
    return sum(name.startswith("megalith-") for name in names)
'''
"""Source of `compute_threads`, for the beginning of a child's code."""

FORKED = '''
import os, signal

def forked(work):
    """The number of a child that ends well if what it calls is true."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # a child that hangs dies of it
        ok = False
        try:
            ok = work()
        finally:
            os._exit(0 if ok else 1)
    return pid
'''
"""Source of `forked`, for the beginning of a child's code."""


class Child(NamedTuple):
    """What a child process left behind."""

    returncode: int
    stdout: str
    stderr: str

    def check(self) -> str:
        """Give its output, if it ended well.

        Returns
        -------
        stdout : str
            What it printed.

        Raises
        ------
        AssertionError
            If it did not end with 0: with all it said.
        """
        assert self.returncode == 0, f"child ended with {self.returncode}\n{self.stdout}\n{self.stderr}"
        return self.stdout


def _environment(env: Mapping[str, str | None] | None) -> dict[str, str]:
    """Give the environment of this process without settings of threads, changed by `env` (None removes)."""
    full = {k: v for k, v in os.environ.items() if k not in ("MEGALITH_NUM_THREADS", "OMP_NUM_THREADS")}
    for name, value in (env or {}).items():
        if value is None:
            full.pop(name, None)
        else:
            full[name] = value
    return full


def _start(
    code: str,
    directory: Path,
    env: Mapping[str, str | None] | None,
    prefix: Sequence[str],
    output: TextIO,
    errors: TextIO,
) -> subprocess.Popen[bytes]:
    script = directory / f"child_{time.monotonic_ns()}.py"
    script.write_text(textwrap.dedent(THREADS) + textwrap.dedent(code))
    return subprocess.Popen(
        [*prefix, sys.executable, str(script)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        env=_environment(env),
        start_new_session=True,
    )


@contextmanager
def _streams(directory: Path) -> Iterator[tuple[TextIO, TextIO]]:
    """Open files for what a child says: unlike a pipe, a file never makes it wait."""
    directory.mkdir(parents=True, exist_ok=True)
    name = f"child_{time.monotonic_ns()}"
    with (directory / f"{name}.out").open("w+") as output, (directory / f"{name}.err").open("w+") as errors:
        yield output, errors


def _said(stream: TextIO) -> str:
    return Path(stream.name).read_text(errors="replace")


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End a child and all it started: it leads a session of its own."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def run_python(
    code: str,
    directory: Path,
    *,
    timeout_s: float = 60.0,
    env: Mapping[str, str | None] | None = None,
    prefix: Sequence[str] = (),
) -> Child:
    """Run code in a fresh interpreter, and kill it and its children if it takes too long.

    Parameters
    ----------
    code : str
        A program; `compute_threads()` is defined in it.
    directory : Path
        Where its file is written, so that multiprocessing can import it.
    timeout_s : float
        When it is killed.
    env : mapping, optional
        Changes to the environment; a value of None removes a name. MEGALITH_NUM_THREADS and OMP_NUM_THREADS are
        removed unless set here.
    prefix : sequence of str
        A command to run the interpreter under, such as `taskset`.

    Returns
    -------
    child : Child
        How it ended.

    Raises
    ------
    AssertionError
        If it had to be killed.
    """
    with _streams(directory) as (output, errors):
        child = _start(code, directory, env, prefix, output, errors)
        try:
            returncode = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _kill(child)
            raise AssertionError(
                f"child hung for {timeout_s} s and was killed\n{_said(output)}\n{_said(errors)}"
            ) from None
        finally:
            _kill(child)
        return Child(returncode, _said(output), _said(errors))


def kill_when(
    code: str,
    directory: Path,
    word: str,
    *,
    delay_s: float = 0.0,
    timeout_s: float = 60.0,
    env: Mapping[str, str | None] | None = None,
) -> Child:
    """Run code in a fresh interpreter and SIGKILL it some time after it printed a word.

    Parameters
    ----------
    code : str
        A program that prints `word` on a line of its own, flushed, when it may be killed.
    directory : Path
        Where its file is written.
    word : str
        What it prints.
    delay_s : float
        How long after that it is killed.
    timeout_s : float
        How long it may take to print it.
    env : mapping, optional
        As in `run_python`.

    Returns
    -------
    child : Child
        Its return code is -9 if it was still running.

    Raises
    ------
    AssertionError
        If it ended or hung without printing the word.
    """
    with _streams(directory) as (output, errors):
        child = _start(code, directory, env, (), output, errors)
        deadline = time.monotonic() + timeout_s
        try:
            while word not in _said(output).splitlines():
                assert child.poll() is None, f"child ended early\n{_said(output)}\n{_said(errors)}"
                assert time.monotonic() < deadline, f"child did not say {word!r} in {timeout_s} s\n{_said(output)}"
                time.sleep(0.002)
            time.sleep(delay_s)
        finally:
            _kill(child)
        return Child(child.returncode, _said(output), _said(errors))


def compute_threads() -> int:
    """Count the threads of the core's pools in this process.

    Returns
    -------
    n_threads : int
        0 before the first kernel that uses a pool.
    """
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except FileNotFoundError:
            continue
    return sum(name.startswith("megalith-") for name in names)


def tmpfs_command(mount: Path, size: str) -> list[str] | None:
    """Give a command that runs what follows with a small private file system mounted.

    Parameters
    ----------
    mount : Path
        An existing directory; only the child sees the file system there.
    size : str
        Its size, as mount takes it: '2m'.

    Returns
    -------
    prefix : list of str or None
        For `run_python`; None where this machine lets nobody mount.
    """
    shell = f'mount -t tmpfs -o size={size},mode=0777 none "{mount}" && exec "$0" "$@"'
    for unshare in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        if shutil.which(unshare[0]) is None:
            return None
        command = [*unshare, "sh", "-c", shell]
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    return None


def left_behind(directory: Path) -> list[str]:
    """List what shared arrays left in a directory.

    Parameters
    ----------
    directory : Path
        What was given as `shm_path`.

    Returns
    -------
    names : list of str
        Files in it and below, sorted. Of the directories of locks (``megalith-<uid>``) only what is in them counts.
    """
    found = []
    for path in sorted(directory.rglob("*")):
        is_own = path.parent == directory and path.name.startswith("megalith-") and path.name[9:].isdecimal()
        if not (is_own and path.is_dir() and not path.is_symlink()):
            found.append(str(path.relative_to(directory)))
    return found


@contextmanager
def shared_directory() -> Iterator[Path]:
    """Make a directory in shared memory for one test, so that nobody else's arrays are in it.

    Yields
    ------
    directory : Path
        An empty directory in ``/dev/shm``, or where temporary files are if there is none. It is removed at the end
        with all that is in it.
    """
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="megalith-test-", dir=memory if memory.is_dir() else None))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)

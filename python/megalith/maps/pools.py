"""Pools of threads and processes: executors of `concurrent.futures`, those that we start included.

A pool of processes is lost as a whole when one of them dies. So that this costs no result, workers note in shared
memory which item they are at: the item that killed its worker is found, all others are done again on a new pool of the
same make, and the pool that was given is left as broken as it is.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from megalith import _core
from megalith.exceptions import WorkerDiedError
from megalith.maps.workers import Chunk, Death, Workers, log
from megalith.records.origin import is_user_module

if TYPE_CHECKING:
    from collections.abc import Callable

    from megalith.maps.task import Report

# Of processes that we started and that have nothing to do.
IDLE_S = 300

# How many pools may be lost, one after the other, before they begin with anything.
POOLS = 2

# What numerical libraries read when they are loaded.
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class ExecutorWorkers(Workers):
    """Any executor.

    Parameters
    ----------
    executor : Executor
        One that is running.
    n : int
        How many workers it has.
    """

    def __init__(self, executor: Executor, n: int) -> None:
        super().__init__()
        self.executor = executor
        self.n = n

    def count(self) -> int:
        return self.n

    def begin(self, chunk: Chunk, task: Callable[..., Report], *args: Any) -> None:
        chunk.future = self.executor.submit(task, *args)
        chunk.future.add_done_callback(lambda _: self.done.put(chunk))

    def report(self, chunk: Chunk) -> Report | Death:
        report: Report = chunk.future.result()
        return report


class ThreadWorkers(ExecutorWorkers):
    """Threads of this process."""

    is_here = True


class _Pool:
    """A pool of processes, and which of them are dead."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor
        self.processes: dict[int, Any] = {}
        self.dead: set[int] = set()
        self._lock = threading.Lock()

    def submit(self, task: Callable[..., Report], *args: Any) -> Future[Report]:
        future: Future[Report] = self.executor.submit(task, *args)
        self.processes.update(self.executor._processes or {})
        return future

    def find_dead(self) -> None:
        """See who is dead; called while the pool finds out, and before it ends those that are still alive."""
        with self._lock:
            if not self.dead:
                processes = dict(self.processes)
                ended = set(wait([process.sentinel for process in processes.values()], timeout=0))
                self.dead = {pid for pid, process in processes.items() if process.sentinel in ended}

    def name(self, pid: int) -> str:
        code = getattr(self.processes.get(pid), "exitcode", None)
        if code is None:
            return f"process {pid}"
        if code >= 0:
            return f"process {pid} (ended with exit code {code})"
        known = {member.value: member.name for member in signal.Signals}
        return f"process {pid} (ended by {known.get(-code, f'signal {-code}')})"


class ProcessWorkers(Workers):
    """Processes of a pool on this machine.

    Parameters
    ----------
    executor : ProcessPoolExecutor
        Of the standard library, loky or joblib.
    again : callable
        Makes another one like it.
    """

    is_near = hasattr(os, "memfd_create")

    def __init__(self, executor: Any, again: Callable[[], Any]) -> None:
        super().__init__()
        self.n: int = executor._max_workers
        self.given = executor
        self.pool = _Pool(executor)
        self._again = again
        self._n_lost = 0  # Pools that were lost, one after the other, before they had begun with anything.

    def open(self) -> None:
        with suppress(BrokenExecutor):
            self.given.submit(int)

    def count(self) -> int:
        return self.n

    def begin(self, chunk: Chunk, task: Callable[..., Report], *args: Any) -> None:
        try:
            chunk.future = self.pool.submit(task, *args)
        except BrokenExecutor as error:
            self._replace(error)
            chunk.future = self.pool.submit(task, *args)
        pool = chunk.worker = self.pool

        def ended(future: Future[Report]) -> None:
            if not future.cancelled() and isinstance(future.exception(), BrokenExecutor):
                pool.find_dead()
            self.done.put(chunk)

        chunk.future.add_done_callback(ended)

    def report(self, chunk: Chunk) -> Report | Death:
        try:
            report: Report = chunk.future.result()
        except BrokenExecutor as error:
            pool: _Pool = chunk.worker
            pid, at = self.mark(chunk)
            if at:
                self._n_lost = 0
            if not pool.dead:
                return Death(f"a process of the pool ({error})", at)
            names = ", ".join(pool.name(dead) for dead in sorted(pool.dead))
            return Death(names, at if at is None or pid in pool.dead else 0)
        self._n_lost = 0
        return report

    def _replace(self, error: BrokenExecutor) -> None:
        """Go on with another pool."""
        self._n_lost += 1
        if self._n_lost > POOLS:
            message = (
                f"{self._n_lost} pools of processes were lost before they had begun with an item; does their "
                "initializer fail, or a script start processes outside of `if __name__ == '__main__':`?"
            )
            raise WorkerDiedError(message, worker="the pool") from error
        if self.pool.executor is self.given:
            log.warning("a process of %r has died; a pool like it takes over", self.given)
        self.pool.executor.shutdown(wait=False)
        self.pool = _Pool(self._again())

    def close(self) -> None:
        if self.pool.executor is not self.given:
            _end(self.pool.executor, is_busy=bool(self.chunks))
        super().close()


class OwnProcesses(ProcessWorkers):
    """Processes that we started; they wait for the next map when this one has ended.

    Parameters
    ----------
    n : int
        How many.
    """

    def __init__(self, n: int) -> None:
        executor, self._sources = _idle.pop((os.getpid(), n), (None, {}))
        if executor is not None and any(_stamp(path) != stamp for path, stamp in self._sources.items()):
            # Its processes know modules as they were.
            _end(executor, is_busy=False)
            executor, self._sources = None, {}
        super().__init__(executor or _start(n), lambda: _start(n))
        self._note_sources()

    def close(self) -> None:
        key = (os.getpid(), self.n)
        is_busy = any(not chunk.future.done() for chunk in self.chunks)
        if is_busy or self.pool.dead or key in _idle:
            _end(self.pool.executor, is_busy=is_busy)
        else:
            self._note_sources()
            _idle[key] = self.pool.executor, self._sources
        self.given = self.pool.executor  # Nothing is left to do for it.
        super().close()

    def _note_sources(self) -> None:
        for name, module in tuple(sys.modules.items()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path not in self._sources and is_user_module(name):
                self._sources[path] = _stamp(path)


_idle: dict[tuple[int, int], tuple[Any, dict[str, Any]]] = {}
"""Pools that nobody uses, with the files of the user's modules that they may know, by process and size."""


def _stamp(path: str) -> tuple[int, ...] | None:
    """Return what changes with a file."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _start(n: int) -> Any:
    share = str(max(_core.default_threads() // n, 1))
    from joblib.externals.loky.process_executor import ProcessPoolExecutor as LokyExecutor

    return LokyExecutor(n, timeout=IDLE_S, env=dict.fromkeys(THREADS, share))


def _end(executor: Any, *, is_busy: bool) -> None:
    if _is_loky(executor):
        executor.shutdown(wait=True, kill_workers=is_busy)
        return
    processes = dict(executor._processes or {}) if is_busy else {}
    executor.shutdown(wait=not is_busy, cancel_futures=True)
    for process in processes.values():
        process.kill()


def own_pool(n: int) -> Workers:
    """Return `n` processes of our own."""
    return OwnProcesses(n)


def executor_workers(executor: Executor) -> Workers:
    """Return the workers of an executor."""
    if isinstance(executor, ThreadPoolExecutor):
        return ThreadWorkers(executor, executor._max_workers)
    if isinstance(executor, ProcessPoolExecutor):
        given: Any = executor

        def again() -> ProcessPoolExecutor:
            return ProcessPoolExecutor(
                given._max_workers,
                given._mp_context,
                given._initializer,
                given._initargs,
                max_tasks_per_child=given._max_tasks_per_child,
            )

        return ProcessWorkers(executor, again)
    if _is_loky(executor):
        loky: Any = executor

        def another() -> Any:
            initializer, initargs = loky._initializer, loky._initargs
            make = next(kind for kind in type(loky).__mro__ if kind.__name__ == "ProcessPoolExecutor")
            options = {"timeout": loky._timeout, "context": loky._context, "env": loky._env}
            return make(loky._max_workers, initializer=initializer, initargs=initargs, **options)

        return ProcessWorkers(loky, another)
    return ExecutorWorkers(executor, getattr(executor, "_max_workers", None) or _core.default_threads())


def _is_loky(executor: Executor) -> bool:
    return any(
        kind.__name__ == "ProcessPoolExecutor" and kind.__module__.endswith("loky.process_executor")
        for kind in type(executor).__mro__
    )

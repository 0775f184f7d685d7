"""Workers of a dask cluster."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from megalith.exceptions import ArgumentError, WorkerDiedError
from megalith.maps.workers import Chunk, Death, Workers
from megalith.shared import transports

if TYPE_CHECKING:
    from collections.abc import Callable

    from megalith.maps.task import Report

# How long a cluster may be without workers after it had some.
NOBODY_S = 60.0

# What dask calls a large graph.
LARGE = 1 << 20


class DaskWorkers(Workers):
    """The workers of a client's cluster.

    Parameters
    ----------
    client : distributed.Client
        One that is connected, and not asynchronous.
    """

    def __init__(self, client: Any) -> None:
        super().__init__()
        if client.asynchronous:
            message = "workers: got an asynchronous dask Client, expected one that waits: Client(address)"
            raise ArgumentError(message, name="workers", got=client, expected="Client(asynchronous=False)")
        self.client = client
        self.is_near = hasattr(os, "memfd_create") and transports.dask_is_near()
        self._threads: dict[str, int] = client.nthreads()
        # When there were workers; before the first has come there is time.
        self._last = time.monotonic() if self._threads else None

    def count(self) -> int:
        return max(sum(self._threads.values()), 1)

    def share(self) -> int:
        hosts: Counter[str | None] = Counter()
        for address, n in self._threads.items():
            hosts[urlsplit(address).hostname] += n
        return max(hosts.values(), default=1)

    def begin(self, chunk: Chunk, task: Callable[..., Report], *args: Any) -> None:
        large = any(isinstance(arg, bytes) and len(arg) > LARGE for arg in args)
        parts = [self.client.scatter(arg, hash=False) for arg in args] if large else args
        chunk.future = self.client.submit(task, *parts, pure=False, key=None, priority=0)
        chunk.future.add_done_callback(lambda _: self.done.put(chunk))

    def report(self, chunk: Chunk) -> Report | Death:
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        try:
            report = self._result(chunk)
        except KilledWorker as error:
            worker = getattr(error.last_worker, "address", error.last_worker)
            return Death(f"dask worker {worker}", self.mark(chunk)[1], error.allowed_failures)
        except CancelledError:
            return Death("a dask worker, with what was sent to it", None)
        finally:
            chunk.future.release()
        return report

    def _result(self, chunk: Chunk) -> Report:
        """Return a result, which may be lost again with the worker that has it."""
        while True:
            try:
                report: Report = chunk.future.result(timeout=1)
            except TimeoutError:
                self.look()
            else:
                return report

    def look(self) -> None:
        self._threads = self.client.nthreads()
        now = time.monotonic()
        if self._threads or self._last is None:
            self._last = now if self._threads else None
        elif now > self._last + NOBODY_S:
            message = f"the cluster has had no workers for {NOBODY_S:g} s; all have died or left"
            raise WorkerDiedError(message, worker="all workers")

    def stop(self, *, interrupt: bool) -> None:
        self.client.cancel([chunk.future for chunk in self.chunks if chunk.future is not None], force=True)

"""Engines of an ipyparallel cluster, each given work of its own, so that the one that dies is known."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from megalith.exceptions import WorkerDiedError
from megalith.maps.workers import Chunk, Death, Workers
from megalith.shared import transports

if TYPE_CHECKING:
    from collections.abc import Callable

    from megalith.maps.task import Report

# What an engine is given to end by itself before it is interrupted.
GRACE_S = 0.2

# Without a word for so long, the controller is asked; after as long again it is given up.
QUIET_S = 30.0


class EngineWorkers(Workers):
    """The engines of a view.

    Parameters
    ----------
    view : DirectView, LoadBalancedView or BroadcastView
        Which engines, by its targets; all of them, those that come later too, where it names none.
    """

    def __init__(self, view: Any) -> None:
        super().__init__()
        self.client = view.client
        self.is_near = hasattr(os, "memfd_create") and transports.is_near(self.client)
        targets = view.targets
        self._targets = [targets] if isinstance(targets, int) else targets
        self._results: list[Any] | None = None  # Kept for `native` alone.
        self._heard = time.monotonic()
        self._question: threading.Thread | None = None

    def open(self) -> None:
        self._results = []

    def count(self) -> int:
        return len(self._engines())

    def _engines(self) -> list[int]:
        ids: list[int] = self.client.ids
        if self._targets is None or isinstance(self._targets, str):
            return ids
        return [engine for engine in self._targets if engine in ids]

    def begin(self, chunk: Chunk, task: Callable[..., Report], *args: Any) -> None:
        engines = self._engines()
        if not engines:
            raise self._nobody()
        busy = Counter(other.worker for other in self.chunks)
        chunk.worker = min(engines, key=lambda engine: busy[engine])
        chunk.future = self.client[chunk.worker].apply_async(task, *args)
        chunk.future.add_done_callback(lambda _: self.done.put(chunk))
        if self._results is not None:
            self._results.append(chunk.future)

    def report(self, chunk: Chunk) -> Report | Death:
        from ipyparallel.error import EngineError, RemoteError, TaskAborted

        self._heard = time.monotonic()
        try:
            report: Report = chunk.future.get(0)
        except (EngineError, TaskAborted):
            pass
        except RemoteError as error:
            if error.ename != "EngineError":
                error.add_note(f"raised by engine {chunk.worker} itself; it needs the same megalith as this process")
                raise
        else:
            return report
        if not chunk.is_innocent:
            # An engine does one after the other: it died of what it was sent first.
            others = [other for other in self.chunks if other.worker == chunk.worker]
            first = min([chunk, *others], key=lambda chunk: chunk.number)
            for other in {chunk, *others} - {first}:
                other.is_innocent = True
        return Death(f"engine {chunk.worker}", 0 if chunk.is_innocent else self.mark(chunk)[1])

    def look(self) -> None:
        if self.chunks and not self._engines():
            raise self._nobody()
        # Engines that die are reported by the controller. Nobody reports that the controller is gone: it is asked.
        now = time.monotonic()
        if self._question is not None and not self._question.is_alive():
            self._question = None
            self._heard = now
        elif self._question is None and now > self._heard + QUIET_S:
            self._question = threading.Thread(target=self._ask, daemon=True)
            self._question.start()
        elif now > self._heard + 2 * QUIET_S:
            raise WorkerDiedError("the controller of the cluster does not answer any more", worker="the controller")

    def _ask(self) -> None:
        with suppress(Exception):
            self.client.queue_status()

    def _nobody(self) -> WorkerDiedError:
        message = "no engine of the view is left; start engines, or give workers of another kind"
        return WorkerDiedError(message, worker="all engines")

    def native(self) -> Any:
        """Return ipyparallel's own object for all that was sent."""
        from ipyparallel import AsyncResult

        children = [child for result in self._results or () for child in result._children]
        return AsyncResult(self.client, children, fname="map", targets=[None] * len(children), owner=False)

    def stop(self, *, interrupt: bool) -> None:
        chunks, engines = self._unfinished()
        if engines:
            self.client.abort([chunk.future for chunk in chunks], targets=engines, block=False)
        if engines and interrupt:
            # An engine that is interrupted while it sends its answer does not recover.
            wait([chunk.future for chunk in chunks], GRACE_S)
            _, engines = self._unfinished()
            if engines:
                self.client.send_signal(signal.SIGINT, targets=engines, block=False)

    def _unfinished(self) -> tuple[list[Chunk], list[int]]:
        chunks = [chunk for chunk in self.chunks if chunk.future is not None and not chunk.future.done()]
        return chunks, sorted({chunk.worker for chunk in chunks} & set(self.client.ids))

"""Maps that run while the program goes on."""

from __future__ import annotations

import contextvars
import threading
import time
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from megalith.maps.workers import Workers


_running: set[threading.Thread] = set()
_waits: set[tuple[type, type]] = set()


def _wait() -> None:
    for thread in tuple(_running):
        thread.join()


def _wait_at_exit(team: Workers | None) -> None:
    """Let a program that ends wait for maps in the background, before the pools they use are closed.

    Of what Python calls before it waits for threads, the last is called first: once is needed for each kind of pool.
    """
    kind = type(team), type(getattr(team, "given", None))
    register = getattr(threading, "_register_atexit", None)
    if kind not in _waits and register is not None:
        with suppress(RuntimeError):  # It has begun to end.
            register(_wait)
        _waits.add(kind)


class AsyncResult:
    """The results of a map that runs in the background, with the interface of ipyparallel's.

    Made by `megalith.maps.start` and `megalith.Context.map_async`.

    Parameters
    ----------
    results : callable
        Does the work; it calls its argument with the index and the result of each item that is done.
    total : int or None
        How many items there are, if that is known.
    team : Workers or None
        Where the work is done.
    name : str
        What is done.

    Examples
    --------
    >>> from megalith import maps
    >>> result = maps.start(abs, [-1, -2])
    >>> result.wait(), result.successful(), result.progress, result.get()
    (True, True, 2, [1, 2])
    """

    def __init__(
        self,
        results: Callable[[Callable[[int, Any], None]], list[Any]],
        total: int | None,
        team: Workers | None,
        name: str,
    ) -> None:
        self._total, self._team, self._name = total, team, name
        self._done: dict[int, Any] = {}
        self._results: list[Any] | None = None
        self._error: BaseException | None = None
        self._is_aborted = False
        self._changed = threading.Condition()
        self._is_ready = False
        self._started, self._ended = time.perf_counter(), 0.0
        if team is not None:
            team.open()
        _wait_at_exit(team)
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._work, results), name=f"megalith-map-{name}")
        _running.add(self._thread)
        self._thread.start()

    def __repr__(self) -> str:
        if not self._is_ready:
            state = f"{self.progress} done"
        elif self._error is None:
            state = "finished"
        else:
            state = "aborted" if self._is_aborted else "failed"
        return f"<AsyncResult({self._name}): {state}>"

    def _work(self, results: Callable[[Callable[[int, Any], None]], list[Any]]) -> None:
        try:
            self._results = results(self._arrived)
        except BaseException as error:  # It is raised where the results are asked for.
            self._error = error
        with self._changed:
            self._ended, self._is_ready = time.perf_counter(), True
            self._changed.notify_all()
        _running.discard(self._thread)

    def _arrived(self, index: int, result: Any) -> None:
        with self._changed:
            self._done[index] = result
            self._changed.notify_all()
        if self._is_aborted:
            raise CancelledError("the map was aborted")

    def get(self, timeout: float | None = None) -> list[Any]:
        """Return the results of all items, in order.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.

        Returns
        -------
        results : list
            One for each item.

        Raises
        ------
        TimeoutError
            If they are not there by then.
        Exception
            What an item raised, or `concurrent.futures.CancelledError` after `abort`.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"{self._name}: {self.progress} of {self._total or 'all'} items done after {timeout} s")
        if self._error is not None:
            raise self._error
        assert self._results is not None
        return self._results

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all is done.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; None and negative numbers wait for ever.

        Returns
        -------
        is_ready : bool
            Whether it is.
        """
        with self._changed:
            return self._changed.wait_for(self.ready, None if timeout is None or timeout < 0 else timeout)

    def wait_interactive(self, interval: float = 1.0, timeout: float | None = None) -> bool:
        """Show a bar until all is done.

        Parameters
        ----------
        interval : float
            Seconds between two looks.
        timeout : float, optional
            Seconds to wait at most; None and negative numbers wait for ever.

        Returns
        -------
        is_ready : bool
            Whether it is.
        """
        from tqdm.auto import tqdm

        end = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        with tqdm(total=self._total, desc=self._name, unit="item") as bar:
            while True:
                left = interval if end is None else min(interval, end - time.monotonic())
                is_ready = self.wait(max(left, 0))
                bar.update(self.progress - bar.n)
                if is_ready or (end is not None and time.monotonic() >= end):
                    return is_ready

    def ready(self) -> bool:
        """Return whether all is done, or has failed.

        Returns
        -------
        is_ready : bool
            Whether it is.
        """
        return self._is_ready

    def successful(self) -> bool:
        """Return whether all was done without an exception.

        Returns
        -------
        is_successful : bool
            Whether it was.

        Raises
        ------
        ValueError
            If it is not `ready`.
        """
        if not self._is_ready:
            raise ValueError(f"{self._name} is not ready; wait() for it first")
        return self._error is None

    def abort(self) -> None:
        """Take back what has not begun, and interrupt engines and processes of our own."""
        self._is_aborted = True
        if self._team is not None:
            self._team.done.put(None)

    @property
    def progress(self) -> int:
        """How many items are done."""
        return len(self._done)

    @property
    def elapsed(self) -> float:
        """Seconds since the start, until all was done."""
        return (self._ended or time.perf_counter()) - self._started

    @property
    def native(self) -> Any:
        """What the workers have for it themselves: ipyparallel's AsyncResult of what was sent so far, else None."""
        native = getattr(self._team, "native", None)
        return None if native is None else native()

    def __len__(self) -> int:
        if self._total is None:
            raise TypeError("the number of items is not known before the end")
        return self._total

    def __iter__(self) -> Iterator[Any]:
        i = 0
        while True:
            with self._changed:
                while i not in self._done and not self._is_ready:
                    self._changed.wait()
            if i in self._done:
                yield self._done[i]
                i += 1
            elif self._error is not None:
                raise self._error
            else:
                return

"""A sweep: what is done is looked up, what is left is computed, and each point is told of as it arrives."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from megalith import maps
from megalith.context.entries import shown
from megalith.exceptions import SweepError
from megalith.shared.caching import is_making
from megalith.sweep.points import Outcome, Raised, failure, note_failure, task_of, told
from megalith.sweep.results import DONE, FAILED, MISSING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from megalith.sweep.results import Results

# How often the bar counts what is running.
COUNT_S = 0.5

# How long it is until points that others are at are looked at again.
SHORTEST_S, LONGEST_S = 0.01, 0.25


class _StoppedError(Exception):
    """The sweep was asked to end."""


class Run:
    """A sweep that is running.

    Parameters
    ----------
    results : Results
        Whose points are computed.
    force : bool
        Whether those that are done are too.
    on_result : callable or None
        Called with each point and its result.
    on_index : callable or None
        Called with the number of each point and its state.
    stop : threading.Event
        Ends the sweep.
    """

    def __init__(
        self,
        results: Results,
        *,
        force: bool,
        on_result: Callable[[Any, Any], object] | None,
        on_index: Callable[[int, Any], object] | None,
        stop: threading.Event,
    ) -> None:
        self._results, self._force, self._stop = results, force, stop
        self._on_result, self._on_index = on_result, on_index
        self._store, self._function = results._store, results.function
        self._is_kept = self._store is not None and not self._store.entries.readonly
        self._errors: dict[int, BaseException] = {}
        self._same: dict[str, list[int]] = {}
        taken = (*results._constant, *(name for name, _ in results._passed))
        self._called_back = [parameter for name, parameter in results._space.parameters.items() if name in taken]

    def run(self, chosen: Sequence[int] | None, *, on_error: str, verbose: bool) -> None:
        """Compute points, all that are left by default.

        Raises
        ------
        SweepError
            At the end, if some have failed and `on_error` says so.
        """
        results = self._results
        wanted = range(len(results.points)) if chosen is None else chosen
        same: dict[str, list[int]] = defaultdict(list)
        for i in wanted:
            same[results._keys[i]].append(i)
        self._same = same
        try:
            todo = self._look_up()
            with self._bar(verbose, len(wanted), todo) as self._advance:
                if self._is_kept and todo:
                    assert self._store is not None
                    self._store.prepare(self._function)
                busy, pause = self._compute(todo, wait=False), SHORTEST_S
                while busy:
                    # Others are at them; what they give up is computed here. A point of another sweep does not wait.
                    if self._stop.wait(0 if is_making() else pause):
                        raise _StoppedError
                    pause = min(2 * pause, LONGEST_S)
                    busy = self._compute(busy, wait=is_making())
        except _StoppedError:
            pass
        if self._errors and on_error == "raise":
            raise self._error(len(wanted)) from next(iter(self._errors.values()))

    def _look_up(self) -> list[int]:
        """Note what is done, and return what is left to do."""
        results, store, function = self._results, self._store, self._function
        known: set[str] = set() if self._force or store is None else store.done(function.id)
        todo = []
        for same in self._same.values():
            i = same[0]
            if self._force or not self._is_there(i, known):
                todo.append(i)
                if results._states[i] != FAILED and not self._force:
                    self._note(i, MISSING)
                continue
            self._note(i, DONE)
            if self._on_result is not None or self._on_index is not None:
                self._tell(i)
            if self._stop.is_set():
                raise _StoppedError
        return todo

    def _is_there(self, i: int, known: set[str]) -> bool:
        """Whether a point is done, and whole."""
        results, key = self._results, self._results._keys[i]
        if key in results._memory:
            return True
        if key not in known or self._store is None:
            return False
        return self._store.check(self._function, key, results._arguments[i]) is not None

    def _compute(self, todo: Sequence[int], *, wait: bool) -> list[int]:
        """Compute points, and return those that somebody else is at."""
        if not todo:
            return []
        results = self._results
        workers = results._space._workers
        parts = None if workers is None else self._function.parts()
        options = {"wait": wait, "force": self._force, "parts": parts, "process": os.getpid()}
        task = task_of(self._store, self._function, **options)
        busy: list[int] = []

        def arrived(at: int, outcome: Any) -> None:
            i = todo[at]
            if isinstance(outcome, maps.Failure):
                outcome = self._lost(i, outcome)
            if outcome.state == "busy":
                busy.append(i)
                return
            self._arrived(i, outcome)
            if self._stop.is_set():
                raise _StoppedError

        maps.run(
            task,
            [results._arguments[i] for i in todo],
            [results._kwargs(results.points[i]) for i in todo],
            workers=workers,
            on_error="keep",
            on_result=arrived,
        )
        return busy

    def _lost(self, i: int, failed: maps.Failure) -> Outcome:
        """Keep the failure of a point that could not be sent, or whose workers died."""
        results = self._results
        raised = Raised(failed.error, failed.traceback)
        if self._store is not None:
            key = results._keys[i]
            note_failure(self._store.entries, self._function.id, key, raised, self._shown(i))
        return Outcome("failed", raised=raised)

    def _shown(self, i: int) -> dict[str, str]:
        results = self._results
        return {name: shown(value) for name, value in results._kwargs(results.points[i]).items()}

    def _arrived(self, i: int, outcome: Outcome) -> None:
        results, key = self._results, self._results._keys[i]
        self._advance(i, is_failed=outcome.raised is not None)
        if outcome.raised is not None:
            self._errors[i] = outcome.raised.error
            # On a full disk there is no note of it.
            is_noted = self._is_kept and self._store is not None and self._store.has_note(self._function.id, key)
            if not is_noted:
                results._failed.setdefault(key, []).append(failure(outcome.raised, self._shown(i)))
            self._note(i, FAILED)
            return
        if not self._is_kept:
            results._memory[key] = outcome.value
        self._note(i, DONE)
        if outcome.state == "done" and self._called_back:
            kwargs = results._kwargs(results.points[i])
            for parameter in self._called_back:
                parameter.call_back(kwargs[parameter.name])
        if self._on_result is not None or self._on_index is not None:
            self._tell(i)

    def _note(self, i: int, state: int) -> None:
        for j in self._same[self._results._keys[i]]:
            self._results._states[j] = state

    def _tell(self, i: int) -> None:
        value = self._results._value(i) if self._on_result is not None else None
        for j in self._same[self._results._keys[i]]:
            if self._on_result is not None:
                self._on_result(self._results.points[j], value)
            if self._on_index is not None:
                self._on_index(j, None)

    def _error(self, n: int) -> SweepError:
        results = self._results
        points = [results.points[j] for i in self._errors for j in self._same[results._keys[i]]]
        errors = [error for i, error in self._errors.items() for _ in self._same[results._keys[i]]]
        first = f"{points[0]}: {told(errors[0])}"
        kept = "the others are kept" if len(points) < n else "none is left"
        message = (
            f"{len(points):,} of {n:,} points of {results.name} failed ({kept}); the first is {first}. "
            ".failures of its results() has all tracebacks; a second sweep, or retry(), computes these points only"
        )
        return SweepError(message, points=points, errors=errors)

    @contextmanager
    def _bar(self, verbose: bool, total: int, todo: Sequence[int]) -> Iterator[Callable[..., None]]:
        """Show how far it is; rate and remaining time are those of what was not done before."""
        if not verbose:
            yield lambda _i, *, is_failed: None
            return
        from tqdm.auto import tqdm

        n_of = {i: len(self._same[self._results._keys[i]]) for i in todo}
        n_cached = total - sum(n_of.values())
        n_failed = n_running = 0
        counted = 0.0
        with tqdm(total=total, initial=n_cached, desc=self._results.name, unit="point") as bar:

            def advance(i: int, *, is_failed: bool) -> None:
                nonlocal counted, n_failed, n_running
                now, n = time.monotonic(), n_of[i]
                if now - counted > COUNT_S and self._store is not None:
                    counted, n_running = now, self._store.count_running(self._function.id)
                n_failed += n if is_failed else 0
                n_ended = bar.n + n
                left = total - n_ended
                told = (n_cached, n_ended - n_cached - n_failed, n_failed, min(n_running, left), left)
                bar.set_postfix_str("cached {}, done {}, failed {}, running {}, left {}".format(*told), refresh=False)
                bar.update(n)

            yield advance
            bar.refresh()

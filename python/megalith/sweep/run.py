"""A sweep: what is done is looked up, what is left is computed, and each point is told of as it arrives."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from megalith import maps
from megalith.exceptions import SweepError
from megalith.sweep.points import Outcome, Raised, failure, note_failure, shown, task_of
from megalith.sweep.results import DONE, FAILED, MISSING

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from megalith.sweep.results import Results

# How often the bar counts what is running.
COUNT_S = 0.5


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
        self._errors: dict[int, BaseException] = {}
        self._same: dict[str, list[int]] = {}
        parameters = results._space.parameters
        self._called_back = [
            (parameters[name], name) for name in (*results._constant, *(name for name, _ in results._passed))
        ]

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
            todo = self._look_up(is_all=chosen is None)
            with self._bar(verbose, len(wanted), len(todo)) as self._advance:
                if self._store is not None and todo and not self._store.entries.readonly:
                    self._store.prepare(self._function)
                busy = self._compute(todo, wait=False)
                while busy:
                    # Others are at them; what they give up is computed here.
                    busy = self._compute(busy, wait=True)
        except _StoppedError:
            pass
        if self._errors and on_error == "raise":
            raise self._error(len(wanted)) from next(iter(self._errors.values()))

    def _look_up(self, *, is_all: bool) -> list[int]:
        """Note what is done, and return what is left to do."""
        results, store = self._results, self._store
        if store is None or self._force:
            known: Any = () if self._force else results._memory
        else:
            known = store.done(self._function.id)
        todo = []
        for key, same in self._same.items():
            i = same[0]
            is_there = key in known
            value = None
            if is_there and store is not None:
                found = store.check(self._function, key, results._arguments[i])
                is_there = found is not None
                value = None if found is None else found.value
            elif is_there:
                value = results._memory[key]
            if not is_there:
                todo.append(i)
                if not self._force:
                    self._note(i, results._states[i] if results._states[i] == FAILED else MISSING)
                continue
            self._note(i, DONE)
            if self._on_result is not None and store is not None and is_all:
                found = store.found(self._function, key, results._arguments[i])
                value = value if found is None else found.value
            self._tell(i, value)
            if self._stop.is_set():
                raise _StoppedError
        return todo

    def _compute(self, todo: Sequence[int], *, wait: bool) -> list[int]:
        """Compute points, and return those that somebody else is at."""
        if not todo:
            return []
        results = self._results
        gives = self._store is None or self._on_result is not None
        task = task_of(self._store, self._function, wait=wait, force=self._force, gives=False)
        busy: list[int] = []

        def arrived(at: int, outcome: Any) -> None:
            i = todo[at]
            if isinstance(outcome, maps.Failure):
                outcome = self._lost(i, outcome)
            if outcome.state == "busy":
                busy.append(i)
                return
            self._arrived(i, outcome, gives=gives)
            if self._stop.is_set():
                raise _StoppedError

        maps.run(
            task,
            [results._arguments[i] for i in todo],
            [results._kwargs(results.points[i]) for i in todo],
            workers=results._space._workers,
            on_error="keep",
            on_result=arrived,
        )
        return busy

    def _lost(self, i: int, failed: maps.Failure) -> Outcome:
        """Keep the failure of a point that could not be sent, or whose workers died."""
        results = self._results
        raised = Raised(failed.error, failed.traceback)
        if self._store is not None:
            arguments = {name: shown(value) for name, value in results._kwargs(results.points[i]).items()}
            key = results._keys[i]
            note_failure(self._store.entries, self._function.id, key, raised, arguments)
        return Outcome("failed", raised=raised)

    def _arrived(self, i: int, outcome: Outcome, *, gives: bool) -> None:
        results, key = self._results, self._results._keys[i]
        if outcome.raised is not None:
            self._errors[i] = outcome.raised.error
            if self._store is None:
                kwargs = results._kwargs(results.points[i])
                noted = failure(outcome.raised, {name: shown(value) for name, value in kwargs.items()})
                results._failed.setdefault(key, []).append(noted)
            self._note(i, FAILED)
            self._advance(i)
            return
        if self._store is None:
            results._memory[key] = outcome.value
        self._note(i, DONE)
        self._advance(i)
        if outcome.state == "done":
            point = results._kwargs(results.points[i])
            for parameter, name in self._called_back:
                parameter.call_back(point[name])
        if self._on_result is not None or self._on_index is not None:
            self._tell(i, results._value(i) if gives else None)

    def _note(self, i: int, state: int) -> None:
        for j in self._same[self._results._keys[i]]:
            self._results._states[j] = state

    def _tell(self, i: int, value: Any) -> None:
        for j in self._same[self._results._keys[i]]:
            if self._on_result is not None:
                self._on_result(self._results.points[j], value)
            if self._on_index is not None:
                self._on_index(j, value)

    def _error(self, n: int) -> SweepError:
        results = self._results
        points = [results.points[j] for i in self._errors for j in self._same[results._keys[i]]]
        errors = [error for i, error in self._errors.items() for _ in self._same[results._keys[i]]]
        first = f"{points[0]}: {type(errors[0]).__name__}: {errors[0]}"
        kept = "the others are kept" if len(points) < n else "none is left"
        message = (
            f"{len(points):,} of {n:,} points of {results.name} failed ({kept}); the first is {first}. "
            ".failures of its results() has all tracebacks; a second sweep, or retry(), computes these points only"
        )
        return SweepError(message, points=points, errors=errors)

    @contextmanager
    def _bar(self, verbose: bool, total: int, n_todo: int) -> Iterator[Callable[[int], None]]:
        """Show how far it is; rate and remaining time are those of what was not done before."""
        if not verbose:
            yield lambda _: None
            return
        from tqdm.auto import tqdm

        n_cached = sum(len(same) for same in self._same.values()) - sum(
            len(same) for key, same in self._same.items() if self._results._states[same[0]] != DONE
        )
        counted, running = 0.0, 0
        with tqdm(total=total, initial=n_cached, desc=self._results.name, unit="point") as bar:

            def advance(i: int) -> None:
                nonlocal counted, running
                now = time.monotonic()
                if now - counted > COUNT_S and self._store is not None:
                    counted, running = now, len(self._store.running(self._function.id))
                n = len(self._same[self._results._keys[i]])
                n_failed = len(self._errors)
                done = bar.n + n - n_cached - n_failed
                left = total - bar.n - n
                told = f"cached {n_cached}, done {done}, failed {n_failed}, running {running}, left {left}"
                bar.set_postfix_str(told, refresh=left == 0)
                bar.update(n)

            yield advance

"""Results of a sweep: what is done, what has failed, and tables of it."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter, namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _checks
from megalith.context.entries import shown
from megalith.exceptions import KeyMissingError
from megalith.sweep.parameter import plain
from megalith.sweep.points import Failed, Function

if TYPE_CHECKING:
    import threading

    from megalith.sweep.cases import Block
    from megalith.sweep.points import Store

# The states of a point, by their numbers.
STATES = ("missing", "done", "failed", "running", "excluded")
MISSING, DONE, FAILED, RUNNING, EXCLUDED = range(len(STATES))

# How many points are looked at to estimate what others will take, and how many are shown.
SAMPLE = 100
SHOWN = 12


@functools.lru_cache(maxsize=256)
def point_type(names: tuple[str, ...]) -> Callable[..., Any]:
    """Return the type of points with these parameters: a named tuple."""
    fields: Any = namedtuple("Point", names, rename=True)  # type: ignore[misc]

    class Point(fields):
        """A point of a parameter space."""

        __slots__ = ()

        def __reduce__(self) -> Any:
            return _point, (names, tuple(self))

    return Point


def _point(names: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    # The one NaN that is found again.
    return point_type(names)(*map(plain, values))


class Results(Mapping[Any, Any]):
    """The points of a sweep, and their results as they were when this was made or `refresh` was called.

    It is a dict of the points that are done: ``results[3, 7]``, ``results.items()``, ``len(results)``. Results are read
    from disk when they are asked for. Made by `ParameterSpace.sweep` and `ParameterSpace.results`.

    Parameters
    ----------
    space : ParameterSpace
        Where the points are kept, and computed.
    function : Function
        What is computed.
    blocks : sequence of Block
        Which points.
    names : sequence of str
        The parameters that change.

    Attributes
    ----------
    name : str
        Of the function.
    names : tuple of str
        The parameters that change.
    points : list of named tuples
        All points, done or not.

    Examples
    --------
    >>> from megalith import Parameter, ParameterSpace
    >>> space = ParameterSpace('', [Parameter('x', [0, 1, 2]), Parameter('n', [2, 3])])
    >>> def power(x, n):
    ...     return x ** n
    >>> results = space.sweep(power)
    >>> results
    <Results of power: 6 points, 6 done>
    >>> results[2, 3]
    8
    >>> results.to_dataframe().tail(2)
       x  n  power status
    4  2  2      4   done
    5  2  3      8   done
    """

    def __init__(self, space: Any, function: Function, blocks: Sequence[Block], names: Sequence[str]) -> None:
        self.name = function.name
        self.names = tuple(names)
        self.function = function
        self._space = space
        self._axes = [(axis.dimension, axis.names, axis.rows) for axis in blocks[0].axes] if len(blocks) == 1 else None
        make = point_type(self.names)
        fixed = {name: value for name, value in space._fixed().items() if name not in self.names}
        taken = function.taken((*fixed, *self.names))
        self._fixed = fixed
        self._constant = {name: fixed[name] for name in taken if name in fixed}
        self._passed = [(name, self.names.index(name)) for name in taken if name not in fixed]
        self.points: list[Any] = []
        self._keys: list[str] = []
        self._arguments: list[str] = []
        for point in space._walk(blocks):
            found = make(*[point[name] for name in self.names])
            key, arguments = function.identify(self._kwargs(found))
            self.points.append(found)
            self._keys.append(key)
            self._arguments.append(arguments)
        self._memory: dict[str, Any] = {}
        self._failed: dict[str, list[dict[str, Any]]] = {}
        self._is_forced = False
        self._states = np.zeros(len(self.points), np.uint8)
        self._index: dict[Any, int] | None = None
        self.refresh()

    def __repr__(self) -> str:
        counts = ", ".join(f"{n:,} {state}" for state, n in self.counts.items())
        return f"<Results of {self.name}: {len(self.points):,} points{', ' if counts else ''}{counts}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in (*self.names, "status", self.name))
        rows = []
        for i, point in enumerate(self.points[:SHOWN]):
            cells = [repr(value) for value in point]
            cells += [STATES[self._states[i]], shown(self._value(i)) if self._states[i] == DONE else ""]
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
        more = len(self.points) - SHOWN
        rest = f"<p>and {more:,} more points</p>" if more > 0 else ""
        return f"<p>{escape(repr(self))}</p><table><tr>{head}</tr>{''.join(rows)}</table>{rest}"

    # A dict of what is done.

    def __getitem__(self, point: Any) -> Any:
        if self._index is None:
            self._index = {known: i for i, known in enumerate(self.points)}
        wanted = tuple(map(plain, point)) if isinstance(point, tuple) else (plain(point),)
        i = self._index.get(wanted)
        if i is None and len(self.names) == 1:
            # The values of one parameter may be tuples.
            i = self._index.get((point,))
        if i is None:
            message = f"{point!r}: there is no such point of {', '.join(self.names)}"
            raise KeyMissingError(message, key=point, root=self.name)
        if self._states[i] == DONE:
            found = self._read(i)
            if found is not None:
                return found[0]
        message = f"{self.points[i]} is {STATES[self._states[i]]}; a sweep computes it"
        raise KeyMissingError(message, key=point, root=self.name)

    def __iter__(self) -> Iterator[Any]:
        return iter([self.points[i] for i in np.flatnonzero(self._states == DONE)])

    def __len__(self) -> int:
        return int(np.count_nonzero(self._states == DONE))

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]

    @property
    def status(self) -> dict[Any, str]:
        """Whether each point is 'done', 'failed', 'running' (somewhere) or 'missing'."""
        return {point: STATES[state] for point, state in zip(self.points, self._states, strict=True)}

    @property
    def counts(self) -> dict[str, int]:
        """How many points are in each state."""
        found = Counter(self._states.tolist())
        return {STATES[state]: found[state] for state in (DONE, FAILED, RUNNING, MISSING) if found[state]}

    @property
    def failures(self) -> list[Failed]:
        """The points that have failed: ``point``, ``error``, ``traceback``, ``host``, ``time``, ``attempts``."""
        found = []
        for i in np.flatnonzero(self._states == FAILED):
            attempts = self._attempts(int(i))
            last = attempts[-1] if attempts else {}
            error, text, host = (str(last.get(name, "")) for name in ("error", "traceback", "host"))
            when = float(last.get("time", math.nan))
            found.append(Failed(self.points[i], error, text, host, when, len(attempts)))
        return found

    def refresh(self) -> Results:
        """Look again what is done, by any process.

        Returns
        -------
        results : Results
            The same.
        """
        store, function = self._store, self.function.id
        done, failed, running = set(self._memory), set(self._failed), set[str]()
        if store is not None:
            done |= store.done(function)
            failed |= store.failed(function)
            running = store.running(function, self._keys)
        for i, key in enumerate(self._keys):
            if key in done:
                self._states[i] = DONE
            elif key in running:
                self._states[i] = RUNNING
            else:
                self._states[i] = FAILED if key in failed else MISSING
        return self

    def retry(self, *, on_error: Any = "raise", verbose: bool = False) -> Results:
        """Compute the points that have failed again.

        Parameters
        ----------
        on_error : {'raise', 'keep'}
            As for `ParameterSpace.sweep`.
        verbose : bool
            Whether a bar is shown.

        Returns
        -------
        results : Results
            The same, with what is done now.

        Raises
        ------
        SweepError
            If points have failed again.
        ArgumentError
            If the function, or what it depends on, is not what it was: then all of it is to be swept again.
        """
        self.function.check_unchanged()
        chosen = np.flatnonzero(self._states == FAILED).tolist()
        with self._space._stoppable() as stop:
            # What failed to be computed anew is still there as it was before.
            self._run(force=self._is_forced, on_error=on_error, verbose=verbose, stop=stop, chosen=chosen)
        return self

    def to_dict(self) -> dict[Any, Any]:
        """Read all results that are there.

        Returns
        -------
        results : dict
            By point, a named tuple of the parameters that change.
        """
        return dict(self.items())

    def items(self) -> Any:
        """Read the results one after the other.

        Returns
        -------
        items : iterator
            Of points and results.
        """
        return iter([(point, value[0]) for point, value in self._pairs() if value is not None])

    def to_dataframe(self) -> Any:
        """Return a table with a row for each point.

        Returns
        -------
        table : pandas.DataFrame
            Columns of the parameters that change, of the outputs, and ``status``. A dict gives a column for each key, a
            tuple one for each part. Where there is no result, there is NaN, or None. A name that a parameter has ends
            in an underscore.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        from megalith.sweep.tables import to_dataframe

        return to_dataframe(self)

    def to_xarray(self) -> Any:
        """Return a data set with the parameters as labelled dimensions.

        Returns
        -------
        dataset : xarray.Dataset
            Parameters that change are dimensions with their values as index; of a zip, of cases and of sums of spaces
            there is one dimension, ``run``. A dict gives a variable for each key, a tuple one for each part; arrays of
            the same shape have further dimensions and are read from disk as they are used. ``status`` says whether a
            point is done, failed, running, missing or excluded (by `ParameterSpace.where`); where there is no result,
            there is NaN, or None. A name that a parameter has ends in an underscore.

        Raises
        ------
        MissingExtraError
            If xarray is not installed.
        """
        from megalith.sweep.tables import to_xarray

        return to_xarray(self)

    # How it is done.

    @property
    def _store(self) -> Store | None:
        store: Store | None = self._space._store
        return store

    def _kwargs(self, point: Any) -> dict[str, Any]:
        """Return what the function is given at a point."""
        kwargs = dict(self._constant)
        for name, at in self._passed:
            kwargs[name] = point[at]
        return kwargs

    def _read(self, i: int) -> tuple[Any] | None:
        """Read a result; None if it is gone."""
        key = self._keys[i]
        if key in self._memory:
            return (self._memory[key],)
        if self._store is None:
            return None
        found = self._store.found(self.function, key, self._arguments[i])
        if found is None:
            self._states[i] = MISSING
            return None
        return (found.value,)

    def _value(self, i: int) -> Any:
        found = self._read(i)
        return None if found is None else found[0]

    def _pairs(self) -> Iterator[tuple[Any, tuple[Any] | None]]:
        for i in np.flatnonzero(self._states == DONE):
            yield self.points[i], self._read(int(i))

    def _attempts(self, i: int) -> list[dict[str, Any]]:
        kept = [] if self._store is None else self._store.attempts(self.function.id, self._keys[i])
        return [*kept, *self._failed.get(self._keys[i], [])]

    def _estimate(self) -> tuple[int, int, int, float | None, int | None]:
        """Return points, done, to do, and seconds and bytes of the last, by some of those that are done."""
        done = np.flatnonzero(self._states == DONE)
        to_do = len(set(itertools.compress(self._keys, self._states != DONE)))
        seconds, sizes = [], []
        if self._store is not None:
            for i in done[:: max(len(done) // SAMPLE, 1)]:
                found = self._store.check(self.function, self._keys[i], self._arguments[i])
                if found is not None:
                    seconds.append(found.about["duration"])
                    sizes.append(self._store.size(self.function, self._keys[i]))
        if not seconds:
            return len(self.points), len(done), to_do, None, None
        return len(self.points), len(done), to_do, float(np.mean(seconds)) * to_do, round(np.mean(sizes) * to_do)

    def _run(
        self,
        *,
        force: bool = False,
        on_error: str = "raise",
        verbose: bool = False,
        on_result: Callable[[Any, Any], object] | None = None,
        on_index: Callable[[int, Any], object] | None = None,
        stop: threading.Event,
        chosen: Sequence[int] | None = None,
    ) -> None:
        from megalith.sweep.run import Run

        _checks.on_error(on_error)
        self._is_forced = force
        Run(self, force=force, on_result=on_result, on_index=on_index, stop=stop).run(
            chosen, on_error=on_error, verbose=verbose
        )

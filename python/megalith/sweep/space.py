"""Parameter spaces: which points there are, and a function for all of them or for one."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from megalith import _checks
from megalith.exceptions import ArgumentError
from megalith.records.encoding import register
from megalith.sweep.cases import Axis, Block, condition_of
from megalith.sweep.parameter import GIVEN, UNSET, Parameter, known_as

if TYPE_CHECKING:
    from megalith._typing import PathLike
    from megalith.context import Context
    from megalith.maps.background import AsyncResult
    from megalith.sweep.points import Function, Outcome, Store
    from megalith.sweep.results import Results

    OnError = Literal["raise", "keep"]
    OnResult = Callable[[Any, Any], object]

# Where points are kept without a Context, if nothing else is said.
DIRECTORY = "python_cache"

# Where a Context has them.
PLACE = "sweeps"

# How many points are counted for a title.
MOST_COUNTED = 100_000

# Whether this is the thread of a sweep in the background.
_is_inside: ContextVar[bool] = ContextVar("megalith_is_inside_of_sweep", default=False)


class DryRun(NamedTuple):
    """What a sweep would do.

    Parameters
    ----------
    points : int
        How many there are.
    cached : int
        How many of them are done.
    to_do : int
        How many calls of the function are left; points that differ in what it does not take need one.
    seconds : float or None
        Computing time of these, if they take as long as those that are done; to be divided by the number of workers.
    nbytes : int or None
        What they will take on disk.
    """

    points: int
    cached: int
    to_do: int
    seconds: float | None
    nbytes: int | None


class _Shared:
    """What a space has in common with the spaces made of it."""

    def __init__(self, name: str, context: Context | None) -> None:
        self.name = name
        self.context = context
        self.parameters: dict[str, Parameter] = {}
        self.store: Store | None = None
        self.is_cached = context is not None
        self.lock = threading.Lock()
        self.stops: set[threading.Event] = set()
        self.background: list[AsyncResult] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "lock": None, "stops": None, "background": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, lock=threading.Lock(), stops=set(), background=[])


class ParameterSpace:
    """Parameters, and functions of them: for all their values, or for those they have now.

    Results are kept on disk, each in a file of its own that appears when it is complete. So a sweep that was
    interrupted or killed goes on where it stopped; one that has ended is answered from disk; of a sweep that has got
    more values only the new points are computed; and one whose function has changed is computed anew.

    Parameters
    ----------
    name : str
        What it is called.
    parameters : sequence of Parameter
        Its dimensions.
    context : megalith.Context, optional
        Keeps the results, and has the workers. Without one they are kept from `enable_cache` on. Points that are done
        in the Context `below` it are not computed; nothing is written there.

    Attributes
    ----------
    name : str
        What it is called.
    context : megalith.Context or None
        As given.

    Raises
    ------
    ArgumentError
        If two parameters have the same name.

    Notes
    -----
    A point is known by the code of the function (and of what it reaches, as in `megalith.Context.cache`), by the values
    of the parameters that the function takes, and by `dependencies`; not by the space. Two processes that sweep the
    same space share the work. Of a space that a closure or the object of a method reaches, the present values count of
    those parameters that the function is not given.

    Examples
    --------
    >>> import tempfile
    >>> from megalith import Context, Parameter, ParameterSpace
    >>> space = ParameterSpace(
    ...     'boxes',
    ...     [Parameter('length', [1, 2, 3]), Parameter('width', [5, 7])],
    ...     context=Context(tempfile.mkdtemp()),
    ... )
    >>> def area(length, width):
    ...     return length * width
    >>> results = space.sweep(area)
    >>> results[3, 7]
    21
    >>> results.to_xarray().area.sel(length=2).values
    array([10, 14])

    A live plot is three lines; `on_result` is called in the calling thread::

        line, = plt.plot([], [], 'o')
        def show(point, value):
            line.set_data([*line.get_xdata(), point.length], [*line.get_ydata(), value]); plt.pause(0.01)
        space.sweep(area, on_result=show)
    """

    def __init__(self, name: str = "", parameters: Iterable[Parameter] = (), *, context: Context | None = None) -> None:
        if not isinstance(name, str):
            message = f"name: got {name!r}, expected a str; parameters are the second argument"
            raise ArgumentError(message, name="name", got=name, expected="a str")
        if context is not None and not hasattr(context, "cache_dir"):
            message = f"context: got {context!r}, expected a megalith.Context"
            raise ArgumentError(message, name="context", got=context, expected="a Context")
        self._shared = _Shared(name, context)
        self._blocks: tuple[Block, ...] | None = None
        self.register_parameters(parameters)

    def __repr__(self) -> str:
        listed = ", ".join(self.parameters)
        return f"ParameterSpace({self.name!r}, [{listed}], {self._told_length()})"

    def _told_length(self) -> str:
        try:
            blocks = self._now()
            n_most = sum(block.size for block in blocks)
            if n_most > MOST_COUNTED and (len(blocks) > 1 or blocks[0].conditions):
                return f"{n_most:,} points at most"
            return f"{self._count():,} points"
        except ArgumentError:
            return "no points yet"
        except Exception as error:  # A condition may raise anything.
            return f"points unknown: {type(error).__name__}"

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{escape(p.name)}</td><td>{escape(p._space())}</td><td>{escape(p.unit)}</td>"
            f"<td>{'' if p._value is UNSET else escape(repr(p.value))}</td></tr>"
            for p in self.parameters.values()
        )
        title = escape(f"{self.name or 'parameter space'}: {self._told_length()}")
        head = "<tr><th>parameter</th><th>values</th><th>unit</th><th>value</th></tr>"
        return f"<table><caption>{title}</caption>{head}{rows}</table>"

    @property
    def name(self) -> str:
        """What it is called."""
        return self._shared.name

    @property
    def context(self) -> Context | None:
        """What keeps the results, and has the workers."""
        return self._shared.context

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters by name."""
        return dict(self._shared.parameters)

    def __getitem__(self, name: str) -> Parameter:
        return self._parameter(name)

    def _content(self) -> tuple[Any, ...]:
        """Return what stands for it where it is a part of a key."""
        content = (self._shared.name, list(self._shared.parameters.values()))
        return content if GIVEN.get() is not None else (*content, self._blocks)

    def register_parameters(self, parameters: Iterable[Parameter]) -> None:
        """Add dimensions.

        Parameters
        ----------
        parameters : sequence of Parameter
            New ones, or some that are there already.

        Raises
        ------
        ArgumentError
            If another parameter has the name.

        Examples
        --------
        >>> from megalith import Parameter, ParameterSpace
        >>> space = ParameterSpace()
        >>> space.register_parameters([Parameter('length', [1, 2, 3]), Parameter('width', [1, 2])])
        >>> len(space)
        6
        """
        parameters = [parameters] if isinstance(parameters, Parameter) else list(parameters)
        known = dict(self._shared.parameters)
        for parameter in parameters:
            if not isinstance(parameter, Parameter):
                message = f"parameters: got {parameter!r}, expected a megalith.Parameter"
                raise ArgumentError(message, name="parameters", got=parameter, expected="Parameter")
            if known.setdefault(parameter.name, parameter) is not parameter:
                message = f"parameters: there is another parameter {parameter.name!r} in the space already"
                raise ArgumentError(message, name="parameters", got=parameter.name, expected="another name")
        self._shared.parameters = known

    def enable_cache(self, directory: PathLike | None = None) -> None:
        """Keep results on disk from now on.

        Parameters
        ----------
        directory : path, optional
            Where. By default in the Context's directory, where they are kept without being told, or without a Context
            in ``python_cache`` in the working directory.

        Raises
        ------
        OSError
            If it cannot be made.
        """
        from megalith.sweep.points import Store

        shared = self._shared
        if directory is not None or shared.context is None:
            shared.store = Store(DIRECTORY if directory is None else directory)
            shared.store.entries.prepare(shared.store.entries.root)
            if not os.path.isdir(shared.store.entries.root):  # noqa: PTH112
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), shared.store.entries.root)
        shared.is_cached = True

    def clear_cache(self) -> None:
        """Remove the results of all functions that were swept in this cache."""
        store = self._store
        if store is not None:
            store.clear()

    # Which points.

    def product(self, *names: str | Parameter) -> ParameterSpace:
        """Return the space of all combinations of values.

        Parameters
        ----------
        *names : str
            Parameters that change, the last one fastest; the others have the value they have at the time of a sweep.

        Returns
        -------
        space : ParameterSpace
            With the same parameters and results.

        Raises
        ------
        ArgumentError
            If there is no such parameter.

        Examples
        --------
        >>> from megalith import Parameter, ParameterSpace
        >>> space = ParameterSpace('', [Parameter('a', [1, 2]), Parameter('b', [3, 4]), Parameter('c', [5, 6])])
        >>> [(point.a, point.b) for point in space.product('a', 'b')]
        [(1, 3), (1, 4), (2, 3), (2, 4)]
        """
        block = Block(())
        for name in names:
            block = block * Block((self._axis([self._parameter(name)]),))
        return self._with([block])

    def zip(self, *names: str | Parameter) -> ParameterSpace:
        """Return the space of the first values, the second values, and so on.

        Parameters
        ----------
        *names : str
            Parameters that change together; they have equally many values.

        Returns
        -------
        space : ParameterSpace
            With the same parameters and results. In tables it has one dimension, ``run``.

        Raises
        ------
        ArgumentError
            If there is no such parameter, or when it is swept, if the numbers of values differ.

        Examples
        --------
        >>> from megalith import Parameter, ParameterSpace
        >>> space = ParameterSpace('', [Parameter('a', [1, 2]), Parameter('b', [3, 4])])
        >>> [(point.a, point.b) for point in space.zip('a', 'b')]
        [(1, 3), (2, 4)]
        """
        if not names:
            message = "zip: got no names of parameters"
            raise ArgumentError(message, name="names", got=names, expected="one or more")
        parameters = [self._parameter(name) for name in names]
        if len({parameter.name for parameter in parameters}) < len(parameters):
            message = f"zip: got a parameter twice: {', '.join(parameter.name for parameter in parameters)}"
            raise ArgumentError(message, name="names", got=names, expected="different parameters")
        return self._with([Block((self._axis(parameters),))])

    def cases(self, cases: Iterable[Mapping[str, Any]]) -> ParameterSpace:
        """Return the space of some points.

        Parameters
        ----------
        cases : list of dict
            Values of parameters by name. Those that a case does not name have the value they have now.

        Returns
        -------
        space : ParameterSpace
            With the same parameters and results. In tables it has one dimension, ``run``.

        Raises
        ------
        ArgumentError
            If there is no such parameter, or it does not have such a value.

        Examples
        --------
        >>> from megalith import Parameter, ParameterSpace
        >>> space = ParameterSpace('', [Parameter('a', [1, 2]), Parameter('b', [3, 4])])
        >>> [(point.a, point.b) for point in space.cases([{'a': 1, 'b': 4}, {'a': 2, 'b': 3}])]
        [(1, 4), (2, 3)]
        """
        listed = [dict(case) for case in cases]
        named = dict.fromkeys(name for case in listed for name in case)
        parameters = [self._parameter(name) for name in named]
        rows = []
        first: list[dict[Any, Any]] = [{} for _ in parameters]
        for case in listed:
            row: list[Any] = []
            for parameter in parameters:
                if parameter.name not in case and parameter._value is UNSET:
                    message = f"cases: {case} has no {parameter.name!r}, which has no value otherwise"
                    raise ArgumentError(message, name="cases", got=case, expected=parameter.name)
                value = parameter.check(case[parameter.name]) if parameter.name in case else parameter.value
                row.append(known_as(parameter.name, value, first[len(row)]))
            rows.append(tuple(row))
        followers = self._followers(parameters)
        return self._with([Block((Axis(parameters, rows, followers),))])

    def where(self, condition: Callable[..., Any]) -> ParameterSpace:
        """Return the space without the points that do not fulfil a condition.

        Parameters
        ----------
        condition : callable
            Its arguments are parameters by name. It is asked as soon as the values of these are chosen, so that what
            it excludes is never built.

        Returns
        -------
        space : ParameterSpace
            With the same parameters and results.

        Raises
        ------
        ArgumentError
            If an argument is no parameter.

        Examples
        --------
        >>> from megalith import Parameter, ParameterSpace
        >>> space = ParameterSpace('', [Parameter('a', range(1000)), Parameter('b', range(1000))])
        >>> len(space.where(lambda a: a < 2).where(lambda a, b: b < a))
        1
        """
        found = condition_of(condition)
        for name in found.names:
            self._parameter(name)
        return self._with([Block(block.axes, (*block.conditions, found)) for block in self._now()])

    def __add__(self, other: ParameterSpace) -> ParameterSpace:
        if not isinstance(other, ParameterSpace):
            return NotImplemented
        self._check_kin(other)
        return self._with([*self._now(), *other._now()])

    def __mul__(self, other: ParameterSpace) -> ParameterSpace:
        if not isinstance(other, ParameterSpace):
            return NotImplemented
        self._check_kin(other)
        return self._with([one * two for one in self._now() for two in other._now()])

    def __len__(self) -> int:
        return self._count()

    def _count(self) -> int:
        """Return the number of points, which may be more than len() can say."""
        blocks = self._now()
        if len(blocks) == 1:
            return blocks[0].count(self._fixed())
        return sum(1 for _ in self._walk(blocks))

    def __iter__(self) -> Iterator[Any]:
        from megalith.sweep.results import point_type

        blocks = self._now()
        names = tuple(self._names(blocks))
        make = point_type(names)
        for point in self._walk(blocks):
            yield make(*(point[name] for name in names))

    # Functions of them.

    def sweep(
        self,
        f: Callable[..., Any],
        params: Sequence[str | Parameter] | None = None,
        dependencies: Sequence[Any] = (),
        force_recompute: bool = False,
        *,
        on_error: OnError = "raise",
        verbose: bool = False,
        on_result: OnResult | None = None,
    ) -> Results:
        """Compute a function at all points that are not done yet, on the workers of the Context.

        Parameters
        ----------
        f : callable
            The function; its arguments are parameters by name, and those it does not take are not given.
        params : sequence of Parameter or str, optional
            Those that change; by default all that list values. The others have their present value.
        dependencies : sequence
            What else results depend on: functions (by code), pathlib.Paths (by content), Parameters (by value), values.
        force_recompute : bool
            Whether to compute what is done too. A point that fails then keeps the result that it had.
        on_error : {'raise', 'keep'}
            Whether a SweepError is raised at the end if points have failed. The others are computed in any case.
        verbose : bool
            Whether a bar is shown. Its remaining time is that of the points that were not done.
        on_result : callable, optional
            Called here with each point (a named tuple) and its result: those that are done first, then the others as
            they are computed.

        Returns
        -------
        results : Results
            Of all points.

        Raises
        ------
        SweepError
            If points have failed; ``points`` and ``errors`` say which and why. What the others gave is kept.
        ArgumentError
            If the function takes something that is no parameter, or there is nothing to sweep over.

        Notes
        -----
        Results are arrays, numbers, strings, bools, None, figures of matplotlib and images of PIL (as arrays of
        pixels), and tuples, lists and dicts of these. A point that gives something else has failed.

        Interrupted by Ctrl-C, `stop_sweep` or a kill, a sweep keeps all that was finished. The next one computes what
        is missing and what has failed. It costs some 30 microseconds for each point that is done.

        Examples
        --------
        >>> from megalith import Parameter, ParameterSpace
        >>> space = ParameterSpace('', [Parameter('x', [0, 1, 2])])
        >>> space.sweep(lambda x: 1 / x, on_error='keep').failures[0].error
        'ZeroDivisionError: division by zero'
        """
        _checks.on_error(on_error)
        results = self._results(f, params, dependencies)
        with self._stoppable() as stop:
            results._run(force=force_recompute, on_error=on_error, verbose=verbose, on_result=on_result, stop=stop)
        return results

    def sweep_async(
        self,
        f: Callable[..., Any],
        params: Sequence[str | Parameter] | None = None,
        dependencies: Sequence[Any] = (),
        force_recompute: bool = False,
        *,
        on_error: OnError = "raise",
    ) -> AsyncResult:
        """Do the same in the background.

        Parameters
        ----------
        f, params, dependencies, force_recompute, on_error : object
            As for `sweep`.

        Returns
        -------
        result : megalith.maps.AsyncResult
            Its ``get(timeout)`` gives the Results; ``wait``, ``ready``, ``progress``, ``abort`` are there too.

        Raises
        ------
        ArgumentError
            As `sweep`.

        Examples
        --------
        >>> from megalith import Parameter, ParameterSpace
        >>> space = ParameterSpace('', [Parameter('x', [1, 2, 3])])
        >>> space.sweep_async(lambda x: x ** 2).get()[3]
        9
        """
        from megalith.maps.background import AsyncResult

        _checks.on_error(on_error)
        results = self._results(f, params, dependencies)
        stop = threading.Event()

        def work(arrived: Callable[[int, Any], None]) -> Any:
            _is_inside.set(True)
            with self._stoppable(stop):
                results._run(force=force_recompute, on_error=on_error, on_index=arrived, stop=stop)
            return results

        shared = self._shared
        with shared.lock:
            shared.stops.add(stop)
            result = AsyncResult(work, len(results), None, f"sweep of {results.name}")
            shared.background = [known for known in shared.background if not known.ready()] + [result]
        return result

    def stop_sweep(self) -> None:
        """End the sweeps that are running as soon as the next point is done; all that was finished is kept.

        Sweeps in the background have ended when this returns; from inside of one, in a callback for instance, it
        returns at once.
        """
        from megalith.maps.task import is_worker

        shared = self._shared
        with shared.lock:
            background = list(shared.background)
            for stop in shared.stops:
                stop.set()
        if not (_is_inside.get() or is_worker.get()):
            for result in background:
                result.wait()

    def results(
        self,
        f: Callable[..., Any],
        params: Sequence[str | Parameter] | None = None,
        dependencies: Sequence[Any] = (),
    ) -> Results:
        """Return the results that are there now, while a sweep is running too, in any process.

        Parameters
        ----------
        f, params, dependencies : object
            As for `sweep`.

        Returns
        -------
        results : Results
            Of all points, those that are not done too.

        Raises
        ------
        ArgumentError
            As `sweep`.

        Examples
        --------
        >>> from megalith import Parameter, ParameterSpace
        >>> space = ParameterSpace('', [Parameter('x', [1, 2, 3])])
        >>> space.results(lambda x: x ** 2)
        <Results of <lambda>: 3 points, 3 missing>
        """
        return self._results(f, params, dependencies)

    def dry_run(
        self,
        f: Callable[..., Any] | None = None,
        params: Sequence[str | Parameter] | None = None,
        dependencies: Sequence[Any] = (),
    ) -> DryRun:
        """Say what a sweep would do.

        Parameters
        ----------
        f : callable, optional
            The function; without it only the number of points is told.
        params, dependencies : object
            As for `sweep`.

        Returns
        -------
        dry_run : DryRun
            ``points``, ``cached``, ``to_do``, and of the latter ``seconds`` of computing and ``nbytes`` on disk, as
            the cached points had them: None if there are none.

        Raises
        ------
        ArgumentError
            As `sweep`.

        Examples
        --------
        >>> from megalith import Parameter, ParameterSpace
        >>> ParameterSpace('', [Parameter('x', [1, 2, 3])]).dry_run()
        DryRun(points=3, cached=0, to_do=3, seconds=None, nbytes=None)
        """
        if f is None:
            n = (self if params is None else self.product(*params))._count()
            return DryRun(n, 0, n, None, None)
        return DryRun(*self._results(f, params, dependencies)._estimate())

    def run_process(
        self,
        f: Callable[..., Any],
        args: Mapping[str, Any] | Sequence[Parameter] | None = None,
        dependencies: Sequence[Any] = (),
        force_recompute: bool = False,
    ) -> Any:
        """Return the result at one point, from disk if it is there.

        Parameters
        ----------
        f : callable
            The function, as for `sweep`.
        args : dict or sequence of Parameter, optional
            Values by name; the other parameters have their present value.
        dependencies : sequence
            As for `sweep`.
        force_recompute : bool
            Whether to compute it in any case.

        Returns
        -------
        result : object
            What the function gave, pictures as arrays. One that cannot be kept is returned with a warning.

        Raises
        ------
        Exception
            What the function raised; it is noted as a failure.
        ArgumentError
            If a value is not possible, or the function takes something that is no parameter.

        Notes
        -----
        The callbacks of the parameters that the function takes are called with their values before it is computed, and
        are not when the result is there.

        Examples
        --------
        >>> import tempfile
        >>> from megalith import Parameter, ParameterSpace
        >>> length = Parameter('length', [1, 2, 3])
        >>> space = ParameterSpace('', [length])
        >>> space.enable_cache(tempfile.mkdtemp())
        >>> def cube(length):
        ...     print('computing')
        ...     return length ** 3
        >>> length.value = 2
        >>> space.run_process(cube)
        computing
        8
        >>> space.run_process(cube)
        8
        """
        function, kwargs = self._call(f, args, dependencies)
        found = None if force_recompute else self._found(function, kwargs)
        if found is not None:
            return found.value
        outcome = self._compute(function, kwargs, force=force_recompute)
        if outcome.raised is not None:
            raise outcome.raised.error
        return outcome.value

    def cached(
        self,
        f: Callable[..., Any],
        args: Mapping[str, Any] | Sequence[Parameter] | None = None,
        dependencies: Sequence[Any] = (),
    ) -> bool:
        """Whether `run_process` would answer from disk.

        Parameters
        ----------
        f, args, dependencies : object
            As for `run_process`.

        Returns
        -------
        is_cached : bool
            Nothing is computed.

        Raises
        ------
        ArgumentError
            As `run_process`.
        """
        function, kwargs = self._call(f, args, dependencies)
        return self._found(function, kwargs) is not None

    def widget(self, f: Callable[..., Any], dependencies: Sequence[Any] = ()) -> Any:
        """Return sliders over the parameters, with the result of their present values below, for a notebook.

        What is cached is shown at once. Anything else is computed in the background when its button is pressed, or
        without it once *compute at once* is ticked; meanwhile the sliders still show what is cached.

        Parameters
        ----------
        f : callable
            The function, as for `sweep`.
        dependencies : sequence
            As for `sweep`.

        Returns
        -------
        widget : ipywidgets.VBox
            A slider for each parameter of numbers, a drop-down for others. Arrays of shape (h, w), (h, w, 3) and
            (h, w, 4) with eight pixels or more on a side are shown as images, dicts key by key, everything else as
            text or as it shows itself in a notebook. A point that failed shows its traceback.

        Raises
        ------
        MissingExtraError
            If ipywidgets is not installed.

        Notes
        -----
        A slider and its parameter move together: a moved slider sets ``parameter.value``, which calls the callbacks,
        and a value set in Python moves the slider. One point is computed at a time. Of those that are asked for in the
        meantime only the last is computed. One that has begun is finished and kept.

        Images of floats in three or four channels go from 0 to 1. Other images that are not bytes are scaled: their
        least value is black.

        Examples
        --------
        >>> from megalith import Parameter, ParameterSpace
        >>> space = ParameterSpace('', [Parameter('length', [1, 2, 3]), Parameter('colour', ['red', 'blue'])])
        >>> box = space.widget(lambda length, colour: f'{length} mm of {colour}')
        >>> slider, choice = box.children[:2]
        >>> slider.index = 2
        >>> space['length'].value
        3
        """
        from megalith.sweep.widget import Explorer

        return Explorer(self, f, dependencies).box

    # What they are made of.

    @property
    def _store(self) -> Store | None:
        from megalith.sweep.points import Store

        shared = self._shared
        if shared.store is None and shared.is_cached and shared.context is not None:
            below = shared.context._below
            shared.store = Store(
                shared.context.cache_dir / PLACE,
                readonly=shared.context.readonly,
                below=None if below is None else Store(below / PLACE, readonly=True),
            )
        return shared.store

    @property
    def _workers(self) -> Any:
        return None if self.context is None else self.context._workers

    def _parameter(self, name: str | Parameter) -> Parameter:
        known = self._shared.parameters
        wanted = name.name if isinstance(name, Parameter) else name
        found = known.get(wanted)
        if found is None or (isinstance(name, Parameter) and found is not name):
            listed = ", ".join(known) or "none"
            message = f"there is no parameter {wanted!r} in the space; there are {listed}"
            raise ArgumentError(message, name="names", got=wanted, expected=listed)
        return found

    def _followers(self, parameters: Sequence[Parameter]) -> list[Parameter]:
        """Return the parameters that are linked to some, in the order they are derived in."""
        above, found = list(parameters), list[Parameter]()
        waiting = [p for p in self._shared.parameters.values() if p.source is not None and p not in above]
        while True:
            new = [p for p in waiting if p.source in above and p not in above]
            if not new:
                return found
            above += new
            found += new

    def _axis(self, parameters: Sequence[Parameter]) -> Axis:
        for parameter in parameters:
            if parameter.source is not None:
                message = f"{parameter.name} is linked to {parameter.source.name}, and changes with it"
                raise ArgumentError(message, name="names", got=parameter.name, expected=parameter.source.name)
        return Axis(parameters, None, self._followers(parameters))

    def _now(self) -> tuple[Block, ...]:
        """Return the points as they are now: all combinations, if nothing else was said."""
        if self._blocks is not None:
            return self._blocks
        changing = [p for p in self._shared.parameters.values() if p.values and p.source is None]
        return (Block(tuple(self._axis([parameter]) for parameter in changing)),)

    def _with(self, blocks: Sequence[Block]) -> ParameterSpace:
        space = ParameterSpace.__new__(ParameterSpace)
        space._shared = self._shared
        space._blocks = tuple(blocks)
        return space

    def _check_kin(self, other: ParameterSpace) -> None:
        if other._shared is not self._shared:
            message = "spaces are joined that were made of the same one, by product, zip, cases and where"
            raise ArgumentError(message, name="other", got=other.name, expected=self.name)

    def _fixed(self) -> dict[str, Any]:
        """Return the present values."""
        return {name: p._value for name, p in self._shared.parameters.items() if p._value is not UNSET}

    def _names(self, blocks: Sequence[Block]) -> list[str]:
        """Return the parameters that change in some block, in the order of the space where there are several."""
        if len(blocks) == 1:
            return list(blocks[0].names)
        changing = {name for block in blocks for name in block.names}
        return [name for name in self._shared.parameters if name in changing]

    def _walk(self, blocks: Sequence[Block]) -> Iterator[dict[str, Any]]:
        """Walk all points, each once."""
        fixed = self._fixed()
        if len(blocks) == 1 and all(axis._rows is None for axis in blocks[0].axes):
            # Only cases can be equal in one block.
            yield from blocks[0].points(fixed)
            return
        names, seen = self._names(blocks), set()
        for block in blocks:
            for point in block.points(fixed):
                values = tuple(point.get(name, UNSET) for name in names)
                if UNSET in values:
                    missing = names[values.index(UNSET)]
                    message = f"{missing}: it has no value in some of the spaces that were added"
                    raise ArgumentError(message, name=missing, got=None, expected="a value")
                if values not in seen:
                    seen.add(values)
                    yield point

    def _results(
        self, f: Callable[..., Any], params: Sequence[str | Parameter] | None, dependencies: Sequence[Any]
    ) -> Results:
        from megalith.sweep.points import Function
        from megalith.sweep.results import Results

        space = self
        if params is not None and (isinstance(params, str | Parameter) or len(params)):
            space = self.product(*([params] if isinstance(params, str | Parameter) else params))
        blocks = space._now()
        names = space._names(blocks)
        if not names:
            message = "there is nothing to sweep over: no parameter lists values"
            raise ArgumentError(message, name="params", got=params, expected="parameters with values")
        function = Function(f, dependencies)
        return Results(space, function, blocks, names)

    def _call(
        self, f: Callable[..., Any], args: Mapping[str, Any] | Sequence[Parameter] | None, dependencies: Sequence[Any]
    ) -> tuple[Function, dict[str, Any]]:
        """Return a function, and what it takes of a point."""
        from megalith.sweep.points import Function

        function = Function(f, dependencies)
        point = self._fixed()
        if args is not None and not isinstance(args, Mapping):
            args = {self._parameter(parameter).name: parameter.value for parameter in args}
        given = {name: self._parameter(name).check(value) for name, value in (args or {}).items()}
        point |= given
        changed = [self._shared.parameters[name] for name in given]
        for follower in self._followers(changed):
            if follower.source is not None and follower.name not in given:
                point[follower.name] = follower.derived(point[follower.source.name])
        return function, {name: point[name] for name in function.taken(tuple(point))}

    def _found(self, function: Function, kwargs: Mapping[str, Any]) -> Any:
        store = self._store
        if store is None:
            return None
        key, arguments = function.identify(kwargs)
        return store.found(function, key, arguments)

    def _compute(self, function: Function, kwargs: dict[str, Any], *, force: bool) -> Outcome:
        from megalith.sweep.points import compute

        def before() -> None:
            for name, value in kwargs.items():
                self._shared.parameters[name].call_back(value)

        return compute(self._store, function, kwargs, force=force, before=before)

    @contextlib.contextmanager
    def _stoppable(self, stop: threading.Event | None = None) -> Iterator[threading.Event]:
        shared = self._shared
        stop = threading.Event() if stop is None else stop
        with shared.lock:
            shared.stops.add(stop)
        try:
            yield stop
        finally:
            with shared.lock:
                shared.stops.discard(stop)


register(ParameterSpace, ParameterSpace._content)

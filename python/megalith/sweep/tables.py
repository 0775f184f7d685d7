"""Results as tables: data frames, and data sets whose arrays stay on disk until they are used."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith._optional import require
from megalith.exceptions import KeyMissingError
from megalith.sweep.parameter import plain
from megalith.sweep.results import DONE, EXCLUDED, STATES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from megalith._typing import AnyArray
    from megalith.sweep.results import Results

# Of numbers that are missing somewhere.
_HOLES = {"i": np.float64, "u": np.float64, "f": None, "c": None, "M": None, "m": None}


def outputs(name: str, value: Any) -> dict[str, Any]:
    """Take a result apart into named outputs.

    Parameters
    ----------
    name : str
        Of the function.
    value : object
        A dict has a name for each part; a tuple or list is numbered, but for a list of plain values.

    Returns
    -------
    outputs : dict
        By name.
    """
    if isinstance(value, dict) and value and all(isinstance(key, str) for key in value):
        return value
    if isinstance(value, tuple) and value:
        return {f"{name}_{i}": part for i, part in enumerate(value)}
    return {name: value}


def named(wanted: str, taken: Collection[str]) -> str:
    """Return a name that nothing else has."""
    while wanted in taken:
        wanted += "_"
    return wanted


def _labels(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Return the names that outputs have in a table, each its own."""
    labels: dict[str, str] = {}
    used = set(taken)
    wanted = list(names)
    # Those that can keep their names do.
    for name in sorted(wanted, key=lambda name: name in used):
        labels[name] = named(name, used)
        used.add(labels[name])
    return {name: labels[name] for name in wanted}


def to_dataframe(results: Results) -> Any:
    """Return a row for each point."""
    pandas = require("pandas", "xarray")
    columns: dict[str, list[Any]] = {name: [] for name in results.names}
    n = len(results.points)
    for name, at in zip(results.names, range(len(results.names)), strict=True):
        columns[name] = [point[at] for point in results.points]
    found: dict[str, list[Any]] = {}
    for i in range(n):
        if results._states[i] != DONE or (read := results._read(i)) is None:
            continue
        for name, part in outputs(results.name, read[0]).items():
            listed = found.setdefault(name, [None] * n)
            listed[i] = part
    frame = {name: pandas.Series(_column(values, has_holes=False)) for name, values in columns.items()}
    status = named("status", results.names)
    labels = _labels(found, (*results.names, status))
    for name, values in found.items():
        frame[labels[name]] = pandas.Series(_column(values))
    frame[status] = pandas.Series([STATES[state] for state in results._states], dtype=object)
    return pandas.DataFrame(frame)


def _column(values: list[Any], *, has_holes: bool = True) -> AnyArray:
    """Return values as an array of one type, with NaN where some are missing; of objects if that is not possible."""
    there = [value for value in values if value is not None]
    is_whole = len(there) == len(values)
    if there and (is_whole or has_holes) and len({_kind(value) for value in there}) == 1 and _kind(there[0]):
        with np.errstate(all="ignore"):
            array = np.array(there)
        # Integers beyond this are others as floats.
        is_exact = all(not isinstance(v, int | np.integer) or abs(int(v)) <= 2**53 for v in there)
        if is_exact or (is_whole and array.dtype.kind in "iu"):
            if is_whole:
                return array
            if array.dtype.kind in _HOLES:
                whole = np.empty(len(values), _HOLES[array.dtype.kind] or array.dtype)
                whole[:] = "NaT" if array.dtype.kind in "mM" else np.nan
                whole[[value is not None for value in values]] = array
                return whole
    objects = np.empty(len(values), object)
    for i, value in enumerate(values):
        objects[i] = value
    return objects


def _kind(value: Any) -> str:
    """Return which scalars a value stands in one array with, none if it is no scalar."""
    if isinstance(value, bool | np.bool_):
        return "bool"
    if isinstance(value, str):
        return "str"
    if isinstance(value, int | float | complex | np.number) and not isinstance(value, np.timedelta64):
        return "number"
    return value.dtype.kind if isinstance(value, np.generic) else ""


class _Grid:
    """Where the points lie in a data set."""

    def __init__(self, results: Results) -> None:
        points = results.points
        self.coords: dict[str, tuple[str, AnyArray]] = {}
        self.dims: tuple[str, ...]
        self.shape: tuple[int, ...]
        listed = [("run", (), points)] if results._axes is None else results._axes
        axes: list[Any] = []
        used = {*results.names, *results._fixed}
        for dimension, names, rows in listed:
            is_own = tuple(names[:1]) == (dimension,)
            label = dimension if is_own else next(f"{dimension}{end}" for end in _ends() if dimension + end not in used)
            used.add(label)
            axes.append((label, names or results.names, rows))
        if results._axes is None:
            self.dims, self.shape = (axes[0][0],), (len(points),)
            self.places = np.arange(len(points))
        else:
            self.dims = tuple(label for label, _, _ in axes)
            self.shape = tuple(len(rows) for _, _, rows in axes)
            self.places = _places(results, axes, self.shape)
        for label, names, rows in axes:
            for at, name in enumerate(names):
                self.coords[name] = (label, _column([row[at] for row in rows], has_holes=False))

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


def _ends() -> Iterator[str]:
    yield ""
    for i in itertools.count(1):
        yield f"_{i}"


def _places(results: Results, axes: Sequence[Any], shape: tuple[int, ...]) -> AnyArray:
    """Return the position of each point in the flattened grid."""
    places = np.zeros(len(results.points), np.int64)
    start = 0
    for (_, names, rows), n in zip(axes, shape, strict=True):
        found = {tuple(map(plain, row)): i for i, row in reversed(list(enumerate(rows)))}
        ends = slice(start, start + len(names))
        at = [found[tuple(map(plain, point[ends]))] for point in map(tuple, results.points)]
        places = places * n + np.array(at, np.int64)
        start += len(names)
    return places


def to_xarray(results: Results) -> Any:
    """Return a data set."""
    xarray = require("xarray", "xarray")
    grid = _Grid(results)
    states: AnyArray = np.full(grid.size, EXCLUDED, np.uint8)
    states[grid.places] = results._states
    numbers = np.full(grid.size, -1, np.int64)
    numbers[grid.places] = np.arange(len(results.points))
    found, forms = _scan(results)
    taken = {*results.names, *results._fixed, *grid.dims}
    status = named("status", taken)
    labels = _labels(found, {*taken, status})
    variables: dict[str, Any] = {}
    for name, (values, form) in _merged(found, forms).items():
        label = labels[name]
        if form is None:
            spread: list[Any] = [None] * grid.size
            for i, value in values.items():
                if forms[name] != {None} and (read := results._read(i)) is not None:
                    value = outputs(results.name, read[0])[name]
                spread[int(grid.places[i])] = value
            variables[label] = (grid.dims, _column(spread).reshape(grid.shape))
            continue
        shape, dtype = form
        dims = (*grid.dims, *(f"{label}_dim_{k}" for k in range(len(shape))))
        lazy = _lazy(results, name, numbers.reshape(grid.shape), set(values), shape, dtype)
        variables[label] = (dims, lazy)
    words = np.array(STATES, dtype=object)
    variables[status] = (grid.dims, words[states].reshape(grid.shape))
    coords: dict[str, Any] = {}
    for name, (dimension, listed) in grid.coords.items():
        unit = results._space.parameters[name].unit
        coords[name] = (dimension, listed, {"units": unit} if unit else {})
    scalars = bool | int | float | complex | str | np.generic
    coords |= {name: value for name, value in results._fixed.items() if isinstance(value, scalars)}
    dataset = xarray.Dataset(variables, coords)
    dataset = dataset.assign_coords({dim: np.arange(dataset.sizes[dim]) for dim in grid.dims if dim not in coords})
    dataset.attrs = {"function": results.function.keys.name, "space": results._space.name}
    return dataset


def _scan(results: Results) -> tuple[dict[str, dict[int, Any]], dict[str, set[Any]]]:
    """Return the outputs by name and point, and the forms of those that are arrays, which are not kept."""
    found: dict[str, dict[int, Any]] = {}
    forms: dict[str, set[Any]] = {}
    for i in np.flatnonzero(results._states == DONE).tolist():
        value = _mapped(results, i)
        if value is None:
            continue
        for name, part in outputs(results.name, value[0]).items():
            is_array = isinstance(part, np.ndarray) and part.ndim > 0 and part.dtype.names is None
            form = (part.shape, part.dtype) if is_array else None
            forms.setdefault(name, set()).add(form)
            found.setdefault(name, {})[i] = None if is_array else part
    return found, forms


def _merged(found: dict[str, dict[int, Any]], forms: dict[str, set[Any]]) -> dict[str, tuple[dict[int, Any], Any]]:
    """Return each output with the form that all its arrays have, None if it has no arrays or they differ."""
    merged: dict[str, tuple[dict[int, Any], Any]] = {}
    for name, values in found.items():
        shapes = {form[0] for form in forms[name] if form is not None}
        if None in forms[name] or len(shapes) != 1:
            merged[name] = (values, None)
            continue
        dtypes = [form[1] for form in forms[name]]
        if any(dtype.kind not in "biufc" for dtype in dtypes) and len({dtype.kind for dtype in dtypes}) > 1:
            merged[name] = (values, None)
            continue
        dtype = np.result_type(*dtypes)
        merged[name] = (values, (shapes.pop(), dtype))
    return merged


def _mapped(results: Results, i: int) -> tuple[Any] | None:
    """Return a result with its arrays mapped."""
    store, key = results._store, results._keys[i]
    if store is None or key in results._memory:
        return results._read(i)
    found = store.check(results.function, key, results._arguments[i])
    return None if found is None else (found.value,)


def _lazy(
    results: Results, name: str, numbers: AnyArray, there: set[int], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Any:
    """Return an array of arrays on disk that is read where it is looked at."""
    from xarray.core import indexing

    whole = dtype
    if len(there) < numbers.size:
        whole = np.dtype(_HOLES[dtype.kind] or dtype) if dtype.kind in _HOLES else np.dtype(object)
    return indexing.LazilyIndexedArray(_on_disk(results, name, numbers, there, shape, whole))


def _on_disk(*parts: Any) -> Any:
    return _on_disk_type()(*parts)


@functools.cache
def _on_disk_type() -> Any:
    """Return the type of such arrays, which is one of xarray's."""
    from xarray.backends import BackendArray
    from xarray.core import indexing

    class OnDisk(BackendArray):
        """The arrays of an output at all points."""

        def __init__(self, *parts: Any) -> None:
            self.parts = parts
            self.results, self.name, self.numbers, self.there, inner, self.dtype = parts
            self.inner: tuple[int, ...] = inner
            self.shape = (*self.numbers.shape, *inner)

        def __reduce__(self) -> Any:
            return _on_disk, self.parts

        def __getitem__(self, key: Any) -> Any:
            basic = indexing.IndexingSupport.BASIC
            return indexing.explicit_indexing_adapter(key, self.shape, basic, self.taken)

        def taken(self, key: tuple[Any, ...]) -> AnyArray:
            n = self.numbers.ndim
            chosen, inner = self.numbers[key[:n]], key[n:]
            form = np.empty(self.inner, np.uint8)[inner].shape
            out: AnyArray = np.empty((*np.shape(chosen), *form), self.dtype)
            kind = self.dtype.kind
            hole = None if kind == "O" else "NaT" if kind in "mM" else np.nan
            for at, i in np.ndenumerate(chosen):
                value = _mapped(self.results, int(i)) if int(i) in self.there else None
                if value is None and int(i) in self.there:
                    message = f"{self.results.points[int(i)]} is not on disk any more"
                    raise KeyMissingError(message, key=self.results.points[int(i)], root=self.results.name)
                out[at] = hole if value is None else outputs(self.results.name, value[0])[self.name][inner]
            return out

    return OnDisk

"""Tables of pandas and labelled arrays of xarray as bytes, by value; neither package is imported here."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from megalith.records.encoding import Refused, Work, encode, encode_part, named, other, qualified, text
from megalith.records.nested import shown

# Frames of one type of numbers with more columns are read as one array.
MANY_COLUMNS = 64


def _named_attributes(value: Any, work: Work) -> bytes:
    """Return the bytes of the attributes that a class derived from a table has named to pandas."""
    return encode({name: getattr(value, name, None) for name in value._metadata if name != "_name"}, work)


@named("pandas.core.frame.DataFrame", "pandas.DataFrame")
def _frame(value: Any, work: Work) -> bytes:
    def content(value: Any, work: Work) -> bytes:
        kinds = set(value.dtypes)
        if len(value.columns) > MANY_COLUMNS and len(kinds) == 1 and _is_plain(next(iter(kinds))):
            columns = b"=" + encode(value.to_numpy(), work)
        else:
            columns = b"|" + b"".join([_column(value, i, work) for i in range(len(value.columns))])
        return other(
            "pandas.DataFrame",
            text(qualified(type(value))),
            _index(value.columns, work),
            _index(value.index, work),
            encode_part(value.attrs, work, ".attrs"),
            _named_attributes(value, work),
            columns,
        )

    return work.within(value, content)


def _column(frame: Any, i: int, work: Work) -> bytes:
    try:
        return _values(frame.iloc[:, i].array, work)
    except Refused as refused:
        raise refused.at(f"[{shown(frame.columns[i])}]") from None


@named("pandas.core.series.Series", "pandas.Series")
def _series(value: Any, work: Work) -> bytes:
    def content(value: Any, work: Work) -> bytes:
        return other(
            "pandas.Series",
            text(qualified(type(value))),
            encode_part(value.name, work, ".name"),
            _index(value.index, work),
            encode_part(value.attrs, work, ".attrs"),
            _named_attributes(value, work),
            _values(value.array, work),
        )

    return work.within(value, content)


@named("pandas.core.indexes.base.Index", "pandas.Index")
def _index(value: Any, work: Work) -> bytes:
    names = encode(tuple(value.names), work)
    if value.nlevels > 1:
        levels = [_values(value.get_level_values(i).array, work) for i in range(value.nlevels)]
        return other("pandas.MultiIndex", names, *levels)
    every = getattr(value, "freqstr", None)
    return other("pandas.Index", names, encode(every, work), _values(value.array, work))


@named("pandas.core.arrays.base.ExtensionArray", "pandas.api.extensions.ExtensionArray")
def _extension(value: Any, work: Work) -> bytes:
    return other("pandas.array", text(qualified(type(value))), _values(value, work))


def _is_plain(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind != "O"


def _values(array: Any, work: Work) -> bytes:
    """Encode the elements of a column: its type by name, strings and missing values whichever way they are stored."""
    dtype = array.dtype
    if isinstance(dtype, np.dtype):
        return other("numpy", encode(np.asarray(array), work))
    pandas = sys.modules["pandas"]
    if type(array) is pandas.arrays.NumpyExtensionArray:
        return other("numpy", encode(array.to_numpy(), work))
    if isinstance(dtype, pandas.CategoricalDtype):
        return other(
            "categorical", encode(array.codes, work), _index(dtype.categories, work), encode(dtype.ordered, work)
        )
    name = text(str(dtype))
    if isinstance(dtype, pandas.DatetimeTZDtype):
        return other("times", name, encode(np.asarray(array, f"M8[{dtype.unit}]"), work))
    missing = np.asarray(array.isna())
    if isinstance(dtype, pandas.StringDtype):
        # 'str' and 'string' have other missing values; in which library's memory the strings lie does not count.
        words = array.to_numpy(dtype=object, na_value=None)
        kind = text(f"{dtype.name} {type(dtype.na_value).__name__}")
        return other("strings", kind, encode(words, work))
    numpy_dtype = getattr(dtype, "numpy_dtype", None)
    if numpy_dtype is not None and numpy_dtype.kind in "biuf" and not isinstance(dtype, pandas.ArrowDtype):
        filled = array.to_numpy(dtype=numpy_dtype, na_value=numpy_dtype.type(0))
        return other("masked", name, encode(missing, work), encode(filled, work))
    items = np.asarray(array, dtype=object)
    if missing.any():
        items = items.copy()
        items[missing] = None
    return other("objects", name, encode(missing, work), encode(items, work))


@named("pandas._libs.missing.NAType", "pandas.api.typing.NAType")
def _na(value: Any, work: Work) -> bytes:
    return other("pandas.NA")


@named("pandas._libs.tslibs.nattype.NaTType", "pandas.api.typing.NaTType")
def _nat(value: Any, work: Work) -> bytes:
    return other("pandas.NaT")


def _refuse_lazy(value: Any) -> None:
    if value.chunks:
        raise Refused(qualified(type(value)), "an array that is not computed yet cannot be a key (.load() it first)")


@named("xarray.core.dataarray.DataArray")
def _data_array(value: Any, work: Work) -> bytes:
    def content(value: Any, work: Work) -> bytes:
        return other(
            "xarray.DataArray",
            encode_part(value.name, work, ".name"),
            _variable(value.variable, work),
            _coordinates(value, work),
        )

    return work.within(value, content)


@named("xarray.core.dataset.Dataset")
def _dataset(value: Any, work: Work) -> bytes:
    def content(value: Any, work: Work) -> bytes:
        return other(
            "xarray.Dataset",
            _mapping({name: value.variables[name] for name in value.data_vars}, work),
            _coordinates(value, work),
            encode_part(value.attrs, work, ".attrs"),
        )

    return work.within(value, content)


@named("xarray.core.variable.Variable")
def _variable(value: Any, work: Work) -> bytes:
    _refuse_lazy(value)
    return other(
        "xarray.Variable",
        encode(tuple(value.dims), work),
        encode_part(np.asarray(value.values), work, ".values"),
        encode_part(dict(value.attrs), work, ".attrs"),
    )


def _coordinates(value: Any, work: Work) -> bytes:
    indexed = encode(sorted(str(name) for name in value.xindexes), work)
    return indexed + _mapping({name: value.coords[name].variable for name in value.coords}, work)


def _mapping(variables: dict[Any, Any], work: Work) -> bytes:
    pairs = []
    for name, variable in variables.items():
        try:
            pairs.append((encode(name, work), _variable(variable, work)))
        except Refused as refused:
            raise refused.at(f"[{shown(name)}]") from None
    pairs.sort()
    return other("variables", encode(len(pairs), work), *[b"".join([first + second for first, second in pairs])])

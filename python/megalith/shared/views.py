"""`SharedArray`: a view of shared memory that owns its part of the mapping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _core
from megalith._shared_memory import segment_of
from megalith.exceptions import LayoutError
from megalith.shared import transports

if TYPE_CHECKING:
    from megalith._typing import AnyArray, Order


class SharedArray(np.ndarray[Any, Any]):
    """A read-only array in shared memory.

    Made by `cache`, `get`, `allocate` and `Handle.open`. Slices and other views are SharedArrays too; what is computed
    from one is a plain ndarray. There is nothing to close: the memory is given back when the last view of it has died,
    in this process and all others, and the name has been freed.

    Multiprocessing, loky, and ipyparallel and dask clusters on this machine send it as a reference of less than 1 KB;
    `pickle.dumps` copies the data.

    Notes
    -----
    Published files are never written or resized, so a view cannot change or crash under its holder. (Somebody who
    truncates the file by other means can crash every process that has mapped it.)
    """

    __slots__ = ()

    # In keys and digests it is what a plain array of the same content is.
    _digests_as_array = True

    def __array_finalize__(self, source: Any) -> None:
        # Of what dask does with an array, only its making a view passes by here when dask was imported after `view`.
        transports.prepare(SharedArray)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("shape", "dtype", "strides") and isinstance(self.base, _core.Segment):
            message = (
                f"array: its {name} is what every other user of it in this process sees; change a view's: a.view()"
            )
            raise LayoutError(message, name="array", reason=f"{name} is shared")
        super().__setattr__(name, value)

    def __array_wrap__(self, array: AnyArray, context: Any = None, return_scalar: bool = False) -> Any:
        if array is self:
            return array
        plain = array.view(np.ndarray)
        return plain[()] if return_scalar else plain

    def __getitem__(self, key: Any) -> Any:
        return _plain_unless_shared(super().__getitem__(key))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _plain_unless_shared(super().__array_function__(func, types, args, kwargs))

    def __reduce_ex__(self, protocol: Any) -> Any:
        transports.prepare(SharedArray)
        if transports.by_reference():
            from megalith.shared.handles import reference

            reduced = reference(self)
            if reduced is not None:
                return reduced
        return self.view(np.ndarray).__reduce_ex__(protocol)

    def __dask_tokenize__(self) -> Any:
        from megalith.shared.handles import reference

        # What is published never changes: which file and which part of it says all.
        reduced = reference(self)
        if reduced is None:
            from dask.tokenize import normalize_token

            return normalize_token(self.view(np.ndarray))
        return repr(reduced[1])


def _plain_unless_shared(value: Any) -> Any:
    if type(value) is SharedArray and segment_of(value) is None:
        return value.view(np.ndarray)
    return value


def _careful(name: str) -> Any:
    """Make a method that may give a copy give a plain one then."""
    inherited = getattr(np.ndarray, name)

    def method(self: SharedArray, *args: Any, **kwargs: Any) -> Any:
        return _plain_unless_shared(inherited(self, *args, **kwargs))

    method.__name__ = name
    method.__qualname__ = f"SharedArray.{name}"
    method.__doc__ = inherited.__doc__
    return method


# Methods of ndarray that make new arrays, or may do so, without asking __array_wrap__.
for _name in (
    "argmax", "argmin", "argpartition", "argsort", "astype", "byteswap", "choose", "compress", "copy", "cumprod",
    "cumsum", "dot", "flatten", "ravel", "repeat", "reshape", "round", "searchsorted", "take", "trace",
    "__copy__", "__deepcopy__",
):  # fmt: skip
    setattr(SharedArray, _name, _careful(_name))


def view(
    segment: _core.Segment,
    offset: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    order: Order = "C",
    strides: tuple[int, ...] | None = None,
) -> SharedArray:
    """Show a part of shared memory as an array.

    Parameters
    ----------
    segment : _core.Segment
        The mapping; the array keeps it alive.
    offset : int
        Bytes before the first element.
    shape : tuple of int
        Lengths of the axes.
    dtype : numpy.dtype
        Type of the elements.
    order : {'C', 'F'}
        Order of the elements, without `strides`.
    strides : tuple of int, optional
        Bytes between neighbours along each axis.

    Returns
    -------
    array : SharedArray
        Read-only where the mapping is.
    """
    return SharedArray(shape, dtype, segment, offset, strides, order)  # type: ignore[arg-type]

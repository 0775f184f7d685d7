"""The helpers of ClearMap's ArrayProcessing, with its arguments and its tuples, for code written against them."""

from __future__ import annotations

import datetime
import operator
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _npy
from megalith._checks import same_shape
from megalith._shared_memory import anonymous
from megalith.arrays.blocks import block_count, thread_count
from megalith.arrays.sink import Target, given_array, given_dataset, is_shared
from megalith.arrays.source import Source, as_source, is_path
from megalith.exceptions import ArgumentError, DTypeError, LayoutError, ShapeError

if TYPE_CHECKING:
    import numpy.typing as npt

    from megalith._typing import AnyArray, Order, PathLike, Processes, SinkLike, SourceLike


class Timer:
    """A clock that starts when it is made.

    Parameters
    ----------
    head : str, optional
        What to print before the time.

    Examples
    --------
    >>> from megalith.arrays import Timer
    >>> Timer().elapsed_time('where').startswith('where: elapsed time: 0:00:00')
    True
    """

    def __init__(self, head: str | None = None) -> None:
        self.head = head
        self.start()

    def start(self) -> None:
        """Start anew."""
        self._start = time.perf_counter()

    reset = start

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def elapsed_time(self, head: str | None = None, as_string: bool = True) -> str | float:
        """Return the time since the start.

        Parameters
        ----------
        head : str, optional
            What to put before it.
        as_string : bool
            Whether as text, or as seconds.

        Returns
        -------
        elapsed : str or float
            As asked for.
        """
        if not as_string:
            return self.seconds
        head = head if head is not None else self.head
        text = f"elapsed time: {datetime.timedelta(seconds=self.seconds)}"
        return f"{head}: {text}" if head else text

    def print_elapsed_time(self, head: str | None = None) -> None:
        """Print the time since the start.

        Parameters
        ----------
        head : str, optional
            What to put before it.
        """
        print(self.elapsed_time(head))


def initialize_processing(
    processes: Processes = None,
    verbose: bool = False,
    function: str | None = None,
    blocks: int | None = None,
    return_blocks: bool = False,
) -> tuple[Any, ...]:
    """Settle how a function will run.

    Parameters
    ----------
    processes : int or 'serial', optional
        Number of threads; None means what settings and machine say.
    verbose : bool
        Print that `function` starts, and return a timer.
    function : str, optional
        Its name.
    blocks : int, optional
        Number of blocks; None means `default_blocks_per_process` for each thread.
    return_blocks : bool
        Whether to return the number of blocks too.

    Returns
    -------
    processes : int
        Number of threads.
    timer : Timer or None
        A timer if `verbose`.
    blocks : int
        Only with `return_blocks`.

    Raises
    ------
    ArgumentError
        If `processes` or `blocks` is 0, negative or no whole number.

    References
    ----------
    .. [1] ClearMap ``ArrayProcessing.initialize_processing``.

    Examples
    --------
    >>> import megalith
    >>> megalith.initialize_processing(processes=2, return_blocks=True)
    (2, None, 20)
    """
    threads = thread_count(processes)
    found = (threads, None, block_count(blocks, threads)) if return_blocks else (threads, None)
    if not verbose:
        return found
    if function:
        print(f"{function}: initialized!")
    return (threads, Timer(), *found[2:])


def finalize_processing(verbose: bool = False, function: str | None = None, timer: Timer | None = None) -> None:
    """Say how long a function took.

    Parameters
    ----------
    verbose : bool
        Whether to print anything.
    function : str, optional
        Its name.
    timer : Timer, optional
        What `initialize_processing` returned.

    References
    ----------
    .. [1] ClearMap ``ArrayProcessing.finalize_processing``.

    Examples
    --------
    >>> import megalith
    >>> megalith.finalize_processing(verbose=False, function='where')
    """
    if verbose and function and timer is not None:
        timer.print_elapsed_time(function)


def _parts(source: Source, buffer: AnyArray | None, flags: dict[str, bool]) -> Any:
    result: tuple[Any, ...] = (source,) if buffer is None else (source, buffer)
    if flags.get("shape"):
        result += (np.array(source.shape, dtype=np.intp),)
    if flags.get("strides"):
        result += (np.array(source.element_strides, dtype=np.intp),)
    if flags.get("order"):
        result += (source.order,)
    return result if len(result) > 1 else source


def initialize_source(
    source: SourceLike,
    return_buffer: bool = True,
    as_1d: bool = False,
    return_shape: bool = False,
    return_strides: bool = False,
    return_order: bool = False,
) -> Any:
    """Describe a source, and give what compiled code needs of it.

    Parameters
    ----------
    source : array-like
        Anything `as_source` takes.
    return_buffer : bool
        Whether to return its elements as an ndarray (truth values as uint8).
    as_1d : bool
        Flatten the buffer in the order of memory; a copy if it has gaps.
    return_shape, return_strides, return_order : bool
        Whether to return the shape, the strides in elements, the order.

    Returns
    -------
    source : Source
        Alone if nothing else is asked for.
    buffer : numpy.ndarray
        With `return_buffer`.
    shape : (ndim,) ndarray of intp
        With `return_shape`.
    strides : (ndim,) ndarray of intp
        With `return_strides`.
    order : {'C', 'F'} or None
        With `return_order`.

    Raises
    ------
    FileNotFoundError, FormatError, DTypeError
        As `as_source`.
    LayoutError
        If the strides are asked for and are no multiple of the item size.

    References
    ----------
    .. [1] ClearMap ``ArrayProcessing.initialize_source``.

    Examples
    --------
    >>> import numpy as np
    >>> import megalith
    >>> source, buffer, shape = megalith.initialize_source(np.eye(2, dtype=bool), as_1d=True, return_shape=True)
    >>> buffer, shape
    (array([1, 0, 0, 1], dtype=uint8), array([2, 2]))
    """
    source = as_source(source)
    buffer = _buffer(source.as_buffer()) if return_buffer else None
    if buffer is not None and as_1d:
        buffer = buffer.reshape(-1, order="A")
    return _parts(source, buffer, {"shape": return_shape, "strides": return_strides, "order": return_order})


def _buffer(array: AnyArray) -> AnyArray:
    return array.view(np.uint8) if array.dtype == bool else array


def initialize_sink(
    sink: SinkLike = None,
    shape: tuple[int, ...] | None = None,
    dtype: npt.DTypeLike | None = None,
    order: Order | None = None,
    memory: str | None = None,
    location: PathLike | None = None,
    mode: str | None = None,
    source: SourceLike = None,
    return_buffer: bool = True,
    as_1d: bool = False,
    return_shape: bool = False,
    return_strides: bool = False,
) -> Any:
    """Describe a sink or make one.

    Parameters
    ----------
    sink : ndarray, Source, dataset or path, optional
        An existing sink, or the path of a file to make.
    shape, dtype, order : optional
        Of a new sink; what is None is taken from `source`. Of an existing one: checked.
    memory : {'shared'}, optional
        Kind of memory of a new array: 'shared' memory is seen and written by forked children too.
    location : path, optional
        The ``.npy`` file of a new sink. It is visible at once, filled with zeros: the caller writes into it.
    mode : {'r+', 'w+'}, optional
        'w+' makes the file anew even if it exists. Otherwise an existing file is used, and must be what is asked for.
    source : array-like, optional
        What to take shape, type and order from.
    return_buffer, as_1d, return_shape, return_strides : bool
        As in `initialize_source`; a sink with gaps cannot be flattened, and a dataset has no buffer.

    Returns
    -------
    sink : Source
        Alone if nothing else is asked for; then buffer, shape and strides as asked for.

    Raises
    ------
    ShapeError, DTypeError
        If an existing sink differs from what is asked for, or is a dataset whose buffer is asked for.
    LayoutError
        If it is read-only, or has gaps and `as_1d` is asked for.
    ArgumentError
        If nothing says what to make.
    OSError
        If there is no room for the file.
    SharedMemoryFullError
        If there is no room in shared memory.

    References
    ----------
    .. [1] ClearMap ``ArrayProcessing.initialize_sink``.

    Examples
    --------
    >>> import numpy as np
    >>> import megalith
    >>> sink, buffer = megalith.initialize_sink(source=np.zeros((2, 3)), dtype=np.uint8)
    >>> sink.shape, buffer.dtype
    ((2, 3), dtype('uint8'))
    """
    in_shared_memory = is_shared(memory, sink if sink is not None else location)
    if mode not in (None, "r+", "w+"):
        message = f"mode: got {mode!r}, expected 'r+', 'w+' or None"
        raise ArgumentError(message, name="mode", got=mode, expected="'r+', 'w+' or None")
    like = None if source is None else as_source(source)
    if shape is None and like is not None:
        shape = like.shape
    wanted = None if dtype is None else np.dtype(dtype)
    if wanted is None and like is not None:
        wanted = like.dtype
    order = order or (like.order if like is not None else None) or "C"
    location = sink if is_path(sink) else location
    if sink is not None and not is_path(sink):
        made = _existing(sink, shape, None if dtype is None else np.dtype(dtype), with_buffer=return_buffer)
    else:
        if shape is None or wanted is None:
            message = "sink: nothing says its shape and dtype; give them, or a source to take them from"
            raise ArgumentError(message, name="sink", got=None, expected="shape and dtype, or source")
        shape = tuple(operator.index(n) for n in shape)
        if any(n < 0 for n in shape):
            message = f"shape: got {shape}, expected lengths of 0 or more"
            raise ShapeError(message, name="shape", got=shape, expected=">= 0")
        if in_shared_memory:
            made = as_source(anonymous(shape, wanted, order))
        else:
            made = _make(None if location is None else Path(location), shape, wanted, order, mode)
    buffer = _buffer(made.as_buffer()) if return_buffer else None
    if buffer is not None and as_1d:
        flat = buffer.reshape(-1, order="A")
        if buffer.size and not np.shares_memory(flat, buffer):
            message = f"sink: an array of shape {buffer.shape} with gaps cannot be flattened without a copy"
            raise LayoutError(message, name="sink", reason="gaps")
        buffer = flat
    return _parts(made, buffer, {"shape": return_shape, "strides": return_strides})


def _existing(sink: Any, shape: tuple[int, ...] | None, dtype: np.dtype[Any] | None, *, with_buffer: bool) -> Source:
    dataset = given_dataset(sink)
    if dataset is not None and with_buffer:
        message = "sink: a dataset has no buffer to write to; give return_buffer=False, or an array"
        raise DTypeError(message, name="sink", got="Dataset", supported="ndarray, Source or path")
    found = given_array(sink) if dataset is None else dataset
    if shape is not None:
        same_shape("sink", found.shape, tuple(shape))
    if dtype is not None and found.dtype != dtype:
        message = f"sink: got dtype {found.dtype}, expected {dtype}"
        raise DTypeError(message, name="sink", got=str(found.dtype), supported=str(dtype))
    return sink if isinstance(sink, Source) else as_source(found)


def _make(path: Path | None, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order, mode: str | None) -> Source:
    if path is not None and mode != "w+" and path.exists():
        header = _npy.read_header(path)
        contiguous = order if len(shape) > 1 else "C"
        if (header.shape, header.dtype, header.order) == (shape, dtype, contiguous) and 0 not in shape:
            return as_source(np.load(path, mmap_mode="r+"))
        same_shape("sink", header.shape, shape)
        if (header.dtype, header.order) != (dtype, contiguous):
            message = (
                f"sink: {path} has dtype {header.dtype} and order {header.order}, expected {dtype} and {contiguous}; "
                "give mode='w+' to replace it"
            )
            raise DTypeError(message, name="sink", got=str(header.dtype), supported=str(dtype))
    with Target(path, shape, dtype, order) as target:
        pass
    return as_source(target.result)

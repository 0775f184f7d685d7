"""Decorators of compute functions, and the stand-in for data that they are tried with: the conventions of Syncopy."""

from __future__ import annotations

import functools
import inspect
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith.exceptions import ArgumentError, DTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt


class FauxTrial:
    """Shape and type of a block, without its data, for dry runs.

    Parameters
    ----------
    shape : tuple of int
        Lengths of the axes.
    dtype : dtype-like
        Type of the elements.
    idx : tuple, optional
        Where in its source the block is.
    dimord : sequence of str, optional
        Names of the axes.

    Attributes
    ----------
    shape : tuple of int
        As given.
    dtype : numpy.dtype
        As given.
    idx : tuple or None
        As given.
    dimord : list of str or None
        As given.

    References
    ----------
    .. [1] Syncopy ``FauxTrial``.

    Examples
    --------
    >>> from megalith.hdf5 import FauxTrial
    >>> trial = FauxTrial((1000, 1, 32), 'float32', dimord=['time', 'taper', 'channel'])
    >>> trial.T.shape, trial.squeeze().shape, trial.nbytes
    ((32, 1, 1000), (1000, 32), 128000)
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        idx: Sequence[Any] | None = None,
        dimord: Sequence[str] | None = None,
    ) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.idx = None if idx is None else tuple(idx)
        self.dimord = None if dimord is None else list(dimord)

    def __repr__(self) -> str:
        return f"FauxTrial(shape={self.shape}, dtype={self.dtype.name})"

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes the elements would take."""
        return self.size * self.dtype.itemsize

    @property
    def T(self) -> FauxTrial:  # noqa: N802 - NumPy's name
        """The same with its axes reversed."""
        idx = None if self.idx is None else self.idx[::-1]
        dimord = None if self.dimord is None else self.dimord[::-1]
        return FauxTrial(self.shape[::-1], self.dtype, idx, dimord)

    def squeeze(self) -> FauxTrial:
        """Leave out axes of length 1.

        Returns
        -------
        squeezed : FauxTrial
            With the same `idx` and `dimord`.
        """
        return FauxTrial([n for n in self.shape if n != 1], self.dtype, self.idx, self.dimord)


def unwrap_io(func: Callable[..., Any]) -> Callable[..., Any]:
    """Let a compute function take its block from a file and write its result to one.

    Parameters
    ----------
    func : callable
        ``func(block, *args, chunkShape=None, noCompute=None, **cfg)``: takes an array and returns one; with
        ``noCompute=True`` it returns the shape and the type of what it would return.

    Returns
    -------
    wrapper : callable
        Given an ndarray or a `FauxTrial` it does what `func` does. Given a dict, a worker's order, it reads the block,
        computes, writes the result to disk, and returns None.

    Raises
    ------
    ArgumentError
        In a call: if an order has keys that are none, or lacks a file.
    FormatError
        In a call: if a file of an order is damaged.

    See Also
    --------
    compute : Plans such orders, and more: records, checks, resumption.

    Notes
    -----
    An order has these keys; all but ``infile`` and ``outfile`` may be left out:

    ``infile``, ``indset``
        The HDF5 file and the dataset in it (``'data'``), or the path of a ``.npy`` file.
    ``ingrid``, ``inshape``
        What to take of it, as between brackets, and the shape that the block has then.
    ``fancy``, ``sigrid``
        Whether the block is to be indexed once more, and by which lists for each axis.
    ``hdr``
        For raw files: a dict, or a list of them for several files, with ``dtype``, ``length`` (bytes before the data)
        and the shape ``M`` and ``N``. ``infile`` names as many files; their blocks are put below each other.
    ``vdsdir``, ``outfile``, ``outdset``
        With ``vdsdir`` the result becomes a file of its own, which appears when it is complete; without it, it goes
        into the file that is there, under a lock that ends with its holder.
    ``outgrid``, ``outshape``
        Where in the dataset it goes, and the shape of the result.
    ``dtype``
        Type of the result.
    ``keeptrials``
        False adds the result to what is in the dataset, without nans.
    ``call_id``
        What the call is known by, so that one that is carried out twice is added once.

    References
    ----------
    .. [1] Syncopy ``unwrap_io``, ``process_io``.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import h5py
    >>> import numpy as np
    >>> from megalith.hdf5 import FauxTrial, unwrap_io
    >>> @unwrap_io
    ... def double(block, chunkShape=None, noCompute=None):
    ...     if noCompute:
    ...         return block.shape, block.dtype
    ...     return 2 * block
    >>> double(np.arange(3))
    array([0, 2, 4])
    >>> double(FauxTrial((5, 2), 'float32'), noCompute=True)
    ((5, 2), dtype('float32'))
    >>> place = pathlib.Path(tempfile.mkdtemp())
    >>> with h5py.File(place / 'in.h5', 'w') as file:
    ...     file['data'] = np.arange(10)
    >>> double({'infile': place / 'in.h5', 'ingrid': (slice(2, 5),), 'vdsdir': place, 'outfile': place / '0.h5'})
    >>> with h5py.File(place / '0.h5') as file:
    ...     file['data'][:]
    array([4, 6, 8])
    """

    @functools.wraps(func)
    def wrapper(block: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(block, dict):
            return func(block, *args, **kwargs)
        from megalith.hdf5.orders import carry_out

        carry_out(block, functools.partial(_call, func, args, kwargs))
        return None

    wrapper.takes_orders = True  # type: ignore[attr-defined]
    return wrapper


def _call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], block: Any) -> Any:
    return func(block, *args, **kwargs)


def unwrap_cfg(func: Callable[..., Any]) -> Callable[..., Any]:
    """Let the options of a function come as one dict.

    Parameters
    ----------
    func : callable
        The function.

    Returns
    -------
    wrapper : callable
        To be called as ``f(data, cfg)``, ``f(cfg, data)``, ``f(data, cfg=cfg)`` or ``f(data, option=value)``.

    Raises
    ------
    ArgumentError
        In a call: if there are two dicts, or an option is given in the dict and beside it.
    DTypeError
        In a call: if `cfg` is no dict.

    Notes
    -----
    ``data`` or ``dataset`` in the dict, or as a keyword, is what the function is called with first; a tuple or list
    stands for several. ``'yes'`` and ``'no'`` are True and False. A dict that has an entry of the function's name means
    that entry. The caller's dict is not changed. A worker's order of `unwrap_io` comes first, and is none of this.

    References
    ----------
    .. [1] Syncopy ``unwrap_cfg``.

    Examples
    --------
    >>> from megalith.hdf5 import unwrap_cfg
    >>> @unwrap_cfg
    ... def scale(data, factor=1, invert=False):
    ...     return -factor * data if invert else factor * data
    >>> scale(3, {'factor': 2, 'invert': 'yes'}), scale({'data': 3, 'factor': 2}), scale(3, factor=2)
    (-6, 6, 6)
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        takes_orders = getattr(func, "takes_orders", False)
        order = args[:1] if takes_orders and args and _is_order(args[0]) else ()
        rest = args[len(order) :]
        given = [arg for arg in rest if isinstance(arg, dict)]
        keyword = kwargs.pop("cfg", None)
        if keyword is not None:
            given.append(keyword)
        if len(given) > 1:
            message = f"cfg: got {len(given)} dicts of options for {func.__name__}, expected one"
            raise ArgumentError(message, name="cfg", got=len(given), expected="1")
        positional = [arg for arg in rest if not isinstance(arg, dict)]
        options = _options(given[0], func.__name__) if given else {}
        twice = sorted(options.keys() & kwargs.keys())
        if twice:
            message = f"{twice[0]}: given in cfg and beside it for {func.__name__}; give it once"
            raise ArgumentError(message, name=twice[0], got=kwargs[twice[0]], expected="one value")
        options.update(kwargs)
        return func(*order, *_data(options, func), *positional, **options)

    return wrapper


def _is_order(value: Any) -> bool:
    return isinstance(value, dict) and "infile" in value and "outfile" in value


def _options(cfg: Any, name: str) -> dict[str, Any]:
    if not isinstance(cfg, dict):
        message = f"cfg: got {type(cfg).__name__}, expected a dict of options"
        raise DTypeError(message, name="cfg", got=type(cfg).__name__, supported="dict")
    cfg = cfg[name] if isinstance(cfg.get(name), dict) else cfg
    words = {"yes": True, "no": False}
    return {key: words.get(value, value) if isinstance(value, str) else value for key, value in cfg.items()}


def _data(options: dict[str, Any], func: Callable[..., Any]) -> list[Any]:
    """Take what the function is called with first out of the options."""
    given = [options.pop(name) for name in ("data", "dataset") if options.get(name) is not None]
    if len(given) > 1:
        message = f"cfg: got data and dataset for {func.__name__}, expected one of them"
        raise ArgumentError(message, name="cfg", got="data and dataset", expected="one of them")
    return [part for one in given for part in (one if isinstance(one, tuple | list) else [one])]


def takes(func: Callable[..., Any], name: str) -> bool:
    """Whether a function has an argument of a name."""
    try:
        return name in inspect.signature(func).parameters
    except (TypeError, ValueError):  # of compiled functions, some of which do not say
        return False

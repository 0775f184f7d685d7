"""Values to files: a plan of every byte first, then positioned writes of the arrays straight to their places."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from megalith import _core, _npy
from megalith._threads import requested
from megalith.exceptions import ArgumentError, DTypeError
from megalith.records import archive
from megalith.records.tree import flatten

if TYPE_CHECKING:
    from megalith._typing import AnyArray, Order, PathLike, Processes, Tick

SUFFIXES = (".npy", ".npz")

# Arrays of fewer bytes are copied and written together with the bytes around them.
SMALL_BYTES = 1 << 16

# Small pieces that are written at once, about.
JOINED_BYTES = 1 << 20


class Writable(Protocol):
    """What a plan is written to: `megalith._core.Draft`, or anything with its two methods."""

    def write(self, offset: int, data: bytes, /) -> None:
        """Write bytes at an offset."""

    def write_box(
        self,
        offset: int,
        shape: tuple[int, ...],
        spans: list[tuple[int, int]],
        source: AnyArray,
        processes: int | None = None,
        progress: Tick = None,
        /,
    ) -> None:
        """Write an array into a box of the C-order array of `shape` at `offset`."""


class _Leaf(NamedTuple):
    """An array and its header. It lies in the file in the C order of `items`."""

    header: bytes
    items: AnyArray

    @property
    def nbytes(self) -> int:
        return len(self.header) + self.items.nbytes


class Plan:
    """How a value will lie in a file, known before anything is written.

    `plan` makes it. The arrays are those of the value, not copies: who changes them before `write` has ended gets a
    file whose checksums may not fit.

    Parameters
    ----------
    suffix : {'.npy', '.npz'}
        The kind of file.
    tree : object
        The tree of the value.
    leaves : list
        Its arrays and their headers.
    about : object
        What is to be known of the value.

    Attributes
    ----------
    suffix : {'.npy', '.npz'}
        What the name of the file ends in.
    nbytes : int
        Size of the file.
    """

    def __init__(self, suffix: str, tree: Any, leaves: list[_Leaf], about: Any = None) -> None:
        self.suffix = suffix
        self._tree = tree
        self._about = about
        self._leaves = leaves
        self._layout: archive.Layout | None = None
        if suffix == ".npy":
            self.nbytes = leaves[0].nbytes
        else:
            tree_bytes = len(archive.make_tree(tree, [0] * len(leaves), about))
            self._layout = archive.Layout([leaf.nbytes for leaf in leaves], tree_bytes)
            self.nbytes = self._layout.nbytes

    def __repr__(self) -> str:
        return f"Plan({self.suffix!r}, {self.nbytes} bytes, {len(self._leaves)} arrays)"

    def write(self, file: Writable, processes: Processes = None) -> None:
        """Write the value.

        Parameters
        ----------
        file : Draft
            What it is written to, from offset 0: `nbytes` bytes.
        processes : int or 'serial', optional
            Upper bound on threads; None means all cores given to this process.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        threads = requested(processes)
        out = _Joined(file, threads)
        layout = self._layout
        if layout is None:
            out.store(self._leaves[0])
            out.flush()
            return
        crcs, checksums = [], []
        for i, leaf in enumerate(self._leaves):
            crc32, xxh3 = _core.checksums(leaf.header, leaf.items, threads)
            crcs.append(crc32)
            checksums.append(xxh3)
            out.put(layout.local(i, crc32))
            out.store(leaf)
        tree = archive.make_tree(self._tree, checksums, self._about)
        crcs.append(_core.checksums(tree, np.empty(0, np.uint8))[0])
        out.put(layout.local(len(self._leaves), crcs[-1]))
        out.put(tree)
        out.put(layout.tail(crcs))
        out.flush()
        assert out.position == self.nbytes


class _Joined:
    """A file that is written from its start, small pieces together."""

    def __init__(self, file: Writable, threads: int | None) -> None:
        self._file = file
        self._threads = threads
        self._pieces: list[bytes] = []
        self._joined = 0
        self.position = 0

    def put(self, data: bytes) -> None:
        """Write bytes, now or later."""
        self._pieces.append(data)
        self._joined += len(data)
        self.position += len(data)
        if self._joined >= JOINED_BYTES:
            self.flush()

    def store(self, leaf: _Leaf) -> None:
        """Write a header and an array."""
        self.put(leaf.header)
        items = leaf.items
        if items.nbytes <= SMALL_BYTES:
            self.put(_npy.raw(items).tobytes())
            return
        self.flush()
        spans = [(0, n) for n in items.shape]
        self._file.write_box(self.position, items.shape, spans, items, self._threads, None)
        self.position += items.nbytes

    def flush(self) -> None:
        """Write what waits."""
        if self._pieces:
            self._file.write(self.position - self._joined, b"".join(self._pieces))
        self._pieces, self._joined = [], 0


def plan(value: Any, *, name: str = "result", suffix: str | None = None, about: Any = None) -> Plan:
    """Plan how a value will lie in a file.

    A single array becomes a ``.npy`` file, anything else an uncompressed ``.npz`` archive of aligned ``.npy`` members
    beside one ``tree.json``. `numpy.load` opens both; `load` gives the value back.

    Parameters
    ----------
    value : object
        An array, a scalar, or tuples, lists and dicts of these, nested.
    name : str
        What it is called in messages.
    suffix : {'.npy', '.npz'}, optional
        The kind of file; an archive can hold a single array too, with its checksum. None for the one that fits.
    about : object, optional
        What is to be known of the value, plain JSON: an archive holds that too.

    Returns
    -------
    plan : Plan
        Suffix and size of the file, and the way to write it.

    Raises
    ------
    DTypeError
        If something in the value cannot be kept; the message says where it is and what can.
    ArgumentError
        If there is no such suffix.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith import records
    >>> records.plan(np.zeros(1000))
    Plan('.npy', 8128 bytes, 1 arrays)
    >>> records.plan((np.zeros(1000), 'seconds')).suffix
    '.npz'
    """
    if about is not None:
        suffix = suffix or ".npz"
    if suffix not in (None, *SUFFIXES):
        message = f"suffix: got {suffix!r}, expected '.npy', '.npz' or None"
        raise ArgumentError(message, name="suffix", got=suffix, expected="'.npy', '.npz' or None")
    is_array = isinstance(value, np.ndarray)
    if suffix == ".npy" and not is_array:
        message = f"{name}: a .npy file holds one array, got {type(value).__name__}; .npz files hold nested values"
        raise DTypeError(message, name=name, got=type(value).__name__, supported="ndarray")
    tree, arrays = flatten(value, name)
    leaves = [_leaf(array, name) for array in arrays]
    try:
        return Plan(suffix or (".npy" if is_array else ".npz"), tree, leaves, about)
    except RecursionError:
        message = f"{name}: nested deeper than the interpreter allows here; fewer levels of containers can be kept"
        raise DTypeError(message, name=name, got=type(value).__name__, supported="fewer levels") from None


def _leaf(array: AnyArray, name: str) -> _Leaf:
    order: Order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    header = _npy.make_header(array.shape, array.dtype, order, name)
    return _Leaf(header, array.T if order == "F" else array)


def save(path: PathLike, value: Any, *, processes: Processes = None) -> Path:
    """Write a value to a file that appears when it is complete.

    Parameters
    ----------
    path : path
        Its name. One that ends in neither ``.npy`` nor ``.npz`` gets the suffix that fits the value.
    value : object
        An array, a scalar, or tuples, lists and dicts of these, nested.
    processes : int or 'serial', optional
        Upper bound on threads; None means all cores given to this process.

    Returns
    -------
    path : pathlib.Path
        The name of the file.

    Raises
    ------
    DTypeError
        If something in the value cannot be kept, or a nested one shall be a ``.npy`` file.
    OSError
        If there is no room for it, or it cannot be written.

    Notes
    -----
    The file is written under another name and renamed: who reads the old one keeps it, and after an error nothing is
    left of the new one. Large arrays are written by all cores, without a copy.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from megalith import records
    >>> path = records.save(pathlib.Path(tempfile.mkdtemp()) / 'fit', {'weights': np.arange(3), 'steps': 12})
    >>> path.name
    'fit.npz'
    >>> sorted(np.load(path))
    ['0', 'tree.json']
    >>> records.load(path)
    {'weights': array([0, 1, 2]), 'steps': 12}
    """
    path = Path(path)
    planned = plan(value, name="value", suffix=path.suffix if path.suffix in SUFFIXES else None)
    if path.suffix not in SUFFIXES:
        path = path.with_name(path.name + planned.suffix)
    draft = _core.Draft(os.fspath(path), planned.nbytes)
    try:
        planned.write(draft, processes)
        draft.publish(replace=True)
    except BaseException:
        draft.discard()
        raise
    return path

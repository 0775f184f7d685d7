"""Pieces of a recording: chunks with an overlap, excerpts spread over it, lines padded to a length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _checks, _core
from megalith.arrays.source import as_source, is_path
from megalith.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Generator

    from megalith._typing import AnyArray, SourceLike

    Bounds = tuple[int, int]
    Chunk = tuple[int, int, int, int]


def chunk_bounds(n_samples: int, chunk_size: int, overlap: int = 0) -> Generator[Chunk]:
    """Cut a recording into chunks that overlap, and say which part of each to keep.

    Parameters
    ----------
    n_samples : int
        Length of the recording.
    chunk_size : int
        Length of a chunk, with its overlap; the last may be shorter.
    overlap : int
        Samples that neighbouring chunks have in common; each keeps half of them.

    Returns
    -------
    chunks : generator of tuple of int
        For each chunk ``(start, end, keep_start, keep_end)``. What is kept is all of the recording, each sample once.

    Raises
    ------
    ArgumentError
        If the chunks have no samples, or overlap by a whole chunk.

    Notes
    -----
    The chunks are those of phylib, but for recordings shorter than a chunk: these are one chunk that ends where they
    do. An empty recording has no chunks.

    References
    ----------
    .. [1] phylib ``io.array.chunk_bounds``.

    Examples
    --------
    >>> from megalith.arrays import chunk_bounds
    >>> list(chunk_bounds(200, 100, overlap=20))
    [(0, 100, 0, 90), (80, 180, 90, 170), (160, 200, 170, 200)]
    """
    n_samples = _checks.count("n_samples", n_samples)
    chunk_size = _checks.positive_int("chunk_size", chunk_size)
    overlap = _checks.count("overlap", overlap)
    if overlap >= chunk_size:
        message = f"overlap: got {overlap} for chunks of {chunk_size}, expected less than a chunk"
        raise ArgumentError(message, name="overlap", got=overlap, expected=f"0 to {chunk_size - 1}")
    return _chunks(n_samples, chunk_size, overlap)


def _chunks(n_samples: int, chunk_size: int, overlap: int) -> Generator[Chunk]:
    step, half = chunk_size - overlap, overlap // 2
    if 0 < n_samples < chunk_size:
        yield 0, n_samples, 0, n_samples
    if n_samples < chunk_size:
        return
    kept = 0
    start = 0
    while start == 0 or start + chunk_size < n_samples:
        end = start + chunk_size
        yield start, end, kept, end - half
        start, kept = start + step, end - half
    if start < n_samples:
        yield start, n_samples, kept, n_samples


def excerpts(n_samples: int, n_excerpts: int | None = None, excerpt_size: int | None = None) -> Generator[Bounds]:
    """Spread excerpts evenly over a recording.

    Parameters
    ----------
    n_samples : int
        Length of the recording.
    n_excerpts : int
        Number of excerpts. There are fewer if so many do not fit beside each other.
    excerpt_size : int
        Length of an excerpt; the last may be shorter.

    Returns
    -------
    bounds : generator of tuple of int
        For each excerpt ``(start, end)``, `end` excluded. The first one starts at 0, they do not overlap, and if they
        all fit the last one ends at most `n_excerpts` - 2 samples before the end.

    Raises
    ------
    ArgumentError
        If the number or the size is missing or negative, or the size 0.

    References
    ----------
    .. [1] phylib ``io.array.excerpts``.

    Examples
    --------
    >>> from megalith.arrays import excerpts
    >>> list(excerpts(100, n_excerpts=3, excerpt_size=10))
    [(0, 10), (45, 55), (90, 100)]
    """
    n_samples = _checks.count("n_samples", n_samples)
    n_excerpts = _checks.count("n_excerpts", n_excerpts)
    excerpt_size = _checks.positive_int("excerpt_size", excerpt_size)
    return _excerpts(n_samples, n_excerpts, excerpt_size)


def _excerpts(n_samples: int, n_excerpts: int, excerpt_size: int) -> Generator[Bounds]:
    step = max((n_samples - excerpt_size) // max(n_excerpts - 1, 1), excerpt_size)
    for start in range(0, min(n_excerpts * step, n_samples), step):
        yield start, min(start + excerpt_size, n_samples)


def data_chunk(data: SourceLike, chunk: Bounds | Chunk, with_overlap: bool = False) -> Any:
    """Take the samples of a chunk.

    Parameters
    ----------
    data : (n_samples, ...) array-like
        A recording: an ndarray, a memory map, `ConcatenatedArrays`, a dataset, or the path of a ``.npy`` file.
    chunk : tuple of int
        ``(start, end)``, or ``(start, end, keep_start, keep_end)`` of `chunk_bounds`.
    with_overlap : bool
        Take what overlaps too, and not just what is kept.

    Returns
    -------
    samples : (n, ...) ndarray
        As indexing the data gives them: a view of an ndarray or a mapping, samples that were read from elsewhere.

    Raises
    ------
    ArgumentError
        If the chunk has not 2 or 4 numbers.

    References
    ----------
    .. [1] phylib ``io.array.data_chunk``.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith.arrays import chunk_bounds, data_chunk
    >>> recording = np.arange(10)
    >>> [data_chunk(recording, chunk).tolist() for chunk in chunk_bounds(10, 6, overlap=2)]
    [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    """
    if len(chunk) not in (2, 4):
        message = f"chunk: got {chunk!r}, expected (start, end) or (start, end, keep_start, keep_end)"
        raise ArgumentError(message, name="chunk", got=chunk, expected="2 or 4 numbers")
    start, end = chunk[:2] if with_overlap else chunk[-2:]
    return _indexed(data)[start:end, ...]


def get_excerpts(data: SourceLike, n_excerpts: int | None = None, excerpt_size: int | None = None) -> Any:
    """Take excerpts spread evenly over a recording, one after the other.

    Parameters
    ----------
    data : (n_samples, ...) array-like
        A recording: an ndarray, a memory map, `ConcatenatedArrays`, a dataset, or the path of a ``.npy`` file. Only the
        excerpts are read.
    n_excerpts : int
        Number of excerpts.
    excerpt_size : int
        Length of an excerpt.

    Returns
    -------
    excerpts : (n, ...) ndarray
        ``n_excerpts * excerpt_size`` samples; all of the data, as it was given, if it has fewer.

    Raises
    ------
    ArgumentError
        If the number or the size is missing or negative, or the size 0.

    References
    ----------
    .. [1] phylib ``io.array.get_excerpts``.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith.arrays import get_excerpts
    >>> get_excerpts(np.arange(100), n_excerpts=3, excerpt_size=2)
    array([ 0,  1, 49, 50, 98, 99])
    """
    n_excerpts = _checks.count("n_excerpts", n_excerpts)
    excerpt_size = _checks.positive_int("excerpt_size", excerpt_size)
    data = _indexed(data)
    if data.shape[0] < n_excerpts * excerpt_size:
        return data
    if n_excerpts < 2:
        return data[: n_excerpts * excerpt_size]
    bounds = list(_excerpts(data.shape[0], n_excerpts, excerpt_size))
    taken = _core.empty((sum(end - start for start, end in bounds), *data.shape[1:]), data.dtype)
    at = 0
    for start, end in bounds:
        taken[at : at + end - start] = data[start:end]
        at += end - start
    return taken


def pad(arr: AnyArray, n: int, dir: str = "right") -> AnyArray:
    """Bring an array to a length: with zeros if it is shorter, cut off if it is longer.

    Parameters
    ----------
    arr : (m, ...) ndarray
        The array.
    n : int
        Length of the result along the first axis.
    dir : {'right', 'left'}
        The end at which zeros are put and elements taken away.

    Returns
    -------
    padded : (n, ...) ndarray
        The very array if it has that length, a view if it is longer, otherwise a fresh array.

    Raises
    ------
    ArgumentError
        If the length is negative, or there is no such direction.

    References
    ----------
    .. [1] phylib ``io.array._pad``.

    Examples
    --------
    >>> import numpy as np
    >>> from megalith.arrays import pad
    >>> pad(np.array([1, 2, 3]), 5)
    array([1, 2, 3, 0, 0])
    >>> pad(np.array([1, 2, 3]), 2, dir='left')
    array([2, 3])
    """
    n = _checks.count("n", n)
    if dir not in ("left", "right"):
        raise ArgumentError(
            f"dir: got {dir!r}, expected 'left' or 'right'", name="dir", got=dir, expected="'left' or 'right'"
        )
    m = arr.shape[0]
    if m == n:
        return arr
    if m > n:
        return arr[m - n :] if dir == "left" else arr[:n]
    padded = np.zeros((n, *arr.shape[1:]), arr.dtype)
    padded[n - m if dir == "left" else 0 :][:m] = arr
    return padded


def _indexed(data: Any) -> Any:
    """Return what can be indexed: a mapping of a file or the dataset given by path, an array of a list."""
    if not is_path(data) and hasattr(data, "shape"):
        return data
    source = as_source(data)
    return source.array if source.dataset is None else source

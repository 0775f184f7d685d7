"""Some of many sorted spikes: evenly spread, in batches, at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _checks

if TYPE_CHECKING:
    import numpy.typing as npt

    from megalith._typing import AnyArray


def regular_subset(spikes: Any, n_spikes_max: int | None = None, offset: int = 0) -> npt.NDArray[np.int64]:
    """Take some of many spikes, evenly spread and the same ones each time.

    Parameters
    ----------
    spikes : (n_spikes,) array-like of integers
        Sorted spikes; of an object with a length only the entries that are taken are asked for.
    n_spikes_max : int, optional
        How many to take; all if there are no more. None takes all.
    offset : int
        0 takes the first, the last and what lies evenly between. Any other number is the first place to take; the
        others follow at a constant distance, and there may be fewer than `n_spikes_max`.

    Returns
    -------
    subset : (n_taken,) ndarray of int64
        In the order of `spikes`.

    Raises
    ------
    ArgumentError
        If a number is negative or no whole number.

    Notes
    -----
    Place ``k`` of ``n`` is ``k * (n_spikes - 1) // (n - 1)``, in whole numbers: exact at any size.

    References
    ----------
    .. [1] phylib ``io.array._sample_spikes_evenly`` and, for `offset`, phy ``regular_subset`` (behaviour).

    Examples
    --------
    >>> from megalith.select import regular_subset
    >>> regular_subset([2, 3, 5, 7, 11, 13, 17], 3)
    array([ 2,  7, 17])
    """
    offset = _checks.count("offset", offset)
    if isinstance(spikes, list | tuple | range):
        spikes = np.asarray(spikes, dtype=np.int64)
    n = len(spikes)
    wanted = n if n_spikes_max is None else _checks.count("n_spikes_max", n_spikes_max)
    if wanted >= n:
        return np.asarray(spikes, dtype=np.int64)
    if wanted == 0:
        return np.zeros(0, np.int64)
    if offset:
        places = np.arange(offset, n, -(-n // wanted), dtype=np.int64)[:wanted]
    else:
        places = np.arange(wanted, dtype=np.int64) * (n - 1) // max(wanted - 1, 1)
    return np.asarray(spikes[places], dtype=np.int64)


def batches(spikes: AnyArray, wanted: int, batch: int, rng: np.random.Generator | None) -> AnyArray:
    """Take batches of spikes that follow each other, evenly spread or at random: at most `wanted` of more spikes."""
    n = len(spikes)
    n_batches, batch = max(wanted // batch, 1), min(batch, wanted)
    if rng is not None:
        starts = np.sort(rng.choice(n // batch, n_batches, replace=False)) * batch
    else:
        step = max((n - batch) // (n_batches - 1), batch) if n_batches > 1 else 0
        starts = np.arange(n_batches) * step
    taken: AnyArray = spikes[(starts[:, None] + np.arange(batch)).ravel()]
    return taken


def random_subset(spikes: AnyArray, wanted: int, rng: np.random.Generator) -> AnyArray:
    """Take spikes at random, in their order."""
    if len(spikes) <= wanted:
        return spikes
    return spikes[np.sort(rng.choice(len(spikes), wanted, replace=False, shuffle=False))]


def legacy_subset(spikes: AnyArray, wanted: int) -> AnyArray:
    """Take spikes at random by NumPy's global state, which `numpy.random.seed` sets; in no order."""
    n = len(spikes)
    if n <= wanted:
        return spikes
    if 4 * wanted > n:
        return np.random.choice(spikes, wanted, replace=False)
    # Few of many: the function above would shuffle all of them.
    seed = np.random.randint(0, 2**32, dtype=np.uint64)
    return spikes[np.random.default_rng(seed).choice(n, wanted, replace=False, shuffle=False)]


def among(spikes: AnyArray, subset: AnyArray) -> AnyArray:
    """Return those of some spikes that are in a rising subset, by bisection in it."""
    if not len(subset):
        return spikes[:0]
    places = np.minimum(np.searchsorted(subset, spikes), len(subset) - 1)
    both: AnyArray = spikes[subset[places] == spikes]
    return both


def is_rising(spikes: AnyArray) -> bool:
    """Whether each entry is larger than the one before."""
    return bool(np.all(spikes[1:] > spikes[:-1]))


def merged(parts: list[AnyArray]) -> npt.NDArray[np.int64]:
    """Return all spikes of some lists, rising, each once."""
    parts = [np.asarray(part, dtype=np.int64).ravel() for part in parts if len(part)]
    if not parts:
        return np.zeros(0, np.int64)
    spikes = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if is_rising(spikes):
        return spikes.copy() if len(parts) == 1 else spikes
    spikes = np.sort(spikes, kind="stable")
    # Spikes of clusters that share none are all kept, without another copy.
    return spikes if is_rising(spikes) else spikes[np.concatenate([[True], spikes[1:] != spikes[:-1]])]

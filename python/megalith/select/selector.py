"""Which spikes of some clusters: `Selector`."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from megalith import _checks
from megalith._optional import is_instance
from megalith.arrays.kernels.common import check_option
from megalith.exceptions import ArgumentError, DTypeError, IndexRangeError, ShapeError
from megalith.select import subsets
from megalith.select.groups import id_array, id_source, spikes_per_cluster, unknown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from megalith._typing import AnyArray, SourceLike

Ints: TypeAlias = "npt.NDArray[np.int64]"
Subset: TypeAlias = Literal["regular", "random"]
Stamp: TypeAlias = "tuple[int, int, int, int, int]"
Seed: TypeAlias = "int | list[int] | np.random.Generator | None"

# phy's: each cluster more lowers the number of spikes of all by the factor exp(-0.1).
SHRINK = 0.1

# So many ids are compared at a time.
COMPARED = 1 << 20


class Selector:
    """Selections of the spikes of clusters.

    Parameters
    ----------
    spikes_per_cluster : callable, mapping or (n_spikes,) array-like of integers
        A function that gives the spikes of a cluster, a mapping from clusters to spikes, or the cluster of each spike
        (in memory or in a file), which is grouped once.
    spike_times : (n_spikes,) array-like, optional
        The time of each spike, for `subset_chunks`; only those of the spikes in question are looked at.
    chunk_bounds : (n_chunks + 1,) array-like, optional
        Where the chunks of the recording begin and end, in the unit of the times.
    n_chunks_kept : int, optional
        How many chunks `subset_chunks` keeps at most, evenly spread; None keeps all.
    seed : int, list of int or numpy.random.Generator, optional
        Of random subsets. With numbers, the spikes that are taken from a cluster depend on the seed, on the id of the
        cluster and on its spikes alone: the same question has the same answer, whatever was asked before and whatever
        happens to other clusters. A generator goes on from call to call; None gives other spikes each time.
    get_spikes_per_cluster : callable, optional
        The word of phylib for `spikes_per_cluster`.
    spikes_are_disjoint : bool
        Taken because phylib takes it; there is nothing to be gained by it here.

    Raises
    ------
    ShapeError
        If the cluster ids or the chunks have not one dimension, or there are not as many times as spikes.
    DTypeError
        If ids are not integers.
    ArgumentError
        If there are no spikes per cluster, `n_chunks_kept` is less than 1, or the seed is none.

    Notes
    -----
    An array of cluster ids is grouped at once, and its changes are seen whether they are told (`update`) or not: it is
    compared with a copy before each selection, a millisecond for some million spikes, and what differs is moved. One
    that is read-only, and no view of another, is not compared. A ``.npy`` file, or a mapping of one that is only read,
    is known by its times instead and not copied; where it was written anew it is grouped anew, and what `update` said
    before is forgotten. Mappings from clusters to spikes and other sources are read once. Selections may be made by
    several threads at once; an update is seen by those that begin after it.

    References
    ----------
    .. [1] phy ``Selector``, phylib ``io.array.SpikeSelector`` (behaviour).

    Examples
    --------
    >>> from megalith.select import Selector
    >>> selector = Selector([3, 5, 3, -1, 5, 3, 3, 3])
    >>> selector.select_spikes([3, 5])
    array([0, 1, 2, 4, 5, 6, 7])
    >>> selector.select_spikes([3], 3)
    array([0, 5, 7])
    """

    def __init__(
        self,
        spikes_per_cluster: Callable[[int], npt.ArrayLike] | Mapping[int, npt.ArrayLike] | SourceLike = None,
        *,
        spike_times: npt.ArrayLike | None = None,
        chunk_bounds: npt.ArrayLike | None = None,
        n_chunks_kept: int | None = None,
        seed: Seed = None,
        get_spikes_per_cluster: Callable[[int], npt.ArrayLike] | None = None,
        spikes_are_disjoint: bool = False,
    ) -> None:
        given = get_spikes_per_cluster if spikes_per_cluster is None else spikes_per_cluster
        if given is None:
            message = (
                "spikes_per_cluster: got None, expected a function from a cluster to its spikes, a mapping, or the "
                "cluster of each spike"
            )
            raise ArgumentError(message, name="spikes_per_cluster", got=None, expected="function, mapping or array")
        self._function: Callable[[int], Any] | None = None
        self._clusters: AnyArray | None = None
        # Where clusters may change: the array that they are a copy of, or the file that they are in.
        self._array: AnyArray | None = None
        self._file: tuple[SourceLike, Path, Stamp | None] | None = None
        self._lock = threading.RLock()
        self._groups: dict[int, Ints] = {}
        self._moved = self._moved_to = np.zeros(0, np.int64)
        self._chunks = _kept_chunks(chunk_bounds, n_chunks_kept)
        # The labels of a series are none of our positions.
        is_given_whole = isinstance(spike_times, list | tuple) or is_instance(spike_times, "pandas", "Series")
        self._times: Any = np.asarray(spike_times) if is_given_whole else spike_times
        self._seed = _checked_seed(seed)
        if callable(given):
            self._function = given
        elif isinstance(given, Mapping):
            groups = {
                _checks.integer("spikes_per_cluster", cluster): _spikes(cluster, given[cluster]) for cluster in given
            }
            self._groups = dict(sorted(groups.items()))
        else:
            self._group(given)

    def _group(self, given: SourceLike) -> None:
        """Group the spikes of an array of cluster ids."""
        source = id_source("spikes_per_cluster", given)
        n_times = getattr(self._times, "shape", (source.size,))
        if tuple(n_times) != source.shape:
            message = f"spike_times: got shape {tuple(n_times)}, expected {source.shape}: one time for each spike"
            raise ShapeError(message, name="spike_times", got=tuple(n_times), expected=source.shape)
        path = source.location if source.memory != "shared" else None
        stamp = None if path is None else _stamp(path)
        clusters = source.array
        if path is not None and not clusters.flags.writeable:
            self._file, self._array, self._clusters = (given, path, stamp), None, clusters
        else:
            self._file, self._array = None, given if isinstance(given, np.ndarray) else None
            self._clusters = np.array(clusters)
        self._groups = spikes_per_cluster(self._clusters)
        self._moved = self._moved_to = np.zeros(0, np.int64)

    def _look(self) -> None:
        """See what has changed in the array or the file since it was grouped."""
        if self._file is not None:
            given, path, stamp = self._file
            if _stamp(path) != stamp:
                self._group(given)
        elif self._array is not None and self._clusters is not None and _can_change(self._array):
            changed = _differing(self._clusters, self._array)
            if not len(changed):
                return
            now = self._array[changed]
            if _is_wide(self._groups, now):
                self._group(self._array)
            else:
                self._move(changed, now.astype(np.int64))
                self._clusters[changed] = now

    def __getstate__(self) -> dict[str, Any]:
        # Nobody else can change what is unpickled, but for a file.
        is_mapping = self._file is not None and isinstance(self._file[0], np.ndarray)
        file = None if is_mapping else self._file
        return {name: value for name, value in vars(self).items() if name != "_lock"} | {"_array": None, "_file": file}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    @property
    def clusters(self) -> list[int] | None:
        """All clusters that have spikes, rising; None if a function gives the spikes."""
        return None if self._function is not None else list(self._now())

    @property
    def chunks_kept(self) -> AnyArray:
        """Where the chunks that `subset_chunks` keeps begin and end: start, stop, start, stop, ..."""
        return self._chunks if self._chunks is not None else np.zeros(0)

    def select_spikes(
        self,
        cluster_ids: npt.ArrayLike | None = None,
        max_n_spikes_per_cluster: int | None = None,
        *,
        subset: Subset = "regular",
        batch: int | None = None,
        subset_chunks: bool = False,
        subset_spikes: npt.ArrayLike | None = None,
        shrink: bool = True,
        strict: bool = False,
    ) -> Ints | None:
        """Select spikes of some clusters.

        Parameters
        ----------
        cluster_ids : array-like of integers, optional
            The clusters, in any order; one number is taken for a list of it.
        max_n_spikes_per_cluster : int, optional
            How many spikes to take of each cluster at most; None or 0 takes all.
        subset : {'regular', 'random'}
            Which ones: evenly spread and the same each time (`regular_subset`), or at random by the Selector's seed.
        batch : int, optional
            Take batches of so many spikes that follow each other, as many as the limit allows, of clusters that have
            more spikes than both: what is near in time is often near on disk.
        subset_chunks : bool
            Take only spikes in the chunks that are kept.
        subset_spikes : array-like of integers, optional
            Take only these spikes.
        shrink : bool
            Lower the limit by a factor of ``exp(-0.1)`` for each cluster but the first, down to one spike, as phy does.
        strict : bool
            Whether a cluster without spikes is an error.

        Returns
        -------
        spikes : (n_selected,) ndarray of int64, or None
            Rising, each once; None for no clusters.

        Raises
        ------
        SelectionError
            If a cluster is not there, under `strict`; names all that are not.
        ArgumentError
            If an option is none of those allowed, or `subset_chunks` is asked for without times and chunks.
        ShapeError
            If a list has not one dimension.
        DTypeError
            If ids are not integers.

        Examples
        --------
        >>> from megalith.select import Selector
        >>> selector = Selector({1: [0, 2, 4, 6, 8], 2: [1, 3]}, seed=7)
        >>> selector.select_spikes([1], 3)
        array([0, 4, 8])
        >>> selector.select_spikes([1, 2], 3, shrink=False, subset_spikes=[2, 3, 4, 6])
        array([2, 3, 4, 6])
        >>> selector.select_spikes([1, 9], strict=True)
        Traceback (most recent call last):
            ...
        megalith.exceptions.SelectionError: cluster_ids: there is no cluster 9; there are 2: 1, 2; leave out what is ...
        """
        check_option("subset", subset, ("regular", "random"))
        limit = (
            None
            if max_n_spikes_per_cluster is None
            else _checks.count("max_n_spikes_per_cluster", max_n_spikes_per_cluster)
        )
        batch = None if batch is None else _checks.positive_int("batch", batch)
        filters = self._filters(subset_chunks, subset_spikes)
        if cluster_ids is None:
            return None
        wanted = list(dict.fromkeys(id_array("cluster_ids", cluster_ids).tolist()))
        if not wanted:
            return None
        if limit and shrink:
            limit = max(int(limit * math.exp(-SHRINK * (len(wanted) - 1))), 1)
        found = self._found(wanted)
        if strict and (missing := sorted(cluster for cluster in wanted if cluster not in found)):
            raise unknown("cluster_ids", missing, None if self.clusters is None else np.array(self.clusters))
        random = self._generator if subset == "random" else lambda cluster: None
        return subsets.merged(
            [_limited(filters(spikes), limit, batch, random, cluster) for cluster, spikes in found.items()]
        )

    def __call__(
        self,
        n_spk_clu: int | None,
        cluster_ids: npt.ArrayLike,
        subset_chunks: bool = False,
        subset_spikes: npt.ArrayLike | None = None,
        subset_spikes_are_sorted: bool = False,
        sample_evenly: bool = False,
    ) -> Ints:
        """Select spikes in phylib's way of asking.

        Parameters
        ----------
        n_spk_clu : int, optional
            How many spikes to take of each cluster at most; all if it is None, 0 or negative.
        cluster_ids : array-like of integers
            The clusters; those that are not there contribute nothing.
        subset_chunks : bool
            Take only spikes in the chunks that are kept.
        subset_spikes : array-like of integers, optional
            Take only these spikes.
        subset_spikes_are_sorted : bool
            Taken because phylib takes it: it is seen, not believed.
        sample_evenly : bool
            Take evenly spread spikes rather than random ones.

        Returns
        -------
        spikes : (n_selected,) ndarray of int64
            Rising, each once; empty for no clusters.

        Raises
        ------
        ArgumentError, ShapeError, DTypeError
            As `select_spikes`.

        Notes
        -----
        Without a seed random spikes come from NumPy's global state, as in phylib: `numpy.random.seed` decides.

        Examples
        --------
        >>> from megalith.select import Selector
        >>> selector = Selector(lambda cluster: [0, 2, 4, 6, 8])
        >>> selector(3, [1], sample_evenly=True)
        array([0, 4, 8])
        """
        filters = self._filters(subset_chunks, subset_spikes)
        limit = 0 if n_spk_clu is None else max(_checks.integer("n_spk_clu", n_spk_clu), 0)
        wanted = id_array("cluster_ids", cluster_ids).tolist()
        found = self._found(wanted, as_given=True)
        selected = {}
        # A cluster that is named twice is drawn from twice, and the second time counts: so do the draws behind it.
        for cluster in (cluster for cluster in wanted if cluster in found):
            spikes = filters(found[cluster])
            if limit and sample_evenly:
                spikes = subsets.regular_subset(spikes, limit)
            elif limit and self._seed is None:
                spikes = subsets.legacy_subset(spikes, limit)
            elif limit:
                spikes = subsets.random_subset(spikes, limit, self._generator(cluster))
            selected[cluster] = spikes
        return subsets.merged(list(selected.values()))

    def update(self, spike_ids: npt.ArrayLike, cluster_ids: npt.ArrayLike) -> None:
        """Say that spikes belong to other clusters now.

        Only the clusters that lose or gain spikes are touched. A merge, a split and any other change are one thing.

        Parameters
        ----------
        spike_ids : (n_moved,) array-like of integers
            The spikes, each of the last of its clusters if it is named twice.
        cluster_ids : int or (n_moved,) array-like of integers
            The cluster of all of them, or of each.

        Raises
        ------
        ArgumentError
            If a function gives the spikes: it is asked each time, and knows. If a mapping has spikes in more than one
            cluster, or there are clusters of 2**63 and more.
        ShapeError
            If there is not one cluster for each spike.
        IndexRangeError
            If there is no such spike in the array that the Selector was made of.
        DTypeError
            If ids are not integers.

        Notes
        -----
        A cluster that loses its last spike is gone. The array or mapping that the Selector was made of is left alone.

        Examples
        --------
        >>> from megalith.select import Selector
        >>> selector = Selector([3, 5, 3, 5, 8])
        >>> selector.update(selector.select_spikes([3, 5]), 9)  # a merge
        >>> selector.update([1, 2], [10, 11])  # a split
        >>> selector.clusters
        [8, 9, 10, 11]
        """
        if self._function is not None:
            message = "update: a function gives the spikes of this Selector; it is asked each time, let it know instead"
            raise ArgumentError(message, name="spikes_per_cluster", got="a function", expected="a mapping or an array")
        spikes = id_array("spike_ids", spike_ids).astype(np.int64)
        targets = id_array("cluster_ids", cluster_ids)
        if np.ndim(cluster_ids) == 0:
            targets = np.broadcast_to(targets, spikes.shape)
        if targets.shape != spikes.shape:
            message = f"cluster_ids: got {targets.size}, expected one, or one for each of the {spikes.size} spikes"
            raise ShapeError(message, name="cluster_ids", got=targets.shape, expected=spikes.shape)
        spikes, last = np.unique(spikes[::-1], return_index=True)
        with self._lock:
            self._look()
            if _is_wide(self._groups, targets):
                message = "update: there are cluster ids of 2**63 and more, between which spikes cannot be moved"
                raise ArgumentError(message, name="cluster_ids", got="ids of 64 bits", expected="ids below 2**63")
            self._move(spikes, targets[::-1][last].astype(np.int64))

    def _move(self, spikes: Ints, targets: Ints) -> None:
        """Move rising spikes to clusters."""
        sources, is_there = self._owners(spikes)
        groups = dict(self._groups)
        changes = ~is_there | (sources != targets)
        leaving = changes & is_there
        for cluster, gone in spikes_per_cluster(sources[leaving], spikes[leaving]).items():
            group = groups[cluster]
            kept = np.ones(len(group), dtype=bool)
            kept[np.searchsorted(group, gone)] = False
            if kept.any():
                groups[cluster] = group[kept]
            else:
                del groups[cluster]
        for cluster, came in spikes_per_cluster(targets[changes], spikes[changes]).items():
            groups[cluster] = subsets.merged([groups.get(cluster, came[:0]), came])
        before = ~np.isin(self._moved, spikes)
        moved = np.concatenate([self._moved[before], spikes])
        order = np.argsort(moved, kind="stable")
        self._moved_to = np.concatenate([self._moved_to[before], targets])[order]
        self._moved = moved[order]
        self._groups = dict(sorted(groups.items()))

    def _owners(self, spikes: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Return the clusters that spikes are in, and whether they are in one."""
        if self._clusters is None:
            # A mapping: brought into the form of moved spikes, once.
            if not len(self._moved):
                self._moved = np.concatenate([np.zeros(0, np.int64), *self._groups.values()])
                self._moved_to = np.repeat(list(self._groups), [len(group) for group in self._groups.values()])
                order = np.argsort(self._moved, kind="stable")
                self._moved, self._moved_to = self._moved[order], self._moved_to[order].astype(np.int64)
                if (shared := self._moved[:-1][self._moved[1:] == self._moved[:-1]]).size:
                    spike = int(shared[0])
                    self._moved = self._moved_to = np.zeros(0, np.int64)
                    message = f"spikes_per_cluster: spike {spike} is in more than one cluster: none to move it from"
                    raise ArgumentError(message, name="spikes_per_cluster", got=spike, expected="each spike once")
            owners, is_there = np.zeros(len(spikes), np.int64), np.zeros(len(spikes), dtype=bool)
        else:
            n = len(self._clusters)
            outside = spikes[(spikes < 0) | (spikes >= n)]
            if len(outside):
                message = f"spike_ids: there is no spike {outside[0]}; spikes are 0 to {n - 1}"
                raise IndexRangeError(message, index=int(outside[0]), size=n, position=())
            owners, is_there = self._clusters[spikes].astype(np.int64), np.ones(len(spikes), dtype=bool)
        if len(self._moved):
            places = np.minimum(np.searchsorted(self._moved, spikes), len(self._moved) - 1)
            hits = self._moved[places] == spikes
            owners[hits] = self._moved_to[places[hits]]
            is_there |= hits
        return owners, is_there

    def _now(self) -> dict[int, Ints]:
        """Return the spikes of each cluster as it is now."""
        with self._lock:
            self._look()
            return self._groups

    def _found(self, wanted: list[int], *, as_given: bool = False) -> dict[int, AnyArray]:
        """Return the spikes of the clusters that there are."""
        if self._function is None:
            groups = self._now()
            return {cluster: groups[cluster] for cluster in wanted if cluster in groups}
        found: dict[int, AnyArray] = {}
        for cluster in wanted:
            try:
                given = self._function(cluster)
            except LookupError:
                continue
            if given is not None and len(given):
                found[cluster] = _checked(cluster, given) if as_given else _spikes(cluster, given)
        return found

    def _filters(self, subset_chunks: bool, subset_spikes: npt.ArrayLike | None) -> Callable[[AnyArray], AnyArray]:
        """Return what takes the spikes of a cluster to those of them that are in question."""
        if subset_chunks and (self._times is None or self._chunks is None):
            message = (
                "subset_chunks: got True, but this Selector was made without spike_times and chunk_bounds; give both"
            )
            raise ArgumentError(message, name="subset_chunks", got=True, expected="a Selector with times and chunks")
        subset = None if subset_spikes is None else subsets.merged([id_array("subset_spikes", subset_spikes)])

        def filtered(spikes: AnyArray) -> AnyArray:
            if subset_chunks:
                times = np.asarray(self._times[spikes])
                # Kept chunks follow each other: a time between a start and a stop has an odd number of bounds below it.
                spikes = spikes[np.searchsorted(self.chunks_kept, times, side="right") % 2 == 1]
            return spikes if subset is None else subsets.merged([subsets.among(spikes, subset)])

        return filtered

    def _generator(self, cluster: int) -> np.random.Generator:
        """Return what draws the spikes of a cluster."""
        if isinstance(self._seed, np.random.Generator):
            return self._seed
        if self._seed is None:
            return np.random.default_rng()
        # Whole numbers of either sign to those of a seed, which are not negative.
        return np.random.default_rng([*self._seed, 2 * cluster if cluster >= 0 else -2 * cluster - 1])


def _is_wide(groups: dict[int, Ints], ids: AnyArray) -> bool:
    """Whether there are clusters that int64 does not hold; those of the groups rise."""
    return max(next(reversed(groups), 0), int(ids.max(initial=0))) >= 2**63


def _can_change(array: Any) -> bool:
    """Whether someone may write to an array, or to what it is a view of."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return True
        array = array.base
    return array is not None


def _stamp(path: Path) -> Stamp | None:
    """Return what tells a file from another at its place or another state of it, None if it is gone."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _differing(before: AnyArray, now: AnyArray) -> Ints:
    """Return where two lists differ."""
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(before), COMPARED):
        stretch = slice(start, start + COMPARED)
        found.append(np.flatnonzero(before[stretch] != now[stretch]) + start)
    return np.concatenate(found)


def _limited(
    spikes: AnyArray,
    limit: int | None,
    batch: int | None,
    random: Callable[[int], np.random.Generator | None],
    cluster: int,
) -> AnyArray:
    """Return at most so many of the spikes of a cluster."""
    if not limit or len(spikes) <= limit:
        return spikes
    rng = random(cluster)
    if batch is not None and len(spikes) > batch:
        return subsets.batches(spikes, limit, batch, rng)
    return subsets.regular_subset(spikes, limit) if rng is None else subsets.random_subset(spikes, limit, rng)


def _checked(cluster: int, given: npt.ArrayLike) -> AnyArray:
    """Return the spikes of a cluster as an array."""
    spikes = np.asarray(given)
    if spikes.ndim == 1 and spikes.dtype.kind in "iu":
        return spikes
    if spikes.size == 0:
        return np.zeros(0, np.int64)
    message = (
        f"spikes_per_cluster: cluster {cluster} has spikes of dtype {spikes.dtype} and shape {spikes.shape}; "
        f"expected one dimension of integers"
    )
    if spikes.ndim != 1:
        raise ShapeError(message, name="spikes_per_cluster", got=spikes.shape, expected="(n,)")
    raise DTypeError(message, name="spikes_per_cluster", got=str(spikes.dtype), supported="integers")


def _spikes(cluster: int, given: npt.ArrayLike) -> Ints:
    """Return the spikes of a cluster, rising, each once."""
    return subsets.merged([_checked(cluster, given)])


def _kept_chunks(chunk_bounds: npt.ArrayLike | None, n_chunks_kept: int | None) -> AnyArray | None:
    """Return starts and stops of some of the chunks, evenly spread."""
    kept = None if n_chunks_kept is None else _checks.positive_int("n_chunks_kept", n_chunks_kept)
    if chunk_bounds is None:
        return None
    bounds = np.asarray(chunk_bounds)
    if bounds.ndim != 1 or len(bounds) < 2 or (np.diff(bounds) < 0).any():
        message = f"chunk_bounds: got shape {bounds.shape}, expected two or more rising bounds in one dimension"
        raise ShapeError(message, name="chunk_bounds", got=bounds.shape, expected="(n_chunks + 1,)")
    n = len(bounds) - 1
    first = np.arange(0, n, 1 if kept is None else -(-n // kept))
    return np.stack([bounds[first], bounds[first + 1]], axis=1).ravel()


def _checked_seed(seed: Seed) -> tuple[int, ...] | np.random.Generator | None:
    """Return a seed as whole numbers, or what draws."""
    if seed is None or isinstance(seed, np.random.Generator):
        return seed
    try:
        numbers = tuple(_checks.integer("seed", number) for number in np.atleast_1d(np.asarray(seed, dtype=object)))
    except ArgumentError:
        numbers = (-1,)
    if not numbers or min(numbers) < 0:
        message = f"seed: got {seed!r}, expected a whole number of 0 or more, a list of such, a Generator or None"
        raise ArgumentError(message, name="seed", got=seed, expected="int >= 0, list, Generator or None")
    return numbers


def select_spikes(
    cluster_ids: npt.ArrayLike,
    max_n_spikes_per_cluster: int | None = None,
    spikes_per_cluster: Callable[[int], npt.ArrayLike] | Mapping[int, npt.ArrayLike] | SourceLike = None,
    *,
    subset: Subset = "regular",
    batch: int | None = None,
    subset_spikes: npt.ArrayLike | None = None,
    shrink: bool = True,
    strict: bool = False,
    seed: Seed = None,
) -> Ints:
    """Select spikes of some clusters, once.

    For more than one selection of the same spikes make a `Selector`.

    Parameters
    ----------
    cluster_ids : array-like of integers
        The clusters, in any order.
    max_n_spikes_per_cluster : int, optional
        How many spikes to take of each cluster at most; None or 0 takes all.
    spikes_per_cluster : callable, mapping or (n_spikes,) array-like of integers
        As for `Selector`.
    subset : {'regular', 'random'}
        Which ones: evenly spread and the same each time, or at random.
    batch : int, optional
        Take batches of so many spikes that follow each other.
    subset_spikes : array-like of integers, optional
        Take only these spikes.
    shrink : bool
        Lower the limit as the number of clusters grows, by phy's rule.
    strict : bool
        Whether a cluster without spikes is an error.
    seed : int, list of int or numpy.random.Generator, optional
        Of random subsets.

    Returns
    -------
    spikes : (n_selected,) ndarray of int64
        Rising, each once; empty for no clusters.

    Raises
    ------
    SelectionError
        If a cluster is not there, under `strict`.
    ArgumentError, ShapeError, DTypeError
        As `Selector` and `Selector.select_spikes`.

    References
    ----------
    .. [1] phy ``select_spikes`` (behaviour).

    Examples
    --------
    >>> from megalith.select import select_spikes
    >>> select_spikes([3, 5], 2, [3, 5, 3, 5, 3], shrink=False)
    array([0, 1, 3, 4])
    """
    found = Selector(spikes_per_cluster, seed=seed).select_spikes(
        cluster_ids,
        max_n_spikes_per_cluster,
        subset=subset,
        batch=batch,
        subset_spikes=subset_spikes,
        shrink=shrink,
        strict=strict,
    )
    return np.zeros(0, np.int64) if found is None else found

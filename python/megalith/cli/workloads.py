"""What the kernels are timed on: each workload with the ways that others do it, and how much faster ours has to be.

A workload is made anew for each size, so that no two are in memory at once. Ways that need a package that is not
installed are left out.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import os
import statistics
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import megalith
from megalith import _core
from megalith.exceptions import MegalithError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    from megalith._typing import AnyArray

    Way = Callable[[], Any]

# Elements of a volume of a large workload, by its longest axis.
LARGE = 1 << 27

# Seconds before each way: threads of others go on spinning for some milliseconds after their work.
REST = 0.02

# Seconds of a way that is called once more and timed then: cores that rested are slow for some milliseconds.
BRIEF = 0.1

# Taps of the smoothing kernels.
TAPS = (3, 11, 31)


@dataclass(frozen=True)
class Workload:
    """A kernel on some data.

    Parameters
    ----------
    name : str
        The kernel, the data, and where the result goes.
    nbytes : int
        Bytes that are read and written at least.
    ours : callable
        Our way; its result is compared with each other's.
    peers : dict of str to callable
        The ways of others.
    floors : dict of str to float
        How many times faster ours has to be.
    essential : bool
        Whether ``megalith bench`` runs it.
    is_rounded : bool
        Whether ours may differ from the others' by the roundings of single precision, integers by one.
    """

    name: str
    nbytes: int
    ours: Way
    peers: dict[str, Way]
    floors: dict[str, float] = field(default_factory=dict)
    essential: bool = False
    is_rounded: bool = False


@dataclass(frozen=True)
class Measured:
    """How long the ways of a workload take, in seconds."""

    workload: Workload
    seconds: float
    peers: dict[str, float]

    @property
    def gb_per_s(self) -> float:
        """Bytes read and written in a second, by ours."""
        return self.workload.nbytes / self.seconds / 1e9


class UnequalError(MegalithError):
    """Two ways of a workload gave different results."""


def measure(workload: Workload, repeat: int) -> Measured:
    """Time all ways of a workload, one after the other in each round; medians.

    Parameters
    ----------
    workload : Workload
        Each way is run once before all are timed, and a way of less than `BRIEF` seconds once more each time.
    repeat : int
        Rounds.

    Returns
    -------
    measured : Measured
        The medians.

    Raises
    ------
    UnequalError
        If the results are not the same.
    """
    result = workload.ours()
    for name, way in workload.peers.items():
        if not same(result, way(), workload.is_rounded):
            raise UnequalError(f"{workload.name}: the result is not that of {name}")
    del result
    ways = {"": workload.ours, **workload.peers}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeat):
        for name, way in ways.items():
            time.sleep(REST)
            seconds = _seconds(way)
            times[name].append(_seconds(way) if seconds < BRIEF else seconds)
    medians = {name: statistics.median(found) for name, found in times.items()}
    return Measured(workload, medians.pop(""), medians)


def _seconds(way: Way) -> float:
    """Time a way; a short one many times over, the shortest of some such."""
    start = time.perf_counter()
    way()
    first = time.perf_counter() - start
    if first > 1e-3:
        return first
    number = int(1e-3 / max(first, 1e-7)) + 1
    best = first
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(number):
            way()
        best = min(best, (time.perf_counter() - start) / number)
    return best


def same(ours: Any, theirs: Any, is_rounded: bool = False) -> bool:
    """Whether two results hold the same, or nearly; None is no result to be compared."""
    if ours is None or theirs is None:
        return True
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in ours)
    theirs = np.asarray(theirs)
    if is_rounded:
        tolerance = 1.0 if theirs.dtype.kind in "iu" else 1e-5
        return ours.shape == theirs.shape and bool(np.allclose(ours, theirs, rtol=1e-5, atol=tolerance))
    if theirs.dtype.kind == "f" and theirs.dtype != ours.dtype:
        return bool(np.allclose(ours, theirs, rtol=1e-5))
    return ours.shape == theirs.shape and bool(np.array_equal(ours, theirs))


def bandwidth(threads: int, nbytes: int = 1 << 29) -> dict[str, float]:
    """Measure what memory gives to so many threads.

    Parameters
    ----------
    threads : int
        The threads.
    nbytes : int
        Bytes of the array; more than the caches hold.

    Returns
    -------
    gb_per_s : dict
        ``read``, ``write`` of memory that is in use, and ``fresh`` for memory that was never written: the best of some.
        ``cached`` is what `adding` says of the cores.
    """
    words = np.ones(nbytes // 8, np.uint64)
    return {
        "read": reading(words, threads),
        "write": _best(nbytes, lambda: _core.probe_write(words, 1, threads)),
        "fresh": _best(nbytes, lambda: _core.probe_write(np.empty(nbytes // 8, np.uint64), 1, threads), 3),
        "cached": adding(threads),
    }


def reading(words: npt.NDArray[np.uint64], threads: int) -> float:
    """Measure what memory gives to so many threads that read.

    Parameters
    ----------
    words : ndarray
        More than the caches hold.
    threads : int
        The threads.

    Returns
    -------
    gb_per_s : float
        The best of some.
    """
    return _best(words.nbytes, lambda: _core.probe_read(words, threads))


def _best(nbytes: int, way: Way, repeat: int = 5) -> float:
    return nbytes / min(_seconds(way) for _ in range(repeat)) / 1e9


def adding(threads: int) -> float:
    """Measure how fast the cores are just now: numbers that stay in their caches, added by NumPy.

    Parameters
    ----------
    threads : int
        The threads; each adds up an array of its own. As those of the kernels do, they keep to a processor each where
        there are as many: left free, two of them may share one for some ten milliseconds.

    Returns
    -------
    gb_per_s : float
        What all of them read in a second.
    """
    passes = [np.broadcast_to(np.ones(1 << 14), (400, 1 << 14)) for _ in range(threads)]
    processors = deque(os.sched_getaffinity(0) if sys.platform == "linux" else ())

    def settle() -> None:
        # Where the system does not let us, threads stay free.
        with contextlib.suppress(OSError):
            if sys.platform == "linux":
                os.sched_setaffinity(0, {processors.popleft()})

    time.sleep(REST)
    with ThreadPoolExecutor(threads, initializer=settle if len(processors) == threads else None) as pool:
        return _best(sum(array.nbytes for array in passes), lambda: list(pool.map(np.sum, passes)), 10)


def kernels(elements: int = LARGE, threads: int | None = None) -> Iterator[Workload]:
    """Make the workloads of the kernels one by one.

    Parameters
    ----------
    elements : int
        Elements of the largest array; others are in proportion.
    threads : int, optional
        Upper bound on our threads.

    Yields
    ------
    workload : Workload
        One for each kind of data.
    """
    for family in (_positions, _tables, _correlations, _rules, _sums, _pairs, _groups):
        yield from family(elements, threads)


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def _with(package: str, make: Callable[[Any], dict[str, Way]]) -> dict[str, Way]:
    """Return what `make` makes of a package, nothing where that is not installed."""
    return make(importlib.import_module(package)) if importlib.util.find_spec(package) else {}


def _cube(elements: int) -> tuple[int, int, int]:
    """Return a shape of about so many elements, with rows that are no multiple of anything."""
    side = max(round((elements / 2) ** (1 / 3)), 1)
    return side, side, max(elements // (side * side), 1)


def _positions(elements: int, threads: int | None) -> Iterator[Workload]:
    compiled = _with("numba", lambda _: {"numba, two passes": numba_where()})
    for dtype in (np.uint8, np.uint16, np.float32, np.bool_):
        for density, percent in ((0.001, "0.1 %"), (0.1, "10 %"), (0.5, "50 %")):
            shape = _cube(elements)
            chosen = _random().random(shape, dtype=np.float32) < density
            volume: AnyArray = chosen.astype(dtype)
            flat = volume.reshape(-1)
            n = int(np.count_nonzero(chosen))
            name = f"{volume.dtype}, {percent}"
            if dtype == np.bool_:
                line = {"0.1 %": 1.8, "10 %": 3.0, "50 %": 1.8}[percent]
            else:
                line = 25.0 if dtype == np.uint8 and density == 0.001 else 12.0
            table = 40.0 if dtype == np.uint8 and density == 0.001 else 18.0
            peers: dict[str, Way] = {"numpy.flatnonzero": lambda a=flat: np.flatnonzero(a)}  # type: ignore[misc]
            peers |= {key: (lambda f=f, a=flat: f(a)) for key, f in compiled.items()}  # type: ignore[misc]
            floors = {"numpy.flatnonzero": line, "numba, two passes": 2.0}
            essential = dtype == np.uint8 and density == 0.1
            yield Workload(
                f"where 1-d {name}",
                flat.nbytes + 8 * n,
                lambda a=flat: megalith.where(a, processes=threads),  # type: ignore[misc]
                peers,
                floors,
                essential,
            )
            yield Workload(
                f"where 3-d {name}",
                flat.nbytes + 24 * n,
                lambda a=volume: megalith.where(a, processes=threads),  # type: ignore[misc]
                {"numpy.argwhere": lambda a=volume: np.argwhere(a)},  # type: ignore[misc]
                {"numpy.argwhere": table},
                essential,
            )


def numba_where() -> Way:
    """Return `numpy.flatnonzero` as Numba's users write it: counted in parallel, then written in parallel."""
    numba = importlib.import_module("numba")

    def count_and_write(values: AnyArray) -> AnyArray:
        parts = 16
        step = (values.size + parts - 1) // parts
        starts = np.zeros(parts + 1, np.int64)
        for part in numba.prange(parts):
            n = 0
            for i in range(part * step, min((part + 1) * step, values.size)):
                n += values[i] != 0
            starts[part + 1] = n
        for part in range(parts):
            starts[part + 1] += starts[part]
        found = np.empty(starts[parts], np.int64)
        for part in numba.prange(parts):
            k = starts[part]
            for i in range(part * step, min((part + 1) * step, values.size)):
                if values[i] != 0:
                    found[k] = i
                    k += 1
        return found

    compiled: Way = numba.njit(parallel=True)(count_and_write)
    return compiled


def _tables(elements: int, threads: int | None) -> Iterator[Workload]:
    random = _random()
    runs = np.repeat(random.integers(0, 10**6, elements // 120 + 1, dtype=np.int32), 30)[: elements // 4]
    cases: tuple[tuple[AnyArray, int, type, str, float, float], ...] = (
        (random.integers(0, 256, elements, dtype=np.uint8), 256, np.uint8, "", 25.0, 10.0),
        (random.integers(0, 256, elements, dtype=np.uint8), 256, np.float32, "", 10.0, 3.5),
        (random.integers(0, 1 << 16, elements // 2, dtype=np.uint16), 1 << 16, np.uint16, "", 5.0, 5.0),
        (random.integers(0, 10**6, elements // 4, dtype=np.int32), 10**6, np.int32, ", random", 4.0, 4.0),
        (runs, 10**6, np.int32, ", runs of 30", 8.0, 8.0),
    )
    for source, size, dtype, note, warm_floor, fresh_floor in cases:
        lut: AnyArray = random.integers(0, 200, size).astype(dtype)
        warm: AnyArray = np.empty(source.shape, dtype)
        other: AnyArray = np.empty(source.shape, dtype)
        name = f"apply_lut {source.dtype} -> {lut.dtype}{note}"
        nbytes = source.nbytes + warm.nbytes
        peers: dict[str, Way] = {"numpy: lut[a]": lambda s=source, t=lut: t[s]}  # type: ignore[misc]
        floors = {"numpy: lut[a]": warm_floor, "cv2.LUT": 2.0}
        if source.dtype == lut.dtype == np.uint8:

            def opencv(cv2: Any, s: AnyArray = source, t: AnyArray = lut, out: AnyArray = other) -> dict[str, Way]:
                return {"cv2.LUT": lambda: cv2.LUT(s.reshape(1, -1), t, dst=out.reshape(1, -1)).reshape(-1)}

            peers |= _with("cv2", opencv)
        yield Workload(
            f"{name}, warm",
            nbytes,
            lambda s=source, t=lut, o=warm: megalith.apply_lut(s, t, o, processes=threads),  # type: ignore[misc]
            peers,
            floors,
            essential=dtype in (np.uint8, np.uint16),
        )
        yield Workload(
            f"{name}, fresh",
            nbytes,
            lambda s=source, t=lut: megalith.apply_lut(s, t, processes=threads),  # type: ignore[misc]
            {"numpy: lut[a]": peers["numpy: lut[a]"]},
            {"numpy: lut[a]": fresh_floor},
        )


def _correlations(elements: int, threads: int | None) -> Iterator[Workload]:
    ndimage = importlib.import_module("scipy.ndimage")
    floors = {np.float32: (6.0, 8.0, 11.0), np.float64: (4.5, 6.5, 9.0), np.uint16: (8.0, 9.0, 11.0)}
    side = max((elements / LARGE) ** (1 / 3), 0.005)
    shape = (max(round(200 * side), 1), max(round(400 * side), 1), max(round(500 * side), 1))
    # Rows of a power of two of bytes crowd the cache.
    by_dtype = {dtype: tuple(zip(TAPS, by_taps, strict=True)) for dtype, by_taps in floors.items()}
    cases = [(dtype, shape, by_taps, False, "") for dtype, by_taps in by_dtype.items()]
    cases += [(dtype, shape, by_dtype[dtype][1:], True, ", fast") for dtype in (np.float32, np.uint16)]
    if elements >= LARGE:
        crowded = (*shape[:2], 512)
        cases += [(dtype, crowded, by_taps[-1:], False, ", 512 wide") for dtype, by_taps in by_dtype.items()]
    for dtype, shape, by_taps, fast, note in cases:
        volume: AnyArray = (_random().random(shape) * 1000).astype(dtype)
        # Into fresh results, and where OpenCV is the peer into sinks of both as well.
        sinks: list[tuple[AnyArray | None, AnyArray | None, str]] = [(None, None, note)]
        if dtype == np.float32 and not fast:
            sinks += [(np.empty_like(volume), np.empty_like(volume), f"{note}, warm")]
        for (taps, floor), axis, (ours, theirs, more) in itertools.product(by_taps, range(3), sinks):
            weights = np.hanning(taps + 2)[1:-1]
            weights /= weights.sum()
            peers: dict[str, Way] = {
                "scipy.ndimage": lambda v=volume, k=weights, a=axis, o=theirs: ndimage.correlate1d(  # type: ignore[misc]
                    v, k, axis=a, output=o, mode="constant"
                )
            }
            if dtype == np.float32:

                def opencv(
                    cv2: Any, v: AnyArray = volume, k: AnyArray = weights, a: int = axis, o: AnyArray | None = theirs
                ) -> dict[str, Way]:
                    along, one = k.astype(np.float32), np.ones(1, np.float32)
                    pair = (along, one) if a == 2 else (one, along)
                    plane = v.shape if a == 1 else (1, -1, v.shape[2]) if a == 2 else (1, len(v), -1)
                    images = v.reshape(plane)
                    places = [None] * len(images) if o is None else o.reshape(plane)

                    def filtered() -> None:
                        # All images are there at once, as our result is.
                        done = [
                            cv2.sepFilter2D(image, -1, *pair, dst=place, borderType=cv2.BORDER_CONSTANT)
                            for image, place in zip(images, places, strict=True)
                        ]
                        del done

                    return {"cv2.sepFilter2D": filtered}

                peers |= _with("cv2", opencv)
            yield Workload(
                f"correlate1d {volume.dtype}, {taps} taps, axis {axis}{more}",
                2 * volume.nbytes,
                lambda v=volume, k=weights, a=axis, o=ours, f=fast: megalith.correlate1d(  # type: ignore[misc]
                    v, k, o, axis=a, dtype=v.dtype if o is None else None, processes=threads, fast=f
                ),
                peers,
                {"scipy.ndimage": floor, "cv2.sepFilter2D": 1.5},
                essential=dtype == np.float32 and taps == 11 and not fast and ours is None,
                is_rounded=fast,
            )


def _rules(elements: int, threads: int | None) -> Iterator[Workload]:
    ndimage = importlib.import_module("scipy.ndimage")
    shape = _cube(elements // 4)
    noise: AnyArray = _random().random(shape, dtype=np.float32)
    blobs: AnyArray = ndimage.gaussian_filter(noise, 3) > 0.5
    yield from rules((("blobs", blobs, 60.0), ("random 50 %", noise < 0.5, 20.0)), threads)


def rules(masks: Iterable[tuple[str, AnyArray, float]], threads: int | None) -> Iterator[Workload]:
    """Make the workloads of local rules of masks.

    Parameters
    ----------
    masks : iterable of tuple
        What a mask is called, its truth values in three dimensions, and how many times faster than SciPy a table of
        all patterns of 3 x 3 x 3 has to be.
    threads : int or None
        Upper bound on our threads.

    Yields
    ------
    workload : Workload
        One for each mask and kernel.
    """
    ndimage = importlib.import_module("scipy.ndimage")
    powers = 2 ** np.arange(27).reshape(3, 3, 3)
    lut = _random().random(1 << 27, dtype=np.float32) < 0.5
    weights = _random().permutation(np.arange(-13, 14)).reshape(3, 3, 3) * 1000 + 500_000
    small = 2 ** np.arange(8).reshape(2, 2, 2)
    for name, mask, least in masks:
        for kernel, table, what, floor in (
            (powers, lut, "3 x 3 x 3", least),
            (weights, lut, "any 3 x 3 x 3", 0.0),
            (small, lut[:256].copy(), "2 x 2 x 2", 100.0),
        ):
            yield Workload(
                f"apply_lut_to_index {what}, {name}",
                2 * mask.nbytes,
                lambda m=mask, k=kernel, t=table: megalith.apply_lut_to_index(  # type: ignore[misc]
                    m, k, t, processes=threads
                ),
                {
                    "scipy.ndimage, take": lambda m=mask, k=kernel, t=table: t.take(  # type: ignore[misc]
                        ndimage.correlate(m.view(np.uint8), k, np.int64, "constant")
                    )
                },
                {"scipy.ndimage, take": floor} if floor else {},
                essential=what == "3 x 3 x 3",
            )


def _sums(elements: int, threads: int | None) -> Iterator[Workload]:
    floors = {np.uint8: 12.0, np.uint16: 7.0, np.int32: 5.0, np.float32: 5.0, np.float64: 2.5}
    for dtype, floor in floors.items():
        values: AnyArray = (_random().random(elements // 2, dtype=np.float32) * 200).astype(dtype)
        starts = megalith.block_ranges(values, min(20, values.size))[:-1]
        total = np.uint64 if values.dtype.kind == "u" else np.int64 if values.dtype.kind == "i" else np.float64
        yield Workload(
            f"block_sums {values.dtype}",
            values.nbytes,
            lambda v=values: megalith.block_sums(v, 20, threads),  # type: ignore[misc]
            {
                "numpy.add.reduceat": lambda v=values, s=starts, t=total: np.add.reduceat(v, s, dtype=t),  # type: ignore[misc]
                "numpy: a.sum()": lambda v=values: none(v.sum()),  # type: ignore[misc]
            },
            {"numpy.add.reduceat": floor, "numpy: a.sum()": floor},
            essential=dtype in (np.uint8, np.float32),
        )
        yield Workload(
            f"block_counts {values.dtype}",
            values.nbytes,
            lambda v=values: megalith.block_counts(v, 1, threads),  # type: ignore[misc]
            {"numpy.count_nonzero": lambda v=values: np.array([np.count_nonzero(v)])},  # type: ignore[misc]
        )


def searched_pairs(indices: AnyArray, offset: int) -> AnyArray:
    """Find pairs of a sorted list as NumPy's users do: by bisection."""
    j = np.searchsorted(indices, indices + offset)
    j[j == len(indices)] = 0
    i = np.flatnonzero(indices[j] == indices + offset)
    return np.stack([i, j[i]], axis=1)


def none(_: Any) -> None:
    """Take a result for one that is not compared."""


def _pairs(elements: int, threads: int | None) -> Iterator[Workload]:
    n = max(elements // 13, 2)  # Ten millions of the largest.
    for density in (0.5, 0.05):
        chosen = _random().random(int(n / density), dtype=np.float32) < density
        indices = np.flatnonzero(chosen)
        for offset in (1, 1000, 1_000_000):
            yield Workload(
                f"neighbours, {density:.0%} of the span, offset {offset:,}",
                indices.nbytes,
                lambda a=indices, o=offset: megalith.neighbours(a, o, threads),  # type: ignore[misc]
                {
                    "numpy.searchsorted": lambda a=indices, o=offset: none(np.searchsorted(a, a + o)),  # type: ignore[misc]
                    "numpy.searchsorted, pairs": lambda a=indices, o=offset: searched_pairs(a, o),  # type: ignore[misc]
                },
                {"numpy.searchsorted": 30.0},
                essential=offset == 1000,
            )


def _groups(elements: int, threads: int | None) -> Iterator[Workload]:
    n, clusters = max(elements * 3 // 8, 1), 500  # Five times ten millions of the largest.
    random = _random()
    values = random.random(n)
    for ids, what, floor in (
        (random.integers(0, clusters, n, dtype=np.int32), "random", 60.0),
        (np.repeat(random.integers(0, clusters, n // 16 + 1, dtype=np.int32), 16)[:n], "runs of 16", 22.0),
    ):
        yield Workload(
            f"spikes_per_cluster, {what}",
            ids.nbytes + 8 * ids.size,
            lambda i=ids: none(megalith.select.spikes_per_cluster(i, processes=threads)),  # type: ignore[misc]
            {"numpy.argsort(stable)": lambda i=ids: none(np.argsort(i, kind="stable"))},  # type: ignore[misc]
            {"numpy.argsort(stable)": floor},
            essential=what == "random",
        )
        yield Workload(
            f"grouped_mean, {what}",
            ids.nbytes + values.nbytes,
            lambda i=ids: none(megalith.select.grouped_mean(values, i, processes=threads)),  # type: ignore[misc]
            {
                "numpy.bincount, twice": lambda i=ids: none(  # type: ignore[misc]
                    np.bincount(i, values, clusters) / np.bincount(i, minlength=clusters).clip(1)
                )
            },
            {"numpy.bincount, twice": 12.0},
        )

"""``megalith demo``: the main job on a volume, step by step against NumPy and SciPy.

Smooth along each axis, threshold, find the voxels and the pairs of neighbours among them, share the volume with worker
processes, keep a result on disk, sweep a threshold, and classify each voxel by its surroundings. Each step is run by
megalith and by the function people use today, on the same data; both are timed and their results compared.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import megalith
from megalith._checks import positive_int
from megalith._optional import require
from megalith.cli.workloads import searched_pairs
from megalith.exceptions import DTypeError, ShapeError
from megalith.mock import artificial_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from megalith._typing import AnyArray

# Each way of a step is run three times, the median counts; after this many seconds it is not run again.
REPEAT, ENOUGH_S = 3, 5.0

# The volume that is made if none is given.
SHAPE = (160, 192, 192)

# Processes that share a volume.
WORKERS = 2

# Points of the sweep: thresholds, and parts of the volume.
LEVELS, PARTS = 6, 4

SMOOTHING = np.array([1.0, 6.0, 15.0, 20.0, 15.0, 6.0, 1.0]) / 64.0


@dataclass
class Step:
    """A row of the table."""

    name: str
    seconds: float
    gb_per_s: float
    peer: str | None
    speedup: float | None
    equal: bool | None


class Job:
    """Runs steps and collects their rows.

    Parameters
    ----------
    repeat : int or None
        Times each step is run; None for up to three times, as long as they are short.
    """

    def __init__(self, repeat: int | None) -> None:
        self.repeat = repeat
        self.steps: list[Step] = []

    def run(
        self, name: str, ours: Callable[[], AnyArray], peer: str, theirs: Callable[[], AnyArray], nbytes: int
    ) -> Any:
        """Run a step both ways.

        Parameters
        ----------
        name : str
            What is done.
        ours, theirs : callable
            The two ways of doing it.
        peer : str
            Whose way the other is.
        nbytes : int
            Bytes read.

        Returns
        -------
        result : numpy.ndarray
            Ours.
        """
        result, seconds = _timed(ours, self.repeat)
        expected, peer_seconds = _timed(theirs, self.repeat)
        equal = result.dtype == expected.dtype and np.array_equal(result, expected)
        rate = (nbytes + result.nbytes) / seconds / 1e9
        step = Step(name, seconds, rate, peer, peer_seconds / seconds, equal)
        self.steps.append(step)
        _say(f"{name:<34}{_time(seconds):>10}{rate:>9.2f}  {step.speedup:>7.1f}x  {'yes' if equal else 'NO':<6}{peer}")
        return result


def _timed(f: Callable[[], AnyArray], repeat: int | None) -> tuple[AnyArray, float]:
    times: list[float] = []
    while True:
        start = time.perf_counter()
        result = f()
        times.append(time.perf_counter() - start)
        if len(times) == (repeat or REPEAT) or (repeat is None and sum(times) > ENOUGH_S):
            return result, statistics.median(times)
        del result  # Given back before the next is made.


def _time(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def _say(line: str) -> None:
    print(line, flush=True)


def _volume(path: Path | None, job: Job, processes: int | None) -> AnyArray:
    if path is None:
        made: AnyArray = artificial_volume(SHAPE, seed=0)
        return made
    source = megalith.arrays.as_source(path)
    if source.ndim != 3 or source.size == 0:
        message = f"--input: {path} has shape {source.shape}, expected three axes of length 1 or more"
        raise ShapeError(message, name="--input", got=source.shape, expected="(nz, ny, nx)")
    if source.dtype.kind not in "biuf" or source.dtype.itemsize > 8:
        message = f"--input: {path} has dtype {source.dtype}, expected numbers"
        raise DTypeError(message, name="--input", got=str(source.dtype), supported="integers and floats")
    volume: AnyArray = job.run(
        "read",
        lambda: megalith.read(path, processes=processes).array,
        "numpy.load",
        lambda: np.load(path),
        source.nbytes,
    )
    if volume.dtype in (np.uint8, np.uint16):
        return volume
    finite = np.nan_to_num(volume.astype(np.float32))
    span = float(finite.max() - finite.min()) or 1.0
    scaled: npt.NDArray[np.uint8] = ((finite - finite.min()) * (255 / span)).astype(np.uint8)
    return scaled


def surroundings() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Make the kernel that numbers the patterns of a 3 x 3 x 3 mask, and the class of each pattern.

    Returns
    -------
    kernel : (3, 3, 3) ndarray of int64
        Powers of two: a sum is the number of a pattern.
    classes : (2 ** 27,) ndarray of uint8
        0 for background; for a voxel 1 plus the number of its neighbours, of 26.
    """
    kernel = 2 ** np.arange(27, dtype=np.int64).reshape(3, 3, 3)
    classes = np.empty(1 << 27, dtype=np.uint8)
    centre = np.uint32(1 << 13)
    step = 1 << 20
    for start in range(0, 1 << 27, step):
        patterns = np.arange(start, start + step, dtype=np.uint32)
        classes[start : start + step] = np.where(patterns & centre, np.bitwise_count(patterns), 0)
    return kernel, classes


def demo(
    path: Path | None, to_json: Path | None, report: Path | None, processes: int | None, repeat: int | None
) -> int:
    """Run the job and print its table.

    Parameters
    ----------
    path : pathlib.Path or None
        A ``.npy`` volume of three dimensions; one is made if None.
    to_json : pathlib.Path or None
        Where to write the table for programs.
    report : pathlib.Path or None
        Where to write the table with pictures.
    processes : int or None
        Number of threads.
    repeat : int or None
        Times each step is run.

    Returns
    -------
    status : int
        0 if every result was equal to its peer's.
    """
    ndimage = require("scipy.ndimage", "demo")
    if repeat is not None:
        positive_int("--repeat", repeat)
    job = Job(repeat)
    with megalith.threads(processes):
        threads = megalith.initialize_processing()[0]
        scipy = require("scipy", "demo").__version__
        _say(f"megalith {megalith.__version__}, {threads} threads; NumPy {np.__version__}, SciPy {scipy}")
        _say(f"{'step':<34}{'time':>10}{'GB/s':>9}  {'speedup':>8}  {'equal':<6}peer")
        volume = _volume(path, job, processes)
        smooth: AnyArray = volume
        for axis in range(3):
            dtype = volume.dtype if axis == 2 else np.dtype(np.float32)
            smooth = _smooth(job, ndimage, smooth, axis, dtype)
        threshold = _threshold(job, smooth)
        mask = _mask(job, smooth, threshold)
        voxels = job.run(
            "voxels", lambda: megalith.where(mask), "numpy.argwhere", lambda: np.argwhere(mask), mask.nbytes
        )
        pairs = _neighbours(job, mask)
        _share(job, smooth)
        _keep(job, smooth)
        _sweep(job, smooth, threshold)
        classes = _classify(job, ndimage, mask)
        _say(f"{volume.shape} {volume.dtype}: threshold {threshold}, {len(voxels):,} voxels, {pairs:,} neighbour pairs")
    table = {
        "megalith": megalith.__version__,
        "threads": threads,
        "input": None if path is None else str(path),
        "shape": list(volume.shape),
        "dtype": volume.dtype.name,
        "steps": [asdict(step) for step in job.steps],
    }
    if to_json is not None:
        to_json.write_text(json.dumps(table, indent=2) + "\n")
    if report is not None:
        from megalith.cli.report import write_report

        write_report(report, table, volume, smooth, mask, classes)
    return 0 if all(step.equal for step in job.steps) else 1


def _smooth(job: Job, ndimage: Any, source: AnyArray, axis: int, dtype: np.dtype[Any]) -> AnyArray:
    result: AnyArray = job.run(
        f"smooth along axis {axis}",
        lambda: megalith.correlate1d(source, SMOOTHING, axis=axis, mode="reflect", dtype=dtype),
        "scipy.ndimage.correlate1d",
        lambda: ndimage.correlate1d(source, SMOOTHING, axis=axis, mode="reflect", output=dtype),
        source.nbytes,
    )
    return result


def _threshold(job: Job, smooth: AnyArray) -> int:
    """Return the mean of what is not zero."""
    flat = smooth.reshape(-1)
    starts = megalith.block_ranges(smooth, 64)[:-1]
    sums = job.run(
        "sums of blocks",
        lambda: megalith.block_sums(smooth, 64),
        "numpy.add.reduceat",
        lambda: np.add.reduceat(flat, starts, dtype=np.uint64),
        smooth.nbytes,
    )
    counts = megalith.block_counts(smooth, 64)
    return int(sums.sum() // max(int(counts.sum()), 1))


def _mask(job: Job, smooth: AnyArray, threshold: int) -> AnyArray:
    lut = np.arange(np.iinfo(smooth.dtype).max + 1) > threshold
    result: AnyArray = job.run(
        "threshold", lambda: megalith.apply_lut(smooth, lut), "numpy: lut[volume]", lambda: lut[smooth], smooth.nbytes
    )
    return result


def _neighbours(job: Job, mask: AnyArray) -> int:
    flat = mask.reshape(-1)
    indices = job.run(
        "flat positions", lambda: megalith.where(flat), "numpy.flatnonzero", lambda: np.flatnonzero(flat), flat.nbytes
    )
    total = 0
    for axis in range(3):
        offset = int(np.prod(mask.shape[axis + 1 :]))
        pairs = job.run(
            f"neighbours along axis {axis}",
            lambda offset=offset: megalith.neighbours(indices, offset),  # type: ignore[misc]
            "numpy.searchsorted",
            lambda offset=offset: searched_pairs(indices, offset),  # type: ignore[misc]
            indices.nbytes,
        )
        total += len(pairs)
    return total


def _share(job: Job, volume: AnyArray) -> None:
    """Have worker processes work on one volume: in shared memory, and sent to each."""
    context = multiprocessing.get_context("spawn")
    name = f"megalith-demo-{os.getpid()}"
    with context.Pool(WORKERS) as pool:

        def run(array: AnyArray) -> AnyArray:
            parts = pool.map(_occupied, [(array, part) for part in range(WORKERS)], chunksize=1)
            return np.concatenate(parts)

        def ours() -> AnyArray:
            try:
                return run(megalith.shared.cache(name, volume, verbose=False))
            finally:
                megalith.shared.free(name)

        run(volume[:1])  # The workers have started and imported what they need.
        job.run(f"share with {WORKERS} processes", ours, "multiprocessing: pickled", lambda: run(volume), volume.nbytes)


def _profile(volume: AnyArray) -> AnyArray:
    """Return the mean of each slice."""
    means: AnyArray = volume.mean(axis=(1, 2))
    return means


def _keep(job: Job, volume: AnyArray) -> None:
    """Ask for a result that is on disk: its argument is what takes time, since it has to be the same."""
    import joblib

    with tempfile.TemporaryDirectory(prefix="megalith-demo-") as directory:
        ours = megalith.Context(f"{directory}/megalith").cache(_profile)
        theirs = joblib.Memory(f"{directory}/joblib", verbose=0).cache(_profile)
        for function in (ours, theirs):
            function(volume)
        job.run("cached result", lambda: ours(volume), "joblib.Memory", lambda: theirs(volume), volume.nbytes)


def _sweep(job: Job, volume: AnyArray, threshold: int) -> None:
    """Ask again for all points of a sweep that is done; what takes time is to find out that nothing has changed."""
    import joblib

    parts = range(PARTS)
    levels = [threshold + i for i in range(LEVELS)]

    def count(level: int, part: int) -> int:
        return int(np.count_nonzero(volume[part::PARTS] > level))

    def above(volume: AnyArray, level: int, part: int) -> int:
        return int(np.count_nonzero(volume[part::PARTS] > level))

    with tempfile.TemporaryDirectory(prefix="megalith-demo-") as directory:
        parameters = [megalith.Parameter("level", levels), megalith.Parameter("part", parts)]
        space = megalith.ParameterSpace("demo", parameters, context=megalith.Context(f"{directory}/megalith"))
        kept = joblib.Memory(f"{directory}/joblib", verbose=0).cache(above)

        def ours() -> AnyArray:
            return np.array(list(space.sweep(count).values()))

        def theirs() -> AnyArray:
            return np.array([kept(volume, level, part) for level in levels for part in parts])

        ours()
        theirs()
        job.run(f"sweep of {LEVELS * PARTS} points, again", ours, "joblib.Memory", theirs, volume.nbytes)


def _occupied(task: tuple[AnyArray, int]) -> AnyArray:
    """Count the voxels in use, in this worker's part of the slices."""
    volume, part = task
    slices = np.array_split(volume, WORKERS)[part]
    return np.array([np.count_nonzero(image) for image in slices], dtype=np.int64)


def _classify(job: Job, ndimage: Any, mask: AnyArray) -> AnyArray:
    kernel, classes = surroundings()

    def theirs() -> AnyArray:
        numbers: npt.NDArray[np.int64] = ndimage.correlate(
            mask.view(np.uint8), kernel, output=np.int64, mode="constant"
        )
        return classes.take(numbers)

    result: AnyArray = job.run(
        "classes of surroundings",
        lambda: megalith.apply_lut_to_index(mask, kernel, classes),
        "scipy.ndimage.correlate, take",
        theirs,
        mask.nbytes,
    )
    return result

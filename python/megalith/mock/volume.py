"""A volume as a microscope sees it: tissue in blobs, vessels, and noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith import _checks
from megalith.arrays import correlate1d
from megalith.arrays.sink import Target, sink_dtype
from megalith.arrays.source import is_path
from megalith.exceptions import DTypeError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from megalith._typing import AnyArray, SinkLike

    Plane = npt.NDArray[np.float32]

# Voxels from one point of a lattice to the next: the sizes of blobs, and of the meshes of the net of vessels.
TISSUE, NET = 16, 32

# A vessel is where two smooth fields are both as near to zero as this; wider makes thicker vessels.
THICKNESS = 0.16

# Grey values as shares of white: the brightest tissue, a vessel, and the noise, which is even.
BRIGHT, VESSEL, NOISE = 0.45, 0.5, 0.2

# White, in integers of more than 8 bits: that of a camera with 12.
WHITE = 4095

# The blur of the microscope.
BLUR = np.array([1.0, 2.0, 1.0]) / 4.0

# Bytes of voxels that are made at a time, in single precision.
SLAB_BYTES = 1 << 24


def artificial_volume(
    shape: tuple[int, ...],
    *,
    seed: int | None = None,
    dtype: npt.DTypeLike = np.uint8,
    sink: SinkLike = None,
) -> Any:
    """Make a volume with blobs of tissue, a net of vessels, and noise.

    Parameters
    ----------
    shape : tuple of int
        Lengths of the axes, one to three of them: planes, rows, columns.
    seed : int or None
        Of the random numbers; None for other ones each time.
    dtype : data type
        Type of the voxels, if no sink says otherwise.
    sink : ndarray or path, optional
        Where the volume goes; a path ending in ``.npy`` makes a file that appears when it is complete.

    Returns
    -------
    volume : ndarray
        Grey values without unit, from 0 to white: 1 for floats, the largest value of integers of 8 bits, 4095 of wider
        ones. Background is below a fifth of it; a memmap for a path.

    Raises
    ------
    ShapeError
        If there are more than three axes or none, or the sink has another shape.
    ArgumentError
        If a length is negative or no whole number.
    DTypeError
        If the type is no integer or float.

    Notes
    -----
    Smooth fields are cubic B-splines over lattices of random numbers: blobs are where one is high, vessels the curves
    where two are zero. Made in slabs, so that memory stays under 200 MB beyond the result for planes of up to
    4 megapixels. The same for the same seed and shape; the type changes the rounding alone.

    Examples
    --------
    >>> from megalith.mock import artificial_volume
    >>> volume = artificial_volume((40, 64, 64), seed=0)
    >>> volume.shape, volume.dtype
    ((40, 64, 64), dtype('uint8'))
    """
    lengths = _checks.lengths("shape", shape)
    if not 1 <= len(lengths) <= 3:
        message = f"shape: got {len(lengths)} axes, expected one to three"
        raise ShapeError(message, name="shape", got=lengths, expected="one to three lengths")
    is_given = sink is not None and not is_path(sink)
    kind = sink_dtype(sink) if is_given else np.dtype(dtype)
    if kind.kind not in "iuf":
        message = f"dtype: {kind} is not supported; supported: integers and floats"
        raise DTypeError(message, name="dtype", got=str(kind), supported="integers and floats")
    with Target(sink, lengths, kind, "C") as target:
        if math.prod(lengths):
            for start, slab in _slabs((1,) * (3 - len(lengths)) + lengths, kind, np.random.default_rng(seed)):
                # With fewer axes than three there is one plane, and one slab.
                values = slab.astype(kind).reshape(-1, *lengths[1:])
                target.store((slice(start, start + len(values)), *(slice(0, n) for n in lengths[1:])), values)
    return target.result


def _slabs(shape: tuple[int, ...], dtype: np.dtype[Any], random: np.random.Generator) -> Iterator[tuple[int, AnyArray]]:
    """Make some planes at a time: the first of them, and their values."""
    tissue, first, second = (_Field(shape, spacing, random) for spacing in (TISSUE, NET, NET))
    white = _white(dtype)
    step = max(SLAB_BYTES // (4 * math.prod(shape[1:])), 1)
    buffer = np.empty((min(step, shape[0]), *shape[1:]), np.float32)
    for start in range(0, shape[0], step):
        slab = buffer[: shape[0] - start]
        random.random(out=slab, dtype=np.float32)
        slab *= NOISE
        for z, image in enumerate(slab, start):
            blobs = tissue.plane(z)
            blobs *= 1.5
            np.clip(blobs, 0, 1, out=blobs)
            blobs *= BRIGHT
            image += blobs
            # Squares of the distance from the curve on which both fields are zero, 1 at the wall of the vessel.
            a, b = first.plane(z), second.plane(z)
            a *= a
            b *= b
            a += b
            a *= -1 / THICKNESS**2
            a += 1
            np.maximum(a, 0, out=a)
            a *= VESSEL
            image += a
        for axis in (1, 2):
            correlate1d(slab, BLUR, slab, axis, mode="reflect")
        slab *= white
        np.clip(slab, 0, white, out=slab)
        if dtype.kind in "iu":
            slab += 0.5
        yield start, slab


def _white(dtype: np.dtype[Any]) -> float:
    if dtype.kind == "f":
        return 1.0
    return float(np.iinfo(dtype).max if dtype.itemsize == 1 else WHITE)


class _Field:
    """A smooth random field of values around 0, plane by plane in rising order.

    Parameters
    ----------
    shape : tuple of int
        Planes, rows and columns.
    spacing : int
        Voxels between the points of the lattice.
    random : numpy.random.Generator
        Gives the values on the lattice.
    """

    def __init__(self, shape: tuple[int, ...], spacing: int, random: np.random.Generator) -> None:
        self._spacing = spacing
        self._lattice = random.standard_normal([n // spacing + 4 for n in shape], dtype=np.float32)
        # A plane of a spline of random numbers varies less than they do; this makes up for it.
        self._lattice *= 3
        self._rows, self._columns = _weights(shape[1], spacing), _weights(shape[2], spacing).T
        self._upsampled: dict[int, Plane] = {}

    def plane(self, z: int) -> Plane:
        """Return the values of a plane, in memory of their own."""
        low, place = divmod(z, self._spacing)
        self._upsampled = {i: values for i, values in self._upsampled.items() if i >= low}
        for i in range(low, low + 4):
            if i not in self._upsampled:
                self._upsampled[i] = self._rows @ self._lattice[i] @ self._columns
        weights = _spline(place / self._spacing)
        values: Plane = self._upsampled[low] * weights[0]
        for i in range(1, 4):
            values += self._upsampled[low + i] * weights[i]
        return values


def _weights(n: int, spacing: int) -> Plane:
    """Return the weights of the points of a lattice for each position along an axis."""
    weights = np.zeros((n, n // spacing + 4), np.float32)
    position = np.arange(n)
    for i, weight in enumerate(_spline(position % spacing / spacing)):
        weights[position, position // spacing + i] = weight
    return weights


def _spline(t: Any) -> Any:
    """Return the weights of four neighbours, for a place between the middle two: a cubic B-spline."""
    t = np.asarray(t, np.float32)
    return np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / np.float32(6)

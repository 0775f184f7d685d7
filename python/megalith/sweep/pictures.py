"""Results as they are kept: figures, images and buffers become arrays of pixels."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith._optional import is_instance

if TYPE_CHECKING:
    from megalith._typing import AnyArray


def as_kept(value: Any) -> Any:
    """Return a result with its pictures as arrays.

    Parameters
    ----------
    value : object
        What a function gave: matplotlib figures, PIL images, buffers such as ``canvas.buffer_rgba()``, anything else,
        and tuples, lists and dicts of these.

    Returns
    -------
    value : object
        The same, with (height, width, channels) arrays in place of pictures.
    """
    kind = type(value)
    if kind is float or kind is int or kind is str or kind is np.ndarray:
        return value
    if kind is dict:
        return {name: as_kept(part) for name, part in value.items()}
    if kind is tuple or kind is list:
        return kind(as_kept(part) for part in value)
    if isinstance(value, memoryview):
        # A canvas that is drawn again has the next picture in the same memory.
        return np.array(value)
    if is_instance(value, "PIL.Image", "Image"):
        is_indexed = value.mode in ("P", "PA")
        return np.array(value.convert("RGBA" if value.has_transparency_data else "RGB") if is_indexed else value)
    if is_instance(value, "matplotlib.figure", "Figure"):
        return _pixels(value)
    return value


def _pixels(figure: Any) -> AnyArray:
    """Draw a figure, which pyplot need not remember then."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    before = figure.canvas
    try:
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        pixels: AnyArray = np.array(canvas.buffer_rgba())
    finally:
        figure.set_canvas(before)
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close(figure)
    return pixels

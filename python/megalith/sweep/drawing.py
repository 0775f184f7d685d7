"""Results as people look at them: arrays that are images as PNG, everything else as HTML or text."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

SMALLEST_SIDE = 8
"""A table with fewer rows or columns is shown as numbers."""
LARGEST_SIDE = 1024
"""Pixels of a side that are sent to the browser; larger images are thinned."""
COMFORTABLE_SIDE = 320
"""Images that are smaller are shown enlarged, each pixel as a square."""
TEXT_LENGTH = 20_000
COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # channels: the number that PNG has for them


def as_html(value: Any) -> str:
    """Return what a notebook shows for a result.

    Parameters
    ----------
    value : object
        A result. Arrays of shape (h, w), (h, w, 3) and (h, w, 4) are shown as images, dicts key by key, objects with
        `_repr_html_` as they wish, everything else as text.

    Returns
    -------
    html : str
        A piece of a page.
    """
    if isinstance(value, dict) and value:
        top = 'style="vertical-align: top"'
        rows = (
            f"<tr {top}><th>{html.escape(str(key))}</th><td>{as_html(part)}</td></tr>" for key, part in value.items()
        )
        return f"<table>{''.join(rows)}</table>"
    if is_image(value):
        return image(np.asarray(value))
    drawn = getattr(value, "_repr_html_", None)
    text = None if drawn is None or isinstance(value, type) else drawn()
    return as_text(value if isinstance(value, str) else repr(value)) if text is None else str(text)


def as_text(text: str) -> str:
    """Return text as HTML that keeps its lines, the middle left out where it is very long."""
    if len(text) > TEXT_LENGTH:
        text = f"{text[: TEXT_LENGTH // 2]}\n[...]\n{text[-TEXT_LENGTH // 2 :]}"
    return f'<pre style="white-space: pre-wrap">{html.escape(text)}</pre>'


def is_image(value: Any) -> bool:
    """Whether a result is an array that is looked at as an image."""
    shape: tuple[int, ...] = getattr(value, "shape", ())
    dtype = getattr(value, "dtype", None)
    if not isinstance(dtype, np.dtype) or dtype.kind not in "buif":
        return False
    if len(shape) == 3 and shape[2] not in (3, 4):
        return False
    return len(shape) in (2, 3) and min(shape[:2]) >= SMALLEST_SIDE


def image(array: npt.NDArray[Any]) -> str:
    """Return an array that `is_image` as an element of a page, with its shape and range below."""
    step = -(-max(array.shape[:2]) // LARGEST_SIDE)
    thinned = array[::step, ::step]
    height, width = thinned.shape[:2]
    enlarged = max(COMFORTABLE_SIDE // max(height, width), 1)
    room = f"width: {width * enlarged}px; max-width: 100%; aspect-ratio: {width} / {height}"
    data = base64.b64encode(png(pixels(thinned))).decode()
    img = f'<img alt="result" style="image-rendering: pixelated; {room}" src="data:image/png;base64,{data}">'
    finite = thinned[np.isfinite(thinned)]
    span = f", {finite.min():.4g} to {finite.max():.4g}" if finite.size and array.ndim == 2 else ""
    shape = " x ".join(str(n) for n in array.shape)
    return f"{img}<div>{shape} {array.dtype}{span}</div>"


def pixels(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return an image as bytes.

    Bytes stay as they are. Floats with channels are between 0 and 1, as in matplotlib. Everything else is scaled so
    that its least finite value is black and its greatest white; what is not finite is black.
    """
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    values = array.astype(np.float64)
    finite = np.isfinite(values)
    if array.ndim == 3 and array.dtype.kind == "f":
        low, high = 0.0, 1.0
    else:
        low, high = values.min(where=finite, initial=np.inf), values.max(where=finite, initial=-np.inf)
    values -= low if finite.any() else 0.0
    values /= high - low if high > low else 1.0
    np.clip(np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0), 0.0, 1.0, out=values)
    return np.rint(values * 255).astype(np.uint8)


def png(shown: npt.NDArray[np.uint8]) -> bytes:
    """Return bytes of shape (h, w), (h, w, 3) or (h, w, 4) as a PNG file."""
    height, width = shown.shape[:2]
    colour = COLOUR_TYPES[shown.shape[2] if shown.ndim == 3 else 1]
    rows = shown.reshape(height, -1)
    unfiltered = np.zeros((height, 1), np.uint8)  # each row begins with the filter it went through: none
    header = struct.pack(">2I5B", width, height, 8, colour, 0, 0, 0)
    data = zlib.compress(np.concatenate([unfiltered, rows], axis=1).tobytes(), 1)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

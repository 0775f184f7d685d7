"""The report of ``megalith demo``: one HTML file with the table and pictures."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from megalith._optional import require

if TYPE_CHECKING:
    from pathlib import Path

    from megalith._typing import AnyArray

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; width: 100% } td, th { padding: .3em .6em; text-align: right }
td:first-child, th:first-child, td:last-child, th:last-child { text-align: left }
tr:nth-child(even) { background: #f4f4f4 } img { width: 100% }
"""


def figure(table: dict[str, Any], volume: AnyArray, smooth: AnyArray, mask: AnyArray, classes: AnyArray) -> bytes:
    """Draw the steps on the middle slice of the volume, and how much faster each was.

    Parameters
    ----------
    table : dict
        What ``--json`` writes.
    volume, smooth, mask, classes : (nz, ny, nx) ndarray
        The volume and what the steps made of it.

    Returns
    -------
    png : bytes
        The picture.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    require("matplotlib", "demo").use("Agg")
    pyplot = require("matplotlib.pyplot", "demo")
    canvas, axes = pyplot.subplot_mosaic(
        [["volume", "smoothed", "mask", "surroundings"], ["speed"] * 4],
        figsize=(12, 6.5),
        height_ratios=[1.4, 1],
        layout="constrained",
    )
    middle = volume.shape[2] // 2
    pictures = {
        "volume": (volume, "gray"),
        "smoothed": (smooth, "gray"),
        "mask": (mask, "gray"),
        "surroundings": (classes, "magma"),
    }
    for title, (values, colours) in pictures.items():
        axes[title].imshow(np.rot90(values[:, :, middle]), cmap=colours, interpolation="nearest")
        axes[title].set_title(title)
        axes[title].set_axis_off()
    steps = [step for step in table["steps"] if step["speedup"] is not None]
    names = [step["name"] for step in steps]
    bars = axes["speed"].barh(names[::-1], [step["speedup"] for step in steps][::-1], color="#4878a8")
    axes["speed"].bar_label(bars, fmt="%.1fx", padding=3)
    axes["speed"].axvline(1, color="#999", linewidth=0.8)
    axes["speed"].margins(x=0.08)
    axes["speed"].set_xlabel(f"times faster than NumPy or SciPy, {table['threads']} threads")
    axes["speed"].spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=110)
    pyplot.close(canvas)
    return buffer.getvalue()


def write_report(
    path: Path, table: dict[str, Any], volume: AnyArray, smooth: AnyArray, mask: AnyArray, classes: AnyArray
) -> None:
    """Write the report.

    Parameters
    ----------
    path : pathlib.Path
        The HTML file.
    table : dict
        What ``--json`` writes.
    volume, smooth, mask, classes : (nz, ny, nx) ndarray
        The volume and what the steps made of it.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    picture = base64.b64encode(figure(table, volume, smooth, mask, classes)).decode()
    rows = "".join(
        f"<tr><td>{html.escape(step['name'])}<td>{step['seconds'] * 1e3:.2f} ms<td>{step['gb_per_s']:.2f}"
        f"<td>{step['speedup']:.1f}x<td>{'yes' if step['equal'] else 'no'}<td>{html.escape(step['peer'])}</tr>"
        for step in table["steps"]
    )
    source = html.escape(table["input"] or "a volume made by the demo")
    path.write_text(
        f"<!doctype html><meta charset='utf-8'><title>megalith demo</title><style>{STYLE}</style>"
        f"<h1>megalith demo</h1><p>{source}, shape {tuple(table['shape'])}, {table['dtype']}; "
        f"megalith {table['megalith']}, {table['threads']} threads.</p>"
        f"<img alt='the steps on a slice, and their speed' src='data:image/png;base64,{picture}'>"
        f"<table><tr><th>step<th>time<th>GB/s<th>speedup<th>equal<th>peer</tr>{rows}</table>\n"
    )

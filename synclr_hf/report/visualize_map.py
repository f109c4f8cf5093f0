"""A plane of picture features: the pictures themselves where they lie, and their classes as colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from synclr_hf.data.plots import plot_figure
from synclr_hf.report.visualize_sheets import SOFT, cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THUMBNAIL = 46
"""Side of a picture on the map in pixels."""
MOST_CLASSES = 10
"""Classes with a colour of their own; those with fewer pictures are grey."""
_COLOURS = (
    "#0b6e69",
    "#e08214",
    "#6a51a3",
    "#c51b3a",
    "#4292c6",
    "#7f8c1f",
    "#d976b0",
    "#7a4a21",
    "#1b9e4b",
    "#1f3b73",
)
_OTHER = "#c3cacd"
_MANY = 500
"""Points from which on they are smaller."""
_WIDTH, _LEAST_HEIGHT, _MOST_HEIGHT = 8.0, 4.5, 8.5
"""Of a plane in inches."""
_LEFT, _BOTTOM, _TOP = 0.9, 0.6, 0.4
"""Room for words around the axes in inches."""
_LEGEND, _LEGEND_SIZE, _LEGEND_PIXELS = 2.1, 19, 235
"""Room for the legend in inches; size and longest width of its words in pixels of the file."""


def thumbnail_map(
    file: Path, points: np.ndarray, picture: Callable[[int], Image.Image], explained: Sequence[float]
) -> int:
    """Draw pictures at their points, earlier ones first; one that would lie on another stays a grey dot.

    Args:
        file: a PNG.
        points: (N, 2) places of the pictures.
        picture: gives the picture of a row, a square of `THUMBNAIL` pixels; asked for those that are drawn.
        explained: share of the variance along each axis, in [0, 1].

    Returns:
        How many pictures were drawn.
    """
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    with plot_figure(_LEAST_HEIGHT) as figure:
        axes = _plane(figure, points, explained, right=0.1, margin=THUMBNAIL / 2 + 6)
        axes.plot(*points.T, ".", color=_OTHER, markersize=3, zorder=1)
        drawn = apart(axes.transData.transform(points), THUMBNAIL + 4)
        zoom = 72 / figure.dpi  # a pixel of the picture is a pixel of the file
        for place in drawn:
            framed = ImageOps.expand(picture(place), 1, _OTHER)
            box = OffsetImage(np.asarray(framed), zoom=zoom, interpolation="nearest")
            axes.add_artist(AnnotationBbox(box, points[place], frameon=False, pad=0, zorder=2))
        _head(axes, f"{len(drawn):,} of {len(points):,} pictures; those that would lie on another are dots")
        figure.savefig(file, format="png", metadata={"Software": None})
    return len(drawn)


def class_map(file: Path, points: np.ndarray, classes: Sequence[str], explained: Sequence[float]) -> None:
    """Draw a point a picture, coloured by its class, with a legend.

    Args:
        file: a PNG.
        points: (N, 2) places of the pictures.
        classes: the class of each; the `MOST_CLASSES` with the most pictures get colours.
        explained: share of the variance along each axis, in [0, 1].
    """
    counts = Counter(classes)
    named = sorted(counts, key=lambda name: (-counts[name], name))[:MOST_CLASSES]
    chosen = np.asarray([name in named for name in classes])
    size = 5.5 if chosen.sum() < _MANY else 4.0
    with plot_figure(_LEAST_HEIGHT) as figure:
        axes = _plane(figure, points, explained, right=_LEGEND, margin=12)
        for number, name in enumerate(sorted(named, key=str.lower)):
            rows = np.asarray([one == name for one in classes])
            marker = "os^Dv"[number % 5]
            axes.plot(
                *points[rows].T,
                marker,
                color=_COLOURS[number],
                markersize=size,
                markeredgewidth=0.3,
                markeredgecolor="white",
                label=cut(name, _LEGEND_PIXELS, _LEGEND_SIZE) or "(none)",
                zorder=2,
            )
        if not chosen.all():
            others = len(counts) - len(named)
            label = f"{others} other classes" if others > 1 else "1 other class"
            axes.plot(*points[~chosen].T, "o", color=_OTHER, markersize=3.5, markeredgewidth=0, label=label, zorder=1)
        _head(axes, f"{len(points):,} pictures")
        legend = axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, borderaxespad=0, fontsize=9)
        for text in legend.get_texts():
            text.set_parse_math(False)
        figure.savefig(file, format="png", metadata={"Software": None})


def apart(places: np.ndarray, side: float) -> list[int]:
    """Choose squares of `side` around places (N, 2) that do not touch, each unless it would lie on an earlier one."""
    kept: list[int] = []
    for number, place in enumerate(places):
        if not kept or (np.abs(places[kept] - place).max(axis=1) >= side).all():
            kept.append(number)
    return kept


def _plane(figure: Figure, points: np.ndarray, explained: Sequence[float], *, right: float, margin: float) -> Axes:
    """Give axes of one scale in both directions, so that distances are what they look like.

    Args:
        figure: an empty one.
        points: (N, 2) what must fit.
        explained: share of the variance along each axis.
        right: room at the right of the axes in inches.
        margin: room left around the points in pixels.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    spread = np.maximum(high - low, 1e-9)
    inches = _WIDTH - _LEFT - right
    height = float(np.clip(inches * spread[1] / spread[0] + _BOTTOM + _TOP, _LEAST_HEIGHT, _MOST_HEIGHT))
    figure.set_layout_engine("none")
    figure.set_size_inches(_WIDTH, height)
    box = np.asarray([inches, height - _BOTTOM - _TOP])
    axes = figure.add_axes((_LEFT / _WIDTH, _BOTTOM / height, box[0] / _WIDTH, box[1] / height))
    pixels = box * figure.dpi
    half = pixels * max(spread / (pixels - 2 * margin)) / 2  # units of the points
    middle = (low + high) / 2
    axes.set_xlim(middle[0] - half[0], middle[0] + half[0])
    axes.set_ylim(middle[1] - half[1], middle[1] + half[1])
    axes.grid(color="#e6eaeb")
    for set_label, number, share in zip((axes.set_xlabel, axes.set_ylabel), (1, 2), explained, strict=True):
        set_label(f"principal component {number} ({share:.1%} of the variance)")
    return axes


def _head(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=9, color=SOFT, loc="left")

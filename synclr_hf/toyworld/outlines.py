"""Outlines of parts: arrays of points, made once at import and only moved about while drawing.

Coordinates are in the drawing's own units, x to the right and y down; `Thing` scales them to the unit square.
"""

from __future__ import annotations

import math

import numpy as np

Outline = np.ndarray
"""Points of a closed outline, shape (n, 2), float64."""


def _points(coordinates: tuple[float, ...]) -> np.ndarray:
    return np.asarray(coordinates, dtype=np.float64).reshape(-1, 2)


def oval(cx: float, cy: float, rx: float, ry: float | None = None, turn: float = 0.0) -> Outline:
    """An ellipse around (cx, cy) with radii rx and ry, turned clockwise by `turn` degrees."""
    return arc(cx, cy, rx, rx if ry is None else ry, 0, 360, turn)[:-1]


def arc(cx: float, cy: float, rx: float, ry: float, start: float, stop: float, turn: float = 0.0) -> Outline:
    """The piece of an ellipse from `start` to `stop` degrees (0 is right, 90 is down), closed by its chord."""
    angles = np.radians(np.linspace(start, stop, max(5, round(abs(stop - start) / 15) + 1)))
    points = np.stack([rx * np.cos(angles), ry * np.sin(angles)], axis=1)
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    return points @ np.array([[cosine, sine], [-sine, cosine]]) + (cx, cy)


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 0.0) -> Outline:
    """A rectangle from (x0, y0) to (x1, y1), its corners rounded by `radius`."""
    if not radius:
        return _points((x0, y0, x1, y0, x1, y1, x0, y1))
    corners = ((x1 - radius, y0 + radius, 270), (x1 - radius, y1 - radius, 0), (x0 + radius, y1 - radius, 90))
    corners += ((x0 + radius, y0 + radius, 180),)
    return np.concatenate([arc(x, y, radius, radius, start, start + 90) for x, y, start in corners])


def poly(*coordinates: float) -> Outline:
    """A polygon through x0, y0, x1, y1, ..."""
    return _points(coordinates)


def blob(*coordinates: float) -> Outline:
    """A smooth closed curve (Catmull-Rom) through x0, y0, x1, y1, ..."""
    return _smooth(_points(coordinates), closed=True)


def stroke(width: float, *coordinates: float) -> Outline:
    """A line of the given width through x0, y0, x1, y1, ..."""
    return _thicken(_points(coordinates), width)


def curve(width: float, *coordinates: float) -> Outline:
    """A smooth line of the given width through x0, y0, x1, y1, ..."""
    return _thicken(_smooth(_points(coordinates), closed=False), width)


def ring(cx: float, cy: float, outer: float, inner: float, squash: float = 1.0) -> Outline:
    """A ring with a hole; `squash` is its height over its width."""
    hole = oval(cx, cy, inner, inner * squash)
    rim = oval(cx, cy, outer, outer * squash)
    return np.concatenate([rim, rim[:1], hole[::-1], hole[-1:]])


def star(cx: float, cy: float, outer: float, inner: float, points: int, turn: float = 0.0) -> Outline:
    """A star with the given number of points, one of them up."""
    angles = np.radians(np.arange(2 * points) * 180 / points - 90 + turn)
    radii = np.where(np.arange(2 * points) % 2 == 0, outer, inner)
    return np.stack([cx + radii * np.cos(angles), cy + radii * np.sin(angles)], axis=1)


def mirrored(outline: Outline) -> Outline:
    """The outline flipped left to right around x = 0."""
    return outline * (-1, 1)


def turned(outline: Outline, degrees: float, cx: float = 0.0, cy: float = 0.0) -> Outline:
    """The outline turned clockwise around (cx, cy)."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (outline - (cx, cy)) @ np.array([[cosine, sine], [-sine, cosine]]) + (cx, cy)


def _smooth(points: np.ndarray, closed: bool, steps: int = 4) -> np.ndarray:
    """Catmull-Rom interpolation with `steps` points for each given one."""
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, start, stop, after = padded[:-3, None], padded[1:-2, None], padded[2:-1, None], padded[3:, None]
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    spans = 0.5 * (
        2 * start
        + (stop - before) * t
        + (2 * before - 5 * start + 4 * stop - after) * t**2
        + (3 * start - before - 3 * stop + after) * t**3
    )
    result = spans.reshape(-1, 2)
    return result if closed else np.concatenate([result, points[-1:]])


def _thicken(points: np.ndarray, width: float) -> np.ndarray:
    """The outline of a line with square ends."""
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    aside = along[:, ::-1] * (-1, 1) * width / 2
    return np.concatenate([points + aside, (points - aside)[::-1]])

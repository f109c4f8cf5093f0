"""Poses: how the unit outlines of a thing come to lie in the picture."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from synclr_hf.toyworld.attributes import DrawnThing
from synclr_hf.toyworld.things import THINGS


def posed_points(drawn: DrawnThing) -> np.ndarray:
    """Return all points of a thing in picture coordinates (0..1), shape (n, 2)."""
    points = THINGS[drawn.name].points
    x, y = points[:, 0], points[:, 1]
    x = x * (1 + drawn.taper * y) + drawn.bend * (y * y - 0.4)
    x = (-x if drawn.flip else x) * drawn.stretch + drawn.shear * y
    radians = math.radians(drawn.turn)
    cosine, sine = math.cos(radians) * drawn.half, math.sin(radians) * drawn.half
    return np.stack([drawn.x + cosine * x - sine * y, drawn.y + sine * x + cosine * y], axis=1)


def local_axes(drawn: DrawnThing) -> np.ndarray:
    """Return the matrix (2, 2) that takes picture offsets back to unit coordinates, bend and taper left out."""
    radians = math.radians(drawn.turn)
    cosine, sine = math.cos(radians) * drawn.half, math.sin(radians) * drawn.half
    turn = np.array([[cosine, -sine], [sine, cosine]])
    lean = np.array([[(-1 if drawn.flip else 1) * drawn.stretch, drawn.shear], [0.0, 1.0]])
    return np.linalg.inv(turn @ lean)


def with_box(drawn: DrawnThing) -> DrawnThing:
    """Return the thing with its box measured."""
    points = posed_points(drawn)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return replace(drawn, box=(left, top, right, bottom))


def moved(drawn: DrawnThing, dx: float, dy: float) -> DrawnThing:
    """Return the thing moved, box and all."""
    left, top, right, bottom = drawn.box
    sunk = drawn.sunk + dy if drawn.sunk < 1 else 1.0
    box = (left + dx, top + dy, right + dx, bottom + dy)
    return replace(drawn, x=drawn.x + dx, y=drawn.y + dy, sunk=sunk, box=box)


def scaled(drawn: DrawnThing, factor: float) -> DrawnThing:
    """Return the thing scaled around the picture's origin, box and all."""
    left, top, right, bottom = (edge * factor for edge in drawn.box)
    sunk = drawn.sunk * factor if drawn.sunk < 1 else 1.0
    place = {"x": drawn.x * factor, "y": drawn.y * factor, "half": drawn.half * factor}
    return replace(drawn, **place, sunk=sunk, box=(left, top, right, bottom))


def group_box(group: list[DrawnThing]) -> tuple[float, float, float, float]:
    """Return the box around all of them."""
    edges = list(zip(*(one.box for one in group), strict=True))
    return min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3])

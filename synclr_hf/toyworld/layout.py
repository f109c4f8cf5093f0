"""Where things go: sizes, rows of equal things, relations between two, and the fit into the picture."""

from __future__ import annotations

import numpy as np

from synclr_hf.toyworld.attributes import DrawnThing
from synclr_hf.toyworld.dice import Dice
from synclr_hf.toyworld.pose import group_box, moved, posed_points, scaled

MARGIN = 0.02
"""Share of the side that stays free around all things."""


def arrange(group: list[DrawnThing], dice: Dice) -> list[DrawnThing]:
    """Put equal things beside each other, in one row or two, so that they can be counted."""
    per_row = len(group) if len(group) <= 2 or (len(group) == 3 and dice.chance(0.5)) else (len(group) + 1) // 2
    gap = dice.between(0.1, 0.3) * group[0].half
    placed: list[DrawnThing] = []
    floor = 0.0
    for start in range(0, len(group), per_row):
        row = group[start : start + per_row]
        right = dice.between(0, 0.6) * group[0].half if start else 0.0
        lowest = max(one.box[3] - one.box[1] for one in row)
        for one in row:
            lift = dice.between(0, 0.25) * one.half
            one = moved(one, right - one.box[0], floor - lift - one.box[3] + lowest)
            right = one.box[2] + gap
            placed.append(one)
        floor += lowest + gap + 0.25 * group[0].half
    return placed


def relate(
    group: list[DrawnThing], second: DrawnThing, relation: str, dice: Dice
) -> tuple[list[DrawnThing], list[DrawnThing]]:
    """Put the second thing where the relation says and return what is drawn before and after it.

    Args:
        group: the main things, placed.
        second: the second thing, anywhere.
        relation: one of the ten relations.
        dice: the source of the variation.

    Returns:
        All things from back to front, and which of them are the main ones, placed anew.
    """
    left, top, right, bottom = group_box(group)
    width, height = second.box[2] - second.box[0], second.box[3] - second.box[1]
    centre = (left + right) / 2 + dice.between(-0.2, 0.2) * (right - left)
    unit = group[0].half
    gap = dice.between(0.12, 0.3) * unit
    side = 1 if dice.chance(0.5) else -1
    front = False
    if relation in ("next to", "besides"):
        x = right + gap if side > 0 else left - gap - width
        y = bottom - height - dice.between(0, 0.08) * unit
    elif relation == "on":
        x, y = (left + right - width) / 2, bottom - 0.16 * height
    elif relation == "in":
        x, y = (left + right - width) / 2, bottom - 0.62 * height
        group = [_sink(one, y + 0.3 * height) for one in group]
        front = True
    elif relation == "behind":
        y, front = bottom - height + dice.between(0.1, 0.25) * unit, True
        start, stop = _span(group, y, y + height)
        x = (start + stop - width) / 2 + side * dice.between(0.15, 0.5) * (stop - start) / 2
    elif relation == "in front of":
        y = bottom - height - dice.between(0.2, 0.4) * unit
        start, stop = _span(group, y, y + height)
        aside = max((stop - start) / 2 + 0.12 * width, 0.3 * width)
        x = (start + stop - width) / 2 + side * aside
    elif relation in ("over", "above"):
        x, y = centre - width / 2, bottom + gap
    else:
        x, y = centre - width / 2, top - gap - height
    second = moved(second, x - second.box[0], y - second.box[1])
    return ([*group, second] if front else [second, *group]), group


def _span(group: list[DrawnThing], top: float, bottom: float) -> tuple[float, float]:
    """Return how far the things reach to the left and right between two heights."""
    points = np.concatenate([posed_points(one) for one in group])
    points = np.concatenate([points, (points[1:] + points[:-1]) / 2])
    inside = points[(points[:, 1] >= top) & (points[:, 1] <= bottom), 0]
    return (float(inside.min()), float(inside.max())) if len(inside) else (group[0].x, group[0].x)


def _sink(one: DrawnThing, line: float) -> DrawnThing:
    left, top, right, bottom = one.box
    return DrawnThing(**{**vars(one), "sunk": min(line, 0.999), "box": (left, top, right, min(bottom, line))})


def fit(group: list[DrawnThing], floor: float | None, dice: Dice) -> list[DrawnThing]:
    """Scale the group down where it is too large and put it somewhere in the picture.

    Args:
        group: all things, placed in relation to each other.
        floor: height from which the ground reaches down, or `None` where nothing has to stand.
        dice: the source of the place.
    """
    left, top, right, bottom = group_box(group)
    room = 1 - 2 * MARGIN
    factor = min(1.0, room / (right - left), room / (bottom - top))
    if factor < 1:
        group = [scaled(one, factor) for one in group]
        left, top, right, bottom = group_box(group)
    x = dice.between(MARGIN, 1 - MARGIN - (right - left))
    lowest = MARGIN + (bottom - top)
    if floor is not None:
        lowest = max(lowest, min(floor + 0.05, 1 - MARGIN))
    y = dice.between(lowest, 1 - MARGIN) - (bottom - top)
    return [moved(one, x - left, y - top) for one in group]

"""Tells pictures that are of no use, and pictures of one caption that are all but the same, from good ones.

The thresholds were chosen on 16,000 pictures of the toy world, the least contrasty of which is a dark rug filled from
edge to edge, and on 16,000 photographs: none of them is called black or flat, and no two drawn for one caption, or
photographed of different things, are called near-identical.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL.Image import Image, Resampling

BLACK, FLAT, NEAR_IDENTICAL = "black", "flat", "near_identical"
"""The names of what can be wrong, as they are counted."""

TAIL = 0.01
"""Share of the pixels, at each end, that may lie anywhere: a few bright specks make no picture."""

BLACK_BELOW = 10
"""A picture is black if no channel gets to this level of 255. Overflow and safety checkers give 0; the darkest picture
that shows something, of the 32,000, gets to 27."""

FLAT_BELOW = 10
"""A picture is flat if no channel spreads over so many levels of 255. The least of the 32,000 spreads over 25; what
JPEG and a decoder of latents leave on a surface of one colour is 2 to 6."""

NEAR_IDENTICAL_BELOW = 2.0
"""Two pictures are near-identical if their thumbnails differ by less, in levels of 255 on average. The same photograph
saved twice differs by 0 to 1.5; the most alike of 24,000 pairs of toy pictures of one caption differ by 2.4."""

THUMBNAIL = 16
"""Side of the grey thumbnail, in pixels: coarse enough that noise and a shift by a pixel do not matter."""


@dataclass(frozen=True)
class Look:
    """What is remembered of a picture to judge it.

    Attributes:
        low: level of each channel that a share of `TAIL` of the pixels lies at or below, (3,) integers, 0..255.
        high: level of each channel that a share of `TAIL` of the pixels lies above, at most.
        thumbnail: the picture in grey, (16, 16) int16, 0..255.
    """

    low: np.ndarray
    high: np.ndarray
    thumbnail: np.ndarray


def look_at(picture: Image) -> Look:
    """Return what is needed to judge an RGB picture; 0.15 ms at 256 pixels."""
    shares = np.reshape(picture.histogram(), (3, 256)).cumsum(axis=1) / (picture.width * picture.height)
    grey = picture.convert("L").resize((THUMBNAIL, THUMBNAIL), Resampling.BOX)
    return Look((shares < TAIL).sum(axis=1), (shares < 1 - TAIL).sum(axis=1), np.asarray(grey, dtype=np.int16))


def fault(look: Look) -> str | None:
    """Return what is wrong with a picture for itself: `black`, `flat`, or `None`."""
    if look.high.max() < BLACK_BELOW:
        return BLACK
    return FLAT if (look.high - look.low).max() < FLAT_BELOW else None


def difference(look: Look, other: Look) -> float:
    """Return the mean absolute difference of two thumbnails, in levels of 255."""
    return float(np.abs(look.thumbnail - other.thumbnail).mean())


def near_identical(look: Look, other: Look) -> bool:
    """Tell whether two pictures are all but the same."""
    return difference(look, other) < NEAR_IDENTICAL_BELOW

"""Tells pictures that are of no use, and pictures of one caption that are all but the same, from good ones.

The thresholds were chosen on 16,000 pictures of the toy world, the least contrasty of which is a dark rug filled from
edge to edge, and on 15,900 photographs (Caltech-101, CIFAR-10, CamVid). None of them is called black or flat, and no
two toy pictures of one caption near-identical; of 49,262 pairs of photographs of one class, ten are called so: copies,
and the same thing a moment later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL.Image import Image, Resampling

BLACK, FLAT, NEAR_IDENTICAL = "black", "flat", "near_identical"
"""The names of what can be wrong, as they are counted."""

BLOCKS = 32
"""A picture is judged by the means of its blocks, so many a side or a few more: specks and noise make no picture."""

BLACK_BELOW = 10
"""A picture is black if no channel gets to this level of 255 in any block. Overflow and safety checkers give 0; the
darkest of the pictures above gets to 50."""

FLAT_BELOW = 10
"""A picture is flat if no channel spreads over so many levels of 255; the least of them spreads over 28."""

NEAR_IDENTICAL_BELOW = 2.0
"""Two pictures are near-identical if their thumbnails differ by less, in levels of 255 on average. The same photograph
saved twice differs by 0.2 to 1.9; the most alike of 24,000 pairs of toy pictures of one caption differ by 3.1."""

THUMBNAIL = 16
"""Side of the grey thumbnail, in pixels: coarse enough that a shift by a pixel does not matter."""


@dataclass(frozen=True)
class Look:
    """What is remembered of a picture to judge it.

    Attributes:
        highest: level of the brightest block in the channel where that is brightest, 0 to 255.
        spread: levels from the darkest to the brightest block in the channel where that is most.
        thumbnail: the picture in grey, (16, 16) int16, 0 to 255.
    """

    highest: int
    spread: int
    thumbnail: np.ndarray


def look_at(picture: Image) -> Look:
    """Return what is needed to judge an RGB picture of at least 16 pixels; it takes less than 0.1 ms at 256."""
    blocks = picture.reduce(max(1, min(picture.size) // BLOCKS))
    levels = blocks.getextrema()
    grey = blocks.convert("L").resize((THUMBNAIL, THUMBNAIL), Resampling.BOX)
    return Look(
        max(high for _, high in levels), max(high - low for low, high in levels), np.asarray(grey, dtype=np.int16)
    )


def fault(look: Look) -> str | None:
    """Return what is wrong with a picture for itself: `black`, `flat`, or `None`."""
    if look.highest < BLACK_BELOW:
        return BLACK
    return FLAT if look.spread < FLAT_BELOW else None


def difference(look: Look, other: Look) -> float:
    """Return the mean absolute difference of two thumbnails, in levels of 255."""
    return float(np.abs(look.thumbnail - other.thumbnail).mean())


def near_identical(look: Look, other: Look) -> bool:
    """Tell whether two pictures are all but the same."""
    return difference(look, other) < NEAR_IDENTICAL_BELOW

"""Foreground and background by the first principal component of patch features, without labels (DINOv2, Figure 1).

DINOv2 puts a threshold on the first component and says nothing about its sign, which a PCA leaves open: somebody looks
at the picture. Here the sign follows from the border rule: things are photographed in the middle of a picture, so of
the two sides the one with the larger share of patches at the border of their picture is the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.seeing.principal_components import principal_components

OTSU = "otsu"
"""The threshold that makes the two sides most alike within themselves (Otsu 1979)."""


@dataclass(frozen=True)
class ForegroundSplit:
    """What tells foreground from background.

    Attributes:
        mean: (D,) float64, the centre of all patches.
        direction: (D,) float64, the first principal component, towards the foreground, in units of the standard
            deviation of the patches along it.
        threshold: patches whose score is above it are foreground, in standard deviations from the mean.
    """

    mean: Tensor
    direction: Tensor
    threshold: float

    def is_foreground(self, patches: Tensor) -> Tensor:
        """Return which patches (..., D) are foreground, (...) bool."""
        return (patches.double() - self.mean) @ self.direction > self.threshold


@torch.inference_mode()
def foreground_split(maps: Sequence[Tensor], threshold: float | str = 0.0) -> ForegroundSplit:
    """Split the patches of several pictures by their first principal component.

    Args:
        maps: (h, w, D) patch features of each picture, D the same in all.
        threshold: in standard deviations from the mean, positive towards the foreground; or `OTSU`.

    Raises:
        UserInputError: the threshold is neither.
    """
    threshold = read_threshold(threshold)
    flat = torch.cat([patches.flatten(0, 1) for patches in maps])
    border = torch.cat([border_patches(*patches.shape[:2]).flatten() for patches in maps])
    components = principal_components(flat, 1)
    scores = components.scores(flat)[:, 0]
    deviation = scores.std(unbiased=False).clamp_min(1e-12)
    scores = scores / deviation
    cut = otsu_threshold(scores) if threshold == OTSU else 0.0
    above = scores > cut
    sign = -1.0 if _share(border, above) > _share(border, ~above) else 1.0
    return ForegroundSplit(
        mean=components.mean,
        direction=sign * components.directions[0] / deviation,
        threshold=sign * cut if threshold == OTSU else float(threshold),
    )


def read_threshold(threshold: float | str) -> float | str:
    """Return a threshold as a number or `OTSU`.

    Raises:
        UserInputError: it is neither.
    """
    try:
        value = threshold if threshold == OTSU else float(threshold)
    except ValueError:
        value = float("nan")
    if value != value:
        raise UserInputError(
            f"--threshold '{threshold}' is no threshold; allowed: none, otsu, or a number of standard deviations of "
            "the first component; type --threshold 0"
        )
    return value


def border_patches(height: int, width: int) -> Tensor:
    """Return which patches of a grid touch the border of the picture, (height, width) bool."""
    border = torch.ones(height, width, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    return border


def otsu_threshold(values: Tensor) -> float:
    """Return the middle of the gap that splits values (N,) with the largest variance between the two sides."""
    ordered = values.double().sort().values
    count = len(ordered)
    below = torch.arange(1, count, dtype=torch.float64)
    sums = ordered.cumsum(0)
    means_below, means_above = sums[:-1] / below, (sums[-1] - sums[:-1]) / (count - below)
    between = below * (count - below) * (means_below - means_above) ** 2
    between[ordered[1:] == ordered[:-1]] = -1  # equal values are never parted
    if count < 2 or between.max() <= 0:
        return float(ordered[-1])
    best = int(between.argmax())
    return float((ordered[best] + ordered[best + 1]) / 2)


def _share(what: Tensor, among: Tensor) -> float:
    """Return the share of `what` among the chosen ones; 0 where none is chosen."""
    return float(what[among].double().mean()) if among.any() else 0.0

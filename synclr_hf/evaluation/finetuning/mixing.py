"""Mixup and cutmix: pictures of a batch blended with, or pasted into, one another, and their targets with them."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def soft_targets(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Turn labels (B,) int64 into probabilities (B, C): `1 - smoothing` on the class, the rest on all alike."""
    return F.one_hot(labels, num_classes).float().mul_(1 - smoothing).add_(smoothing / num_classes)


def mixed(
    pixels: Tensor, targets: Tensor, rng: np.random.Generator, *, mixup: float, cutmix: float
) -> tuple[Tensor, Tensor]:
    """Mix a batch with itself in reverse order, by mixup (Zhang et al. 2018) or cutmix (Yun et al. 2019).

    One share, and one box, for the whole batch, each of the two half of the time where both are on: as timm does it
    in its mode `batch`, which the reference uses (`SynCLR/eval/main_finetune.py`).

    Args:
        pixels: (B, 3, H, W) float on any device.
        targets: (B, C) float: probabilities, or 0 and 1 for several classes a picture.
        rng: where the share and the box come from.
        mixup: alpha of the share's Beta distribution; 0 is off.
        cutmix: the same for cutmix.

    Returns:
        Pictures and targets of the same shapes; those that came in stay as they are.
    """
    if not mixup and not cutmix:
        return pixels, targets
    pastes = rng.random() < (0.5 if mixup and cutmix else float(cutmix > 0))
    alpha = cutmix if pastes else mixup
    share = float(rng.beta(alpha, alpha))
    if pastes:
        height, width = pixels.shape[-2:]
        top, bottom, left, right = cutmix_box(height, width, share, rng)
        pasted = pixels.clone()
        pasted[..., top:bottom, left:right] = pixels.flip(0)[..., top:bottom, left:right]
        pixels, share = pasted, 1 - (bottom - top) * (right - left) / (height * width)
    else:
        pixels = torch.lerp(pixels.flip(0), pixels, share)
    return pixels, torch.lerp(targets.flip(0), targets, share)


def cutmix_box(height: int, width: int, share: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw a box with `1 - share` of the area around a uniform centre, cut off at the edges.

    Returns:
        (top, bottom, left, right) in pixels; the share that is left is larger where an edge cut the box.
    """
    side = math.sqrt(1 - share)
    box = []
    for length in (height, width):
        half, centre = int(length * side) // 2, int(rng.integers(length))
        box += [max(centre - half, 0), min(centre + half, length)]
    return tuple(box)

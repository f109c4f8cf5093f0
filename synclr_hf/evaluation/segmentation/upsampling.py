"""Classes of pixels from a coarse map of logits, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

NUMBERS_AT_ONCE = 2**24
"""Up-sampled logits that are held together."""


def upsampled_strips(
    maps: Tensor, size: tuple[int, int], *, numbers_at_once: int = NUMBERS_AT_ONCE
) -> Iterator[Tensor]:
    """Up-sample maps bilinearly, strip by strip from the top, as `F.interpolate(..., align_corners=False)` does.

    Args:
        maps: (C, h, w) float.
        size: (H, W) of the result.
        numbers_at_once: bounds the size of a strip; changes memory only.

    Yields:
        (C, rows, W).
    """
    height, width = size
    rows = max(numbers_at_once // (len(maps) * width), 1)
    places = ((torch.arange(height, device=maps.device) + 0.5) * (maps.shape[1] / height) - 0.5).clamp_min(0)
    above = places.floor().long().clamp_max(maps.shape[1] - 1)
    below = (above + 1).clamp_max(maps.shape[1] - 1)
    weight = (places - above).to(maps.dtype)[:, None]
    for top in range(0, height, rows):
        strip = slice(top, top + rows)
        mixed = maps[:, above[strip]] * (1 - weight[strip]) + maps[:, below[strip]] * weight[strip]
        yield F.interpolate(mixed, size=width, mode="linear", align_corners=False)


def upsampled_classes(logits: Tensor, size: tuple[int, int], *, numbers_at_once: int = NUMBERS_AT_ONCE) -> Tensor:
    """Return the likeliest class of each pixel, (H, W) int64 on the CPU.

    Args:
        logits: (C, h, w) float.
        size: (H, W).
        numbers_at_once: see `upsampled_strips`.
    """
    strips = upsampled_strips(logits, size, numbers_at_once=numbers_at_once)
    return torch.cat([strip.argmax(dim=0).cpu() for strip in strips])

"""Random erasing (Zhong et al. 2020): a box of some pictures becomes noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

AREA = (0.02, 1 / 3)
"""Share of the picture's area that a box covers; the values of timm, which the reference uses."""
ASPECT = (0.3, 1 / 0.3)
"""Height by width of a box, drawn evenly in the logarithm."""
_ATTEMPTS = 10


def erasing_boxes(count: int, height: int, width: int, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the boxes of a batch.

    Args:
        count: pictures of the batch.
        height: of the pictures in pixels.
        width: of the pictures in pixels.
        probability: of a box in a picture.
        rng: where the numbers come from.

    Returns:
        (B, 4) int64, (top, bottom, left, right) in pixels; all zero where nothing is erased. A box that does not fit
        into the picture is drawn again, up to ten times.
    """
    chosen = rng.random(count) < probability
    area = height * width * rng.uniform(*AREA, (count, _ATTEMPTS))
    aspect = np.exp(rng.uniform(*np.log(ASPECT), (count, _ATTEMPTS)))
    heights = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    widths = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    places = rng.random((count, 2))
    fits = (heights < height) & (widths < width)
    rows, first = np.arange(count), fits.argmax(axis=1)
    h, w = heights[rows, first], widths[rows, first]
    top = (places[:, 0] * (height - h + 1)).astype(np.int64)
    left = (places[:, 1] * (width - w + 1)).astype(np.int64)
    boxes = np.stack([top, top + h, left, left + w], axis=1)
    return np.where((chosen & fits.any(axis=1))[:, None], boxes, 0)


def erased(pixels: Tensor, boxes: np.ndarray, seed: int) -> Tensor:
    """Fill boxes with standard normal noise, one value a pixel and channel.

    Args:
        pixels: (B, 3, H, W) float, normalised, on any device; stays as it is.
        boxes: see `erasing_boxes`.
        seed: of the noise, which is drawn on the device of the pictures.
    """
    if not boxes.any():
        return pixels
    top, bottom, left, right = torch.from_numpy(boxes).to(pixels.device)[:, :, None, None].unbind(1)  # (B, 1, 1)
    y = torch.arange(pixels.shape[-2], device=pixels.device)[:, None]
    x = torch.arange(pixels.shape[-1], device=pixels.device)
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)  # (B, H, W)
    generator = torch.Generator(pixels.device).manual_seed(seed)
    noise = torch.empty_like(pixels).normal_(generator=generator)
    return torch.where(inside[:, None], noise, pixels)

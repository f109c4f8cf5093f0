"""Random crops of a decoded picture: where they lie, by numpy's random state, and the plain way to cut them."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

_LOG_RATIOS = (math.log(3 / 4), math.log(4 / 3))


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return the number that `rng.uniform` would, which takes several times as long for a single one."""
    return low + (high - low) * rng.random()


def random_crop_box(
    width: int, height: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw the box of a random resized crop: area in `scale` of the picture's, aspect ratio 3/4 to 4/3.

    Returns:
        (left, top, right, bottom) in pixels; a centre crop where ten draws did not fit.
    """
    for _ in range(10):
        area = width * height * uniform(rng, *scale)
        ratio = math.exp(uniform(rng, *_LOG_RATIOS))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def random_crop(image: Image.Image, size: int, scale: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Crop at random and resize (bicubic) to `size` x `size`; returns `(3, size, size)` uint8."""
    box = random_crop_box(*image.size, scale, rng)
    crop = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(crop).transpose(2, 0, 1)


def random_downsample(
    image: Image.Image, probability: float, sizes: list[int], rng: np.random.Generator
) -> Image.Image:
    """With a small probability shrink the short side to one of `sizes` and enlarge again (StableRep), bilinear."""
    shrink = draw_shrinking(image.size, probability, sizes, rng)
    return image if shrink is None else downsample(image, shrink)


def draw_shrinking(
    size: tuple[int, int], probability: float, sizes: list[int], rng: np.random.Generator
) -> float | None:
    """Draw by which factor, below 1, `random_downsample` shrinks a picture of that `size`; `None`: it stays."""
    if rng.random() >= probability:
        return None
    shrink = sizes[int(rng.integers(len(sizes)))] / min(size)
    return shrink if shrink < 1 else None


def downsample(image: Image.Image, shrink: float) -> Image.Image:
    """Shrink by that factor and enlarge again."""
    small = image.resize([max(1, round(side * shrink)) for side in image.size], Image.Resampling.BILINEAR)
    return small.resize(image.size, Image.Resampling.BILINEAR)

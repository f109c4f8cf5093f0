"""All crops of the pictures of a caption: what the data loader's workers do, on uint8.

`plain_crops` decodes a picture, draws the boxes and cuts each by Pillow. `fast_crops` draws the same numbers before it
decodes, so that a JPEG of which only small pieces are wanted is decoded smaller, and cuts by torch, whose kernel for
bytes takes a fifth of Pillow's time and gives the same to one of 255 levels. Two things differ: at the border of a
crop Pillow looks a little beyond the box and torch does not (nor does the reference, which cuts first); and of a
picture that was decoded smaller the box is rounded to whole pixels of the smaller one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from synclr_hf.data.pictures import UndecodedPicture, open_picture

from .configuration import ViewsConfig
from .crops import downsample, draw_shrinking, random_crop, random_crop_box, random_downsample

Box = tuple[int, int, int, int]
Crops = dict[str, torch.Tensor]
"""`global` `(N G, 3, H, W)` and, where there are some, `local` `(N G L, 3, h, w)`, uint8."""


def plain_crops(pictures: list[Any], config: ViewsConfig, rng: np.random.Generator) -> Crops:
    """Decode N pictures and crop them, by Pillow.

    Raises:
        OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError: a picture cannot be read.
    """
    crops: dict[str, list[np.ndarray]] = {"global": [], "local": []}
    for image in [open_picture(picture) for picture in pictures]:
        image = random_downsample(image, config.downsample_probability, config.downsample_sizes, rng)
        for _ in range(config.num_global_crops):
            crops["global"].append(random_crop(image, config.global_crop_size, config.global_crop_scale, rng))
            for _ in range(config.num_local_crops):
                crops["local"].append(random_crop(image, config.local_crop_size, config.local_crop_scale, rng))
    return {stream: torch.from_numpy(np.stack(found)) for stream, found in crops.items() if found}


def fast_crops(pictures: list[Any], config: ViewsConfig, rng: np.random.Generator) -> Crops:
    """Do what `plain_crops` does, faster; the crops are channels-last in memory.

    Raises:
        OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError: a picture cannot be read.
    """
    sizes = {"global": config.global_crop_size, "local": config.local_crop_size}
    counts = {"global": len(pictures) * config.num_global_crops}
    if config.num_local_crops:
        counts["local"] = counts["global"] * config.num_local_crops
    crops = {
        stream: torch.empty(count, sizes[stream], sizes[stream], 3, dtype=torch.uint8)
        for stream, count in counts.items()
    }
    places = dict.fromkeys(sizes, 0)
    for picture in map(UndecodedPicture, pictures):
        shrink = draw_shrinking(picture.size, config.downsample_probability, config.downsample_sizes, rng)
        boxes = draw_boxes(picture.size, config, rng)
        reduction = 1 if shrink is not None else largest_reduction([(box, sizes[stream]) for stream, box in boxes])
        image = picture.decode(reduction)
        if shrink is not None:
            image = downsample(image, shrink)
        pixels = torch.from_numpy(np.array(image))
        for stream, box in boxes:
            crops[stream][places[stream]] = cut(pixels, scaled(box, picture.size, image.size), sizes[stream])
            places[stream] += 1
    return {stream: found.permute(0, 3, 1, 2) for stream, found in crops.items()}


def draw_boxes(size: tuple[int, int], config: ViewsConfig, rng: np.random.Generator) -> list[tuple[str, Box]]:
    """Draw the boxes of a picture of that `size` as `plain_crops` does: each global one, then its local ones."""
    boxes = []
    for _ in range(config.num_global_crops):
        boxes.append(("global", random_crop_box(*size, config.global_crop_scale, rng)))
        for _ in range(config.num_local_crops):
            boxes.append(("local", random_crop_box(*size, config.local_crop_scale, rng)))
    return boxes


def largest_reduction(boxes: list[tuple[Box, int]]) -> int:
    """Return by how much (1, 2, 4 or 8) a picture may be reduced so that no `(box, side of its crop)` is enlarged."""
    least = min(min(box[2] - box[0], box[3] - box[1]) / side for box, side in boxes)
    return 2 ** min(3, max(0, math.floor(math.log2(least))))


def scaled(box: Box, size: tuple[int, int], reduced: tuple[int, int]) -> Box:
    """Return where `box` of a picture of that `size` lies in its `reduced` form, in whole pixels."""
    if size == reduced:
        return box
    across, down = reduced[0] / size[0], reduced[1] / size[1]
    left, top = round(box[0] * across), round(box[1] * down)
    right, bottom = round(box[2] * across), round(box[3] * down)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def cut(pixels: torch.Tensor, box: Box, side: int) -> torch.Tensor:
    """Resize the `box` of `(H, W, 3)` uint8 to `(side, side, 3)`, bicubic with antialiasing."""
    left, top, right, bottom = box
    if torch.backends.cpu.get_cpu_capability() not in _FAST_CAPABILITIES:
        image = Image.fromarray(pixels[top:bottom, left:right].numpy())
        return torch.from_numpy(np.array(image.resize((side, side), Image.Resampling.BICUBIC)))
    inside = pixels[None].permute(0, 3, 1, 2)[:, :, top:bottom, left:right]
    return nn.functional.interpolate(inside, size=(side, side), mode="bicubic", antialias=True)[0].permute(1, 2, 0)


_FAST_CAPABILITIES = ("AVX2", "AVX512")
"""Processors for which torch has the kernel for bytes that is worth it."""

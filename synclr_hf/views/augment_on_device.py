"""The photometric augmentation as one function of a batch, for a device: no wait, and few kernels once compiled.

Nothing in it depends on numbers that the host would have to read first: every image goes through every operation, and
`torch.where` keeps what its parameters ask for. That is more arithmetic than `augment_plain` does and less time, since
the compiled kernels read and write a picture a few times instead of some sixty times.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import nn

from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD
from synclr_hf.devices import compiled_on_gpu

from .photometric import (
    BLUR_KERNEL_SIZE,
    BRIGHTNESS,
    CONTRAST,
    FLIP,
    GRAY,
    HUE,
    JITTER_ORDERS,
    LUMA,
    ORDER,
    SATURATION,
    SIGMA,
    SOLARIZE,
    shift_hue_of_planes,
)


@lru_cache
def constants(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return `JITTER_ORDERS`, mean and standard deviation `(3, 1, 1)` on a device; copied there once."""
    tables = (JITTER_ORDERS, torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None])
    return tuple(table.to(device) for table in tables)


@compiled_on_gpu(dynamic=False)
def augment_batch(
    pixels: torch.Tensor, parameters: torch.Tensor, orders: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """Do what `augment` does, with the `constants` as arguments; all shapes are known from those of the arguments."""
    columns = parameters[:, :, None, None].unbind(1)  # nine of (B, 1, 1)
    images = pixels.to(torch.float32, memory_format=torch.contiguous_format) / 255
    images = torch.where(columns[FLIP][:, None] > 0, images.flip(3), images)
    planes = jitter_planes(images.unbind(1), columns, orders)
    gray = luma_of(planes)
    images = torch.stack([torch.where(columns[GRAY] > 0, gray, plane) for plane in planes], 1)
    images = blur_batch(images, parameters[:, SIGMA])
    images = torch.where((columns[SOLARIZE][:, None] > 0) & (images >= 128 / 255), 1 - images, images)
    return (images - mean) / std


def luma_of(planes: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the luma of red, green and blue."""
    return LUMA[0] * planes[0] + LUMA[1] * planes[1] + LUMA[2] * planes[2]


def jitter_planes(
    planes: Sequence[torch.Tensor], columns: Sequence[torch.Tensor], orders: torch.Tensor
) -> Sequence[torch.Tensor]:
    """Apply brightness, contrast, saturation and hue to three planes `(B, H, W)`, each image in its own order.

    The planes stay apart, so that a kernel that reads a pixel's three values once computes all that follows of them.

    Args:
        planes: red, green and blue in [0, 1].
        columns: the nine parameters, `(B, 1, 1)` each.
        orders: `JITTER_ORDERS`.
    """
    own_orders = orders[columns[ORDER][:, 0, 0].long()][:, :, None, None].unbind(1)
    touched = columns[HUE] != 0
    for column in (BRIGHTNESS, CONTRAST, SATURATION):
        touched = touched | (columns[column] != 1)
    for operation in own_orders:
        # Brightness blends with black, contrast with the mean luma, saturation with the luma of each pixel.
        luma = luma_of(planes)
        base = torch.where(operation == 1, luma.mean((1, 2), keepdim=True), luma)
        base = torch.where(operation == 0, 0.0, base)
        factor = torch.where(operation == 0, columns[BRIGHTNESS], columns[CONTRAST])
        factor = torch.where(operation == 2, columns[SATURATION], factor)
        hued = shift_hue_of_planes(*planes, columns[HUE])
        blended = [(base + factor * (plane - base)).clamp(0, 1) for plane in planes]
        changed = [torch.where(operation == 3, *pair) for pair in zip(hued, blended, strict=True)]
        planes = [torch.where(touched, *pair) for pair in zip(changed, planes, strict=True)]
    return planes


def blur_batch(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Blur `(B, 3, H, W)` each by its own `sigma` `(B,)` in pixels; with 0 the taps leave the picture as it is."""
    half = BLUR_KERNEL_SIZE // 2
    height, width = images.shape[2:]
    sigma = sigma.clamp(min=1e-3)
    weights = [torch.exp(-0.5 * (distance / sigma) ** 2) for distance in range(half + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    weights = [(weight / total)[:, None, None, None] for weight in weights]
    images = nn.functional.pad(images, (half, half, half, half), mode="reflect")
    images = sum(weights[abs(tap)] * images[..., half + tap : half + tap + width] for tap in range(-half, half + 1))
    return sum(weights[abs(tap)] * images[:, :, half + tap : half + tap + height] for tap in range(-half, half + 1))


def augment_on_device(pixels: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Do what `augment` does on a device, without waiting for it."""
    return augment_batch(pixels, parameters, *constants(pixels.device))

"""The photometric augmentation as one function of a batch, for a device: no wait, and few kernels once compiled.

Nothing in it depends on numbers that the host would have to read first: every image goes through every operation, and
`torch.where` keeps what its parameters ask for. That is more arithmetic than `augment_plain` does and less time, since
the compiled kernels read and write a picture a few times instead of some sixty times.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import nn

from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD

from .photometric import (
    BLUR_KERNEL_SIZE,
    BRIGHTNESS,
    CONTRAST,
    FLIP,
    GRAY,
    HUE,
    JITTER_ORDERS,
    ORDER,
    SATURATION,
    SIGMA,
    SOLARIZE,
    grayscale,
    shift_hue,
)

logger = logging.getLogger(__name__)


@lru_cache
def constants(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return `JITTER_ORDERS`, mean and standard deviation `(3, 1, 1)` on a device; copied there once."""
    tables = (JITTER_ORDERS, torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None])
    return tuple(table.to(device) for table in tables)


def augment_batch(
    pixels: torch.Tensor, parameters: torch.Tensor, orders: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """Do what `augment` does, with the `constants` as arguments; all shapes are known from those of the arguments."""
    columns = parameters[:, :, None, None, None].unbind(1)  # nine of (B, 1, 1, 1)
    images = pixels.float() / 255
    images = torch.where(columns[FLIP] > 0, images.flip(3), images)
    images = jitter_batch(images, parameters, orders)
    images = torch.where(columns[GRAY] > 0, grayscale(images), images)
    images = blur_batch(images, parameters[:, SIGMA])
    images = torch.where((columns[SOLARIZE] > 0) & (images >= 128 / 255), 1 - images, images)
    return (images - mean) / std


def jitter_batch(images: torch.Tensor, parameters: torch.Tensor, orders: torch.Tensor) -> torch.Tensor:
    """Apply brightness, contrast, saturation and hue to `(B, 3, H, W)`, each image in its own of the `orders`."""
    columns = parameters[:, :, None, None, None].unbind(1)
    own_orders = orders[parameters[:, ORDER].long()][:, :, None, None, None].unbind(1)
    touched = columns[HUE] != 0
    for column in (BRIGHTNESS, CONTRAST, SATURATION):
        touched = touched | (columns[column] != 1)
    for operation in own_orders:
        gray = grayscale(images)
        # Brightness blends with black, contrast with the mean grey, saturation with the grey of each pixel.
        base = torch.where(operation == 1, gray.mean((2, 3), keepdim=True), gray)
        base = torch.where(operation == 0, 0.0, base)
        factor = torch.where(operation == 0, columns[BRIGHTNESS], columns[CONTRAST])
        factor = torch.where(operation == 2, columns[SATURATION], factor)
        blended = (base + factor * (images - base)).clamp(0, 1)
        changed = torch.where(operation == 3, shift_hue(images, parameters[:, HUE]), blended)
        images = torch.where(touched, changed, images)
    return images


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


class CompiledOnCuda:
    """Compiles a function when it first gets CUDA tensors, and calls it as it is wherever that is impossible."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        self.function, self.compiled, self.usable = function, None, True

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Return the function's result; what went wrong with compiling is told once."""
        if self.usable and tensors[0].device.type == "cuda":
            try:
                return self._call_compiled(*tensors)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # no compiler on the machine, a torch that cannot: it is slower, not wrong
                self.usable = False
                logger.warning("the augmentation runs uncompiled: %s", str(error).strip().partition("\n")[0])
        return self.function(*tensors)

    def _call_compiled(self, *tensors: torch.Tensor) -> torch.Tensor:
        if self.compiled is None:
            from torch.utils._triton import has_triton

            if not has_triton():
                raise RuntimeError("Triton is missing or does not know this GPU")
            self.compiled = torch.compile(self.function, dynamic=False)
        return self.compiled(*tensors)


_augment_batch = CompiledOnCuda(augment_batch)


def augment_on_device(pixels: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Do what `augment` does on a device, without waiting for it."""
    return _augment_batch(pixels, parameters, *constants(pixels.device))

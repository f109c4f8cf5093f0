"""The photometric part of the augmentation: the one place where it is asked for."""

from __future__ import annotations

import torch

from synclr_hf.implementation import check_implementation

from .augment_on_device import augment_on_device
from .augment_on_host import augment_on_host
from .photometric import augment_plain


@torch.no_grad()
def augment(pixels: torch.Tensor, parameters: torch.Tensor, implementation: str = "fast") -> torch.Tensor:
    """Flip, jitter the colours, make grey, blur, solarise and normalise, each image by its own parameters.

    Args:
        pixels: `(B, 3, H, W)` uint8; H, W at least 5.
        parameters: `(B, 9)` float32, from `draw_parameters`, on the same device.
        implementation: `plain`, the readable form, or `fast`, which gives the same up to the rounding of float32:
            image by image on a CPU, elsewhere one function of the whole batch that never waits for the device and is
            compiled on CUDA.

    Returns:
        `(B, 3, H, W)` float32 with ImageNet mean and standard deviation removed.

    Raises:
        UserInputError: no such implementation.
    """
    check_implementation(implementation)
    if implementation == "plain":
        return augment_plain(pixels, parameters)
    return (
        augment_on_host(pixels, parameters) if pixels.device.type == "cpu" else augment_on_device(pixels, parameters)
    )

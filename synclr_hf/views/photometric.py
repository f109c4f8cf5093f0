"""Flip, colour jitter, grey, blur, solarise, normalise: one set of parameters an image; the readable form.

Order and distributions of the reference's augmentation (BYOL's). Deviation named: the reference rounds to 8 bits
between the operations, this runs in float32 in [0, 1].

`augment_plain` is what `augment_on_host` and `augment_on_device` are compared with by the tests.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import torch
from torch import nn

from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD

from .configuration import ViewsConfig
from .crops import uniform

FLIP, BRIGHTNESS, CONTRAST, SATURATION, HUE, ORDER, GRAY, SIGMA, SOLARIZE = range(9)
"""Columns of the parameters `(B, 9)`. Factors 1, hue 0, sigma 0 and flags 0 leave a picture as it is."""

JITTER_ORDERS = torch.tensor(list(permutations(range(4))))
"""`(24, 4)`: the order in which brightness (0), contrast (1), saturation (2) and hue (3) are applied."""

GLOBAL_KINDS = ((1, 0), (0.1, 0.2))
"""Probabilities of (blur, solarisation) of the two kinds of global crops (BYOL, reference)."""

LUMA = (0.299, 0.587, 0.114)
BLUR_KERNEL_SIZE = 9


def draw_parameters(config: ViewsConfig, local: bool, rng: np.random.Generator, kind: int | None = None) -> np.ndarray:
    """Draw the parameters `(9,)` float32 of one crop.

    Args:
        config: probabilities and strengths.
        local: whether it is a local crop.
        rng: where the numbers come from.
        kind: of a global crop, 0 or 1 (see `GLOBAL_KINDS`); drawn when left out.
    """
    parameters = [0, 1, 1, 1, 0, 0, 0, 0, 0]
    parameters[FLIP] = rng.random() < 0.5
    if rng.random() < config.color_jitter_probability:
        for column, strength in zip((BRIGHTNESS, CONTRAST, SATURATION), config.color_jitter[:3], strict=True):
            parameters[column] = uniform(rng, max(0, 1 - strength), 1 + strength)
        parameters[HUE] = uniform(rng, -config.color_jitter[3], config.color_jitter[3])
        parameters[ORDER] = rng.integers(len(JITTER_ORDERS))
    parameters[GRAY] = rng.random() < config.grayscale_probability
    if local:
        blur, solarize = config.local_blur_probability, 0
    else:
        blur, solarize = GLOBAL_KINDS[rng.integers(2) if kind is None else kind]
    if rng.random() < blur:
        parameters[SIGMA] = uniform(rng, *config.blur_sigma)
    parameters[SOLARIZE] = rng.random() < solarize
    return np.array(parameters, dtype=np.float32)


def grayscale(pixels: torch.Tensor) -> torch.Tensor:
    """Return the luma `(B, 1, H, W)` of `(B, 3, H, W)`."""
    red, green, blue = pixels.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)


def shift_hue(pixels: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn the hue of `(B, 3, H, W)` in [0, 1] by `turns` `(B,)` (1 = full circle), through HSV."""
    return torch.stack(shift_hue_of_planes(*pixels.unbind(1), turns[:, None, None]), 1)


def shift_hue_of_planes(
    red: torch.Tensor, green: torch.Tensor, blue: torch.Tensor, turns: torch.Tensor
) -> list[torch.Tensor]:
    """Turn the hue of three planes `(B, H, W)` in [0, 1] by `turns` `(B, 1, 1)`; returns three planes."""
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    safe = chroma.clamp(min=1e-8)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = (hue + 6 * turns).remainder(6)
    # Each channel is value - chroma * clamp(min(k, 4 - k), 0, 1) with k = (n + hue) mod 6, n = 5, 3, 1 for R, G, B.
    places = ((hue + n).remainder(6) for n in (5.0, 3.0, 1.0))
    return [value - chroma * torch.minimum(k, 4 - k).clamp(0, 1) for k in places]


def color_jitter(pixels: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Apply brightness, contrast, saturation and hue to `(B, 3, H, W)` in [0, 1], each image in its own order."""

    def blend(images: torch.Tensor, base: torch.Tensor | float, factor: torch.Tensor) -> torch.Tensor:
        return (base + factor[:, None, None, None] * (images - base)).clamp(0, 1)

    operations = (
        lambda images, p: blend(images, 0.0, p[:, BRIGHTNESS]),
        lambda images, p: blend(images, grayscale(images).mean((2, 3), keepdim=True), p[:, CONTRAST]),
        lambda images, p: blend(images, grayscale(images), p[:, SATURATION]),
        lambda images, p: shift_hue(images, p[:, HUE]),
    )
    orders = JITTER_ORDERS.to(pixels.device)[parameters[:, ORDER].long()]
    touched = (parameters[:, BRIGHTNESS : HUE + 1] != parameters.new_tensor([1, 1, 1, 0])).any(1)
    for place in range(4):
        for number, operation in enumerate(operations):
            rows = (touched & (orders[:, place] == number)).nonzero().squeeze(1)
            if len(rows):
                pixels[rows] = operation(pixels[rows], parameters[rows])
    return pixels


def gaussian_blur(pixels: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Blur each image of `(B, 3, H, W)` by its own `sigma` `(B,)` in pixels; kernel of 9 taps, reflected borders."""
    half = BLUR_KERNEL_SIZE // 2
    taps = torch.arange(-half, half + 1, device=pixels.device, dtype=pixels.dtype)
    kernel = torch.exp(-0.5 * (taps / sigma[:, None].clamp(min=1e-3)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]
    batch, channels, height, width = pixels.shape
    images = nn.functional.pad(pixels, (half, half, half, half), mode="reflect").reshape(
        1, batch * channels, -1, width + 2 * half
    )
    images = nn.functional.conv2d(images, kernel[:, :, None, :], groups=batch * channels)
    images = nn.functional.conv2d(images, kernel[:, :, :, None], groups=batch * channels)
    return images.reshape(batch, channels, height, width)


def augment_plain(pixels: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Apply the photometric part of the augmentation; arguments and result of `augment`."""
    images = pixels.float() / 255
    images = torch.where(parameters[:, FLIP, None, None, None] > 0, images.flip(3), images)
    images = color_jitter(images, parameters)
    images = torch.where(parameters[:, GRAY, None, None, None] > 0, grayscale(images), images)
    blurred = (parameters[:, SIGMA] > 0).nonzero().squeeze(1)
    if len(blurred):
        images[blurred] = gaussian_blur(images[blurred], parameters[blurred, SIGMA])
    solarized = (parameters[:, SOLARIZE, None, None, None] > 0) & (images >= 128 / 255)
    images = torch.where(solarized, 1 - images, images)
    mean, std = images.new_tensor(IMAGENET_MEAN), images.new_tensor(IMAGENET_STD)
    return (images - mean[:, None, None]) / std[:, None, None]

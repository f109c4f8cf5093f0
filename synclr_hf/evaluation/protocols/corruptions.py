"""The fifteen common corruptions of ImageNet-C, drawn from a seed, in numpy and Pillow alone.

Kinds and strengths follow Hendrycks & Dietterich 2019 ("Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations") and their `make_imagenet_c.py`. What is given in pixels there is for pictures of 224 px and is
scaled to the side of a picture here, so that a corruption looks the same at any resolution. Published mean corruption
errors (mCE) do not compare with numbers made here: pictures are other ones (corrupted after they are resized and
cropped, never stored as JPEG), and these corruptions differ:

- frost: the original lays photographs of frozen windows over the picture; here the ice is drawn
  (`textures.frost_layer`), and severities 4 and 5 are stronger, so that each one changes more than the one before.
- elastic: the original's severities 1 and 2 are another, larger warp than 3 to 5; here all five are of one kind,
  without its small random affine map.
- glass blur: pixels take the value of a place nearby all at once (bilinear, so that distances below a pixel count in
  small pictures); the original swaps them one after another.
- snow: thresholds, flakes and trails of our own that grow evenly from severity to severity.
- fog: smooth noise of several octaves in place of the diamond-square fractal, with the original's decay an octave;
  strength 3 and 3.6 at severities 4 and 5 (2.5 and 3 there).
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import unknown_name
from synclr_hf.evaluation.protocols.textures import (
    convolved,
    disk_kernel,
    frost_layer,
    gaussian_kernel,
    motion_kernel,
    octave_noise,
    sampled,
    snow_layer,
)

SEVERITIES = (1, 2, 3, 4, 5)
REFERENCE_SIDE = 224
"""Side of the pictures that the strengths in pixels are for."""

Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
"""(H, W, 3) float64 in 0..1, severity - 1, generator -> (H, W, 3), clipped afterwards."""


def corrupted(pixels: np.ndarray, kind: str, severity: int, *, seed: int) -> np.ndarray:
    """Corrupt one picture.

    Args:
        pixels: (H, W, 3) uint8.
        kind: one of `CORRUPTIONS`.
        severity: 1 (weak) to 5 (strong).
        seed: of this picture; equal seeds give equal pixels, and the same pattern at every severity.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UserInputError: there is no such corruption or severity.
    """
    if kind not in CORRUPTIONS:
        raise unknown_name("corruption", kind, CORRUPTIONS, "robustness.kinds=fog,snow")
    if severity not in SEVERITIES:
        raise unknown_name("severity", severity, map(str, SEVERITIES), "robustness.severities=1,3,5")
    generator = np.random.default_rng(seed_for(seed, "corruption", kind))
    values = CORRUPTIONS[kind](pixels.astype(np.float64) / 255, severity - 1, generator)
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _scale(pixels: np.ndarray) -> float:
    """Return what lengths in pixels are multiplied by."""
    return min(pixels.shape[:2]) / REFERENCE_SIDE


def _gaussian_noise(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    return pixels + generator.normal(scale=(0.08, 0.12, 0.18, 0.26, 0.38)[level], size=pixels.shape)


def _shot_noise(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    photons = (60, 25, 12, 5, 3)[level]
    return generator.poisson(pixels * photons) / photons


def _impulse_noise(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[level]
    drawn = generator.random(pixels.shape)  # a channel of a pixel is hit on its own
    return np.where(drawn < share / 2, 0.0, np.where(drawn < share, 1.0, pixels))


def _defocus_blur(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    radius, softness = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[level]
    return convolved(pixels, disk_kernel(radius * _scale(pixels), softness * _scale(pixels)))


def _glass_blur(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    sigma, reach, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[level]
    kernel, reach = gaussian_kernel(sigma * _scale(pixels)), reach * _scale(pixels)
    height, width = pixels.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    pixels = convolved(pixels, kernel)
    for _ in range(rounds):
        down, right = generator.uniform(-reach, reach, (2, height, width))
        pixels = sampled(pixels, rows + down, columns + right)
    return convolved(pixels, kernel)


def _motion_blur(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[level]
    scale, angle = _scale(pixels), generator.uniform(-45, 45)
    return convolved(pixels, motion_kernel(radius * scale, sigma * scale, angle))


def _zoom_blur(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    most, step = ((1.10, 0.01), (1.15, 0.01), (1.20, 0.02), (1.25, 0.02), (1.30, 0.03))[level]
    image, (height, width) = _image(pixels), pixels.shape[:2]
    layers = [pixels]
    for zoom in np.arange(1, most + step / 2, step):
        top, left = (height - height / zoom) / 2, (width - width / zoom) / 2
        box = (left, top, width - left, height - top)
        layers.append(np.asarray(image.resize(image.size, Image.Resampling.BILINEAR, box=box)) / 255)
    return np.mean(layers, axis=0)


def _snow(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    threshold, flake, length, kept = (
        (0.62, 3.0, 4, 0.80),
        (0.55, 3.0, 4, 0.75),
        (0.50, 3.5, 6, 0.70),
        (0.45, 4.0, 8, 0.65),
        (0.40, 4.0, 10, 0.55),
    )[level]
    flakes = snow_layer(pixels.shape[:2], threshold, flake, length, generator, _scale(pixels))[..., None]
    grey = pixels.mean(axis=2, keepdims=True)
    pale = kept * pixels + (1 - kept) * np.maximum(pixels, grey * 1.5 + 0.5)
    return pale + flakes + np.rot90(flakes, 2)


def _frost(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    kept, ice = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.6, 0.75), (0.5, 0.85))[level]
    return kept * pixels + ice * frost_layer(pixels.shape[:2], generator)


def _fog(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    strength, decay = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (3.0, 1.5), (3.6, 1.4))[level]
    brightest = pixels.max()
    clouds = octave_noise(pixels.shape[:2], decay, generator)[..., None]
    return (pixels + strength * clouds) * brightest / (brightest + strength)


def _brightness(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    value = pixels.max(axis=2, keepdims=True)  # V of HSV; hue and saturation stay
    brighter = np.minimum(value + (0.1, 0.2, 0.3, 0.4, 0.5)[level], 1)
    return np.where(value > 0, pixels / np.maximum(value, 1e-9), 1) * brighter


def _contrast(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return mean + (pixels - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[level]


def _elastic(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    height, width = pixels.shape[:2]
    side = min(height, width)
    reach = (0.03, 0.04, 0.05, 0.07, 0.12)[level] * side
    shifts = reach * convolved(generator.uniform(-1, 1, (height, width, 2)), gaussian_kernel(max(0.01 * side, 0.5)))
    rows, columns = np.mgrid[:height, :width]
    return sampled(pixels, rows + shifts[..., 0], columns + shifts[..., 1])


def _pixelate(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[level]
    image = _image(pixels)
    small = image.resize([max(1, int(side * share)) for side in image.size], Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.NEAREST)) / 255


def _jpeg(pixels: np.ndarray, level: int, generator: np.random.Generator) -> np.ndarray:
    stream = BytesIO()
    _image(pixels).save(stream, "JPEG", quality=(25, 18, 15, 10, 7)[level])
    return np.asarray(Image.open(stream).convert("RGB")) / 255


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(pixels * 255).astype(np.uint8))


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic": _elastic,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}
"""Name -> function, in the order of the paper: noise, blur, weather, digital."""

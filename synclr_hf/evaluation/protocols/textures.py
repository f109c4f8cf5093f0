"""What corruptions are made of: blur kernels, sampling between pixels, and drawn weather."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

_ICE = np.array([0.80, 0.90, 1.0])
"""Colour of thick ice, red, green and blue in 0..1."""


def convolved(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve every channel with a kernel, edges mirrored.

    Args:
        values: (H, W, C) float.
        kernel: (k, k) float, k odd.

    Returns:
        (H, W, C) float64.
    """
    reach = kernel.shape[0] // 2
    if reach == 0:
        return values * kernel[0, 0]
    padded = np.pad(values, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    shape = [side + 2 * reach for side in padded.shape[:2]]
    spectrum = np.fft.rfft2(padded, shape, axes=(0, 1)) * np.fft.rfft2(kernel, shape)[..., None]
    full = np.fft.irfft2(spectrum, shape, axes=(0, 1))
    return full[2 * reach : 2 * reach + values.shape[0], 2 * reach : 2 * reach + values.shape[1]]


def gaussian_kernel(sigma: float) -> np.ndarray:
    """Return a Gaussian of a standard deviation in pixels, (k, k), sum 1."""
    reach = max(math.ceil(3 * sigma), 1)
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    kernel = np.outer(line, line)
    return kernel / kernel.sum()


def disk_kernel(radius: float, softness: float) -> np.ndarray:
    """Return a disk, the picture of a point out of focus, (k, k), sum 1.

    Args:
        radius: in pixels, fractions of one count.
        softness: standard deviation in pixels of the blur of its edge.
    """
    reach = math.ceil(radius + 3 * softness) + 1
    fine = (np.arange((2 * reach + 1) * 5) - 2) / 5 - reach  # five points a pixel
    inside = (np.hypot(fine[:, None], fine[None]) <= radius + 0.5).astype(float)
    kernel = inside.reshape(2 * reach + 1, 5, 2 * reach + 1, 5).mean(axis=(1, 3))
    kernel = convolved(kernel[..., None], gaussian_kernel(softness))[..., 0]
    return kernel / kernel.sum()


def motion_kernel(radius: float, sigma: float, angle: float) -> np.ndarray:
    """Return a line that starts in the middle and fades, (k, k), sum 1, as ImageMagick's motion blur.

    Args:
        radius: the line is 2 x radius + 1 pixels long.
        sigma: standard deviation in pixels of the Gaussian along it.
        angle: its direction in degrees.
    """
    length = 2 * radius
    reach = math.ceil(length) + 1
    along = np.arange(0, length + 0.05, 0.1)
    weights = np.exp(-0.5 * (along / max(sigma, 1e-3)) ** 2)
    rows = reach + along * math.sin(math.radians(angle))
    columns = reach + along * math.cos(math.radians(angle))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    for down in (0, 1):
        for right in (0, 1):  # each point is spread over the four pixels around it
            share = (1 - abs(rows - top - down)) * (1 - abs(columns - left - right))
            np.add.at(kernel, (top + down, left + right), weights * share)
    return kernel / kernel.sum()


def sampled(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Read a picture between its pixels (bilinear); what lies outside takes the value of the edge.

    Args:
        values: (H, W, C) float.
        rows: (h, w) float, in pixels from the top.
        columns: (h, w) float, in pixels from the left.

    Returns:
        (h, w, C) float.
    """
    rows, columns = np.clip(rows, 0, values.shape[0] - 1), np.clip(columns, 0, values.shape[1] - 1)
    top = np.minimum(np.floor(rows).astype(int), max(values.shape[0] - 2, 0))
    left = np.minimum(np.floor(columns).astype(int), max(values.shape[1] - 2, 0))
    bottom, right = np.minimum(top + 1, values.shape[0] - 1), np.minimum(left + 1, values.shape[1] - 1)
    down, across = (rows - top)[..., None], (columns - left)[..., None]
    upper = values[top, left] * (1 - across) + values[top, right] * across
    lower = values[bottom, left] * (1 - across) + values[bottom, right] * across
    return upper * (1 - down) + lower * down


def octave_noise(shape: tuple[int, int], decay: float, generator: np.random.Generator) -> np.ndarray:
    """Return smooth clouds, (H, W) in 0..1: noise on finer and finer grids, each `decay` times weaker.

    Args:
        shape: height and width.
        decay: larger is smoother.
        generator: of the noise; equal generators give clouds of the same layout for every decay.
    """
    height, width = shape
    clouds = np.zeros(shape)
    for octave in range(max(1, math.ceil(math.log2(max(shape))))):
        cells = 2 ** (octave + 1)
        clouds += _enlarged(generator.uniform(-1, 1, (cells + 1, cells + 1)), shape) / decay**octave
    clouds -= clouds.min()
    return clouds / max(float(clouds.max()), 1e-9)


def snow_layer(
    shape: tuple[int, int],
    threshold: float,
    flake: float,
    length: float,
    generator: np.random.Generator,
    scale: float,
) -> np.ndarray:
    """Return falling flakes, (H, W) in 0..1.

    Args:
        shape: height and width.
        threshold: a lower one lets more flakes through.
        flake: size of a flake in pixels of a picture of 224 px.
        length: standard deviation of the trail of a flake, likewise.
        generator: of the flakes and their direction.
        scale: side of the picture / 224.
    """
    flake = max(flake * scale, 1.0)
    cells = [max(2, round(side / flake)) for side in shape]
    angle = generator.uniform(-135, -45)
    noise = _enlarged(generator.normal(0.1, 0.3, cells), shape)
    noise = np.where(noise < threshold, 0, np.clip(noise, 0, 1))
    kernel = motion_kernel(12 * scale, max(length * scale, 0.5), angle)
    trails = convolved(noise[..., None], kernel)[..., 0]
    return np.clip(trails, 0, 1)


def frost_layer(shape: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """Return ice on a window, (H, W, 3) in 0..1: fern-like crystals, thick at the edges and thin in the middle.

    Args:
        shape: height and width.
        generator: of the crystals.
    """
    height, width = shape
    fine = 2  # drawn at twice the size, then reduced, for soft lines
    canvas = Image.new("L", (width * fine, height * fine))
    draw = ImageDraw.Draw(canvas)
    side = min(height, width) * fine
    for _ in range(70):
        start = generator.uniform(0, 1, 2)
        if generator.random() < 0.7:  # most crystals grow at the frame
            near = generator.beta(1, 8)
            start[generator.integers(2)] = near if generator.random() < 0.5 else 1 - near
        angle, length = generator.uniform(0, 2 * math.pi), generator.uniform(0.06, 0.25) * side
        _fern(draw, start * [width * fine, height * fine], angle, length, side, generator)
    crystals = np.asarray(canvas.resize((width, height), Image.Resampling.BOX)) / 255
    rows, columns = np.mgrid[:height, :width]
    from_edge = np.minimum.reduce([rows / height, 1 - rows / height, columns / width, 1 - columns / width]) * 2
    haze = octave_noise(shape, 1.7, generator)
    thickness = np.clip(0.25 + 0.55 * haze + 0.35 * (1 - from_edge) - 0.15, 0, 1)
    light = np.clip(0.55 * thickness + 0.75 * crystals * (0.35 + 0.65 * thickness), 0, 1)[..., None]
    return light * (_ICE + (1 - _ICE) * light)


def _fern(
    draw: ImageDraw.ImageDraw,
    start: np.ndarray,
    angle: float,
    length: float,
    side: int,
    generator: np.random.Generator,
    depth: int = 2,
) -> None:
    """Draw a needle of ice with side needles at 60 degrees, which have side needles, too."""
    direction = np.array([math.cos(angle), math.sin(angle)])
    end = start + direction * length
    line_width = max(1, round(side * 0.004 * depth))
    draw.line([*start, *end], fill=int(generator.integers(130, 256)), width=line_width)
    if depth == 0 or length < max(0.02 * side, 4):  # too short to be seen
        return
    for place in np.linspace(0.15, 0.9, 6 if depth == 2 else 4):
        for turn in (-math.pi / 3, math.pi / 3):
            branch = length * (1 - place) * 0.55 * generator.uniform(0.6, 1.1)
            _fern(draw, start + direction * length * place, angle + turn, branch, side, generator, depth - 1)


def _enlarged(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Enlarge a grid to a height and width, smoothly (bicubic)."""
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC), dtype=np.float64)

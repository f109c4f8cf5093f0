"""The photometric augmentation on a CPU: in place, in groups that stay in the cache, only what is asked for.

Images that have the same order of colour operations are changed together, a few at a time, so that small crops do not
drown in the cost of calls; the rest of the work is done image by image. Values run from 0 to 255 until the end, which
saves a pass over them.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD

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
)

ELEMENTS_AT_ONCE = 2**17
"""Values of a group: 512 KiB, so that a group and what is computed of it fit in a core's second cache."""

PIECE = 56
"""Columns that are blurred by one matrix product, at most; a band of zeros is left out around it."""

_ORDERS = JITTER_ORDERS.tolist()
_SCALE = 1 / (255 * torch.tensor(IMAGENET_STD)[:, None, None])
_SHIFT = torch.tensor(IMAGENET_MEAN)[:, None, None] / torch.tensor(IMAGENET_STD)[:, None, None]
_LUMA = torch.tensor(LUMA)[:, None, None]
_UNTOUCHED = -1


def augment_on_host(pixels: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Do what `augment` does, on a CPU."""
    batch, channels, height, width = pixels.shape
    out = torch.empty(batch, channels, height, width)
    at_once = max(1, ELEMENTS_AT_ONCE // (channels * height * width))
    workspace = torch.empty(at_once, channels, height, width)
    table, taps = parameters.tolist(), _taps(parameters[:, SIGMA])
    for order, rows in _by_order(table).items():
        for start in range(0, len(rows), at_once):
            chosen = rows[start : start + at_once]
            group = workspace[: len(chosen)]
            for image, row in zip(group, chosen, strict=True):
                picture = pixels[row].contiguous()  # from channels-last, twice as fast as together with what follows
                image.copy_(picture.flip(2) if table[row][FLIP] > 0 else picture)
            if order != _UNTOUCHED:
                _jitter(group, parameters[chosen][:, :, None, None, None], _ORDERS[order])
            for image, row in zip(group, chosen, strict=True):
                image = _finished(image, table[row], taps[row])
                torch.mul(image, _SCALE, out=out[row]).sub_(_SHIFT)
    return out


def _by_order(table: list[list[float]]) -> dict[int, list[int]]:
    """Group rows by the order of their colour operations; `_UNTOUCHED` where no operation changes anything."""
    rows: dict[int, list[int]] = {}
    for row, values in enumerate(table):
        untouched = values[BRIGHTNESS : HUE + 1] == [1, 1, 1, 0]
        rows.setdefault(_UNTOUCHED if untouched else int(values[ORDER]), []).append(row)
    return rows


def _jitter(images: torch.Tensor, parameters: torch.Tensor, order: list[int]) -> None:
    """Change the colours of `(G, 3, H, W)` in place; `parameters` `(G, 9, 1, 1, 1)`."""
    brightness, contrast, saturation, turns = (
        parameters[:, column] for column in (BRIGHTNESS, CONTRAST, SATURATION, HUE)
    )
    for operation in order:
        if operation == 0:
            images.mul_(brightness)
            _clamp(images, brightness)
        elif operation == 1:
            means = images.mean((2, 3), keepdim=True)
            luma = (means * _LUMA).sum(1, keepdim=True)
            images.mul_(contrast).add_(luma * (1 - contrast))
            _clamp(images, contrast)
        elif operation == 2:
            torch.lerp(_grayscale(images), images, saturation, out=images)
            _clamp(images, saturation)
        else:
            _turn_hue(images, turns)


def _clamp(images: torch.Tensor, factors: torch.Tensor) -> None:
    """Bring values into [0, 255]; a factor of at most 1 mixes such values and needs no pass over them."""
    if factors.max() > 1:
        images.clamp_(0, 255)


def _grayscale(images: torch.Tensor) -> torch.Tensor:
    """Return the luma `(G, 1, H, W)` of `(G, 3, H, W)`."""
    red, green, blue = (images[:, channel : channel + 1] for channel in range(3))
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def _turn_hue(images: torch.Tensor, turns: torch.Tensor) -> None:
    """Turn the hue in place; `turns` `(G, 1, 1, 1)`, 1 = full circle.

    By up to a sixth of the circle it needs neither HSV nor a case for each sector. Of a pixel with the channels least
    <= middle <= most and turn = 6 turns (most - least), red becomes

        2 red - middle - turn sign(green - blue), clamped to least ... most,

    and green and blue likewise, in turn. (As a function of the hue a channel is a trapezoid; 2 red - middle is the
    triangle wave whose clamped form that trapezoid is, and it is on its rising side where green < blue.) Larger turns
    are taken in parts.
    """
    parts = max(1, -int(-6 * float(turns.abs().max()) // 1))
    red, green, blue = (images[:, channel : channel + 1] for channel in range(3))
    signs, plane = torch.empty_like(images), torch.empty_like(red)
    for _ in range(parts):
        lower, upper = torch.minimum(red, green), torch.maximum(red, green)
        middle = torch.maximum(lower, torch.minimum(upper, blue, out=plane), out=plane)
        least, most = torch.minimum(lower, blue, out=lower), torch.maximum(upper, blue, out=upper)
        for channel, (above, below) in enumerate(((green, blue), (blue, red), (red, green))):
            torch.sub(above, below, out=signs[:, channel : channel + 1])
        signs.sign_()
        torch.lerp(middle, images, 2.0, out=images)
        turn = torch.sub(most, least, out=plane).mul_(turns * (-6 / parts))
        images.addcmul_(signs, turn)
        torch.clamp(images, least, most, out=images)


def _finished(image: torch.Tensor, values: list[float], taps: torch.Tensor) -> torch.Tensor:
    """Make `(3, H, W)` grey, blur and solarise it as its nine `values` ask; a grey one has a single channel."""
    if values[GRAY] > 0:
        image = _grayscale(image[None])[0]
    if values[SIGMA] > 0:
        image = _blur(image, taps)
    if values[SOLARIZE] > 0:
        bright = (image >= 128).float()
        image = image.addcmul(bright, 255 - 2 * image)
    return image


def _taps(sigma: torch.Tensor) -> torch.Tensor:
    """Return the taps `(B, 9)` of the blur with `sigma` `(B,)` in pixels."""
    half = BLUR_KERNEL_SIZE // 2
    taps = torch.exp(-0.5 * (torch.arange(-half, half + 1) / sigma[:, None].clamp(min=1e-3)) ** 2)
    return taps / taps.sum(1, keepdim=True)


def _blur(image: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Blur `(C, H, W)` by products with matrices that hold the `taps` `(9,)`: faster than shifted sums or conv2d."""
    channels, height, width = image.shape
    rows, across = image.reshape(-1, width), torch.empty(channels * height, width)
    across_matrices = down_matrices = _matrices(width, taps)
    for (first, last, low, high, _), matrix in zip(_pieces(width), across_matrices, strict=True):
        torch.mm(rows[:, low:high], matrix.T, out=across[:, first:last])
    across, blurred = across.view(channels, height, width), torch.empty(channels, height, width)
    if height != width:
        down_matrices = _matrices(height, taps)
    for (first, last, low, high, _), matrix in zip(_pieces(height), down_matrices, strict=True):
        for plane, result in zip(across.unbind(), blurred.unbind(), strict=True):
            torch.mm(matrix, plane[low:high], out=result[first:last])
    return blurred


def _matrices(length: int, taps: torch.Tensor) -> list[torch.Tensor]:
    """Return for each piece of a side the matrix `(last - first, high - low)` that blurs it."""
    return [(taps @ places).view(last - first, high - low) for first, last, low, high, places in _pieces(length)]


@lru_cache(maxsize=16)
def _pieces(length: int) -> list[tuple[int, int, int, int, torch.Tensor]]:
    """Cut a side into pieces.

    Returns:
        For each piece `(first, last, low, high, places)`: values first ... last - 1 are made of low ... high - 1, and
        `places` `(9, (last - first) (high - low))` float32 is 1 where a tap, reflected at the borders, falls.
    """
    half, count = BLUR_KERNEL_SIZE // 2, -(-length // PIECE)
    edges = [length * piece // count for piece in range(count + 1)]
    pieces = []
    for first, last in zip(edges, edges[1:], strict=False):
        low, high = max(0, first - half), min(length, last + half)
        places = torch.zeros(BLUR_KERNEL_SIZE, last - first, high - low)
        for tap in range(BLUR_KERNEL_SIZE):
            for place in range(first, last):
                source = abs(place + tap - half)
                source = min(source, 2 * (length - 1) - source)
                places[tap, place - first, source - low] += 1
        pieces.append((first, last, low, high, places.flatten(1)))
    return pieces

"""Prediction of a whole picture by windows that slide over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Return where windows start along one side; the last one ends at the border.

    Args:
        length: of the side in pixels, at least `window`.
        window: in pixels.
        stride: between windows in pixels, at most `window`.
    """
    count = max(-(-(length - window) // stride), 0) + 1
    return [min(number * stride, length - window) for number in range(count)]


def sliding_logits(
    predict: Callable[[Tensor], Tensor], pixels: Tensor, *, window: int, stride: int, batch_size: int = 8
) -> Iterator[Tensor]:
    """Predict a picture of any size; where windows overlap their logits are averaged.

    A picture smaller than the window is filled up with zeros at the right and below, and the filling is cut off.
    Strips are given out as soon as no later window reaches them: no more than one window's height is held.

    Args:
        predict: turns (B, 3, window, window) into logits (B, C, window, window).
        pixels: (3, H, W) float, normalised.
        window: side in pixels.
        stride: between windows in pixels, at most `window`.
        batch_size: windows a call of `predict`.

    Yields:
        Strips of the averaged logits from the top, (C, rows, W) float32; their heights sum to H.
    """
    height, width = pixels.shape[1:]
    pixels = F.pad(pixels, (0, max(window - width, 0), 0, max(window - height, 0)))
    tops = window_starts(pixels.shape[1], window, stride)
    lefts = window_starts(pixels.shape[2], window, stride)
    sums, counts = None, pixels.new_zeros(window, pixels.shape[2])
    for place, top in enumerate(tops):
        for first in range(0, len(lefts), batch_size):
            chosen = lefts[first : first + batch_size]
            crops = torch.stack([pixels[:, top : top + window, left : left + window] for left in chosen])
            logits = predict(crops).float()
            if sums is None:
                counts = counts.to(logits.device)
                sums = logits.new_zeros(logits.shape[1], *counts.shape)
            for one, left in zip(logits, chosen, strict=True):
                sums[:, :, left : left + window] += one
                counts[:, left : left + window] += 1
        done = (tops[place + 1] if place + 1 < len(tops) else height) - top
        if place + 1 == len(tops):
            yield (sums / counts)[:, :done, :width]
            return
        yield (sums[:, :done] / counts[:done])[:, :, :width]
        sums = torch.cat([sums[:, done:], torch.zeros_like(sums[:, :done])], dim=1)
        counts = torch.cat([counts[done:], torch.zeros_like(counts[:done])])

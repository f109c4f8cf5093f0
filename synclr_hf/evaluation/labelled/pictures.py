"""Pictures as an encoder sees them: decoded, upright, RGB, resized and cropped in the centre."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from synclr_hf.data.pictures import DECODING_ERRORS, Picture, open_picture
from synclr_hf.data.workers import usable_cores

_MOST_THREADS = 16
_BATCHES_AHEAD = 2
_MOST_CUT_OFF = 4
"""Where a resized picture has more than so many times the pixels of the crop, only the crop is computed."""


@dataclass(frozen=True)
class Resizing:
    """How a picture comes to the size that an encoder sees.

    Attributes:
        short_side: pixels of the short side before the crop in the centre; `None`: the encoder's size, so that only
            what lies beside the square is cut off, as the paper's protocols do (B.5).
        squashes: both sides become `short_side`, the shape of the picture is lost (ViT, SigLIP, BEiT).
        resample: the filter, antialiased.
        rounds_corner: where an odd number of pixels is cut off, the corner of the crop is rounded to an even one, as
            torchvision and timm do; else rounded down, as transformers does.
    """

    short_side: int | None = None
    squashes: bool = False
    resample: Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"] = "bicubic"
    rounds_corner: bool = False


PLAIN = Resizing()
"""Short side to the encoder's size, bicubic, centre crop."""


def resize_and_crop(image: Image.Image, size: int, resizing: Resizing = PLAIN) -> Image.Image:
    """Resize a picture (antialiased) and crop the centre: `size` x `size` pixels.

    The same pixels as transformers' image processors. Of a very long picture, the parts that the crop would cut off
    are not computed: its pixels may differ by one of 256 levels.
    """
    width, height = image.size
    short = min(width, height)
    target = max(size, resizing.short_side or size)
    if resizing.squashes:
        resized_width = resized_height = target
    else:
        resized_width, resized_height = int(target * width / short), int(target * height / short)
    if (width, height) == (resized_width, resized_height) == (size, size):
        return image
    beside, above = resized_width - size, resized_height - size
    left, top = (round(beside / 2), round(above / 2)) if resizing.rounds_corner else (beside // 2, above // 2)
    resample = Image.Resampling[resizing.resample.upper()]
    if resized_width * resized_height <= _MOST_CUT_OFF * size * size:
        resized = image.resize((resized_width, resized_height), resample)
        return resized.crop((left, top, left + size, top + size))
    scale_x, scale_y = width / resized_width, height / resized_height
    right, bottom = min((left + size) * scale_x, width), min((top + size) * scale_y, height)
    box = (left * scale_x, top * scale_y, right, bottom)
    return image.resize((size, size), resample, box=box)


def picture_array(picture: Picture, size: int, resizing: Resizing = PLAIN) -> np.ndarray:
    """Return one picture as (size, size, 3) uint8, prepared as `resize_and_crop` says."""
    return np.asarray(resize_and_crop(open_picture(picture), size, resizing))


def prepared_batches(
    pictures: Sequence[Picture], *, size: int, batch_size: int, resizing: Resizing = PLAIN
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Prepare pictures batch by batch, decoding on several threads; unreadable ones are left out.

    The next batches are prepared while the caller works on one.

    Args:
        pictures: any sequence; items are read one after another and never held together.
        size: side of the prepared pictures in pixels.
        batch_size: pictures a batch before the unreadable ones are left out.
        resizing: how they come to that size.

    Yields:
        Places in `pictures` of the readable ones, (B,) int64, and their pixels, (B, size, size, 3) uint8.
    """
    places = [range(start, min(start + batch_size, len(pictures))) for start in range(0, len(pictures), batch_size)]
    for rows, pixels in prepared_places(pictures, places, size=size, resizing=resizing):
        yield rows, pixels.numpy()


def prepared_places(
    pictures: Sequence[Picture],
    batches: Sequence[range],
    *,
    size: int,
    resizing: Resizing = PLAIN,
    is_pinned: bool = False,
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Prepare chosen batches; see `prepared_batches`.

    Args:
        pictures: any sequence.
        batches: the places of each batch.
        size: side of the prepared pictures in pixels.
        resizing: how they come to that size.
        is_pinned: put the pixels where a CUDA device fetches them while other things go on.

    Yields:
        As `prepared_batches`, the pixels as a tensor.
    """

    def prepare(places: range) -> tuple[np.ndarray, Tensor]:
        batch = [pictures[place] for place in places]  # reading stays on one thread, decoding is spread
        pixels = torch.empty((len(batch), size, size, 3), dtype=torch.uint8, pin_memory=is_pinned)
        filled = pixels.numpy()
        is_readable = np.array(
            list(decoders.map(lambda row: _fill(filled[row], batch[row], size, resizing), range(len(batch))))
        )
        return np.asarray(places, dtype=np.int64)[is_readable], pixels if is_readable.all() else pixels[is_readable]

    with (
        ThreadPoolExecutor(min(_MOST_THREADS, max(2, usable_cores()))) as decoders,
        ThreadPoolExecutor(max_workers=1) as reader,
    ):
        remaining = iter(batches)
        waiting = [reader.submit(prepare, places) for places in islice(remaining, _BATCHES_AHEAD)]
        try:
            while waiting:
                prepared = waiting.pop(0).result()
                waiting += [reader.submit(prepare, places) for places in islice(remaining, 1)]
                yield prepared
        finally:
            for future in waiting:
                future.cancel()


def _fill(row: np.ndarray, picture: Picture, size: int, resizing: Resizing) -> bool:
    """Write a prepared picture into its row of a batch; `False` if it cannot be read."""
    try:
        row[:] = picture_array(picture, size, resizing)
    except DECODING_ERRORS:
        return False
    return True

"""Pictures as an encoder sees them: decoded, upright, RGB, resized on the short side and cropped in the centre."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from synclr_hf.data.pictures import DECODING_ERRORS, Picture, open_picture


def resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the short side to `size` (bicubic, antialiased) and crop the centre: `size` x `size` pixels.

    The same pixels as transformers' `BitImageProcessor`; the parts that the crop would cut off are never computed.
    """
    width, height = image.size
    if (width, height) == (size, size):
        return image
    short = min(width, height)
    resized_width, resized_height = int(size * width / short), int(size * height / short)
    left, top = (resized_width - size) // 2, (resized_height - size) // 2
    scale_x, scale_y = width / resized_width, height / resized_height
    box = (left * scale_x, top * scale_y, (left + size) * scale_x, (top + size) * scale_y)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def picture_array(picture: Picture, size: int) -> np.ndarray:
    """Return one picture as (size, size, 3) uint8, prepared as `resize_and_crop` says."""
    return np.asarray(resize_and_crop(open_picture(picture), size))


def _array_or_none(picture: Picture, size: int) -> np.ndarray | None:
    try:
        return picture_array(picture, size)
    except DECODING_ERRORS:
        return None


def prepared_batches(
    pictures: Sequence[Picture], *, size: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Prepare pictures batch by batch, decoding on several threads; unreadable ones are left out.

    Args:
        pictures: any sequence; items are read one after another and never held together.
        size: side of the prepared pictures in pixels.
        batch_size: pictures a batch before the unreadable ones are left out.

    Yields:
        Places in `pictures` of the readable ones, (B,) int64, and their pixels, (B, size, size, 3) uint8.
    """
    with ThreadPoolExecutor(max_workers=4) as threads:
        for start in range(0, len(pictures), batch_size):
            places = range(start, min(start + batch_size, len(pictures)))
            batch = [pictures[place] for place in places]  # reading stays on this thread, decoding is spread
            arrays = list(threads.map(_array_or_none, batch, [size] * len(batch)))
            readable = [place for place, array in zip(places, arrays, strict=True) if array is not None]
            pixels = np.zeros((len(readable), size, size, 3), dtype=np.uint8)
            for row, place in enumerate(readable):
                pixels[row] = arrays[place - start]
            yield np.asarray(readable, dtype=np.int64), pixels

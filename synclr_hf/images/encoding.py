"""Pictures are reduced, looked at and encoded, on a few threads while the next ones are drawn."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from PIL.Image import Image, Resampling

from synclr_hf.images.quality import Look, look_at

ENCODING_THREADS = 4
"""Threads beside one that waits for a device; they encode 512-pixel pictures ten times faster than one card draws."""

WINDOW = 64
"""Pictures that may wait for a thread, or for the one before them: 50 MB at 512 pixels."""

Given = TypeVar("Given")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Encoded:
    """A picture as it is stored.

    Attributes:
        data: bytes of the file.
        look: what the picture is judged by, from before it was encoded.
    """

    data: bytes
    look: Look


@dataclass(frozen=True)
class Encoder:
    """Reduces a picture, looks at it and encodes it.

    Attributes:
        size: side of the stored picture, in pixels.
        image_format: `jpeg` or `webp`.
        quality: 1 to 100.
    """

    size: int
    image_format: str
    quality: int

    def __call__(self, picture: Image) -> Encoded:
        """Encode one picture.

        Raises:
            RuntimeError: it is no RGB picture of at least `size` pixels on each side.
        """
        size = self.size
        if picture.mode != "RGB" or min(picture.size) < size:
            raise RuntimeError(f"the image generator drew {picture.mode} {picture.size}, not RGB {(size, size)}")
        small = reduced(picture, size)
        file = io.BytesIO()
        small.save(file, self.image_format, quality=self.quality)
        return Encoded(file.getvalue(), look_at(small))


def reduced(picture: Image, size: int) -> Image:
    """Return the picture as a square of `size` pixels: the middle is cut out if it is not square."""
    if picture.size == (size, size):
        return picture
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    return picture.resize((size, size), Resampling.LANCZOS, box=box)


def in_order(work: Callable[[Given], Done], things: Iterable[Given], *, threads: int) -> Iterator[Done]:
    """Yield what `work` makes of each thing, in order; at most `WINDOW` are at work or wait.

    The things are taken in the thread that asks, so what draws them may stay in one thread; what is done meanwhile is
    handed out before the next thing is taken.

    Args:
        work: is called in several threads at once; what it raises is raised here, in its turn.
        things: what it is called with.
        threads: how many; 0: the thread that asks does it.
    """
    if threads == 0:
        yield from map(work, things)
        return
    waiting: deque[Future[Done]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="encoding")
    try:
        for thing in things:
            waiting.append(pool.submit(work, thing))
            while waiting and (len(waiting) >= WINDOW or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

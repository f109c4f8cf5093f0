"""Pictures at the size at which their patches are looked at."""

from __future__ import annotations

from PIL import Image


def whole_patches(image: Image.Image, long_side: int, patch: int) -> Image.Image:
    """Return a picture resized so that its longer side has about `long_side` pixels and both sides whole patches.

    Args:
        image: RGB of any size; its shape is kept as far as whole patches allow, nothing is cut off.
        long_side: pixels.
        patch: side of a patch in pixels.
    """
    scale = long_side / max(image.size) / patch
    return image.resize([max(1, round(side * scale)) * patch for side in image.size], Image.Resampling.BICUBIC)

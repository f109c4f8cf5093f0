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
    columns, rows = whole_patches_of(image.size, long_side, patch)
    return image.resize((columns * patch, rows * patch), Image.Resampling.BICUBIC)


def whole_patches_of(size: tuple[int, int], long_side: int, patch: int) -> tuple[int, int]:
    """Return how many columns and rows of patches `whole_patches` gives a picture of a size (width, height)."""
    scale = long_side / max(size) / patch
    columns, rows = (max(1, round(side * scale)) for side in size)
    return columns, rows

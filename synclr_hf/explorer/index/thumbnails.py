"""Small pictures that an index stores to be looked at."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from synclr_hf.data.pictures import Picture

QUALITY = 90
"""Of the JPEG files."""
_KEPT_FORMATS = ("JPEG", "PNG", "WEBP")
_ORIENTATION = 0x0112


def thumbnail(picture: Picture, image: Image.Image, size: int) -> bytes:
    """Return a picture as a file with at most `size` pixels on its longer side; never enlarged.

    Args:
        picture: as it is stored; small JPEG, PNG and WebP files without odd modes are kept byte by byte.
        image: the same picture, decoded, upright, RGB.
        size: pixels.
    """
    stored = picture.get("bytes") if isinstance(picture, dict) else picture if isinstance(picture, bytes) else None
    if max(image.size) <= size and stored is not None and _is_plain(stored):
        return stored
    small = image.copy()
    small.thumbnail((size, size), Image.Resampling.BICUBIC, reducing_gap=None)
    file = BytesIO()
    small.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _is_plain(stored: bytes) -> bool:
    with Image.open(BytesIO(stored)) as image:
        is_still = getattr(image, "n_frames", 1) == 1
        is_upright = image.getexif().get(_ORIENTATION, 1) == 1
        return image.format in _KEPT_FORMATS and image.mode == "RGB" and is_still and is_upright

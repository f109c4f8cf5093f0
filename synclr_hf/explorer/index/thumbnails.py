"""Small pictures that an index stores to be looked at."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from synclr_hf.data.pictures import Picture

QUALITY = 90
"""Of the JPEG files."""
_MOST_BYTES = 40_000
"""Of a file that is kept as it is."""
_KEPT_FORMATS = ("JPEG", "PNG", "WEBP")


def thumbnail(picture: Picture, image: Image.Image, size: int) -> bytes:
    """Return a picture as a file with at most `size` pixels on its longer side; never enlarged.

    Args:
        picture: as it is stored; small JPEG, PNG and WebP files without odd modes and metadata are kept
            byte by byte.
        image: the same picture, decoded, upright, RGB.
        size: pixels.
    """
    stored = picture.get("bytes") if isinstance(picture, dict) else picture if isinstance(picture, bytes) else None
    if max(image.size) <= size and stored is not None and len(stored) <= _MOST_BYTES and _is_plain(stored):
        return stored
    small = image.copy()
    small.thumbnail((size, size), Image.Resampling.BICUBIC, reducing_gap=None)
    file = BytesIO()
    small.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _is_plain(stored: bytes) -> bool:
    """Tell whether a file is a still upright RGB picture that tells nothing else, such as where it was taken."""
    with Image.open(BytesIO(stored)) as image:
        is_still = getattr(image, "n_frames", 1) == 1
        is_silent = not image.getexif() and not {"xmp", "comment", "photoshop"} & image.info.keys()
        is_silent &= not getattr(image, "text", None)
        return image.format in _KEPT_FORMATS and image.mode == "RGB" and is_still and is_silent

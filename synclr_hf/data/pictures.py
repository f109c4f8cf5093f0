"""Pictures as they are stored, and what every encoder here is given: upright RGB, ImageNet mean and deviation."""

from __future__ import annotations

from io import BytesIO
from os import PathLike
from typing import Any

import numpy as np
from PIL import Image, ImageOps

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of the three channels on the scale 0..1, the default of the project's image processor."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of the three channels on the scale 0..1."""

Picture = Image.Image | dict[str, Any] | bytes | str | PathLike[str]
"""A PIL picture, encoded bytes, a path, or the `{"bytes": ..., "path": ...}` of an undecoded `datasets` column."""

DECODING_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that is no picture or a broken one."""


def open_picture(picture: Picture) -> Image.Image:
    """Decode a picture, turn it upright (EXIF) and return it as RGB, transparency on white, 16 bits reduced to 8.

    Raises:
        OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError: the picture cannot be read.
    """
    if isinstance(picture, dict):
        picture = picture["bytes"] if picture.get("bytes") is not None else picture.get("path")
    if picture is None:
        raise OSError("the row holds no picture")
    if isinstance(picture, bytes):
        picture = BytesIO(picture)
    image = picture if isinstance(picture, Image.Image) else Image.open(picture)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = _reduced_to_8_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _reduced_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale whole numbers of 16 bits; Pillow's own conversion would turn everything above 255 white."""
    values = np.asarray(image).astype(np.float32)
    if image.mode != "I" or values.max() > 255:
        values /= 257
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))

"""Pictures as they are stored, and what every encoder here is given: upright RGB, ImageNet mean and deviation."""

from __future__ import annotations

from io import BytesIO
from os import PathLike
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of the three channels on the scale 0..1, the default of the project's image processor."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of the three channels on the scale 0..1."""

Picture = Image.Image | dict[str, Any] | bytes | str | PathLike[str]
"""A PIL picture, encoded bytes, a path, or the `{"bytes": ..., "path": ...}` of an undecoded `datasets` column."""

_QUARTER_TURNS = (5, 6, 7, 8)
"""Values of EXIF's orientation that exchange width and height."""

DECODING_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that is no picture or a broken one."""


def open_picture(picture: Picture) -> Image.Image:
    """Decode a picture, turn it upright (EXIF) and return it as RGB, transparency on white, 16 bits reduced to 8.

    Raises:
        OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError: the picture cannot be read.
    """
    return UndecodedPicture(picture).decode()


class UndecodedPicture:
    """A picture whose file has been opened and not decoded: its size is known, and it may be decoded smaller.

    Args:
        picture: see `Picture`.

    Attributes:
        size: (width, height) in pixels of the upright picture.

    Raises:
        OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError: the picture cannot be read.
    """

    def __init__(self, picture: Picture) -> None:
        if isinstance(picture, dict):
            picture = picture["bytes"] if picture.get("bytes") is not None else picture.get("path")
        if picture is None:
            raise OSError("the row holds no picture")
        if isinstance(picture, bytes):
            picture = BytesIO(picture)
        self._own = not isinstance(picture, Image.Image)
        self._image = Image.open(picture) if self._own else picture
        turned = self._image.getexif().get(ExifTags.Base.Orientation, 1) in _QUARTER_TURNS
        self.size = self._image.size[::-1] if turned else self._image.size

    def decode(self, reduction: int = 1) -> Image.Image:
        """Return the picture as `open_picture` does.

        Args:
            reduction: 1, 2, 4 or 8: how much smaller it may be, for a JPEG, which is faster decoded so. Others, and
                pictures that Pillow has opened already, keep their size. Sides are rounded up.
        """
        if reduction > 1 and self._own:
            self._image.draft(None, [max(1, side // reduction) for side in self._image.size])
        if self._own:  # it may be changed in place, which saves a copy
            ImageOps.exif_transpose(self._image, in_place=True)
            return _opaque_rgb(self._image)
        return _opaque_rgb(ImageOps.exif_transpose(self._image))


def _opaque_rgb(image: Image.Image) -> Image.Image:
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

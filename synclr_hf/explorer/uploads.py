"""Pictures that strangers give: bounded in bytes and pixels, still ones only, of formats that are known to be safe."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from synclr_hf.data.pictures import DECODING_ERRORS, open_picture
from synclr_hf.errors import UserInputError

MAX_BYTES = 20 * 2**20
"""Of an uploaded file."""


def read_upload(file: str | Path) -> Image.Image:
    """Return an uploaded picture, upright RGB.

    Raises:
        UserInputError: it is no picture that is taken; one line for people.
    """
    try:
        return open_picture(str(file))
    except DECODING_ERRORS as error:
        raise UserInputError("this file is no picture that can be read; give a JPEG, PNG or WebP") from error

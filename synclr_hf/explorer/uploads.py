"""Pictures that strangers give: bounded in bytes and pixels, still ones only, of formats that are known to be safe."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image

from synclr_hf.data.pictures import DECODING_ERRORS, open_picture
from synclr_hf.errors import UserInputError

MAX_BYTES = 20 * 2**20
"""Of an uploaded file."""
MAX_PIXELS = 40_000_000
"""Of a picture, by its header: 115 MiB when it is decoded."""
MAX_SIDE = 2048
"""Larger pictures are reduced to so many pixels on the longer side; no encoder here looks at more."""
MOST_ELONGATED = 20
"""Longer side over shorter side, at most."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""What Pillow is allowed to try: its decoders of documents and of rare formats are no place for strangers' files."""
_TAKEN = "give a still picture as JPEG, PNG or WebP"
_HEAD = 1024


def read_upload(file: str | Path | None) -> Image.Image:
    """Return an uploaded picture, upright RGB, at most `MAX_SIDE` pixels on the longer side.

    The header decides before anything is decoded. A GIF with one frame is a still picture and is taken.

    Args:
        file: path of the file; `None`: nothing was given.

    Raises:
        UserInputError: it is no picture that is taken; one line for people, without the path.
    """
    if not file:
        raise UserInputError("there is no picture yet: upload one, use the camera, paste one, or choose an example")
    path = Path(file)
    try:
        size = path.stat().st_size if path.is_file() else -1
    except (OSError, ValueError):
        size = -1
    if size < 0:
        raise UserInputError("the uploaded file is not there any more; upload it again")
    if size == 0:
        raise UserInputError(f"this file is empty; {_TAKEN}")
    if size > MAX_BYTES:
        told = f"this file has {size / 2**20:.0f} MiB, at most {MAX_BYTES >> 20} are taken"
        raise UserInputError(f"{told}; give a smaller one")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow about large pictures: refused below
            with Image.open(path, formats=FORMATS) as image:
                _check_header(image)
                return _decoded(image)
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except (*DECODING_ERRORS, MemoryError, OverflowError) as error:
        if isinstance(error, UserInputError):
            raise
        raise UserInputError(_what_it_is(path)) from error


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(f"{width:,} x {height:,} pixels, ")
    if getattr(image, "n_frames", 1) > 1:
        raise UserInputError(f"this picture has several frames (an animation or pages); {_TAKEN}")
    if max(width, height) > MOST_ELONGATED * min(width, height):
        raise UserInputError(
            f"this picture is too thin ({width} x {height} pixels); at most {MOST_ELONGATED} to 1 is taken: crop it"
        )


def _decoded(image: Image.Image) -> Image.Image:
    image.draft(None, (MAX_SIDE, MAX_SIDE))  # JPEG: decoded at half or a quarter of its size where that is enough
    picture = open_picture(image)
    if max(picture.size) > MAX_SIDE:
        scale = MAX_SIDE / max(picture.size)
        size = [max(1, round(side * scale)) for side in picture.size]
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return picture


def _too_large(told: str = "") -> UserInputError:
    return UserInputError(
        f"this picture is too large ({told}at most {MAX_PIXELS // 1_000_000} megapixels are taken); give a smaller one"
    )


def _what_it_is(path: Path) -> str:
    """Tell what a file is that Pillow was not allowed to or could not read."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return f"this is a drawing (SVG), not a picture of pixels; {_TAKEN}"
    if head[4:8] == b"ftyp":
        kind = "AVIF" if head[8:12] in (b"avif", b"avis") else "HEIC" if head[8:10] in (b"he", b"mi") else "MP4"
        return f"{kind} files are not taken; {_TAKEN}"
    if head.startswith((b"\xff\xd8", b"\x89PNG", b"RIFF", b"BM", b"II*\x00", b"MM\x00*", b"GIF8")):
        return f"this picture is broken and cannot be read to its end; {_TAKEN}"
    return f"this file is no picture that can be read, whatever its name says; {_TAKEN}"

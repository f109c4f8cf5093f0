"""Pictures that the page sends, each written once: many visitors look at the same ones at once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import encode_pil_to_bytes
from PIL import Image


def keep_pictures(field: gr.Image | gr.Gallery) -> None:
    """Let a field write a picture only if it is not there yet, and in one step.

    Gradio writes the file anew each time, under the same name: whoever is loading it at that moment gets a part.
    """
    keep = partial(kept_picture, Path(field.GRADIO_CACHE), str(field.format))
    show: Callable[[Any], Any] = field.postprocess

    def postprocess(value: Any) -> Any:
        if isinstance(value, list):
            return show([(keep(one[0]), one[1]) if isinstance(one, tuple) else keep(one) for one in value])
        return show(keep(value))

    field.postprocess = postprocess  # type: ignore[method-assign]


def kept_picture(folder: Path, kind: str, picture: Any) -> Any:
    """Return the file of a picture; anything but a Pillow picture comes back as it is.

    Args:
        folder: where gradio keeps what it sends; old files are deleted there by their age.
        kind: `jpeg`, `png` or `webp`.
        picture: a Pillow picture.
    """
    if not isinstance(picture, Image.Image):
        return picture
    content = encode_pil_to_bytes(picture, kind)
    file = folder / blake2b(content, digest_size=20).hexdigest() / f"image.{kind}"
    try:
        os.utime(file)  # it is as young as its last use
    except FileNotFoundError:
        file.parent.mkdir(parents=True, exist_ok=True)
        number, unfinished = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(number, "wb") as opened:
            opened.write(content)
        os.replace(unfinished, file)
    return str(file.resolve())

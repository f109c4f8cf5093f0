"""Pictures inside a page: encoded as data URIs, so that nothing is loaded from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import numpy as np
from PIL import Image


def jpeg_uri(image: Image.Image, size: int, *, quality: int = 85) -> str:
    """Return a picture as a JPEG data URI of `size` x `size` pixels at most; short side cropped in the centre."""
    image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    target = min(size, side)
    image = image.resize((target, target), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return _uri(image, "jpeg", quality=quality, optimize=True)


def map_uri(colours: np.ndarray) -> str:
    """Return a map of colours as a PNG data URI, one pixel a patch.

    Args:
        colours: (h, w, 3) float in [0, 1]; values that are not finite become black.
    """
    finite = np.nan_to_num(np.asarray(colours, dtype=np.float64), nan=0.0, posinf=1.0, neginf=0.0)
    return _uri(Image.fromarray((finite.clip(0, 1) * 255).round().astype(np.uint8)), "png")


def _uri(image: Image.Image, kind: str, **options: object) -> str:
    file = BytesIO()
    image.save(file, kind.upper(), **options)
    return f"data:image/{kind};base64,{b64encode(file.getvalue()).decode()}"

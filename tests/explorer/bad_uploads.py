"""Files that are refused, and what is said about each."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image


def encoded(image, kind, **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb(width=20_000, height=20_000):
    """A PNG of 400 megapixels in some 50 kB: rows of zeros."""
    rows = zlib.compress(b"\0" * ((width // 8 + 1) * height), 9)

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def frames(count):
    return [Image.fromarray(np.full((20, 20, 3), 40 * k, dtype=np.uint8)) for k in range(count)]


def animated(kind):
    first, *others = frames(3)
    return encoded(first, kind, save_all=True, append_images=others, duration=100)


PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
BAD = {
    "animated.gif": (animated("GIF"), "several frames"),
    "animated.webp": (animated("WEBP"), "several frames"),
    "animated.png": (animated("PNG"), "several frames"),
    "drawing.svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"></svg>', "a drawing (SVG)"),
    "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC files are not taken"),
    "new.avif": (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", "AVIF files are not taken"),
    "text.jpg": (b"I am a text and no picture.", "no picture that can be read, whatever its name says"),
    "bomb.png": (bomb(), "too large (at most 40 megapixels"),
    "hundred.jpg": (encoded(Image.new("L", (10_000, 10_000)), "JPEG", quality=10), "too large (10,000 x 10,000"),
    "cut.jpg": (encoded(PHOTO, "JPEG")[:700], "broken and cannot be read to its end"),
    "cut.png": (encoded(PHOTO, "PNG")[:3000], "broken and cannot be read to its end"),
    "empty.png": (b"", "this file is empty"),
    "thin.png": (encoded(Image.new("RGB", (2000, 5)), "PNG"), "too thin (2000 x 5 pixels)"),
    "page.pdf": (b"%PDF-1.4\n%%EOF", "no picture that can be read"),
    "drawing.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture that can be read"),
}

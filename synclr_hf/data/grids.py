"""Grids of captions with their pictures for cards: one PNG of 1,200 pixels width that is read at 800."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from synclr_hf.data.pictures import Picture, open_picture

WIDTH = 1200
LARGEST = 1_500_000
"""Bytes of a grid at most: pictures are drawn smaller until it fits."""

_INK, _SOFT = "#15191c", "#566067"
_SIDES = (132, 116, 100, 84, 68)
_GAP, _TEXT_SIZE, _LINE = 8, 19, 25
_LEAST_TEXT = 330
_LONGEST = 2000


def caption_grid(rows: Sequence[tuple[str, str, Sequence[Picture]]]) -> bytes:
    """Draw a line a row: its caption, what it is about below it, and its pictures beside it.

    Args:
        rows: caption, concept and pictures of each, at least one row with a picture; pictures that do not fit beside
            the text are left out. Texts may be anything; what the font lacks is drawn as boxes.

    Returns:
        A PNG; the same rows give the same bytes.
    """
    for side in _SIDES:
        file = io.BytesIO()
        _drawn(rows, side).save(file, "PNG")
        if file.tell() <= LARGEST:
            break
    return file.getvalue()


def _drawn(rows: Sequence[tuple[str, str, Sequence[Picture]]], side: int) -> Image.Image:
    most = (WIDTH - _LEAST_TEXT) // (side + _GAP)
    columns = min(max(len(pictures) for _, _, pictures in rows), most)
    left = WIDTH - columns * (side + _GAP)
    grid = Image.new("RGB", (WIDTH, len(rows) * (side + _GAP) + _GAP), "white")
    draw = ImageDraw.Draw(grid)
    for number, (caption, concept, pictures) in enumerate(rows):
        top = _GAP + number * (side + _GAP)
        lines = _lines(caption, left - 2 * _GAP, side // _LINE - 1)
        for place, line in enumerate(lines):
            draw.text((_GAP, top + place * _LINE), line, fill=_INK, font=_font())
        draw.text((_GAP, top + len(lines) * _LINE), _short(concept, left - 2 * _GAP), fill=_SOFT, font=_font())
        for place, picture in enumerate(pictures[:columns]):
            grid.paste(_square(open_picture(picture), side), (left + place * (side + _GAP), top))
    return grid


def _square(image: Image.Image, side: int) -> Image.Image:
    """Return the middle of a picture at `side` pixels."""
    short = min(image.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    return image.resize((side, side), Image.Resampling.LANCZOS, box=(left, top, left + short, top + short))


def _lines(text: str, width: int, count: int) -> list[str]:
    """Break a text into at most `count` lines that fit into `width` pixels; what is too long is cut."""
    lines = [""]
    for word in _drawable(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _font().getlength(longer) > width:
            if len(lines) == count:
                lines[-1] = longer
                break
            longer = word
            lines.append("")
        lines[-1] = longer
    return [_short(line, width) for line in lines] if lines[0] else ["(empty)"]


def _short(text: str, width: int) -> str:
    """Return a text cut to `width` pixels."""
    text = _drawable(text)
    if _font().getlength(text) <= width:
        return text
    while text and _font().getlength(f"{text}…") > width:
        text = text[: -max(1, len(text) // 20)]
    return f"{text}…"


def _drawable(text: str) -> str:
    """Return the first letters of a text on one line, without what cannot be drawn."""
    return "".join(character for character in " ".join(text[:_LONGEST].split()) if character.isprintable())


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), _TEXT_SIZE)

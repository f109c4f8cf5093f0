"""Sheets of pictures side by side, with headings above and words below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, SOFT, RIGHT, WRONG = "#15191c", "#566067", "#0b6e69", "#b3401f"
TEXT_SIZE = 15
GAP = 8
_LINE = 20
_BLOCK_GAP = 28


@dataclass(frozen=True)
class Cell:
    """A picture on a sheet.

    Attributes:
        image: drawn pixel by pixel.
        lines: words below it, cut to its width, each with its colour.
    """

    image: Image.Image
    lines: tuple[tuple[str, str], ...] = ()


def sheet(
    rows: Sequence[Sequence[Cell]],
    headings: Sequence[str],
    *,
    note: str = "",
    blocks: int = 1,
    wide_first: bool = False,
) -> Image.Image:
    """Lay rows of cells below headings.

    Args:
        rows: as many cells each as there are headings; cells may differ in size and stand in the middle of
            their column.
        headings: one a column; cut where they are too long.
        note: what a reader must know, below everything; broken into lines.
        blocks: stacks of rows beside each other, to keep a sheet of many narrow rows from growing tall.
        wide_first: leave a wider gap behind the first column, which the others are compared with.

    Returns:
        RGB on white.
    """
    columns = len(headings)
    widths = [max(row[column].image.width for row in rows) for column in range(columns)]
    gaps = [_BLOCK_GAP if wide_first and column == 0 else GAP for column in range(columns)]
    lefts = np.cumsum([0, *(width + gap for width, gap in zip(widths, gaps, strict=True))])
    block = int(lefts[-1]) - gaps[-1]
    blocks = min(blocks, len(rows))
    width = 2 * GAP + blocks * block + (blocks - 1) * _BLOCK_GAP
    notes = _broken(note, width - 2 * GAP)
    bottoms = [GAP + _LINE + GAP // 2] * blocks
    places = []
    for row in rows:  # each below the block that is the shortest so far
        place = bottoms.index(min(bottoms))
        places.append((GAP + place * (block + _BLOCK_GAP), bottoms[place]))
        bottoms[place] += max(_height(cell) for cell in row) + GAP
    drawn = Image.new("RGB", (width, max(bottoms) + GAP + _LINE * len(notes)), "white")
    draw = ImageDraw.Draw(drawn)
    for place in range(blocks):
        for column, heading in enumerate(headings):
            left = GAP + place * (block + _BLOCK_GAP) + int(lefts[column])
            draw.text((left, GAP), cut(heading, widths[column]), fill=SOFT, font=font())
    for row, (left, top) in zip(rows, places, strict=True):
        for column, cell in enumerate(row):
            _draw_cell(drawn, draw, cell, left + int(lefts[column]), top, widths[column])
    for number, line in enumerate(notes):
        draw.text((GAP, max(bottoms) + number * _LINE), line, fill=SOFT, font=font())
    return drawn


def cut(text: str, width: int, size: int = TEXT_SIZE) -> str:
    """Return a text on one line of at most `width` pixels, without what cannot be drawn."""
    text = "".join(character for character in " ".join(text[:500].split()) if character.isprintable())
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


@lru_cache(maxsize=8)
def font(size: int = TEXT_SIZE) -> ImageFont.FreeTypeFont:
    """Return the font of all our pictures."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def enlarged(colours: np.ndarray, size: tuple[int, int], *, smooth: bool = False) -> Image.Image:
    """Return a map of colours as a picture.

    Args:
        colours: (h, w, 3) float in [0, 1].
        size: width and height in pixels.
        smooth: interpolate between the patches; else each is a block of one colour.
    """
    pixels = Image.fromarray((np.asarray(colours).clip(0, 1) * 255).round().astype(np.uint8))
    return pixels.resize(size, Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST)


def overlay(image: Image.Image, colours: Image.Image, share: float = 0.6) -> Image.Image:
    """Return colours laid over the light and dark of a picture of the same size."""
    return Image.blend(image.convert("L").convert("RGB"), colours, share)


def _height(cell: Cell) -> int:
    return cell.image.height + _LINE * len(cell.lines) + (GAP // 2 if cell.lines else 0)


def _draw_cell(drawn: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, left: int, top: int, width: int) -> None:
    left += (width - cell.image.width) // 2
    drawn.paste(cell.image, (left, top))
    for number, (line, colour) in enumerate(cell.lines):
        draw.text(
            (left, top + cell.image.height + number * _LINE), cut(line, cell.image.width), fill=colour, font=font()
        )


def _broken(text: str, width: int) -> list[str]:
    """Break a text into lines of at most `width` pixels."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font().getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(cut(word, width))
    return lines

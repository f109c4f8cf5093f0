"""Similarities of patches as colours over the pictures they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from synclr_hf.report.visualize_sheets import enlarged, overlay

LONG_SIDE = 320
"""Pixels of a drawn map at most, if its patches allow."""
_CHOSEN_FROM = 480
"""Pixels of the longer side of a picture whose patches can be chosen."""
_COLOURS = "magma"
_LOW = 0.02
"""Quantile of all similarities that is drawn black."""
_SHARE = 0.65


@dataclass(frozen=True)
class Scale:
    """What the colours mean: from black at `low` to light yellow at `high`, cosines in [-1, 1]."""

    low: float
    high: float

    @property
    def words(self) -> str:
        """The scale in words."""
        return f"black: cosine {self.low:.2f} or less, light: {self.high:.2f}"


def cosines(patches: Tensor, query: Tensor) -> Tensor:
    """Return the cosine of every patch (h, w, D) and a query (D,), (h, w) float32 in [-1, 1]."""
    return (F.normalize(patches.float(), dim=-1) @ F.normalize(query.float(), dim=0)).clamp(-1, 1)


def common_scale(maps: Sequence[Tensor]) -> Scale:
    """Return one scale for several maps of cosines: from a low quantile of all of them to the largest."""
    values = torch.cat([one.flatten() for one in maps])
    low, high = float(values.kthvalue(max(1, int(_LOW * len(values))))[0]), float(values.max())
    return Scale(low, max(high, low + 1e-3))


def heat_map(
    image: Image.Image, values: Tensor, scale: Scale, *, marked: tuple[int, int] | None = None, smooth: bool = False
) -> Image.Image:
    """Lay a map of cosines over its picture.

    Args:
        image: RGB.
        values: (h, w) cosines.
        scale: what the colours mean.
        marked: row and column of a patch that gets a frame.
        smooth: interpolate between patches.
    """
    from matplotlib import colormaps

    rows, columns = values.shape
    side = max(4, LONG_SIDE // max(rows, columns))
    size = (columns * side, rows * side)
    colours = colormaps[_COLOURS](((values - scale.low) / (scale.high - scale.low)).clamp(0, 1).numpy())[..., :3]
    drawn = overlay(image.resize(size, Image.Resampling.LANCZOS), enlarged(colours, size, smooth=smooth), _SHARE)
    if marked is not None:
        frame(drawn, *marked, side)
    return drawn


def frame(image: Image.Image, row: int, column: int, side: int) -> None:
    """Draw a frame around a patch that is seen on light and on dark."""
    draw = ImageDraw.Draw(image)
    box = (column * side, row * side, (column + 1) * side - 1, (row + 1) * side - 1)
    draw.rectangle(box, outline="black", width=3)
    draw.rectangle(box, outline="white", width=1)


def with_grid(image: Image.Image, grid: tuple[int, int]) -> tuple[Image.Image, int]:
    """Return a picture enlarged, with thin lines between its patches, and the side of a patch in its pixels."""
    rows, columns = grid
    side = max(8, _CHOSEN_FROM // max(grid))
    drawn = image.resize((columns * side, rows * side), Image.Resampling.BICUBIC)
    lines = Image.new("RGBA", drawn.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(lines)
    for column in range(1, columns):
        draw.line([(column * side, 0), (column * side, drawn.height)], fill=(255, 255, 255, 110))
    for row in range(1, rows):
        draw.line([(0, row * side), (drawn.width, row * side)], fill=(255, 255, 255, 110))
    return Image.alpha_composite(drawn.convert("RGBA"), lines).convert("RGB"), side

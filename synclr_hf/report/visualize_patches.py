"""Sheets of patch maps beside the pictures they belong to: PCA colours and attention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from synclr_hf.evaluation.seeing.pca import PcaBasis
from synclr_hf.report.visualize_sheets import INK, Cell, enlarged, overlay, sheet

_LONG_SIDE = 320
_LEAST_BLOCK = 4
"""Pixels a patch at least."""
_SHEET_WIDTH = 2200
_BLOCKS_FROM = 5
"""Pictures from which on two stand in a row."""
_CLIPPED, _LEAST_FOCUS = 0.99, 3
_HEAT = "magma"


def pca_sheet(
    images: Sequence[Image.Image],
    maps: Sequence[Tensor],
    texts: Sequence[str],
    basis: PcaBasis,
    *,
    smooth: bool = False,
    fitted_on: str = "all pictures",
) -> Image.Image:
    """Draw pictures, the colours of their patches, and both on each other.

    Args:
        images: RGB pictures.
        maps: (h, w, D) patch features of each.
        texts: what stands below each.
        basis: the colours; what it calls background is black on the map and grey on the picture.
        smooth: interpolate between patches.
        fitted_on: the pictures that the basis comes from, in words.
    """
    side = _patch_pixels(maps, _LONG_SIDE)
    rows = []
    for image, patches, text in zip(images, maps, texts, strict=True):
        size = (patches.shape[1] * side, patches.shape[0] * side)
        image = image.resize(size, Image.Resampling.LANCZOS)
        colours, is_thing = basis.colours(patches), torch.ones(patches.shape[:2], dtype=torch.bool)
        if basis.foreground is not None:
            is_thing = basis.foreground.is_foreground(patches)
        drawn = enlarged(colours.numpy(), size, smooth=smooth)
        mask = Image.fromarray(is_thing.numpy().astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
        laid = Image.composite(overlay(image, drawn), image.convert("L").convert("RGB"), mask)
        drawn = Image.composite(drawn, Image.new("RGB", size), mask)
        rows.append([Cell(image, ((text, INK),) if text else ()), Cell(drawn), Cell(laid)])
    shares = ", ".join(f"{share:.0%}" for share in basis.components.explained)
    what = "the foreground patches" if basis.foreground is not None else "all patches"
    note = (
        f"Red, green, blue: the first three principal components of {what} of {fitted_on} ({shares} of the variance)"
    )
    note += "; black: background." if basis.foreground is not None else "."
    blocks = 2 if len(rows) >= _BLOCKS_FROM else 1
    return sheet(rows, ["picture", "PCA of patches", "overlay"], note=note, blocks=blocks)


def attention_sheet(
    images: Sequence[Image.Image], maps: Sequence[Tensor], texts: Sequence[str], *, smooth: bool = False
) -> Image.Image:
    """Draw pictures, what the class token attends to on the mean over the heads, and each head.

    Args:
        images: RGB pictures.
        maps: (heads, h, w) attention of each.
        texts: what stands below each.
        smooth: interpolate between patches.
    """
    heads = len(maps[0])
    side = _patch_pixels([one[0] for one in maps], min(_LONG_SIDE, _SHEET_WIDTH // (heads + 3)))
    rows = []
    for image, attention, text in zip(images, maps, texts, strict=True):
        size = (attention.shape[2] * side, attention.shape[1] * side)
        image = image.resize(size, Image.Resampling.LANCZOS)
        drawn = [enlarged(heat(one), size, smooth=smooth) for one in (attention.mean(dim=0), *attention)]
        laid = overlay(image, drawn[0])
        rows.append([Cell(image, ((text, INK),) if text else ()), Cell(laid), *map(Cell, drawn)])
    share = float(torch.stack([one.sum(dim=(1, 2)).mean() for one in maps]).mean())
    note = (
        "Attention of the class token to the patches in the last layer; each map has its own scale, dark: none, "
        f"light: most. {share:.0%} of the attention goes to patches, the rest to the class token and registers."
    )
    headings = ["picture", "overlay", "mean", *(f"head {number}" for number in range(1, heads + 1))]
    return sheet(rows, headings, note=note)


def heat(values: Tensor) -> np.ndarray:
    """Return attention (h, w) as colours, (h, w, 3) in [0, 1].

    The lightest is the 99th percentile: one patch often draws so much attention (artefacts, Darcet et al. 2024) that
    it would leave the others dark. It is at least `_LEAST_FOCUS` times even attention, or a head that looks nowhere in
    particular would seem to look everywhere.
    """
    from matplotlib import colormaps

    even = values.sum() / values.numel()
    top = values.flatten().quantile(_CLIPPED).maximum(_LEAST_FOCUS * even).clamp_min(1e-12)
    return colormaps[_HEAT]((values / top).clamp(0, 1).numpy())[..., :3]


def _patch_pixels(maps: Sequence[Tensor], long_side: int) -> int:
    """Return the side at which a patch is drawn: a whole number of pixels, or blocks would differ in size."""
    longest = max(max(one.shape[:2]) for one in maps)
    return max(_LEAST_BLOCK, long_side // longest)

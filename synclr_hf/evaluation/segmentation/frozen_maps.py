"""Frozen patch features of whole pictures, one after another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from synclr_hf.data.progress import Progress
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding import vision_outputs
from synclr_hf.evaluation.encoding.encoders import Encoder, normalised, patch_maps
from synclr_hf.evaluation.encoding.vision_outputs import without_patches
from synclr_hf.evaluation.labelled.masked_images import MaskedImages
from synclr_hf.evaluation.segmentation.pairs import read_pair

LONGEST = 3
"""A side longer than so many short sides is squeezed for the encoder: memory grows with the square of the patches."""
_PICTURES_AT_ONCE = 32


@dataclass(frozen=True)
class MappedPicture:
    """One picture as the encoder describes it.

    Attributes:
        row: its place in the data.
        features: (h, w, D) float32 on the CPU, one vector a patch; patches divide the picture evenly.
        mask: (H, W) uint8 at the picture's own size, never resized.
    """

    row: int
    features: Tensor
    mask: np.ndarray


def patch_size(encoder: Encoder) -> int:
    """Return the side of a patch in pixels.

    Raises:
        UserInputError: the encoder has no patches.
    """
    if encoder.model is None:
        raise without_patches(encoder.name, None)
    return vision_outputs.patch_size(encoder.model)


def patch_grid(height: int, width: int, *, short_side: int, patch_size: int) -> tuple[int, int]:
    """Return how many patches a picture is cut into, (h, w).

    The short side is scaled to `short_side` pixels, the long one with it (at most `LONGEST` times as long), both
    rounded to whole patches: the aspect changes by half a patch at most.

    Args:
        height: of the picture in pixels.
        width: of the picture in pixels.
        short_side: of the picture that the encoder sees, in pixels.
        patch_size: in pixels.
    """
    short = min(height, width)
    sides = (min(side / short, LONGEST) * short_side / patch_size for side in (height, width))
    rows, columns = (max(round(side), 1) for side in sides)
    return rows, columns


def mapped_pictures(
    encoder: Encoder, data: MaskedImages, rows: Sequence[int], *, short_side: int, description: str
) -> Iterator[MappedPicture]:
    """Describe pictures by patch features, each whole picture in one pass; unreadable ones are left out.

    Pictures that are cut into the same grid go through the encoder together. They come out in the order of `rows`.

    Args:
        encoder: with patch tokens; its last `num_layers` layers are taken, in a row.
        data: the pictures and their masks.
        rows: which of them.
        short_side: see `patch_grid`.
        description: what the progress bar says.

    Raises:
        UserInputError: the encoder has no patch tokens, or its features are not finite.
    """
    size = patch_size(encoder)
    chunks = [list(rows[start : start + _PICTURES_AT_ONCE]) for start in range(0, len(rows), _PICTURES_AT_ONCE)]
    with Progress(description, total=len(rows), unit="picture") as bar, ThreadPoolExecutor(max_workers=4) as threads:

        def prepare(chunk: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray] | None]:
            return threads.map(lambda row: _prepared(data, row, short_side, size), chunk)

        coming = prepare(chunks[0] if chunks else [])
        for place, chunk in enumerate(chunks):
            pairs, coming = list(coming), prepare(chunks[place + 1] if place + 1 < len(chunks) else [])
            found = {row: pair for row, pair in zip(chunk, pairs, strict=True) if pair is not None}
            features = _features(encoder, {row: pixels for row, (pixels, _) in found.items()})
            bar.update(len(chunk))
            for row, (_, mask) in found.items():
                yield MappedPicture(row, features.pop(row), mask)


def _features(encoder: Encoder, pictures: Mapping[int, np.ndarray]) -> dict[int, Tensor]:
    """Return the maps of prepared pictures of any sizes; those of one size go through the encoder together."""
    alike = defaultdict(list)
    for row, pixels in pictures.items():
        alike[pixels.shape[:2]].append(row)
    features: dict[int, Tensor] = {}
    for (height, width), same in alike.items():
        together = max(encoder.batch_size * encoder.image_size**2 // (height * width), 1)
        for first in range(0, len(same), together):
            batch = same[first : first + together]
            features.update(zip(batch, _maps(encoder, [pictures[row] for row in batch]), strict=True))
    return features


def _prepared(data: MaskedImages, row: int, short_side: int, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a picture resized to whole patches, (h size, w size, 3) uint8, and its mask as it is."""
    pair = read_pair(data, row)
    if pair is None:
        return None
    picture, mask = pair
    rows, columns = patch_grid(picture.height, picture.width, short_side=short_side, patch_size=size)
    resized = picture.resize((columns * size, rows * size), Image.Resampling.BICUBIC)
    return np.array(resized), mask


def _maps(encoder: Encoder, pictures: Sequence[np.ndarray]) -> Tensor:
    pixels = normalised(np.stack(pictures), encoder.image_mean, encoder.image_std)
    found = patch_maps(encoder, pixels, num_layers=encoder.num_layers)
    if not torch.isfinite(found).all():
        raise UserInputError(
            f"encoder '{encoder.name}' gives patch features that are not finite; allowed: finite numbers; "
            "load it in float32, or take another checkpoint"
        )
    return found.cpu()

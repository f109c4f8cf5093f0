"""Labelled patches and labelled pixels drawn from pictures with masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synclr_hf.data.seeds import seed_for
from synclr_hf.evaluation.encoders import Encoder
from synclr_hf.evaluation.masked_images import IGNORED, MaskedImages
from synclr_hf.evaluation.segmentation.frozen_maps import mapped_pictures, patch_grid, patch_size
from synclr_hf.evaluation.segmentation.pairs import read_mask


@dataclass(frozen=True)
class DrawnFeatures:
    """Features with a class each.

    Attributes:
        features: (P, D) float16 on the CPU.
        labels: (P,) int64.
        rows: (P,) int64, the picture that each comes from.
    """

    features: Tensor
    labels: Tensor
    rows: Tensor


def patch_labels(mask: np.ndarray, grid: tuple[int, int], *, num_classes: int, min_share: float) -> np.ndarray:
    """Return the class of each patch, (h, w) int64; `IGNORED` where no class fills enough of it.

    A pixel belongs to the patch that its centre lies in. Pixels that count for nothing belong to a patch, too: one
    that they fill mostly has no class. Among equal classes the smallest number wins.

    Args:
        mask: (H, W) uint8.
        grid: (h, w) patches.
        num_classes: C; the mask holds 0 to C - 1 and `IGNORED`.
        min_share: smallest share of the pixels of a patch that its class must have, in (0, 1].
    """
    height, width = mask.shape
    rows = (np.arange(height) * 2 + 1) * grid[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * grid[1] // (2 * width)
    places = rows[:, None] * grid[1] + columns  # (H, W)
    classes = np.where(mask == IGNORED, num_classes, mask).astype(np.int64)
    counts = np.bincount(
        (places * (num_classes + 1) + classes).ravel(), minlength=grid[0] * grid[1] * (num_classes + 1)
    ).reshape(*grid, num_classes + 1)
    all_pixels = counts.sum(axis=2)
    best = counts[..., :num_classes].argmax(axis=2)
    most = np.take_along_axis(counts, best[..., None], axis=2)[..., 0]
    return np.where((most > 0) & (most >= min_share * all_pixels), best, IGNORED)


def drawn_patches(
    encoder: Encoder,
    data: MaskedImages,
    *,
    short_side: int,
    min_share: float,
    at_most: int,
    balanced: bool,
    seed: int,
    description: str,
) -> DrawnFeatures:
    """Draw labelled patches by their masks, then describe only the pictures that hold some.

    Args:
        encoder: with patch tokens.
        data: the pictures and their masks.
        short_side: see `patch_grid`.
        min_share: see `patch_labels`.
        at_most: number of patches.
        balanced: as many of each class as there can be, instead of every patch with the same chance.
        seed: of the draw.
        description: what the progress bar says.
    """
    size, num_classes = patch_size(encoder), len(data.label_names)
    labels, rows, places = [], [], []
    for row in range(len(data)):
        mask = read_mask(data, row)
        grid = patch_grid(*mask.shape, short_side=short_side, patch_size=size)
        found = patch_labels(mask, grid, num_classes=num_classes, min_share=min_share).ravel()
        kept = np.flatnonzero(found != IGNORED)
        labels.append(found[kept].astype(np.int16))
        places.append(kept.astype(np.int32))
        rows.append(np.full(len(kept), row, dtype=np.int32))
    label, row_of, place = np.concatenate(labels), np.concatenate(rows), np.concatenate(places)
    chosen = _drawn(label, at_most, balanced=balanced, seed=seed)
    label, row_of, place = label[chosen], row_of[chosen], place[chosen]
    first = np.searchsorted(row_of, np.arange(len(data) + 1))
    features, kept_rows = [], []
    wanted = np.unique(row_of).tolist()
    for one in mapped_pictures(encoder, data, wanted, short_side=short_side, description=description):
        mine = slice(first[one.row], first[one.row + 1])
        features.append(one.features.flatten(0, 1)[torch.from_numpy(place[mine]).long()].half())
        kept_rows.append(np.arange(mine.start, mine.stop))
    return _table(features, label, row_of, kept_rows)


def drawn_pixels(
    encoder: Encoder, data: MaskedImages, rows: Sequence[int], *, short_side: int, at_most: int, seed: int, told: str
) -> DrawnFeatures:
    """Draw as many labelled pixels from every picture, with the features that bilinear up-sampling gives them.

    Args:
        encoder: with patch tokens.
        data: the pictures and their masks.
        rows: which of them.
        short_side: see `patch_grid`.
        at_most: pixels of all pictures together; one a picture at least.
        seed: of the draw.
        told: what the progress bar says.
    """
    each = max(at_most // max(len(rows), 1), 1)
    features, labels, row_of = [], [], []
    for one in mapped_pictures(encoder, data, rows, short_side=short_side, description=told):
        labelled = np.flatnonzero(one.mask != IGNORED)
        generator = np.random.default_rng(seed_for(seed, "pixels", one.row))
        chosen = np.sort(generator.permutation(labelled)[:each])
        features.append(features_at(one.features, one.mask.shape, chosen).half())
        labels.append(one.mask.ravel()[chosen].astype(np.int64))
        row_of.append(np.full(len(chosen), one.row))
    kept = [np.arange(sum(map(len, labels)))] if labels else []
    return _table(features, np.concatenate(labels or [[]]), np.concatenate(row_of or [[]]), kept)


def features_at(features: Tensor, size: tuple[int, int], pixels: np.ndarray) -> Tensor:
    """Return what bilinear up-sampling of a map to a mask's size gives at some pixels, (P, D).

    Up-sampling and a linear layer commute: a layer applied to these gives its up-sampled logits at the pixels.

    Args:
        features: (h, w, D).
        size: (H, W) of the mask.
        pixels: (P,) places in the mask, y * W + x.
    """
    height, width = size
    y, x = torch.from_numpy(pixels // width), torch.from_numpy(pixels % width)
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=1).float()  # -1..1 over the picture
    found = F.grid_sample(
        features.permute(2, 0, 1)[None], grid[None, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return found[0, :, 0].T


def _table(features: list[Tensor], labels: np.ndarray, rows: np.ndarray, kept: list[np.ndarray]) -> DrawnFeatures:
    """Put the features of the pictures that could be read beside their labels."""
    places = np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)
    return DrawnFeatures(
        features=torch.cat(features) if features else torch.zeros(0, 1, dtype=torch.float16),
        labels=torch.from_numpy(labels[places].astype(np.int64)),
        rows=torch.from_numpy(rows[places].astype(np.int64)),
    )


def _drawn(labels: np.ndarray, at_most: int, *, balanced: bool, seed: int) -> np.ndarray:
    """Return the places of the drawn labels in their old order."""
    if len(labels) <= at_most:
        return np.arange(len(labels))
    order = np.random.default_rng(seed_for(seed, "patches")).permutation(len(labels))
    if balanced:
        by_class = order[np.argsort(labels[order], kind="stable")]
        starts = np.searchsorted(labels[by_class], labels[by_class])
        turn = np.arange(len(labels)) - starts  # how many of its class come before it
        order = by_class[np.argsort(turn, kind="stable")]
    return np.sort(order[:at_most])

"""Labelled patches and labelled pixels drawn from pictures with masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synclr_hf.data.progress import Progress
from synclr_hf.data.seeds import seed_for
from synclr_hf.evaluation.encoding.encoders import Encoder
from synclr_hf.evaluation.labelled.masked_images import IGNORED, MaskedImages
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
    with Progress(f"{description}, masks", total=len(data), unit="mask") as bar:
        for row in range(len(data)):
            mask = read_mask(data, row)
            grid = patch_grid(*mask.shape, short_side=short_side, patch_size=size)
            found = patch_labels(mask, grid, num_classes=num_classes, min_share=min_share).ravel()
            kept = np.flatnonzero(found != IGNORED)
            labels.append(found[kept].astype(np.int16))
            places.append(kept.astype(np.int32))
            rows.append(np.full(len(kept), row, dtype=np.int32))
            bar.update()
    label, row_of, place = np.concatenate(labels), np.concatenate(rows), np.concatenate(places)
    chosen = _drawn(label, at_most, balanced=balanced, seed=seed)
    label, row_of, place = label[chosen], row_of[chosen], place[chosen]
    first = np.searchsorted(row_of, np.arange(len(data) + 1))
    table = _Table(len(label))
    wanted = np.unique(row_of).tolist()
    for one in mapped_pictures(encoder, data, wanted, short_side=short_side, description=description):
        mine = slice(first[one.row], first[one.row + 1])
        table.add(one.row, one.features.flatten(0, 1)[torch.from_numpy(place[mine]).long()], label[mine])
    return table.filled()


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
    table = _Table(each * len(rows))
    for one in mapped_pictures(encoder, data, rows, short_side=short_side, description=told):
        labelled = np.flatnonzero(one.mask != IGNORED)
        generator = np.random.default_rng(seed_for(seed, "pixels", one.row))
        chosen = np.sort(generator.permutation(labelled)[:each])
        table.add(one.row, features_at(one.features, one.mask.shape, chosen), one.mask.ravel()[chosen])
    return table.filled()


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


class _Table:
    """A table that is filled picture by picture, held once.

    Args:
        length: rows that it has room for.
    """

    def __init__(self, length: int) -> None:
        self._features = torch.zeros(0, 1, dtype=torch.float16)
        self._labels = torch.zeros(length, dtype=torch.int64)
        self._rows = torch.zeros(length, dtype=torch.int64)
        self._count = 0

    def add(self, row: int, features: Tensor, labels: np.ndarray) -> None:
        """Add features (B, D) of one picture with their classes (B,)."""
        if len(self._features) < len(self._labels):
            self._features = torch.empty(len(self._labels), features.shape[1], dtype=torch.float16)
        mine = slice(self._count, self._count + len(features))
        self._features[mine] = features.half()
        self._labels[mine] = torch.from_numpy(labels.astype(np.int64))
        self._rows[mine] = row
        self._count = mine.stop

    def filled(self) -> DrawnFeatures:
        """Return what was added."""
        count = self._count
        return DrawnFeatures(self._features[:count], self._labels[:count], self._rows[:count])


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

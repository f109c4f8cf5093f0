"""Pictures with a class for every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synclr_hf.data.pictures import Picture

IGNORED = 255
"""Class number of the pixels that count for nothing."""


@dataclass(frozen=True)
class MaskedImages:
    """Pictures with one mask each, as segmentation needs them.

    Attributes:
        pictures: read one by one when they are needed, still encoded.
        masks: read likewise; `masks[i]` is (H, W) uint8 of the same height and width as the upright picture,
            indices into `label_names`, `IGNORED` where a pixel counts for nothing.
        label_names: name of each class.
        fingerprint: changes when the pictures or their masks change.
    """

    pictures: Sequence[Picture]
    masks: Sequence[np.ndarray]
    label_names: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.pictures)

"""Pictures with a class for every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from synclr_hf.data.pictures import Picture
from synclr_hf.data.seeds import seed_for
from synclr_hf.evaluation.labelled.labelled_images import Chosen

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

    def rows(self, rows: Sequence[int] | np.ndarray) -> MaskedImages:
        """Return the chosen rows, in the given order."""
        rows = np.asarray(rows, dtype=np.int64)
        mark = blake2b(rows.tobytes(), digest_size=8).hexdigest()
        return MaskedImages(
            pictures=Chosen(self.pictures, rows),
            masks=Chosen(self.masks, rows),
            label_names=self.label_names,
            fingerprint=f"{self.fingerprint}-{mark}",
        )

    def at_most(self, count: int, *, seed: int) -> MaskedImages:
        """Return `count` rows drawn at random, in their order, or all rows if there are no more."""
        if len(self) <= count:
            return self
        order = np.random.default_rng(seed_for(seed, "at most")).permutation(len(self))
        return self.rows(np.sort(order[:count]))

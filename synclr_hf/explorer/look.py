"""Looking at pictures patch by patch: each at a chosen resolution, its shape kept, nothing cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoders import normalised, patch_maps
from synclr_hf.evaluation.encoding.vision_outputs import patch_size
from synclr_hf.evaluation.seeing.resolution import whole_patches

if TYPE_CHECKING:
    from synclr_hf.evaluation.encoding.encoders import Encoder
    from synclr_hf.explorer.session import Explorer

PATCHES_AT_ONCE = 4096
"""Patches of one forward pass: what others wait for is short, and memory is bounded."""


@dataclass(frozen=True)
class Look:
    """A picture with the features of its patches.

    Attributes:
        image: RGB, resized to whole patches.
        patches: (h, w, D) float32; rounded to float16, as the cache keeps them.
        patch: side of a patch in pixels of `image`.
        key: tells this look from others.
    """

    image: Image.Image
    patches: Tensor
    patch: int
    key: str

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.patches.shape[0], self.patches.shape[1]


def look(explorer: Explorer, pictures: Sequence[Image.Image], long_side: int, *, encoder: int = 0) -> list[Look]:
    """Return the patch features of some pictures, computed or remembered.

    Args:
        explorer: what is loaded; its lock is held while the model runs.
        pictures: RGB.
        long_side: pixels of the longer side, rounded to whole patches.
        encoder: number of the encoder that looks.

    Raises:
        UserInputError: the encoder has no patch tokens, or gives features that are not finite.
    """
    model = explorer.encoder(encoder)
    if model.model is None:
        raise UserInputError(f"'{model.name}' stands for raw pixels, which have no patch features; choose a model")
    side = patch_size(model.model)
    images = [whole_patches(picture, long_side, side) for picture in pictures]
    keys = [_key(model, image) for image in images]
    found: dict[str, Tensor] = {}
    waiting: dict[tuple[int, int], list[tuple[str, Image.Image]]] = {}
    for key, image in zip(keys, images, strict=True):
        remembered = explorer.patches.get(key)
        if remembered is not None:
            found[key] = remembered
        elif key not in found:
            waiting.setdefault(image.size, []).append((key, image))
    for (width, height), some in waiting.items():
        at_once = max(1, PATCHES_AT_ONCE // (width * height // side**2))
        for start in range(0, len(some), at_once):
            batch = some[start : start + at_once]
            for (key, _), patches in zip(batch, _computed(explorer, model, [one for _, one in batch]), strict=True):
                found[key] = patches
                explorer.patches.put(key, patches)
    return [Look(image, found[key].float(), side, key) for key, image in zip(keys, images, strict=True)]


def _computed(explorer: Explorer, encoder: Encoder, images: Sequence[Image.Image]) -> Tensor:
    """Return patch features, (B, h, w, D) float16."""
    pixels = normalised(np.stack([np.asarray(image) for image in images]), encoder.image_mean, encoder.image_std)
    with explorer.computing:
        patches = patch_maps(encoder, pixels.to(encoder.model.device))  # type: ignore[union-attr]
    largest = torch.finfo(torch.float16).max
    if not patches.isfinite().all():
        raise UserInputError(f"'{encoder.name}' gives NaN or infinite patch features; check its weights")
    return patches.clamp(-largest, largest).half()


def _key(encoder: Encoder, image: Image.Image) -> str:
    digest = blake2b(encoder.fingerprint.encode(), digest_size=16)
    digest.update(repr(image.size).encode())
    digest.update(image.tobytes())
    return digest.hexdigest()

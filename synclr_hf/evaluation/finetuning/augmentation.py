"""RandAugment (Cubuk et al. 2020) by torchvision, at the strength of the paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from synclr_hf.errors import UserInputError

NUM_OPERATIONS = 2
PROBABILITY = 0.5
"""Of each of the two operations, as in timm's RandAugment."""
_STEPS = 100
"""Torchvision's strengths are whole numbers; a hundred of them make 0 to 10 in steps of a tenth."""


class RandAugment:
    """Two random operations a picture, each with probability 1/2.

    The reference asks timm for `rand-m9-mstd0.5-inc1`: strength 9 of 10 with a standard deviation of 0.5.
    Torchvision's own numbers mean something else (9 of 30), so its operations are called at 9 of 10 here. Deviation
    named: its list of operations lacks timm's inversion and addition below a threshold, has the identity instead, and
    its posterisation keeps at least 4 bits.

    Args:
        magnitude: mean of the strength, 0 to 10.
        std: standard deviation of the strength.
        fill: colour of what comes in from outside, three values in 0..255.
        section: name of the protocol, for the error.

    Raises:
        UserInputError: torchvision is not there or cannot be imported.
    """

    def __init__(self, magnitude: float, std: float, fill: Sequence[float], section: str) -> None:
        try:
            from torchvision import transforms
        except (ImportError, OSError, RuntimeError) as error:  # a build for another torch fails in its own ways
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserInputError(
                f"{section}.rand_augment needs torchvision, which cannot be imported ({reason}); type pip install "
                f'"synclr-hf[finetune]", or leave RandAugment out: type {section}.rand_augment=false'
            ) from error
        self.magnitude, self.std = magnitude, std
        self._operation = transforms.RandAugment(
            num_ops=1,
            magnitude=0,
            num_magnitude_bins=_STEPS + 1,
            interpolation=transforms.InterpolationMode.BICUBIC,
            fill=[round(value) for value in fill],
        )

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the changed picture, of the same size; all randomness comes from `rng`."""
        for _ in range(NUM_OPERATIONS):
            chosen, strength, seed = (
                rng.random() < PROBABILITY,
                rng.normal(self.magnitude, self.std),
                rng.integers(2**31),
            )
            if not chosen:
                continue
            self._operation.magnitude = round(float(np.clip(strength, 0, 10)) / 10 * _STEPS)
            with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
                torch.manual_seed(int(seed))
                image = self._operation(image)
        return image

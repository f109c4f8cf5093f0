"""Batches of prepared pixels through a frozen encoder, for protocols whose pictures change from pass to pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from synclr_hf.evaluation.encoding.encoders import Encoder, device_features, normalised
from synclr_hf.evaluation.encoding.features import standardised_pixels

FeaturesOf = Callable[[np.ndarray], Tensor]
"""From prepared pictures, (B, size, size, 3) uint8, to what describes them, (B, D) float32."""


@contextmanager
def frozen(encoder: Encoder) -> Iterator[FeaturesOf]:
    """Put the model into evaluation mode for a block, and back into its mode behind it.

    Only the encoder runs without gradients, so heads can learn inside the block.

    Args:
        encoder: a model, or raw pixels.

    Yields:
        The function from pixels to features.
    """
    if encoder.model is None:
        yield lambda pixels: torch.from_numpy(standardised_pixels(pixels))
        return
    model, was_training = encoder.model, encoder.model.training
    mean, std = (torch.tensor(numbers, device=model.device) for numbers in (encoder.image_mean, encoder.image_std))

    @torch.no_grad()
    def features_of(pixels: np.ndarray) -> Tensor:
        on_device = torch.from_numpy(pixels).to(model.device, non_blocking=True)
        return device_features(encoder, normalised(on_device, mean, std)).float()

    model.eval()
    try:
        yield features_of
    finally:
        model.train(was_training)

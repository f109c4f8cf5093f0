"""Batches of prepared pixels through a frozen encoder, for protocols whose pictures change from pass to pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from synclr_hf.evaluation.encoders import Encoder, normalised, picture_tokens
from synclr_hf.evaluation.features import standardised_pixels


@contextmanager
def frozen(encoder: Encoder) -> Iterator[None]:
    """Run a block with the model in evaluation mode, then put it back into its mode; gradients are not touched."""
    was_training = encoder.model is not None and encoder.model.training
    if encoder.model is not None:
        encoder.model.eval()
    try:
        yield
    finally:
        if encoder.model is not None:
            encoder.model.train(was_training)


@torch.no_grad()
def batch_features(encoder: Encoder, pixels: np.ndarray) -> Tensor:
    """Return what describes prepared pictures, (B, D) float32, inside `frozen`.

    Args:
        encoder: a model, or raw pixels.
        pixels: (B, size, size, 3) uint8.
    """
    if encoder.model is None:
        return torch.from_numpy(standardised_pixels(pixels))
    return picture_tokens(encoder.model, normalised(pixels, encoder.image_mean, encoder.image_std))

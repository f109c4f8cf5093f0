"""Pictures as queries: unit vectors of an encoder, alone or two together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.evaluation.encoding.encoders import normalised, pooled_features
from synclr_hf.evaluation.encoding.features import standardised_pixels
from synclr_hf.evaluation.labelled.pictures import picture_array

if TYPE_CHECKING:
    from synclr_hf.evaluation.encoding.encoders import Encoder

Combination = Literal["mean", "difference"]
COMBINATIONS = ("mean", "difference")
_NOTHING = 1e-4
"""Length of a difference of unit vectors below which it is rounding."""


def picture_queries(encoder: Encoder, pictures: Sequence[Image.Image]) -> Tensor:
    """Describe pictures as the encoder does everywhere: its own size, crop and normalisation.

    Args:
        encoder: a model, or raw pixels; the caller holds `Explorer.computing`.
        pictures: RGB, a few.

    Returns:
        (B, D) float32 of length one, the rows that an index holds for these pictures (there in float16).
    """
    pixels = np.stack([picture_array(picture, encoder.image_size, encoder.resizing) for picture in pictures])
    if encoder.model is None:
        features = torch.from_numpy(standardised_pixels(pixels))
    else:
        values = normalised(pixels, encoder.image_mean, encoder.image_std)
        features = pooled_features(encoder, values.to(encoder.model.device, encoder.model.dtype))
    return F.normalize(features.float(), dim=1)


def combined(first: Tensor, second: Tensor, how: Combination) -> Tensor:
    """Combine two queries, (D,) each, into one of length one.

    Args:
        first: a query of length one.
        second: another one.
        how: `mean`: what both have; `difference`: what the first has and the second has not.

    Raises:
        UserInputError: another `how`, or nothing is left.
    """
    if how not in COMBINATIONS:
        raise unknown_name("combination", how, COMBINATIONS, "mean")
    both = first + second if how == "mean" else first - second
    if float(both.norm()) < _NOTHING:
        raise UserInputError(f"nothing is left of the {how} of these two pictures; choose two that are not alike")
    return F.normalize(both, dim=0)

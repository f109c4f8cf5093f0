"""Principal components with signs that do not depend on the machine."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PrincipalComponents:
    """The directions along which some features vary most.

    Attributes:
        mean: (D,) float64, the centre of the features.
        directions: (C, D) float64, orthonormal rows, largest variance first; the largest entry of each is positive.
        explained: share of the variance of all features along each direction, in [0, 1].
    """

    mean: Tensor
    directions: Tensor
    explained: tuple[float, ...]

    def scores(self, features: Tensor) -> Tensor:
        """Return where features (..., D) lie along the directions, (..., C) float64."""
        return (features.double() - self.mean) @ self.directions.T


@torch.inference_mode()
def principal_components(features: Tensor, count: int) -> PrincipalComponents:
    """Find the first `count` principal components of features (N, D), exactly, by the covariance; D >= `count`."""
    features = features.double()
    mean = features.mean(dim=0)
    centred = features - mean
    variances, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
    directions = directions[:, -count:].flip(1).T
    largest = directions.abs().argmax(dim=1, keepdim=True)
    directions = directions * directions.gather(1, largest).sign()
    shares = variances.flip(0)[:count].clamp_min(0) / variances.sum().clamp_min(1e-30)
    return PrincipalComponents(mean, directions, tuple(shares.tolist()))

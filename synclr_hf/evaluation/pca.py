"""Patch features as colours: one principal component analysis over several pictures (the SynCLR paper's Figure 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PcaMaps:
    """The first three principal components of patch features as colours.

    Attributes:
        rgb: (N, h, w, 3) float32 in [0, 1]; the same feature has the same colour in every picture.
        basis: (3, D) float32, orthonormal rows, the directions that red, green and blue stand for.
        explained: share of the variance of all patches along each of the three, in [0, 1].
    """

    rgb: Tensor
    basis: Tensor
    explained: tuple[float, float, float]


@torch.inference_mode()
def pca_maps(patches: Tensor, *, clipped: float = 0.02) -> PcaMaps:
    """Colour the patches of several pictures with one basis that they have in common.

    Signs are fixed so that the largest entry of each direction is positive, and scales come from the quantiles
    `clipped` and 1 - `clipped` over all patches, so that a few odd patches do not grey out the rest.

    Args:
        patches: (N, h, w, D) features of N pictures, D >= 3.
        clipped: share of the patches that may be clipped at either end of each colour.
    """
    flat = patches.flatten(0, 2).double()  # (N * h * w, D)
    centred = flat - flat.mean(dim=0)
    variances, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
    basis = directions[:, -3:].flip(1).T  # (3, D), largest variance first
    largest = basis.abs().argmax(dim=1, keepdim=True)
    basis = basis * basis.gather(1, largest).sign()
    scores = centred @ basis.T  # (N * h * w, 3)
    ordered = scores.sort(dim=0).values
    last = len(ordered) - 1
    low, high = ordered[round(clipped * last)], ordered[round((1 - clipped) * last)]
    rgb = ((scores - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    shares = variances.flip(0)[:3] / variances.sum().clamp_min(1e-30)
    return PcaMaps(
        rgb=rgb.reshape(*patches.shape[:3], 3).float(), basis=basis.float(), explained=tuple(shares.tolist())
    )

"""Logistic regression as a problem of optimisation: features on their principal axes, losses and their gradients.

The objective is that of scikit-learn and cuML, written as a sum:

    f(W, b) = sum over pictures of loss(W x + b, label) + l2 / 2 * |W|^2          with C = 1 / l2, b is not penalised

Dividing by the number of pictures (as scikit-learn does inside) changes no optimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_LOGITS_AT_ONCE = {"cpu": 2**19, "cuda": 2**26}
"""Logits held together: what stays in the cache of a core, what fills a GPU. Four arrays of that size at most."""
_ROWS_AT_ONCE = {"cpu": 2**13, "cuda": 2**17}
_LOWEST_LOGIT = -60.0
"""Below the largest one. exp(-60) is 1e-26, nothing to a sum of losses; exp(-90) is a subnormal float32, and
arithmetic with subnormal numbers takes up to a hundred times as long. A bound reaches every thread, unlike
`torch.set_flush_denormal`, which holds for the thread that calls it."""
_NEGLIGIBLE = 1e-13
"""Share of the largest eigenvalue below which an axis is the rounding of float32 features, and is left out."""


@dataclass(frozen=True)
class PrincipalAxes:
    """Standardises features by statistics of the train side and turns them onto their principal axes.

    Turning changes neither the objective nor the optimum (|W|^2 stays), but makes the second derivatives nearly
    diagonal, which saves most of the iterations; axes without any variance are dropped.

    Attributes:
        mean: (D,) of the train features.
        scale: (D,) standard deviations (division by N); 1 for a feature that is constant.
        axes: (D, R) orthonormal columns, R at most D and less than the number of train rows.
    """

    mean: Tensor
    scale: Tensor
    axes: Tensor

    def turned(self, features: Tensor) -> Tensor:
        """Return (N, R + 1): coordinates on the axes, and a column of ones that stands for the bias."""
        result = self.axes.new_ones(len(features), self.axes.shape[1] + 1)
        rows = _ROWS_AT_ONCE[self.axes.device.type]
        for part, goal in zip(features.split(rows), result.split(rows), strict=True):
            goal[:, :-1] = ((part.to(self.mean) - self.mean) / self.scale) @ self.axes
        return result

    def coefficients(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return (C, D) coefficients of the standardised features and (C,) biases for weights (C, R + 1)."""
        return weights[:, :-1] @ self.axes.T, weights[:, -1]


def principal_axes(features: Tensor) -> PrincipalAxes:
    """Find the principal axes of features; accumulated in float64, the result has the dtype of the features.

    Args:
        features: (N, D) float32 or float64, finite; the device is where everything is computed.
    """
    count, width = features.shape
    parts = features.split(_ROWS_AT_ONCE[features.device.type])
    mean = sum(part.sum(dim=0, dtype=torch.float64) for part in parts) / count
    variance = sum((part.double() - mean).square().sum(dim=0) for part in parts) / count
    varies = variance.sqrt() > 1e-7 * mean.abs()  # below that it is the rounding of float32
    scale = torch.where(varies, variance.sqrt(), 1.0)
    if count < width:  # the same axes from the smaller matrix
        standard = (features.double() - mean) / scale
        values, vectors = torch.linalg.eigh(standard @ standard.T)
        kept = values > _NEGLIGIBLE * values[-1].clamp(min=torch.finfo(values.dtype).tiny)
        axes = standard.T @ (vectors[:, kept] / values[kept].sqrt())
    else:
        square = features.new_zeros(width, width, dtype=torch.float64)
        for part in parts:
            standard = (part.double() - mean) / scale
            square.addmm_(standard.T, standard)
        values, vectors = torch.linalg.eigh(square)
        kept = values > _NEGLIGIBLE * values[-1].clamp(min=torch.finfo(values.dtype).tiny)
        axes = vectors[:, kept]
    return PrincipalAxes(mean.to(features), scale.to(features), axes.to(features).contiguous())


class LogisticProblems:
    """One or several logistic regressions on the same features, their values and gradients.

    With class numbers it is one multinomial regression (P = 1, softmax over C classes); with a multi-hot matrix each
    column is a binary regression of its own (P columns, C = 1). Residuals are computed without the subtraction
    p - 1, so that in float32 they are right to a relative 1e-6 even where pictures are classified with certainty: that
    is what weakly regularised optima are decided by.

    Args:
        features: (N, D) float32 or float64, the last column ones (`PrincipalAxes.turned`).
        labels: (N,) int64 in [0, C), or (N, P) with 1 (is there), 0 (is not), negative or NaN (counts for nothing).
        num_classes: C of a multinomial regression.
    """

    def __init__(self, features: Tensor, labels: Tensor, num_classes: int = 1) -> None:
        self.features = features
        self.is_multinomial = labels.dim() == 1
        self.num_problems = 1 if self.is_multinomial else labels.shape[1]
        self.num_classes = num_classes if self.is_multinomial else 1
        if self.is_multinomial:
            self._targets = labels.to(features.device)
            frequencies = labels.bincount()[None]  # (P, classes)
        else:  # (P, N): 1 is there, -1 is not, 0 counts for nothing
            known = torch.where(labels >= 0, torch.where(labels > 0, 1.0, -1.0), 0.0)
            self._targets = known.T.to(features).contiguous()
            frequencies = torch.stack([(known > 0).sum(dim=0), (known < 0).sum(dim=0)], dim=1)
        shares = frequencies.double() / frequencies.sum(dim=1, keepdim=True)
        self.null_values = -torch.xlogy(frequencies, shares).sum(dim=1).to(features.device)
        """(P,) float64: the objectives of W = 0 with the best biases."""
        self.penalised = features.new_ones(features.shape[1])
        self.penalised[-1] = 0.0

    def evaluate(
        self, weights: Tensor, l2: Tensor, problems: Tensor, *, curvature: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values, gradients and, where asked for, the diagonals of the second derivatives of the losses.

        All K regressions share the two matrix products with the features, a block of rows at a time.

        Args:
            weights: (K, C, D).
            l2: (K,) float64.
            problems: (K,) int64 in [0, P), which targets each of them has.
            curvature: whether the diagonals are needed (half as much work again).

        Returns:
            (K,) float64, (K, C, D), and (K, C, D) or `None`.
        """
        count, classes, width = weights.shape
        gradient = weights * (l2[:, None].to(weights) * self.penalised)[:, None]
        value = 0.5 * (gradient * weights).sum(dim=(1, 2), dtype=torch.float64)
        flat, flat_gradient = weights.reshape(-1, width), gradient.view(-1, width)
        diagonal = torch.zeros_like(flat) if curvature else None
        device = weights.device.type
        rows = max(min(_LOGITS_AT_ONCE[device] // len(flat), _ROWS_AT_ONCE[device]), 64)
        for start in range(0, len(self.features), rows):
            features = self.features[start : start + rows]
            logits = (flat @ features.T).view(count, classes, -1)  # (K, C, rows)
            if self.is_multinomial:
                residual = _softmax_residual(logits, self._targets[start : start + rows], value)
            else:
                residual = _sigmoid_residual(logits, self._targets[problems, None, start : start + rows], value)
            flat_gradient.addmm_(residual.view(len(flat), -1), features)
            if diagonal is not None:
                probability = residual.abs()
                diagonal.addmm_((probability * (1 - probability)).view(len(flat), -1), features.square())
        return value, gradient, None if diagonal is None else diagonal.view_as(weights)

    def in_range(self, vectors: Tensor) -> Tensor:
        """Project (K, C, D) onto what the losses can see: adding the same to all classes changes no softmax."""
        return vectors - vectors.mean(dim=1, keepdim=True) if self.is_multinomial else vectors


def _softmax_residual(logits: Tensor, targets: Tensor, value: Tensor) -> Tensor:
    """Turn logits (K, C, N) into probabilities minus targets, in place; the losses are added to `value` (K,)."""
    logits -= logits.amax(dim=1, keepdim=True)
    places = targets.expand(len(logits), 1, -1)
    own_logit = logits.gather(1, places)
    exponentials = logits.clamp_(min=_LOWEST_LOGIT).exp_()
    own = exponentials.gather(1, places)
    exponentials.scatter_(1, places, 0.0)
    others = exponentials.sum(dim=1, keepdim=True)
    total = others + own
    value += (torch.log1p(others + (own - 1)) - own_logit).sum(dim=(1, 2), dtype=torch.float64)
    return exponentials.div_(total).scatter_(1, places, -others / total)


def _sigmoid_residual(logits: Tensor, signs: Tensor, value: Tensor) -> Tensor:
    """Turn logits (K, 1, N) into probabilities minus targets; the losses are added to `value` (K,)."""
    margins = (logits * signs).clamp_(max=-_LOWEST_LOGIT)
    value += (F.softplus(-margins) * signs.abs()).sum(dim=(1, 2), dtype=torch.float64)
    return -signs * torch.sigmoid(-margins)

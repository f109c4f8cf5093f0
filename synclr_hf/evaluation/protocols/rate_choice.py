"""How a linear probe chooses its learning rate: on what, and which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.splits import stratified_group_split

_CHECKED_AT_ONCE = 65_536


@dataclass(frozen=True)
class LinearProbeResult:
    """What the probe found.

    Attributes:
        scores: (M, C) float32 on the CPU, logits of the test rows.
        base_learning_rate: the one that was best on the validation part (the smallest among equals).
        validation_scores: the benchmark's metric on the validation part for every base learning rate, as fractions;
            NaN where one diverged.
        diverged: base learning rates whose loss or weights left the finite numbers; they are never chosen.
        train_loss: mean loss of the last epoch of the layer that made the scores.
        batch_size: rows a step of that layer.
        steps: its number of steps.
        num_validation: rows that the learning rate was chosen on.
    """

    scores: Tensor
    base_learning_rate: float
    validation_scores: dict[float, float]
    diverged: tuple[float, ...]
    train_loss: float
    batch_size: int
    steps: int
    num_validation: int

    @property
    def predictions(self) -> Tensor:
        """The predicted class of each test row, (M,) int64."""
        return self.scores.argmax(dim=1)


def validation_split(
    labels: Tensor, groups: np.ndarray | None, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to learn from and those to choose on, classes in proportion and groups whole.

    A class with one group is learned from only. Where no row is left to choose on (one row a class), it is chosen on
    the rows that are learned from. A row with several classes counts to the rarest of them.

    Args:
        labels: (N,) int64, or (N, C) multi-hot.
        groups: (N,) ids, or `None`: every row alone.
        fraction: share to choose on.
        seed: equal seeds, equal splits.
    """
    if labels.dim() == 2:
        labels = torch.where(labels > 0, (labels > 0).sum(dim=0), torch.inf).argmin(dim=1)
    groups = np.arange(len(labels)) if groups is None else groups
    fit_rows, validation_rows = stratified_group_split(
        labels.cpu().numpy(), groups, held_out=fraction, seed=seed_for(seed, "probe split")
    )
    return fit_rows, validation_rows if len(validation_rows) else fit_rows


def best_rate(
    rates: Sequence[float], scores: Sequence[float], finite: Sequence[bool]
) -> tuple[float, tuple[float, ...]]:
    """Return the rate with the best score, the smallest among equals, and the rates that diverged."""
    diverged = tuple(rate for rate, is_finite in zip(rates, finite, strict=True) if not is_finite)
    left = {rate: score for rate, score in zip(rates, scores, strict=True) if rate not in diverged}
    if not left:
        raise UserInputError(
            f"the linear probe diverged with every base learning rate of {list(rates)}; "
            "type smaller ones: linear.base_learning_rates=0.001,0.01"
        )
    return max(sorted(left), key=left.__getitem__), diverged


def count_classes(labels: Tensor) -> int:
    """Return the number of classes: the largest train label + 1, or the columns of multi-hot labels."""
    return labels.shape[1] if labels.dim() == 2 else int(labels.max()) + 1


def check_enough(count: int) -> None:
    """Raise where there are too few pictures for BatchNorm."""
    if count < 2:
        raise UserInputError(
            f"the linear probe would learn from {count} pictures; needed: 2 or more beside those that the learning "
            "rate is chosen on; give a larger train split"
        )


def check_finite(features: Tensor, side: str) -> None:
    """Raise where a feature is not a finite number."""
    finite = sum(int(rows.isfinite().all(dim=1).sum()) for rows in features.split(_CHECKED_AT_ONCE))
    if finite < len(features):
        raise UserInputError(
            f"the features of {len(features) - finite} of {len(features)} {side} pictures hold values that are not "
            "finite; a model in float16 overflows easily: load it in float32 or bfloat16"
        )

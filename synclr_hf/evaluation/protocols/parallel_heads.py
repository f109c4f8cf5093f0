"""Linear heads that learn side by side, each with a learning rate of its own, on one BatchNorm and one pass.

A sweep of learning rates costs one forward pass instead of one a rate. The heads share no parameter, so each one
learns exactly what it would learn alone, and one that diverges does no harm to the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synclr_hf.evaluation.measures import eleven_point_average_precision, mean_per_class_accuracy

PREDICTED_AT_ONCE = 4096
"""Rows whose logits for all heads and classes are held together."""
REFERENCE_BATCH_SIZE = 256
"""Batch size at which the learning rate is the base learning rate."""


class ParallelHeads(nn.Module):
    """BatchNorm without affine, shared by several independent linear classifiers that start at zero.

    Args:
        num_features: D.
        num_classes: C.
        num_heads: number of classifiers.
    """

    def __init__(self, num_features: int, num_classes: int, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_features, affine=False, eps=1e-6)
        self.weight = nn.Parameter(torch.zeros(num_features, num_heads * num_classes))
        self.bias = nn.Parameter(torch.zeros(num_heads * num_classes))
        self.num_heads = num_heads

    def forward(self, features: Tensor) -> Tensor:
        """Turn (B, D) features of any float type into (B, heads, classes) logits, float32."""
        return (self.norm(features.float()) @ self.weight + self.bias).unflatten(1, (self.num_heads, -1))

    @torch.inference_mode()
    def predict(self, features: Tensor) -> Tensor:
        """Return the predicted classes, (heads, rows) int64 on the CPU; features may lie on another device."""
        self.eval()
        chunks = features.split(PREDICTED_AT_ONCE)
        return torch.cat([self(rows.to(self.weight.device)).argmax(dim=2).cpu() for rows in chunks]).T

    @torch.inference_mode()
    def scores(self, features: Tensor, head: int) -> Tensor:
        """Return the logits of one head, (rows, classes) float32 on the CPU; features may lie on another device."""
        self.eval()
        weight = self.weight.unflatten(1, (self.num_heads, -1))[:, head]
        bias = self.bias.unflatten(0, (self.num_heads, -1))[head]
        chunks = features.split(PREDICTED_AT_ONCE)
        return torch.cat([(self.norm(rows.to(weight.device).float()) @ weight + bias).cpu() for rows in chunks])


class HeadTraining:
    """SGD with momentum 0.9, no weight decay, and a cosine to zero over all steps (paper B.2).

    Nothing here waits for the device: losses stay on it until they are asked for.

    Args:
        num_features: D.
        num_classes: C.
        base_learning_rates: one a head; the rate used is base x batch size / 256.
        batch_size: rows a step, for that rule.
        total_steps: length of the cosine.
        device: where the heads are.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        base_learning_rates: Sequence[float],
        *,
        batch_size: int,
        total_steps: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.heads = ParallelHeads(num_features, num_classes, len(base_learning_rates)).to(device)
        self._rates = torch.tensor(base_learning_rates, device=device) * batch_size / REFERENCE_BATCH_SIZE
        self._optimizer = torch.optim.SGD(self.heads.parameters(), lr=1.0, momentum=0.9)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / total_steps)
        )
        self._loss_sum = torch.zeros(len(base_learning_rates), device=device)
        self._num_losses = 0
        self._finite = torch.ones(len(base_learning_rates), dtype=torch.bool, device=device)

    def start_epoch(self) -> None:
        """Begin the mean of the losses anew."""
        self._loss_sum.zero_()
        self._num_losses = 0
        self.heads.train()

    def step(self, features: Tensor, labels: Tensor) -> None:
        """Train every head on one batch.

        Args:
            features: (B, D) on the device of the heads.
            labels: (B,) int64, or (B, C) multi-hot float.
        """
        losses = head_losses(self.heads(features), labels)
        self._optimizer.zero_grad()
        # heads share no parameter, so a factor on a head's loss is a factor on its learning rate (no weight decay)
        (losses * self._rates).sum().backward()
        self._optimizer.step()
        self._schedule.step()
        self._loss_sum += losses.detach()
        self._num_losses += 1
        self._finite &= losses.detach().isfinite()

    @property
    def steps_done(self) -> int:
        """Number of steps that were taken."""
        return self._schedule.last_epoch

    def train_losses(self) -> list[float]:
        """Return the mean loss of the last epoch for every head."""
        return (self._loss_sum / max(self._num_losses, 1)).tolist()

    def finite(self) -> list[bool]:
        """Return for every head whether all its losses were finite, and its weights are."""
        weights = self.heads.weight.detach().unflatten(1, (self.heads.num_heads, -1))
        return (self._finite & weights.isfinite().all(dim=2).all(dim=0)).tolist()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a continued training needs."""
        return {
            "heads": self.heads.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": {"last_epoch": self._schedule.last_epoch},
            "loss_sum": self._loss_sum,
            "num_losses": self._num_losses,
            "finite": self._finite,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.heads.load_state_dict(state["heads"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.last_epoch = state["schedule"]["last_epoch"]
        self._loss_sum.copy_(state["loss_sum"])
        self._num_losses = state["num_losses"]
        self._finite.copy_(state["finite"])


def head_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of every head, (heads,).

    Cross-entropy, the mean over the rows; for multi-hot labels the binary cross-entropy summed over the classes (so
    that a class pulls as hard as with cross-entropy, and the learning rates keep their scale), the mean over the rows.

    Args:
        logits: (B, heads, classes).
        labels: (B,) int64, or (B, classes) multi-hot; where it is negative or NaN, a row counts for nothing in
            a class ("difficult" in VOC2007).
    """
    if labels.dim() == 2:
        labels = labels.float()
        counts = (labels >= 0)[:, None].expand_as(logits)
        targets = labels.clamp(min=0).nan_to_num(0)[:, None].expand_as(logits)
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return losses.where(counts, 0).sum(dim=2).mean(dim=0)
    targets = labels[:, None].expand(-1, logits.shape[1])
    return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(dim=0)


def validation_scores(
    heads: ParallelHeads, features: Tensor, labels: Tensor, metric: str, finite: Sequence[bool]
) -> list[float]:
    """Return the metric of the benchmark for every head on the rows that the learning rate is chosen on.

    The numbers are those of `score_predictions`, without the interval that would cost more than the training; 0 where
    no class has a positive row.

    Args:
        heads: the trained heads.
        features: (V, D).
        labels: (V,) int64, or (V, C) multi-hot float.
        metric: see `score_predictions`.
        finite: of each head, whether it did not diverge; NaN stands for the score of one that did.
    """
    labels = labels.cpu()
    if metric == "accuracy":  # all heads at once
        scores = (heads.predict(features) == labels).double().mean(dim=1).tolist()
        return [score if is_finite else math.nan for score, is_finite in zip(scores, finite, strict=True)]

    def scored(head: int) -> float:
        scores = heads.scores(features, head)
        if metric == "map_11point":
            return eleven_point_average_precision(scores, labels).nanmean().nan_to_num(nan=0.0).item()
        return mean_per_class_accuracy(scores.argmax(dim=1), labels)

    return [scored(head) if is_finite else math.nan for head, is_finite in enumerate(finite)]

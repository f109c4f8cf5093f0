"""Linear classification of frozen features, a thin version of the SynCLR paper's appendix B.2.

BatchNorm without affine, then one linear layer; SGD with momentum 0.9, no weight decay, cosine schedule, 90 epochs.
Named deviations from B.2: features are computed once (no RandomResizedCrop, no flip), batches of 256 instead of 1,024,
weights start at zero, and the base learning rate comes from a grid up to 3 (small sets take few steps), chosen on
a part of the train features, not on the test pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synclr_hf.data.seeds import seed_for
from synclr_hf.evaluation.splits import stratified_group_split


@dataclass(frozen=True)
class LinearProbeConfig:
    """Settings of the linear probe.

    Attributes:
        base_learning_rates: tried side by side as parallel heads; the rate used is base x batch size / 256.
        epochs: passes over the train features.
        batch_size: rows a step (all rows where there are fewer).
        validation_fraction: share of the train features on which the learning rate is chosen.
    """

    base_learning_rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    epochs: int = 90
    batch_size: int = 256
    validation_fraction: float = 0.2


@dataclass(frozen=True)
class LinearProbeResult:
    """What the probe found.

    Attributes:
        predictions: (M,) int64, the predicted class of each test row.
        base_learning_rate: the one that was best on the validation part (the smallest among equals).
        validation_top1: accuracy on the validation part for every base learning rate, as fractions.
    """

    predictions: Tensor
    base_learning_rate: float
    validation_top1: dict[float, float]


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    *,
    seed: int,
    groups: np.ndarray | None = None,
    config: LinearProbeConfig | None = None,
) -> LinearProbeResult:
    """Choose the learning rate on a part of the train features, fit again on all of them, predict the test rows.

    Args:
        train_features: (N, D).
        train_labels: (N,) int64.
        test_features: (M, D).
        seed: of the validation split and the order of the rows; equal seeds give equal results on one machine.
        groups: (N,) ids; rows with the same id stay on one side of the validation split. Default: every row alone.
        config: the settings; default `LinearProbeConfig()`.
    """
    config = config or LinearProbeConfig()
    groups = np.arange(len(train_labels)) if groups is None else groups
    num_classes = int(train_labels.max()) + 1
    fit_rows, validation_rows = stratified_group_split(
        train_labels.cpu().numpy(), groups, held_out=config.validation_fraction, seed=seed_for(seed, "probe split")
    )
    rates = config.base_learning_rates
    if len(validation_rows) == 0:  # one row a class: nothing to choose on
        validation_rows = fit_rows
    probe = _Probe(train_features.shape[1], num_classes, len(rates)).to(train_features.device)
    _fit(probe, train_features[fit_rows], train_labels[fit_rows], rates, config, seed_for(seed, "probe search"))
    found = probe.predict(train_features[validation_rows])  # (heads, V)
    accuracies = (found == train_labels[validation_rows]).double().mean(dim=1).tolist()
    validation_top1 = dict(zip(rates, accuracies, strict=True))
    best = max(sorted(validation_top1), key=validation_top1.__getitem__)
    final = _Probe(train_features.shape[1], num_classes, 1).to(train_features.device)
    _fit(final, train_features, train_labels, [best], config, seed_for(seed, "probe final"))
    return LinearProbeResult(final.predict(test_features)[0], best, validation_top1)


PREDICTED_AT_ONCE = 4096
"""Rows whose logits for all heads and classes are held together."""


class _Probe(nn.Module):
    """BatchNorm without affine, shared by several independent linear classifiers that start at zero."""

    def __init__(self, num_features: int, num_classes: int, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_features, affine=False, eps=1e-6)
        self.weight = nn.Parameter(torch.zeros(num_features, num_heads * num_classes))
        self.bias = nn.Parameter(torch.zeros(num_heads * num_classes))
        self.num_heads = num_heads

    def forward(self, features: Tensor) -> Tensor:
        """Turn (B, D) features into (B, heads, classes) logits."""
        return (self.norm(features) @ self.weight + self.bias).unflatten(1, (self.num_heads, -1))

    @torch.inference_mode()
    def predict(self, features: Tensor) -> Tensor:
        """Return the predicted classes, (heads, rows) int64."""
        self.eval()
        return torch.cat([self(rows).argmax(dim=2) for rows in features.split(PREDICTED_AT_ONCE)]).T


def _fit(
    probe: _Probe,
    features: Tensor,
    labels: Tensor,
    base_learning_rates: Sequence[float],
    config: LinearProbeConfig,
    seed: int,
) -> None:
    """Train every head with its own learning rate on the same batches."""
    batch_size = min(config.batch_size, len(features))
    steps_per_epoch = len(features) // batch_size
    total_steps = config.epochs * steps_per_epoch
    rates = torch.tensor(base_learning_rates, device=features.device) * batch_size / 256
    optimizer = torch.optim.SGD(probe.parameters(), lr=1.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / total_steps)
    )
    generator = torch.Generator().manual_seed(seed)
    probe.train()
    for _ in range(config.epochs):
        order = torch.randperm(len(features), generator=generator).to(features.device)
        for rows in order.split(batch_size)[:steps_per_epoch]:  # an incomplete last batch is left out
            logits = probe(features[rows])  # (B, heads, classes)
            targets = labels[rows, None].expand(-1, probe.num_heads)
            losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(dim=0)  # (heads,)
            optimizer.zero_grad()
            # heads share no parameter, so a factor on a head's loss is a factor on its learning rate (no weight decay)
            (losses * rates).sum().backward()
            optimizer.step()
            schedule.step()

"""Several linear layers on the same features, each with its own learning rate, trained side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synclr_hf.data.progress import Progress

WARM_UP = 0.05
"""Share of the steps in which the learning rates rise; behind them they fall to zero in a line."""


@dataclass(frozen=True)
class LinearHeads:
    """Linear layers with the standardisation of their input folded in.

    Attributes:
        weights: (heads, C, D) float32.
        biases: (heads, C) float32.
    """

    weights: Tensor
    biases: Tensor

    def logits(self, features: Tensor, head: int) -> Tensor:
        """Turn features (..., D) into logits (..., C) of one head."""
        return F.linear(features.to(self.weights.device, self.weights.dtype), self.weights[head], self.biases[head])


def fit_linear_heads(
    features: Tensor,
    labels: Tensor,
    rows: Tensor,
    *,
    num_classes: int,
    learning_rates: Sequence[float],
    weight_decay: float,
    steps: int,
    batch_size: int,
    seed: int,
    description: str,
) -> LinearHeads:
    """Fit one layer a learning rate by AdamW and cross-entropy.

    The BatchNorm without affine in front of them (as in DINOv2's linear segmentation head) has the statistics of all
    rows, which its running averages would come to; the layers start at zero.

    Args:
        features: (P, D), on the device that computes.
        labels: (P,) int64.
        rows: (R,) int64, the rows that are fitted.
        num_classes: C, classes that do not occur included.
        learning_rates: one head each.
        weight_decay: of the weights, not of the biases.
        steps: of the optimizer.
        batch_size: rows a step, drawn anew in each pass over the rows.
        seed: of the order of the rows.
        description: what the progress bar says.
    """
    width, device = features.shape[1], features.device
    mean, deviation = _statistics(features, rows)
    weights = nn.ParameterList(torch.zeros(num_classes, width, device=device) for _ in learning_rates)
    biases = nn.ParameterList(torch.zeros(num_classes, device=device) for _ in learning_rates)
    groups = []
    for weight, bias, rate in zip(weights, biases, learning_rates, strict=True):
        groups.append({"params": [weight], "lr": rate, "weight_decay": weight_decay})
        groups.append({"params": [bias], "lr": rate, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups)
    rise = max(round(WARM_UP * steps), 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rise, (steps - step) / max(steps - rise, 1), 1.0)
    )
    generator = torch.Generator().manual_seed(seed)
    batch_size = min(batch_size, len(rows))
    order = torch.zeros(0, dtype=torch.int64)
    with Progress(description, total=steps, unit="step") as bar:
        for _ in range(steps):
            if len(order) < batch_size:
                order = rows[torch.randperm(len(rows), generator=generator)]
            drawn, order = order[:batch_size].to(device), order[batch_size:]
            batch = (features[drawn].float() - mean) / deviation
            logits = F.linear(batch, torch.cat(list(weights)), torch.cat(list(biases)))
            logits = logits.unflatten(1, (len(learning_rates), num_classes))
            targets = labels[drawn, None].expand(-1, len(learning_rates))
            losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(dim=0)
            optimizer.zero_grad()
            losses.sum().backward()  # heads share no parameter
            optimizer.step()
            schedule.step()
            bar.update()
    folded = torch.stack([weight.detach() / deviation for weight in weights])
    shifted = torch.stack([bias.detach() for bias in biases]) - folded @ mean
    return LinearHeads(folded, shifted)


def _statistics(features: Tensor, rows: Tensor, rows_at_once: int = 65536) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each column, (D,) float32 each; a column that never changes has 1e-3."""
    parts = rows.to(features.device).split(rows_at_once)
    mean = sum(features[part].double().sum(dim=0) for part in parts) / len(rows)
    squares = sum(((features[part].double() - mean) ** 2).sum(dim=0) for part in parts)
    return mean.float(), (squares / len(rows) + 1e-6).sqrt().float()

"""Supervised classification by the concept of a caption: the first row of the paper's Table 5."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .base import Batch, Features, Objective


class CrossEntropyObjective(Objective):
    """A linear classifier on the student's cls features of the global crops; no teacher, no local crops.

    Args:
        hidden_size: width D of the encoder.
        num_classes: classes; the pre-training stage counts the concepts of the images set.
    """

    requires = frozenset({"global", "classes"})

    def __init__(self, hidden_size: int, *, num_classes: int = 1000) -> None:
        super().__init__()
        self.classifier = nn.Linear(hidden_size, num_classes)

    def targets(
        self, teacher: Features | None, batch: Batch, step: int = 0, total_steps: int = 1, num_parts: int = 1
    ) -> dict[str, torch.Tensor]:
        """Return nothing: the classes are in the batch."""
        return {}

    def forward(
        self,
        student: dict[str, Features],
        targets: dict[str, Any],
        batch: Batch,
        step: int = 0,
        total_steps: int = 1,
    ) -> dict[str, torch.Tensor]:
        """Return `loss` and the same as `cross_entropy`: the mean over the global crops `(V,)`, in float32."""
        logits = self.classifier(student["global"].cls)
        with torch.autocast(logits.device.type, enabled=False):
            loss = nn.functional.cross_entropy(logits.float(), batch["class_ids"])
        return {"loss": loss, "cross_entropy": loss}

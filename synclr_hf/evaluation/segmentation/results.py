"""Predicted masks of a test set, scored picture by picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synclr_hf.evaluation.context import Outcome
from synclr_hf.evaluation.labelled.masked_images import IGNORED
from synclr_hf.evaluation.measures import confusion_matrix
from synclr_hf.evaluation.scoring import score_masks


class MaskScorer:
    """Collects one confusion matrix a picture.

    Args:
        label_names: name of each class.
    """

    def __init__(self, label_names: tuple[str, ...]) -> None:
        self.label_names = label_names
        self._confusions: list[Tensor] = []

    def add(self, predicted: Tensor, mask: np.ndarray) -> None:
        """Count one picture: (H, W) int64 classes beside its mask, (H, W) uint8."""
        target = torch.from_numpy(np.array(mask, dtype=np.int64))
        self._confusions.append(confusion_matrix(predicted.cpu(), target, len(self.label_names), IGNORED))

    def confusion(self) -> Tensor:
        """Return the confusion matrix of all pictures together, (C, C) int64."""
        return torch.stack(self._confusions).sum(dim=0)

    def outcome(
        self, *, seed: int, num_pictures: int, config: Mapping[str, Any], details: Mapping[str, Any] | None = None
    ) -> Outcome:
        """Return the outcome of a protocol.

        Args:
            seed: of the bootstrap over the pictures.
            num_pictures: length of the test set, unreadable pictures included.
            config: the effective settings.
            details: beside those of the score.

        Raises:
            UserInputError: no picture could be read, or none has a pixel that counts.
        """
        empty = torch.zeros(0, len(self.label_names), len(self.label_names), dtype=torch.int64)
        confusions = torch.stack(self._confusions) if self._confusions else empty
        scored = score_masks(confusions, seed=seed, label_names=self.label_names)
        unreadable = num_pictures - len(self._confusions)
        return Outcome(
            primary=scored.primary,
            metrics=dict(scored.metrics),
            intervals=dict(scored.intervals),
            config=dict(config),
            details={**scored.details, **(details or {}), "unreadable_test_pictures": unreadable},
        )

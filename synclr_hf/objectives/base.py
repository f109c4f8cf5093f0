"""What an objective is: heads, targets from the teacher, a loss with named parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Batch = dict[str, Any]


@dataclass
class Features:
    """What an encoder makes of one stream of crops, after the final norm.

    Attributes:
        cls: `(B, D)`.
        masked_patches: `(M, D)`, the features of the masked patches in the order of `bool_masked_pos` `(B, P)`, row by
            row; `None` where the stream has no masks. Nothing looks at the other patches.
    """

    cls: torch.Tensor
    masked_patches: torch.Tensor | None = None


class Objective(nn.Module):
    """A term of the loss with its own student and teacher heads; knows tensors, not the Trainer.

    `requires` says what it needs: `global`, `local`, `masked` student crops, features of the `teacher`, `classes` in
    the batch. Where it depends on the settings, `requirements` tells before anything is built. `implementation` is one
    of `synclr_hf.implementation.IMPLEMENTATIONS`.
    """

    requires: frozenset[str] = frozenset()
    implementation: str = "fast"

    @classmethod
    def requirements(cls, settings: Mapping[str, Any]) -> frozenset[str]:
        """Return what an objective with these settings (an entry of `config.objectives`) requires."""
        return cls.requires

    def teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return (student head, teacher head) pairs: the second of each follows the first by moving average."""
        return []

    def targets(
        self, teacher: Features | None, batch: Batch, step: int = 0, total_steps: int = 1, num_parts: int = 1
    ) -> dict[str, torch.Tensor]:
        """Turn teacher features of the global crops into targets, gathered over processes, without gradient.

        Args:
            teacher: features of all global crops of this process in the optimizer step; `None` where no objective
                requires a teacher.
            batch: the ids and masks of the same crops.
            step: optimizer steps done.
            total_steps: optimizer steps of the whole training.
            num_parts: batches that these crops reach `forward` in (gradient accumulation); what `forward` divides by
                is such that the mean of the losses of all parts and processes is the loss of the whole.
        """
        raise NotImplementedError

    def split_targets(self, targets: dict[str, Any], batches: Sequence[Batch]) -> list[dict[str, Any]]:
        """Return the targets of each part; here every part needs all of them."""
        return [targets for _ in batches]

    def forward(
        self,
        student: dict[str, Features],
        targets: dict[str, Any],
        batch: Batch,
        step: int = 0,
        total_steps: int = 1,
    ) -> dict[str, torch.Tensor]:
        """Return `{"loss": scalar, ...named scalars}` from student features of the streams `global`, `local`."""
        raise NotImplementedError

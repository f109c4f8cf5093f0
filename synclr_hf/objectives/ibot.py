"""Masked patch prediction against the EMA teacher (iBOT; paper 3.3) with its prototype head.

Letters: V global crops of this process, P patches of each, M masked patches in all, D width, K prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .base import Batch, Features, Objective
from .distributed import max_over_processes, sum_over_processes, world_size
from .prototype_loss import balanced_assignments, prototype_cross_entropy


class PrototypeHead(nn.Module):
    """Linear-GELU-Linear-GELU-Linear, L2 normalisation, and a weight-normalised linear layer to K prototypes.

    As the reference: `weight_g` is trainable and starts at 1 (DINO freezes it); the last layer has no bias.
    """

    def __init__(self, in_size: int, hidden_size: int, bottleneck_size: int, num_prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(in_size, hidden_size),
            nn.GELU(),
            nn.Linear(hidden_size, hidden_size),
            nn.GELU(),
            nn.Linear(hidden_size, bottleneck_size),
        )
        self.weight_g = nn.Parameter(torch.ones(num_prototypes, 1))
        self.weight_v = nn.Parameter(torch.empty(num_prototypes, bottleneck_size))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features `(M, D)` to logits `(M, K)`."""
        return nn.functional.linear(self.embed(features), self.prototypes())

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Map features `(M, D)` to embeddings `(M, E)` of unit length."""
        return nn.functional.normalize(self.mlp(features), dim=-1)

    def prototypes(self) -> torch.Tensor:
        """Return the weights `(K, E)` of the last layer; each row has the length `weight_g`."""
        return self.weight_g * nn.functional.normalize(self.weight_v, dim=-1)


@torch.no_grad()
def sinkhorn_knopp(logits: torch.Tensor, *, temperature: float, iterations: int = 3) -> torch.Tensor:
    """Turn teacher logits into assignments that use all prototypes equally, over all processes (paper B.1).

    Each iteration divides every prototype by its sum over the samples of all processes, then every sample by its sum
    over prototypes. Done on logarithms in float32, so that no temperature and no logit overflows (the reference
    exponentiates without a guard and gives NaN on dead prototypes). The reference's factors 1/K and 1/B cancel.

    Args:
        logits: `(M, K)`, any float type; M may differ between processes, and be 0 on some of them.
        temperature: divides the logits; positive. Paper: 0.04 to 0.07.
        iterations: paper 3.

    Returns:
        Assignments `(M, K)` in float32; each row sums to 1.
    """
    with torch.autocast(logits.device.type, enabled=False):
        scores = logits.float() / temperature
        for _ in range(iterations):
            if world_size() == 1:
                scores = scores - scores.logsumexp(dim=0, keepdim=True)
            else:
                nothing = scores.new_full((1, scores.shape[1]), -torch.inf)
                highest = max_over_processes(torch.cat([nothing, scores]).amax(dim=0, keepdim=True))
                scores = scores - highest - sum_over_processes((scores - highest).exp().sum(dim=0, keepdim=True)).log()
            scores = scores - scores.logsumexp(dim=1, keepdim=True)
        return scores.exp()


def masked_patch_loss(
    student_logits: torch.Tensor,
    assignments: torch.Tensor,
    patch_weights: torch.Tensor,
    num_masked_images: torch.Tensor | int,
    *,
    temperature: float = 0.1,
) -> torch.Tensor:
    """Cross-entropy between teacher assignments and student predictions of the masked patches.

    Args:
        student_logits: `(M, K)`.
        assignments: `(M, K)`, rows sum to 1, no gradient.
        patch_weights: `(M,)`, 1 / number of masked patches of the patch's picture.
        num_masked_images: divides the sum: the loss is a mean over masked pictures of means over patches.
        temperature: of the student's softmax; reference 0.1.

    Returns:
        A scalar in float32.
    """
    with torch.autocast(student_logits.device.type, enabled=False):
        log_probabilities = (student_logits.float() / temperature).log_softmax(dim=-1)
        losses = -(assignments * log_probabilities).sum(dim=-1)
        return (losses * patch_weights).sum() / num_masked_images


class IBOTObjective(Objective):
    """The student sees masked global crops and predicts the teacher's assignment of each masked patch.

    Args:
        hidden_size: width D of the encoder.
        num_prototypes: K; paper 65,536.
        head_hidden_size: width of the head's MLP; reference 2048.
        head_bottleneck_size: width before the prototypes; reference 256.
        student_temperature: reference 0.1.
        teacher_temperature: of the assignments, after the warm-up; paper 0.07.
        warmup_teacher_temperature: at the start; paper 0.04.
        teacher_temperature_warmup_steps: optimizer steps of the linear warm-up; paper 4,000.
    """

    requires = frozenset({"global", "masked", "teacher"})

    def __init__(
        self,
        hidden_size: int,
        *,
        num_prototypes: int = 65536,
        head_hidden_size: int = 2048,
        head_bottleneck_size: int = 256,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        warmup_teacher_temperature: float = 0.04,
        teacher_temperature_warmup_steps: int = 4000,
    ) -> None:
        super().__init__()
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.warmup_teacher_temperature = warmup_teacher_temperature
        self.teacher_temperature_warmup_steps = teacher_temperature_warmup_steps
        sizes = (hidden_size, head_hidden_size, head_bottleneck_size, num_prototypes)
        self.head, self.teacher_head = PrototypeHead(*sizes), PrototypeHead(*sizes)

    def teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return the head with its teacher."""
        return [(self.head, self.teacher_head)]

    def temperature_at(self, step: int) -> float:
        """Return the teacher's temperature at an optimizer step: linear warm-up, then constant (paper B.1)."""
        progress = (
            min(step / self.teacher_temperature_warmup_steps, 1.0) if self.teacher_temperature_warmup_steps else 1
        )
        start = self.warmup_teacher_temperature
        return start + (self.teacher_temperature - start) * progress

    @torch.no_grad()
    def targets(
        self, teacher: Features | None, batch: Batch, step: int = 0, total_steps: int = 1, num_parts: int = 1
    ) -> dict[str, torch.Tensor]:
        """Return `assignments` `(M, K)` of this process's masked patches, balanced over all processes.

        In float32, or in bfloat16 where the fast implementation runs under autocast.

        Also `num_masked`, a scalar: the masked pictures per process and part.
        """
        masks, head, temperature = batch["bool_masked_pos"], self.teacher_head, self.temperature_at(step)
        if self.implementation == "plain":
            assignments = sinkhorn_knopp(head(teacher.masked_patches), temperature=temperature)
        else:
            embeddings = head.embed(teacher.masked_patches)
            assignments = balanced_assignments(embeddings, head.prototypes(), temperature=temperature)
        return {
            "assignments": assignments,
            "num_masked": sum_over_processes(masks.any(dim=-1).sum()) / (world_size() * num_parts),
        }

    def split_targets(self, targets: dict[str, Any], batches: Sequence[Batch]) -> list[dict[str, Any]]:
        """Return the assignments of each part's own masked patches."""
        counts = [len(batch["masked_positions"]) for batch in batches]
        return [{**targets, "assignments": part} for part in targets["assignments"].split(counts)]

    def forward(
        self,
        student: dict[str, Features],
        targets: dict[str, Any],
        batch: Batch,
        step: int = 0,
        total_steps: int = 1,
    ) -> dict[str, torch.Tensor]:
        """Return `loss` and the same as `ibot`; `teacher_temperature` is told for the log."""
        masks, patches = batch["bool_masked_pos"], student["global"].masked_patches
        shares = 1.0 / masks.sum(dim=-1).clamp(min=1)
        weights = shares[batch["masked_positions"] // masks.shape[1]]
        num_masked = targets["num_masked"].clamp(min=1 / world_size())
        assignments, temperature = targets["assignments"], self.student_temperature
        if self.implementation == "plain":
            logits = self.head(patches)
            loss = masked_patch_loss(logits, assignments, weights, num_masked, temperature=temperature)
        else:
            embeddings, prototypes = self.head.embed(patches), self.head.prototypes()
            loss = prototype_cross_entropy(embeddings, prototypes, assignments, weights, temperature=temperature)
            loss = loss / num_masked
        return {"loss": loss, "ibot": loss, "teacher_temperature": torch.full_like(loss, self.temperature_at(step))}

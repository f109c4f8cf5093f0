"""Multi-positive contrastive loss against the EMA teacher (paper 3.3, eq. 1-3) with its projection heads.

Letters: V global crops of this process, V·L local crops, W processes, D width of the encoder, E of the projection.
"""

from __future__ import annotations

import torch
from torch import nn

from .base import Batch, Features, Objective
from .distributed import gather_rows, world_size


def projection_mlp(in_size: int, hidden_size: int, out_size: int, num_layers: int) -> nn.Sequential:
    """Build the reference's projector or predictor.

    (Linear, LayerNorm, GELU) x (num_layers - 1), Linear without bias, LayerNorm without affine. Deviation named: the
    paper says "follow MoCo v3" (BatchNorm, ReLU); the authors' code uses LayerNorm and GELU, and so do we.
    """
    layers: list[nn.Module] = []
    for _ in range(num_layers - 1):
        layers += [nn.Linear(in_size, hidden_size), nn.LayerNorm(hidden_size), nn.GELU()]
        in_size = hidden_size
    layers += [nn.Linear(in_size, out_size, bias=False), nn.LayerNorm(out_size, elementwise_affine=False)]
    return nn.Sequential(*layers)


def multi_positive_losses(
    anchors: torch.Tensor,
    candidates: torch.Tensor,
    anchor_ids: torch.Tensor,
    candidate_ids: torch.Tensor,
    *,
    temperature: float,
    exclude: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Contrast every anchor with all candidates; those of the same id are its positives (paper eq. 1-3).

    With p uniform over the positives, `-sum p log q` is the mean over positives of `-log softmax`.

    Args:
        anchors: `(A, E)` any float type, not normalised.
        candidates: `(C, E)`, not normalised.
        anchor_ids: `(A,)` integers.
        candidate_ids: `(C,)` integers.
        temperature: divides the cosine similarity; positive. Paper: 0.08.
        exclude: `(A, C)` bool, true = this candidate exists neither as positive nor as negative for this anchor.

    Returns:
        The losses `(A,)` in float32, 0 for an anchor without a positive, and `(A,)` bool that says which have one.
    """
    with torch.autocast(anchors.device.type, enabled=False):
        anchors = nn.functional.normalize(anchors.float(), dim=-1)
        candidates = nn.functional.normalize(candidates.float(), dim=-1)
        logits = anchors @ candidates.T / temperature
        positive = anchor_ids[:, None] == candidate_ids[None, :]
        if exclude is not None:
            positive = positive & ~exclude
            logits = logits.masked_fill(exclude, torch.finfo(logits.dtype).min)
        log_probabilities = logits.log_softmax(dim=-1)
        count = positive.sum(dim=-1)
        losses = -log_probabilities.masked_fill(~positive, 0).sum(dim=-1) / count.clamp(min=1)
        return losses, count > 0


class MultiPositiveObjective(Objective):
    """Student projections predict the teacher's projections of all pictures of the same caption.

    Candidates are the teacher's projections of the global crops of all processes. A global anchor never meets its own
    crop (`view_ids`); a local anchor keeps its own picture's global crop as a positive (reference default). The
    student's global crops are the masked ones where another objective masks (reference). Not symmetrised.

    Args:
        hidden_size: width D of the encoder.
        temperature: paper 0.08 (the reference's default is 0.1).
        head_hidden_size: width of the hidden layers of projector and predictor; paper 4096.
        head_output_size: E; paper 256.
        projector_layers: paper 3.
        predictor_layers: paper 2; the teacher has no predictor.
    """

    requires = frozenset({"global", "local", "teacher"})

    def __init__(
        self,
        hidden_size: int,
        *,
        temperature: float = 0.08,
        head_hidden_size: int = 4096,
        head_output_size: int = 256,
        projector_layers: int = 3,
        predictor_layers: int = 2,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.projector = projection_mlp(hidden_size, head_hidden_size, head_output_size, projector_layers)
        self.predictor = projection_mlp(head_output_size, head_hidden_size, head_output_size, predictor_layers)
        self.teacher_projector = projection_mlp(hidden_size, head_hidden_size, head_output_size, projector_layers)

    def teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return the projector with its teacher; the predictor has none."""
        return [(self.projector, self.teacher_projector)]

    @torch.no_grad()
    def targets(
        self, teacher: Features, batch: Batch, step: int = 0, total_steps: int = 1, num_parts: int = 1
    ) -> dict[str, torch.Tensor]:
        """Return the candidates of all processes: `keys` `(W V, E)`, their `caption_ids` and `view_ids` `(W V,)`.

        Also `num_anchors`, a scalar: the global anchors with a positive, per process and part.
        """
        caption_ids = gather_rows(batch["caption_ids"])
        _, crops_each = caption_ids.unique(return_counts=True)
        return {
            "keys": gather_rows(self.teacher_projector(teacher.cls)),
            "caption_ids": caption_ids,
            "view_ids": gather_rows(batch["view_ids"]),
            "num_anchors": crops_each[crops_each > 1].sum() / (world_size() * num_parts),
        }

    def forward(
        self,
        student: dict[str, Features],
        targets: dict[str, torch.Tensor],
        batch: Batch,
        step: int = 0,
        total_steps: int = 1,
    ) -> dict[str, torch.Tensor]:
        """Return `loss` = `contrastive_global` + `contrastive_local` (eq. 4; local: mean over all local crops)."""
        global_anchors = self.predictor(self.projector(student["global"].cls))
        own_crop = batch["view_ids"][:, None] == targets["view_ids"][None, :]
        losses, _ = multi_positive_losses(
            global_anchors,
            targets["keys"],
            batch["caption_ids"],
            targets["caption_ids"],
            temperature=self.temperature,
            exclude=own_crop,
        )
        parts = {"contrastive_global": losses.sum() / targets["num_anchors"].clamp(min=1 / world_size())}
        if "local" in student:
            local_anchors = self.predictor(self.projector(student["local"].cls))
            crops_each = len(local_anchors) // len(batch["caption_ids"])
            losses, _ = multi_positive_losses(
                local_anchors,
                targets["keys"],
                batch["caption_ids"].repeat_interleave(crops_each),
                targets["caption_ids"],
                temperature=self.temperature,
            )
            parts["contrastive_local"] = losses.mean()  # every one has a positive: its own picture's global crop
        return {"loss": sum(parts.values()), **parts}

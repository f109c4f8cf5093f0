"""Multi-positive contrastive loss (paper 3.3, eq. 1-3) with its projection heads.

Letters: V global crops of this process, V·L local crops, W processes, D width of the encoder, E of the projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from synclr_hf.errors import unknown_name

from .base import Batch, Features, Objective
from .distributed import GatheredRows, gather_rows, gather_rows_with_gradient, world_size


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


CANDIDATE_IDS = {"captions": "caption_ids", "images": "image_ids", "classes": "class_ids"}
"""What makes two crops positives of each other -> the ids in the batch."""


class MultiPositiveObjective(Objective):
    """Crops of the same caption (or image, or class) are positives of each other, all other crops are negatives.

    With a teacher (SynCLR): predictions of the student's projections are compared with the teacher's projections.
    Without one (StableRep; with `ids: images` and two global crops SimCLR, with `ids: classes` supervised contrast):
    the student's projections are compared with each other, and both sides learn.

    Candidates are the projections of the global crops of all processes. A global anchor never meets its own crop
    (`view_ids`). The student's global crops are the masked ones where another objective masks (reference). Not
    symmetrised.

    Args:
        hidden_size: width D of the encoder.
        ids: `captions` (paper), `images` or `classes`.
        teacher: whether the candidates come from the EMA teacher (paper) or from the student itself.
        local_excludes_own_crop: whether a local anchor never meets the global crop of its own picture (an option of
            the reference, `--avoid_local_global_same`, off by default there and here).
        temperature: paper 0.08 (the reference's default is 0.1).
        head_hidden_size: width of the hidden layers of projector and predictor; paper 4096.
        head_output_size: E; paper 256.
        projector_layers: paper 3.
        predictor_layers: paper 2; the teacher has no predictor, and without a teacher there is none.

    Raises:
        UserInputError: if `ids` is none of the three.
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        ids: str = "captions",
        teacher: bool = True,
        local_excludes_own_crop: bool = False,
        temperature: float = 0.08,
        head_hidden_size: int = 4096,
        head_output_size: int = 256,
        projector_layers: int = 3,
        predictor_layers: int = 2,
    ) -> None:
        super().__init__()
        if ids not in CANDIDATE_IDS:
            raise unknown_name("ids of objective 'multi_positive'", ids, CANDIDATE_IDS, "ids: captions")
        self.requires = self.requirements({"ids": ids, "teacher": teacher})
        self.ids, self.temperature = CANDIDATE_IDS[ids], temperature
        self.local_excludes_own_crop = local_excludes_own_crop
        self.projector = projection_mlp(hidden_size, head_hidden_size, head_output_size, projector_layers)
        self.predictor, self.teacher_projector = None, None
        if teacher:
            self.predictor = projection_mlp(head_output_size, head_hidden_size, head_output_size, predictor_layers)
            self.teacher_projector = projection_mlp(hidden_size, head_hidden_size, head_output_size, projector_layers)

    @classmethod
    def requirements(cls, settings: Mapping[str, Any]) -> frozenset[str]:
        """Return what it requires: a teacher unless `teacher` is false, classes where `ids` says so."""
        teacher = {"teacher"} if settings.get("teacher", True) else set()
        classes = {"classes"} if settings.get("ids") == "classes" else set()
        return frozenset({"global", "local", *teacher, *classes})

    def teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return the projector with its teacher, if there is one; the predictor has none."""
        return [] if self.teacher_projector is None else [(self.projector, self.teacher_projector)]

    @torch.no_grad()
    def targets(
        self, teacher: Features | None, batch: Batch, step: int = 0, total_steps: int = 1, num_parts: int = 1
    ) -> dict[str, Any]:
        """Return the candidates of all processes: `ids` and `view_ids` `(W V,)`, a teacher's `keys` `(W V, E)`.

        The keys are on their way (`GatheredRows`) while the student computes. Also `num_anchors`, a scalar: the global
        anchors with a positive, per process and part.
        """
        keys = {} if self.teacher_projector is None else {"keys": GatheredRows(self.teacher_projector(teacher.cls))}
        ids = gather_rows(batch[self.ids])
        ordered = ids.sort().values
        crops_each = torch.searchsorted(ordered, ids, right=True) - torch.searchsorted(ordered, ids)
        return {
            **keys,
            "ids": ids,
            "view_ids": gather_rows(batch["view_ids"]),
            "num_anchors": (crops_each > 1).sum() / (world_size() * num_parts),
        }

    def anchors(self, features: torch.Tensor) -> torch.Tensor:
        """Map cls features `(B, D)` of the student to anchors `(B, E)`."""
        projected = self.projector(features)
        return projected if self.predictor is None else self.predictor(projected)

    def forward(
        self,
        student: dict[str, Features],
        targets: dict[str, Any],
        batch: Batch,
        step: int = 0,
        total_steps: int = 1,
    ) -> dict[str, torch.Tensor]:
        """Return `loss` = `contrastive_global` + `contrastive_local` (eq. 4; local: mean over all local crops)."""
        ids, view_ids = batch[self.ids], batch["view_ids"]
        anchors = self.anchors(student["global"].cls)
        keys = targets["keys"].result() if "keys" in targets else gather_rows_with_gradient(anchors)

        def losses(anchors: torch.Tensor, crops_each: int, own_crop_excluded: bool) -> torch.Tensor:
            views = view_ids.repeat_interleave(crops_each)
            return multi_positive_losses(
                anchors,
                keys,
                ids.repeat_interleave(crops_each),
                targets["ids"],
                temperature=self.temperature,
                exclude=views[:, None] == targets["view_ids"][None, :] if own_crop_excluded else None,
            )[0]

        num_anchors = targets["num_anchors"].clamp(min=1 / world_size())
        parts = {"contrastive_global": losses(anchors, 1, True).sum() / num_anchors}
        if "local" in student:
            crops_each = len(student["local"].cls) // len(ids)
            found = losses(self.anchors(student["local"].cls), crops_each, self.local_excludes_own_crop)
            # Unless it is excluded, every local anchor has a positive: its own picture's global crop.
            count = num_anchors * crops_each if self.local_excludes_own_crop else len(found)
            parts["contrastive_local"] = found.sum() / count
        return {"loss": sum(parts.values()), **parts}

"""Segmentation by the nearest labelled patches: nothing is trained.

Patches of the train pictures carry the class that fills them. Each patch of a test picture gets the votes of its k
nearest ones (cosine, weight exp(similarity / temperature), exact), and the shares of the votes are up-sampled
bilinearly to the mask. No protocol of the paper; the one of DINOv2's and iBOT's studies of patch features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, Outcome
from synclr_hf.evaluation.protocols.knn import knn_votes
from synclr_hf.evaluation.segmentation.frozen_maps import MappedPicture, mapped_pictures
from synclr_hf.evaluation.segmentation.pairs import checked_sides
from synclr_hf.evaluation.segmentation.patch_tables import DrawnFeatures, drawn_patches
from synclr_hf.evaluation.segmentation.results import MaskScorer
from synclr_hf.evaluation.segmentation.settings import check_settings
from synclr_hf.evaluation.segmentation.upsampling import upsampled_classes

_PATCHES_AT_ONCE = 16384


@dataclass(frozen=True)
class Config:
    """Settings of kNN on patches.

    Attributes:
        neighbours: the k nearest labelled patches vote.
        temperature: the vote of a neighbour weighs exp(similarity / temperature).
        short_side: of the pictures that the encoder sees, in pixels, rounded to whole patches; larger gives finer
            masks.
        max_patches: labelled patches that are compared with, drawn by the seed.
        balanced: draw as many patches of each class as there are, instead of every patch with the same chance.
        min_share: a train patch whose class fills less of its pixels is left out.
    """

    neighbours: int = 20
    temperature: float = 0.07
    short_side: int = 448
    max_patches: int = 100_000
    balanced: bool = False
    min_share: float = 0.5


def evaluate(context: EvaluationContext, config: Config) -> Outcome:
    """Predict test masks by votes of train patches."""
    train, test, seed = context.data.train, context.data.test, seed_for(context.seed, "segment knn")
    check_settings(
        "segment_knn",
        config,
        one_or_more=("neighbours", "short_side", "max_patches"),
        positive=("temperature",),
        shares=("min_share",),
    )
    checked_sides(train, test)
    gallery = drawn_patches(
        context.encoder,
        train,
        short_side=config.short_side,
        min_share=config.min_share,
        at_most=config.max_patches,
        balanced=config.balanced,
        seed=seed,
        description=f"segment_knn, {context.data.name} (train)",
    )
    if len(gallery.labels) == 0:
        raise UserInputError(
            f"no train patch is filled by one class to {config.min_share:g}; allowed: a share that some reach; "
            "type segment_knn.min_share=0.3 or a larger segment_knn.short_side"
        )
    scorer = MaskScorer(test.label_names)
    pictures = mapped_pictures(
        context.encoder,
        test,
        range(len(test)),
        short_side=config.short_side,
        description=f"segment_knn, {context.data.name} (test)",
    )
    for one, shares in _voted(pictures, gallery, config, context):
        scorer.add(upsampled_classes(shares.permute(2, 0, 1), one.mask.shape), one.mask)
    counts = torch.bincount(gallery.labels, minlength=len(train.label_names)).tolist()
    return scorer.outcome(
        seed=seed,
        num_pictures=len(test),
        config={**asdict(config), "num_layers": context.encoder.num_layers},
        details={"train_patches": dict(zip(train.label_names, counts, strict=True))},
    )


def _voted(
    pictures: Iterable[MappedPicture], gallery: DrawnFeatures, config: Config, context: EvaluationContext
) -> Iterator[tuple[MappedPicture, Tensor]]:
    """Pair each picture with its patches' shares of votes, (h, w, C) float32; several are compared at once."""
    k, num_classes = config.neighbours, len(context.data.test.label_names)
    waiting: list[MappedPicture] = []

    def compared() -> Iterator[tuple[MappedPicture, Tensor]]:
        votes = knn_votes(
            gallery.features,
            gallery.labels,
            torch.cat([one.features.flatten(0, 1) for one in waiting]),
            ks=[k],
            temperature=config.temperature,
            num_classes=num_classes,
            device=context.encoder.model.device,
        )[k].cpu()
        shares = votes / votes.sum(dim=1, keepdim=True)
        sizes = [one.features.shape[0] * one.features.shape[1] for one in waiting]
        for one, mine in zip(waiting, shares.split(sizes), strict=True):
            yield one, mine.unflatten(0, one.features.shape[:2])
        waiting.clear()

    for one in pictures:
        waiting.append(one)
        if sum(one.features.shape[0] * one.features.shape[1] for one in waiting) >= _PATCHES_AT_ONCE:
            yield from compared()
    if waiting:
        yield from compared()

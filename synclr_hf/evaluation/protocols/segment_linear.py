"""Segmentation by a linear layer on frozen patch features, as DINOv2 does it.

A BatchNorm without affine, one linear layer a patch, its logits up-sampled bilinearly to the mask, cross-entropy over
pixels. A linear layer and up-sampling commute, so the layer is trained on the up-sampled *features* of drawn pixels:
the same logits, at a small part of the cost. Named deviations from DINOv2 (Oquab et al. 2023, 7.4): pixels are drawn
once, without augmentation; the whole picture goes through the encoder in one pass, scaled to `short_side`, at
training and at test (no sliding windows); the learning rate is chosen by mIoU on the validation split, or on held-out
train pictures and then fitted again on all. The range of rates was widened after a look at test pictures of CamVid.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, Outcome
from synclr_hf.evaluation.measures import confusion_matrix, mean_iou
from synclr_hf.evaluation.segmentation.frozen_maps import mapped_pictures
from synclr_hf.evaluation.segmentation.linear_heads import LinearHeads, fit_linear_heads
from synclr_hf.evaluation.segmentation.pairs import checked_sides
from synclr_hf.evaluation.segmentation.patch_tables import DrawnFeatures, drawn_pixels
from synclr_hf.evaluation.segmentation.results import MaskScorer
from synclr_hf.evaluation.segmentation.settings import check_settings
from synclr_hf.evaluation.segmentation.upsampling import upsampled_classes


@dataclass(frozen=True)
class Config:
    """Settings of the linear layer on patches.

    Attributes:
        learning_rates: tried side by side as parallel heads; the best on validation pictures is taken.
        weight_decay: of AdamW.
        steps: of the optimizer.
        batch_size: pixels a step.
        short_side: of the pictures that the encoder sees, in pixels, rounded to whole patches.
        max_pixels: train pixels that are drawn, equally many a picture; 400,000 of 768 numbers take 0.6 GB.
        validation_fraction: share of the train pictures that is held out where the data has no validation split.
    """

    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    weight_decay: float = 1e-4
    steps: int = 2000
    batch_size: int = 4096
    short_side: int = 448
    max_pixels: int = 400_000
    validation_fraction: float = 0.1


def evaluate(context: EvaluationContext, config: Config) -> Outcome:
    """Fit a linear layer on pixels of the train pictures, predict test masks."""
    train, test, seed = context.data.train, context.data.test, seed_for(context.seed, "segment linear")
    check_settings(
        "segment_linear",
        config,
        one_or_more=("steps", "batch_size", "short_side", "max_pixels"),
        zero_or_more=("weight_decay",),
        positive=("learning_rates",),
        shares=("validation_fraction",),
    )
    checked_sides(train, test)
    table = _pixels(context, "train", config, seed, config.max_pixels)
    every = torch.arange(len(table.labels))
    if context.data.validation is not None:
        fitted = every
        held_out = _pixels(context, "validation", config, seed, max(config.max_pixels // 5, 1))
        checked = torch.arange(len(held_out.labels))
    else:
        held_out = table
        fitted, checked = _split(table, config.validation_fraction, seed)
    heads = _fit(context, table, fitted, config, config.learning_rates, seed)
    by_rate = {
        rate: _pixel_iou(heads, head, held_out, checked, len(train.label_names))
        for head, rate in enumerate(config.learning_rates)
    }
    best = max(sorted(by_rate), key=by_rate.__getitem__)
    head = config.learning_rates.index(best)
    if fitted is not every:
        heads, head = _fit(context, table, every, config, (best,), seed), 0
    scorer = MaskScorer(test.label_names)
    for one in mapped_pictures(
        context.encoder,
        test,
        range(len(test)),
        short_side=config.short_side,
        description=f"segment_linear, {context.data.name} (test)",
    ):
        logits = heads.logits(one.features, head).permute(2, 0, 1)
        scorer.add(upsampled_classes(logits, one.mask.shape), one.mask)
    return scorer.outcome(
        seed=seed,
        num_pictures=len(test),
        config={
            **asdict(config),
            "learning_rates": list(config.learning_rates),
            "num_layers": context.encoder.num_layers,
        },
        details={
            "learning_rate": best,
            "validation_mean_iou": {f"{rate:g}": value for rate, value in by_rate.items()},
            "chosen_on": "train pictures held out" if context.data.validation is None else "validation split",
            "train_pixels": len(table.labels),
        },
    )


def _pixels(context: EvaluationContext, side: str, config: Config, seed: int, at_most: int) -> DrawnFeatures:
    """Draw pixels of one side."""
    data = getattr(context.data, side)
    found = drawn_pixels(
        context.encoder,
        data,
        range(len(data)),
        short_side=config.short_side,
        at_most=at_most,
        seed=seed_for(seed, side),
        told=f"segment_linear, {context.data.name} ({side})",
    )
    if len(found.labels) == 0:  # train is checked already
        raise UserInputError(
            f"none of the {len(data)} {side} pictures can be read and has a mask with a pixel that counts; give masks "
            "of the classes, or a data set without this split"
        )
    return found


def _split(table: DrawnFeatures, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return the rows that are fitted and those of held-out pictures; of a single picture both have all."""
    pictures = np.random.default_rng(seed_for(seed, "held out")).permutation(torch.unique(table.rows).numpy())
    if len(pictures) < 2:
        return torch.arange(len(table.rows)), torch.arange(len(table.rows))
    count = min(max(round(fraction * len(pictures)), 1), len(pictures) - 1)
    held = torch.isin(table.rows, torch.from_numpy(pictures[:count]))
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def _fit(
    context: EvaluationContext,
    table: DrawnFeatures,
    rows: Tensor,
    config: Config,
    rates: tuple[float, ...],
    seed: int,
) -> LinearHeads:
    device = context.encoder.model.device
    return fit_linear_heads(
        table.features.to(device),
        table.labels.to(device),
        rows,
        num_classes=len(context.data.train.label_names),
        learning_rates=rates,
        weight_decay=config.weight_decay,
        steps=config.steps,
        batch_size=config.batch_size,
        seed=seed_for(seed, "order"),
        description=f"segment_linear, {len(rates)} head{'s' * (len(rates) > 1)}",
    )


def _pixel_iou(heads: LinearHeads, head: int, table: DrawnFeatures, rows: Tensor, num_classes: int) -> float:
    """Return the mIoU on drawn pixels."""
    predicted = [heads.logits(table.features[part], head).argmax(dim=1).cpu() for part in rows.split(16384)]
    return mean_iou(confusion_matrix(torch.cat(predicted), table.labels[rows], num_classes))

"""Does the first principal component of the patch features find the things in a picture?

The idea of DINOv2's and the SynCLR paper's PCA pictures (Figure 5) as a number, without any training. The components
are those of patches of the *train* pictures, whose masks are not looked at; a patch is foreground where the first one
is above its mean over them. Which end is the foreground is chosen without labels, too: the one that patches at the
border of the pictures have less of. The component is up-sampled bilinearly and compared with the binary mask.

The mean IoU of foreground and background is the main number, since everything called foreground gets a high foreground
IoU where things are large. What needs no encoder is told beside it: all foreground, and a box in the centre.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, Outcome
from synclr_hf.evaluation.labelled.masked_images import IGNORED
from synclr_hf.evaluation.measures import class_iou, mean_iou
from synclr_hf.evaluation.seeing.foreground_split import border_patches
from synclr_hf.evaluation.segmentation.frozen_maps import mapped_pictures
from synclr_hf.evaluation.segmentation.pairs import checked_sides
from synclr_hf.evaluation.segmentation.results import MaskScorer
from synclr_hf.evaluation.segmentation.settings import check_settings
from synclr_hf.evaluation.segmentation.upsampling import upsampled_strips

NUM_COMPONENTS = 3
"""Components that are looked at; the first one makes the main number."""
BOX_SHARE = 0.5
"""Area of the box in the centre, as a share of the picture."""


@dataclass(frozen=True)
class Config:
    """Settings of the foreground by principal components.

    Attributes:
        background: names of the classes that are background; all others are foreground. Default: the class named
            `background`, or the first of two.
        short_side: of the pictures that the encoder sees, in pixels, rounded to whole patches.
        max_pictures: train pictures whose patches give the components, drawn by the seed.
    """

    background: tuple[str, ...] = ()
    short_side: int = 448
    max_pictures: int = 500


@dataclass(frozen=True)
class Components:
    """Principal components of patch features.

    Attributes:
        mean: (D,) float32.
        directions: (K, D) float32, orthonormal rows, largest variance first, signs by the border rule.
        explained: (K,) share of the variance along each.
    """

    mean: Tensor
    directions: Tensor
    explained: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Turn features (h, w, D) into (K, h, w), zero on average over what the components come from."""
        return ((features - self.mean) @ self.directions.T).permute(2, 0, 1)


def evaluate(context: EvaluationContext, config: Config) -> Outcome:
    """Compare thresholded principal components with the foreground of the test masks."""
    train, test, seed = context.data.train, context.data.test, seed_for(context.seed, "foreground")
    check_settings("foreground", config, one_or_more=("short_side", "max_pictures"))
    checked_sides(train, test)
    background = background_names(test.label_names, config.background)
    table = np.full(256, IGNORED, dtype=np.uint8)
    table[: len(test.label_names)] = [name not in background for name in test.label_names]
    components = _components(context, config, seed)
    names = ("background", "foreground")
    found = MaskScorer(names)
    variants = {f"component_{number + 1}{end}": MaskScorer(names) for number in range(NUM_COMPONENTS) for end in "+-"}
    baselines = {"all_foreground": MaskScorer(names), "centre_box": MaskScorer(names)}
    for one in mapped_pictures(
        context.encoder,
        test,
        range(len(test)),
        short_side=config.short_side,
        description=f"foreground, {context.data.name} (test)",
    ):
        mask = table[one.mask]
        scores = torch.cat(list(upsampled_strips(components.scores(one.features), mask.shape)), dim=1)
        found.add((scores[0] > 0).long(), mask)
        for number, score in enumerate(scores):
            variants[f"component_{number + 1}+"].add((score > 0).long(), mask)
            variants[f"component_{number + 1}-"].add((score <= 0).long(), mask)
        baselines["all_foreground"].add(torch.ones(mask.shape, dtype=torch.int64), mask)
        baselines["centre_box"].add(centre_box(mask.shape), mask)
    outcome = found.outcome(
        seed=seed,
        num_pictures=len(test),
        config={**asdict(config), "background": sorted(background), "num_layers": context.encoder.num_layers},
    )
    oracle = {name: _numbers(scorer) for name, scorer in variants.items()}
    best = max(oracle, key=lambda name: oracle[name]["mean_iou"])
    return Outcome(
        primary=outcome.primary,
        metrics={**outcome.metrics, "foreground_iou": _numbers(found)["foreground_iou"]},
        intervals=outcome.intervals,
        config=outcome.config,
        details={
            **outcome.details,
            "baselines": {name: _numbers(scorer) for name, scorer in baselines.items()},
            "explained_variance": components.explained.tolist(),
            "by_component_and_sign": oracle,
            "best_of_three_by_labels": {"component": best, **oracle[best]},
        },
    )


def background_names(label_names: tuple[str, ...], given: tuple[str, ...]) -> set[str]:
    """Return which classes are background.

    Raises:
        UserInputError: it is not given and not known, or leaves no foreground.
    """
    background = set(given) or {name for name in label_names if name.lower() == "background"}
    if not background and len(label_names) == 2:
        background = {label_names[0]}
    unknown = background - set(label_names)
    if unknown or not background or not set(label_names) - background:
        told = (
            f"has '{sorted(unknown)[0]}'" if unknown else f"is {sorted(background)}" if background else "is not given"
        )
        raise UserInputError(
            f"foreground.background {told}; allowed: some, not all, of {', '.join(label_names)}; "
            f"type foreground.background={label_names[0]}"
        )
    return background


def centre_box(size: tuple[int, int]) -> Tensor:
    """Return a mask (H, W) int64 with ones in the middle, `BOX_SHARE` of the area, of the picture's own aspect."""
    found = torch.zeros(size, dtype=torch.int64)
    top, left = (round(side * (1 - BOX_SHARE**0.5) / 2) for side in size)
    found[top : size[0] - top, left : size[1] - left] = 1
    return found


def _components(context: EvaluationContext, config: Config, seed: int) -> Components:
    """Find the components of train patches by the covariance, one picture after another."""
    train = context.data.train
    order = np.random.default_rng(seed_for(seed, "pictures")).permutation(len(train))
    rows = sorted(order[: config.max_pictures].tolist())
    count, border_count = 0, 0
    total = squares = border_total = None
    for one in mapped_pictures(
        context.encoder,
        train,
        rows,
        short_side=config.short_side,
        description=f"foreground, {context.data.name} (train)",
    ):
        patches = one.features.double()
        flat, edge = patches.flatten(0, 1), patches[border_patches(*patches.shape[:2])]
        if total is None:
            shift = flat.mean(dim=0)  # sums about a first guess of the mean lose no digits
            total, squares, border_total = torch.zeros_like(shift), torch.zeros(len(shift), len(shift)).double(), 0.0
        flat, edge = flat - shift, edge - shift
        total += flat.sum(dim=0)
        squares += flat.T @ flat
        border_total = border_total + edge.sum(dim=0)
        count, border_count = count + len(flat), border_count + len(edge)
    if count == 0:
        raise UserInputError(
            f"none of the {len(rows)} train pictures can be read; needed: JPEG, PNG or another format that Pillow "
            "opens; type another --dataset"
        )
    mean = total / count
    variances, directions = torch.linalg.eigh(squares / count - torch.outer(mean, mean))  # ascending
    directions = turned_from_border(directions.T.flip(0)[:NUM_COMPONENTS], border_total / border_count - mean)
    explained = variances.flip(0)[:NUM_COMPONENTS] / variances.sum().clamp_min(1e-30)
    return Components((mean + shift).float(), directions.float(), explained)


def turned_from_border(directions: Tensor, border: Tensor) -> Tensor:
    """Turn directions (K, D) so that border patches have less of each than all patches have on average.

    Args:
        directions: rows of any sign.
        border: (D,) mean of the features of border patches minus that of all patches.
    """
    return torch.where((directions @ border)[:, None] > 0, -directions, directions)


def _numbers(scorer: MaskScorer) -> dict[str, float]:
    confusion = scorer.confusion()
    return {"mean_iou": mean_iou(confusion), "foreground_iou": class_iou(confusion)[1].item()}

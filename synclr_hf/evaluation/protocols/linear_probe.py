"""Linear classification of frozen features (SynCLR paper, appendix B.2).

BatchNorm without affine, then one linear layer; SGD with momentum 0.9, no weight decay, batches of 1,024, 90 epochs,
cosine schedule; base learning rates {0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50}e-2, tried side by side as parallel heads.
The reference code sweeps 0.3e-2 besides (`main_linear.py` of StableRep).

Named deviations from B.2:
- The learning rate is chosen on the validation split, or on a part of the train pictures where there is none, and the
  layer is fitted again on all of them. The paper reports the best rate on ImageNet's validation set, which is the set
  its numbers are about: a little more than an unseen test set would give.
- Features are computed once by default, without augmentation; `augmented` gives the paper's random crops and flips.
- A test picture comes to its size as the encoder's settings say: by default it is resized to 224 px on its short side
  and cropped to 224 px (bicubic), so that all of the short side is seen. The reference resizes to 256 px and crops
  224 px: 7/8 of the short side.
- Weights start at zero (the problem is convex; the reference draws small ones).

Sets smaller than a batch take one step an epoch with all rows, and the learning rate follows the rows that a batch
has: the rate used is base x rows a step / 256. An incomplete last batch is left out; every epoch has another order.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synclr_hf.data.progress import Progress
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, Outcome
from synclr_hf.evaluation.protocols.augmented_probe import augmented_probe
from synclr_hf.evaluation.protocols.parallel_heads import REFERENCE_BATCH_SIZE, HeadTraining, validation_scores
from synclr_hf.evaluation.protocols.rate_choice import (
    LinearProbeResult,
    best_rate,
    check_enough,
    check_finite,
    count_classes,
    validation_split,
)
from synclr_hf.evaluation.scoring import score_predictions

logger = logging.getLogger(__name__)

PAPER_BASE_LEARNING_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""The sweep of appendix B.2."""
_SHARE_OF_FREE_MEMORY = 0.5
"""Features move to the device once where they take at most this part of its free memory."""


@dataclass(frozen=True)
class Config:
    """Settings of the linear probe.

    Attributes:
        base_learning_rates: tried side by side as parallel heads; the rate used is base x batch size / 256.
        epochs: passes over the train pictures.
        batch_size: rows a step (all rows where there are fewer).
        validation_fraction: share of the train pictures on which the learning rate is chosen where the data set has
            no validation split.
        augmented: every epoch sees other random crops and flips, through the frozen encoder; else features are
            computed once.
        crop_scale: smallest and largest area of a random crop, as a share of the picture; with `augmented`.
        flip_probability: of a horizontal flip; with `augmented`.
    """

    base_learning_rates: tuple[float, ...] = PAPER_BASE_LEARNING_RATES
    epochs: int = 90
    batch_size: int = 1024
    validation_fraction: float = 0.1
    augmented: bool = False
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip_probability: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        rates = self.base_learning_rates
        if not rates or not all(math.isfinite(rate) and rate > 0 for rate in rates) or len(set(rates)) < len(rates):
            raise UserInputError(
                f"linear.base_learning_rates is {list(rates)}; allowed: different numbers above 0; "
                "type linear.base_learning_rates=0.01,0.1"
            )
        for name in ("epochs", "batch_size"):
            least = 2 if name == "batch_size" else 1  # BatchNorm needs two rows
            if getattr(self, name) < least:
                raise UserInputError(
                    f"linear.{name} is {getattr(self, name)}; allowed: {least} or more; "
                    f"type linear.{name}={getattr(Config, name)}"
                )
        if not 0 < self.validation_fraction < 1:
            raise UserInputError(
                f"linear.validation_fraction is {self.validation_fraction}; allowed: between 0 and 1; "
                "type linear.validation_fraction=0.1"
            )
        if len(self.crop_scale) != 2 or not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise UserInputError(
                f"linear.crop_scale is {list(self.crop_scale)}; allowed: two shares of the area above 0 up to 1, "
                "smaller first; type linear.crop_scale=0.08,1"
            )
        if not 0 <= self.flip_probability <= 1:
            raise UserInputError(
                f"linear.flip_probability is {self.flip_probability}; allowed: 0 to 1; "
                "type linear.flip_probability=0.5"
            )


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    *,
    seed: int,
    groups: np.ndarray | None = None,
    config: Config | None = None,
    metric: str = "accuracy",
    validation_rows: np.ndarray | None = None,
    device: torch.device | str | None = None,
) -> LinearProbeResult:
    """Choose the learning rate on a part of the train features, fit again on all of them, score the test rows.

    Args:
        train_features: (N, D).
        train_labels: (N,) int64, or (N, C) multi-hot float.
        test_features: (M, D).
        seed: of the validation split and the order of the rows; equal seeds give equal results on one machine.
        groups: (N,) ids; rows with the same id stay on one side of the validation split. Default: every row alone.
        config: the settings; default `Config()`. Those of augmented pictures mean nothing here.
        metric: what the learning rate is chosen by; see `score_predictions`.
        validation_rows: rows of the train features that the learning rate is chosen on; default: drawn here.
        device: where the heads learn; default: where the features are.

    Raises:
        UserInputError: fewer than two rows, a feature that is not finite, or every learning rate diverged.
    """
    config = config or Config()
    device = torch.device(device or train_features.device)
    for features, side in ((train_features, "train"), (test_features, "test")):
        check_finite(features, side)
    if validation_rows is None:
        fit_rows, validation_rows = validation_split(train_labels, groups, config.validation_fraction, seed)
    else:
        fit_rows = np.setdiff1d(np.arange(len(train_labels)), validation_rows)
    num_features, num_classes = train_features.shape[1], count_classes(train_labels)
    rows_at_hand, labels = _moved_if_it_fits(train_features, device), train_labels.to(device)

    def fitted(rows: np.ndarray, rates: Sequence[float], name: str) -> tuple[HeadTraining, int, int]:
        check_enough(len(rows))
        batch_size = min(config.batch_size, len(rows))
        steps_per_epoch = len(rows) // batch_size
        total_steps = config.epochs * steps_per_epoch
        training = HeadTraining(
            num_features, num_classes, rates, batch_size=batch_size, total_steps=total_steps, device=device
        )
        generator = torch.Generator().manual_seed(seed_for(seed, name))
        places = torch.from_numpy(rows)
        for _ in range(config.epochs):
            training.start_epoch()
            order = places[torch.randperm(len(rows), generator=generator)]
            for batch in order.to(rows_at_hand.device).split(batch_size)[:steps_per_epoch]:
                training.step(_to_device(rows_at_hand[batch], device), labels[batch.to(device, non_blocking=True)])
        return training, batch_size, total_steps

    rates = config.base_learning_rates
    search, _, _ = fitted(fit_rows, rates, "probe search")
    chosen_on = torch.from_numpy(validation_rows)
    finite = search.finite()
    scores = validation_scores(search.heads, train_features[chosen_on], train_labels[chosen_on], metric, finite)
    while True:
        best, diverged = best_rate(rates, scores, finite)
        final, batch_size, steps = fitted(np.arange(len(train_labels)), [best], "probe final")
        if final.finite()[0]:
            break
        finite[list(rates).index(best)] = False  # it diverged on all rows only: the next best one
    return LinearProbeResult(
        scores=final.heads.scores(test_features, 0),
        base_learning_rate=best,
        validation_scores=dict(zip(rates, scores, strict=True)),
        diverged=diverged,
        train_loss=final.train_losses()[0],
        batch_size=batch_size,
        steps=steps,
        num_validation=len(validation_rows),
    )


def evaluate(context: EvaluationContext, config: Config) -> Outcome:
    """Classify the test pictures by a linear layer on frozen features.

    `details["unseen_labels"]` counts the test pictures whose class has no picture to learn from.
    """
    test, metric = context.table("test"), context.data.metric
    device = "cpu" if context.encoder.model is None else context.encoder.model.device
    if config.augmented:
        found, facts = augmented_probe(context, config, test.features)
    else:
        found, facts = _cached_probe(context, config, test.features, device), {}
    _warn(config, found)
    scored = score_predictions(
        found.scores, test.labels, metric=metric, seed=seed_for(context.seed, "linear"), groups=test.groups.numpy()
    )
    if test.labels.dim() == 1:
        sides = [side for side in (context.data.train, context.data.validation) if side is not None]
        learned = np.concatenate([side.labels for side in sides])
        facts["unseen_labels"] = int((~np.isin(test.labels.numpy(), learned)).sum())
    return Outcome(
        primary=scored.primary,
        metrics=scored.metrics,
        intervals=scored.intervals,
        config=_effective(config, found, context),
        details={**scored.details, **_details(config, found), **facts},
    )


def _cached_probe(
    context: EvaluationContext, config: Config, test_features: Tensor, device: torch.device | str
) -> LinearProbeResult:
    """Run the probe on features that are computed once."""
    train, validation_rows = context.table("train"), None
    features, labels, groups = train.features, train.labels, train.groups.numpy()
    if context.data.validation is not None:
        validation = context.table("validation")
        validation_rows = np.arange(len(train), len(train) + len(validation))
        features = torch.cat([features, validation.features])
        labels = torch.cat([labels, validation.labels])
    with Progress(f"linear probe, {context.encoder.name}, {context.data.name}"):
        return linear_probe(
            features,
            labels,
            test_features,
            seed=seed_for(context.seed, "linear probe"),
            groups=groups,
            config=config,
            metric=context.data.metric,
            validation_rows=validation_rows,
            device=device,
        )


def _moved_if_it_fits(features: Tensor, device: torch.device) -> Tensor:
    """Return the features on the device, or as they are where they would fill it."""
    if device.type == "cuda" and features.device != device:
        free, _ = torch.cuda.mem_get_info(device)
        if features.numel() * features.element_size() > _SHARE_OF_FREE_MEMORY * free:
            return features
    return features.to(device)


def _to_device(rows: Tensor, device: torch.device) -> Tensor:
    """Return a batch on the device without waiting for it."""
    if rows.device == device:
        return rows
    return (rows.pin_memory() if device.type == "cuda" else rows).to(device, non_blocking=True)


def _warn(config: Config, found: LinearProbeResult) -> None:
    """Say what makes a probe weaker than it could be."""
    if found.steps == config.epochs:
        logger.warning(
            "linear probe: an epoch is one batch of %d pictures, so %d steps in all; "
            "a smaller linear.batch_size gives more steps",
            found.batch_size,
            found.steps,
        )
    if len(config.base_learning_rates) > 1 and found.base_learning_rate == max(config.base_learning_rates):
        logger.warning(
            "linear probe: the largest base learning rate, %g, was best; add larger ones to "
            "linear.base_learning_rates, or take a smaller linear.batch_size",
            found.base_learning_rate,
        )


def _effective(config: Config, found: LinearProbeResult, context: EvaluationContext) -> dict[str, Any]:
    """Return the settings as they were used."""
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}
    if not config.augmented:
        del settings["crop_scale"], settings["flip_probability"]
    if context.data.validation is not None:
        del settings["validation_fraction"]
    return {
        **settings,
        "batch_size": found.batch_size,
        "steps": found.steps,
        "chosen_on": "part of train" if context.data.validation is None else "validation split",
        "num_validation": found.num_validation,
    }


def _details(config: Config, found: LinearProbeResult) -> dict[str, Any]:
    """Return what was chosen, and from what."""
    rates = sorted(config.base_learning_rates)
    return {
        "base_learning_rate": found.base_learning_rate,
        "learning_rate": found.base_learning_rate * found.batch_size / REFERENCE_BATCH_SIZE,
        "validation_scores": {
            str(rate): None if rate in found.diverged else score for rate, score in found.validation_scores.items()
        },
        "chosen_at_edge": len(rates) > 1 and found.base_learning_rate in (rates[0], rates[-1]),
        "train_loss": found.train_loss,
        "diverged_base_learning_rates": list(found.diverged),
    }

"""Few-shot classification of frozen features: logistic regression on 1, 5 and 10 pictures a class.

The paper reports none; this is the few-shot linear probe of CLIP (Radford et al. 2021, section 3.1.3) and MSN (Assran
et al. 2022, section 4): logistic regression on the drawn pictures alone, mean over several draws. Statistics for
standardising are those of the drawn pictures, and L2 is fixed beforehand, because a choice would need more labelled
pictures than there are. Its default was picked with a look at test pictures of parts of Caltech-101 and CIFAR-10,
where values between 0.01 and 1 differed by less than one point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synclr_hf.data.progress import Progress
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, Outcome
from synclr_hf.evaluation.intervals import seed_interval
from synclr_hf.evaluation.protocols.logistic import (
    checked_table,
    count_classes,
    device_of,
    fit_logistic,
    unseen_labels,
)
from synclr_hf.evaluation.scoring import Scored, score_predictions

PRIMARY_SHOTS = 5
"""Pictures a class of the main number, fixed beforehand."""


@dataclass(frozen=True)
class Config:
    """Settings of few-shot classification.

    Attributes:
        shots: pictures a class that are learned from; 5, the main number, is added where it is missing.
        draws: random choices of these pictures, 2 to 10; their mean is reported.
        l2: weight of |W|^2 / 2 beside the sum of the losses (1 / C).
    """

    shots: tuple[int, ...] = (1, 5, 10)
    draws: int = 5
    l2: float = 0.1

    def __post_init__(self) -> None:
        if min(self.shots, default=1) < 1:
            raise UserInputError(f"few_shot.shots={list(self.shots)}; allowed: 1 or more; type few_shot.shots=1,5,10")
        if not 2 <= self.draws <= 10:
            raise UserInputError(f"few_shot.draws={self.draws}; allowed: 2 to 10; type few_shot.draws=5")
        if not 0 < self.l2 < math.inf:
            raise UserInputError(f"few_shot.l2={self.l2:g}; allowed: numbers above 0; type few_shot.l2=0.1")


def draw_shots(labels: np.ndarray, groups: np.ndarray, shots: int, *, seed: int) -> np.ndarray:
    """Draw pictures of each class at random, sorted row numbers; all of a class that has no more.

    Pictures of one group (drawn from one caption) are alike, so a class gives pictures of different groups as long as
    it has any. With the same seed fewer shots are a part of more shots.

    Args:
        labels: (N,) class of each picture.
        groups: (N,) ids.
        shots: pictures a class.
        seed: equal seeds draw equal pictures.
    """
    order = np.random.default_rng(seed_for(seed, "shots")).permutation(len(labels))
    by_group = order[np.lexsort((groups[order], labels[order]))]  # order within a group stays random
    turn = _place_in_run(labels[by_group], groups[by_group])  # how many of its class and group come before a picture
    place = np.empty(len(labels), dtype=np.int64)
    place[order] = np.arange(len(labels))
    ranked = by_group[np.lexsort((place[by_group], turn, labels[by_group]))]
    return np.sort(ranked[_place_in_run(labels[ranked]) < shots])


def evaluate(context: EvaluationContext, config: Config) -> Outcome:
    """Learn from a few pictures of each class, several times, and score the test pictures."""
    if context.data.metric == "map_11point":
        raise UserInputError(
            f"{context.data.name} has several classes a picture, so there is no number of pictures a class; "
            "leave few_shot out of --protocols"
        )
    train, test = checked_table(context, "train"), checked_table(context, "test")
    labels, groups, test_groups = train.labels.numpy(), train.groups.numpy(), test.groups.numpy()
    device, num_classes = device_of(context.encoder), count_classes(train)
    shots = sorted({*config.shots, PRIMARY_SHOTS})
    found: dict[int, list[Scored]] = {k: [] for k in shots}
    gaps, num_pictures = [], {}
    with Progress("few-shot", total=len(shots) * config.draws, unit="fit") as bar:
        for k in shots:
            for draw in range(config.draws):
                seed = seed_for(context.seed, "few-shot", draw)
                rows = draw_shots(labels, groups, k, seed=seed)
                num_pictures[k] = len(rows)
                (fit,) = fit_logistic(train.features[rows].to(device), train.labels[rows], [config.l2])
                if not fit.converged:
                    gaps.append(f"{k} shots, draw {draw} (gap {fit.gap:.0e})")
                scores = fit.scores(test.features, num_classes)
                found[k].append(
                    score_predictions(scores, test.labels, metric=context.data.metric, seed=seed, groups=test_groups)
                )
                bar.update()

    metric = found[PRIMARY_SHOTS][0].primary
    values = {k: [scored.metrics[metric] for scored in found[k]] for k in shots}
    counts = np.bincount(labels)
    return Outcome(
        primary=f"{metric}_{PRIMARY_SHOTS}shot",
        metrics={f"{metric}_{k}shot": float(np.mean(values[k])) for k in shots},
        intervals={f"{metric}_{k}shot": _interval(found[k], values[k]) for k in shots},
        config={"shots": shots, "draws": config.draws, "l2": config.l2, "standardised": True},
        details={
            "draws": {str(k): values[k] for k in shots},
            "standard_deviation": {str(k): float(np.std(values[k], ddof=1)) for k in shots},
            "pictures": {str(k): num_pictures[k] for k in shots},
            "classes_with_fewer_pictures": {str(k): int(((counts > 0) & (counts < k)).sum()) for k in shots},
            "unseen_labels": unseen_labels(train.labels, test.labels),
            "not_converged": gaps,
        },
    )


def _interval(scored: Sequence[Scored], values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean over draws: of other draws and of other test pictures.

    All draws are scored on the same test pictures, so the two errors are independent: the half widths of the t
    interval over draws and of the mean bootstrap interval over test pictures are added as squares.
    """
    low, high = seed_interval(values)  # type: ignore[misc]
    pictures = np.mean([np.diff(one.intervals[one.primary]) / 2 for one in scored])
    mean, half = float(np.mean(values)), math.hypot((high - low) / 2, float(pictures))
    return max(mean - half, 0.0), min(mean + half, 1.0)


def _place_in_run(*keys: np.ndarray) -> np.ndarray:
    """Return for each row how many rows directly before it have the same keys; rows are sorted by them."""
    rows = np.arange(len(keys[0]))
    starts = np.ones(len(rows), dtype=bool)
    starts[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return rows - np.maximum.accumulate(np.where(starts, rows, 0))

"""From predicted scores to the number of a benchmark, with an interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.evaluation.intervals import NUM_RESAMPLES, bootstrap_interval, bootstrap_statistic
from synclr_hf.evaluation.measures import (
    average_precision,
    class_iou,
    eleven_point_average_precision,
    label_ranks,
    per_class_accuracy,
    pixel_accuracy,
)

METRICS = ("accuracy", "mean_per_class_accuracy", "map_11point")
"""The metrics of benchmarks with a class a picture; masks have `mean_iou`."""
_MOST_RANKED = 400_000_000
"""Pictures x classes x samples that the bootstrap of average precision ranks at most (seconds)."""
_FEWEST_RESAMPLES = 200


@dataclass(frozen=True)
class Scored:
    """How good predictions are.

    Attributes:
        primary: name of the metric of the benchmark among `metrics`.
        metrics: name -> fraction in [0, 1].
        intervals: name -> (low, high), 95 % bootstrap over the test pictures, groups kept whole; for `primary`.
        details: plain values: scores a class (`None` for a class that does not occur), the number of samples.
    """

    primary: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    details: Mapping[str, Any]


def score_predictions(
    scores: Tensor, labels: Tensor, *, metric: str, seed: int, groups: np.ndarray | None = None
) -> Scored:
    """Score predictions by the metric of a benchmark.

    For one class a picture `metrics` has `accuracy`, `mean_per_class_accuracy` (mean over the classes that occur in
    `labels`) and, for more than five classes, `top5_accuracy`; for `map_11point` it has that and
    `mean_average_precision`, the area under the uninterpolated curve.

    Args:
        scores: (M, C) float, larger where a class is likelier (logits, votes, probabilities). Among equal ones the
            smallest class number wins.
        labels: (M,) int64, or (M, C) multi-hot for `map_11point`, where negative or NaN means that the picture
            counts for nothing in a class. A label of C or beyond was not there to learn from: it counts as wrong,
            and `details["unseen_labels"]` says how many there are.
        metric: one of `METRICS`; see `EvaluationData`.
        seed: of the bootstrap.
        groups: (M,) ids of pictures that are drawn together; default: every picture alone.

    Raises:
        UserInputError: there are no pictures, a score is NaN, a label is negative, labels do not fit the metric, or
            no class has a positive picture.
    """
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS, "--metric accuracy")
    if len(scores) == 0:
        raise UserInputError("there is no test picture to score; give a data set with a test split that is not empty")
    if num_bad := int(scores.isnan().any(dim=1).sum()):
        raise UserInputError(
            f"{num_bad} of {len(scores)} test pictures have a score that is not a number (NaN): a damaged checkpoint, "
            "or numbers that overflow in float16; type --dtype float32"
        )
    scores, labels = scores.detach().cpu(), labels.cpu()
    groups = np.arange(len(scores)) if groups is None else groups
    if metric == "map_11point":
        return _score_multi_label(scores, labels, seed=seed, groups=groups)
    if labels.dim() != 1 or labels.min() < 0:
        given = f"labels of shape {tuple(labels.shape)}, smallest {labels.min().item():g}"
        raise UserInputError(f"{given}; '{metric}' needs one class number, 0 or more, a picture; try map_11point")
    return _score_single_label(scores, labels.long(), metric, seed=seed, groups=groups)


def _score_single_label(scores: Tensor, labels: Tensor, metric: str, *, seed: int, groups: np.ndarray) -> Scored:
    """Score pictures of one class each."""
    num_classes = scores.shape[1]
    ranks = label_ranks(scores, labels)
    correct = (ranks == 0) & (labels < num_classes)
    by_class = per_class_accuracy(correct, labels, max(num_classes, int(labels.max()) + 1))
    metrics = {"accuracy": correct.double().mean().item(), "mean_per_class_accuracy": by_class.nanmean().item()}
    if num_classes > 5:
        metrics["top5_accuracy"] = (ranks < 5).double().mean().item()
    if metric == "accuracy":
        interval = bootstrap_interval(correct.numpy(), groups, seed=seed)
    else:
        statistic = _mean_per_class_of_draws(correct.numpy(), labels.numpy(), groups)
        interval = bootstrap_statistic(statistic, len(np.unique(groups)), seed=seed)
    details = {
        "per_class_accuracy": _plain(by_class),
        "unseen_labels": int((labels >= num_classes).sum()),
        "bootstrap_resamples": NUM_RESAMPLES,
    }
    return Scored(metric, metrics, {metric: interval}, details)


def _mean_per_class_of_draws(
    correct: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the mean per-class accuracy as a function of how often each group is drawn, (R, G) to (R,)."""
    order = np.argsort(labels, kind="stable")
    group_of_row = np.unique(groups, return_inverse=True)[1][order]
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))  # first row of each class
    right = correct[order]

    def statistic(counts: np.ndarray) -> np.ndarray:
        drawn = counts[:, group_of_row]
        total = np.add.reduceat(drawn, starts, axis=1)
        hits = np.add.reduceat(drawn * right, starts, axis=1)
        return (hits / np.maximum(total, 1)).sum(axis=1) / (total > 0).sum(axis=1)

    return statistic


def _score_multi_label(scores: Tensor, labels: Tensor, *, seed: int, groups: np.ndarray) -> Scored:
    """Score pictures of several classes each by average precision."""
    if labels.shape != scores.shape:
        raise UserInputError(
            f"labels of shape {tuple(labels.shape)} beside scores of shape {tuple(scores.shape)}; "
            "'map_11point' needs a 0 or 1 for every class of every picture; try --metric accuracy"
        )
    by_class = eleven_point_average_precision(scores, labels)
    if by_class.isnan().all():
        raise UserInputError(
            "no class has a positive test picture, so there is no average precision; check the labels"
        )
    affordable = _MOST_RANKED // scores.numel()
    num_resamples = min(max(affordable, _FEWEST_RESAMPLES), NUM_RESAMPLES)
    group_of_row = torch.from_numpy(np.unique(groups, return_inverse=True)[1])

    def statistic(counts: np.ndarray) -> np.ndarray:
        weights = torch.from_numpy(counts)[:, group_of_row]
        return eleven_point_average_precision(scores, labels, weights).nanmean(dim=1).numpy()

    interval = bootstrap_statistic(statistic, len(np.unique(groups)), seed=seed, num_resamples=num_resamples)
    metrics = {
        "map_11point": by_class.nanmean().item(),
        "mean_average_precision": average_precision(scores, labels).nanmean().item(),
    }
    details = {"per_class_average_precision": _plain(by_class), "bootstrap_resamples": num_resamples}
    return Scored("map_11point", metrics, {"map_11point": interval}, details)


def score_masks(confusion_per_picture: Tensor, *, seed: int, label_names: Sequence[str]) -> Scored:
    """Score predicted masks by mean intersection over union.

    Pixels of all test pictures are counted together, as segmentation is reported; classes that occur nowhere,
    neither in the masks nor in the predictions, are left out of the mean.

    Args:
        confusion_per_picture: (M, C, C) int64, `confusion_matrix` of each test picture.
        seed: of the bootstrap over the pictures.
        label_names: C names.

    Raises:
        UserInputError: there are no pictures, or not one of their pixels counts.
    """
    confusion = confusion_per_picture.cpu()
    if len(confusion) == 0 or not confusion.any():
        raise UserInputError(
            f"{len(confusion)} test pictures have no pixel that counts; give a data set with a test split whose masks "
            "are not ignored everywhere"
        )
    hits = confusion.diagonal(dim1=1, dim2=2)
    # (M, 2C): what intersection over union is made of; sums over pictures in float64 are exact
    sums = torch.cat([hits, confusion.sum(dim=2) + confusion.sum(dim=1) - hits], dim=1).double().numpy()

    def statistic(counts: np.ndarray) -> np.ndarray:
        both, either = np.split(counts @ sums, 2, axis=1)
        present = (either > 0).sum(axis=1)
        return np.where(present > 0, (both / np.maximum(either, 1)).sum(axis=1) / np.maximum(present, 1), np.nan)

    whole = confusion.sum(dim=0)
    by_class = class_iou(whole)
    metrics = {"mean_iou": by_class.nanmean().item(), "pixel_accuracy": pixel_accuracy(whole)}
    interval = bootstrap_statistic(statistic, len(confusion), seed=seed)
    details = {
        "per_class_iou": dict(zip(label_names, _plain(by_class), strict=True)),
        "bootstrap_resamples": NUM_RESAMPLES,
    }
    return Scored("mean_iou", metrics, {"mean_iou": interval}, details)


def _plain(values: Tensor) -> list[float | None]:
    """Return numbers ready for JSON, `None` for NaN."""
    return [None if value != value else value for value in values.tolist()]

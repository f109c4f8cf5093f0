"""Measures of predictions: plain functions of tensors, nothing drawn at random.

Letters: M pictures, C classes, R weightings of the pictures (one a resample of the bootstrap). Every share lies in
[0, 1]. A value a class is NaN where the class does not occur, and means over classes leave it out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from synclr_hf.errors import UserInputError

_CELLS_AT_ONCE = 2**24
"""Scores compared at once when labels are ranked (memory only)."""


def label_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Return how many classes stand before the right one, (M,) int64; 0 where it is the first.

    Of classes with equal scores the one with the smaller number comes first, as `argmax` chooses.

    Args:
        scores: (M, C) float, larger where a class is likelier.
        labels: (M,) int64, 0 or more; one of C or beyond (a class without a score) ranks behind all: C.
    """
    num_classes = scores.shape[1]
    places = torch.arange(num_classes, device=scores.device)
    ranks = []
    size = max(_CELLS_AT_ONCE // max(num_classes, 1), 1)
    for part, right in zip(scores.split(size), labels.split(size), strict=True):
        own = part.gather(1, right.clamp(max=num_classes - 1)[:, None])  # (B, 1)
        before = (part > own) | ((part == own) & (places < right[:, None]))
        ranks.append(before.sum(dim=1).where(right < num_classes, num_classes))
    return torch.cat(ranks)


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Return the share of pictures whose class is among the k with the largest scores; ties as in `label_ranks`.

    Args:
        scores: (M, C) float.
        labels: (M,) int64; labels of C or beyond count as wrong, even where k is C or more.
        k: 1 or more.
    """
    ranks = label_ranks(scores, labels)
    return ((ranks < k) & (ranks < scores.shape[1])).double().mean().item()


def per_class_accuracy(correct: Tensor, labels: Tensor, num_classes: int | None = None) -> Tensor:
    """Return the share of right answers among the pictures of each class, (C,) float64, NaN where there are none.

    Args:
        correct: (M,) bool, whether a picture was classified rightly.
        labels: (M,) int64, 0 or more.
        num_classes: C; default: the largest label + 1.
    """
    num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
    total = torch.bincount(labels, minlength=num_classes).double()
    return torch.bincount(labels, weights=correct.double(), minlength=num_classes) / total


def mean_per_class_accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Return the mean over the classes that occur in `labels` of the accuracy on their pictures.

    Args:
        predicted: (M,) int64.
        labels: (M,) int64, 0 or more.
    """
    return per_class_accuracy(predicted == labels, labels).nanmean().item()


def eleven_point_average_precision(scores: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the 11-point interpolated average precision of each class as the VOC2007 development kit defines it.

    The mean over the recalls 0, 0.1, ..., 1 of the largest precision at that recall or beyond, 0 where there is none
    (Everingham et al. 2010, "The PASCAL Visual Object Classes Challenge", section 4.2). Recalls are compared in
    whole numbers, so none is missed by rounding. Equal scores are counted together, because no threshold separates
    them: the order of the pictures does not matter (the kit takes them in order; without ties it is the same).

    Args:
        scores: (M, C) float, larger where a class is likelier.
        targets: (M, C): 1 where the class is there, 0 where it is not; negative or NaN: the picture counts for
            nothing in this class ("difficult" in VOC).
        weights: (R, M), how often each picture counts, whole numbers; default: once.

    Returns:
        (C,) float64, NaN for a class without a positive picture; (R, C) where `weights` are given.
    """

    def eleven_points(right: Tensor, total: Tensor) -> Tensor:
        best = (right / total.clamp(min=1)).flip(1).cummax(dim=1).values.flip(1)  # at this recall or beyond
        reached = [(10 * right < level * right[:, -1:]).sum(dim=1) for level in range(11)]
        return best.gather(1, torch.stack(reached, dim=1)).mean(dim=1)

    return _a_class(scores, targets, weights, eleven_points)


def average_precision(scores: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the area under the uninterpolated precision-recall curve of each class (as scikit-learn has it).

    Args:
        scores: see `eleven_point_average_precision`, likewise the others and what is returned.
        targets: (M, C).
        weights: (R, M) or `None`.
    """

    def area(right: Tensor, total: Tensor) -> Tensor:
        gained = right.diff(dim=1, prepend=right.new_zeros(len(right), 1))
        return (gained * right / total.clamp(min=1)).sum(dim=1) / right[:, -1]

    return _a_class(scores, targets, weights, area)


def _a_class(
    scores: Tensor, targets: Tensor, weights: Tensor | None, measure: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Apply a measure of the precision-recall curve (see `_curve`) to each class."""
    drawn = (scores.new_ones(1, len(scores)) if weights is None else weights).double()
    columns = []
    for column, target in zip(scores.T, targets.T, strict=True):
        right, total = _curve(column, target, drawn)
        undefined = right.new_full((len(right),), torch.nan)
        columns.append(measure(right, total).where(right[:, -1] > 0, undefined) if right.shape[1] else undefined)
    found = torch.stack(columns, dim=1)
    return found[0] if weights is None else found


def _curve(scores: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the right and all pictures with at least a certain score, (R, G) each, for G falling scores.

    The G scores are those of the positive pictures: between two of them precision only falls.

    Args:
        scores: (M,) of one class.
        target: (M,): 1, 0, or negative or NaN for pictures that are left out.
        weights: (R, M) float64.
    """
    kept = (target >= 0).nonzero()[:, 0]  # NaN is not
    order = kept[scores[kept].argsort(descending=True)]
    ordered, positive = scores[order], target[order] > 0
    is_last = torch.ones_like(positive)  # of equal scores
    is_last[:-1] = ordered[1:] != ordered[:-1]
    ends = is_last.nonzero()[:, 0]
    positives = positive.long().cumsum(0)[ends]
    gained = positives.diff(prepend=positives.new_zeros(1)) > 0
    drawn = weights[:, order]
    right = drawn[:, positive].cumsum(dim=1)[:, positives[gained] - 1]
    return right, drawn.cumsum(dim=1)[:, ends[gained]]


def confusion_matrix(predicted: Tensor, target: Tensor, num_classes: int, ignore_index: int | None = 255) -> Tensor:
    """Count the pairs of right and predicted class, (C, C) int64: rows are the right classes, columns the predicted.

    Args:
        predicted: any shape, whole numbers in [0, C).
        target: the same shape, in [0, C), or `ignore_index` where a pixel counts for nothing.
        num_classes: C.
        ignore_index: `None`: every pixel counts.

    Raises:
        UserInputError: the shapes differ, or a class number lies outside [0, C).
    """
    if predicted.shape != target.shape:
        raise UserInputError(
            f"predicted classes have the shape {tuple(predicted.shape)}, the right ones {tuple(target.shape)}; "
            "needed: one predicted class for each pixel of the mask"
        )
    predicted, target = predicted.flatten().long(), target.flatten().long()
    if ignore_index is not None:
        counted = target != ignore_index
        predicted, target = predicted[counted], target[counted]
    ignored = "" if ignore_index is None else f", {ignore_index} in masks"
    for values, told in ((predicted, "predicted"), (target, "right")):
        if len(values) and (values.min() < 0 or values.max() >= num_classes):
            worst = int(values.min() if values.min() < 0 else values.max())
            raise UserInputError(f"a {told} class is {worst}; allowed: 0 to {num_classes - 1}{ignored}")
    return torch.bincount(target * num_classes + predicted, minlength=num_classes**2).view(num_classes, num_classes)


def class_iou(confusion: Tensor) -> Tensor:
    """Return intersection over union of each class, (..., C) float64.

    NaN for a class that occurs nowhere, neither in the masks nor in the predictions.

    Args:
        confusion: (..., C, C) of `confusion_matrix`, added over pictures.
    """
    hits = confusion.diagonal(dim1=-2, dim2=-1).double()
    return hits / (confusion.sum(dim=-1) + confusion.sum(dim=-2) - hits)


def mean_iou(confusion: Tensor) -> float:
    """Return the mean of `class_iou` over the classes that occur; NaN if no pixel counts."""
    return class_iou(confusion).nanmean().item()


def pixel_accuracy(confusion: Tensor) -> float:
    """Return the share of the counted pixels whose class is right; NaN if no pixel counts."""
    return (confusion.diagonal().sum().double() / confusion.sum()).item()


def retrieval_precisions(similarities: Tensor, relevant: Tensor) -> tuple[Tensor, Tensor]:
    """Return average precision and average precision at R of one query.

    For each of the R relevant rows: the share of relevant ones among the rows that are at least as similar. Their
    mean is the average precision over the whole ranking; where rows beyond the first R count as 0, it is that at R
    (Musgrave et al. 2020, "A Metric Learning Reality Check"). Rows of equal similarity are counted together.

    Args:
        similarities: (N,) float, of the query to each row of the gallery, sorted or not.
        relevant: (N,) bool.

    Returns:
        Two float64 numbers in [0, 1]; NaN where no row is relevant.
    """
    own = similarities[relevant].sort().values
    # numpy sorts plain values on a CPU many times faster than torch, which sorts their places with them
    on_cpu = similarities.device.type == "cpu"
    ranked = torch.from_numpy(np.sort(similarities.numpy())) if on_cpu else similarities.sort().values
    at_least = len(ranked) - torch.searchsorted(ranked, own)  # rows of the gallery at least as similar, (R,)
    right = len(own) - torch.searchsorted(own, own)
    precision = right.double() / at_least
    return precision.mean(), precision.where(at_least <= len(own), 0).mean()


def recall_at(relevant: Tensor, k: int) -> Tensor:
    """Return for each query whether at least one of its k nearest rows is relevant, (Q,) float64.

    The mean is recall@k as metric learning reports it (Jegou et al. 2011; 1 for a query with one hit), not the share
    of all relevant rows that were found.

    Args:
        relevant: (Q, K) bool, nearest first, K at least k or the whole gallery.
        k: 1 or more.
    """
    return relevant[:, :k].any(dim=1).double()

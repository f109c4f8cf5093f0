"""Weighted k-nearest-neighbour classification of frozen features.

The protocol of Wu et al. 2018 ("Unsupervised Feature Learning via Non-Parametric Instance Discrimination") as DINO
uses it: cosine similarity, each of the k nearest train pictures votes for its class with the
weight exp(similarity / 0.07). Where pictures have several classes each, a neighbour votes for all of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.neighbours import QUERIES_AT_ONCE, nearest_rows
from synclr_hf.evaluation.scoring import score_predictions

if TYPE_CHECKING:
    from synclr_hf.evaluation.context import EvaluationContext, Outcome

NEIGHBOUR_COUNTS = (1, 5, 10, 20)
"""The numbers of neighbours k that are always reported."""
PRIMARY_K = 10
"""The k of the main number, fixed beforehand, not chosen on the test pictures."""
TEMPERATURE = 0.07
"""Divisor of the similarity in the vote's weight."""


@torch.inference_mode()
def knn_votes(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    *,
    ks: Sequence[int] = NEIGHBOUR_COUNTS,
    temperature: float = TEMPERATURE,
    chunk_size: int = QUERIES_AT_ONCE,
    num_classes: int | None = None,
    device: torch.device | None = None,
) -> dict[int, Tensor]:
    """Return the votes for each class of each test row, for several k at once.

    Args:
        train_features: (N, D) of any float type, any scale, also in a memory-mapped file; see `nearest_rows`.
        train_labels: (N,) int64; or (N, C) multi-hot, where negative or NaN counts as 0.
        test_features: (M, D).
        ks: numbers of neighbours; one larger than N takes all N.
        temperature: the vote of a neighbour weighs exp(similarity / temperature).
        chunk_size: test rows compared at once; changes memory only.
        num_classes: C; default: largest train label + 1.
        device: where to compute; default: where the test features are.

    Returns:
        For each k the votes, (M, C) float32 on the device. Those of one class a picture are divided by the largest
        weight of their row; multi-hot ones by all of them, so that they compare between rows: shares in [0, 1].

    Raises:
        UserInputError: there are no train rows, or a feature is not finite.
    """
    found = nearest_rows(
        test_features,
        train_features,
        max(ks),
        device=device or test_features.device,
        queries_at_once=chunk_size,
    )
    return {k: _votes(*found, train_labels, k, temperature, num_classes) for k in ks}


def _votes(
    similarity: Tensor, nearest: Tensor, train_labels: Tensor, k: int, temperature: float, num_classes: int | None
) -> Tensor:
    """Return the votes of the first k of the neighbours, (M, K) each, best first; see `knn_votes`."""
    # exp((s - s_max) / T) instead of exp(s / T): a common factor a row, no overflow at small temperatures
    weights = ((similarity[:, :k] - similarity[:, :1]) / temperature).exp()
    train_labels, nearest = train_labels.to(nearest.device), nearest[:, :k]
    if train_labels.dim() == 1:
        num_classes = int(train_labels.max()) + 1 if num_classes is None else num_classes
        return weights.new_zeros(len(weights), num_classes).scatter_add_(1, train_labels[nearest], weights)
    labels = train_labels.float().nan_to_num(0).clamp(min=0)
    shares = weights / weights.sum(dim=1, keepdim=True)
    votes = weights.new_zeros(len(weights), labels.shape[1])
    for column, rows in zip(shares.T, nearest.T, strict=True):  # a neighbour after the other: (M, C) at once
        votes += column[:, None] * labels[rows]
    return votes


def knn_predictions(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    *,
    ks: Sequence[int] = NEIGHBOUR_COUNTS,
    temperature: float = TEMPERATURE,
    chunk_size: int = QUERIES_AT_ONCE,
) -> dict[int, Tensor]:
    """Return for each k the predicted classes, (M,) int64; among equal votes the smallest class number wins.

    Args:
        train_features: (N, D).
        train_labels: (N,) int64.
        test_features: (M, D).
        ks: numbers of neighbours.
        temperature: see `knn_votes`.
        chunk_size: test rows compared at once; changes memory only.
    """
    found = knn_votes(
        train_features, train_labels, test_features, ks=ks, temperature=temperature, chunk_size=chunk_size
    )
    return {k: votes.argmax(dim=1) for k, votes in found.items()}


def knn(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    ks: Sequence[int] = NEIGHBOUR_COUNTS,
    temperature: float = TEMPERATURE,
) -> dict[int, float]:
    """Return the top-1 accuracy for each k as a fraction; `PRIMARY_K` is the main one.

    Args:
        train_features: (N, D).
        train_labels: (N,) int64.
        test_features: (M, D).
        test_labels: (M,) int64.
        ks: numbers of neighbours.
        temperature: see `knn_predictions`.
    """
    predictions = knn_predictions(train_features, train_labels, test_features, ks=ks, temperature=temperature)
    return {k: (predicted == test_labels).double().mean().item() for k, predicted in predictions.items()}


@dataclass(frozen=True)
class Config:
    """Settings of kNN.

    Attributes:
        neighbour_counts: the k that are reported; the main one is `PRIMARY_K`, which is added where it is missing.
        temperature: the vote of a neighbour weighs exp(similarity / temperature).
    """

    neighbour_counts: tuple[int, ...] = NEIGHBOUR_COUNTS
    temperature: float = TEMPERATURE


def evaluate(context: EvaluationContext, config: Config) -> Outcome:
    """Classify the test pictures by the votes of their nearest train pictures.

    `details["unseen_labels"]` counts the test pictures whose class has no train picture: nobody votes for them.

    Raises:
        UserInputError: a setting that cannot be, an empty side, or features that are not finite.
    """
    from synclr_hf.evaluation.context import Outcome  # the votes alone do without transformers

    ks = sorted({*config.neighbour_counts, PRIMARY_K})
    if ks[0] < 1:
        raise UserInputError(
            f"knn.neighbour_counts has {ks[0]}; allowed: 1 or more; type knn.neighbour_counts=1,10,20"
        )
    if not config.temperature > 0:
        raise UserInputError(f"knn.temperature is {config.temperature}; allowed: above 0; type knn.temperature=0.07")
    train, test = context.table("train"), context.table("test")
    model = context.encoder.model
    found = nearest_rows(
        test.features, train.features, ks[-1], device=test.features.device if model is None else model.device
    )
    num_classes = len(train.label_names)  # a class without a train picture has a column, too
    scored = {
        k: score_predictions(
            _votes(*found, train.labels, k, config.temperature, num_classes),  # one k after the other: (M, C) each
            test.labels,
            metric=context.data.metric,
            seed=seed_for(context.seed, "knn", k),
            groups=test.groups.numpy(),
        )
        for k in ks
    }
    main = scored[PRIMARY_K]
    by_k = {f"{main.primary}_k{k}": one.metrics[main.primary] for k, one in scored.items()}
    details = dict(main.details)
    if test.labels.dim() == 1:
        details["unseen_labels"] = int((~torch.isin(test.labels, train.labels)).sum())
    return Outcome(
        primary=main.primary,
        metrics={**main.metrics, **by_k},
        intervals=main.intervals,
        config={"neighbour_counts": ks, "primary_k": PRIMARY_K, "temperature": config.temperature},
        details=details,
    )

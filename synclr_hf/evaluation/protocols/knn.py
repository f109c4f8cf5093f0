"""Weighted k-nearest-neighbour classification of frozen features.

The protocol of Wu et al. 2018 ("Unsupervised Feature Learning via Non-Parametric Instance Discrimination") as DINO
uses it: cosine similarity, each of the k nearest train pictures votes for its class with the
weight exp(similarity / 0.07).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synclr_hf.data.seeds import seed_for
from synclr_hf.evaluation.context import EvaluationContext, Outcome
from synclr_hf.evaluation.scoring import score_predictions

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
    chunk_size: int = 1024,
) -> dict[int, Tensor]:
    """Return the votes for each class of each test row, for several k at once.

    Args:
        train_features: (N, D), any scale; rows are L2-normalised here.
        train_labels: (N,) int64.
        test_features: (M, D).
        ks: numbers of neighbours; one larger than N takes all N.
        temperature: the vote of a neighbour weighs exp(similarity / temperature).
        chunk_size: test rows compared at once; changes memory only.

    Returns:
        For each k the votes, (M, C) float32, C = largest train label + 1.
    """
    gallery = F.normalize(train_features.float(), dim=1)
    num_classes = int(train_labels.max()) + 1
    num_neighbours = min(max(ks), len(gallery))
    found: dict[int, list[Tensor]] = {k: [] for k in ks}
    for chunk in F.normalize(test_features.float(), dim=1).split(chunk_size):
        similarity, nearest = (chunk @ gallery.T).topk(num_neighbours, dim=1)  # (B, k) each, best first
        # exp((s - s_max) / T) instead of exp(s / T): a common factor a row, no overflow at small temperatures
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        labels = train_labels[nearest]
        for k in ks:
            votes = weights.new_zeros(len(chunk), num_classes)
            votes.scatter_add_(1, labels[:, :k], weights[:, :k])
            found[k].append(votes)
    return {k: torch.cat(parts) for k, parts in found.items()}


def knn_predictions(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    *,
    ks: Sequence[int] = NEIGHBOUR_COUNTS,
    temperature: float = TEMPERATURE,
    chunk_size: int = 1024,
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
    """Classify the test pictures by the votes of their nearest train pictures."""
    train, test = context.table("train"), context.table("test")
    ks = sorted({*config.neighbour_counts, PRIMARY_K})
    votes = knn_votes(train.features, train.labels, test.features, ks=ks, temperature=config.temperature)
    scored = {
        k: score_predictions(
            votes[k],
            test.labels,
            metric=context.data.metric,
            seed=seed_for(context.seed, "knn", k),
            groups=test.groups.numpy(),
        )
        for k in ks
    }
    main = scored[PRIMARY_K]
    by_k = {f"{main.primary}_k{k}": one.metrics[main.primary] for k, one in scored.items()}
    return Outcome(
        primary=main.primary,
        metrics={**main.metrics, **by_k},
        intervals=main.intervals,
        config={"neighbour_counts": ks, "primary_k": PRIMARY_K, "temperature": config.temperature},
        details=main.details,
    )

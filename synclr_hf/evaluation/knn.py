"""Weighted k-nearest-neighbour classification of frozen features.

The protocol of Wu et al. 2018 ("Unsupervised Feature Learning via Non-Parametric Instance Discrimination") as DINO
uses it: cosine similarity, each of the k nearest train pictures votes for its class with the
weight exp(similarity / 0.07).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOUR_COUNTS = (1, 5, 10, 20)
"""The numbers of neighbours k that are always reported."""
PRIMARY_K = 10
"""The k of the main number, fixed beforehand, not chosen on the test pictures."""
TEMPERATURE = 0.07
"""Divisor of the similarity in the vote's weight."""


@torch.inference_mode()
def knn_predictions(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    *,
    ks: Sequence[int] = NEIGHBOUR_COUNTS,
    temperature: float = TEMPERATURE,
    chunk_size: int = 1024,
) -> dict[int, Tensor]:
    """Predict the class of each test row for several k at once.

    Args:
        train_features: (N, D), any scale; rows are L2-normalised here.
        train_labels: (N,) int64.
        test_features: (M, D).
        ks: numbers of neighbours; one larger than N takes all N.
        temperature: the vote of a neighbour weighs exp(similarity / temperature).
        chunk_size: test rows compared at once; changes memory only.

    Returns:
        For each k the predicted classes, (M,) int64; among equal votes the smallest class number wins.
    """
    gallery = F.normalize(train_features.float(), dim=1)
    num_classes = int(train_labels.max()) + 1
    num_neighbours = min(max(ks), len(gallery))
    predictions: dict[int, list[Tensor]] = {k: [] for k in ks}
    for chunk in F.normalize(test_features.float(), dim=1).split(chunk_size):
        similarity, nearest = (chunk @ gallery.T).topk(num_neighbours, dim=1)  # (B, k) each, best first
        # exp((s - s_max) / T) instead of exp(s / T): a common factor a row, no overflow at small temperatures
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        labels = train_labels[nearest]
        for k in ks:
            votes = weights.new_zeros(len(chunk), num_classes)
            votes.scatter_add_(1, labels[:, :k], weights[:, :k])
            predictions[k].append(votes.argmax(dim=1))
    return {k: torch.cat(parts) for k, parts in predictions.items()}


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

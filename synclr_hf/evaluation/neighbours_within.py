"""The pictures of a set that lie nearest to some of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from synclr_hf.evaluation.protocols.retrieval import nearest_neighbours


@torch.inference_mode()
def neighbours_within(features: Tensor, queries: Sequence[int], *, count: int) -> tuple[Tensor, Tensor]:
    """Return the rows most similar to each query row, the query itself left out, best first.

    Another picture with the same feature, such as a copy, is a neighbour like any other.

    Args:
        features: (N, D), any scale.
        queries: rows of the queries, Q of them.
        count: neighbours a query; at most N - 1 are returned.

    Returns:
        Row numbers, (Q, count) int64, and cosine similarities in [-1, 1], (Q, count) float32.
    """
    own = torch.as_tensor(queries, dtype=torch.long)[:, None]
    rows, values = nearest_neighbours(features[own[:, 0]], features, count=min(count + 1, len(features)))
    is_own = rows == own
    is_own[:, -1] |= ~is_own.any(dim=1)  # more copies than places: the query is not among them, the last one goes
    shape = (len(own), rows.shape[1] - 1)
    return rows[~is_own].reshape(shape), values[~is_own].reshape(shape)

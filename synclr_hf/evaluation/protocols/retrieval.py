"""Nearest neighbours of pictures in feature space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.inference_mode()
def nearest_neighbours(queries: Tensor, gallery: Tensor, *, count: int = 6) -> tuple[Tensor, Tensor]:
    """Return the most similar gallery rows of each query, best first.

    Args:
        queries: (Q, D), any scale.
        gallery: (N, D); give one without the queries themselves.
        count: neighbours a query; at most N are returned.

    Returns:
        Row numbers in the gallery, (Q, count) int64, and cosine similarities in [-1, 1], (Q, count) float32.
    """
    similarity = F.normalize(queries.float(), dim=1) @ F.normalize(gallery.float(), dim=1).T
    values, rows = similarity.topk(min(count, len(gallery)), dim=1)
    return rows, values

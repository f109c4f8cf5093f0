"""Retrieval: each test picture asks for the train pictures of its class, ranked by cosine similarity.

The paper has no such table; this is the protocol of instance and category retrieval: a query is right about a picture
of the gallery that has its class (one of its classes, where pictures have several). Nothing is trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from synclr_hf.data.progress import Progress
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, Outcome
from synclr_hf.evaluation.intervals import NUM_RESAMPLES, bootstrap_interval
from synclr_hf.evaluation.measures import recall_at, retrieval_precisions
from synclr_hf.evaluation.neighbours import first_largest, nearest_rows, whole_similarities


@dataclass(frozen=True)
class Config:
    """Settings of retrieval.

    Attributes:
        recall_at: numbers of nearest pictures k of which at least one has to be right for recall@k.
    """

    recall_at: tuple[int, ...] = (1, 5, 10)


def evaluate(context: EvaluationContext, config: Config) -> Outcome:
    """Rank all train pictures for each test picture.

    Metrics: `map`, the mean over the queries of the average precision over the whole ranking; `map_at_r`, the same
    over the first R pictures, R being how many are right; `recall_at_k`, the share of the queries with at least one
    right picture among the k nearest. Queries without a right picture in the gallery count nowhere;
    `details["queries_without_match"]` says how many there are.

    Raises:
        UserInputError: a setting that cannot be, an empty side, features that are not finite, or no query has a match.
    """
    ks = sorted(set(config.recall_at))
    if not ks or ks[0] < 1:
        raise UserInputError(
            f"retrieval.recall_at is {list(config.recall_at)}; allowed: numbers of 1 or more; type "
            "retrieval.recall_at=1,5,10"
        )
    train, test = context.table("train"), context.table("test")
    model = context.encoder.model
    device = test.features.device if model is None else model.device
    found = ranked(test.features, test.labels, train.features, train.labels, ks, device=device)
    matched = ~found["map"].isnan().numpy()
    if not matched.any():
        raise UserInputError(
            f"none of the {len(test)} test pictures has the class of a train picture: there is nothing to retrieve; "
            "give a data set whose two sides share classes"
        )
    seed = seed_for(context.seed, "retrieval")
    interval = bootstrap_interval(found["map"].numpy()[matched], test.groups.numpy()[matched], seed=seed)
    return Outcome(
        primary="map",
        metrics={name: values.numpy()[matched].mean().item() for name, values in found.items()},
        intervals={"map": interval},
        config={"recall_at": ks, "queries": "test", "gallery": "train"},
        details={
            "queries_without_match": int((~matched).sum()),
            "gallery_size": len(train),
            "bootstrap_resamples": NUM_RESAMPLES,
        },
    )


@torch.inference_mode()
def ranked(
    queries: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    ks: list[int],
    *,
    device: torch.device | None = None,
) -> dict[str, Tensor]:
    """Return for each query how well the gallery is ranked, in memory that grows with the gallery by the row only.

    Args:
        queries: (Q, D) float, any scale.
        query_labels: (Q,) int64, or (Q, C) multi-hot, where negative or NaN counts as 0.
        gallery: (N, D) float, also in a memory-mapped file.
        gallery_labels: (N,) or (N, C) alike.
        ks: each 1 or more.
        device: where to compute; default: where the queries are.

    Returns:
        `map`, `map_at_r` and `recall_at_k` for each k: (Q,) float64 on the CPU, see `evaluate`; the first two are NaN
        for a query without a match.
    """
    device = device or queries.device
    query_labels, gallery_labels = query_labels.to(device), gallery_labels.to(device)
    names = ["map", "map_at_r", *(f"recall_at_{k}" for k in ks)]
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    with Progress("retrieval", total=len(queries), unit="query") as bar:
        for start, similarity in whole_similarities(queries, gallery, device=device):
            labels = query_labels[start : start + len(similarity)]
            nearest = first_largest(similarity, min(max(ks), len(gallery)))[1]
            for one, label, rows in zip(similarity, labels, nearest, strict=True):
                relevant = _share_a_class(label, gallery_labels)  # (N,)
                hits = relevant[rows][None]
                numbers = [*retrieval_precisions(one, relevant), *(recall_at(hits, k)[0] for k in ks)]
                for name, number in zip(names, numbers, strict=True):
                    parts[name].append(number)
                bar.update()
    return {name: torch.stack(values).double().cpu() for name, values in parts.items()}


def _share_a_class(label: Tensor, labels: Tensor) -> Tensor:
    """Return which rows have the class, or one of the classes, of a query, (N,) bool."""
    return labels == label if labels.dim() == 1 else (labels[:, label > 0] > 0).any(dim=1)


def nearest_neighbours(queries: Tensor, gallery: Tensor, *, count: int = 6) -> tuple[Tensor, Tensor]:
    """Return the most similar gallery rows of each query, best first.

    Args:
        queries: (Q, D), any scale.
        gallery: (N, D); give one without the queries themselves.
        count: neighbours a query; at most N are returned.

    Returns:
        Row numbers in the gallery, (Q, count) int64, and cosine similarities in [-1, 1], (Q, count) float32.
    """
    values, rows = nearest_rows(queries, gallery, count)
    return rows, values

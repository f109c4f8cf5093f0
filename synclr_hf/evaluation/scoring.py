"""From predicted scores to the number of a benchmark, with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from synclr_hf.evaluation.intervals import bootstrap_interval


@dataclass(frozen=True)
class Scored:
    """How good predictions are.

    Attributes:
        primary: name of the metric of the benchmark among `metrics`.
        metrics: name -> fraction in [0, 1].
        intervals: name -> (low, high), 95 % bootstrap over the test pictures, groups kept whole.
        details: plain values: scores a class.
    """

    primary: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    details: Mapping[str, Any]


def score_predictions(
    scores: Tensor, labels: Tensor, *, metric: str, seed: int, groups: np.ndarray | None = None
) -> Scored:
    """Score predictions by the metric of a benchmark.

    Args:
        scores: (M, C) float, larger where a class is likelier (logits, votes, probabilities).
        labels: (M,) int64, or (M, C) multi-hot for `map_11point`.
        metric: `accuracy`, `mean_per_class_accuracy` or `map_11point`; see `EvaluationData`.
        seed: of the bootstrap.
        groups: (M,) ids of pictures that are drawn together; default: every picture alone.
    """
    right = (scores.argmax(dim=1) == labels).cpu().numpy()
    interval = bootstrap_interval(right, groups, seed=seed)
    return Scored("accuracy", {"accuracy": float(right.mean())}, {"accuracy": interval}, {})

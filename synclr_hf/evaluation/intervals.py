"""How sure an accuracy is: bootstrap intervals over the test pictures, t intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synclr_hf.data.seeds import seed_for

_DRAWS_AT_ONCE = 50


def bootstrap_interval(
    correct: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    seed: int,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the share of right answers.

    Whole groups are drawn with replacement, because pictures of one caption are alike and count for less than as many
    independent pictures. The interval covers the choice of test pictures, not the randomness of training.

    Args:
        correct: (N,) bool, whether each test picture was classified rightly.
        groups: (N,) ids of what is drawn together; default: every picture alone.
        seed: equal seeds give equal intervals.
        num_resamples: number of bootstrap samples.
        confidence: share of the samples inside the interval.
    """
    groups = np.arange(len(correct)) if groups is None else groups
    _, group_of_row = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group_of_row).astype(np.float64)
    right = np.bincount(group_of_row, weights=correct.astype(np.float64))
    generator = np.random.default_rng(seed_for(seed, "bootstrap"))
    accuracies = []
    for start in range(0, num_resamples, _DRAWS_AT_ONCE):
        shape = (min(_DRAWS_AT_ONCE, num_resamples - start), len(sizes))
        drawn = generator.integers(len(sizes), size=shape)
        accuracies.append(right[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(accuracies), [tail, 1 - tail])
    return float(low), float(high)


T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t for 1 to 9 degrees of freedom."""


def seed_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % t interval of the mean over runs that differ in their seed; `None` for a single run.

    Args:
        values: one number a run, or one difference a pair of runs with the same seed; 2 to 10 of them.
    """
    if len(values) < 2:
        return None
    half = T_975[len(values) - 2] * float(np.std(values, ddof=1)) / len(values) ** 0.5
    mean = float(np.mean(values))
    return mean - half, mean + half

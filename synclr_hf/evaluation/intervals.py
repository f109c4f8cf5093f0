"""How sure an accuracy is: bootstrap intervals over the test pictures."""

from __future__ import annotations

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
